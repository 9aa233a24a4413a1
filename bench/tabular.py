"""What the tabular estimators cost: ``python -m bench.tabular``.

Four figures, on made-up tables of 20 columns of normal numbers whose target is smooth in five of
them and noisy: a fit on one thread and on two in turns, a fit of 300 000 rows with the growth of
memory, predictions of 10 000 rows and of one (whole, and reduced to one network of one member).
Times are wall times, the machine's name is printed; nothing else should run.
"""

import argparse
import statistics
import threading
import time

import numpy as np

from fastbp import TabularRegressor, show_versions


def draw(n_samples, seed=0):
    """Draw X (n_samples, 20) of float32 and y."""
    rng = np.random.RandomState(seed)
    X = rng.standard_normal((n_samples, 20)).astype(np.float32)
    y = X[:, 0] * X[:, 1] + np.sin(3 * X[:, 2]) + np.abs(X[:, 3]) - X[:, 4]
    return X, y + 0.3 * rng.standard_normal(n_samples)


def seconds(function, *arguments):
    """Call a function; return what it returns and the seconds that it took."""
    begun = time.perf_counter()
    result = function(*arguments)
    return result, time.perf_counter() - begun


class Memory:
    """Growth of this process's anonymous memory within a ``with`` block, in MiB (Linux)."""

    def __enter__(self):
        self.start = self.peak = self.now()
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    @staticmethod
    def now():
        with open("/proc/self/status") as status:
            return (
                next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) / 1024
            )

    def watch(self):
        while not self.over.wait(0.02):
            self.peak = max(self.peak, self.now())

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    @property
    def growth(self):
        return self.peak - self.start


def compare_threads(n_rounds):
    """One thread beside two, in turns."""
    X, y = draw(6000)
    ratios = []
    for _ in range(n_rounds):
        times = [
            seconds(TabularRegressor(random_state=0, n_threads=n).fit, X, y)[1] for n in (1, 2)
        ]
        ratios.append(times[0] / times[1])
        print(f"  6000 rows: {times[0]:.1f} s on one thread, {times[1]:.1f} s on two", flush=True)
    print(f"two threads: {statistics.median(ratios):.2f} times as fast (median of {n_rounds})")


def fit_large(n_samples):
    """Fit many rows with the defaults: seconds and growth of memory."""
    X, y = draw(n_samples)
    TabularRegressor(max_iter=1, n_networks=2).fit(X[:500], y[:500])  # what is loaded once
    with Memory() as memory:
        model, taken = seconds(TabularRegressor(random_state=0).fit, X, y)
    ratio = memory.growth / (X.nbytes / 2**20)
    print(f"{n_samples} rows: {taken:.0f} s, memory grew by {memory.growth:.0f} MiB, {ratio:.1f} X")
    print(f"  epochs of the networks: {[network.n_iter_ for network in model.networks_]}")


def time_predictions():
    """Predictions of 10 000 rows on one thread, and of one row."""
    X, y = draw(6000)
    model = TabularRegressor(random_state=0, n_threads=1).fit(X, y)
    many, answers = draw(10_000, seed=1)
    for title, one in (("whole", model), ("reduced to one member", model.reduced())):
        whole = statistics.median(seconds(one.predict, many)[1] for _ in range(9))
        single = statistics.median(seconds(one.predict, many[:1])[1] for _ in range(500))
        print(
            f"predict, {title}: 10 000 rows {1e3 * whole:.0f} ms, one row {1e6 * single:.0f} us; "
            f"R2 {one.score(many, answers):.4f}"
        )


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.tabular", description=__doc__)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    show_versions()
    time_predictions()
    compare_threads(arguments.rounds)
    fit_large(arguments.rows)


if __name__ == "__main__":
    main()
