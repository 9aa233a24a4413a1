"""Sessions of the Numba engine: buffers of a fit, epochs, and predictions without a session.

The Python around `minibatch`: what `fastbp.engine.native.engine.Session` does, with the same
arguments, in one thread.  Between two blocks of minibatches (`LOOK_S` seconds of them) Python looks
for signals, so a KeyboardInterrupt ends training after the last completed step.
"""

import time
from itertools import pairwise
from types import SimpleNamespace

import numpy as np

from fastbp.engine.numba import kernels, minibatch
from fastbp.engine.numba.checks import activate

LOOK_S = 0.02  # blocks between two looks take about this long
MOST_BLOCKS = 1 << 20
PREDICTION_ROWS = 64
NO_DROPOUT = minibatch.Dropout(np.zeros(0, np.uint64), np.zeros(0), np.zeros(1, np.uint64))


def lay_out_network(layer_sizes, activations, params):
    """Describe a network on the flat vector `params` to the jitted code."""
    sizes = np.array(layer_sizes, np.int64)
    if len(activations) != len(sizes) - 2 or sizes.min() < 1:
        raise ValueError("one activation per hidden layer and at least one unit per layer")
    ends = np.cumsum([(n_in + 1) * n_out for n_in, n_out in pairwise(sizes.tolist())])
    if params.shape != (ends[-1],):
        raise ValueError(f"expected a vector of {ends[-1]} parameters")
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


def check_matrix(array, dtype, n_columns):
    """Refuse what the jitted code would misread."""
    if not (
        isinstance(array, np.ndarray)
        and array.ndim == 2
        and array.dtype == dtype
        and array.flags.c_contiguous
        and array.shape[1] == n_columns
    ):
        raise ValueError(f"expected a C-contiguous {dtype} array with {n_columns} columns")


def check_rows(X, out):
    """Refuse an output that has not one row per sample, or that cannot be written to."""
    if X.shape[0] != out.shape[0]:
        raise ValueError(f"X has {X.shape[0]} rows, out has {out.shape[0]}")
    if not out.flags.writeable:
        raise ValueError("an array to write to is read-only")


def are_layers(coefs, intercepts, n_features=-1, n_outputs=-1):
    """Whether these are weights and biases of a network; arguments as in the compiled engine."""
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


def describe_data(X, network, targets=None, sample_weight=None, order=None, n_targets=0):
    """Addresses of the caller's arrays, which outlive the call."""
    dtype, n_features = network.params.dtype, int(network.sizes[0])
    n_samples = X.shape[0]
    sparse = not isinstance(X, np.ndarray)
    if sparse:
        if not all(
            isinstance(part, np.ndarray) and part.flags.c_contiguous
            for part in (X.data, X.indices, X.indptr)
        ):
            raise ValueError("expected a CSR matrix of contiguous arrays")
        if (
            X.data.dtype != dtype or X.indices.dtype != X.indptr.dtype
            or len(X.indptr) != n_samples + 1 or X.shape[1] != n_features
        ):  # fmt: skip
            raise ValueError(f"expected a CSR matrix of {dtype} with {n_features} columns")
    else:
        check_matrix(X, dtype, n_features)
    if order is not None:
        if order.dtype != np.int64 or not order.flags.c_contiguous or len(order) == 0:
            raise ValueError("order must be a contiguous int64 vector of rows")
        if order.min() < 0 or order.max() >= n_samples:
            raise ValueError(f"order names rows outside of an X with {n_samples} rows")
    if n_targets:  # not for predictions
        check_matrix(targets, dtype, n_targets)
    data = describe_targets(n_samples, dtype, targets, sample_weight, order)
    return data._replace(
        x=_address(X.data if sparse else X),
        indices=_address(X.indices) if sparse else 0,
        indptr=_address(X.indptr) if sparse else 0,
        index_bytes=X.indptr.dtype.itemsize if sparse else 0,
    )


