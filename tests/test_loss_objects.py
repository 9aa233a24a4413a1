"""Losses by name and with settings, from the user's side: fits, scores, searches, bad settings."""

import pickle
import re

import numpy as np
import pytest
import reference
from covering import cover_pairs, naming
from problems import draw_classes, draw_counts, draw_features, draw_labels, draw_regression
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import (
    accuracy_score,
    d2_pinball_score,
    d2_tweedie_score,
    mean_gamma_deviance,
    mean_tweedie_deviance,
    r2_score,
)
from sklearn.model_selection import GridSearchCV, train_test_split

import fastbp
from fastbp import BackpropClassifier, BackpropRegressor, Loss
from fastbp.activations import ACTIVATIONS
from fastbp.data.best_constant import constant_scores
from fastbp.losses import (
    CLASSIFICATION_LOSSES,
    NAMED_LOSSES,
    REGRESSION_LOSSES,
    AbsoluteError,
    Focal,
    Gamma,
    Huber,
    LogLoss,
    Quantile,
    SquaredError,
    Tweedie,
    loss_for,
)
from fastbp.training.scoring import default_score

pytestmark = [
    pytest.mark.engines_in_turn,
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

LEVELS = [0.1, 0.5, 0.9]
REGRESSION = [*(NAMED_LOSSES[name] for name in REGRESSION_LOSSES), Quantile(LEVELS), Huber(0.3),
              Quantile(0.9), Tweedie(1.0), Tweedie(1.2), Tweedie(2.0)]  # fmt: skip
CLASSIFICATION = [*(NAMED_LOSSES[name] for name in CLASSIFICATION_LOSSES),
                  LogLoss(label_smoothing=0.2), Focal(0.5), Focal(0)]  # fmt: skip
SMALL = dict(hidden_layer_sizes=(7,), max_iter=10, batch_size=16, random_state=0)


def draw(loss, n_outputs=1):
    """Return X and a y that the loss takes."""
    row = loss_for(loss, "real")
    if row.target_min is None:
        return draw_regression(61, 5, n_outputs)
    X, y = draw_counts(61, 5)
    y = row.target_min + y + (0.1 if row.above_min else 0)
    return X, y if n_outputs == 1 else np.column_stack([y, y[::-1]])


def reference_of(loss, kind="real"):
    """Return the reference's (value, gradient, is_mean) at these settings."""
    if isinstance(loss, Quantile):
        many = isinstance(loss.quantile, list)
        return (reference.non_crossing_quantiles if many else reference.pinball)(loss.quantile)
    if isinstance(loss, Huber):
        return reference.huber(loss.delta)
    if isinstance(loss, Tweedie):
        return {1: reference.LOSSES["poisson"], 2: reference.LOSSES["gamma"]}.get(
            loss.power
        ) or reference.tweedie(loss.power)
    multiclass = kind == "multiclass"
    if isinstance(loss, Focal) and loss.gamma:
        return (reference.focal if multiclass else reference.binary_focal)(loss.gamma)
    if isinstance(loss, LogLoss):
        make = reference.smoothed_log_loss if multiclass else reference.smoothed_binary_log_loss
        return make(loss.label_smoothing)
    return reference.find_loss(loss_for(loss, kind).name)


def check_curve(model, X, targets, loss):
    """Compare a fit of SMALL, in float64, with the reference's, from scikit-learn's draws."""
    n_outputs = model.n_outputs_
    random_state = np.random.RandomState(0)
    sizes = (X.shape[1], 7, n_outputs)
    row = loss_for(model.loss, vars(model).get("_target_kind", "real"))
    start = constant_scores(row, targets, None, n_outputs)  # judged in test_best_constant.py
    params = reference.draw_parameters(sizes, random_state, output=start)
    order, orders = np.arange(len(targets)), []
    for _ in range(10):
        random_state.shuffle(order)
        orders.append(order.copy())
    _, losses, _, _ = reference.train(
        params, sizes, ["tanh"], loss, X, targets, None, orders, batch_size=16, alpha=1e-4,
        learning_rate=1e-3, optimizer="adam",
        hyper={"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8},
    )  # fmt: skip
    np.testing.assert_allclose(model.loss_curve_, losses, rtol=1e-10)


# --- whole fits -----------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", REGRESSION, ids=repr)
def test_regressor_follows_the_reference(engine_name, loss):
    X, y = draw(loss)
    model = BackpropRegressor(loss, activation="tanh", dtype="float64", engine=engine_name, **SMALL)
    model.fit(X, y)
    check_curve(model, X, y[:, None], reference_of(loss))
    raw = reference.predict(
        np.concatenate([p.ravel() for pair in zip(model.coefs_, model.intercepts_) for p in pair]),
        (5, 7, model.n_outputs_), ["tanh"], X,
    )  # fmt: skip
    link = {"identity": lambda s: s, "exp": np.exp, "cumulative_softplus": reference.levels_of}
    expected = link[model.out_activation_](raw)
    shape = (61, 3) if loss == Quantile(LEVELS) else (61,)
    np.testing.assert_allclose(model.predict(X), expected.reshape(shape), rtol=1e-9)


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
@pytest.mark.parametrize("loss", CLASSIFICATION, ids=repr)
def test_classifier_follows_the_reference(engine_name, loss, kind):
    X, y = draw_classes(61, 5, 3 if kind == "multiclass" else 2)
    X, y = draw_labels(61, 5, 3) if kind == "multilabel" else (X, y)
    model = BackpropClassifier(
        activation="tanh", loss=loss, dtype="float64", engine=engine_name, **SMALL
    ).fit(X, y)
    targets = y if kind == "multilabel" else y[:, None]
    check_curve(model, X, targets, reference_of(loss, kind))
    expected = accuracy_score(y, model.predict(X))
    assert model.score(X, y) == expected
    assert np.isfinite(model.predict_log_proba(X)).all()


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("loss", [*REGRESSION, *CLASSIFICATION], ids=repr)
def test_every_way_to_train(loss, sparse):
    """Weights of 2 are samples twice; more epochs and lbfgs lower the loss; calls go on."""
    regression = loss in REGRESSION
    X, y = draw(loss) if regression else draw_classes(61, 5, 3)
    X = draw_features(61, 5, np.random.default_rng(0), 0.5) if sparse else X
    kind = BackpropRegressor if regression else BackpropClassifier
    settings = dict(hidden_layer_sizes=(7,), activation="silu", dtype="float64", random_state=0)
    model = kind(loss=loss, solver="lbfgs", max_iter=15, **settings).fit(X, y)
    start = kind(loss=loss, max_iter=1, **settings).fit(X, y).loss_
    assert model.loss_ < start
    rows = np.arange(61).repeat(2)
    twice = clone(model).fit(X[rows], y[rows])
    weighted = clone(model).fit(X, y, sample_weight=np.full(61, 2.0))
    assert twice.loss_ == pytest.approx(weighted.loss_, rel=1e-2)

    going_on = kind(loss=loss, max_iter=3, warm_start=True, **settings).fit(X, y)
    before = going_on.loss_
    assert going_on.fit(X, y).loss_ < before
    more = {} if regression else {"classes": np.unique(y)}
    step = kind(loss=loss, **settings).partial_fit(X, y, **more).partial_fit(X, y)
    assert step.loss_curve_[1] < step.loss_curve_[0]
    early = kind(loss=loss, early_stopping=True, max_iter=3, **settings).fit(X, y)
    assert np.isfinite(early.validation_scores_).all()


@pytest.mark.parametrize("loss", [*REGRESSION, *CLASSIFICATION], ids=repr)
def test_threads_never_change_a_bit(loss):
    X, y = draw(loss) if loss in REGRESSION else draw_classes(61, 5, 3)
    X, y = np.tile(X, (20, 30)), np.tile(y, 20)
    kind = BackpropRegressor if loss in REGRESSION else BackpropClassifier
    found = []
    for n_threads in (1, 2):
        model = kind(
            loss=loss, hidden_layer_sizes=(100,), activation="gelu", batch_size=600, max_iter=2,
            n_threads=n_threads, random_state=0,
        )  # fmt: skip
        found.append(model.fit(X, y).predict(X).tobytes() + np.array(model.loss_curve_).tobytes())
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ["absolute_error", "huber", "quantile", "gamma", "tweedie"])
def test_several_targets(engine_name, name):
    X, y = draw(NAMED_LOSSES[name], n_outputs=2)
    model = BackpropRegressor(
        name, activation="tanh", dtype="float64", engine=engine_name, **SMALL
    ).fit(X, y)
    assert model.predict(X).shape == (61, 2)
    check_curve(model, X, y, reference_of(NAMED_LOSSES[name]))
    columns = [default_score(loss_for(name, "real"), y[:, [k]], model.predict(X)[:, [k]], None)
               for k in range(2)]  # fmt: skip
    assert model.score(X, y) == pytest.approx(np.mean(columns))


SATURATING = [*CLASSIFICATION, AbsoluteError(), Huber(), Quantile(), Quantile(LEVELS)]
# Of pairs: each loss, number of classes and dtype is a kernel that Numba compiles.
SATURATED = cover_pairs(
    range(len(SATURATING)), [-1e4, 1e4], ["float32", "float64"], ["multiclass", "binary"]
)


@pytest.mark.parametrize("at", range(len(SATURATING)), ids=lambda at: repr(SATURATING[at]))
def test_saturated_scores_stay_finite(engine, at):
    for case in SATURATED:
        if case[0] == at:
            with naming(*case):
                check_saturated_scores(engine, SATURATING[at], *case[1:])


def check_saturated_scores(engine, loss, raw, dtype, kind):
    """A network without features' influence: the bias is the raw score."""
    row = loss_for(loss, "real" if not isinstance(loss, LogLoss | Focal) else kind)
    n_outputs = 3
    params = np.array([0.0, 0, 0, raw, -raw, 0], dtype)
    X = np.ones((4, 1), dtype)
    targets = np.array([[0.0], [1], [1], [0]], dtype)
    if row.target == "real":
        targets = np.repeat(targets, 3, axis=1)
    session = engine.Session((1, n_outputs), [], row, dtype=dtype, params=params, batch_size=4)
    gradient = np.empty_like(params)
    value = session.loss_and_gradient(
        params, X, targets, None, alpha=0.0, gradient=gradient, mean_gradient=False
    )
    session.close()
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    expected = reference_of(loss, kind)
    with np.errstate(all="ignore"):
        exact = expected[0](targets.astype(float), np.tile(params[3:].astype(float), (4, 1)))
    if np.isfinite(exact).all():
        assert value == pytest.approx(exact.mean(), rel=1e-5)


@pytest.mark.parametrize("name", ["gamma", "tweedie", "poisson"])
def test_log_links_give_no_nan_far_out(engine, name):
    """At +-1e4 the deviance may be beyond the range of numbers, but it is never NaN."""
    row = loss_for(name, "real")
    for raw in (-1e4, 1e4):
        params, gradient = np.array([0.0, raw]), np.empty(2)
        y = np.array([[0.0], [2.0]])[1 if name == "gamma" else 0 :]
        session = engine.Session((1, 1), [], row, dtype="float64", params=params, batch_size=2)
        value = session.loss_and_gradient(
            params, np.ones((len(y), 1)), y, None, alpha=0.0, gradient=gradient
        )
        session.close()
        assert not np.isnan(value)
        assert not np.isnan(gradient[1])


@pytest.mark.parametrize("power", [1.0, 1.001, 1.3, 1.999, 2.0])
def test_deviance_is_scikit_learns(power):
    """Half of it, 0 at a perfect fit; also near the ends of the range of powers."""
    rng = np.random.default_rng(0)
    y, raw = rng.gamma(2.0, 1.0, 50) + 0.01, rng.standard_normal(50)
    row = Tweedie(power).entry("real")
    given = (row.hyper,) if row.hyper else ()
    values = [row.value(float(a), float(b), *given) for a, b in zip(y, raw, strict=True)]
    expected = mean_tweedie_deviance(y, np.exp(raw), power=power) / 2
    assert np.mean(values) == pytest.approx(expected, rel=1e-9)
    assert row.value(2.0, float(np.log(2.0)), *given) == pytest.approx(0, abs=1e-15)
    if power == 2:
        assert expected == pytest.approx(mean_gamma_deviance(y, np.exp(raw)) / 2)


# --- quantiles ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_quantiles_are_learnt_and_never_cross(engine_name, dtype):
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (3000, 1))
    y = X[:, 0] + (0.3 + 0.2 * X[:, 0]) * rng.standard_normal(3000)
    levels = [0.05, 0.25, 0.5, 0.75, 0.95]
    model = BackpropRegressor(
        Quantile(levels), (20,), max_iter=60, learning_rate_init=0.01, random_state=0, dtype=dtype,
        engine=engine_name,
    ).fit(X, y)  # fmt: skip
    far = np.linspace(-50, 50, 1001)[:, None]
    assert model.out_activation_ == "cumulative_softplus"
    assert model.n_outputs_ == 5
    assert (np.diff(model.predict(far), axis=1) >= 0).all()
    below = (y[:, None] <= model.predict(X)).mean(axis=0)
    np.testing.assert_allclose(below, levels, atol=0.03)
    expected = [d2_pinball_score(y, model.predict(X)[:, k], alpha=q) for k, q in enumerate(levels)]
    assert model.score(X, y) == pytest.approx(np.mean(expected), rel=1e-9)


