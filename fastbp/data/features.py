"""A user's features become a contiguous array, or a CSR matrix, of one dtype.

Lists, frames, sparse formats and what is no number end here; so do the checks of an array that
`targets` and `weights` make, too.  Every check of data happens before any work; the error names the
parameter, what was expected, what came and what to do.  No array of the user is ever written to.
"""

import os

import numpy as np
import scipy.sparse
from sklearn import config_context
from sklearn.utils.validation import assert_all_finite, check_array, validate_data

from fastbp.data.row_source import MappedRows, RowSource, SharedRows, blocks_of
from fastbp.data.unusable import (
    find_dates,
    find_masked,
    find_missing,
    find_objects,
    find_unusable,
    label_of,
)
from fastbp.engine import FLOATS
from fastbp.messages import may_advise, warn_user


def check_features(estimator, X, dtype, engine, *, reset):
    """Turn X into a C-contiguous array or a CSR matrix of the arithmetic's dtype.

    Parameters
    ----------
    estimator : estimator
        `n_features_in_` and `feature_names_in_` are set on it if `reset`, else compared.
    X : array-like, frame or sparse matrix of shape (n_samples, n_features)
    dtype : callable
        Dtype of the arithmetic for a dtype of X.
    engine : module
    reset : bool

    Returns
    -------
    X : ndarray or CSR of shape (n_samples, n_features)
        The array that came, where it fits already.
    given : dtype
        Dtype in which X came; float64 for lists, whatever is in them (as in scikit-learn).
    """
    state = vars(estimator)
    # An array first: whether it is of an abstract class, Python finds out in Python.
    if type(X) is not np.ndarray and isinstance(X, RowSource | SharedRows):
        return _check_rows(estimator, X, engine, reset=reset)
    plain = type(X) is np.ndarray and X.dtype in FLOATS and X.ndim == 2 and 0 not in X.shape
    if plain and (
        reset or ("feature_names_in_" not in state and X.shape[1] == state.get("n_features_in_"))
    ):
        converted = as_dtype(X, dtype(X.dtype))
        if engine.all_finite(converted):
            if reset:
                state["n_features_in_"] = X.shape[1]
                state.pop("feature_names_in_", None)
            return converted, X.dtype
    if scipy.sparse.issparse(X):
        check_sparse_structure(X)
    is_list = isinstance(X, list | tuple)
    X = _to_numbers(estimator, X, reset=reset)
    given = np.dtype(np.float64) if is_list else X.dtype
    return _to_dtype(estimator, X, dtype(given), engine), given


def _check_rows(estimator, X, engine, *, reset):
    """Return rows that fastbp itself has wrapped, and the dtype in which they came."""
    state = vars(estimator)
    if isinstance(X, MappedRows):
        return _check_map(estimator, X, engine, reset=reset), X.given
    state["n_features_in_"] = X.shape[1]
    if isinstance(X, RowSource):  # made by fastbp of what was checked
        return X, X.dtype
    state.pop("feature_names_in_", None)  # checked once for many fits
    if X.names is not None:
        state["feature_names_in_"] = X.names
    return X.array if X.rows is None else X, X.given


def open_map(X, dtype):
    """Prepare a map of a file to be trained on, or return X as it is.

    Warns where the map is larger than the memory of the machine.

    Parameters
    ----------
    X : as given to `fit`
    dtype : callable
        Dtype of the arithmetic for a dtype of X.

    Returns
    -------
    X : ndarray, MappedRows, or what came
        A map of the dtype of the arithmetic and in C order is an array to the engines, which gather
        its rows; any other is converted as its rows are taken.
    """
    if not isinstance(X, np.memmap) or X.ndim != 2 or X.dtype.kind not in "fiub" or 0 in X.shape:
        return X
    memory = physical_memory()
    if memory is not None and X.nbytes > memory:
        warn_user(
            f"X is a map of {X.nbytes / 2**30:.1f} GiB, more than the memory of this machine: its "
            "rows are read in random order, each from the disk. "
            "fit(fastbp.streams.from_arrays(X, y)) reads it in blocks."
        )
    if X.dtype == dtype(X.dtype) and X.flags.c_contiguous:
        return np.asarray(X)
    return MappedRows(X, dtype(X.dtype))


