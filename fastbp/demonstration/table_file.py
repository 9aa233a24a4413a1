"""A raw table of the user's: read from a file, its target apart, and its peers' view of it.

All that can be wrong with a file, a column's name or a target is said here, before any training.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np

from fastbp.messages import find_name
from fastbp.tabular.columns import kind_of, open_table, read_numbers
from fastbp.tabular.encoder import TableEncoder
from fastbp.tabular.levels import FIRST, MISSING, find_codes, find_levels

FEWEST_ROWS = 30
MOST_CLASSES = 20  # more different whole numbers are a quantity
MOST_LISTED = 10  # names in a message
N_FOLDS = 3  # of the report: a class needs a row for each
ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}.*)?$")


@dataclass
class Table:
    """A table whose target is known in every row."""

    name: str
    target: str
    frame: Any  # of narwhals, without the target
    y: np.ndarray
    is_classification: bool
    notes: list[str]  # what was done to it
    encoder: TableEncoder  # fitted on all rows, without y

    def __len__(self):
        return len(self.y)

    def rows(self, chosen):
        """Return the frame of some rows, as the library that read it has frames."""
        return self.frame[chosen].to_native()


# ---- files


def _read_by_pandas(pandas, path, separator):
    if separator is None:
        return pandas.read_parquet(path)
    frame = pandas.read_csv(path, sep=separator)
    for name in frame.columns[[not pandas.api.types.is_numeric_dtype(d) for d in frame.dtypes]]:
        values = frame[name].dropna()
        if len(values) and all(isinstance(v, str) and ISO_DATE.match(v) for v in values):
            frame[name] = pandas.to_datetime(frame[name], format="ISO8601")
    return frame


def _read_by_polars(polars, path, separator):
    if separator is None:
        return polars.read_parquet(path)
    return polars.read_csv(
        path, separator=separator, try_parse_dates=True, infer_schema_length=None,
        null_values=["", "NA", "NaN", "nan", "null", "NULL"],
    )  # fmt: skip


def _read_by_pyarrow(pyarrow, path, separator):
    if separator is None:
        return import_module("pyarrow.parquet").read_table(path)
    csv = import_module("pyarrow.csv")
    return csv.read_csv(
        path,
        parse_options=csv.ParseOptions(delimiter=separator),
        convert_options=csv.ConvertOptions(strings_can_be_null=True),
    )


READERS: dict[str, Callable] = {
    "pandas": _read_by_pandas,
    "polars": _read_by_polars,
    "pyarrow": _read_by_pyarrow,
}


def read_file(path):
    """Read a CSV or Parquet file by the first library that is installed and can.

    Parameters
    ----------
    path : str
        Parquet if it ends in .parquet or .pq, else CSV, whose separator (comma, semicolon or tab)
        is found in its first line.  Dates like 2026-05-17 become dates.

    Returns
    -------
    frame of pandas, polars or pyarrow
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}")
    separator = None
    if Path(path).suffix.lower() not in (".parquet", ".pq"):
        with open(path, encoding="utf-8", errors="replace") as file:
            first = file.readline()
        separator = max(",;\t", key=first.count)
    missing = []
    for name, read in READERS.items():
        try:
            return read(import_module(name), path, separator)
        except ImportError:  # of the library, or of what it needs for Parquet
            missing.append(name)
        except Exception as error:
            raise ValueError(f"cannot read {path}: {error}") from error
    raise ImportError(
        f"a table is read by pandas, polars or pyarrow, and none of them can: pip install pandas"
        f"{' pyarrow' if separator is None else ''}"
    )


# ---- the target


