"""Results -> markdown.  No measuring here, and no row left out: where fastbp loses, it says so."""

import statistics

from bench.measure import machine, ratio, versions
from bench.workloads import WORKLOADS

# Figures asked of this version, float32: workload -> (x scikit-learn, x JAX, % of peak), 1 thread.
GOALS = {
    "f1": (450, 6, None),
    "f8": (330, 9, None),
    "g": (150, 7, None),
    "b": (52, 3.5, 55),
    "a": (10.5, 2.6, 65),
    "c": (3.6, 1.5, 84),
    "d": (2.8, 1.5, 86),
    "e": (2.0, 1.25, 82),
}
# And how many times faster two threads are to be than one (about 1 where one is used on purpose).
GAINS = {"f1": 0.95, "f8": 0.95, "g": 0.95, "b": 0.95, "a": 1.25, "c": 1.65, "d": 1.6, "e": 1.95,
         "h": 1.7}  # fmt: skip
OURS = "fastbp"
LOSS_TOLERANCE = 0.02


def markdown(results):
    """Write the whole report."""
    parts = ["# fastbp against its peers", _head(results)]
    for dtype, threads in sorted({(c["dtype"], c["threads"]) for c in results["cells"]}):
        cells = [c for c in results["cells"] if (c["dtype"], c["threads"]) == (dtype, threads)]
        parts += [f"## One step, {dtype}, {_threads(threads)}", steps(cells), ratios(cells)]
    for dtype, threads in sorted({(c["dtype"], c["threads"]) for c in results["cold"]}):
        fits = [c for c in results["cold"] if (c["dtype"], c["threads"]) == (dtype, threads)]
        title = f"## First complete fit of a new process, {dtype}, {_threads(threads)}"
        parts += [title, cold_fits(fits)]
    if results.get("defaults"):
        parts += ["## Default estimators on digits, float64 input", defaults(results["defaults"])]
    if results.get("search"):
        parts += ["## GridSearchCV, 12 candidates x 3 folds on digits", search(results["search"])]
    if results.get("import"):
        parts += ["## Import, fresh process", import_table(results["import"])]
    return "\n\n".join(parts) + "\n"


