"""Bad input: the error's kind and words, and that nothing has changed after it.

Every case runs on a model never fitted, on one fitted and on one in the middle of `partial_fit`.
"""

import copy
import itertools
import math
import re
import warnings

import numpy as np
import pytest
from covering import cover_pairs, naming
from problems import draw_classes, draw_counts, draw_labels, draw_regression
from scipy import sparse
from sklearn.base import clone, is_classifier
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from fastbp import BackpropClassifier, BackpropRegressor
from fastbp.estimators.parameters import CONFLICTS
from fastbp.losses import Gamma, Huber, Quantile
from fastbp.optimizers import LBFGS, AdamW
from fastbp.schedules import Constant, Cosine

SETTINGS = dict(hidden_layer_sizes=(4,), random_state=0, max_iter=5, tol=0.0, n_iter_no_change=5)
ESTIMATORS = [BackpropClassifier, BackpropRegressor]


def draw(kind, n_samples=30):
    """Return good (X, y) for an estimator class."""
    if kind is BackpropClassifier:
        return draw_classes(n_samples, 4, 3)
    return draw_regression(n_samples, 4)


def freeze(value):
    """Return something comparable by value; engine objects by identity."""
    if isinstance(value, np.ndarray):
        content = str(value) if value.dtype == object else value.tobytes()
        return (str(value.dtype), value.shape, content)
    if sparse.issparse(value):
        return [value.shape, *(freeze(x) for x in (value.data, value.indices, value.indptr))]
    if isinstance(value, dict):
        return {key: freeze(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [freeze(item) for item in value]
    if isinstance(value, np.random.RandomState):
        return freeze(value.get_state())
    if value is None or isinstance(value, str | bool | int | float | np.generic):
        return (type(value), repr(value))
    return id(value)


def fit_quietly(model, X, y, **kwargs):
    """Fit; a model with few epochs may warn that it has not converged."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X, y, **kwargs)


def train_some(model, X, y, state):
    """Bring a model into one of the three states."""
    if state == "fitted":
        fit_quietly(model, X, y)
    if state == "in partial_fit":
        for _ in range(2):
            model.partial_fit(X, y, **classes_for(model, y))
    return model


def classes_for(model, y):
    """Return what a first `partial_fit` needs."""
    return {"classes": np.unique(y)} if is_classifier(model) else {}


def check_refusal(model, call, error, words, *data):
    """`call()` raises, its message holds every word, the model and the data stay as they are."""
    before, data_before = freeze(vars(model)), freeze(data)
    with pytest.raises(error) as caught:
        call()
    for word in [words] if isinstance(words, str) else words:
        assert re.search(word, str(caught.value)), f"{word!r} is not in {str(caught.value)!r}"
    assert freeze(vars(model)) == before
    assert freeze(data) == data_before


def check_refused(model, X, y, error, words, *, weight=None, state="unfitted", method="fit"):
    """`method(X, y)` is refused in a state; and the model works on as before."""
    good_X, good_y = draw(type(model))
    train_some(model, good_X, good_y, state)
    if method == "fit":
        call = lambda: model.fit(X, y, sample_weight=weight)  # noqa: E731
    else:
        first = classes_for(model, good_y) if state == "unfitted" else {}
        call = lambda: model.partial_fit(X, y, sample_weight=weight, **first)  # noqa: E731
    expected = None if state == "unfitted" else model.predict(good_X)
    check_refusal(model, call, error, words, X, y, weight)
    if state == "unfitted":
        assert not hasattr(model, "n_features_in_")
        with pytest.raises(NotFittedError):
            model.predict(good_X)
        return
    np.testing.assert_array_equal(model.predict(good_X), expected)
    twin = train_some(clone(model), good_X, good_y, state)
    model.partial_fit(good_X, good_y)
    twin.partial_fit(good_X, good_y)
    for left, right in zip(model.coefs_, twin.coefs_, strict=True):
        np.testing.assert_array_equal(left, right)


def with_value(X, value, row=3, column=2):
    """Return a copy with one number changed."""
    X = np.array(X, dtype=float)
    X[row, column] = value
    return X


# --- X --------------------------------------------------------------------------------------------

BAD_X = {
    "NaN": (lambda X: with_value(X, np.nan), ValueError, ["X", "NaN"]),
    "infinity": (lambda X: with_value(X, np.inf), ValueError, ["X", "infinity"]),
    "minus infinity": (lambda X: with_value(X, -np.inf), ValueError, ["X", "infinity"]),
    "NaN in float32": (
        lambda X: with_value(X, np.nan).astype(np.float32), ValueError, ["X", "NaN"],
    ),
    "NaN in Fortran order": (
        lambda X: np.asfortranarray(with_value(X, np.nan)), ValueError, ["X", "NaN"],
    ),
    "NaN in CSR": (
        lambda X: sparse.csr_matrix(with_value(X, np.nan)), ValueError, ["X", "NaN"],
    ),
    "infinity in CSC": (
        lambda X: sparse.csc_array(with_value(X, np.inf)), ValueError, ["X", "infinity"],
    ),
    "beyond float32": (
        lambda X: with_value(X, 1e39), ValueError, ["[Cc]olumn 2", "float32", "dtype='float64'"],
    ),
    "beyond float32, negative": (
        lambda X: with_value(X, -4e38, column=0), ValueError, ["[Cc]olumn 0", "dtype='float64'"],
    ),
    "beyond float32, CSR": (
        lambda X: sparse.csr_matrix(with_value(X, 1e39)), ValueError,
        ["[Cc]olumn 2", "dtype='float64'"],
    ),
    "1-D": (lambda X: X[:, 0].copy(), ValueError, "Expected 2D array"),
    "3-D": (lambda X: X[:, :, None].copy(), ValueError, "dim 3"),
    "number": (lambda X: 3.0, ValueError, "Expected 2D array"),
    "no samples": (lambda X: X[:0], ValueError, "0 sample"),
    "no features": (lambda X: X[:, :0], ValueError, "0 feature"),
    "fewer rows than y": (lambda X: X[:-1], ValueError, "inconsistent numbers of samples"),
    "strings": (lambda X: X.astype(str).astype(object) + "x", ValueError, "could not convert"),
    "complex": (lambda X: X + 1j, ValueError, "Complex data"),
    "None": (lambda X: None, ValueError, ["None|Expected 2D array"]),
    "more features than fitted": (
        lambda X: np.hstack([X, X]), ValueError, "8 features.*expecting 4 features",
    ),
}  # fmt: skip


STATES, METHODS = ["unfitted", "fitted", "in partial_fit"], ["fit", "partial_fit"]
OTHER_WIDTH = "more features than fitted"


@pytest.mark.parametrize(
    ("bad", "kind", "state", "method"),
    cover_pairs([bad for bad in BAD_X if bad != OTHER_WIDTH], ESTIMATORS, STATES, METHODS),
)
def test_bad_X(bad, kind, state, method):
    spoil, error, words = BAD_X[bad]
    X, y = draw(kind)
    check_refused(kind(**SETTINGS), spoil(X), y, error, words, state=state, method=method)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_another_number_of_features(kind):
    """An error only where the number is already given; `fit` starts anew unless warm."""
    spoil, error, words = BAD_X[OTHER_WIDTH]
    X, y = draw(kind)
    for state in ("fitted", "in partial_fit"):
        check_refused(
            kind(**SETTINGS), spoil(X), y, error, words, state=state, method="partial_fit"
        )
    model = fit_quietly(kind(**SETTINGS, warm_start=True), X, y)
    check_refusal(model, lambda: model.fit(spoil(X), y), error, words)


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("bad", [name for name in BAD_X if name != "fewer rows than y"])
def test_bad_X_in_prediction(bad, kind):
    spoil, error, words = BAD_X[bad]
    X, y = draw(kind)
    model = fit_quietly(kind(**SETTINGS), X, y)
    bad_X = spoil(X)
    for method in ("predict", "predict_proba", "predict_log_proba"):
        if hasattr(model, method):
            check_refusal(model, lambda: getattr(model, method)(bad_X), error, words, bad_X)  # noqa: B023


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_wide_values_are_fine_in_float64(kind):
    X, y = draw(kind)
    X = with_value(X, 1e39)
    model = kind(
        **SETTINGS, dtype="float64", solver="sgd", learning_rate_init=1e-90, activation="tanh"
    )
    fit_quietly(model, X, y).predict(X)


def test_column_is_named_as_the_frame_names_it():
    pandas = pytest.importorskip("pandas")
    X, y = draw(BackpropClassifier)
    frame = pandas.DataFrame(with_value(X, 1e39), columns=["a", "b", "income", "d"])
    model = BackpropClassifier(**SETTINGS)
    check_refusal(model, lambda: model.fit(frame, y), ValueError, ["income", "float64"])


def malformed(attribute, position, value, make=sparse.csr_matrix):
    """Return CSR with one index changed; scipy itself does not look again."""
    X = make(np.arange(1.0, 121.0).reshape(30, 4))
    getattr(X, attribute)[position] = value
    return X


BAD_CSR = {
    "column too large": lambda: malformed("indices", 5, 4),
    "column huge": lambda: malformed("indices", 5, 2**31 - 1),
    "column negative": lambda: malformed("indices", 5, -1),
    "indptr decreases": lambda: malformed("indptr", 3, 0),
    "indptr beyond the data": lambda: malformed("indptr", -1, 10**6),
    "indptr negative": lambda: malformed("indptr", 3, -5),
    "indptr not from zero": lambda: malformed("indptr", 0, 2),
    "CSR array": lambda: malformed("indices", 5, 4, sparse.csr_array),
    "CSC": lambda: malformed("indices", 5, 30, sparse.csc_matrix),
}


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("bad", BAD_CSR)
def test_malformed_csr(bad, kind):
    X, y = draw(kind)
    bad_X = BAD_CSR[bad]()
    model = kind(**SETTINGS)
    check_refusal(model, lambda: model.fit(bad_X, y), ValueError, "indices|indptr|index", bad_X)
    fit_quietly(model, X, y)
    check_refusal(model, lambda: model.predict(bad_X), ValueError, "indices|indptr|index", bad_X)
    check_refusal(model, lambda: model.partial_fit(bad_X, y), ValueError, "indices|indptr|index")


# --- y and sample_weight --------------------------------------------------------------------------

BAD_Y = [
    (BackpropClassifier, "continuous", lambda y: y + 0.5, ValueError, "Unknown label type"),
    (
        BackpropClassifier, "several multiclass columns", lambda y: np.column_stack([y, y]),
        ValueError, "[Uu]nknown label type|[Mm]ultioutput",
    ),
    (BackpropClassifier, "NaN", lambda y: np.where(y == 1, np.nan, y), ValueError, ["y", "NaN"]),
    (BackpropClassifier, "one too few", lambda y: y[:-1], ValueError, "inconsistent numbers"),
    (BackpropClassifier, "3-D", lambda y: np.zeros((30, 2, 2)), ValueError, "dim 3|y"),
    (BackpropClassifier, "None", lambda y: None, ValueError, "y"),
    (BackpropRegressor, "NaN", lambda y: np.where(y > 0, np.nan, y), ValueError, ["y", "NaN"]),
    (BackpropRegressor, "infinity", lambda y: np.where(y > 0, np.inf, y), ValueError, "y.*infin"),
    (BackpropRegressor, "beyond float32", lambda y: y * 1e60, ValueError, ["y", "float64"]),
    (BackpropRegressor, "strings", lambda y: np.array(["a"] * 30), ValueError, "y|convert"),
    (BackpropRegressor, "one too few", lambda y: y[:-1], ValueError, "inconsistent numbers"),
    (BackpropRegressor, "3-D", lambda y: np.zeros((30, 2, 2)), ValueError, "dim 3|y"),
    (BackpropRegressor, "None", lambda y: None, ValueError, "y"),
]  # fmt: skip


@pytest.mark.parametrize("state", ["unfitted", "fitted", "in partial_fit"])
@pytest.mark.parametrize(
    ("kind", "spoil", "error", "words"),
    [pytest.param(kind, *rest, id=f"{kind.__name__}-{name}") for kind, name, *rest in BAD_Y],
)
def test_bad_y(kind, spoil, error, words, state):
    X, y = draw(kind)
    check_refused(kind(**SETTINGS), X, spoil(y), error, words, state=state)


DAYS = np.datetime64("2026-01-01") + np.arange(30)
DATES = {
    "dates": lambda: DAYS,
    "nanoseconds": lambda: DAYS.astype("M8[ns]"),
    "with NaT": lambda: np.where(np.arange(30) == 4, np.datetime64("NaT"), DAYS),
    "durations": lambda: DAYS - DAYS[0],
    "a column": lambda: DAYS.reshape(-1, 1),
    "list of dates": lambda: DAYS.tolist(),
    "list of NumPy's dates": lambda: list(DAYS),
    "objects": lambda: (DAYS - DAYS[0]).astype(object),
    "NumPy's as objects": lambda: np.array([*DAYS, None], object)[:30],
    "pandas": lambda: pytest.importorskip("pandas").Series(DAYS),
    "pandas with a zone": lambda: pytest.importorskip("pandas").Series(DAYS).dt.tz_localize("CET"),
    "pandas index": lambda: pytest.importorskip("pandas").DatetimeIndex(DAYS),
    "pandas frame": lambda: pytest.importorskip("pandas").DataFrame(
        {"a": np.arange(30.0), "b": DAYS - DAYS[0]}
    ),
    "polars": lambda: pytest.importorskip("polars").Series(DAYS),
    "polars durations": lambda: pytest.importorskip("polars").Series((DAYS - DAYS[0]).tolist()),
    "polars frame": lambda: pytest.importorskip("polars").DataFrame(
        {"a": np.arange(30.0), "b": DAYS}
    ),
}


@pytest.mark.parametrize("name", DATES)
def test_dates_are_no_numbers(name):
    """They have no unit; NaT would be a number of -9e18."""
    X, y = draw(BackpropRegressor)
    dates, words = DATES[name](), [r"np\.timedelta64\(1, 'D'\)", "dates or durations"]
    model = BackpropRegressor(**SETTINGS, scale_targets=True)
    calls = {
        "y": lambda: model.fit(X, dates),
        "sample_weight": lambda: model.fit(X, y, dates),
        "y_val": lambda: model.fit(X, y, X_val=X, y_val=dates),
        "sample_weight_val": lambda: model.fit(X, y, X_val=X, y_val=y, sample_weight_val=dates),
    }
    for named, call in calls.items():
        check_refusal(model, call, ValueError, [f"^{named} ", *words])
    fit_quietly(model, X, y)
    check_refusal(model, lambda: model.score(X, dates), ValueError, words)
    check_refusal(model, lambda: model.score(X, y, dates), ValueError, words)
    classifier, labels = BackpropClassifier(**SETTINGS), np.arange(30) % 2
    check_refusal(classifier, lambda: classifier.fit(X, labels, dates), ValueError, words)


def test_dates_are_labels():
    X, y = draw(BackpropClassifier)
    model = fit_quietly(BackpropClassifier(**SETTINGS), X, DAYS[y])
    assert set(model.predict(X)) <= set(model.classes_) == set(DAYS[y])


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("bad", [-1.0, -1e-30])
def test_poisson_needs_counts(bad, method):
    X, y = draw_counts(30, 4)
    y[7] = bad
    model = BackpropRegressor("poisson", **SETTINGS)
    check_refusal(
        model, lambda: getattr(model, method)(X, y), ValueError, ["y", "poisson|Poisson"], X, y
    )


BAD_WEIGHTS = {
    "negative": (lambda w: np.where(np.arange(30) == 4, -0.5, w), "negative"),
    "NaN": (lambda w: np.where(np.arange(30) == 4, np.nan, w), "NaN"),
    "infinity": (lambda w: np.where(np.arange(30) == 4, np.inf, w), "infinity"),
    "all zero": (np.zeros_like, "zero"),
    "one too few": (lambda w: w[:-1], "sample_weight|shape"),
    "2-D": (lambda w: np.column_stack([w, w]), "1D|2D"),
    "beyond float32": (lambda w: w * 1e60, "float64"),
    "below float32": (lambda w: w * 1e-60, "float64"),
}


@pytest.mark.parametrize(
    ("bad", "kind", "state", "method"), cover_pairs(BAD_WEIGHTS, ESTIMATORS, STATES, METHODS)
)
def test_bad_sample_weight(bad, kind, state, method):
    spoil, words = BAD_WEIGHTS[bad]
    X, y = draw(kind)
    weight = spoil(np.ones(30))
    check_refused(
        kind(**SETTINGS), X, y, ValueError, [words, "[Ss]ample.weight"], weight=weight, state=state,
        method=method,
    )  # fmt: skip


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
    "init": ["orthogonal", None],
    "dropout": [-0.1, 1.0, "half", [0.1, 2.0], None, np.nan],
    "max_grad_norm": [0.0, -1.0, "big", np.inf, np.nan],
    "ema_decay": [0.0, 1.0, "slow", True, np.nan],
    "scoring": [3],
    "max_time": [0.0, -1.0, "long"],
    "class_weight": ["even", 3],
    "scale_targets": ["yes", None],
}
ONLY = {"class_weight": BackpropClassifier, "scale_targets": BackpropRegressor}


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
    check_refusal(model, lambda: model.fit(X, y), ValueError, "validation_fraction|test_size")


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


# --- divergence -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", None])
@pytest.mark.parametrize("state", ["unfitted", "fitted", "in partial_fit"])
def test_divergence(state, dtype):
    """The epoch, the likely cause, and the old model."""
    X, y = draw(BackpropRegressor)
    model = BackpropRegressor(
        **{**SETTINGS, "max_iter": 400}, solver="sgd", activation="relu", dtype=dtype
    )
    train_some(model, X, y, state)
    expected = None if state == "unfitted" else model.predict(X)
    model.set_params(learning_rate_init=1e6, momentum=0.0)
    check_refusal(model, lambda: model.fit(X, y), ValueError, ["epoch", "learning_rate"], X, y)
    if state == "unfitted":
        with pytest.raises(NotFittedError):
            model.predict(X)
    else:
        np.testing.assert_array_equal(model.predict(X), expected)


def test_divergence_in_partial_fit():
    """The optimiser's state too is that of before."""
    X, y = draw(BackpropRegressor)
    models = []
    for _ in range(2):
        model = BackpropRegressor(**SETTINGS, solver="sgd", batch_size=1)
        models.append(model.partial_fit(X, y).partial_fit(X, y))
    model, twin = models
    check_refusal(
        model,
        lambda: model.partial_fit(X * 1e18, y),
        ValueError,
        ["epoch|partial_fit", "scale|column"],
    )
    model.partial_fit(X, y)
    twin.partial_fit(X, y)
    for left, right in zip(model.coefs_, twin.coefs_, strict=True):
        np.testing.assert_array_equal(left, right)
    assert model.t_ == twin.t_
    assert model.loss_curve_ == twin.loss_curve_


def test_divergence_names_the_unscaled_column():
    X, y = draw(BackpropRegressor)
    X = X * [1, 1, 1e12, 1]
    model = BackpropRegressor(**{**SETTINGS, "max_iter": 200}, solver="sgd")
    check_refusal(model, lambda: model.fit(X, y), ValueError, ["epoch", "column 2"])


def test_divergence_under_warm_start():
    X, y = draw(BackpropRegressor, 60)
    model = BackpropRegressor(**SETTINGS, solver="sgd", warm_start=True)
    fit_quietly(model, X, y)
    expected = model.predict(X)
    model.set_params(learning_rate_init=1e6, max_iter=400, n_iter_no_change=np.inf)
    check_refusal(model, lambda: model.fit(X, y), ValueError, "epoch")
    np.testing.assert_array_equal(model.predict(X), expected)


def test_lbfgs_divergence():
    X, y = draw_counts(30, 4)
    model = BackpropRegressor("poisson", **SETTINGS, solver="lbfgs", activation="identity")
    X = X * 1e200
    model.set_params(dtype="float64")
    check_refusal(model, lambda: fit_quietly(model, X, y), ValueError, "scale|column", X, y)


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


def test_malformed_sparse_targets():
    """scipy does not look at the indices of a multilabel y; the estimator does."""
    y = sparse.csr_matrix(np.eye(3, dtype=int)[np.arange(30) % 3])
    y.indices[4] = 7
    with pytest.raises(ValueError, match="y is a malformed csr matrix"):
        BackpropClassifier(**SETTINGS).fit(draw(BackpropClassifier)[0], y)


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
