"""Pruning for Optuna: what is reported when, what is raised, what is refused."""

import threading

import numpy as np
import pytest
from problems import draw_classes, draw_regression
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastbp import BackpropClassifier, BackpropRegressor, TabularClassifier

optuna = pytest.importorskip("optuna")
optuna.logging.set_verbosity(optuna.logging.ERROR)

from fastbp.optuna import PruningCallback  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = draw_classes(90, 5, 3)
NET = BackpropClassifier((6,), max_iter=5, early_stopping=True, n_iter_no_change=99, random_state=0)


class Strict(optuna.pruners.BasePruner):
    """Prunes a trial at one step."""

    def __init__(self, step):
        self.step = step

    def prune(self, study, trial):
        return trial.last_step == self.step


def study_of(objective, pruner=None, n_trials=1, direction="maximize"):
    study = optuna.create_study(
        direction=direction, pruner=pruner or optuna.pruners.NopPruner(),
        sampler=optuna.samplers.RandomSampler(seed=0),
    )  # fmt: skip
    study.optimize(objective, n_trials=n_trials)
    return study


def test_epochs_are_numbered_over_folds():
    def objective(trial):
        steps = make_pipeline(StandardScaler(), clone(NET).set_callbacks(PruningCallback(trial)))
        return cross_val_score(steps, X, Y, cv=3, error_score="raise").mean()

    (trial,) = study_of(objective).trials
    assert trial.state == optuna.trial.TrialState.COMPLETE
    assert trial.value == cross_val_score(make_pipeline(StandardScaler(), NET), X, Y, cv=3).mean()
    assert list(trial.intermediate_values) == list(range(15))


def test_a_fold_that_stops_early_leaves_its_steps_out():
    def objective(trial):
        net = clone(NET).set_params(n_iter_no_change=1, tol=9.0)
        net.set_callbacks(PruningCallback(trial))
        return cross_val_score(net, X, Y, cv=2, error_score="raise").mean()

    steps = list(study_of(objective).trials[0].intermediate_values)
    assert {step // 5 for step in steps} == {0, 1}
    assert len(steps) < 10
    assert 5 in steps


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_reports_are_the_validation_scores(solver):
    x, y = draw_regression(80, 4)
    net = BackpropRegressor(hidden_layer_sizes=(4,), max_iter=4, solver=solver, random_state=0)

    def objective(trial):
        fitted.append(clone(net).set_callbacks(PruningCallback(trial)))
        return fitted[0].fit(x, y, X_val=x[:20], y_val=y[:20]).score(x, y)

    fitted = []
    (trial,) = study_of(objective).trials
    assert list(trial.intermediate_values.values()) == fitted[0].validation_scores_
    assert list(trial.intermediate_values) == [0, 1, 2, 3]


def test_a_pruned_trial_ends_in_the_epoch():
    def objective(trial):
        callback.append(PruningCallback(trial))
        net = clone(NET).set_callbacks(callback[-1])
        return cross_val_score(net, X, Y, cv=3, error_score="raise").mean()

    callback = []
    (trial,) = study_of(objective, Strict(7)).trials
    assert trial.state == optuna.trial.TrialState.PRUNED
    assert list(trial.intermediate_values) == list(range(8))
    assert callback[0].n_fits == 2
    assert trial.value == trial.intermediate_values[7]


def test_a_network_that_was_pruned_is_as_it_was():
    study = optuna.create_study(direction="maximize", pruner=Strict(2))
    net = clone(NET).fit(X, Y)
    before = [w.copy() for w in net.coefs_]
    net.set_callbacks(PruningCallback(study.ask()))
    with pytest.raises(optuna.TrialPruned, match="epoch 3 of fit 1"):
        net.fit(X, Y)
    assert all(map(np.array_equal, before, net.coefs_))


def test_hopeless_trials_are_pruned():
    """As a user would: scikit-learn's metrics, Optuna's pruner."""

    def objective(trial):
        rate = [1e-2, 1e-2, 1e-7][trial.number]
        net = clone(NET).set_params(learning_rate_init=rate).set_callbacks(PruningCallback(trial))
        return cross_val_score(net, X, Y, cv=2, error_score="raise").mean()

    states = [t.state.name for t in study_of(
        objective, optuna.pruners.MedianPruner(n_startup_trials=2, n_warmup_steps=2), n_trials=3
    ).trials]  # fmt: skip
    assert states == ["COMPLETE", "COMPLETE", "PRUNED"]


def test_refusals():
    with pytest.raises(ValueError, match="direction minimize"):
        PruningCallback(optuna.create_study().ask())
    with pytest.raises(ValueError, match="maximize, maximize"):
        PruningCallback(optuna.create_study(directions=["maximize"] * 2).ask())
    trial = optuna.create_study(direction="maximize").ask()
    net = clone(NET).set_params(early_stopping=False).set_callbacks(PruningCallback(trial))
    with pytest.raises(ValueError, match="Set early_stopping=True"):
        net.fit(X, Y)
    with pytest.raises(TypeError, match="trial must be a trial of Optuna's"):
        PruningCallback(None)


def test_trials_outside_of_a_study_prune_nothing():
    study = study_of(lambda trial: trial.suggest_float("rate", 1e-3, 1e-2), direction="maximize")
    for trial in (study.best_trial, optuna.trial.FixedTrial({"rate": 1e-3})):
        assert clone(NET).set_callbacks(PruningCallback(trial)).fit(X, Y).n_iter_ == NET.max_iter


def test_reports_of_another_process_are_refused(monkeypatch):
    net = clone(NET).set_callbacks(PruningCallback(optuna.create_study(direction="maximize").ask()))
    monkeypatch.setattr("os.getpid", lambda: -1)
    with pytest.raises(RuntimeError, match="in another process"):
        net.fit(X, Y)


def test_fits_at_the_same_time_are_refused():
    begun, go_on = threading.Event(), threading.Event()

    class Waiting(PruningCallback):
        def on_fit_task_begin(self, estimator, context):
            begun.set()
            assert go_on.wait(20)

    callback = Waiting(optuna.create_study(direction="maximize").ask())
    nets = [clone(NET).set_callbacks(callback) for _ in range(2)]
    thread = threading.Thread(target=nets[0].fit, args=(X, Y))
    thread.start()
    assert begun.wait(20)
    with pytest.raises(RuntimeError, match="one trial at the same time"):
        nets[1].fit(X, Y)
    go_on.set()
    thread.join()
    nets[1].fit(X, Y)
    assert callback.n_fits == 2


def test_estimators_without_epochs_are_refused():
    trial = optuna.create_study(direction="maximize").ask()
    with pytest.raises(TypeError, match="TabularClassifier has none to report"):
        TabularClassifier(max_iter=1).set_callbacks(PruningCallback(trial)).fit(X, Y)
