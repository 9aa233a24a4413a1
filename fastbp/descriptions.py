"""What the objects in fastbp's tables have in common: small descriptions, equal by their settings.

A description stores its constructor's arguments untouched, as scikit-learn's estimators do, so that
it clones, pickles and has parameters which a search can vary.  What it describes is the subclass's
business.
"""

from sklearn.base import BaseEstimator


class Description(BaseEstimator):
    """Base of `Activation` and `Loss`: named after its formula, equal by type and parameters."""

    @property
    def name(self) -> str:
        """Name of the formula, as users write it for the rows of the tables."""
        return getattr(self.value, "__name__", repr(self.value))

    def __eq__(self, other):
        if type(self) is not type(other):
            return NotImplemented
        return self.get_params(deep=False) == other.get_params(deep=False)

    def __hash__(self):
        return hash((type(self), *self.get_params(deep=False).values()))
