"""What messages call things: gaps, infinities, text and dates by column; labels; no vain advice."""

import datetime
import decimal

import numpy as np
import pytest
import scipy.sparse
import sklearn
from sklearn.neural_network import MLPClassifier, MLPRegressor

from fastbp import BackpropClassifier, BackpropRegressor, losses
from fastbp.inspection import diagnose, symptoms
from fastbp.inspection.batch import Batch, Network
from fastbp.losses import Gamma
from fastbp.tables import write_labels

pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

BOTH = (BackpropClassifier, BackpropRegressor)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(30, 2))
NUMBERS = X[:, 0].tolist()
WIDE = bool(np.finfo(np.longdouble).max > np.finfo(np.float64).max)


def put(values, value, at=3):
    values = list(values)
    values[at] = value
    return values


def as_objects(values):
    array = np.empty(len(values), object)
    array[:] = values
    return array


def message_of(call, error=ValueError):
    with pytest.raises(error) as caught:
        call()
    return str(caught.value)


@pytest.fixture(params=[False, True], ids=["checked", "assume_finite"])
def assume_finite(request):
    with sklearn.config_context(assume_finite=request.param):
        yield


# --- y --------------------------------------------------------------------------------------------

TEXTS = ["a", "b"] * 15
GAPS = {
    "None in a list": (put(NUMBERS, None), "None in row 3"),
    "None among objects": (as_objects(put(NUMBERS, None)), "None in row 3"),
    "None among text": (put(TEXTS, None), "None in row 3"),
    "NaN": (np.array(put(NUMBERS, np.nan)), "NaN"),
    "NaN in a list": (put(NUMBERS, np.nan), "NaN"),
    "NaN among objects": (as_objects(put(TEXTS, np.nan)), "NaN in row 3"),
    "NaN of long doubles": (np.array(put(NUMBERS, np.nan), np.longdouble), "NaN"),
    "infinity": (np.array(put(NUMBERS, np.inf)), "infinity"),
    "minus infinity": (put(NUMBERS, -np.inf), "infinity"),
    "two columns": (np.column_stack([NUMBERS, put(NUMBERS, np.nan)]), "NaN"),
    "NA of pandas": (pd.array(put(NUMBERS, pd.NA), dtype="Float64"), "NaN"),
    "NA of an Int64": (pd.Series(put([1, 2] * 15, None), dtype="Int64"), "NaN"),
    "NA of a boolean": (pd.Series(put([True, False] * 15, None), dtype="boolean"), "<NA> in row 3"),
    "NA among objects": (pd.Series(put(NUMBERS, pd.NA), dtype=object), "<NA> in row 3"),
    "NaT among objects": (pd.Series(put(NUMBERS, pd.NaT), dtype=object), "NaT in row 3"),
    "a missing text of pandas": (pd.Series(put(TEXTS, None)), "N"),
    "a missing category": (pd.Categorical(put(TEXTS, None)), "NaN in row 3"),
    "a column of a frame": (pd.DataFrame({"y": put(NUMBERS, None)}), "NaN"),
    "null of polars": (pl.Series(put(NUMBERS, None)), "NaN"),
    "null among text of polars": (pl.Series(put(TEXTS, None)), "None in row 3"),
}


@pytest.mark.parametrize("kind", GAPS)
@pytest.mark.usefixtures("assume_finite")
def test_gaps_in_y_are_called_what_they_are(kind):
    y, what = GAPS[kind]
    for model in (
        BackpropClassifier(),
        BackpropRegressor(),
        BackpropRegressor(dtype="float64"),
        BackpropRegressor(scale_targets=True),
    ):
        assert message_of(lambda: model.fit(X, y)).startswith(f"Input y contains {what}")  # noqa: B023


@pytest.mark.parametrize("kind", GAPS)
def test_gaps_in_y_val_are_called_what_they_are(kind):
    y, what = GAPS[kind]
    whole = np.transpose([NUMBERS, NUMBERS]) if kind == "two columns" else NUMBERS
    message = message_of(lambda: BackpropRegressor().fit(X, whole, X_val=X, y_val=y))
    assert message.startswith(f"y_val cannot be used: Input y contains {what}")


def test_objects_hold_infinity_too():
    for dtype in ("float32", "float64"):
        model = BackpropRegressor(dtype=dtype)
        assert "y contains infinity" in message_of(
            lambda: model.fit(X, as_objects(put(NUMBERS, np.inf)))  # noqa: B023
        )


