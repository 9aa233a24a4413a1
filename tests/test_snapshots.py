"""The state of a training, whole and in bytes; snapshots, by which a killed call goes on."""

import pickle
import warnings
from functools import partial

import numpy as np
import pytest
from problems import draw_classes, draw_regression
from scipy import sparse
from sklearn.exceptions import FitFailedWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state

import fastbp
from fastbp import (
    BackpropClassifier,
    BackpropRegressor,
    BackpropSearchCV,
    Snapshot,
    TabularClassifier,
)
from fastbp.estimators.fitting import OpenFit
from fastbp.search.fits import CandidateFit
from fastbp.search.keeping import Kept
from fastbp.search.live import SearchReport
from fastbp.training import keeping
from fastbp.training.minibatches import Run
from fastbp.training.snapshots import beside, find_snapshot
from fastbp.training.state import from_bytes, to_bytes
from fastbp.training.stopping import TIME

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = draw_classes(120, 6, 3)
NET = dict(hidden_layer_sizes=(7,), max_iter=13, batch_size=32, random_state=0)
SETTINGS = {
    "constant": {},
    "cosine": dict(learning_rate="cosine", dtype=None),
    "plateau": dict(learning_rate="plateau", tol=0.05, n_iter_no_change=2),
    "adaptive": dict(learning_rate="adaptive", solver="sgd", tol=0.05, n_iter_no_change=2),
    "early_stopping": dict(early_stopping=True, n_iter_no_change=9, ema_decay=0.9),
    "dropout": dict(dropout=0.3, random_state=None),
    "ema": dict(ema_decay=0.9, learning_rate="linear", solver="adamw"),
    "no_shuffle": dict(shuffle=False, max_grad_norm=0.5, class_weight="balanced"),
    "stops": dict(tol=10.0, n_iter_no_change=4),
}


class Death(BaseException):
    """What stands for a kill here; `checks.kills` sends SIGKILL."""


@pytest.fixture
def dies(monkeypatch):
    """Let the process die right after, or before, so many snapshots were written."""
    plain, left = keeping.SealedFile.write, [None, False]

    def write(self, *args):
        if left[0] is not None:
            left[0] -= 1
        if left[0] == 0 and left[1]:
            raise Death
        plain(self, *args)
        if left[0] == 0:
            raise Death

    monkeypatch.setattr(keeping.SealedFile, "write", write)

    def die(n, *, before=False):
        left[:] = n, before

    return die


@pytest.fixture
def epochs(monkeypatch):
    """Count the epochs that are trained."""
    plain, counts = Run.train_epochs, []

    def train_epochs(run, losses):
        plain(run, losses)
        counts.append(run.session.epochs_done)

    monkeypatch.setattr(Run, "train_epochs", train_epochs)
    return counts


@pytest.fixture
def path(tmp_path):
    return tmp_path / "fit.snapshot"


def assert_same(a, b):
    """Same fitted attributes, bit for bit."""
    assert vars(a).keys() - {"_skl_callbacks"} == vars(b).keys() - {"_skl_callbacks"}
    for name in vars(a):
        if name.startswith("_") or name == "solver":
            continue
        one, other = getattr(a, name), getattr(b, name)
        if isinstance(one, list) and one and isinstance(one[0], np.ndarray):
            assert all(np.array_equal(p, q) for p, q in zip(one, other, strict=True)), name
        else:
            assert np.array_equal(one, other), name


def fit_again(make, snapshot, dies, pauses=(2, 1, 3), **data):
    """Make the same call until it comes through; it dies after so many snapshots."""
    for n in pauses:
        dies(n, before=n == 1)
        with pytest.raises(Death):
            make().fit(**data, snapshot=snapshot)
    dies(None)
    return make().fit(**data, snapshot=snapshot)


