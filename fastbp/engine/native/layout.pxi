# Layout of a session: layers, units and buffers. Every size of a fit is decided and every buffer of
# it taken here; what is decided depends on shapes and the dtype, not on data.


cdef int64_t round_up(int64_t n, int64_t multiple) noexcept nogil:
    return (n + multiple - 1) // multiple * multiple


cdef int64_t spread_capacity(int64_t rows, int64_t lanes) noexcept nogil:
    """Rows a buffer holds: whole vectors, and panels never a multiple of 4 KiB apart, where they
    would compete for the same places of the first-level cache."""
    cdef int64_t n = round_up(rows, lanes)
    return n + lanes if n % 64 == 0 else n


cdef bint is_narrow(int64_t n_out, int64_t lanes) noexcept nogil:
    """Whether an output layer would waste half of a panel's lanes or more."""
    return n_out <= lanes // 2


cdef set_layer(Plan *f, int l, int64_t n_in, int64_t n_out, bint output, bint sparse):
    cdef Layer *layer = &f.layers[l]
    cdef int64_t P = f.lanes
    layer.n_in, layer.n_out = n_in, n_out
    layer.in_panels, layer.out_panels = round_up(n_in, P) // P, round_up(n_out, P) // P
    layer.sparse = sparse
    layer.narrow = output and not sparse and is_narrow(n_out, P)
    layer.weight_at = f.n_packed
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
    f.n_packed = layer.bias_at + layer.out_panels * P


