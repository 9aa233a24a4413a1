"""GridSearchCV, 12 candidates x 3 folds on digits: fastbp against scikit-learn, cold and warm.

``python -m bench.bench_search --library fastbp --backend threading`` runs one fresh process and
prints the seconds of the first search (starting the workers included) and of a second one; the
data are in memory before.  BLAS
is held to one thread in every backend, which is scikit-learn's fastest setting on data this small.
``pytest bench/bench_search.py`` times warm searches.
"""

import argparse
import importlib.util
import json
import warnings

import pytest

from bench import measure
from bench.cold import summarise

BACKENDS = ("serial", "loky", "threading")
LIBRARIES = ("fastbp", "scikit-learn")
RECOMMENDED_BACKEND = "threading"  # fits release the GIL and share one copy of the data
GRID = {"alpha": [1e-5, 1e-4, 1e-3, 1e-2], "learning_rate_init": [3e-4, 1e-3, 3e-3]}


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


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--library", choices=LIBRARIES, required=True)
    parser.add_argument("--backend", choices=BACKENDS, required=True)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    job = (arguments.library, arguments.backend, *digits(), arguments.quick)
    make_search(arguments.library)  # imports are not part of the search
    cold = measure.seconds_of(run_search, *job)
    warm = measure.seconds_of(run_search, *job)
    print(json.dumps({"cold": cold, "warm": warm, "score": run_search(*job)}))


if __name__ == "__main__":
    main()
