"""Activations and losses of a user's own: plain functions in both engines, checked and guarded.

A user's function is compiled once per process and dtype, for both engines: what asks several things
of one function asks them in one test.
"""

import functools
import gc
import itertools
import math
import pickle
import re
import subprocess
import sys
import threading
import warnings

import cloudpickle
import numba
import numpy as np
import pytest
import scipy.sparse
import scipy.special
import sklearn.metrics
import userland
from covering import as_repeat, cover_pairs, first_of, naming
from engines import ENGINES
from problems import draw_classes, draw_counts, draw_labels, draw_regression
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from fastbp import (
    Activation,
    BackpropClassifier,
    BackpropRegressor,
    GradientFlowDisplay,
    Loss,
    find_learning_rate,
    inspection,
)
from fastbp.activations import ACTIVATIONS
from fastbp.engine import find_kernels, get_engine
from fastbp.losses import LOSSES

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

DTYPES = ["float32", "float64"]
SMALL = dict(hidden_layer_sizes=(7, 5), max_iter=10, batch_size=16, random_state=0)


@pytest.fixture
def regression():
    return draw_regression(61, 5)


@pytest.fixture
def binary():
    X, y = draw_classes(61, 5, 2)
    return X, y


# --- the same as a built-in -----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_own_loss_and_activation_equal_the_built_in(regression, dtype):
    for engine, solver in itertools.product(ENGINES, ["sgd", "adam", "lbfgs"]):
        with naming(engine, solver):
            check_own_against_built_in(regression, engine, solver, dtype)


def check_own_against_built_in(regression, engine, solver, dtype):
    """Train with the formulas of a user and with the same of fastbp."""
    X, y = regression
    settings = dict(SMALL, dtype=dtype, engine=engine, solver=solver)
    own = BackpropRegressor(
        Loss(userland.own_squared_error, constant=("mean",)),
        activation=[Activation(userland.own_relu, userland.own_relu_slope), "tanh"],
        **settings,
    ).fit(X, y)
    relu_tanh = BackpropRegressor(activation=["relu", "tanh"], **settings).fit(X, y)
    rtol = 1e-5 if dtype == "float32" else 1e-10
    if solver == "lbfgs":
        rtol = 1e-3  # its line search doubles a rounding error every iteration
    assert own.loss_ == pytest.approx(relu_tanh.loss_, rel=rtol)
    np.testing.assert_allclose(own.predict(X), relu_tanh.predict(X), rtol=0, atol=10 * rtol)


@pytest.mark.parametrize(("name", "dtype"), first_of(zip(ACTIVATIONS, itertools.cycle(DTYPES)), 2))
def test_derived_slope_equals_the_built_in(name, dtype):
    """In whole trainings all of them are, in `test_numba_engine.py`."""
    z = np.linspace(-6.1, 5.9, 97).astype(dtype)
    for engine in map(get_engine, ENGINES):
        own, own_slopes, built_in, slopes = z.copy(), z.copy(), z.copy(), z.copy()
        engine.activate_into(Activation(ACTIVATIONS[name].value), own, own_slopes)
        engine.activate_into(ACTIVATIONS[name], built_in, slopes)
        tolerance = 8 * np.finfo(dtype).eps
        with naming(engine.NAME):
            np.testing.assert_allclose(own, built_in, rtol=tolerance, atol=tolerance)
            np.testing.assert_allclose(own_slopes, slopes, rtol=20 * tolerance, atol=tolerance)


LINKS = [
    ("binary", userland.own_log_loss, "log_loss", None),
    ("multilabel", userland.own_log_loss, "log_loss", "logit"),
    ("counts", userland.own_poisson, "poisson", "log"),
]


def test_links():
    for case, engine, weighted in itertools.product(LINKS, ENGINES, [False, True]):
        with naming(case, engine, weighted):
            check_link(*case, engine, weighted)


def check_link(kind, own, name, link, engine_name, weighted):
    """Train with a loss of a user and with the same of fastbp."""
    draw = {
        "binary": lambda: draw_classes(61, 5, 2),
        "multilabel": lambda: draw_labels(61, 5, 3),
        "counts": lambda: draw_counts(61, 5),
    }
    X, y = draw[kind]()
    weight = np.random.default_rng(0).integers(0, 3, len(X)) if weighted else None
    settings = dict(SMALL, dtype="float64", engine=engine_name)
    kind = BackpropRegressor if kind == "counts" else BackpropClassifier
    mine = kind(loss=Loss(own, link=link, constant=("mean",)), **settings).fit(
        X, y, sample_weight=weight
    )
    peer = kind(loss=name, **settings).fit(X, y, sample_weight=weight)
    assert mine.out_activation_ == peer.out_activation_
    np.testing.assert_allclose(mine.loss_curve_, peer.loss_curve_, rtol=1e-10)
    np.testing.assert_array_equal(mine.predict(X).shape, peer.predict(X).shape)
    np.testing.assert_allclose(mine.predict(X), peer.predict(X), rtol=1e-9)


