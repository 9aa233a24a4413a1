"""Both estimators inside scikit-learn's tools: searches, ensembles, pipelines, persistence."""

import copy
import pickle

import joblib
import numpy as np
import pytest
from problems import draw_classes, draw_labels, draw_regression
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.ensemble import (
    BaggingClassifier,
    BaggingRegressor,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.feature_selection import RFE, SelectFromModel
from sklearn.inspection import partial_dependence, permutation_importance
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import (
    GridSearchCV,
    RandomizedSearchCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler

from fastbp import BackpropClassifier, BackpropRegressor

ESTIMATORS = [BackpropClassifier, BackpropRegressor]


def make(kind, **params):
    """Return a quick estimator that ends by its tolerance, so that nothing warns."""
    settings = dict(
        hidden_layer_sizes=(8,), random_state=0, max_iter=500, tol=1e-2, learning_rate_init=0.02
    )
    return kind(**{**settings, **params})


def draw(kind, n_samples=120):
    """Return (X, y) for an estimator class."""
    if kind is BackpropClassifier:
        return draw_classes(n_samples, 5, 3)
    return draw_regression(n_samples, 5)


def assert_same_weights(left, right):
    """Two models of the same bits."""
    for a, b in zip(left.coefs_ + left.intercepts_, right.coefs_ + right.intercepts_, strict=True):
        np.testing.assert_array_equal(a, b)


# --- copies ---------------------------------------------------------------------------------------


def through_joblib(model, folder):
    """Save and load."""
    joblib.dump(model, folder / "model.joblib")
    return joblib.load(folder / "model.joblib")


def through_memory_map(model, folder):
    """Save and load with arrays that cannot be written to."""
    joblib.dump(model, folder / "model.joblib")
    return joblib.load(folder / "model.joblib", mmap_mode="r")


COPIES = {
    "pickle": lambda model, folder: pickle.loads(pickle.dumps(model)),
    "old pickle": lambda model, folder: pickle.loads(pickle.dumps(model, protocol=2)),
    "deepcopy": lambda model, folder: copy.deepcopy(model),
    "joblib": through_joblib,
    "memory map": through_memory_map,
}


@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("way", COPIES)
def test_copies_predict_and_train_on(way, kind, solver, tmp_path):
    """The optimiser's state travels too: the next `partial_fit` gives the same bits."""
    X, y = draw(kind)
    model = make(kind, solver=solver, learning_rate="adaptive")
    first = {"classes": np.unique(y)} if kind is BackpropClassifier else {}
    model.partial_fit(X, y, **first).partial_fit(X, y)
    other = COPIES[way](model, tmp_path)
    np.testing.assert_array_equal(other.predict(X), model.predict(X))
    model.partial_fit(X, y)
    other.partial_fit(X, y)
    assert_same_weights(model, other)
    assert model.loss_curve_ == other.loss_curve_


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_a_copy_lives_its_own_life(kind):
    X, y = draw(kind)
    model = make(kind, warm_start=True).fit(X, y)
    expected = model.predict(X)
    other = copy.deepcopy(model)
    other.fit(X, y)
    other.partial_fit(X, y)
    np.testing.assert_array_equal(model.predict(X), expected)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_clone(kind):
    X, y = draw(kind)
    model = make(kind, dtype=None, n_threads=2).fit(X, y)
    other = clone(model)
    assert other.get_params() == model.get_params()
    assert not hasattr(other, "coefs_")
    assert_same_weights(other.fit(X, y), model)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_weights_may_be_written_by_the_user(kind):
    """`coefs_` is the model: a change shows in the prediction and is where training goes on."""
    X, y = draw(kind)
    model = make(kind, warm_start=True).fit(X, y)
    twin = copy.deepcopy(model)
    method = "predict_proba" if kind is BackpropClassifier else "predict"
    for weights in model.coefs_:
        weights *= 0.5
    assert not np.array_equal(getattr(model, method)(X), getattr(twin, method)(X))
    twin.coefs_ = [0.5 * weights for weights in twin.coefs_]
    model.fit(X, y)
    twin.fit(X, y)
    assert_same_weights(model, twin)
    for weights in model.coefs_:
        weights *= 0.5
    twin.coefs_ = [0.5 * weights for weights in twin.coefs_]
    model.partial_fit(X, y)
    twin.partial_fit(X, y)
    assert_same_weights(model, twin)


# --- searches and cross-validation ----------------------------------------------------------------

GRID = {"alpha": [1e-4, 1e-1], "activation": ["relu", "tanh"]}


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("backend", ["sequential", "loky", "threading"])
def test_grid_search(kind, backend):
    """Every backend finds the same scores, bit by bit."""
    X, y = draw(kind)
    with joblib.parallel_backend(backend, n_jobs=2):
        search = GridSearchCV(make(kind), GRID, cv=3).fit(X, y)
    expected = GridSearchCV(make(kind), GRID, cv=3).fit(X, y)
    np.testing.assert_array_equal(
        search.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"]
    )
    assert_same_weights(search.best_estimator_, expected.best_estimator_)


def test_randomized_search_in_a_pipeline():
    X, y = draw(BackpropClassifier)
    pipe = make_pipeline(StandardScaler(), make(BackpropClassifier))
    space = {"backpropclassifier__hidden_layer_sizes": [(4,), (8,), (4, 4)]}
    search = RandomizedSearchCV(pipe, space, n_iter=2, cv=3, random_state=0).fit(X, y)
    assert search.score(X, y) > 0.7


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_cross_validate_routes_sample_weight(kind):
    """Routed weights reach `fit` and the scorer, through a pipeline too."""
    X, y = draw(kind)
    weight = np.random.default_rng(0).uniform(0.1, 3, len(y))
    with config_context(enable_metadata_routing=True):
        model = make(kind).set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        routed = cross_validate(model, X, y, params={"sample_weight": weight}, cv=3)
        pipe = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), model)
        piped = cross_validate(pipe, X, y, params={"sample_weight": weight}, cv=3)
    plain = cross_validate(make(kind), X, y, cv=3)
    assert not np.array_equal(routed["test_score"], plain["test_score"])
    assert np.isfinite(piped["test_score"]).all()


