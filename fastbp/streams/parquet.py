"""A source of Parquet files: one, a list, or a folder, also a partitioned one (extra `arrow`).

Parts are row groups; what a filter rules out by a row group's statistics is never read.  A row
group is decoded little by little (`ParquetFile.iter_batches` over a buffered file), so that a large
one does not count in memory.
"""

import os
import threading
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from fastbp.messages import find_name
from fastbp.streams.rows import Batch, Part, SourceError, is_number
from fastbp.streams.source import MOST_ROWS, Source, read_settings

BUFFER = 2**16  # bytes that are read at once of each column
THREADS_PAY = 2**14  # rows of a piece from which pyarrow's threads decode columns side by side
PAGE = 2**20  # bytes of a page at most, as writers write them; decoding holds two of each column
POOL_LOCK = threading.Lock()  # or one thread takes another's pool for the usual one


def load_arrow():
    """Import pyarrow, or say how to get it."""
    try:
        import pyarrow as pa
        from pyarrow import dataset, parquet
    except ImportError as error:
        raise ImportError(
            'Parquet files need pyarrow: pip install "fastbp[arrow]" (or pip install pyarrow).'
        ) from error
    return pa, dataset, parquet


def _index_of_pandas(schema):
    """Return the columns that hold the index of a frame of pandas, which are no features."""
    metadata = schema.pandas_metadata or {}
    return {name for name in metadata.get("index_columns", ()) if isinstance(name, str)}


