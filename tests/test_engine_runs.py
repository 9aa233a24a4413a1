"""Runs of features (`continues`): stored as two values, trained on as if whole."""

from contextlib import closing

import numpy as np
import pytest
import reference
from problems import HYPERPARAMETERS, LEARNING_RATES
from reference import FLOAT64_TOLERANCE
from scipy import sparse
from sessions import DTYPES, THREADS
from test_engine_members import draw_member_problem, predict

from fastbp.activations import ACTIVATIONS
from fastbp.losses import LOSSES
from fastbp.optimizers import OPTIMIZERS

RUNS = [1, 3, 9, 1, 5]  # features of each
N_ROWS, N_MEMBERS, SIZES = 61, 3, (sum(RUNS), 20, 7, 2)


def draw_runs(dtype=np.float64):
    """Return `continues`, CSR of runs, and the rows that it stands for."""
    continues, stored, whole = [], [], []
    rng = np.random.RandomState(3)
    for n in RUNS:
        continues += [0] + [1] * (n - 1)
        place = rng.uniform(-1, n + 1, N_ROWS)  # of pieces of width 1 each
        pieces = np.clip(place[:, np.newaxis] - np.arange(n), 0, 1)
        whole.append(pieces)
        stored.append(pieces - np.column_stack([pieces[:, 1:], np.zeros(N_ROWS)]))
    stored = sparse.csr_array(np.hstack(stored).astype(dtype))
    return np.array(continues, np.uint8), stored, np.hstack(whole).astype(dtype)


@pytest.fixture(scope="module")
def problem():
    """A problem on the whole rows."""
    one = draw_member_problem(SIZES, N_MEMBERS, n_samples=N_ROWS, activation="tanh", weighted=True)
    return type(one)(**{**vars(one), "X": draw_runs()[2]})


def open_on_runs(engine, problem, dtype, continues, *, threads=1, batch_size=16):
    session = engine.Session(
        problem.sizes, [ACTIVATIONS[name] for name in problem.activations], LOSSES[problem.loss],
        dtype=dtype, params=problem.params.astype(dtype), batch_size=batch_size,
        n_threads=threads, sparse=True, n_members=N_MEMBERS, continues=continues,
    )  # fmt: skip
    session.force_threads(threads)
    return session


def train_on_runs(engine, problem, dtype=np.float64, threads=1, batch_size=16, **options):
    """Return losses, parameters and scores after some epochs on CSR of runs."""
    continues, X, _ = draw_runs(dtype)
    _, targets, weight, _ = problem.in_dtype(dtype)
    session = open_on_runs(
        engine, problem, dtype, continues, threads=threads, batch_size=batch_size
    )
    with closing(session):
        session.set_optimizer(OPTIMIZERS["adamw"], HYPERPARAMETERS["adamw"], **options)
        losses = np.zeros(3)
        session.train(
            X, targets, weight, None, shuffle=None, batch_size=batch_size, alpha=0.01,
            learning_rate=LEARNING_RATES["adamw"], n_epochs=3, losses=losses,
        )  # fmt: skip
        params = np.empty(len(problem.params), dtype)
        session.params_into(params)
        return losses, params, predict(session, problem, N_MEMBERS, X, dtype)


@pytest.mark.parametrize("max_grad_norm", [None, 0.05])
def test_training_equals_that_on_whole_rows(engine, problem, max_grad_norm):
    order = [np.arange(N_ROWS)] * 3
    expected = reference.train(
        problem.params, SIZES, problem.activations, problem.loss, problem.X, problem.targets,
        problem.sample_weight, order, batch_size=16, alpha=0.01,
        learning_rate=LEARNING_RATES["adamw"], optimizer="adamw", hyper=HYPERPARAMETERS["adamw"],
        max_grad_norm=max_grad_norm or np.inf, n_members=N_MEMBERS,
    )  # fmt: skip
    losses, params, scores = train_on_runs(engine, problem, max_grad_norm=max_grad_norm)
    np.testing.assert_allclose(losses, expected[1], rtol=FLOAT64_TOLERANCE, atol=0)
    np.testing.assert_allclose(params, expected[0], rtol=0, atol=FLOAT64_TOLERANCE)
    whole = reference.predict_members(expected[0], SIZES, N_MEMBERS, problem.activations, problem.X)
    np.testing.assert_allclose(scores, whole, rtol=1e-9, atol=1e-9)


