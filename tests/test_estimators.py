"""Both estimators as objects: parameters, attributes, tags, output types and what a fit returns."""

import inspect
import pickle

import numpy as np
import pytest
from problems import draw_classes, draw_counts, draw_labels, draw_regression
from scipy import sparse
from sklearn import config_context
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score, log_loss, r2_score
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.utils import TransformerTags, get_tags

from fastbp import BackpropClassifier, BackpropRegressor

PAIRS = [(BackpropClassifier, MLPClassifier), (BackpropRegressor, MLPRegressor)]
SETTINGS = dict(hidden_layer_sizes=(6,), random_state=0, max_iter=30, tol=10.0, n_iter_no_change=5)
NEW = {
    "dtype": "float32",
    "n_threads": None,
    "engine": "auto",
    "matmul_precision": "highest",
    "init": "auto",
    "dropout": 0.0,
    "max_grad_norm": None,
    "ema_decay": None,
    "scoring": None,
    "max_time": None,
}
VALIDATION_DATA = ("X_val", "y_val", "sample_weight_val")
NEW_OF = {
    BackpropClassifier: {"loss": "log_loss", "class_weight": None, "new_classes": "error", **NEW},
    BackpropRegressor: {"scale_targets": False, **NEW},
}


def fit(kind, X, y, **params):
    """Return a model that ends by its tolerance after a few epochs, so that nothing warns."""
    return kind(**{**SETTINGS, **params}).fit(X, y)


# --- the interface of scikit-learn's MLP ----------------------------------------------------------


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_constructor_is_scikit_learns(ours, theirs):
    """The same names, order, kinds and defaults; then our own, keyword-only."""
    expected, got = (
        [
            parameter.replace(annotation=inspect.Parameter.empty)
            for parameter in inspect.signature(kind).parameters.values()
        ]
        for kind in (theirs, ours)
    )
    assert got[: len(expected)] == expected
    extra = got[len(expected) :]
    assert all(parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in extra)
    defaults = {parameter.name: parameter.default for parameter in extra}
    assert defaults == NEW_OF[ours]


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_methods_are_scikit_learns(ours, theirs):
    public = {name for name in dir(theirs()) if not name.startswith("_")}
    assert public <= {name for name in dir(ours()) if not name.startswith("_")}
    for name in ("fit", "partial_fit", "predict", "score"):
        got = list(inspect.signature(getattr(ours, name)).parameters.values())
        expected = list(inspect.signature(getattr(theirs, name)).parameters)
        assert [parameter.name for parameter in got[: len(expected)]] == expected
        extra = {parameter.name for parameter in got[len(expected) :]}
        own = {"fit": {*VALIDATION_DATA, "snapshot"}, "partial_fit": set(VALIDATION_DATA)}
        assert extra == own.get(name, set())
        assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in got[len(expected) :])


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_fitted_attributes_are_scikit_learns(ours, theirs, solver, early_stopping):
    X, y = draw_classes(60, 4, 3) if is_classifier(ours()) else draw_regression(60, 4)
    params = dict(solver=solver, early_stopping=early_stopping)
    if solver == "lbfgs":
        params["max_iter"] = 2000
    model, peer = fit(ours, X, y, **params), fit(theirs, X, y, **params)
    expected = {name for name in vars(peer) if name.endswith("_") and not name.startswith("_")}
    ours = {name for name in vars(model) if name.endswith("_") and not name.startswith("_")}
    new = set() if solver == "lbfgs" else {"validation_loss_curve_", "best_iter_"}
    assert ours == expected | new | {"matmul_precision_"}
    for name in expected - {"coefs_", "intercepts_", "classes_"}:
        mine, other = getattr(model, name), getattr(peer, name)
        assert isinstance(mine, type(other)) or (
            isinstance(mine, float) and isinstance(other, float)
        ), name


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_tags(ours, theirs):
    mine, other = get_tags(ours()), get_tags(theirs())
    assert mine.target_tags.multi_output or is_classifier(ours())
    other.target_tags.multi_output = mine.target_tags.multi_output
    other.transformer_tags = TransformerTags(preserves_dtype=["float64", "float32"])
    assert mine == other


