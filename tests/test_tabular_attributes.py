"""Edited attributes of tabular estimators, and the refusals of all who look at one network."""

import copy

import numpy as np
import pytest
from refusals import check_refusal
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from tables import draw_table, make

import fastbp
from fastbp import BackpropClassifier, TabularClassifier, TabularRegressor, inspection

ESTIMATORS = [TabularClassifier, TabularRegressor]


@pytest.fixture(scope="module", params=ESTIMATORS, ids=lambda kind: kind.__name__)
def fitted(request):
    """A fitted estimator and its data; tests take copies."""
    X, y = draw_table(request.param)
    return make(request.param, hidden_layer_sizes=(8, 4)).fit(X, y), X, y


def predictions(model, X):
    """Return probabilities, or values."""
    return (model.predict_proba if hasattr(model, "classes_") else model.predict)(X)


# --- right edits ----------------------------------------------------------------------------------


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


EDITS = {
    "Fortran": np.asfortranarray,
    "float64": lambda array: array.astype(np.float64),
    "float16 and back": lambda array: array.astype(np.longdouble),
    "read-only": read_only,
    "strided": lambda array: np.repeat(array, 2, axis=-1)[..., ::2],
    "list": lambda array: array.tolist(),
}
NAMES = ["coefs_", "intercepts_", "member_scales_", "member_coefs_", "member_intercepts_"]


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("name", NAMES)
def test_right_edits_work(fitted, name, edit):
    model, X = copy.deepcopy(fitted[0]), fitted[1]
    network = model.networks_[0]
    value, change = getattr(network, name), EDITS[edit]
    edited = tuple(map(change, value)) if isinstance(value, list) else change(value)
    setattr(network, name, edited)
    np.testing.assert_array_equal(predictions(model, X), predictions(fitted[0], X))


def test_edited_numbers_count(fitted):
    model, X = copy.deepcopy(fitted[0]), fitted[1]
    model.networks_[1].member_coefs_[:] = 0
    assert not np.array_equal(predictions(model, X), predictions(fitted[0], X))
    model.networks_ = model.networks_[:1]
    assert np.isfinite(predictions(model, X)).all()


def test_a_network_may_lose_members(fitted):
    model, X = copy.deepcopy(fitted[0]), fitted[1]
    for name in NAMES[2:]:
        setattr(model.networks_[0], name, getattr(model.networks_[0], name)[:1])
    assert np.isfinite(predictions(model, X)).all()


# --- wrong edits ----------------------------------------------------------------------------------

WRONG = {
    "coefs_": {
        "wrong shape": lambda value: [value[0][:, :-1], *value[1:]],
        "other width": lambda value: [value[0][:-1], *value[1:]],
        "appended": lambda value: [*value, value[0]],
        "empty": lambda value: [],
        "ints": lambda value: [array.astype(int) for array in value],
        "text": lambda value: "weights",
        "None": lambda value: None,
        "NaN": lambda value: [value[0] * np.nan, *value[1:]],
    },
    "intercepts_": {
        "shorter": lambda value: value[:-1],
        "wrong shape": lambda value: [value[0][:-1], *value[1:]],
        "NaN": lambda value: [value[0] * np.nan, *value[1:]],
    },
    "member_scales_": {
        "flat": lambda value: value.ravel(),
        "fewer": lambda value: value[:1],
        "narrow": lambda value: value[:, :-1],
        "objects": lambda value: value.astype(object),
        "infinite": lambda value: value * np.inf,
    },
    "member_coefs_": {
        "two-dimensional": lambda value: value[0],
        "fewer": lambda value: value[:1],
        "none": lambda value: value[:0],
        "narrow": lambda value: value[:, :-1],
        "no outputs": lambda value: value[..., :0],
        "NaN": lambda value: value * np.nan,
        "None": lambda value: None,
    },
    "member_intercepts_": {
        "flat": lambda value: value.ravel(),
        "NaN": lambda value: value * np.nan,
        "complex": lambda value: value * 1j,
    },
    "n_outputs_": {"more": lambda value: value + 1, "text": lambda value: "3"},
    "n_features_in_": {"more": lambda value: value + 1, "None": lambda value: None},
    "out_activation_": {
        "other": lambda value: "cube",
        "list": lambda value: [],
        "array": lambda value: np.array([value]),
    },
}
CASES = [(name, edit) for name, edits in WRONG.items() for edit in (*edits, "deleted")]


@pytest.mark.parametrize(("name", "edit"), CASES)
def test_wrong_edits_are_named(fitted, name, edit):
    model, X = copy.deepcopy(fitted[0]), fitted[1]
    network = model.networks_[1]
    if edit == "deleted":
        delattr(network, name)
    else:
        setattr(network, name, WRONG[name][edit](getattr(network, name)))
    names = name if not name.startswith(("coefs", "interc", "memb")) else "coefs_|intercepts_|membe"
    words = rf"networks_\[1\]|{names}"
    for n_rows in (1, len(X)):
        with pytest.raises(ValueError, match=words):
            predictions(model, X[:n_rows])


