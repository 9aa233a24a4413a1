"""Constructor parameters: what each may be, in one table, and the check of all of them.

Names of activations, losses, solvers, schedules and engines are read from their own tables.  The
check runs before any work, in `fit` and `partial_fit`; its wording is scikit-learn's.
"""

from numbers import Integral, Real
from types import SimpleNamespace

import numpy as np
from sklearn.metrics import get_scorer_names

from fastbp.activations import ACTIVATIONS, Activation
from fastbp.descriptions import BOOLEAN, Description, is_allowed, refusal
from fastbp.descriptions import instance_rule as _instance_of
from fastbp.descriptions import number_rule as _number
from fastbp.engine import ENGINE_NAMES
from fastbp.losses import (
    CLASSIFICATION_LOSSES,
    NAMED_LOSSES,
    REGRESSION_LOSSES,
    ClassificationLoss,
    Loss,
    RegressionLoss,
)
from fastbp.network import VARIANCES
from fastbp.optimizers import OPTIMIZERS, is_full_batch, is_solver
from fastbp.schedules import SCHEDULES, is_schedule
from fastbp.scoring import LOSS


def _one_of(*names):
    listed = ", ".join(repr(name) for name in sorted(names))
    return lambda value: isinstance(value, str) and value in names, f"a str among {{{listed}}}"


def _same(constant):
    def accepts(value):
        return value is constant or (isinstance(value, Real) and value == constant)

    return accepts, repr(constant)


def _activation_rule(value):
    """Whether a value is a name, a function or a description of an activation."""
    if isinstance(value, str):
        return value in ACTIVATIONS
    return callable(value) or isinstance(value, Activation)


def _activations_rule(value):
    return isinstance(value, list | tuple) and all(map(_activation_rule, value))


def _is_function(value):
    return callable(value) and not isinstance(value, type)


def _loss_rules(names, kind, example):
    """Rules for a loss: a name, an object of `kind`, or something of the user's own."""
    return (
        _one_of(*names),
        (lambda value: isinstance(value, kind), f"an object such as fastbp.losses.{example}"),
        (_is_function, "a function of y_true and raw"),
        _instance_of(Loss),
    )


def _list_of(rule):
    accepts, text = rule
    return lambda value: isinstance(value, list | tuple) and all(map(accepts, value)), (
        f"a list of them, each {text}"
    )


def _scoring_rule(value):
    return isinstance(value, str) and (value == LOSS or value in get_scorer_names())


_INF = float("inf")
_NONE = _same(None)
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
    "solver": (_one_of(*OPTIMIZERS), (is_solver, "an object of fastbp.optimizers")),
    "alpha": (_number(Real, "[", 0.0, _INF, ")"),),
    "batch_size": (_one_of("auto"), _COUNT),
    "learning_rate": (
        _one_of(*SCHEDULES),
        (is_schedule, "an object of fastbp.schedules or a function of step and n_steps"),
    ),
    "learning_rate_init": (_number(Real, "(", 0.0, _INF, ")"),),
    "max_iter": (_COUNT,),
    "shuffle": (BOOLEAN,),
    "random_state": (*_RANDOM_STATE, _NONE),
    "tol": (_number(Real, "[", 0.0, _INF, ")"),),
    "verbose": (BOOLEAN, _number(Integral, "[", 0, _INF, ")")),
    "warm_start": (BOOLEAN, _one_of("resume")),
    "early_stopping": (BOOLEAN,),
    "validation_fraction": (_number(Real, "[", 0.0, 1.0, ")"),),
    "n_iter_no_change": (_COUNT, _same(_INF)),
    "max_fun": (_COUNT,),
    "dtype": (_one_of("float32", "float64"), _NONE),
    "n_threads": (_COUNT, _same(-1), _NONE),
    "engine": (_one_of(*ENGINE_NAMES),),
    "init": (_one_of("auto", *VARIANCES),),
    "dropout": (_PROBABILITY, _list_of(_PROBABILITY)),
    "max_grad_norm": (_number(Real, "(", 0.0, _INF, ")"), _NONE),
    "ema_decay": (_number(Real, "(", 0.0, 1.0, ")"), _NONE),
    "scoring": (
        _NONE,
        (_scoring_rule, "'loss', a name in sklearn.metrics.get_scorer_names()"),
        (callable, "a callable scorer(estimator, X, y)"),
    ),
    "max_time": (_number(Real, "(", 0.0, _INF, ")"), _NONE),
    # what solvers and schedules take from the estimator when they are given by name
    **{
        name: row._rules[name]
        for row in (*OPTIMIZERS.values(), *SCHEDULES.values())
        for name in row.shared
    },
}
CLASSIFIER_PARAMETERS = {
    "loss": _loss_rules(CLASSIFICATION_LOSSES, ClassificationLoss, "Focal()"),
    **_SHARED_PARAMETERS,
    "class_weight": (_one_of("balanced"), _instance_of(dict, list, tuple), _NONE),
}
REGRESSOR_PARAMETERS = {
    "loss": _loss_rules(REGRESSION_LOSSES, RegressionLoss, "Huber()"),
    **_SHARED_PARAMETERS,
    "scale_targets": (BOOLEAN,),
}

