"""What an engine promises and refuses: signatures, misuse, limits, a session shared by threads."""

import functools
import inspect
import math
import threading
from contextlib import closing
from types import SimpleNamespace

import numpy as np
import pytest
from problems import HYPERPARAMETERS, draw_problem
from scipy import sparse
from sessions import open_session, read_params, read_slots

from fastbp.activations import ACTIVATIONS
from fastbp.engine import contract
from fastbp.losses import LOSSES
from fastbp.optimizers import OPTIMIZERS
from fastbp.training.stopping import Patience

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

        n_iter_no_change, best, count = math.inf, math.inf, 0
        saw_loss, is_over = Patience.saw_loss, Patience.is_over

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
