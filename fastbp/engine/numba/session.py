"""Sessions of the Numba engine: buffers of a fit, epochs, and predictions without a session.

The Python around `minibatch`: what `fastbp.engine.native.engine.Session` does, with the same
arguments, in one thread.  Between two blocks of minibatches (`LOOK_S` seconds of them) Python looks
for signals, so a KeyboardInterrupt ends training after the last completed step.
"""

import threading
import time
from functools import wraps
from itertools import pairwise
from types import SimpleNamespace

import numpy as np

from fastbp.engine import contract
from fastbp.engine.numba import kernels, minibatch
from fastbp.engine.numba.checks import activate

LOOK_S = 0.02  # blocks between two looks take about this long
MOST_BLOCKS = 1 << 20
PREDICTION_ROWS = 64
NO_DROPOUT = minibatch.Dropout(np.zeros(0, np.uint64), np.zeros(0), np.zeros(1, np.uint64))


def lay_out_network(layer_sizes, activations, params):
    """Describe a network on the flat vector `params` to the jitted code."""
    sizes = np.array(layer_sizes, np.int64)
    ends = np.cumsum([(n_in + 1) * n_out for n_in, n_out in pairwise(sizes.tolist())])
    loops = [
        None if row.kernel == "identity" else kernels.activation_kernel(row, params.dtype)
        for row in activations
    ]
    return minibatch.Network(
        sizes=sizes,
        weight_at=np.array([0, *ends[:-1]], np.int64),
        params=params,
        forwards=np.array([k.addresses["forward"] if k else 0 for k in loops], np.int64),
        slopes=np.array([k.addresses["slope"] if k else 0 for k in loops], np.int64),
        keeps_slopes=np.array([row.slope_of == "pre_activation" for row in activations], np.bool_),
    )


def lay_out_buffers(network, capacity, *, n_targets=0, sparse=False, training=False):
    """Work memory for blocks of up to `capacity` rows."""
    sizes, dtype = network.sizes, network.params.dtype
    units = sizes[1:-1]
    n_hidden, widest = int(units.sum()), int(sizes[1 if sparse else 0 :].max())
    rows = capacity if training else 0
    kept = n_hidden if training and network.keeps_slopes.any() else 0
    a = np.empty(capacity * n_hidden, dtype)
    return minibatch.Buffers(
        x=np.empty(0 if sparse else capacity * sizes[0], dtype),
        a=a,
        out=a,
        slopes=np.empty(capacity * kept, dtype),
        unit_at=np.array([0, *np.cumsum(units)], np.int64) * capacity,
        delta=np.empty(max(rows * widest, capacity * sizes[-1]), dtype),
        below=np.empty(rows * widest, dtype),
        scores=np.empty(capacity * sizes[-1], dtype),
        targets=np.empty(rows * n_targets, dtype),
        weights=np.empty(rows, dtype),
        row_loss=np.empty(rows),
    )


def are_layers(coefs, intercepts, n_features=-1, n_outputs=-1):
    """Whether these are weights and biases as `predict_into` takes them."""
    if not len(coefs) == len(intercepts) > 0:
        return False
    dtype, width = coefs[0].dtype, n_features
    for W, b in zip(coefs, intercepts, strict=True):
        if not (
            isinstance(W, np.ndarray) and isinstance(b, np.ndarray)
            and W.ndim == 2 and W.size and b.shape == W.shape[1:] and width in (-1, W.shape[0])
            and W.dtype == b.dtype == dtype and dtype in (np.float32, np.float64)
            and W.flags.c_contiguous and b.flags.c_contiguous
        ):  # fmt: skip
            return False
        width = W.shape[1]
    return n_outputs in (-1, width)


def describe_data(X, targets=None, sample_weight=None, order=None):
    """Addresses of the caller's arrays, which were checked and outlive the call."""
    is_sparse = not isinstance(X, np.ndarray)
    return describe_targets(X.shape[0], targets, sample_weight, order)._replace(
        x=_address(X.data if is_sparse else X),
        indices=_address(X.indices) if is_sparse else 0,
        indptr=_address(X.indptr) if is_sparse else 0,
        index_bytes=X.indptr.dtype.itemsize if is_sparse else 0,
    )


