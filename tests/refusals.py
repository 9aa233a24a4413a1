"""Refusals for tests: a call raises what it should, and changes neither the model nor the data."""

import re
import warnings

import numpy as np
import pytest
from problems import draw_classes, draw_regression
from scipy import sparse
from sklearn.base import clone, is_classifier
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from fastbp import BackpropClassifier, BackpropRegressor

SETTINGS = dict(hidden_layer_sizes=(4,), random_state=0, max_iter=5, tol=0.0, n_iter_no_change=5)
ESTIMATORS = [BackpropClassifier, BackpropRegressor]
STATES, METHODS = ["unfitted", "fitted", "in partial_fit"], ["fit", "partial_fit"]


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
