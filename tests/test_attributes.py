"""Fitted attributes that somebody edited: right edits work, others raise, and nothing crashes."""

import copy
import pickle
import re
import warnings

import numpy as np
import pytest
from covering import naming
from problems import draw_classes, draw_labels, draw_regression
from scipy import sparse
from sklearn.exceptions import NotFittedError

import fastbp
from fastbp import BackpropClassifier, BackpropRegressor

SMALL = dict(hidden_layer_sizes=(6, 3), max_iter=3, random_state=0)
DATA = {
    "binary": draw_classes(40, 4, 2),
    "multiclass": draw_classes(40, 4, 3),
    "multilabel": draw_labels(40, 4, 3),
    "real": draw_regression(40, 4, 2),
}


def fit(case, **params):
    """Return a fitted model, X and y."""
    X, y = DATA[case]
    kind = BackpropRegressor if case == "real" else BackpropClassifier
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return kind(**{**SMALL, **params}).fit(X, y), X, y


def predictions(model, X):
    """Everything that a model says of X."""
    names = ["predict", "transform", "predict_proba", "predict_log_proba"]
    return [getattr(model, name)(X) for name in names if hasattr(model, name)]


# --- right edits ----------------------------------------------------------------------------------


def strided(array):
    """Return a view of every second element of something larger."""
    return np.repeat(array, 2, axis=-1)[..., ::2]


def frozen(array):
    """Return a copy that cannot be written to."""
    array = array.copy()
    array.flags.writeable = False
    return array


def unaligned(array):
    """Return a copy whose numbers stand at odd addresses."""
    raw = np.zeros(array.nbytes + 1, np.uint8)
    copy = np.frombuffer(raw, array.dtype, array.size, offset=1).reshape(array.shape)
    copy[...] = array
    return copy


EDITS = {
    "Fortran order": np.asfortranarray,
    "strided": strided,
    "read-only": frozen,
    "unaligned": unaligned,
    "float64": lambda array: array.astype(np.float64),
    "longdouble": lambda array: array.astype(np.longdouble),
    "big-endian": lambda array: array.astype(">f4"),
    "lists": lambda array: array.tolist(),
    "a subclass": lambda array: array.view(np.ma.MaskedArray),
}
CALLS = {
    "predict": lambda model, X, y: model,
    "pickle": lambda model, X, y: pickle.loads(pickle.dumps(model)),
    "partial_fit": lambda model, X, y: model.partial_fit(X, y),
    "warm start": lambda model, X, y: model.set_params(warm_start=True).fit(X, y),
    "resume": lambda model, X, y: model.set_params(warm_start="resume").fit(X, y),
}


