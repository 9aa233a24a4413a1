"""``predict`` of fitted networks: one row (latency) and many rows (throughput).

``python -m bench.bench_predict`` prints a table of interleaved rounds, ``pytest
bench/bench_predict.py`` times single rows.  Input is C-contiguous and of the network's dtype, as a
service would keep it.  PyTorch under ``inference_mode`` and jitted JAX do no input checks at all;
scikit-learn and fastbp do.
"""

import argparse
import json
import warnings

import numpy as np
import pytest

from bench import measure
from bench.cell import CONTENDERS, build, shrink
from bench.report import table
from bench.workloads import WORKLOADS

NAMES = ("fastbp", "scikit-learn", "torch eager", "jax epoch")
NETWORKS = ("b", "a", "c", "d")
ROWS = (1, 100, 10_000)


def fitted(name, workload, dtype, n_threads):
    """Return a briefly fitted contender, or None with a printed line."""
    job = shrink(WORKLOADS[workload])
    contender = build([name], job, dtype, n_threads, 1).get(name)
    if contender is not None:
        contender.fit(1)
    return contender


def rows_for(workload, n_rows, dtype):
    """Draw standard normal rows as wide as the workload."""
    shape = (n_rows, WORKLOADS[workload].layers[0])
    return np.random.default_rng(1).standard_normal(shape, dtype=np.float32).astype(dtype)


def seconds_per_call(contender, X):
    """Mean over as many calls as fill about 20 ms."""
    once = measure.seconds_of(contender.predict, X)
    n_calls = max(1, min(10_000, round(0.02 / max(once, 1e-7))))

    def many():
        for _ in range(n_calls):
            contender.predict(X)

    return measure.seconds_of(many) / n_calls


def predict_cell(workload, n_rows, dtype, n_threads, n_rounds):
    """Interleaved rounds of one network and number of rows."""
    X = rows_for(workload, n_rows, dtype)
    built = {name: fitted(name, workload, dtype, n_threads) for name in NAMES}
    turns = {
        name: lambda c=contender: seconds_per_call(c, X)
        for name, contender in built.items()
        if contender is not None
    }
    for turn in turns.values():
        turn()
    cores = measure.usable_cores()[:n_threads]
    return measure.Rounds(turns, cores, dtype).run(n_rounds).summary()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n_rows", ROWS)
@pytest.mark.parametrize("workload", NETWORKS)
def bench_predict(benchmark, workload, n_rows, name):
    """float32, one thread."""
    missing = CONTENDERS[name].missing()
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed")
    contender = fitted(name, workload, "float32", 1)
    if contender is None:
        pytest.skip(f"{name} can't start")
    X = rows_for(workload, n_rows, "float32")
    benchmark.group = f"predict {n_rows} rows, network {workload}"
    benchmark(contender.predict, X)


def main():
    parser = argparse.ArgumentParser(prog="python -m bench.bench_predict")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cell", nargs=2, help="network and rows: measure here, print JSON")
    arguments = parser.parse_args()
    if arguments.cell:
        warnings.simplefilter("ignore")
        workload, n_rows = arguments.cell[0], int(arguments.cell[1])
        cell = (workload, n_rows, arguments.dtype, arguments.threads[0], arguments.rounds)
        print(json.dumps(predict_cell(*cell)))
        return
    found = []
    for n_threads in arguments.threads:
        for workload in NETWORKS:
            for n_rows in ROWS:
                cores, _ = measure.fastest_cores(n_threads, arguments.dtype)
                options = ["--dtype", arguments.dtype, "--threads", n_threads]
                options += ["--rounds", arguments.rounds, "--cell", workload, n_rows]
                cell = measure.run_child(cores, "bench.bench_predict", *options)
                if cell is None:
                    continue
                micro = [1e6 * cell["seconds"].get(n, {}).get("median", np.nan) for n in NAMES]
                found.append([workload, n_rows, n_threads, *(f"{us:.4g}" for us in micro)])
                print(*found[-1], sep="  ", flush=True)
    print("\nMicroseconds per call, median\n")
    print(table(["network", "rows", "threads", *NAMES], found))


if __name__ == "__main__":
    main()
