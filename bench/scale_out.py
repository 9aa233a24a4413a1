"""What more workers bring to one model over a Dask cluster: measured parts, a model of their sum.

``python -m bench.scale_out`` measures on a LocalCluster what a round is made of: seconds of
training a row, of a Dask round trip, of each further task, and of a byte of an average; from these
it predicts the seconds of an epoch for 2 to 1024 workers, networks of 10 thousand to 100 million
weights, and lines of 1 to 100 Gbit/s.  With ``--real`` it trains with 1, 2 and 4 worker processes
and shows prediction and truth side by side: on one machine these share its cores, which the
prediction is told.  ``--loss`` trains shards in this process and prints the held-out loss after the
same number of epochs.  The machine must be quiet; ``--quick`` only shows that all runs.

The model, for K workers, n rows, p weights, one average an epoch::

    n / K * row(p) + trip + 2 K * task + bytes(p) * (levels(K) + 2) * (1 / line + handling)

2 K tasks are a training and a sum for each shard; bytes(p) = 3 * 8 p (weights and two slots of Adam
in float64); levels(K) = ceil(log2 K) for the tree of sums, and 2 for the way to the client and
back.  The way out to all shards is counted once: workers fetch it from each other.
"""

import argparse
import time
import warnings
from dataclasses import asdict, dataclass

import numpy as np
from sklearn.metrics import log_loss

from fastbp import BackpropClassifier
from fastbp.dask import DaskBackpropClassifier
from fastbp.dask.rounds import ManyShards
from fastbp.dask.shards import Job, Shard

WORKERS = (2, 4, 8, 16, 64, 256, 1024)
WEIGHTS = (10**4, 10**5, 10**6, 10**7, 10**8)
LINES = (1.0, 10.0, 100.0)  # Gbit/s
HIDDEN = {10**4: (64, 64), 10**5: (256, 256), 10**6: (768, 768)}  # of 54 features and 7 classes
SLOTS = 3  # arrays of an average: weights, and two slots of Adam


@dataclass
class Parts:
    """What was measured, in seconds."""

    row: dict  # of training a row, by number of weights
    trip: float  # of one task, there and back
    task: float  # of each further one
    handling: float  # of a byte within the machine: pickled, sent, added

    def per_row(self, n_weights):
        """Return seconds a row; beyond what was measured they grow with the weights."""
        nearest = min(self.row, key=lambda known: abs(np.log(known / n_weights)))
        return self.row[nearest] * n_weights / nearest

    def epoch(self, n_workers, n_rows, n_weights, gbit):
        """Predict the seconds of an epoch; with one worker there is no average."""
        train = n_rows / n_workers * self.per_row(n_weights)
        if n_workers == 1:
            return train + self.trip
        per_byte = 8 / (gbit * 1e9) + self.handling
        n_bytes, levels = 8 * SLOTS * n_weights, int(np.ceil(np.log2(n_workers)))
        return (
            train + self.trip + 2 * n_workers * self.task + n_bytes * (levels + 2) * per_byte
        )  # fmt: skip


