"""Where a network's output starts: the best constant of each loss, and who starts elsewhere."""

import numpy as np
import pytest
import reference
from problems import draw_classes, draw_counts, draw_labels, draw_regression
from scipy import optimize
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import r2_score
from test_loss_objects import CLASSIFICATION, LEVELS, REGRESSION, draw, reference_of

from fastbp import BackpropClassifier, BackpropRegressor, Loss
from fastbp.data.best_constant import constant_scores
from fastbp.losses import Focal, Gamma, Huber, LogLoss, Quantile, loss_for

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

STILL = dict(hidden_layer_sizes=(3,), max_iter=1, learning_rate_init=1e-30, random_state=0)


def least_loss(value, targets, weight, start):
    """Lowest weighted mean loss of scores that are the same for all samples, by search."""

    def mean_loss(scores):
        return weight @ value(targets, np.tile(scores, (len(targets), 1))) / weight.sum()

    found = [
        optimize.minimize(
            mean_loss, start + shift, method="Nelder-Mead",
            options={"maxiter": 3000, "xatol": 1e-7, "fatol": 1e-11},
        ).fun
        for shift in (0.0, 0.3)
    ]  # fmt: skip
    return mean_loss(start), min(found)


def draw_weight(n):
    weight = np.random.default_rng(5).uniform(0.0, 3.0, n)
    weight[::7] = 0.0
    return weight


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", REGRESSION, ids=repr)
def test_no_constant_is_better_for_regression(loss, weighted):
    n_outputs = 1 if loss == Quantile(LEVELS) else 2
    _, y = draw(loss, n_outputs)
    targets, row = y.reshape(61, -1), loss_for(loss, "real")
    weight = draw_weight(61) if weighted else None
    scores = constant_scores(row, targets, weight, 3 if n_outputs == 1 else 2)
    if row.constant is None:  # nobody knows it
        np.testing.assert_array_equal(scores, 0.0)
        return
    value, _, _ = reference_of(loss)
    weight = np.ones(61) if weight is None else weight
    reached, least = least_loss(value, targets, weight, scores)
    assert reached <= least * (1 + 1e-7)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
@pytest.mark.parametrize("loss", [*CLASSIFICATION, Focal(5.0)], ids=repr)
def test_no_constant_is_better_for_classes(loss, kind, weighted):
    _, y = draw_classes(61, 5, 3 if kind == "multiclass" else 2)
    y = draw_labels(61, 5, 3)[1] if kind == "multilabel" else y[:, None]
    weight = draw_weight(61) if weighted else np.ones(61)
    scores = constant_scores(loss_for(loss, kind), y, weight, 1 if kind == "binary" else 3)
    value, _, _ = reference_of(loss, kind)
    reached, least = least_loss(value, y, weight, scores)
    assert reached <= least * (1 + 1e-7)


# --- where fits start -----------------------------------------------------------------------------


def output_bias(model, X, y, **kwargs):
    """Bias of the output of a fit that does not move."""
    return model.fit(X, y, **kwargs).intercepts_[-1]


