"""How a search ends before its time, and what it shows meanwhile."""

import copy
import pickle
import signal
import threading
import time
from functools import partial
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
from covering import cover_pairs, first_of
from engines import ENGINES
from problems import draw_classes
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from test_training import interrupt_after

import fastbp.search.fits
from fastbp import BackpropClassifier, BackpropSearchCV, TabularClassifier
from fastbp.search.candidates import cost_of, pays_on_all_cores
from fastbp.search.control import Control, Job, count_workers
from fastbp.search.live import SearchReport
from fastbp.search.strategies import longest_first

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = draw_classes(90, 5, 3)
# The first two candidates stop soon, the others never.
LONG = BackpropClassifier((6,), max_iter=10**8, tol=10.0, learning_rate_init=1e-6, random_state=0)
PATIENCE = {"n_iter_no_change": [2, 3, 10**8, np.inf]}
# Fits that every epoch is looked at, that the engine runs on its own, and that make no pauses.
KINDS = {
    "looked at": dict(early_stopping=True, n_iter_no_change=10**8, tol=0.0),
    "alone": dict(tol=0.0, n_iter_no_change=np.inf),
    "numba": dict(tol=0.0, n_iter_no_change=np.inf, engine="numba"),
    "lbfgs": dict(solver="lbfgs", tol=0.0, max_fun=10**9, hidden_layer_sizes=(1000, 1000)),
}


def assert_ended_early(search):
    assert search.cv_results_["status"].tolist() == ["finished"] * 2 + ["unfinished"] * 2
    scores = search.cv_results_["mean_test_score"]
    assert np.isnan(scores).tolist() == [False, False, True, True]
    assert search.best_index_ in (0, 1)
    assert search.predict(X).shape == Y.shape
    assert len(search.candidate_curves_[0][0]["loss"]) > 0


@pytest.mark.parametrize(("whole", "n_jobs"), first_of([(True, 2), (False, 1)], 1))
def test_max_time_ends_with_what_is_finished(whole, n_jobs):
    estimator, params = LONG, PATIENCE
    if whole:
        estimator = make_pipeline(StandardScaler(), LONG)
        params = {f"backpropclassifier__{name}": values for name, values in PATIENCE.items()}
    search = BackpropSearchCV(estimator, params, cv=2, n_jobs=n_jobs, max_time=1.0)
    begun = time.perf_counter()
    with pytest.warns(UserWarning, match="max_time=1 seconds are over: 2 of 4 candidates"):
        search.fit(X, Y)
    assert time.perf_counter() - begun < 30
    assert_ended_early(search)


@pytest.mark.parametrize("n_jobs", first_of([2, 1]))
def test_an_interrupt_ends_with_what_is_finished(n_jobs):
    search = BackpropSearchCV(LONG, PATIENCE, cv=2, n_jobs=n_jobs)
    with pytest.warns(UserWarning, match="interrupted") as caught, interrupt_after(1.5):
        search.fit(X, Y)
    assert str(caught[0].message).startswith("The search was interrupted: 2 of 4")
    assert len(caught) == 1
    assert_ended_early(search)


@pytest.mark.parametrize("settings", KINDS.values(), ids=KINDS)
def test_every_kind_of_fit_is_ended(settings):
    net = BackpropClassifier(**LONG.get_params() | settings)
    search = BackpropSearchCV(net, {"alpha": [0.0, 1e-3]}, cv=2, n_jobs=2, max_time=0.3)
    begun = time.perf_counter()
    with pytest.raises(ValueError, match="before a candidate was finished"):
        search.fit(X, Y)
    assert time.perf_counter() - begun < 30
    assert not hasattr(search, "cv_results_")


class Own(BackpropClassifier):
    """With a fit of its own, which makes no pauses."""

    def fit(self, X, y):
        return super().fit(X, y)


class Quiet:
    """A callback that does nothing."""

    def setup(self, estimator, context):
        pass

    teardown = on_fit_task_begin = setup

    def on_fit_task_end(self, estimator, context, **told):
        pass


