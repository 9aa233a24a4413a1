# One minibatch on every thread: two phases with a barrier after each. In the first every thread
# takes a share of the rows, in the second some units. What every step of a small network passes is
# inline, and what only some networks need stands apart from it. Also what a minibatch adds up over
# its samples, weights and losses, in an order that neither threads nor dtype change.
from libc.stdint cimport int64_t, uint64_t

from fastbp.engine.native.division cimport Share, chunk_of, gap_before, part_of
from fastbp.engine.native.kernels cimport (fb_clock_ns, fb_flush_subnormals, fb_restore_float_state,
                                           fb_team_barrier)
from fastbp.engine.native.plan cimport DOUBLES_PER_LINE, Plan, element, unlikely
from fastbp.engine.native.rounding cimport begin_rounded, end_rounded
from fastbp.engine.native.rows cimport (forward_own_columns, gather_rows, gather_targets,
                                        pass_over_rows)
from fastbp.engine.native.units cimport (clear_sparse_gradient, join_chunks, pass_over_chunk,
                                         pass_over_units, update_within_norm)


cdef enum:
    LOOK_NS = 20_000_000         # between two looks for a signal; other threads run anyway


cdef inline double sum_of_weights(Plan *f, int64_t first, int64_t rows) noexcept nogil:
    """Sum of the sample weights of a minibatch in row order; without weights its rows."""
    cdef double total = 0
    cdef int64_t i, row
    if f.call.sample_weight == NULL:
        return <double>rows
    for i in range(first, first + rows):
        row = i if f.call.order == NULL else f.call.order[i]
        if f.net.itemsize == 4:
            total += (<const float *>f.call.sample_weight)[row]
        else:
            total += (<const double *>f.call.sample_weight)[row]
    return total


cdef inline double weighted_row_losses(Plan *f, Share share) noexcept nogil:
    """sum_i w_i loss_i, eight partial sums in a fixed pattern."""
    cdef double sums[8]
    cdef double total = 0
    cdef double *loss = f.buf.row_loss + share.r0
    cdef int64_t i, j, rows = share.rows, whole = rows // 8
    if f.call.sample_weight != NULL:
        for i in range(rows):
            if f.net.itemsize == 4:
                loss[i] *= (<float *>f.buf.weights)[share.r0 + i]
            else:
                loss[i] *= (<double *>f.buf.weights)[share.r0 + i]
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


cdef inline double sum_losses(Plan *f, const char *scores) noexcept nogil:
    """Weighted sum of the losses of row-major raw scores, in blocks of rows."""
    cdef int64_t first = 0, rows, n = f.net.n_outputs
    cdef double total = 0
    while first < f.call.n_samples:
        rows = min(f.net.block_rows, f.call.n_samples - first)
        f.net.kernels.gather_columns(element(f, scores, first * n), n, NULL, rows, n, f.buf.scores,
                                     f.net.capacity)
        gather_targets(f, first, 0, rows)
        f.net.loss.loss(f.buf.targets, f.buf.scores, f.buf.weights, 0, f.buf.row_loss,
                        f.net.capacity, rows, n, f.net.loss_hyper)
        total += weighted_row_losses(f, Share(0, rows))
        first += rows
    return total * f.net.loss_factor


cdef inline bint must_stop(Plan *f, uint64_t float_state) noexcept nogil:
    """Worker 0 only: whether a signal handler raised, or time is up (not before the first step of a
    call). Looks by the clock, reads the clock rarely. The caller's float state is in force while
    Python code may run."""
    f.now.steps_since_look += 1
    if ((not f.call.watch_signals and f.call.deadline_ns == 0)
            or f.now.steps_since_look < f.call.steps_between_looks):
        return False
    f.now.steps_since_look = 0
    cdef int64_t now = fb_clock_ns()
    f.now.out_of_time = f.call.deadline_ns != 0 and now >= f.call.deadline_ns and f.now.step > 0
    if f.now.out_of_time:
        return True
    if not f.call.watch_signals or now - f.now.last_look_ns < LOOK_NS:
        return False
    f.now.last_look_ns = now
    end_rounded(f)
    fb_restore_float_state(float_state)
    f.now.interrupted = f.call.look(f.call.session)
    fb_flush_subnormals()
    begin_rounded(f)
    return f.now.interrupted


