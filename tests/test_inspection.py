"""A look inside: the textbook's numbers against the reference, gradients against differences."""

import doctest
from copy import deepcopy
from importlib import import_module

import numpy as np
import pytest
import reference
import userland
from problems import draw_classes, draw_counts, draw_features, draw_labels, draw_regression
from scipy.sparse import csr_array, csr_matrix, issparse
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastbp import Activation, BackpropClassifier, BackpropRegressor, Loss
from fastbp.activations import ACTIVATIONS
from fastbp.inspection import (
    check_gradients,
    diagnose,
    input_gradients,
    loss_and_gradients,
)
from fastbp.losses import Focal, LogLoss, Quantile

SETTINGS = {"tol": 1e3, "n_iter_no_change": 1, "max_iter": 5, "random_state": 0}
WEIGHT = np.random.default_rng(5).uniform(0.1, 2.0, 50)

# Networks that train badly are what is looked at here; fit warns of many of them.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def fit_kinds(**parameters):
    """Yield (name, fitted estimator, X, y, targets, name of the loss) for each kind of target."""
    settings = SETTINGS | {"hidden_layer_sizes": (7, 5), "alpha": 0.3} | parameters
    X, y = draw_classes(50, 4, 3)
    names = np.array(["a", "b", "c"])[y]
    yield (
        "multiclass",
        BackpropClassifier(**settings).fit(X, names),
        X,
        names,
        y[:, None],
        "log_loss",
    )
    y = (y > 0).astype(int)
    clf = BackpropClassifier(**settings).fit(X, y)
    yield "binary", clf, X, y, y[:, None], "binary_log_loss"
    X, Y = draw_labels(50, 4, 3)
    clf = BackpropClassifier(**settings).fit(X, Y)
    yield "multilabel", clf, X, Y, Y, "binary_log_loss"
    X, y = draw_regression(50, 4)
    reg = BackpropRegressor(**settings).fit(X, y)
    yield "regression", reg, X, y, y[:, None], "squared_error"
    X, Y = draw_regression(50, 4, 3)
    yield "outputs", BackpropRegressor(**settings).fit(X, Y), X, Y, Y, "squared_error"
    X, y = draw_counts(50, 4)
    reg = BackpropRegressor("poisson", **settings).fit(X, y)
    yield "counts", reg, X, y, y[:, None], "poisson"


KINDS = {name: case for name, *case in fit_kinds(activation=["tanh", "relu"])}


def flat_params(estimator):
    pairs = zip(estimator.coefs_, estimator.intercepts_)
    return np.concatenate([part.ravel() for pair in pairs for part in pair]).astype(float)


def flat_grads(result):
    pairs = zip(result.coef_grads, result.intercept_grads)
    return np.concatenate([part.ravel() for pair in pairs for part in pair])


def layer_sizes(estimator):
    return (*(len(weights) for weights in estimator.coefs_), estimator.coefs_[-1].shape[1])


def compare_with_reference(result, estimator, activations, loss, X, targets, weight):
    expected, gradient = reference.loss_and_gradient(
        *(flat_params(estimator), layer_sizes(estimator), activations, loss, X, targets, weight),
        alpha=estimator.alpha,
        mean_gradient=True,
    )
    assert result.loss == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(flat_grads(result), gradient, atol=1e-13)


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["equal", "weighted"])
@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradients_are_those_of_the_reference(kind, weight):
    estimator, X, y, targets, loss = KINDS[kind]
    result = loss_and_gradients(estimator, X, y, weight)
    compare_with_reference(result, estimator, ["tanh", "relu"], loss, X, targets, weight)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_is_that_of_the_reference(name):
    X, y = draw_regression(40, 3)
    reg = BackpropRegressor(hidden_layer_sizes=(6, 6), activation=name, **SETTINGS).fit(X, y)
    result = loss_and_gradients(reg, X, y)
    compare_with_reference(result, reg, [name] * 2, "squared_error", X, y[:, None], None)


def test_functions_of_users():
    X, y = draw_regression(40, 3)
    rows = [userland.own_relu, Activation(userland.own_relu, userland.own_relu_slope)]
    reg = BackpropRegressor(
        userland.own_squared_error, hidden_layer_sizes=(6, 6), activation=rows, **SETTINGS
    ).fit(X, y)
    result = loss_and_gradients(reg, X, y)
    compare_with_reference(result, reg, ["relu"] * 2, "squared_error", X, y[:, None], None)


