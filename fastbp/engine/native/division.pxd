# How a step is divided among threads: rows into chunks and parts, units among owners, and how many
# threads pay off. Everything that a sum depends on is decided by shapes alone, never by threads.
#
# Where the first layer has more weights than a minibatch has activations around it, several threads
# divide its forward product by columns instead of rows: each reads only the weights it updates, and
# those stay in its own cache. The input must then be gathered before, at the price of two more
# barriers.
#
# Where the activations outweigh the weights, every weight gradient is the sum of two, one for each
# of two fixed chunks of the minibatch's rows: two threads then work off a chunk each, gradients
# included, and exchange gradients instead of activations. One thread, or more than two, add the
# same two sums unit by unit. The chunks are equally long and each begins with a whole group of
# the buffers' rows (a vector, or a step of tiles), which leaves a gap of some rows between them:
# without it they would be unequal.
from libc.stdint cimport int64_t

from fastbp.engine.native.kernels cimport fb_running_fits
from fastbp.engine.native.plan cimport Plan, Unit


cdef enum:
    WORK_PER_THREAD_US = 10      # of a step, below which two threads would wait for each other


cdef struct Share:               # 16 bytes: these pass in registers
    int64_t r0, rows


cdef inline int64_t first_chunk(Plan *f, int64_t n_rows) noexcept nogil:
    """Rows of a block's first chunk; a short block has no second one."""
    return (n_rows + 1) // 2 if f.net.by_chunks and n_rows > f.net.group else n_rows


cdef inline int64_t gap_before(Plan *f, int index, int64_t n_rows) noexcept nogil:
    """Rows of the buffers left unused before a chunk: each begins with a whole group."""
    return -first_chunk(f, n_rows) & (f.net.group - 1) if index == 1 else 0


cdef inline Share chunk_of(Plan *f, int index, int64_t n_rows) noexcept nogil:
    """Where the first or second chunk of a block is in the buffers; the second may be empty."""
    cdef int64_t middle = first_chunk(f, n_rows)
    if index == 0:
        return Share(0, middle)
    return Share(middle + gap_before(f, 1, n_rows), n_rows - middle)


cdef inline Share part_of(Plan *f, Share all, int worker, int n_workers) noexcept nogil:
    """A worker's rows of a chunk, whole groups of them."""
    if n_workers == 1:
        return all
    cdef int64_t n_groups = (all.rows + f.net.group - 1) // f.net.group
    cdef int64_t begin = n_groups * worker // n_workers * f.net.group
    cdef int64_t end = min(n_groups * (worker + 1) // n_workers * f.net.group, all.rows)
    return Share(all.r0 + begin, end - begin)


cdef inline int owner(Unit *u, int n_workers) noexcept nogil:
    return 0 if n_workers == 1 else <int>(u.middle * n_workers)


cdef inline double step_us(Plan *f, int64_t rows) noexcept nogil:
    """Roughly the work of a step on a minibatch of so many rows."""
    cdef double passes = <double>rows * max(1, f.net.n_members)
    return f.net.cost * passes / (1.6e3 * f.net.lanes) + <double>f.net.n_packed * 5e-4


cdef inline int useful_threads(Plan *f, int ceiling, bint forced) noexcept nogil:
    """How many threads this epoch runs on: as many as pay off for the work of a step, and no more
    than this fit's share of the cores while other fits run in the process."""
    cdef int n = ceiling
    cdef int64_t rows = min(min(f.call.batch_size, f.call.n_samples), f.net.block_rows)
    cdef double us = step_us(f, rows)
    if forced:
        return n
    if f.net.bf16 != NULL:
        us /= f.net.bf16.times_as_fast[f.net.terms - 1]
    n = max(1, n // max(1, fb_running_fits(0)))
    return max(1, min(n, <int>(us / WORK_PER_THREAD_US)))
