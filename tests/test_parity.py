"""`dtype=None` repeats MLPClassifier and MLPRegressor: losses, weights and counters."""

import pickle
import warnings

import numpy as np
import pytest
from covering import cover_pairs
from problems import draw_classes, draw_counts, draw_labels, draw_regression
from reference import FLOAT32_LOSS_TOLERANCE, FLOAT64_TOLERANCE
from scipy import sparse
from sklearn.base import is_classifier
from sklearn.datasets import load_diabetes, load_digits, load_iris
from sklearn.linear_model import Ridge
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import scale

from fastbp import BackpropClassifier, BackpropRegressor

pytestmark = pytest.mark.engines_in_turn

COUNTERS = [
    "n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_",
]  # fmt: skip

DATA = {
    "binary": lambda: draw_classes(61, 5, 2),
    "multiclass": lambda: draw_classes(61, 5, 4),
    "multilabel": lambda: draw_labels(61, 5, 3),
    "one output": lambda: draw_regression(61, 5),
    "three outputs": lambda: draw_regression(61, 5, 3),
    "counts": lambda: draw_counts(61, 5),
}

OURS = {"dtype": None, "engine": "auto"}


@pytest.fixture(autouse=True)
def each_engine(engine_name, monkeypatch):
    monkeypatch.setitem(OURS, "engine", engine_name)


BASE = dict(hidden_layer_sizes=(7, 3), max_iter=10, batch_size=16, random_state=1, tol=0.0)


def make_pair(kind, **params):
    """Return (ours, scikit-learn's) with the same settings."""
    if params.get("solver") == "lbfgs":
        # Its line search doubles a rounding error every iteration or so: ten of them leave 1e-8.
        params = {"max_iter": 5, **params}
    params = {**BASE, **params}
    if kind in ("binary", "multiclass", "multilabel"):
        return BackpropClassifier(**OURS, **params), MLPClassifier(**params)
    if kind == "counts":
        params = {"loss": "poisson", **params}
    return BackpropRegressor(**OURS, **params), MLPRegressor(**params)


