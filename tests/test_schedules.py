"""Learning-rate schedules: against scikit-learn's optimiser classes, against their formulas, and as
estimators train with them."""

import math
import pickle
import warnings

import numpy as np
import pytest
import reference
from problems import draw_classes, draw_regression
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network._stochastic_optimizers import SGDOptimizer
from test_training import assert_same_weights, fit

from fastbp import BackpropClassifier, BackpropRegressor
from fastbp.optimizers import OPTIMIZERS
from fastbp.schedules import (
    SCHEDULES,
    Adaptive,
    Constant,
    Cosine,
    Function,
    InvScaling,
    Linear,
    OneCycle,
    Plateau,
    recreate,
    schedule_for,
)

SGD_ONLY = ["invscaling", "adaptive"]
STOCHASTIC = [name for name, row in OPTIMIZERS.items() if row.stochastic]


def test_names():
    assert set(SCHEDULES) == {
        "constant", "invscaling", "adaptive", "cosine", "one_cycle", "linear", "plateau",
    }  # fmt: skip
    assert all(SCHEDULES[name].name == name for name in SCHEDULES)
    for row in SCHEDULES.values():
        assert sum(map(bool, (row.factors, row.after_epoch, row.on_plateau))) <= 1
        assert set(row.shared) <= set(row.get_params())


# --- scikit-learn's -------------------------------------------------------------------------------


@pytest.mark.parametrize("power_t", [0.0, 0.3, 0.5, 2.0])
def test_invscaling_counts_samples(power_t):
    peer = SGDOptimizer([], 0.1, "invscaling", power_t=power_t)
    row = InvScaling(power_t)
    for n_samples_seen in (1, 61, 122, 10**6):
        peer.iteration_ends(n_samples_seen)
        assert row.after_epoch(0.07, 0.1, n_samples_seen, 0) == peer.learning_rate


def test_adaptive_divides_until_it_is_tiny():
    peer, row, rate = SGDOptimizer([], 0.1, "adaptive"), SCHEDULES["adaptive"], 0.1
    while not peer.trigger_stopping("", verbose=False):
        rate = row.on_plateau(rate)
        assert rate == peer.learning_rate
    assert row.on_plateau(rate) is None


@pytest.mark.parametrize("solver", STOCHASTIC)
@pytest.mark.parametrize("name", SCHEDULES)
def test_which_schedule_acts_with_which_solver(name, solver):
    ignored = name in SGD_ONLY and solver != "sgd"
    for wanted in (name, SCHEDULES[name]):
        row = schedule_for(wanted, OPTIMIZERS[solver])
        assert row == SCHEDULES["constant" if ignored else name]


# --- values ---------------------------------------------------------------------------------------


def rise(step, n_steps, warmup):
    """Share of the warm-up done when this step is."""
    return min(1.0, (step + 1) / (warmup * n_steps)) if warmup else 1.0


def fall(step, n_steps, warmup):
    """Share of what comes after the warm-up done before this step."""
    return max(0.0, (step - warmup * n_steps) / ((1 - warmup) * n_steps))


def half_wave(high, low, share):
    """From high to low along a cosine."""
    return low + (high - low) * (1 + math.cos(math.pi * share)) / 2


CASES = [
    (Cosine(), lambda s, n: half_wave(1, 0, s / n)),
    (Cosine(final=0.1), lambda s, n: half_wave(1, 0.1, s / n)),
    (
        Cosine(warmup=0.25),
        lambda s, n: rise(s, n, 0.25) * half_wave(1, 0, fall(s, n, 0.25)),
    ),
    (Linear(), lambda s, n: 1 - s / n),
    (Linear(final=0.5), lambda s, n: 1 - 0.5 * s / n),
    (
        Linear(warmup=0.1, final=0.2),
        lambda s, n: rise(s, n, 0.1) * (1 - 0.8 * fall(s, n, 0.1)),
    ),
    (
        OneCycle(),
        lambda s, n: (
            half_wave(1, 4e-6, fall(s, n, 0.3))
            if fall(s, n, 0.3)
            else half_wave(0.04, 1, rise(s, n, 0.3))
        ),
    ),
    (OneCycle(warmup=0.0, final=0.5), lambda s, n: half_wave(1, 0.5, s / n)),
    (Function(lambda step, n_steps: 0.9**step), lambda s, n: 0.9**s),
]


