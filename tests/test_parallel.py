"""How many threads, and that their number never shows: bits, forks, fits side by side."""

import functools
import os
import subprocess
import sys
import textwrap
import threading
import warnings

import joblib
import numpy as np
import pytest
from covering import cover_pairs
from problems import draw_classes, draw_counts, draw_labels, draw_regression
from sklearn.exceptions import ConvergenceWarning

from fastbp import BackpropClassifier, BackpropRegressor
from fastbp.engine import get_engine, parallel
from fastbp.engine.parallel import available_threads, thread_ceiling

THREADS = [1, 2, 3, 7]


# --- the policy -----------------------------------------------------------------------------------


@pytest.fixture
def eight_cores(monkeypatch):
    """Pretend that the process may use eight cores, and that nothing limits it."""
    monkeypatch.setattr(parallel, "available_threads", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(
    ("n_threads", "expected"), [(None, 8), (-1, 8), (1, 1), (3, 3), (8, 8), (9, 8), (10**6, 8)]
)
def test_ceiling(n_threads, expected):
    assert thread_ceiling(n_threads) == expected


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("2", 2),
        ("1", 1),
        ("99", 8),
        ("4,2", 4),
        (" 3 ", 3),
        ("", 8),
        ("many", 8),
        ("0", 1),
        ("-2", 8),
    ],
)
def test_omp_num_threads_limits_the_default_only(limit, expected, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", limit)
    assert thread_ceiling(None) == expected
    assert thread_ceiling(5) == 5
    assert thread_ceiling(-1) == 8


def test_loky_max_cpu_count_limits_all(monkeypatch):
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    assert available_threads() == 1
    assert thread_ceiling(None) == thread_ceiling(-1) == thread_ceiling(5) == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no cpu affinity on this system")
def test_affinity_limits_all(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert available_threads() == 1
        assert thread_ceiling(None) == thread_ceiling(-1) == thread_ceiling(5) == 1
    finally:
        os.sched_setaffinity(0, before)
    assert available_threads() <= len(before)


def test_workers_of_a_search_share_the_cores(monkeypatch):
    """Two loky workers together use no more threads than there are cores."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)  # loky leaves a user's number in force
    with joblib.parallel_backend("loky", n_jobs=2):
        ceilings = joblib.Parallel()(joblib.delayed(thread_ceiling)(None) for _ in range(4))
    assert max(ceilings) <= max(1, joblib.cpu_count() // 2)


# --- the same bits --------------------------------------------------------------------------------


@pytest.fixture
def force_threads(monkeypatch):
    """Return a function that makes every later fit use exactly so many threads."""
    engine = get_engine()
    session = engine.Session

    def force(n_threads):
        class Forced(session):
            def __init__(self, *args, **kwargs):
                super().__init__(*args, **kwargs)
                self.force_threads(n_threads)

        monkeypatch.setattr(engine, "Session", Forced)

    return force


def fit(model, X, y, **kwargs):
    """Fit; few epochs may end before convergence."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X, y, **kwargs)


def describe(model, X):
    """Return everything that a fit leaves, as bytes."""
    numbers = [*model.coefs_, *model.intercepts_, model.predict(X)]
    if hasattr(model, "predict_proba"):
        numbers.append(model.predict_proba(X))
    bits = b"".join(np.ascontiguousarray(number).tobytes() for number in numbers)
    history = (
        getattr(model, "loss_curve_", None), getattr(model, "validation_scores_", None),
        model.loss_, model.n_iter_, getattr(model, "t_", None),
    )  # fmt: skip
    return bits, history


KINDS = {
    "multiclass": (BackpropClassifier, functools.partial(draw_classes, n_classes=4)),
    "multilabel": (BackpropClassifier, functools.partial(draw_labels, n_labels=3)),
    "regression": (BackpropRegressor, functools.partial(draw_regression, n_outputs=1)),
    "counts": (functools.partial(BackpropRegressor, "poisson"), draw_counts),
}


@pytest.mark.parametrize(
    ("kind", "solver", "dtype"),
    cover_pairs(KINDS, ["sgd", "adam", "lbfgs"], ["float32", "float64"]),
)
def test_fits_are_the_same_on_any_number_of_threads(kind, solver, dtype, force_threads):
    """Down to the epoch in which the tolerance ends training."""
    estimator, draw = KINDS[kind]
    X, y = draw(700, 20)
    weight = np.random.default_rng(0).uniform(0.5, 2, 700)
    results = []
    for n_threads in THREADS:
        force_threads(n_threads)
        model = estimator(
            hidden_layer_sizes=(33, 17), solver=solver, dtype=dtype, random_state=0, tol=3e-3,
            n_iter_no_change=3, max_iter=15 if solver == "lbfgs" else 100, learning_rate_init=0.005,
        )  # fmt: skip
        results.append(describe(fit(model, X, y, sample_weight=weight), X))
    assert all(result == results[0] for result in results[1:])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_early_stopping_is_the_same_on_any_number_of_threads(dtype, force_threads):
    X, y = draw_classes(700, 20, 4)
    results = []
    for n_threads in THREADS:
        force_threads(n_threads)
        model = BackpropClassifier(
            (33,), dtype=dtype, random_state=0, early_stopping=True, learning_rate_init=0.01
        )
        results.append(describe(fit(model, X, y), X))
    assert all(result == results[0] for result in results[1:])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_the_number_may_change_between_calls(solver, dtype, force_threads):
    X, y = draw_classes(700, 20, 4)
    results = []
    for plan in ([1, 1, 1, 1], [1, 3, 2, 7], [7, 2, 1, 1]):
        model = BackpropClassifier((33, 17), solver=solver, dtype=dtype, random_state=0)
        for n_threads in plan:
            force_threads(n_threads)
            model.partial_fit(X, y, classes=np.arange(4))
        results.append(describe(model, X))
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("n_threads", [1, 2, 3, 7, -1, None])
def test_the_parameter_never_shows(n_threads):
    X, y = draw_classes(3000, 40, 4)
    params = dict(hidden_layer_sizes=(64, 32), random_state=0, max_iter=3)
    expected = describe(fit(BackpropClassifier(**params, n_threads=1), X, y), X)
    assert describe(fit(BackpropClassifier(**params, n_threads=n_threads), X, y), X) == expected


# --- side by side ---------------------------------------------------------------------------------


@pytest.mark.parametrize("n_fits", [2, 8])
@pytest.mark.parametrize("forced", [None, 2])
def test_fits_side_by_side(n_fits, forced, force_threads):
    """Fits in Python threads end, and give what each gives alone."""
    if forced:
        force_threads(forced)
    X, y = draw_classes(600, 20, 4)
    models = [BackpropClassifier((40,), random_state=seed, max_iter=20) for seed in range(n_fits)]
    alone = [describe(fit(BackpropClassifier(**m.get_params()), X, y), X) for m in models]

    def run(model):
        with warnings.catch_warnings():
            model.fit(X, y)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        threads = [threading.Thread(target=run, args=(m,), daemon=True) for m in models]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)
    assert [describe(model, X) for model in models] == alone


def test_one_model_predicts_in_many_threads():
    X, y = draw_classes(4000, 20, 4)
    model = fit(BackpropClassifier((40,), random_state=0, max_iter=3), X, y)
    expected = model.predict_proba(X)
    with joblib.parallel_backend("threading", n_jobs=4):
        results = joblib.Parallel()(joblib.delayed(model.predict_proba)(X) for _ in range(12))
    for result in results:
        np.testing.assert_array_equal(result, expected)


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="lists threads in /proc")
def test_no_thread_outlives_a_fit(force_threads):
    """Nor one that ends in an error."""
    X, y = draw_classes(600, 20, 4)
    force_threads(3)
    before = set(os.listdir("/proc/self/task"))
    fit(BackpropClassifier((40,), max_iter=3), X, y).predict(X)
    with pytest.raises(ValueError, match="finite"):
        fit(BackpropClassifier((40,), solver="sgd", learning_rate_init=1e30), X, y)
    assert set(os.listdir("/proc/self/task")) <= before


