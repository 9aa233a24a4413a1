"""The rows of `OPTIMIZERS`: they go downhill, and step as the reference and the engines do."""

from contextlib import closing

import numpy as np
import pytest
import reference
from problems import HYPERPARAMETERS, draw_problem

from fastbp.activations import ACTIVATIONS
from fastbp.losses import LOSSES
from fastbp.optimizers import OPTIMIZERS

STOCHASTIC = [name for name, row in OPTIMIZERS.items() if row.stochastic]

VARIANTS = [
    ("sgd", {"momentum": 0.0, "nesterovs_momentum": False}, 0.001),
    ("sgd", {"momentum": 0.9, "nesterovs_momentum": False}, 0.0005),
    ("sgd", {"momentum": 0.9, "nesterovs_momentum": True}, 0.0005),
    ("adam", {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8}, 0.02),
    ("adam", {"beta_1": 0.0, "beta_2": 0.99, "epsilon": 1e-8}, 0.002),
]


def descend(name, hyper, learning_rate, gradient, start, n_steps):
    """Run the row's scalar formula on each coordinate; return the end point."""
    row = OPTIMIZERS[name]
    numbers = tuple(hyper[key] for key in row.hyperparameters)
    point, slots = list(start), [(0.0,) * row.n_slots for _ in start]
    for t in range(1, n_steps + 1):
        for k, g in enumerate(gradient(point)):
            point[k], slots[k] = row.update(point[k], g, slots[k], learning_rate, t, numbers)
    return point


def bowl_gradient(point):
    """Gradient of (x^2 + 10 y^2) / 2."""
    return [point[0], 10 * point[1]]


def rosenbrock_gradient(point):
    """Gradient of (1 - x)^2 + 100 (y - x^2)^2."""
    x, y = point
    return [-2 * (1 - x) - 400 * x * (y - x * x), 200 * (y - x * x)]


def test_names():
    assert set(OPTIMIZERS) == {"lbfgs", "sgd", "adam"}
    assert STOCHASTIC == ["sgd", "adam"]
    assert all(OPTIMIZERS[name].name == name for name in OPTIMIZERS)


@pytest.mark.parametrize(("name", "hyper", "learning_rate"), VARIANTS)
def test_finds_the_bottom_of_a_bowl(name, hyper, learning_rate):
    # With beta_1 = 0 Adam steps by about the rate to either side of the minimum.
    end = descend(name, hyper, 10 * learning_rate, bowl_gradient, [3.0, -2.0], 3000)
    assert np.abs(end).max() < 0.02


@pytest.mark.parametrize(("name", "hyper", "learning_rate"), VARIANTS)
def test_walks_along_the_valley_of_rosenbrock(name, hyper, learning_rate):
    end = descend(name, hyper, learning_rate, rosenbrock_gradient, [-0.5, 0.5], 20_000)
    np.testing.assert_allclose(end, [1.0, 1.0], atol=0.02)


@pytest.mark.parametrize(("name", "hyper", "learning_rate"), VARIANTS)
def test_row_equals_reference(name, hyper, learning_rate):
    row, rng = OPTIMIZERS[name], np.random.default_rng(0)
    n_slots, update = reference.find_optimizer(name)
    assert row.n_slots == n_slots
    assert set(row.hyperparameters) == set(hyper)
    w, numbers = rng.standard_normal(), tuple(hyper[key] for key in row.hyperparameters)
    slots = tuple(rng.uniform(0.1, 1, n_slots))
    expected, expected_slots = w, list(slots)
    for t in range(1, 8):
        g = rng.standard_normal()
        w, slots = row.update(w, g, slots, learning_rate, t, numbers)
        expected, expected_slots = update(expected, g, expected_slots, learning_rate, t, hyper)
        assert w == pytest.approx(expected, rel=1e-14)
        assert list(slots) == pytest.approx(list(expected_slots), rel=1e-14)


@pytest.mark.parametrize(("name", "hyper", "learning_rate"), VARIANTS)
@pytest.mark.parametrize("sizes", [(5, 9, 2), (3, 1), (17, 33, 16, 1)], ids=str)
def test_engine_steps_by_the_rows_formula(forced_engine, sizes, name, hyper, learning_rate):
    """One full-batch step after another, the gradient asked for in between."""
    row, problem = OPTIMIZERS[name], draw_problem(sizes, activation="tanh")
    numbers = tuple(hyper[key] for key in row.hyperparameters)
    session = forced_engine.Session(
        sizes, [ACTIVATIONS["tanh"]] * (len(sizes) - 2), LOSSES["squared_error"], dtype=np.float64,
        params=problem.params, batch_size=60, n_threads=1, sparse=False,
    )  # fmt: skip
    with closing(session):
        session.set_optimizer(row, hyper)
        params, gradient = problem.params.copy(), np.zeros_like(problem.params)
        got, slots = params.copy(), [(0.0,) * row.n_slots for _ in params]
        for t in range(1, 6):
            session.loss_and_gradient(
                params, problem.X, problem.targets, None, alpha=0.1, gradient=gradient
            )
            for k, g in enumerate(gradient):
                params[k], slots[k] = row.update(params[k], g, slots[k], 0.01, t, numbers)
            session.train(
                problem.X, problem.targets, None, None, shuffle=None, batch_size=60, alpha=0.1,
                learning_rate=0.01, n_epochs=1, losses=np.zeros(1),
            )  # fmt: skip
            session.params_into(got)
            np.testing.assert_allclose(got, params, rtol=0, atol=1e-12)
            got_slots = np.zeros((row.n_slots, len(params)))
            session.slots_into(got_slots)
            np.testing.assert_allclose(got_slots, np.transpose(slots), rtol=0, atol=1e-12)


def test_hyperparameters_of_the_tests_are_the_rows():
    for name in STOCHASTIC:
        assert set(HYPERPARAMETERS[name]) == set(OPTIMIZERS[name].hyperparameters)
