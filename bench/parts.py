"""A training step beside the sum of its kernels, each called alone: what bounds small networks.

``python -m bench.parts`` takes every kernel call of a workload's step, times each call alone,
over and over on data in cache, and prints their sum beside the time of the step in the same rounds.
Where the sum is nearly the step, only faster kernels would help; the rest are the loops around
them, shuffle and loss curve.  Two threads could reach half the sum.  float32 unless told otherwise;
ReLU is part of the products.
"""

import argparse
import json
import warnings
from itertools import pairwise
from pathlib import Path

from bench import measure
from bench.bench_kernels import kernel_bench, repeats_for
from bench.contenders import FastBP
from bench.report import page, table
from bench.workloads import WORKLOADS


def kernel_calls(workload, lanes):
    """Names and sizes (M, N, K) of the kernel calls of one step, as `kernel_bench` takes them."""
    rows, sizes = workload.batch_size, workload.layers
    update = "adam" if workload.solver == "adam" else "sgd" if workload.momentum else "sgd plain"
    calls = [("gather", (rows, sizes[0], sizes[0]))]
    for layer, (n_in, n_out) in enumerate(pairwise(sizes)):
        padded = -(-n_out // lanes) * lanes
        calls += [("forward", (rows, n_out, n_in)), ("weight_gradient", (rows, n_out, n_in))]
        calls += [("input_gradient", (rows, n_out, n_in))] if layer > 0 else []
        calls += [(update, (padded, n_in, n_in)), (update, (padded, 1, 1))]
    loss = "softmax_cross_entropy" if workload.is_classifier else "squared_error"
    return [*calls, (loss, (rows, sizes[-1], sizes[-1]))]


def step_and_parts(workload, dtype, n_rounds):
    """Seconds of a step and of its kernels alone, in turns; rounds as everywhere."""
    calls = kernel_calls(workload, 16 if dtype == "float32" else 8)
    repeats = [repeats_for(name, dtype, sizes) for name, sizes in calls]
    contender = FastBP(workload, dtype, 1 + workload.n_epochs, 1)
    n_fits = measure.warm_up(contender, 0.5)

    def alone():
        each = zip(calls, repeats, strict=True)
        return sum(kernel_bench()(name, dtype, *sizes, n) for (name, sizes), n in each)

    turns = {"step": lambda: measure.step_seconds(contender, n_fits), "kernels": alone}
    return measure.Rounds(turns, measure.usable_cores()[:1], dtype).run(n_rounds).summary()


def main():
    parser = argparse.ArgumentParser(prog="python -m bench.parts")
    parser.add_argument("--workloads", nargs="+", default=["f1", "f8", "g", "b", "a", "c", "d"])
    parser.add_argument("--dtype", default="float32", choices=["float32", "float64"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="markdown file to write the table to")
    parser.add_argument("--cell", action="store_true", help="measure here, print JSON")
    arguments = parser.parse_args()
    if kernel_bench() is None:
        raise SystemExit("skipped: the native engine is not built")
    if arguments.cell:
        warnings.simplefilter("ignore")
        workload = WORKLOADS[arguments.workloads[0]]
        print(json.dumps(step_and_parts(workload, arguments.dtype, arguments.rounds)))
        return
    rows = []
    for name in arguments.workloads:
        cores, _ = measure.fastest_cores(1, arguments.dtype)
        options = ["--cell", "--workloads", name, "--dtype", arguments.dtype]
        cell = measure.run_child(cores, "bench.parts", *options, "--rounds", arguments.rounds)
        if cell is not None:
            seconds = cell["seconds"]
            share = measure.ratio(seconds, "kernels", "step")
            micro = [f"{1e6 * seconds[part]['median']:.3g}" for part in ("step", "kernels")]
            kept = f"{cell['n_kept']}/{cell['n_rounds']}"
            rows.append([name, *micro, f"{100 * share:.0f} %", kept])
            print(*rows[-1], sep="  ", flush=True)
    header = ["workload", "step, us", "its kernels alone, us", "of the step", "rounds kept"]
    text = table(header, rows)
    print("\n" + text)
    if arguments.output:
        title = f"# A step and its kernels, {arguments.dtype}, one thread"
        arguments.output.write_text(page(title, text))


if __name__ == "__main__":
    main()
