"""Fixtures shared by the tests: the engines under test, on each instruction set of the machine."""

import signal

import pytest
from engines import ENGINES, PAIRS
from threadpoolctl import threadpool_limits

from fastbp.engine import get_engine

# scikit-learn and scipy, which the tests compare with, use BLAS threads even for tiny matrices; on
# a busy machine they then wait for each other a hundred times longer than they compute.
threadpool_limits(1, user_api="blas")

# A shell starts background jobs with SIGINT ignored, and Python then leaves it so: the tests that
# interrupt a fit would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)


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
