"""X_val, scoring, max_time, warm_start="resume": what training looks at, where it goes on."""

import math
import pickle
import re
import warnings

import numpy as np
import pytest
import sklearn
from problems import draw_classes, draw_labels, draw_regression
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from fastbp import BackpropClassifier, BackpropRegressor
from fastbp.schedules import Plateau
from fastbp.training import lbfgs, watching

KINDS = [BackpropClassifier, BackpropRegressor]
SETTINGS = dict(
    hidden_layer_sizes=(7,), max_iter=12, batch_size=16, learning_rate_init=0.02, tol=0.0,
    n_iter_no_change=100, random_state=0, dtype="float64",
)  # fmt: skip


def undefined_far_out(y_true, raw):
    """Squared error while a prediction is small, else NaN."""
    return (y_true - raw) ** 2 if abs(raw) < 1e3 else math.nan


def wild_at_the_end(step, n_steps):
    """Learning rate of 1, and of a million after half of the steps."""
    return 1.0 if step < n_steps / 2 else 1e6


def draw(kind, seed=0, n_features=5):
    """Return X, y, X_val, y_val."""
    if kind is BackpropClassifier:
        X, y = draw_classes(160, n_features, 3, seed)
    else:
        X, y = draw_regression(160, n_features)
    return X[:110], y[:110], X[110:], y[110:]


def make(kind, **params):
    """Return an estimator; the regressor's first parameter is its loss."""
    return kind(**{**SETTINGS, **params})


