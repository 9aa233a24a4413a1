"""Warnings that name the cause of poor training, and no false alarms."""

import warnings

import numpy as np
import pytest
import sklearn
from problems import draw_classes, draw_counts, draw_labels, draw_regression
from scipy import sparse
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from sklearn.ensemble import BaggingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler, scale

from fastbp import BackpropClassifier, BackpropRegressor
from fastbp.data.held_out import warn_of_other_scale
from fastbp.data.problem import prepare
from fastbp.optimizers import AdamW, Lion
from fastbp.training import causes

SETTINGS = dict(hidden_layer_sizes=(20,), random_state=0)
POOR = "better than predicting a constant"
NOT_CONVERGED = (
    "Stochastic Optimizer: Maximum iterations ({}) reached and the optimization hasn't converged "
    "yet."
)


def catch(model, X, y, **kwargs):
    """Fit, and return the warnings: one at most, at the line that called it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, y, **kwargs)
    assert all(warning.filename == __file__ for warning in caught)
    assert len(caught) <= 1
    return caught


def fit(model, X, y, **kwargs):
    """Fit, and return the sentences that name a cause of poor training."""
    found = [warning for warning in catch(model, X, y, **kwargs) if POOR in str(warning.message)]
    assert all(warning.category is ConvergenceWarning for warning in found)
    return [str(warning.message) for warning in found]


# --- causes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("factor", "shift", "dtype"),
    [(1e5, 2e5, "float32"), (1e-3, 0.0, "float32"), (1.0, 300.0, None)],
)
def test_unscaled_targets(factor, shift, dtype, engine_name):
    """A large mean alone is no cause but where the output does not start there."""
    X, y = draw_regression(300, 5)
    model = BackpropRegressor(**SETTINGS, max_iter=60, dtype=dtype, engine=engine_name)
    (message,) = fit(model, X, y * factor + shift)
    assert "scale_targets=True" in message
    assert f"mean {np.mean(y * factor + shift):.3g}" in message
    assert "column" not in message
    assert not fit(model.set_params(scale_targets=True), X, y * factor + shift)
    assert model.score(X, y * factor + shift) > 0.3


def test_the_output_is_named():
    X, y = draw_regression(300, 5, 3)
    model = BackpropRegressor(**SETTINGS, max_iter=30)
    (message,) = fit(model, X, y * [1.0, 1.0, 1e5])
    assert "output 2 of y" in message


def test_an_unscaled_column():
    pd = pytest.importorskip("pandas")
    X, y = draw_regression(300, 5)
    X[:, 3] *= 1e4
    model = BackpropRegressor(**SETTINGS, max_iter=30)
    (message,) = fit(model, X, y)
    assert "column 3 of X" in message
    (message,) = fit(model, sparse.csr_array(X), y)
    assert "column 3 of X" in message
    (message,) = fit(model, pd.DataFrame(X, columns=["a", "b", "c", "income", "e"]), y)
    assert "column 3 ('income') of X" in message
    assert not fit(model, scale(X), y)


def test_outliers_of_a_standardised_column_are_not_blamed():
    X, y = draw_regression(1000, 5)
    X[0, 1] = 1000.0
    X = scale(X)
    assert X.max() > causes.LARGE
    (message,) = fit(BackpropRegressor(**SETTINGS, max_iter=30), X, 1e5 * y)
    assert "column" not in message
    assert "scale_targets" in message


def test_a_learning_rate_that_is_too_high():
    X, y = draw_classes(300, 5, 3)
    model = BackpropClassifier(**SETTINGS, activation="tanh", learning_rate_init=300.0)
    (message,) = fit(model, X, y)
    assert "learning_rate_init=300 is too high" in message
    assert "column" not in message
    assert not fit(model.set_params(learning_rate_init=1e-3), X, y)


def test_dead_units():
    X, y = draw_regression(300, 5)
    model = BackpropRegressor(hidden_layer_sizes=(8, 20, 6), learning_rate_init=3.0, random_state=0)
    (message,) = fit(model, X, y)
    assert "units of hidden layer" in message
    assert "are dead" in message
    layer = int(message.split("hidden layer ")[1][0])
    a = X
    for W, b in zip(model.coefs_[:layer], model.intercepts_[:layer]):
        a = np.maximum(a @ W + b, 0)
    assert (a.max(axis=0) == 0).mean() >= 0.9


@pytest.mark.parametrize("early_stopping", [False, True])
def test_after_early_stopping_too(early_stopping):
    X, y = draw_regression(300, 5)
    model = BackpropRegressor(**SETTINGS, early_stopping=early_stopping, max_iter=30)
    assert fit(model, X, y * 1e5)


def test_lbfgs_that_did_not_converge():
    X, y = draw_regression(300, 5)
    X[:, 2] *= 1e12
    model = BackpropRegressor(**SETTINGS, solver="lbfgs", max_iter=2)
    messages = fit(model, X, y * 1e-7)
    assert messages
    assert "column 2 of X" in messages[0]


def shrunk(kind, **params):
    """Fit on an easy task, and return the message of the poor end."""
    X, y = draw_regression(300, 3)
    y = y > 0 if kind is BackpropClassifier else y
    (message,) = fit(kind(**{**SETTINGS, "hidden_layer_sizes": (50, 50), **params}), X, y)
    assert "learning_rate" not in message
    assert "dead" not in message
    return message


@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("kind", [BackpropClassifier, BackpropRegressor])
def test_a_penalty_that_is_too_strong(kind, solver):
    """Its loss comes down from far above that of a constant, as with a rate that is too high."""
    message = shrunk(kind, solver=solver, alpha=300.0, learning_rate_init=0.01)
    assert "alpha=300 is too strong: it shrank the weights to" in message


@pytest.mark.parametrize("solver", [AdamW(weight_decay=50.0), Lion(weight_decay=50.0)], ids=str)
def test_a_weight_decay_that_is_too_strong(solver):
    message = shrunk(BackpropRegressor, solver=solver, learning_rate_init=0.003)
    assert "weight_decay=50 is too strong" in message
    assert "alpha" not in message


def test_a_dropout_that_leaves_nothing():
    message = shrunk(BackpropRegressor, hidden_layer_sizes=(20, 20), dropout=[0.0, 0.97])
    assert "dropout=0.97 leaves on average 0.6 of 20 units of hidden layer 2" in message


def test_a_learning_rate_that_is_too_low():
    X, y = draw_regression(300, 5)
    for model in (BackpropRegressor(**SETTINGS), BackpropRegressor(**SETTINGS, solver="sgd")):
        (message,) = fit(model.set_params(learning_rate_init=1e-8), X, y)
        assert "learning_rate_init=1e-08 is too low" in message


@pytest.mark.parametrize("alpha", [10.0, 30.0, 100.0])
@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
def test_classes_told_apart_with_small_scores_are_better_than_a_constant(solver, alpha):
    """A strong penalty makes the loss of right answers nearly that of a constant."""
    rng = np.random.RandomState(0)
    X = rng.randn(300, 2)
    y = X[:, 0] > 0
    model = BackpropClassifier(solver=solver, alpha=alpha, random_state=0)
    found = fit(model, X, y)
    assert bool(found) == (model.score(X, y) < 0.6)
    assert all("alpha" in message for message in found)


def test_losses_are_compared_without_penalty():
    """At the end the network has half a constant's loss; the penalty is larger than either."""
    X, y = draw_regression(300, 3)
    model = BackpropRegressor(**SETTINGS, alpha=20.0, learning_rate_init=0.01, tol=1e-3)
    assert not fit(model, X, y)
    assert model.loss_curve_[0] > 2 * model.loss_curve_[-1]