def call(method, *args, **kwargs):
    """Call and return the sorted categories of the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        method(*args, **kwargs)
    return sorted(warning.category.__name__ for warning in caught)


_fitted = {}  # scikit-learn's models: every engine is compared with the same


def fit_both(kind, X, y, sample_weight=None, **params):
    """Fit both; they must warn alike."""
    ours, theirs = make_pair(kind, **params)
    key = pickle.dumps((type(theirs), params, X, y, sample_weight))
    if key not in _fitted:
        warned = call(theirs.fit, X, y, sample_weight=sample_weight)
        _fitted[key] = pickle.dumps((theirs, warned))
    theirs, warned = pickle.loads(_fitted[key])
    assert call(ours.fit, X, y, sample_weight=sample_weight) == warned
    return ours, theirs


def assert_same_model(ours, theirs, X, tolerance=FLOAT64_TOLERANCE):
    """Compare every fitted attribute, and predictions."""
    for name in COUNTERS:
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.loss_ == pytest.approx(theirs.loss_, rel=tolerance)
    if theirs.solver != "lbfgs":
        np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=tolerance)
        if theirs.best_loss_ is None:
            assert ours.best_loss_ is None
        else:
            assert ours.best_loss_ == pytest.approx(theirs.best_loss_, rel=tolerance)
        if theirs.validation_scores_ is None:
            assert ours.validation_scores_ is None
            assert ours.best_validation_score_ is None
        else:
            np.testing.assert_allclose(
                ours.validation_scores_, theirs.validation_scores_, rtol=tolerance, atol=tolerance
            )
            assert ours.best_validation_score_ == pytest.approx(
                theirs.best_validation_score_, rel=tolerance
            )
    for left, right in zip(
        ours.coefs_ + ours.intercepts_, theirs.coefs_ + theirs.intercepts_, strict=True
    ):
        assert left.dtype == right.dtype
        np.testing.assert_allclose(left, right, rtol=0, atol=tolerance)
    if is_classifier(theirs):
        np.testing.assert_array_equal(ours.classes_, theirs.classes_)
        np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
        np.testing.assert_allclose(
            ours.predict_proba(X), theirs.predict_proba(X), rtol=0, atol=10 * tolerance
        )
    else:
        np.testing.assert_allclose(
            ours.predict(X), theirs.predict(X), rtol=10 * tolerance, atol=10 * tolerance
        )


@pytest.mark.parametrize(
    ("kind", "activation", "solver"),
    cover_pairs(DATA, ["identity", "logistic", "tanh", "relu"], ["sgd", "adam", "lbfgs"]),
)
def test_activations_and_solvers(kind, activation, solver):
    if (kind, solver) == ("three outputs", "lbfgs"):
        kind = "one output"  # scikit-learn's gradient is wrong there, its issue 8349
    X, y = DATA[kind]()
    ours, theirs = fit_both(
        kind, X, y, activation=activation, solver=solver, learning_rate_init=0.003
    )
    assert_same_model(ours, theirs, X)


@pytest.mark.parametrize("learning_rate", ["constant", "invscaling", "adaptive"])
@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("kind", ["multiclass", "one output"])
def test_learning_rate_kinds(kind, solver, learning_rate):
    X, y = DATA[kind]()
    ours, theirs = fit_both(
        kind, X, y, solver=solver, learning_rate=learning_rate, learning_rate_init=0.1, power_t=0.3
    )
    assert_same_model(ours, theirs, X)


@pytest.mark.parametrize("tol", [1e-2, 1e-1, 10.0])
def test_adaptive_rate_falls_at_the_same_epochs(tol):
    X, y = DATA["one output"]()
    ours, theirs = fit_both(
        "one output", X, y, solver="sgd", learning_rate="adaptive", learning_rate_init=0.1, tol=tol,
        n_iter_no_change=2, max_iter=400,
    )  # fmt: skip
    assert_same_model(ours, theirs, X, tolerance=1e-8)
    assert ours.n_iter_ > 4  # it fell at least once instead of stopping


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.95])
@pytest.mark.parametrize("nesterovs_momentum", [False, True])
def test_momentum(momentum, nesterovs_momentum):
    X, y = DATA["multiclass"]()
    ours, theirs = fit_both(
        "multiclass", X, y, solver="sgd", learning_rate_init=0.05, momentum=momentum,
        nesterovs_momentum=nesterovs_momentum,
    )  # fmt: skip
    assert_same_model(ours, theirs, X)


def test_adam_hyperparameters():
    X, y = DATA["multiclass"]()
    ours, theirs = fit_both("multiclass", X, y, beta_1=0.5, beta_2=0.9, epsilon=1e-3)
    assert_same_model(ours, theirs, X)


@pytest.mark.parametrize("batch_size", ["auto", 1, 7, 61, 500])
@pytest.mark.parametrize("kind", DATA)
def test_batch_sizes(kind, batch_size):
    X, y = DATA[kind]()
    ours, theirs = fit_both(kind, X, y, batch_size=batch_size)
    assert_same_model(ours, theirs, X)


@pytest.mark.parametrize(
    ("kind", "solver", "hidden_layer_sizes"),
    cover_pairs(
        ["binary", "multiclass", "one output"], ["sgd", "adam", "lbfgs"],
        [(), (5,), (7, 3), [4], 6, np.array([3, 2])],
    ),
    ids=str,
)  # fmt: skip
def test_hidden_layers(kind, solver, hidden_layer_sizes):
    X, y = DATA[kind]()
    ours, theirs = fit_both(kind, X, y, solver=solver, hidden_layer_sizes=hidden_layer_sizes)
    assert_same_model(ours, theirs, X)


@pytest.mark.parametrize("alpha", [0.0, 0.1, 10.0])
@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
def test_alpha(solver, alpha):
    X, y = DATA["multiclass"]()
    ours, theirs = fit_both("multiclass", X, y, solver=solver, alpha=alpha)
    assert_same_model(ours, theirs, X)


@pytest.mark.parametrize(
    ("kind", "weighted", "early_stopping", "shuffle"),
    cover_pairs(DATA, [False, True], [False, True], [False, True]),
)
def test_early_stopping_shuffle_and_weights(kind, weighted, early_stopping, shuffle):
    X, y = DATA[kind]()
    weight = np.random.default_rng(5).uniform(0.1, 3, len(X)) if weighted else None
    ours, theirs = fit_both(
        kind, X, y, weight, early_stopping=early_stopping, validation_fraction=0.2, shuffle=shuffle
    )
    assert_same_model(ours, theirs, X)


@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
@pytest.mark.parametrize("kind", ["binary", "multiclass", "one output", "counts"])
def test_sample_weight_with_zeros(kind, solver):
    X, y = DATA[kind]()
    weight = np.random.default_rng(5).integers(0, 3, len(X)).astype(float)
    ours, theirs = fit_both(kind, X, y, weight, solver=solver)
    assert_same_model(ours, theirs, X)


@pytest.mark.parametrize(
    ("kind", "make", "solver"),
    cover_pairs(
        ["multiclass", "one output"], [sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array],
        ["sgd", "adam", "lbfgs"],
    ),
)  # fmt: skip
def test_sparse(kind, make, solver):
    X, y = DATA[kind]()
    X = make(np.where(np.abs(X) > 1, X, 0))
    ours, theirs = fit_both(kind, X, y, solver=solver)
    assert_same_model(ours, theirs, X)


def test_sparse_early_stopping():
    X, y = DATA["multiclass"]()
    X = sparse.csr_matrix(np.where(np.abs(X) > 1, X, 0))
    ours, theirs = fit_both("multiclass", X, y, early_stopping=True, validation_fraction=0.2)
    assert_same_model(ours, theirs, X)


@pytest.mark.parametrize(
    ("kind", "learning_rate_init", "solver"),
    cover_pairs(["binary", "multiclass", "multilabel"], [1e-3, 0.1, 1.0], ["sgd", "adam"]),
)
def test_saturated_probabilities(kind, learning_rate_init, solver):
    """X of hundreds: losses reach scikit-learn's ceiling, -log(eps), and training may end there."""
    X, y = DATA[kind]()
    ours, theirs = make_pair(
        kind, solver=solver, learning_rate_init=learning_rate_init, max_iter=30, tol=1e-4
    )
    theirs_warned = set(call(theirs.fit, 300 * X, y))
    assert theirs_warned <= set(call(ours.fit, 300 * X, y))  # ours may name the unscaled column
    assert max(theirs.loss_curve_) > 3
    assert_same_model(ours, theirs, 300 * X, tolerance=1e-6)


