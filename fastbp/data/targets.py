"""A user's y becomes targets: class codes, indicators or numbers, contiguous and of one dtype."""

import numpy as np
import scipy.sparse
from sklearn.exceptions import DataConversionWarning
from sklearn.utils.multiclass import type_of_target, unique_labels
from sklearn.utils.validation import check_array, column_or_1d

from fastbp.data.features import (
    as_dtype,
    assert_finite,
    check_finite_array,
    check_lengths,
    check_sparse_structure,
    fits_float64,
    or_float64,
)
from fastbp.data.scaling import measure
from fastbp.data.unusable import (
    describe_dates,
    find_infinite,
    find_masked,
    find_missing,
    first_that_is_no_number,
)
from fastbp.engine import FLOATS
from fastbp.messages import warn_user
from fastbp.tables import write_labels

COLUMN = (
    "A column-vector y was passed when a 1d array was expected. Please change the shape of y to "
    "(n_samples, ), for example using ravel()."
)


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
    y = _plain_labels(_check_y(estimator, y, n_samples))
    target = type_of_target(y, input_name="y")
    if target == "multilabel-indicator":
        is_sparse = scipy.sparse.issparse(y)
        return (y.toarray() if is_sparse else y), True, is_sparse
    if target not in ("binary", "multiclass"):
        if not scipy.sparse.issparse(y) and (found := find_infinite(y, "y")):
            raise ValueError(found)
        raise ValueError(f"Unknown label type: {target}. {_explain_labels(y)}")
    return y, False, False


def _plain_text(y):
    """Return NumPy's text of any length as objects, which scikit-learn knows; all else as it is."""
    is_text = isinstance(y, np.ndarray) and y.dtype.kind == "T"
    return y.astype(object) if is_text else y


def _plain_labels(y):
    """Return a frame's columns that may hold pandas' NA, and hold none, as numbers."""
    is_frame = y.ndim == 2 and y.dtype.kind == "O" and first_that_is_no_number(y) is None
    return y.astype(np.float64) if is_frame else y


def labels_as_given(y):
    """Return labels as scikit-learn's metrics take them."""
    if found := find_masked(y, "y"):
        raise ValueError(found)
    return _plain_labels(np.asarray(y)) if hasattr(y, "columns") else _plain_text(y)


def _explain_labels(y):
    """Say why these are no labels, as sentences that follow what scikit-learn calls them."""
    kinds = sorted({type(label).__name__ for label in y.flat}) if y.dtype.kind == "O" else []
    if len(kinds) > 1:
        return f"The labels are of the types {', '.join(kinds)}; make them one type."
    if kinds:
        to = "bool" if kinds[0].startswith("bool") else "str"
        return (
            f"The labels are objects of type {kinds[0]}: give an array of numbers, booleans, text "
            f"or dates, for example y.astype({to})."
        )
    return (
        "Maybe you are trying to fit a classifier, which expects discrete classes, on a regression "
        "target with continuous values."
    )


def find_classes(labels, name="y"):
    """Return the sorted classes of validated labels, or of partial_fit's `classes`."""
    numbers = labels if type(labels) is np.ndarray else np.asarray(labels)
    if found := find_missing(numbers, name) if numbers.dtype.kind in "OmM" else None:
        raise ValueError(found)
    if numbers.dtype.kind == "f":
        assert_finite(numbers, name)
    if numbers.ndim == 1 and numbers.dtype.kind in "iub" and len(numbers):
        return _sorted_values(numbers)
    return unique_labels(labels)


def join_classes(parts):
    """Return the sorted classes of several arrays of classes.

    Raises
    ------
    ValueError
        If no dtype holds them all, as float64 does not hold all integers beyond 2**53: some would
        become the same.
    """
    joined = np.concatenate(parts)
    if joined.dtype.kind == "f":
        exact = {label for part in parts for label in part.tolist()}
        if len(exact) != len(np.unique(joined)):
            dtypes = ", ".join(sorted({str(part.dtype) for part in parts}))
            raise ValueError(
                f"Labels of the dtypes {dtypes} have no dtype in common that tells them all apart: "
                f"{joined.dtype} makes some of them equal. Give all labels one dtype."
            )
    return find_classes(joined)


