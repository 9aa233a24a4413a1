"""Foreign data becomes contiguous arrays of one dtype.

The only room that knows users' types: lists, frames, sparse formats, labels, weights.  Every check
of data is here and happens before any work; the error names the parameter, what was expected, what
came and what to do.  Nothing here trains, and no array of the user is ever written to.
"""

from contextlib import contextmanager
from numbers import Real

import numpy as np
import scipy.sparse
from sklearn import config_context
from sklearn.utils.multiclass import type_of_target, unique_labels
from sklearn.utils.validation import (
    assert_all_finite,
    check_array,
    column_or_1d,
    validate_data,
)

from fastbp.data.scaling import measure
from fastbp.data.unusable import (
    describe_dates,
    find_dates,
    find_missing,
    find_unusable,
    first_that_is_no_number,
    label_of,
)
from fastbp.engine import FLOATS
from fastbp.messages import warn_user
from fastbp.tables import write_labels


@contextmanager
def unchanged_on_error(estimator):
    """Put every attribute of `estimator` back if the block raises.

    Fitted arrays and lists are replaced, never written to, so that the references are enough; a
    RandomState given as `random_state` is advanced only by a fit that succeeds (`own_stream`).
    """
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


@contextmanager
def speaking_of(name):
    """Say which argument the error in this block is about, where the checks call it X or y.

    An error of a class that the checks do not raise is the user's own, and stays as it is.
    """
    try:
        yield
    except Exception as error:
        if type(error) in (TypeError, ValueError):
            error.args = (f"{name} cannot be used: {error}",)
        else:
            error.add_note(f"fastbp: this is about {name}.")
        raise


# ------------------------------------------------------------------------------------- X


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
    plain = type(X) is np.ndarray and X.dtype in FLOATS and X.ndim == 2 and 0 not in X.shape
    if plain and (
        reset or ("feature_names_in_" not in state and X.shape[1] == state.get("n_features_in_"))
    ):
        converted = _as_dtype(X, dtype(X.dtype))
        if engine.all_finite(converted):
            if reset:
                state["n_features_in_"] = X.shape[1]
                state.pop("feature_names_in_", None)
            return converted, X.dtype
    if scipy.sparse.issparse(X):
        _check_sparse_structure(X)
    is_list = isinstance(X, list | tuple)
    X = _to_numbers(estimator, X, reset=reset)
    given = np.dtype(np.float64) if is_list else X.dtype
    return _to_dtype(estimator, X, dtype(given), engine), given


def _to_numbers(estimator, X, *, reset):
    """Turn X into an array or CSR of numbers; name the column that holds none."""
    if found := find_dates(X):
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
        raise
    if numbers.dtype.kind in "mM":
        raise ValueError(find_unusable(numbers))
    return numbers


def match_format(X, like):
    """Turn a checked X into the format of another: CSR, or a C-contiguous array."""
    if scipy.sparse.issparse(like) and not scipy.sparse.issparse(X):
        X = scipy.sparse.csr_array(X)
        return _as_csr(X, X.data)
    if scipy.sparse.issparse(X) and not scipy.sparse.issparse(like):
        return np.ascontiguousarray(X.toarray())
    return X


def _as_dtype(X, dtype):
    """X as a C-contiguous array of `dtype`; itself where it is one already."""
    if X.dtype == dtype:
        return np.ascontiguousarray(X)
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(X, dtype)


def check_range(estimator, X, dtype):
    """Raise if finite values of a validated X would not be finite in `dtype`."""
    values = X.data if scipy.sparse.issparse(X) else X
    if dtype != X.dtype and values.size and max(values.max(), -values.min()) > np.finfo(dtype).max:
        _raise_beyond_range(estimator, X, _as_dtype(values, dtype))


def _to_dtype(estimator, X, dtype, engine):
    """Convert a validated X, and say why where the result would not be finite."""
    is_sparse = scipy.sparse.issparse(X)
    values = _as_dtype(X.data if is_sparse else X, dtype)
    if not engine.all_finite(values):
        _assert_finite(X, "X", estimator)
        _raise_beyond_range(estimator, X, values)
    return _as_csr(X, values) if is_sparse else values


def _assert_finite(X, name, estimator=None):
    """Raise if there is NaN or infinity, whatever scikit-learn is configured to assume."""
    who = None if estimator is None else type(estimator).__name__
    with config_context(assume_finite=False), np.errstate(invalid="ignore"):  # inf - inf in its sum
        assert_all_finite(X, estimator_name=who, input_name=name)


