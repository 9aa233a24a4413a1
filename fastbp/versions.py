"""What runs here: engine, instruction set, package path and versions, as a bug report needs them.

This file only looks and reports, and refuses models that a later version saved.  It imports no
engine before it is asked, and Numba never: versions of other packages are read from their metadata.
"""

import platform
import re
from importlib import metadata
from typing import Any

from fastbp.engine import get_engine
from fastbp.engine.copies import PACKAGE_PATH
from fastbp.engine.parallel import available_threads

__version__ = "0.1.0"

DEPENDENCIES = ("numpy", "scipy", "scikit-learn", "numba")


def show_versions() -> None:
    """Print engine, instruction set, package path and versions: what a bug report should hold.

    Examples
    --------
    >>> import fastbp
    >>> fastbp.show_versions()  # doctest: +SKIP
    """
    facts = collect_versions()
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:<{width}}  {value}")


def collect_versions() -> dict[str, str]:
    """Describe the fastbp that runs.

    Returns
    -------
    facts : dict of str to str
        Engine, instruction set, threads, package path and versions, in the order in which
        `show_versions` prints them.
    """
    return {
        "fastbp": __version__,
        "package path": str(PACKAGE_PATH),
        **_describe_engine(),
        "threads available": str(available_threads()),
        "Python": platform.python_version(),
        **{name: _version_of(name) for name in DEPENDENCIES},
        "platform": platform.platform(),
    }


def _describe_engine() -> dict[str, str]:
    """Return engine, instruction set and Cython's version, or why there is no engine."""
    try:
        engine = get_engine("auto")
    except ImportError as error:
        return {"engine": f"none: {error}"}
    facts = {
        "engine": engine.NAME,
        "instruction set": engine.instruction_set(),
        "matmul path": engine.get_matmul_path(),  # of matmul_precision "high" and "medium"
    }
    # The type of a compiled function lives in a module named after the Cython that compiled it.
    compiler = type(engine.instruction_set).__module__
    if compiler.startswith("_cython_"):
        facts["built with Cython"] = compiler.removeprefix("_cython_").replace("_", ".")
    return facts


def _version_of(distribution: str) -> str:
    """Return the version of an installed distribution, without importing it."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


def refuse_newer(version: Any, what: str) -> None:
    """Raise ValueError if `version`, which saved a model, is a later minor version than this one.

    Older ones load: what a model holds is only added to.  A patch release adds nothing.

    Parameters
    ----------
    version : str
    what : str
        The saved thing, as the message names it.
    """
    found = re.match(r"(\d{1,9})\.(\d{1,9})(?!\d)", str(version))
    if found is None:
        raise ValueError(f"{what} names {version!r} as the version of fastbp that saved it.")
    here = __version__.split(".")[:2]
    if tuple(map(int, found.groups())) > tuple(map(int, here)):
        raise ValueError(
            f"{what} was saved by fastbp {version}; this is fastbp {__version__}, which does not "
            f"know what later versions keep in a model. Install fastbp {version} or later."
        )
