"""What is remembered over calls of `fit` and `partial_fit`, and when it is believed no more."""

import pickle
import warnings
from functools import partial

import numpy as np
import pytest
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score, make_scorer

import fastbp
from fastbp import BackpropClassifier, BackpropRegressor
from fastbp.engine import get_engine
from fastbp.losses import Focal, LogLoss
from fastbp.training.meaning import describe

rng = np.random.RandomState(0)
X = rng.randn(300, 2)
y = X[:, 0] > 0
WEIGHT = np.where(np.arange(300) % 2, 1.0, 2.0)
SETTINGS = dict(
    hidden_layer_sizes=(8,), random_state=0, learning_rate_init=0.01, max_iter=8, tol=0.0,
    n_iter_no_change=200, alpha=1e-4,
)  # fmt: skip
WAYS = ["early_stopping", "X_val", "neither"]


def fit(model, *data, **more):
    """Fit and say nothing of convergence."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(*data, **more)


def begin(way="X_val", kind=BackpropClassifier, **params):
    """Return a model to be fitted again, and what a fit gets besides X and y."""
    model = kind(**{**SETTINGS, "warm_start": True, **params})
    model.set_params(early_stopping=way == "early_stopping")
    return model, {"X_val": X, "y_val": y} if way == "X_val" else {}


def n_epochs(model):
    """Length of the curves; all of one model's are equally long."""
    curves = (model.loss_curve_, model.validation_scores_, model.validation_loss_curve_)
    (length,) = {len(curve) for curve in curves if curve is not None}
    return length


# --- fit ------------------------------------------------------------------------------------------


def test_a_fit_to_other_labels_learns_them():
    """The issue's own example: the best score of the old labels is none of the new ones."""
    model = BackpropClassifier(
        (8,), warm_start=True, random_state=0, learning_rate_init=0.01, n_iter_no_change=200
    )
    fit(model, X, y, X_val=X, y_val=y)
    fit(model, X, ~y, X_val=X, y_val=~y)
    assert model.score(X, ~y) > 0.95
    assert model.best_validation_score_ == model.score(X, ~y)
    assert n_epochs(model) == model.n_iter_


@pytest.mark.parametrize("warm_start", [True, "resume"])
def test_a_model_that_is_retrained_every_month_follows_the_drift(warm_start):
    model = BackpropClassifier(
        (16,), warm_start=warm_start, early_stopping=True, random_state=0, learning_rate_init=0.01
    )
    for month in range(8):
        turn = np.random.RandomState(month).randn(600, 2)
        angle = month * np.pi / 8
        target = turn @ [np.cos(angle), np.sin(angle)] > 0
        fit(model, turn, target)
        assert model.score(turn, target) > 0.9, month
        assert model.best_validation_score_ > 0.85