# --- where training ends --------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("kind", DATA)
def test_natural_end(kind, early_stopping, solver):
    X, y = DATA[kind]()
    ours, theirs = fit_both(
        kind, X, y, solver=solver, early_stopping=early_stopping, validation_fraction=0.3, tol=5e-3,
        n_iter_no_change=3, max_iter=300, learning_rate_init=0.005,
    )  # fmt: skip
    assert 4 < theirs.n_iter_ < 300
    assert_same_model(ours, theirs, X, tolerance=1e-8)


def test_n_iter_no_change_may_be_infinite():
    X, y = DATA["multiclass"]()
    ours, theirs = fit_both("multiclass", X, y, n_iter_no_change=np.inf, tol=1e9, max_iter=25)
    assert ours.n_iter_ == 25
    assert_same_model(ours, theirs, X)


def test_lbfgs_at_its_minimum():
    X, y = DATA["multiclass"]()
    ours, theirs = fit_both(
        "multiclass", X, y, solver="lbfgs", hidden_layer_sizes=(), alpha=5.0, max_iter=500, tol=1e-9
    )
    assert_same_model(ours, theirs, X, tolerance=1e-6)


def test_lbfgs_max_fun():
    X, y = DATA["one output"]()
    ours, theirs = fit_both("one output", X, y, solver="lbfgs", max_fun=4, max_iter=100)
    assert_same_model(ours, theirs, X)


