"""A scalar Python function as a compiled one of dual numbers, or an error that shows its line.

Here a user's function meets Numba: what makes two functions the same (so that each is compiled once
per process, also when copies of it arrive from another process), helper functions that it calls,
and the translation of Numba's errors.
"""

import inspect
import linecache
from functools import partial
from types import BuiltinFunctionType, FunctionType

import numpy as np
from numba import njit, types
from numba.core.dispatcher import Dispatcher

from fastbp.engine.numba import derivatives  # noqa: F401  (registers the rules)
from fastbp.engine.numba.caching import INSIDE, OPTIONS, copy_with
from fastbp.engine.numba.duals import PLAIN, Dual

OURS = ("fastbp.activations", "fastbp.losses", "fastbp.optimizers")
MOST_HELPERS = 100
GUIDE = (
    "A function for fastbp takes numbers and returns a number, with arithmetic, branches, loops "
    "and the elementwise functions of math and numpy."
)
FUNCTION = None  # what `copy_with` binds in these two


def of_one(x):
    """Call a function that has no Python code."""
    return FUNCTION(x)


def of_two(x, y):
    """Call a function that has no Python code."""
    return FUNCTION(x, y)


def is_ours(function):
    """Whether a function is one of the formulas in fastbp's own tables (or None)."""
    return function is None or getattr(function, "__module__", None) in OURS


def plain_function(function):
    """Return the Python function behind a jitted one or a `partial` that binds keywords.

    Numba knows positional parameters only: those that are bound, and keyword-only ones, become
    positional ones with defaults.  A function of `math` or NumPy comes back as it is.
    """
    if isinstance(function, Dispatcher):
        return plain_function(function.py_func)
    if isinstance(function, partial):
        inner = plain_function(function.func)
        return _with_defaults(inner, function.keywords) if function.keywords else inner
    if isinstance(function, FunctionType) and function.__code__.co_kwonlyargcount:
        return _with_defaults(function, {})
    return function


def _with_defaults(function, keywords):
    if not isinstance(function, FunctionType):
        raise ValueError(
            f"{function!r} cannot be compiled with the keywords {list(keywords)}: Numba does not "
            "know them. Write a function that calls it."
        )
    code = function.__code__
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    defaults = function.__defaults__ or ()
    given = dict(zip(names[code.co_argcount - len(defaults) :], defaults, strict=False))
    given |= (function.__kwdefaults__ or {}) | keywords
    last = [name for name in names if name in given]
    if names[len(names) - len(last) :] != tuple(last) or len(given) != len(last):
        raise ValueError(
            f"{describe(function)} cannot be compiled with the keywords {list(keywords)}: they "
            f"must be the names of its last parameters, of {list(names)}."
        )
    return FunctionType(
        code.replace(co_argcount=len(names), co_kwonlyargcount=0),
        function.__globals__,
        function.__name__,
        tuple(given[name] for name in last),
        function.__closure__,
    )


def _surroundings(function):
    """Names and values from outside that a function reads."""
    outside = inspect.getclosurevars(function)
    return {**outside.globals, **outside.nonlocals}


def _with_helpers(function):
    """List a function and the plain functions that it calls by a global name, directly or not."""
    found = [function]
    for one in found:  # which grows meanwhile
        values = _surroundings(one).values()
        found += [f for f in dict.fromkeys(filter(_is_plain, values)) if f not in found]
        if len(found) > MOST_HELPERS:
            raise ValueError(
                f"{describe(function)} cannot be compiled: it calls, directly or not, more than "
                f"{MOST_HELPERS} Python functions. {GUIDE}"
            )
    return found


def _is_plain(value):
    return isinstance(value, FunctionType)


def identity_of(function):
    """Hashable thing that is equal for functions which compute the same with the same constants."""
    if function is None or is_ours(function):
        return function
    function = plain_function(function)
    if not _is_plain(function):
        return function
    functions = _with_helpers(function)
    identity = []
    for one in functions:
        outside = {**_surroundings(one), "__defaults__": one.__defaults__}
        for name, value in sorted(outside.items()):
            if _is_plain(value):
                value = functions.index(value)
            try:
                hash(value)
            except TypeError:
                value = id(value)
            identity.append((name, type(value), value))
        identity.append(one.__code__)
    return tuple(identity)


def jit_formula(function):
    """Jit a function together with the plain functions that it calls by a global name."""
    function = plain_function(function)
    _with_helpers(function)
    return _jit(function, {})


def _jit(function, jitted):
    """Jit a function; `jitted` has those that are done, and None for those that are under way."""
    jitted[function] = None
    helpers = {}
    for name, value in _surroundings(function).items():
        if _is_plain(value):
            helper = jitted[value] if value in jitted else _jit(value, jitted)
            if helper is not None:  # a function that calls itself is left to Numba
                helpers[name] = helper
    if helpers:
        copy = copy_with(function, function.__name__, **helpers)
    jitted[function] = njit(**OPTIONS, **INSIDE, forceinline=True)(copy if helpers else function)
    return jitted[function]


def compile_formula(function, kinds, *, returns=True):
    """Compile a function for arguments of the Numba types `kinds`; it `returns` a number, or None.

    Raises
    ------
    ValueError
        With the line and the construct that cannot be compiled.
    """
    function = plain_function(function)
    if isinstance(function, BuiltinFunctionType | np.ufunc):
        call = of_one if len(kinds) == 1 else of_two
        jitted = jit_formula(copy_with(call, function.__name__, FUNCTION=function))
    else:
        jitted = jit_formula(function)
        defaults = function.__defaults__ or ()
        n_left = function.__code__.co_argcount - len(kinds)
        if 0 < n_left <= len(defaults):
            kinds = kinds + tuple(map(types.Omitted, defaults[-n_left:]))
    try:
        jitted.compile(kinds)
    except TypeError as error:  # the number of arguments
        raise ValueError(f"{describe(function)} cannot be compiled: {error}.") from error
    except Exception as error:  # Numba's own, of many classes: no code of the user's has run
        raise ValueError(explain(function, error)) from error
    returned = jitted.overloads[kinds].signature.return_type
    if returns and not isinstance(returned, (Dual, *PLAIN)):
        if returned == types.none and all(isinstance(kind, Dual) for kind in kinds):
            function(*[0.5] * len(kinds))  # one that always raises does so here
        raise ValueError(
            f"{describe(function)} cannot be compiled: it must return a number in every branch, "
            f"but returns {_without_duals(str(returned))}."
        )
    return jitted


def describe(function):
    """Name a function and the place where it is written."""
    plain = plain_function(function)
    code = getattr(plain, "__code__", None)
    if code is None:
        return repr(function)
    return f"{plain.__name__!r} ({code.co_filename}, line {code.co_firstlineno})"


def explain(function, error):
    """Say which line of a function and what in it Numba cannot compile."""
    if not isinstance(function, FunctionType):
        return (
            f"{function!r} cannot be compiled: it is none of the functions of math and numpy that "
            "can be differentiated here. Write a function of numbers that computes the same."
        )
    where, code = getattr(error, "loc", None), function.__code__
    inside = where is not None and where.filename == code.co_filename
    line = where.line if inside and where.line else code.co_firstlineno
    text = linecache.getline(code.co_filename, line).strip()
    return (
        f"{describe(function)} cannot be compiled. Line {line}: {text!r}: {_reason(error)}. {GUIDE}"
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
