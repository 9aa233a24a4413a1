"""ONNX graphs of both estimators, run by onnxruntime and compared with predict."""

import sys

import numpy as np
import pytest
import userland
from problems import draw_classes, draw_regression
from sklearn.compose import make_column_transformer
from sklearn.ensemble import StackingRegressor, VotingRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import StandardScaler
from test_export import (
    CASES,
    CLASSIFICATION,
    DTYPES,
    LABELS,
    UNHELD,
    UNITS,
    fit,
    fit_scaled,
    values_of,
)

import fastbp.onnx
from fastbp import BackpropClassifier, BackpropRegressor
from fastbp.activations import ACTIVATIONS
from fastbp.export import onnx

skl2onnx = pytest.importorskip("skl2onnx")
onnxruntime = pytest.importorskip("onnxruntime")

TOLERANCE = {"float32": 2e-6, "float64": 1e-12}


@pytest.fixture(autouse=True)
def registered():
    fastbp.onnx.register()
    fastbp.onnx.register()  # a second time does no harm


def run(model, X, **settings):
    """Convert a model and return the outputs of its graph for X, by name."""
    graph = skl2onnx.to_onnx(model, X[:1], **settings)
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"X": X}), strict=True))


def check(model, X, atol):
    """Compare labels, probabilities and values."""
    wanted = values_of(model, X)
    if not hasattr(model, "predict_proba"):
        got = run(model, X)["variable"]
        assert got.shape == wanted.shape
        assert got.dtype == X.dtype
        # A number beyond 1 is rounded in proportion to its size.
        np.testing.assert_allclose(got, wanted, rtol=atol / 2, atol=atol)
        return
    got = run(model, X, options={"zipmap": False})
    np.testing.assert_allclose(got["probabilities"], wanted, rtol=0, atol=atol)
    assert got["probabilities"].dtype == X.dtype
    labels = model.predict(X)
    labels = labels.toarray() if hasattr(labels, "toarray") else labels
    assert got["label"].shape == labels.shape
    np.testing.assert_array_equal(got["label"].astype(labels.dtype), labels)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
