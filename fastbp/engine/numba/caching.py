"""Compiled functions on disk: which may be cached, and when a cached one is too old.

Numba's cache notices a change of the file that holds a function, not of what the function calls
(helpers, limits, entries of tables in other files): a digest of all these is part of the cached
name.
A function that closes over another is never found again (numba issue 6264): formulas are put into
a kernel's loop as its global names, by `copy_with`.  Where no cache folder can be written functions
are compiled in every process.
"""

import hashlib
from pathlib import Path
from types import CellType, FunctionType

from numba import njit

OPTIONS = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
# For functions that jitted code alone calls (Python would jump to address 0): Numba otherwise makes
# two further functions of each, which take arguments from Python and from C.
INSIDE = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}


def _digest_sources():
    here = Path(__file__).parent
    names = ("activations.py", "losses/__init__.py", "optimizers.py")  # where formulas are
    tables = [here.parent.parent / name for name in names]
    digest = hashlib.sha256()
    try:
        for path in [*sorted(here.glob("*.py")), here.parent / "contract.py", *tables]:
            digest.update(path.read_bytes())
    except OSError:  # not in plain files
        return None
    return digest.hexdigest()[:16]


_DIGEST = _digest_sources()


def cached(decorate, function, **options):
    """Apply a decorator of Numba to a function, with the disk cache where there is one."""
    if _DIGEST is not None:
        function.__qualname__ = f"{function.__qualname__}_{_DIGEST}"
        try:
            return decorate(cache=True, **options)(function)
        except (RuntimeError, OSError):  # no folder for the cache
            pass
    return decorate(**options)(function)


def jit(function):
    """Compile a function of this package when it is first called."""
    return cached(njit, function, no_cfunc_wrapper=True, **OPTIONS)


def jit_inside(function):
    """As `jit`, for a function that only jitted code calls."""
    return cached(njit, function, **INSIDE, **OPTIONS)


def copy_with(function, name, **names):
    """Copy a function under another name, with some of the names that it reads bound anew."""
    code, cells = function.__code__, function.__closure__ or ()
    bound = {**function.__globals__, **names}
    closed = (names.get(n, c.cell_contents) for n, c in zip(code.co_freevars, cells, strict=True))
    closure = tuple(map(CellType, closed))
    copy = FunctionType(code, bound, name, function.__defaults__, closure)
    copy.__qualname__ = name
    return copy
