"""`TableEncoder`: the encoding against its formulas, its promises, and scikit-learn's checks."""

import doctest
import pickle
import re
import tracemalloc
from contextlib import nullcontext

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import TargetEncoder
from tables import draw_amounts
from test_sklearn_checks import run_checks

import fastbp
from fastbp import TableEncoder
from fastbp.tabular.encoder import RULES

ENCODINGS = ["piecewise", "hat", "none"]


@pytest.mark.parametrize(
    "encoder",
    [
        TableEncoder(),
        TableEncoder(encoding="hat", categorical_features=None),
        TableEncoder(encoding="none", n_bins=3, max_levels=2),
        TableEncoder(categorical_features=[0], max_levels=3, min_frequency=0.01),
    ],
    ids=repr,
)
def test_scikit_learn_checks(encoder):
    run_checks(encoder, at_least=43)


def test_docstring():
    runner = doctest.DocTestRunner()
    for example in doctest.DocTestFinder().find(TableEncoder, "TableEncoder", module=False):
        runner.run(example)
    assert runner.tries > 0
    assert runner.failures == 0


def test_the_class_is_public():
    assert TableEncoder.__module__ == "fastbp"
    assert fastbp.TableEncoder is TableEncoder
    assert set(RULES) == set(TableEncoder().get_params(deep=False))


# ------------------------------------------------------------------------- numbers by hand


def outputs_of(encoder, X):
    """Return the encoded columns by their names."""
    encoded = encoder.transform(X)
    names = encoder.get_feature_names_out()
    assert len(set(names)) == len(names) == encoded.shape[1]
    return dict(zip(names, encoded.T))


def smooth(z):
    return z / np.sqrt(1 + (z / 3) ** 2)


def test_numbers_are_scaled_and_cut_into_pieces_at_their_values():
    values = np.array([0.0, 1, 1, 2, 4, 8, 8, 8, 20])  # median 4, quartiles 1 and 8
    encoder = TableEncoder().fit(values[:, None])
    x = np.array([-3.0, 0, 0.25, 3, 14, 20, 1000])
    found = outputs_of(encoder, x[:, None])
    expected = {"x0": smooth((x - 4) / 7)}
    for low, high in [(0, 1), (1, 2), (2, 4), (4, 8), (8, 20)]:
        expected[f"x0[{low}, {high})"] = np.clip((x - low) / (high - low), 0, 1)
    assert list(found) == list(expected)
    for name, column in expected.items():
        np.testing.assert_allclose(found[name], column, rtol=1e-6, atol=1e-7, err_msg=name)


def test_many_values_are_cut_at_quantiles():
    rng = np.random.default_rng(0)
    X = rng.lognormal(size=(501, 1))
    encoder = TableEncoder(n_bins=4).fit(X)
    knots = np.quantile(X, np.linspace(0, 1, 5))
    np.testing.assert_array_equal(encoder.columns_[0].knots[""], knots)
    lower, median, upper = np.quantile(X, [0.25, 0.5, 0.75])
    expected = [smooth((X[:, 0] - median) / (upper - lower))]
    expected += [np.clip((X[:, 0] - a) / (b - a), 0, 1) for a, b in zip(knots[:-1], knots[1:])]
    np.testing.assert_allclose(encoder.transform(X), np.transpose(expected), rtol=1e-5, atol=1e-6)


def test_a_value_of_most_rows_leaves_knots_to_the_others():
    amounts = np.arange(1.0, 101.0)
    X = np.concatenate([np.zeros(900), amounts])[:, None]
    knots = TableEncoder(n_bins=10).fit(X).columns_[0].knots[""]
    # 0 counts as 30 rows, the root of 900: 130 in all, of which each bin takes 13
    assert knots[0] == 0
    assert knots[-1] == 100
    assert (knots > 0).sum() >= 8  # of quantiles one
    np.testing.assert_allclose(np.diff(knots[2:-1]), 13, atol=1)


