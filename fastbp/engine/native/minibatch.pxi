# One minibatch through the network: the plan of a fit, its forward and backward pass over rows,
# its gradients and updates over units. All of it runs without the GIL on the engine's threads.
#
# A step has two phases with a barrier after each. In the first every thread takes a share of the
# rows from gathering to the delta of the first layer: a row needs nothing of another row. In the
# second every thread owns some units (fixed tiles of the weight gradients) and their updates. No
# sum is ever split by the number of threads, so the bits do not depend on it.
#
# Where the first layer has more weights than a minibatch has activations around it, several threads
# divide its forward product by columns instead of rows: each reads only the weights it updates, and
# those stay in its own cache (784-512-256-10, batch 128, two threads: 1.50 -> 1.26 ms a step,
# November 2026). The input must then be gathered before, at the price of two more barriers.
#
# Where the activations outweigh the weights, every weight gradient is the sum of two, one for each
# of two fixed chunks of the minibatch's rows: two threads then work off a chunk each, gradients
# included, and exchange gradients instead of activations (64-100-10, batch 200: about 39 -> 37 us a
# step in separate runs, November 2026). One thread, or more than two, add the same two sums unit by
# unit. The chunks are equally long and each begins with a whole vector of the buffers, which leaves
# a gap of some rows between them: without it they were 96 and 104 rows (46.0 -> 43.7 us in turns on
# an AMD EPYC, November 2026).
#
# What every step of a small network passes is inline, and what only some networks need stands apart
# from it: a step of 20-16-1, batch 1, took 0.185 us, with this and bias gradients that are no calls
# of their own 0.157 (medians of 5 fresh processes in turns, November 2026).

cdef enum:
    DOUBLES_PER_LINE = 8


cdef struct Layer:
    int64_t n_in, n_out, in_panels, out_panels
    bint narrow, sparse          # see kernels.h for the two forms; sparse: first layer over CSR
    int64_t weight_at, weight_size, bias_at   # places in the packed vector, in elements
    int64_t w_row, w_panel       # strides of W in elements
    char *w                      # packed, or the caller's flat weights (small predictions)
    char *b
    char *tail                   # last panel of flat weights, packed, if it is not a whole one
    char *wt                     # W^T in panels; NULL for the first and for a narrow layer
    char *a                      # activations (hidden), raw scores (wide output): panels
    char *slopes                 # of the activation at z, where they are not formulas of f(z)
    char *delta
    const fb_activation *activation
    char *out                    # what the next layer reads under dropout: `a`, or a copy of it
    uint32_t threshold           # draws below it leave a unit out
    double scale                 # of the units kept


cdef struct Unit:                # a tile of a layer's weights, and the biases of its outputs where
    int layer                    # it is the first of them; places are elements of the packed vector
    int64_t k0, n_k, p0, n_panels
    int64_t at, n, stride        # its weights: `count` runs of n, stride apart
    int64_t count
    int64_t bias_at, n_biases
    double middle                # where its middle lies in what threads divide, from 0 to 1


cdef struct Plan:
    const fb_kernels *kernels
    int n_layers, n_units, itemsize
    int64_t lanes, capacity, panel          # rows a buffer holds; capacity * lanes
    int64_t block_rows                      # rows worked on at a time
    Layer *layers
    Unit *units
    double *squares                         # one sum of w^2 per unit, each in a line of its own
    double cost
    bint by_columns, by_chunks              # see above
    int64_t n_packed
    char *w                                 # packed parameters; g and slots in the same layout
    char *g
    char *g1                                # gradient of the second chunk, where there are chunks
    char *scratch                           # one unit's gradients (of two chunks) for each member
    int64_t scratch_size
    char *slots[FB_MAX_SLOTS]
    char *a0                                # gathered X
    char *scores
    char *targets
    char *weights
    double *row_loss
    const fb_loss *loss
    double *loss_hyper
    double loss_factor, gradient_factor
    const fb_optimizer *optimizer
    double hyper[FB_MAX_HYPER]
    int decay                               # which hyper-parameter is 0 for biases; -1: none
    double max_norm                         # of the gradient of a step; 0: any
    double *gradient_squares                # the same of the gradient, where there is a limit
    char *average                           # of w over the steps, or NULL; layout of w
    double ema_decay
    bint dropout, dropping                  # is there any; is it in force (while training)
    bint backward                           # does a backward pass follow, which needs slopes
    uint64_t seed
    # the data of this call
    const char *x
    fb_csr csr
    const char *y
    const char *sample_weight
    int64_t *order
    int64_t n_rows, n_samples, n_features, n_outputs, n_targets, batch_size
    double alpha
    const double *rates
    int64_t n_rates
    bint update
    # interrupts
    bint watch_signals
    int64_t deadline_ns                     # of the monotonic clock; 0: none
    int64_t steps_between_looks
    void *session
    fb_team *team
    # what member 0 writes during an epoch, a cache line away from what all members read
    char pad0[64]
    int64_t t, step
    double h[FB_MAX_CONSTANTS]              # step constants
    double bias_h[FB_MAX_CONSTANTS]         # those of biases, where they differ
    double average_share                    # of the newest w in this step
    uint64_t epoch_key
    double epoch_loss
    int64_t n_seen                          # samples of the epoch in hand that were trained on
    int64_t n_counted                       # the same of the last epoch that counts as done
    bint interrupted, out_of_time
    int64_t steps_since_look, last_look_ns
    char pad1[64]


