"""The Numba engine next to the compiled one, and the kernels that both take from it."""

import copy
import itertools
import subprocess
import sys
from contextlib import closing

import numpy as np
import pytest
from covering import cover_pairs, naming
from problems import HYPERPARAMETERS, LEARNING_RATES, draw_problem

from fastbp.activations import ACTIVATIONS
from fastbp.engine import get_engine
from fastbp.losses import LOSSES
from fastbp.optimizers import OPTIMIZERS

CASES = [
    dict(sizes=(5, 7, 3), activation="relu"),
    dict(sizes=(5, 7, 6, 13), loss="log_loss", activation="tanh"),
    dict(sizes=(5, 4, 1), loss="poisson", activation="logistic", weighted=True),
    dict(sizes=(5, 17, 3), loss="binary_log_loss", activation="identity", density=0.3),
    dict(sizes=(5, 2), density=0.3),
    dict(sizes=(5, 20, 20, 1), n_samples=1500, weighted=True, activation="tanh"),
    dict(sizes=(5, 7, 3), loss="huber", activation="gelu", weighted=True),
    dict(sizes=(5, 7, 3), loss="quantiles", activation="elu", weighted=True),
    dict(sizes=(5, 7, 2), loss="tweedie", activation="mish"),
    dict(sizes=(5, 7, 2), loss="gamma", activation="silu"),
    dict(sizes=(5, 7, 3), loss="focal", activation="softplus", density=0.3),
    dict(sizes=(5, 7, 3), loss="smoothed_log_loss", activation="selu"),
    dict(sizes=(5, 7, 2), loss="binary_focal", activation="leaky_relu"),
    dict(sizes=(200, 101, 37, 3), activation="logistic", n_samples=100),  # divided by columns
]


def without_kernel(row):
    """Return the row as if it had no C loop."""
    row = copy.copy(row)
    row.kernel = None  # a setting of activations and losses, an attribute of solvers' classes
    return row


def without_derivative(row):
    """Return the row without C loop and derivative."""
    row = without_kernel(row)
    if hasattr(row, "slope"):
        return row.set_params(slope=None, slope_of="pre_activation")
    return row.set_params(gradient=None) if getattr(row, "target", None) == "real" else row


def train(engine, problem, optimizer, dtype, change=lambda row: row, batch_size=16):
    """Return losses, weights and raw scores after ten epochs."""
    X, targets, weight, params = problem.in_dtype(dtype)
    rows = [change(ACTIVATIONS[name]) for name in problem.activations]
    losses, order = np.empty(10), np.arange(len(targets))
    scores = np.empty((len(targets), problem.sizes[-1]), dtype)
    with closing(
        engine.Session(
            problem.sizes, rows, change(LOSSES[problem.loss]), dtype=dtype, params=params,
            batch_size=batch_size, n_threads=2, sparse=not isinstance(X, np.ndarray),
        )
    ) as session:  # fmt: skip
        row = OPTIMIZERS[optimizer]
        row = row if change is without_derivative else change(row)
        session.set_optimizer(row, HYPERPARAMETERS[optimizer])
        session.force_threads(2)
        session.train(
            X, targets, weight, order, shuffle=np.random.RandomState(3), batch_size=batch_size,
            alpha=0.01, learning_rate=LEARNING_RATES[optimizer], n_epochs=10, losses=losses,
        )  # fmt: skip
        session.params_into(params)
        session.predict_into(X, scores)
    return losses, params, scores


@pytest.mark.parametrize("case", CASES, ids=str)
def test_engines_agree(compiled_engine, case):
    problem = draw_problem(**case)
    for optimizer, batch_size in itertools.product(["sgd", "adam"], [16, 1400]):
        arguments = problem, optimizer, np.float64
        batch_size = min(batch_size, problem.X.shape[0])
        found = train(get_engine("numba"), *arguments, batch_size=batch_size)
        expected = train(compiled_engine, *arguments, batch_size=batch_size)
        with naming(optimizer, batch_size):
            for left, right in zip(found, expected, strict=True):
                np.testing.assert_allclose(left, right, rtol=0, atol=1e-10)


# Of pairs only: every formula without its derivative is compiled anew.
FORMULAS = cover_pairs(
    range(len(CASES)), [without_kernel, without_derivative], [np.float32, np.float64],
    ["sgd", "adam"],
)  # fmt: skip