def make_whole(kind):
    """Return an estimator whose fits make no pauses: two candidates that soon end, and two not."""
    if kind == "tabular":
        net = TabularClassifier(n_members=2, n_networks=2, n_iter_no_change=10**9, random_state=0)
        return net, {"max_iter": [1, 2, 10**8, 10**9]}
    if kind == "own fit":
        return Own(**LONG.get_params()), PATIENCE
    return clone(LONG).set_callbacks(Quiet()), PATIENCE


@pytest.fixture
def when_two_are_finished(monkeypatch):
    """Return a list of functions, called once a search has finished two candidates."""
    before, happen = SearchReport.end_candidate, []

    def end_candidate(self, *arguments, **how):
        before(self, *arguments, **how)
        if self.n_finished == 2:
            for function in happen:
                function()

    monkeypatch.setattr(SearchReport, "end_candidate", end_candidate)
    return happen


@pytest.mark.parametrize(
    ("kind", "n_jobs", "how"),
    cover_pairs(["tabular", "own fit", "callbacks"], [1, 2, None], ["max_time", "interrupt"]),
)
def test_a_search_of_whole_fits_ends_with_what_is_finished(
    kind, n_jobs, how, when_two_are_finished, monkeypatch
):
    estimator, params = make_whole(kind)
    search = BackpropSearchCV(estimator, params, cv=2, n_jobs=n_jobs)
    if how == "interrupt":
        when_two_are_finished.append(partial(signal.raise_signal, signal.SIGINT))
    else:
        search.set_params(max_time=1000)
        opened, open_control = [], Control.__init__

        def note(control, *given):
            open_control(control, *given)
            opened.append(control)

        monkeypatch.setattr(Control, "__init__", note)
        when_two_are_finished.append(lambda: opened[0]._end_time())
    said = pytest.warns(UserWarning, match="The search .*2 of 4 candidates are finished")
    with said as caught:
        search.fit(X, Y)
    assert len(caught) == 1
    assert search.cv_results_["status"].tolist() == ["finished"] * 2 + ["unfinished"] * 2
    assert search.best_index_ in (0, 1)
    assert search.predict(X).shape == Y.shape


class WithinAnother(BackpropClassifier):
    """Fits another network first, which nobody can ask to stop."""

    def fit(self, X, y):
        self.first_ = clone(LONG).set_params(n_iter_no_change=10**8).fit(X, y)
        return super().fit(X, y)


@pytest.mark.parametrize("kind", ["own fit", "step", "inner search"])
def test_an_interrupt_of_a_fit_within_a_fit_ends_the_search(kind):
    """The inner fit takes it; what it has left is no whole fit's."""
    long = clone(LONG).set_params(n_iter_no_change=10**8)
    short = BackpropClassifier((4,), max_iter=3, random_state=0)
    if kind == "own fit":
        estimator, params = WithinAnother(**short.get_params()), {"alpha": [0.1, 1.0]}
    else:
        first = long
        if kind == "inner search":
            first = BackpropSearchCV(long, {"n_iter_no_change": [2, 10**8]}, cv=2, n_jobs=1)
            first.set_params(refit=True)
        estimator = Pipeline([("first", first), ("last", short)])
        params = {"last__alpha": [0.1, 1.0]}
    search = BackpropSearchCV(estimator, params, cv=2, n_jobs=1, refit=False)
    with pytest.raises(KeyboardInterrupt), interrupt_after(0.4):
        search.fit(X, Y)


def test_an_interrupt_while_the_threads_begin(monkeypatch):
    """None of them goes on."""
    start, begun = threading.Thread.start, []

    def start_and_interrupt(thread):
        start(thread)
        if "ThreadPool" in thread.name:
            begun.append(thread)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(threading.Thread, "start", start_and_interrupt)
    search = BackpropSearchCV(LONG, {"n_iter_no_change": [10**8, np.inf]}, cv=2, n_jobs=3)
    with pytest.raises(KeyboardInterrupt):
        search.fit(X, Y)
    begun[0].join(60)
    assert not begun[0].is_alive()


