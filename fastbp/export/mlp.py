"""scikit-learn's MLPClassifier and MLPRegressor out of fitted fastbp estimators, and back.

Parameters and fitted attributes have the same names and meaning on both sides, so this file only
copies what both have; every tool made for scikit-learn's MLP then works.
"""

from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import scipy.sparse
from sklearn.base import BaseEstimator, is_classifier
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from fastbp.engine import network
from fastbp.estimators.attributes import check_attributes, complete
from fastbp.export.fitted import FittedNetwork, describe_fitted

Estimator = TypeVar("Estimator", bound=BaseEstimator)

RECEIVER = "scikit-learn's MLP"
ACTIVATIONS = ("identity", "logistic", "relu", "tanh")
LOSSES = ("log_loss", "poisson", "squared_error")
OUTPUTS = ("exp", "identity", "logistic", "softmax")

# Of parameters that take more here than there, what scikit-learn takes; others are training's
# business and stay at scikit-learn's default.
VALUES = {
    "solver": ("adam", "lbfgs", "sgd"),
    "learning_rate": ("adaptive", "constant", "invscaling"),
}

# Fitted attributes of the same name and meaning, where they are set.
ATTRIBUTES = (
    "loss_", "best_loss_", "loss_curve_", "validation_scores_", "best_validation_score_",
    "_no_improvement_count", "t_", "n_iter_", "n_outputs_", "out_activation_",
    "n_features_in_", "feature_names_in_",
)  # fmt: skip


def to_sklearn(estimator: Any) -> Any:
    """Build scikit-learn's MLP of a fitted estimator; see its method `to_sklearn`."""
    fitted = describe_fitted(estimator, RECEIVER, ACTIVATIONS, OUTPUTS)
    if not (isinstance(estimator.loss, str) and estimator.loss in LOSSES):
        raise ValueError(
            f"{RECEIVER} lacks loss={estimator.loss!r}: expected one of {list(LOSSES)}."
        )
    if len(set(fitted.activations)) > 1:
        raise ValueError(
            f"{RECEIVER} has one activation for all hidden layers, not {fitted.activations}."
        )
    fitted = _in_units_of_y(fitted)
    mlp = MLPClassifier() if is_classifier(estimator) else MLPRegressor()
    ours = estimator.get_params(deep=False)
    common = {name: ours[name] for name in mlp.get_params(deep=False) if name in ours}
    for name, taken in VALUES.items():
        if not (isinstance(common[name], str) and common[name] in taken):
            del common[name]
    common["activation"] = _one_activation(fitted, common["activation"])
    mlp.set_params(**common)
    _copy_attributes(estimator, mlp)
    mlp.n_layers_ = len(fitted.coefs) + 1
    mlp.coefs_ = [weights.copy() for weights in fitted.coefs]
    mlp.intercepts_ = [biases.copy() for biases in fitted.intercepts]
    mlp._best_coefs = [weights.copy() for weights in fitted.coefs]
    mlp._best_intercepts = [biases.copy() for biases in fitted.intercepts]
    mlp._random_state = check_random_state(estimator.random_state)
    if is_classifier(estimator):
        mlp._label_binarizer = _label_binarizer(fitted, bool(vars(estimator).get("_sparse_labels")))
        mlp.classes_ = mlp._label_binarizer.classes_
    return mlp


def from_sklearn(kind: type[Estimator], mlp: Any) -> Estimator:
    """Build an estimator of class `kind` of a fitted MLP; see its method `from_sklearn`."""
    peer = MLPClassifier if is_classifier(kind()) else MLPRegressor
    if not isinstance(mlp, peer):
        raise TypeError(
            f"{kind.__name__}.from_sklearn expects a fitted {peer.__name__}. Got {mlp!r} instead."
        )
    check_is_fitted(mlp)
    estimator = kind(**mlp.get_params(deep=False), dtype=None)
    _copy_attributes(mlp, estimator)
    if is_classifier(mlp):
        target = mlp._label_binarizer.y_type_
        estimator.classes_ = mlp.classes_
        estimator._target_kind = target.removesuffix("-indicator")
        estimator._sparse_labels = mlp._label_binarizer.sparse_input_
    estimator.coefs_, estimator.intercepts_ = mlp.coefs_, mlp.intercepts_
    coefs, intercepts = check_attributes(vars(estimator))
    params = network.flatten(coefs, intercepts, coefs[0].dtype)
    sizes = network.layer_sizes_of(coefs)
    estimator.coefs_, estimator.intercepts_ = network.views(params, sizes)
    estimator.n_layers_ = len(sizes)
    complete(vars(estimator))
    return estimator


def _in_units_of_y(fitted: FittedNetwork) -> FittedNetwork:
    """Return the network with weights of the output, in float64, that give the units of y."""
    units = fitted.target_units
    if units is None:
        return fitted
    with np.errstate(over="ignore"):
        W = fitted.coefs[-1].astype(np.float64) * units.scale
        b = fitted.intercepts[-1].astype(np.float64) * units.scale + units.mean
    # Sums as long as a layer is wide need room above; below, small weights their digits.
    largest = max(float(np.abs(array).max()) for array in (W, b, units.scale))
    if not (units.scale.min() > 1e-300 and largest < 1e300):
        raise ValueError(
            f"{RECEIVER} has no scale_targets, and weights with the units of this y (mean "
            f"{units.mean}, standard deviation {units.scale}) would leave the range of float64. "
            "Divide y by a constant of its size before fitting."
        )
    return replace(
        fitted, coefs=[*fitted.coefs[:-1], W], intercepts=[*fitted.intercepts[:-1], b],
        target_units=None,
    )  # fmt: skip


def _one_activation(fitted: FittedNetwork, wanted: Any) -> str:
    """Return the name of the layers' activation; without layers, of what the user wanted."""
    if fitted.activations:
        return fitted.activations[0]
    return wanted if isinstance(wanted, str) and wanted in ACTIVATIONS else "relu"


def _copy_attributes(source: Any, target: Any) -> None:
    """Copy the fitted attributes that both sides have; lists and arrays are copied."""
    for name in ATTRIBUTES:
        if name in vars(source):
            value = vars(source)[name]
            setattr(target, name, value.copy() if isinstance(value, list | np.ndarray) else value)


def _label_binarizer(fitted: FittedNetwork, sparse_labels: bool) -> LabelBinarizer:
    """Return a LabelBinarizer as if fitted on the y of the estimator."""
    labels = fitted.classes
    if fitted.kind == "multilabel":
        labels = np.array([np.zeros_like(fitted.classes), np.ones_like(fitted.classes)])
        labels = scipy.sparse.csr_matrix(labels) if sparse_labels else labels
    return LabelBinarizer().fit(labels)
