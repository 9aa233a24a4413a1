"""What restrains a step: limit of the gradient's norm, averages of the weights, dropout.

The engines against the reference, for every layout of the work and number of threads; what masks
are like; and the estimators that use all of it together with everything else.
"""

import itertools
import pickle
from contextlib import closing

import numpy as np
import pytest
import reference
from covering import cover_pairs, naming
from problems import (
    HYPERPARAMETERS,
    LEARNING_RATES,
    draw_classes,
    draw_labels,
    draw_problem,
    draw_regression,
)
from reference import FLOAT32_LOSS_TOLERANCE, FLOAT64_TOLERANCE
from scipy import sparse
from sessions import SOLVERS, draw_orders, open_session, read_params, read_slots
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split
from test_training import assert_same_weights, count_events, fit

from fastbp import BackpropClassifier, BackpropRegressor
from fastbp.optimizers import OPTIMIZERS, AdamW

SEED = 2**40 + 7


def train(
    engine, problem, dtype=np.float64, *, solver="adam", n_epochs=4, batch_size=16, threads=1,
    rates=None, learning_rate=None, seed=SEED, alpha=0.01, **options,
):  # fmt: skip
    """Return losses, parameters, slots and average of an engine after some shuffled epochs."""
    X, targets, weight, _ = problem.in_dtype(dtype)
    session = open_session(engine, problem, dtype, batch_size=batch_size, threads=threads)
    with closing(session):
        session.set_optimizer(OPTIMIZERS[solver], HYPERPARAMETERS[solver], **options)
        if rates is not None:
            session.set_dropout(rates, seed)
        losses, average = np.zeros(n_epochs), np.empty(len(problem.params), dtype)
        session.train(
            X, targets, weight, np.arange(X.shape[0]), shuffle=np.random.RandomState(0),
            batch_size=batch_size, alpha=alpha, n_epochs=n_epochs, losses=losses,
            learning_rate=LEARNING_RATES[solver] if learning_rate is None else learning_rate,
        )  # fmt: skip
        session.average_into(average)
        params = read_params(session, problem, dtype)
        return losses, params, read_slots(session, problem, dtype, solver), average


def check_against_reference(
    engine, problem, dtype=np.float64, *, solver="adam", n_epochs=4, batch_size=16, rates=None,
    max_grad_norm=None, ema_decay=None, alpha=0.01,
):  # fmt: skip
    """Train both from the same start and compare."""
    X, targets, weight, params = problem.in_dtype(dtype)
    expected = reference.train(
        params, problem.sizes, problem.activations, problem.loss, X, targets, weight,
        draw_orders(X.shape[0], n_epochs), batch_size=batch_size, alpha=alpha,
        learning_rate=LEARNING_RATES[solver], optimizer=solver, hyper=HYPERPARAMETERS[solver],
        max_grad_norm=max_grad_norm or np.inf, ema_decay=ema_decay, dropout=rates, seed=SEED,
    )  # fmt: skip
    losses, params, slots, average = train(
        engine, problem, dtype, solver=solver, n_epochs=n_epochs, batch_size=batch_size,
        rates=rates, max_grad_norm=max_grad_norm, ema_decay=ema_decay, alpha=alpha,
    )  # fmt: skip
    if dtype == np.float32:
        np.testing.assert_allclose(losses, expected[1], rtol=FLOAT32_LOSS_TOLERANCE, atol=0)
        return
    np.testing.assert_allclose(losses, expected[1], rtol=FLOAT64_TOLERANCE, atol=0)
    np.testing.assert_allclose(params, expected[0], rtol=0, atol=FLOAT64_TOLERANCE)
    np.testing.assert_allclose(slots, expected[2], rtol=0, atol=FLOAT64_TOLERANCE)
    if ema_decay is not None:
        np.testing.assert_allclose(average, expected[4], rtol=0, atol=FLOAT64_TOLERANCE)


# --- engines against the reference ----------------------------------------------------------------