@pytest.mark.parametrize(("solver", "what"), [
    ("sgd", {"alpha": 1e7}), (AdamW(weight_decay=1e4), {}),
], ids=str)  # fmt: skip
def test_a_divergence_due_to_a_penalty(solver, what):
    X, y = draw_regression(100, 3)
    model = BackpropRegressor(**SETTINGS, solver=solver, **what)
    name = "alpha=1e\\+07" if what else "weight_decay=10000"
    with pytest.raises(ValueError, match=f"likely cause: {name} is too strong"):
        model.fit(X, y)


# --- one warning, at the user's line --------------------------------------------------------------


def test_one_warning_holds_both_sentences():
    X, y = draw_regression(300, 5)
    (warning,) = catch(BackpropRegressor(**SETTINGS, max_iter=3), X, 1e5 * y)
    assert str(warning.message).startswith(NOT_CONVERGED.format(3) + " Training ended no better")
    assert warning.category is ConvergenceWarning
    (warning,) = catch(BackpropRegressor(**SETTINGS, max_iter=3), X, y)
    assert str(warning.message) == NOT_CONVERGED.format(3)
    (warning,) = catch(BackpropRegressor(**SETTINGS, max_iter=100, max_time=1e-9), X, 1e5 * y)
    assert str(warning.message).startswith("Stochastic Optimizer: max_time=1e-09 seconds are over")
    X[:, 2] *= 1e12
    (warning,) = catch(BackpropRegressor(**SETTINGS, solver="lbfgs", max_iter=2), X, y * 1e-7)
    assert str(warning.message).startswith("lbfgs failed to converge after 2 iteration(s)")
    assert "column 2 of X" in str(warning.message)