@pytest.mark.parametrize("kind", KINDS)
def test_layers_of_the_result(kind):
    estimator, X, y, _, _ = KINDS[kind]
    result = loss_and_gradients(estimator, X, y)
    sizes = layer_sizes(estimator)
    assert [a.shape for a in result.activations] == [(50, size) for size in sizes]
    for arrays in (result.pre_activations, result.deltas):
        assert [a.shape for a in arrays] == [(50, size) for size in sizes[1:]]
    assert [a.shape for a in result.slopes] == [(50, size) for size in sizes[1:-1]]
    np.testing.assert_array_equal(result.activations[0], X)
    np.testing.assert_allclose(result.activations[1], np.tanh(result.pre_activations[0]))
    proba = getattr(estimator, "predict_proba", estimator.predict)(X)
    proba = proba[:, 1] if kind == "binary" else proba
    np.testing.assert_allclose(result.activations[-1], np.reshape(proba, (50, -1)), atol=1e-5)
    assert result.loss == pytest.approx(result.sample_losses.mean() + result.penalty)
    for delta, biases in zip(result.deltas, result.intercept_grads):
        np.testing.assert_allclose(delta.sum(axis=0), biases)


def test_loss_is_the_one_that_training_reports(engine_name):
    X, y = draw_classes(80, 4, 3)
    clf = BackpropClassifier(
        (6,), batch_size=80, learning_rate_init=1e-9, engine=engine_name, **SETTINGS
    ).fit(X, y)
    assert loss_and_gradients(clf, X, y).loss == pytest.approx(clf.loss_, rel=1e-5)


def test_sparse_features():
    X = draw_features(50, 4, np.random.default_rng(0), density=0.4)
    y = np.arange(50) % 2
    clf = BackpropClassifier((5,), **SETTINGS).fit(X, y)
    sparse, dense = (loss_and_gradients(clf, given, y) for given in (X, X.toarray()))
    assert issparse(sparse.activations[0])  # as it came; sums run in another order
    np.testing.assert_allclose(flat_grads(sparse), flat_grads(dense), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_pass_their_check_with_either_engine(kind, engine_name):
    estimator, X, y, _, _ = KINDS[kind]
    estimator = deepcopy(estimator).set_params(engine=engine_name)
    check = check_gradients(estimator, X, y, WEIGHT, n_checks=8)
    assert check.ok, str(check)
    assert check.max_rel_error < 1e-6
    assert [row["layer"] for row in check.rows] == [0, 0, 1, 1, 2, 2]
    assert [row["n_checked"] for row in check.rows] == [
        min(8, part.size) for pair in zip(estimator.coefs_, estimator.intercepts_) for part in pair
    ]


def wrong_gradient(y_true, raw):
    return 1.01 * (raw - y_true)


def test_a_wrong_gradient_fails_its_check():
    estimator, X, y, _, _ = KINDS["regression"]
    estimator = deepcopy(estimator)
    estimator.loss = Loss(userland.own_squared_error, wrong_gradient)
    check = check_gradients(estimator, X, y, n_checks=3)
    assert not check.ok
    assert check.max_rel_error == pytest.approx(0.01, rel=0.2)
    assert "NOT right" in str(check)
    assert "NOT right" in check._repr_html_()


def test_all_parameters_can_be_checked():
    X, y = draw_regression(20, 2)
    reg = BackpropRegressor(hidden_layer_sizes=(3,), activation="tanh", **SETTINGS).fit(X, y)
    check = check_gradients(reg, X, y, n_checks=None)
    assert [row["n_checked"] for row in check.rows] == [6, 3, 3, 1]
    assert str(check).splitlines()[0].split()[:2] == ["layer", "array"]


@pytest.mark.parametrize("kind", ["multiclass", "binary", "outputs"])
def test_input_gradients_are_central_differences(kind):
    estimator, X, _, _, _ = KINDS[kind]
    gradients = input_gradients(estimator, X)
    n_outputs = layer_sizes(estimator)[-1]
    assert gradients.shape == ((50, 4) if n_outputs == 1 else (50, 4, n_outputs))
    step = 1e-6
    for column in range(4):
        moved = [X + sign * step * np.eye(4)[column] for sign in (1, -1)]
        above, below = (
            reference.predict(flat_params(estimator), layer_sizes(estimator), ["tanh", "relu"], X)
            for X in moved
        )
        expected = ((above - below) / (2 * step)).reshape(gradients[:, column].shape)
        np.testing.assert_allclose(gradients[:, column], expected, atol=1e-7)


def test_without_hidden_layers_the_input_gradients_are_the_weights():
    X, y = draw_regression(20, 3)
    reg = BackpropRegressor(hidden_layer_sizes=(), **SETTINGS).fit(X, y)
    np.testing.assert_allclose(input_gradients(reg, X), np.tile(reg.coefs_[0].T, (20, 1)))


def test_wrappers_are_opened():
    X, y = draw_regression(60, 3)
    pipeline = make_pipeline(
        StandardScaler(), BackpropRegressor(hidden_layer_sizes=(4,), **SETTINGS)
    )
    search = GridSearchCV(pipeline, {"backpropregressor__alpha": [0.1, 0.2]}, cv=2)
    whole = TransformedTargetRegressor(search, transformer=StandardScaler()).fit(100 * X, 9 * y)
    inner = whole.regressor_.best_estimator_[-1]
    scaled = StandardScaler().fit_transform(100 * X), StandardScaler().fit_transform(y[:, None])
    opened = loss_and_gradients(whole, 100 * X, 9 * y)
    by_hand = loss_and_gradients(inner, scaled[0], scaled[1][:, 0])
    np.testing.assert_allclose(flat_grads(opened), flat_grads(by_hand), atol=1e-12)
    assert check_gradients(whole, 100 * X, 9 * y, n_checks=2).ok
    assert input_gradients(whole, 100 * X).shape == (60, 3)
    assert diagnose(whole, 100 * X, 9 * y).title.startswith("BackpropRegressor, 3-4-1")


@pytest.mark.parametrize("look", [loss_and_gradients, check_gradients, diagnose])
def test_looking_changes_nothing(look):
    for estimator, X, y, _, _ in KINDS.values():
        before = deepcopy(vars(estimator))
        look(estimator, X.copy(), y)
        after = vars(estimator)
        assert list(before) == list(after)
        for name, value in before.items():
            np.testing.assert_equal(after[name], value, err_msg=name)


@pytest.mark.parametrize("look", [loss_and_gradients, check_gradients, diagnose])
def test_bad_input(look):
    estimator, X, y, _, _ = KINDS["regression"]
    with pytest.raises(NotFittedError):
        look(BackpropClassifier(), X, y)
    with pytest.raises(NotFittedError):
        look(GridSearchCV(BackpropRegressor(), {"alpha": [1.0]}), X, y)
    with pytest.raises(TypeError, match="Got LogisticRegression in Pipeline"):
        look(make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y > 0), X, y > 0)
    with pytest.raises(ValueError, match="y has 2 outputs, but the network was fitted with 1"):
        look(estimator, X, np.c_[y, y])
    with pytest.raises(ValueError, match="X has 3 features"):
        look(estimator, X[:, :3], y)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        look(estimator, X, y[:-1])
    with pytest.raises(ValueError, match="sample_weight must not be negative"):
        look(estimator, X, y, -WEIGHT)
    classifier, X, _, _, _ = KINDS["multiclass"]
    with pytest.raises(ValueError, match=r"classes not in `self\.classes_`"):
        look(classifier, X, np.array(["z"] * 50))


