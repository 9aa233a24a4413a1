"""Networks of members: trainings, gradients, predictions and refusals of every engine."""

import itertools
import signal
import threading
from contextlib import closing

import numpy as np
import pytest
import reference
from covering import cover_pairs, naming
from problems import HYPERPARAMETERS, LEARNING_RATES, draw_problem
from reference import FLOAT32_LOSS_TOLERANCE, FLOAT64_TOLERANCE
from scipy import sparse
from sessions import (
    DTYPES,
    N_OUTPUTS,
    SOLVERS,
    THREADS,
    draw_orders,
    open_session,
    read_params,
    read_slots,
)

from fastbp.activations import ACTIVATIONS
from fastbp.engine import network
from fastbp.losses import LOSSES
from fastbp.optimizers import OPTIMIZERS

SEED = 2**40 + 7


def draw_member_problem(sizes, n_members, **options):
    """Return a problem whose parameters are those of a network of members."""
    problem = draw_problem(sizes, **options)
    params = reference.draw_parameters_of_members(sizes, n_members, np.random.RandomState(1))
    return type(problem)(**{**vars(problem), "params": params})


def train(
    engine, problem, n_members, dtype=np.float64, *, solver="adam", n_epochs=3, batch_size=16,
    threads=1, rates=None, shuffled=True, learning_rate=None, **options,
):  # fmt: skip
    """Return losses, parameters, slots, average, scores and count of steps after some epochs."""
    X, targets, weight, _ = problem.in_dtype(dtype)
    session = open_session(
        engine, problem, dtype, batch_size=batch_size, threads=threads, n_members=n_members
    )
    with closing(session):
        session.set_optimizer(OPTIMIZERS[solver], HYPERPARAMETERS[solver], **options)
        if rates is not None:
            session.set_dropout(rates, SEED)
        losses, average = np.zeros(n_epochs), np.empty(len(problem.params), dtype)
        session.train(
            X, targets, weight, np.arange(X.shape[0]) if shuffled else None,
            shuffle=np.random.RandomState(0) if shuffled else None, batch_size=batch_size,
            alpha=0.01, n_epochs=n_epochs, losses=losses,
            learning_rate=LEARNING_RATES[solver] if learning_rate is None else learning_rate,
        )  # fmt: skip
        session.average_into(average)
        scores = predict(session, problem, n_members, X, dtype)
        params, slots = (
            read_params(session, problem, dtype),
            read_slots(session, problem, dtype, solver),
        )
        return losses, params, slots, average, scores, session.t


def predict(session, problem, n_members, X, dtype):
    """Return the raw scores of all members under a session."""
    scores = np.full((n_members, X.shape[0], problem.sizes[-1]), np.nan, dtype)
    session.predict_into(X, scores)
    return scores


def check_against_reference(
    engine, problem, n_members, dtype=np.float64, *, solver="adam", n_epochs=3, batch_size=16,
    threads=1, shuffled=True, rates=None, max_grad_norm=None, ema_decay=None,
):  # fmt: skip
    """Train both from the same start and compare all that comes out."""
    X, targets, weight, params = problem.in_dtype(dtype)
    n_samples = X.shape[0]
    orders = draw_orders(n_samples, n_epochs) if shuffled else [np.arange(n_samples)] * n_epochs
    expected = reference.train(
        params, problem.sizes, problem.activations, problem.loss, X, targets, weight, orders,
        batch_size=batch_size, alpha=0.01, learning_rate=LEARNING_RATES[solver], optimizer=solver,
        hyper=HYPERPARAMETERS[solver], max_grad_norm=max_grad_norm or np.inf, ema_decay=ema_decay,
        dropout=rates, seed=SEED, n_members=n_members,
    )  # fmt: skip
    losses, params, slots, average, scores, t = train(
        engine, problem, n_members, dtype, solver=solver, n_epochs=n_epochs, batch_size=batch_size,
        threads=threads, shuffled=shuffled, rates=rates, max_grad_norm=max_grad_norm,
        ema_decay=ema_decay,
    )  # fmt: skip
    assert t == expected[3]
    if dtype == np.float32:
        np.testing.assert_allclose(losses, expected[1], rtol=FLOAT32_LOSS_TOLERANCE, atol=0)
        return
    np.testing.assert_allclose(losses, expected[1], rtol=FLOAT64_TOLERANCE, atol=0)
    np.testing.assert_allclose(params, expected[0], rtol=0, atol=FLOAT64_TOLERANCE)
    np.testing.assert_allclose(slots, expected[2], rtol=0, atol=FLOAT64_TOLERANCE)
    used = expected[0] if ema_decay is None else expected[4]
    np.testing.assert_allclose(average, used, rtol=0, atol=FLOAT64_TOLERANCE)
    np.testing.assert_allclose(
        scores, reference.predict_members(used, problem.sizes, n_members, problem.activations, X),
        rtol=1e-9, atol=1e-9,
    )  # fmt: skip


