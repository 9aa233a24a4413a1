"""Rows as they come from a source: parts, batches, and the kinds of table that these may be.

Tables of pyarrow's become arrays or frames here.  Whatever cannot be read or used is a
`SourceError`, which names file, row and column.
"""

from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import scipy.sparse

from fastbp.engine import get_engine


class SourceError(ValueError):
    """Data of a source that cannot be read or used; names file, row and column."""


@dataclass(frozen=True)
class Part:
    """A run of rows that are read one after the other.

    Attributes
    ----------
    name : str
        The file, or what else holds the rows; for messages.
    n_rows : int or None
        None: known only when they were read.
    first : int
        The first one's number in `name`.
    where : object
        What the source needs to find it.
    """

    name: str
    n_rows: int | None
    first: int = 0
    where: Any = None


@dataclass
class Batch:
    """Some rows of a part, as they came.

    Attributes
    ----------
    X : ndarray, CSR array, pyarrow Table, or frame
        None where only y and weights were asked for.
    y, weight : ndarray or None
    name : str
        Of the part.
    first : int
        The first row's number in it.
    rows : ndarray of int or None
        The rows' numbers, counted from `first`, where some were left out.
    y_name, weight_name : str or None
        What holds y and weights, where that is something else.
    """

    X: Any
    y: Any
    weight: Any
    name: str
    first: int
    rows: np.ndarray | None = None
    y_name: str | None = None
    weight_name: str | None = None

    def __len__(self):
        return len(self.y) if self.X is None and self.y is not None else _length_of(self.X)

    def __getitem__(self, rows):
        """Return the rows of a slice, or those of a mask."""
        numbers, first = self.rows, self.first
        if numbers is not None:
            numbers = numbers[rows]
        elif isinstance(rows, slice):
            first += rows.start or 0
        else:
            numbers = np.flatnonzero(rows)
        return replace(
            self,
            X=None if self.X is None else _rows_of(self.X, rows),
            y=None if self.y is None else self.y[rows],
            weight=None if self.weight is None else self.weight[rows],
            first=first,
            rows=numbers,
        )

    def place(self, row=None, name=None):
        """Say where a row is, or where the rows are, in what holds X or in another `name`."""
        name = name or self.name
        if row is not None:
            row = int(row) if self.rows is None else int(self.rows[row])
            return f"row {self.first + row} of {name}"
        last = len(self) - 1 if self.rows is None else int(self.rows[-1])
        return f"rows {self.first} to {self.first + max(last, 0)} of {name}"


def _length_of(X):
    return X.shape[0] if hasattr(X, "shape") else len(X)


def is_arrow(X):
    """Whether X is a table of pyarrow's."""
    return type(X).__module__.startswith("pyarrow")


def _is_polars(X):
    return type(X).__module__.startswith("polars")


def _rows_of(X, rows):
    if is_arrow(X):
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(len(X))
            return X.slice(start, stop - start)
        import pyarrow as pa

        return X.filter(pa.array(rows))
    if _is_polars(X) and not isinstance(rows, slice):
        rows = np.flatnonzero(rows)  # a mask would choose columns
    return X.iloc[rows] if hasattr(X, "iloc") else X[rows]


def join_tables(tables):
    """Put the X of several batches together."""
    first = tables[0]
    if is_arrow(first):
        import pyarrow as pa

        return pa.concat_tables([
            table if isinstance(table, pa.Table) else pa.Table.from_batches([table])
            for table in tables
        ])  # fmt: skip
    if _is_polars(first):
        import polars as pl

        return pl.concat(tables)
    if hasattr(first, "iloc"):
        import pandas as pd

        return pd.concat(tables, ignore_index=True)
    if scipy.sparse.issparse(first):
        return scipy.sparse.vstack(tables, format="csr")
    return np.concatenate(tables)


# ------------------------------------------------------------------------------ pyarrow's tables


def arrow_to_user(batch):
    """Return numbers as an array, other columns as a frame: of pandas, where that is installed."""
    import pyarrow as pa

    if all(is_number(column.type) for column in batch.X.columns):
        return arrow_to_matrix(batch)
    if find_spec("pandas"):
        return batch.X.to_pandas()
    return batch.X if isinstance(batch.X, pa.Table) else pa.Table.from_batches([batch.X])


@cache
def is_number(kind):
    """Whether a type of pyarrow's holds numbers."""
    from pyarrow import types

    return any(
        test(kind) for test in (types.is_integer, types.is_floating, types.is_boolean)
    )  # fmt: skip


def arrow_to_matrix(batch):
    """Return a table's columns side by side, in float32 where that holds all of them."""
    import pyarrow as pa

    small = {pa.float32(), pa.float16(), pa.int8(), pa.int16(), pa.uint8(), pa.uint16(), pa.bool_()}
    is_small = all(column.type in small for column in batch.X.columns)
    out = np.empty((len(batch.X), batch.X.num_columns), np.float32 if is_small else np.float64)
    write_arrow(batch, out, get_engine())
    return out


def write_arrow(batch, out, engine):
    """Write a table's columns of numbers into an array; NaN for what is missing.

    Returns
    -------
    bool
        Whether all of it is finite.
    """
    for name, kind in zip(batch.X.schema.names, batch.X.schema.types, strict=True):
        if not is_number(kind):
            raise SourceError(
                f"Column {name!r} of {batch.name} holds {kind}, no numbers. Leave it out "
                "(features=[...]), encode it (source.through(fitted_encoder)), or use "
                "TabularClassifier or TabularRegressor, which take raw tables."
            )
    columns = [column.to_numpy(zero_copy_only=False) for column in batch.X.columns]
    if any(column.dtype.kind == "O" for column in columns):  # bools of which some are missing
        columns = [column.astype(np.float64) for column in columns]
    with np.errstate(over="ignore"):
        columns = [np.ascontiguousarray(column, out.dtype) for column in columns]
    return engine.join_columns(columns, out)