LAYOUTS = {
    "dense": (dict(sizes=(5, 9, 4, 3), n_samples=61), 16),
    "relu and narrow": (dict(sizes=(17, 33, 16, 1), n_samples=61, weighted=True), 16),
    "single rows": (dict(sizes=(5, 9, 2), n_samples=11), 1),
    "sparse": (dict(sizes=(30, 17, 20, 2), density=0.2, n_samples=61, activation="tanh"), 16),
    "sparse in blocks": (dict(sizes=(30, 9, 2), density=0.2, n_samples=2200), 1100),
    "blocks": (dict(sizes=(6, 20, 9, 2), activation="logistic", n_samples=2200), 1100),
    "by columns": (dict(sizes=(300, 40, 5), n_samples=40, activation="tanh"), 20),
    "many classes": (dict(sizes=(5, 9, 18), loss="log_loss", activation="logistic"), 16),
}


def draw_layout(name):
    """Return a problem and its rows per minibatch."""
    options, batch_size = LAYOUTS[name]
    return draw_problem(**options), batch_size


def largest_norm(problem):
    """Norm of the full gradient at the start, between what is and what is not cut."""
    _, gradient = reference.loss_and_gradient(
        problem.params, problem.sizes, problem.activations, problem.loss, problem.X,
        problem.targets, problem.sample_weight, alpha=0.5,
    )  # fmt: skip
    return float(np.linalg.norm(gradient))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_clipping_equals_reference(forced_engine, layout):
    problem, batch_size = draw_layout(layout)
    limit = 0.7 * largest_norm(problem)
    for dtype in (np.float32, np.float64):
        with naming(dtype):
            check_against_reference(
                forced_engine, problem, dtype, batch_size=batch_size, max_grad_norm=limit, alpha=0.5
            )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_averages_equal_reference(forced_engine, layout):
    problem, batch_size = draw_layout(layout)
    for ema_decay in (0.5, 0.999):
        with naming(ema_decay):
            check_against_reference(
                forced_engine, problem, batch_size=batch_size, ema_decay=ema_decay
            )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_dropout_equals_reference(forced_engine, layout):
    """Masks, the gradient through them, and the loss under them."""
    problem, batch_size = draw_layout(layout)
    for rate, dtype in itertools.product([0.2, 0.75], [np.float32, np.float64]):
        rates = [rate] * (len(problem.sizes) - 2)
        with naming(rate, dtype):
            check_against_reference(
                forced_engine, problem, dtype, batch_size=batch_size, rates=rates
            )


@pytest.mark.parametrize("activations", [("tanh", "relu"), ("identity", "logistic")])
@pytest.mark.parametrize("rates", [(0.0, 0.5), (0.5, 0.0), (0.1, 0.6)])
def test_each_layer_has_its_rate(engine, activations, rates):
    problem = draw_problem((5, 19, 17, 2))
    problem = type(problem)(**{**vars(problem), "activations": activations})
    check_against_reference(engine, problem, rates=rates)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("density", [None, 0.3])
def test_all_at_once_equals_reference(engine, solver, density):
    problem = draw_problem((7, 19, 5, 2), density=density, weighted=True, activation="tanh")
    check_against_reference(
        engine, problem, solver=solver, n_epochs=10, rates=(0.3, 0.1), max_grad_norm=0.4,
        ema_decay=0.95,
    )  # fmt: skip


# --- bits -----------------------------------------------------------------------------------------

