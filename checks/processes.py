"""Process life: forks, worker processes, daemon threads, exits in the middle of a fit.

Each case is a program of its own; it must end by itself, with the right exit code and nothing that
looks like a crash.  The forks of ``tests/test_parallel.py`` are among them.
"""

import argparse
import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

from checks import ROOT
from checks.figures import Figures

LIMIT_S = 120.0

# Every program starts with this; `main` guards what a spawned child must not do.
BEGINNING = """
import os, sys, threading, time, warnings
import numpy as np
warnings.simplefilter("ignore")
from fastbp import BackpropClassifier, BackpropRegressor
from fastbp.engine import get_engine

rng = np.random.default_rng(0)
X = rng.standard_normal((600, 20))
y = (X[:, 0] > 0).astype(int)
ENDLESS = dict(max_iter=10**9, tol=0.0, n_iter_no_change=np.inf, random_state=0)

def force_threads(n):
    engine = get_engine()
    plain = engine.Session
    class Forced(plain):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.force_threads(n)
    engine.Session = Forced

def train(seed=0, **settings):
    model = BackpropClassifier((40,), random_state=seed, max_iter=5, **settings).fit(X, y)
    return b"".join(w.tobytes() for w in model.coefs_) + model.predict_proba(X).tobytes()

def start_endless(daemon=True, **settings):
    begun = threading.Event()
    def run():
        begun.set()
        BackpropClassifier((40,), **ENDLESS, **settings).fit(X, y)
    thread = threading.Thread(target=run, daemon=daemon)
    thread.start()
    begun.wait()
    time.sleep(0.2)
    return thread
"""

EXITS = {
    "falls off the end": "",
    "sys.exit": "sys.exit(0)",
    "os._exit": "os._exit(0)",
    "an atexit handler that fits": "import atexit; atexit.register(train)",
    "the collector, then the end": "import gc; gc.collect()",
    "a second daemon thread": "start_endless()",
}

PROGRAMS = {
    "loky": """
        import joblib
        expected = [train(seed) for seed in range(4)]
        for _ in range(2):
            got = joblib.Parallel(n_jobs=2, backend="loky")(
                joblib.delayed(train)(seed) for seed in range(4))
            assert got == expected
    """,
    "loky while a fit runs": """
        import joblib
        expected = [train(seed) for seed in range(2)]
        start_endless()
        got = joblib.Parallel(n_jobs=2, backend="loky")(
            joblib.delayed(train)(seed) for seed in range(2))
        assert got == expected
    """,
    "loky inside of a thread": """
        from sklearn.model_selection import GridSearchCV
        results = []
        def search():
            grid = {"alpha": [1e-4, 1e-2]}
            model = BackpropClassifier((8,), max_iter=5, random_state=0)
            results.append(GridSearchCV(model, grid, cv=2, n_jobs=2).fit(X, y).best_score_)
        thread = threading.Thread(target=search)
        thread.start(); thread.join()
        assert len(results) == 1
    """,
    **{
        f"multiprocessing {method}": f"""
        import multiprocessing
        expected = [train(seed) for seed in range(4)]
        with multiprocessing.get_context("{method}").Pool(2) as pool:
            assert pool.map(train, range(4)) == expected
        assert train() == expected[0]
        """
        for method in ("spawn", "fork", "forkserver")
    },
    "process pool of a trained model": """
        from concurrent.futures import ProcessPoolExecutor
        model = BackpropClassifier((40,), random_state=0, max_iter=5).fit(X, y)
        with ProcessPoolExecutor(2) as pool:
            for scores in pool.map(model.predict_proba, [X, X, X]):
                assert (scores == model.predict_proba(X)).all()
    """,
    "eight daemon threads that end": """
        threads = [threading.Thread(target=train, daemon=True) for _ in range(8)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
    """,
    "a child forked in a fit exits by sys.exit": """
        force_threads(3)
        start_endless()
        for _ in range(3):
            pid = os.fork()
            if pid == 0:
                train()
                sys.exit(0)
            assert os.waitpid(pid, 0)[1] == 0
        os._exit(0)
    """,
    "a child forked in a prediction": """
        big = rng.standard_normal((20000, 20))
        model = BackpropClassifier((200, 200), random_state=0, max_iter=1).fit(X, y)
        expected, stop = model.predict(big), threading.Event()
        def predict():
            while not stop.is_set(): model.predict(big)
        thread = threading.Thread(target=predict); thread.start()
        for _ in range(5):
            pid = os.fork()
            if pid == 0:
                os._exit(0 if (model.predict(big) == expected).all() else 3)
            assert os.waitpid(pid, 0)[1] == 0
        stop.set(); thread.join()
    """,
    **{
        f"exit in a daemon's fit: {how}, {kind}": f"""
        {"force_threads(3)" if kind == "threads: 3" else ""}
        start_endless({settings})
        {code}
        """
        for how, code in EXITS.items()
        for kind, settings in (
            ("threads: 1", "n_threads=1"),
            ("threads: 3", ""),
            ("lbfgs", "solver='lbfgs', max_fun=10**9"),
        )
    },
    "exit in a daemon's fit: falls off the end, numba": """
        BackpropClassifier((40,), engine="numba", max_iter=1).fit(X, y)
        start_endless(engine="numba")
    """,
    "exit in a daemon's fit: early stopping": "start_endless(early_stopping=True)",
    "exit in a daemon's verbose fit": """
        sys.stdout = open(os.devnull, "w")
        start_endless(verbose=True)
    """,
    "exit in a daemon's partial_fit": """
        model = BackpropClassifier((40,), random_state=0)
        def go():
            while True: model.partial_fit(X, y, classes=[0, 1])
        threading.Thread(target=go, daemon=True).start()
        time.sleep(0.3)
    """,
}

