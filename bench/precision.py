"""Steps in each `matmul_precision` beside "highest", in turns: what rounding operands brings here.

``python -m bench.precision`` prints, for each network, precision and number of threads, how many
times as fast a step is as in "highest": the median over rounds of the ratio of two sessions timed
one directly after the other, in CPU time of the process, because a fit of one thread then does not
see what else runs. (Two threads wait for each other; their ratio is of wall time, and wants a quiet
machine.) ``--path emulation`` forces a path, ``--rounds``, ``--rows a,c`` and ``--asked medium``
say how much.

Rows are those of the table of steps, and two of their own: t, the network of a tabular ensemble's
step with 8 members of 256 rows; h, the network of a public comparison on HIGGS.
"""

import argparse
import statistics
import time

import numpy as np

from bench.report import table
from fastbp.activations import ACTIVATIONS
from fastbp.engine import get_engine
from fastbp.engine.network import count_params
from fastbp.losses import LOSSES
from fastbp.optimizers import OPTIMIZERS

# Sizes, batch, solver, activation, members.
ROWS = {
    "a": ((64, 100, 10), 200, "adam", "relu", None),
    "b": ((10, 32, 32, 1), 64, "adam", "relu", None),
    "c": ((54, 256, 256, 7), 256, "adam", "relu", None),
    "d": ((784, 512, 256, 10), 128, "sgd", "relu", None),
    "e": ((1000, 1024, 1024, 1), 512, "adam", "relu", None),
    "g": ((4, 10, 3), 32, "adam", "relu", None),
    "h": ((28, 300, 300, 300, 300, 300, 1), 100, "adam", "tanh", None),
    "t": ((64, 256, 256, 256, 8), 256, "adam", "relu", 8),
}
SECONDS = 0.1  # of an epoch, about: how many steps it has
PRECISIONS = ("highest", "high", "medium")


class Job:
    """A session on random data, which trains one epoch at a time."""

    def __init__(self, row, precision, n_threads, n_steps):
        sizes, batch, solver, activation, n_members = ROWS[row]
        rng = np.random.default_rng(0)
        n, n_params = batch * n_steps, count_params(sizes, n_members)
        loss = LOSSES["squared_error" if sizes[-1] == 1 else "log_loss"]
        self.X = rng.standard_normal((n, sizes[0])).astype(np.float32)
        self.y = rng.integers(0, sizes[-1] + (sizes[-1] == 1), (n, 1)).astype(np.float32)
        self.order, self.random_state = np.arange(n), np.random.RandomState(0)
        self.batch = batch
        self.session = get_engine("cython").Session(
            sizes, [ACTIVATIONS[activation]] * (len(sizes) - 2), loss, dtype=np.float32,
            params=(0.05 * rng.standard_normal(n_params)).astype(np.float32), batch_size=batch,
            n_threads=n_threads, n_members=n_members, matmul_precision=precision,
        )  # fmt: skip
        hyper = OPTIMIZERS[solver].get_params() | (
            {"momentum": 0.9, "nesterovs_momentum": True} if solver == "sgd" else {}
        )
        self.session.set_optimizer(OPTIMIZERS[solver], hyper)

    def train(self, clock):
        """Return the seconds of an epoch."""
        start = clock()
        self.session.train(
            self.X, self.y, None, self.order, shuffle=self.random_state, batch_size=self.batch,
            alpha=1e-4, learning_rate=1e-4, n_epochs=1, losses=np.empty(1),
        )  # fmt: skip
        return clock() - start


def compare(row, precision, n_threads, n_rounds):
    """Return what is in force, microseconds of a step in "highest", and the median ratio."""
    clock = time.process_time if n_threads == 1 else time.perf_counter
    probe = Job(row, "highest", n_threads, 4)
    probe.train(clock)
    n_steps = max(4, int(SECONDS / max(probe.train(clock) / 4, 1e-7)))
    probe.session.close()
    jobs = [Job(row, name, n_threads, n_steps) for name in ("highest", precision)]
    used = jobs[1].session.matmul_precision
    seconds = [[job.train(clock) for job in jobs] for _ in range(n_rounds + 1)][1:]
    for job in jobs:
        job.session.close()
    ratio = statistics.median(slow / fast for slow, fast in seconds)
    return used, 1e6 * statistics.median(slow for slow, _ in seconds) / n_steps, ratio


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--path")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--asked", default=",".join(PRECISIONS[1:]))
    arguments = parser.parse_args()
    engine = get_engine("cython")
    if arguments.path:
        engine.set_matmul_path(arguments.path)
    lines = []
    for row in arguments.rows.split(","):
        for n_threads in map(int, arguments.threads.split(",")):
            for precision in arguments.asked.split(","):
                used, us, ratio = compare(row, precision, n_threads, arguments.rounds)
                lines.append((row, n_threads, precision, used, f"{us:.1f}", f"x{ratio:.2f}"))
    print(f"path: {engine.get_matmul_path()}, instruction set: {engine.instruction_set()}\n")
    head = ("row", "threads", "asked", "used", "us per step, highest", "times as fast")
    print(table(head, lines))


if __name__ == "__main__":
    main()