# --- training -------------------------------------------------------------------------------------

EXTRAS = {
    "plain": {},
    "dropout": dict(rates=[0.5, 0.2]),
    "norm": dict(max_grad_norm=0.05),
    "average": dict(ema_decay=0.9),
    "all": dict(rates=[0.1, 0.4], max_grad_norm=0.1, ema_decay=0.5),
}
TRAININGS = cover_pairs(
    ["squared_error", "log_loss", "binary_log_loss", "quantile", "quantiles", "poisson"],
    ["relu", "tanh", "gelu", "identity"],
    SOLVERS,
    [1, 2, 5],
    EXTRAS,
    ["dense", "sparse", "weighted", "sparse and weighted"],
    DTYPES,
)


@pytest.mark.parametrize("extra", EXTRAS)
def test_training_equals_reference(engine, extra):
    """Every two of loss, activation, solver, number of members, kind of data and dtype."""
    for loss, activation, solver, n_members, name, kind, dtype in TRAININGS:
        if name == extra:
            problem = draw_member_problem(
                (6, 11, 9, N_OUTPUTS[loss]), n_members, loss=loss, activation=activation,
                n_samples=61, density=0.4 if "sparse" in kind else None,
                weighted="weighted" in kind,
            )  # fmt: skip
            with naming(loss, activation, solver, n_members, kind, dtype):
                check_against_reference(
                    engine, problem, n_members, dtype, solver=solver, **EXTRAS[extra]
                )


