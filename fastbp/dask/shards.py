"""What workers do: a shard of the data, and the tasks that train on it.

Each task is a function of its arguments alone, so that Dask may run it again, on any worker.  No
Dask here, and nothing of who runs a task where.
"""

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse
from sklearn import config_context, get_config
from sklearn.base import clone, is_classifier

from fastbp.dask.averages import Given, Sum, join_state
from fastbp.data.features import check_features
from fastbp.data.held_out import NOTHING
from fastbp.data.weights import weigh_samples
from fastbp.engine import get_engine
from fastbp.estimators.classifier import BackpropClassifier
from fastbp.estimators.fitting import OpenFit
from fastbp.estimators.regressor import BackpropRegressor
from fastbp.messages import keep_warnings
from fastbp.streams.summary import LabelCounts, NumberSums
from fastbp.training.randomness import derive_seed
from fastbp.versions import __version__


@dataclass
class Shard:
    """A fixed group of partitions, as arrays or a frame.

    Attributes
    ----------
    number : int
    name : str
        What errors call it.
    X, y, sample_weight : as for `fit`
    n_rows : int
    """

    number: int
    name: str
    X: Any
    y: Any
    sample_weight: Any
    n_rows: int


@dataclass
class Job:
    """What stays the same from the first task to the last.

    Attributes
    ----------
    estimator : BackpropClassifier or BackpropRegressor
        Not fitted.
    seed : int
    n_shards : int
    scale : float
        Times `learning_rate_init`.
    found : LabelCounts, NumberSums or None
        Classes or mean and spread over all shards; None while it is looked for, and for one shard.
    validation : tuple of X_val, y_val, sample_weight_val
    """

    estimator: Any
    seed: int
    n_shards: int
    scale: float = 1.0
    found: Any = None
    validation: tuple = NOTHING
    version: str = __version__

    def __post_init__(self):
        self.config = get_config()

    @contextmanager
    def open(self, shard=None):
        """Compute as on the user's side; yield a list that gets the warnings."""
        if self.version != __version__:
            raise RuntimeError(
                f"The worker has fastbp {__version__}, the data come from fastbp {self.version}: "
                "install the same on all."
            )
        kept = []
        try:
            with config_context(**self.config), keep_warnings(kept):
                yield kept
        except Exception as error:
            if shard is not None:
                error.add_note(f"This is about {shard.name}.")
            raise


# ------------------------------------------------------------------------- the data


class PartitionError(ValueError):
    """The partitions of a shard are there, but do not fit together."""


def join(number, name, first, parts):
    """Put partitions together: the task that makes a shard.

    Parameters
    ----------
    number : int
    name : str
    first : int
        Number of the first partition.
    parts : list of tuple of X, y and sample_weight or None
    """
    for k, (X, y, weight) in enumerate(parts):
        lengths = [len(y), *([] if weight is None else [len(weight)])]
        if any(length != X.shape[0] for length in lengths):
            raise PartitionError(
                f"Partition {first + k} has {X.shape[0]} rows of X, but {lengths[0]} of y"
                + (f" and {lengths[1]} of sample_weight" if len(lengths) > 1 else "")
                + ". Give X, y and sample_weight the same partitions."
            )
    parts = [part for part in parts if part[0].shape[0]]
    if not parts:
        raise PartitionError(
            f"There is not a single row in {name}. Repartition the data, or use a smaller n_shards."
        )
    X, y, weight = (
        None if pieces[0] is None else _concatenate(pieces) for pieces in zip(*parts, strict=True)
    )
    return Shard(number, name, X, y, weight, X.shape[0])


def _concatenate(pieces):
    """Put the rows of arrays, sparse matrices, frames or series one below the other."""
    if len(pieces) == 1:
        return pieces[0]
    if scipy.sparse.issparse(pieces[0]):
        return scipy.sparse.vstack(pieces, format="csr")
    if hasattr(pieces[0], "iloc"):
        import pandas as pd

        return pd.concat(pieces)
    return np.concatenate([np.asarray(piece) for piece in pieces])


def look(job, shard):
    """Find the classes of a shard and how often they occur, or mean and spread of its targets.

    Returns
    -------
    LabelCounts or NumberSums, and the number of features
    """
    with job.open(shard):
        estimator = clone(job.estimator)
        y, weight = shard.y, shard.sample_weight
        y = y.to_numpy() if hasattr(y, "to_numpy") else np.asarray(y)
        y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
        weight = None if weight is None else np.asarray(weight, np.float64)
        engine = get_engine(estimator.engine)
        check_features(estimator, shard.X, estimator._training_dtype, engine, reset=True)
        found = LabelCounts(estimator) if is_classifier(estimator) else NumberSums(estimator)
        found.add(y, weight)
        return found, estimator.n_features_in_


# ------------------------------------------------------------------------- one of many shards


