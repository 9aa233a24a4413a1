"""Members of a network that is trained in one, jitted: minibatches that all of them work off.

A member is an ordinary network whose first layer has the weights W_m = diag(r_m) W, with r_m its
multipliers of the inputs, and whose output layer is its own.  So each goes through `blocks` in
turn, on parameters that have room for W_m behind them; what shared weights get from each is added.
Along runs of features W_m is summed, and its gradient is summed back.
"""

from collections import namedtuple

import numpy as np

from fastbp.engine.numba.blocks import backward_block, forward_block, loss_of_block
from fastbp.engine.numba.caching import jit, jit_inside
from fastbp.engine.numba.minibatch import (
    DATA_LOSS,
    STEP,
    TOTAL_WEIGHT,
    finish_minibatch,
    sum_of_weights,
)

Members = namedtuple("Members", "n scales_at weights_at biases_at room_at continues")
# places in the vector of parameters: multipliers, output weights, output biases, room for W_m; and
# which features continue a run


def lay_out_members(network, n_members, continues=None):
    """Describe the members, and let the network's first layer read the room behind its parameters.

    Returns them and the network on parameters with that room.
    """
    scales_at, weights_at, biases_at = network.parts[-3:, 0]
    room_at = len(network.params)
    room = np.zeros(network.sizes[0] * network.sizes[1], network.params.dtype)
    network.weight_at[0] = room_at
    if continues is None:
        continues = np.zeros(network.sizes[0], np.uint8)
    return (
        Members(n_members, scales_at, weights_at, biases_at, room_at, continues),
        network._replace(params=np.concatenate([network.params, room])),
    )


@jit
def sum_runs(W, r, continues, out):
    """out[k] = r[k] W[k] (+ out[k - 1] where continues[k]): W_m, summed along runs of features.

    W and out are flat, with a row for each feature; W may be longer.
    """
    n_units = out.size // r.size
    for k in range(r.size):
        for j in range(k * n_units, (k + 1) * n_units):
            out[j] = r[k] * W[j]
            if continues[k]:
                out[j] += out[j - n_units]


@jit_inside
def sum_back(U, n_features, n_units, continues):
    """U[k] += U[k + 1] where that continues the run, from the last feature on."""
    for k in range(n_features - 1, 0, -1):
        if continues[k]:
            for j in range(k * n_units, (k + 1) * n_units):
                U[j - n_units] += U[j]


@jit
def turn_to(network, members, m):
    """Let the network be one of its members: W_m = diag(r) W in the room, and the output layer."""
    last = network.sizes.size - 2
    n_in, n_out = network.sizes[last], network.sizes[last + 1]
    network.weight_at[last] = members.weights_at + m * n_in * n_out
    network.bias_at[last] = members.biases_at + m * n_out
    n_features = network.sizes[0]
    scales_at = members.scales_at + m * n_features
    r = network.params[scales_at : scales_at + n_features]
    sum_runs(network.params, r, members.continues, network.params[members.room_at :])


@jit_inside
def add_range(part, gradient, begin, end, accumulate):
    """Let a range of the gradient be that of a part, or add it."""
    for i in range(begin, end):
        gradient[i] = gradient[i] + part[i] if accumulate else part[i]


@jit_inside
def add_member(network, members, m, part, gradient, later_block):
    """Add what a member's rows of a block gave.

    From U, the gradient of W_m: diag(r) U to that of W, and to that of r_k the sum of W[k] U[k].
    """
    n_features, n_units = network.sizes[0], network.sizes[1]
    sum_back(part[members.room_at :], n_features, n_units, members.continues)
    accumulate = later_block or m > 0
    for k in range(n_features):
        r_at, total = members.scales_at + m * n_features + k, 0.0
        r = network.params[r_at]
        for at in range(k * n_units, (k + 1) * n_units):
            slope = part[members.room_at + at]
            total += np.float64(network.params[at]) * np.float64(slope)
            gradient[at] = gradient[at] + r * slope if accumulate else r * slope
        if later_block:
            total += gradient[r_at]
        gradient[r_at] = total
    add_range(part, gradient, n_features * n_units, members.scales_at, accumulate)
    last = network.sizes.size - 2
    n_in, n_out = network.sizes[last], network.sizes[last + 1]
    weights_at, biases_at = network.weight_at[last], network.bias_at[last]
    add_range(part, gradient, weights_at, weights_at + n_in * n_out, later_block)
    add_range(part, gradient, biases_at, biases_at + n_out, later_block)


@jit_inside
def pass_over_block(network, buffers, data, loss, dropout, progress, members, first, rows, later):
    """All members on the rows of a block: the mean of their losses, and its gradient."""
    scale = 1 / (progress.sums[TOTAL_WEIGHT] * members.n)
    key = dropout.key[0]
    for m in range(members.n):
        turn_to(network, members, m)
        if dropout.thresholds.size:
            dropout.key[0] = key + (np.uint64(m) << np.uint64(32))
        scores = forward_block(network, buffers, data, dropout, first, rows)
        value = loss_of_block(network, buffers, data, loss, scale, first, rows, scores)
        progress.sums[DATA_LOSS] += value / members.n
        backward_block(network, buffers, data, dropout, first, rows, scores, progress.part)
        add_member(network, members, m, progress.part, progress.gradient, later)
    if dropout.thresholds.size:
        dropout.key[0] = key


@jit
def advance(network, buffers, data, loss, steps, dropout, progress, members, at, n_blocks):
    """As `minibatch.advance`, where every member works off each block."""
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
        pass_over_block(
            network, buffers, data, loss, dropout, progress, members, at, rows, at > first
        )
        at += rows
        if at == end:
            finish_minibatch(network, loss, steps, progress, end - first)
    return at
