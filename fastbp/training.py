"""Training by minibatches: epochs, order, stopping, best weights.

Sentences made of verbs: what happens when, and when it ends.  The arithmetic is the engine's, data
arrives checked from `_validation`, and the estimators turn `Progress` into fitted attributes.  The
rules of stopping and the messages are scikit-learn's.
"""

import copy
from contextlib import nullcontext
from dataclasses import dataclass, replace
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import scipy.sparse
from sklearn.exceptions import ConvergenceWarning

from fastbp.callbacks import Tasks
from fastbp.diagnosis import explain_divergence, warn_if_poor, warn_user
from fastbp.losses import Loss
from fastbp.optimizers import OPTIMIZERS, optimizer_for
from fastbp.parallel import one_blas_thread
from fastbp.randomness import draw_seed
from fastbp.reports import Report
from fastbp.schedules import Schedule, recreate, schedule_for
from fastbp.scoring import Validation, split_off_validation

LIMIT, PLATEAU, ASKED = "limit of epochs", "no progress", "asked by a callback"  # ends of training
EPOCHS_PER_CALL = 4096  # when nobody watches in between; bounds the buffer of losses
STEPS_PER_CALL = 65536  # where each step has a learning rate of its own; bounds their buffer


@dataclass
class Problem:
    """What is trained: a network, a loss, checked data and the engine that works on them."""

    engine: ModuleType
    layer_sizes: tuple
    activations: list
    loss: Loss
    dtype: np.dtype
    X: Any
    targets: np.ndarray
    sample_weight: np.ndarray | None
    n_threads: int
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
    best_validation_score: float | None = None
    no_improvement_count: int = 0
    optimizer: dict | None = None
    tol: float = 0.0
    n_iter_no_change: float = np.inf

    @classmethod
    def resumed(cls, params, state):
        """Go on from an estimator's attributes `state`; its lists are copied."""
        loss_curve, scores = state.get("loss_curve_"), state.get("validation_scores_")
        return cls(
            params,
            t=state.get("t_", 0),
            loss=state.get("loss_"),
            loss_curve=None if loss_curve is None else list(loss_curve),
            best_loss=state.get("best_loss_"),
            validation_scores=None if scores is None else list(scores),
            best_validation_score=state.get("best_validation_score_"),
            no_improvement_count=state.get("_no_improvement_count", 0),
            optimizer=state.get("_optimizer"),
        )

    def begin(self, settings):
        """Prepare for the epochs of a call."""
        self.n_iter = 0
        self.tol, self.n_iter_no_change = settings.tol, settings.n_iter_no_change
        self.loss_curve = [] if self.loss_curve is None else self.loss_curve
        if not settings.early_stopping:
            self.best_loss = np.inf if self.best_loss is None else self.best_loss
        elif self.validation_scores is None:
            self.validation_scores, self.best_validation_score = [], -np.inf
            self.best_loss = None

    def attributes(self):
        """Return the fitted attributes; None for those that this solver does not set."""
        found = {"n_iter_": self.n_iter, "t_": self.t}
        if self.loss is not None:
            found["loss_"] = self.loss
        if self.loss_curve is not None:
            found |= {
                "loss_curve_": self.loss_curve,
                "best_loss_": self.best_loss,
                "validation_scores_": self.validation_scores,
                "best_validation_score_": self.best_validation_score,
                "_no_improvement_count": self.no_improvement_count,
                "_optimizer": self.optimizer,
            }
        return found


# Attributes that a solver may leave unset: a new model must not show those of the old one.
HISTORY = tuple(Progress(None, loss=0.0, loss_curve=[]).attributes())