# Settings that cannot go together: (parameter, test of its value, other parameter, test of its
# value, reason). Everything else can.
_is_set = bool


def _is_new_schedule(learning_rate):
    """Whether a schedule is not one of scikit-learn's names, which its lbfgs ignores."""
    return learning_rate not in ("constant", "invscaling", "adaptive")


def _has_dropout(dropout):
    return bool(np.any(np.asarray(dropout) > 0))


def _has_link(loss):
    row = NAMED_LOSSES.get(loss) if isinstance(loss, str) else loss
    row = row.row("real") if isinstance(row, RegressionLoss) else row
    return getattr(row, "link", None) not in (None, "identity", "increments")


def _is_resume(warm_start):
    return isinstance(warm_start, str)


_NO_STATE = (
    "scipy's L-BFGS-B keeps its view of the curvature to itself; warm_start=True goes on from the "
    "weights"
)
_LINKED = "predictions of this loss go through a link, which shifted and divided y does not fit"
_FULL_BATCH = "L-BFGS-B minimises one fixed function of all samples with steps of its own"
CONFLICTS = (
    ("solver", is_full_batch, "dropout", _has_dropout, _FULL_BATCH),
    ("solver", is_full_batch, "max_grad_norm", _is_set, _FULL_BATCH),
    ("solver", is_full_batch, "ema_decay", _is_set, _FULL_BATCH),
    ("solver", is_full_batch, "learning_rate", _is_new_schedule, _FULL_BATCH),
    ("solver", is_full_batch, "warm_start", _is_resume, _NO_STATE),
    ("scale_targets", _is_set, "loss", _has_link, _LINKED),
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


def dropout_rates(dropout, n_hidden):
    """List of the dropout probability of each hidden layer.

    Raises
    ------
    ValueError
        If a list is not as long as there are hidden layers.
    """
    if not isinstance(dropout, list | tuple):
        return [float(dropout)] * n_hidden
    if len(dropout) != n_hidden:
        raise ValueError(
            f"dropout has {len(dropout)} entries for {n_hidden} hidden layers. Give one for each "
            "layer of hidden_layer_sizes, or a single one for all."
        )
    return [float(rate) for rate in dropout]


def check_parameters(estimator, table):
    """Compare every parameter of `estimator`, and of its objects, with the rules in `table`.

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
        if not is_allowed(value, rules):
            raise refusal(f"{name!r} parameter of {type(estimator).__name__}", value, rules)
        if isinstance(value, Description):
            value.check(name)
    for name, matters, other, also_matters, reason in CONFLICTS:
        known = name in table and other in table
        if known and matters(values[name]) and also_matters(values[other]):
            raise ValueError(
                f"{name}={values[name]!r} and {other}={values[other]!r} cannot go together: "
                f"{reason}. Change one of them."
            )
    return SimpleNamespace(**{name: values[name] for name in table})