def test_a_list_of_one_quantile_is_a_column():
    X, y = draw_regression(61, 5)
    model = BackpropRegressor(Quantile([0.9]), dtype="float64", **SMALL).fit(X, y)
    single = BackpropRegressor(Quantile(0.9), dtype="float64", **SMALL).fit(X, y)
    assert model.predict(X).shape == (61, 1)
    np.testing.assert_allclose(model.predict(X)[:, 0], single.predict(X), rtol=1e-12)
    assert model.score(X, y) == pytest.approx(single.score(X, y))


def test_quantiles_take_one_target():
    X, y = draw_regression(61, 5, 2)
    with pytest.raises(ValueError, match=r"list of quantiles needs y with one column\. Got 2"):
        BackpropRegressor(Quantile(LEVELS)).fit(X, y)
    assert not BackpropRegressor(Quantile(LEVELS)).__sklearn_tags__().target_tags.multi_output
    assert BackpropRegressor(Quantile(0.3)).__sklearn_tags__().target_tags.multi_output


# --- scores ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", REGRESSION, ids=repr)
def test_score_is_documented(loss, weighted):
    X, y = draw(loss)
    weight = np.random.default_rng(0).uniform(0.5, 2, 61) if weighted else None
    model = BackpropRegressor(loss, dtype="float64", **SMALL).fit(X, y)
    y_pred = model.predict(X)
    if loss == Quantile(LEVELS):
        columns = zip(LEVELS, y_pred.T, strict=True)
        expected = np.mean([
            d2_pinball_score(y, column, alpha=q, sample_weight=weight) for q, column in columns
        ])  # fmt: skip
    elif isinstance(loss, Quantile):
        expected = d2_pinball_score(y, y_pred, alpha=loss.quantile, sample_weight=weight)
    elif isinstance(loss, Gamma | Tweedie):
        power = getattr(loss, "power", 2)
        expected = d2_tweedie_score(y, y_pred, power=power, sample_weight=weight)
    elif loss_for(loss, "real").metric == ("r2",):
        expected = r2_score(y, y_pred, sample_weight=weight)
    else:
        pytest.fail(f"no reference for the score of loss {loss!r}")
    assert model.score(X, y, weight) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("loss", REGRESSION, ids=repr)
