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


# --- members --------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_members", [1, 4])
@pytest.mark.parametrize("sizes", [(5, 9, 2), (1, 1, 1), (4, 6, 7, 8, 2)], ids=str)
def test_layout_of_members(sizes, n_members):
    params = np.arange(network.count_params(sizes, n_members), dtype=float)
    assert len(params) == reference.count_parameters_of_members(sizes, n_members)
    coefs, intercepts, *members = network.member_views(params, sizes, n_members)
    layers, *expected = reference.split_members(params, sizes, n_members)
    for coef, intercept, (W, b) in zip(coefs, intercepts, layers, strict=True):
        np.testing.assert_array_equal(coef, W)
        np.testing.assert_array_equal(intercept, b)
    for mine, part in zip(members, expected, strict=True):
        np.testing.assert_array_equal(mine, part)
        assert np.shares_memory(mine, params)
    np.testing.assert_array_equal(network.flatten(coefs, intercepts, np.float64, members), params)


@pytest.mark.parametrize("n_members", [None, 3])
def test_parts_are_the_whole_vector(n_members):
    parts = network.list_parts((4, 6, 7, 2), n_members)
    found = np.zeros(network.count_params((4, 6, 7, 2), n_members), bool)
    assert [begin for begin, _, _ in parts] == [0, *(end for _, end, _ in parts[:-1])]
    assert parts[-1][1] == len(found)
    for begin, end, is_weights in parts:
        found[begin:end] = is_weights
    np.testing.assert_array_equal(found, reference.find_weights((4, 6, 7, 2), n_members))


@pytest.mark.parametrize("init", ["auto", "he"])
def test_initial_values_of_members(init):
    """Hidden layers as without members, signs, then output layers one by one."""
    sizes, rows = (5, 9, 4, 2), [ACTIVATIONS["relu"], ACTIVATIONS["logistic"]]
    random_state, twin = np.random.RandomState(3), np.random.RandomState(3)
    params = network.initial_params(sizes, rows, random_state, np.float64, init, n_members=3)
    coefs, intercepts, scales, weights, biases = network.member_views(params, sizes, 3)
    hidden = network.initial_params(sizes[:-1], rows, twin, np.float64, init)
    np.testing.assert_array_equal(network.flatten(coefs, intercepts, np.float64), hidden)
    np.testing.assert_array_equal(scales, 2 * twin.randint(0, 2, (3, 5)) - 1)
    assert set(scales.ravel()) == {-1.0, 1.0}
    for member in range(3):
        output = network.initial_params(sizes[-2:], rows[1:], twin, np.float64, init)
        np.testing.assert_array_equal(np.append(weights[member], biases[member]), output)
    assert random_state.randint(2**31) == twin.randint(2**31)
    assert len(np.unique(weights)) == weights.size
