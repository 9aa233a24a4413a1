# Prediction: raw scores of many rows over threads, by a session or straight from fitted arrays. A
# row's scores have the same bits alone, in any block, on any thread. Truncated networks, whose last
# layer is a hidden one, are predicted with here, too: that layer's activation is then applied to
# the scores.


cdef enum:
    FEW_ROWS = 16                # read a small part of a first layer over CSR


cdef struct Prediction:
    Plan *plan
    int64_t n_rows
    char *out


cdef void activate_scores(Plan *f, int64_t r0, int64_t rows) noexcept nogil:
    """a = f(z) of the last layer, column by column; whole vectors, so that bits do not depend on
    the number of rows."""
    cdef const fb_activation *activation = f.net.layers[f.net.n_layers - 1].activation
    cdef int64_t n = round_up(rows, f.net.lanes), j
    for j in range(f.net.n_outputs):
        activation.forward(element(f, f.buf.scores, j * f.net.capacity + r0), NULL, n)


cdef void predict_share(void *argument, int worker, int n_workers) noexcept nogil:
    """This worker's rows, block by block, in its own part of the buffers."""
    cdef Prediction *job = <Prediction *>argument
    cdef Plan *f = job.plan
    cdef int64_t group = f.net.group, n = f.net.n_outputs
    cdef int64_t block = f.net.capacity // group // n_workers * group, r0 = worker * block
    cdef int64_t first = job.n_rows * worker // n_workers
    cdef int64_t end = job.n_rows * (worker + 1) // n_workers, rows
    cdef uint64_t float_state = fb_flush_subnormals()
    begin_rounded(f)
    while first < end:
        rows = min(block, end - first)
        gather_rows(f, first - r0, r0, rows)
        forward_rows(f, 0, first - r0, r0, rows)
        if f.net.layers[f.net.n_layers - 1].activation != NULL:
            activate_scores(f, r0, rows)
        f.net.kernels.columns_to_rows(element(f, f.buf.scores, r0), f.net.capacity,
                                      element(f, job.out, first * n), rows, n)
        first += rows
    end_rounded(f)
    fb_restore_float_state(float_state)


