"""What a diagnosis looks at: measures of a trained network, and the checks of them.

Each check yields findings: what was seen, with numbers, and what to change, with parameter names.
The thresholds stand together at the top.
"""

import math
from dataclasses import dataclass, field

import numpy as np
import scipy.optimize
import scipy.sparse

from fastbp.activations import ACTIVATIONS
from fastbp.inspection.architecture import layers_of, total_params
from fastbp.inspection.batch import evaluate_activation, evaluate_loss, feature_names
from fastbp.tables import as_written
from fastbp.training import causes
from fastbp.training.causes import LARGE

UNEVEN = 100.0  # a column whose largest value is so many times below the median one is unscaled
SATURATED_SLOPE, SATURATED_SHARE = 0.01, 0.9  # slope below 1 % of the largest, for 90 % of samples
MANY_UNITS = 0.2  # share of a layer's units from which dead or saturated ones are a problem
SOME_UNITS = 0.1  # from which dead ones are a hint: a wide relu layer always has a few
SHRINKING, GROWING = 1e-3, 1e3  # size of the first layer's deltas relative to the last one's
GAP, WIDE_GAP = 0.1, 0.3  # between the skills on training and validation data
EXPLODED = -1.0  # skill of a classifier whose log loss is twice a constant's
LITTLE_SKILL = 0.1  # share of a constant prediction's loss that the network removes
# Loss: share of epochs in which it may rise by more than 2 % of itself (and 1 % of its whole fall);
# and how much of itself (and 2 % of the first) the last may be above the lowest.
RISES, JUMP, RIPPLE, UPHILL = 0.25, 0.02, 0.01, 0.2
STILL_FALLING = 0.02  # fall of the loss over the last tenth of the epochs
HARDLY_FELL = 0.7  # loss of the last epoch relative to the first
STEADY = 0.9  # share of the later epochs in which a slow loss falls
ENOUGH_SKILL, GOOD_SKILL = 0.5, 0.95  # beyond which a slow, or a falling, loss is no finding
HEAVY_PENALTY = 0.05  # share of the loss from which a smaller alpha may help
WORSE = 0.05  # rise of the validation loss after its best epoch
NEAR = np.linspace(-7.9, 8.1, 33)  # where `fit` has found users' activations to be defined, too
NAMED = 3  # columns that a finding names


@dataclass(frozen=True)
class Finding:
    """One thing that `diagnose` found.

    Attributes
    ----------
    topic : str
        One of "unscaled inputs", "unscaled targets", "dead units", "saturated units", "vanishing
        gradients", "exploding gradients", "learning rate", "more epochs", "over-fitting",
        "under-fitting", "not finite", "constant y", "outliers".
    severity : {"problem", "hint"}
    seen : str
        What was measured, and what it means.
    fix : str
        What to change.
    raises_rate : bool
        Whether the fix may be a higher learning rate.
    cost : float
        Share of what the network could do that this may cost, from 0 to 1, to sort by: measured for
        units and for skills, an order of importance for the rest.
    """

    __module__ = "fastbp.inspection"

    topic: str
    severity: str
    seen: str
    fix: str
    raises_rate: bool = field(default=False, repr=False)
    cost: float = field(default=math.nan, repr=False)  # NaN: that of the topic

    def __post_init__(self):
        if math.isnan(self.cost):
            object.__setattr__(self, "cost", COSTS[self.topic])

    @property
    def mend(self):
        """The earlier name of `fix`."""
        return self.fix


# What no measure tells the cost of: nothing is learned at all, all layers learn badly, some do.
COSTS = {
    "not finite": 1.0, "constant y": 1.0, "unscaled inputs": 0.95, "unscaled targets": 0.9,
    "learning rate": 0.8, "exploding gradients": 0.7, "vanishing gradients": 0.7, "dead units": 0.5,
    "saturated units": 0.5, "over-fitting": 0.2, "more epochs": 0.1, "outliers": 0.05,
    "under-fitting": 0.0,
}  # fmt: skip


# -------------------------------------------------------------------------------- measures


def _rms(array):
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.sqrt(np.mean(np.square(array)))) if array.size else 0.0