SIGNALS = {"SIGTERM": -signal.SIGTERM, "SIGINT": 1}


def run_program(body, *, beginning=BEGINNING, guard=True, expected=0):
    """Run a program; returns "" or what went wrong."""
    body = textwrap.dedent(body)
    if guard:
        body = 'if __name__ == "__main__":\n' + textwrap.indent(body + "\npass", "    ")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "program.py"  # a file: spawned children import it
        path.write_text(beginning + "\n" + body, encoding="utf-8")
        try:
            done = subprocess.run(
                [sys.executable, "-X", "faulthandler", str(path)], capture_output=True, text=True,
                timeout=LIMIT_S, check=False, cwd=ROOT,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return "hangs"
    if done.returncode != expected:
        return f"exit code {done.returncode}: {done.stderr.strip()[-300:]}"
    return f"says: {done.stderr.strip()[-300:]}" if "Fatal Python error" in done.stderr else ""


def kill_in_a_fit(number):
    """Send a signal to a program that fits in its main thread; returns "" or what went wrong."""
    program = BEGINNING + (
        "\nimport signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
        "\nforce_threads(3); print('ready', flush=True)"
        "\nBackpropClassifier((40,), **ENDLESS).fit(X, y)\nsys.exit(1)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    ) as process:
        process.stdout.readline()
        try:
            process.wait(0.5)
        except subprocess.TimeoutExpired:
            process.send_signal(number)
        try:
            code = process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            return "does not end"
    return "" if code == SIGNALS[number.name] else f"exit code {code}"


def main():
    from test_parallel import FORK_CASES, FORK_PROGRAM

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help="cases whose name has these words")
    arguments = parser.parse_args()
    figures = Figures(f"process life: {arguments.rounds} rounds")
    jobs = {
        f"fork {name}": lambda body=body: run_program(body, beginning=FORK_PROGRAM, guard=False)
        for name, body in FORK_CASES.items()
    }
    jobs |= {name: lambda body=body: run_program(body) for name, body in PROGRAMS.items()}
    jobs |= {
        f"{name} in a fit": lambda name=name: kill_in_a_fit(getattr(signal, name))
        for name in SIGNALS
    }
    n_runs = n_wrong = 0
    for name, job in jobs.items():
        if arguments.only and arguments.only not in name:
            continue
        wrong = [words for words in (job() for _ in range(arguments.rounds)) if words]
        n_runs += arguments.rounds
        n_wrong += len(wrong)
        figures.require(name, not wrong, wrong[0] if wrong else "")
    figures.add("programs run", n_runs, least=1)
    figures.add("programs that hung, crashed or were wrong", n_wrong, most=0)
    figures.finish()


if __name__ == "__main__":
    main()
