"""Every kind of X a user may bring gives the model and predictions of a plain array."""

import numpy as np
import pytest
from problems import draw_classes, draw_regression
from scipy import sparse

from fastbp import BackpropClassifier, BackpropRegressor, TableEncoder
from fastbp.streams import from_arrays, from_batches

SETTINGS = dict(hidden_layer_sizes=(6,), random_state=0, max_iter=30, tol=10.0, n_iter_no_change=4)


def fit(kind, X, y, **params):
    """Return a model that ends by its tolerance after a few epochs, so that nothing warns."""
    return kind(**SETTINGS, **params).fit(X, y)


def draw(kind):
    """Return (X, y) whose X small integers and float16 hold exactly, with zeros among them."""
    X, y = draw_classes(60, 5, 3) if kind is BackpropClassifier else draw_regression(60, 5)
    return np.clip(np.round(2 * X), -4, 4), y


def on_disk(X, folder):
    """Return a read-only memory map."""
    np.save(folder / "X.npy", X)
    return np.load(folder / "X.npy", mmap_mode="r")


def frozen(X):
    """Return a copy that cannot be written to."""
    X = X.copy()
    X.flags.writeable = False
    return X


def strided(X):
    """Return a view of every second row and column of something larger."""
    larger = np.full((2 * X.shape[0], 2 * X.shape[1]), 99, X.dtype)
    larger[::2, ::2] = X
    return larger[::2, ::2]


def unaligned(X):
    """Return an array whose numbers start one byte off."""
    raw = np.zeros(X.nbytes + 1, np.uint8)
    view = raw[1:].view(X.dtype).reshape(X.shape)
    view[...] = X
    return view


def sparse_frozen(X):
    """Return CSR whose arrays cannot be written to."""
    X = sparse.csr_matrix(X)
    for part in (X.data, X.indices, X.indptr):
        part.flags.writeable = False
    return X


def sparse_with_zeros(X):
    """Return CSR with explicit zeros stored."""
    X = sparse.csr_matrix(X + 100.0)
    X.data -= 100.0
    return X


def sparse_unsorted(X):
    """Return CSR whose column indices run backwards within each row."""
    X = sparse.csr_matrix(X)
    for row in range(X.shape[0]):
        part = slice(X.indptr[row], X.indptr[row + 1])
        X.indices[part], X.data[part] = X.indices[part][::-1].copy(), X.data[part][::-1].copy()
    X.has_sorted_indices = False
    return X


def sparse_wide_indices(X):
    """Return CSR with 64-bit indices."""
    X = sparse.csr_matrix(X)
    X.indices, X.indptr = X.indices.astype(np.int64), X.indptr.astype(np.int64)
    return X


DENSE = {
    "list": lambda X, folder: X.tolist(),
    "Fortran order": lambda X, folder: np.asfortranarray(X),
    "strided": lambda X, folder: strided(X),
    "reversed": lambda X, folder: X[::-1].copy()[::-1],
    "read-only": lambda X, folder: frozen(X),
    "memory map": on_disk,
    "unaligned": lambda X, folder: unaligned(X),
    "big endian": lambda X, folder: X.astype(">f8"),
    "float16": lambda X, folder: X.astype(np.float16),
    "float32": lambda X, folder: X.astype(np.float32),
    "float32 in Fortran order": lambda X, folder: np.asfortranarray(X.astype(np.float32)),
    "float32 memory map": lambda X, folder: on_disk(X.astype(np.float32), folder),
    "long double": lambda X, folder: X.astype(np.longdouble),
    "int8": lambda X, folder: X.astype(np.int8),
    "int64": lambda X, folder: X.astype(np.int64),
    "object": lambda X, folder: X.astype(object),
    "masked array without mask": lambda X, folder: np.ma.masked_array(X),
}

