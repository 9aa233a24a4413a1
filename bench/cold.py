"""What a user waits for the first time: complete fits and imports, each in a fresh process.

``python -m bench.cold --workload a --contender fastbp`` is one such process; it prints the seconds
of importing and preparing (library and data) and of the first complete ``fit``, compilation and
starting of threads included.  ``cold_fits`` and ``import_cost`` start many, interleaved.
"""

import json
import statistics
import subprocess
import sys
import time

from bench import measure


def summarise(values):
    """Minimum and median of a list of seconds."""
    return {"min": min(values), "median": statistics.median(values), "all": values}


def cold_fits(workload, names, dtype, cores, n_rounds, quick=False):
    """Seconds of a first complete fit per contender, one fresh process each, interleaved."""
    fits, setups, losses = {}, {}, {}
    for _ in range(n_rounds):
        for name in names:
            arguments = ["--workload", workload, "--contender", name, "--dtype", dtype]
            arguments += ["--threads", len(cores)] + (["--quick"] if quick else [])
            result = measure.run_child(cores, "bench.cold", *arguments)
            if result is not None:
                fits.setdefault(name, []).append(result["fit"])
                setups.setdefault(name, []).append(result["setup"])
                losses[name] = result["loss"]
    return {
        "workload": workload,
        "dtype": dtype,
        "threads": len(cores),
        "fit": {name: summarise(values) for name, values in fits.items()},
        "setup": {name: summarise(values) for name, values in setups.items()},
        "losses": losses,
    }


def import_cost(n_rounds):
    """Seconds until each import is done, one after the other in a fresh process.

    What fastbp adds is a difference within one process: that of two processes varies by as much as
    it is, because importing scikit-learn takes a second.
    """
    statements = {
        "sklearn.neural_network": "import sklearn.neural_network",
        "and fastbp": "import fastbp",
        "and an estimator": "from fastbp import BackpropClassifier",
    }
    timed = "import time; t = time.perf_counter()"
    for statement in statements.values():
        timed += f"\n{statement}; print(time.perf_counter() - t)"
    seconds = {name: [] for name in statements}
    for _ in range(1 + n_rounds):  # the first round fills the disk cache
        child = subprocess.run(
            [sys.executable, "-c", timed], capture_output=True, text=True, check=False
        )
        if child.returncode == 0:
            for name, line in zip(statements, child.stdout.split(), strict=True):
                seconds[name].append(float(line))
    return {name: summarise(values[1:]) for name, values in seconds.items() if values[1:]}


def main():
    start = time.perf_counter()
    import warnings

    from bench.cell import build, chosen_job, job_parser

    parser = job_parser()
    parser.add_argument("--contender", required=True)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    job, name = chosen_job(arguments), arguments.contender
    contender = build([name], job, arguments.dtype, arguments.threads, job.cold_epochs).get(name)
    if contender is None:
        raise SystemExit(1)
    prepared = time.perf_counter()
    contender.fit(job.cold_epochs)
    end = time.perf_counter()
    loss = float(job.loss(*contender.parameters(), arguments.dtype))
    print(json.dumps({"setup": prepared - start, "fit": end - prepared, "loss": loss}))


if __name__ == "__main__":
    main()
