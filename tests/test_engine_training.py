"""Whole trainings of every engine against the reference, on each instruction set."""

import itertools
from contextlib import closing

import numpy as np
import pytest
import reference
from covering import naming
from problems import HYPERPARAMETERS, draw_problem
from reference import FLOAT32_LOSS_TOLERANCE, FLOAT64_TOLERANCE
from sessions import (
    BASIC,
    DTYPES,
    N_OUTPUTS,
    SHAPES,
    SOLVERS,
    check_against_reference,
    draw_orders,
    draw_problem_once,
    open_session,
    read_params,
    read_slots,
    run_epochs,
)

from fastbp.activations import ACTIVATIONS
from fastbp.losses import LOSSES
from fastbp.optimizers import OPTIMIZERS

# Every activation with every loss in both dtypes; solver, density of X and weights take turns.
WAYS = list(itertools.product(BASIC, [None, 0.3], [False, True]))
TRAININGS = [
    (*pair, *WAYS[(number + 3 * shift) % len(WAYS)], dtype)
    for number, pair in enumerate(itertools.product(ACTIVATIONS, LOSSES))
    for shift, dtype in enumerate(DTYPES)
]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_training_equals_reference(engine, activation):
    """With every loss."""
    for name, loss, solver, density, weighted, dtype in TRAININGS:
        if name == activation:
            with naming(loss, solver, density, weighted, dtype):
                check_against_reference(
                    engine, (5, 9, 4, N_OUTPUTS[loss]), dtype, solver=solver, activation=name,
                    loss=loss, density=density, weighted=weighted, n_samples=61, n_epochs=4,
                )  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("solver", BASIC)
def test_odd_shapes_equal_reference(forced_engine, solver, dtype):
    for sizes in SHAPES:
        with naming(sizes):
            check_against_reference(
                forced_engine, sizes, dtype, solver=solver, n_epochs=3, n_samples=37
            )


@pytest.mark.parametrize("dtype", DTYPES)
def test_sparse_shapes_equal_reference(forced_engine, dtype):
    shapes = [(1, 3, 1), (40, 17, 2), (300, 8, 3), (33, 2)]
    for sizes, density in itertools.product(shapes, [0.0, 0.2, 1.0]):
        with naming(sizes, density):
            check_against_reference(
                forced_engine, sizes, dtype, solver="adam", n_epochs=3, n_samples=37,
                density=density,
            )  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", ["log_loss", "binary_log_loss", "poisson"])
def test_widths_of_output_equal_reference(forced_engine, loss, dtype):
    for n_outputs in (1, 2, 3, 7, 8, 9, 16, 17, 33):
        with naming(n_outputs):
            check_against_reference(
                forced_engine, (4, 6, n_outputs), dtype, solver="sgd", n_epochs=3, n_samples=37,
                loss=loss,
            )  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
def test_batch_sizes_equal_reference(forced_engine, dtype):
    for batch_size in (1, 2, 13, 14, 15, 16, 17, 31, 200, 1024, 1025, 2100):
        n_samples = max(41, 2 * batch_size + 3)  # a last minibatch of three rows
        with naming(batch_size):
            check_against_reference(
                forced_engine, (6, 9, 2), dtype, solver="adam", n_epochs=2, batch_size=batch_size,
                n_samples=n_samples, activation="tanh",
            )  # fmt: skip


# Enough work for two threads, and activations that outweigh the weights: the gradients are sums of
# two chunks, which do not end with a whole vector; the last minibatch has 1, 17 or 40 rows.
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", [(64, 100, 3), (64, 60, 60, 20)], ids=str)
def test_chunks_of_minibatches_equal_reference(forced_compiled_engine, sizes, dtype):
    for last, threads in itertools.product([1, 17, 40], [1, 2, 3]):
        with naming(f"{last} rows", f"{threads} threads"):
            check_against_reference(
                forced_compiled_engine, sizes, dtype, solver="adam", n_epochs=2, batch_size=202,
                n_samples=2 * 202 + last, loss="log_loss", weighted=True, threads=threads,
            )  # fmt: skip


# A first layer with more weights than a minibatch has activations around it: threads divide its
# forward product by columns, of which each has more than one panel.
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", [(90, 170, 3), (200, 100, 20, 1)], ids=str)
def test_columns_of_the_first_layer_equal_reference(forced_compiled_engine, sizes, dtype):
    for threads in (1, 2, 3):
        with naming(f"{threads} threads"):
            check_against_reference(
                forced_compiled_engine, sizes, dtype, solver="adam", n_epochs=2, batch_size=16,
                n_samples=37, activation="tanh", threads=threads,
            )  # fmt: skip


def test_few_samples_equal_reference(forced_engine):
    for n_samples, loss in itertools.product([1, 2, 15, 16], ["squared_error", "log_loss"]):
        with naming(n_samples, loss):
            check_against_reference(
                forced_engine, (4, 5, 3), np.float64, solver="adam", n_epochs=4,
                batch_size=n_samples, n_samples=n_samples, loss=loss,
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


def test_hyperparameters_are_used(forced_engine):
    for solver, hyper in HYPERPARAMETER_VARIANTS:
        with naming(solver, hyper):
            check_hyperparameters(forced_engine, solver, hyper)


def check_hyperparameters(engine, solver, hyper):
    """Train both without penalty and compare losses, weights and slots."""
    problem = draw_problem_once((5, 9, 2), activation="tanh")
    params, losses, slots, _ = reference.train(
        problem.params, problem.sizes, problem.activations, problem.loss, problem.X,
        problem.targets, None, draw_orders(60, 10), batch_size=16, alpha=0.0, learning_rate=1e-3,
        optimizer=solver, hyper=hyper,
    )  # fmt: skip
    with closing(open_session(engine, problem)) as session:
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


@pytest.mark.parametrize("dtype", DTYPES)
def test_params_pass_through_unchanged(forced_engine, dtype):
    for sizes in SHAPES:
        problem = draw_problem_once(sizes, n_samples=37)
        with naming(sizes), closing(open_session(forced_engine, problem, dtype)) as session:
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
