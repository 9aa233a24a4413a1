"""A raw table is taken apart: its columns as arrays, what each one is, and its values as numbers.

Frames (pandas, polars, pyarrow, and what else narwhals reads; scikit-learn requires narwhals) and
arrays end here, and so do all messages about columns that cannot be used.  Nothing is learned here
and nothing of the user's is written to.
"""

import datetime
from collections.abc import Hashable
from dataclasses import dataclass, field
from decimal import Decimal
from numbers import Integral, Real
from typing import Any, NamedTuple

import narwhals.stable.v2 as nw
import numpy as np
from sklearn.utils.validation import check_array

from fastbp.data.features import refuse_lazy
from fastbp.data.unusable import label_of
from fastbp.messages import warn_user

EXACT = 2**53  # float64 has every integer up to here
MISSING_TYPES = ("NoneType", "NAType", "NaTType")
_BOOLEANS = (bool, np.bool_)
_FLOATS = (float, np.floating)
# What objects may be, the first that fits: a duration of NumPy is an integer to Python.
_KINDS = (
    ("duration", (datetime.timedelta, np.timedelta64)),
    ("date", (datetime.date, np.datetime64)),
    ("clock", (datetime.time,)),
    ("number", (Real, Decimal, np.bool_)),
)
_NOUNS = {
    "number": "numbers",
    "category": "categories",
    "date": "dates",
    "duration": "durations",
    "clock": "times of day",
}


class Coded(NamedTuple):
    """A column of categories as pandas stores it."""

    codes: np.ndarray  # -1 where the value is missing
    categories: Any


@dataclass
class TableColumn:
    """What `TableEncoder` takes one column of the table for.

    Attributes
    ----------
    name : str
        Of the frame's column, or "x0", "x1", ...
    kind : {"number", "category", "date", "constant", "identifier"}
        Durations and times of day are numbers. The last two are left out of the encoding.
    n_outputs : int
        How many columns of the encoded table say something of it.
    levels : list or None
        Of a category: the values seen in `fit`, without those that are missing.
    knots : dict of str to ndarray
        Of numbers and dates: where the pieces begin and end, for each part of a date, or for "".
    has_missing : bool
        Whether values were missing in `fit`.
    """

    name: str
    kind: str
    n_outputs: int = 0
    levels: list | None = None
    knots: dict[str, np.ndarray] = field(default_factory=dict)
    has_missing: bool = False

    def describe(self) -> str:
        """Say in a few words what was found."""
        if self.kind == "constant":
            return "one value only, or none: left out"
        if self.kind == "identifier":
            return "another value in each row: left out"
        if self.levels is not None:
            listed = ", ".join(map(str, self.levels[:3])) + ", ..." * (len(self.levels) > 3)
            found = f"{len(self.levels)} levels ({listed})"
        elif self.kind == "date":
            times = name_times(self.knots["time"][[0, -1]]) if self.knots else []
            found = f"{' to '.join(times)} ({', '.join(self.knots)})" if times else "one date"
        else:
            knots = self.knots.get("", np.zeros(0)).tolist()
            found = f"{knots[0]:.4g} to {knots[-1]:.4g}" if knots else "one number"
        return "; ".join(filter(None, [found, "missing values" if self.has_missing else ""]))

    def __repr__(self):
        return f"<{self.name}: {self.kind}, {self.n_outputs} outputs; {self.describe()}>"


class ArrayTable:
    """An array of any dtype."""

    def __init__(self, X):
        self.source = self.X = X
        self.n_rows, self.n_columns = X.shape

    def column(self, j):
        """Return the values of a column."""
        return self.X[:, j]