@pytest.mark.parametrize("edit", EDITS)
def test_right_edits_work(edit, engine_name):
    fitted, X, y = fit("multiclass", engine=engine_name, tol=10.0, n_iter_no_change=1)
    for name, call in CALLS.items():
        model, twin = copy.deepcopy(fitted), copy.deepcopy(fitted)
        model.coefs_ = tuple(map(EDITS[edit], model.coefs_))
        model.intercepts_[-1] = EDITS[edit](model.intercepts_[-1])
        got, wanted = (predictions(call(one, X, y), X.astype(np.float32)) for one in (model, twin))
        with naming(name):
            for a, b in zip(got, wanted, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
                assert a.dtype == b.dtype


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_smaller_network_may_be_cut_out_of_one(engine_name):
    """It predicts at once, and trains on with a new optimizer."""
    model, X, y = fit("real", engine=engine_name, tol=10.0, n_iter_no_change=1)
    kept = [0, 2, 5]
    model.coefs_[0], model.intercepts_[0] = model.coefs_[0][:, kept], model.intercepts_[0][kept]
    model.coefs_[1] = model.coefs_[1][kept]
    before = model.predict(X)
    model.set_params(hidden_layer_sizes=(3, 3))
    with pytest.raises(ValueError, match="state does not belong to a network of 35 weights"):
        model.partial_fit(X, y)
    np.testing.assert_array_equal(model.predict(X), before)
    model.set_params(warm_start=True).fit(X, y).partial_fit(X, y)


def test_new_names_of_classes():
    model, X, _ = fit("multiclass")
    wanted = np.array(["a", "b", "c"])[model.predict(X)]
    model.classes_ = np.array(["a", "b", "c"])
    np.testing.assert_array_equal(model.predict(X), wanted)
    np.testing.assert_array_equal(model.partial_fit(X, wanted).classes_, ["a", "b", "c"])


# --- wrong edits ----------------------------------------------------------------------------------


def replaced(name, change):
    """Change an attribute, or the entry of its list that a name such as ``coefs_[1]`` says."""

    def edit(state):
        attribute, _, index = name.rstrip("]").partition("[")
        if index:
            state[attribute][int(index)] = change(state[attribute][int(index)])
        else:
            state[attribute] = change(state[attribute])

    return name, edit


def instead(value):
    """Put this in the place of whatever there is."""
    return lambda old: value


WRONG = [
    ("intercepts_", lambda state: state["coefs_"].append(np.ones((1, 4)))),
    ("coefs_", lambda state: state["coefs_"].clear()),
    ("intercepts_", lambda state: state["intercepts_"].pop()),
    ("intercepts_", lambda state: state.pop("intercepts_")),
    ("n_features_in_", lambda state: state.pop("n_features_in_")),
    ("out_activation_", lambda state: state.pop("out_activation_")),
    replaced("coefs_", instead(None)),
    replaced("coefs_", instead(np.ones(3))),
    ("intercepts_", lambda state: state.update(coefs_=[*state["coefs_"], np.ones((3, 3))])),
    replaced("coefs_[0]", instead("weights")),
    replaced("coefs_[0]", instead(object())),
    replaced("coefs_[0]", instead(sparse.csr_array(np.ones((4, 6), np.float32)))),
    replaced("coefs_[0]", lambda W: W[:-1]),
    replaced("coefs_[1]", lambda W: W.T),
    replaced("coefs_[1]", lambda W: W[..., None]),
    replaced("coefs_[1]", lambda W: W.astype(complex)),
    replaced("coefs_[1]", lambda W: W.astype(object)),
    replaced("coefs_[1]", lambda W: W[:, :0]),
    replaced("coefs_[2]", lambda W: W[:, :0]),
    replaced("intercepts_[0]", lambda b: b[:-1]),
    replaced("intercepts_[1]", instead(0.0)),
    replaced("n_outputs_", lambda n: n + 1),
    replaced("n_outputs_", lambda n: np.array([n, n])),
    replaced("n_features_in_", instead("4")),
    replaced("out_activation_", instead("sine")),
    replaced("out_activation_", instead(["softmax"])),
    replaced("out_activation_", instead(np.array(["logistic"]))),
    replaced("out_activation_", instead("cumulative")),
]
WRONG_OF_CLASSIFIERS = [
    replaced("classes_", instead(np.arange(2))),
    replaced("classes_", instead(["a", "b", "c"])),
    replaced("classes_", instead(None)),
    ("classes_", lambda state: state.pop("classes_")),
    ("out_activation_", lambda state: state.update(_target_kind="binary")),
    replaced("_target_kind", instead(["multiclass"])),
    replaced("_target_kind", instead(None)),
    ("_target_kind", lambda state: state.pop("_target_kind")),
    replaced("out_activation_", instead("exp")),
]
ASKED = {
    "predict": lambda model, X, y: model.predict(X),
    "one row": lambda model, X, y: model.predict(X[:1]),
    "transform": lambda model, X, y: model.transform(X),
    "probabilities": lambda model, X, y: model.predict_proba(X),
    "pickle": lambda model, X, y: pickle.loads(pickle.dumps(model)).predict(X),
    "partial_fit": lambda model, X, y: model.partial_fit(X, y),
    "warm start": lambda model, X, y: model.set_params(warm_start=True).fit(X, y),
    "drawing": lambda model, X, y: model._repr_html_() and model.predict(X),
    "summary": lambda model, X, y: model.summary(),
    "to_sklearn": lambda model, X, y: model.to_sklearn(),
    "to_c": lambda model, X, y: model.to_c("nothing.c"),
    "to_onnx": lambda model, X, y: model.to_onnx("nothing.onnx"),
    "save": lambda model, X, y: fastbp.save(model, "nothing"),
    "inspection": lambda model, X, y: fastbp.inspection.loss_and_gradients(model, X, y),
    "diagnose": lambda model, X, y: fastbp.inspection.diagnose(model, X, y),
}


@pytest.mark.parametrize("call", ASKED)
def test_wrong_edits_are_named(call):
    """Whatever is asked of the model."""
    check_that_wrong_edits_are_named("multiclass", call, [*WRONG, *WRONG_OF_CLASSIFIERS])


def test_wrong_edits_are_named_by_regressors(engine_name):
    check_that_wrong_edits_are_named("real", "predict", WRONG, engine=engine_name)


def check_that_wrong_edits_are_named(case, call, wrong, **params):
    """Try each edit on a model of its own."""
    original, X, y = fit(case, **params)
    for name, edit in wrong:
        model = copy.deepcopy(original)
        edit(vars(model))
        with pytest.raises(ValueError, match=f"The fitted attribute {re.escape(name)} (must|is)"):
            ASKED[call](model, X, y)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("target_scale_", np.ones(3)),
        ("target_scale_", [1.0, 1.0]),
        ("target_mean_", "0"),
        ("target_mean_", None),
    ],
)
def test_the_scale_of_targets(name, value):
    model, X, y = fit("real", scale_targets=True)
    setattr(model, name, value)
    for call in (model.predict, lambda X: model.partial_fit(X, y)):
        with pytest.raises(ValueError, match=f"fitted attribute {name}"):
            call(X)
    delattr(model, name)
    with pytest.raises(ValueError, match=f"fitted attribute {name} is missing"):
        model.predict(X)


