"""BackpropSearchCV's grid and random: results of scikit-learn's searches, with less work."""

import pickle
import tracemalloc

import numpy as np
import pytest
import scipy.sparse
import sklearn
from covering import first_of
from problems import draw_classes, draw_regression
from scipy.stats import loguniform
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.callback import ScoringMonitor
from sklearn.decomposition import PCA
from sklearn.exceptions import FitFailedWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    RandomizedSearchCV,
    ShuffleSplit,
    cross_val_score,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.utils.validation import check_is_fitted
from test_sklearn_checks import run_checks

from fastbp import BackpropClassifier, BackpropRegressor, BackpropSearchCV, TabularRegressor
from fastbp.estimators.fitting import OpenFit
from fastbp.search.parts import Data, Part

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = draw_classes(90, 5, 3)
NET = BackpropClassifier((6,), max_iter=6, random_state=0)
GRID = {"alpha": [1e-4, 1.0], "learning_rate_init": [1e-3, 1e-2]}


def assert_same_results(ours, theirs):
    """Same columns in the same order, dtypes and values, times aside; and the same best."""
    a, b = ours.cv_results_, theirs.cv_results_
    assert list(a) == list(b)
    for name in a:
        if name == "params":
            assert a[name] == b[name]
            continue
        assert a[name].dtype == b[name].dtype, name
        assert type(a[name]) is type(b[name])
        if "_time" not in name:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)
    for name in ("best_index_", "best_params_", "best_score_", "n_splits_", "multimetric_"):
        a, b = getattr(ours, name, None), getattr(theirs, name, None)
        assert a == b or np.isnan([a, b]).all()
    assert hasattr(ours, "best_estimator_") == hasattr(theirs, "best_estimator_")


def compare(estimator, params, X, y, *, n_jobs=(1, 3), fit=None, **how):
    """Fit both searches, ours for each count of jobs; return ours."""
    fit = fit or {}
    theirs = GridSearchCV(estimator, params, **how).fit(X, y, **fit)
    for n in n_jobs:
        ours = BackpropSearchCV(estimator, params, n_jobs=n, **how).fit(X, y, **fit)
        assert_same_results(ours, theirs)
        if how.get("refit", True):
            assert np.array_equal(ours.predict(X), theirs.predict(X))
            assert ours.score(X, y) == theirs.score(X, y)
    return ours


def pipe(*steps, net=NET):
    return Pipeline([*((type(step).__name__.lower(), step) for step in steps), ("net", net)])


@pytest.mark.parametrize("settings", [
    {}, dict(solver="lbfgs"), dict(early_stopping=True, scoring="f1_macro"), dict(dtype=None),
    dict(warm_start=True), dict(class_weight="balanced", engine="numba"), dict(n_threads=1),
], ids=str)  # fmt: skip
def test_grid_of_classifiers(settings):
    search = compare(clone(NET).set_params(**settings), GRID, X, Y, cv=3, return_train_score=True)
    assert len(search.candidate_curves_) == 4
    assert len(search.candidate_curves_[0]) == 3


def test_grid_of_regressors():
    X, y = draw_regression(80, 4, 2)
    net = BackpropRegressor(hidden_layer_sizes=(6,), max_iter=5, scale_targets=True, random_state=0)
    params = [{"loss": ["huber", "squared_error"]}, {"hidden_layer_sizes": [(3,), (9, 4)]}]
    compare(net, params, X, y, cv=ShuffleSplit(3, random_state=0), scoring="r2")


def test_rows_that_come_twice():
    splits = [(np.r_[0:60, 0:20], np.arange(60, 90)), (np.arange(30, 90), np.arange(30))]
    compare(NET, GRID, X, Y, cv=splits)
    mask = np.arange(90) % 3 > 0
    compare(NET, GRID, X, Y, cv=[(mask, ~mask), (np.arange(-60, 0), np.arange(30))])


@pytest.mark.parametrize("kind", ["float32", "int", "list", "frame", "csr", "fortran"])
def test_kinds_of_x(kind):
    pd = pytest.importorskip("pandas") if kind == "frame" else None
    given = {
        "float32": lambda: X.astype(np.float32),
        "int": lambda: np.rint(3 * X).astype(int),
        "list": lambda: X.tolist(),
        "frame": lambda: pd.DataFrame(X, columns=list("abcde")),
        "csr": lambda: scipy.sparse.csr_array(np.maximum(X, 0)),
        "fortran": lambda: np.asfortranarray(X),
    }[kind]()
    search = compare(NET, GRID, given, Y, cv=3)
    assert hasattr(search, "feature_names_in_") == (kind == "frame")


