"""Bad parameters, calls in the wrong order, and data that nobody writes to."""

import copy
import itertools
import math
import re
import warnings

import numpy as np
import pytest
from covering import naming
from problems import draw_labels
from refusals import (
    ESTIMATORS,
    METHODS,
    SETTINGS,
    check_refusal,
    classes_for,
    draw,
    fit_quietly,
    freeze,
)
from sklearn.base import is_classifier
from sklearn.exceptions import NotFittedError

from fastbp import BackpropClassifier, BackpropRegressor
from fastbp.estimators.parameters import CONFLICTS
from fastbp.losses import Gamma, Huber, Quantile
from fastbp.optimizers import LBFGS, AdamW
from fastbp.schedules import Constant, Cosine

# --- parameters -----------------------------------------------------------------------------------

BAD_PARAMETERS = {
    "activation": ["swish", 3, None],
    "solver": ["adamax", None],
    "alpha": [-1e-9, "a", None, np.nan],
    "batch_size": [0, -3, 2.5, "big", None],
    "learning_rate": ["falling", 0.1],
    "learning_rate_init": [0.0, -1.0, None, np.nan],
    "power_t": [-0.5, None],
    "max_iter": [0, -1, 2.5, None],
    "shuffle": ["yes", None],
    "random_state": ["seed", -1, 1.5],
    "tol": [-1e-9, None, np.nan],
    "verbose": [-1, "loud"],
    "warm_start": ["yes", None],
    "momentum": [-0.1, 1.1, None, np.nan],
    "nesterovs_momentum": ["yes", None],
    "early_stopping": ["yes", None],
    "validation_fraction": [-0.1, 1.0, None],
    "beta_1": [-0.1, 1.0, None],
    "beta_2": [-0.1, 1.0, None],
    "epsilon": [0.0, -1e-8, None],
    "n_iter_no_change": [0, -1, 2.5, None],
    "max_fun": [0, 2.5, None],
    "hidden_layer_sizes": [(0,), (-1,), (4, 0), 0, -5, (2.5,), "wide", None, [[3, 4]]],
    "loss": ["hinge", None, 3],
    "dtype": ["float16", "double", 32, np.int32],
    "n_threads": [0, -2, 1.5, "all", True],
    "engine": ["abacus", None, 3],
    "matmul_precision": ["bf16", None, 3, True, ["medium"]],
    "init": ["orthogonal", None],
    "dropout": [-0.1, 1.0, "half", [0.1, 2.0], None, np.nan],
    "max_grad_norm": [0.0, -1.0, "big", np.inf, np.nan],
    "ema_decay": [0.0, 1.0, "slow", True, np.nan],
    "scoring": [3],
    "max_time": [0.0, -1.0, "long"],
    "class_weight": ["even", 3],
    "new_classes": ["more", True],
    "scale_targets": ["yes", None],
}
ONLY = {
    "class_weight": BackpropClassifier,
    "new_classes": BackpropClassifier,
    "scale_targets": BackpropRegressor,
}


def test_every_parameter_has_bad_values():
    for kind in ESTIMATORS:
        theirs = {name for name, only in ONLY.items() if only is not kind}
        assert set(kind().get_params()) == set(BAD_PARAMETERS) - theirs


# Values of the parameters in the table of conflicts; those that do not matter there are among them.
VALUES = {
    "solver": ["adam", "sgd", "lbfgs", AdamW(), LBFGS()],
    "dropout": [0.0, [0.0], 0.1, [0.1]],
    "max_grad_norm": [None, 1.0],
    "ema_decay": [None, 0.9],
    "warm_start": [False, True, "resume"],
    "learning_rate": [
        "constant", "invscaling", "adaptive", "cosine", "one_cycle", "linear", "plateau",
        Constant(), Cosine(), math.hypot,
    ],
    "scale_targets": [False, True],
    "loss": ["squared_error", "poisson", "quantile", Huber(), Quantile([0.2, 0.8]), Gamma()],
}  # fmt: skip


