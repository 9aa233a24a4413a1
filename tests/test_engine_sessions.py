"""Manners of a session: workers, the GIL, memory, interrupts, instruction sets, misuse."""

import functools
import os
import signal
import sys
import threading
import tracemalloc
from contextlib import closing

import numpy as np
import pytest
from engines import ENGINES
from problems import HYPERPARAMETERS, draw_problem
from scipy import sparse
from sessions import (
    draw_problem_once,
    open_session,
    read_params,
    run_epochs,
)

from fastbp.activations import ACTIVATIONS
from fastbp.losses import LOSSES
from fastbp.optimizers import OPTIMIZERS

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
            run()  # what happens once in a process
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
        if engine.NAME == "cython" or scores is locked:
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
