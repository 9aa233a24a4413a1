"""One model over a Dask cluster of two processes, which all tests here share."""

import pickle
import signal
import sys
import time
import warnings
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
from clusters import Misfortune, die, open_client
from problems import draw_classes
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import fastbp
from fastbp import BackpropClassifier, BackpropRegressor, TabularClassifier
from fastbp.losses import Quantile

distributed = pytest.importorskip("distributed")
da = pytest.importorskip("dask.array")

import dask  # noqa: E402
import dask.bag  # noqa: E402

from fastbp.dask import (  # noqa: E402
    DaskBackpropClassifier,
    DaskBackpropRegressor,
    DaskTabularClassifier,
    DaskTabularRegressor,
    rounds,
)
from fastbp.dask.averages import scale_of_rate  # noqa: E402
from fastbp.dask.partitions import split  # noqa: E402
from fastbp.dask.shards import Job, join  # noqa: E402
from fastbp.dask.team import Team  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

x, y = draw_classes(240, 4, 3)
X, Y = da.from_array(x, chunks=(60, 4)), da.from_array(y, chunks=60)
NET = dict(hidden_layer_sizes=(5,), max_iter=5, random_state=0, learning_rate_init=0.01)


@pytest.fixture(scope="module")
def client():
    with open_client() as client:
        yield client


@pytest.fixture(scope="module")
def two(client):
    """A fit on two shards that nothing disturbs."""
    return DaskBackpropClassifier(**NET, client=client).fit(X, Y)


def assert_same(ours, local):
    for name in ("coefs_", "intercepts_"):
        for a, b in zip(getattr(ours, name), getattr(local, name)):
            np.testing.assert_array_equal(a, b)
    assert ours.loss_curve_ == local.loss_curve_


def test_parameters_are_those_of_the_ordinary_estimator():
    local = DaskBackpropClassifier((4,), matmul_precision="medium")._check()[0]
    assert local.matmul_precision == "medium"
    with pytest.raises(ValueError, match=r"Did you mean 'medium'\?"):
        DaskBackpropClassifier(matmul_precision="bf16")._check()


def test_precision_and_its_warning_are_those_of_the_local_fit(client):
    """Though the first shard is too small for rounded products, and each has its own figures."""
    far = np.hstack([x] * 5).astype(np.float32)
    far[:, 1] += 2009
    how = NET | dict(
        hidden_layer_sizes=(64, 40), max_iter=1, batch_size=64, matmul_precision="medium"
    )
    found = []
    for net, X, Y in [
        (BackpropClassifier(**how), far, y),
        (DaskBackpropClassifier(**how, client=client, n_shards=2),
         da.from_array(far, chunks=((10, 230), 20)), da.from_array(y, chunks=((10, 230),))),
    ]:  # fmt: skip
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            net.fit(X, Y)
        n = sum("keeps 8 bits of each value" in str(one.message) for one in caught)
        found.append((net.matmul_precision_, n))
    assert found[0] == found[1]
    assert found[0][1] == (found[0][0] == "medium")


@pytest.mark.parametrize("early", [False, True])
def test_one_shard_is_the_local_fit(client, early):
    how = NET | dict(early_stopping=early, dropout=0.2, ema_decay=0.9)
    local = BackpropClassifier(**how).fit(x, y)
    ours = DaskBackpropClassifier(**how, n_shards=1, average_every=2).fit(X, Y)
    assert_same(ours, local)
    assert ours.n_shards_ == 1
    assert ours.validation_scores_ == local.validation_scores_
    for name in ("predict", "predict_proba", "predict_log_proba"):
        lazy = getattr(ours, name)(X)
        assert isinstance(lazy, da.Array)
        expected = getattr(local, name)(x)
        assert (lazy.shape, lazy.dtype) == (expected.shape, expected.dtype)
        np.testing.assert_array_equal(lazy.compute(), expected)
        np.testing.assert_array_equal(getattr(ours, name)(x), expected)
    assert ours.score(X, Y) == local.score(x, y)
    assert type(ours.to_local()) is BackpropClassifier
    assert ours.to_local().get_params() == local.get_params()
    if not early:
        assert_same(ours.to_local().partial_fit(x, y), local.partial_fit(x, y))


