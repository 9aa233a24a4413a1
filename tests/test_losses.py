"""Entries of `LOSSES`: plain formulas held against central differences and the reference."""

import itertools
import math
import warnings
from contextlib import closing

import numpy as np
import pytest
import reference
from covering import naming
from scipy.special import expit, softmax
from sklearn.neural_network._base import LOSS_FUNCTIONS

from fastbp.losses import CLIPPED, LOSSES, Focal, LogLoss, clipped, loss_for

REAL = [name for name, row in LOSSES.items() if row.target == "real"]
CLASS = [name for name, row in LOSSES.items() if row.target == "class"]
SCIKIT_LEARNS = [name for name in LOSSES if name in LOSS_FUNCTIONS]


def targets_for(row):
    """Targets that a row takes; with a link "identity" none at a kink of the losses there are."""
    if row.task == "binary":
        return [0.0, 1.0]
    if row.target_min is None:
        return [-3.1, 0.1, 1.1, 250.0]
    return [row.target_min + above for above in (0.0, 0.01, 0.3, 1.0, 40.0)[row.above_min :]]


TARGETS = {name: targets_for(LOSSES[name]) for name in REAL}
SCORES = [-30.0, -3.0, -1.0, -0.2, 0.0, 0.2, 1.0, 3.0, 30.0]


def as_rows(*numbers):
    """Return 1 x n arrays for the reference."""
    return [np.atleast_2d(np.asarray(number, dtype=float)) for number in numbers]


def value_of(row, *point):
    """Return the row's loss."""
    return row.value(*point, row.hyper) if row.hyper else row.value(*point)


def gradient_of(row, *point):
    """Return the gradient of an elementwise loss."""
    return row.gradient(*point, row.hyper) if row.hyper else row.gradient(*point)


def compute_gradient(row, code, raw):
    """Return the gradient of a loss that sees one target and a row of scores."""
    out = [math.nan] * len(raw)
    given = (row.hyper,) if row.hyper else ()
    row.gradient(code, raw, *given, out)
    return out


@pytest.mark.parametrize("name", LOSSES)
def test_row_is_complete(name):
    row = LOSSES[name]
    assert row.name == name
    assert row.kernel in (name, None)
    assert row.output_mean == reference.find_loss(name)[2]
    if row.link == "log":  # a mean below 0 is out of reach
        assert row.target_min >= 0
    outputs = {
        ("regression", "real"): ("identity", "exp"),
        ("regression", "shared"): ("cumulative_softplus",),
        ("binary", "real"): ("logistic",),
        ("multiclass", "class"): ("softmax",),
    }
    assert row.output in outputs[row.task, row.target]
    row.check("loss")


def test_targets_of_log_links():
    bounds = {name: (row.target_min, row.above_min) for name, row in LOSSES.items()}
    assert bounds["squared_error"] == (None, False)
    assert bounds["poisson"] == bounds["tweedie"] == (0.0, False)
    assert bounds["gamma"] == (0.0, True)


def test_rows_for_kinds_of_target():
    assert loss_for("log_loss", "multiclass").name == "log_loss"
    assert loss_for("log_loss", "binary").name == "binary_log_loss"
    assert loss_for("log_loss", "multilabel").name == "binary_log_loss"
    assert loss_for("poisson", "real").name == "poisson"
    assert loss_for("squared_error", "real").name == "squared_error"


@pytest.mark.parametrize("name", REAL)
def test_gradient_equals_central_differences(name):
    row, step = LOSSES[name], 1e-5
    for y, raw in itertools.product(TARGETS[name], SCORES):
        expected = (value_of(row, y, raw + step) - value_of(row, y, raw - step)) / (2 * step)
        scale = abs(value_of(row, y, raw)) + 1.0
        with naming(y, raw):
            assert gradient_of(row, y, raw) == pytest.approx(expected, rel=1e-8, abs=1e-10 * scale)


