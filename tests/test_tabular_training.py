"""How the fit of a tabular estimator goes and ends: time, interrupts, scorers, callbacks."""

import itertools
import os
import pickle
import signal
import threading
import time
import warnings

import numpy as np
import pytest
from refusals import freeze
from sklearn.base import clone
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.metrics import make_scorer, mean_absolute_error
from tables import as_frame, draw_table, make

from fastbp import TabularClassifier, TabularRegressor
from fastbp.tabular.recipe import USUAL_DROPOUT

ESTIMATORS = [TabularClassifier, TabularRegressor]
LONG = dict(max_iter=10**6, n_iter_no_change=10**6)


def predictions(model, X):
    """Return probabilities, or values."""
    return (model.predict_proba if hasattr(model, "classes_") else model.predict)(X)


@pytest.fixture(autouse=True)
def two_cores(monkeypatch):
    """Two threads are two, also on a machine with one core."""
    monkeypatch.setattr("fastbp.engine.parallel.available_threads", lambda: 2)


# --- ends -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("kind", ESTIMATORS)
def test_the_limit_of_time(kind, n_threads):
    X, y = draw_table(kind)
    make(kind).fit(X, y)  # what loads once
    begun = time.perf_counter()
    model = make(kind, **LONG, max_time=0.4, n_threads=n_threads, n_networks=3).fit(X, y)
    assert time.perf_counter() - begun < 30  # else it would take hours
    assert len(model.networks_) == n_threads  # which had all the time
    assert np.isfinite(predictions(model, X)).all()
    short = make(kind, **LONG, max_time=1e-9, n_threads=n_threads, n_networks=50).fit(X, y)
    assert 1 <= len(short.networks_) < 50
    assert np.isfinite(predictions(short, X)).all()


class BoomError(Exception):
    pass


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("kind", ESTIMATORS)
def test_an_interrupt_keeps_what_was_reached(kind, n_threads):
    """Whichever thread it comes up in, as a scorer of the user's can make it."""
    X, y = draw_table(kind)
    calls = itertools.count()  # which two threads can ask

    def interrupt(estimator, Z, answers):
        number = next(calls)
        if number == 3:
            raise KeyboardInterrupt
        return number

    model = make(kind, **LONG, scoring=interrupt, n_threads=n_threads, n_networks=4)
    with pytest.warns(UserWarning, match="interrupted") as caught:
        model.fit(X, y)
    assert [record.filename for record in caught] == [__file__]
    assert 1 <= len(model.networks_) <= n_threads
    assert np.isfinite(predictions(model, X)).all()


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("kind", ESTIMATORS)
def test_ctrl_c(kind, n_threads):
    """Also while the caller's own thread has nothing left to do but to wait for the other one."""
    X, y = draw_table(kind)

    def stand_still(estimator, Z, answers):
        time.sleep(0.001)
        its_own = threading.current_thread() is threading.main_thread()
        return 1.0 if its_own and n_threads > 1 else time.perf_counter()

    settings = dict(LONG, n_iter_no_change=2, dropout=0.0)
    model = make(kind, scoring=stand_still, n_threads=n_threads, **settings)
    timer = threading.Timer(0.4, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    begun = time.perf_counter()
    with pytest.warns(UserWarning, match="interrupted"):
        model.fit(X, y)
    assert time.perf_counter() - begun < 30  # else it would take hours
    assert len(model.networks_) == n_threads
    assert np.isfinite(predictions(model, X)).all()


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("kind", ESTIMATORS)
def test_what_a_scorer_raises_arrives_and_changes_nothing(kind, n_threads):
    X, y = draw_table(kind)
    model = make(kind).fit(X, y)
    before, calls = freeze(vars(model)), []

    def fail(estimator, Z, answers):
        calls.append(0)
        if len(calls) > 2:
            raise BoomError
        return 0.0

    model.set_params(n_threads=n_threads, scoring=fail)
    with pytest.raises(BoomError):
        model.fit(X, y)
    model.set_params(n_threads=None, scoring=None)
    assert freeze(vars(model)) == before
    n_before = threading.active_count()
    time.sleep(0.05)
    assert threading.active_count() <= n_before


# --- scores ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "scoring"),
    [(TabularClassifier, name) for name in ("accuracy", "neg_log_loss", "roc_auc_ovr", "loss")]
    + [(TabularRegressor, name) for name in ("r2", "neg_mean_absolute_error", "loss")],
)
def test_scores_by_name(kind, scoring):
    X, y = draw_table(kind)
    model = make(kind, scoring=scoring).fit(X, y)
    for network in model.networks_:
        scores = network.validation_scores_
        assert len(scores) == network.n_iter_
        assert network.best_validation_score_ == max(scores)
        assert scores[network.best_iter_ - 1] == max(scores)


def test_large_tables_are_encoded_in_blocks(monkeypatch):
    X, y = draw_table(TabularRegressor)
    settings = dict(dropout=0.0, max_iter=150, n_networks=2, learning_rate_init=0.01)
    whole = make(TabularRegressor, **settings).fit(X, y).score(X, y)
    assert whole > 0.5
    monkeypatch.setattr("fastbp.tabular.rows.LARGEST", 0)
    monkeypatch.setattr("fastbp.training.blocks.ROWS_PER_BLOCK", 8)
    measure = lambda model, Z, t: -np.abs(model.predict(Z) - t).mean()  # noqa: E731
    for scoring in (None, "r2", measure):
        parts = make(TabularRegressor, scoring=scoring, **settings).fit(X, y)
        assert abs(parts.score(X, y) - whole) < 0.2


