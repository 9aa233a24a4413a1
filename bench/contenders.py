"""The contenders: one class per library, each doing the same job in that library's best manner.

A contender is built for (workload, dtype, longest fit, threads); building prepares the data in the
library's own form and is never timed.  ``fit(n_epochs)`` is a whole training from the workload's
initial weights, ``parameters()`` hands the weights to the judge.  Every contender also records the
mean loss of each epoch, because scikit-learn's ``fit`` does.  Libraries are imported when a
contender is built, so an absent one costs a printed line and nothing else.

Differences of the job that remain, all small: scikit-learn, fastbp and the JAX loop put Adam's
epsilon outside the bias correction, PyTorch inside; PyTorch's weight decay also shrinks the biases.
"""

import importlib.util
import math
import os
import tempfile

import numpy as np


class Contender:
    """What the bench asks of a library.  ``packages`` are the imports it needs."""

    name = ""
    packages = ()

    def __init__(self, workload, dtype, max_epochs, n_threads):
        self.workload, self.dtype, self.n_threads = workload, np.dtype(dtype), n_threads
        self.max_epochs = max_epochs
        self.X, self.y = workload.data(dtype)

    @classmethod
    def missing(cls):
        """Names of the packages that are not installed."""
        return [name for name in cls.packages if importlib.util.find_spec(name) is None]

    def draws(self):
        """Return initial coefs and intercepts, and the order of the rows for each epoch."""
        return self.workload.initial_parameters_and_orders(self.dtype, self.max_epochs)

    def minibatches(self, order):
        """Slices of ``order``, one per step."""
        size = self.workload.batch_size
        return [order[start : start + size] for start in range(0, len(order), size)]

    def fit(self, n_epochs):
        raise NotImplementedError

    def parameters(self):
        """Return coefs (n_in, n_out) and intercepts of the last fit."""
        raise NotImplementedError

    def predict(self, X):
        """Class codes or real predictions of the last fit for rows X of the contender's dtype."""
        raise NotImplementedError


class EstimatorContender(Contender):
    """fastbp and scikit-learn: the same constructor, ``fit`` and fitted attributes."""

    def estimator(self, n_epochs):
        raise NotImplementedError

    def fit(self, n_epochs):
        self.model = self.estimator(n_epochs).fit(self.X, self.y)

    def parameters(self):
        return self.model.coefs_, self.model.intercepts_

    def predict(self, X):
        return self.model.predict(X)


class FastBP(EstimatorContender):
    """fastbp's estimators at the dtype of the row; ``n_threads`` is a ceiling, as for users."""

    name = "fastbp"
    packages = ("fastbp",)
    engine = "auto"

    def __init__(self, *args):
        super().__init__(*args)
        from fastbp import BackpropClassifier, BackpropRegressor

        self.make = BackpropClassifier if self.workload.is_classifier else BackpropRegressor

    def estimator(self, n_epochs):
        return self.make(
            **self.workload.estimator_parameters(n_epochs),
            dtype=self.dtype.name,
            n_threads=self.n_threads,
            engine=self.engine,
        )


class FastBPOneThread(FastBP):
    """fastbp held to one thread, so that the gain of threads is a ratio within one run."""

    name = "fastbp, 1 thread"

    def __init__(self, workload, dtype, max_epochs, n_threads):
        super().__init__(workload, dtype, max_epochs, 1)


class FastBPNumba(FastBP):
    """fastbp's second engine (one thread)."""

    name = "fastbp, numba"
    packages = ("fastbp", "numba")
    engine = "numba"


class FastBPNumbaUncached(FastBPNumba):
    """The same, with an empty cache folder: for the first fit ever, in a process of its own."""

    name = "fastbp, numba uncached"

    def __init__(self, *args):
        self.cache = tempfile.TemporaryDirectory()
        os.environ["NUMBA_CACHE_DIR"] = self.cache.name  # read when Numba is imported, by the fit
        super().__init__(*args)


def own_relu(z):
    return z if z > 0 else 0.0


def own_tanh(z):
    return math.tanh(z)


def own_logistic(z):
    return 1 / (1 + math.exp(-z))


def own_identity(z):
    return z


def own_squared_error(y_true, raw):
    return 0.5 * (y_true - raw) ** 2


class FastBPOwnFunctions(FastBP):
    """fastbp with the row's activation, and squared error, written by a user."""

    name = "fastbp, own functions"
    packages = ("fastbp", "numba")

    def estimator(self, n_epochs):
        own = {f.__name__: f for f in (own_relu, own_tanh, own_logistic, own_identity)}
        model = super().estimator(n_epochs)
        model.set_params(activation=own[f"own_{self.workload.activation}"])
        if not self.workload.is_classifier:
            model.set_params(loss=own_squared_error)
        return model


class ScikitLearn(EstimatorContender):
    """MLPClassifier / MLPRegressor with BLAS limited to the cell's threads."""

    name = "scikit-learn"
    packages = ("sklearn",)

    def __init__(self, *args):
        super().__init__(*args)
        from sklearn.neural_network import MLPClassifier, MLPRegressor
        from threadpoolctl import ThreadpoolController

        self.make = MLPClassifier if self.workload.is_classifier else MLPRegressor
        self.blas = ThreadpoolController()

    def estimator(self, n_epochs):
        return self.make(**self.workload.estimator_parameters(n_epochs))

    def fit(self, n_epochs):
        with self.blas.limit(limits=self.n_threads, user_api="blas"):
            super().fit(n_epochs)

    def predict(self, X):
        with self.blas.limit(limits=self.n_threads, user_api="blas"):
            return super().predict(X)


