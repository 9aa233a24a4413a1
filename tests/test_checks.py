"""A short run of each check of trust, and the defects that they found.

The checks themselves, with their figures, are commands: ``python -m checks.NAME``.  A time here
only guards against a hang, at ten times the bound that the command has.
"""

import os
import random
import subprocess
import sys
import warnings
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from covering import first_of
from engines import ENGINES
from problems import HYPERPARAMETERS, draw_classes, draw_problem, draw_regression
from scipy import sparse
from sessions import open_session
from sklearn.exceptions import ConvergenceWarning

import fastbp
from fastbp import BackpropClassifier, BackpropRegressor
from fastbp.activations import ACTIVATIONS
from fastbp.engine import get_engine
from fastbp.losses import LOSSES
from fastbp.optimizers import OPTIMIZERS

sys.path.append(str(Path(__file__).parents[1]))  # last: an installed fastbp comes first

from checks import ROOT, determinism, fuzz_engine, fuzz_estimators, kills, memory, processes
from checks import numbers as edges
from checks.faults import FAULTS
from checks.figures import Figures
from checks.interrupts import Watch, draw_jobs, interrupt
from checks.workers import limited_memory

ESTIMATORS = [BackpropClassifier, BackpropRegressor]
needs_proc = pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="reads /proc")
needs_native = pytest.mark.skipif("cython" not in ENGINES, reason="the engine is not built")


def fit(model, X, y, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X, y, **kwargs)


# --- fuzzers --------------------------------------------------------------------------------------


@needs_native
@pytest.mark.parametrize("first", first_of(range(0, 60, 10)))
def test_random_sessions(first):
    engine = get_engine("cython")
    before, path = engine.instruction_set(), engine.get_matmul_path()
    try:
        for number in range(first, first + 10):
            fuzz_engine.run_case(number, "cython")
    finally:
        engine.set_instruction_set(before)
        engine.set_matmul_path(path)


@needs_native
@pytest.mark.parametrize("spoil", fuzz_engine.SPOILERS)
def test_bad_arguments_at_the_door(spoil):
    """They would read beside an array or never end; the session goes on."""
    case = fuzz_engine.Case(np.random.default_rng(5), get_engine("cython"))
    case.n_samples, case.spoil, case.learning_rate = 20, spoil, 1e-3
    fuzz_engine.train_spoiled(case, case.draw(), case.hyperparameters())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("capsys")
@pytest.mark.parametrize("first", first_of(range(0, 400, 100)))
def test_random_settings(first):
    with limited_memory():
        for number in range(first, first + 100):
            fuzz_estimators.run_case(number, ENGINES[0])


def test_parameters_are_drawn_by_their_rules():
    """A fuzzer that draws defaults only would find nothing."""
    rng = np.random.default_rng(0)
    for kind in ESTIMATORS:
        seen = {}
        for _ in range(2000):
            for name, value in fuzz_estimators.draw_settings(rng, kind, "cython").items():
                seen.setdefault(name, set()).add(repr(value))
        assert seen.keys() == kind._parameter_rules.keys()
        described = {"loss", "engine"}  # of one name, or given
        assert all(len(values) > 1 for name, values in seen.items() if name not in described)


# --- the engine's interface -----------------------------------------------------------------------


def train(session, problem, n_epochs=2):
    losses = np.zeros(n_epochs)
    session.train(
        problem.X, problem.targets, None, None, shuffle=None, batch_size=16, alpha=0.0,
        learning_rate=0.01, n_epochs=n_epochs, losses=losses,
    )  # fmt: skip
    return losses


def test_training_needs_an_optimizer(engine):
    problem = draw_problem((5, 9, 2))
    with closing(open_session(engine, problem)) as session:
        with pytest.raises(RuntimeError, match="set_optimizer"):
            train(session, problem)
        with pytest.raises(RuntimeError, match="set_optimizer"):
            session.slots_into(np.zeros((2, len(problem.params))))


@pytest.mark.parametrize("batch_size", [1, 7, 16, 60])
def test_minibatches_may_be_larger_than_the_session_was_told(engine, batch_size):
    problem, results = draw_problem((5, 9, 2)), []
    for capacity in (batch_size, 60):
        with closing(open_session(engine, problem, batch_size=capacity)) as session:
            session.set_optimizer(OPTIMIZERS["adam"], HYPERPARAMETERS["adam"])
            results.append(train(session, problem))
    np.testing.assert_allclose(*results, rtol=1e-12)