def fit(model, *data, **more):
    """Fit and say nothing of convergence."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(*data, **more)


def assert_same(one, other):
    """Same weights and curves, bit for bit."""
    for a, b in zip(one.coefs_ + one.intercepts_, other.coefs_ + other.intercepts_, strict=True):
        np.testing.assert_array_equal(a, b)
    assert one.loss_curve_ == other.loss_curve_
    assert one.validation_scores_ == other.validation_scores_
    assert one.validation_loss_curve_ == other.validation_loss_curve_


@pytest.mark.parametrize("kind", KINDS)
def test_curves_and_best_weights_of_validation_data(kind, engine_name):
    """Each epoch's score is that of a fit which ends there; the best epoch's weights are kept."""
    X, y, X_val, y_val = draw(kind)
    model = fit(make(kind, engine=engine_name), X, y, X_val=X_val, y_val=y_val)
    assert model.n_iter_ == len(model.validation_scores_) == len(model.validation_loss_curve_) == 12
    for epoch in (1, 5):
        shorter = fit(make(kind, engine=engine_name, max_iter=epoch), X, y)
        assert shorter.score(X_val, y_val) == pytest.approx(model.validation_scores_[epoch - 1])
        if kind is BackpropClassifier:
            loss = log_loss(y_val, shorter.predict_proba(X_val))
        else:
            loss = 0.5 * np.mean((shorter.predict(X_val) - y_val) ** 2)
        assert loss == pytest.approx(model.validation_loss_curve_[epoch - 1])
    best = int(np.argmax(model.validation_scores_))
    assert model.best_iter_ == best + 1
    assert model.best_validation_score_ == model.validation_scores_[best]
    there = fit(make(kind, engine=engine_name, max_iter=best + 1), X, y)
    np.testing.assert_allclose(model.coefs_[0], there.coefs_[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_early_stopping_on_validation_data_trains_on_all_of_X(kind):
    X, y, X_val, y_val = draw(kind)
    model = make(kind, early_stopping=True, n_iter_no_change=3, tol=1.0, max_iter=50)
    model = fit(model, X, y, X_val=X_val, y_val=y_val)
    assert model.n_iter_ < 50  # a tolerance of 1 is out of reach
    assert model.t_ == model.n_iter_ * len(X)
    assert model.best_loss_ is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scoring", ["loss", "scorer", "callable"])
def test_scoring(kind, scoring):
    X, y, X_val, y_val = draw(kind)
    name = "neg_log_loss" if kind is BackpropClassifier else "neg_mean_squared_error"
    seen = []

    def score(model, X, y):
        seen.append((model.predict(X), y))
        return -float(np.mean(model.predict(X) != y))

    wanted = {"loss": "loss", "scorer": name, "callable": score}[scoring]
    model = fit(make(kind, scoring=wanted), X, y, X_val=X_val, y_val=y_val)
    curve = -np.array(model.validation_loss_curve_)
    if scoring == "callable":
        assert len(seen) == 12
        np.testing.assert_array_equal(seen[0][1], y_val)
    else:
        factor = 2 if (kind, scoring) == (BackpropRegressor, "scorer") else 1
        np.testing.assert_allclose(model.validation_scores_, factor * curve)


def test_a_scorer_sees_the_units_of_y():
    X, y, X_val, y_val = draw(BackpropRegressor)
    model = make(BackpropRegressor, scale_targets=True, scoring="neg_mean_squared_error")
    model = fit(model, X, 1000 * y + 5, X_val=X_val, y_val=1000 * y_val + 5)
    error = -np.mean((model.predict(X_val) - 1000 * y_val - 5) ** 2)
    assert error == pytest.approx(model.best_validation_score_)
    plain = fit(make(BackpropRegressor, scale_targets=True), X, y, X_val=X_val, y_val=y_val)
    assert plain.validation_scores_ == pytest.approx(
        fit(make(BackpropRegressor, scale_targets=True), X, 1000 * y + 5,
            X_val=X_val, y_val=1000 * y_val + 5).validation_scores_
    )  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_partial_fit_only_records(kind):
    X, y, X_val, y_val = draw(kind)
    first = {"classes": np.unique(y)} if kind is BackpropClassifier else {}
    looked, blind = make(kind), make(kind)
    for _ in range(3):
        looked.partial_fit(X, y, **first, X_val=X_val, y_val=y_val)
        blind.partial_fit(X, y, **first)
    np.testing.assert_array_equal(looked.coefs_[0], blind.coefs_[0])
    assert len(looked.validation_scores_) == 3
    assert looked.validation_scores_[-1] == pytest.approx(looked.score(X_val, y_val))


@pytest.mark.parametrize("kind", KINDS)
def test_validation_data_pass_through_a_pipeline(kind):
    """The three lines of the documentation: the steps before transform X_val, too."""
    X, y, X_val, y_val = draw(kind)
    X, X_val = 100 * X + 7, 100 * X_val + 7
    with sklearn.config_context(enable_metadata_routing=True):
        net = make(kind).set_fit_request(X_val=True, y_val=True)
        model = Pipeline([("scale", StandardScaler()), ("net", net)], transform_input=["X_val"])
        model = fit(model, X, y, X_val=X_val, y_val=y_val)
    scale = StandardScaler().fit(X)
    by_hand = fit(make(kind), scale.transform(X), y, X_val=scale.transform(X_val), y_val=y_val)
    assert_same(model["net"], by_hand)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (lambda X, y: {"X_val": X}, "y_val missing"),
        (lambda X, y: {"y_val": y}, "X_val missing"),
        (lambda X, y: {"X_val": X[:, :3], "y_val": y}, "X_val.*features"),
        (lambda X, y: {"X_val": X * np.nan, "y_val": y}, "X_val.*NaN"),
        (lambda X, y: {"X_val": X, "y_val": y[:-1]}, "y_val"),
        (lambda X, y: {"X_val": X, "y_val": y, "sample_weight_val": -np.ones(len(y))},
         "sample_weight_val.*negative"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", KINDS)
def test_bad_validation_data(kind, bad, words):
    X, y, X_val, y_val = draw(kind)
    model = make(kind)
    with pytest.raises(ValueError, match=words):
        model.fit(X, y, **bad(X_val, y_val))
    assert not hasattr(model, "n_features_in_")


@pytest.mark.filterwarnings("ignore:X_val has another scale")
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("scoring", [None, "loss", "scorer"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_validation_loss_that_is_nan_is_an_error(kind, scoring, solver, engine_name):
    """Infinities of both signs meet in a layer; training itself goes well."""
    X, y, X_val, y_val = draw(kind, n_features=300)
    name = "accuracy" if kind is BackpropClassifier else "neg_mean_squared_error"
    model = make(kind, hidden_layer_sizes=(30, 30), solver=solver, engine=engine_name)
    model.set_params(scoring=name if scoring == "scorer" else scoring)
    with pytest.raises(ValueError, match=r"NaN after (epoch|iteration) 1.*far beyond"):
        model.fit(X, y, X_val=1e308 * np.sign(X_val), y_val=y_val)
    assert not hasattr(model, "coefs_")


@pytest.mark.parametrize("way", ["early_stopping", "X_val"])
def test_a_diverging_fit_keeps_its_best_epoch(way, engine_name):
    """scikit-learn's issue 29504."""
    X, y, X_val, y_val = draw(BackpropRegressor)
    model = make(
        BackpropRegressor, solver="sgd", learning_rate=wild_at_the_end, batch_size="auto",
        early_stopping=way == "early_stopping", engine=engine_name,
    )  # fmt: skip
    more = {"X_val": X_val, "y_val": y_val} if way == "X_val" else {}
    with pytest.warns(ConvergenceWarning) as caught:
        model.fit(X, y, **more)
    (message,) = [str(warning.message) for warning in caught]
    last = len(model.loss_curve_)
    assert re.search(f"in epoch {last}; likely cause.* of epoch {model.best_iter_}, the", message)
    assert last == model.n_iter_ == len(model.validation_scores_)
    assert np.isnan(model.validation_scores_[-1])
    assert model.best_iter_ == np.nanargmax(model.validation_scores_) + 1 < last
    assert np.isfinite(model.loss_)
    assert np.isfinite(model.predict(X_val)).all()
    if way == "X_val":
        assert model.score(X_val, y_val) == pytest.approx(model.best_validation_score_)
    model.set_params(learning_rate="constant", early_stopping=False).partial_fit(X, y)
    assert np.isfinite(model.predict(X_val)).all()


