"""Saved tabular models and encoders: what comes back, what cannot be saved, damage and forgery."""

import contextlib
import copy
import datetime
import json
import random

import numpy as np
import pytest
from sklearn import config_context
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from tables import as_frame, draw_table, make
from test_persistence import damage, forge

import fastbp
from fastbp import TableEncoder, TabularClassifier, TabularRegressor
from fastbp.losses import Quantile

ESTIMATORS = [TabularClassifier, TabularRegressor]


def through_file(model, folder):
    """Save and load."""
    fastbp.save(model, folder / "model.safetensors")
    return fastbp.load(folder / "model.safetensors")


def predictions(model, X):
    """Return probabilities, or values."""
    return (model.predict_proba if hasattr(model, "classes_") else model.predict)(X)


def assert_same_names(left, right):
    assert type(left) is type(right)
    assert sorted(vars(left)) == sorted(vars(right))


# --- what comes back ------------------------------------------------------------------------------

MODELS = {
    "text labels": (TabularClassifier, {}, lambda y: np.array(["a", "b", "c"])[y]),
    "binary": (TabularClassifier, {"class_weight": "balanced"}, lambda y: y > 0),
    "regressor": (TabularRegressor, {"hidden_layer_sizes": (6, 3), "activation": "silu"}, None),
    "several targets": (TabularRegressor, {}, lambda y: np.column_stack([y, -y])),
    "quantiles": (TabularRegressor, {"loss": Quantile([0.1, 0.9])}, None),
    "poisson": (TabularRegressor, {"loss": "poisson"}, np.exp),
    "categories": (TabularRegressor, {"categorical_features": ["colour", "count", "flag"]}, None),
}


@pytest.mark.parametrize("name", MODELS)
def test_everything_comes_back(name, tmp_path):
    kind, settings, change = MODELS[name]
    X, y = draw_table(kind)
    y, frame = y if change is None else change(y), as_frame(X)
    model = make(kind, **settings).fit(frame, y)
    model.note = "of mine"
    other = through_file(model, tmp_path)
    strange = frame.assign(colour="violet", size=np.nan)
    for table in (frame, strange, frame[:1]):
        np.testing.assert_array_equal(predictions(other, table), predictions(model, table))
        for left, right in zip(model._mean_and_std(table), other._mean_and_std(table), strict=True):
            np.testing.assert_array_equal(left, right)
    assert other.score(frame, y) == model.score(frame, y)
    assert_same_names(model, other)
    assert repr(other) == repr(model)
    assert other.encoder_.summary() == model.encoder_.summary()
    assert repr(other.encoder_.columns_) == repr(model.encoder_.columns_)
    names = model.encoder_.get_feature_names_out()
    np.testing.assert_array_equal(other.encoder_.get_feature_names_out(), names)
    for left, right in zip(model.networks_, other.networks_, strict=True):
        assert_same_names(left, right)
        assert left.loss_curve_ == right.loss_curve_
    small = through_file(model.reduced(), tmp_path)
    np.testing.assert_array_equal(predictions(small, frame), predictions(model.reduced(), frame))
    again = through_file(other, tmp_path).fit(frame, y)
    np.testing.assert_array_equal(predictions(again, frame), predictions(model, frame))


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_unfitted_ones_and_requests(kind, tmp_path):
    model = make(kind, scoring="loss", random_state=np.random.RandomState(3))
    with config_context(enable_metadata_routing=True):
        model.set_fit_request(X_val=True, sample_weight="w")
        other = through_file(model, tmp_path)
        assert other.get_metadata_routing().fit.requests == {
            **model.get_metadata_routing().fit.requests
        }
    X, y = draw_table(kind)
    np.testing.assert_array_equal(predictions(other.fit(X, y), X), predictions(model.fit(X, y), X))


@pytest.mark.parametrize("encoding", ["piecewise", "hat", "none"])
def test_an_encoder_alone(encoding, tmp_path):
    rng = np.random.default_rng(0)
    pd = pytest.importorskip("pandas")
    n = 400
    frame = pd.DataFrame(
        {
            "number": rng.standard_normal(n),
            "pair": rng.integers(0, 2, n) * 3.5,
            "huge": rng.standard_normal(n) * 1e300,
            "day": pd.Timestamp("2026-01-01") + pd.to_timedelta(rng.integers(0, 900, n), "D"),
            "took": pd.to_timedelta(rng.integers(0, 900, n), "s"),
            "city": rng.choice([f"c{i}" for i in range(40)], n),
            "mixed": rng.choice(np.array(["a", True, 2.5, None], object), n),
            "constant": 1,
            "name": [f"row {i}" for i in range(n)],
            "amount": np.where(rng.random(n) < 0.7, 0, rng.integers(0, 11, n)),
        }
    )
    y = frame["number"] > 0
    encoder = TableEncoder(encoding=encoding).fit(frame, y)
    assert ("amount=7" in encoder.get_feature_names_out()) == (encoding == "piecewise")
    other = through_file(encoder, tmp_path)
    for table in (frame, frame[:1], frame.assign(city="nowhere")):
        np.testing.assert_array_equal(other.transform(table), encoder.transform(table))
    assert other.summary() == encoder.summary()
    assert other.get_feature_names_out().tolist() == encoder.get_feature_names_out().tolist()
    assert_same_names(encoder, other)
    assert through_file(TableEncoder(n_bins=7), tmp_path).n_bins == 7
    framed = through_file(encoder.set_output(transform="pandas"), tmp_path).transform(frame)
    assert list(framed.columns) == encoder.get_feature_names_out().tolist()


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_pipelines(kind, tmp_path):
    pytest.importorskip("skops")
    X, y = draw_table(kind)
    model = make_pipeline(FunctionTransformer(), make(kind)).fit(X, y)
    other = through_file(model, tmp_path)
    np.testing.assert_array_equal(other.predict(X), model.predict(X))
    labels = y > np.median(y)
    model = make_pipeline(TableEncoder(), LogisticRegression()).fit(X, labels)
    other = through_file(model, tmp_path)
    np.testing.assert_array_equal(other.predict_proba(X), model.predict_proba(X))