# ------------------------------------------------------------------------ the state


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_a_state_is_all_that_a_training_needs(settings):
    make = partial(BackpropClassifier, **NET | settings)
    check_random_state(None).seed(3)
    whole = make().fit(X, Y)
    end = check_random_state(None).randint(10**6)
    check_random_state(None).seed(3)
    fit = OpenFit(make(), X, Y)
    for epoch in (1, 2, 9):
        if fit.advance(epoch):
            break
        sent = pickle.loads(pickle.dumps(fit.training.state()))
        content = to_bytes(sent)
        assert to_bytes(from_bytes(content)) == content
        fit.close()
        fit = OpenFit(make(), X, Y, state=from_bytes(content))
        assert to_bytes(fit.training.state()) == content
    else:
        fit.advance()
    fit.finish()
    assert_same(whole, fit.estimator)
    assert check_random_state(None).randint(10**6) == end


def test_a_state_is_not_changed_by_those_who_go_on(engine_name):
    make = partial(BackpropClassifier, **NET, early_stopping=True, engine=engine_name)
    fit = OpenFit(make(), X, Y)
    fit.advance(4)
    state = fit.training.state()
    before = to_bytes(state)
    fit.advance()
    fit.finish()
    other = OpenFit(make(), X, Y, state=state)
    other.advance()
    other.finish()
    assert to_bytes(state) == before
    assert state.rows_seen == 0
    assert_same(fit.estimator, other.estimator)


def test_a_state_of_other_data_or_layers_is_refused():
    fit = OpenFit(BackpropClassifier(**NET), X, Y)
    fit.advance(2)
    state = fit.training.state()
    fit.close()
    with pytest.raises(ValueError, match="rows"):
        OpenFit(BackpropClassifier(**NET), X[:100], Y[:100], state=state)
    with pytest.raises(ValueError, match="parameters"):
        OpenFit(BackpropClassifier(**NET | {"hidden_layer_sizes": (8,)}), X, Y, state=state)
    state.rows_seen, state.n_iter = 0, 99
    with pytest.raises(ValueError, match="curves"):
        OpenFit(BackpropClassifier(**NET), X, Y, state=state)
    state.place["stream"]["state"]["pos"] = 10**6
    with pytest.raises(ValueError, match="stream"):
        OpenFit(BackpropClassifier(**NET), X, Y, state=state)


def test_time_of_earlier_lives_counts():
    endless = dict(max_iter=10**7, tol=0.0, n_iter_no_change=10**7)
    model = BackpropClassifier(**NET | endless, max_time=1000.0)
    fit = OpenFit(model, X, Y)
    fit.advance(2)
    state = fit.training.state()
    fit.close()
    state.seconds += 1000.0
    fit = OpenFit(model, X, Y, state=state)
    assert fit.advance()
    fit.finish()
    assert fit.progress.ended == TIME


# ------------------------------------------------------------------------ fits


