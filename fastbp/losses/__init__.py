"""Loss functions: what each one is, as plain Python on raw scores (before the output transform).

Here live the losses that a user names or makes with settings of his own (`Huber(delta=2.0)`), their
formulas, and the one table in which they are listed: formulas first, then the losses, each with
what its entries say and what its settings may be.  No arrays of samples, no averaging, no engine:
the engines read the entries (`Loss`), sum them in double precision and weight them; the tests check
the fast C loops against them.  An entry is the same kind of object that a user makes of a function
of his own.

All losses are summed over the outputs, and the solvers follow the gradient of that sum; only the
squared error is reported as a mean over the outputs, and the loss of a list of quantiles is one.
"""

import math
from itertools import pairwise
from numbers import Real

from fastbp.activations import logistic, softplus
from fastbp.descriptions import number_rule, plain
from fastbp.losses.entries import (
    STATISTICS,
    ClassificationLoss,
    Loss,
    NamedLoss,
    RegressionLoss,
)
from fastbp.losses.entries import TRANSFORMS as TRANSFORMS

# What else they are called.
OTHER_WORDS = {
    "mse": "squared_error", "l2": "squared_error", "mean_squared_error": "squared_error",
    "rmse": "squared_error", "least_squares": "squared_error", "gaussian": "squared_error",
    "mae": "absolute_error", "l1": "absolute_error", "mean_absolute_error": "absolute_error",
    "lad": "absolute_error", "median": "absolute_error",
    "smooth_l1": "huber", "pinball": "quantile", "count": "poisson",
    "cross_entropy": "log_loss", "bce": "log_loss", "nll": "log_loss", "logistic": "log_loss",
    "binary_cross_entropy": "log_loss", "categorical_crossentropy": "log_loss",
    "sparse_categorical_crossentropy": "log_loss", "deviance": "log_loss", "softmax": "log_loss",
    "negative_log_likelihood": "log_loss",
}  # fmt: skip

# --- formulas: regression ------------------------------------------------------------------------


def squared_error(y_true, raw):
    """Compute loss = (y - s)^2 / 2."""
    return 0.5 * (y_true - raw) * (y_true - raw)


def squared_error_gradient(y_true, raw):
    """dloss/ds = s - y."""
    return raw - y_true


def absolute_error(y_true, raw):
    """Compute loss = abs(y - s)."""
    return abs(y_true - raw)


def absolute_error_gradient(y_true, raw):
    """dloss/ds = sign(s - y), 0 where they are equal."""
    error = raw - y_true
    if error > 0.0:
        return 1.0
    return -1.0 if error < 0.0 else error


def huber(y_true, raw, hyper):
    """(y - s)^2 / 2 up to abs(y - s) = delta, beyond it the tangent delta (abs(y - s) - delta / 2).

    With r = s - y and c = r clipped to [-delta, delta] both are c (r - c / 2).
    """
    error = raw - y_true
    clipped = min(max(error, -hyper[0]), hyper[0])
    return clipped * (error - 0.5 * clipped)


def huber_gradient(y_true, raw, hyper):
    """dloss/ds = s - y, clipped to [-delta, delta]."""
    return min(max(raw - y_true, -hyper[0]), hyper[0])


def quantile(y_true, raw, hyper):
    """Pinball loss: q (y - s) where the target lies above the score, else (1 - q) (s - y)."""
    error = raw - y_true
    return (1.0 - hyper[0]) * error if error > 0.0 else -hyper[0] * error


def quantile_gradient(y_true, raw, hyper):
    """dloss/ds = 1 - q where s > y, -q where s < y, 0 where they are equal."""
    error = raw - y_true
    if error > 0.0:
        return 1.0 - hyper[0]
    return -hyper[0] if error < 0.0 else error


