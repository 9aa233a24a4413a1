"""Which copy of fastbp runs, and which built copy it hides.

``python -m`` and ``python -m pytest`` put the current folder first on ``sys.path``.  In a checkout
that was never built, ``fastbp/`` there hides a complete one that pip installed.  This file finds
that out and says so; it imports no engine and is read only when an engine is missing or somebody
asks for the versions.
"""

import sys
from importlib.machinery import EXTENSION_SUFFIXES, PathFinder
from pathlib import Path

PACKAGE_PATH = Path(__file__).resolve().parent.parent


def find_native_engine(package_path=PACKAGE_PATH):
    """Return the path of the compiled engine in a copy of fastbp, or None if it was not built."""
    native = Path(package_path) / "engine" / "native"
    candidates = (native / f"engine{suffix}" for suffix in EXTENSION_SUFFIXES)
    return next((path for path in candidates if path.is_file()), None)


def find_hidden_package():
    """Return the path of a built fastbp that this unbuilt copy hides, or None."""
    if find_native_engine() is not None:
        return None
    elsewhere = [entry for entry in sys.path if Path(entry).resolve() != PACKAGE_PATH.parent]
    for finder in sys.meta_path:
        if not hasattr(finder, "find_spec"):
            continue
        # An editable install answers through a finder of its own, which does not look at sys.path.
        spec = finder.find_spec("fastbp", elsewhere if finder is PathFinder else None)
        if spec is None or spec.origin is None:
            continue
        package_path = Path(spec.origin).resolve().parent
        if package_path != PACKAGE_PATH and find_native_engine(package_path):
            return package_path
    return None


def explain_copies():
    """Return in words which fastbp runs, which built one it hides, and how to fix that."""
    hidden = find_hidden_package()
    if hidden is None:
        return f"The fastbp in use is {PACKAGE_PATH}."
    return (
        f"The fastbp in use, {PACKAGE_PATH}, is a copy without the compiled engine; it hides the "
        f"installed one in {hidden}, because Python looked in the current folder first. Start "
        f"Python from another folder, or build this copy: `pip install -e {PACKAGE_PATH.parent}`."
    )
