"""The best prediction that is the same for every sample, as the raw scores of a network's output.

There a fresh network's output begins, and with it a poor end of training is compared.  Which
statistic of the targets it is, a loss's entry says (`Loss.constant`); how it is computed, and how a
link turns it into scores, is here and nowhere else.  Arrays in, arrays out; no engine.

What y leaves open is filled in so that scores stay moderate: a class that does not occur counts as
half a sample (so does a mean of 0 under a log link), and equal quantiles lie a thousandth apart.
"""

import numpy as np
from scipy.optimize import brentq

from fastbp.data.scaling import unit_of, weighted_mean
from fastbp.losses import SCIKIT_LEARNS

APART = 1e-3  # least distance of neighbouring quantiles, relative to that of the outer ones or to 1


def starts_as_drawn(loss, dtype):
    """Whether, for a `dtype` parameter, the output's biases start as drawn, as scikit-learn's do.

    All others of a fresh network start at `constant_scores`.
    """
    return dtype is None and loss.kernel in SCIKIT_LEARNS


def constant_scores(loss, targets, sample_weight, n_outputs, n_samples=None):
    """Raw scores of the best constant prediction.

    Parameters
    ----------
    loss : fastbp.losses.Loss
    targets : ndarray of shape (n_samples, n_targets)
    sample_weight : ndarray of shape (n_samples,) or None
    n_outputs : int
    n_samples : int, default=None
        Samples for which the targets stand; None: there are no others.

    Returns
    -------
    ndarray of shape (n_outputs,), float64
        Zeros for a loss whose entry does not say what is best.
    """
    if loss.constant is None:
        return np.zeros(n_outputs)
    statistic, *numbers = loss.constant
    half_a_sample = 0.5 / (n_samples or len(targets))
    if loss.link in ("logit", "multinomial"):
        shares = _class_shares(loss, targets, sample_weight, n_outputs, half_a_sample)
        log_p = LOG_PROBABILITIES[statistic](shares, *numbers)
        return log_p[0] if loss.link == "multinomial" else log_p[:, 1] - log_p[:, 0]
    best = PREDICTIONS[statistic](targets, sample_weight, *numbers)
    if loss.link == "log":
        return np.log(np.where(best > 0, best, half_a_sample))
    return _increments(best) if loss.link == "increments" else best


def _weights(targets, sample_weight):
    """Weights in float64, in units of the largest."""
    if sample_weight is None:
        return np.ones(len(targets))
    weight = sample_weight.astype(np.float64)
    return weight / unit_of(weight.max())


# ------------------------------------------------------------------------- real targets


def _quantiles(targets, sample_weight, *levels):
    """Quantiles: one of each column, or several of the only one.

    Where all numbers between two targets are quantiles, it is the one in the middle.
    """
    weight, found = _weights(targets, sample_weight), []
    for column in targets.T:
        order = np.argsort(column)
        y, total = column[order].astype(np.float64), np.cumsum(weight[order])
        ranks = np.multiply(levels, total[-1])
        below, above = (np.searchsorted(total, ranks, side=side) for side in ("left", "right"))
        found.append(y[below] / 2 + y[np.minimum(above, len(y) - 1)] / 2)
    return np.concatenate(found)


def _huber(targets, sample_weight, delta):
    """Where errors, clipped to +-delta, sum to 0; column by column."""
    weight, found = _weights(targets, sample_weight), []
    for column in targets.T:
        unit = unit_of(np.abs(column).max())
        with np.errstate(over="ignore"):  # a delta that no error reaches
            y, limit = column / unit, delta / unit
        pull = lambda at: weight @ np.clip(at - y, -limit, limit)  # noqa: B023, E731 - used here
        found.append(unit * brentq(pull, y.min(), y.max()))
    return np.array(found)


PREDICTIONS = {"mean": weighted_mean, "quantile": _quantiles, "huber": _huber}


def _increments(levels):
    """Raw scores whose levels (first score, then softplus steps) are these."""
    least = APART * ((levels[-1] - levels[0]) or 1.0)
    steps = np.maximum(np.diff(levels), least)
    return np.append(levels[0], steps + np.log(-np.expm1(-steps)))


# ------------------------------------------------------------------------- classes


def _class_shares(loss, targets, sample_weight, n_outputs, least):
    """Share of each class in the weight: a row for all outputs, or one of no and yes for each."""
    if loss.target == "class":
        codes, weight = targets[:, 0].astype(np.intp), _weights(targets, sample_weight)
        shares = np.bincount(codes, weight, n_outputs)[np.newaxis] / weight.sum()
    else:
        yes = np.clip(weighted_mean(targets, sample_weight), 0.0, 1.0)
        shares = np.column_stack([1.0 - yes, yes])
    shares = np.where(shares > 0, shares, least)
    return shares / shares.sum(axis=1, keepdims=True)


def _smoothed(shares, smoothing):
    """Logarithm of the shares, a part of which is spread evenly over the classes."""
    return np.log((1.0 - smoothing) * shares + smoothing / shares.shape[1])


def _focal(shares, gamma):
    """Logarithm of the probabilities p at which sum_k share_k (1 - p_k)^gamma (-log p_k) is least.

    There p_k is proportional to ``share_k (1 - p_k)^(gamma - 1) (1 - p_k - gamma p_k log p_k)``;
    steps of this rule, shortened by 1 + gamma, came within 1e-8 of it for every gamma tried.
    """
    log_p = log_shares = np.log(shares)
    for _ in range(300):
        p, before = np.exp(log_p), log_p
        rule = log_shares + (gamma - 1) * np.log1p(-p) + np.log1p(-p - gamma * p * log_p)
        log_p = (gamma * log_p + rule) / (1 + gamma)
        log_p = log_p - np.logaddexp.reduce(log_p, axis=1, keepdims=True)
        if np.abs(log_p - before).max() < 1e-9:
            break
    return log_p


LOG_PROBABILITIES = {"mean": np.log, "smoothed mean": _smoothed, "focal": _focal}