def quantiles(y_true, raw, hyper):
    """Mean pinball loss of levels that cannot cross: s_0, each next one softplus(s_k) higher."""
    level, total = raw[0], 0.0
    for k in range(len(raw)):
        if k > 0:
            level += softplus(raw[k])
        error = level - y_true
        total += (1.0 - hyper[k]) * error if error > 0.0 else -hyper[k] * error
    return total / len(raw)


def quantiles_gradient(y_true, raw, hyper, out):
    """dloss/ds_k = logistic(s_k) (1 for k = 0) times the slopes of level k and those above it."""
    level, above = raw[0], 0.0
    for k in range(len(raw)):
        if k > 0:
            level += softplus(raw[k])
        error = level - y_true
        slope = -hyper[k] if error < 0.0 else error
        out[k] = (1.0 - hyper[k] if error > 0.0 else slope) / len(raw)
    for k in range(len(raw) - 1, -1, -1):
        above += out[k]
        out[k] = above * logistic(raw[k]) if k > 0 else above


def poisson(y_true, raw):
    """Half the Poisson deviance with log link: loss = y log y - y s - y + exp(s)."""
    constant = y_true * math.log(y_true) - y_true if y_true > 0.0 else 0.0
    return constant - y_true * raw + math.exp(raw)


def poisson_gradient(y_true, raw):
    """dloss/ds = exp(s) - y."""
    return math.exp(raw) - y_true


def gamma(y_true, raw):
    """Half the gamma deviance with log link: loss = d + exp(-d) - 1, d = s - log y."""
    distance = raw - math.log(y_true)
    return distance + math.expm1(-distance)


def gamma_gradient(y_true, raw):
    """dloss/ds = 1 - y exp(-s)."""
    return -math.expm1(math.log(y_true) - raw)


def tweedie(y_true, raw, hyper):
    """Half the Tweedie deviance with log link, of power p between 1 and 2.

    With a = 1 - p, b = 2 - p, d = s - log y: loss = y^b (expm1(b d) / b - expm1(a d) / a), which is
    y^b / (a b) - y exp(a s) / a + exp(b s) / b without its cancellation; exp(b s) / b where y is 0.
    """
    a, b = 1.0 - hyper[0], 2.0 - hyper[0]
    if y_true > 0.0:
        log_y = math.log(y_true)
        distance = raw - log_y
        return math.exp(b * log_y) * (math.expm1(b * distance) / b - math.expm1(a * distance) / a)
    return math.exp(b * raw) / b


def tweedie_gradient(y_true, raw, hyper):
    """dloss/ds = exp((2 - p) s) - y exp((1 - p) s)."""
    rising = math.exp((2.0 - hyper[0]) * raw)
    return rising - y_true * math.exp((1.0 - hyper[0]) * raw) if y_true > 0.0 else rising


# --- formulas: classification --------------------------------------------------------------------


def binary_log_loss(y_true, raw):
    """Compute loss = log(1 + exp(s)) - s y, y in {0, 1}, so written that exp never overflows."""
    return softplus(raw) - raw * y_true


def binary_log_loss_gradient(y_true, raw):
    """dloss/ds = logistic(s) - y."""
    return logistic(raw) - y_true


def smoothed_binary_log_loss(y_true, raw, hyper):
    """Compute the log loss of the target y + smoothing (1/2 - y)."""
    return softplus(raw) - raw * (y_true + hyper[0] * (0.5 - y_true))


def smoothed_binary_log_loss_gradient(y_true, raw, hyper):
    """dloss/ds = logistic(s) - y - smoothing (1/2 - y)."""
    return logistic(raw) - (y_true + hyper[0] * (0.5 - y_true))


def binary_focal(y_true, raw, hyper):
    """-(1 - p)^gamma log p of the probability p of the true class; -log p = softplus(-s or s)."""
    margin = raw if y_true > 0.0 else -raw
    return math.exp(-hyper[0] * softplus(margin)) * softplus(-margin)