def measure_layers(network, result):
    """One dict of numbers for each layer of weights."""
    rows = []
    n_layers = len(network.coefs)
    for l in range(n_layers):
        hidden = l < n_layers - 1
        a = result.activations[l + 1] if hidden else result.pre_activations[l]
        dead = saturated = np.zeros(a.shape[1], bool)
        if hidden:
            dead, saturated = dead_and_saturated(network.activations[l], result.slopes[l])
        rows.append(
            {
                "layer": f"hidden {l + 1}" if hidden else "output",
                "n_units": a.shape[1],
                "dead": int(dead.sum()),
                "saturated": int(saturated.sum()),
                "activation_mean": float(a.mean()),
                "activation_std": float(a.std()),
                "delta_rms": _rms(result.deltas[l] * a.shape[0]),
                "gradient_rms": _rms(result.coef_grads[l]),
                "weight_rms": _rms(network.coefs[l]),
            }
        )
    return rows


def dead_and_saturated(entry, slopes):
    """Say of each unit whether it is dead, and whether it is saturated.

    Parameters
    ----------
    entry : Activation
    slopes : ndarray of shape (n_samples, n_units)

    Returns
    -------
    dead, saturated : bool ndarray of shape (n_units,)
    """
    dead = (slopes == 0).all(axis=0)
    steepest = np.abs(evaluate_activation(entry, NEAR)[1])
    if (steepest == 0).any():  # off for most samples is how relu works, off for all is not
        return dead, np.zeros_like(dead)
    flat = np.abs(slopes) < SATURATED_SLOPE * steepest.max()
    return np.zeros_like(dead), flat.mean(axis=0) >= SATURATED_SHARE


def best_constant_loss(batch):
    """Return the lowest weighted mean loss of raw scores that are the same for every sample."""
    targets, which = np.unique(batch.targets, axis=0, return_inverse=True)
    weights = np.bincount(which.ravel(), batch.weights) / batch.weights.sum()
    n_outputs = batch.problem.layer_sizes[-1]

    def loss_and_gradient(scores):
        raw = np.tile(scores, (len(targets), 1))
        try:
            losses, gradient = evaluate_loss(batch.loss, targets, raw)
        except Exception:  # a function of the user's refuses scores that are none of the network's
            return np.inf, np.zeros(n_outputs)
        return float(weights @ losses), weights @ gradient

    start = np.zeros(n_outputs)
    with np.errstate(over="ignore", invalid="ignore"):
        found = scipy.optimize.minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B")
    return float(found.fun)


def skill_of(batch, result):
    """Share of a constant's loss that the network removes; None where that is not a question."""
    constant = best_constant_loss(batch)
    if not 0 < constant < np.inf or not np.ptp(batch.targets):
        return None
    return 1 - float(batch.weights @ result.sample_losses / batch.weights.sum()) / constant


# ---------------------------------------------------------------------------------- checks


def advise(*options):
    """Join the changes that are not made yet, pairs of text and whether it is."""
    return ", ".join(text for text, done in options if not done)


def _is_scheduled(estimator):
    return estimator.learning_rate != "constant"


def not_finite(batch, estimator, *, scaled):
    """Return the finding about a loss that is not a finite number; X may be `scaled` already."""
    is_linear = batch.loss.link in ("identity", "increments")
    size = float(np.abs(batch.targets).max()) if batch.loss.task == "regression" else 0.0
    return Finding(
        "not finite",
        "problem",
        "The loss on these data is not finite: weights or inputs are far too large.",
        advise(
            ("cut off the outliers of X", not scaled),
            ("scale X (StandardScaler)", scaled),
            (
                "scale y (scale_targets=True)",
                getattr(estimator, "scale_targets", True) or not is_linear,
            ),
            ("divide y by its mean", is_linear or size <= LARGE),
            ("lower learning_rate_init", not _is_stochastic(estimator)),
            (f"bound the steps with {_bound_of(estimator)}", not _is_stochastic(estimator)),
        )
        + ".",
    )


