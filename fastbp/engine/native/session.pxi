# Sessions: what a caller may do with a fit, and in which order it happens.


cdef int mersenne_known = -1


cdef bint mersenne_is_known():
    """Whether the state behind NumPy's MT19937 has the form of `fb_mt19937` (asked once)."""
    global mersenne_known
    cdef bitgen_t *bits
    cdef fb_mt19937 *state
    if mersenne_known < 0:
        generator = np.random.MT19937(0)
        bits = <bitgen_t *>PyCapsule_GetPointer(generator.capsule, "BitGenerator")
        state = <fb_mt19937 *>bits.state
        said = generator.state["state"]
        mersenne_known = state.pos == said["pos"] and all(
            state.key[i] == said["key"][i] for i in range(FB_MT_WORDS))
    return mersenne_known


cdef class Session:
    """`contract.Session` on the engine's own threads: parameters are packed for the kernels."""

    cdef Plan plan
    cdef Memory memory
    cdef tuple layer_sizes
    cdef object dtype, lock, shuffler
    cdef public object stop_signal
    cdef int n_threads, ceiling, n_members
    cdef readonly int64_t n_params
    cdef bint forced, closed
    cdef int64_t process
    cdef readonly int64_t epochs_done
    cdef readonly bint finite

    def __cinit__(self):
        self.plan.now = &self.plan.progress

    def __init__(self, layer_sizes, activations, loss, *, dtype, params, batch_size, n_threads=1,
                 sparse=False, n_members=None, continues=None, matmul_precision="highest"):
        contract.check_matmul_precision(matmul_precision)
        self.lock = threading.Lock()
        self.layer_sizes = tuple(int(n) for n in layer_sizes)
        self.dtype = np.dtype(dtype)
        contract.check_network(self.layer_sizes, activations, loss, self.dtype, params, n_members)
        self.n_members, self.n_params = n_members or 0, len(params)
        self.n_threads = self.ceiling = max(1, min(int(n_threads), FB_TEAM_MAX))
        self.process = os.getpid()
        self.finite = True
        self.memory = Memory()
        contract.check_continues(continues, self.layer_sizes[0], sparse, n_members)
        lay_out(self, activations, loss, int(batch_size), bool(sparse), matmul_precision)
        if continues is not None:
            memcpy(self.plan.buf.continues, bytes_of(continues), self.layer_sizes[0])
        pack(&self.plan, self.plan.buf.w, bytes_of(params))
        refresh_copies(&self.plan)

    def __dealloc__(self):
        self.end_team()

    cdef end_team(self):
        if self.plan.team != NULL:
            if self.process == os.getpid():
                with nogil:
                    fb_team_stop(self.plan.team)
            else:
                fb_team_forget(self.plan.team)
            self.plan.team = NULL

    def close(self):
        """End the workers; the memory goes with the object."""
        with self.lock:
            self.end_team()
            self.closed = True

    @property
    def matmul_precision(self):
        return precision_of(&self.plan)

    @property
    def t(self):
        return self.plan.now.t

    def force_threads(self, n_threads):
        """Run every epoch on exactly this many threads."""
        cdef int exact = max(1, min(n_threads, FB_TEAM_MAX))
        with self.lock:
            self.plan.buf.scratch = self.memory.take(self.plan.buf.scratch_size * exact)
            self.n_threads = self.ceiling = exact
            self.forced = True
            self.end_team()

    def limit_threads(self, n_threads):
        """Use at most so many threads from now on, and never more than at first."""
        cdef int ceiling = max(1, min(n_threads, self.n_threads))
        with self.lock:
            if self.forced:
                return
            if ceiling > self.ceiling:     # the team may be too small
                self.end_team()
            self.ceiling = ceiling

    def set_optimizer(self, optimizer, hyperparameters, slots=None, t=0, *, max_grad_norm=None,
                      ema_decay=None, average=None):
        """Take the optimiser's entry, its hyper-parameters and its state."""
        contract.check_optimizer(optimizer, slots, self.n_params, self.dtype)
        if average is not None:
            contract.check_params(average, self.n_params, self.dtype)
        numbers = contract.read_hyperparameters(optimizer, hyperparameters, self.dtype)
        with self.lock:
            self.plan.opt.loops = NULL     # until all of its memory is there
            self.plan.opt.max_norm = max_grad_norm or 0.0
            if self.plan.opt.max_norm > 0 and self.plan.buf.gradient_squares == NULL:
                self.plan.buf.gradient_squares = <double *>self.memory.take(
                    self.plan.net.n_units * DOUBLES_PER_LINE * sizeof(double))
            if ema_decay is not None:
                self.take_average(ema_decay, average)
            self.take_optimizer(optimizer, numbers, slots, t)

    cdef take_optimizer(self, optimizer, numbers, slots, int64_t t):
        cdef Plan *f = &self.plan
        cdef const fb_optimizer *loops = find_optimizer(f.net.kernels, optimizer, self.memory)
        f.opt.decay = -1
        for i, name in enumerate(optimizer.hyperparameters):
            f.opt.hyper[i] = numbers[i]
            if name == optimizer.decay:
                f.opt.decay = i
        f.now.t = t
        for i in range(loops.n_slots):
            if f.buf.slots[i] == NULL:
                f.buf.slots[i] = take(f, self.memory, f.net.n_packed)
            else:
                memset(f.buf.slots[i], 0, size_of(f, f.net.n_packed))
            if slots is not None:
                pack(f, f.buf.slots[i], bytes_of(slots[i]))
        f.opt.loops = loops

    cdef take_average(self, double ema_decay, average):
        cdef Plan *f = &self.plan
        f.opt.ema_decay = ema_decay
        if f.buf.average == NULL:
            f.buf.average = take(f, self.memory, f.net.n_packed)
        memcpy(f.buf.average, f.buf.w, size_of(f, f.net.n_packed))
        if average is not None:
            pack(f, f.buf.average, bytes_of(average))

    def set_dropout(self, rates, seed):
        """Leave hidden units out of training steps."""
        layers = contract.read_dropout(rates, len(self.layer_sizes) - 2)
        with self.lock:
            self.plan.opt.seed = seed
            self.plan.opt.dropout = any(threshold > 0 for threshold, _ in layers)
            for l, (threshold, scale) in enumerate(layers):
                self.drop_from(&self.plan.net.layers[l], threshold, scale)
            self.let_members_drop()

    cdef drop_from(self, Layer *layer, uint32_t threshold, double scale):
        cdef Plan *f = &self.plan
        layer.threshold, layer.scale = threshold, scale
        # Where the slope reads f(z), units are left out of a copy. (relu's may read either.)
        if threshold > 0 and layer.slopes == NULL and layer.activation.fused == FB_OWN_LOOP:
            if layer.out == NULL or layer.out == layer.a:
                layer.out = take(f, self.memory, layer.out_panels * f.net.panel)
        elif layer.out == NULL:
            layer.out = layer.a

    cdef let_members_drop(self):
        """The first member's hidden layers say how much of a layer each of them leaves out."""
        cdef int n = self.plan.net.n_layers, i
        cdef Layer *layers = self.plan.net.all_layers
        for i in range(n, n * self.plan.net.n_members):
            if i % n < n - 1:
                layers[i].out, layers[i].scale = layers[i % n].out, layers[i % n].scale
                layers[i].threshold = layers[i % n].threshold

    def train(self, X, targets, sample_weight, order, *, shuffle, batch_size, alpha,
              learning_rate, n_epochs, losses, stopping=None, time_limit=None):
        """Train for up to n_epochs epochs; the GIL is released throughout."""
        cdef Plan *f = &self.plan
        cdef Stopping rule
        cdef bint stopped = False, forced = self.forced
        cdef int ceiling = self.ceiling
        cdef int64_t epochs = n_epochs, done = 0, run
        cdef double[::1] out
        cdef const double[::1] rates = np.atleast_1d(np.asarray(learning_rate, dtype=np.float64))
        cdef Stream stream
        with self.lock:
            self.check_usable()
            contract.check_has_optimizer(f.opt.loops != NULL)
            bind(self, X, targets, sample_weight, order)
            contract.check_run(f.call.n_samples, order, shuffle, batch_size, rates, n_epochs,
                               losses)
            out = losses
            f.call.batch_size = batch_size
            f.call.alpha = alpha
            f.call.rates = &rates[0]
            f.call.n_rates = rates.shape[0]
            f.now.step = 0
            f.call.update = True
            f.call.dropping = f.opt.dropout
            f.call.backward = True
            f.call.gradient_factor = 1.0
            self.start_looking(time_limit)
            rule.active = stopping is not None
            if stopping is not None:
                rule.tol, rule.best_loss = stopping.tol, stopping.best
                rule.patience = stopping.n_iter_no_change
                rule.no_improvement_count = stopping.count
            stream.bits = NULL
            if shuffle is not None:
                self.borrow_stream(shuffle, &stream)
            fb_running_fits(1)
            try:
                while done < epochs and not (stopped or f.now.interrupted or f.now.out_of_time):
                    run = epochs - done
                    if shuffle is not None and stream.bits == NULL:   # not MT19937: NumPy draws
                        shuffle.shuffle(order)
                        run = 1
                    with nogil:
                        done += run_epochs(f, &stream, run, &out[done], &rule, ceiling, forced,
                                           &stopped)
            finally:
                fb_running_fits(-1)
                self.epochs_done = done
                self.finite = done == 0 or (isfinite(out[done - 1]) and all_parameters_finite(f))
                if stream.bits != NULL and isinstance(shuffle, np.random.RandomState):
                    self.give_stream_back(shuffle)
                unbind(f)
            if stopping is not None:
                stopping.best = rule.best_loss
                stopping.count = rule.no_improvement_count
            if self.stop_signal is not None:
                self.raise_signal()
        return done

    def predict_into(self, X, out):
        """Raw scores of X under the current parameters, or their average."""
        with self.lock:
            self.check_usable()
            bind_rows(self, X)
            if self.n_members > 0:
                contract.check_member_output(X, out, self.dtype, self.n_members,
                                             self.layer_sizes[-1])
            else:
                contract.check_output(X, out, self.dtype, self.layer_sizes[-1])
            self.plan.call.dropping = self.plan.call.backward = False
            self.choose_weights(self.plan.buf.average, X.shape[0] >= PREDICTION_ROWS)
            try:
                if self.n_members > 0:
                    self.predict_members(out)
                else:
                    run_prediction(&self.plan, out, self.ceiling, self.forced)
            finally:
                self.choose_weights(self.plan.buf.w, True)
                unbind(&self.plan)

    cdef choose_weights(self, char *packed, bint rounded):
        """Let products read these weights (NULL: the ones they read), rounded where they may be."""
        cdef Plan *f = &self.plan
        cdef int i
        point_weights(f, packed)
        if f.net.bf16 == NULL:
            return
        for i in range(f.net.n_layers * max(1, f.net.n_members)):
            f.net.all_layers[i].rounded = rounded and f.net.all_layers[i].w_pairs != NULL
        if rounded and f.buf.average != NULL:
            refresh_copies(f)

    cdef predict_members(self, out):
        """Raw scores of each member in turn."""
        cdef Plan *f = &self.plan
        cdef char *packed = f.buf.w if f.buf.average == NULL else f.buf.average
        cdef int m
        try:
            for m in range(self.n_members):
                f.net.layers = f.net.all_layers + m * f.net.n_layers
                write_first_layer(f, packed, m)
                run_prediction(f, out[m], self.ceiling, self.forced)
        finally:
            f.net.layers = f.net.all_layers

    def loss_and_gradient(self, params, X, targets, sample_weight, *, alpha, gradient,
                          mean_gradient=False):
        """Loss of all samples and its gradient at `params`."""
        cdef Plan *f = &self.plan
        cdef double no_rate = 0, loss = 0, total = 0
        cdef Stream stream
        cdef Stopping rule
        cdef bint stopped = False, forced = self.forced
        cdef int ceiling = self.ceiling
        with self.lock:
            self.check_usable()
            contract.check_params(params, self.n_params, self.dtype)
            contract.check_params(gradient, self.n_params, self.dtype, output=True)
            bind(self, X, targets, sample_weight, None)
            total = sum_of_weights(f, 0, f.call.n_samples)
            contract.check_total_weight(total, f.call.n_samples)
            pack(f, f.buf.w, bytes_of(params))
            refresh_copies(f)
            f.call.batch_size = f.call.n_samples
            f.call.alpha = 0
            f.call.rates = &no_rate
            f.call.n_rates = 1
            f.call.update = f.call.dropping = False
            f.call.backward = True
            f.call.gradient_factor = 1.0 / f.net.n_outputs if mean_gradient else 1.0
            self.start_looking(None)
            rule.active = False
            stream.bits = NULL
            if f.net.layers[0].sparse:
                memset(f.buf.g, 0, size_of(f, f.net.n_packed))
            fb_running_fits(1)
            try:
                with nogil:
                    run_epochs(f, &stream, 1, &loss, &rule, ceiling, forced, &stopped)
            finally:
                fb_running_fits(-1)
                unbind(f)
            if self.stop_signal is not None:
                self.raise_signal()
            unpack(f, f.buf.g, bytes_of(gradient))
        return loss + add_penalty(self.weight_ranges(), params, gradient, alpha / total)

    cdef list weight_ranges(self):
        """Where weights are in the flat vector."""
        parts = network.list_parts(self.layer_sizes, self.n_members or None)
        return [(begin, end) for begin, end, is_weights in parts if is_weights]

    def mean_loss(self, scores, targets, sample_weight):
        """Mean loss of raw scores under the session's loss, without penalty."""
        cdef Plan *f = &self.plan
        cdef double total = 0, weight = 0
        cdef uint64_t float_state
        cdef const char *raw
        contract.check_matrix(scores, self.dtype, self.layer_sizes[-1])
        raw = <const char *>cnp.PyArray_DATA(scores)
        with self.lock:
            self.check_usable()
            bind_targets(self, len(scores), targets, sample_weight)
            f.call.order = NULL
            with nogil:
                float_state = fb_flush_subnormals()
                total = sum_losses(f, raw)
                weight = sum_of_weights(f, 0, f.call.n_samples)
                fb_restore_float_state(float_state)
            unbind(f)
        return total / weight

    @property
    def out_of_time(self):
        return self.plan.now.out_of_time

    @property
    def n_seen(self):
        return self.plan.now.n_counted

    def params_into(self, params):
        """Write the parameters into `params` in the flat layout."""
        contract.check_params(params, self.n_params, self.dtype, output=True)
        with self.lock:
            unpack(&self.plan, self.plan.buf.w, bytes_of(params))

    def average_into(self, params):
        """Write what predictions use: the average where one is kept, else the parameters."""
        cdef Plan *f = &self.plan
        contract.check_params(params, self.n_params, self.dtype, output=True)
        with self.lock:
            unpack(f, f.buf.w if f.buf.average == NULL else f.buf.average, bytes_of(params))

    def slots_into(self, slots):
        """Write the optimiser's slots into `slots`."""
        cdef Plan *f = &self.plan
        with self.lock:
            contract.check_has_optimizer(f.opt.loops != NULL)
            contract.check_slots(slots, f.opt.loops.n_slots, self.n_params, self.dtype, output=True)
            for i in range(f.opt.loops.n_slots):
                unpack(f, f.buf.slots[i], bytes_of(slots[i]))

    cdef check_usable(self):
        contract.check_open(self.closed)
        if self.process != os.getpid():      # forked: the workers stayed behind
            if self.plan.team != NULL:
                fb_team_forget(self.plan.team)
                self.plan.team = NULL
            self.process = os.getpid()

    cdef start_looking(self, time_limit):
        """Signals are delivered to the main thread only; another one need not take the GIL."""
        cdef Plan *f = &self.plan
        cdef double step_ns = f.net.cost * min(f.call.batch_size, f.net.block_rows) / 10.0
        f.call.watch_signals = threading.get_ident() == threading.main_thread().ident
        f.now.interrupted = f.now.out_of_time = False
        f.call.deadline_ns = 0
        if time_limit is not None:
            f.call.deadline_ns = fb_clock_ns() + max(1, <int64_t>min(time_limit * 1e9, 4e18))
        f.call.session, f.call.look = <void *>self, look_for_signals
        f.call.steps_between_looks = max(1, <int64_t>(200_000 / step_ns))
        f.now.steps_since_look = 0
        self.stop_signal = None

    cdef raise_signal(self):
        stop, self.stop_signal = self.stop_signal, None
        memset(self.plan.buf.g, 0, size_of(&self.plan, self.plan.net.n_packed))
        raise stop

    cdef borrow_stream(self, shuffle, Stream *stream):
        """The stream to shuffle with: a bit generator itself, or a copy of a RandomState's; none
        if that is not MT19937."""
        bits = shuffle
        if isinstance(shuffle, np.random.RandomState):
            state = shuffle.get_state(legacy=False)
            if state["bit_generator"] != "MT19937":
                return
            if self.shuffler is None:
                self.shuffler = np.random.MT19937(0)
            self.shuffler.state = state
            bits = self.shuffler
        stream.bits = <bitgen_t *>PyCapsule_GetPointer(bits.capsule, "BitGenerator")
        stream.mersenne = NULL
        if type(bits) is np.random.MT19937 and mersenne_is_known():
            stream.mersenne = <fb_mt19937 *>stream.bits.state

    cdef give_stream_back(self, random_state):
        state = random_state.get_state(legacy=False)
        state["state"] = self.shuffler.state["state"]
        random_state.set_state(state)


cdef int look_for_signals(void *session) noexcept with gil:
    try:
        PyErr_CheckSignals()
    except BaseException as stop:
        (<Session>session).stop_signal = stop
        return 1
    return 0


cdef double add_penalty(ranges, params, gradient, double l2):
    """Add the penalty 0.5 l2 |W|^2 of these ranges to the gradient; returns its value."""
    value = 0.0
    for begin, end in ranges:
        w = params[begin:end]
        gradient[begin:end] += (l2 * w).astype(w.dtype, copy=False)
        value += 0.5 * l2 * float(np.sum(np.square(w, dtype=np.float64)))
    return value


def forget_running_fits():
    """In a forked child: the fits of the parent do not run there."""
    fb_reset_running_fits()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget_running_fits)
