"""Annotations: the package is typed, and what is public says what it takes and gives."""

import inspect
from pathlib import Path

import fastbp

PUBLIC = [getattr(fastbp, name) for name in fastbp.__all__]
CLASSES = [entry for entry in PUBLIC if inspect.isclass(entry)]


def list_callables():
    """Yield (name, function) of what users call and fastbp wrote itself."""
    for entry in PUBLIC:
        if inspect.isfunction(entry):
            yield entry.__name__, entry
    for kind in CLASSES:
        yield kind.__name__, kind.__init__
        for name in dir(kind):
            function = inspect.unwrap(getattr(kind, name))
            function = getattr(function, "__func__", function)
            ours = str(getattr(function, "__module__", "")).startswith("fastbp")
            if not name.startswith("_") and inspect.isfunction(function) and ours:
                yield f"{kind.__name__}.{name}", function


CALLABLES = dict(list_callables())


def test_callables_were_found():
    assert {
        "show_versions", "Loss", "BackpropClassifier", "BackpropClassifier.fit",
        "BackpropClassifier.partial_fit", "BackpropClassifier.transform",
        "BackpropRegressor.predict", "BackpropRegressor.from_sklearn",
    } <= set(CALLABLES)  # fmt: skip


def test_signatures_are_annotated():
    for name, function in CALLABLES.items():
        signature = inspect.signature(function)
        assert signature.return_annotation is not inspect.Signature.empty, name
        for parameter in signature.parameters.values():
            if parameter.name not in ("self", "cls"):
                assert parameter.annotation is not inspect.Parameter.empty, (name, parameter.name)


def test_type_checkers_are_told():
    assert (Path(fastbp.__file__).parent / "py.typed").exists()


def test_all_is_what_a_star_import_gives():
    namespace = {}
    exec("from fastbp import *", namespace)
    assert set(namespace) - {"__builtins__"} == set(fastbp.__all__)
    assert fastbp.__all__ == sorted(fastbp.__all__)
