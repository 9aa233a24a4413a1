"""A fit in parts: pauses change nothing, for any schedule, and cost no epoch."""

import threading
import warnings

import numpy as np
import pytest
from problems import draw_classes, draw_regression

from fastbp import BackpropClassifier, BackpropRegressor
from fastbp.data.row_source import SharedRows
from fastbp.estimators.fitting import OpenFit

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

SETTINGS = {
    "constant": {},
    "cosine": dict(learning_rate="cosine"),
    "one_cycle": dict(learning_rate="one_cycle", solver="adamw"),
    "plateau": dict(learning_rate="plateau", tol=0.05, n_iter_no_change=2),
    "adaptive": dict(learning_rate="adaptive", solver="sgd", tol=0.05, n_iter_no_change=2),
    "invscaling": dict(learning_rate="invscaling", solver="sgd"),
    "early_stopping": dict(early_stopping=True, n_iter_no_change=3),
    "dropout": dict(dropout=0.3),
    "ema": dict(ema_decay=0.9, learning_rate="linear"),
    "no_shuffle": dict(shuffle=False, max_grad_norm=0.5),
    "stops": dict(tol=10.0, n_iter_no_change=4),
}


def fit_in_parts(estimator, X, y, pauses):
    """Fit with pauses after these epochs, looking at each; return whether it went to the end."""
    fit = OpenFit(estimator, X, y)
    for epoch in pauses:
        if fit.advance(epoch):
            break
        assert fit.look().n_iter_ == epoch
        assert fit.progress.n_iter == epoch
    else:
        assert fit.advance()
    fit.finish()
    return estimator


def assert_same(a, b):
    """Same weights, curves and counts, bit for bit."""
    for name in ("coefs_", "intercepts_"):
        for one, other in zip(getattr(a, name), getattr(b, name), strict=True):
            assert np.array_equal(one, other)
    for name in ("n_iter_", "t_", "loss_", "loss_curve_", "best_loss_", "validation_scores_",
                 "best_iter_", "best_validation_score_"):  # fmt: skip
        assert getattr(a, name) == getattr(b, name)


@pytest.mark.parametrize("pauses", [[1, 2, 9], [5]], ids=str)
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_pauses_change_no_bit(settings, pauses, engine_name):
    X, y = draw_classes(120, 6, 3)
    how = dict(hidden_layer_sizes=(7,), max_iter=13, batch_size=32, random_state=0)
    whole = BackpropClassifier(**how, engine=engine_name, **settings)
    parts = fit_in_parts(BackpropClassifier(**whole.get_params()), X, y, pauses)
    assert_same(whole.fit(X, y), parts)


def test_a_look_is_the_fit_that_ends_there():
    """But for schedules that count `max_iter`, a pause after n epochs is a fit of n epochs."""
    X, y = draw_regression(80, 4)
    how = dict(hidden_layer_sizes=(5,), scale_targets=True, random_state=0)
    fit = OpenFit(BackpropRegressor(max_iter=20, **how), X, y)
    assert not fit.advance(7)
    seen, short = fit.look(), BackpropRegressor(max_iter=7, **how).fit(X, y)
    fit.advance()
    assert np.array_equal(seen.predict(X), short.predict(X))
    fit.finish()


def test_an_open_fit_may_be_given_up():
    X, y = draw_classes(60, 4, 2)
    stream = np.random.RandomState(3)
    fit = OpenFit(BackpropClassifier((4,), random_state=stream), X, y)
    fit.advance(2)
    fit.close()
    del fit
    assert stream.randint(1000) == np.random.RandomState(3).randint(1000)


def test_lbfgs_makes_no_pause():
    X, y = draw_classes(60, 4, 2)
    fit = OpenFit(BackpropClassifier((4,), solver="lbfgs", max_iter=5, random_state=0), X, y)
    assert fit.advance(1)
    fit.finish()
    assert fit.estimator.n_iter_ == 5


def test_time_does_not_run_in_a_pause():
    X, y = draw_classes(60, 4, 2)
    fit = OpenFit(BackpropClassifier((4,), max_iter=9, max_time=1e4, random_state=0), X, y)
    fit.advance(2)
    fit.training.paused_at -= 1e6  # as if the pause had taken so long
    fit.problem.deadline -= 1e6
    assert fit.advance()
    fit.finish()
    assert fit.estimator.n_iter_ == 9


def test_others_may_ask_to_stop():
    """Another thread's event ends training after the epoch in hand, without a word of max_time."""
    X, y = draw_classes(60, 4, 2)
    for solver in ("adam", "lbfgs"):
        stops = solver == "adam"  # and so is looked at after each epoch
        clf = BackpropClassifier((4,), solver=solver, random_state=0, early_stopping=stops)
        clf._asked_to_stop = threading.Event()
        clf._asked_to_stop.set()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert clf.fit(X, y).n_iter_ == 1


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_rows_of_a_shared_array_are_a_copy_of_them(settings, engine_name):
    """Bit for bit, with weights of samples and classes, and rows in any order."""
    X, y = draw_classes(150, 6, 3)
    rows = np.random.default_rng(1).permutation(150)[:110]
    weight = np.random.default_rng(2).random(150)
    how = dict(hidden_layer_sizes=(7,), max_iter=9, batch_size=32, random_state=0)
    how |= dict(class_weight={0: 1, 1: 2, 2: 3}, engine=engine_name)
    whole = BackpropClassifier(**how, **settings).fit(X[rows], y[rows], weight[rows])
    shared = SharedRows(X.astype(np.float32), X.dtype, rows=rows)
    by_index = BackpropClassifier(**how, **settings).fit(shared, y[rows], weight[rows])
    assert_same(whole, by_index)
    assert by_index.predict_proba(X).dtype == np.float64


def test_divergence_on_shared_rows_names_the_column():
    X, y = draw_regression(60, 4)
    X[:, 2] *= 1e6
    shared = SharedRows(X.astype(np.float32), X.dtype, rows=np.arange(50))
    net = BackpropRegressor(hidden_layer_sizes=(5,), solver="sgd", random_state=0)
    with pytest.raises(ValueError, match="column 2 of X is unscaled"):
        net.fit(shared, y[:50])


@pytest.mark.parametrize("verbose", [1, 2])
def test_pauses_are_not_to_be_seen(verbose, capsys, monkeypatch):
    monkeypatch.setattr("fastbp.training.reports.Report._describe", lambda self, s: self.latest[0])
    X, y = draw_classes(60, 4, 2)
    net = BackpropClassifier((4,), max_iter=7, verbose=verbose, random_state=0)
    net.fit(X, y)
    whole = capsys.readouterr().out
    fit_in_parts(net, X, y, [3, 4])
    assert capsys.readouterr().out == whole
