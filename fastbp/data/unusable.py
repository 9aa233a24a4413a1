"""What in foreign data is no number: messages that name the column, the row and the value.

Data are looked at here when a conversion has failed, and the dtypes of a frame's columns before
one: some libraries turn dates into numbers without a word.  Nothing here converts or raises.
"""

import datetime
import reprlib
from numbers import Real

import numpy as np

_DATES = (np.datetime64, np.timedelta64, datetime.date, datetime.time, datetime.timedelta)
_DATE_DTYPES = ("date", "time", "duration", "period")  # how the names of such dtypes begin
_MISSING = ("NAType", "NaTType")  # of pandas


def label_of(column, names=None):
    """Write the number of a column, and its name if it has one: "2 ('age')"."""
    name = None if names is None else names[column]
    return f"{column} ({name!r})" if isinstance(name, str) else f"{column}"


def _names_of(X):
    names = getattr(X, "columns", None)
    return None if names is None else list(names)


def find_dates(X):
    """Say which column of a frame has a dtype of dates; None if there is none, or X is no frame."""
    names, dtypes = _names_of(X), getattr(X, "dtypes", None)
    if names is None or dtypes is None:
        return None
    dtypes = list(dtypes)
    if not any(str(dtype).lower().startswith(_DATE_DTYPES) for dtype in dict.fromkeys(dtypes)):
        return None
    column = [str(dtype).lower().startswith(_DATE_DTYPES) for dtype in dtypes].index(True)
    return _explain_dates(label_of(column, names), str(dtypes[column]))


def describe_dates(values):
    """Say of which type or dtype dates and durations are; None if an array or frame has none."""
    dtypes = values.dtypes if hasattr(values, "columns") else ()
    kinds = [str(dtype) for dtype in dtypes if str(dtype).lower().startswith(_DATE_DTYPES)]
    if not kinds:
        try:
            array = np.asarray(values)
        except (TypeError, ValueError):  # of no shape: the checks that follow say so
            return None
        if array.dtype.kind == "O":
            dates = (v for v in array.flat if isinstance(v, _DATES) and not _is_missing(v))
            kinds = [type(value).__name__ for value in dates]
        elif array.dtype.kind in "mM":
            kinds = [str(array.dtype)]
    return kinds[0] if kinds else None


def _explain_dates(label, what):
    return (
        f"Column {label} of X holds dates or times ({what}), but a network takes numbers. Make "
        "numbers of them first, such as the days since a date, the month, or the day of the week."
    )


def find_unusable(X):
    """Say which column of X holds text, dates or missing objects; None if none does.

    Parameters
    ----------
    X : array-like or frame
        What could not be converted.
    """
    return _find_column(X, _explain_column)


def find_objects(X):
    """Say which column of X holds objects that are no numbers; None if none does, as above."""
    return _find_column(X, _explain_objects)


def _find_column(X, explain):
    """Return what `explain` says of the first column of which it says something."""
    try:  # a list of numbers and texts is an array of texts, which hides the numbers
        forms = (
            [np.asarray(X)] if isinstance(X, np.ndarray) else [np.asarray(X, object), np.asarray(X)]
        )
    except Exception:  # of the user's class, which has said what is wrong
        return None
    names = _names_of(X)
    if names == []:
        return "X is a frame without columns: a network takes at least one."
    for values in forms:
        for column in range(values.shape[1] if values.ndim == 2 else 0):
            found = explain(label_of(column, names), values[:, column])
            if found:
                return found
    return None


def _explain_column(label, values):
    if values.dtype.kind in "mM":
        return _explain_dates(label, values.dtype)
    if values.dtype.kind == "O":
        try:
            values.astype(np.float64)
        except (TypeError, ValueError, OverflowError):
            pass
        else:
            return None
    for row, value in enumerate(values):
        if _is_missing(value):
            return (
                f"Column {label} of X has a missing value, {value!r} in row {row}. Leave such rows "
                "out, or fill them, for example with sklearn.impute.SimpleImputer."
            )
        if isinstance(value, _DATES) or type(value).__name__ == "Period":  # of pandas
            return _explain_dates(label, f"{type(value).__name__} in row {row}")
        if isinstance(value, str | bytes) and not (values.dtype.kind == "O" and _is_number(value)):
            plain = value.item() if isinstance(value, np.generic) else value
            return (
                f"Column {label} of X holds text, but a network takes numbers: could not convert "
                f"string to float: {plain!r}, in row {row}. Convert it (astype(float)) where it "
                "stands for numbers; else encode it, for example with "
                "sklearn.preprocessing.OneHotEncoder."
            )
        if isinstance(value, int) and not _is_number(value):
            return f"Column {label} of X has values beyond the range of float64 in row {row}."
    return None


def _explain_objects(label, values):
    for row, value in enumerate(values if values.dtype.kind == "O" else ()):
        if not _is_number(value):
            return (
                f"Column {label} of X holds values of type {type(value).__name__}, such as "
                f"{reprlib.repr(value)} in row {row}, but a network takes numbers. Convert or "
                "encode it, or leave it out."
            )
    return None


def _is_number(value):
    try:
        float(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def _is_missing(value):
    if value is None or type(value).__name__ in _MISSING:
        return True
    if isinstance(value, np.datetime64 | np.timedelta64):
        return bool(np.isnat(value))
    return isinstance(value, Real) and value != value


def find_missing(y, name):
    """Say which row of objects or dates has None, NaN, NA or NaT; None if there is none.

    NaN in arrays of floats is scikit-learn's to tell.
    """
    try:
        values = np.asarray(y)
    except Exception:
        return None
    if values.dtype.kind not in "OmM" or values.ndim == 0:
        return None
    if values.dtype.kind != "O" and not np.isnat(values).any():
        return None
    for index, value in np.ndenumerate(values):
        if _is_missing(value):
            what = "NaN" if isinstance(value, Real) else repr(value)
            what = "NaT" if isinstance(value, np.datetime64 | np.timedelta64) else what
            return f"Input {name} contains {what} in row {index[0]}. Leave such samples out."
    return None


def find_masked(values, name):
    """Say which row of a masked array is masked; None if none is.

    Conversions drop the mask without a word, and take what lies below it for values.
    """
    mask = np.ma.getmask(values) if isinstance(values, np.ma.MaskedArray) else np.ma.nomask
    if not mask.any():
        return None
    row = int(np.argwhere(mask)[0][0])
    return (
        f"{name} is a masked array, with a masked value in row {row}. Leave such samples out, or "
        f"fill them in: {name}.filled(value)."
    )


def find_infinite(y, name):
    """Say which row of an array of objects has an infinite number; None if there is none."""
    for index, value in np.ndenumerate(y) if y.dtype.kind == "O" else ():
        if isinstance(value, Real) and value in (np.inf, -np.inf):
            return f"Input {name} contains infinity in row {index[0]}. Leave such samples out."
    return None


def first_that_is_no_number(y):
    """Return row and value of the first element that is no number; None if all are."""
    for index, value in np.ndenumerate(y):
        try:
            float(value)
        except (TypeError, ValueError):
            return index[0], value.item() if isinstance(value, np.generic) else value
        except OverflowError:
            continue
    return None
