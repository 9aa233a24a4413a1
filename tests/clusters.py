"""A Dask cluster for tests: two worker processes of one thread each, and what is sent there.

Workers import this module, as they cannot import the files of tests.
"""

import os
import signal
from contextlib import contextmanager

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin


@contextmanager
def open_client():
    """Yield a client of a new cluster, which ends with the block."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0",
            silence_logs=50,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):  # fmt: skip
        yield client


class Writing(TransformerMixin, BaseEstimator):
    """Writes into a file who has fitted which rows with which setting."""

    def __init__(self, path, factor=1.0):
        self.path, self.factor = path, factor

    def fit(self, X, y=None):
        with open(self.path, "a") as file:
            file.write(f"{os.getpid()} {self.factor} {X.sum()}\n")
        return self

    def transform(self, X):
        return X * self.factor

    def __sklearn_is_fitted__(self):
        return True


class Dying:
    """A scorer that ends its own process, once, when it was called so often."""

    def __init__(self, folder, n_calls):
        self.folder, self.n_calls, self.here = folder, n_calls, os.getpid()

    def __call__(self, estimator, X, y):
        path = os.path.join(self.folder, "calls")
        with open(path, "a") as file:
            file.write(".")
        if os.path.getsize(path) >= self.n_calls and os.getpid() != self.here:
            try:
                open(os.path.join(self.folder, "dead"), "x").close()
                os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
            except FileExistsError:
                pass
        return float(np.mean(estimator.predict(X) == y))


class Misfortune:
    """A constant learning rate that does something once, in a worker, at a later step."""

    def __init__(self, folder, what, *arguments):
        self.folder, self.what, self.arguments = str(folder), what, arguments

    def __call__(self, step, n_steps):
        from distributed.worker import get_worker

        if step > 1 and get_worker():
            try:
                open(os.path.join(self.folder, "done"), "x").close()
            except FileExistsError:
                return 1.0
            self.what(*self.arguments)
        return 1.0


def die():
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
