"""scikit-learn's own estimator checks, for both estimators at many settings."""

from unittest import SkipTest

import numpy as np
import pytest
from covering import as_repeat, cover_pairs, naming
from engines import ENGINES
from problems import draw_classes, draw_regression
from sklearn.base import TransformerMixin, clone, is_classifier
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.neural_network._base import ACTIVATIONS
from sklearn.utils.estimator_checks import estimator_checks_generator
from sklearn.utils.validation import check_is_fitted, validate_data

from fastbp import BackpropClassifier, BackpropRegressor
from fastbp.losses import Gamma, Huber, LogLoss

# Through fit_transform, a warning that training was short does not come from the checks' own lines.
pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:y has only one class:RuntimeWarning"),
]

ESTIMATORS = [BackpropClassifier, BackpropRegressor]


class _Transforming(TransformerMixin):
    """scikit-learn's MLP with the transform that it lacks, so that it can take the same checks."""

    def transform(self, X):
        check_is_fitted(self)
        a = validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)
        for weights, biases in zip(self.coefs_[:-1], self.intercepts_[:-1], strict=True):
            a = a @ weights + biases
            ACTIVATIONS[self.activation](a)
        return a

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


class TransformingClassifier(_Transforming, MLPClassifier):
    pass


class TransformingRegressor(_Transforming, MLPRegressor):
    pass


PEERS = {BackpropClassifier: TransformingClassifier, BackpropRegressor: TransformingRegressor}

# They compare two long trainings at 1e-7: beyond float32, which is held at 1e-2 by
# test_zero_weight_equals_absence_and_two_equals_twice, and beyond what holds out rows, takes other
# minibatches or ends far from a minimum, where scikit-learn's MLP fails them too.
WEIGHTS_AS_REPETITION = {
    "check_sample_weight_equivalence_on_dense_data",
    "check_sample_weight_equivalence_on_sparse_data",
}


# Checks that skip themselves: MLPs have no decision_function and take no array API input.
NOT_FOR_MLPS = {
    "check_array_api_input",
    "check_classifiers_multilabel_output_format_decision_function",
}


NOT_POSITIVE = (
    "check_regressor_multioutput",
    "check_transformer_data_not_an_array",
    "check_transformer_general",
    "check_transformer_preserve_dtypes",
    "check_transformer_n_iter",
)


def run(check, estimator):
    """Run a check; it may find itself inapplicable only if it is one of those named above."""
    with naming(check.func.__name__):
        try:
            check(estimator)
        except SkipTest as skipped:
            without_pandas = "pandas is not installed" in str(skipped)
            if check.func.__name__ not in NOT_FOR_MLPS and not without_pandas:
                raise AssertionError("this check skips itself") from skipped


def run_checks(estimator, *, failing=(), left_out=(), at_least=50):
    """Run every check of scikit-learn; those named as failing must fail."""
    names = set()
    for each, check in estimator_checks_generator(estimator):
        name = check.func.__name__
        names.add(name)
        if name in failing:
            with naming(name), pytest.raises((ValueError, AssertionError)):
                check(clone(each))
        elif name not in left_out:
            run(check, clone(each))
    assert len(names) >= at_least
    assert names.issuperset((*failing, *left_out))


@pytest.mark.parametrize(
    ("kind", "dtype", "engine_name"), cover_pairs(ESTIMATORS, [None, "float64"], ENGINES)
)
def test_checks_in_float64(kind, dtype, engine_name):
    run_checks(kind(dtype=dtype, engine=engine_name))


@pytest.mark.parametrize(
    "estimator",
    [
        as_repeat(BackpropRegressor(Huber(), activation="gelu", dtype="float64")),
        BackpropRegressor(Gamma(), activation="elu", dtype="float64"),
        BackpropRegressor("quantile", init="he", dtype="float64"),
        BackpropClassifier(loss=LogLoss(label_smoothing=0.1), activation="selu", dtype="float64"),
        as_repeat(BackpropClassifier(loss="focal", activation="mish", dtype="float64")),
    ],
    ids=lambda estimator: str(estimator.activation) + "-" + str(estimator.init),
)
def test_checks_with_other_losses(estimator):
    """Of `Gamma` some fail: their y is not positive, whatever the tags say."""
    run_checks(estimator, failing=NOT_POSITIVE if isinstance(estimator.loss, Gamma) else ())


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_checks_at_the_float32_default(kind):
    run_checks(kind(), left_out=WEIGHTS_AS_REPETITION)