class TorchContender(Contender):
    """What the PyTorch contenders share: tensors over the same memory and the network."""

    packages = ("torch",)

    def __init__(self, *args):
        super().__init__(*args)
        import torch

        self.torch = torch
        torch.set_num_threads(self.n_threads)
        coefs, intercepts, orders = self.draws()
        pairs = zip(map(torch.from_numpy, coefs), map(torch.from_numpy, intercepts), strict=True)
        self.initial = list(pairs)
        self.orders = [torch.from_numpy(order) for order in orders]
        self.X_tensor = torch.from_numpy(self.X.copy())
        targets = self.y.copy() if self.workload.is_classifier else self.y.copy()[:, None]
        self.target_tensor = torch.from_numpy(targets)

    def network(self):
        """Linear layers with the initial weights copied in, activations between them."""
        torch, nn = self.torch, self.torch.nn
        activations = {
            "identity": nn.Identity,
            "relu": nn.ReLU,
            "tanh": nn.Tanh,
            "logistic": nn.Sigmoid,
        }
        modules = []
        for W, b in self.initial:
            linear = nn.utils.skip_init(nn.Linear, *W.shape, dtype=W.dtype)
            with torch.no_grad():
                linear.weight.copy_(W.T)
                linear.bias.copy_(b)
            modules += [linear, activations[self.workload.activation]()]
        return nn.Sequential(*modules[:-1])

    def optimizer_class_and_parameters(self):
        """Return the fused optimiser; decay = alpha / batch size is scikit-learn's L2."""
        job, optim = self.workload, self.torch.optim
        shared = {
            "lr": job.learning_rate,
            "weight_decay": job.alpha / job.batch_size,
            "fused": True,
        }
        if job.solver == "adam":
            return optim.Adam, shared
        return optim.SGD, dict(shared, momentum=job.momentum, nesterov=job.momentum > 0)

    def parameters(self):
        linears = [m for m in self.model if isinstance(m, self.torch.nn.Linear)]
        coefs = [linear.weight.detach().numpy().T for linear in linears]
        return coefs, [linear.bias.detach().numpy() for linear in linears]

    def predict(self, X):
        with self.torch.inference_mode():
            scores = self.model(self.torch.from_numpy(X)).numpy()
        return scores.argmax(axis=1) if self.workload.is_classifier else scores[:, 0]


class TorchEager(TorchContender):
    """The loop of every PyTorch tutorial, with the fused optimiser."""

    name = "torch eager"

    def fit(self, n_epochs):
        functional = self.torch.nn.functional
        classify = self.workload.is_classifier
        self.model = model = self.network()
        optimizer_class, parameters = self.optimizer_class_and_parameters()
        optimizer = optimizer_class(model.parameters(), **parameters)
        self.loss_curve = []
        for epoch in range(n_epochs):
            total = self.torch.zeros((), dtype=self.X_tensor.dtype)
            for rows in self.minibatches(self.orders[epoch]):
                optimizer.zero_grad(set_to_none=True)
                scores, target = model(self.X_tensor[rows]), self.target_tensor[rows]
                if classify:
                    loss = functional.cross_entropy(scores, target)
                else:
                    loss = 0.5 * functional.mse_loss(scores, target)
                loss.backward()
                optimizer.step()
                total += loss.detach() * len(rows)
            self.loss_curve.append(total.item() / len(self.X))


class Skorch(TorchContender):
    """NeuralNetClassifier / NeuralNetRegressor around the same module and optimiser."""

    name = "skorch"
    packages = ("torch", "skorch")

    def __init__(self, *args):
        super().__init__(*args)
        self.X = self.X.copy()
        self.y = self.target_tensor.numpy()

    def fit(self, n_epochs):
        import skorch

        job, orders = self.workload, iter(self.orders)

        class InDrawnOrder(self.torch.utils.data.Sampler):
            def __iter__(self):
                return iter(next(orders).tolist())

            def __len__(self):
                return job.n_samples

        class HalfSquaredError(self.torch.nn.MSELoss):
            def forward(self, scores, target):
                return 0.5 * super().forward(scores, target)

        kind = skorch.NeuralNetClassifier if job.is_classifier else skorch.NeuralNetRegressor
        optimizer_class, parameters = self.optimizer_class_and_parameters()
        self.net = kind(
            self.network(),
            criterion=self.torch.nn.CrossEntropyLoss if job.is_classifier else HalfSquaredError,
            optimizer=optimizer_class,
            batch_size=job.batch_size,
            max_epochs=n_epochs,
            iterator_train__sampler=InDrawnOrder(),
            train_split=None,
            verbose=0,
            callbacks__print_log=None,
            **{f"optimizer__{name}": value for name, value in parameters.items()},
        ).fit(self.X, self.y)
        self.model = self.net.module_

    def predict(self, X):
        predicted = self.net.predict(X)
        return predicted if self.workload.is_classifier else predicted[:, 0]
