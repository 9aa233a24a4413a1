"""Categories become indicators: levels and their codes, which of them share an output, and targets.

A code is 0 for a level never seen, 1 for a missing value, 2 + k for level k.  Every table that is
learned has one entry for each code, so that encoding is looking up.
"""

from collections import Counter
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.preprocessing import TargetEncoder
from sklearn.utils.multiclass import type_of_target

from fastbp.tabular.columns import Coded, is_missing

UNSEEN, MISSING, FIRST = 0, 1, 2
N_FOLDS = 5  # of the cross-fitted target encoding, as in scikit-learn
MOST_CLASSES = 50  # more different numbers are not taken for classes
BLOCK = 8192  # rows whose positions are in memory at once


# ------------------------------------------------------------------------- levels and codes


def find_levels(values):
    """List the levels of a column, sorted, as objects of Python, without missing values.

    Parameters
    ----------
    values : ndarray or Coded
    """
    if isinstance(values, Coded):
        present = np.unique(values.codes)
        found = [values.categories[code] for code in present[present >= 0].tolist()]
    elif values.dtype.kind in "iufb":
        found = np.unique(values[~np.isnan(values)] if values.dtype.kind == "f" else values)
    else:
        found = dict.fromkeys(_as_objects(values))
    levels = list(dict.fromkeys(_plain(level) for level in found if not is_missing(level)))
    try:
        return sorted(levels)
    except TypeError:  # of several types
        return sorted(levels, key=lambda level: (type(level).__name__, str(level)))


def _as_objects(values):
    """List of the values; what NumPy keeps as dates or its own texts becomes Python's."""
    return values.tolist() if values.dtype.kind not in "mM" else list(values)


def _plain(level):
    if isinstance(level, np.generic) and not isinstance(level, np.datetime64 | np.timedelta64):
        level = level.item()
    return int(level) if isinstance(level, float) and level.is_integer() else level


def find_codes(values, known):
    """Return the codes of a column.

    Parameters
    ----------
    values : ndarray or Coded
    known : dict
        Code of each level.

    Returns
    -------
    int32 ndarray of shape (n_rows,)
    """
    if isinstance(values, Coded):
        codes, categories = values.codes, values.categories
        if len(codes) < len(categories):
            found = [MISSING if c < 0 else _look_up(known, categories[c]) for c in codes.tolist()]
            return np.array(found, np.int32)
        table = [*(_look_up(known, level) for level in categories), MISSING]
        return np.array(table, np.int32)[codes]
    if values.dtype.kind in "iufb" and len(values) > 1:
        levels, places = np.unique(values, return_inverse=True)
        return np.array([_look_up(known, level) for level in levels.tolist()], np.int32)[places]
    listed = _as_objects(values)
    try:
        codes = np.fromiter(map(known.get, listed, repeat(UNSEEN)), np.int32, len(listed))
    except TypeError:  # a value that cannot be a level
        codes = np.array([_look_up(known, value) for value in listed], np.int32)
    for i in np.flatnonzero(codes == UNSEEN).tolist():
        if is_missing(listed[i]):
            codes[i] = MISSING
    return codes


def _look_up(known, level):
    try:
        return known.get(level, MISSING if is_missing(level) else UNSEEN)
    except TypeError:
        return UNSEEN


# --------------------------------------------------------------------- what codes stand for


@dataclass
class LevelsFit:
    """What is known of one column of categories."""

    levels: list[Any]
    known: dict[Any, int]
    has_missing: bool
    is_identifier: bool
    places: np.ndarray  # output of each code, counted from 0; -1 where none says it
    labels: list[str]  # what the outputs' names add to the column's
    targets: np.ndarray | None = None  # of shape (n_codes, n_target_outputs)

    @property
    def n_targets(self):
        """How many outputs come from the targets."""
        return 0 if self.targets is None else self.targets.shape[1]

    @property
    def n_outputs(self):
        """How many outputs the column has."""
        return len(self.labels) + self.n_targets


