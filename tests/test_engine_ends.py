"""Where a run of an engine goes and ends: weights of 0, divergence, order, tolerance, time."""

import itertools
from contextlib import closing

import numpy as np
import pytest
import reference
from covering import naming
from problems import HYPERPARAMETERS, LEARNING_RATES, draw_problem
from reference import FLOAT64_TOLERANCE
from sessions import (
    DTYPES,
    N_OUTPUTS,
    SOLVERS,
    draw_problem_once,
    open_session,
    read_params,
    read_slots,
    run_epochs,
)

from fastbp.activations import ACTIVATIONS
from fastbp.losses import LOSSES
from fastbp.optimizers import OPTIMIZERS
from fastbp.training.stopping import Patience

# --- sample weights and non-finite numbers --------------------------------------------------------


@pytest.mark.parametrize("solver", SOLVERS)
def test_minibatch_without_weight_is_skipped(engine, solver):
    for empty in (slice(0, 16), slice(16, 32), slice(48, 60), slice(0, 48)):
        with naming(empty):
            check_that_it_is_skipped(engine, solver, empty)


def check_that_it_is_skipped(engine, solver, empty):
    """Train both where the rows of this slice have weight 0."""
    problem = draw_problem((5, 9, 2), weighted=True)
    weight = problem.sample_weight + 0.1
    weight[empty] = 0
    problem = type(problem)(**{**vars(problem), "sample_weight": weight})
    params, losses, slots, t = reference.train(
        problem.params, problem.sizes, problem.activations, problem.loss, problem.X,
        problem.targets, weight, [np.arange(60)] * 3, batch_size=16, alpha=0.01,
        learning_rate=0.01, optimizer=solver, hyper=HYPERPARAMETERS[solver],
    )  # fmt: skip
    with closing(open_session(engine, problem)) as session:
        got = run_epochs(
            session, problem, solver=solver, n_epochs=3, order=None, learning_rate=0.01
        )
        np.testing.assert_allclose(got, losses, rtol=FLOAT64_TOLERANCE)
        np.testing.assert_allclose(
            read_params(session, problem, np.float64), params, rtol=0, atol=FLOAT64_TOLERANCE
        )
        np.testing.assert_allclose(
            read_slots(session, problem, np.float64, solver), slots, rtol=0, atol=FLOAT64_TOLERANCE
        )
        assert session.t == t
        assert session.finite


@pytest.mark.parametrize(
    ("activation", "loss"),
    [
        (activation, loss)
        for activation, loss in itertools.product(ACTIVATIONS, LOSSES)
        if activation == "relu" or loss == "squared_error"
    ],
)
def test_non_finite_weights_end_the_run(engine, activation, loss):
    """NaN or infinity in the first weight, or in the last bias."""
    problem = draw_problem((5, 9, N_OUTPUTS[loss]), activation=activation, loss=loss)
    for value, at, dtype in itertools.product([np.nan, np.inf], [0, -1], DTYPES):
        params = problem.params.copy()
        params[at] = value
        spoilt = type(problem)(**{**vars(problem), "params": params})
        X, targets, _, _ = spoilt.in_dtype(dtype)
        with naming(value, at, dtype), closing(open_session(engine, spoilt, dtype)) as session:
            session.set_optimizer(OPTIMIZERS["adam"], HYPERPARAMETERS["adam"])
            done = session.train(
                X, targets, None, None, shuffle=None, batch_size=16, alpha=0.0, learning_rate=0.01,
                n_epochs=50, losses=np.zeros(50),
            )  # fmt: skip
            assert done == session.epochs_done == 1
            assert not session.finite


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", ["squared_error", "poisson"])
def test_divergence_ends_the_run(engine, loss, dtype):
    problem = draw_problem((5, 9, 2), activation="identity", loss=loss)
    X, targets, _, _ = problem.in_dtype(dtype)
    with closing(open_session(engine, problem, dtype)) as session:
        session.set_optimizer(OPTIMIZERS["sgd"], HYPERPARAMETERS["sgd"])
        losses = np.zeros(5000)
        done = session.train(
            X, targets, None, None, shuffle=None, batch_size=16, alpha=0.0, learning_rate=1e3,
            n_epochs=5000, losses=losses,
        )  # fmt: skip
        assert 1 <= done == session.epochs_done < 5000
        assert not session.finite
        assert np.isfinite(losses[: done - 1]).all()


def test_weights_that_overflow_in_the_last_step_end_the_run(engine):
    """The loss of that epoch is finite; the next one's would name the wrong epoch."""
    problem = draw_problem_once((5, 9, 2))
    X, targets, _, _ = problem.in_dtype(np.float32)
    with closing(open_session(engine, problem, np.float32, batch_size=len(X))) as session:
        session.set_optimizer(OPTIMIZERS["sgd"], HYPERPARAMETERS["sgd"])
        losses = np.zeros(5)
        done = session.train(
            X, targets, None, None, shuffle=None, batch_size=len(X), alpha=0.0,
            learning_rate=1e39, n_epochs=5, losses=losses,
        )  # fmt: skip
        assert np.isfinite(losses[0])
        assert done == session.epochs_done == 1
        assert not session.finite