def test_score_of_a_constant_is_that_of_r2(loss):
    """scikit-learn's D2 divides by the loss of the constant, 0; one row is a constant."""
    X, _ = draw(loss)
    y = np.full(61, 3.1)
    model = BackpropRegressor(loss, early_stopping=True, **SMALL).fit(X, y)
    assert set(model.validation_scores_) <= {0.0, 1.0}
    assert model.score(X, y) in (0.0, 1.0)
    weight = np.arange(61) == 5
    assert model.score(X, y + np.arange(61), weight) in (0.0, 1.0)
    one = BackpropRegressor(loss, **SMALL).fit(X, y, X_val=X[:1], y_val=y[:1])
    assert set(one.validation_scores_) <= {0.0, 1.0}


@pytest.mark.parametrize("loss", REGRESSION, ids=repr)
def test_validation_score_is_the_score(loss):
    """A fit that holds out a share scores it as `score` would."""
    X, y = draw(loss)
    model = BackpropRegressor(
        loss, early_stopping=True, validation_fraction=0.3, dtype="float64",
        **{**SMALL, "max_iter": 1},
    ).fit(X, y)  # fmt: skip
    random_state = np.random.RandomState(0)
    reference.draw_parameters((5, 7, model.n_outputs_), random_state)
    _, held_out = train_test_split(np.arange(61), random_state=random_state, test_size=0.3)
    assert model.validation_scores_[0] == pytest.approx(model.score(X[held_out], y[held_out]))


