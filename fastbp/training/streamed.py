"""Training on, and measuring of, rows that pass by in windows.

The same verbs as with arrays: an epoch is one call of the engine for each window, which shuffles
its rows.  How windows are made is the business of `streams`.
"""

from contextlib import closing
from dataclasses import replace

import numpy as np

from fastbp.data.row_source import RowSource, SharedRows
from fastbp.losses.combining import combine
from fastbp.streams.rows import SourceError
from fastbp.streams.windows import StreamedRows
from fastbp.training.blocks import ByIndex, InBlocks
from fastbp.training.randomness import draw_seed
from fastbp.training.scoring import LOSS, Validation, r2_of_sums, score_of


class InWindows(InBlocks):
    """A session of an engine that takes `StreamedRows` as X.

    Parameters
    ----------
    session : Session
    X : StreamedRows

    Attributes
    ----------
    look : callable or None
        Called between two windows of the first epoch of a call of `train`; of later ones, all of
        which `train` ends soon, nobody has the losses as yet.
    """

    def __init__(self, session, X):
        super().__init__(session)
        self.X, self.look = X, None

    def begun(self):
        """Return what the epoch in hand has come to, where training goes on within one."""
        return self.X.place["loss"], self.X.place["n_rows"]

    def after_block(self, total, n_seen):
        """Note the place, and let who wants to look at it (`look`): the state is whole here."""
        self.X.reach(n_seen, total)
        if self.look is not None and not self.epochs_done and n_seen < self.X.shape[0]:
            self.look()

    def blocks(self, X, targets, sample_weight, order, shuffle, batch_size):
        """Yield the windows of an epoch; each is shuffled by the engine."""
        with closing(X.epoch()) as windows:
            for part, its_targets, weight in windows:
                yield part, its_targets, weight, np.arange(part.shape[0]), shuffle

    def close(self):
        """Close the session, and end the reading."""
        self.X.close()
        self.session.close()


def begin_to_read(problem, random_state, n_epochs, place, *, within):
    """Let the windows of a streamed problem begin; nothing for one in memory.

    Parameters
    ----------
    problem : Problem
    random_state : RandomState
        Gives the seed of the orders in which parts are read.
    n_epochs : int
    place : dict or None
        Of an earlier call, to go on from.
    within : bool
        Whether to go on within its epoch; an epoch that was left for good is begun anew.
    """
    if isinstance(problem.X, StreamedRows):
        known, seed = None if place is None else place.get("parts"), None
        if known is not None and not within:
            known = known | {"n_rows": 0, "loss": 0.0}
        if known is None and problem.settings.shuffle:
            seed = draw_seed(random_state)
        problem.X.begin(seed, n_epochs, known)


class StreamedValidation:
    """Validation data that are read in windows; loss, accuracy and R2 add up over these.

    Parameters
    ----------
    problem : Problem
        With `StreamedRows` as X; its `targets` are the mean of all targets, for R2.
    scoring : None or "loss"
    """

    scorer, factor = None, 1.0  # what is read in windows calibrates nothing

    def __init__(self, problem, scoring=None):
        self.problem, self.scoring = problem, scoring

    def measure(self, session, params=None):
        """Measure the session's current weights: loss and score, as `Validation.measure` does."""
        problem, X = self.problem, self.problem.X
        total = loss = score = 0.0
        sums = np.zeros((2, problem.layer_sizes[-1]))
        by_r2 = problem.loss.task == "regression"
        X.begin(None, 1)
        try:
            with closing(X.epoch()) as windows:
                for part, targets, weight in windows:
                    share = float(len(targets) if weight is None else weight.sum())
                    if not share:
                        continue
                    scores = self._scores(session, part)
                    loss += share * session.mean_loss(scores, targets, weight)
                    total += share
                    if by_r2:
                        sums += self._squares(scores, targets, weight)
                    else:
                        its = replace(problem, targets=targets, sample_weight=weight)
                        score += share * score_of(its, scores)
        finally:
            X.close()
        loss /= total
        if np.isnan(loss):
            return loss, loss
        if self.scoring == LOSS:
            return loss, -loss
        return loss, r2_of_sums(*sums) if by_r2 else score / total

    def _scores(self, session, X):
        problem = self.problem
        shape = (X.shape[0], problem.layer_sizes[-1])
        if problem.n_members is None:
            scores = np.empty(shape, problem.dtype)
            session.predict_into(X, scores)
            return scores
        scores = np.empty((problem.n_members, *shape), problem.dtype)
        session.predict_into(X, scores)
        return combine(scores, problem.loss.output)

    def _squares(self, scores, targets, weight):
        """Return the sums of squared residuals, and of squares about the mean, of each output."""
        predictions = scores.astype(np.float64)
        self.problem.engine.transform_into(self.problem.loss.output, predictions)
        weight = 1.0 if weight is None else weight[:, np.newaxis].astype(np.float64)
        residuals = (weight * (targets - predictions) ** 2).sum(axis=0)
        return residuals, (weight * (targets - self.problem.targets) ** 2).sum(axis=0)


def open_validation(problem, scoring, scorer):
    """Prepare to measure validation data, in memory or in windows."""
    if isinstance(problem.X, StreamedRows):
        return StreamedValidation(problem, scoring)
    return Validation(problem, scoring, scorer)


def has_failed(error, run):
    """Whether data could not be read or used while there is a model already: steps were made.

    In this call, or in an earlier life of it, from whose state it goes on.
    """
    progress = run.progress
    has_steps = run.session.t > run.optimizer["t"] or progress.n_iter or progress.rows_seen
    return isinstance(error, SourceError) and bool(has_steps)


def wrap_session(session, problem):
    """Return a session that takes the problem's X, whatever that is."""
    if isinstance(problem.X, StreamedRows):
        return InWindows(session, problem.X)
    if isinstance(problem.X, RowSource):
        return InBlocks(session)
    if isinstance(problem.X, SharedRows):
        return ByIndex(session, problem.X, problem.targets, problem.sample_weight)
    return session
