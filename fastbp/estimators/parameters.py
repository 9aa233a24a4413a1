"""Constructor parameters: what each may be, in one table, and the check of all of them.

Names of activations, losses, solvers, schedules and engines are read from their own tables.  The
check runs before any work, in `fit` and `partial_fit`; its wording is scikit-learn's.
"""

import inspect
from numbers import Integral, Real
from types import SimpleNamespace

import numpy as np
from sklearn.metrics import get_scorer_names

from fastbp import activations, losses, optimizers, schedules
from fastbp.activations import ACTIVATIONS, Activation
from fastbp.descriptions import (
    BOOLEAN,
    Description,
    NameTest,
    formula_rule,
    is_allowed,
    is_formula,
    plain,
    refusal,
)
from fastbp.descriptions import NONE as _NONE
from fastbp.descriptions import instance_rule as _instance_of
from fastbp.descriptions import name_rule as _one_of
from fastbp.descriptions import number_rule as _number
from fastbp.descriptions import same_rule as _same
from fastbp.engine import ENGINE_NAMES
from fastbp.engine.network import VARIANCES
from fastbp.engine.precision import OTHER_WORDS as PRECISION_WORDS
from fastbp.engine.precision import PRECISIONS
from fastbp.losses import (
    CLASSIFICATION_LOSSES,
    NAMED_LOSSES,
    REGRESSION_LOSSES,
    ClassificationLoss,
    Loss,
    RegressionLoss,
)
from fastbp.messages import find_name
from fastbp.optimizers import OPTIMIZERS, is_full_batch, is_solver
from fastbp.schedules import SCHEDULES, is_schedule
from fastbp.training import scoring
from fastbp.training.scoring import LOSS, explain_metric, is_scorer


def _activation_rule(value):
    """Whether a value is a name, a function or a description of an activation."""
    if isinstance(value, str):
        return value in ACTIVATIONS
    return is_formula(value) or isinstance(value, Activation)


def _activations_rule(value):
    return isinstance(value, list | tuple) and all(map(_activation_rule, value))


def _loss_rules(names, kind, example):
    """Rules for a loss: a name, an object of `kind`, or something of the user's own."""
    return (
        _one_of(*names, other_words=losses.OTHER_WORDS),
        (
            lambda value: isinstance(value, kind) and bool(value.formulas),  # the base has none
            f"an object such as fastbp.losses.{example}",
        ),
        formula_rule("a function of y_true and raw"),
        _instance_of(Loss),
    )


def _list_of(rule):
    accepts, text = rule
    return lambda value: isinstance(value, list | tuple) and all(map(accepts, value)), (
        f"a list of them, each {text}"
    )


_INF = float("inf")
_COUNT = _number(Integral, "[", 1, _INF, ")")
_PROBABILITY = _number(Real, "[", 0.0, 1.0, ")")
_RANDOM_STATE = (_number(Integral, "[", 0, 2**32 - 1, "]"), _instance_of(np.random.RandomState))


def _layer_sizes_rule(value):
    try:
        hidden_sizes(value)
    except ValueError:
        return False
    return True