def test_two_shards(two):
    assert two.n_shards_ == 2
    assert (two.n_iter_, len(two.loss_curve_), two.t_) == (5, 5, 5 * 240)
    assert two.loss_curve_[-1] < two.loss_curve_[0]
    local = BackpropClassifier(**NET).fit(x, y)
    assert two.score(X, Y) > 0.9 * local.score(x, y)
    assert two._optimizer["learning_rate"] == local._optimizer["learning_rate"] == 0.01
    unscaled = DaskBackpropClassifier(**NET, scale_learning_rate=False).fit(X, Y)
    assert unscaled.loss_curve_[-1] > two.loss_curve_[-1]
    assert [scale_of_rate(k) for k in (2, 8, 64)] == [2.0, 8.0, 8.0]
    again = DaskBackpropClassifier(**NET, n_shards=2).fit(X.persist(), Y)
    assert_same(again, two)


def test_shards_are_on_all_workers_wherever_their_partitions_are(client):
    one = next(iter(client.nthreads()))
    there = client.persist([X, Y], workers=[one])
    distributed.wait(there)
    team = Team(client, split(*there), None, 60.0)
    team._join()
    distributed.wait(team.shards, timeout=60)
    homes = [worker for shard in team.shards for worker in client.who_has([shard])[shard.key]]
    assert sorted(homes) == sorted(client.nthreads())


class Here:
    """Runs the tasks of a fit in this process, in the place of a Team."""

    times = 1  # that a task is run, as Dask does where a result was lost

    def __init__(self, *shards):
        self.shards = shards

    def hold(self, value):
        return value

    def run(self, make):
        def submit(function, *given, **named):
            for _ in range(self.times):
                found = function(*given, **named)
            return found

        return make(submit, self.shards)


def train_here(average_every=1.0, **how):
    """Train on two shards in this process."""
    halves = [
        join(k, "some partitions", 2 * k, [(x[rows], y[rows], None) for rows in parts])
        for k, parts in enumerate([(slice(60), slice(60, 120)), (slice(120, 180), slice(180, 240))])
    ]
    net, team = BackpropClassifier(**NET | how), Here(*halves)
    job, settings = Job(net, 0, 2, 2.0), net._check_parameters()
    look = rounds.look_at_all(team, job)
    assert look.rows == [120, 120]
    n_pieces = rounds.count_pieces(average_every, settings, look.rows)
    job = replace(job, found=look.found, n_pieces=n_pieces)
    vars(net).update(rounds.ManyShards(team, job, settings, 1, 0.0, None).fit())
    return net


def test_without_a_cluster_the_bits_are_the_same(two):
    net = train_here()
    assert_same(net, two)
    whole = join(0, "all", 0, [(x, y, None)])
    alone = rounds.fit_one(Here(whole), Job(clone(net), 0, 1), 2)
    assert alone["loss_curve_"] == clone(net).fit(x, y).loss_curve_


@pytest.mark.parametrize("average_every", [1.0, 0.25])
def test_a_task_that_runs_again_gives_the_same(average_every, monkeypatch):
    """On the same worker, with what it was given in memory: it must not write to that."""
    once = train_here(average_every, batch_size=10)
    monkeypatch.setattr(Here, "times", 2)
    again = train_here(average_every, batch_size=10)
    assert_same(again, once)
    assert again.loss_curve_ == once.loss_curve_


def test_averages_within_an_epoch(two):
    """Of 12 steps an epoch, three make a piece; curves and schedules are those of whole epochs."""
    asked = []

    def rate(step, n_steps):
        asked.append((step, n_steps))
        return 1.0

    how = dict(batch_size=10, learning_rate=rate, average_every=0.25)
    pieces = train_here(**how)
    assert (pieces.n_iter_, len(pieces.loss_curve_), pieces.t_) == (5, 5, 5 * 240)
    assert sorted(asked) == sorted(2 * [(step, 60) for step in range(60)])
    assert pieces.loss_curve_[-1] < pieces.loss_curve_[0]
    whole = train_here(batch_size=10)
    assert pieces.loss_curve_ != whole.loss_curve_
    assert pieces.loss_curve_[-1] == pytest.approx(whole.loss_curve_[-1], rel=0.2)
    del how["learning_rate"]
    assert_same(DaskBackpropClassifier(**NET, **how).fit(X, Y), train_here(**how))
    assert_same(train_here(batch_size=10, average_every=1e-9), train_here(1 / 12, batch_size=10))


