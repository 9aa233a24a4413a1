# Timing of single kernels and of the barrier, for bench/: what a kernel reaches beside the
# multiply-add peak measured in the same run. Nothing else calls this.

def multiply_add_peak(dtype, seconds=0.02):
    """Multiply-adds of one core on the calling thread, GFLOP/s: best of the rounds in `seconds`."""
    cdef const fb_kernels *k = fb_find_kernels(chosen, np.dtype(dtype).itemsize)
    cdef int64_t start = fb_clock_ns(), before, end = start + <int64_t>(seconds * 1e9), now = start
    cdef double best = 0, flops
    with nogil:
        while now < end:
            before = now
            flops = k.peak(20_000)
            now = fb_clock_ns()
            best = max(best, flops / <double>(now - before))
    return best


cdef void meet_often(void *argument, int worker, int n_workers) noexcept nogil:
    cdef int64_t i
    for i in range(1000):
        fb_team_barrier(<fb_team *>argument, worker, 0)


def barrier_ns(int n_threads, seconds=0.01):
    """Nanoseconds of one barrier of so many threads: best of the runs in `seconds`."""
    cdef fb_team *team
    cdef int64_t before, now = fb_clock_ns(), end = now + <int64_t>(seconds * 1e9)
    cdef double best = float("inf")
    with nogil:
        team = fb_team_start(n_threads)
        while team != NULL and now < end:
            before = now
            fb_team_run(team, meet_often, team, fb_team_size(team))
            now = fb_clock_ns()
            best = min(best, <double>(now - before) / 1000)
        if team != NULL:
            fb_team_stop(team)
    return best


cdef enum:
    FORWARD, WEIGHT_GRADIENT, INPUT_GRADIENT, GATHER, LOSS, ACTIVATION, TRAINED_ACTIVATION
    OPTIMIZER


cdef struct Trial:               # one kernel and what it works on
    const fb_kernels *k
    int kind
    bint narrow
    int64_t M, N, K, capacity, panel, ks, ns
    char *a
    char *c
    char *w
    char *b                      # biases, or targets
    char *weights
    char *delta
    double *row_loss
    double hyper[FB_MAX_HYPER]
    double h[FB_MAX_CONSTANTS]
    const fb_loss *loss
    const fb_optimizer *optimizer
    void (*forward)(void *, void *, int64_t) noexcept nogil
    void (*slope)(void *, const void *, int64_t) noexcept nogil