def test_kind_of_estimator():
    assert is_classifier(BackpropClassifier())
    assert is_regressor(BackpropRegressor())


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_repr_names_what_was_changed(ours, theirs):
    assert repr(ours()) == f"{ours.__name__}()"
    assert repr(ours(alpha=1.0, dtype=None)) == f"{ours.__name__}(alpha=1.0, dtype=None)"
    assert ours.__name__ in ours()._repr_html_()


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_parameters_are_stored_untouched(ours, theirs):
    hidden = np.array([3, 2])
    model = ours(hidden_layer_sizes=hidden, dtype=None)
    assert model.get_params()["hidden_layer_sizes"] is hidden
    assert model.set_params(alpha=2.0).alpha == 2.0
    X, y = draw_classes(60, 4, 3) if is_classifier(model) else draw_regression(60, 4)
    model.set_params(**{k: v for k, v in SETTINGS.items() if k != "hidden_layer_sizes"}).fit(X, y)
    assert model.get_params()["hidden_layer_sizes"] is hidden


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_metadata_routing_methods(ours, theirs):
    with config_context(enable_metadata_routing=True):
        model = ours()
        assert model.set_fit_request(sample_weight=True) is model
        assert model.set_partial_fit_request(sample_weight=True) is model
        assert model.set_score_request(sample_weight=True) is model
        unset = dict.fromkeys([*VALIDATION_DATA, "snapshot"])
        assert model.get_metadata_routing().fit.requests == {"sample_weight": True, **unset}


# --- what a fit leaves ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hidden", "expected"),
    [
        ((), []),
        (5, [5]),
        ([4], [4]),
        ((7, 3), [7, 3]),
        (np.array([3, 2]), [3, 2]),
        (np.int64(4), [4]),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", [BackpropClassifier, BackpropRegressor])
def test_hidden_layer_sizes(kind, hidden, expected):
    X, y = draw_classes(60, 4, 3) if kind is BackpropClassifier else draw_regression(60, 4)
    model = fit(kind, X, y, hidden_layer_sizes=hidden)
    sizes = [4, *expected, 3 if kind is BackpropClassifier else 1]
    assert [coef.shape for coef in model.coefs_] == list(zip(sizes[:-1], sizes[1:], strict=True))
    assert [intercept.shape for intercept in model.intercepts_] == [(n,) for n in sizes[1:]]
    assert model.n_layers_ == len(sizes)


@pytest.mark.parametrize("as_labels", [int, str, float, bool])
def test_accuracy_is_scikit_learns(as_labels):
    """Its bits for all kinds of labels, also others than in fit, and its refusals."""
    X, codes = draw_classes(60, 4, 2)
    y = codes.astype(as_labels)
    model = fit(BackpropClassifier, X, y)
    found, other = model.predict(X), y.copy()
    other[:7] = y[::-1][:7] if as_labels is bool else np.full(7, 5).astype(as_labels)
    for labels in (y, y.tolist(), other):
        assert model.score(X, labels) == accuracy_score(labels, found)
        assert type(model.score(X, labels)) is float
    weight = np.arange(60.0)
    assert model.score(X, y, weight) == accuracy_score(y, found, sample_weight=weight)
    with pytest.raises(ValueError, match="inconsistent numbers"):
        model.score(X, y[:-1])
    if as_labels is not str:
        with pytest.raises((TypeError, ValueError), match=r"[Mm]ix|not supported"):
            model.score(X, codes.astype(str))


KINDS_OF_TARGET = {
    "binary": (BackpropClassifier, lambda: draw_classes(60, 4, 2), "logistic", 1),
    "multiclass": (BackpropClassifier, lambda: draw_classes(60, 4, 3), "softmax", 3),
    "multilabel": (BackpropClassifier, lambda: draw_labels(60, 4, 3), "logistic", 3),
    "one output": (BackpropRegressor, lambda: draw_regression(60, 4), "identity", 1),
    "two outputs": (BackpropRegressor, lambda: draw_regression(60, 4, 2), "identity", 2),
    "counts": (BackpropRegressor, lambda: draw_counts(60, 4), "exp", 1),
}


@pytest.mark.parametrize("name", KINDS_OF_TARGET)
def test_kinds_of_target(name):
    kind, draw, out_activation, n_outputs = KINDS_OF_TARGET[name]
    X, y = draw()
    model = fit(kind, X, y, **({"loss": "poisson"} if name == "counts" else {}))
    assert (model.out_activation_, model.n_outputs_) == (out_activation, n_outputs)
    assert model.predict(X).shape == y.shape
    assert model.n_features_in_ == 4
    assert model.t_ == 60 * model.n_iter_
    assert len(model.loss_curve_) == model.n_iter_
    assert model.loss_ == model.loss_curve_[-1]
    assert model.best_loss_ == min(model.loss_curve_)
    if is_classifier(model):
        assert model.score(X, y) == accuracy_score(y, model.predict(X))
        shape = (60, 2 if name == "binary" else 3)
        assert model.predict_proba(X).shape == model.predict_log_proba(X).shape == shape
    else:
        assert model.score(X, y) == r2_score(y, model.predict(X))
    if name == "counts":
        assert (model.predict(X) > 0).all()


def test_fit_learns():
    """Not only runs: on easy data the scores are high."""
    X, y = draw_classes(300, 5, 3)
    params = dict(max_iter=2000, tol=1e-4, learning_rate_init=0.02)
    for solver in ("adam", "sgd", "lbfgs"):
        assert fit(BackpropClassifier, X, y, solver=solver, **params).score(X, y) > 0.85
    X, y = draw_regression(300, 5)
    for solver in ("adam", "sgd", "lbfgs"):
        assert fit(BackpropRegressor, X, y, solver=solver, **params).score(X, y) > 0.85


@pytest.mark.parametrize(
    "labels", [["no", "yes"], [-1, 1], [False, True], [2.0, 7.0], [10, 20, 30]]
)
def test_labels_come_back_as_they_were(labels):
    labels = np.array(labels)
    X, codes = draw_classes(60, 4, len(labels))
    model = fit(BackpropClassifier, X, labels[codes])
    np.testing.assert_array_equal(model.classes_, labels)
    assert model.classes_.dtype == model.predict(X).dtype == labels.dtype
    assert set(model.predict(X)) <= set(labels)
    np.testing.assert_array_equal(
        model.predict(X), model.classes_[model.predict_proba(X).argmax(axis=1)]
    )


def test_object_labels():
    X, codes = draw_classes(60, 4, 3)
    y = np.array(["a", "b", "c"], dtype=object)[codes]
    assert set(fit(BackpropClassifier, X, y).predict(X)) <= {"a", "b", "c"}


def test_sparse_indicators_come_back_sparse():
    """As from scikit-learn's label binariser."""
    X, Y = draw_labels(60, 4, 3)
    ours = fit(BackpropClassifier, X, sparse.csr_matrix(Y))
    theirs = fit(MLPClassifier, X, sparse.csr_matrix(Y))
    assert sparse.issparse(ours.predict(X)) == sparse.issparse(theirs.predict(X))
    np.testing.assert_array_equal(
        sparse.csr_matrix(ours.predict(X)).toarray(), fit(BackpropClassifier, X, Y).predict(X)
    )


@pytest.mark.parametrize("kind", [BackpropClassifier, BackpropRegressor])
def test_feature_names(kind):
    pandas = pytest.importorskip("pandas")
    X, y = draw_classes(60, 4, 3) if kind is BackpropClassifier else draw_regression(60, 4)
    frame = pandas.DataFrame(X, columns=list("abcd"))
    model = fit(kind, frame, y)
    assert list(model.feature_names_in_) == list("abcd")
    with pytest.warns(UserWarning, match="feature names"):
        model.predict(X)
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame[["b", "a", "c", "d"]])
    model.fit(X, y)
    assert not hasattr(model, "feature_names_in_")


