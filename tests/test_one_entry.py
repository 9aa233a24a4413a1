"""One entry is enough: an activation, a loss or a solver that joins its table works everywhere.

Entries of this file stand in the tables for the time of a test: without a C loop and without a line
in any other file of fastbp.  And what people read names every entry that there is, or a test says
which is missing.
"""

import hashlib
import inspect
import math
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import reference
from problems import HYPERPARAMETERS, LEARNING_RATES, draw_regression

import fastbp
from fastbp import (
    Activation,
    BackpropClassifier,
    BackpropRegressor,
    activations,
    losses,
    optimizers,
)
from fastbp.activations import ACTIVATIONS
from fastbp.descriptions import number_rule
from fastbp.inspection import check_gradients
from fastbp.losses import CLASSIFICATION_LOSSES, LOSSES, NAMED_LOSSES, REGRESSION_LOSSES
from fastbp.optimizers import OPTIMIZERS, Optimizer
from fastbp.schedules import SCHEDULES

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

DOCS = Path(__file__).parents[1] / "docs"

# --- rows of this file ----------------------------------------------------------------------------


def squareplus(z):
    """(z + sqrt(z^2 + 4)) / 2."""
    return 0.5 * (z + math.sqrt(z * z + 4.0))


def squareplus_slope(a):
    """a^2 / (a^2 + 1), from z = a - 1 / a."""
    return a * a / (a * a + 1.0)


def log_cosh(y_true, raw):
    """log(cosh(s - y)), so written that exp never overflows."""
    error = abs(raw - y_true)
    return error + math.log1p(math.exp(-2.0 * error)) - math.log(2.0)


def log_cosh_gradient(y_true, raw):
    """tanh(s - y)."""
    return math.tanh(raw - y_true)


class LogCosh(losses.RegressionLoss):
    name = "log_cosh"
    formulas = {"real": (log_cosh, log_cosh_gradient)}


def adagrad_update(w, g, slots, learning_rate, t, hyper):
    """Step by the gradient over the root of the sum of its squares (Duchi et al. 2011)."""
    total = slots[0] + g * g
    return w - learning_rate * g / (math.sqrt(total) + hyper[0]), (total,)


class AdaGrad(Optimizer):
    name = "adagrad"
    _rules = {"epsilon": (number_rule(float, "(", 0.0, math.inf, ")"),)}
    update = staticmethod(adagrad_update)
    n_slots = 1

    def __init__(self, epsilon=1e-8):
        self.epsilon = epsilon


ADDED = {
    activations: (squareplus, squareplus_slope),
    losses: (log_cosh, log_cosh_gradient, LogCosh),
    optimizers: (adagrad_update, AdaGrad),
}
for _module, _things in ADDED.items():
    for _thing in _things:
        _thing.__module__ = _module.__name__


def reference_adagrad(w, g, slots, learning_rate, t, hyper):
    total = slots[0] + g**2
    return w - learning_rate * g / (np.sqrt(total) + hyper["epsilon"]), [total]


@pytest.fixture
def added(monkeypatch):
    """The rows in the tables, and in nothing else but the reference."""
    from fastbp.engine.numba import caching

    if caching._DIGEST is not None:  # what is compiled here is stale when this file changes, too
        own = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]
        monkeypatch.setattr(caching, "_DIGEST", f"{caching._DIGEST}_{own}")
    for module, things in ADDED.items():
        for thing in things:
            monkeypatch.setattr(module, thing.__name__, thing, raising=False)
    row = Activation(squareplus, squareplus_slope, "activation", 6 / 1.6)
    monkeypatch.setitem(ACTIVATIONS, "squareplus", row)
    monkeypatch.setitem(NAMED_LOSSES, "log_cosh", LogCosh())
    monkeypatch.setitem(LOSSES, "log_cosh", LogCosh().entry("real"))
    monkeypatch.setitem(OPTIMIZERS, "adagrad", AdaGrad())
    for parameter, name in (
        ("activation", "squareplus"), ("loss", "log_cosh"), ("solver", "adagrad")
    ):  # fmt: skip
        test = BackpropRegressor._parameter_rules[parameter][0][0]
        monkeypatch.setattr(test, "names", test.names | {name})
    tables = {
        "ACTIVATIONS": (
            "squareplus",
            (lambda z: (z + np.hypot(z, 2)) / 2, lambda z: (1 + z / np.hypot(z, 2)) / 2),
        ),
        "LOSSES": (
            "log_cosh",
            (
                lambda y, s: (np.logaddexp(s - y, y - s) - np.log(2)).sum(axis=1),
                lambda y, s: np.tanh(s - y),
                False,
            ),
        ),
        "OPTIMIZERS": ("adagrad", (1, reference_adagrad)),
    }
    for table, (name, entry) in tables.items():
        monkeypatch.setitem(getattr(reference, table), name, entry)
    return SimpleNamespace(
        names=dict(activation="squareplus", loss="log_cosh", solver="adagrad"),
        objects=dict(activation=row, loss=LogCosh(), solver=AdaGrad()),
    )


