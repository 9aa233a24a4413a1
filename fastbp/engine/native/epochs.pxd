# Epochs: the steps of one epoch on every thread, and the run of epochs on the calling thread with
# its order and stopping rule.
from libc.stdint cimport int64_t, uint64_t
from libc.math cimport isfinite
from numpy.random cimport bitgen_t

from fastbp.engine.native.division cimport useful_threads
from fastbp.engine.native.kernels cimport (fb_clock_ns, fb_flush_subnormals, fb_mix, fb_mt19937,
                                           fb_restore_float_state, fb_shuffle, fb_team_run,
                                           fb_team_size, fb_team_start)
from fastbp.engine.native.members cimport begin_members, minibatch_of_members
from fastbp.engine.native.minibatch cimport minibatch
from fastbp.engine.native.plan cimport Plan
from fastbp.engine.native.rounding cimport begin_rounded, end_rounded


cdef inline void one_epoch(void *argument, int worker, int n_workers) noexcept nogil:
    """All minibatches of one epoch, on one thread of the team."""
    cdef Plan *f = <Plan *>argument
    cdef Plan own
    cdef uint64_t float_state = fb_flush_subnormals()
    cdef int64_t first = 0, rows
    cdef bint stop
    begin_rounded(f)
    if f.net.n_members > 0:      # a worker's own, which turns from member to member
        own = f[0]
        f = &own
        begin_members(f, worker, n_workers)
    while first < f.call.n_samples:
        rows = min(f.call.batch_size, f.call.n_samples - first)
        if f.net.n_members > 0:
            stop = minibatch_of_members(f, worker, n_workers, first, rows, float_state)
        else:
            stop = minibatch(f, worker, n_workers, first, rows, float_state)
        if stop:
            break
        first += rows
        if worker == 0:
            f.now.step += 1
            f.now.n_seen = first
    end_rounded(f)
    fb_restore_float_state(float_state)


cdef struct Stream:
    bitgen_t *bits               # NULL: nothing is shuffled here
    fb_mt19937 *mersenne         # its state, where that is an MT19937 in the known form


cdef inline void permute(Stream *stream, int64_t *order, int64_t n) noexcept nogil:
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


cdef inline bint no_progress(Stopping *rule, double loss) noexcept nogil:
    """scikit-learn's rule on the training loss; True when it has not improved for too long."""
    if loss > rule.best_loss - rule.tol:
        rule.no_improvement_count += 1
    else:
        rule.no_improvement_count = 0
    if loss < rule.best_loss:
        rule.best_loss = loss
    return rule.no_improvement_count > rule.patience


cdef inline bint all_parameters_finite(Plan *f) noexcept nogil:
    return f.net.kernels.all_finite(f.buf.w, f.net.n_packed)


cdef inline int64_t run_epochs(Plan *f, Stream *stream, int64_t n_epochs, double *losses,
                               Stopping *rule, int ceiling, bint forced,
                               bint *stopped) noexcept nogil:
    """Up to n_epochs epochs; returns how many were completed, or cut short when time was up (the
    last; its loss is the mean over the samples it saw). stopped: OUT, whether the rule or a loss or
    parameter that is not finite ended the run."""
    cdef int64_t epoch
    cdef int n_workers
    f.now.last_look_ns = fb_clock_ns()
    for epoch in range(n_epochs):
        if stream.bits != NULL:
            permute(stream, f.call.order, f.call.n_samples)
        f.now.epoch_loss = 0
        f.now.n_seen = 0
        f.now.epoch_key = fb_mix(fb_mix(f.opt.seed) + <uint64_t>f.now.t)
        n_workers = useful_threads(f, ceiling, forced)
        if n_workers > 1 and f.team == NULL:
            f.team = fb_team_start(ceiling)
        if n_workers > 1 and f.team != NULL:
            fb_team_run(f.team, one_epoch, f, min(n_workers, fb_team_size(f.team)))
        else:
            one_epoch(f, 0, 1)
        if f.now.interrupted or (f.now.out_of_time and f.now.n_seen == 0):
            return epoch
        losses[epoch] = f.now.epoch_loss / <double>f.now.n_seen
        f.now.n_counted = f.now.n_seen
        stopped[0] = not (isfinite(losses[epoch]) and all_parameters_finite(f))
        if rule.active and no_progress(rule, losses[epoch]):
            stopped[0] = True
        if stopped[0] or f.now.out_of_time:
            return epoch + 1
    return n_epochs
