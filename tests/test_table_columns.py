"""Columns of frames and arrays: what each is taken for, alike in every library, and refusals."""

import datetime as dt
import decimal
import fractions
import re
import uuid

import numpy as np
import pytest

from fastbp import TableEncoder, TabularRegressor
from fastbp.tabular.columns import name_times, open_table

N = 60
RNG = np.random.default_rng(0)
DAYS = [dt.datetime(2020, 1, 1) + dt.timedelta(days=int(d), hours=int(d) % 24) for d in
        RNG.integers(0, 900, N)]  # fmt: skip


def with_gaps(values, every):
    return [None if i % every == 0 else value for i, value in enumerate(values)]


def make_columns():
    """Return one column of each kind as lists of Python's objects."""
    return {
        "float": with_gaps(RNG.standard_normal(N).tolist(), 7),
        "int": RNG.integers(0, 90, N).tolist(),
        "gappy": with_gaps(RNG.integers(0, 9, N).tolist(), 11),
        "text": with_gaps(RNG.choice(["a", "b", "c"], N).tolist(), 9),
        "flag": with_gaps([bool(b) for b in RNG.integers(0, 2, N)], 13),
        "when": with_gaps(DAYS, 8),
        "long": [dt.timedelta(seconds=int(s)) for s in RNG.integers(0, 99999, N)],
        "many": [f"level {i}" for i in RNG.integers(0, 30, N)],
    }


COLUMNS = make_columns()
TARGET = RNG.integers(0, 2, N)


def as_objects(columns):
    X = np.empty((len(next(iter(columns.values()))), len(columns)), object)
    for j, values in enumerate(columns.values()):
        X[:, j] = values
    return X


def in_pandas(columns):
    pd = pytest.importorskip("pandas")
    return pd.DataFrame({name: pd.Series(values) for name, values in columns.items()})


def in_pandas_objects(columns):
    return in_pandas(columns).astype(object)


def in_pandas_nullable(columns):
    frame = in_pandas(columns).convert_dtypes()
    return frame.astype({"text": "category"}) if "text" in frame else frame


def in_pandas_arrow(columns):
    pytest.importorskip("pyarrow")
    return in_pandas(columns).convert_dtypes(dtype_backend="pyarrow")


def in_polars(columns):
    return pytest.importorskip("polars").DataFrame(columns)


def in_polars_categories(columns):
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame(columns)
    return frame.with_columns(
        pl.col("text").cast(pl.Categorical), pl.col("flag"), pl.col("int").cast(pl.UInt8),
        pl.col("gappy").cast(pl.Decimal(10, 2)),
    )  # fmt: skip


def in_polars_enum(columns):
    pl = pytest.importorskip("polars")
    return pl.DataFrame(columns).with_columns(pl.col("text").cast(pl.Enum(["c", "b", "a"])))


def in_pyarrow(columns):
    return pytest.importorskip("pyarrow").table(columns)


def in_pyarrow_dictionaries(columns):
    pa = pytest.importorskip("pyarrow")
    table = pa.table(columns)
    place = table.column_names.index("text")
    return table.set_column(place, "text", table["text"].dictionary_encode())


MAKERS = [
    in_pandas, in_pandas_objects, in_pandas_nullable, in_pandas_arrow, in_polars,
    in_polars_categories, in_polars_enum, in_pyarrow, in_pyarrow_dictionaries,
]  # fmt: skip


@pytest.mark.parametrize("make", MAKERS)
def test_the_same_data_give_the_same_whatever_holds_them(make):
    X = as_objects(COLUMNS)
    reference = TableEncoder()
    expected = reference.fit_transform(X, TARGET)
    frame = make(COLUMNS)
    encoder = TableEncoder()
    np.testing.assert_array_equal(encoder.fit_transform(frame, TARGET), expected)
    assert encoder.feature_names_in_.tolist() == list(COLUMNS)
    for found, other in zip(encoder.columns_, reference.columns_):
        assert (found.kind, found.n_outputs, found.levels, found.has_missing) == (
            other.kind, other.n_outputs, other.levels, other.has_missing
        )  # fmt: skip
    kinds = ["number"] * 3 + ["category"] * 2 + ["date", "number", "category"]
    assert [column.kind for column in encoder.columns_] == kinds
    names = [re.sub(r"^x(\d)", lambda m: list(COLUMNS)[int(m[1])], name)
             for name in reference.get_feature_names_out()]  # fmt: skip
    assert encoder.get_feature_names_out().tolist() == names
    one = make({name: values[3:4] for name, values in COLUMNS.items()})  # other dtypes, perhaps
    np.testing.assert_array_equal(encoder.transform(one), reference.transform(X[3:4]))


