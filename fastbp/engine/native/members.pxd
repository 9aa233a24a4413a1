# One minibatch of a network of members (TabM-mini: Gorishniy et al. 2024, arXiv 2410.24210): they
# share the hidden layers; each has multipliers of the inputs and an output layer of its own.
#
# A member is an ordinary network whose first layer has the weights W_m = diag(r_m) W. So one after
# the other goes through the two phases of an ordinary step, over the same gathered rows and the
# same buffers. Gradients of what is shared go on where those of the member before ended, as from
# block to block. A unit of the first layer is whole rows of W, with the multipliers of these
# inputs: its owner finds both gradients and, between phases, W_m of the next member, and needs
# nobody for it. All units step after the last member, so that a step can be given up until then.
#
# Over CSR W_m is summed along runs of inputs (see members.h), so the first layer is a single unit.
#
# Which layers are a member's is known by where `net.layers` points: each worker has a plan of its
# own for it, and no barrier is needed to turn it. A step of members is never divided by columns
# (the first layer's units are rows) nor by chunks (two of them would need U and the gradients of
# the multipliers twice).
from libc.stdint cimport int64_t, uint64_t

from fastbp.engine.native.division cimport Share, chunk_of, owner, part_of
from fastbp.engine.native.kernels cimport fb_kernels
from fastbp.engine.native.minibatch cimport (begin_step, meet, must_stop, sum_of_weights,
                                             weighted_row_losses)
from fastbp.engine.native.plan cimport DOUBLES_PER_LINE, Layer, Plan, Unit, element, panel_row
from fastbp.engine.native.rounding cimport round_weights, rounded_gradient
from fastbp.engine.native.rows cimport pass_over_rows
from fastbp.engine.native.units cimport (finish_unit, own_rows, scales_of, unit_gradient,
                                         update_within_norm)


cdef enum:
    STRIP_PANELS = 3             # the width of a weight gradient's tile


cdef inline void write_rows(Plan *f, const char *packed, int member, int64_t k0,
                            int64_t n_k) noexcept nogil:
    """W_m of rows k0.. of the first layer of these parameters; all of them over CSR. (It lies as
    W, which is the first of all.)"""
    cdef Layer *layer = &f.net.layers[0]
    cdef int64_t at = f.net.scales_at + member * layer.in_panels * f.net.lanes + k0
    cdef int64_t first = k0 * layer.w_row
    if layer.sparse:
        f.net.kernels.run_rows(packed, layer.w_row, element(f, packed, at), f.buf.continues, NULL,
                               f.buf.scaled, layer.n_in, layer.w_row)
    else:
        f.net.kernels.scale_rows(element(f, packed, first), layer.w_row, layer.w_panel,
                                 element(f, packed, at), element(f, f.buf.scaled, first), n_k,
                                 layer.out_panels)
    if layer.rounded:
        round_weights(f, layer, k0, n_k, 0, layer.out_panels)


cdef inline void write_first_layer(Plan *f, const char *packed, int member) noexcept nogil:
    """W_m of the whole first layer, on one thread."""
    write_rows(f, packed, member, 0, f.net.n_features)


cdef inline void write_own_rows(Plan *f, int worker, int n_workers, int member) noexcept nogil:
    """W_m of the first layer's units of this worker."""
    cdef int i
    cdef Unit *u
    for i in range(f.net.n_shared):
        u = &f.net.units[i]
        if u.l == 0 and owner(u, n_workers) == worker:
            write_rows(f, f.buf.w, member, u.k0, u.n_k)


cdef inline void begin_members(Plan *f, int worker, int n_workers) noexcept nogil:
    """Before the first step of an epoch: the first member's W_m, which every step leaves behind."""
    write_own_rows(f, worker, n_workers, 0)
    meet(f, worker, n_workers, False)


cdef inline void first_layer_gradient(Plan *f, Unit *u, int member, int64_t rows, bint later_block,
                                      char *scratch) noexcept nogil:
    """What a block gives to a unit of the first layer: U = A^T delta, the gradient of W_m, and from
    it those of W and r_m. Over CSR U is there already."""
    cdef const fb_kernels *k = f.net.kernels
    cdef Layer *layer = u.layer
    cdef const char *a = element(f, f.buf.a0, u.k0 * f.net.capacity)
    cdef int64_t p = 0
    cdef bint accumulate = later_block or member > 0
    if u.n_biases > 0:
        k.weight_gradient(a, f.net.panel, layer.delta, f.net.panel, scratch, 0,
                          element(f, f.buf.g, u.bias_at), rows, 0, layer.out_panels, accumulate)
    if layer.sparse:
        k.run_gradient(f.buf.w, layer.w_row, element(f, f.buf.w, scales_of(u, member)),
                       f.buf.continues, f.buf.sparse_u, f.buf.g,
                       element(f, f.buf.g, scales_of(u, member)), u.n_k, layer.out_panels,
                       accumulate, later_block)
        return
    if layer.rounded:
        rounded_gradient(f, u, Share(0, rows), scratch, u.n, False)
        p = layer.out_panels
    while p < layer.out_panels:
        k.weight_gradient(a, f.net.panel, panel_row(f, layer.delta, p, 0), f.net.panel,
                          element(f, scratch, p * u.n), u.n, NULL, rows, u.n_k,
                          min(STRIP_PANELS, layer.out_panels - p), False)
        p += STRIP_PANELS
    k.member_gradient(element(f, f.buf.w, u.at), layer.w_row, layer.w_panel,
                      element(f, f.buf.w, scales_of(u, member)), scratch, u.n,
                      element(f, f.buf.g, u.at), element(f, f.buf.g, scales_of(u, member)), u.n_k,
                      layer.out_panels, accumulate, later_block)