def test_a_network_in_a_search_can_be_copied():
    """By a scorer, say: what asks it to stop is no part of a copy."""

    def size(net, X, y):
        twin = copy.deepcopy(net)
        return -len(pickle.dumps(twin)) if twin.predict(X).shape == y.shape else 0

    net = BackpropClassifier((4,), max_iter=2, random_state=0)
    tabular = TabularClassifier(max_iter=1, n_networks=1, n_members=2, random_state=0)
    for estimator in (net, Own(**net.get_params()), tabular):
        params = {"hidden_layer_sizes": [(3,), (40,)]}
        how = dict(cv=2, scoring=size, refit=False, error_score="raise")
        found = BackpropSearchCV(estimator, params, **how).fit(X, Y).cv_results_
        assert found["mean_test_score"][0] > found["mean_test_score"][1]


def test_an_interrupt_in_the_thread_of_another_fit():
    """As code of a user's may raise it, who wants to end."""
    net = BackpropClassifier((4,), max_iter=3, random_state=0)
    search = BackpropSearchCV(
        net, {"alpha": [1e-4, 1e-3, 1e-2, 0.1]}, cv=2, n_jobs=3, scoring=score_until(5), refit=False
    )
    with pytest.warns(UserWarning, match="of 4 candidates are finished"):
        search.fit(X, Y)


def test_an_interrupt_before_anything_is_finished():
    search = BackpropSearchCV(LONG, {"n_iter_no_change": [10**8, np.inf]}, cv=2, n_jobs=1)
    with pytest.raises(KeyboardInterrupt), interrupt_after(0.5):
        search.fit(X, Y)


def score_until(n_calls):
    """Return a scorer that ends the search, as Ctrl-C does, when it was called so often."""
    calls = []

    def score(estimator, X, y):
        calls.append(1)
        if len(calls) > n_calls:
            raise KeyboardInterrupt
        return float(np.mean(estimator.predict(X) == y))

    return score


def test_an_interrupt_between_two_fits():
    net = BackpropClassifier((4,), max_iter=3, random_state=0)
    search = BackpropSearchCV(
        net, {"alpha": [1e-4, 1e-3, 1e-2]}, cv=2, n_jobs=1, scoring=score_until(5)
    )
    with pytest.warns(UserWarning, match="2 of 3 candidates are finished"):
        search.fit(X, Y)
    assert search.cv_results_["status"].tolist() == ["finished"] * 2 + ["unfinished"]


def test_a_halving_that_is_interrupted_has_a_best_of_the_last_rung():
    net = BackpropClassifier((4,), max_iter=27, tol=0.0, n_iter_no_change=99, random_state=0)
    params = {"learning_rate_init": [1e-5, 1e-4, 1e-3, 3e-2, -1.0]}  # the last one fails
    search = BackpropSearchCV(
        net, params, strategy="halving", cv=2, n_jobs=1, scoring=score_until(9)
    )
    with pytest.warns((UserWarning, FitFailedWarning)) as caught:
        search.fit(X, Y)
    said = " ".join(str(one.message) for one in caught)
    assert "the best of the last rung counts, unfinished" in said
    assert "2 fits failed out of a total of 10" in said
    assert set(search.cv_results_["status"]) == {"discarded", "unfinished", "failed"}
    assert search.best_params_ == {"learning_rate_init": 3e-2}
    assert np.isnan(search.best_score_)
    assert search.best_estimator_.n_iter_ == 27
    scores = {"loss": "neg_log_loss", "accuracy": score_until(9)}
    search.set_params(scoring=scores, refit="accuracy")
    with pytest.warns((UserWarning, FitFailedWarning)):
        search.fit(X, Y)
    assert search.best_params_ == {"learning_rate_init": 3e-2}
    assert np.isnan(search.best_score_)
    assert np.isnan(search.cv_results_["mean_test_loss"]).all()


