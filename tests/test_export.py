"""Hand-over: scikit-learn's MLP and back, and C source that a compiler takes without a warning."""

import ctypes
import itertools
import shutil
import subprocess

import numpy as np
import pytest
import userland
from covering import naming
from problems import draw_classes, draw_counts, draw_labels, draw_regression
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.neural_network import MLPClassifier, MLPRegressor

from fastbp import Activation, BackpropClassifier, BackpropRegressor, Loss
from fastbp.activations import ACTIVATIONS
from fastbp.export import c_source

SETTINGS = dict(hidden_layer_sizes=(9, 5), activation="tanh", random_state=0, max_iter=30, tol=10.0)
DTYPES = ["float32", "float64"]


def draw_binary(labels):
    X, y = draw_classes(80, 6, 2)
    return X, np.asarray(labels)[y]


def draw_sparse_labels():
    X, Y = draw_labels(80, 6, 3)
    return X, sparse.csr_array(Y)


CLASSIFICATION = {
    "binary": lambda: draw_binary([3, 7]),
    "binary strings": lambda: draw_binary(["no", 'y"e\\s?']),
    "binary bools": lambda: draw_binary([False, True]),
    "binary floats": lambda: draw_binary([1.0, 2.0]),
    "multiclass": lambda: draw_classes(80, 6, 4),
    "multiclass strings": lambda: (
        draw_classes(80, 6, 3)[0], np.array(["ä", "b", "c"])[draw_classes(80, 6, 3)[1]]
    ),
    "multilabel": lambda: draw_labels(80, 6, 3),
    "sparse multilabel": draw_sparse_labels,
}  # fmt: skip
REGRESSION = {
    "one target": ("squared_error", lambda: draw_regression(80, 6)),
    "three targets": ("squared_error", lambda: draw_regression(80, 6, 3)),
    "counts": ("poisson", lambda: draw_counts(80, 6)),
}
CASES = [*CLASSIFICATION, *REGRESSION]


def fit(case, **params):
    """Return (model, X); it ends by its tolerance, so that nothing warns."""
    if case in CLASSIFICATION:
        X, y = CLASSIFICATION[case]()
        return BackpropClassifier(**{**SETTINGS, **params}).fit(X, y), X
    loss, draw = REGRESSION[case]
    X, y = draw()
    return BackpropRegressor(**{"loss": loss, **SETTINGS, **params}).fit(X, y), X


def targets_of(case):
    return CLASSIFICATION[case]()[1] if case in CLASSIFICATION else REGRESSION[case][1]()[1]


def values_of(model, X):
    """Return probabilities or predicted values as columns."""
    values = model.predict_proba(X) if hasattr(model, "predict_proba") else model.predict(X)
    return np.asarray(values).reshape(len(X), -1)


def assert_same_labels(model, other, X):
    """The same predicted labels, of the same kind."""
    got, wanted = model.predict(X), other.predict(X)
    assert type(got) is type(wanted)
    assert got.dtype == wanted.dtype
    assert got.shape == wanted.shape
    assert not (got != wanted).sum()


# --- scikit-learn's MLP ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
def test_to_sklearn_predicts_the_same(case, dtype):
    model, X = fit(case, dtype=dtype)
    mlp = model.to_sklearn()
    assert type(mlp) is (MLPClassifier if case in CLASSIFICATION else MLPRegressor)
    within = 1e-6 if dtype == "float32" else 1e-13
    np.testing.assert_allclose(values_of(mlp, X), values_of(model, X), rtol=within, atol=within)
    if case in CLASSIFICATION:
        assert_same_labels(mlp, model, X)


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("case", ["binary", "multiclass strings", "multilabel", "three targets"])
def test_to_sklearn_has_every_attribute_of_a_fit_there(case, solver, early_stopping):
    """All but the optimizer's state and the scratch of L-BFGS, and the same parameters."""
    params = dict(solver=solver, early_stopping=early_stopping, tol=10.0, max_iter=40)
    mlp = fit(case, **params)[0].to_sklearn()
    peer = clone(mlp).fit(*reversed([targets_of(case), fit(case)[1]]))
    assert mlp.get_params() == peer.get_params()
    left_out = {"_optimizer", "_coef_indptr", "_intercept_indptr"}
    assert set(vars(peer)) - set(vars(mlp)) <= left_out
    assert set(vars(mlp)) <= set(vars(peer))
    for name, value in vars(peer).items():
        if name not in left_out and name.endswith("_"):
            assert type(vars(mlp)[name]) is type(value) or name in ("loss_", "best_loss_"), name


