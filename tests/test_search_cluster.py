"""Searches on a Dask cluster of two processes, which all tests here share."""

import os
import pickle
import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest
from clusters import Dying, Writing, open_client
from problems import draw_classes, draw_regression
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastbp import BackpropClassifier, BackpropRegressor, BackpropSearchCV, TabularRegressor
from fastbp.search import cluster as module
from fastbp.search.live import SearchReport

pytest.importorskip("distributed")

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = draw_classes(90, 5, 3)
NET = BackpropClassifier((6,), max_iter=9, n_iter_no_change=99, random_state=0)
GRID = {"alpha": [1e-4, 1e-2, 1.0], "learning_rate_init": [1e-4, 1e-3, 1e-2]}
# The first two candidates stop soon, the others never.
LONG = clone(NET).set_params(max_iter=10**8, tol=10.0, learning_rate_init=1e-6)
PATIENCE = {"n_iter_no_change": [2, 3, 10**8, np.inf]}


@pytest.fixture(scope="module")
def client():
    with open_client() as client:
        yield client


def assert_same(ours, local):
    """Results and curves of both searches, times aside."""
    assert list(ours.cv_results_) == list(local.cv_results_)
    for name, values in local.cv_results_.items():
        if name == "params":
            assert ours.cv_results_[name] == values
        elif "_time" not in name:
            assert ours.cv_results_[name].dtype == values.dtype
            np.testing.assert_array_equal(ours.cv_results_[name], values, err_msg=name)
    assert ours.best_params_ == local.best_params_
    for row, other in zip(ours.candidate_curves_, local.candidate_curves_, strict=True):
        for fold, theirs in zip(row, other, strict=True):
            for name in theirs:
                np.testing.assert_array_equal(fold[name], theirs[name])


def compare(client, estimator, params, X=X, y=Y, *, fit=None, **how):
    """Search here and on the cluster; return the latter."""
    how = {"cv": 2} | how
    local = BackpropSearchCV(estimator, params, **how).fit(X, y, **fit or {})
    ours = BackpropSearchCV(estimator, params, client=client, **how).fit(X, y, **fit or {})
    assert_same(ours, local)
    assert np.array_equal(ours.predict(X), local.predict(X))
    return ours


def assert_dropped(client):
    """The workers drop the data of a search that has ended, and do nothing for it any more."""
    begun, found = time.perf_counter(), True
    while found:
        assert time.perf_counter() - begun < 60, found
        found = {*client.run(lambda dask_worker: len(dask_worker.data)).values()} - {0}
        found |= {*client.run(lambda dask_worker: dask_worker.state.executing_count).values()} - {0}


def test_results_are_the_local_ones(client, monkeypatch):
    sent = []
    before = client.scatter
    monkeypatch.setattr(client, "scatter", lambda *a, **k: sent.append(a) or before(*a, **k))
    compare(client, NET, GRID, return_train_score=True)
    net = BackpropRegressor(hidden_layer_sizes=(4,), max_iter=5, random_state=0)
    compare(
        client, net, {"alpha": [0.0, 1.0, 9.0]}, *draw_regression(60, 3), strategy="random",
        n_candidates=2, random_state=3, scoring=["r2", "neg_mean_squared_error"], refit="r2",
        fit=dict(sample_weight=np.arange(60.0)),
    )  # fmt: skip
    assert len(sent) == 2
    assert_dropped(client)


@pytest.mark.parametrize("how", [dict(strategy="halving"), dict(early_discard=True)], ids=str)
def test_fits_that_are_paused(client, how):
    search = compare(client, make_pipeline(StandardScaler(), NET), {
        f"backpropclassifier__{name}": values for name, values in GRID.items()
    }, **how)  # fmt: skip
    assert "discarded" in search.cv_results_["status"]