def binary_focal_gradient(y_true, raw, hyper):
    """Minus or plus (1 - p)^gamma (1 - p - gamma p log p)."""
    margin = raw if y_true > 0.0 else -raw
    weight = math.exp(-hyper[0] * softplus(margin))
    slope = weight * (logistic(-margin) + hyper[0] * logistic(margin) * softplus(-margin))
    return -slope if y_true > 0.0 else slope


def largest(raw):
    """Return the largest score, which is taken off so that exp never overflows."""
    top = raw[0]
    for s in raw:
        top = max(top, s)
    return top


def log_loss(code, raw):
    """Softmax cross-entropy: loss = log(sum_k exp(s_k)) - s_code."""
    top, total = largest(raw), 0.0
    for s in raw:
        total += math.exp(s - top)
    return top + math.log(total) - raw[code]


def log_loss_gradient(code, raw, out):
    """dloss/ds_k = exp(s_k) / sum_j exp(s_j) - (k == code), written into `out`."""
    top, total = largest(raw), 0.0
    for k in range(len(raw)):
        out[k] = math.exp(raw[k] - top)
        total += out[k]
    for k in range(len(raw)):
        out[k] /= total
    out[code] -= 1.0


def clipped_log_loss(code, raw, hyper):
    """Compute -log p of the softmax probability p of the true class, moved into [h, 1 - h]."""
    top, total = largest(raw), 0.0
    for s in raw:
        total += math.exp(s - top)
    return -math.log(min(max(math.exp(raw[code] - top) / total, hyper[0]), 1.0 - hyper[0]))


def clipped_log_loss_gradient(code, raw, hyper, out):
    """Write that of the log loss: the clipped one has none where most is to be done."""
    log_loss_gradient(code, raw, out)


def clipped_binary_log_loss(y_true, raw, hyper):
    """Compute -log p of the probability p of the true answer, moved into [h, 1 - h]."""
    p = logistic(raw) if y_true > 0.0 else 1.0 - logistic(raw)
    return -math.log(min(max(p, hyper[0]), 1.0 - hyper[0]))


def clipped_binary_log_loss_gradient(y_true, raw, hyper):
    """dloss/ds of the binary log loss."""
    return binary_log_loss_gradient(y_true, raw)


def smoothed_log_loss(code, raw, hyper):
    """Cross-entropy with the share `smoothing` of the target spread evenly over the classes."""
    mean = 0.0
    for s in raw:
        mean += (s - raw[code]) / len(raw)
    return log_loss(code, raw) - hyper[0] * mean


def smoothed_log_loss_gradient(code, raw, hyper, out):
    """dloss/ds_k = exp(s_k) / sum_j exp(s_j) - (1 - smoothing) (k == code) - smoothing / K."""
    log_loss_gradient(code, raw, out)
    for k in range(len(raw)):
        out[k] -= hyper[0] / len(raw)
    out[code] += hyper[0]


def focal(code, raw, hyper):
    """-(1 - p)^gamma log p of the softmax probability p of the true class."""
    top, total, rest = largest(raw), 0.0, 0.0
    for k in range(len(raw)):
        e = math.exp(raw[k] - top)
        total += e
        rest += e if k != code else 0.0
    return (rest / total) ** hyper[0] * (math.log(total) - (raw[code] - top))


def focal_gradient(code, raw, hyper, out):
    """With q = 1 - p and f = q^gamma (q - gamma p log p): -f at the true class, f p_k / q else."""
    top, total, rest = largest(raw), 0.0, 0.0
    for k in range(len(raw)):
        out[k] = math.exp(raw[k] - top)
        total += out[k]
        rest += out[k] if k != code else 0.0
    q, p, minus_log_p = rest / total, out[code] / total, math.log(total) - (raw[code] - top)
    factor = q ** hyper[0] * (q + hyper[0] * p * minus_log_p)
    share = factor / rest if rest != 0.0 else 0.0
    for k in range(len(raw)):
        out[k] *= share
    out[code] = -factor