THREAD_CASES = [
    dict(sizes=(6, 9, 2), batch_size=13, n_samples=60),
    dict(sizes=(64, 100, 10), batch_size=200, n_samples=500, loss="log_loss", weighted=True),
    dict(sizes=(33, 17, 40, 1), batch_size=1100, n_samples=2100, activation="logistic"),
    dict(sizes=(1200, 40, 5), batch_size=128, n_samples=300, activation="tanh"),
    dict(sizes=(3000, 20, 3), batch_size=64, n_samples=200, density=0.01, activation="tanh"),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", THREAD_CASES, ids=lambda case: str(case["sizes"]))
def test_threads_never_change_a_bit(compiled_engine, case, dtype):
    options = {key: value for key, value in case.items() if key != "batch_size"}
    problem = draw_problem(**options)
    results = []
    for threads in (1, 2, 3, 7):
        result = train(
            compiled_engine, problem, dtype, solver="adamw", n_epochs=2, threads=threads,
            batch_size=case["batch_size"], rates=[0.4] * (len(problem.sizes) - 2),
            max_grad_norm=0.1, ema_decay=0.9,
        )  # fmt: skip
        results.append(result)
    for result in results[1:]:
        for left, right in zip(results[0], result, strict=True):
            assert left.tobytes() == right.tobytes()


@pytest.mark.parametrize("solver", ["adam", "adamw"])
@pytest.mark.parametrize("density", [None, 0.3])
def test_what_does_not_act_changes_no_bit(engine, solver, density):
    problem = draw_problem((7, 19, 2), density=density)
    plain = train(engine, problem, np.float32, solver=solver)
    for options in (
        {"max_grad_norm": 1e30}, {"ema_decay": 0.9}, {"rates": [0.0]},
    ):  # fmt: skip
        other = train(engine, problem, np.float32, solver=solver, **options)
        for left, right in zip(plain[:3], other[:3], strict=True):
            np.testing.assert_array_equal(left, right)


def test_both_engines_leave_out_the_same_units(compiled_engine):
    from fastbp.engine import get_engine

    problem = draw_problem((7, 40, 30, 2), activation="tanh")
    left = train(compiled_engine, problem, rates=[0.5, 0.3])
    right = train(get_engine("numba"), problem, rates=[0.5, 0.3])
    np.testing.assert_allclose(left[1], right[1], rtol=0, atol=1e-12)


# --- clipping -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1.0, 1e25], ids=["moderate", "square overflows float32"])
def test_a_step_is_no_longer_than_the_limit(engine, size, dtype):
    problem = draw_problem((5, 9, 2))
    problem = type(problem)(**{**vars(problem), "targets": problem.targets * size})
    X, targets, _, params = problem.in_dtype(dtype)
    with closing(open_session(engine, problem, dtype, batch_size=60)) as session:
        session.set_optimizer(
            OPTIMIZERS["sgd"], {"momentum": 0.0, "nesterovs_momentum": False}, max_grad_norm=0.01
        )
        session.train(
            X, targets, None, None, shuffle=None, batch_size=60, alpha=0.0, learning_rate=1.0,
            n_epochs=1, losses=np.zeros(1),
        )  # fmt: skip
        step = read_params(session, problem, dtype).astype(float) - params
    assert np.linalg.norm(step) == pytest.approx(0.01, rel=1e-4)


# --- averages -------------------------------------------------------------------------------------


def test_predictions_use_the_average(engine):
    problem, scores = draw_problem((5, 9, 2)), np.empty((60, 2))
    with closing(open_session(engine, problem)) as session:
        session.set_optimizer(OPTIMIZERS["adam"], HYPERPARAMETERS["adam"], ema_decay=0.9)
        for _ in range(2):
            session.train(
                problem.X, problem.targets, None, None, shuffle=None, batch_size=16, alpha=0.0,
                learning_rate=0.01, n_epochs=2, losses=np.zeros(2),
            )  # fmt: skip
            average, params = np.empty_like(problem.params), read_params(session, problem, float)
            session.average_into(average)
            assert np.abs(average - params).max() > 1e-3
            session.predict_into(problem.X, scores)
            expected = reference.predict(average, problem.sizes, problem.activations, problem.X)
            np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-12)


def test_an_average_goes_out_and_in(engine):
    """Two epochs, state into a new session, two more: the same bits as four in one session."""
    problem = draw_problem((5, 9, 2))
    options = dict(max_grad_norm=0.5, ema_decay=0.9)

    def go_on(session, n_epochs):
        session.set_dropout([0.3], SEED)
        session.train(
            problem.X, problem.targets, None, None, shuffle=None, batch_size=16, alpha=0.0,
            learning_rate=0.01, n_epochs=n_epochs, losses=np.zeros(n_epochs),
        )  # fmt: skip
        average = np.empty_like(problem.params)
        session.average_into(average)
        return read_params(session, problem, float), average

    row, hyper = OPTIMIZERS["adam"], HYPERPARAMETERS["adam"]
    with closing(open_session(engine, problem)) as session:
        session.set_optimizer(row, hyper, **options)
        expected = go_on(session, 4)
    with closing(open_session(engine, problem)) as session:
        session.set_optimizer(row, hyper, **options)
        params, average = go_on(session, 2)
        slots, t = read_slots(session, problem, float, "adam"), session.t
    second = type(problem)(**{**vars(problem), "params": params})
    with closing(open_session(engine, second)) as session:
        session.set_optimizer(row, hyper, slots, t, average=average, **options)
        for left, right in zip(go_on(session, 2), expected, strict=True):
            np.testing.assert_array_equal(left, right)


# --- masks ----------------------------------------------------------------------------------------