# --- settings: bad ones, equality, searches -------------------------------------------------------


BAD = [
    (BackpropRegressor, Huber(0.0), "loss__delta", "a float in the range (0.0, inf)"),
    (BackpropRegressor, Huber(-1), "loss__delta", "a float in the range (0.0, inf)"),
    (BackpropRegressor, Huber("1"), "loss__delta", "a float"),
    (BackpropRegressor, Huber(np.inf), "loss__delta", "a float"),
    (BackpropRegressor, Huber(np.nan), "loss__delta", "a float"),
    (BackpropRegressor, Quantile(1.0), "loss__quantile", "an increasing list"),
    (BackpropRegressor, Quantile([0.5, 0.1]), "loss__quantile", "an increasing list"),
    (BackpropRegressor, Quantile([0.5, 0.5]), "loss__quantile", "an increasing list"),
    (BackpropRegressor, Quantile([]), "loss__quantile", "an increasing list"),
    (BackpropRegressor, Quantile("median"), "loss__quantile", "an increasing list"),
    (BackpropRegressor, Quantile(None), "loss__quantile", "an increasing list"),
    (BackpropRegressor, Tweedie(2.5), "loss__power", "a float in the range [1.0, 2.0]"),
    (BackpropRegressor, Tweedie(0), "loss__power", "a float in the range [1.0, 2.0]"),
    (BackpropRegressor, Loss(abs, hyper=[1.0]), "loss__hyper", "a tuple of numbers"),
    (BackpropClassifier, LogLoss(1.0), "loss__label_smoothing", "a float in the range [0.0, 1.0)"),
    (BackpropClassifier, Focal(-0.1), "loss__gamma", "a float in the range [0.0, inf)"),
]


