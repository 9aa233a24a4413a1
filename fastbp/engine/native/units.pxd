# The second phase of a step: a thread owns some units, fixed pieces of the layers' weights, and
# takes each from its gradient to its update. A unit's gradient is one sum over all rows (or one for
# each of two chunks), whoever owns it.
from libc.stdint cimport int64_t
from libc.math cimport sqrt

from fastbp.engine.native.division cimport Share, chunk_of, owner
from fastbp.engine.native.plan cimport (DOUBLES_PER_LINE, Layer, Plan, Unit, element, input_of,
                                        panel_row, unlikely)
from fastbp.engine.native.rounding cimport round_weights, rounded_gradient


cdef struct Runs:
    char *at
    int64_t stride               # in elements


cdef inline Runs runs_of(Plan *f, Unit *u, char *g, char *scratch) noexcept nogil:
    """Where the unit's weight gradient goes: scratch that stays in the first-level cache when its
    update follows at once, else its place in the whole gradient g (a sparse layer's always)."""
    if scratch == NULL or u.layer.sparse:
        return Runs(element(f, g, u.at), u.stride)
    return Runs(scratch, u.n)


cdef inline char *second_half(Plan *f, char *scratch) noexcept nogil:
    """Where the second chunk's gradient goes in a worker's scratch, if that is used."""
    return NULL if scratch == NULL else scratch + f.buf.scratch_size // 2


cdef inline void unit_gradient(Plan *f, Unit *u, Share share, bint accumulate, char *whole,
                               char *scratch) noexcept nogil:
    """grad_W = A^T delta and grad_b = sum of delta over some rows, for one unit."""
    cdef Layer *layer = u.layer
    cdef const char *a = panel_row(f, input_of(f, u.l), 0, share.r0)
    cdef Runs g = runs_of(f, u, whole, scratch)
    cdef char *g_bias = element(f, whole, u.bias_at) if u.n_biases > 0 else NULL
    if layer.narrow:
        f.net.kernels.narrow_gradient(element(f, f.buf.delta_out, share.r0), f.net.capacity,
                                      panel_row(f, a, u.p0, 0), f.net.panel, g.at, g_bias,
                                      share.rows, layer.n_out, u.n_panels, accumulate)
        return
    if unlikely(layer.rounded):
        rounded_gradient(f, u, share, g.at, g.stride, accumulate)
    if not layer.rounded or g_bias != NULL:      # k0 is a multiple of P: k0 / P panels
        f.net.kernels.weight_gradient(element(f, a, u.k0 * f.net.capacity), f.net.panel,
                                      panel_row(f, layer.delta, u.p0, share.r0), f.net.panel, g.at,
                                      g.stride, g_bias, share.rows,
                                      0 if layer.sparse or layer.rounded else u.n_k, u.n_panels,
                                      accumulate)


cdef inline void add_second_chunk(Plan *f, Unit *u, char *scratch) noexcept nogil:
    """g += g1 for one unit."""
    cdef int64_t i
    cdef Runs g = runs_of(f, u, f.buf.g, scratch)
    cdef Runs g1 = runs_of(f, u, f.buf.g1, second_half(f, scratch))
    for i in range(u.count):
        f.net.kernels.add(element(f, g.at, i * g.stride), element(f, g1.at, i * g1.stride), u.n)
    if u.n_biases > 0:
        f.net.kernels.add(element(f, f.buf.g, u.bias_at), element(f, f.buf.g1, u.bias_at),
                          u.n_biases)


cdef inline void unit_gradients(Plan *f, Unit *u, int64_t rows, bint accumulate, bint last_block,
                                char *scratch) noexcept nogil:
    """The unit's gradient of a block, chunk by chunk where there are chunks."""
    cdef Share second
    unit_gradient(f, u, chunk_of(f, 0, rows), accumulate, f.buf.g, scratch)
    if not f.net.by_chunks:
        return
    second = chunk_of(f, 1, rows)
    if second.rows > 0:
        unit_gradient(f, u, second, accumulate, f.buf.g1, second_half(f, scratch))
    if last_block and (second.rows > 0 or accumulate):
        add_second_chunk(f, u, scratch)


cdef inline int64_t scales_of(Unit *u, int64_t member) noexcept nogil:
    """Place of a member's multipliers of the unit's inputs in the packed vector."""
    return u.scales_at + member * u.scale_stride