@pytest.mark.parametrize("kind", [BackpropClassifier, BackpropRegressor])
def test_a_model_carries_no_data_and_no_workspace(kind):
    n = 3000
    X, y = draw_classes(n, 50, 3) if kind is BackpropClassifier else draw_regression(n, 50)
    small = fit(kind, X, y, early_stopping=True)
    assert len(pickle.dumps(small)) < 40_000  # the data alone are 1.2 MB


def test_refit_starts_anew():
    X, y = draw_classes(60, 4, 3)
    model = fit(BackpropClassifier, X, y, early_stopping=True)
    model.set_params(early_stopping=False, hidden_layer_sizes=(3,)).fit(X[:, :2], y)
    fresh = clone(model).fit(X[:, :2], y)
    assert vars(model).keys() == vars(fresh).keys()
    for left, right in zip(model.coefs_, fresh.coefs_, strict=True):
        np.testing.assert_array_equal(left, right)


# --- output types and probabilities ---------------------------------------------------------------

OUTPUT_DTYPES = [
    ("float32", np.float32, np.float32),
    ("float32", np.float64, np.float64),
    ("float32", np.int64, np.float64),
    ("float64", np.float32, np.float32),
    ("float64", np.float64, np.float64),
    (None, np.float64, np.float64),
    (None, np.int64, np.float64),
]