@pytest.mark.parametrize("wrap", [
    lambda m: make_pipeline(StandardScaler(), m),
    lambda m: TransformedTargetRegressor(make_pipeline(StandardScaler(), m)),
    lambda m: GridSearchCV(make_pipeline(m), {"backpropregressor__alpha": [0.1]}, cv=2),
    lambda m: BaggingRegressor(m, n_estimators=2),
])  # fmt: skip
def test_the_line_is_the_users_through_scikit_learn(wrap):
    X, y = draw_regression(40, 3)
    model = wrap(BackpropRegressor(**SETTINGS, max_iter=1))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, y)
    assert caught
    assert {warning.filename for warning in caught} == {__file__}
    assert len({warning.lineno for warning in caught}) == 1


def test_the_line_is_the_users_through_metadata_routing():
    X, y = draw_regression(40, 3)
    net = BackpropRegressor(**SETTINGS, max_iter=1)
    with sklearn.config_context(enable_metadata_routing=True):
        net.set_fit_request(X_val=True, y_val=True)
        model = Pipeline([("scale", StandardScaler()), ("net", net)], transform_input=["X_val"])
        (warning,) = catch(model, X, y, X_val=X, y_val=y)
    assert str(warning.message) == NOT_CONVERGED.format(1)


# --- advice that is followed already --------------------------------------------------------------


def test_scaled_targets_are_not_told_to_be_scaled():
    X, y = draw_regression(2000, 5)
    y[0] = 1e6
    model = BackpropRegressor(**SETTINGS, scale_targets=True, solver="sgd", learning_rate_init=1e4)
    with pytest.raises(ValueError, match=r"y has values up to .* standard deviations") as caught:
        model.fit(X, y)
    assert "scale_targets" not in str(caught.value)
    weight = np.where(np.arange(2000) < 1, 1e-15, 1.0)
    model = BackpropRegressor(**SETTINGS, scale_targets=True, warm_start=True, max_iter=2)
    assert not fit(model, X, y, sample_weight=weight)
    (message,) = fit(model, X, y * 1e4 + 1e7, sample_weight=weight)
    assert "in units of the first call's y" in message
    assert "set scale_targets" not in message
    assert "warm_start=False" in message


def test_a_standardised_column_with_outliers_is_not_told_to_be_standardised():
    X, y = draw_regression(3000, 5)
    X[0, 1] = 1e4
    model = BackpropRegressor(**SETTINGS, solver="sgd", learning_rate_init=1e5)
    with pytest.raises(ValueError, match="column 1 of X has outliers up to") as caught:
        model.fit(scale(X), y)
    assert "StandardScaler" not in str(caught.value)


def test_targets_under_a_log_link_are_told_to_be_divided():
    X, y = draw_counts(100, 5)
    model = BackpropRegressor("poisson", **SETTINGS, solver="sgd", learning_rate_init=0.1)
    with pytest.raises(ValueError, match=r"y is unscaled.*divide it by its mean"):
        model.fit(X, 1e6 * y)


# --- no false alarms ------------------------------------------------------------------------------

HEALTHY = {
    "classes": (BackpropClassifier, lambda: draw_classes(200, 5, 3)),
    "labels": (BackpropClassifier, lambda: draw_labels(200, 5, 3)),
    "regression": (BackpropRegressor, lambda: draw_regression(200, 5, 2)),
    "counts": (
        lambda **kwargs: BackpropRegressor("poisson", **kwargs),
        lambda: draw_counts(200, 5),
    ),
    "iris": (BackpropClassifier, lambda: load_iris(return_X_y=True)),
    "wine": (BackpropClassifier, lambda: (scale(load_wine().data), load_wine().target)),
    "digits": (BackpropClassifier, lambda: load_digits(return_X_y=True)),
    "cancer": (
        BackpropClassifier,
        lambda: (scale(load_breast_cancer().data), load_breast_cancer().target),
    ),
    "diabetes": (
        BackpropRegressor,
        lambda: (scale(load_diabetes().data), scale(load_diabetes().target)),
    ),
    "one class is rare": (
        BackpropClassifier,
        lambda: (draw_regression(400, 5)[0], np.arange(400) % 100 == 0),
    ),
    "noise": (
        BackpropRegressor,
        lambda: (draw_regression(400, 5)[0], np.random.default_rng(1).standard_normal(400)),
    ),
    "constant": (BackpropRegressor, lambda: (draw_regression(100, 5)[0], np.full(100, 7.0))),
    "zero": (BackpropRegressor, lambda: (draw_regression(100, 5)[0], np.zeros(100))),
}


