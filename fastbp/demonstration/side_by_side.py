"""The main job on real data, next to scikit-learn with identical settings.

Every estimator is fitted once in view, then timed in interleaved rounds; the tables show medians.
"""

import io
import re
import sys
import time
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_diabetes, load_digits
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_info, threadpool_limits

from fastbp.estimators import BackpropClassifier, BackpropRegressor

PICTURE = Path("fastbp-losses.png")
BARS = "▁▂▃▄▅▆▇█"
N_CELLS = 24  # width of a progress line
# Epochs compared and relative tolerance; rounding grows from epoch to epoch, in float32 visibly.
LOSS_PROMISE = {"float64": (60, 1e-6), "float32": (10, 1e-3)}
SCORE_TOLERANCE = 0.01
MOST_ROWS, MOST_SEARCH_ROWS = 20_000, 2_000  # of a file given by --data
FIT_SECONDS = 2.0  # what one fit of scikit-learn may take on such a file
ROW = "  {:<19} {:<18} {:>6} {:>9} {:>10} {:>9} {:>7}"


@dataclass(frozen=True)
class Job:
    """One data set with the settings that all estimators share."""

    name: str
    data: tuple  # X_train, X_test, y_train, y_test
    is_classification: bool
    settings: dict
    grid: dict
    n_search: int  # rows given to the grid search

    @property
    def metric(self):
        """What `score` returns for this kind of job."""
        return "accuracy" if self.is_classification else "R2"


@dataclass
class Result:
    """What was seen of one contender in all rounds."""

    label: str
    asked: str  # where its dtype comes from
    dtype: str = ""
    epochs: int = 0
    score: float = 0.0
    losses: tuple = ()
    chosen: str = ""  # the grid search's best candidate
    seconds: tuple = ()

    @property
    def time(self):
        """Median of the timed rounds, in seconds."""
        return median(self.seconds)


# ---- the data and the contenders


def builtin_jobs():
    """Return the jobs on the data that come with scikit-learn."""
    X, y = load_digits(return_X_y=True)
    digits = train_test_split(X, y, test_size=0.4, stratify=y, random_state=0)
    X, y = load_diabetes(return_X_y=True)
    diabetes = train_test_split(X, y, test_size=0.4, random_state=0)
    shapes = [(8,), (64,)]
    return [
        make_job(
            "digits",
            digits,
            {"alpha": [1e-4, 1.0], "hidden_layer_sizes": shapes},
            {"hidden_layer_sizes": (100,), "max_iter": 60},
        ),
        make_job(
            "diabetes",
            diabetes,
            {"alpha": [0.1, 3.0], "hidden_layer_sizes": shapes},
            {"hidden_layer_sizes": (32,), "alpha": 3.0, "batch_size": 32, "max_iter": 60},
        ),
    ]


def load_job(path):
    """Read ``X_train, y_train, X_test, y_test`` from an npz file."""
    with open(path, "rb") as opened, np.load(opened) as file:
        X_train, X_test, y_train, y_test = (
            file[name] for name in ("X_train", "X_test", "y_train", "y_test")
        )
    if len(X_train) > MOST_ROWS:
        print(f"\nUsing the first {MOST_ROWS} of {len(X_train)} training rows, to keep this short.")
        X_train, y_train = X_train[:MOST_ROWS], y_train[:MOST_ROWS]
    # scikit-learn spends about 0.4 ms per step beside its products, which run at some 20 GFLOP/s.
    epoch_s = len(X_train) * (0.4e-3 / 200 + 6 * 100 * X_train.shape[1] / 20e9)
    return make_job(
        Path(path).stem,
        (X_train, X_test, y_train, y_test),
        {"alpha": [1e-4, 1.0], "hidden_layer_sizes": [(16,), (64,)]},
        {"hidden_layer_sizes": (100,), "max_iter": int(np.clip(FIT_SECONDS / epoch_s, 4, 60))},
    )


def make_job(name, data, grid, settings):
    """Complete a job; targets that are floats mean regression.

    No early end: all contenders run the same number of epochs.
    """
    settings |= {"tol": 0.0, "n_iter_no_change": settings["max_iter"], "random_state": 0}
    X_train, _, y_train, _ = data
    n_search = min(len(X_train), MOST_SEARCH_ROWS)
    return Job(name, data, y_train.dtype.kind != "f", settings, grid, n_search)


def contenders(job):
    """Return for each contender a Result to fill and its model; scikit-learn's first."""
    theirs, ours = (
        (MLPClassifier, BackpropClassifier)
        if job.is_classification
        else (MLPRegressor, BackpropRegressor)
    )
    estimators = [
        ("dtype of X", theirs(**job.settings)),
        ("dtype=None", ours(dtype=None, **job.settings)),
        ("default", ours(**job.settings)),
    ]
    return [(Result(type(mlp).__name__, asked), wrap(job, mlp)) for asked, mlp in estimators]


