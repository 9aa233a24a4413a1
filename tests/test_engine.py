"""The door itself: whole trainings, gradients, predictions and transforms of every engine.

Compared with `reference.py`, on every instruction set and for every number of threads.
"""

import functools
import inspect
import itertools
import math
import os
import signal
import sys
import threading
import tracemalloc
from contextlib import closing
from types import SimpleNamespace

import numpy as np
import pytest
import reference
from engines import ENGINES
from problems import HYPERPARAMETERS, LEARNING_RATES, draw_problem
from reference import FLOAT32_LOSS_TOLERANCE, FLOAT64_TOLERANCE
from scipy import sparse, special

from fastbp.activations import ACTIVATIONS
from fastbp.engine import contract
from fastbp.losses import LOSSES
from fastbp.optimizers import OPTIMIZERS

SOLVERS = [name for name, row in OPTIMIZERS.items() if row.stochastic]
BASIC = ["sgd", "adam"]  # one slot and two; other solvers differ in the formula alone
DTYPES = [np.float32, np.float64]
THREADS = [1, 2, 3, 7]
OF_ROWS = [name for name, row in LOSSES.items() if row.target != "real"]  # see all scores at once
N_OUTPUTS = {name: 3 if name in OF_ROWS else 2 for name in LOSSES}

# scikit-learn's activations and losses are crossed with everything; each of the others meets each
# of all in one way or two.
CLASSIC_ACTIVATIONS = ["identity", "logistic", "tanh", "relu"]
CLASSIC_LOSSES = ["squared_error", "poisson", "log_loss", "binary_log_loss"]


def open_session(engine, problem, dtype=np.float64, *, batch_size=16, threads=1):
    """Return a session at the problem's starting point that uses exactly this many threads."""
    session = engine.Session(
        problem.sizes,
        [ACTIVATIONS[name] for name in problem.activations],
        LOSSES[problem.loss],
        dtype=dtype,
        params=problem.params.astype(dtype),
        batch_size=batch_size,
        n_threads=threads,
        sparse=sparse.issparse(problem.X),
    )
    session.force_threads(threads)
    return session


def read_params(session, problem, dtype):
    """Return the session's parameters as a new flat vector."""
    params = np.full(len(problem.params), np.nan, dtype)
    session.params_into(params)
    return params


def read_slots(session, problem, dtype, solver):
    """Return the optimiser's state in the flat layout."""
    slots = np.full((OPTIMIZERS[solver].n_slots, len(problem.params)), np.nan, dtype)
    session.slots_into(slots)
    return slots


def run_epochs(
    session, problem, dtype=np.float64, *, solver="adam", n_epochs=10, batch_size=16,
    order="shuffled", alpha=0.01, learning_rate=None, hyper=None,
):  # fmt: skip
    """Set the optimiser, train, and return the losses."""
    X, targets, weight, _ = problem.in_dtype(dtype)
    session.set_optimizer(OPTIMIZERS[solver], hyper or HYPERPARAMETERS[solver])
    losses = np.full(n_epochs, np.nan)
    shuffled = order == "shuffled"
    done = session.train(
        X, targets, weight, np.arange(X.shape[0]) if shuffled else None,
        shuffle=np.random.RandomState(0) if shuffled else None, batch_size=batch_size, alpha=alpha,
        learning_rate=LEARNING_RATES[solver] if learning_rate is None else learning_rate,
        n_epochs=n_epochs, losses=losses,
    )  # fmt: skip
    assert done == n_epochs
    return losses


def draw_orders(n_samples, n_epochs, seed=0):
    """Return the orders that scikit-learn's shuffling gives, one array per epoch."""
    random_state, order, orders = np.random.RandomState(seed), np.arange(n_samples), []
    for _ in range(n_epochs):
        random_state.shuffle(order)
        orders.append(order.copy())
    return orders


@functools.cache
def draw_problem_once(sizes, **options):
    """As `draw_problem`, kept: many tests share a problem."""
    return draw_problem(sizes, **options)


@functools.cache
def train_reference(problem_key, solver, n_epochs, batch_size, dtype):
    """Return the reference's (params, losses, slots, t); data rounded to dtype first."""
    problem = draw_problem_once(problem_key[0], **dict(problem_key[1:]))
    X, targets, weight, params = problem.in_dtype(dtype)
    return reference.train(
        params, problem.sizes, problem.activations, problem.loss, X, targets, weight,
        draw_orders(X.shape[0], n_epochs), batch_size=batch_size, alpha=0.01,
        learning_rate=LEARNING_RATES[solver], optimizer=solver, hyper=HYPERPARAMETERS[solver],
    )  # fmt: skip


def check_against_reference(
    engine, sizes, dtype, *, solver, n_epochs=10, batch_size=16, threads=1, **options
):
    """Train both from the same start and compare losses, and in float64 weights and slots."""
    problem = draw_problem_once(sizes, **options)
    key = (sizes, *options.items())
    params, losses, slots, t = train_reference(key, solver, n_epochs, batch_size, dtype)
    session = open_session(engine, problem, dtype, batch_size=batch_size, threads=threads)
    with closing(session):
        got = run_epochs(
            session, problem, dtype, solver=solver, n_epochs=n_epochs, batch_size=batch_size
        )
        assert session.finite
        assert session.t == t
        assert session.epochs_done == n_epochs
        if dtype == np.float32:
            np.testing.assert_allclose(got, losses, rtol=FLOAT32_LOSS_TOLERANCE, atol=0)
            return
        np.testing.assert_allclose(got, losses, rtol=FLOAT64_TOLERANCE, atol=0)
        np.testing.assert_allclose(
            read_params(session, problem, dtype), params, rtol=0, atol=FLOAT64_TOLERANCE
        )
        np.testing.assert_allclose(
            read_slots(session, problem, dtype, solver), slots, rtol=0, atol=FLOAT64_TOLERANCE
        )


# --- whole trainings ------------------------------------------------------------------------------


def list_trainings():
    """Yield (activation, loss, solver, density, weighted, dtype): newer pairs once per dtype."""
    ways = list(itertools.product(BASIC, [None, 0.3], [False, True]))
    pairs = list(itertools.product(ACTIVATIONS, LOSSES))
    for number, (activation, loss) in enumerate(pairs):
        classic = activation in CLASSIC_ACTIVATIONS and loss in CLASSIC_LOSSES
        for shift, dtype in enumerate(DTYPES):
            first = (number + 3 * shift) % len(ways)
            for way in ways if classic else ways[first : first + 1]:
                yield activation, loss, *way, dtype


@pytest.mark.parametrize(
    ("activation", "loss", "solver", "density", "weighted", "dtype"), list(list_trainings())
)
def test_training_equals_reference(engine, activation, loss, solver, density, weighted, dtype):
    check_against_reference(
        engine, (5, 9, 4, N_OUTPUTS[loss]), dtype, solver=solver,
        activation=activation, loss=loss, density=density, weighted=weighted, n_samples=61,
    )  # fmt: skip