@pytest.mark.parametrize("n_steps", [1, 2, 7, 100])
@pytest.mark.parametrize("case", range(len(CASES)), ids=lambda case: type(CASES[case][0]).__name__)
def test_values_of_each_step(case, n_steps):
    row, formula = CASES[case]
    expected = np.array([formula(step, n_steps) for step in range(n_steps)])
    factors = row.factors(0, n_steps, n_steps)
    np.testing.assert_allclose(factors, expected, rtol=1e-12, atol=1e-15)
    assert factors.max() <= 1
    assert factors.min() > 0
    first = n_steps // 3  # pieces are the whole
    pieces = np.r_[row.factors(0, first, n_steps), row.factors(first, n_steps - first, n_steps)]
    np.testing.assert_array_equal(pieces, factors)
    beyond = row.factors(n_steps, 3, n_steps)
    np.testing.assert_array_equal(beyond, np.full(3, factors[-1]))


@pytest.mark.parametrize("row", [Cosine(warmup=0.2), Linear(warmup=0.2), OneCycle(warmup=0.2)])
def test_a_warm_up_rises_and_then_it_falls(row):
    factors = row.factors(0, 100, 100)
    assert (np.diff(factors[:20]) > 0).all()
    assert (np.diff(factors[20:]) < 0).all()
    assert factors.max() == factors[19] == pytest.approx(1)


def test_plateau_lowers_the_rate_every_so_many_epochs():
    row, rate, rates = Plateau(factor=0.5, patience=3, final=0.2), 0.1, []
    for count in (0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 4):
        rate = row.after_epoch(rate, 0.1, 999, count)
        rates.append(rate)
    assert rates == pytest.approx([0.1] * 3 + [0.05] * 3 + [0.025] * 4 + [0.02] * 2)


@pytest.mark.parametrize("row", [*SCHEDULES.values(), Function(math.hypot)])
def test_schedules_are_descriptions(row):
    assert clone(row) == pickle.loads(pickle.dumps(row)) == row
    assert recreate(row.name, row.get_params(deep=False)) == row


@pytest.mark.parametrize("bad", [-0.1, np.nan, np.inf, None, "x", [1.0, 2.0]])
def test_a_function_must_give_a_rate(bad):
    X, y = draw_regression(40, 3)
    model = BackpropRegressor(
        hidden_layer_sizes=(4,), learning_rate=lambda step, n_steps: bad if step == 1 else 1.0
    )
    with pytest.raises(ValueError, match="for step 1 of 200"):
        model.fit(X, y)
    assert not hasattr(model, "coefs_")


# --- in training ----------------------------------------------------------------------------------


def decay(step, n_steps):
    """A rate of one's own."""
    return 1 / (1 + step / n_steps)


