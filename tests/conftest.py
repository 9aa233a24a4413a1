"""Fixtures shared by the tests: the engines under test, on each instruction set of the machine."""

import pytest
from threadpoolctl import threadpool_limits

from fastbp.engine import get_engine

# scikit-learn and scipy, which the tests compare with, use BLAS threads even for tiny matrices; on
# a busy machine they then wait for each other a hundred times longer than they compute.
threadpool_limits(1, user_api="blas")

# Every engine behind the door goes through the same tests.
ENGINES = ["cython"]


@pytest.fixture(params=ENGINES)
def engine(request):
    """An engine module."""
    return get_engine(request.param)


@pytest.fixture(
    params=[
        (name, isa) for name in ENGINES for isa in get_engine(name).supported_instruction_sets()
    ],
    ids=lambda pair: "-".join(pair),
)
def forced_engine(request):
    """An engine module made to use one instruction set, and let go afterwards."""
    name, instruction_set = request.param
    engine = get_engine(name)
    before = engine.instruction_set()
    engine.set_instruction_set(instruction_set)
    yield engine
    engine.set_instruction_set(before)
