"""Loops over a block around the formulas of a table's entry: plain functions, not yet compiled.

Those of an activation, a loss and an optimiser's step have the signatures of
`engine/native/kernels.h`.  The formulas, the dtype and where to report stand in them as names that
`kernels` binds anew for each entry; how they are compiled is said there.  What holds no formula is
compiled once for all entries: a user waits for every line that is compiled with a function of his.
"""

import numpy as np

from fastbp.engine.contract import MAX_HYPER
from fastbp.engine.numba.addresses import is_null, outcome, store_int, store_real
from fastbp.engine.numba.caching import jit_inside
from fastbp.engine.numba.duals import dual, slope_as, value_as
from fastbp.engine.numba.elementary import add_freely, prefer_whole_vectors, spoilt

# What a kernel of a user's formula writes into its `report`: an exception cannot leave C code.
# After RAISED numbers with one among them for which the formula raised stand in `at`, and how many
# in `report`, so that Python can call it again.
RAISED, NOT_FINITE = 1, 2
N_NOTED = 2**15  # most numbers noted: raw scores or arguments, and as many targets behind them

# Names that `copy_with` binds: the formulas, the dtype, and where to report and to note arguments
# (0: nowhere).
VALUE = DERIVATIVE = PAIR = UPDATE = LOOP = FORMULA = COLUMN = AS_TARGET = None
REAL, LANES, REPORT, AT, N_SLOTS, N_GIVEN = np.float64, 8, 0, 0, 1, 0


# --- the same for all entries ---


@jit_inside
def note(block, first, n, at, report):
    """Copy a block backwards: loops go upwards, so what they had not reached is unchanged."""
    n_noted = min(n, N_NOTED)
    for i in range(n_noted):
        store_real(at + 8 * i, block[first + n - 1 - i])
    store_int(report + 8, n_noted)


@jit_inside
def fill(block, first, n, value):
    """Set n elements."""
    for i in range(first, first + n):
        block[i] = value


@jit_inside
def give_up(noted, values, n, at, report):
    """Note what a formula raised for, if there is a report, and make the values NaN."""
    if report:
        note(noted, 0, n, at, report)
    fill(values, 0, n, np.nan)


@jit_inside
def give_up_column(targets, scores, first, row_loss, n, at, report):
    """As `give_up`, for a loss."""
    if report:
        note(scores, first, n, at, report)
        note(targets, first, n, at + 8 * N_NOTED, report)
    fill(scores, first, n, np.nan)
    fill(row_loss, 0, n, np.nan)


@jit_inside
def class_code(target):
    """Return a target as a whole number."""
    return np.int64(target)


@jit_inside
def number(target):
    """Return a target as it is."""
    return target


# --- around formulas ---


def with_derived_slope(z):
    """f(z) and f'(z), which is carried along with it."""
    return VALUE(dual(z, value_as(1, z)))


def with_given_slope(z):
    """f(z) and f'(z) by the entry's own formula of z."""
    return dual(value_as(VALUE(dual(z, z)), z), value_as(DERIVATIVE(dual(z, z)), z))


def slope_at_activation(a):
    """f'(z) by the entry's own formula of a = f(z)."""
    return value_as(DERIVATIVE(dual(a, a)), a)


def without_hyper(y, s, hyper):
    """Give a formula of a loss only what it takes."""
    return FORMULA(y, s)


def derived_gradient(y, s, hyper):
    """Differentiate loss(y, s) by s, carried along with the loss."""
    return slope_as(VALUE(dual(y, value_as(0, s)), dual(s, value_as(1, s)), hyper), s)


def given_gradient(y, s, hyper):
    """Take the entry's own formula."""
    return value_as(DERIVATIVE(dual(y, y), dual(s, s), hyper), s)


def values_of(a, n):
    """Compute a <- f(a); return whether a finite element became one that is not."""
    prefer_whole_vectors()
    n_spoilt = REAL(0)
    for i in range(n):
        z = a[i]
        y = value_as(VALUE(dual(z, z)), z)
        a[i] = y
        if REPORT:
            n_spoilt = add_freely(n_spoilt, spoilt(y, z))
    return n_spoilt > 0


def values_and_slopes_of(a, slopes, n):
    """Compute slopes <- f'(a) unless it is NULL, then a <- f(a).  Return as `values_of`."""
    if is_null(slopes):
        return LOOP(a, n)
    prefer_whole_vectors()
    n_spoilt = REAL(0)
    for i in range(n):
        z = a[i]
        pair = PAIR(z)
        y = value_as(pair, z)
        slope = slope_as(pair, z)
        a[i] = y
        slopes[i] = slope
        if REPORT:
            n_spoilt = add_freely(n_spoilt, spoilt(y, z) + spoilt(slope, z))
    return n_spoilt > 0


def values_without_slopes(a, slopes, n):
    """Compute a <- f(a) where f' is a formula of f(z)."""
    return LOOP(a, n)


def times_slopes(delta, at, n):
    """Compute delta <- delta * f'; `at` is f(z).  Return as `values_of`."""
    prefer_whole_vectors()
    n_spoilt = REAL(0)
    for i in range(n):
        slope = DERIVATIVE(at[i])
        delta[i] *= slope
        if REPORT:
            n_spoilt = add_freely(n_spoilt, spoilt(slope, at[i]))
    return n_spoilt > 0


