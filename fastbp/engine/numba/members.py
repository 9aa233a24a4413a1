"""Members of a network that is trained in one, jitted: what makes the network one of them.

A member is an ordinary network whose first layer has the weights W_m = diag(r_m) W, with r_m its
multipliers of the inputs, and whose output layer is its own.  So each goes through `blocks` in
turn, on parameters that have room for W_m behind them; what shared weights get from each is added.
Along runs of features W_m is summed, and its gradient is summed back.  `minibatch` says when.
"""

from collections import namedtuple

import numpy as np

from fastbp.engine.numba.caching import jit, jit_inside

Members = namedtuple("Members", "n scales_at weights_at biases_at room_at continues")
# how many (0: an ordinary network); places in the vector of parameters: multipliers, weights and
# biases of the outputs, room for W_m; which features continue a run


NO_MEMBERS = Members(0, 0, 0, 0, 0, np.zeros(0, np.uint8))


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