X, Y = draw_regression(60, 4)
SETTINGS = dict(
    hidden_layer_sizes=(7,), batch_size=60, max_iter=5, learning_rate_init=0.01, random_state=0,
    tol=10.0, n_iter_no_change=5, dtype="float64", shuffle=False,
)  # fmt: skip


def test_it_trains_by_name_as_the_reference_does(added, engine_name):
    model = BackpropRegressor(**added.names, **SETTINGS, engine=engine_name).fit(X, Y)
    sizes, random_state = (4, 7, 1), np.random.RandomState(0)
    start = [
        reference.draw_parameters(sizes[:2], random_state, factor=6 / 1.6),
        reference.draw_parameters(sizes[1:], random_state, factor=6 / 1.6, output=0.0),
    ]
    params, expected, _, _ = reference.train(
        np.concatenate(start), sizes, ["squareplus"], "log_cosh", X, Y[:, None], None,
        [np.arange(60)] * 5, batch_size=60, alpha=1e-4, learning_rate=0.01, optimizer="adagrad",
        hyper={"epsilon": 1e-8},
    )  # fmt: skip
    np.testing.assert_allclose(model.loss_curve_, expected, rtol=reference.FLOAT64_TOLERANCE)
    scores = reference.predict(params, sizes, ["squareplus"], X)
    np.testing.assert_allclose(model.predict(X), scores[:, 0], rtol=0, atol=1e-10)


def test_its_object_is_its_name(added, engine_name):
    settings = SETTINGS | {"engine": engine_name}
    named = BackpropRegressor(**added.names, **settings).fit(X, Y)
    owned = BackpropRegressor(**added.objects, **settings).fit(X, Y)
    np.testing.assert_array_equal(named.predict(X), owned.predict(X))


@pytest.mark.parametrize("name", ["softplus", "logistic"])
def test_formulas_that_files_name_where_they_once_stood_are_found(name):
    from fastbp import values

    for module in ("activations", "losses"):
        assert values._read_formula(f"{module}.{name}", {}) is ACTIVATIONS[name].value


@pytest.mark.parametrize("form", ["names", "objects"])
def test_it_is_saved_and_goes_on(added, form, tmp_path):
    model = BackpropRegressor(**getattr(added, form), **SETTINGS).fit(X, Y)
    fastbp.save(model, tmp_path / "model.safetensors")
    again = fastbp.load(tmp_path / "model.safetensors")
    assert again.get_params() == model.get_params()
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    np.testing.assert_array_equal(
        again.partial_fit(X, Y).predict(X), model.partial_fit(X, Y).predict(X)
    )


def test_it_is_looked_into(added):
    model = BackpropRegressor(**added.names, **SETTINGS).fit(X, Y)
    assert check_gradients(model, X, Y).ok
    assert "squareplus" in model.summary()


def test_exports_refuse_an_activation_by_its_name(added, tmp_path):
    model = BackpropRegressor(activation="squareplus", **SETTINGS).fit(X, Y)
    with pytest.raises(ValueError, match="C source cannot hold the activation 'squareplus'"):
        model.to_c(tmp_path / "model.c")
    with pytest.raises(ValueError, match="MLP cannot hold the activation 'squareplus'"):
        model.to_sklearn()
    assert not list(tmp_path.iterdir())
    skl2onnx = pytest.importorskip("skl2onnx")
    import fastbp.onnx

    fastbp.onnx.register()
    with pytest.raises(ValueError, match="ONNX cannot hold the activation 'squareplus'"):
        skl2onnx.to_onnx(model, X[:1])


def test_exports_hold_what_was_trained_by_any_loss_and_solver(added, tmp_path):
    model = BackpropRegressor(**added.names | {"activation": "tanh"}, **SETTINGS).fit(X, Y)
    model.to_c(tmp_path / "model.c")  # which compares it with the model
    with pytest.raises(ValueError, match="lacks loss='log_cosh'"):
        model.to_sklearn()


# --- C loops --------------------------------------------------------------------------------------