@pytest.mark.parametrize("make", [in_pandas, in_polars, in_pyarrow])
def test_frames_stay_as_they_are(make):
    frame, same = make(COLUMNS), make(COLUMNS)
    TableEncoder().fit(frame, TARGET).transform(frame)
    assert frame.equals(same)


@pytest.mark.parametrize("make", [in_pandas, in_polars, in_pyarrow])
def test_what_was_fitted_on_one_library_encodes_another(make):
    columns = {name: COLUMNS[name] for name in ("float", "text", "when")}
    encoder = TableEncoder().fit(make(columns))
    for other in (in_pandas, in_polars, in_pyarrow):
        np.testing.assert_array_equal(
            encoder.transform(other(columns)), encoder.transform(make(columns))
        )


def test_an_arrow_batch_is_a_frame():
    pa = pytest.importorskip("pyarrow")
    columns = {name: COLUMNS[name] for name in ("float", "text")}
    batch = pa.RecordBatch.from_pydict(columns)
    encoder = TableEncoder().fit(batch)
    assert encoder.feature_names_in_.tolist() == ["float", "text"]
    np.testing.assert_array_equal(encoder.transform(batch), encoder.transform(pa.table(columns)))


# ----------------------------------------------------------------------- what columns are for


def kinds_of(X, **settings):
    encoder = TableEncoder(**settings).fit(X)
    return [column.kind for column in encoder.columns_]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2.5, None, np.int8(3)], "number"),
        ([decimal.Decimal("1.5"), 2, decimal.Decimal("NaN")], "number"),
        ([decimal.Decimal("1.5"), 2, decimal.Decimal("sNaN")], "number"),
        ([fractions.Fraction(1, 3), 2, 1.0], "number"),
        ([True, False, None], "category"),
        ([True, np.nan, False], "category"),
        ([1, "a", 1, "a", 2], "category"),
        (["a", "b", np.nan], "category"),
        ([dt.date(2020, 1, 1), dt.date(2021, 1, 1)], "date"),
        ([dt.datetime(2020, 1, 1), np.datetime64("2021-01-01"), None], "date"),
        ([dt.timedelta(1), np.timedelta64(2, "h"), None], "number"),
        ([dt.time(1, 30), dt.time(2), None], "number"),
        ([uuid.UUID(int=1), uuid.UUID(int=2)] * 5, "category"),
        ([None, None, np.nan], "constant"),
    ],
)
def test_objects_are_what_all_of_them_are(values, kind):
    X = np.empty((len(values), 2), object)
    X[:, 0] = values
    X[:, 1] = range(len(values))
    assert kinds_of(X, min_frequency=1)[0] == kind


def test_lists_keep_numbers_beside_texts():
    assert kinds_of([[1, "a"], [2, "b"], [3, "b"]] * 5) == ["number", "category"]
    assert kinds_of([["1", "a"], ["2", "b"]] * 5) == ["category", "category"]
    assert kinds_of(np.array([["1", "a"], ["2", "b"]] * 5)) == ["category", "category"]
    assert kinds_of(np.array([[True, False], [False, True]] * 5)) == ["category"] * 2