@pytest.mark.parametrize("settings", [
    dict(max_iter=1),
    dict(max_iter=3, solver="sgd"),
    dict(max_iter=40),
    dict(max_iter=40, solver="sgd", learning_rate_init=0.05),
    dict(max_iter=40, early_stopping=True, learning_rate_init=0.01),
    dict(max_iter=2, solver="lbfgs"),
    dict(max_iter=40, activation="tanh", hidden_layer_sizes=()),
    dict(max_iter=40, tol=1e6),
], ids=str)  # fmt: skip
@pytest.mark.parametrize("case", HEALTHY)
def test_no_false_alarm(case, settings):
    """Fits that go well, that are merely short, and that have nothing to find."""
    kind, draw = HEALTHY[case]
    model = kind(**{**SETTINGS, **settings})
    assert not fit(model, *draw())


def test_unscaled_data_on_which_training_went_well_are_no_cause():
    X, y = load_digits(return_X_y=True)
    assert not fit(BackpropClassifier(**SETTINGS, max_iter=20), X * 10, y)
    X, y = draw_regression(300, 5)
    model = BackpropRegressor(**SETTINGS, learning_rate_init=0.1, max_iter=200)
    assert not fit(model, X, 40 * y)


def test_partial_fit_is_not_judged():
    X, y = draw_regression(50, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        BackpropRegressor(**SETTINGS).partial_fit(X, 1e6 * y)


def test_a_healthy_fit_computes_nothing(monkeypatch):
    monkeypatch.setattr(causes, "take_sample", None)
    X, y = draw_classes(200, 5, 3)
    fit(BackpropClassifier(**SETTINGS, max_iter=200, learning_rate_init=0.01), X, y)
    X, y = draw_regression(200, 5)
    fit(BackpropRegressor(**SETTINGS, max_iter=200, learning_rate_init=0.01), X, y)


def test_a_stop_by_the_user_is_not_judged():
    class Stop:
        def setup(self, estimator, context):
            pass

        def teardown(self, estimator, context):
            pass

        def on_fit_task_begin(self, estimator, context):
            pass

        def on_fit_task_end(self, estimator, context):
            return True

    X, y = draw_regression(50, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        BackpropRegressor(**SETTINGS).set_callbacks(Stop()).fit(X, 1e6 * y)


# --- parts ----------------------------------------------------------------------------------------


def problem_for(kind, X, y, sample_weight=None):
    """Return the problem that a fit would minimise."""
    return prepare(kind, X, y, sample_weight, settings=kind._check_parameters())


@pytest.mark.parametrize("weighted", [False, True])
def test_loss_of_a_constant(weighted, engine_name):
    """Against formulas: variance, entropy, and the deviance at the mean."""
    weight = np.linspace(0, 2, 200) if weighted else None
    params = dict(SETTINGS, dtype="float64", engine=engine_name)
    X, y = draw_regression(200, 5, 2)
    problem = problem_for(BackpropRegressor(**params), X, y, weight)
    mean = np.average(y, axis=0, weights=weight)
    expected = np.average(0.5 * (y - mean) ** 2, axis=0, weights=weight).mean()
    assert causes.loss_of_constant(problem) == pytest.approx(expected)
    X, y = draw_classes(200, 5, 3)
    problem = problem_for(BackpropClassifier(**params), X, y, weight)
    share = np.bincount(y, weight) / (200 if weight is None else weight.sum())
    assert causes.loss_of_constant(problem) == pytest.approx(-(share * np.log(share)).sum(), 1e-4)
    X, y = draw_labels(200, 5, 3)
    problem = problem_for(BackpropClassifier(**params), X, y, weight)
    p = np.average(y, axis=0, weights=weight)
    expected = -(p * np.log(p) + (1 - p) * np.log(1 - p)).sum()
    assert causes.loss_of_constant(problem) == pytest.approx(expected, 1e-4)
    X, y = draw_counts(200, 5)
    problem = problem_for(BackpropRegressor("poisson", **params), X, y, weight)
    mean = np.average(y, weights=weight)
    ratio = np.where(y > 0, y, 1) / mean
    expected = np.average(y * np.log(ratio) - y + mean, weights=weight)
    assert causes.loss_of_constant(problem) == pytest.approx(expected)


def test_the_sample_is_small_and_spread_over_all_rows():
    X, _ = draw_regression(2000, 3)
    problem = problem_for(BackpropRegressor(**SETTINGS), X, np.arange(2000.0))
    sample = causes.take_sample(problem, np.random.default_rng(0).permutation(2000))
    assert 400 <= len(sample.targets) <= causes.SAMPLE_ROWS
    assert sample.targets[0] == 0
    assert sample.targets[-1] > 1990


# --- validation data of another scale -------------------------------------------------------------


def scaled_and_raw(n_samples=300, n_features=6):
    """Return scaled X, y, raw X_val and y_val of a table with units."""
    rng = np.random.RandomState(0)
    X = rng.randn(n_samples, n_features) * 10.0 ** rng.randint(1, 5, n_features) + 500
    y = X[:, 0] > 500
    half = n_samples // 2
    return StandardScaler().fit_transform(X[:half]), y[:half], X[half:], y[half:]


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array])
def test_validation_data_that_missed_the_scaler_are_noticed(form):
    X, y, X_val, y_val = scaled_and_raw()
    with pytest.warns(UserWarning, match=r"(?s)X_val has another scale.*transform_input"):
        BackpropClassifier(**SETTINGS, tol=0.1).fit(form(X), y, X_val=form(X_val), y_val=y_val)


