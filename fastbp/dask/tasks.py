"""The tasks of a round: a shard trained from the last average, an average measured, a fit finished.

Each is a function of its arguments alone, so that Dask may run it again, on any worker.  What a
shard keeps open between rounds (checked arrays) only saves time: the bits are those of the
arguments.  No Dask here, and nothing of who runs a task where.
"""

from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
from sklearn.base import clone, is_classifier

from fastbp.dask.averages import Sum, join_state
from fastbp.data.problem import prepare
from fastbp.data.weights import weigh_samples
from fastbp.estimators.fitting import OpenFit
from fastbp.messages import keep_warnings
from fastbp.streams.summary import LabelCounts
from fastbp.tabular.recipe import deal_rows
from fastbp.training.causes import warn_of_data
from fastbp.training.minibatches import Training
from fastbp.training.randomness import derive_seed, own_stream
from fastbp.training.rounded import warn_of_far_columns
from fastbp.training.scoring import Scorer, Validation, find_scorer
from fastbp.training.steps import choose_batch_size
from fastbp.training.watching import DivergenceError

# ------------------------------------------------------------------------- one of many shards


class OneOfMany:
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


@cache
def one_of_many(kind):
    """Return the class of estimators of this kind that know of all shards."""
    return type(kind.__name__, (OneOfMany, kind), {"__module__": kind.__module__})


def copy_of(estimator, kind):
    """Return an estimator of another class that is not fitted, with all that `fit` needs."""
    new = kind(**clone(estimator).get_params(deep=False))
    for name in ("_n_members", "_continues"):
        if name in vars(estimator):
            setattr(new, name, getattr(estimator, name))
    return new