def physical_memory():
    """Return the bytes of memory of this machine, or None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _check_map(estimator, X, engine, *, reset):
    """Check a map block by block, as an array is checked."""
    validate_data(estimator, X[:1], reset=reset, ensure_all_finite=False)
    for rows, part in blocks_of(X):
        if not engine.all_finite(part):
            given = np.asarray(X.array[rows])
            assert_finite(given, "X", estimator)
            _raise_beyond_range(estimator, given, part)
    return X


def _to_numbers(estimator, X, *, reset):
    """Turn X into an array or CSR of numbers; name the column that holds none."""
    refuse_lazy(X)
    if found := find_dates(X) or find_masked(X, "X"):
        raise ValueError(found)
    try:
        numbers = validate_data(
            estimator, X, accept_sparse="csr", dtype="numeric", ensure_all_finite=False, reset=reset
        )
        if numbers.dtype.kind == "O":  # a list that holds None, for example
            numbers = numbers.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        if found := find_unusable(X):
            raise ValueError(found) from error
        if found := find_objects(X):
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{found} ({error})") from error
        raise
    if numbers.dtype.kind in "mM":
        raise ValueError(find_unusable(numbers))
    return numbers


def refuse_lazy(X):
    """Refuse a frame that is a plan of one."""
    if hasattr(X, "collect") and hasattr(X, "collect_schema"):
        raise TypeError(f"X is lazy ({type(X).__name__}): give X.collect().")


def match_format(X, like):
    """Turn a checked X into the format of another: CSR, or a C-contiguous array."""
    if scipy.sparse.issparse(like) and not scipy.sparse.issparse(X):
        X = scipy.sparse.csr_array(X)
        return _as_csr(X, X.data)
    if scipy.sparse.issparse(X) and not scipy.sparse.issparse(like):
        return np.ascontiguousarray(X.toarray())
    return X


def as_dtype(X, dtype):
    """X as a C-contiguous array of `dtype`; itself where it is one already."""
    if X.dtype == dtype:
        return np.ascontiguousarray(X)
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(X, dtype)


def check_range(estimator, X, dtype):
    """Raise if finite values of a validated X would not be finite in `dtype`."""
    values = X.data if scipy.sparse.issparse(X) else X
    if dtype != X.dtype and values.size and max(values.max(), -values.min()) > np.finfo(dtype).max:
        _raise_beyond_range(estimator, X, as_dtype(values, dtype))


def _to_dtype(estimator, X, dtype, engine):
    """Convert a validated X, and say why where the result would not be finite."""
    is_sparse = scipy.sparse.issparse(X)
    values = as_dtype(X.data if is_sparse else X, dtype)
    if not engine.all_finite(values):
        assert_finite(X, "X", estimator)
        _raise_beyond_range(estimator, X, values)
    return _as_csr(X, values) if is_sparse else values


def assert_finite(X, name, estimator=None):
    """Raise if there is NaN or infinity, whatever scikit-learn is configured to assume."""
    who = None if estimator is None else type(estimator).__name__
    with config_context(assume_finite=False), np.errstate(invalid="ignore"):  # inf - inf in its sum
        assert_all_finite(X, estimator_name=who, input_name=name)


def _raise_beyond_range(estimator, X, values):
    given = X.data if scipy.sparse.issparse(X) else X
    beyond_all = ~np.isfinite(as_dtype(given, np.float64))  # what longdouble can hold
    is_beyond = beyond_all if beyond_all.any() else ~np.isfinite(values)
    dtype = np.dtype(np.float64) if beyond_all.any() else values.dtype
    first = np.flatnonzero(is_beyond)[0]
    column = int(X.indices[first] if scipy.sparse.issparse(X) else first % X.shape[1])
    label = label_of(column, vars(estimator).get("feature_names_in_"))
    raise ValueError(
        f"Column {label} of X has values beyond the range of {dtype} "
        f"(+-{np.finfo(dtype).max:.1e}), in which {type(estimator).__name__} computes. "
        f"Scale the column{or_float64(dtype, given)}."
    )


def or_float64(dtype, values):
    """Words of advice where float64 would help, and is the user's to choose."""
    helps = fits_float64(dtype, values) and may_advise("dtype")
    return ", or use dtype='float64'" if helps else ""