def test_columns_with_few_values_get_a_piece_for_each():
    """From the pieces that others, with many values, then have less of; not above the limits."""
    rng = np.random.RandomState(0)
    few = rng.randint(0, 60, (2000, 1))

    def lengths(X):
        return [len(c.knots[""]) - 1 for c in TableEncoder().fit(X).columns_]

    many = rng.standard_normal((2000, 15))
    assert lengths(np.hstack([few, many])) == [32] * 16  # its share is no larger
    assert lengths(np.hstack([few, many[:, :5]])) == [59, *[48] * 5]
    small = np.hstack([rng.randint(0, 8, (2000, 6)), few, many[:, :9]])
    assert lengths(small) == [7] * 6 + [47] * 10
    assert lengths(np.hstack([few, many[:, :5]])[:640]) == [20, *[20] * 5]  # one for 32 rows
    assert sum(lengths(np.hstack([few] * 3 + [many]))) <= 512


def test_amounts_have_an_indicator_of_each_frequent_value():
    amounts = draw_amounts()
    one = TableEncoder().fit(amounts[:, np.newaxis])
    names = one.get_feature_names_out().tolist()
    assert names[14:] == [f"x0={value}" for value in range(0, 1300, 100)]
    out = one.transform([[300.0], [301.0], [5000.0], [0.0]])
    assert out[:, 14:].argmax(axis=1).tolist() == [3, 0, 0, 0]
    assert out[:, 14:].sum(axis=1).tolist() == [1, 0, 0, 1]
    many = TableEncoder(n_bins=5).fit(amounts[:, np.newaxis])  # whose knots are not its values
    hats = TableEncoder(encoding="hat").fit(amounts[:, np.newaxis])
    none = TableEncoder(min_frequency=640).fit(amounts[:, np.newaxis])
    for other in (many, hats, none):
        assert not any("=" in name for name in other.get_feature_names_out())
    even = TableEncoder().fit(np.arange(640.0)[:, np.newaxis] % 13)  # no value of most rows
    assert not any("=" in name for name in even.get_feature_names_out())


def test_hats_are_one_at_their_knot_and_sum_to_one():
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.lognormal(size=300), rng.integers(0, 5, 300), rng.integers(0, 2, 300)])
    encoder = TableEncoder(n_bins=6, encoding="hat").fit(X)
    x = np.linspace(-1, 12, 200)
    found = outputs_of(encoder, np.column_stack([x, x, x]))
    for j, n_knots in enumerate((7, 5)):
        knots = encoder.columns_[j].knots[""]
        hats = np.array([column for name, column in found.items() if f"x{j} at" in name])
        assert len(hats) == len(knots) == n_knots
        np.testing.assert_allclose(hats.sum(axis=0), 1, atol=1e-6)
        for k, hat in enumerate(hats):
            expected = np.interp(x, knots, np.eye(n_knots)[k])
            np.testing.assert_allclose(hat, expected, atol=1e-5)
    np.testing.assert_allclose(found["x2"], np.clip(x, 0, 1), atol=1e-6)


def test_without_an_encoding_only_scaled_values_are_left():
    X = np.arange(20.0).reshape(10, 2) ** 2
    encoder = TableEncoder(encoding="none").fit(X)
    assert encoder.transform(X).shape == (10, 2)
    pieces = TableEncoder().fit_transform(X)
    np.testing.assert_array_equal(encoder.transform(X), pieces[:, :2])


def test_where_quartiles_are_equal_the_whole_range_scales():
    values = np.array([0.0] * 20 + [10.0, 5.0])
    found = outputs_of(TableEncoder().fit(values[:, None]), np.array([[10.0], [0.0]]))
    np.testing.assert_allclose(found["x0"], [smooth(1.0), 0], rtol=1e-6)


