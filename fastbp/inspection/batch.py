"""From what a user passes to a network and a batch: float64 arrays, and the entries of the tables.

Here pipelines, searches and target transformers are opened, X and y become the problem that `fit`
minimised, and the scalar formulas are applied to arrays.  No chain rule: that is in
`backpropagation`.
"""

import reprlib
from dataclasses import dataclass
from types import ModuleType

import numpy as np
from sklearn.compose import TransformedTargetRegressor
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from fastbp.activations import activations_for
from fastbp.data.features import check_features
from fastbp.data.problem import Problem, look_at
from fastbp.descriptions import is_own
from fastbp.engine import find_kernels, get_engine
from fastbp.estimators import BackpropClassifier, BackpropRegressor
from fastbp.estimators.attributes import check_attributes, network_of
from fastbp.optimizers import is_full_batch
from fastbp.tabular.attributes import refuse_ensemble

LOOK = "fastbp's inspection"
OURS = (BackpropClassifier, BackpropRegressor)
SCALERS = {
    "StandardScaler", "RobustScaler", "MinMaxScaler", "MaxAbsScaler", "QuantileTransformer",
    "PowerTransformer",
}  # fmt: skip


def open_wrappers(estimator, X=None, y=None):
    """Find the fastbp estimator in pipelines, searches and target transformers.

    Parameters
    ----------
    estimator : estimator
        Fitted.
    X, y : array-like or None
        Data as `estimator` takes them.

    Returns
    -------
    estimator : BackpropClassifier or BackpropRegressor
    X, y : array-like or None
        The data as that estimator takes them.

    Raises
    ------
    TypeError
        If there is no estimator of fastbp inside.
    sklearn.exceptions.NotFittedError
    """
    whole = estimator
    refuse_ensemble(estimator, LOOK)
    while not isinstance(estimator, OURS):
        if isinstance(estimator, Pipeline):
            if X is not None and len(estimator) > 1:
                X = estimator[:-1].transform(X)
            estimator = estimator[-1]
        elif isinstance(estimator, TransformedTargetRegressor):
            check_is_fitted(estimator)
            if y is not None:
                y = np.asarray(y)
                y = estimator.transformer_.transform(y.reshape(-1, 1) if y.ndim == 1 else y)
                y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
            estimator = estimator.regressor_
        elif hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        else:
            if hasattr(estimator, "fit"):
                check_is_fitted(estimator)
            raise TypeError(
                "Expected a fitted BackpropClassifier or BackpropRegressor, or a pipeline, search "
                "(with refit=True) or TransformedTargetRegressor that ends in one. Got "
                f"{type(estimator).__name__}"
                f"{'' if estimator is whole else f' in {type(whole).__name__}'}."
            )
        refuse_ensemble(estimator, LOOK)
    check_is_fitted(estimator)
    return estimator, X, y


def is_scaled(estimator):
    """Whether a step that scales the columns of X stands before the network."""
    names = set()
    while not isinstance(estimator, OURS):
        if isinstance(estimator, Pipeline):
            names |= {type(step).__name__ for step in estimator.named_steps.values()}
            estimator = estimator[-1]
        elif hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        else:
            estimator = estimator.regressor_
    return bool(names & SCALERS)


def feature_names(estimator):
    """Return the names of a fitted estimator's features, or None.

    Raises
    ------
    ValueError
        If an edited `feature_names_in_` is no list of them.
    """
    names = vars(estimator).get("feature_names_in_")
    if names is None:
        return None
    n_features = network_of(vars(estimator))[0][0].shape[0]
    is_list = isinstance(names, np.ndarray | list | tuple) and len(np.shape(names)) == 1
    if not (is_list and len(names) == n_features):
        raise ValueError(
            f"The fitted attribute feature_names_in_ must be an array of {n_features} names, one "
            f"for each feature, but it is {reprlib.repr(names)}. Set it back, or fit again."
        )
    return list(map(str, names))


@dataclass
class Network:
    """A fitted network in float64, and the entries that say what its formulas are."""

    estimator: BackpropClassifier | BackpropRegressor
    engine: ModuleType
    coefs: list
    intercepts: list
    activations: list

    @classmethod
    def of(cls, estimator):
        """Copy the weights of a fitted estimator."""
        coefs, intercepts = (
            [array.astype(np.float64) for array in arrays]
            for arrays in check_attributes(vars(estimator), goes_on=False)
        )
        entries = activations_for(estimator.activation, len(coefs) - 1)
        return cls(estimator, get_engine(estimator.engine), coefs, intercepts, entries)

    def features(self, X):
        """Check X as `predict` does; float64, CSR where it is sparse."""
        return check_features(
            self.estimator, X, lambda given: np.float64, self.engine, reset=False
        )[0]


