# The first phase of a step: rows of a minibatch from gathering to the delta of the first layer. A
# row needs nothing of another row, so a thread takes any share of them. Predictions go forward
# through the same functions. No weight is written here.
from libc.stdint cimport int64_t, uint64_t

from fastbp.engine.native.division cimport Share, owner
from fastbp.engine.native.kernels cimport (FB_AS_IT_IS, FB_GATE, FB_IN_PRODUCT, FB_NO_LOOP,
                                           FB_OWN_LOOP, FB_RELU, fb_kernels, fb_mix)
from fastbp.engine.native.plan cimport Layer, Plan, Unit, input_of, order_at


cdef inline void gather_rows(Plan *f, int64_t first, int64_t r0, int64_t rows) noexcept nogil:
    """X of rows r0.. of the block into the network's input."""
    cdef int64_t size = f.itemsize
    cdef const char *x = f.x
    if not f.layers[0].sparse:
        if f.order == NULL:
            x += (first + r0) * f.n_features * size
        f.kernels.gather(x, f.x + f.n_rows * f.n_features * size, f.n_features,
                         order_at(f, first + r0), rows, f.n_features,
                         f.a0 + r0 * f.lanes * size, f.panel)


cdef inline void gather_targets(Plan *f, int64_t first, int64_t r0, int64_t rows) noexcept nogil:
    """Targets and sample weights of rows r0.. of the block, in columns."""
    cdef int64_t size = f.itemsize, start = first + r0
    f.kernels.gather_columns(f.y + (start * f.n_targets * size if f.order == NULL else 0),
                             f.n_targets, order_at(f, start), rows, f.n_targets,
                             f.targets + r0 * size, f.capacity)
    if f.sample_weight != NULL:
        f.kernels.gather_columns(f.sample_weight + (start * size if f.order == NULL else 0), 1,
                                 order_at(f, start), rows, 1, f.weights + r0 * size, f.capacity)


cdef inline void drop_units(Plan *f, int l, const char *values, char *out, int64_t first,
                            int64_t r0, int64_t rows, int64_t p0, int64_t p1) noexcept nogil:
    """Leave units of hidden layer l out of panels p0 to p1, by the place of a row in the epoch."""
    cdef Layer *layer = &f.layers[l]
    cdef int64_t at = (p0 * f.panel + r0 * f.lanes) * f.itemsize
    if layer.threshold > 0:
        f.kernels.dropout(values + at, out + at, f.panel, rows, p1 - p0,
                          fb_mix(f.epoch_key + <uint64_t>l), first + r0, p0 * f.lanes,
                          layer.threshold, layer.scale)


cdef inline void activate(Plan *f, int l, int64_t r0, int64_t rows, int64_t p0,
                          int64_t p1) noexcept nogil:
    """f(z) of panels p0 to p1 of hidden layer l in the place of z, its slopes where it has any."""
    cdef Layer *layer = &f.layers[l]
    cdef char *slopes = layer.slopes if f.backward else NULL
    cdef int64_t p, place
    for p in range(p0, p1):
        place = (p * f.panel + r0 * f.lanes) * f.itemsize
        if layer.activation.fused != FB_NO_LOOP:
            layer.activation.forward(layer.a + place, NULL if slopes == NULL else slopes + place,
                                     rows * f.lanes)
    if p1 * f.lanes > layer.n_out:       # f(0) need not be 0, but padding must be
        f.kernels.zero_padding(
            layer.a + ((layer.out_panels - 1) * f.panel + r0 * f.lanes) * f.itemsize, rows,
            layer.n_out % f.lanes)


cdef inline void multiply_by_slopes(Plan *f, int l, int64_t r0, int64_t rows) noexcept nogil:
    """delta of hidden layer l: what came back from above times the slope of its activation."""
    cdef Layer *layer = &f.layers[l]
    cdef char *slopes = layer.a if layer.slopes == NULL else layer.slopes
    cdef int64_t p, place
    for p in range(layer.out_panels):
        place = (p * f.panel + r0 * f.lanes) * f.itemsize
        layer.activation.slope(layer.delta + place, slopes + place, rows * f.lanes)
    if layer.n_out % f.lanes:
        f.kernels.zero_padding(
            layer.delta + ((layer.out_panels - 1) * f.panel + r0 * f.lanes) * f.itemsize, rows,
            layer.n_out % f.lanes)


cdef inline void multiply_layer(Plan *f, int l, const char *a, int64_t first, int64_t r0,
                                int64_t rows, int64_t p0, int64_t p1) noexcept nogil:
    """Panels p0 to p1 of layer l, rows r0.. of the block that starts at sample `first` of the
    order: product and bias, and relu; the output layer (always whole) leaves raw scores in
    columns."""
    cdef Layer *layer = &f.layers[l]
    cdef const fb_kernels *k = f.kernels
    cdef int64_t size = f.itemsize, at = r0 * f.lanes * size
    cdef int64_t whole = p1 - p0 - (layer.tail != NULL)
    cdef bint last = l == f.n_layers - 1
    cdef bint rectifies = not last and layer.activation.fused == FB_IN_PRODUCT
    cdef int epilogue = FB_RELU if rectifies else FB_AS_IT_IS
    if layer.narrow:
        k.narrow_product(a + at, f.panel, layer.w, layer.b, f.scores + r0 * size, f.capacity, rows,
                         layer.n_in, layer.n_out)
        return
    if layer.sparse:
        k.sparse_product(&f.csr, f.order, first + r0, rows, layer.w, layer.w_row,
                         layer.w + layer.weight_size * size, layer.b, layer.a + at, f.panel,
                         layer.out_panels)
    else:
        k.product(a + at, f.panel, 0, layer.w + p0 * layer.w_panel * size, layer.w_row,
                  layer.w_panel, layer.b + p0 * f.lanes * size,
                  layer.a + p0 * f.panel * size + at, f.panel, NULL, epilogue, rows, layer.n_in,
                  whole)
        if layer.tail != NULL:
            k.product(a + at, f.panel, 0, layer.tail, f.lanes, 0,
                      layer.b + whole * f.lanes * size, layer.a + whole * f.panel * size + at,
                      f.panel, NULL, epilogue, rows, layer.n_in, 1)
    if last:
        k.panels_to_columns(layer.a + at, f.panel, f.scores + r0 * size, f.capacity, rows,
                            layer.n_out)


