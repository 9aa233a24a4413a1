"""Halving: a rung is a pause; who comes through is the fit that was never paused."""

import numpy as np
import pytest
from problems import draw_classes, draw_regression
from scipy.stats import loguniform
from sklearn.decomposition import PCA
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from test_parts import SETTINGS

from fastbp import BackpropClassifier, BackpropRegressor, BackpropSearchCV, TabularRegressor
from fastbp.search.strategies import plan_rungs
from fastbp.training.minibatches import Run

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = draw_classes(90, 5, 3)
GRID = {"alpha": [1e-4, 1.0, 10.0], "learning_rate_init": [1e-4, 1e-3, 1e-2]}
HOW = dict(hidden_layer_sizes=(6,), max_iter=18, batch_size=16, random_state=0)


def assert_survivors_equal(search, grid):
    """Those that are finished have the grid's scores, bit for bit; others have none."""
    status = search.cv_results_["status"]
    assert set(status) <= {"finished", "discarded"}
    done = status == "finished"
    assert done.any()
    for name, values in grid.cv_results_.items():
        if "test" in name and "rank" not in name:
            ours = search.cv_results_[name]
            np.testing.assert_array_equal(ours[done], values[done], err_msg=name)
            assert np.isnan(ours[~done]).all()
    ranks = search.cv_results_["rank_test_score"]
    assert (ranks[~done] > ranks[done].max()).all()
    assert done[search.best_index_]


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_survivors_equal_their_unpaused_fits(settings):
    net = BackpropClassifier(**HOW | settings)
    grid = GridSearchCV(net, GRID, cv=2).fit(X, Y)
    for n_jobs in (1, 3):
        search = BackpropSearchCV(net, GRID, strategy="halving", cv=2, n_jobs=n_jobs).fit(X, Y)
        assert_survivors_equal(search, grid)
    one = net.set_params(**search.best_params_).fit(X, Y)
    assert np.array_equal(search.predict_proba(X), one.predict_proba(X))


def test_decisions_do_not_depend_on_threads():
    net, params = BackpropRegressor(**HOW), {"alpha": loguniform(1e-5, 10)}
    data = draw_regression(90, 4)
    found = [
        BackpropSearchCV(
            net, params, strategy="halving", n_candidates=12, cv=3, random_state=1, n_jobs=n
        ).fit(*data)
        for n in (1, 4)
    ]
    for name in ("status", "rung", "mean_test_score"):
        np.testing.assert_array_equal(*(search.cv_results_[name] for search in found))


def test_no_epoch_is_trained_twice(monkeypatch):
    trained, before = [], Run.train_epochs

    def train_epochs(self, losses):
        before(self, losses)
        trained.append(self.session.epochs_done)

    monkeypatch.setattr(Run, "train_epochs", train_epochs)
    net = BackpropClassifier(**HOW, tol=0.0, n_iter_no_change=100)
    search = BackpropSearchCV(net, GRID, strategy="halving", cv=2, refit=False).fit(X, Y)
    assert search.rungs_ == [(0.1, 9), (0.4, 3), (1.0, 1)]
    assert sum(trained) == 2 * (9 * 2 + 3 * (8 - 2) + 1 * (18 - 8))
    lengths = [[len(fold["loss"]) for fold in folds] for folds in search.candidate_curves_]
    assert sorted(map(max, lengths)) == [2] * 6 + [8] * 2 + [18]
    assert all(a == b for a, b in lengths)
    assert sorted(search.cv_results_["rung"]) == [0] * 6 + [1] * 2 + [2]


def test_curves_are_those_of_the_fits():
    net = BackpropClassifier(**HOW, early_stopping=True)
    search = BackpropSearchCV(
        net, GRID, strategy="halving", cv=[(np.arange(60), np.arange(60, 90))]
    )
    search.fit(X, Y)
    for params, (fold,) in zip(search.cv_results_["params"], search.candidate_curves_, strict=True):
        one = BackpropClassifier(**net.get_params() | params).fit(X[:60], Y[:60])
        n = len(fold["loss"])
        assert n
        assert fold["loss"].tolist() == one.loss_curve_[:n]
        assert fold["validation_score"].tolist() == one.validation_scores_[:n]
        assert fold["validation_loss"].tolist() == one.validation_loss_curve_[:n]


