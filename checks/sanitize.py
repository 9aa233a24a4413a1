"""The engine's tests and its fuzzer on instrumented builds: no report may come.

address
    gcc's address, undefined-behaviour and leak sanitizers.
thread
    gcc's thread sanitizer, on the tests that use several threads.
debug
    Bounds checks of Cython and C asserts.

Each builds a copy of the checkout.  What the leak sanitizer finds in CPython and NumPy is left out:
an interpreter frees little when it ends.  A leak counts if our own C code asked for the memory.
What the thread sanitizer finds counts if a stack shows our extension, for it cannot see how the
uninstrumented interpreter synchronises its own threads.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from checks import ENGINE_TESTS, ROOT
from checks.faults import FAULTS
from checks.figures import Figures

OURS = re.compile(r"engine\.cpython|fastbp/engine/native|\bfb_\w+")
# Tests and fuzzer take each way of rounded products that the processor has, and the emulation.
WHERE = (
    "import fastbp.engine.native.engine as e; print(e.__file__); print(*e.supported_matmul_paths())"
)
THREADED = "threads or side_by_side or early_stopping_is or in_many_threads or large_predictions"
SETTINGS = {
    "address": {
        "FASTBP_DEBUG": "1",
        "FASTBP_SANITIZE": "address,undefined",
        "library": "libasan.so",
        "options": {
            "ASAN_OPTIONS": "detect_leaks=1:exitcode=0:allocator_may_return_null=1",
            "LSAN_OPTIONS": "max_leaks=0:report_objects=0",
            "UBSAN_OPTIONS": "print_stacktrace=1",
            "PYTHONMALLOC": "malloc",
        },
        "tests": [*ENGINE_TESTS, "-k", "not numba"],
        "fuzz": 1000,
    },
    "thread": {
        "FASTBP_SANITIZE": "thread",
        "library": "libtsan.so",
        "options": {"TSAN_OPTIONS": "exitcode=0:report_signal_unsafe=0:second_deadlock_stack=1"},
        "tests": [
            *ENGINE_TESTS, "tests/test_parallel.py", "-k",
            f"({THREADED}) and not numba and not search",
        ],
        "fuzz": 300,
    },
    "debug": {
        "FASTBP_DEBUG": "1",
        "options": {},
        "tests": [*ENGINE_TESTS, "-k", "not numba"],
        "fuzz": 1000,
    },
}  # fmt: skip


def copy_checkout(folder):
    """Copy what is built and tested, and what tests read, without what was built."""
    built = ("*.so", "*.pyd", "__pycache__", "engine.c", "build", "_build", "auto_examples")
    ignore = shutil.ignore_patterns(*built)
    for name in ("fastbp", "tests", "checks", "docs"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)


def build(folder, environment, verbosity="--quiet"):
    """Build the extension beside its sources; returns what the build printed."""
    done = subprocess.run(
        [sys.executable, "setup.py", verbosity, "build_ext", "--inplace"],
        cwd=folder,
        env=environment | {"FASTBP_REQUIRE_EXTENSION": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the build failed:\n{done.stderr[-3000:]}")
    return done.stdout + done.stderr


def list_reports(folder):
    """What the sanitizers wrote, report by report: (kind, text)."""
    for path in sorted(folder.glob("report*")):
        text = path.read_text(errors="replace")
        for block in re.split(r"\n\s*\n", text):
            if "WARNING: ThreadSanitizer" in block or "Location is" in block:
                yield "thread", block
            elif "ERROR: AddressSanitizer" in block:
                yield "address", block
            elif "runtime error:" in block:
                yield "undefined behaviour", block
            elif "leak of" in block:
                yield "leak", block


def is_ours(kind, block):
    """Whether a report is about our code (see the head of this file)."""
    if kind == "leak":  # frame 0 is the allocator's own
        frames = re.findall(r"^\s*#[12] .*$", block, re.MULTILINE)
        return any(OURS.search(frame) for frame in frames)
    return kind != "thread" or bool(OURS.search(block))


def run(folder, environment, command, figures, name, timeout_s):
    """Run a command in the instrumented copy, and print how it went."""
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False,
        timeout=timeout_s,
    )  # fmt: skip
    tail = (done.stdout + done.stderr).strip().splitlines()
    summary = next((line for line in reversed(tail) if "passed" in line or "FAIL" in line), "")
    figures.require(name, done.returncode == 0, summary)
    if done.returncode:
        print("\n".join(tail[-30:]))


def check(kind, figures, n_fuzz, fault):
    """Build, run, and count the reports of one kind of instrument."""
    settings = SETTINGS[kind]
    library = settings.get("library")
    path = library and Path(
        subprocess.run(
            [os.environ.get("CC", "gcc"), f"-print-file-name={library}"], capture_output=True,
            text=True, check=True,
        ).stdout.strip()
    )  # fmt: skip
    if library and not path.is_file():
        figures.require(f"{kind}: {library} is installed", False)
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        copy_checkout(folder)
        if fault is not None:
            FAULTS[fault].put_into(folder)
        switches = {name: value for name, value in settings.items() if name.startswith("FASTBP")}
        build(folder, os.environ | switches)
        environment = os.environ | settings["options"]
        for name in ("ASAN_OPTIONS", "TSAN_OPTIONS", "UBSAN_OPTIONS"):
            if name in environment:
                environment[name] += f":log_path={folder / 'report'}"
        if library:
            environment["LD_PRELOAD"] = str(path)
        environment["PYTHONPATH"] = str(folder)  # before any installed fastbp
        python = [sys.executable]
        if kind == "thread" and shutil.which("setarch"):  # it needs its own place in memory
            python = ["setarch", os.uname().machine, "-R", *python]
        where = [*python, "-c", WHERE]
        done = subprocess.run(
            where, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        found, _, paths = done.stdout.strip().partition("\n")
        figures.require(
            f"{kind}: the copy is what runs", found.startswith(str(folder)), done.stderr
        )
        figures.require(f"{kind}: rounded products run", "emulation" in paths, paths)
        tests = [*python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *settings["tests"]]
        run(folder, environment, tests, figures, f"{kind}: tests pass", 3000)
        n = settings["fuzz"] if n_fuzz is None else n_fuzz
        fuzz = [*python, "-m", "checks.fuzz_engine", "--n", str(n), "--timeout-s", "300"]
        run(folder, environment, fuzz, figures, f"{kind}: {n} cases of the fuzzer pass", 3000)
        reports = list(list_reports(folder))
        ours = [(word, block) for word, block in reports if is_ours(word, block)]
        for word, block in ours[:5]:
            print(word, block[:3000], sep="\n")
        figures.add(f"{kind}: reports on our code", len(ours), most=0)
        print(f"     {kind}: reports on others' code: {len(reports) - len(ours)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("kinds", nargs="*", default=list(SETTINGS), help="address, thread, debug")
    parser.add_argument("--fuzz", type=int, help="cases of the fuzzer")
    parser.add_argument(
        "--fault", type=int, help="put this fault of checks.faults in: does the instrument see it?"
    )
    arguments = parser.parse_args()
    figures = Figures(f"sanitizers: {', '.join(arguments.kinds)}")
    for kind in arguments.kinds:
        check(kind, figures, arguments.fuzz, arguments.fault)
    figures.finish()


if __name__ == "__main__":
    main()
