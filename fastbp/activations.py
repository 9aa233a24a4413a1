"""Activation functions of the hidden layers: what each one is, as plain scalar Python.

Here lives one row per activation and the table `ACTIVATIONS`, the one place where they are
listed.  No arrays, no loops over layers, no engine: the engines read these rows, the tests check
the fast C loops against them, and parameter validation takes the names from the table.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Activation:
    """Description of an activation ``a = value(z)``.

    Parameters
    ----------
    name : str
        What the user writes.
    value : callable
        Activation of a pre-activation, ``value(z) -> a``; scalar, compilable by Numba.
    slope : callable
        Derivative da/dz as a scalar function of what `slope_of` names.
    slope_of : {"activation", "pre_activation"}
        Whether `slope` is a function of ``a`` (then ``z`` need not be kept) or of ``z``.
    factor : float, default=6.0
        Initial weights are uniform within ``sqrt(factor / (n_in + n_out))`` (Glorot & Bengio
        2010), with the factors of scikit-learn.
    kernel : str or None, default=None
        Name of the C loop that computes the same faster; None means the formula is compiled.
    """

    name: str
    value: Callable[[float], float]
    slope: Callable[[float], float]
    slope_of: str
    factor: float = 6.0
    kernel: str | None = None


def identity(z):
    """Compute a = z."""
    return z


def identity_slope(a):
    """da/dz = 1."""
    return 1.0


def logistic(z):
    """Compute a = 1 / (1 + exp(-z)), written so that exp never overflows."""
    if z >= 0.0:
        return 1.0 / (1.0 + math.exp(-z))
    e = math.exp(z)
    return e / (1.0 + e)


def logistic_slope(a):
    """da/dz = a (1 - a)."""
    return a * (1.0 - a)


def tanh(z):
    """Compute a = tanh(z)."""
    return math.tanh(z)


def tanh_slope(a):
    """da/dz = 1 - a^2."""
    return 1.0 - a * a


def relu(z):
    """Compute a = max(z, 0); NaN stays NaN (Nair & Hinton 2010)."""
    return 0.0 if z < 0.0 else z


def relu_slope(a):
    """da/dz = 1 where a is not 0, else 0 (also at z = 0, as in scikit-learn)."""
    return 0.0 if a == 0.0 else 1.0


ACTIVATIONS = {
    row.name: row
    for row in (
        Activation("identity", identity, identity_slope, "activation", kernel="identity"),
        Activation(
            "logistic", logistic, logistic_slope, "activation", factor=2.0, kernel="logistic"
        ),
        Activation("tanh", tanh, tanh_slope, "activation", kernel="tanh"),
        Activation("relu", relu, relu_slope, "activation", kernel="relu"),
    )
}
