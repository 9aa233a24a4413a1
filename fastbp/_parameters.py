"""Constructor parameters: what each may be, in one table, and the check of all of them.

Names of activations, losses, solvers, schedules and engines are read from their own tables.  The
check runs before any work, in `fit` and `partial_fit`; its wording is scikit-learn's.
"""

from numbers import Integral, Real
from types import SimpleNamespace

import numpy as np

from fastbp.activations import ACTIVATIONS, Activation
from fastbp.engine import ENGINE_NAMES
from fastbp.losses import CLASSIFICATION_LOSSES, REGRESSION_LOSSES, Loss
from fastbp.optimizers import OPTIMIZERS
from fastbp.schedules import SCHEDULES


class InvalidParameterError(ValueError, TypeError):
    """A constructor parameter has a value or a type that is not allowed (as in scikit-learn)."""


LARGEST = float(np.finfo(np.float64).max)  # Python's integers go on; the engines' numbers do not


def _one_of(*names):
    listed = ", ".join(repr(name) for name in sorted(names))
    return lambda value: isinstance(value, str) and value in names, f"a str among {{{listed}}}"


def _number(kind, left, low, high, right):
    """Rule for a number of `kind` from `low` to `high`; "[" and "]" include the end."""

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


def _same(constant):
    def accepts(value):
        return value is constant or (isinstance(value, Real) and value == constant)

    return accepts, repr(constant)


def _instance_of(*types):
    nouns = " or ".join(f"an instance of '{kind.__module__}.{kind.__qualname__}'" for kind in types)
    return lambda value: isinstance(value, types), nouns.replace("builtins.", "")


def _activation_rule(value):
    """Whether a value is a name, a function or a description of an activation."""
    if isinstance(value, str):
        return value in ACTIVATIONS
    return callable(value) or isinstance(value, Activation)


def _activations_rule(value):
    return isinstance(value, list | tuple) and all(map(_activation_rule, value))


def _loss_rules(names):
    """Rules for a loss: a name, or something of the user's own."""
    return _one_of(*names), (callable, "a function of y_true and raw"), _instance_of(Loss)


def _list_of(rule):
    accepts, text = rule
    return lambda value: isinstance(value, list | tuple) and all(map(accepts, value)), (
        f"a list of them, each {text}"
    )


_INF = float("inf")
_NONE = _same(None)
_BOOLEAN = _instance_of(bool, np.bool_)
_COUNT = _number(Integral, "[", 1, _INF, ")")
_PROBABILITY = _number(Real, "[", 0.0, 1.0, ")")
_RANDOM_STATE = (_number(Integral, "[", 0, 2**32 - 1, "]"), _instance_of(np.random.RandomState))


def _layer_sizes_rule(value):
    try:
        hidden_sizes(value)
    except ValueError:
        return False
    return True


