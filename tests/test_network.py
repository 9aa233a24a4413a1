"""The flat vector: offsets, views and initial values."""

import numpy as np
import pytest
import reference
from sklearn.neural_network import MLPRegressor

from fastbp.activations import ACTIVATIONS
from fastbp.engine import network

SIZES = [(5, 9, 2), (3, 1), (1, 1, 1), (4, 6, 7, 8, 2)]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_layout(sizes):
    params = np.arange(network.count_params(sizes), dtype=float)
    assert len(params) == reference.count_parameters(sizes)
    coefs, intercepts = network.views(params, sizes)
    for coef, intercept, (W, b) in zip(
        coefs, intercepts, reference.split(params, sizes), strict=True
    ):
        np.testing.assert_array_equal(coef, W)
        np.testing.assert_array_equal(intercept, b)
        assert np.shares_memory(coef, params)
        assert np.shares_memory(intercept, params)
    assert network.layer_sizes_of(coefs) == sizes
    np.testing.assert_array_equal(network.flatten(coefs, intercepts, np.float64), params)


def test_flattening_copies():
    params = np.arange(network.count_params((5, 9, 2)), dtype=float)
    flat = network.flatten(*network.views(params, (5, 9, 2)), np.float64)
    assert not np.shares_memory(flat, params)


@pytest.mark.parametrize("activation", ["relu", "logistic", "tanh"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_initial_values_are_scikit_learns(sizes, activation, dtype):
    random_state, twin = np.random.RandomState(3), np.random.RandomState(3)
    rows = [ACTIVATIONS[activation]] * max(1, len(sizes) - 2)
    params = network.initial_params(sizes, rows, random_state, dtype)
    assert params.dtype == dtype
    peer = MLPRegressor(
        hidden_layer_sizes=sizes[1:-1], activation=activation, solver="sgd", shuffle=False,
        max_iter=1, learning_rate_init=1e-300, random_state=twin,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    y = rng.standard_normal((4, sizes[-1])).squeeze()
    peer.partial_fit(rng.standard_normal((4, sizes[0])), y)
    expected = [part.ravel() for pair in zip(peer.coefs_, peer.intercepts_) for part in pair]
    np.testing.assert_array_equal(params, np.concatenate(expected).astype(dtype))
    assert random_state.randint(2**31) == twin.randint(2**31)


@pytest.mark.parametrize(
    ("init", "variance"),
    [("he", 2 / 300), ("glorot", 2 / 500), ("lecun", 1 / 300)],
)
def test_variances_of_initial_weights(init, variance):
    """Uniform weights of the published variance; biases 0; the activation does not matter."""
    sizes = (300, 200, 1)
    draws = [
        network.initial_params(
            sizes, [ACTIVATIONS[name]], np.random.RandomState(0), np.float64, init
        )
        for name in ("logistic", "gelu")
    ]
    np.testing.assert_array_equal(*draws)
    [weights, _], [biases, last] = network.views(draws[0], sizes)
    assert weights.var() == pytest.approx(variance, rel=0.02)
    assert abs(weights).max() == pytest.approx(np.sqrt(3 * variance), rel=1e-3)
    assert not biases.any()
    assert not last.any()


def test_each_layer_has_its_activations_factor():
    """Bounds sqrt(6 / (n_in + n_out)), sqrt(2 / ...) for logistic; the output has the last's."""
    sizes, rows = (100, 100, 100, 100), [ACTIVATIONS["relu"], ACTIVATIONS["logistic"]]
    params = network.initial_params(sizes, rows, np.random.RandomState(0), np.float64)
    coefs, intercepts = network.views(params, sizes)
    for weights, biases, factor in zip(coefs, intercepts, [6, 2, 2], strict=True):
        bound = np.sqrt(factor / 200)
        assert abs(weights).max() == pytest.approx(bound, rel=1e-2)
        assert abs(biases).max() == pytest.approx(bound, rel=0.1)