SHAPES = [(1, 1, 1), (5, 9, 2), (16, 16, 16), (17, 33, 17), (9, 8, 7, 1), (40, 8, 20, 33)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("density", [None, 0.3], ids=["dense", "sparse"])
def test_odd_shapes_equal_reference(forced_engine, density, dtype):
    """Around the panel sizes; wide and narrow output layers; several units of a first layer."""
    for sizes in [*SHAPES, (100, 50, 3), (530, 20, 2)]:
        problem = draw_member_problem(sizes, 3, density=density, n_samples=37)
        with naming(sizes):
            check_against_reference(forced_engine, problem, 3, dtype, n_epochs=2)


def test_sparse_first_layers_of_several_units_equal_reference(compiled_engine):
    problem = draw_member_problem((2100, 17, 2), 3, density=0.01, n_samples=37, activation="tanh")
    for threads in (1, 3):
        check_against_reference(compiled_engine, problem, 3, n_epochs=2, threads=threads)


@pytest.mark.parametrize("density", [None, 0.3], ids=["dense", "sparse"])
def test_minibatches_equal_reference(engine, density):
    """Single rows, a whole block, and more than one, where the last has three rows."""
    for batch_size, n_samples, extra in itertools.product(
        [1, 16, 1024, 1025, 2100], [2103], ["plain", "norm", "dropout"]
    ):
        n = 40 if batch_size < 20 else n_samples
        problem = draw_member_problem(
            (6, 9, 4, 2), 2, density=density, n_samples=n, weighted=True, activation="tanh"
        )
        with naming(batch_size, extra):
            check_against_reference(
                engine, problem, 2, batch_size=batch_size, n_epochs=2, **EXTRAS[extra]
            )


def test_minibatches_without_weight_are_skipped(engine):
    for empty in (slice(0, 16), slice(16, 32), slice(48, 60), slice(0, 48)):
        problem = draw_member_problem((5, 9, 2), 3, weighted=True)
        weight = problem.sample_weight + 0.1
        weight[empty] = 0
        problem = type(problem)(**{**vars(problem), "sample_weight": weight})
        with naming(empty):
            check_against_reference(engine, problem, 3, shuffled=False)


def test_members_leave_out_units_of_their_own(engine):
    """Members that begin alike stay alike, but for the units that each one leaves out."""
    problem = draw_problem((5, 20, 2), activation="tanh")
    coefs, intercepts = map(list, zip(*reference.split(problem.params, problem.sizes), strict=True))
    twins = [np.ones((2, 5)), np.stack([coefs[-1]] * 2), np.stack([intercepts[-1]] * 2)]
    params = network.flatten(coefs[:-1], intercepts[:-1], np.float64, twins)
    problem = type(problem)(**{**vars(problem), "params": params})
    for rates in (None, [0.5]):
        *_, scores, _ = train(engine, problem, 2, rates=rates)
        assert np.array_equal(scores[0], scores[1]) == (rates is None)


def test_one_member_without_multipliers_is_an_ordinary_network(engine):
    """Loss, gradient and scores at the start; then its multipliers move."""
    ordinary = draw_problem((5, 9, 4, 3), loss="log_loss", weighted=True)
    (*hidden, output) = reference.split(ordinary.params, ordinary.sizes)
    coefs, intercepts = map(list, zip(*hidden, strict=True))
    members = [np.ones(5), *output]
    params = network.flatten(coefs, intercepts, np.float64, members)
    problem = type(ordinary)(**{**vars(ordinary), "params": params})
    found = []
    for each, n_members in ((ordinary, None), (problem, 1)):
        gradient = np.empty(len(each.params))
        with closing(open_session(engine, each, n_members=n_members)) as session:
            value = session.loss_and_gradient(
                each.params, each.X, each.targets, each.sample_weight, alpha=0.3, gradient=gradient
            )
            scores = np.empty((60, 3) if n_members is None else (1, 60, 3))
            session.predict_into(each.X, scores)
            found.append((value, np.delete(gradient, slice(-5 - 15, -15)), scores.reshape(60, 3)))
            if n_members is None:
                found[0] = (value, gradient, scores)
    for left, right in zip(*found, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-12, atol=1e-14)
    _, moved, *_ = train(engine, problem, 1, n_epochs=1)
    assert not (network.member_views(moved, problem.sizes, 1)[2] == 1).any()


# --- gradients ------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["squared_error", "log_loss", "quantiles", "binary_log_loss"])
@pytest.mark.parametrize("density", [None, 0.5], ids=["dense", "sparse"])
def test_gradient_equals_central_differences(engine, loss, density):
    problem = draw_member_problem(
        (4, 5, 3, N_OUTPUTS[loss]), 3, loss=loss, activation="tanh", n_samples=20, density=density,
        weighted=True,
    )  # fmt: skip
    size = len(problem.params)
    with closing(open_session(engine, problem, n_members=3)) as session:

        def compute(params):
            gradient = np.full(size, np.nan)
            value = session.loss_and_gradient(
                params, problem.X, problem.targets, problem.sample_weight, alpha=0.3,
                gradient=gradient, mean_gradient=LOSSES[loss].output_mean,
            )  # fmt: skip
            return value, gradient

        _, gradient = compute(problem.params)
        for k, step in enumerate(1e-6 * np.eye(size)):
            slope = (compute(problem.params + step)[0] - compute(problem.params - step)[0]) / 2e-6
            assert gradient[k] == pytest.approx(slope, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("density", [None, 0.3], ids=["dense", "sparse"])
def test_gradient_of_several_blocks_equals_reference(forced_engine, density, dtype):
    problem = draw_member_problem((7, 9, 5, 2), 3, n_samples=2500, density=density, weighted=True)
    X, targets, weight, params = problem.in_dtype(dtype)
    exact = dtype == np.float64
    for mean_gradient in (False, True):
        value, expected = reference.loss_and_gradient_of_members(
            params, problem.sizes, 3, problem.activations, problem.loss, X, targets, weight,
            alpha=0.5, mean_gradient=mean_gradient,
        )  # fmt: skip
        session = open_session(forced_engine, problem, dtype, batch_size=1024, n_members=3)
        with closing(session):
            gradient = np.full(len(params), np.nan, dtype)
            got = session.loss_and_gradient(
                params, X, targets, weight, alpha=0.5, gradient=gradient,
                mean_gradient=mean_gradient,
            )  # fmt: skip
        assert got == pytest.approx(value, rel=1e-12 if exact else 1e-5)
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-12 if exact else 2e-5)


# --- threads --------------------------------------------------------------------------------------

THREAD_CASES = {
    "small": (dict(sizes=(6, 9, 2)), 16),
    "narrow": (dict(sizes=(40, 100, 50, 1), n_samples=300, activation="tanh"), 100),
    "wide output": (dict(sizes=(33, 40, 40), n_samples=200, weighted=True), 64),
    "blocks": (dict(sizes=(20, 31, 3), n_samples=2100, loss="log_loss"), 2100),
    "many inputs": (dict(sizes=(600, 40, 5), n_samples=100), 32),
    "sparse": (dict(sizes=(3000, 20, 3), n_samples=100, density=0.01, loss="log_loss"), 40),
}
THREAD_WAYS = cover_pairs(THREAD_CASES, DTYPES, ["plain", "all"])


@pytest.mark.parametrize(("case", "dtype", "extra"), THREAD_WAYS)
def test_threads_never_change_a_bit(forced_compiled_engine, case, dtype, extra):
    """Losses, weights, state, average, scores, gradient."""
    options, batch_size = THREAD_CASES[case]
    problem = draw_member_problem(n_members=3, **options)
    X, targets, weight, params = problem.in_dtype(dtype)
    settings = EXTRAS[extra] | {"learning_rate": 1e-3, "batch_size": batch_size}
    if "rates" in settings:
        settings["rates"] = settings["rates"][: len(problem.sizes) - 2]
    results = []
    for threads in THREADS:
        found = train(
            forced_compiled_engine, problem, 3, dtype, n_epochs=2, threads=threads, **settings
        )
        gradient = np.full(len(params), np.nan, dtype)
        session = open_session(
            forced_compiled_engine, problem, dtype, batch_size=batch_size, threads=threads,
            n_members=3,
        )  # fmt: skip
        with closing(session):
            value = session.loss_and_gradient(
                params, X, targets, weight, alpha=0.1, gradient=gradient
            )
        results.append([*found[:5], gradient, np.array(value)])
    assert np.isfinite(results[0][1]).all()
    for other in results[1:]:
        for left, right in zip(results[0], other, strict=True):
            assert left.tobytes() == right.tobytes()


# --- what goes in and out -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_params_pass_through_unchanged(forced_engine, dtype):
    for sizes, density in itertools.product(SHAPES, [None, 0.3]):
        problem = draw_member_problem(sizes, 3, density=density)
        with naming(sizes, density):
            session = open_session(forced_engine, problem, dtype, n_members=3)
            with closing(session):
                np.testing.assert_array_equal(
                    read_params(session, problem, dtype), problem.params.astype(dtype)
                )


def test_state_goes_out_and_in(engine):
    """Two epochs, state into a new session, two more: the same bits as four in one session."""
    problem = draw_member_problem((5, 9, 2), 3)
    X, targets, weight, _ = problem.in_dtype(np.float64)
    rates, losses = [0.3], np.zeros(2)

    def go_on(session):
        session.set_dropout(rates, SEED)
        session.train(
            X, targets, weight, None, shuffle=None, batch_size=16, alpha=0.01, learning_rate=0.01,
            n_epochs=2, losses=losses,
        )  # fmt: skip
        average = np.empty(len(problem.params))
        session.average_into(average)
        slots = read_slots(session, problem, np.float64, "adam")
        return read_params(session, problem, np.float64), slots, average

    options = dict(ema_decay=0.9, max_grad_norm=0.2)
    with closing(open_session(engine, problem, n_members=3)) as session:
        session.set_optimizer(OPTIMIZERS["adam"], HYPERPARAMETERS["adam"], **options)
        params, slots, average = go_on(session)
        t, expected = session.t, go_on(session)
    second = type(problem)(**{**vars(problem), "params": params})
    with closing(open_session(engine, second, n_members=3)) as session:
        session.set_optimizer(
            OPTIMIZERS["adam"], HYPERPARAMETERS["adam"], slots, t, average=average, **options
        )
        for left, right in zip(expected, go_on(session), strict=True):
            np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 1500])