class PandasTable:
    """A frame of pandas; looked at directly, which takes a tenth of the time for a few rows."""

    def __init__(self, X):
        self.source = X
        self.n_rows, self.n_columns = X.shape
        self.series = [series for _, series in X.items()]

    def column(self, j):
        """Return the values of a column."""
        series = self.series[j]
        dtype, array = series.dtype, series.array
        if isinstance(dtype, np.dtype):
            return series.to_numpy()
        if hasattr(array, "categories") and hasattr(array, "codes"):
            return Coded(array.codes, array.categories)
        if dtype.kind in "iu" and _exceeds(series.min(), series.max()):
            return series.to_numpy(object)
        if dtype.kind in "iuf":
            return series.to_numpy(np.float64, na_value=np.nan)
        if dtype.kind == "M" and not str(dtype).startswith(("date32", "date64")):  # of pyarrow
            return series.dt.tz_localize(None).to_numpy("datetime64[us]")
        if dtype.kind == "m":
            return series.to_numpy("timedelta64[us]")
        return series.to_numpy(object)


class OtherTable:
    """Any other frame, through narwhals."""

    def __init__(self, X):
        self.source = X
        frame = nw.from_native(X, eager_only=True)
        self.n_rows, self.n_columns = frame.shape
        self.series = list(frame.iter_columns())

    def column(self, j):
        """Return the values of a column."""
        series = self.series[j]
        dtype = series.dtype
        if dtype.is_numeric():
            has_null = bool(series.null_count())
            if not (has_null and dtype.is_integer() and _exceeds(series.min(), series.max())):
                if dtype.is_decimal() or has_null:
                    series = series.cast(nw.Float64)
                return series.to_numpy()
        if dtype.is_nested() or dtype == nw.Binary:
            raise ValueError(explain(label_of(j, self.names()), str(dtype)))
        if dtype == nw.Datetime:
            if dtype.time_zone is not None:
                series = series.dt.replace_time_zone(None)
            return series.to_numpy()
        if dtype == nw.Date or dtype == nw.Duration:
            return series.to_numpy()
        values = np.empty(self.n_rows, object)
        values[:] = series.to_list()
        return values

    def names(self):
        """List the names of all columns."""
        return [series.name for series in self.series]


def _exceeds(low, high):
    """Whether integers go beyond those that float64 holds; the bounds may be missing values."""
    return any(isinstance(v, Integral) and abs(int(v)) > EXACT for v in (low, high))


def open_table(X):
    """Return a table whose `column(j)` is an array or `Coded`, with `n_rows` and `n_columns`.

    Raises
    ------
    TypeError, ValueError
        If X is sparse, lazy, empty, or has not two dimensions.
    """
    if type(X).__name__ == "RecordBatch" and hasattr(X, "to_struct_array"):
        import pyarrow

        X = pyarrow.Table.from_batches([X])
    if nw.dependencies.is_into_dataframe(X):
        table = PandasTable(X) if nw.dependencies.is_pandas_dataframe(X) else OtherTable(X)
        if not table.n_columns or not table.n_rows:
            what = "sample" if table.n_columns else "feature"
            shape = (table.n_rows, table.n_columns)
            raise ValueError(
                f"Found frame X with 0 {what}(s) (shape={shape}) while a minimum of 1 is required."
            )
        return table
    refuse_lazy(X)
    if isinstance(X, np.ma.MaskedArray):
        X = _fill_missing(X)
    if isinstance(X, list | tuple):
        array = np.asarray(X)
        X = np.asarray(X, object) if array.dtype.kind in "US" else array  # numbers beside texts
    return ArrayTable(check_array(X, dtype=None, ensure_all_finite=False, input_name="X"))


def _fill_missing(X):
    """Return a masked array as an ordinary one, in which what was masked is missing."""
    if X.dtype.kind == "f":
        return X.filled(np.nan)
    values = np.array(X.data, object)
    values[np.ma.getmaskarray(X)] = None
    return values


# ------------------------------------------------------------------------- what a column is


def explain(label, what):
    """Say that a column cannot be used."""
    return (
        f"Column {label} of X holds {what}, which cannot be encoded. A column may hold numbers, "
        "text, booleans, categories, dates, times or durations, each with missing values: convert "
        "it, or leave it out."
    )


