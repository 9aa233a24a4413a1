"""Activations and losses of a user's own: plain functions in both engines, checked and guarded."""

import math
import pickle
import subprocess
import sys
import threading
import warnings

import cloudpickle
import numpy as np
import pytest
import userland
from problems import draw_classes, draw_counts, draw_labels, draw_regression
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from fastbp import Activation, BackpropClassifier, BackpropRegressor, Loss
from fastbp.activations import ACTIVATIONS
from fastbp.engine import find_kernels
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


@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_own_loss_and_activation_equal_the_built_in(engine_name, regression, dtype, solver):
    X, y = regression
    settings = dict(SMALL, dtype=dtype, engine=engine_name, solver=solver)
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


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_derived_slope_equals_the_built_in(engine, name, dtype):
    z = np.linspace(-6.1, 5.9, 97).astype(dtype)
    own, own_slopes, built_in, slopes = z.copy(), z.copy(), z.copy(), z.copy()
    engine.activate_into(Activation(ACTIVATIONS[name].value), own, own_slopes)
    engine.activate_into(ACTIVATIONS[name], built_in, slopes)
    tolerance = 8 * np.finfo(dtype).eps
    np.testing.assert_allclose(own, built_in, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(own_slopes, slopes, rtol=20 * tolerance, atol=tolerance)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("kind", "own", "name", "link"),
    [
        ("binary", userland.own_log_loss, "log_loss", None),
        ("multilabel", userland.own_log_loss, "log_loss", "logit"),
        ("counts", userland.own_poisson, "poisson", "log"),
    ],
)
def test_links(engine_name, kind, own, name, link, weighted):
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


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("dtype", DTYPES)
def test_engines_agree(regression, function, dtype):
    """Also where layers are no whole panels and f(0) is not 0."""
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


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("dtype", DTYPES)
def test_values_and_slopes_of_functions(engine, function, dtype):
    z = np.linspace(-5.03, 5.07, 57).astype(dtype)
    a, slopes, step = z.copy(), z.copy(), 1e-5
    engine.activate_into(Activation(function), a, slopes)
    exact = [function(float(x)) for x in z]
    differences = [(function(float(x) + step) - function(float(x) - step)) / 2 / step for x in z]
    tolerance = 1e-8 if dtype == "float64" else 2e-5
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


def test_constructs(engine):
    z = np.linspace(-5.03, 5.07, 57)
    a, slopes, step = z.copy(), z.copy(), 1e-6
    engine.activate_into(Activation(everything), a, slopes)
    np.testing.assert_allclose(a, [everything(x) for x in z], rtol=1e-13)
    expected = [(everything(x + step) - everything(x - step)) / 2 / step for x in z]
    np.testing.assert_allclose(slopes, expected, rtol=1e-6, atol=1e-6)


def test_naive_exponentials_do_not_spoil_slopes(engine):
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
        (np.tanh, ["expected a plain Python function"]),
        (math.log, ["expected a plain Python function"]),
    ],
)
def test_what_cannot_be_compiled_is_shown(binary, function, parts):
    with pytest.raises(ValueError, match="cannot be compiled") as caught:
        BackpropClassifier(activation=function).fit(*binary)
    for part in parts:
        assert part in str(caught.value)
    if not isinstance(function, np.ufunc) and hasattr(function, "__code__"):
        assert __file__.rsplit("/", 1)[-1] in str(caught.value)


@pytest.mark.parametrize(
    ("activation", "message"),
    [
        (lambda z: math.log(z), "raises ValueError: .* at \\(-7.9\\)"),
        (lambda z: np.log(z), "is nan at \\(-7.9\\)"),
        (lambda z: 1 / z, "at \\(0\\)"),
        (lambda z: np.sqrt(abs(z)), "derivative (nan|inf) at \\(0\\)"),
        (Activation(userland.silu, lambda z: 2.0), "given by .* is 2 at .* differences .* give"),
        (userland.raises_far_out, None),
    ],
)
def test_activations_are_checked_on_a_grid(engine_name, binary, activation, message):
    model = BackpropClassifier(activation=activation, engine=engine_name, max_iter=1)
    if message is None:
        model.fit(*binary)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        with pytest.raises(ValueError, match=message):
            model.fit(*binary)
    assert not hasattr(model, "coefs_")


def test_losses_are_checked_on_the_targets(engine_name, regression):
    X, y = regression
    model = BackpropRegressor(lambda y_true, raw: math.log(y_true) * raw, engine=engine_name)
    with pytest.raises(ValueError, match=r"loss '<lambda>' .* raises ValueError: .* at \(-"):
        model.fit(X, y)
    wrong = Loss(userland.own_squared_error, lambda y_true, raw: y_true - raw)
    with pytest.raises(ValueError, match="central differences"):
        BackpropRegressor(wrong, engine=engine_name).fit(X, y)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize(
    ("function", "what"),
    [
        (userland.raises_far_out, "raised an exception"),
        (userland.nan_far_out, "NaN or infinite"),
        (Activation(userland.nan_far_out, userland.slope_of_nan_far_out), "NaN or infinite"),
    ],
    ids=["raises", "NaN", "NaN with a finite slope"],
)
@pytest.mark.parametrize("last", ["tanh", userland.hides_nan], ids=["shown", "hidden"])
def test_failure_while_training_names_epoch_and_function(
    engine_name, regression, function, what, last, solver
):
    X, y = regression
    model = BackpropRegressor(
        hidden_layer_sizes=(5, 5), activation=[function, last], solver=solver, max_iter=200,
        engine=engine_name, random_state=0, tol=0, n_iter_no_change=200, learning_rate_init=0.5,
    )  # fmt: skip
    name = function.name if isinstance(function, Activation) else function.__name__
    with pytest.raises(ValueError, match=rf"in (epoch|iteration) \d+; .*'{name}'") as e:
        model.fit(10 * X, 10 * y)
    assert what in str(e.value)
    assert not hasattr(model, "coefs_")


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


# --- clone, pickle, search ------------------------------------------------------------------------


def test_clone_and_pickle(engine_name, binary):
    X, y = binary
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


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_grid_search(engine_name, backend, binary):
    import joblib

    X, y = binary
    grid = {"activation": ["tanh", userland.silu, lambda z: z / (1 + math.exp(-z))]}
    model = BackpropClassifier((4,), max_iter=3, random_state=0, engine=engine_name)
    search = GridSearchCV(model, grid, cv=2, n_jobs=2, error_score="raise")
    with joblib.parallel_backend(backend), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        search.fit(X, y)
    scores = search.cv_results_["mean_test_score"]
    assert scores[1] == scores[2]


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
from fastbp import BackpropRegressor
X = np.random.default_rng(0).standard_normal((40, 3))
model = BackpropRegressor(hidden_layer_sizes=(4,), engine="numba", max_iter=2).fit(X, X[:, 0])
print(np.isfinite(model.predict(X)).all())
"""


def test_trains_where_no_cache_can_be_written():
    done = subprocess.run([sys.executable, "-c", NO_CACHE], capture_output=True, text=True)
    assert done.stdout.split() == ["True"], done.stderr