# --- what cannot be saved -------------------------------------------------------------------------


def test_levels_that_only_code_could_bring_back_are_named(tmp_path):
    X, y = draw_table(TabularRegressor)
    X[:, 1] = np.where(X[:, 1] == "red", datetime.date(2026, 1, 1), X[:, 1])
    model = make(TabularRegressor).fit(X, y)
    for thing in (model, model.encoder_):
        with pytest.raises(ValueError, match=r"'x1' has levels of type date.*into text"):
            fastbp.save(thing, tmp_path / "model")
    with pytest.raises(ValueError, match="scoring"):
        fastbp.save(make(TabularRegressor, scoring=lambda *_: 0), tmp_path / "model")
    with pytest.raises(TypeError, match="got MembersRegressor"):
        fastbp.save(model.networks_[0], tmp_path / "model")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_broken_models_are_not_saved(kind, tmp_path):
    X, y = draw_table(kind)
    model = make(kind).fit(X, y)
    for name, value in [
        ("coefs_", []), ("member_scales_", None), ("member_coefs_", np.full((2, 8, 1), np.nan)),
        ("_n_members", 9), ("loss_curve_", "curve"),
    ]:  # fmt: skip
        broken = copy.deepcopy(model)
        setattr(broken.networks_[1], name, value)
        with pytest.raises(ValueError, match=f"{name}|member_coefs_|networks_"):
            fastbp.save(broken, tmp_path / "model")
    assert not list(tmp_path.iterdir())


# --- damage and forgery ---------------------------------------------------------------------------


@pytest.fixture(scope="module", params=ESTIMATORS, ids=lambda kind: kind.__name__)
def saved(request, tmp_path_factory):
    """A saved model, its file, and data to predict."""
    X, y = draw_table(request.param)
    model = make(request.param).fit(as_frame(X), y)
    path = tmp_path_factory.mktemp("saved") / "model"
    fastbp.save(model, path)
    return model, path.read_bytes(), as_frame(X)


@pytest.mark.parametrize("kind", ["truncate", "flip", "swap", "block", "length", "append"])
def test_damage_is_found(saved, kind, tmp_path):
    rng, path = random.Random(kind), tmp_path / "model"
    for _ in range(20):
        path.write_bytes(damage(saved[1], kind, rng))
        with pytest.raises(ValueError, match="cannot be loaded"):
            fastbp.load(path)


def list_places(node, place=()):
    """Yield every place within JSON."""
    yield place
    if isinstance(node, dict | list):
        for key in node if isinstance(node, dict) else range(len(node)):
            yield from list_places(node[key], (*place, key))


OTHERS = [None, True, -1, 2, 1e300, "", "TableEncoder", [], {}, {"tuple": []}, {"float": "nan"}]


def test_forged_files_predict_or_are_refused(saved, tmp_path):
    """Whatever stands in a file, there is an error of a value or a prediction."""
    _, content, frame = saved
    path, rng = tmp_path / "model", random.Random(0)
    path.write_bytes(content)
    places = []
    forge(path, lambda found: places.extend(list_places(found)))
    n_refused = 0
    for _ in range(300):
        path.write_bytes(content)
        place = rng.choice(places[1:])

        def change(found, place=place):
            for key in place[:-1]:
                found = found[key]
            if rng.random() < 0.3:
                del found[place[-1]]
            else:
                found[place[-1]] = copy.deepcopy(rng.choice(OTHERS))

        forge(path, change)
        with contextlib.suppress(ValueError):  # no other error
            predictions(fastbp.load(path), frame)
            continue
        n_refused += 1
    assert n_refused > 100


def test_only_what_is_public_stands_alone(saved, tmp_path):
    """A network of members is no model of its own, and a part of one no other estimator."""
    path = tmp_path / "model"
    for change in (
        lambda found: found.update(found["parts"]["networks_"][0]),
        lambda found: found["parts"].pop("encoder_"),
        lambda found: found["parts"].update(encoder_=found["parts"]["networks_"][0]),
        lambda found: found["parts"]["networks_"].clear(),
        lambda found: found["parts"].update(networks_=json.loads(json.dumps([dict(found)]))),
        lambda found: found["attributes"].update(networks_=[]),
        lambda found: found.update(learned={"dict": []}),
    ):
        path.write_bytes(saved[1])
        forge(path, change)
        with pytest.raises(ValueError, match="cannot be loaded"):
            fastbp.load(path)