@dataclass
class Batch:
    """Samples for a network, as the problem that `fit` minimised, in float64.

    Parameters
    ----------
    problem : fastbp.data.problem.Problem
    penalty : float
        Factor of ``|W|^2 / 2`` in the loss.  Each minibatch adds ``alpha / sum(its weights)`` of
        it, so that an epoch over the samples reports their number of minibatches times
        ``alpha / sum(weights)``.
    n_samples : int
        How many there were before some were taken.
    """

    problem: Problem
    penalty: float
    n_samples: int

    @classmethod
    def of(cls, network, X, y, sample_weight, max_samples=None):
        """Check X, y and sample_weight as `fit` does, and take at most so many rows, evenly spread.

        Raises
        ------
        ValueError, TypeError
            As in `fit`, and if y has another number of outputs than the network.
        """
        estimator = network.estimator
        problem = look_at(estimator, X, y, sample_weight)
        n_samples, weight = problem.X.shape[0], problem.sample_weight
        total = n_samples if weight is None else float(weight.sum())
        penalty = float(estimator.alpha) * _count_steps(estimator, n_samples) / total
        if max_samples is not None and n_samples > max_samples:
            problem = problem.of_rows(np.linspace(0, n_samples - 1, max_samples).astype(int))
        return cls(problem, penalty, n_samples)

    X = property(lambda self: self.problem.X, doc="Features, dense or CSR.")
    targets = property(lambda self: self.problem.targets, doc="Targets in the units of the loss.")
    loss = property(lambda self: self.problem.loss, doc="Row of the loss.")

    @property
    def weights(self):
        """Weight of each sample, that of its class in it."""
        weight = self.problem.sample_weight
        return np.ones(len(self.targets)) if weight is None else weight


def _count_steps(estimator, n_samples):
    """Return the number of minibatches of an epoch."""
    if is_full_batch(estimator.solver):
        return 1
    size = 200 if estimator.batch_size == "auto" else estimator.batch_size
    return -(-n_samples // min(size, n_samples))


# ------------------------------------------------------------------------------ formulas
# All that this package knows of the form of the entries in fastbp.activations and fastbp.losses is
# in the two functions below: fastbp's own formulas run as plain Python, number by number; users'
# own run compiled, which also differentiates those that come without a derivative.


def evaluate_activation(entry, z):
    """Return a = f(z) and the slopes da/dz, both of the shape of z.

    What a function of the user's raises reaches the caller, here and in `evaluate_loss`.
    """
    if not (is_own(entry.value) and is_own(entry.slope)):
        return _checks().evaluate_or_raise("activation", entry, np.ascontiguousarray(z))
    a = _elementwise(entry.value, z)
    return a, _elementwise(entry.slope, a if entry.slope_of == "activation" else z)


def evaluate_loss(entry, targets, raw):
    """Return the loss of each sample (n_samples,) and its gradient (n_samples, n_outputs).

    Both belong to the value that `fit` reports: the mean over the outputs where the entry says so,
    else their sum.
    """
    hyper = (entry.hyper,) if entry.hyper else ()
    if entry.target != "real":  # formulas of all scores of a sample
        gradient = np.empty_like(raw)
        column = (targets[:, 0].astype(int) if entry.target == "class" else targets[:, 0]).tolist()
        values = [entry.value(y, scores, *hyper) for y, scores in zip(column, raw, strict=True)]
        for y, scores, out in zip(column, raw, gradient, strict=True):
            entry.gradient(y, scores, *hyper, out)
        return np.array(values), gradient
    if is_own(entry.value) and is_own(entry.gradient):
        values = _elementwise(lambda y, s: entry.value(y, s, *hyper), targets, raw)
        gradient = _elementwise(lambda y, s: entry.gradient(y, s, *hyper), targets, raw)
    else:
        flat = (np.ascontiguousarray(array).ravel() for array in (targets, raw))
        found = _checks().evaluate_or_raise("loss", entry, *flat)
        values, gradient = (array.reshape(raw.shape) for array in found)
    divisor = raw.shape[1] if entry.output_mean else 1
    return values.sum(axis=1) / divisor, gradient / divisor


def _checks():
    find_kernels()  # says what to do where Numba is missing
    from fastbp.engine.numba import checks

    return checks


def _elementwise(formula, *arrays):
    """Apply a scalar formula to arrays of one shape; inf where it overflows."""

    def number(*arguments):
        try:
            return formula(*arguments)
        except OverflowError:
            return np.inf

    if not arrays[0].size:
        return np.empty(arrays[0].shape)
    return np.vectorize(number, otypes=[np.float64])(*arrays)
