"""What an epoch on a Dask cluster takes, as a sum of measured parts.  No measuring here.

The model, for K workers, n rows, p weights, one average an epoch, L = ceil(log2 K)::

    n / K * row(p) + 3 trip + (2 K + 1) task + bytes (1 / line + handling)
    bytes = p (12 (3 + L) + 24 (L - 1))

A round is three tasks one after the other (the state is handed out, shards are trained, the average
is made), and 2 K + 1 in all.  12 p bytes are weights and two slots of Adam in float32: they go out
from the client, on from worker to worker (L times), from shards into the tree, and back to the
client; sums on the L - 1 levels within the tree are float64.
"""

from dataclasses import dataclass

import numpy as np

WORKERS = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
WEIGHTS = (10**4, 10**5, 10**6, 10**7, 10**8)
LINES = (1.0, 10.0, 100.0)  # Gbit/s
ROWS = 10**7  # of the prediction


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

    def epoch(self, n_workers, n_rows, n_weights, gbit, n_averages=1):
        """Predict the seconds of an epoch; with one worker there is no average."""
        train = n_rows / n_workers * self.per_row(n_weights)
        if n_workers == 1:
            return train + 2 * self.trip
        levels = int(np.ceil(np.log2(n_workers)))
        n_bytes = n_weights * (12 * (3 + levels) + 24 * (levels - 1))
        round_s = 3 * self.trip + (2 * n_workers + 1) * self.task
        return train + n_averages * (round_s + n_bytes * (8 / (gbit * 1e9) + self.handling))

    def speed_up(self, n_workers, n_weights, gbit, n_rows=ROWS):
        """Return how many times faster an epoch is than on one worker."""
        alone = self.epoch(1, n_rows, n_weights, gbit)
        return alone / self.epoch(n_workers, n_rows, n_weights, gbit)