# --- losses by name, or with settings ------------------------------------------------------------


class SquaredError(RegressionLoss):
    """Half the squared error, ``(y - f)^2 / 2``; reported as the mean over the outputs.

    Examples
    --------
    >>> from fastbp.losses import SquaredError
    >>> SquaredError().name
    'squared_error'
    """

    name, has_kernel = "squared_error", True
    formulas = {"real": (squared_error, squared_error_gradient)}
    output_mean = True
    constant = ("mean",)


class AbsoluteError(RegressionLoss):
    """Absolute error, ``|y - f|``: the network learns the conditional median.

    Examples
    --------
    >>> from fastbp.losses import AbsoluteError
    >>> AbsoluteError().name
    'absolute_error'
    """

    name, has_kernel = "absolute_error", True
    formulas = {"real": (absolute_error, absolute_error_gradient)}
    constant = ("quantile", 0.5)


class Huber(RegressionLoss):
    """Huber's loss: ``(y - f)^2 / 2`` up to an error of `delta`, beyond it the tangent.

    That is ``delta (|y - f| - delta / 2)``: outliers pull with a limited force.

    Parameters
    ----------
    delta : float, default=1.0
        Error from which on the loss is linear, in units of y; larger than 0.

    References
    ----------
    Huber (1964), Robust estimation of a location parameter.

    Examples
    --------
    >>> from fastbp import BackpropRegressor
    >>> from fastbp.losses import Huber
    >>> reg = BackpropRegressor(loss=Huber(delta=2.0))
    >>> reg.set_params(loss__delta=0.5).loss
    Huber(delta=0.5)
    """

    name, has_kernel = "huber", True
    formulas = {"real": (huber, huber_gradient)}
    constant = ("huber", ...)
    _rules = {"delta": (number_rule(Real, "(", 0.0, math.inf, ")"),)}

    def __init__(self, delta=1.0):
        self.delta = delta


_LEVEL = number_rule(Real, "(", 0.0, 1.0, ")")


def _are_levels(value):
    if isinstance(value, str) or not hasattr(value, "__len__") or getattr(value, "ndim", 1) != 1:
        return False
    levels = list(value)
    if not (levels and all(map(_LEVEL[0], levels))):
        return False
    return all(low < high for low, high in pairwise(levels))


class Quantile(RegressionLoss):
    """Pinball loss: the network learns conditional quantiles.

    For one quantile q the loss is ``q (y - f)`` where y lies above the prediction f, else
    ``(1 - q) (f - y)``. For a list, one network with one output per quantile learns all of them
    from one target: the first raw score is the lowest quantile, and each further quantile lies
    ``softplus(raw score)`` above the one before, so that quantiles never cross; the loss is the
    mean over the quantiles. `predict` then gives (n_samples, n_quantiles), also for a list of one.

    `score` is the D2 of the pinball loss (`sklearn.metrics.d2_pinball_score`), the mean over the
    quantiles: 1 is perfect, 0 as good as the quantiles of y without features.

    Parameters
    ----------
    quantile : float or list of float, default=0.5
        Quantile to learn, between 0 and 1; or several, increasing. A list takes y with one column.

    References
    ----------
    Koenker & Bassett (1978), Regression quantiles.

    Examples
    --------
    >>> from sklearn.datasets import make_regression
    >>> from sklearn.preprocessing import scale
    >>> from fastbp import BackpropRegressor
    >>> from fastbp.losses import Quantile
    >>> X, y = make_regression(n_samples=200, n_features=5, noise=30, random_state=0)
    >>> reg = BackpropRegressor(loss=Quantile([0.1, 0.5, 0.9]), tol=0.01, random_state=0)
    >>> low, median, high = reg.fit(X, scale(y)).predict(X).T
    >>> bool((low <= median).all() and (median <= high).all())
    True
    """

    name, has_kernel = "quantile", True
    formulas = {"real": (quantile, quantile_gradient)}
    metric = ("d2_pinball", ...)
    constant = ("quantile", ...)
    _rules = {"quantile": (_LEVEL, (_are_levels, "an increasing list of such"))}

    def __init__(self, quantile=0.5):
        self.quantile = quantile

    def entry(self, target_kind, **instead):
        """As of every loss; a list has formulas of its own."""
        if not isinstance(self.quantile, Real):
            of_lists = {"real": (quantiles, quantiles_gradient)}
            instead |= {"formulas": of_lists, "link": "increments", "target": "shared"}
        return super().entry(target_kind, **instead)


