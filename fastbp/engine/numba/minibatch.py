"""Minibatches on flat arrays: forward, loss, backward and update of any network, jitted.

Matrix products are BLAS's (`np.dot` into buffers of the fit), formulas are called by address once
per block, so this code is compiled once per dtype, whatever the network.  Hidden layers are kept
row by row, the output layer transposed, one row per output (`columns` in native/kernels.h).  Work
is cut into blocks of rows, after any of which the caller may look for signals.  One thread.
"""

from collections import namedtuple

import numpy as np

from fastbp.engine.numba.addresses import (
    call_forward,
    call_loss,
    call_prepare,
    call_slope,
    call_update,
    pointer,
)
from fastbp.engine.numba.caching import jit
from fastbp.engine.numba.elementary import add_freely, count_bad

BLOCK_ROWS = 1024  # most rows of a block; larger minibatches take several

Network = namedtuple("Network", "sizes weight_at params forwards slopes keeps_z")
# sizes (n_layers + 1,), weight_at: place of each layer's weights in params; forwards, slopes:
# addresses of each hidden layer's loops (0: identity); keeps_z: whether its slope reads z

Buffers = namedtuple("Buffers", "x a z unit_at delta below scores targets weights row_loss")
# for blocks of rows: x gathered; a, z of hidden layer l from capacity * unit_at[l]; delta and below
# of two neighbouring layers; scores and targets in columns

Data = namedtuple("Data", "x indices indptr index_bytes y sample_weight order")
# addresses of the caller's arrays; index_bytes 0: X is dense; sample_weight 0: none

Loss = namedtuple("Loss", "address n_targets loss_factor gradient_factor")
Steps = namedtuple("Steps", "address slots hyper constants rates alpha batch_size")
# address of prepare and update (0: no steps, only gradients)

Progress = namedtuple("Progress", "gradient part counts sums")
# part: gradient of a further block; counts: t, step of this call; sums: epoch's loss, weight, data
# loss of the minibatch in hand
T, STEP = 0, 1
EPOCH_LOSS, TOTAL_WEIGHT, DATA_LOSS = 0, 1, 2


@jit
def place(array):
    """Address of an array's first element."""
    return np.int64(array.ctypes.data)


# Loops instead of array expressions: they run as fast, and compile many times faster.


@jit
def clear(values):
    """Set a vector to 0."""
    for i in range(values.size):
        values[i] = 0


@jit
def transpose_into(a, out):
    """Write the transpose of a matrix."""
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            out[j, i] = a[i, j]


@jit
def weights_of(network, vector, layer):
    """Weights (n_in, n_out) and biases (n_out,) of a layer in a flat vector."""
    n_in, n_out = network.sizes[layer], network.sizes[layer + 1]
    at = network.weight_at[layer]
    middle = at + n_in * n_out
    return vector[at:middle].reshape(n_in, n_out), vector[middle : middle + n_out]


@jit
def hidden(network, buffers, values, layer, rows):
    """Block (rows, n_units) of a hidden layer in one of its buffers."""
    at, n_units = buffers.unit_at[layer], network.sizes[layer + 1]
    return values[at : at + rows * n_units].reshape(rows, n_units)


@jit
def index(address, index_bytes, at):
    """Element `at` of an array of int32 or int64."""
    if index_bytes == 4:
        return np.int64(pointer(address, np.int32)[at])
    return pointer(address, np.int64)[at]


@jit
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


@jit
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


@jit
def gather(network, data, first, rows, out):
    """out[i] = X[order[first + i]]."""
    n = out.shape[1]
    X = pointer(data.x, network.params)
    for i in range(rows):
        at = data.order[first + i] * n
        for j in range(n):
            out[i, j] = X[at + j]


@jit
def gather_columns(network, data, address, n_columns, first, rows, out):
    """out[c, i] = Y[order[first + i], c], `out` flat."""
    Y = pointer(address, network.params)
    for c in range(n_columns):
        for i in range(rows):
            out[c * rows + i] = Y[data.order[first + i] * n_columns + c]


@jit
def forward_block(network, buffers, data, first, rows):
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
            z = 0
            if network.keeps_z[layer]:
                z = place(hidden(network, buffers, buffers.z, layer, rows))
            call_forward(network.forwards[layer], (place(out), z, out.size))
        a = out
    return scores


@jit
def output_gradient(scores, a, G, g):
    """Gradient of the output layer, whose delta is `scores` (n_outputs, rows)."""
    for n in range(g.size):
        total = scores[n, 0]
        for i in range(1, scores.shape[1]):
            total = add_freely(total, scores[n, i])
        g[n] = total
    np.dot(a.T, scores.T, G)


@jit
def bias_gradient(delta, g):
    """Sum of delta (rows, n_out) over its rows."""
    clear(g)
    for i in range(delta.shape[0]):
        for j in range(g.size):
            g[j] += delta[i, j]


@jit
def slopes_into(network, buffers, layer, rows, delta):
    """Multiply delta by the slope of a hidden layer's activation."""
    if network.slopes[layer]:
        values = buffers.z if network.keeps_z[layer] else buffers.a
        at = hidden(network, buffers, values, layer, rows)
        call_slope(network.slopes[layer], (place(delta), place(at), at.size))


