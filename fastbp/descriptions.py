"""What the objects in fastbp's tables have in common: small descriptions, equal by their settings.

A description stores its constructor's arguments untouched, as scikit-learn's estimators do, so that
it clones, pickles and has parameters which a search can vary.  What it describes is the subclass's
business; what its settings may be stands in the subclass's `_rules` and is checked before training.
"""

import inspect
import sys
from functools import partial
from numbers import Integral, Real
from types import BuiltinFunctionType, FunctionType

import numpy as np
from sklearn.base import BaseEstimator

from fastbp.messages import find_name

LARGEST = sys.float_info.max  # Python's integers go on; the engines' numbers do not
# Modules with the tables: users' names of what fastbp offers, and of the formulas behind it.
TABLES = ("fastbp.activations", "fastbp.losses", "fastbp.optimizers", "fastbp.schedules")


class InvalidParameterError(ValueError, TypeError):
    """A parameter has a value or a type that is not allowed (as in scikit-learn)."""


def plain(value):
    """Return a number or a text of NumPy, or another library, as the Python object it stands for.

    What a list or a description holds is made plain in a copy; anything else comes back as it is.
    """
    if type(value) in (int, float, bool, str, type(None)):
        return value
    if isinstance(value, np.bool_ | bool):
        return bool(value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, list | tuple):
        found = [plain(entry) for entry in value]
        if all(new is old for new, old in zip(found, value, strict=True)):
            return value
        return tuple(found) if isinstance(value, tuple) else found
    if isinstance(value, Description):
        given = vars(value)
        found = {name: plain(setting) for name, setting in given.items()}
        if any(found[name] is not given[name] for name in given):
            value = object.__new__(type(value))
            vars(value).update(found)
    return value


def number_of(value):
    """Float of what a user's function returned; NaN where that is no number.

    An array without dimensions is one, an array of one element or a text is none.
    """
    value = value[()] if isinstance(value, np.ndarray) and value.ndim == 0 else value
    try:
        return float(value) if isinstance(value, Real) else np.nan
    except OverflowError:  # an int beyond all floats
        return np.inf if value > 0 else -np.inf


def number_rule(kind, left, low, high, right):
    """Rule (test, text): a number of `kind` from `low` to `high`; "[" and "]" include the end."""

    def accepts(value):
        if not isinstance(value, kind) or isinstance(value, bool | np.timedelta64):
            return False
        value = plain(value)  # float16 does not know LARGEST
        return (
            value <= LARGEST
            and (value >= low if left == "[" else value > low)
            and (value <= high if right == "]" else value < high)
        )

    noun = "an int" if kind is Integral else "a float"
    return accepts, f"{noun} in the range {left}{low}, {high}{right}"


class NameTest:
    """Test of a rule: one of some names; it knows which one a wrong name probably means."""

    def __init__(self, names, other_words):
        self.names, self.other_words = frozenset(names), other_words

    def __call__(self, value):
        """Whether the value is one of the names."""
        return isinstance(value, str) and value in self.names

    def find(self, value):
        """Find the name that a value probably means, or None."""
        return find_name(value, self.names, self.other_words)


def name_rule(*names, other_words=None):
    """Rule (test, text): one of these names, which `other_words` (a dict) may call otherwise."""
    listed = ", ".join(repr(name) for name in sorted(names))
    return NameTest(names, other_words), f"a str among {{{listed}}}"


def instance_rule(*types):
    """Rule (test, text): an instance of one of the types."""
    nouns = " or ".join(f"an instance of '{kind.__module__}.{kind.__qualname__}'" for kind in types)
    return lambda value: isinstance(value, types), nouns.replace("builtins.", "")


def same_rule(constant):
    """Rule (test, text): this constant."""

    def accepts(value):
        return value is constant or (isinstance(value, Real) and value == constant)

    return accepts, repr(constant)


BOOLEAN = instance_rule(bool, np.bool_)
NONE = same_rule(None)


