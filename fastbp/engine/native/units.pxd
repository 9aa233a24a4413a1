# The second phase of a step: a thread owns some units, fixed tiles of the layers' weights, and
# takes each from its gradient to its update. A unit's gradient is one sum over all rows (or one for
# each of two chunks), whoever owns it.
from libc.stdint cimport int64_t
from libc.math cimport sqrt

from fastbp.engine.native.division cimport Share, chunk_of, owner
from fastbp.engine.native.plan cimport DOUBLES_PER_LINE, Layer, Plan, Unit, input_of


cdef struct Runs:
    char *at
    int64_t stride               # in elements


cdef inline Runs runs_of(Plan *f, Unit *u, char *g, char *scratch) noexcept nogil:
    """Where the unit's weight gradient goes: scratch that stays in the first-level cache when its
    update follows at once, else its place in the whole gradient g (a sparse layer's always)."""
    if scratch == NULL or f.layers[u.layer].sparse:
        return Runs(g + u.at * f.itemsize, u.stride)
    return Runs(scratch, u.n)


cdef inline void unit_gradient(Plan *f, Unit *u, Share share, bint accumulate, char *whole,
                               char *scratch) noexcept nogil:
    """grad_W = A^T delta and grad_b = sum of delta over some rows, for one unit."""
    cdef Layer *layer = &f.layers[u.layer]
    cdef int64_t size = f.itemsize, at = share.r0 * f.lanes * size
    cdef const char *a = input_of(f, u.layer) + at
    cdef Runs g = runs_of(f, u, whole, scratch)
    cdef char *g_bias = whole + u.bias_at * size if u.n_biases > 0 else NULL
    if layer.narrow:
        f.kernels.narrow_gradient(f.scores + share.r0 * size, f.capacity,
                                  a + u.p0 * f.panel * size, f.panel, g.at, g_bias, share.rows,
                                  layer.n_out, u.n_panels, accumulate)
    else:                        # a panel of a: capacity * lanes
        f.kernels.weight_gradient(a + u.k0 * f.capacity * size, f.panel,
                                  layer.delta + u.p0 * f.panel * size + at, f.panel, g.at,
                                  g.stride, g_bias, share.rows,
                                  0 if layer.sparse else u.n_k, u.n_panels, accumulate)


