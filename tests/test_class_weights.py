"""`class_weight`: the weights of scikit-learn's `compute_sample_weight`, wherever weights count."""

import re
import warnings

import numpy as np
import pytest
from problems import draw_classes, draw_labels
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import KFold, cross_val_score
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight

from fastbp import BackpropClassifier

BASE = dict(hidden_layer_sizes=(6,), batch_size=16, max_iter=6, tol=0.0, random_state=0)

DATA = {
    "binary": lambda: draw_classes(70, 5, 2),
    "multiclass": lambda: draw_classes(70, 5, 3),
    "strings": lambda: names(*draw_classes(70, 5, 3)),
    "multilabel": lambda: draw_labels(70, 5, 3),
}
WEIGHTS = {
    "binary": {0: 1.0, 1: 5.0},
    "multiclass": {0: 0.5, 2: 3.0},  # a class that is not named weighs 1
    "strings": {"a": 2, "b": 0, "c": 1},
    "multilabel": [{0: 1, 1: 4}, {1: 2.0}, {}],
}
CASES = [(kind, weight) for kind in DATA for weight in (WEIGHTS[kind], "balanced")]


def names(X, y):
    """Return the classes as strings."""
    return X, np.array(["a", "b", "c"])[y]


def fit(X, y, **options):
    """Fit for a few epochs."""
    params = {name: options.pop(name) for name in list(options) if name not in FIT_ARGUMENTS}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return BackpropClassifier(**{**BASE, **params}).fit(X, y, **options)


FIT_ARGUMENTS = ("sample_weight", "X_val", "y_val", "sample_weight_val")


def expected_weights(class_weight, y):
    """Return scikit-learn's weights; it wants every class named where one is."""
    if isinstance(class_weight, list):
        class_weight = [{0: 1, 1: 1, **names} for names in class_weight]
    elif isinstance(class_weight, dict):
        class_weight = {**dict.fromkeys(np.unique(y).tolist(), 1), **class_weight}
    return compute_sample_weight(class_weight, y)