def test_random_draws_as_scikit_learn():
    params = {"alpha": loguniform(1e-5, 1), "hidden_layer_sizes": [(3,), (8,)]}
    theirs = RandomizedSearchCV(NET, params, n_iter=5, cv=3, random_state=7).fit(X, Y)
    for n in (1, 2):
        ours = BackpropSearchCV(
            NET, params, strategy="random", n_candidates=5, cv=3, random_state=7, n_jobs=n
        ).fit(X, Y)
        assert_same_results(ours, theirs)


def test_several_scores_and_refit():
    scoring = ["accuracy", "neg_log_loss"]
    compare(NET, GRID, X, Y, cv=3, scoring=scoring, refit="neg_log_loss", return_train_score=True)
    compare(NET, GRID, X, Y, cv=3, scoring=scoring, refit=False)
    compare(NET, GRID, X, Y, cv=3, scoring={"a": make_scorer(accuracy_score)}, refit="a")
    compare(NET, GRID, X, Y, cv=3, refit=False)
    worst = BackpropSearchCV(NET, GRID, cv=3, refit=lambda r: r["rank_test_score"].argmax())
    assert worst.fit(X, Y).best_index_ == worst.cv_results_["rank_test_score"].argmax()
    assert not hasattr(worst, "best_score_")
    with pytest.raises(ValueError, match="multi-metric"):
        BackpropSearchCV(NET, GRID, scoring=scoring).fit(X, Y)


def test_scorers_of_the_users():
    """They get the fitted pipeline and the rows as they came."""
    seen = []

    def score(estimator, X, y):
        seen.append((type(estimator), X.shape[1]))
        return float(np.mean(estimator.predict(X) == y))

    def scores(estimator, X, y):
        return {"a": score(estimator, X, y), "b": 0.5}

    steps = pipe(StandardScaler(), PCA(2))
    params = {"pca__n_components": [2, 3], "net__alpha": [1e-4, 1.0]}
    compare(steps, params, X, Y, cv=3, scoring=score)
    compare(steps, params, X, Y, cv=3, scoring=scores, refit="a")
    assert set(seen) == {(Pipeline, 5)}


def test_weights_and_groups():
    weight, groups = np.random.default_rng(0).random(90), np.arange(90) % 4
    fit = dict(sample_weight=weight)
    compare(NET, GRID, X, Y, cv=3, fit=fit)
    compare(NET, GRID, X, Y, cv=GroupKFold(2), fit=fit | dict(groups=groups))
    steps, params = pipe(StandardScaler()), {"net__alpha": [1e-4, 1.0]}
    compare(steps, params, X, Y, cv=3, fit=dict(net__sample_weight=weight))


def test_metadata_routing():
    weight, groups = np.random.default_rng(0).random(90), np.arange(90) % 4
    with sklearn.config_context(enable_metadata_routing=True):
        net = clone(NET).set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        fit = dict(sample_weight=weight, groups=groups)
        compare(net, GRID, X, Y, cv=GroupKFold(3), fit=fit)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        compare(pipe(scaler, net=net), {"net__alpha": [1e-4, 1.0]}, X, Y, cv=3,
                fit=dict(sample_weight=weight))  # fmt: skip
        net = clone(NET).set_params(early_stopping=True)
        net.set_fit_request(X_val=True, y_val=True)
        steps = pipe(StandardScaler(), net=net).set_params(transform_input=["X_val"])
        fit = dict(X_val=3 * X[:20], y_val=Y[:20])
        compare(steps, {"net__alpha": [1e-4, 1.0]}, X, Y, cv=3, fit=fit)


def test_validation_data():
    net = clone(NET).set_params(max_iter=20)
    compare(net, GRID, X, Y, cv=3, fit=dict(X_val=X[:20], y_val=Y[:20]))
    with pytest.raises(ValueError, match="Did you mean"):
        BackpropSearchCV(NET, GRID).fit(X, Y, eval_set=[(X, Y)])


def test_pipelines():
    steps = pipe(StandardScaler(), PCA(3, random_state=0))
    params = {"net__alpha": [1e-4, 1.0], "pca__n_components": [2, 4],
              "standardscaler": ["passthrough", StandardScaler()]}  # fmt: skip
    compare(steps, params, X, Y, cv=3, return_train_score=True)
    unhashable = {"counting__factor": [[1.0] * 5, [2.0] * 5], "net__alpha": [1e-4, 1.0]}
    compare(pipe(Counting()), unhashable, X, Y, cv=2)
    swap = {"net": [NET, BackpropClassifier((3,), solver="sgd", max_iter=3, random_state=1)]}
    compare(steps, swap, X, Y, cv=2)
    compare(make_pipeline(NET), {"backpropclassifier__alpha": [1e-4, 1.0]}, X, Y, cv=2)