def read_masks(engine, rate, n_units, n_rows, dtype):
    """Return which units an engine keeps for each row of one epoch, by what reaches the output.

    Activations are 1, the target makes each row's delta -1, so the first step changes the output's
    weights by the scaled activations; each row is asked for by giving it alone a weight.
    """
    sizes, masks = (1, n_units, 1), []
    params = np.zeros(reference.count_parameters(sizes))
    reference.split(params, sizes)[0][1][:] = 1.0
    problem = draw_problem(sizes, activation="identity", n_samples=n_rows)
    problem = type(problem)(**{**vars(problem), "params": params})
    X, targets = np.zeros((n_rows, 1), dtype), np.ones((n_rows, 1), dtype)
    for i in range(n_rows):
        weight = np.zeros(n_rows, dtype)
        weight[i] = 1
        with closing(open_session(engine, problem, dtype, batch_size=n_rows)) as session:
            session.set_optimizer(
                OPTIMIZERS["sgd"], {"momentum": 0.0, "nesterovs_momentum": False}, t=3
            )
            session.set_dropout([rate], SEED)
            session.train(
                X, targets, weight, None, shuffle=None, batch_size=n_rows, alpha=0.0,
                learning_rate=1.0, n_epochs=1, losses=np.zeros(1),
            )  # fmt: skip
            W, _ = reference.split(read_params(session, problem, dtype), sizes)[1]
            masks.append(W[:, 0])
    return np.array(masks)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_masks_are_the_references(forced_engine, rate, dtype):
    masks = read_masks(forced_engine, rate, 70, 5, dtype)
    expected = reference.draw_kept(rate, 70, SEED, 3, 0, np.arange(5)) / (1 - rate)
    np.testing.assert_allclose(masks, expected, rtol=1e-6)


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.5, 0.8])
def test_masks_have_the_right_share_everywhere(rate):
    """Over all, in each row and in each column; the expected activation is what it was."""
    kept = reference.draw_kept(rate, 400, 1, 0, 0, np.arange(1000))
    variance = rate * (1 - rate)
    assert abs((kept / (1 - rate)).mean() - 1) < 4 * np.sqrt(variance / kept.size) / (1 - rate)
    for axis in (0, 1):
        n = kept.shape[axis]
        z = (kept.mean(axis=axis) - (1 - rate)) / np.sqrt(variance / n)
        assert np.abs(z).max() < 4.6
        assert 0.85 < z.var() < 1.15


NEIGHBOURS = {
    "row": dict(places=np.arange(1, 601)),
    "next minibatch": dict(places=np.arange(200, 800)),
    "epoch": dict(t=11),
    "layer": dict(layer=1),
    "seed": dict(seed=6),
    "seed and epoch": dict(seed=6, t=9),
}


@pytest.mark.parametrize("what", NEIGHBOURS)
@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_neighbouring_masks_are_independent(what, rate):
    base = dict(seed=5, t=10, layer=0, places=np.arange(600))
    kept = reference.draw_kept(rate, 300, **base) - (1 - rate)
    other = reference.draw_kept(rate, 300, **(base | NEIGHBOURS[what])) - (1 - rate)
    correlation = (kept * other).mean() / (rate * (1 - rate))
    assert abs(correlation) < 4.5 / np.sqrt(kept.size)


@pytest.mark.parametrize("shift", [1, 2, 8, 16, 64])
@pytest.mark.parametrize("axis", [0, 1])
def test_masks_have_no_pattern(axis, shift):
    kept = reference.draw_kept(0.5, 300, 5, 10, 0, np.arange(600)) - 0.5
    correlation = 4 * (kept * np.roll(kept, shift, axis)).mean()
    assert abs(correlation) < 4.5 / np.sqrt(kept.size)


# --- estimators -----------------------------------------------------------------------------------

ALL = dict(dropout=[0.2], max_grad_norm=0.5, ema_decay=0.95, learning_rate="cosine")
SETTINGS = dict(hidden_layer_sizes=(12,), random_state=0, batch_size=16, max_iter=12, tol=0.0)
PROBLEMS = {
    "binary": (BackpropClassifier, draw_classes(80, 5, 2)),
    "multiclass": (BackpropClassifier, draw_classes(80, 5, 3)),
    "multilabel": (BackpropClassifier, draw_labels(80, 5, 3)),
    "regression": (BackpropRegressor, draw_regression(80, 5)),
    "multi-output": (BackpropRegressor, draw_regression(80, 5, 2)),
}