def check_inputs(batch, estimator, *, scaled):
    """Name columns of X that are large, or on quite another scale than the rest.

    In columns that are `scaled` already, large values are outliers.
    """
    sizes = abs(batch.X).max(axis=0)
    sizes = sizes.toarray().ravel() if scipy.sparse.issparse(sizes) else sizes
    typical = np.median(sizes[sizes > 0]) if sizes.any() else 0.0
    large = np.flatnonzero(sizes > LARGE)
    small = np.flatnonzero((sizes > 0) & (sizes * UNEVEN < typical))
    if len(large):
        listed = _list_columns(large[np.argsort(-sizes[large])], sizes, estimator)
        seen = f"{_columns(len(large))} of X {_have(len(large))} values beyond {LARGE:g} in size"
        if scaled:
            yield Finding(
                "outliers",
                "hint",
                f"{seen} after scaling: {listed}. Predictions of rows with such values may be "
                "far off, and one such row can move the weights far.",
                "clip the scaled columns, or take QuantileTransformer.",
            )
        else:
            yield Finding(
                "unscaled inputs",
                "problem",
                f"{seen}: {listed}. Large columns dominate the first layer and make training slow "
                "or unstable.",
                "put StandardScaler (or RobustScaler, for outliers) before the network in a "
                "pipeline.",
            )
    elif len(small) and not scaled:
        listed = _list_columns(small[np.argsort(sizes[small])], sizes, estimator)
        yield Finding(
            "unscaled inputs",
            "hint",
            f"{_columns(len(small))} of X {_have(len(small))} values below a hundredth of the "
            f"median column's ({typical:.2g}): {listed}. The network can hardly see them.",
            "put StandardScaler before the network in a pipeline.",
        )


def _list_columns(columns, sizes, estimator):
    names = feature_names(estimator)
    listed = [
        f"{column}{'' if names is None else f' ({names[column]!r})'} (up to {sizes[column]:.3g})"
        for column in columns[:NAMED]
    ]
    return ", ".join(listed) + (f" and {len(columns) - NAMED} more" if len(columns) > NAMED else "")


def _columns(n):
    return "1 column" if n == 1 else f"{n} columns"


def _have(n):
    return "has" if n == 1 else "have"


def check_variety(batch, estimator):
    """Say if y is the same for every sample, so that there is nothing to learn."""
    if estimator._has_one_class:
        label = as_written(estimator.classes_)[0]
        seen = f"y had only one class, {label!r}: it is predicted for every sample, whatever X is."
    elif (batch.targets == batch.targets[0]).all():
        seen = "y is the same for every sample: a constant predicts it, whatever X is."
    else:
        return
    yield Finding("constant y", "problem", seen, "look at how y was split or made.")


def check_small_targets(batch, numbers):
    """Say if training that came to nothing had targets of too small a spread, as `fit` says."""
    if numbers["skill"] is None or numbers["skill"] > 1 - causes.POOR:
        return
    for sentence in causes.name_unscaled_target(batch.problem):
        seen, _, fix = sentence.removesuffix(")").partition(" (")
        yield Finding(
            "unscaled targets",
            "problem",
            f"{seen}: the loss is not of a size for which learning rate and tol are meant.",
            f"{fix}.",
        )


def name_low_rate(batch, estimator, skill):
    """Say, as `fit` does, that training hardly moved a weight; a list of at most one sentence."""
    curve = np.asarray(vars(estimator).get("loss_curve_") or (), float)
    well = skill is not None and skill >= ENOUGH_SKILL
    if len(curve) < 5 or not np.isfinite(curve).all() or well:
        return []
    return causes.name_low_rate(batch.problem, np.arange(batch.n_samples), curve)


def check_low_rate(sentences):
    """Say that the steps were far too short."""
    for sentence in sentences:
        yield Finding(
            "learning rate",
            "problem",
            f"{sentence}.",
            "a learning_rate_init that is larger by orders of magnitude: the default is 0.001, and "
            "fastbp.find_learning_rate suggests one.",
            True,
        )


def check_targets(batch, estimator):
    """Say if a regressor's targets are far from unit scale."""
    if getattr(estimator, "scale_targets", False):
        return
    size = np.abs(batch.targets).max()
    if batch.loss.task == "regression" and batch.loss.link == "identity" and size > LARGE:
        yield Finding(
            "unscaled targets",
            "problem",
            f"y has values up to {size:.3g} in size (standard deviation "
            f"{batch.targets.std():.3g}), while a fresh network predicts about 0: most of the "
            "training goes into growing the last layer.",
            "scale_targets=True.",
        )


