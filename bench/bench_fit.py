"""Complete warm fits of every workload, dtype, thread count and contender under pytest-benchmark.

For watching one row while working on it: ``pytest bench/bench_fit.py -k "a-float32-1 and fastbp"``.
The table of record comes from ``python -m bench``, whose rounds are interleaved.  JAX follows the
process's cores, so its rows run only where those equal the threads (``taskset -c 0`` for one).
"""

from dataclasses import replace

import pytest

from bench import measure
from bench.cell import CONTENDERS
from bench.workloads import WORKLOADS

DTYPES = ("float32", "float64")
THREADS = (1, 2)
ACTIVATIONS = ("identity", "logistic", "tanh", "relu")
NAMES = [name for name in CONTENDERS if name not in ("fastbp, 1 thread", "fastbp, numba uncached")]


def time_fit(benchmark, job, dtype, n_threads, name):
    """Time ``1 + n_epochs`` epochs; microseconds per step and the judged loss in extra_info."""
    missing = CONTENDERS[name].missing()
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed")
    if name == "jax epoch" and len(measure.usable_cores()) != n_threads:
        pytest.skip(f"JAX uses all cores it sees: run under taskset with {n_threads}")
    contender = CONTENDERS[name](job, dtype, 1 + job.n_epochs, n_threads)
    benchmark.group = f"{job.name}-{job.activation}-{dtype}-{n_threads} threads"
    benchmark.pedantic(
        contender.fit, args=(1 + job.n_epochs,), rounds=3, iterations=1, warmup_rounds=1
    )
    loss = job.loss(*contender.parameters(), dtype)
    benchmark.extra_info["final_loss"] = float(loss)
    if benchmark.stats:  # absent under --benchmark-disable
        steps = (1 + job.n_epochs) * job.n_steps
        benchmark.extra_info["us_per_step"] = 1e6 * benchmark.stats.stats.median / steps


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n_threads", THREADS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("workload", WORKLOADS)
def bench_fit(benchmark, workload, dtype, n_threads, name):
    """Every workload with its own activation."""
    time_fit(benchmark, WORKLOADS[workload], dtype, n_threads, name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def bench_activation(benchmark, activation, dtype, name):
    """Every activation once, on workload a."""
    time_fit(benchmark, replace(WORKLOADS["a"], activation=activation), dtype, 1, name)
