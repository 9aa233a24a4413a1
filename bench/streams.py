"""Streams: memory and speed of fit(source), beside pyarrow alone and the fit in memory.

``python -m bench.streams make PATH --mb 500`` writes a Parquet file of about that size; ``python -m
bench.streams run PATH`` measures, each case in a process of its own: the peak growth of anonymous
memory (RssAnon of /proc, sampled; Linux) from just before `fit`, and rows per second.  The first
pass over y is part of the time of a fit; the cache of the system is as it is (say which: cold after
``echo 3 > /proc/sys/vm/drop_caches``).

``python -m bench.streams rates PATH`` compares the rates: `fit(source)` of the small network with
pyarrow alone, and of the large one with the fit in memory, in turns, without a look at memory; it
prints the ratios of each round, their medians, and the best ratio that the CPU seconds allow, both
cores of a fit busy all the time.

``python -m bench.streams score FOLDER`` compares what is learned with the fit in memory, on
held-out rows of Fashion-MNIST (the default window) and of California housing (2 MiB): of files in
random order, and sorted by y, the hard case.  FOLDER has ``fashion_mnist.npz`` and
``california.npz``.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from contextlib import nullcontext
from pathlib import Path

import numpy as np

N_FEATURES = 54
N_CLASSES = 7
ROWS_PER_GROUP = 2**16
NETWORKS = {"g": (16,), "54-256-256-7": (256, 256)}
BATCH_SIZE = 256


def make(path, n_bytes, seed=0):
    """Write rows of float32 features and a class, row group by row group, until the file is full.

    Parameters
    ----------
    path : str
    n_bytes : int
    """
    import pyarrow as pa
    from pyarrow import parquet

    n_rows = n_bytes // (4 * N_FEATURES + 1)
    random = np.random.RandomState(seed)
    teacher = random.normal(size=(N_FEATURES, N_CLASSES)).astype(np.float32)
    names = [f"x{j}" for j in range(N_FEATURES)]
    generator = np.random.Generator(np.random.SFC64(seed))
    writer = None
    for first in range(0, n_rows, ROWS_PER_GROUP):
        n = min(ROWS_PER_GROUP, n_rows - first)
        X = generator.standard_normal((n, N_FEATURES), np.float32)
        noise = generator.standard_normal((n, N_CLASSES), np.float32)
        y = (np.tanh(X) @ teacher + noise).argmax(axis=1).astype(np.int8)
        table = pa.table(dict(zip(names, X.T.copy(), strict=True)) | {"y": y})
        if writer is None:
            writer = parquet.ParquetWriter(
                path, table.schema, compression="none", use_dictionary=["y"]
            )
        writer.write_table(table, row_group_size=ROWS_PER_GROUP)
    writer.close()
    return n_rows


def anonymous_bytes():
    """Anonymous resident memory of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    return 0


class Peak:
    """The largest growth of anonymous memory while a block runs."""

    def __enter__(self):
        self.before = self.largest = anonymous_bytes()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._sample, daemon=True)
        self.thread.start()
        return self

    def _sample(self):
        while not self.done.wait(0.01):
            self.largest = max(self.largest, anonymous_bytes())

    def __exit__(self, *error):
        self.done.set()
        self.thread.join()
        self.largest = max(self.largest, anonymous_bytes())

    @property
    def growth(self):
        """Bytes."""
        return self.largest - self.before


def network(name, n_epochs):
    """Make an estimator that trains for so many epochs."""
    from fastbp import BackpropClassifier

    return BackpropClassifier(
        NETWORKS[name], batch_size=BATCH_SIZE, max_iter=n_epochs, tol=0.0,
        n_iter_no_change=float("inf"), random_state=0,
    )  # fmt: skip


def run_stream(path, name, n_epochs, memory_limit):
    """Train on the file in parts."""
    from fastbp.streams import from_parquet

    source = from_parquet(path, "y", memory_limit=memory_limit)
    return source.n_rows, lambda: network(name, n_epochs).fit(source)


