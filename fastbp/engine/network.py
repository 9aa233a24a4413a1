"""The network as one flat vector: layer sizes to offsets, views, and initial values.

Layout of `params`, gradients and optimiser slots, shape (n_params,): for each layer its weights
(n_in, n_out) in C order, then its biases (n_out,).  A network of members (TabM-mini: Gorishniy et
al. 2024, arXiv 2410.24210) has all but the output layer like that, once for all of them; then the
multipliers of each member's inputs (n_members, n_features), the weights of all output layers
(n_members, n_last_hidden, n_outputs) and their biases (n_members, n_outputs).  Pure layout: nothing
here knows about losses, training or engines (which keep packed working copies of their own).
"""

from itertools import accumulate, pairwise

import numpy as np


def count_params(layer_sizes, n_members=None):
    """Length of the flat vector for sizes (n_features, *hidden, n_outputs), of each member."""
    total = 0
    for n_in, n_out in pairwise(layer_sizes):  # asked some ten times a fit: no generator
        total += (n_in + 1) * n_out
    if n_members is not None:
        total += n_members * layer_sizes[0] + (n_members - 1) * (n_in + 1) * n_out
    return total


def list_parts(layer_sizes, n_members=None):
    """Where what is in the flat vector: [(begin, end, is_weights), ...], without gaps.

    Penalty and decay act on weights, not on biases and not on multipliers of inputs.
    """
    lengths = []
    for n_in, n_out in pairwise(layer_sizes):
        lengths += [(n_in * n_out, True), (n_out, False)]
    if n_members is not None:
        (n_weights, _), (n_biases, _) = lengths[-2:]
        lengths[-2:] = [
            (n_members * layer_sizes[0], False),
            (n_members * n_weights, True),
            (n_members * n_biases, False),
        ]
    ends = list(accumulate(n for n, _ in lengths))
    return [(end - n, end, is_weights) for end, (n, is_weights) in zip(ends, lengths, strict=True)]


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


def member_views(params, layer_sizes, n_members):
    """Every part of a network of members as a view of its flat vector.

    Parameters
    ----------
    params : ndarray of shape (n_params,)
    layer_sizes : sequence of int
        (n_features, *hidden, n_outputs), with at least one hidden layer.
    n_members : int

    Returns
    -------
    coefs : list of ndarray of shape (n_in, n_out)
    intercepts : list of ndarray of shape (n_out,)
        Of the hidden layers, which all members share.
    scales : ndarray of shape (n_members, n_features)
    member_coefs : ndarray of shape (n_members, n_last_hidden, n_outputs)
    member_intercepts : ndarray of shape (n_members, n_outputs)
    """
    *hidden, n_outputs = layer_sizes
    coefs, intercepts = views(params, hidden)
    scales, weights, biases = (
        params[begin:end] for begin, end, _ in list_parts(layer_sizes, n_members)[-3:]
    )
    return (
        coefs,
        intercepts,
        scales.reshape(n_members, hidden[0]),
        weights.reshape(n_members, hidden[-1], n_outputs),
        biases.reshape(n_members, n_outputs),
    )


def flatten(coefs, intercepts, dtype, members=()):
    """Make the flat vector of `dtype` that holds these values.

    `members`: the scales, weights and biases of members, which come after the hidden layers.
    """
    parts = [part for pair in zip(coefs, intercepts, strict=True) for part in pair]
    parts += members
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


def initial_params(layer_sizes, activations, random_state, dtype, init="auto", n_members=None):
    """Draw initial values.

    With "auto" exactly as scikit-learn's MLP does: layer by layer weights, then biases, uniform
    within ``sqrt(factor / (n_in + n_out))`` in float64 (Glorot & Bengio 2010); the factor is that
    of the layer's activation, and the output layer's is that of the last hidden layer.  Otherwise
    weights uniform with the variance of `VARIANCES`, and biases 0.  With members the hidden layers
    come first, then all multipliers of inputs, signs at random, then each member's output layer.

    Parameters
    ----------
    layer_sizes : sequence of int
    activations : sequence of Activation
        One per hidden layer; the activation that the user named if there is no hidden layer.
    random_state : RandomState
    dtype : dtype
    init : {"auto", "he", "glorot", "lecun"}, default="auto"
    n_members : int or None, default=None

    Returns
    -------
    ndarray of shape (n_params,)
    """
    params = np.empty(count_params(layer_sizes, n_members), dtype)
    if n_members is None:
        coefs, intercepts = views(params, layer_sizes)
    else:
        coefs, intercepts, scales, *outputs = member_views(params, layer_sizes, n_members)
    for layer, (weights, biases) in enumerate(zip(coefs, intercepts, strict=True)):
        activation = activations[min(layer, len(activations) - 1)]
        _draw_layer(weights, biases, activation, random_state, init)
    if n_members is not None:
        scales[...] = 2 * random_state.randint(0, 2, scales.shape) - 1
        for weights, biases in zip(*outputs, strict=True):
            _draw_layer(weights, biases, activations[-1], random_state, init)
    return params


def _draw_layer(weights, biases, activation, random_state, init):
    bound = initial_bound(*weights.shape, activation, init)
    weights[...] = random_state.uniform(-bound, bound, weights.shape)
    biases[...] = random_state.uniform(-bound, bound, biases.shape) if init == "auto" else 0


def initial_squares(layer_sizes, activations, init="auto"):
    """Sum of the squares of all initial weights that is to be expected."""
    total = 0.0
    for layer, (n_in, n_out) in enumerate(pairwise(layer_sizes)):
        activation = activations[min(layer, len(activations) - 1)]
        total += n_in * n_out * initial_bound(n_in, n_out, activation, init) ** 2 / 3
    return total