# ----------------------------------------------------------------------------- diagnosis


def fit_unfinished(estimator, X, y):
    with pytest.warns(ConvergenceWarning):
        return estimator.fit(X, y)


@pytest.fixture(scope="module")
def classes():
    return draw_classes(300, 6, 3, seed=1)


def test_a_good_network_has_no_findings(classes):
    X, y = classes
    clf = BackpropClassifier((16,), "tanh", solver="lbfgs", alpha=1.0, tol=1e-3, random_state=0)
    diagnosis = diagnose(clf.fit(X[:200], y[:200]), X[:200], y[:200], X_val=X[200:], y_val=y[200:])
    assert diagnosis.findings == []
    assert "Nothing found." in str(diagnosis)
    assert 0.5 < diagnosis.numbers["validation skill"] <= diagnosis.numbers["skill"] < 1


def test_unscaled_column_is_named(classes):
    pd = pytest.importorskip("pandas")
    X = pd.DataFrame(classes[0], columns=list("abcdef"))
    X["d"] = 2e4 * X["d"]
    clf = BackpropClassifier((16,), **SETTINGS).fit(X, classes[1])
    diagnosis = diagnose(clf, X, classes[1])
    (finding,) = [f for f in diagnosis.findings if f.topic == "unscaled inputs"]
    assert finding.severity == "problem"
    assert "1 column of X has values beyond 30 in size: 3 ('d')" in finding.seen
    assert "StandardScaler" in finding.fix == finding.mend
    assert finding.seen.split("(up")[0] in str(diagnosis).replace("\n  ", " ")


