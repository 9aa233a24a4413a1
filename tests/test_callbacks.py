"""scikit-learn's callbacks: who is told what, stops, copies, and no cost without them."""

import pickle
import warnings

import numpy as np
import pytest
from problems import draw_classes, draw_regression
from sklearn.base import clone
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastbp import BackpropClassifier, BackpropRegressor

ESTIMATORS = [BackpropClassifier, BackpropRegressor]
SOLVERS = ["sgd", "adam", "lbfgs"]
SETTINGS = dict(hidden_layer_sizes=(6,), random_state=0, batch_size=16)
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


class Recorder:
    """Writes down every call, and does at an epoch's end what a test asks for."""

    def __init__(self, at_end=None):
        self.calls, self.begins, self.ends = [], [], []
        self.at_end = at_end

    def setup(self, estimator, context):
        self.calls.append(("setup", context.max_subtasks))

    def teardown(self, estimator, context):
        self.calls.append(("teardown", None))

    def on_fit_task_begin(self, estimator, context):
        self.calls.append(("begin", context.task_name))

    def on_fit_task_end(self, estimator, context):
        self.calls.append(("end", context.task_name))
        if context.task_name != "fit" and self.at_end is not None:
            return self.at_end(context)
        return False


class Snapshots(Recorder):
    """Asks for data and fitted estimators too."""

    def on_fit_task_begin(self, estimator, context, *, fitted_estimator=None):
        super().on_fit_task_begin(estimator, context)
        self.begins.append(fitted_estimator)

    def on_fit_task_end(self, estimator, context, *, X, y, metadata, fitted_estimator):
        self.data = X, y, metadata
        self.ends.append(fitted_estimator)
        return super().on_fit_task_end(estimator, context)


def draw(kind):
    """Return (X, y) for an estimator class."""
    if kind is BackpropClassifier:
        return draw_classes(80, 5, 3)
    return draw_regression(80, 5, 2)


def assert_same_weights(left, right):
    for a, b in zip(left.coefs_ + left.intercepts_, right.coefs_ + right.intercepts_, strict=True):
        np.testing.assert_array_equal(a, b)


def assert_nothing_left(model):
    """The protocol's working attributes are gone."""
    assert not [name for name in vars(model) if "callback" in name and name != "_skl_callbacks"]


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", ESTIMATORS)
def test_one_task_per_epoch(kind, solver, engine_name):
    X, y = draw(kind)
    recorder = Recorder()
    model = kind(**SETTINGS, solver=solver, max_iter=4, engine=engine_name).set_callbacks(recorder)
    model.fit(X, y)
    step = "iteration" if solver == "lbfgs" else "epoch"
    expected = [("setup", 4), ("begin", "fit")]
    expected += [("begin", step), ("end", step)] * model.n_iter_
    assert recorder.calls == [*expected, ("end", "fit"), ("teardown", None)]
    assert_nothing_left(model)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", ESTIMATORS)