class ParquetSource(Source):
    """Row groups of Parquet files."""

    def __init__(
        self, path, target, features, sample_weight, filters, memory_limit, window
    ):  # fmt: skip
        self.pa, self.dataset, self.parquet = load_arrow()
        self.memory_limit, self.window = read_settings(memory_limit, window)
        data, self.root = self._open(path)
        targets = [target] if isinstance(target, str) else list(target or ())
        self.targets, self.weight_name = targets, sample_weight
        self.filter = self._make_filter(filters)
        names = data.schema.names
        used = [*targets, *([sample_weight] if sample_weight else ())]
        if features is None:
            index = _index_of_pandas(data.schema)
            features = [name for name in names if name not in used and name not in index]
        self.feature_names = [features] if isinstance(features, str) else list(features)
        for name in (*used, *self.feature_names):
            if name not in names:
                meant = find_name(name, names)
                hint = f" Did you mean {meant!r}?" if meant else ""
                raise ValueError(
                    f"There is no column {name!r} in {self.root}.{hint} It has "
                    f"{', '.join(map(repr, names[:20]))}{', ...' if len(names) > 20 else ''}."
                )
        both = [name for name in self.feature_names if name in used]
        if both:
            raise ValueError(
                f"Column {both[0]!r} of {self.root} is named as a feature, and as target or "
                "sample_weight: a network that sees its target learns nothing else."
            )
        if not self.feature_names:
            raise ValueError(f"There is no column of features in {self.root}.")
        self.n_features = len(self.feature_names)
        self.schema = data.schema
        self._try_filter()
        self.has_y, self.has_weight = bool(targets), bool(sample_weight)
        self.parts, self.page_bytes, self.buffer_bytes, n_bytes, n_rows = [], 0, 0, 0, 0
        self.group_rows = 0  # of the largest row group
        for fragment in data.get_fragments(filter=self.filter):
            n_bytes, n_rows = self._add(fragment, n_bytes, n_rows)
        if not n_rows:
            raise ValueError(f"No rows in {self.root}{' pass the filters' if filters else ''}.")
        kinds = [self.schema.field(name).type for name in self.feature_names]
        small = (self.pa.float32(), self.pa.float16())
        is_small = all(kind in small for kind in kinds)
        self.dtype = np.dtype(np.float32 if is_small else np.float64)
        self.bytes_per_row = n_bytes / n_rows
        if memory_limit is None:
            rows = self.group_rows if self._is_small(self.group_rows) else self.rows_per_batch()
            self.memory_limit = max(self.memory_limit, 2 * self._reading(rows))
        self.file = (None, None)

    def __getstate__(self):
        modules = ("pa", "dataset", "parquet")  # no module can be pickled
        return {name: value for name, value in vars(self).items() if name not in modules}

    def __setstate__(self, state):
        vars(self).update(state)
        self.pa, self.dataset, self.parquet = load_arrow()

    def _open(self, path):
        """Return the dataset, and what messages call all of it."""
        if isinstance(path, self.dataset.Dataset):
            return path, "the dataset"
        many = isinstance(path, list | tuple)
        try:
            paths = list(map(os.fspath, path)) if many else os.fspath(path)
        except TypeError as error:
            raise TypeError(
                "path must be that of a file or folder, a list of such, or a pyarrow Dataset. Got "
                f"{type(path).__name__} ({error}). A table in memory goes to fit(X, y)."
            ) from error
        if not paths:
            raise ValueError("path names no file.")
        for one in paths if many else [paths]:
            if not Path(one).exists():
                raise FileNotFoundError(f"There is no file or folder {one!r}.")
        try:
            if not many and Path(paths).is_dir():
                found = [str(file) for file in sorted(Path(paths).rglob("*.parquet"))]
                if not found:
                    raise FileNotFoundError(f"There is no file *.parquet in the folder {paths!r}.")
                data = self.dataset.dataset(
                    found, format="parquet", partitioning="hive", partition_base_dir=paths
                )
            else:
                data = self.dataset.dataset(paths, format="parquet")
        except FileNotFoundError:
            raise
        except (self.pa.ArrowInvalid, OSError) as error:
            raise SourceError(f"{path} cannot be read as Parquet: {error}") from error
        return data, str(path)

    def _make_filter(self, filters):
        """Turn tuples (name, op, value), as pyarrow.parquet takes them, into an expression."""
        if filters is None or isinstance(filters, self.dataset.Expression):
            return filters
        try:
            return self.parquet.filters_to_expression(filters)
        except (TypeError, ValueError) as error:
            raise ValueError(
                "filters must be a list of tuples (name, op, value), such as [('year', '>', 2020)],"
                f" or a pyarrow Expression. Got {filters!r} ({error})."
            ) from error

    def _try_filter(self):
        """Raise for a filter by columns that are not there, or by values of another type."""
        if self.filter is None:
            return
        kinds = {name: self._type_of(name) for name in self.schema.names}
        try:
            self.pa.schema(kinds).empty_table().filter(self.filter)
        except (self.pa.ArrowInvalid, NotImplementedError, TypeError) as error:
            raise ValueError(
                f"filters={self.filter} cannot be used on {self.root}, which has the columns "
                f"{', '.join(f'{name} ({kind})' for name, kind in list(kinds.items())[:20])}: "
                f"{str(error).splitlines()[0]}."
            ) from error

    def _add(self, fragment, n_bytes, n_rows):
        """List the row groups of a file; compare its columns with those of the first one."""
        name = fragment.path
        try:
            fragment.ensure_complete_metadata()
            physical, metadata = fragment.physical_schema, fragment.metadata
            with fragment.open() as file:
                size = file.size()
        except (self.pa.ArrowInvalid, OSError) as error:
            raise SourceError(f"{name} cannot be read as Parquet: {error}") from error
        constants = self.dataset.get_partition_keys(fragment.partition_expression)
        for column in self._columns():
            if column in constants:
                continue
            if column not in physical.names:
                raise SourceError(f"{name} lacks the column {column!r}, which {self.root} has.")
            kind, first = physical.field(column).type, self.schema.field(column).type
            if kind != first and not (is_number(kind) and is_number(first)):
                raise SourceError(
                    f"Column {column!r} is {kind} in {name}, but {first} in the first file. Write "
                    "the files with one type."
                )
        kept = fragment
        if self.filter is not None:  # perhaps by the keys of folders, which no file has
            kept = fragment.subset(self.filter, schema=self.schema)
        ids = [group.id for group in kept.row_groups]
        first = 0
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            if number in ids and group.num_rows:
                count = None if self.filter is not None else group.num_rows
                where = name, number, constants, fragment, size
                self.parts.append(Part(name, count, first, where))
                n_rows += group.num_rows
                self.group_rows = max(self.group_rows, group.num_rows)
                n_bytes += self._size_of(group)
                self.page_bytes = max(self.page_bytes, self._pages_of(group))
                self.buffer_bytes = max(self.buffer_bytes, self._pages_of(group, BUFFER))
            first += group.num_rows
        return n_bytes, n_rows

    def rows_per_batch(self):
        """Return how many rows are read in one piece: a row group, or a 32nd of the memory.

        Row groups that are small beside the memory are read whole (which takes two thirds of the
        CPU time) where they leave an eighth of it for windows and a quarter for rows that are set
        aside.
        """
        room = self.memory_limit * 5 // 8 - self.spare_bytes()
        if self._is_small(self.group_rows) and self._reading(self.group_rows) <= room:
            return min(self.group_rows, MOST_ROWS)
        rows = self.memory_limit / max(self.bytes_per_row, 1.0)
        return int(min(max(rows / 32, 16), MOST_ROWS))

    def _is_small(self, n_rows):
        return n_rows * self.bytes_per_row <= self.memory_limit / 8

    def reading_bytes(self):
        """Return about how much memory reading takes."""
        return self._reading(self.rows_per_batch())

    def _reading(self, n_rows):
        """Return about how much memory reading in pieces of so many rows takes.

        Of each column two pages and a buffer; and a piece more where threads decode, whose
        allocators keep what others need: 54 columns took 57 to 92 MiB in pieces of 14 MiB.
        """
        n_rows = min(n_rows, MOST_ROWS)
        n_pieces = 4 if n_rows >= THREADS_PAY else 3
        return 2 * self.page_bytes + self.buffer_bytes + int(n_pieces * n_rows * self.bytes_per_row)

    def _pages_of(self, group, most=PAGE):
        """Bytes of one page (or buffer) of each column of a row group, at most."""
        wanted = None if self.filter is not None else {*self._columns()}
        columns = [group.column(j) for j in range(group.num_columns)]
        return sum(
            min(c.total_uncompressed_size, most)
            for c in columns
            if wanted is None or c.path_in_schema.split(".")[0] in wanted
        )

    def _size_of(self, group):
        """Bytes of the features of a row group in memory, about."""
        columns = [group.column(j) for j in range(group.num_columns)]
        wanted = {*self.feature_names}
        encoded = sum(
            c.total_uncompressed_size for c in columns if c.path_in_schema.split(".")[0] in wanted
        )
        widths = [self.schema.field(name).type for name in self.feature_names]
        plain = sum(kind.bit_width / 8 if is_number(kind) else 16 for kind in widths)
        return max(encoded, plain * group.num_rows)

    def _columns(self):
        weight = [self.weight_name] if self.weight_name else []
        return [*self.feature_names, *self.targets, *weight]

    @contextmanager
    def _open_file(self, part):
        """Open the reader of a part's file, and close both.

        What the file says of all its row groups is not read again for each of them.
        """
        fragment, n_bytes = part.where[-2:]
        with fragment.open() as file:
            if file.size() != n_bytes:
                raise SourceError(
                    f"{part.name} has {file.size()} bytes, {n_bytes} were expected: was it written "
                    f"to since the source was made? (Rows from {part.first} on were to be read.)"
                )
            with self._make_reader(file, fragment.metadata) as reader:
                yield reader

    def _make_reader(self, file, metadata):
        """Open a reader that takes its memory from the system.

        mimalloc, pyarrow's default, keeps what its threads give back: of a 1500 MB file a fit took
        130 to 160 MiB of 128 while 26 were in use, and 106 with the system's (November 2026). A
        reader keeps the pool that it finds when it is made, and has no argument for it.
        """
        with POOL_LOCK:
            usual = self.pa.default_memory_pool()
            self.pa.set_memory_pool(self.pa.system_memory_pool())
            try:
                return self.parquet.ParquetFile(
                    file, metadata=metadata, buffer_size=BUFFER, pre_buffer=False,
                    page_checksum_verification=True,
                )  # fmt: skip
            finally:
                self.pa.set_memory_pool(usual)

    def _read(self, part, n_rows, *, targets_only=False):
        _, number, constants, _, _ = part.where
        wanted = self._columns()
        if targets_only:
            wanted = wanted[self.n_features :]
        needed = [column for column in wanted if column not in constants]
        if self.filter is not None:  # rows are chosen by any of the columns
            needed = None
        n_read = 0
        with self._open_file(part) as file:
            pieces = file.iter_batches(
                n_rows, row_groups=[number], columns=needed, use_threads=n_rows >= THREADS_PAY
            )
            for piece in pieces:
                table = self._complete(piece, constants)
                n_read, first = n_read + len(table), n_read
                yield self._batch(table, part, first, targets_only=targets_only)
                del piece, table

    def _complete(self, piece, constants):
        """Return the rows that pass the filter, with the keys of their folder as columns."""
        if not constants and self.filter is None:
            return piece
        table = self.pa.Table.from_batches([piece])
        for column, value in constants.items():
            if column not in table.column_names:
                values = self.pa.array([value] * len(table), type=self._type_of(column))
                table = table.append_column(column, values)
        return table if self.filter is None else table.filter(self.filter)

    def _type_of(self, column):
        kind = self.schema.field(column).type
        return kind.value_type if self.pa.types.is_dictionary(kind) else kind

    def _batch(self, table, part, first, *, targets_only):
        name = part.name
        if self.filter is not None:
            name = f"{name} (row group {part.where[1]}, of the rows that pass the filters)"
        else:
            first += part.first
        y = [self._vector(table, column, name, first) for column in self.targets]
        y = None if not y else y[0] if len(y) == 1 else np.stack(y, axis=1)
        weight = self._vector(table, self.weight_name, name, first) if self.weight_name else None
        X = None if targets_only else table.select(self.feature_names)
        return Batch(X, y, weight, name, first)

    def _vector(self, table, column, name, first):
        """Return a column of targets or weights, which may lack no value."""
        values = table.column(column)
        if values.null_count:
            row = int(np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0])
            raise SourceError(
                f"Column {column!r} has no value in row {first + row} of {name}: leave such rows "
                f"out, for example by filters=~pyarrow.compute.field({column!r}).is_null()."
            )
        if self.pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        found = values.to_numpy(zero_copy_only=False)
        return found.astype(str) if found.dtype.kind == "O" and is_text(values.type) else found

    def _identity(self):
        return [super()._identity(), self._columns()]  # and rows tell of filters

    def _files(self):
        """Return the paths of the files that have rows."""
        return list(dict.fromkeys(part.name for part in self.parts))


