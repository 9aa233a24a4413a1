"""A fit on sparse text-like data: 20 000 x 100 000 CSR, 0.1 % of it not zero, against scikit-learn.

``python -m bench.bench_sparse`` prints seconds per epoch of interleaved rounds; ``pytest
bench/bench_sparse.py`` times fastbp alone.  PyTorch and JAX have no sparse first layer on the CPU
whose gradient is sparse, too, so they don't take part.  One hidden layer of 100 units, two classes,
Adam, batch size 200: the dense update of ten million weights bounds a step, not the non-zeros.
"""

import argparse
import json
import warnings

import numpy as np
from scipy import sparse

from bench import measure
from bench.report import table

ROWS, COLUMNS, DENSITY = 20_000, 100_000, 1e-3
NAMES = ("fastbp", "scikit-learn")


def draw(dtype):
    """Counts-like positive values at random places, and classes by a sparse linear teacher."""
    generator = np.random.default_rng(0)
    X = sparse.random_array((ROWS, COLUMNS), density=DENSITY, format="csr", rng=generator)
    teacher = generator.standard_normal(COLUMNS)
    return X.astype(dtype), (X @ teacher > 0).astype(int)


def estimator(name, n_epochs, n_threads):
    settings = {"hidden_layer_sizes": (100,), "max_iter": n_epochs, "random_state": 0}
    settings |= {"tol": 0.0, "n_iter_no_change": n_epochs + 1}
    if name == "fastbp":
        from fastbp import BackpropClassifier

        return BackpropClassifier(**settings, dtype=None, n_threads=n_threads)
    from sklearn.neural_network import MLPClassifier

    return MLPClassifier(**settings)


def sparse_fits(dtype, n_threads, n_rounds):
    """Seconds per epoch: a fit of two epochs less one of one epoch, in the same round."""
    X, y = draw(dtype)
    losses = {}

    def epoch(name):
        seconds = []
        for n_epochs in (1, 2):
            model = estimator(name, n_epochs, n_threads)
            seconds.append(measure.seconds_of(model.fit, X, y))
            losses[name] = model.loss_
        return seconds[1] - seconds[0]

    turns = {name: lambda name=name: epoch(name) for name in NAMES}
    cores = measure.usable_cores()[:n_threads]
    return measure.Rounds(turns, cores, dtype).run(n_rounds).summary() | {"losses": losses}


def bench_sparse(benchmark):
    """One epoch of fastbp, float32."""
    X, y = draw("float32")
    benchmark.pedantic(estimator("fastbp", 1, 1).fit, (X, y), rounds=3)


def main():
    parser = argparse.ArgumentParser(prog="python -m bench.bench_sparse")
    parser.add_argument("--dtypes", nargs="+", default=["float32"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cell", action="store_true", help="measure here, print JSON")
    arguments = parser.parse_args()
    if arguments.cell:
        warnings.simplefilter("ignore")
        cell = sparse_fits(arguments.dtypes[0], arguments.threads[0], arguments.rounds)
        print(json.dumps(cell))
        return
    rows = []
    for dtype in arguments.dtypes:
        for n_threads in arguments.threads:
            cores, _ = measure.fastest_cores(n_threads, dtype)
            options = ["--cell", "--dtypes", dtype, "--threads", n_threads]
            options += ["--rounds", arguments.rounds]
            cell = measure.run_child(cores, "bench.bench_sparse", *options)
            if cell is None:
                continue
            seconds = cell["seconds"]
            gain = measure.ratio(seconds, "scikit-learn", "fastbp")
            rows.append([dtype, n_threads, *(f"{seconds[n]['median']:.3g}" for n in NAMES)])
            rows[-1] += [f"{gain:.3g}x", *(f"{cell['losses'][n]:.5g}" for n in NAMES)]
            print(*rows[-1], sep="  ", flush=True)
    print(f"\nSeconds per epoch, median; {ROWS} x {COLUMNS}, {DENSITY:.1%} not zero\n")
    losses = [f"loss of {name}" for name in NAMES]
    print(table(["dtype", "threads", *NAMES, "fastbp faster by", *losses], rows))


if __name__ == "__main__":
    main()
