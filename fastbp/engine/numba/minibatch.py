"""Minibatches, jitted: the blocks of each, one step of the optimiser, and the epoch's loss.

The caller may look for signals after any block.  What happens within a block is `blocks`' business,
what makes the network one of its members that of `members`.  One thread.
"""

import math
from collections import namedtuple

import numpy as np

from fastbp.engine.numba.addresses import call_prepare, call_update, pointer
from fastbp.engine.numba.blocks import (
    backward_block,
    forward_block,
    loss_of_block,
    place,
    transpose_into,
)
from fastbp.engine.numba.caching import jit, jit_inside
from fastbp.engine.numba.elementary import add_freely, count_bad
from fastbp.engine.numba.members import add_member, turn_to

Steps = namedtuple(
    "Steps",
    "address slots hyper constants decay bias_constants max_norm ema_decay average rates alpha "
    "batch_size",
)
# address of prepare and update (0: no steps, only gradients); decay: which of hyper is 0 for biases
# (-1: none); max_norm of a gradient (0: any); average of the parameters (empty: none)


Progress = namedtuple("Progress", "gradient part counts sums")
# part: gradient of a further block; counts: t, step of this call; sums: epoch's loss, weight, data
# loss of the minibatch in hand


T, STEP = 0, 1


EPOCH_LOSS, TOTAL_WEIGHT, DATA_LOSS = 0, 1, 2


@jit_inside
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
def loss_of_scores(network, buffers, data, loss, scores):
    """Weighted mean loss of raw scores (n_samples, n_outputs), in blocks of rows."""
    n_outputs, total = scores.shape[1], 0.0
    for first in range(0, data.order.size, buffers.row_loss.size):
        rows = min(buffers.row_loss.size, data.order.size - first)
        block = buffers.scores[: rows * n_outputs].reshape(n_outputs, rows)
        transpose_into(scores[first : first + rows], block)
        total += loss_of_block(network, buffers, data, loss, 0.0, first, rows, block)
    return total * loss.loss_factor / sum_of_weights(network, data, 0, data.order.size)


@jit_inside
def split_part(network, part):
    """Begin and length of a part of the parameters, and whether it is weights."""
    return network.parts[part, 0], network.parts[part, 1], network.parts[part, 2] != 0


@jit_inside
def limit_gradient(network, steps, progress, scale):
    """Scale a gradient that is longer than allowed; returns the factor, for the penalty's too."""
    total, w, g = 0.0, network.params, progress.gradient
    l2 = w.dtype.type(steps.alpha * scale)
    for part in range(len(network.parts)):
        begin, n, is_weights = split_part(network, part)
        if is_weights:
            for i in range(begin, begin + n):
                total += np.float64(g[i] + l2 * w[i]) ** 2
        else:
            for i in range(begin, begin + n):
                total += np.float64(g[i]) ** 2
    if not total > steps.max_norm**2:
        return 1.0
    factor = steps.max_norm / math.sqrt(total)
    for i in range(progress.gradient.size):
        progress.gradient[i] *= progress.gradient.dtype.type(factor)
    return factor


@jit_inside
def update_average(network, steps, t):
    """Move the average towards the parameters; forgets the start (see native/minibatch.pxd)."""
    share = steps.average.dtype.type(1 - min(steps.ema_decay, (1 + t) / (10 + t)))
    for i in range(steps.average.size):
        steps.average[i] += (network.params[i] - steps.average[i]) * share


@jit_inside
def update_range(network, steps, progress, begin, n, l2, constants):
    """One step for n parameters; returns the sum of their old squares."""
    w, g = place(network.params[begin:]), place(progress.gradient[begin:])
    s0, s1 = place(steps.slots[0, begin:]), place(steps.slots[1, begin:])
    return call_update(steps.address[1], (w, g, s0, s1, n, l2, place(constants)))


@jit_inside
def update_parameters(network, steps, progress, scale):
    """One step of the optimiser for every parameter; returns the sum of the old squared weights."""
    progress.counts[T] += 1
    rate = steps.rates[progress.counts[STEP] if steps.rates.size > 1 else 0]
    t = float(progress.counts[T])
    call_prepare(steps.address[0], (place(steps.hyper), rate, t, place(steps.constants)))
    bias_constants = steps.constants
    if steps.decay >= 0:
        bias_constants = steps.bias_constants
        decay = steps.hyper[steps.decay]
        steps.hyper[steps.decay] = 0
        call_prepare(steps.address[0], (place(steps.hyper), rate, t, place(bias_constants)))
        steps.hyper[steps.decay] = decay
    l2 = steps.alpha * scale
    if steps.max_norm > 0:
        l2 *= limit_gradient(network, steps, progress, scale)
    squares = 0.0
    for part in range(len(network.parts)):
        begin, n, is_weights = split_part(network, part)
        if is_weights:
            squares += update_range(network, steps, progress, begin, n, l2, steps.constants)
        else:
            update_range(network, steps, progress, begin, n, 0.0, bias_constants)
    if steps.average.size:
        update_average(network, steps, t)
    return squares


@jit_inside
def finish_minibatch(network, loss, steps, progress, rows):
    """All gradients are there: step along them, and add the minibatch's loss to the epoch's."""
    sums, penalty = progress.sums, 0.0
    scale = 1 / sums[TOTAL_WEIGHT]
    if steps.address.size:
        penalty = update_parameters(network, steps, progress, scale)
    value = sums[DATA_LOSS] * loss.loss_factor + 0.5 * steps.alpha * penalty
    sums[EPOCH_LOSS] += value * scale * rows
    progress.counts[STEP] += 1


@jit
def advance(network, buffers, data, loss, steps, dropout, progress, members, at, n_blocks):
    """Work off up to n_blocks blocks from row `at` of an epoch on; returns the row reached.

    Of members each works off a block before the next one; the loss is the mean of theirs.  They
    have no function of their own for it: it would compile all this a second time (5 s, Nov 2026).
    """
    sums, n_samples, n_turns = progress.sums, data.order.size, max(members.n, 1)
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
        scale, key = 1 / (sums[TOTAL_WEIGHT] * n_turns), dropout.key[0]
        part = progress.gradient if members.n == 0 and at == first else progress.part
        for m in range(n_turns):
            if members.n > 0:
                turn_to(network, members, m)
                if dropout.thresholds.size:
                    dropout.key[0] = key + (np.uint64(m) << np.uint64(32))
            scores = forward_block(network, buffers, data, dropout, at, rows)
            value = loss_of_block(network, buffers, data, loss, scale, at, rows, scores)
            sums[DATA_LOSS] += value / n_turns
            backward_block(network, buffers, data, dropout, at, rows, scores, part)
            if members.n > 0:
                add_member(network, members, m, part, progress.gradient, at > first)
        if dropout.thresholds.size:
            dropout.key[0] = key
        if members.n == 0 and at > first:
            for i in range(progress.part.size):
                progress.gradient[i] += progress.part[i]
        at += rows
        if at == end:
            finish_minibatch(network, loss, steps, progress, end - first)
    return at


@jit
def all_finite_in(x):
    """Whether a flat array has neither NaN nor infinity."""
    bad = count_bad(x[0])
    for i in range(x.size):
        bad = add_freely(bad, count_bad(x[i]))
    return bad == 0
