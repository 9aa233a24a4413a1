"""The rule of stopping, the deadline, and settings that nobody writes to."""

import math
from types import SimpleNamespace

import pytest
from sklearn.neural_network import MLPClassifier

from fastbp import BackpropClassifier
from fastbp.training.stopping import Patience, find_deadline

LOSSES = [1.0, 0.9, 0.8999, 0.95, 0.5, 0.5, 0.49995, 0.7, math.nan, 0.49]


@pytest.mark.parametrize("tol", [0.0, 1e-4, 1e-3, 0.2])
def test_losses_count_as_in_scikit_learn(tol):
    patience = Patience(tol, 3, math.inf)
    peer = MLPClassifier(tol=tol, n_iter_no_change=3)
    peer.loss_curve_, peer.best_loss_, peer._no_improvement_count = [], math.inf, 0
    for loss in LOSSES:
        peer.loss_curve_.append(loss)
        peer._update_no_improvement_count(False, None, None, None)
        over = patience.saw_loss(loss)
        assert (patience.best, patience.count) == (peer.best_loss_, peer._no_improvement_count)
        assert over == (peer._no_improvement_count > 3)


@pytest.mark.parametrize("tol", [0.0, 1e-4, 1e-3, 0.2])
def test_scores_count_as_in_scikit_learn(tol):
    scores = [-loss for loss in LOSSES if not math.isnan(loss)]
    patience = Patience(tol, 2, -math.inf)
    peer = MLPClassifier(tol=tol, n_iter_no_change=2)
    peer.validation_scores_, peer.best_validation_score_ = [], -math.inf
    peer._no_improvement_count, peer.coefs_, peer.intercepts_ = 0, [], []
    peer._score = lambda *args, **kwargs: score
    for score in scores:
        peer._update_no_improvement_count(True, None, None, None)
        over = patience.saw_score(score)
        found = patience.best, patience.count
        assert found == (peer.best_validation_score_, peer._no_improvement_count)
        assert over == (peer._no_improvement_count > 2)


def test_a_score_that_is_nan_is_no_progress():
    patience = Patience(0.0, 1, -math.inf)
    assert [patience.saw_score(math.nan) for _ in range(2)] == [False, True]
    assert patience.best == -math.inf
    assert not patience.saw_score(0.5)
    assert (patience.best, patience.count) == (0.5, 0)


def test_deadline():
    settings = SimpleNamespace(max_time=2.5)
    assert find_deadline(10.0, settings, incremental=False) == 12.5
    assert find_deadline(10.0, settings, incremental=True) is None
    assert find_deadline(10.0, SimpleNamespace(max_time=None), incremental=False) is None


def test_settings_of_a_call_stay_as_they_are():
    settings = BackpropClassifier((3, 4), dropout=0.5)._check_parameters()
    assert settings.hidden_layer_sizes == (3, 4)
    with pytest.raises(AttributeError, match="stay as they are"):
        settings.dropout = [0.5, 0.5]