def test_a_user_function_that_fails_late_leaves_the_best_epoch():
    X, y, X_val, y_val = draw(BackpropRegressor)
    model = make(BackpropRegressor, loss=undefined_far_out, learning_rate=wild_at_the_end)
    with pytest.warns(ConvergenceWarning, match=r"undefined_far_out.*are kept"):
        model.fit(X, y, X_val=X_val, y_val=y_val)
    assert np.isfinite(model.predict(X_val)).all()


@pytest.mark.parametrize("way", ["early_stopping", "X_val"])
def test_a_best_epoch_that_predicts_nothing_is_an_error_alone(way):
    """The issue's example: it gave a warning of what is kept, and then an error."""
    X = np.random.RandomState(0).randn(300, 2)
    y = X[:, 0] * 100
    model = BackpropRegressor(
        hidden_layer_sizes=(8, 8), early_stopping=way == "early_stopping", solver="sgd",
        learning_rate_init=3.0, max_iter=30, scoring="neg_mean_squared_error", random_state=0,
    )  # fmt: skip
    more = {"X_val": X[:9] * 30, "y_val": y[:9]} if way == "X_val" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="non-finite"):
            model.fit(X * 30, y, **more)
    assert not hasattr(model, "coefs_")


@pytest.mark.parametrize("kept", [True, False])
def test_lbfgs_says_once_that_it_diverged(kept, monkeypatch):
    """Of the best iteration that it keeps, or as an error."""
    X, y, X_val, y_val = draw(BackpropRegressor)
    model = make(BackpropRegressor, loss=undefined_far_out, solver="lbfgs")

    def look(self, x):
        original(self, x)
        if self.n_iter == 3:
            raise watching.DivergenceError("it left the numbers.")

    original = lbfgs.Descent.look
    monkeypatch.setattr(lbfgs.Descent, "look", look)
    monkeypatch.setattr(watching, "predicts_finite_scores", lambda problem, params: kept)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if kept:
            model.fit(X, y, X_val=X_val, y_val=y_val)
        else:
            with pytest.raises(ValueError, match="left the numbers"):
                model.fit(X, y, X_val=X_val, y_val=y_val)
    assert [f"the weights of epoch {model.best_iter_}" in str(w.message) for w in caught] == (
        [True] if kept else []
    )


def test_scikit_learns_own_tests_of_divergence_and_names(monkeypatch):
    from sklearn.neural_network.tests import test_mlp

    monkeypatch.setattr(test_mlp, "MLPRegressor", BackpropRegressor)
    test_mlp.test_mlp_diverging_loss()
    test_mlp.test_preserve_feature_names(BackpropRegressor)


