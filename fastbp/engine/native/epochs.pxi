# Epochs: the steps of one epoch on every thread, and the run of epochs on the calling thread with
# its order, stopping rule and interrupts.

cdef int64_t LOOK_NS = 20_000_000   # between two looks for a signal; other threads run anyway
cdef int64_t BLOCK_ROWS = 1024      # larger minibatches are worked off in blocks of this many rows
# Two threads lose at 6 us of work per step and win at 60 (break-even near 20, November 2026).
cdef double WORK_PER_THREAD_US = 10


cdef double sum_of_weights(Plan *f, int64_t first, int64_t rows) noexcept nogil:
    """Sum of the sample weights of a minibatch in row order; without weights its rows."""
    cdef double total = 0
    cdef int64_t i, row
    if f.sample_weight == NULL:
        return <double>rows
    for i in range(first, first + rows):
        row = i if f.order == NULL else f.order[i]
        if f.itemsize == 4:
            total += (<const float *>f.sample_weight)[row]
        else:
            total += (<const double *>f.sample_weight)[row]
    return total


cdef inline double weighted_row_losses(Plan *f, Share share) noexcept nogil:
    """sum_i w_i loss_i, eight partial sums in a fixed pattern."""
    cdef double sums[8]
    cdef double total = 0
    cdef double *loss = f.row_loss + share.r0
    cdef int64_t i, j, rows = share.rows, whole = rows // 8
    if f.sample_weight != NULL:
        for i in range(rows):
            if f.itemsize == 4:
                loss[i] *= (<float *>f.weights)[share.r0 + i]
            else:
                loss[i] *= (<double *>f.weights)[share.r0 + i]
    for i in range(8 * whole, rows):
        total += loss[i]
    if whole == 0:
        return total
    for j in range(8):
        sums[j] = 0
    for i in range(whole):
        for j in range(8):
            sums[j] += loss[8 * i + j]
    for j in range(8):
        total += sums[j]
    return total


cdef double sum_losses(Plan *f, const char *scores) noexcept nogil:
    """Weighted sum of the losses of row-major raw scores, in blocks of rows."""
    cdef int64_t first = 0, rows, size = f.itemsize
    cdef double total = 0
    while first < f.n_samples:
        rows = min(f.block_rows, f.n_samples - first)
        f.kernels.gather_columns(scores + first * f.n_outputs * size, f.n_outputs, NULL, rows,
                                 f.n_outputs, f.scores, f.capacity)
        gather_targets(f, first, 0, rows)
        f.loss.loss(f.targets, f.scores, f.weights, 0, f.row_loss, f.capacity, rows, f.n_outputs,
                    f.loss_hyper)
        total += weighted_row_losses(f, Share(0, rows))
        first += rows
    return total * f.loss_factor


cdef int look_for_signals(Plan *f) noexcept with gil:
    try:
        PyErr_CheckSignals()
    except BaseException as stop:
        (<Session>f.session).stop_signal = stop
        return 1
    return 0


cdef inline bint must_stop(Plan *f, uint64_t float_state) noexcept nogil:
    """Member 0 only: whether a signal handler raised, or time is up (not before the first step of a
    call). Looks by the clock, reads the clock rarely. The caller's float state is in force while
    Python code may run."""
    f.steps_since_look += 1
    if ((not f.watch_signals and f.deadline_ns == 0)
            or f.steps_since_look < f.steps_between_looks):
        return False
    f.steps_since_look = 0
    cdef int64_t now = fb_clock_ns()
    f.out_of_time = f.deadline_ns != 0 and now >= f.deadline_ns and f.step > 0
    if f.out_of_time:
        return True
    if not f.watch_signals or now - f.last_look_ns < LOOK_NS:
        return False
    f.last_look_ns = now
    fb_restore_float_state(float_state)
    f.interrupted = look_for_signals(f)
    fb_flush_subnormals()
    return f.interrupted


cdef inline bint meet(Plan *f, int member, int n_members, bint stop) noexcept nogil:
    if n_members == 1:
        return stop
    return fb_team_barrier(f.team, member, stop)