# --- going on with a model ------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
@pytest.mark.parametrize("kind", DATA)
def test_warm_start(kind, solver):
    X, y = DATA[kind]()
    if (kind, solver) == ("three outputs", "lbfgs"):
        y = y[:, 0]
        kind = "one output"
    ours, theirs = make_pair(kind, solver=solver, warm_start=True, max_iter=3)
    for _ in range(2 if solver == "lbfgs" else 3):
        assert call(ours.fit, X, y) == call(theirs.fit, X, y)
        assert_same_model(ours, theirs, X)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("kind", DATA)
def test_warm_start_with_early_stopping(kind, solver):
    """Up to the second call's curves; its weights are a bug of scikit-learn's.

    There the arrays kept as the best of the first call are those that the second call trains, so
    that the last weights come back as the best ones. Ours are tested in `test_training.py`.
    """
    X, y = DATA[kind]()
    ours, theirs = make_pair(
        kind, solver=solver, warm_start=True, early_stopping=True, max_iter=4,
        validation_fraction=0.2,
    )  # fmt: skip
    assert call(ours.fit, X, y) == call(theirs.fit, X, y)
    assert_same_model(ours, theirs, X)
    assert call(ours.fit, X, y) == call(theirs.fit, X, y)
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=FLOAT64_TOLERANCE)
    np.testing.assert_allclose(
        ours.validation_scores_, theirs.validation_scores_, rtol=0, atol=FLOAT64_TOLERANCE
    )
    assert ours.best_validation_score_ == pytest.approx(theirs.best_validation_score_)


def test_warm_start_with_other_settings():
    """With another alpha, losses of before are no measure of those to come: curves begin anew."""
    X, y = DATA["multiclass"]()
    ours, theirs = make_pair("multiclass", warm_start=True)
    for params in ({}, {"solver": "sgd"}, {"alpha": 1.0, "batch_size": 30}, {"solver": "lbfgs"}):
        for model in (ours, theirs):
            model.set_params(**params)
            call(model.fit, X, y)
        if "alpha" in params:
            theirs.loss_curve_ = theirs.loss_curve_[-theirs.n_iter_ :]
            theirs.best_loss_ = min(theirs.loss_curve_)
        assert_same_model(ours, theirs, X)


@pytest.mark.parametrize(
    ("kind", "weighted", "solver", "learning_rate"),
    cover_pairs(DATA, [False, True], ["sgd", "adam"], ["constant", "invscaling", "adaptive"]),
)
def test_partial_fit(kind, weighted, solver, learning_rate):
    X, y = DATA[kind]()
    weight = np.random.default_rng(5).uniform(0.1, 3, len(X)) if weighted else None
    ours, theirs = make_pair(
        kind, solver=solver, learning_rate=learning_rate, learning_rate_init=0.05
    )
    first = {}
    if is_classifier(ours):
        first = {"classes": np.arange(3) if kind == "multilabel" else np.unique(y)}
    for part in (slice(0, 40), slice(20, 61), slice(0, 61), slice(0, 40)):
        part_weight = None if weight is None else weight[part]
        for model in (ours, theirs):
            model.partial_fit(X[part], y[part], sample_weight=part_weight, **first)
        first = {}
        assert_same_model(ours, theirs, X)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("kind", ["multiclass", "one output"])