@pytest.mark.parametrize("name", REAL)
def test_row_equals_reference(name):
    value, gradient, _ = reference.find_loss(name)
    for y, raw in itertools.product(TARGETS[name], SCORES):
        target, score = as_rows(y, raw)
        row, expected = LOSSES[name], value(target, score)[0]
        with naming(y, raw):
            assert value_of(row, y, raw) == pytest.approx(expected, rel=1e-12, abs=1e-13)
            assert gradient_of(row, y, raw) == pytest.approx(
                gradient(target, score)[0, 0], rel=1e-12, abs=1e-15
            )


@pytest.mark.parametrize("raw", [[0.3, -1.0, 2.0], [0.0, 0.0], [30.0, -30.0, 0.0, 1.0], [5.0]])
@pytest.mark.parametrize("name", CLASS)
def test_class_row_equals_reference_and_differences(name, raw):
    row, step = LOSSES[name], 1e-6
    value, gradient, _ = reference.find_loss(name)
    for code in range(len(raw)):
        target, scores = as_rows([code], raw)
        expected = value(target, scores)[0]
        assert value_of(row, code, raw) == pytest.approx(expected, rel=1e-12, abs=1e-13)
        got = compute_gradient(row, code, raw)
        np.testing.assert_allclose(got, gradient(target, scores)[0], rtol=1e-12, atol=1e-15)
        for k in range(len(raw)):
            above = [s + step * (j == k) for j, s in enumerate(raw)]
            below = [s - step * (j == k) for j, s in enumerate(raw)]
            expected = (value_of(row, code, above) - value_of(row, code, below)) / (2 * step)
            assert got[k] == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("raw", [[0.3, -1.0, 2.0], [-2.0, 0.7, -3.0], [1e4, 1e4, -1e4]])
@pytest.mark.parametrize("y", [-1.3, 0.31, 3.0])
def test_quantiles_equal_reference_and_differences(y, raw):
    row, step = LOSSES["quantiles"], 1e-6
    value, gradient, _ = reference.find_loss("quantiles")
    target, scores = as_rows([y], raw)
    assert value_of(row, y, raw) == pytest.approx(value(target, scores)[0], rel=1e-13)
    got = compute_gradient(row, y, raw)
    np.testing.assert_allclose(got, gradient(target, scores)[0], rtol=1e-12, atol=1e-16)
    for k in range(3 if abs(raw[0]) < 1e3 else 0):
        above = [s + step * (j == k) for j, s in enumerate(raw)]
        below = [s - step * (j == k) for j, s in enumerate(raw)]
        expected = (value_of(row, y, above) - value_of(row, y, below)) / (2 * step)
        assert got[k] == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("name", SCIKIT_LEARNS)
def test_value_equals_scikit_learns(name):
    """At scores where its clipped probabilities are still exact."""
    rng = np.random.default_rng(0)
    raw = rng.uniform(-3, 3, (1, 3))
    if name in CLASS:
        target, got = np.array([[0.0, 1.0, 0.0]]), LOSSES[name].value(1, list(raw[0]))
        prediction = np.exp(raw) / np.exp(raw).sum()
    else:
        target = rng.choice(TARGETS[name], (1, 3))
        values = [LOSSES[name].value(y, s) for y, s in zip(target[0], raw[0], strict=True)]
        got = np.mean(values) if LOSSES[name].output_mean else np.sum(values)
        prediction = {
            "identity": raw, "exp": np.exp(raw), "logistic": 1 / (1 + np.exp(-raw)),
        }[LOSSES[name].output]  # fmt: skip
    assert got == pytest.approx(LOSS_FUNCTIONS[name](target, prediction), rel=1e-12)


def test_log_losses_do_not_overflow():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert LOSSES["binary_log_loss"].value(1.0, -1e4) == 1e4
        assert LOSSES["binary_log_loss"].value(0.0, 1e4) == 1e4
        assert LOSSES["binary_log_loss"].value(1.0, 1e4) == 0.0
        assert LOSSES["binary_log_loss"].gradient(1.0, -1e4) == -1.0
        assert LOSSES["binary_log_loss"].gradient(0.0, 1e4) == 1.0
        assert LOSSES["log_loss"].value(0, [-1e4, 1e4]) == 2e4
        assert compute_gradient(LOSSES["log_loss"], 0, [-1e4, 1e4]) == [-1.0, 1.0]


