"""Sources in files: Parquet, HDF5 and Zarr; tabular estimators on them; damage of all kinds."""

import itertools
import pickle
import warnings

import numpy as np
import pytest

from fastbp import (
    BackpropClassifier,
    BackpropRegressor,
    TableEncoder,
    TabularClassifier,
    TabularRegressor,
)
from fastbp.streams import SourceError, from_arrays, from_batches, from_parquet, predict_stream
from fastbp.streams.problem import prepare_stream
from fastbp.streams.summary import sample_blocks
from fastbp.streams.windows import choose_size, even_size

RNG = np.random.RandomState(0)
N = 1500
X = RNG.normal(size=(N, 4)).astype(np.float32)
CITIES = RNG.choice(["Oslo", "Rome"], N)
LABELS = np.array(["no", "yes"])[((X[:, 0] > 0) ^ (CITIES == "Rome")).astype(int)]
NUMBERS = [f"x{j}" for j in range(4)]


@pytest.fixture(scope="module")
def pa():
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet")
    return pyarrow


def table_of(pa, rows=slice(None), **more):
    columns = {name: X[rows, j] for j, name in enumerate(NUMBERS)}
    return pa.table(columns | {"city": CITIES[rows], "bought": LABELS[rows]} | more)


@pytest.fixture(scope="module")
def folder(pa, tmp_path_factory):
    """Return a folder of three files with row groups of 100."""
    path = tmp_path_factory.mktemp("parquet")
    for k in range(3):
        rows = slice(500 * k, 500 * (k + 1))
        pa.parquet.write_table(table_of(pa, rows), path / f"part{k}.parquet", row_group_size=100)
    (path / "_SUCCESS").touch()
    return path


def numbers_of(path, **settings):
    return from_parquet(path, "bought", features=NUMBERS, **settings)


def fit(source, *arguments, model=None, **settings):
    usual = dict(hidden_layer_sizes=(4,), max_iter=2, random_state=0)
    model = BackpropClassifier(**usual | settings) if model is None else model
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Stochastic Optimizer: Maximum")
        return model.fit(source, *arguments)


def test_parquet_is_read_as_arrays_are(folder):
    source = numbers_of(folder, window=400)
    assert (source.n_rows, source.n_features, source.feature_names) == (N, 4, NUMBERS)
    assert len(source.parts) == 15
    one = fit(X, LABELS, shuffle=False)
    other = fit(source, shuffle=False)
    np.testing.assert_array_equal(one.coefs_[0], other.coefs_[0])
    assert other.feature_names_in_.tolist() == NUMBERS
    whole = fit(numbers_of(folder))
    np.testing.assert_array_equal(fit(X, LABELS).coefs_[0], whole.coefs_[0])
    assert fit(source, early_stopping=True).validation_scores_


def test_pieces_and_threads_that_decode_change_no_bit(folder, monkeypatch):
    """Row groups come whole where they are small; the others in pieces."""
    source = numbers_of(folder, window=400)
    assert source.rows_per_batch() == 100
    nets = [fit(source)]
    monkeypatch.setattr("fastbp.streams.parquet.THREADS_PAY", 1)
    nets.append(fit(source))
    source.group_rows, source.memory_limit = 10**9, 2**14
    assert 16 <= source.rows_per_batch() < 40
    nets.append(fit(source))
    for net in nets[1:]:
        np.testing.assert_array_equal(nets[0].coefs_[0], net.coefs_[0])
        assert nets[0].loss_curve_ == net.loss_curve_


def test_few_rows_do_not_keep_their_piece_in_memory(folder):
    rows, _, _ = sample_blocks(numbers_of(folder), 64, np.random.RandomState(0))
    assert len(rows) == 64
    assert rows.get_total_buffer_size() < 64 * (4 * 4) + 2**10