def test_watching_changes_nothing(kind, solver):
    X, y = draw(kind)
    model = kind(**SETTINGS, solver=solver, max_iter=12)
    plain = clone(model).fit(X, y)
    watched = model.set_callbacks(Snapshots()).fit(X, y)
    assert_same_weights(plain, watched)
    assert plain.loss_ == watched.loss_
    assert getattr(plain, "loss_curve_", None) == getattr(watched, "loss_curve_", None)
    assert set(vars(watched)) - set(vars(plain)) == {"_skl_callbacks"}


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", ESTIMATORS)
def test_fitted_estimators_are_what_a_shorter_fit_gives(kind, solver, engine_name):
    X, y = draw(kind)
    model = kind(**SETTINGS, solver=solver, max_iter=5, tol=0.0, engine=engine_name)
    snapshots = Snapshots()
    clone(model).set_callbacks(snapshots).fit(X, y, sample_weight=np.full(80, 2.0))
    for n_iter, snapshot in enumerate(snapshots.ends[:-1], start=1):
        shorter = clone(model).set_params(max_iter=n_iter).fit(X, y, sample_weight=np.full(80, 2.0))
        assert_same_weights(snapshot, shorter)
        assert snapshot.n_iter_ == n_iter
        assert snapshot.loss_ == shorter.loss_
        np.testing.assert_array_equal(snapshot.predict(X), shorter.predict(X))
        if solver != "lbfgs":
            assert snapshot.loss_curve_ == shorter.loss_curve_
            assert_same_weights(snapshot.partial_fit(X, y), shorter.partial_fit(X, y))
    assert snapshots.data[0] is X
    assert snapshots.data[1] is y
    np.testing.assert_array_equal(snapshots.data[2]["sample_weight"], np.full(80, 2.0))


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("early_stopping", [False, True])
def test_fitted_estimators_share_nothing(solver, early_stopping):
    """Spoiling all that was handed out changes neither the training nor the model."""
    X, y = draw(BackpropClassifier)

    class Vandal(Snapshots):
        def on_fit_task_end(self, estimator, context, *, X, y, metadata, fitted_estimator):
            for weights in fitted_estimator.coefs_ + fitted_estimator.intercepts_:
                weights[...] = np.nan
            if solver != "lbfgs":
                fitted_estimator.loss_curve_.clear()
                fitted_estimator._optimizer["slots"][...] = np.nan
            return False

    model = BackpropClassifier(
        **SETTINGS, solver=solver, max_iter=8, early_stopping=early_stopping
    )  # fmt: skip
    plain = clone(model).fit(X, y)
    model.set_callbacks(Vandal()).fit(X, y)
    assert_same_weights(plain, model)
    assert getattr(plain, "loss_curve_", None) == getattr(model, "loss_curve_", None)


def test_with_early_stopping_they_hold_the_best_weights():
    X, y = draw(BackpropRegressor)
    snapshots = Snapshots()
    model = BackpropRegressor(
        **SETTINGS, early_stopping=True, learning_rate_init=0.3, max_iter=30, n_iter_no_change=30
    ).set_callbacks(snapshots)
    model.fit(X, y)
    best = int(np.argmax(model.validation_scores_))
    assert best < 29
    for snapshot in snapshots.ends[best:]:
        assert_same_weights(snapshot, model)
    assert snapshots.ends[best].validation_scores_ == model.validation_scores_[: best + 1]


@pytest.mark.parametrize("solver", SOLVERS)
def test_no_copy_is_made_unless_asked_for(solver, monkeypatch):
    X, y = draw(BackpropRegressor)
    made = []
    describe = BackpropRegressor._fitted_attributes

    def count(self, *arguments):
        made.append(1)
        return describe(self, *arguments)

    monkeypatch.setattr(BackpropRegressor, "_fitted_attributes", count)
    model = BackpropRegressor(**SETTINGS, solver=solver, max_iter=5)
    model.set_callbacks(Recorder()).fit(X, y)
    assert len(made) == 1  # the model's own
    model.set_callbacks(Snapshots(), Snapshots()).fit(X, y)
    assert len(made) == 1 + 1 + 2 * model.n_iter_ + 1  # of the begin and end of each, and the fit's


# --- stops ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", ESTIMATORS)
def test_a_request_to_stop_is_honoured(kind, solver, engine_name):
    X, y = draw(kind)
    recorder = Recorder(lambda context: context.task_id == 2)
    model = kind(**SETTINGS, solver=solver, max_iter=50, tol=0.0, engine=engine_name)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)  # who asked to stop knows
        stopped = clone(model).set_callbacks(recorder).fit(X, y)
    assert stopped.n_iter_ == 3
    assert_same_weights(stopped, model.set_params(max_iter=3).fit(X, y))
    assert recorder.calls[-2:] == [("end", "fit"), ("teardown", None)]
    if solver != "lbfgs":
        stopped.partial_fit(X, y)


