"""The learning-rate finder: what it measures, what it suggests, what it leaves alone."""

import numpy as np
import pytest
from problems import draw_classes, draw_labels, draw_regression
from scipy import sparse
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastbp import BackpropClassifier, BackpropRegressor, find_learning_rate
from fastbp.inspection.learning_rate import smooth

ESTIMATORS = [BackpropClassifier, BackpropRegressor]
SETTINGS = dict(hidden_layer_sizes=(8,), random_state=0, batch_size=16)


def draw(kind):
    """Return (X, y) for an estimator class."""
    if kind is BackpropClassifier:
        return draw_classes(200, 5, 3)
    return draw_regression(200, 5, 2)


@pytest.mark.filterwarnings("ignore:The loss still fell at the highest")  # which is low here
@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("kind", ESTIMATORS)
def test_each_step_is_one_of_partial_fit(kind, solver, engine_name):
    """The losses are those of partial_fit over the same minibatches with the same rates.

    With the start that does not depend on y, of which the first part shows only some.
    """
    X, y = draw(kind)
    model = kind(**SETTINGS, solver=solver, dtype=None, engine=engine_name)
    found = find_learning_rate(model, X, y, lowest=1e-3, highest=0.1, n_steps=12)
    np.testing.assert_allclose(found.learning_rates, np.geomspace(1e-3, 0.1, 12))
    stream = np.random.RandomState(0)
    n_params = (5 + 1) * 8 + (8 + 1) * (3 if kind is BackpropClassifier else 2)
    stream.uniform(size=n_params)
    order = stream.permutation(200)
    first = {"classes": np.unique(y)} if kind is BackpropClassifier else {}
    model.set_params(shuffle=False)
    for step in range(12):
        rows = order[16 * step : 16 * (step + 1)]
        if step:
            model._optimizer["learning_rate"] = found.learning_rates[step]
        else:
            model.set_params(learning_rate_init=found.learning_rates[0])
        model.partial_fit(X[rows], y[rows], **first)
        assert found.losses[step] == pytest.approx(model.loss_, rel=1e-9)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("hidden", [(64,), (64, 32)])
def test_the_suggestion_trains_real_data(solver, hidden):
    """As well as the best of a grid, within 3 % of accuracy, after few epochs."""
    X, y = load_digits(return_X_y=True)
    X = X / 16
    model = BackpropClassifier(
        hidden, solver=solver, random_state=0, batch_size=32, max_iter=15, tol=1e-9
    )
    found = find_learning_rate(model, X, y)

    def score(rate):
        with pytest.warns(UserWarning, match="Maximum iterations"):
            model.set_params(learning_rate_init=rate).fit(X[:1200], y[:1200])
        return model.score(X[1200:], y[1200:])

    best = max(score(rate) for rate in (1e-4, 1e-3, 1e-2, 1e-1))
    assert score(found.suggestion) > best - 0.03


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_reproducible_and_harmless(kind):
    X, y = draw(kind)
    model = kind(**SETTINGS, early_stopping=True, verbose=True)
    before = dict(vars(model))
    first, second = find_learning_rate(model, X, y), find_learning_rate(model, X, y)
    np.testing.assert_array_equal(first.losses, second.losses)
    assert first.suggestion == second.suggestion
    assert vars(model) == before
    other = find_learning_rate(clone(model).set_params(random_state=1), X, y)
    assert not np.array_equal(first.losses, other.losses)


def test_a_fitted_estimator_keeps_its_weights():
    X, y = draw(BackpropRegressor)
    model = BackpropRegressor(**SETTINGS, tol=1e-2, warm_start=True).fit(X, y)
    expected = model.predict(X)
    fresh = find_learning_rate(clone(model), X, y)
    np.testing.assert_array_equal(find_learning_rate(model, X, y).losses, fresh.losses)
    np.testing.assert_array_equal(model.predict(X), expected)


def test_divergence_ends_the_test_with_nan():
    X, y = draw(BackpropRegressor)
    model = BackpropRegressor(**SETTINGS, solver="sgd")
    found = find_learning_rate(model, X, y, highest=1e6, n_steps=80)
    assert np.isnan(found.losses[-1])
    assert np.isnan(found.smoothed_losses[-1])
    assert 1e-3 < found.suggestion < 1


def test_weights_sparse_and_multilabel_data():
    X, y = draw_labels(100, 6, 3)
    # In float32 the last, diverging steps enlarge the rounding errors of another order of sums.
    model = BackpropClassifier(**SETTINGS, dtype="float64")
    dense = find_learning_rate(model, X, y, np.ones(100))
    np.testing.assert_allclose(
        find_learning_rate(model, sparse.csr_array(X), y).losses, dense.losses, rtol=1e-4
    )
    assert not np.array_equal(
        find_learning_rate(model, X, y, np.linspace(0, 1, 100)).losses, dense.losses
    )


def test_small_data_is_one_minibatch():
    X, y = draw_regression(7, 3)
    model = BackpropRegressor(hidden_layer_sizes=(4,), random_state=0)
    assert np.isfinite(find_learning_rate(model, X, y, n_steps=20).losses).any()


def test_scaled_targets():
    X, y = draw(BackpropRegressor)
    model = BackpropRegressor(**SETTINGS, scale_targets=True)
    found = find_learning_rate(model, X, 1e5 * y)
    assert found.losses[0] < 5