def test_two_shards_of_the_same_rows_are_their_average(client):
    """A shard's order is its own: with whole batches, order is no matter, and all stay equal."""
    how = NET | dict(shuffle=False, batch_size=120, max_iter=3, scale_learning_rate=False)
    half, labels = x[:120], y[:120]
    twice = da.from_array(np.vstack([half, half]), chunks=(120, 4))
    ours = DaskBackpropClassifier(**how).fit(
        twice, da.from_array(np.hstack([labels, labels]), chunks=120)
    )
    del how["scale_learning_rate"]
    for a, b in zip(ours.coefs_, BackpropClassifier(**how).fit(half, labels).coefs_):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_shards_that_lack_classes(client):
    rows = np.argsort(y, kind="stable")
    ours = DaskBackpropClassifier(
        **NET, class_weight="balanced", n_shards=4, outer_momentum=0.3
    ).fit(da.from_array(x[rows], chunks=(60, 4)), da.from_array(y[rows], chunks=60))
    np.testing.assert_array_equal(ours.classes_, np.unique(y))
    assert ours.loss_curve_[-1] < ours.loss_curve_[0]


def test_multilabel_and_one_class(client):
    labels = np.column_stack([y > 0, y > 1]).astype(int)
    ours = DaskBackpropClassifier(**NET).fit(X, da.from_array(labels, chunks=(60, 2)))
    np.testing.assert_array_equal(ours.predict(X).compute(), ours.to_local().predict(x))
    with pytest.warns(RuntimeWarning, match="y has only one class, 0") as kept:
        alone = DaskBackpropClassifier(**NET).fit(X, Y * 0)
    assert kept[0].filename == __file__
    assert alone.predict_proba(X).compute().tolist() == [[1.0]] * 240


def test_validation_and_stopping(client):
    how = NET | dict(early_stopping=True, max_iter=30, n_iter_no_change=2, tol=0.5)
    ours = DaskBackpropClassifier(**how).fit(X, Y, X_val=x, y_val=y)
    assert ours.n_iter_ == len(ours.validation_scores_) == len(ours.validation_loss_curve_) < 30
    assert ours.best_validation_score_ == max(ours.validation_scores_) == ours.score(x, y)
    twice = DaskBackpropClassifier(**how, average_every=2.0).fit(X, Y, X_val=x, y_val=y)
    assert twice.n_iter_ == len(twice.validation_scores_) == len(twice.validation_loss_curve_)
    assert np.isnan(twice.validation_scores_[::2]).all()  # the first average is after two epochs
    assert not np.isnan(twice.validation_scores_[1::2]).any()
    assert twice.best_iter_ == np.nanargmax(twice.validation_scores_) + 1
    how = NET | dict(max_iter=30, n_iter_no_change=2, tol=9.0)
    assert DaskBackpropClassifier(**how, average_every=2).fit(X, Y).n_iter_ == 4
    how |= dict(early_stopping=True)  # the first is better than nothing, two epochs more are not
    stopped = DaskBackpropClassifier(**how, average_every=2).fit(X, Y, X_val=x, y_val=y)
    assert (stopped.n_iter_, np.isfinite(stopped.validation_scores_).sum()) == (6, 3)
    how = NET | dict(max_iter=10**6, max_time=0.2, n_iter_no_change=10**6)
    assert DaskBackpropClassifier(**how).fit(X, Y).n_iter_ < 10**6


