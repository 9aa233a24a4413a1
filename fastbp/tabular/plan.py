"""The plan of a table: which columns become numbers and codes, and what these become.

`make_plan` learns it; `TablePlan.read` turns a table into its compact form, numbers and codes, and
`TablePlan.encode` that into the matrix, for all rows or some, into memory that is given.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from fastbp.data.unusable import label_of
from fastbp.tabular.columns import (
    PARTS,
    ArrayTable,
    TableColumn,
    kind_of,
    name_times,
    read_dates,
    read_numbers,
    split_dates,
    warn_of_large_integers,
)
from fastbp.tabular.levels import LevelsPlan, encode_targets, find_codes, fit_levels
from fastbp.tabular.numbers import NumberPlan, count_few, count_values, fit_numbers, name_knots
from fastbp.tabular.runs import RunsPlan

PIECES = 512  # of all columns together with n_bins="auto"
ROWS_PER_BIN = 32  # at least, with n_bins="auto"
FEWEST_BINS, MOST_BINS = 8, 48  # of one column with n_bins="auto"
MOST_VALUES = 256  # of a column whose values all become knots, with n_bins="auto"


class Slot(NamedTuple):
    """Where a column of the matrix of numbers comes from."""

    column: int
    kind: str  # "number", "date", "duration" or "clock"
    part: str  # of a date, else ""


@dataclass
class ReadTable:
    """The compact form of a table.

    Attributes
    ----------
    numbers : ndarray of shape (n_rows, n_numbers), any real dtype
        Parts of dates among them; NaN is missing. May be the user's own array: never written to.
    codes : int32 ndarray of shape (n_rows, n_categories)
    targets : float32 ndarray of shape (n_rows, n_target_outputs) or None
        Cross-fitted values of the rows; None looks them up by the codes.
    """

    numbers: np.ndarray
    codes: np.ndarray
    targets: np.ndarray | None = None

    def __len__(self):
        return len(self.numbers)

    def __getitem__(self, rows):
        """Return some rows: of a slice views, of an array of indices or a mask copies."""
        targets = None if self.targets is None else self.targets[rows]
        return ReadTable(self.numbers[rows], self.codes[rows], targets)


@dataclass
class TablePlan:
    """What was learned of a table; plain data, nothing of the rows."""

    columns: list[TableColumn]
    names: list[str] | None  # of the columns, for messages
    slots: list[Slot]
    numbers: NumberPlan
    categories: list[int]  # columns
    levels: LevelsPlan
    target_labels: list[str]

    def __post_init__(self):
        self.n_outputs = self.numbers.n_outputs + self.levels.n_outputs
        self.takes_arrays = not self.categories and all(s.kind == "number" for s in self.slots)
        picked = [slot.column for slot in self.slots]
        self.picked = None if picked == list(range(len(self.columns))) else picked

    @cached_property
    def runs(self):
        """How networks take the encoding."""
        return RunsPlan(self)

    def __setstate__(self, state):
        vars(self).update(state)
        vars(self).pop("runs", None)  # made by whatever version wrote the pickle

    def read_array(self, X):
        """Read an array of numbers, where there is nothing but numbers (`takes_arrays`)."""
        return ReadTable(
            X if self.picked is None else X[:, self.picked], np.zeros((len(X), 0), np.int32)
        )

    def read(self, table):
        """Read a table of `columns.open_table`; return a `ReadTable`."""
        if isinstance(table, ArrayTable) and table.X.dtype.kind in "iuf" and self.takes_arrays:
            return self.read_array(table.X)
        codes = np.empty((table.n_rows, len(self.categories)), np.int32)
        vectors: list = [None] * len(self.slots)
        dates: dict[int, list[int]] = {}
        for k, (j, kind, _) in enumerate(self.slots):
            if kind == "date":
                dates.setdefault(j, []).append(k)
            else:
                vectors[k] = read_numbers(table.column(j), kind, label_of(j, self.names))
        for j, places in dates.items():
            its = read_dates(table.column(j), label_of(j, self.names))
            parts = split_dates(its, [self.slots[k].part for k in places])
            for k, part in zip(places, parts, strict=True):
                vectors[k] = part
        for k, (j, fit) in enumerate(zip(self.categories, self.levels.fits, strict=True)):
            codes[:, k] = find_codes(table.column(j), fit.known)
        return ReadTable(_stack(vectors, table.n_rows), codes)

    def encode(self, read, out=None):
        """Encode a `ReadTable`.

        Parameters
        ----------
        read : ReadTable
        out : float32 ndarray of shape (n_rows, n_outputs) or None
            Where to; None makes a C-contiguous one.

        Returns
        -------
        out : float32 ndarray of shape (n_rows, n_outputs)
        """
        if out is None:
            out = np.empty((len(read), self.n_outputs), np.float32)
        n = self.numbers.n_outputs
        if n:
            self.numbers.encode(read.numbers, out[:, :n])
        if self.levels.n_outputs:
            self.levels.encode(read.codes, read.targets, out[:, n:])
        return out

    def name_outputs(self, names):
        """List the names of the outputs, no two of them the same."""
        own = [f"{names[s.column]} {s.part}" if s.part else names[s.column] for s in self.slots]
        knots = [
            name_times(fit.knots) if slot.part == "time" else name_knots(fit.knots)
            for slot, fit in zip(self.slots, self.numbers.fits, strict=True)
        ]
        missing = [names[slot.column] for slot in self.slots]
        listed = self.numbers.name_outputs(own, knots, missing)
        of_levels = [names[j] for j in self.categories]
        listed += self.levels.name_outputs(of_levels, self.target_labels)
        used: dict[str, int] = {}
        for i, name in enumerate(listed):
            while listed[i] in used:
                used[name] += 1
                listed[i] = f"{name} ({used[name]})"
            used[listed[i]] = 1
        return listed


def _stack(vectors, n_rows):
    """Put vectors side by side, in float32 where that holds all of their dtypes' values."""
    dtypes = {vector.dtype for vector in vectors}
    is_small = np.result_type(np.float32, *dtypes) == np.float32
    stacked = np.empty((n_rows, len(vectors)), np.float32 if is_small else np.float64)
    with np.errstate(over="ignore"):  # of longer floats
        for k, vector in enumerate(vectors):
            stacked[:, k] = vector
    return stacked


