"""What a fitted estimator computes, in plain types: all that an export may read.

An export says which activations and output transforms it can write down; whatever is not on its
lists is an error that names it.  The description is then evaluated and compared with the
estimator's own predictions, so that a setting which nobody thought of here cannot make an export
silently wrong.

What `scale_targets` took out of y is no part of the weights: in float32 a mean of a million would
swallow a spread of hundredths.  An export takes it back in float64, after the last layer.
"""

from collections.abc import Collection
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from fastbp.activations import ACTIVATIONS, activations_for
from fastbp.data.scaling import is_coarse, restore, unit_of
from fastbp.estimators.attributes import check_attributes
from fastbp.tabular.attributes import refuse_ensemble

TOLERANCE = {"float32": 1e-4, "float64": 1e-9}  # of raw scores, relative to 1 + their size


@dataclass(frozen=True)
class TargetUnits:
    """What `scale_targets` took out of y, per output: predictions are ``score * scale + mean``.

    Parameters
    ----------
    mean, scale : float64 ndarray of shape (n_outputs,)
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]

    @property
    def factors(self) -> tuple[NDArray[np.float64], ...]:
        """Three arrays with ``(score * factor + shift) * unit`` as in `predict`.

        Only where the prediction itself leaves float64 something on the way to it does.
        """
        unit = unit_of(np.maximum(np.abs(self.mean), self.scale))
        return self.scale / unit, self.mean / unit, unit

    @property
    def need_double(self) -> bool:
        """Whether float32 is too coarse or too narrow for predictions."""
        is_wide = np.maximum(np.abs(self.mean), self.scale) > 1e35  # float32 ends at 3.4e38
        is_small = self.scale < 1e-30  # whose last digits float32 lacks
        return bool((is_coarse(self.mean, self.scale) | is_wide | is_small).any())


@dataclass(frozen=True)
class FittedNetwork:
    """A network and what its outputs mean.

    Parameters
    ----------
    kind : {"regression", "binary", "multiclass", "multilabel"}
    coefs : list of ndarray of shape (n_in, n_out)
    intercepts : list of ndarray of shape (n_out,)
    activations : list of str
        One name of `ACTIVATIONS` for each hidden layer.
    output : {"identity", "exp", "logistic", "softmax"}
        Transform from raw scores to predictions.
    classes : ndarray of shape (n_classes,) or None
        Labels of a classifier.
    target_units : TargetUnits or None
        What turns the raw scores into units of y, where they are scaled.
    """

    kind: str
    coefs: list[NDArray[np.floating]]
    intercepts: list[NDArray[np.floating]]
    activations: list[str]
    output: str
    classes: NDArray[Any] | None
    target_units: TargetUnits | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the weights."""
        return self.coefs[0].dtype

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """Sizes (n_features, *hidden, n_outputs)."""
        return (*(len(weights) for weights in self.coefs), self.coefs[-1].shape[1])

    @property
    def n_params(self) -> int:
        """Number of weights and biases."""
        return sum(array.size for array in (*self.coefs, *self.intercepts))

    def raw_scores(self, X: NDArray[np.floating]) -> NDArray[np.float64]:
        """Evaluate the network in float64 with the formulas of the table; for a few rows."""
        a = np.asarray(X, np.float64)
        layers = zip(self.coefs, self.intercepts, [*self.activations, "identity"], strict=True)
        for weights, biases, name in layers:
            z = a @ weights.astype(np.float64) + biases
            a = np.vectorize(ACTIVATIONS[name].value, otypes=[np.float64])(z)
        return a


def describe_fitted(
    estimator: Any, receiver: str, activations: Collection[str], outputs: Collection[str]
) -> FittedNetwork:
    """Describe a fitted estimator to a receiver that knows these activations and outputs.

    Parameters
    ----------
    estimator : BackpropClassifier or BackpropRegressor
    receiver : str
        Who takes the network over, for error messages.
    activations, outputs : collection of str
        Names of activations and output transforms that the receiver can hold.

    Raises
    ------
    ValueError
        Names what the receiver cannot hold.
    NotFittedError
        If the estimator was not fitted.
    """
    refuse_ensemble(estimator, receiver)
    check_is_fitted(estimator)
    coefs, intercepts = map(list, check_attributes(vars(estimator), goes_on=False))
    names = [
        _name_of(entry, receiver, activations)
        for entry in activations_for(estimator.activation, len(coefs) - 1)
    ]
    output = estimator.out_activation_
    if output not in outputs:
        raise ValueError(
            f"{receiver} cannot hold the output {output!r} of loss={estimator.loss!r}: expected "
            f"one of {sorted(outputs)}."
        )
    state = vars(estimator)
    units = None
    if "target_scale_" in state and output == "identity":
        mean, scale = state["target_mean_"], state["target_scale_"]
        units = TargetUnits(mean.astype(np.float64), scale.astype(np.float64))
    kind, classes = state.get("_target_kind", "regression"), state.get("classes_")
    if estimator._has_one_class:  # probability 1 whatever the score, as of a softmax of one
        kind, output = "multiclass", "softmax"
    network = FittedNetwork(kind, coefs, intercepts, names, output, classes, units)
    _compare(network, estimator, receiver)
    return network


