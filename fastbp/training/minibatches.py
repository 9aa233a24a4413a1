"""Training by minibatches: epochs, order, and when they end.

Here stands what happens when, and when it ends.  The arithmetic is the engine's, data
arrive as a `Problem`, `watching` says what follows an epoch, and the estimators turn `Progress`
into fitted attributes.  The messages are scikit-learn's.
"""

import copy
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from fastbp.data.problem import Problem
from fastbp.engine.parallel import one_blas_thread
from fastbp.messages import warn_user
from fastbp.optimizers import OPTIMIZERS
from fastbp.schedules import Function, Schedule, recreate, schedule_for
from fastbp.training.causes import explain_divergence, warn_of_end
from fastbp.training.progress import Progress
from fastbp.training.randomness import draw_seed
from fastbp.training.resuming import find_rows, keep_place, restore_stream
from fastbp.training.scoring import Validation, split_off_validation
from fastbp.training.steps import choose_batch_size, choose_optimizer, open_session
from fastbp.training.stopping import ASKED, DIVERGED, FAILED, LIMIT, PAUSED, PLATEAU, TIME
from fastbp.training.streamed import InWindows, begin_to_read, has_failed
from fastbp.training.watching import (
    DivergenceError,
    Selection,
    Watcher,
    has_best,
    open_selection,
    predicts_finite_scores,
    return_to_best,
)

EPOCHS_PER_CALL = 4096  # when nobody watches in between; bounds the buffer of losses
STEPS_PER_CALL = 65536  # where each step has a learning rate of its own; bounds their buffer

PIECE_S = 0.2  # seconds of training between two looks at the clock, for those who train in parts
INTERRUPTED = "Training interrupted by user."


class Training:
    """Training by minibatches of one call, which changes `progress`; in parts, where wanted.

    A pause between parts changes nothing: schedule, order and stopping are those of the whole
    training, whose session stays open.  Time that passes in a pause does not count in `max_time`.

    Parameters
    ----------
    problem : Problem
    progress : Progress
        Its `params` are replaced, not written to.
    stream : tuple of RandomState and its BitGenerator
    incremental : bool, default=False
        One epoch, going on with `progress.optimizer` (partial_fit).
    tasks : Tasks or None, default=None
        The callbacks to tell of each epoch.
    validation : Validation or None, default=None
        Data of the user's to look at; None draws some where `early_stopping` asks for it.
    scorer : Scorer or None, default=None
        For the data that are drawn.
    continues : bool, default=False
        Whether `progress` is the `state` of this very call, which goes on from there.
    keeps_place : bool, default=False
        Whether `progress` is to be a whole state in the end, too.

    Raises
    ------
    ValueError
        If the validation set is too small; later if loss or weights become non-finite.
    """

    def __init__(
        self, problem, progress, stream, *, incremental=False, tasks=None, validation=None,
        scorer=None, continues=False, keeps_place=False,
    ):  # fmt: skip
        settings = problem.settings
        if incremental and settings.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        self.incremental, self.stream = incremental, stream
        self.resumes = settings.warm_start == "resume" and not incremental
        self.keeps_place = keeps_place
        if continues:
            stream[1].state = progress.place["stream"]
            progress.go_back_to_last()
            if problem.deadline is not None:
                problem.deadline -= progress.seconds
        elif self.resumes:
            restore_stream(progress.place, settings.random_state, stream[1])
        splits = settings.early_stopping and validation is None
        order, self.aside = choose_rows(
            problem, progress, stream[0], splits=splits, resumes=self.resumes or continues
        )
        if splits:
            validation = Validation.of_rows(problem, self.aside, settings.scoring, scorer)
        self.run = open_run(
            problem, progress, stream, order, validation, tasks, incremental=incremental,
            resumes=self.resumes, continues=continues,
        )  # fmt: skip
        self.end, self.paused_at, self.begun_at = PAUSED, time.perf_counter(), None

    def take(self, rows, n_steps=None):
        """Train on some rows instead of all.

        Parameters
        ----------
        rows : int64 ndarray
            Shuffled in place before each epoch, where the settings say so.
        n_steps : int or None, default=None
            Of the whole training, where these rows are a piece of an epoch: in this very order, and
            schedules know how far training is.
        """
        self.run.order = rows
        if n_steps is not None:
            self.run.bits, self.run.n_steps = None, n_steps

    def advance(self, until=None):
        """Train up to an epoch, counted from the beginning; return whether training has ended."""
        problem, self.begun_at = self.run.problem, time.perf_counter()
        if problem.deadline is not None:
            problem.deadline += self.begun_at - self.paused_at
        self.end = train_until(self.run, until)
        self.paused_at = time.perf_counter()
        self.run.progress.seconds += self.paused_at - self.begun_at
        self.begun_at = None
        return self.end != PAUSED

    def let_look(self, look):
        """Let somebody look at the `state` within epochs, too, where rows pass by in windows."""
        if isinstance(self.run.session, InWindows):
            self.run.session.look = look

    def interrupt(self):
        """End training between two parts, as an interrupt within one does."""
        self.end = None
        interrupt(self.run)
        self.run.watcher.close()

    def state(self):
        """Return all that this training needs to go on; shares nothing with it.

        It is whole in a pause, and where `let_look` lets somebody look.
        """
        progress = replace(self.run.progress)
        last = self.run.write_into(progress)
        progress.place = self._place(last)
        progress.rows_seen = progress.place.get("parts", {}).get("n_rows", 0)
        if self.begun_at is not None:
            progress.seconds += time.perf_counter() - self.begun_at
        return self.run.apart(progress, last)

    def _place(self, last):
        run = self.run
        return keep_place(run.order, self.aside, self.stream[1], last, run.problem.X)

    def finish(self):
        """Write what training has reached into `progress`, and warn of what is missing."""
        run, progress, end = self.run, self.run.progress, self.end
        progress.rows_seen = 0  # those of an epoch that was left for good are none
        try:
            last = None if end == DIVERGED else run.write_into(progress)
            if not self.incremental:
                goes_on = self.keeps_place or (self.resumes and end != DIVERGED)
                progress.place = self._place(last) if goes_on else None
        finally:
            self.close()
        problem, progress.ended = run.problem, end
        if not predicts_finite_scores(problem, progress.params):
            raise ValueError(explain_divergence(problem, f"epoch {progress.n_iter}"))
        if not (self.incremental or problem.one_class or problem.n_members):
            warn_of_what_is_missing(run, end)  # members never converge

    def close(self):
        """Close the session, also of a training that is given up."""
        self.run.watcher.close()
        self.run.session.close()


