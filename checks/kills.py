"""Kills: a fit that is killed at random moments, and then called again, ends with its own bits.

Each life is a child that this process forks, so that nothing is imported anew; it is sent SIGKILL
after a random time, from the first line of `fit` to behind the last one.  Compared are weights,
curves, predictions and where the random stream stands, with those of the fit that nobody disturbed.
Epochs are counted in memory that outlives the child, before they are trained: over all lives they
are at most those of one fit and one interval for each kill (of a search, for each fit that ran).
The last call finds the file of a finished fit, and must train nothing.

``--search N`` does the same with searches.  POSIX only: Windows has no fork.
"""

import argparse
import hashlib
import mmap
import os
import pickle
import random
import signal
import struct
import tempfile
import threading
import time
import traceback
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from problems import draw_classes, draw_regression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state

from checks.figures import Figures
from fastbp import (
    BackpropClassifier,
    BackpropRegressor,
    BackpropSearchCV,
    Snapshot,
    TabularClassifier,
)
from fastbp.streams import Source, from_arrays, from_batches
from fastbp.training import keeping
from fastbp.training.minibatches import Run

SEED = 5  # of NumPy's global stream, which random_state=None draws from
NETWORK = dict(hidden_layer_sizes=(9,), batch_size=32, max_iter=60, random_state=0)
GRID = {"learning_rate_init": [1e-3, 1e-2, 0.05], "alpha": [1e-4, 1e-2]}


@dataclass
class Case:
    """What is killed: a call that is made again and again."""

    name: str
    estimator: Any
    data: tuple
    more: dict
    interval: int  # epochs; 0: a snapshot after each window of a source
    n_at_a_time: int = 1  # fits that run at the same time
    draws: bool = False  # from NumPy's global stream

    @property
    def every(self):
        """How often a snapshot is written."""
        return {"every_epochs": self.interval} if self.interval else {"every": 0.0}

    def call(self, path=None):
        """Fit a copy, with a snapshot where there is a path; hash of everything that comes of it.

        The global stream has another seed in each life that finds a file.
        """
        stream = check_random_state(None)
        stream.seed(os.getpid() if path is not None and path.exists() else SEED)
        snapshot = path and Snapshot(path, **self.every)
        model, more = pickle.loads(pickle.dumps(self.estimator)), dict(self.more)
        if isinstance(model, BackpropSearchCV):
            model.set_params(snapshot=snapshot)
        elif more.pop("as_callback", False):
            model[-1].set_callbacks(*[snapshot] if snapshot else [])
        else:
            more["snapshot"] = snapshot
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(*self.data, **more)
        found = digest(model, self.data[0])
        if self.draws:
            found = hashlib.sha256(found + stream.get_state()[1].tobytes()).digest()
        return found


def digest(model, X):
    """Hash of what a fit has come to."""
    found = hashlib.sha256()
    if isinstance(model, BackpropSearchCV):
        results = {k: v for k, v in model.cv_results_.items() if "time" not in k}
        curves = [[{k: c if c is None else c.tolist() for k, c in f.items()} for f in row]
                  for row in model.candidate_curves_]  # fmt: skip
        for name, value in results.items():
            found.update(repr((name, np.asarray(value).tolist())).encode())
        found.update(repr((curves, model.best_params_)).encode())
        model = model.best_estimator_
    ends = [model[-1]] if hasattr(model, "steps") else getattr(model, "networks_", [model])
    for network in ends:
        state = vars(network)
        for name in ("coefs_", "intercepts_", "member_coefs_"):
            for array in state.get(name, ()):
                found.update(np.ascontiguousarray(array))
        curves = ("loss_curve_", "validation_scores_", "n_iter_", "t_", "best_iter_", "loss_")
        found.update(repr([state.get(name) for name in curves]).encode())
    if isinstance(X, Source):
        X = next(X.blocks())[0]
    found.update(np.ascontiguousarray(model.predict(X)))
    return found.digest()


