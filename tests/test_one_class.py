"""y with one class: fitted with one RuntimeWarning, and that class is predicted everywhere."""

import pickle
import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 (makes the import possible)
from sklearn.metrics import log_loss, make_scorer
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, HalvingRandomSearchCV, KFold
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier
from sklearn.neural_network import MLPClassifier
from test_export import check_c, needs_compiler

import fastbp.onnx
from fastbp import BackpropClassifier, BackpropRegressor
from fastbp.inspection import check_gradients, diagnose, input_gradients

X = np.random.RandomState(0).randn(30, 2)
ONE = np.ones(30, int)
LABELS = {
    "int": ONE,
    "int8": ONE.astype(np.int8),
    "bool": np.zeros(30, bool),
    "float": np.full(30, 2.0),
    "str": np.array(["yes"] * 30),
    "object": np.array(["yes"] * 30, dtype=object),
    "date": np.full(30, "2020-02-01", "datetime64[ns]"),
    "list": [3] * 30,
}


def make(**settings):
    return BackpropClassifier(**{"hidden_layer_sizes": (3,), "random_state": 0, **settings})


def fit_warned(model, *data, method="fit", **options):
    """Call; the one warning must be that of one class."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        getattr(model, method)(*data, **options)
    assert [(w.category, w.filename) for w in caught] == [(RuntimeWarning, __file__)]
    assert "only one class" in str(caught[0].message)
    return model


def assert_predicts_one(model, label, X=X):
    np.testing.assert_array_equal(model.classes_, [label])
    np.testing.assert_array_equal(model.predict(X), np.full(X.shape[0], label))
    assert (model.predict_proba(X) == np.ones((X.shape[0], 1))).all()
    assert (model.predict_log_proba(X) == np.zeros((X.shape[0], 1))).all()
    assert [weights.shape for weights in model.coefs_] == [(2, 3), (3, 1)]
    assert (model.n_outputs_, model.out_activation_) == (1, "logistic")


@pytest.mark.parametrize("dtype", ["float32", None])
@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_any_type(kind, dtype):
    y = LABELS[kind]
    model = fit_warned(make(dtype=dtype), X, y)
    assert_predicts_one(model, np.asarray(y)[0])
    assert model.classes_.dtype == np.asarray(y).dtype or kind == "object"
    assert model.score(X, y) == 1.0
    assert np.isfinite(model.loss_)
    for given in (np.float32, np.float64):
        expected = np.float64 if dtype is None else given  # that of X @ W
        assert model.predict_proba(X.astype(given)).dtype == expected


@pytest.mark.parametrize(
    "settings",
    [
        dict(max_iter=2),
        dict(solver="sgd", learning_rate_init=1e3),
        dict(solver="lbfgs", max_iter=1),
        dict(batch_size=100),
        dict(max_time=1e-9),
        dict(hidden_layer_sizes=(3,), dropout=0.5, ema_decay=0.9),
        dict(loss="focal", max_iter=5),
        dict(loss=fastbp.losses.LogLoss(label_smoothing=0.1), max_iter=5),
        dict(class_weight="balanced", max_iter=5),
        dict(class_weight={0: 3, 1: 2}, max_iter=5),
        dict(early_stopping=True),
        dict(early_stopping=True, scoring="roc_auc"),
        dict(early_stopping=True, scoring="loss", max_iter=5),
    ],
    ids=str,
)
def test_one_warning_whatever_the_settings(settings):
    model = fit_warned(make(**settings), X, ONE)
    assert_predicts_one(model, 1)
    assert np.isfinite(model.loss_)
    if model.early_stopping and model.scoring is None:
        assert set(model.validation_scores_) == {1.0}
        assert model.best_iter_ == 1


def test_data_of_other_forms():
    assert_predicts_one(fit_warned(make(), X[:1], ONE[:1]), 1)
    assert_predicts_one(fit_warned(make(), X * 1e3, ONE), 1)
    assert_predicts_one(fit_warned(make(), sparse.csr_array(X), ONE), 1, sparse.csr_array(X))
    model = fit_warned(make(scoring="f1"), X, ONE, X_val=X[:3], y_val=ONE[:3])
    assert set(model.validation_scores_) == {1.0}
    weight = np.arange(30) % 2
    assert fit_warned(make(), X, ONE, sample_weight=weight).score(X, ONE, weight) == 1.0


METRICS = {
    "neg_log_loss": np.nan,  # it asks for two classes
    "roc_auc": np.nan,  # it warns
    "f1": np.nan,  # it knows no class 1
    make_scorer(log_loss, response_method="predict_proba"): np.nan,
    "accuracy": 1.0,
    "f1_macro": 1.0,
    "neg_mean_squared_error": 0.0,
}


@pytest.mark.parametrize("scoring", METRICS, ids=str)
def test_a_metric_says_what_it_says_of_one_class(scoring):
    """Where scikit-learn does not define it, that is NaN: no error, and no best epoch."""
    for more in ({}, {"X_val": X[:5], "y_val": ONE[:5] * 0}):
        model = make(early_stopping=not more, scoring=scoring, max_iter=3)
        fit_warned(model, X, ONE * 0, **more)
        np.testing.assert_array_equal(model.validation_scores_, [METRICS[scoring]] * 3)
        known = METRICS[scoring] == METRICS[scoring]
        assert model.best_validation_score_ == (METRICS[scoring] if known else None)
        assert model.best_iter_ == (1 if known else None)
        assert_predicts_one(model, 0)


def test_without_a_best_epoch_early_stopping_ends_all_the_same():
    model = fit_warned(make(early_stopping=True, scoring="roc_auc", n_iter_no_change=4), X, ONE)
    assert model.n_iter_ == 5
    assert pickle.loads(pickle.dumps(model)).best_validation_score_ is None


def test_a_scorer_of_the_users_is_asked():
    """It may record, end training or fail."""
    scores = iter([1.0, 3.0, 2.0])
    model = make(early_stopping=True, scoring=lambda model, X, y: next(scores), max_iter=3)
    fit_warned(model, X, ONE)
    assert model.validation_scores_ == [1.0, 3.0, 2.0]
    assert (model.best_validation_score_, model.best_iter_) == (3.0, 2)

    def prune(model, X, y):
        raise TimeoutError("pruned")

    def metric(a, b):
        raise TimeoutError("pruned")

    for scoring in (prune, make_scorer(metric)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            with pytest.raises(TimeoutError, match="pruned"):
                make(early_stopping=True, scoring=scoring).fit(X, ONE)


def test_training_is_that_of_scikit_learn():
    """Losses, weights and draws; there the same network predicts the same class."""
    settings = dict(early_stopping=True, validation_fraction=0.2, max_iter=5)
    ours = fit_warned(make(dtype=None, **settings), X, ONE)
    theirs = MLPClassifier((3,), random_state=0, **settings)
    with pytest.warns(UserWarning, match="Maximum iterations"):
        theirs.fit(X, ONE)
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-10)
    assert ours.validation_scores_ == theirs.validation_scores_
    np.testing.assert_allclose(ours.coefs_[0], theirs.coefs_[0], rtol=0, atol=1e-10)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))


def test_warnings_that_are_user_warnings_may_be_errors():
    """scikit-learn's own test of its MLPs makes errors of UserWarnings, with an y of ones."""
    settings = dict(early_stopping=True, validation_fraction=0.2)
    fit_warned(BackpropClassifier(**settings), X[:10], ONE[:10])
    BackpropRegressor(**settings).fit(X[:10], ONE[:10])