cdef inline void finish_layer(Plan *f, int l, int64_t first, int64_t r0, int64_t rows, int64_t p0,
                              int64_t p1) noexcept nogil:
    """What a product of a hidden layer leaves to do: activation and dropout."""
    cdef Layer *layer = &f.layers[l]
    if layer.activation.fused != FB_IN_PRODUCT or layer.sparse:
        activate(f, l, r0, rows, p0, p1)
    if f.dropping:
        drop_units(f, l, layer.a, layer.out, first, r0, rows, p0, p1)


cdef inline void forward_rows(Plan *f, int from_layer, int64_t first, int64_t r0,
                              int64_t rows) noexcept nogil:
    """Carry rows r0.. of the block from a layer's input to the raw scores."""
    cdef int l
    for l in range(from_layer, f.n_layers):
        multiply_layer(f, l, input_of(f, l), first, r0, rows, 0, f.layers[l].out_panels)
        if l < f.n_layers - 1:
            finish_layer(f, l, first, r0, rows, 0, f.layers[l].out_panels)


cdef inline void forward_own_columns(Plan *f, int member, int n_members, int64_t first,
                                     int64_t n_rows) noexcept nogil:
    """The first layer's panels whose weights this member updates, for all rows of the block."""
    cdef int64_t p0 = -1, p1 = 0
    cdef Unit *u
    cdef int i
    for i in range(f.n_units):
        u = &f.units[i]
        if u.layer == 0 and u.k0 == 0 and owner(u, n_members) == member:
            p0 = u.p0 if p0 < 0 else p0
            p1 = u.p0 + u.n_panels
    if p1 > 0:
        multiply_layer(f, 0, f.a0, first, 0, n_rows, p0, p1)
        finish_layer(f, 0, first, 0, n_rows, p0, p1)


cdef inline void backward_layer(Plan *f, int l, int64_t first, int64_t r0,
                                int64_t rows) noexcept nogil:
    """delta[l-1] = (delta[l] W[l]^T) * slope of layer l-1, for rows r0.. of the block."""
    cdef Layer *layer = &f.layers[l]
    cdef Layer *below = &f.layers[l - 1]
    cdef const fb_kernels *k = f.kernels
    cdef int64_t size = f.itemsize, at = r0 * f.lanes * size
    cdef int epilogue = FB_GATE if below.activation.fused == FB_IN_PRODUCT else FB_AS_IT_IS
    if layer.narrow:
        k.product(f.scores + r0 * size, f.capacity, 1, layer.w, f.lanes,
                  layer.w_panel, NULL, below.delta + at, f.panel, below.a + at, epilogue, rows,
                  layer.n_out, layer.in_panels)
    else:
        k.product(layer.delta + at, f.panel, 0, layer.wt, f.lanes,
                  layer.out_panels * f.lanes * f.lanes, NULL, below.delta + at, f.panel,
                  below.a + at, epilogue, rows, layer.n_out, layer.in_panels)
    if below.activation.fused == FB_OWN_LOOP:
        multiply_by_slopes(f, l - 1, r0, rows)
    if f.dropping:
        drop_units(f, l - 1, below.delta, below.delta, first, r0, rows, 0, below.out_panels)


cdef inline void pass_over_rows(Plan *f, Share share, int64_t first, double scale,
                                int from_layer) noexcept nogil:
    """First phase: one member's rows of a block, forward, loss and backward. from_layer 1: it was
    gathered and its first layer done before."""
    cdef int64_t size = f.itemsize, r0 = share.r0, rows = share.rows
    cdef Layer *output = &f.layers[f.n_layers - 1]
    cdef int l
    if rows <= 0:
        return
    gather_targets(f, first, r0, rows)
    if from_layer == 0:
        gather_rows(f, first, r0, rows)
    forward_rows(f, from_layer, first, r0, rows)
    f.loss.loss(f.targets + r0 * size, f.scores + r0 * size, f.weights + r0 * size,
                scale * f.gradient_factor, f.row_loss + r0, f.capacity, rows, f.n_outputs,
                f.loss_hyper)
    if not output.narrow:
        f.kernels.columns_to_panels(f.scores + r0 * size, f.capacity,
                                    output.delta + r0 * f.lanes * size, f.panel, rows,
                                    f.n_outputs)
    for l in range(f.n_layers - 1, 0, -1):
        backward_layer(f, l, first, r0, rows)