# --- order, shuffling and stopping ----------------------------------------------------------------


def make_random_states():
    """Return pairs of equal generators in every state that users hand over."""

    def with_pending_normal():
        random_state = np.random.RandomState(3)
        random_state.standard_normal()
        return random_state

    def in_mid_buffer():
        random_state = np.random.RandomState(4)
        random_state.bytes(623 * 4)
        return random_state

    return {
        "fresh": lambda: np.random.RandomState(7),
        "pending normal": with_pending_normal,
        "near the end of its buffer": in_mid_buffer,
        "PCG64": lambda: np.random.RandomState(np.random.PCG64(5)),
        "Philox": lambda: np.random.RandomState(np.random.Philox(5)),
    }


def assert_same_state(left, right):
    """The two generators draw the same numbers from here on."""
    assert left.standard_normal() == right.standard_normal()
    np.testing.assert_array_equal(left.randint(0, 2**31, 700), right.randint(0, 2**31, 700))
    np.testing.assert_array_equal(left.standard_normal(3), right.standard_normal(3))


@pytest.mark.parametrize("kind", make_random_states())
def test_shuffling_is_numpys(engine, kind):
    for n_samples in (1, 2, 3, 60, 1000):
        with naming(f"{n_samples} samples"):
            check_shuffling(engine, make_random_states()[kind], n_samples)


def check_shuffling(engine, make, n_samples):
    """Shuffle in five epochs of two calls, and as often by NumPy."""
    problem = draw_problem((3, 2, 1), n_samples=n_samples)
    expected_order, expected_state = np.arange(n_samples), make()
    for _ in range(5):
        expected_state.shuffle(expected_order)
    order, random_state = np.arange(n_samples), make()
    with closing(open_session(engine, problem)) as session:
        session.set_optimizer(OPTIMIZERS["sgd"], HYPERPARAMETERS["sgd"])
        for n_epochs in (2, 3):
            session.train(
                problem.X, problem.targets, None, order, shuffle=random_state, batch_size=16,
                alpha=0.0, learning_rate=0.001, n_epochs=n_epochs, losses=np.zeros(n_epochs),
            )  # fmt: skip
    np.testing.assert_array_equal(order, expected_order)
    assert_same_state(random_state, expected_state)


@pytest.mark.parametrize("name", ["MT19937", "PCG64", "Philox", "SFC64"])
def test_a_bit_generator_is_drawn_from_directly(engine, name):
    problem = draw_problem((3, 2, 1), n_samples=300)
    bits, twin = (getattr(np.random, name)(3) for _ in range(2))
    order, expected = np.arange(300), np.arange(300)
    with closing(open_session(engine, problem)) as session:
        session.set_optimizer(OPTIMIZERS["sgd"], HYPERPARAMETERS["sgd"])
        session.train(
            problem.X, problem.targets, None, order, shuffle=bits, batch_size=16, alpha=0.0,
            learning_rate=0.001, n_epochs=3, losses=np.zeros(3),
        )  # fmt: skip
    twin = np.random.RandomState(twin)
    for _ in range(3):
        twin.shuffle(expected)
    np.testing.assert_array_equal(order, expected)
    assert_same_state(np.random.RandomState(bits), twin)


def test_the_global_generator_is_advanced(engine):
    problem = draw_problem((3, 2, 1))
    before = np.random.get_state()
    try:
        np.random.seed(11)
        order, expected = np.arange(60), np.arange(60)
        with closing(open_session(engine, problem)) as session:
            session.set_optimizer(OPTIMIZERS["sgd"], HYPERPARAMETERS["sgd"])
            session.train(
                problem.X, problem.targets, None, order, shuffle=np.random.mtrand._rand,
                batch_size=16, alpha=0.0, learning_rate=0.001, n_epochs=1, losses=np.zeros(1),
            )  # fmt: skip
        twin = np.random.RandomState(11)
        twin.shuffle(expected)
        np.testing.assert_array_equal(order, expected)
        assert np.random.random() == twin.random_sample()
    finally:
        np.random.set_state(before)


def stop_by_the_rule(losses, tol, n_iter_no_change, best, count):
    """Return (epochs, best_loss, count) of scikit-learn's rule on a sequence of losses."""
    for epoch, loss in enumerate(losses, 1):
        count = count + 1 if loss > best - tol else 0
        best = min(best, loss)
        if count > n_iter_no_change:
            return epoch, best, count
    return len(losses), best, count