@pytest.mark.parametrize("solver", STOCHASTIC)
@pytest.mark.parametrize("wanted", [Cosine(warmup=0.1), OneCycle(), "linear", decay])
def test_training_follows_the_schedule(engine_name, wanted, solver):
    """Ten epochs as the reference takes them with the rate of each step."""
    X, y = draw_regression(50, 4)
    model = BackpropRegressor(
        hidden_layer_sizes=(6,), activation="tanh", solver=solver, alpha=0.01, batch_size=16,
        learning_rate=wanted, learning_rate_init=0.01, max_iter=10, random_state=3, tol=0,
        dtype="float64", engine=engine_name,
    )  # fmt: skip
    fit(model, X, y)
    random_state, sizes = np.random.RandomState(3), (4, 6, 1)
    params = reference.draw_parameters(sizes, random_state, output=y.mean())
    order, orders = np.arange(50), []
    for _ in range(10):
        random_state.shuffle(order)
        orders.append(order.copy())
    rates = 0.01 * schedule_for(wanted, OPTIMIZERS[solver]).factors(0, 40, 40)
    params, losses, _, _ = reference.train(
        params, sizes, ["tanh"], "squared_error", X, y[:, None], None, orders, batch_size=16,
        alpha=0.01, learning_rate=rates, optimizer=solver, hyper=OPTIMIZERS[solver].get_params(),
    )  # fmt: skip
    np.testing.assert_allclose(losses, model.loss_curve_, rtol=1e-10, atol=0)
    W, _ = reference.split(params, sizes)[0]
    np.testing.assert_allclose(model.coefs_[0], W, rtol=0, atol=1e-10)


@pytest.mark.parametrize("solver", STOCHASTIC)
def test_plateau_in_training(engine_name, solver):
    X, y = draw_regression(50, 4)
    params = dict(solver=solver, tol=1e6, n_iter_no_change=10, engine=engine_name, random_state=0)
    model = fit(
        BackpropRegressor(hidden_layer_sizes=(4,), learning_rate=Plateau(patience=3), **params),
        X,
        y,
    )
    assert model.n_iter_ == 12
    assert model._optimizer["learning_rate"] == pytest.approx(0.001 / 8)


@pytest.mark.parametrize("solver", STOCHASTIC)
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_name_is_the_object_with_its_defaults(name, solver):
    X, y = draw_regression(50, 4)
    params = dict(solver=solver, random_state=0, max_iter=8, tol=1e-2, n_iter_no_change=2)
    left, right = (
        fit(BackpropRegressor(hidden_layer_sizes=(4,), learning_rate=wanted, **params), X, y)
        for wanted in (name, SCHEDULES[name])
    )
    assert_same_weights(left, right)
    if name in SGD_ONLY and solver != "sgd":
        assert_same_weights(left, fit(BackpropRegressor(hidden_layer_sizes=(4,), **params), X, y))


def test_an_object_owns_power_t():
    X, y = draw_regression(50, 4)
    params = dict(solver="sgd", random_state=0, max_iter=5)
    named = BackpropRegressor(
        hidden_layer_sizes=(4,), learning_rate="invscaling", power_t=0.3, **params
    )
    owned = BackpropRegressor(
        hidden_layer_sizes=(4,), learning_rate=InvScaling(0.3), power_t=0.9, **params
    )
    assert_same_weights(fit(named, X, y), fit(owned, X, y))


def test_long_schedules_run_in_bounded_pieces():
    """More steps than rates are made for at a time: the same bits epoch by epoch."""
    X, y = draw_regression(100, 2)
    params = dict(
        hidden_layer_sizes=(2,), learning_rate="cosine", batch_size=1, max_iter=700, tol=0.0,
        n_iter_no_change=np.inf, random_state=0,
    )  # fmt: skip
    seen = []

    def watched(step, n_steps):
        seen.append((step, n_steps))
        return float(Cosine().factors(step, 1, n_steps)[0])

    whole = fit(BackpropRegressor(**params), X, y)
    pieces = fit(BackpropRegressor(**params | {"learning_rate": watched}), X, y)
    assert seen == [(step, 70_000) for step in range(70_000)]
    assert_same_weights(whole, pieces)


def test_partial_fit_keeps_the_place_in_the_schedule():
    """`max_iter` calls are the whole schedule; beyond it the last rate holds."""
    X, y = draw_regression(60, 4)
    seen = []

    def watched(step, n_steps):
        seen.append((step, n_steps))
        return 1.0

    model = BackpropRegressor(
        hidden_layer_sizes=(4,), learning_rate=watched, batch_size=20, max_iter=2
    )
    for _ in range(3):
        model.partial_fit(X, y)
    assert seen == [(0, 6), (1, 6), (2, 6), (3, 6), (4, 6), (5, 6), (5, 6), (5, 6), (5, 6)]
    seen.clear()
    fit(model.set_params(warm_start=True), X, y)
    assert seen == [(step, 6) for step in range(6)]