@pytest.mark.parametrize(
    ("row", "kind"),
    [(row, kind) for row in CONFLICTS for kind in ESTIMATORS if ONLY.get(row[0], kind) is kind],
    ids=lambda it: f"{it[0]}-{it[2]}" if isinstance(it, tuple) else it.__name__,
)
def test_conflicts_are_refused_before_any_work(row, kind):
    """Each pair of values that matter names both parameters; every other pair trains."""
    name, matters, other, also_matters, reason = row
    X, y = draw(kind)
    y = y if name == "solver" else np.exp(y)  # what losses of positive targets take
    seen = set()
    for value, other_value in itertools.product(VALUES[name], VALUES[other]):
        model = kind(**{**SETTINGS, name: value, other: other_value})
        conflict = bool(matters(value) and also_matters(other_value))
        seen.add(conflict)
        if conflict:
            words = [f"{name}=", f"{other}=", re.escape(reason)]
            check_refusal(model, lambda: model.fit("no data", y), ValueError, words, y)  # noqa: B023
        else:
            fit_quietly(model.set_params(max_iter=2), X, y)
    assert seen == {True, False}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (name, kind)
        for name in BAD_PARAMETERS
        for kind in ESTIMATORS
        if ONLY.get(name, kind) is kind
    ],
)
def test_bad_parameters(name, kind):
    """On a model never fitted; and on a fitted one, which still predicts."""
    X, y = draw(kind)
    fitted = fit_quietly(kind(**SETTINGS), X, y)
    expected, good = fitted.predict(X), getattr(fitted, name)
    for value, method in itertools.product(BAD_PARAMETERS[name], METHODS):
        model = kind(**{**SETTINGS, name: value})
        first = classes_for(model, y) if method == "partial_fit" else {}
        with naming(value, method):
            check_refusal(
                model, lambda: getattr(model, method)(X, y, **first),  # noqa: B023
                (ValueError, TypeError), name, X, y,
            )  # fmt: skip
            assert not hasattr(model, "n_features_in_")
            fitted.set_params(**{name: value})
            call = getattr(fitted, method)
            check_refusal(fitted, lambda: call(X, y), (ValueError, TypeError), name, X, y)  # noqa: B023
            fitted.set_params(**{name: good})
            np.testing.assert_array_equal(fitted.predict(X), expected)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_message_says_expected_and_got(kind):
    X, y = draw(kind)
    with pytest.raises(ValueError, match=r"activation.*tanh.*Got 'swish'"):
        kind(activation="swish").fit(X, y)
    with pytest.raises(ValueError, match=r"dtype.*float64.*Got 'float16'"):
        kind(dtype="float16").fit(X, y)
    with pytest.raises(ValueError, match=r"n_threads.*Got 0"):
        kind(n_threads=0).fit(X, y)


# --- use in the wrong order -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_no_partial_fit_with_lbfgs(kind):
    model = kind(solver="lbfgs")
    assert not hasattr(model, "partial_fit")
    with pytest.raises(AttributeError, match="partial_fit"):
        model.partial_fit  # noqa: B018


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_no_early_stopping_in_partial_fit(kind):
    X, y = draw(kind)
    model = kind(**SETTINGS, early_stopping=True)
    first = classes_for(model, y)
    check_refusal(
        model,
        lambda: model.partial_fit(X, y, **first),
        ValueError,
        ["partial_fit", "early_stopping"],
    )


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_validation_part_too_small(kind):
    X, y = draw(kind)
    model = kind(**SETTINGS, early_stopping=True, validation_fraction=0.01)
    check_refusal(model, lambda: model.fit(X, y), ValueError, "validation_fraction")


@pytest.mark.parametrize(("rows", "fraction"), [(1, 0.1), (4, 0.1), (20, 0), (20, 0.99)])
def test_a_part_that_cannot_be_set_aside(rows, fraction):
    """scikit-learn's splitter speaks of its own parameters."""
    X, y = draw(BackpropClassifier)
    y = np.arange(len(y)) % 2
    model = BackpropClassifier(**SETTINGS, early_stopping=True, validation_fraction=fraction)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of one class
        check_refusal(
            model, lambda: model.fit(X[:rows], y[:rows]), ValueError,
            rf"^validation_fraction={fraction:g} of {rows} samples cannot be set aside",
        )  # fmt: skip


