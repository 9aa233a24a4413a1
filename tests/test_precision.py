"""`matmul_precision`: what is asked of the engine and when, and what is kept of what it used.

Whatever way of making products less precise this machine has, or none.  Who wants to see the
question and not the arithmetic has an engine that says it does as it is asked (`obedient`).
"""

import pickle
import warnings
from copy import copy
from types import SimpleNamespace

import numpy as np
import pytest
from problems import draw_classes
from scipy import sparse
from sklearn.base import clone
from sklearn.pipeline import Pipeline

import fastbp
from fastbp import (
    BackpropClassifier,
    BackpropRegressor,
    BackpropSearchCV,
    TabularClassifier,
    TabularRegressor,
)
from fastbp.data.problem import Problem
from fastbp.engine import get_engine
from fastbp.engine.precision import PATHS, PRECISIONS, PREDICTION_ROWS, least_precise
from fastbp.streams import from_arrays
from fastbp.tabular import base as tabular_base
from fastbp.training.progress import Progress
from fastbp.training.state import from_bytes, to_bytes

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = draw_classes(160, 6, 3)
X = X.astype(np.float32)
FAR = X.copy()
FAR[:, 1], FAR[:, 4] = 2009 + 4 * X[:, 1], -50 + 0.1 * X[:, 4]
FAR[:, [1, 4]] += [2009, -50] - FAR[:, [1, 4]].mean(axis=0)
NET = dict(hidden_layer_sizes=(24, 16), max_iter=3, batch_size=64, random_state=0)
TINY = dict(n_networks=1, n_members=2, hidden_layer_sizes=(6,), max_iter=2, random_state=0)


def find_paths():
    """Names of the ways of making products that run here."""
    engine = get_engine()
    before, found = engine.get_matmul_path(), []
    for name in PATHS:
        try:
            engine.set_matmul_path(name)
        except ValueError:
            continue
        found.append(name)
    engine.set_matmul_path(before)
    return found


@pytest.fixture(params=find_paths())
def path(request):
    """Each way of making products that runs here, forced."""
    engine = get_engine()
    before = engine.get_matmul_path()
    engine.set_matmul_path(request.param)
    yield request.param
    engine.set_matmul_path(before)


@pytest.fixture
def obedient(monkeypatch):
    """Let the engine say that it uses what it is asked for; lists what sessions and verbs were."""
    engine, asked = get_engine(), SimpleNamespace(sessions=[], predictions=[])

    class Session(engine.Session):
        def __init__(self, *arguments, matmul_precision, **more):
            super().__init__(*arguments, **more)
            self.asked = matmul_precision
            asked.sessions.append(matmul_precision)

        matmul_precision = property(lambda self: self.asked)

    def recorded(verb, place):
        def predict(*arguments):
            asked.predictions.extend(arguments[place:] or ["highest"])
            return verb(*arguments)

        return predict

    monkeypatch.setattr(engine, "Session", Session)
    for name, place in (("predict_into", 6), ("predict_members_into", 10)):
        monkeypatch.setattr(engine, name, recorded(getattr(engine, name), place))
    monkeypatch.setattr(engine, "precision_of_inputs", lambda sizes, n_rows, precision: precision)
    return asked


@pytest.fixture(scope="module")
def fitted():
    """A classifier and a regressor in "medium", as this machine has it, not to be changed."""
    classifier = BackpropClassifier(**NET, matmul_precision="medium").fit(X, Y)
    return classifier, BackpropRegressor(**NET, matmul_precision="medium").fit(X, X[:, 0])