def test_a_stop_with_early_stopping_keeps_the_best_weights():
    X, y = draw(BackpropRegressor)
    model = BackpropRegressor(
        **SETTINGS, early_stopping=True, learning_rate_init=0.3, max_iter=30, n_iter_no_change=30
    )
    whole = clone(model).fit(X, y)
    best = int(np.argmax(whole.validation_scores_))
    model.set_callbacks(Recorder(lambda context: context.task_id == best + 1)).fit(X, y)
    assert_same_weights(whole, model)


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("hook", ["setup", "begin", "end", "teardown"])
def test_an_error_in_a_callback_leaves_the_estimator_as_it_was(hook, solver):
    X, y = draw(BackpropRegressor)
    model = BackpropRegressor(**SETTINGS, solver=solver, max_iter=5).fit(X, y)
    expected = model.predict(X)

    class Broken(Recorder):
        def fail(self, where):
            if where == hook:
                raise RuntimeError(hook)

        def setup(self, estimator, context):
            super().setup(estimator, context)
            self.fail("setup")

        def on_fit_task_begin(self, estimator, context):
            self.fail("begin" if context.parent is not None else None)

        def on_fit_task_end(self, estimator, context):
            self.fail("end")

        def teardown(self, estimator, context):
            super().teardown(estimator, context)
            self.fail("teardown")

    broken = Broken()
    model.set_params(max_iter=7).set_callbacks(broken)
    before = set(vars(model))
    with pytest.raises(RuntimeError, match=hook):
        model.fit(X[:40], y[:40])
    assert broken.calls[-1][0] == "teardown"
    np.testing.assert_array_equal(model.predict(X), expected)
    assert set(vars(model)) == before
    assert_nothing_left(model)


def test_teardown_after_bad_data_and_divergence():
    X, y = draw(BackpropRegressor)
    recorder = Recorder()
    model = BackpropRegressor(**SETTINGS, max_iter=5).set_callbacks(recorder)
    with pytest.raises(ValueError, match="NaN"):
        model.fit(X, np.full(80, np.nan))
    assert recorder.calls[-1] == ("teardown", None)
    model.set_params(solver="sgd", learning_rate_init=1e30)
    with pytest.raises(ValueError, match="non-finite"):
        model.fit(X, y)
    assert recorder.calls[-1] == ("teardown", None)
    assert_nothing_left(model)


def test_bad_parameters_come_before_any_callback():
    recorder = Recorder()
    model = BackpropRegressor(alpha=-1.0).set_callbacks(recorder)
    with pytest.raises(ValueError, match="alpha"):
        model.fit(*draw(BackpropRegressor))
    assert recorder.calls == []


@pytest.mark.parametrize("solver", SOLVERS)
def test_an_interrupt_ends_the_open_task(solver):
    X, y = draw(BackpropRegressor)

    class Impatient(Recorder):
        def on_fit_task_begin(self, estimator, context):
            super().on_fit_task_begin(estimator, context)
            if context.task_id == 3:
                raise KeyboardInterrupt

    impatient = Impatient()
    model = BackpropRegressor(**SETTINGS, solver=solver, max_iter=10, tol=0.0)
    with pytest.warns(UserWarning, match="interrupted"):
        clone(model).set_callbacks(impatient).fit(X, y)
    names = [call for call, _ in impatient.calls]
    assert names.count("begin") == names.count("end")
    assert impatient.calls[-2:] == [("end", "fit"), ("teardown", None)]


# --- other calls ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_partial_fit_has_no_tasks(kind):
    X, y = draw(kind)
    recorder = Recorder()
    model = kind(**SETTINGS, max_iter=3).set_callbacks(recorder).fit(X, y)
    n_calls = len(recorder.calls)
    model.partial_fit(X, y)
    assert len(recorder.calls) == n_calls


