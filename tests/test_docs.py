"""What README and documentation show runs as it stands there."""

import ast
import builtins
import doctest
import inspect
import json
import re
import shutil
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import numpy as np
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
NUMBER = re.compile(
    r"-?\d+\.\d*(?:e[-+]?\d+)?|\d+e[-+]\d+|(?<=± )\d+|(?<=\bepoch )\d+|\d+(?= epochs)"
)


class Checker(doctest.OutputChecker):
    """Compares as doctest does; with ABOUT numbers with a point, and epochs, may be near ones."""

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
    assert check("in 55 epochs", "in 60 epochs", ABOUT)
    assert not check("in 55 epochs", "in 70 epochs", ABOUT)
    assert not check("0.50", "0.51", 0)


def test_pages_and_blocks_were_found():
    assert len(BLOCKS) >= 3
    assert len(QUESTIONS) >= 9
    assert {"get_started.rst", "losses.rst", "solvers.rst"} <= {page.name for page in PAGES}


def test_readme_runs_from_top_to_bottom():
    pytest.importorskip("matplotlib").use("agg")
    names = {}
    for block in BLOCKS:
        exec(compile(block, "README.md", "exec"), names)


# Optional packages without which a page cannot run.
NEEDS = {
    "cluster": ["dask.dataframe", "distributed"],
    "job": ["pandas"],
    "streams": ["pandas", "pyarrow"],
    "tuners": ["optuna", "optuna_integration", "distributed"],
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_runs(page):
    for package in NEEDS.get(page.stem, ()):
        pytest.importorskip(package)
    with warnings.catch_warnings():  # a page may change the filters
        results = run_page(page)
    assert results.attempted > 0
    assert results.failed == 0


GUIDE = (ROOT / "docs" / "guide" / "index.rst").read_text("utf-8")
LINES = re.findall(r"^   \.\. code-block:: python\n\n((?:      .*\n)+)", GUIDE, re.M)
ELSEWHERE = ("tcp://", "trial")  # lines that need a cluster or a trial: these are only compiled


@pytest.mark.filterwarnings("ignore")
def test_lines_of_how_do_i_run_one_after_the_other(tmp_path, monkeypatch):
    for package in ("skl2onnx", "pyarrow", "skops"):
        pytest.importorskip(package)
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("matplotlib").use("agg")
    monkeypatch.chdir(tmp_path)
    X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    y = (X[:, 0] > 0).astype(int)
    sales = "\n".join(["area,price", *(f"{a:.3f},{b:.3f}" for a, b, _ in X)])
    (tmp_path / "sales.csv").write_text(sales)
    names = {"X": X, "y": y, "X_val": X, "y_val": y, "X_new": X, "Y": X, "w": y + 1.0}
    names["table"] = pandas.DataFrame({"age": X[:, 0], "city": np.where(y, "Rome", "Oslo")})
    # `write_dataset` first: others read what it writes.
    lines = sorted(LINES, key=lambda line: "write_dataset" not in line)
    assert len(lines) > 30
    for line in lines:
        code = compile(textwrap.dedent(line), "docs/guide/index.rst", "exec")
        if not any(word in line for word in ELSEWHERE):
            exec(code, names)


def find_unmade(code):
    """Return the names that code uses and does not make."""
    names = list(ast.walk(ast.parse(textwrap.dedent(code))))
    made = {a.asname or a.name.split(".")[0] for n in names for a in getattr(n, "names", ())}
    made |= {n.id for n in names if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    made |= {n.arg for n in names if isinstance(n, ast.arg)}
    made |= {n.name for n in names if isinstance(n, ast.FunctionDef)}
    used = {n.id for n in names if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    return used - made - set(dir(builtins))


def test_lines_of_how_do_i_import_what_they_use():
    """Each may be pasted alone: what it does not make are the reader's data and estimators."""
    readers = {"X", "y", "X_val", "y_val", "X_new", "table", "Y", "w", "clf", "reg", "trial"}
    for line in LINES:
        assert find_unmade(line) <= readers, line


def first_answer(label):
    """Return how many words stand before the first block of a section, and the block's code."""
    page = next(text for text in SECTIONS if f".. _{label}:" in text)
    section = re.split(r"^-{4,}$", page.partition(f".. _{label}:")[2], maxsplit=2, flags=re.M)[1]
    block = re.search(
        r"code-block:: python\n\n((?: +.*\n|\n)+)|((?: *(?:>>>|\.\.\.) .*\n)+)", section
    )
    code = block[1] or re.sub(r"^ *(?:>>>|\.\.\.) ", "", block[2], flags=re.M)
    return len(section[: block.start()].split()), code, block[1] is not None


SECTIONS = [path.read_text("utf-8") for path in sorted(ROOT.glob("docs/guide/*.rst"))]
FRONT = (ROOT / "docs" / "index.rst").read_text("utf-8")
QUESTIONS = [label for label in re.findall(r":ref:`.*?<(\w+)>`", FRONT) if label != "how_do_i"]


@pytest.mark.parametrize("label", QUESTIONS)
def test_sections_of_the_front_page_begin_with_an_answer_that_can_be_pasted(
    label, tmp_path, monkeypatch
):
    n_words, code, is_plain = first_answer(label)
    assert n_words <= 120
    assert find_unmade(code) <= ({"clf", "X", "y"} if label == "flat_loss" else set())
    if is_plain and label != "flat_loss":  # what has prompts is run with its page
        if "onnx" in label:
            pytest.importorskip("skl2onnx")
        monkeypatch.chdir(tmp_path)
        exec(compile(textwrap.dedent(code), label, "exec"), {})


STANDS_ALONE = (
    "as_features", "conformal", "dropout", "early_stopping", "find_rate", "halving",
    "handing_over_tables", "learning_rate_schedules", "own_activations", "own_losses",
    "partial_fit", "save_and_load", "several_targets", "warm_start",
)  # fmt: skip


@pytest.mark.parametrize("label", STANDS_ALONE)
def test_sections_of_the_guide_begin_with_code_that_can_be_pasted(label):
    n_words, code, _ = first_answer(label)
    assert n_words <= 120
    assert not find_unmade(code)


@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
def test_the_program_around_the_c_file_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(textwrap.dedent(first_answer("to_c")[1]), "to_c", "exec"), {})
    page = (ROOT / "docs" / "guide" / "deployment.rst").read_text("utf-8")
    program = re.search(r"code-block:: c\n\n((?:   .*\n|\n)+)", page)[1]
    (tmp_path / "main.c").write_text(textwrap.dedent(program))
    commands = re.findall(r"^   (cc .*?) +# (.*)$", page, re.M)
    assert len(commands) == 2
    for command, end in commands:
        told = subprocess.run(command, shell=True, check=True, capture_output=True, text=True)
        assert end.removeprefix("..., ") in told.stdout


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


def test_measurements_are_written_for_readers():
    """From the results as they lie there: every row explained, no commands and no commits."""
    sys.path.insert(0, str(ROOT))
    try:
        from bench import for_readers
    finally:
        sys.path.remove(str(ROOT))
    results = json.loads((for_readers.RESULTS / "steps.json").read_text("utf-8"))
    page = for_readers.compose(results)
    for name in for_readers.MEANING:
        assert page.count(f"| {for_readers.name_of(name)} |") >= 3
    assert not re.search(r"python -m|commit|--\w|\*\*missed|\b[0-9a-f]{7}\b", page)
    assert [int(n) for n in for_readers.microseconds(2.82e-3).split(",")] == [2, 820]
    assert for_readers.microseconds(1.56e-7) == "0.16"


def test_workers_are_predicted_and_what_is_no_figure_is_named():
    sys.path.insert(0, str(ROOT))
    try:
        from bench import scale_out_report
        from bench.scale_out_model import Parts
    finally:
        sys.path.remove(str(ROOT))
    parts = Parts({10**5: 1e-5}, trip=1e-3, task=1e-4, handling=1e-9)
    assert parts.epoch(1, 10**6, 10**5, 1.0) == pytest.approx(10 + 2e-3)
    n_bytes = 10**5 * (12 * 4 + 0)
    assert parts.epoch(2, 10**6, 10**5, 8.0) == pytest.approx(5 + 3.5e-3 + n_bytes * 2e-9)
    assert parts.speed_up(64, 10**8, 1.0) < parts.speed_up(64, 10**8, 100.0) < 64
    results = json.loads((scale_out_report.RESULTS / "scale_out.json").read_text("utf-8"))
    results["parts"]["load"] = 0.1
    quiet = scale_out_report.compose(results, "picture.svg")
    assert "**Placeholders**: what a round is made of" not in quiet
    results["parts"]["load"] = 3.0
    busy = scale_out_report.compose(results, "picture.svg")
    assert "**Placeholders**: what a round is made of" in busy
    assert f"| {10**8:,} |" in busy


@pytest.fixture
def site(tmp_path):
    """Return a folder with a page that leads nowhere twice, and one that is well."""
    (tmp_path / "api").mkdir()
    (tmp_path / "index.html").write_text(
        '<a href="api/a.html#fastbp.load"></a> <a href="https://example.org"></a>'
    )
    (tmp_path / "api" / "a.html").write_text(
        '<p id="fastbp.load"><a href="../index.html#gone"></a> <a href="gone.html"></a>'
        f"<pre><span>{'&lt;' * 60}</span></pre><pre>{'x' * 60}<b>{'y' * 60}</b></pre>"
    )
    return tmp_path


def test_the_check_of_the_site_sees_what_is_missing(site, capsys):
    sys.path.insert(0, str(ROOT))
    try:
        from checks import site as check
    finally:
        sys.path.remove(str(ROOT))
    pages = check.read_pages(site)
    broken, elsewhere = check.find_broken(pages, site)
    assert broken == ["api/a.html: ../index.html#gone", "api/a.html: gone.html"]
    assert elsewhere == {"https://example.org"}
    assert check.find_long_lines(pages) == [f"api/a.html: {'x' * 60}{'y' * 60}"]
    absent = check.find_absent(pages)
    assert "fastbp.load" not in absent
    assert {"fastbp.save", "fastbp.BackpropClassifier.fit"} <= set(absent)
    with pytest.raises(SystemExit) as end:
        check.check_site(site)
    assert end.value.code == 1
    assert "FAIL links within the site lead somewhere" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("word", "meaning"),
    [
        ("epochs", "max_iter"), ("num_boost_round", "max_iter"), ("patience", "n_iter_no_change"),
        ("stopping_rounds", "n_iter_no_change"), ("restore_best_weights", "early_stopping"),
        ("load_best", "early_stopping"), ("min_delta", "tol"), ("monitor", "scoring"),
        ("is_unbalance", "class_weight"), ("pos_weight", "class_weight"),
        ("train_split", "validation_fraction"), ("global_clipnorm", "max_grad_norm"),
        ("use_ema", "ema_decay"), ("kernel_regularizer", "alpha"), ("reg_lambda", "alpha"),
        ("criterion", "loss"), ("objective", "loss"), ("n_jobs", "n_threads"),
    ],
)  # fmt: skip
def test_words_of_the_vocabulary_are_understood(word, meaning):
    """What the page says of other libraries, a user who writes it is told."""
    page = (ROOT / "docs" / "guide" / "vocabulary.rst").read_text("utf-8")
    index = (ROOT / "docs" / "guide" / "index.rst").read_text("utf-8")
    assert word in page + index
    assert meaning in page
    with pytest.raises(TypeError, match=f"{word}.*Did you mean {meaning}"):
        BackpropClassifier(**{word: 1})