def test_tiny_columns_are_named(classes):
    X = classes[0].copy()
    X[:, [1, 4]] *= 1e-4
    clf = BackpropClassifier((16,), **SETTINGS).fit(X, classes[1])
    (finding,) = [f for f in diagnose(clf, X, classes[1]).findings if f.topic == "unscaled inputs"]
    assert finding.severity == "hint"
    assert "2 columns of X have values below a hundredth" in finding.seen


def test_unscaled_targets():
    X, y = draw_regression(100, 4)
    reg = BackpropRegressor(hidden_layer_sizes=(8,), **SETTINGS).fit(X, 1e3 * y)
    diagnosis = diagnose(reg, X, 1e3 * y)
    assert "unscaled targets" in diagnosis.topics
    assert "unscaled inputs" not in diagnosis.topics


def test_dead_units_are_counted(classes):
    X, y = classes
    clf = BackpropClassifier((10, 8), **SETTINGS).fit(X, y)
    before = diagnose(clf, X, y).layers[0]["dead"]
    clf.intercepts_[0][:4] = -100.0
    diagnosis = diagnose(clf, X, y)
    assert 4 <= diagnosis.layers[0]["dead"] <= 4 + before
    finding = next(f for f in diagnosis.findings if f.topic == "dead units")
    assert finding.severity == "problem"
    assert "of 10 units" in finding.seen
    assert "hidden 1" in finding.seen


def test_saturated_units_are_counted(classes):
    X, y = classes
    clf = BackpropClassifier((10,), "tanh", **SETTINGS).fit(X, y)
    clf.intercepts_[0][:3] = 9.0
    clf.intercepts_[0][3:5] = -100.0  # flat to the last digit
    diagnosis = diagnose(clf, X, y)
    assert (diagnosis.layers[0]["saturated"], diagnosis.layers[0]["dead"]) == (5, 0)
    assert "saturated units" in diagnosis.topics


def test_vanishing_and_exploding_gradients(classes):
    X, y = classes
    clf = BackpropClassifier((10,) * 6, "logistic", **SETTINGS).fit(X, y)
    diagnosis = diagnose(clf, X, y)
    assert "vanishing gradients" in diagnosis.topics
    deltas = [row["delta_rms"] for row in diagnosis.layers]
    assert deltas == sorted(deltas)
    clf = BackpropClassifier((10,) * 6, "identity", **SETTINGS).fit(X, y)
    for weights in clf.coefs_[1:]:
        weights *= 10
    assert "exploding gradients" in diagnose(clf, X, y).topics


def test_weights_that_left_the_finite_numbers(classes):
    X, y = classes
    clf = BackpropClassifier((5,), **SETTINGS).fit(X, y)
    clf.coefs_[0][0, 0] = np.nan
    diagnosis = diagnose(clf, X, y)
    assert "not finite" in diagnosis.topics
    assert "not finite" in str(diagnosis)


def with_curve(classes, curve, **attributes):
    """Fit a network and pretend that training recorded these losses."""
    clf = BackpropClassifier((16,), **SETTINGS).fit(*classes)
    vars(clf).update(loss_curve_=list(curve), n_iter_=len(curve), **attributes)
    return clf.set_params(max_iter=len(curve))


@pytest.mark.parametrize(
    ("curve", "says"),
    [
        (1 + 0.2 * np.cos(np.pi * np.arange(40)), "looks too high"),
        (np.r_[np.linspace(1, 0.2, 20), np.linspace(0.25, 0.9, 20)], "looks too high"),
        (np.linspace(1.1, 1.08, 40), "looks too low"),
        (np.geomspace(1.0, 0.1, 40), "still falling"),
        (np.r_[np.geomspace(1.0, 0.1, 20), np.full(20, 0.1)], None),
    ],
    ids=["jumps", "climbs", "crawls", "falls", "settles"],
)
def test_learning_rate_is_read_off_the_curve(classes, curve, says):
    findings = diagnose(with_curve(classes, curve), *classes).findings
    seen = [f.seen for f in findings if f.topic in ("learning rate", "more epochs")]
    assert len(seen) == (says is not None)
    assert says is None or says in seen[0]


def test_a_rate_from_which_the_loss_falls_back_is_too_high(classes):
    wild = with_curve(classes, np.geomspace(1e9, 1e8, 20))
    wild.coefs_ = [1e6 * weights for weights in wild.coefs_]
    found = diagnose(wild, *classes).findings
    rates = [one for one in found if one.topic == "learning rate"]
    assert "it ended at 1e+08, far above a constant's" in rates[0].seen
    assert not any("higher learning_rate" in one.fix for one in found)


