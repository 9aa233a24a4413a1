"""What the package says about itself, and what happens when its engine is missing."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import sklearn

import fastbp
from fastbp.engine import get_engine


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


@pytest.mark.parametrize("name", get_engine().supported_instruction_sets())
def test_environment_forces_the_instruction_set(name):
    program = "from fastbp.engine import get_engine; print(get_engine().instruction_set())"
    code, out, err = run(program, FASTBP_ISA=name)
    assert (code, out.strip()) == (0, name), err


def test_unknown_instruction_set_in_the_environment():
    code, _, err = run("from fastbp.engine import get_engine; get_engine()", FASTBP_ISA="mmx")
    assert code != 0
    assert "mmx" in err
    assert get_engine().supported_instruction_sets()[-1] in err


WITHOUT_EXTENSION = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("fastbp.engine.native."):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
import numpy as np
from fastbp import BackpropClassifier, show_versions
show_versions()
try:
    BackpropClassifier(max_iter=1).fit(np.eye(4), [0, 1, 0, 1])
except ImportError as error:
    print("ImportError:", error)
"""


def test_missing_extension_is_explained():
    """The install succeeds without a compiler; the first use says what is missing."""
    code, out, err = run(WITHOUT_EXTENSION)
    assert code == 0, err
    assert "ImportError:" in out
    message = out.split("ImportError:")[1]
    assert "install" in message
    assert "compiler" in message


def test_module_help():
    done = subprocess.run(
        [sys.executable, "-m", "fastbp", "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "--data" in done.stdout