SPARSE = {
    **{
        f"{name}_{form}": lambda X, folder, name=f"{name}_{form}": getattr(sparse, name)(X)
        for name in ("csr", "csc", "coo", "lil", "dok", "bsr", "dia")
        for form in ("matrix", "array")
    },
    "float32 CSR": lambda X, folder: sparse.csr_matrix(X.astype(np.float32)),
    "int CSR": lambda X, folder: sparse.csr_matrix(X.astype(np.int64)),
    "read-only CSR": lambda X, folder: sparse_frozen(X),
    "CSR with stored zeros": lambda X, folder: sparse_with_zeros(X),
    "CSR with unsorted indices": lambda X, folder: sparse_unsorted(X),
    "CSR with 64-bit indices": lambda X, folder: sparse_wide_indices(X),
}


@pytest.mark.parametrize("kind", [BackpropClassifier, BackpropRegressor])
@pytest.mark.parametrize("name", DENSE)
def test_dense(name, kind, tmp_path):
    X, y = draw(kind)
    other = DENSE[name](X, tmp_path)
    expected = fit(kind, X, y)
    got = fit(kind, other, y)
    for left, right in zip(got.coefs_, expected.coefs_, strict=True):
        np.testing.assert_array_equal(left, right)
    np.testing.assert_array_equal(
        got.predict(other), expected.predict(X).astype(got.predict(other).dtype)
    )


@pytest.mark.parametrize("kind", [BackpropClassifier, BackpropRegressor])
@pytest.mark.parametrize("name", SPARSE)
def test_sparse(name, kind, tmp_path):
    X, y = draw(kind)
    other = SPARSE[name](X, tmp_path)
    expected = fit(kind, X, y, dtype="float64")
    got = fit(kind, other, y, dtype="float64")
    for left, right in zip(got.coefs_, expected.coefs_, strict=True):
        np.testing.assert_allclose(left, right, rtol=0, atol=1e-10)
    np.testing.assert_allclose(got.predict(other), expected.predict(X), rtol=1e-6)
    np.testing.assert_allclose(got.predict(X), expected.predict(X), rtol=1e-6)


@pytest.mark.parametrize("kind", [BackpropClassifier, BackpropRegressor])
def test_booleans(kind):
    X, y = draw(kind)
    expected, got = fit(kind, (X > 0).astype(float), y), fit(kind, X > 0, y)
    np.testing.assert_array_equal(got.coefs_[0], expected.coefs_[0])
    np.testing.assert_array_equal(got.predict(X > 0), expected.predict((X > 0).astype(float)))


@pytest.mark.parametrize("kind", [BackpropClassifier, BackpropRegressor])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_sparse_early_stopping_and_weights(kind, solver):
    X, y = draw(kind)
    weight = np.linspace(0, 2, 60)
    params = dict(
        SETTINGS, early_stopping=True, validation_fraction=0.3, dtype="float64", solver=solver
    )
    if solver == "lbfgs":
        params["max_iter"] = 3000
    expected = kind(**params).fit(X, y, sample_weight=weight)
    got = kind(**params).fit(sparse.csr_array(X), y, sample_weight=weight)
    np.testing.assert_allclose(
        got.coefs_[0], expected.coefs_[0], rtol=0, atol=1e-10 if solver == "adam" else 1e-2
    )


# --- data frames ----------------------------------------------------------------------------------


def make_frame(library, X):
    """Return a frame of a library, columns named."""
    columns = {f"c{j}": X[:, j] for j in range(X.shape[1])}
    if library == "pandas":
        return pytest.importorskip("pandas").DataFrame(columns)
    if library == "polars":
        return pytest.importorskip("polars").DataFrame(columns)
    return pytest.importorskip("pyarrow").table(columns)


@pytest.mark.parametrize("kind", [BackpropClassifier, BackpropRegressor])
@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_frames(library, kind, dtype):
    X, y = draw(kind)
    frame = make_frame(library, X.astype(dtype))
    expected, got = fit(kind, X, y), fit(kind, frame, y)
    np.testing.assert_array_equal(got.coefs_[0], expected.coefs_[0])
    np.testing.assert_array_equal(
        got.predict(frame), expected.predict(X).astype(got.predict(frame).dtype)
    )
    assert list(got.feature_names_in_) == [f"c{j}" for j in range(5)]


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_series_as_targets_and_weights(library):
    module = pytest.importorskip(library)
    for kind in (BackpropClassifier, BackpropRegressor):
        X, y = draw(kind)
        weight = np.linspace(0.5, 2, 60)
        expected = kind(**SETTINGS).fit(X, y, sample_weight=weight)
        got = kind(**SETTINGS).fit(X, module.Series(y), sample_weight=module.Series(weight))
        np.testing.assert_array_equal(got.coefs_[0], expected.coefs_[0])


