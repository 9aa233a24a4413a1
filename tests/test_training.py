"""The training loop: where it ends, which weights it keeps, what an interrupt leaves."""

import os
import re
import signal
import subprocess
import sys
import threading
import warnings
from contextlib import contextmanager

import numpy as np
import pytest
from covering import cover_pairs
from problems import draw_classes, draw_regression
from sessions import count_events
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import train_test_split

from fastbp import BackpropClassifier, BackpropRegressor

ESTIMATORS = [BackpropClassifier, BackpropRegressor]
SETTINGS = dict(hidden_layer_sizes=(6,), random_state=0, batch_size=16)


def draw(kind, n_samples=80):
    """Return (X, y) for an estimator class."""
    if kind is BackpropClassifier:
        return draw_classes(n_samples, 5, 2)
    return draw_regression(n_samples, 5)


def fit(model, X, y, **kwargs):
    """Fit; few epochs may end before convergence."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X, y, **kwargs)


def assert_same_weights(left, right):
    """Two models of the same bits."""
    for a, b in zip(left.coefs_ + left.intercepts_, right.coefs_ + right.intercepts_, strict=True):
        np.testing.assert_array_equal(a, b)


# --- where it ends --------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
@pytest.mark.parametrize("kind", ESTIMATORS)
def test_the_limit_of_epochs_warns(kind, solver):
    X, y = draw(kind)
    model = kind(**SETTINGS, solver=solver, max_iter=3)
    with pytest.warns(ConvergenceWarning, match="3"):
        model.fit(X, y)
    assert model.n_iter_ == 3


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("n_iter_no_change", [1, 4])
def test_no_progress_ends_it(kind, n_iter_no_change):
    """Each epoch is compared with the best before: all after the first count as no progress."""
    X, y = draw(kind)
    model = kind(**SETTINGS, tol=1e6, n_iter_no_change=n_iter_no_change).fit(X, y)
    assert model.n_iter_ == n_iter_no_change + 2


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_convergence_by_tolerance(kind):
    X, y = draw(kind)
    model = kind(**SETTINGS, tol=1e-3, n_iter_no_change=3, max_iter=5000).fit(X, y)
    curve = np.array(model.loss_curve_)
    best = np.minimum.accumulate(curve)
    late = curve[1:] > best[:-1] - 1e-3
    assert late[-4:].all()
    runs = "".join("x" if flag else "." for flag in late[:-1])
    assert "xxxx" not in runs


# --- best weights ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", None])
@pytest.mark.parametrize("kind", ESTIMATORS)
def test_early_stopping_keeps_the_best_weights(kind, dtype):
    """The model scores on the validation rows what its best epoch scored."""
    X, y = draw(kind)
    y = np.where(np.arange(80) % 4 == 0, y[::-1], y)  # noise, so that the last is not the best
    model = kind(
        **SETTINGS, early_stopping=True, validation_fraction=0.3, learning_rate_init=0.05,
        max_iter=60, tol=0.0, n_iter_no_change=60, dtype=dtype,
    )  # fmt: skip
    fit(model, X, y)
    assert model.best_validation_score_ == max(model.validation_scores_)
    assert model.validation_scores_[-1] < model.best_validation_score_
    random_state = np.random.RandomState(0)
    n_params = sum(w.size for w in model.coefs_ + model.intercepts_)
    random_state.uniform(size=n_params)
    stratify = y if kind is BackpropClassifier else None
    _, held_out = train_test_split(
        np.arange(80), test_size=0.3, random_state=random_state, stratify=stratify
    )
    metric = accuracy_score if kind is BackpropClassifier else r2_score
    score = metric(y[held_out], model.predict(X[held_out]))
    assert score == pytest.approx(model.best_validation_score_, rel=1e-5)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_warm_early_stopping_never_loses_its_best(kind):
    """A second fit that does no better gives back the first one's weights, unlike MLPClassifier."""
    X, y = draw(kind)
    model = kind(
        **SETTINGS, early_stopping=True, validation_fraction=0.3, warm_start=True, max_iter=100,
        learning_rate_init=0.02,
    )  # fmt: skip
    fit(model, X, y)
    best, weights = model.best_validation_score_, [w.copy() for w in model.coefs_]
    fit(model.set_params(learning_rate_init=10.0, max_iter=2), X, y)
    assert max(model.validation_scores_[-2:]) <= best == model.best_validation_score_
    for a, b in zip(weights, model.coefs_, strict=True):
        np.testing.assert_array_equal(a, b)