def test_pandas_dtypes():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(
        {
            "sparse": pd.arrays.SparseArray([0.0, 1, 2] * 5),
            "ordered": pd.Categorical([3, 1, 2] * 5, ordered=True),
            "unused": pd.Categorical(["a", "b", None] * 5, categories=["z", "b", "a"]),
            "nullable": pd.array([1, None, 3] * 5, "UInt16"),
            "zoned": pd.date_range("2020-01-01", periods=15, tz="Asia/Tokyo"),
            "interval": pd.cut(np.arange(15), 3),
        }
    )
    encoder = TableEncoder().fit(frame)
    assert [column.kind for column in encoder.columns_] == [
        "number", "category", "category", "number", "date", "category",
    ]  # fmt: skip
    assert encoder.columns_[1].levels == [1, 2, 3]
    assert encoder.columns_[2].levels == ["a", "b"]
    again = TableEncoder().fit(frame.assign(zoned=frame["zoned"].dt.tz_localize(None)))
    np.testing.assert_array_equal(
        encoder.transform(frame),
        again.transform(frame.assign(zoned=frame["zoned"].dt.tz_localize(None))),
    )
    fewer = frame[["unused"]].iloc[:2]
    fewer = fewer.assign(unused=fewer["unused"].cat.set_categories(["new", "b"]))
    encoder = TableEncoder().fit(frame[["unused"]])  # other codes for the same values
    assert encoder.transform(fewer).tolist() == [[0, 0, 1], [0, 1, 0]]


# ---------------------------------------------------------------------- categorical_features


def test_categorical_features_by_name_index_or_mask():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": [1, 2, 3] * 5, "b": [1.5, 2, 4] * 5})
    expected = TableEncoder(categorical_features=["a"]).fit_transform(frame)
    for given in ([0], [True, False], np.array([0]), np.array([True, False]), pd.Index(["a"])):
        encoder = TableEncoder(categorical_features=given)
        np.testing.assert_array_equal(encoder.fit_transform(frame), expected)
        assert encoder.columns_[0].levels == [1, 2, 3]
    X = frame.to_numpy()
    encoder = TableEncoder(categorical_features=[0]).fit(X)
    np.testing.assert_array_equal(encoder.transform(X), expected)
    assert encoder.get_feature_names_out()[-3:].tolist() == ["x0=1", "x0=2", "x0=3"]
    X[0, 0], X[1, 0] = np.nan, 7
    assert encoder.transform(X)[:2, -3:].tolist() == [[0] * 3] * 2
    for given in (None, []):
        assert kinds_of(frame, categorical_features=given) == ["number", "number"]
    with pytest.raises(ValueError, match=r"'aa', which is no column of X\. Did you mean 'a'"):
        TableEncoder(categorical_features=["aa"]).fit(frame)


def test_other_columns_than_those_listed_are_numbers():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(
        {"a": ["x", "y"] * 5, "b": [True, False] * 5, "c": pd.Categorical([1, 2] * 5)}
    )
    assert kinds_of(frame, categorical_features=["a"]) == ["category", "number", "number"]
    with pytest.raises(ValueError, match=r"Column 0 \('a'\) of X is taken for numbers.*'x'"):
        TableEncoder(categorical_features=["b"]).fit(frame)


# -------------------------------------------------------------------------------------- dates


def test_dates_are_split_into_parts_that_vary():
    days = [
        dt.datetime(2020, 2, 28, 5),
        dt.datetime(2020, 3, 1, 5),
        dt.datetime(2021, 3, 1, 17, 30),
    ]
    encoder = TableEncoder().fit(as_objects({"when": days}))
    parts = encoder.columns_[0].knots
    assert list(parts) == ["time", "year", "month", "day", "weekday", "hour", "minute"]
    assert parts["year"].tolist() == [2020, 2021]
    assert parts["month"].tolist() == [2, 3]
    assert parts["day"].tolist() == [1, 28]
    assert parts["weekday"].tolist() == [0, 4, 6]  # Monday, Friday, Sunday
    assert parts["hour"].tolist() == [5, 17]
    epoch = dt.datetime(1970, 1, 1)
    expected = [(day - epoch) / dt.timedelta(days=1) for day in days]
    np.testing.assert_allclose(parts["time"], expected)
    names = encoder.get_feature_names_out().tolist()
    assert {"x0 time", "x0 time[2020-02-28, 2020-03-01)", "x0 year", "x0 weekday[0, 4)"} <= set(
        names
    )
    assert "2020-02-28 to 2021-03-01" in repr(encoder.columns_[0])