def run_memory(path, name, n_epochs, memory_limit):
    """Train on arrays that were read before."""
    from pyarrow import parquet

    table = parquet.read_table(path)
    y = table.column("y").to_numpy()
    X = np.empty((len(y), N_FEATURES), np.float32)
    for j in range(N_FEATURES):
        X[:, j] = table.column(j).to_numpy()
    del table
    return len(y), lambda: network(name, n_epochs).fit(X, y)


def run_arrow(path, name, n_epochs, memory_limit):
    """Let pyarrow deliver the batches, and do nothing with them."""
    from pyarrow import dataset

    data = dataset.dataset(path)

    def read():
        for _ in range(n_epochs):
            for batch in data.to_batches(batch_size=2**14):
                batch.num_rows  # noqa: B018

    return data.count_rows(), read


CASES = {"stream": run_stream, "memory": run_memory, "arrow": run_arrow}


def measure(case, path, name, n_epochs, memory_limit, *, looks=True):
    """Run one case in this process; return what was measured, memory only if one `looks` at it."""
    import fastbp
    from fastbp import streams  # noqa: F401 - what imports take is not counted

    random = np.random.RandomState(0)
    small = random.normal(size=(600, N_FEATURES)).astype(np.float32)
    network(name, 1).fit(small, np.arange(600) % N_CLASSES)  # threads and code are there
    n_rows, work = CASES[case](path, name, n_epochs, memory_limit)
    with Peak() if looks else nullcontext() as peak:
        cpu, begun = time.process_time(), time.perf_counter()
        found = work()
        seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    loss = getattr(found, "loss_curve_", [None])[-1]
    return {
        "case": case, "network": name, "rows": n_rows, "epochs": n_epochs, "loss": loss,
        "MB of growth": round(peak.growth / 2**20, 1) if looks else None,
        "seconds": round(seconds, 3), "CPU seconds": round(cpu, 3),
        "rows/s": round(n_rows * n_epochs / seconds), "version": fastbp.__version__,
    }  # fmt: skip


def run_case(path, case, name, n_epochs, *more):
    """Run one case in a process of its own; return what it measured."""
    command = [sys.executable, "-m", "bench.streams", "case", path, "--case", case,
               "--network", name, "--epochs", str(n_epochs), *more]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


RATED = {"g": ("arrow", 4), "54-256-256-7": ("memory", 1)}  # beside what, and epochs


def compare_rates(path, n_rounds, *more):
    """Print the ratios of rates of each round, and their medians.

    Parameters
    ----------
    path : str
    n_rounds : int
        In every other one the cases come the other way round.
    *more : str
        Further arguments of the command.
    """
    from bench.measure import usable_cores

    n_cores, ratios, best = len(usable_cores()), {}, {}
    for n in range(n_rounds):
        for name, (other, n_epochs) in RATED.items():
            cases = ["stream", other] if n % 2 else [other, "stream"]
            found = {
                case: run_case(path, case, name, n_epochs, "--no-looks", *more) for case in cases
            }
            stream, beside = found["stream"], found[other]
            ratios.setdefault(name, []).append(stream["rows/s"] / beside["rows/s"])
            limit = beside["seconds"] * n_cores / stream["CPU seconds"]
            best.setdefault(name, []).append(limit)
            print(f"{n + 1}. {name}: {ratios[name][-1]:.3f} of {other}, at best {limit:.3f};", *(
                f"{case} {one['rows/s']:,} rows/s, {one['seconds']} s, {one['CPU seconds']} CPU s;"
                for case, one in found.items()
            ), flush=True)  # fmt: skip
    for name, (other, _) in RATED.items():
        print(f"{name}: median {np.median(ratios[name]):.3f} of {other}, "
              f"at best {np.median(best[name]):.3f} on {n_cores} cores")  # fmt: skip


SCORED = {  # rows of a row group, memory_limit, settings
    "fashion_mnist": (2000, None, dict(hidden_layer_sizes=(100,), max_iter=10)),
    "california": (500, "2MiB", dict(hidden_layer_sizes=(64,), max_iter=60, scale_targets=True)),
}