def _raise_beyond_range(estimator, X, values):
    first = np.flatnonzero(~np.isfinite(values))[0]
    column = int(X.indices[first] if scipy.sparse.issparse(X) else first % X.shape[1])
    label = label_of(column, vars(estimator).get("feature_names_in_"))
    raise ValueError(
        f"Column {label} of X has values beyond the range of {values.dtype} "
        f"(+-{np.finfo(values.dtype).max:.1e}), in which {type(estimator).__name__} computes. "
        f"Scale the column{_or_float64(values.dtype, X.data if scipy.sparse.issparse(X) else X)}."
    )


def _or_float64(dtype, values):
    """Words of advice where float64 would help: not in force, and wide enough for the values."""
    largest = np.finfo(np.float64).max
    helps = dtype != np.float64 and values.max() <= largest and values.min() >= -largest
    return ", or use dtype='float64'" if helps else ""


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


def _check_sparse_structure(matrix, name="X"):
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
                    f"coords[{axis}] has {len(coordinates)} indices. Build {name} anew."
                )
            _check_range(matrix, name, f"coords[{axis}]", coordinates, matrix.shape[axis])
        return
    else:
        return
    indptr, stored = matrix.indptr, min(len(matrix.indices), len(matrix.data))
    if len(indptr) != n_major + 1 or indptr[0] != 0 or (indptr[1:] < indptr[:-1]).any():
        raise ValueError(
            f"{name} is a malformed {matrix.format} matrix of shape {matrix.shape}: indptr must "
            f"hold {n_major + 1} values that start at 0 and never decrease. Build {name} anew."
        )
    if indptr[-1] > stored:
        raise ValueError(
            f"{name} is a malformed {matrix.format} matrix: indptr ends at {indptr[-1]}, but only "
            f"{stored} values are stored. Build {name} anew."
        )
    _check_range(matrix, name, "indices", matrix.indices[: indptr[-1]], n_minor)


def _check_range(matrix, name, what, indices, size):
    if indices.dtype.kind not in "iu":
        raise ValueError(
            f"{name} is a malformed {matrix.format} matrix: {what} must hold integers, got "
            f"{indices.dtype}. Build {name} anew."
        )
    if len(indices) and (indices.min() < 0 or indices.max() >= size):
        raise ValueError(
            f"{name} is a malformed {matrix.format} matrix of shape {matrix.shape}: {what} must "
            f"lie in [0, {size}), got values in [{indices.min()}, {indices.max()}]. "
            f"Build {name} anew."
        )


# ------------------------------------------------------------------------------------- y


def check_labels(estimator, y, n_samples):
    """Turn a classifier's y into an array.

    Returns
    -------
    y : ndarray of shape (n_samples,) or (n_samples, n_labels)
    is_multilabel : bool
    is_sparse : bool
        Whether a multilabel y came as a sparse matrix.
    """
    if type(y) is np.ndarray and y.ndim == 1 and y.dtype.kind in "iub" and len(y):
        check_lengths(n_samples, len(y))
        return y, False, False
    y = _check_y(estimator, y, n_samples)
    target = type_of_target(y, input_name="y")
    if target == "multilabel-indicator":
        is_sparse = scipy.sparse.issparse(y)
        return (y.toarray() if is_sparse else y), True, is_sparse
    if target not in ("binary", "multiclass"):
        kinds = set(map(type, y.flat)) if y.dtype.kind == "O" else ()
        mixed = ", ".join(sorted(kind.__name__ for kind in kinds)) if len(kinds) > 1 else ""
        raise ValueError(
            f"Unknown label type: {target}. Maybe you are trying to fit a classifier, which "
            "expects discrete classes, on a regression target with continuous values."
            + (f" The labels are of the types {mixed}; make them one type." if mixed else "")
        )
    return y, False, False


def find_classes(labels):
    """Return the sorted classes of validated labels, or of partial_fit's `classes`."""
    numbers = labels if type(labels) is np.ndarray else np.asarray(labels)
    if numbers.ndim == 1 and numbers.dtype.kind in "iub" and len(numbers):
        return _sorted_values(numbers)
    return unique_labels(labels)


def _sorted_values(numbers):
    """Return what `np.unique` returns, by sorting.

    The hash table that NumPy 2.3 and later use there aborts a process that ends while a daemon
    thread is in it (before Python 3.14).
    """
    numbers = np.sort(numbers)
    return numbers[np.append(True, numbers[1:] != numbers[:-1])]


def kind_of_target(is_multilabel, classes):
    """Return "multilabel", "binary" (one class is the first of two) or "multiclass"."""
    if is_multilabel:
        return "multilabel"
    return "binary" if len(classes) <= 2 else "multiclass"