CALLS = {
    "classes": (BackpropClassifier(**NET, early_stopping=True), dict(X=X, y=Y)),
    "no seed": (BackpropClassifier(**NET | {"random_state": None}), dict(X=X, y=Y)),
    "validation": (
        BackpropClassifier(**NET, ema_decay=0.8),
        dict(X=X, y=np.array(["a", "b", "c"])[Y], X_val=X[:40],
             y_val=np.array(["a", "b", "c"])[Y[:40]], sample_weight=np.linspace(1, 2, 120)),
    ),
    "sparse": (BackpropClassifier(**NET), dict(X=sparse.csr_array(X * (X > 0)), y=Y)),
    "regression": (
        BackpropRegressor(**NET, scale_targets=True),
        dict(zip("Xy", draw_regression(120, 6), strict=True)),
    ),
    "tabular": (
        TabularClassifier(max_iter=6, n_networks=2, n_members=2, hidden_layer_sizes=(6,),
                          random_state=0, n_threads=1),
        dict(X=X, y=Y),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_who_was_killed_goes_on(name, path, dies, epochs):
    model, data = CALLS[name]
    make = partial(pickle.loads, pickle.dumps(model))
    check_random_state(None).seed(3)
    whole = make().fit(**data)
    end, n_epochs = check_random_state(None).randint(10**6), sum(epochs)
    epochs.clear()
    check_random_state(None).seed(3)
    again = fit_again(make, Snapshot(path, every_epochs=2), dies, **data)
    assert check_random_state(None).randint(10**6) == end
    assert n_epochs <= sum(epochs) <= n_epochs + 2  # it died once before it could write
    if name == "tabular":
        for one, other in zip(whole.networks_, again.networks_, strict=True):
            assert_same(one, other)
    else:
        assert_same(whole, again)
    epochs.clear()
    finished = make().fit(**data, snapshot=path)
    assert not epochs
    assert np.array_equal(finished.predict(data["X"]), whole.predict(data["X"]))
    assert not list(path.parent.glob("*.part"))


def test_as_a_callback_in_a_pipeline(path, dies, epochs):
    def make():
        return make_pipeline(StandardScaler(), BackpropClassifier(**NET))

    whole = make().fit(X, Y)
    epochs.clear()
    pipes = [make(), make(), make()]
    for pipe in pipes[:2]:
        pipe[-1].set_callbacks(Snapshot(path, every_epochs=3))
    dies(2)
    with pytest.raises(Death):
        pipes[0].fit(X, Y)
    dies(None)
    assert_same(pipes[1].fit(X, Y)[-1], whole[-1])
    assert_same(pipes[2].fit(X, Y, backpropclassifier__snapshot=path)[-1], whole[-1])
    assert sum(epochs) == whole[-1].n_iter_
    with pytest.raises(TypeError, match="not on a Pipeline"):
        make().set_callbacks(Snapshot(path)).fit(X, Y)


def test_seconds_between_snapshots(path, dies, monkeypatch):
    """At 0 s each epoch could be followed by one; writing takes at most 1 % of the time."""
    written = []
    monkeypatch.setattr(keeping.Keeper, "write", lambda self, state: written.append(state.n_iter))
    monkeypatch.setattr(keeping, "MOST_OF_TIME", np.inf)
    BackpropClassifier(**NET).fit(X, Y, snapshot=Snapshot(path, every=0))
    assert written == [*range(1, 13), 13]
    written.clear()
    BackpropClassifier(**NET).fit(X, Y, snapshot=path)
    assert written == [13]
    file = keeping.SealedFile(Snapshot(path, every=0), "fit")
    assert file.is_due()
    monkeypatch.setattr(keeping, "MOST_OF_TIME", 0.01)
    file.expect(5e11)
    assert not file.is_due()
    file.expect(0)
    assert file.is_due()
    file.n_written, file.cost_s = 1, 1000.0
    file.expect(0)  # what writing took is known
    assert not file.is_due()


def test_another_call_is_refused_or_begun_anew(path):
    model = BackpropClassifier(**NET).fit(X, Y, snapshot=path)
    other_data, weight = np.where(X.max() == X, 0.0, X), np.linspace(1, 2, 120)
    for data, settings, name in [
        ((other_data, Y), {}, "data: X"),
        ((X, Y[::-1].copy()), {}, "data: y"),
        ((X, Y, weight), {}, "data: sample_weight"),
        ((X, Y), {"alpha": 0.1, "max_iter": 14}, "settings: alpha, max_iter"),
        ((X, Y), {"dtype": "float64"}, "dtype, precision"),
    ]:
        with pytest.raises(ValueError, match=rf"fit\.snapshot'.*{name}.*fresh=True"):
            BackpropClassifier(**NET | settings).fit(*data, snapshot=path)
    BackpropClassifier(**NET, n_threads=1).fit(X.copy(), Y.tolist(), snapshot=path)
    anew = BackpropClassifier(**NET).fit(other_data, Y, snapshot=Snapshot(path, fresh=True))
    assert_same(anew, BackpropClassifier(**NET).fit(other_data, Y, snapshot=path))
    with pytest.raises(ValueError, match="X_val"):
        BackpropClassifier(**NET).fit(other_data, Y, X_val=X, y_val=Y, snapshot=path)
    with pytest.raises(ValueError, match="weights to begin with"):
        model.set_params(warm_start=True).fit(other_data, Y, snapshot=path)


def test_a_fit_that_resumes_another(path, dies):
    first = BackpropClassifier(**NET, warm_start="resume").fit(X, Y)
    make = partial(pickle.loads, pickle.dumps(first))
    again = fit_again(make, Snapshot(path, every_epochs=2), dies, X=X, y=Y)
    whole = first.fit(X, Y)
    assert_same(whole, again)
    assert_same(whole.fit(X, Y), again.fit(X, Y))


def test_another_machine_refuses_or_goes_on(path, dies, monkeypatch):
    snapshot, plain = Snapshot(path, every_epochs=2), keeping.describe_machine
    dies(1)
    with pytest.raises(Death):
        BackpropClassifier(**NET).fit(X, Y, snapshot=snapshot)
    dies(None)
    monkeypatch.setattr(
        keeping, "describe_machine", lambda *about: plain(*about) | {"instruction set": "other"}
    )
    with pytest.raises(ValueError, match=r"written elsewhere: instruction set .* 'other' here"):
        BackpropClassifier(**NET).fit(X, Y, snapshot=snapshot)
    with pytest.warns(UserWarning, match="goes on though instruction set") as caught:
        again = BackpropClassifier(**NET).fit(X, Y, snapshot=Snapshot(path, other_machine="warn"))
    assert caught[0].filename == __file__
    assert_same(again, BackpropClassifier(**NET).fit(X, Y))


def test_another_engine_compares_the_data(path, monkeypatch):
    """Each engine has fingerprints of its own."""
    BackpropClassifier(**NET).fit(X, Y, snapshot=path)
    plain = keeping.describe_machine
    monkeypatch.setattr(keeping, "describe_machine", lambda *about: plain(*about) | {"engine": "x"})
    snapshot, asked = Snapshot(path, other_machine="warn"), []
    take = keeping.identify_data

    def identify(problem, engine):
        asked.append(engine)
        return take(problem, engine)

    monkeypatch.setattr(keeping, "identify_data", identify)
    with pytest.warns(UserWarning, match="goes on though engine"):
        BackpropClassifier(**NET).fit(X, Y, snapshot=snapshot)
    assert len(asked) == 2

    def missing(name):
        raise ImportError

    monkeypatch.setattr(keeping, "get_engine", missing)
    goes_on = pytest.warns(UserWarning, match="goes on though engine")
    with goes_on, pytest.warns(UserWarning, match="data are not compared"):
        BackpropClassifier(**NET).fit(X, Y, snapshot=snapshot)


class Listener:
    """A callback with a state of its own, which may interrupt."""

    def __init__(self, interrupts=None, error=KeyboardInterrupt):
        self.interrupts, self.error, self.n = interrupts, error, 0

    def setup(self, estimator, context):
        pass

    teardown = setup

    def on_fit_task_begin(self, estimator, context, **told):
        pass

    def on_fit_task_end(self, estimator, context, **told):
        self.n += 1
        if self.n == self.interrupts:
            raise self.error("no more")


def test_an_interrupted_fit_is_unfinished(path):
    snapshot = Snapshot(path, every_epochs=3)
    with pytest.warns(UserWarning, match="interrupted"):
        short = BackpropClassifier(**NET).set_callbacks(Listener(8)).fit(X, Y, snapshot=snapshot)
    assert short.n_iter_ == 8
    again = BackpropClassifier(**NET).fit(X, Y, snapshot=snapshot)
    assert_same(again, BackpropClassifier(**NET).fit(X, Y))


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_end_that_nobody_foresaw_leaves_the_last_copy(error, path, epochs, monkeypatch):
    """Though by its interval none is due."""
    monkeypatch.setattr(keeping, "next_piece", lambda *given: 1)
    monkeypatch.setattr(keeping, "MOST_OF_COPIES", np.inf)
    snapshot = Snapshot(path, every=1e9)
    net = BackpropClassifier(**NET).set_callbacks(Listener(8, error))
    ends = pytest.raises(error, match="no more")
    if error is KeyboardInterrupt:
        ends = pytest.warns(UserWarning, match="interrupted")
    with ends:
        net.fit(X, Y, snapshot=snapshot)
    epochs.clear()
    again = BackpropClassifier(**NET).fit(X, Y, snapshot=snapshot)
    assert sum(epochs) == NET["max_iter"] - 7
    assert_same(again, BackpropClassifier(**NET).fit(X, Y))


def test_copies_that_cost_much_are_rare(path, monkeypatch):
    monkeypatch.setattr(keeping, "BYTES_PER_S", 1e-9)
    net = BackpropClassifier(**NET).set_callbacks(Listener(8, KeyboardInterrupt))
    with pytest.warns(UserWarning, match="interrupted"):
        net.fit(X, Y, snapshot=Snapshot(path, every=0.0))
    assert not path.exists()


def test_an_interrupt_while_it_is_written(path, monkeypatch):
    plain, calls = keeping.safetensors.write, []

    def write(*args, **kwargs):
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        plain(*args, **kwargs)

    monkeypatch.setattr(keeping.safetensors, "write", write)
    snapshot = Snapshot(path, every_epochs=3)
    with pytest.warns(UserWarning, match="interrupted"):
        short = BackpropClassifier(**NET).fit(X, Y, snapshot=snapshot)
    assert short.n_iter_ == 3
    assert len(calls) == 2  # it is written in the end
    again = BackpropClassifier(**NET).fit(X, Y, snapshot=snapshot)
    assert_same(again, BackpropClassifier(**NET).fit(X, Y))


def test_what_is_not_restored_is_named(path, dies):
    snapshot = Snapshot(path, every_epochs=2)
    make = partial(BackpropClassifier, **NET, learning_rate=lambda step, n_steps: 0.01)
    dies(1)
    with pytest.raises(Death):
        make().set_callbacks(Listener()).fit(X, Y, snapshot=snapshot)
    dies(None)
    with pytest.warns(
        UserWarning, match=r"callback Listener and learning_rate=<function"
    ) as caught:
        make().set_callbacks(Listener()).fit(X, Y, snapshot=snapshot)
    (said,) = [one for one in caught if one.category is UserWarning]
    assert said.filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make().set_callbacks(Listener()).fit(X, Y, snapshot=snapshot)  # finished: nothing is asked


def test_a_disk_that_fails_later_ends_no_fit(path, monkeypatch):
    def write(*args, **kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr(keeping.safetensors, "write", write)
    with pytest.warns(UserWarning, match=r"could not be written \(No space"):
        model = BackpropClassifier(**NET).fit(X, Y, snapshot=path)
    assert_same(model, BackpropClassifier(**NET).fit(X, Y))


def test_damaged_and_foreign_files_are_refused(path, tmp_path):
    model = BackpropClassifier(**NET).fit(X, Y, snapshot=path)
    content = path.read_bytes()
    foreign = tmp_path / "model"
    fastbp.save(model, foreign)
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    damaged = [b"", b"PK", content[:100], content[:-1], content + b"0", bytes(flipped)]
    state = to_bytes(OpenFit(model, X, Y).progress)
    for bad in (*damaged, pickle.dumps(model), foreign.read_bytes(), state):
        path.write_bytes(bad)
        with pytest.raises(ValueError, match=r"fit\.snapshot' cannot be used: .*fresh=True"):
            BackpropClassifier(**NET).fit(X, Y, snapshot=path)
        assert path.read_bytes() == bad
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"cannot be loaded: .*snapshot"):
        fastbp.load(path)
    with pytest.raises(ValueError, match="it is of a fit, and this is a search"):
        BackpropSearchCV(BackpropClassifier(**NET), {"alpha": [1.0]}, snapshot=path).fit(X, Y)


def test_half_written_files_of_the_killed_are_removed(path):
    litter = path.with_name("fit.snapshot.12.34.part")
    others = path.with_name("fit.snapshot.old"), path.with_name("other.snapshot.1.2.part")
    for one in (litter, *others):
        one.touch()
    BackpropClassifier(**NET).fit(X, Y, snapshot=path)
    assert not litter.exists()
    assert all(one.exists() for one in others)


def test_what_cannot_be_kept_is_refused(path, tmp_path):
    fit = partial(BackpropClassifier.fit, X=X, y=Y)
    with pytest.raises(ValueError, match="solver='lbfgs'"):
        fit(BackpropClassifier(solver="lbfgs"), snapshot=path)
    with pytest.raises(ValueError, match="random_state to be an int or None"):
        fit(BackpropClassifier(random_state=np.random.RandomState(0)), snapshot=path)
    with pytest.raises(TypeError, match=r"must be a path, a fastbp\.Snapshot or None, got int"):
        fit(BackpropClassifier(), snapshot=3)
    with pytest.raises(ValueError, match="folder is missing"):
        fit(BackpropClassifier(), snapshot=tmp_path / "no" / "file")
    with pytest.raises(ValueError, match="this is a folder"):
        fit(BackpropClassifier(), snapshot=tmp_path)
    with pytest.raises(ValueError, match="one snapshot, got 2"):
        fit(BackpropClassifier().set_callbacks(Snapshot(path)), snapshot=path)
    with pytest.raises(ValueError, match="int as random_state, got None"):
        TabularClassifier().fit(X, Y, snapshot=path)
    with pytest.raises(ValueError, match="without max_time"):
        TabularClassifier(random_state=0, max_time=5).fit(X, Y, snapshot=path)
    with pytest.raises(ValueError, match="this is a folder"):  # not a file beside the folder
        TabularClassifier(random_state=0).fit(X, Y, snapshot=path.parent)
    assert not path.exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(every=-1), "every must be"),
        (dict(every=float("nan")), "every must be"),
        (dict(every="5 s"), "every must be"),
        (dict(every_epochs=0), "every_epochs must be"),
        (dict(every_epochs=1.5), "every_epochs must be"),
        (dict(every_epochs=True), "every_epochs must be"),
        (dict(other_machine="ignore"), "'refuse' or 'warn'"),
    ],
)
def test_wrong_arguments_of_a_snapshot(wrong, message):
    with pytest.raises(ValueError, match=message):
        Snapshot("file", **wrong)