def test_regressors_and_frames(client):
    pd = pytest.importorskip("pandas")
    dd = pytest.importorskip("dask.dataframe")
    target = 1000 + 50 * x[:, 0]
    frame = pd.DataFrame(x, columns=list("abcd"))
    frames = dd.from_pandas(frame, npartitions=3)
    series = dd.from_pandas(pd.Series(target, index=frame.index), npartitions=3)
    how = NET | dict(scale_targets=True)
    ours = DaskBackpropRegressor(**how).fit(frames, series)
    local = BackpropRegressor(**how).fit(frame, target)
    np.testing.assert_allclose(ours.target_mean_, local.target_mean_, rtol=1e-12)
    np.testing.assert_allclose(ours.target_scale_, local.target_scale_, rtol=1e-12)
    assert list(ours.feature_names_in_) == list("abcd")
    np.testing.assert_array_equal(ours.predict(frames).compute(), ours.to_local().predict(frame))
    assert ours.score(frames, series) == ours.to_local().score(frame, target)
    weight = da.from_array(np.arange(240.0), chunks=60)
    more = da.from_array(np.column_stack([target, -target]), chunks=(60, 1))
    both = DaskBackpropRegressor(**how, n_shards=1).fit(X, more, weight)
    assert both.predict(X).shape == (240, 2)
    assert_same(both, BackpropRegressor(**how).fit(x, more.compute(), np.arange(240.0)))
    quantiles = DaskBackpropRegressor(Quantile([0.1, 0.9]), **NET).fit(X, Y)
    assert quantiles.predict(X).compute().shape == (240, 2)


@pytest.fixture(scope="module")
def table():
    """Numbers, text and missing values; labels; and both as Dask frames."""
    pd = pytest.importorskip("pandas")
    dd = pytest.importorskip("dask.dataframe")
    frame = pd.DataFrame({"a": x[:, 0], "b": np.array(["one", "two", None])[y], "c": x[:, 1]})
    frame.loc[::7, "a"] = np.nan
    labels = pd.Series(np.where(x[:, 1] > 0, "yes", "no"))
    frames, series = (dd.from_pandas(part, npartitions=4) for part in (frame, labels))
    return frame, labels, frames, series


TABLE = dict(n_networks=2, max_iter=3, random_state=0, hidden_layer_sizes=(8,))


def assert_same_networks(ours, local):
    for a, b in zip(ours.networks_, local.networks_, strict=True):
        assert a.validation_loss_curve_ == b.validation_loss_curve_
        np.testing.assert_array_equal(a.member_coefs_, b.member_coefs_)


def test_one_shard_of_a_table_is_the_local_fit(client, table):
    frame, labels, frames, series = table
    local = TabularClassifier(**TABLE).fit(frame, labels)
    ours = DaskTabularClassifier(**TABLE, n_shards=1).fit(frames, series)
    assert_same_networks(ours, local)
    lazy = ours.predict_proba(frames)
    np.testing.assert_array_equal(lazy.compute(), local.predict_proba(frame))
    np.testing.assert_array_equal(ours.predict(frames).compute(), local.predict(frame))
    assert vars(ours.networks_[0]).keys() == vars(local.networks_[0]).keys()
    assert ours.score(frames, series) == local.score(frame, labels)
    assert type(ours.to_local()) is TabularClassifier
    how = dict(X_val=frame[:40], y_val=labels[:40])
    assert_same_networks(
        DaskTabularClassifier(**TABLE, n_shards=1).fit(frames, series, **how),
        TabularClassifier(**TABLE).fit(frame, labels, **how),
    )


def test_a_table_on_two_shards(client, table, monkeypatch):
    frame, labels, frames, series = table
    ours = DaskTabularClassifier(**TABLE | dict(max_iter=10)).fit(frames, series)
    assert ours.n_shards_ == len(ours.networks_) == 2
    assert ours.encoder_.columns_[1].levels == ["one", "two"]
    assert ours.score(frames, series) > 0.8
    proba = ours.predict_proba(frames).compute()
    np.testing.assert_array_equal(proba, ours.to_local().predict_proba(frame))
    assert all(n.best_validation_score_ == max(n.validation_scores_) for n in ours.networks_)
    loaded = pickle.loads(pickle.dumps(clone(ours).set_params(client=client)))
    after_two_rounds(monkeypatch, lambda team: lose(*team.shards))
    again = loaded.set_params(n_shards=2).fit(frames, series)
    assert_same_networks(again, ours)
    judged = DaskTabularClassifier(**TABLE, scoring="accuracy").fit(
        frames, series, X_val=frame[:40], y_val=labels[:40]
    )
    assert judged.networks_[0].validation_scores_[0] * 40 % 1 == pytest.approx(0, abs=1e-9)


