"""The tabular estimators: what they take, what comes back, what they refuse by name."""

import warnings

import numpy as np
import pytest
from refusals import check_refusal
from scipy import sparse
from sklearn.exceptions import DataConversionWarning, NotFittedError
from tables import as_frame, draw_table, make

from fastbp import TabularClassifier, TabularRegressor
from fastbp.losses import Quantile

ESTIMATORS = [TabularClassifier, TabularRegressor]


def predictions(model, X):
    """Return probabilities, or values."""
    return (model.predict_proba if hasattr(model, "classes_") else model.predict)(X)


# --- tables ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_frames_of_each_library_mean_the_same(kind, library):
    X, y = draw_table(kind)
    frame = as_frame(X, library)
    model = make(kind).fit(frame, y)
    assert model.feature_names_in_.tolist() == ["size", "colour", "count", "flag"]
    array = make(kind).fit(X, y)
    assert not hasattr(array, "feature_names_in_")
    np.testing.assert_array_equal(predictions(model, frame), predictions(array, X))
    assert model.score(frame, y) == array.score(X, y)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_numbers_alone_need_no_objects(kind):
    X, y = draw_table(kind)
    X = np.array(X[:, [0, 2]], float)
    assert np.isnan(X).any()
    expected = predictions(make(kind).fit(X, y), X)
    np.testing.assert_array_equal(predictions(make(kind).fit(X.tolist(), y), X.tolist()), expected)
    narrow = make(kind).fit(X.astype(np.float32), y)
    assert predictions(narrow, X.astype(np.float32)).dtype == np.float32
    assert predictions(narrow, X).dtype == np.float64


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_which_columns_are_categories(kind):
    X, y = draw_table(kind)
    frame = as_frame(X)
    by_name = make(kind, categorical_features=["colour", "count", "flag"]).fit(frame, y)
    assert [column.kind for column in by_name.encoder_.columns_] == ["number"] + 3 * ["category"]
    for others in ([1, 2, 3], [False, True, True, True], np.array([1, 2, 3])):
        model = make(kind, categorical_features=others).fit(frame, y)
        np.testing.assert_array_equal(predictions(model, frame), predictions(by_name, frame))
    numbers = make(kind, categorical_features=None).fit(frame[["size", "count"]], y)
    assert {column.kind for column in numbers.encoder_.columns_} == {"number"}
    for wrong, words in [(["color"], "colour"), ([9], "9"), ([True], "mask of 1")]:
        model = make(kind, categorical_features=wrong)
        check_refusal(model, lambda m=model: m.fit(frame, y), ValueError, words)
    model = make(kind, categorical_features=None)
    check_refusal(model, lambda: model.fit(frame, y), ValueError, ["'colour'", "categorical_feat"])


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_levels_and_gaps_that_fit_has_not_seen(kind):
    X, y = draw_table(kind)
    model = make(kind).fit(X, y)
    strange = [[1.0, "violet", 3, True], [None, None, None, None], [np.inf, 7, -1e300, False]]
    found = predictions(model, np.array(strange, object))
    assert np.isfinite(found).all()
    unseen = np.array([[1.0, level, 3, True] for level in ("violet", "grey")], object)
    first, second = predictions(model, unseen)
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_other_columns_are_refused(kind):
    X, y = draw_table(kind)
    frame = as_frame(X)
    model = make(kind).fit(frame, y)
    for other, words in [
        (frame.rename(columns={"size": "length"}), ["length", "size"]),
        (frame[["colour", "size", "count", "flag"]], "same order"),
        (frame[["size"]], "size|missing"),
        (X[:, :2], "2 features.*4 features"),
        (X[:, 0], "2D"),
        (frame[:0], "0 sample"),
        (frame.assign(size="text"), "'size'"),
    ]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an array without names
            check_refusal(model, lambda other=other: model.predict(other), ValueError, words)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_sparse_data_are_refused(kind):
    X, y = draw_table(kind)
    eye = sparse.csr_array(np.eye(len(X)))
    model = make(kind)
    check_refusal(model, lambda: model.fit(eye, y), TypeError, ["raw tables are dense", "toarray"])
    model.fit(X, y)
    check_refusal(model, lambda: model.predict(eye), TypeError, "raw tables are dense")


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("n_rows", range(13))
def test_tiny_tables(kind, n_rows):
    """A fit, or a clear error."""
    X, y = draw_table(kind)
    X, y = X[:n_rows], y[:n_rows]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "y has only one class", RuntimeWarning)
        model = make(kind, n_networks=5)
        if n_rows < 2:
            words = "No column of X" if n_rows else kind.__name__
            check_refusal(model, lambda: model.fit(X, y), ValueError, words)
            return
        model.fit(X, y)
    assert model.predict(X).shape == y.shape
    every_row_its_own = np.arange(n_rows)
    assert make(kind).fit(X, every_row_its_own).predict(X).shape == y.shape


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_columns_that_say_nothing(kind):
    X, y = draw_table(kind)
    padded = np.column_stack([X, np.ones(len(X)), np.full(len(X), None)])
    np.testing.assert_array_equal(
        predictions(make(kind).fit(padded, y), padded), predictions(make(kind).fit(X, y), X)
    )
    model = make(kind)
    check_refusal(model, lambda: model.fit(padded[:, 4:], y), ValueError, "No column of X")


