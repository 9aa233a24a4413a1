"""The mean of the predictions of an ensemble's members, as raw scores.

An ensemble predicts the mean of its members' predictions: of their values or their probabilities,
after the output transform.  What follows a network (losses, scores, thresholds, links) takes raw
scores, so the mean is brought back to the one raw score whose transform it is.  All in float64;
nothing here knows of samples' weights, training or engines.
"""

import numpy as np

from fastbp.losses.entries import TRANSFORMS


def combine(scores, output):
    """Raw scores whose output transform is the mean of the transforms of the members' scores.

    With p_m the transform of member m's scores and p their mean over m: identity p; exp log p;
    logistic log p - log(1 - p); softmax log p_k of each class; cumulative softplus the lowest
    quantile, and the inverse softplus ``d + log(1 - exp(-d))`` of each difference d.  Sums of
    exponentials are taken relative to the largest, so that none overflows.

    Parameters
    ----------
    scores : ndarray of shape (n_members, n_samples, n_outputs)
        Raw scores.
    output : str
        One of the output transforms, `TRANSFORMS`.

    Returns
    -------
    ndarray of shape (n_samples, n_outputs)
        Of the dtype of `scores`.
    """
    if len(scores) == 1:
        return scores[0]
    return _COMBINATIONS[output](scores.astype(np.float64)).astype(scores.dtype, copy=False)


def _mean_of_exp(logarithms):
    """Logarithm of the mean over members of what these are the logarithms of."""
    top = logarithms.max(axis=0)
    with np.errstate(invalid="ignore"):  # inf - inf: NaN, as the scores were
        return top + np.log(np.exp(logarithms - top).mean(axis=0))


def _combine_identity(scores):
    return scores.mean(axis=0)


def _combine_logistic(scores):
    return _mean_of_exp(-np.logaddexp(0.0, -scores)) - _mean_of_exp(-np.logaddexp(0.0, scores))


def _combine_softmax(scores):
    relative = scores - scores.max(axis=2, keepdims=True)
    return _mean_of_exp(relative - np.log(np.exp(relative).sum(axis=2, keepdims=True)))


def _combine_cumulative_softplus(scores):
    quantiles = scores.copy()
    quantiles[..., 1:] = np.logaddexp(0.0, scores[..., 1:])
    mean = quantiles.mean(axis=0)  # of the lowest, and of the differences
    steps = np.maximum(mean[:, 1:], np.finfo(np.float64).tiny)
    mean[:, 1:] = steps + np.log(-np.expm1(-steps))
    return mean


_COMBINATIONS = {
    "identity": _combine_identity,
    "exp": _mean_of_exp,
    "logistic": _combine_logistic,
    "softmax": _combine_softmax,
    "cumulative_softplus": _combine_cumulative_softplus,
}
assert _COMBINATIONS.keys() >= set(TRANSFORMS.values())
