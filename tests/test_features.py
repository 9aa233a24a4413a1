"""Bad X: refused by name before any work, in every state of the estimator."""

import numpy as np
import pytest
from covering import cover_pairs
from refusals import (
    ESTIMATORS,
    METHODS,
    SETTINGS,
    STATES,
    check_refusal,
    check_refused,
    draw,
    fit_quietly,
    with_value,
)
from scipy import sparse

from fastbp import BackpropClassifier

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
