"""The two contenders written as low as their libraries allow: PyTorch in place, JAX per epoch.

Both do the mathematics by hand, so they are apart from the tidy users of ``contenders.py``; the
rules of that file hold here too.
"""

import numpy as np

from bench.contenders import Contender, TorchContender


class TorchInPlace(TorchContender):
    """Forward, backward and update by hand into preallocated tensors, no autograd.

    Weights, gradients and optimiser state are each one flat tensor with views per layer, so that
    one call of PyTorch's fused update serves the whole network.
    """

    name = "torch in place"

    def fit(self, n_epochs):
        with self.torch.no_grad():
            self._allocate()
            self.loss_curve = []
            for epoch in range(n_epochs):
                total = 0.0
                for rows in self.minibatches(self.orders[epoch]):
                    total += self._forward_backward(rows) * len(rows)
                    self._update()
                self.loss_curve.append(float(total) / len(self.X))

    def parameters(self):
        return [W.numpy() for W in self.W], [b.numpy() for b in self.b]

    def _allocate(self):
        torch, job = self.torch, self.workload
        self.flat = torch.cat([part.reshape(-1) for pair in self.initial for part in pair])
        self.gradient = torch.zeros_like(self.flat)
        self.slots = [torch.zeros_like(self.flat) for _ in range(2)]
        self.step = torch.zeros(())
        self.first = True
        self.W, self.b = self._views(self.flat)
        self.grad_W, self.grad_b = self._views(self.gradient)
        rows, dtype = job.batch_size, self.flat.dtype
        self.a = [torch.empty(rows, width, dtype=dtype) for width in job.layers]
        self.delta = [torch.empty(rows, width, dtype=dtype) for width in job.layers]

    def _views(self, flat):
        weights, biases, offset = [], [], 0
        for W, b in self.initial:
            weights.append(flat[offset : offset + W.numel()].view(W.shape))
            offset += W.numel()
            biases.append(flat[offset : offset + b.numel()])
            offset += b.numel()
        return weights, biases

    def _forward_backward(self, rows):
        """Fill ``gradient`` for one minibatch and return its mean loss."""
        torch, n_layers = self.torch, len(self.W)
        a = [buffer[: len(rows)] for buffer in self.a]
        delta = [buffer[: len(rows)] for buffer in self.delta]
        torch.index_select(self.X_tensor, 0, rows, out=a[0])
        for layer in range(n_layers):
            torch.addmm(self.b[layer], a[layer], self.W[layer], out=a[layer + 1])
            if layer < n_layers - 1:
                self._activate(a[layer + 1])
        loss = self._loss_and_delta(a[-1], self.target_tensor[rows], delta[-1])
        for layer in reversed(range(n_layers)):
            torch.mm(a[layer].T, delta[layer + 1], out=self.grad_W[layer])
            torch.sum(delta[layer + 1], 0, out=self.grad_b[layer])
            if layer > 0:
                torch.mm(delta[layer + 1], self.W[layer].T, out=delta[layer])
                self._multiply_by_slope(a[layer], delta[layer])
        return loss

    def _activate(self, z):
        if self.workload.activation == "relu":
            z.relu_()
        elif self.workload.activation == "tanh":
            z.tanh_()
        elif self.workload.activation == "logistic":
            z.sigmoid_()

    def _multiply_by_slope(self, a, delta):
        aten = self.torch.ops.aten
        if self.workload.activation == "relu":
            aten.threshold_backward.grad_input(delta, a, 0, grad_input=delta)
        elif self.workload.activation == "tanh":
            aten.tanh_backward.grad_input(delta, a, grad_input=delta)
        elif self.workload.activation == "logistic":
            aten.sigmoid_backward.grad_input(delta, a, grad_input=delta)

    def _loss_and_delta(self, scores, target, delta):
        torch, n = self.torch, len(scores)
        if not self.workload.is_classifier:
            torch.sub(scores, target, out=delta)
            loss = 0.5 * delta.square().mean()
            delta.div_(n)
            return loss
        torch.log_softmax(scores, 1, out=delta)
        column = target[:, None]
        loss = -delta.gather(1, column).mean()
        delta.exp_().scatter_add_(1, column, delta.new_full((n, 1), -1.0)).div_(n)
        return loss

    def _update(self):
        torch, job = self.torch, self.workload
        shared = {
            "lr": job.learning_rate,
            "weight_decay": job.alpha / job.batch_size,
            "maximize": False,
        }
        if job.solver == "adam":
            self.step += 1
            torch._fused_adam_(
                [self.flat], [self.gradient], [self.slots[0]], [self.slots[1]], [], [self.step],
                beta1=0.9, beta2=0.999, eps=1e-8, amsgrad=False, **shared,
            )  # fmt: skip
            return
        torch._fused_sgd_(
            [self.flat], [self.gradient], [self.slots[0]] if job.momentum else [],
            momentum=job.momentum, nesterov=job.momentum > 0, dampening=0.0,
            is_first_step=self.first, **shared,
        )  # fmt: skip
        self.first = False