def test_gradient_of_several_blocks_equals_that_on_whole_rows(engine, problem):
    """Twice in a session: what the first call left in its buffers must not count."""
    continues, X, whole = draw_runs()
    many = 40  # times the rows: more than two blocks
    X, whole = sparse.csr_array(sparse.vstack([X] * many)), np.vstack([whole] * many)
    targets, weight = np.vstack([problem.targets] * many), np.tile(problem.sample_weight, many)
    value, gradient = reference.loss_and_gradient_of_members(
        problem.params, SIZES, N_MEMBERS, problem.activations, problem.loss, whole, targets, weight,
        alpha=0.3,
    )  # fmt: skip
    with closing(open_on_runs(engine, problem, np.float64, continues)) as session:
        for _ in range(2):
            found = np.full(len(problem.params), np.nan)
            its_value = session.loss_and_gradient(
                problem.params, X, targets, weight, alpha=0.3, gradient=found
            )
            assert its_value == pytest.approx(value, rel=1e-10)
            np.testing.assert_allclose(found, gradient, rtol=0, atol=1e-10)


@pytest.mark.parametrize("dtype", DTYPES)
def test_threads_never_change_a_bit(forced_compiled_engine, problem, dtype):
    alone, *others = (
        train_on_runs(forced_compiled_engine, problem, dtype, threads) for threads in THREADS
    )
    for other in others:
        for left, right in zip(alone, other, strict=True):
            assert np.array_equal(left, right)


@pytest.mark.parametrize("index_dtype", [np.int32, np.int64])
@pytest.mark.parametrize("dtype", DTYPES)
def test_predictions_are_those_of_whole_rows_alone_and_together(
    forced_engine, problem, dtype, index_dtype
):
    continues, X, _ = draw_runs(dtype)
    X.indices, X.indptr = X.indices.astype(index_dtype), X.indptr.astype(index_dtype)
    layers, scales, W, b = reference.split_members(problem.params.astype(dtype), SIZES, N_MEMBERS)
    coefs, intercepts = zip(*layers, strict=True)
    parts = list(coefs), list(intercepts), scales, W, b
    activations = [ACTIVATIONS[name] for name in problem.activations]

    def scores_of(rows, n_threads=1):
        scores = np.full((N_MEMBERS, rows.shape[0], 2), np.nan, dtype)
        assert forced_engine.predict_members_into(
            *parts, activations, rows, scores, n_threads, continues
        )
        return scores

    together = scores_of(X)
    whole = reference.predict_members(
        problem.params, SIZES, N_MEMBERS, problem.activations, problem.X
    )
    atol = 1e-9 if dtype == np.float64 else 2e-5
    np.testing.assert_allclose(together, whole, rtol=atol, atol=atol)
    for rows in ([0], [1], [7, 3], range(20)):
        assert np.array_equal(scores_of(X[list(rows)]), together[:, list(rows)])
    assert np.array_equal(scores_of(X[[5] * 1500], 3)[:, ::500], together[:, [5] * 3])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(sparse=False), "members over CSR"),
        (dict(n_members=None), "members over CSR"),
        (dict(continues=np.zeros(3, np.uint8)), "19 features"),
        (dict(continues=np.zeros(19, np.int64)), "uint8"),
        (dict(continues=np.full(19, 2, np.uint8)), "0 and 1"),
        (dict(continues=np.ones(19, np.uint8)), "begin with 0"),
    ],
)
def test_bad_runs_are_refused(engine, problem, change, message):
    settings = dict(sparse=True, n_members=N_MEMBERS, continues=draw_runs()[0]) | change
    params = problem.params
    if settings["n_members"] is None:
        params = np.zeros(reference.count_parameters(SIZES))
    with pytest.raises(ValueError, match=message):
        engine.Session(
            SIZES, [ACTIVATIONS["tanh"]] * 2, LOSSES[problem.loss], dtype=np.float64,
            params=params, batch_size=16, **settings,
        )  # fmt: skip
