"""The tabular estimators in scikit-learn's tools: its checks, searches, ensembles, pipelines."""

import numpy as np
import pytest
from sklearn import config_context
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import StackingClassifier, VotingRegressor
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.inspection import PartialDependenceDisplay, permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    cross_val_predict,
    cross_validate,
)
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from tables import as_frame, draw_table, make
from test_sklearn_checks import run_checks

from fastbp import TabularClassifier, TabularRegressor

ESTIMATORS = [TabularClassifier, TabularRegressor]

# The rows are dealt into parts, and the columns cut at quantiles of the rows: two rows of weight 1
# are not one row of weight 2 there.
EXPECTED = ("check_sample_weight_equivalence_on_dense_data",)
CHECKED = dict(
    n_networks=2, n_members=2, hidden_layer_sizes=16, learning_rate_init=0.04, random_state=0
)


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.filterwarnings("ignore:y has only one class:RuntimeWarning")
def test_checks_of_scikit_learn(kind):
    run_checks(kind(**CHECKED), failing=EXPECTED)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_searches(kind):
    X, y = draw_table(kind)
    frame = as_frame(X)
    grid = {"n_members": [1, 2], "hidden_layer_sizes": [4, (4, 4)]}
    search = GridSearchCV(make(kind), grid, cv=2, n_jobs=1, error_score="raise").fit(frame, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.predict(frame).shape == y.shape
    halving = HalvingGridSearchCV(
        make(kind), {"n_members": [1, 2]}, resource="max_iter", min_resources=2, max_resources=4,
        factor=2, cv=2, error_score="raise", random_state=0,
    ).fit(frame, y)  # fmt: skip
    assert halving.best_estimator_.max_iter == 4


def test_calibration_and_stacking():
    X, y = draw_table(TabularClassifier)
    frame, model = as_frame(X), make(TabularClassifier)
    calibrated = CalibratedClassifierCV(model, cv=2).fit(frame, y)
    np.testing.assert_allclose(calibrated.predict_proba(frame).sum(axis=1), 1)
    stack = StackingClassifier(
        [("one", model), ("other", make(TabularClassifier, n_members=1))],
        final_estimator=LogisticRegression(), cv=2, passthrough=False,
    ).fit(frame, y)  # fmt: skip
    assert stack.predict_proba(frame).shape == (len(y), 3)
    proba = cross_val_predict(model, frame, y, cv=2, method="predict_proba")
    assert proba.shape == (len(y), 3)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_routed_weights_and_validation_data(kind):
    X, y = draw_table(kind)
    frame, weights = as_frame(X), np.linspace(0, 1, len(y))
    with config_context(enable_metadata_routing=True):
        model = make(kind).set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        result = cross_validate(
            model, frame, y, cv=2, params={"sample_weight": weights}, return_estimator=True
        )
        half = len(y) // 2
        if kind is TabularRegressor:
            direct = make(kind).fit(frame[half:], y[half:], sample_weight=weights[half:])
            expected = direct.predict(frame)
            np.testing.assert_array_equal(result["estimator"][0].predict(frame), expected)
            score = direct.score(frame[:half], y[:half], weights[:half])
            assert result["test_score"][0] == score
        assert np.isfinite(result["test_score"]).all()
        held_out = make(kind).set_fit_request(X_val=True, y_val=True)
        pipeline = make_pipeline(FunctionTransformer(), held_out, transform_input=["X_val"])
        pipeline.fit(frame, y, X_val=frame[:9], y_val=y[:9])
        direct = make(kind).fit(frame, y, X_val=frame[:9], y_val=y[:9])
        np.testing.assert_array_equal(pipeline.predict(frame), direct.predict(frame))


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_a_look_from_outside(kind):
    X, y = draw_table(kind)
    X[X[:, 1] == None, 1] = "grey"  # noqa: E711  (scikit-learn sorts them)
    frame = as_frame(X)
    model = make(kind, max_iter=40, learning_rate_init=0.02).fit(frame, y)
    found = permutation_importance(model, frame, y, n_repeats=3, random_state=0)
    assert found.importances_mean.argmax() == 0
    plt = pytest.importorskip("matplotlib.pyplot")
    display = PartialDependenceDisplay.from_estimator(
        model, frame, ["size", "colour"], categorical_features=["colour"], target=0,
        grid_resolution=4,
    )  # fmt: skip
    assert display.axes_.size == 2
    plt.close("all")


def test_around_the_regressor():
    X, y = draw_table(TabularRegressor)
    frame, model = as_frame(X), make(TabularRegressor)
    squared = TransformedTargetRegressor(model, transformer=StandardScaler()).fit(frame, 100 * y)
    assert squared.predict(frame).std() > 1
    voting = VotingRegressor([("a", model), ("b", make(TabularRegressor, n_members=1))])
    assert voting.fit(frame, y).predict(frame).shape == y.shape


def test_several_labels_by_several_classifiers():
    X, y = draw_table(TabularClassifier)
    Y = np.column_stack([y > 0, y > 1]).astype(int)
    model = MultiOutputClassifier(make(TabularClassifier)).fit(as_frame(X), Y)
    assert model.predict(as_frame(X)).shape == Y.shape