def test_filters_keys_and_targets(folder, pa, tmp_path):
    source = numbers_of(folder, filters=[("x0", ">", 0)], window=200)
    assert source.n_rows is None
    net = fit(source, shuffle=False)
    np.testing.assert_array_equal(
        net.coefs_[0], fit(X[X[:, 0] > 0], LABELS[X[:, 0] > 0], shuffle=False).coefs_[0]
    )
    pa.parquet.write_to_dataset(table_of(pa, year=(np.arange(N) % 2) + 2020), tmp_path / "by_year",
                                partition_cols=["year"])  # fmt: skip
    source = from_parquet(tmp_path / "by_year", features=["year", "x1"], target=["x0", "x2"])
    (years, y, weight) = (np.concatenate(part) if part[0] is not None else None
                          for part in zip(*source.blocks(), strict=True))  # fmt: skip
    assert set(years[:, 0]) == {2020, 2021}
    assert y.shape == (N, 2)
    assert weight is None
    source = from_parquet(folder, "bought", features=["x1"], sample_weight="x0")
    with pytest.raises(ValueError, match="must not be negative"):
        fit(source)
    with pytest.raises(ValueError, match=r"no column 'bougth'.*Did you mean 'bought'"):
        from_parquet(folder, "bougth")
    with pytest.raises(ValueError, match=r"'bought' of .* is named as a feature, and as target"):
        from_parquet(folder, "bought", features=["x1", "bought"])
    with pytest.raises(ValueError, match="No rows"):
        fit(numbers_of(folder, filters=[("x0", ">", 99)]))


def test_memory_follows_the_limit(folder):
    """Windows and what reading takes are within the limit that was stated."""
    source = numbers_of(folder, memory_limit=2**20)
    assert source.reading_bytes() < 2**19
    n_rows = choose_size(source, 1, np.float32, 50)
    assert 1000 < n_rows < 2**15
    assert 2 * n_rows * (4 * 4 + 2 * 4 + 8) + source.reading_bytes() < 2**20
    assert numbers_of(folder, window=420).window == 420
    # Four windows of 1500 rows, whatever is stated: 450, 450, 450 and 150 would end with one part.
    assert choose_size(numbers_of(folder, window=420), 1, np.float32, 50) == 400