def is_function(value):
    """Whether a value is called like a function, and is neither a class nor a coroutine."""
    return callable(value) and not isinstance(value, type) and not is_coroutine(value)


def is_coroutine(value):
    """Whether a value gives, when it is called, something to await or to iterate over."""
    asks = (inspect.iscoroutinefunction, inspect.isasyncgenfunction)
    called = getattr(value, "__call__", None)  # noqa: B004 - of an object
    return any(ask(value) or ask(called) for ask in asks)


def is_formula(value):
    """Whether a value is a function that can be compiled: Numba needs its code, or knows it.

    A function of Python's, jitted or not, a `partial` of one that binds keywords, or a function of
    `math` or NumPy.
    """
    while isinstance(value, partial) and not value.args:
        value = value.func
    value = getattr(value, "py_func", value)
    if isinstance(value, BuiltinFunctionType):
        return value.__module__ in ("math", "builtins")
    return isinstance(value, FunctionType | np.ufunc) and not is_coroutine(value)


def formula_rule(text):
    """Rule (test, text): a function that can be compiled."""
    return is_formula, text


def name_of(value):
    """Name of a function, of the one inside a `partial`, or of a description."""
    while isinstance(value, partial):
        value = value.func
    for name in ("name", "__name__"):
        found = getattr(value, name, None)
        if isinstance(found, str):
            return found
    return repr(value)


def is_own(thing):
    """Whether a class or formula is fastbp's own: in a module of the tables, under its name."""
    module, name = getattr(thing, "__module__", None), getattr(thing, "__name__", "_")
    if module not in TABLES or name.startswith("_"):
        return False
    return vars(sys.modules[module]).get(name) is thing


def is_allowed(value, rules):
    """Whether one of the rules accepts a value."""
    for accepts, _ in rules:  # noqa: SIM110 - any() of a generator takes twice the time
        if accepts(value):
            return True
    return False


def refusal(described, value, rules, hint=None):
    """Make the error for a value that no rule accepts.

    Parameters
    ----------
    described : str
        The parameter and whose it is.
    value : object
    rules : tuple of (callable, str)
        Tests of the value, and what each allows in words.
    hint : str or None, default=None
        What was probably meant, in a sentence; None looks among the names that are allowed.

    Returns
    -------
    InvalidParameterError
        Names the parameter, what is allowed, what came and what was probably meant.
    """
    wanted = [text for _, text in rules]
    wanted = " or ".join(filter(None, [", ".join(wanted[:-1]), wanted[-1]]))
    hint = hint or _suggest(value, rules)
    message = f"The {described} must be {wanted}. Got {value!r} instead."
    return InvalidParameterError(f"{message} {hint}" if hint else message)


def _suggest(value, rules):
    """Say what a value probably means, or the entry of a list that is to blame; or nothing ("")."""
    if isinstance(value, list | tuple):
        wrong = (entry for entry in value if not is_allowed(entry, rules))
        return next(filter(None, (_suggest(entry, rules) for entry in wrong)), "")
    if isinstance(value, type) and issubclass(value, Description):
        return f"Did you mean an object of that class, {value.__name__}()?"
    if is_coroutine(value):
        return "An async function only gives something to await: write it with a plain def."
    for test, _ in rules:
        meaning = test.find(value) if isinstance(test, NameTest) else None
        if meaning is not None:
            return f"Did you mean {meaning!r}?"
        if test is is_formula and callable(value):
            return (
                f"Something of type {type(value).__name__} cannot be compiled: write a plain "
                "function (def or lambda; or a partial of one, with keywords) of numbers."
            )
    return ""


class Description(BaseEstimator):
    """Base of what stands in fastbp's tables: equal by type and parameters."""

    # rules of each setting that has any, as `is_allowed` takes them
    _rules: dict = {}

    @property
    def name(self) -> str:
        """Name of the formula, as users write it for the entries of the tables."""
        return name_of(self.value)

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
