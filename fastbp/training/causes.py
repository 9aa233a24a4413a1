"""Why training went badly: the sentences that name a cause, and the change that helps.

Two occasions: a loss (of training, or of validation) that stopped being finite, which is an error,
and training that ended no better than predicting a constant, or before it converged, which is a
warning: one for a fit.  A fit that went well pays for neither; nothing here trains or changes
anything.
"""

from dataclasses import replace
from functools import partial

import numpy as np
import scipy.sparse
from sklearn.exceptions import ConvergenceWarning

from fastbp.activations import ACTIVATIONS
from fastbp.data.best_constant import constant_scores, starts_as_drawn
from fastbp.data.row_source import RowSource, SharedRows
from fastbp.data.scaling import is_coarse, measure
from fastbp.engine import network
from fastbp.losses import Loss
from fastbp.messages import warn_user
from fastbp.optimizers import AUTO_BATCH_SIZE, is_full_batch, optimizer_for
from fastbp.schedules import Function
from fastbp.tables import as_written
from fastbp.training.scoring import score_of

LARGE = 30.0  # columns of X (and targets, when training diverges) beyond this size are named
SAMPLE_ROWS = 512  # on which the loss is compared with that of a constant
POOR = 0.95  # share of the constant's loss from which training counts as failed
UNIT_SCALE = (0.1, 10.0)  # standard deviations of y that need no scaling; also the largest mean
DEAD = 0.9  # share of a layer's units
ROSE = 3.0  # a loss above so many times the constant's has exploded on the way
STANDARD = 2.0  # root mean square up to which a column was standardised
HEAVY = 0.1  # share of a loss from which the penalty of the initial weights counts
UNIT_LOSS = 0.5  # loss of a constant, about, for targets of unit scale or two classes
SHRUNK = 0.5  # size of the weights relative to the initial ones
MOVED = 0.01  # sum of all learning rates relative to the initial weights
SMALL_WEIGHT = 0.01  # mean of sample weights at which the penalty is a hundred times as strong
FLAT = 1e-3  # fall of a loss that stood still, relative to itself


# ------------------------------------------------------------------------------ divergence


def name_large_column(problem):
    """Say that a column of X has large values, in a list of at most one part."""
    if scipy.sparse.issparse(problem.X):
        sizes = abs(problem.X).max(axis=0).toarray().ravel()
    else:
        sizes = np.maximum(problem.X.max(axis=0), -problem.X.min(axis=0))
    column = int(sizes.argmax())
    with np.errstate(over="ignore"):
        is_standard = root_mean_square(problem.X[:, [column]])[0] <= STANDARD
    if is_standard and sizes[column] > LARGE:
        return [
            f"{name_column(column, problem)} has outliers up to {sizes[column]:.3g} in size (clip "
            "them, or use QuantileTransformer)"
        ]
    return name_unscaled_column(sizes, "values up to {:.3g} in size", problem)


def explain_divergence(problem, when):
    """Say when training left the finite numbers, and the likely cause.

    What a function of the user's raised is raised again instead, as it is.
    """
    settings = problem.settings
    failure = _failure_of(problem, when)
    causes = [failure] if failure else []
    if isinstance(problem.X, SharedRows):
        problem = replace(problem, X=problem.X[:])
    problem = problem.in_memory()
    if not isinstance(problem.X, RowSource):  # else encoded, and of unit size
        causes += name_large_column(problem)
    target = np.abs(problem.targets).max() if problem.loss.task == "regression" else 0.0
    if target > LARGE:
        causes.append(describe_large_target(problem, target))
    causes += name_overshooting_penalty(problem)
    if not is_full_batch(settings.solver):
        causes.append(describe_high_rate(settings))
    return (
        "Solver produced non-finite parameter weights. The input data may contain large values and "
        f"need to be preprocessed. Loss or weights stopped being finite in {when}; likely cause: "
        f"{'; or '.join(causes) or 'the loss is not bounded on these data'}."
    )


def describe_high_rate(settings):
    """Say that the learning rate is too high, by the parameters that make it."""
    rate = f"learning_rate_init={settings.learning_rate_init:g}"
    if not is_function_of_steps(settings.learning_rate):
        return f"{rate} is too high (lower it)"
    return (
        f"the learning rate, {rate} times what the function learning_rate returns, is too high "
        "(lower one of them)"
    )


def is_function_of_steps(learning_rate):
    """Whether the learning rate is what a function of the user's makes of it."""
    return isinstance(learning_rate, Function) or callable(learning_rate)


def describe_large_target(problem, size):
    """Say that targets up to a size are more than training can bear."""
    if is_scaled(problem.settings):
        return f"y has values up to {size:.3g} standard deviations from its mean (clip them)"
    cure = "set scale_targets=True" if problem.loss.link == "identity" else "divide it by its mean"
    return f"y is unscaled, with values up to {size:.3g} in size ({cure})"


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


