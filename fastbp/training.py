"""Training: epochs, order, validation, stopping, best weights; and the full-batch solver lbfgs.

Sentences made of verbs: what happens when, and when it ends.  The arithmetic is the engine's, data
arrives checked from `_validation`, and the estimators turn `Progress` into fitted attributes.  The
rules of stopping and the messages are scikit-learn's.
"""

import warnings
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import scipy.optimize
import scipy.sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from fastbp.losses import Loss
from fastbp.optimizers import OPTIMIZERS
from fastbp.schedules import SCHEDULES, schedule_for

EPOCHS_PER_CALL = 4096  # when nobody watches in between; bounds the buffer of losses


@dataclass
class Problem:
    """What is trained: a network, a loss, checked data and the engine that works on them."""

    engine: ModuleType
    layer_sizes: tuple
    activations: list
    loss: Loss
    dtype: np.dtype
    X: np.ndarray
    targets: np.ndarray
    sample_weight: np.ndarray | None
    n_threads: int

    def open_session(self, params, batch_size):
        """Working copy of `params` in the engine; close it when done."""
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

    def rows(self, indices):
        """X, targets and sample weights of some samples."""
        weights = None if self.sample_weight is None else self.sample_weight[indices]
        return self.X[indices], self.targets[indices], weights


@dataclass
class Progress:
    """What training has reached; `attributes` gives it scikit-learn's names."""

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

    HISTORY = (
        "loss_",
        "loss_curve_",
        "best_loss_",
        "validation_scores_",
        "best_validation_score_",
        "_no_improvement_count",
        "_optimizer",
    )

    @classmethod
    def resumed(cls, params, state):
        """Progress of an estimator with attributes `state`; its lists are copied."""
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
        """Prepare for the epochs of a stochastic solver."""
        self.n_iter = 0
        self.tol, self.n_iter_no_change = settings.tol, settings.n_iter_no_change
        self.loss_curve = [] if self.loss_curve is None else self.loss_curve
        if not settings.early_stopping:
            self.best_loss = np.inf if self.best_loss is None else self.best_loss
        elif self.validation_scores is None:
            self.validation_scores, self.best_validation_score = [], -np.inf
            self.best_loss = None

    def attributes(self):
        """Fitted attributes by name."""
        found = {"n_iter_": self.n_iter, "t_": self.t}
        if self.loss is not None:
            found["loss_"] = self.loss
        if self.loss_curve is not None:
            values = (
                self.loss_curve,
                self.best_loss,
                self.validation_scores,
                self.best_validation_score,
                self.no_improvement_count,
                self.optimizer,
            )
            found.update(zip(self.HISTORY[1:], values, strict=True))
        return found


# ------------------------------------------------------------------- solvers with minibatches


def train_stochastic(problem, settings, progress, random_state, *, incremental=False):
    """Train by minibatches, changing `progress`.

    Parameters
    ----------
    problem : Problem
    settings : namespace of the estimator's parameters
    progress : Progress
        Its `params` are replaced, not written to.
    random_state : RandomState
    incremental : bool, default=False
        One epoch, going on with `progress.optimizer` (partial_fit).

    Raises
    ------
    ValueError
        If the validation set is too small, or loss or weights become non-finite.
    """
    if incremental and settings.early_stopping:
        raise ValueError("partial_fit does not support early_stopping=True")
    n_samples = problem.X.shape[0]
    order, validation = np.arange(n_samples), None
    if settings.early_stopping:
        order, validation = split_off_validation(problem, settings, random_state)
    batch_size = choose_batch_size(settings.batch_size, len(order))
    optimizer = progress.optimizer if incremental else None
    optimizer = dict(optimizer or new_optimizer(settings))
    row = OPTIMIZERS[optimizer["solver"]]
    progress.begin(settings)
    session = problem.open_session(progress.params, batch_size)
    try:
        session.set_optimizer(
            row, optimizer["hyperparameters"], _cast(optimizer["slots"], problem), optimizer["t"]
        )
        run = Run(problem, settings, progress, session, optimizer, validation)
        run.order, run.batch_size, run.random_state = order, batch_size, random_state
        run.best_params = progress.params
        try:
            run.epochs(1 if incremental else settings.max_iter, incremental)
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=5)
        progress.params = run.final_params()
        slots = np.empty((row.n_slots, len(progress.params)), problem.dtype)
        session.slots_into(slots)
        progress.optimizer = {**optimizer, "slots": slots, "t": session.t}
    finally:
        session.close()


def new_optimizer(settings):
    """State of a solver before its first step, in plain types that pickle."""
    row = OPTIMIZERS[settings.solver]
    return {
        "solver": settings.solver,
        "hyperparameters": {name: getattr(settings, name) for name in row.hyperparameters},
        "schedule": schedule_for(settings.learning_rate, settings.solver).name,
        "learning_rate_init": float(settings.learning_rate_init),
        "power_t": settings.power_t,
        "learning_rate": float(settings.learning_rate_init),
        "slots": None,
        "t": 0,
    }