def test_tables_of_numbers_and_scores_of_their_losses(client, table):
    frame, _, frames, _ = table
    target = np.column_stack([x[:, 1], 5 + 2 * x[:, 1]])
    ours = DaskTabularRegressor(**TABLE).fit(X, da.from_array(target, chunks=(60, 2)))
    assert ours.predict(X).compute().shape == (240, 2)
    assert ours.score(X, target) == ours.to_local().score(x, target) > 0
    quantiles = DaskTabularRegressor(**TABLE | dict(loss=Quantile([0.1, 0.9]))).fit(
        frames, frames["c"]
    )
    assert quantiles.score(frames, frames["c"]) == quantiles.to_local().score(frame, frame["c"])
    gamma = DaskBackpropRegressor("gamma", **NET).fit(X, Y + 1.0)
    assert gamma.score(X, Y + 1.0) == gamma.to_local().score(x, y + 1.0)
    both = da.from_array(np.column_stack([y, y > 0]).astype(int) % 2, chunks=(60, 2))
    with pytest.raises(ValueError, match="one label per row"):
        DaskTabularClassifier(**TABLE).fit(X, both)


def test_a_worker_is_killed_and_no_bit_changes(client, two, tmp_path):
    """`python -m checks.cluster` kills more, and stalls and adds workers, at random moments."""
    rate = Misfortune(tmp_path, die)
    ours = DaskBackpropClassifier(**NET | dict(learning_rate=rate), n_shards=2).fit(X, Y)
    assert (tmp_path / "done").exists()
    assert_same(ours, two)
    client.wait_for_workers(2, timeout=60)


def test_what_workers_cannot_import_is_named(client, two, monkeypatch):
    """Dask would end the workers, one after the other."""
    module = ModuleType("only_here")
    exec("def rate(step, n_steps):\n    return 0.01", module.__dict__)
    monkeypatch.setitem(sys.modules, "only_here", module)
    with pytest.raises(ModuleNotFoundError, match=r"workers cannot import .*'only_here'.*install"):
        DaskBackpropClassifier(**NET | dict(learning_rate=module.rate)).fit(X, Y)
    assert_same(DaskBackpropClassifier(**NET).fit(X, Y), two)


def test_the_local_estimator_can_be_saved(two, tmp_path):
    fastbp.save(two.to_local(), tmp_path / "model")
    np.testing.assert_array_equal(fastbp.load(tmp_path / "model").predict(x), two.predict(x))


def test_a_slow_worker_changes_no_bit(client, two, tmp_path):
    rate = Misfortune(tmp_path, time.sleep, 0.4)
    assert_same(DaskBackpropClassifier(**NET | dict(learning_rate=rate)).fit(X, Y), two)


def test_a_client_that_goes_away_ends_its_fit_alone(client, two, monkeypatch):
    other = distributed.Client(client.scheduler.address, set_as_default=False)
    with monkeypatch.context() as patch:
        after_two_rounds(patch, lambda team: team.client is other and other.close())
        with pytest.raises(distributed.client.ClosedClientError):
            DaskBackpropClassifier(**NET, client=other).fit(X, Y)
    assert_same(DaskBackpropClassifier(**NET).fit(X, Y), two)


def after_two_rounds(monkeypatch, happen):
    """Let something happen, once, between the second round and the third."""
    before, happened = rounds.ManyShards._train_round, []

    def train_round(self):
        before(self)
        if self.given.n_trained == 2 and not happened:
            happened.append(True)
            happen(self.team)

    monkeypatch.setattr(rounds.ManyShards, "_train_round", train_round)


def lose(*futures):
    """As if the workers had died with what they held."""
    for future in futures:
        future.cancel(force=True)


def test_data_that_all_workers_lost_are_had_again(client, two, monkeypatch):
    after_two_rounds(monkeypatch, lambda team: lose(*team.shards))
    assert_same(DaskBackpropClassifier(**NET, n_shards=2).fit(X, Y), two)