def write_rows(path, X, y, rows_per_group):
    """Write a Parquet file of rows in the order in which they come."""
    import pyarrow as pa
    from pyarrow import parquet

    columns = {f"x{j}": np.ascontiguousarray(column) for j, column in enumerate(X.T)}
    parquet.write_table(pa.table(columns | {"y": y}), path, row_group_size=rows_per_group)


def compare_scores(folder, name, n_seeds):
    """Print the scores of the fit in memory, of a file in random order, and of a sorted one.

    Parameters
    ----------
    folder : Path
        With the data, as for `bench.quality`.
    name : str
        One of `SCORED`.
    n_seeds : int
    """
    from fastbp import BackpropClassifier, BackpropRegressor
    from fastbp.streams import from_parquet
    from fastbp.streams.problem import prepare_stream

    rows_per_group, memory_limit, settings = SCORED[name]
    with np.load(folder / f"{name}.npz") as stored:
        X, y, X_test, y_test = (stored[f"{k}_{part}"] for part in ("train", "test") for k in "Xy")
    mean, spread = X.mean(axis=0), X.std(axis=0)
    if X.dtype == np.uint8:
        mean, spread = 0.0, 255.0
    X, X_test = (((part - mean) / spread).astype(np.float32) for part in (X, X_test))
    kind = BackpropRegressor if "scale_targets" in settings else BackpropClassifier
    found = {"memory": [], "random order": [], "sorted by y": []}
    with tempfile.TemporaryDirectory() as place:
        sources = {}
        for order, rows in (
            ("random order", slice(None)), ("sorted by y", np.argsort(y, kind="stable")),
        ):  # fmt: skip
            path = Path(place) / f"{order}.parquet"
            write_rows(path, X[rows], y[rows], rows_per_group)
            sources[order] = from_parquet(path, "y", memory_limit=memory_limit)
        for seed in range(n_seeds):
            net = kind(**settings, tol=0.0, n_iter_no_change=float("inf"), random_state=seed)
            found["memory"].append(net.fit(X, y).score(X_test, y_test))
            for order, source in sources.items():
                problem, _ = prepare_stream(net, source, settings=net._check_parameters())
                found[order].append(net.fit(source).score(X_test, y_test))
    about = {"set": name, "rows": len(y), "window": problem.X.size, "row group": rows_per_group,
             "epochs": settings["max_iter"], "seeds": n_seeds}  # fmt: skip
    means = {case: round(float(np.mean(scores)), 4) for case, scores in found.items()}
    errors = {
        case: round(float(np.std(scores) / n_seeds**0.5), 4) for case, scores in found.items()
    }
    print(json.dumps(about | {"mean score": means, "standard error": errors}), flush=True)


def main():
    """Make data, run all cases, or one in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=["make", "run", "case", "rates", "score"])
    parser.add_argument("path")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--mb", type=int, default=500)
    parser.add_argument("--case", choices=list(CASES), default="stream")
    parser.add_argument("--network", choices=list(NETWORKS), default="g")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--memory-limit")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-looks", action="store_true", help="at memory: it takes time")
    parser.add_argument("--without", nargs="*", default=[])
    chosen = parser.parse_args()
    if chosen.action == "make":
        print(make(chosen.path, chosen.mb * 10**6), "rows")
        return
    warnings.simplefilter("ignore")
    if chosen.action == "score":
        for name in SCORED:
            compare_scores(Path(chosen.path), name, chosen.seeds)
        return
    if chosen.action == "case":
        how = chosen.case, chosen.path, chosen.network, chosen.epochs, chosen.memory_limit
        print(json.dumps(measure(*how, looks=not chosen.no_looks)))
        return
    limit = ["--memory-limit", chosen.memory_limit] if chosen.memory_limit else []
    if chosen.action == "rates":
        compare_rates(chosen.path, chosen.rounds, *limit)
        return
    for name in NETWORKS:
        for case in CASES:
            if case in chosen.without:
                continue
            print(json.dumps(run_case(chosen.path, case, name, chosen.epochs, *limit)), flush=True)


if __name__ == "__main__":
    main()
