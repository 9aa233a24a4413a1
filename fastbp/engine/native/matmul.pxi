# In which precision matrix products are made, and by which path of bf16.h: the best the processor
# runs, or the one that FASTBP_MATMUL_PATH or set_matmul_path names. Which layers take it is decided
# here, by shapes and the path alone.

cdef int matmul_path = -1        # index of a path; -1: none

cdef enum:
    TRAINING_PASSES = 3          # products of a layer's weights in a step: forward, and two back
    MOST_TERMS = 2


def supported_matmul_paths():
    """Names of the ways of making products less precise that run here, best first."""
    return [fb_bf16_path(i).path.decode() for i in range(fb_n_bf16_paths())] + ["none"]


def get_matmul_path():
    """Name of the way in which new sessions and predictions make products less precise."""
    return supported_matmul_paths()[matmul_path]


def set_matmul_path(name):
    """Use one way from now on; sessions keep what they started with."""
    global matmul_path
    names = supported_matmul_paths()
    contract.check_matmul_path(name, names)
    number = names.index(name)
    matmul_path = number if number < fb_n_bf16_paths() else -1


fb_n_bf16_paths()
if fb_bf16_is_fast(0):
    matmul_path = 0
choose_as_told("FASTBP_MATMUL_PATH", set_matmul_path)


def precision_of_inputs(layer_sizes, batch_size, matmul_precision):
    """In which precision the first layer reads dense float32 X, in minibatches of so many rows."""
    cdef Plan plan
    cdef Memory memory = Memory()
    cdef int l
    contract.check_matmul_precision(matmul_precision)
    memset(&plan, 0, sizeof(Plan))
    plan.net.kernels = fb_find_kernels(chosen, 4)
    plan.net.itemsize, plan.net.lanes = plan.net.kernels.itemsize, plan.net.kernels.lanes
    plan.net.n_layers = len(layer_sizes) - 1
    plan.net.layers = <Layer *>memory.take(plan.net.n_layers * sizeof(Layer))
    for l in range(plan.net.n_layers):
        set_layer(&plan, l, layer_sizes[l], layer_sizes[l + 1], l == plan.net.n_layers - 1, False)
    choose_precision(&plan, matmul_precision, rows_of_a_block(batch_size))
    return precision_of(&plan) if plan.net.layers[0].rounded else PRECISIONS[0]


cdef choose_precision(Plan *f, precision, int64_t rows):
    """Which layers' products are rounded, of those that are laid out: all dense ones that are not
    narrow and have some inputs, if steps on so many rows are large enough for the path; where they
    are not, those of the next more precise kind."""
    cdef const fb_bf16 *path = fb_bf16_path(matmul_path) if matmul_path >= 0 else NULL
    cdef int terms, l
    cdef double work = 0
    f.net.group = f.net.lanes
    if precision == PRECISIONS[0] or path == NULL or f.net.itemsize != 4 or rows < path.least_rows:
        return
    terms = MOST_TERMS + 1 - PRECISIONS.index(precision)
    for l in range(f.net.n_layers):
        if may_be_rounded(path, &f.net.layers[l]):
            work += 2e-6 * TRAINING_PASSES * rows * f.net.layers[l].n_in * f.net.layers[l].n_out
    while terms <= MOST_TERMS and not 0 <= path.least_work[terms - 1] <= work:
        terms += 1
    if work == 0 or terms > MOST_TERMS or not fb_bf16_is_allowed(path):
        return
    f.net.bf16, f.net.terms, f.net.group = path, terms, path.group
    for l in range(f.net.n_layers * max(1, f.net.n_members)):
        f.net.layers[l].rounded = may_be_rounded(path, &f.net.layers[l])


cdef bint may_be_rounded(const fb_bf16 *path, Layer *layer) noexcept:
    return not (layer.narrow or layer.sparse) and layer.n_in >= path.least_inputs


cdef str precision_of(Plan *f):
    """What is in force: "highest" where no layer is rounded."""
    return PRECISIONS[0 if f.net.bf16 == NULL else MOST_TERMS + 1 - f.net.terms]


cdef uint16_t *take_operand(Memory memory, int64_t n) except NULL:
    """Room for n numbers of bfloat16, all 0."""
    return <uint16_t *>memory.take(2 * n)


cdef take_rounded_weights(Plan *f, Memory memory, Layer *layer, bint across):
    layer.w_pairs = take_operand(memory, layer.out_panels * weight_panel(f, layer.n_in))
    if across:
        layer.w_across = take_operand(memory, layer.in_panels * weight_panel(f, layer.n_out))


cdef take_rounded_rows(Plan *f, Memory memory):
    """Where layers find their inputs: one place for all, but for a first layer whose input must
    stay, for other workers' columns or for other members."""
    cdef int l
    cdef int64_t widest = 0
    cdef Layer *layer
    for l in range(f.net.n_layers):
        layer = &f.net.layers[l]
        if layer.rounded:
            widest = max(widest, layer.n_in, layer.n_out)
    f.buf.rows = take_operand(memory, whole_steps(widest) // 32 * row_panel(f))
    for l in range(f.net.n_layers):
        f.net.layers[l].rows = f.buf.rows
    layer = &f.net.layers[0]
    if layer.rounded and (f.net.by_columns or f.net.n_members > 0):
        layer.rows = take_operand(memory, whole_steps(layer.n_in) // 32 * row_panel(f))


cdef take_operands(Plan *f, Memory memory):
    """Every rounded operand of a fit, but the weights of members."""
    cdef int l
    cdef Layer *layer
    if f.net.bf16 == NULL:
        return
    take_rounded_rows(f, memory)
    for l in range(f.net.n_layers):
        layer = &f.net.layers[l]
        if layer.rounded:
            take_rounded_weights(f, memory, layer, l > 0)
            layer.left = take_operand(memory, layer.in_panels * pair_panel(f))
            layer.delta_pairs = take_operand(memory, layer.out_panels * pair_panel(f))
