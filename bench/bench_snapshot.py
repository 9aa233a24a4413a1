"""What snapshots at their default interval cost a fit: 31 interleaved pairs, with and without.

``python -m bench.bench_snapshot`` prints, for each job, the medians of the quotients of the pairs'
seconds and CPU seconds, and what the parts take: the fingerprints of the data, taken once, and one
copy of the state in the file, which the disk has when it ends.  A job lasts some 12 s, so that two
or three files are written besides the last one; that of the largest network, which is written less
often, 30 s.  Which of a pair comes first takes turns.  The machine must be quiet, and ``--folder``
on the disk that is meant: in memory (tmpfs) fsync costs nothing.
"""

import argparse
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

from fastbp import BackpropClassifier, Snapshot
from fastbp.training.keeping import Keeper

SECONDS = 12.0
JOBS = {  # n_samples, n_features, n_classes, hidden_layer_sizes, how many times `SECONDS`
    "60000 x 784, (256, 128)": (60_000, 784, 10, (256, 128), 1.0),
    "1797 x 64, (100,)": (1797, 64, 10, (100,), 1.0),
    "10000 x 784, (2048, 1600)": (10_000, 784, 10, (2048, 1600), 2.5),  # 4.9 million weights
}


def draw(n_samples, n_features, n_classes):
    """Draw float32 features and labels."""
    rng = np.random.default_rng(0)
    return rng.random((n_samples, n_features), np.float32), rng.integers(0, n_classes, n_samples)


def make(hidden, max_iter):
    """Make an estimator that trains so many epochs."""
    return BackpropClassifier(
        hidden, max_iter=max_iter, tol=0.0, n_iter_no_change=np.inf, random_state=0
    )


def seconds_of(hidden, max_iter, X, y, snapshot=None):
    """Fit, and return seconds and CPU seconds."""
    begun = np.array([time.perf_counter(), time.process_time()])
    make(hidden, max_iter).fit(X, y, snapshot=snapshot)
    return np.array([time.perf_counter(), time.process_time()]) - begun


def measure(job, n_pairs, seconds, folder):
    """Return medians: quotient of a pair, seconds without, of fingerprints, of one writing."""
    *shape, hidden, longer = job
    X, y = draw(*shape)
    trial = seconds_of(hidden, 3, X, y)[0]
    max_iter = max(3, int(3 * longer * seconds / trial))
    path, parts = Path(folder) / "bench.snapshot", {"hash": [], "write": []}
    wrapped = {name: getattr(Keeper, name) for name in ("__init__", "write")}

    def timed(name, into):
        def method(*args, **kwargs):
            begun = time.perf_counter()
            wrapped[name](*args, **kwargs)
            parts[into].append(time.perf_counter() - begun)

        return method

    Keeper.__init__, Keeper.write = timed("__init__", "hash"), timed("write", "write")
    quotients, without = [], []
    for pair in range(n_pairs):
        found = {}
        for kept in (pair % 2 == 0, pair % 2 == 1):
            snapshot = Snapshot(path, fresh=True) if kept else None
            found[kept] = seconds_of(hidden, max_iter, X, y, snapshot)
        quotients.append(found[True] / found[False])
        without.append(found[False][0])
    for name, plain in wrapped.items():
        setattr(Keeper, name, plain)
    return {
        "quotients": np.median(quotients, axis=0), "without": statistics.median(without),
        "hash": statistics.median(parts["hash"]), "write": statistics.median(parts["write"]),
        "written": len(parts["write"]) / n_pairs,
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pairs", type=int, default=31)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of a fit, about")
    parser.add_argument("--folder", help="where the snapshots are written")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    for name, job in JOBS.items():
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            found = measure(job, arguments.pairs, arguments.seconds, folder)
        print(
            f"{name}: with / without {found['quotients'][0]:.4f}, of CPU seconds "
            f"{found['quotients'][1]:.4f} (medians of {arguments.pairs} pairs), "
            f"without {found['without']:.2f} s, fingerprints {found['hash'] * 1e3:.2f} ms, "
            f"a file {found['write'] * 1e3:.2f} ms, {found['written']:.1f} files a fit",
            flush=True,
        )


if __name__ == "__main__":
    main()