# --- forks ----------------------------------------------------------------------------------------

FORK_PROGRAM = """
import os, sys, threading, time, warnings
import numpy as np
warnings.simplefilter("ignore")
from fastbp import BackpropClassifier
from fastbp.engine import get_engine

engine = get_engine()
plain = engine.Session

class Forced(plain):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.force_threads(3)

engine.Session = Forced
rng = np.random.default_rng(0)
X = rng.standard_normal((600, 20))
y = (X[:, 0] > 0).astype(int)

def train(max_iter=5):
    model = BackpropClassifier((40,), random_state=0, max_iter=max_iter, tol=0.0)
    return model.fit(X, y)

def bits(model):
    return b"".join(w.tobytes() for w in model.coefs_) + model.predict_proba(X).tobytes()

def in_child(work):
    "Run in a forked child; its exit code 0 means that work() was true."
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if work() else 2
        finally:
            os._exit(code)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            assert status == 0, f"child ended with {os.waitstatus_to_exitcode(status)}"
            return
        time.sleep(0.01)
    os.kill(pid, 9)
    raise AssertionError("the child hangs")
"""

FORK_CASES = {
    "before a fit": """
in_child(lambda: len(bits(train())) > 0)
expected = bits(train())
in_child(lambda: bits(train()) == expected)
""",
    "after a fit": """
model = train()
expected, scores = bits(train()), model.predict_proba(X)
in_child(lambda: bits(train()) == expected)
in_child(lambda: (model.predict_proba(X) == scores).all())
in_child(lambda: bits(model.fit(X, y)) == expected)
assert bits(train()) == expected
""",
    "in the middle of partial_fit": """
model = BackpropClassifier((40,), random_state=0)
twin = BackpropClassifier((40,), random_state=0)
for m in (model, twin):
    m.partial_fit(X, y, classes=[0, 1])
twin.partial_fit(X, y)
in_child(lambda: bits(model.partial_fit(X, y)) == bits(twin))
assert bits(model.partial_fit(X, y)) == bits(twin)
""",
    "during a fit": """
n_epochs = 900 if engine.NAME == "cython" else 3000  # a child of Numba's takes longer
expected, short = bits(train(n_epochs)), bits(train())
results = []
thread = threading.Thread(target=lambda: results.append(bits(train(n_epochs))))
thread.start()
time.sleep(0.05)
for _ in range(2):
    in_child(lambda: bits(train()) == short)
assert thread.is_alive(), "the fit ended before the forks: give it more epochs"
thread.join(120)
assert results == [expected]
in_child(lambda: bits(train()) == short)
""",
    "with an open session": """
from fastbp.activations import ACTIVATIONS
from fastbp.losses import LOSSES
from fastbp.optimizers import OPTIMIZERS
n_params = 21 * 40 + 41
params = np.random.default_rng(1).uniform(-0.3, 0.3, n_params)
targets = y[:, None].astype(float)
session = engine.Session((20, 40, 1), [ACTIVATIONS["relu"]], LOSSES["binary_log_loss"],
                         dtype=np.float64, params=params, batch_size=100, n_threads=3)
session.set_optimizer(OPTIMIZERS["adam"], {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8})

def go_on():
    session.train(X, targets, None, None, shuffle=None, batch_size=100, alpha=0.0,
                  learning_rate=0.01, n_epochs=3, losses=np.zeros(3))
    out = np.empty(n_params)
    session.params_into(out)
    return out.tobytes()

go_on()
reader, writer = os.pipe()

def child():
    os.write(writer, go_on())
    session.close()
    return True

in_child(child)
os.close(writer)
received = b""
while chunk := os.read(reader, 1 << 16):
    received += chunk
assert received == go_on()
session.close()
""",
    "two generations": """
expected = bits(train())

def child():
    ok = bits(train()) == expected
    in_child(lambda: bits(train()) == expected)
    return ok and bits(train()) == expected

in_child(child)
""",
}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("alone", [False, True], ids=["one after the other", "during a fit"])
def test_fork(alone):
    """The cases share a process, but for the one whose threads are still there."""
    cases = [case for case in FORK_CASES if (case == "during a fit") == alone]
    assert alone or cases[0] == "before a fit"
    parts = [f"print({case!r}, flush=True)\n{textwrap.dedent(FORK_CASES[case])}" for case in cases]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join([FORK_PROGRAM, *parts])],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
