"""Predictions, output transforms and the search for what is not finite, of every engine."""

import itertools
import math
from contextlib import closing

import numpy as np
import pytest
import reference
from covering import naming
from scipy import special
from sessions import DTYPES, THREADS, draw_problem_once, open_session, split_params, transform

from fastbp.activations import ACTIVATIONS

# --- prediction -----------------------------------------------------------------------------------

PREDICT_SHAPES = [
    (1, 1, 1), (5, 7, 1), (64, 100, 10), (20, 33, 17, 3), (8, 8, 8), (16, 16, 16), (3, 48, 2),
    (40, 1), (33, 5), (1100, 9, 2), (6, 1, 4),
]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("density", [None, 0.2], ids=["dense", "sparse"])
def test_prediction_of_a_row_ignores_its_neighbours(forced_compiled_engine, density, dtype):
    """The reference's values; and the same bits alone, in blocks, shuffled, flat or packed."""
    for sizes in PREDICT_SHAPES:
        with naming(sizes):
            check_predictions(forced_compiled_engine, sizes, density, dtype)


def check_predictions(engine, sizes, density, dtype):
    """Predict 70 rows in every way."""
    problem = draw_problem_once(sizes, n_samples=70, density=density, activation="tanh")
    X, _, _, params = problem.in_dtype(dtype)
    coefs, intercepts = split_params(params, sizes)
    rows = [ACTIVATIONS[name] for name in problem.activations]
    with closing(open_session(engine, problem, dtype)) as session:

        def predict_packed(X):
            scores = np.full((X.shape[0], sizes[-1]), np.nan, dtype)
            session.predict_into(X, scores)
            return scores

        def predict_flat(X, n_threads=1):
            scores = np.full((X.shape[0], sizes[-1]), np.nan, dtype)
            engine.predict_into(coefs, intercepts, rows, X, scores, n_threads=n_threads)
            return scores

        whole = predict_packed(X)
        expected = reference.predict(params, sizes, problem.activations, X)
        tolerance = 1e-12 if dtype == np.float64 else 1e-4
        np.testing.assert_allclose(whole, expected, rtol=0, atol=tolerance)
        shuffled = np.random.default_rng(0).permutation(70)
        for predict in (predict_packed, predict_flat):
            np.testing.assert_array_equal(predict(X), whole)
            np.testing.assert_array_equal(predict(X[shuffled]), whole[shuffled])
            for block in (1, 2, 5, 13, 14, 15, 16, 17, 33):
                blocks = [predict(X[start : start + block]) for start in range(0, 70, block)]
                np.testing.assert_array_equal(np.vstack(blocks), whole)
        for n_threads in THREADS:
            np.testing.assert_array_equal(predict_flat(X, n_threads), whole)


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_passes_every_activation(forced_engine, dtype):
    """A unit that takes NaN for 0 would hide a weight that diverged."""
    for case in itertools.product(ACTIVATIONS, [3, 17], [None, 1.0]):
        with naming(*case):
            check_that_nan_passes(forced_engine, *case, dtype)


def check_that_nan_passes(engine, name, n_outputs, density, dtype):
    """Predict 40 rows, of which one has NaN."""
    sizes = (5, 9, 4, n_outputs)
    problem = draw_problem_once(sizes, n_samples=40, density=density)
    X, _, _, params = problem.in_dtype(dtype)
    X[3, 2] = np.nan
    coefs, intercepts = split_params(params, sizes)
    scores = np.zeros((40, n_outputs), dtype)
    rows = [ACTIVATIONS[name]] * 2
    assert not engine.predict_into(coefs, intercepts, rows, X, scores)
    assert engine.predict_into(coefs, intercepts, rows, X[:3], scores[:3].copy())
    np.testing.assert_array_equal(np.isnan(scores).any(axis=1), np.arange(40) == 3)
    assert np.isnan(scores[3]).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_predictions_on_any_number_of_threads(engine, dtype):
    problem = draw_problem_once((20, 33, 3), n_samples=9001)
    X, _, _, params = problem.in_dtype(dtype)
    coefs, intercepts = split_params(params, problem.sizes)
    expected = None
    for n_threads in THREADS:
        scores = np.full((9001, 3), np.nan, dtype)
        engine.predict_into(
            coefs, intercepts, [ACTIVATIONS["relu"]], X, scores, n_threads=n_threads
        )
        expected = scores if expected is None else expected
        np.testing.assert_array_equal(scores, expected)


def test_prediction_of_no_rows(engine):
    problem = draw_problem_once((5, 9, 2))
    coefs, intercepts = split_params(problem.params, problem.sizes)
    scores = np.empty((0, 2))
    assert engine.predict_into(coefs, intercepts, [ACTIVATIONS["relu"]], np.empty((0, 5)), scores)
    assert scores.shape == (0, 2)


@pytest.mark.parametrize("dtype", DTYPES)
def test_prediction_writes_nothing_beside_its_output(forced_engine, dtype):
    """Odd widths tempt a kernel to store whole vectors."""
    problem = draw_problem_once((5, 9, 3))
    X, _, _, params = problem.in_dtype(dtype)
    coefs, intercepts = split_params(params, problem.sizes)
    for n_rows in (1, 2, 15, 16, 17):
        guarded = np.full((n_rows + 40, 3), 7.0, dtype)
        forced_engine.predict_into(
            coefs, intercepts, [ACTIVATIONS["relu"]], X[:n_rows], guarded[20 : 20 + n_rows]
        )
        assert (guarded[:20] == 7).all()
        assert (guarded[20 + n_rows :] == 7).all()


# --- output transforms and finiteness -------------------------------------------------------------

