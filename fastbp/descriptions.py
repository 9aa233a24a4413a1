"""What the objects in fastbp's tables have in common: small descriptions, equal by their settings.

A description stores its constructor's arguments untouched, as scikit-learn's estimators do, so that
it clones, pickles and has parameters which a search can vary.  What it describes is the subclass's
business; what its settings may be stands in the subclass's `_rules` and is checked before training.
"""

import sys
from numbers import Integral

import numpy as np
from sklearn.base import BaseEstimator

LARGEST = sys.float_info.max  # Python's integers go on; the engines' numbers do not


class InvalidParameterError(ValueError, TypeError):
    """A parameter has a value or a type that is not allowed (as in scikit-learn)."""


def number_rule(kind, left, low, high, right):
    """Rule (test, text): a number of `kind` from `low` to `high`; "[" and "]" include the end."""

    def accepts(value):
        return (
            isinstance(value, kind)
            and not isinstance(value, bool)
            and value <= LARGEST
            and (value >= low if left == "[" else value > low)
            and (value <= high if right == "]" else value < high)
        )

    noun = "an int" if kind is Integral else "a float"
    return accepts, f"{noun} in the range {left}{low}, {high}{right}"


def instance_rule(*types):
    """Rule (test, text): an instance of one of the types."""
    nouns = " or ".join(f"an instance of '{kind.__module__}.{kind.__qualname__}'" for kind in types)
    return lambda value: isinstance(value, types), nouns.replace("builtins.", "")


BOOLEAN = instance_rule(bool, np.bool_)


def is_allowed(value, rules):
    """Whether one of the rules accepts a value."""
    for accepts, _ in rules:  # noqa: SIM110 - any() of a generator takes twice the time
        if accepts(value):
            return True
    return False


def refusal(described, value, rules):
    """Make the error for a value that no rule accepts.

    Parameters
    ----------
    described : str
        The parameter and whose it is.
    value : object
    rules : tuple of (callable, str)
        Tests of the value, and what each allows in words.

    Returns
    -------
    InvalidParameterError
        Names the parameter, what is allowed and what came.
    """
    wanted = [text for _, text in rules]
    wanted = " or ".join(filter(None, [", ".join(wanted[:-1]), wanted[-1]]))
    return InvalidParameterError(f"The {described} must be {wanted}. Got {value!r} instead.")


class Description(BaseEstimator):
    """Base of what stands in fastbp's tables: equal by type and parameters."""

    # rules of each setting that has any, as `is_allowed` takes them
    _rules: dict = {}

    @property
    def name(self) -> str:
        """Name of the formula, as users write it for the rows of the tables."""
        return getattr(self.value, "__name__", repr(self.value))

    def check(self, parameter: str) -> None:
        """Raise if a setting is not allowed.

        Parameters
        ----------
        parameter : str
            The estimator's parameter that holds this object, for the message.

        Raises
        ------
        InvalidParameterError
            Names the setting as a search does (``loss__delta``), what is allowed and what came.
        """
        for setting, rules in self._rules.items():
            value = getattr(self, setting)
            if not is_allowed(value, rules):
                whose = f"{setting} of {type(self).__name__}"
                raise refusal(f"'{parameter}__{setting}' parameter ({whose})", value, rules)

    def __eq__(self, other):
        if type(self) is not type(other):
            return NotImplemented
        return self._settings() == other._settings()

    def __hash__(self):
        return hash((type(self), *self._settings()))

    def _settings(self):
        return tuple(map(_frozen, self.get_params(deep=False).values()))


def _frozen(value):
    """Return lists and arrays as tuples, so that settings compare and hash."""
    value = value.tolist() if hasattr(value, "tolist") else value
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value
