"""Training by minibatches: epochs, order, stopping, best weights.

Sentences made of verbs: what happens when, and when it ends.  The arithmetic is the engine's, data
arrives checked from `_validation`, and the estimators turn `Progress` into fitted attributes.  The
rules of stopping and the messages are scikit-learn's.
"""

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
from fastbp.schedules import SCHEDULES, schedule_for
from fastbp.scoring import Validation, split_off_validation

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
HISTORY = tuple(Progress(np.empty(0), loss=0.0, loss_curve=[]).attributes())


def train_stochastic(problem, settings, progress, stream, *, incremental=False):
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
    progress.begin(settings)
    session = problem.open_session(progress.params, batch_size)
    try:
        row, slots = OPTIMIZERS[optimizer["solver"]], optimizer["slots"]
        if slots is not None:
            slots = slots.astype(problem.dtype, copy=False)
        session.set_optimizer(row, optimizer["hyperparameters"], slots, optimizer["t"])
        run = Run(problem, settings, progress, session, optimizer, validation)
        run.order, run.bits = train, stream[1] if settings.shuffle else None
        run.batch_size, run.best_params = batch_size, progress.params
        try:
            with one_blas_thread() if problem.engine.NAME == "numba" else nullcontext():
                run.train(1 if incremental else settings.max_iter, incremental)
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=4)
        progress.params = run.best_params if validation else run.current_params()
        slots = np.empty((row.n_slots, len(progress.params)), problem.dtype)
        session.slots_into(slots)
        progress.optimizer = optimizer | {"slots": slots, "t": session.t}
    finally:
        session.close()


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
    validation: Validation | None
    order: np.ndarray | None = None
    bits: np.random.BitGenerator | None = None
    batch_size: int = 1
    best_params: np.ndarray | None = None

    def train(self, max_iter, incremental):
        """Train until no progress, or `max_iter` epochs (then warn unless incremental)."""
        progress, verbose = self.progress, self.settings.verbose
        schedule = SCHEDULES[self.optimizer["schedule"]]
        watched = self.validation or verbose or schedule.after_epoch or self.problem.watch
        losses = np.empty(1 if watched else min(max_iter, EPOCHS_PER_CALL))
        while progress.n_iter < max_iter:
            self.train_epochs(losses[: max_iter - progress.n_iter])
            if verbose:
                print(f"Iteration {progress.n_iter}, loss = {progress.loss:.8f}")
            if self.validation:
                self.validate()
            if schedule.after_epoch:
                self.optimizer["learning_rate"] = schedule.after_epoch(
                    self.optimizer["learning_rate_init"], progress.t, self.optimizer["power_t"]
                )
            if progress.no_improvement_count > progress.n_iter_no_change:
                if self.stop_on_plateau(schedule):
                    return
                progress.no_improvement_count = 0
        if not incremental:
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({max_iter}) reached and the "
                "optimization hasn't converged yet.",
                ConvergenceWarning,
                stacklevel=5,
            )

    def train_epochs(self, losses):
        """Let the engine train up to `len(losses)` epochs, and record them."""
        problem, progress = self.problem, self.progress
        try:
            self.session.train(
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
                stopping=None if self.validation else progress,
            )
        finally:
            done = self.session.epochs_done
            if done:
                progress.n_iter += done
                progress.t += done * len(self.order)
                progress.loss_curve += losses[:done].tolist()
                progress.loss = progress.loss_curve[-1]
        if not self.session.finite or self.hides_failure():
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

    def validate(self):
        """Score the validation set; keep the weights if they are the best so far."""
        progress = self.progress
        score = self.validation.score(self.session)
        progress.validation_scores.append(score)
        if self.settings.verbose:
            print(f"Validation score: {score:f}")
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
        if self.settings.verbose:
            what = "Validation score" if self.validation else "Training loss"
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