class Poisson(RegressionLoss):
    """Half the Poisson deviance with log link, for counts: the network predicts ``exp(raw score)``.

    `score` is R2, as in scikit-learn's MLPRegressor.

    Outside the data seen, ``exp`` makes an explosion of a straight line: cut columns that are far
    out (guide, "Amounts and counts").

    Examples
    --------
    >>> from fastbp.losses import Poisson
    >>> Poisson().name
    'poisson'
    """

    name, has_kernel = "poisson", True
    formulas = {"real": (poisson, poisson_gradient)}
    link = "log"
    target_min = 0.0
    constant = ("mean",)


class Gamma(RegressionLoss):
    """Half the gamma deviance with log link, for positive targets with errors that grow with them.

    The loss is ``log(f / y) + y / f - 1`` with the prediction ``f = exp(raw score)`` and y > 0, as
    in scikit-learn's `GammaRegressor` (0 at a perfect fit). `score` is the D2 of the gamma deviance
    (`sklearn.metrics.d2_tweedie_score` with power 2).

    Outside the data seen, ``exp`` makes an explosion of a straight line: cut columns that are far
    out (guide, "Amounts and counts").

    Examples
    --------
    >>> from fastbp.losses import Gamma
    >>> Gamma().name
    'gamma'
    """

    name, has_kernel = "gamma", True
    formulas = {"real": (gamma, gamma_gradient)}
    link = "log"
    target_min, above_min = 0.0, True
    metric = ("d2_tweedie", 2.0)
    constant = ("mean",)


class Tweedie(RegressionLoss):
    """Half the Tweedie deviance with log link, for amounts that are often exactly 0.

    Of `power` p between 1 (Poisson) and 2 (gamma) and with the prediction ``f = exp(raw score)`` it
    is ``y^(2-p) / ((1-p) (2-p)) - y f^(1-p) / (1-p) + f^(2-p) / (2-p)``, as in scikit-learn's
    `TweedieRegressor` (0 at a perfect fit). `score` is the D2 of the Tweedie deviance of that power
    (`sklearn.metrics.d2_tweedie_score`).

    Outside the data seen, ``exp`` makes an explosion of a straight line: cut columns that are far
    out (guide, "Amounts and counts").

    Parameters
    ----------
    power : float, default=1.5
        Exponent of the mean in the variance, from 1 to 2. Needs y >= 0, and y > 0 for 2.

    References
    ----------
    Jorgensen (1987), Exponential dispersion models.

    Examples
    --------
    >>> from fastbp.losses import Tweedie
    >>> Tweedie(power=1.2).name
    'tweedie'
    """

    name, has_kernel = "tweedie", True
    formulas = {"real": (tweedie, tweedie_gradient)}
    link = "log"
    target_min = 0.0
    metric = ("d2_tweedie", ...)
    constant = ("mean",)
    _rules = {"power": (number_rule(Real, "[", 1.0, 2.0, "]"),)}

    def __init__(self, power=1.5):
        self.power = power

    def entry(self, target_kind, **instead):
        """As of every loss; at the ends of the range that of Poisson or gamma."""
        ends = {1.0: Poisson, 2.0: Gamma}
        if self.power in ends:
            instead = {"metric": ("d2_tweedie", float(self.power))} | instead
            return ends[self.power]().entry(target_kind, **instead)
        return super().entry(target_kind, **instead)