def test_set_output():
    pytest.importorskip("pandas")
    steps = pipe(StandardScaler()).set_output(transform="pandas")
    search = compare(steps, {"net__alpha": [1e-4, 1.0]}, X, Y, cv=3)
    assert search.transform(X).shape == (90, 6)
    assert list(search.best_estimator_[-1].feature_names_in_) == [f"x{i}" for i in range(5)]


class Counting(TransformerMixin, BaseEstimator):
    """Counts how often it is fitted and applied."""

    counts = {"fit": 0, "transform": 0}

    def __init__(self, factor=1.0):
        self.factor = factor

    def fit(self, X, y=None):
        self.counts["fit"] += 1
        return self

    def transform(self, X):
        self.counts["transform"] += 1
        return X * self.factor

    def __sklearn_is_fitted__(self):
        return True


@pytest.mark.parametrize("strategy", ["grid", "halving"])
@pytest.mark.parametrize("n_jobs", [1, 4])
def test_preprocessing_runs_once_per_fold_and_setting(strategy, n_jobs):
    Counting.counts.update(fit=0, transform=0)
    params = {"counting__factor": [1.0, 2.0], "net__alpha": [1e-4, 1e-2, 1.0]}
    BackpropSearchCV(
        pipe(Counting()), params, strategy=strategy, cv=3, refit=False, n_jobs=n_jobs
    ).fit(X, Y)
    assert Counting.counts == {"fit": 6, "transform": 12}


def test_fits_read_the_one_x(monkeypatch):
    """All fits of a search without preprocessing train on one array, float32, by index."""
    arrays = []
    before = OpenFit.__init__

    def begin(self, estimator, X, *more, **how):
        arrays.append((id(X.array), X.array.dtype, len(X.rows)))
        before(self, estimator, X, *more, **how)

    monkeypatch.setattr(OpenFit, "__init__", begin)
    BackpropSearchCV(NET, GRID, cv=3, refit=False, n_jobs=2).fit(X, Y)
    assert len(arrays) == 12
    assert len(set(arrays)) == 1
    assert arrays[0][1:] == (np.float32, 60)


def test_data_are_dropped_after_the_last_fit():
    part = Part(Data(X, Y, {}, {}, [(np.arange(60), np.arange(60, 90))]), 0, preprocesses=True)
    part.expect(NET).expect(NET)
    part.make(pipe(StandardScaler()))
    assert part.X_train.dtype == np.float64
    assert part.features(NET).array.dtype == np.float32
    assert part.X_train is None  # only the converted rows are needed
    part.leave()
    assert part.X_test is not None
    part.leave()
    assert part.X_test is None is part.checked


def test_error_score():
    bad = {"alpha": [1e-4, -1.0], "learning_rate_init": [1e-3]}
    for scoring in (None, ["accuracy", "f1_macro"], lambda e, X, y: {"a": e.score(X, y)}):
        refit = {list: "accuracy", type(None): True}.get(type(scoring), "a")
        for score in (np.nan, 0.25):
            with pytest.warns((FitFailedWarning, UserWarning)):
                compare(NET, bad, X, Y, cv=3, scoring=scoring, refit=refit, error_score=score,
                        return_train_score=True)  # fmt: skip
    with pytest.raises(ValueError, match="alpha"):
        BackpropSearchCV(NET, bad, error_score="raise").fit(X, Y)
    with pytest.raises(ValueError, match="All the 5 fits failed"):
        BackpropSearchCV(NET, {"alpha": [-1.0]}).fit(X, Y)


def test_rows_that_cannot_be_used_fail_their_folds():
    gap = X.copy()
    gap[3, 1] = np.nan
    splits = [(np.arange(30, 90), np.arange(10, 30)), (np.arange(60), np.arange(60, 90))]
    with pytest.warns((FitFailedWarning, UserWarning)):
        compare(NET, GRID, gap, Y, cv=splits, refit=False)


def test_a_step_that_fails():
    params = {"pca__n_components": [2, 99], "net__alpha": [1e-4, 1.0]}
    with pytest.warns((FitFailedWarning, UserWarning)):
        compare(pipe(PCA()), params, X, Y, cv=3)


