"""How time is taken: cores, the multiply-add peak, interleaved rounds, child processes.

One *cell* (workload, dtype, threads) is measured in one process pinned to as many cores as it has
threads, all contenders in turn within each round, so that a slow minute of the machine hits all of
them.  Before each round the multiply-add peak of each core is probed, and before and after it how
long the cores take to meet.  Rounds under 90 % of the best peak, at more than twice the best
barrier, or in which other processes took more than 5 % of these cores, are dropped and repeated.
A step is one minibatch (forward, backward, update), its time the difference of a long and a
one-epoch fit divided by the steps between them: what ``fit`` does once is not in it, everything it
does per epoch is.
"""

import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import numpy as np

PROBE_SECONDS = 0.02
KEEP_ABOVE = 0.90  # the clock moves in steps of 3 % with the load of other virtual machines
FOREIGN_BELOW = 0.05
# Two cores of a virtual machine exchanged a cache line in 40 to 65 ns or, for seconds to minutes at
# a time, in 165 to 205: contenders' threads were then slower, by up to 1.8 (November 2026).
BARRIER_BELOW = 2.0
PACKAGES = ("fastbp", "scikit-learn", "numpy", "scipy", "torch", "jax", "jaxlib", "skorch", "numba")


# --- cores and their peak -----------------------------------------------------------------------


def usable_cores():
    """Ids of the cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count()))


def pin(cores):
    """Hold the calling thread, and all it will start, to ``cores``; nothing where impossible."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


def native_engine():
    """Return the compiled engine module, or None when it is not built."""
    try:
        from fastbp.engine.native import engine
    except ImportError:
        return None
    return engine


def peak_source():
    """Where ``multiply_add_peak`` comes from, for the head of the table."""
    has_probe = hasattr(native_engine(), "multiply_add_peak")
    return "multiply-adds in registers" if has_probe else "NumPy matmul (below the true peak)"


def multiply_add_peak(dtype, seconds=PROBE_SECONDS):
    """GFLOP/s of one core on the calling thread."""
    probe = getattr(native_engine(), "multiply_add_peak", None)
    return probe(np.dtype(dtype), seconds) if probe else _matmul_peak(dtype, seconds)


def _matmul_peak(dtype, seconds, n=384):
    from threadpoolctl import threadpool_limits

    A = np.ones((n, n), dtype)
    out, best, end = np.empty_like(A), np.inf, time.perf_counter() + seconds
    with threadpool_limits(1, user_api="blas"):
        while time.perf_counter() < end:
            start = time.perf_counter()
            np.matmul(A, A, out=out)
            best = min(best, time.perf_counter() - start)
    return 2e-9 * n**3 / best


def probe_cores(cores, dtype, seconds=PROBE_SECONDS):
    """GFLOP/s of each core, probed one after the other."""
    allowed, peaks = usable_cores(), []
    try:
        for core in cores:
            pin([core])
            peaks.append(multiply_add_peak(dtype, seconds))
    finally:
        pin(allowed)
    return peaks


def barrier_ns(cores):
    """Nanoseconds that threads on ``cores`` take to meet; 0 for a single one, or not known."""
    probe = getattr(native_engine(), "barrier_ns", None)
    return probe(len(cores)) if probe and len(cores) > 1 else 0.0


def fastest_cores(n_cores, dtype):
    """Choose the ``n_cores`` cores that are fastest at this moment, and the best peak seen."""
    cores = usable_cores()
    peaks = probe_cores(cores, dtype, 5 * PROBE_SECONDS)
    order = sorted(range(len(cores)), key=lambda i: -peaks[i])
    return sorted(cores[i] for i in order[:n_cores]), max(peaks)


def foreign_share(cores, since=None):
    """Share of ``cores`` that other processes used.

    Without ``since`` returns a mark to be given later.  A peak probe is too short to see a
    neighbour that wakes up in the middle of a round, and one neighbour makes OpenMP barriers a
    hundred times slower, which would be unfair to those who use them.
    """
    busy = _busy_seconds(cores) - time.process_time()
    mark = (time.perf_counter(), busy)
    if since is None:
        return mark
    return max(0.0, (mark[1] - since[1]) / ((mark[0] - since[0]) * len(cores)))


def _busy_seconds(cores):
    stat = Path("/proc/stat")
    if not stat.exists():
        return time.process_time()
    columns = [line.split() for line in stat.read_text().splitlines()]
    wanted = {f"cpu{core}" for core in cores}
    ticks = [sum(map(int, c[1:9])) - int(c[4]) - int(c[5]) for c in columns if c[0] in wanted]
    return sum(ticks) / os.sysconf("SC_CLK_TCK")


# --- rounds -------------------------------------------------------------------------------------


def seconds_of(function, *args):
    """Wall time of one call."""
    start = time.perf_counter()
    function(*args)
    return time.perf_counter() - start


def step_seconds(contender, n_repeats):
    """Seconds per step: medians of ``n_repeats`` long and one-epoch fits, subtracted."""
    job = contender.workload
    gc.collect()
    contender.fit(1)  # not timed: caches and threads come back after the others' turns
    long_fits, short_fits = [], []
    for _ in range(n_repeats):
        short_fits.append(seconds_of(contender.fit, 1))
        long_fits.append(seconds_of(contender.fit, 1 + job.n_epochs))
    difference = statistics.median(long_fits) - statistics.median(short_fits)
    return difference / (job.n_epochs * job.n_steps)