def choose_batch_size(batch_size, n_samples):
    """Rows per minibatch: "auto" is 200; never more than there are samples."""
    if batch_size == "auto":
        return min(200, n_samples)
    if batch_size > n_samples:
        warnings.warn(
            "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped",
            stacklevel=6,
        )
    return int(min(batch_size, n_samples))


def _cast(slots, problem):
    return None if slots is None else slots.astype(problem.dtype, copy=False)


class Run:
    """The epochs of one call: train, look, decide."""

    def __init__(self, problem, settings, progress, session, optimizer, validation):
        self.problem = problem
        self.settings = settings
        self.progress = progress
        self.session = session
        self.optimizer = optimizer
        self.validation = validation
        self.schedule = SCHEDULES[optimizer["schedule"]]

    def epochs(self, max_iter, incremental):
        """Train until no progress, or `max_iter` epochs (then warn unless incremental)."""
        progress = self.progress
        watched = self.validation or self.settings.verbose or self.schedule.after_epoch
        losses = np.empty(1 if watched else min(max_iter, EPOCHS_PER_CALL))
        while progress.n_iter < max_iter:
            self.train_epochs(losses[: max_iter - progress.n_iter])
            if self.settings.verbose:
                print(f"Iteration {progress.n_iter}, loss = {progress.loss:.8f}")
            if self.validation:
                self.validate()
            if self.schedule.after_epoch:
                self.optimizer["learning_rate"] = self.schedule.after_epoch(
                    self.optimizer["learning_rate_init"], progress.t, self.optimizer["power_t"]
                )
            if progress.no_improvement_count > progress.n_iter_no_change:
                if self.stop_on_plateau():
                    return
                progress.no_improvement_count = 0
        if not incremental:
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({max_iter}) reached and the "
                "optimization hasn't converged yet.",
                ConvergenceWarning,
                stacklevel=6,
            )

    def train_epochs(self, losses):
        """Let the engine train up to `len(losses)` epochs, and record them."""
        session, problem, settings = self.session, self.problem, self.settings
        try:
            session.train(
                problem.X,
                problem.targets,
                problem.sample_weight,
                self.order if settings.shuffle or self.validation else None,
                shuffle=self.random_state if settings.shuffle else None,
                batch_size=self.batch_size,
                alpha=float(settings.alpha),
                learning_rate=self.optimizer["learning_rate"],
                n_epochs=len(losses),
                losses=losses,
                stopping=None if self.validation else self.progress,
            )
        finally:
            self.record(losses[: session.epochs_done])
        if not session.finite:
            raise ValueError(explain_divergence(problem, settings, self.progress.n_iter, "epoch"))

    def record(self, losses):
        """Add finished epochs to the history."""
        progress = self.progress
        if len(losses):
            progress.n_iter += len(losses)
            progress.t += len(losses) * len(self.order)
            progress.loss_curve += losses.tolist()
            progress.loss = progress.loss_curve[-1]

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

    def stop_on_plateau(self):
        """Whether to end training that no longer improves; otherwise lower the rate."""
        watched = "Validation score" if self.validation else "Training loss"
        message = (
            f"{watched} did not improve more than tol={self.settings.tol:f} for "
            f"{self.settings.n_iter_no_change} consecutive epochs."
        )
        rate, what = None, "Stopping."
        if self.schedule.on_plateau:
            rate = self.schedule.on_plateau(self.optimizer["learning_rate"])
            what = "Learning rate too small. Stopping."
        if rate is not None:
            self.optimizer["learning_rate"] = rate
            what = f"Setting learning rate to {rate:f}"
        if self.settings.verbose:
            print(message, what)
        return rate is None

    def current_params(self):
        """Copy of the weights in the engine."""
        params = np.empty_like(self.progress.params)
        self.session.params_into(params)
        return params

    def final_params(self):
        """Return the best weights with a validation set, else the last."""
        return self.best_params if self.validation else self.current_params()


# ----------------------------------------------------------------------------- validation


def split_off_validation(problem, settings, random_state):
    """Rows to train on, and the validation set, drawn as scikit-learn draws them.

    Stratified for one output (binary); scikit-learn's MLP does not stratify more outputs.
    """
    binary = problem.loss.task == "binary" and problem.targets.shape[1] == 1
    train, held_out = train_test_split(
        np.arange(problem.X.shape[0]),
        random_state=random_state,
        test_size=settings.validation_fraction,
        stratify=problem.targets[:, 0] if binary else None,
    )
    if len(held_out) < 2:
        raise ValueError(
            "The validation set is too small. Increase 'validation_fraction' or the size of your "
            "dataset."
        )
    return train, Validation(problem, held_out)


class Validation:
    """Held-out samples and their score: accuracy or R2, as scikit-learn computes them."""

    def __init__(self, problem, indices):
        self.X, self.targets, self.sample_weight = problem.rows(indices)
        self.engine, self.loss = problem.engine, problem.loss
        self.scores = np.empty((len(indices), problem.layer_sizes[-1]), problem.dtype)

    def score(self, session):
        """Score the session's current weights; NaN if a regressor's prediction is not finite."""
        session.predict_into(self.X, self.scores)
        if self.loss.task == "multiclass":
            correct = self.scores.argmax(axis=1) == self.targets[:, 0]
            return float(np.average(correct, weights=self.sample_weight))
        if self.loss.task == "binary":
            correct = ((self.scores > 0) == (self.targets > 0)).all(axis=1)
            return float(np.average(correct, weights=self.sample_weight))
        self.engine.transform_into(self.loss.output, self.scores)
        return r2(self.targets, self.scores, self.sample_weight)


