"""Searches on the same data: BackpropSearchCV, GridSearchCV, scikit-learn's MLP, LightGBM.

``python -m bench.bench_search --data FOLDER`` runs whole searches (`bench.searches` says which) in
fresh processes, interleaved, and writes ``bench/results/search.md`` and ``.json``: a table for each
job, and beside each figure that was asked for the one that was reached.

``python -m bench.bench_search --library fastbp --backend threading`` runs GridSearchCV of 12
candidates x 3 folds on digits in one fresh process and prints the seconds of the first search
(starting the workers included) and of a second one; the data are in memory before.  BLAS is held to
one thread in every backend, which is scikit-learn's fastest setting on data this small.
``pytest bench/bench_search.py`` times warm searches.
"""

import argparse
import importlib.util
import json
import statistics
import warnings
from pathlib import Path

import pytest

from bench import measure
from bench.cold import summarise
from bench.report import page, table
from bench.searches import ALONE, GRID, HALVING, JOBS, LIGHTGBM, MLP, OTHERS, OURS, Job

BACKENDS = ("serial", "loky", "threading")
LIBRARIES = ("fastbp", "scikit-learn")
RECOMMENDED_BACKEND = "threading"  # fits release the GIL and share one copy of the data


def make_search(library, quick=False):
    """Make the search, unfitted; two jobs unless joblib is told otherwise."""
    from sklearn.model_selection import GridSearchCV

    if library == "fastbp":
        from fastbp import BackpropClassifier as Classifier
    else:
        from sklearn.neural_network import MLPClassifier as Classifier
    grid = {name: values[:1] for name, values in GRID.items()} if quick else GRID
    model = Classifier(hidden_layer_sizes=(100,), max_iter=2 if quick else 20, random_state=0)
    return GridSearchCV(model, grid, cv=3, n_jobs=2, refit=False)


def digits():
    """Digits as a user has them: float64, scaled to [0, 1]."""
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    return X / 16.0, y


def run_search(library, backend, X, y, quick=False):
    """One search; returns the best mean score."""
    from joblib import parallel_config
    from threadpoolctl import threadpool_limits

    search = make_search(library, quick)
    if backend == "serial":
        search.n_jobs = 1
    with warnings.catch_warnings(), threadpool_limits(1, user_api="blas"):
        warnings.simplefilter("ignore")
        with parallel_config(backend if backend != "serial" else "sequential"):
            return float(search.fit(X, y).best_score_)


def search_table(n_rounds, quick=False):
    """Cold and warm seconds of each library and backend, fresh processes, interleaved."""
    table = {}
    for _ in range(n_rounds):
        for library in LIBRARIES:
            for backend in BACKENDS:
                arguments = ["--library", library, "--backend", backend]
                arguments += ["--quick"] if quick else []
                cores = measure.usable_cores()
                result = measure.run_child(cores, "bench.bench_search", *arguments)
                if result is not None:
                    row = table.setdefault(f"{library}, {backend}", {"cold": [], "warm": []})
                    row["cold"].append(result["cold"])
                    row["warm"].append(result["warm"])
                    row["score"] = result["score"]
    for row in table.values():
        row["cold"], row["warm"] = summarise(row["cold"]), summarise(row["warm"])
    return table


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("library", LIBRARIES)
def bench_search(benchmark, library, backend):
    """Warm search: 36 fits of 20 epochs."""
    if library == "fastbp" and importlib.util.find_spec("fastbp") is None:
        pytest.skip("fastbp is not installed")
    benchmark.group = "GridSearchCV 12 x 3 on digits"
    score = benchmark.pedantic(
        run_search, args=(library, backend, *digits()), rounds=5, iterations=1, warmup_rounds=1
    )
    benchmark.extra_info["best_score"] = score


# --------------------------------------------------------------------------- whole searches

CONTENDERS = {
    "bare": (OURS, HALVING, *OTHERS, *MLP, LIGHTGBM),
    "pipeline": (OURS, HALVING, *OTHERS, *MLP, ALONE),
    "table": (OURS, HALVING, *OTHERS, *MLP, LIGHTGBM),
    "fashion": (OURS, HALVING, *OTHERS, ALONE, LIGHTGBM),  # MLP: hours
    "memory": (OURS, OTHERS[0]),
}
LONG = {"fashion": 3}  # rounds, where searches take minutes
ONCE = {("fashion", LIGHTGBM)}  # in the first round only: an hour or two
NEAR = 0.998  # of the best score of the full search


def run_job(name, arguments):
    """Return, for each contender, what it gave in each round."""
    n_rounds, found = min(arguments.rounds, LONG.get(name, arguments.rounds)), {}
    contenders = [one for one in CONTENDERS[name] if one not in arguments.skip]
    for number in range(n_rounds):
        first = number % len(contenders)
        for contender in contenders[first:] + contenders[:first]:
            if number and (name, contender) in ONCE:
                continue
            print(f"{name}, round {number + 1} of {n_rounds}, {contender}", flush=True)
            more = ["--data", arguments.data] if arguments.data else []
            more += ["--quick"] if arguments.quick else []
            result = measure.run_child(
                measure.usable_cores(), "bench.searches", "--job", name, "--contender", contender,
                *more,
            )  # fmt: skip
            if result is not None:
                found.setdefault(contender, []).append(result)
    wanted = {one: 1 if (name, one) in ONCE else n_rounds for one in contenders}
    return {one: rows for one, rows in found.items() if len(rows) == wanted[one]}


def seconds_near(result, best):
    """Seconds until a candidate was finished that is as good as the full search's best, or None."""
    return min((t for t, score in result["trace"] if score >= NEAR * best), default=None)