@pytest.mark.usefixtures("assume_finite")
@pytest.mark.parametrize(
    ("weights", "what"),
    [
        (put(np.ones(30), np.nan), "sample_weight contains NaN"),
        (put(np.ones(30), np.inf), "sample_weight contains infinity"),
        (put(np.ones(30), None), "sample_weight contains None in row 3"),
        (pd.Series(put(np.ones(30), pd.NA), dtype=object), "sample_weight contains <NA> in row 3"),
    ],
)
def test_gaps_in_weights_are_called_what_they_are(weights, what):
    assert what in message_of(lambda: BackpropRegressor().fit(X, NUMBERS, weights))


def test_weights_in_a_list_keep_the_digits_of_float64():
    weights = RNG.uniform(1, 2, 30)
    models = [
        BackpropRegressor(hidden_layer_sizes=(3,), dtype="float64", max_iter=2, random_state=0).fit(
            X, NUMBERS, w
        )
        for w in (weights, weights.tolist())
    ]
    np.testing.assert_array_equal(models[0].coefs_[0], models[1].coefs_[0])


BEYOND_32 = [1e39, -1e300, 10**40]
BEYOND_64 = [10**400] + [np.longdouble("1e400")] * WIDE


@pytest.mark.parametrize("value", BEYOND_32, ids=str)
def test_targets_beyond_float32_may_use_float64(value):
    for y in (put(NUMBERS, value), as_objects(put(NUMBERS, value))):
        message = message_of(lambda: BackpropRegressor().fit(X, y))  # noqa: B023
        assert "y has values beyond the range of float32" in message
        assert "dtype='float64'" in message


@pytest.mark.parametrize("value", BEYOND_64, ids=str)
@pytest.mark.parametrize("settings", [{}, {"dtype": "float64"}, {"scale_targets": True}], ids=str)
def test_targets_beyond_float64_get_no_vain_advice(value, settings):
    y = put(NUMBERS, value)
    y = as_objects(y) if isinstance(value, int) else np.array(y, np.longdouble)
    message = message_of(lambda: BackpropRegressor(**settings).fit(X, y))
    assert "y has values beyond the range of float" in message
    assert "dtype=" not in message
    assert "scale_targets" not in message
    assert "Divide y by a constant" in message


def test_targets_and_weights_that_are_0_to_the_dtype_get_no_vain_advice():
    y, tiny = np.full(30, 1e-310), np.full(30, 1e-310)
    message = message_of(lambda: BackpropRegressor(Gamma(), dtype="float64").fit(X, y))
    assert "is 0 in float64. Scale y." in message
    message = message_of(lambda: BackpropRegressor(Gamma()).fit(X, y))
    assert "is 0 in float32. Scale y, or use dtype='float64'." in message
    message = message_of(lambda: BackpropRegressor(dtype="float64").fit(X, NUMBERS, tiny))
    assert message.endswith("beyond the range of float64. Scale the weights.")
    message = message_of(lambda: BackpropRegressor().fit(X, NUMBERS, tiny))
    assert message.endswith("Scale the weights, or use dtype='float64'.")


def test_sparse_y_with_one_column_is_refused_in_the_words_of_scikit_learn():
    y = scipy.sparse.csr_array(np.array([[0], [1]] * 15))
    for kind, peer in ((BackpropClassifier, MLPClassifier), (BackpropRegressor, MLPRegressor)):
        wanted = message_of(lambda: peer().fit(X, y), TypeError)  # noqa: B023
        assert message_of(lambda: kind().fit(X, y), TypeError) == wanted  # noqa: B023
    two = scipy.sparse.csr_array(np.eye(2)[[0, 1] * 15])
    assert message_of(lambda: BackpropRegressor().fit(X, two), TypeError) == wanted


def test_a_y_that_is_no_number_shows_where():
    for y, what in (
        (TEXTS, "Got dtype <U1 instead ('a' in row 0)"),
        (as_objects(put(NUMBERS, "seven")), "Got dtype object instead ('seven' in row 3)"),
        (as_objects(put(NUMBERS, {})), "Got dtype object instead ({} in row 3)"),
    ):
        assert f"y must be numeric. {what}." in message_of(lambda: BackpropRegressor().fit(X, y))  # noqa: B023
    message = message_of(lambda: BackpropClassifier().fit(X, as_objects(put(NUMBERS, "seven"))))
    assert message.startswith("Unknown label type: unknown")
    assert "The labels are of the types float, str; make them one type." in message


# --- X --------------------------------------------------------------------------------------------

