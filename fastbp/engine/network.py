"""The network as one flat vector: layer sizes to offsets, views, and initial values.

Layout of `params`, gradients and optimiser slots, shape (n_params,): for each layer its weights
(n_in, n_out) in C order, then its biases (n_out,).  Pure layout: nothing here knows about losses,
training or engines (which keep packed working copies of their own).
"""

from itertools import pairwise

import numpy as np


def count_params(layer_sizes):
    """Length of the flat vector for sizes (n_features, *hidden, n_outputs)."""
    total = 0
    for n_in, n_out in pairwise(layer_sizes):  # asked some ten times a fit: no generator
        total += (n_in + 1) * n_out
    return total


def views(params, layer_sizes):
    """Weights and biases of each layer as views of the flat vector.

    Parameters
    ----------
    params : ndarray of shape (n_params,)
    layer_sizes : sequence of int
        (n_features, *hidden, n_outputs).

    Returns
    -------
    coefs : list of ndarray of shape (n_in, n_out)
    intercepts : list of ndarray of shape (n_out,)
    """
    coefs, intercepts, start = [], [], 0
    for n_in, n_out in pairwise(layer_sizes):
        middle, end = start + n_in * n_out, start + (n_in + 1) * n_out
        coefs.append(params[start:middle].reshape(n_in, n_out))
        intercepts.append(params[middle:end])
        start = end
    return coefs, intercepts


def flatten(coefs, intercepts, dtype):
    """Make the flat vector of `dtype` that holds the values of `coefs` and `intercepts`."""
    parts = [part for pair in zip(coefs, intercepts, strict=True) for part in pair]
    return np.concatenate([np.ravel(part) for part in parts], dtype=dtype, casting="same_kind")


def layer_sizes_of(coefs):
    """Sizes (n_features, *hidden, n_outputs) of fitted weights."""
    return (*(len(weights) for weights in coefs), coefs[-1].shape[1])


# Variance of a weight by the number of inputs and outputs of its layer.
VARIANCES = {
    "he": lambda n_in, n_out: 2.0 / n_in,  # He et al. 2015, equation 10
    "glorot": lambda n_in, n_out: 2.0 / (n_in + n_out),  # Glorot & Bengio 2010, equation 12
    "lecun": lambda n_in, n_out: 1.0 / n_in,  # LeCun et al. 1998, section 4.6
}


def initial_bound(n_in, n_out, activation, init="auto"):
    """Size up to which the initial weights of a layer are drawn, uniformly."""
    if init == "auto":
        return np.sqrt(activation.factor / (n_in + n_out))
    return np.sqrt(3 * VARIANCES[init](n_in, n_out))


def initial_params(layer_sizes, activations, random_state, dtype, init="auto"):
    """Draw initial values.

    With "auto" exactly as scikit-learn's MLP does: layer by layer weights, then biases, uniform
    within ``sqrt(factor / (n_in + n_out))`` in float64 (Glorot & Bengio 2010); the factor is that
    of the layer's activation, and the output layer's is that of the last hidden layer.  Otherwise
    weights uniform with the variance of `VARIANCES`, and biases 0.

    Parameters
    ----------
    layer_sizes : sequence of int
    activations : sequence of Activation
        One per hidden layer; the activation that the user named if there is no hidden layer.
    random_state : RandomState
    dtype : dtype
    init : {"auto", "he", "glorot", "lecun"}, default="auto"

    Returns
    -------
    ndarray of shape (n_params,)
    """
    params = np.empty(count_params(layer_sizes), dtype)
    coefs, intercepts = views(params, layer_sizes)
    for layer, (weights, biases) in enumerate(zip(coefs, intercepts, strict=True)):
        activation = activations[min(layer, len(activations) - 1)]
        bound = initial_bound(*weights.shape, activation, init)
        weights[...] = random_state.uniform(-bound, bound, weights.shape)
        biases[...] = random_state.uniform(-bound, bound, biases.shape) if init == "auto" else 0
    return params


def initial_squares(layer_sizes, activations, init="auto"):
    """Sum of the squares of all initial weights that is to be expected."""
    total = 0.0
    for layer, (n_in, n_out) in enumerate(pairwise(layer_sizes)):
        activation = activations[min(layer, len(activations) - 1)]
        total += n_in * n_out * initial_bound(n_in, n_out, activation, init) ** 2 / 3
    return total
