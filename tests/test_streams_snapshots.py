"""Fits on sources that are killed, also within an epoch, and go on: same bits, less work."""

import os
import threading

import numpy as np
import pytest
from sklearn.preprocessing import FunctionTransformer

from fastbp import BackpropClassifier, BackpropRegressor, Snapshot, TabularClassifier
from fastbp.streams import SourceError, from_arrays, from_batches, from_parquet
from fastbp.training import keeping
from fastbp.training.minibatches import Training

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.RandomState(0)
X = RNG.normal(size=(2000, 5)).astype(np.float32)
Y = (X[:, 0] + X[:, 1] > 0).astype(int) + (X[:, 2] > 1)
WEIGHT = RNG.randint(1, 3, 2000).astype(float)
NET = dict(hidden_layer_sizes=(4,), max_iter=3, random_state=0)


class Death(BaseException):
    """What stands for a kill here; `checks.kills` sends SIGKILL."""


@pytest.fixture
def written(monkeypatch):
    """Note the states that are written, and die right after so many (`die`)."""
    plain, states, left = keeping.Keeper.write, [], [None]

    def write(keeper, state):
        plain(keeper, state)
        states.append((state.n_iter, state.rows_seen))
        if len(states) == left[0]:
            raise Death

    def die(n):
        states.clear()
        left[0] = n

    monkeypatch.setattr(keeping.Keeper, "write", write)
    monkeypatch.setattr(keeping, "MOST_OF_TIME", np.inf)
    return states, die


def batches():
    for first in range(0, 2000, 300):
        rows = slice(first, first + 300)
        yield X[rows], Y[rows], WEIGHT[rows]


def arrays(y=Y, rows=X, **more):
    return from_arrays(rows, y, **{"window": 600, "memory_limit": 2**20} | more)


def same(one, other):
    pairs = zip(one.coefs_ + one.intercepts_, other.coefs_ + other.intercepts_, strict=True)
    curves = ("loss_curve_", "validation_scores_", "n_iter_", "t_")
    return all((a == b).all() for a, b in pairs) and all(
        getattr(one, name, None) == getattr(other, name, None) for name in curves
    )


def fit(source, path=None, kind=BackpropClassifier, **settings):
    return kind(**NET | settings).fit(
        source, snapshot=path and Snapshot(path, every=0)
    )  # fmt: skip


CALLS = {
    "arrays": (arrays, dict(learning_rate="cosine", dropout=0.2)),
    "held out": (arrays, dict(early_stopping=True, ema_decay=0.9, tol=0.0)),
    "batches": (lambda: from_batches(batches, window=600), dict(solver="sgd")),
    "numbers": (
        lambda: arrays(X[:, 0] * 9, sample_weight=WEIGHT),
        dict(kind=BackpropRegressor, scale_targets=True),
    ),
    "no seed": (arrays, dict(random_state=None, shuffle=True)),
}


@pytest.mark.parametrize("name", CALLS)
def test_who_was_killed_within_an_epoch_goes_on(name, tmp_path, written):
    (make, settings), (states, die), path = CALLS[name], written, tmp_path / "fit.snapshot"
    np.random.seed(1)
    whole = fit(make(), **settings)
    np.random.seed(1)
    places = []
    for n in (2, 1, 4, 1):
        die(n)
        with pytest.raises(Death):
            fit(make(), path, **settings)
        places += states
    die(None)
    again = fit(make(), path, **settings)
    assert same(whole, again)
    assert sum(0 < n_rows < 2000 for _, n_rows in places) >= 5
    places = [n_iter * 2000 + n_rows for n_iter, n_rows in places + states]
    assert places == sorted(set(places))  # no window was trained on twice
    states.clear()
    assert same(whole, fit(make(), path, **settings))
    assert not states


def test_parts_that_are_done_are_not_read_again(tmp_path, written, monkeypatch):
    monkeypatch.setattr("fastbp.streams.arrays.BLOCK", 2**12)
    whole = fit(arrays(window=400), max_iter=1)
    written[1](3)
    with pytest.raises(Death):
        fit(arrays(window=400), tmp_path / "a", max_iter=1)
    written[1](None)
    source = arrays(window=400)
    read, n_rows = type(source)._read, []

    def count(self, part, n, *, targets_only=False):
        if threading.current_thread().name == "fastbp reads ahead":
            n_rows.append(part.n_rows)
        return read(self, part, n, targets_only=targets_only)

    monkeypatch.setattr(type(source), "_read", count)
    assert same(whole, fit(source, tmp_path / "a", max_iter=1))
    assert 2000 - 1200 <= sum(n_rows) < 2000 - 1200 + max(n_rows)


def test_time_of_the_epoch_in_hand_counts(tmp_path, written, monkeypatch):
    seconds, plain = [], Training.state

    def state(training):
        made = plain(training)
        seconds.append(made.seconds)
        return made

    monkeypatch.setattr(Training, "state", state)
    fit(arrays(), tmp_path / "a")
    assert seconds == sorted(seconds)
    assert seconds[0] > 0


