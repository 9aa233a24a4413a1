"""Losses and gradients of every engine: central differences, the reference, extreme scores."""

import itertools
from contextlib import closing

import numpy as np
import pytest
import reference
from covering import cover_pairs, naming
from problems import draw_problem
from reference import FLOAT32_LOSS_TOLERANCE, FLOAT64_TOLERANCE
from sessions import (
    DTYPES,
    N_OUTPUTS,
    OF_ROWS,
    draw_problem_once,
    open_session,
)

from fastbp.activations import ACTIVATIONS
from fastbp.losses import LOSSES

# Dense, sparse or weighted data, or no hidden layer; one output (of rows: two), or three.
GRADIENTS = cover_pairs(
    ACTIVATIONS, LOSSES, ["dense", "sparse", "weighted", "no hidden layer"], ["few", "three"]
)


@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_equals_central_differences(engine, loss):
    """The true gradient of the value, and of the objective that sgd and adam step on."""
    for activation, name, kind, outputs in GRADIENTS:
        if name == loss:
            n_outputs = 3 if outputs == "three" or loss == "quantiles" else 1 + (loss in OF_ROWS)
            with naming(activation, kind, f"{n_outputs} outputs"):
                check_central_differences(engine, activation, loss, n_outputs, kind)


def check_central_differences(engine, activation, loss, n_outputs, kind):
    """Compare a gradient with the values at both sides of every parameter."""
    sizes = (4, n_outputs) if kind == "no hidden layer" else (4, 5, 3, n_outputs)
    problem = draw_problem(
        sizes, activation=activation, loss=loss, n_samples=20, weighted=kind == "weighted",
        density=0.5 if kind == "sparse" else None, seed=3,
    )  # fmt: skip
    scale = n_outputs if LOSSES[loss].output_mean else 1
    with closing(open_session(engine, problem, batch_size=20)) as session:

        def compute(params, alpha, mean_gradient=LOSSES[loss].output_mean):
            gradient = np.full(len(params), np.nan)
            value = session.loss_and_gradient(
                params, problem.X, problem.targets, problem.sample_weight, alpha=alpha,
                gradient=gradient, mean_gradient=mean_gradient,
            )  # fmt: skip
            return value, gradient

        def value_and_stepped(params):
            value = compute(params, 0.3)[0]
            # Without a mean over outputs they are the same number.
            data = compute(params, 0.0)[0] if scale != 1 else 0.0
            return np.array([value, scale * data + (value - data)])

        _, mean_gradient = compute(problem.params, 0.3)
        _, step_gradient = compute(problem.params, 0.3, mean_gradient=False)
        for k, step in enumerate(1e-6 * np.eye(len(problem.params))):
            above = value_and_stepped(problem.params + step)
            slopes = (above - value_and_stepped(problem.params - step)) / 2e-6
            assert mean_gradient[k] == pytest.approx(slopes[0], rel=1e-6, abs=1e-8)
            assert step_gradient[k] == pytest.approx(slopes[1], rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_equals_reference(forced_engine, loss, dtype):
    """On a full batch of several blocks."""
    for mean_gradient, density, weighted in itertools.product(
        [False, True] if LOSSES[loss].output_mean else [False], [None, 0.3], [False, True]
    ):
        with naming(mean_gradient, density, weighted):
            check_gradient(forced_engine, loss, mean_gradient, density, weighted, dtype)


def check_gradient(engine, loss, mean_gradient, density, weighted, dtype):
    """Compare value and gradient with the reference."""
    problem = draw_problem_once(
        (7, 9, 5, N_OUTPUTS[loss]), loss=loss, n_samples=2500, density=density, weighted=weighted
    )
    X, targets, weight, params = problem.in_dtype(dtype)
    value, expected = reference.loss_and_gradient(
        params, problem.sizes, problem.activations, loss, X, targets, weight, alpha=0.5,
        mean_gradient=mean_gradient,
    )  # fmt: skip
    with closing(open_session(engine, problem, dtype, batch_size=1024)) as session:
        gradient = np.full(len(params), np.nan, dtype)
        got = session.loss_and_gradient(
            params, X, targets, weight, alpha=0.5, gradient=gradient, mean_gradient=mean_gradient
        )
    exact = dtype == np.float64
    assert got == pytest.approx(value, rel=1e-12 if exact else 1e-5)
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-12 if exact else 2e-5)