def test_a_search_with_a_snapshot_goes_on(client, tmp_path, monkeypatch):
    """Only the fits that are missing are sent, also after a search without the cluster."""
    sent, before = [], module.Cluster.train

    def train(self, place, share, worker):
        sent.append((place, share))
        if len(sent) == 13:
            raise KeyboardInterrupt
        return before(self, place, share, worker)

    monkeypatch.setattr(module.Cluster, "train", train)
    how = dict(strategy="halving", cv=2, n_jobs=1)
    local = BackpropSearchCV(NET, GRID, **how).fit(X, Y)
    search = BackpropSearchCV(NET, GRID, client=client, snapshot=tmp_path / "a", **how)
    with pytest.raises(KeyboardInterrupt):
        search.fit(X, Y)
    assert_same(search.fit(X, Y), local)
    assert_same(clone(search).set_params(client=None).fit(X, Y), local)
    assert_same(search.fit(X, Y), local)
    assert len(sent) == 1 + 2 * (9 + 3 + 1)
    assert len(set(sent)) == 2 * (9 + 3 + 1)


def test_preprocessing_runs_once_on_each_worker(client, tmp_path):
    path = str(tmp_path / "fits")
    params = {"writing__factor": [1.0, 2.0], "backpropclassifier__alpha": GRID["alpha"]}
    search = BackpropSearchCV(make_pipeline(Writing(path), NET), params, cv=3, client=client)
    search.set_params(refit=False).fit(X, Y)
    lines = (tmp_path / "fits").read_text().splitlines()
    assert len(lines) == len(set(lines))
    assert len({line.split(" ", 1)[1] for line in lines}) == 2 * 3
    assert os.getpid() not in {int(line.split()[0]) for line in lines}


def test_data_of_finished_folds_are_dropped_on_the_workers(client):
    told = []

    class Watched(module.Cluster):
        def tell(self, what, *arguments, workers=None):
            told.append((what, *arguments))
            super().tell(what, *arguments, workers=workers)

    patch = pytest.MonkeyPatch()
    with patch.context() as context:
        context.setattr(module, "Cluster", Watched)
        params = {"standardscaler__with_mean": [True, False]}
        BackpropSearchCV(make_pipeline(StandardScaler(), NET), params, cv=2, client=client).fit(
            X, Y
        )
    assert sorted(told) == [("drop", [(c, f)]) for c in range(2) for f in range(2)]


def test_errors_and_warnings_of_fits(client):
    with pytest.warns((FitFailedWarning, UserWarning)):
        compare(client, NET, {"alpha": [1e-4, -1.0]})
    with pytest.raises(ValueError, match="alpha") as caught:
        BackpropSearchCV(NET, {"alpha": [-1.0]}, client=client, error_score="raise").fit(X, Y)
    assert "In a fit on the worker tcp://" in caught.value.__notes__[0]
    net = BackpropClassifier((3,), max_iter=2, random_state=0)
    search = BackpropSearchCV(net, {"alpha": [0.0, 1.0]}, cv=2, client=client, refit=False)
    with pytest.warns(ConvergenceWarning, match="In 4 fits") as kept:
        search.fit(X, Y)
    assert [warning.filename for warning in kept] == [__file__]


def test_time_and_interrupts_end_a_search_everywhere(client, monkeypatch):
    search = BackpropSearchCV(LONG, PATIENCE, cv=2, client=client, max_time=2.0)
    with pytest.warns(UserWarning, match="2 of 4 candidates are finished"):
        search.fit(X, Y)
    before = SearchReport.end_candidate

    def interrupt(self, *arguments, **how):
        before(self, *arguments, **how)
        if self.n_finished == 2:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(SearchReport, "end_candidate", interrupt)
    with pytest.warns(UserWarning, match="The search was interrupted"):
        search.set_params(max_time=None).fit(X, Y)
    assert search.cv_results_["status"].tolist() == ["finished"] * 2 + ["unfinished"] * 2
    assert_dropped(client)