def loss_column(y, s, at, weights, scale, row_loss, n, hyper):
    """Add loss(y, s) to row_loss; s <- weights * scale * gradient.  Return as `values_of`."""
    prefer_whole_vectors()
    n_spoilt = REAL(0)
    for i in range(n):
        target, raw = y[at + i], s[at + i]
        loss = value_as(VALUE(dual(target, target), dual(raw, raw), hyper), raw)
        gradient = DERIVATIVE(target, raw, hyper)
        s[at + i] = gradient * (weights[i] * scale)
        row_loss[i] += loss
        if REPORT:
            n_spoilt = add_freely(n_spoilt, spoilt(loss, raw) + spoilt(gradient, raw))
    return n_spoilt > 0


def forward(a, slopes, n):
    """fb_activation.forward: slopes <- f'(a) unless it is NULL, a <- f(a)."""
    found = outcome(LOOP, (a, slopes, n))
    if found < 0:
        give_up(a, a, n, AT, REPORT)
    if REPORT and found:
        store_int(REPORT, RAISED if found < 0 else NOT_FINITE)


def slope(delta, at, n):
    """fb_activation.slope where f' is a formula of f(z): delta <- delta * f'."""
    found = outcome(LOOP, (delta, at, n))
    if found < 0:
        give_up(at, delta, n, AT, REPORT)
    if REPORT and found:
        store_int(REPORT, RAISED if found < 0 else NOT_FINITE)


def kept_slope(delta, slopes, n):
    """fb_activation.slope where `forward` kept f', and reported what is wrong with it."""
    prefer_whole_vectors()
    for i in range(n):
        delta[i] *= slopes[i]


def column_or_failure(y, s, at, weights, scale, row_loss, n, hyper):
    """`loss_column` of one output; return what to report of it, or 0."""
    found = outcome(LOOP, (y, s, at, weights, REAL(scale), row_loss, n, hyper))
    if found < 0:
        give_up_column(y, s, at, row_loss, n, AT, REPORT)
        return RAISED
    return NOT_FINITE if found else 0


def loss(targets, scores, weights, scale, row_loss, capacity, rows, n_outputs, hyper):
    """fb_loss.loss, elementwise: see native/losses.h; deltas beyond the last row become 0."""
    fill(row_loss, 0, rows, 0.0)
    padded, failure = min(capacity, (rows + LANES - 1) // LANES * LANES), 0
    for n in range(n_outputs):
        at = n * capacity
        found = COLUMN(targets, scores, at, weights, scale, row_loss, rows, hyper)
        fill(scores, at + rows, padded - rows, 0.0)
        failure = found if found else failure
    if REPORT and failure:
        store_int(REPORT, failure)


def row_value_without_hyper(y, raw, hyper):
    """Give a formula of rows only what it takes."""
    return FORMULA(y, raw)


def row_gradient_without_hyper(y, raw, hyper, out):
    """Give a formula of rows only what it takes."""
    FORMULA(y, raw, out)


def loss_and_gradient_of_row(target, raw, hyper, row_loss, i, gradient):
    """row_loss[i] <- loss(target, raw), and its gradient.  Return as `values_of`: nothing looks."""
    row_loss[i] = VALUE(target, raw, hyper)
    DERIVATIVE(target, raw, hyper, gradient)
    return False


def loss_of_rows(targets, scores, weights, scale, row_loss, capacity, rows, n_outputs, hyper):
    """fb_loss.loss of a loss that sees one target and all raw scores of a row."""
    raw, gradient = np.empty(n_outputs, REAL), np.empty(n_outputs, REAL)
    padded, failure = min(capacity, (rows + LANES - 1) // LANES * LANES), 0
    for i in range(rows):
        for n in range(n_outputs):
            raw[n] = scores[n * capacity + i]
        target, factor = AS_TARGET(targets[i]), weights[i] * REAL(scale)
        if outcome(LOOP, (target, raw, hyper, row_loss, i, gradient)) < 0:
            failure = RAISED
            row_loss[i] = np.nan
            give_up(raw, gradient, n_outputs, AT, REPORT)
            if REPORT:
                note(targets, i, 1, AT + 8 * N_NOTED, REPORT)
                store_int(REPORT + 8, n_outputs)
        for n in range(n_outputs):
            scores[n * capacity + i] = gradient[n] * factor
    for n in range(n_outputs):
        fill(scores, n * capacity + rows, padded - rows, 0.0)
    if REPORT and failure:
        store_int(REPORT, failure)


def prepare(hyper, learning_rate, t, h):
    """fb_optimizer.prepare: h = hyper-parameters, learning rate, t."""
    for i in range(MAX_HYPER):
        h[i] = hyper[i]
    h[MAX_HYPER], h[MAX_HYPER + 1] = learning_rate, t


def update(w, g, s0, s1, n, l2, h):
    """fb_optimizer.update: one step along g + l2 w; returns the sum of the old w^2."""
    prefer_whole_vectors()
    hyper = (h[0], h[1], h[2], h[3], h[4], h[5])[:N_GIVEN]
    learning_rate, t, penalty = h[MAX_HYPER], h[MAX_HYPER + 1], REAL(l2)
    squares = REAL(0)
    for i in range(n):
        old = w[i]
        gradient = g[i] + penalty * old
        slots = (dual(s0[i], old), dual(s1[i] if N_SLOTS > 1 else old, old))[:N_SLOTS]
        new, slots = UPDATE(dual(old, old), dual(gradient, old), slots, learning_rate, t, hyper)
        if N_SLOTS > 0:
            s0[i] = value_as(slots[0], old)
        if N_SLOTS > 1:
            s1[i] = value_as(slots[1], old)
        w[i] = value_as(new, old)
        squares = add_freely(squares, old * old)
    return np.float64(squares)