# Around the panel sizes (8 and 16 columns), one of everything, no hidden layer, deep.
SHAPES = [
    *[(width, width, width) for width in (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 48, 100)],
    *[(5, width, 1) for width in (1, 7, 8, 16, 17, 33)],
    *[(width, 6, 3) for width in (1, 7, 8, 16, 17, 33)],
    *[(6, 10, width) for width in (1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31)],
    *[(1, 1), (1, 2), (3, 1), (16, 17), (40, 3)],
    *[(4, 5, 6, 7, 8, 9, 1), (3, 17, 1, 17, 2), (64, 100, 10), (9, 32, 32, 1)],
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("solver", BASIC)
@pytest.mark.parametrize("sizes", SHAPES, ids=str)
def test_odd_shapes_equal_reference(forced_engine, sizes, solver, dtype):
    check_against_reference(forced_engine, sizes, dtype, solver=solver, n_epochs=3, n_samples=37)


@pytest.mark.parametrize("density", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("sizes", [(1, 3, 1), (40, 17, 2), (300, 8, 3), (33, 2)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_sparse_shapes_equal_reference(forced_engine, sizes, density, dtype):
    check_against_reference(
        forced_engine, sizes, dtype, solver="adam", n_epochs=3, n_samples=37, density=density
    )


@pytest.mark.parametrize("loss", ["log_loss", "binary_log_loss", "poisson"])
@pytest.mark.parametrize("n_outputs", [1, 2, 3, 7, 8, 9, 16, 17, 33])
@pytest.mark.parametrize("dtype", DTYPES)
def test_widths_of_output_equal_reference(forced_engine, loss, n_outputs, dtype):
    check_against_reference(
        forced_engine, (4, 6, n_outputs), dtype, solver="sgd", n_epochs=3, n_samples=37, loss=loss
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch_size", [1, 2, 13, 14, 15, 16, 17, 31, 200, 1024, 1025, 2100])
def test_batch_sizes_equal_reference(forced_engine, batch_size, dtype):
    n_samples = max(41, 2 * batch_size + 3)  # a last minibatch of three rows
    check_against_reference(
        forced_engine, (6, 9, 2), dtype, solver="adam", n_epochs=2, batch_size=batch_size,
        n_samples=n_samples, activation="tanh",
    )  # fmt: skip


# Enough work for two threads, and activations that outweigh the weights: the gradients are sums of
# two chunks, which do not end with a whole vector; the last minibatch has 1, 17 or 40 rows.
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("last", [1, 17, 40])
@pytest.mark.parametrize("sizes", [(64, 100, 3), (64, 60, 60, 20)], ids=str)
def test_chunks_of_minibatches_equal_reference(forced_compiled_engine, sizes, last, threads, dtype):
    check_against_reference(
        forced_compiled_engine, sizes, dtype, solver="adam", n_epochs=2, batch_size=202,
        n_samples=2 * 202 + last, loss="log_loss", weighted=True, threads=threads,
    )  # fmt: skip


# A first layer with more weights than a minibatch has activations around it: threads divide its
# forward product by columns, of which each has more than one panel.
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("sizes", [(90, 170, 3), (200, 100, 20, 1)], ids=str)
def test_columns_of_the_first_layer_equal_reference(forced_compiled_engine, sizes, threads, dtype):
    check_against_reference(
        forced_compiled_engine, sizes, dtype, solver="adam", n_epochs=2, batch_size=16,
        n_samples=37, activation="tanh", threads=threads,
    )  # fmt: skip


@pytest.mark.parametrize("loss", ["squared_error", "log_loss"])
@pytest.mark.parametrize("n_samples", [1, 2, 15, 16])
def test_few_samples_equal_reference(forced_engine, n_samples, loss):
    check_against_reference(
        forced_engine, (4, 5, 3), np.float64, solver="adam", n_epochs=4, batch_size=n_samples,
        n_samples=n_samples, loss=loss,
    )  # fmt: skip


@pytest.mark.parametrize(
    "activations", [("tanh", "relu"), ("identity", "logistic"), ("relu", "tanh")]
)
def test_layers_may_have_different_activations(engine, activations):
    problem = draw_problem((5, 9, 7, 2))
    problem = type(problem)(**{**vars(problem), "activations": activations})
    params, losses, _, _ = reference.train(
        problem.params, problem.sizes, activations, problem.loss, problem.X, problem.targets, None,
        draw_orders(60, 5), batch_size=16, alpha=0.01, learning_rate=0.01, optimizer="adam",
        hyper=HYPERPARAMETERS["adam"],
    )  # fmt: skip
    with closing(open_session(engine, problem)) as session:
        got = run_epochs(session, problem, n_epochs=5)
        np.testing.assert_allclose(got, losses, rtol=FLOAT64_TOLERANCE)
        np.testing.assert_allclose(
            read_params(session, problem, np.float64), params, rtol=0, atol=FLOAT64_TOLERANCE
        )


HYPERPARAMETER_VARIANTS = [
    ("sgd", {"momentum": 0.0, "nesterovs_momentum": False}),
    ("sgd", {"momentum": 0.0, "nesterovs_momentum": True}),
    ("sgd", {"momentum": 0.7, "nesterovs_momentum": False}),
    ("sgd", {"momentum": 1.0, "nesterovs_momentum": True}),
    ("adam", {"beta_1": 0.0, "beta_2": 0.0, "epsilon": 1e-3}),
    ("adam", {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-12}),
    ("adam", {"beta_1": 0.0, "beta_2": 0.99, "epsilon": 0.1}),
]


@pytest.mark.parametrize(("solver", "hyper"), HYPERPARAMETER_VARIANTS)
def test_hyperparameters_are_used(forced_engine, solver, hyper):
    problem = draw_problem((5, 9, 2), activation="tanh")
    params, losses, slots, _ = reference.train(
        problem.params, problem.sizes, problem.activations, problem.loss, problem.X,
        problem.targets, None, draw_orders(60, 10), batch_size=16, alpha=0.0, learning_rate=1e-3,
        optimizer=solver, hyper=hyper,
    )  # fmt: skip
    with closing(open_session(forced_engine, problem)) as session:
        got = run_epochs(
            session, problem, solver=solver, hyper=hyper, learning_rate=1e-3, alpha=0.0
        )
        np.testing.assert_allclose(got, losses, rtol=FLOAT64_TOLERANCE)
        np.testing.assert_allclose(
            read_params(session, problem, np.float64), params, rtol=0, atol=FLOAT64_TOLERANCE
        )
        np.testing.assert_allclose(
            read_slots(session, problem, np.float64, solver), slots, rtol=0, atol=FLOAT64_TOLERANCE
        )


@pytest.mark.parametrize("solver", SOLVERS)
def test_state_goes_out_and_in(engine, solver):
    """Five epochs, state into a new session, five more: the same bits as ten in one session."""
    problem, dtype = draw_problem((5, 9, 2)), np.float64
    X, targets, weight, _ = problem.in_dtype(dtype)
    options = dict(batch_size=16, alpha=0.01, learning_rate=0.01, n_epochs=5)
    order, shuffle, losses = np.arange(60), np.random.RandomState(0), np.zeros(5)
    with closing(open_session(engine, problem)) as session:
        session.set_optimizer(OPTIMIZERS[solver], HYPERPARAMETERS[solver])
        for _ in range(2):
            session.train(X, targets, weight, order, shuffle=shuffle, losses=losses, **options)
        expected, expected_losses = read_params(session, problem, dtype), losses.copy()
        expected_t = session.t
    order, shuffle = np.arange(60), np.random.RandomState(0)
    with closing(open_session(engine, problem)) as session:
        session.set_optimizer(OPTIMIZERS[solver], HYPERPARAMETERS[solver])
        session.train(X, targets, weight, order, shuffle=shuffle, losses=losses, **options)
        params = read_params(session, problem, dtype)
        slots = read_slots(session, problem, dtype, solver)
        t = session.t
    second = type(problem)(**{**vars(problem), "params": params})
    with closing(open_session(engine, second)) as session:
        session.set_optimizer(OPTIMIZERS[solver], HYPERPARAMETERS[solver], slots=slots, t=t)
        session.train(X, targets, weight, order, shuffle=shuffle, losses=losses, **options)
        np.testing.assert_array_equal(read_params(session, problem, dtype), expected)
        np.testing.assert_array_equal(losses, expected_losses)
        assert session.t == expected_t


def test_params_given_to_a_session_are_copied(engine):
    problem = draw_problem((5, 9, 2))
    params = problem.params.copy()
    with closing(open_session(engine, problem)) as session:
        run_epochs(session, problem, n_epochs=1)
        assert not np.array_equal(read_params(session, problem, np.float64), params)
    np.testing.assert_array_equal(problem.params, params)


@pytest.mark.parametrize("sizes", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_params_pass_through_unchanged(forced_engine, sizes, dtype):
    problem = draw_problem_once(sizes, n_samples=37)
    with closing(open_session(forced_engine, problem, dtype)) as session:
        np.testing.assert_array_equal(
            read_params(session, problem, dtype), problem.params.astype(dtype)
        )


@pytest.mark.parametrize("solver", SOLVERS)
def test_learning_rate_per_step(engine, solver):
    problem = draw_problem((5, 9, 2))
    rates = np.linspace(0.001, 0.02, 12)  # three epochs of four minibatches
    params, losses, _, _ = reference.train(
        problem.params, problem.sizes, problem.activations, problem.loss, problem.X,
        problem.targets, None, draw_orders(60, 3), batch_size=16, alpha=0.01,
        learning_rate=rates, optimizer=solver, hyper=HYPERPARAMETERS[solver],
    )  # fmt: skip
    with closing(open_session(engine, problem)) as session:
        got = run_epochs(session, problem, solver=solver, n_epochs=3, learning_rate=rates)
        np.testing.assert_allclose(got, losses, rtol=FLOAT64_TOLERANCE)
        np.testing.assert_allclose(
            read_params(session, problem, np.float64), params, rtol=0, atol=FLOAT64_TOLERANCE
        )


def test_natural_order(engine):
    problem = draw_problem((5, 9, 2))
    params, losses, _, _ = reference.train(
        problem.params, problem.sizes, problem.activations, problem.loss, problem.X,
        problem.targets, None, [np.arange(60)] * 3, batch_size=16, alpha=0.01, learning_rate=0.01,
        optimizer="adam", hyper=HYPERPARAMETERS["adam"],
    )  # fmt: skip
    with closing(open_session(engine, problem)) as session:
        got = run_epochs(session, problem, n_epochs=3, order=None)
        np.testing.assert_allclose(got, losses, rtol=FLOAT64_TOLERANCE)
        np.testing.assert_allclose(
            read_params(session, problem, np.float64), params, rtol=0, atol=FLOAT64_TOLERANCE
        )


def test_minibatch_may_be_smaller_than_the_session_allows(engine):
    check = draw_problem((5, 9, 2))
    results = []
    for capacity in (60, 16):
        with closing(open_session(engine, check, batch_size=capacity)) as session:
            losses = run_epochs(session, check, batch_size=16)
            results.append((losses.tobytes(), read_params(session, check, np.float64).tobytes()))
    assert results[0] == results[1]


@pytest.mark.parametrize("index_dtype", [np.int32, np.int64])
def test_sparse_index_types(engine, index_dtype):
    problem = draw_problem((30, 9, 2), density=0.2)
    problem.X.indices, problem.X.indptr = (
        problem.X.indices.astype(index_dtype), problem.X.indptr.astype(index_dtype),
    )  # fmt: skip
    _, losses, _, _ = reference.train(
        problem.params, problem.sizes, problem.activations, problem.loss, problem.X,
        problem.targets, None, [np.arange(60)], batch_size=16, alpha=0.01, learning_rate=0.01,
        optimizer="adam", hyper=HYPERPARAMETERS["adam"],
    )  # fmt: skip
    with closing(open_session(engine, problem)) as session:
        X, targets, _, _ = problem.in_dtype(np.float64)
        X.indices, X.indptr = X.indices.astype(index_dtype), X.indptr.astype(index_dtype)
        session.set_optimizer(OPTIMIZERS["adam"], HYPERPARAMETERS["adam"])
        got = np.zeros(1)
        session.train(
            X, targets, None, None, shuffle=None, batch_size=16, alpha=0.01, learning_rate=0.01,
            n_epochs=1, losses=got,
        )  # fmt: skip
        np.testing.assert_allclose(got, losses, rtol=FLOAT64_TOLERANCE)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_sparse_and_dense_agree(engine, solver, dtype):
    sparse_problem = draw_problem((30, 17, 2), density=0.2)
    dense_problem = type(sparse_problem)(
        **{**vars(sparse_problem), "X": sparse_problem.X.toarray()}
    )
    tolerance = FLOAT64_TOLERANCE if dtype == np.float64 else FLOAT32_LOSS_TOLERANCE
    losses = []
    for problem in (sparse_problem, dense_problem):
        with closing(open_session(engine, problem, dtype)) as session:
            losses.append(run_epochs(session, problem, dtype, solver=solver))
    np.testing.assert_allclose(*losses, rtol=tolerance)


# --- sample weights and non-finite numbers --------------------------------------------------------


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("empty", [slice(0, 16), slice(16, 32), slice(48, 60), slice(0, 48)])
def test_minibatch_without_weight_is_skipped(engine, solver, empty):
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


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("where", ["first weight", "last bias"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    ("activation", "loss"),
    [
        (activation, loss)
        for activation, loss in itertools.product(ACTIVATIONS, LOSSES)
        if activation == "relu" or loss == "squared_error"
    ],
)
def test_non_finite_weights_end_the_run(engine, activation, loss, value, where, dtype):
    problem = draw_problem((5, 9, N_OUTPUTS[loss]), activation=activation, loss=loss)
    params = problem.params.copy()
    params[0 if where == "first weight" else -1] = value
    problem = type(problem)(**{**vars(problem), "params": params})
    X, targets, _, _ = problem.in_dtype(dtype)
    with closing(open_session(engine, problem, dtype)) as session:
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


@pytest.mark.parametrize("n_samples", [1, 2, 3, 60, 1000])
@pytest.mark.parametrize("kind", make_random_states())
def test_shuffling_is_numpys(engine, kind, n_samples):
    problem = draw_problem((3, 2, 1), n_samples=n_samples)
    make = make_random_states()[kind]
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


@pytest.mark.parametrize("tol", [0.0, 1e-3, 1e-1, 10.0])
@pytest.mark.parametrize("n_iter_no_change", [1, 3, np.inf])
@pytest.mark.parametrize("start", [(np.inf, 0), (0.3, 1)])
def test_stopping_rule(engine, tol, n_iter_no_change, start):
    problem = draw_problem((5, 9, 2))
    with closing(open_session(engine, problem)) as session:
        every_loss = run_epochs(session, problem, n_epochs=40)
    expected, best, count = stop_by_the_rule(every_loss, tol, n_iter_no_change, *start)
    stopping = SimpleNamespace(
        tol=tol, n_iter_no_change=n_iter_no_change, best_loss=start[0],
        no_improvement_count=start[1],
    )  # fmt: skip
    losses, order, shuffle = np.zeros(40), np.arange(60), np.random.RandomState(0)
    with closing(open_session(engine, problem)) as session:
        session.set_optimizer(OPTIMIZERS["adam"], HYPERPARAMETERS["adam"])
        done = session.train(
            problem.X, problem.targets, None, order, shuffle=shuffle, batch_size=16, alpha=0.01,
            learning_rate=LEARNING_RATES["adam"], n_epochs=40, losses=losses, stopping=stopping,
        )  # fmt: skip
        assert done == session.epochs_done == expected
    np.testing.assert_array_equal(losses[:done], every_loss[:done])
    assert (stopping.best_loss, stopping.no_improvement_count) == (best, count)
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


# --- the loss and its gradient --------------------------------------------------------------------


def list_gradients():
    """Yield (activation, loss, n_outputs, kind): all of both dense, the classic in every kind."""
    for activation, loss in itertools.product(ACTIVATIONS, LOSSES):
        classic = activation in ("tanh", "gelu") or loss in CLASSIC_LOSSES[:1]
        for n_outputs in {"quantiles": (3,)}.get(loss, (2, 3) if loss in OF_ROWS else (1, 3)):
            yield activation, loss, n_outputs, "dense"
            if classic:
                yield activation, loss, n_outputs, "sparse"
                yield activation, loss, n_outputs, "weighted"
            if activation == "relu":
                yield activation, loss, n_outputs, "no hidden layer"


@pytest.mark.parametrize(("activation", "loss", "n_outputs", "kind"), list(list_gradients()))
def test_gradient_equals_central_differences(engine, activation, loss, n_outputs, kind):
    """The true gradient of the value, and of the objective that sgd and adam step on."""
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

        def stepped(params):
            data = compute(params, 0.0)[0]
            return scale * data + (compute(params, 0.3)[0] - data)

        _, mean_gradient = compute(problem.params, 0.3)
        _, step_gradient = compute(problem.params, 0.3, mean_gradient=False)
        for k, step in enumerate(1e-6 * np.eye(len(problem.params))):
            above, below = problem.params + step, problem.params - step
            slope = (compute(above, 0.3)[0] - compute(below, 0.3)[0]) / 2e-6
            assert mean_gradient[k] == pytest.approx(slope, rel=1e-6, abs=1e-8)
            slope = (stepped(above) - stepped(below)) / 2e-6
            assert step_gradient[k] == pytest.approx(slope, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("density", [None, 0.3], ids=["dense", "sparse"])
@pytest.mark.parametrize(
    ("loss", "mean_gradient"),
    [(loss, False) for loss in LOSSES]
    + [(loss, True) for loss, row in LOSSES.items() if row.output_mean],
)
def test_gradient_equals_reference(forced_engine, loss, mean_gradient, density, weighted, dtype):
    """On a full batch of several blocks."""
    problem = draw_problem_once(
        (7, 9, 5, N_OUTPUTS[loss]), loss=loss, n_samples=2500, density=density, weighted=weighted
    )
    X, targets, weight, params = problem.in_dtype(dtype)
    value, expected = reference.loss_and_gradient(
        params, problem.sizes, problem.activations, loss, X, targets, weight, alpha=0.5,
        mean_gradient=mean_gradient,
    )  # fmt: skip
    with closing(open_session(forced_engine, problem, dtype, batch_size=1024)) as session:
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


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_extreme_scores_have_a_finite_loss(engine, loss, dtype):
    """Computed from raw scores, no logarithm of a rounded probability appears."""
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


# --- threads --------------------------------------------------------------------------------------

THREAD_CASES = [
    *[
        dict(
            sizes=(20, 33, N_OUTPUTS[loss]),
            loss=loss,
            batch_size=64,
            n_samples=150,
            activation="gelu",
        )
        for loss in LOSSES
        if loss not in CLASSIC_LOSSES
    ],
    *[
        dict(sizes=(20, 33, 2), activation=activation, batch_size=64, n_samples=150)
        for activation in ACTIVATIONS
        if activation not in CLASSIC_ACTIVATIONS
    ],
    dict(sizes=(6, 9, 2), batch_size=1, n_samples=40),
    dict(sizes=(6, 9, 2), batch_size=13, n_samples=60),
    dict(sizes=(4, 10, 3), batch_size=32, n_samples=150, loss="log_loss", weighted=True),
    dict(sizes=(10, 32, 32, 1), batch_size=64, n_samples=200, activation="tanh"),
    dict(sizes=(64, 100, 10), batch_size=200, n_samples=500, loss="log_loss"),
    dict(sizes=(64, 100, 3), batch_size=202, n_samples=500, loss="log_loss"),
    dict(sizes=(64, 100, 10), batch_size=200, n_samples=500, loss="binary_log_loss", weighted=True),
    dict(sizes=(54, 130, 70, 7), batch_size=256, n_samples=600, loss="log_loss"),
    dict(sizes=(33, 17, 1), batch_size=1025, n_samples=2100, loss="poisson", activation="logistic"),
    dict(sizes=(20, 31, 3), batch_size=2100, n_samples=2100, weighted=True),
    dict(sizes=(1200, 40, 5), batch_size=128, n_samples=300),
    dict(sizes=(300, 40, 5), batch_size=128, n_samples=300, density=0.05),
    dict(sizes=(300, 40, 5), batch_size=100, n_samples=300, density=0.05, weighted=True),
    dict(sizes=(3000, 20, 3), batch_size=64, n_samples=200, density=0.01, loss="log_loss"),
    dict(sizes=(40, 3), batch_size=200, n_samples=600, loss="log_loss"),
    dict(sizes=(7, 8, 9, 10, 11, 12, 2), batch_size=50, n_samples=220, activation="tanh"),
]


def name_case(case):
    """Return a short test id."""
    return "-".join(str(value).replace(" ", "") for value in case.values())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("solver", BASIC)
@pytest.mark.parametrize("case", THREAD_CASES, ids=name_case)
def test_threads_never_change_a_bit(forced_engine, case, solver, dtype):
    options = {key: value for key, value in case.items() if key not in ("sizes", "batch_size")}
    problem = draw_problem_once(case["sizes"], **options)
    X, targets, weight, params = problem.in_dtype(dtype)
    results = []
    for threads in THREADS:
        session = open_session(
            forced_engine, problem, dtype, batch_size=X.shape[0], threads=threads
        )
        with closing(session):
            losses = run_epochs(
                session, problem, dtype, solver=solver, n_epochs=3, batch_size=case["batch_size"],
                learning_rate=1e-3,
            )  # fmt: skip
            scores = np.full((X.shape[0], problem.sizes[-1]), np.nan, dtype)
            session.predict_into(X, scores)
            gradient = np.full(len(params), np.nan, dtype)
            value = session.loss_and_gradient(
                params, X, targets, weight, alpha=0.1, gradient=gradient
            )
            results.append([
                losses, read_params(session, problem, dtype),
                read_slots(session, problem, dtype, solver), scores, gradient, np.array(value),
            ])  # fmt: skip
    assert np.isfinite(results[0][1]).all()
    for other in results[1:]:
        for left, right in zip(results[0], other, strict=True):
            assert left.tobytes() == right.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_number_of_threads_may_change_in_mid_fit(forced_engine, dtype):
    problem = draw_problem_once((64, 100, 10), loss="log_loss", n_samples=500)
    X, targets, _, _ = problem.in_dtype(dtype)
    results = []
    for plan in ([1, 1, 1, 1, 1], [1, 2, 1, 7, 3], [3, 1, 2, 2, 7]):
        session = open_session(forced_engine, problem, dtype, batch_size=200, threads=7)
        with closing(session):
            session.set_optimizer(OPTIMIZERS["adam"], HYPERPARAMETERS["adam"])
            order, shuffle, losses = np.arange(500), np.random.RandomState(0), np.zeros(5)
            for epoch, threads in enumerate(plan):
                session.force_threads(threads)
                session.train(
                    X, targets, None, order, shuffle=shuffle, batch_size=200, alpha=0.01,
                    learning_rate=0.01, n_epochs=1, losses=losses[epoch : epoch + 1],
                )  # fmt: skip
            results.append(read_params(session, problem, dtype).tobytes() + losses.tobytes())
    assert results[0] == results[1] == results[2]


# --- prediction -----------------------------------------------------------------------------------

PREDICT_SHAPES = [
    (1, 1, 1), (5, 7, 1), (64, 100, 10), (20, 33, 17, 3), (8, 8, 8), (16, 16, 16), (3, 48, 2),
    (40, 1), (33, 5), (1100, 9, 2), (6, 1, 4),
]  # fmt: skip


def split_params(params, sizes):
    """Return (coefs, intercepts): views of the flat vector."""
    coefs, intercepts = zip(*reference.split(params, sizes), strict=True)
    return list(coefs), list(intercepts)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("density", [None, 0.2], ids=["dense", "sparse"])
@pytest.mark.parametrize("sizes", PREDICT_SHAPES, ids=str)
def test_prediction_of_a_row_ignores_its_neighbours(forced_compiled_engine, sizes, density, dtype):
    """The reference's values; and the same bits alone, in blocks, shuffled, flat or packed."""
    problem = draw_problem_once(sizes, n_samples=70, density=density, activation="tanh")
    X, _, _, params = problem.in_dtype(dtype)
    coefs, intercepts = split_params(params, sizes)
    rows = [ACTIVATIONS[name] for name in problem.activations]
    with closing(open_session(forced_compiled_engine, problem, dtype)) as session:

        def predict_packed(X):
            scores = np.full((X.shape[0], sizes[-1]), np.nan, dtype)
            session.predict_into(X, scores)
            return scores

        def predict_flat(X, n_threads=1):
            scores = np.full((X.shape[0], sizes[-1]), np.nan, dtype)
            forced_compiled_engine.predict_into(
                coefs, intercepts, rows, X, scores, n_threads=n_threads
            )
            return scores

        whole = predict_packed(X)
        expected = reference.predict(params, sizes, problem.activations, X)
        tolerance = 1e-12 if dtype == np.float64 else 1e-4
        np.testing.assert_allclose(whole, expected, rtol=0, atol=tolerance)
        shuffled = np.random.default_rng(0).permutation(70)
        for predict in (predict_packed, predict_flat):
            np.testing.assert_array_equal(predict(X), whole)
            np.testing.assert_array_equal(predict(X[shuffled]), whole[shuffled])
            for block in (1, 2, 5, 13, 14, 15, 16, 17, 33):
                blocks = [predict(X[start : start + block]) for start in range(0, 70, block)]
                np.testing.assert_array_equal(np.vstack(blocks), whole)
        for n_threads in THREADS:
            np.testing.assert_array_equal(predict_flat(X, n_threads), whole)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("density", [None, 1.0], ids=["dense", "sparse"])
@pytest.mark.parametrize("n_outputs", [3, 17])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_nan_passes_every_activation(forced_engine, name, n_outputs, density, dtype):
    """A unit that takes NaN for 0 would hide a weight that diverged."""
    sizes = (5, 9, 4, n_outputs)
    problem = draw_problem_once(sizes, n_samples=40, density=density)
    X, _, _, params = problem.in_dtype(dtype)
    X[3, 2] = np.nan
    coefs, intercepts = split_params(params, sizes)
    scores = np.zeros((40, n_outputs), dtype)
    rows = [ACTIVATIONS[name]] * 2
    assert not forced_engine.predict_into(coefs, intercepts, rows, X, scores)
    assert forced_engine.predict_into(coefs, intercepts, rows, X[:3], scores[:3].copy())
    np.testing.assert_array_equal(np.isnan(scores).any(axis=1), np.arange(40) == 3)
    assert np.isnan(scores[3]).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_predictions_on_any_number_of_threads(engine, dtype):
    problem = draw_problem_once((20, 33, 3), n_samples=9001)
    X, _, _, params = problem.in_dtype(dtype)
    coefs, intercepts = split_params(params, problem.sizes)
    expected = None
    for n_threads in THREADS:
        scores = np.full((9001, 3), np.nan, dtype)
        engine.predict_into(
            coefs, intercepts, [ACTIVATIONS["relu"]], X, scores, n_threads=n_threads
        )
        expected = scores if expected is None else expected
        np.testing.assert_array_equal(scores, expected)


def test_prediction_of_no_rows(engine):
    problem = draw_problem_once((5, 9, 2))
    coefs, intercepts = split_params(problem.params, problem.sizes)
    scores = np.empty((0, 2))
    assert engine.predict_into(coefs, intercepts, [ACTIVATIONS["relu"]], np.empty((0, 5)), scores)
    assert scores.shape == (0, 2)


@pytest.mark.parametrize("dtype", DTYPES)
def test_prediction_writes_nothing_beside_its_output(forced_engine, dtype):
    """Odd widths tempt a kernel to store whole vectors."""
    problem = draw_problem_once((5, 9, 3))
    X, _, _, params = problem.in_dtype(dtype)
    coefs, intercepts = split_params(params, problem.sizes)
    for n_rows in (1, 2, 15, 16, 17):
        guarded = np.full((n_rows + 40, 3), 7.0, dtype)
        forced_engine.predict_into(
            coefs, intercepts, [ACTIVATIONS["relu"]], X[:n_rows], guarded[20 : 20 + n_rows]
        )
        assert (guarded[:20] == 7).all()
        assert (guarded[20 + n_rows :] == 7).all()


# --- output transforms and finiteness -------------------------------------------------------------

TRANSFORMS = {
    "identity": lambda s: s,
    "logistic": special.expit,
    "softmax": lambda s: special.softmax(s, axis=1),
    "exp": np.exp,
    "log_logistic": special.log_expit,
    "cumulative_softplus": reference.levels_of,
    "log_softmax": lambda s: special.log_softmax(s, axis=1),
}


def transform(engine, name, scores):
    """Return transformed scores as a new array."""
    out = np.ascontiguousarray(scores).copy()
    engine.transform_into(name, out)
    return out


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_outputs", [1, 2, 3, 7, 8, 9, 15, 16, 17, 33, 100])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms(forced_engine, name, n_outputs, dtype):
    rng = np.random.default_rng(0)
    scores = rng.uniform(-20, 20, (41, n_outputs)).astype(dtype)
    whole = transform(forced_engine, name, scores)
    eps = np.finfo(dtype).eps
    expected = TRANSFORMS[name](scores.astype(np.longdouble)) if name != "log_logistic" else (
        -np.logaddexp(0, -scores.astype(np.longdouble))
    )  # fmt: skip
    np.testing.assert_allclose(
        whole,
        expected.astype(np.float64),
        rtol=8 * eps,
        atol={"soft": 4, "cumu": 40 * n_outputs}.get(name.lstrip("log_")[:4], 0) * eps,
    )
    order = rng.permutation(41)
    np.testing.assert_array_equal(transform(forced_engine, name, scores[order]), whole[order])
    alone = [transform(forced_engine, name, scores[[row]]) for row in range(41)]
    np.testing.assert_array_equal(np.vstack(alone), whole)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_outputs", [1, 2, 3, 7, 10, 16, 17, 100, 1000])
def test_probabilities_sum_to_one(forced_engine, n_outputs, dtype):
    rng = np.random.default_rng(0)
    for scale in (0.0, 1.0, 10.0, 1e4):
        scores = (scale * rng.standard_normal((200, n_outputs))).astype(dtype)
        sums = [math.fsum(row) for row in transform(forced_engine, "softmax", scores)]
        assert np.abs(np.array(sums) - 1).max() <= np.finfo(dtype).eps


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [name for name in TRANSFORMS if name != "exp"])
@pytest.mark.parametrize("n_outputs", [1, 2, 3, 17])
def test_transforms_of_extreme_scores(forced_engine, name, n_outputs, dtype):
    rng = np.random.default_rng(0)
    scores = (1e4 * rng.choice([-1.0, 0.0, 1.0], (60, n_outputs))).astype(dtype)
    out = transform(forced_engine, name, scores)
    assert np.isfinite(out).all()
    if name.startswith("log_"):
        assert (out <= 0).all()
    elif name == "cumulative_softplus":
        assert (np.diff(out, axis=1) >= 0).all()
    elif name != "identity":
        assert ((out >= 0) & (out <= 1)).all()
    exact = TRANSFORMS[name](scores.astype(np.float64))
    eps = np.finfo(dtype).eps
    atol = 1e4 * n_outputs * eps if name == "cumulative_softplus" else 1e-30
    np.testing.assert_allclose(out, exact, rtol=8 * eps, atol=atol)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_number_is_found_anywhere(forced_engine, bad, dtype):
    for size in (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 257):
        X = np.full((1, size), np.finfo(dtype).max, dtype)
        X[0, ::2] = -np.finfo(dtype).max
        assert forced_engine.all_finite(X)
        for position in range(size):
            before, X[0, position] = X[0, position], bad
            assert not forced_engine.all_finite(X), (size, position)
            X[0, position] = before


@pytest.mark.parametrize("dtype", DTYPES)
def test_finiteness_of_other_shapes(engine, dtype):
    assert engine.all_finite(np.empty((0, 3), dtype))
    assert engine.all_finite(np.zeros((50, 3), dtype))
    X = np.zeros((50, 3), dtype)
    X[49, 2] = np.nan
    assert not engine.all_finite(X)


# --- accuracy of the C functions ------------------------------------------------------------------


def distance_in_ulp(got, exact):
    """Return |got - exact| in units of the last place of the exact value."""
    return np.abs(got.astype(np.longdouble) - exact) / np.spacing(np.abs(exact).astype(got.dtype))


# Largest errors in units of the last place; gelu's is that of its tail's polynomial near 0.
MOST_ULP = {"logistic": 3, "tanh": 3, "elu": 2, "selu": 3, "silu": 3, "mish": 5, "softplus": 4,
            "gelu": 7}  # fmt: skip


def tanh_logistic_and_exp(x):
    """Return exact values in extended precision."""
    x = x.astype(np.longdouble)
    return {"tanh": np.tanh(x), "logistic": 1 / (1 + np.exp(-x)), "exp": np.exp(x)}


def exact_activation(name, x):
    """Return values in extended precision (gelu's within a unit of double precision)."""
    x = x.astype(np.longdouble)
    softplus = np.maximum(x, 0) + np.log1p(np.exp(-abs(x)))
    if name == "gelu":  # erfc at the rounded argument, and along its slope to the exact one
        exact = -x / np.sqrt(np.longdouble(2))
        near = exact.astype(np.float64)
        slope = -2 / np.sqrt(np.longdouble(np.pi)) * np.exp(-(near.astype(np.longdouble) ** 2))
        return x * (np.vectorize(math.erfc)(near) + slope * (exact - near)) / 2
    return {
        "elu": np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
        "selu": np.longdouble("1.0507009873554804934193")
        * np.where(x > 0, x, np.longdouble("1.6732632423543772848") * np.expm1(np.minimum(x, 0))),
        "silu": x / (1 + np.exp(-x)),
        "mish": x * np.tanh(softplus),
        "softplus": softplus,
    }[name]


@pytest.mark.skipif(
    np.finfo(np.longdouble).eps > 1e-18, reason="long double is no wider than double here"
)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", MOST_ULP)
def test_hidden_activations_are_accurate(forced_engine, name, dtype):
    """A 1-1-1 network of unit weights and zero biases returns the bare function."""
    bound = 80.0 if dtype == np.float32 else 600.0
    if name == "gelu":
        bound = 12.0 if dtype == np.float32 else 36.0
    x = np.concatenate([
        np.linspace(-10, 10, 20001), np.linspace(-bound, bound, 2001), np.geomspace(1e-30, 1, 2001),
        -np.geomspace(1e-30, 1, 2001),
    ]).astype(dtype)[:, None]  # fmt: skip
    one, zero = np.ones((1, 1), dtype), np.zeros(1, dtype)
    out = np.full((len(x), 1), np.nan, dtype)
    forced_engine.predict_into([one, one], [zero, zero], [ACTIVATIONS[name]], x, out)
    exact = tanh_logistic_and_exp(x).get(name)
    exact = exact_activation(name, x) if exact is None else exact
    most = MOST_ULP[name]
    if forced_engine.NAME == "numba" and name == "gelu":
        most = np.inf  # by the C library, at an argument rounded to the dtype
    assert distance_in_ulp(out, exact).max() <= most


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_training_and_prediction_activate_alike(forced_engine, name, dtype):
    """Values that come with slopes, for a backward pass, are those that come alone."""
    z = np.concatenate([np.linspace(-40, 40, 4001), [0.0, -90.0, 90.0]]).astype(dtype)
    trained, slopes, predicted = z.copy(), np.empty_like(z), np.empty((z.size, 1), dtype)
    forced_engine.activate_into(ACTIVATIONS[name], trained, slopes)
    one, zero = np.ones((1, 1), dtype), np.zeros(1, dtype)
    forced_engine.predict_into([one, one], [zero, zero], [ACTIVATIONS[name]], z[:, None], predicted)
    np.testing.assert_array_equal(trained, predicted[:, 0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_slopes_are_accurate(forced_engine, name, dtype):
    """Beside the largest slope."""
    z = np.concatenate([np.linspace(-40, 40, 4001), np.geomspace(1e-20, 1, 101)]).astype(dtype)
    a, slopes = z.copy(), z.copy()
    forced_engine.activate_into(ACTIVATIONS[name], a, slopes)
    _, slope = reference.find_activation(name)
    np.testing.assert_allclose(
        slopes, slope(z.astype(np.float64)), rtol=0, atol=16 * np.finfo(dtype).eps
    )


@pytest.mark.skipif(
    np.finfo(np.longdouble).eps > 1e-18, reason="long double is no wider than double here"
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_exponential_is_accurate(forced_engine, dtype):
    lowest, highest = (-86.5, 88.7) if dtype == np.float32 else (-708.0, 709.7)
    x = np.linspace(lowest, highest, 40001).astype(dtype)[:, None]
    out = transform(forced_engine, "exp", x)
    assert distance_in_ulp(out, tanh_logistic_and_exp(x)["exp"]).max() <= 2
    # Below it goes to 0 without leaving the range of the true values.
    x = np.linspace(2 * lowest, lowest, 1001).astype(dtype)[:, None]
    out, exact = transform(forced_engine, "exp", x), tanh_logistic_and_exp(x)["exp"]
    assert ((out >= 0) & (out <= exact.max() * (1 + 4 * np.finfo(dtype).eps))).all()
    assert (transform(forced_engine, "exp", -x[:500]) == np.inf).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_saturate(forced_engine, name, dtype):
    """Far out, and where the product overflows, the C loop gives the function's limits."""
    huge = 1e30 if dtype == np.float32 else 1e200
    x = np.array([-huge, -1e4 / huge, -1 / huge, 0.0, 1 / huge, 1e4 / huge, huge], dtype)[:, None]
    one, zero = np.ones((1, 1), dtype), np.zeros(1, dtype)
    out = np.full((len(x), 1), np.nan, dtype)
    weights = [one * dtype(huge), one]
    forced_engine.predict_into(weights, [zero, zero], [ACTIVATIONS[name]], x, out)
    value, _ = reference.find_activation(name)
    with np.errstate(over="ignore"):
        expected = value((x * dtype(huge)).astype(np.float64))
    np.testing.assert_allclose(out, expected, rtol=4 * np.finfo(dtype).eps, atol=1e-30)


# --- manners of a session -------------------------------------------------------------------------


def test_closing_twice_is_harmless(engine):
    session = open_session(engine, draw_problem((5, 9, 2)), threads=3)
    session.close()
    session.close()


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="lists threads in /proc")
def test_workers_end_with_the_session(compiled_engine):
    before = set(os.listdir("/proc/self/task"))
    problem = draw_problem_once((64, 100, 10), n_samples=500)
    with closing(open_session(compiled_engine, problem, batch_size=200, threads=3)) as session:
        run_epochs(session, problem, n_epochs=2, batch_size=200)
        assert len(set(os.listdir("/proc/self/task")) - before) == 2
    assert set(os.listdir("/proc/self/task")) <= before


def test_the_gil_is_released(engine):
    """Another Python thread runs during training though nobody asks for the lock back."""
    problem = draw_problem_once((64, 100, 10), n_samples=500)
    ticks, stop = [0], threading.Event()

    def tick():
        while not stop.is_set():
            ticks[0] += 1
            stop.wait(0.0005)

    interval = sys.getswitchinterval()
    thread = threading.Thread(target=tick)
    with closing(open_session(engine, problem, batch_size=20)) as session:
        sys.setswitchinterval(1000)
        try:
            thread.start()
            before = ticks[0]
            run_epochs(session, problem, n_epochs=100, batch_size=20)
            during = ticks[0] - before
        finally:
            stop.set()
            sys.setswitchinterval(interval)
            thread.join()
    assert during > 2


def count_events(function):
    """Return how many Python-level calls a function makes."""
    count = 0

    def profile(frame, event, argument):
        nonlocal count
        count += 1

    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("density", [None, 0.3], ids=["dense", "sparse"])
def test_no_python_work_per_minibatch(compiled_engine, density):
    problem = draw_problem_once((5, 9, 2), n_samples=400, density=density)
    counts = []
    for batch_size in (1, 400):
        with closing(open_session(compiled_engine, problem, batch_size=batch_size)) as session:
            run = functools.partial(
                run_epochs, session, problem, n_epochs=2, batch_size=batch_size, learning_rate=1e-4
            )
            counts.append(count_events(run))
    assert counts[0] == counts[1]


def test_nothing_is_allocated_per_epoch(compiled_engine):
    """What Python and NumPy hand out does not grow with the number of epochs."""
    problem = draw_problem_once((64, 100, 10), n_samples=500)
    peaks = []
    for n_epochs in (2, 40):
        with closing(open_session(compiled_engine, problem, batch_size=50)) as session:
            run_epochs(session, problem, n_epochs=2, batch_size=50)
            tracemalloc.start()
            try:
                run_epochs(session, problem, n_epochs=n_epochs, batch_size=50, learning_rate=1e-4)
                peaks.append(tracemalloc.get_traced_memory()[1] - 8 * n_epochs)
            finally:
                tracemalloc.stop()
    assert peaks[1] - peaks[0] < 2000


def test_interrupt_leaves_a_usable_session(engine):
    problem = draw_problem_once((5, 9, 2))
    with closing(open_session(engine, problem)) as session:
        run_epochs(session, problem)  # the Numba engine compiles
        timer = threading.Timer(1.0, signal.raise_signal, (signal.SIGINT,))
        timer.start()
        try:
            with pytest.raises(KeyboardInterrupt):
                run_epochs(session, problem, n_epochs=5_000_000, learning_rate=1e-6)
        finally:
            timer.cancel()
            timer.join()
        assert 0 < session.epochs_done < 5_000_000
        assert session.t in range(4 * session.epochs_done, 4 * session.epochs_done + 5)
        assert session.n_seen == problem.X.shape[0]
        assert np.isfinite(read_params(session, problem, np.float64)).all()
        run_epochs(session, problem, n_epochs=2)


# --- instruction sets -----------------------------------------------------------------------------


def test_instruction_sets_are_named_and_forced(engine):
    names, before = engine.supported_instruction_sets(), engine.instruction_set()
    assert before in names
    assert len(set(names)) == len(names)
    try:
        for name in names:
            engine.set_instruction_set(name)
            assert engine.instruction_set() == name
        with pytest.raises(ValueError, match="instruction set"):
            engine.set_instruction_set("mmx")
        assert engine.instruction_set() == names[-1]
    finally:
        engine.set_instruction_set(before)


def test_engine_has_a_name(engine):
    from fastbp.engine import get_engine

    assert get_engine(engine.NAME) is engine
    assert ENGINES[0] == get_engine("auto").NAME
    with pytest.raises(ValueError, match="engine"):
        get_engine("abacus")


# --- validation and time limits -------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("loss", LOSSES)
def test_mean_loss_equals_reference(forced_engine, loss, weighted, dtype):
    """Of more rows than a block holds; the scores stay as they are."""
    sizes = (5, 4, N_OUTPUTS[loss])
    problem = draw_problem_once(sizes, loss=loss, n_samples=1100, weighted=weighted)
    X, targets, weight, params = problem.in_dtype(dtype)
    expected, _ = reference.loss_and_gradient(
        params, sizes, problem.activations, loss, X, targets, weight
    )
    with closing(open_session(forced_engine, problem, dtype, batch_size=1024)) as session:
        scores = np.empty((1100, sizes[-1]), dtype)
        session.predict_into(X, scores)
        before = scores.copy()
        got = session.mean_loss(scores, targets, weight)
        tolerance = FLOAT32_LOSS_TOLERANCE if dtype == np.float32 else FLOAT64_TOLERANCE
        assert got == pytest.approx(expected, rel=tolerance)
        np.testing.assert_array_equal(scores, before)
        assert session.mean_loss(scores, targets, weight) == got


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 1500])
def test_time_limit_ends_after_a_whole_step(engine, batch_size, threads):
    """Weights, counts and loss are those of a run over exactly the rows that it came to."""
    n = 40_000
    problem = draw_problem_once((5, 9, 2), n_samples=n)
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
        train(session, order, n_epochs=2, time_limit=1e6)
        assert (session.epochs_done, session.out_of_time, session.n_seen) == (2, False, n)


# --- misuse: what would be read or written beyond an array ----------------------------------------


def test_verbs_refuse_what_they_would_misread(engine):
    """Arrays that do not fit together, of another dtype, or that must not be written to."""
    dtype = np.float32
    coefs = [np.ones((4, 3), dtype), np.ones((3, 2), dtype)]
    intercepts, tanh = [np.zeros(3, dtype), np.zeros(2, dtype)], [ACTIVATIONS["tanh"]]
    X, out = np.ones((5, 4), dtype), np.empty((5, 2), dtype)
    engine.predict_into(coefs, intercepts, tanh, X, out)
    locked = out.copy()
    locked.flags.writeable = False
    for change in (
        dict(coefs=[*coefs, np.ones((2, 2), dtype)]), dict(intercepts=intercepts[:1]),
        dict(coefs=[]), dict(coefs=[coefs[0], coefs[1].T]), dict(coefs=[coefs[0].T, coefs[1]]),
        dict(coefs=[coefs[0], coefs[1].astype(np.float64)]), dict(coefs=[coefs[0], [[1.0, 2.0]]]),
        dict(coefs=[coefs[0], np.asfortranarray(coefs[1])]), dict(activations=[]),
        dict(coefs=[coefs[0], np.ones((2, 2), dtype)]),
        dict(coefs=[W.astype(np.int32) for W in coefs]), dict(intercepts=[intercepts[0], None]),
        dict(coefs=[coefs[0], coefs[1][:, :0]], intercepts=[intercepts[0], intercepts[1][:0]]),
        dict(activations=3 * tanh), dict(X=X[:, :3]), dict(X=X[:-1]), dict(X=X.astype(np.float64)),
        dict(out=out[:, :1]), dict(out=locked), dict(out=out.astype(np.float64)),
        dict(X=csr_of_strided_parts(X)),
    ):  # fmt: skip
        usual = dict(coefs=coefs, intercepts=intercepts, activations=tanh, X=X, out=out)
        with pytest.raises(ValueError, match=r"expected|network|rows|read-only"):
            engine.predict_into(**(usual | change))
    for scores in (np.ones((2, 2), np.float16), np.ones((2, 2), np.int32), locked):
        with pytest.raises(ValueError, match=r"expected|read-only"):
            engine.transform_into("softmax", scores)


def csr_of_strided_parts(X):
    """Return X as CSR whose indices have others between them."""
    X = sparse.csr_array(X)
    X.indices = np.repeat(X.indices, 2)[::2]
    return X


def test_sessions_refuse_what_they_would_misread(engine):
    X, y = np.ones((5, 4), np.float32), np.ones((5, 2), np.float32)
    params = np.ones(4 * 2 + 2, np.float32)
    locked = params.copy()
    locked.flags.writeable = False
    session = engine.Session(
        (4, 2), [], LOSSES["squared_error"], dtype=np.float32, params=params, batch_size=5
    )
    with closing(session):
        session.set_optimizer(OPTIMIZERS["sgd"], HYPERPARAMETERS["sgd"])
        train = functools.partial(
            session.train, X, sample_weight=None, order=None, shuffle=None, batch_size=5, alpha=0.0,
            learning_rate=0.1, n_epochs=1, losses=np.empty(1),
        )  # fmt: skip
        train(targets=y)
        for call in (
            lambda: train(targets=None),
            lambda: session.mean_loss(y, None, None),
            lambda: session.mean_loss([[1.0, 2.0]], y[:1], None),
            lambda: session.loss_and_gradient(params, X, None, None, alpha=0.0, gradient=params),
            lambda: session.loss_and_gradient(params, X, y, None, alpha=0.0, gradient=locked),
            lambda: session.params_into(locked),
        ):
            with pytest.raises(ValueError, match=r"expected|read-only"):
                call()


def list_signatures(protocol):
    """Yield name and parameters (self left out) of what a protocol documents."""
    for name, verb in vars(protocol).items():
        if inspect.isfunction(verb) and verb.__doc__ and name != "__init__":
            yield name, list(inspect.signature(verb).parameters.values())[1:]


def test_engines_keep_the_contract(engine):
    for name, parameters in list_signatures(contract.Engine):
        assert list(inspect.signature(getattr(engine, name)).parameters.values()) == parameters
    for name, parameters in list_signatures(contract.Session):
        got = inspect.signature(getattr(engine.Session, name)).parameters.values()
        assert list(got)[1:] == parameters, name


@pytest.fixture
def sparse_call(engine):
    """A session over CSR, and its `train` with all arguments but X and order."""
    params, y = np.ones(4 * 2 + 2, np.float32), np.ones((5, 2), np.float32)
    session = engine.Session(
        (4, 2), [], LOSSES["squared_error"], dtype=np.float32, params=params, batch_size=5,
        sparse=True,
    )  # fmt: skip
    session.set_optimizer(OPTIMIZERS["sgd"], HYPERPARAMETERS["sgd"])
    with closing(session):
        yield functools.partial(
            session.train, targets=y, sample_weight=None, shuffle=None, batch_size=5, alpha=0.0,
            learning_rate=0.1, n_epochs=1, losses=np.empty(1),
        )  # fmt: skip


def csr_with(**parts):
    """Return CSR with 5 rows of 4 ones, with parts that scipy would refuse."""
    X = sparse.csr_array(np.ones((5, 4), np.float32))
    for name, part in parts.items():
        setattr(X, name, part(getattr(X, name)))
    return X


@pytest.mark.parametrize(
    "parts",
    [
        {"indptr": lambda at: at[:-1]},
        {"indptr": lambda at: at + 1},
        {"data": lambda x: x[:-1]},
        {"indices": lambda k: k[:-1]},
        {"indices": lambda k: k.astype(np.int64)},
        {"indices": lambda k: k.astype(np.int16), "indptr": lambda at: at.astype(np.int16)},
        {"indices": lambda k: k.astype(np.uint32), "indptr": lambda at: at.astype(np.uint32)},
        {"data": lambda x: x.astype(np.float64)},
    ],
    ids=lambda parts: ", ".join(parts),
)
def test_malformed_csr_is_refused(engine, sparse_call, parts):
    sparse_call(csr_with(), order=None)
    with pytest.raises(ValueError, match="expected a CSR matrix"):
        sparse_call(csr_with(**parts), order=None)
    coefs, intercepts = [np.ones((4, 2), np.float32)], [np.ones(2, np.float32)]
    with pytest.raises(ValueError, match="expected a CSR matrix"):
        engine.predict_into(coefs, intercepts, [], csr_with(**parts), np.empty((5, 2), np.float32))


@pytest.mark.parametrize(
    "X", [np.ones((5, 4), np.float32), sparse.csc_array(np.ones((4, 4), np.float32))], ids=type
)
def test_a_sparse_session_takes_nothing_else(sparse_call, X):
    with pytest.raises(ValueError, match="expected a CSR matrix"):
        sparse_call(X, order=None)


@pytest.mark.parametrize(
    "order",
    [
        np.zeros((5, 1), np.int64), np.zeros(5, np.int32), np.zeros(10, np.int64)[::2],
        np.zeros(0, np.int64), np.array([0, 5]), np.array([-1, 0]),
    ],
    ids=["matrix", "int32", "strided", "empty", "beyond", "negative"],
)  # fmt: skip
def test_bad_orders_are_refused(sparse_call, order):
    with pytest.raises(ValueError, match="order"):
        sparse_call(csr_with(), order=order)


@pytest.mark.parametrize(
    "losses",
    [np.empty(0), np.empty(3, np.float32), np.empty(6)[::2], [0.0, 0.0]],
    ids=["short", "float32", "strided", "list"],
)
def test_bad_places_for_losses_are_refused(sparse_call, losses):
    with pytest.raises(ValueError, match="losses"):
        sparse_call(csr_with(), order=None, losses=losses)


def test_limits_of_optimizers(engine):
    """More hyper-parameters or slots than there is room for would be written beside it."""
    problem = draw_problem((5, 7, 3))
    size, row = len(problem.params), OPTIMIZERS["adam"]
    many = tuple("abcdefg")
    with closing(open_session(engine, problem)) as session:
        for refused, match in (
            (dict(optimizer=SimpleNamespace(hyperparameters=many, n_slots=2)), "at most 6"),
            (dict(optimizer=SimpleNamespace(hyperparameters=(), n_slots=3)), "at most 2"),
            (dict(slots=np.zeros((1, size))), "slots"),
            (dict(slots=np.zeros((3, size))), "slots"),
            (dict(slots=np.zeros((2, size - 1))), "parameters"),
            (dict(slots=np.zeros((2, size), np.float32)), "parameters"),
            (dict(average=np.zeros(size - 1), ema_decay=0.5), "parameters"),
        ):
            usual = dict(optimizer=row, hyperparameters=dict.fromkeys(many, 0.5))
            usual["hyperparameters"] |= HYPERPARAMETERS["adam"]
            with pytest.raises(ValueError, match=match):
                session.set_optimizer(**(usual | refused))
        session.set_optimizer(row, HYPERPARAMETERS["adam"])
        for n_slots in (1, 3):
            with pytest.raises(ValueError, match="slots"):
                session.slots_into(np.zeros((n_slots, size)))
        for rates in ((0.1, 0.1), (1.0,), (-0.1,)):
            with pytest.raises(ValueError, match="dropout"):
                session.set_dropout(rates, 0)


def test_threads_take_turns_with_a_session(engine):
    """What a second thread reads meanwhile are the results of the whole call."""
    problem = draw_problem((5, 7, 3))
    X, targets, weight, _ = problem.in_dtype(np.float64)
    begun = threading.Event()

    class Rule:
        """A stopping rule that says when it is first read: the session's lock is held then."""

        n_iter_no_change, best_loss, no_improvement_count = math.inf, math.inf, 0

        @property
        def tol(self):
            begun.set()
            return 0.0

    with closing(open_session(engine, problem)) as session:
        session.set_optimizer(OPTIMIZERS["adam"], HYPERPARAMETERS["adam"])

        def train():
            session.train(
                X, targets, weight, None, shuffle=None, batch_size=1, alpha=0.0,
                learning_rate=1e-3, n_epochs=10**5, losses=np.empty(10**5), stopping=Rule(),
                time_limit=0.3,
            )  # fmt: skip

        trainer = threading.Thread(target=train)
        trainer.start()
        assert begun.wait(60)
        read = [np.full(len(problem.params), np.nan) for _ in range(2)]
        session.params_into(read[0])
        done = session.epochs_done
        session.average_into(read[1])
        slots = read_slots(session, problem, np.float64, "adam")
        trainer.join()
        assert done == session.epochs_done > 0
        for params in read:
            np.testing.assert_array_equal(params, read_params(session, problem, np.float64))
        np.testing.assert_array_equal(slots, read_slots(session, problem, np.float64, "adam"))


@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu"])
def test_a_rate_below_any_draw_leaves_nothing_out(engine, activation):
    """32 bits are drawn for a unit; with tanh the next layer once read a copy nobody wrote."""
    problem, found = draw_problem((5, 7, 3), activation=activation), []
    for rate in (0.0, 1e-12):
        with closing(open_session(engine, problem)) as session:
            session.set_dropout([rate], 0)
            found.append(run_epochs(session, problem, n_epochs=3))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-9)
