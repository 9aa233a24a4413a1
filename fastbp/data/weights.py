"""Weights: of the samples, checked, and of their classes, by the parameter `class_weight`.

The meaning of `class_weight` is that of `sklearn.utils.class_weight.compute_sample_weight`, on
targets that are encoded already: one array of weights per column of codes.  What is learned from
the training data ("balanced") serves validation data, too.
"""

from numbers import Real

import numpy as np

from fastbp.data.features import as_dtype, check_finite_array, or_float64
from fastbp.data.targets import refuse_dates
from fastbp.data.unusable import find_missing, first_that_is_no_number
from fastbp.descriptions import number_of, plain
from fastbp.engine import FLOATS
from fastbp.tables import as_written

BALANCED_IN_PARTS = (
    "class_weight='balanced' is not supported for partial_fit: a part of the data does not tell "
    "how often each class occurs in all of them. Compute the weights from all of y, or from a "
    "large sample of it, with sklearn.utils.class_weight.compute_class_weight('balanced', "
    "classes=classes, y=y), and pass them as a dict."
)


def check_sample_weight(estimator, sample_weight, n_samples, dtype):
    """Sample weights as an array (n_samples,) of `dtype`, or None.

    Raises
    ------
    ValueError
        If a weight is negative or not finite, all are zero, or the shape is wrong.
    """
    if sample_weight is None:
        return None
    sample_weight = as_numbers(sample_weight)
    if isinstance(sample_weight, Real):
        sample_weight = np.full(n_samples, number_of(sample_weight), np.float64)
    with np.errstate(over="ignore"):  # of longdouble: what is beyond is told as infinity
        weights = check_finite_array(
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
    converted, tiny = as_dtype(weights, dtype), float(np.finfo(dtype).tiny)
    # Numbers below `tiny` are 0 to the engines, and so would be 1 / sum where the sum is beyond.
    if not (converted.max() >= tiny and converted.sum(dtype=np.float64) <= 1 / tiny):
        raise ValueError(
            f"sample_weight has values beyond the range of {np.dtype(dtype).name}. Scale the "
            f"weights{or_float64(dtype, weights)}."
        )
    return converted


def as_numbers(sample_weight):
    """Sample weights as they are, or float64 of objects and text; raise for what is no number.

    What is no array is left to the checks that follow.
    """
    refuse_dates(sample_weight, "sample_weight")
    try:
        values = np.asarray(sample_weight)
    except (TypeError, ValueError):
        return sample_weight
    if values.dtype.kind not in "OSU":
        return sample_weight
    if found := find_missing(values, "sample_weight"):
        raise ValueError(found)
    try:
        return values.astype(np.float64)
    except OverflowError as error:
        raise ValueError(
            "sample_weight has values beyond the range of float64. Scale the weights."
        ) from error
    except (TypeError, ValueError) as error:
        row, value = first_that_is_no_number(np.atleast_1d(values))
        where = f" in row {row}" if values.ndim else ""
        raise ValueError(f"sample_weight must be numbers. Got {value!r}{where}.") from error


def find_class_weights(class_weight, classes, counts, *, multilabel, incremental):
    """Weights of the classes, for each column of codes.

    Parameters
    ----------
    class_weight : dict, "balanced" or list of dict
        Classes that a dict does not name weigh 1.  Names beside those of `classes`, of classes that
        this part of the data lacks, are left out where every class has a name.
    classes : ndarray of shape (n_classes,)
        What the codes of single-label targets stand for; a label of multilabel targets is 0 or 1.
    counts : list of int64 ndarray
        How often each code occurs, for each column of codes (`count_codes`).
    multilabel : bool
    incremental : bool
        Whether the targets are those of a `partial_fit`.

    Returns
    -------
    list of float64 ndarray
        One per column, its weights in the order of the codes.

    Raises
    ------
    ValueError
        If a class is unknown while one has no name, a weight is negative or not finite, or the
        form does not fit y.
    """
    values = [np.arange(2)] * len(counts) if multilabel else [classes]
    if isinstance(class_weight, str):
        if incremental:
            raise ValueError(BALANCED_IN_PARTS)
        return list(map(_balance, counts))
    if multilabel != isinstance(class_weight, list | tuple):
        wanted = "a list with one dict for each label" if multilabel else "a dict"
        raise ValueError(
            f"For {'multilabel' if multilabel else 'single-label'} y class_weight must be {wanted} "
            f"or 'balanced'. Got {class_weight!r}."
        )
    dicts = list(class_weight) if multilabel else [class_weight]
    if len(dicts) != len(values):
        raise ValueError(f"class_weight has {len(dicts)} dicts, but y has {len(values)} labels.")
    return [_read(given, known) for given, known in zip(dicts, values, strict=True)]


def count_codes(codes, n_codes):
    """Return how often each of `n_codes` codes occurs, for each column of codes."""
    return [np.bincount(column.astype(np.intp), minlength=n_codes) for column in codes.T]


def _balance(counts):
    """Return n_samples / (n_present * count) of each class; 1 for a class that is absent."""
    present = counts > 0
    return np.where(present, counts.sum() / (present.sum() * np.maximum(counts, 1)), 1.0)


def _read(given, classes):
    """Weights of a dict in the order of the classes."""
    if not isinstance(given, dict):
        raise ValueError(f"Each entry of class_weight must be a dict. Got {given!r}.")
    weights, left_out, unknown = np.ones(len(classes)), as_written(classes), []
    for (name, weight), place in zip(given.items(), _places(given, classes), strict=True):
        is_number = isinstance(weight, Real) and not isinstance(weight, bool | np.timedelta64)
        if not (is_number and 0 <= number_of(weight) < np.inf):
            shown = plain(weight) if is_number and abs(number_of(weight)) < np.inf else weight
            raise ValueError(
                f"The class_weight of {as_written(np.array([name]))[0]!r} must be a finite number "
                f">= 0. Got {shown!r}."
            )
        if place is None:
            unknown += as_written(np.array([name]))
        else:
            weights[place], left_out[place] = weight, None
    left_out = [label for label in left_out if label is not None]
    if unknown and left_out:  # a misspelt name, or one of another type, must not pass unseen
        raise ValueError(
            f"class_weight names {unknown}, not in y, and leaves out {left_out}. The classes of y "
            f"are {as_written(classes)}: name only these, with the same type (a class without a "
            "name weighs 1), or all of these and whatever else."
        )
    return weights


def _places(names, classes):
    """Place of each name among the classes; None where it is not one.

    Numbers, bools and strings are equal, and hash alike, as Python's and as NumPy's.  A date may
    come as any object that NumPy or pandas makes a date of.
    """
    if classes.dtype.kind not in "mM":
        places = {label: k for k, label in enumerate(classes.tolist())}
        return [places.get(name) for name in names]
    hits = (np.flatnonzero(classes == _moment(name, classes.dtype.type)) for name in names)
    return [int(hit[0]) if len(hit) else None for hit in hits]


def _moment(name, kind):
    """Date or duration that a name says, in its own unit; NaT, which equals none, for others."""
    try:
        return kind(name.to_numpy() if hasattr(name, "to_numpy") else name)
    except (TypeError, ValueError):
        return kind("NaT")


def weigh_samples(class_weights, codes, sample_weight):
    """Multiply the weights of the samples' classes into their own.

    Parameters
    ----------
    class_weights : list of ndarray
        As found by `find_class_weights`.
    codes : ndarray of shape (n_samples, n_columns)
    sample_weight : ndarray of shape (n_samples,) or None

    Returns
    -------
    ndarray of shape (n_samples,), of the dtype of `codes`

    Raises
    ------
    ValueError
        If no sample has any weight, or weights leave the range of the dtype.
    """
    weights = np.ones(len(codes)) if sample_weight is None else sample_weight.astype(np.float64)
    for table, column in zip(class_weights, codes.T, strict=True):
        weights *= table[column.astype(np.intp)]
    with np.errstate(over="ignore", under="ignore"):
        weights = weights.astype(codes.dtype)
    if not (weights.any() and np.isfinite(weights.sum(dtype=np.float64))):
        raise ValueError(
            "class_weight (times sample_weight) leaves no sample with a weight above 0, or goes "
            f"beyond the range of {codes.dtype}. Got class weights "
            f"{[table.tolist() for table in class_weights]}."
        )
    return weights


def no_weights(name):
    """Return an error about a part of the data in which no sample counts."""
    return ValueError(
        f"All samples in the {name} set have weight 0. Change 'validation_fraction' or "
        "'random_state', leave out samples of weight 0, or give X_val and y_val."
    )
