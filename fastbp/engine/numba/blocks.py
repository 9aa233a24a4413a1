"""A block of rows through a network on flat arrays: forward, loss and backward, jitted.

Matrix products are BLAS's (`np.dot` into buffers of the fit), formulas are called by address once
per block, so this code is compiled once per dtype, whatever the network.  Hidden layers are kept
row by row, the output layer transposed, one row per output (`columns` in native/kernels.h).  No
parameter is changed here.
"""

from collections import namedtuple

import numpy as np

from fastbp.engine.numba.addresses import call_forward, call_loss, call_slope, pointer
from fastbp.engine.numba.caching import jit, jit_inside
from fastbp.engine.numba.elementary import add_freely

BLOCK_ROWS = 1024  # most rows of a block; larger minibatches take several


Network = namedtuple("Network", "sizes weight_at bias_at parts params forwards slopes keeps_slopes")
# sizes (n_layers + 1,); weight_at, bias_at: place of each layer's weights and biases in params;
# parts: begin and length of what is in params, and whether it is weights; forwards, slopes:
# addresses of each hidden layer's loops (0: identity); keeps_slopes: whether the first keeps slopes


Buffers = namedtuple(
    "Buffers", "x a out slopes unit_at delta below scores targets weights row_loss"
)
# for blocks of rows: x gathered; a, slopes of hidden layer l from capacity * unit_at[l] (slopes
# empty: none are wanted); out: a copy of a, or a itself without dropout; delta and below of two
# neighbouring layers; scores and targets in columns


Data = namedtuple("Data", "x indices indptr index_bytes y sample_weight order")
# addresses of the caller's arrays; index_bytes 0: X is dense; sample_weight 0: none


Loss = namedtuple("Loss", "address hyper n_targets loss_factor gradient_factor")


Dropout = namedtuple("Dropout", "thresholds scales key")
# draws below a layer's threshold leave a unit out, the others are scaled; empty: no dropout. key
# (1,): of the epoch


@jit_inside
def place(array):
    """Address of an array's first element."""
    return np.int64(array.ctypes.data)


@jit_inside
def clear(values):
    """Set a vector to 0."""
    for i in range(values.size):
        values[i] = 0


@jit_inside
def transpose_into(a, out):
    """Write the transpose of a matrix."""
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            out[j, i] = a[i, j]


@jit_inside
def weights_of(network, vector, layer):
    """Weights (n_in, n_out) and biases (n_out,) of a layer in a flat vector."""
    n_in, n_out = network.sizes[layer], network.sizes[layer + 1]
    at, bias_at = network.weight_at[layer], network.bias_at[layer]
    return vector[at : at + n_in * n_out].reshape(n_in, n_out), vector[bias_at : bias_at + n_out]


@jit_inside
def hidden(network, buffers, values, layer, rows):
    """Block (rows, n_units) of a hidden layer in one of its buffers."""
    at, n_units = buffers.unit_at[layer], network.sizes[layer + 1]
    return values[at : at + rows * n_units].reshape(rows, n_units)


@jit_inside
def index(address, index_bytes, at):
    """Element `at` of an array of int32 or int64."""
    if index_bytes == 4:
        return np.int64(pointer(address, np.int32)[at])
    return pointer(address, np.int64)[at]


@jit_inside
def sparse_product(network, data, first, rows, W, b, out):
    """out[i] = b + sum over the non-zeros of row i of x W[k]."""
    for i in range(rows):
        row = data.order[first + i]
        begin = index(data.indptr, data.index_bytes, row)
        end = index(data.indptr, data.index_bytes, row + 1)
        values = pointer(data.x, network.params)
        for j in range(b.size):
            out[i, j] = b[j]
        for at in range(begin, end):
            k, x = index(data.indices, data.index_bytes, at), values[at]
            for j in range(out.shape[1]):
                out[i, j] += x * W[k, j]


