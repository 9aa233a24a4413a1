"""What README and documentation show runs as it stands there."""

import doctest
import re
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(path for path in ROOT.glob("docs/**/*.rst") if ">>> " in path.read_text("utf-8"))
PAGES = [path for path in PAGES if not {"auto_examples", "_build", "api"} & set(path.parts)]
BLOCKS = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.M | re.S)


def test_pages_and_blocks_were_found():
    assert len(BLOCKS) >= 3
    assert {"get_started.rst", "losses.rst", "solvers.rst"} <= {page.name for page in PAGES}


def test_readme_runs_from_top_to_bottom():
    pytest.importorskip("matplotlib").use("agg")
    names = {}
    for block in BLOCKS:
        exec(compile(block, "README.md", "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_runs(page):
    with warnings.catch_warnings():  # a page may change the filters
        results = doctest.testfile(str(page), module_relative=False, encoding="utf-8")
    assert results.attempted > 0
    assert results.failed == 0
