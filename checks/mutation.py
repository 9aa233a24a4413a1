"""Mutation check: each fault of `checks.faults`, alone, must make the test suite fail.

The checkout is copied and built once; a fault is put into a copy of that, native code is built
again (without optimisation, with bounds checks), the tests named by the fault run, and if they pass
the suite, whose failing test must pass without the fault: first the short one, then with `--whole`,
and the line says so.  A test run that dies or does not end has noticed the fault too.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from checks.faults import FAULTS
from checks.figures import Figures
from checks.sanitize import build, copy_checkout

TARGETED_S, WHOLE_S = 400, 1800
NATIVE = Path("fastbp/engine/native")
ENVIRONMENT = os.environ | {"FASTBP_DEBUG": "1", "OMP_NUM_THREADS": "2"}


# Read setup.py for its settings, without its setup().
CYTHONIZE = """
import runpy, setuptools
setuptools.setup = lambda **settings: None
settings = runpy.run_path("setup.py")
from Cython.Build import cythonize
cythonize([settings["engine"]], compiler_directives=settings["CYTHON_DIRECTIVES"], force=True)
"""


def build_first(folder):
    """Build the copy; returns the compiler's command of each source, and of the link."""
    commands = {}
    for line in build(folder, ENVIRONMENT, "--verbose").splitlines():
        words = shlex.split(line) if " -o " in line else []
        if "-c" in words:
            commands[words[words.index("-c") + 1]] = words
        elif "-shared" in words:  # setup.py links elsewhere, and copies
            at = words.index("-o") + 1
            words[at] = str(NATIVE / Path(words[at]).name)
            commands["link"] = words
    return commands


def build_again(folder, path, commands):
    """Compile what a change of `path` reaches, and link."""
    name = Path(path).name
    if name.endswith((".pyx", ".pxi", ".pxd")):
        jobs = [[sys.executable, "-c", CYTHONIZE], commands[str(NATIVE / "engine.c")]]
    elif name.endswith(".c"):
        jobs = [commands[path]]
    elif name in ("kernels.h", "bf16.h", "team.h", "shuffle.h", "fingerprint.h"):
        jobs = [words for source, words in commands.items() if source != "link"]
    else:  # of the kernels' template
        jobs = [words for source, words in commands.items() if "isa_" in source or "bf16" in source]
    for words in [*jobs, commands["link"]]:
        subprocess.run(words, cwd=folder, env=ENVIRONMENT, capture_output=True, check=True)


def run_tests(folder, arguments, timeout_s):
    """Return how a test run noticed the fault, or "" if it passed."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *arguments]
    environment = ENVIRONMENT | {"PYTHONPATH": str(folder)}
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False,
            timeout=timeout_s,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return "does not end"
    if done.returncode in (0, pytest.ExitCode.NO_TESTS_COLLECTED):  # all of them are repeats
        return ""
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if not failed:
        last = (done.stdout + done.stderr).strip().splitlines()[-1:]
        return f"exit code {done.returncode} {' '.join(last)}"[:100]
    return failed[0].partition(" ")[2].partition(" - ")[0]  # the name of the test


def fails_without_fault(test, built):
    """Whether a test says nothing of a fault: it fails here without any."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "checkout"
        shutil.copytree(built, folder)
        return bool(run_tests(folder, ("--whole", test), TARGETED_S))


def try_fault(fault, built, commands, *, targeted_only=False):
    """Return (how it was noticed or "", seconds)."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "checkout"
        shutil.copytree(built, folder)
        fault.put_into(folder)
        if "native" in fault.path:
            build_again(folder, fault.path, commands)
        for way, arguments, timeout_s in (
            ("", fault.tests, TARGETED_S),
            ("--whole ", ("--whole", *fault.tests), TARGETED_S),
            ("", (), WHOLE_S),
            ("--whole ", ("--whole",), WHOLE_S),
        ):
            of_suite = timeout_s == WHOLE_S
            if of_suite and targeted_only:
                break
            noticed = run_tests(folder, arguments, timeout_s)
            if of_suite and noticed.startswith("tests/") and fails_without_fault(noticed, built):
                noticed = ""
            if noticed:
                return way + noticed, time.monotonic() - begun
    return "", time.monotonic() - begun


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", type=int, nargs="+", help="numbers of faults")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--list", action="store_true", help="print the faults and end")
    parser.add_argument("--targeted-only", action="store_true", help="without the whole suite")
    arguments = parser.parse_args()
    chosen = list(enumerate(FAULTS)) if arguments.only is None else [
        (number, FAULTS[number]) for number in arguments.only
    ]  # fmt: skip
    if arguments.list:
        for number, fault in chosen:
            print(f"{number:>3} {fault.path}: {fault.what}")
        return
    figures = Figures(f"mutation: {len(chosen)} faults")
    with tempfile.TemporaryDirectory() as place:
        built = Path(place)
        copy_checkout(built)
        commands = build_first(built)

        def work(item):
            number, fault = item
            noticed, seconds = try_fault(
                fault, built, commands, targeted_only=arguments.targeted_only
            )
            mark = "killed  " if noticed else "SURVIVED"
            print(f"{number:>3} {mark} {seconds:4.0f} s  {fault.what}: {noticed[:100]}", flush=True)
            return bool(noticed)

        with ThreadPoolExecutor(arguments.jobs) as pool:
            killed = sum(pool.map(work, chosen))
    figures.add("faults", len(chosen), least=40 if arguments.only is None else 1)
    figures.add("faults killed", 100.0 * killed / len(chosen), least=95.0, unit="%")
    figures.finish()


if __name__ == "__main__":
    main()