def warned(fit, *arguments, **more):
    """Call; return the warnings that are about precision."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(*arguments, **more)
    return [one for one in caught if "matmul_precision" in str(one.message)]


def assert_same_weights(one, other):
    for name in ("coefs_", "intercepts_"):
        for a, b in zip(getattr(one, name), getattr(other, name), strict=True):
            np.testing.assert_array_equal(a, b)


# --- the parameter --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", [BackpropClassifier, BackpropRegressor, TabularClassifier, TabularRegressor]
)
def test_other_words_are_refused_and_understood(kind):
    for word, meant in [
        ("bf16", "medium"), ("bfloat16", "medium"), ("low", "medium"), (True, "medium"),
        (16, "medium"), (np.float16, "medium"), ("bf16x3", "high"), ("tf32", "high"),
        ("hihg", "high"), ("HIGH", "high"), ("float32", "highest"), ("default", "highest"),
        (np.float32, "highest"), (False, "highest"), (32, "highest"),
    ]:  # fmt: skip
        message = rf"'matmul_precision' parameter of {kind.__name__} .* Did you mean '{meant}'\?"
        with pytest.raises(ValueError, match=message):
            kind(matmul_precision=word).fit(X, X[:, 0] > 0)
    with pytest.raises(ValueError, match="matmul_precision"):
        kind(matmul_precision=3).fit(X, X[:, 0] > 0)
    for word in ("bf16", "allow_tf32", "mixed_precision"):
        with pytest.raises(TypeError, match=r"Did you mean matmul_precision\?"):
            kind(**{word: True})


def test_highest_is_the_default_of_all_estimators():
    for kind in (BackpropClassifier, BackpropRegressor, TabularClassifier, TabularRegressor):
        assert kind().matmul_precision == "highest"


# --- what the engines promise ---------------------------------------------------------------------


def test_engines_refuse_what_is_no_precision_and_no_path(engine):
    layers = [np.ones((4, 2), np.float32)], [np.zeros(2, np.float32)]
    scores = np.empty((5, 2), np.float32)
    with pytest.raises(ValueError, match="matmul_precision must be one of"):
        engine.predict_into(*layers, [], X[:5, :4].copy(), scores, 1, "low")
    before = engine.get_matmul_path()
    assert before in PATHS
    for name in ("mmx", None):
        with pytest.raises(ValueError, match="matmul path"):
            engine.set_matmul_path(name)
    assert engine.get_matmul_path() == before
    engine.set_matmul_path("none")
    assert engine.get_matmul_path() == "none"
    engine.set_matmul_path(before)


def test_a_session_refuses_what_is_no_precision(engine, monkeypatch):
    monkeypatch.setattr("fastbp.data.problem.Problem.matmul_precision", "low")
    with pytest.raises(ValueError, match="matmul_precision must be one of"):
        BackpropClassifier(**NET, engine=engine.NAME).fit(X, Y)


def test_what_a_fit_used_is_never_less_precise_than_what_it_asked_for(path):
    found, models = [], []
    for precision in PRECISIONS:
        net = BackpropClassifier(**NET, matmul_precision=precision).fit(X, Y)
        assert net.matmul_precision_ in PRECISIONS[: PRECISIONS.index(precision) + 1]
        found.append(net.predict_proba(X))
        models.append(net)
    assert models[0].matmul_precision_ == "highest"
    np.testing.assert_allclose(found[1], found[0], atol=1e-3)
    np.testing.assert_allclose(found[2], found[0], atol=0.05)
    if path == "none":
        assert [net.matmul_precision_ for net in models] == 3 * ["highest"]
        assert_same_weights(models[2], models[0])
    again = BackpropClassifier(**NET, matmul_precision="medium", n_threads=2).fit(X, Y)
    assert_same_weights(again, models[2])


@pytest.mark.parametrize("more", [dict(dtype="float64"), dict(solver="lbfgs"), dict(dtype=None)])
def test_float64_and_lbfgs_are_always_highest(path, more):
    data = X.astype(np.float64), Y
    one, other = (
        BackpropClassifier(**NET | more, matmul_precision=name).fit(*data)
        for name in ("medium", "highest")
    )
    assert one.matmul_precision_ == "highest"
    assert_same_weights(one, other)


@pytest.mark.parametrize(
    ("precision", "most"), [("highest", 2.0**-24), ("high", 2.0**-15), ("medium", 2.0**-7)]
)
def test_the_error_of_one_product_is_what_the_guide_says(precision, most):
    """At operands that are the worst: halfway between two bfloat16."""
    engine = get_engine()
    before = engine.get_matmul_path()
    x, w = 1 + np.float32([[2**-8], [2**-8 - 2**-16], [2**-9], [0]]), np.full((1, 16), 1 + 2**-8)
    x = np.tile(np.float32(x), (PREDICTION_ROWS // 4, 1))
    layers = [np.float32(w)], [np.zeros(16, np.float32)]
    scores = np.empty((len(x), 16), np.float32)
    if "emulation" in find_paths():
        engine.set_matmul_path("emulation")
    engine.predict_into(*layers, [], x, scores, 1, precision)
    engine.set_matmul_path(before)
    error = np.abs(scores / (x.astype(float) * w) - 1).max()
    assert error <= most
    assert error > most / 8 or "emulation" not in find_paths()


# --- what is asked for ----------------------------------------------------------------------------


def test_training_asks_for_it_in_float32_alone(obedient):
    net = BackpropClassifier(**NET, matmul_precision="medium").fit(X, Y)
    assert set(obedient.sessions) == {"medium"}
    assert net.matmul_precision_ == "medium"
    assert net.set_params(matmul_precision="high").partial_fit(X, Y).matmul_precision_ == "high"
    assert net.set_params(dtype=None).fit(X, Y).matmul_precision_ == "high"
    del obedient.sessions[:]
    for more in (dict(dtype="float64"), dict(solver="lbfgs")):
        net = BackpropClassifier(**NET | more, matmul_precision="medium").fit(X, Y)
        assert net.matmul_precision_ == "highest"
    assert set(obedient.sessions) == {"highest"}
    assert net.coefs_[0].dtype == np.float32
    net.predict(X)
    assert obedient.predictions[-1] == "highest"  # of 'lbfgs', whose weights are float32


def test_predictions_ask_for_it_from_64_rows_on(obedient, fitted):
    net = clone(fitted[0]).fit(X, Y)
    del obedient.predictions[:]
    for n_rows in (PREDICTION_ROWS, PREDICTION_ROWS - 1, 1):
        net.predict_proba(X[:n_rows])
    assert obedient.predictions == ["medium", "highest", "highest"]
    net.set_params(matmul_precision="high").transform(X)
    assert obedient.predictions[-1] == "high"


@pytest.mark.parametrize("n_rows", [1, PREDICTION_ROWS])
def test_predictions_refuse_what_is_no_precision(fitted, n_rows):
    """Whether it matters for so few rows or not."""
    table = TabularClassifier(**TINY).fit(X, Y)
    for net in (*map(copy, fitted), table):
        net.matmul_precision = "bf16"
        with pytest.raises(ValueError, match="matmul_precision must be one of"):
            net.predict(X[:n_rows])


def test_a_table_asks_by_all_of_its_rows(obedient, monkeypatch):
    """Not by those of a block: the last may have few."""
    monkeypatch.setattr(tabular_base, "ROWS_PER_BLOCK", 50)
    net = TabularClassifier(**TINY, matmul_precision="medium").fit(X, Y)
    assert net.matmul_precision_ == "medium"
    assert {one.matmul_precision_ for one in net.networks_} == {"medium"}
    assert set(obedient.sessions) == {"medium"}
    del obedient.predictions[:]
    net.predict(X[:120])
    net.predict(X[:40])
    assert obedient.predictions == ["medium", "medium", "medium", "highest"]


def test_least_precise():
    assert least_precise(["high", "medium", "highest"]) == "medium"
    assert least_precise(iter(["highest", "high"])) == "high"


def test_inspection_is_in_float64_and_the_finder_trains_as_fit_does(obedient):
    from fastbp import find_learning_rate
    from fastbp.inspection import check_gradients

    net = BackpropClassifier(**NET, matmul_precision="medium").fit(X, Y)
    del obedient.sessions[:]
    check_gradients(net, X[:20], Y[:20])
    assert set(obedient.sessions) == {"highest"}
    del obedient.sessions[:]
    find_learning_rate(net, X, Y)
    assert set(obedient.sessions) == {"medium"}


def test_show_versions_names_the_path(capsys, path):
    fastbp.show_versions()
    assert f"matmul path        {path}" in capsys.readouterr().out


# --- what is kept ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("obedient")
def test_pickles_files_and_copies_have_it(tmp_path):
    net = BackpropClassifier(**NET, matmul_precision="medium").fit(X, Y)
    file = tmp_path / "net.safetensors"
    fastbp.save(net, file)
    for other in (pickle.loads(pickle.dumps(net)), fastbp.load(file)):
        assert (other.matmul_precision, other.matmul_precision_) == ("medium", "medium")
    assert not hasattr(clone(net), "matmul_precision_")
    net.matmul_precision_ = "bf16"
    with pytest.raises(ValueError, match="matmul_precision_ must be a str among"):
        fastbp.save(net, file)


@pytest.mark.parametrize("make", [
    lambda: BackpropRegressor(**NET).fit(X, X[:, 0]),
    lambda: TabularRegressor(**TINY).fit(X, X[:, 0]),
])  # fmt: skip
def test_models_of_before_are_highest(make, tmp_path):
    """Their pickles know no such parameter, and neither these nor files the attribute."""
    net, file = make(), tmp_path / "net.safetensors"
    del net.matmul_precision_
    fastbp.save(net, file)
    assert fastbp.load(file).matmul_precision_ == "highest"
    old = object.__new__(type(net))
    state = net.__getstate__()
    del state["matmul_precision"]
    old.__setstate__(state)
    assert (old.matmul_precision, old.matmul_precision_) == ("highest", "highest")
    np.testing.assert_array_equal(old.predict(X), net.predict(X))


def test_a_network_of_scikit_learn_is_highest():
    from sklearn.neural_network import MLPClassifier

    mlp = MLPClassifier((4,), max_iter=2, random_state=0).fit(X, Y)
    assert BackpropClassifier.from_sklearn(mlp).matmul_precision_ == "highest"


def test_states_have_it_and_old_ones_are_highest():
    state = Progress(np.arange(3.0), matmul_precision="medium")
    content = to_bytes(state)
    assert from_bytes(content).matmul_precision == "medium"
    state.matmul_precision = "low"
    with pytest.raises(ValueError, match="no known precision"):
        from_bytes(to_bytes(state))


@pytest.mark.parametrize("changed", [False, True])
def test_scores_of_another_precision_are_not_the_best_of_this_one(changed):
    net = BackpropClassifier(**NET, warm_start=True).fit(X, Y, X_val=X, y_val=Y)
    seen = net._seen["goal"]
    net.set_params(matmul_precision="medium" if changed else "highest")
    net.fit(X, Y, X_val=X, y_val=Y)
    assert (net._seen["goal"] != seen) == changed
    n_before = 0 if changed else 3
    assert len(net.validation_scores_) == n_before + 3


# --- snapshots ------------------------------------------------------------------------------------


def test_a_snapshot_is_of_one_precision(tmp_path, monkeypatch):
    snapshot, engine = tmp_path / "net.snapshot", get_engine()
    for precision in ("highest", "medium"):
        net = BackpropClassifier(**NET, matmul_precision=precision)
        net.fit(X, Y, snapshot=fastbp.Snapshot(snapshot, fresh=True))
    with pytest.raises(ValueError, match="other settings: matmul_precision"):
        BackpropClassifier(**NET).fit(X, Y, snapshot=snapshot)
    again = clone(net).fit(X, Y, snapshot=snapshot)
    assert again.matmul_precision_ == net.matmul_precision_
    monkeypatch.setattr(engine, "get_matmul_path", lambda: "another")
    with pytest.raises(ValueError, match=r"elsewhere: matmul path .* 'another' here"):
        clone(net).fit(X, Y, snapshot=snapshot)
    goes_on = fastbp.Snapshot(snapshot, other_machine="warn")
    with pytest.warns(UserWarning, match="goes on though matmul path"):
        clone(net).fit(X, Y, snapshot=goes_on)


def test_the_path_is_nothing_to_a_snapshot_in_highest(tmp_path, monkeypatch):
    snapshot = tmp_path / "net.snapshot"
    net = BackpropClassifier(**NET).fit(X, Y, snapshot=snapshot)
    monkeypatch.setattr(get_engine(), "get_matmul_path", lambda: "another")
    assert_same_weights(clone(net).fit(X, Y, snapshot=snapshot), net)


def test_a_search_trains_in_it_and_its_snapshot_knows_the_path(tmp_path, obedient, monkeypatch):
    snapshot, grid = tmp_path / "search.snapshot", {"matmul_precision": ["highest", "medium"]}
    search = BackpropSearchCV(
        BackpropClassifier(**NET), grid, cv=2, refit=False, snapshot=snapshot
    ).fit(X, Y)
    assert set(obedient.sessions) == {"highest", "medium"}
    monkeypatch.setattr(get_engine(), "get_matmul_path", lambda: "another")
    with pytest.raises(ValueError, match="written elsewhere: matmul path"):
        clone(search).fit(X, Y)
    wrong = search.set_params(estimator=BackpropClassifier(**NET, matmul_precision="bf16"))
    wrong.set_params(params={"alpha": [0.0]}, snapshot=tmp_path / "wrong", error_score="raise")
    with pytest.raises(ValueError, match=r"Did you mean 'medium'\?"):
        wrong.fit(X, Y)


def test_a_snapshot_knows_the_path_of_candidates_that_are_estimators(tmp_path, monkeypatch):
    grid = {"net": [BackpropClassifier(**NET, matmul_precision=one) for one in ("highest", "high")]}
    search = BackpropSearchCV(
        Pipeline([("net", BackpropClassifier(**NET))]), grid, cv=2, refit=False,
        snapshot=tmp_path / "search.snapshot",
    ).fit(X, Y)  # fmt: skip
    monkeypatch.setattr(get_engine(), "get_matmul_path", lambda: "another")
    with pytest.raises(ValueError, match="written elsewhere: matmul path"):
        clone(search).fit(X, Y)


# --- columns that bfloat16 would blur -------------------------------------------------------------


@pytest.mark.usefixtures("obedient")
def test_far_columns_are_named_once_at_the_users_line():
    net = BackpropClassifier(**NET, matmul_precision="medium")
    (warning,) = warned(net.fit, FAR, Y)
    assert warning.filename == __file__
    for part in ("columns 1, 2009 +- ", "; 4, -50 +- ", "StandardScaler", "100 times"):
        assert part in str(warning.message)
    first, second = (warned(net.partial_fit, FAR, Y, classes=np.unique(Y)) for _ in range(2))
    assert (len(first), len(second)) == (0, 0)
    net = clone(net)
    first, second = (warned(net.partial_fit, FAR, Y, classes=np.unique(Y)) for _ in range(2))
    assert (len(first), len(second)) == (1, 0)
    (warning,) = warned(clone(net).fit, np.hstack([FAR[:, [1, 4]], FAR]), Y)
    assert "0, 2009" in str(warning.message)
    assert "; and 1 more of X" in str(warning.message)


@pytest.mark.usefixtures("obedient")
def test_far_columns_of_frames_have_names():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(FAR, columns=["a", "year", "b", "c", "d", "e"])
    (warning,) = warned(BackpropRegressor(**NET, matmul_precision="medium").fit, frame, Y)
    assert "columns 1 ('year'), 2009" in str(warning.message)


@pytest.mark.usefixtures("obedient")
def test_far_columns_of_sources_are_seen():
    source = from_arrays(FAR, Y, window=40)
    net = BackpropClassifier(**NET, matmul_precision="medium")
    (warning,) = warned(net.fit, source)
    assert "columns 1, 2009" in str(warning.message)


@pytest.mark.parametrize(("data", "more"), [
    (FAR, dict(matmul_precision="high")), (FAR, {}), (X, dict(matmul_precision="medium")),
    (FAR, dict(matmul_precision="medium", dtype="float64")),
    (FAR, dict(matmul_precision="medium", solver="lbfgs")),
    (sparse.csr_array(FAR), dict(matmul_precision="medium")),
    (np.hstack([X, np.full((160, 1), 7.0, np.float32)]), dict(matmul_precision="medium")),
])  # fmt: skip
@pytest.mark.usefixtures("obedient")
def test_no_warning_where_nothing_is_lost(data, more):
    assert warned(BackpropClassifier(**NET | more).fit, data, Y) == []


def test_far_columns_that_no_rounded_product_sees_are_left_alone(path):
    """On the processor's own path X of 6 columns stays float32; no step of 5 rows is rounded."""
    net = BackpropClassifier(**NET, matmul_precision="medium")
    assert len(warned(net.fit, FAR, Y)) == (path == "emulation")
    wide, large = np.hstack([FAR, X, X]), clone(net).set_params(hidden_layer_sizes=(300, 300))
    assert len(warned(large.fit, wide, Y)) == (path != "none")
    small = clone(net).set_params(hidden_layer_sizes=(9,), batch_size=5, max_iter=1)
    assert len(warned(small.fit, wide, Y)) == (path == "emulation")