def test_a_fit_that_reaches_its_worker_after_the_end_is_not_trained(client, monkeypatch):
    monkeypatch.setattr(module, "uuid4", lambda: SimpleNamespace(hex="ended"))
    client.run(module.tell_worker, "data that are still under way", "ended", "stop")
    search = BackpropSearchCV(NET, GRID, cv=2, client=client, refit=False).fit(X, Y)
    assert set(search.cv_results_["status"]) == {"unfinished"}


def test_whole_fits(client):
    x, y = draw_regression(40, 3)
    net = TabularRegressor(max_iter=1, n_networks=2, n_members=2, random_state=0)
    found = [
        BackpropSearchCV(net, {"dropout": [0.0, 0.3]}, cv=2, client=one, refit=False).fit(x, y)
        for one in (None, client)
    ]
    scores = [search.cv_results_["mean_test_score"] for search in found]
    assert np.array_equal(*scores)
    watched = clone(NET).set_callbacks(Nothing())
    with pytest.raises(ValueError, match="Callbacks do not see"):
        BackpropSearchCV(watched, GRID, client=client).fit(X, Y)


class Nothing:
    """A callback that does nothing."""

    def setup(self, estimator, context):
        pass

    teardown = on_fit_task_begin = on_fit_task_end = setup


def test_clients(client):
    search = BackpropSearchCV(NET, {"alpha": [0.0, 1.0]}, cv=2, client=client)
    assert clone(search).client is client
    assert search.client is client
    assert pickle.loads(pickle.dumps(search)).client is None
    assert module.count_fits_at_a_time(client, None) == 4
    assert module.count_fits_at_a_time(client, 7) == 7
    with pytest.raises(ValueError, match="'client' parameter"):
        search.set_params(client="tcp://127.0.0.1:8786").fit(X, Y)


def test_a_closed_client_is_named():
    class Closed:
        status = "closed"

        def submit(self):
            raise AssertionError

        scatter = run = submit

    for estimator, params in ((NET, GRID), (TabularRegressor(), {"dropout": [0.1]})):
        with pytest.raises(ValueError, match="client is closed: make a new"):
            BackpropSearchCV(estimator, params, client=Closed()).fit(X, Y)


def test_another_version_of_fastbp_is_refused(client, monkeypatch):
    monkeypatch.setattr(module, "__version__", "0.0")
    with pytest.raises(RuntimeError, match=r"comes from fastbp 0\.0"):
        BackpropSearchCV(NET, {"alpha": [0.0]}, cv=2, client=client).fit(X, Y)


def test_data_that_all_workers_lost_are_sent_again(client, monkeypatch):
    sent, before = [], client.scatter

    def scatter(*arguments, **how):
        sent.append(before(*arguments, **how))
        if len(sent) == 1:
            sent[0].cancel(force=True)  # as if the workers had died with them
        return sent[-1]

    monkeypatch.setattr(client, "scatter", scatter)
    compare(client, NET, {"alpha": [0.0, 1.0]})
    assert len(sent) == 2


def test_a_cluster_without_workers_is_named(client, monkeypatch):
    """Once, not by each of the threads that would send the data."""
    calls = []

    def scatter(*arguments, **how):
        calls.append(arguments)
        raise TimeoutError("No valid workers found")

    monkeypatch.setattr(client, "scatter", scatter)
    with pytest.raises(RuntimeError, match="the cluster has no worker"):
        BackpropSearchCV(NET, GRID, cv=2, client=client, n_jobs=4).fit(X, Y)
    assert len(calls) == 3


def test_a_worker_is_killed_and_nothing_is_lost(client, tmp_path):
    """`python -m checks.cluster` kills more, at random moments."""
    local = BackpropSearchCV(NET, GRID, strategy="halving", cv=2).fit(X, Y)
    ours = BackpropSearchCV(
        NET, GRID, strategy="halving", cv=2, client=client, scoring=Dying(str(tmp_path), 7)
    ).fit(X, Y)
    assert (tmp_path / "dead").exists()
    assert_same(ours, local)
