"""A plan of a table as plain values, and back: for files that hold no code.

`describe_plan` makes dicts of lists, numbers, texts and arrays, `plan_from` a plan of them, which
checks whatever it is given: a description may come from a damaged or forged file.
"""

from dataclasses import fields

import numpy as np

from fastbp.tabular.columns import PARTS, TableColumn
from fastbp.tabular.levels import FIRST, LevelsFit, LevelsPlan
from fastbp.tabular.numbers import NumberFit, NumberPlan
from fastbp.tabular.plan import Slot, TablePlan

KINDS = ("number", "category", "date", "constant", "identifier")
SLOTS = ("number", "date", "duration", "clock")
ENCODINGS = ("piecewise", "hat", "none")
SAVED_LEVELS = (str, int, float, bool)


def describe_plan(plan):
    """Describe a plan in plain values.

    Raises
    ------
    ValueError
        If levels are of a type that only code could bring back; names the column.
    """
    in_fits = set(plan.categories)
    for column in plan.columns:
        for level in column.levels or ():
            if type(level) not in SAVED_LEVELS:
                raise ValueError(
                    f"The column {column.name!r} has levels of type {type(level).__name__}, such "
                    f"as {level!r}, which cannot be saved without code: text, numbers and booleans "
                    "can. Turn the column into text before fit, or use joblib.dump if a pickle "
                    "will do."
                )
    return {
        "columns": [
            {
                "name": column.name,
                "kind": column.kind,
                "n_outputs": int(column.n_outputs),
                "has_missing": bool(column.has_missing),
                "levels": None if j in in_fits else column.levels,
            }
            for j, column in enumerate(plan.columns)
        ],
        "names": plan.names,
        "slots": [list(slot) for slot in plan.slots],
        "encoding": plan.numbers.encoding,
        "numbers": [_describe_fit(fit) for fit in plan.numbers.fits],
        "categories": list(plan.categories),
        "levels": [_describe_fit(fit, left_out="known") for fit in plan.levels.fits],
        "target_labels": list(plan.target_labels),
    }


def _describe_fit(fit, left_out=None):
    values = {f.name: getattr(fit, f.name) for f in fields(fit) if f.name != left_out}
    return {n: v.item() if isinstance(v, np.generic) else v for n, v in values.items()}


def plan_from(described):
    """Make the plan of a description.

    Raises
    ------
    ValueError
        If it is the description of no plan.
    """
    columns = [_column_from(one) for one in _list(described["columns"], "columns")]
    names, labels = described["names"], _texts(described["target_labels"], "target_labels")
    if names is not None:
        _require(len(_texts(names, "names")) == len(columns), "names")
    slots = [_slot_from(one, columns) for one in _list(described["slots"], "slots")]
    fits = [_number_from(one) for one in _list(described["numbers"], "numbers")]
    _require(len(slots) == len(fits), "slots")
    _require(described["encoding"] in ENCODINGS, "encoding")
    categories = _list(described["categories"], "categories")
    _require(all(_is_index(j, columns) for j in categories), "categories")
    levels = [_levels_from(one, len(labels)) for one in _list(described["levels"], "levels")]
    _require(len(levels) == len(categories) == len(set(categories)), "categories")
    for slot, fit in zip(slots, fits, strict=True):
        if len(fit.knots):
            columns[slot.column].knots[slot.part] = fit.knots
    for j, fit in zip(categories, levels, strict=True):
        columns[j].levels = fit.levels
    numbers = NumberPlan(fits, described["encoding"])
    return TablePlan(columns, names, slots, numbers, categories, LevelsPlan(levels), labels)


def _require(condition, what):
    if not condition:
        raise ValueError(f"The {what!r} of an encoder's description are not those of a table.")


def _list(value, what):
    _require(type(value) is list, what)
    return value


def _texts(value, what):
    _require(type(value) is list and all(type(text) is str for text in value), what)
    return value


def _is_index(value, things):
    return type(value) is int and 0 <= value < len(things)


def _column_from(described):
    """Make a column; its knots, and levels that are encoded, come from the fits."""
    column = TableColumn(**described)
    _require(
        type(column.name) is str
        and column.kind in KINDS
        and type(column.n_outputs) is int
        and column.n_outputs >= 0
        and type(column.has_missing) is bool
        and not column.knots,
        "columns",
    )
    if column.levels is not None:
        _check_levels(column.levels)
    return column


def _check_levels(levels):
    _require(type(levels) is list and all(type(one) in SAVED_LEVELS for one in levels), "levels")
    _require(len(set(levels)) == len(levels) and all(one == one for one in levels), "levels")


def _slot_from(described, columns):
    slot = Slot(*described)
    parts = PARTS if slot.kind == "date" else ("",)
    _require(_is_index(slot.column, columns) and slot.kind in SLOTS and slot.part in parts, "slots")
    return slot


def _number_from(described):
    fit = NumberFit(**described)
    _require(_is_array(fit.knots, 1, np.float64) and len(fit.knots) != 1, "knots")
    _require((fit.knots[1:] > fit.knots[:-1]).all(), "knots")
    for number in (fit.factor, fit.median, fit.scale):
        _require(type(number) is float and np.isfinite(number), "numbers")
    _require(fit.factor > 0 and fit.scale > 0, "numbers")
    for flag in (fit.is_pair, fit.has_missing, fit.shows_missing):
        _require(type(flag) is bool, "numbers")
    _require(len(fit.knots) == 2 or not fit.is_pair, "numbers")
    if fit.shown is not None:
        _require(_is_array(fit.shown, 1, np.int64) and len(fit.shown) > 0, "shown")
        _require((fit.shown >= 0).all() and (fit.shown < len(fit.knots)).all(), "shown")
        _require((fit.shown[1:] > fit.shown[:-1]).all(), "shown")
    return fit


def _levels_from(described, n_labels):
    _check_levels(described["levels"])
    known = {level: FIRST + k for k, level in enumerate(described["levels"])}
    fit = LevelsFit(known=known, **described)
    n_codes = FIRST + len(known)
    _texts(fit.labels, "labels")
    for flag in (fit.has_missing, fit.is_identifier):
        _require(type(flag) is bool, "levels")
    _require(_is_array(fit.places, 1, np.int64) and len(fit.places) == n_codes, "places")
    _require((fit.places >= -1).all() and (fit.places < len(fit.labels)).all(), "places")
    if fit.targets is not None:
        _require(_is_array(fit.targets, 2, np.float32), "targets")
        _require(fit.targets.shape == (n_codes, n_labels), "targets")
    _require(fit.n_outputs > 0, "levels")
    return fit


def _is_array(array, n_dims, dtype):
    return (
        type(array) is np.ndarray
        and array.ndim == n_dims
        and array.dtype == dtype
        and bool(np.isfinite(array).all())
    )