def test_going_on():
    model = fit_warned(make(warm_start=True, max_iter=3), X, ONE)
    fit_warned(model, X, ONE)
    for method in ("fit", "partial_fit"):
        with pytest.raises(ValueError, match="classes"):
            getattr(model, method)(X, X[:, 0] > 0)
    assert_predicts_one(model, 1)
    assert_predicts_one(model.set_params(warm_start=False).partial_fit(X, ONE), 1)
    with pytest.raises(ValueError, match="classes"):
        model.partial_fit(X, 1 - ONE)
    model.set_params(max_iter=200, tol=1e-2).fit(X, X[:, 0] > 0)  # anew
    assert model.predict_proba(X).shape == (30, 2)


def test_partial_fit_with_one_declared_class():
    model = fit_warned(make(), X, ["a"] * 30, method="partial_fit", classes=["a"])
    model.partial_fit(X[:1], ["a"])  # the warning was given
    assert_predicts_one(model, "a")
    with pytest.raises(ValueError, match="classes"):
        model.partial_fit(X, ["b"] * 30)
    with pytest.raises(ValueError, match="at least one class"):
        make().partial_fit(X, ONE, classes=[])


def test_a_part_with_one_of_the_declared_classes_warns_of_nothing():
    model = make().partial_fit(X, ONE, classes=[0, 1, 2])
    assert model.predict_proba(X).shape == (30, 3)


