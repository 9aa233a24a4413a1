"""`scale_targets`: standardised inside, original units outside."""

import pickle
import warnings

import numpy as np
import pytest
from engines import ENGINES
from problems import draw_regression
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler

from fastbp import BackpropRegressor, Loss
from fastbp.data.scaling import measure, standardize
from fastbp.losses import Quantile

SETTINGS = dict(hidden_layer_sizes=(6,), random_state=0, max_iter=15, tol=0.0)
SOLVERS = ["sgd", "adam", "lbfgs"]
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def draw(n_outputs=1, scale=1000.0, shift=-5e4):
    X, y = draw_regression(80, 5, n_outputs)
    return X, y * scale + shift


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("solver", SOLVERS)
def test_equals_scaling_by_hand(solver, n_outputs, weighted, engine_name):
    X, y = draw(n_outputs)
    weight = np.linspace(0.0, 2.0, 80) if weighted else None
    params = dict(SETTINGS, solver=solver, dtype="float64", engine=engine_name)
    model = BackpropRegressor(**params, scale_targets=True).fit(X, y, sample_weight=weight)
    scaler = StandardScaler().fit(y.reshape(80, -1), sample_weight=weight)
    by_hand = BackpropRegressor(**params)
    scaled = scaler.transform(y.reshape(80, -1))
    by_hand.fit(X, scaled[:, 0] if n_outputs == 1 else scaled, sample_weight=weight)
    np.testing.assert_allclose(model.target_mean_, scaler.mean_, rtol=1e-12)
    np.testing.assert_allclose(model.target_scale_, scaler.scale_, rtol=1e-12)
    assert model.loss_ == pytest.approx(by_hand.loss_, rel=1e-7)
    np.testing.assert_allclose(model.coefs_[0], by_hand.coefs_[0], rtol=1e-5, atol=1e-8)
    expected = scaler.inverse_transform(by_hand.predict(X).reshape(80, -1)).reshape(y.shape)
    np.testing.assert_allclose(model.predict(X), expected, rtol=1e-7)


def test_it_makes_fits_independent_of_units():
    X, y = draw_regression(80, 5)
    models = [
        BackpropRegressor(**SETTINGS, scale_targets=True).fit(X, y * factor + shift)
        for factor, shift in ((1.0, 0.0), (1e6, 0.0), (1e-6, 1.0), (1.0, 1e6))
    ]
    for model in models[1:]:
        np.testing.assert_allclose(model.loss_curve_, models[0].loss_curve_, rtol=1e-4)


def test_small_differences_on_a_large_mean_survive_float32():
    X, y = draw_regression(80, 5)
    model = BackpropRegressor(**{**SETTINGS, "max_iter": 300}, scale_targets=True)
    assert model.fit(X, y + 1e9).score(X, y + 1e9) > 0.5


@pytest.mark.parametrize("early_stopping", [False, True])
def test_validation_scores_are_those_of_the_original_scale(early_stopping):
    X, y = draw_regression(120, 5)
    params = dict(SETTINGS, early_stopping=True, dtype="float64", scale_targets=True)
    plain = BackpropRegressor(**params).fit(X, y)
    large = BackpropRegressor(**params).fit(X, 1e4 * y - 7)
    np.testing.assert_allclose(plain.validation_scores_, large.validation_scores_, rtol=1e-6)
    assert large.score(X, 1e4 * y - 7) == pytest.approx(plain.score(X, y), rel=1e-6)


def test_constant_targets():
    X, _ = draw()
    y = np.column_stack([np.full(80, 1e5), np.linspace(0, 3, 80), np.zeros(80)])
    model = BackpropRegressor(**SETTINGS, scale_targets=True).fit(X, y)
    np.testing.assert_array_equal(model.target_scale_[[0, 2]], 1.0)
    np.testing.assert_allclose(model.target_mean_, [1e5, 1.5, 0.0])
    assert np.isfinite(model.predict(X)).all()
    one_row = BackpropRegressor(**SETTINGS, scale_targets=True)
    with pytest.warns(UserWarning, match=r"got 1 sample with.*are kept for all later calls"):
        one_row.partial_fit(X[:1], y[:1, 1])
    assert np.isfinite(one_row.predict(X)).all()


def test_nearly_constant_up_to_rounding():
    mean, scale = measure(np.full((1000, 1), 0.1) * 3, None)
    np.testing.assert_array_equal(scale, [1.0])
    assert mean[0] == pytest.approx(0.3)
    assert standardize(np.full((2, 1), 0.3), mean, scale, np.float32).dtype == np.float32


