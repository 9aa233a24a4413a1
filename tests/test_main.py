"""`python -m fastbp` on tiny data: what it shows and promises, and what it says when it cannot.

Whether fastbp is faster is not asserted here: a test makes no claim about time.
"""

import io
import sys
from dataclasses import replace

import joblib
import numpy as np
import pytest
from covering import first_of
from problems import draw_classes, draw_regression

import fastbp.__main__ as program
from fastbp.__main__ import main
from fastbp.demonstration import side_by_side as demonstration
from fastbp.demonstration.side_by_side import (
    LossLine,
    Result,
    builtin_jobs,
    check_results,
    save_picture,
)


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def save_data(X, y, path="data.npz"):
    np.savez(path, X_train=X[:90], X_test=X[90:], y_train=y[:90], y_test=y[90:])
    return path


def run(*arguments):
    """Run the program in this process, its searches too."""
    with joblib.parallel_backend("sequential"):
        return main(arguments)


DATA = {"classes": draw_classes(120, 5, 3), "regression": draw_regression(120, 5)}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", first_of(DATA))
def test_a_file_of_the_user(kind, capsys, tmp_path):
    code = run("--data", save_data(*DATA[kind]))
    out = capsys.readouterr().out
    assert code in (0, 1)  # 1: not faster, on a busy machine
    assert "90 + 30 rows, 5 features" in out
    assert ("3 classes" if kind == "classes" else "regression") in out
    classes = "Classifier" if kind == "classes" else "Regressor"
    assert out.count(f"  MLP{classes} ") == 3  # in view, fits, searches
    assert out.count(f"  Backprop{classes} ") == 6
    assert "ok    dtype=None, same losses" in out
    assert ("accuracy" if kind == "classes" else "R2") in out
    assert out.splitlines()[-1].startswith(("3 of 5 checks met", "4 of 5", "5 of 5"))
    pytest.importorskip("matplotlib")
    assert (tmp_path / "fastbp-losses.png").stat().st_size > 1000


def test_a_long_file_is_cut(monkeypatch, capsys):
    monkeypatch.setattr(demonstration, "MOST_ROWS", 40)
    job = demonstration.load_job(save_data(*DATA["classes"]))
    assert "first 40 of 90" in capsys.readouterr().out
    assert [len(part) for part in job.data] == [40, 30, 40, 30]
    assert job.n_search == 40


@pytest.mark.parametrize("content", [None, b"", b"PK\3\4 garbage", b"text"])
def test_a_file_that_cannot_be_read(content, capsys, tmp_path):
    if content is not None:
        (tmp_path / "data.npz").write_bytes(content)
    with pytest.raises(SystemExit) as caught:
        run("--data", "data.npz")
    assert caught.value.code == 2
    assert "cannot read data.npz" in capsys.readouterr().err


def test_a_file_without_the_arrays(capsys):
    np.savez("data.npz", X_train=np.ones((3, 2)))
    with pytest.raises(SystemExit):
        run("--data", "data.npz")
    assert "X_test is not a file" in capsys.readouterr().err


def test_without_an_engine(monkeypatch, capsys):
    facts = dict.fromkeys(program.collect_versions(), "1.0") | {"engine": "none: not built"}
    facts.pop("instruction set")
    monkeypatch.setattr(program, "collect_versions", lambda: facts)
    assert run() == 2
    assert "no engine to train with: not built" in capsys.readouterr().out


def test_the_data_of_scikit_learn():
    digits, diabetes = builtin_jobs()
    assert (digits.metric, diabetes.metric) == ("accuracy", "R2")
    assert digits.data[0].shape[1] == 64
    assert diabetes.data[0].shape[1] == 10
    assert digits.settings["n_iter_no_change"] == digits.settings["max_iter"]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_line_of_losses(encoding, monkeypatch):
    """As long as the share of the epochs, as high as the loss; in ASCII where the terminal is."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    line = LossLine(n_epochs=48)
    for i in range(48):
        line.write(f"Iteration {i}, loss = {48.0 - i}\n")
    text = raw.getvalue().decode(encoding)
    assert len(text) == demonstration.N_CELLS
    if encoding == "ascii":
        assert set(text) == {"#"}
    else:
        heights = [demonstration.BARS.index(bar) for bar in text]
        assert heights[0] == 7
        assert heights[-1] == 0
        assert heights == sorted(heights, reverse=True)


def results(**changes):
    """Return three results that keep every promise; the last with changes."""
    one = Result("a", "dtype of X", "float64", 3, 0.9, (3.0, 2.0, 1.0), "alpha=1", (2.0,))
    ours = replace(one, seconds=(1.0,))
    return [one, ours, replace(ours, **changes)]


def test_promises_are_held_against_the_results(capsys):
    job = builtin_jobs()[0]
    assert check_results(job, results(), True) == [True, True, True]
    assert "all three choose alpha=1" in capsys.readouterr().out
    assert check_results(job, results(score=0.8), False) == [False, True]
    assert check_results(job, results(seconds=(3.0,)), False) == [True, False]
    assert "MISS" in capsys.readouterr().out
    check_results(job, results(chosen="alpha=2"), False)
    assert "chosen: alpha=1" in capsys.readouterr().out
    theirs, exact, default = results()
    for losses in ((3.0, 2.0, 1.1), (3.0, 2.0)):
        found = check_results(job, [theirs, replace(exact, losses=losses), default], True)
        assert found == [False, True, True]


def test_the_picture_is_optional(monkeypatch, capsys):
    curves = [(builtin_jobs()[0], results())]
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "matplotlib.figure", None)
        save_picture(curves)
    assert "matplotlib is missing" in capsys.readouterr().out
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(demonstration, "PICTURE", demonstration.Path("no such folder") / "a.png")
    save_picture(curves)
    assert "No picture of the losses: [Errno" in capsys.readouterr().out