cdef run_prediction(Plan *f, out, int n_threads, bint forced):
    """All rows of the bound X into out. Starting and joining a worker costs about 0.1 ms: threads
    are used from 0.3 ms of work each."""
    cdef Prediction job
    cdef double work_us
    cdef fb_team *team = f.team
    job.plan, job.n_rows, job.out = f, f.call.n_samples, bytes_of(out)
    work_us = <double>job.n_rows * f.net.cost / (4.8e3 * f.net.lanes)
    if not forced:
        n_threads = <int>min(<double>n_threads // max(1, fb_running_fits(0)), work_us / 300)
    n_threads = <int>max(1, min(n_threads, f.net.capacity // f.net.group))
    with nogil:
        if n_threads > 1 and team == NULL:
            team = fb_team_start(n_threads)
        if n_threads > 1 and team != NULL:
            fb_team_run(team, predict_share, &job, min(n_threads, fb_team_size(team)))
            if f.team == NULL:
                fb_team_stop(team)
        else:
            predict_share(&job, 0, 1)


cdef set_flat_layer(Plan *f, Memory memory, Layer *layer, W, b):
    """Read the weights where they are; only a last panel that is not whole, and the biases, are
    copied to a padded place."""
    cdef int64_t P = f.net.lanes, k, rest = layer.n_out % P
    layer.w, layer.w_row, layer.w_panel = bytes_of(W), layer.n_out, P
    layer.weight_size = layer.n_in * layer.n_out
    layer.b = take(f, memory, layer.out_panels * P)
    memcpy(layer.b, bytes_of(b), size_of(f, layer.n_out))
    if rest and not layer.sparse:
        layer.tail = take(f, memory, layer.n_in * P)
        for k in range(layer.n_in):
            memcpy(element(f, layer.tail, k * P),
                   element(f, layer.w, (k + 1) * layer.n_out - rest), size_of(f, rest))


cdef set_packed_layer(Plan *f, Memory memory, Layer *layer, W, b):
    """Copy the weights into panels."""
    layer.w = take(f, memory, layer.weight_size + layer.out_panels * f.net.lanes)
    layer.b = element(f, layer.w, layer.weight_size)
    copy_weights(f, layer, layer.w, bytes_of(W), False)
    memcpy(layer.b, bytes_of(b), size_of(f, layer.n_out))


cdef set_fitted_layer(Plan *f, Memory memory, Layer *layer, W, b, int64_t n_rows):
    if layer.rounded or layer.narrow or (n_rows >= 32 and not layer.sparse):
        set_packed_layer(f, memory, layer, W, b)
    else:
        set_flat_layer(f, memory, layer, W, b)
    if layer.rounded:
        take_rounded_weights(f, memory, layer, False)
        round_weights(f, layer, 0, layer.n_in, 0, layer.out_panels)


cdef lay_out_prediction(Plan *f, Memory memory, coefs, intercepts, activations, bint sparse,
                        int64_t n_rows, int n_threads, precision):
    """A plan with weights and two activation buffers only. Few rows read the flat weights in place
    (packing costs more than it saves), more rows a packed copy; the bits are the same."""
    cdef int l
    cdef int64_t widest = 1
    cdef Layer *layer
    cdef char *buffers[2]
    f.net.itemsize, f.net.lanes = f.net.kernels.itemsize, f.net.kernels.lanes
    f.net.n_layers = len(coefs)
    f.net.layers = <Layer *>memory.take(f.net.n_layers * sizeof(Layer))
    f.net.n_packed = 0
    f.net.cost = 0
    for l in range(f.net.n_layers):
        layer = &f.net.layers[l]
        n_in, n_out = coefs[l].shape
        set_layer(f, l, n_in, n_out, l == f.net.n_layers - 1, sparse and l == 0)
        f.net.cost += layer.n_in * layer.out_panels * f.net.lanes
        widest = max(widest, layer.out_panels)
    choose_precision(f, precision, PREDICTION_ROWS)
    f.net.capacity = spread_capacity(min(n_rows, 128 * n_threads), f.net.group)
    f.net.panel = f.net.capacity * f.net.lanes
    for l in range(f.net.n_layers):
        layer = &f.net.layers[l]
        set_fitted_layer(f, memory, layer, coefs[l], intercepts[l], n_rows)
        if l < len(activations):
            layer.activation = find_activation(f.net.kernels, activations[l], memory)
    f.net.n_features, f.net.n_outputs = coefs[0].shape[0], coefs[-1].shape[1]
    buffers[0] = take(f, memory, widest * f.net.panel)
    buffers[1] = take(f, memory, widest * f.net.panel)
    for l in range(f.net.n_layers):
        f.net.layers[l].a = buffers[l & 1]
    f.buf.a0 = take(f, memory, 1 if sparse else f.net.layers[0].in_panels * f.net.panel)
    f.buf.scores = take(f, memory, round_up(f.net.n_outputs, f.net.lanes) * f.net.capacity)
    if f.net.bf16 != NULL:
        take_rounded_rows(f, memory)


def predict_into(coefs, intercepts, activations, X, out, n_threads=1, matmul_precision="highest"):
    """Raw scores of X straight from fitted arrays; whether all are finite."""
    cdef Plan plan
    cdef Memory memory = Memory()
    cdef bint sparse = not isinstance(X, np.ndarray)
    cdef int ceiling = max(1, min(int(n_threads), FB_TEAM_MAX)), number
    fits = are_layers(coefs, intercepts) and 0 <= len(coefs) - len(activations) <= 1
    if not fits:
        contract.check_prediction(fits)
    if matmul_precision != "highest":
        contract.check_matmul_precision(matmul_precision)
    first, last, number = coefs[0], coefs[-1], cnp.PyArray_TYPE(coefs[0])
    memset(&plan, 0, sizeof(Plan))
    plan.net.kernels = fb_find_kernels(chosen, 4 if number == cnp.NPY_FLOAT else 8)
    # One row costs less than the questions do in Python: these are asked where something is wrong.
    if not (is_matrix(out, number, cnp.PyArray_DIM(last, 1)) and cnp.PyArray_ISWRITEABLE(out)
            and X.shape[0] == cnp.PyArray_DIM(out, 0)):
        contract.check_output(X, out, first.dtype, last.shape[1])
    if sparse:
        contract.check_csr(X, first.dtype, first.shape[0])
        plan.call.csr = csr_of(X)
    else:
        if not is_matrix(X, number, cnp.PyArray_DIM(first, 0)):
            contract.check_matrix(X, first.dtype, first.shape[0])
        plan.call.x = bytes_of(X)
    plan.call.n_rows = plan.call.n_samples = X.shape[0]
    lay_out_prediction(&plan, memory, coefs, intercepts, activations, sparse, X.shape[0], ceiling,
                       matmul_precision)
    run_prediction(&plan, out, ceiling, False)
    return bool(plan.net.kernels.all_finite(bytes_of(out),
                                            plan.call.n_samples * plan.net.n_outputs))


def predict_members_into(coefs, intercepts, scales, member_coefs, member_intercepts, activations, X,
                         out, n_threads=1, continues=None, matmul_precision="highest"):
    """Raw scores of all members straight from fitted arrays; whether all are finite."""
    contract.check_matmul_precision(matmul_precision)
    contract.check_prediction(are_layers(coefs, intercepts))
    fitted = coefs, intercepts, scales, member_coefs, member_intercepts
    if not (len(coefs) == len(activations) and are_members(coefs, scales, member_coefs,
                                                           member_intercepts)
            and is_csr(X, cnp.PyArray_TYPE(scales), cnp.PyArray_DIM(scales, 1))
            and is_plain(out, 3, cnp.PyArray_TYPE(scales)) and cnp.PyArray_ISWRITEABLE(out)
            and out.shape == (scales.shape[0], X.shape[0], member_coefs.shape[2])):
        contract.check_members_prediction(fitted, activations, X, out, continues)
    elif continues is not None:
        contract.check_continues(continues, X.shape[1], True, len(scales))
    if isinstance(X, np.ndarray):
        return members.predict_members_into(predict_into, fitted, activations, X, out, n_threads,
                                            matmul_precision)
    return predict_members_over_csr(fitted, activations, X, out, max(1, int(n_threads)), continues,
                                    matmul_precision)


cdef inline int64_t stored_index(const void *indices, int index_bytes, int64_t j) noexcept nogil:
    if index_bytes == 8:
        return (<const int64_t *>indices)[j]
    return (<const int32_t *>indices)[j]


cdef int32_t *find_slots(Memory memory, fb_csr *x, int64_t n_rows, const uint8_t *continues,
                         int64_t n, int64_t *n_slots) except NULL:
    """Number the rows of a first layer that a few rows of CSR read, and let x name these numbers.
    Rows before them in their runs share the next one's; what nobody reads has -1."""
    cdef int64_t begin = stored_index(x.indptr, x.index_bytes, 0), j, k
    cdef int64_t end = stored_index(x.indptr, x.index_bytes, n_rows)
    cdef int32_t *slots = <int32_t *>memory.take(n * sizeof(int32_t))
    cdef char *renamed = memory.take(max(end, 1) * x.index_bytes)
    cdef int32_t count = 0, read = 1, passed = 2
    for j in range(begin, end):
        slots[stored_index(x.indices, x.index_bytes, j)] = read
    for k in range(n - 1, 0, -1):
        if continues[k] and slots[k] and not slots[k - 1]:
            slots[k - 1] = passed
    for k in range(n):
        if slots[k] == read:
            slots[k] = count
            count += 1
        else:
            slots[k] = count if slots[k] == passed else -1
    for j in range(begin, end):
        k = slots[stored_index(x.indices, x.index_bytes, j)]
        if x.index_bytes == 8:
            (<int64_t *>renamed)[j] = k
        else:
            (<int32_t *>renamed)[j] = <int32_t>k
    x.indices = renamed
    n_slots[0] = count
    return slots


cdef void write_few_rows(Plan *f, const char *W, scales, const uint8_t *runs, const int32_t *slots,
                         char *v, int64_t member_size):
    """W_m of all members where few rows of it are read, some rows at a time: W comes from memory
    once. (A run that a piece ends in goes on in the next.)"""
    cdef int64_t n_in = f.net.layers[0].n_in, n_out = f.net.layers[0].n_out, k = 0, end
    cdef const char *r = bytes_of(scales)
    cdef int m, n_members = len(scales)
    while k < n_in:
        end = min(k + FEW_ROWS, n_in)
        for m in range(n_members):
            f.net.kernels.run_rows(element(f, W, k * n_out), n_out, element(f, r, m * n_in + k),
                                   runs + k, slots + k, element(f, v, m * member_size), end - k,
                                   n_out)
        k = end


cdef bint predict_members_over_csr(fitted, activations, X, out, int n_threads, continues,
                                   precision) except -1:
    """Each member in turn: its first layer's weights (see members.h), then a usual prediction."""
    cdef Plan plan
    cdef Plan *f = &plan
    cdef Memory memory = Memory()
    cdef Layer *layer
    cdef const uint8_t *runs
    cdef int32_t *slots = NULL
    cdef char *v
    cdef const char *W
    cdef int ceiling = min(n_threads, FB_TEAM_MAX), m
    cdef bint finite = True
    cdef int64_t n_rows = X.shape[0], n_read
    coefs, intercepts, scales, member_coefs, member_intercepts = fitted
    memset(f, 0, sizeof(Plan))
    f.net.kernels = fb_find_kernels(chosen, scales.dtype.itemsize)
    f.call.csr = csr_of(X)
    f.call.n_rows = f.call.n_samples = n_rows
    lay_out_prediction(f, memory, [*coefs, member_coefs[0]], [*intercepts, member_intercepts[0]],
                       activations, True, n_rows, ceiling, precision)
    layer, W = &f.net.layers[0], bytes_of(coefs[0])
    runs = (<uint8_t *>bytes_of(continues) if continues is not None
            else <uint8_t *>memory.take(layer.n_in))
    if n_rows < FEW_ROWS:
        slots = find_slots(memory, &f.call.csr, n_rows, runs, layer.n_in, &n_read)
        layer.weight_size = n_read * layer.n_out
        v = take(f, memory, len(scales) * layer.weight_size + 1)
        write_few_rows(f, W, scales, runs, slots, v, layer.weight_size)
    else:
        layer.w = v = take(f, memory, layer.weight_size)
    for m in range(len(scales)):
        if slots != NULL:
            layer.w = element(f, v, m * layer.weight_size)
        else:
            f.net.kernels.run_rows(W, layer.n_out, bytes_of(scales[m]), runs, NULL, v, layer.n_in,
                                   layer.n_out)
        if m > 0:
            set_fitted_layer(f, memory, &f.net.layers[f.net.n_layers - 1], member_coefs[m],
                             member_intercepts[m], n_rows)
        run_prediction(f, out[m], ceiling, False)
        finite = finite and f.net.kernels.all_finite(bytes_of(out[m]), n_rows * f.net.n_outputs)
    return finite