def test_an_interrupt_after_candidates_that_failed_alone():
    params = {"learning_rate_init": [-1.0, 1e-3]}
    net = BackpropClassifier((4,), max_iter=3, random_state=0)
    search = BackpropSearchCV(net, params, cv=2, n_jobs=1, scoring=score_until(1))
    with pytest.raises(KeyboardInterrupt):
        search.fit(X, Y)


def test_an_error_in_a_thread_ends_all():
    def score(estimator, X, y):
        raise OSError("no disk")

    search = BackpropSearchCV(LONG, PATIENCE, cv=2, n_jobs=2, scoring=score, error_score="raise")
    with pytest.raises(OSError, match="no disk"):
        search.fit(X, Y)


# ---------------------------------------------------------------------------------- threads


def test_cores_are_not_oversubscribed(monkeypatch):
    monkeypatch.setattr("fastbp.search.control.thread_ceiling", lambda n: 6)
    for n_jobs, n_fits, expected in ((2, 9, 3), (None, 9, 1), (4, 2, 3), (1, 9, 6)):
        control, shares = Control(n_jobs, None), []
        gate = threading.Barrier(min(control.n_workers, n_fits), timeout=20)

        def work(control=control, shares=shares, gate=gate):
            if len(shares) < gate.parties:
                shares.append(control.share())
                gate.wait()

        control.run([Job(work)] * n_fits)
        assert set(shares[: gate.parties]) == {expected}


@pytest.mark.parametrize("wanted", [None, 1, -1, 5])
def test_a_fit_gets_the_cores_that_others_leave(monkeypatch, wanted):
    """It has one thread while others run, and when it is the last all that it may have."""
    controls, used, gate = [], [], threading.Barrier(4, timeout=20)

    class Watched(Control):
        def __init__(self, *given):
            super().__init__(*given)
            controls.append(self)

    class Slow(fastbp.search.fits.OpenFit):
        def advance(self, until):
            if self.progress.n_iter == 0:
                gate.wait()
            if self.estimator.max_iter == 3:
                used.append(self.estimator.n_threads)
                while self.progress.n_iter == 1 and controls[-1].n_running > 1:
                    time.sleep(0.001)  # until the others have ended: the next epoch is its own
            return super().advance(until)

    monkeypatch.setattr("fastbp.search.search.Control", Watched)
    monkeypatch.setattr("fastbp.search.fits.OpenFit", Slow)
    monkeypatch.setattr("fastbp.search.fits.next_piece", lambda *given: 1)
    for name in ("fits", "control"):
        monkeypatch.setattr(
            f"fastbp.search.{name}.thread_ceiling", lambda n: min(4 if n in (None, -1) else n, 4)
        )
    net = BackpropClassifier((4,), n_threads=wanted, random_state=0)
    fold = [(np.arange(60), np.arange(60, 90))]
    params = {"max_iter": [4, 3, 2, 1]}
    search = BackpropSearchCV(net, params, cv=fold, n_jobs=4, refit=False).fit(X, Y)
    assert (used[0], used[-1]) == (1, 1 if wanted == 1 else 4)
    assert search.estimator.n_threads == wanted


def test_large_fits_run_alone(monkeypatch):
    monkeypatch.setattr("fastbp.search.control.thread_ceiling", lambda n: 3)
    for n_jobs, most in ((None, 1), (3, 3)):
        control, running, seen = Control(n_jobs, None), [], {True: [], False: []}

        def work(is_large, control=control, running=running, seen=seen):
            running.append(is_large)
            time.sleep(0.002)
            seen[is_large].append((len(running), control.share()))
            running.remove(is_large)

        control.run([Job(partial(work, is_large=i % 3 == 1), is_large=i % 3 == 1)
                     for i in range(12)])  # fmt: skip
        assert len(seen[True]) == 4
        assert len(seen[False]) == 8
        assert max(n for n, _ in seen[True]) <= most
        assert {share for _, share in seen[True]} <= ({3} if n_jobs is None else {1, 3})
        assert max(n for n, _ in seen[False]) > 1


