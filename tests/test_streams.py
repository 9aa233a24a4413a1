"""fit(source): windows, shuffles, statistics of y, validation, and what is kept when data fail."""

import _thread
import inspect
import threading
import time
import warnings
from dataclasses import fields

import numpy as np
import pytest
import scipy.sparse
from engines import ENGINES
from sklearn.callback import ScoringMonitor
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastbp import BackpropClassifier, BackpropRegressor, TabularClassifier, load, save
from fastbp.data import features
from fastbp.data.problem import Problem
from fastbp.data.scaling import Moments, measure
from fastbp.engine import get_engine
from fastbp.estimators.fitting import OpenFit
from fastbp.streams import (
    SourceError,
    from_arrays,
    from_batches,
    from_csr,
    predict_stream,
    problem,
    summary,
)
from fastbp.streams.windows import StreamedRows
from fastbp.training import reports
from fastbp.training.state import from_bytes, to_bytes

RNG = np.random.RandomState(0)
X = RNG.normal(size=(2000, 5)).astype(np.float32)
LABELS = np.array(["b", "a", "c"])[(X[:, 0] + X[:, 1] > 0).astype(int) + (X[:, 2] > 1)]
VALUES = 1000 + 100 * X @ RNG.normal(size=5)
WEIGHTS = RNG.randint(0, 3, 2000).astype(float)
SMALL = 2**20  # bytes: the least memory


def make(kind=BackpropClassifier, **settings):
    usual = dict(hidden_layer_sizes=(4,), max_iter=3, random_state=0, tol=0.0, n_iter_no_change=99)
    return kind(**usual | settings)