def next_piece(n_epochs, seconds, wanted_s=PIECE_S):
    """Return how many epochs to train until the next look, after so many in these seconds."""
    return max(1, min(8 * n_epochs, int(wanted_s * n_epochs / max(seconds, 1e-9))))


def choose_rows(problem, progress, random_state, *, splits, resumes):
    """Return the rows to train on, in the order to begin with, and those to hold out or None."""
    n_samples = problem.X.shape[0]
    rows = find_rows(progress.place, n_samples, splits=splits) if resumes else None
    if rows is not None:
        return rows
    if splits and problem.parts is not None:
        rows, aside = problem.parts
        return rows.copy(), aside  # the order is shuffled in place
    if splits:
        return split_off_validation(problem, problem.settings.validation_fraction, random_state)
    return problem.all_rows(), None


def open_run(problem, progress, stream, order, validation, tasks, *, incremental, resumes,
             continues):  # fmt: skip
    """Make all that the epochs of a call need; the caller closes the session."""
    settings = problem.settings
    batch_size = choose_batch_size(settings.batch_size, len(order), quiet=problem.one_class)
    optimizer = progress.optimizer
    if not continues:
        optimizer = choose_optimizer(optimizer, settings, incremental=incremental, resumes=resumes)
    if any(problem.dropout) and optimizer["dropout_seed"] is None:
        optimizer["dropout_seed"] = draw_seed(stream[0])
    stops = settings.early_stopping and validation is not None
    selection = open_selection(validation, progress, stops=stops, restores=not incremental)
    progress.begin(settings, by_score=stops, continues=continues)
    progress.loss_curve = [] if progress.loss_curve is None else progress.loss_curve
    session = open_session(problem, progress, optimizer, batch_size)
    progress.matmul_precision = session.matmul_precision
    max_iter = 1 if incremental else settings.max_iter
    place = progress.place if resumes or continues else None
    begin_to_read(problem, stream[0], max_iter - progress.n_iter, place, within=continues)
    return Run(
        problem=problem,
        progress=progress,
        session=session,
        max_iter=max_iter,
        optimizer=optimizer,
        schedule=find_schedule(optimizer, settings),
        selection=selection,
        watcher=Watcher(problem, progress, session, selection, tasks, "epoch", max_iter),
        order=order,
        bits=stream[1] if settings.shuffle else None,
        batch_size=batch_size,
        n_before=len(progress.loss_curve) - progress.n_iter,
    )


