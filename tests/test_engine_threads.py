"""The number of threads never changes a bit of what an engine gives."""

import itertools
import os
from contextlib import closing

import numpy as np
import pytest
from covering import cover_pairs, naming
from engines import ENGINES, PAIRS
from problems import HYPERPARAMETERS
from sessions import (
    BASIC,
    CLASSIC_ACTIVATIONS,
    CLASSIC_LOSSES,
    DTYPES,
    N_OUTPUTS,
    THREADS,
    draw_problem_once,
    open_session,
    read_params,
    read_slots,
    run_epochs,
)

from fastbp.activations import ACTIVATIONS
from fastbp.engine import get_engine
from fastbp.losses import LOSSES
from fastbp.optimizers import OPTIMIZERS

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


THREAD_WAYS = cover_pairs(range(len(THREAD_CASES)), PAIRS, list(itertools.product(BASIC, DTYPES)))


@pytest.mark.parametrize(
    "case", range(len(THREAD_CASES)), ids=lambda at: name_case(THREAD_CASES[at])
)
def test_threads_never_change_a_bit(forced_engine, case):
    """Each case on each instruction set with one solver and dtype, with another on the next."""
    engine_and_set = forced_engine.NAME, forced_engine.instruction_set()
    for at, pair, (solver, dtype) in THREAD_WAYS:
        if (at, pair) == (case, engine_and_set):
            with naming(solver, dtype):
                check_threads(forced_engine, THREAD_CASES[case], solver, dtype)


def check_threads(engine, case, solver, dtype):
    """Losses, weights, state, predictions and gradient have the same bits on 1, 2, 3, 7 threads."""
    options = {key: value for key, value in case.items() if key not in ("sizes", "batch_size")}
    problem = draw_problem_once(case["sizes"], **options)
    X, targets, weight, params = problem.in_dtype(dtype)
    results = []
    for threads in THREADS:
        session = open_session(engine, problem, dtype, batch_size=X.shape[0], threads=threads)
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


@pytest.mark.skipif("cython" not in ENGINES, reason="the engine is not built")
@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="lists threads in /proc")
def test_threads_can_be_limited_between_calls():
    """A search gives a fit the cores that others leave; more than at first it never has."""
    engine = get_engine("cython")
    problem = draw_problem_once((64, 256, 10), loss="log_loss", activation="relu", n_samples=300)
    X, targets, _, _ = problem.in_dtype(np.float32)
    before, results = set(os.listdir("/proc/self/task")), []
    for plan, expected in (([1, 1, 1], [0, 0, 0]), ([1, 3, 2], [0, 2, 2]), ([2, 9, 1], [1, 2, 2])):
        session = engine.Session(
            problem.sizes, [ACTIVATIONS["relu"]], LOSSES["log_loss"], dtype=np.float32,
            params=problem.params.astype(np.float32), batch_size=len(X), n_threads=3,
        )  # fmt: skip
        with closing(session):
            session.set_optimizer(OPTIMIZERS["adam"], HYPERPARAMETERS["adam"])
            order, losses, n_more = np.arange(len(X)), np.zeros(3), []
            for epoch, limit in enumerate(plan):
                session.limit_threads(limit)
                session.train(
                    X, targets, None, order, shuffle=None, batch_size=len(X), alpha=0.01,
                    learning_rate=0.01, n_epochs=1, losses=losses[epoch : epoch + 1],
                )  # fmt: skip
                n_more.append(len(set(os.listdir("/proc/self/task")) - before))
        assert n_more == expected
        results.append(read_params(session, problem, np.float32).tobytes() + losses.tobytes())
    assert results[0] == results[1] == results[2]
