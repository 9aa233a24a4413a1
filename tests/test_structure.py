"""The shape of the package: imports go downwards, nothing costly is imported, names are public."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from engines import ENGINES

import fastbp

PACKAGE = Path(fastbp.__file__).parent

# Floors of the house, from the bottom; a room may import from lower floors only. A file that is
# not named here is a leaf: it may import all of these, and nobody may import it but the package's
# own list of names.
FLOORS = [
    {"_unusable", "engine", "engine.copies", "safetensors", "suggestions", "tables"},
    {"descriptions"},
    {"activations", "losses", "optimizers"},
    {
        "_annotations",
        "callbacks",
        "network",
        "parallel",
        "pipelines",
        "randomness",
        "reports",
        "scaling",
        "schedules",
    },
    {"best_constant"},
    {"attributes", "scoring", "sameness", "versions"},
    {"_parameters", "diagnosis", "stopping", "resuming"},
    {"_validation", "class_weights", "architecture"},
    {"problem"},
    {"held_out"},
    {"training"},
    {"lbfgs"},
    {"export", "export.fitted"},
    {"export.c_source", "export.mlp"},
    {"estimators"},
    {"inspection.batch"},
    {"inspection.backpropagation", "inspection.symptoms"},
    {"inspection.gradient_check", "inspection.diagnosis"},
    {"inspection"},
]
TOP = len(FLOORS)


def name_of(path):
    """Return 'engine' for engine/__init__.py, 'network' for network.py, '' for the package."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def floor_of(name):
    """Return a room's floor; what is inside the engine belongs to the ground floor."""
    for floor, rooms in enumerate(FLOORS):
        if name in rooms:
            return floor
    return 0 if name.startswith("engine.") else TOP


def list_imports(path):
    """Yield the rooms of fastbp that a file imports, anywhere in it."""
    package = ("fastbp", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, [base, node.module]))
            inside = [f"{module}.{alias.name}" for alias in node.names]
            rooms = [name for name in inside if name.removeprefix("fastbp.") in MODULES]
            targets = rooms or [module]
        else:
            continue
        for target in targets:
            if target == "fastbp" or target.startswith("fastbp."):
                yield target.removeprefix("fastbp").removeprefix(".")


def test_files_were_found():
    assert {"", "engine", "estimators", "network", "training"} <= set(MODULES)
    assert "activations" in set(list_imports(MODULES["estimators"]))


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_downwards(name):
    for target in list_imports(MODULES[name]):
        if name in ("", "__main__"):
            continue  # the list of names and the program stand above all
        assert target, f"{name} imports the package itself: it must import the room it needs"
        same_engine = name.split(".")[0] == target.split(".")[0] == "engine"
        assert same_engine or floor_of(target) < floor_of(name), f"{name} imports {target}"


@pytest.mark.parametrize("name", sorted(FLOORS[2]))
def test_tables_import_no_arrays(name):
    """Rows are plain Python, so that every engine and every test can read them."""
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module] if isinstance(node, ast.ImportFrom) else []
        assert {module.split(".")[0] for module in modules} <= {
            "math",
            "numbers",
            "itertools",
            "dataclasses",
            "collections",
            "typing",
            "fastbp",
        }


def test_public_names():
    assert set(fastbp.__all__) >= {"BackpropClassifier", "BackpropRegressor", "show_versions"}
    for name in fastbp.__all__:
        assert hasattr(fastbp, name)
        assert name in dir(fastbp)
    assert len(set(fastbp.__all__)) == len(fastbp.__all__)


def list_loaded_modules(*parts):
    """Return the modules loaded after each part of a program in a fresh process."""
    program = "\nimport sys; print(*sorted(sys.modules))\n".join([*parts, ""])
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [set(line.split()) for line in done.stdout.splitlines()[-len(parts) :]]


def packages(modules):
    """Return the top-level names."""
    return {name.split(".")[0] for name in modules}


COSTLY = {"numba", "llvmlite", "matplotlib", "torch", "dask", "ray", "IPython"}

FIT = """
import numpy as np, warnings
warnings.simplefilter("ignore")
from fastbp import BackpropClassifier, BackpropRegressor
X = np.random.default_rng(0).standard_normal((50, 4))
for solver in ("sgd", "adam", "lbfgs"):
    BackpropClassifier((5,), solver=solver, max_iter=3).fit(X, X[:, 0] > 0).predict_proba(X)
    BackpropRegressor(hidden_layer_sizes=(5,), solver=solver, max_iter=3).fit(X, X[:, 0]).score(
        X, X[:, 0]
    )
more = dict(dropout=0.1, max_grad_norm=1.0, ema_decay=0.9, max_iter=3)
for solver, rate in (("adamw", "cosine"), ("rmsprop", "linear"), ("lion", "one_cycle")):
    BackpropClassifier((5,), solver=solver, learning_rate=rate, **more).fit(X, X[:, 0] > 0)
"""


def test_imports_of_the_package_and_of_a_fit():
    """Little beside scikit-learn, no engine before the first fit, and nothing costly in one."""
    imported, fitted = list_loaded_modules("import fastbp", FIT)
    (peer,) = list_loaded_modules("import sklearn.neural_network")
    assert packages(imported) - packages(peer) <= {"fastbp"}
    assert "fastbp.engine.native.engine" not in imported
    assert not packages(imported) & COSTLY
    allowed = {"numba", "llvmlite"} if ENGINES == ["numba"] else set()
    assert not packages(fitted) & COSTLY - allowed
