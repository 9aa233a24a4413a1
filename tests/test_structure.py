"""The shape of the package: imports go downwards, nothing costly is imported, names are public."""

import ast
import functools
import io
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest
from engines import ENGINES

import fastbp

PACKAGE = Path(fastbp.__file__).parent

CONTRIBUTING = Path(__file__).parents[1] / "CONTRIBUTING.md"


def read_wings():
    """Return the wings of CONTRIBUTING's table, from the top down: the modules of each."""
    text = CONTRIBUTING.read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`fastbp/[^|]*) \|", text, re.M)
    return [
        [name.removeprefix("fastbp/").removesuffix(".py").rstrip("/").replace("/", ".") for name in
         re.findall(r"`([^`]*)`", row)]
        for row in rows
    ]  # fmt: skip


WINGS = read_wings()
# What an estimator's method loads from above, when it is called.
UPWARDS = {
    ("estimators.base", "export.c_source"),
    ("estimators.base", "export.mlp"),
    ("estimators.base", "export.onnx"),
    ("estimators.base", "inspection.architecture"),
}


def name_of(path):
    """Return 'engine' for engine/__init__.py, 'network' for network.py, '' for the package."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def wing_of(name):
    """Return the number of a module's wing, counted from the top; the package itself is above."""
    if not name:
        return -1
    for number, names in enumerate(WINGS):
        if any(name == own or name.startswith(f"{own}.") for own in names):
            return number
    raise LookupError(f"CONTRIBUTING's table of wings does not name fastbp/{name}")


@functools.cache
def parse(path):
    """Return the nodes of a file's syntax tree."""
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def list_imports(path):
    """Yield the modules of fastbp that a file imports, anywhere in it."""
    package = ("fastbp", *path.relative_to(PACKAGE).parts[:-1])
    for node in parse(path):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, [base, node.module]))
            inside = [f"{module}.{alias.name}" for alias in node.names]
            found = [name for name in inside if name.removeprefix("fastbp.") in MODULES]
            targets = found or [module]
        else:
            continue
        for target in targets:
            if target == "fastbp" or target.startswith("fastbp."):
                yield target.removeprefix("fastbp").removeprefix(".")


def test_files_were_found():
    assert {"", "engine", "estimators", "engine.network", "training.minibatches"} <= set(MODULES)
    assert "activations" in set(list_imports(MODULES["estimators.base"]))
    assert len(WINGS) > 5


def test_table_of_wings_names_what_there_is():
    named = [name for names in WINGS for name in names]
    assert len(named) == len(set(named))
    assert set(named) == {name.split(".")[0] for name in MODULES} - {""}


def test_imports_go_downwards():
    """From each wing to lower ones, or to another module of the same."""
    imports = [(name, target) for name in MODULES if name for target in list_imports(MODULES[name])]
    assert len(imports) > 100
    for name, target in imports:
        if name == "__main__" and not target:
            continue  # the program is a user
        assert target, f"{name} imports the package itself: it must import the module it needs"
        downwards = wing_of(target) >= wing_of(name)
        assert downwards or (name, target) in UPWARDS, f"{name} imports {target}"


def test_imports_make_no_circle():
    """Within a wing, too, there is an order."""
    imports = {
        name: {target for target in list_imports(path) if (name, target) not in UPWARDS}
        for name, path in MODULES.items()
    }
    left = {name: targets & set(MODULES) - {name, ""} for name, targets in imports.items() if name}
    while left:
        done = {name for name, targets in left.items() if not targets & set(left)}
        assert done, f"a circle of imports: {left}"
        left = {name: targets for name, targets in left.items() if name not in done}


@pytest.mark.parametrize("name", ["activations", "losses", "losses.entries", "optimizers"])
def test_tables_import_no_arrays(name):
    """Rows are plain Python, so that every engine and every test can read them."""
    for node in parse(MODULES[name]):
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


COSTLY = {
    "numba", "llvmlite", "matplotlib", "torch", "dask", "distributed", "optuna", "ray", "IPython",
}  # fmt: skip

