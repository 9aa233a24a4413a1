"""Why training went badly: the sentences that name a cause, and the change that helps.

Two occasions: a loss (of training, or of validation) that stopped being finite, which is an error,
and training that ended no better than predicting a constant, which is a warning.  A fit that went
well pays for neither; nothing here trains or changes anything.
"""

import os
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import scipy.sparse
import sklearn.callback
from sklearn.exceptions import ConvergenceWarning

from fastbp import network
from fastbp.optimizers import is_full_batch

LARGE = 30.0  # columns of X (and targets, when training diverges) beyond this size are named
SAMPLE_ROWS = 512  # on which the loss is compared with that of a constant
POOR = 0.95  # share of the constant's loss from which training counts as failed
UNIT_SCALE = (0.1, 10.0)  # standard deviations of y that need no scaling; also the largest mean
DEAD = 0.9  # share of a layer's units
ROSE = 3.0  # a loss above so many times the constant's has exploded on the way


# What stands between the user's line and a warning.
INSIDE = tuple(
    f"{Path(str(module.__file__)).parent}{os.sep}" for module in (network, sklearn.callback)
)


def warn_user(message, category=UserWarning):
    """Warn, with the line that called fastbp as the place."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_code.co_filename.startswith(INSIDE):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


# ------------------------------------------------------------------------------ divergence


def explain_divergence(problem, settings, when):
    """Say when training left the finite numbers, and the likely cause.

    What a function of the user's raised is raised again instead, as it is.
    """
    failure = _failure_of(problem, when)
    causes = [failure] if failure else []
    if scipy.sparse.issparse(problem.X):
        sizes = abs(problem.X).max(axis=0).toarray().ravel()
    else:
        sizes = np.maximum(problem.X.max(axis=0), -problem.X.min(axis=0))
    causes += name_unscaled_column(sizes, "values up to {:.3g} in size", settings)
    target = np.abs(problem.targets).max() if problem.loss.task == "regression" else 0.0
    if target > LARGE:
        causes.append(f"y {_far_off(problem, settings, f'values up to {target:.3g} in size')}")
    if not is_full_batch(settings.solver):
        causes.append(f"learning_rate_init={settings.learning_rate_init:g} is too high (lower it)")
    return (
        "Solver produced non-finite parameter weights. The input data may contain large values and "
        f"need to be preprocessed. Loss or weights stopped being finite in {when}; likely cause: "
        f"{'; or '.join(causes) or 'the loss is not bounded on these data'}."
    )


def _failure_of(problem, when):
    """Sentence about a function of the user's that failed, or None; raises what it raised."""
    if not problem.watch:
        return None
    problem.watch.let_raise(when)
    return problem.watch.failure()


def explain_validation(problem, when):
    """Say that the loss of the validation data is NaN while that of training is not, and why.

    What a function of the user's raised is raised again instead, as it is.
    """
    failure = _failure_of(problem, f"the validation data after {when}")
    cause = failure or "values far beyond those of the training data"
    return (
        f"The loss of the validation data is NaN after {when}, though training goes well; likely "
        f"cause: {cause}. Look for such values in the validation data (X_val and y_val, if given)."
    )


def _far_off(problem, settings, what):
    """Say of a y what is far from unit scale, and what mends it that is not in force already."""
    if getattr(settings, "scale_targets", False):
        return (
            f"has, divided by the scale that was measured first, {what} (look for outliers; after "
            "calls with other data fit anew with warm_start=False)"
        )
    cure = "set scale_targets=True" if problem.loss.link == "identity" else "scale it"
    return f"is unscaled, with {what} ({cure})"


def name_unscaled_column(sizes, text, settings):
    """Name the largest column of X in a list of one sentence; an empty list if none is large."""
    column, names = int(sizes.argmax()), settings.feature_names
    if not sizes[column] > LARGE:
        return []
    label = f"{column}" if names is None else f"{column} ({names[column]!r})"
    return [
        f"column {label} of X is unscaled, with {text.format(sizes[column])} (scale X, for example "
        "with StandardScaler)"
    ]