def median(values):
    """Median, as text; "-" if one is not known."""
    values = list(values)
    return "-" if None in values or not values else f"{statistics.median(values):.3g}"


def job_table(results):
    """Lay out what each contender of a job reached."""
    best = results[OURS][0]["score"] if OURS in results else float("inf")
    rows = []
    for name, found in results.items():
        ratios = []
        if OURS in results:
            pairs = zip(found, results[OURS], strict=False)  # one may have the first round only
            ratios = [a["seconds"] / b["seconds"] for a, b in pairs]
        row = [name, median(a["seconds"] for a in found), median(ratios)]
        if name == ALONE:
            rows.append([*row, "", "", ""])
            continue
        growth = None if name.endswith("loky") else [a["growth"] for a in found]
        grown = "-" if not growth or None in growth else median(g / 2**20 for g in growth)
        near = median(seconds_near(a, best) for a in found)
        rows.append([*row, f"{found[0]['score']:.4f}", near, grown])
    return table(
        ["search", "s", f"x {OURS}", "best score", "s to within 0.2 % of it", "memory, + MB"], rows
    )


def figures(results, n_cores):
    """Return what was asked for and what was reached: (figure, bound, reached) in rows."""
    rows = []

    def ratio(job, above, below):
        """Median over the rounds of the least of `above` over the least of `below`."""
        found = results.get(job, {})
        above, below = ([found[n] for n in names if n in found] for names in (above, below))
        if not above or not below:
            return None
        least = [[min(r["seconds"] for r in row) for row in zip(*side, strict=True)]
                 for side in (above, below)]  # fmt: skip
        return statistics.median(a / b for a, b in zip(*least, strict=True))

    for job, found in results.items():
        others = [name for name in OTHERS if name in found and OURS in found]
        if others:
            same = {found[name][0]["digest"] for name in (OURS, *others)}
            rows.append([f"{job}: scores equal GridSearchCV's bit for bit", "yes",
                         "yes" if len(same) == 1 else "**no**"])  # fmt: skip
    for job in ("fashion", "pipeline"):
        share = ratio(job, [OURS], [ALONE])
        if share is not None:
            text = f"{job}: wall x cores beyond the net fits alone"
            rows.append([text, "<= 10 %" if job == "fashion" else "", f"{n_cores * share - 1:.1%}"])
    bounds = [
        ("pipeline", [OURS], OTHERS, "wall over GridSearchCV's best backend", "<= 0.75"),
        ("pipeline", MLP, [OURS], "scikit-learn's MLP at its best over ours", ">= 5"),
        ("bare", [OURS], OTHERS, "wall over GridSearchCV's best backend", ""),
        ("bare", MLP, [OURS], "scikit-learn's MLP at its best over ours", ""),
        ("fashion", [OURS], [HALVING], "full search over halving", ">= 3"),
        ("fashion", [OURS], OTHERS, "wall over GridSearchCV's best backend", ""),
    ]
    for job, above, below, what, bound in bounds:
        found = ratio(job, above, below)
        if found is not None:
            rows.append([f"{job}: {what}", bound, f"{found:.3g}"])
    fashion = results.get("fashion", {})
    if OURS in fashion and HALVING in fashion:
        scores = [fashion[name][0]["score"] for name in (OURS, HALVING)]
        rows.append(["fashion: best score, full search and halving", "equal",
                     " and ".join(f"{score:.4f}" for score in scores)])  # fmt: skip
    for found in results.get("memory", {}).get(OURS, [])[:1]:
        text = "memory: peak growth over transformed folds in flight and networks"
        rows.append([text, "<= 1.2", f"{found['allocated'] / found['allowed']:.3g}"])
        if found["growth"] is not None:
            text = "memory: the same of the resident size, with what malloc keeps"
            rows.append([text, "", f"{found['growth'] / found['allowed']:.3g}"])
    return rows


def whole_searches(arguments):
    """Run all jobs; write and print the report."""
    results = {}
    for name in arguments.jobs:
        try:
            Job(name, arguments.data, quick=True)
        except (FileNotFoundError, ImportError) as error:
            print(f"{name} is left out: {error}", flush=True)
            continue
        results[name] = run_job(name, arguments)
    n_cores = len(measure.usable_cores())
    parts = ["## Figures", table(["figure", "asked", "reached"], figures(results, n_cores))]
    for name, found in results.items():
        parts += [f"## {JOBS[name]}", job_table(found)]
    if arguments.quick:
        parts.insert(0, "**Quick mode: does everything run? Not a measurement.**")
    text = page("# Searches", "\n\n".join(parts))
    print(text)
    if arguments.output:
        arguments.output.with_suffix(".md").write_text(text, encoding="utf-8")
        arguments.output.with_suffix(".json").write_text(json.dumps(results), encoding="utf-8")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--library", choices=LIBRARIES)
    parser.add_argument("--backend", choices=BACKENDS)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--skip", nargs="+", default=[], help="contenders to leave out")
    parser.add_argument("--data", type=Path, help="folder as for bench.quality")
    parser.add_argument("--output", type=Path, help="where to write, without suffix")
    arguments = parser.parse_args()
    if arguments.library is None:
        whole_searches(arguments)
        return
    job = (arguments.library, arguments.backend, *digits(), arguments.quick)
    make_search(arguments.library)  # imports are not part of the search
    cold = measure.seconds_of(run_search, *job)
    warm = measure.seconds_of(run_search, *job)
    print(json.dumps({"cold": cold, "warm": warm, "score": run_search(*job)}))


if __name__ == "__main__":
    main()
