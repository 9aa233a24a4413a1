"""The engines under test.

Every engine goes through the same tests; an install without the extension has only
the one that needs no C compiler, of which a user is warned once.
"""

import warnings

from fastbp.engine import get_engine

with warnings.catch_warnings():
    warnings.simplefilter("ignore", RuntimeWarning)
    ENGINES = ["numba"] if get_engine().NAME == "numba" else ["cython", "numba"]

# With each instruction set of this machine.
PAIRS = [(name, isa) for name in ENGINES for isa in get_engine(name).supported_instruction_sets()]
