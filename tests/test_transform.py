"""transform: the last hidden layer's activations, from both engines, as scikit-learn wants it."""

import math

import numpy as np
import pytest
import reference
from problems import draw_classes, draw_regression
from scipy import sparse
from sklearn import config_context
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import StandardScaler

from fastbp import BackpropClassifier, BackpropRegressor
from fastbp.activations import ACTIVATIONS

SETTINGS = dict(hidden_layer_sizes=(7, 5), random_state=0, max_iter=30, tol=10.0)
TOLERANCE = {"float32": dict(rtol=1e-4, atol=1e-5), "float64": dict(rtol=1e-10, atol=1e-12)}


def fit(kind=BackpropClassifier, n_samples=70, **params):
    """Return (model, X); it ends by its tolerance, so that nothing warns."""
    draw = draw_classes if kind is BackpropClassifier else draw_regression
    X, y = draw(n_samples, 6, 3)
    return kind(**{**SETTINGS, **params}).fit(X, y), X


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", [BackpropClassifier, BackpropRegressor])
def test_it_is_the_reference_of_the_last_hidden_layer(engine_name, kind, dtype):
    model, X = fit(kind, activation=["relu", "tanh"], dtype=dtype, engine=engine_name)
    a = np.maximum(X @ model.coefs_[0] + model.intercepts_[0], 0)
    a = np.tanh(a @ model.coefs_[1] + model.intercepts_[1])
    np.testing.assert_allclose(model.transform(X), a, **TOLERANCE[dtype])


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation(engine_name, name):
    model, X = fit(activation=name, dtype="float64", hidden_layer_sizes=(9,), engine=engine_name)
    z = X @ model.coefs_[0] + model.intercepts_[0]
    value, _ = reference.find_activation(name)
    np.testing.assert_allclose(model.transform(X), value(z), rtol=1e-10, atol=1e-12)


def one_plus_square(z):
    return 1 + z * z * math.exp(-z * z)


def test_a_function_of_the_user(engine_name):
    """f(0) is not 0, so that what fills vectors up would show."""
    model, X = fit(activation=one_plus_square, dtype="float64", engine=engine_name)
    scores = model.transform(X) @ model.coefs_[-1] + model.intercepts_[-1]
    np.testing.assert_array_equal(model.classes_[scores.argmax(axis=1)], model.predict(X))
    assert model.transform(X).min() >= 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_units", [1, 7, 16, 33])
def test_truncated_networks_at_the_door(forced_engine, n_units, dtype):
    """One activation per layer: the last layer of the weights is a hidden one, too."""
    rng = np.random.default_rng(0)
    sizes = [(6, 5), (5, n_units)]
    coefs = [rng.standard_normal(shape).astype(dtype) for shape in sizes]
    intercepts = [rng.standard_normal(n_out).astype(dtype) for _, n_out in sizes]
    rows = [ACTIVATIONS["relu"], ACTIVATIONS["tanh"]]
    X = rng.standard_normal((37, 6)).astype(dtype)
    guarded = np.full((37 + 40, n_units), 7.0, dtype)
    forced_engine.predict_into(coefs, intercepts, rows, X, guarded[20:57])
    a = np.tanh(np.maximum(X @ coefs[0] + intercepts[0], 0) @ coefs[1] + intercepts[1])
    np.testing.assert_allclose(guarded[20:57], a, **TOLERANCE[dtype])
    assert (guarded[:20] == 7).all()
    assert (guarded[57:] == 7).all()


@pytest.mark.parametrize("n_units", [1, 5, 8, 40])
def test_a_row_has_the_same_bits_alone_and_on_any_number_of_threads(engine_name, n_units):
    model, X = fit(hidden_layer_sizes=(6, n_units), activation="logistic", engine=engine_name)
    X = np.random.default_rng(0).standard_normal((5001, X.shape[1]))
    features = model.transform(X)
    for rows in (slice(0, 1), slice(13, 14), slice(4990, 5001), slice(100, 2117)):
        np.testing.assert_array_equal(model.transform(X[rows]), features[rows])
    for n_threads in (1, 2, 3):
        np.testing.assert_array_equal(model.set_params(n_threads=n_threads).transform(X), features)


@pytest.mark.parametrize("sizes", [(9,), (7, 5)])
def test_sparse_equals_dense(engine_name, sizes):
    model, X = fit(hidden_layer_sizes=sizes, engine=engine_name)
    X[np.random.default_rng(0).random(X.shape) < 0.6] = 0
    features = model.transform(sparse.csr_array(X))
    assert isinstance(features, np.ndarray)
    np.testing.assert_allclose(features, model.transform(X), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64", None])
def test_dtype_is_that_of_predictions(dtype):
    model, X = fit(dtype=dtype)
    for given in (np.float32, np.float64):
        assert model.transform(X.astype(given)).dtype == model.predict_proba(X.astype(given)).dtype
    assert model.transform(X.astype(int)).dtype == np.float64


def test_without_a_hidden_layer_it_is_a_copy_of_X():
    model, X = fit(hidden_layer_sizes=())
    features = model.transform(X)
    np.testing.assert_array_equal(features, X.astype(np.float32))
    assert not np.shares_memory(features, X)
    as_sparse = model.transform(sparse.csr_array(X))
    np.testing.assert_array_equal(as_sparse.toarray(), features)


def test_names_and_frames():
    pd = pytest.importorskip("pandas")
    X, y = draw_classes(60, 4, 3)
    X = pd.DataFrame(X, columns=list("abcd"), index=range(100, 160))
    model = BackpropClassifier(**SETTINGS).set_output(transform="pandas").fit(X, y)
    features = model.transform(X)
    names = [f"backpropclassifier{unit}" for unit in range(5)]
    assert list(features.columns) == names == list(model.get_feature_names_out())
    assert (features.index == X.index).all()
    assert isinstance(model.predict(X), np.ndarray)
    with config_context(transform_output="pandas"):
        assert isinstance(BackpropRegressor(**SETTINGS).fit_transform(X, y), pd.DataFrame)


def test_inside_pipelines():
    X, y = draw_classes(200, 6, 3)
    network = BackpropClassifier((8,), max_iter=400, tol=1e-2, random_state=0)
    both = make_union(StandardScaler(), network)
    model = make_pipeline(both, LogisticRegression()).fit(X, y)
    assert model.score(X, y) > 0.8
    assert len(model[:-1].get_feature_names_out()) == 6 + 8


def test_bad_input():
    with pytest.raises(NotFittedError):
        BackpropClassifier().transform([[1.0]])
    with pytest.raises(NotFittedError):
        BackpropClassifier().get_feature_names_out()
    model, X = fit()
    with pytest.raises(ValueError, match="features"):
        model.transform(X[:, 1:])