def list_fits():
    """Return the fits that are killed."""
    classes, real = draw_classes(300, 8, 3), draw_regression(300, 8)
    held_out = dict(zip(("X_val", "y_val"), draw_classes(90, 8, 3, seed=1), strict=True))
    weight = np.random.default_rng(0).uniform(0.5, 2.0, 300)
    stream = dict(window=64, memory_limit=2**20)
    X, y = classes
    parts = [(X[rows], y[rows]) for rows in np.split(np.arange(300), [70, 150, 290])]

    def net(**more):
        return BackpropClassifier(**NETWORK | more)

    return [
        Case("plain", net(), classes, {}, 1),
        Case("no seed", net(random_state=None, dropout=0.2), classes, {}, 2, draws=True),
        Case("early stopping", net(early_stopping=True, n_iter_no_change=40), classes, {}, 3),
        Case("X_val, class weights", net(class_weight="balanced", ema_decay=0.9), classes,
             held_out, 2),
        Case("schedule, float64", net(learning_rate="cosine", dtype="float64", solver="adamw"),
             classes, {"sample_weight": weight}, 7),
        Case("plateau, sgd", net(learning_rate="plateau", solver="sgd", tol=0.01,
                                 n_iter_no_change=4), classes, {}, 4),
        Case("regression", BackpropRegressor(**NETWORK, scale_targets=True), real, {}, 5),
        Case("pipeline, as a callback", make_pipeline(StandardScaler(), net()), classes,
             {"as_callback": True}, 2),
        Case("tabular", TabularClassifier(max_iter=12, n_networks=2, n_members=2, random_state=0,
                                          hidden_layer_sizes=(8,), n_threads=1), classes, {}, 2),
        Case("source, within epochs", net(max_iter=20, dropout=0.2, learning_rate="cosine"),
             (from_arrays(*classes, **stream),), {}, 0),
        Case("source, early stopping", net(max_iter=20, early_stopping=True, n_iter_no_change=40),
             (from_arrays(*classes, **stream),), {}, 2),
        Case("batches, no seed", net(max_iter=20, random_state=None),
             (from_batches(lambda: parts, **stream),), {}, 0, draws=True),
    ]  # fmt: skip


def list_searches():
    """Return the searches that are killed."""
    classes = draw_classes(300, 8, 3)
    net = BackpropClassifier(**NETWORK | {"max_iter": 27})
    pipe = make_pipeline(StandardScaler(), net)
    named = {f"backpropclassifier__{name}": values for name, values in GRID.items()}
    how = dict(cv=3, n_jobs=2, random_state=0, error_score="raise")
    return [
        Case("grid", BackpropSearchCV(net, GRID, **how), classes, {}, 5, 2),
        Case("halving", BackpropSearchCV(net, GRID, strategy="halving", **how), classes, {}, 3, 2),
        Case("random, pipeline", BackpropSearchCV(pipe, named, strategy="random", n_candidates=4,
                                                  **how), classes, {}, 4, 2),
        Case("early discard", BackpropSearchCV(net, GRID, early_discard=True, **how), classes, {},
             6, 2),
    ]  # fmt: skip


class Counter:
    """Counts epochs, also of children, in memory that they share."""

    def __init__(self):
        self.memory, self.lock = mmap.mmap(-1, 8), threading.Lock()

    def add(self, n):
        with self.lock:
            self.memory[:] = struct.pack("q", self.value + n)

    @property
    def value(self):
        return struct.unpack("q", self.memory[:])[0]

    @contextmanager
    def counting(self):
        """Count the epochs of every fit in the block, before they are trained.

        Snapshots by the clock are written as often as asked for, whatever that costs.
        """
        plain, share = Run.train_epochs, keeping.MOST_OF_TIME
        keeping.MOST_OF_TIME = float("inf")

        def train_epochs(run, losses):
            self.add(len(losses))
            try:
                plain(run, losses)
            finally:
                self.add(run.session.epochs_done - len(losses))

        Run.train_epochs = train_epochs
        try:
            yield
        finally:
            Run.train_epochs, keeping.MOST_OF_TIME = plain, share


