"""Results -> a page of the documentation: for readers, who know neither the commands nor the names.

`write_page` is called by ``docs/conf.py``; it reads what ``python -m bench`` wrote into
``bench/results`` and gives Markdown: what each row is, on which machine, what follows.  No
commands, no commits: these stand in the results themselves.  No measuring here.
"""

import calendar
import json
import re
from pathlib import Path

from bench.measure import ratio
from bench.workloads import WORKLOADS

RESULTS = Path(__file__).parent / "results"
# In the order of README: from the smallest step to the largest.
MEANING = {
    "f1": "tiny, one sample a step: learning online",
    "f8": "tiny, eight samples a step",
    "g": "four columns, three classes, such as iris",
    "b": "ten columns, one target: a small regression",
    "a": "pictures of 8 x 8 pixels, ten digits",
    "c": "a table of 54 columns, seven classes, such as forest cover types",
    "d": "pictures of 28 x 28 pixels, ten classes, such as Fashion-MNIST",
    "e": "a thousand columns, layers of a thousand units",
}
OURS = ("commit", "fastbp")
PEERS = {
    "scikit-learn": "scikit-learn",
    "torch in place": "PyTorch, in place",
    "jax epoch": "JAX, whole epochs compiled",
}


def name_of(workload):
    """Return the layers of a workload, and its minibatch."""
    job = WORKLOADS[workload]
    return f"{'-'.join(map(str, job.layers))}, {job.batch_size}"


def solver_of(workload):
    """Return the optimiser of a workload."""
    job = WORKLOADS[workload]
    return (
        "SGD with Nesterov momentum" if job.momentum else {"adam": "Adam", "sgd": "SGD"}[job.solver]
    )