@pytest.mark.usefixtures("obedient")
def test_a_warning_that_is_an_error_leaves_the_stream_as_it_was():
    stream = np.random.RandomState(3)
    before = stream.get_state()[1].copy()
    net = BackpropClassifier(**NET | dict(random_state=stream), matmul_precision="medium")
    with pytest.raises(UserWarning, match="keeps 8 bits"):
        net.fit(FAR, Y)
    np.testing.assert_array_equal(stream.get_state()[1], before)
    assert not hasattr(net, "coefs_")


@pytest.mark.usefixtures("obedient")
def test_tables_are_never_blurred():
    assert warned(TabularRegressor(**TINY, matmul_precision="medium").fit, FAR, X[:, 0]) == []


@pytest.mark.usefixtures("obedient")
@pytest.mark.parametrize("precision", ["highest", "high"])
def test_who_does_not_ask_for_medium_pays_nothing(precision, monkeypatch):
    def look(self, rows, n_rows):
        raise AssertionError("it looked at rows")

    net = BackpropClassifier(**NET | dict(tol=10.0, n_iter_no_change=1, max_iter=9),
                             matmul_precision=precision)  # fmt: skip
    monkeypatch.setattr(Problem, "some_rows", look)
    monkeypatch.setattr("fastbp.training.minibatches.warn_of_end", lambda *about, **more: None)
    net.fit(X, Y)
    with pytest.raises(AssertionError, match="it looked"):
        net.set_params(matmul_precision="medium").fit(X, Y)