cdef list cut(int64_t n, int64_t largest, bint even):
    """About equal parts (first, size) of n things; an even number of them where asked, because two
    threads are the most common team."""
    cdef int64_t parts = (n + largest - 1) // largest
    if even and parts > 1:
        parts = min(n, parts + parts % 2)
    return [(n * i // parts, n * (i + 1) // parts - n * i // parts) for i in range(parts)]


cdef list units_of(Plan *f, int l):
    """Fixed tiles of one layer's weights, (k0, n_k, p0, n_panels) each. They depend on shapes and
    the dtype alone: the sums of w^2 are taken per unit. Where A does not stay in L2 all panels of a
    block of k come together, so that this part of A does while the deltas pass."""
    cdef Layer *layer = &f.layers[l]
    cdef int64_t P = f.lanes
    cdef bint columns = l == 0 and f.by_columns
    cdef int64_t n_panels = layer.in_panels if layer.narrow else layer.out_panels
    if layer.sparse:
        return [(k, n, 0, n_panels) for k, n in cut(layer.n_in, 1024, True)]
    blocks = [(k * P, min(n * P, layer.n_in - k * P))
              for k, n in cut(layer.in_panels, 256 // P if layer.n_in >= 512 else 32 // P, True)]
    # 3 panels: the width of a weight-gradient tile
    strips = cut(n_panels, 3, columns or layer.narrow or len(blocks) == 1)
    if layer.narrow:
        return [(0, layer.n_out, p, n) for p, n in strips]
    if columns or f.block_rows * layer.n_in * f.itemsize < 1 << 20:
        return [(k, n_k, p, n) for p, n in strips for k, n_k in blocks]
    return [(k, n_k, p, n) for k, n_k in blocks for p, n in strips]


cdef lay_out(Session s, activations, loss, int64_t batch_size, bint sparse):
    """Fill the plan of a session: every buffer of a fit is taken here."""
    cdef Plan *f = &s.plan
    cdef Memory memory = s.memory
    cdef int l
    cdef int64_t size, P, block_rows = min(max(batch_size, 1), BLOCK_ROWS), panel_bytes
    f.kernels = fb_find_kernels(chosen, s.dtype.itemsize)
    f.itemsize, f.lanes = f.kernels.itemsize, f.kernels.lanes
    size, P = f.itemsize, f.lanes
    f.n_layers = len(s.layer_sizes) - 1
    f.n_features, f.n_outputs = s.layer_sizes[0], s.layer_sizes[-1]
    f.block_rows = block_rows
    f.loss = find_loss(f.kernels, loss, memory)
    f.loss_hyper = <double *>memory.take(len(loss.hyper) * sizeof(double))
    for i, number in enumerate(loss.hyper):
        f.loss_hyper[i] = number
    f.loss_factor = 1.0 / f.n_outputs if loss.output_mean else 1.0
    f.n_targets = contract.count_targets(s.layer_sizes, loss)
    f.layers = <Layer *>memory.take(f.n_layers * sizeof(Layer))
    for l in range(f.n_layers):
        set_layer(f, l, s.layer_sizes[l], s.layer_sizes[l + 1], l == f.n_layers - 1,
                  sparse and l == 0)
        f.cost += f.layers[l].weight_size
    choose_division(f)
    f.w = memory.take(f.n_packed * size)
    f.g = memory.take(f.n_packed * size)
    for l in range(f.n_layers):
        f.layers[l].w = f.w + f.layers[l].weight_at * size
        f.layers[l].b = f.w + f.layers[l].bias_at * size
        panel_bytes = f.layers[l].out_panels * f.panel * size
        if not f.layers[l].narrow:
            f.layers[l].a = memory.take(panel_bytes)
            f.layers[l].delta = memory.take(panel_bytes)
            if l > 0:
                f.layers[l].wt = memory.take(f.layers[l].in_panels * f.layers[l].out_panels
                                             * P * P * size)
        if l < f.n_layers - 1:
            f.layers[l].activation = find_activation(f.kernels, activations[l], memory)
            if activations[l].slope_of == "pre_activation":
                f.layers[l].slopes = memory.take(panel_bytes)
    f.a0 = memory.take(P if sparse else f.layers[0].in_panels * f.panel * size)
    f.scores = memory.take(round_up(f.n_outputs, P) * f.capacity * size)
    f.targets = memory.take(f.n_targets * f.capacity * size)
    f.weights = memory.take(f.capacity * size)
    f.row_loss = <double *>memory.take(f.capacity * sizeof(double))
    set_units(f, memory, s.n_threads)


cdef bint weights_are_fewer(Plan *f):
    """Whether a block's activations and deltas outweigh two gradients of the weights."""
    cdef int l
    cdef int64_t activations = 0, weights = 0
    for l in range(f.n_layers):
        activations += f.block_rows * (f.layers[l].n_in + f.layers[l].n_out)
        weights += f.layers[l].n_in * f.layers[l].n_out
    return activations > 2 * weights


cdef choose_division(Plan *f):
    """How several threads divide a step, and the rows that the buffers need for it."""
    cdef Layer *first = &f.layers[0]
    cdef Share second
    f.by_columns = (f.n_layers > 1 and not first.sparse and first.n_in * first.n_out
                    > f.block_rows * (first.n_in + first.n_out))
    f.by_chunks = (not (f.by_columns or first.sparse) and weights_are_fewer(f)
                   and step_us(f, f.block_rows) >= 2 * WORK_PER_THREAD_US)
    second = chunk_of(f, 1, f.block_rows)
    f.capacity = spread_capacity(second.r0 + second.rows, f.lanes)
    f.panel = f.capacity * f.lanes


cdef Unit unit_of(Plan *f, int l, int64_t k0, int64_t n_k, int64_t p0, int64_t n_panels):
    """A unit with the places of its parameters."""
    cdef Layer *layer = &f.layers[l]
    cdef int64_t P = f.lanes
    cdef Unit u = Unit(l, k0, n_k, p0, n_panels, 0, 0, 0, 1, 0, 0, 0)
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
    cdef int l
    cdef int64_t largest = 0
    tiles = [units_of(f, l) for l in range(f.n_layers)]
    costs = [[n_k * n_panels for _, n_k, _, n_panels in layer] for layer in tiles]
    f.n_units = sum(map(len, tiles))
    f.units = <Unit *>memory.take(f.n_units * sizeof(Unit))
    f.squares = <double *>memory.take(f.n_units * DOUBLES_PER_LINE * sizeof(double))
    if f.by_chunks:
        f.g1 = memory.take(f.n_packed * f.itemsize)
    before, i = 0.0, 0
    for l in range(f.n_layers):
        if f.by_columns:     # every layer is divided evenly
            before, whole = 0.0, sum(costs[l])
        else:                # all units together are
            whole = sum(map(sum, costs))
        for cost, (k0, n_k, p0, n_panels) in zip(costs[l], tiles[l]):
            f.units[i] = unit_of(f, l, k0, n_k, p0, n_panels)
            f.units[i].middle = (before + cost / 2) / whole
            before += cost
            i += 1
            largest = max(largest, n_k * n_panels * f.lanes)
    f.scratch_size = largest * f.itemsize * (2 if f.by_chunks else 1)
    f.scratch = memory.take(f.scratch_size * n_threads)