def test_windows_of_an_epoch_are_even(folder):
    """No window is short, whatever was stated, or set aside: it would hold rows of few parts."""
    for n_rows, size, batch_size in itertools.product((999, 1500, 1601), (100, 450, 800), (1, 50)):
        even = even_size(n_rows, size, batch_size)
        n_windows = -(-n_rows // size)
        assert even <= size
        assert even % batch_size == 0
        last = n_rows - (n_windows - 1) * even
        assert 0 < last <= even
        assert even - last < n_windows * batch_size
    net = BackpropClassifier(early_stopping=True, validation_fraction=0.3, random_state=0)
    problem, _ = prepare_stream(
        net, numbers_of(folder, window=1000), settings=net._check_parameters()
    )
    assert problem.X.size == 600  # 450 of 1500 rows are held out: 1050 in two windows, not 800


def test_hdf5_and_zarr(tmp_path):
    h5py, zarr = pytest.importorskip("h5py"), pytest.importorskip("zarr")
    one = fit(X, LABELS, shuffle=False)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("X", data=X, chunks=(64, 4))
        source = from_arrays(file["X"], LABELS, window=400, memory_limit=2**20)
        assert {part.first % 64 for part in source.parts} == {0}
        assert source.parts[0].name.endswith("a.h5")
        np.testing.assert_array_equal(one.coefs_[0], fit(source, shuffle=False).coefs_[0])
        out = file.create_dataset("p", (N, 2), np.float32)
        predict_stream(one, source, out, method="predict_proba")
        np.testing.assert_array_equal(out[:], one.predict_proba(X))
        file["labels"] = LABELS.astype("S3")
        text = fit(from_arrays(file["X"], file["labels"], window=400), shuffle=False)
        assert text.classes_.tolist() == ["no", "yes"]
        np.testing.assert_array_equal(one.coefs_[0], text.coefs_[0])
    array = zarr.open(
        str(tmp_path / "a.zarr"), mode="w", shape=X.shape, chunks=(128, 4), dtype="f4"
    )
    array[:] = X
    source = from_arrays(array, LABELS, window=400)
    np.testing.assert_array_equal(one.coefs_[0], fit(source, shuffle=False).coefs_[0])


# ------------------------------------------------------------------------------ raw tables


def tabular(kind=TabularClassifier):
    return kind(random_state=0, max_iter=6, n_networks=2, n_members=2, hidden_layer_sizes=(8,),
                dropout=0.0, learning_rate_init=0.02)  # fmt: skip


def test_tabular_classifier_learns_from_parquet(folder, pa, tmp_path, monkeypatch):
    monkeypatch.setattr("fastbp.tabular.streamed.ROWS_OF_SAMPLE", 640)
    monkeypatch.setattr("fastbp.tabular.base.fits", lambda source: False)
    source = from_parquet(folder, "bought", window=400)
    model = fit(source, model=tabular())
    assert len(model.networks_) == 2
    assert model.classes_.tolist() == ["no", "yes"]
    assert model.networks_[0].t_ % 1350 == 0
    raw = table_of(pa).drop(["bought"])
    assert model.score(raw, LABELS) > 0.7
    np.testing.assert_array_equal(predict_stream(model, source), model.predict(raw))
    path = predict_stream(model, source, tmp_path / "p.parquet", method="predict_proba")
    written = pa.parquet.read_table(path)
    assert written.column_names == ["proba_no", "proba_yes"]
    np.testing.assert_array_equal(written["proba_yes"].to_numpy(), model.predict_proba(raw)[:, 1])
    again = fit(from_parquet(folder, "bought", window=400), model=tabular())
    np.testing.assert_array_equal(model.predict_proba(raw), again.predict_proba(raw))


def test_tabular_streams_give_the_same_bits_for_any_number_of_threads(monkeypatch):
    monkeypatch.setattr("fastbp.tabular.base.fits", lambda source: False)
    monkeypatch.setattr("fastbp.tabular.streamed.LEAST_OF_EACH", 2**15)
    rows, y = np.tile(X, (4, 1)), np.tile(LABELS, 4)
    found = [
        fit(
            from_arrays(rows, y, memory_limit=2**20),
            model=tabular().set_params(n_threads=n, max_iter=1),
        )
        for n in (1, 2, 3)
    ]
    for model in found[1:]:
        np.testing.assert_array_equal(model.predict_proba(X), found[0].predict_proba(X))


def test_small_table_in_a_source_is_the_table(folder, pa):
    raw = table_of(pa).drop(["bought"])
    one = fit(raw, LABELS, model=tabular())
    other = fit(from_parquet(folder, "bought"), model=tabular())
    np.testing.assert_array_equal(one.predict_proba(raw), other.predict_proba(raw))


def test_tabular_regressor_knows_the_range_of_all(monkeypatch):
    monkeypatch.setattr("fastbp.tabular.base.fits", lambda source: False)
    y = X[:, 0] * 3
    source = from_arrays(X, y, window=400)
    model = fit(source, model=tabular(TabularRegressor))
    assert (model._range[0], model._range[1]) == (y.min(), y.max())
    held = fit_with_validation(source, from_arrays(X[:200], y[:200]), tabular(TabularRegressor))
    assert held.networks_[0].t_ % N == 0


def fit_with_validation(source, X_val, model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(source, X_val=X_val)


def test_tabular_needs_a_target():
    with pytest.raises(ValueError, match="This TabularClassifier estimator requires y"):
        tabular().fit(from_arrays(X))
    with pytest.raises(ValueError, match="one label per row"):
        tabular().fit(from_arrays(X, np.eye(2, dtype=int)[(X[:, 0] > 0).astype(int)]))


def test_encoder_goes_before_a_network(folder, pa):
    raw = table_of(pa).drop(["bought"])
    encoder = TableEncoder().fit(raw)
    source = from_parquet(folder, "bought", window=400).through(encoder)
    one = fit(encoder.transform(raw), LABELS, shuffle=False)
    np.testing.assert_array_equal(one.coefs_[0], fit(source, shuffle=False).coefs_[0])


def test_a_network_that_meets_bad_data_is_kept(monkeypatch):
    monkeypatch.setattr("fastbp.tabular.base.fits", lambda source: False)
    source = from_arrays(X, LABELS, window=400, memory_limit=2**23)
    read, calls = type(source)._read, []

    def failing(self, part, n_rows, *, targets_only=False):
        calls.append(targets_only)
        if calls.count(False) > 30:
            raise OSError("the disk is gone")
        yield from read(self, part, 50, targets_only=targets_only)

    monkeypatch.setattr(type(source), "_read", failing)
    model = tabular().set_params(max_iter=500, n_iter_no_change=500)
    with pytest.raises(SourceError, match="the disk is gone"):
        fit(source, model=model)
    assert model.networks_
    assert model.predict(X[:3]).shape == (3,)


# ------------------------------------------------------------------------------ damage


def test_damaged_files_are_named(pa, tmp_path, folder):
    good = (folder / "part0.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(good)
    for content in (good[: len(good) // 2], b""):
        (tmp_path / "b.parquet").write_bytes(content)
        with pytest.raises(SourceError, match=r"b\.parquet cannot be read as Parquet"):
            from_parquet(tmp_path, "bought")
    with pytest.raises(FileNotFoundError, match="no file"):
        from_parquet(tmp_path / "c.parquet", "bought")
    with pytest.raises(TypeError, match=r"path must be .* Got Table"):
        from_parquet(table_of(pa, slice(5)), "bought")
    with pytest.raises(ValueError, match="names no file"):
        from_parquet([], "bought")
    text = table_of(pa, slice(500)).set_column(1, "x1", pa.array(["1"] * 500))
    pa.parquet.write_table(text, tmp_path / "b.parquet")
    with pytest.raises(SourceError, match=r"Column 'x1' is string in .*b\.parquet, but float"):
        from_parquet(tmp_path, "bought")
    pa.parquet.write_table(text.drop(["x2"]), tmp_path / "b.parquet")
    with pytest.raises(SourceError, match=r"b\.parquet"):
        from_parquet(tmp_path, "bought", features=["x0", "x2"])


def test_a_page_that_went_bad_is_found_by_its_checksum(pa, tmp_path):
    path = tmp_path / "a.parquet"
    pa.parquet.write_table(
        table_of(pa), path, row_group_size=100, compression="none", write_page_checksum=True,
        use_dictionary=False,
    )  # fmt: skip
    source = numbers_of(path, window=200)
    raw = bytearray(path.read_bytes())
    middle = raw.find(X[1320:1330, 2].tobytes())
    raw[middle : middle + 40] = bytes(40)
    path.write_bytes(raw)
    net = BackpropClassifier((4,), max_iter=2, shuffle=False)
    with pytest.raises(SourceError, match=r"a\.parquet failed after row 1300.*(crc|CRC)"):
        net.fit(source)
    assert net.coefs_[0].shape == (4, 4)


def test_missing_values_are_named(pa, tmp_path):
    path = tmp_path / "a.parquet"
    gap = np.arange(N) == 1234
    table = table_of(pa).set_column(1, "x1", pa.array(X[:, 1], mask=gap))
    pa.parquet.write_table(table, path, row_group_size=500)
    for window in (200, None):
        with pytest.raises(SourceError, match=r"Column 1 \('x1'\).* row 1234 of .*a\.parquet"):
            fit(numbers_of(path, window=window))
    table = table_of(pa, bought=pa.array(LABELS.tolist(), mask=gap))
    pa.parquet.write_table(table, path, row_group_size=500)
    with pytest.raises(SourceError, match=r"'bought' has no value in row 1234 of .*a\.parquet"):
        fit(numbers_of(path))
    pa.parquet.write_table(table_of(pa), path)
    with pytest.raises(SourceError, match=r"Column 'city' of .*a\.parquet holds string"):
        fit(from_parquet(path, "bought", features=["city", "x0"], window=200))
    files = numbers_of(path, filters=[("x0", ">", 0)])
    assert "pass the filters" in next(files._batches()).name


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize("is_small", [True, False])
def test_tables_come_in_batches(library, is_small, monkeypatch):
    frames = pytest.importorskip(library)
    if not is_small:
        monkeypatch.setattr("fastbp.tabular.base.fits", lambda source: False)
    table = frames.DataFrame({f"x{k}": X[:, k] for k in range(4)} | {"said": LABELS})
    parts = [slice(0, 700), slice(700, N)]
    source = from_batches(lambda: [(table[part], LABELS[part]) for part in parts], window=400)
    model = fit(source, model=tabular().set_params(max_iter=2))
    assert model.feature_names_in_.tolist() == ["x0", "x1", "x2", "x3", "said"]
    assert model.score(table, LABELS) > 0.99


def test_filters_of_folders_and_those_that_cannot_be(tmp_path):
    pa = pytest.importorskip("pyarrow")
    dataset = pytest.importorskip("pyarrow.dataset")
    n = np.arange(60)
    table = pa.table({"a": n / 60.0, "y": n % 2, "year": n // 20 + 2020})
    how = dict(format="parquet", partitioning=["year"], partitioning_flavor="hive")
    dataset.write_dataset(table, tmp_path / "t", **how)

    def source(filters):
        return from_parquet(tmp_path / "t", target="y", features="a", filters=filters)

    rows = sum(len(y) for _, y, _ in source([("year", ">", 2020)]).blocks())
    assert rows == 40  # the key is in no file, and no feature
    (first, *_), (again, *_) = (
        list(one.blocks()) for one in (source(None), pickle.loads(pickle.dumps(source(None))))
    )
    np.testing.assert_array_equal(first[0], again[0])
    for bad, message in [
        ([("yeer", ">", 1)], "No match for FieldRef.Name\\(yeer\\)"),
        ([("a", ">", "x")], "double, string"),
        (("a", ">", 0), "must be a list of tuples"),
    ]:
        with pytest.raises(ValueError, match=message):
            source(bad)


@pytest.mark.parametrize("make", [lambda X: X[:-1], lambda X: X[:, 0]], ids=["rows", "columns"])
def test_transformers_give_a_row_for_each_row(make):
    from sklearn.preprocessing import FunctionTransformer

    rows = np.ones((20, 3))
    with pytest.raises(SourceError, match="FunctionTransformer made an array of shape"):
        from_arrays(rows).through(FunctionTransformer(make).fit(rows))


def test_a_small_table_may_be_judged_by_a_source():
    draw = np.random.default_rng(0)
    rows, y = draw.normal(size=(80, 2)), np.arange(80) % 2
    how = dict(n_networks=1, max_iter=2, random_state=0, hidden_layer_sizes=(4,))
    plain = TabularClassifier(**how).fit(rows, y, X_val=rows[:30], y_val=y[:30])
    source, held = from_arrays(rows, y), from_arrays(rows[:30], y[:30])
    ours = TabularClassifier(**how).fit(source, X_val=held)
    np.testing.assert_array_equal(ours.predict_proba(rows), plain.predict_proba(rows))
    with pytest.raises(ValueError, match="leave y_val out"):
        TabularClassifier(**how).fit(source, X_val=held, y_val=y[:30])


def test_row_groups_of_any_size_fit_into_the_memory(pa, tmp_path):
    """Whole, where they leave room for windows and for rows that are set aside."""
    table = pa.table({f"x{j}": np.arange(36000.0) for j in range(30)} | {"y": np.arange(36000.0)})
    for n_rows in (2000, 8000, 14000, 17000, 18000):
        path = tmp_path / f"{n_rows}.parquet"
        pa.parquet.write_table(table, path, row_group_size=n_rows, use_dictionary=False)
        source = from_parquet(path, "y", memory_limit="32MiB")
        for kept in (0, source.memory_limit // 4):
            assert choose_size(source, 1, np.float32, 200, kept) >= 400
    assert (
        from_parquet(tmp_path / "2000.parquet", "y", memory_limit="32MiB").rows_per_batch() == 2000
    )
    usual = from_parquet(tmp_path / "17000.parquet", "y")
    assert usual.rows_per_batch() == 17000


def test_the_index_of_a_frame_is_no_feature(pa, tmp_path):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": np.arange(9.0), "y": [0.0, 1.0, 2.0] * 3})
    for number, kept in enumerate((frame, frame[frame.a != 4], frame.set_index(frame.a * 2))):
        path = tmp_path / f"{number}.parquet"
        kept.to_parquet(path)
        assert from_parquet(path, "y").feature_names == ["a"]
    frame.rename_axis("row").to_parquet(path)
    assert from_parquet(path, "y").feature_names == ["a"]
    frame.set_index(frame.a * 2 + 1).rename_axis("odd").to_parquet(path)
    assert from_parquet(path, "y").feature_names == ["a"]
    assert from_parquet(path, "y", features=["a", "odd"]).n_features == 2


def test_rows_that_are_set_aside_need_a_weight():
    """The message names no argument that nobody gave."""
    weight = np.zeros(N)
    weight[:5] = 1
    net = BackpropRegressor(max_iter=1, early_stopping=True, random_state=0)
    with pytest.raises(ValueError, match="All samples in the validation set have weight 0"):
        net.fit(from_arrays(X, X[:, 0], weight, window=300))