def load_table(path, target, task=None):
    """Read a table and take its target apart.

    Parameters
    ----------
    path, target : str
    task : {"classification", "regression"} or None
        None: text, booleans and at most `MOST_CLASSES` different whole numbers are classes.

    Returns
    -------
    Table

    Raises
    ------
    ImportError, OSError, TypeError, ValueError
        Said in plain words.
    """
    frame = nw.from_native(read_file(path), eager_only=True)
    if target not in frame.columns:
        raise ValueError(f"{path} has no column {target!r}. {_suggest(target, frame.columns)}")
    if len(frame.columns) < 2:
        raise ValueError(f"{path} has no column but {target!r}: there is nothing to learn from")
    values = open_table(frame.select(target).to_native()).column(0)
    is_classification = choose_task(values, target) if task is None else task == "classification"
    y, is_known = (_read_classes if is_classification else _read_amounts)(values, target)
    notes = []
    if not is_known.all():
        notes.append(f"{(~is_known).sum()} rows without a target are left out")
    if is_classification:
        is_known = _leave_out_rare(y, is_known, notes, target)
    elif len(np.unique(y[is_known])) < 2:
        raise ValueError(f"the target {target!r} has one value only: there is nothing to learn")
    if is_known.sum() < FEWEST_ROWS:
        raise ValueError(
            f"{path} has {is_known.sum()} rows with a target; a comparison needs {FEWEST_ROWS}"
        )
    frame = frame.drop(target)[np.flatnonzero(is_known)]
    encoder = TableEncoder().fit(frame.to_native())
    return Table(Path(path).name, target, frame, y[is_known], is_classification, notes, encoder)


def _suggest(target, names):
    meant = find_name(target, names)
    if meant:
        return f"Did you mean {meant!r}?"
    listed = ", ".join(map(repr, names[:MOST_LISTED])) + ", ..." * (len(names) > MOST_LISTED)
    return f"It has {listed}."


def choose_task(values, target):
    """Whether a target is classes."""
    kind = kind_of(values, repr(target))
    if kind == "category":
        return True
    if kind != "number":
        raise ValueError(_refuse(target, kind))
    found = np.unique(read_numbers(values, "number", repr(target)))
    found = found[np.isfinite(found)]
    if not len(found):
        raise ValueError(_refuse(target, "missing"))
    return len(found) <= MOST_CLASSES and bool((found == np.round(found)).all())


def _refuse(target, kind):
    what = "no value at all" if kind == "missing" else f"values of the kind {kind!r}"
    return f"the target {target!r} has {what}; a target is classes or numbers"


def _read_classes(values, target):
    """Labels of all rows, and in which of them there is one."""
    levels = find_levels(values)
    if len(levels) < 2:
        raise ValueError(f"the target {target!r} has one class only: there is nothing to learn")
    codes = find_codes(values, {level: FIRST + k for k, level in enumerate(levels)})
    if len(set(map(type, levels))) > 1:
        levels = list(map(str, levels))
    return np.array(levels)[np.maximum(codes - FIRST, 0)], codes != MISSING


def _read_amounts(values, target):
    """Numbers of all rows, and in which of them there is one."""
    kind = kind_of(values, repr(target))
    if kind == "category":
        raise ValueError(f"the target {target!r} holds text or categories: these are no numbers")
    if kind != "number":
        raise ValueError(_refuse(target, kind))
    y = np.asarray(read_numbers(values, "number", repr(target)), np.float64)
    return y, np.isfinite(y)


def _leave_out_rare(y, is_known, notes, target):
    """Return which rows are known and of a class that every fold may have."""
    labels, codes, counts = np.unique(y[is_known], return_inverse=True, return_counts=True)
    is_rare = counts < N_FOLDS
    if is_rare.all() or (~is_rare).sum() < 2:
        raise ValueError(
            f"the target {target!r} has {len(labels)} classes, and fewer than two of them have "
            f"{N_FOLDS} rows: if it is a number, say --task regression"
        )
    if is_rare.any():
        notes.append(
            f"{is_rare.sum()} classes with fewer than {N_FOLDS} rows are left out, such as "
            f"{str(labels[is_rare][0])!r}"
        )
    is_kept = is_known.copy()
    is_kept[is_known] = ~is_rare[codes]
    return is_kept