@pytest.mark.parametrize("case", ["binary", "multiclass", "multilabel", "three targets", "counts"])
def test_training_goes_on_there(case):
    model, X = fit(case, dtype="float64", max_iter=200)
    y = targets_of(case)
    before = [weights.copy() for weights in model.coefs_]
    mlp = model.to_sklearn()
    mlp.partial_fit(X, y)
    mlp.set_params(warm_start=True, tol=10.0).fit(X, y)
    assert mlp.loss_ < model.loss_curve_[0]
    stopped = fit(case, early_stopping=True)[0].to_sklearn()
    stopped.best_validation_score_ = np.inf  # nothing gets better: the weights handed over are best
    stopped.set_params(warm_start=True).fit(X, y)
    for weights, old in zip(model.coefs_, before, strict=True):
        np.testing.assert_array_equal(weights, old)


@pytest.mark.parametrize("case", CASES)
def test_from_sklearn_predicts_the_same_and_trains_on(case):
    X = fit(case)[1]
    mlp = fit(case)[0].to_sklearn().fit(X, targets_of(case))
    kind = BackpropClassifier if case in CLASSIFICATION else BackpropRegressor
    model = kind.from_sklearn(mlp)
    assert {**model.get_params(), **mlp.get_params()} == model.get_params()
    np.testing.assert_allclose(values_of(model, X), values_of(mlp, X), rtol=0, atol=1e-12)
    if case in CLASSIFICATION:
        assert_same_labels(model, mlp, X)
    np.testing.assert_array_equal(values_of(model.to_sklearn(), X), values_of(mlp, X))
    before = mlp.coefs_[0].copy()
    model.partial_fit(X, targets_of(case))
    model.set_params(warm_start=True).fit(X, targets_of(case))
    np.testing.assert_array_equal(mlp.coefs_[0], before)


def test_from_sklearn_into_a_subclass():
    class Named(BackpropRegressor):
        pass

    X, y = draw_regression(50, 3)
    assert type(Named.from_sklearn(BackpropRegressor(**SETTINGS).fit(X, y).to_sklearn())) is Named


def test_feature_names_go_both_ways():
    pd = pytest.importorskip("pandas")
    X, y = draw_classes(80, 3, 3)
    X = pd.DataFrame(X, columns=list("abc"))
    mlp = BackpropClassifier(**SETTINGS).fit(X, y).to_sklearn()
    assert list(mlp.feature_names_in_) == list("abc")
    mlp.predict(X)
    assert list(BackpropClassifier.from_sklearn(mlp).feature_names_in_) == list("abc")


def fit_scaled(mean, scale, **params):
    """Return a network of a y with this mean and spread, and X."""
    X, y = draw_regression(80, 6)
    params = {**SETTINGS, "max_iter": 60, "learning_rate_init": 0.01, **params}
    y = (y - y.mean()) / y.std()
    return BackpropRegressor(scale_targets=True, **params).fit(X, mean + scale * y), X


# Mean and spread of a y: float32 is too coarse, or too narrow, for the predictions.
UNITS = [(50.0, 9.0), (1000000.03, 0.01), (1e6, 1e-8), (0.0, 1e-60), (0.0, 1e39), (1e200, 1e198)]


