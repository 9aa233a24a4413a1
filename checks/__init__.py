"""Checks of trust: fuzzers, memory, interrupts, processes, numbers, sanitizers, mutation.

Each module is a command, ``python -m checks.NAME``; it prints its figures, each beside its bound,
and ends with 1 if one is out of bounds.  They take minutes, some of them with timings that a busy
machine spoils: `.ci/full` runs them, `pytest` runs their cases for a second or two each.  Nothing
here is imported by fastbp.  The judge of numbers is ``tests/reference.py``.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests"
# The engines at their door, whole trainings first: most faults end there.
ENGINE_TESTS = tuple(
    f"tests/test_engine_{subject}.py"
    for subject in (
        "training", "gradient", "ends", "threads", "prediction", "accuracy", "sessions",
        "contract", "members", "runs", "matmul",
    )
)  # fmt: skip
if str(TESTS) not in sys.path:
    sys.path.append(str(TESTS))