def test_a_function_is_never_kept():
    """Fitted state holds nothing of the user's: each call asks the parameter."""
    X, y = draw_regression(60, 3)
    settings = dict(hidden_layer_sizes=(4,), max_iter=2, batch_size=20, random_state=0)
    for wanted in (lambda step, n_steps: 0.5, Function(lambda step, n_steps: 0.5)):
        model = fit(BackpropRegressor(learning_rate=wanted, **settings), X, y)
        with pytest.raises((pickle.PicklingError, AttributeError)):
            pickle.dumps(model)
        model.set_params(learning_rate="constant")
        plain = pickle.loads(pickle.dumps(model)).partial_fit(X, y)
        model.partial_fit(X, y)
        np.testing.assert_array_equal(plain.coefs_[0], model.coefs_[0])
        assert model._optimizer["schedule"] == "constant"
    scored = BackpropRegressor(scoring=lambda model, X, y: 1.0, warm_start=True, **settings)
    fit(scored, X, y, X_val=X, y_val=y).set_params(scoring=None)
    assert pickle.loads(pickle.dumps(scored)).best_validation_score_ == 1.0


def test_partial_fit_and_resume_ask_the_present_function():
    X, y = draw_regression(60, 3)
    settings = dict(hidden_layer_sizes=(4,), max_iter=2, batch_size=20, random_state=0)
    steps = []

    def other(step, n_steps):
        steps.append(step)
        return 1.0

    model = BackpropRegressor(learning_rate=decay, warm_start="resume", **settings)
    fit(model, X, y).set_params(learning_rate=other)
    fit(model, X, y)
    assert steps[:3] == [5, 5, 5]  # where the schedule of the last call ended
    steps.clear()
    model.set_params(warm_start=False).partial_fit(X, y)
    assert len(steps) == 3
    model.set_params(learning_rate=Cosine()).partial_fit(X, y)
    assert model._optimizer["schedule"] == "cosine"


def test_searches_vary_schedules():
    X, y = draw_classes(80, 4, 2)
    model = BackpropClassifier(
        (4,), learning_rate=Cosine(), learning_rate_init=0.01, max_iter=30, random_state=0, tol=1e-2
    )
    grid = [
        {"learning_rate__warmup": [0.0, 0.5], "learning_rate__final": [0.0, 0.1]},
        {"learning_rate": ["constant", "cosine", OneCycle(), Plateau(patience=2), decay]},
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        search = GridSearchCV(model, grid, cv=2).fit(X, y)
    assert len(set(search.cv_results_["mean_test_score"])) > 1
    assert len(search.cv_results_["params"]) == 9


@pytest.mark.parametrize(
    ("learning_rate", "name"),
    [
        ("warm", "learning_rate"), (Cosine, "learning_rate"), (0.1, "learning_rate"),
        (None, "learning_rate"), (Cosine(warmup=1.0), "learning_rate__warmup"),
        (Cosine(final=-0.1), "learning_rate__final"), (Linear(final=2), "learning_rate__final"),
        (OneCycle(start="0"), "learning_rate__start"), (Function(3), "learning_rate__value"),
        (Plateau(factor=1.0), "learning_rate__factor"),
        (Plateau(patience=0), "learning_rate__patience"),
        (InvScaling(-1), "learning_rate__power_t"),
    ],
)  # fmt: skip
def test_bad_parameters(learning_rate, name):
    model = BackpropRegressor(learning_rate=learning_rate)
    with pytest.raises(ValueError, match=f"The '{name}' parameter .* must be"):
        model.fit([[0.0], [1.0]], [0.0, 1.0])


def test_constant_and_adaptive_have_no_settings():
    assert Constant().get_params() == Adaptive().get_params() == {}
