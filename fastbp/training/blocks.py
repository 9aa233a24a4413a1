"""Sessions over what is no array of its own: the same verbs as an engine's session.

Features may be made in blocks of rows, or be rows of an array that other fits read, too.  Those who
train see no difference: an epoch of blocks is one call for each, in an order that runs over all
rows.  What is computed in a block is the engine's business, what a block is made of is the
`RowSource`'s.
"""

import time

import numpy as np

from fastbp.data.row_source import ROWS_PER_BLOCK, blocks_of


class InBlocks:
    """A session of an engine that takes a `RowSource` as X.

    Verbs and attributes that are not here are the session's own (`fastbp.engine.contract.Session`).

    Parameters
    ----------
    session : Session
    """

    def __init__(self, session):
        self.session = session
        self.epochs_done, self.n_seen, self.out_of_time = 0, 0, False

    def __getattr__(self, name):
        return getattr(self.session, name)

    def train(
        self, X, targets, sample_weight, order, *, shuffle, batch_size, alpha, learning_rate,
        n_epochs, losses, stopping=None, time_limit=None,
    ):  # fmt: skip
        """Train for up to n_epochs epochs, as a session does; blocks are whole minibatches."""
        deadline = np.inf if time_limit is None else time.perf_counter() + time_limit
        rates = np.atleast_1d(np.asarray(learning_rate, np.float64))
        self.epochs_done, self.out_of_time, stopped, step = 0, False, False, 0
        value = np.empty(1)
        while self.epochs_done < n_epochs and not (stopped or self.out_of_time):
            total, n_seen = self.begun()
            step += -(-n_seen // batch_size)
            blocks = self.blocks(X, targets, sample_weight, order, shuffle, batch_size)
            for part, its_targets, its_weight, its_order, its_shuffle in blocks:
                left = deadline - time.perf_counter()
                self.out_of_time = left <= 0 and n_seen + self.epochs_done > 0
                if self.out_of_time or stopped:
                    break
                n_steps = -(-part.shape[0] // batch_size)
                self.session.train(
                    part,
                    its_targets,
                    its_weight,
                    its_order,
                    shuffle=its_shuffle,
                    batch_size=batch_size,
                    alpha=alpha,
                    learning_rate=rates if len(rates) == 1 else rates[step : step + n_steps],
                    n_epochs=1,
                    losses=value,
                    time_limit=None if left == np.inf else max(left, 0.0),
                )
                step += n_steps
                total += value[0] * self.session.n_seen
                n_seen += self.session.n_seen
                self.out_of_time = self.session.out_of_time
                stopped = not self.session.finite
                if not (stopped or self.out_of_time):
                    self.after_block(total, n_seen)
            blocks.close()
            if not n_seen:  # time was up before the epoch's first step
                break
            losses[self.epochs_done] = total / n_seen
            self.epochs_done, self.n_seen = self.epochs_done + 1, n_seen
            if stopping is not None:
                stopped = stopping.saw_loss(float(losses[self.epochs_done - 1])) or stopped
        return self.epochs_done

    def begun(self):
        """Return the sum of losses and the rows of the epoch in hand that were trained before."""
        return 0.0, 0

    def after_block(self, total, n_seen):
        """Do what is to be done between two blocks, after such a sum of losses and rows."""

    def blocks(self, X, targets, sample_weight, order, shuffle, batch_size):
        """Yield the blocks of an epoch: X, targets, weights, order and who shuffles it."""
        order = np.arange(X.shape[0]) if order is None else order
        if isinstance(shuffle, np.random.BitGenerator):
            shuffle = np.random.RandomState(shuffle)  # draws from it, and leaves it advanced
        if shuffle is not None:
            shuffle.shuffle(order)
        n_rows = max(ROWS_PER_BLOCK // batch_size, 1) * batch_size
        for first in range(0, len(order), n_rows):
            rows = order[first : first + n_rows]
            weight = None if sample_weight is None else sample_weight[rows]
            yield X.take(rows), np.ascontiguousarray(targets[rows]), weight, None, None

    def predict_into(self, X, out):
        """Raw scores of all rows into `out`, whose second last dimension they are."""
        for rows, part in blocks_of(X):
            scores = np.empty((*out.shape[:-2], part.shape[0], out.shape[-1]), out.dtype)
            self.session.predict_into(part, scores)
            out[..., rows, :] = scores


class ByIndex:
    """A session of an engine that takes `SharedRows` as X, and trains on rows of their array.

    Verbs and attributes that are not here are the session's own.

    Parameters
    ----------
    session : Session
    X : SharedRows
        With rows of its own.
    targets, sample_weight : arrays for these rows; the weights may be None
    """

    def __init__(self, session, X, targets, sample_weight):
        self.session, self.order = session, None
        self.targets = _spread(targets, X)
        self.sample_weight = None if sample_weight is None else _spread(sample_weight, X)
        self.places = np.zeros(len(X.array), np.int64)
        self.places[X.rows] = np.arange(len(X.rows))

    def __getattr__(self, name):
        return getattr(self.session, name)

    def train(self, X, targets, sample_weight, order, **how):
        """Train as a session does; `order` counts the rows of X, and is shuffled with them."""
        if self.order is None:
            self.order = X.rows[order]
        try:
            return self.session.train(X.array, self.targets, self.sample_weight, self.order, **how)
        finally:
            order[:] = self.places[self.order]


def _spread(values, X):
    """Put values of some rows where these stand in the array."""
    spread = np.zeros((len(X.array), *values.shape[1:]), values.dtype)
    spread[X.rows] = values
    return spread
