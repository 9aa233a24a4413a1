"""Activation functions of the hidden layers: what each one is, as plain scalar Python.

Here lives one row per activation and the table `ACTIVATIONS`, the one place where they are
listed.  No arrays, no loops over layers, no engine: the engines read these rows, the tests check
the fast C loops against them, and parameter validation takes the names from the table.  A row is
the same kind of object that a user makes of a function of his own.
"""

import math
from collections.abc import Callable
from typing import Any

from fastbp.descriptions import Description


class Activation(Description):
    """An activation function ``a = value(z)`` of a hidden layer.

    Parameters
    ----------
    value : callable
        Activation of a pre-activation, ``value(z) -> a``: a scalar Python function with arithmetic,
        branches and elementwise functions of `math` or `numpy`.
    slope : callable or None, default=None
        Derivative da/dz as a scalar function of what `slope_of` names; None derives it from `value`
        (forward-mode differentiation).
    slope_of : {"pre_activation", "activation"}, default="pre_activation"
        Whether `slope` is a function of ``z`` or of ``a`` (then ``z`` need not be kept).
    factor : float, default=6.0
        Initial weights are uniform within ``sqrt(factor / (n_in + n_out))`` (Glorot & Bengio
        2010); 6 and, for the logistic function, 2 are scikit-learn's factors.
    kernel : str or None, default=None
        Name of a C loop of fastbp that computes the same; None means the formula is compiled.

    Examples
    --------
    >>> import math
    >>> from fastbp import Activation, BackpropClassifier
    >>> def silu(z):
    ...     return z / (1 + math.exp(-z))
    >>> clf = BackpropClassifier(hidden_layer_sizes=(50, 50), activation=[silu, "tanh"])
    >>> Activation(silu, factor=12.0).name
    'silu'
    """

    def __init__(
        self,
        value: Callable[[Any], Any],
        slope: Callable[[Any], Any] | None = None,
        slope_of: str = "pre_activation",
        factor: float = 6.0,
        kernel: str | None = None,
    ) -> None:
        self.value = value
        self.slope = slope
        self.slope_of = slope_of
        self.factor = factor
        self.kernel = kernel


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
        Activation(identity, identity_slope, "activation", kernel="identity"),
        Activation(logistic, logistic_slope, "activation", factor=2.0, kernel="logistic"),
        Activation(tanh, tanh_slope, "activation", kernel="tanh"),
        Activation(relu, relu_slope, "activation", kernel="relu"),
    )
}


def activations_for(wanted, n_hidden):
    """Rows of the hidden layers.

    Parameters
    ----------
    wanted : str, callable, Activation, or list or tuple of these
        One for all hidden layers, or one for each.
    n_hidden : int

    Returns
    -------
    list of Activation

    Raises
    ------
    ValueError
        If a list is not as long as there are hidden layers.
    """
    if not isinstance(wanted, list | tuple):
        return [_row_of(wanted)] * n_hidden
    if len(wanted) != n_hidden:
        raise ValueError(
            f"activation has {len(wanted)} entries for {n_hidden} hidden layers. Give one for each "
            "layer of hidden_layer_sizes, or a single one for all."
        )
    return [_row_of(entry) for entry in wanted]


def _row_of(entry):
    if isinstance(entry, Activation):
        return entry
    return ACTIVATIONS[entry] if isinstance(entry, str) else Activation(entry)