def test_time_limit_ends_after_a_whole_step(engine, batch_size, threads):
    n, sizes = (2000, (100, 60, 2)) if batch_size == 1 else (20_000, (5, 9, 2))
    problem = draw_member_problem(sizes, 3, n_samples=n)
    X, targets, _, _ = problem.in_dtype(np.float64)
    losses, found = np.full(3, np.nan), []
    for limit in (1e-9, None):
        options = dict(batch_size=batch_size, threads=threads, n_members=3)
        with closing(open_session(engine, problem, **options)) as session:
            session.set_optimizer(OPTIMIZERS["sgd"], HYPERPARAMETERS["sgd"])
            order = np.arange(n if limit else found[0][2])
            session.train(
                X, targets, None, order, shuffle=None, batch_size=batch_size, alpha=0.01,
                learning_rate=1e-3, n_epochs=1, losses=losses, time_limit=limit,
            )  # fmt: skip
            assert session.out_of_time == (limit is not None)
            assert session.t == session.n_seen // batch_size
            found.append(
                (read_params(session, problem, np.float64), losses[0], session.n_seen, session.t)
            )
    assert 0 < found[0][2] < n
    for left, right in zip(*found, strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("density", [None, 0.3], ids=["dense", "sparse"])
def test_interrupt_leaves_a_usable_session(engine, density):
    """Not in mid-step, and nothing is left of the gradients in hand."""
    problem = draw_member_problem((5, 9, 2), 3, density=density)
    X, targets, _, _ = problem.in_dtype(np.float64)

    def run(session, n_epochs):
        session.set_optimizer(OPTIMIZERS["sgd"], HYPERPARAMETERS["sgd"])
        session.train(
            X, targets, None, None, shuffle=None, batch_size=16, alpha=0.0, learning_rate=1e-6,
            n_epochs=n_epochs, losses=np.empty(n_epochs),
        )  # fmt: skip
        return read_params(session, problem, np.float64)

    with closing(open_session(engine, problem, n_members=3)) as session:
        run(session, 2)  # the Numba engine compiles
        timer = threading.Timer(0.15, signal.raise_signal, (signal.SIGINT,))
        timer.start()
        try:
            with pytest.raises(KeyboardInterrupt):
                run(session, 5_000_000)
        finally:
            timer.cancel()
            timer.join()
        assert session.t in range(4 * session.epochs_done, 4 * session.epochs_done + 5)
        params = read_params(session, problem, np.float64)
        assert np.isfinite(params).all()
        expected = run(session, 2)
    again = type(problem)(**{**vars(problem), "params": params})
    with closing(open_session(engine, again, n_members=3)) as session:
        np.testing.assert_array_equal(run(session, 2), expected)


# --- predictions ----------------------------------------------------------------------------------


def predict_fitted(engine, problem, n_members, X, dtype, n_threads=1):
    """Return the raw scores of all members from fitted arrays."""
    fitted = network.member_views(problem.params.astype(dtype), problem.sizes, n_members)
    scores = np.full((n_members, X.shape[0], problem.sizes[-1]), np.nan, dtype)
    rows = [ACTIVATIONS[name] for name in problem.activations]
    assert engine.predict_members_into(*fitted, rows, X, scores, n_threads=n_threads)
    return scores


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("density", [None, 0.2], ids=["dense", "sparse"])
def test_predictions_equal_reference(forced_engine, density, dtype):
    """Those of sessions and of fitted arrays; a row has the same bits in any company."""
    for sizes in [(5, 7, 1), (64, 100, 10), (20, 33, 17, 3), (8, 8, 8), (3, 48, 2)]:
        problem = draw_member_problem(sizes, 4, n_samples=70, density=density, activation="tanh")
        X, _, _, params = problem.in_dtype(dtype)
        expected = reference.predict_members(params, sizes, 4, problem.activations, X)
        with naming(sizes):
            tolerance = dict(rtol=0, atol=1e-12 if dtype == np.float64 else 1e-4)
            with closing(open_session(forced_engine, problem, dtype, n_members=4)) as session:
                scores = predict(session, problem, 4, X, dtype)
            np.testing.assert_allclose(scores, expected, **tolerance)
            whole = predict_fitted(forced_engine, problem, 4, X, dtype)
            np.testing.assert_allclose(whole, expected, **tolerance)
            for block in (1, 2, 5, 16, 33):
                parts = [
                    predict_fitted(forced_engine, problem, 4, X[start : start + block], dtype)
                    for start in range(0, 70, block)
                ]
                np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)


