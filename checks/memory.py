"""Memory: nothing leaks, nothing waits for the cycle collector, and no memory is an error only.

Repeated fits of five kinds (dense, sparse, early stopping, failing, interrupted); each allocation
of the engine failed in turn; fits under seven limits of address space.
"""

import argparse
import gc
import os
import signal
import subprocess
import sys
import threading
import warnings
import weakref
from contextlib import contextmanager, suppress
from functools import cache

import numpy as np
from problems import draw_classes, draw_regression
from scipy import sparse

from checks import ROOT, TESTS
from checks.figures import Figures
from fastbp import BackpropClassifier, BackpropRegressor
from fastbp.engine import get_engine

MEGABYTE = 1 << 20


@contextmanager
def forced_threads(n_threads, created=None):
    """Make every session use exactly so many threads; list those that are created."""
    engine = get_engine()
    plain = engine.Session

    class Forced(plain):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.force_threads(n_threads)
            if created is not None:
                created.append(weakref.ref(self))

    engine.Session = Forced
    try:
        yield
    finally:
        engine.Session = plain


# --- fits of five kinds ---------------------------------------------------------------------------


def fit_dense():
    X, y = draw_classes(300, 20, 4)
    return BackpropClassifier((50, 20), max_iter=5, random_state=0).fit(X, y)


def fit_sparse():
    X, y = draw_classes(300, 20, 4)
    X = sparse.csr_array(X * (X > 1))
    return BackpropClassifier((50, 20), max_iter=5, random_state=0).fit(X, y)


def fit_early_stopping():
    X, y = draw_regression(300, 20)
    return BackpropRegressor(
        hidden_layer_sizes=(50,), early_stopping=True, max_iter=8, random_state=0
    ).fit(X, y)


def fit_failing():
    X, y = draw_regression(300, 20)
    model = BackpropRegressor(solver="sgd", learning_rate_init=1e30, max_iter=50, random_state=0)
    try:
        model.fit(X, y)
    except ValueError:
        return model
    raise AssertionError("the fit did not fail")


def fit_interrupted():
    X, y = draw_classes(300, 20, 4)
    model = BackpropClassifier(
        (50,), solver="sgd", learning_rate_init=1e-6, max_iter=10**7, tol=0.0,
        n_iter_no_change=np.inf, random_state=0,
    )  # fmt: skip
    timer = threading.Timer(0.02, signal.raise_signal, (signal.SIGINT,))
    timer.start()
    try:
        model.fit(X, y)
    except KeyboardInterrupt:  # came before or after the epochs
        pass
    finally:
        join_uninterrupted(timer)
    return model


def join_uninterrupted(timer):
    """Wait for a timer; its interrupt may come while we do."""
    while timer.is_alive():
        with suppress(KeyboardInterrupt):
            timer.join()


KINDS = {
    "dense": fit_dense,
    "sparse": fit_sparse,
    "early stopping": fit_early_stopping,
    "failing": fit_failing,
    "interrupted": fit_interrupted,
}


def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def open_things():
    """Threads and files of this process."""
    return set(os.listdir("/proc/self/task")), set(os.listdir("/proc/self/fd"))


def repeat(kind, n_fits):
    """Fit again and again; returns bytes grown in the second half, threads and files left."""
    fit = KINDS[kind]
    fit()
    threads, files = open_things()
    for i in range(n_fits):
        if i == n_fits // 2:
            gc.collect()
            half = resident_bytes()
        fit()
    gc.collect()
    grown = resident_bytes() - half
    threads_now, files_now = open_things()
    return grown, len(threads_now - threads), len(files_now - files)


def count_survivors(kind, n_threads=2):
    """Estimators and sessions that live on after a fit when the cycle collector sleeps."""
    created, models = [], []
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        with forced_threads(n_threads, created):
            models.append(weakref.ref(KINDS[kind]()))
        return sum(reference() is not None for reference in models + created)
    finally:
        if collecting:
            gc.enable()


# --- no memory ------------------------------------------------------------------------------------


def describe(model):
    """Bits of a trained model."""
    return b"".join(array.tobytes() for array in (*model.coefs_, *model.intercepts_))


def fail_each_allocation(fit, work):
    """Let each allocation of the engine fail in turn in `work`.

    Returns
    -------
    n_failed : int
    defects : list of str
        What was not a MemoryError, or left a process that trains differently.
    """
    engine = get_engine()
    expected, n_failed, defects = describe(fit()), 0, []
    work()
    while True:
        engine.fail_allocation(n_failed)
        try:
            work()
            outcome = None
        except MemoryError:
            outcome = "MemoryError"
        except BaseException as error:
            outcome = repr(error)
        if engine.fail_allocation(-1) >= 0:
            return n_failed, defects  # fewer allocations than that
        # A team that cannot be started is no error: the fit goes on with fewer threads.
        if outcome not in ("MemoryError", None):
            defects.append(f"allocation {n_failed}: {outcome}")
        n_failed += 1
        if describe(fit()) != expected:
            defects.append(f"allocation {n_failed}: the next fit differs")


