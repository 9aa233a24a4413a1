"""Activation functions of the hidden layers: what each one is, as plain scalar Python.

Here lives one entry per activation and the table `ACTIVATIONS`, the one place where they are
listed.  No arrays, no loops over layers, no engine: the engines read these entries, the tests check
the fast C loops against them, and parameter validation takes the names from the table.  An entry is
the same kind of object that a user makes of a function of his own.
"""

import math
from collections.abc import Callable
from numbers import Real
from typing import Any

from fastbp.descriptions import NONE, Description, formula_rule, name_rule, number_rule

# What else they are called.
OTHER_WORDS = {
    "swish": "silu", "sigmoid": "logistic", "expit": "logistic", "lrelu": "leaky_relu",
    "linear": "identity", "none": "identity", "rectifier": "relu", "rectified_linear": "relu",
    "hyperbolic_tangent": "tanh", "gaussian_error": "gelu", "gelu_exact": "gelu",
}  # fmt: skip


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
        Whether `slope` is a function of ``z`` or of ``a``. Of ``z``, or derived, it is computed
        along with the value and kept for the backward pass; of ``a``, nothing need be kept.
    factor : float, default=6.0
        Initial weights are uniform within ``sqrt(factor / (n_in + n_out))`` (Glorot & Bengio
        2010). Of identity, tanh and relu (6) and of the logistic function (2) these are
        scikit-learn's factors; of the others it is ``6 / E[f(z)^2]`` for a standard normal z, which
        keeps the size of the pre-activations from layer to layer (He et al. 2015, section 2.2, for
        any f in place of the ReLU).
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

    _rules = {
        "value": (formula_rule("a function of z"),),
        "slope": (formula_rule("a function"), NONE),
        "slope_of": (name_rule("pre_activation", "activation"),),
        "factor": (number_rule(Real, "(", 0.0, math.inf, ")"),),
    }

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


def leaky_relu(z):
    """Compute a = z where z > 0, else 0.01 z (Maas et al. 2013)."""
    return z if z > 0.0 else 0.01 * z


def leaky_relu_slope(a):
    """da/dz = 1 where a > 0, else 0.01."""
    return 1.0 if a > 0.0 else 0.01


def elu(z):
    """Compute a = z where z > 0, else exp(z) - 1 (Clevert et al. 2016, with alpha = 1)."""
    return z if z > 0.0 else math.expm1(z)


def elu_slope(a):
    """da/dz = 1 where a > 0, else exp(z) = a + 1."""
    return 1.0 if a > 0.0 else a + 1.0


# lambda and lambda alpha of the SELU: the fixed point of mean 0 and variance 1.
SELU_SCALE = 1.0507009873554804934
SELU_DEPTH = 1.7580993408473768600


def selu(z):
    """Compute a = lambda z where z > 0, else lambda alpha (exp(z) - 1) (Klambauer et al. 2017)."""
    return SELU_SCALE * z if z > 0.0 else SELU_DEPTH * math.expm1(z)


def selu_slope(a):
    """da/dz = lambda where a > 0, else lambda alpha exp(z) = a + lambda alpha."""
    return SELU_SCALE if a > 0.0 else a + SELU_DEPTH


ROOT_HALF = math.sqrt(0.5)
DENSITY_AT_0 = 1.0 / math.sqrt(2.0 * math.pi)


def gelu(z):
    """Compute a = z P(Z <= z) for a standard normal Z, exactly (Hendrycks & Gimpel 2016)."""
    probability = 0.5 * math.erfc(-ROOT_HALF * z)
    return z * probability if probability != 0.0 else 0.0


def gelu_slope(z):
    """da/dz = P(Z <= z) + z exp(-z^2 / 2) / sqrt(2 pi)."""
    return 0.5 * math.erfc(-ROOT_HALF * z) + z * (DENSITY_AT_0 * math.exp(-0.5 * z * z))


def silu(z):
    """Compute a = z logistic(z) (Elfwing et al. 2018; "swish")."""
    p = logistic(z)
    return z * p if p != 0.0 else 0.0


def silu_slope(z):
    """da/dz = p + z p (1 - p), p = logistic(z)."""
    p = logistic(z)
    return p + z * (p * logistic(-z))


def mish(z):
    """Compute a = z tanh(log(1 + exp(z))) (Misra 2019).

    The hyperbolic tangent is (1 + 2 e) / (1 + 2 e + 2 e^2) with e = exp(-z), or with e = exp(z)
    where that is smaller e (e + 2) / (e (e + 2) + 2).
    """
    if z >= 0.0:
        e = math.exp(-z)
        return z * ((1.0 + 2.0 * e) / (1.0 + 2.0 * e * (1.0 + e)))
    e = math.exp(z)
    return z * (e * (e + 2.0) / (e * (e + 2.0) + 2.0)) if e != 0.0 else 0.0


def mish_slope(z):
    """da/dz = t + z logistic(z) (1 - t^2), t = tanh(log(1 + exp(z))), in terms of e as above."""
    if z >= 0.0:
        e = math.exp(-z)
        below = 1.0 + 2.0 * e * (1.0 + e)
        return (1.0 + 2.0 * e) / below + z * (4.0 * e * e * (1.0 + e) / (below * below))
    e = math.exp(z)
    below = e * (e + 2.0) + 2.0
    return e * (e + 2.0) / below + z * (4.0 * e * (1.0 + e) / (below * below))


def softplus(z):
    """Compute a = log(1 + exp(z)), so written that exp never overflows (Dugas et al. 2001)."""
    return max(z, 0.0) + math.log1p(math.exp(-abs(z)))


def softplus_slope(z):
    """da/dz = logistic(z)."""
    return logistic(z)


ACTIVATIONS = {
    entry.name: entry
    for entry in (
        Activation(identity, identity_slope, "activation", kernel="identity"),
        Activation(logistic, logistic_slope, "activation", factor=2.0, kernel="logistic"),
        Activation(tanh, tanh_slope, "activation", kernel="tanh"),
        Activation(relu, relu_slope, "activation", kernel="relu"),
        Activation(leaky_relu, leaky_relu_slope, "activation", 12.0 / 1.0001, kernel="leaky_relu"),
        Activation(elu, elu_slope, "activation", 9.303112848, kernel="elu"),
        Activation(selu, selu_slope, "activation", 6.0, kernel="selu"),
        Activation(gelu, gelu_slope, factor=14.11029368, kernel="gelu"),
        Activation(silu, silu_slope, factor=16.86456674, kernel="silu"),
        Activation(mish, mish_slope, factor=13.26429438, kernel="mish"),
        Activation(softplus, softplus_slope, factor=6.512919018, kernel="softplus"),
    )
}


def activations_for(wanted, n_hidden):
    """Entries of the hidden layers.

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
        If a list is not as long as there are hidden layers, or an entry is no activation.
    """
    if not isinstance(wanted, list | tuple):
        return [_entry_of(wanted)] * n_hidden
    if len(wanted) != n_hidden:
        raise ValueError(
            f"activation has {len(wanted)} entries for {n_hidden} hidden layers. Give one for each "
            "layer of hidden_layer_sizes, or a single one for all."
        )
    return [_entry_of(entry) for entry in wanted]


def _entry_of(entry):
    if isinstance(entry, Activation):
        return entry
    if isinstance(entry, str) and entry in ACTIVATIONS:
        return ACTIVATIONS[entry]
    if not callable(entry):
        raise ValueError(
            f"activation must be one of {sorted(ACTIVATIONS)}, a function of z or an Activation. "
            f"Got {entry!r} instead."
        )
    return Activation(entry)