DAYS = pd.to_datetime(["2020-01-01", "2021-02-03"] * 15)
SPANS = pd.to_timedelta([1, 2] * 15, unit="D")


def frame(values, name="odd"):
    return pd.DataFrame({"age": NUMBERS, name: values})


def with_object(value):
    objects = X.astype(object)
    objects[3, 1] = value
    return objects


TEXT, DATES = "holds text", "holds dates or times"
UNUSABLE = {
    "text": (frame(TEXTS), "1 ('odd')", TEXT, "'a', in row 0"),
    "text of objects": (frame(TEXTS).astype(object), "1 ('odd')", TEXT, "'a', in row 0"),
    "text with a gap": (frame(put(TEXTS, None, 0)), "1 ('odd')", "missing value", "in row 0"),
    "text dtype": (frame(pd.array(TEXTS, dtype="string")), "1 ('odd')", TEXT, "'a', in row 0"),
    "categories": (frame(pd.Categorical(TEXTS)), "1 ('odd')", TEXT, "'a', in row 0"),
    "a column without a name": (frame(TEXTS, 7), "1", TEXT, "'a', in row 0"),
    "polars text": (pl.DataFrame({"a": NUMBERS, "b": TEXTS}), "1 ('b')", TEXT, "'a', in row 0"),
    "one text": (with_object("Paris"), "1", TEXT, "'Paris', in row 3"),
    "a list": ([[1.0, "x"]] * 30, "1", TEXT, "'x', in row 0"),
    "array of text": (np.array([["p", "q"]] * 30), "0", TEXT, "'p', in row 0"),
    "bytes": (np.array([[b"p", b"q"]] * 30), "0", TEXT, "b'p', in row 0"),
    "numbers as text": (X.astype(str), "0", TEXT, "astype(float)"),
    "dates": (frame(DAYS), "1 ('odd')", DATES, "datetime64"),
    "dates alone": (pd.DataFrame({"a": DAYS, "b": DAYS}), "0 ('a')", DATES, "datetime64"),
    "dates with zones": (frame(DAYS.tz_localize("UTC")), "1 ('odd')", DATES, "UTC"),
    "spans": (frame(SPANS), "1 ('odd')", DATES, "timedelta64"),
    "periods": (frame(DAYS.to_period("M")), "1 ('odd')", DATES, "period"),
    "dates among objects": (with_object(DAYS[0]), "1", DATES, "Timestamp in row 3"),
    "a date among objects": (with_object(datetime.date(2020, 1, 1)), "1", DATES, "date in row 3"),
    "array of dates": (np.array([DAYS, DAYS], "M8[ns]").T, "0", DATES, "datetime64[ns]"),
    "array of spans": (np.array([SPANS, SPANS], "m8[ns]").T, "0", DATES, "timedelta64[ns]"),
    "polars dates": (
        pl.DataFrame({"a": NUMBERS, "b": list(DAYS.to_pydatetime())}), "1 ('b')", DATES, "Datetime",
    ),
    "polars spans": (
        pl.DataFrame({"a": NUMBERS, "b": list(SPANS.to_pytimedelta())}), "1 ('b')", DATES,
        "Duration",
    ),
    "NA": (with_object(pd.NA), "1", "has a missing value", "<NA> in row 3"),
    "a vast int": (with_object(10**400), "1", "beyond the range of float64", "row 3"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:X has feature names")
@pytest.mark.parametrize("kind", UNUSABLE)
def test_text_and_dates_in_X_are_named_by_column(kind):
    bad, column, what, where = UNUSABLE[kind]
    fitted = BackpropRegressor(hidden_layer_sizes=(2,), max_iter=1).fit(X, NUMBERS)
    for call, prefix in (
        (lambda: BackpropRegressor().fit(bad, NUMBERS), ""),
        (lambda: BackpropRegressor(dtype="float64", solver="lbfgs").fit(bad, NUMBERS), ""),
        (lambda: BackpropRegressor().partial_fit(bad, NUMBERS), ""),
        (lambda: BackpropRegressor().fit(X, NUMBERS, X_val=bad, y_val=NUMBERS), "X_val cannot"),
    ):
        message = message_of(call)
        assert message.startswith(prefix or f"Column {column} of X ")
        assert f"Column {column} of X " in message
        assert what in message
        assert where in message
    assert message_of(lambda: fitted.predict(bad)).startswith(f"Column {column} of X ")


def test_numbers_that_are_objects_are_numbers():
    peer = BackpropRegressor(hidden_layer_sizes=(2,), max_iter=1, random_state=0).fit(
        X.round(3), NUMBERS
    )
    for same in (
        X.round(3).astype(str).astype(object),
        np.vectorize(lambda x: decimal.Decimal(repr(float(x))), otypes=[object])(X.round(3)),
    ):
        model = BackpropRegressor(hidden_layer_sizes=(2,), max_iter=1, random_state=0).fit(
            same, NUMBERS
        )
        np.testing.assert_array_equal(model.coefs_[0], peer.coefs_[0])


@pytest.mark.usefixtures("assume_finite")
def test_gaps_in_X_are_called_what_they_are():
    for value, what in ((np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity")):
        bad = X.copy()
        bad[3, 1] = value
        for form in (
            bad,
            bad.tolist(),
            bad.astype(object),
            bad.astype(np.longdouble),
            scipy.sparse.csr_array(bad),
            pd.DataFrame(bad, columns=["a", "b"]),
        ):
            message = message_of(lambda: BackpropRegressor().fit(form, NUMBERS))  # noqa: B023
            assert message.startswith(f"Input X contains {what}")
    nothing = [[None, 1.0], *X[1:].tolist()]
    assert "X contains NaN" in message_of(lambda: BackpropRegressor().fit(nothing, NUMBERS))


@pytest.mark.skipif(not WIDE, reason="long doubles are doubles here")
@pytest.mark.parametrize("make", [np.array, scipy.sparse.csr_array])
def test_features_beyond_float64_get_no_vain_advice(make):
    bad = X.astype(np.longdouble)
    bad[3, 1] = np.longdouble("1e400")
    for settings in ({}, {"dtype": "float64"}, {"dtype": None}, {"solver": "lbfgs"}):
        message = message_of(lambda: BackpropRegressor(**settings).fit(make(bad), NUMBERS))  # noqa: B023
        assert "Column 1 of X has values beyond the range of float" in message
        assert message.endswith("Scale the column.")
    bad[3, 1] = 1e300
    message = message_of(lambda: BackpropRegressor().fit(make(bad), NUMBERS))
    assert message.endswith("Scale the column, or use dtype='float64'.")


# --- labels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "written"),
    [
        (np.array([0.0, 1.5]), "[0.0, 1.5]"),
        (np.array([0, 1]), "[0, 1]"),
        (np.array([False, True]), "[False, True]"),
        (np.array(["no", "yes"]), "['no', 'yes']"),
        (np.array(["2020-01-01", "2020-01-02"], "M8[ns]"), "[2020-01-01, 2020-01-02]"),
        (np.array([1], "m8[D]"), "[1 days]"),
        (np.arange(25), f"[{', '.join(map(str, range(20)))}, ...]"),
    ],
)
def test_labels_are_written_as_users_write_them(labels, written):
    assert write_labels(labels) == written


def test_messages_show_labels_and_no_codes():
    text, wholes = np.array(["no", "yes"] * 15), np.array([0.0, 5.0] * 15)
    rare = np.array(["no"] * 29 + ["yes"])
    model = BackpropClassifier((2,), max_iter=1, warm_start=True).fit(X, text)
    message = message_of(lambda: BackpropClassifier(early_stopping=True).fit(X, rare))
    assert "The least populated class in y, 'yes', has only 1 member" in message
    message = message_of(lambda: model.fit(X, np.array(["no", "maybe"] * 15)))
    assert "Previously got ['no', 'yes'], `y` has ['maybe', 'no']" in message
    message = message_of(lambda: model.partial_fit(X, wholes))
    assert "`self.classes_` has ['no', 'yes']. 'y' has [0.0, 5.0]." in message
    message = message_of(lambda: model.partial_fit(X, text, classes=np.array(["no", "oh"])))
    assert "`classes=['no', 'oh']`" in message
    assert "was: ['no', 'yes']" in message
    weights = {np.float64(7.0): 1.0}
    message = message_of(lambda: BackpropClassifier(class_weight=weights).fit(X, wholes))
    assert "class_weight names [7.0], not in y, and leaves out [0.0, 5.0]" in message
    weights = {0.0: np.float64(-1.0), 5.0: 1.0}
    message = message_of(lambda: BackpropClassifier(class_weight=weights).fit(X, wholes))
    assert "class_weight of 0.0 must be a finite number >= 0. Got -1.0." in message


# --- advice that is in force already --------------------------------------------------------------


def test_scaled_targets_are_not_told_to_be_scaled():
    y = np.array(NUMBERS)
    model = BackpropRegressor(
        hidden_layer_sizes=(2,), scale_targets=True, warm_start=True, max_iter=1
    ).fit(X, y)
    with pytest.raises(ValueError, match="standard deviations from its mean") as caught:
        model.set_params(solver="sgd", learning_rate_init=1e20, max_iter=30).fit(X, 1e6 * y)
    assert "set scale_targets" not in str(caught.value)


def test_the_diagnosis_gives_no_advice_that_is_in_force():
    y, seen = X[:, 0] + RNG.normal(size=30), RNG.normal(size=(30, 2))
    settings = dict(
        hidden_layer_sizes=(50, 50), early_stopping=True, dropout=0.1, n_iter_no_change=200,
        learning_rate_init=0.05, random_state=0, max_grad_norm=1.0, init="he",
    )  # fmt: skip
    plain = BackpropRegressor(
        hidden_layer_sizes=(50, 50), learning_rate_init=0.05, random_state=0
    ).fit(X, y)
    model = BackpropRegressor(**settings).fit(X, y)
    for estimator, early, dropout in ((plain, True, "dropout"), (model, False, "more dropout")):
        text = symptoms._less_fitting(estimator)
        assert ("early_stopping=True" in text) is early
        assert dropout in text
    assert "early_stopping=True" not in str(diagnose(model, X, y, X_val=seen, y_val=-y))
    batch = Batch.of(Network.of(model), X, y, None)
    found = [symptoms.not_finite(batch, one, scaled=True).fix for one in (model, plain)]
    assert "a smaller max_grad_norm (now 1)" in found[0]
    assert "max_grad_norm=1" in found[1]
    far = [{"layer": "hidden 1", "delta_rms": 1e-9}, {"layer": "output", "delta_rms": 1.0}]
    (finding,) = symptoms.check_flow(far, model)
    assert "init='he'" not in finding.fix
    (finding,) = symptoms.check_flow(far, plain)
    assert "activation='relu' with init='he'" in finding.fix
    far[0]["delta_rms"] = 1e9
    (finding,) = symptoms.check_flow(far, model)
    assert "'he'" not in finding.fix
    assert "a smaller max_grad_norm" in finding.fix


@pytest.mark.parametrize(
    ("model", "params", "expected"),
    [
        (BackpropRegressor(loss="huber"), {"loss__delta": 2.0}, r"fastbp\.losses\.Huber\(\.\.\.\)"),
        (BackpropRegressor(), {"loss": "tweedie", "loss__power": 1.5}, r"losses\.Tweedie"),
        (
            BackpropClassifier(),
            {"solver__beta_1": 0.5},
            r"solver=fastbp\.optimizers\.Adam",
        ),
        (BackpropClassifier(), {"learning_rate__x": 1}, r"learning_rate='constant'"),
        (BackpropClassifier(), {"activation__x": 1}, "Set activation itself"),
    ],
)
def test_a_name_has_no_settings(model, params, expected):
    with pytest.raises(ValueError, match=expected):
        model.set_params(**params)


def test_an_object_and_its_setting_at_once():
    model = BackpropRegressor(loss="huber").set_params(loss=losses.Huber(), loss__delta=2.0)
    assert model.loss.delta == 2.0


def test_a_base_class_is_not_a_loss():
    with pytest.raises(ValueError, match="'loss' parameter"):
        BackpropRegressor(loss=losses.RegressionLoss()).fit([[0.0], [1.0]], [0.0, 1.0])


DATES = np.array(["2020-01-01", "NaT"] * 20, "M8[D]")


@pytest.mark.parametrize(
    "labels",
    [
        DATES, np.array([1, "NaT"] * 20, "m8[D]"), np.full(40, np.datetime64("NaT", "D")),
        DATES.astype(object), list(DATES), list(np.array([1, "NaT"] * 20, "m8[D]")),
    ],
    ids=["dates", "durations", "nothing else", "objects", "list", "list of durations"],
)  # fmt: skip
def test_labels_that_are_no_date_are_gaps(labels):
    """NaT is unequal to itself, and so would be in no list of classes."""
    X, days = np.random.RandomState(0).randn(40, 2), np.array(["2020-01-01", "2020-01-02"], "M8[D]")
    model = BackpropClassifier((4,), max_iter=2)
    with pytest.raises(ValueError, match=r"y contains (NaT|None) in row [01]"):
        model.fit(X, labels)
    with pytest.raises(ValueError, match=r"y contains (NaT|None) in row [01]"):
        model.partial_fit(X, labels, classes=days)
    with pytest.raises(ValueError, match=r"y_val.* contains (NaT|None) in row [01]"):
        model.fit(X, days[X[:, 0].argsort() % 2], X_val=X, y_val=labels)
    assert not hasattr(model, "classes_")


@pytest.mark.parametrize(
    ("classes", "what"), [(DATES[:2], "NaT"), ([0, np.nan], "NaN"), ([0, None], "None")]
)
def test_gaps_in_classes_are_called_what_they_are(classes, what):
    with pytest.raises(ValueError, match=f"classes contains {what}"):
        BackpropClassifier().partial_fit([[0.0], [1.0]], [0, 0], classes=classes)


def test_pandas_labels_that_are_no_date_are_gaps():
    pd = pytest.importorskip("pandas")
    X = np.random.RandomState(0).randn(40, 2)
    for labels in (pd.Series(DATES), pd.Series(DATES).dt.tz_localize("UTC")):
        with pytest.raises(ValueError, match="y contains NaT in row 1"):
            BackpropClassifier().fit(X, labels)


@pytest.mark.skipif(
    np.finfo(np.longdouble).max <= np.finfo(np.float64).max, reason="longdouble is float64"
)
@pytest.mark.parametrize("dtype", ["float32", "float64", None])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_what_is_beyond_float64_is_not_said_to_be_beyond_float32(solver, dtype):
    X = np.random.RandomState(0).randn(20, 2)
    huge = X.astype(np.longdouble) * np.longdouble("1e400")
    model = BackpropRegressor(solver=solver, dtype=dtype)
    for data in ((huge, X[:, 0]), (X, huge[:, 0]), (X, X[:, 0], np.abs(huge[:, 0]))):
        with pytest.raises(ValueError, match="float64"):
            model.fit(*data)
    mixed = np.c_[X[:, 0] * 1e300, huge[:, 0]]  # the first is beyond float32 only
    with pytest.raises(ValueError, match=r"Column 1 of X .*range of float64"):
        model.fit(mixed, X[:, 0])


@pytest.mark.parametrize("value", [np.inf, -np.inf, float("inf")])
def test_infinity_among_labels_that_are_objects(value):
    labels = np.array([0.0, 1, value, 1] * 5, object)
    with pytest.raises(ValueError, match="y contains infinity in row 2"):
        BackpropClassifier().fit(np.zeros((20, 1)), labels)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ([10**400] + [1] * 19, "beyond the range of float64"),
        (10**400, "beyond the range of float64"),
        (["x"] * 20, "must be numbers. Got 'x' in row 0"),
        (np.array([1.0] * 19 + ["x"], object), "must be numbers. Got 'x' in row 19"),
        ("x", "must be numbers. Got 'x'"),
        ([None] * 20, "contains None in row 0"),
        (np.full(20, np.timedelta64(1, "D")), "must be numbers. Got dates or durations"),
    ],
)
@pytest.mark.parametrize("kind", [BackpropClassifier, BackpropRegressor])
def test_weights_that_are_no_numbers_name_their_argument(kind, weights, words):
    X, y = np.random.RandomState(0).randn(20, 2), np.arange(20) % 2
    model = kind((4,) if kind is BackpropClassifier else "squared_error", tol=1.0, random_state=0)
    for method in (model.fit, model.fit(X, y).score):
        with pytest.raises(ValueError, match=f"sample_weight.*{words}"):
            method(X, y, sample_weight=weights)


def test_weights_in_text_count_as_their_numbers():
    X, y = np.random.RandomState(0).randn(20, 2), np.arange(20) % 2
    model = BackpropClassifier((4,), tol=1.0, random_state=0).fit(X, y)
    assert model.score(X, y, ["2"] * 20) == model.score(X, y)


@pytest.mark.parametrize(
    "weight", [np.timedelta64(1, "D"), np.timedelta64("NaT"), 10**400, np.longdouble("inf"), True]
)
def test_class_weights_that_are_no_finite_number_are_refused(weight):
    with pytest.raises(ValueError, match="class_weight of 0 must be a finite number"):
        BackpropClassifier(class_weight={0: weight, 1: 1}).fit([[0.0], [1.0]], [0, 1])


def test_a_duration_is_no_number():
    with pytest.raises(ValueError, match="'alpha' parameter"):
        BackpropRegressor(alpha=np.timedelta64(1, "D")).fit([[0.0], [1.0]], [0.0, 1.0])
