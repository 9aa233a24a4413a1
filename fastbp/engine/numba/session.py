"""Sessions of the Numba engine: epochs, settings and results of a fit.

The Python around `minibatch`, in one thread.  Between two runs of blocks (`LOOK_S` seconds of them)
Python looks for signals, so a KeyboardInterrupt ends training after the last completed step.
"""

import threading
import time
from functools import wraps
from types import SimpleNamespace

import numpy as np

from fastbp.engine import contract
from fastbp.engine.numba import blocks, kernels, members, minibatch
from fastbp.engine.numba.data import (
    describe_data,
    describe_targets,
    lay_out_buffers,
    lay_out_network,
)
from fastbp.engine.numba.prediction import NO_DROPOUT, predict_blocks

LOOK_S = 0.02  # blocks between two looks take about this long


MOST_BLOCKS = 1 << 20


def locked(method):
    """Let threads that share a session take turns."""

    @wraps(method)
    def wait_and_call(self, *arguments, **options):
        with self.lock:
            return method(self, *arguments, **options)

    return wait_and_call


class Session:
    """`contract.Session` in one thread."""

    matmul_precision = "highest"

    def __init__(
        self, layer_sizes, activations, loss, *, dtype, params, batch_size, n_threads=1,
        sparse=False, n_members=None, continues=None, matmul_precision="highest",
    ):  # fmt: skip
        self.lock = threading.Lock()
        contract.check_matmul_precision(matmul_precision)
        self.layer_sizes = tuple(int(n) for n in layer_sizes)
        self.dtype, self.loss, self.sparse = np.dtype(dtype), loss, bool(sparse)
        contract.check_network(self.layer_sizes, activations, loss, self.dtype, params, n_members)
        contract.check_continues(continues, self.layer_sizes[0], sparse, n_members)
        self.n_params, self.members = len(params), members.NO_MEMBERS
        self.n_targets = contract.count_targets(self.layer_sizes, loss)
        self.network = lay_out_network(self.layer_sizes, activations, params.copy(), n_members)
        if n_members is not None:
            self.members, self.network = members.lay_out_members(self.network, n_members, continues)
        self.loss_kernel = kernels.loss_kernel(loss, self.dtype)
        self.loss_hyper = kernels.hyper_of(loss)
        capacity = min(max(int(batch_size), 1), blocks.BLOCK_ROWS)
        self.buffers = lay_out_buffers(
            self.network, capacity, n_targets=self.n_targets, sparse=sparse, training=True
        )
        apart = batch_size > capacity or n_members is not None
        self.progress = minibatch.Progress(
            gradient=np.zeros(self.n_params, self.dtype),
            part=np.zeros(len(self.network.params) if apart else 0, self.dtype),
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

    limit_threads = force_threads

    @locked
    def close(self):
        """End the session."""
        self.closed = True

    @locked
    def set_optimizer(
        self, optimizer, hyperparameters, slots=None, t=0, *, max_grad_norm=None, ema_decay=None,
        average=None,
    ):  # fmt: skip
        """Take the optimiser's entry, its hyper-parameters and its state."""
        contract.check_optimizer(optimizer, slots, self.n_params, self.dtype)
        if average is not None:
            contract.check_params(average, self.n_params, self.dtype)
        loops = kernels.optimizer_kernel(optimizer, self.dtype).addresses
        state = np.zeros((contract.MAX_SLOTS, self.n_params), self.dtype)
        if slots is not None:
            state[: optimizer.n_slots] = slots
        hyper = np.zeros(contract.MAX_HYPER)
        numbers = contract.read_hyperparameters(optimizer, hyperparameters, self.dtype)
        hyper[: len(numbers)] = numbers
        self.optimizer = SimpleNamespace(
            entry=optimizer,
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
            self.average = (self._params() if average is None else average).copy()
        self.progress.counts[minibatch.T] = t

    @locked
    def set_dropout(self, rates, seed):
        """Leave hidden units out of training steps."""
        layers = contract.read_dropout(rates, len(self.layer_sizes) - 2)
        self.dropout, self.seed = NO_DROPOUT, np.uint64(seed)
        if any(rate > 0 for rate in rates):
            thresholds, scales = zip(*layers, strict=True)
            self.dropout = blocks.Dropout(
                np.array(thresholds, np.uint64), np.array(scales), np.zeros(1, np.uint64)
            )
            if self.buffers.out is self.buffers.a:
                self.buffers = self.buffers._replace(out=np.empty_like(self.buffers.a))

    def _make_room(self, batch_rows):
        """Get a place for the gradient of a block, where a minibatch has more than one."""
        if batch_rows > len(self.buffers.row_loss) and not self.progress.part.size:
            part = np.zeros(self.n_params, self.dtype)
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
        return blocks.Loss(
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
            dropout.key[0] = blocks.epoch_key(self.seed, self.t)
        self.progress.sums[minibatch.EPOCH_LOSS] = 0.0
        while at < n_samples:
            begun = time.perf_counter()
            at = minibatch.advance(
                self.network, buffers, data, loss, steps, dropout, self.progress, self.members, at,
                n_blocks,
            )  # fmt: skip
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
                stopped = (stopping is not None and stopping.saw_loss(float(value))) or stopped
        finally:
            done = self.epochs_done
            self.finite = done == 0 or self._is_finite(losses[done - 1])
        return self.epochs_done

    def _is_finite(self, loss):
        """Whether training may go on: the square of a gradient that overflows stops its weight."""
        state = self.optimizer.slots[: max(self.optimizer.entry.n_slots, 1)].ravel()
        finite = map(minibatch.all_finite_in, (self._params(), state))
        return bool(np.isfinite(loss) and all(finite))

    def _params(self):
        """View the parameters, without the room that members have behind them."""
        return self.network.params[: self.n_params]

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
        params, data = self.average if len(self.average) else self._params(), describe_data(X)
        if self.members.n == 0:
            contract.check_output(X, out, self.dtype, self.layer_sizes[-1])
            predict_blocks(self.network._replace(params=params), self.buffers, data, out)
            return
        n_members, n_outputs = self.members.n, self.layer_sizes[-1]
        contract.check_member_output(X, out, self.dtype, n_members, n_outputs)
        room = np.zeros(len(self.network.params) - self.n_params, self.dtype)
        network = self.network._replace(params=np.concatenate([params, room]))
        for m in range(n_members):
            members.turn_to(network, self.members, m)
            predict_blocks(network, self.buffers, data, out[m])

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
        contract.check_params(params, self.n_params, self.dtype)
        contract.check_params(gradient, self.n_params, self.dtype, output=True)
        data = self._bind(X, targets, sample_weight, None)
        n_samples = X.shape[0]
        total = n_samples if sample_weight is None else sample_weight.sum(dtype=np.float64)
        contract.check_total_weight(total, n_samples)
        self._params()[:] = params
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
        for begin, n, is_weights in self.network.parts:
            if is_weights:
                W, G = params[begin : begin + n], gradient[begin : begin + n]
                G += (l2 * W).astype(self.dtype, copy=False)
                value += 0.5 * l2 * float(np.sum(np.square(W, dtype=np.float64)))
        return value

    @locked
    def params_into(self, params):
        """Write the parameters into `params` in the flat layout."""
        contract.check_params(params, self.n_params, self.dtype, output=True)
        params[:] = self._params()

    @locked
    def average_into(self, params):
        """Write what predictions use: the average where one is kept, else the parameters."""
        contract.check_params(params, self.n_params, self.dtype, output=True)
        params[:] = self.average if len(self.average) else self._params()

    @locked
    def slots_into(self, slots):
        """Write the optimiser's slots into `slots`."""
        contract.check_has_optimizer(self.optimizer is not None)
        n_slots = self.optimizer.entry.n_slots
        contract.check_slots(slots, n_slots, self.n_params, self.dtype, output=True)
        slots[:] = self.optimizer.slots[:n_slots]
