"""What runs here: engine, instruction set, package path, versions; and what an unbuilt copy hides.

This file only looks and reports.  It imports no engine before it is asked, and Numba never:
versions of other packages are read from their metadata.
"""

import os
import platform
import sys
from importlib import metadata
from importlib.machinery import EXTENSION_SUFFIXES, PathFinder
from pathlib import Path

PACKAGE_PATH = Path(__file__).resolve().parent
DEPENDENCIES = ("numpy", "scipy", "scikit-learn", "numba")


def versions():
    """Describe the running fastbp.

    Returns
    -------
    facts : dict of str to str
        Engine, instruction set, usable cores, package path, and versions, in the order in which
        `show_versions` prints them.
    """
    import fastbp

    return {
        "fastbp": fastbp.__version__,
        "package path": str(PACKAGE_PATH),
        **_describe_engine(),
        "usable cores": str(_count_usable_cores()),
        "Python": platform.python_version(),
        **{name: _version_of(name) for name in DEPENDENCIES},
        "platform": platform.platform(),
    }


def show_versions():
    """Print engine, instruction set, package path and versions: what a bug report should hold.

    Examples
    --------
    >>> import fastbp
    >>> fastbp.show_versions()  # doctest: +SKIP
    """
    facts = versions()
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:<{width}}  {value}")
    if hint := explain_shadowing():
        print(f"\n{hint}")


def find_native_engine(package_path=PACKAGE_PATH):
    """Return the path of the compiled engine in a copy of fastbp, or None if it was not built."""
    native = Path(package_path) / "engine" / "native"
    candidates = (native / f"engine{suffix}" for suffix in EXTENSION_SUFFIXES)
    return next((path for path in candidates if path.is_file()), None)


def find_shadowed_package():
    """Return the path of a built fastbp that this unbuilt copy hides, or None.

    ``python -m`` and ``python -m pytest`` put the current folder first on ``sys.path``.  In a
    checkout that was never built, ``fastbp/`` there hides a complete one that pip installed.
    """
    if find_native_engine() is not None:
        return None
    here = PACKAGE_PATH.parent
    elsewhere = [entry for entry in sys.path if Path(entry).resolve() != here]
    for finder in sys.meta_path:
        # An editable install answers through a finder of its own, which does not look at sys.path.
        path = elsewhere if finder is PathFinder else None
        spec = finder.find_spec("fastbp", path) if hasattr(finder, "find_spec") else None
        if spec is None or spec.origin is None:
            continue
        package_path = Path(spec.origin).resolve().parent
        if package_path != PACKAGE_PATH and find_native_engine(package_path):
            return package_path
    return None


def explain_shadowing():
    """Return the sentence that says which installed fastbp is hidden and how to mend it, or ""."""
    hidden = find_shadowed_package()
    if hidden is None:
        return ""
    return (
        f"The fastbp in use, {PACKAGE_PATH}, has no compiled engine and hides the installed one in "
        f"{hidden}. Python looked in the current folder first. Start Python from another folder, "
        f"or build this copy: run `pip install -e .` in {PACKAGE_PATH.parent}."
    )


def _describe_engine():
    """Return engine, instruction set and Cython version, or why there is no engine."""
    from fastbp.engine import get_engine

    try:
        engine = get_engine("auto")
    except ImportError as error:
        return {"engine": f"none: {error}"}
    facts = {"engine": engine.NAME, "instruction set": engine.instruction_set()}
    # The type of a compiled function lives in a module named after the Cython that compiled it.
    compiler = type(engine.instruction_set).__module__
    if compiler.startswith("_cython_"):
        facts["built with Cython"] = compiler.removeprefix("_cython_").replace("_", ".")
    return facts


def _count_usable_cores():
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _version_of(distribution):
    """Return the version of an installed distribution, without importing it."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"
