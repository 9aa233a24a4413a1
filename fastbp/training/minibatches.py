"""Training by minibatches: epochs, order, and when they end.

Sentences made of verbs: what happens when, and when it ends.  The arithmetic is the engine's, data
arrives checked from `_validation`, `stopping` looks at validation data and keeps the best weights,
and the estimators turn `Progress` into fitted attributes.  The rules of stopping and the messages
are scikit-learn's.
"""

import copy
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from fastbp.data.problem import Problem
from fastbp.engine import network
from fastbp.engine.parallel import one_blas_thread
from fastbp.messages import warn_user
from fastbp.optimizers import AUTO_BATCH_SIZE, OPTIMIZERS, optimizer_for
from fastbp.schedules import Function, Schedule, recreate, schedule_for
from fastbp.training.callbacks import Tasks
from fastbp.training.causes import explain_divergence, explain_validation, warn_of_end
from fastbp.training.randomness import draw_seed
from fastbp.training.reports import Report
from fastbp.training.resuming import find_rows, keep_place, restore_stream
from fastbp.training.scoring import Validation, split_off_validation
from fastbp.training.watching import Selection, open_selection

# How training ends.
LIMIT, PLATEAU, ASKED, TIME = "limit of epochs", "no progress", "asked by a callback", "max_time"
DIVERGED = "diverged"
EPOCHS_PER_CALL = 4096  # when nobody watches in between; bounds the buffer of losses
STEPS_PER_CALL = 65536  # where each step has a learning rate of its own; bounds their buffer


@dataclass
class Progress:
    """What training has reached: fitted attributes without their underscore.

    It is also what the engine reads and writes to apply the rule of stopping (`tol`,
    `n_iter_no_change`, `best_loss`, `no_improvement_count`).
    """

    params: np.ndarray
    n_iter: int = 0
    t: int = 0
    loss: float | None = None
    loss_curve: list | None = None
    best_loss: float | None = None
    validation_scores: list | None = None
    validation_loss_curve: list | None = None
    best_validation_score: float | None = None
    best_iter: int | None = None
    best_params: np.ndarray | None = None  # those of best_iter, where they are known
    holds_best: bool = False  # whether params are best_params
    no_improvement_count: int = 0
    optimizer: dict | None = None
    place: dict | None = None  # see `resuming`
    tol: float = 0.0
    n_iter_no_change: float = np.inf

    @classmethod
    def resumed(cls, params, past, memory, *, from_last=False):
        """Go on from an estimator's attributes `past`, as far as they hold; lists are copied.

        `params` are the estimator's weights, from which training goes on; or, `from_last`, from the
        last ones where these are not the same.
        """
        place, optimizer, last = past.get("_place"), past.get("_optimizer"), None
        if place is not None:
            last, place = place["params"], place | {"params": None}
            if not memory.progress:
                place["held_out"] = None
        if optimizer is not None and not memory.weights:
            optimizer = optimizer | {"weights": None}
        from_last = from_last and memory.weights and last is not None
        progress = cls(
            last.astype(params.dtype, copy=False) if from_last else params,
            t=past.get("t_", 0),
            loss=past.get("loss_"),
            optimizer=optimizer,
            place=place,
        )
        if memory.losses:
            progress.loss_curve = _copied(past.get("loss_curve_"))
        if memory.progress:
            progress.best_loss = past.get("best_loss_")
            progress.no_improvement_count = past.get("_no_improvement_count", 0)
        if memory.scores:
            progress.validation_scores = _copied(past.get("validation_scores_"))
            progress.validation_loss_curve = _copied(past.get("validation_loss_curve_"))
        if memory.best:
            progress.best_validation_score = past.get("best_validation_score_")
            progress.best_iter = past.get("best_iter_")
            progress.best_params = params if past.get("_holds_best") else None
        return progress

    def begin(self, settings):
        """Prepare for the epochs of a call."""
        self.n_iter = 0
        self.tol, self.n_iter_no_change = settings.tol, settings.n_iter_no_change
        self.loss_curve = [] if self.loss_curve is None else self.loss_curve
        if not settings.early_stopping:
            self.best_loss = np.inf if self.best_loss is None else self.best_loss
        elif self.validation_scores is None:
            self.best_loss = None

    def end(self, last_params, selection):
        """Settle the weights: the best ones where they were selected; return the others, if any."""
        self.holds_best = selection is not None and self.best_params is not None
        self.params = self.best_params if self.holds_best else last_params
        return last_params if self.holds_best else None

    @property
    def holds_raw_weights(self):
        """Whether the optimizer keeps weights beside their average, which are `params`."""
        return self.optimizer is not None and self.optimizer.get("weights") is not None

    def attributes(self):
        """Return the fitted attributes; None for those that this solver does not set."""
        found = {"n_iter_": self.n_iter, "t_": self.t}
        if self.loss is not None:
            found["loss_"] = self.loss
        if self.loss_curve is not None:
            found |= {
                "loss_curve_": self.loss_curve,
                "best_loss_": self.best_loss,
                "_no_improvement_count": self.no_improvement_count,
                "_optimizer": self.optimizer,
                "_place": self.place,
            }
        if self.loss_curve is not None or self.validation_scores is not None:
            found |= {
                "validation_scores_": self.validation_scores,
                "validation_loss_curve_": self.validation_loss_curve,
                "best_validation_score_": self.best_validation_score,
                "best_iter_": self.best_iter,
                "_holds_best": self.holds_best,
            }
        return found