SHARED_PARAMETERS = {
    "hidden_layer_sizes": ((_layer_sizes_rule, "an int >= 1 or an array-like of ints >= 1"),),
    "activation": (
        _one_of(*ACTIVATIONS, other_words=activations.OTHER_WORDS),
        formula_rule("a function of z"),
        _instance_of(Activation),
        (_activations_rule, "a list of these"),
    ),
    "solver": (
        _one_of(*OPTIMIZERS, other_words=optimizers.OTHER_WORDS),
        (is_solver, "an object of fastbp.optimizers"),
    ),
    "alpha": (_number(Real, "[", 0.0, _INF, ")"),),
    "batch_size": (_one_of("auto"), _COUNT),
    "learning_rate": (
        _one_of(*SCHEDULES, other_words=schedules.OTHER_WORDS),
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
    "engine": (
        _one_of(*ENGINE_NAMES, other_words={"native": "cython", "c": "cython", "jit": "numba"}),
    ),
    "matmul_precision": (_one_of(*PRECISIONS, other_words=PRECISION_WORDS),),
    "init": (_one_of("auto", *VARIANCES, other_words={"kaiming": "he", "xavier": "glorot"}),),
    "dropout": (_PROBABILITY, _list_of(_PROBABILITY)),
    "max_grad_norm": (_number(Real, "(", 0.0, _INF, ")"), _NONE),
    "ema_decay": (_number(Real, "(", 0.0, 1.0, ")"), _NONE),
    "scoring": (
        _NONE,
        _one_of(LOSS, *get_scorer_names(), other_words=scoring.OTHER_WORDS),
        (is_scorer, "a callable scorer(estimator, X, y)"),
    ),
    "max_time": (_number(Real, "(", 0.0, _INF, ")"), _NONE),
    # what solvers and schedules take from the estimator when they are given by name
    **{
        name: entry._rules[name]
        for entry in (*OPTIMIZERS.values(), *SCHEDULES.values())
        for name in entry.shared
    },
}
CLASSIFIER_PARAMETERS = {
    "loss": _loss_rules(CLASSIFICATION_LOSSES, ClassificationLoss, "Focal()"),
    **SHARED_PARAMETERS,
    "class_weight": (
        _one_of("balanced", other_words={"auto": "balanced"}),
        _instance_of(dict, list, tuple),
        _NONE,
    ),
    "new_classes": (_one_of("error", "grow"),),
}
REGRESSOR_PARAMETERS = {
    "loss": _loss_rules(REGRESSION_LOSSES, RegressionLoss, "Huber()"),
    **SHARED_PARAMETERS,
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


def has_link(loss):
    """Whether predictions of a loss go through a link, which scaled targets do not fit."""
    entry = NAMED_LOSSES.get(loss) if isinstance(loss, str) else loss
    entry = entry.entry("real") if isinstance(entry, RegressionLoss) else entry
    return getattr(entry, "link", None) not in (None, "identity", "increments")


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
    ("scale_targets", _is_set, "loss", has_link, _LINKED),
)


def hidden_sizes(hidden_layer_sizes):
    """Tuple of the hidden layers' sizes.

    Raises
    ------
    ValueError
        If a size is not an integer, or is less than 1.
    """
    sizes = np.atleast_1d(np.asarray(plain(hidden_layer_sizes)))
    if sizes.ndim != 1 or (sizes.size and sizes.dtype.kind not in "iu") or (sizes < 1).any():
        raise ValueError(f"hidden_layer_sizes must be > 0, got {hidden_layer_sizes}.")
    return tuple(sizes.tolist())


class Settings(SimpleNamespace):
    """The parameters of a call by name, for all who work on it; nobody writes to them.

    Numbers of NumPy are those of Python; `hidden_layer_sizes` is a tuple of int.
    """

    def __setattr__(self, name, value):
        raise AttributeError(f"the settings of a call stay as they are ({name} = {value!r})")


def check_parameters(estimator, table):
    """Compare every parameter of `estimator`, and of its objects, with the rules in `table`.

    Returns
    -------
    Settings

    Raises
    ------
    InvalidParameterError
        Names the parameter, what is allowed, the value that came and what it probably means.
    ValueError
        If two parameters cannot go together (`CONFLICTS`): names both.
    """
    values = vars(estimator)
    for name, rules in table.items():
        value = values[name]
        if not is_allowed(value, rules):
            hint = _suggest(name, value, table, type(estimator))
            raise refusal(f"{name!r} parameter of {type(estimator).__name__}", value, rules, hint)
        for entry in value if isinstance(value, list | tuple) else [value]:
            if isinstance(entry, Description):
                entry.check(name)
    for name, matters, other, also_matters, reason in CONFLICTS:
        known = name in table and other in table
        if known and matters(values[name]) and also_matters(values[other]):
            raise ValueError(
                f"{name}={values[name]!r} and {other}={values[other]!r} cannot go together: "
                f"{reason}. Change one of them."
            )
    sizes = values["hidden_layer_sizes"]
    sizes = sizes if isinstance(sizes, str) else hidden_sizes(sizes)  # "auto", where it is allowed
    named = {name: plain(values[name]) for name in table}
    return Settings(**named | {"hidden_layer_sizes": sizes})


# ------------------------------------------------------------------- what was probably meant


def say_object(name, value):
    """Say which object has the settings of what a parameter names."""
    tables = {"loss": NAMED_LOSSES, "solver": OPTIMIZERS, "learning_rate": SCHEDULES}
    found = tables.get(name, {}).get(value)
    if found is None or not hasattr(type(found), "get_params"):
        return f"Set {name} itself."
    kind = type(found)
    return f"Give the object: {name}={kind.__module__}.{kind.__name__}(...)."


def _suggest(name, value, table, kind):
    """Say what a refused value probably means, beside the names that its rules allow; or None."""
    if name in _SUGGESTIONS:
        hint = _SUGGESTIONS[name](value, table, kind)
        if hint:
            return hint
    meant = [v for words, v in _CONSTANTS if _said(value, words) and is_allowed(v, table[name])]
    if meant:
        return f"Did you mean {meant[0]!r}?"
    if any(isinstance(test, NameTest) and test.find(value) for test, _ in table[name]):
        return None
    others = [
        other
        for other, rules in table.items()
        if any(isinstance(test, NameTest) and test(value) for test, _ in rules)
    ]
    return f"Did you mean {others[0]}={value!r}?" if len(others) == 1 else None


# What users write for a constant, as text or as a number.
_CONSTANTS = (
    (("true", "yes", "on", 1), True),
    (("false", "no", "off", 0), False),
    (("none", "null", ""), None),
)


def _said(value, words):
    if isinstance(value, str):
        return value.strip().lower() in words
    return isinstance(value, Real) and not isinstance(value, np.timedelta64) and value in words


def _suggest_stopping(value, table, kind):
    """Say which parameter a number given as `early_stopping` is of."""
    for name in ("n_iter_no_change", "validation_fraction"):
        if is_allowed(value, table[name]) and value not in (0, 1):
            return f"Did you mean early_stopping=True, {name}={value!r}?"
    return None


def _suggest_rate(value, table, kind):
    if is_allowed(value, table["learning_rate_init"]):
        return (
            f"Did you mean learning_rate_init={value!r}? learning_rate is how the rate changes, as "
            "in scikit-learn."
        )
    return None


def _suggest_loss(value, table, kind):
    if not isinstance(value, str | bool) and _layer_sizes_rule(value):
        hint = f"Did you mean hidden_layer_sizes={value!r}?"
        if next(iter(inspect.signature(kind).parameters)) == "loss":
            hint += f" The first parameter of {kind.__name__} is loss, as in scikit-learn."
        return hint
    own = table["loss"][0][0]
    meant = find_name(value, NAMED_LOSSES, losses.OTHER_WORDS, near=False)
    meant = meant or own.find(value) or find_name(value, NAMED_LOSSES, losses.OTHER_WORDS)
    if meant is None or own(meant):
        return None
    whose = "BackpropRegressor" if meant in REGRESSION_LOSSES else "BackpropClassifier"
    return f"{meant!r} is a loss of {whose}."


DTYPE_WORDS = {"fp32": "float32", "f32": "float32", "fp64": "float64", "f64": "float64"}


def _name_of_dtype(value):
    try:
        return np.dtype(value).name
    except TypeError:
        return str(value).rpartition(".")[2]  # torch.bfloat16


def _suggest_dtype(value, table, kind):
    word = _name_of_dtype(value)
    if "16" in word or "half" in word:
        return "Did you mean dtype='float32', matmul_precision='medium'?"
    meant = find_name(word, ("float32", "float64"), DTYPE_WORDS, near=False)
    return f"Did you mean {meant!r}?" if meant else None


def _suggest_precision(value, table, kind):
    """Say which precision a dtype, a number of bits or a switch stands for."""
    if isinstance(value, str):  # the rule itself knows
        return None
    meant = find_name(_name_of_dtype(value), PRECISIONS, PRECISION_WORDS, near=False)
    return f"Did you mean {meant!r}?" if meant else None


_SUGGESTIONS = {
    "matmul_precision": _suggest_precision,
    "early_stopping": _suggest_stopping,
    "learning_rate": _suggest_rate,
    "loss": _suggest_loss,
    "dtype": _suggest_dtype,
    "scoring": lambda value, table, kind: explain_metric(value),
}
