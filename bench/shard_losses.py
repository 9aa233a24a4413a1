"""What shards cost in accuracy: held-out loss and accuracy after the same number of epochs.

Shards are trained in this process, with the bits that a cluster of any size has, so that 1024 of
them need no 1024 machines.  ``python -m bench.scale_out --loss --data FOLDER`` calls it: for each
set the local fit, then each number of shards, mean over seeds.  No clocks here.
"""

from dataclasses import replace

import numpy as np
from sklearn.metrics import log_loss

from bench.quality import read_set
from fastbp import BackpropClassifier
from fastbp.dask.averages import scale_of_rate
from fastbp.dask.rounds import ManyShards, count_pieces, look_at_all
from fastbp.dask.shards import Job, Shard

SETS = ("fashion_mnist", "adult")
# Ways to average: epochs between two averages, powers of `scale_of_rate` for the rate and of the
# number of shards for smaller batches, outer momentum.
WAYS = {
    "default": (1.0, 1.0, 0.0, 0.0),
    "averages alone": (1.0, 0.0, 0.0, 0.0),
    "4 averages an epoch": (0.25, 1.0, 0.0, 0.0),
    "15 averages an epoch": (1 / 15, 1.0, 0.0, 0.0),
    "root of the rate": (1.0, 0.5, 0.0, 0.0),
    "smaller batches": (1.0, 0.0, 1.0, 0.0),
    "momentum 0.3": (1.0, 1.0, 0.0, 0.3),
    "root, momentum 0.5": (1.0, 0.5, 0.0, 0.5),
}


class Here:
    """The shards of a fit in this process, in the place of a `Team`."""

    def __init__(self, X, y, n_shards):
        self.shards = [
            Shard(k, f"shard {k}", X[part], y[part], None, len(part))
            for k, part in enumerate(np.array_split(np.arange(len(X)), n_shards))
        ]

    def hold(self, value):
        return value

    def run(self, make):
        return make(lambda function, *given, **named: function(*given, **named), self.shards)


def read_scaled(folder, name, most_rows=None):
    """Return X, y, X_test and y_test as float32 of unit scale: pixels by 255, columns by spread."""
    X, y, X_test, y_test, _ = read_set(folder, name, most_rows=most_rows)
    if X.dtype == np.uint8:
        return np.float32(X) / 255, y, np.float32(X_test) / 255, y_test
    mean, spread = X.mean(axis=0), X.std(axis=0)
    spread[spread == 0] = 1.0
    return np.float32((X - mean) / spread), y, np.float32((X_test - mean) / spread), y_test


def train(data, n_shards, n_epochs, seed, way):
    """Return held-out log loss and accuracy of one fit."""
    X, y, X_test, y_test = data
    every, power, divides, momentum = WAYS[way]
    net = BackpropClassifier(
        (100,), max_iter=n_epochs, tol=0.0, n_iter_no_change=np.inf, random_state=seed,
        batch_size=max(1, round(200 / n_shards**divides)), n_threads=1,
    )  # fmt: skip
    if n_shards == 1:
        net.fit(X, y)
    else:
        team, settings = Here(X, y, n_shards), net._check_parameters()
        job = Job(net, seed, n_shards, scale_of_rate(n_shards) ** power)
        look = look_at_all(team, job)
        n_pieces = count_pieces(every, settings, look.rows)
        job = replace(job, found=look.found, n_pieces=n_pieces)
        vars(net).update(ManyShards(team, job, settings, 1, momentum, None).fit())
    probabilities = net.predict_proba(X_test).astype(np.float64)
    return log_loss(y_test, probabilities), net.score(X_test, y_test)


def measure_losses(folder, counts, ways, n_epochs=10, n_seeds=5, most_rows=None):
    """Yield a dict for the local fit and for each number of shards and way, of each set."""
    for name in SETS:
        data, local = read_scaled(folder, name, most_rows), None
        for k, way in ((1, "default"), *((k, way) for k in counts for way in ways)):
            found = np.array([train(data, k, n_epochs, seed, way) for seed in range(n_seeds)])
            mean, error = found.mean(axis=0), found.std(axis=0, ddof=1) / np.sqrt(n_seeds)
            local = local or (*mean, *error)
            yield {
                "set": name, "rows": len(data[0]), "epochs": n_epochs, "seeds": n_seeds,
                "shards": k, "way": way, "loss": mean[0], "accuracy": mean[1],
                "loss_ratio": mean[0] / local[0] - 1,
                "accuracy_difference": mean[1] - local[1],
                "accuracy_error": float(np.hypot(error[1], local[3])),
            }  # fmt: skip