class LogLoss(ClassificationLoss):
    """Cross-entropy of the softmax (multiclass) or logistic (binary, multilabel) output.

    Parameters
    ----------
    label_smoothing : float, default=0.0
        Share of each target that is spread evenly over the classes (for multilabel y over yes and
        no), in [0, 1): a class of K then has the target ``1 - label_smoothing + label_smoothing /
        K``, and probabilities do not run away to 0 and 1.

    References
    ----------
    Szegedy et al. (2016), Rethinking the Inception architecture for computer vision.

    Examples
    --------
    >>> from fastbp import BackpropClassifier
    >>> from fastbp.losses import LogLoss
    >>> clf = BackpropClassifier(loss=LogLoss(label_smoothing=0.1))
    """

    name, has_kernel = "log_loss", True
    formulas = {
        "multiclass": (smoothed_log_loss, smoothed_log_loss_gradient),
        "binary": (smoothed_binary_log_loss, smoothed_binary_log_loss_gradient),
    }
    constant = ("smoothed mean", ...)
    _rules = {"label_smoothing": (number_rule(Real, "[", 0.0, 1.0, ")"),)}

    def __init__(self, label_smoothing=0.0):
        self.label_smoothing = label_smoothing

    def entry(self, target_kind, **instead):
        """As of every loss; without smoothing there are simpler formulas."""
        if self.label_smoothing == 0:
            plain_formulas = {
                "multiclass": (log_loss, log_loss_gradient),
                "binary": (binary_log_loss, binary_log_loss_gradient),
            }
            instead |= {"formulas": plain_formulas, "hyper": (), "constant": ("mean",)}
        return super().entry(target_kind, **instead)


class Focal(ClassificationLoss):
    """Focal loss, ``-(1 - p)^gamma log p`` of the probability p of the true class.

    Samples that are right already count less: for rare classes and many easy samples. For
    multilabel y it is summed over the labels. With gamma = 0 it is the log loss.

    Parameters
    ----------
    gamma : float, default=2.0
        How much less, not negative.

    References
    ----------
    Lin et al. (2017), Focal loss for dense object detection.

    Examples
    --------
    >>> from fastbp import BackpropClassifier
    >>> from fastbp.losses import Focal
    >>> clf = BackpropClassifier(loss=Focal(gamma=1.0))
    """

    name, has_kernel = "focal", True
    formulas = {
        "multiclass": (focal, focal_gradient),
        "binary": (binary_focal, binary_focal_gradient),
    }
    constant = ("focal", ...)
    _rules = {"gamma": (number_rule(Real, "[", 0.0, math.inf, ")"),)}

    def __init__(self, gamma=2.0):
        self.gamma = gamma

    def entry(self, target_kind, **instead):
        """As of every loss; with gamma = 0 that of the log loss."""
        if self.gamma == 0:
            return LogLoss().entry(target_kind, **instead)
        return super().entry(target_kind, **instead)


# Formulas of scikit-learn's reported loss, by the kernel of the loss itself.
CLIPPED = {
    "log_loss": (clipped_log_loss, clipped_log_loss_gradient),
    "binary_log_loss": (clipped_binary_log_loss, clipped_binary_log_loss_gradient),
}

# Kernels of the losses that scikit-learn's MLP has, too.
SCIKIT_LEARNS = (
    "squared_error", "poisson", *CLIPPED, *(value.__name__ for value, _ in CLIPPED.values()),
)  # fmt: skip

# The one place where losses are listed, with settings that bring in every formula.
TABLE = (
    SquaredError(), Poisson(), AbsoluteError(), Huber(), Quantile(), Quantile([0.1, 0.5, 0.9]),
    Gamma(), Tweedie(), LogLoss(), LogLoss(label_smoothing=0.1), Focal(),
)  # fmt: skip