def warm_up(contender, target_seconds):
    """Run each fit once and return how many repeats fill ``target_seconds``."""
    contender.fit(1)
    contender.fit(1 + contender.workload.n_epochs)
    seconds = seconds_of(contender.fit, 1 + contender.workload.n_epochs)
    return min(200, max(1, round(target_seconds / max(seconds, 1e-6))))


class Rounds:
    """Interleaved rounds of named measurements on given cores, slow rounds dropped.

    Parameters
    ----------
    measurements : dict of str to callable
        Each call returns one figure (seconds).
    cores : list of int
        The cores to probe before each round.
    dtype : dtype
        Of the probe.
    best_peak : float
        Best probe of any core so far, GFLOP/s.
    """

    def __init__(self, measurements, cores, dtype, best_peak=0.0):
        self.measurements, self.cores, self.dtype = measurements, cores, dtype
        self.best_peak, self.rounds = best_peak, []

    @property
    def kept(self):
        """Rounds near the best peak of every core and the best barrier, without neighbours."""
        best_barrier = min((r["barrier_ns"] for r in self.rounds), default=0.0)
        return [
            r
            for r in self.rounds
            if min(r["peaks"]) >= KEEP_ABOVE * self.best_peak
            and r["barrier_ns"] <= BARRIER_BELOW * best_barrier
            and r["foreign"] <= FOREIGN_BELOW
        ]

    def run(self, n_rounds):
        """Measure until ``n_rounds`` rounds are kept, or three times as many were tried."""
        names = list(self.measurements)
        while len(self.kept) < n_rounds and len(self.rounds) < 3 * n_rounds:
            peaks = probe_cores(self.cores, self.dtype)
            self.best_peak = max(self.best_peak, *peaks)
            first, barrier = len(self.rounds) % len(names), barrier_ns(self.cores)
            seconds, mark = {}, foreign_share(self.cores)
            for name in names[first:] + names[:first]:
                time.sleep(0.15)  # OpenBLAS threads of the contender before spin for up to 0.1 s
                seconds[name] = self.measurements[name]()
            foreign = foreign_share(self.cores, since=mark)
            barrier = max(barrier, barrier_ns(self.cores))
            self.rounds.append(
                {"peaks": peaks, "barrier_ns": barrier, "foreign": foreign, "seconds": seconds}
            )
        return self

    def summary(self):
        """Minimum and median per name over the kept rounds, all figures beside them.

        When no round could be kept, all are used and ``n_kept`` is 0: the table marks such a row.
        """
        used = self.kept or self.rounds
        columns = {name: [r["seconds"][name] for r in used] for name in self.measurements}
        return {
            "n_rounds": len(self.rounds),
            "n_kept": len(self.kept),
            "best_peak_gflops": self.best_peak,
            "peak_gflops": statistics.median(sum(r["peaks"]) for r in used),
            "rounds": self.rounds,
            "seconds": {
                name: {"min": min(column), "median": statistics.median(column), "all": column}
                for name, column in columns.items()
            },
        }


def ratio(seconds, slow, fast):
    """Median over the rounds of ``slow / fast``, both from the same round."""
    pairs = zip(seconds[slow]["all"], seconds[fast]["all"], strict=True)
    return statistics.median(s / f for s, f in pairs)


# --- child processes ----------------------------------------------------------------------------


def child_environment(n_threads):
    """Environment of a measuring process; XLA is told what pinning alone doesn't say."""
    environment = dict(os.environ, JAX_PLATFORMS="cpu", PYTHONWARNINGS="ignore")
    if n_threads == 1:
        environment["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    return environment


def run_child(cores, module, *arguments):
    """Run ``python -m module arguments`` on ``cores``; return the JSON it prints last, or None.

    The child inherits the pinning, so that OpenBLAS, OpenMP and XLA, which size their pools by the
    cores they see when imported, see as many as there are threads.
    """
    command = [sys.executable, "-m", module, *map(str, arguments)]
    allowed = usable_cores()
    pin(cores)
    try:
        child = subprocess.run(
            command,
            env=child_environment(len(cores)),
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
    finally:
        pin(allowed)
    lines = child.stdout.splitlines()
    for line in lines[:-1]:
        print(line, flush=True)
    if child.returncode != 0 or not lines:
        print(f"failed: {' '.join(command[2:])} (exit status {child.returncode})", flush=True)
        return None
    return json.loads(lines[-1])


# --- what was measured on -----------------------------------------------------------------------


def machine():
    """Processor, cores, system and the engine's instruction set."""
    engine = native_engine()
    return {
        "processor": _processor_name(),
        "cores": len(usable_cores()),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "instruction_set": engine.instruction_set() if engine else "extension not built",
        "peak": peak_source(),
    }


def _processor_name():
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        fields = [line.partition(":") for line in cpuinfo.read_text().splitlines()]
        found = {key.strip(): value.strip() for key, _, value in fields}
        name = found.get("model name", "")
        if name:
            return f"{name} (family {found.get('cpu family')}, model {found.get('model')})"
    return platform.processor() or "unknown"


def versions():
    """Versions of the installed packages that matter, and the commit of this checkout."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False)
    return found | ({"commit": commit.stdout.strip()} if commit.returncode == 0 else {})