def test_of_a_pipeline_the_last_step():
    X, y = draw(BackpropClassifier)
    net = BackpropClassifier(**SETTINGS)
    pipeline = make_pipeline(StandardScaler(), net)
    found = find_learning_rate(pipeline, 1000 * X + 5, y)
    expected = find_learning_rate(net, StandardScaler().fit_transform(1000 * X + 5), y)
    np.testing.assert_array_equal(found.losses, expected.losses)
    assert not hasattr(pipeline[0], "mean_")
    alone = find_learning_rate(make_pipeline(net), X, y)
    np.testing.assert_array_equal(alone.losses, find_learning_rate(net, X, y).losses)


def test_of_searches_and_target_transformers_the_network():
    X, y = draw(BackpropRegressor)
    y = y[:, 0]
    net = BackpropRegressor(**SETTINGS)
    expected = find_learning_rate(net, X, StandardScaler().fit_transform(y[:, np.newaxis])[:, 0])
    scaled = TransformedTargetRegressor(net, transformer=StandardScaler())
    logarithmic = TransformedTargetRegressor(net, func=np.arcsinh, inverse_func=np.sinh)
    grid = {"regressor__alpha": [1e-4]}
    fitted = GridSearchCV(scaled.set_params(regressor__max_iter=2, regressor__tol=10.0), grid, cv=2)
    for model in (scaled, GridSearchCV(scaled, grid), make_pipeline("passthrough", scaled)):
        np.testing.assert_array_equal(find_learning_rate(model, X, y).losses, expected.losses)
    with pytest.warns(ConvergenceWarning):
        fitted.fit(X, y)
    np.testing.assert_array_equal(find_learning_rate(fitted, X, y).losses, expected.losses)
    np.testing.assert_array_equal(
        find_learning_rate(logarithmic, X, y).losses,
        find_learning_rate(net, X, np.arcsinh(y)).losses,
    )
    assert not hasattr(scaled, "transformer_")


def test_it_prints_as_one_line():
    X, y = draw(BackpropClassifier)
    model = BackpropClassifier(**SETTINGS)
    found = find_learning_rate(model, X, y)
    assert repr(found).startswith(f"LearningRateCurve(suggestion={found.suggestion:.2g}; of 100 ra")
    assert "\n" not in repr(found)
    with pytest.warns(UserWarning, match=r"still fell at the highest learning rate, 0\.01"):
        found = find_learning_rate(model, X, y, highest=1e-2)
    assert repr(found).endswith(", where it still fell: no rate was too high)")


def test_nothing_to_learn_warns():
    X = np.random.default_rng(0).standard_normal((200, 3))
    y = np.zeros(200)
    model = BackpropRegressor(hidden_layer_sizes=(), solver="sgd", random_state=0)
    with pytest.warns(UserWarning, match="fell at no learning rate"):
        find_learning_rate(model, X, y, lowest=3.0, highest=100.0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_data_on_which_no_loss_is_finite_are_an_error(dtype):
    X, y = draw(BackpropRegressor)
    large = 1e30 if dtype == "float32" else 1e200
    model = BackpropRegressor(**SETTINGS, dtype=dtype)
    with pytest.raises(ValueError, match=r"first step on.* X has values up to .*e\+.*scale it"):
        find_learning_rate(model, X * large, y)
    with pytest.raises(ValueError, match=r"first step on.* y is unscaled.*scale_targets"):
        find_learning_rate(model, X, y * large)
    with pytest.raises(ValueError, match=r"first step on.* X has values"):
        find_learning_rate(model, sparse.csr_array(X * large), y)


def test_what_it_refuses():
    X, y = draw(BackpropRegressor)
    model = BackpropRegressor(**SETTINGS)
    with pytest.raises(ValueError, match="lbfgs"):
        find_learning_rate(BackpropRegressor(solver="lbfgs"), X, y)
    with pytest.raises(TypeError, match=r"Got LinearRegression\(\) in TransformedTargetRegressor"):
        find_learning_rate(TransformedTargetRegressor(LinearRegression()), X, y)
    with pytest.raises(ValueError, match="lowest"):
        find_learning_rate(model, X, y, lowest=1.0, highest=0.1)
    with pytest.raises(ValueError, match="n_steps"):
        find_learning_rate(model, X, y, n_steps=3)
    with pytest.raises(ValueError, match="alpha"):
        find_learning_rate(BackpropRegressor(alpha=-1), X, y)


def test_the_average_has_no_lag():
    losses = np.abs(np.linspace(-1, 1, 101))
    assert np.argmin(smooth(losses)) == 50
    np.testing.assert_allclose(smooth(np.ones(50)), 1.0)
    spiked = np.r_[losses, 1e9]
    assert np.nanmax(smooth(spiked)) < 2.5


def test_plot():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    from matplotlib import pyplot

    X, y = draw(BackpropClassifier)
    found = find_learning_rate(BackpropClassifier(**SETTINGS), X, y)
    ax = found.plot()
    assert ax.get_xscale() == "log"
    assert f"{found.suggestion:.2g}" in ax.get_legend().get_texts()[-1].get_text()
    assert found.plot(ax=ax) is ax
    pyplot.close("all")