def test_gradient_of_more_rows_than_the_minibatch(engine):
    """A session's minibatch bounds its memory, not what may be asked of it."""
    problem = draw_problem_once((7, 9, 2), n_samples=300)
    gradients = []
    for batch_size in (16, 300):
        with closing(open_session(engine, problem, batch_size=batch_size)) as session:
            gradient = np.zeros(len(problem.params))
            session.loss_and_gradient(
                problem.params, problem.X, problem.targets, None, alpha=0.5, gradient=gradient
            )
            gradients.append(gradient)
    np.testing.assert_allclose(gradients[0], gradients[1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_extreme_scores_have_a_finite_loss(engine, dtype):
    """Computed from raw scores, no logarithm of a rounded probability appears."""
    for loss in LOSSES:
        with naming(loss):
            check_extreme_scores(engine, loss, dtype)


def check_extreme_scores(engine, loss, dtype):
    """Compare value and gradient of raw scores far out with the reference."""
    extreme = 80.0 if LOSSES[loss].link == "log" else 1e4
    n_outputs = N_OUTPUTS[loss]
    problem = draw_problem((1, n_outputs), loss=loss, n_samples=40)
    params = np.zeros(2 * n_outputs)
    params[:n_outputs] = extreme * np.where(np.arange(n_outputs) % 2, -1, 1)
    X = np.where(np.arange(40) % 2, -1.0, 1.0)[:, None]
    value, expected = reference.loss_and_gradient(
        params, problem.sizes, (), loss, X, problem.targets, mean_gradient=True
    )
    with closing(open_session(engine, problem, dtype, batch_size=40)) as session:
        gradient = np.zeros(len(params), dtype)
        got = session.loss_and_gradient(
            params.astype(dtype), X.astype(dtype), problem.targets.astype(dtype), None, alpha=0.0,
            gradient=gradient, mean_gradient=LOSSES[loss].output_mean,
        )  # fmt: skip
    tolerance = 1e-12 if dtype == np.float64 else 1e-5
    assert got == pytest.approx(value, rel=tolerance)
    scale = np.abs(X).max() * np.abs(expected).max()
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=tolerance * max(scale, 1))


@pytest.mark.parametrize("dtype", DTYPES)
def test_mean_loss_equals_reference(forced_engine, dtype):
    """Of more rows than a block holds; the scores stay as they are."""
    for loss, weighted in itertools.product(LOSSES, [False, True]):
        with naming(loss, "weighted" if weighted else "plain"):
            check_mean_loss(forced_engine, loss, weighted, dtype)


def check_mean_loss(engine, loss, weighted, dtype):
    """Compare with the reference; twice the same."""
    sizes = (5, 4, N_OUTPUTS[loss])
    problem = draw_problem_once(sizes, loss=loss, n_samples=1100, weighted=weighted)
    X, targets, weight, params = problem.in_dtype(dtype)
    expected, _ = reference.loss_and_gradient(
        params, sizes, problem.activations, loss, X, targets, weight
    )
    with closing(open_session(engine, problem, dtype, batch_size=1024)) as session:
        scores = np.empty((1100, sizes[-1]), dtype)
        session.predict_into(X, scores)
        before = scores.copy()
        got = session.mean_loss(scores, targets, weight)
        tolerance = FLOAT32_LOSS_TOLERANCE if dtype == np.float32 else FLOAT64_TOLERANCE
        assert got == pytest.approx(expected, rel=tolerance)
        np.testing.assert_array_equal(scores, before)
        assert session.mean_loss(scores, targets, weight) == got