@pytest.mark.parametrize(
    ("n_rows", "n_columns", "n_bins"),
    [(5000, 1, 48), (5000, 16, 32), (300, 100, 8), (640, 2, 20), (20, 1, 8)],
)
def test_number_of_bins_shrinks_with_columns_and_grows_with_rows(n_rows, n_columns, n_bins):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_rows, n_columns))
    X = np.column_stack([X, X[:, 0] > 0, np.ones(n_rows)])  # two values, one value: do not count
    encoder = TableEncoder().fit(X)
    assert encoder.columns_[0].n_outputs == n_bins + 1
    assert TableEncoder(n_bins=5).fit(X).columns_[0].n_outputs == 6


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_two_values_have_one_output(encoding):
    X = np.array([[3.0], [7.0], [3.0], [7.0]])
    encoder = TableEncoder(encoding=encoding).fit(X)
    np.testing.assert_allclose(encoder.transform([[3], [7], [4], [100]])[:, 0], [0, 1, 0.25, 1])
    assert encoder.get_feature_names_out().tolist() == ["x0"]


# ------------------------------------------------------------------------- missing, extreme


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_missing_numbers_are_zero_and_have_an_indicator(encoding):
    X = np.arange(30.0).reshape(10, 3) ** 2
    X[3, 0] = np.nan
    X[::2, 2] = np.nan
    encoder = TableEncoder(encoding=encoding).fit(X)
    found = outputs_of(encoder, X)
    assert [name for name in found if "missing" in name] == ["x0 missing", "x2 missing"]
    np.testing.assert_array_equal(found["x0 missing"], np.isnan(X[:, 0]))
    np.testing.assert_array_equal(found["x2 missing"], np.isnan(X[:, 2]))
    for name, column in found.items():
        if name.startswith("x0") and "missing" not in name:
            assert column[3] == 0
    assert [column.has_missing for column in encoder.columns_] == [True, False, True]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_missing_only_in_transform_is_the_median(encoding):
    X = np.arange(22.0).reshape(11, 2) ** 2
    encoder = TableEncoder(encoding=encoding).fit(X)
    np.testing.assert_array_equal(
        encoder.transform([[np.nan, 9.0]]), encoder.transform([[np.median(X[:, 0]), 9.0]])
    )


def test_one_value_and_missing_is_an_indicator():
    encoder = TableEncoder().fit([[1.0, 2.0], [np.nan, 2.0], [1.0, 2.0]])
    assert encoder.get_feature_names_out().tolist() == ["x0 missing"]
    assert encoder.transform([[5.0, 1.0], [np.nan, 1.0]]).tolist() == [[0], [1]]
    assert [column.kind for column in encoder.columns_] == ["number", "constant"]


def test_columns_with_one_value_or_none_are_left_out():
    X = np.column_stack([np.arange(5.0), np.full(5, 3.0), np.full(5, np.nan)])
    encoder = TableEncoder().fit(X)
    assert [column.kind for column in encoder.columns_] == ["number", "constant", "constant"]
    assert encoder.columns_[1].n_outputs == 0
    same = TableEncoder().fit(X[:, :1]).transform(X[:, :1])
    np.testing.assert_array_equal(encoder.transform(X), same)
    with pytest.raises(ValueError, match=r"No column of X can be encoded.*n_samples = 5"):
        TableEncoder().fit(X[:, 1:])


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_infinity_is_a_very_large_value(encoding):
    X = np.arange(20.0)[:, None]
    encoder = TableEncoder(encoding=encoding).fit(X)
    infinite = encoder.transform([[np.inf], [-np.inf]])
    np.testing.assert_allclose(infinite, encoder.transform([[1e30], [-1e30]]))
    np.testing.assert_allclose(infinite[:, 0], [3, -3])
    X[3] = np.inf  # in fit it is told apart from the largest value
    encoded = TableEncoder(encoding=encoding).fit_transform(X)
    assert np.isfinite(encoded).all()
    assert (encoded[3] != encoded[19]).any()
    pair = np.array([[-np.inf], [np.inf], [np.inf]])
    assert TableEncoder(encoding=encoding).fit_transform(pair).tolist() == [[0], [1], [1]]