def test_a_snapshot_says_what_it_is(path):
    with pytest.raises(TypeError, match="path must be"):
        Snapshot(None)
    snapshot = Snapshot("a.snapshot", every=60, fresh=True)
    assert repr(snapshot) == "Snapshot('a.snapshot', every=60, fresh=True)"
    assert find_snapshot(BackpropClassifier().set_callbacks(snapshot)) is snapshot
    assert repr(beside(snapshot, ".refit")) == "Snapshot('a.snapshot.refit', every=60, fresh=True)"
    numpy = Snapshot("a", every=np.float32(2), every_epochs=np.int64(3))
    assert numpy.every == 2
    assert type(numpy.every_epochs) is int
    copied = pickle.loads(pickle.dumps(snapshot))
    assert repr(copied) == repr(snapshot)


# ------------------------------------------------------------------------ searches


GRID = {"learning_rate_init": [1e-3, 1e-2, 0.1], "alpha": [1e-4, 1.0]}
SEARCHES = {
    "grid": dict(return_train_score=True, scoring=["accuracy", "neg_log_loss"], refit="accuracy"),
    "random": dict(strategy="random", n_candidates=3),
    "halving": dict(strategy="halving"),
    "early discard": dict(early_discard=True),
}


@pytest.mark.parametrize("name", SEARCHES)
def test_a_killed_search_goes_on(name, path, dies, epochs):
    net = BackpropClassifier(**NET)
    make = partial(BackpropSearchCV, net, GRID, cv=2, n_jobs=1, random_state=0, **SEARCHES[name])
    whole, n_epochs = make().fit(X, Y), sum(epochs)
    epochs.clear()
    snapshot = Snapshot(path, every_epochs=4)
    for n in (5, 9, 4):
        dies(n)
        with pytest.raises(Death):
            make(snapshot=snapshot).fit(X, Y)
    dies(None)
    again = make(snapshot=snapshot).fit(X, Y)
    assert sum(epochs) == n_epochs
    for search in (again, make(snapshot=path).fit(X, Y)):
        for column, values in whole.cv_results_.items():
            if "time" not in column:
                assert np.array_equal(values, search.cv_results_[column]) or np.array_equal(
                    values, search.cv_results_[column], equal_nan=True
                )
        assert_same(whole.best_estimator_, search.best_estimator_)
        curves = [c for row in whole.candidate_curves_ for c in row]
        others = [c for row in search.candidate_curves_ for c in row]
        for one, other in zip(curves, others, strict=True):
            assert all(np.array_equal(one[key], other[key]) for key in one)
    assert sum(epochs) == n_epochs
    assert np.array_equal(again.cv_results_["mean_fit_time"], search.cv_results_["mean_fit_time"])


