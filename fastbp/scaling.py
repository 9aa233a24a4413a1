"""Targets of unit scale: mean and standard deviation of y, and y in these units.

Why: a network starts with outputs of about unit size, and its rate, penalty and tolerance are meant
for losses of that size.  A target of 200 000 dollars is out of reach of 200 epochs of Adam's steps
of 0.001; one of 0.001 drowns in the noise of the initial weights and ends training at `tol`.
Arrays in, arrays out; nothing of estimators or training.
"""

import numpy as np


def measure(targets, sample_weight):
    """Mean and standard deviation of each output.

    Parameters
    ----------
    targets : float64 ndarray of shape (n_samples, n_outputs)
    sample_weight : ndarray of shape (n_samples,) or None

    Returns
    -------
    mean, scale : float64 ndarray of shape (n_outputs,)
        The scale is 1 for an output that is constant up to rounding.

    Raises
    ------
    ValueError
        If y is so large that its variance is not finite.
    """
    weight = None if sample_weight is None else sample_weight.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.average(targets, axis=0, weights=weight)
        scale = np.sqrt(np.average((targets - mean) ** 2, axis=0, weights=weight))
    if not np.isfinite(scale).all():
        raise ValueError(
            "scale_targets=True needs a y whose variance is finite. Got values up to "
            f"{np.abs(targets).max():.3g} in size: divide y by a constant first."
        )
    rounding = 10 * np.finfo(np.float64).eps * np.abs(mean)
    scale[scale <= rounding] = 1.0
    return mean, scale


def standardize(targets, mean, scale, dtype):
    """Return ``(targets - mean) / scale`` as a C-contiguous array of `dtype`."""
    return np.ascontiguousarray((targets - mean) / scale, dtype)