@pytest.mark.parametrize("density", [None, 0.2], ids=["dense", "sparse"])
def test_large_predictions_do_not_depend_on_blocks_and_threads(engine, density, monkeypatch):
    problem = draw_member_problem((20, 33, 3), 4, n_samples=5001, density=density)
    X, _, _, _ = problem.in_dtype(np.float32)
    expected = predict_fitted(engine, problem, 4, X, np.float32)
    for threads in THREADS:
        found = predict_fitted(engine, problem, 4, X, np.float32, n_threads=threads)
        np.testing.assert_array_equal(found, expected)
    monkeypatch.setattr("fastbp.engine.members.BLOCK_BYTES", 10_000)
    np.testing.assert_array_equal(predict_fitted(engine, problem, 4, X, np.float32), expected)
    assert predict_fitted(engine, problem, 4, X[:0], np.float32).shape == (4, 0, 3)


def test_scores_that_overflow_are_said(engine):
    problem = draw_member_problem((5, 7, 2), 3)
    X, _, _, params = problem.in_dtype(np.float32)
    coefs, intercepts, scales, *outputs = network.member_views(params, (5, 7, 2), 3)
    scales[1, 0] = np.finfo(np.float32).max
    scores, rows = np.empty((3, 60, 2), np.float32), [ACTIVATIONS["identity"]]
    for some in (100 * X, sparse.csr_matrix(100 * X)):
        assert not engine.predict_members_into(
            coefs, intercepts, scales, *outputs, rows, some, scores
        )
        assert np.isfinite(scores[0]).all()
        assert not np.isfinite(scores[1]).all()


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_members", [0, -1, 1.5, 2.0, True, "2", 2**16 + 1, 10**30])
def test_numbers_of_members_are_refused(engine, n_members):
    problem = draw_member_problem((5, 9, 2), 1)
    with pytest.raises(ValueError, match="n_members"):
        open_session(engine, problem, n_members=n_members)