def find_schedule(optimizer, settings):
    """Return the optimizer's schedule; a function is asked for in the parameters."""
    if optimizer["schedule"] == Function.name:
        return schedule_for(settings.learning_rate, OPTIMIZERS[optimizer["solver"]])
    return recreate(optimizer["schedule"], optimizer["schedule_parameters"])


def train_until(run, n_epochs):
    """Train up to an epoch (None: to the end); return why it ended, None if interrupted."""
    end = None
    try:
        with one_blas_thread() if run.problem.engine.NAME == "numba" else nullcontext():
            end = run.train(n_epochs)
    except KeyboardInterrupt:
        interrupt(run)
    except DivergenceError as error:
        if not has_best(run.problem, run.progress, run.selection):
            raise
        return_to_best(str(error), run.progress)
        end = DIVERGED
    except ValueError as error:
        if not has_failed(error, run):
            raise
        run.failure, end = error, FAILED
    finally:
        if end != PAUSED:
            run.watcher.close()
    return end


def interrupt(run):
    """Say that the user ends training, to him and to the fits beside this one."""
    if run.problem.asked_to_stop is not None:
        run.problem.asked_to_stop.set()
    warn_user(INTERRUPTED)


def warn_of_what_is_missing(run, end):
    """Warn, once, of a limit that ended training, and of an end that is poor."""
    progress, settings = run.progress, run.problem.settings
    unfinished = None
    if end in (LIMIT, TIME):
        limit = f"Maximum iterations ({settings.max_iter}) reached"
        if end == TIME:
            limit = f"max_time={settings.max_time:g} seconds are over after epoch {progress.n_iter}"
        unfinished = f"Stochastic Optimizer: {limit} and the optimization hasn't converged yet."
    if end in (LIMIT, PLATEAU):
        curve, stalled = progress.loss_curve[-progress.n_iter :], end == PLATEAU
        warn_of_end(
            run.problem, progress.params, run.order, curve, stalled=stalled, unfinished=unfinished
        )
    elif unfinished:
        warn_user(unfinished, ConvergenceWarning)