def test_zero_weights_do_not_count():
    X, y = draw()
    y = np.r_[y, 1e12]
    weight = np.r_[np.ones(80), 0.0]
    model = BackpropRegressor(**SETTINGS, scale_targets=True)
    model.fit(np.r_[X, X[:1]], y, sample_weight=weight)
    assert model.target_mean_[0] == pytest.approx(y[:80].mean())


# --- any size -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", None])
@pytest.mark.parametrize("given", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1e-322, 1e-300, 1e-170, 1e-40, 1e39, 1e170, 1e300, 5e307])
def test_y_of_any_size_is_learned_as_well(size, given, dtype):
    """Squares, sums and float32 neither overflow nor underflow on the way to the predictions."""
    X, y = draw_regression(80, 5)
    X, params = X.astype(given), dict(SETTINGS, scale_targets=True, dtype=dtype)
    y /= np.abs(y).max()
    plain = BackpropRegressor(**params).fit(X, y)
    model = BackpropRegressor(**params).fit(X, y * size)
    rtol = 0.1 if size < 1e-320 else 1e-4
    np.testing.assert_allclose(model.loss_curve_, plain.loss_curve_, rtol=rtol)
    assert model.predict(X).dtype == np.float64
    np.testing.assert_allclose(model.predict(X) / size, plain.predict(X), rtol=rtol, atol=rtol)
    assert model.score(X, y * size) == pytest.approx(plain.score(X, y), abs=rtol)


@pytest.mark.parametrize("size", [1e-170, 1e300])
@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", Quantile([0.1, 0.9])], ids=str)
def test_validation_of_y_of_any_size(loss, size):
    X, y = draw_regression(80, 5)
    params = dict(SETTINGS, scale_targets=True, early_stopping=True)
    plain = BackpropRegressor(loss, **params).fit(X, y)
    model = BackpropRegressor(loss, **params).fit(X, y * size)
    np.testing.assert_allclose(model.validation_scores_, plain.validation_scores_, atol=1e-4)
    scored = BackpropRegressor(loss, **params, scoring=lambda m, X, y: m.score(X, y))
    scored.fit(X, y * size)
    np.testing.assert_allclose(scored.validation_scores_, plain.validation_scores_, atol=1e-4)


@pytest.mark.parametrize("size", [1e-300, 1e-170, 1.0, 1e170, 1e300])
def test_measure_of_any_size_and_weight(size):
    y = np.random.default_rng(0).standard_normal((200, 2)) * [1.0, 1e3] + [0.0, 1e4]
    weight = np.random.default_rng(1).uniform(0, 1, 200)
    expected = measure(y, weight)
    for factor in (1e-300, 1.0, 1e300):
        mean, scale = measure(y * size, weight * factor)
        np.testing.assert_allclose(mean / size, expected[0], rtol=1e-12)
        np.testing.assert_allclose(scale / size, expected[1], rtol=1e-12)


def test_a_mean_far_larger_than_the_spread():
    """A sum of 1e5 numbers of 1e14 is off by more than the steps of float64 there (1/64)."""
    y = 1e14 + np.random.default_rng(0).integers(-8, 9, (100_000, 1)) / 8
    mean, scale = measure(y, None)
    assert abs(mean[0] - y[:, 0].min() - (y[:, 0] - y[:, 0].min()).mean()) <= 1 / 64
    assert scale == pytest.approx((y - 1e14).std(), rel=1e-3)


@pytest.mark.parametrize("given", [np.float32, np.float64])
def test_small_differences_on_a_large_mean_are_predicted(given):
    X, y = draw_regression(80, 5)
    X, y = X.astype(given), y + 1e9
    model = BackpropRegressor(**{**SETTINGS, "max_iter": 300}, scale_targets=True).fit(X, y)
    assert model.predict(X).dtype == np.float64
    assert model.score(X, y) > 0.5


def test_a_mean_of_1e17_and_spread_of_1_is_a_constant():
    X, y = draw_regression(80, 5)
    model = BackpropRegressor(**SETTINGS, scale_targets=True).fit(X, 1e17 + y)
    np.testing.assert_array_equal(model.target_scale_, 1.0)
    np.testing.assert_allclose(model.predict(X), 1e17)


@pytest.mark.parametrize("engine", ENGINES)
def test_predictions_beyond_float32_are_float64_and_beyond_float64_an_error(engine):
    X, y = draw_regression(80, 5)
    X = X.astype(np.float32)
    model = BackpropRegressor(**SETTINGS, scale_targets=True, engine=engine).fit(X, 1e38 * y)
    assert model.predict(X).dtype == np.float32
    far = model.predict(100 * X)
    assert far.dtype == np.float64
    assert 3.5e38 < np.abs(far).max() < 1e42
    model.fit(X, 1e307 * y)
    with pytest.raises(ValueError, match=r"beyond the range of float64.*row \d+ of X"):
        model.predict(1e4 * X)