FUNCTIONS = [
    userland.silu,
    userland.leaky_relu,
    userland.gelu,
    userland.one_plus_cosine,
    userland.calls_a_helper,
]


# Each in one dtype, some in both.
FUNCTIONS_IN_DTYPES = [
    *zip(FUNCTIONS, itertools.cycle(DTYPES)), as_repeat((userland.silu, "float64")),
    as_repeat((userland.one_plus_cosine, "float32")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("function", "dtype"), FUNCTIONS_IN_DTYPES, ids=lambda it: getattr(it, "__name__", it)
)
def test_functions_of_a_user(regression, function, dtype):
    """Values, slopes and whole trainings; also where layers are no whole panels and f(0) not 0."""
    check_values_and_slopes(function, dtype)
    X, y = regression
    found = [
        BackpropRegressor(
            userland.smooth_huber, activation=function, engine=engine, dtype=dtype, n_threads=n,
            **SMALL,
        ).fit(X, y)
        for engine, n in (("auto", 1), ("auto", 2), ("numba", 1))
    ]  # fmt: skip
    rtol = 1e-10 if dtype == "float64" else 5e-5
    for other in found[1:]:
        np.testing.assert_allclose(other.loss_curve_, found[0].loss_curve_, rtol=rtol)
        np.testing.assert_allclose(
            other.predict(X), found[0].predict(X), rtol=0, atol=1e-9 if dtype == "float64" else 1e-3
        )


def check_values_and_slopes(function, dtype):
    """Compare with Python's values and their central differences."""
    z, step = np.linspace(-5.03, 5.07, 57).astype(dtype), 1e-5
    exact = [function(float(x)) for x in z]
    differences = [(function(float(x) + step) - function(float(x) - step)) / 2 / step for x in z]
    tolerance = 1e-8 if dtype == "float64" else 2e-5
    for engine in map(get_engine, ENGINES):
        a, slopes = z.copy(), z.copy()
        engine.activate_into(Activation(function), a, slopes)
        with naming(engine.NAME):
            np.testing.assert_allclose(a, exact, rtol=tolerance, atol=tolerance)
            np.testing.assert_allclose(slopes, differences, rtol=tolerance, atol=tolerance)


def everything(z):
    """Every construct once, with a derivative everywhere."""
    w = abs(z) + 0.1
    total = 0.0
    for k in range(1, 3):
        total += z**k / k
    total += math.log(w) + np.log2(w) + math.log10(w) + np.log1p(w) + math.sqrt(w) + w**1.5
    total += np.sin(z) * np.cos(z) + math.tan(z / 9) + np.arctan(z) + math.atan2(z, 2.0)
    total += np.sinh(z / 3) + math.cosh(z / 3) + np.tanh(z) + math.asinh(z) + math.erf(z)
    total += np.exp(-w) + np.expm1(z / 2) + np.exp2(z / 3) + 2.0**z + np.square(z) + 1 / w
    total -= np.maximum(z, 0.3) - np.minimum(z, 0.3) + max(z, 0.2) - min(0.2, z)
    total *= np.where(z > 0.7, z, 0.7) + np.clip(z, -1.3, 1.3) + np.logaddexp(z, 0.0)
    return total if z > -2 and not math.isnan(z) else -total


def test_constructs():
    z, step = np.linspace(-5.03, 5.07, 57), 1e-6
    for engine in map(get_engine, ENGINES):
        a, slopes = z.copy(), z.copy()
        engine.activate_into(Activation(everything), a, slopes)
        np.testing.assert_allclose(a, [everything(x) for x in z], rtol=1e-13)
        expected = [(everything(x + step) - everything(x - step)) / 2 / step for x in z]
        np.testing.assert_allclose(slopes, expected, rtol=1e-6, atol=1e-6)


def test_naive_exponentials_do_not_spoil_slopes():
    for engine in map(get_engine, ENGINES):
        z = np.array([-200.0, -95.0, 0.0, 95.0, 200.0], np.float32)
        a, slopes = z.copy(), z.copy()
        engine.activate_into(Activation(userland.silu), a, slopes)
        np.testing.assert_allclose(slopes, [0, 0, 0.5, 1, 1], atol=1e-30)


# --- settings, descriptions -----------------------------------------------------------------------


def test_lists_mix_names_functions_and_objects(engine_name, binary):
    X, y = binary
    activation = ["tanh", userland.silu, Activation(userland.gelu)]
    model = BackpropClassifier((4, 4, 4), activation, engine=engine_name, max_iter=3)
    assert model.fit(X, y).predict_proba(X).shape == (61, 2)
    model.set_params(activation=activation[:2])
    with pytest.raises(ValueError, match="activation has 2 entries for 3 hidden layers"):
        model.fit(X, y)


@pytest.mark.parametrize("activation", ["gelu?", 3, [3], ["tanh", None]])
def test_what_is_no_activation_is_refused(binary, activation):
    with pytest.raises(
        ValueError, match="The 'activation' parameter of BackpropClassifier must be"
    ):
        BackpropClassifier((3, 3), activation).fit(*binary)


def test_multiclass_takes_no_elementwise_loss(engine_name):
    X, y = draw_classes(61, 5, 4)
    with pytest.raises(ValueError, match="more than two classes"):
        BackpropClassifier(loss=userland.own_log_loss, engine=engine_name).fit(X, y)


def test_link_that_does_not_fit_is_refused(binary):
    with pytest.raises(ValueError, match="link"):
        BackpropClassifier(loss=Loss(userland.own_log_loss, link="log")).fit(*binary)


def test_descriptions_are_equal_by_their_settings():
    one, same = Activation(userland.silu), Activation(userland.silu)
    assert one == same
    assert hash(one) == hash(same)
    assert one != Activation(userland.silu, factor=2.0)
    assert one != Loss(userland.silu)
    assert clone(one) == one
    assert pickle.loads(pickle.dumps(one)) == one
    assert one.name == "silu"
    assert repr(one).startswith("Activation(value=<function silu at ")
    model = BackpropClassifier((3,), one, loss=Loss(userland.own_log_loss))
    assert "activation=Activation(value=<function silu" in " ".join(repr(model).split())
    assert ACTIVATIONS["tanh"] == clone(ACTIVATIONS["tanh"])
    assert LOSSES["poisson"].get_params()["target_min"] == 0.0


# --- safety ---------------------------------------------------------------------------------------


def takes_gamma(z):
    w = z + 1
    return math.gamma(w)


def returns_text(z):
    return "large" if z > 0 else "small"


def forgets_a_branch(z):
    if z > 0:
        return z
    return None


def calls_itself_in_turn(z):
    return calls_back(z) if z > 0 else z


def calls_back(z):
    return calls_itself_in_turn(z) if z < 0 else z


def uses_what_is_not_there(z):
    return z + not_there  # noqa: F821


@pytest.mark.parametrize(
    ("function", "parts"),
    [
        (takes_gamma, ["return math.gamma(w)", "gamma(number)"]),
        (returns_text, ["must return a number"]),
        (forgets_a_branch, ["must return a number in every branch"]),
        (uses_what_is_not_there, ["return z + not_there", "'not_there' is not defined"]),
        (lambda z, more: z, ["1 argument"]),
        (scipy.special.expit, ["none of the functions of math and numpy"]),
        (calls_itself_in_turn, ["calls_back"]),
        (functools.partial(userland.leaky, steepness=0.1), ["keywords ['steepness']", "'slope'"]),
        (functools.partial(math.sqrt, x=1.0), ["keywords ['x']"]),
    ],
)
def test_what_cannot_be_compiled_is_shown(binary, function, parts):
    with pytest.raises(ValueError, match="cannot be compiled") as caught:
        BackpropClassifier(activation=function).fit(*binary)
    for part in parts:
        assert part in str(caught.value)
    if hasattr(function, "__code__"):
        assert __file__.rsplit("/", 1)[-1] in str(caught.value)


@pytest.mark.parametrize(
    ("activation", "message"),
    [
        (lambda z: np.log(z), "is nan at \\(-7.9\\)"),
        (lambda z: np.log(abs(z)), "is -inf at \\(0\\)"),
        (lambda z: np.sqrt(abs(z)), "derivative (nan|inf) at \\(0\\)"),
        (Activation(userland.silu, lambda z: 2.0), "given by .* is 2 at .* differences .* give"),
        (userland.raises_far_out, None),
    ],
)
def test_activations_are_checked_on_a_grid(binary, activation, message):
    for engine in ENGINES:
        model = BackpropClassifier(activation=activation, engine=engine, max_iter=1)
        if message is None:
            model.fit(*binary)
            continue
        with warnings.catch_warnings(), naming(engine):
            warnings.simplefilter("ignore", RuntimeWarning)
            with pytest.raises(ValueError, match=message):
                model.fit(*binary)
            assert not hasattr(model, "coefs_")


def test_losses_are_checked_on_the_targets(regression):
    X, y = regression
    wrong = Loss(userland.own_squared_error, lambda y_true, raw: y_true - raw)
    for engine in ENGINES:
        with pytest.raises(ValueError, match="central differences"):
            BackpropRegressor(wrong, engine=engine).fit(X, y)


def test_failure_while_training_names_epoch_and_function(regression):
    """Of a function that makes NaN, whatever slope it has, and whether the next layer hides it."""
    functions = [
        userland.nan_far_out,
        Activation(userland.nan_far_out, userland.slope_of_nan_far_out),
    ]
    for case in cover_pairs(ENGINES, functions, ["tanh", userland.hides_nan], ["adam", "lbfgs"]):
        with naming(*case):
            check_failure_while_training(regression, *case)


def check_failure_while_training(regression, engine_name, function, last, solver):
    """Train where the first layer makes NaN sooner or later."""
    X, y = regression
    model = BackpropRegressor(
        hidden_layer_sizes=(5, 5), activation=[function, last], solver=solver, max_iter=200,
        engine=engine_name, random_state=0, tol=0, n_iter_no_change=200, learning_rate_init=0.5,
    )  # fmt: skip
    name = function.name if isinstance(function, Activation) else function.__name__
    with pytest.raises(ValueError, match=rf"in (epoch|iteration) \d+; .*'{name}'") as e:
        model.fit(10 * X, 10 * y)
    assert "NaN or infinite" in str(e.value)
    assert not hasattr(model, "coefs_")


@pytest.mark.filterwarnings("ignore:X_val has another scale")
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_failure_on_validation_data_names_epoch_and_function(engine_name, regression, solver):
    X, y = regression
    model = BackpropRegressor(
        hidden_layer_sizes=(5,), activation=[userland.nan_far_out], solver=solver, max_iter=3,
        engine=engine_name, random_state=0,
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"validation data is NaN after .* 1,.*'nan_far_out'"):
        model.fit(X, y, X_val=np.vstack([X, 1000 * X]), y_val=np.append(y, y))
    assert not hasattr(model, "coefs_")


# --- exceptions of the user's own -----------------------------------------------------------------


class RefusalError(Exception):
    """An exception of the user's that nobody else knows."""


def refuses_far_out(z):
    if z > 12:
        raise RefusalError("too far")
    return z


def slope_refuses_far_out(z):
    if z > 12:
        raise RefusalError("too steep")
    return 1.0


def refuses(y_true, raw):
    raise RefusalError("never")


def refuses_large_scores(y_true, raw):
    if raw > 3:
        raise RefusalError("too large")
    return 0.5 * (y_true - raw) ** 2


def row_refuses(code, raw):
    if raw[0] > 0.5:
        raise RefusalError("first class")
    return -raw[code]


def row_gradient(code, raw, out):
    for k in range(len(raw)):
        out[k] = 0.0
    out[code] = -1.0


FAR = dict(hidden_layer_sizes=(5, 5), max_iter=200, tol=0, n_iter_no_change=200, random_state=0)


def test_what_an_activation_raises_in_training_arrives_as_it_is(regression):
    """Its value, its slope, or its slope as a function of the value."""
    functions = [
        refuses_far_out,
        Activation(userland.same, slope_refuses_far_out),
        Activation(userland.same, slope_refuses_far_out, "activation"),
    ]
    for case in cover_pairs(ENGINES, functions, ["tanh", userland.hides_nan], ["adam", "lbfgs"]):
        with naming(*case):
            check_refusal_in_training(regression, *case)


def check_refusal_in_training(regression, engine_name, function, last, solver):
    """Train where the first layer raises sooner or later."""
    X, y = regression
    model = BackpropRegressor(
        activation=[function, last],
        solver=solver,
        engine=engine_name,
        learning_rate_init=0.5,
        **FAR,
    )
    with pytest.raises(RefusalError, match="too") as caught:
        model.fit(10 * X, 10 * y)
    name = function.name if isinstance(function, Activation) else function.__name__
    (note,) = caught.value.__notes__
    assert re.search(rf"activation '{name}' .*test_user_functions.*|userland.*", note)
    number, when = re.search(r"raised this at \((\S+)\) in (epoch|iteration) \d+", note).groups()
    assert float(number) > 12
    assert when == ("epoch" if solver == "adam" else "iteration")
    assert not hasattr(model, "coefs_")


def test_what_a_loss_raises_in_training_arrives_as_it_is(regression):
    X, y = regression
    for engine, solver in itertools.product(ENGINES, ["adam", "lbfgs"]):
        model = BackpropRegressor(
            Loss(refuses_large_scores, link="log"), solver=solver, engine=engine,
            learning_rate_init=0.1, **FAR,
        )  # fmt: skip
        with naming(engine, solver), pytest.raises(RefusalError, match="too large"):
            model.fit(100 * X, 100 * y)


def test_what_a_loss_of_rows_raises_arrives_as_it_is():
    X, y = draw_classes(61, 5, 3)
    loss = Loss(row_refuses, row_gradient, target="class")
    for engine in ENGINES:
        model = BackpropClassifier((4,), loss=loss, engine=engine, learning_rate_init=0.5)
        with naming(engine), pytest.raises(RefusalError, match="first class"):
            model.fit(X, y)


def test_what_functions_raise_on_the_grid_arrives_as_it_is(binary, regression):
    cases = [
        (BackpropClassifier(activation=lambda z: math.log(z)), binary, ValueError, "-7.9"),
        (BackpropClassifier(activation=lambda z: 1 / z), binary, ZeroDivisionError, "0"),
        (BackpropRegressor(lambda y, raw: math.log(y) * raw), regression, ValueError, "-"),
    ]
    for model, data, error, where in cases:
        with pytest.raises(error) as caught:
            model.fit(*data)
        note = caught.value.__notes__[0]
        assert "'<lambda>' (" in note
        assert f"raised this at ({where}" in note


def test_what_a_loss_raises_before_training_arrives_as_it_is(engine_name, regression):
    for loss in (refuses, refuses_large_scores):
        with pytest.raises(RefusalError):
            BackpropRegressor(loss, engine=engine_name).fit(*regression)


@pytest.mark.filterwarnings("ignore:X_val has another scale")
def test_what_an_activation_raises_in_predictions_arrives_as_it_is(engine_name, regression):
    X, y = regression
    model = BackpropRegressor(activation=refuses_far_out, engine=engine_name, max_iter=1)
    model.fit(X, y)
    far = np.vstack([X, 1000 * X])
    for call in (model.predict, model.transform):
        with pytest.raises(RefusalError, match="too far"):
            call(far)
        with pytest.raises(RefusalError, match="too far"):
            call(scipy.sparse.csr_array(far))
    with pytest.raises(RefusalError) as caught:
        model.fit(X, y, X_val=far, y_val=np.append(y, y))
    assert "the validation data after epoch 1" in caught.value.__notes__[0]


def refuses_far_scores(y_true, raw):
    if raw > 50:
        raise RefusalError("too far")
    return 0.5 * (y_true - raw) ** 2


LOOKS = {
    "loss_and_gradients": inspection.loss_and_gradients,
    "check_gradients": inspection.check_gradients,
    "diagnose": inspection.diagnose,
    "input_gradients": lambda model, X, y: inspection.input_gradients(model, X),
    "find_learning_rate": find_learning_rate,
}


@pytest.mark.parametrize("name", LOOKS)
def test_what_functions_raise_when_looked_at_arrives_as_it_is(engine_name, regression, name):
    X, y = regression
    models = [
        BackpropRegressor("squared_error", (8,), [refuses_far_out]),
        BackpropRegressor("squared_error", (8, 8), [refuses_far_out, userland.hides_nan]),
    ]
    if name != "input_gradients":  # which asks for no loss
        models.append(BackpropRegressor(refuses_far_scores, (8,), "identity"))
    for model in models:
        model.set_params(engine=engine_name, max_iter=3, random_state=0).fit(X, y)
        with pytest.raises(RefusalError, match="too far") as caught:
            LOOKS[name](model, 1000 * X, y)
        assert "raised this at (" in caught.value.__notes__[0]
        LOOKS[name](model, X, y)  # what it raised before is forgotten
        model.fit(X, y)


def test_a_flow_of_gradients_that_raises_is_not_drawn(regression):
    pytest.importorskip("matplotlib")
    X, y = regression
    model = BackpropRegressor(activation=refuses_far_out, max_iter=1).fit(X, y)
    with pytest.raises(RefusalError, match="too far"):
        GradientFlowDisplay.from_estimator(model, 1000 * X, y)


def test_the_best_constant_is_sought_where_a_loss_is_defined(regression):
    """What it refuses there is no score of the network's."""

    def refuses_beyond(y_true, raw):
        if raw > 8.2:
            raise RefusalError("too far")
        return 0.5 * (y_true - raw) ** 2

    X, y = regression
    model = BackpropRegressor(refuses_beyond, (), max_iter=1).fit(X / 100, y)
    skill = inspection.diagnose(model, X / 100, 9.5 + y / 100).numbers["skill"]
    assert skill is None or skill < 0.1


@pytest.mark.parametrize(
    "error", [RefusalError("enough"), StopIteration("enough"), KeyError("enough")]
)
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_what_a_scorer_raises_arrives_as_it_is(regression, solver, error):
    X, y = regression

    def scorer(estimator, X, y):
        raise error

    model = BackpropRegressor(solver=solver, scoring=scorer, max_iter=3)
    with pytest.raises(type(error)) as caught:
        model.fit(X, y, X_val=X, y_val=y)
    assert caught.value is error
    assert any("scoring=<function" in note for note in error.__notes__)
    assert not hasattr(model, "coefs_")


def test_what_a_schedule_raises_arrives_as_it_is(regression):
    error = RefusalError("enough")

    def schedule(step, n_steps):
        if step > 3:
            raise error
        return 1.0

    with pytest.raises(RefusalError) as caught:
        BackpropRegressor(learning_rate=schedule, batch_size=16).fit(*regression)
    assert caught.value is error
    assert "step 4 of " in error.__notes__[0]


@pytest.mark.parametrize("name", ["X_val", "y_val"])
def test_what_data_raise_arrives_as_it_is(regression, name):
    X, y = regression
    error = type("OwnError", (ValueError,), {})("no data")

    class Data:
        shape = (61,)

        def __len__(self):
            return 61

        def __array__(self, dtype=None, copy=None):
            raise error

    with pytest.raises(ValueError, match="no data") as caught:
        BackpropRegressor().fit(X, y, **{"X_val": X, "y_val": y, name: Data()})
    assert caught.value is error
    assert error.__notes__ == [f"fastbp: this is about {name}."]


# --- functions of many kinds ----------------------------------------------------------------------


class Callable:
    """An object that is called like a function."""

    def __call__(self, *arguments):
        return arguments[-1]

    def method(self, *arguments):
        return arguments[-1]


class Unhashable(Callable):
    __hash__ = None


SAME_AS_LEAKY = {
    "default": (userland.leaky, 0.01),
    "keyword-only default": (userland.leaky_by_keyword, 0.01),
    "partial": (functools.partial(userland.leaky, slope=0.2), 0.2),
    "partial of keyword-only": (functools.partial(userland.leaky_by_keyword, slope=0.2), 0.2),
    "partial of a partial": (
        functools.partial(functools.partial(userland.leaky, slope=0.3), slope=0.2), 0.2,
    ),
    "empty partial": (functools.partial(userland.leaky), 0.01),
    "jitted": (numba.njit(userland.leaky), 0.01),
    "partial of a jitted one": (functools.partial(numba.njit(userland.leaky), slope=0.2), 0.2),
    "closure": (userland.make_leaky(0.2), 0.2),
    "static method": (userland.Holder.leaky, 0.01),
}  # fmt: skip


def test_functions_with_settings_work(compiled_engine):
    for kind, (function, slope) in SAME_AS_LEAKY.items():
        with naming(kind):
            check_leaky(compiled_engine, function, slope)


def check_leaky(compiled_engine, function, slope):
    """Evaluate a leaky relu of this slope; look at it in a model."""
    row = Activation(function)
    a = np.array([-2.0, -0.5, 1.5])
    slopes = a.copy()
    compiled_engine.activate_into(row, a, slopes)
    np.testing.assert_allclose(a, [-2 * slope, -0.5 * slope, 1.5])
    np.testing.assert_allclose(slopes, [slope, slope, 1.0])
    assert row.name in ("leaky", "leaky_by_keyword", "<lambda>")
    assert isinstance(hash(row), int)
    assert BackpropClassifier((3,), function).summary().count(row.name) == 1
    assert clone(BackpropClassifier(activation=row)).activation.name == row.name


def test_functions_of_one_code_are_compiled_once():
    kernels = find_kernels()
    one = kernels.activation_kernel(Activation(userland.leaky), "float64")
    for same in (functools.partial(userland.leaky, slope=0.01), numba.njit(userland.leaky)):
        assert kernels.activation_kernel(Activation(same), "float64") is one


def test_functions_of_math_and_numpy_work(regression):
    X, y = regression
    for engine, function in itertools.product(ENGINES, [np.tanh, functools.partial(math.tanh)]):
        settings = dict(SMALL, engine=engine, dtype="float64", max_iter=3)
        model = BackpropRegressor(activation=function, **settings).fit(X, y)
        peer = BackpropRegressor(activation="tanh", **settings).fit(X, y)
        with naming(engine, function):
            np.testing.assert_allclose(model.predict(X), peer.predict(X), rtol=1e-9)
            assert "tanh" in model.summary()


def test_losses_with_settings_work(regression):
    X, y = regression
    losses = [
        Loss(functools.partial(userland.weighted_error, weight=0.5), constant=("mean",)),
        Loss(userland.hyper_error, hyper=(np.float32(0.5),), constant=("mean",)),
    ]
    for engine, loss in itertools.product(ENGINES, losses):
        settings = dict(SMALL, engine=engine, max_iter=3)
        peer = BackpropRegressor(**settings).fit(X, y)
        model = BackpropRegressor(loss, **settings).fit(X, y)
        with naming(engine, loss.name):
            np.testing.assert_allclose(model.predict(X), peer.predict(X), rtol=1e-4, atol=1e-6)


def test_a_metric_is_no_loss(regression):
    with pytest.raises(ValueError, match=r"'mean_squared_error' .* cannot be compiled"):
        BackpropRegressor(sklearn.metrics.mean_squared_error).fit(*regression)


NOT_TO_BE_COMPILED = {
    "object": Callable(),
    "method": Callable().method,
    "unhashable": Unhashable(),
    "class": Callable,
    "partial with arguments": functools.partial(userland.leaky, 0.5),
    "partial of an object": functools.partial(Callable()),
    "cached": functools.lru_cache(userland.leaky),
    "vectorized": np.vectorize(userland.leaky),
    "DUFunc": numba.vectorize(userland.leaky),
}


@pytest.mark.parametrize("kind", NOT_TO_BE_COMPILED)
def test_what_is_no_function_is_refused_before_any_work(kind):
    function = NOT_TO_BE_COMPILED[kind]
    for settings, parameter in (
        ({"activation": function}, "'activation' parameter of"),
        ({"activation": Activation(function)}, "'activation__value' parameter"),
        ({"activation": ["tanh", function]}, "'activation' parameter of"),
        ({"activation": ["tanh", Activation(function)]}, "'activation__value' parameter"),
        ({"loss": function}, "'loss' parameter of"),
        ({"loss": Loss(function)}, "'loss__value' parameter"),
        ({"loss": Loss(userland.own_log_loss, function)}, "'loss__gradient' parameter"),
    ):
        model = BackpropClassifier((3, 3), **settings)
        with pytest.raises(ValueError, match=parameter) as caught:
            model.fit("no data", "no targets")
        assert f"type {type(function).__name__} cannot be compiled" in str(caught.value)
        for look in (repr, lambda m: m.summary(), lambda m: m._html_repr()):
            assert isinstance(look(model), str)
    assert Activation(function) == Activation(function)
    assert isinstance(Activation(function).name, str)


@pytest.mark.parametrize("value", [None, "tanh", 3, Activation(math.tanh)])
def test_what_an_activation_holds_is_checked(value):
    model = BackpropClassifier(activation=Activation(value))
    assert isinstance(model.summary(), str)
    with pytest.raises(ValueError, match="'activation__value' parameter"):
        model.fit("no data", "no targets")


def test_a_loss_of_rows_needs_a_gradient_and_functions_that_compile():
    X, y = draw_classes(61, 5, 3)
    with pytest.raises(ValueError, match="give it a gradient"):
        BackpropClassifier(loss=Loss(row_refuses, target="class")).fit(X, y)
    with pytest.raises(ValueError, match=r"'row_refuses' .* cannot be compiled"):
        BackpropClassifier(loss=Loss(row_refuses, row_refuses, target="class")).fit(X, y)
    with pytest.raises(ValueError, match=r"'loss__link' parameter .* Did you mean 'logit'"):
        BackpropClassifier(loss=Loss(userland.own_log_loss, link="Logit")).fit(X, y)


@pytest.mark.parametrize("schedule", [Callable(), Callable().method, np.hypot, max])
def test_schedules_may_be_anything_that_is_called(binary, schedule):
    model = BackpropClassifier(learning_rate=schedule, max_iter=1, learning_rate_init=1e-9)
    copy = clone(model).fit(*binary)
    assert isinstance(repr(copy) + copy.summary(), str)


@pytest.mark.parametrize(
    "returned", [None, "0.5", [0.5], np.array([0.5]), 1j, -1.0, math.nan, 10**400]
)
def test_a_rate_that_is_no_number_is_refused(binary, returned):
    model = BackpropClassifier(learning_rate=lambda step, n_steps: returned)
    with pytest.raises(ValueError, match="must give a finite number >= 0"):
        model.fit(*binary)


# --- clone, pickle, search ------------------------------------------------------------------------


def test_clone_and_pickle(binary):
    for engine in ENGINES:
        with naming(engine):
            check_copies(engine, *binary)


def check_copies(engine_name, X, y):
    """Clone and pickle a model of functions from a module, and of a lambda."""
    model = BackpropClassifier(
        (4, 4),
        ["tanh", userland.silu],
        loss=userland.own_log_loss,
        max_iter=3,
        engine=engine_name,
    )
    copy = clone(model)
    assert copy.activation == model.activation
    assert copy.loss is model.loss
    model.fit(X, y)
    for dump in (pickle, cloudpickle):
        again = pickle.loads(dump.dumps(model))
        np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    model.set_params(activation=["tanh", lambda z: z / (1 + math.exp(-z))])
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(model)
    again = pickle.loads(cloudpickle.dumps(model))
    np.testing.assert_allclose(again.predict_proba(X), model.predict_proba(X), rtol=1e-6)


@pytest.mark.parametrize(
    ("backend", "engine"),
    first_of([("loky", ENGINES[0]), ("threading", "numba"), ("loky", "numba")], 2),
)
def test_grid_search(binary, backend, engine):
    """In other processes and in threads; each process compiles once for both engines."""
    import joblib

    grid = {"activation": ["tanh", userland.silu, lambda z: z / (1 + math.exp(-z))]}
    model = BackpropClassifier((4,), max_iter=3, random_state=0, engine=engine)
    search = GridSearchCV(model, grid, cv=2, n_jobs=2, error_score="raise")
    with joblib.parallel_backend(backend), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        search.fit(*binary)
        scores = search.cv_results_["mean_test_score"]
        assert scores[1] == scores[2]


def arithmetic(z):
    return -z / (1.0 + z * z) - 0.5 * z if z > 1 else 2 * z


def test_operators_are_no_functions_to_compile():
    """The first fit waits for every function: of arithmetic only the formula itself is one."""
    from numba.core import event, types

    from fastbp.engine.numba.duals import Dual
    from fastbp.engine.numba.formulas import compile_formula

    with event.install_recorder("numba:compile") as recorder:
        compile_formula(arithmetic, (Dual(types.float32),))
    compiled = [e for _, e in recorder.buffer if e.is_start]
    assert [e.data["dispatcher"].py_func for e in compiled] == [arithmetic]


def test_compiling_leaves_garbage_collection_as_it_was(binary):
    before = gc.isenabled()
    BackpropClassifier((3,), arithmetic, tol=10.0, random_state=0).fit(*binary)
    assert gc.isenabled() is before


def test_compiled_once_per_process():
    """Copies from another process are other objects with the same code and constants."""
    kernels = find_kernels()

    def make(scale):
        return Activation(lambda z: scale * z)

    copies = [pickle.loads(cloudpickle.dumps(make(2.0))) for _ in range(2)]
    one, two = (kernels.activation_kernel(row, "float64") for row in copies)
    assert one is two
    other = pickle.loads(cloudpickle.dumps(make(3.0)))
    assert kernels.activation_kernel(other, "float64") is not one


def test_threads_compile_and_train_together(engine_name, regression):
    X, y = regression

    def own(z):
        return z * math.exp(-z * z)

    found, failures = [], []

    def fit():
        try:
            model = BackpropRegressor(activation=own, engine=engine_name, **SMALL)
            with warnings.catch_warnings():
                found.append(model.fit(X, y).loss_)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=fit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(set(found)) == 1


NO_CACHE = """
import os, sys, warnings
warnings.simplefilter("ignore")
import numpy as np, numba.core.caching as caching
for locator in caching.CacheImpl._locator_classes:
    locator.from_function = classmethod(lambda cls, function, file: None)
from fastbp.activations import ACTIVATIONS
from fastbp.engine.numba import activate_into, minibatch
z = np.array([-1.0, 2.0])
slopes = z.copy()
activate_into(ACTIVATIONS["relu"], z, slopes)
print(z.tolist(), slopes.tolist(), type(minibatch.advance._cache).__name__)
"""


@pytest.mark.repeats  # a kernel is compiled as ever, Numba's cache alone is another
def test_compiles_where_no_cache_can_be_written():
    """A kernel is compiled; the training loop would be, which takes ten seconds."""
    done = subprocess.run([sys.executable, "-c", NO_CACHE], capture_output=True, text=True)
    assert done.stdout.strip() == "[0.0, 2.0] [0.0, 1.0] NullCache", done.stderr