def test_wrong_edits_of_the_whole_are_named(fitted):
    original, X, _ = fitted
    other = make(type(original), hidden_layer_sizes=3).fit(X[:, :2], np.arange(len(X)) % 5)
    for name, value in [
        ("networks_", []), ("networks_", None), ("networks_", "networks"), ("networks_", [None]),
        ("networks_", other.networks_), ("networks_", [BackpropClassifier()]),
        ("networks_", [*original.networks_, other.networks_[0]]),
        ("encoder_", None), ("encoder_", other.encoder_), ("encoder_", fastbp.TableEncoder()),
    ]:  # fmt: skip
        model = copy.deepcopy(original)
        setattr(model, name, value)
        with pytest.raises(ValueError, match=r"networks_|encoder_|features"):
            predictions(model, X)
    if hasattr(original, "classes_"):
        model = copy.deepcopy(original)
        predictions(model, X)  # copies of the labels are the labels
        model.classes_ = model.classes_[::-1]
        with pytest.raises(ValueError, match="attribute classes_ must be"):
            predictions(model, X)
    for name in ("encoder_", "networks_"):
        model = copy.deepcopy(original)
        delattr(model, name)
        with pytest.raises(ValueError, match=f"{name}|not fitted"):
            predictions(model, X)


# --- refusals by name -----------------------------------------------------------------------------

LOOKS = {
    "diagnose": lambda model, X, y, path: inspection.diagnose(model, X, y),
    "layer_gradients": lambda model, X, y, path: inspection.input_gradients(model, X),
    "GradientFlowDisplay": lambda model, X, y, path: fastbp.GradientFlowDisplay.from_estimator(
        model, X, y
    ),
    "WeightsDisplay": lambda model, X, y, path: fastbp.WeightsDisplay.from_estimator(model),
    "LossCurveDisplay": lambda model, X, y, path: fastbp.LossCurveDisplay.from_estimator(model),
    "find_learning_rate": lambda model, X, y, path: fastbp.find_learning_rate(model, X, y),
}


@pytest.mark.parametrize("look", LOOKS)
def test_looks_at_one_network_are_refused(fitted, look, tmp_path):
    model, X, y = fitted
    if look.endswith("Display"):
        pytest.importorskip("matplotlib")
    Z = model.encoder_.transform(X)
    pipeline = make_pipeline(FunctionTransformer(), model).fit(X, y)
    for thing, data in [(model, X), (pipeline, X), (model.networks_[0], Z)]:
        call = lambda t=thing, d=data: LOOKS[look](t, d, y, tmp_path)  # noqa: E731
        check_refusal(model, call, TypeError, ["one network", type(model).__name__[-9:], "tabular"])


def test_a_search_of_one_is_refused(fitted):
    model, X, y = fitted
    search = GridSearchCV(make(type(model)), {"n_members": [1]}, cv=2).fit(X, y)
    with pytest.raises(TypeError, match=r"one network.*Tabular"):
        inspection.diagnose(search, X, y)


@pytest.mark.parametrize(
    "method",
    [
        "partial_fit", "transform", "fit_transform", "get_feature_names_out", "summary", "to_c",
        "to_onnx", "to_sklearn",
    ],
)  # fmt: skip
def test_networks_of_members_refuse_what_one_network_has(fitted, method):
    model, X, y = fitted
    network = model.networks_[0]
    for arguments in ((), (X,), (X, y)):
        with pytest.raises(TypeError, match=rf"{method} looks at one network.*Members.*tabular"):
            getattr(network, method)(*arguments)
    assert "Members" in repr(network)
    assert "<svg" not in network._repr_html_()


def test_hand_overs_are_refused(fitted, tmp_path):
    for name in ("to_c", "to_onnx", "to_sklearn"):
        with pytest.raises(TypeError, match=f"{name} looks at one network.*Got Tabular"):
            getattr(fitted[0], name)(tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_onnx_is_refused(fitted):
    convert = pytest.importorskip("skl2onnx")
    from fastbp import onnx

    onnx.register()
    model, X, _ = fitted
    Z = model.encoder_.transform(X)
    with pytest.raises(Exception, match=r"(Unable to find|looks at one network).*Members"):
        convert.to_onnx(model.networks_[0], Z[:1])


def test_what_only_training_needs_is_not_kept(fitted):
    for network in fitted[0].networks_:
        assert not {"_optimizer", "_place", "_seen", "_parts"} & set(vars(network))