EXTREMES = {
    "large": np.array([-1.7e308, 1.7e308, 1e300, 0, 5, -1e300, 1e-300]),
    "largest": np.array([np.finfo(float).max, -np.finfo(float).max, np.inf, -np.inf, 0, 1, 2]),
    "subnormal": np.array([5e-324, 1e-323, 0, 2e-323, 5e-323, 1e-322, -5e-324]),
    "small beside one": np.array([5e-324, 0, 1, 1e-310, 2, 3, 4]),
    "ids": np.arange(7, dtype=np.int64) * 3000 + 2**62,
    "close ids": np.arange(7, dtype=np.int64) + 2**53,
    "unsigned": np.array([2**64 - 1, 0, 1, 2**63, 5, 6, 7], np.uint64),
    "half": np.array([65504, -65504, 1, 2, 3, 6e-8, 0], np.float16),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", EXTREMES)
def test_no_value_gives_nan_or_infinity(name, encoding):
    X = np.column_stack([EXTREMES[name]] * 2)
    told = pytest.warns(UserWarning, match="beyond 2") if name == "close ids" else nullcontext()
    with told:
        encoder = TableEncoder(encoding=encoding, n_bins=3).fit(X)
    foreign = np.array([0, 1e300, -1e300, 5e-324, np.inf, -np.inf, np.nan, 1])
    for given in (X, np.column_stack([foreign] * 2)):
        encoded = encoder.transform(given)
        assert np.isfinite(encoded).all()
        assert np.abs(encoded).max() <= 3
    encoded = encoder.transform(X)
    order = np.argsort(EXTREMES[name], kind="stable")
    if encoding != "hat":
        assert (np.diff(encoded[order], axis=0) >= 0).all()
    assert len(np.unique(encoded, axis=0)) >= 3  # the values are told apart


# ------------------------------------------------------------------------------ categories


def category(values, **settings):
    """Fit on one column of categories; return the encoder and the column's outputs by name."""
    X = np.array(values, object)[:, None]
    encoder = TableEncoder(**settings).fit(X)
    return encoder, outputs_of(encoder, X)


def test_levels_have_indicators():
    values = ["b", "a", "c", "a"] * 5
    encoder, found = category(values)
    assert list(found) == ["x0=a", "x0=b", "x0=c"]
    for level in "abc":
        assert found[f"x0={level}"].tolist() == [value == level for value in values]
    assert encoder.columns_[0].levels == ["a", "b", "c"]
    assert encoder.transform(np.array([["z"], [None]], object)).tolist() == [[0] * 3] * 2


def test_rare_levels_are_pooled_with_unseen_ones():
    values = ["a"] * 5 + ["b"] * 6 + ["c"] * 4 + ["d"]
    encoder, found = category(values)
    assert list(found) == ["x0=a", "x0=b", "x0 infrequent"]
    assert found["x0 infrequent"].tolist() == [0] * 11 + [1] * 5
    assert encoder.transform(np.array([["z"], [None]], object)).tolist() == [[0, 0, 1]] * 2
    assert list(category(values, min_frequency=0.3)[1]) == ["x0=a", "x0=b", "x0 infrequent"]
    assert list(category(values, min_frequency=0.35)[1]) == ["x0=b"]  # the other is the rest
    assert list(category(values, min_frequency=4)[1])[:3] == ["x0=a", "x0=b", "x0=c"]


def test_the_most_frequent_levels_keep_their_own_output():
    values = ["a"] * 5 + ["b"] * 6 + ["c"] * 7 + ["d"] * 6
    assert list(category(values, max_levels=2)[1]) == ["x0=b", "x0=c", "x0 infrequent"]


def test_missing_is_a_level():
    values = ["a"] * 5 + [None] * 2 + ["b"] * 5 + [np.nan]
    encoder, found = category(values)
    assert list(found) == ["x0=a", "x0=b", "x0 missing"]
    assert found["x0 missing"].tolist() == [0] * 5 + [1] * 2 + [0] * 5 + [1]
    assert encoder.columns_[0].levels == ["a", "b"]
    assert encoder.transform(np.array([[None], ["z"]], object)).tolist() == [[0, 0, 1], [0, 0, 0]]
    assert list(category(["a", None] * 5)[1]) == ["x0 missing"]


def test_two_levels_have_one_output():
    encoder, found = category(["a", "b"] * 5)
    assert list(found) == ["x0=b"]
    assert found["x0=b"].tolist() == [0, 1] * 5
    encoder, found = category([True, False] * 5)
    assert list(found) == ["x0=True"]
    assert encoder.columns_[0].kind == "category"


def test_identifiers_and_constant_text_are_left_out():
    ids = np.array([f"id{i}" for i in range(30)], object)
    X = np.column_stack([ids, ["a"] * 30, np.arange(30)]).astype(object)
    encoder = TableEncoder().fit(X, np.arange(30) % 2)
    assert [column.kind for column in encoder.columns_] == ["identifier", "constant", "number"]
    assert encoder.columns_[0].n_outputs == 0
    kept = TableEncoder(max_levels=30, min_frequency=1).fit(X)
    assert kept.columns_[0].kind == "category"  # not more than max_levels


# -------------------------------------------------------------------------- target encoding


def draw_cities(n=400, n_levels=40, seed=0):
    rng = np.random.default_rng(seed)
    cities = rng.integers(0, n_levels, n)
    return np.array([f"c{i:02}" for i in cities], object)[:, None], cities


def test_targets_are_those_of_scikit_learn():
    X, cities = draw_cities()
    y = np.sin(cities) * 1000 + np.random.default_rng(1).standard_normal(len(X))
    encoder = TableEncoder(max_levels=10)
    crossed = encoder.fit_transform(X, y)[:, -1]
    assert encoder.get_feature_names_out()[-1] == "x0 target"
    peer = TargetEncoder().fit(X, y)
    full = peer.transform(X)[:, 0]
    z = (full - full.mean()) / full.std()
    found = encoder.transform(X)[:, -1]
    np.testing.assert_allclose(found, smooth(z), rtol=1e-4, atol=1e-5)
    assert np.abs(crossed - found).max() > 1e-3  # cross-fitted: not the same
    assert np.corrcoef(crossed, found)[0, 1] > 0.9
    unseen = encoder.transform(np.array([["new"], [None]], object))[:, -1]
    np.testing.assert_allclose(unseen, smooth((y.mean() - full.mean()) / full.std()), rtol=1e-3)


def test_crossed_targets_do_not_know_their_own_row():
    """With noise for y, the levels' own means look informative, and cross-fitted ones do not."""
    X, _ = draw_cities(600, 150)
    y = np.random.default_rng(2).standard_normal(600)
    encoder = TableEncoder()
    crossed = encoder.fit_transform(X, y)[:, -1]
    assert abs(np.corrcoef(crossed, y)[0, 1]) < 0.15
    assert np.corrcoef(encoder.transform(X)[:, -1], y)[0, 1] > 0.3
    other = TableEncoder(random_state=1).fit_transform(X, y)[:, -1]
    assert (other != crossed).any()
    again = TableEncoder().fit_transform(X, y)[:, -1]
    np.testing.assert_array_equal(again, crossed)


def test_each_class_has_a_target_output():
    X, cities = draw_cities()
    y = np.array(["red", "green", "blue"])[cities % 3]
    encoder = TableEncoder(max_levels=5).fit(X, y)
    names = encoder.get_feature_names_out().tolist()
    assert names[-3:] == ["x0 target=blue", "x0 target=green", "x0 target=red"]
    found = outputs_of(encoder, X)
    for colour in ("red", "green", "blue"):
        column = found[f"x0 target={colour}"]
        assert column[y == colour].min() > column[y != colour].max()
    binary = TableEncoder(max_levels=5).fit(X, y == "red")
    assert binary.get_feature_names_out().tolist()[-2:] == ["x0 infrequent", "x0 target"]
    rare = y.copy()
    rare[0] = "once"  # fewer rows than folds
    encoded = TableEncoder(max_levels=5).fit_transform(X, rare)
    assert encoded.shape[1] == len(names) + 1
    assert np.isfinite(encoded).all()


def test_a_class_that_is_alike_in_all_levels_is_no_noise():
    cities = np.repeat(np.arange(30), 10)
    y = np.where(np.arange(300) % 2, "same", np.array(["a", "b"])[cities % 2])
    X = np.array([f"c{i}" for i in cities], object)[:, None]
    found = outputs_of(TableEncoder().fit(X, y), X)
    np.testing.assert_allclose(found["x0 target=same"], 0, atol=1e-6)
    assert np.ptp(found["x0 target=a"]) > 1


def test_when_targets_are_not_encoded():
    X, cities = draw_cities()
    n_outputs = TableEncoder().fit(X).transform(X).shape[1]
    Y = np.column_stack([cities, cities])
    assert TableEncoder().fit_transform(X, Y).shape[1] == n_outputs
    assert TableEncoder().fit_transform(X, np.zeros(len(X), int)).shape[1] == n_outputs
    assert TableEncoder(max_levels=40).fit(X, cities).transform(X).shape[1] <= 41
    assert TableEncoder().fit_transform(X, cities[:, None] * 0.5).shape[1] == n_outputs + 1


def test_what_targets_are_can_be_said():
    X, cities = draw_cities()
    n = TableEncoder().fit(X).transform(X).shape[1]
    assert TableEncoder().fit(X, cities % 10).transform(X).shape[1] == n + 10
    whole = TableEncoder(target_type="continuous").fit(X, cities % 10)
    assert whole.transform(X).shape[1] == n + 1
    many = np.random.default_rng(0).integers(0, 10_000, len(X))
    assert TableEncoder().fit_transform(X, many).shape[1] == n + 1  # no classes


@pytest.mark.parametrize(("target_type", "said"), [("continuous", "numbers"), ("binary", "two")])
def test_targets_that_are_not_what_was_said(target_type, said):
    X, y = np.array([[f"k{i % 40}"] for i in range(400)], object), ["a", "b", "c", "d"] * 100
    with pytest.raises(ValueError, match=f"target_type='{target_type}' needs .*{said}"):
        TableEncoder(target_type=target_type).fit(X, y)


def test_missing_levels_have_a_target():
    X, cities = draw_cities()
    X[cities == 3] = None
    y = (cities == 3) * 1.5
    encoder = TableEncoder(target_type="continuous").fit(X, y)
    found = outputs_of(encoder, X)["x0 target"]
    assert found[cities == 3].min() > found[cities != 3].max()


# ----------------------------------------------------------------------- parameters, errors


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"encoding": "ple"}, "Did you mean 'piecewise'"),
        ({"encoding": "hats"}, "Did you mean 'hat'"),
        ({"n_bins": 0}, "'n_bins' parameter of TableEncoder must be"),
        ({"n_bins": 2.5}, "an int in the range"),
        ({"max_levels": None}, "'max_levels' parameter"),
        ({"min_frequency": 1.5}, "'min_frequency' parameter"),
        ({"min_frequency": True}, "'min_frequency' parameter"),
        ({"target_type": "regression"}, "Did you mean 'continuous'"),
        ({"random_state": "a"}, "'random_state' parameter"),
        ({"categorical_features": "from_dtypes"}, "Did you mean 'from_dtype'"),
        ({"categorical_features": [["a"], ["b", "c"]]}, "'categorical_features' parameter"),
        ({"categorical_features": [0.5]}, "only str, only int or only bool"),
        ({"categorical_features": [0, 5]}, "beyond the 2 columns"),
        ({"categorical_features": [-1]}, "beyond the 2 columns"),
        ({"categorical_features": [True]}, "a mask of 1 columns; X has 2"),
        ({"categorical_features": ["a"]}, "X has no names"),
    ],
)
def test_parameters_are_checked(settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        TableEncoder(**settings).fit([[1, 2], [3, 4], [5, 6]])


def test_numbers_of_numpy_are_parameters():
    X = np.arange(40.0).reshape(20, 2)
    expected = TableEncoder(n_bins=3, min_frequency=2, max_levels=4).fit_transform(X)
    found = TableEncoder(
        n_bins=np.int8(3), min_frequency=np.int64(2), max_levels=np.uint8(4)
    ).fit_transform(X)
    np.testing.assert_array_equal(found, expected)


def test_other_words_for_parameters():
    with pytest.raises(TypeError, match="Did you mean n_bins"):
        TableEncoder(max_bins=3)
    with pytest.raises(TypeError, match="Did you mean categorical_features"):
        TableEncoder(cat_features=[1])


def test_wrong_tables_are_refused():
    for X in (sparse.csr_array(np.eye(3)), sparse.coo_matrix(np.eye(3))):
        with pytest.raises(TypeError, match="Sparse data was passed"):
            TableEncoder().fit(X)
    with pytest.raises(ValueError, match="Expected 2D array"):
        TableEncoder().fit([1, 2, 3])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        TableEncoder().fit([[1], [2]], [1, 2, 3])
    with pytest.raises(NotFittedError, match="call fit first"):
        TableEncoder().transform([[1]])
    for method in ("summary", "get_feature_names_out"):
        with pytest.raises(NotFittedError):
            getattr(TableEncoder(), method)()
    encoder = TableEncoder().fit([[1, 2], [3, 4], [5, 7]])
    for X in ([[1]], np.ones((2, 3))):
        with pytest.raises(ValueError, match="is expecting 2 features"):
            encoder.transform(X)


# -------------------------------------------------------------- what holds for every encoder


def draw_table(n=300, seed=0):
    rng = np.random.default_rng(seed)
    X = np.empty((n, 5), object)
    X[:, 0] = rng.standard_normal(n)
    X[:, 1] = rng.integers(0, 4, n)
    X[:, 2] = rng.choice(["a", "b", "c"], n)
    X[:, 3] = np.array([f"s{i}" for i in rng.integers(0, 40, n)], object)
    X[:, 4] = rng.choice([True, False, None], n)
    X[rng.integers(0, n, 20), rng.integers(0, 4, 20)] = None
    return X, rng.integers(0, 2, n)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_output_is_the_same_for_each_way_to_it(encoding):
    X, y = draw_table()
    kept = X.copy()
    encoder = TableEncoder(encoding=encoding)
    assert encoder.fit(X, y) is encoder
    encoded = encoder.transform(X)
    assert encoded.dtype == np.float32
    assert encoded.flags.c_contiguous
    assert np.isfinite(encoded).all()
    assert (kept == X).all()  # None equals None
    for other in (clone(encoder).fit(X, y), pickle.loads(pickle.dumps(encoder))):
        np.testing.assert_array_equal(other.transform(X), encoded)
    np.testing.assert_array_equal(encoder.transform(X.tolist()), encoded)
    np.testing.assert_array_equal(encoder.transform(np.asfortranarray(X)), encoded)
    rows = np.concatenate([encoder.transform(X[i : i + 1]) for i in range(40)])
    np.testing.assert_array_equal(rows, encoded[:40])
    assert sum(column.n_outputs for column in encoder.columns_) == encoded.shape[1]


def test_arrays_of_any_dtype_give_the_same():
    X = np.random.default_rng(0).integers(0, 100, (200, 3))
    expected = TableEncoder().fit_transform(X)
    for dtype in (np.float32, np.float64, np.int16, np.uint8, np.float16, np.longdouble, object):
        given = X.astype(dtype)
        np.testing.assert_array_equal(TableEncoder().fit_transform(given), expected)
        np.testing.assert_array_equal(TableEncoder().fit(X).transform(given), expected)


def test_read_only_arrays_are_read():
    X = np.random.default_rng(0).standard_normal((50, 3))
    X[3, 1] = np.nan
    kept = X.copy()
    X.flags.writeable = False
    TableEncoder().fit_transform(X)
    np.testing.assert_array_equal(X, kept)


def test_the_compact_form_gives_any_rows_into_given_memory():
    X, y = draw_table()
    encoder = TableEncoder()
    read = encoder._fit_read(X, y)
    encoded = TableEncoder().fit_transform(X, y)
    assert len(read) == len(X)
    assert read.codes.dtype == np.int32
    assert read.numbers.nbytes + read.codes.nbytes < encoded.nbytes
    np.testing.assert_array_equal(encoder._encode(read), encoded)
    rows = np.random.default_rng(0).permutation(len(X))[:100]
    out = np.full((len(rows), encoded.shape[1] + 2), 7, np.float32)
    assert encoder._encode(read[rows], out[:, 1:-1]).base is out
    np.testing.assert_array_equal(out[:, 1:-1], encoded[rows])
    assert (out[:, [0, -1]] == 7).all()
    np.testing.assert_array_equal(encoder._encode(read[10:30]), encoded[10:30])
    np.testing.assert_array_equal(encoder._encode(encoder._read(X)), encoder.transform(X))


def test_the_compact_form_of_short_numbers_is_float32():
    pd = pytest.importorskip("pandas")
    X = np.random.default_rng(0).standard_normal((50, 2))
    frame = pd.DataFrame(X, columns=["a", "b"])
    short = frame.astype({"a": np.float32, "b": np.int16})
    for table, dtype in ((frame, np.float64), (short, np.float32)):
        encoder = TableEncoder(n_bins=3).fit(table)
        assert encoder._read(table).numbers.dtype == dtype
        same = table.astype(np.float64)
        np.testing.assert_array_equal(encoder.transform(table), encoder.transform(same))


def test_a_fit_that_fails_changes_nothing():
    encoder = TableEncoder().fit([[1, 2], [3, 4], [5, 7]])
    before = dict(vars(encoder))
    for X, y in ((np.ones((3, 3)), None), ([[1], [2]], [1, 2, 3]), ([[b"a"], [b"b"]], None)):
        with pytest.raises(ValueError, match=r"X|inconsistent"):
            encoder.fit(X, y)
        assert vars(encoder) == before


def test_numbers_alone_are_not_copied():
    X = np.random.default_rng(0).standard_normal((50, 3))
    assert TableEncoder().fit(X)._read(X).numbers is X


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_blocks_do_not_show(encoding):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((3000, 20))
    X[::100, 3] = np.nan
    encoder = TableEncoder(encoding=encoding).fit(X)
    parts = [encoder.transform(part) for part in np.array_split(X, 71)]
    np.testing.assert_array_equal(np.concatenate(parts), encoder.transform(X))


def test_memory_beside_the_output_is_small():
    X = np.random.default_rng(0).standard_normal((20_000, 10))
    encoder = TableEncoder().fit(X)
    tracemalloc.start()
    try:
        encoded = encoder.transform(X)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak - encoded.nbytes < 4_000_000 < encoded.nbytes / 4


# ----------------------------------------------------------------------- what users are told


def test_what_columns_are_taken_for_is_told():
    X, y = draw_table()
    encoder = TableEncoder().fit(X, y)
    kinds = [column.kind for column in encoder.columns_]
    assert kinds == ["number", "number", "category", "category", "category"]
    assert repr(encoder.columns_[2]) == (
        "<x2: category, 4 outputs; 3 levels (a, b, c); missing values>"
    )
    text = str(encoder.summary())
    assert text.splitlines()[0].split() == ["column", "kind", "outputs", "what", "was", "found"]
    assert len(text.splitlines()) == 2 + X.shape[1]
    assert "40 levels (s0, s1, s10, ...)" in text


def test_names_are_told_apart():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": [1.0, 2, None], "a missing": [1, 2, 1], "b": [1.0, 1.00000001, 1.1]})
    names = TableEncoder().fit(frame).get_feature_names_out()
    assert len(set(names)) == len(names)
    assert "a missing (2)" in names
    assert "b[1, 1.00000001)" in names


def test_in_a_pipeline():
    X, y = draw_table()
    model = make_pipeline(TableEncoder(), LogisticRegression(max_iter=1000)).fit(X, y)
    assert model.predict(X).shape == y.shape
    assert len(model[:-1].get_feature_names_out()) == model[-1].coef_.shape[1]


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_output_as_a_frame(library):
    pytest.importorskip(library)
    X, y = draw_table()
    encoder = TableEncoder().set_output(transform=library)
    frame = encoder.fit_transform(X, y)
    assert list(frame.columns) == list(encoder.get_feature_names_out())
    np.testing.assert_array_equal(frame.to_numpy(), TableEncoder().fit_transform(X, y))