# ------------------------------------------------------------------------------ poor ends


def looks_healthy(problem, curve, *, stalled):
    """Whether the losses alone say that training went well, so that nothing need be computed.

    The first epoch's loss was that of data in scale: for regression between 0.2 and 10 (targets of
    variance 1 begin between 0.5 and 1), for classification at most `ROSE` times that of guessing.
    And the loss fell since; by a tenth, if training ended because it no longer did.
    """
    if problem.loss.task == "regression":
        low, high = 0.2, 10.0
    else:
        n_outputs = problem.layer_sizes[-1]
        guessing = np.log(n_outputs) if problem.loss.task == "multiclass" else n_outputs * np.log(2)
        low, high = 0.0, ROSE * guessing
    return low <= curve[0] <= high and curve[-1] < (0.9 if stalled else 1.0) * curve[0]


def warn_if_poor(problem, settings, params, rows, curve, *, stalled):
    """Warn if a network does no better than a constant and the cause can be named.

    Of 190 fits (eleven real data sets; X raw and standardised, y also shifted by 30 and times 30
    and 0.001; rates 0.001 to 1) it warned of every regressor with a training R2 up to 0.01, of one
    with more (0.22), and of no classifier that fitted well.

    The criterion: on at most `SAMPLE_ROWS` training samples the loss is at least `POOR` of that of
    the best constant prediction (the mean; class frequencies), and at least one of these holds:

    - the root mean square of a column of X is beyond `LARGE` (outliers of a standardised column do
      not count);
    - the standard deviation of y lies outside of `UNIT_SCALE`, or its mean beyond;
    - `DEAD` of a layer's rectified units are 0 for every sample (stochastic solvers: L-BFGS under a
      strong penalty ends there on purpose);
    - and if neither X nor y is the cause, the learning rate is: the last loss is more than twice
      the best, or an epoch had more than `ROSE` times the constant's loss and training then
      stalled.

    Parameters
    ----------
    problem : fastbp.training.Problem
    settings : namespace of the estimator's parameters
    params : ndarray of shape (n_params,)
        What training ended with, in the problem's dtype.
    rows : ndarray of int
        Rows that were trained on.
    curve : list of float
        Loss of each epoch; may be empty.
    stalled : bool
        Whether training ended because the loss no longer improved.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # weights may be huge where it went wrong
        found = _find_causes(problem, settings, params, rows, curve, stalled)
    if found:
        loss, constant, n_samples, causes = found
        warn_user(
            "Training ended no better than predicting a constant (loss "
            f"{loss:.3g}, a constant has {constant:.3g}, on {n_samples} samples). Likely "
            f"cause: {'; or '.join(causes)}.",
            ConvergenceWarning,
        )


def _find_causes(problem, settings, params, rows, curve, stalled):
    """Return loss, loss of a constant, number of samples and causes; None if there is no cause."""
    if curve and looks_healthy(problem, curve, stalled=stalled):
        return None
    sample = take_sample(problem, rows)
    constant = loss_of_constant(sample)
    loss = loss_at(sample, params)
    if not (np.isfinite(loss) and constant > 0 and loss >= POOR * constant):
        return None
    sizes = root_mean_square(sample.X)
    text = "a root mean square of {:.3g}"
    causes = name_unscaled_column(sizes, text, settings)
    causes += name_unscaled_target(problem, settings)
    if not causes and is_rate_too_high(curve, constant, stalled=stalled):
        causes.append(f"learning_rate_init={settings.learning_rate_init:g} is too high (lower it)")
    if not is_full_batch(settings.solver):
        causes += name_dead_units(sample, params)
    return (loss, constant, len(sample.targets), causes) if causes else None


def take_sample(problem, rows):
    """Return the problem with at most `SAMPLE_ROWS` of its rows, evenly spaced among `rows`."""
    rows = np.sort(rows)[:: -(-len(rows) // SAMPLE_ROWS)]
    weight = problem.sample_weight
    if weight is not None and not weight[rows].any():
        weight = None
    return replace(
        problem,
        X=problem.X[rows],
        targets=problem.targets[rows],
        sample_weight=None if weight is None else weight[rows],
    )


def root_mean_square(X):
    """Root mean square of each column, dense or sparse."""
    squares = X.multiply(X) if scipy.sparse.issparse(X) else np.square(X)
    return np.sqrt(np.asarray(squares.mean(axis=0, dtype=np.float64)).ravel())


def loss_at(problem, params):
    """Loss of all samples without penalty: one pass of the engine."""
    session = problem.open_session(params, min(len(problem.targets), SAMPLE_ROWS))
    try:
        return session.loss_and_gradient(
            params, problem.X, problem.targets, problem.sample_weight, alpha=0.0,
            gradient=np.empty_like(params),
        )  # fmt: skip
    finally:
        session.close()


def loss_of_constant(problem):
    """Loss of the constant that predicts the mean of y, or the class frequencies."""
    targets, weight = problem.targets.astype(np.float64), problem.sample_weight
    n_outputs = problem.layer_sizes[-1]
    if problem.loss.target == "class":
        targets = targets == np.arange(n_outputs)
    mean = np.average(targets, axis=0, weights=weight)
    tiny = 1e-6
    raw = {
        "identity": lambda: mean,
        "increments": lambda: [*mean, *[np.log(tiny)] * (n_outputs - 1)],  # all quantiles there
        "log": lambda: np.log(np.maximum(mean, tiny)),
        "logit": lambda: np.log((mean + tiny) / (1 - mean + tiny)),
        "multinomial": lambda: np.log(mean + tiny),
    }[problem.loss.link]()
    params = np.zeros(2 * n_outputs, problem.dtype)  # a feature that is 0, and biases
    params[n_outputs:] = raw
    column = np.zeros((len(targets), 1), problem.dtype)
    shrunk = replace(problem, layer_sizes=(1, n_outputs), activations=[], X=column)
    return loss_at(shrunk, params)


def name_unscaled_target(problem, settings):
    """Say that a regressor's y is far from unit scale, in a list of at most one sentence."""
    if problem.loss.task != "regression" or problem.loss.link != "identity":
        return []
    mean = problem.targets.mean(axis=0, dtype=np.float64)
    spread = problem.targets.std(axis=0, dtype=np.float64)
    low, high = UNIT_SCALE
    far = (spread > 0) & ((spread < low) | (spread > high) | (np.abs(mean) > high))
    if not far.any():
        return []
    output = int(far.argmax())
    which = f"output {output} of y" if len(mean) > 1 else "y"
    what = f"mean {mean[output]:.3g} and standard deviation {spread[output]:.3g}"
    return [f"{which} {_far_off(problem, settings, what)}"]


