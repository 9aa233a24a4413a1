"""What a user writes: activations and losses as plain scalar Python functions; no assertions.

They live in a module of their own so that other processes can import them.
"""

import math

import numpy as np


def silu(z):
    return z / (1 + math.exp(-z))


def leaky_relu(z):
    return z if z > 0 else 0.01 * z


def gelu(z):
    return 0.5 * z * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))


def one_plus_cosine(z):
    """f(0) is not 0: what fills a panel up must not count."""
    return 1 + np.cos(z)


def logistic(z):
    return 1 / (1 + math.exp(-z))


def calls_a_helper(z):
    return z * logistic(z)


def own_relu(z):
    return max(z, 0.0)


def own_relu_slope(z):
    return 1.0 if z > 0 else 0.0


def own_squared_error(y_true, raw):
    return 0.5 * (y_true - raw) ** 2


def own_log_loss(y_true, raw):
    return max(raw, 0.0) + math.log1p(math.exp(-abs(raw))) - raw * y_true


def own_poisson(y_true, raw):
    constant = y_true * math.log(y_true) - y_true if y_true > 0 else 0.0
    return constant - y_true * raw + math.exp(raw)


def smooth_huber(y_true, raw):
    """Pseudo-Huber: quadratic near 0, linear far out (Charbonnier et al. 1994)."""
    error = y_true - raw
    return math.sqrt(1 + error * error) - 1


def asymmetric(y_true, raw):
    """Falling short costs nine times as much as going beyond."""
    error = y_true - raw
    return 0.9 * error * error if error > 0 else 0.1 * error * error


def raises_far_out(z):
    if z > 12:
        raise ValueError("too far")
    return z


def nan_far_out(z):
    return math.sqrt(12.0 - z) + z


def slope_of_nan_far_out(z):
    return 1.0 - 0.5 / math.sqrt(12.0 - z) if z < 12.0 else 1.0


def hides_nan(z):
    return z if z > 0 else 0.0


def same(z):
    return z


def leaky(z, slope=0.01):
    return z if z > 0 else slope * z


def leaky_by_keyword(z, *, slope=0.01):
    return z if z > 0 else slope * z


def make_leaky(slope):
    return lambda z: z if z > 0 else slope * z


class Holder:
    @staticmethod
    def leaky(z, slope=0.01):
        return z if z > 0 else slope * z


def weighted_error(y_true, raw, *, weight=0.5):
    return weight * (y_true - raw) ** 2


def hyper_error(y_true, raw, hyper):
    return hyper[0] * (y_true - raw) ** 2
