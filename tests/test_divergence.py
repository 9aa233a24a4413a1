"""Training that leaves the finite numbers says so, names epoch and cause, and changes nothing."""

import re

import numpy as np
import pytest
from engines import ENGINES
from problems import draw_counts
from refusals import SETTINGS, check_refusal, draw, fit_quietly, train_some
from sklearn.exceptions import NotFittedError

from fastbp import BackpropRegressor


@pytest.mark.parametrize("dtype", ["float32", "float64", None])
@pytest.mark.parametrize("state", ["unfitted", "fitted", "in partial_fit"])
def test_divergence(state, dtype):
    """The epoch, the likely cause, and the old model."""
    X, y = draw(BackpropRegressor)
    model = BackpropRegressor(
        **{**SETTINGS, "max_iter": 400}, solver="sgd", activation="relu", dtype=dtype
    )
    train_some(model, X, y, state)
    expected = None if state == "unfitted" else model.predict(X)
    model.set_params(learning_rate_init=1e6, momentum=0.0)
    check_refusal(model, lambda: model.fit(X, y), ValueError, ["epoch", "learning_rate"], X, y)
    if state == "unfitted":
        with pytest.raises(NotFittedError):
            model.predict(X)
    else:
        np.testing.assert_array_equal(model.predict(X), expected)


def test_divergence_ends_training_in_its_epoch():
    X, y = draw(BackpropRegressor)
    settings = {**SETTINGS, "max_iter": 200, "n_iter_no_change": 200}
    model = BackpropRegressor(**settings, solver="sgd", learning_rate_init=1e6, momentum=0.0)
    with pytest.raises(ValueError, match="epoch") as caught:
        model.fit(X, y)
    assert int(re.search(r"epoch (\d+)", str(caught.value))[1]) < 200


def test_divergence_in_partial_fit():
    """The optimiser's state too is that of before."""
    X, y = draw(BackpropRegressor)
    models = []
    for _ in range(2):
        model = BackpropRegressor(**SETTINGS, solver="sgd", batch_size=1)
        models.append(model.partial_fit(X, y).partial_fit(X, y))
    model, twin = models
    check_refusal(
        model,
        lambda: model.partial_fit(X * 1e18, y),
        ValueError,
        ["epoch|partial_fit", "scale|column"],
    )
    model.partial_fit(X, y)
    twin.partial_fit(X, y)
    for left, right in zip(model.coefs_, twin.coefs_, strict=True):
        np.testing.assert_array_equal(left, right)
    assert model.t_ == twin.t_
    assert model.loss_curve_ == twin.loss_curve_


def test_divergence_names_the_unscaled_column():
    X, y = draw(BackpropRegressor)
    X = X * [1, 1, 1e12, 1]
    model = BackpropRegressor(**{**SETTINGS, "max_iter": 200}, solver="sgd")
    check_refusal(model, lambda: model.fit(X, y), ValueError, ["epoch", "column 2"])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_divergence_names_the_weights_that_make_alpha_strong(solver, engine):
    X, y = draw(BackpropRegressor)
    how = dict(SETTINGS, solver=solver, engine=engine)
    model = BackpropRegressor(**how | dict(max_iter=200))
    with pytest.raises(
        ValueError, match=r"cause: alpha=0\.0001, divided by sample weights of mean"
    ):
        model.fit(X, y, sample_weight=np.full(len(y), 1e-30))
    model = BackpropRegressor(**how, alpha=1e30)
    with pytest.raises(
        ValueError, match=r"cause: alpha=1e\+30 is too strong for float32 \(lower it"
    ):
        model.fit(X, y)


def test_divergence_under_warm_start():
    X, y = draw(BackpropRegressor, 60)
    model = BackpropRegressor(**SETTINGS, solver="sgd", warm_start=True)
    fit_quietly(model, X, y)
    expected = model.predict(X)
    model.set_params(learning_rate_init=1e6, max_iter=400, n_iter_no_change=np.inf)
    check_refusal(model, lambda: model.fit(X, y), ValueError, "epoch")
    np.testing.assert_array_equal(model.predict(X), expected)


def test_lbfgs_divergence():
    X, y = draw_counts(30, 4)
    model = BackpropRegressor("poisson", **SETTINGS, solver="lbfgs", activation="identity")
    X = X * 1e200
    model.set_params(dtype="float64")
    check_refusal(model, lambda: fit_quietly(model, X, y), ValueError, "scale|column", X, y)
