"""A source of batches that a function of the user's makes anew for each pass."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import scipy.sparse

from fastbp.data.unusable import find_masked
from fastbp.streams.rows import Batch, Part, SourceError, is_arrow
from fastbp.streams.source import Source, read_settings


class BatchSource(Source):
    """Rows in the order in which they come."""

    takes_turns = False

    def __init__(self, factory, feature_names, memory_limit, window):
        self.memory_limit, self.window = read_settings(memory_limit, window)
        if not callable(factory):
            raise TypeError(
                "factory must be a function without arguments that returns the batches, again each "
                f"time it is called: from_batches(lambda: ...). Got {type(factory).__name__}."
            )
        self.factory = factory
        self.parts = [Part("the batches", None)]
        for batch in self._iterate():
            X, y, weight = self._open(batch, 0)
            break
        else:
            raise ValueError("factory gave no batch: expected (X, y) or (X, y, sample_weight).")
        self.n_features = int(X.shape[1])
        self.is_sparse = scipy.sparse.issparse(X)
        names = names_of(X) if feature_names is None else feature_names
        self.feature_names = None if names is None else list(map(str, names))
        self.columns = names_of(X)
        dtype = getattr(X, "dtype", np.dtype(np.float64))
        self.dtype = dtype if isinstance(dtype, np.dtype) else np.dtype(np.float64)
        self.has_y, self.has_weight = y is not None, weight is not None
        self.bytes_per_row = float(self.n_features * self.dtype.itemsize)
        if self.is_sparse:
            self.bytes_per_row = X.nnz / max(X.shape[0], 1) * (self.dtype.itemsize + 4) + 4

    def _iterate(self):
        batches = self.factory()
        if not isinstance(batches, Iterable):
            raise TypeError(
                "factory must return an iterable of batches, such as a list or a generator. Got "
                f"{type(batches).__name__}."
            )
        iterator = iter(batches)
        if iterator is batches and batches is getattr(self, "last", None):
            raise SourceError(
                "factory returned the same iterator twice, which is used up: it must start again "
                "each time it is called."
            )
        self.last = batches if iterator is batches else None
        return iterator

    def _open(self, batch, number):
        """Return X, y and weights of what the factory gave."""
        if not isinstance(batch, tuple | list) or not 1 <= len(batch) <= 3:
            raise SourceError(
                f"Batch {number} of factory must be a tuple (X, y) or (X, y, sample_weight). Got "
                f"{type(batch).__name__}."
            )
        X, y, weight = (*batch, None, None)[:3]
        for part, name in ((X, "X"), (y, "y"), (weight, "sample_weight")):
            if found := find_masked(part, name):
                raise SourceError(f"In batch {number} of factory: {found}")
        if not hasattr(X, "shape"):
            X = np.asarray(X)
        if scipy.sparse.issparse(X):
            X = scipy.sparse.csr_array(X)
        shape = tuple(X.shape)
        if len(shape) != 2 or shape[1] != getattr(self, "n_features", shape[1]):
            raise SourceError(
                f"X of batch {number} of factory has shape {shape}: expected (n_rows, "
                f"{getattr(self, 'n_features', 'n_features')})."
            )
        if "columns" in vars(self):
            self._compare(X, number)
        arrays = [None if part is None else np.asarray(part) for part in (y, weight)]
        for name, array in zip(("y", "sample_weight"), arrays, strict=True):
            known = getattr(self, "has_y" if name == "y" else "has_weight", None)
            known = known if hasattr(self, "bytes_per_row") and self.bytes_per_row else None
            if known is not None and known != (array is not None):
                raise SourceError(
                    f"Batch {number} of factory {'lacks' if known else 'has'} {name}, unlike the "
                    "first one."
                )
            if array is not None and (not array.shape or array.shape[0] != shape[0]):
                raise SourceError(
                    f"Batch {number} of factory has {shape[0]} rows of X, but {name} of shape "
                    f"{array.shape}."
                )
        return X, *arrays

    def _compare(self, X, number):
        """Refuse an X of another kind than that of the first batch, or with other columns."""
        if scipy.sparse.issparse(X) != self.is_sparse:
            raise SourceError(
                f"X of batch {number} of factory is {'dense' if self.is_sparse else 'sparse'}, "
                "unlike that of the first one."
            )
        names = names_of(X)
        if None not in (names, self.columns) and names != self.columns:
            raise SourceError(
                f"Batch {number} of factory has the columns {', '.join(names)}; those of the first "
                f"one are {', '.join(self.columns)}."
            )

    def _read(self, part, n_rows, *, targets_only=False):
        first = 0
        for number, batch in enumerate(self._iterate()):
            name = f"batch {number} of factory"
            X, y, weight = self._open(batch, number)
            whole = Batch(X, y, weight, name, 0)
            for start in range(0, X.shape[0], n_rows):
                yield whole[start : start + n_rows]
            first += X.shape[0]


def names_of(X):
    """Return the names of a frame's columns; None for an array."""
    columns = X.schema.names if is_arrow(X) else getattr(X, "columns", None)
    return None if columns is None else list(map(str, columns))


def from_batches(
    factory: Callable[[], Iterable[Any]],
    *,
    feature_names: Any = None,
    memory_limit: int | str | None = None,
    window: int | None = None,
) -> Source:
    """Read batches of yours, which come anew in each epoch.

    Their order is theirs in every epoch: only the rows of a window are shuffled.  A pass before the
    first epoch counts the rows and finds the classes.

    Parameters
    ----------
    factory : callable
        ``factory()`` returns an iterable of ``(X, y)`` or ``(X, y, sample_weight)`` (or ``(X,)``
        for predictions), the same rows each time it is called.
    feature_names : sequence of str, default=None
    memory_limit, window : as for `from_arrays`

    Returns
    -------
    Source
    """
    return BatchSource(factory, feature_names, memory_limit, window)
