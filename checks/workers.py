"""Cases by number in processes of their own: a crash or a hang is one failed case, not the end.

A worker says which case it begins and what became of it.  When it dies or says nothing for too
long, the case in hand is reported with its number, and a new worker goes on behind it.  The same
number always makes the same case: ``--only NUMBER`` repeats it in this process.
"""

import argparse
import faulthandler
import itertools
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from contextlib import contextmanager, nullcontext

from checks import ROOT
from checks.figures import Figures


def parse_arguments(description, n):
    """Read the options that every fuzzer has."""
    parser = argparse.ArgumentParser(description=description.split("\n")[0])
    parser.add_argument("--n", type=int, default=n, help="cases")
    parser.add_argument("--seed", type=int, default=0, help="number of the first case")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--timeout-s", type=float, default=120.0, help="longest case")
    parser.add_argument("--engine", default="cython", choices=["cython", "numba"])
    parser.add_argument("--only", type=int, help="run this case here, and show what it raises")
    parser.add_argument("--worker", type=int, nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def run(module, run_case, description, n, limit=nullcontext):
    """Be the program: the parent of workers, a worker, or one case.

    Parameters
    ----------
    module : str
        What ``python -m`` starts as a worker.
    run_case : callable
        ``run_case(number, engine_name) -> str``: a word for the outcome; raises if the case shows a
        defect.
    description : str
    n : int
        Cases by default.
    limit : context manager
        What cases run within.
    """
    arguments = parse_arguments(description, n)
    if arguments.only is not None:
        faulthandler.enable()
        with limit():
            print(run_case(arguments.only, arguments.engine))
    elif arguments.worker:
        with limit():
            work(run_case, arguments.engine, *arguments.worker)
    else:
        supervise(module, description, arguments)


@contextmanager
def limited_memory(most_bytes=6 << 30):
    """Within it the system refuses what no memory holds, before its killer wakes up."""
    if os.name != "posix":
        yield
        return
    import resource

    before, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (most_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (before, hard))


def work(run_case, engine_name, first, end):
    """Run cases, telling the parent of each."""
    to_parent = os.fdopen(os.dup(1), "w", buffering=1)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)  # verbose fits print
    faulthandler.enable()
    for number in range(first, end):
        to_parent.write(f"begin {number}\n")
        try:
            outcome = f"pass {run_case(number, engine_name)}"
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            text = " ".join(str(error).split())[:300]
            where = f"{place.filename.rsplit('/', 1)[-1]}:{place.lineno}"
            outcome = f"fail {type(error).__name__} at {where}: {text}"
        to_parent.write(f"{outcome}\n")


class Worker:
    """One process, the cases it has to do, and the case in hand."""

    def __init__(self, module, engine_name, first, end):
        self.engine_name, self.module, self.end = engine_name, module, end
        self.begin(first)

    def begin(self, first):
        """Start a process at a case."""
        self.at, self.since = first, time.monotonic()
        # A pipe that nobody reads would fill up; the file ends with the worker.
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-m", self.module, "--engine", self.engine_name, "--worker",
             str(first), str(self.end)],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=self.errors,
        )  # fmt: skip
        os.set_blocking(self.process.stdout.fileno(), False)
        self.rest = b""

    def read_lines(self):
        """Return the whole lines that have come."""
        while chunk := os.read(self.process.stdout.fileno(), 1 << 16):
            self.rest += chunk
            if len(chunk) < 1 << 16:
                break
        *lines, self.rest = self.rest.split(b"\n")
        return [line.decode() for line in lines]


def supervise(module, description, arguments):
    """Give the cases to workers, and print what came of them."""
    figures = Figures(f"{description.split(chr(10))[0]} [{arguments.engine}]")
    outcomes, failures = Counter(), []
    edges = [arguments.seed + arguments.n * i // arguments.jobs for i in range(arguments.jobs + 1)]
    workers = [
        Worker(module, arguments.engine, first, end) for first, end in itertools.pairwise(edges)
    ]
    begun = time.monotonic()
    selector = selectors.DefaultSelector()
    for worker in workers:
        selector.register(worker.process.stdout, selectors.EVENT_READ, worker)

    def fail(number, text):
        failures.append((number, text))
        print(f"FAIL case {number}: {text}", flush=True)

    def replace(worker, text):
        """Report the case in hand, and go on behind it."""
        selector.unregister(worker.process.stdout)
        worker.process.stdout.close()
        if worker.at < worker.end:
            worker.errors.seek(0)
            errors = worker.errors.read().decode(errors="replace")
            errors = [line for line in errors.splitlines() if "Warning" not in line][-12:]
            fail(worker.at, f"{text} {' | '.join(errors)}"[:900])
            if worker.at + 1 < worker.end:
                worker.begin(worker.at + 1)
                selector.register(worker.process.stdout, selectors.EVENT_READ, worker)

    while selector.get_map():
        for key, _ in selector.select(timeout=1.0):
            worker = key.data
            lines = worker.read_lines()
            for line in lines:
                word, _, text = line.partition(" ")
                worker.since = time.monotonic()
                if word == "begin":
                    worker.at = int(text)
                    continue
                outcomes[text if word == "pass" else "defects"] += 1
                if word == "fail":
                    fail(worker.at, text)
                if worker.at + 1 == worker.end:
                    worker.at = worker.end
            if not lines:
                code = worker.process.wait()
                name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
                replace(worker, f"crash: {name}")
        for key in list(selector.get_map().values()):
            worker = key.data
            if time.monotonic() - worker.since > arguments.timeout_s:
                worker.process.send_signal(signal.SIGABRT)  # faulthandler shows where it is
                worker.process.wait()
                replace(worker, f"hang: over {arguments.timeout_s:g} s.")
    print(f"     seconds: {time.monotonic() - begun:.0f}")
    for outcome, count in outcomes.most_common():
        print(f"     {outcome}: {count}")
    figures.add("cases run", sum(outcomes.values()), least=arguments.n - len(failures))
    figures.add("cases that crashed, hung or were wrong", len(failures), most=0)
    if failures:
        numbers = ", ".join(str(number) for number, _ in failures[:10])
        print(f"     repeat one with: python -m {module} --only NUMBER, numbers: {numbers}")
    figures.finish()
