# Layout of a session: layers, units and buffers. Every size of a fit is decided here and its
# buffers are taken, but for those of the optimiser and of dropout (`session.pxi`); what is decided
# depends on shapes and the dtype, not on data.


cdef int64_t round_up(int64_t n, int64_t multiple) noexcept nogil:
    return (n + multiple - 1) // multiple * multiple


cdef int64_t rows_of_a_block(int64_t batch_size) noexcept nogil:
    """Rows of a minibatch that are worked on at a time, at most."""
    return min(max(batch_size, 1), BLOCK_ROWS)


cdef int64_t spread_capacity(int64_t rows, int64_t group) noexcept nogil:
    """Rows a buffer holds: whole groups, and panels never a multiple of 4 KiB apart, where they
    would compete for the same places of the first-level cache."""
    cdef int64_t n = round_up(rows, group)
    return n + group if n % 64 == 0 else n


cdef bint is_narrow(int64_t n_out, int64_t lanes) noexcept nogil:
    """Whether an output layer would waste half of a panel's lanes or more."""
    return n_out <= lanes // 2


cdef set_layer(Plan *f, int l, int64_t n_in, int64_t n_out, bint output, bint sparse):
    cdef Layer *layer = &f.net.layers[l]
    cdef int64_t P = f.net.lanes
    layer.n_in, layer.n_out = n_in, n_out
    layer.in_panels, layer.out_panels = round_up(n_in, P) // P, round_up(n_out, P) // P
    layer.sparse = sparse
    layer.narrow = output and not sparse and is_narrow(n_out, P)
    layer.weight_at = f.net.n_packed
    if layer.narrow:
        layer.w_row, layer.w_panel = P, n_out * P
        layer.weight_size = layer.in_panels * layer.w_panel
    elif sparse:
        layer.w_row, layer.w_panel = layer.out_panels * P, P
        layer.weight_size = n_in * layer.w_row
    else:
        layer.w_row, layer.w_panel = P, n_in * P
        layer.weight_size = layer.out_panels * layer.w_panel
    layer.bias_at = layer.weight_at + layer.weight_size
    f.net.n_packed = layer.bias_at + layer.out_panels * P