def test_members_need_a_hidden_layer(engine):
    problem = draw_problem((5, 2))
    with pytest.raises(ValueError, match="hidden layer"):
        open_session(engine, problem, n_members=1)


def test_sessions_refuse_what_they_would_misread(engine):
    problem = draw_member_problem((5, 9, 2), 3)
    size = len(problem.params)
    for n_members in (None, 2, 4, 1000):
        with pytest.raises(ValueError, match="parameters"):
            open_session(engine, problem, n_members=n_members)
    locked = np.empty((3, 60, 2))
    locked.flags.writeable = False
    X, targets = problem.X, problem.targets
    with closing(open_session(engine, problem, n_members=np.int64(3))) as session:
        for out in (
            np.empty((60, 2)), np.empty((2, 60, 2)), np.empty((3, 59, 2)), np.empty((3, 60, 1)),
            np.empty((3, 60, 2), np.float32), np.empty((3, 2, 60)).transpose(0, 2, 1), locked, None,
        ):  # fmt: skip
            with pytest.raises(ValueError, match=r"expected|read-only"):
                session.predict_into(X, out)
        session.predict_into(X, np.empty((3, 60, 2)))
        for wrong in (size - 1, size + 1, reference.count_parameters((5, 9, 2))):
            array, sgd = np.empty(wrong), (OPTIMIZERS["sgd"], HYPERPARAMETERS["sgd"])
            objective = dict(alpha=0.0, gradient=array)
            for verb, arguments, options in (
                (session.params_into, (array,), {}),
                (session.average_into, (array,), {}),
                (session.set_optimizer, sgd, dict(slots=[array])),
                (session.loss_and_gradient, (problem.params, X, targets, None), objective),
            ):
                with pytest.raises(ValueError, match="parameters"):
                    verb(*arguments, **options)