def draw(n_rows, seed=0):
    """Draw 54 features and seven classes."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n_rows, 54)).astype(np.float32)
    hidden = np.tanh(X @ np.random.default_rng(9).standard_normal((54, 32)))
    scores = hidden @ np.random.default_rng(8).standard_normal((32, 7))
    return X, (scores + rng.gumbel(size=scores.shape)).argmax(axis=1)


def settings(hidden, n_epochs, seed=0):
    """Return parameters of a fit of so many epochs."""
    return dict(
        hidden_layer_sizes=hidden, max_iter=n_epochs, n_iter_no_change=np.inf, random_state=seed,
        n_threads=1,
    )  # fmt: skip


def identity(value):
    return value


def measure(client, n_rows):
    """Measure the parts."""
    row, (X, y) = {}, draw(n_rows)
    for n_weights, hidden in HIDDEN.items():
        few = max(400, int(n_rows * min(1.0, 10**4 / n_weights)))
        net = BackpropClassifier(**settings(hidden, 1))
        net.fit(X[:few], y[:few])
        begun = time.perf_counter()
        net.fit(X[:few], y[:few])
        row[sum(w.size for w in (*net.coefs_, *net.intercepts_))] = (
            time.perf_counter() - begun
        ) / few
    trips = []
    for _ in range(20):
        begun = time.perf_counter()
        client.submit(identity, 1, pure=False).result()
        trips.append(time.perf_counter() - begun)
    begun = time.perf_counter()
    client.gather([client.submit(identity, k, pure=False) for k in range(200)])
    task = (time.perf_counter() - begun) / 200
    array = np.zeros(10**6)
    begun = time.perf_counter()
    client.submit(identity, array, pure=False).result()
    both_ways = max(time.perf_counter() - begun - np.median(trips), 0.0)
    return Parts(row, float(np.median(trips)), task, both_ways / 2 / array.nbytes)


def predict(parts, n_rows):
    """Print the speed-up over one worker."""
    for gbit in LINES:
        print(f"\n| weights, {gbit:g} Gbit/s | " + " | ".join(map(str, WORKERS)) + " |")
        print("|---" * (1 + len(WORKERS)) + "|")
        for n_weights in WEIGHTS:
            alone = parts.epoch(1, n_rows, n_weights, gbit)
            found = [alone / parts.epoch(k, n_rows, n_weights, gbit) for k in WORKERS]
            print(f"| {n_weights:,} | " + " | ".join(f"{ratio:.1f}" for ratio in found) + " |")


def run_real(parts, n_rows, n_epochs, n_cores):
    """Train with 1, 2 and 4 processes, and print seconds an epoch beside the prediction."""
    import dask.array as da
    from distributed import Client, LocalCluster

    X, y = draw(n_rows)
    hidden = HIDDEN[10**5]
    n_weights = sorted(parts.row)[1]
    chunks = -(-n_rows // 8)
    print("\n| processes | seconds an epoch | predicted | disagreement |\n|---|---|---|---|")
    for k in (1, 2, 4):
        with (
            LocalCluster(n_workers=k, threads_per_worker=1, dashboard_address=":0") as cluster,
            Client(cluster) as client,
        ):
            data = da.from_array(X, chunks=(chunks, 54)), da.from_array(y, chunks=chunks)
            seconds = []
            for n in (1, 1 + n_epochs):  # the difference is that of epochs alone
                net = DaskBackpropClassifier(**settings(hidden, n), client=client, n_shards=k)
                begun = time.perf_counter()
                net.fit(*data)
                seconds.append(time.perf_counter() - begun)
        found = (seconds[1] - seconds[0]) / n_epochs
        slower = max(1.0, k / n_cores)  # processes that share cores
        expected = parts.epoch(k, n_rows * slower, n_weights, np.inf)
        print(f"| {k} | {found:.3f} | {expected:.3f} | {found / expected - 1:+.0%} |", flush=True)


class Here:
    """The shards of a fit in this process, in the place of a `Team`."""

    def __init__(self, X, y, n_shards):
        parts = np.array_split(np.arange(len(X)), n_shards)
        self.shards = [
            Shard(k, f"shard {k}", X[part], y[part], None, len(part))
            for k, part in enumerate(parts)
        ]

    def hold(self, value):
        return value

    def run(self, make):
        return make(lambda function, *arguments: function(*arguments), self.shards)


def print_losses(n_rows, n_epochs, n_seeds, counts):
    """Print held-out log loss and accuracy of so many shards, means over seeds."""
    X_test, y_test = draw(n_rows, seed=1)
    print("\n| shards | log loss | accuracy |\n|---|---|---|")
    for k in (1, *counts):
        found = []
        for seed in range(n_seeds):
            X, y = draw(n_rows, seed=2 + seed)
            net = BackpropClassifier(**settings((64, 64), n_epochs, seed))
            if k == 1:
                net.fit(X, y)
            else:
                job = Job(net, seed, k, float(k))
                fit = ManyShards(Here(X, y, k), job, net._check_parameters(), 1, 0.0, None)
                vars(net).update(fit.fit())
            probabilities = net.predict_proba(X_test).astype(np.float64)
            found.append((log_loss(y_test, probabilities), net.score(X_test, y_test)))
        loss, accuracy = np.mean(found, axis=0)
        print(f"| {k} | {loss:.4f} | {accuracy:.4f} |", flush=True)


def main():
    import joblib
    from distributed import Client, LocalCluster

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000, help="of the real runs")
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--loss", action="store_true")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    n_rows, n_epochs = (2000, 2) if arguments.quick else (arguments.rows, 10)
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        parts = measure(client, min(n_rows, 20_000))
    print(asdict(parts))
    predict(parts, 10_000_000)
    if arguments.real:
        run_real(parts, n_rows, n_epochs, joblib.cpu_count(only_physical_cores=True))
    if arguments.loss:
        counts = (2, 4) if arguments.quick else (2, 4, 8, 16, 32)
        print_losses(min(n_rows, 20_000), n_epochs, 1 if arguments.quick else 5, counts)


if __name__ == "__main__":
    main()