def fit(source, kind=BackpropClassifier, **settings):
    """Fit, and swallow the warning that it did not converge."""
    estimator, validation = make(kind, **settings), {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Stochastic Optimizer: Maximum")
        if isinstance(source, tuple):
            source, validation = source
        arguments = source if isinstance(source, list) else [source]
        return estimator.fit(*arguments, **validation)


def stream(y=LABELS, rows=X, **settings):
    return from_arrays(rows, y, **{"window": 400, "memory_limit": SMALL} | settings)


def same(one, other):
    """Whether two estimators have the same weights and losses, bit for bit."""
    pairs = zip(one.coefs_ + one.intercepts_, other.coefs_ + other.intercepts_, strict=True)
    return all((a == b).all() for a, b in pairs) and one.loss_curve_ == other.loss_curve_


# ------------------------------------------------------------------------------ order and bits


@pytest.mark.parametrize(
    ("kind", "y", "settings"),
    [
        (BackpropClassifier, LABELS, {"dropout": 0.3, "class_weight": "balanced"}),
        (BackpropRegressor, VALUES, {"scale_targets": True, "early_stopping": True}),
    ],
)
def test_window_as_large_as_the_data_is_the_fit_in_memory(kind, y, settings):
    one = fit([X, y, WEIGHTS], kind, **settings)
    other = fit(from_arrays(X, y, WEIGHTS, window=2000), kind, **settings)
    assert same(one, other)
    assert one.validation_scores_ == other.validation_scores_


def test_without_shuffle_windows_change_nothing():
    settings = dict(shuffle=False, learning_rate="cosine", class_weight="balanced")
    one, other = fit([X, LABELS], **settings), fit(stream(), **settings)
    np.testing.assert_array_equal(one.coefs_[0], other.coefs_[0])
    np.testing.assert_allclose(one.loss_curve_, other.loss_curve_, rtol=1e-13)
    assert other.t_ == 6000


@pytest.mark.parametrize("engine", ENGINES)
def test_same_bits_whatever_the_threads_and_their_speed(engine, monkeypatch):
    one = fit(stream(), engine=engine, n_threads=1)
    read = StreamedRows._batches

    def slowly(self, *place):
        for batch in read(self, *place):
            time.sleep(0.002)
            yield batch

    monkeypatch.setattr(StreamedRows, "_batches", slowly)
    assert same(one, fit(stream(), engine=engine, n_threads=2))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_state_within_an_epoch_is_all_that_a_training_needs(engine):
    estimator, states = make(engine=engine), []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Stochastic Optimizer: Maximum")
        one = OpenFit(estimator, stream(), None)
        one.training.let_look(lambda: states.append(one.training.state()))
        one.advance(1)
        one.advance()
        one.finish()
        other = OpenFit(make(engine=engine), stream(), None, state=from_bytes(to_bytes(states[6])))
        other.advance()
        other.finish()
    assert [state.rows_seen for state in states] == [400, 800, 1200, 1600] * 2
    assert same(one.estimator, other.estimator)


def test_learns_as_well_as_in_memory_and_shuffles_each_epoch():
    settings = dict(max_iter=30, learning_rate_init=0.01)
    source = stream(window=200)
    one, other = fit([X, LABELS], **settings), fit(source, **settings)
    assert abs(one.score(X, LABELS) - other.score(X, LABELS)) < 0.02
    rows = StreamedRows(source, np.float32, None, None, None, 1, 200)
    assert len(source.parts) > 1
    rows.begin(7, 3)
    first, second = rows.order_of_parts(0).tolist(), rows.order_of_parts(1).tolist()
    assert sorted(first) == sorted(second) == list(range(len(source.parts)))
    rows.begin(7, 3)
    assert rows.order_of_parts(1).tolist() == second


def test_rows_of_a_window_are_shuffled_and_blocks_come_in_random_order():
    """Rows sorted by class: an order that is that of the file forgets the first class."""
    order = np.argsort(LABELS, kind="stable")
    rows = stream(LABELS[order], X[order], window=1000)
    shuffled = fit(rows, max_iter=20, learning_rate_init=0.01).score(X, LABELS)
    assert shuffled > 0.85


@pytest.fixture
def small_parts(monkeypatch):
    """Parts of 51 rows."""
    monkeypatch.setattr("fastbp.streams.arrays.BLOCK", 2**10)


@pytest.mark.parametrize("kind", [BackpropClassifier, BackpropRegressor])
def test_sorted_file_is_read_in_turns(kind, small_parts):
    codes = np.unique(LABELS, return_inverse=True)[1]
    y = {BackpropClassifier: codes, BackpropRegressor: VALUES / 100}[kind]
    order = np.argsort(y, kind="stable")
    found = {}
    for name, rows in (("as drawn", slice(None)), ("sorted", order)):
        net, source = make(kind), stream(y[rows], X[rows], window=400)
        found[name] = problem.prepare_stream(net, source, settings=net._check_parameters())[0].X
    assert found["as drawn"].turns == 1
    assert found["sorted"].turns == 5  # a window of 400 of 2000 rows has some of all parts then
    settings = dict(max_iter=20, learning_rate_init=0.01)
    one = fit([X, y], kind, **settings).score(X, y)
    assert fit(source, kind, **settings).score(X, y) > one - 0.01


def test_each_row_comes_once_in_an_epoch(small_parts):
    held = np.array([0, 7, 700, 1999])
    source = stream(np.arange(2000.0), np.arange(2000.0)[:, np.newaxis])
    rows = StreamedRows(source, np.float64, get_engine("auto"), lambda y: y[:, np.newaxis], None, 1,
                        400, held, turns=3)  # fmt: skip
    for seed in (5, None):
        rows.begin(seed, 1)
        windows = [part[:, 0].copy() for part, _, _ in rows.epoch()]
        rows.close()
        assert sorted(np.concatenate(windows)) == sorted({*range(2000)} - {*held.tolist()})
        rows.begin(None, 1, {"seed": seed, "epoch": 0, "n_rows": 800})
        rest = [part[:, 0].copy() for part, _, _ in rows.epoch()]
        rows.close()
        np.testing.assert_array_equal(np.concatenate(rest), np.concatenate(windows[2:]))
        each = np.unique(windows[0] // 51)
        assert len(each) > (15 if seed else 7)


def test_a_file_that_is_sorted_beyond_remedy_warns():
    order = np.argsort(LABELS, kind="stable")
    source = stream(LABELS[order], X[order], window=200)
    assert len(source.parts) == 2
    with pytest.warns(UserWarning, match=r"seems to be sorted: [89]\d% of the variance") as caught:
        fit(source, max_iter=1)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(source, max_iter=1, shuffle=False)


def test_place_in_an_epoch_is_plain_numbers():
    rows = StreamedRows(stream(), np.float32, None, None, None, 1, 400)
    rows.begin(5, 2)
    assert rows.place == {"seed": 5, "epoch": 0, "n_rows": 0, "loss": 0.0}


@pytest.mark.parametrize("settings", [{}, {"early_stopping": True, "ema_decay": 0.9}])
def test_resume_is_one_training(settings):
    source = stream()
    once = fit(source, max_iter=4, warm_start="resume", **settings)
    twice = fit(source, max_iter=2, warm_start="resume", **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        twice.fit(source)
    assert same(once, twice)
    assert once.validation_scores_ == twice.validation_scores_


# ------------------------------------------------------------------------------ statistics of y


def test_moments_are_the_same_in_memory_and_in_blocks(monkeypatch):
    monkeypatch.setattr(Moments, "ROWS", 64)
    for scale in (1e300, 1.0, 1e-300):
        y = scale * (3 + RNG.normal(size=(1000, 2)))
        for weight in (None, WEIGHTS[:1000]):
            whole, blocks = measure(y, weight), Moments()
            for rows in np.split(np.arange(1000), [1, 7, 300, 301, 900]):
                blocks.add(y[rows], None if weight is None else weight[rows])
            for a, b in zip(whole, blocks.result(), strict=True):
                np.testing.assert_array_equal(a, b)
            kept = np.ones(1000) if weight is None else weight
            mean = np.average(y / scale, axis=0, weights=kept)
            spread = np.sqrt(np.average((y / scale - mean) ** 2, axis=0, weights=kept))
            np.testing.assert_allclose(whole[0] / scale, mean, rtol=1e-14)
            np.testing.assert_allclose(whole[1] / scale, spread, rtol=1e-12)
    constant = np.full((1000, 1), 0.1)
    assert measure(constant, None)[1] == 1.0


@pytest.mark.parametrize("weight", [None, WEIGHTS])
def test_scaled_targets_are_those_of_memory(weight):
    one = fit([X, VALUES, weight], BackpropRegressor, scale_targets=True)
    other = fit(from_arrays(X, VALUES, weight, window=400), BackpropRegressor, scale_targets=True)
    np.testing.assert_array_equal(one.target_mean_, other.target_mean_)
    np.testing.assert_array_equal(one.target_scale_, other.target_scale_)
    assert abs(one.loss_curve_[0] - other.loss_curve_[0]) < 0.05


def test_first_bias_is_that_of_all_classes():
    """Of rows in the order of y a first block would say something else."""
    order = np.argsort(LABELS, kind="stable")
    settings = dict(learning_rate_init=1e-30, alpha=0.0)
    one = fit([X[order], LABELS[order]], **settings)
    other = fit(stream(LABELS[order], X[order]), **settings)
    np.testing.assert_allclose(one.intercepts_[-1], other.intercepts_[-1], rtol=1e-5)
    assert other.classes_.tolist() == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("kind", "y", "weight", "settings"),
    [
        (BackpropClassifier, LABELS, (LABELS != "c").astype(float), {}),
        (BackpropClassifier, np.stack([X[:, 0] > 0, X[:, 0] > 99], axis=1).astype(int), None, {}),
        (BackpropRegressor, np.sort(VALUES), WEIGHTS, {}),
        (BackpropRegressor, np.sort(VALUES), None, {"scale_targets": True, "early_stopping": True}),
        (BackpropRegressor, np.sort(np.exp(X[:, 0])), None, {"loss": "poisson"}),
    ],
)
def test_start_is_that_of_memory(kind, y, weight, settings, monkeypatch):
    """Also of a class without weight, a label that is never there, a mean of sorted numbers."""
    monkeypatch.setattr("fastbp.streams.summary.SAMPLE", 50)
    settings = settings | dict(max_iter=1, learning_rate_init=1e-30, alpha=0.0)
    one = fit([X, y, weight], kind, **settings)
    other = fit(stream(y, sample_weight=weight), kind, **settings)
    np.testing.assert_allclose(one.intercepts_[-1], other.intercepts_[-1], rtol=1e-5, atol=1e-6)


def test_kinds_of_targets():
    multilabel = np.stack([LABELS == "a", X[:, 3] > 0], axis=1).astype(int)
    net = fit(stream(multilabel))
    assert net.predict(X[:2]).shape == (2, 2)
    net = fit(stream(np.stack([VALUES, -VALUES], axis=1)), BackpropRegressor, scale_targets=True)
    assert net.predict(X[:2]).shape == (2, 2)
    net = fit(stream(np.exp(X[:, :1])), BackpropRegressor, loss="poisson")
    assert net.predict(X[:2]).shape == (2,)
    net = fit(stream(VALUES / 1000), BackpropRegressor, loss="absolute_error")
    assert net.n_outputs_ == 1
    with pytest.warns(RuntimeWarning, match="only one class"):
        fit(stream(np.zeros(2000, int)))


# ------------------------------------------------------------------------------ kinds of sources


def test_sparse_rows_are_those_of_memory(tmp_path):
    matrix = scipy.sparse.random_array((2000, 30), density=0.1, format="csr", dtype=np.float32)
    paths = []
    for name in ("data", "indices", "indptr"):
        np.save(tmp_path / f"{name}.npy", getattr(matrix, name))
        paths.append(tmp_path / f"{name}.npy")
    source = from_csr(*paths, LABELS, n_features=30, window=400, memory_limit=SMALL)
    one, other = fit([matrix, LABELS], shuffle=False), fit(source, shuffle=False)
    np.testing.assert_array_equal(one.coefs_[0], other.coefs_[0])
    assert fit(source, early_stopping=True).validation_scores_
    (tmp_path / "data.npy").unlink()
    np.save(tmp_path / "data.npy", matrix.data[:-5])
    with pytest.raises(SourceError, match=r"data\.npy is too short"):
        from_csr(*paths, LABELS, n_features=30)


def test_windows_of_sparse_rows_grow_where_rows_are_full():
    rows = np.where(RNG.uniform(size=X.shape) < np.linspace(0.01, 1, 2000)[:, np.newaxis], X, 0)
    matrix = scipy.sparse.csr_array(rows)
    parts = [matrix[first : first + 90] for first in range(0, 2000, 90)]
    ys = np.split(LABELS, range(90, 2000, 90))
    source = from_batches(lambda: zip(parts, ys, strict=True), window=400)
    one, other = fit([matrix, LABELS], shuffle=False), fit(source, shuffle=False)
    np.testing.assert_array_equal(one.coefs_[0], other.coefs_[0])


def test_rows_that_are_kept_do_not_keep_their_batches():
    source = from_batches(lambda: [(X[:1000], LABELS[:1000]), (X[1000:], LABELS[1000:])])
    kept = summary.sum_up(make(), source, np.float32).kept
    assert [len(batch) for batch in kept] == [64, 64]
    assert not any(np.shares_memory(batch.X, X) for batch in kept)


def test_batches_of_a_function():
    def factory():
        for first in range(0, 2000, 300):
            rows = slice(first, first + 300)
            yield X[rows], LABELS[rows], WEIGHTS[rows]

    source = from_batches(factory, window=400)
    assert source.n_rows is None
    one = fit([X, LABELS, WEIGHTS], shuffle=False)
    np.testing.assert_array_equal(one.coefs_[0], fit(source, shuffle=False).coefs_[0])
    used_up = iter([(X, LABELS)])
    with pytest.raises(SourceError, match="used up"):
        fit(from_batches(lambda: used_up))
    with pytest.raises(TypeError, match="factory must be a function"):
        from_batches([(X, LABELS)])
    with pytest.raises(TypeError, match=r"factory must return an iterable .* NoneType"):
        from_batches(lambda: None)
    with pytest.raises(SourceError, match=r"Batch 1 of factory must be a tuple .* NoneType"):
        fit(from_batches(lambda: [(X, LABELS), None]))
    narrow = [(X[:9], np.eye(3)[np.arange(9) % 3]), (X[:9], np.eye(2)[np.arange(9) % 2])]
    with pytest.raises(SourceError, match=r"batch 1 .*y has 2 columns here, and 3 before"):
        fit(from_batches(lambda: narrow))
    with_empty = from_batches(lambda: [(X, LABELS), (X[:0], LABELS[:0])], window=400)
    assert same(fit(with_empty), fit(from_batches(lambda: [(X, LABELS)], window=400)))


# ------------------------------------------------------------------------------ validation, ends


def test_rows_are_set_aside_and_not_trained_on():
    net = fit(stream(), early_stopping=True, validation_fraction=0.25)
    assert len(net.validation_scores_) == net.n_iter_
    assert net.t_ == net.n_iter_ * 1500
    assert same(net, fit(stream(), early_stopping=True, validation_fraction=0.25))
    scored = fit(stream(), early_stopping=True, scoring="neg_log_loss")
    np.testing.assert_allclose(scored.validation_scores_, -np.array(scored.validation_loss_curve_))


@pytest.mark.parametrize("memory_limit", [SMALL, 2**27])
def test_validation_data_may_be_a_source(memory_limit, monkeypatch):
    monkeypatch.setattr("fastbp.streams.source.SPARE", 2**27 if memory_limit == SMALL else 0)
    part = X[:900], LABELS[:900], WEIGHTS[:900]
    held = from_arrays(*part, window=200 if memory_limit == SMALL else None)
    names = "X_val", "y_val", "sample_weight_val"
    one = fit((stream(), dict(zip(names, part, strict=True))))
    other = fit((stream(), {"X_val": held}))
    np.testing.assert_allclose(one.validation_scores_, other.validation_scores_, rtol=1e-12)
    np.testing.assert_allclose(one.validation_loss_curve_, other.validation_loss_curve_, rtol=1e-6)


def test_r2_of_a_source_is_that_of_an_array():
    held = from_arrays(X[:900], VALUES[:900], window=200)
    settings = dict(scale_targets=True, kind=BackpropRegressor)
    one = fit((stream(VALUES), {"X_val": X[:900], "y_val": VALUES[:900]}), **settings)
    other = fit((stream(VALUES), {"X_val": held}), **settings)
    np.testing.assert_allclose(one.validation_scores_, other.validation_scores_, rtol=1e-5)
    with pytest.raises(ValueError, match="needs all validation rows"):
        fit((stream(VALUES), {"X_val": held}), BackpropRegressor, scoring="r2")
    with pytest.raises(ValueError, match="leave y_val out"):
        fit((stream(VALUES), {"X_val": held, "y_val": VALUES}), BackpropRegressor)


def test_limit_of_time_and_callbacks():
    with pytest.warns(Warning, match="max_time"):
        net = make(max_time=1e-9, max_iter=50).fit(stream())
    assert net.n_iter_ == 1
    assert net.t_ < 2000
    monitor = ScoringMonitor(scoring="accuracy")
    net = make(n_iter_no_change=1, tol=10.0).set_callbacks(monitor).fit(stream())
    assert {entry["task_name"] for entry in monitor.get_logs().data} == {"epoch", "fit"}
    assert not [t for t in threading.enumerate() if t.name == "fastbp reads ahead"]


def test_progress_shows_bytes(capsys):
    fit(stream(), verbose=1)
    assert "samples/s" in (shown := capsys.readouterr().out)
    assert "MB/s" in shown


def test_live_line_moves_within_an_epoch(capsys, monkeypatch):
    monkeypatch.setattr(reports, "can_write_over", lambda stream: True)
    monkeypatch.setattr(reports, "REFRESH_S", 0.0)
    fit(stream(), verbose=1)
    assert "Iteration 2, 60% of the rows" in capsys.readouterr().out


# ------------------------------------------------------------------------------ through


def test_scaler_is_fitted_on_blocks_and_goes_before():
    scaler = StandardScaler()
    for part, _, _ in stream().blocks():
        scaler.partial_fit(part)
    source = stream().through(scaler)
    one = fit([scaler.transform(X), LABELS], shuffle=False)
    np.testing.assert_array_equal(one.coefs_[0], fit(source, shuffle=False).coefs_[0])
    with pytest.raises(TypeError, match=r"source\.through\(fitted_transformer\)"):
        make_pipeline(StandardScaler(), make()).fit(stream())
    with pytest.raises(Exception, match="not fitted"):
        stream().through(StandardScaler())
    with pytest.raises(TypeError, match="takes a fitted transformer"):
        stream().through(LinearRegression().fit(X, VALUES))


@pytest.mark.parametrize("output", ["default", "pandas"])
def test_a_transformer_has_the_names_that_it_knows_and_gives_those_of_a_frame(output):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=list("abcde"))
    scaler = StandardScaler().set_output(transform=output).fit(frame)
    source = from_arrays(frame, LABELS).through(scaler)
    model = fit(source)
    np.testing.assert_array_equal(
        make_pipeline(scaler, model).predict(frame), predict_stream(model, source)
    )
    assert hasattr(model, "feature_names_in_") == (output == "pandas")
    with pytest.raises(ValueError, match="feature names should match"):
        from_arrays(frame[list("edcba")], LABELS).through(scaler)


def test_labels_that_no_dtype_tells_apart_are_refused():
    ids = np.arange(len(X)) % 2 + 2**53
    with pytest.raises(SourceError, match="tells them all apart"):
        fit(from_batches(lambda: [(X, ids), (X, ids % 2 / 1.0)]))


# ------------------------------------------------------------------------------ predictions


def test_predictions_are_written_as_they_come(tmp_path):
    net = make(BackpropClassifier, max_iter=1, tol=10.0)
    with pytest.warns(Warning, match="converge"):
        net.fit(X, LABELS)
    source = stream(None)
    p = net.predict_proba(X)
    np.testing.assert_array_equal(predict_stream(net, source), net.predict(X))
    out = np.empty((2000, 3), np.float32)
    assert predict_stream(net, source, out, method="predict_proba") is out
    np.testing.assert_array_equal(out, p)
    path = predict_stream(net, source, tmp_path / "p.npy", method="predict_proba")
    np.testing.assert_array_equal(np.load(path, mmap_mode="r"), p)
    with pytest.raises(ValueError, match="out has 5 rows"):
        predict_stream(net, source, out[:5])
    with pytest.raises(ValueError, match="method must be"):
        predict_stream(net, source, method="predct")
    with pytest.raises(TypeError, match="from_arrays"):
        predict_stream(net, X)
    with pytest.raises(TypeError, match="predict_stream"):
        net.predict(source)
    path, hole = tmp_path / "p.npy", X.copy()
    kept = path.read_bytes()
    hole[1700, 2] = np.nan
    with pytest.raises(SourceError, match=r"Column 2 of X has a missing value .* row 1700 of X"):
        predict_stream(net, stream(None, rows=hole), path)
    assert path.read_bytes() == kept
    with pytest.raises(SourceError, match=r"In rows \d+ to \d+ of X: .* beyond the range"):
        predict_stream(net, stream(None, rows=np.full((9, 5), 1e300)))


# ------------------------------------------------------------------------------ refusals


def test_settings_are_checked():
    for settings, message in (
        ({"memory_limit": "12 parsecs"}, "memory_limit must be"),
        ({"memory_limit": 10}, "at least"),
        ({"window": 0}, "window must be"),
        ({"feature_names": ["a"]}, "1 names for 5 columns"),
    ):
        with pytest.raises(ValueError, match=message):
            stream(**settings)
    assert from_arrays(X, memory_limit="0.5 GiB").memory_limit == 2**29
    with pytest.raises(ValueError, match="Raise it to"):
        fit(from_arrays(np.zeros((1000, 400)), np.zeros(1000), memory_limit=SMALL))


def test_what_a_source_is_not_for():
    with pytest.raises(ValueError, match="works on all rows at once"):
        make(solver="lbfgs").fit(stream())
    with pytest.raises(TypeError, match=r"source\.blocks\(\)"):
        make().partial_fit(stream(), LABELS)
    with pytest.raises(ValueError, match="leave y out"):
        make().fit(stream(), LABELS)
    with pytest.raises(ValueError, match="the source has none"):
        make().fit(stream(None))
    with pytest.raises(ValueError, match="y is None"):
        make().fit(X)
    with pytest.raises(ValueError, match="one row for each"):
        from_arrays(X, LABELS[:5])
    with pytest.raises(TypeError, match="shape, a dtype"):
        from_arrays(object())


# ------------------------------------------------------------------------------ bad data


def test_missing_value_is_named_and_the_model_so_far_is_kept():
    bad = X.copy()
    bad[1777, 3] = np.nan
    net = make(shuffle=False)
    with pytest.raises(SourceError, match=r"Column 3 of X has a missing value.* row 1777 of X"):
        net.fit(stream(rows=bad))
    assert net.coefs_[0].shape == (5, 4)
    assert net.n_iter_ == 0
    net.predict(X)
    net = make()
    with pytest.raises(SourceError, match="row 3 of X"):  # before a step was made
        net.fit(stream(rows=np.where(np.arange(2000)[:, None] == 3, np.inf, X), window=1999))
    assert not hasattr(net, "coefs_")


def test_disk_that_fails_in_mid_epoch(monkeypatch):
    passes = []

    def factory():
        passes.append(1)
        for first in range(0, 2000, 500):
            if len(passes) == 5 and first == 1500:
                raise OSError("the disk is gone")
            yield X[first : first + 500], LABELS[first : first + 500]

    net = make(max_iter=9)
    with pytest.raises(SourceError, match=r"after row 1500: OSError: the disk is gone"):
        net.fit(from_batches(factory, window=400))
    assert net.n_iter_ == 2
    assert len(net.loss_curve_) == 2
    assert net.t_ == 4000
    assert not [t for t in threading.enumerate() if t.name == "fastbp reads ahead"]


@pytest.mark.parametrize(
    ("last", "message"),
    [
        (1 / 3, "after row 1500: ZeroDivisionError"),
        (1500, "2000 rows were expected from row 0 on, but 1500 came"),
        (2500, "2000 rows were expected from row 0 on, but 2500 or more came"),
    ],
)
@pytest.mark.parametrize("early_stopping", [True, False])
def test_a_function_that_is_not_the_same_in_each_epoch(last, message, early_stopping):
    passes = []

    def factory():
        passes.append(1)
        for first in range(0, last if len(passes) == 6 and last > 1 else 2000, 500):
            rows = np.arange(first, first + 500) % 2000
            if len(passes) == 6 and first == 1500 and last < 1:
                1 / 0  # noqa: B018 - whatever a library raises
            yield X[rows], LABELS[rows]

    net = make(max_iter=99, early_stopping=early_stopping)
    with pytest.raises(SourceError, match=message):
        net.fit(from_batches(factory, window=400))
    assert net.n_iter_ >= 2
    assert len(passes) == 6


def test_a_map_that_is_cut_short_in_mid_fit(tmp_path):
    path = tmp_path / "X.npy"
    np.save(path, X)

    class Cut(ScoringMonitor):
        def on_fit_task_end(self, estimator, context, **told):
            with open(path, "r+b") as file:
                file.truncate(20_000)
            return False

    net = make(max_iter=9).set_callbacks(Cut(scoring="accuracy"))
    with pytest.raises(SourceError, match=r"X\.npy was cut short: it has 20000 bytes"):
        net.fit(from_arrays(path, LABELS, window=400))
    assert net.n_iter_ >= 1


@pytest.mark.parametrize("which", ["plain", "a part", "changed", "another file", "columns"])
def test_maps_are_read_from_their_files(which, tmp_path):
    path = tmp_path / "X.npy"
    np.save(path, X)
    mapped = np.load(path, mmap_mode="c" if which == "changed" else "r")
    if which == "a part":
        mapped = mapped[100:1900]
    if which == "columns":
        mapped = mapped[:, 1:3]
    if which == "changed":
        mapped[5] = 7.0
    if which == "another file":
        path.rename(tmp_path / "Y.npy")
        np.save(path, X + 1)
    source = from_arrays(mapped, LABELS[: len(mapped)], window=400)
    assert isinstance(source.X, np.memmap) == (which not in ("plain", "a part"))
    rows = np.concatenate([part for part, _, _ in source.blocks()])
    np.testing.assert_array_equal(rows, mapped)


def test_interrupt_keeps_what_was_reached():
    passes = []

    def factory():
        passes.append(1)
        for first in range(0, 2000, 200):
            if len(passes) == 6 and first == 1000:
                _thread.interrupt_main()
            yield X[first : first + 200], LABELS[first : first + 200]

    with pytest.warns(UserWarning, match="interrupted by user"):
        net = make(max_iter=10**6).fit(from_batches(factory, window=400))
    assert 0 < net.n_iter_ < 10**6
    assert net.t_ == 2000 * net.n_iter_


def test_place_of_a_stream_is_saved(tmp_path):
    net = fit(stream(), warm_start="resume")
    assert net._place["parts"] == {**net._place["parts"], "epoch": 3, "n_rows": 0, "loss": 0.0}
    save(net, tmp_path / "net.fastbp")
    assert load(tmp_path / "net.fastbp")._place["parts"] == net._place["parts"]


def test_labels_that_were_not_there_before():
    late = LABELS.copy()
    late[700] = "z"
    net = make(max_iter=10**9)
    with pytest.raises(SourceError, match=r"In row 700 of y: `y` has classes not in .*'z'"):
        net.fit(stream(), X_val=stream(late))
    assert not hasattr(net, "coefs_")
    mixed = LABELS.astype(object)
    mixed[700] = 7
    with pytest.raises(SourceError, match=r"In row 700 of y: labels must be of one type"):
        fit(stream(mixed))
    real = VALUES.copy()
    real[1234] = np.nan
    with pytest.raises(SourceError, match=r"In row 1234 of y: .*NaN"):
        fit(stream(real), BackpropRegressor)
    with pytest.raises(SourceError, match=r"must be .*-1.0 in row 9 of sample_weight"):
        fit(from_arrays(X, LABELS, np.where(np.arange(2000) == 9, -1.0, 1.0), window=400))


def test_files_that_are_cut_short(tmp_path):
    path = tmp_path / "X.npy"
    np.save(path, X)
    source = from_arrays(path, LABELS, window=400)
    with open(path, "r+b") as file:
        file.truncate(20_000)
    with pytest.raises(SourceError, match=r"X\.npy was cut short"):
        fit(source)
    with pytest.raises(SourceError, match=r"X\.npy cannot be read"):
        from_arrays(path, LABELS)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        from_arrays(tmp_path / "Y.npy", LABELS)
    (tmp_path / "X.csv").write_text("a,b\n1,2")
    with pytest.raises(SourceError, match=r"X\.csv is no \.npy file"):
        from_arrays(tmp_path / "X.csv", LABELS)


# ------------------------------------------------------------------------------ maps of files


@pytest.mark.parametrize(("dtype", "order"), [("f8", "C"), ("f4", "C"), ("f4", "F"), ("i2", "C")])
def test_map_of_a_file_has_the_bits_of_memory(dtype, order, tmp_path, monkeypatch):
    array = np.asarray(10 * X, dtype, order=order)
    np.save(tmp_path / "X.npy", array)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    as_dtype = features.as_dtype

    def watch(X, dtype):
        assert not (isinstance(X, np.memmap) and X.nbytes == mapped.nbytes), "copied whole"
        return as_dtype(X, dtype)

    for settings in ({}, {"early_stopping": True, "scoring": "accuracy"}, {"warm_start": True}):
        one = fit([array, LABELS], **settings)
        with monkeypatch.context() as patch:
            patch.setattr(features, "as_dtype", watch)
            other = fit([mapped, LABELS], **settings)
        for a, b in zip(one.coefs_, other.coefs_, strict=True):
            np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(one.loss_curve_, other.loss_curve_, rtol=1e-14)


def test_map_larger_than_memory_warns_once(tmp_path, monkeypatch):
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    monkeypatch.setattr(features, "physical_memory", lambda: 1000)
    with pytest.warns(UserWarning, match="from_arrays") as caught:
        make(n_iter_no_change=1, tol=10.0).fit(mapped, LABELS)
    assert len([w for w in caught if "from_arrays" in str(w.message)]) == 1
    assert caught[0].filename == __file__
    bad = np.where(np.arange(2000)[:, None] == 1900, np.nan, X.astype(np.float64))
    np.save(tmp_path / "bad.npy", bad)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="NaN"):
        make().fit(np.load(tmp_path / "bad.npy", mmap_mode="r"), LABELS)


