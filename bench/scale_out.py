"""What more workers bring to one model over a Dask cluster: measured parts, a model of their sum.

``python -m bench.scale_out`` measures on a LocalCluster what a round is made of: seconds of
training a row, of a Dask round trip, of each further task, and of a byte of an average; from these
it predicts the seconds of an epoch for 2 to 1024 workers, networks of 10 thousand to 100 million
weights, and lines of 1 to 100 Gbit/s.  With ``--real`` it trains with 1, 2 and 4 worker processes,
beside the prediction: on one machine these share its cores, which the prediction is told.
``--loss --data FOLDER`` trains shards in this process (`shard_losses`).  All goes to a JSON file,
what is not measured now stays there, and `scale_out_report` makes pages of it.  The machine must
be quiet: the file says how busy it was.  ``--quick`` only shows that all runs.
"""

import argparse
import json
import os
import time
import warnings
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np

from bench.measure import machine, usable_cores
from bench.scale_out_model import Parts
from bench.scale_out_report import read_parts, write
from bench.shard_losses import WAYS, measure_losses
from fastbp import BackpropClassifier

HIDDEN = {10**4: (64, 64), 10**5: (256, 256), 10**6: (768, 768)}  # of 54 features and 7 classes
OUTPUT = Path(__file__).parent / "results" / "scale_out.json"


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


@contextmanager
def open_client(n_workers):
    """Yield a client of so many worker processes of one thread."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=n_workers, threads_per_worker=1, dashboard_address=":0", silence_logs=50
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def measure(client, n_rows):
    """Measure the parts; training in CPU seconds of its one thread."""
    row, (X, y) = {}, draw(n_rows)
    for n_weights, hidden in HIDDEN.items():
        n_epochs = max(1, round(10**5 / n_weights))
        seconds = [_cpu_of_local(X, y, hidden, n) for n in (1, 1, 1 + n_epochs)]  # once for warmth
        sizes = (X.shape[1], *hidden, 7)
        n_weights = sum((a + 1) * b for a, b in pairwise(sizes))
        row[n_weights] = max((seconds[2] - seconds[1]) / n_epochs / n_rows, 1e-9)
    trips = [_seconds(client, 1) for _ in range(20)]
    begun = time.perf_counter()
    client.gather([client.submit(identity, k, pure=False) for k in range(200)])
    task = (time.perf_counter() - begun) / 200
    array, trip = np.zeros(10**6), float(np.median(trips))
    both_ways = np.median([_seconds(client, array) for _ in range(5)]) - trip
    return Parts(row, trip, task, max(float(both_ways), 0.0) / 2 / array.nbytes)


def _seconds(client, value):
    """Return seconds until a value has been on a worker and back."""
    begun = time.perf_counter()
    client.submit(identity, value, pure=False).result()
    return time.perf_counter() - begun


def run_real(parts, n_rows, n_epochs, n_cores):
    """Yield seconds and CPU seconds an epoch with 1, 2 and 4 processes, beside the prediction."""
    X, y = draw(n_rows)
    hidden, n_weights = HIDDEN[10**5], sorted(parts.row)[1]
    local = [_cpu_of_local(X, y, hidden, n) for n in (1, 1 + n_epochs)]
    for k in (1, 2, 4):
        with open_client(k) as client:
            seconds, cpu = _time_real(client, X, y, hidden, k, n_epochs)
        slower = max(1.0, k / n_cores)  # processes that share cores
        expected = parts.epoch(k, n_rows * slower, n_weights, np.inf)
        yield {
            "processes": k, "rows": n_rows, "weights": n_weights, "seconds": seconds,
            "predicted": expected, "cpu_of_workers": cpu[0], "cpu_of_client": cpu[1],
            "cpu_of_local_fit": (local[1] - local[0]) / n_epochs,
        }  # fmt: skip


def _cpu_of_local(X, y, hidden, n_epochs):
    begun = time.process_time()
    BackpropClassifier(**settings(hidden, n_epochs)).fit(X, y)
    return time.process_time() - begun


def _time_real(client, X, y, hidden, k, n_epochs):
    """Return seconds an epoch, and CPU seconds of workers and of client with scheduler."""
    import dask.array as da

    from fastbp.dask import DaskBackpropClassifier

    chunk = -(-len(X) // 8)
    data = [
        da.from_array(X, chunks=(chunk, 54)).persist(), da.from_array(y, chunks=chunk).persist()
    ]  # fmt: skip
    found = []
    for n in (1, 1, 1 + n_epochs):  # once for warmth; the difference is that of epochs alone
        net = DaskBackpropClassifier(**settings(hidden, n), client=client, n_shards=k)
        before = sum(client.run(time.process_time).values()), time.process_time()
        begun = time.perf_counter()
        net.fit(*data)
        seconds = time.perf_counter() - begun
        after = sum(client.run(time.process_time).values()), time.process_time()
        found.append((seconds, after[0] - before[0], after[1] - before[1]))
    difference = (np.array(found[2]) - np.array(found[1])) / n_epochs
    return float(difference[0]), [float(part) for part in difference[1:]]


def main():
    import joblib

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--rows", type=int, default=400_000, help="of the real runs")
    add("--epochs", type=int, default=10)
    add("--real", action="store_true")
    add("--loss", action="store_true")
    add("--data", type=Path, help="folder of the sets, for --loss")
    add("--shards", type=int, nargs="+", default=[2, 4, 8, 16, 64, 256, 1024])
    add("--ways", nargs="+", default=["default"], choices=list(WAYS), metavar="WAY")
    add("--seeds", type=int, default=5)
    add("--no-parts", action="store_true", help="leave the parts as they are in the file")
    add("--quick", action="store_true")
    add("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    if arguments.loss and arguments.data is None:
        parser.error("--loss needs --data FOLDER, with fashion_mnist.npz and adult.npz")
    warnings.simplefilter("ignore")
    n_rows, n_epochs, n_seeds = arguments.rows, arguments.epochs, arguments.seeds
    if arguments.quick:
        n_rows, n_epochs, n_seeds, arguments.shards = 2000, 2, 2, [2, 4]
    known = json.loads(arguments.output.read_text("utf-8")) if arguments.output.exists() else {}

    def begin(name):
        """Return a function that writes what was found so far, with the load at the beginning."""
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        when = {"date": datetime.now(UTC).date().isoformat(), "load": load}

        def keep(found):
            known[name] = {"found": found, "cores": len(usable_cores()), **when}
            text = json.dumps(known, indent=1, default=float) + "\n"
            arguments.output.write_text(text, "utf-8")

        return keep

    if arguments.no_parts and arguments.real and "parts" not in known:
        parser.error(f"--no-parts, but {arguments.output} has none")
    known["machine"] = machine()
    if not arguments.no_parts:
        keep = begin("parts")
        with open_client(1) as client:
            keep(asdict(measure(client, min(n_rows, 20_000))))
    if arguments.real:
        keep, cores = begin("real"), joblib.cpu_count(only_physical_cores=True)
        keep(list(run_real(read_parts(known), n_rows, n_epochs, cores)))
    if arguments.loss:
        keep, found = begin("loss" if arguments.ways == ["default"] else "ways"), []
        how = arguments.shards, arguments.ways, n_epochs, n_seeds
        for one in measure_losses(arguments.data, *how, 2000 if arguments.quick else None):
            found.append(one)
            keep(found)
    if "parts" in known:
        write(known, arguments.output)


if __name__ == "__main__":
    main()
