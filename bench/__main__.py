"""``python -m bench``: measure, print the table, write it to bench/results/ as markdown and JSON.

Examples
--------
python -m bench                                  the whole table (one to two hours)
python -m bench --workloads a c --no-extras      two rows of it
python -m bench --quick                          a few seconds per cell: does everything run?
"""

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

from bench import cold, measure, report
from bench.bench_search import search_table
from bench.cell import CONTENDERS
from bench.workloads import WORKLOADS

RESULTS = Path(__file__).parent / "results"
COLD_ONLY = "fastbp, numba uncached"
ROUNDED = {name for name, contender in CONTENDERS.items() if "rounded" in contender.__module__}
USUAL = [name for name in CONTENDERS if name not in {COLD_ONLY, *ROUNDED}]
COLD_CONTENDERS = [
    "fastbp", "fastbp, own functions", "fastbp, numba", COLD_ONLY, "scikit-learn", "torch eager",
    "torch in place", "jax epoch",
]  # fmt: skip

EXTRAS = ["cold", "defaults", "search", "import"]


def parse_arguments():
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--workloads", nargs="+", default=list(WORKLOADS), choices=list(WORKLOADS))
    add("--contenders", nargs="+", default=USUAL, choices=list(CONTENDERS), metavar="NAME")
    add("--threads", nargs="+", type=int, default=[1, 2])
    add("--dtypes", nargs="+", default=["float32"], choices=["float32", "float64"])
    add("--activations", nargs="+", default=[None], help="each workload once for each, not its own")
    add("--rounds", type=int, default=5, help="rounds kept per cell")
    add("--no-cells", action="store_true", help="leave out the steady-state table")
    add("--extras", nargs="*", default=EXTRAS, choices=EXTRAS, help="all, unless some are named")
    add("--no-extras", action="store_const", const=[], dest="extras", help="none of them")
    add("--quick", action="store_true", help="tiny jobs, one round: a test of the bench itself")
    add("--output", type=Path, default=None, help="file name without ending")
    add("--update", action="store_true", help="keep the output's rows that are not measured now")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds = 1
    return arguments


def measure_cells(arguments):
    """Yield cells, each from its child process: (workload, activation, dtype, threads)."""
    best_peak = dict.fromkeys(arguments.dtypes, 0.0)
    jobs = [
        (workload, activation, dtype, threads)
        for dtype in arguments.dtypes
        for threads in arguments.threads
        for activation in arguments.activations
        for workload in arguments.workloads
    ]
    for workload, activation, dtype, threads in jobs:
        activation = activation or WORKLOADS[workload].activation
        print(f"\n{workload}, {activation}, {dtype}, threads {threads}", flush=True)
        cores, peak = measure.fastest_cores(threads, dtype)
        best_peak[dtype] = max(best_peak[dtype], peak)
        names = [n for n in arguments.contenders if threads > 1 or n != "fastbp, 1 thread"]
        cell = measure.run_child(
            cores, "bench.cell", "--workload", workload, "--activation", activation,
            "--dtype", dtype, "--threads", threads, "--rounds", arguments.rounds,
            "--best-peak", best_peak[dtype], *(["--quick"] if arguments.quick else []),
            "--contenders", *names,
        )  # fmt: skip
        if cell is not None:
            best_peak[dtype] = max(best_peak[dtype], cell["best_peak_gflops"])
            print(report.steps([cell]), report.ratios([cell]), sep="\n\n", flush=True)
            yield cell


def measure_cold_fits(arguments):
    """Complete fits in fresh processes, per number of threads and workload."""
    names = [n for n in arguments.contenders if n in COLD_CONTENDERS]
    names = [n for n in names if not CONTENDERS[n].missing()]
    fits = []
    for threads in arguments.threads:
        for workload in arguments.workloads:
            print(f"cold fit, {workload}, threads {threads}", flush=True)
            cores, _ = measure.fastest_cores(threads, "float32")
            fits.append(
                cold.cold_fits(workload, names, "float32", cores, arguments.rounds, arguments.quick)
            )
    return fits


def measure_extras(arguments):
    """Yield name and result of each part that one-off users wait for: cold fits, search, import."""
    rounds, quick = arguments.rounds, ["--quick"] if arguments.quick else []
    cores = measure.usable_cores()
    parts = {
        "cold": lambda: measure_cold_fits(arguments),
        "defaults": lambda: measure.run_child(cores, "bench.defaults", "--rounds", rounds, *quick),
        "search": lambda: search_table(rounds, arguments.quick),
        "import": lambda: cold.import_cost(rounds),
    }
    for name in arguments.extras:
        print(name, flush=True)
        yield name, parts[name]()


def with_other_rows(results, old):
    """Put the new cells in place of the old ones of the same job; say whose the rest are."""

    def job(row):
        return tuple(row.get(key) for key in ("dtype", "threads", "activation", "workload"))

    new = {job(cell): cell for cell in results["cells"]}
    cells = [new.pop(job(cell), cell) for cell in old["cells"]] + list(new.values())
    fits = {job(cold): cold for cold in old.get("cold", [])}
    for found in results["cold"]:
        kept = fits.get(job(found), {})
        parts = {part: kept.get(part, {}) | found[part] for part in ("fit", "setup", "losses")}
        fits[job(found)] = found | parts
    before = {name: old[name] for name in ("command", "date")}
    before["commit"] = old["versions"].get("commit", "unknown")
    return results | {
        "cells": cells,
        "cold": list(fits.values()),
        **{part: results.get(part) or old.get(part) for part in ("defaults", "search", "import")},
        "others": [before, *old.get("others", [])],
    }


def write(results, stem):
    """Write markdown, which is returned, and JSON."""
    text = report.markdown(results)
    stem.parent.mkdir(parents=True, exist_ok=True)
    stem.with_suffix(".md").write_text(text)
    stem.with_suffix(".json").write_text(as_lines(results))
    return text


def as_lines(results):
    """Return JSON with a line for each cell, and five digits for each number."""
    shorter = json.loads(json.dumps(results), parse_float=lambda text: float(f"{float(text):.5g}"))
    parts = []
    for name, value in shorter.items():
        entries = [json.dumps(entry) for entry in value] if isinstance(value, list) else None
        text = "[\n" + ",\n".join(entries) + "\n]" if entries else json.dumps(value)
        parts.append(f"{json.dumps(name)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main():
    arguments = parse_arguments()
    now = datetime.now(UTC)
    results = {
        "date": now.strftime("%Y-%m-%d %H:%M UTC"),
        "command": " ".join(["python -m bench", *sys.argv[1:]]),
        "quick": arguments.quick,
        "machine": measure.machine(),
        "versions": measure.versions(),
        "cells": [],
        "cold": [],
    }
    stem = arguments.output or RESULTS / ("quick" if arguments.quick else f"{now:%Y-%m-%d-%H%M}")
    old = json.loads(stem.with_suffix(".json").read_text()) if arguments.update else None

    def save():  # after each part, so that a run that is cut off has lost only its last one
        return write(with_other_rows(results, old) if old else results, stem)

    for cell in [] if arguments.no_cells else measure_cells(arguments):
        results["cells"].append(cell)
        save()
    for name, found in measure_extras(arguments):
        results[name] = found
        save()
    print("\n" + save())
    print(f"written: {stem}.md and .json")


if __name__ == "__main__":
    main()