def encode_indicators(y, classes, dtype):
    """Turn label indicators into targets 0 and 1 of `dtype`."""
    if y.shape[1] != len(classes):
        raise ValueError(
            f"y has {y.shape[1]} labels, but `classes` has {len(classes)}: {write_labels(classes)}."
        )
    return np.ascontiguousarray(y != 0, dtype)


def encode_labels(y, classes, dtype, *, complete):
    """Turn labels into targets: the class codes as a column of `dtype`.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
    classes : ndarray of shape (n_classes,), sorted
    dtype : dtype
    complete : bool
        Whether y must contain every class (warm start).

    Raises
    ------
    ValueError
        If y has labels that are not in `classes`, or lacks some and must not.
    """
    if y.dtype.kind == "O":
        y = y.astype(str)
    comparable = (y.dtype.kind == "U") == (classes.dtype.kind == "U")
    codes = np.searchsorted(classes, y) if comparable else np.zeros(len(y), np.intp)
    np.minimum(codes, len(classes) - 1, out=codes)
    known = comparable and (classes[codes] == y).all()
    if complete and not (known and len(_sorted_values(codes)) == len(classes)):
        raise ValueError(
            "warm_start can only be used where `y` has the same classes as in the previous call "
            f"to fit. Previously got {write_labels(classes)}, `y` has "
            f"{write_labels(find_classes(y))}"
        )
    if not known:
        raise ValueError(
            "`y` has classes not in `self.classes_`. `self.classes_` has "
            f"{write_labels(classes)}. 'y' has {write_labels(find_classes(y))}."
        )
    return codes.astype(dtype).reshape(-1, 1)


def check_targets(estimator, y, n_samples, dtype, loss):
    """Turn a regressor's y into a C-contiguous (n_samples, n_outputs) array of `dtype`."""
    if not (type(y) is np.ndarray and y.ndim == 1 and y.dtype in FLOATS and np.isfinite(y).all()):
        refuse_dates(y, "y")
        y = _check_y(estimator, y, n_samples)
        if scipy.sparse.issparse(y):
            column_or_1d(y)  # refuses it in scikit-learn's words
        if y.dtype.kind not in "iubf":
            y = _numbers_of(y)
    check_lengths(n_samples, len(y))
    targets = _as_dtype(y.reshape(len(y), -1), dtype)
    if loss.target == "shared" and targets.shape[1] > 1:
        raise ValueError(
            f"A list of quantiles needs y with one column. Got {targets.shape[1]} columns; fit one "
            "estimator for each (sklearn.multioutput.MultiOutputRegressor), or learn one quantile."
        )
    if loss.target_min is not None:
        _check_target_range(y, targets, loss)
    if not np.isfinite(targets).all():
        _raise_beyond(y, dtype)
    if targets.dtype != y.dtype:
        _warn_of_lost_digits(y.reshape(targets.shape), targets)
    return targets


def refuse_dates(values, name):
    """Raise for dates and durations, which NumPy would turn into numbers of a unit nobody chose.

    Parameters
    ----------
    values : array-like or data frame
        Of a regressor's targets or of weights, as the user gave them.
    name : str
        What they are, for the message.
    """
    if found := describe_dates(values):
        raise ValueError(
            f"{name} must be numbers. Got dates or durations ({found}), whose unit nobody has "
            f"chosen: turn them into numbers first, for example days from the first of them, "
            f"({name} - {name}.min()) / np.timedelta64(1, 'D')."
        )


def _warn_of_lost_digits(y, targets):
    """Warn if an output that varies is constant in the narrower dtype of `targets`."""
    lost = (targets.min(axis=0) == targets.max(axis=0)) & (y.min(axis=0) < y.max(axis=0))
    if lost.any():
        mean, scale = measure(y.astype(np.float64), None)
        lost &= scale != 1.0  # what is constant up to rounding has scale 1
    if lost.any():
        k = int(lost.argmax())
        warn_user(
            f"{f'Output {k} of y' if len(mean) > 1 else 'y'} has mean {mean[k]:.3g} and standard "
            f"deviation {scale[k]:.3g}, and is constant in {targets.dtype}. Set "
            "scale_targets=True, or use dtype='float64'."
        )


def _numbers_of(y):
    """Turn a y of objects or text into float64."""
    try:
        return y.astype(np.float64)
    except OverflowError as error:
        raise ValueError(_beyond(np.float64, "Divide y by a constant.")) from error
    except (TypeError, ValueError) as error:
        found = first_that_is_no_number(y)
        what = "" if found is None else f" ({found[1]!r} in row {found[0]})"
        raise ValueError(f"y must be numeric. Got dtype {y.dtype} instead{what}.") from error