def test_partitions_that_cannot_be_had_again(client, tmp_path, monkeypatch):
    path = tmp_path / "X.npy"
    np.save(path, x[:60])
    part = da.from_delayed(dask.delayed(np.load, pure=False)(str(path)), (60, 4), x.dtype)

    def remove(team):
        path.unlink()
        lose(*team.shards)

    after_two_rounds(monkeypatch, remove)
    ours = DaskBackpropClassifier(**NET, n_shards=2)
    with pytest.raises(RuntimeError, match=r"partitions 0 to 1 cannot be loaded again: FileNot"):
        ours.fit(da.concatenate([part, X[60:]]), Y)
    assert not hasattr(ours, "coefs_")


def test_partitions_that_were_only_in_memory(client, monkeypatch):
    scattered = client.scatter(x[:60])
    part = da.from_delayed(dask.delayed(scattered), (60, 4), x.dtype)
    after_two_rounds(monkeypatch, lambda team: lose(scattered, *team.shards))
    with pytest.raises(RuntimeError, match="only in the memory of a worker"):
        DaskBackpropClassifier(**NET, n_shards=2, timeout=20).fit(da.concatenate([part, X[60:]]), Y)


def test_nothing_waits_for_ever(client, tmp_path):
    rate = Misfortune(tmp_path, time.sleep, 1.0)
    ours = DaskBackpropClassifier(**NET | dict(learning_rate=rate), n_shards=2, timeout=0.3)
    with pytest.raises(TimeoutError, match=r"For 0\.3 s none of the \d tasks .* has 2 workers"):
        ours.fit(X, Y)
    with (
        distributed.LocalCluster(
            n_workers=0, processes=False, dashboard_address=":0", silence_logs=50
        ) as empty,
        distributed.Client(empty, set_as_default=False) as nobody,
        pytest.raises(TimeoutError, match="no worker"),
    ):
        DaskBackpropClassifier(**NET, client=nobody, timeout=0.1).fit(X, Y)
    with pytest.raises(ValueError, match="client is closed: make a new"):
        DaskBackpropClassifier(**NET, client=nobody).fit(X, Y)


def test_interrupts_keep_the_last_average(client, monkeypatch):
    after_two_rounds(monkeypatch, lambda team: signal.raise_signal(signal.SIGINT))
    with pytest.warns(UserWarning, match="interrupted"):
        ours = DaskBackpropClassifier(**NET, n_shards=2).fit(X, Y)
    assert ours.n_iter_ == len(ours.loss_curve_) == 2


@pytest.mark.parametrize(
    ("how", "kind", "message"),
    [
        (dict(solver="lbfgs"), ValueError, "all rows at once"),
        (dict(warm_start=True), ValueError, "starts again"),
        (dict(learning_rate="adaptive", solver="sgd"), ValueError, "follows one loss"),
        (dict(early_stopping=True), ValueError, "needs X_val and y_val"),
        (dict(n_shards=9), ValueError, "there are 4 partitions"),
        (dict(average_every=0), ValueError, "'average_every' parameter"),
        (dict(average_every=1.5), ValueError, "'average_every' parameter.*nearest are 1 and 2"),
        (dict(average_every=0.7), ValueError, r"nearest are 1/2 \(0\.5\) and 1\."),
        (dict(average_every=0.15), ValueError, r"1/7 \(0\.1429\) and 1/6 \(0\.1667\)"),
        (dict(average_every=True), ValueError, r"Got True instead\.$"),
        (dict(average_every=np.nan), ValueError, r"Got nan instead\.$"),
        (dict(alpha=-1), ValueError, "'alpha' parameter"),
        (dict(client="tcp://1.2.3.4:1"), TypeError, "synchronous distributed.Client"),
    ],
    ids=str,
)
def test_bad_settings(client, how, kind, message):
    with pytest.raises(kind, match=message):
        DaskBackpropClassifier(**NET | how).fit(X, Y)


