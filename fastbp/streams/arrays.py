"""Sources of whatever has a shape, a dtype and slices: maps of files, HDF5, Zarr; and CSR in files.

Rows are read block by block; blocks are whole chunks, where an array has such.
"""

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from fastbp.data.features import check_sparse_structure
from fastbp.data.unusable import find_masked
from fastbp.streams.rows import Batch, Part, SourceError
from fastbp.streams.source import Source, read_settings

MAGIC = b"\x93NUMPY"  # the beginning of a .npy file
BLOCK = 2**20  # bytes of a block, about: what a disk reads at once without losing time


def open_array(array, name):
    """Return an array, and what messages call it: the file of a path or of a map."""
    if isinstance(array, str | os.PathLike):
        path = os.fspath(array)
        if not Path(path).is_file():
            raise FileNotFoundError(f"{name}: there is no file {path!r}.")
        with open(path, "rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise SourceError(
                    f"{path} is no .npy file, as np.save writes them. Parquet is read by "
                    "from_parquet, text by from_batches; of HDF5 and Zarr give the opened array."
                )
        try:
            return rows_of_file(np.load(path, mmap_mode="r", allow_pickle=False)), path
        except (ValueError, OSError, EOFError) as error:
            raise SourceError(f"{path} cannot be read as a .npy file: {error}") from error
    if scipy.sparse.issparse(array):
        raise TypeError(
            f"{name} is sparse: the rows of a CSR matrix A are read by from_csr(A.data, A.indices, "
            "A.indptr, y, n_features=A.shape[1]), and y must be dense."
        )
    if found := find_masked(array, name):
        raise ValueError(found)
    if isinstance(array, list | tuple) or hasattr(array, "to_numpy"):
        array = np.asarray(array)
    if not all(hasattr(array, part) for part in ("shape", "dtype", "__getitem__")):
        raise TypeError(
            f"{name} must have a shape, a dtype and slices (np.memmap, h5py, zarr), or be the path "
            f"of a .npy file. Got {type(array).__name__}."
        )
    return rows_of_file(array), file_of(array) or folder_of(array) or name


def file_of(array):
    """Return the path of the file of a map or of HDF5, None where there is none or is not known."""
    file = getattr(array, "filename", None)
    if file is None and hasattr(array, "file"):  # h5py
        file = getattr(array.file, "filename", None)
    return None if file is None else os.fspath(file)


def folder_of(array):
    """Return the folder of a zarr array, None where there is none."""
    root = getattr(getattr(array, "store", None), "root", None)
    return None if root is None else os.path.join(os.fspath(root), getattr(array, "path", ""))


class FileRows:
    """An array in a file, whose rows are read: from a map that was cut short nobody can read.

    The system ends a process that touches pages of a map behind the end of its file (SIGBUS), and
    no look at the size before can rule that out.

    Parameters
    ----------
    file : str
    offset : int
        Of the first row, in bytes.
    shape : tuple
    dtype : dtype
    """

    def __init__(self, file, offset, shape, dtype):
        self.filename, self.offset, self.shape, self.dtype = file, offset, shape, dtype
        self.width = math.prod(shape[1:])

    def __getitem__(self, rows):
        if not isinstance(rows, slice):
            return self[rows : rows + 1][0]
        first, last, _ = rows.indices(self.shape[0])
        wanted = max(last - first, 0) * self.width
        place = self.offset + first * self.width * self.dtype.itemsize
        found = np.fromfile(self.filename, self.dtype, wanted, offset=place)
        if found.size < wanted:
            raise SourceError(
                f"{self.filename} was cut short: it has {Path(self.filename).stat().st_size} "
                f"bytes, {place + wanted * self.dtype.itemsize} are needed (rows {first} to "
                f"{last - 1} were to be read)."
            )
        return found.reshape(-1, *self.shape[1:])


def rows_of_file(array):
    """Return what reads the rows of a map from its file; other arrays, and other maps, themselves.

    Those are maps that a user may have changed, not in C order, or whose file is another by now.
    """
    root = array
    while isinstance(root, np.memmap) and isinstance(root.base, np.ndarray):
        root = root.base
    if not isinstance(root, np.memmap) or root.mode != "r" or root.filename is None:
        return array
    if not array.flags.c_contiguous or not array.ndim or not array.size or array.dtype.hasobject:
        return array
    offset = root.offset + array.ctypes.data - root.ctypes.data
    read = FileRows(os.fspath(root.filename), offset, array.shape, array.dtype)
    try:
        same = all(read[at].tobytes() == array[at].tobytes() for at in (0, array.shape[0] - 1))
    except (OSError, SourceError):
        return array
    return read if same else array


