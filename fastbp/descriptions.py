"""What the objects in fastbp's tables have in common: small descriptions, equal by their settings.

A description stores its constructor's arguments untouched, as scikit-learn's estimators do, so that
it clones, pickles and has parameters which a search can vary.  What it describes is the subclass's
business.
"""

from sklearn.base import BaseEstimator


class Description(BaseEstimator):
    """Base of `Activation` and `Loss`: named after its formula, equal by type and parameters."""

    @property
    def name(self):
        """Name of the formula, as users write it for the rows of the tables."""
        return getattr(self.value, "__name__", repr(self.value))

    def __eq__(self, other):
        if type(self) is not type(other):
            return NotImplemented
        return self.get_params(deep=False) == other.get_params(deep=False)

    def __hash__(self):
        return hash((type(self), *self.get_params(deep=False).values()))

    def __repr__(self, N_CHAR_MAX=None):
        """Show the formula's name and the settings that are not the default."""
        defaults = type(self)(None).get_params(deep=False)
        parts = [self.name]
        for name, value in self.get_params(deep=False).items():
            if name != "value" and value != defaults[name]:
                shown = getattr(value, "__name__", None) or repr(value)
                parts.append(f"{name}={shown}")
        return f"{type(self).__name__}({', '.join(parts)})"