def kind_of(values, label):
    """Return what a column is: "number", "category", "date", "duration", "clock" or "missing".

    Raises
    ------
    ValueError
        If it holds what cannot be used; `label` names the column.
    """
    if isinstance(values, Coded):
        return "category"
    kind = values.dtype.kind
    if kind == "O":
        return _kind_of_objects(values, label)
    if kind in "cSV":
        raise ValueError(explain(label, "bytes" if kind == "S" else str(values.dtype)))
    return {"b": "category", "M": "date", "m": "duration", "U": "category"}.get(
        kind, "category" if kind == "T" else "number"
    )


def _kind_of_objects(values, label):
    types = {kind for kind in set(map(type, values)) if kind.__name__ not in MISSING_TYPES}
    for kind in types:
        _refuse(kind, label)
    floats = {kind for kind in types if issubclass(kind, _FLOATS)}
    if floats and not any(value == value for value in values if isinstance(value, _FLOATS)):
        types -= floats  # NaN says that a value is missing, whatever the others are
    if not types:
        return "missing"
    if all(issubclass(kind, _BOOLEANS) for kind in types):
        return "category"
    for name, kinds in _KINDS:
        if all(issubclass(kind, kinds) for kind in types):
            return name
    return "category"


def _refuse(kind, label):
    """Raise for values that are none: containers, bytes, and objects that equal only themselves."""
    by_identity = kind.__hash__ is object.__hash__ or not issubclass(kind, Hashable)
    if by_identity or issubclass(kind, bytes | complex | tuple | frozenset | np.complexfloating):
        raise ValueError(explain(label, f"values of type {kind.__name__}"))


def is_missing(value):
    """Whether an object stands for a missing value."""
    if value is None or type(value).__name__ in MISSING_TYPES:
        return True
    if isinstance(value, np.datetime64 | np.timedelta64):
        return bool(np.isnat(value))
    if isinstance(value, Decimal):
        return value.is_nan()
    return isinstance(value, _FLOATS) and value != value


# ------------------------------------------------------------------------ values as numbers


def read_numbers(values, kind, label):
    """Turn a column into numbers: an array of a real dtype, NaN where a value is missing.

    Parameters
    ----------
    values : ndarray or Coded
    kind : {"number", "duration", "clock"}
        What it was in `fit`. Durations are in seconds, times of day in seconds since midnight.
    label : str
        Names the column in messages.
    """
    if isinstance(values, Coded):
        categories = np.append(_objects_to_numbers(np.asarray(values.categories, object), label), 0)
        return np.where(values.codes < 0, np.nan, categories[values.codes])
    if kind == "number" and values.dtype.kind in "iufb":
        return values
    came = kind_of(values, label)
    if came == "missing" or (values.dtype.kind == "f" and np.isnan(values).all()):
        return np.full(len(values), np.nan)
    if came != kind and not (kind == "number" and _is_boolean(values)):
        raise ValueError(_explain_change(values, kind, came, label))
    if kind == "number":
        return _objects_to_numbers(values, label)
    if kind == "duration":
        micros = _without_missing(values, "timedelta64[us]")
        return np.where(np.isnat(micros), np.nan, micros.astype(np.int64) * 1e-6)
    return np.array([np.nan if is_missing(value) else _seconds(value) for value in values])


def warn_of_large_integers(values, label):
    """Warn if a column of numbers has integers that differ, and are the same as float64.

    So are many keys and hashes: above 2**53 float64 has not every integer.
    """
    if isinstance(values, Coded) or not (values.dtype == object or values.dtype.kind in "iu"):
        return
    if values.dtype == object:
        values = [
            v for v in values if isinstance(v, Integral) and not isinstance(v, np.timedelta64)
        ]
    if not len(values) or not _exceeds(np.min(values), np.max(values)):
        return
    exact = np.unique(np.asarray(values))
    rounded = np.unique(exact.astype(np.float64))
    if len(rounded) < len(exact):
        warn_user(
            f"Column {label} of X has {len(exact)} different integers, some beyond 2**53, of which "
            f"float64 tells {len(rounded)} apart. If they are names, list the column in "
            "categorical_features or give text; if they are numbers, subtract the smallest."
        )