cdef inline void begin_step(Plan *f) noexcept nogil:
    """Member 0 only: count the step and compute its constants; the others read them behind the next
    barrier."""
    cdef double rate = f.rates[f.step if f.n_rates > 1 else 0], decay
    f.t += 1
    f.optimizer.prepare(f.hyper, rate, <double>f.t, f.h)
    if f.decay >= 0:
        decay = f.hyper[f.decay]
        f.hyper[f.decay] = 0
        f.optimizer.prepare(f.hyper, rate, <double>f.t, f.bias_h)
        f.hyper[f.decay] = decay
    if f.average != NULL:   # forgets the start: after t steps the mean is over about t / 9 of them
        f.average_share = 1 - min(f.ema_decay, (1.0 + f.t) / (10.0 + f.t))


cdef bint minibatch(Plan *f, int member, int n_members, int64_t first, int64_t rows,
                    uint64_t float_state) noexcept nogil:
    """One step on one thread. Returns whether to stop; then the step was not finished."""
    cdef double total = sum_of_weights(f, first, rows), scale, data_loss = 0, penalty = 0
    cdef int64_t start = first, n
    cdef bint stop = False, last_block, halves = f.by_chunks and n_members == 2
    cdef Share share
    cdef int u, chunk, from_layer
    if not total > 0:
        return False          # nothing to learn from; NaN weights are refused before
    scale = 1 / total
    if member == 0 and f.update:
        begin_step(f)
    while start < first + rows:
        n = min(f.block_rows, first + rows - start)
        last_block = start + n == first + rows
        from_layer = 0
        if f.by_columns and n_members > 1:
            share = part_of(f, chunk_of(f, 0, n), member, n_members)
            if share.rows > 0:
                gather_rows(f, start, share.r0, share.rows)
            meet(f, member, n_members, False)
            forward_own_columns(f, member, n_members, start, n)
            meet(f, member, n_members, False)
            from_layer = 1
        for chunk in range(1 + f.by_chunks):
            if halves and chunk != member:
                continue
            share = chunk_of(f, chunk, n)
            if not halves:
                share = part_of(f, share, member, n_members)
            pass_over_rows(f, share, start - gap_before(f, chunk, n), scale, from_layer)
        if halves:
            pass_over_chunk(f, member, n, start > first)
        stop = meet(f, member, n_members, member == 0 and must_stop(f, float_state))
        if stop:
            if member == 0 and f.update:
                f.t -= 1
            return True
        if not halves:
            pass_over_units(f, member, n_members, start, n, first, last_block, f.alpha * scale)
        elif last_block:
            join_chunks(f, member, n, start > first, f.alpha * scale)
        if last_block and f.update:
            if f.max_norm > 0:
                meet(f, member, n_members, False)
                update_within_norm(f, member, n_members, f.alpha * scale)
            if f.layers[0].sparse:
                clear_sparse_gradient(f, member, n_members, first, rows)
        if member == 0:
            for chunk in range(1 + f.by_chunks):
                data_loss += weighted_row_losses(f, chunk_of(f, chunk, n))
        meet(f, member, n_members, False)
        start += n
    if member == 0:
        if f.update:
            for u in range(f.n_units):
                penalty += f.squares[u * DOUBLES_PER_LINE]
        f.epoch_loss += (data_loss * f.loss_factor + 0.5 * f.alpha * penalty) * scale * <double>rows
    return False


cdef void one_epoch(void *argument, int member, int n_members) noexcept nogil:
    """All minibatches of one epoch, on one thread of the team."""
    cdef Plan *f = <Plan *>argument
    cdef uint64_t float_state = fb_flush_subnormals()
    cdef int64_t first = 0, rows
    while first < f.n_samples:
        rows = min(f.batch_size, f.n_samples - first)
        if minibatch(f, member, n_members, first, rows, float_state):
            break
        first += rows
        if member == 0:
            f.step += 1
            f.n_seen = first
    fb_restore_float_state(float_state)


cdef struct Stream:
    bitgen_t *bits               # NULL: nothing is shuffled here
    fb_mt19937 *mersenne         # its state, where that is an MT19937 in the known form