def describe_targets(n_samples, dtype, targets, sample_weight, order=None):
    """Addresses of targets and weights alone; without an order as they stand."""
    if sample_weight is not None and not (
        sample_weight.shape == (n_samples,)
        and sample_weight.dtype == dtype
        and sample_weight.flags.c_contiguous
    ):
        raise ValueError(
            f"sample_weight must be a contiguous {dtype} vector of {n_samples} numbers"
        )
    if targets is not None and len(targets) != n_samples:
        raise ValueError(f"X has {n_samples} rows, targets has {len(targets)}")
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
    """Raw scores of X straight from fitted arrays; arguments as in the compiled engine."""
    if not are_layers(coefs, intercepts) or not 0 <= len(coefs) - len(activations) <= 1:
        raise ValueError(
            "weights, biases and activations make no network: expected C-contiguous arrays of one "
            "dtype that fit together"
        )
    layer_sizes = (coefs[0].shape[0], *(weights.shape[1] for weights in coefs))
    parts = [part for pair in zip(coefs, intercepts, strict=True) for part in pair]
    params = np.concatenate([part.ravel() for part in parts])
    n_hidden = len(coefs) - 1
    network = lay_out_network(layer_sizes, activations[:n_hidden], params)
    check_matrix(out, coefs[0].dtype, layer_sizes[-1])
    check_rows(X, out)
    if len(out):
        # Whole blocks, filled up with the first row: BLAS chooses its loops by the number of rows,
        # and a row's scores must not depend on the rows that come with it.
        order = np.zeros(-(-len(out) // PREDICTION_ROWS) * PREDICTION_ROWS, np.int64)
        order[: len(out)] = np.arange(len(out))
        data = describe_data(X, network, order=order)
        sparse = data.index_bytes > 0
        predict_blocks(network, lay_out_buffers(network, PREDICTION_ROWS, sparse=sparse), data, out)
    for activation in activations[n_hidden:]:
        # Padded likewise: what is left after whole vectors would go through another loop.
        z = np.zeros(-(-out.size // PREDICTION_ROWS) * PREDICTION_ROWS, out.dtype)
        z[: out.size] = out.ravel()
        activate(activation, z)
        out[...] = z[: out.size].reshape(out.shape)
    return bool(np.isfinite(out).all())


class Session:
    """Working copy of one fit; parameters and methods as in the compiled engine, in one thread.

    Attributes
    ----------
    t : int
        Optimiser steps done.
    epochs_done : int
        Epochs completed by the last call of `train`, also when it was interrupted.
    finite : bool
        False once an epoch ended with a loss or parameters that are not finite.
    out_of_time : bool
        Whether the last call of `train` ended because its time was up.
    n_seen : int
        Samples on which the last epoch that counts as done trained.
    """

    def __init__(
        self, layer_sizes, activations, loss, *, dtype, params, batch_size, n_threads=1,
        sparse=False,
    ):  # fmt: skip
        self.layer_sizes = tuple(int(n) for n in layer_sizes)
        self.dtype, self.loss = np.dtype(dtype), loss
        if self.dtype not in (np.float32, np.float64):
            raise ValueError(f"dtype must be float32 or float64, got {self.dtype}")
        if params.dtype != self.dtype:
            raise ValueError(f"expected parameters of {self.dtype}, got {params.dtype}")
        n_outputs = self.layer_sizes[-1]
        if loss.target == "shared" and len(loss.hyper) != n_outputs:
            raise ValueError(f"{len(loss.hyper)} outputs expected, got {n_outputs}")
        self.n_targets = n_outputs if loss.target == "real" else 1
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

    def close(self):
        """End the session. May be called again."""
        self.closed = True

    def set_optimizer(
        self, optimizer, hyperparameters, slots=None, t=0, *, max_grad_norm=None, ema_decay=None,
        average=None,
    ):  # fmt: skip
        """Take the optimiser's row, its hyper-parameters and its state, and what goes with a step.

        Arguments as in the compiled engine.
        """
        loops = kernels.optimizer_kernel(optimizer, self.dtype).addresses
        state = np.zeros((2, len(self.network.params)), self.dtype)
        if slots is not None:
            state[: optimizer.n_slots] = slots
        hyper = np.zeros(kernels.N_HYPER)
        for i, name in enumerate(optimizer.hyperparameters):
            hyper[i] = float(hyperparameters[name])
            if hyper[i] > 0:  # an epsilon that vanishes in the dtype would divide 0 by 0
                hyper[i] = max(hyper[i], np.finfo(self.dtype).tiny)
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
            self.average = start.astype(self.dtype, copy=True)
        self.progress.counts[minibatch.T] = t

    def set_dropout(self, rates, seed):
        """Leave hidden units out of training steps; arguments as in the compiled engine."""
        if len(rates) != len(self.layer_sizes) - 2:
            raise ValueError("one dropout rate per hidden layer")
        self.dropout, self.seed = NO_DROPOUT, np.uint64(seed)
        if any(rate > 0 for rate in rates):
            thresholds = [min(round(rate * 2**32), 2**32 - 1) for rate in rates]
            scales = [1 / (1 - rate) for rate in rates]
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
            slots=np.empty((2, 0), self.dtype) if optimizer is None else optimizer.slots,
            hyper=np.empty(0) if optimizer is None else optimizer.hyper,
            constants=np.zeros(kernels.N_HYPER + 2),
            decay=-1 if optimizer is None else optimizer.decay,
            bias_constants=np.zeros(kernels.N_HYPER + 2),
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

    def train(
        self, X, targets, sample_weight, order, *, shuffle, batch_size, alpha, learning_rate,
        n_epochs, losses, stopping=None, time_limit=None,
    ):  # fmt: skip
        """Train for up to n_epochs epochs; arguments and result as in the compiled engine."""
        self._check_open()
        if self.optimizer is None:
            raise RuntimeError("this session has no optimizer yet: call set_optimizer")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        rates = np.atleast_1d(np.asarray(learning_rate, dtype=np.float64))
        data = describe_data(X, self.network, targets, sample_weight, order, self.n_targets)
        if len(rates) not in (1, n_epochs * -(-len(data.order) // batch_size)):
            raise ValueError("learning_rate must be a number or one for each step of this call")
        self._make_room(min(batch_size, len(data.order)))
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
                stopped = (stopping is not None and stopping.saw_loss(float(value))) or stopped
        finally:
            done = self.epochs_done
            self.finite = done == 0 or self._is_finite(losses[done - 1])
        return self.epochs_done

    def _is_finite(self, loss):
        return bool(np.isfinite(loss) and minibatch.all_finite_in(self.network.params))

    def _check_open(self):
        if self.closed:
            raise RuntimeError("this session was closed")

    def predict_into(self, X, out):
        """Raw scores of X under the current parameters, or their average where one is kept."""
        self._check_open()
        check_matrix(out, self.dtype, self.layer_sizes[-1])
        check_rows(X, out)
        network = self.network
        if len(self.average):
            network = network._replace(params=self.average)
        predict_blocks(network, self.buffers, describe_data(X, network), out)

    def mean_loss(self, scores, targets, sample_weight):
        """Mean loss of raw scores, without penalty, as in the compiled engine."""
        self._check_open()
        check_matrix(scores, self.dtype, self.layer_sizes[-1])
        check_matrix(targets, self.dtype, self.n_targets)
        data = describe_targets(len(scores), self.dtype, targets, sample_weight)
        return minibatch.loss_of_scores(self.network, self.buffers, data, self._loss(), scores)

    def loss_and_gradient(
        self, params, X, targets, sample_weight, *, alpha, gradient, mean_gradient=False
    ):
        """Loss of all samples and its gradient at `params`, as in the compiled engine."""
        self._check_open()
        self.network.params[:] = params
        n_samples = X.shape[0]
        data = describe_data(X, self.network, targets, sample_weight, None, self.n_targets)
        total = n_samples if sample_weight is None else sample_weight.sum(dtype=np.float64)
        if not total > 0:
            raise ValueError(f"the weights of {n_samples} samples sum to {total}")
        self._make_room(n_samples)
        steps = self._steps(np.zeros(1), 0.0, n_samples)
        steps = steps._replace(address=np.empty(0, np.int64))
        loss = self._loss(1.0 / self.layer_sizes[-1] if mean_gradient else 1.0)
        self.deadline = np.inf
        value, _ = self._run_epoch(data, loss, steps)
        gradient[:] = self.progress.gradient
        l2 = alpha / self.progress.sums[minibatch.TOTAL_WEIGHT]
        for layer in range(len(self.layer_sizes) - 1):
            W, _ = minibatch.weights_of(self.network, params, layer)
            G, _ = minibatch.weights_of(self.network, gradient, layer)
            G += (l2 * W).astype(self.dtype, copy=False)
            value += 0.5 * l2 * float(np.sum(np.square(W, dtype=np.float64)))
        return value

    def params_into(self, params):
        """Write the parameters into `params`, shape (n_params,)."""
        params[:] = self.network.params

    def average_into(self, params):
        """Write what predictions use, the average where one is kept, else the parameters."""
        params[:] = self.average if len(self.average) else self.network.params

    def slots_into(self, slots):
        """Write the optimiser's slots into `slots`, shape (n_slots, n_params)."""
        if self.optimizer is None:
            raise RuntimeError("this session has no optimizer yet: call set_optimizer")
        slots[:] = self.optimizer.slots[: self.optimizer.row.n_slots]