CHANGES = {
    "one label": lambda d: {**d, "y": np.r_[~d["y"][:1], d["y"][1:]]},
    "one value of X": lambda d: {**d, "X": d["X"] + np.eye(300, 2)},
    "another order": lambda d: {**d, "X": d["X"][::-1], "y": d["y"][::-1]},
    "opposite signs": lambda d: {**d, "X": -d["X"]},
    "sample_weight": lambda d: {**d, "sample_weight": WEIGHT},
}
SETTINGS_THAT_MATTER = {
    "loss": {"loss": "focal"},
    "its settings": {"loss": LogLoss(label_smoothing=0.2)},
    "alpha": {"alpha": 0.5},
    "dropout": {"dropout": 0.2},
    "class_weight": {"class_weight": {False: 1, True: 3}},
    "scoring": {"scoring": "loss"},
    "a scorer": {"scoring": lambda model, X, y: model.score(X, y)},
    "activation": {"activation": "tanh"},
    "rows of a step, which share the penalty": {"batch_size": 50},
    "all rows in a step": {"solver": "lbfgs"},
}
OTHERS = {
    "solver": {"solver": "sgd"},
    "rate": {"learning_rate_init": 0.02},
    "batch_size beyond the data": {"batch_size": 10**6},
    "max_iter": {"max_iter": 9},
    "n_threads": {"n_threads": 1},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("change", CHANGES)
def test_other_data_begin_anew(change, way):
    model, more = begin(way)
    fit(model, X, y, **more)
    data = CHANGES[change]({"X": X, "y": y})
    fit(model, **data, **more)
    assert n_epochs(model) == model.n_iter_
    if way == "neither":
        assert model.best_loss_ == min(model.loss_curve_)
    else:
        assert model.best_validation_score_ == max(model.validation_scores_)
        assert model.best_iter_ <= model.n_iter_


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("change", SETTINGS_THAT_MATTER)
def test_another_objective_or_scoring_begins_anew(change, way):
    settings = SETTINGS_THAT_MATTER[change]
    if way == "early_stopping" and settings.get("solver") == "lbfgs":
        way = "X_val"
    model, more = begin(way)
    fit(model, X, y, **more)
    fit(model.set_params(**settings), X, y, **more)
    if "solver" not in settings:
        assert n_epochs(model) == model.n_iter_
    elif way == "X_val":
        assert len(model.validation_scores_) == model.n_iter_


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("change", OTHERS)
def test_what_does_not_touch_the_objective_goes_on(change, way):
    model, more = begin(way, batch_size=300)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Got `batch_size`", UserWarning)
        fit(model, X, y, **more)
        fit(model.set_params(**OTHERS[change]), X, y, **more)
    assert n_epochs(model) == 8 + model.n_iter_


@pytest.mark.parametrize("way", WAYS)
def test_without_a_penalty_the_rows_of_a_step_do_not_matter(way):
    model, more = begin(way, alpha=0.0)
    fit(model, X, y, **more)
    fit(model.set_params(batch_size=50), X, y, **more)
    assert n_epochs(model) == 16


def test_a_penalty_for_fewer_rows_is_another_loss():
    """The issue's example: the best loss of the large steps would end the fit after 5 epochs."""
    model = BackpropClassifier(
        (8,), alpha=20.0, batch_size=300, warm_start=True, learning_rate_init=0.01, max_iter=100,
        random_state=0,
    )  # fmt: skip
    fit(fit(model, X, y).set_params(batch_size=10), X, y)
    assert model.best_loss_ == min(model.loss_curve_)
    assert len(model.loss_curve_) == model.n_iter_ > 5


@pytest.mark.parametrize("way", WAYS)
def test_unchanged_data_in_another_form_go_on(way):
    """By way of a pickle and a file, with copies, as lists, and as float64 of the same values."""
    model, more = begin(way)
    fit(model, X.astype(np.float32), y, **more)
    model = pickle.loads(pickle.dumps(model))
    fit(model, X.astype(np.float32).astype(np.float64).tolist(), y.tolist(), **more)
    assert n_epochs(model) == 16


def test_a_saved_model_goes_on(tmp_path):
    model, more = begin()
    fastbp.save(fit(model, X, y, **more), tmp_path / "model")
    assert n_epochs(fit(fastbp.load(tmp_path / "model"), X, y, **more)) == 16


def test_sparse_data():
    model, _ = begin("early_stopping")
    rows = sparse.csr_array(X * (abs(X) > 0.5))
    fit(fit(model, rows, y), rows, y)
    assert n_epochs(model) == 16
    changed = rows.copy()
    changed.data[3] += 1
    assert n_epochs(fit(model, changed, y)) == 8


@pytest.mark.parametrize("warm_start", [True, "resume"])
def test_edited_weights_are_where_training_goes_on(warm_start):
    """The best and the last weights of before belong to another network."""
    model, more = begin(warm_start=warm_start, scoring="loss")
    fit(model, X, y, **more)
    for weights in model.coefs_:
        weights[:] = 0
    fit(model.set_params(max_iter=1, learning_rate_init=1e-9, shuffle=False), X, y, **more)
    assert all(abs(weights).max() < 1e-6 for weights in model.coefs_)
    assert model.best_validation_score_ == model.validation_scores_[-1]


def test_edited_weights_are_not_drowned_by_those_behind_an_average():
    model = BackpropClassifier(**{**SETTINGS, "ema_decay": 0.9, "learning_rate_init": 1e-9})
    model.partial_fit(X, y, classes=[False, True])
    kept = model.coefs_[0].copy()
    np.testing.assert_allclose(model.partial_fit(X, y).coefs_[0], kept, atol=1e-5)
    for weights in model.coefs_:
        weights[:] = 0.25
    model.partial_fit(X, y).partial_fit(X, y)
    assert all(abs(weights - 0.25).max() < 1e-6 for weights in model.coefs_)


def test_held_out_rows_are_drawn_anew_for_other_data():
    seen = []

    def score(model, X, y):
        seen.append(X.copy())
        return model.score(X, y)

    model, _ = begin("early_stopping", warm_start="resume", scoring=score, max_iter=1)
    fit(fit(model, X, y), X, y)
    np.testing.assert_array_equal(seen[0], seen[1])
    fit(model, X, ~y)
    assert seen[2].shape == seen[0].shape
    assert not np.array_equal(seen[1], seen[2])


def test_curves_go_on_in_resume_but_the_best_does_not():
    model, more = begin(warm_start="resume")
    fit(model, X, y, **more)
    fit(model, X, ~y, X_val=X, y_val=~y)
    assert n_epochs(model) == 16
    assert model.best_iter_ > 8
    assert model.best_validation_score_ == max(model.validation_scores_[8:])


@pytest.mark.parametrize("warm_start", [True, "resume"])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_without_validation_data_nothing_is_said_of_old_ones(solver, warm_start):
    if solver == "lbfgs" and warm_start == "resume":
        warm_start = True
    model, more = begin(warm_start=warm_start, solver=solver)
    fit(model, X, y, **more)
    fit(model, X, y)
    for name in ("validation_scores_", "validation_loss_curve_", "best_iter_"):
        assert getattr(model, name, None) is None
    assert getattr(model, "best_validation_score_", None) is None


def test_a_plain_fit_leaves_no_fingerprint():
    model, more = begin(warm_start=False)
    fit(model, X, y, **more)
    assert "_seen" not in vars(model)
    fit(model.set_params(warm_start=True), X, y, **more)
    assert n_epochs(model) == 8  # what was fitted without one counts as different
    assert all(type(found) is bytes for found in model._seen.values())


def test_units_of_y_matter():
    target = 1000 * X[:, 0]
    model, _ = begin("early_stopping", BackpropRegressor, scale_targets=True)
    fit(fit(model, X, target), X, target)
    assert n_epochs(model) == 16
    fit(model, X, 2 * target)
    assert n_epochs(model) == 8


# --- partial_fit ----------------------------------------------------------------------------------


def test_partial_fit_goes_on_as_long_as_the_validation_data_are_the_same():
    model = BackpropClassifier(**SETTINGS)
    for part in (slice(0, 100), slice(100, 200), slice(200, 300)):
        model.partial_fit(X[part], y[part], classes=[False, True], X_val=X, y_val=y)
    assert len(model.loss_curve_) == len(model.validation_scores_) == 3
    model.partial_fit(X, y, X_val=X, y_val=~y)
    assert len(model.loss_curve_) == 4
    assert model.validation_scores_ == [model.best_validation_score_]
    assert model.best_iter_ == 1
    model.partial_fit(X, y)
    assert len(model.loss_curve_) == 5
    assert model.validation_scores_ is None
    assert model.best_validation_score_ is None


@pytest.mark.parametrize("change", [{"alpha": 1.0}, {"scoring": "loss"}, {"loss": Focal(1.0)}])
def test_partial_fit_with_another_objective(change):
    model = BackpropClassifier(**SETTINGS)
    data = dict(X=X, y=y, classes=[False, True], X_val=X, y_val=y)
    model.partial_fit(**data).partial_fit(**data)
    model.set_params(**change).partial_fit(**data)
    assert len(model.validation_scores_) == 1


def test_partial_fit_goes_on_with_the_best_loss_while_the_objective_is_the_same():
    """Whatever the parts, as in scikit-learn's."""
    model = BackpropRegressor(hidden_layer_sizes=(8,), random_state=0)
    for part in (slice(0, 100), slice(100, 200), slice(200, 300)):
        model.partial_fit(X[part] * 1e-3, 0 * X[part, 0])
    lowest = model.best_loss_
    assert lowest == min(model.loss_curve_)
    model.partial_fit(X, 100 * X[:, 0])
    assert model.best_loss_ == lowest
    assert model._no_improvement_count > 0


@pytest.mark.parametrize(
    "change",
    [{"loss": "absolute_error"}, {"alpha": 1.0}, {"batch_size": 10}, {"dropout": 0.1}],
    ids=str,
)
def test_partial_fit_with_another_objective_has_a_new_best_loss(change):
    model = BackpropRegressor("huber", (8,), random_state=0)
    model.partial_fit(X, X[:, 0]).partial_fit(X, X[:, 0])
    model.set_params(**change).partial_fit(X, 100 * X[:, 0])
    assert model.best_loss_ == model.loss_ == model.loss_curve_[-1]
    assert model._no_improvement_count == 0
    assert len(model.loss_curve_) == 3  # the curve goes on


def test_partial_fit_with_other_class_weights_has_a_new_best_loss():
    model = BackpropClassifier((8,), random_state=0, class_weight={False: 1e-3, True: 1e-3})
    model.partial_fit(X, y, classes=[False, True])
    model.set_params(class_weight={False: 1, True: 100}).partial_fit(X, y)
    assert model.best_loss_ == model.loss_


def test_partial_fit_after_a_plain_fit_has_a_new_best_loss():
    """The issue's example, and one where nothing but y has changed."""
    for change in ({"loss": "absolute_error"}, {}):
        model = fit(BackpropRegressor("huber", (8,), max_iter=100, random_state=0), X, X[:, 0])
        model.set_params(**change).partial_fit(X, 100 * X[:, 0])
        assert model.best_loss_ == model.loss_


def test_partial_fit_goes_on_after_a_copy(tmp_path):
    model = BackpropRegressor(hidden_layer_sizes=(8,), random_state=0).partial_fit(X, 0 * X[:, 0])
    fastbp.save(model, tmp_path / "model")
    for copy in (pickle.loads(pickle.dumps(model)), fastbp.load(tmp_path / "model")):
        assert copy.partial_fit(X, 100 * X[:, 0]).best_loss_ == model.best_loss_


# --- fingerprints ---------------------------------------------------------------------------------


def test_engines_tell_arrays_apart(engine_name):
    engine = get_engine(engine_name)
    a = np.random.RandomState(1).randn(33, 7)
    found = {engine.fingerprint(a)}
    assert engine.fingerprint(a.copy()) in found
    for index in range(a.size):
        for change in (-a.flat[index], np.nextafter(a.flat[index], 9), 0.0):
            other = a.copy()
            other.flat[index] = change
            found.add(engine.fingerprint(other))
    assert len(found) == 1 + 3 * a.size
    others = (-a, a[::-1].copy(), a[:-1], np.zeros(0), np.zeros(1), np.zeros(2), np.zeros(8))
    found |= {engine.fingerprint(other) for other in others}
    assert len(found) == 1 + 3 * a.size + len(others)
    with pytest.raises(ValueError, match="C-contiguous"):
        engine.fingerprint(a.T)


@pytest.mark.parametrize("n", [4096 * 6, 4096 * 6 + 24, 4096 * 7 - 8])
def test_every_third_piece_is_read(engine_name, n):
    engine = get_engine(engine_name)
    a = np.arange(n // 8, dtype=np.float64)
    seen = []
    for index in range(0, a.size, 64):
        other = a.copy()
        other[index] = -1.0
        seen.append(engine.fingerprint(other, 3) != engine.fingerprint(a, 3))
    assert seen == [index * 8 // 4096 % 3 == 0 for index in range(0, a.size, 64)]
    last = a.copy()
    last[-1] = -1.0
    assert (engine.fingerprint(last, 3) != engine.fingerprint(a, 3)) == ((n - 8) // 4096 % 3 == 0)
    with pytest.raises(ValueError, match="every"):
        engine.fingerprint(a, 0)


def scorer_of(factor):
    """Return a closure that collects, as scorers may."""
    collected = []

    def score(model, X, y):
        collected.append(X)
        return factor * model.score(X, y)

    return score


class Score:
    """A scorer with a setting."""

    def __init__(self, factor):
        self.factor, self.seen = factor, []

    def __call__(self, model, X, y):
        return self.factor


PAIRS = {
    "closures": scorer_of,
    "objects": Score,
    "partials": lambda factor: partial(max, factor),
    "scorers": lambda factor: make_scorer(accuracy_score, normalize=bool(factor - 1)),
    "lambdas": lambda factor: make_scorer(lambda a, b: 1) if factor == 1 else make_scorer(
        lambda a, b: 2
    ),
    "losses": lambda factor: Focal(float(factor)),
    "lists": lambda factor: [1, {"a": np.float32(factor)}],
    "sets": lambda factor: {1, factor + 5},
    "arrays": lambda factor: np.array([factor, 1.0]),
    "methods": lambda factor: Score(factor).__call__,
    "defaults": lambda factor: (lambda a=factor: a),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_settings_are_the_same_if_they_mean_the_same(name):
    make = PAIRS[name]
    assert describe(make(1)) == describe(make(1))
    assert describe(make(1)) != describe(make(2))


def test_settings_that_hold_themselves():
    nested = [1]
    nested.append(nested)

    def recursive(n):
        return recursive(n - 1)

    assert describe(nested) == describe(nested)
    assert describe(recursive) == describe(recursive)
