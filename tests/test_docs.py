"""What README and documentation show runs as it stands there."""

import doctest
import inspect
import re
import warnings
from pathlib import Path

import pytest

from fastbp import (
    BackpropClassifier,
    BackpropRegressor,
    TabularClassifier,
    TabularRegressor,
)

ROOT = Path(__file__).parents[1]
PAGES = sorted(path for path in ROOT.glob("docs/**/*.rst") if ">>> " in path.read_text("utf-8"))
PAGES = [path for path in PAGES if not {"auto_examples", "_build", "api"} & set(path.parts)]
BLOCKS = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.M | re.S)


# `# doctest: +ABOUT`: readers see figures, which on another processor may be a little different.
ABOUT = doctest.register_optionflag("ABOUT")
NUMBER = re.compile(r"-?\d+\.\d*(?:e[-+]?\d+)?|\d+e[-+]\d+|(?<=± )\d+")


class Checker(doctest.OutputChecker):
    """Compares as doctest does; with ABOUT numbers with a point may be off by a fifth, or 0.05."""

    def check_output(self, want, got, optionflags):
        want = want.replace("<BLANKLINE>", "") if optionflags & ABOUT else want
        if optionflags & ABOUT and NUMBER.sub("#", want).split() == NUMBER.sub("#", got).split():
            pairs = zip(NUMBER.findall(want), NUMBER.findall(got), strict=True)
            return all(
                float(found) == pytest.approx(float(wanted), rel=0.2, abs=0.05)
                for wanted, found in pairs
            )
        return super().check_output(want, got, optionflags)


def run_page(path):
    """Run the code of a page as doctest does."""
    test = doctest.DocTestParser().get_doctest(
        path.read_text("utf-8"), {"__name__": "__main__"}, path.name, str(path), 0
    )
    runner = doctest.DocTestRunner(checker=Checker())
    runner.run(test)
    return runner.summarize(verbose=False)


def test_about_takes_near_numbers_and_no_others():
    check = Checker().check_output
    assert check("{'loss': 0.50, 'n': 3}", "{'loss':  0.53, 'n': 3}", ABOUT)
    for other in ("{'loss': 0.9, 'n': 3}", "{'loss': 0.50, 'n': 4}", "{'score': 0.50, 'n': 3}"):
        assert not check("{'loss': 0.50, 'n': 3}", other, ABOUT)
    assert not check("0.50", "0.51", 0)


def test_pages_and_blocks_were_found():
    assert len(BLOCKS) >= 3
    assert {"get_started.rst", "losses.rst", "solvers.rst"} <= {page.name for page in PAGES}


def test_readme_runs_from_top_to_bottom():
    pytest.importorskip("matplotlib").use("agg")
    names = {}
    for block in BLOCKS:
        exec(compile(block, "README.md", "exec"), names)


# Optional packages without which a page cannot run.
NEEDS = {"tuners": ["optuna", "optuna_integration", "distributed"]}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_runs(page):
    for package in NEEDS.get(page.stem, ()):
        pytest.importorskip(package)
    with warnings.catch_warnings():  # a page may change the filters
        results = run_page(page)
    assert results.attempted > 0
    assert results.failed == 0


# Entries of the docstrings of both estimators that differ because what they tell does.
DIFFERENT = {
    "loss", "validation_fraction", "init", "scoring", "validation_scores_", "n_outputs_",
    "out_activation_",
}  # fmt: skip


def entries_of(kind):
    """Return the entries of a class's parameters and attributes by their names."""
    found = {}
    for section in ("Parameters", "Attributes"):
        text = re.search(rf"{section}\n-+\n(.*?)\n\n", inspect.getdoc(kind) + "\n\n", re.S)[1]
        found |= {entry.split(" :")[0]: entry for entry in re.split(r"\n(?=\S)", text)}
    return found


@pytest.mark.parametrize(
    ("classifier", "regressor", "different"),
    [
        (BackpropClassifier, BackpropRegressor, DIFFERENT),
        (TabularClassifier, TabularRegressor, {"loss", "activation", "dropout"}),
    ],
)
def test_estimators_say_the_same_of_what_they_share(classifier, regressor, different):
    """Each docstring is whole, for editors show it; where nothing differs, both say it alike."""
    ours, theirs = entries_of(classifier), entries_of(regressor)
    shared = ours.keys() & theirs.keys()
    plain = {
        name: entry.replace("BackpropRegressor", "BackpropClassifier")
        for name, entry in theirs.items()
    }
    for name in shared - different:
        assert ours[name] == plain[name]
    assert all(ours[name] != theirs[name] for name in different)
    for kind, entries in ((classifier, ours), (regressor, theirs)):
        assert set(inspect.signature(kind).parameters) <= set(entries)