def table(header, rows):
    """Lay out a markdown table; every cell is turned into text."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def page(title, text):
    """One table under a title and what it was measured on."""
    head = [f"{key}: {value}" for key, value in machine().items()]
    head.append("versions: " + ", ".join(f"{k} {v}" for k, v in versions().items()))
    return title + "\n\n" + "  \n".join(head) + f"\n\n{text}\n"


def _head(results):
    lines = [f"{key}: {value}" for key, value in results["machine"].items()]
    lines.append("versions: " + ", ".join(f"{k} {v}" for k, v in results["versions"].items()))
    lines.append(f"command: {results['command']}, {results['date']}")
    for others in results.get("others", []):
        text = f"{others['command']}, {others['date']}, commit {others['commit']}"
        lines.append(f"rows that no command above names: {text}")
    if results["quick"]:
        lines.insert(0, "**Quick mode: tiny jobs to see that all parts run. Not a measurement.**")
    return "  \n".join(lines)


def _threads(n):
    return "1 thread" if n == 1 else f"{n} threads"


def _name(cell):
    plain = cell["activation"] == WORKLOADS[cell["workload"]].activation
    return cell["workload"] + ("" if plain else f" ({cell['activation']})")


def _micro(seconds):
    return f"{1e6 * seconds:.3g}" if seconds > 0 else "below noise"


def steps(cells):
    """Microseconds per step, median (minimum), and marks where the judge finds a higher loss."""
    names = list(dict.fromkeys(name for c in cells for name in c["seconds"]))
    rows = []
    for cell in cells:
        row = [_name(cell)]
        for name in names:
            seconds = cell["seconds"].get(name)
            text = f"{_micro(seconds['median'])} ({_micro(seconds['min'])})" if seconds else "-"
            row.append(text + (" loss!" if seconds and not loss_is_equal(cell, name) else ""))
        rows.append([*row, f"{cell['n_kept']}/{cell['n_rounds']}"])
    caption = "Microseconds, median (minimum); `loss!`: the judge found a final loss more than 2 % "
    caption += "above scikit-learn's.\n\n"
    return caption + table(["workload", *names, "rounds kept"], rows)


def loss_is_equal(cell, name):
    """Whether a contender's judged loss is no worse than scikit-learn's (or the best)."""
    reference = cell["losses"].get("scikit-learn", min(cell["losses"].values()))
    return cell["losses"][name] <= reference * (1 + LOSS_TOLERANCE) + 1e-6


def peers(cell):
    """Names of the contenders that are not fastbp."""
    return [name for name in cell["seconds"] if not name.startswith(OURS)]


def ratios(cells):
    """How many times faster fastbp is, in the same rounds, and its share of the peak."""
    rows = []
    for cell in cells:
        seconds = cell["seconds"]
        if OURS not in seconds or seconds[OURS]["min"] <= 0:  # the second: quick runs only
            reason = "fastbp did not run" if OURS not in seconds else "below noise"
            rows.append([_name(cell), reason, *["-"] * (4 if cell["threads"] == 1 else 5)])
            continue
        times = {n: ratio(seconds, n, OURS) for n in peers(cell) if seconds[n]["min"] > 0}
        gflops = cell["gflop_per_step"] / seconds[OURS]["median"]
        share = 100 * gflops / cell["peak_gflops"]
        rows.append([_name(cell), *_against(times), f"{share:.0f} %", *_goal(cell, times, share)])
        if cell["threads"] > 1:
            rows[-1] += _gain(cell)
    header = ["workload", "vs scikit-learn", "vs jax epoch", "vs best peer", "share of peak"]
    header += ["goal (x sklearn, x jax, % peak)"] if cells[0]["threads"] == 1 else []
    header += ["vs 1 thread", "goal"] if cells[0]["threads"] > 1 else []
    return (
        table(header, rows)
        if rows
        else "No ratio: fastbp did not run, or its time is below the noise."
    )


def _against(times):
    texts = [f"{times[n]:.3g}x" if n in times else "-" for n in ("scikit-learn", "jax epoch")]
    if not times:
        return [*texts, "-"]
    best = min(times, key=times.get)
    lost = " **lost**" if times[best] < 1 else ""
    return [*texts, f"{times[best]:.3g}x ({best}){lost}"]


def _goal(cell, times, share):
    if cell["threads"] != 1:
        return []
    goal = GOALS.get(cell["workload"])
    if goal is None or cell["dtype"] != "float32" or cell["activation"] != "relu":
        return ["-"]
    measured = (times.get("scikit-learn", 0), times.get("jax epoch", 0), share)
    met = [g is None or m >= g for g, m in zip(goal, measured, strict=True)]
    return [
        ", ".join("-" if g is None else f"{g:g}" for g in goal)
        + (" ok" if all(met) else " **missed**")
    ]


def _gain(cell):
    """How many times faster than with one thread, and the goal where there is one."""
    if "fastbp, 1 thread" not in cell["seconds"]:
        return ["-", "-"]
    gain, goal = ratio(cell["seconds"], "fastbp, 1 thread", OURS), GAINS.get(cell["workload"])
    if goal is None or cell["dtype"] != "float32" or cell["threads"] != 2:
        return [f"{gain:.2f}x", "-"]
    return [f"{gain:.2f}x", f"{goal:g} {'ok' if gain >= goal else '**missed**'}"]


def cold_fits(fits):
    """Seconds of first complete fits, and of what comes before them: imports and data."""
    names, rows = list(dict.fromkeys(name for cold in fits for name in cold["fit"])), []
    for cold in fits:
        row = [f"{cold['workload']}, {WORKLOADS[cold['workload']].cold_epochs} epochs"]
        for name in names:
            fit = cold["fit"].get(name)
            text = f"{fit['median']:.3g} ({fit['min']:.3g})" if fit else "-"
            row.append(text + (" loss!" if fit and not loss_is_equal(cold, name) else ""))
        ours = cold["fit"].get(OURS, {}).get("median")
        theirs = {n: f["median"] for n, f in cold["fit"].items() if not n.startswith(OURS)}
        rows.append([*row, *_against({n: t / ours for n, t in theirs.items()} if ours else {})])
    setups = [[c["setup"][n]["median"] for c in fits if n in c["setup"]] for n in names]
    rows.append(["imports and data", *(f"{statistics.median(s):.3g}" for s in setups), *["-"] * 3])
    header = ["workload", *names, "vs scikit-learn", "vs jax epoch", "vs best peer"]
    return "Seconds, median (minimum).\n\n" + table(header, rows)


def defaults(result):
    """Complete default fits with epochs and training score."""
    seconds, rows = result["seconds"], []
    for name, figures in seconds.items():
        end = result["results"][name]
        gain = "-" if name == "scikit-learn" else f"{ratio(seconds, 'scikit-learn', name):.3g}x"
        times = f"{figures['median']:.3g} ({figures['min']:.3g})"
        rows.append([name, times, gain, end["n_iter"], f"{end['score']:.4f}", f"{end['loss']:.5g}"])
    return table(["estimator", "fit, s", "vs scikit-learn", "epochs", "score", "loss"], rows)


def search(result):
    """Cold and warm seconds per library and backend, and the ratio best against recommended."""
    from bench.bench_search import RECOMMENDED_BACKEND

    rows = [
        [
            name,
            f"{row['cold']['median']:.3g}",
            f"{row['warm']['median']:.3g}",
            f"{row['score']:.4f}",
        ]
        for name, row in result.items()
    ]
    text = table(["library, backend", "cold, s", "warm, s", "best score"], rows)
    ours = result.get(f"fastbp, {RECOMMENDED_BACKEND}")
    if not ours:
        return text
    gains = []
    for kind in ("cold", "warm"):
        theirs = [row[kind]["median"] for n, row in result.items() if n.startswith("scikit-learn")]
        gains.append(f"{kind} {min(theirs) / ours[kind]['median']:.3g}x" if theirs else "")
    return f"{text}\n\nfastbp with {RECOMMENDED_BACKEND} against scikit-learn's best: " + ", ".join(
        gains
    )


def import_table(result):
    """Milliseconds until each import is done, and beyond the first: median of the differences."""
    first = next(iter(result.values()))["all"]
    rows = []
    for name, r in result.items():
        beyond = statistics.median(t - t0 for t, t0 in zip(r["all"], first, strict=True))
        rows.append([name, f"{1e3 * r['median']:.0f}", f"{1e3 * beyond:+.0f}"])
    return table(["import", "ms", "beyond sklearn.neural_network, ms"], rows)