def test_prediction_needs_a_row_for_each_sample(engine):
    problem = draw_problem((5, 9, 2))
    with (
        closing(open_session(engine, problem)) as session,
        pytest.raises(ValueError, match="60 rows"),
    ):
        session.predict_into(problem.X, np.zeros((59, 2)))


def test_sizes_that_no_vector_has_are_refused(compiled_engine):
    problem = draw_problem((5, 9, 2))
    huge = type(problem)(**{**vars(problem), "sizes": (5, 2**62, 2)})
    with pytest.raises(ValueError, match="parameters"):
        open_session(compiled_engine, huge)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_epsilon_that_vanishes_divides_nothing_by_nothing(engine, dtype):
    """Units that relu switches off have gradients of 0."""
    problem = draw_problem((5, 9, 2))
    hyper = HYPERPARAMETERS["adam"] | {"epsilon": 1e-320}
    X, targets, _, _ = problem.in_dtype(dtype)
    with closing(open_session(engine, problem, dtype)) as session:
        session.set_optimizer(OPTIMIZERS["adam"], hyper)
        session.train(
            X * 0, targets, None, None, shuffle=None, batch_size=16, alpha=0.0, learning_rate=0.01,
            n_epochs=3, losses=np.zeros(3),
        )  # fmt: skip
        assert session.finite


def test_gradient_of_samples_without_weight_is_refused(engine):
    problem = draw_problem((5, 9, 2))
    with (
        closing(open_session(engine, problem)) as session,
        pytest.raises(ValueError, match="weights of 60 samples sum to 0"),
    ):
        session.loss_and_gradient(
            problem.params, problem.X, problem.targets, np.zeros(60), alpha=0.1,
            gradient=np.zeros_like(problem.params),
        )  # fmt: skip


def test_the_float_state_is_given_back(forced_compiled_engine):
    """The engine flushes subnormal numbers to 0, the caller's arithmetic does not."""
    problem = draw_problem((5, 9, 2))
    small = np.full(3, 1e-310)
    with closing(open_session(forced_compiled_engine, problem, threads=2)) as session:
        session.set_optimizer(OPTIMIZERS["adam"], HYPERPARAMETERS["adam"])
        train(session, problem)
        assert (small * 1.0 > 0).all()
        session.predict_into(problem.X, np.zeros((60, 2)))
        assert (small * 1.0 > 0).all()


# --- what no longer passes in silence -------------------------------------------------------------


def test_scores_that_overflow_after_the_last_step_are_an_error():
    """Weights and losses are finite, the sum of their products is not."""
    X = np.random.default_rng(0).standard_normal((60, 9)) * 1e30
    y = np.arange(60) % 5
    model = BackpropClassifier((), solver="sgd", max_iter=1, random_state=0)
    with pytest.raises(ValueError, match="non-finite"):
        fit(model, X, y)
    assert not hasattr(model, "coefs_")


@pytest.mark.skipif(os.name != "posix", reason="raises a POSIX signal")
def test_an_interrupt_does_not_keep_weights_that_diverged(monkeypatch):
    X, y = draw_regression(60, 5)
    engine = get_engine()
    plain = engine.Session

    class Interrupted(plain):
        def train(self, *args, **kwargs):
            super().train(*args, **kwargs)
            raise KeyboardInterrupt

    monkeypatch.setattr(engine, "Session", Interrupted)
    model = BackpropRegressor(solver="sgd", learning_rate_init=1e30, max_iter=3, random_state=0)
    with (
        pytest.warns(UserWarning, match="[Ii]nterrupted"),
        pytest.raises(ValueError, match="non-finite"),
    ):
        model.fit(X, y)
    assert not hasattr(model, "coefs_")


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("factor", [1e-310, 1e-42, 1e38, 1e306])
def test_weights_whose_sum_has_no_inverse_are_refused(kind, factor):
    X, y = draw_classes(60, 5, 3)
    dtype = "float64" if not 1e-100 < factor < 1e100 else "float32"
    with pytest.raises(ValueError, match="sample_weight has values beyond the range"):
        kind(dtype=dtype).fit(X, y, sample_weight=np.full(60, factor))


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("heavy", ["training", "validation"])
def test_a_part_without_weight_is_refused(kind, heavy):
    X, y = draw_classes(60, 5, 2)
    model = kind(early_stopping=True, random_state=0, validation_fraction=0.1)
    expected = np.random.RandomState(0)
    size = sum((a + 1) * b for a, b in [(5, 100), (100, 1)])
    expected.uniform(size=size)  # the initial weights come first
    from sklearn.model_selection import train_test_split

    stratify = y if kind is BackpropClassifier else None
    _, held_out = train_test_split(
        np.arange(60), random_state=expected, test_size=0.1, stratify=stratify
    )
    weight = np.isin(np.arange(60), held_out) == (heavy == "validation")
    with pytest.raises(ValueError, match="weight 0"):
        model.fit(X, y, sample_weight=weight.astype(float))


