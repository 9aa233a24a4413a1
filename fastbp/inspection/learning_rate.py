"""The learning-rate finder: how the loss answers to growing rates, and which rate that suggests.

It trains a clone of an estimator for some steps through the machinery of a fit, and keeps nothing
of it but the losses.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.pipeline import Pipeline

from fastbp.data.problem import prepare
from fastbp.estimators import BackpropClassifier, BackpropRegressor
from fastbp.estimators.annotations import Features, Targets, Weights
from fastbp.inspection.displays.axes import legend_above, new_axes
from fastbp.messages import warn_user
from fastbp.optimizers import is_full_batch
from fastbp.tabular.attributes import refuse_ensemble
from fastbp.training.causes import LARGE, describe_large_target
from fastbp.training.randomness import draw_seed, own_stream
from fastbp.training.steps import choose_batch_size, new_optimizer, open_session

SMOOTHING = 0.03  # standard deviation of the Gaussian over the steps, as share of their number
# The suggestion is the rate of the lowest loss, divided by this. On nine real data sets with two
# networks and two solvers the score after 25 to 40 epochs was 0.006 (median; at worst 0.04) below
# that of the best of nine rates from 1e-4 to 1. Divided by 3 to 5: worse on the deeper network. The
# steepest point of the curve failed twice, at 1e-5.
BELOW_LOWEST = 10.0
TURNED_UP = 0.1  # share of its fall by which a loss must rise again, or no rate was too high


@dataclass(frozen=True, repr=False)
class LearningRateCurve:
    """The loss at each step of a learning-rate range test; prints as one line.

    Attributes
    ----------
    learning_rates : float64 ndarray of shape (n_steps,)
        Rate of each step, growing exponentially.
    losses : float64 ndarray of shape (n_steps,)
        Loss of the step's minibatch before the step, penalty included; NaN after training diverged.
    smoothed_losses : float64 ndarray of shape (n_steps,)
        `losses`, cut off above and averaged over neighbouring steps.
    suggestion : float
        A rate to begin with, as `learning_rate_init`.
    """

    __module__ = "fastbp"

    learning_rates: np.ndarray
    losses: np.ndarray
    smoothed_losses: np.ndarray
    suggestion: float

    def __repr__(self) -> str:
        rates, losses = self.learning_rates, self.smoothed_losses
        if not np.isfinite(losses).any():
            return f"LearningRateCurve(suggestion={self.suggestion:.2g})"
        at = int(np.nanargmin(losses))
        doubt = ""
        if still_falls(losses):
            doubt = ", where it still fell: no rate was too high"
        elif at == 0:
            doubt = ": it fell at no rate"
        return (
            f"LearningRateCurve(suggestion={self.suggestion:.2g}; of {len(rates)} rates from "
            f"{rates[0]:.2g} to {rates[-1]:.2g} the loss was lowest at {rates[at]:.2g}{doubt})"
        )

    def plot(self, ax: Any = None) -> Any:
        """Draw the losses over the rates, and the suggestion. Needs matplotlib.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        ax : matplotlib Axes
        """
        ax = new_axes(ax)
        (line,) = ax.plot(self.learning_rates, self.smoothed_losses, label="smoothed loss")
        bottom, top = ax.get_ylim()
        ax.plot(
            self.learning_rates, self.losses, ".", color=line.get_color(), alpha=0.4, label="loss"
        )
        ax.axvline(
            self.suggestion, color="k", linestyle="--", label=f"suggestion {self.suggestion:.2g}"
        )
        margin = 0.2 * (top - bottom)
        ax.set(
            xscale="log",
            xlabel="learning rate",
            ylabel="loss",
            ylim=(bottom - margin, top + margin),
        )
        legend_above(ax, ncols=3)
        return ax


def find_learning_rate(
    estimator: Any,
    X: Features,
    y: Targets,
    sample_weight: Weights = None,
    *,
    lowest: float = 1e-6,
    highest: float = 10.0,
    n_steps: int = 100,
) -> LearningRateCurve:
    """Find a learning rate by a range test: one step with each of exponentially growing rates.

    A clone of the estimator starts from its initial weights and takes one minibatch step with
    each rate (Smith 2017). Small rates change nothing, good ones lower the loss, too large ones
    blow it up. Suggested is a tenth of the rate at which the smoothed loss is lowest. It costs
    about as much as ``n_steps * batch_size / n_samples`` epochs; `estimator` stays as it is.

    Parameters
    ----------
    estimator : BackpropClassifier or BackpropRegressor
        With a stochastic solver ('sgd', 'adam'); or a pipeline, search or
        TransformedTargetRegressor that ends in one, fitted or not. Its `learning_rate_init` and
        `learning_rate` are not read; the other settings are, among them `batch_size` and
        `random_state`, which makes the result reproducible. Of a pipeline a clone of the steps
        before is fitted on X, of a TransformedTargetRegressor one of its transformer on y, of a
        search the best estimator is taken, or where it is not fitted the one to search for.
    X : array-like, data frame or sparse matrix of shape (n_samples, n_features)
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
    sample_weight : array-like of shape (n_samples,), default=None
    lowest, highest : float, default=1e-6 and 10
        First and last rate.
    n_steps : int, default=100

    Returns
    -------
    LearningRateCurve
        With `learning_rates`, `losses`, `suggestion` and `plot()`.

    Raises
    ------
    TypeError
        If `estimator` is not one of fastbp's.
    ValueError
        If the solver has no learning rate, for bad arguments, parameters or data, or if no step had
        a finite loss.  What a function of yours raises before any rate has lowered the loss arrives
        as it is.

    Warns
    -----
    UserWarning
        If the loss fell at no rate, or still fell at the highest: then the suggestion means little.

    References
    ----------
    Smith (2017), Cyclical learning rates for training neural networks.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from fastbp import BackpropClassifier, find_learning_rate
    >>> X, y = load_digits(return_X_y=True)
    >>> clf = BackpropClassifier(random_state=0)
    >>> found = find_learning_rate(clf, X / 16, y)
    >>> clf = clf.set_params(learning_rate_init=found.suggestion, tol=0.01).fit(X / 16, y)
    >>> print(f"accuracy {clf.score(X / 16, y):.2f}")
    accuracy 0.99
    """
    model, X, y = open_to_train(estimator, X, y)
    if not (0 < lowest < highest < np.inf):
        raise ValueError(
            f"Expected 0 < lowest < highest. Got lowest={lowest!r}, highest={highest!r}."
        )
    if not n_steps >= 10:
        raise ValueError(f"n_steps must be at least 10. Got {n_steps!r}.")
    model = clone(model).set_callbacks().set_params(early_stopping=False, verbose=False)
    if is_full_batch(model.solver):
        raise ValueError(f"solver={model.solver!r} has no learning rate. Use 'sgd' or 'adam'.")
    rates = np.geomspace(float(lowest), float(highest), int(n_steps))
    losses = np.full(len(rates), np.nan)
    problem = prepare(model, X, y, sample_weight, settings=model._check_parameters())
    with own_stream(problem.settings.random_state) as (random_state, _):
        progress = model._first_progress(problem, random_state)
        sweep(problem, progress, random_state, rates, losses)
    smoothed = smooth(losses)
    known = np.isfinite(smoothed)
    at = int(np.nanargmin(smoothed)) if known.any() else 0
    if at == 0 and problem.watch:  # else long steps led where the user's function refuses
        problem.watch.let_raise(f"step {known.sum() + 1} of find_learning_rate")
    if not known.any():
        raise ValueError(explain_no_loss(problem, rates[0]))
    if at == 0:
        warn_user(
            f"The loss fell at no learning rate from {lowest:g} to {highest:g}: the suggestion "
            "means nothing. Scale X and y, or try a smaller `lowest`."
        )
    elif still_falls(smoothed):
        warn_user(
            f"The loss still fell at the highest learning rate, {rates[-1]:g}, so none was too "
            "high: the suggestion may be too low. Scale X and y, or try a larger `highest`."
        )
    return LearningRateCurve(rates, losses, smoothed, float(rates[at] / BELOW_LOWEST))


def still_falls(losses):
    """Whether the smoothed loss never turned up: at the last rate it is about as low as ever.

    A loss that stopped being finite on the way has turned up.
    """
    if not np.isfinite(losses[-1]):
        return False
    lowest = losses.min()
    return bool(losses[-1] - lowest <= TURNED_UP * (losses[0] - lowest))


def open_to_train(estimator, X, y):
    """Find the fastbp estimator in pipelines, searches and target transformers, fitted or not.

    As `batch.open_wrappers`, which takes what was fitted: here clones of the steps before are
    fitted on X and y, as `fit` would.

    Returns
    -------
    model : BackpropClassifier or BackpropRegressor
    X, y : array-like
        The data as that estimator would be given them.
    """
    model = estimator
    while not isinstance(model, BackpropClassifier | BackpropRegressor):
        refuse_ensemble(model, "find_learning_rate")
        if isinstance(model, Pipeline):
            if len(model) > 1:
                X = clone(model[:-1]).fit_transform(X, y)
            model = model[-1]
        elif isinstance(model, TransformedTargetRegressor):
            y, model = transform_targets(model, y), model.regressor
        elif hasattr(model, "refit") and hasattr(model, "estimator"):
            model = getattr(model, "best_estimator_", model.estimator)
        else:
            raise TypeError(
                "find_learning_rate takes a BackpropClassifier or BackpropRegressor, or a "
                "pipeline, search or TransformedTargetRegressor that ends in one. Got "
                f"{model!r}{'' if model is estimator else f' in {type(estimator).__name__}'}."
            )
    refuse_ensemble(model, "find_learning_rate")
    return model, X, y


def transform_targets(estimator, y):
    """Return y as a TransformedTargetRegressor would give it to its regressor."""
    y = np.asarray(y)
    columns = y.reshape(-1, 1) if y.ndim == 1 else y
    if estimator.transformer is not None:
        columns = clone(estimator.transformer).fit_transform(columns)
    elif estimator.func is not None:
        columns = estimator.func(columns)
    return columns[:, 0] if columns.ndim == 2 and columns.shape[1] == 1 else columns


def sweep(problem, progress, random_state, rates, losses):
    """Take one step with each rate, and write the loss of its minibatch into `losses`.

    Ends when something is no longer finite, or a function of the user's failed.
    """
    settings, n_samples, loss = problem.settings, problem.X.shape[0], np.empty(1)
    batch_size = choose_batch_size(settings.batch_size, n_samples)
    optimizer = new_optimizer(settings)
    if any(problem.dropout):
        optimizer["dropout_seed"] = draw_seed(random_state)
    session = open_session(problem, progress, optimizer, batch_size)
    if problem.watch:
        problem.watch.forget()
    try:
        batches = draw_minibatches(n_samples, batch_size, random_state)
        for step, (rate, rows) in enumerate(zip(rates, batches, strict=False)):
            session.train(
                problem.X,
                problem.targets,
                problem.sample_weight,
                rows,
                shuffle=None,
                batch_size=len(rows),
                alpha=float(settings.alpha),
                learning_rate=float(rate),
                n_epochs=1,
                losses=loss,
            )
            if problem.watch and problem.watch.failure():
                break
            if np.isfinite(loss[0]):
                losses[step] = loss[0]
            if not session.finite:
                break
    finally:
        session.close()


def explain_no_loss(problem, rate):
    """Say that no step had a finite loss, and the likely cause."""
    failure = problem.watch.failure() if problem.watch else None
    causes = [failure] if failure else []
    size = float(abs(problem.X).max())
    if size > LARGE:
        causes.append(f"X has values up to {size:.3g} in size (scale it)")
    target = np.abs(problem.targets).max() if problem.loss.task == "regression" else 0.0
    if target > LARGE:
        causes.append(describe_large_target(problem, target))
    return (
        "The loss was not finite from the first step on, that of the initial weights (learning "
        f"rate {rate:g}): no rate can be suggested. Likely cause: "
        f"{'; or '.join(causes) or 'the loss is not bounded on these data'}."
    )


def draw_minibatches(n_samples, batch_size, random_state):
    """Yield the rows of full minibatches for ever, shuffled anew after each pass."""
    while True:
        order = random_state.permutation(n_samples).astype(np.int64, copy=False)
        for start in range(0, n_samples - batch_size + 1, batch_size):
            yield order[start : start + batch_size].copy()


def smooth(losses):
    """Cut losses off at as much above the first ones as the lowest lie below, and average them.

    The average is Gaussian over the steps, and has no lag; NaN stays NaN.
    """
    known = np.isfinite(losses)
    values = losses[known]
    if not len(values):
        return losses
    first = np.median(values[: max(len(losses) // 20, 1)])
    values = np.minimum(values, first + max(first - values.min(), 0.0))
    at = np.arange(len(losses))[known]
    width = SMOOTHING * len(losses)
    weights = np.exp(-0.5 * ((at[:, np.newaxis] - at) / width) ** 2)
    smoothed = np.full(len(losses), np.nan)
    smoothed[known] = weights @ values / weights.sum(axis=1)
    return smoothed