def test_a_diverging_fit_is_not_blamed_on_validation_data():
    X, y, X_val, y_val = draw(BackpropRegressor)
    settings = dict(hidden_layer_sizes=(30, 30), batch_size=len(X), learning_rate_init=1e150)
    model = make(BackpropRegressor, **settings)  # the loss of the one step is finite
    with pytest.raises(ValueError, match=r"epoch 1; .*learning_rate_init=1e\+150 is too high"):
        model.fit(X, y, X_val=X_val, y_val=y_val)


def test_early_stopping_ends_on_scores_that_are_nan():
    """One prediction is infinite, and so is the loss: no epoch is better than another."""
    X, y, X_val, y_val = draw(BackpropRegressor)
    model = make(
        BackpropRegressor, loss="poisson", hidden_layer_sizes=(), early_stopping=True,
        n_iter_no_change=3, max_iter=50,
    )  # fmt: skip
    X_val = np.vstack([X_val, np.full((1, 5), 1e6), np.full((1, 5), -1e6)])
    model = fit(model, X, abs(y), X_val=X_val, y_val=np.append(abs(y_val), [1.0, 1.0]))
    assert np.isposinf(model.validation_loss_curve_).all()
    assert np.isnan(model.validation_scores_).all()
    assert model.n_iter_ == 4


def test_unknown_label_in_validation_data():
    X, y, X_val, y_val = draw(BackpropClassifier)
    with pytest.raises(ValueError, match=r"y_val.*classes not in"):
        make(BackpropClassifier).fit(X, y, X_val=X_val, y_val=np.where(y_val == 0, 9, y_val))


def test_labels_of_another_form_are_called_what_they_are():
    """Indicators where labels are wanted, and the reverse: nothing of warm starts."""
    X, y, X_val, y_val = draw(BackpropClassifier)
    with pytest.raises(
        ValueError, match=r"y_val has shape \(50, 3\), but y has one label"
    ) as caught:
        make(BackpropClassifier).fit(X, y, X_val=X_val, y_val=np.eye(3, dtype=int)[y_val])
    assert "warm_start" not in str(caught.value)
    with pytest.raises(ValueError, match=r"y_val has shape \(50,\), but y has 3 labels per"):
        make(BackpropClassifier).fit(X, np.eye(3, dtype=int)[y], X_val=X_val, y_val=y_val)
    X, y, X_val, y_val = draw(BackpropRegressor)
    with pytest.raises(ValueError, match=r"y_val has shape \(50, 2\), but y has one output"):
        make(BackpropRegressor).fit(X, y, X_val=X_val, y_val=np.transpose([y_val, y_val]))


def test_validation_data_of_other_forms():
    """Sparse X_val beside dense X, multilabel, and weights of classes on both."""
    X, Y = draw_labels(90, 5, 3)
    model = fit(make(BackpropClassifier), X[:60], Y[:60], X_val=X[60:], y_val=Y[60:])
    again = fit(
        make(BackpropClassifier), sparse.csr_array(X[:60]), Y[:60],
        X_val=sparse.csr_array(X[60:]), y_val=Y[60:],
    )  # fmt: skip
    np.testing.assert_allclose(model.validation_loss_curve_, again.validation_loss_curve_)
    X, y, X_val, y_val = draw(BackpropClassifier)
    weights = {0: 2.0, 1: 1.0, 2: 0.5}
    by_class = fit(make(BackpropClassifier, class_weight=weights), X, y, X_val=X_val, y_val=y_val)
    by_sample = fit(
        make(BackpropClassifier), X, y, np.array([weights[c] for c in y]), X_val=X_val,
        y_val=y_val, sample_weight_val=np.array([weights[c] for c in y_val]),
    )  # fmt: skip
    assert_same(by_class, by_sample)


@pytest.mark.parametrize("warm_start", [False, True])
def test_without_an_iteration_there_is_no_best_score(warm_start):
    """A gradient that is small enough from the beginning; the best of before stays."""
    X, y, X_val, y_val = draw(BackpropClassifier)
    val = {"X_val": X_val, "y_val": y_val}
    model = make(BackpropClassifier, solver="lbfgs", tol=10.0, warm_start=warm_start)
    for _ in range(2):
        model.fit(X, y, **val)
        for found in (model, pickle.loads(pickle.dumps(model))):
            assert found.n_iter_ == len(found.validation_scores_) == 0
            assert found.best_validation_score_ is found.best_iter_ is None
    fit(model.set_params(tol=1e-4, max_iter=3), X, y, **val)
    assert model.best_validation_score_ == max(model.validation_scores_)
    best = model.best_validation_score_
    fit(model.set_params(tol=100.0, warm_start=True), X, y, **val)
    assert model.best_validation_score_ == (best if warm_start else None)