class Now:
    """A timer whose time is over when it starts."""

    def __init__(self, seconds, function):
        self.start, self.cancel, self.daemon = function, lambda: None, True


def test_a_search_that_ran_out_of_time_goes_on(path, monkeypatch):
    make = partial(BackpropSearchCV, BackpropClassifier(**NET), {"alpha": [1e-4, 1.0]}, cv=2)
    monkeypatch.setattr("threading.Timer", Now)
    with pytest.raises(ValueError, match="max_time=10 seconds are over"):
        make(snapshot=path, max_time=10).fit(X, Y)
    assert path.exists()
    again = make(snapshot=path).fit(X, Y)
    assert_same(again.best_estimator_, make().fit(X, Y).best_estimator_)


def test_a_later_life_may_have_another_best_candidate(path, monkeypatch):
    """Whose refit is not that in the file."""
    net = BackpropClassifier(**NET)
    make = partial(BackpropSearchCV, net, {"learning_rate_init": [1e-5, 1e-2]}, cv=2, n_jobs=1)
    monkeypatch.setattr(SearchReport, "end_candidate", lambda self, *given, **how: interrupt())

    def interrupt():
        raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="1 of 2 candidates"):
        first = make(snapshot=path).fit(X, Y)
    assert first.best_params_ == {"learning_rate_init": 1e-5}
    monkeypatch.undo()
    again = make(snapshot=path).fit(X, Y)
    assert again.best_params_ == {"learning_rate_init": 1e-2}
    assert_same(again.best_estimator_, make().fit(X, Y).best_estimator_)
    BackpropClassifier(**NET).fit(X, Y, snapshot=path.parent / "one")
    with pytest.raises(ValueError, match="other settings"):  # of a fit alone it is refused
        BackpropClassifier(**NET, alpha=9.0).fit(X, Y, snapshot=path.parent / "one")