cdef void permute(Stream *stream, int64_t *order, int64_t n) noexcept nogil:
    """Fisher-Yates exactly as numpy.random.RandomState.shuffle draws it: from the last place down,
    each partner by masked rejection on 32-bit words (64-bit above 2^32)."""
    cdef int64_t i, swap
    cdef uint64_t mask, j
    cdef bitgen_t *bits = stream.bits
    if stream.mersenne != NULL and n < (<int64_t>1 << 32):
        fb_shuffle(stream.mersenne, order, n)
        return
    for i in range(n - 1, 0, -1):
        mask = <uint64_t>i
        mask |= mask >> 1
        mask |= mask >> 2
        mask |= mask >> 4
        mask |= mask >> 8
        mask |= mask >> 16
        mask |= mask >> 32
        while True:
            if <uint64_t>i <= 0xffffffffu:
                j = bits.next_uint32(bits.state) & mask
            else:
                j = bits.next_uint64(bits.state) & mask
            if j <= <uint64_t>i:
                break
        swap = order[i]
        order[i] = order[j]
        order[j] = swap


cdef struct Stopping:
    bint active
    double tol, best_loss, patience
    int64_t no_improvement_count


cdef bint no_progress(Stopping *rule, double loss) noexcept nogil:
    """scikit-learn's rule on the training loss; True when it has not improved for too long."""
    if loss > rule.best_loss - rule.tol:
        rule.no_improvement_count += 1
    else:
        rule.no_improvement_count = 0
    if loss < rule.best_loss:
        rule.best_loss = loss
    return rule.no_improvement_count > rule.patience


cdef double step_us(Plan *f, int64_t rows) noexcept nogil:
    """Roughly the work of a step on a minibatch of so many rows."""
    return f.cost * <double>rows / (1.6e3 * f.lanes) + <double>f.n_packed * 5e-4


cdef int useful_threads(Plan *f, int ceiling, bint forced) noexcept nogil:
    """How many threads this epoch runs on: as many as pay off for the work of a step, and no more
    than this fit's share of the cores while other fits run in the process."""
    cdef int n = ceiling
    if forced:
        return n
    n = max(1, n // max(1, fb_running_fits(0)))
    return max(1, min(n, <int>(step_us(f, min(min(f.batch_size, f.n_samples), f.block_rows))
                               / WORK_PER_THREAD_US)))


cdef inline bint all_parameters_finite(Plan *f) noexcept nogil:
    return f.kernels.all_finite(f.w, f.n_packed)


cdef int64_t run_epochs(Plan *f, Stream *stream, int64_t n_epochs, double *losses,
                        Stopping *rule, int ceiling, bint forced, bint *stopped) noexcept nogil:
    """Up to n_epochs epochs; returns how many were completed, or cut short when time was up (the
    last; its loss is the mean over the samples it saw). stopped: OUT, whether the rule or a loss or
    parameter that is not finite ended the run."""
    cdef int64_t epoch
    cdef int n_members
    f.last_look_ns = fb_clock_ns()
    for epoch in range(n_epochs):
        if stream.bits != NULL:
            permute(stream, f.order, f.n_samples)
        f.epoch_loss = 0
        f.n_seen = 0
        f.epoch_key = fb_mix(fb_mix(f.seed) + <uint64_t>f.t)
        n_members = useful_threads(f, ceiling, forced)
        if n_members > 1 and f.team == NULL:
            f.team = fb_team_start(ceiling)
        if n_members > 1 and f.team != NULL:
            fb_team_run(f.team, one_epoch, f, min(n_members, fb_team_size(f.team)))
        else:
            one_epoch(f, 0, 1)
        if f.interrupted or (f.out_of_time and f.n_seen == 0):
            return epoch
        losses[epoch] = f.epoch_loss / <double>f.n_seen
        f.n_counted = f.n_seen
        stopped[0] = not (isfinite(losses[epoch]) and all_parameters_finite(f))
        if rule.active and no_progress(rule, losses[epoch]):
            stopped[0] = True
        if stopped[0] or f.out_of_time:
            return epoch + 1
    return n_epochs
