"""One cell of the table: ``python -m bench.cell``, started by ``python -m bench`` on pinned cores.

All contenders share the process and take turns.  The last line printed is the result as JSON.
"""

import argparse
import json
import warnings
from dataclasses import replace

from sklearn.exceptions import ConvergenceWarning

from bench import contenders, contenders_compiled, contenders_rounded, measure
from bench.workloads import WORKLOADS

CONTENDERS = {
    contender.name: contender
    for contender in (
        contenders.FastBP,
        contenders.FastBPOneThread,
        contenders.FastBPNumba,
        contenders.FastBPNumbaUncached,
        contenders.FastBPOwnFunctions,
        contenders.ScikitLearn,
        contenders.TorchEager,
        contenders_compiled.TorchInPlace,
        contenders_compiled.JaxEpoch,
        contenders.Skorch,
        contenders_rounded.FastBPHigh,
        contenders_rounded.FastBPMedium,
        contenders_rounded.TorchEagerMedium,
        contenders_rounded.TorchInPlaceMedium,
        contenders_rounded.TorchAutocast,
    )
}


def build(names, job, dtype, n_threads, max_epochs):
    """Contenders by name; one that is not installed or can't start is skipped with a line."""
    built = {}
    for name in names:
        missing = CONTENDERS[name].missing()
        if missing:
            print(f"skipped {name}: {', '.join(missing)} not installed", flush=True)
            continue
        try:
            built[name] = CONTENDERS[name](job, dtype, max_epochs, n_threads)
        except Exception as error:
            print(f"skipped {name}: {type(error).__name__}: {error}", flush=True)
    return built


def measure_cell(job, names, dtype, n_threads, n_rounds, best_peak, target_seconds):
    """Return the cell's summary: seconds per step, peak of the same rounds, final losses."""
    built = build(names, job, dtype, n_threads, 1 + job.n_epochs)
    turns = {}
    for name, contender in built.items():
        try:
            n_repeats = measure.warm_up(contender, target_seconds)
        except Exception as error:
            print(f"skipped {name} on {job.name}: {type(error).__name__}: {error}", flush=True)
            continue
        turns[name] = lambda c=contender, n=n_repeats: measure.step_seconds(c, n)
    if not turns:
        raise SystemExit("no contender left")
    rounds = measure.Rounds(turns, measure.usable_cores()[:n_threads], dtype, best_peak)
    summary = rounds.run(n_rounds).summary()
    return summary | {
        "workload": job.name,
        "activation": job.activation,
        "dtype": dtype,
        "threads": n_threads,
        "epochs": 1 + job.n_epochs,
        "gflop_per_step": 1e-9 * job.flops_per_epoch / job.n_steps,
        # the weights of the last timed long fit, judged in float64
        "losses": {n: float(job.loss(*built[n].parameters(), dtype)) for n in turns},
    }


def shrink(job):
    """Make the quick mode's job: a few minibatches, to see that everything runs."""
    n_samples = min(job.n_samples, 4 * job.batch_size + job.n_samples % job.batch_size)
    return replace(job, n_samples=n_samples, n_epochs=min(job.n_epochs, 3), cold_epochs=3)


def job_parser():
    """Arguments that say which job, shared with ``bench.cold``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--workload", required=True)
    parser.add_argument("--activation", default=None)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    return parser


def chosen_job(arguments):
    """Return the workload of the parsed arguments."""
    job = WORKLOADS[arguments.workload]
    if arguments.activation:
        job = replace(job, activation=arguments.activation)
    return shrink(job) if arguments.quick else job


def main():
    parser = job_parser()
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--best-peak", type=float, default=0.0)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    result = measure_cell(
        chosen_job(arguments),
        arguments.contenders,
        arguments.dtype,
        arguments.threads,
        arguments.rounds,
        arguments.best_peak,
        target_seconds=0.0 if arguments.quick else 0.15,
    )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
