"""What the package says about itself, and what happens when its engine is missing."""

import doctest
import importlib
import os
import re
import runpy
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES, PathFinder

import numpy as np
import pytest
import sklearn

import fastbp
from fastbp.engine import copies, get_engine


def run(program, **environment):
    """Run a program in a fresh process; return (exit code, output, errors)."""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+([ab.]\S+)?", fastbp.__version__)


def test_show_versions(capsys):
    assert fastbp.show_versions() is None
    out = capsys.readouterr().out
    engine = get_engine()
    for fact in (
        fastbp.__version__, engine.NAME, engine.instruction_set(), os.path.dirname(fastbp.__file__),
        np.__version__, sklearn.__version__, sys.version.split()[0],
    ):  # fmt: skip
        assert fact in out


FORCED = """
import os
from fastbp.engine import get_engine
for name in ("FASTBP_ISA", "FASTBP_MATMUL_PATH"):
    chosen = os.environ.pop(name)
    os.environ[name] = "mmx"
    try:
        get_engine()
    except ValueError as error:
        print(error)
    os.environ[name] = chosen
print(get_engine().instruction_set(), get_engine().get_matmul_path())
"""


@pytest.mark.usefixtures("compiled_engine")
def test_environment_forces_instruction_set_and_matmul_path():
    names = get_engine().supported_instruction_sets()  # the first is the default
    code, out, err = run(FORCED, FASTBP_ISA=names[-1], FASTBP_MATMUL_PATH="none")
    assert code == 0, err
    first, second, found = out.splitlines()
    assert first == (
        "the environment variable FASTBP_ISA is 'mmx': instruction set 'mmx' does not run here; "
        f"choose one of {names}"
    )
    assert second.startswith(
        "the environment variable FASTBP_MATMUL_PATH is 'mmx': matmul path 'mmx' does not run "
        "here; choose one of ["
    )
    assert found == f"{names[-1]} none"


WITHOUT_EXTENSION = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("fastbp.engine.native."):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
import warnings
import numpy as np
from fastbp import BackpropClassifier, show_versions
for engine in ("auto", "auto", "cython"):
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", RuntimeWarning)
            BackpropClassifier(max_iter=1, engine=engine).fit(np.eye(4), [0, 1, 0, 1])
        print(engine, len(caught), *[warning.message for warning in caught])
    except ImportError as error:
        print("ImportError:", error)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    show_versions()
"""


def test_missing_extension_is_explained():
    """The install succeeds without a compiler: Numba computes, and one warning says what to do."""
    code, out, err = run(WITHOUT_EXTENSION)
    assert code == 0, err
    first, second, message, *versions = out.splitlines()
    assert first.startswith("auto 1 ")
    assert second == "auto 0"
    assert message.startswith("ImportError:")
    for text in (first, message):
        assert "install" in text
        assert "compiler" in text
    assert "numba" in next(line for line in versions if line.startswith("engine"))


def test_a_hidden_copy_is_named(tmp_path, monkeypatch):
    """An unbuilt checkout in the current folder hides the installed package."""
    for folder in ("checkout", "installed"):
        (tmp_path / folder / "fastbp" / "engine" / "native").mkdir(parents=True)
        (tmp_path / folder / "fastbp" / "__init__.py").touch()
    checkout, installed = tmp_path / "checkout" / "fastbp", tmp_path / "installed" / "fastbp"
    monkeypatch.setattr(copies, "PACKAGE_PATH", checkout)
    monkeypatch.setattr(copies.find_native_engine, "__defaults__", (checkout,))
    monkeypatch.setattr(sys, "path", [str(checkout.parent), str(installed.parent)])
    monkeypatch.setattr(sys, "meta_path", [object(), PathFinder])
    assert copies.find_hidden_package() is None  # neither is built
    assert f"in use is {checkout}." in copies.explain_copies()
    (installed / "engine" / "native" / f"engine{EXTENSION_SUFFIXES[0]}").touch()
    assert copies.find_hidden_package() == installed
    message = copies.explain_copies()
    for text in (checkout, installed, f"pip install -e {checkout.parent}"):
        assert str(text) in message
    (checkout / "engine" / "native" / f"engine{EXTENSION_SUFFIXES[0]}").touch()
    assert copies.find_hidden_package() is None


WITHOUT_NUMBA = """
import sys
sys.modules["numba"] = None
import numpy as np
from fastbp import BackpropClassifier
for settings in ({"engine": "numba"}, {"activation": lambda z: z}, {"loss": lambda y, s: s}):
    try:
        BackpropClassifier(**settings).fit(np.eye(4), [0, 1, 0, 1])
    except ImportError as error:
        print(error)
"""


def test_missing_numba_is_explained():
    code, out, err = run(WITHOUT_NUMBA)
    assert code == 0, err
    messages = out.splitlines()
    assert len(messages) == 3
    for message in messages:
        assert "pip install --upgrade numba" in message


def test_module_help(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["fastbp", "--help"])
    monkeypatch.delitem(sys.modules, "fastbp.__main__", raising=False)
    with pytest.raises(SystemExit) as end:
        runpy.run_module("fastbp", run_name="__main__")
    assert end.value.code == 0
    assert "--data" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name", ["fastbp", "fastbp.activations", "fastbp.export.onnx", "fastbp.losses"]
)
def test_examples_in_docstrings(name):
    if name == "fastbp.export.onnx":
        pytest.importorskip("skl2onnx")
    results = doctest.testmod(importlib.import_module(name))
    assert results.attempted > 0
    assert results.failed == 0


def test_modules_of_optional_packages_are_found_by_their_names():
    pytest.importorskip("optuna")
    code, out, err = run(
        "import sys, fastbp; assert 'optuna' not in sys.modules; "
        "print(fastbp.onnx.register.__name__, fastbp.optuna.PruningCallback.__name__)"
    )
    assert (code, out.split()) == (0, ["register", "PruningCallback"]), err
