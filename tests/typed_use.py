"""Typed code that uses fastbp as users do, for mypy alone; pytest does not collect it.

A change that makes a public signature wrong or loose is an error of `mypy` here.
"""

import math
from pathlib import Path
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

from fastbp import Activation, BackpropClassifier, BackpropRegressor, Loss, Snapshot, show_versions
from fastbp.inspection.displays import SearchCurvesDisplay
from fastbp.search import BackpropSearchCV

Floats = NDArray[np.floating[Any]]


def silu(z: float) -> float:
    return z / (1 + math.exp(-z))


def absolute(y_true: float, raw: float) -> float:
    return abs(y_true - raw)


X = np.zeros((4, 2))
classifier = BackpropClassifier((20, 10), [silu, "tanh"], dropout=[0.1, 0.0], n_iter_no_change=5)
assert_type(classifier.fit(X, [0, 1, 0, 1], sample_weight=np.ones(4)), BackpropClassifier)
assert_type(classifier.predict_proba(X), Floats)
assert_type(classifier.transform(X), Floats)
assert_type(classifier.coefs_, list[Floats])
assert_type(classifier.n_iter_, int)
assert_type(BackpropClassifier.from_sklearn(classifier.to_sklearn()), BackpropClassifier)
assert_type(classifier.to_c(Path("network.c"), name="network", X=X, force=True), str)
assert_type(classifier.to_onnx("network.onnx", dtype="float32"), str)

regressor = BackpropRegressor(absolute, hidden_layer_sizes=8, activation=Activation(silu))
BackpropRegressor(warm_start="resume")
assert_type(regressor.fit(X.tolist(), np.zeros(4)), BackpropRegressor)
snapshot = Snapshot("fit.snapshot", every=60)
assert_type(regressor.fit(X, np.zeros(4), snapshot=snapshot), BackpropRegressor)
BackpropSearchCV(regressor, {"alpha": [0.1]}, snapshot=Path("search.snapshot"))
Snapshot("fit.snapshot", every="5 s")  # type: ignore[arg-type]
assert_type(regressor.predict(X), Floats)
assert_type(Loss(absolute, link="identity").name, str)
assert_type(show_versions(), None)
BackpropRegressor(alpha="0.1")  # type: ignore[arg-type]
BackpropRegressor(hidden_layer_sizes=(10, "5"))  # type: ignore[arg-type]

search = BackpropSearchCV(classifier, {"alpha": [0.1, 1.0]}, strategy="halving", max_time=5.0)
assert_type(search.fit(X, [0, 1, 0, 1], sample_weight=np.ones(4)), BackpropSearchCV)
assert_type(SearchCurvesDisplay.from_estimator(search), SearchCurvesDisplay)
BackpropSearchCV(classifier, {}, strategy="bayes")  # type: ignore[arg-type]