def read_dates(values, label):
    """Turn a column of dates into datetime64[us]: the time on the clock, whatever its zone."""
    came = "category" if isinstance(values, Coded) else kind_of(values, label)
    if came == "missing" or (
        came == "number" and values.dtype.kind == "f" and np.isnan(values).all()
    ):
        return np.full(len(values), "NaT", "datetime64[us]")
    if came != "date":
        raise ValueError(_explain_change(values, "date", came, label))
    if values.dtype.kind == "O":
        return np.array([_naive(value) for value in values], "datetime64[us]")
    return values.astype("datetime64[us]")


def _explain_change(values, kind, came, label):
    example = next((v for v in _objects_of(values) if not is_missing(v)), None)
    return (
        f"Column {label} of X is taken for {_NOUNS[kind]} but holds {_NOUNS[came]}, for example "
        f"{example!r}. Convert it; or, in fit, list it in categorical_features."
    )


def _objects_of(values):
    return list(values.categories) if isinstance(values, Coded) else values.tolist()


def _is_boolean(values):
    return all(isinstance(value, _BOOLEANS) or is_missing(value) for value in values)


def _objects_to_numbers(values, label):
    try:
        return np.array([np.nan if is_missing(value) else float(value) for value in values])
    except OverflowError as error:
        raise ValueError(f"Column {label} of X has values beyond the range of float64.") from error
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"Column {label} of X is taken for numbers, but: {error}. Convert it; or, in fit, list "
            "it in categorical_features."
        ) from error


def _without_missing(values, dtype):
    if values.dtype.kind != "O":
        return values.astype(dtype)
    return np.array([np.timedelta64("NaT") if is_missing(v) else v for v in values], dtype)


def _seconds(value):
    return value.hour * 3600 + value.minute * 60 + value.second + value.microsecond * 1e-6


def _naive(value):
    if is_missing(value):
        return np.datetime64("NaT")
    if isinstance(value, datetime.datetime):
        return np.datetime64(value.replace(tzinfo=None), "us")
    return np.datetime64(value, "us")


# ------------------------------------------------------------------------------ parts of dates

_DAY = 86_400_000_000
PARTS = ("time", "year", "month", "day", "weekday", "hour", "minute", "second")


def split_dates(dates, parts=PARTS):
    """Split dates into numbers, NaN where a date is missing.

    Parameters
    ----------
    dates : datetime64[us] ndarray of shape (n_rows,)
    parts : sequence of str
        Of `PARTS`: "time" is in days since 1970, "weekday" counts from Monday, 0.

    Returns
    -------
    list of float64 ndarray of shape (n_rows,)
    """
    missing = np.isnat(dates)
    micros = np.where(missing, 0, dates.astype(np.int64))
    days, rest = np.divmod(micros, _DAY)
    day = days.view("datetime64[D]")
    month = day.astype("datetime64[M]")
    made = {
        "time": lambda: micros / _DAY,
        "year": lambda: month.astype(np.int64) // 12 + 1970,
        "month": lambda: month.astype(np.int64) % 12 + 1,
        "day": lambda: (day - month).astype(np.int64) + 1,
        "weekday": lambda: (days + 3) % 7,
        "hour": lambda: rest // 3_600_000_000,
        "minute": lambda: rest // 60_000_000 % 60,
        "second": lambda: rest // 1_000_000 % 60,
    }
    return [np.where(missing, np.nan, made[part]()) for part in parts]


def name_times(days):
    """Write times in days since 1970 as dates, with hours or more where dates are the same."""
    micros = np.round(np.asarray(days) * _DAY).astype("datetime64[us]")
    for unit in ("D", "h", "m", "s"):
        names = np.datetime_as_string(micros.astype(f"datetime64[{unit}]")).tolist()
        if len(set(names)) == len(names):
            return names
    return np.datetime_as_string(micros).tolist()