class Opened:
    """The part of a fit that one shard has: checked arrays, which rows are trained on.

    Attributes
    ----------
    estimator : BackpropClassifier or BackpropRegressor
        With the attributes that describe data.
    problem : Problem
    rows : int64 ndarray
        To train on.
    validation : Validation or None
        The user's, or of the rows that are held out.
    batch_size, n_steps : int
        Of a step, and of the whole training.
    said : list
        Warnings about the data.
    """

    said: list

    def __init__(self, job, shard):
        estimator = copy_of(job.estimator, one_of_many(type(job.estimator)))
        estimator.set_params(
            random_state=job.seed, early_stopping=False, n_iter_no_change=np.inf, tol=0.0,
            max_time=None, verbose=False, max_iter=job.n_pieces * job.estimator.max_iter,
            learning_rate_init=job.scale * job.estimator.learning_rate_init,
        )  # fmt: skip
        estimator._found, estimator._seed = job.found, job.seed
        settings = estimator._check_parameters()
        problem = prepare(
            estimator, shard.X, shard.y, shard.sample_weight, job.validation, settings=settings
        )
        warn_of_data(problem, fresh=True, incremental=False)
        estimator._keep("_class_weights", problem.class_weights)
        self.estimator, self.problem, self.rows = estimator, problem, problem.all_rows()
        self.validation, _ = estimator._open_validation(problem, None)
        if job.parts is not None:
            self._hold_out(job, shard)
        self.batch_size = choose_batch_size(settings.batch_size, len(self.rows), quiet=True)
        n_steps = -(-len(self.rows) // self.batch_size)
        self.n_steps = n_steps * job.estimator.max_iter
        if shard.number == 0:  # one warning of them, not one for each shard's own figures
            warn_of_far_columns(problem, self.batch_size)

    def _hold_out(self, job, shard):
        """Deal the rows into parts, and hold one of them out."""
        problem, (n_parts, part, seed) = self.problem, job.parts
        draws = np.random.RandomState(derive_seed(seed, shard.number))
        dealt = deal_rows(
            problem.targets, problem.sample_weight, n_parts, draws,
            classes=is_classifier(self.estimator),
        )  # fmt: skip
        self.rows, aside = dealt[part % len(dealt)]
        scoring, scorer = problem.settings.scoring, None
        if (function := find_scorer(scoring)) is not None:
            answers = self.estimator._answers(shard.y, problem.targets)
            made = partial(self.estimator._make_fitted, problem)
            scorer = Scorer(function, made, problem.given, answers)
        self.validation = Validation.of_rows(problem, aside, scoring, scorer)

    def first(self):
        """Return the state with which all shards begin."""
        return self.estimator._first_progress(self.problem, None)

    def piece(self, job, seed, number):
        """Return the rows of a piece, counted from the first epoch."""
        epoch, k = divmod(number, job.n_pieces)
        rows, n_steps = self.rows, -(-len(self.rows) // self.batch_size)
        if self.problem.settings.shuffle:
            rows = np.random.RandomState(derive_seed(seed, epoch)).permutation(rows)
        first, last = (n_steps * part // job.n_pieces for part in (k, k + 1))
        return rows[first * self.batch_size : last * self.batch_size]


def open_shard(job, shard):
    """Return what this process keeps open of a shard for a job; nothing of earlier jobs."""
    key = job.key, job.validation[0] is not None
    if key not in shard.opened:
        said: list = []
        with keep_warnings(said):
            opened = Opened(job, shard)
        opened.said = said
        shard.opened = {key: opened}
    return shard.opened[key]


def train(job, shard, given, until):
    """Train a shard from the last average up to an epoch, or piece: one task of a round.

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
        opened, goes_on = open_shard(job, shard), given.average is not None
        seed = derive_seed(job.seed, shard.number, given.n_trained)
        if goes_on:
            state = join_state(given.average, given.own[shard.number], shard.n_rows, seed)
        else:
            state = opened.first()
        with own_stream(seed) as stream:
            training = Training(opened.problem, state, stream, continues=goes_on)
        try:
            if job.n_pieces > 1:
                own = derive_seed(job.seed, shard.number)
                training.take(opened.piece(job, own, given.n_trained), opened.n_steps)
            else:
                training.take(opened.rows.copy())
            training.advance(until)
            reached, n_seen = training.state(), len(training.run.order)
        except DivergenceError as error:
            if job.scale != 1.0:
                error.add_note(
                    f"Each shard steps at {job.scale:g} times your learning_rate_init: "
                    "scale_learning_rate=False leaves it as it is."
                )
            raise
        finally:
            training.close()
        return Sum.of_shard(shard.number, shard.n_rows, reached, n_seen, opened.said + kept)


def draw(job, shard):
    """Return the weights with which all shards begin."""
    with job.open(shard):
        return open_shard(job, shard).first().params


def measure(job, shard, given):
    """Measure an average on validation data.

    Returns
    -------
    loss, score : float
    weight : float
        What they count beside those of other shards: rows, or their weight.
    """
    with job.open(shard):
        opened, params = open_shard(job, shard), given.average["params"]
        problem, weight = opened.problem, opened.validation.problem.sample_weight
        session = problem.open_session(params.astype(problem.dtype), 1)
        try:
            loss, score = opened.validation.measure(session, params)
        finally:
            session.close()
        n_rows = opened.validation.problem.X.shape[0]
        return loss, score, float(n_rows if weight is None else weight.sum())


def finish(job, shard, given, reached):
    """Turn what all shards have reached into fitted attributes.

    Parameters
    ----------
    reached : dict
        Fields of `Progress` that are those of all shards.
    """
    with job.open(shard):
        opened = open_shard(job, shard)
        estimator, own = opened.estimator, given.own[shard.number]
        state = join_state(given.average, own, shard.n_rows, job.seed)
        state = replace(state, place=None, **reached)
        found = attributes_of(estimator) | estimator._fitted_attributes(opened.problem, state)
        optimizer = dict(found["_optimizer"])
        for name in ("learning_rate_init", "learning_rate"):  # for one that goes on alone
            optimizer[name] /= job.scale
        found["_optimizer"] = optimizer
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
        estimator, validation = copy_of(job.estimator, type(job.estimator)), job.validation
        if job.parts is not None:  # a network of a table
            estimator._parts, validation = shard.parts[job.parts[1]], shard.held_out
            estimator._calibrates = job.estimator._calibrates
        fit = OpenFit(estimator, shard.X, shard.y, shard.sample_weight, validation, state=state)
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