cdef inline const char *input_of(Plan *f, int l) noexcept nogil:
    """What layer l reads."""
    if l == 0:
        return f.a0
    return f.layers[l - 1].out if f.dropping else f.layers[l - 1].a


cdef void drop_units(Plan *f, int l, const char *values, char *out, int64_t first, int64_t r0,
                     int64_t rows, int64_t p0, int64_t p1) noexcept nogil:
    """Leave units of hidden layer l out of panels p0 to p1, by the place of a row in the epoch."""
    cdef Layer *layer = &f.layers[l]
    cdef int64_t at = (p0 * f.panel + r0 * f.lanes) * f.itemsize
    if layer.threshold > 0:
        f.kernels.dropout(values + at, out + at, f.panel, rows, p1 - p0,
                          fb_mix(f.epoch_key + <uint64_t>l), first + r0, p0 * f.lanes,
                          layer.threshold, layer.scale)


cdef inline const int64_t *order_at(Plan *f, int64_t first) noexcept nogil:
    return NULL if f.order == NULL else f.order + first


cdef void activate(Plan *f, int l, int64_t r0, int64_t rows, int64_t p0,
                   int64_t p1) noexcept nogil:
    """f(z) of panels p0 to p1 of hidden layer l in the place of z, its slopes where it has any."""
    cdef Layer *layer = &f.layers[l]
    cdef char *slopes = layer.slopes if f.backward else NULL
    cdef int64_t p, place
    for p in range(p0, p1):
        place = (p * f.panel + r0 * f.lanes) * f.itemsize
        if layer.activation.fused != 1:
            layer.activation.forward(layer.a + place, NULL if slopes == NULL else slopes + place,
                                     rows * f.lanes)
    if p1 * f.lanes > layer.n_out:       # f(0) need not be 0, but padding must be
        f.kernels.zero_padding(
            layer.a + ((layer.out_panels - 1) * f.panel + r0 * f.lanes) * f.itemsize, rows,
            layer.n_out % f.lanes)


cdef void multiply_by_slopes(Plan *f, int l, int64_t r0, int64_t rows) noexcept nogil:
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


cdef inline void forward_layer(Plan *f, int l, const char *a, int64_t first, int64_t r0,
                               int64_t rows, int64_t p0, int64_t p1) noexcept nogil:
    """Panels p0 to p1 of layer l, rows r0.. of the block that starts at sample `first` of the
    order: product, bias, activation; the output layer (always whole) leaves raw scores in
    columns."""
    cdef Layer *layer = &f.layers[l]
    cdef const fb_kernels *k = f.kernels
    cdef int64_t size = f.itemsize, at = r0 * f.lanes * size
    cdef int64_t whole = p1 - p0 - (layer.tail != NULL)
    cdef bint last = l == f.n_layers - 1
    cdef int epilogue = 0 if last or layer.activation.fused != 2 else 2
    if layer.narrow:
        k.narrow_product(a + at, f.panel, layer.w, layer.b, f.scores + r0 * size, f.capacity, rows,
                         layer.n_in, layer.n_out)
        return
    if layer.sparse:
        epilogue = 0
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
    elif epilogue == 0:
        activate(f, l, r0, rows, p0, p1)
    if f.dropping and not last:
        drop_units(f, l, layer.a, layer.out, first, r0, rows, p0, p1)


cdef void backward_layer(Plan *f, int l, int64_t first, int64_t r0, int64_t rows) noexcept nogil:
    """delta[l-1] = (delta[l] W[l]^T) * slope of layer l-1, for rows r0.. of the block."""
    cdef Layer *layer = &f.layers[l]
    cdef Layer *below = &f.layers[l - 1]
    cdef const fb_kernels *k = f.kernels
    cdef int64_t size = f.itemsize, at = r0 * f.lanes * size
    cdef int epilogue = 3 if below.activation.fused == 2 else 0
    if layer.narrow:
        k.product(f.scores + r0 * size, f.capacity, 1, layer.w, f.lanes,
                  layer.w_panel, NULL, below.delta + at, f.panel, below.a + at, epilogue, rows,
                  layer.n_out, layer.in_panels)
    else:
        k.product(layer.delta + at, f.panel, 0, layer.wt, f.lanes,
                  layer.out_panels * f.lanes * f.lanes, NULL, below.delta + at, f.panel,
                  below.a + at, epilogue, rows, layer.n_out, layer.in_panels)
    if below.activation.fused == 0:
        multiply_by_slopes(f, l - 1, r0, rows)
    if f.dropping:
        drop_units(f, l - 1, below.delta, below.delta, first, r0, rows, 0, below.out_panels)


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