def list_memory_jobs():
    """List (name, fit to compare, work in which allocations fail)."""
    X, y = draw_classes(40, 6, 3)
    S = sparse.csr_array(X * (X > 0))
    Z, t = draw_regression(40, 6)

    def train(kind, X, y, **settings):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return kind(
                hidden_layer_sizes=(9, 5), max_iter=2, random_state=0, activation="tanh", **settings
            ).fit(X, y)

    jobs = {
        "adam": lambda: train(BackpropClassifier, X, y),
        "sgd, sparse": lambda: train(BackpropClassifier, S, y, solver="sgd"),
        "lbfgs": lambda: train(BackpropRegressor, Z, t, solver="lbfgs"),
        "early stopping": lambda: train(
            BackpropRegressor, Z, t, early_stopping=True, validation_fraction=0.3
        ),
    }
    fitted = cache(jobs["adam"])
    return [
        *[(name, fit, fit) for name, fit in jobs.items()],
        ("predict", jobs["adam"], lambda: fitted().predict_proba(np.tile(X, (20, 1)))),
        ("partial_fit", jobs["adam"], lambda: fitted().partial_fit(X, y)),
    ]


UNDER_LIMIT = """
import resource, sys, warnings
import numpy as np
warnings.simplefilter("ignore")
sys.path.append({tests!r})
from problems import draw_classes
from fastbp import BackpropClassifier
from fastbp.engine import get_engine

def small():
    X, y = draw_classes(60, 5, 3)
    model = BackpropClassifier((8,), max_iter=3, random_state=0, engine="cython").fit(X, y)
    return b"".join(w.tobytes() for w in model.coefs_) + model.predict_proba(X).tobytes()

expected = small()
X, y = draw_classes(4000, 200, 5)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
hard = resource.getrlimit(resource.RLIMIT_AS)[1]
outcomes = []
for threads in (1, 3):
    for sizes in ((600, 400), (3000, 2000)):
        resource.setrlimit(resource.RLIMIT_AS, (used + {extra}, hard))
        try:
            BackpropClassifier(sizes, max_iter=1, random_state=0, n_threads=threads).fit(X, y)
            outcomes.append("fitted")
        except MemoryError:
            outcomes.append("MemoryError")
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
        assert small() == expected, "the next fit differs"
print(*outcomes)
"""
LIMITS_MEGABYTES = [1, 4, 16, 48, 96, 192, 384]


def fit_under_limit(extra_bytes):
    """Outcome words of four fits in a process that may take so many bytes more."""
    done = subprocess.run(
        [sys.executable, "-c", UNDER_LIMIT.format(tests=str(TESTS), extra=extra_bytes)],
        capture_output=True, text=True, timeout=300, check=False, cwd=ROOT,
    )  # fmt: skip
    words = done.stdout.split()
    return words if done.returncode == 0 else [f"exit {done.returncode}: {done.stderr[-300:]}"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--fits", type=int, default=200, help="fits of each kind")
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    warnings.simplefilter("ignore")
    figures = Figures(f"memory: {arguments.fits} fits of each kind")
    for n_threads in (1, 2):
        with forced_threads(n_threads):
            for kind in KINDS:
                grown, threads, files = repeat(kind, arguments.fits)
                name = f"{kind}, threads: {n_threads}"
                figures.add(
                    f"{name}: RSS grown in the second half", grown / MEGABYTE, 1.0, unit="MB"
                )
                figures.add(f"{name}: threads left", threads, most=0)
                figures.add(f"{name}: files left", files, most=0)
    for kind in KINDS:
        figures.add(f"{kind}: objects left to the cycle collector", count_survivors(kind), most=0)
    if hasattr(get_engine(), "fail_allocation"):
        for n_threads in (1, 3):
            with forced_threads(n_threads):
                for name, fit, work in list_memory_jobs():
                    n_failed, defects = fail_each_allocation(fit, work)
                    print("\n".join(defects), end="")
                    figures.add(
                        f"{name}, threads: {n_threads}: allocations failed", n_failed, least=5
                    )
                    figures.add(
                        f"{name}, threads: {n_threads}: wrong outcomes", len(defects), most=0
                    )
    seen = set()
    for megabytes in LIMITS_MEGABYTES:
        outcomes = fit_under_limit(megabytes * MEGABYTE)
        seen |= set(outcomes)
        figures.require(
            f"{megabytes} MB more: MemoryError at worst, then usable",
            set(outcomes) <= {"fitted", "MemoryError"}, " ".join(outcomes),
        )  # fmt: skip
    figures.require("the limits matter", {"fitted", "MemoryError"} <= seen)
    figures.finish()


if __name__ == "__main__":
    main()
