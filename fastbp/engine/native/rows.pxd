# The first phase of a step: rows of a minibatch from gathering to the delta of the first layer. A
# row needs nothing of another row, so a thread takes any share of them. Predictions go forward
# through the same functions. No weight is written here.
from libc.stdint cimport int64_t, uint64_t

from fastbp.engine.native.division cimport Share, owner
from fastbp.engine.native.kernels cimport (FB_AS_IT_IS, FB_GATE, FB_IN_PRODUCT, FB_NO_LOOP,
                                           FB_OWN_LOOP, FB_RELU, fb_kernels, fb_mix)
from fastbp.engine.native.plan cimport (Layer, Plan, Unit, element, input_of, order_at,
                                        panel_row, unlikely)
from fastbp.engine.native.rounding cimport (multiply_back_rounded, multiply_rounded, round_delta,
                                            round_input)


cdef inline void gather_rows(Plan *f, int64_t first, int64_t r0, int64_t rows) noexcept nogil:
    """X of rows r0.. of the block into the network's input."""
    cdef const char *x = f.call.x
    cdef int64_t n = f.net.n_features
    if not f.net.layers[0].sparse:
        if f.call.order == NULL:
            x = element(f, x, (first + r0) * n)
        f.net.kernels.gather(x, element(f, f.call.x, f.call.n_rows * n), n,
                             order_at(f, first + r0), rows, n, panel_row(f, f.buf.a0, 0, r0),
                             f.net.panel)
    if unlikely(f.net.layers[0].rounded):
        round_input(f, 0, r0, rows)


cdef inline void gather_targets(Plan *f, int64_t first, int64_t r0, int64_t rows) noexcept nogil:
    """Targets and sample weights of rows r0.. of the block, in columns."""
    cdef int64_t start = first + r0, n = f.net.n_targets
    cdef int64_t skipped = start if f.call.order == NULL else 0
    f.net.kernels.gather_columns(element(f, f.call.y, skipped * n), n, order_at(f, start), rows, n,
                                 element(f, f.buf.targets, r0), f.net.capacity)
    if f.call.sample_weight != NULL:
        f.net.kernels.gather_columns(element(f, f.call.sample_weight, skipped), 1,
                                     order_at(f, start), rows, 1, element(f, f.buf.weights, r0),
                                     f.net.capacity)


cdef inline void drop_units(Plan *f, int l, const char *values, char *out, int64_t first,
                            int64_t r0, int64_t rows, int64_t p0, int64_t p1) noexcept nogil:
    """Leave units of hidden layer l out of panels p0 to p1, by the place of a row in the epoch."""
    cdef Layer *layer = &f.net.layers[l]
    if layer.threshold > 0:
        f.net.kernels.dropout(panel_row(f, values, p0, r0), panel_row(f, out, p0, r0), f.net.panel,
                              rows, p1 - p0, fb_mix(f.now.epoch_key + layer.number), first + r0,
                              p0 * f.net.lanes, layer.threshold, layer.scale)


cdef inline void clear_padding(Plan *f, Layer *layer, char *values, int64_t r0,
                               int64_t rows) noexcept nogil:
    """0 in the lanes of the last panel that are no units: f(0) need not be 0."""
    if layer.n_out % f.net.lanes:
        f.net.kernels.zero_padding(panel_row(f, values, layer.out_panels - 1, r0), rows,
                                   layer.n_out % f.net.lanes)


cdef inline void activate(Plan *f, int l, int64_t r0, int64_t rows, int64_t p0,
                          int64_t p1) noexcept nogil:
    """f(z) of panels p0 to p1 of hidden layer l in the place of z, its slopes where it has any."""
    cdef Layer *layer = &f.net.layers[l]
    cdef char *slopes = layer.slopes if f.call.backward else NULL
    cdef int64_t p
    for p in range(p0, p1):
        if layer.activation.fused != FB_NO_LOOP:
            layer.activation.forward(panel_row(f, layer.a, p, r0),
                                     NULL if slopes == NULL else panel_row(f, slopes, p, r0),
                                     rows * f.net.lanes)
    if p1 == layer.out_panels:
        clear_padding(f, layer, layer.a, r0, rows)


