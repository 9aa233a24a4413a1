"""The interface between the Python modules and the engines.

Every engine is a module that offers the same verbs: `contract` says which, and what they refuse.
This file only chooses the module, and finds the compiler of formulas that have no C loop (users'
own); it computes nothing, and imports Numba when somebody asks for it.
"""

import multiprocessing
import warnings
from importlib import import_module

import numpy as np

ENGINES = {"cython": "fastbp.engine.native.engine", "numba": "fastbp.engine.numba"}
ENGINE_NAMES = ("auto", *ENGINES)
FLOATS = (np.dtype(np.float64), np.dtype(np.float32))  # the first is for what has neither

_LOADED = {}


def get_engine(name="auto"):
    """Engine module of a name.

    Parameters
    ----------
    name : {"auto", "cython", "numba"}, default="auto"
        "auto" takes the compiled extension, or Numba (with one warning) where it was not built.

    Returns
    -------
    fastbp.engine.contract.Engine

    Raises
    ------
    ImportError
        When the engine's extension module was not built, or Numba cannot be imported; the message
        says what to do.
    """
    module = _LOADED.get(name) if isinstance(name, str) else None
    if module is None:
        module = _LOADED[name] = _load(name)
    return module


def _load(name):
    if name not in ENGINE_NAMES:
        raise ValueError(f"engine must be one of {set(ENGINE_NAMES)}. Got {name!r} instead.")
    if name == "numba":
        return _import_numba("fastbp.engine.numba", "engine='numba'")
    path = ENGINES["cython"]
    try:
        return import_module(path)
    except ImportError as error:
        from fastbp.engine.copies import explain_copies

        message = (
            f"fastbp's compiled engine ({path}) cannot be imported: {error}. {explain_copies()} "
            "To build the engine, install a C compiler (for example `apt install gcc`) and install "
            "fastbp again; with the environment variable FASTBP_REQUIRE_EXTENSION=1 the install "
            "shows why it fails."
        )
        if name == "cython":
            raise ImportError(message) from error
        engine = _import_numba("fastbp.engine.numba", f"{message} Without it")
        if multiprocessing.current_process().name == "MainProcess":  # once, not in every worker
            warnings.warn(
                f"{message} Until then engine='auto' is the Numba engine: slower on small "
                "networks, one thread, some seconds for the first fit.",
                RuntimeWarning,
                stacklevel=2,
            )
        return engine


def find_kernels():
    """Find the module that compiles formulas without a C loop, `fastbp.engine.numba.kernels`.

    Raises
    ------
    ImportError
        When Numba cannot be imported.
    """
    return _import_numba("fastbp.engine.numba.kernels", "An activation or loss of your own")


def watch_formulas(activations, loss, targets, dtype):
    """Check users' functions before training; returns what watches them in it, or None.

    Raises
    ------
    ValueError
        If a function cannot be compiled, or its values or derivatives are not what they must be.
    ImportError
        When Numba cannot be imported.
    """
    if all(entry.kernel is not None for entry in (*activations, loss)):
        return None
    find_kernels()
    return import_module("fastbp.engine.numba.checks").Watch(activations, loss, targets, dtype)


def let_activations_raise(engine, coefs, intercepts, activations, X, scores):
    """Let users' activations raise what they raised in a prediction, where they made NaN of it.

    Compiled code cannot: it fills a block of rows with NaN.  They are computed again.
    """
    if all(entry.kernel is not None for entry in activations) or engine.all_finite(scores):
        return
    rows = np.flatnonzero(~np.isfinite(scores).all(axis=1))
    checks = import_module("fastbp.engine.numba.checks")
    checks.let_activations_raise(engine, coefs, intercepts, activations, X[rows])


def _import_numba(path, who):
    try:
        return import_module(path)
    except Exception as error:  # a Numba that does not fit its NumPy fails in many ways
        raise ImportError(
            f"{who} needs Numba, which cannot be imported: {error}. Install one that fits your "
            "Python and NumPy: `pip install --upgrade numba`."
        ) from error