def fit_levels(values, max_levels, min_frequency):
    """Learn which levels there are, and give outputs to those that are frequent enough.

    Parameters
    ----------
    values : ndarray or Coded
    max_levels : int
        So many levels have an output of their own, the most frequent ones.
    min_frequency : int
        So many rows must have a level for that.

    Returns
    -------
    fit : LevelsFit
    codes : int32 ndarray of shape (n_rows,)
    """
    levels = find_levels(values)
    known = {level: FIRST + k for k, level in enumerate(levels)}
    codes = find_codes(values, known)
    counts = np.bincount(codes, minlength=FIRST + len(levels))
    has_missing = bool(counts[MISSING])
    n_present = len(codes) - counts[MISSING]
    places = np.full(FIRST + len(levels), -1, np.int64)
    fit = LevelsFit(
        levels, known, has_missing, len(levels) == n_present and n_present > max_levels, places, []
    )
    if fit.is_identifier:
        return fit, codes
    counts = counts[FIRST:]
    own = np.argsort(-counts, kind="stable")[:max_levels]
    own = np.sort(own[counts[own] >= min_frequency])
    groups = [(f"={levels[k]}", [FIRST + k]) for k in own.tolist()]
    pooled = np.setdiff1d(np.arange(len(levels)), own) + FIRST
    if len(pooled):
        groups.append((" infrequent", [UNSEEN, *pooled.tolist()]))
    if has_missing:
        groups.append((" missing", [MISSING]))
    if len(groups) == 2:  # one says both
        groups = [groups[0] if groups[1][0] == " infrequent" else groups[1]]
    elif len(groups) == 1:
        groups = []
    for place, (label, its) in enumerate(groups):
        places[its] = place
        fit.labels.append(label)
    if not has_missing:
        places[MISSING] = places[UNSEEN]
    return fit, codes


# --------------------------------------------------------------------------- target encoding


def encode_targets(fits, codes, y, target_type, random_state, *, counted, is_crossed):
    """Add to each of some columns the mean target of its levels, by scikit-learn's TargetEncoder.

    Parameters
    ----------
    fits : list of LevelsFit
        Their `targets` are set; None where all levels have the same.
    codes : int32 ndarray of shape (n_rows, n_columns)
    y : ndarray of shape (n_rows,)
    target_type : {"auto", "continuous", "binary", "multiclass"}
    random_state : int, RandomState or None
    counted : ndarray of int of shape (n_counted,)
        The rows that means are taken of.
    is_crossed : bool
        Whether the rows' own, cross-fitted values are wanted.

    Returns
    -------
    crossed : float32 ndarray of shape (n_rows, n_target_outputs) or None
    labels : list of str
        What each class's output adds to the column's name; one where there are no classes.
    """
    y = _check_targets(y, target_type)
    encoder = TargetEncoder(target_type=_type_of(y) if target_type == "auto" else target_type)
    learned = codes[counted], y[counted]
    if is_crossed:
        encoder.set_params(cv=_new_folds(y[counted], encoder.target_type, random_state))
        crossed = encoder.fit_transform(*learned)
    else:
        encoder.fit(*learned)
    is_multiclass = encoder.target_type_ == "multiclass"
    labels = [f" target={c}" for c in encoder.classes_] if is_multiclass else [" target"]
    n = len(labels)
    kept = []
    for j, fit in enumerate(fits):
        seen = encoder.categories_[j].astype(np.intp)
        table = np.tile(np.asarray(encoder.target_mean_, np.float64), (FIRST + len(fit.levels), 1))
        for k in range(n):
            table[seen, k] = encoder.encodings_[j * n + k]
        own = table[codes[counted, j]]
        mean, deviation = own.mean(axis=0), own.std(axis=0)
        is_same = deviation <= 1e-9 * np.abs(mean)
        if is_same.all():
            continue
        deviation[is_same] = 1
        fit.targets = _shrink((table - mean) / deviation)
        if is_crossed:
            its_own = fit.targets[codes[:, j]]
            its_own[counted] = _shrink((crossed[:, j * n : (j + 1) * n] - mean) / deviation)
            kept.append(its_own)
    if not is_crossed:
        return None, labels
    return np.concatenate([np.empty((len(codes), 0), np.float32), *kept], axis=1), labels


