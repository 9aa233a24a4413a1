"""Fixtures shared by the tests: the engines under test, on each instruction set of the machine."""

import gc
import os
import signal
import subprocess
import sys

import pytest
from covering import list_spare
from engines import ENGINES, PAIRS
from threadpoolctl import threadpool_limits

from fastbp.engine import get_engine

# scikit-learn and scipy, which the tests compare with, use BLAS threads even for tiny matrices; on
# a busy machine they then wait for each other a hundred times longer than they compute.
threadpool_limits(1, user_api="blas")

# A shell starts background jobs with SIGINT ignored, and Python then leaves it so: the tests that
# interrupt a fit would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Numba makes millions of objects when it compiles, nearly all of which last or go by themselves.
gc.set_threshold(10_000, 20, 100)


# The files that take longest, so that the last one to end is a short one: xdist gives files away in
# this order unless it sorts them by their number of tests.
LONGEST = [
    "test_user_functions.py", "test_engine_members.py", "test_checks.py", "test_numba_engine.py",
    "test_sklearn_checks.py", "test_engine_training.py", "test_loss_objects.py", "test_docs.py",
    "test_parity.py", "test_parallel.py", "test_search.py", "test_export.py", "test_pairs.py",
    "test_inspection.py", "test_package.py",
]  # fmt: skip


def pytest_addoption(parser):
    """The short suite is the default: `.ci/full` and the mutation check run the whole one."""
    parser.addoption("--whole", action="store_true", help="also the cases marked `repeats`")


def pytest_configure(config):
    """Keep the order of the files."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(config, items):
    """Put the long files first, and leave out what repeats."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))
    if not config.option.whole:
        in_turn = [item for item in items if item.get_closest_marker("engines_in_turn")]
        on_each = [item for item in in_turn if "engine_name" in item.fixturenames]
        for item in list_spare(on_each, ENGINES):
            item.add_marker("repeats")
        kept = [item for item in items if item.get_closest_marker("repeats") is None]
        if len(kept) < len(items):
            dropped = [item for item in items if item.get_closest_marker("repeats") is not None]
            config.hook.pytest_deselected(items=dropped)
            items[:] = kept


def pytest_collection_finish():
    """Let the cycle collector forget what was imported, which lasts anyway."""
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers():
    """Take no worker where there is one core: it would share that with who hands out the tests."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return 0 if cores == 1 else None


COMPILE = """
import gc, sys, warnings
gc.disable()
warnings.simplefilter("ignore")
from fastbp import BackpropClassifier
X, y = [[0.0], [1.0]] * 9, [0, 1] * 9
model = BackpropClassifier((2,), engine="numba", dtype=sys.argv[1], early_stopping=True, max_iter=2)
model.fit(X, y).predict(X)
"""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes():
    """Compile the Numba engine before the workers start: each would, as none finds it on disk.

    `-P` leaves a checkout off the path that lies in the current folder and may not be in use.  What
    fails here fails again, and is told, in the tests.
    """
    commands = [[sys.executable, "-P", "-c", COMPILE, dtype] for dtype in ("float32", "float64")]
    for process in [subprocess.Popen(command, stderr=subprocess.DEVNULL) for command in commands]:
        process.wait()


@pytest.fixture(params=ENGINES)
def engine_name(request):
    """Name of an engine, as users write it."""
    return request.param


@pytest.fixture
def engine(engine_name):
    """An engine module."""
    return get_engine(engine_name)


@pytest.fixture
def compiled_engine():
    """The engine with kernels of its own, for what the one on BLAS does not promise."""
    if "cython" not in ENGINES:
        pytest.skip("the compiled engine is not built")
    return get_engine("cython")


@pytest.fixture(params=PAIRS, ids="-".join)
def forced_engine(request):
    """An engine module made to use one instruction set, and let go afterwards."""
    yield from force(*request.param)


@pytest.fixture(params=[pair for pair in PAIRS if pair[0] == "cython"], ids="-".join)
def forced_compiled_engine(request):
    """As `forced_engine`, for what only the compiled engine promises."""
    yield from force(*request.param)


def force(name, instruction_set):
    """Yield an engine that uses this instruction set."""
    engine = get_engine(name)
    before = engine.instruction_set()
    engine.set_instruction_set(instruction_set)
    yield engine
    engine.set_instruction_set(before)
