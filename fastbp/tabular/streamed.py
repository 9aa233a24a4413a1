"""Tables that are read in parts: the encoding of a sample, and rows encoded as they come.

The encoder learns from a random sample of blocks; the networks are trained on all rows.  What fits
into memory is read and goes the way of tables.
"""

from copy import copy

import numpy as np

from fastbp.streams.rows import join_tables
from fastbp.streams.source import Source
from fastbp.streams.summary import sample_blocks, sum_up
from fastbp.tabular.rows import BYTES
from fastbp.tabular.runs import as_csr

ROWS_OF_SAMPLE = 2**16  # from which the encoder learns, where memory allows
LEAST_OF_EACH = 2**22  # bytes of memory for a network, where several read at a time
SHARE = 8  # the sample, or a table that is read whole, takes this part of the memory


class EncodedSource(Source):
    """What a fitted encoder makes of the rows of a source: CSR of runs, as networks take it.

    Parameters
    ----------
    source : Source
        With parts that know their rows.
    encoder : TableEncoder
    n_readers : int, default=1
        How many read at the same time and share the memory.
    """

    is_sparse = True

    def __init__(self, source, encoder, n_readers=1):
        self.source, self.encoder = source, encoder
        self.parts, self.window = source.parts, source.window
        self.has_y, self.has_weight = source.has_y, source.has_weight
        self.takes_turns = source.takes_turns
        self.memory_limit = source.memory_limit // n_readers
        self.n_features = encoder._plan.n_outputs
        self.dtype = np.dtype(np.float32)
        self.bytes_per_row = max(source.bytes_per_row, BYTES * len(encoder._plan.runs.places))

    def _read(self, part, n_rows, *, targets_only=False):
        return self.source._read(part, n_rows, targets_only=targets_only)

    def reading_bytes(self):
        """Return about how much memory reading and encoding takes."""
        return self.source.reading_bytes() + super().reading_bytes()

    def matrix(self, batch):
        """Encode the rows of a batch."""
        runs = self.encoder._plan.runs
        return as_csr(runs.encode(self.encoder._read(batch.X)), self.n_features)

    def _identity(self):
        return [self.source._identity(), "encoded"]

    def _files(self):
        """Return the paths of the files below."""
        return self.source._files()


def count_rows(network, source):
    """Read y once; return a copy of the source that knows its rows, and the summary."""
    source = copy(source)
    source.parts = list(source.parts)
    return source, sum_up(network, source, np.float64)


def count_readers(source, encoder, most):
    """Return how many networks may read at a time, and share the memory.

    Reading takes a third of it at most.  Windows, and with them the bits of the result, depend on
    this number, which therefore knows nothing of threads.
    """
    each = max(3 * EncodedSource(source, encoder).reading_bytes(), LEAST_OF_EACH)
    return max(1, min(most, source.memory_limit // each))


def fits(source):
    """Whether a table is to be read whole."""
    return source.n_rows * source.bytes_per_row <= source.memory_limit / SHARE


def read_whole(source):
    """Read all rows: X as it came, y and weights."""
    batches = list(source._batches())
    parts = [
        None if getattr(batches[0], name) is None
        else np.concatenate([getattr(batch, name) for batch in batches])
        for name in ("y", "weight")
    ]  # fmt: skip
    return join_tables([batch.X for batch in batches]), *parts


def learn_encoder(encoder, source, as_column, random_state):
    """Fit an encoder on a sample of blocks.

    Parameters
    ----------
    encoder : TableEncoder
    source : Source
    as_column : callable
        ``as_column(y)``: what the encoding of targets sees of y, or None.
    random_state : RandomState
    """
    most = int(source.memory_limit / SHARE / max(source.bytes_per_row, 1.0))
    fit_encoder(encoder, *sample_blocks(source, min(ROWS_OF_SAMPLE, most), random_state), as_column)


def fit_encoder(encoder, X, y, weight, as_column):
    """Fit an encoder on some rows, whose targets no network sees cross-fitted.

    Parameters
    ----------
    encoder : TableEncoder
    X : table
    y : ndarray
    weight : ndarray of shape (n_rows,) or None
    as_column : callable
        ``as_column(y)``: what the encoding of targets sees of y, or None.
    """
    counted = None if weight is None else np.flatnonzero(weight)
    column = as_column(y)
    if weight is not None and (not len(counted) or np.ptp(weight[counted]) > 0):
        column = None  # scikit-learn's TargetEncoder knows no weights
    encoder._fit(X, column, is_crossed=False, counted=counted)