@pytest.mark.parametrize("n_val", [1, 10, 20])
def test_random_splits_and_drifts_are_not_taken_for_another_scale(n_val):
    rng = np.random.RandomState(0)
    for draw_column in (
        rng.standard_normal, rng.standard_cauchy, lambda n: rng.rand(n) < 0.03,
        lambda n: np.exp(3 * rng.randn(n)), lambda n: rng.randn(n) + np.arange(n) / 10,
    ):  # fmt: skip
        for n_samples in (n_val + 10, 200):
            X = np.transpose([draw_column(n_samples) for _ in range(4)]).astype(float)
            warn_of_other_scale(X[:-n_val], X[-n_val:])  # a warning is an error here
            X = rng.permutation(X)
            if n_val > 1:
                warn_of_other_scale(X[:n_val], X[n_val:])


def test_divergence_recommends_scaled_targets():
    X, y = draw_regression(50, 5)
    model = BackpropRegressor(**SETTINGS, solver="sgd", learning_rate_init=0.1)
    with pytest.raises(ValueError, match=r"y is unscaled.*scale_targets=True"):
        model.fit(X, 1e8 * y)


def test_a_raw_part_is_noticed_where_only_spreads_differ():
    rng = np.random.RandomState(0)
    for factor in (30.0, 1e-3):
        X = StandardScaler().fit_transform(rng.randn(200, 3))
        with pytest.warns(UserWarning, match="X_val has another scale"):
            warn_of_other_scale(X, rng.randn(100, 3) * factor)


@pytest.mark.parametrize("scaled", [False, True])
def test_a_drifting_column_is_not_taken_for_another_scale(scaled):
    """A trend, growth, steps and a jump, alone and beside columns of noise; warnings are errors."""
    rng, t = np.random.RandomState(0), np.arange(1000.0)
    drifts = [
        t, np.exp(t / 100), np.exp(t / 20), np.cumsum(rng.randn(1000)),
        t // 200 * 10 + rng.rand(1000),
        np.where(t < 990, 0, 100) + rng.randn(1000), np.sin(t / 100), -t,
    ]  # fmt: skip
    for drift in drifts:
        for columns in ([drift], [drift, rng.randn(1000)], [drift, *rng.randn(3, 1000)]):
            Z = np.transpose(columns)
            for n_val in (10, 200):
                scaler = StandardScaler(with_mean=scaled, with_std=scaled).fit(Z[:-n_val])
                warn_of_other_scale(*map(scaler.transform, (Z[:-n_val], Z[-n_val:])))