# --- y --------------------------------------------------------------------------------------------

LABELS = {
    "text": np.array(["no", "yes"]),
    "objects": np.array(["no", "yes"], object),
    "ints": np.array([3, -5]),
    "floats": np.array([1.0, 2.0]),
    "bools": np.array([False, True]),
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_of_each_type(name):
    X, y = draw_table(TabularClassifier, n_classes=2)
    labels = LABELS[name][y]
    model = make(TabularClassifier).fit(X, labels)
    np.testing.assert_array_equal(model.classes_, np.unique(labels))
    found = model.predict(X)
    if name != "objects":  # which are text
        assert found.dtype == labels.dtype
    probabilities = model.predict_proba(X)
    np.testing.assert_array_equal(found, model.classes_[probabilities.argmax(axis=1)])
    np.testing.assert_allclose(np.exp(model.predict_log_proba(X)), probabilities, rtol=1e-5)
    assert ((model.decision_function(X) > 0) == (found == model.classes_[1])).all()
    assert model.score(X, labels) == (found == labels).mean()


def test_series_of_labels():
    pd = pytest.importorskip("pandas")
    X, y = draw_table(TabularClassifier)
    labels = pd.Series(np.array(["a", "b", "c"])[y], index=range(5, 5 + len(y)))
    expected = make(TabularClassifier).fit(X, labels.to_numpy()).predict_proba(X)
    for series in (labels, labels.astype("category"), labels.astype("string")):
        found = make(TabularClassifier).fit(X, series).predict_proba(X)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_one_class_is_predicted_with_one_warning(n_threads):
    X = draw_table(TabularClassifier)[0]
    model = make(TabularClassifier, n_threads=n_threads)
    with pytest.warns(RuntimeWarning, match="only one class, 'x'") as caught:
        model.fit(X, np.full(len(X), "x"))
    assert [record.filename for record in caught] == [__file__]
    assert set(model.predict(X)) == {"x"}
    np.testing.assert_array_equal(model.predict_proba(X), np.ones((len(X), 1)))


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_a_column_of_y_is_flat_and_warns_once(kind):
    X, y = draw_table(kind)
    with pytest.warns(DataConversionWarning, match="column-vector") as caught:
        model = make(kind).fit(X, y[:, np.newaxis])
    assert len(caught) == 1
    assert model.predict(X).shape == (len(X),)
    np.testing.assert_array_equal(predictions(model, X), predictions(make(kind).fit(X, y), X))


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("state", ["unfitted", "fitted"])
def test_a_y_that_cannot_be_is_refused_and_changes_nothing(kind, state):
    X, y = draw_table(kind)
    model = make(kind)
    if state == "fitted":
        model.fit(X, y)
    holes = [np.where(np.arange(len(y)) == 3, value, y) for value in (np.nan, np.inf)]
    cases = [(hole, "NaN|infinity") for hole in holes]
    cases += [(None, "requires y"), (y[:-1], "inconsistent"), (np.r_[y[:-1], None], "None")]
    if kind is TabularClassifier:
        cases.append((np.eye(2, dtype=int)[y % 2], "one label per row.*MultiOutputClassifier"))
        cases.append((np.linspace(0, 1, len(y)), "classif"))
    else:
        cases.append((np.array(["a"] * len(y)), "numbers|'a'"))
    for wrong, words in cases:
        check_refusal(model, lambda wrong=wrong: model.fit(X, wrong), ValueError, words, X, wrong)
    if state == "unfitted":
        with pytest.raises(NotFittedError):
            model.predict(X)


def test_several_targets():
    X, y = draw_table(TabularRegressor)
    Y = np.column_stack([y, -100 * y, np.ones(len(y))])
    model = make(TabularRegressor, max_iter=40).fit(X, Y)
    assert model.n_outputs_ == 3
    found = model.predict(X)
    assert found.shape == Y.shape
    assert (found >= Y.min(axis=0)).all()
    assert (found <= Y.max(axis=0)).all()
    assert np.corrcoef(found[:, 0], found[:, 1])[0, 1] < 0
    spread = model.predict(X, return_std=True)[1]
    assert (spread[:, 2] == 0).all()


def test_quantiles_do_not_cross():
    X, y = draw_table(TabularRegressor)
    model = make(TabularRegressor, loss=Quantile([0.1, 0.5, 0.9]), max_iter=20).fit(X, y)
    found = model.predict(X)
    assert found.shape == (len(X), 3)
    assert (np.diff(found, axis=1) >= 0).all()
    assert np.isfinite(model.score(X, y))
    for values in model.predict(X, return_std=True):
        assert values.shape == (len(X), 3)


@pytest.mark.parametrize("loss", ["poisson", "gamma", "tweedie"])
def test_counts(loss):
    X, y = draw_table(TabularRegressor)
    y = np.floor(np.exp(y)) + (loss == "gamma")
    model = make(TabularRegressor, loss=loss).fit(X, y)
    assert (model.predict(X) >= y.min()).all()
    assert np.isfinite(model.score(X, y))
    check_refusal(model, lambda: model.fit(X, y - 5), ValueError, f"loss='{loss}' needs y >")


def test_predictions_stay_within_the_range_of_y():
    X, y = draw_table(TabularRegressor)
    model = make(TabularRegressor, learning_rate_init=0.1, max_iter=30).fit(X, y)
    far = X.copy()
    far[:, 0] = np.where(np.arange(len(X)) % 2, 1e30, -np.inf)
    found, spread = model.predict(far, return_std=True)
    np.testing.assert_array_equal(found, model.predict(far))
    for values in (found, model.predict(far)):
        assert (y.min() <= values).all()
        assert (values <= y.max()).all()
    assert (spread >= 0).all()
    ends = np.where(y > np.median(y), 1.7e308, -1.7e308)  # beyond them float64 ends
    found = make(TabularRegressor, learning_rate_init=0.1, max_iter=30).fit(X, ends).predict(far)
    assert (np.abs(found) <= 1.7e308).all()
    constant = make(TabularRegressor).fit(X, np.full(len(y), 7.0))
    np.testing.assert_array_equal(constant.predict(X), np.full(len(y), 7.0))


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_spread_of_the_members(kind):
    X, y = draw_table(kind)
    model = make(kind).fit(X, y)
    method = model.predict_proba if kind is TabularClassifier else model.predict
    mean, spread = method(X, return_std=True)
    np.testing.assert_array_equal(mean, method(X))
    assert spread.shape == mean.shape
    assert (spread >= 0).all()
    assert (spread > 0).any()
    alone = make(kind, n_networks=1, n_members=1).fit(X, y)
    method = alone.predict_proba if kind is TabularClassifier else alone.predict
    assert (method(X, return_std=True)[1] == 0).all()


@pytest.mark.parametrize("power", [1000, -1000])
def test_spread_of_huge_and_tiny_values(power):
    X, y = draw_table(TabularRegressor)
    spreads = [
        make(TabularRegressor).fit(X, np.ldexp(y, n)).predict(X, return_std=True)[1]
        for n in (0, power)
    ]
    np.testing.assert_allclose(np.ldexp(spreads[1], -power), spreads[0], rtol=1e-3)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_a_smaller_copy(kind):
    X, y = draw_table(kind)
    model = make(kind, n_networks=3, n_members=4).fit(X, y)
    expected = predictions(model, X)
    small = model.reduced(2, 3)
    assert [len(one.member_coefs_) for one in small.networks_] == [3, 3]
    scores = [one.best_validation_score_ for one in model.networks_]
    kept = [one.best_validation_score_ for one in small.networks_]
    assert kept == sorted(scores, reverse=True)[:2]
    assert predictions(small, X).shape == expected.shape
    np.testing.assert_array_equal(predictions(model, X), expected)
    for wrong, words in [((4, 1), "n_networks"), ((1, 5), "n_members"), ((0, 1), "n_networks")]:
        check_refusal(model, lambda w=wrong: model.reduced(*w), ValueError, f"{words} must be")
    with pytest.raises(NotFittedError):
        make(kind).reduced()
    blind = make(kind, max_time=1e-9).fit(X, y)  # without a whole epoch
    assert len(blind.reduced().networks_) == 1


# --- weights --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_weights_of_rows(kind):
    X, y = draw_table(kind)
    model = make(kind, max_iter=60).fit(X, y)
    equal = make(kind, max_iter=60).fit(X, y, sample_weight=np.full(len(y), 3.0))
    np.testing.assert_allclose(predictions(equal, X), predictions(model, X), rtol=0.1, atol=0.05)
    weights = np.ones(len(y))
    weights[::2] = 0  # of rows that say nonsense
    nonsense = y.copy()
    nonsense[::2] = np.random.default_rng(1).permutation(y)[::2]
    left = make(kind, max_iter=60).fit(X, nonsense, sample_weight=weights)
    assert left.score(X, y, weights) >= left.score(X, nonsense)
    for wrong, words in [
        (np.zeros(len(y)), "at least one non-zero"),
        (-weights, "[Nn]egative|>= 0"),
        (weights[:-1], "sample_weight"),
        (np.full(len(y), np.nan), "NaN"),
    ]:
        call = lambda wrong=wrong: model.fit(X, y, sample_weight=wrong)  # noqa: E731
        check_refusal(model, call, ValueError, words)


def test_targets_of_rows_without_weight_are_not_looked_at():
    draw = np.random.default_rng(0)
    city = np.arange(1200) % 40
    y = draw.normal(size=40)[city] + draw.normal(0, 0.1, 1200)
    X = np.array([[f"city {c}" for c in city], draw.normal(size=1200)], object).T
    weights = (draw.random(1200) < 0.5).astype(float)
    how = {"max_iter": 20, "n_networks": 2}
    models = [
        make(TabularRegressor, **how).fit(X, np.where(weights, y, nonsense), weights)
        for nonsense in (0.0, 1e6)
    ]
    found, same = (model.predict(X) for model in models)
    assert np.corrcoef(found, y)[0, 1] > 0.9
    np.testing.assert_allclose(found, same, atol=0.1)
    assert same.max() <= y[weights > 0].max()


def test_rows_of_little_weight_teach_little_of_many_levels():
    draw = np.random.default_rng(0)
    city = np.arange(1200) % 40
    y = 5 * draw.normal(size=40)[city] + draw.normal(0, 0.1, 1200)
    X = np.array([[f"city {c}" for c in city], draw.normal(size=1200)], object).T
    bad = draw.random(1200) < 0.5
    nonsense = np.where(bad, y + 100 * draw.normal(size=1200), y)
    model = make(TabularRegressor, max_iter=40, n_networks=2, hidden_layer_sizes=32)
    model.fit(X, nonsense, np.where(bad, 1e-6, 1.0))
    assert model.score(X[~bad], y[~bad]) > 0.9


def test_weights_of_classes():
    X, y = draw_table(TabularClassifier, n_classes=2)
    y[:] = np.arange(len(y)) % 8 == 0
    plain = make(TabularClassifier, max_iter=20).fit(X, y).predict_proba(X)[:, 1].mean()
    for weights in ("balanced", {0: 1.0, 1: 7.0}):
        model = make(TabularClassifier, max_iter=20, class_weight=weights).fit(X, y)
        assert model.predict_proba(X)[:, 1].mean() > plain + 0.1
    model = make(TabularClassifier, class_weight={"other": 1})
    check_refusal(model, lambda: model.fit(X, y), ValueError, "class_weight|classes")


# --- validation data of the user's ----------------------------------------------------------------


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("library", ["objects", "pandas", "polars"])
def test_validation_data_are_as_raw_as_the_table(kind, library):
    X, y = draw_table(kind)
    X_val = as_frame(X[:20], library)
    model = make(kind).fit(as_frame(X, library), y, X_val=X_val, y_val=y[:20])
    curves = [network.validation_loss_curve_ for network in model.networks_]
    assert all(len(curve) == network.n_iter_ for curve, network in zip(curves, model.networks_))
    weighted = make(kind).fit(
        as_frame(X, library), y, X_val=X_val, y_val=y[:20], sample_weight_val=np.arange(20)
    )
    assert weighted.networks_[0].validation_loss_curve_ != curves[0]


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_validation_data_that_do_not_fit_are_named(kind):
    X, y = draw_table(kind)
    model = make(kind)
    for validation, words in [
        (dict(X_val=X[:5]), "y_val missing"),
        (dict(y_val=y[:5]), "X_val missing"),
        (dict(X_val=X[:5, :2], y_val=y[:5]), "X_val cannot be used.*2 features"),
        (dict(X_val=X[:5], y_val=y[:4]), "y_val|X_val"),
        (dict(X_val=X[:5], y_val=[None] * 5), "y_val"),
    ]:
        call = lambda v=validation: model.fit(X, y, **v)  # noqa: E731
        check_refusal(model, call, (ValueError, TypeError), words)
    if kind is TabularClassifier:
        call = lambda: model.fit(X, y, X_val=X[:5], y_val=y[:5] + 9)  # noqa: E731
        check_refusal(model, call, ValueError, "y_val cannot be used.*classes")


def test_rows_whose_class_weighs_nothing_are_not_held_out():
    X, y = np.arange(60.0)[:, np.newaxis], np.arange(60) > 56  # fewer rows than networks
    model = make(TabularClassifier, n_networks=5, class_weight={False: 0.0, True: 1.0}).fit(X, y)
    assert np.isfinite(model.networks_[0].best_validation_score_)


@pytest.mark.parametrize("kind", [TabularClassifier, TabularRegressor])
def test_no_advice_names_parameters_that_there_are_not(kind):
    X, y = draw_table(kind)
    with pytest.raises(ValueError, match=r"Scale the weights\.$"):
        make(kind).fit(X, y, sample_weight=np.full(len(y), 1e300))
    if kind is TabularRegressor:
        with pytest.raises(ValueError, match=r"Leave out such rows\.$"):
            make(kind).fit(X, np.where(np.arange(len(y)) == 0, 1e300, y), np.arange(len(y)) > 0)


def test_scores_that_need_all_classes_say_which_are_not_held_out():
    X, y = np.arange(60.0)[:, np.newaxis], np.repeat(["a", "b", "rare"], [30, 28, 2])
    with pytest.raises(ValueError, match="classes") as raised:
        make(TabularClassifier, n_networks=3, scoring="neg_log_loss").fit(X, y)
    assert "These have no row of 'rare'" in raised.value.__notes__[0]