@pytest.mark.parametrize("scoring", ["neg_log_loss", "roc_auc_ovr", "accuracy"])
def test_probability_scores(scoring):
    X, y = draw(BackpropClassifier)
    assert np.isfinite(cross_val_score(make(BackpropClassifier), X, y, scoring=scoring, cv=3)).all()


def test_cross_val_predict_and_learning_curve():
    X, y = draw(BackpropClassifier)
    model = make(BackpropClassifier)
    assert cross_val_predict(model, X, y, cv=3, method="predict_proba").shape == (120, 3)
    _, _, scores = learning_curve(
        model, X, y, cv=3, train_sizes=[0.5, 1.0], exploit_incremental_learning=True
    )
    assert scores.shape == (2, 3)


# --- inside other estimators ----------------------------------------------------------------------

WRAPPED_CLASSIFIERS = {
    "calibrated": lambda model: CalibratedClassifierCV(model, cv=3),
    "calibrated, not an ensemble": lambda model: CalibratedClassifierCV(
        model, cv=3, ensemble=False
    ),
    "bagging": lambda model: BaggingClassifier(model, n_estimators=3, random_state=0),
    "bagging in threads": lambda model: BaggingClassifier(
        model, n_estimators=4, max_features=3, random_state=0, n_jobs=2
    ),
    "voting": lambda model: VotingClassifier(
        [("net", model), ("linear", LogisticRegression())], voting="soft"
    ),
    "stacking": lambda model: StackingClassifier(
        [("net", model), ("linear", LogisticRegression())],
        final_estimator=LogisticRegression(),
        cv=3,
    ),
    "stacked on top": lambda model: StackingClassifier(
        [("linear", LogisticRegression())], final_estimator=model, cv=3
    ),
    "one versus rest": OneVsRestClassifier,
    "pipeline": lambda model: make_pipeline(MinMaxScaler(), model),
}