@pytest.mark.parametrize("dtype", [*DTYPES, None])
@pytest.mark.parametrize(("mean", "scale"), UNITS)
def test_targets_that_were_scaled(mean, scale, dtype):
    model, X = fit_scaled(mean, scale, dtype=dtype)
    mlp = model.to_sklearn()
    within = 1e-6 if dtype == "float32" else 1e-12
    within = within * scale + 4 * np.spacing(abs(mean))
    np.testing.assert_allclose(mlp.predict(X), model.predict(X), rtol=0, atol=within)
    other = BackpropRegressor.from_sklearn(mlp)
    np.testing.assert_allclose(other.predict(X), model.predict(X), rtol=0, atol=within)
    if scale < 1e100:  # whose square float64 holds
        mlp.partial_fit(X, mlp.predict(X))


@pytest.mark.parametrize("scale", [1e303, 1e-320])
def test_units_that_weights_cannot_hold_are_refused(scale):
    model, _ = fit_scaled(0.0, scale)
    with pytest.raises(ValueError, match=r"has no scale_targets, .*Divide y by a"):
        model.to_sklearn()


def test_several_scaled_targets():
    X, Y = draw_regression(80, 6, 2)
    Y = Y / Y.std(axis=0) * [1e-3, 2.0] + [1e5, -3.0]
    model = BackpropRegressor(scale_targets=True, **SETTINGS).fit(X, Y)
    error = np.abs(model.to_sklearn().predict(X) - model.predict(X)).max(axis=0)
    assert (error < [1e-9, 2e-6]).all()


def test_settings_of_training_alone_are_left_out():
    model, X = fit("multiclass", n_threads=1)
    model.set_params(solver="of another time", learning_rate=object())
    mlp = model.to_sklearn()
    assert (mlp.solver, mlp.learning_rate) == ("adam", "constant")
    mlp.fit(X, model.predict(X))


def test_one_activation_in_a_list_is_one_activation():
    assert fit("binary", activation=["relu", "relu"])[0].to_sklearn().activation == "relu"


def test_what_scikit_learn_lacks():
    cases = [
        (dict(activation=["relu", "tanh"]), r"\['relu', 'tanh'\]"),
        (dict(activation=userland.leaky_relu), "leaky_relu"),
        (dict(activation=Activation(userland.own_relu)), "own_relu"),
        (dict(loss=userland.own_log_loss), "own_log_loss"),
        (dict(loss=Loss(userland.own_log_loss)), "own_log_loss"),
    ]
    for params, named in cases:
        model, _ = fit("binary", **params)
        with pytest.raises(ValueError, match=named):
            model.to_sklearn()
    for name in set(ACTIVATIONS) - {"identity", "logistic", "relu", "tanh"}:
        with pytest.raises(ValueError, match=f"'{name}'"):
            fit("binary", activation=name)[0].to_sklearn()


def test_what_from_sklearn_refuses():
    with pytest.raises(TypeError, match=r"expects a fitted MLPClassifier\. Got MLPRegressor"):
        BackpropClassifier.from_sklearn(MLPRegressor())
    with pytest.raises(NotFittedError):
        BackpropRegressor.from_sklearn(MLPRegressor())
    with pytest.raises(NotFittedError):
        BackpropRegressor().to_sklearn()


class Doubling(BackpropRegressor):
    """What an export knows nothing of: predictions that are not those of the weights."""

    def predict(self, X):
        return 2 * super().predict(X)


def test_predictions_that_are_not_those_of_the_weights_are_refused(tmp_path):
    X, y = draw_regression(80, 6)
    model = Doubling(**SETTINGS).fit(X, y)
    with pytest.raises(ValueError, match="its predictions are not those of its weights"):
        model.to_sklearn()
    with pytest.raises(ValueError, match="its predictions are not those of its weights"):
        model.to_c(tmp_path / "doubling.c")
    assert not list(tmp_path.iterdir())


def test_an_output_that_nobody_knows_is_refused(tmp_path):
    model, _ = fit("one target")
    model.out_activation_ = "quantiles"
    for export in (model.to_sklearn, lambda: model.to_c(tmp_path / "model.c")):
        with pytest.raises(ValueError, match="'quantiles'"):
            export()


@pytest.mark.parametrize("case", ["binary", "multiclass", "one target", "counts"])
def test_networks_of_unscaled_data_are_not_refused(case):
    """Large weights and scores have large rounding errors, or overflow; the network is the same."""
    model, _ = fit(case, solver="sgd", learning_rate_init=1e-3)
    model.coefs_ = [weights * 40 for weights in model.coefs_]
    model.to_sklearn()