def slice_of(array, name, rows):
    """Read rows; raise where the file of a map has become too short: that would end the process."""
    file = getattr(array, "filename", None)
    if isinstance(array, np.memmap) and file is not None and array.base is not None:
        needed = array.offset + array.size * array.itemsize if array.offset is not None else 0
        if Path(file).stat().st_size < needed:
            raise SourceError(
                f"{name} was cut short: it has {Path(file).stat().st_size} bytes, {needed} are "
                f"needed (rows {rows.start} to {rows.stop - 1} were to be read)."
            )
    return np.asarray(array[rows])


class ColumnsOfSource(Source):
    """A source whose y and weights are arrays beside X."""

    def _take_targets(self, n_rows, y, sample_weight):
        self.y, self.weight = y, sample_weight
        self.y_name, self.weight_name = "y", "sample_weight"
        for name in ("y", "weight"):
            array = getattr(self, name)
            if array is None:
                continue
            opened, file = open_array(array, getattr(self, f"{name}_name"))
            if opened.dtype.kind in "SO" and hasattr(opened, "asstr"):
                opened = opened.asstr()  # h5py gives text as bytes
            setattr(self, name, opened)
            setattr(self, f"{name}_name", file)
            if not opened.shape or opened.shape[0] != n_rows:
                raise ValueError(
                    f"X has {n_rows} rows, {file} has shape {tuple(opened.shape)}: expected one "
                    "row for each of X."
                )
        self.has_y, self.has_weight = y is not None, sample_weight is not None

    def _arrays(self):
        """Return X, or what it is made of, y and weights."""
        return [self.X, self.y, self.weight]

    def _files(self):
        """Return the paths of the files of the arrays, and the folders of those of zarr."""
        found = [file_of(array) or folder_of(array) for array in self._arrays()]
        return list(dict.fromkeys(path for path in found if path is not None))

    def _targets_of(self, rows):
        y = None if self.y is None else slice_of(self.y, self.y_name, rows)
        weight = None if self.weight is None else slice_of(self.weight, self.weight_name, rows)
        return y, weight

    def _read(self, part, n_rows, *, targets_only=False):
        for first in range(part.first, part.first + part.n_rows, n_rows):
            rows = slice(first, min(first + n_rows, part.first + part.n_rows))
            X = None if targets_only else self._features_of(rows)
            y, weight = self._targets_of(rows)
            yield Batch(
                X, y, weight, part.name, first, y_name=self.y_name, weight_name=self.weight_name
            )

    def _cut(self, name, n_rows, row_bytes, least=1):
        """List the blocks of rows: multiples of `least`, about `BLOCK` bytes."""
        wanted = int(min(BLOCK, self.memory_limit / 32) / max(row_bytes, 1.0))
        step = max(wanted // least, 1) * least
        return [
            Part(name, min(step, n_rows - first), first) for first in range(0, n_rows, step)
        ]  # fmt: skip


class ArraySource(ColumnsOfSource):
    """Rows of one array."""

    def __init__(self, X, y, sample_weight, feature_names, memory_limit, window):
        self.memory_limit, self.window = read_settings(memory_limit, window)
        if feature_names is None and hasattr(X, "columns"):  # of a frame
            feature_names = X.columns if all(isinstance(one, str) for one in X.columns) else None
        self.X, name = open_array(X, "X")
        if len(self.X.shape) != 2 or 0 in self.X.shape:
            raise ValueError(f"X must have rows and columns, got shape {tuple(self.X.shape)}.")
        n_rows, self.n_features = map(int, self.X.shape)
        self.dtype = np.dtype(self.X.dtype)
        if self.dtype.kind not in "fiub":
            raise ValueError(f"X must hold numbers, {name} holds {self.dtype}.")
        self.feature_names = None if feature_names is None else list(map(str, feature_names))
        if self.feature_names is not None and len(self.feature_names) != self.n_features:
            raise ValueError(
                f"feature_names has {len(self.feature_names)} names for {self.n_features} columns."
            )
        self._take_targets(n_rows, y, sample_weight)
        self.bytes_per_row = float(self.n_features * self.dtype.itemsize)
        chunks = getattr(self.X, "chunks", None)
        least = chunks[0] if chunks and isinstance(chunks[0], int) else 1
        self.parts = self._cut(name, n_rows, self.bytes_per_row, least)

    def _features_of(self, rows):
        return slice_of(self.X, self.parts[0].name, rows)

    def _identity(self):
        middle = self.parts[len(self.parts) // 2]
        rows = slice(middle.first, middle.first + 1)
        return [super()._identity(), self._features_of(rows).tobytes()]


class CSRSource(ColumnsOfSource):
    """Rows of a CSR matrix whose three arrays may be files."""

    is_sparse = True

    def __init__(self, arrays, y, sample_weight, n_features, memory_limit, window):
        self.memory_limit, self.window = read_settings(memory_limit, window)
        opened = [
            open_array(array, name)
            for name, array in zip(("data", "indices", "indptr"), arrays, strict=True)
        ]
        (self.data, name), (self.indices, _), (self.indptr, _) = opened
        self.n_features, self.dtype = int(n_features), np.dtype(self.data.dtype)
        n_rows = int(self.indptr.shape[0]) - 1
        if n_rows < 1 or any(len(array.shape) != 1 for array, _ in opened):
            raise ValueError("data, indices and indptr must be vectors, indptr of n_rows + 1 ends.")
        n_stored, stored = int(self.indptr[n_rows]), int(self.data.shape[0])
        if n_stored > min(stored, int(self.indices.shape[0])):
            raise SourceError(
                f"{name} is too short: indptr ends at {n_stored}, {stored} values are stored."
            )
        self._take_targets(n_rows, y, sample_weight)
        itemsize = self.data.dtype.itemsize + self.indices.dtype.itemsize
        self.bytes_per_row = n_stored / n_rows * itemsize + self.indptr.dtype.itemsize
        self.parts = self._cut(name, n_rows, self.bytes_per_row)

    def _arrays(self):
        return [self.data, self.indices, self.indptr, self.y, self.weight]

    def _features_of(self, rows):
        name = self.parts[0].name
        ends = slice_of(self.indptr, name, slice(rows.start, rows.stop + 1)).astype(np.int64)
        stored = slice(int(ends[0]), int(ends[-1]))
        matrix = scipy.sparse.csr_array((rows.stop - rows.start, self.n_features))
        matrix.data = slice_of(self.data, name, stored)
        matrix.indices = slice_of(self.indices, name, stored)
        matrix.indptr = ends - ends[0]
        check_sparse_structure(matrix, f"{name}, rows {rows.start} to {rows.stop - 1},")
        return matrix


def from_arrays(
    X: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    feature_names: Any = None,
    memory_limit: int | str | None = None,
    window: int | None = None,
) -> Source:
    """Read from arrays that may be larger than memory, block by block.

    Parameters
    ----------
    X : np.memmap, h5py Dataset, zarr Array, path of a .npy file, or ndarray
        Of shape (n_rows, n_features); whatever has a shape, a dtype and slices.  A frame of numbers
        becomes an array in memory, and gives its names.
    y : the same or list, default=None
        Of shape (n_rows,) or (n_rows, n_outputs); None for predictions.
    sample_weight : the same, default=None
        Of shape (n_rows,).
    feature_names : sequence of str, default=None
    memory_limit : int or str, default=None
        Bytes, or text such as "500MB", that a fit may take for the data; None is 128 MiB.
    window : int, default=None
        Rows that are shuffled at a time, at most; None is as many as `memory_limit` allows. All
        windows of an epoch are about equally large.

    Returns
    -------
    Source

    Raises
    ------
    ValueError, TypeError
        If these are no such arrays, or not of one length.
    SourceError
        If a file cannot be read.
    """
    return ArraySource(X, y, sample_weight, feature_names, memory_limit, window)


def from_csr(
    data: Any,
    indices: Any,
    indptr: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    n_features: int,
    memory_limit: int | str | None = None,
    window: int | None = None,
) -> Source:
    """Read the rows of a CSR matrix whose arrays are files, block by block.

    Parameters
    ----------
    data, indices, indptr : np.memmap, h5py Dataset, zarr Array, path of a .npy file, or ndarray
        The three vectors of a CSR matrix: row i has the values ``data[indptr[i]:indptr[i + 1]]`` in
        the columns ``indices[indptr[i]:indptr[i + 1]]``.
    y, sample_weight : as for `from_arrays`
    n_features : int
    memory_limit, window : as for `from_arrays`

    Returns
    -------
    Source
    """
    arrays = (data, indices, indptr)
    return CSRSource(arrays, y, sample_weight, n_features, memory_limit, window)
