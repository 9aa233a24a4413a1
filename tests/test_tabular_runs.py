"""The encoding as networks take it: CSR of runs says what the matrix says."""

import pickle

import numpy as np
import pytest
from sklearn.utils._testing import assert_allclose
from tables import draw_amounts

from fastbp import TableEncoder, TabularRegressor
from fastbp.tabular.rows import EncodedRows
from fastbp.tabular.runs import FEW_ROWS, as_csr


def draw_table(n_rows=200, seed=0):
    """Return numbers with gaps, infinities, repeated and extreme values, two values, and one."""
    rng = np.random.RandomState(seed)
    X = rng.standard_normal((n_rows, 8))
    X[rng.rand(n_rows) < 0.2, 1] = np.nan
    X[:, 2] = np.round(X[:, 2])
    X[:, 3] = X[:, 3] > 0
    X[:3, 4], X[3:5, 4] = np.inf, -np.inf
    X[:, 5] *= 1e300
    X[:, 6] = 7.0
    X[:, 7] = rng.randint(0, 40, n_rows)  # of categories
    return X


@pytest.fixture(scope="module")
def encoder():
    X = draw_table()
    one = TableEncoder([7], n_bins=6, max_levels=5, target_type="continuous", random_state=0)
    return one.fit(X, X[:, 0])


def spread(encoder, X):
    """Return the rows that CSR of runs stands for, and CSR."""
    plan = encoder._plan
    stored = as_csr(plan.runs.encode(encoder._read(X)), plan.n_outputs)
    whole = stored.toarray().astype(np.float64)
    for k in reversed(np.flatnonzero(plan.runs.continues)):
        whole[:, k - 1] += whole[:, k]
    return whole, stored


@pytest.mark.parametrize("n_rows", [1, FEW_ROWS - 1, FEW_ROWS, 200])
def test_runs_say_what_the_matrix_says(encoder, n_rows):
    """Also of values beyond those of `fit`, gaps where there were none, and unseen levels."""
    for X in (draw_table(), 3 * draw_table(seed=1)):
        X = X[:n_rows]
        X[0, 0], X[-1, 2] = np.nan, 1e9
        whole, stored = spread(encoder, X)
        assert_allclose(whole, encoder.transform(X), rtol=0, atol=1e-6)
        assert stored.has_sorted_indices or n_rows < FEW_ROWS
        assert stored.nnz <= n_rows * len(encoder._plan.runs.places)


def test_a_row_has_the_same_values_alone(encoder):
    X = draw_table(seed=2)
    _, many = spread(encoder, X)
    for i in range(5):
        assert np.array_equal(spread(encoder, X[i : i + 1])[1].toarray(), many[[i]].toarray())


def test_knots_belong_to_the_bin_above(encoder):
    X = np.tile(draw_table()[:1], (3, 1))
    knots = encoder._plan.numbers.fits[0].knots
    X[:, 0] = knots[0], knots[2], knots[-1]
    whole, _ = spread(encoder, X)
    first = encoder._plan.runs.first[0]
    assert whole[:, first : first + len(knots) - 1].sum(axis=1).tolist() == [0, 2, len(knots) - 1]


def test_numbers_alone_and_categories_alone():
    X = draw_table()
    for columns in ([0, 1, 2], [7]):
        one = TableEncoder([0] if columns == [7] else None, n_bins=4).fit(X[:, columns])
        assert_allclose(spread(one, X[:, columns])[0], one.transform(X[:, columns]), atol=1e-6)


@pytest.mark.parametrize("n_rows", [1, FEW_ROWS])
def test_two_values_are_one_piece(n_rows):
    """The first output of all is a piece: none is before it."""
    X = np.tile([[0.0, 5.0], [1.0, 7.0]], (FEW_ROWS, 1))
    one = TableEncoder(None).fit(X)
    whole, stored = spread(one, X[:n_rows])
    assert stored.indices.min() >= 0
    assert np.array_equal(whole, one.transform(X[:n_rows]))


@pytest.mark.parametrize("n_rows", [1, FEW_ROWS, 640])
def test_amounts_have_indicators_in_runs_too(n_rows):
    amounts, colours = draw_amounts(), np.arange(640) % 3
    X = np.column_stack([amounts, 1e300 * amounts, np.arange(640) % 7, colours])
    X[5, 0] = np.nan
    one = TableEncoder([3]).fit(X)
    assert len(one._plan.numbers.shows_values) == 2
    new = X[-n_rows:].copy()
    new[0, 0], new[-1, 1] = 150.0, np.nan  # in no row of `fit`, and the median
    assert_allclose(spread(one, new)[0], one.transform(new), rtol=0, atol=1e-6)
    assert np.array_equal(spread(one, X[-5:])[1].toarray(), spread(one, X)[1].toarray()[-5:])


def test_runs_are_not_taken_from_pickles(encoder):
    """Nor are attributes needed that plans of older versions do not have."""
    encoder._plan.runs  # noqa: B018
    old = pickle.loads(pickle.dumps(encoder))
    vars(old._plan)["runs"] = "of another version"
    for name in ("n_values", "first_values", "shows_values", "points", "value_source"):
        del vars(old._plan.numbers)[name]
    for fit in old._plan.numbers.fits:
        del vars(fit)["shown"]
    X = draw_table()
    again = pickle.loads(pickle.dumps(old))
    assert np.array_equal(spread(again, X)[0], spread(encoder, X)[0])
    assert np.array_equal(again.transform(X), encoder.transform(X))
    assert again.get_feature_names_out().tolist() == encoder.get_feature_names_out().tolist()


def test_blocks_train_like_the_whole(monkeypatch):
    X = draw_table()
    y = X[:, 0] * 2 + np.nan_to_num(X[:, 1])
    settings = dict(n_networks=2, n_members=2, hidden_layer_sizes=8, max_iter=3, random_state=0)
    whole = TabularRegressor(**settings).fit(X, y)
    made = []
    take = EncodedRows.take
    monkeypatch.setattr(EncodedRows, "take", lambda self, rows: made.append(1) or take(self, rows))
    monkeypatch.setattr("fastbp.tabular.rows.LARGEST", 0)
    in_blocks = TabularRegressor(**settings).fit(X, y)
    assert made
    assert np.array_equal(whole.predict(X), in_blocks.predict(X))
