"""Entries of `OPTIMIZERS`: they go downhill, and step as the reference and the engines do."""

import inspect
import pickle
import warnings
from contextlib import closing

import numpy as np
import pytest
import reference
from covering import naming
from problems import HYPERPARAMETERS, draw_problem, draw_regression
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from test_training import assert_same_weights, fit

from fastbp import BackpropRegressor
from fastbp.activations import ACTIVATIONS
from fastbp.losses import LOSSES
from fastbp.optimizers import (
    LBFGS,
    OPTIMIZERS,
    SGD,
    Adam,
    AdamW,
    Lion,
    Optimizer,
    RMSprop,
    lion_update,
)

STOCHASTIC = [name for name, row in OPTIMIZERS.items() if row.stochastic]

VARIANTS = [
    ("sgd", {"momentum": 0.0, "nesterovs_momentum": False}, 0.001),
    ("sgd", {"momentum": 0.9, "nesterovs_momentum": False}, 0.0005),
    ("sgd", {"momentum": 0.9, "nesterovs_momentum": True}, 0.0005),
    ("adam", {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8}, 0.02),
    ("adam", {"beta_1": 0.0, "beta_2": 0.99, "epsilon": 1e-8}, 0.002),
    ("adamw", {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8, "weight_decay": 0.0}, 0.02),
    ("adamw", {"beta_1": 0.9, "beta_2": 0.99, "epsilon": 1e-8, "weight_decay": 1e-4}, 0.01),
    ("rmsprop", {"beta_2": 0.99, "epsilon": 1e-8, "momentum": 0.0}, 0.0005),
    ("rmsprop", {"beta_2": 0.9, "epsilon": 1e-6, "momentum": 0.9}, 0.0002),
    ("lion", {"beta_1": 0.9, "beta_2": 0.99, "weight_decay": 0.0}, 0.0005),
    ("lion", {"beta_1": 0.95, "beta_2": 0.98, "weight_decay": 1e-3}, 0.0005),
]