# ---------------------------------------------------------------------------------- learning


def make_plan(table, settings, y, *, names, is_category, is_crossed, counted=None):
    """Learn the plan of a table.

    Parameters
    ----------
    table : what `columns.open_table` returns
    settings : the parameters of `TableEncoder`, by name
    y : array-like or None
    names : sequence of str or None
        Of the columns.
    is_category : sequence of bool or None
        None looks at what the columns hold.
    is_crossed : bool
        Whether cross-fitted targets are wanted.
    counted : ndarray of int or None, default=None
        The rows whose targets count; None: all.

    Returns
    -------
    plan : TablePlan
    crossed : float32 ndarray of shape (n_rows, n_target_outputs) or None
    """
    fewest = settings.min_frequency
    fewest = fewest if isinstance(fewest, int) else int(np.ceil(fewest * table.n_rows))
    columns, slots, vectors, categories, fits, codes = [], [], [], [], [], []
    for j in range(table.n_columns):
        values, label = table.column(j), label_of(j, names)
        kind = kind_of(values, label)
        if is_category is not None and kind != "missing":
            kind = "category" if is_category[j] else "number" if kind == "category" else kind
        shown = kind if kind in ("category", "date") else "number"
        columns.append(TableColumn(f"x{j}" if names is None else names[j], shown))
        if kind == "category":
            fit, its_codes = fit_levels(values, settings.max_levels, fewest)
            categories.append(j)
            fits.append(fit)
            codes.append(its_codes)
        elif kind == "date":
            slots += [Slot(j, kind, part) for part in PARTS]
            vectors += split_dates(read_dates(values, label))
        elif kind != "missing":
            slots.append(Slot(j, kind, ""))
            vectors.append(read_numbers(values, kind, label))
            warn_of_large_integers(values, label)
    slots, numbers = _fit_numbers(slots, vectors, settings, fewest)
    crossed, labels = _fit_targets(fits, codes, y, settings, is_crossed, counted)
    kept = [i for i, fit in enumerate(fits) if fit.n_outputs]
    levels = LevelsPlan([fits[i] for i in kept])
    _tell(columns, slots, numbers, dict(zip(categories, fits, strict=True)))
    categories = [categories[i] for i in kept]
    return TablePlan(columns, names, slots, numbers, categories, levels, labels), crossed