def _sorted_values(numbers):
    """Return what `np.unique` returns, by sorting.

    The hash table that NumPy 2.3 and later use there aborts a process that ends while a daemon
    thread is in it (before Python 3.14).
    """
    numbers = np.sort(numbers)
    return numbers[np.append(True, numbers[1:] != numbers[:-1])]


def are_plain_labels(y, found):
    """Whether labels and predictions are vectors of one length, both of integers or of strings.

    Then `==` compares them: scikit-learn's `accuracy_score` would find nothing to refuse or change,
    and takes 0.8 ms to see it (November 2026), as long as an epoch of a small network.
    """
    if type(y) is not np.ndarray or y.ndim != 1 or y.shape != found.shape or not len(y):
        return False
    kinds = y.dtype.kind, found.dtype.kind
    return kinds == ("U", "U") or all(kind in "iub" for kind in kinds)


def kind_of_target(is_multilabel, classes):
    """Return "multilabel", "binary" (one class is the first of two) or "multiclass"."""
    if is_multilabel:
        return "multilabel"
    return "binary" if len(classes) <= 2 else "multiclass"


def encode_indicators(y, classes, dtype):
    """Turn label indicators into targets 0 and 1 of `dtype`."""
    if y.shape[1] != len(classes):
        raise ValueError(
            f"y has {y.shape[1]} labels per sample, but {len(classes)} are known: "
            f"{write_labels(classes)}."
        )
    targets = np.ascontiguousarray(y != 0, dtype)
    if not (targets == y).all():  # -1 for no would count as yes
        found = sorted(np.unique(y).tolist())
        raise ValueError(
            f"y has {y.shape[1]} columns of label indicators, which must be 0 and 1. Got {found}: "
            f"give (y == {found[-1]}).astype(int) if {found[-1]} says that a sample has the label. "
            "For columns of other classes use sklearn.multioutput.MultiOutputClassifier."
        )
    return targets


def find_codes(labels, classes):
    """Return the place of each label among the sorted classes, any place for one of no class."""
    last = len(classes) - 1
    whole = {labels.dtype.kind, classes.dtype.kind} <= {"i", "u"}
    if whole and classes[0] == 0 and classes[-1] == last:
        return labels.astype(np.intp).clip(0, last)  # 0, 1, 2, ...: labels are their codes
    return np.minimum(np.searchsorted(classes, labels), last)


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
    codes = find_codes(y, classes) if comparable else np.zeros(len(y), np.intp)
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
    targets = as_dtype(y.reshape(len(y), -1), dtype)
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
    assert_finite(y, "y")
    if not fits_float64(dtype, y):
        raise ValueError(_beyond(np.float64, "Divide y by a constant."))
    raise ValueError(_beyond(dtype, f"Scale y{or_float64(dtype, y)}."))


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
            f"{targets.dtype}. Scale y{or_float64(targets.dtype, y)}."
        )


def targets_as_given(y):
    """Return a checked regressor's y as scorers take it: an array, flat if it has one column."""
    if found := find_masked(y, "y"):
        raise ValueError(found)
    y = check_array(y, ensure_2d=False, dtype="numeric", input_name="y")
    return y.ravel() if y.ndim == 2 and y.shape[1] == 1 else y


def _check_y(estimator, y, n_samples):
    if y is None:
        raise ValueError(
            f"This {type(estimator).__name__} estimator requires y to be passed, but the target y "
            "is None."
        )
    if scipy.sparse.issparse(y):
        check_sparse_structure(y, "y")
    y = check_finite_array(_plain_text(y), "y", estimator, accept_sparse="csr", dtype=None)
    if y.ndim == 2 and y.shape[1] == 1:  # or refuses a sparse one
        if not scipy.sparse.issparse(y):
            warn_user(COLUMN, DataConversionWarning)
        y = column_or_1d(y)
    check_lengths(n_samples, y.shape[0])
    return y