NAMED = {name for name, *_ in VARIANTS}
RATE = "optimizer {!r} does not get there with its rate in VARIANTS (unnamed ones have 5e-4)"
VARIANTS += [
    (name, OPTIMIZERS[name].get_params(), 5e-4) for name in STOCHASTIC if name not in NAMED
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
    assert set(STOCHASTIC) >= {"sgd", "adam", "adamw", "rmsprop", "lion"}
    assert not OPTIMIZERS["lbfgs"].stochastic
    assert all(OPTIMIZERS[name].name == name for name in OPTIMIZERS)
    for row in OPTIMIZERS.values():
        assert row.hyperparameters == tuple(inspect.signature(type(row)).parameters)
        assert set(row.hyperparameters) >= set(row.shared)
        assert row.decay is None or row.decay in row.hyperparameters


@pytest.mark.parametrize(("name", "hyper", "learning_rate"), VARIANTS)
def test_finds_the_bottom_of_a_bowl(name, hyper, learning_rate):
    # With beta_1 = 0 Adam steps by about the rate to either side of the minimum.
    end = descend(name, hyper, 10 * learning_rate, bowl_gradient, [3.0, -2.0], 3000)
    assert np.abs(end).max() < 0.02, RATE.format(name)


@pytest.mark.parametrize(("name", "hyper", "learning_rate"), VARIANTS)
def test_walks_along_the_valley_of_rosenbrock(name, hyper, learning_rate):
    end = descend(name, hyper, learning_rate, rosenbrock_gradient, [-0.5, 0.5], 20_000)
    np.testing.assert_allclose(end, [1.0, 1.0], atol=0.02, err_msg=RATE.format(name))


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
def test_engine_steps_by_the_rows_formula(forced_engine, name, hyper, learning_rate):
    """One full-batch step after another, the gradient asked for in between."""
    for sizes in ((5, 9, 2), (3, 1), (17, 33, 16, 1)):
        with naming(sizes):
            check_steps(forced_engine, sizes, name, hyper, learning_rate)


def check_steps(engine, sizes, name, hyper, learning_rate):
    """Step with the engine and with the row's formula."""
    row, problem = OPTIMIZERS[name], draw_problem(sizes, activation="tanh")
    numbers = tuple(hyper[key] for key in row.hyperparameters)
    for_biases = tuple(0.0 if key == row.decay else hyper[key] for key in row.hyperparameters)
    is_weight = np.zeros(len(problem.params), bool)
    for W, _ in reference.split(is_weight, sizes):
        W[:] = True
    session = engine.Session(
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
                given = numbers if is_weight[k] else for_biases
                params[k], slots[k] = row.update(params[k], g, slots[k], 0.01, t, given)
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


# --- names and objects ----------------------------------------------------------------------------

X, Y = draw_regression(60, 4)
SETTINGS = dict(hidden_layer_sizes=(6,), random_state=0, max_iter=8, tol=0.0)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_name_is_the_object_with_the_estimators_values(engine_name, name):
    settings = SETTINGS | {"engine": engine_name}
    named = fit(BackpropRegressor(solver=name, **settings), X, Y)
    owned = fit(BackpropRegressor(solver=OPTIMIZERS[name], **settings), X, Y)
    assert_same_weights(named, owned)


ESTIMATORS_VALUES = dict(
    momentum=0.3, nesterovs_momentum=False, beta_1=0.5, beta_2=0.9, epsilon=1e-3
)


@pytest.mark.parametrize("name", STOCHASTIC)
def test_names_take_what_is_shared_and_objects_nothing(name):
    row = OPTIMIZERS[name]
    named = fit(BackpropRegressor(solver=name, **SETTINGS, **ESTIMATORS_VALUES), X, Y)
    shared = {key: ESTIMATORS_VALUES[key] for key in row.shared}
    explicit = type(row)(**shared)
    assert_same_weights(named, fit(BackpropRegressor(solver=explicit, **SETTINGS), X, Y))
    owned = fit(BackpropRegressor(solver=row, **SETTINGS, **ESTIMATORS_VALUES), X, Y)
    assert_same_weights(owned, fit(BackpropRegressor(solver=row, **SETTINGS), X, Y))
    assert bool(shared) == (named.loss_ != owned.loss_)


@pytest.mark.parametrize("solver", [AdamW, Lion])
def test_weight_decay_spares_biases(engine_name, solver):
    """Where no gradient flows, weights shrink by rate times decay in each step and biases stay."""
    zero = np.zeros((40, 3))
    model = BackpropRegressor(
        hidden_layer_sizes=(5,), activation="identity", solver=solver(weight_decay=0.5), alpha=0.0,
        batch_size=20, learning_rate_init=0.1, dtype="float64", random_state=0, engine=engine_name,
    )  # fmt: skip
    model.partial_fit(zero, np.zeros(40))
    first = [w.copy() for w in (model.coefs_[0], model.intercepts_[0])]
    model.partial_fit(zero, np.zeros(40))
    np.testing.assert_allclose(model.coefs_[0], first[0] * 0.95**2, rtol=1e-12)
    assert (np.abs(model.intercepts_[0] - first[1]) > 1e-3).any()  # these follow their gradient


def test_without_decay_adamw_is_adam():
    settings = SETTINGS | {"dtype": "float64"}
    left = fit(BackpropRegressor(solver=AdamW(weight_decay=0.0), **settings), X, Y)
    right = fit(BackpropRegressor(solver="adam", **settings), X, Y)
    np.testing.assert_allclose(left.coefs_[0], right.coefs_[0], rtol=0, atol=1e-12)


def test_not_a_number_is_no_direction_for_lion():
    _, (m,) = lion_update(1.0, np.nan, (0.0,), 0.1, 1, (0.9, 0.99, 0.0))
    w, _ = lion_update(1.0, np.nan, (0.0,), 0.1, 1, (0.9, 0.99, 0.0))
    assert np.isnan(w)
    assert np.isnan(m)


@pytest.mark.parametrize("row", OPTIMIZERS.values(), ids=str)
def test_solvers_are_descriptions(row):
    assert clone(row) == pickle.loads(pickle.dumps(row)) == row
    assert type(row)() == row
    for name in row.hyperparameters:
        assert type(row)(**{name: 0.123}) != row


def test_searches_vary_solvers():
    model = BackpropRegressor(**SETTINGS | {"solver": AdamW(), "alpha": 0.0})
    grid = [
        {"solver__weight_decay": [1.0, 5.0]},
        {"solver": ["adam", Adam(beta_2=0.9), Lion(), RMSprop(momentum=0.5), SGD(0.5), "lbfgs"]},
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        search = GridSearchCV(model, grid, cv=2).fit(X, Y)
    scores = search.cv_results_["mean_test_score"]
    assert len(set(scores)) == 8
    assert model.solver == AdamW()


def test_partial_fit_with_objects():
    model = BackpropRegressor(**SETTINGS, solver=Lion())
    assert_same_weights(
        model.partial_fit(X, Y).partial_fit(X, Y),
        clone(model).set_params(solver="lion").partial_fit(X, Y).partial_fit(X, Y),
    )
    assert not hasattr(BackpropRegressor(solver=LBFGS()), "partial_fit")


class Homemade(Adam):
    """Not a solver of the table."""


@pytest.mark.parametrize(
    ("solver", "name"),
    [
        ("adamax", "solver"), (AdamW, "solver"), (None, "solver"), (Homemade(), "solver"),
        (Optimizer(), "solver"), (AdamW(weight_decay=-0.1), "solver__weight_decay"),
        (AdamW(weight_decay=None), "solver__weight_decay"), (Adam(beta_1=1.0), "solver__beta_1"),
        (Lion(beta_2=-0.1), "solver__beta_2"), (RMSprop(epsilon=0.0), "solver__epsilon"),
        (SGD(momentum=1.1), "solver__momentum"), (SGD(nesterovs_momentum=1), "solver__nesterovs"),
        (Adam(epsilon=np.nan), "solver__epsilon"),
    ],
)  # fmt: skip
def test_bad_parameters(solver, name):
    with pytest.raises(ValueError, match=f"The '{name}.*' parameter .* must be"):
        BackpropRegressor(solver=solver).fit(X, Y)