# --- nothing that scikit-learn's MLP passes fails -------------------------------------------------

SETTINGS = [
    dict(solver="sgd", learning_rate="adaptive", learning_rate_init=0.1),
    dict(solver="sgd", learning_rate="invscaling", learning_rate_init=0.5, power_t=0.1),
    # With little regularisation its probabilities become 0 and `predict_log_proba` of
    # scikit-learn -inf, which one check compares; ours is finite by design.
    dict(solver="lbfgs", alpha=0.3, hidden_layer_sizes=(10,)),
    dict(activation="tanh", hidden_layer_sizes=(5, 4), learning_rate_init=0.02),
    dict(activation="logistic", hidden_layer_sizes=(), learning_rate_init=0.05),
    dict(early_stopping=True, validation_fraction=0.3),
    dict(warm_start=True),
    dict(shuffle=False, batch_size=3, alpha=1.0),
]


def test_the_checks_of_transformers_run():
    for kind in ESTIMATORS:
        names = {check.func.__name__ for _, check in estimator_checks_generator(kind())}
        assert {"check_transformer_general", "check_transformer_preserve_dtypes"} <= names


def compares_weights(settings):
    """Whether weights can be compared with repeated rows at these settings."""
    return not settings.keys() & {"early_stopping", "shuffle", "power_t", "alpha"}


# Each setting with one of the two; `--whole` runs the other pairs.
TURNS = [
    (ours, settings) if (at + which) % 2 == 0 else as_repeat((ours, settings))
    for which, ours in enumerate(ESTIMATORS)
    for at, settings in enumerate(SETTINGS)
]


@pytest.mark.parametrize(("ours", "settings"), TURNS, ids=str)
def test_no_check_fails_that_scikit_learn_passes(ours, settings):
    """The peer has the same settings."""
    estimator, peer = ours(dtype=None, **settings), PEERS[ours](**settings)
    left_out = () if compares_weights(settings) else WEIGHTS_AS_REPETITION
    for _, check in estimator_checks_generator(estimator):
        if check.func.__name__ in left_out:
            continue
        try:
            run(check, clone(estimator))
        except Exception:
            try:
                check.func(type(peer).__name__, clone(peer), *check.args[1:], **check.keywords)
            except Exception:
                continue  # scikit-learn's MLP fails it too
            raise


# --- what float32 is excused from above -----------------------------------------------------------


@pytest.mark.parametrize("make", [np.asarray, pytest.param("csr", id="csr")])
@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
def test_zero_weight_equals_absence_and_two_equals_twice(kind, make, solver):
    """At float32 the two trainings agree to 1e-2 (full batch, natural order, as in the check)."""
    from scipy import sparse

    X, y = draw_classes(40, 6, 3) if is_classifier(kind()) else draw_regression(40, 6)
    make = sparse.csr_array if make == "csr" else make
    weight = np.random.default_rng(0).integers(0, 4, len(X))
    repeated = np.repeat(np.arange(len(X)), weight)
    model = kind(
        solver=solver, batch_size=len(repeated), shuffle=False, max_iter=60, tol=0.0,
        random_state=0, hidden_layer_sizes=(10,), learning_rate_init=0.01,
    )  # fmt: skip
    ours, theirs = clone(model).set_params(batch_size=len(X)), clone(model)
    with pytest.warns(UserWarning, match="iterations|Iterations|lbfgs"):
        ours.fit(make(X), y, sample_weight=weight.astype(float))
    with pytest.warns(UserWarning, match="iterations|Iterations|lbfgs"):
        theirs.fit(make(X[repeated]), y[repeated])
    predict = "predict_proba" if is_classifier(model) else "predict"
    np.testing.assert_allclose(
        getattr(ours, predict)(X), getattr(theirs, predict)(X), rtol=0, atol=1e-2
    )