cdef inline double update_range(Plan *f, int64_t i, const char *g, int64_t n, double l2,
                                const double *h) noexcept nogil:
    """Step n parameters from element i of the packed vector along g."""
    cdef char *second = NULL if f.buf.slots[1] == NULL else element(f, f.buf.slots[1], i)
    cdef double squares = f.opt.loops.update(element(f, f.buf.w, i), g,
                                             element(f, f.buf.slots[0], i), second, n, l2, h)
    if unlikely(f.buf.average != NULL):
        f.net.kernels.average(element(f, f.buf.average, i), element(f, f.buf.w, i), n,
                              f.now.average_share)
    return squares


cdef inline void transpose_panel(Plan *f, Layer *layer, int64_t p, int64_t k0,
                                 int64_t n_k) noexcept nogil:
    """W^T of rows k0.. of panel p of W; k0 is a multiple of P."""
    cdef int64_t k = k0, P = f.net.lanes
    while k < k0 + n_k:
        f.net.kernels.transpose_block(element(f, layer.w, p * layer.w_panel + k * P),
                                      min(P, layer.n_in - k),
                                      element(f, layer.wt, (k * layer.out_panels + p * P) * P))
        k += P


cdef inline void unit_update(Plan *f, int index, double l2, char *scratch) noexcept nogil:
    """One optimiser step for the unit's weights, biases and multipliers of inputs; refreshes its
    part of W^T. Penalty and weight decay act on weights alone."""
    cdef Unit *u = &f.net.units[index]
    cdef Layer *layer = u.layer
    cdef const double *bias_h = &f.now.h[0] if f.opt.decay < 0 else &f.now.bias_h[0]
    cdef int64_t i
    cdef Runs g = runs_of(f, u, f.buf.g, scratch)
    cdef double squares = 0
    for i in range(u.count):
        squares += update_range(f, u.at + i * u.stride, element(f, g.at, i * g.stride), u.n, l2,
                                f.now.h)
        if layer.wt != NULL:
            transpose_panel(f, layer, u.p0 + i, u.k0, u.n_k)
    if unlikely(layer.rounded) and u.n_members == 0:
        round_weights(f, layer, u.k0, u.n_k, u.p0, u.n_panels)
    if u.n_biases > 0:
        update_range(f, u.bias_at, element(f, f.buf.g, u.bias_at), u.n_biases, 0, bias_h)
    for i in range(u.n_members):
        update_range(f, scales_of(u, i), element(f, f.buf.g, scales_of(u, i)), u.n_scales, 0,
                     bias_h)
    f.buf.squares[index * DOUBLES_PER_LINE] = squares


cdef inline double squares_at(Plan *f, int64_t i, int64_t n, double l2) noexcept nogil:
    """Sum of the squares of n elements of the gradient, penalty included."""
    return f.net.kernels.gradient_squares(element(f, f.buf.w, i), element(f, f.buf.g, i), n, l2)


cdef inline double squares_of_gradient(Plan *f, Unit *u, double l2) noexcept nogil:
    """Sum of the squares of a unit's whole gradient, penalty included."""
    cdef int64_t i
    cdef double total = 0
    for i in range(u.count):
        total += squares_at(f, u.at + i * u.stride, u.n, l2)
    total += squares_at(f, u.bias_at, u.n_biases, 0)
    for i in range(u.n_members):
        total += squares_at(f, scales_of(u, i), u.n_scales, 0)
    return total


cdef inline void shrink_gradient(Plan *f, Unit *u, double factor) noexcept nogil:
    """Multiply a unit's whole gradient, without the penalty, by a factor."""
    cdef int64_t i
    for i in range(u.count):
        f.net.kernels.shrink(element(f, f.buf.g, u.at + i * u.stride), u.n, factor)
    f.net.kernels.shrink(element(f, f.buf.g, u.bias_at), u.n_biases, factor)
    for i in range(u.n_members):
        f.net.kernels.shrink(element(f, f.buf.g, scales_of(u, i)), u.n_scales, factor)


cdef inline void finish_unit(Plan *f, int index, double l2, char *scratch) noexcept nogil:
    """The unit's gradient is complete: step along it, or measure it where it may be too long."""
    if unlikely(f.opt.max_norm > 0):
        f.buf.gradient_squares[index * DOUBLES_PER_LINE] = squares_of_gradient(
            f, &f.net.units[index], l2)
    else:
        unit_update(f, index, l2, scratch)