@pytest.mark.parametrize("solver", ["adam", "sgd", "lion"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_output_starts_at_the_mean_and_at_the_frequencies(dtype, solver):
    settings = dict(STILL, dtype=dtype, solver=solver)
    rtol = 1e-5 if dtype == "float32" else 1e-12
    X, y = draw_regression(60, 3, 2)
    y = y * [1.0, 1e4] + [5.0, 3e5]
    weight = draw_weight(60)
    mean = np.average(y, axis=0, weights=weight)
    found = output_bias(BackpropRegressor(**settings), X, y, sample_weight=weight)
    np.testing.assert_allclose(found, mean, rtol=rtol)
    model = BackpropRegressor("gamma", **settings)
    found = output_bias(model, X, np.exp(y[:, 0]))
    np.testing.assert_allclose(found, np.log(np.exp(y[:, 0]).mean()), rtol=rtol)
    X, y = draw_classes(60, 3, 3)
    found = output_bias(BackpropClassifier(**settings), X, y)
    np.testing.assert_allclose(found, np.log(np.bincount(y) / 60), rtol=rtol)
    model = BackpropClassifier(**settings, class_weight="balanced")
    np.testing.assert_allclose(output_bias(model, X, y), np.full(3, np.log(1 / 3)), rtol=1e-5)
    yes = (y == 1).mean()
    found = output_bias(BackpropClassifier(**settings), X, y == 1)
    np.testing.assert_allclose(found, [np.log(yes / (1 - yes))], rtol=rtol)


@pytest.mark.parametrize("init", ["auto", "he"])
def test_the_weights_are_drawn_as_before(init):
    """Only the last biases differ from a fit under dtype=None, where they are drawn."""
    X, y = draw_regression(60, 3)
    settings = dict(STILL, init=init)
    ours = BackpropRegressor(**settings, dtype="float64").fit(X, y)
    drawn = BackpropRegressor(**settings, dtype=None).fit(X, y)
    for left, right in zip(ours.coefs_, drawn.coefs_, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-12, atol=1e-20)
    np.testing.assert_allclose(ours.intercepts_[0], drawn.intercepts_[0], atol=1e-20)
    assert ours.intercepts_[1][0] == pytest.approx(y.mean())
    assert abs(drawn.intercepts_[1][0] - y.mean()) > 1e-3


def test_under_dtype_none_only_losses_of_scikit_learn_are_drawn():
    X, y = draw_counts(60, 3)
    settings = dict(STILL, dtype=None)
    drawn = [
        output_bias(BackpropRegressor(loss, **settings), X, y)
        for loss in ("squared_error", "poisson")
    ]
    assert drawn[0] == pytest.approx(drawn[1], rel=1e-12)
    found = output_bias(BackpropRegressor("tweedie", **settings), X, y)
    assert found == pytest.approx(np.log(y.mean()))
    found = output_bias(BackpropRegressor("absolute_error", **settings), X, y)
    assert found == pytest.approx(np.median(y))
    labels = y > 0
    log_odds = np.log(labels.mean() / (1 - labels.mean()))
    assert abs(output_bias(BackpropClassifier(**settings), X, labels) - log_odds) > 0.01
    smooth = BackpropClassifier(loss=LogLoss(label_smoothing=1e-9), **settings)
    assert output_bias(smooth, X, labels) == pytest.approx(log_odds)


@pytest.mark.parametrize("dtype", [None, "float64"])
def test_functions_of_a_users_own_start_at_0_or_where_they_say(dtype):
    X, y = draw_regression(60, 3)
    y = y + 10

    def squared(y_true, raw):
        return (y_true - raw) ** 2

    settings = dict(STILL, dtype=dtype)
    assert output_bias(BackpropRegressor(squared, **settings), X, y) == pytest.approx(
        0.0, abs=1e-20
    )
    named = BackpropRegressor(Loss(squared, constant=("mean",)), **settings)
    assert output_bias(named, X, y) == pytest.approx(y.mean())
    named = BackpropRegressor(Loss(squared, constant=("quantile", 0.9)), **settings)
    assert output_bias(named, X, y) == pytest.approx(np.quantile(y, 0.9), abs=0.05)


@pytest.mark.parametrize("constant", ["mean", ("mode",), ("mean", 1.0), ("huber",), ()])
def test_a_bad_constant_is_refused(constant):
    X, y = draw_regression(20, 3)
    model = BackpropRegressor(Loss(lambda y_true, raw: raw - y_true, constant=constant))
    with pytest.raises(ValueError, match=r"loss__constant.*'mean'"):
        model.fit(X, y)


def test_a_constant_that_does_not_fit_the_link_is_refused():
    X, y = draw_classes(20, 3, 2)
    loss = Loss(lambda y_true, raw: raw - y_true, constant=("quantile", 0.5))
    with pytest.raises(ValueError, match=r"constant.*link 'logit'"):
        BackpropClassifier(loss=loss).fit(X, y)


def test_scaled_targets_start_in_their_own_units():
    X, y = draw_regression(60, 3)
    y = np.exp(3 * y) * 1e5
    model = BackpropRegressor("absolute_error", scale_targets=True, **STILL).fit(X, y)
    at = model.intercepts_[-1] * model.target_scale_ + model.target_mean_
    assert at == pytest.approx(np.median(y), rel=1e-5)


def test_only_a_fresh_network_starts_there():
    X, y = draw_regression(60, 3)
    model = BackpropRegressor(warm_start=True, **STILL).fit(X, y)
    bias = model.intercepts_[-1].copy()
    np.testing.assert_array_equal(model.fit(X, y + 5).intercepts_[-1], bias)
    np.testing.assert_array_equal(model.partial_fit(X, y + 5).intercepts_[-1], bias)


# --- parts of data, and data that leave the start open --------------------------------------------


@pytest.mark.parametrize("loss", REGRESSION, ids=repr)
@pytest.mark.parametrize("value", [0.0, 3.0])
def test_one_row_starts_at_moderate_scores(loss, value):
    value = value + (1.0 if loss == Gamma() or getattr(loss, "power", 0) == 2 else 0)
    model = BackpropRegressor(loss, **STILL).partial_fit([[0.5, 1.0]], [value])
    assert np.abs(model.intercepts_[-1]).max() < 10
    assert np.isfinite(model.predict([[0.5, 1.0]])).all()


@pytest.mark.parametrize("loss", CLASSIFICATION, ids=repr)
@pytest.mark.parametrize("n_rows", [1, 1000])
def test_a_part_may_lack_classes(loss, n_rows):
    X = np.ones((n_rows, 2))
    for classes in ([0, 1], [0, 1, 2]):
        model = BackpropClassifier(loss=loss, **STILL)
        model.partial_fit(X, np.ones(n_rows, int), classes=classes)
        p = np.exp(model.intercepts_[-1]) if len(classes) == 3 else model.intercepts_[-1]
        assert np.abs(model.intercepts_[-1]).max() < 10
        assert p.argmax() == (1 if len(classes) == 3 else 0)
    y = np.zeros((n_rows, 3), int)
    model = BackpropClassifier(loss=loss, **STILL)
    model.partial_fit(X, y, classes=[0, 1, 2])
    assert ((model.intercepts_[-1] < 0) & (model.intercepts_[-1] > -10)).all()


def test_a_weight_of_0_leaves_a_class_open():
    X, y = draw_classes(60, 3, 3)
    model = BackpropClassifier(class_weight={2: 0.0}, **STILL).fit(X, y)
    assert np.isfinite(model.intercepts_[-1]).all()


def test_equal_quantiles_start_close_together():
    model = BackpropRegressor(Quantile([0.1, 0.5, 0.9]), **STILL)
    model.fit(np.ones((20, 1)), np.r_[np.zeros(15), np.ones(5)])
    levels = reference.levels_of(model.intercepts_[-1][None].astype(float))[0]
    np.testing.assert_allclose(levels, [0, 0, 1], atol=2e-3)
    assert (np.diff(levels) > 0).all()


@pytest.mark.parametrize("loss", [Huber(), Quantile(0.3), Gamma(), "squared_error"], ids=repr)
@pytest.mark.parametrize("size", [1e-300, 1e-30, 1e30, 1e300])
def test_targets_of_any_size_have_a_best_constant(loss, size):
    row = loss_for(loss, "real")
    y = np.linspace(0.5, 1.5, 101)[:, None] * size
    for weight in (None, np.full(101, 1e-300), np.full(101, 1e300)):
        (score,) = constant_scores(row, y, weight, 1)
        best = np.exp(score) if row.link == "log" else score
        assert 0.7 * size <= best <= 1.1 * size


# --- what it is for -------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["gamma", "poisson", "tweedie"])
def test_log_links_on_targets_of_hundreds_of_thousands(loss):
    rng = np.random.RandomState(0)
    X = rng.randn(1000, 3)
    y = np.exp(12.5 + X @ [0.4, -0.3, 0.2]) * rng.gamma(10.0, 0.1, 1000)
    settings = dict(hidden_layer_sizes=(20,), learning_rate_init=0.005, random_state=0)
    found = []
    for unit in (1.0, y.mean()):
        model = BackpropRegressor(loss, **settings, max_iter=60).fit(X[:700], y[:700] / unit)
        found.append(r2_score(y[700:] / unit, model.predict(X[700:])))
    assert min(found) > 0.6
    assert found[0] == pytest.approx(found[1], abs=0.1)


def test_a_large_mean_is_no_obstacle():
    X, y = draw_regression(300, 5)
    model = BackpropRegressor(hidden_layer_sizes=(20,), max_iter=200, random_state=0)
    with pytest.warns(ConvergenceWarning):
        model.fit(X, y + 300)
    assert model.score(X, y + 300) > 0.3


def test_a_best_constant_beyond_float32_is_an_error_of_the_targets():
    """Not one of the cast: 'lbfgs' computes in float64, and its weights are float32."""
    X, y = draw_regression(30, 3)
    model = BackpropRegressor(hidden_layer_sizes=(), solver="lbfgs", random_state=0)
    with pytest.raises(ValueError, match="non-finite parameter weights"):
        model.fit(X, 1e300 * (1 + y**2))