def check_units(network, layers, *, first, raises_rate, moved):
    """Count dead and saturated units.

    What to do `first` about the data, if there is something, comes before all else.  The learning
    rate is no suspect where another finding `raises_rate`; nor are steps where they hardly `moved`
    a weight.
    """
    estimator = network.estimator
    redraw = "draw other initial weights (random_state)"
    fix = redraw if raises_rate or not _is_stochastic(estimator) else _lower_rate(estimator)
    fix = first or fix
    origin = "Steps that are too long, or unscaled data, drive units there."
    origin = origin if moved else "They began there, for training hardly moved a weight."
    for entry, layer in zip(network.activations, layers[:-1], strict=True):
        n_units, name = layer["n_units"], layer["layer"]
        share = layer["dead"] / n_units
        if share >= SOME_UNITS:
            names = ("leaky_relu", "elu", "tanh")
            other = next(name for name in names if name in ACTIVATIONS and name != entry.name)
            yield Finding(
                "dead units",
                "problem" if share >= MANY_UNITS else "hint",
                f"{layer['dead']} of {n_units} units ({share:.0%}) of {name} are dead: the slope "
                f"of {entry.name} is 0 for every sample, so that no gradient reaches their "
                f"weights. {origin}",
                f"{fix}, or take activation={other!r}.",
                cost=float(share),
            )
        share = layer["saturated"] / n_units
        if share >= MANY_UNITS:
            yield Finding(
                "saturated units",
                "problem",
                f"{layer['saturated']} of {n_units} units ({share:.0%}) of {name} are saturated: "
                f"{entry.name} is flat where they work, and they hardly learn.",
                f"{fix}, raise alpha (now {estimator.alpha:g}), or take activation='relu'.",
                cost=float(share),
            )


def _is_stochastic(estimator):
    """Whether the network was trained step by step (a learning rate, epochs, early stopping)."""
    return "loss_curve_" in vars(estimator)


def _ended_at_max_iter(estimator):
    return estimator.n_iter_ >= estimator.max_iter


def _lower_rate(estimator):
    return f"lower learning_rate_init (now {estimator.learning_rate_init:g})"


def _less_fitting(estimator):
    """Return what helps against over-fitting with this solver."""
    stochastic, dropout = _is_stochastic(estimator), np.max(estimator.dropout, initial=0.0)
    return advise(
        ("early_stopping=True", estimator.early_stopping or not stochastic),
        (f"more dropout (now {dropout:g})" if dropout else "dropout", not stochastic),
        (f"a larger alpha (now {estimator.alpha:g}), a smaller network, or more data.", False),
    )


def _bound_of(estimator):
    """Return what bounds the steps, or bounds them more than now."""
    if estimator.max_grad_norm is None:
        return "max_grad_norm=1"
    return f"a smaller max_grad_norm (now {estimator.max_grad_norm:g})"


def check_flow(layers, estimator):
    """Compare the deltas of the first layer with those of the last."""
    first, last = layers[0]["delta_rms"], layers[-1]["delta_rms"]
    if len(layers) < 2 or not first or not last:  # 0: a whole layer is dead, which is said already
        return
    ratio, n_hidden = first / last, len(layers) - 1
    seen = (
        f"Deltas (dloss/dz) are {first:.1e} in {layers[0]['layer']} and {last:.1e} in the output, "
        f"a factor of {ratio:.1e} through {n_hidden} hidden layer{'s' * (n_hidden > 1)}"
    )
    if ratio < SHRINKING:
        yield Finding(
            "vanishing gradients",
            "problem",
            f"{seen}: the first layers hardly learn.",
            advise(
                ("activation='relu' with init='he'", _has(estimator, "relu", "he")),
                ("activation='tanh' with init='glorot'", _has(estimator, "tanh", "glorot")),
                ("or fewer hidden layers.", False),
            ),
        )
    elif ratio > GROWING:
        yield Finding(
            "exploding gradients",
            "problem",
            f"{seen}: steps that suit the last layer are far too long for the first.",
            advise(
                ("init='glorot' or 'he'", estimator.init in ("glorot", "he")),
                (_bound_of(estimator), not _is_stochastic(estimator)),
                (f"a larger alpha (now {estimator.alpha:g}).", False),
            ),
        )


def _has(estimator, activation, init):
    return estimator.init == init and estimator.activation == activation


