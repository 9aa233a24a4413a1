"""How many threads: the user's wish, the machine's limits and the environment become one number.

The number is a ceiling.  The engine uses fewer where the work of a step does not pay for them, and
its results do not depend on it.
"""

import os
import threading
from functools import cache

import joblib
import threadpoolctl

_AVAILABLE = {}


@cache
def _blas():
    """Find the BLAS libraries of this process, once: it costs some milliseconds."""
    return threadpoolctl.ThreadpoolController().select(user_api="blas")


class OneBlasThread:
    """Keeps BLAS on one thread within a ``with`` block, which many Python threads may share.

    L-BFGS-B works on vectors: its BLAS threads only wait for each other (61 iterations on 40 x 10
    samples took 1.4 s instead of 0.03 s on two busy cores, November 2026).  The Numba engine takes
    its matrix products from BLAS, and has one thread.
    """

    def __init__(self):
        self.lock = threading.Lock()
        self.n_users, self.limit = 0, None

    def __enter__(self):
        with self.lock:
            self.n_users += 1
            if self.n_users == 1:
                self.limit = _blas().limit(limits=1)

    def __exit__(self, *_):
        with self.lock:  # the last to leave restores what the first one found
            self.n_users -= 1
            if self.n_users == 0:
                self.limit.restore_original_limits()


_one_blas_thread = OneBlasThread()


def one_blas_thread():
    """Keep BLAS on one thread within a ``with`` block."""
    return _one_blas_thread


def available_threads():
    """Cores this process may use: CPU affinity, cgroup quota, ``LOKY_MAX_CPU_COUNT``.

    Counting reads several system files (about 0.1 ms), so the answer is kept for as long as the
    affinity and the variable that it depends on stay the same.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    key = affinity, os.environ.get("LOKY_MAX_CPU_COUNT")
    count = _AVAILABLE.get(key)
    if count is None:
        count = _AVAILABLE[key] = max(1, joblib.cpu_count())
    return count


def thread_ceiling(n_threads):
    """Most threads that a fit or a prediction may use.

    Parameters
    ----------
    n_threads : int or None
        None: all available cores, or ``OMP_NUM_THREADS`` where that is fewer (joblib's loky sets
        it in its workers, so that a search never uses more threads than cores).  -1: all available
        cores.  A positive count is clamped to the available cores.

    Returns
    -------
    int
    """
    available = available_threads()
    if n_threads is None:
        limit = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
        return min(available, max(1, int(limit))) if limit.isdigit() else available
    return available if n_threads == -1 else min(n_threads, available)