def test_partial_fit_needs_classes_first():
    X, y = draw(BackpropClassifier)
    model = BackpropClassifier(**SETTINGS)
    check_refusal(model, lambda: model.partial_fit(X, y), ValueError, "classes")


def test_partial_fit_refuses_new_classes():
    X, y = draw(BackpropClassifier)
    model = BackpropClassifier(**SETTINGS)
    check_refusal(model, lambda: model.partial_fit(X, y, classes=[0, 1]), ValueError, "classes")
    model.partial_fit(X, y, classes=[0, 1, 2])
    check_refusal(model, lambda: model.partial_fit(X, y + 1), ValueError, "classes")
    check_refusal(
        model, lambda: model.partial_fit(X, y, classes=[0, 1, 2, 3]), ValueError, "classes"
    )


def test_partial_fit_takes_part_of_the_classes():
    X, y = draw(BackpropClassifier)
    model = BackpropClassifier(**SETTINGS).partial_fit(X, y, classes=[0, 1, 2])
    model.partial_fit(X[y == 1], y[y == 1])
    assert list(model.classes_) == [0, 1, 2]


def test_warm_start_needs_the_same_classes():
    X, y = draw(BackpropClassifier)
    model = fit_quietly(BackpropClassifier(**SETTINGS, warm_start=True), X, y)
    for other in (np.where(y == 2, 1, y), y + 1):
        check_refusal(model, lambda: model.fit(X, other), ValueError, ["warm_start", "classes"])  # noqa: B023


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("method", ["predict", "score"])
def test_unfitted(kind, method):
    X, y = draw(kind)
    model = kind(**SETTINGS)
    arguments = (X,) if method == "predict" else (X, y)
    check_refusal(model, lambda: getattr(model, method)(*arguments), NotFittedError, "not fitted")


# --- data stays untouched -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
@pytest.mark.parametrize("kind", ESTIMATORS)
def test_training_and_prediction_write_to_nothing(kind, solver, dtype):
    X, y = draw(kind)
    X, weight = X.astype(dtype), np.linspace(0.5, 1.5, 30).astype(dtype)
    before = freeze((X, y, weight))
    params = {**SETTINGS, "early_stopping": solver != "lbfgs", "validation_fraction": 0.3}
    model = fit_quietly(kind(**params, solver=solver), X, y, sample_weight=weight)
    state = copy.deepcopy(freeze(vars(model)))
    model.predict(X)
    model.score(X, y, sample_weight=weight)
    if is_classifier(model):
        model.predict_log_proba(X)
    assert freeze((X, y, weight)) == before
    assert freeze(vars(model)) == state


def test_labels_of_many_outputs_stay_untouched():
    X, Y = draw_labels(30, 4, 3)
    before = freeze((X, Y))
    model = fit_quietly(BackpropClassifier(**SETTINGS), X, Y)
    check_refusal(model, lambda: model.fit(X[:-1], Y), ValueError, "inconsistent", X, Y)
    assert freeze((X, Y)) == before


@pytest.mark.parametrize("dtype", ["float32", None])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_a_failed_fit_gives_the_random_stream_back(method, dtype):
    random_state, twin = np.random.RandomState(5), np.random.RandomState(5)
    model = BackpropRegressor(
        **{**SETTINGS, "random_state": random_state}, solver="sgd", learning_rate_init=1e6,
        dtype=dtype,
    )  # fmt: skip
    X, y = draw(BackpropRegressor)

    def train():
        for _ in range(30):
            twin.set_state(random_state.get_state())
            getattr(model, method)(100 * X, 100 * y)

    with pytest.raises(ValueError, match="stopped being finite"):
        train()
    assert freeze(random_state) == freeze(twin)