# --- going on -------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_many_epochs_in_one_call_equal_one_at_a_time(kind, solver, dtype):
    """Watched (verbose) training runs epoch by epoch, unwatched in long calls; so does
    `partial_fit`, whose optimiser lives on. All give the same bits."""
    X, y = draw(kind)
    params = dict(SETTINGS, solver=solver, dtype=dtype, shuffle=False, max_iter=12, tol=0.0)
    whole = fit(kind(**params), X, y)
    watched = fit(kind(**params, verbose=True), X, y)
    assert whole.loss_curve_ == watched.loss_curve_
    assert_same_weights(whole, watched)
    steps = kind(**params)
    first = {"classes": np.unique(y)} if kind is BackpropClassifier else {}
    for _ in range(12):
        steps.partial_fit(X, y, **first)
    assert whole.loss_curve_ == steps.loss_curve_
    assert_same_weights(whole, steps)
    assert steps.t_ == whole.t_
    assert steps.n_iter_ == 1


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_long_runs_are_exact_too(kind):
    """Several hundred epochs, whatever portions the engine is given them in."""
    X, y = draw(kind, 30)
    params = dict(SETTINGS, max_iter=700, tol=0.0, n_iter_no_change=10_000)
    whole, watched = fit(kind(**params), X, y), fit(kind(**params, verbose=1), X, y)
    assert whole.n_iter_ == 700
    assert whole.loss_curve_ == watched.loss_curve_
    assert_same_weights(whole, watched)