cdef inline void forward_rows(Plan *f, int from_layer, int64_t first, int64_t r0,
                              int64_t rows) noexcept nogil:
    """Carry rows r0.. of the block from a layer's input to the raw scores."""
    cdef int l
    for l in range(from_layer, f.n_layers):
        forward_layer(f, l, input_of(f, l), first, r0, rows, 0, f.layers[l].out_panels)


cdef struct Share:               # 16 bytes: these pass in registers
    int64_t r0, rows


cdef inline int64_t first_chunk(Plan *f, int64_t n_rows) noexcept nogil:
    """Rows of a block's first chunk; a short block has no second one."""
    return (n_rows + 1) // 2 if f.by_chunks and n_rows > f.lanes else n_rows


cdef inline int64_t gap_before(Plan *f, int index, int64_t n_rows) noexcept nogil:
    """Rows of the buffers left unused before a chunk: each begins with a whole vector."""
    return -first_chunk(f, n_rows) & (f.lanes - 1) if index == 1 else 0


cdef inline Share chunk_of(Plan *f, int index, int64_t n_rows) noexcept nogil:
    """Where the first or second chunk of a block is in the buffers; the second may be empty."""
    cdef int64_t middle = first_chunk(f, n_rows)
    if index == 0:
        return Share(0, middle)
    return Share(middle + gap_before(f, 1, n_rows), n_rows - middle)


cdef inline Share part_of(Plan *f, Share all, int member, int n_members) noexcept nogil:
    """A member's rows of a chunk, whole vectors of them."""
    if n_members == 1:
        return all
    cdef int64_t n_groups = (all.rows + f.lanes - 1) // f.lanes
    cdef int64_t begin = n_groups * member // n_members * f.lanes
    cdef int64_t end = min(n_groups * (member + 1) // n_members * f.lanes, all.rows)
    return Share(all.r0 + begin, end - begin)


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


cdef inline int owner(Unit *u, int n_members) noexcept nogil:
    return 0 if n_members == 1 else <int>(u.middle * n_members)


cdef void forward_own_columns(Plan *f, int member, int n_members, int64_t first,
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
        forward_layer(f, 0, f.a0, first, 0, n_rows, p0, p1)


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


cdef void add_second_chunk(Plan *f, Unit *u, char *scratch) noexcept nogil:
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


cdef double squares_of_gradient(Plan *f, Unit *u, double l2) noexcept nogil:
    """Sum of the squares of a unit's whole gradient, penalty included."""
    cdef int64_t i, byte
    cdef double total = 0
    for i in range(u.count):
        byte = (u.at + i * u.stride) * f.itemsize
        total += f.kernels.gradient_squares(f.w + byte, f.g + byte, u.n, l2)
    byte = u.bias_at * f.itemsize
    return total + f.kernels.gradient_squares(f.w + byte, f.g + byte, u.n_biases, 0)


cdef void shrink_gradient(Plan *f, Unit *u, double factor) noexcept nogil:
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


cdef void update_within_norm(Plan *f, int member, int n_members, double l2) noexcept nogil:
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


cdef bint own_rows(Plan *f, int member, int n_members, int64_t *k0, int64_t *k1) noexcept nogil:
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


cdef void clear_sparse_gradient(Plan *f, int member, int n_members, int64_t batch_first,
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


cdef void pass_over_chunk(Plan *f, int member, int64_t rows, bint accumulate) noexcept nogil:
    """Gradients of one of two members' own rows, for all units."""
    cdef Share share = chunk_of(f, member, rows)
    cdef int i
    if share.rows > 0:
        for i in range(f.n_units):
            unit_gradient(f, &f.units[i], share, accumulate, f.g if member == 0 else f.g1, NULL)


cdef void join_chunks(Plan *f, int member, int64_t rows, bint accumulate, double l2) noexcept nogil:
    """Add the two members' gradients of this member's units, and update these."""
    cdef bint two = accumulate or chunk_of(f, 1, rows).rows > 0
    cdef int i
    for i in range(f.n_units):
        if owner(&f.units[i], 2) == member:
            if two:
                add_second_chunk(f, &f.units[i], NULL)
            if f.update:
                finish_unit(f, i, l2, NULL)