@pytest.mark.parametrize("name", REAL)
def test_nan_stays_nan(name):
    y = TARGETS[name][0]
    assert math.isnan(value_of(LOSSES[name], y, math.nan))
    assert math.isnan(gradient_of(LOSSES[name], y, math.nan))


@pytest.mark.parametrize("name", [*CLASS, "quantiles"])
@pytest.mark.parametrize("position", [0, 1, 2])
def test_nan_stays_nan_for_classes(name, position):
    raw = [0.3, -1.0, 2.0]
    raw[position] = math.nan
    assert math.isnan(value_of(LOSSES[name], 1, raw))


# --- scikit-learn's clipped probabilities ---------------------------------------------------------

SATURATED = np.concatenate([np.linspace(-40, 40, 161), [-1e4, 1e4, -0.0, 700.0, -745.2]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["multiclass", "binary"])
def test_clipped_losses_equal_scikit_learns(kind, dtype, forced_engine):
    """Formulas and engines, far into saturation; the gradient is that of the log loss."""
    eps = np.finfo(dtype).eps
    exact = loss_for("log_loss", kind)
    row = clipped(exact, eps)
    changed = {"value", "gradient", "kernel", "hyper"}
    before, after = exact.get_params(deep=False), row.get_params(deep=False)
    assert {name for name in before if before[name] != after[name]} == changed
    if kind == "binary":
        raw = np.repeat(SATURATED, 2)[:, np.newaxis]
        targets = np.resize([0.0, 1.0], raw.shape)
        prediction, truth = expit(raw.astype(dtype)), targets
    else:
        raw = np.column_stack([SATURATED, np.zeros_like(SATURATED), -0.7 * SATURATED])
        targets = np.arange(len(raw))[:, np.newaxis] % 3.0
        prediction, truth = softmax(raw.astype(dtype), axis=1), targets == np.arange(3)
    function = LOSS_FUNCTIONS["binary_log_loss" if kind == "binary" else "log_loss"]
    expected = [function(truth[[i]], prediction[[i]]) for i in range(len(raw))]
    answers = targets[:, 0].astype(int)
    scores = raw[:, 0].tolist() if kind == "binary" else raw.tolist()
    if dtype == np.float64:
        got = [row.value(y, s, row.hyper) for y, s in zip(answers, scores, strict=True)]
        np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-16)
    sizes = (raw.shape[1], raw.shape[1])
    params = np.concatenate([np.eye(raw.shape[1]).ravel(), np.zeros(raw.shape[1])]).astype(dtype)
    found = []
    for loss in (row, exact):
        session = forced_engine.Session(sizes, [], loss, dtype=dtype, params=params, batch_size=99)
        gradient = np.empty_like(params)
        data = raw.astype(dtype), targets.astype(dtype)
        with closing(session):
            each = [session.mean_loss(*(part[[i]] for part in data), None) for i in range(len(raw))]
            session.loss_and_gradient(params, *data, None, alpha=0.0, gradient=gradient)
        found.append((each, gradient))
    np.testing.assert_allclose(found[0][0], expected, rtol=20 * eps, atol=2 * eps)
    np.testing.assert_array_equal(found[0][1], found[1][1])


@pytest.mark.parametrize("kind", ["multiclass", "binary"])
def test_clipped_losses_keep_nan(kind, engine):
    row = clipped(loss_for("log_loss", kind), 1e-16)
    raw = [0.3, math.nan, 2.0] if kind == "multiclass" else math.nan
    assert math.isnan(row.value(0, raw, row.hyper))
    n = np.size(raw)
    session = engine.Session(
        (1, n), [], row, dtype=np.float64, params=np.zeros(2 * n), batch_size=1
    )
    with closing(session):
        assert math.isnan(session.mean_loss(np.full((1, n), math.nan), np.zeros((1, 1)), None))


def test_only_the_plain_log_loss_is_clipped():
    def log_loss(y_true, raw):
        return raw * y_true

    for loss in (log_loss, Focal(), LogLoss(label_smoothing=0.1), "log_loss"):
        row = loss_for(loss, "binary")
        assert (clipped(row, 1e-16) is row) == (loss != "log_loss")
    assert set(CLIPPED) == {"log_loss", "binary_log_loss"}