def test_missing_dates_have_one_indicator():
    encoder = TableEncoder().fit(as_objects({"when": [*DAYS, None]}))
    names = encoder.get_feature_names_out().tolist()
    assert [name for name in names if "missing" in name] == ["x0 missing"]
    encoded = encoder.transform(np.array([[None]], object))
    assert encoded.sum() == encoded[0, names.index("x0 missing")] == 1
    array = np.array(["NaT"], "datetime64[ns]")[:, None]
    np.testing.assert_array_equal(encoder.transform(array), encoded)
    np.testing.assert_array_equal(encoder.transform([[np.nan]]), encoded)


def test_dates_before_1970_and_arrays_of_dates():
    days = np.array(["1931-12-31T23", "1969-07-20T20", "2001-01-01T01"], "datetime64[h]")
    encoder = TableEncoder().fit(days[:, None])
    parts = encoder.columns_[0].knots
    assert parts["year"].tolist() == [1931, 1969, 2001]
    assert parts["month"].tolist() == [1, 7, 12]
    assert parts["weekday"].tolist() == [0, 3, 6]
    objects = TableEncoder().fit(days.astype(object)[:, None])
    np.testing.assert_array_equal(
        encoder.transform(days[:, None]), objects.transform(days[:, None])
    )


def test_zones_show_the_time_on_their_clock():
    zone = dt.timezone(dt.timedelta(hours=9))
    X = as_objects({"when": [day.replace(tzinfo=zone) for day in DAYS]})
    np.testing.assert_array_equal(
        TableEncoder().fit_transform(X), TableEncoder().fit_transform(as_objects({"when": DAYS}))
    )


def test_dates_of_pyarrow_in_frames_of_pandas():
    pd, pa = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    days = [dt.date(2020, 1, 1) + dt.timedelta(k) for k in range(40)]
    plain = TableEncoder().fit_transform(pd.DataFrame({"day": pd.to_datetime(days)}))
    for kind in (pa.date32(), pa.date64()):
        frame = pd.DataFrame({"day": pd.Series(days, dtype=pd.ArrowDtype(kind))})
        np.testing.assert_array_equal(TableEncoder().fit_transform(frame), plain)


def test_durations_and_times_of_day_are_seconds():
    X = as_objects(
        {"long": [dt.timedelta(hours=1), dt.timedelta(days=1), None],
         "clock": [dt.time(0, 1), dt.time(23), None]}
    )  # fmt: skip
    encoder = TableEncoder().fit(X)
    assert encoder.columns_[0].knots[""].tolist() == [3600, 86400]
    assert encoder.columns_[1].knots[""].tolist() == [60, 82800]


def test_times_are_written_as_short_as_tells_them_apart():
    assert name_times([0, 365]) == ["1970-01-01", "1971-01-01"]
    assert name_times([0, 0.5]) == ["1970-01-01T00", "1970-01-01T12"]
    assert name_times([0, 1e-9 / 86.4])[1].endswith("00:00:00.000001")


# ----------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ([[1, 2], [3]], "list"),
        ([{"a": 1}, None], "dict"),
        ([(1, 2), (3, 4)], "tuple"),
        ([b"a", b"b"], "bytes"),
        ([1 + 2j, 3], "complex"),
        ([object(), object()], "object"),
        ([np.zeros(2), np.zeros(2)], "ndarray"),
    ],
)
def test_what_cannot_be_encoded_is_named(values, what):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"good": [1, 2], "bad": pd.Series(values, dtype=object)})
    with pytest.raises(ValueError, match=rf"Column 1 \('bad'\) of X holds values of type .*{what}"):
        TableEncoder().fit(frame)
    encoder = TableEncoder(categorical_features=["bad"]).fit(frame.assign(bad=["a", "b"]))
    encoder.transform(frame)  # levels that were never seen