@pytest.mark.parametrize(("dtype", "given", "expected"), OUTPUT_DTYPES)
@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix])
def test_output_dtype(dtype, given, expected, make):
    X, y = draw_classes(60, 4, 3)
    X = (10 * X).astype(np.int64)
    for kind, target in ((BackpropClassifier, y), (BackpropRegressor, X[:, 0] / 10)):
        model = fit(kind, X.astype(np.float64), target, dtype=dtype)
        inner = np.dtype(dtype or np.float64)
        assert {w.dtype for w in model.coefs_ + model.intercepts_} == {inner}
        for name in ("predict", "predict_proba", "predict_log_proba"):
            if hasattr(model, name) and (name != "predict" or kind is BackpropRegressor):
                assert getattr(model, name)(make(X.astype(given))).dtype == expected


@pytest.mark.parametrize("fitted", [np.float32, np.float64])
@pytest.mark.parametrize("given", [np.float16, np.float32, np.float64, np.int32])
def test_output_dtype_without_a_dtype_is_scikit_learns(fitted, given):
    X, y = draw_regression(60, 4)
    X = (10 * X).astype(np.int32)
    ours = fit(BackpropRegressor, X.astype(fitted), y, dtype=None)
    theirs = fit(MLPRegressor, X.astype(fitted), y)
    assert ours.predict(X.astype(given)).dtype == theirs.predict(X.astype(given)).dtype


@pytest.mark.parametrize("dtype", ["float32", "float64", None])
@pytest.mark.parametrize("given", [np.float32, np.float64])
@pytest.mark.parametrize("n_classes", [2, 3, 10])
@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_probabilities(n_classes, given, dtype, scale):
    """Rows sum to 1 within the eps of the output, logarithms are finite, nothing warns."""
    X, y = draw_classes(200, 6, n_classes)
    model = fit(BackpropClassifier, X, y, dtype=dtype)
    wide = (scale * X).astype(given)
    probabilities, logarithms = model.predict_proba(wide), model.predict_log_proba(wide)
    eps = np.finfo(given).eps
    assert np.abs(probabilities.astype(np.longdouble).sum(axis=1) - 1).max() <= eps
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    assert np.isfinite(logarithms).all()
    assert (logarithms <= 0).all()
    np.testing.assert_allclose(np.exp(logarithms), probabilities, rtol=100 * eps, atol=4 * eps)
    log_loss(y, probabilities)  # warns, hence fails, if a row does not sum to 1


def test_log_probabilities_never_vanish():
    X, y = draw_classes(60, 4, 2)
    for target in (y, np.arange(60) % 3, np.column_stack([y, 1 - y])):
        model = fit(BackpropClassifier, X, target)
        logarithms = model.predict_log_proba(1e6 * X)
        assert np.isfinite(logarithms).all()
        assert logarithms.min() < -1e3


def test_binary_probabilities_are_two_columns_of_one_score():
    X, y = draw_classes(60, 4, 2)
    probabilities = fit(BackpropClassifier, X, y, dtype=None).predict_proba(X)
    theirs = fit(MLPClassifier, X, y).predict_proba(X)
    np.testing.assert_allclose(probabilities, theirs, atol=1e-10)


@pytest.mark.parametrize("dtype", ["float32", "float64", None])
@pytest.mark.parametrize("given", [np.float32, np.float64])
@pytest.mark.parametrize("name", KINDS_OF_TARGET)
def test_a_row_is_predicted_alone_as_among_others(name, given, dtype):
    kind, draw, _, _ = KINDS_OF_TARGET[name]
    X, y = draw()
    X = X.astype(given)
    params = {"loss": "poisson"} if name == "counts" else {}
    model = fit(kind, X, y, dtype=dtype, hidden_layer_sizes=(17, 5), **params)
    for method in ("predict", "predict_proba", "predict_log_proba"):
        if not hasattr(model, method):
            continue
        predict = getattr(model, method)
        whole = predict(X)
        np.testing.assert_array_equal(
            np.concatenate([predict(X[i : i + 1]) for i in range(60)]), whole
        )
        order = np.random.default_rng(0).permutation(60)
        np.testing.assert_array_equal(predict(X[order]), whole[order])
        np.testing.assert_array_equal(predict(np.asfortranarray(X)), whole)