cdef inline void update_within_norm(Plan *f, int worker, int n_workers, double l2) noexcept nogil:
    """Step this worker's units along a gradient no longer than max_norm. Every worker adds the
    same squares in the same order."""
    cdef double total = 0, factor = 1
    cdef int i
    for i in range(f.net.n_units):
        total += f.buf.gradient_squares[i * DOUBLES_PER_LINE]
    if total > f.opt.max_norm * f.opt.max_norm:
        factor = f.opt.max_norm / sqrt(total)
    for i in range(f.net.n_units):
        if owner(&f.net.units[i], n_workers) == worker:
            if factor < 1:
                shrink_gradient(f, &f.net.units[i], factor)
            unit_update(f, i, l2 * factor, NULL)


cdef inline bint own_rows(Plan *f, int worker, int n_workers, int64_t *k0,
                          int64_t *k1) noexcept nogil:
    """Rows k0 to k1 of a sparse first layer's weights that this worker updates; whether any."""
    cdef int i
    cdef Unit *u
    k0[0] = k1[0] = -1
    for i in range(f.net.n_units):
        u = &f.net.units[i]
        if u.l == 0 and owner(u, n_workers) == worker:
            k0[0] = u.k0 if k0[0] < 0 else k0[0]
            k1[0] = u.k0 + u.n_k
    return k1[0] > 0


cdef inline void clear_sparse_gradient(Plan *f, int worker, int n_workers, int64_t first,
                                       int64_t rows, char *g) noexcept nogil:
    """Zero again what rows from `first` on wrote into the first layer's gradient g."""
    cdef int64_t k0, k1
    cdef Layer *layer = &f.net.layers[0]
    if own_rows(f, worker, n_workers, &k0, &k1):
        f.net.kernels.sparse_clear(&f.call.csr, f.call.order, first, rows,
                                   element(f, g, layer.weight_at), layer.w_row, layer.out_panels,
                                   k0, k1)


cdef inline void pass_over_units(Plan *f, int worker, int n_workers, int64_t first, int64_t rows,
                                 int64_t batch_first, bint last_block, double l2) noexcept nogil:
    """Second phase: this worker's weight gradients and, after the last block, their updates (under
    a limit of the norm, what is needed for them)."""
    cdef int i
    cdef Unit *u
    cdef int64_t k0, k1
    cdef bint accumulate = first > batch_first
    cdef char *scratch = NULL
    cdef Layer *layer = &f.net.layers[0]
    if unlikely(layer.sparse) and own_rows(f, worker, n_workers, &k0, &k1):
        f.net.kernels.sparse_gradient(&f.call.csr, f.call.order, first, rows, layer.delta,
                                      f.net.panel, element(f, f.buf.g, layer.weight_at),
                                      layer.w_row, layer.out_panels, k0, k1)
    if f.call.update and last_block and not accumulate and not f.opt.max_norm > 0:
        scratch = f.buf.scratch + worker * f.buf.scratch_size
    for i in range(f.net.n_units):
        u = &f.net.units[i]
        if owner(u, n_workers) == worker:
            unit_gradients(f, u, rows, accumulate, last_block, scratch)
            if last_block and f.call.update:
                finish_unit(f, i, l2, scratch)


cdef inline void pass_over_chunk(Plan *f, int worker, int64_t rows, bint accumulate) noexcept nogil:
    """Gradients of one of two workers' own rows, for all units."""
    cdef Share share = chunk_of(f, worker, rows)
    cdef int i
    if share.rows > 0:
        for i in range(f.net.n_units):
            unit_gradient(f, &f.net.units[i], share, accumulate,
                          f.buf.g if worker == 0 else f.buf.g1, NULL)


cdef inline void join_chunks(Plan *f, int worker, int64_t rows, bint accumulate,
                             double l2) noexcept nogil:
    """Add the two workers' gradients of this worker's units, and update these."""
    cdef bint two = accumulate or chunk_of(f, 1, rows).rows > 0
    cdef int i
    for i in range(f.net.n_units):
        if owner(&f.net.units[i], 2) == worker:
            if two:
                add_second_chunk(f, &f.net.units[i], NULL)
            if f.call.update:
                finish_unit(f, i, l2, NULL)