def test_hand_over(tmp_path):
    model = fit_warned(make(), X, np.array(["yes"] * 30))
    fastbp.save(model, tmp_path / "model")
    for copy in (fastbp.load(tmp_path / "model"), pickle.loads(pickle.dumps(model))):
        assert_predicts_one(copy, "yes")
        assert copy.score(X, ["yes"] * 30) == 1.0
    mlp = model.to_sklearn()
    np.testing.assert_array_equal(mlp.predict(X), model.predict(X))
    assert_predicts_one(BackpropClassifier.from_sklearn(mlp), "yes")
    with pytest.warns(UserWarning, match="Maximum iterations"):
        mlp = MLPClassifier((3,), max_iter=2).fit(X, ONE)
    assert_predicts_one(BackpropClassifier.from_sklearn(mlp), 1)


@needs_compiler
def test_to_c(tmp_path):
    check_c(fit_warned(make(), X, ONE), X, tmp_path / "one.c")


@pytest.mark.parametrize("zipmap", [False, True])
def test_onnx(zipmap):
    skl2onnx = pytest.importorskip("skl2onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    fastbp.onnx.register()
    rows = X.astype(np.float32)
    model = fit_warned(make(), rows, np.array(["yes"] * 30))
    graph = skl2onnx.to_onnx(model, rows[:1], options={"zipmap": zipmap})
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    labels, probabilities = session.run(None, {"X": rows})
    assert set(labels) == {"yes"}
    assert (probabilities == [{"yes": 1.0}] * 30) if zipmap else (probabilities == 1).all()


def test_what_looks_inside():
    model = fit_warned(make(), X, ONE)
    assert model.transform(X).shape == (30, 3)
    assert "2-3-1" in str(model.summary())
    assert "2-3-1" in model._repr_html_()
    assert str(diagnose(model, X, ONE))
    assert check_gradients(model, X, ONE).ok
    assert input_gradients(model, X).shape == (30, 2)


# --- where classes go missing ---------------------------------------------------------------------

MISSING = pytest.mark.filterwarnings(
    "ignore:y has only one class:RuntimeWarning",
    "ignore::sklearn.exceptions.ConvergenceWarning",
)


@MISSING
def test_columns_of_one_class():
    Y = np.column_stack([ONE, X[:, 0] > 0, np.zeros(30, int)])
    for wrapper in (MultiOutputClassifier, ClassifierChain):
        model = wrapper(make(max_iter=3)).fit(X, Y)
        np.testing.assert_array_equal(model.predict(X)[:, [0, 2]], Y[:, [0, 2]])
    columns = MultiOutputClassifier(make(max_iter=3)).fit(X, Y).predict_proba(X)
    assert [column.shape[1] for column in columns] == [1, 2, 1]


@MISSING
def test_label_indicators_with_constant_columns():
    """They are no single class: each label keeps its probability."""
    Y = np.column_stack([ONE, X[:, 0] > 0, np.zeros(30, int)]).astype(int)
    for labels in (Y, sparse.csr_array(Y), np.zeros((30, 2), int)):
        model = make(max_iter=3).fit(X, labels)
        assert model.predict_proba(X).shape == labels.shape
        assert model.predict(X).shape == labels.shape


@MISSING
def test_folds_without_a_class():
    y = np.repeat([0, 1], 15)
    search = GridSearchCV(make(max_iter=3), {"alpha": [0, 1]}, cv=KFold(2), error_score="raise")
    assert (search.fit(X, y).cv_results_["mean_test_score"] == 0).all()  # each fold sees one


@MISSING
@pytest.mark.parametrize("kind", [HalvingGridSearchCV, HalvingRandomSearchCV])
def test_halving_searches_with_few_samples(kind):
    y = np.zeros(30, int)
    y[0] = 1
    few = {} if kind is HalvingGridSearchCV else {"n_candidates": 4}
    search = kind(
        make(max_iter=3), {"alpha": [0.0, 0.1, 1.0, 2.0]}, cv=KFold(2), min_resources=4,
        error_score="raise", random_state=0, **few,
    )  # fmt: skip
    assert search.fit(X, y).score(X, y) >= 0
