"""Many cases in few: tables in which every two settings meet, and loops that name their case.

A mistake shows with one value of a setting, or where two meet.  A table of all pairs finds these as
a product of all settings does, in a small part of its cases; it is the same in every process.
What only repeats is for the whole suite (`pytest --whole`).
"""

from collections import Counter
from contextlib import contextmanager

import pytest


def cover_pairs(*settings):
    """Return rows, with one value of each setting, in which every two values of two settings meet.

    The two settings with the most values are crossed; each other one takes in every row the value
    that meets most of what it has not met.
    """
    settings = [list(values) for values in settings]
    order = sorted(range(len(settings)), key=lambda k: -len(settings[k]))
    rows = [{}]
    for k in order:
        if len(rows[0]) < 2:
            rows = [row | {k: at} for row in rows for at in range(len(settings[k]))]
            continue
        earlier = list(rows[0])
        used = Counter(dict.fromkeys(range(len(settings[k])), 0))
        missing = {(i, a, at) for i in earlier for a in range(len(settings[i])) for at in used}
        for row in rows:
            met = {
                at: [(i, row[i], at) for i in earlier if (i, row[i], at) in missing] for at in used
            }
            row[k] = max(used, key=lambda at: (len(met[at]), -used[at], -at))
            used[row[k]] += 1
            missing.difference_update(met[row[k]])
        while missing:
            i, a, at = min(missing)
            row = {j: len(rows) % len(settings[j]) for j in earlier} | {i: a, k: at}
            for j in earlier:
                wanted = [b for _, b, to in sorted(m for m in missing if m[0] == j) if to == at]
                if j != i and wanted:
                    row[j] = wanted[0]
            missing.difference_update((j, row[j], at) for j in earlier)
            rows.append(row)
    return [tuple(values[row[k]] for k, values in enumerate(settings)) for row in rows]


@contextmanager
def naming(*case):
    """Add the case of a loop to what fails in it."""
    try:
        yield
    except BaseException as failure:
        failure.add_note(f"This was the case {', '.join(map(str, case))}.")
        raise


def list_spare(items, engines):
    """Yield those tests on an engine without which every value of a setting still meets it.

    The engine is one more setting of a table of pairs: each case of a test keeps the engine that
    has met the fewest of its values, and another one where a value would never meet that.  Where
    the engine is one of two settings all pairs are needed, and nothing is spare.
    """
    cases = {}
    for item in items:
        values = tuple(
            (name, repr(value))
            for name, value in sorted(item.callspec.params.items())
            if name != "engine_name"
        )
        case = cases.setdefault((item.parent.nodeid, item.originalname), {})
        case.setdefault(values, {})[item.callspec.params["engine_name"]] = item
    for case in cases.values():
        met = Counter()
        kept = {}
        for values in case:
            kept[values] = min(engines, key=lambda name: sum(met[value, name] for value in values))
            met.update((value, kept[values]) for value in values)
        for values, of_engine in case.items():
            for name, item in of_engine.items():
                if name == kept[values]:
                    continue
                if len(values) > 1 and all(met[value, name] for value in values):
                    yield item
                met.update((value, name) for value in values)


def first_of(cases, n=1):
    """Return parameters of which the short suite runs the first n, and `--whole` all."""
    return [case if at < n else as_repeat(case) for at, case in enumerate(cases)]


def as_repeat(case):
    """Return a parameter, or a tuple of several, that `--whole` alone runs."""
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=pytest.mark.repeats)