FIT = """
import numpy as np, warnings
warnings.simplefilter("ignore")
from fastbp import BackpropClassifier, BackpropRegressor, BackpropSearchCV
X = np.random.default_rng(0).standard_normal((50, 4))
for solver in ("sgd", "adam", "lbfgs"):
    BackpropClassifier((5,), solver=solver, max_iter=3).fit(X, X[:, 0] > 0).predict_proba(X)
    BackpropRegressor(hidden_layer_sizes=(5,), solver=solver, max_iter=3).fit(X, X[:, 0]).score(
        X, X[:, 0]
    )
more = dict(dropout=0.1, max_grad_norm=1.0, ema_decay=0.9, max_iter=3)
for solver, rate in (("adamw", "cosine"), ("rmsprop", "linear"), ("lion", "one_cycle")):
    BackpropClassifier((5,), solver=solver, learning_rate=rate, **more).fit(X, X[:, 0] > 0)
BackpropSearchCV(BackpropClassifier((5,), **more), {"alpha": [0.0, 1.0]}).fit(X, X[:, 0] > 0)
"""


def test_imports_of_the_package_and_of_a_fit():
    """Little beside scikit-learn, no engine before the first fit, and nothing costly in one."""
    peer, imported, fitted = list_loaded_modules(
        "import sklearn.neural_network", "import fastbp", FIT
    )
    assert packages(imported) - packages(peer) <= {"fastbp"}
    assert "fastbp.engine.native.engine" not in imported
    assert not packages(imported) & COSTLY
    allowed = {"numba", "llvmlite"} if ENGINES == ["numba"] else set()
    assert not packages(fitted) & COSTLY - allowed


def lines_of_code(path):
    """Return the numbers of the lines that hold code, beside docstrings and comments; functions."""
    source = path.read_text(encoding="utf-8")
    skipped = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    found = {
        line
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type not in (*skipped, tokenize.ENDMARKER)
        for line in range(token.start[0], token.end[0] + 1)
    }
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    for node in parse(path):
        if isinstance(node, ast.Module | ast.ClassDef | functions) and ast.get_docstring(node):
            found -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return found, [node for node in parse(path) if isinstance(node, functions)]


def test_files_and_functions_are_short():
    for name, path in MODULES.items():
        code, functions = lines_of_code(path)
        assert len(code) <= 400, name
        for node in functions:
            n_lines = len(code & set(range(node.lineno, node.end_lineno + 1)))
            assert n_lines <= 60, f"{name}.{node.name} has {n_lines} lines"


NATIVE = sorted(
    path
    for pattern in ("*.h", "*.c", "*.px[di]", "*.pyx")
    for path in (PACKAGE / "engine" / "native").glob(pattern)
    if path.name != "engine.c"  # which Cython makes
)
NO_CODE = {
    True: r'""".*?"""|#[^\n]*',  # Cython
    False: r"/\*.*?\*/|//[^\n]*",
}
# From the line that begins a function to the last one that is further in, or to its brace.
NATIVE_FUNCTION = {
    True: r"^( *)(?:cp?def|def) [^\n]*\((?:[^\n]*\n\1 +)+",
    False: r"^(?!typedef|struct|enum)\w[^;{}]*\([^;{}]*\)\s*\{.*?^\}",
}


def test_native_files_and_functions_are_short():
    n_functions = 0
    for path in NATIVE:
        is_cython = path.suffix in (".pyx", ".pxi", ".pxd")
        text = re.sub(NO_CODE[is_cython], "", path.read_text("utf-8"), flags=re.S)
        text = re.sub(r"\s*\n", "\n", text)  # no blank lines
        assert text.count("\n") <= 400, path.name
        for found in re.finditer(NATIVE_FUNCTION[is_cython], text, re.M | re.S):
            n_functions += 1
            assert found[0].count("\n") <= 60, f"{path.name}: {found[0][:70]}"
    assert n_functions > 300 or not NATIVE  # a wheel holds no sources