def is_text(kind):
    """Whether a type of pyarrow's holds text."""
    from pyarrow import types

    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def from_parquet(
    path: Any,
    target: str | Sequence[str] | None = None,
    *,
    features: Sequence[str] | None = None,
    sample_weight: str | None = None,
    filters: Any = None,
    memory_limit: int | str | None = None,
    window: int | None = None,
) -> Source:
    """Read Parquet files, row group by row group (needs pyarrow: ``pip install -e ".[arrow]"``).

    Parameters
    ----------
    path : str, path-like, list of these, or pyarrow Dataset
        A file, or a folder of files (also one partitioned in the way of Hive, whose keys are
        columns).
    target : str or list of str, default=None
        The column of y; several for several outputs, None for predictions.
    features : list of str, default=None
        Columns of X; None is all others.
    sample_weight : str, default=None
        The column of weights.
    filters : pyarrow Expression, or list of tuples (name, op, value), default=None
        Which rows; as pyarrow.parquet.read_table takes it.
    memory_limit, window : as for `from_arrays`
        By default the limit is larger where reading takes more than half of it: twice that.

    Returns
    -------
    Source

    Raises
    ------
    ValueError
        If there is no such column; names the one that was probably meant.
    SourceError
        If a file cannot be read, or has a column of another type.
    ImportError
        Without pyarrow.
    """
    return ParquetSource(path, target, features, sample_weight, filters, memory_limit, window)
