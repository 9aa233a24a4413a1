"""Learning rates per epoch, against scikit-learn's optimiser classes."""

import pytest
from sklearn.neural_network._stochastic_optimizers import SGDOptimizer

from fastbp.schedules import SCHEDULES, schedule_for


def test_names():
    assert set(SCHEDULES) == {"constant", "invscaling", "adaptive"}
    assert all(SCHEDULES[name].name == name for name in SCHEDULES)


@pytest.mark.parametrize("power_t", [0.0, 0.3, 0.5, 2.0])
def test_invscaling_counts_samples(power_t):
    peer = SGDOptimizer([], 0.1, "invscaling", power_t=power_t)
    row = SCHEDULES["invscaling"]
    for n_samples_seen in (1, 61, 122, 10**6):
        peer.iteration_ends(n_samples_seen)
        assert row.after_epoch(0.1, n_samples_seen, power_t) == peer.learning_rate
    assert row.on_plateau is None


def test_adaptive_divides_until_it_is_tiny():
    peer, row, rate = SGDOptimizer([], 0.1, "adaptive"), SCHEDULES["adaptive"], 0.1
    while not peer.trigger_stopping("", verbose=False):
        rate = row.on_plateau(rate)
        assert rate == peer.learning_rate
    assert row.on_plateau(rate) is None
    assert row.after_epoch is None


def test_constant_never_changes():
    assert SCHEDULES["constant"].after_epoch is None
    assert SCHEDULES["constant"].on_plateau is None


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_belong_to_sgd(name):
    assert schedule_for(name, "sgd") is SCHEDULES[name]
    assert schedule_for(name, "adam") is SCHEDULES["constant"]
