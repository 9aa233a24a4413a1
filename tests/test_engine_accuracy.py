"""How accurate the functions of each engine are, in units of the last place."""

import math

import numpy as np
import pytest
import reference
from covering import naming
from sessions import DTYPES, transform

from fastbp.activations import ACTIVATIONS


def distance_in_ulp(got, exact):
    """Return |got - exact| in units of the last place of the exact value."""
    return np.abs(got.astype(np.longdouble) - exact) / np.spacing(np.abs(exact).astype(got.dtype))


# Largest errors in units of the last place; gelu's is that of its tail's polynomial near 0.
MOST_ULP = {"logistic": 3, "tanh": 3, "elu": 2, "selu": 3, "silu": 3, "mish": 5, "softplus": 4,
            "gelu": 7}  # fmt: skip


def tanh_logistic_and_exp(x):
    """Return exact values in extended precision."""
    x = x.astype(np.longdouble)
    return {"tanh": np.tanh(x), "logistic": 1 / (1 + np.exp(-x)), "exp": np.exp(x)}


def exact_activation(name, x):
    """Return values in extended precision (gelu's within a unit of double precision)."""
    x = x.astype(np.longdouble)
    softplus = np.maximum(x, 0) + np.log1p(np.exp(-abs(x)))
    if name == "gelu":  # erfc at the rounded argument, and along its slope to the exact one
        exact = -x / np.sqrt(np.longdouble(2))
        near = exact.astype(np.float64)
        slope = -2 / np.sqrt(np.longdouble(np.pi)) * np.exp(-(near.astype(np.longdouble) ** 2))
        return x * (np.vectorize(math.erfc)(near) + slope * (exact - near)) / 2
    return {
        "elu": np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
        "selu": np.longdouble("1.0507009873554804934193")
        * np.where(x > 0, x, np.longdouble("1.6732632423543772848") * np.expm1(np.minimum(x, 0))),
        "silu": x / (1 + np.exp(-x)),
        "mish": x * np.tanh(softplus),
        "softplus": softplus,
    }[name]


@pytest.mark.skipif(
    np.finfo(np.longdouble).eps > 1e-18, reason="long double is no wider than double here"
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_hidden_activations_are_accurate(forced_engine, dtype):
    """A 1-1-1 network of unit weights and zero biases returns the bare function."""
    for name in MOST_ULP:
        with naming(name):
            check_accuracy(forced_engine, name, dtype)


def check_accuracy(engine, name, dtype):
    """Compare with extended precision in units of the last place."""
    bound = 80.0 if dtype == np.float32 else 600.0
    if name == "gelu":
        bound = 12.0 if dtype == np.float32 else 36.0
    x = np.concatenate([
        np.linspace(-10, 10, 20001), np.linspace(-bound, bound, 2001), np.geomspace(1e-30, 1, 2001),
        -np.geomspace(1e-30, 1, 2001),
    ]).astype(dtype)[:, None]  # fmt: skip
    one, zero = np.ones((1, 1), dtype), np.zeros(1, dtype)
    out = np.full((len(x), 1), np.nan, dtype)
    engine.predict_into([one, one], [zero, zero], [ACTIVATIONS[name]], x, out)
    exact = tanh_logistic_and_exp(x).get(name)
    exact = exact_activation(name, x) if exact is None else exact
    most = MOST_ULP[name]
    if engine.NAME == "numba" and name == "gelu":
        most = np.inf  # by the C library, at an argument rounded to the dtype
    assert distance_in_ulp(out, exact).max() <= most


@pytest.mark.parametrize("dtype", DTYPES)
def test_training_and_prediction_activate_alike(forced_engine, dtype):
    """Values that come with slopes, for a backward pass, are those that come alone."""
    z = np.concatenate([np.linspace(-40, 40, 4001), [0.0, -90.0, 90.0]]).astype(dtype)
    one, zero = np.ones((1, 1), dtype), np.zeros(1, dtype)
    for name, row in ACTIVATIONS.items():
        trained, slopes, predicted = z.copy(), np.empty_like(z), np.empty((z.size, 1), dtype)
        forced_engine.activate_into(row, trained, slopes)
        forced_engine.predict_into([one, one], [zero, zero], [row], z[:, None], predicted)
        np.testing.assert_array_equal(trained, predicted[:, 0], err_msg=name)


@pytest.mark.parametrize("dtype", DTYPES)
def test_slopes_are_accurate(forced_engine, dtype):
    """Beside the largest slope."""
    z = np.concatenate([np.linspace(-40, 40, 4001), np.geomspace(1e-20, 1, 101)]).astype(dtype)
    for name, row in ACTIVATIONS.items():
        a, slopes = z.copy(), z.copy()
        forced_engine.activate_into(row, a, slopes)
        _, slope = reference.find_activation(name)
        np.testing.assert_allclose(
            slopes, slope(z.astype(np.float64)), rtol=0, atol=16 * np.finfo(dtype).eps,
            err_msg=name,
        )  # fmt: skip


@pytest.mark.skipif(
    np.finfo(np.longdouble).eps > 1e-18, reason="long double is no wider than double here"
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_exponential_is_accurate(forced_engine, dtype):
    lowest, highest = (-86.5, 88.7) if dtype == np.float32 else (-708.0, 709.7)
    x = np.linspace(lowest, highest, 40001).astype(dtype)[:, None]
    out = transform(forced_engine, "exp", x)
    assert distance_in_ulp(out, tanh_logistic_and_exp(x)["exp"]).max() <= 2
    # Below it goes to 0 without leaving the range of the true values.
    x = np.linspace(2 * lowest, lowest, 1001).astype(dtype)[:, None]
    out, exact = transform(forced_engine, "exp", x), tanh_logistic_and_exp(x)["exp"]
    assert ((out >= 0) & (out <= exact.max() * (1 + 4 * np.finfo(dtype).eps))).all()
    assert (transform(forced_engine, "exp", -x[:500]) == np.inf).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_activations_saturate(forced_engine, dtype):
    """Far out, and where the product overflows, the C loop gives the function's limits."""
    huge = 1e30 if dtype == np.float32 else 1e200
    x = np.array([-huge, -1e4 / huge, -1 / huge, 0.0, 1 / huge, 1e4 / huge, huge], dtype)[:, None]
    one, zero = np.ones((1, 1), dtype), np.zeros(1, dtype)
    weights = [one * dtype(huge), one]
    for name, row in ACTIVATIONS.items():
        out = np.full((len(x), 1), np.nan, dtype)
        forced_engine.predict_into(weights, [zero, zero], [row], x, out)
        value, _ = reference.find_activation(name)
        with np.errstate(over="ignore"):
            expected = value((x * dtype(huge)).astype(np.float64))
        np.testing.assert_allclose(
            out, expected, rtol=4 * np.finfo(dtype).eps, atol=1e-30, err_msg=name
        )