def test_frame_with_mixed_columns():
    pandas = pytest.importorskip("pandas")
    X, y = draw(BackpropClassifier)
    frame = pandas.DataFrame(
        {"a": X[:, 0], "b": X[:, 1].astype(np.int32), "c": X[:, 2] > 0, "d": X[:, 3].astype("f4")}
    )
    expected = fit(BackpropClassifier, frame.to_numpy(dtype=float), y)
    np.testing.assert_array_equal(fit(BackpropClassifier, frame, y).coefs_[0], expected.coefs_[0])


def test_sparse_frame():
    pandas = pytest.importorskip("pandas")
    X, y = draw(BackpropClassifier)
    frame = pandas.DataFrame.sparse.from_spmatrix(sparse.csr_matrix(X))
    got, expected = fit(BackpropClassifier, frame, y), fit(BackpropClassifier, X, y)
    np.testing.assert_allclose(got.predict_proba(frame), expected.predict_proba(X), rtol=1e-4)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8, np.int64, bool])
def test_targets_of_other_types(dtype):
    X, y = draw(BackpropRegressor)
    y = np.round(2 * y).astype(dtype)
    got = fit(BackpropRegressor, X, y)
    np.testing.assert_array_equal(
        got.coefs_[0], fit(BackpropRegressor, X, y.astype(float)).coefs_[0]
    )


def test_targets_in_a_column_warn_as_in_scikit_learn():
    for kind in (BackpropClassifier, BackpropRegressor):
        X, y = draw(kind)
        with pytest.warns(UserWarning, match="column-vector y") as caught:
            model = fit(kind, X, y[:, None])
        assert model.predict(X).shape == (60,)
        assert caught[0].filename == __file__


def test_masked_arrays_are_refused():
    """What lies below a mask is no data, and NumPy's conversions give it."""
    X, y = draw(BackpropRegressor)
    mask = np.arange(60) == 7
    masked = {"X": np.ma.array(X, mask=np.repeat(mask[:, None], 5, axis=1))}
    masked["y"] = masked["sample_weight"] = np.ma.array(np.abs(y), mask=mask)
    for name, values in masked.items():
        for kind in (BackpropClassifier, BackpropRegressor):
            with pytest.raises(ValueError, match=f"{name} is a masked array, .* in row 7"):
                fit_with(kind, **dict(X=X, y=np.abs(y) > 1) | {name: values})
        with pytest.raises(ValueError, match=f"{name} is a masked array"):
            from_arrays(**dict(X=X, y=y) | {name: values})
    model = fit(BackpropRegressor, np.ma.array(X), np.ma.array(y))  # nothing is masked
    with pytest.raises(ValueError, match="y is a masked array"):
        model.score(X, masked["y"])
    with pytest.raises(ValueError, match="In batch 0 of factory: X is a masked array"):
        from_batches(lambda: [(masked["X"], y)])
    found = TableEncoder().fit(masked["X"]).transform(masked["X"])
    np.testing.assert_array_equal(found, TableEncoder().fit_transform(masked["X"].filled(np.nan)))


def fit_with(kind, X, y, sample_weight=None):
    return kind(**SETTINGS).fit(X, y, sample_weight)


def test_frames_that_hold_no_numbers_say_what_they_hold():
    pd = pytest.importorskip("pandas")
    X, y = draw(BackpropClassifier)
    frame = pd.DataFrame({"size": pd.cut(X[:, 0], 3), "age": X[:, 1]})
    with pytest.raises(TypeError, match=r"Column 0 \('size'\) of X holds values of type Interval"):
        fit(BackpropClassifier, frame, y)
    with pytest.raises(ValueError, match="a frame without columns"):
        fit(BackpropClassifier, frame[[]], y)
    pl = pytest.importorskip("polars")
    with pytest.raises(TypeError, match=r"X is lazy \(LazyFrame\): give X\.collect"):
        fit(BackpropClassifier, pl.DataFrame(X).lazy(), y)