cdef void multiply_once(Trial *t) noexcept nogil:
    cdef const fb_kernels *k = t.k
    cdef int64_t P = k.lanes, size = k.itemsize, p, q
    if t.kind == FORWARD and t.narrow:
        k.narrow_product(t.a, t.panel, t.w, t.b, t.c, t.capacity, t.M, t.K, t.N)
    elif t.kind == FORWARD:
        k.product(t.a, t.panel, 0, t.w, P, t.K * P, t.b, t.c, t.panel, NULL, FB_RELU, t.M, t.K,
                  t.ns)
    elif t.kind == WEIGHT_GRADIENT and t.narrow:
        k.narrow_gradient(t.c, t.capacity, t.a, t.panel, t.w, NULL, t.M, t.N, t.ks, 0)
    elif t.kind == WEIGHT_GRADIENT:
        for q in range((t.ns + 2) // 3):
            p = 3 * q
            k.weight_gradient(t.a, t.panel, t.c + p * t.panel * size, t.panel,
                              t.w + p * t.K * P * size, t.K * P, NULL, t.M, t.K,
                              min(3, t.ns - p), 0)
    elif t.narrow:
        k.product(t.c, t.capacity, 1, t.w, P, t.N * P, NULL, t.a, t.panel, t.a, FB_GATE, t.M, t.N,
                  t.ks)
    else:
        k.product(t.c, t.panel, 0, t.w, P, t.ns * P * P, NULL, t.a, t.panel, t.a, FB_GATE, t.M,
                  t.N, t.ks)


cdef void run_once(Trial *t) noexcept nogil:
    cdef int64_t step = t.M * t.N * t.k.itemsize, whole = t.M * t.N // t.k.lanes * t.k.lanes
    if t.kind <= INPUT_GRADIENT:
        multiply_once(t)
    elif t.kind == GATHER:
        t.k.gather(t.w, t.w + step, t.N, NULL, t.M, t.N, t.c, t.panel)
    elif t.kind == LOSS:
        t.loss.loss(t.b, t.c, t.weights, 1.0, t.row_loss, t.capacity, t.M, t.N, t.hyper)
    elif t.kind == ACTIVATION:
        t.forward(t.c, NULL, whole)
    elif t.kind == TRAINED_ACTIVATION:
        t.forward(t.c, t.w, whole)
        t.slope(t.delta, t.w, whole)
    else:
        t.optimizer.update(t.c, t.c + step, t.c + 2 * step, t.c + 3 * step, whole, 0, t.h)


cdef take_trial(Trial *t, Memory memory, dtype):
    """Buffers with noise in all that is read and written: a page never written to is slow under
    masked stores."""
    cdef int64_t P = t.k.lanes, size = t.k.itemsize, n
    t.capacity = spread_capacity(t.M, P)
    t.panel = t.capacity * P
    t.ks, t.ns = round_up(t.K, P) // P, round_up(t.N, P) // P
    t.narrow = is_narrow(t.N, P)
    n = max(t.ns, t.ks) * t.panel
    t.a = memory.take(t.ks * t.panel * size)
    t.c = memory.take(n * size)
    t.w = memory.take(max(round_up(t.K, P) * t.ns * P, t.M * max(t.N, t.K)) * size)
    t.b = memory.take(max(t.ns * P, t.capacity) * size)
    t.weights = memory.take(t.capacity * size)
    t.row_loss = <double *>memory.take(t.capacity * 8)
    noise = np.random.RandomState(0).uniform(-1, 1, n).astype(dtype)
    memcpy(t.a, bytes_of(noise), t.ks * t.panel * size)
    memcpy(t.c, bytes_of(noise), n * size)
    t.hyper[0], t.hyper[1], t.hyper[2], t.hyper[3] = 0.9, 0.999, 1e-8, 0.01


cdef choose_function(Trial *t, Memory memory, name, addresses):
    """The activation or optimiser of a name."""
    cdef const fb_activation *activation = t.k.activations
    function, _, part = name.partition(" ")
    while activation.name != NULL and activation.name != function.encode():
        activation += 1
    t.kind, t.forward, t.slope = ACTIVATION, activation.forward, activation.slope
    if addresses is not None:
        t.forward = <void (*)(void *, void *, int64_t) noexcept nogil><size_t>addresses["forward"]
        t.slope = <void (*)(void *, const void *, int64_t) noexcept nogil><size_t>(
            addresses["slope"])
    if activation.name == NULL:
        t.kind, t.optimizer = OPTIMIZER, t.k.optimizers
        while t.optimizer.name != NULL and t.optimizer.name != function.encode():
            t.optimizer += 1
        if t.optimizer.name == NULL:
            raise ValueError(f"no kernel {name!r}")
        if part == "plain":
            t.hyper[0] = 0
        t.optimizer.prepare(t.hyper, 1e-3, 10, t.h)
        t.c = memory.take(4 * t.M * t.N * t.k.itemsize + 4096)
    elif part == "training":
        t.kind = TRAINED_ACTIVATION
        t.delta = memory.take(t.ns * t.panel * t.k.itemsize)
        memcpy(t.delta, t.c, t.ns * t.panel * t.k.itemsize)


def kernel_bench(name, dtype, int64_t M, int64_t N, int64_t K, int64_t repeats, addresses=None):
    """Seconds per call of one kernel on M rows, N columns and, for products, K inner columns.

    Parameters
    ----------
    name : str
        "forward", "weight_gradient", "input_gradient", "gather", "softmax_cross_entropy",
        "squared_error", or the name of an optimiser ("sgd plain" has no momentum) or of an
        activation: "tanh" as predictions compute it, "tanh training" with what a training step does
        besides, keeping slopes and multiplying a delta by them.
    addresses : dict or None
        Of loops "forward" and "slope" in place of the activation's own.
    """
    cdef Trial trial
    cdef Memory memory = Memory()
    cdef int64_t i, start
    cdef uint64_t float_state
    memset(&trial, 0, sizeof(Trial))
    trial.k = fb_find_kernels(chosen, np.dtype(dtype).itemsize)
    trial.M, trial.N, trial.K = M, N, K
    take_trial(&trial, memory, dtype)
    kinds = {"forward": FORWARD, "weight_gradient": WEIGHT_GRADIENT,
             "input_gradient": INPUT_GRADIENT, "gather": GATHER, "softmax_cross_entropy": LOSS,
             "squared_error": LOSS}
    trial.loss = trial.k.losses + (0 if name == "squared_error" else 3)
    if name in kinds:
        trial.kind = kinds[name]
    else:
        choose_function(&trial, memory, name, addresses)
    float_state = fb_flush_subnormals()
    start = fb_clock_ns()
    with nogil:
        for i in range(repeats):
            run_once(&trial)
    fb_restore_float_state(float_state)
    return (fb_clock_ns() - start) * 1e-9 / repeats