def test_scorers_see_encoded_columns_and_answers_in_units_of_y():
    X, y = draw_table(TabularRegressor)
    y = 1000 + 50 * y
    seen = []

    def score(estimator, Z, answers):
        seen.append((Z.shape[1], answers.min()))
        return -mean_absolute_error(answers, estimator.predict(Z))

    model = make(TabularRegressor, scoring=score, n_threads=1).fit(X, y)
    assert {width for width, _ in seen} == {model.encoder_.transform(X[:1]).shape[1]}
    assert min(lowest for _, lowest in seen) > 700
    scorer = make_scorer(mean_absolute_error, greater_is_better=False)
    other = make(TabularRegressor, scoring=scorer).fit(X, y)
    np.testing.assert_array_equal(other.predict(X), model.predict(X))


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_scores_that_stay_the_same_end_training(kind):
    """As accuracies do."""
    X, y = draw_table(kind)
    settings = dict(max_iter=50, n_iter_no_change=3)
    model = make(kind, scoring=lambda *_: 0.5, **settings).fit(X, y)
    assert [network.n_iter_ for network in model.networks_] == [5, 5]
    assert [network.best_iter_ for network in model.networks_] == [1, 1]


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("better", [0.0, USUAL_DROPOUT])
def test_dropout_is_chosen_by_the_first_part(kind, better):
    X, y = draw_table(kind)
    asked = []

    def score(estimator, Z, answers):
        asked.append(estimator.dropout)
        return float(estimator.dropout == better)

    model = make(kind, scoring=score, n_networks=3, n_threads=1, max_iter=1).fit(X, y)
    assert asked == [0.0, USUAL_DROPOUT, better, better]
    assert [network.dropout for network in model.networks_] == [better] * 3
    given = make(kind, scoring=score, n_networks=3, max_iter=1, dropout=better).fit(X, y)
    np.testing.assert_array_equal(predictions(model, X), predictions(given, X))


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_verbose(kind, capsys):
    X, y = draw_table(kind)
    model = make(kind, verbose=True).fit(X, y)
    assert capsys.readouterr().out.count("Iteration") >= 2
    quiet = make(kind).fit(X, y)
    assert not capsys.readouterr().out
    np.testing.assert_array_equal(predictions(model, X), predictions(quiet, X))


# --- callbacks ------------------------------------------------------------------------------------


class Recorder:
    """Writes down every call, and asks to stop after a task of this name."""

    def __init__(self, stop_after=None):
        self.calls, self.stop_after, self.told = [], stop_after, []

    def setup(self, estimator, context):
        self.calls.append(("setup", context.max_subtasks))

    def teardown(self, estimator, context):
        self.calls.append(("teardown", None))

    def on_fit_task_begin(self, estimator, context):
        self.calls.append(("begin", context.task_name))

    def on_fit_task_end(self, estimator, context, *, X, y, metadata, fitted_estimator):
        self.calls.append(("end", context.task_name))
        self.told.append((X, y, metadata, fitted_estimator))
        return context.task_name == self.stop_after


class Propagated(Recorder):
    """Goes into the networks, too."""

    @property
    def max_propagation_depth(self):
        return None


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_one_task_per_network(kind):
    X, y = draw_table(kind)
    frame, recorder = as_frame(X), Recorder()
    model = make(kind, n_threads=1, dropout=0.0).set_callbacks(recorder)
    weights = np.ones(len(y))
    model.fit(frame, y, sample_weight=weights)
    tasks = [("begin", "network"), ("end", "network")] * 2
    assert recorder.calls == [
        ("setup", 2), ("begin", "fit"), *tasks, ("end", "fit"), ("teardown", None),
    ]  # fmt: skip
    for told in recorder.told:
        assert told[0] is frame
        assert told[1] is y
        assert told[2] == {"sample_weight": weights}
    np.testing.assert_array_equal(
        predictions(recorder.told[-1][3], frame), predictions(model, frame)
    )
    assert not [name for name in vars(model) if "callback" in name and name != "_skl_callbacks"]
    plain = make(kind, dropout=0.0).fit(frame, y, sample_weight=weights)
    np.testing.assert_array_equal(predictions(plain, frame), predictions(model, frame))


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_a_request_to_stop(kind):
    X, y = draw_table(kind)
    model = (
        make(kind, n_threads=1, n_networks=4, dropout=0.0)
        .set_callbacks(Recorder("network"))
        .fit(X, y)
    )
    assert len(model.networks_) == 1
    recorder = Propagated("epoch")
    model = make(kind, n_threads=1, dropout=0.0).set_callbacks(recorder).fit(X, y)
    assert [network.n_iter_ for network in model.networks_] == [1, 1]
    assert recorder.calls.count(("end", "epoch")) == 2


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("kind", ESTIMATORS)
def test_callbacks_of_scikit_learn(kind, n_threads, capsys):
    X, y = draw_table(kind)
    frame = as_frame(X)
    monitor = ScoringMonitor(scoring="accuracy" if kind is TabularClassifier else "r2")
    model = make(kind, n_threads=n_threads).set_callbacks(ProgressBar(), monitor)
    model.fit(frame, y)
    entries = monitor.get_logs().data
    assert entries[-1]["task_name"] == "fit"
    assert capsys.readouterr().out
    other = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(predictions(other, frame), predictions(model, frame))
    assert clone(model).fit(X, y).score(X, y) == make(kind).fit(X, y).score(X, y)


def test_warnings_as_errors_arrive():
    X, y = draw_table(TabularClassifier)
    model = make(TabularClassifier)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeWarning, match="only one class"):
            model.fit(X, np.zeros(len(y), int))
    assert not hasattr(model, "networks_")