def test_partial_fit_and_fit_in_turn(kind, solver):
    X, y = DATA[kind]()
    ours, theirs = make_pair(kind, solver=solver, max_iter=3)
    for name in ("fit", "partial_fit", "partial_fit", "fit", "partial_fit"):
        assert call(getattr(ours, name), X, y) == call(getattr(theirs, name), X, y)
        assert_same_model(ours, theirs, X)


def test_partial_fit_reaching_its_tolerance():
    """After many calls without improvement the adaptive rate falls in both."""
    X, y = DATA["one output"]()
    ours, theirs = make_pair(
        "one output", solver="sgd", learning_rate="adaptive", learning_rate_init=0.1, tol=0.5,
        n_iter_no_change=2,
    )  # fmt: skip
    for _ in range(12):
        ours.partial_fit(X, y)
        theirs.partial_fit(X, y)
        assert_same_model(ours, theirs, X)


# --- random states --------------------------------------------------------------------------------


@pytest.mark.parametrize("early_stopping", [False, True])
def test_random_state_instance_is_shared_and_advanced(early_stopping):
    X, y = DATA["multiclass"]()
    left, right = np.random.RandomState(4), np.random.RandomState(4)
    ours, _ = make_pair("multiclass", random_state=left, early_stopping=early_stopping)
    _, theirs = make_pair("multiclass", random_state=right, early_stopping=early_stopping)
    for _ in range(2):
        call(ours.fit, X, y)
        call(theirs.fit, X, y)
        assert_same_model(ours, theirs, X)
    assert left.randint(2**31) == right.randint(2**31)


def test_global_random_state():
    X, y = DATA["multiclass"]()
    ours, theirs = make_pair("multiclass", random_state=None)
    before = np.random.get_state()
    try:
        np.random.seed(9)
        call(ours.fit, X, y)
        left = np.random.random()
        np.random.seed(9)
        call(theirs.fit, X, y)
        assert left == np.random.random()
    finally:
        np.random.set_state(before)
    assert_same_model(ours, theirs, X)


# --- other arithmetic, real data ------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("kind", DATA)
def test_float32_follows_X(kind, solver):
    """The losses of scikit-learn in float64 on the same numbers, and its output types."""
    X, y = DATA[kind]()
    X = X.astype(np.float32)
    y = y if y.dtype.kind == "i" else y.astype(np.float32)
    ours, theirs = fit_both(kind, X, y, solver=solver)
    _, exact = fit_both(kind, X.astype(np.float64), y.astype(y.dtype.kind + "8"), solver=solver)
    np.testing.assert_allclose(ours.loss_curve_, exact.loss_curve_, rtol=FLOAT32_LOSS_TOLERANCE)
    assert {w.dtype for w in ours.coefs_ + ours.intercepts_} == {np.dtype(np.float32)}
    for dtype in (np.float32, np.float64):
        assert ours.predict(X.astype(dtype)).dtype == theirs.predict(X.astype(dtype)).dtype
        if is_classifier(ours):
            expected = theirs.predict_proba(X.astype(dtype)).dtype
            assert ours.predict_proba(X.astype(dtype)).dtype == expected


LISTS = {
    "numbers": lambda X: [[np.float32(number) for number in row] for row in X],
    "rows": lambda X: list(X.astype(np.float32)),
    "tuple": lambda X: tuple(X.astype(np.float32)),
}