# ------------------------------------------------------------------------------- max_time


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("kind", KINDS)
def test_max_time_ends_a_fit_that_is_usable(kind, solver, engine_name):
    X, y, *_ = draw(kind)
    model = make(kind, solver=solver, max_time=1e-9, engine=engine_name, max_iter=10**6)
    model.set_params(n_iter_no_change=np.inf)
    with pytest.warns(ConvergenceWarning, match="max_time=1e-09"):
        model.fit(X, y)
    assert 1 <= model.n_iter_ < 10**5  # it looks at the clock after some tenths of a millisecond
    assert np.isfinite(model.loss_)
    assert model.predict(X).shape == y.shape


def test_time_to_spare_changes_nothing():
    X, y, *_ = draw(BackpropClassifier)
    plain, timed = make(BackpropClassifier), make(BackpropClassifier, max_time=1e6)
    assert_same(fit(plain, X, y), fit(timed, X, y))


# --------------------------------------------------------------------------------- resume

WAYS = {
    "adam": {},
    "sgd, invscaling": {"solver": "sgd", "learning_rate": "invscaling"},
    "plateau": {"learning_rate": Plateau(patience=1), "tol": 0.5},
    "average": {"ema_decay": 0.9},
    "dropout": {"dropout": 0.3},
    "clipped": {"max_grad_norm": 0.1, "solver": "adamw"},
    "early stopping": {"early_stopping": True},
    "early stopping on averages": {"early_stopping": True, "ema_decay": 0.8},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_ten_and_ten_epochs_are_twenty(kind, way, engine_name):
    """By way of a pickle, bit for bit."""
    X, y, *_ = draw(kind)
    settings = {**WAYS[way], "engine": engine_name, "warm_start": "resume"}
    whole = fit(make(kind, **settings, max_iter=20), X, y)
    half = fit(make(kind, **settings, max_iter=10), X, y)
    half = fit(pickle.loads(pickle.dumps(half)), X, y)
    assert_same(half, whole)
    assert half.t_ == whole.t_


@pytest.mark.parametrize("kind", KINDS)
def test_resume_with_validation_data(kind):
    X, y, X_val, y_val = draw(kind)
    val = {"X_val": X_val, "y_val": y_val}
    whole = fit(make(kind, warm_start="resume", max_iter=20), X, y, **val)
    half = fit(make(kind, warm_start="resume", max_iter=10), X, y, **val)
    assert_same(fit(half, X, y, **val), whole)
    assert half.best_iter_ == whole.best_iter_


def test_resume_and_a_fresh_optimizer_differ():
    X, y, *_ = draw(BackpropRegressor)
    resumed = fit(make(BackpropRegressor, warm_start="resume"), X, y)
    fresh = fit(make(BackpropRegressor, warm_start=True), X, y)
    np.testing.assert_array_equal(resumed.coefs_[0], fresh.coefs_[0])
    assert not np.array_equal(fit(resumed, X, y).coefs_[0], fit(fresh, X, y).coefs_[0])
    assert not hasattr(clone(resumed), "coefs_")


@pytest.mark.parametrize(("n_columns", "n_val"), [(1, 2), (2, 1), (2, 3)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_y_val_with_another_number_of_columns(kind, n_columns, n_val):
    """No warm start, and no `classes`: neither was given."""
    X = np.random.RandomState(0).randn(60, 3)
    y = (X > 0).astype(int)
    columns = {1: y[:, 0], 2: y[:, :2], 3: y}
    count = {1: "one (label|output)", 2: "2 (labels|outputs)"}[n_columns]
    for y_val in (columns[n_val], columns[n_val].tolist()):
        words = rf"^y_val has shape .*, but y has {count} per sample"
        with pytest.raises(ValueError, match=words) as caught:
            make(kind).fit(X, columns[n_columns], X_val=X, y_val=y_val)
        assert "warm_start" not in str(caught.value)
        assert "classes" not in str(caught.value)