def test_which_fits_are_large(monkeypatch):
    monkeypatch.setattr("fastbp.search.candidates.thread_ceiling", lambda n: min(n or 2, 2))
    for settings, n_cores, expected in (
        (dict(hidden_layer_sizes=(1024, 1024)), 2, "cython" in ENGINES),
        (dict(hidden_layer_sizes=(1024, 1024)), 64, False),
        (dict(hidden_layer_sizes=(100,)), 2, False),
        (dict(hidden_layer_sizes=(1024, 1024), n_threads=1), 2, False),
        (dict(hidden_layer_sizes=(1024, 1024), engine="numba"), 2, False),
        (dict(hidden_layer_sizes=(1024, 1024), n_threads="two"), 2, False),
    ):
        net = BackpropClassifier(**settings)
        of_step = cost_of(net, 10_000, 784, 10)[1]
        assert pays_on_all_cores(net, of_step, n_cores) is expected


def test_large_fits_give_the_same_results(monkeypatch):
    net = BackpropClassifier((4,), max_iter=3, random_state=0)
    params = {"hidden_layer_sizes": [(3,), (40,)], "alpha": [0.0, 1.0]}
    found = []
    for large_step, strategy in product((1.5e8, 2e3), ("grid", "halving")):
        monkeypatch.setattr("fastbp.search.candidates.LARGE_STEP", large_step)
        search = BackpropSearchCV(net, params, strategy=strategy, cv=2, refit=False).fit(X, Y)
        found.append(search.cv_results_["mean_test_score"])
    np.testing.assert_array_equal(found[:2], found[2:])


def test_the_longest_fits_begin_first(monkeypatch):
    order, before = [], fastbp.search.fits.CandidateFit.advance

    def advance(self, share=1.0):
        order.append(self.params["hidden_layer_sizes"])
        before(self, share)

    monkeypatch.setattr(fastbp.search.fits.CandidateFit, "advance", advance)
    net = BackpropClassifier(max_iter=2, random_state=0)
    params = {"hidden_layer_sizes": [(3,), (50, 50), 20]}
    BackpropSearchCV(net, params, cv=2, n_jobs=1, refit=False).fit(X, Y)
    assert order == [(50, 50)] * 2 + [20] * 2 + [(3,)] * 2
    order.clear()
    BackpropSearchCV(net, params, cv=2, n_jobs=1, refit=False, max_time=1e3).fit(X, Y)
    assert order == [(3,)] * 2 + [(50, 50)] * 2 + [20] * 2
    assert cost_of(BackpropClassifier(batch_size="small"), 10, 4, 2) == (0.0, 0.0)


def test_fits_on_one_preprocessed_fold_stay_together():
    parts = [SimpleNamespace(preprocesses=True) for _ in range(2)]
    jobs = [Job(None, cost, parts[i]) for cost, i in [(1, 0), (2, 1), (3, 0), (4, 1), (3, 1)]]
    assert [job.cost for job in longest_first(jobs)] == [4, 3, 2, 3, 1]


def test_large_folds_are_made_one_at_a_time():
    control = Control(2, None)
    parts = [SimpleNamespace(made=False, being_made=False, is_large=True) for _ in range(3)]
    control.waiting = [Job(None, 1.0, part) for part in parts for _ in range(2)]
    first, second = control._take(), control._take()
    assert first.part is second.part is parts[0]  # the second one waits
    parts[0].made, parts[0].being_made = True, False
    assert [control._take().part for _ in range(2)] == [parts[1]] * 2
    parts[1].made, parts[1].being_made = True, False
    for part in parts:
        part.is_large = False
    parts.append(SimpleNamespace(made=False, being_made=False, is_large=False))
    control.waiting.append(Job(None, 1.0, parts[3]))
    assert [control._take().part for _ in range(2)] == [parts[2], parts[3]]