cdef list cut(int64_t n, int64_t largest, bint even):
    """About equal parts (first, size) of n things; an even number of them where asked, because two
    threads are the most common team."""
    cdef int64_t parts = (n + largest - 1) // largest
    if even and parts > 1:
        parts = min(n, parts + parts % 2)
    return [(n * i // parts, n * (i + 1) // parts - n * i // parts) for i in range(parts)]


cdef list units_of(Plan *f, int l):
    """Fixed pieces of one layer's weights, (k0, n_k, p0, n_panels) each. They depend on shapes and
    the dtype alone: the sums of w^2 are taken per unit. Where A does not stay in L2 all panels of a
    block of k come together, so that this part of A does while the deltas pass."""
    cdef Layer *layer = &f.net.layers[l]
    cdef int64_t P = f.net.lanes
    cdef bint columns = l == 0 and f.net.by_columns
    cdef bint whole_rows = l == 0 and f.net.n_members > 0    # see members.pxd
    cdef int64_t n_panels = layer.in_panels if layer.narrow else layer.out_panels
    if layer.sparse and whole_rows:          # sums run along rows
        return [(0, layer.n_in, 0, n_panels)]
    if layer.sparse:
        return [(k, n, 0, n_panels) for k, n in cut(layer.n_in, 1024, True)]
    largest = 32 if layer.n_in < 512 or whole_rows else 256
    group = FB_BF16_ROWS if layer.rounded else P
    blocks = [(k * group, min(n * group, layer.n_in - k * group))
              for k, n in cut(round_up(layer.n_in, group) // group, largest // group, True)]
    # 3 panels: the width of a weight-gradient tile in registers
    if whole_rows:
        return [(k, n_k, 0, n_panels) for k, n_k in blocks]
    strips = cut(n_panels, f.net.bf16.strip if layer.rounded else 3,
                 columns or layer.narrow or len(blocks) == 1)
    if layer.narrow:
        return [(0, layer.n_out, p, n) for p, n in strips]
    if columns or size_of(f, f.net.block_rows * layer.n_in) < 1 << 20:
        return [(k, n_k, p, n) for p, n in strips for k, n_k in blocks]
    return [(k, n_k, p, n) for k, n_k in blocks for p, n in strips]


cdef char *take(Plan *f, Memory memory, int64_t n) except NULL:
    """Room for n elements of the fit's dtype, all 0."""
    return memory.take(size_of(f, n))


cdef lay_out(Session s, activations, loss, int64_t batch_size, bint sparse, precision):
    """Fill the plan of a session: every buffer of a fit is taken here."""
    cdef Plan *f = &s.plan
    cdef Memory memory = s.memory
    cdef int l
    f.net.kernels = fb_find_kernels(chosen, s.dtype.itemsize)
    f.net.itemsize, f.net.lanes = f.net.kernels.itemsize, f.net.kernels.lanes
    f.net.n_layers = len(s.layer_sizes) - 1
    f.net.n_features, f.net.n_outputs = s.layer_sizes[0], s.layer_sizes[-1]
    f.net.n_targets = contract.count_targets(s.layer_sizes, loss)
    f.net.block_rows = rows_of_a_block(batch_size)
    set_loss(f, memory, loss)
    f.net.n_members = s.n_members
    f.net.all_layers = f.net.layers = <Layer *>memory.take(
        f.net.n_layers * max(1, s.n_members) * sizeof(Layer))
    for l in range(f.net.n_layers - 1):
        set_layer(f, l, s.layer_sizes[l], s.layer_sizes[l + 1], False, sparse and l == 0)
    set_outputs(f, s.layer_sizes[-2], s.layer_sizes[-1], sparse)
    for l in range(f.net.n_layers):
        f.net.cost += f.net.layers[l].weight_size
    choose_precision(f, precision, f.net.block_rows)
    choose_division(f)
    take_buffers(f, memory, sparse)
    for l in range(f.net.n_layers):
        take_layer(f, memory, &f.net.layers[l], l > 0)
        if l < f.net.n_layers - 1:
            set_activation(f, memory, &f.net.layers[l], activations[l])
    take_operands(f, memory)
    copy_hidden_layers(f, memory)
    point_weights(f, f.buf.w)
    set_units(f, memory, s.n_threads)


cdef set_outputs(Plan *f, int64_t n_in, int64_t n_out, bint sparse):
    """The output layer, or multipliers of the inputs and an output layer for each member."""
    cdef int m
    f.net.scales_at = f.net.n_packed
    if f.net.n_members > 0:
        f.net.n_packed += f.net.n_members * f.net.layers[0].in_panels * f.net.lanes
    for m in range(max(1, f.net.n_members)):
        f.net.layers = f.net.all_layers + m * f.net.n_layers
        set_layer(f, f.net.n_layers - 1, n_in, n_out, True, sparse and f.net.n_layers == 1)
    f.net.layers = f.net.all_layers


cdef copy_hidden_layers(Plan *f, Memory memory):
    """The first member's hidden layers are every member's, but for the number of their draws; so
    are the output layer's buffers, but for copies of its weights."""
    cdef int m, l
    cdef Layer *first
    cdef Layer *own
    for m in range(max(1, f.net.n_members)):
        for l in range(f.net.n_layers):
            first, own = &f.net.all_layers[l], &f.net.all_layers[m * f.net.n_layers + l]
            if m > 0 and l < f.net.n_layers - 1:
                own[0] = first[0]
            elif m > 0:
                own.a, own.delta, own.rows = first.a, first.delta, first.rows
                own.left, own.delta_pairs = first.left, first.delta_pairs
                if own.rounded:
                    take_rounded_weights(f, memory, own, True)
                if first.wt != NULL:
                    own.wt = take_transpose(f, memory, own)
            own.number = <uint64_t>l + (<uint64_t>m << 32)


cdef set_loss(Plan *f, Memory memory, loss):
    f.net.loss = find_loss(f.net.kernels, loss, memory)
    f.net.loss_hyper = <double *>memory.take(len(loss.hyper) * sizeof(double))
    for i, number in enumerate(loss.hyper):
        f.net.loss_hyper[i] = number
    f.net.loss_factor = 1.0 / f.net.n_outputs if loss.output_mean else 1.0


cdef take_buffers(Plan *f, Memory memory, bint sparse):
    """Parameters, gradients, and what goes in and out of the network."""
    cdef int64_t P = f.net.lanes, input_size = f.net.layers[0].in_panels * f.net.panel
    f.buf.w = take(f, memory, f.net.n_packed)
    f.buf.g = take(f, memory, f.net.n_packed)
    f.buf.a0 = take(f, memory, 1 if sparse else input_size)
    if f.net.n_members > 0:
        f.buf.scaled = take(f, memory, f.net.layers[0].weight_size)
        if sparse:
            f.buf.sparse_u = take(f, memory, f.net.layers[0].weight_size)
            f.buf.continues = <uint8_t *>memory.take(f.net.n_features)
    f.buf.scores = f.buf.delta_out = take(f, memory, round_up(f.net.n_outputs, P) * f.net.capacity)
    f.buf.targets = take(f, memory, f.net.n_targets * f.net.capacity)
    f.buf.weights = take(f, memory, f.net.capacity)
    f.buf.row_loss = <double *>memory.take(f.net.capacity * sizeof(double))


cdef take_layer(Plan *f, Memory memory, Layer *layer, bint has_transpose):
    """The buffers of one layer; a narrow one's are the scores."""
    cdef int64_t P = f.net.lanes
    if not layer.narrow:
        layer.a = take(f, memory, layer.out_panels * f.net.panel)
        layer.delta = take(f, memory, layer.out_panels * f.net.panel)
        if has_transpose and not layer.rounded:
            layer.wt = take_transpose(f, memory, layer)


cdef char *take_transpose(Plan *f, Memory memory, Layer *layer) except NULL:
    return take(f, memory, layer.in_panels * layer.out_panels * f.net.lanes * f.net.lanes)


cdef set_activation(Plan *f, Memory memory, Layer *layer, activation):
    layer.activation = find_activation(f.net.kernels, activation, memory)
    if activation.slope_of == "pre_activation":
        layer.slopes = take(f, memory, layer.out_panels * f.net.panel)


cdef bint weights_are_fewer(Plan *f):
    """Whether a block's activations and deltas outweigh two gradients of the weights."""
    cdef int l
    cdef int64_t activations = 0, weights = 0
    for l in range(f.net.n_layers):
        activations += f.net.block_rows * (f.net.layers[l].n_in + f.net.layers[l].n_out)
        weights += f.net.layers[l].n_in * f.net.layers[l].n_out
    return activations > 2 * weights


cdef choose_division(Plan *f):
    """How several threads divide a step, and the rows that the buffers need for it."""
    cdef Layer *first = &f.net.layers[0]
    cdef Share second
    f.net.by_columns = (f.net.n_layers > 1 and not first.sparse and f.net.n_members == 0
                        and first.n_in * first.n_out
                        > f.net.block_rows * (first.n_in + first.n_out))
    f.net.by_chunks = (not (f.net.by_columns or first.sparse) and f.net.n_members == 0
                       and weights_are_fewer(f)
                       and step_us(f, f.net.block_rows) >= 2 * WORK_PER_THREAD_US)
    second = chunk_of(f, 1, f.net.block_rows)
    f.net.capacity = spread_capacity(second.r0 + second.rows, f.net.group)
    f.net.panel = f.net.capacity * f.net.lanes


cdef Unit unit_of(Plan *f, int l, Layer *layer, int64_t k0, int64_t n_k, int64_t p0,
                  int64_t n_panels):
    """A unit with the places of its parameters."""
    cdef int64_t P = f.net.lanes
    cdef Unit u
    memset(&u, 0, sizeof(Unit))
    u.l, u.layer, u.count = l, layer, 1
    u.k0, u.n_k, u.p0, u.n_panels = k0, n_k, p0, n_panels
    if l == 0 and f.net.n_members > 0:
        u.n_members, u.scale_stride = f.net.n_members, layer.in_panels * P
        u.scales_at, u.n_scales = f.net.scales_at + k0, round_up(n_k, P)
    if layer.narrow:
        u.at, u.n = layer.weight_at + p0 * layer.w_panel, n_panels * layer.w_panel
        u.bias_at, u.n_biases = layer.bias_at, P if p0 == 0 else 0
        return u
    if layer.sparse:
        u.at, u.n = layer.weight_at + k0 * layer.w_row, n_k * layer.w_row
    else:
        u.at, u.n = layer.weight_at + p0 * layer.w_panel + k0 * P, n_k * P
        u.stride, u.count = layer.w_panel, n_panels
    u.bias_at, u.n_biases = layer.bias_at + p0 * P, n_panels * P if k0 == 0 else 0
    return u


cdef set_units(Plan *f, Memory memory, int n_threads):
    cdef int l, m, n = f.net.n_layers
    cdef int64_t largest = 0
    pieces = [units_of(f, l) for l in range(n)]
    costs = [[n_k * n_panels for _, n_k, _, n_panels in layer] for layer in pieces]
    f.net.n_shared, f.net.n_output_units = sum(map(len, pieces[:-1])), len(pieces[-1])
    f.net.n_units = f.net.n_shared + f.net.n_output_units * max(1, f.net.n_members)
    f.net.units = <Unit *>memory.take(f.net.n_units * sizeof(Unit))
    f.buf.squares = <double *>memory.take(f.net.n_units * DOUBLES_PER_LINE * sizeof(double))
    if f.net.by_chunks:
        f.buf.g1 = take(f, memory, f.net.n_packed)
    i, totals = 0, [sum(layer) for layer in costs]
    for l, m in [(l, 0) for l in range(n)] + [(n - 1, m) for m in range(1, f.net.n_members)]:
        # All units together are divided evenly; by columns each layer is. One member's output
        # layer is worked on at a time.
        before, whole = sum(totals[:l]), sum(totals)
        if f.net.by_columns:
            before, whole = 0, totals[l]
        for cost, (k0, n_k, p0, n_panels) in zip(costs[l], pieces[l]):
            f.net.units[i] = unit_of(f, l, &f.net.all_layers[m * n + l], k0, n_k, p0, n_panels)
            f.net.units[i].middle = (before + cost / 2) / whole
            before += cost
            i += 1
            largest = max(largest, n_k * n_panels * f.net.lanes)
    f.buf.scratch_size = size_of(f, largest) * (2 if f.net.by_chunks else 1)
    f.buf.scratch = memory.take(f.buf.scratch_size * n_threads)