def test_a_refit_by_several_fits_has_no_snapshot(path):
    class Twice(TabularClassifier):
        def fit(self, X, y):
            super().fit(X[::2], y[::2])
            return super().fit(X, y)

    net = Twice(n_networks=1, n_members=2, max_iter=2, random_state=0)
    search = BackpropSearchCV(net, {"dropout": [0.0]}, cv=2, snapshot=path).fit(X, Y)
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    assert search.predict(X).shape == Y.shape


def test_an_error_at_the_end_leaves_the_last_copy(path, monkeypatch):
    monkeypatch.setattr(keeping, "MOST_OF_COPIES", np.inf)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="Maximum iterations"):
            BackpropClassifier(**NET).fit(X, Y, snapshot=Snapshot(path, every=1e9))
    assert path.exists()
    again = BackpropClassifier(**NET).fit(X, Y, snapshot=path)
    assert_same(again, BackpropClassifier(**NET).fit(X, Y))


def test_a_fit_that_failed_is_tried_again(path, monkeypatch):
    make = partial(
        BackpropSearchCV, BackpropClassifier(**NET), {"alpha": [1e-4, 1.0]}, cv=2, refit=False
    )
    whole, search = make().fit(X, Y), make(snapshot=path)
    plain, finished = OpenFit.finish, []

    def finish(self):
        finished.append(self)
        if len(finished) == 1:
            raise MemoryError
        plain(self)

    monkeypatch.setattr(OpenFit, "finish", finish)
    with pytest.warns((FitFailedWarning, UserWarning)):
        search.fit(X, Y)
    assert np.isnan(search.cv_results_["mean_test_score"]).sum() == 1
    search.fit(X, Y)
    assert len(finished) == 4 + 1
    name = "mean_test_score"
    np.testing.assert_array_equal(search.cv_results_[name], whole.cv_results_[name])