cdef inline bint meet(Plan *f, int worker, int n_workers, bint stop) noexcept nogil:
    if n_workers == 1:
        return stop
    return fb_team_barrier(f.team, worker, stop)


cdef inline void begin_step(Plan *f) noexcept nogil:
    """Member 0 only: count the step and compute its constants; the others read them behind the next
    barrier."""
    cdef double rate = f.call.rates[f.now.step if f.call.n_rates > 1 else 0], decay
    f.now.t += 1
    f.opt.loops.prepare(f.opt.hyper, rate, <double>f.now.t, f.now.h)
    if f.opt.decay >= 0:
        decay = f.opt.hyper[f.opt.decay]
        f.opt.hyper[f.opt.decay] = 0
        f.opt.loops.prepare(f.opt.hyper, rate, <double>f.now.t, f.now.bias_h)
        f.opt.hyper[f.opt.decay] = decay
    if f.buf.average != NULL:    # forgets the start: the mean is over about t / 9 steps
        f.now.average_share = 1 - min(f.opt.ema_decay, (1.0 + f.now.t) / (10.0 + f.now.t))


cdef inline void first_layer_by_columns(Plan *f, int worker, int n_workers, int64_t start,
                                        int64_t n) noexcept nogil:
    """Gather this worker's rows of a block, then multiply all rows by its columns."""
    cdef Share share = part_of(f, chunk_of(f, 0, n), worker, n_workers)
    if share.rows > 0:
        gather_rows(f, start, share.r0, share.rows)
    meet(f, worker, n_workers, False)
    forward_own_columns(f, worker, n_workers, start, n)
    meet(f, worker, n_workers, False)


cdef inline bint minibatch(Plan *f, int worker, int n_workers, int64_t first, int64_t rows,
                           uint64_t float_state) noexcept nogil:
    """One step on one thread. Returns whether to stop; then the step was not finished."""
    cdef double total = sum_of_weights(f, first, rows), scale, data_loss = 0, penalty = 0, mean
    cdef int64_t start = first, n
    cdef bint stop = False, last_block, halves = f.net.by_chunks and n_workers == 2
    cdef Share share
    cdef int u, chunk, from_layer
    if not total > 0:
        return False          # nothing to learn from; NaN weights are refused before
    scale = 1 / total
    if worker == 0 and f.call.update:
        begin_step(f)
    while start < first + rows:
        n = min(f.net.block_rows, first + rows - start)
        last_block = start + n == first + rows
        from_layer = f.net.by_columns and n_workers > 1
        if from_layer == 1:
            first_layer_by_columns(f, worker, n_workers, start, n)
        for chunk in range(1 + f.net.by_chunks):
            if halves and chunk != worker:
                continue
            share = chunk_of(f, chunk, n)
            if not halves:
                share = part_of(f, share, worker, n_workers)
            pass_over_rows(f, share, start - gap_before(f, chunk, n), scale, from_layer, False)
        if halves:
            pass_over_chunk(f, worker, n, start > first)
        stop = meet(f, worker, n_workers, worker == 0 and must_stop(f, float_state))
        if stop:
            if worker == 0 and f.call.update:
                f.now.t -= 1
            return True
        if not halves:
            pass_over_units(f, worker, n_workers, start, n, first, last_block, f.call.alpha * scale)
        elif last_block:
            join_chunks(f, worker, n, start > first, f.call.alpha * scale)
        if last_block and f.call.update:
            if unlikely(f.opt.max_norm > 0):
                meet(f, worker, n_workers, False)
                update_within_norm(f, worker, n_workers, f.call.alpha * scale)
            if unlikely(f.net.layers[0].sparse):
                clear_sparse_gradient(f, worker, n_workers, first, rows, f.buf.g)
        if worker == 0:
            for chunk in range(1 + f.net.by_chunks):
                data_loss += weighted_row_losses(f, chunk_of(f, chunk, n))
        meet(f, worker, n_workers, False)
        start += n
    if worker == 0:
        if f.call.update:
            for u in range(f.net.n_units):
                penalty += f.buf.squares[u * DOUBLES_PER_LINE]
        mean = (data_loss * f.net.loss_factor + 0.5 * f.call.alpha * penalty) * scale
        f.now.epoch_loss += mean * <double>rows
    return False