def test_a_step_that_fails_on_the_rows_to_score_on():
    rare = np.where(np.arange(90) == 3, 9.0, np.sign(X[:, 0]))[:, None]
    for scoring, refit in ((None, True), (["accuracy", "f1_macro"], "accuracy")):
        with pytest.warns(UserWarning, match="(Scoring failed|non-finite)"):
            compare(pipe(OneHotEncoder()), {"net__alpha": [1e-4, 1.0]}, rare, Y, cv=3,
                    scoring=scoring, refit=refit, return_train_score=True)  # fmt: skip


def test_a_step_that_returns_nothing_is_no_step_less():
    step = FunctionTransformer(lambda X: None)
    with pytest.raises(ValueError, match="All the 3 fits failed"):
        BackpropSearchCV(pipe(step), {"net__alpha": [1.0]}, cv=3).fit(X, Y)


def test_rows_that_are_not_there_are_named_before_any_work():
    with pytest.raises(IndexError, match="95"):
        BackpropSearchCV(NET, GRID, cv=[(np.arange(60), np.array([95]))]).fit(X, Y)


def test_a_misspelt_argument_is_named():
    with pytest.raises(TypeError, match=r"'stratgy'. Did you mean strategy\? It takes estimator"):
        BackpropSearchCV(BackpropClassifier(), {"alpha": [1.0]}, stratgy="halving")


def test_refusals():
    for estimator in (LogisticRegression(), make_pipeline(StandardScaler()), BackpropClassifier):
        with pytest.raises(TypeError, match="BackpropSearchCV searches for"):
            BackpropSearchCV(estimator, {}).fit(X, Y)
    with pytest.raises(TypeError, match="in the place of 'net'"):
        BackpropSearchCV(pipe(), {"net": [LogisticRegression()]}).fit(X, Y)
    with pytest.raises(ValueError, match="Did you mean"):
        BackpropSearchCV(NET, {"lr": [0.1]}).fit(X, Y)
    with pytest.raises(ValueError, match="n_candidates"):
        BackpropSearchCV(NET, GRID, strategy="random", n_candidates=None).fit(X, Y)
    with pytest.raises(TypeError, match="strategy='random'"):
        BackpropSearchCV(NET, {"alpha": loguniform(1e-4, 1)}).fit(X, Y)
    with pytest.raises(ValueError, match="n_jobs"):
        BackpropSearchCV(NET, GRID, n_jobs=0).fit(X, Y)
    with pytest.raises(ValueError, match="strategy"):
        BackpropSearchCV(NET, GRID, strategy="bayes").fit(X, Y)


@pytest.mark.parametrize("kind", ["callbacks", "subclass"])
def test_whole_fits(kind):
    """Where callbacks follow, or `fit` is not fastbp's, fits make no pauses."""

    class Own(BackpropClassifier):
        def fit(self, X, y):
            return super().fit(X, y)

    net = Own(**NET.get_params()) if kind == "subclass" else NET
    theirs = GridSearchCV(net, GRID, cv=3).fit(X, Y)
    monitor = ScoringMonitor(scoring="accuracy")
    if kind == "callbacks":
        net = clone(net).set_callbacks(monitor)
    ours = BackpropSearchCV(net, GRID, cv=3, n_jobs=2)
    assert_same_results(ours.fit(X, Y), theirs)
    if kind == "callbacks":
        assert len(monitor.get_logs().data) == (12 + 1) * (6 + 1)  # fits, the refit, epochs
    with pytest.raises(ValueError, match="can be paused"):
        ours.set_params(strategy="halving").fit(X, Y)


def test_callbacks_of_a_candidate_are_told(recwarn):
    """And nobody is told of fits on other machines."""
    monitor = ScoringMonitor(scoring="accuracy")
    params = {"net": [clone(NET), clone(NET).set_callbacks(monitor)]}
    search = BackpropSearchCV(pipe(), params, cv=3, refit=False).fit(X, Y)
    assert len(monitor.get_logs().data) > 0
    with pytest.raises(ValueError, match="can be paused"):
        search.set_params(strategy="halving", n_candidates=None).fit(X, Y)


def test_tabular_estimators():
    X, y = draw_regression(60, 3)
    net = TabularRegressor(max_iter=2, n_networks=2, n_members=2, random_state=0)
    params = {"learning_rate_init": [1e-3, 1e-2]}
    theirs = GridSearchCV(net, params, cv=2).fit(X, y)
    assert_same_results(BackpropSearchCV(net, params, cv=2).fit(X, y), theirs)


def test_tags_and_clones():
    search = BackpropSearchCV(NET, GRID)
    assert search.__sklearn_tags__().classifier_tags.multi_label
    assert search.__sklearn_tags__().input_tags.sparse
    assert clone(search).get_params()["estimator__max_iter"] == 6
    assert repr(search).startswith("BackpropSearchCV(")


