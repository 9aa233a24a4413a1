"""From an estimator and a user's data to the problem that training minimises.

One way for `fit` and for all who look at a fitted estimator (`inspection`, the learning-rate
finder): checked arrays of one dtype, targets in the units of the loss, class weights multiplied
into the sample weights, the loss and the activations as rows of the tables.  Nothing here trains,
and nothing but `prepare` puts these parts together.
"""

from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import scipy.sparse

from fastbp.activations import activations_for
from fastbp.data.features import check_features, check_range, check_sample_weight
from fastbp.data.weights import weigh_samples
from fastbp.engine import get_engine, network, watch_formulas
from fastbp.engine.parallel import thread_ceiling
from fastbp.estimators.attributes import check_attributes, network_of
from fastbp.estimators.parameters import check_parameters, hidden_sizes
from fastbp.losses import Loss, clipped
from fastbp.optimizers import is_full_batch


@dataclass
class Problem:
    """What is trained: a network, a loss, checked data and the engine that works on them."""

    engine: ModuleType
    layer_sizes: tuple
    activations: list
    loss: Loss
    dtype: np.dtype  # of the arithmetic
    X: Any
    targets: np.ndarray
    sample_weight: np.ndarray | None  # times the weight of the sample's class
    n_threads: int
    class_weights: list | None = None  # for each column of targets, by code
    target_units: tuple = ()  # mean and scale that were taken out of y
    given: Any = None  # dtype in which X came
    weights_dtype: Any = None  # in which fitted weights are kept
    one_class: bool = False  # predicted whatever the scores: no warning, no score has news of it
    watch: Any = None  # over the user's functions, if there are any

    def open_session(self, params, batch_size):
        """Make a working copy of `params` in the engine; the caller closes it."""
        return self.engine.Session(
            self.layer_sizes,
            self.activations,
            self.loss,
            dtype=self.dtype,
            params=params,
            batch_size=batch_size,
            n_threads=self.n_threads,
            sparse=scipy.sparse.issparse(self.X),
        )

    def of_rows(self, rows):
        """Return the problem of some of the samples; weights that are all 0 there are left out."""
        weight = None if self.sample_weight is None else self.sample_weight[rows]
        if weight is not None and not weight.any():
            weight = None
        return replace(self, X=self.X[rows], targets=self.targets[rows], sample_weight=weight)


def prepare(estimator, X, y, sample_weight, settings, *, fresh, incremental=False):
    """Turn what came to `fit` or `partial_fit` into a problem.

    Parameters
    ----------
    estimator : BackpropClassifier or BackpropRegressor
        Gets the attributes that describe data: `n_features_in_`, `classes_`, `target_scale_`, ...
    X, y, sample_weight : as given to `fit`
    settings : namespace of the estimator's parameters
    fresh : bool
        Whether training begins anew, or goes on with a fitted network.
    incremental : bool, default=False
        Whether y may lack classes (partial_fit).

    Returns
    -------
    Problem

    Raises
    ------
    ValueError, TypeError
        For bad data.
    """
    engine, old = get_engine(settings.engine), None
    if not fresh:
        goes_on = incremental or settings.warm_start == "resume"
        layers = check_attributes(vars(estimator), goes_on=goes_on)
        estimator.coefs_, estimator.intercepts_ = layers
        old = estimator.coefs_[0].dtype
    choose_dtype = partial(estimator._training_dtype, weights=old)
    full_batch = is_full_batch(settings.solver)
    X, given = check_features(
        estimator, X, _float64 if full_batch else choose_dtype, engine, reset=fresh
    )
    weights_dtype = np.dtype(choose_dtype(given))
    if full_batch:
        check_range(estimator, X, weights_dtype)
    targets, loss = estimator._check_y(y, X.shape[0], X.dtype, fresh, incremental)
    weights = check_sample_weight(estimator, sample_weight, X.shape[0], X.dtype)
    class_weights = estimator._find_class_weights(targets, incremental)
    if class_weights is not None:
        weights = weigh_samples(class_weights, targets, weights)
    targets = estimator._scale(targets, weights, X.dtype, fresh)
    if estimator.dtype is None and not full_batch:  # L-BFGS needs a loss that fits its gradient
        loss = clipped(loss, np.finfo(X.dtype).eps)
    layers = (
        estimator.n_features_in_, *hidden_sizes(settings.hidden_layer_sizes), estimator.n_outputs_
    )  # fmt: skip
    problem = _assemble(
        estimator, settings, engine, layers, X, targets, weights, loss,
        class_weights=class_weights, given=given, weights_dtype=weights_dtype,
    )  # fmt: skip
    problem.watch = watch_formulas(problem.activations, loss, targets, X.dtype)
    return problem


def look_at(estimator, X, y, sample_weight=None):
    """Find the problem that `fit` minimised, on these data and in float64.

    Targets are in the units of the fit, classes have the weights that they had there.  The
    estimator stays as it is.

    Parameters
    ----------
    estimator : BackpropClassifier or BackpropRegressor
        Fitted.
    X, y, sample_weight : as given to `fit`

    Returns
    -------
    Problem

    Raises
    ------
    ValueError, TypeError
        As in `fit`, and if y has another number of outputs than the network.
    """
    probe = copy(estimator)  # the checks may set attributes
    settings = check_parameters(probe, probe._parameter_rules)
    engine, float64 = get_engine(settings.engine), np.dtype(np.float64)
    probe.coefs_, probe.intercepts_ = network_of(vars(probe))
    X, given = check_features(probe, X, _float64, engine, reset=False)
    targets, loss = probe._check_y(y, X.shape[0], float64, False, True)
    n_outputs = probe.coefs_[-1].shape[1]
    if probe.n_outputs_ != n_outputs:
        raise ValueError(
            f"y has {probe.n_outputs_} outputs, but the network was fitted with {n_outputs}."
        )
    weights = check_sample_weight(probe, sample_weight, X.shape[0], float64)
    class_weights = vars(probe).get("_class_weights")
    if class_weights is not None:
        weights = weigh_samples(class_weights, targets, weights)
    targets = probe._scale(targets, None, float64, False)
    layers = network.layer_sizes_of(probe.coefs_)
    return _assemble(
        probe, settings, engine, layers, X, targets, weights, loss,
        class_weights=class_weights, given=given, weights_dtype=float64,
    )  # fmt: skip


def _assemble(estimator, settings, engine, layers, X, targets, weights, loss, **more):
    """Put the parts together, with the rows and the units that belong to them."""
    activations = activations_for(settings.activation, len(layers) - 2)
    state = vars(estimator)
    units = tuple(state[name] for name in ("target_mean_", "target_scale_") if name in state)
    return Problem(
        engine=engine,
        layer_sizes=layers,
        activations=activations,
        loss=loss,
        dtype=X.dtype,
        X=X,
        targets=targets,
        sample_weight=weights,
        n_threads=thread_ceiling(settings.n_threads),
        target_units=units,
        one_class=estimator._has_one_class,
        **more,
    )


def _float64(given):
    return np.float64