def live(case, path, seconds):
    """Let a child make the call, and kill it after some time.

    Returns
    -------
    found : bytes or None
        What came of the call, if it came through.
    killed : bool
    """
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
        child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reader)
            os.write(writer, case.call(path))
            status = 0
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writer)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)  # one that has ended is not gone before somebody waits for it
    found = os.read(reader, 32)
    os.close(reader)
    status = os.waitpid(child, 0)[1]
    if status not in (0, signal.SIGKILL):
        raise RuntimeError(f"{case.name}: a life ended with status {status}")
    return found or None, status == signal.SIGKILL


def run_case(case, rng, counter, seconds, expected, folder):
    """Kill one call until it comes through.

    Returns
    -------
    n_kills, n_epochs : int
    right : bool
        Whether all bits are those of the undisturbed call.
    at_rest : bool
        Whether the same call then trains nothing, and no half-written files are left.
    """
    path, n_kills, before = folder / "fit.snapshot", 0, counter.value
    found = None
    while found is None:
        wait = rng.uniform(0.0, seconds) * rng.choice((0.3, 1.0, 1.0, 2.0))
        found, killed = live(case, path, wait)
        n_kills += killed
    n_epochs = counter.value - before
    right = found == expected == case.call(path)
    trains_none = counter.value - before == n_epochs
    return n_kills, n_epochs, right, trains_none and not list(folder.glob("*.part"))


def run(cases, n, rng, figures):
    """Kill the cases in turn, so many times in all; return the sums of what was counted."""
    counter = Counter()
    with counter.counting():
        known = {case.name: run_undisturbed(case, counter) for case in cases}
        return kill_all(cases, known, counter, n, rng, figures)


def run_undisturbed(case, counter):
    """Return what comes of a case, its epochs, and its seconds with a snapshot."""
    case.call()
    before = counter.value
    expected = case.call()
    n_epochs = counter.value - before
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        case.call(Path(folder) / "fit.snapshot")
        return expected, n_epochs, time.perf_counter() - begun


def kill_all(cases, known, counter, n, rng, figures):
    """Kill so many times; print what went wrong."""
    totals = dict.fromkeys(("kills", "calls", "wrong", "late", "epochs", "most", "once"), 0)
    while totals["kills"] < n:
        case = cases[totals["calls"] % len(cases)]
        expected, once, seconds = known[case.name]
        with tempfile.TemporaryDirectory() as folder:
            n_kills, n_epochs, right, ended = run_case(
                case, rng, counter, seconds, expected, Path(folder)
            )
        most = once + n_kills * max(case.interval, 1) * case.n_at_a_time
        if not right or not ended or n_epochs > most:
            figures.require(f"{case.name}: bits, end, at most {most} epochs", False, f"{n_epochs}")
        for name, value in (
            ("kills", n_kills), ("calls", 1), ("wrong", not right), ("late", not ended),
            ("epochs", n_epochs), ("most", most), ("once", once),
        ):  # fmt: skip
            totals[name] += value
    return totals


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--n", type=int, default=1000, help="kills of fits")
    parser.add_argument("--search", type=int, default=50, help="kills of searches")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    figures = Figures(f"kills: {arguments.n} of fits, {arguments.search} of searches")
    for what, cases, n in (
        ("fits", list_fits(), arguments.n), ("searches", list_searches(), arguments.search),
    ):  # fmt: skip
        if n:
            totals = run(cases, n, random.Random(arguments.seed), figures)
            figures.add(f"{what}: SIGKILLs", totals["kills"], least=n)
            figures.add(f"{what}: calls that came through", totals["calls"], least=1)
            figures.add(f"{what}: with other bits than undisturbed", totals["wrong"], most=0)
            figures.add(f"{what}: finished ones that trained again", totals["late"], most=0)
            figures.add(f"{what}: epochs over all lives", totals["epochs"], most=totals["most"])
            figures.add(f"{what}: epochs, had nobody killed", totals["once"])
    figures.finish()


if __name__ == "__main__":
    main()
