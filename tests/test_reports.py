"""What `verbose` shows: a live line, sparse lines in a log, every epoch."""

import io
import re
import sys
import warnings

import numpy as np
import pytest
from problems import draw_regression
from sklearn.exceptions import ConvergenceWarning

from fastbp import BackpropRegressor
from fastbp.training import reports
from fastbp.training.reports import Report, can_write_over, format_duration, is_milestone

X, Y = draw_regression(64, 4)
SETTINGS = dict(hidden_layer_sizes=(5,), random_state=0, batch_size=16, tol=0.0)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def fit(**kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return BackpropRegressor(**{**SETTINGS, **kwargs}).fit(X, Y)


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_a_log_gets_lines_at_growing_intervals(solver, capsys, engine_name):
    model = fit(solver=solver, max_iter=37, verbose=True, engine=engine_name)
    lines = capsys.readouterr().out.splitlines()
    shown = [n for n in (1, 2, 5, 10, 20, 50) if n < model.n_iter_] + [model.n_iter_]
    assert [int(re.match(r"Iteration (\d+), loss = [\d.]+", line)[1]) for line in lines] == shown
    assert all("samples/s" in line for line in lines)
    assert all("left" in line for line in lines[:-1])
    if solver != "lbfgs":
        for line, n_iter in zip(lines, shown, strict=True):
            assert f"loss = {model.loss_curve_[n_iter - 1]:.8f}" in line
        assert "left" not in lines[-1]


def test_the_validation_score_is_in_the_line(capsys):
    model = fit(early_stopping=True, max_iter=5, verbose=1)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert f"validation score = {model.validation_scores_[-1]:f}" in lines[-1]


def test_every_epoch_with_verbose_2(capsys):
    model = fit(max_iter=7, verbose=2)
    expected = [f"Iteration {i}, loss = {v:.8f}" for i, v in enumerate(model.loss_curve_, start=1)]
    assert capsys.readouterr().out.splitlines() == expected


@pytest.mark.parametrize("verbose", [False, 0])
def test_silence(verbose, capsys):
    fit(max_iter=7, verbose=verbose, early_stopping=True)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("verbose", [1, 2])
def test_the_reason_to_stop_is_said_last(verbose, capsys):
    fit(tol=1e6, n_iter_no_change=3, max_iter=50, verbose=verbose)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].startswith("Iteration 5, ")
    assert lines[-1].startswith("Training loss did not improve more than tol=1000000.000000 for 3")


def test_partial_fit_prints_its_epoch(capsys):
    BackpropRegressor(**SETTINGS, verbose=True).partial_fit(X, Y)
    assert re.fullmatch(r"Iteration 1, loss = [\d.]+, [\d,]+ samples/s\n", capsys.readouterr().out)


def test_a_terminal_gets_one_line(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(reports, "REFRESH_S", 0.0)
    model = fit(max_iter=12, early_stopping=True, n_iter_no_change=20, verbose=True)
    text = terminal.getvalue()
    assert text.count("\n") == 1
    assert text.endswith("\n")
    states = text.strip().split("\r")
    assert [int(re.match(r"Iteration (\d+),", state)[1]) for state in states] == list(range(1, 13))
    assert f"loss = {model.loss_:.8f}" in states[-1]
    # each state covers what the one before left on the screen
    lengths = [len(state) for state in text[1:-1].split("\r")]
    shown = [len(state.rstrip()) for state in text[1:-1].split("\r")]
    assert all(length >= before for length, before in zip(lengths[1:], shown[:-1], strict=True))


def test_the_live_line_rests_between_refreshes(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(reports, "REFRESH_S", 1000.0)
    fit(max_iter=12, verbose=True)
    assert re.fullmatch(r"\rIteration 12, .*\n", terminal.getvalue())


def test_the_live_line_never_wraps(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "40")
    fit(max_iter=12, early_stopping=True, n_iter_no_change=20, verbose=True)
    assert {len(state) for state in terminal.getvalue().strip().split("\r")} == {39}


def test_an_error_ends_the_live_line(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(reports, "REFRESH_S", 0.0)
    with pytest.raises(ValueError, match="non-finite"):
        BackpropRegressor(
            **SETTINGS, solver="sgd", learning_rate_init=3.0, verbose=True, alpha=0.0
        ).fit(X * 100, Y * 100)
    assert terminal.getvalue() == "" or terminal.getvalue().endswith("\n")


def test_a_minute_of_silence_is_broken(monkeypatch, capsys):
    clock = iter(np.arange(100) * 25.0)
    monkeypatch.setattr(reports.time, "perf_counter", lambda: next(clock))
    report = Report(True, 1000)
    for n_iter in range(21, 30):  # no milestone among them
        report.after_epoch(n_iter, 0.5, None, n_iter)
    lines = capsys.readouterr().out.splitlines()
    assert 2 <= len(lines) <= 4


def test_the_time_left_obeys_max_time(monkeypatch, capsys):
    clock = iter([0.0, 10.0, 10.0])
    monkeypatch.setattr(reports.time, "perf_counter", lambda: next(clock))
    report = Report(True, 1000, max_time=12.0)
    report.after_epoch(1, 0.5, None, 640)
    assert (
        capsys.readouterr().out
        == "Iteration 1, loss = 0.50000000, at most 2 s left, 64 samples/s\n"
    )


def test_where_a_line_can_be_written_over():
    Cell = type("OutStream", (), {"__module__": "ipykernel.iostream"})
    assert can_write_over(Terminal())
    assert can_write_over(Cell())
    assert not can_write_over(io.StringIO())
    assert not can_write_over(None)


def test_milestones_and_durations():
    assert [n for n in range(1, 501) if is_milestone(n)] == [1, 2, 5, 10, 20, 50, 100, 200, 500]
    assert format_duration(0.4) == "0 s"
    assert format_duration(61.2) == "1 min 1 s"
    assert format_duration(7384) == "2 h 3 min"