def wrap(job, mlp):
    """Put an estimator behind a StandardScaler; regression scales its target as well."""
    pipeline = Pipeline([("scale", StandardScaler()), ("mlp", mlp)])
    if job.is_classification:
        return pipeline
    return TransformedTargetRegressor(pipeline, transformer=StandardScaler())


def fitted_mlp(model):
    """Return the fitted network inside a model."""
    model = getattr(model, "best_estimator_", model)
    return getattr(model, "regressor_", model)[-1]


# ---- fitting in view, then against the clock


class LossLine(io.TextIOBase):
    """Stands in for stdout during a verbose fit: draws the losses it reads as a growing line."""

    def __init__(self, n_epochs):
        self.out, self.n_epochs = sys.stdout, n_epochs
        self.losses, self.n_drawn = [], 0
        self.plain = "utf" not in (getattr(self.out, "encoding", None) or "").lower()

    def write(self, text):
        """Read the losses in what a fit prints."""
        for found in re.findall(r"loss = (\S+)", text):
            self.losses.append(float(found))
            if len(self.losses) * N_CELLS >= (self.n_drawn + 1) * self.n_epochs:
                self.draw()
        return len(text)

    def draw(self):
        """Lengthen the line to its share of the epochs; a bar is as high as the loss."""
        share = self.losses[-1] / max(self.losses)
        bar = "#" if self.plain else BARS[round(7 * max(share, 0.0))]
        n_due = max(1, len(self.losses) * N_CELLS // self.n_epochs)
        self.out.write(bar * (n_due - self.n_drawn))
        self.out.flush()
        self.n_drawn = n_due


def best_blas_threads(job):
    """Return the number of BLAS threads that serves scikit-learn best here; fastbp uses no BLAS.

    All cores are slower than one for small networks, and much slower on a busy machine.
    """
    most = max((pool["num_threads"] for pool in threadpool_info()), default=1)
    _, model = contenders(job)[0]
    model.set_params(**prefixed(job, {"max_iter": max(1, job.settings["max_iter"] // 20)}))
    seconds = {}
    for n_threads in {1, most}:
        with threadpool_limits(n_threads, user_api="blas"):
            times, _ = race([model], job.data[0], job.data[2], show=False)
        seconds[n_threads] = median(times[0])
    return min(seconds, key=seconds.get)


def fit_in_view(job, result, model):
    """Fit once with a line for each epoch and show the loss on its way down; also the warm-up."""
    X_train, X_test, y_train, y_test = job.data
    model = clone(model).set_params(**prefixed(job, {"verbose": 2}))
    print(f"  {result.label:<19} {result.asked:<11} ", end="", flush=True)
    with redirect_stdout(LossLine(job.settings["max_iter"])):
        model.fit(X_train, y_train)
    mlp = fitted_mlp(model)
    result.dtype = str(mlp.coefs_[0].dtype)
    result.epochs = mlp.n_iter_
    result.losses = tuple(mlp.loss_curve_)
    result.score = model.score(X_test, y_test)
    print(f"  loss {result.losses[0]:.3f} -> {result.losses[-1]:.4f}")


def prefixed(job, parameters):
    """Name parameters of the network as the model around it knows them."""
    prefix = "mlp__" if job.is_classification else "regressor__mlp__"
    return {prefix + name: value for name, value in parameters.items()}


def race(models, X, y, show=True):
    """Fit all models in turn, round after round; return the seconds of each and the last fits."""
    seconds = [[] for _ in models]
    fitted = [None for _ in models]
    n_rounds = 5
    while len(seconds[0]) < n_rounds:
        for i, model in enumerate(models):
            fitted[i] = clone(model)
            start = time.perf_counter()
            fitted[i].fit(X, y)
            seconds[i].append(time.perf_counter() - start)
        if seconds[0][0] > 1.0:
            n_rounds = 3
        if show:
            print(".", end="", flush=True)
    return seconds, fitted


def run_fits(job):
    """Fit every contender in view, then time it; return the results."""
    pairs = contenders(job)
    for result, model in pairs:
        fit_in_view(job, result, model)
    print("  timing, in turn ", end="", flush=True)
    seconds, _ = race([model for _, model in pairs], job.data[0], job.data[2])
    print()
    for (result, _), times in zip(pairs, seconds, strict=True):
        result.seconds = times
    return [result for result, _ in pairs]


def run_searches(job):
    """Time a grid search over every contender, two jobs; return the results."""
    X_train, X_test, y_train, y_test = job.data
    X, y = X_train[: job.n_search], y_train[: job.n_search]
    pairs = contenders(job)
    searches = [GridSearchCV(model, prefixed(job, job.grid), cv=3, n_jobs=2) for _, model in pairs]
    n_candidates = len(job.grid["alpha"]) * len(job.grid["hidden_layer_sizes"])
    rows = f", {job.n_search} rows" if job.n_search < len(X_train) else ""
    print(f"\n  GridSearchCV, {n_candidates} candidates x 3 folds and a refit, two jobs{rows}")
    print("  starting the workers ", end="", flush=True)
    for search in searches:  # each worker has imported everything before the clock runs
        search.fit(X, y)
        print(".", end="", flush=True)
    print("  timing, in turn ", end="", flush=True)
    seconds, fitted = race(searches, X, y)
    print()
    for (result, _), search, times in zip(pairs, fitted, seconds, strict=True):
        mlp = fitted_mlp(search)
        result.dtype = str(mlp.coefs_[0].dtype)
        result.epochs = mlp.n_iter_ * (n_candidates * 3 + 1)  # every fit runs max_iter epochs
        result.score = search.score(X_test, y_test)
        result.chosen = ", ".join(
            f"{name.split('__')[-1]}={value}" for name, value in search.best_params_.items()
        )
        result.seconds = times
    return [result for result, _ in pairs]


# ---- what is printed


def print_job(job, n_blas_threads):
    """Say what is learnt, from what, with which settings."""
    X_train, X_test, y_train, _ = job.data
    goal = f"{len(np.unique(y_train))} classes" if job.is_classification else "regression"
    print(f"\n{job.name}: {len(X_train)} + {len(X_test)} rows, {X_train.shape[1]} features, {goal}")
    shown = {k: v for k, v in job.settings.items() if k not in ("tol", "n_iter_no_change")}
    print("  " + ", ".join(f"{name}={value}" for name, value in shown.items()))
    threads = "thread" if n_blas_threads == 1 else "threads"
    print(f"  scikit-learn with {n_blas_threads} BLAS {threads}, which is its best here\n")


def print_table(job, results):
    """Print one row per contender; ratio = scikit-learn's median time over its own."""
    print()
    heads = f"median of {len(results[0].seconds)} rounds", "dtype", "epochs", "seconds", "s/epoch"
    print(ROW.format(*heads, job.metric, "ratio"))
    for result in results:
        print(
            ROW.format(
                result.label,
                f"{result.dtype} ({result.asked.removeprefix('dtype').strip(' =')})",
                result.epochs,
                f"{result.time:.4f}",
                f"{result.time / result.epochs:.6f}",
                f"{result.score:.4f}",
                f"{results[0].time / result.time:.1f}x",
            )
        )


def check(met, sentence):
    """Print whether a promise is met; return it."""
    print(f"  {'ok  ' if met else 'MISS'}  {sentence}")
    return met


def check_results(job, results, with_losses):
    """Hold the promises against the results; return how each came out."""
    theirs, exact, default = results
    checks = []
    if with_losses:
        most_epochs, tolerance = LOSS_PROMISE[exact.dtype]
        a, b = (np.array(result.losses[:most_epochs]) for result in (theirs, exact))
        gap = np.max(np.abs(a - b) / np.abs(a)) if a.shape == b.shape else np.inf
        sentence = f"dtype=None, same losses: {len(a)} epochs differ by at most {gap:.0e} (relative"
        checks.append(check(gap <= tolerance, f"{sentence}, allowed {tolerance:.0e})"))
    gap = abs(default.score - theirs.score)
    sentence = f"float32 default, same {job.metric}: differs by {gap:.4f} (allowed 0.01)"
    checks.append(check(gap <= SCORE_TOLERANCE, sentence))
    if len({result.chosen for result in results}) == 1 and theirs.chosen:
        print(f"  all three choose {theirs.chosen}")
    elif theirs.chosen:
        print("  chosen: " + "; ".join(f"{result.chosen} ({result.asked})" for result in results))
    factor = theirs.time / max(exact.time, default.time)
    checks.append(check(factor > 1.0, f"faster than scikit-learn: at least {factor:.1f}x"))
    return checks


def save_picture(curves):
    """Draw the loss curves of every job when matplotlib is there; say where the file is."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print('No picture of the losses: matplotlib is missing (pip install "fastbp[plot]").')
        return
    figure = Figure(figsize=(5.5 * len(curves), 4), layout="constrained")
    styles = [
        {"color": "0.75", "linewidth": 6},
        {"color": "tab:blue", "linewidth": 2},
        {"color": "tab:orange", "linestyle": "--"},
    ]
    for axes, (job, results) in zip(np.ravel(figure.subplots(1, len(curves))), curves, strict=True):
        for result, style in zip(results, styles, strict=True):
            label = f"{result.label} ({result.asked})"
            axes.plot(range(1, result.epochs + 1), result.losses, label=label, **style)
        axes.set(title=job.name, xlabel="epoch", ylabel="training loss", yscale="log")
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    try:
        figure.savefig(PICTURE, dpi=120)
    except OSError as error:
        print(f"No picture of the losses: {error}")
        return
    print(f"Loss curves: {PICTURE}")


def run_jobs(jobs):
    """Run the jobs; return how each promise on the screen came out."""
    checks, curves = [], []
    for job in jobs:
        n_blas_threads = best_blas_threads(job)
        print_job(job, n_blas_threads)
        for run, with_losses in ((run_fits, True), (run_searches, False)):
            with threadpool_limits(n_blas_threads, user_api="blas"):
                results = run(job)
            print_table(job, results)
            checks += check_results(job, results, with_losses)
            if with_losses:
                curves.append((job, results))
    print()
    save_picture(curves)
    return checks