@pytest.mark.parametrize(("kind", "loss", "name", "wanted"), BAD, ids=lambda v: str(v)[:40])
def test_bad_settings_are_named_before_any_work(kind, loss, name, wanted):
    model = kind(loss=loss)
    message = rf"The '{name}' parameter .*must be .*{re.escape(wanted)}.*Got .* instead"
    with pytest.raises(ValueError, match=message) as caught:
        model.fit(None, None)  # the data are not looked at
    assert isinstance(caught.value, TypeError)
    assert not hasattr(model, "n_features_in_")


@pytest.mark.parametrize(
    ("kind", "loss"),
    [
        (BackpropRegressor, LogLoss()),
        (BackpropRegressor, "focal"),
        (BackpropRegressor, Huber),
        (BackpropClassifier, Huber()),
        (BackpropClassifier, "huber"),
        (BackpropClassifier, ACTIVATIONS["relu"]),
    ],
)
def test_losses_of_the_other_task_are_refused(kind, loss):
    with pytest.raises(ValueError, match=r"'loss' parameter of .*fastbp\.losses\.(Huber|Focal)"):
        kind(loss=loss).fit([[0.0], [1.0]], [0, 1])


@pytest.mark.parametrize(
    ("loss", "y", "message"),
    [
        ("gamma", [1.0, 0.0, 2.0], "loss='gamma' needs y > 0. Got a minimum of 0"),
        (Tweedie(2.0), [1.0, -1.0, 2.0], "loss='gamma' needs y > 0. Got a minimum of -1"),
        ("gamma", [1.0, 1e-50, 2.0], "is 0 in float32. Scale y, or use dtype='float64'"),
        ("tweedie", [1.0, -1.0, 2.0], "loss='tweedie' needs y >= 0. Got a minimum of -1"),
        ("poisson", [1.0, -1.0, 2.0], "loss='poisson' needs y >= 0. Got a minimum of -1"),
    ],
)
def test_targets_out_of_range_are_refused(loss, y, message):
    model = BackpropRegressor(loss)
    with pytest.raises(ValueError, match=re.escape(message)):
        model.fit([[0.0], [1.0], [2.0]], y)
    assert not hasattr(model, "coefs_")
    assert model.__sklearn_tags__().target_tags.positive_only


@pytest.mark.parametrize("loss", [*REGRESSION, *CLASSIFICATION], ids=repr)
def test_objects_are_equal_by_their_settings(loss):
    assert clone(loss) == loss
    assert clone(loss) is not loss
    assert hash(clone(loss)) == hash(loss)
    assert pickle.loads(pickle.dumps(loss)) == loss
    for parameter in loss.get_params():
        assert clone(loss).set_params(**{parameter: 0.123}) != loss
    assert loss != "huber"


def test_settings_are_stored_untouched():
    levels = np.array([0.1, 0.9])
    assert Quantile(levels).quantile is levels
    assert Quantile(levels) == Quantile([0.1, 0.9])
    assert SquaredError() != AbsoluteError()
    assert Huber(np.float64(2.0)) == Huber(2)
    X, y = draw_regression(61, 5)
    assert BackpropRegressor(Quantile(levels), **SMALL).fit(X, y).predict(X).shape == (61, 2)