@pytest.mark.parametrize(("size", "shift"), [(1.0, 1e9), (1e-170, 0.0), (1e-50, 1e-40)])
def test_a_y_that_is_constant_in_float32_only_is_warned_of(size, shift):
    X, y = draw_regression(80, 5)
    y = y * size + shift
    with pytest.warns(UserWarning, match=r"constant in float32\. Set scale_targets=True"):
        BackpropRegressor(**SETTINGS).fit(X, y)
    with pytest.warns(UserWarning, match=r"Output 1 of y has mean"):
        BackpropRegressor(**SETTINGS).fit(X, np.column_stack([X[:, 0], y]))
    for params in ({"dtype": "float64"}, {"scale_targets": True}):
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            warnings.simplefilter("ignore", ConvergenceWarning)
            BackpropRegressor(**SETTINGS, **params).fit(X, y)


def test_validation_targets_far_beyond_the_scale_are_refused():
    X, y = draw_regression(80, 5)
    model = BackpropRegressor(**SETTINGS, scale_targets=True)
    with pytest.raises(ValueError, match=r"y_val.*too far from the mean"):
        model.fit(X, y * 1e-170, X_val=X, y_val=y)


# --- going on -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["partial_fit", "warm_start"])
def test_the_scale_is_that_of_the_first_call(how):
    X, y = draw()
    model = BackpropRegressor(**SETTINGS, scale_targets=True, warm_start=True).fit(X, y)
    mean, scale = model.target_mean_, model.target_scale_
    step = model.partial_fit if how == "partial_fit" else model.fit
    step(X, y * 3 + 1e4)
    np.testing.assert_array_equal(model.target_mean_, mean)
    np.testing.assert_array_equal(model.target_scale_, scale)


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("how", ["partial_fit", "warm_start"])
def test_it_cannot_be_switched_half_way(how, begun):
    X, y = draw_regression(80, 5)
    model = BackpropRegressor(**SETTINGS, scale_targets=begun, warm_start=True).fit(X, y)
    expected = model.predict(X)
    model.set_params(scale_targets=not begun)
    with pytest.raises(ValueError, match=f"scale_targets={begun}.*scale_targets={not begun}"):
        (model.partial_fit if how == "partial_fit" else model.fit)(X, y)
    np.testing.assert_array_equal(model.predict(X), expected)
    model.set_params(warm_start=False).fit(X, y)
    assert hasattr(model, "target_scale_") is not begun


def test_a_failed_fit_keeps_the_old_scale():
    X, y = draw()
    model = BackpropRegressor(**SETTINGS, scale_targets=True).fit(X, y)
    expected = model.predict(X)
    model.set_params(solver="sgd", learning_rate_init=1e30)
    with pytest.raises(ValueError, match="non-finite"):
        model.fit(X, y * 2)
    np.testing.assert_array_equal(model.predict(X), expected)


def test_pickle_and_clone():
    X, y = draw(2)
    model = BackpropRegressor(**SETTINGS, scale_targets=True).fit(X, y)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    assert not hasattr(clone(model), "target_scale_")


# --- what comes out -------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [np.float32, np.float64])
@pytest.mark.parametrize("dtype", ["float32", "float64", None])
def test_dtype_of_predictions(dtype, given):
    X, y = draw(2)
    model = BackpropRegressor(**SETTINGS, scale_targets=True, dtype=dtype).fit(X.astype(given), y)
    plain = BackpropRegressor(**SETTINGS, dtype=dtype).fit(X.astype(given), y)
    assert model.predict(X.astype(given)).dtype == plain.predict(X.astype(given)).dtype


def test_off_leaves_no_trace():
    X, y = draw()
    model = BackpropRegressor(**SETTINGS).fit(X, y)
    assert not {"target_mean_", "target_scale_"} & set(vars(model))


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("loss", ["poisson", Loss(lambda y, s: s - y * s, link="log")])
def test_losses_with_a_link_are_refused(loss, method):
    X, y = draw_regression(40, 3)
    model = BackpropRegressor(loss, scale_targets=True)
    with pytest.raises(ValueError, match=r"scale_targets=True and loss=.*cannot go together"):
        getattr(model, method)(X, np.abs(y))
    BackpropRegressor("poisson", hidden_layer_sizes=(3,), max_iter=2).fit(X, np.abs(y))


def test_a_loss_of_the_users_own_works_in_scaled_units():
    pytest.importorskip("numba")
    X, y = draw()
    model = BackpropRegressor(
        lambda y_true, raw: abs(y_true - raw), **SETTINGS, scale_targets=True
    ).fit(X, y)
    assert model.loss_curve_[0] < 3
    assert abs(model.predict(X).mean() - y.mean()) < y.std()
