"""The factor of raw scores that brings probabilities to the level of trust which they deserve.

A network that is trained on becomes too sure of itself long before it gets worse at telling classes
apart, and its log loss rises for that alone.  One factor of all raw scores, the inverse of a
temperature, undoes that (Guo et al. 2017, On calibration of modern neural networks), so the epoch
is chosen by the loss after it: refine, then calibrate (Berta, Holzmueller, Jordan & Bach 2025,
arXiv 2501.19195).  Nothing here knows of networks, samples or engines.
"""

import math

from scipy.optimize import minimize_scalar

# Of log factor: how far it usually lies from 0.  On six sets of classes factors were 0.5 to 1, and
# the log loss was the same without this in the mean; but few rows say little (November 2026).
SPREAD = 0.5
LOWEST, HIGHEST = -4.0, 4.0  # of log factor
TOLERANCE = 0.01


def find_factor(mean_loss, n_samples):
    """Find the factor f of least loss, ``L(f) + log(f)^2 / (2 SPREAD^2 n)``.

    The second term, a normal distribution of log f before anything is seen, keeps few samples, and
    those of which all are told right, from factors far from 1.

    Parameters
    ----------
    mean_loss : callable
        ``mean_loss(f)``: L, the mean loss of the raw scores times f.
    n_samples : int
        Of the mean.

    Returns
    -------
    factor : float
    loss : float
        ``L(f)``, or ``L(1)`` with factor 1 if nothing is lower or it is not finite.
    """
    weight = 1 / (2 * SPREAD**2 * n_samples)
    plain = mean_loss(1.0)
    if not math.isfinite(plain):
        return 1.0, plain
    found = minimize_scalar(
        lambda u: mean_loss(math.exp(u)) + weight * u * u,
        bounds=(LOWEST, HIGHEST),
        method="bounded",
        options={"xatol": TOLERANCE},
    )
    factor = math.exp(found.x)
    loss = mean_loss(factor)
    return (factor, loss) if loss < plain else (1.0, plain)