def test_random_splits_of_one_heavy_tail_are_not_taken_for_another_scale():
    for seed in range(400):
        Z = np.exp(4 * np.random.RandomState(seed).randn(21, 1)) / 1e3
        scaler = StandardScaler().fit(Z[:10])
        warn_of_other_scale(Z[:10], Z[10:])
        warn_of_other_scale(scaler.transform(Z[:10]), scaler.transform(Z[10:]))


# --- which cause comes first ----------------------------------------------------------------------


@pytest.mark.parametrize(("X_factor", "y_factor"), [(100, 1), (1, 50), (100, 50), (1, 1e-3)])
@pytest.mark.parametrize("kind", [BackpropClassifier, BackpropRegressor])
def test_a_crushing_penalty_comes_before_scales(kind, X_factor, y_factor):
    X, y = draw_regression(300, 2)
    y = y > 0 if kind is BackpropClassifier else y * y_factor
    model = kind(alpha=1e6, learning_rate_init=0.01, random_state=0)
    (message,) = fit(model, X * X_factor, y)
    assert "Likely cause: alpha=1e+06 is too strong" in message
    assert "scale" not in message


def test_a_crushing_weight_decay_comes_before_scales():
    X, y = draw_regression(300, 2)
    solver = AdamW(weight_decay=300.0)
    model = BackpropRegressor(solver=solver, learning_rate_init=0.003, random_state=0)
    (message,) = fit(model, X * 100, y)
    assert "Likely cause: weight_decay=300 is too strong" in message


def test_the_default_penalty_is_not_blamed_for_small_targets():
    X, y = draw_regression(300, 2)
    (message,) = fit(BackpropRegressor(random_state=0), X, y * 1e-3)
    assert "scale_targets" in message
    assert "alpha" not in message


@pytest.mark.parametrize("kind", [BackpropClassifier, BackpropRegressor])
def test_lbfgs_that_converged_at_a_constant(kind):
    X, y = draw_regression(300, 2)
    y = y > 0 if kind is BackpropClassifier else y
    (message,) = fit(kind(solver="lbfgs", alpha=1e4, random_state=0), X, y)
    assert "alpha=10000 is too strong" in message
    assert not catch(kind(solver="lbfgs", alpha=1e-2, max_iter=2000, random_state=0), X, y)


def test_lbfgs_that_converged_where_nothing_can_be_learned():
    """The linear model has the least loss there is, whatever the units."""
    rng = np.random.RandomState(0)
    X, y = rng.randn(300, 2), rng.randn(300)
    model = BackpropRegressor(hidden_layer_sizes=(), solver="lbfgs", random_state=0)
    for x_unit, y_unit in ((1, 1), (50, 1), (1, 50)):
        assert not catch(model, X * x_unit, y * y_unit)
    assert not catch(model, X, np.full(300, 3.0))


# --- rates ----------------------------------------------------------------------------------------


def test_a_function_that_makes_the_rate_too_high_is_named():
    X, y = draw_regression(300, 2)
    settings = dict(hidden_layer_sizes=(8,), learning_rate=lambda step, n_steps: 1e9)
    words = "what the function learning_rate returns, is too high"
    with pytest.raises(ValueError, match=words):
        BackpropRegressor(**settings, solver="sgd", random_state=0).fit(X, y)
    settings["learning_rate"] = lambda step, n_steps: 1e5
    (message,) = fit(BackpropRegressor(**settings, random_state=0), X, y)
    assert words in message


@pytest.mark.parametrize("solver", ["sgd", AdamW()], ids=str)
def test_a_huge_rate_is_not_blamed_on_the_penalty(solver):
    X, y = draw_regression(300, 2)
    model = BackpropRegressor((8,), solver=solver, learning_rate_init=1e8, random_state=0)
    model.set_params(loss="squared_error", hidden_layer_sizes=(8,))
    with pytest.raises(ValueError, match=r"likely cause: learning_rate_init=1e\+08 is too high"):
        model.fit(X, y)


# --- the first part of y --------------------------------------------------------------------------


def test_only_rows_with_weight_count_for_the_scale_that_is_kept():
    X, y = draw_regression(60, 2)
    model = BackpropRegressor(scale_targets=True, random_state=0)
    with pytest.warns(UserWarning, match="1 sample of weight > 0 with one value of y"):
        model.partial_fit(X, y, sample_weight=np.r_[1.0, np.zeros(59)])
    model = BackpropRegressor(scale_targets=True, random_state=0)
    model.partial_fit(X, y, sample_weight=np.r_[1.0, 1.0, np.zeros(58)])  # no warning
