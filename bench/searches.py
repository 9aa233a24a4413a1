"""Whole searches side by side: what is searched on what data, and who searches it.

``python -m bench.searches --job pipeline --contender "BackpropSearchCV"`` is one search in a fresh
process: a tiny one before starts threads and worker processes, then one is measured.  It prints
seconds, the best score, when each better score was known, and how far memory grew.
``bench.bench_search`` runs many, interleaved.
"""

import argparse
import hashlib
import json
import time
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
from sklearn.base import clone
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import (
    GridSearchCV,
    ParameterGrid,
    ParameterSampler,
    RandomizedSearchCV,
    StratifiedKFold,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from bench.measure import usable_cores

GRID = {"alpha": [1e-5, 1e-4, 1e-3, 1e-2], "learning_rate_init": [3e-4, 1e-3, 3e-3]}
EPOCHS, CV, FASHION_ROWS, TABLE_ROWS = 20, 3, 10_000, 8_000
OURS, HALVING, ALONE = "BackpropSearchCV", "BackpropSearchCV, halving", "net fits alone"
OTHERS = ("GridSearchCV, threading", "GridSearchCV, loky")
MLP = ("scikit-learn, threading", "scikit-learn, loky", "scikit-learn, serial")
LIGHTGBM = "LightGBM, Optuna"
LIGHTGBM_S = (
    300  # seconds in which it may begin trials: on Fashion-MNIST all 200 take about an hour
)
JOBS = {
    "bare": "digits, 12 candidates x 3 folds, no preprocessing",
    "pipeline": "digits, 12 candidates x 3 folds, StandardScaler and PCA(32) before",
    "table": f"adult, raw: {TABLE_ROWS} rows, 12 candidates x 3 folds, encoding before",
    "fashion": f"Fashion-MNIST, {FASHION_ROWS} rows, 200 random candidates x 3 folds",
    "memory": f"Fashion-MNIST, {FASHION_ROWS} rows, 12 candidates x 3 folds, StandardScaler before",
}


class Job:
    """Data, steps, and candidates.

    Parameters
    ----------
    name : str
        One of `JOBS`.
    folder : Path or None
        With ``fashion_mnist.npz`` and ``tables/adult_raw.csv.gz``, as for `bench.quality`.
    quick : bool
        Tiny, to see that everything runs.

    Raises
    ------
    FileNotFoundError
        If the data are not there.
    """

    def __init__(self, name, folder, quick=False):
        self.name, self.max_iter = name, 3 if quick else EPOCHS
        self.n_candidates = None
        self.grid = {key: values[:2] for key, values in GRID.items()} if quick else GRID
        if name in ("bare", "pipeline"):
            self.X, self.y = load_digits(return_X_y=True)
            self.X = self.X / 16.0
        elif name == "table":
            from bench.quality import read_table

            self.X, self.y, *_ = read_table(need(folder, "tables/adult_raw.csv.gz"), "adult_raw", 0,
                                            300 if quick else TABLE_ROWS)  # fmt: skip
        else:
            with np.load(need(folder, "fashion_mnist.npz") / "fashion_mnist.npz") as stored:
                n_rows = 300 if quick else FASHION_ROWS
                self.X, self.y = stored["X_train"][:n_rows] / 255.0, stored["y_train"][:n_rows]
        if name == "fashion":
            from scipy.stats import loguniform

            self.n_candidates = 6 if quick else 200
            self.grid = {
                "alpha": loguniform(1e-6, 1e-1),
                "learning_rate_init": loguniform(1e-5, 1e-1),
                "hidden_layer_sizes": [(32,), (64,), (100,), (64, 32)],
                "batch_size": [64, 128, 200],
            }

    def network(self, library="fastbp"):
        """Return the network, not fitted."""
        if library == "fastbp":
            from fastbp import BackpropClassifier as Classifier
        else:
            from sklearn.neural_network import MLPClassifier as Classifier
        return Classifier(hidden_layer_sizes=(100,), max_iter=self.max_iter, random_state=0)

    def estimator(self, library="fastbp"):
        """Return what is searched, not fitted, and its parameters."""
        steps = {
            "pipeline": lambda: [("scale", StandardScaler()), ("pca", PCA(32, random_state=0))],
            "table": lambda: [("encode", encoder(library))],
            "memory": lambda: [("scale", StandardScaler())],
        }.get(self.name, list)()
        if not steps:
            return self.network(library), self.grid
        pipeline = Pipeline([*steps, ("net", self.network(library))])
        return pipeline, {f"net__{name}": values for name, values in self.grid.items()}

    def candidates(self):
        """Return the settings of the network, in the order of all searches."""
        if self.n_candidates is None:
            return list(ParameterGrid(self.grid))
        return list(ParameterSampler(self.grid, self.n_candidates, random_state=0))

    def part(self, n_rows):
        """Return the first rows, for a tiny search."""
        X = self.X.iloc[:n_rows] if hasattr(self.X, "iloc") else self.X[:n_rows]
        return X, self.y[:n_rows]


def need(folder, name):
    """Return the folder, if it has the file."""
    if folder is None or not (folder / name).exists():
        raise FileNotFoundError(f"needs --data FOLDER with {name}")
    return folder


def encoder(library):
    """Return what makes numbers of a raw table."""
    if library == "fastbp":
        from fastbp import TableEncoder

        return TableEncoder()
    return make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_include="category")),
        remainder=StandardScaler(),
    )