def test_counts_of_workers(monkeypatch):
    monkeypatch.setattr("fastbp.search.control.available_threads", lambda: 4)
    assert [count_workers(n) for n in (1, 3, 9, -1, -2, -9)] == [1, 3, 9, 4, 3, 1]


# ------------------------------------------------------------------------------------- live


class Terminal:
    """A stream that is a terminal."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text

    def flush(self):
        pass

    def isatty(self):
        return True


def test_a_live_line(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setattr("fastbp.search.live.REFRESH_S", 0.0)
    net = BackpropClassifier((4,), max_iter=9, random_state=0)
    params = {"learning_rate_init": [1e-4, 1e-3, 1e-2]}
    BackpropSearchCV(net, params, strategy="halving", cv=2, n_jobs=1, verbose=1).fit(X, Y)
    *_, last = terminal.text.split("\r")
    assert "about" in terminal.text
    assert "left" not in last
    assert terminal.text.count("\n") == 1
    assert "1 of 3 candidates finished, 0 fits running, 2 discarded, best score 0." in last
    assert "1 fits running" in terminal.text


def test_lines_of_a_log(capsys):
    net = BackpropClassifier((4,), max_iter=3, random_state=0)
    params = {"alpha": [0.0, 1e-3, 1.0]}
    BackpropSearchCV(net, params, cv=2, n_jobs=1, verbose=2).fit(X, Y)
    lines = capsys.readouterr().out.splitlines()
    assert sum("{'alpha': " in line for line in lines) == 3
    assert lines[1].startswith("1 of 3 candidates finished, 0 fits running, best score")
    assert " left" in lines[1]
    assert lines[-1].startswith("3 of 3 candidates finished")
    BackpropSearchCV(net, params, cv=2).fit(X, Y)
    assert capsys.readouterr().out == ""


def test_a_report_keeps_a_long_search_in_sight(monkeypatch, capsys):
    monkeypatch.setattr("fastbp.search.live.SILENCE_S", 0.0)
    report = SearchReport(1, 3, 6)
    report.begin_fit()
    assert capsys.readouterr().out.startswith("0 of 3 candidates finished, 1 fits running, 0 s")


class Interrupting(TransformerMixin, BaseEstimator):
    """A step whose second fit is interrupted."""

    n_fits = 0

    def fit(self, X, y=None):
        type(self).n_fits += 1
        if self.n_fits == 2:
            raise KeyboardInterrupt
        return self

    def transform(self, X):
        return X

    def __sklearn_is_fitted__(self):
        return True


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_an_interrupt_of_preprocessing_leaves_nothing_half_made(n_jobs, monkeypatch):
    monkeypatch.setattr(Interrupting, "n_fits", 0)
    net = BackpropClassifier((4,), max_iter=3, random_state=0)
    steps = make_pipeline(Interrupting(), net)
    params = {"backpropclassifier__alpha": [1e-4, 1e-3, 1e-2]}
    with pytest.raises(KeyboardInterrupt):
        BackpropSearchCV(steps, params, cv=2, n_jobs=n_jobs).fit(X, Y)


def test_what_fits_warn_of_is_said_once():
    """At the user's line, whatever thread found it."""
    net = BackpropClassifier((4,), max_iter=3, random_state=0)
    search = BackpropSearchCV(net, {"alpha": [0.0, 1.0]}, cv=3, n_jobs=2, refit=False)
    with pytest.warns(ConvergenceWarning, match=r"iterations \(3\) reached.*In 6 fits") as caught:
        search.fit(X, Y)
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_a_score_that_is_nan_is_not_the_best():
    report = SearchReport(0, 2, 2)
    for score in (np.nan, 0.5, np.nan):
        report.end_candidate({}, score)
    assert report.best == 0.5
