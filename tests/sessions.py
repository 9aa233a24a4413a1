"""Sessions of an engine for tests: opened, trained, read, compared with the reference.

And what else the tests of the engines, `test_engine_*.py`, share.
"""

import functools
import sys
from contextlib import closing

import numpy as np
import reference
from problems import HYPERPARAMETERS, LEARNING_RATES, draw_problem
from reference import FLOAT32_LOSS_TOLERANCE, FLOAT64_TOLERANCE
from scipy import sparse

from fastbp.activations import ACTIVATIONS
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


def open_session(
    engine, problem, dtype=np.float64, *, batch_size=16, threads=1, n_members=None,
    matmul_precision="highest",
):  # fmt: skip
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
        n_members=n_members,
        matmul_precision=matmul_precision,
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


# Around the panel sizes (8 and 16 columns), one of everything, no hidden layer, deep.
SHAPES = [
    *[(width, width, width) for width in (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 48, 100)],
    *[(5, width, 1) for width in (1, 7, 8, 16, 17, 33)],
    *[(width, 6, 3) for width in (1, 7, 8, 16, 17, 33)],
    *[(6, 10, width) for width in (1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31)],
    *[(1, 1), (1, 2), (3, 1), (16, 17), (40, 3)],
    *[(4, 5, 6, 7, 8, 9, 1), (3, 17, 1, 17, 2), (64, 100, 10), (9, 32, 32, 1)],
]


def split_params(params, sizes):
    """Return (coefs, intercepts): views of the flat vector."""
    coefs, intercepts = zip(*reference.split(params, sizes), strict=True)
    return list(coefs), list(intercepts)


def transform(engine, name, scores):
    """Return transformed scores as a new array."""
    out = np.ascontiguousarray(scores).copy()
    engine.transform_into(name, out)
    return out


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