# --- what the dtype of the output cannot hold -----------------------------------------------------


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_array])
@pytest.mark.parametrize("given", [np.float32, np.float64])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_scores_beyond_float32_are_computed_in_float64(n_classes, given, make, engine_name):
    """One such row among others: they keep their numbers, and nothing is infinite or NaN."""
    X, y = draw_classes(60, 4, n_classes)
    model = fit(BackpropClassifier, X, y, engine=engine_name)
    model.coefs_[0] *= 100
    X[3] = [3e38, -3e38, 3e38, 3e38]
    X = X.astype(given)
    others = np.arange(60) != 3
    for method in ("predict_proba", "predict_log_proba", "transform"):
        found = getattr(model, method)(make(X))
        assert np.isfinite(found).all()
        alone = getattr(model, method)(make(X[others]))
        np.testing.assert_allclose(found[others], alone, rtol=1e-5, atol=1e-6)
    assert model.predict_proba(make(X)).dtype == given
    assert model.predict_log_proba(make(X)).dtype == np.float64
    assert model.predict_proba(make(X))[3].max() == 1
    assert model.predict(make(X))[3] == model.predict_proba(make(X))[3].argmax()


def test_regressors_scores_beyond_float32():
    X, y = draw_regression(60, 4)
    model = fit(BackpropRegressor, X, y, activation="identity")
    slopes = model.predict(np.eye(4)) - model.predict(np.zeros((1, 4)))
    far = (np.sign(slopes) * 3e38).astype(np.float32)[np.newaxis]
    assert model.predict(far / 100).dtype == np.float32
    assert model.predict(far).dtype == np.float64
    # far / 100 and the prediction from it are rounded to float32, the other prediction is not.
    near = 100 * model.predict(far / 100).astype(float)
    np.testing.assert_allclose(model.predict(far), near, rtol=2 * np.finfo(np.float32).eps)


@pytest.mark.parametrize("method", ["predict", "predict_proba", "predict_log_proba", "transform"])
def test_scores_beyond_float64_raise(method, engine_name):
    X, y = draw_classes(60, 4, 3)
    model = fit(BackpropClassifier, X, y, dtype="float64", engine=engine_name)
    model.coefs_[0] *= 10
    X[[7, 9]] *= 1e308 / np.abs(X[[7, 9]]).max()
    with pytest.raises(ValueError, match=r"beyond the range of float64.* row 7 of X"):
        getattr(model, method)(X)


@pytest.mark.parametrize("dtype", ["float32", "float64", None])
@pytest.mark.parametrize("loss", ["poisson", "gamma", "tweedie"])
def test_exp_of_large_scores(loss, dtype):
    """Exp of 88.7 is the largest float32, of 709.7 the largest float64."""
    X, y = draw_regression(60, 1)
    model = fit(BackpropRegressor, X, np.exp(y), loss=loss, activation="identity", dtype=dtype)
    slope = np.log(model.predict([[1.0]]) / model.predict([[0.0]]))[0]
    for score, expected in ((80, np.float32), (95, np.float64), (700, np.float64)):
        found = model.predict(np.array([[score / slope]], np.float32))
        assert found.dtype == (expected if dtype else np.float64)
        assert np.log(found[0]) == pytest.approx(score, abs=2)
    with pytest.raises(ValueError, match="beyond the range of float64"):
        model.predict(np.array([[720 / slope]], np.float32))


@pytest.mark.parametrize("loss", ["poisson", "gamma"])
def test_validation_scores_of_predictions_beyond_float32(loss):
    X, y = draw_regression(60, 1)
    model = BackpropRegressor(
        loss, activation="identity", hidden_layer_sizes=(3,), max_iter=3, random_state=0
    )
    X_val = np.array([[200.0], [-200.0], [0.0]])
    with pytest.warns(ConvergenceWarning):
        model.fit(X, np.exp(y), X_val=X_val, y_val=[1.0, 2.0, 3.0])
    assert np.log10(model.predict(X_val).max()) > 39
    assert model.best_validation_score_ == pytest.approx(model.score(X_val, [1.0, 2.0, 3.0]))


@pytest.mark.parametrize("size", [1e-300, 1e-170, 1e160, 1e300])
def test_score_of_y_of_any_size(size):
    X, y = draw_regression(60, 4, 2)
    model = fit(BackpropRegressor, X, y, scale_targets=True)
    small = fit(BackpropRegressor, X, y * [1.0, size], scale_targets=True)
    weight = np.linspace(0, 1, 60)
    expected = r2_score(y, model.predict(X), sample_weight=weight)
    assert small.score(X, y * [1.0, size], weight) == pytest.approx(expected, abs=1e-5)