def test_dtypes_that_cannot_be_encoded_are_named():
    with pytest.raises(ValueError, match="Column 0 of X holds bytes"):
        TableEncoder().fit(np.array([[b"a"], [b"b"]]))
    pl = pytest.importorskip("polars")
    for values in ([[1, 2], [3]], [{"a": 1}, {"a": 2}], [b"a", b"b"]):
        with pytest.raises(ValueError, match=r"Column 0 \('bad'\) of X holds"):
            TableEncoder().fit(pl.DataFrame({"bad": values}))
    with pytest.raises(TypeError, match=r"X is lazy \(LazyFrame\): give X.collect\(\)"):
        TableEncoder().fit(pl.LazyFrame({"a": [1, 2]}))
    with pytest.raises(TypeError, match=r"X is lazy \(LazyFrame\): give X.collect\(\)"):
        TabularRegressor().fit(pl.LazyFrame({"a": [1, 2]}), [1.0, 2.0])
    pd = pytest.importorskip("pandas")
    with pytest.raises(ValueError, match=r"Column 0 \('z'\) of X holds complex128"):
        TableEncoder().fit(pd.DataFrame({"z": [1j, 2]}))


def test_a_column_that_changed_is_named():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": [1.0, 2, 3], "day": pd.date_range("2020-01-01", periods=3)})
    encoder = TableEncoder().fit(frame)
    with pytest.raises(ValueError, match=r"Column 0 \('a'\) of X is taken for numbers but holds "):
        encoder.transform(frame.assign(a=["x", "y", "z"]))
    with pytest.raises(ValueError, match=r"Column 0 \('a'\).* holds dates"):
        encoder.transform(frame.assign(a=frame["day"]))
    with pytest.raises(ValueError, match=r"Column 1 \('day'\).* dates but holds numbers"):
        encoder.transform(frame.assign(day=frame["a"]))
    with pytest.raises(ValueError, match="beyond the range of float64"):
        encoder.transform(frame.assign(a=pd.Series([1, 10**400, 2], dtype=object)))
    encoder.transform(frame.assign(a=[True, False, True]))  # as 1 and 0
    encoder.transform(frame.assign(a=[None, None, None], day=[None, None, None]))


def test_columns_may_not_change_their_order():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": [1, 2, 3], "b": [4, 5, 6.5]})
    encoder = TableEncoder().fit(frame)
    with pytest.raises(ValueError, match="same order"):
        encoder.transform(frame[["b", "a"]])
    with pytest.raises(ValueError, match="unseen at fit time"):
        encoder.transform(frame.rename(columns={"b": "c"}))
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        encoder.transform(frame.to_numpy())
    with pytest.warns(UserWarning, match="was fitted without feature names"):
        TableEncoder().fit(frame.to_numpy()).transform(frame)


def test_empty_frames_are_refused():
    pd = pytest.importorskip("pandas")
    for frame, what in ((pd.DataFrame({"a": []}), "sample"), (pd.DataFrame(index=[1]), "feature")):
        with pytest.raises(ValueError, match=f"0 {what}"):
            TableEncoder().fit(frame)


def test_a_table_knows_its_shape():
    for make in (in_pandas, in_polars, in_pyarrow, as_objects):
        table = open_table(make(COLUMNS))
        assert (table.n_rows, table.n_columns) == (N, len(COLUMNS))


KEYS = [2**60, 2**60 + 1, None, 2**60 + 2] * 5


@pytest.mark.parametrize("library", ["pandas", "nullable", "polars", "array"])
def test_integers_that_float64_does_not_tell_apart(library):
    if library == "polars":
        X = pytest.importorskip("polars").DataFrame({"key": KEYS, "z": range(20)})
    elif library == "array":
        X = np.c_[[key or 2**60 for key in KEYS], np.arange(20)]
    else:
        pandas = pytest.importorskip("pandas")
        dtype = "Int64" if library == "nullable" else object
        X = pandas.DataFrame({"key": pandas.array(KEYS, dtype=dtype), "z": range(20)})
    with pytest.warns(UserWarning, match="3 different integers, some beyond 2.*tells 1 apart"):
        TableEncoder().fit(X)
    codes = TableEncoder([0]).fit_transform(X)[:4]
    assert len(np.unique(codes[:, -4:], axis=0)) == (3 if library == "array" else 4)