def test_it_predicts_the_same(case, dtype):
    model, X = fit(case, dtype=dtype)
    check(model, X.astype(dtype), TOLERANCE[dtype])


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation(name):
    for dtype in DTYPES:
        model, X = fit("one target", activation=name, dtype=dtype)
        if name not in onnx.ACTIVATIONS:
            with pytest.raises(ValueError, match=f"ONNX cannot hold the activation '{name}'"):
                skl2onnx.to_onnx(model, X[:1].astype(dtype))
            continue
        check(model, 3 * X.astype(dtype), TOLERANCE["float32" if name == "gelu" else dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("mean", "scale"), [*UNITS, (0.0, 1e303), (0.0, 1e-320)])
def test_scaled_targets_come_back_in_float64(mean, scale, dtype):
    model, X = fit_scaled(mean, scale, dtype=dtype)
    for given in DTYPES:
        wanted = model.predict(X.astype(given))
        got = run(model, X.astype(given))["variable"][:, 0]
        assert got.dtype == wanted.dtype
        within = 1e-12 if (given, dtype) == ("float64", "float64") else 2e-6
        spacing = np.spacing(wanted.dtype.type(abs(mean) + scale))
        np.testing.assert_allclose(
            got.astype(float), wanted.astype(float), rtol=0, atol=within * scale + 4.0 * spacing
        )


def test_scaled_targets_within_another_model():
    """It takes results of the dtype of X, so that a coarse one would spoil them unseen."""
    X, y = fit_scaled(0.0, 1.0)[1], draw_regression(80, 6)[1]
    settings = dict(scale_targets=True, tol=10.0, max_iter=30, random_state=0)
    network = BackpropRegressor("squared_error", (4,), **settings)
    for kind in (StackingRegressor, VotingRegressor):
        model = kind([("net", network)]).fit(X, y)
        got = run(model, X.astype(np.float32))["variable"]
        np.testing.assert_allclose(got[:, 0], model.predict(X), rtol=1e-5, atol=1e-5)
        model.fit(X, 1e6 + 0.01 * y)
        with pytest.raises(ValueError, match=r"within another model in float32.*astype\('float64'"):
            run(model, X.astype(np.float32))
        got = run(model, X)["variable"]
        np.testing.assert_allclose(got[:, 0], model.predict(X), rtol=0, atol=1e-7)


@pytest.mark.parametrize("sizes", [(), (4, 3, 2)])
def test_every_depth(sizes):
    names = ["tanh", "identity", "relu"][: len(sizes)]
    model, X = fit("multiclass", hidden_layer_sizes=sizes, activation=names, dtype="float64")
    check(model, X, 1e-12)


def test_the_graph_computes_in_the_dtype_of_its_input():
    model, X = fit("multiclass", dtype="float64")
    check(model, X.astype(np.float32), TOLERANCE["float32"])
    got = run(model, X.astype(np.int64), options={"zipmap": False})
    wanted = model.predict_proba(X.astype(np.int64))
    np.testing.assert_allclose(got["probabilities"], wanted, rtol=0, atol=2e-6)
    assert got["probabilities"].dtype == np.float32


@pytest.mark.parametrize("case", ["binary", "multiclass strings"])
def test_options_of_scikit_learns_classifiers(case):
    model, X = fit(case)
    X = X.astype(np.float32)
    wanted, labels = model.predict_proba(X), model.classes_.tolist()
    maps = run(model, X)["output_probability"]
    assert list(maps[0]) == labels
    np.testing.assert_allclose([list(row.values()) for row in maps], wanted, rtol=0, atol=2e-6)
    columns = run(model, X, options={"zipmap": "columns"})
    prefix = "s" if isinstance(labels[0], str) else "i"
    for label, column in zip(labels, wanted.T, strict=True):
        np.testing.assert_allclose(columns[f"{prefix}{label}"], column, rtol=0, atol=2e-6)
    named = run(model, X, options={"zipmap": False, "output_class_labels": True})
    assert named["class_labels"].tolist() == labels
    coded = run(model, X, options={"zipmap": False, "nocl": True})
    np.testing.assert_array_equal(model.classes_[coded["label"]], model.predict(X))


def test_inside_a_pipeline():
    X, y = draw_classes(150, 6, 3)
    X = (100 + 30 * X).astype(np.float32)
    network = BackpropClassifier((8,), max_iter=400, tol=1e-2, random_state=0)
    model = make_pipeline(StandardScaler(), network).fit(X, y)
    got = run(model, X, options={"zipmap": False})
    np.testing.assert_array_equal(got["label"], model.predict(X))
    np.testing.assert_allclose(got["probabilities"], model.predict_proba(X), rtol=0, atol=1e-4)


@pytest.mark.parametrize("case", ["binary", "multiclass", "multiclass strings", "one target"])
def test_skl2onnx_own_converter_takes_what_to_sklearn_gives(case):
    model, X = fit(case)
    X = X.astype(np.float32)
    settings = {"options": {"zipmap": False}} if case in CLASSIFICATION else {}
    *labels, values = run(model.to_sklearn(), X, **settings).values()
    np.testing.assert_allclose(values, values_of(model, X), rtol=0, atol=2e-6)
    if labels:
        np.testing.assert_array_equal(labels[0], model.predict(X))


@pytest.mark.parametrize(
    "settings",
    [{"zipmap": False}, {}, {"zipmap": "columns"}, {"zipmap": False, "output_class_labels": True}],
)
@pytest.mark.parametrize("name", UNHELD)
def test_labels_that_onnx_cannot_hold(name, settings):
    X, y = draw_classes(80, 6, 3)
    X = X.astype(np.float32)
    model = BackpropClassifier((4,), random_state=0, tol=10.0).fit(X, UNHELD[name][y])
    with pytest.raises(ValueError, match=r"ONNX cannot hold (the )?class labels"):
        skl2onnx.to_onnx(model, X[:1], options=settings)
    coded = run(model, X, options={"zipmap": False, "nocl": True})
    np.testing.assert_array_equal(model.classes_[coded["label"]], model.predict(X))


@pytest.mark.parametrize("name", LABELS)
def test_labels_of_every_dtype(name):
    X, y = draw_classes(80, 6, 3)
    X, labels = X.astype(np.float32), LABELS[name][0]
    model = BackpropClassifier((4,), random_state=0, tol=10.0).fit(X, labels[y])
    got = run(model, X, options={"zipmap": False})["label"]
    assert got.tolist() == model.predict(X).tolist()
    listed = {"zipmap": False, "output_class_labels": True}
    if labels.dtype in (np.int64, object):
        assert run(model, X, options=listed)["class_labels"].tolist() == model.classes_.tolist()
    else:
        with pytest.raises(ValueError, match="output_class_labels takes labels of int32, int64"):
            run(model, X, options=listed)


def test_labels_between_integers():
    model, X = fit("multiclass")
    model.classes_ = np.array([0.0, 0.5, 1.0, 2.0])
    with pytest.raises(ValueError, match="ONNX cannot hold class labels such as 2"):
        skl2onnx.to_onnx(model, X[:1].astype(np.float32))


def features(kind=BackpropClassifier, hidden=(5, 3), **params):
    return kind(hidden_layer_sizes=hidden, random_state=0, max_iter=30, tol=10.0, **params)


BEFORE_A_STEP = {
    "classifier": lambda: [features()],
    "regressor": lambda: [features(BackpropRegressor)],
    "float64": lambda: [features(dtype="float64")],
    "no hidden layer": lambda: [features(hidden=())],
    "scaled targets": lambda: [features(BackpropRegressor, scale_targets=True), StandardScaler()],
    "two": lambda: [features(), features(BackpropRegressor)],
    "inner pipeline": lambda: [make_pipeline(StandardScaler(), features())],
    "union": lambda: [make_union(features(), StandardScaler(), features(BackpropRegressor))],
    "columns": lambda: [
        make_column_transformer((features(), [0, 1]), remainder="passthrough"), StandardScaler()
    ],
}  # fmt: skip


@pytest.mark.parametrize("last", [LogisticRegression, features])
@pytest.mark.parametrize("name", BEFORE_A_STEP)
def test_networks_that_give_features_to_a_step(name, last):
    X, y = draw_classes(80, 6, 2)
    X = X.astype(np.float32)
    model = make_pipeline(*BEFORE_A_STEP[name](), last()).fit(X, y)
    steps = list(model.steps)
    for settings in ({"zipmap": False}, {id(model): {"zipmap": False}}):
        got = run(model, X, options=settings)
        np.testing.assert_array_equal(got["label"], model.predict(X))
        np.testing.assert_allclose(got["probabilities"], model.predict_proba(X), atol=1e-5)
    assert model.steps == steps
    assert len(run(model, X)["output_probability"]) == len(X)


@pytest.mark.parametrize("dtype", [None, *DTYPES])
def test_to_onnx_writes_a_file(dtype, tmp_path):
    for case, outputs in (("binary", ["label", "probabilities"]), ("one target", ["variable"])):
        model, X = fit(case)
        path = tmp_path / "model.onnx"
        written = model.to_onnx(path, dtype=dtype)
        assert written.startswith(f"{path}: {path.stat().st_size / 1e3:.3g} kB of ONNX, X -> ")
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        assert [output.name for output in session.get_outputs()] == outputs
        X = X.astype(dtype or model.coefs_[0].dtype)
        got = session.run(None, {"X": X})
        np.testing.assert_allclose(got[-1], values_of(model, X), rtol=1e-5, atol=1e-5)


def test_to_onnx_takes_options_and_refuses_dtypes(tmp_path):
    path = tmp_path / "model.onnx"
    model, X = fit("binary strings")
    with pytest.raises(ValueError, match=r"dtype must be 'float32', .*Got 'half'"):
        model.to_onnx(path, dtype="half")
    with pytest.raises(ValueError, match="ONNX cannot hold the activation"):
        fit("binary", activation=userland.leaky_relu)[0].to_onnx(path)
    assert not path.exists()
    model.to_onnx(path, options={"nocl": True, "zipmap": False}, target_opset=15)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    labels, _ = session.run(None, {"X": X.astype(model.coefs_[0].dtype)})
    np.testing.assert_array_equal(labels, model.predict(X) == model.classes_[1])


def test_what_is_refused():
    model, X = fit("binary", activation=userland.leaky_relu)
    with pytest.raises(ValueError, match=r"ONNX cannot hold the activation .*leaky_relu"):
        skl2onnx.to_onnx(model, X[:1])
    model, X = fit("one target")
    model.out_activation_ = "quantiles"
    with pytest.raises(ValueError, match="'quantiles'"):
        skl2onnx.to_onnx(model, X[:1])


def test_edited_labels_are_named():
    X, y = draw_classes(40, 4, 3)
    model = BackpropClassifier((3,), tol=10.0, random_state=0).fit(X, y)
    model.classes_ = model.classes_.tolist()
    for network in (model, make_pipeline(StandardScaler().fit(X), model)):
        with pytest.raises(ValueError, match="fitted attribute classes_ must be an array of 3"):
            skl2onnx.to_onnx(network, X[:1])


def test_an_activation_without_a_line_is_refused(monkeypatch):
    monkeypatch.delitem(onnx.ACTIVATIONS, "tanh")
    model, X = fit("binary")
    with pytest.raises(ValueError, match="ONNX cannot hold the activation 'tanh'"):
        skl2onnx.to_onnx(model, X[:1])


def test_missing_skl2onnx_is_explained(monkeypatch):
    monkeypatch.setitem(sys.modules, "skl2onnx", None)
    with pytest.raises(ImportError, match=r"pip install 'fastbp\[onnx\]'"):
        fastbp.onnx.register()
