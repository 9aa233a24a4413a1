"""The jobs: network, batch, optimiser and synthetic data of each row of the table, and the judge.

A workload knows nothing of any library and nothing of clocks.  It draws its own data, the initial
weights and every shuffle, so that all contenders start at one point and see the rows in one order;
and it computes the final loss from a contender's weights in float64, so that nobody wins by doing
less.

Initial weights and shuffles are drawn as scikit-learn draws them for ``random_state=SEED``:
scikit-learn and fastbp draw them inside ``fit``, the others get them ready-made and free of charge.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

SEED = 0


@dataclass(frozen=True)
class Workload:
    """One training job.

    Attributes
    ----------
    name : str
    layers : tuple of int
        Units per layer from the features to the outputs; one output means regression with squared
        error, more outputs mean classes with softmax and log loss.
    n_samples, batch_size : int
    solver : {"adam", "sgd"}
    momentum : float
        Nesterov momentum of sgd; 0 is plain sgd.
    n_epochs : int
        Epochs of a timed fit, beyond the one epoch of the short fit that is subtracted.
    cold_epochs : int
        Epochs of the complete fit in a fresh process.
    """

    name: str
    layers: tuple
    n_samples: int
    batch_size: int
    n_epochs: int
    solver: str = "adam"
    momentum: float = 0.0
    activation: str = "relu"
    learning_rate: float = 1e-3
    alpha: float = 1e-4
    cold_epochs: int = 20

    @property
    def is_classifier(self):
        return self.layers[-1] > 1

    @property
    def n_steps(self):
        """Minibatches per epoch, the last one perhaps smaller."""
        return -(-self.n_samples // self.batch_size)

    @property
    def flops_per_epoch(self):
        """Floating-point operations of the matrix products (a multiply-add counts two).

        Forward and weight gradient touch every weight, the input gradient all but the first
        layer's: ``2 n (2 |W| + |W| - |W_1|)``.
        """
        sizes = [n_in * n_out for n_in, n_out in pairwise(self.layers)]
        return 2 * self.n_samples * (3 * sum(sizes) - sizes[0])

    def estimator_parameters(self, n_epochs):
        """Return the constructor arguments shared by scikit-learn's estimators and fastbp's."""
        return {
            "hidden_layer_sizes": self.layers[1:-1],
            "activation": self.activation,
            "solver": self.solver,
            "alpha": self.alpha,
            "batch_size": self.batch_size,
            "learning_rate_init": self.learning_rate,
            "momentum": self.momentum,
            "nesterovs_momentum": self.momentum > 0,
            "max_iter": n_epochs,
            "random_state": SEED,
            "tol": 0.0,
            "n_iter_no_change": 10**6,
        }

    def data(self, dtype):
        """Read-only ``X (n_samples, n_features)`` and ``y (n_samples,)``, real or class codes."""
        return _draw_data(self.n_samples, self.layers[0], self.layers[-1], np.dtype(dtype).name)

    def initial_parameters_and_orders(self, dtype, n_epochs):
        """Return coefs, intercepts and one order of the rows per epoch, as scikit-learn draws."""
        random_state = np.random.RandomState(SEED)
        factor = 2.0 if self.activation == "logistic" else 6.0
        coefs, intercepts = [], []
        for n_in, n_out in pairwise(self.layers):
            bound = np.sqrt(factor / (n_in + n_out))
            coefs.append(random_state.uniform(-bound, bound, (n_in, n_out)).astype(dtype))
            intercepts.append(random_state.uniform(-bound, bound, n_out).astype(dtype))
        order, orders = np.arange(self.n_samples), []
        for _ in range(n_epochs):
            indices = np.arange(self.n_samples)
            random_state.shuffle(indices)
            order = order[indices]
            orders.append(order)
        return coefs, intercepts, orders

    def loss(self, coefs, intercepts, dtype):
        """Mean data loss over all rows in float64: the judge."""
        X, y = self.data(dtype)
        total = 0.0
        for start in range(0, self.n_samples, 4096):
            rows = slice(start, start + 4096)
            total += self._sum_loss(
                _raw_scores(X[rows], coefs, intercepts, self.activation), y[rows]
            )
        return total / self.n_samples

    def _sum_loss(self, scores, y):
        if not self.is_classifier:
            return 0.5 * np.sum((scores[:, 0] - y) ** 2, dtype=np.float64)
        highest = scores.max(axis=1)
        log_sum = highest + np.log(np.exp(scores - highest[:, None]).sum(axis=1))
        return np.sum(log_sum - scores[np.arange(len(y)), y])


def _raw_scores(X, coefs, intercepts, activation):
    functions = {
        "identity": lambda z: z,
        "relu": lambda z: np.maximum(z, 0.0),
        "tanh": np.tanh,
        "logistic": lambda z: 0.5 + 0.5 * np.tanh(0.5 * z),
    }
    a = np.asarray(X, dtype=np.float64)
    for layer, (W, b) in enumerate(zip(coefs, intercepts, strict=True)):
        a = a @ np.asarray(W, dtype=np.float64) + np.asarray(b, dtype=np.float64)
        if layer < len(coefs) - 1:
            a = functions[activation](a)
    return a


@lru_cache(maxsize=4)
def _draw_data(n_samples, n_features, n_outputs, dtype):
    """Draw standard normal features; the target is a noisy linear teacher's answer."""
    rng = np.random.default_rng(SEED)
    X = rng.standard_normal((n_samples, n_features), dtype=np.float32).astype(dtype)
    teacher = rng.standard_normal((n_features, n_outputs)) / np.sqrt(n_features)
    scores = X @ teacher + 0.3 * rng.standard_normal((n_samples, n_outputs))
    y = scores.argmax(axis=1) if n_outputs > 1 else np.tanh(scores[:, 0]).astype(dtype)
    X.flags.writeable = y.flags.writeable = False
    return X, y


_SGD = {"solver": "sgd", "learning_rate": 1e-2}

WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("f1", (20, 16, 1), 1_000, 1, n_epochs=5, **_SGD),
        Workload("f8", (20, 16, 1), 8_000, 8, n_epochs=5, **_SGD),
        Workload("g", (4, 10, 3), 3_200, 32, n_epochs=20),
        Workload("b", (10, 32, 32, 1), 6_400, 64, n_epochs=20),
        Workload("a", (64, 100, 10), 1_800, 200, n_epochs=100),
        Workload("c", (54, 256, 256, 7), 25_600, 256, n_epochs=3),
        Workload("d", (784, 512, 256, 10), 6_400, 128, n_epochs=4, momentum=0.9, **_SGD),
        Workload("e", (1000, 1024, 1024, 1), 5_120, 512, n_epochs=2),
        Workload(
            "h",
            (28, 300, 300, 300, 300, 300, 1),
            10_000,
            100,
            n_epochs=3,
            cold_epochs=3,
            activation="tanh",
        ),
        Workload("iris", (4, 10, 3), 150, 32, n_epochs=200, cold_epochs=200),
        Workload("digits", (64, 100, 10), 1_797, 200, n_epochs=100),
        Workload("fashion", (784, 100, 10), 60_000, 200, n_epochs=2),
    )
}