def test_tabular_estimators_go_on(tmp_path, written, monkeypatch):
    monkeypatch.setattr("fastbp.tabular.base.fits", lambda source: False)
    settings = dict(kind=TabularClassifier, n_networks=2, n_members=2, hidden_layer_sizes=(6,),
                    n_threads=1)  # fmt: skip
    whole = fit(arrays(), **settings)
    for n in (2, 6):
        written[1](n)
        with pytest.raises(Death):
            fit(arrays(), tmp_path / "a", **settings)
    written[1](None)
    again = fit(arrays(), tmp_path / "a", **settings)
    np.testing.assert_array_equal(whole.predict_proba(X), again.predict_proba(X))


def test_other_data_are_refused_by_name(tmp_path):
    path, file = tmp_path / "a", tmp_path / "X.npy"
    np.save(file, X)

    def call(y=Y, rows=file, snapshot=path, **more):
        return BackpropClassifier(**NET).fit(arrays(y, rows, **more), snapshot=snapshot)

    whole = call()
    other = Y.copy()
    other[[0, 1]] = other[[1, 0]] if other[0] != other[1] else 1 - other[:2]
    for more, name in [
        ({"y": other}, "data: y and sample_weight"),
        ({"sample_weight": WEIGHT}, "data: y and sample_weight"),
        ({"window": 400}, "settings: window of X"),
        ({"rows": X[:, ::-1].copy()}, "files of X '1 of "),
    ]:
        with pytest.raises(ValueError, match=name):
            call(**more)
    (tmp_path / "moved").mkdir()
    os.rename(file, tmp_path / "moved" / "X.npy")
    assert same(whole, call(rows=tmp_path / "moved" / "X.npy"))
    np.save(file, X)
    os.utime(file, (1, 1))
    with pytest.raises(ValueError, match=r"files of X '1 of 40128 bytes.*other_machine='warn'"):
        call()
    with pytest.warns(UserWarning, match="goes on though files of X"):
        assert same(whole, call(snapshot=Snapshot(path, other_machine="warn")))
    np.save(file, X + 1)
    snapshot = Snapshot(path, other_machine="warn")
    with pytest.warns(UserWarning, match="files"), pytest.raises(ValueError, match="data: X"):
        call(snapshot=snapshot)


def test_what_differs_between_processes_alone_is_no_other_data(tmp_path):
    """Addresses of functions, and the order of a set of texts in a filter."""
    pq = pytest.importorskip("pyarrow.parquet")
    pa = pytest.importorskip("pyarrow")
    file = tmp_path / "a.parquet"
    columns = {f"x{j}": column for j, column in enumerate(X.T)}
    pq.write_table(pa.table(columns | {"y": Y.astype(str)}), file, row_group_size=200)

    def source(texts):
        rows = from_parquet(file, target="y", filters=[("y", "in", texts)], window=600)
        double = FunctionTransformer(lambda X: 2 * X)  # another function each time
        return rows.through(double.fit(X))

    whole = fit(source(["0", "1", "2"]), tmp_path / "s")
    functions = [source(["0"]) for _ in range(2)]
    assert repr(functions[0].transformer) != repr(functions[1].transformer)
    assert same(whole, fit(source(["2", "1", "0"]), tmp_path / "s"))
    with pytest.raises(ValueError, match="other data"):
        fit(source(["0", "1"]), tmp_path / "s")


def test_what_a_snapshot_of_a_source_needs(tmp_path):
    with pytest.raises(ValueError, match="early_stopping needs an int as random_state"):
        fit(arrays(), tmp_path / "a", random_state=None, early_stopping=True)


def test_a_disk_that_fails_leaves_a_fit_that_goes_on(tmp_path, written):
    whole, fails = fit(from_batches(batches, window=600)), [False]

    def failing():
        for number, batch in enumerate(batches()):
            if number == 5 and fails:
                fails.append(True)
                if len(fails) == 4:
                    raise OSError("the disk is gone")
            yield batch

    with pytest.raises(SourceError, match="the disk is gone"):
        fit(from_batches(failing, window=600), tmp_path / "a")
    n_lives = len(written[0])
    fails[:] = [False, True]
    net = BackpropClassifier(**NET)
    with pytest.raises(SourceError, match="the disk is gone"):  # before this life made a step
        net.fit(from_batches(failing, window=600), snapshot=tmp_path / "a")
    assert net.n_iter_ == 1
    assert net.t_ == 2000
    fails.clear()
    assert same(whole, fit(from_batches(failing, window=600), tmp_path / "a"))
    assert n_lives > 1


def test_a_damaged_place_is_refused(tmp_path, written):
    source, path = arrays(), tmp_path / "a"
    written[1](2)
    with pytest.raises(Death):
        fit(source, path)
    plain = keeping.restore

    for name, value in [("n_rows", 5000), ("loss", float("nan")), ("seed", "x"), ("epoch", -1)]:

        def restore(*read, name=name, value=value):
            state = plain(*read)
            state.place["parts"][name] = value
            return state

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(keeping, "restore", restore)
            with pytest.raises(ValueError, match="does not belong to a training"):
                fit(source, path)