def assert_same(left, right):
    """Two models of the same bits and history."""
    assert left.loss_ == right.loss_
    assert left.validation_scores_ == right.validation_scores_
    assert left.validation_loss_curve_ == right.validation_loss_curve_
    for a, b in zip(left.coefs_ + left.intercepts_, right.coefs_ + right.intercepts_, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize(("kind", "class_weight"), CASES, ids=str)
def test_class_weights_are_sample_weights(kind, class_weight, early_stopping, engine_name):
    """In training, and in the loss and score of the part that early stopping sets aside."""
    X, y = DATA[kind]()
    params = dict(early_stopping=early_stopping, validation_fraction=0.3, engine=engine_name)
    left = fit(X, y, class_weight=class_weight, **params)
    weighted = fit(X, y, sample_weight=expected_weights(class_weight, y), **params)
    assert_same(left, weighted)
    plain = fit(X, y, **params)
    assert any(not np.array_equal(a, b) for a, b in zip(left.coefs_, plain.coefs_, strict=True))


@pytest.mark.parametrize(("kind", "class_weight"), CASES, ids=str)
def test_class_weights_multiply_sample_weights(kind, class_weight):
    X, y = DATA[kind]()
    own = np.random.default_rng(0).uniform(0.2, 2.0, len(X))
    left = fit(X, y, class_weight=class_weight, sample_weight=own, dtype="float64")
    weight = own * expected_weights(class_weight, y)
    right = fit(X, y, sample_weight=weight, dtype="float64")
    for a, b in zip(left.coefs_, right.coefs_, strict=True):  # of products in another order
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("make", [sparse.csr_array, np.asarray])
@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
def test_every_solver_and_format(solver, make):
    X, y = DATA["multiclass"]()
    params = dict(solver=solver, warm_start=True)
    left = fit(make(X), y, class_weight="balanced", **params)
    right = fit(make(X), y, sample_weight=expected_weights("balanced", y), **params)
    for _ in range(2):
        for a, b in zip(left.coefs_, right.coefs_, strict=True):
            np.testing.assert_array_equal(a, b)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            left.fit(make(X), y)
            right.fit(make(X), y, sample_weight=expected_weights("balanced", y))


@pytest.mark.parametrize("kind", DATA)
def test_partial_fit_takes_class_weights(kind):
    X, y = DATA[kind]()
    classes = np.arange(3) if kind == "multilabel" else np.unique(y)
    left = BackpropClassifier(**BASE, class_weight=WEIGHTS[kind])
    right = BackpropClassifier(**BASE)
    weight = expected_weights(WEIGHTS[kind], y)
    for part in (slice(0, 40), slice(30, 70)):
        left.partial_fit(X[part], y[part], classes=classes)
        right.partial_fit(X[part], y[part], weight[part], classes=classes)
        assert_same(left, right)


def test_balanced_is_refused_in_partial_fit():
    X, y = DATA["binary"]()
    model = BackpropClassifier(**BASE, class_weight="balanced")
    with pytest.raises(ValueError, match=r"balanced.*partial_fit.*compute_class_weight"):
        model.partial_fit(X, y, classes=[0, 1])
    assert not hasattr(model, "coefs_")


def test_balanced_weights_of_the_training_data_serve_validation_data():
    X, y = draw_classes(120, 5, 3)
    X_val, y_val = X[:40], np.minimum(y[:40], 1)  # other frequencies, and a class is missing
    model = fit(
        X[40:], y[40:], class_weight="balanced", X_val=X_val, y_val=y_val, dtype="float64"
    )  # fmt: skip
    weight = compute_class_weight("balanced", classes=np.arange(3), y=y[40:])[y_val]
    score = accuracy_score(y_val, model.predict(X_val), sample_weight=weight)
    assert model.best_validation_score_ == pytest.approx(score, rel=1e-12)
    loss = log_loss(y_val, model.predict_proba(X_val), sample_weight=weight, labels=[0, 1, 2])
    assert model.validation_loss_curve_[model.best_iter_ - 1] == pytest.approx(loss, rel=1e-10)


def test_a_class_of_weight_zero_is_not_learned():
    X, y = DATA["multiclass"]()
    other = np.where(y == 2, np.random.default_rng(0).integers(0, 3, 70), y)
    other[y != 2] = y[y != 2]
    model = fit(X, y, class_weight={2: 0.0}, shuffle=False, batch_size=70)
    X = X.copy()
    X[y == 2] += 100.0
    assert_same(fit(X, y, class_weight={2: 0.0}, shuffle=False, batch_size=70), model)


EXTRA = {  # of classes that a fold or a label may lack: scikit-learn's rule
    "binary": {0: 1.0, 1: 5.0, 2: 9.0},
    "multiclass": {2: 3.0, 7: 1.0, 0: 0.5, 1: 1.0, "a": 2.0},
    "strings": {"a": 2, "b": 0, "c": 1, "d": 4, 0: 3},
    "multilabel": [{0: 1, 1: 4, 2: 9}, {1: 2.0}, {}],
}


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("kind", DATA)
def test_names_of_absent_classes_do_no_harm_where_every_class_has_a_name(kind, method):
    X, y = DATA[kind]()
    left, right = BackpropClassifier(**BASE, class_weight=EXTRA[kind]), BackpropClassifier(**BASE)
    classes = np.arange(3) if kind == "multilabel" else np.unique(y)
    classes = {} if method == "fit" else {"classes": classes}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        getattr(left, method)(X, y, **classes)
        getattr(right, method)(X, y, sample_weight=expected_weights(EXTRA[kind], y), **classes)
    assert_same(left, right)


def test_a_fold_lacks_a_class():
    X, y = draw_classes(60, 4, 3)
    order = np.argsort(y, kind="stable")
    weights = {0: 1.0, 1: 2.0, 2: 9.0}
    model = BackpropClassifier(**BASE, class_weight=weights)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        scores = cross_val_score(model, X[order], y[order], cv=KFold(3), error_score="raise")
    assert scores.shape == (3,)


DAYS = np.array(["2020-01-01", "2020-06-01", "2021-01-01"], "datetime64[D]")
NAMES = {  # classes, and what may name each of them
    "days": (DAYS, list(DAYS)),
    "days as nanoseconds": (DAYS.astype("datetime64[ns]"), list(DAYS)),
    "nanoseconds as days": (DAYS, list(DAYS.astype("datetime64[ns]"))),
    "datetime.date": (DAYS.astype("datetime64[s]"), DAYS.tolist()),
    "durations": (np.array([1, 2, 30], "m8[h]"), list(np.array([1, 2, 30], "m8[h]"))),
    "int8": (np.array([-1, 0, 5], np.int8), [-1, 0.0, np.int64(5)]),
    "integers by NumPy's": (np.array([-1, 0, 5]), list(np.array([-1, 0, 5], np.int8))),
    "uint64": (np.array([0, 1, 2**63], np.uint64), [0, 1, 2**63]),
    "floats": (np.array([0.0, 1.0, 2.0]), [0, True, np.float32(2)]),
    "strings": (np.array(["a", "bb", "c"]), ["a", np.str_("bb"), "c"]),
    "objects": (np.array(["a", "bb", "c"], dtype=object), ["a", "bb", "c"]),
    "digits as strings": (np.array(["0", "1", "2"]), ["0", "1", "2"]),
    "bools": (np.array([False, True]), [0, np.True_]),
    "integers by bools": (np.array([0, 1]), [False, True]),
}


@pytest.mark.parametrize("kind", NAMES)
def test_labels_of_any_dtype(kind):
    check_names(*NAMES[kind])


def test_labels_of_pandas():
    pd = pytest.importorskip("pandas")
    stamps = pd.to_datetime(DAYS)
    hours = [pd.Timedelta(hours=h) for h in (1, 2, 30)]
    for classes, names in (
        (DAYS.astype("datetime64[ns]"), list(stamps)), (pd.Series(stamps), list(stamps)),
        (np.array([1, 2, 30], "m8[h]"), hours),
    ):  # fmt: skip
        check_names(classes, names)


def check_names(classes, names):
    """Classes may be named so, all or one of them; and a name that is none is told."""
    X, codes = draw_classes(60, 4, len(classes))
    y = np.asarray(classes)[codes]
    values = [2.0, 0.5, 3.0][: len(classes)]
    for n_named in (len(classes), 1):
        weights = dict(zip(names[:n_named], values, strict=False))
        named = np.array([*values[:n_named], 1.0, 1.0])[codes]
        assert_same(fit(X, y, class_weight=weights), fit(X, y, sample_weight=named))
    with pytest.raises(ValueError, match=r"class_weight names \['other'\].*leaves out") as caught:
        fit(X, y, class_weight={names[0]: 2.0, "other": 1.0})
    assert "np." not in str(caught.value)
    assert all(str(label)[:10] in str(caught.value) for label in np.asarray(classes))


def test_integers_do_not_name_digits():
    X, y = draw_classes(60, 4, 2)
    with pytest.raises(ValueError, match=r"names \[0, 1\].*leaves out \['0', '1'\].*same type"):
        fit(X, y.astype(str), class_weight={np.int8(0): 1, 1: 2})


BAD = {
    "unknown class": ("multiclass", {0: 1, 7: 2}, ["class_weight", "7", r"\[0, 1, 2\]"]),
    "a name beside one that is known": ("binary", {0: 1, 2: 9}, ["2", "leaves out", r"\[1\]"]),
    "bad weight of an absent class": ("binary", {0: 1, 1: 1, 2: -9}, ["2", "-9", ">= 0"]),
    "number for a string": ("strings", {0: 1.0}, ["class_weight", "0", "'a'"]),
    "negative": ("multiclass", {0: -1.0}, ["class_weight", "0", r"-1\.0", ">= 0"]),
    "NaN": ("multiclass", {1: np.nan}, ["class_weight", "nan", "finite"]),
    "infinite": ("binary", {1: np.inf}, ["class_weight", "inf", "finite"]),
    "not a number": ("binary", {1: "2"}, ["class_weight", "'2'"]),
    "all zero": ("binary", {0: 0, 1: 0}, ["class_weight", "above 0"]),
    "beyond float32": ("binary", {0: 1e39}, ["class_weight", "float32"]),
    "list for one label": ("binary", [{0: 1}], ["class_weight", "dict"]),
    "dict for many labels": ("multilabel", {0: 1}, ["class_weight", "list"]),
    "too few dicts": ("multilabel", [{}, {}], ["class_weight", "2 dicts", "3 labels"]),
    "no dict in the list": ("multilabel", [{}, {}, 3], ["class_weight", "dict", "3"]),
    "label that is not 0 or 1": ("multilabel", [{2: 1}, {}, {}], ["class_weight", "2"]),
}


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("name", BAD)
def test_bad_class_weights(name, method):
    kind, class_weight, words = BAD[name]
    X, y = DATA[kind]()
    model = fit(X, y)
    expected = model.predict_proba(X)
    for estimator in (model.set_params(class_weight=class_weight), clone(model)):
        known = hasattr(estimator, "coefs_") or method == "fit"
        classes = np.arange(3) if kind == "multilabel" else np.unique(y)
        with pytest.raises(ValueError, match=re.escape("class_weight")) as caught:
            getattr(estimator, method)(X, y, **({} if known else {"classes": classes}))
        for word in words:
            assert re.search(word, str(caught.value))
    np.testing.assert_array_equal(model.predict_proba(X), expected)
