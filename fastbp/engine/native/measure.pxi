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


cdef void meet_often(void *argument, int member, int n_members) noexcept nogil:
    cdef int64_t i
    for i in range(1000):
        fb_team_barrier(<fb_team *>argument, member, 0)


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
    cdef const fb_kernels *k = fb_find_kernels(chosen, np.dtype(dtype).itemsize)
    cdef int64_t P = k.lanes, size = k.itemsize, capacity = spread_capacity(M, P)
    cdef int64_t panel = capacity * P, ks = round_up(K, P) // P, ns = round_up(N, P) // P
    cdef Memory memory = Memory()
    cdef bint narrow = is_narrow(N, P)
    cdef char *a = memory.take(ks * panel * size)
    cdef char *c = memory.take(max(ns, ks) * panel * size)
    cdef char *w = memory.take(max(round_up(K, P) * ns * P, M * max(N, K)) * size)
    cdef char *b = memory.take(max(ns * P, capacity) * size)  # biases, or targets
    cdef char *weights = memory.take(capacity * size)
    cdef char *delta = NULL
    cdef double *row_loss = <double *>memory.take(capacity * 8)
    cdef double[FB_MAX_HYPER] hyper
    cdef double[FB_MAX_CONSTANTS] h
    cdef int64_t i, p, q, start
    cdef const fb_activation *activation = k.activations
    cdef const fb_optimizer *optimizer = k.optimizers
    cdef uint64_t float_state = fb_flush_subnormals()
    # Noise in all that is read and written: a page never written to is slow under masked stores.
    noise = np.random.RandomState(0).uniform(-1, 1, max(ns, ks) * panel).astype(dtype)
    memcpy(a, cnp.PyArray_DATA(noise), ks * panel * size)
    memcpy(c, cnp.PyArray_DATA(noise), max(ns, ks) * panel * size)
    kinds = {"forward": 0, "weight_gradient": 1, "input_gradient": 2, "gather": 3,
             "softmax_cross_entropy": 4, "squared_error": 4}
    cdef int kind = kinds.get(name, 5)
    cdef const fb_loss *loss = k.losses + (0 if name == "squared_error" else 3)
    cdef void (*forward)(void *, void *, int64_t) noexcept nogil
    cdef void (*slope)(void *, const void *, int64_t) noexcept nogil
    forward, slope = NULL, NULL
    if kind == 5:
        function, _, part = name.partition(" ")
        while activation.name != NULL and activation.name != function.encode():
            activation += 1
        forward, slope = activation.forward, activation.slope
        if addresses is not None:
            forward = <void (*)(void *, void *, int64_t) noexcept nogil><size_t>addresses["forward"]
            slope = <void (*)(void *, const void *, int64_t) noexcept nogil><size_t>(
                addresses["slope"])
        if activation.name == NULL:
            kind = 6
            while optimizer.name != NULL and optimizer.name != function.encode():
                optimizer += 1
            if optimizer.name == NULL:
                raise ValueError(f"no kernel {name!r}")
        elif part == "training":
            kind = 7
            delta = memory.take(ns * panel * size)
            memcpy(delta, c, ns * panel * size)
    hyper[0], hyper[1], hyper[2], hyper[3] = 0.9, 0.999, 1e-8, 0.01
    if name == "sgd plain":
        hyper[0] = 0
    if kind == 6:
        optimizer.prepare(hyper, 1e-3, 10, h)
        c = memory.take(4 * M * N * size + 4096)
    start = fb_clock_ns()
    with nogil:
        for i in range(repeats):
            if kind == 0 and narrow:
                k.narrow_product(a, panel, w, b, c, capacity, M, K, N)
            elif kind == 0:
                k.product(a, panel, 0, w, P, K * P, b, c, panel, NULL, 2, M, K, ns)
            elif kind == 1 and narrow:
                k.narrow_gradient(c, capacity, a, panel, w, NULL, M, N, ks, 0)
            elif kind == 1:
                for q in range((ns + 2) // 3):
                    p = 3 * q
                    k.weight_gradient(a, panel, c + p * panel * size, panel, w + p * K * P * size,
                                      K * P, NULL, M, K, min(3, ns - p), 0)
            elif kind == 2 and narrow:
                k.product(c, capacity, 1, w, P, N * P, NULL, a, panel, a, 3, M, N, ks)
            elif kind == 2:
                k.product(c, panel, 0, w, P, ns * P * P, NULL, a, panel, a, 3, M, N, ks)
            elif kind == 3:
                k.gather(w, w + M * N * size, N, NULL, M, N, c, panel)
            elif kind == 4:
                loss.loss(b, c, weights, 1.0, row_loss, capacity, M, N, hyper)
            elif kind == 5:
                forward(c, NULL, M * N // P * P)
            elif kind == 7:
                forward(c, w, M * N // P * P)
                slope(delta, w, M * N // P * P)
            else:
                optimizer.update(c, c + M * N * size, c + 2 * M * N * size, c + 3 * M * N * size,
                                 M * N // P * P, 0, h)
    fb_restore_float_state(float_state)
    return (fb_clock_ns() - start) * 1e-9 / repeats