def break_labels(X, y):
    Y = sparse.csr_matrix(np.column_stack([y, 1 - y]))
    Y.indices[3] = 10**6
    return X, Y


def break_coordinates(X, y):
    matrix = sparse.coo_matrix(X)
    row, column = matrix.coords
    matrix.coords = row[:-1], column
    return matrix, y


def break_type(X, y):
    matrix = sparse.csr_matrix(X)
    matrix.indices = matrix.indices + 0.5
    return matrix, y


@pytest.mark.parametrize("spoil", [break_labels, break_coordinates, break_type])
def test_malformed_sparse_matrices(spoil):
    """scipy's own conversion would read beside its arrays."""
    X, y = draw_classes(60, 5, 2)
    with pytest.raises(ValueError, match="malformed"):
        BackpropClassifier(max_iter=2).fit(*spoil(X, y))


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("name", ["alpha", "learning_rate_init", "tol", "n_iter_no_change"])
def test_integers_beyond_every_float_are_refused(kind, name):
    X, y = draw_classes(60, 5, 2)
    with pytest.raises(ValueError, match=f"'{name}' parameter"):
        kind(**{name: 10**400}).fit(X, y)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_predictions_beyond_the_dtype_of_X_are_float64(solver):
    X, y = draw_regression(60, 5)
    model = BackpropRegressor(
        solver=solver, dtype="float64", hidden_layer_sizes=(3,), max_iter=2, random_state=0
    )
    fit(model, X, y)
    model.intercepts_[-1][:] = 1e60
    assert np.isfinite(model.predict(X)).all()
    found = model.predict(X.astype(np.float32))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, 1e60)


# --- memory ---------------------------------------------------------------------------------------


@needs_proc
@pytest.mark.parametrize("kind", memory.KINDS)
@pytest.mark.filterwarnings("ignore")
def test_fits_leave_nothing(kind):
    with memory.forced_threads(2):
        grown, threads, files = memory.repeat(kind, 16)
    assert (threads, files) == (0, 0)
    assert grown < 10 * memory.MEGABYTE


@needs_proc
def test_sessions_give_their_memory_back(engine):
    """Wide ones: 40 of them would hold 160 MB."""
    sizes = (500, 1000, 1)
    params = np.zeros(500 * 1000 + 1000 + 1000 + 1)

    def open_and_close():
        arguments = sizes, [ACTIVATIONS["relu"]], LOSSES["squared_error"]
        engine.Session(*arguments, dtype=np.float64, params=params, batch_size=16).close()

    open_and_close()
    before = memory.resident_bytes()
    for _ in range(40):
        open_and_close()
    assert memory.resident_bytes() - before < 40 * memory.MEGABYTE


@pytest.mark.parametrize("kind", memory.KINDS)
@pytest.mark.filterwarnings("ignore")
def test_fits_leave_nothing_to_the_cycle_collector(kind):
    assert memory.count_survivors(kind) == 0


@needs_native
@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("job", memory.list_memory_jobs(), ids=lambda job: job[0])
def test_each_allocation_may_fail(job, n_threads):
    _, fit, work = job
    with memory.forced_threads(n_threads):
        n_failed, defects = memory.fail_each_allocation(fit, work)
    assert n_failed >= 5
    assert not defects