def r2(y_true, y_pred, sample_weight):
    """Coefficient of determination, mean over outputs: the number `r2_score` gives."""
    if not np.isfinite(y_pred).all():
        return float("nan")
    y_true = y_true.astype(np.float64, copy=False)
    weight = 1.0 if sample_weight is None else sample_weight[:, np.newaxis]
    mean = np.average(y_true, axis=0, weights=sample_weight)
    residual = (weight * (y_true - y_pred) ** 2).sum(axis=0)
    total = (weight * (y_true - mean) ** 2).sum(axis=0)
    constant = total == 0
    scores = 1 - residual / np.where(constant, 1, total)
    scores[constant] = residual[constant] == 0
    return float(np.average(scores))


# ---------------------------------------------------------------------------------- lbfgs


def train_lbfgs(problem, settings, progress):
    """Minimise the full-batch loss by scipy's L-BFGS-B in float64, changing `progress`.

    With several outputs and squared error the mean over the outputs is minimised with its true
    gradient (scikit-learn's gradient is that of the sum there; its issue 8349).

    Raises
    ------
    ValueError
        If loss or weights become non-finite.
    """
    n_samples = problem.X.shape[0]
    session = problem.open_session(progress.params, min(1024, n_samples))
    gradient = np.empty_like(progress.params)
    reached = {"n_iter": 0, "x": progress.params, "loss": None, "last": None}

    def loss_and_gradient(x):
        reached["last"] = session.loss_and_gradient(
            x,
            problem.X,
            problem.targets,
            problem.sample_weight,
            alpha=float(settings.alpha),
            gradient=gradient,
            mean_gradient=problem.loss.output_mean,
        )
        return reached["last"], gradient.copy()

    def after_iteration(x):
        reached.update(n_iter=reached["n_iter"] + 1, x=x.copy(), loss=reached["last"])

    options = {"maxfun": settings.max_fun, "maxiter": settings.max_iter, "gtol": settings.tol}
    try:
        result = scipy.optimize.minimize(
            loss_and_gradient,
            progress.params,
            method="L-BFGS-B",
            jac=True,
            callback=after_iteration,
            options=options,
        )
        reached.update(n_iter=min(result.nit, settings.max_iter), x=result.x, loss=result.fun)
        if result.status != 0:
            warn_not_converged(result, reached["n_iter"], settings.max_iter)
    except KeyboardInterrupt:
        warnings.warn("Training interrupted by user.", stacklevel=5)
    finally:
        session.close()
    progress.params, progress.n_iter = reached["x"], reached["n_iter"]
    if reached["loss"] is not None:
        progress.loss = float(reached["loss"])
        if not (np.isfinite(progress.loss) and np.isfinite(progress.params).all()):
            message = explain_divergence(problem, settings, progress.n_iter, "iteration")
            raise ValueError(message)


def warn_not_converged(result, n_iter, max_iter):
    """Say that L-BFGS-B ended before it converged, in scikit-learn's words."""
    message = (
        f"lbfgs failed to converge after {n_iter} iteration(s) (status={result.status}):\n"
        f"{result.message}\n"
    )
    if n_iter == max_iter:
        message += (
            f"\nIncrease the number of iterations to improve the convergence (max_iter={max_iter})."
        )
    message += (
        "\nYou might also want to scale the data as shown in:\n"
        "    https://scikit-learn.org/stable/modules/preprocessing.html"
    )
    warnings.warn(message, ConvergenceWarning, stacklevel=6)


# ----------------------------------------------------------------------------- divergence


def explain_divergence(problem, settings, number, unit):
    """Sentence that names when training left the finite numbers, and the likely cause."""
    X, names = problem.X, getattr(settings, "feature_names", None)
    if scipy.sparse.issparse(X):
        largest = abs(X).max(axis=0).toarray().ravel()
    else:
        largest = np.maximum(X.max(axis=0), -X.min(axis=0))
    column = int(largest.argmax())
    label = f"{column}" if names is None else f"{column} ({names[column]!r})"
    target = np.abs(problem.targets).max() if problem.loss.task == "regression" else 0.0
    causes = []
    if largest[column] > 30:
        causes.append(
            f"column {label} of X reaches {largest[column]:.3g} in size (scale X, for example with "
            "StandardScaler)"
        )
    if target > 30:
        causes.append(
            f"y reaches {target:.3g} in size (scale it, for example with "
            "TransformedTargetRegressor)"
        )
    if settings.solver != "lbfgs":
        causes.append(f"learning_rate_init={settings.learning_rate_init:g} is too high (lower it)")
    likely = "; or ".join(causes) or "the data need to be preprocessed"
    return (
        f"Solver produced non-finite parameter weights or loss in {unit} {number}. "
        f"The likely cause: {likely}."
    )
