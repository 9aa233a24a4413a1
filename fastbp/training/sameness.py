"""Whether a call of `fit` or `partial_fit` works on what the last one worked on.

Scores, best weights, counts of epochs without progress and held-out rows mean something only for
the data, the weights and the objective that they were found with.  A fit that may be followed by
one that goes on (`warm_start`, `partial_fit` with validation data) therefore leaves fingerprints,
as plain bytes; whatever was fitted without them counts as different.  What follows from a
difference is decided in `resuming`.

What the functions and objects of a user's mean is told in `meaning`.  Where the two kinds of error
are open, they count as different: to begin anew is no wrong answer, to believe old scores is one.

Against accidents, not against somebody who looks for collisions.  Arrays are read by the engine at
the speed of the memory; where that would be much of an epoch only evenly spaced pieces of 4 KiB of
a large array are read, the fewer the smaller the network.  Changes that lie between them go unseen:
of 60000 rows they may be 80 consecutive ones with 80000 weights, and some thousand with a few
hundred weights.  Changes spread over the data are seen.  All of it took 0.8 % of an epoch of 49 ms
and 1.4 % of one of 23 ms; of shorter ones more, for about 0.18 ms of it is Python: 6 % of 4 ms,
nearly half of the 0.4 ms of digits (November 2026, an EPYC with AVX-512).
"""

import joblib
import numpy as np
import scipy.sparse

from fastbp.data.row_source import MappedRows, blocks_of
from fastbp.engine import network
from fastbp.engine.precision import PRECISIONS
from fastbp.streams.source import describe_files
from fastbp.streams.windows import StreamedRows
from fastbp.training.causes import rows_per_step
from fastbp.training.meaning import describe, digest

MOST_PARTS = 1000  # of a list, that are looked at one by one
ALWAYS_READ = 2**16  # bytes of an array, 3 us
# Of larger ones: bytes for each parameter and sample. An epoch takes 6 operations for each, at
# most 2e11 of them a second on two cores; an array is read at 1e10 bytes a second. A budget of
# a fifth of a per cent by this reckoning.
READ_PER_WORK = 0.002 * 6 / 2e11 * 1e10


def identify(problem, *, incremental):
    """Fingerprints of what a call works on, where a later one may ask for them.

    Parameters
    ----------
    problem : fastbp.data.problem.Problem
    incremental : bool
        Whether this is a `partial_fit`: its training data are new each time.

    Returns
    -------
    dict of str to bytes
        "goal" for the objective and the scoring (`identify_goal`); "steps" for the rows for which
        together the penalty counts once, as far as the parameters say; "validation" for the user's
        validation data; "problem" for all of the data of a fit, and the rows of its steps.
    """
    settings, held_out = problem.settings, problem.held_out
    if not (settings.warm_start or incremental):
        return {}
    found = {"goal": identify_goal(problem), "steps": digest(_rows_of_penalty(settings, np.inf))}
    if held_out is not None:
        found["validation"] = digest(*_arrays_of(held_out.problem))
    if not incremental:
        n_rows, splits = problem.X.shape[0], None
        if held_out is None and settings.early_stopping:
            splits = settings.validation_fraction
            n_rows -= int(np.ceil(splits * n_rows))
        rows = _rows_of_penalty(settings, n_rows)
        aside = found.get("validation", splits)
        found["problem"] = digest(rows, aside, *_arrays_of(problem))
    return found


def identify_settings(estimator, *, leave_out=()):
    """Fingerprints of an estimator's class and of each of its parameters, for a file.

    Returns
    -------
    dict of str to str
    """
    found = {"estimator": type(estimator).__name__}
    for name, value in estimator.get_params(deep=False).items():
        if name not in leave_out:
            found[name] = digest(describe(value)).hex()
    return found


def identify_data(problem, engine):
    """Fingerprints of all bytes that a fit works on, for a file.

    Parameters
    ----------
    problem : Problem
    engine : module
        Whose fingerprints are taken.

    Returns
    -------
    dict of str to str
        "X", "y", "sample_weight", "rows to train on" and, of the user's validation data, "X_val",
        "y_val" and "sample_weight_val"; of rows that pass by in windows what is known without a
        pass over X, "X" and "y and sample_weight".
    """
    found = _name_data(problem, engine)
    if problem.held_out is not None:
        names = _name_data(problem.held_out.problem, engine)
        names.pop("rows to train on", None)
        found |= {f"{name}_val": part for name, part in names.items()}
    return {name: digest(part).hex() for name, part in found.items()}