class _OneOfMany:
    """An estimator that knows of all shards what a fit learns from y before it trains."""

    _found: Any = None
    _seed = 0

    def _check_y(self, y, n_samples, dtype, *, fresh, incremental):
        if fresh and isinstance(self._found, LabelCounts):
            self.classes_, incremental = self._found.classes, True
        return super()._check_y(y, n_samples, dtype, fresh=fresh, incremental=incremental)

    def _find_class_weights(self, targets, *, incremental, counts=None):
        if not isinstance(self._found, LabelCounts):
            return None
        counts = list(self._found.counts)
        return super()._find_class_weights(None, incremental=False, counts=counts)

    def _learn_scale(self, measure, *, fresh):
        super()._learn_scale(self._found.moments.result, fresh=fresh)

    def _first_progress(self, problem, random_state):
        """Start where all shards start: the same draws, and the best constant of all rows."""
        targets, weight = self._found.as_targets(problem.dtype)
        if not isinstance(self._found, LabelCounts):
            targets = np.ascontiguousarray(
                self._scale(targets, None, problem.dtype, fresh=False), problem.dtype
            )
        elif problem.class_weights is not None and weight is not None:
            weight = weigh_samples(problem.class_weights, targets, weight)
        random_state = np.random.RandomState(self._seed)
        whole = replace(problem, targets=targets, sample_weight=weight)
        return super()._first_progress(whole, random_state)


class _Classifier(_OneOfMany, BackpropClassifier):
    pass


class _Regressor(_OneOfMany, BackpropRegressor):
    pass


_Classifier.__name__, _Regressor.__name__ = "BackpropClassifier", "BackpropRegressor"


def _begin(job, shard, given, *, validation=NOTHING, **reached):
    """Open the fit of one of many shards, where it is after the last average."""
    seed, state = derive_seed(job.seed, shard.number, given.n_trained), None
    if given.average is not None:
        state = join_state(given.average, given.own[shard.number], shard.n_rows, seed)
        state = replace(state, **reached)
    kind = _Classifier if is_classifier(job.estimator) else _Regressor
    estimator = kind(**clone(job.estimator).get_params(deep=False))
    estimator.set_params(
        random_state=seed, early_stopping=False, n_iter_no_change=np.inf,
        tol=0.0, max_time=None, verbose=False,
        learning_rate_init=job.scale * job.estimator.learning_rate_init,
    )  # fmt: skip
    estimator._found, estimator._seed = job.found, job.seed
    return OpenFit(estimator, shard.X, shard.y, shard.sample_weight, validation, state=state)


def train(job, shard, given, until):
    """Train a shard from the last average up to an epoch: one task of a round.

    Parameters
    ----------
    job : Job
    shard : Shard
    given : Given
    until : int

    Returns
    -------
    Sum
    """
    with job.open(shard) as kept:
        fit = _begin(job, shard, given)
        try:
            fit.advance(until)
            reached = fit.training.state()
        finally:
            fit.close()
        return Sum.of_shard(shard.number, shard.n_rows, reached, kept)


def draw(job, shard):
    """Return the weights with which all shards begin."""
    with job.open(shard):
        fit = _begin(job, shard, Given())
        fit.close()
        return fit.progress.params.copy()


def measure(job, shard, given):
    """Measure an average on the validation data: loss and score."""
    with job.open():
        fit, params = _begin(job, shard, given, validation=job.validation), given.average["params"]
        try:
            session = fit.problem.open_session(params.astype(fit.problem.dtype), 1)
            try:
                return fit.validation.measure(session, params)
            finally:
                session.close()
        finally:
            fit.close()


def finish(job, shard, given, reached):
    """Turn what all shards have reached into fitted attributes.

    Parameters
    ----------
    reached : dict
        Fields of `Progress` that are those of all shards.
    """
    with job.open(shard):
        fit = _begin(job, shard, given, **reached)
        fit.finish()
        found, optimizer = attributes_of(fit.estimator), fit.estimator._optimizer
        for name in ("learning_rate_init", "learning_rate"):  # for one that goes on alone
            optimizer[name] /= job.scale
        return {name: found[name] for name in found if name not in ("_found", "_seed")}


# ------------------------------------------------------------------------- one shard


def train_alone(job, shard, state, until):
    """Train the only shard up to an epoch: the very fit of the ordinary estimator.

    Returns
    -------
    state : Progress or None
        None if training has ended.
    attributes : dict or None
        Of the fitted estimator, if it has.
    kept : list of warnings
    """
    with job.open() as kept:
        estimator = clone(job.estimator)
        fit = OpenFit(estimator, shard.X, shard.y, shard.sample_weight, job.validation, state=state)
        if fit.advance(until):
            fit.finish()
            return None, attributes_of(estimator), kept
        try:
            return fit.training.state(), None, kept
        finally:
            fit.close()


def attributes_of(estimator):
    """Return what an estimator has besides its parameters."""
    parameters = set(estimator.get_params(deep=False))
    return {name: value for name, value in vars(estimator).items() if name not in parameters}
