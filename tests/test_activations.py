"""Entries of `ACTIVATIONS`: plain formulas held against central differences and the reference."""

import math

import numpy as np
import pytest
import reference
from covering import naming

from fastbp.activations import ACTIVATIONS

POINTS = [-30.0, -5.0, -1.0, -0.3, -1e-3, 1e-3, 0.3, 1.0, 5.0, 30.0]

SCIKIT_LEARNS = {"identity": 6.0, "logistic": 2.0, "tanh": 6.0, "relu": 6.0}


def slope_at(row, z):
    """Return the row's slope at a pre-activation."""
    return row.slope(row.value(z) if row.slope_of == "activation" else z)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_row_is_complete(name):
    row = ACTIVATIONS[name]
    assert row.name == name
    assert row.slope_of in ("activation", "pre_activation")
    assert row.kernel in (name, None)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_initial_factor(name):
    """scikit-learn's, or what keeps the mean square of standard normal pre-activations."""
    row = ACTIVATIONS[name]
    if name in SCIKIT_LEARNS:
        assert row.factor == SCIKIT_LEARNS[name]
        return
    z, weight = np.polynomial.hermite_e.hermegauss(180)
    squares = np.array([row.value(x) ** 2 for x in z])
    assert row.factor == pytest.approx(6 * weight.sum() / (weight @ squares), rel=1e-3)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_slope_equals_central_differences(name):
    row, step = ACTIVATIONS[name], 1e-6
    for z in POINTS:
        expected = (row.value(z + step) - row.value(z - step)) / (2 * step)
        with naming(z):
            assert slope_at(row, z) == pytest.approx(expected, rel=1e-8, abs=2e-9)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_row_equals_reference(name):
    row = ACTIVATIONS[name]
    value, slope = reference.find_activation(name)
    for z in [*POINTS, 0.0, -0.0, -1e4, 1e4]:
        expected = float(slope(np.float64(z)))
        with naming(z):
            assert row.value(z) == pytest.approx(float(value(np.float64(z))), rel=1e-14)
            assert slope_at(row, z) == pytest.approx(expected, rel=1e-12, abs=1e-16)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("end", [-math.inf, math.inf])
def test_limits(name, end):
    value, _ = reference.find_activation(name)
    limit = float(value(np.float64(end)))
    assert not math.isnan(limit)
    assert ACTIVATIONS[name].value(end) == pytest.approx(limit, rel=1e-15)


@pytest.mark.parametrize("z", [-math.inf, math.inf])
@pytest.mark.parametrize("name", ["logistic", "tanh"])
def test_slope_vanishes_at_the_limits(name, z):
    assert slope_at(ACTIVATIONS[name], z) == 0.0


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_nan_stays_nan(name):
    assert math.isnan(ACTIVATIONS[name].value(math.nan))


def test_relu_at_zero_has_no_slope():
    """As scikit-learn's."""
    assert slope_at(ACTIVATIONS["relu"], 0.0) == 0.0
    assert slope_at(ACTIVATIONS["relu"], -0.0) == 0.0
