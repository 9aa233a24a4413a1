"""Small raw tables for tests, and quick estimators of them; no assertions."""

import numpy as np
import pytest

from fastbp import TabularClassifier

FAST = dict(n_networks=2, n_members=2, hidden_layer_sizes=8, max_iter=5, random_state=0)
NAMES = ["size", "colour", "count", "flag"]


def make(kind, **settings):
    """Return an estimator that is trained in hundredths of a second."""
    return kind(**{**FAST, **settings})


def draw_table(kind, n_rows=60, n_classes=3):
    """Return an object array with numbers, text, gaps and booleans, and a y for the class."""
    rng = np.random.default_rng(0)
    X = np.empty((n_rows, 4), object)
    size, colour = rng.standard_normal(n_rows), rng.choice(["red", "green", "blue"], n_rows)
    X[:, 0], X[:, 1] = size, colour
    X[:, 2], X[:, 3] = rng.integers(0, 9, n_rows), rng.random(n_rows) < 0.5
    y = size + (colour == "red") + 0.1 * rng.standard_normal(n_rows)
    X[::7, 0], X[3::11, 1], X[5::13, 2] = None, None, None
    if kind is not TabularClassifier:
        return X, y
    codes = np.searchsorted(np.quantile(y, np.arange(1, n_classes) / n_classes), y)
    return X, codes


def as_frame(X, library="pandas"):
    """Return the table as a frame with names and proper dtypes; "objects" leaves it as it is."""
    if library == "objects":
        return X
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=NAMES).astype({"size": float, "count": float, "flag": bool})
    if library == "pandas":
        return frame
    module = pytest.importorskip(library)
    if library == "polars":
        return module.from_pandas(frame)
    return module.Table.from_pandas(frame, preserve_index=False)


def draw_amounts(n_rows=640, seed=0):
    """Return a column of which three in four rows are 0 and others one of 12 amounts, or few."""
    rng = np.random.default_rng(seed)
    amounts = np.where(rng.random(n_rows) < 0.75, 0.0, 100.0 * rng.integers(1, 13, n_rows))
    amounts[:2] = 5000.0  # rare
    return amounts