def test_learning_rates_that_really_do_not_fit(classes):
    slow = BackpropClassifier((16,), learning_rate_init=1e-6, max_iter=30, random_state=0)
    low = diagnose(slow.fit(*classes), *classes)
    assert "learning_rate_init=1e-06 is too low" in str(low).replace("\n  ", " ")
    fast = BackpropClassifier(
        (16,),
        "tanh",
        solver="sgd",
        momentum=0.0,
        learning_rate_init=30.0,
        max_iter=30,
        batch_size=10,
    ).set_params(random_state=0, n_iter_no_change=np.inf)
    high = diagnose(fit_unfinished(fast, *classes), *classes)
    assert "looks too high" in str(high).replace("\n  ", " ")


def test_over_fitting_on_validation_data():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((120, 20)), rng.integers(0, 2, 120)
    clf = BackpropClassifier((50,), solver="lbfgs", random_state=0).fit(X[:60], y[:60])
    assert "over-fitting" not in diagnose(clf, X[:60], y[:60]).topics
    diagnosis = diagnose(clf, X[:60], y[:60], X_val=X[60:], y_val=y[60:])
    (finding,) = [f for f in diagnosis.findings if f.topic == "over-fitting"]
    assert finding.severity == "problem"
    assert "early_stopping" not in finding.fix  # lbfgs knows none
    with pytest.raises(ValueError, match="given together"):
        diagnose(clf, X, y, X_val=X)


def test_over_fitting_in_the_recorded_curve(classes):
    valley = np.r_[np.linspace(1, 0.5, 12), np.linspace(0.52, 0.9, 8)]
    clf = with_curve(classes, np.geomspace(1, 0.1, 20), validation_loss_curve_=list(valley))
    (finding,) = [f for f in diagnose(clf, *classes).findings if f.topic == "over-fitting"]
    assert "best in epoch 12 (0.5)" in finding.seen
    valley[::2] = np.nan  # on a cluster not each epoch is measured
    clf = with_curve(classes, np.geomspace(1, 0.1, 20), validation_loss_curve_=list(valley))
    (finding,) = [f for f in diagnose(clf, *classes).findings if f.topic == "over-fitting"]
    assert "best in epoch 12 (0.5)" in finding.seen


def test_under_fitting(classes):
    X, y = classes
    clf = BackpropClassifier((4,), solver="lbfgs", alpha=1e5, random_state=0).fit(X, y)
    assert "under-fitting" in diagnose(clf, X, y).topics


def test_skill_is_against_the_best_constant():
    X, y = draw_regression(100, 4)
    reg = BackpropRegressor(hidden_layer_sizes=(), solver="lbfgs", random_state=0).fit(X, y)
    numbers = diagnose(reg, X, y).numbers
    assert numbers["loss of a constant"] == pytest.approx(np.var(y) / 2, rel=1e-6)
    assert numbers["skill"] == pytest.approx(reg.score(X, y), rel=1e-5)
    X, y = draw_counts(100, 4)
    reg = BackpropRegressor("poisson", (3,), solver="lbfgs", tol=1e-2, random_state=0).fit(X, y)
    expected = reference.find_loss("poisson")[0](y[:, None], np.full((100, 1), np.log(y.mean())))
    constant = diagnose(reg, X, y).numbers["loss of a constant"]
    assert constant == pytest.approx(expected.mean(), rel=1e-6)
    assert diagnose(reg, X[:5], np.ones(5)).numbers["skill"] is None


def test_large_data_are_thinned(classes):
    clf = BackpropClassifier((4,), **SETTINGS).fit(*classes)
    assert diagnose(clf, *classes, np.ones(300), max_samples=50).numbers["samples"] == 50


def test_report_as_html(classes):
    X, y = classes
    clf = BackpropClassifier((4,), activation=lambda z: z, **SETTINGS).fit(1e3 * X, y)
    html = diagnose(clf, 1e3 * X, y)._repr_html_()
    assert "<b>Problem: unscaled inputs</b>" in html
    assert "<lambda>" not in html
    assert html.count("<table") == html.count("</table>") == 2


@pytest.mark.parametrize("name", ["backpropagation", "gradient_check", "diagnosis"])
def test_examples_of_the_documentation(name):
    module = import_module(f"fastbp.inspection.{name}")
    failed, tried = doctest.testmod(module)
    assert tried
    assert not failed


# --- what fit minimised ---------------------------------------------------------------------------

HEAD = np.random.RandomState(0).randn(300, 4)
PRICES = 50_000 * (HEAD[:, 0] + 0.5 * HEAD[:, 1] ** 2) + 200_000