def test_problem_is_described_in_full():
    """A field of a problem that streams do not know would be its default."""
    known = {"deadline", "held_out", "parts", "weights_dtype"}
    text = inspect.getsource(problem)
    assert all(f"{f.name}=" in text for f in fields(Problem) if f.name not in known)


@pytest.mark.parametrize("given", [scipy.sparse.csr_array(X), scipy.sparse.csc_matrix(X)])
def test_from_arrays_names_from_csr_to_who_gives_a_sparse_matrix(given):
    with pytest.raises(TypeError, match=r"X is sparse: .*from_csr"):
        from_arrays(given, LABELS)
    with pytest.raises(TypeError, match="y is sparse"):
        from_arrays(X, given)


def test_batches_of_one_pass_are_alike():
    sparse = scipy.sparse.csr_array(X)
    for first, second, word in [(sparse, X, "dense"), (X, sparse, "sparse")]:
        batches = [(first, LABELS), (second, LABELS)]
        with pytest.raises(SourceError, match=f"batch 1 of factory is {word}"):
            fit(from_batches(lambda batches=batches: batches))


def test_columns_of_frames_keep_their_names_and_places():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=list("abcde"))
    assert list(fit(from_arrays(frame, LABELS)).feature_names_in_) == list("abcde")
    swapped = [(frame, LABELS), (frame[list("bacde")], LABELS)]
    with pytest.raises(SourceError, match="columns b, a, c, d, e; those of the first one are a, b"):
        fit(from_batches(lambda: swapped))