def check_curve(estimator, skill, n_samples, unscaled):
    """Read off the recorded training loss whether learning rate and number of epochs fit.

    A loss that falls slowly on unscaled data says nothing about the rate.
    """
    curve = np.asarray(vars(estimator).get("loss_curve_") or (), float)
    if len(curve) < 5 or not np.isfinite(curve).all():
        return
    first, last, lowest = curve[0], curve[-1], curve.min()
    steps = np.diff(curve[len(curve) // 2 - 1 :])
    before = np.abs(curve[len(curve) // 2 - 1 : -1])
    rises = float(np.mean(steps > np.maximum(JUMP * before, RIPPLE * (first - lowest))))
    tenth = max(1, len(curve) // 10)
    fall = (curve[-1 - tenth] - last) / (abs(curve[-1 - tenth]) or 1.0)
    rate, skill = estimator.learning_rate_init, skill or 0.0
    climbed = last - lowest > max(UPHILL * abs(lowest), JUMP * first)
    exploded = hasattr(estimator, "classes_") and skill < EXPLODED and not unscaled
    if rises > RISES or climbed or exploded:
        jumps = f"rose by more than {JUMP:.0%} in {rises:.0%} of the later epochs, and "
        end = "far above a constant's" if exploded else f"where its lowest was {lowest:.3g}"
        yield Finding(
            "learning rate",
            "problem",
            f"The training loss jumps: it {jumps * (rises > RISES)}ended at {last:.3g}, {end}. "
            f"learning_rate_init={rate:g} looks too high.",
            advise(
                (f"learning_rate_init={rate / 10:g}", False),
                ("a learning_rate that falls over the epochs", _is_scheduled(estimator)),
                ("larger batches", n_samples <= causes.rows_per_step(estimator, n_samples)),
            )
            + ".",
        )
    elif (
        last > HARDLY_FELL * first
        and np.mean(steps < 0) > STEADY
        and skill < ENOUGH_SKILL
        and not unscaled
    ):
        yield Finding(
            "learning rate",
            "problem",
            f"The training loss falls steadily but slowly: from {first:.3g} to {last:.3g} in "
            f"{len(curve)} epochs. learning_rate_init={rate:g} looks too low.",
            f"learning_rate_init={10 * rate:g}.",
            True,
        )
    elif fall > STILL_FALLING and _ended_at_max_iter(estimator) and skill < GOOD_SKILL:
        yield Finding(
            "more epochs",
            "hint",
            f"The loss was still falling when training ended at max_iter={estimator.max_iter}: by "
            f"{fall:.1%} over the last {f'{tenth} epochs' if tenth > 1 else 'epoch'}, to "
            f"{last:.3g}.",
            f"max_iter={2 * estimator.max_iter}, or a higher learning_rate_init (now {rate:g}).",
            True,
        )


def check_validation_curve(estimator):
    """Say if the recorded validation loss rose again."""
    curve = np.asarray(vars(estimator).get("validation_loss_curve_") or (), float)
    # On a cluster not each epoch is measured: the others are NaN.
    if np.isfinite(curve).sum() < 5 or np.isinf(curve).any() or np.isnan(curve[-1]):
        return
    best, last = int(np.nanargmin(curve)), curve[-1]
    if last - curve[best] > WORSE * abs(curve[best]):
        yield Finding(
            "over-fitting",
            "hint",
            f"The validation loss was best in epoch {best + 1} ({curve[best]:.3g}) and rose to "
            f"{last:.3g} by epoch {len(curve)}.",
            _less_fitting(estimator),
        )


def check_fit(estimator, numbers, n_samples, *, others, moved):
    """Compare skills on training and validation data.

    Epochs count if steps `moved` the weights, and first of all what `others` were found.
    """
    skill, unseen = numbers["skill"], numbers.get("validation skill")
    if skill is None:
        return
    if skill < LITTLE_SKILL:
        yield Finding(
            "under-fitting",
            "problem",
            f"The network is hardly better than a constant prediction: the skill is {skill:.2f} "
            "(1 is perfect, 0 a constant).",
            ("see the other findings first; then " if others else "")
            + advise(
                ("more epochs", not moved or not _ended_at_max_iter(estimator)),
                ("more units or layers", False),
                (
                    f"a smaller alpha (now {estimator.alpha:g})",
                    numbers["penalty"] < HEAVY_PENALTY * numbers["loss"],
                ),
                ("better features.", False),
            ),
        )
    elif unseen is not None and skill - unseen > GAP:
        n_params = total_params(layers_of(estimator))
        yield Finding(
            "over-fitting",
            "problem" if skill - unseen > WIDE_GAP else "hint",
            f"The skill is {skill:.2f} on the training data and {unseen:.2f} on the validation "
            f"data (1 is perfect, 0 a constant prediction); {n_params:,} parameters learned from "
            f"{n_samples:,} samples or more.",
            _less_fitting(estimator),
            cost=float(skill - unseen),
        )