def has_c_loop(engine, monkeypatch, row, kernel):
    """Whether the compiled engine finds a C loop of this name for a row."""
    compiled = []

    def find_kernels():
        compiled.append(row)
        return fastbp.engine.find_kernels()

    monkeypatch.setattr(inspect.getmodule(engine.Session), "find_kernels", find_kernels)
    rows = {"activation": ACTIVATIONS["relu"], "loss": LOSSES["squared_error"]}
    kind = {Activation: "activation", fastbp.Loss: "loss"}.get(type(row), "solver")
    if kind != "solver":
        rows[kind] = type(row)(**row.get_params(deep=False) | {"kernel": kernel})
    session = engine.Session(
        (2, 2, 3), [rows["activation"]], rows["loss"], dtype=np.float64, params=np.zeros(15),
        batch_size=2,
    )  # fmt: skip
    if kind == "solver":
        named = type(row)()
        named.kernel = kernel
        session.set_optimizer(named, row.get_params())
    session.close()
    return not compiled


ROWS = [
    *ACTIVATIONS.values(), *LOSSES.values(),
    *(row for row in OPTIMIZERS.values() if row.stochastic),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_rows_say_which_c_loops_there_are(compiled_engine, monkeypatch, row):
    if row.kernel is not None:
        assert has_c_loop(compiled_engine, monkeypatch, row, row.kernel), (
            f"{row.name!r} names the C loop {row.kernel!r}, which there is not"
        )
    else:
        assert not has_c_loop(compiled_engine, monkeypatch, row, row.name), (
            f"{row.name!r} has a C loop, which its row does not name"
        )


@pytest.mark.parametrize("kind", ["activation", "loss", "solver"])
def test_a_missing_c_loop_is_found_missing(added, compiled_engine, monkeypatch, kind):
    row = {"activation": ACTIVATIONS["squareplus"], "loss": LOSSES["log_cosh"]}.get(kind, AdaGrad())
    assert not has_c_loop(compiled_engine, monkeypatch, row, row.name)


# --- what people read -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "parameter", "names"),
    [
        (BackpropClassifier, "activation", ACTIVATIONS),
        (BackpropRegressor, "activation", ACTIVATIONS),
        (BackpropClassifier, "loss", CLASSIFICATION_LOSSES),
        (BackpropRegressor, "loss", REGRESSION_LOSSES),
        (BackpropClassifier, "solver", OPTIMIZERS),
        (BackpropRegressor, "solver", OPTIMIZERS),
        (BackpropClassifier, "learning_rate", SCHEDULES),
        (BackpropRegressor, "learning_rate", SCHEDULES),
    ],
)
def test_docstrings_name_every_row(kind, parameter, names):
    listed = re.search(rf"^{parameter} : {{(.*?)}}", inspect.getdoc(kind), re.M | re.S)[1]
    listed = re.findall(r"'(\w+)'", listed)
    for name in names:
        assert name in listed, f"docstring of {kind.__name__} {parameter!r} does not name {name!r}"
    for name in listed:
        assert name in names, f"docstring of {kind.__name__} {parameter!r} names {name!r}, no row"


@pytest.mark.parametrize(
    ("page", "kind", "names"),
    [
        ("activations", "activation", ACTIVATIONS),
        ("losses", "loss", NAMED_LOSSES),
        ("solvers", "solver", OPTIMIZERS),
        ("solvers", "schedule", SCHEDULES),
    ],
)
def test_pages_name_every_row(page, kind, names):
    text = (DOCS / "guide" / f"{page}.rst").read_text("utf-8")
    for name in names:
        assert f'   * - "{name}"' in text, f"docs/guide/{page}.rst does not name {kind} {name!r}"


@pytest.mark.parametrize("table", [NAMED_LOSSES, OPTIMIZERS, SCHEDULES])
def test_the_reference_lists_every_class(table):
    pages = [path for path in DOCS.glob("api/*.rst") if not path.name.startswith("fastbp.")]
    listed = " ".join(path.read_text("utf-8") for path in pages).split()
    for row in table.values():
        place = f"{type(row).__module__.removeprefix('fastbp.')}.{type(row).__name__}"
        assert place in listed, f"no page of docs/api lists {place}"


def test_the_hyper_parameters_of_the_tests_are_those_of_the_rows():
    assert set(HYPERPARAMETERS) == set(LEARNING_RATES)
    for name, hyper in HYPERPARAMETERS.items():
        assert set(hyper) == set(OPTIMIZERS[name].hyperparameters)