@pytest.mark.parametrize(
    ("values", "out"),
    [
        (VALUES, np.empty(2000, int)),
        (VALUES, np.empty(2000, np.float16)),
        (VALUES, np.empty((2000, 2))),
        (np.where(LABELS == "a", 300, 2), np.empty(2000, np.uint8)),
        (np.where(LABELS == "a", "long", "b"), np.empty(2000, "U1")),
    ],
)
def test_an_array_that_cannot_hold_predictions_is_refused(values, out):
    class Model:
        def predict(self, rows):
            return np.tile(values * 100 if values.dtype == float else values, 1)[: len(rows)]

    with pytest.raises(ValueError, match="out has"):
        predict_stream(Model(), from_arrays(X), out)


def test_predictions_go_into_narrower_arrays_that_hold_them():
    class Model:
        def predict(self, rows):
            return np.arange(len(rows)) % 7

    out = np.empty(2000, np.uint8)
    assert (predict_stream(Model(), from_arrays(X), out) == np.arange(2000) % 7).all()


def test_scores_of_other_streams_are_not_believed():
    rows, y = X[:300, :2], X[:300, 0] > 0  # as many of each class in y and in ~y, nearly

    def given(y=y, rows=rows, weight=None):
        return from_arrays(rows, y, weight, window=60)

    for other in ({"y": ~y}, {"rows": -rows}):
        net = make(max_iter=40, learning_rate_init=0.05, warm_start=True)
        for source in (given(), given(**other)):
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Stochastic Optimizer: Maximum")
                net.fit(source, X_val=source)
        score = net.score(other.get("rows", rows), other.get("y", y))
        assert score > 0.6  # that of the first weights is near 0
        assert net.best_validation_score_ == pytest.approx(score)