def test_stopping_rule(engine):
    problem = draw_problem((5, 9, 2))
    with closing(open_session(engine, problem)) as session:
        every_loss = run_epochs(session, problem, n_epochs=40)
    for case in itertools.product([0.0, 1e-3, 1e-1, 10.0], [1, 3, np.inf], [(np.inf, 0), (0.3, 1)]):
        with naming(*case):
            check_stopping(engine, problem, every_loss, *case)


def check_stopping(engine, problem, every_loss, tol, n_iter_no_change, start):
    """Train with the rule: it ends where these losses tell, with the generator of that epoch."""
    expected, best, count = stop_by_the_rule(every_loss, tol, n_iter_no_change, *start)
    stopping = Patience(tol, n_iter_no_change, *start)
    losses, order, shuffle = np.zeros(40), np.arange(60), np.random.RandomState(0)
    with closing(open_session(engine, problem)) as session:
        session.set_optimizer(OPTIMIZERS["adam"], HYPERPARAMETERS["adam"])
        done = session.train(
            problem.X, problem.targets, None, order, shuffle=shuffle, batch_size=16, alpha=0.01,
            learning_rate=LEARNING_RATES["adam"], n_epochs=40, losses=losses, stopping=stopping,
        )  # fmt: skip
        assert done == session.epochs_done == expected
    np.testing.assert_array_equal(losses[:done], every_loss[:done])
    assert (stopping.best, stopping.count) == (best, count)
    twin, twin_order = np.random.RandomState(0), np.arange(60)
    for _ in range(done):
        twin.shuffle(twin_order)
    np.testing.assert_array_equal(order, twin_order)
    assert_same_state(shuffle, twin)


def test_one_call_equals_many(engine):
    problem = draw_problem((5, 9, 2))
    with closing(open_session(engine, problem)) as session:
        expected = run_epochs(session, problem, n_epochs=8)
        expected_params = read_params(session, problem, np.float64)
    with closing(open_session(engine, problem)) as session:
        session.set_optimizer(OPTIMIZERS["adam"], HYPERPARAMETERS["adam"])
        order, shuffle, got = np.arange(60), np.random.RandomState(0), np.zeros(8)
        for epoch in range(8):
            session.train(
                problem.X, problem.targets, None, order, shuffle=shuffle, batch_size=16, alpha=0.01,
                learning_rate=LEARNING_RATES["adam"], n_epochs=1, losses=got[epoch : epoch + 1],
            )  # fmt: skip
        np.testing.assert_array_equal(got, expected)
        np.testing.assert_array_equal(read_params(session, problem, np.float64), expected_params)


# --- time limits ----------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 1500])
def test_time_limit_ends_after_a_whole_step(engine, batch_size, threads):
    """Weights, counts and loss are those of a run over exactly the rows that it came to."""
    # Wide enough that the clock is read within some hundred steps of one row: three threads of two
    # cores meet in each step.
    n, sizes = (2000, (100, 60, 2)) if batch_size == 1 else (40_000, (5, 9, 2))
    problem = draw_problem_once(sizes, n_samples=n)
    X, targets, _, _ = problem.in_dtype(np.float64)
    hyper, order = HYPERPARAMETERS["sgd"], np.arange(n)

    def train(session, rows, **options):
        session.set_optimizer(OPTIMIZERS["sgd"], hyper)
        session.train(
            X, targets, None, rows, shuffle=None, batch_size=batch_size, alpha=0.01,
            learning_rate=1e-3, losses=losses, **options,
        )  # fmt: skip
        return read_params(session, problem, np.float64)

    losses = np.full(3, np.nan)
    with closing(open_session(engine, problem, batch_size=batch_size, threads=threads)) as session:
        params = train(session, order, n_epochs=3, time_limit=1e-9)
        assert session.out_of_time
        assert session.epochs_done == 1
        seen, loss = session.n_seen, losses[0]
        assert 0 < seen < n
        assert seen % batch_size == 0
        assert session.t == seen // batch_size
    with closing(open_session(engine, problem, batch_size=batch_size, threads=threads)) as session:
        np.testing.assert_array_equal(train(session, order[:seen], n_epochs=1), params)
        assert losses[0] == loss
        assert not session.out_of_time
        assert session.n_seen == seen
        few = 4 * batch_size
        train(session, order[:few], n_epochs=2, time_limit=1e6)
        assert (session.epochs_done, session.out_of_time, session.n_seen) == (2, False, few)


# --- dropout --------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu"])
def test_a_rate_below_any_draw_leaves_nothing_out(engine, activation):
    """32 bits are drawn for a unit; with tanh the next layer once read a copy nobody wrote."""
    problem, found = draw_problem((5, 7, 3), activation=activation), []
    for rate in (0.0, 1e-12):
        with closing(open_session(engine, problem)) as session:
            session.set_dropout([rate], 0)
            found.append(run_epochs(session, problem, n_epochs=3))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-9)