@dataclass
class Run:
    """The epochs of one call: train, look, decide."""

    problem: Problem
    progress: Progress
    session: Any
    max_iter: int
    optimizer: dict
    schedule: Schedule
    selection: Selection | None
    watcher: Watcher
    order: np.ndarray
    bits: np.random.BitGenerator | None
    batch_size: int
    n_before: int  # epochs in the loss curve that earlier calls have left
    failure: Exception | None = None  # of the data, after which the model so far is kept
    n_steps: int | None = None  # of all epochs; None: `max_iter` epochs of this order

    def train(self, until=None):
        """Train until no progress, or `max_iter` epochs or `max_time`.

        Parameters
        ----------
        until : int or None, default=None
            Epochs, from the beginning, after which to pause.

        Returns
        -------
        {LIMIT, PLATEAU, ASKED, TIME, PAUSED}
            Why it ended.
        """
        max_iter = self.max_iter if until is None else min(until, self.max_iter)
        progress, schedule, watcher = self.progress, self.schedule, self.watcher
        one_by_one = watcher.must_look() or schedule.after_epoch
        n_epochs = 1 if one_by_one else min(max_iter, EPOCHS_PER_CALL)
        if schedule.factors:
            n_epochs = max(1, min(n_epochs, STEPS_PER_CALL // self.steps_per_epoch))
        losses = np.empty(n_epochs)
        while progress.n_iter < max_iter:
            watcher.before(self)
            self.train_epochs(losses[: max_iter - progress.n_iter])
            if watcher.after(self, progress.n_iter * len(self.order)):
                watcher.say("A callback asked to stop. Stopping.")
                return ASKED
            if schedule.after_epoch:
                self.optimizer["learning_rate"] = schedule.after_epoch(
                    self.optimizer["learning_rate"],
                    self.optimizer["learning_rate_init"],
                    progress.t,
                    progress.patience.count,
                )
            if progress.patience.is_over():
                if self.stop_on_plateau():
                    return PLATEAU
                progress.patience.count = 0
            if why := watcher.why_end():
                return why
        return LIMIT if progress.n_iter >= self.max_iter else PAUSED

    def train_epochs(self, losses):
        """Let the engine train up to `len(losses)` epochs, and record them.

        An epoch that the deadline cuts short counts like the others.
        """
        problem, progress, session = self.problem, self.progress, self.session
        deadline, rates = problem.deadline, self.next_rates(len(losses))
        try:
            session.train(
                problem.X,
                problem.targets,
                problem.sample_weight,
                self.order,
                shuffle=self.bits,
                batch_size=self.batch_size,
                alpha=float(problem.settings.alpha),
                learning_rate=rates,
                n_epochs=len(losses),
                losses=losses,
                stopping=None if progress.by_score else progress.patience,
                time_limit=None if deadline is None else deadline - time.perf_counter(),
            )
        finally:
            done = session.epochs_done
            if done:  # the curve first: an interrupt may come between two of these lines
                progress.loss_curve += losses[:done].tolist()
                progress.n_iter = len(progress.loss_curve) - self.n_before
                progress.loss = progress.loss_curve[-1]
                progress.t += (done - 1) * len(self.order) + session.n_seen
                self.optimizer["step"] += (done - 1) * self.steps_per_epoch
                self.optimizer["step"] += -(-session.n_seen // self.batch_size)
        if not session.finite or self.hides_failure():
            if self.selection:
                self.selection.look_away()
            raise DivergenceError(explain_divergence(problem, f"epoch {progress.n_iter}"))

    @property
    def steps_per_epoch(self):
        """Number of minibatches, the last of which may be smaller."""
        return -(-len(self.order) // self.batch_size)

    def next_rates(self, n_epochs):
        """Learning rate of the next epochs: one for all their steps, or one for each.

        A schedule over the steps runs over `max_iter` epochs of the present size, also where each
        is a call of partial_fit.
        """
        if not self.schedule.factors:
            return self.optimizer["learning_rate"]
        n_steps = self.n_steps or self.problem.settings.max_iter * self.steps_per_epoch
        factors = self.schedule.factors(
            self.optimizer["step"], n_epochs * self.steps_per_epoch, n_steps
        )
        return self.optimizer["learning_rate_init"] * factors

    def hides_failure(self):
        """Whether a user's function failed and a later layer made a finite number of it.

        Another fit may have left the report, so it is asked for again with this fit's weights.
        """
        watch = self.problem.watch
        if watch is None or watch.failure() is None:
            return False
        watch.forget()
        self.problem.scores(self.current_params())
        return watch.failure() is not None

    def stop_on_plateau(self):
        """Lower the rate where the schedule does so; return whether to end training instead."""
        rate, end, settings = None, "Stopping.", self.problem.settings
        if self.schedule.on_plateau:
            rate = self.schedule.on_plateau(self.optimizer["learning_rate"])
            end = "Learning rate too small. Stopping."
        if rate is not None:
            self.optimizer["learning_rate"] = rate
            end = f"Setting learning rate to {rate:f}"
        what = "Validation score" if self.progress.by_score else "Training loss"
        self.watcher.say(
            f"{what} did not improve more than tol={settings.tol:f} for "
            f"{settings.n_iter_no_change} consecutive epochs. {end}"
        )
        return rate is None

    def reached(self):
        """Return what training has reached, as if it ended now; shares nothing with the run."""
        progress = replace(self.progress)
        return self.apart(progress, self.write_into(progress))

    def predictor(self):
        """Return the same without what only training needs: the optimiser and its place."""
        progress, params = replace(self.progress, optimizer=None, place=None), self.current_params()
        progress.n_iter = len(progress.loss_curve) - self.n_before
        progress.end(params, self.selection)
        return copy.deepcopy(progress, {id(params): params})

    def apart(self, progress, last):
        """Copy what `write_into` has written and returned, but for the arrays that it made."""
        made = [progress.params if last is None else last, progress.optimizer["slots"]]
        if self.optimizer["ema_decay"] is not None:
            made.append(progress.optimizer["weights"])
        return copy.deepcopy(progress, {id(array): array for array in made})

    def write_into(self, progress):
        """Write weights and optimiser, as if training ended now.

        Returns
        -------
        ndarray of shape (n_params,) or None
            The last weights, where `progress` gets better ones.
        """
        progress.n_iter = len(progress.loss_curve) - self.n_before
        last = progress.end(self.current_params(), self.selection)
        n_slots = OPTIMIZERS[self.optimizer["solver"]].n_slots
        slots = np.empty((n_slots, len(progress.params)), self.problem.dtype)
        self.session.slots_into(slots)
        progress.optimizer = self.optimizer | {"slots": slots, "t": self.session.t}
        if self.optimizer["ema_decay"] is not None:
            weights = np.empty_like(progress.params)
            self.session.params_into(weights)
            progress.optimizer["weights"] = weights
        return last

    def current_params(self):
        """Copy the weights that predictions use out of the engine."""
        params = np.empty_like(self.progress.params)
        self.session.average_into(params)
        return params
