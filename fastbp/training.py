"""Training by minibatches: epochs, order, and when they end.

Sentences made of verbs: what happens when, and when it ends.  The arithmetic is the engine's, data
arrives checked from `_validation`, `stopping` looks at validation data and keeps the best weights,
and the estimators turn `Progress` into fitted attributes.  The rules of stopping and the messages
are scikit-learn's.
"""

import time
import warnings
from contextlib import nullcontext
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import scipy.sparse
from sklearn.exceptions import ConvergenceWarning

from fastbp.losses import Loss
from fastbp.optimizers import OPTIMIZERS
from fastbp.parallel import one_blas_thread
from fastbp.resuming import find_rows, keep_place, restore_stream
from fastbp.schedules import SCHEDULES, schedule_for
from fastbp.scoring import Validation, split_off_validation
from fastbp.stopping import Selection, open_selection

EPOCHS_PER_CALL = 4096  # when nobody watches in between; bounds the buffer of losses
LARGE = 30.0  # columns of X and targets beyond this size are named when training diverges


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
    validation_loss_curve: list | None = None
    best_validation_score: float | None = None
    best_iter: int | None = None
    best_params: np.ndarray | None = None  # those of best_iter, where they are known
    holds_best: bool = False  # whether params are best_params
    selected_by: tuple | None = None  # the `scoring` of best_validation_score
    no_improvement_count: int = 0
    optimizer: dict | None = None
    place: dict | None = None  # see `resuming`
    tol: float = 0.0
    n_iter_no_change: float = np.inf

    @classmethod
    def resumed(cls, params, state, *, from_last=False):
        """Go on from an estimator's attributes `state`; its lists are copied.

        `params` are the estimator's weights, from which training goes on; or, `from_last`, from the
        last ones where these are not the same.
        """
        place, last = state.get("_place"), None
        if place is not None:
            last, place = place["params"], place | {"params": None}
        lists = ("loss_curve_", "validation_scores_", "validation_loss_curve_")
        lists = (state.get(name) for name in lists)
        loss_curve, scores, losses = (None if found is None else list(found) for found in lists)
        return cls(
            last.astype(params.dtype, copy=False) if from_last and last is not None else params,
            t=state.get("t_", 0),
            loss=state.get("loss_"),
            loss_curve=loss_curve,
            best_loss=state.get("best_loss_"),
            validation_scores=scores,
            validation_loss_curve=losses,
            best_validation_score=state.get("best_validation_score_"),
            best_iter=state.get("best_iter_"),
            best_params=params if state.get("_holds_best") else None,
            selected_by=state.get("_selected_by"),
            no_improvement_count=state.get("_no_improvement_count", 0),
            optimizer=state.get("_optimizer"),
            place=place,
        )

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
                "_selected_by": self.selected_by,
            }
        return found


# Attributes that a solver may leave unset: a new model must not show those of the old one.
HISTORY = tuple(Progress(None, loss=0.0, loss_curve=[]).attributes())


def train_stochastic(
    problem, settings, progress, stream, *, incremental=False, validation=None, scorer=None
):
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
    batch_size = choose_batch_size(settings.batch_size, len(order))
    optimizer = choose_optimizer(progress.optimizer, settings, incremental, resumes)
    progress.begin(settings)
    selection = open_selection(validation, progress, settings, restores=not incremental)
    session = problem.open_session(progress.params, batch_size)
    try:
        row, slots = OPTIMIZERS[optimizer["solver"]], optimizer["slots"]
        if slots is not None:
            slots = slots.astype(problem.dtype, copy=False)
        session.set_optimizer(row, optimizer["hyperparameters"], slots, optimizer["t"])
        run = Run(problem, settings, progress, session, optimizer, selection, order)
        run.bits, run.batch_size = stream[1] if settings.shuffle else None, batch_size
        try:
            with one_blas_thread() if problem.engine.NAME == "numba" else nullcontext():
                run.train(1 if incremental else settings.max_iter, incremental)
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=4)
        last = progress.end(run.current_params(), None if incremental else selection)
        slots = np.empty((row.n_slots, len(progress.params)), problem.dtype)
        session.slots_into(slots)
        progress.optimizer = optimizer | {"slots": slots, "t": session.t}
        if resumes:
            progress.place = keep_place(order, held_out, stream[1], last)
        elif not incremental:
            progress.place = None
    finally:
        session.close()


def choose_rows(problem, settings, progress, random_state, splits, resumes):
    """Return the rows to train on, in the order to begin with, and those to hold out or None."""
    n_samples = problem.X.shape[0]
    rows = find_rows(progress.place, n_samples, splits=splits) if resumes else None
    if rows is not None:
        return rows
    if splits:
        return split_off_validation(problem, settings.validation_fraction, random_state)
    return np.arange(n_samples), None


def choose_optimizer(old, settings, incremental, resumes):
    """Return the optimizer to train with: a new one, or the last call's."""
    if incremental and old:
        return dict(old)
    new = new_optimizer(settings)
    if resumes and old and old["solver"] == new["solver"]:
        new |= {"slots": old["slots"], "t": old["t"]}
        schedule = ("schedule", "learning_rate_init", "power_t")
        if all(old[name] == new[name] for name in schedule):
            new["learning_rate"] = old["learning_rate"]
    return new


