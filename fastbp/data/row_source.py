"""Features that are made when they are needed, in blocks of rows.

Where the matrix that a network trains on is much larger than what it is made of (a raw table, and
its encoding), training takes it block by block: in each epoch anew, which costs little beside the
training, and saves the memory.  What is made, and of what, is the business of those who derive from
`RowSource`; nothing here trains.  Also how many fits read rows of one array (`SharedRows`).
"""

from abc import ABC, abstractmethod

import numpy as np

ROWS_PER_BLOCK = 8192  # about; made at once, for each network that is trained at the time


class RowSource(ABC):
    """Features of a problem in the place of an array.

    Attributes
    ----------
    shape : tuple of (n_samples, n_features)
    dtype : dtype
    is_sparse : bool
        Whether rows come as CSR.
    """

    shape: tuple
    dtype: np.dtype
    is_sparse = False

    @abstractmethod
    def take(self, rows):
        """Make some rows.

        Parameters
        ----------
        rows : int64 ndarray or slice

        Returns
        -------
        ndarray or CSR array of shape (n_rows, n_features)
            C-contiguous, of `dtype`, finite; valid until the next call.
        """

    @abstractmethod
    def __getitem__(self, rows):
        """Return the source of some rows, an int64 ndarray."""

    @abstractmethod
    def view(self):
        """Return the same rows for another thread."""


class MappedRows(RowSource):
    """Rows of a map of a file, converted as they are taken: the map is never copied whole.

    Parameters
    ----------
    array : np.memmap of shape (n_samples, n_features)
        Finite in `dtype`.
    dtype : dtype
        Of the arithmetic.
    """

    def __init__(self, array, dtype):
        self.array, self.given, self.dtype = array, array.dtype, np.dtype(dtype)
        self.shape, self.ndim = array.shape, 2

    def take(self, rows):
        """Copy some rows."""
        return self[rows]

    def __getitem__(self, index):
        """Copy some rows, or some columns of them: these are few."""
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(self.array[index], self.dtype)

    def view(self):
        """Return the same rows for another thread."""
        return self


def blocks_of(X, n_rows=ROWS_PER_BLOCK):
    """Yield slices of rows and X there: all at once where X is an array."""
    if not isinstance(X, RowSource | SharedRows):
        yield slice(0, X.shape[0]), X
        return
    for first in range(0, X.shape[0], n_rows):
        rows = slice(first, min(first + n_rows, X.shape[0]))
        yield rows, X.take(rows)


class SharedRows:
    """Rows of a checked array that many fits read, each some of them: nothing is copied.

    Parameters
    ----------
    array : ndarray of shape (n_all, n_features)
        C-contiguous, in the dtype of the arithmetic, finite.
    given : dtype
        In which the user gave X.
    names : ndarray of str or None, default=None
        Names of the features.
    rows : int64 ndarray of shape (n_samples,) or None, default=None
        Those of this problem; None is all.
    """

    def __init__(self, array, given, names=None, rows=None):
        self.array, self.given, self.names, self.rows = array, given, names, rows
        self.dtype = array.dtype
        self.shape = array.shape if rows is None else (len(rows), array.shape[1])

    def take(self, rows):
        """Copy some rows."""
        return self[rows]

    def __getitem__(self, index):
        """Copy some rows, or some columns of them."""
        rows, columns = index if isinstance(index, tuple) else (index, slice(None))
        return self.array[self.rows[rows]][:, columns]