@pytest.mark.parametrize("values", [(-1, 1), (0, 2), (1.0, 2.0)])
def test_label_indicators_are_0_and_1(values):
    X, y = draw(BackpropClassifier)
    good = np.column_stack([y > 0, y > 1])
    bad = np.where(good, values[1], values[0])
    with pytest.raises(ValueError, match=rf"must be 0 and 1\. Got .*\(y == {values[1]}\)\.astype"):
        fit(BackpropClassifier, X, bad)
    with pytest.raises(ValueError, match=r"y_val cannot be used: .* must be 0 and 1"):
        BackpropClassifier(**SETTINGS).fit(X, good, X_val=X, y_val=bad)


def test_labels_that_may_lack_values_or_have_any_length():
    pd = pytest.importorskip("pandas")
    X, y = draw(BackpropClassifier)
    both = np.column_stack([y > 0, y > 1])
    frame = pd.DataFrame(both.astype(int)).astype("Int64")
    expected, got = fit(BackpropClassifier, X, both), fit(BackpropClassifier, X, frame)
    np.testing.assert_array_equal(got.predict(X), expected.predict(X))
    assert got.score(X, frame) == expected.score(X, both)
    text = np.array(list("abc"))[y]
    longer = text.astype(np.dtypes.StringDType())
    expected, got = fit(BackpropClassifier, X, text), fit(BackpropClassifier, X, longer)
    assert got.score(X, longer) == expected.score(X, text)
    with pytest.raises(ValueError, match=r"objects of type bool: .* y\.astype\(bool\)"):
        fit(BackpropClassifier, X, (y > 0).astype(object))


@pytest.mark.parametrize("make", [list, tuple, np.asfortranarray, frozen])
def test_targets_and_weights_of_other_kinds(make):
    X, y = draw_regression(60, 5, 2)
    weight = np.linspace(0.5, 2, 60)
    expected = BackpropRegressor(**SETTINGS).fit(X, y, sample_weight=weight)
    got = BackpropRegressor(**SETTINGS).fit(X, make(y), sample_weight=make(weight))
    np.testing.assert_array_equal(got.coefs_[0], expected.coefs_[0])


@pytest.mark.parametrize("kind", [BackpropClassifier, BackpropRegressor])
def test_sparse_arrays_of_strided_parts(kind, engine_name):
    """The engines read them one after the other: what lies between must not count."""
    X, y = draw(kind)
    X = sparse.csr_array(X.astype(np.float32))
    model = fit(kind, X, y, engine=engine_name)
    for name in ("data", "indices", "indptr"):
        given = X.copy()
        part = getattr(X, name)
        between = np.full((len(part), 2), 10**6, part.dtype)
        between[:, 0] = part
        setattr(given, name, between[:, 0])
        np.testing.assert_array_equal(model.predict(given), model.predict(X))
        again = fit(kind, given, y, engine=engine_name)
        np.testing.assert_array_equal(again.coefs_[0], model.coefs_[0])


def test_wide_sparse_data_stays_sparse():
    """10 000 x 100 000 at 0.1 % (4 GB if dense) trains and predicts within 2 GB."""
    import subprocess
    import sys

    pytest.importorskip("resource")
    program = """
import resource, numpy as np
from scipy import sparse
from fastbp import BackpropClassifier
rng = np.random.default_rng(0)
n, width, per_row = 10_000, 100_000, 100
indices = rng.integers(0, width, (n, per_row)).astype(np.int32)
indices.sort(axis=1)
X = sparse.csr_matrix(
    (np.ones(n * per_row, np.float32), indices.ravel(), np.arange(0, n * per_row + 1, per_row)),
    shape=(n, width),
)
X.sum_duplicates()
y = (indices[:, 0] > 500).astype(int)
model = BackpropClassifier((8,), max_iter=2, tol=1e9, n_iter_no_change=1).fit(X, y)
assert model.n_iter_ == 2 and np.isfinite(model.loss_)
model.predict(X)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) < 2048
