"""Small data sets of every kind, drawn from a seed; no assertions.

Of fastbp there are only its tables: which targets a loss takes, which numbers a solver.
"""

from dataclasses import dataclass

import numpy as np
import reference
from scipy import sparse

from fastbp.losses import LOSSES
from fastbp.optimizers import OPTIMIZERS

# The hyper-parameters of each stochastic optimiser that the tests run: its own, or values that
# matter more.
HYPERPARAMETERS = {name: row.get_params() for name, row in OPTIMIZERS.items() if row.stochastic} | {
    "sgd": {"momentum": 0.9, "nesterovs_momentum": True},
    "adam": {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8},
    "adamw": {"beta_1": 0.8, "beta_2": 0.99, "epsilon": 1e-8, "weight_decay": 0.5},
    "rmsprop": {"beta_2": 0.95, "epsilon": 1e-6, "momentum": 0.5},
    "lion": {"beta_1": 0.9, "beta_2": 0.99, "weight_decay": 0.3},
}

LEARNING_RATES = dict.fromkeys(HYPERPARAMETERS, 0.001) | {
    "sgd": 0.005, "adam": 0.01, "adamw": 0.01, "rmsprop": 0.002, "lion": 0.003,
}  # fmt: skip


def draw_targets(loss, n_samples, n_outputs, rng):
    """Return float64 targets of the shape that a loss takes as the engine takes them."""
    row = LOSSES[loss]
    shape = (n_samples, n_outputs if row.target == "real" else 1)
    if row.target == "class":
        return rng.integers(0, n_outputs, shape).astype(float)
    if row.task == "binary":
        return rng.integers(0, 2, shape).astype(float)
    if row.target_min is None:
        return rng.standard_normal(shape)
    if row.above_min:
        return row.target_min + rng.gamma(2.0, 0.5, shape) + 0.01
    return row.target_min + rng.poisson(1.0, shape)


def draw_features(n_samples, n_features, rng, density=None):
    """Return float64 features: dense, or CSR with rows that may be empty."""
    X = rng.standard_normal((n_samples, n_features))
    if density is None:
        return X
    return sparse.csr_matrix(X * (rng.random((n_samples, n_features)) < density))


def draw_weights(kind, n_samples, rng):
    """Return sample weights: None, or positive ones with some zeros among them."""
    if kind is None:
        return None
    weight = rng.uniform(0.2, 2.0, n_samples)
    weight[rng.random(n_samples) < 0.2] = 0.0
    return weight


def draw_classes(n_samples, n_features, n_classes, seed=0):
    """Return learnable (X, y) with string-free integer classes, every class present."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n_samples, n_features))
    scores = X @ rng.standard_normal((n_features, n_classes))
    scores += 0.3 * rng.standard_normal(scores.shape)
    y = scores.argmax(axis=1)
    y[:n_classes] = np.arange(n_classes)
    return X, y


def draw_labels(n_samples, n_features, n_labels, seed=0):
    """Return (X, Y) for multilabel classification."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n_samples, n_features))
    return X, (X @ rng.standard_normal((n_features, n_labels)) > 0).astype(int)


def draw_regression(n_samples, n_features, n_outputs=1, seed=0):
    """Return learnable (X, y); y is 1-D for one output."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n_samples, n_features))
    y = np.tanh(X @ rng.standard_normal((n_features, n_outputs)))
    y += 0.1 * rng.standard_normal(y.shape)
    return X, y[:, 0] if n_outputs == 1 else y


def draw_counts(n_samples, n_features, seed=0):
    """Return (X, y) with Poisson counts."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n_samples, n_features))
    return X, rng.poisson(np.exp(0.4 * X[:, 0] - 0.2 * X[:, -1])).astype(float)


@dataclass(frozen=True)
class Problem:
    """What one engine session works on, in float64: the network, the data, the starting point."""

    sizes: tuple
    activations: tuple
    loss: str
    X: object
    targets: np.ndarray
    sample_weight: np.ndarray | None
    params: np.ndarray

    def in_dtype(self, dtype):
        """Return arrays (X, targets, sample_weight, params) of a dtype."""
        weight = self.sample_weight
        return (
            self.X.astype(dtype),
            self.targets.astype(dtype),
            None if weight is None else weight.astype(dtype),
            self.params.astype(dtype),
        )


def draw_problem(
    sizes,
    *,
    activation="relu",
    loss="squared_error",
    n_samples=60,
    density=None,
    weighted=False,
    seed=0,
):
    """Return a `Problem` for a network of these layer sizes."""
    rng = np.random.default_rng(seed)
    return Problem(
        sizes=tuple(sizes),
        activations=(activation,) * (len(sizes) - 2),
        loss=loss,
        X=draw_features(n_samples, sizes[0], rng, density),
        targets=draw_targets(loss, n_samples, sizes[-1], rng),
        sample_weight=draw_weights("some zeros" if weighted else None, n_samples, rng),
        params=reference.draw_parameters(sizes, np.random.RandomState(seed)),
    )