def _copied(found):
    return None if found is None else list(found)


# Attributes that a solver may leave unset: a new model must not show those of the old one.
HISTORY = tuple(Progress(np.empty(0), loss=0.0, loss_curve=[]).attributes())


def train_stochastic(
    problem, settings, progress, stream, *, incremental=False, tasks=None, validation=None,
    scorer=None,
):  # fmt: skip
    """Train by minibatches, changing `progress`.

    Parameters
    ----------
    problem : Problem
    settings : namespace of the estimator's parameters
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

    Raises
    ------
    ValueError
        If the validation set is too small, or loss or weights become non-finite.
    """
    if incremental and settings.early_stopping:
        raise ValueError("partial_fit does not support early_stopping=True")
    resumes = settings.warm_start == "resume" and not incremental
    if resumes:
        restore_stream(progress.place, settings.random_state, stream[1])
    splits = settings.early_stopping and validation is None
    order, held_out = choose_rows(problem, settings, progress, stream[0], splits, resumes)
    if splits:
        validation = Validation.of_rows(problem, held_out, settings.scoring, scorer)
    batch_size = choose_batch_size(settings.batch_size, len(order), quiet=problem.one_class)
    optimizer = choose_optimizer(progress.optimizer, settings, incremental, resumes)
    if any(settings.dropout) and optimizer["dropout_seed"] is None:
        optimizer["dropout_seed"] = draw_seed(stream[0])
    progress.begin(settings)
    selection = open_selection(validation, progress, settings, restores=not incremental)
    session = open_session(problem, settings, progress, optimizer, batch_size)
    try:
        run = Run(problem, settings, progress, session, optimizer, selection, order)
        run.bits, run.batch_size = stream[1] if settings.shuffle else None, batch_size
        run.tasks, run.report = tasks, open_report(settings, incremental)
        end = None
        try:
            with one_blas_thread() if problem.engine.NAME == "numba" else nullcontext():
                end = run.train(1 if incremental else settings.max_iter, incremental)
        except KeyboardInterrupt:
            warn_user("Training interrupted by user.")
        except DivergenceError as error:
            if not has_best(progress, selection):
                raise
            return_to_best(str(error), progress)
            end = DIVERGED
        finally:
            if run.report:
                run.report.close()
        last = None if end == DIVERGED else run.write_into(progress)
        if not incremental:
            goes_on = resumes and end != DIVERGED
            progress.place = keep_place(order, held_out, stream[1], last) if goes_on else None
    finally:
        session.close()
    if not predicts_finite_scores(problem, progress.params):
        raise ValueError(explain_divergence(problem, settings, f"epoch {progress.n_iter}"))
    unfinished = run.describe_limit(end) if end in (LIMIT, TIME) else None
    if incremental or problem.one_class:  # nothing converges there, and nothing need be said of it
        return
    if end in (LIMIT, PLATEAU):
        curve, stalled = progress.loss_curve[-progress.n_iter :], end == PLATEAU
        warn_of_end(
            problem, settings, progress.params, order, curve, stalled=stalled, unfinished=unfinished
        )
    elif unfinished:
        warn_user(unfinished, ConvergenceWarning)


