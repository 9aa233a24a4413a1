"""ONNX graphs of both estimators, run by onnxruntime and compared with predict."""

import sys

import numpy as np
import pytest
import userland
from problems import draw_classes
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from test_export import CASES, CLASSIFICATION, DTYPES, fit, values_of

import fastbp.onnx
from fastbp import BackpropClassifier
from fastbp.activations import ACTIVATIONS

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
        np.testing.assert_allclose(got, wanted, rtol=0, atol=atol)
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


@pytest.mark.parametrize("name", sorted(set(ACTIVATIONS) & set(fastbp.onnx.ACTIVATIONS)))
def test_every_activation(name):
    for dtype in DTYPES:
        model, X = fit("one target", activation=name, dtype=dtype)
        check(model, 3 * X.astype(dtype), TOLERANCE["float32" if name == "gelu" else dtype])


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


def test_what_is_refused():
    model, X = fit("binary", activation=userland.leaky_relu)
    with pytest.raises(ValueError, match=r"ONNX cannot hold the activation .*leaky_relu"):
        skl2onnx.to_onnx(model, X[:1])
    model, X = fit("one target")
    model.out_activation_ = "quantiles"
    with pytest.raises(ValueError, match="'quantiles'"):
        skl2onnx.to_onnx(model, X[:1])


def test_an_activation_without_a_line_is_refused(monkeypatch):
    monkeypatch.delitem(fastbp.onnx.ACTIVATIONS, "tanh")
    model, X = fit("binary")
    with pytest.raises(ValueError, match="ONNX cannot hold the activation 'tanh'"):
        skl2onnx.to_onnx(model, X[:1])


def test_missing_skl2onnx_is_explained(monkeypatch):
    monkeypatch.setitem(sys.modules, "skl2onnx", None)
    with pytest.raises(ImportError, match=r"pip install 'fastbp\[onnx\]'"):
        fastbp.onnx.register()