TRANSFORMS = {
    "identity": lambda s: s,
    "logistic": special.expit,
    "softmax": lambda s: special.softmax(s, axis=1),
    "exp": np.exp,
    "log_logistic": special.log_expit,
    "cumulative_softplus": reference.levels_of,
    "log_softmax": lambda s: special.log_softmax(s, axis=1),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms(forced_engine, name, dtype):
    for n_outputs in (1, 2, 3, 7, 8, 9, 15, 16, 17, 33, 100):
        with naming(f"{n_outputs} outputs"):
            check_transform(forced_engine, name, n_outputs, dtype)


def check_transform(engine, name, n_outputs, dtype):
    """Compare with extended precision; a row is transformed alone as among others."""
    rng = np.random.default_rng(0)
    scores = rng.uniform(-20, 20, (41, n_outputs)).astype(dtype)
    whole = transform(engine, name, scores)
    eps = np.finfo(dtype).eps
    expected = TRANSFORMS[name](scores.astype(np.longdouble)) if name != "log_logistic" else (
        -np.logaddexp(0, -scores.astype(np.longdouble))
    )  # fmt: skip
    np.testing.assert_allclose(
        whole,
        expected.astype(np.float64),
        rtol=8 * eps,
        atol={"soft": 4, "cumu": 40 * n_outputs}.get(name.lstrip("log_")[:4], 0) * eps,
    )
    order = rng.permutation(41)
    np.testing.assert_array_equal(transform(engine, name, scores[order]), whole[order])
    alone = [transform(engine, name, scores[[row]]) for row in range(41)]
    np.testing.assert_array_equal(np.vstack(alone), whole)


@pytest.mark.parametrize("dtype", DTYPES)
def test_probabilities_sum_to_one(forced_engine, dtype):
    for n_outputs in (1, 2, 3, 7, 10, 16, 17, 100, 1000):
        rng = np.random.default_rng(0)
        for scale in (0.0, 1.0, 10.0, 1e4):
            scores = (scale * rng.standard_normal((200, n_outputs))).astype(dtype)
            sums = [math.fsum(row) for row in transform(forced_engine, "softmax", scores)]
            assert np.abs(np.array(sums) - 1).max() <= np.finfo(dtype).eps, (n_outputs, scale)


@pytest.mark.parametrize("dtype", DTYPES)
def test_transforms_of_extreme_scores(forced_engine, dtype):
    for name, n_outputs in itertools.product(TRANSFORMS, [1, 2, 3, 17]):
        if name != "exp":
            with naming(name, f"{n_outputs} outputs"):
                check_extreme_transform(forced_engine, name, n_outputs, dtype)


def check_extreme_transform(engine, name, n_outputs, dtype):
    """Of -10000, 0 and 10000: finite, in range, and what SciPy gives."""
    rng = np.random.default_rng(0)
    scores = (1e4 * rng.choice([-1.0, 0.0, 1.0], (60, n_outputs))).astype(dtype)
    out = transform(engine, name, scores)
    assert np.isfinite(out).all()
    if name.startswith("log_"):
        assert (out <= 0).all()
    elif name == "cumulative_softplus":
        assert (np.diff(out, axis=1) >= 0).all()
    elif name != "identity":
        assert ((out >= 0) & (out <= 1)).all()
    exact = TRANSFORMS[name](scores.astype(np.float64))
    eps = np.finfo(dtype).eps
    atol = 1e4 * n_outputs * eps if name == "cumulative_softplus" else 1e-30
    np.testing.assert_allclose(out, exact, rtol=8 * eps, atol=atol)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_number_is_found_anywhere(forced_engine, bad, dtype):
    for size in (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 257):
        X = np.full((1, size), np.finfo(dtype).max, dtype)
        X[0, ::2] = -np.finfo(dtype).max
        assert forced_engine.all_finite(X)
        for position in range(size):
            before, X[0, position] = X[0, position], bad
            assert not forced_engine.all_finite(X), (size, position)
            X[0, position] = before


@pytest.mark.parametrize("dtype", DTYPES)
def test_columns_are_joined_to_rows(forced_engine, dtype):
    rng = np.random.default_rng(0)
    for n_rows, n_columns in ((0, 3), (1, 1), (5, 40), (16, 16), (33, 54), (530, 3), (530, 19)):
        columns = [rng.standard_normal(n_rows + 1).astype(dtype)[1:] for _ in range(n_columns)]
        out = np.full((n_rows + 1, n_columns), 7.0, dtype)
        assert forced_engine.join_columns(columns, out[:-1])
        np.testing.assert_array_equal(out[:-1], np.stack(columns, axis=1))
        assert (out[-1] == 7.0).all()
        for row in range(0, n_rows, 1 + n_rows // 9):
            columns[row % n_columns][row] = (np.nan, np.inf, -np.inf)[row % 3]
            assert not forced_engine.join_columns(columns, out[:-1])
            np.testing.assert_array_equal(out[:-1], np.stack(columns, axis=1))
            columns[row % n_columns][row] = 1.0


def test_columns_of_another_matrix_are_refused(engine):
    columns, out = [np.zeros(4, np.float32)] * 3, np.zeros((4, 3), np.float32)
    for wrong in (columns[:2], [*columns[:2], np.zeros(5, np.float32)], [np.zeros(4)] * 3,
                  [*columns[:2], np.zeros(8, np.float32)[::2]]):  # fmt: skip
        with pytest.raises(ValueError, match="expected a"):
            engine.join_columns(wrong, out)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        engine.join_columns(columns, out)


@pytest.mark.parametrize("dtype", DTYPES)
def test_finiteness_of_other_shapes(engine, dtype):
    assert engine.all_finite(np.empty((0, 3), dtype))
    assert engine.all_finite(np.zeros((50, 3), dtype))
    X = np.zeros((50, 3), dtype)
    X[49, 2] = np.nan
    assert not engine.all_finite(X)