def predictions(estimator: Any, X: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the probabilities or values that `estimator` predicts, (n_samples, n_columns)."""
    twin = copy(estimator)
    vars(twin).pop("feature_names_in_", None)  # it would warn of an X without names
    values = twin.predict_proba(X) if hasattr(twin, "predict_proba") else twin.predict(X)
    return np.asarray(values).reshape(len(X), -1)


def plain_labels(classes: NDArray[Any], receiver: str) -> NDArray[Any]:
    """Return class labels as every receiver of labels can hold them.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
    receiver : str
        Who takes them over, for error messages.

    Returns
    -------
    ndarray of shape (n_classes,)
        Of int64 (booleans too), of float64, or of text that UTF-8 can hold.

    Raises
    ------
    ValueError
        If the labels are none of these, or would change: names their dtype and the way out.
    """
    kind = classes.dtype.kind
    if kind in "iub" and int(classes.max()) < 2**63:
        return classes.astype(np.int64)
    if kind == "f" and (classes.astype(np.float64) == classes).all():
        return classes.astype(np.float64)
    if kind in "TU" or (kind == "O" and all(isinstance(label, str) for label in classes)):
        try:
            "\n".join(classes).encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{receiver} cannot hold the class labels: {error}.") from error
        return classes.astype(str) if kind != "O" else classes
    raise ValueError(
        f"{receiver} cannot hold class labels of dtype {classes.dtype} such as {classes[-1]}: "
        "expected integers below 2**63, numbers of float64 or text. Fit on the codes of "
        "sklearn.preprocessing.LabelEncoder().fit_transform(y), and look the label up in its "
        "classes_."
    )


def _name_of(entry: Any, receiver: str, activations: Collection[str]) -> str:
    """Return an entry's name if it is built in and on the receiver's list."""
    known = sorted(set(activations) & set(ACTIVATIONS))
    if ACTIVATIONS.get(entry.name) != entry:
        raise ValueError(
            f"{receiver} cannot hold the activation {entry!r}, which is not one of fastbp's own "
            f"by name: expected one of {known}."
        )
    if entry.name not in activations:
        raise ValueError(
            f"{receiver} cannot hold the activation {entry.name!r}: expected one of {known}."
        )
    return entry.name


def _compare(network: FittedNetwork, estimator: Any, receiver: str) -> None:
    """Raise ValueError unless the estimator's predictions are those of `network`."""
    X = np.random.default_rng(0).standard_normal((4, network.layer_sizes[0]))
    X = X.astype(network.dtype)
    with np.errstate(all="ignore"):
        raw, found = network.raw_scores(X), predictions(estimator, X)
        slack = TOLERANCE[network.dtype.name] * (1 + np.abs(raw).max())
        if network.output == "softmax":
            wanted = np.exp(raw - raw.max(axis=1, keepdims=True))
            wanted /= wanted.sum(axis=1, keepdims=True)
            low, high = wanted - 2 * slack, wanted + 2 * slack
        else:  # these transforms are increasing, so that a band of scores is one of predictions
            low, high = (_transform(network, raw + side) for side in (-slack, slack))
            if network.target_units is None:  # else these would be units of y
                low, high = low - slack, high + slack
            low, high = low.astype(found.dtype), high.astype(found.dtype)  # inf where it is inf
            found = found[:, 1:] if network.kind == "binary" else found
        same = found.shape == low.shape and ((low <= found) & (found <= high)).all()
    if not same:
        raise ValueError(
            f"{receiver} cannot hold this {type(estimator).__name__}: its predictions are not "
            "those of its weights, activations and output alone. Fit without the setting that "
            "changes what it predicts."
        )


def _transform(network: FittedNetwork, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    if network.target_units is not None:
        return restore(scores, network.target_units.mean, network.target_units.scale)
    if network.output == "exp":
        return np.exp(scores)
    return 1 / (1 + np.exp(-scores)) if network.output == "logistic" else scores