def test_a_warm_start_has_tasks_of_its_own():
    X, y = draw(BackpropRegressor)
    snapshots = Snapshots()
    model = BackpropRegressor(**SETTINGS, warm_start=True, max_iter=3).fit(X, y)
    model.set_callbacks(snapshots).fit(X, y)
    assert [len(snapshot.loss_curve_) for snapshot in snapshots.ends] == [4, 5, 6, 6]
    assert [len(snapshot.loss_curve_) for snapshot in snapshots.begins[1:]] == [3, 4, 5]


def test_a_new_fit_hands_out_nothing_of_the_old_one():
    X, y = draw(BackpropRegressor)
    model = BackpropRegressor(**SETTINGS, max_iter=3).fit(X, y)
    snapshots = Snapshots()
    model.set_params(solver="lbfgs").set_callbacks(snapshots).fit(X, y)
    for snapshot in snapshots.ends:
        assert not hasattr(snapshot, "loss_curve_")


# --- scikit-learn's own callbacks -----------------------------------------------------------------


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", ESTIMATORS)
def test_scoring_monitor(kind, solver, engine_name):
    X, y = draw(kind)
    monitor = ScoringMonitor(scoring="accuracy" if kind is BackpropClassifier else "r2")
    model = kind(**SETTINGS, solver=solver, max_iter=4, engine=engine_name).set_callbacks(monitor)
    weight = np.linspace(0.5, 2.0, len(X))
    model.fit(X, y, sample_weight=weight)
    rows = monitor.get_logs().data
    assert len(rows) == model.n_iter_ + 1
    score = rows[0]["accuracy" if kind is BackpropClassifier else "r2"]
    assert score == pytest.approx(model.score(X, y, sample_weight=weight), rel=1e-12)


def test_scoring_monitor_with_a_frame_and_a_metric():
    pd = pytest.importorskip("pandas")
    X, y = draw(BackpropClassifier)
    X = pd.DataFrame(X, columns=list("abcde"))
    monitor = ScoringMonitor(scoring="neg_log_loss")
    model = BackpropClassifier(**SETTINGS, max_iter=4, early_stopping=True).set_callbacks(monitor)
    model.fit(X, y)
    scores = [row["neg_log_loss"] for row in monitor.get_logs().data]
    assert len(scores) == 5
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_in_a_pipeline_in_a_search(n_jobs, capsys):
    pytest.importorskip("rich")
    X, y = draw(BackpropClassifier)
    monitor = ScoringMonitor(scoring="accuracy")
    net = BackpropClassifier(**SETTINGS, max_iter=3).set_callbacks(monitor)
    model = make_pipeline(StandardScaler(), net)
    search = GridSearchCV(model, {"backpropclassifier__alpha": [0.0, 0.1]}, cv=2, n_jobs=n_jobs)
    search.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(X, y)
    rows = monitor.get_logs().data
    assert len(rows) == (4 + 1) * (3 + 1)  # four splits and the final fit, each with three epochs
    assert {row["task_name"] for row in rows} == {"fit", "epoch"}
    out = capsys.readouterr().out
    assert "GridSearchCV - fit" in out
    assert "100%" in out


@pytest.mark.parametrize("solver", SOLVERS)
def test_progress_bar_alone(solver, capsys):
    pytest.importorskip("rich")
    X, y = draw(BackpropRegressor)
    model = BackpropRegressor(**SETTINGS, solver=solver, max_iter=5).set_callbacks(ProgressBar())
    model.fit(X, y)
    out = capsys.readouterr().out
    assert "BackpropRegressor - fit" in out
    assert "100%" in out


def test_callbacks_survive_clone_and_pickle():
    X, y = draw(BackpropRegressor)
    model = BackpropRegressor(**SETTINGS, max_iter=3).set_callbacks(ScoringMonitor(scoring="r2"))
    model.fit(X, y)
    again = pickle.loads(pickle.dumps(model))
    assert_same_weights(model, again)
    again.fit(X, y)
    assert clone(model)._skl_callbacks == model._skl_callbacks
    assert not hasattr(model.set_callbacks(), "_skl_callbacks")
