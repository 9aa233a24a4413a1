"""Interrupts: SIGINT ends a fit soon, and nobody in the process waits for one.

Measures from the signal to the end of `fit`, and, while a fit runs, the longest time that another
Python thread and a signal handler had to wait.  A busy machine spoils the figures.
"""

import argparse
import os
import signal
import sys
import threading
import time
import warnings

import numpy as np
from problems import draw_classes, draw_regression
from scipy import sparse

from checks.figures import Figures
from fastbp import BackpropClassifier, BackpropRegressor

LONG = dict(tol=0.0, n_iter_no_change=np.inf, random_state=0, max_iter=10**6)


def draw_jobs():
    """Yield name, longest time to end in seconds, and a fit that takes for ever."""
    X, y = draw_classes(1797, 64, 10)
    small, labels = draw_classes(150, 4, 3)
    wide, target = draw_regression(4000, 100)
    large, digits = draw_classes(60_000, 200, 10)
    large = large.astype(np.float32)
    rows = sparse.random_array((5000, 5000), density=0.01, rng=0, format="csr", dtype=np.float32)
    kinds = np.arange(5000) % 4
    big = (600, 400)
    yield "iris size", 0.5, BackpropClassifier((10,), **LONG), (small, labels)
    yield "digits size", 0.5, BackpropClassifier(**LONG), (X, y)
    yield "two threads", 0.5, BackpropClassifier((256, 256), n_threads=2, **LONG), (X, y)
    yield "early stopping", 0.5, BackpropClassifier(early_stopping=True, **LONG), (X, y)
    yield (
        "batches of one",
        0.5,
        BackpropClassifier(batch_size=1, solver="sgd", learning_rate_init=1e-4, **LONG),
        (X, y),
    )
    yield "sparse", 0.5, BackpropClassifier((50,), **LONG), (rows, kinds)
    yield "large", 0.5, BackpropClassifier(big, **LONG), (large, digits)
    yield (
        "lbfgs",
        0.5,
        BackpropRegressor(hidden_layer_sizes=big, solver="lbfgs", max_fun=10**8, **LONG),
        (wide, target),
    )
    yield (
        "one batch of 60 000 rows",
        3.0,
        BackpropClassifier(big, batch_size=60_000, **LONG),
        (large, digits),
    )
    yield "numba engine", 0.5, BackpropClassifier(engine="numba", **LONG), (X, y)


def interrupt(model, data, after_s):
    """Fit until SIGINT comes after some seconds; returns the seconds from the signal to the end."""
    sent = []

    def send():
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(after_s, send)
    timer.start()
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.fit(*data)
        ended = time.perf_counter()
    finally:
        timer.cancel()
        timer.join()
    if not any("interrupted" in str(warning.message) for warning in caught):
        raise AssertionError("fit ended without an interrupt")
    return ended - sent[0]


class Watch:
    """Counts how late another thread and a signal handler come, in seconds."""

    INTERVAL = 0.005

    def __enter__(self):
        self.thread_wait = self.handler_wait = 0.0
        self.done = threading.Event()
        self.asked = time.perf_counter()
        self.thread = threading.Thread(target=self.tick, daemon=True)
        self.before = signal.signal(signal.SIGALRM, self.handle)
        signal.setitimer(signal.ITIMER_REAL, 4 * self.INTERVAL)
        self.asked = time.perf_counter() + 4 * self.INTERVAL
        self.thread.start()
        return self

    def __exit__(self, *_):
        signal.setitimer(signal.ITIMER_REAL, 0)
        self.done.set()
        self.thread.join()
        signal.signal(signal.SIGALRM, self.before)

    def tick(self):
        last = time.perf_counter()
        while not self.done.wait(self.INTERVAL):
            now = time.perf_counter()
            self.thread_wait = max(self.thread_wait, now - last - self.INTERVAL)
            last = now

    def handle(self, *_):
        now = time.perf_counter()
        self.handler_wait = max(self.handler_wait, now - self.asked)
        signal.setitimer(signal.ITIMER_REAL, 4 * self.INTERVAL)
        self.asked = time.perf_counter() + 4 * self.INTERVAL


def check_usable(model, data):
    """As scikit-learn's after an interrupt: fitted, finite, may go on."""
    X, _ = data
    model.predict(X[:5])
    for array in (*model.coefs_, *model.intercepts_):
        if not np.isfinite(array).all():
            return False
    if model.solver != "lbfgs" and not model.early_stopping:
        model.partial_fit(X[:50], data[1][:50])
    return len(model.predict(X[:5])) == 5


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--after-s", type=float, default=0.7)
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.setswitchinterval(0.005)
    figures = Figures(f"interrupts: longest of {arguments.repeats}")
    for name, most_s, model, data in draw_jobs():
        if name == "numba engine":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model.set_params(max_iter=1).fit(*data).set_params(max_iter=10**6)  # compile
        latencies, usable = [], True
        with Watch() as watch:
            for k in range(arguments.repeats):
                latencies.append(interrupt(model, data, arguments.after_s + 0.037 * k))
        usable = check_usable(model, data)
        figures.add(f"{name}: from SIGINT to the end of fit", max(latencies), most_s, unit="s")
        figures.add(f"{name}: another thread waited", watch.thread_wait, 0.25, unit="s")
        figures.add(f"{name}: a signal handler waited", watch.handler_wait, 0.25, unit="s")
        figures.require(f"{name}: usable afterwards", usable)
    figures.finish()


if __name__ == "__main__":
    main()