def test_verbs_refuse_what_they_would_misread(engine):
    problem = draw_member_problem((5, 9, 4, 2), 3)
    names = ["coefs", "intercepts", "scales", "member_coefs", "member_intercepts"]
    usual = dict(zip(names, network.member_views(problem.params, problem.sizes, 3), strict=True))
    usual |= dict(
        activations=[ACTIVATIONS["relu"]] * 2, X=problem.X.copy(), out=np.empty((3, 60, 2))
    )
    engine.predict_members_into(**usual)
    scales, weights, biases = (usual[name] for name in names[2:])
    locked = usual["out"].copy()
    locked.flags.writeable = False
    for change in (
        dict(coefs=[], intercepts=[], activations=[]), dict(coefs=usual["coefs"][:1]),
        dict(coefs=[None, None]), dict(activations=usual["activations"][:1]),
        dict(scales=scales[:2]), dict(scales=scales[:, :4].copy()), dict(scales=scales.T),
        dict(scales=scales.astype(np.float32)), dict(scales=None), dict(scales=scales[0]),
        dict(member_coefs=weights[:2]), dict(member_coefs=weights[:, :3].copy()),
        dict(member_coefs=weights[:, :, :1].copy()), dict(member_coefs=weights[0]),
        dict(member_intercepts=biases[:2]), dict(member_intercepts=biases[:, :1].copy()),
        dict(member_intercepts=biases.astype(np.float32)), dict(member_intercepts=None),
        dict(scales=scales[:0], member_coefs=weights[:0], member_intercepts=biases[:0]),
        dict(X=usual["X"][:, :4]), dict(X=usual["X"][:59]), dict(X=usual["X"].astype(np.float32)),
        dict(out=usual["out"][:2]), dict(out=usual["out"][0]), dict(out=locked), dict(out=None),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"expected|network|rows|read-only"):
            engine.predict_members_into(**(usual | change))