def test_all_of_y_and_weights_tell_a_stream_from_others():
    def seen(y=VALUES, rows=X, weight=WEIGHTS):
        net = make(BackpropRegressor, scale_targets=True, warm_start=True)
        source = from_arrays(rows, y, weight, window=200)
        prepared, _ = problem.prepare_stream(net, source, settings=net._check_parameters())
        return tuple(prepared.X.identity().values())

    other = VALUES.copy()
    other[[700, 1300]] = other[[1300, 700]]
    weight = WEIGHTS.copy()
    weight[1000] += 1
    found = [seen(), seen(other), seen(weight=weight), seen(rows=np.r_[X[:9] + 1, X[9:]])]
    assert len(set(found)) == 4
    assert seen() == found[0]


def test_a_source_for_validation_goes_with_a_source():
    for kind in (BackpropClassifier, TabularClassifier):
        with pytest.raises(TypeError, match="X_val is a source, and X is none"):
            kind(max_iter=1).fit(X, LABELS, X_val=stream())


def test_values_beyond_the_dtype_are_refused_without_a_warning_of_numpy():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(SourceError, match="beyond the range of float32 in row"):
            fit(stream(rows=X.astype(float) * 1e300))


@pytest.mark.parametrize("window", [None, 200])
def test_columns_in_another_order_are_refused(window):
    names = list("abcde")

    def given(names):
        return from_arrays(X, LABELS, feature_names=names, window=window)

    net = fit(given(names), warm_start=True)
    for call in (
        lambda: fit((given(names), dict(X_val=given(names[::-1])))),
        lambda: net.fit(given(names[::-1])),
        lambda: predict_stream(net, given(names[::-1])),
    ):
        with pytest.raises(ValueError, match="Got e, d, c, b, a; in fit they were a, b, c, d, e"):
            call()
    assert predict_stream(net, given(names)).shape == (2000,)