@jit_inside
def sparse_gradient(network, data, first, rows, delta, G):
    """G[k] = sum over the non-zeros of column k of x delta[i]."""
    clear(G.reshape(G.size))
    for i in range(rows):
        row = data.order[first + i]
        begin = index(data.indptr, data.index_bytes, row)
        end = index(data.indptr, data.index_bytes, row + 1)
        values = pointer(data.x, network.params)
        for at in range(begin, end):
            k, x = index(data.indices, data.index_bytes, at), values[at]
            for j in range(delta.shape[1]):
                G[k, j] += x * delta[i, j]


@jit_inside
def gather(network, data, first, rows, out):
    """out[i] = X[order[first + i]]."""
    n = out.shape[1]
    X = pointer(data.x, network.params)
    for i in range(rows):
        at = data.order[first + i] * n
        for j in range(n):
            out[i, j] = X[at + j]


@jit_inside
def gather_columns(network, data, address, n_columns, first, rows, out):
    """out[c, i] = Y[order[first + i], c], `out` flat."""
    Y = pointer(address, network.params)
    for c in range(n_columns):
        for i in range(rows):
            out[c * rows + i] = Y[data.order[first + i] * n_columns + c]


@jit_inside
def mix(x):
    """Compute number x of SplitMix64's stream with seed 0 (fb_mix of native/kernels.h)."""
    x = (x + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@jit
def epoch_key(seed, t):
    """Return what stands for seed and epoch in the draws of dropout; t steps were done before."""
    return mix(mix(seed) + np.uint64(t))


@jit_inside
def drop_units(dropout, layer, first, values, out):
    """Leave units of a hidden layer out, by the place of a row in the epoch.

    The draws are those of native/dropout.h.
    """
    threshold, low = dropout.thresholds[layer], np.uint64(0xFFFFFFFF)
    zero, scale = values.dtype.type(0), values.dtype.type(dropout.scales[layer])
    key = mix(dropout.key[0] + np.uint64(layer))
    for i in range(values.shape[0]):
        words = mix(key + np.uint64(first + i))
        second = words >> np.uint64(32)
        for j in range(values.shape[1]):
            x = (words + np.uint64(j)) & low
            x ^= x >> np.uint64(16)
            x = (x * np.uint64(0x7FEB352D) + second) & low
            x ^= x >> np.uint64(15)
            x = (x * np.uint64(0x846CA68B)) & low
            x ^= x >> np.uint64(16)
            out[i, j] = values[i, j] * scale if x >= threshold else zero


@jit_inside
def forward_block(network, buffers, data, dropout, first, rows):
    """Rows first.. of the order, up to the raw scores (n_outputs, rows), which it returns."""
    last = network.sizes.size - 2
    sparse = data.index_bytes > 0
    width = 0 if sparse else network.sizes[0]
    a = buffers.x[: rows * width].reshape(rows, width)
    if not sparse:
        gather(network, data, first, rows, a)
    scores = buffers.scores[: rows * network.sizes[last + 1]].reshape(network.sizes[last + 1], rows)
    for layer in range(last + 1):
        W, b = weights_of(network, network.params, layer)
        if layer == last:
            if sparse and layer == 0:
                rowwise = buffers.delta[: rows * b.size].reshape(rows, b.size)
                sparse_product(network, data, first, rows, W, b, rowwise)
                transpose_into(rowwise, scores)
            else:
                np.dot(W.T, a.T, scores)
                for n in range(b.size):
                    for i in range(rows):
                        scores[n, i] += b[n]
            break
        out = hidden(network, buffers, buffers.a, layer, rows)
        if sparse and layer == 0:
            sparse_product(network, data, first, rows, W, b, out)
        else:
            np.dot(a, W, out)
            for i in range(rows):
                for j in range(b.size):
                    out[i, j] += b[j]
        if network.forwards[layer]:
            slopes = 0
            if network.keeps_slopes[layer] and buffers.slopes.size > 0:
                slopes = place(hidden(network, buffers, buffers.slopes, layer, rows))
            call_forward(network.forwards[layer], (place(out), slopes, out.size))
        a = out
        if dropout.thresholds.size:
            a = hidden(network, buffers, buffers.out, layer, rows)
            drop_units(dropout, layer, first, out, a)
    return scores


@jit_inside
def output_gradient(scores, a, G, g):
    """Gradient of the output layer, whose delta is `scores` (n_outputs, rows)."""
    for n in range(g.size):
        total = scores[n, 0]
        for i in range(1, scores.shape[1]):
            total = add_freely(total, scores[n, i])
        g[n] = total
    np.dot(a.T, scores.T, G)


@jit_inside
def bias_gradient(delta, g):
    """Sum of delta (rows, n_out) over its rows."""
    clear(g)
    for i in range(delta.shape[0]):
        for j in range(g.size):
            g[j] += delta[i, j]


@jit_inside
def slopes_into(network, buffers, layer, rows, delta):
    """Multiply delta by the slope of a hidden layer's activation."""
    if network.slopes[layer]:
        values = buffers.slopes if network.keeps_slopes[layer] else buffers.a
        at = hidden(network, buffers, values, layer, rows)
        call_slope(network.slopes[layer], (place(delta), place(at), at.size))


@jit_inside
def backward_block(network, buffers, data, dropout, first, rows, scores, gradient):
    """Gradient of a block in the flat layout; `scores` holds dLoss/dscore by now."""
    last = network.sizes.size - 2
    above, below = buffers.delta, buffers.below
    for layer in range(last, -1, -1):
        G, g = weights_of(network, gradient, layer)
        W, _ = weights_of(network, network.params, layer)
        n_in, n_out = W.shape
        delta = above[: rows * n_out].reshape(rows, n_out)
        if layer == last and layer == 0:
            transpose_into(scores, delta)
        if layer == 0:
            bias_gradient(delta, g)
            if data.index_bytes > 0:
                sparse_gradient(network, data, first, rows, delta, G)
            else:
                np.dot(buffers.x[: rows * n_in].reshape(rows, n_in).T, delta, G)
            break
        a = hidden(network, buffers, buffers.out, layer - 1, rows)
        next_delta = below[: rows * n_in].reshape(rows, n_in)
        if layer == last:
            output_gradient(scores, a, G, g)
            np.dot(scores.T, W.T, next_delta)
        else:
            bias_gradient(delta, g)
            np.dot(a.T, delta, G)
            np.dot(delta, W.T, next_delta)
        slopes_into(network, buffers, layer - 1, rows, next_delta)
        if dropout.thresholds.size:
            drop_units(dropout, layer - 1, first, next_delta, next_delta)
        above, below = below, above


@jit_inside
def loss_of_block(network, buffers, data, loss, scale, first, rows, scores):
    """Raw scores become dLoss/dscore; returns the sum of the weighted losses."""
    gather_columns(network, data, data.y, loss.n_targets, first, rows, buffers.targets)
    weights = buffers.weights[:rows]
    if data.sample_weight:
        gather_columns(network, data, data.sample_weight, 1, first, rows, weights)
    else:
        for i in range(rows):
            weights[i] = 1
    factor = scale * loss.gradient_factor
    y, s, w = place(buffers.targets), place(scores), place(weights)
    row_loss = place(buffers.row_loss)
    arguments = (y, s, w, factor, row_loss, rows, rows, scores.shape[0], place(loss.hyper))
    call_loss(loss.address, arguments)
    total = 0.0
    for i in range(rows):
        total += buffers.row_loss[i] * weights[i]
    return total


@jit
def predict_block(network, buffers, data, no_dropout, first, rows, out):
    """Raw scores of rows first.. into the same rows of `out`, as far as it has them."""
    scores = forward_block(network, buffers, data, no_dropout, first, rows)
    for i in range(min(rows, out.shape[0] - first)):
        for n in range(scores.shape[0]):
            out[first + i, n] = scores[n, i]
