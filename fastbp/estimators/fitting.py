"""One call of `fit` or `partial_fit`: begun, trained, ended; or trained in parts.

Here stands what belongs together in a call, in its order; what each step means is the estimator's
(`base`) and `training`'s business.  Who trains in parts (a search, which compares fits that are not
finished) gets the very fit that runs through, bit for bit.
"""

import time
from contextlib import ExitStack
from copy import copy, deepcopy
from functools import partial

from fastbp.data.held_out import NOTHING
from fastbp.data.problem import prepare
from fastbp.engine import get_engine
from fastbp.estimators.attributes import check_state
from fastbp.optimizers import is_full_batch
from fastbp.streams.problem import prepare_stream, refuse_beside_source
from fastbp.streams.source import Source, refuse_validation_source
from fastbp.training.callbacks import watch_tasks
from fastbp.training.causes import warn_of_data
from fastbp.training.keeping import Keeper, check_can_be_kept
from fastbp.training.lbfgs import train_lbfgs
from fastbp.training.minibatches import Training
from fastbp.training.progress import HISTORY
from fastbp.training.randomness import own_stream
from fastbp.training.rounded import warn_of_far_columns
from fastbp.training.sameness import identify, identify_weights, update_goal
from fastbp.training.snapshots import find_snapshot
from fastbp.training.stopping import DIVERGED, ENDS, find_deadline