@pytest.mark.engines_in_turn
@pytest.mark.parametrize(
    ("form", "kind", "solver"), cover_pairs(["dense", "sparse", "weighted"], PROBLEMS, SOLVERS)
)
def test_every_kind_of_problem_trains_with_all_of_it(engine_name, form, kind, solver):
    cls, (X, y) = PROBLEMS[kind]
    X = sparse.csr_matrix(X) if form == "sparse" else X
    weight = np.random.default_rng(0).uniform(0.1, 2, 80) if form == "weighted" else None
    model = cls(**SETTINGS, **ALL, solver=solver, learning_rate_init=0.01, engine=engine_name)
    fit(model.set_params(max_iter=60), X, y, sample_weight=weight)
    assert model.loss_curve_[-1] < model.loss_curve_[0]
    assert model.score(X, y) > (0.3 if kind == "multilabel" else 0.4)
    before = [w.copy() for w in model.coefs_]
    fit(model.set_params(warm_start=True, max_iter=2), X, y, sample_weight=weight)
    model.partial_fit(X, y, weight)
    assert all(np.isfinite(w).all() and (w != b).any() for w, b in zip(model.coefs_, before))


@pytest.mark.parametrize("kind", ["multiclass", "regression"])
@pytest.mark.parametrize("solver", ["sgd", "adamw"])
def test_partial_fit_goes_on_with_all_of_it(engine_name, kind, solver):
    """Masks, averages, the raw weights and the place in the schedule: the bits of one fit, also
    through a pickle."""
    cls, (X, y) = PROBLEMS[kind]
    params = dict(SETTINGS, **ALL, solver=solver, shuffle=False, engine=engine_name)
    whole = fit(cls(**params), X, y)
    steps = cls(**params)
    first = {"classes": np.unique(y)} if cls is BackpropClassifier else {}
    for epoch in range(12):
        steps.partial_fit(X, y, **first)
        if epoch == 5:
            steps = pickle.loads(pickle.dumps(steps))
    assert whole.loss_curve_ == steps.loss_curve_
    assert_same_weights(whole, steps)


def test_the_optimizers_state_is_plain(engine_name):
    _, (X, y) = PROBLEMS["binary"]
    model = fit(BackpropClassifier(**SETTINGS, **ALL, solver=AdamW(), engine=engine_name), X, y)
    plain = (str, int, float, bool, type(None), np.ndarray, dict)
    for value in model._optimizer.values():
        assert type(value) in plain
        for inner in value.values() if isinstance(value, dict) else ():
            assert type(inner) in plain


@pytest.mark.parametrize("form", [0.25, [0.25, 0.25], (0.25, 0.25)])
def test_forms_of_dropout_mean_the_same(form):
    _, (X, y) = PROBLEMS["regression"]
    params = dict(SETTINGS, hidden_layer_sizes=(12, 7))
    expected = fit(BackpropRegressor(**params, dropout=[0.25, 0.25]), X, y)
    assert_same_weights(expected, fit(BackpropRegressor(**params, dropout=form), X, y))
    other = fit(BackpropRegressor(**params, dropout=[0.25, 0.0]), X, y)
    assert (other.coefs_[0] != expected.coefs_[0]).any()


@pytest.mark.parametrize("dropout", [[0.2], [0.2, 0.2, 0.2], []])
def test_dropout_of_the_wrong_length(dropout):
    _, (X, y) = PROBLEMS["regression"]
    model = BackpropRegressor(hidden_layer_sizes=(12, 7), dropout=dropout)
    with pytest.raises(ValueError, match=f"dropout has {len(dropout)} entries for 2 hidden"):
        model.fit(X, y)


def test_dropout_without_hidden_layers_does_nothing():
    _, (X, y) = PROBLEMS["regression"]
    params = dict(SETTINGS, hidden_layer_sizes=())
    left, right = (fit(BackpropRegressor(**params, dropout=p), X, y) for p in (0.0, 0.5))
    assert_same_weights(left, right)


def test_random_state_decides_about_masks():
    """A generator in, other masks each time; the same seed in, the same masks."""
    _, (X, y) = PROBLEMS["regression"]
    params = dict(SETTINGS, dropout=0.5)
    left, right = (fit(BackpropRegressor(**params), X, y) for _ in range(2))
    assert_same_weights(left, right)
    other = fit(BackpropRegressor(**{**params, "random_state": 1}), X, y)
    assert left._optimizer["dropout_seed"] != other._optimizer["dropout_seed"]