cdef inline void multiply_by_slopes(Plan *f, int l, int64_t r0, int64_t rows) noexcept nogil:
    """delta of hidden layer l: what came back from above times the slope of its activation."""
    cdef Layer *layer = &f.net.layers[l]
    cdef char *slopes = layer.a if layer.slopes == NULL else layer.slopes
    cdef int64_t p
    for p in range(layer.out_panels):
        layer.activation.slope(panel_row(f, layer.delta, p, r0), panel_row(f, slopes, p, r0),
                               rows * f.net.lanes)
    clear_padding(f, layer, layer.delta, r0, rows)


cdef inline void multiply_layer(Plan *f, int l, const char *a, int64_t first, int64_t r0,
                                int64_t rows, int64_t p0, int64_t p1) noexcept nogil:
    """Panels p0 to p1 of layer l, rows r0.. of the block that starts at sample `first` of the
    order: product and bias, and relu; the output layer (always whole) leaves raw scores in
    columns."""
    cdef Layer *layer = &f.net.layers[l]
    cdef const fb_kernels *k = f.net.kernels
    cdef int64_t whole = p1 - p0 - (layer.tail != NULL)
    cdef bint last = l == f.net.n_layers - 1
    cdef bint rectifies = not last and layer.activation.fused == FB_IN_PRODUCT
    cdef int epilogue = FB_RELU if rectifies else FB_AS_IT_IS
    cdef const char *here = panel_row(f, a, 0, r0)
    if layer.narrow:
        k.narrow_product(here, f.net.panel, layer.w, layer.b, element(f, f.buf.scores, r0),
                         f.net.capacity, rows, layer.n_in, layer.n_out)
        return
    if unlikely(layer.sparse):
        k.sparse_product(&f.call.csr, f.call.order, first + r0, rows, layer.w, layer.w_row,
                         element(f, layer.w, layer.weight_size), layer.b,
                         panel_row(f, layer.a, 0, r0), f.net.panel, layer.out_panels)
    elif unlikely(layer.rounded):
        multiply_rounded(f, layer, r0, rows, p0, p1, epilogue)
    else:
        k.product(here, f.net.panel, 0, element(f, layer.w, p0 * layer.w_panel), layer.w_row,
                  layer.w_panel, element(f, layer.b, p0 * f.net.lanes),
                  panel_row(f, layer.a, p0, r0), f.net.panel, NULL, epilogue, rows, layer.n_in,
                  whole)
        if layer.tail != NULL:
            k.product(here, f.net.panel, 0, layer.tail, f.net.lanes, 0,
                      element(f, layer.b, whole * f.net.lanes), panel_row(f, layer.a, whole, r0),
                      f.net.panel, NULL, epilogue, rows, layer.n_in, 1)
    if last:
        k.panels_to_columns(panel_row(f, layer.a, 0, r0), f.net.panel,
                            element(f, f.buf.scores, r0), f.net.capacity, rows, layer.n_out)


cdef inline void finish_layer(Plan *f, int l, int64_t first, int64_t r0, int64_t rows, int64_t p0,
                              int64_t p1) noexcept nogil:
    """What a product of a hidden layer leaves to do: activation and dropout."""
    cdef Layer *layer = &f.net.layers[l]
    if layer.activation.fused != FB_IN_PRODUCT or layer.sparse:
        activate(f, l, r0, rows, p0, p1)
    if unlikely(f.call.dropping):
        drop_units(f, l, layer.a, layer.out, first, r0, rows, p0, p1)


cdef inline void forward_rows(Plan *f, int from_layer, int64_t first, int64_t r0,
                              int64_t rows) noexcept nogil:
    """Carry rows r0.. of the block from a layer's input to the raw scores."""
    cdef int l
    for l in range(from_layer, f.net.n_layers):
        if l > 0 and unlikely(f.net.layers[l].rounded):
            round_input(f, l, r0, rows)
        multiply_layer(f, l, input_of(f, l), first, r0, rows, 0, f.net.layers[l].out_panels)
        if l < f.net.n_layers - 1:
            finish_layer(f, l, first, r0, rows, 0, f.net.layers[l].out_panels)