def train_stochastic(problem, settings, progress, stream, *, incremental=False, tasks=None):
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

    Raises
    ------
    ValueError
        If the validation set is too small, or loss or weights become non-finite.
    """
    validation = None
    if settings.early_stopping:
        if incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        fraction = settings.validation_fraction
        train, validation = split_off_validation(problem, fraction, stream[0])
    else:
        train = np.arange(problem.X.shape[0])
    batch_size = choose_batch_size(settings.batch_size, len(train))
    optimizer = dict((incremental and progress.optimizer) or new_optimizer(settings))
    if any(settings.dropout) and optimizer["dropout_seed"] is None:
        optimizer["dropout_seed"] = draw_seed(stream[0])
    progress.begin(settings)
    session = open_session(problem, settings, progress, optimizer, batch_size)
    try:
        run = Run(problem, settings, progress, session, optimizer, validation)
        run.order, run.bits = train, stream[1] if settings.shuffle else None
        run.batch_size, run.best_params = batch_size, progress.params
        run.tasks, run.report = tasks, open_report(settings, incremental)
        end = None
        try:
            with one_blas_thread() if problem.engine.NAME == "numba" else nullcontext():
                end = run.train(1 if incremental else settings.max_iter, incremental)
        except KeyboardInterrupt:
            warn_user("Training interrupted by user.")
        finally:
            if run.report:
                run.report.close()
        run.write_into(progress)
    finally:
        session.close()
    if end in (LIMIT, PLATEAU) and not incremental:
        curve, stalled = progress.loss_curve[-progress.n_iter :], end == PLATEAU
        warn_if_poor(problem, settings, progress.params, train, curve, stalled=stalled)


def new_optimizer(settings):
    """Describe a solver before its first step, in plain types that pickle.

    Besides settings: `slots` and the number of steps `t`, as the engine's `set_optimizer` takes
    them; `step`, the place in the learning rate's schedule (minibatches without weight count);
    `weights`, those that steps change where predictions use an average of them; `dropout_seed`.
    """
    row = optimizer_for(settings.solver, settings)
    schedule = schedule_for(settings.learning_rate, row, settings)
    rate = float(settings.learning_rate_init)
    return {
        "solver": row.name,
        "hyperparameters": row.get_params(deep=False),
        "schedule": schedule.name,
        "schedule_parameters": schedule.get_params(deep=False),
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


def choose_batch_size(batch_size, n_samples):
    """Return the rows per minibatch: "auto" is 200; never more than there are samples."""
    if batch_size == "auto":
        return min(200, n_samples)
    if batch_size > n_samples:
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
    validation: Validation | None
    order: np.ndarray | None = None
    bits: np.random.BitGenerator | None = None
    batch_size: int = 1
    best_params: np.ndarray | None = None
    tasks: Tasks | None = None
    report: Report | None = None
    schedule: Schedule | None = None

    def train(self, max_iter, incremental):
        """Train until no progress, or `max_iter` epochs (then warn unless incremental).

        Returns
        -------
        {LIMIT, PLATEAU, ASKED}
            Why it ended.
        """
        progress, tasks = self.progress, self.tasks
        schedule = recreate(self.optimizer["schedule"], self.optimizer["schedule_parameters"])
        self.schedule = schedule
        watched = (
            self.validation or self.report or tasks or schedule.after_epoch or self.problem.watch
        )
        n_epochs = 1 if watched else min(max_iter, EPOCHS_PER_CALL)
        if schedule.factors:
            n_epochs = max(1, min(n_epochs, STEPS_PER_CALL // self.steps_per_epoch))
        losses = np.empty(n_epochs)
        while progress.n_iter < max_iter:
            if tasks:
                tasks.begin_epoch(self.reached)
            self.train_epochs(losses[: max_iter - progress.n_iter])
            if self.validation:
                self.validate()
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
        if not incremental:
            warn_user(
                f"Stochastic Optimizer: Maximum iterations ({max_iter}) reached and the "
                "optimization hasn't converged yet.",
                ConvergenceWarning,
            )
        return LIMIT

    def train_epochs(self, losses):
        """Let the engine train up to `len(losses)` epochs, and record them."""
        problem, progress, rates = self.problem, self.progress, self.next_rates(len(losses))
        try:
            self.session.train(
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
                stopping=None if self.validation else progress,
            )
        finally:
            done = self.session.epochs_done
            if done:
                progress.n_iter += done
                progress.t += done * len(self.order)
                self.optimizer["step"] += done * self.steps_per_epoch
                progress.loss_curve += losses[:done].tolist()
                progress.loss = progress.loss_curve[-1]
        if not self.session.finite or self.hides_failure():
            raise ValueError(explain_divergence(problem, self.settings, f"epoch {progress.n_iter}"))

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

    def validate(self):
        """Score the validation set; keep the weights if they are the best so far."""
        progress = self.progress
        score = self.validation.score(self.session)
        progress.validation_scores.append(score)
        if score < progress.best_validation_score + progress.tol:
            progress.no_improvement_count += 1
        else:
            progress.no_improvement_count = 0
        if score > progress.best_validation_score:
            progress.best_validation_score = score
            self.best_params = self.current_params()

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
            what = "Validation score" if self.validation else "Training loss"
            self.report.say(
                f"{what} did not improve more than tol={self.settings.tol:f} for "
                f"{self.settings.n_iter_no_change} consecutive epochs. {end}"
            )
        return rate is None

    def report_epoch(self):
        """Show the epoch that has just ended."""
        progress = self.progress
        score = progress.validation_scores[-1] if self.validation else None
        n_samples = progress.n_iter * len(self.order)
        self.report.after_epoch(progress.n_iter, progress.loss, score, n_samples)

    def reached(self):
        """Return what training has reached, as if it ended now; shares nothing with the run."""
        progress = replace(self.progress)
        self.write_into(progress)
        return copy.deepcopy(progress)

    def write_into(self, progress):
        """Write weights and optimiser, as if training ended now."""
        progress.params = self.best_params if self.validation else self.current_params()
        n_slots = OPTIMIZERS[self.optimizer["solver"]].n_slots
        slots = np.empty((n_slots, len(progress.params)), self.problem.dtype)
        self.session.slots_into(slots)
        progress.optimizer = self.optimizer | {"slots": slots, "t": self.session.t}
        if self.optimizer["ema_decay"] is not None:
            weights = np.empty_like(progress.params)
            self.session.params_into(weights)
            progress.optimizer["weights"] = weights

    def current_params(self):
        """Copy the weights that predictions use out of the engine."""
        params = np.empty_like(self.progress.params)
        self.session.average_into(params)
        return params