class DivergenceError(ValueError):
    """Training has left the finite numbers; the message names epoch and cause."""


def has_best(progress, selection):
    """Whether there are best weights on validation data, and somebody wants them back."""
    return selection is not None and selection.restores and progress.best_params is not None


def return_to_best(divergence, progress):
    """Go back to the best epoch on validation data, and warn with the text of a divergence.

    As scikit-learn's issue 29504 asks. The optimizer is forgotten, for its state is not finite.
    """
    progress.params, progress.holds_best, progress.optimizer = progress.best_params, True, None
    if progress.loss_curve is not None:
        progress.loss = next(filter(np.isfinite, reversed(progress.loss_curve)), None)
    warn_user(
        f"{divergence} Training has ended; the weights of epoch {progress.best_iter}, the best on "
        "the validation data, are kept.",
        ConvergenceWarning,
    )


def refuse_nan_in_validation(progress, problem, settings, copy_params, when):
    """Raise if the newest validation loss is NaN: due to the weights, or to the validation data."""
    if np.isnan(progress.validation_loss_curve[-1]):
        if predicts_finite_scores(problem, copy_params()):
            raise DivergenceError(explain_validation(problem, when))
        raise DivergenceError(explain_divergence(problem, settings, when))


def predicts_finite_scores(problem, params):
    """Whether the training samples have finite scores under `params`.

    Losses are those before each step, so the last step may leave weights with which scores overflow
    though every number seen was finite; and an interrupt ends training between two looks.  The
    scores are computed only where the size of the weights (NaN included) does not rule it out.
    """
    layers, size = problem.layer_sizes, float(max(params.max(), -params.min()))
    growth = 1.0
    for n_in in layers[:-1]:
        growth *= (n_in + 1) * size
    if growth < float(np.finfo(params.dtype).max) ** 0.5:
        return True
    scores = np.empty((problem.X.shape[0], layers[-1]), problem.dtype)
    coefs, intercepts = network.views(params.astype(problem.dtype, copy=False), layers)
    problem.engine.predict_into(
        coefs, intercepts, problem.activations, problem.X, scores, problem.n_threads
    )
    return bool(np.isfinite(params).all() and np.isfinite(scores).all())


def choose_rows(problem, settings, progress, random_state, splits, resumes):
    """Return the rows to train on, in the order to begin with, and those to hold out or None."""
    n_samples = problem.X.shape[0]
    rows = find_rows(progress.place, n_samples, splits=splits) if resumes else None
    if rows is not None:
        return rows
    if splits:
        fraction, classes = settings.validation_fraction, settings.classes
        return split_off_validation(problem, fraction, random_state, classes)
    return np.arange(n_samples), None


def choose_optimizer(old, settings, incremental, resumes):
    """Return the optimizer to train with: a new one, or the last call's."""
    if incremental and old:
        if old["schedule"] != Function.name:
            return dict(old)
        # A function of the user's is never kept: the parameter says how the rate goes on.
        return old | describe_schedule(settings, OPTIMIZERS[old["solver"]])
    new = new_optimizer(settings)
    if resumes and old and old["solver"] == new["solver"]:
        new |= {name: old[name] for name in ("slots", "t", "dropout_seed")}
        if new["ema_decay"] is not None:
            new["weights"] = old["weights"]
        schedule = ("schedule", "schedule_parameters", "learning_rate_init")
        if all(old[name] == new[name] for name in schedule):
            new |= {name: old[name] for name in ("learning_rate", "step")}
    return new