def test_a_scale_that_is_zero_trains_nothing():
    model, X, y = fit("real", scale_targets=True)
    model.target_scale_ = np.array([1.0, 0.0])
    with pytest.raises(ValueError, match="fitted attribute target_scale_ must be positive"):
        model.partial_fit(X, y)


NUMBERS = ["coefs_[1]", "intercepts_[0]", "target_mean_", "target_scale_"]
TRAINED = {name: CALLS[name] for name in ("partial_fit", "warm start", "resume")}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0, -1.0])
@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_that_make_no_predictions(name, value):
    """Named, instead of a word on X, y or the learning rate that are not to blame."""
    if np.isfinite(value) and name != "target_scale_":
        return
    settings = dict(scale_targets=True, activation="identity", warm_start="resume")
    original, X, y = fit("real", **settings)
    original.partial_fit(X, y)
    for call in (ASKED["predict"], ASKED["one row"], *TRAINED.values()):
        model = copy.deepcopy(original)
        attribute, _, index = name.rstrip("]").partition("[")
        array = vars(model)[attribute]
        array = array[int(index)] if index else array
        array.flat[-1] = value
        place = f" at .*{array.shape[-1] - 1}"
        with pytest.raises(ValueError, match=f"attribute {re.escape(name)} must .*{value}{place}"):
            call(model, X, y)


def test_a_scale_of_zero_without_a_mean():
    model, X, _ = fit("real", scale_targets=True)
    model.target_mean_, model.target_scale_ = np.zeros(2), np.zeros(2)
    with pytest.raises(ValueError, match="attribute target_scale_ must be positive and finite"):
        model.predict(X)


@pytest.mark.parametrize("case", ["binary", "multiclass", "multilabel"])
def test_nan_among_the_weights_of_a_classifier(case):
    original, X, y = fit(case, activation="tanh")
    for call in (*map(ASKED.get, ("predict", "one row", "transform", "probabilities")),
                 *TRAINED.values()):  # fmt: skip
        model = copy.deepcopy(original)
        model.coefs_[0][1, 2] = np.nan
        with pytest.raises(ValueError, match=r"attribute coefs_\[0\] must .* nan at 1, 2"):
            call(model, X, y)


def test_names_of_features_of_no_network():
    """It is not called unfitted."""
    for name, edit in [*WRONG, *WRONG_OF_CLASSIFIERS]:
        model, _, _ = fit("multiclass")
        edit(vars(model))
        with pytest.raises(ValueError, match=f"fitted attribute {re.escape(name)}") as caught:
            model.get_feature_names_out()
        assert not isinstance(caught.value, NotFittedError)
    with pytest.raises(NotFittedError):
        BackpropClassifier().get_feature_names_out()


@pytest.mark.parametrize(
    "value",
    [[1], [], [np.ones(2)], [np.ones(3), np.ones(3)], [[1.0, 1.0, 1.0]], [-np.ones(3)],
     [np.full(3, np.nan)], [np.array(["a"] * 3)], [None], 5, None],
    ids=str,
)  # fmt: skip
def test_weights_of_classes(value):
    original, X, y = fit("multiclass", class_weight="balanced")
    for call in (ASKED["inspection"], ASKED["diagnose"], ASKED["save"], CALLS["warm start"]):
        model = copy.deepcopy(original)
        model._class_weights = value
        with pytest.raises(ValueError, match="fitted attribute _class_weights must be"):
            call(model, X, y)


