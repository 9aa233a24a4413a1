"""Whether a call of `fit` or `partial_fit` works on what the last one worked on.

Scores, best weights, counts of epochs without progress and held-out rows mean something only for
the data, the weights and the objective that they were found with.  A fit that may be followed by
one that goes on (`warm_start`, `partial_fit` with validation data) therefore leaves fingerprints,
as plain bytes; whatever was fitted without them counts as different.  What follows from a
difference is decided in `resuming`.

Against accidents, not against somebody who looks for collisions.  Arrays are read by the engine at
the speed of the memory; where that would be much of an epoch only evenly spaced parts of a large
array are read, so that a change of a few values may go unseen there: the scores are then those of
nearly the same data.  All of it took 0.7 % of an epoch of 50 ms and 1.2 % of one of 22 ms; of
shorter ones more, for about 0.13 ms of it is Python: 4 % of 4 ms, a third of the 0.4 ms of digits
(November 2026, an EPYC with AVX-512).
"""

import functools
import hashlib
import inspect
from types import CodeType, FunctionType, MethodType

import numpy as np
import scipy.sparse

from fastbp.descriptions import Description
from fastbp.engine import network

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
        "validation" for the user's validation data, "problem" for all of the data of a fit; both
        with the objective and the scoring.
    """
    settings, held_out = problem.settings, problem.held_out
    if not (settings.warm_start if not incremental else held_out is not None):
        return {}
    goal = _goal_of(problem)
    found = {}
    if held_out is not None:
        found["validation"] = _digest(goal, *_arrays_of(held_out.problem))
    if not incremental:
        splits = settings.validation_fraction if settings.early_stopping else None
        aside = found.get("validation", splits)
        found["problem"] = _digest(goal, aside, *_arrays_of(problem))
    return found


def identify_weights(engine, coefs, intercepts):
    """Fingerprint of the weights of a fitted network, in bytes."""
    layers = [*coefs, *intercepts]
    return _digest(
        coefs[0].dtype.str, [engine.fingerprint(np.ascontiguousarray(part)) for part in layers]
    )


def _goal_of(problem):
    """Return what is minimised and measured, but for the data."""
    units = [array.tobytes() for array in problem.target_units]
    settings = problem.settings
    objective = (problem.loss, problem.activations, settings.alpha, problem.dropout, units)
    return _digest(*map(describe, (objective, settings.scoring)))


def _arrays_of(problem):
    """Yield shapes, dtypes and fingerprints of the arrays of a problem."""
    X = problem.X
    parts = (X.data, X.indices, X.indptr) if scipy.sparse.issparse(X) else (X,)
    work = network.count_params(problem.layer_sizes) * X.shape[0]
    for array in (*parts, problem.targets, problem.sample_weight):
        if array is None:
            yield None
        else:
            budget = max(int(READ_PER_WORK * work), ALWAYS_READ)
            every = -(-array.nbytes // budget) or 1
            yield array.shape, array.dtype.str, problem.engine.fingerprint(array, every)


def _digest(*parts):
    """Return 16 bytes for plain values."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).digest()


PLAIN = bool | int | float | complex | str | bytes | None
KEPT = PLAIN | dict | np.ndarray | np.generic | FunctionType | functools.partial | type
DEEPEST = 10  # settings within settings


def describe(value, depth=0):
    """Return a setting as plain values: equal ones where two settings mean the same.

    A function of fastbp's is its name, another one its code, with the plain values, arrays and
    functions that it closes over; an object of the user's is its class and what it holds of these.
    """
    if isinstance(value, PLAIN):
        return value
    if depth > DEEPEST:  # a function that closes over itself, a list that holds itself
        return type(value).__name__
    inside = functools.partial(describe, depth=depth + 1)
    value = getattr(value, "py_func", value)  # of a function that Numba has compiled
    if isinstance(value, np.generic):
        return inside(value.item())
    if isinstance(value, np.ndarray) and value.dtype.kind != "O":
        content = hashlib.blake2b(np.ascontiguousarray(value).view(np.uint8)).digest()
        return value.shape, value.dtype.str, content
    if isinstance(value, list | tuple):
        return list(map(inside, value))
    if isinstance(value, set | frozenset):
        return sorted(map(repr, map(inside, value)))
    if isinstance(value, dict):
        return [(inside(key), inside(item)) for key, item in value.items()]
    if isinstance(value, FunctionType):
        return _describe_function(value, inside)
    if isinstance(value, functools.partial):
        return inside([value.func, value.args, value.keywords])
    if isinstance(value, MethodType):
        return inside([value.__func__, value.__self__])
    if isinstance(value, Description):
        return _name_of(type(value)), inside(vars(value))  # its settings, and nothing else
    if callable(value) and hasattr(value, "__name__"):  # a class, a ufunc, a built-in function
        return _name_of(value)
    return _name_of(type(value)), inside(_plain_parts(getattr(value, "__dict__", {})))


def _name_of(thing):
    return getattr(thing, "__module__", None), getattr(thing, "__qualname__", thing.__name__)


def _plain_parts(named):
    """Keep what describes a function or an object; lists and the like may be what it collects."""
    return {name: value for name, value in named.items() if isinstance(value, KEPT)}


def _describe_function(function, inside):
    """Return a function's code and what it brings with it; ours by name, for they do not change."""
    if str(function.__module__).startswith("fastbp."):
        return _name_of(function)
    closure = _plain_parts(inspect.getclosurevars(function).nonlocals)
    brings = [function.__defaults__, function.__kwdefaults__, closure]
    return _describe_code(function.__code__, inside), inside(brings)


def _describe_code(code, inside):
    """Return what code does, without the place where it was written."""
    constants = [
        _describe_code(item, inside) if isinstance(item, CodeType) else inside(item)
        for item in code.co_consts
    ]
    return code.co_code, code.co_names, code.co_varnames[: code.co_argcount], constants