@pytest.mark.parametrize("form", LISTS)
def test_lists_of_float32_are_float64(form):
    """scikit-learn looks at an array's dtype, and a list has none; weights in a list likewise."""
    X, y = DATA["multiclass"]()
    X, weight = LISTS[form](X), np.random.default_rng(5).uniform(0.1, 3, len(X)).tolist()
    for given in (None, weight):
        ours, theirs = fit_both("multiclass", X, y, given)
        assert_same_model(ours, theirs, X)
    assert ours.predict_proba(X).dtype == theirs.predict_proba(X).dtype == np.float64


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", DATA)
def test_settings_of_dtype_keep_the_draws(kind, dtype):
    """Any dtype starts from scikit-learn's weights, but for the biases of the output."""
    X, y = DATA[kind]()
    tiny = dict(learning_rate_init=1e-12, max_iter=1)
    ours, theirs = fit_both(kind, X, y, **tiny)
    ours.set_params(dtype=dtype)
    call(ours.fit, X, y)
    tolerance = 1e-10 if dtype == "float64" else 1e-6
    for left, right in zip(
        ours.coefs_ + ours.intercepts_[:-1], theirs.coefs_ + theirs.intercepts_[:-1], strict=True
    ):
        np.testing.assert_allclose(left, right, rtol=0, atol=tolerance)
    assert {w.dtype for w in ours.coefs_ + ours.intercepts_} == {np.dtype(dtype)}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", DATA)
def test_settings_of_dtype_keep_shuffles_and_split(kind, dtype):
    """Any dtype that goes on from the same weights sees the samples in the same order."""
    X, y = DATA[kind]()
    params = dict(early_stopping=True, validation_fraction=0.2, warm_start=True, max_iter=4)
    ours, theirs = fit_both(kind, X, y, **params)
    ours.set_params(dtype=dtype)
    call(ours.fit, X, y)
    call(theirs.fit, X, y)
    tolerance = FLOAT64_TOLERANCE if dtype == "float64" else FLOAT32_LOSS_TOLERANCE
    np.testing.assert_allclose(ours.loss_curve_[-4:], theirs.loss_curve_[-4:], rtol=tolerance)


def test_string_classes():
    X, y = DATA["multiclass"]()
    y = np.array(["b", "d", "a", "c"])[y]
    ours, theirs = fit_both("multiclass", X, y, early_stopping=True, validation_fraction=0.2)
    assert_same_model(ours, theirs, X)


def test_default_settings_on_real_data():
    X, y = load_iris(return_X_y=True)
    params = dict(hidden_layer_sizes=(100,), batch_size="auto", tol=1e-4, max_iter=10)
    ours, theirs = fit_both("multiclass", scale(X), y, **params)
    assert_same_model(ours, theirs, scale(X))
    X, y = load_diabetes(return_X_y=True)
    ours, theirs = fit_both("one output", scale(X), scale(y), **params)
    assert_same_model(ours, theirs, scale(X))
    X, y = load_digits(return_X_y=True)
    ours, theirs = fit_both("multiclass", X / 16, y, **params)
    assert_same_model(ours, theirs, X / 16)


@pytest.mark.parametrize("alpha", [0.0, 5.0])
def test_lbfgs_with_many_outputs_takes_the_true_gradient(alpha):
    """Parity ends here on purpose: a linear model must find the minimum of the mean loss."""
    X, y = DATA["three outputs"]()
    ours = BackpropRegressor(
        hidden_layer_sizes=(), solver="lbfgs", alpha=alpha, max_iter=500, tol=1e-10, random_state=0,
        dtype="float64",
    )  # fmt: skip
    ours.fit(X, y)
    exact = Ridge(alpha=3 * alpha).fit(X, y)  # the mean over three outputs, times three
    np.testing.assert_allclose(ours.coefs_[0], exact.coef_.T, atol=1e-4)
    np.testing.assert_allclose(ours.intercepts_[0], exact.intercept_, atol=1e-4)
    penalty = 0.5 * alpha * (exact.coef_**2).sum() / len(X)
    loss = 0.5 * ((exact.predict(X) - y) ** 2).mean() + penalty
    assert ours.loss_ == pytest.approx(loss, rel=1e-7)


def test_verbose_2_prints_the_same_lines(capsys):
    X, y = DATA["multiclass"]()
    ours, theirs = make_pair("multiclass", verbose=True, early_stopping=True, tol=1e-1, max_iter=40)
    call(theirs.fit, X, y)
    expected = capsys.readouterr().out
    call(ours.set_params(verbose=2).fit, X, y)
    assert capsys.readouterr().out == expected