class JaxEpoch(Contender):
    """A whole epoch compiled: ``lax.scan`` over the minibatches, weights donated.

    JAX has no public switch for the number of CPU threads, so the cell's process is pinned to as
    many cores as it has threads (see ``measure.child_environment``).  The first call compiles.
    """

    name = "jax epoch"
    packages = ("jax",)

    def __init__(self, *args):
        super().__init__(*args)
        import jax

        jax.config.update("jax_enable_x64", self.dtype == np.float64)
        self.jax = jax
        coefs, intercepts, orders = self.draws()
        self.initial = list(zip(coefs, intercepts, strict=True))
        self.orders = [jax.numpy.asarray(order.astype(np.int32)) for order in orders]
        self.X_device = jax.numpy.asarray(self.X)
        self.y_device = jax.numpy.asarray(self.y)
        self.epoch = jax.jit(self._epoch, donate_argnums=0)

    def fit(self, n_epochs):
        jnp = self.jax.numpy
        params = [(jnp.array(W), jnp.array(b)) for W, b in self.initial]
        zeros = [(jnp.zeros_like(W), jnp.zeros_like(b)) for W, b in params]
        second = [(jnp.zeros_like(W), jnp.zeros_like(b)) for W, b in params]
        state = (params, zeros, second, jnp.zeros((), self.dtype))
        self.loss_curve = []
        for order in self.orders[:n_epochs]:
            state, loss = self.epoch(state, self.X_device, self.y_device, order)
            self.loss_curve.append(loss)
        self.params = self.jax.block_until_ready(state)[0]

    def parameters(self):
        return [np.asarray(W) for W, _ in self.params], [np.asarray(b) for _, b in self.params]

    def predict(self, X):
        if not hasattr(self, "scores"):
            self.scores = self.jax.jit(self._raw_scores)
        scores = np.asarray(self.scores(self.params, X))
        return scores.argmax(axis=1) if self.workload.is_classifier else scores[:, 0]

    def _raw_scores(self, params, X):
        jax = self.jax
        activation = {
            "identity": lambda z: z,
            "relu": jax.nn.relu,
            "tanh": jax.numpy.tanh,
            "logistic": jax.nn.sigmoid,
        }[self.workload.activation]
        for W, b in params[:-1]:
            X = activation(X @ W + b)
        return X @ params[-1][0] + params[-1][1]

    def _objective(self, params, X, y):
        """Mean loss plus scikit-learn's L2 term."""
        jnp = self.jax.numpy
        scores = self._raw_scores(params, X)
        if self.workload.is_classifier:
            log_p = self.jax.nn.log_softmax(scores)
            loss = -jnp.take_along_axis(log_p, y[:, None], axis=1).mean()
        else:
            loss = 0.5 * jnp.square(scores[:, 0] - y).mean()
        return loss + 0.5 * self.workload.alpha / len(X) * sum(jnp.vdot(W, W) for W, _ in params)

    def _step(self, state, X, y):
        params, m, v, t = state
        loss, grads = self.jax.value_and_grad(self._objective)(params, X, y)
        t = t + 1
        job, tree_map, sqrt = self.workload, self.jax.tree.map, self.jax.numpy.sqrt
        if job.solver == "adam":
            m = tree_map(lambda m, g: 0.9 * m + 0.1 * g, m, grads)
            v = tree_map(lambda v, g: 0.999 * v + 0.001 * g * g, v, grads)
            rate = job.learning_rate * sqrt(1 - 0.999**t) / (1 - 0.9**t)
            params = tree_map(lambda w, m, v: w - rate * m / (sqrt(v) + 1e-8), params, m, v)
        elif job.momentum == 0:
            params = tree_map(lambda w, g: w - job.learning_rate * g, params, grads)
        else:
            mu, rate = job.momentum, job.learning_rate
            m = tree_map(lambda m, g: mu * m - rate * g, m, grads)
            params = tree_map(lambda w, m, g: w + mu * m - rate * g, params, m, grads)
        return (params, m, v, t), loss * len(X)

    def _epoch(self, state, X, y, order):
        size, lax = self.workload.batch_size, self.jax.lax
        n_full = len(order) // size

        def step(state, rows):
            return self._step(state, X[rows], y[rows])

        state, losses = lax.scan(step, state, order[: n_full * size].reshape(n_full, size))
        total = losses.sum()
        if n_full * size < len(order):
            state, last = step(state, order[n_full * size :])
            total = total + last
        return state, total / len(order)