def _shrink(z):
    """Clip smoothly, as numbers are."""
    return (z / np.sqrt(1 + z * z / 9)).astype(np.float32)


def _check_targets(y, target_type):
    """Return y as `target_type` says that it is.

    Raises
    ------
    ValueError
        If it is not.
    """
    if target_type == "continuous":
        try:
            return y.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"target_type='continuous' needs numbers, but: {error}.") from error
    if target_type == "binary" and len(set(y.tolist())) > 2:
        raise ValueError(
            f"target_type='binary' needs y with two classes. Got {len(set(y.tolist()))}; use "
            "'multiclass'."
        )
    return y


def _type_of(y):
    """Return what y is, for "auto": many different numbers are no classes."""
    is_number = y.dtype.kind in "iuf"
    return "continuous" if is_number and len(np.unique(y)) > MOST_CLASSES else "auto"


def _new_folds(y, target_type, random_state):
    """Return folds, with the shares of the classes where each class has enough rows for that."""
    if target_type == "auto":
        target_type = type_of_target(y)
    kind = KFold
    if target_type != "continuous":
        n_rows = Counter(y.tolist())
        kind = StratifiedKFold if min(n_rows.values()) >= N_FOLDS else KFold
    return kind(min(N_FOLDS, len(y)), shuffle=True, random_state=random_state)


class LevelsPlan:
    """The encoding of all columns of categories; outputs are the indicators, then the targets."""

    def __init__(self, fits):
        self.fits = fits
        sizes = [len(fit.labels) for fit in fits]
        starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self.n_indicators = int(starts[-1])
        self.places = np.concatenate(
            [np.zeros(0, np.int64)]
            + [np.where(f.places < 0, -1, f.places + s) for f, s in zip(fits, starts, strict=False)]
        )
        lengths = [len(fit.places) for fit in fits]
        self.offsets = np.concatenate([[0], np.cumsum(lengths)])[:-1].astype(np.int64)
        self.target_columns = [j for j, fit in enumerate(fits) if fit.n_targets]
        self.n_targets = sum(fit.n_targets for fit in fits)
        self.n_outputs = self.n_indicators + self.n_targets

    def encode(self, codes, targets, out):
        """Encode codes (n_rows, n_columns) into `out`; `targets`, if given, are the rows' own."""
        for start in range(0, len(codes), BLOCK):
            rows = slice(start, start + BLOCK)
            places = self.find_places(codes[rows])
            indicators = out[rows, : self.n_indicators]
            indicators[...] = 0
            row, column = np.nonzero(places >= 0)
            indicators[row, places[row, column]] = 1
        self.write_targets(codes, targets, out[:, self.n_indicators :])

    def find_places(self, codes):
        """Return the indicator that is 1 for each code, or -1."""
        return self.places[codes + self.offsets]

    def write_targets(self, codes, targets, out):
        """Write targets, the rows' own or those of their codes, into `out`."""
        if targets is not None:
            out[...] = targets
            return
        start = 0
        for j in self.target_columns:
            fit = self.fits[j]
            out[:, start : start + fit.n_targets] = fit.targets[codes[:, j]]
            start += fit.n_targets

    def name_outputs(self, names, target_labels):
        """List the names of the outputs; `names` are those of the columns."""
        pairs = zip(names, self.fits, strict=True)
        listed = [f"{name}{label}" for name, fit in pairs for label in fit.labels]
        with_targets = [names[j] for j in self.target_columns]
        return listed + [f"{name}{label}" for name in with_targets for label in target_labels]
