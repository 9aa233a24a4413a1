"""A scalar Python function as a compiled one of dual numbers, or an error that shows its line.

Here a user's function meets Numba: what makes two functions the same (so that each is compiled once
per process, also when copies of it arrive from another process), helper functions that it calls,
and the translation of Numba's errors.
"""

import inspect
import linecache
from types import FunctionType

from numba import njit
from numba.core.dispatcher import Dispatcher
from numba.core.errors import NumbaError

from fastbp.engine.numba.caching import OPTIONS, copy_with
from fastbp.engine.numba.duals import PLAIN, Dual

OURS = ("fastbp.activations", "fastbp.losses", "fastbp.optimizers")


def is_ours(function):
    """Whether a function is one of the formulas in fastbp's own tables (or None)."""
    return function is None or getattr(function, "__module__", None) in OURS


def plain_function(function):
    """Return the Python function behind a function that may be jitted already."""
    return function.py_func if isinstance(function, Dispatcher) else function


def _surroundings(function):
    """Names and values from outside that a function reads."""
    outside = inspect.getclosurevars(function)
    return {**outside.globals, **outside.nonlocals}


def _is_helper(value, function):
    return isinstance(value, FunctionType) and value is not function


def identity_of(function):
    """Hashable thing that is equal for functions which compute the same with the same constants."""
    if function is None or is_ours(function):
        return function
    function = plain_function(function)
    if not isinstance(function, FunctionType):
        return function
    seen = []
    for name, value in sorted(_surroundings(function).items()):
        if _is_helper(value, function):
            value = identity_of(value)
        try:
            hash(value)
        except TypeError:
            value = id(value)
        seen.append((name, type(value), value))
    return function.__code__, function.__defaults__, tuple(seen)


def jit_formula(function):
    """Jit a function together with the plain functions that it calls by a global name."""
    function = plain_function(function)
    helpers = {
        name: jit_formula(value)
        for name, value in _surroundings(function).items()
        if _is_helper(value, function)
    }
    if helpers:
        function = copy_with(function, function.__name__, **helpers)
    return njit(**OPTIONS, forceinline=True)(function)


def compile_formula(function, kinds):
    """Compile a scalar function for arguments of the Numba types `kinds`.

    Raises
    ------
    ValueError
        With the line and the construct that cannot be compiled.
    """
    plain = plain_function(function)
    if not isinstance(plain, FunctionType):
        raise ValueError(
            f"{function!r} cannot be compiled: expected a plain Python function (def or lambda), "
            f"got {type(function).__name__}. Write a function that calls it."
        )
    jitted = jit_formula(plain)
    try:
        jitted.compile(kinds)
    except NumbaError as error:
        raise ValueError(explain(plain, error)) from error
    except TypeError as error:  # the number of arguments
        raise ValueError(f"{describe(plain)} cannot be compiled: {error}.") from error
    returned = jitted.overloads[kinds].signature.return_type
    if not isinstance(returned, (Dual, *PLAIN)):
        raise ValueError(
            f"{describe(plain)} cannot be compiled: it must return a number in every branch, but "
            f"returns {_without_duals(str(returned))}."
        )
    return jitted


def describe(function):
    """Name a function and the place where it is written."""
    code = plain_function(function).__code__
    return f"{function.__name__!r} ({code.co_filename}, line {code.co_firstlineno})"


def explain(function, error):
    """Say which line of a function and what in it Numba cannot compile."""
    where, code = error.loc, function.__code__
    inside = where is not None and where.filename == code.co_filename
    line = where.line if inside and where.line else code.co_firstlineno
    text = linecache.getline(code.co_filename, line).strip()
    return (
        f"{describe(function)} cannot be compiled. Line {line}: {text!r}: {_reason(error)}. A "
        "function for fastbp takes numbers and returns a number, with arithmetic, branches, loops "
        "and the elementwise functions of math and numpy."
    )


def _reason(error):
    """First sentence of a Numba error that is about the user's code."""
    noise = ("Failed in nopython mode", "During", "There are", "File ", "^", "compiler re-entrant")
    lines = [line.strip() for line in str(error).replace("\x1b[1m", "").splitlines()]
    lines = [line for line in lines if line and not line.startswith(noise)]
    reason = lines[0] if lines else str(error)
    if len(lines) > 1 and lines[1].startswith(">>>"):  # "No implementation of ... for signature:"
        reason = f"{reason} {lines[1][3:].strip()}"
    return _without_duals(reason).rstrip(".")


def _without_duals(text):
    return text.replace("Dual(float64)", "number").replace("Dual(float32)", "number")