# --- C --------------------------------------------------------------------------------------------

STRICT = ["-std=c99", "-O1", "-Wall", "-Wextra", "-Werror", "-pedantic"]
compiler = shutil.which("gcc") or shutil.which("cc")
needs_compiler = pytest.mark.skipif(compiler is None, reason="there is no C compiler")


def compile_c(path, *flags):
    """Compile a file and return the path of what came out."""
    target = path.with_suffix(".out")
    done = subprocess.run(
        [compiler, *STRICT, *flags, str(path), "-lm", "-o", str(target)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return target


def load_c(path, name="fastbp"):
    """Compile a file and return its function on arrays: (X, n_columns) -> (values, results)."""
    library = ctypes.CDLL(str(compile_c(path, "-shared", "-fPIC")))
    predict = library[f"{name}_predict"]

    def on_arrays(X, n_columns):
        X, values = np.ascontiguousarray(X), np.full((len(X), n_columns), np.nan, X.dtype)
        results = [
            predict(ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(out.ctypes.data))
            for x, out in zip(X, values, strict=True)
        ]
        return values, np.array(results)

    return on_arrays


def check_c(model, X, path):
    """Compare C with predict and predict_proba, and let the file's own test run."""
    dtype = model.coefs_[0].dtype
    model.to_c(path)
    X = X.astype(dtype)
    wanted = values_of(model, X)
    values, results = load_c(path)(X, wanted.shape[1])
    scale = 1e-5 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(values, wanted, rtol=scale, atol=scale * np.abs(wanted).max())
    if getattr(model, "_target_kind", None) in ("binary", "multiclass"):
        np.testing.assert_array_equal(model.classes_[results], model.predict(X))
    done = subprocess.run(
        [compile_c(path, "-DFASTBP_SELF_TEST")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "8 samples" in done.stdout
    assert " 0 failures" in done.stdout


@needs_compiler
@pytest.mark.parametrize(("case", "dtype"), list(zip(CASES, itertools.cycle(DTYPES))))
def test_c_predicts_the_same(case, dtype, tmp_path):
    model, X = fit(case, dtype=dtype)
    check_c(model, X, tmp_path / "model.c")


# In float32, which holds few of these units, all; in float64 every other one.
UNITS_IN_DTYPES = [
    *[("float32", *units) for units in [*UNITS, (0.0, 1e303), (0.0, 1e-320)]],
    *[("float64", *units) for units in [*UNITS, (0.0, 1e303)][::2]],
]


@needs_compiler
@pytest.mark.parametrize(("dtype", "mean", "scale"), UNITS_IN_DTYPES)
def test_c_has_the_units_of_scaled_targets_in_double(mean, scale, dtype, tmp_path):
    model, X = fit_scaled(mean, scale, dtype=dtype)
    path = tmp_path / "model.c"
    model.to_c(path)
    predict = ctypes.CDLL(str(compile_c(path, "-shared", "-fPIC")))["fastbp_predict"]
    inputs, values = np.ascontiguousarray(X, dtype), np.full(len(X), np.nan)
    for x, out in zip(inputs, values.reshape(-1, 1), strict=True):
        predict(ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(out.ctypes.data))
    wanted = model.predict(inputs.astype(np.float64))
    within = (1e-5 if dtype == "float32" else 1e-12) * scale + 4 * np.spacing(abs(mean) + scale)
    np.testing.assert_allclose(values, wanted, rtol=0, atol=within)
    text = path.read_text()
    assert run_self_test(path) == (0, True)
    b3 = text.index("b3[] = {") + 8
    path.write_text(text[:b3] + " 0.1 + " + text[b3:])  # a tenth of the spread is noticed
    assert run_self_test(path) == (1, False)


def run_self_test(path):
    """Return the exit code of the file's own test, and whether it says that nothing failed."""
    done = subprocess.run(
        [compile_c(path, "-DFASTBP_SELF_TEST")], capture_output=True, text=True, check=False
    )
    return done.returncode, " 0 failures" in done.stdout


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
def test_c_of_every_activation(dtype, tmp_path):
    """Three to a network: the compiler takes as long for one."""
    held = [name for name in ACTIVATIONS if name in c_source.ACTIVATIONS]
    for at in range(0, len(held), 3):
        names = held[at : at + 3]
        settings = dict(hidden_layer_sizes=(5,) * len(names), activation=names)
        model, X = fit("one target", **settings, dtype=dtype)
        with naming(*names):
            check_c(model, 3 * X, tmp_path / f"{names[0]}.c")
    for name in set(ACTIVATIONS) - set(c_source.ACTIVATIONS):
        model, _ = fit("one target", activation=name, dtype=dtype)
        with pytest.raises(ValueError, match=f"C source cannot hold the activation '{name}'"):
            model.to_c(tmp_path / "model.c")


@needs_compiler
@pytest.mark.parametrize("sizes", [(), (1,), (3, 11), (11, 3, 4, 2)])
def test_c_of_every_depth(sizes, tmp_path):
    names = ["tanh", "identity", "logistic", "relu"][: len(sizes)]
    model, X = fit("multiclass", hidden_layer_sizes=sizes, activation=names)
    check_c(model, X, tmp_path / "model.c")


@needs_compiler
def test_the_self_test_can_fail(tmp_path):
    path = tmp_path / "model.c"
    for case in ("one target", "multiclass"):
        fit(case, dtype="float64")[0].to_c(path)
        text = path.read_text()
        begin = text.index("W1[] = {") + 8
        number = text[begin:].split(",")[0].strip()
        path.write_text(text.replace(number, "0.5", 1))
        done = subprocess.run(
            [compile_c(path, "-DFASTBP_SELF_TEST")], capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert " 0 failures" not in done.stdout


@needs_compiler
def test_c_keeps_the_labels_and_the_callers_samples(tmp_path):
    model, X = fit("binary strings")
    model.to_c(tmp_path / "model.c", name="judge", X=X[:3].tolist())
    library = ctypes.CDLL(str(compile_c(tmp_path / "model.c", "-shared", "-fPIC")))
    labels = (ctypes.c_char_p * 2).in_dll(library, "judge_classes")
    assert [label.decode() for label in labels] == ["no", 'y"e\\s?']
    assert "#define N_SAMPLES 3" in (tmp_path / "model.c").read_text()
    fit("multiclass strings")[0].to_c(tmp_path / "other.c")
    library = ctypes.CDLL(str(compile_c(tmp_path / "other.c", "-shared", "-fPIC")))
    labels = (ctypes.c_char_p * 3).in_dll(library, "fastbp_classes")
    assert [label.decode() for label in labels] == ["b", "c", "ä"]


LABELS = {
    "uint64": (np.array([0, 2**63 - 1, 5], np.uint64), ctypes.c_longlong),
    "the least int64": (np.array([-(2**63), 0, 2**63 - 1]), ctypes.c_longlong),
    "int8": (np.array([-5, 0, 7], np.int8), ctypes.c_longlong),
    "float32": (np.array([1.0, 2.0, 3.0], np.float32), ctypes.c_double),
    "objects": (np.array(["a", "\u00e9", ""], object), ctypes.c_char_p),
}


@needs_compiler
@pytest.mark.parametrize("name", LABELS)
def test_c_has_labels_of_every_dtype(name, tmp_path):
    X, y = draw_classes(80, 6, 3)
    labels, ctype = LABELS[name]
    model = BackpropClassifier(**SETTINGS).fit(X, labels[y])
    model.to_c(tmp_path / "model.c")
    library = ctypes.CDLL(str(compile_c(tmp_path / "model.c", "-shared", "-fPIC")))
    written = list((ctype * 3).in_dll(library, "fastbp_classes"))
    written = [one.decode() if isinstance(one, bytes) else one for one in written]
    assert written == model.classes_.tolist()


UNHELD = {
    "dates": np.array(["2026-01-01", "2026-01-02", "2026-01-03"], "M8[D]"),
    "durations": np.array([1, 2, 3], "m8[D]"),
    "large uint64": np.array([0, 2**63, 2**64 - 1], np.uint64),
    "longdouble": np.array([0, 1, 2**62 + 1], np.longdouble),
    "no UTF-8": np.array(["a", "b", "\ud800"], object),
}


@pytest.mark.parametrize("name", UNHELD)
def test_labels_that_c_cannot_hold(name, tmp_path):
    X, y = draw_classes(80, 6, 3)
    model = BackpropClassifier(**SETTINGS).fit(X, UNHELD[name][y])
    with pytest.raises(ValueError, match=r"C source cannot hold (the )?class labels"):
        model.to_c(tmp_path / "model.c")
    model.classes_ = np.array([1, "a", None], object)
    with pytest.raises(ValueError, match="C source cannot hold class labels"):
        model.to_c(tmp_path / "model.c")
    model.classes_ = np.array(["a", "b\0c", "d"], object)
    with pytest.raises(ValueError, match=r"C source cannot hold the label 'b.x00c'"):
        model.to_c(tmp_path / "model.c")
    assert not list(tmp_path.iterdir())


def test_c_holds_every_weight_to_the_bit(tmp_path):
    model, _ = fit("one target", dtype="float64", hidden_layer_sizes=(4,))
    model.to_c(tmp_path / "model.c")
    text = (tmp_path / "model.c").read_text()
    for name, expected in zip(("W1", "W2"), model.coefs_, strict=True):
        body = text.split(f"{name}[] = {{")[1].split("}")[0]
        written = [float.fromhex(number) for number in body.split(",")]
        np.testing.assert_array_equal(np.reshape(written, expected.shape), expected)


def test_what_c_refuses(tmp_path):
    path = tmp_path / "model.c"
    model, X = fit("binary", activation=userland.leaky_relu)
    with pytest.raises(ValueError, match=r"C source cannot hold the activation .*leaky_relu"):
        model.to_c(path)
    model, X = fit("binary")
    for name in ("2fast", "a-b", "", "ä", 3):
        with pytest.raises(ValueError, match="C identifier"):
            model.to_c(path, name=name)
    for samples in (X[:, 1:], np.empty((0, 6))):
        with pytest.raises(ValueError, match=r"shape \(n_samples, 6\)"):
            model.to_c(path, X=samples)
    with pytest.raises(NotFittedError):
        BackpropClassifier().to_c(path)
    assert not path.exists()


def test_c_says_its_size_and_refuses_a_large_one(tmp_path, monkeypatch):
    path = tmp_path / "model.c"
    model, _ = fit("binary")
    written = model.to_c(path)
    assert written.startswith(f"{path}: {path.stat().st_size / 1e3:.3g} kB of C for ")
    assert repr(written) == written
    path.unlink()
    monkeypatch.setattr(c_source, "MOST_BYTES", 100)
    with pytest.raises(ValueError, match=r"would have about .* kB, more than the 100 bytes.*force"):
        model.to_c(path)
    assert not path.exists()
    assert model.to_c(path, force=True) == written


@pytest.mark.parametrize("dtype", c_source.BYTES_OF_NUMBER)
def test_the_size_is_known_before_it_is_written(dtype, tmp_path):
    model, _ = fit("binary", hidden_layer_sizes=(200,), dtype=dtype, tol=1.0)
    model.to_c(tmp_path / "model.c")
    n_params = sum(W.size + b.size for W, b in zip(model.coefs_, model.intercepts_, strict=True))
    guess = c_source.BYTES_OF_NUMBER[dtype] * n_params
    assert 0.8 * guess < (tmp_path / "model.c").stat().st_size - 5000 < 1.2 * guess


def test_an_activation_without_a_line_is_refused(tmp_path, monkeypatch):
    monkeypatch.delitem(c_source.ACTIVATIONS, "tanh")
    with pytest.raises(ValueError, match="C source cannot hold the activation 'tanh'"):
        fit("binary")[0].to_c(tmp_path / "model.c")