cdef inline void forward_own_columns(Plan *f, int worker, int n_workers, int64_t first,
                                     int64_t n_rows) noexcept nogil:
    """The first layer's panels whose weights this worker updates, for all rows of the block."""
    cdef int64_t p0 = -1, p1 = 0
    cdef Unit *u
    cdef int i
    for i in range(f.net.n_units):
        u = &f.net.units[i]
        if u.l == 0 and u.k0 == 0 and owner(u, n_workers) == worker:
            p0 = u.p0 if p0 < 0 else p0
            p1 = u.p0 + u.n_panels
    if p1 > 0:
        multiply_layer(f, 0, f.buf.a0, first, 0, n_rows, p0, p1)
        finish_layer(f, 0, first, 0, n_rows, p0, p1)


cdef inline void backward_layer(Plan *f, int l, int64_t first, int64_t r0,
                                int64_t rows) noexcept nogil:
    """delta[l-1] = (delta[l] W[l]^T) * slope of layer l-1, for rows r0.. of the block."""
    cdef Layer *layer = &f.net.layers[l]
    cdef Layer *below = &f.net.layers[l - 1]
    cdef const fb_kernels *k = f.net.kernels
    cdef char *delta = panel_row(f, below.delta, 0, r0)
    cdef char *gate = panel_row(f, below.a, 0, r0)
    cdef int epilogue = FB_GATE if below.activation.fused == FB_IN_PRODUCT else FB_AS_IT_IS
    if layer.narrow:
        k.product(element(f, f.buf.delta_out, r0), f.net.capacity, 1, layer.w, f.net.lanes,
                  layer.w_panel, NULL, delta, f.net.panel, gate, epilogue, rows, layer.n_out,
                  layer.in_panels)
    elif unlikely(layer.rounded):
        multiply_back_rounded(f, layer, r0, rows, delta, gate, epilogue)
    else:
        k.product(panel_row(f, layer.delta, 0, r0), f.net.panel, 0, layer.wt, f.net.lanes,
                  layer.out_panels * f.net.lanes * f.net.lanes, NULL, delta, f.net.panel, gate,
                  epilogue, rows, layer.n_out, layer.in_panels)
    if below.activation.fused == FB_OWN_LOOP:
        multiply_by_slopes(f, l - 1, r0, rows)
    if unlikely(f.call.dropping):
        drop_units(f, l - 1, below.delta, below.delta, first, r0, rows, 0, below.out_panels)
    if unlikely(below.rounded):
        round_delta(f, l - 1, r0, rows)


cdef inline void pass_over_rows(Plan *f, Share share, int64_t first, double scale, int from_layer,
                                bint gathered) noexcept nogil:
    """First phase: one worker's rows of a block, forward, loss and backward. from_layer 1: its
    input was gathered and its first layer done before. gathered: all is there from a member that
    came before."""
    cdef int64_t r0 = share.r0, rows = share.rows
    cdef Layer *output = &f.net.layers[f.net.n_layers - 1]
    cdef int l
    if rows <= 0:
        return
    if not gathered:
        gather_targets(f, first, r0, rows)
        if from_layer == 0:
            gather_rows(f, first, r0, rows)
    forward_rows(f, from_layer, first, r0, rows)
    f.net.loss.loss(element(f, f.buf.targets, r0), element(f, f.buf.scores, r0),
                    element(f, f.buf.weights, r0), scale * f.call.gradient_factor,
                    f.buf.row_loss + r0, f.net.capacity, rows, f.net.n_outputs, f.net.loss_hyper)
    if not output.narrow:
        f.net.kernels.columns_to_panels(element(f, f.buf.delta_out, r0), f.net.capacity,
                                        panel_row(f, output.delta, 0, r0), f.net.panel, rows,
                                        f.net.n_outputs)
    if unlikely(output.rounded):
        round_delta(f, f.net.n_layers - 1, r0, rows)
    for l in range(f.net.n_layers - 1, 0, -1):
        backward_layer(f, l, first, r0, rows)