@pytest.mark.parametrize("name", WRAPPED_CLASSIFIERS)
def test_inside_classifiers(name):
    X, y = draw(BackpropClassifier)
    model = WRAPPED_CLASSIFIERS[name](make(BackpropClassifier)).fit(X, y)
    assert model.score(X, y) > 0.7
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1, rtol=1e-6)


WRAPPED_REGRESSORS = {
    "bagging": lambda model: BaggingRegressor(model, n_estimators=3, random_state=0),
    "voting": lambda model: VotingRegressor([("net", model), ("linear", Ridge())]),
    "stacking": lambda model: StackingRegressor(
        [("net", model), ("linear", Ridge())], final_estimator=Ridge(), cv=3
    ),
    "target scaled": lambda model: TransformedTargetRegressor(model, transformer=StandardScaler()),
    "one per output": MultiOutputRegressor,
    "pipeline": lambda model: make_pipeline(StandardScaler(), model),
}


@pytest.mark.parametrize("name", WRAPPED_REGRESSORS)
def test_inside_regressors(name):
    X, y = draw(BackpropRegressor)
    y = np.column_stack([y, -y]) if name == "one per output" else y
    model = WRAPPED_REGRESSORS[name](make(BackpropRegressor)).fit(X, y)
    assert model.score(X, y) > 0.6
    assert model.predict(X).shape == y.shape


def test_multilabel_chain():
    X, Y = draw_labels(120, 5, 3)
    model = ClassifierChain(make(BackpropClassifier), random_state=0).fit(X, Y)
    assert model.score(X, Y) > 0.5


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_permutation_importance_and_partial_dependence(kind):
    X, y = draw(kind)
    X = np.column_stack([X, np.random.default_rng(0).standard_normal(len(X))])
    model = make(kind, max_iter=1000, tol=1e-3).fit(X, y)
    importances = permutation_importance(model, X, y, n_repeats=5, random_state=0).importances_mean
    assert importances[:5].max() > 5 * abs(importances[5])
    assert np.isfinite(partial_dependence(model, X, [0])["average"]).all()


def test_weights_choose_features():
    X, y = draw(BackpropRegressor)
    model = make(BackpropRegressor, hidden_layer_sizes=())

    def importance(fitted):
        return np.abs(fitted.coefs_[0]).sum(axis=1)

    assert (
        RFE(model, n_features_to_select=2, importance_getter=importance).fit(X, y).n_features_ == 2
    )
    assert SelectFromModel(model, importance_getter=importance).fit(X, y).transform(X).shape[1] < 5


def test_text_in_front():
    """Sparse tf-idf rows, kept sparse."""
    good, bad = (
        ["fine great lovely", "great fine day", "lovely great"],
        ["awful bad", "bad sad day"],
    )
    texts, y = good * 8 + bad * 12, np.array(["good"] * 24 + ["bad"] * 24)
    model = make_pipeline(TfidfVectorizer(), make(BackpropClassifier)).fit(texts, y)
    assert model.score(texts, y) == 1.0
    assert list(model.predict(["great day", "sad bad"])) == ["good", "bad"]


def test_categories_and_numbers_in_front():
    pandas = pytest.importorskip("pandas")
    X, y = draw(BackpropClassifier)
    frame = pandas.DataFrame(X, columns=list("abcde"))
    frame["city"] = np.where(X[:, 0] > 0, "here", "there")
    front = make_column_transformer(
        (OneHotEncoder(sparse_output=False), ["city"]), remainder=StandardScaler()
    ).set_output(transform="pandas")
    model = make_pipeline(front, make(BackpropClassifier)).fit(frame, y)
    assert model.score(frame, y) > 0.7
    assert "onehotencoder__city_here" in model[-1].feature_names_in_
