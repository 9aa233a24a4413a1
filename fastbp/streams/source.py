"""What data are that are read in parts, again and again: rows, columns, where y and weights are.

`Source` is what `fit` takes in the place of arrays; each kind of file is a class of its own beside
this file, and says how its parts are read.  How parts become windows that are trained on is in
`windows`.
"""

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from datetime import datetime
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path
from typing import Any, Self

import numpy as np
import scipy.sparse
from sklearn.utils.validation import check_is_fitted

from fastbp.data.unusable import find_unusable, label_of
from fastbp.streams.rows import (
    Batch,
    Part,
    SourceError,
    arrow_to_matrix,
    arrow_to_user,
    is_arrow,
    write_arrow,
)

MEMORY_LIMIT = 128 * 2**20  # bytes, unless the user says
LEAST_MEMORY = 2**20
SPARE = 2**24  # bytes for what else a fit takes, but no more than a quarter of the memory
FEW_ROWS, MOST_ROWS = 2**10, 2**16  # that are read in one piece
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


class Source(ABC):
    """Data that are read in parts, in the place of X and y in `fit`.

    Made by :func:`~fastbp.streams.from_arrays`, :func:`~fastbp.streams.from_csr`,
    :func:`~fastbp.streams.from_parquet` and :func:`~fastbp.streams.from_batches`.

    Attributes
    ----------
    n_rows : int or None
        None: known only when all was read once (a filter, batches of yours).
    n_features : int
    feature_names : list of str or None
    has_y, has_weight : bool
        Whether there are targets and weights.
    memory_limit : int
        Bytes that a fit may take for the data.
    window : int or None
        Rows that are shuffled at a time, where they were stated.
    """

    n_features: int
    feature_names: list[str] | None = None
    labels: list[str] | None = None  # of columns that have no names, for messages
    has_y = False
    has_weight = False
    is_sparse = False
    takes_turns = True  # whether parts can be read in any order
    bytes_per_row = 0.0
    dtype: Any = np.dtype(np.float64)  # of X as it comes
    memory_limit: int
    window: int | None
    parts: list[Part]

    # ------------------------------------------------------------------ what a kind of file says

    @abstractmethod
    def _read(self, part: Part, n_rows: int, *, targets_only: bool = False) -> Iterator[Batch]:
        """Yield the rows of a part, at most `n_rows` at a time, in their order."""

    def _identity(self):
        """Return what tells these data from others wherever they lie, for a hash."""
        rows = [(part.first, part.n_rows) for part in self.parts]
        return [type(self).__name__, self.n_features, rows]

    def _files(self):
        """Return the paths of the files, or folders of files, that hold the data, where known."""
        return []

    # ------------------------------------------------------------------------------- for users

    @property
    def n_rows(self) -> int | None:
        """Number of rows, where it is known without reading them."""
        counts = [part.n_rows for part in self.parts]
        return None if None in counts else sum(counts)  # type: ignore[arg-type]

    def blocks(self) -> Iterator[tuple[Any, Any, Any]]:
        """Yield X, y and weights of some rows after the other; None for what there is not.

        For what learns from parts, such as ``StandardScaler().partial_fit(X)``.

        Yields
        ------
        X : ndarray, CSR array or (columns that are no numbers) frame
        y, sample_weight : ndarray or None
        """
        for batch in self._batches():
            yield self._for_users(batch), batch.y, batch.weight

    def through(self, transformer: Any) -> "Source":
        """Return the source of what a fitted transformer makes of X, block by block.

        Parameters
        ----------
        transformer : fitted estimator with `transform`
            Or a pipeline of such.

        Returns
        -------
        Source
        """
        return TransformedSource(self, transformer)

    def __array__(self, *arguments, **keywords):
        raise TypeError(
            f"This is a source ({self!r}), not an array: fit(source) of fastbp's estimators and "
            "fastbp.streams.predict_stream read it in parts. The steps of a Pipeline do not: fit "
            "them on blocks or on a sample (for X, y, weight in source.blocks(): "
            "step.partial_fit(X)), then call net.fit(source.through(fitted_transformer))."
        )

    def __len__(self) -> int:
        return self.__array__()  # for those who ask arrays how long they are

    def __repr__(self) -> str:
        rows = "?" if self.n_rows is None else self.n_rows
        return f"<source of {rows} rows of {self.n_features} features in {len(self.parts)} parts>"

    # ------------------------------------------------------------------------------ for fastbp

    def view(self) -> Self:
        """Return the same rows for another thread."""
        return self

    def rows_per_batch(self):
        """Return how many rows are read in one piece: a 128th of the memory.

        Wide rows up to a 32nd: pieces of few rows take more time than memory.
        """
        rows = self.memory_limit / max(self.bytes_per_row, 1.0)
        return int(min(max(rows / 128, min(rows / 32, FEW_ROWS), 16), MOST_ROWS))

    def spare_bytes(self):
        """Return how much of the memory is for what else a fit takes."""
        return min(SPARE, self.memory_limit // 4)

    def reading_bytes(self):
        """Return about how much memory reading takes, besides the windows."""
        return int(3 * self.rows_per_batch() * self.bytes_per_row)

    def _batches(self, parts=None, *, targets_only=False, n_rows=MOST_ROWS):
        """Yield all rows, or those of some parts by number, in pieces; errors name the place."""
        n_rows = min(n_rows, self.rows_per_batch())
        for number in range(len(self.parts)) if parts is None else parts:
            part, n_read = self.parts[number], 0
            try:
                for batch in self._read(part, n_rows, targets_only=targets_only):
                    n_read += len(batch)
                    if part.n_rows is not None and n_read > part.n_rows:
                        break
                    if batch.y is not None and batch.y.ndim == 2 and batch.y.shape[1] == 1:
                        batch.y = batch.y[:, 0]
                    if len(batch):
                        yield batch
                    del batch  # or it is in memory while the next one is read
            except (SourceError, MemoryError):
                raise
            except Exception as error:  # of any library that reads, or of the user's function
                raise SourceError(
                    f"Reading {part.name} failed after row {part.first + n_read}: "
                    f"{type(error).__name__}: {error}"
                ) from error
            if part.n_rows is not None and n_read != part.n_rows:
                more = "or more " if n_read > part.n_rows else ""
                raise SourceError(
                    f"{part.name}: {part.n_rows} rows were expected from row {part.first} on, but "
                    f"{n_read} {more}came. They must be the same in each epoch: was a file written "
                    "to, or does a function give others each time?"
                )

    def _for_users(self, batch):
        if is_arrow(batch.X):
            return arrow_to_user(batch)
        return batch.X

    def matrix(self, batch):
        """Return X of a batch as an array of numbers or a CSR array."""
        X = batch.X
        if is_arrow(X):
            return arrow_to_matrix(batch)
        if scipy.sparse.issparse(X):
            return scipy.sparse.csr_array(X)
        values = np.asarray(X)
        if values.dtype.kind not in "fiub":
            self._refuse_columns(batch, values)
        return values

    def write(self, batch, out, engine):
        """Write X of a batch into an array (n_rows, n_features); return whether all is finite."""
        if is_arrow(batch.X):
            return write_arrow(batch, out, engine)
        with np.errstate(over="ignore"):
            out[:] = self.matrix(batch)
        return engine.all_finite(out)

    def _refuse_columns(self, batch, values):
        found = find_unusable(batch.X) or f"X must hold numbers, got {values.dtype}."
        raise SourceError(f"In {batch.place()}: {found}")

    def refuse_numbers(self, batch, out):
        """Raise because X of a batch, as it was written into `out`, is not finite."""
        row, column = map(int, np.argwhere(~np.isfinite(out))[0])
        label = label_of(column, self.feature_names or self.labels)
        value = out[row, column]
        what, how = f"infinity or a value beyond the range of {out.dtype}", ", or clip the column."
        if np.isnan(value):
            what, how = "a missing value (NaN)", (
                " or fill them in, for example by source.through(fitted SimpleImputer); "
                "TabularClassifier and TabularRegressor take missing values as they are."
            )  # fmt: skip
        raise SourceError(
            f"Column {label} of X has {what} in {batch.place(row)}. Leave such rows out{how}"
        )

    def offsets(self):
        """Return the number of the first row of each part among all rows; counts must be known."""
        return [0, *accumulate(part.n_rows for part in self.parts)][:-1]


class TransformedSource(Source):
    """Rows that a transformer has changed.

    Parameters
    ----------
    source : Source
    transformer : fitted estimator with `transform`
    """

    def __init__(self, source, transformer):
        if not hasattr(transformer, "transform"):
            raise TypeError(
                f"through() takes a fitted transformer, got {type(transformer).__name__}."
            )
        check_is_fitted(transformer)
        self.source, self.transformer = source, transformer
        for name in ("has_y", "has_weight", "takes_turns", "memory_limit", "window"):
            setattr(self, name, getattr(source, name))
        self.parts = source.parts
        first = next(source._batches())[:16]
        made, self.feature_names = self._transform(first)
        self.is_sparse = scipy.sparse.issparse(made)
        self.n_features, self.dtype = int(made.shape[1]), np.dtype(made.dtype)
        names = getattr(transformer, "get_feature_names_out", lambda: None)
        try:
            found = names()
        except (ValueError, AttributeError):
            found = None
        self.labels = None if found is None else list(map(str, found))
        made_row = self.n_features * self.dtype.itemsize
        if self.is_sparse:
            made_row = made.nnz / made.shape[0] * (made.dtype.itemsize + 4)
        self.bytes_per_row = max(source.bytes_per_row, float(made_row))

    def reading_bytes(self):
        """Return about how much memory reading and transforming takes."""
        return self.source.reading_bytes() + super().reading_bytes()

    def _transform(self, batch):
        """Return what the transformer makes of some rows: an array or CSR, and names of a frame.

        As in scikit-learn's pipelines, an array has no names, whatever the transformer calls its
        columns: a network that learned them would miss them in what the transformer makes later.
        """
        made = self.transformer.transform(self._for_transformer(batch))
        names = list(map(str, made.columns)) if hasattr(made, "columns") else None
        made = made if scipy.sparse.issparse(made) else np.asarray(made)
        width = getattr(self, "n_features", None)
        if made.ndim != 2 or made.shape != (len(batch), width or made.shape[1]):
            raise SourceError(
                f"{type(self.transformer).__name__} made an array of shape {made.shape} of "
                f"{batch.place()}: expected ({len(batch)}, {width or 'n_columns'}), a row for each "
                "row and always as many columns."
            )
        return made, names

    def _for_transformer(self, batch):
        """Return X with the names that the transformer has learned, where they are known."""
        X, names = batch.X, self.source.feature_names
        if not (hasattr(self.transformer, "feature_names_in_") and find_spec("pandas")):
            return self.source._for_users(batch)
        if is_arrow(X):
            return X.to_pandas()
        if names is None or hasattr(X, "columns") or scipy.sparse.issparse(X):
            return X
        import pandas

        return pandas.DataFrame(X, columns=names, copy=False)

    def _read(self, part, n_rows, *, targets_only=False):
        n_rows = min(n_rows, self.rows_per_batch())
        for batch in self.source._read(part, n_rows, targets_only=targets_only):
            if not targets_only and len(batch):
                batch.X, _ = self._transform(batch)
            yield batch

    def _identity(self):
        named = re.sub(r" at 0x[0-9A-Fa-f]+", "", repr(self.transformer))  # of functions, here only
        return [super()._identity(), self.source._identity(), named]

    def _files(self):
        """Return the paths of the files below."""
        return self.source._files()


# --------------------------------------------------------------------------------- settings


def read_settings(memory_limit, window):
    """Check what every source takes; return them as numbers.

    Parameters
    ----------
    memory_limit : int, str or None
        Bytes, or such as "200MB" and "0.5 GiB"; None is `MEMORY_LIMIT`.
    window : int or None
    """
    if window is not None and (
        isinstance(window, bool) or not isinstance(window, int | np.integer) or window < 1
    ):
        raise ValueError(f"window must be a number of rows, at least 1, or None. Got {window!r}.")
    n_bytes = MEMORY_LIMIT
    if memory_limit is not None:
        match = re.fullmatch(r"\s*([0-9.]+)\s*([kmg]?i?)b?\s*", str(memory_limit).lower())
        try:
            number, unit = (match or ("",) * 3)[1:3] if match is None else match.groups()
            n_bytes = int(float(number) * UNITS[unit])
        except (KeyError, ValueError):
            raise ValueError(
                "memory_limit must be a number of bytes or text such as '200MB' or '2GiB'. Got "
                f"{memory_limit!r}."
            ) from None
    if n_bytes < LEAST_MEMORY:
        raise ValueError(f"memory_limit must be at least {LEAST_MEMORY} bytes (1 MiB).")
    return n_bytes, None if window is None else int(window)


def describe_files(source):
    """Say what the files of a source are, by size and time of writing; None where none are known.

    Changes with every write, and with most ways of copying; where the files lie does not matter.
    """
    paths = [Path(path) for path in source._files()]
    found = [
        (each.relative_to(path).as_posix(), each.stat())
        for path in paths
        for each in ([path] if path.is_file() else sorted(path.rglob("*")))
        if each.is_file()
    ]
    if not found:
        return None
    known = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in found]
    mark = hashlib.blake2b(repr(known).encode(), digest_size=4).hexdigest()
    last = datetime.fromtimestamp(max(stat.st_mtime for _, stat in found))
    n_bytes = sum(stat.st_size for _, stat in found)
    return f"{len(found)} of {n_bytes} bytes, last written {last:%Y-%m-%d %H:%M:%S} ({mark})"


def refuse_other_names(source, known):
    """Raise for a source whose columns have other names, or another order, than those known."""
    if known is None or source.feature_names is None:
        return
    if list(known) != source.feature_names:
        raise ValueError(
            "The feature names should match those that were passed during fit, in their order. Got "
            f"{', '.join(source.feature_names[:9])}; in fit they were {', '.join(known[:9])}."
        )


def refuse_validation_source(X, X_val):
    """Raise for a source as X_val beside arrays."""
    if isinstance(X_val, Source) and not isinstance(X, Source):
        raise TypeError(
            "X_val is a source, and X is none: give arrays as X_val and y_val, or make X a source, "
            "too, such as from_arrays(X, y)."
        )


def refuse_source(X):
    """Raise for a source where arrays are wanted: in `partial_fit`."""
    if isinstance(X, Source):
        raise TypeError(
            "partial_fit takes arrays: fit(source) trains on a source, and for its parts there is\n"
            "    for X, y, weight in source.blocks(): net.partial_fit(X, y, weight)"
        )