def _raise_beyond(y, dtype):
    _assert_finite(y, "y")
    or_float64 = _or_float64(dtype, y)
    advice = f"Scale y{or_float64}." if or_float64 else "Divide y by a constant."
    raise ValueError(_beyond(dtype, advice))


def _beyond(dtype, advice):
    name, largest = np.dtype(dtype).name, np.finfo(dtype).max
    return f"y has values beyond the range of {name} (+-{largest:.1e}). {advice}"


def _check_target_range(y, targets, loss):
    """Raise if targets are too small for the loss, also where only the dtype makes them so."""
    least = loss.target_min
    wanted = f"y {'>' if loss.above_min else '>='} {least:g}"
    if y.min() < least or (loss.above_min and y.min() == least):
        raise ValueError(
            f"loss={loss.name!r} needs {wanted}. Got a minimum of {y.min():g}; use "
            "loss='squared_error' for such a target."
        )
    tiny = np.finfo(targets.dtype).tiny  # smaller numbers count as 0 in the engines
    if loss.above_min and targets.min() < least + tiny:
        raise ValueError(
            f"loss={loss.name!r} needs {wanted}, and {y.min():g} is {least:g} in "
            f"{targets.dtype}. Scale y{_or_float64(targets.dtype, y)}."
        )


def targets_as_given(y):
    """Return a checked regressor's y as scorers take it: an array, flat if it has one column."""
    y = check_array(y, ensure_2d=False, dtype="numeric", input_name="y")
    return y.ravel() if y.ndim == 2 and y.shape[1] == 1 else y


def _check_y(estimator, y, n_samples):
    if y is None:
        raise ValueError(
            f"This {type(estimator).__name__} estimator requires y to be passed, but the target y "
            "is None."
        )
    if scipy.sparse.issparse(y):
        _check_sparse_structure(y, "y")
    y = _check_finite_array(y, "y", estimator, accept_sparse="csr", dtype=None)
    if y.ndim == 2 and y.shape[1] == 1:  # or refuses a sparse one
        y = column_or_1d(y, warn=True)
    check_lengths(n_samples, y.shape[0])
    return y


def _check_finite_array(values, name, estimator, **settings):
    """Check an array as scikit-learn does, whatever that is configured to assume; name a gap."""
    try:
        with config_context(assume_finite=False):
            checked = check_array(
                values, ensure_2d=False, input_name=name, estimator=estimator, **settings
            )
    except (TypeError, ValueError) as error:  # pandas' NA is neither true nor false, for example
        if found := find_missing(values, name):
            raise ValueError(found) from error
        raise
    if found := find_missing(checked, name) if checked.dtype.kind == "O" else None:
        raise ValueError(found)
    return checked


def check_lengths(n_samples, n_targets, name="y"):
    """Raise if two arrays do not have a row for each sample."""
    if n_samples != n_targets:
        raise ValueError(
            f"X and {name} must have one row per sample. Found input variables with inconsistent "
            f"numbers of samples: {[n_samples, n_targets]}"
        )


# --------------------------------------------------------------------------- sample_weight


def check_sample_weight(estimator, sample_weight, n_samples, dtype):
    """Sample weights as an array (n_samples,) of `dtype`, or None.

    Raises
    ------
    ValueError
        If a weight is negative or not finite, all are zero, or the shape is wrong.
    """
    if sample_weight is None:
        return None
    refuse_dates(sample_weight, "sample_weight")
    if isinstance(sample_weight, Real):
        sample_weight = np.full(n_samples, sample_weight, np.float64)
    weights = _check_finite_array(
        sample_weight, "sample_weight", estimator, dtype=FLOATS, order="C"
    )
    if weights.ndim != 1:
        raise ValueError(
            f"Sample weights must be 1D array or scalar, got {weights.ndim}D array. Expected "
            f"either a scalar value or a 1D array of length {n_samples}."
        )
    if len(weights) != n_samples:
        raise ValueError(f"sample_weight.shape == {weights.shape}, expected {(n_samples,)}!")
    if weights.min() < 0:
        raise ValueError(f"sample_weight must not be negative. Got {weights.min()}.")
    if not weights.any():
        raise ValueError("Sample weights must contain at least one non-zero number.")
    converted, tiny = _as_dtype(weights, dtype), float(np.finfo(dtype).tiny)
    # Numbers below `tiny` are 0 to the engines, and so would be 1 / sum where the sum is beyond.
    if not (converted.max() >= tiny and converted.sum(dtype=np.float64) <= 1 / tiny):
        raise ValueError(
            f"sample_weight has values beyond the range of {np.dtype(dtype).name}. Scale the "
            f"weights{_or_float64(dtype, weights)}."
        )
    return converted