@jit
def backward_block(network, buffers, data, first, rows, scores, gradient):
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
        a = hidden(network, buffers, buffers.a, layer - 1, rows)
        next_delta = below[: rows * n_in].reshape(rows, n_in)
        if layer == last:
            output_gradient(scores, a, G, g)
            np.dot(scores.T, W.T, next_delta)
        else:
            bias_gradient(delta, g)
            np.dot(a.T, delta, G)
            np.dot(delta, W.T, next_delta)
        slopes_into(network, buffers, layer - 1, rows, next_delta)
        above, below = below, above


@jit
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
    call_loss(loss.address, (y, s, w, factor, row_loss, rows, rows, scores.shape[0]))
    total = 0.0
    for i in range(rows):
        total += buffers.row_loss[i] * weights[i]
    return total


@jit
def mean_loss(network, buffers, data, loss, scores):
    """Mean loss of raw scores (n_samples, n_outputs), without penalty; they are left alone."""
    n_samples, n_outputs = scores.shape
    capacity, total, at = buffers.row_loss.size, 0.0, 0
    while at < n_samples:
        rows = min(capacity, n_samples - at)
        columns = buffers.scores[: rows * n_outputs].reshape(n_outputs, rows)
        transpose_into(scores[at : at + rows], columns)
        total += loss_of_block(network, buffers, data, loss, 1.0, at, rows, columns)
        at += rows
    return total * loss.loss_factor / sum_of_weights(network, data, 0, n_samples)


@jit
def sum_of_weights(network, data, first, end):
    """Sum of the sample weights of a minibatch in row order."""
    if data.sample_weight == 0:
        return float(end - first)
    weights = pointer(data.sample_weight, network.params)
    total = 0.0
    for i in range(first, end):
        total += weights[data.order[i]]
    return total


@jit
def update_range(network, steps, progress, begin, n, l2):
    """One step for n parameters; returns the sum of their old squares."""
    w, g = place(network.params[begin:]), place(progress.gradient[begin:])
    s0, s1 = place(steps.slots[0, begin:]), place(steps.slots[1, begin:])
    return call_update(steps.address[1], (w, g, s0, s1, n, l2, place(steps.constants)))


@jit
def update_parameters(network, steps, progress, scale):
    """One step of the optimiser for every layer; returns the sum of the old squared weights."""
    progress.counts[T] += 1
    rate = steps.rates[progress.counts[STEP] if steps.rates.size > 1 else 0]
    t = float(progress.counts[T])
    call_prepare(steps.address[0], (place(steps.hyper), rate, t, place(steps.constants)))
    squares = 0.0
    for layer in range(network.sizes.size - 1):
        begin, n_biases = network.weight_at[layer], network.sizes[layer + 1]
        n_weights = network.sizes[layer] * n_biases
        squares += update_range(network, steps, progress, begin, n_weights, steps.alpha * scale)
        update_range(network, steps, progress, begin + n_weights, n_biases, 0.0)
    return squares


@jit
def advance(network, buffers, data, loss, steps, progress, at, n_blocks):
    """Work off up to n_blocks blocks from row `at` of an epoch on; returns the row reached."""
    sums, n_samples = progress.sums, data.order.size
    while at < n_samples and n_blocks > 0:
        first = at - at % steps.batch_size
        end = min(first + steps.batch_size, n_samples)
        rows = min(buffers.row_loss.size, end - at)
        if at == first:
            sums[TOTAL_WEIGHT], sums[DATA_LOSS] = sum_of_weights(network, data, first, end), 0.0
        n_blocks -= 1
        if not sums[TOTAL_WEIGHT] > 0:  # nothing to learn from
            at = end
            progress.counts[STEP] += 1
            continue
        scale = 1 / sums[TOTAL_WEIGHT]
        scores = forward_block(network, buffers, data, at, rows)
        sums[DATA_LOSS] += loss_of_block(network, buffers, data, loss, scale, at, rows, scores)
        part = progress.gradient if at == first else progress.part
        backward_block(network, buffers, data, at, rows, scores, part)
        if at > first:
            for i in range(progress.part.size):
                progress.gradient[i] += progress.part[i]
        at += rows
        if at == end:
            penalty = 0.0
            if steps.address.size:
                penalty = update_parameters(network, steps, progress, scale)
            value = sums[DATA_LOSS] * loss.loss_factor + 0.5 * steps.alpha * penalty
            sums[EPOCH_LOSS] += value * scale * (end - first)
            progress.counts[STEP] += 1
    return at


@jit
def predict_block(network, buffers, data, first, rows, out):
    """Raw scores of rows first.. into the same rows of `out`, as far as it has them."""
    scores = forward_block(network, buffers, data, first, rows)
    for i in range(min(rows, out.shape[0] - first)):
        for n in range(scores.shape[0]):
            out[first + i, n] = scores[n, i]


@jit
def all_finite_in(x):
    """Whether a flat array has neither NaN nor infinity."""
    bad = count_bad(x[0])
    for i in range(x.size):
        bad = add_freely(bad, count_bad(x[i]))
    return bad == 0