def test_pipelines_and_several_scores():
    steps = make_pipeline(StandardScaler(), PCA(3), BackpropClassifier(**HOW))
    params = {"pca__n_components": [2, 4], "backpropclassifier__learning_rate_init": [1e-4, 1e-2]}
    how = dict(cv=2, scoring=["neg_log_loss", "accuracy"], refit="accuracy")
    grid = GridSearchCV(steps, params, **how).fit(X, Y)
    search = BackpropSearchCV(steps, params, strategy="halving", **how).fit(X, Y)
    done = search.cv_results_["status"] == "finished"
    for name in ("mean_test_accuracy", "split1_test_neg_log_loss"):
        np.testing.assert_array_equal(
            search.cv_results_[name], np.where(done, grid.cv_results_[name], np.nan)
        )
    assert search.best_score_ == search.cv_results_["mean_test_accuracy"][search.best_index_]


def test_a_scorer_of_the_users_compares_by_the_score_that_refit_names():
    def score(estimator, X, y):
        return {"constant": 1.0, "accuracy": estimator.score(X, y)}

    how = dict(strategy="halving", cv=2, refit="accuracy")
    params = {"learning_rate_init": [1e-5, 1e-4, 1e-2]}
    net = BackpropClassifier(**HOW)
    one = BackpropSearchCV(net, params, scoring=score, **how).fit(X, Y)
    other = BackpropSearchCV(net, params, scoring=["accuracy"], **how).fit(X, Y)
    assert one.best_params_ == other.best_params_ != {"learning_rate_init": 1e-5}


def test_candidates_with_their_own_epochs():
    """Each is paused at the same share of its own `max_iter`."""
    net = BackpropClassifier(**HOW, tol=0.0)
    params = {"max_iter": [6, 30], "alpha": [1e-4, 1.0]}
    search = BackpropSearchCV(net, params, strategy="halving", factor=2, cv=2).fit(X, Y)
    assert search.rungs_ == [(0.1, 4), (0.4, 2), (1.0, 1)]
    allowed = {6: {1, 3, 6}, 30: {3, 12, 30}}
    for one, folds in zip(search.cv_results_["params"], search.candidate_curves_, strict=True):
        assert {len(fold["loss"]) for fold in folds} <= allowed[one["max_iter"]]


def test_what_is_drawn():
    net = BackpropClassifier(**HOW)
    for n, params, expected in ((4, GRID, 4), (None, GRID, 9), (20, GRID, 9)):
        search = BackpropSearchCV(net, params, strategy="halving", n_candidates=n, cv=2)
        assert len(search.fit(X, Y).cv_results_["params"]) == expected


def test_a_candidate_that_fails_ranks_last():
    net = BackpropClassifier(**HOW)
    search = BackpropSearchCV(net, {"alpha": [1e-4, -1.0, 1e-2]}, strategy="halving", cv=2)
    with pytest.warns((FitFailedWarning, UserWarning)):
        search.fit(X, Y)
    assert search.cv_results_["status"][1] == "failed"
    assert search.best_index_ != 1


def test_a_candidate_that_fails_wins_no_rung_by_its_error_score():
    params = {"alpha": [-1.0, -2.0, 1e-4, 1e-3]}
    search = BackpropSearchCV(
        BackpropClassifier(**HOW), params, strategy="halving", factor=2, error_score=100, cv=2,
        refit=False,
    )  # fmt: skip
    with pytest.warns(FitFailedWarning):
        search.fit(X, Y)
    found = zip(search.cv_results_["params"], search.cv_results_["status"], strict=True)
    finished = [params["alpha"] for params, status in found if status == "finished"]
    assert finished
    assert min(finished) > 0