def describe_targets(n_samples, targets, sample_weight, order=None):
    """Addresses of targets and weights alone; without an order as they stand."""
    return minibatch.Data(
        x=0,
        indices=0,
        indptr=0,
        index_bytes=0,
        y=_address(targets),
        sample_weight=_address(sample_weight),
        order=np.arange(n_samples) if order is None else order,
    )


def _address(array):
    return 0 if array is None else array.__array_interface__["data"][0]


def predict_blocks(network, buffers, data, out):
    """Raw scores of the first rows of the order, as many as `out` has, block by block."""
    capacity, n_samples = len(buffers.scores) // out.shape[1], len(data.order)
    buffers = buffers._replace(slopes=buffers.slopes[:0])
    for first in range(0, n_samples, capacity):
        rows = min(capacity, n_samples - first)
        minibatch.predict_block(network, buffers, data, NO_DROPOUT, first, rows, out)


def predict_into(coefs, intercepts, activations, X, out, n_threads=1):
    """Raw scores of X straight from fitted arrays; whether all are finite."""
    contract.check_prediction(
        are_layers(coefs, intercepts) and 0 <= len(coefs) - len(activations) <= 1
    )
    dtype, sparse = coefs[0].dtype, not isinstance(X, np.ndarray)
    contract.check_samples(X, dtype, coefs[0].shape[0], sparse)
    contract.check_output(X, out, dtype, coefs[-1].shape[1])
    layer_sizes = (coefs[0].shape[0], *(weights.shape[1] for weights in coefs))
    parts = [part for pair in zip(coefs, intercepts, strict=True) for part in pair]
    params = np.concatenate([part.ravel() for part in parts])
    n_hidden = len(coefs) - 1
    network = lay_out_network(layer_sizes, activations[:n_hidden], params)
    if len(out):
        # Whole blocks, filled up with the first row: BLAS chooses its loops by the number of rows,
        # and a row's scores must not depend on the rows that come with it.
        order = np.zeros(-(-len(out) // PREDICTION_ROWS) * PREDICTION_ROWS, np.int64)
        order[: len(out)] = np.arange(len(out))
        data = describe_data(X, order=order)
        predict_blocks(network, lay_out_buffers(network, PREDICTION_ROWS, sparse=sparse), data, out)
    for activation in activations[n_hidden:]:
        # Padded likewise: what is left after whole vectors would go through another loop.
        z = np.zeros(-(-out.size // PREDICTION_ROWS) * PREDICTION_ROWS, out.dtype)
        z[: out.size] = out.ravel()
        activate(activation, z)
        out[...] = z[: out.size].reshape(out.shape)
    return bool(np.isfinite(out).all())


def locked(method):
    """Let threads that share a session take turns."""

    @wraps(method)
    def wait_and_call(self, *arguments, **options):
        with self.lock:
            return method(self, *arguments, **options)

    return wait_and_call


class Session:
    """`contract.Session` in one thread."""

    def __init__(
        self, layer_sizes, activations, loss, *, dtype, params, batch_size, n_threads=1,
        sparse=False,
    ):  # fmt: skip
        self.lock = threading.Lock()
        self.layer_sizes = tuple(int(n) for n in layer_sizes)
        self.dtype, self.loss, self.sparse = np.dtype(dtype), loss, bool(sparse)
        contract.check_network(self.layer_sizes, activations, loss, self.dtype, params)
        self.n_targets = contract.count_targets(self.layer_sizes, loss)
        self.network = lay_out_network(self.layer_sizes, activations, params.copy())
        self.loss_kernel = kernels.loss_kernel(loss, self.dtype)
        self.loss_hyper = kernels.hyper_of(loss)
        capacity = min(max(int(batch_size), 1), minibatch.BLOCK_ROWS)
        self.buffers = lay_out_buffers(
            self.network, capacity, n_targets=self.n_targets, sparse=sparse, training=True
        )
        size = len(params)
        self.progress = minibatch.Progress(
            gradient=np.zeros(size, self.dtype),
            part=np.zeros(size if batch_size > capacity else 0, self.dtype),
            counts=np.zeros(2, np.int64),
            sums=np.zeros(3),
        )
        self.optimizer, self.average = None, np.zeros(0, self.dtype)
        self.dropout, self.seed = NO_DROPOUT, np.uint64(0)
        self.epochs_done, self.finite, self.closed = 0, True, False
        self.out_of_time, self.n_seen, self.deadline = False, 0, np.inf

    @property
    def t(self):
        """Optimiser steps done."""
        return int(self.progress.counts[minibatch.T])

    def force_threads(self, n_threads):
        """Do nothing: this engine has one thread."""

    @locked
    def close(self):
        """End the session."""
        self.closed = True

    @locked
    def set_optimizer(
        self, optimizer, hyperparameters, slots=None, t=0, *, max_grad_norm=None, ema_decay=None,
        average=None,
    ):  # fmt: skip
        """Take the optimiser's row, its hyper-parameters and its state."""
        contract.check_optimizer(optimizer, slots, self.layer_sizes, self.dtype)
        if average is not None:
            contract.check_params(average, self.layer_sizes, self.dtype)
        loops = kernels.optimizer_kernel(optimizer, self.dtype).addresses
        state = np.zeros((contract.MAX_SLOTS, len(self.network.params)), self.dtype)
        if slots is not None:
            state[: optimizer.n_slots] = slots
        hyper = np.zeros(contract.MAX_HYPER)
        numbers = contract.read_hyperparameters(optimizer, hyperparameters, self.dtype)
        hyper[: len(numbers)] = numbers
        self.optimizer = SimpleNamespace(
            row=optimizer,
            addresses=np.array([loops["prepare"], loops["update"]], np.int64),
            slots=state,
            hyper=hyper,
            decay=-1,
            max_norm=float(max_grad_norm or 0),
            ema_decay=float(ema_decay or 0),
        )
        if optimizer.decay is not None:
            self.optimizer.decay = optimizer.hyperparameters.index(optimizer.decay)
        if ema_decay is not None:
            start = self.network.params if average is None else average
            self.average = start.copy()
        self.progress.counts[minibatch.T] = t

    @locked
    def set_dropout(self, rates, seed):
        """Leave hidden units out of training steps."""
        layers = contract.read_dropout(rates, len(self.layer_sizes) - 2)
        self.dropout, self.seed = NO_DROPOUT, np.uint64(seed)
        if any(rate > 0 for rate in rates):
            thresholds, scales = zip(*layers, strict=True)
            self.dropout = minibatch.Dropout(
                np.array(thresholds, np.uint64), np.array(scales), np.zeros(1, np.uint64)
            )
            if self.buffers.out is self.buffers.a:
                self.buffers = self.buffers._replace(out=np.empty_like(self.buffers.a))

    def _make_room(self, batch_rows):
        """Get a place for the gradient of a block, where a minibatch has more than one."""
        if batch_rows > len(self.buffers.row_loss) and not self.progress.part.size:
            part = np.zeros(len(self.network.params), self.dtype)
            self.progress = self.progress._replace(part=part)

    def _steps(self, rates, alpha, batch_size):
        """How steps are done; without an optimiser only gradients are."""
        optimizer = self.optimizer
        return minibatch.Steps(
            address=np.empty(0, np.int64) if optimizer is None else optimizer.addresses,
            slots=np.empty((contract.MAX_SLOTS, 0), self.dtype)
            if optimizer is None
            else optimizer.slots,
            hyper=np.empty(0) if optimizer is None else optimizer.hyper,
            constants=np.zeros(contract.MAX_HYPER + 2),
            decay=-1 if optimizer is None else optimizer.decay,
            bias_constants=np.zeros(contract.MAX_HYPER + 2),
            max_norm=0.0 if optimizer is None else optimizer.max_norm,
            ema_decay=0.0 if optimizer is None else optimizer.ema_decay,
            average=self.average,
            rates=rates,
            alpha=float(alpha),
            batch_size=int(batch_size),
        )

    def _loss(self, gradient_factor=1.0):
        return minibatch.Loss(
            address=self.loss_kernel.addresses["loss"],
            hyper=self.loss_hyper,
            n_targets=self.n_targets,
            loss_factor=1.0 / self.layer_sizes[-1] if self.loss.output_mean else 1.0,
            gradient_factor=gradient_factor,
        )

    def _run_epoch(self, data, loss, steps, dropout=NO_DROPOUT):
        """One pass over the data, in pieces between which signals are delivered.

        Returns the mean loss and the number of samples it is of.  Ends after the step in hand (not
        before the first of the call) when time is up.
        """
        n_samples, at, n_blocks = len(data.order), 0, 1
        buffers = self.buffers
        if dropout is NO_DROPOUT:
            buffers = buffers._replace(out=buffers.a)
        else:
            dropout.key[0] = minibatch.epoch_key(self.seed, self.t)
        self.progress.sums[minibatch.EPOCH_LOSS] = 0.0
        while at < n_samples:
            begun = time.perf_counter()
            at = minibatch.advance(
                self.network, buffers, data, loss, steps, dropout, self.progress, at, n_blocks
            )
            now = time.perf_counter()
            n_seen = at if at == n_samples else at - at % steps.batch_size
            if now >= self.deadline and self.progress.counts[minibatch.STEP] > 0:
                self.out_of_time = True
                break
            if now - begun < LOOK_S / 2:
                n_blocks = min(2 * n_blocks, MOST_BLOCKS)
            else:
                n_blocks = max(n_blocks // 2, 1)
        return self.progress.sums[minibatch.EPOCH_LOSS] / max(n_seen, 1), n_seen

    @locked
    def train(
        self, X, targets, sample_weight, order, *, shuffle, batch_size, alpha, learning_rate,
        n_epochs, losses, stopping=None, time_limit=None,
    ):  # fmt: skip
        """Train for up to n_epochs epochs; Python looks for signals between blocks."""
        contract.check_open(self.closed)
        contract.check_has_optimizer(self.optimizer is not None)
        rates = np.atleast_1d(np.asarray(learning_rate, dtype=np.float64))
        data = self._bind(X, targets, sample_weight, order)
        n_samples = len(data.order)
        contract.check_run(n_samples, order, shuffle, batch_size, rates, n_epochs, losses)
        self._make_room(min(batch_size, n_samples))
        steps, loss = self._steps(rates, alpha, batch_size), self._loss()
        if isinstance(shuffle, np.random.BitGenerator):
            shuffle = np.random.RandomState(shuffle)  # draws from it, and leaves it advanced
        self.progress.counts[minibatch.STEP] = 0
        self.epochs_done, self.out_of_time, stopped = 0, False, False
        self.deadline = np.inf if time_limit is None else time.perf_counter() + time_limit
        try:
            while self.epochs_done < n_epochs and not (stopped or self.out_of_time):
                if shuffle is not None:
                    shuffle.shuffle(order)
                value, n_seen = self._run_epoch(data, loss, steps, self.dropout)
                if n_seen == 0:  # time was up before the epoch's first step
                    break
                losses[self.epochs_done] = value
                self.n_seen = n_seen
                self.epochs_done += 1
                stopped = not self._is_finite(value)
                stopped = (stopping is not None and no_progress(stopping, value)) or stopped
        finally:
            done = self.epochs_done
            self.finite = done == 0 or self._is_finite(losses[done - 1])
        return self.epochs_done

    def _is_finite(self, loss):
        return bool(np.isfinite(loss) and minibatch.all_finite_in(self.network.params))

    def _bind(self, X, targets, sample_weight, order):
        """Check the caller's arrays, and find their addresses."""
        contract.check_samples(X, self.dtype, self.layer_sizes[0], self.sparse)
        contract.check_targets(targets, sample_weight, X.shape[0], self.dtype, self.n_targets)
        if order is not None:
            contract.check_order(order, X.shape[0])
        return describe_data(X, targets, sample_weight, order)

    @locked
    def predict_into(self, X, out):
        """Raw scores of X under the current parameters, or their average."""
        contract.check_open(self.closed)
        contract.check_samples(X, self.dtype, self.layer_sizes[0], self.sparse)
        contract.check_output(X, out, self.dtype, self.layer_sizes[-1])
        network = self.network
        if len(self.average):
            network = network._replace(params=self.average)
        predict_blocks(network, self.buffers, describe_data(X), out)

    @locked
    def mean_loss(self, scores, targets, sample_weight):
        """Mean loss of raw scores under the session's loss, without penalty."""
        contract.check_open(self.closed)
        contract.check_matrix(scores, self.dtype, self.layer_sizes[-1])
        contract.check_targets(targets, sample_weight, len(scores), self.dtype, self.n_targets)
        data = describe_targets(len(scores), targets, sample_weight)
        return minibatch.loss_of_scores(self.network, self.buffers, data, self._loss(), scores)

    @locked
    def loss_and_gradient(
        self, params, X, targets, sample_weight, *, alpha, gradient, mean_gradient=False
    ):
        """Loss of all samples and its gradient at `params`."""
        contract.check_open(self.closed)
        contract.check_params(params, self.layer_sizes, self.dtype)
        contract.check_params(gradient, self.layer_sizes, self.dtype, output=True)
        data = self._bind(X, targets, sample_weight, None)
        n_samples = X.shape[0]
        total = n_samples if sample_weight is None else sample_weight.sum(dtype=np.float64)
        contract.check_total_weight(total, n_samples)
        self.network.params[:] = params
        self._make_room(n_samples)
        steps = self._steps(np.zeros(1), 0.0, n_samples)
        steps = steps._replace(address=np.empty(0, np.int64))
        loss = self._loss(1.0 / self.layer_sizes[-1] if mean_gradient else 1.0)
        self.deadline = np.inf
        value, _ = self._run_epoch(data, loss, steps)
        gradient[:] = self.progress.gradient
        l2 = alpha / self.progress.sums[minibatch.TOTAL_WEIGHT]
        return self._add_penalty(value, params, gradient, l2)

    def _add_penalty(self, value, params, gradient, l2):
        """Add the penalty 0.5 l2 |W|^2 to a loss, which is returned, and to its gradient."""
        for layer in range(len(self.layer_sizes) - 1):
            W, _ = minibatch.weights_of(self.network, params, layer)
            G, _ = minibatch.weights_of(self.network, gradient, layer)
            G += (l2 * W).astype(self.dtype, copy=False)
            value += 0.5 * l2 * float(np.sum(np.square(W, dtype=np.float64)))
        return value

    @locked
    def params_into(self, params):
        """Write the parameters into `params` in the flat layout."""
        contract.check_params(params, self.layer_sizes, self.dtype, output=True)
        params[:] = self.network.params

    @locked
    def average_into(self, params):
        """Write what predictions use: the average where one is kept, else the parameters."""
        contract.check_params(params, self.layer_sizes, self.dtype, output=True)
        params[:] = self.average if len(self.average) else self.network.params

    @locked
    def slots_into(self, slots):
        """Write the optimiser's slots into `slots`."""
        contract.check_has_optimizer(self.optimizer is not None)
        n_slots = self.optimizer.row.n_slots
        contract.check_slots(slots, n_slots, self.layer_sizes, self.dtype, output=True)
        slots[:] = self.optimizer.slots[:n_slots]


def no_progress(rule, loss):
    """scikit-learn's rule on the training loss; True when it has not improved for too long."""
    if loss > rule.best_loss - rule.tol:
        rule.no_improvement_count += 1
    else:
        rule.no_improvement_count = 0
    rule.best_loss = min(rule.best_loss, float(loss))
    return rule.no_improvement_count > rule.n_iter_no_change