cdef inline void add_second_chunk(Plan *f, Unit *u, char *scratch) noexcept nogil:
    """g += g1 for one unit."""
    cdef int64_t i, size = f.itemsize, biases = u.bias_at * size
    cdef Runs g = runs_of(f, u, f.g, scratch)
    cdef Runs g1 = runs_of(f, u, f.g1, NULL if scratch == NULL else scratch + f.scratch_size // 2)
    for i in range(u.count):
        f.kernels.add(g.at + i * g.stride * size, g1.at + i * g1.stride * size, u.n)
    if u.n_biases > 0:
        f.kernels.add(f.g + biases, f.g1 + biases, u.n_biases)


cdef inline void unit_gradients(Plan *f, Unit *u, int64_t rows, bint accumulate, bint last_block,
                                char *scratch) noexcept nogil:
    """The unit's gradient of a block, chunk by chunk where there are chunks."""
    cdef Share second
    unit_gradient(f, u, chunk_of(f, 0, rows), accumulate, f.g, scratch)
    if not f.by_chunks:
        return
    second = chunk_of(f, 1, rows)
    if second.rows > 0:
        unit_gradient(f, u, second, accumulate, f.g1,
                      NULL if scratch == NULL else scratch + f.scratch_size // 2)
    if last_block and (second.rows > 0 or accumulate):
        add_second_chunk(f, u, scratch)


cdef inline double update_range(Plan *f, int64_t at, const char *g, int64_t n, double l2,
                                const double *h) noexcept nogil:
    """Step n parameters from place `at` of the packed vector along g."""
    cdef int64_t byte = at * f.itemsize
    cdef double squares = f.optimizer.update(
        f.w + byte, g, f.slots[0] + byte, NULL if f.slots[1] == NULL else f.slots[1] + byte, n, l2,
        h)
    if f.average != NULL:
        f.kernels.average(f.average + byte, f.w + byte, n, f.average_share)
    return squares


cdef inline void transpose_panel(Plan *f, Layer *layer, int64_t p, int64_t k0,
                                 int64_t n_k) noexcept nogil:
    """W^T of rows k0.. of panel p of W; k0 is a multiple of P."""
    cdef int64_t k = k0, P = f.lanes
    while k < k0 + n_k:
        f.kernels.transpose_block(layer.w + (p * layer.w_panel + k * P) * f.itemsize,
                                  min(P, layer.n_in - k),
                                  layer.wt + (k * layer.out_panels + p * P) * P * f.itemsize)
        k += P


cdef inline void unit_update(Plan *f, int index, double l2, char *scratch) noexcept nogil:
    """One optimiser step for the unit's weights and biases; refreshes its part of W^T. Neither
    penalty nor weight decay acts on biases."""
    cdef Unit *u = &f.units[index]
    cdef Layer *layer = &f.layers[u.layer]
    cdef int64_t i
    cdef Runs g = runs_of(f, u, f.g, scratch)
    cdef double squares = 0
    for i in range(u.count):
        squares += update_range(f, u.at + i * u.stride, g.at + i * g.stride * f.itemsize, u.n, l2,
                                f.h)
        if layer.wt != NULL:
            transpose_panel(f, layer, u.p0 + i, u.k0, u.n_k)
    if u.n_biases > 0:
        update_range(f, u.bias_at, f.g + u.bias_at * f.itemsize, u.n_biases, 0,
                     &f.h[0] if f.decay < 0 else &f.bias_h[0])
    f.squares[index * DOUBLES_PER_LINE] = squares


cdef inline double squares_of_gradient(Plan *f, Unit *u, double l2) noexcept nogil:
    """Sum of the squares of a unit's whole gradient, penalty included."""
    cdef int64_t i, byte
    cdef double total = 0
    for i in range(u.count):
        byte = (u.at + i * u.stride) * f.itemsize
        total += f.kernels.gradient_squares(f.w + byte, f.g + byte, u.n, l2)
    byte = u.bias_at * f.itemsize
    return total + f.kernels.gradient_squares(f.w + byte, f.g + byte, u.n_biases, 0)


cdef inline void shrink_gradient(Plan *f, Unit *u, double factor) noexcept nogil:
    """Multiply a unit's whole gradient, without the penalty, by a factor."""
    cdef int64_t i
    for i in range(u.count):
        f.kernels.shrink(f.g + (u.at + i * u.stride) * f.itemsize, u.n, factor)
    f.kernels.shrink(f.g + u.bias_at * f.itemsize, u.n_biases, factor)


cdef inline void finish_unit(Plan *f, int index, double l2, char *scratch) noexcept nogil:
    """The unit's gradient is complete: step along it, or measure it where it may be too long."""
    if f.max_norm > 0:
        f.gradient_squares[index * DOUBLES_PER_LINE] = squares_of_gradient(f, &f.units[index], l2)
    else:
        unit_update(f, index, l2, scratch)


cdef inline void update_within_norm(Plan *f, int member, int n_members, double l2) noexcept nogil:
    """Step this member's units along a gradient no longer than max_norm. Every member adds the
    same squares in the same order."""
    cdef double total = 0, factor = 1
    cdef int i
    for i in range(f.n_units):
        total += f.gradient_squares[i * DOUBLES_PER_LINE]
    if total > f.max_norm * f.max_norm:
        factor = f.max_norm / sqrt(total)
    for i in range(f.n_units):
        if owner(&f.units[i], n_members) == member:
            if factor < 1:
                shrink_gradient(f, &f.units[i], factor)
            unit_update(f, i, l2 * factor, NULL)


cdef inline bint own_rows(Plan *f, int member, int n_members, int64_t *k0,
                          int64_t *k1) noexcept nogil:
    """Rows k0 to k1 of a sparse first layer's weights that this member updates; whether any."""
    cdef int i
    cdef Unit *u
    k0[0] = k1[0] = -1
    for i in range(f.n_units):
        u = &f.units[i]
        if u.layer == 0 and owner(u, n_members) == member:
            k0[0] = u.k0 if k0[0] < 0 else k0[0]
            k1[0] = u.k0 + u.n_k
    return k1[0] > 0


cdef inline void clear_sparse_gradient(Plan *f, int member, int n_members, int64_t batch_first,
                                       int64_t rows) noexcept nogil:
    """Zero again what a minibatch wrote into the first layer's gradient."""
    cdef int64_t k0, k1
    cdef Layer *layer = &f.layers[0]
    if own_rows(f, member, n_members, &k0, &k1):
        f.kernels.sparse_clear(&f.csr, f.order, batch_first, rows,
                               f.g + layer.weight_at * f.itemsize, layer.w_row, layer.out_panels,
                               k0, k1)


cdef inline void pass_over_units(Plan *f, int member, int n_members, int64_t first, int64_t rows,
                                 int64_t batch_first, bint last_block, double l2) noexcept nogil:
    """Second phase: this member's weight gradients and, after the last block, their updates (under
    a limit of the norm, what is needed for them)."""
    cdef int i
    cdef Unit *u
    cdef int64_t k0, k1
    cdef bint accumulate = first > batch_first
    cdef char *scratch = NULL
    cdef Layer *layer = &f.layers[0]
    if layer.sparse and own_rows(f, member, n_members, &k0, &k1):
        f.kernels.sparse_gradient(&f.csr, f.order, first, rows, layer.delta, f.panel,
                                  f.g + layer.weight_at * f.itemsize, layer.w_row,
                                  layer.out_panels, k0, k1)
    if f.update and last_block and not accumulate and not f.max_norm > 0:
        scratch = f.scratch + member * f.scratch_size
    for i in range(f.n_units):
        u = &f.units[i]
        if owner(u, n_members) == member:
            unit_gradients(f, u, rows, accumulate, last_block, scratch)
            if last_block and f.update:
                finish_unit(f, i, l2, scratch)


cdef inline void pass_over_chunk(Plan *f, int member, int64_t rows, bint accumulate) noexcept nogil:
    """Gradients of one of two members' own rows, for all units."""
    cdef Share share = chunk_of(f, member, rows)
    cdef int i
    if share.rows > 0:
        for i in range(f.n_units):
            unit_gradient(f, &f.units[i], share, accumulate, f.g if member == 0 else f.g1, NULL)


cdef inline void join_chunks(Plan *f, int member, int64_t rows, bint accumulate,
                             double l2) noexcept nogil:
    """Add the two members' gradients of this member's units, and update these."""
    cdef bint two = accumulate or chunk_of(f, 1, rows).rows > 0
    cdef int i
    for i in range(f.n_units):
        if owner(&f.units[i], 2) == member:
            if two:
                add_second_chunk(f, &f.units[i], NULL)
            if f.update:
                finish_unit(f, i, l2, NULL)
