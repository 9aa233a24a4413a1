# Sums over samples, in an order that neither threads nor dtype change: weights, losses.
from libc.stdint cimport int64_t

from fastbp.engine.native.division cimport Share
from fastbp.engine.native.plan cimport Plan, element
from fastbp.engine.native.rows cimport gather_targets


cdef inline double sum_of_weights(Plan *f, int64_t first, int64_t rows) noexcept nogil:
    """Sum of the sample weights of a minibatch in row order; without weights its rows."""
    cdef double total = 0
    cdef int64_t i, row
    if f.call.sample_weight == NULL:
        return <double>rows
    for i in range(first, first + rows):
        row = i if f.call.order == NULL else f.call.order[i]
        if f.net.itemsize == 4:
            total += (<const float *>f.call.sample_weight)[row]
        else:
            total += (<const double *>f.call.sample_weight)[row]
    return total


cdef inline double weighted_row_losses(Plan *f, Share share) noexcept nogil:
    """sum_i w_i loss_i, eight partial sums in a fixed pattern."""
    cdef double sums[8]
    cdef double total = 0
    cdef double *loss = f.buf.row_loss + share.r0
    cdef int64_t i, j, rows = share.rows, whole = rows // 8
    if f.call.sample_weight != NULL:
        for i in range(rows):
            if f.net.itemsize == 4:
                loss[i] *= (<float *>f.buf.weights)[share.r0 + i]
            else:
                loss[i] *= (<double *>f.buf.weights)[share.r0 + i]
    for i in range(8 * whole, rows):
        total += loss[i]
    if whole == 0:
        return total
    for j in range(8):
        sums[j] = 0
    for i in range(whole):
        for j in range(8):
            sums[j] += loss[8 * i + j]
    for j in range(8):
        total += sums[j]
    return total


cdef inline double sum_losses(Plan *f, const char *scores) noexcept nogil:
    """Weighted sum of the losses of row-major raw scores, in blocks of rows."""
    cdef int64_t first = 0, rows, n = f.net.n_outputs
    cdef double total = 0
    while first < f.call.n_samples:
        rows = min(f.net.block_rows, f.call.n_samples - first)
        f.net.kernels.gather_columns(element(f, scores, first * n), n, NULL, rows, n, f.buf.scores,
                                     f.net.capacity)
        gather_targets(f, first, 0, rows)
        f.net.loss.loss(f.buf.targets, f.buf.scores, f.buf.weights, 0, f.buf.row_loss,
                        f.net.capacity, rows, n, f.net.loss_hyper)
        total += weighted_row_losses(f, Share(0, rows))
        first += rows
    return total * f.net.loss_factor