def test_a_score_that_failed_is_tried_again(path):
    needed = path.with_name("what the scorer needs")

    def score(net, X, y):
        return float(net.score(X, y)) if needed.exists() else 1 / 0

    net = BackpropClassifier(**NET)
    how = dict(cv=2, refit=False, snapshot=path, scoring=score)
    search = BackpropSearchCV(net, {"alpha": [1e-4, 1.0]}, **how)
    with pytest.warns(UserWarning, match=r"Scoring failed|non-finite"):
        search.fit(X, Y)
    assert np.isnan(search.cv_results_["mean_test_score"]).all()
    needed.touch()
    assert not np.isnan(search.fit(X, Y).cv_results_["mean_test_score"]).any()


def test_what_is_kept_does_not_change_while_others_write_it():
    kept = Kept(scores={0.25: {}}, curves={"loss": [1.0]})
    fit = CandidateFit(None, {}, None, 1.0)
    fit.take_up(kept)
    fit.scores[0.5], fit.curves["loss"] = {}, []
    assert kept == Kept(scores={0.25: {}}, curves={"loss": [1.0]})


def test_another_search_is_refused(path):
    net = BackpropClassifier(**NET)
    BackpropSearchCV(net, {"alpha": [1.0]}, cv=2, snapshot=path).fit(X, Y)
    for params, settings, data, name in [
        ({"alpha": [2.0]}, {}, (X, Y), "settings: candidates"),
        ({"alpha": [1.0]}, {"scoring": "f1_macro"}, (X, Y), "settings: scoring"),
        ({"alpha": [1.0]}, {}, (X + 1, Y), "data: X"),
        ({"alpha": [1.0]}, {"cv": 3}, (X, Y), "data: splits of cv"),
    ]:
        settings = {"cv": 2} | settings
        with pytest.raises(ValueError, match=f"of a search with other {name}"):
            BackpropSearchCV(net, params, snapshot=path, **settings).fit(*data)


