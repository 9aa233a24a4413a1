"""The tabular estimators: same bits, copies, and parameters."""

import copy
import pickle

import joblib
import numpy as np
import pytest
from engines import ENGINES
from refusals import check_refusal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from tables import FAST, draw_table, make

from fastbp import TabularClassifier, TabularRegressor

ESTIMATORS = [TabularClassifier, TabularRegressor]


def predictions(model, X):
    """Return probabilities, or values."""
    return (model.predict_proba if hasattr(model, "classes_") else model.predict)(X)


# --- the same bits --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_threads_and_repetition_change_no_bit(kind, engine_name):
    X, y = draw_table(kind)
    model = make(kind, n_networks=3, engine=engine_name, n_threads=1).fit(X, y)
    expected = predictions(model, X)
    for n_threads in (1, 2, None):
        other = make(kind, n_networks=3, engine=engine_name, n_threads=n_threads).fit(X, y)
        np.testing.assert_array_equal(predictions(other, X), expected)
    assert not np.array_equal(predictions(make(kind, random_state=1).fit(X, y), X), expected)
    np.testing.assert_array_equal(  # of one row, and of rows in other company
        np.concatenate([predictions(model, X[i : i + 1]) for i in range(5)]), expected[:5]
    )


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.skipif(len(ENGINES) < 2, reason="one engine only")
def test_engines_agree(kind):
    X, y = draw_table(kind)
    one, other = (make(kind, engine=name, dropout=0.0).fit(X, y) for name in ENGINES)
    np.testing.assert_allclose(predictions(one, X), predictions(other, X), rtol=1e-3, atol=1e-3)


COPIES = {
    "pickle": lambda model, folder: pickle.loads(pickle.dumps(model)),
    "copy": lambda model, folder: copy.copy(model),
    "deepcopy": lambda model, folder: copy.deepcopy(model),
    "joblib": lambda model, folder: joblib.load(joblib.dump(model, folder / "m")[0]),
    "memory map": lambda model, folder: joblib.load(joblib.dump(model, folder / "m")[0], "r"),
}


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("kind", ESTIMATORS)
def test_copies_predict_the_same(kind, way, tmp_path):
    X, y = draw_table(kind)
    model = make(kind).fit(X, y)
    other = COPIES[way](model, tmp_path)
    np.testing.assert_array_equal(predictions(other, X), predictions(model, X))
    assert other.get_params() == model.get_params()
    with pytest.raises(NotFittedError):
        clone(other).predict(X)
    np.testing.assert_array_equal(predictions(other.fit(X, y), X), predictions(model, X))


# --- parameters -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_wrong_words_are_answered_with_the_right_one(kind):
    X, y = draw_table(kind)
    for word, right in [
        ("epochs", "max_iter"), ("n_estimators", "max_iter"), ("lr", "learning_rate_init"),
        ("cat_features", "categorical_features"), ("seed", "random_state"),
        ("n_jobs", "n_threads"), ("hidden_layers", "hidden_layer_sizes"),
    ]:  # fmt: skip
        with pytest.raises(TypeError, match=rf"{kind.__name__}.*Did you mean {right}"):
            kind(**{word: 3})
        with pytest.raises(ValueError, match=rf"Did you mean {right}"):
            kind().set_params(**{word: 3})
    with pytest.raises(TypeError, match="Did you mean X_val=, y_val="):
        make(kind).fit(X, y, eval_set=[(X, y)])
    with pytest.raises(TypeError, match=rf"{kind.__name__}\(max_iter=\.\.\.\)"):
        make(kind).fit(X, y, epochs=3)


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_networks", 0), ("n_networks", 2.0), ("n_members", 0), ("n_members", True),
        ("hidden_layer_sizes", ()), ("hidden_layer_sizes", (4, 0)), ("activation", "swish"),
        ("loss", "mse"), ("n_bins", 0), ("n_bins", "many"), ("dropout", 1.0), ("dropout", [0, 0]),
        ("weight_decay", -1), ("learning_rate_init", 0), ("batch_size", 0), ("max_iter", 0),
        ("n_iter_no_change", 0), ("max_time", -1), ("scoring", "nope"), ("random_state", "seed"),
        ("n_threads", 0), ("engine", "gpu"), ("verbose", "loud"), ("categorical_features", "num"),
    ],
)  # fmt: skip
def test_bad_parameters_are_refused_by_name(kind, name, value):
    X, y = draw_table(kind)
    model = make(kind, **{name: value})
    check_refusal(model, lambda: model.fit(X, y), (ValueError, TypeError), name)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_parameters_come_back_and_are_not_written_to(kind):
    settings = dict(hidden_layer_sizes=[8, 4], categorical_features=[1], n_bins=5, dropout=[0.1, 0])
    model = kind(**settings, n_networks=2, n_members=2, max_iter=2)
    before = copy.deepcopy(model.get_params())
    X, y = draw_table(kind)
    model.fit(X[:, :3], y)
    assert model.get_params() == before
    assert clone(model).get_params() == before
    assert model.set_params(loss=model.loss, n_bins=7).n_bins == 7
    assert FAST.items() <= make(kind).get_params().items()