def identify_given(value, engine):
    """Fingerprint of an argument as a user gave it: an array, a frame, a list, a dict of these."""
    if scipy.sparse.issparse(value) and value.format in ("csr", "csc"):
        parts = value.format, value.shape, [_of_whole(engine, part) for part in _parts_of(value)]
    elif type(value) is np.ndarray and value.dtype.kind in "biuf":
        parts = _of_whole(engine, value)
    elif type(value) in (list, tuple) and all(type(one) is not str for one in value):
        parts = [identify_given(one, engine) for one in value[:MOST_PARTS]]
        parts += [joblib.hash(value[MOST_PARTS:])]
    else:
        parts = joblib.hash(value)
    return digest(parts).hex()


def _name_data(problem, engine):
    units = [array.tobytes() for array in problem.target_units]
    classes = None if problem.classes is None else np.asarray(problem.classes).tolist()
    if isinstance(problem.X, StreamedRows):
        found = problem.X.identity()
        y = "y and sample_weight"
        return found | {"X": (problem.continues, found["X"]), y: (found[y], units, classes)}
    return {
        "X": [
            _of_whole(engine, problem.continues),
            *(_of_whole(engine, part) for _, X in blocks_of(problem.X) for part in _parts_of(X)),
        ],
        "y": (_of_whole(engine, problem.targets), units, classes),
        "sample_weight": _of_whole(engine, problem.sample_weight),
        "rows to train on": [_of_whole(engine, part) for part in problem.parts or ()],
    }


def _of_whole(engine, array):
    """Shape, dtype and fingerprint of all of an array."""
    if array is None:
        return None
    array = np.ascontiguousarray(array)
    return array.shape, array.dtype.str, engine.fingerprint(array)


def _parts_of(X):
    """Arrays that make a dense or sparse X."""
    return (X.data, X.indices, X.indptr) if scipy.sparse.issparse(X) else (X,)


def identify_goal(problem):
    """Fingerprint of what is minimised and measured, and how precisely, but for the data."""
    settings = problem.settings
    units = [array.tobytes() for array in problem.target_units]
    weights = [table.tobytes() for table in problem.class_weights or ()]
    entries = list(map(describe, (problem.loss, *problem.activations, settings.scoring)))
    parts = [entries, settings.alpha, problem.dropout, units, weights]
    if problem.matmul_precision != PRECISIONS[0]:  # else as those who knew no other named it
        parts.append(problem.matmul_precision)
    return digest(*parts)


def update_goal(seen, problem):
    """Take the goal's fingerprint again, at the end of a call, to be kept.

    What a scorer or a loss of the user's changes in itself while it is asked (a list to which it
    appends) is then no change between calls, and what the user changes there is one.
    """
    if seen and (problem.watch or callable(problem.settings.scoring)):
        seen["goal"] = identify_goal(problem)


def _rows_of_penalty(settings, n_rows):
    """Return by how many rows the penalty is divided, which without one does not matter."""
    return rows_per_step(settings, n_rows) if settings.alpha else None


def identify_weights(engine, coefs, intercepts):
    """Fingerprint of the weights of a fitted network, in bytes."""
    layers = [*coefs, *intercepts]
    return digest(
        coefs[0].dtype.str, [engine.fingerprint(np.ascontiguousarray(part)) for part in layers]
    )


def _arrays_of(problem):
    """Yield shapes, dtypes and fingerprints of the arrays of a problem."""
    X = problem.X
    if isinstance(X, StreamedRows):
        yield X.identity()
        yield describe_files(X.source)
        return
    work = network.count_params(problem.layer_sizes) * X.shape[0]
    budget = max(int(READ_PER_WORK * work), ALWAYS_READ)
    if isinstance(X, MappedRows):
        X = X.array
        if not X.flags.c_contiguous:  # some whole rows of it
            X = np.ascontiguousarray(X[:: -(-X.nbytes // budget)])
    for array in (*_parts_of(X), problem.targets, problem.sample_weight):
        if array is None:
            yield None
        else:
            every = -(-array.nbytes // budget) or 1
            yield array.shape, array.dtype.str, problem.engine.fingerprint(array, every)
