"""The judge judged: the NumPy reference against central differences and against scikit-learn."""

import numpy as np
import pytest
import reference
from covering import cover_pairs, naming
from problems import draw_classes, draw_features, draw_regression, draw_targets, draw_weights
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor

SKLEARN_ACTIVATIONS = ["identity", "logistic", "tanh", "relu"]
SKLEARN_LOSSES = {"log_loss": 3, "binary_log_loss": 1, "squared_error": 1, "poisson": 1}


@pytest.mark.parametrize("loss", reference.LOSSES)
def test_gradient_equals_central_differences(loss):
    for activation in reference.ACTIVATIONS:
        with naming(activation):
            check_central_differences(activation, loss)


def check_central_differences(activation, loss):
    """Compare a gradient with the values at both sides of every parameter."""
    rng = np.random.default_rng(0)
    sizes, activations = (3, 4, 2, 3), [activation, "tanh"]
    X, targets = draw_features(9, 3, rng), draw_targets(loss, 9, 3, rng)
    params = rng.uniform(-0.7, 0.7, reference.count_parameters(sizes))
    job = (sizes, activations, loss, X, targets, draw_weights("some zeros", 9, rng))
    _, gradient = reference.loss_and_gradient(params, *job, alpha=0.3, mean_gradient=True)
    step = 1e-6 * np.eye(len(params))
    for k in range(len(params)):
        above = reference.loss_and_gradient(params + step[k], *job, alpha=0.3)[0]
        below = reference.loss_and_gradient(params - step[k], *job, alpha=0.3)[0]
        assert gradient[k] == pytest.approx((above - below) / 2e-6, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize(
    ("activation", "loss", "solver", "weighted"),
    cover_pairs(SKLEARN_ACTIVATIONS, SKLEARN_LOSSES, ["sgd", "adam"], [False, True]),
)
def test_ten_epochs_equal_scikit_learn(activation, solver, loss, weighted):
    n, n_features, hidden = 50, 4, (6, 3)
    if loss.endswith("log_loss"):
        X, y = draw_classes(n, n_features, max(2, SKLEARN_LOSSES[loss]))
        estimator, kwargs = MLPClassifier, {}
    else:
        X, y = draw_regression(n, n_features)
        y = np.abs(y) if loss == "poisson" else y
        estimator, kwargs = MLPRegressor, {"loss": loss}
    weight = np.random.default_rng(1).uniform(0.1, 2, n) if weighted else None
    model = estimator(
        hidden_layer_sizes=hidden, activation=activation, solver=solver, alpha=0.01, batch_size=16,
        learning_rate_init=0.01, max_iter=10, random_state=3, tol=0, **kwargs,
    )  # fmt: skip
    with pytest.warns(ConvergenceWarning):
        model.fit(X, y, sample_weight=weight)

    random_state = np.random.RandomState(3)
    sizes = (n_features, *hidden, SKLEARN_LOSSES[loss])
    factor = 2.0 if activation == "logistic" else 6.0
    params = reference.draw_parameters(sizes, random_state, factor)
    order, orders = np.arange(n), []
    for _ in range(10):
        random_state.shuffle(order)
        orders.append(order.copy())
    hyper = {"momentum": 0.9, "nesterovs_momentum": True}
    if solver == "adam":
        hyper = {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8}
    params, losses, _, t = reference.train(
        params, sizes, [activation] * 2, loss, X, y[:, None], weight, orders, batch_size=16,
        alpha=0.01, learning_rate=0.01, optimizer=solver, hyper=hyper,
    )  # fmt: skip
    np.testing.assert_allclose(losses, model.loss_curve_, rtol=1e-12, atol=0)
    for (W, b), coef, intercept in zip(
        reference.split(params, sizes), model.coefs_, model.intercepts_, strict=True
    ):
        np.testing.assert_allclose(W, coef, rtol=0, atol=1e-12)
        np.testing.assert_allclose(b, intercept, rtol=0, atol=1e-12)
    assert t == 40


@pytest.mark.parametrize("kind", ["activation", "loss", "optimizer"])
def test_missing_reference_is_a_sentence(kind):
    with pytest.raises(LookupError, match=f"no reference for {kind} 'x'"):
        getattr(reference, f"find_{kind}")("x")


@pytest.mark.parametrize("kind", ["activation", "loss", "optimizer"])
def test_every_row_has_a_reference(kind):
    from fastbp import activations, losses, optimizers

    tables = {
        "activation": activations.ACTIVATIONS,
        "loss": losses.LOSSES,
        "optimizer": optimizers.OPTIMIZERS,
    }
    for name in tables[kind]:
        getattr(reference, f"find_{kind}")(name)