SEARCHES = [
    BackpropSearchCV(
        net(hidden_layer_sizes=(30,), max_iter=90, learning_rate_init=0.01, random_state=0),
        {"alpha": [1e-4, 0.1]}, strategy=strategy, cv=2, random_state=0, n_jobs=2,
    )
    for net, strategy in ((BackpropClassifier, "halving"), (BackpropRegressor, "grid"))
]  # fmt: skip


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::UserWarning")
@pytest.mark.parametrize("search", first_of(SEARCHES), ids=lambda search: search.strategy)
def test_estimator_checks(search):
    run_checks(search)


def test_pickles_and_nests():
    search = BackpropSearchCV(NET, GRID, cv=2).fit(X, Y)
    loaded = pickle.loads(pickle.dumps(search))
    assert np.array_equal(loaded.predict(X), search.predict(X))
    assert loaded.candidate_curves_[0][0]["loss"].shape == (6,)
    theirs = cross_val_score(GridSearchCV(NET, GRID, cv=2), X, Y, cv=3)
    assert np.array_equal(cross_val_score(BackpropSearchCV(NET, GRID, cv=2), X, Y, cv=3), theirs)


def peak_of(search, X, y):
    """Bytes that NumPy and Python allocate at most."""
    tracemalloc.start()
    try:
        search.fit(X, y)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_of_large_folds(monkeypatch):
    """One fold is made at a time: of others there is only what networks compute with."""
    monkeypatch.setattr("fastbp.search.parts.LARGE", 1)
    X, y = draw_classes(12_000, 60, 2)
    net = BackpropClassifier((2,), max_iter=1, random_state=0)
    search = BackpropSearchCV(
        pipe(StandardScaler(), net=net), {"net__alpha": [0.0, 0.1, 1.0]}, cv=3, refit=False,
        n_jobs=2,
    )  # fmt: skip
    assert peak_of(search, X, y) < 1.2 * 2 * X.nbytes  # of which there are two folds in flight


def test_rows_to_score_on_are_converted_once(monkeypatch):
    seen = []
    before = BackpropClassifier.score

    def score(self, X, y, sample_weight=None):
        seen.append((id(X.array), X.array.dtype))
        return before(self, X, y, sample_weight)

    monkeypatch.setattr(BackpropClassifier, "score", score)
    steps = pipe(StandardScaler())
    search = BackpropSearchCV(steps, {"net__alpha": [1e-4, 1e-2, 1.0]}, cv=3, refit=False, n_jobs=1)
    search.fit(X, Y)
    assert len(seen) == 9
    assert len({number for number, _ in seen}) <= 3  # one for each fold; a freed one may come again
    assert {dtype for _, dtype in seen} == {np.dtype(np.float32)}


def test_memory_of_a_search_without_preprocessing():
    """Beside X: itself in float32, and the rows that are scored on just now; no fold."""
    X, y = draw_classes(20_000, 60, 2)
    net = BackpropClassifier((2,), max_iter=1, random_state=0)
    search = BackpropSearchCV(net, {"alpha": [0.0, 0.1, 1.0]}, cv=4, refit=False, n_jobs=2)
    # 0.5, for each thread 0.125 to score; then what is small
    assert peak_of(search, X, y) < 1.3 * X.nbytes


def fitted_names(search):
    return {name for name in vars(search) if name.endswith("_")}


def test_nothing_of_an_earlier_call_is_left():
    frame = pytest.importorskip("pandas").DataFrame(X, columns=list("abcde"))
    search = BackpropSearchCV(NET, GRID, strategy="halving", cv=2).fit(frame, Y)
    before = dict(vars(search))
    with pytest.raises(ValueError, match="fits failed"):
        search.set_params(params={"alpha": [-1.0]}, cv=3).fit(X, Y)
    assert all(vars(search)[name] is before[name] for name in fitted_names(search))
    search.set_params(params=GRID, strategy="grid", scoring=["accuracy", "f1_macro"], refit=False)
    assert fitted_names(search.fit(X, Y)) == fitted_names(
        BackpropSearchCV(**search.get_params(deep=False)).fit(X, Y)
    )
    check_is_fitted(search)


def test_a_refit_that_fails_leaves_the_results_and_no_model():
    search = BackpropSearchCV(NET, GRID, cv=2).fit(X, Y)
    search.set_params(refit=lambda results: results["no such column"], params={"alpha": [1.0]})
    with pytest.raises(KeyError, match="no such column"):
        search.fit(X, Y)
    assert search.cv_results_["params"] == [{"alpha": 1.0}]
    with pytest.raises(NotFittedError):
        search.predict(X)