def new_optimizer(settings):
    """Describe a solver before its first step, in plain types that pickle.

    Besides settings: `slots` and the number of steps `t`, as the engine's `set_optimizer` takes
    them; `step`, the place in the learning rate's schedule (minibatches without weight count);
    `weights`, those that steps change where predictions use an average of them; `dropout_seed`.
    """
    row = optimizer_for(settings.solver, settings)
    rate = float(settings.learning_rate_init)
    return {  # vars: constructors store their arguments, and get_params reads the signature
        "solver": row.name,
        "hyperparameters": dict(vars(row)),
        **describe_schedule(settings, row),
        "learning_rate_init": rate,
        "learning_rate": rate,
        "max_grad_norm": settings.max_grad_norm,
        "ema_decay": settings.ema_decay,
        "dropout_seed": None,
        "weights": None,
        "slots": None,
        "t": 0,
        "step": 0,
    }


def describe_schedule(settings, row):
    """Describe the schedule of the parameters for a solver, in plain types that pickle."""
    schedule = schedule_for(settings.learning_rate, row, settings)
    parameters = {} if isinstance(schedule, Function) else dict(vars(schedule))
    return {"schedule": schedule.name, "schedule_parameters": parameters}


def open_session(problem, settings, progress, optimizer, batch_size):
    """Make a session that goes on from the state of an optimizer; the caller closes it."""
    slots, weights = optimizer["slots"], optimizer["weights"]
    slots = None if slots is None else slots.astype(problem.dtype, copy=False)
    start, average = progress.params, None
    if weights is not None:
        start, average = weights.astype(problem.dtype, copy=False), progress.params
    session = problem.open_session(start, batch_size)
    session.set_optimizer(
        OPTIMIZERS[optimizer["solver"]],
        optimizer["hyperparameters"],
        slots,
        optimizer["t"],
        max_grad_norm=optimizer["max_grad_norm"],
        ema_decay=optimizer["ema_decay"],
        average=average,
    )
    if any(settings.dropout):
        session.set_dropout(settings.dropout, optimizer["dropout_seed"])
    return session


def choose_batch_size(batch_size, n_samples, *, quiet=False):
    """Return the rows per minibatch: "auto" is 200; never more than there are samples."""
    if batch_size == "auto":
        return min(AUTO_BATCH_SIZE, n_samples)
    if batch_size > n_samples and not quiet:
        warn_user(
            "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped"
        )
    return int(min(batch_size, n_samples))


def open_report(settings, incremental=False):
    """Open the report of a call; None without `verbose`."""
    if not settings.verbose:
        return None
    return Report(settings.verbose, 1 if incremental else settings.max_iter, settings.max_time)