NAMED_LOSSES = {loss.name: loss for loss in TABLE if loss == type(loss)()}
REGRESSION_LOSSES = tuple(n for n, loss in NAMED_LOSSES.items() if isinstance(loss, RegressionLoss))
CLASSIFICATION_LOSSES = tuple(name for name in NAMED_LOSSES if name not in REGRESSION_LOSSES)

# Every entry of formulas, by its own name.
LOSSES = {
    entry.name: entry for loss in TABLE for kind in loss.formulas for entry in [loss.entry(kind)]
}


def clipped(entry, smallest):
    """Entry that reports the log loss of probabilities in ``[smallest, 1 - smallest]``.

    As scikit-learn's MLPClassifier does with eps of the dtype; the steps are those of the log loss.
    Other losses stay as they are.
    """
    if entry.kernel not in CLIPPED:
        return entry
    value, gradient = CLIPPED[entry.kernel]
    changed = {"value": value, "gradient": gradient, "kernel": value.__name__}
    return Loss(**(entry.get_params(deep=False) | changed | {"hyper": (float(smallest),)}))


_NAMED_ENTRIES = {}  # made once: each fit asks


def loss_for(wanted, target_kind):
    """Entry that serves a loss for a kind of target.

    Parameters
    ----------
    wanted : str, RegressionLoss, ClassificationLoss, callable or Loss
        One of `REGRESSION_LOSSES` or `CLASSIFICATION_LOSSES`, one of their objects, or a loss of
        the user's own.
    target_kind : {"real", "multiclass", "binary", "multilabel"}

    Returns
    -------
    Loss
        With `link` and `task` set.

    Raises
    ------
    ValueError
        If a user's loss cannot serve that kind of target.
    """
    if isinstance(wanted, str):
        key = wanted, target_kind
        if key not in _NAMED_ENTRIES:
            _NAMED_ENTRIES[key] = NAMED_LOSSES[wanted].entry(target_kind)
        return _NAMED_ENTRIES[key]
    if isinstance(wanted, NamedLoss):
        return wanted.entry(target_kind)
    entry = plain(wanted) if isinstance(wanted, Loss) else Loss(wanted)
    if entry.target != "real" and entry.gradient is None:
        raise ValueError(
            f"loss={wanted!r} takes a row of raw scores (target={entry.target!r}), whose "
            "derivatives are not derived: give it a gradient(y_true, raw, out)."
        )
    if target_kind == "multiclass" and entry.target != "class":
        raise ValueError(
            f"loss={wanted!r} is elementwise: it can train regression, binary and multilabel "
            "targets, but y has more than two classes. Use loss='log_loss', or binary targets, for "
            "example by sklearn.multiclass.OneVsRestClassifier."
        )
    task = "regression" if target_kind == "real" else "binary"
    task = "multiclass" if target_kind == "multiclass" else task
    link = entry.link or {"regression": "identity", "binary": "logit"}.get(task, "multinomial")
    links = {"regression": ("identity", "log", "logit"), "binary": ("logit",)}
    if entry.target == "shared":
        links["regression"] += ("increments",)
    if link not in links.get(task, ("multinomial",)) or entry.task not in (None, task):
        raise ValueError(
            f"loss={wanted!r} with link {entry.link!r} and task {entry.task!r} cannot serve "
            f"{target_kind} y: expected link {links.get(task)} or None."
        )
    if entry.constant is not None and link not in STATISTICS[entry.constant[0]][1]:
        raise ValueError(
            f"loss={wanted!r} cannot have constant={entry.constant!r} with link {link!r}: expected "
            f"one of the links {STATISTICS[entry.constant[0]][1]}."
        )
    if entry.task and entry.link:
        return entry
    return Loss(**{**entry.get_params(deep=False), "task": task, "link": link})