def new_optimizer(settings):
    """Describe a solver before its first step, in plain types that pickle."""
    row = OPTIMIZERS[settings.solver]
    rate = float(settings.learning_rate_init)
    return {
        "solver": row.name,
        "hyperparameters": {name: getattr(settings, name) for name in row.hyperparameters},
        "schedule": schedule_for(settings.learning_rate, row.name).name,
        "learning_rate_init": rate,
        "learning_rate": rate,
        "power_t": settings.power_t,
        "slots": None,
        "t": 0,
    }


def choose_batch_size(batch_size, n_samples):
    """Return the rows per minibatch: "auto" is 200; never more than there are samples."""
    if batch_size == "auto":
        return min(200, n_samples)
    if batch_size > n_samples:
        warnings.warn(
            "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped",
            stacklevel=5,
        )
    return int(min(batch_size, n_samples))


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

    def train(self, max_iter, incremental):
        """Train until no progress, or `max_iter` epochs or `max_time` (then warn unless
        incremental).
        """
        progress, verbose = self.progress, self.settings.verbose
        schedule = SCHEDULES[self.optimizer["schedule"]]
        deadline = None if incremental else self.settings.deadline
        watched = self.selection or verbose or schedule.after_epoch or self.problem.watch
        losses = np.empty(1 if watched else min(max_iter, EPOCHS_PER_CALL))
        while progress.n_iter < max_iter:
            self.train_epochs(losses[: max_iter - progress.n_iter], deadline)
            if verbose:
                print(f"Iteration {progress.n_iter}, loss = {progress.loss:.8f}")
            if self.selection:
                self.selection.look(self.session, self.current_params)
                if verbose:
                    print(f"Validation score: {progress.validation_scores[-1]:f}")
            if schedule.after_epoch:
                self.optimizer["learning_rate"] = schedule.after_epoch(
                    self.optimizer["learning_rate_init"], progress.t, self.optimizer["power_t"]
                )
            if progress.no_improvement_count > progress.n_iter_no_change:
                if self.stop_on_plateau(schedule):
                    return
                progress.no_improvement_count = 0
            if deadline is not None and time.perf_counter() >= deadline:
                break
        if incremental:
            return
        limit = f"Maximum iterations ({max_iter}) reached"
        if progress.n_iter < max_iter:
            limit = f"max_time={self.settings.max_time:g} seconds are over after epoch "
            limit += f"{progress.n_iter}"
        warnings.warn(
            f"Stochastic Optimizer: {limit} and the optimization hasn't converged yet.",
            ConvergenceWarning,
            stacklevel=5,
        )

    def train_epochs(self, losses, deadline):
        """Let the engine train up to `len(losses)` epochs, and record them.

        An epoch that the deadline cuts short counts like the others.
        """
        problem, progress, session = self.problem, self.progress, self.session
        stops = self.selection is not None and self.selection.stops
        try:
            session.train(
                problem.X,
                problem.targets,
                problem.sample_weight,
                self.order,
                shuffle=self.bits,
                batch_size=self.batch_size,
                alpha=float(self.settings.alpha),
                learning_rate=self.optimizer["learning_rate"],
                n_epochs=len(losses),
                losses=losses,
                stopping=None if stops else progress,
                time_left_s=None if deadline is None else deadline - time.perf_counter(),
            )
        finally:
            done = session.epochs_done
            if done:
                progress.n_iter += done
                progress.t += done * len(self.order) - session.rows_left
                progress.loss_curve += losses[:done].tolist()
                progress.loss = progress.loss_curve[-1]
        if not session.finite or self.hides_failure():
            raise ValueError(explain_divergence(problem, self.settings, f"epoch {progress.n_iter}"))

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
        if self.settings.verbose:
            by_score = self.selection is not None and self.selection.stops
            what = "Validation score" if by_score else "Training loss"
            print(
                f"{what} did not improve more than tol={self.settings.tol:f} for "
                f"{self.settings.n_iter_no_change} consecutive epochs. {end}"
            )
        return rate is None

    def current_params(self):
        """Copy the weights out of the engine."""
        params = np.empty_like(self.progress.params)
        self.session.params_into(params)
        return params


def explain_divergence(problem, settings, when):
    """Say when training left the finite numbers, and the likely cause."""
    X, names = problem.X, settings.feature_names
    if scipy.sparse.issparse(X):
        sizes = abs(X).max(axis=0).toarray().ravel()
    else:
        sizes = np.maximum(X.max(axis=0), -X.min(axis=0))
    column = int(sizes.argmax())
    failure = problem.watch and problem.watch.failure()
    causes = [failure] if failure else []
    if sizes[column] > LARGE:
        label = f"{column}" if names is None else f"{column} ({names[column]!r})"
        causes.append(
            f"column {label} of X is unscaled, with values up to {sizes[column]:.3g} in size "
            "(scale X, for example with StandardScaler)"
        )
    target = np.abs(problem.targets).max() if problem.loss.task == "regression" else 0.0
    if target > LARGE:
        causes.append(
            f"y is unscaled, with values up to {target:.3g} in size (scale it, for example with "
            "TransformedTargetRegressor)"
        )
    if OPTIMIZERS[settings.solver].stochastic:
        causes.append(f"learning_rate_init={settings.learning_rate_init:g} is too high (lower it)")
    return (
        "Solver produced non-finite parameter weights. The input data may contain large values and "
        f"need to be preprocessed. Loss or weights stopped being finite in {when}; likely cause: "
        f"{'; or '.join(causes) or 'the loss is not bounded on these data'}."
    )