@pytest.mark.parametrize("options", [{}, {"max_grad_norm": 0.1}, {"ema_decay": 0.9}])
def test_without_dropout_the_random_stream_is_scikit_learns(options):
    """The same draws and no more: the generator that was handed in ends where it did."""
    _, (X, y) = PROBLEMS["regression"]
    ends = []
    for given in ({}, options):
        random_state = np.random.RandomState(3)
        fit(BackpropRegressor(**{**SETTINGS, **given, "random_state": random_state}), X, y)
        ends.append(random_state.randint(2**31))
    assert ends[0] == ends[1]


def test_dropout_is_off_in_predictions(engine_name):
    _, (X, y) = PROBLEMS["regression"]
    params = dict(SETTINGS, dtype="float64", engine=engine_name)
    model = fit(BackpropRegressor(**params, dropout=0.5), X, y)
    params = np.concatenate([np.r_[W.ravel(), b] for W, b in zip(model.coefs_, model.intercepts_)])
    expected = reference.predict(params, (5, 12, 1), ["relu"], X)[:, 0]
    np.testing.assert_allclose(model.predict(X), expected, rtol=1e-12)


def test_coefs_are_the_average(engine_name):
    """The same steps as without; the attributes are another thing."""
    _, (X, y) = PROBLEMS["regression"]
    params = dict(SETTINGS, dtype="float64", engine=engine_name)
    raw = fit(BackpropRegressor(**params), X, y)
    averaged = fit(BackpropRegressor(**params, ema_decay=0.9), X, y)
    assert raw.loss_curve_ == averaged.loss_curve_
    flat = np.concatenate([np.r_[W.ravel(), b] for W, b in zip(raw.coefs_, raw.intercepts_)])
    np.testing.assert_array_equal(averaged._optimizer["weights"], flat)
    assert np.abs(averaged.coefs_[0] - raw.coefs_[0]).max() > 1e-4


def test_validation_scores_are_the_averages(engine_name):
    """The model scores on the validation rows what its best epoch scored."""
    _, (X, y) = PROBLEMS["multiclass"]
    y = np.where(np.arange(80) % 4 == 0, y[::-1], y)  # noise, so that the last is not the best
    model = BackpropClassifier(
        (12,), random_state=0, batch_size=16, early_stopping=True, validation_fraction=0.3,
        learning_rate_init=0.05, max_iter=40, tol=0.0, n_iter_no_change=40, ema_decay=0.8,
        dropout=0.1, engine=engine_name,
    )  # fmt: skip
    fit(model, X, y)
    random_state = np.random.RandomState(0)
    random_state.uniform(size=sum(w.size for w in model.coefs_ + model.intercepts_))
    _, held_out = train_test_split(np.arange(80), test_size=0.3, random_state=random_state)
    score = accuracy_score(y[held_out], model.predict(X[held_out]))
    assert score == pytest.approx(model.best_validation_score_) == max(model.validation_scores_)


def test_clipping_tames_a_rate_that_is_too_high():
    _, (X, y) = PROBLEMS["regression"]
    wild = dict(SETTINGS, solver="sgd", learning_rate_init=0.05, max_iter=60)
    X = 30 * X
    with pytest.raises(ValueError, match="non-finite"):
        fit(BackpropRegressor(**wild), X, y)
    model = fit(BackpropRegressor(**wild, max_grad_norm=0.1), X, y)
    assert model.loss_curve_[-1] < model.loss_curve_[0]


@pytest.mark.usefixtures("compiled_engine")
def test_no_python_work_per_minibatch_or_epoch():
    _, (X, y) = PROBLEMS["multiclass"]
    counts = []
    for batch_size, n_iter in ((80, 12), (80, 12), (1, 12), (80, 150)):  # the first fills caches
        params = dict(SETTINGS, **ALL, n_iter_no_change=n_iter - 2)
        model = BackpropClassifier(**params | {"batch_size": batch_size, "tol": 1e6})
        model.set_params(max_iter=200, learning_rate_init=1e-6)  # nothing to be diagnosed
        counts.append(count_events(lambda: model.fit(X, y)))  # noqa: B023
        assert model.n_iter_ == n_iter
    assert counts[2] - counts[1] < 12 * 79 / 2
    assert counts[3] - counts[1] < 138 / 2