def test_right_weights_of_classes():
    for case, weights in (("binary", {0: 1, 1: 2}), ("multilabel", [{0: 1, 1: 2}] * 3)):
        model, X, y = fit(case, class_weight=weights, tol=10.0)
        assert fastbp.inspection.loss_and_gradients(model, X, y)
    model, X, y = fit("real")
    model._class_weights = [np.ones(2)]
    with pytest.raises(ValueError, match="fitted attribute _class_weights must be absent"):
        fastbp.inspection.loss_and_gradients(model, X, y)


STATE_OF_TRAINING = {
    "_optimizer": {
        "slots": [np.ones(3), np.ones((2, 5)), "x", [[1.0]]],
        "weights": [np.ones(3), 5],
        "t": [-1, 1.5, "x", 2**70],
        "step": [-1, None],
        "solver": ["nothing", None, []],
        "hyperparameters": [None, {"beta_1": 2.0}, {"beta_1": "x"}, {"other": 1}],
        "schedule": ["nothing", None],
        "schedule_parameters": [None, {"x": 1}],
        "learning_rate": ["x", None],
        "dropout_seed": [-1, 2.5],
        "ema_decay": [2.0, "x"],
    },
    "_place": {
        "order": [None, np.arange(40.0), np.full(40, -1), np.full(40, 10**9)],
        "held_out": [np.arange(1.0), "x", np.array([10**9])],
        "params": [np.ones(3), "x"],
        "stream": [
            None,
            {},
            {"bit_generator": "MT19937", "state": {"key": np.zeros(3, np.uint32), "pos": 0}},
            {"bit_generator": "MT19937", "state": {"key": np.zeros(624, np.uint32), "pos": 10**9}},
        ],
    },
}
INNER = [
    (name, key, value)
    for name, inner in STATE_OF_TRAINING.items()
    for key, values in inner.items()
    for value in values
]


def test_state_of_training(engine_name):
    """What goes into the engine, or into NumPy's bit generator, which looks at nothing."""
    X, y = DATA["binary"]
    original, X, y = fit("binary", engine=engine_name, warm_start="resume")
    for name, key, value in INNER:
        for call in (CALLS["partial_fit"], CALLS["resume"], ASKED["save"]):
            model = copy.deepcopy(original)
            vars(model)[name][key] = value
            with pytest.raises(ValueError, match=r"optimizer's state|place where training"):
                call(model, X, y)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("t_", "x"), ("t_", -1), ("loss_curve_", None), ("loss_curve_", 5), ("best_loss_", "x"),
        ("_no_improvement_count", None), ("_optimizer", 5), ("_place", {}),
    ],
)  # fmt: skip
def test_history(name, value):
    model, X, y = fit("binary")
    setattr(model, name, value)
    for call in (CALLS["partial_fit"], CALLS["warm start"], ASKED["to_sklearn"]):
        with pytest.raises(ValueError, match=f"fitted attribute {name} must be"):
            call(copy.deepcopy(model), X, y)


@pytest.mark.parametrize("activation", ["sine", 5, None, ["relu"], ["relu", "sine"]])
def test_an_activation_set_after_fit(activation):
    model, X, _ = fit("multiclass")
    model.set_params(activation=activation)
    with pytest.raises(ValueError, match=r"activation (must be|has 1 entries)"):
        model.predict(X)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("coefs_", [np.ones((4, 2))]),
        ("intercepts_", None),
        ("n_outputs_", 7),
        ("n_features_in_", 9),
        ("classes_", np.arange(5)),
        ("out_activation_", "sine"),
    ],
)
def test_scikit_learns_mlp_may_be_edited_too(name, value):
    model, _, _ = fit("multiclass")
    mlp = model.to_sklearn()
    setattr(mlp, name, value)
    with pytest.raises(ValueError, match="fitted attribute"):
        BackpropClassifier.from_sklearn(mlp)


def test_a_layer_more_in_both():
    """The number of layers is that of the arrays."""
    model, X, _ = fit("multiclass", hidden_layer_sizes=(6,), activation="identity")
    wanted = model.predict_proba(X)
    model.coefs_.insert(1, np.eye(6, dtype=np.float32))
    model.intercepts_.insert(1, np.zeros(6, np.float32))
    np.testing.assert_allclose(model.predict_proba(X), wanted, rtol=1e-5)
    mlp = model.to_sklearn()
    np.testing.assert_allclose(mlp.predict_proba(X), wanted, rtol=1e-5)
    assert BackpropClassifier.from_sklearn(mlp).n_layers_ == 4