@pytest.mark.parametrize("case", range(len(CASES)), ids=lambda at: str(CASES[at]))
def test_rows_need_no_c_loop(compiled_engine, case):
    """The compiled engine computes the same from the formulas, in rows, losses and optimisers."""
    problem = draw_problem(**CASES[case])
    for at, change, dtype, optimizer in FORMULAS:
        if at != case:
            continue
        made = train(compiled_engine, problem, optimizer, dtype, change)
        built_in = train(compiled_engine, problem, optimizer, dtype)
        exact = dtype == np.float64
        with naming(change.__name__, dtype, optimizer):
            np.testing.assert_allclose(made[0], built_in[0], rtol=1e-10 if exact else 5e-5)
            np.testing.assert_allclose(made[2], built_in[2], rtol=0, atol=1e-10 if exact else 1e-3)


def test_read_only_data_need_no_compilation_of_their_own():
    from fastbp.engine.numba import minibatch

    problem = draw_problem((5, 7, 3))
    train(get_engine("numba"), problem, "adam", np.float64)
    n_compiled = len(minibatch.advance.signatures)
    for array in (problem.X, problem.targets):
        array.flags.writeable = False
    X, targets = problem.X, problem.targets
    losses = np.empty(2)
    with closing(
        get_engine("numba").Session(
            problem.sizes, [ACTIVATIONS["relu"]], LOSSES["squared_error"], dtype=np.float64,
            params=problem.params, batch_size=16,
        )
    ) as session:  # fmt: skip
        session.set_optimizer(OPTIMIZERS["adam"], HYPERPARAMETERS["adam"])
        session.train(
            X, targets, None, None, shuffle=None, batch_size=16, alpha=0.0, learning_rate=0.01,
            n_epochs=2, losses=losses,
        )  # fmt: skip
    assert losses[1] < losses[0]
    assert len(minibatch.advance.signatures) == n_compiled


COMPILED = """
import numpy as np
from fastbp import BackpropClassifier
X = np.random.default_rng(0).standard_normal((40, 3))
BackpropClassifier((4,), engine="numba", max_iter=2, tol=1e9).fit(X, X[:, 0] > 0)
from fastbp.engine.numba import minibatch
stats = minibatch.advance.stats
found = sum(stats.cache_misses.values()), sum(stats.cache_hits.values())
"""


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_compiled_once_and_found_on_disk():
    """This process compiles for each dtype unless another one has; the second finds it."""
    names = {}
    exec(COMPILED, names)
    assert sum(names["found"]) == len(names["minibatch"].advance.signatures)
    for left in (2, 1, 0):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", f"{COMPILED}\nprint(*found)"],
            capture_output=True, text=True,
        )  # fmt: skip
        found = done.returncode, done.stdout.split()
        if found == (0, ["0", "1"]):
            break
        assert left, (found, done.stderr)  # other tests' processes write into the same index


# --- elementary functions -------------------------------------------------------------------------

SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -1.0, -2.0, 1e38, -1e38]
MOST_ULP = {"exp": 2, "expm1": 2, "log": 3, "log1p": 3, "tanh": 3}


@pytest.mark.skipif(
    np.finfo(np.longdouble).eps > 1e-18, reason="long double is no wider than double here"
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", MOST_ULP)
def test_elementary_functions_are_accurate(name, dtype):
    """Against NumPy's in extended precision, and as NumPy's for NaN, infinity and poles."""
    from numba import njit

    from fastbp.engine.numba import elementary
    from fastbp.engine.numba.caching import OPTIONS

    function = getattr(elementary, name)

    @njit(**OPTIONS)
    def evaluate(x, out):
        for i in range(x.size):
            out[i] = function(x[i])

    ends = np.geomspace(1e-30, 0.9999, 2001), np.geomspace(1e-30, 80.0, 2001)
    x = np.concatenate([*ends, np.linspace(0.4, 2.4, 2001), np.geomspace(1.0, 1e30, 201)])
    if name != "log":
        x = np.concatenate([x, -ends[0]])
    if name not in ("log", "log1p"):
        x = np.concatenate([x[x < 80], -ends[1]])
    x = np.concatenate([x, SPECIAL]).astype(dtype)
    out = np.full_like(x, 7.0)
    evaluate(x, out)
    with np.errstate(all="ignore"):
        exact = getattr(np, name)(x.astype(np.longdouble))
        exact[np.abs(exact) > np.finfo(dtype).max] *= np.inf
    usual = np.isfinite(exact)
    np.testing.assert_array_equal(out[~usual], exact[~usual])
    ulp = np.spacing(np.maximum(np.abs(exact[usual]), np.finfo(dtype).tiny).astype(dtype))
    assert (np.abs(out[usual] - exact[usual]) / ulp).max() <= MOST_ULP[name]