class OpenFit:
    """A fit that has begun: `advance` until it has ended, then `finish`; or `close` it.

    Parameters
    ----------
    estimator : BackpropClassifier or BackpropRegressor
        Gets the fitted attributes in `finish`, and those that describe data at once.
    X, y, sample_weight : as given to `fit`
    validation : tuple of X_val, y_val, sample_weight_val
    incremental : bool, default=False
        Whether it is a `partial_fit`.
    snapshot : Snapshot, path or None, default=None
        Where to keep the state of the fit; one that an earlier life of it has left there is where
        it goes on.
    state : Progress or None, default=None
        The `state` of a pause in this very fit, perhaps in another process, to go on from.

    Raises
    ------
    ValueError, TypeError
        For bad parameters or data.  What any step raises leaves the attributes half-way: `fit` puts
        them back, and a search throws its copy away.
    """

    def __init__(
        self, estimator, X, y, sample_weight=None, validation=NOTHING, *, incremental=False,
        snapshot=None, state=None,
    ):  # fmt: skip
        begun, settings = time.perf_counter(), estimator._check_parameters()
        get_engine(settings.engine)  # where there is none, nothing else need be said
        snapshot = None if incremental else find_snapshot(estimator, snapshot)
        if snapshot is not None:
            check_can_be_kept(settings, X, validation[0])
        fresh = not (estimator.__sklearn_is_fitted__() and (incremental or settings.warm_start))
        refuse_validation_source(X, validation[0])
        deadline = find_deadline(begun, settings, incremental=incremental)
        if isinstance(X, Source):
            refuse_beside_source(y, sample_weight)
            problem, y = prepare_stream(
                estimator, X, validation, settings=settings, fresh=fresh, deadline=deadline
            )
            tasks = watch_tasks(estimator, *problem.as_given(y), settings)
        else:
            tasks = None if incremental else watch_tasks(estimator, X, y, sample_weight, settings)
            problem = prepare(
                estimator, X, y, sample_weight, validation, settings=settings, fresh=fresh,
                incremental=incremental, deadline=deadline,
            )  # fmt: skip
        warn_of_data(problem, fresh=fresh, incremental=incremental)
        estimator._keep("_class_weights", problem.class_weights)
        past = dict(vars(estimator))
        for name in HISTORY:
            vars(estimator).pop(name, None)
        if tasks:
            tasks.set_description(partial(estimator._fitted_attributes, problem))
        self.estimator, self.problem, self.tasks = estimator, problem, tasks
        self.incremental = incremental
        self.seen = identify(problem, incremental=incremental)
        self.validation, scorer = estimator._open_validation(problem, y)
        self.lent, self.training = ExitStack(), None
        stream = self.lent.enter_context(own_stream(settings.random_state))
        if fresh:
            self.progress = estimator._first_progress(problem, stream[0])
        else:
            self.progress = estimator._last_progress(
                problem, past, self.seen, incremental=incremental
            )
        self.keeper = None
        if snapshot is not None:
            self.keeper = Keeper(snapshot, estimator, problem, None if fresh else self.progress)
            state = self.keeper.find()
        if state is not None:
            check_state(state, len(self.progress.params), problem.X.shape[0])
            self.progress = deepcopy(state)
        if self.progress.ended:  # long ago
            stream[1].state = self.progress.place["stream"]
        elif not is_full_batch(settings.solver):
            self.training = Training(
                problem, self.progress, stream, incremental=incremental, tasks=tasks,
                validation=self.validation, scorer=scorer, continues=state is not None,
                keeps_place=snapshot is not None,
            )  # fmt: skip
            if fresh or not incremental:
                self._warn_of_far_columns()

    def _warn_of_far_columns(self):
        try:
            warn_of_far_columns(self.problem, self.training.run.batch_size)
        except BaseException:  # where warnings are errors
            self.close()
            raise

    def advance(self, until=None):
        """Train up to an epoch, counted from the beginning; return whether the fit has ended.

        None trains to the end, and so does 'lbfgs', which makes no pauses.
        """
        try:
            if self.progress.ended:
                return True
            if self.keeper is not None:
                return self.keeper.advance(self.training, until)
            if self.training is not None:
                return self.training.advance(until)
            train_lbfgs(self.problem, self.progress, tasks=self.tasks, validation=self.validation)
        except BaseException as error:
            self._give_up(error)
            raise
        return True

    def _give_up(self, error):
        """Leave the last state in the file, unless what ends the process has come; and close."""
        try:
            if self.keeper is not None and isinstance(error, Exception):
                self.keeper.leave()
        finally:
            self.close()

    def limit_threads(self, n_threads):
        """Train on at most so many threads from now on, and never on more than at first."""
        if self.training is not None:
            self.training.run.session.limit_threads(n_threads)

    @property
    def failure(self):
        """What was wrong with the data, after which the model so far is kept; or None."""
        return None if self.training is None else self.training.run.failure

    def look(self):
        """Return a fitted copy of the estimator as if the fit ended now, to predict with."""
        twin = copy(self.estimator)
        vars(twin).update(twin._fitted_attributes(self.problem, self.training.run.predictor()))
        return twin

    def finish(self):
        """Turn what training reached into fitted attributes."""
        estimator, problem, progress, seen = self.estimator, self.problem, self.progress, self.seen
        try:
            if self.training is not None:
                self.training.finish()
            self._end_state()
        except BaseException as error:
            self._give_up(error)
            raise
        self.lent.close()
        vars(estimator).update(estimator._fitted_attributes(problem, progress))
        update_goal(seen, problem)
        if "problem" in seen or progress.holds_raw_weights:
            seen["weights"] = identify_weights(
                problem.engine, estimator.coefs_, estimator.intercepts_
            )
        estimator._keep("_seen", seen or None)
        if self.tasks:
            self.tasks.end(partial(deepcopy, progress))

    def _end_state(self):
        """Keep the last state, and leave what a later call goes on from."""
        progress, settings = self.progress, self.problem.settings
        stop = self.problem.asked_to_stop
        is_whole = progress.ended in ENDS and not (stop is not None and stop.is_set())
        if self.keeper is not None and self.training is not None:
            if is_whole:
                self.keeper.end(progress)
            else:
                self.keeper.leave()
        keeps_place = settings.warm_start == "resume" and progress.ended != DIVERGED
        if not (keeps_place or self.incremental):
            progress.place = None

    def close(self):
        """Give the fit up, and its session's memory; a stream that was lent stays as it was."""
        if self.training is not None:
            self.training.close()