# --------------------------------------------------------------------------------- contenders


def search(job, contender, X, y, trace):
    """Search; return the best mean score, and all mean scores.

    `trace` gets (seconds since the beginning, score) of each candidate that is finished, as far as
    the search can be ended there with what it has: GridSearchCV has nothing before its end.
    """
    begun = time.perf_counter()
    if contender == LIGHTGBM:
        return tune_lightgbm(job, X, y, trace)
    library = "scikit-learn" if contender in MLP else "fastbp"
    estimator, grid = job.estimator(library)
    n_jobs = len(usable_cores())
    if contender in (OURS, HALVING):
        from fastbp import BackpropSearchCV
        from fastbp.search.live import SearchReport

        before = SearchReport.end_candidate

        def end_candidate(self, params, score, *, discarded=False):
            if not discarded:
                trace.append((time.perf_counter() - begun, score))
            before(self, params, score, discarded=discarded)

        SearchReport.end_candidate = end_candidate
        plain = "grid" if job.n_candidates is None else "random"
        found = BackpropSearchCV(
            estimator, grid, strategy=plain if contender == OURS else "halving", cv=CV, refit=False,
            n_candidates=job.n_candidates, n_jobs=n_jobs, random_state=0,
        )  # fmt: skip
        try:
            found.fit(X, y)
        finally:
            SearchReport.end_candidate = before
    else:
        from joblib import parallel_config

        backend = contender.split(", ")[1]
        n_jobs = 1 if backend == "serial" else n_jobs
        if job.n_candidates is None:
            found = GridSearchCV(estimator, grid, cv=CV, refit=False, n_jobs=n_jobs)
        else:
            found = RandomizedSearchCV(
                estimator, grid, n_iter=job.n_candidates, cv=CV, refit=False, n_jobs=n_jobs,
                random_state=0,
            )  # fmt: skip
        with parallel_config("sequential" if backend == "serial" else backend):
            found.fit(X, y)
        trace.append((time.perf_counter() - begun, found.best_score_))
    return found.best_score_, found.cv_results_["mean_test_score"]


def tune_lightgbm(job, X, y, trace):
    """Tune LightGBM in as many trials as candidates, pruned by the mean error of the folds.

    On large data in fewer, those that begin in `LIGHTGBM_S`.
    """
    import lightgbm
    import optuna
    from optuna_integration import LightGBMPruningCallback

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    begun, classes = time.perf_counter(), np.unique(y)
    data = lightgbm.Dataset(X, np.searchsorted(classes, y), free_raw_data=False)
    folds = list(StratifiedKFold(CV).split(np.zeros(len(y)), y))

    def objective(trial):
        settings = {
            "objective": "multiclass" if len(classes) > 2 else "binary",
            "num_class": len(classes) if len(classes) > 2 else 1,
            "metric": "multi_error" if len(classes) > 2 else "binary_error",
            "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.3, log=True),
            "num_leaves": trial.suggest_int("num_leaves", 4, 64, log=True),
            "min_child_samples": trial.suggest_int("min_child_samples", 2, 50, log=True),
            "feature_fraction": trial.suggest_float("feature_fraction", 0.3, 1.0),
            "bagging_fraction": trial.suggest_float("bagging_fraction", 0.5, 1.0),
            "bagging_freq": 1, "num_threads": len(usable_cores()), "verbosity": -1, "seed": 0,
            "feature_pre_filter": False,
        }  # fmt: skip
        metric = settings["metric"]
        found = lightgbm.cv(
            settings, data, 5 * job.max_iter, folds=folds,
            callbacks=[LightGBMPruningCallback(trial, metric, valid_name="valid")],
        )  # fmt: skip
        score = 1.0 - min(found[f"valid {metric}-mean"])
        trace.append((time.perf_counter() - begun, score))
        return 1.0 - score

    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=0), pruner=optuna.pruners.MedianPruner()
    )
    study.optimize(objective, n_trials=len(job.candidates()), timeout=LIGHTGBM_S)
    return 1.0 - study.best_value, np.array([])