cdef inline void find_sparse_u(Plan *f, int worker, int n_workers, int64_t first,
                               int64_t rows) noexcept nogil:
    """U of this worker's rows of W over CSR; it was 0."""
    cdef int64_t k0, k1
    cdef Layer *layer = &f.net.layers[0]
    if own_rows(f, worker, n_workers, &k0, &k1):
        f.net.kernels.sparse_gradient(&f.call.csr, f.call.order, first, rows, layer.delta,
                                      f.net.panel, f.buf.sparse_u, layer.w_row, layer.out_panels,
                                      k0, k1)


cdef inline void pass_over_gradients(Plan *f, int worker, int n_workers, int member, int64_t first,
                                     int64_t rows, bint later_block) noexcept nogil:
    """Second phase: what a member's rows of a block give to this worker's units."""
    cdef int i, own = f.net.n_shared + member * f.net.n_output_units
    cdef Unit *u
    cdef char *scratch = f.buf.scratch + worker * f.buf.scratch_size
    if f.net.layers[0].sparse:
        find_sparse_u(f, worker, n_workers, first, rows)
    for i in range(f.net.n_shared):
        u = &f.net.units[i]
        if owner(u, n_workers) == worker:
            if u.l == 0:
                first_layer_gradient(f, u, member, rows, later_block, scratch)
            else:
                unit_gradient(f, u, chunk_of(f, 0, rows), later_block or member > 0, f.buf.g, NULL)
    for i in range(own, own + f.net.n_output_units):
        u = &f.net.units[i]
        if owner(u, n_workers) == worker:
            unit_gradient(f, u, chunk_of(f, 0, rows), later_block, f.buf.g, NULL)


cdef inline void update_members(Plan *f, int worker, int n_workers, double l2) noexcept nogil:
    """All gradients of this worker's units are complete: step along them."""
    cdef int i
    for i in range(f.net.n_units):
        if owner(&f.net.units[i], n_workers) == worker:
            finish_unit(f, i, l2, NULL)
    if f.opt.max_norm > 0:
        meet(f, worker, n_workers, False)
        update_within_norm(f, worker, n_workers, l2)


cdef inline bint minibatch_of_members(Plan *f, int worker, int n_workers, int64_t first,
                                      int64_t rows, uint64_t float_state) noexcept nogil:
    """`minibatch`, where every member works off the rows: the loss is the mean of theirs."""
    cdef double total = sum_of_weights(f, first, rows), scale, data_loss = 0, penalty = 0, mean
    cdef int64_t start = first, n
    cdef int i, m, last = f.net.n_members - 1
    cdef bint later_block, last_block
    if not total > 0:
        return False
    scale = 1 / total
    if worker == 0 and f.call.update:
        begin_step(f)
    while start < first + rows:
        n = min(f.net.block_rows, first + rows - start)
        later_block, last_block = start > first, start + n == first + rows
        for m in range(f.net.n_members):
            f.net.layers = f.net.all_layers + m * f.net.n_layers
            pass_over_rows(f, part_of(f, chunk_of(f, 0, n), worker, n_workers), start,
                           scale / f.net.n_members, 0, m > 0)
            if meet(f, worker, n_workers, worker == 0 and must_stop(f, float_state)):
                if worker == 0 and f.call.update:
                    f.now.t -= 1
                return True
            pass_over_gradients(f, worker, n_workers, m, start, n, later_block)
            if last_block and m == last and f.call.update:
                update_members(f, worker, n_workers, f.call.alpha * scale)
            write_own_rows(f, worker, n_workers, 0 if m == last else m + 1)
            if worker == 0:
                data_loss += weighted_row_losses(f, chunk_of(f, 0, n))
            meet(f, worker, n_workers, False)
        start += n
    if worker == 0:
        if f.call.update:
            for i in range(f.net.n_units):
                penalty += f.buf.squares[i * DOUBLES_PER_LINE]
        mean = data_loss * f.net.loss_factor / f.net.n_members + 0.5 * f.call.alpha * penalty
        f.now.epoch_loss += mean * scale * <double>rows
    return False