def test_scaled_targets_are_seen_as_training_saw_them():
    """The setting that the documentation recommends first."""
    reg = BackpropRegressor(scale_targets=True, random_state=0, max_iter=300).fit(HEAD, PRICES)
    batch = loss_and_gradients(reg, HEAD, PRICES)
    assert batch.loss == pytest.approx(reg.loss_, rel=0.05)
    np.testing.assert_allclose(batch.activations[-1].ravel(), reg.predict(HEAD), rtol=1e-5)
    found = diagnose(reg, HEAD, PRICES)
    assert "unscaled targets" not in found.topics
    assert found.numbers["skill"] == pytest.approx(reg.score(HEAD, PRICES), abs=1e-4)
    assert check_gradients(reg, HEAD, PRICES).ok


@pytest.mark.parametrize(
    "params",
    [
        {}, {"scale_targets": True}, {"loss": Quantile([0.1, 0.5, 0.9])},
        {"loss": Quantile([0.1, 0.5, 0.9]), "scale_targets": True},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("n_outputs", [1, 2])
def test_input_gradients_are_slopes_of_predict(params, n_outputs):
    y = np.transpose([1000 * HEAD[:, 0] + 70, HEAD[:, 1] ** 2])[:, :n_outputs]
    if "loss" in params:
        y = y[:, 0]
    reg = BackpropRegressor(
        hidden_layer_sizes=(6,), activation="tanh", dtype="float64", **SETTINGS, **params
    ).fit(HEAD, y.squeeze())
    slopes = input_gradients(reg, HEAD[:20]).reshape(20, 4, -1)
    for column in range(4):
        step = 1e-5 * np.eye(4)[column]
        above, below = (reg.predict(HEAD[:20] + sign * step).reshape(20, -1) for sign in (1, -1))
        np.testing.assert_allclose(slopes[:, column], (above - below) / 2e-5, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("class_weight", ["balanced", {0: 1.0, 1: 30.0}])
def test_class_weights_count(class_weight):
    """A rare class: the network is good by the weights that it was trained with."""
    y = (HEAD[:, 0] > 1.5).astype(int)
    clf = BackpropClassifier((20,), class_weight=class_weight, max_iter=400, tol=0, random_state=0)
    clf.fit(HEAD, y)
    batch = loss_and_gradients(clf, HEAD, y)
    assert batch.loss == pytest.approx(clf.loss_, rel=0.05)
    weight = np.bincount(y, minlength=2)
    weight = 300 / (2 * weight) if class_weight == "balanced" else np.array([1.0, 30.0])
    assert not {"under-fitting", "learning rate"} & diagnose(clf, HEAD, y).topics
    plain = clone(clf).set_params(class_weight=None).fit(HEAD, y)
    for name in ("coefs_", "intercepts_"):
        setattr(plain, name, getattr(clf, name))
    assert loss_and_gradients(plain, HEAD, y, weight[y]).loss == pytest.approx(batch.loss)
    few = slice(0, 40)  # a part is weighed as all of the data were
    assert loss_and_gradients(clf, HEAD[few], y[few]).loss == pytest.approx(
        loss_and_gradients(plain, HEAD[few], y[few], weight[y[few]]).loss
    )
    assert check_gradients(clf, HEAD, y).ok


@pytest.mark.parametrize("solver", ["sgd", "lbfgs"])
def test_the_penalty_is_that_of_an_epoch(solver):
    """Weights that stand still: what an epoch reports, over several minibatches, is the loss."""
    y = HEAD[:, 0]
    reg = BackpropRegressor(
        hidden_layer_sizes=(6,), alpha=30.0, solver=solver, batch_size=64, dtype="float64",
        learning_rate_init=1e-12, max_iter=1, tol=1e3, n_iter_no_change=1, random_state=0,
    ).fit(HEAD, y)  # fmt: skip
    batch = loss_and_gradients(reg, HEAD, y)
    if solver == "sgd":
        assert batch.loss == pytest.approx(reg.loss_, rel=0.01)
        assert batch.penalty == pytest.approx(
            30 * 5 / (2 * 300) * sum((W**2).sum() for W in reg.coefs_)
        )
    else:
        assert batch.penalty == pytest.approx(
            30 / (2 * 300) * sum((W**2).sum() for W in reg.coefs_)
        )
    thin = diagnose(reg, HEAD, y, max_samples=60)
    assert thin.numbers["penalty"] == pytest.approx(batch.penalty)
    assert check_gradients(reg, HEAD, y).ok


@pytest.mark.parametrize("loss", [LogLoss(label_smoothing=0.2), Focal(2.0), "log_loss"])
def test_the_loss_is_that_of_the_fit(loss):
    y = HEAD[:, 0] + HEAD[:, 1] > 0
    clf = BackpropClassifier((10,), loss=loss, max_iter=60, tol=1e-3, random_state=0)
    clf.fit(HEAD, y)
    assert loss_and_gradients(clf, HEAD, y).loss == pytest.approx(clf.loss_, rel=0.1)


def test_sparse_data_are_not_made_dense(monkeypatch):
    X = draw_features(60, 4, np.random.default_rng(0), density=0.4)
    y = np.arange(60) % 2
    clf = BackpropClassifier((5,), **SETTINGS).fit(X, y)
    for kind in {type(X), csr_array, csr_matrix}:
        monkeypatch.setattr(kind, "toarray", None)
        monkeypatch.setattr(kind, "todense", None)
    diagnose(clf, X, y, X_val=X, y_val=y)
    loss_and_gradients(clf, X, y)
    input_gradients(clf, X)
    assert check_gradients(clf, X, y).ok


def advice(found):
    """All that a diagnosis recommends."""
    return " ".join(finding.fix for finding in found.findings)


def test_nothing_is_advised_that_is_set():
    rng = np.random.RandomState(0)
    X, y = rng.randn(40, 20), rng.randn(40)
    unseen = {"X_val": rng.randn(40, 20), "y_val": rng.randn(40)}
    settings = dict(hidden_layer_sizes=(60,), max_iter=400, tol=0, random_state=0)
    for params, absent, there in (
        ({"early_stopping": True, "n_iter_no_change": 400}, "early_stopping", "dropout"),
        ({"dropout": 0.1}, ", dropout,", "more dropout (now 0.1)"),
    ):
        reg = BackpropRegressor(**settings, **params).fit(X, y)
        reg.coefs_ = BackpropRegressor(**settings).fit(X, y).coefs_
        found = diagnose(reg, X, y, **unseen)
        assert "over-fitting" in found.topics
        assert absent not in advice(found)
        assert there in advice(found)
    outliers = np.vstack([X, np.full(20, 1e4)])
    pipe = make_pipeline(StandardScaler(), BackpropRegressor(**SETTINGS))
    pipe.fit(X, y)
    found = diagnose(pipe, outliers, np.append(y, 0))
    assert "unscaled inputs" not in found.topics  # a scaler stands before the network already
    assert [f.severity for f in found.findings if f.topic == "outliers"] == ["hint"]
    assert "StandardScaler" not in advice(found)
    spikes = np.append(y, 1e6)
    reg = BackpropRegressor(scale_targets=True, **SETTINGS).fit(X, y)
    found = diagnose(reg, np.vstack([X, X[:1]]), spikes)
    assert "scale_targets" not in advice(found)
    deep = BackpropRegressor(
        hidden_layer_sizes=(10,) * 12, init="glorot", activation="tanh", **SETTINGS
    ).fit(X, y)
    deep.coefs_ = [0.1 * W for W in deep.coefs_]
    found = diagnose(deep, X, y)
    assert "vanishing gradients" in found.topics
    assert "tanh" not in advice(found)


def test_one_dead_unit_of_many_is_no_finding(classes):
    clf = BackpropClassifier((32,), **SETTINGS).fit(*classes)
    for n_dead, severities in ((1, []), (4, ["hint"]), (8, ["problem"])):
        clf.intercepts_[0][:n_dead] = -100.0
        found = diagnose(clf, *classes)
        assert found.layers[0]["dead"] >= n_dead
        assert [f.severity for f in found.findings if f.topic == "dead units"] == severities


def test_what_costs_most_comes_first(classes):
    X, y = classes
    clf = BackpropClassifier((10, 10), **SETTINGS).fit(X, y)
    clf.intercepts_[0][:3], clf.intercepts_[1][:9] = -100.0, -100.0
    clf.validation_loss_curve_ = [3.0, 1.0, 2.0, 2.0, 2.0]
    found = diagnose(clf, X, y)
    dead = [finding.seen for finding in found.findings if finding.topic == "dead units"]
    assert "90%" in dead[0]
    assert "30%" in dead[1]
    costs = [finding.cost for finding in found.findings if finding.severity == "problem"]
    assert costs == sorted(costs, reverse=True)
    assert "over-fitting" not in {finding.topic for finding in found.findings[:2]}
    clf.intercepts_[0][:5] = -1e6
    found = diagnose(clf, 1e3 * X, y)
    assert found.findings[0].topic == "unscaled inputs"
    assert "scale X first" in advice(found)


def test_advice_refers_to_nothing_that_is_not_there(classes):
    X, y = classes
    guess = np.random.RandomState(1).permutation(y)
    clf = BackpropClassifier((4,), "tanh", alpha=0.0, **SETTINGS).fit(X, guess)
    (finding,) = diagnose(clf, X, guess).findings
    assert finding.topic == "under-fitting"
    assert "other findings" not in finding.fix
    assert "alpha" not in finding.fix
    jumps = with_curve(classes, [1.0, 0.5, 0.9, 0.4, 0.9, 0.5, 1.0, 0.6, 1.0], batch_size=300)
    assert "batches" not in advice(diagnose(jumps, X, y))
    assert "batches" in advice(diagnose(jumps.set_params(batch_size=20), X, y))


# --- the same advice as the warnings of fit -------------------------------------------------------

PLANE = np.random.RandomState(0).randn(300, 2)
IGNORE_ENDS = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@IGNORE_ENDS
def test_a_rate_that_moves_nothing_is_said_to_be_too_low():
    y = PLANE[:, 0] > 0
    clf = BackpropClassifier((64,), learning_rate_init=1e-9, random_state=0).fit(PLANE, y)
    clf.intercepts_[0][:8] = -100.0
    found = diagnose(clf, PLANE, y)
    (rate,) = [finding for finding in found.findings if finding.topic == "learning rate"]
    assert "learning_rate_init=1e-09 is too low" in rate.seen
    assert "find_learning_rate" in rate.fix
    assert {"dead units", "under-fitting"} <= found.topics
    for wrong in ("lower learning_rate_init", "more epochs", "1e-08"):
        assert wrong not in advice(found)
    dead = next(finding for finding in found.findings if finding.topic == "dead units")
    assert "They began there" in dead.seen


@IGNORE_ENDS
def test_dead_units_do_not_ask_for_a_lower_rate_where_a_higher_one_is_advised(classes):
    clf = with_curve(classes, np.geomspace(1.0, 0.6, 40))
    clf.intercepts_[0][:4] = -100.0
    found = diagnose(clf, *classes)
    assert {"dead units", "more epochs"} <= found.topics
    assert "higher learning_rate_init" in advice(found)
    assert "lower learning_rate_init" not in advice(found)


@IGNORE_ENDS
def test_targets_of_small_spread_are_named_as_fit_names_them():
    y = 1e-3 * PLANE[:, 0]
    reg = BackpropRegressor(hidden_layer_sizes=(8,), random_state=0)
    with pytest.warns(ConvergenceWarning, match=r"standard deviation 0\.00101 .*scale_targets"):
        reg.fit(PLANE, y)
    (finding,) = [f for f in diagnose(reg, PLANE, y).findings if f.topic == "unscaled targets"]
    assert "standard deviation 0.00101" in finding.seen
    assert finding.fix == "set scale_targets=True."
    reg = BackpropRegressor(hidden_layer_sizes=(), solver="lbfgs", tol=1e-12).fit(PLANE, y)
    assert "unscaled targets" not in diagnose(reg, PLANE, y).topics


@IGNORE_ENDS
@pytest.mark.parametrize("loss", ["poisson", "gamma", "tweedie"])
def test_losses_with_a_link_are_not_told_to_scale_targets(loss):
    y = np.exp(PLANE[:, 0])
    reg = BackpropRegressor(loss, (8,), max_iter=5, dtype="float64", random_state=0).fit(PLANE, y)
    found = diagnose(reg, 1e4 * PLANE, y)
    assert "not finite" in found.topics
    assert "scale_targets" not in advice(found)
    found = diagnose(reg, 1e4 * PLANE, 1e3 * y)
    assert "divide y by its mean" in advice(found)
    pipe = make_pipeline(StandardScaler(), reg).fit(PLANE, y)
    assert "StandardScaler" not in advice(diagnose(pipe, 1e5 * PLANE, y))


@pytest.mark.filterwarnings("ignore:y has only one class")
@IGNORE_ENDS
def test_a_y_without_variety_is_all_there_is_to_say():
    clf = BackpropClassifier((8,), max_iter=6, random_state=0).fit(PLANE, ["a"] * 300)
    (finding,) = diagnose(clf, PLANE, ["a"] * 300).findings
    assert (finding.topic, finding.severity) == ("constant y", "problem")
    assert "only one class, 'a'" in finding.seen
    reg = BackpropRegressor(hidden_layer_sizes=(8,), max_iter=6, random_state=0)
    (finding,) = diagnose(reg.fit(PLANE, np.full(300, 7.0)), PLANE, np.full(300, 7.0)).findings
    assert "the same for every sample" in finding.seen
