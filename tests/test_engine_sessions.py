"""Manners of a session: workers, the GIL, memory, interrupts, instruction sets."""

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
from problems import draw_problem
from sessions import (
    count_events,
    draw_problem_once,
    open_session,
    read_params,
    run_epochs,
)

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
        timer = threading.Timer(0.2, signal.raise_signal, (signal.SIGINT,))
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
    for other in ("abacus", None, []):  # a saved model may hold anything
        with pytest.raises(ValueError, match="engine"):
            get_engine(other)
