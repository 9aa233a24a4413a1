"""Bad y and sample weights: refused by name before any work; dates, labels, counts."""

import numpy as np
import pytest
from covering import cover_pairs
from problems import draw_counts
from refusals import (
    ESTIMATORS,
    METHODS,
    SETTINGS,
    STATES,
    check_refusal,
    check_refused,
    draw,
    fit_quietly,
)
from scipy import sparse

from fastbp import BackpropClassifier, BackpropRegressor

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


def test_malformed_sparse_targets():
    """scipy does not look at the indices of a multilabel y; the estimator does."""
    y = sparse.csr_matrix(np.eye(3, dtype=int)[np.arange(30) % 3])
    y.indices[4] = 7
    with pytest.raises(ValueError, match="y is a malformed csr matrix"):
        BackpropClassifier(**SETTINGS).fit(draw(BackpropClassifier)[0], y)