def _fit_numbers(slots, vectors, settings, fewest):
    """Learn from the vectors; return the slots that say something, and their plan."""
    counts = [count_values(vector) for vector in vectors]
    n_bins = [settings.n_bins] * len(vectors)
    if settings.n_bins == "auto":
        n_bins = _share_pieces(vectors, counts)
    shows_values = settings.encoding == "piecewise"  # hat functions do
    kept, fits = [], []
    for slot, vector, count, its in zip(slots, vectors, counts, n_bins, strict=True):
        shows_missing = slot.part in ("", PARTS[0]) and bool(np.isnan(vector).any())
        if count > 1 or (count and shows_missing):
            fits.append(fit_numbers(vector, its, shows_missing, fewest if shows_values else None))
            kept.append(slot)
    return kept, NumberPlan(fits, settings.encoding)


def _share_pieces(vectors, counts):
    """Share out the pieces: columns with the fewest values first, which get one for each value.

    A column with no more values than its share, or with few values and so many pieces left, has all
    of them as knots: values that only some rows have, as amounts of money, may each mean something
    else.  On adult (20 000 rows) that took 1.9 % off the log loss (November 2026).
    """
    n_rows = max(map(len, vectors), default=0)
    most = max(n_rows // ROWS_PER_BIN, FEWEST_BINS)
    left, n_bins = PIECES, [FEWEST_BINS] * len(vectors)
    several = [i for i, count in enumerate(counts) if count == 3]
    few = {i: count_few(vectors[i], min(MOST_VALUES, most)) for i in several}
    several.sort(key=lambda i: few[i] or np.inf)
    while several:
        share, n_wanted = left // len(several), few[several[0]]
        if n_wanted is None or n_wanted - 1 > share:
            break
        n_bins[several[0]] = n_wanted - 1
        left -= n_wanted - 1
        del several[0]
    for i in several:
        n_bins[i] = max(min(share, most, MOST_BINS), FEWEST_BINS)
    return n_bins


def _fit_targets(fits, codes, y, settings, is_crossed, counted):
    """Encode targets where there are many levels; return crossed values and outputs' labels."""
    many = [
        i
        for i, fit in enumerate(fits)
        if len(fit.levels) > settings.max_levels and not fit.is_identifier
    ]
    if not many or y is None:
        return None, []
    y = np.asarray(y)
    if y.ndim > 1 and y.shape[1] != 1:
        return None, []
    if counted is None:
        counted = np.arange(len(y))
    if len(counted) < 2:  # no folds
        return None, []
    its_codes = np.stack([codes[i] for i in many], axis=1)
    return encode_targets(
        [fits[i] for i in many],
        its_codes,
        y.ravel(),
        settings.target_type,
        settings.random_state,
        counted=counted,
        is_crossed=is_crossed,
    )


def _tell(columns, slots, numbers, levels):
    """Write down for users what each column is taken for."""
    counts = np.bincount(numbers.output_sources(), minlength=len(slots)).tolist()
    for slot, fit, n in zip(slots, numbers.fits, counts, strict=True):
        column = columns[slot.column]
        column.n_outputs += n
        column.has_missing |= fit.has_missing
        if len(fit.knots):
            column.knots[slot.part] = fit.knots
    for j, fit in levels.items():
        columns[j].n_outputs = fit.n_outputs
        columns[j].has_missing, columns[j].levels = fit.has_missing, fit.levels
        if fit.is_identifier:
            columns[j].kind = "identifier"
    for column in columns:
        if not column.n_outputs and column.kind != "identifier":
            column.kind = "constant"
