"""The factor of raw scores: found, used to choose the epoch, and put into the weights."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import log_loss

from fastbp import TabularClassifier, TabularRegressor
from fastbp.losses import Focal, LogLoss
from fastbp.losses.calibration import find_factor

SETTINGS = dict(
    n_networks=2, n_members=2, hidden_layer_sizes=16, n_bins=4, max_iter=40, batch_size=32,
    learning_rate_init=0.02, dropout=0.0, random_state=0, n_threads=1,
)  # fmt: skip


def loss_of(scores, y):
    return lambda factor: log_loss(y, expit(factor * scores), labels=[0, 1])


def test_the_factor_undoes_what_scores_were_multiplied_by():
    rng = np.random.default_rng(0)
    scores = rng.standard_normal(4000)
    y = rng.random(4000) < expit(scores)
    for times in (0.5, 1.0, 3.0):
        factor, loss = find_factor(loss_of(times * scores, y), len(y))
        assert factor * times == pytest.approx(1, rel=0.1)
        assert loss == loss_of(times * scores, y)(factor) <= loss_of(times * scores, y)(1.0)


def test_few_rows_that_are_all_right_do_not_make_sure():
    y = np.array([0, 1, 0, 1])
    factor, loss = find_factor(loss_of(y - 0.5, y), 4)
    assert 1 < factor < 2.5
    assert loss < loss_of(y - 0.5, y)(1.0)


def test_without_gain_nothing_changes():
    assert find_factor(lambda factor: 2.0, 100) == (1.0, 2.0)
    factor, loss = find_factor(lambda factor: float("nan"), 100)
    assert factor == 1.0
    assert np.isnan(loss)


def draw(n_classes=2):
    """Return rows whose labels are noisy: networks become too sure."""
    rng = np.random.default_rng(1)
    X = rng.standard_normal((400, 5))
    scores = X[:, :n_classes] + rng.gumbel(size=(400, n_classes))
    return X, scores.argmax(axis=1)


@pytest.fixture(scope="module", params=[2, 3])
def fitted(request):
    X, y = draw(request.param)
    weights = 1.0 + (np.arange(400) % 3)
    held_out = X[200:], y[200:], weights[200:]

    def fit(**settings):
        return TabularClassifier(**SETTINGS | settings).fit(
            X[:200], y[:200], weights[:200], X_val=held_out[0], y_val=held_out[1],
            sample_weight_val=held_out[2],
        )  # fmt: skip

    return fit(), fit(scoring="loss"), fit, held_out


def test_epochs_are_chosen_by_the_calibrated_loss_and_kept_with_it(fitted):
    """The score of the best epoch is that of the probabilities of the kept weights."""
    model, plain, _, (X, y, weights) = fitted
    for one, before in zip(model.networks_, plain.networks_, strict=True):
        assert one.validation_loss_curve_[:5] == before.validation_loss_curve_[:5]
        assert -one.best_validation_score_ < min(one.validation_loss_curve_)
        assert one.best_iter_ >= before.best_iter_
        own = -np.max(before.validation_scores_)
        assert own == min(before.validation_loss_curve_)
        alone = model.reduced(1, 2)
        alone.networks_ = [one]
        loss = log_loss(y, alone.predict_proba(X), sample_weight=weights)
        assert loss == pytest.approx(-one.best_validation_score_, rel=2e-3)  # members, not means
    found = [log_loss(y, m.predict_proba(X), sample_weight=weights) for m in (model, plain)]
    assert found[0] < found[1]


def test_results_do_not_depend_on_threads(fitted):
    model, _, fit, (X, _, _) = fitted
    assert np.array_equal(fit(n_threads=2).predict_proba(X), model.predict_proba(X))


@pytest.mark.parametrize(
    ("settings", "calibrates"),
    [
        ({}, True),
        ({"loss": LogLoss()}, True),
        ({"loss": LogLoss(label_smoothing=0.1)}, False),
        ({"loss": Focal()}, False),
        ({"scoring": "accuracy"}, False),
    ],
)
def test_only_the_log_loss_is_calibrated(settings, calibrates):
    X, y = draw()
    short = SETTINGS | {"max_iter": 12, "n_networks": 1}
    one = TabularClassifier(**short, **settings).fit(X, y).networks_[0]
    is_plain = one.validation_scores_ == [-loss for loss in one.validation_loss_curve_]
    if settings.get("scoring"):
        assert set(np.round(np.multiply(one.validation_scores_, 80), 6) % 1) == {0.0}
    else:
        assert is_plain != calibrates


def test_values_are_not():
    X, _ = draw()
    short = SETTINGS | {"max_iter": 3, "n_networks": 1}
    one = TabularRegressor(**short).fit(X, X[:, 0]).networks_[0]
    assert one.validation_scores_ == [-loss for loss in one.validation_loss_curve_]