@dataclass
class Run:
    """The epochs of one call: train, look, decide."""

    problem: Problem
    settings: SimpleNamespace
    progress: Progress
    session: Any
    optimizer: dict
    selection: Selection | None
    order: np.ndarray
    bits: np.random.BitGenerator | None = None
    batch_size: int = 1
    tasks: Tasks | None = None
    report: Report | None = None
    schedule: Schedule | None = None

    def train(self, max_iter, incremental):
        """Train until no progress, or `max_iter` epochs or `max_time`.

        Returns
        -------
        {LIMIT, PLATEAU, ASKED, TIME}
            Why it ended.
        """
        progress, tasks = self.progress, self.tasks
        self.schedule = schedule = self.find_schedule()
        deadline = None if incremental else self.settings.deadline
        watched = (
            self.selection or self.report or tasks or schedule.after_epoch or self.problem.watch
        )
        n_epochs = 1 if watched else min(max_iter, EPOCHS_PER_CALL)
        if schedule.factors:
            n_epochs = max(1, min(n_epochs, STEPS_PER_CALL // self.steps_per_epoch))
        losses, end = np.empty(n_epochs), LIMIT
        while progress.n_iter < max_iter:
            if tasks:
                tasks.begin_epoch(self.reached)
            self.train_epochs(losses[: max_iter - progress.n_iter], deadline)
            if self.selection:
                self.selection.look(self.session, self.current_params)
                refuse_nan_in_validation(
                    progress, self.problem, self.settings, self.current_params,
                    f"epoch {progress.n_iter}",
                )  # fmt: skip
            if self.report:
                self.report_epoch()
            if tasks and tasks.end_epoch(self.reached):
                if self.report:
                    self.report.say("A callback asked to stop. Stopping.")
                return ASKED
            if schedule.after_epoch:
                self.optimizer["learning_rate"] = schedule.after_epoch(
                    self.optimizer["learning_rate"],
                    self.optimizer["learning_rate_init"],
                    progress.t,
                    progress.no_improvement_count,
                )
            if progress.no_improvement_count > progress.n_iter_no_change:
                if self.stop_on_plateau(schedule):
                    return PLATEAU
                progress.no_improvement_count = 0
            if deadline is not None and time.perf_counter() >= deadline:
                end = TIME
                break
        return end

    def find_schedule(self):
        """Return the optimizer's schedule; a function is asked for in the parameters."""
        name = self.optimizer["schedule"]
        if name == Function.name:
            return schedule_for(self.settings.learning_rate, OPTIMIZERS[self.optimizer["solver"]])
        return recreate(name, self.optimizer["schedule_parameters"])

    def describe_limit(self, end):
        """Say that a limit ended training before it converged."""
        limit = f"Maximum iterations ({self.settings.max_iter}) reached"
        if end == TIME:
            limit = f"max_time={self.settings.max_time:g} seconds are over after epoch "
            limit += f"{self.progress.n_iter}"
        return f"Stochastic Optimizer: {limit} and the optimization hasn't converged yet."

    def train_epochs(self, losses, deadline):
        """Let the engine train up to `len(losses)` epochs, and record them.

        An epoch that the deadline cuts short counts like the others.
        """
        problem, progress, session = self.problem, self.progress, self.session
        stops = self.selection is not None and self.selection.stops
        rates = self.next_rates(len(losses))
        try:
            session.train(
                problem.X,
                problem.targets,
                problem.sample_weight,
                self.order,
                shuffle=self.bits,
                batch_size=self.batch_size,
                alpha=float(self.settings.alpha),
                learning_rate=rates,
                n_epochs=len(losses),
                losses=losses,
                stopping=None if stops else progress,
                time_limit=None if deadline is None else deadline - time.perf_counter(),
            )
        finally:
            done = session.epochs_done
            if done:
                progress.n_iter += done
                progress.t += (done - 1) * len(self.order) + session.n_seen
                self.optimizer["step"] += (done - 1) * self.steps_per_epoch
                self.optimizer["step"] += -(-session.n_seen // self.batch_size)
                progress.loss_curve += losses[:done].tolist()
                progress.loss = progress.loss_curve[-1]
        if not session.finite or self.hides_failure():
            if self.selection:
                self.selection.look_away()
            when = f"epoch {progress.n_iter}"
            raise DivergenceError(explain_divergence(problem, self.settings, when))

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
        n_steps = self.settings.max_iter * self.steps_per_epoch
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
        scores = np.empty(
            (self.problem.X.shape[0], self.problem.layer_sizes[-1]), self.problem.dtype
        )
        self.session.predict_into(self.problem.X, scores)
        return watch.failure() is not None

    def stop_on_plateau(self, schedule):
        """Lower the rate where the schedule does so; return whether to end training instead."""
        rate, end = None, "Stopping."
        if schedule.on_plateau:
            rate = schedule.on_plateau(self.optimizer["learning_rate"])
            end = "Learning rate too small. Stopping."
        if rate is not None:
            self.optimizer["learning_rate"] = rate
            end = f"Setting learning rate to {rate:f}"
        if self.report:
            by_score = self.selection is not None and self.selection.stops
            what = "Validation score" if by_score else "Training loss"
            self.report.say(
                f"{what} did not improve more than tol={self.settings.tol:f} for "
                f"{self.settings.n_iter_no_change} consecutive epochs. {end}"
            )
        return rate is None

    def report_epoch(self):
        """Show the epoch that has just ended."""
        progress = self.progress
        score = progress.validation_scores[-1] if self.selection else None
        n_samples = progress.n_iter * len(self.order)
        self.report.after_epoch(progress.n_iter, progress.loss, score, n_samples)

    def reached(self):
        """Return what training has reached, as if it ended now; shares nothing with the run."""
        progress = replace(self.progress)
        self.write_into(progress)
        return copy.deepcopy(progress)

    def write_into(self, progress):
        """Write weights and optimiser, as if training ended now.

        Returns
        -------
        ndarray of shape (n_params,) or None
            The last weights, where `progress` gets better ones.
        """
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