def fits_float64(dtype, values):
    """Whether float64 is not in force, and wide enough for the values."""
    largest = np.finfo(np.float64).max
    return dtype != np.float64 and values.max() <= largest and values.min() >= -largest


def _as_csr(X, values):
    """CSR with the structure of X, `values`, and one dtype for both index arrays."""
    index_dtype = np.int32 if X.indices.dtype == X.indptr.dtype == np.int32 else np.int64
    parts = (X.indices, X.indptr)
    if values is X.data and all(
        part.dtype == index_dtype and part.flags.c_contiguous for part in parts
    ):
        return X
    indices = np.ascontiguousarray(X.indices, index_dtype)
    indptr = np.ascontiguousarray(X.indptr, index_dtype)
    converted = scipy.sparse.csr_array((values, indices, indptr), shape=X.shape)
    converted.indices, converted.indptr = indices, indptr
    return converted


def check_sparse_structure(matrix, name="X"):
    """Raise if the index arrays of a sparse matrix point outside of it (scipy does not look)."""
    if matrix.format in ("csr", "csc"):
        n_major, n_minor = matrix.shape if matrix.format == "csr" else matrix.shape[::-1]
    elif matrix.format == "bsr":
        sizes = zip(matrix.shape, matrix.blocksize, strict=True)
        n_major, n_minor = (size // block for size, block in sizes)
    elif matrix.format == "coo":
        for axis, coordinates in enumerate(matrix.coords):
            if len(coordinates) != len(matrix.data):
                raise ValueError(
                    f"{name} is a malformed coo matrix: {len(matrix.data)} values are stored, but "
                    f"coords[{axis}] has {len(coordinates)} indices. Build {name} again."
                )
            _check_range(matrix, name, f"coords[{axis}]", coordinates, matrix.shape[axis])
        return
    else:
        return
    indptr, stored = matrix.indptr, min(len(matrix.indices), len(matrix.data))
    if len(indptr) != n_major + 1 or indptr[0] != 0 or (indptr[1:] < indptr[:-1]).any():
        raise ValueError(
            f"{name} is a malformed {matrix.format} matrix of shape {matrix.shape}: indptr must "
            f"hold {n_major + 1} values that start at 0 and never decrease. Build {name} again."
        )
    if indptr[-1] > stored:
        raise ValueError(
            f"{name} is a malformed {matrix.format} matrix: indptr ends at {indptr[-1]}, but only "
            f"{stored} values are stored. Build {name} again."
        )
    _check_range(matrix, name, "indices", matrix.indices[: indptr[-1]], n_minor)


def _check_range(matrix, name, what, indices, size):
    if indices.dtype.kind not in "iu":
        raise ValueError(
            f"{name} is a malformed {matrix.format} matrix: {what} must hold integers, got "
            f"{indices.dtype}. Build {name} again."
        )
    if len(indices) and (indices.min() < 0 or indices.max() >= size):
        raise ValueError(
            f"{name} is a malformed {matrix.format} matrix of shape {matrix.shape}: {what} must "
            f"lie in [0, {size}), got values in [{indices.min()}, {indices.max()}]. "
            f"Build {name} again."
        )


# ------------------------------------------------------------------------- of any array


def check_finite_array(values, name, estimator, **settings):
    """Check an array as scikit-learn does, whatever that is configured to assume; name a gap."""
    if found := find_masked(values, name):
        raise ValueError(found)
    try:
        with config_context(assume_finite=False):
            checked = check_array(
                values, ensure_2d=False, input_name=name, estimator=estimator, **settings
            )
    except (TypeError, ValueError) as error:  # pandas' NA is neither true nor false, for example
        if found := find_missing(values, name):
            raise ValueError(found) from error
        raise
    if found := find_missing(checked, name) if checked.dtype.kind in "OmM" else None:
        raise ValueError(found)
    return checked


def check_lengths(n_samples, n_targets, name="y"):
    """Raise if two arrays do not have a row for each sample."""
    if n_samples != n_targets:
        raise ValueError(
            f"X and {name} must have one row per sample. Found input variables with inconsistent "
            f"numbers of samples: {[n_samples, n_targets]}"
        )