def test_bad_data(client):
    net = DaskBackpropClassifier(**NET)
    with pytest.raises(TypeError, match=r"X must be a Dask array or frame\. Got ndarray"):
        net.fit(x, y)
    with pytest.raises(ValueError, match="X has 240 rows"):
        net.fit(X, Y[:100])
    with pytest.raises(TypeError, match="X_val must be an array in memory"):
        net.fit(X, Y, X_val=X, y_val=y)
    holes = x.copy()
    holes[200, 1] = np.nan
    with pytest.raises(ValueError, match="NaN") as caught:
        net.fit(da.from_array(holes, chunks=(60, 4)), Y)
    assert caught.value.__notes__ == ["This is about partitions 2 to 3."]
    with pytest.raises(ValueError, match="not a single row in partitions 2 to 3"):
        net.fit(_emptied(X), _emptied(Y))
    with pytest.raises(NotFittedError):
        net.to_local()
    with pytest.raises(ValueError, match="sample_weight_val with them"):
        net.fit(X, Y, sample_weight_val=np.ones(3))
    for bad in (dask.delayed(x), dask.bag.from_sequence([1])):
        with pytest.raises(TypeError, match=r"must be a Dask array or frame.*from_delayed"):
            net.fit(X, bad)
    halves = Y.map_blocks(
        lambda part, block_id: part.astype("U1") if block_id == (1,) else part, dtype=int
    )
    with pytest.raises(ValueError, match="one type, text or numbers"):
        net.fit(X, halves)
    with pytest.raises(TypeError, match="hidden_layer_sizes"):
        DaskBackpropClassifier(hidden_layers=(5,))


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.ones((240, 1)), "must be 1D"),
        (np.arange(240) < 120, "All rows of partitions 2 to 3 have weight 0"),
        (np.repeat("a", 240), "must be numbers"),
    ],
    ids=["2D", "a shard of 0", "text"],
)
def test_bad_weights(client, weight, message):
    with pytest.raises(ValueError, match=message):
        DaskBackpropClassifier(**NET).fit(X, Y, da.from_array(weight, chunks=60))


def test_a_random_state_of_the_users_moves_on(client):
    draws = np.random.RandomState(0)
    one, other = (DaskBackpropClassifier(**NET | dict(random_state=draws)) for _ in range(2))
    assert (one.fit(X, Y).coefs_[0] != other.fit(X, Y).coefs_[0]).any()
    before = draws.get_state()[1].copy()
    with pytest.raises(ValueError, match="NaN"):
        one.fit(X * np.nan, Y)
    np.testing.assert_array_equal(before, draws.get_state()[1])


def test_what_is_known_of_X_before_it_is_computed(client, two):
    """Objects may be dates, or numbers as text: predictions find their form without a guess."""
    days = np.datetime64("2024-01-01") + np.arange(240) % 90
    rows = np.column_stack([days.astype(object), x[:, 0].astype(str).astype(object)])
    lazy = da.from_array(rows, chunks=(60, 2))
    net = DaskTabularClassifier(**TABLE | dict(n_networks=1)).fit(lazy, Y[:, None])
    np.testing.assert_array_equal(net.predict(lazy).compute(), net.to_local().predict(rows))
    numbers = X.astype(object)
    np.testing.assert_array_equal(two.predict(numbers).compute(), two.predict(x))
    with pytest.raises(ValueError, match=r"two dimensions, rows and features\. Got 1"):
        two.predict(Y)
    with pytest.raises(TypeError, match="must be a Dask array or frame"):
        two.predict(dask.delayed(x))


def _emptied(array):
    """Return an array whose last two partitions have no rows, which nobody knows."""
    parts = array.to_delayed().ravel().tolist()
    shape = (np.nan, *array.shape[1:])
    cut = [dask.delayed(lambda part, k=k: part[: 60 * (k < 2)])(p) for k, p in enumerate(parts)]
    return da.concatenate(
        [da.from_delayed(part, shape, array.dtype) for part in cut], allow_unknown_chunksizes=True
    )


def test_copies_and_pickles(two, client):
    assert two.client is client
    with pytest.raises(TypeError, match=r"Save its to_local\(\)"):
        fastbp.save(two, "nowhere")
    assert clone(two).client is client
    assert not hasattr(clone(two), "coefs_")
    loaded = pickle.loads(pickle.dumps(two))
    assert loaded.client is None
    np.testing.assert_array_equal(loaded.predict(x), two.predict(x))
    assert "n_shards" in two.get_params()