def is_rate_too_high(curve, constant, *, stalled):
    """Whether the losses of the epochs went up, at the end or within an epoch on the way."""
    if not curve:
        return False
    last, highest = curve[-1], max(curve)
    came_down = highest > ROSE * constant and last < 0.5 * highest
    return last > 2 * min(curve) or (stalled and came_down)


def name_dead_units(problem, params):
    """Say that rectified units of a layer are 0 for every sample, in a list of at most one."""
    # By the engine: a product by OpenBLAS would leave threads of its own spinning for 0.1 s, which
    # cost the next fit's second thread 30 ms (November 2026).
    coefs, intercepts = network.views(params, problem.layer_sizes)
    a = problem.X
    for layer, row in enumerate(problem.activations):
        if row.kernel != "relu":
            break
        below, a = a, np.empty((a.shape[0], len(intercepts[layer])), problem.dtype)
        one = slice(layer, layer + 1)
        problem.engine.predict_into(coefs[one], intercepts[one], [row], below, a, 1)
        n_dead = int((a.max(axis=0) == 0).sum())
        if n_dead >= DEAD * a.shape[1]:
            return [
                f"{n_dead} of {a.shape[1]} units of hidden layer {layer + 1} are dead: their "
                "output is 0 for every sample (lower learning_rate_init, or use another "
                "activation, such as 'tanh')"
            ]
    return []