def test_names_pick_the_default_settings():
    assert fastbp.losses.Huber(delta=2.0) == Huber(2.0)
    assert set(REGRESSION_LOSSES) >= {"squared_error", "absolute_error", "huber", "quantile",
                                      "poisson", "gamma", "tweedie"}  # fmt: skip
    assert set(CLASSIFICATION_LOSSES) >= {"log_loss", "focal"}
    assert not set(REGRESSION_LOSSES) & set(CLASSIFICATION_LOSSES)
    for name, loss in NAMED_LOSSES.items():
        assert loss == type(loss)()
        kind = "real" if name in REGRESSION_LOSSES else "binary"
        assert loss_for(name, kind) == loss_for(type(loss)(), kind)


def test_fitted_estimators_pickle(engine_name):
    X, y = draw_regression(61, 5)
    for loss in (Huber(0.7), Quantile(LEVELS)):
        model = BackpropRegressor(loss, activation="mish", engine=engine_name, **SMALL).fit(X, y)
        again = pickle.loads(pickle.dumps(model))
        assert again.loss == loss
        np.testing.assert_array_equal(again.predict(X), model.predict(X))
        assert again.score(X, y) == model.score(X, y)


def test_search_over_a_setting_and_over_objects(engine_name):
    X, y = draw_regression(61, 5)
    model = BackpropRegressor(Huber(), engine=engine_name, **SMALL)
    search = GridSearchCV(model, {"loss__delta": [0.2, 1.0, 5.0]}, cv=2, error_score="raise")
    search.fit(X, y)
    assert search.best_estimator_.loss == Huber(search.best_params_["loss__delta"])
    assert model.loss == Huber()
    objects = [Huber(0.2), "absolute_error", Quantile(0.5), Huber(1.0), Huber(5.0)]
    again = GridSearchCV(model, {"loss": objects}, cv=2, error_score="raise").fit(X, y)
    scores = search.cv_results_["mean_test_score"]
    np.testing.assert_array_equal(again.cv_results_["mean_test_score"][[0, 3, 4]], scores)


def test_other_settings_compile_nothing_anew():
    """Neither of a built-in in the Numba engine nor of a user's own formula."""
    from fastbp.engine.numba import kernels

    def own(y_true, raw, hyper):
        error = y_true - raw
        return hyper[0] * error * error if error > 0 else hyper[1] * error * error

    X, y = draw_regression(61, 5)
    for engine in ("auto", "numba"):
        found = []
        for scale in (0.1, 0.3):
            for loss in (Huber(scale), Quantile(scale), Loss(own, hyper=(scale, 1.0))):
                BackpropRegressor(loss, engine=engine, **SMALL).fit(X, y)
            found.append(len(kernels._kernels))
        assert found[0] == found[1]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_own_formula_with_numbers(engine_name, dtype):
    def own_huber(y_true, raw, hyper):
        error = abs(y_true - raw)
        return 0.5 * error * error if error < hyper[0] else hyper[0] * (error - 0.5 * hyper[0])

    X, y = draw_regression(61, 5)
    settings = dict(SMALL, dtype=dtype, engine=engine_name)
    own = BackpropRegressor(Loss(own_huber, hyper=(0.3,), constant=("huber", 0.3)), **settings).fit(
        X, y
    )
    peer = BackpropRegressor(Huber(0.3), **settings).fit(X, y)
    rtol = 1e-10 if dtype == "float64" else 5e-5
    np.testing.assert_allclose(own.loss_curve_, peer.loss_curve_, rtol=rtol)


# --- activations and initial values, from the user's side -----------------------------------------


@pytest.mark.parametrize("init", ["auto", "he", "glorot", "lecun"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_train(name, init):
    X, y = draw_regression(200, 5)
    model = BackpropRegressor(
        hidden_layer_sizes=(20, 20), activation=name, init=init, max_iter=40, random_state=0,
        learning_rate_init=0.01,
    ).fit(X, y)  # fmt: skip
    assert model.score(X, y) > 0.5


def test_init_has_a_name():
    with pytest.raises(ValueError, match="'init' parameter"):
        BackpropRegressor(init="xavier").fit([[0.0], [1.0]], [0, 1])


def test_convergence_warnings_come_as_ever():
    X, y = draw_regression(61, 5)
    with pytest.warns(ConvergenceWarning):
        BackpropRegressor("huber", **SMALL).fit(X, y)
