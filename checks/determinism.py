"""Determinism: one seed, the same bits, wherever and however a fit runs.

Across runs, processes, numbers of threads, memory alignments of X and eight fits at once the bits
of weights, losses and predictions are compared; across instruction sets their distance is measured.
"""

import hashlib
import os
import subprocess
import sys
import threading
import warnings

import numpy as np
from problems import draw_classes, draw_counts, draw_labels, draw_regression
from reference import FLOAT32_LOSS_TOLERANCE, FLOAT64_TOLERANCE
from scipy import sparse

from checks import ROOT
from checks.figures import Figures
from checks.memory import forced_threads
from fastbp import BackpropClassifier, BackpropRegressor
from fastbp.engine import get_engine
from fastbp.optimizers import OPTIMIZERS

SETTINGS = dict(hidden_layer_sizes=(33, 17), max_iter=10, random_state=0)


def list_jobs():
    """Yield (name, estimator, X, y) of every kind."""
    for solver in OPTIMIZERS:
        for dtype in ("float32", "float64"):
            both = dict(**SETTINGS, solver=solver, dtype=dtype)
            yield f"classes {solver} {dtype}", BackpropClassifier(**both), *draw_classes(500, 20, 4)
            yield f"real {solver} {dtype}", BackpropRegressor(**both), *draw_regression(500, 20, 2)
    X, Y = draw_labels(500, 20, 3)
    yield "labels", BackpropClassifier(**SETTINGS), X, Y
    yield "sparse", BackpropClassifier(**SETTINGS), sparse.csr_array(X * (X > 0.5)), Y
    yield "counts", BackpropRegressor("poisson", **SETTINGS), *draw_counts(500, 20)
    stopping = dict(**SETTINGS, early_stopping=True, activation="tanh")
    yield "early stopping", BackpropClassifier(**stopping), *draw_classes(500, 20, 4)


def digest(model, X, y):
    """Fit a copy; hash of everything that comes of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = type(model)(**model.get_params()).fit(X, y)
    numbers = [*model.coefs_, *model.intercepts_, model.predict(X)]
    if hasattr(model, "predict_proba"):
        numbers.append(model.predict_proba(X))
    numbers.append(np.array(getattr(model, "loss_curve_", [model.loss_])))
    found = hashlib.sha256()
    for array in numbers:
        array = array.toarray() if sparse.issparse(array) else array
        found.update(np.ascontiguousarray(array))
    return found.hexdigest()


def aligned(X, offset):
    """Copy of a dense X that begins `offset` elements after a 64-byte boundary."""
    store = np.empty(X.size + 128 // X.itemsize + 64, X.dtype)
    first = -store.ctypes.data % 64 // X.itemsize + offset
    out = store[first : first + X.size].reshape(X.shape)
    out[...] = X
    return out


def fit_side_by_side(model, X, y, n_fits):
    """Hashes of as many fits in threads of one process."""
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(digest(model, X, y))) for _ in range(n_fits)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return found


def instruction_set_distance(model, X, y):
    """Largest distance of weights (float64) or losses (float32) between instruction sets."""
    engine, results = get_engine("cython"), []
    before = engine.instruction_set()
    for name in engine.supported_instruction_sets():
        engine.set_instruction_set(name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            twin = type(model)(**model.get_params()).fit(X, y)
        exact = twin.coefs_[0].dtype == np.float64
        numbers = np.concatenate([w.ravel() for w in twin.coefs_]) if exact else np.log(
            getattr(twin, "loss_curve_", [twin.loss_])
        )  # fmt: skip
        results.append(numbers)
    engine.set_instruction_set(before)
    return exact, max(float(np.abs(numbers - results[0]).max()) for numbers in results)


def main():
    if "--print" in sys.argv:
        for name, *job in list_jobs():
            print(name, digest(*job), sep="\t")
        return
    figures = Figures("determinism: fits whose bits differ")
    jobs = list(list_jobs())
    expected = {name: digest(*job) for name, *job in jobs}
    figures.add("kinds of fits", len(expected), least=10)
    differ = sum(digest(*job) != expected[name] for name, *job in jobs)
    figures.add("in a second run", differ, most=0)
    for n_threads in (1, 2, 3, 7):
        with forced_threads(n_threads):
            differ = sum(digest(*job) != expected[name] for name, *job in jobs)
        figures.add(f"on exactly {n_threads} threads", differ, most=0)
    for hash_seed in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-m", "checks.determinism", "--print"], cwd=ROOT, check=True,
            text=True, stdout=subprocess.PIPE, env=os.environ | {"PYTHONHASHSEED": hash_seed},
        )  # fmt: skip
        found = dict(line.split("\t") for line in done.stdout.splitlines())
        differ = sum(found[name] != bits for name, bits in expected.items())
        figures.add(f"in another process, hash seed {hash_seed}", differ, most=0)
    differ = 0
    for name, model, X, y in jobs:
        if not sparse.issparse(X):
            for offset in range(8):
                differ += digest(model, aligned(X, offset), y) != expected[name]
            differ += digest(model, np.asfortranarray(X), y) != expected[name]
    figures.add("at other addresses and orders of X", differ, most=0)
    differ = sum(
        bits != expected[name] for name, *job in jobs for bits in fit_side_by_side(*job, n_fits=8)
    )
    figures.add("eight fits at once", differ, most=0)
    distances = [instruction_set_distance(*job) for name, *job in jobs if "lbfgs" not in name]
    figures.add("across instruction sets, float64: weights",
                max(d for exact, d in distances if exact), FLOAT64_TOLERANCE)  # fmt: skip
    figures.add("across instruction sets, float32: losses, relative",
                max(d for exact, d in distances if not exact), FLOAT32_LOSS_TOLERANCE)  # fmt: skip
    figures.finish()


if __name__ == "__main__":
    main()