def name_column(column, problem):
    """Name a column of X, by what the user calls it."""
    names = problem.feature_names
    return f"column {column}{'' if names is None else f' ({names[column]!r})'} of X"


def name_unscaled_column(sizes, text, problem):
    """Name the largest column of X in a list of one sentence; an empty list if none is large."""
    column = int(sizes.argmax())
    if not sizes[column] > LARGE:
        return []
    return [
        f"{name_column(column, problem)} is unscaled, with {text.format(sizes[column])} (scale X, "
        "for example with StandardScaler)"
    ]


# ------------------------------------------------------------------------------------- y


def warn_of_one_class(classes):
    """Warn that nothing is to be told apart: no UserWarning, for scikit-learn's tests refuse it."""
    warn_user(
        f"y has only one class, {as_written(classes)[0]!r}: it will be predicted for every sample, "
        "with a probability of 1. To learn to tell classes apart, look at how y was split or made.",
        RuntimeWarning,
    )


def warn_of_kept_scale(problem):
    """Warn if the first part of y, whose scale all later parts are given, has no spread."""
    targets, kind = problem.targets, ""
    if problem.sample_weight is not None:
        targets, kind = targets[problem.sample_weight > 0], " of weight > 0"
    if (targets == targets[0]).all(axis=0).any():
        warn_user(
            f"The first call of partial_fit got {len(targets)} sample"
            f"{'s' * (len(targets) > 1)}{kind} with one value of y. With scale_targets=True its "
            "mean and spread (here taken as 1) are kept for all later calls: begin with some "
            "hundred samples, or scale y yourself."
        )


def warn_of_data(problem, *, fresh, incremental):
    """Warn of what is known of y before training."""
    if fresh and incremental and problem.target_units:
        warn_of_kept_scale(problem)
    if problem.one_class and (fresh or not incremental):
        warn_of_one_class(problem.classes)


def is_scaled(settings):
    """Whether targets are standardised inside; a classifier's settings do not say."""
    return getattr(settings, "scale_targets", False)


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