_SHARED_PARAMETERS = {
    "hidden_layer_sizes": ((_layer_sizes_rule, "an int >= 1 or an array-like of ints >= 1"),),
    "activation": (
        _one_of(*ACTIVATIONS),
        (callable, "a function of z"),
        _instance_of(Activation),
        (_activations_rule, "a list of these"),
    ),
    "solver": (_one_of(*OPTIMIZERS),),
    "alpha": (_number(Real, "[", 0.0, _INF, ")"),),
    "batch_size": (_one_of("auto"), _COUNT),
    "learning_rate": (_one_of(*SCHEDULES),),
    "learning_rate_init": (_number(Real, "(", 0.0, _INF, ")"),),
    "power_t": (_number(Real, "[", 0.0, _INF, ")"),),
    "max_iter": (_COUNT,),
    "shuffle": (_BOOLEAN,),
    "random_state": (*_RANDOM_STATE, _NONE),
    "tol": (_number(Real, "[", 0.0, _INF, ")"),),
    "verbose": (_BOOLEAN, _number(Integral, "[", 0, _INF, ")")),
    "warm_start": (_BOOLEAN,),
    "momentum": (_number(Real, "[", 0.0, 1.0, "]"),),
    "nesterovs_momentum": (_BOOLEAN,),
    "early_stopping": (_BOOLEAN,),
    "validation_fraction": (_number(Real, "[", 0.0, 1.0, ")"),),
    "beta_1": (_number(Real, "[", 0.0, 1.0, ")"),),
    "beta_2": (_number(Real, "[", 0.0, 1.0, ")"),),
    "epsilon": (_number(Real, "(", 0.0, _INF, ")"),),
    "n_iter_no_change": (_COUNT, _same(_INF)),
    "max_fun": (_COUNT,),
    "dtype": (_one_of("float32", "float64"), _NONE),
    "n_threads": (_COUNT, _same(-1), _NONE),
    "engine": (_one_of(*ENGINE_NAMES),),
    "init": (_one_of("auto", "he", "glorot", "lecun"),),
    "dropout": (_PROBABILITY, _list_of(_PROBABILITY)),
    "max_grad_norm": (_number(Real, "(", 0.0, _INF, ")"), _NONE),
    "ema_decay": (_number(Real, "(", 0.0, 1.0, ")"), _NONE),
    "scoring": (_instance_of(str), (callable, "a scorer"), _NONE),
    "max_time": (_number(Real, "(", 0.0, _INF, ")"), _NONE),
}
CLASSIFIER_PARAMETERS = {
    "loss": _loss_rules(CLASSIFICATION_LOSSES),
    **_SHARED_PARAMETERS,
    "class_weight": (_one_of("balanced"), _instance_of(dict, list, tuple), _NONE),
}
REGRESSOR_PARAMETERS = {
    "loss": _loss_rules(REGRESSION_LOSSES),
    **_SHARED_PARAMETERS,
    "scale_targets": (_BOOLEAN,),
}

# Settings that cannot go together: (parameter, test of its value, other parameter, test of its
# value, reason). Everything else can.
_is_set = bool


def _is_full_batch(solver):
    row = OPTIMIZERS.get(solver) if isinstance(solver, str) else None
    return row is not None and not row.stochastic


def _has_dropout(dropout):
    return bool(np.any(np.asarray(dropout) > 0))


_FULL_BATCH = "L-BFGS-B minimises one fixed function of all samples with steps of its own"
CONFLICTS = (
    ("solver", _is_full_batch, "dropout", _has_dropout, _FULL_BATCH),
    ("solver", _is_full_batch, "max_grad_norm", _is_set, _FULL_BATCH),
    ("solver", _is_full_batch, "ema_decay", _is_set, _FULL_BATCH),
)


def hidden_sizes(hidden_layer_sizes):
    """Tuple of the hidden layers' sizes.

    Raises
    ------
    ValueError
        If a size is not an integer, or is less than 1.
    """
    sizes = np.atleast_1d(np.asarray(hidden_layer_sizes))
    if sizes.ndim != 1 or (sizes.size and sizes.dtype.kind not in "iu") or (sizes < 1).any():
        raise ValueError(f"hidden_layer_sizes must be > 0, got {hidden_layer_sizes}.")
    return tuple(sizes.tolist())


def check_parameters(estimator, table):
    """Compare every parameter of `estimator` with its rules in `table`.

    Returns
    -------
    SimpleNamespace
        The parameters by name.

    Raises
    ------
    InvalidParameterError
        Names the parameter, what is allowed and the value that came.
    ValueError
        If two parameters cannot go together (`CONFLICTS`): names both.
    """
    values = vars(estimator)
    for name, rules in table.items():
        value = values[name]
        for accepts, _ in rules:
            if accepts(value):
                break
        else:
            wanted = [text for _, text in rules]
            wanted = " or ".join(filter(None, [", ".join(wanted[:-1]), wanted[-1]]))
            raise InvalidParameterError(
                f"The {name!r} parameter of {type(estimator).__name__} must be {wanted}. "
                f"Got {value!r} instead."
            )
    for name, matters, other, also_matters, reason in CONFLICTS:
        known = name in table and other in table
        if known and matters(values[name]) and also_matters(values[other]):
            raise ValueError(
                f"{name}={values[name]!r} and {other}={values[other]!r} cannot go together: "
                f"{reason}. Change one of them."
            )
    return SimpleNamespace(**{name: values[name] for name in table})