@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
@pytest.mark.parametrize("kind", ESTIMATORS)
def test_warm_start_goes_on(kind, solver):
    X, y = draw(kind)
    model = fit(kind(**SETTINGS, solver=solver, warm_start=True, max_iter=5), X, y)
    before, loss = [w.copy() for w in model.coefs_], model.loss_
    fit(model, X, y)
    assert model.loss_ < loss
    if solver != "lbfgs":
        assert len(model.loss_curve_) == 10
        assert model.t_ == 800
    model.set_params(solver="sgd", learning_rate_init=1e-12, max_iter=1)
    start = [w.copy() for w in model.coefs_]
    fit(model, X, y)
    np.testing.assert_allclose(model.coefs_[0], start[0], atol=1e-6)
    assert not np.allclose(model.coefs_[0], before[0], atol=1e-6)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_without_warm_start_everything_is_new(kind):
    X, y = draw(kind)
    model = fit(kind(**SETTINGS, max_iter=5), X, y)
    curve = list(model.loss_curve_)
    fit(model, X, y)
    assert model.loss_curve_ == curve


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_warm_start_refuses_another_network(kind):
    X, y = draw(kind)
    model = fit(kind(**SETTINGS, warm_start=True, max_iter=3), X, y)
    expected = model.predict(X)
    model.set_params(hidden_layer_sizes=(3,))
    with pytest.raises(ValueError, match="hidden_layer_sizes"):
        model.fit(X, y)
    model.set_params(hidden_layer_sizes=(6,))
    np.testing.assert_array_equal(model.predict(X), expected)


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("dtypes", [("float64", "float32"), ("float32", "float64")])
def test_dtype_may_change_between_calls(kind, dtypes):
    X, y = draw(kind)
    model = kind(**SETTINGS, dtype=dtypes[0])
    first = {"classes": np.unique(y)} if kind is BackpropClassifier else {}
    model.partial_fit(X, y, **first)
    model.set_params(dtype=dtypes[1]).partial_fit(X, y)
    twin = kind(**SETTINGS, dtype="float64")
    twin.partial_fit(X, y, **first).partial_fit(X, y)
    assert {w.dtype for w in model.coefs_} == {np.dtype(dtypes[1])}
    np.testing.assert_allclose(model.loss_curve_, twin.loss_curve_, rtol=5e-5)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_sample_weight_two_is_the_row_twice(kind):
    X, y = draw(kind, 40)
    twice = np.repeat(np.arange(40), 2)
    params = dict(
        SETTINGS, dtype="float64", shuffle=False, max_iter=20, tol=0.0, alpha=0.0, batch_size=80
    )
    with pytest.warns(UserWarning, match="batch_size"):
        left = fit(kind(**params), X, y, sample_weight=np.full(40, 2.0))
    right = fit(kind(**params), X[twice], y[twice])
    np.testing.assert_allclose(left.coefs_[0], right.coefs_[0], rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_minibatch_without_weight_is_skipped(kind):
    X, y = draw(kind, 64)
    weight = np.ones(64)
    weight[16:32] = 0
    params = dict(SETTINGS, shuffle=False, max_iter=5, tol=0.0, dtype="float64")
    left = fit(kind(**params), X, y, sample_weight=weight)
    rows = np.r_[0:16, 32:64]
    right = fit(kind(**params), X[rows], y[rows])
    for a, b in zip(left.coefs_, right.coefs_, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


# --- interrupts -----------------------------------------------------------------------------------


@contextmanager
def interrupt_after(delay_s):
    """Send this process SIGINT after a while, unless the block has ended by then."""
    timer = threading.Timer(delay_s, signal.raise_signal, (signal.SIGINT,))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


@pytest.mark.parametrize(
    ("kind", "early_stopping", "verbose"), cover_pairs(ESTIMATORS, [False, True], [False, True])
)
def test_interrupt_keeps_a_usable_model(kind, early_stopping, verbose, capsys):
    X, y = draw(kind)
    model = kind(
        **SETTINGS, solver="sgd", learning_rate_init=1e-6, max_iter=3_000_000, tol=0.0,
        n_iter_no_change=np.inf, early_stopping=early_stopping, verbose=verbose,
    )  # fmt: skip
    with pytest.warns(UserWarning, match="[Ii]nterrupted") as caught, interrupt_after(0.2):
        model.fit(X, y)
    assert not any(warning.category is ConvergenceWarning for warning in caught)
    assert 0 < model.n_iter_ < 3_000_000
    assert len(model.loss_curve_) == model.n_iter_
    assert model.t_ == model.n_iter_ * (72 if early_stopping else 80)
    assert np.isfinite(model.predict(X)).all()
    if not early_stopping:
        model.partial_fit(X, y)


def test_interrupt_between_lbfgs_iterations_keeps_a_usable_model():
    X, y = draw(BackpropRegressor, 2000)
    model = BackpropRegressor(
        hidden_layer_sizes=(200, 200), solver="lbfgs", tol=0.0, max_iter=10**6, max_fun=10**8,
        random_state=0,
    )  # fmt: skip
    with pytest.warns(UserWarning, match="[Ii]nterrupted"), interrupt_after(0.5):
        model.fit(X, y)
    assert np.isfinite(model.predict(X)).all()


@pytest.mark.skipif(os.name != "posix", reason="sends a POSIX signal")
def test_ctrl_c_of_a_program():
    """A real SIGINT from outside, while a complete program trains."""
    program = """
import sys, warnings
import numpy as np
from fastbp import BackpropClassifier
warnings.simplefilter("ignore")
X = np.random.default_rng(0).standard_normal((200, 5))
model = BackpropClassifier((6,), max_iter=10**8, tol=0.0, n_iter_no_change=float("inf"))
model.set_params(max_iter=1).fit(X, X[:, 0] > 0).set_params(max_iter=10**8)
print("ready", flush=True)
model.fit(X, X[:, 0] > 0)
model.predict(X)
print("usable", model.n_iter_ > 0)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        timer = threading.Timer(0.3, process.send_signal, (signal.SIGINT,))
        timer.start()
        try:
            out, err = process.communicate(timeout=60)
        finally:
            timer.cancel()
            process.kill()
    assert out == "usable True\n", err


# --- work outside the engine ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.usefixtures("compiled_engine")
def test_a_default_fit_does_no_python_work_per_minibatch(kind):
    X, y = draw(kind)
    counts = []
    for batch_size in (80, 80, 1):  # the first fills caches
        model = kind(**{**SETTINGS, "batch_size": batch_size}, tol=1e6, learning_rate_init=1e-6)
        counts.append(count_events(lambda: model.fit(X, y)))  # noqa: B023
        assert model.n_iter_ == 12
    assert counts[1] == counts[2]


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.usefixtures("compiled_engine")
def test_a_default_fit_does_no_python_work_per_epoch(kind):
    X, y = draw(kind)
    counts = []
    for n_iter_no_change in (10, 10, 150):
        model = kind(**SETTINGS, tol=1e6, n_iter_no_change=n_iter_no_change)
        counts.append(count_events(lambda: model.fit(X, y)))  # noqa: B023
    assert counts[2] - counts[1] < 140 / 2


def test_iterations_of_lbfgs_are_counted_from_1(capsys):
    X, y = draw_regression(50, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = BackpropRegressor(solver="lbfgs", max_iter=4, verbose=True, random_state=0)
        model.fit(X, y)
    shown = [int(n) for n in re.findall(r"Iteration (\d+),", capsys.readouterr().out)]
    assert shown[:2] == [1, 2]
    assert shown[-1] == model.n_iter_ == 4