def warn_of_end(problem, params, rows, curve, *, stalled, unfinished=None):
    """Warn, once, if training ended before it converged or did no better than a constant.

    Of 190 fits (eleven real data sets; X raw and standardised, y also shifted by 30 and times 30
    and 0.001; rates 0.001 to 1) it warned of every regressor with a training R2 up to 0.01, of one
    with more (0.22), and of no classifier that fitted well.

    The criterion for a poor end: on at most `SAMPLE_ROWS` training samples the loss, without
    penalty, is at least `POOR` of that of the best constant prediction, and a classifier that is
    below it has no better accuracy either; and a cause can be named (`_find_causes`).

    Parameters
    ----------
    problem : fastbp.data.problem.Problem
    params : ndarray of shape (n_params,)
        What training ended with, in the problem's dtype.
    rows : ndarray of int
        Rows that were trained on.
    curve : list of float
        Loss of each epoch; may be empty.
    stalled : bool
        Whether training ended because the loss no longer improved.
    unfinished : str or None, default=None
        What there is to say of training that did not converge.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # weights may be huge where it went wrong
        converged = is_full_batch(problem.settings.solver) and not unfinished
        poor = describe_poor(problem, params, rows, curve, stalled=stalled, converged=converged)
    sentences = [sentence for sentence in (unfinished, poor) if sentence]
    if sentences:
        between = "\n" if unfinished and "\n" in unfinished else " "
        warn_user(between.join(sentences), ConvergenceWarning)


def describe_poor(problem, params, rows, curve, *, stalled, converged=False):
    """Say how poor the end is and why; None if it is not, or has no cause that can be named."""
    settings = problem.settings
    penalty = penalty_at_start(problem, len(rows))
    # Whether the curve is that of the data: without much penalty, nor many units left out.
    is_clear = bool(curve) and penalty < HEAVY * curve[0] and max(problem.dropout, default=0) <= 0.5
    if is_clear and looks_healthy(problem, curve, stalled=stalled):
        return None
    sample = take_sample(problem, rows)
    constant = loss_of_constant(sample)
    loss = loss_at(sample, params)
    if not (np.isfinite(loss) and constant > 0 and loss >= POOR * constant):
        return None
    if loss < constant and is_more_accurate(sample, params):
        return None
    sizes = root_mean_square(sample.X)
    # A penalty that is heavy for any data comes first: scaling would not help against it.
    is_least = converged and not problem.activations  # a linear model has no other minimum
    shrinkage = partial(name_shrinkage, problem, params, rows, curve)
    causes = shrinkage(penalty > HEAVY * max(constant, UNIT_LOSS), crushes=True)
    if not causes:
        if not is_least:
            causes = name_unscaled_column(sizes, "a root mean square of {:.3g}", problem)
        causes += name_unscaled_target(problem, only_small=is_least)
    causes = causes or shrinkage(penalty > HEAVY * constant)
    causes = causes or name_dropout(problem)
    if not causes and is_clear and is_rate_too_high(curve, constant, stalled=stalled):
        causes.append(describe_high_rate(settings))
    if not causes and stalled:
        causes = name_low_rate(problem, rows, curve)
    if not is_full_batch(settings.solver):
        causes += name_dead_units(sample, params)
    if not causes:
        return None
    return (
        f"Training ended {'no' if loss > 0.999 * constant else 'hardly'} better than predicting a "
        f"constant (loss {loss:.3g}, a constant has {constant:.3g}, on {len(sample.targets)} "
        f"samples). Likely cause: {'; or '.join(causes)}."
    )


def take_sample(problem, rows):
    """Return the problem with at most `SAMPLE_ROWS` of its rows, evenly spaced among `rows`."""
    return problem.some_rows(rows, SAMPLE_ROWS)


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
    """Loss of the constant that is best for y, or (losses of a user's own) of its mean."""
    loss, n_outputs = problem.loss, problem.layer_sizes[-1]
    if loss.constant is None and loss.link != "increments":
        loss = Loss(**{**loss.get_params(deep=False), "constant": ("mean",)})
    params = np.zeros(2 * n_outputs, problem.dtype)  # a feature that is 0, and biases
    params[n_outputs:] = constant_scores(loss, problem.targets, problem.sample_weight, n_outputs)
    column = np.zeros((len(problem.targets), 1), problem.dtype)
    return loss_at(replace(problem, layer_sizes=(1, n_outputs), activations=[], X=column), params)


def is_more_accurate(problem, params):
    """Whether a classifier is right clearly more often than its best constant."""
    if problem.loss.task == "regression":
        return False
    n_samples, n_outputs = len(problem.targets), problem.layer_sizes[-1]
    scores = np.empty((n_samples, n_outputs), problem.dtype)
    coefs, intercepts = network.views(params, problem.layer_sizes)
    problem.engine.predict_into(coefs, intercepts, problem.activations, problem.X, scores, 1)
    accuracy = score_of(problem, scores)
    scores[:] = constant_scores(problem.loss, problem.targets, problem.sample_weight, n_outputs)
    return 1 - accuracy < (1 - HEAVY) * (1 - score_of(problem, scores))


def name_unscaled_target(problem, *, only_small=False):
    """Say that a regressor's y is far from unit scale, in a list of at most one sentence.

    Where the output begins at the best constant, a large mean does no harm but to the digits.
    """
    settings = problem.settings
    if problem.loss.task != "regression" or problem.loss.link != "identity":
        return []
    mean, spread = measure(problem.targets, problem.sample_weight)
    low, high = UNIT_SCALE
    far = (spread < low) | (spread > high)
    if problem.loss.constant is None or starts_as_drawn(problem.loss, settings.dtype):
        far |= np.abs(mean) > high
    elif problem.dtype == np.float32:
        far |= is_coarse(mean, spread)
    if only_small:  # losses so small that they seem to have converged
        far &= spread < low
    far &= np.ptp(problem.targets, axis=0) > 0
    if not far.any():
        return []
    output = int(far.argmax())
    which = f"output {output} of y" if len(mean) > 1 else "y"
    cure = "set scale_targets=True"
    if is_scaled(settings):
        which += ", in units of the first call's y,"
        cure = "call fit with warm_start=False to measure them again"
    return [
        f"{which} has mean {mean[output]:.3g} and standard deviation {spread[output]:.3g} ({cure})"
    ]


def penalty_at_start(problem, n_rows):
    """Return what the L2 penalty of fresh weights adds to the loss."""
    return _pull_of_penalty(problem, n_rows) * _initial_squares(problem) / 2


def _pull_of_penalty(problem, n_rows):
    """Return the gradient of the L2 penalty, as a share of the weights."""
    rows = rows_per_step(problem.settings, n_rows)
    return float(problem.settings.alpha) / (rows * _mean_weight(problem))


def _mean_weight(problem):
    weight = problem.sample_weight
    return 1.0 if weight is None else float(weight.mean(dtype=np.float64))


def _describe_alpha(problem):
    """Write `alpha`, what the weights of the samples make of it, and what to do."""
    written, weight = f"alpha={problem.settings.alpha:g}", _mean_weight(problem)
    if weight > SMALL_WEIGHT:
        return written, "lower it"
    return (
        f"{written}, divided by sample weights of mean {weight:.2g},",
        "scale the weights to a mean of 1, or lower alpha",
    )


def _initial_squares(problem):
    entries = problem.activations or [ACTIVATIONS["identity"]]
    return network.initial_squares(problem.layer_sizes, entries, problem.settings.init)


def rows_per_step(settings, n_rows):
    """Return how many rows a step has, for which together the penalty counts once."""
    if is_full_batch(settings.solver):
        return n_rows
    wanted = AUTO_BATCH_SIZE if settings.batch_size == "auto" else settings.batch_size
    return min(wanted, n_rows)


def sum_of_rates(settings, rows, curve):
    """Return the learning rate times the number of steps."""
    n_steps = len(curve) * -(-len(rows) // rows_per_step(settings, len(rows)))
    return settings.learning_rate_init * n_steps


def weight_decay_of(settings):
    """Weight decay of the solver, apart from the penalty; 0 for one without."""
    entry = optimizer_for(settings.solver, settings)
    return float(getattr(entry, entry.decay)) if entry.decay else 0.0


def name_shrinkage(problem, params, rows, curve, is_heavy, *, crushes=False):
    """Say what made the weights small, in a list of at most two parts; empty if they are not.

    With `crushes` a weight decay counts only where it takes more off the initial weights than the
    step of an optimiser such as Adam, which is about the rate, can add.
    """
    settings = problem.settings
    coefs, _ = network.views(params, problem.layer_sizes)
    squares = sum(float(np.square(weights, dtype=np.float64).sum()) for weights in coefs)
    size = np.sqrt(squares / _initial_squares(problem))
    if size > SHRUNK:
        return []
    causes = [_describe_alpha(problem)] if is_heavy else []
    decay = weight_decay_of(settings)
    initial = np.sqrt(_initial_squares(problem) / network.count_params(problem.layer_sizes))
    strong = decay * initial > 1 or not crushes
    if strong and decay * sum_of_rates(settings, rows, curve) > -np.log(SHRUNK):
        causes.append((f"weight_decay={decay:g}", "lower it"))
    shrank = f"is too strong: it shrank the weights to {size:.2g} of their initial size"
    return [f"{cause} {shrank} ({cure})" for cause, cure in causes]


def name_overshooting_penalty(problem):
    """Say that a step takes more off the weights than there is, in a list of at most two parts.

    It is not to blame where only a rate above 1 makes it so; but where the dtype cannot hold the
    square of its gradient, which all solvers but "sgd" take.
    """
    settings, pull = problem.settings, _pull_of_penalty(problem, problem.X.shape[0])
    alpha, cure = _describe_alpha(problem)
    if pull > np.sqrt(float(np.finfo(problem.dtype).max)) / 10:
        return [f"{alpha} is too strong for {problem.dtype} ({cure})"]
    if is_full_batch(settings.solver):
        return []
    rate, causes = min(settings.learning_rate_init, 1.0), []
    if rate * pull > 1 and optimizer_for(settings.solver, settings).name == "sgd":
        causes.append((alpha, cure))
    if rate * weight_decay_of(settings) > 1:
        causes.append((f"weight_decay={weight_decay_of(settings):g}", "lower it"))
    return [f"{cause} is too strong for this learning rate ({cure})" for cause, cure in causes]


def name_low_rate(problem, rows, curve):
    """Say that all steps together could hardly move a weight, in a list of at most one sentence."""
    settings = problem.settings
    size = np.sqrt(_initial_squares(problem) / network.count_params(problem.layer_sizes))
    stood_still = curve[0] - curve[-1] < FLAT * curve[0] > settings.tol  # and tol would have seen
    if not stood_still or sum_of_rates(settings, rows, curve) > MOVED * size:
        return []
    return [
        f"learning_rate_init={settings.learning_rate_init:g} is too low: weights of size "
        f"{size:.2g} hardly moved until the loss seemed to stand still (raise it)"
    ]


def name_dropout(problem):
    """Say that hardly a unit of a layer is kept in a step, in a list of at most one sentence."""
    for layer, rate in enumerate(problem.dropout):
        n_units = problem.layer_sizes[layer + 1]
        if rate > 0.5 and (1 - rate) * n_units < 2:
            return [
                f"dropout={rate:g} leaves on average {(1 - rate) * n_units:.2g} of {n_units} units "
                f"of hidden layer {layer + 1} in a step (lower it)"
            ]
    return []


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
    for layer, entry in enumerate(problem.activations):
        if entry.kernel != "relu":
            break
        below, a = a, np.empty((a.shape[0], len(intercepts[layer])), problem.dtype)
        one = slice(layer, layer + 1)
        problem.engine.predict_into(coefs[one], intercepts[one], [entry], below, a, 1)
        n_dead = int((a.max(axis=0) == 0).sum())
        if n_dead >= DEAD * a.shape[1]:
            return [
                f"{n_dead} of {a.shape[1]} units of hidden layer {layer + 1} are dead: their "
                "output is 0 for every sample (lower learning_rate_init, or use another "
                "activation, such as 'tanh')"
            ]
    return []