def table(header, rows):
    """Return a table in Markdown, numbers on the right."""
    is_number = [str(cell)[:1].isdigit() for cell in rows[0]]
    lines = [header, ["---", *("--:" if right else "---" for right in is_number[1:])], *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def microseconds(seconds):
    """Write a time in microseconds, with two or three digits."""
    value = 1e6 * seconds
    if value < 100:
        return f"{value:.{2 if value < 1 else 3}g}"
    return f"{int(float(f'{value:.3g}')):,}"


def cells_of(results, n_threads):
    """Return the cells of float32 and relu by their workload, in the order of `MEANING`."""
    cells = {
        cell["workload"]: cell
        for cell in results["cells"]
        if (cell["threads"], cell["dtype"], cell["activation"]) == (n_threads, "float32", "relu")
    }
    return {name: cells[name] for name in MEANING if name in cells}


def steps_table(cells):
    """One row for each workload: the time of each library, and the ratio to the best peer."""
    rows = []
    for name, cell in cells.items():
        seconds = cell["seconds"]
        ratios = {peer: ratio(seconds, peer, "fastbp") for peer in PEERS if peer in seconds}
        best = min(ratios, key=ratios.get)
        rows.append(
            [
                name_of(name),
                microseconds(seconds["fastbp"]["median"]),
                *(microseconds(seconds[p]["median"]) if p in seconds else "-" for p in PEERS),
                f"{ratios[best]:.3g}x ({PEERS[best].partition(',')[0]})",
            ]
        )
    return table(
        ["network, rows in a step", "fastbp", *PEERS.values(), "fastbp against the best of them"],
        rows,
    )


def conclusions(results):
    """Say what follows, with the figures that say it."""
    one, two = cells_of(results, 1), cells_of(results, 2)
    against = {
        name: min(ratio(cell["seconds"], peer, "fastbp") for peer in PEERS)
        for name, cell in one.items()
    }
    sklearn = {name: ratio(cell["seconds"], "scikit-learn", "fastbp") for name, cell in one.items()}
    shares = {
        name: 100 * cell["gflop_per_step"] / cell["seconds"]["fastbp"]["median"]
        / cell["peak_gflops"]
        for name, cell in one.items()
    }  # fmt: skip
    gains = {
        name: ratio(cell["seconds"], "fastbp, 1 thread", "fastbp")
        for name, cell in two.items()
        if "fastbp, 1 thread" in cell["seconds"]
    }
    small, large = ("f1", "f8", "g"), ("c", "d", "e")
    several = [name for name, gain in gains.items() if gain > 1.2]
    return f"""\
- **Small networks gain most.** A step of the first three rows takes {_range(sklearn, small, 0)}
  times as long with scikit-learn, and {_range(against, small, 1)} times as long with the fastest of
  the three: there the time goes into Python and into starting operations, of which fastbp has none
  within an epoch.
- **Large networks gain little**, {_range(against, large, 2)} times against the fastest peer: they
  wait for the processor's multiply-adds, of whose peak fastbp reaches {_range(shares, large, 0)} %.
  Nobody can be twice as fast there.
- **Two threads** make the last {len(several)} rows {_range(gains, several, 1)} times as fast;
  smaller networks use one on purpose.
- A whole fit gains less than a step where it also checks and converts data: see the first fits
  below."""


def _range(values, names, digits):
    chosen = [values[name] for name in names if name in values]
    return f"{min(chosen):.{digits}f} to {max(chosen):.{digits}f}"


def first_fits():
    """Return the tables of the first fits, with rows that say what they are."""
    text = (RESULTS / "first_fits.md").read_text("utf-8")
    text = text[text.index("\n## ") : text.index("\n## Import")]  # README has a newer figure
    names = "|".join(sorted(WORKLOADS, key=len, reverse=True))
    return re.sub(
        rf"^\| ({names}), (\d+) epochs \|",
        lambda found: f"| {name_of(found[1])}, {found[2]} epochs |",
        text.replace("\n## ", "\n### "),
        flags=re.M,
    )


def compose(results):
    """Return the page."""
    machine, versions = results["machine"], results["versions"]
    known = ", ".join(
        f"{name} {version}"
        for name, version in versions.items()
        if name not in ("commit", "fastbp")
    )
    rows = [[name_of(name), solver_of(name), meaning] for name, meaning in MEANING.items()]
    legend = table(["network, rows in a step", "optimiser", "what it stands for"], rows)
    one, two = cells_of(results, 1), cells_of(results, 2)
    return f"""# Measurements

How long one step of training takes (a minibatch forward, the gradients backward, and the update of
all weights) with fastbp and with others on the same job: the same data, initial weights, order of
rows, float32 and optimiser, so that all end at the same loss. [How it is measured](benchmarks.md),
[results on tables](tables.md).

**Machine**: {machine["processor"]}, {machine["cores"]} cores, {machine["system"]}, Python
{machine["python"]}; {known}. Measured in {_month(results["date"])}. Times are medians of
interleaved rounds.

![How many times longer a step takes with each peer, on one core](../bench/results/steps.svg)

## What to conclude

{conclusions(results)}

## The rows

A network is written as its layers, and the rows of a minibatch: "64-100-10, 200" has 64 inputs, one
hidden layer of 100 units, 10 outputs, and learns from 200 rows in a step.

{legend}

## One step, one thread

Microseconds; less is better.

{steps_table(one)}

*PyTorch, in place*: its operations on memory that is kept, with one fused update, faster than the
usual loop. *JAX, whole epochs compiled*: one call for an epoch.

## One step, two threads

{steps_table(two)}

## First fits and searches

Below, `fastbp, numba` is the engine without a C compiler, `own functions` a loss and an activation
written in Python, which are compiled at the first fit.

{first_fits()}"""


def _month(date):
    year, month, _ = date.split("-", 2)
    return f"{calendar.month_name[int(month)]} {year}"


def write_page(path):
    """Write the page of ``bench/results/steps.json`` and ``first_fits.md``."""
    results = json.loads((RESULTS / "steps.json").read_text("utf-8"))
    text = compose(results)
    path = Path(path)
    if not path.exists() or path.read_text("utf-8") != text:
        path.write_text(text, encoding="utf-8")