def fit_alone(job):
    """Return seconds of each fit of the search, one after the other on one thread."""
    estimator, _ = job.estimator()
    seconds = []
    for train, _ in StratifiedKFold(CV).split(np.zeros(len(job.y)), job.y):
        rows = job.X.iloc[train] if hasattr(job.X, "iloc") else job.X[train]
        if isinstance(estimator, Pipeline):
            rows = clone(estimator[:-1]).fit_transform(rows, job.y[train])
        for params in job.candidates():
            network = job.network().set_params(n_threads=1, **params)
            begun = time.perf_counter()
            network.fit(rows, job.y[train])
            seconds.append(time.perf_counter() - begun)
    return seconds


# --------------------------------------------------------------------------------- memory


class Growth:
    """How far the resident memory of this process grows within a ``with`` block, in bytes.

    Linux tells the peak itself; elsewhere `bytes` is None.
    """

    def __enter__(self):
        self.bytes, self.before = None, None
        if Path("/proc/self/clear_refs").exists():
            Path("/proc/self/clear_refs").write_text("5")
            self.before = self._read("VmRSS")
        return self

    def __exit__(self, *_):
        if self.before is not None:
            self.bytes = self._read("VmHWM") - self.before

    @staticmethod
    def _read(name):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))


def allowed_bytes(job):
    """Return the bytes of transformed folds, one for each core, and networks with Adam's state."""
    estimator, _ = job.estimator()
    train, test = next(iter(StratifiedKFold(CV).split(np.zeros(len(job.y)), job.y)))
    steps = clone(estimator[:-1])
    fold = steps.fit_transform(job.X[train]).nbytes + steps.transform(job.X[test]).nbytes
    n_params = sum(w.size for w in job.network().set_params(max_iter=1).fit(job.X, job.y).coefs_)
    return len(usable_cores()) * (fold + 4 * 4 * n_params)


def allocated_bytes(job, contender):
    """Return the peak of what NumPy and Python allocate within a search, malloc's reserve aside."""
    tracemalloc.start()
    try:
        search(job, contender, job.X, job.y, [])
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def run(job, contender):
    """Measure one search, or the fits alone."""
    from threadpoolctl import threadpool_limits

    with warnings.catch_warnings(), threadpool_limits(1, user_api="blas"):
        warnings.simplefilter("ignore")
        if contender == ALONE:
            return {"seconds": sum(fit_alone(job))}
        trace = []
        if contender != LIGHTGBM:
            n_candidates, job.n_candidates = job.n_candidates, job.n_candidates and 4
            search(job, contender, *job.part(200), [])
            job.n_candidates = n_candidates
        with Growth() as growth:
            begun = time.perf_counter()
            score, scores = search(job, contender, job.X, job.y, trace)
            seconds = time.perf_counter() - begun
        found = {"seconds": seconds, "score": float(score), "trace": trace, "growth": growth.bytes}
        if job.name == "memory":
            found["allowed"], found["allocated"] = (
                allowed_bytes(job),
                allocated_bytes(job, contender),
            )
        return found | {"digest": hashlib.sha256(np.asarray(scores).tobytes()).hexdigest()}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--job", choices=JOBS, required=True)
    parser.add_argument("--contender", required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    job = Job(arguments.job, arguments.data, arguments.quick)
    print(json.dumps(run(job, arguments.contender)))


if __name__ == "__main__":
    main()