def test_searches_whose_fits_would_share_a_file_are_refused(path):
    net, params = BackpropClassifier(**NET), {"alpha": [1.0]}
    with pytest.raises(ValueError, match="cannot share one snapshot"):
        BackpropSearchCV(net, params).fit(X, Y, snapshot=path)
    watched = BackpropClassifier(**NET).set_callbacks(Snapshot(path))
    with pytest.raises(ValueError, match="cannot share one snapshot"):
        BackpropSearchCV(watched, params).fit(X, Y)
    with pytest.raises(ValueError, match="int as random_state"):
        BackpropSearchCV(net, params, strategy="random", snapshot=path).fit(X, Y)
    assert not path.exists()


@pytest.mark.parametrize("kind", ["tabular", "own fit", "callbacks"])
def test_a_search_of_whole_fits_goes_on(kind, path, dies, monkeypatch):
    """Those that are finished are not fitted again; the others begin anew."""

    class Own(BackpropClassifier):
        def fit(self, X, y, snapshot=None):
            return super().fit(X, y, snapshot=snapshot)

    net, fits = BackpropClassifier(**NET), []
    if kind == "tabular":
        net = TabularClassifier(max_iter=2, n_networks=2, n_members=2, random_state=0)
    if kind == "own fit":
        net = Own(**NET)
    plain = fastbp.search.fits._fit_and_score

    def fit_and_score(*args, **how):
        fits.append(how)
        return plain(*args, **how)

    if kind == "callbacks":
        net.set_callbacks(Listener())
    params = {"learning_rate_init": [1e-3, 1e-2, 0.1]}
    make = partial(BackpropSearchCV, net, params, cv=2, return_train_score=True)
    whole = make().fit(X, Y)
    monkeypatch.setattr("fastbp.search.fits._fit_and_score", fit_and_score)
    snapshot = Snapshot(path, every_epochs=1)
    dies(3)
    with pytest.raises(Death):
        make(snapshot=snapshot).fit(X, Y)
    dies(None)
    assert len(fits) == 3
    again = make(snapshot=snapshot).fit(X, Y)
    assert len(fits) == 6
    for column, values in whole.cv_results_.items():
        if "time" not in column:
            assert np.array_equal(values, again.cv_results_[column])
    assert np.array_equal(whole.predict_proba(X), again.predict_proba(X))
    curves = [search.candidate_curves_[2][1]["loss"] for search in (whole, again)]
    assert all(c is None for c in curves) if kind == "tabular" else np.array_equal(*curves)