@pytest.mark.repeats  # `python -m checks.memory` does it at seven limits
@needs_proc
@needs_native
def test_fits_under_a_limit_of_memory():
    assert set(memory.fit_under_limit(96 << 20)) <= {"fitted", "MemoryError"}


# --- processes and interrupts ---------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize(
    "name",
    first_of(
        [
            "exit in a daemon's fit: falls off the end, threads: 3",
            "a child forked in a fit exits by sys.exit",
            "exit in a daemon's fit: an atexit handler that fits, threads: 1",
            "exit in a daemon's partial_fit",
        ],
    ),
)
@needs_native
def test_process_life(name):
    assert processes.run_program(processes.PROGRAMS[name]) == ""


@pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")
@needs_native
def test_nobody_waits_for_a_fit():
    jobs = {name: rest for name, *rest in draw_jobs()}
    for name in ("two threads", "lbfgs"):
        most_s, model, data = jobs[name]
        with Watch() as watch:
            assert interrupt(model, data, 0.3) < 10 * most_s
        assert max(watch.thread_wait, watch.handler_wait) < 10 * 0.25


# --- numbers and determinism ----------------------------------------------------------------------

QUICK_EDGES = [edge for edge in edges.list_edges() if "5000" not in edge[0]]


@pytest.mark.parametrize("edge", QUICK_EDGES, ids=lambda edge: edge[0])
def test_edges_are_finite_or_an_error(edge):
    _, model, X, y = edge
    assert edges.try_edge(model.set_params(max_iter=2), X, y) in ("finite", "a clear error")


@pytest.mark.parametrize("job", list(determinism.list_jobs()), ids=lambda job: job[0])
def test_the_address_of_X_never_shows(job):
    _, model, X, y = job
    if sparse.issparse(X):
        X = X.toarray()
    expected = determinism.digest(model, X, y)
    for offset in (1, 3):
        assert determinism.digest(model, determinism.aligned(X, offset), y) == expected
    assert determinism.digest(model, np.asfortranarray(X), y) == expected


@pytest.mark.skipif(os.name != "posix", reason="dies of a POSIX signal")
def test_a_case_that_crashes_is_reported(tmp_path):
    """The fuzzers' supervisor must not take a dead worker for a quiet one."""
    program = (
        "import os, sys; sys.path.append({root!r})\n"
        "from checks import workers\n"
        "def run_case(number, engine):\n"
        "    if number == 2: os.abort()\n"
        "    if number == 4: raise IndexError('gone')\n"
        "    return 'fine'\n"
        "if __name__ == '__main__': workers.run('{name}', run_case, 'Crash on purpose.', 6)\n"
    )
    (tmp_path / "crashing.py").write_text(program.format(root=str(ROOT), name="crashing"))
    done = subprocess.run(
        [sys.executable, "-m", "crashing"], capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(tmp_path)}, cwd=tmp_path, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1
    assert "FAIL case 2: crash: SIGABRT" in done.stdout
    assert "FAIL case 4: IndexError" in done.stdout
    assert "fine: 4" in done.stdout


# --- faults ---------------------------------------------------------------------------------------


def test_every_fault_finds_its_place():
    """Or it is never put in, and the mutation check stops there.

    Beside an installed package there are no sources of the native engine.
    """
    is_checkout = (ROOT / "fastbp").is_dir()
    root = ROOT if is_checkout else Path(fastbp.__file__).parents[1]
    placed = [fault for fault in FAULTS if is_checkout or fault.path.endswith(".py")]
    text = {path: (root / path).read_text("utf-8") for path in {fault.path for fault in placed}}
    for fault in placed:
        assert text[fault.path].count(fault.old) > fault.nth, fault.what
    assert len(placed) > 40


# --- kills ----------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.parametrize("list_cases", first_of([kills.list_fits, kills.list_searches]))
def test_killed_fits_and_searches_end_with_their_bits(list_cases):
    n = 9 if list_cases is kills.list_fits else 1
    found = kills.run(list_cases()[:3], n, random.Random(1), Figures("kills"))
    assert found["kills"] >= n
    assert found["wrong"] == found["late"] == 0
    assert found["once"] <= found["epochs"] <= found["most"]