@pytest.mark.parametrize(("n", "factor", "max_iter", "rungs"), [
    (1, 3, 100, [(1.0, 1)]),
    (2, 3, 100, [(0.4, 2), (1.0, 1)]),
    (10, 3, 100, [(0.1, 10), (0.4, 4), (1.0, 2)]),
    (81, 3, 100, [(0.1, 81), (0.4, 27), (1.0, 9)]),
    (100, 10, 100, [(0.1, 100), (0.4, 10), (1.0, 1)]),
    (4, 1.3, 100, [(0.4, 4), (1.0, 3)]),
    (200, 3, 1, [(1.0, 200)]),
    (200, 3, 2, [(0.4, 200), (1.0, 67)]),
    (200, 3, 3, [(0.1, 200), (0.4, 67), (1.0, 23)]),
])  # fmt: skip
def test_rungs(n, factor, max_iter, rungs):
    assert plan_rungs(n, factor, max_iter) == rungs


def test_refusals():
    with pytest.raises(ValueError, match="lbfgs"):
        BackpropSearchCV(BackpropClassifier(solver="lbfgs"), GRID, strategy="halving").fit(X, Y)
    with pytest.raises(ValueError, match="lbfgs"):
        BackpropSearchCV(
            BackpropClassifier(), {"solver": ["adam", "lbfgs"]}, strategy="halving"
        ).fit(X, Y)
    with pytest.raises(ValueError, match="early_discard"):
        BackpropSearchCV(BackpropClassifier(), GRID, strategy="halving", early_discard=True).fit(
            X, Y
        )
    with pytest.raises(ValueError, match="can be paused"):
        BackpropSearchCV(TabularRegressor(), {"dropout": [0.1]}, strategy="halving").fit(X, Y)
    with pytest.raises(ValueError, match="factor"):
        BackpropSearchCV(BackpropClassifier(), GRID, strategy="halving", factor=1).fit(X, Y)
    for strategy in ("grid", "halving"):
        with pytest.raises(ValueError, match="params is an empty list"):
            BackpropSearchCV(BackpropClassifier(), [], strategy=strategy).fit(X, Y)
    with pytest.raises(ValueError, match="cv must make at least one fold"):
        BackpropSearchCV(BackpropClassifier(), GRID, cv=[]).fit(X, Y)


# ------------------------------------------------------------------------------- median rule


def test_hopeless_candidates_are_discarded():
    net = BackpropClassifier(**HOW, tol=0.0, n_iter_no_change=100)
    params = {"alpha": [1e-4, 1e-2], "learning_rate_init": [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 3e-2]}
    grid = GridSearchCV(net, params, cv=3).fit(X, Y)
    found = [
        BackpropSearchCV(net, params, cv=3, early_discard=True, n_jobs=n).fit(X, Y) for n in (1, 3)
    ]
    for search in found:
        assert_survivors_equal(search, grid)
        assert "rung" not in search.cv_results_
        given_up = search.cv_results_["status"] == "discarded"
        assert 0 < given_up.sum() < 9
        for candidate in np.flatnonzero(given_up):
            n_epochs = {len(fold["loss"]) for fold in search.candidate_curves_[candidate]}
            assert n_epochs in ({5}, {9})  # a quarter and a half of 18
    np.testing.assert_array_equal(*(search.cv_results_["status"] for search in found))


def test_lbfgs_is_never_discarded():
    net = BackpropClassifier((4,), solver="lbfgs", max_iter=5, random_state=0)
    params = {"alpha": [1e-4, 1.0, 1e3, 1e5]}
    search = BackpropSearchCV(net, params, cv=2, early_discard=True).fit(X, Y)
    assert set(search.cv_results_["status"]) == {"finished"}


def test_a_huge_factor_leaves_one_candidate():
    assert plan_rungs(9, 1e9, 20) == [(0.4, 9), (1.0, 1)]


def test_a_refit_that_chooses_a_discarded_candidate_warns():
    params = {"alpha": [10.0, 1e-4, 1e-3]}  # the first one is the worst
    search = BackpropSearchCV(
        BackpropClassifier(**HOW), {**params, "learning_rate_init": [1e-5, 0.1]},
        strategy="halving", cv=2,
    )  # fmt: skip
    search.set_params(refit=lambda results: int(np.argmax(results["mean_test_score"])))
    with pytest.warns(UserWarning, match="chose candidate 0, which is discarded"):
        search.fit(X, Y)
    search.set_params(refit=lambda results: int(np.nanargmax(results["mean_test_score"]))).fit(X, Y)
    assert search.cv_results_["status"][search.best_index_] == "finished"
