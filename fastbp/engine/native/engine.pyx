# cython: language_level=3, wraparound=True, cdivision=True, freethreading_compatible=True
"""The compiled engine: sessions that train, and predictions, over the C kernels.

Here the packed form of a fit is laid out and filled (this file); `minibatch.pxi` walks one
minibatch through it, `epochs.pxi` runs epochs, `prediction.pxi` predicts without a session and
`measure.pxi` times single kernels. Inputs were validated by the callers: only what would crash is
checked again.
"""

import os
import threading

import numpy as np

cimport numpy as cnp
from cpython.exc cimport PyErr_CheckSignals
from libc.math cimport isfinite, sqrt
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset
from cpython.pycapsule cimport PyCapsule_GetPointer
from numpy.random cimport bitgen_t

from fastbp.engine import find_kernels
from fastbp.engine.native.kernels cimport *

cnp.import_array()

NAME = "cython"

include "instruction_sets.pxi"
include "minibatch.pxi"
include "epochs.pxi"
include "packing.pxi"
include "prediction.pxi"
include "measure.pxi"


cdef int mersenne_known = -1


cdef bint mersenne_is_known():
    """Whether the state behind NumPy's MT19937 has the form of `fb_mt19937` (asked once)."""
    global mersenne_known
    cdef bitgen_t *bits
    cdef fb_mt19937 *state
    if mersenne_known < 0:
        generator = np.random.MT19937(0)
        bits = <bitgen_t *>PyCapsule_GetPointer(generator.capsule, "BitGenerator")
        state = <fb_mt19937 *>bits.state
        said = generator.state["state"]
        mersenne_known = state.pos == said["pos"] and all(
            state.key[i] == said["key"][i] for i in range(FB_MT_WORDS))
    return mersenne_known


cdef class Memory:
    """Aligned zeroed blocks that are freed together."""

    cdef list blocks

    def __cinit__(self):
        self.blocks = []

    cdef char *take(self, int64_t n_bytes) except NULL:
        cdef char *block = <char *>fb_allocate(<size_t>max(n_bytes, 64))
        if block == NULL:
            raise MemoryError(f"the engine could not allocate {n_bytes} bytes")
        try:
            self.blocks.append(<size_t>block)
        except MemoryError:
            fb_release(block)
            raise
        return block

    def __dealloc__(self):
        for block in self.blocks:
            fb_release(<void *><size_t>block)


def fail_allocation(int64_t after):
    """For tests: after so many more allocations let the engine's next one fail, once.

    Parameters
    ----------
    after : int
        Negative: let none fail.

    Returns
    -------
    int
        What was left of the count before: negative if an allocation failed, or none was to.
    """
    return fb_fail_allocation(after)


cdef class Session:
    """Working copy of one fit: packed parameters, optimiser state, work memory, workers.

    What computes and what reads results hold the session's lock: threads that share it take turns.

    Parameters
    ----------
    layer_sizes : sequence of int
        ``(n_features, *hidden, n_outputs)``.
    activations : sequence of fastbp.activations.Activation
        One per hidden layer.
    loss : fastbp.losses.Loss
    dtype : numpy.float32 or numpy.float64
    params : ndarray of shape (n_params,)
        Flat parameters (see `fastbp.network`); copied.
    batch_size : int
        Largest minibatch that will be trained on.
    n_threads : int, default=1
        Most threads an epoch may use; results do not depend on it.
    sparse : bool, default=False
        Whether X will be CSR.

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

    cdef Plan plan
    cdef Memory memory
    cdef tuple layer_sizes
    cdef object dtype, loss_row, lock, shuffler
    cdef public object stop_signal
    cdef int n_threads
    cdef bint forced, closed
    cdef int64_t process
    cdef readonly int64_t epochs_done
    cdef readonly bint finite

    def __init__(self, layer_sizes, activations, loss, *, dtype, params, batch_size, n_threads=1,
                 sparse=False):
        self.lock = threading.Lock()
        self.layer_sizes = tuple(int(n) for n in layer_sizes)
        self.dtype = np.dtype(dtype)
        self.loss_row = loss
        self.n_threads = max(1, min(int(n_threads), FB_TEAM_MAX))
        self.process = os.getpid()
        self.finite = True
        self.memory = Memory()
        flat_bytes(self, params)       # sizes that no array can have end here, not in an overflow
        lay_out(self, activations, loss, int(batch_size), bool(sparse))
        pack(&self.plan, self.plan.w, flat_bytes(self, params))
        refresh_transposes(&self.plan)

    def __dealloc__(self):
        self.end_team()

    cdef end_team(self):
        if self.plan.team != NULL:
            if self.process == os.getpid():
                with nogil:
                    fb_team_stop(self.plan.team)
            else:
                fb_team_forget(self.plan.team)
            self.plan.team = NULL

    def close(self):
        """End the workers; the memory goes with the object. May be called again."""
        with self.lock:
            self.end_team()
            self.closed = True

    @property
    def t(self):
        return self.plan.t

    def force_threads(self, int n_threads):
        """Run every epoch on exactly this many threads (for tests: `n_threads` is a ceiling)."""
        cdef int exact = max(1, min(n_threads, FB_TEAM_MAX))
        self.plan.scratch = self.memory.take(self.plan.scratch_size * exact)
        self.n_threads = exact
        self.forced = True
        self.end_team()

    def set_optimizer(self, optimizer, hyperparameters, slots=None, t=0, *, max_grad_norm=None,
                      ema_decay=None, average=None):
        """Take the optimiser's row, its hyper-parameters and its state, and what goes with a step.

        Parameters
        ----------
        optimizer : fastbp.optimizers.Optimizer
        hyperparameters : dict
            A number for each name in ``optimizer.hyperparameters``.
        slots : ndarray of shape (n_slots, n_params) or None
            State to continue from; None starts at zero.
        t : int
            Steps already done.
        max_grad_norm : float or None
            Gradients (penalty included) with a larger norm over all parameters are scaled down to
            this norm before the step.
        ema_decay : float or None
            Keep an average of the parameters over the steps: after step t it moves towards them by
            the share ``1 - min(ema_decay, (1 + t) / (10 + t))`` of the way. Predictions use it.
        average : ndarray of shape (n_params,) or None
            The average so far; None is the present parameters.
        """
        cdef Plan *f = &self.plan
        cdef const fb_optimizer *row = find_optimizer(f.kernels, optimizer, self.memory)
        if len(optimizer.hyperparameters) > FB_MAX_HYPER:
            raise ValueError(f"an optimizer has at most {FB_MAX_HYPER} hyper-parameters")
        f.optimizer = NULL             # until its state is there
        f.decay = -1
        for i, name in enumerate(optimizer.hyperparameters):
            f.hyper[i] = float(hyperparameters[name])
            if f.hyper[i] > 0:         # an epsilon that vanishes in the dtype would divide 0 by 0
                f.hyper[i] = max(f.hyper[i], float(np.finfo(self.dtype).tiny))
            if name == optimizer.decay:
                f.decay = i
        f.t = t
        f.max_norm = max_grad_norm or 0.0
        if f.max_norm > 0 and f.gradient_squares == NULL:
            f.gradient_squares = <double *>self.memory.take(
                f.n_units * DOUBLES_PER_LINE * sizeof(double))
        if ema_decay is not None:
            f.ema_decay = ema_decay
            if f.average == NULL:
                f.average = self.memory.take(f.n_packed * f.itemsize)
            memcpy(f.average, f.w, f.n_packed * f.itemsize)
            if average is not None:
                pack(f, f.average, flat_bytes(self, average))
        for i in range(row.n_slots):
            if f.slots[i] == NULL:
                f.slots[i] = self.memory.take(f.n_packed * f.itemsize)
            else:
                memset(f.slots[i], 0, f.n_packed * f.itemsize)
            if slots is not None:
                pack(f, f.slots[i], flat_bytes(self, slots[i]))
        f.optimizer = row

    def set_dropout(self, rates, seed):
        """Leave hidden units out of training steps.

        Parameters
        ----------
        rates : sequence of float
            Probability in [0, 1) to be left out, one per hidden layer. The others are divided by
            one minus it.
        seed : int
            From 0 to 2^64 - 1. Which units are left out depends on it, on `t` at the start of an
            epoch, on the layer, the place of the sample in the epoch's order and the unit; not on
            threads, dtype or engine.
        """
        cdef Plan *f = &self.plan
        cdef Layer *layer
        if len(rates) != f.n_layers - 1:
            raise ValueError("one dropout rate per hidden layer")
        f.seed = seed
        f.dropout = any(rate > 0 for rate in rates)
        for l, rate in enumerate(rates):
            layer = &f.layers[l]
            layer.threshold = min(round(rate * 2**32), 2**32 - 1)
            layer.scale = 1 / (1 - rate)
            # Where the slope reads f(z), units are left out of a copy. (relu's may read either.)
            if rate > 0 and layer.slopes == NULL and layer.activation.fused == 0:
                if layer.out == NULL or layer.out == layer.a:
                    layer.out = self.memory.take(layer.out_panels * f.panel * f.itemsize)
            elif layer.out == NULL:
                layer.out = layer.a

    def train(self, X, targets, sample_weight, order, *, shuffle, batch_size, alpha,
              learning_rate, n_epochs, losses, stopping=None, time_limit=None):
        """Train for up to n_epochs epochs; the GIL is released throughout.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features) or CSR array
            C-contiguous, of the session's dtype.
        targets : ndarray of shape (n_samples, n_targets)
            Numbers, or one column of class codes, of the session's dtype.
        sample_weight : ndarray of shape (n_samples,) or None
            Of the session's dtype, not negative. A minibatch of weight 0 is skipped.
        order : int64 ndarray of shape (n_trained,) or None
            Rows of X to train on, in this order (None: all as they stand); permuted in place
            before each epoch when `shuffle` is given.
        shuffle : numpy.random.BitGenerator, numpy.random.RandomState or None
            Its stream is used as ``RandomState.shuffle(order)`` would use it, and left advanced.
            Nobody else may draw from a BitGenerator during the call.
        batch_size : int
        alpha : float
            L2 penalty; as in scikit-learn divided by the weight of the minibatch.
        learning_rate : float or float64 ndarray of shape (n_steps,)
            Constant, or one value for each step of this call.
        n_epochs : int
        losses : float64 ndarray of shape (n_epochs,)
            OUT: mean loss of each epoch, penalty included.
        stopping : object or None
            With attributes tol, n_iter_no_change, best_loss, no_improvement_count: scikit-learn's
            rule on the training loss, applied after each epoch; the last two are written back.
        time_limit : float or None
            Seconds after which the call ends, with the step in hand completed, and not before the
            first. The epoch in hand then counts as one, with the loss of the samples it saw.

        Returns
        -------
        int
            Epochs done: fewer than n_epochs when the rule stopped training, time was up or
            something was no longer finite.
        """
        cdef Plan *f = &self.plan
        cdef Stopping rule
        cdef bint stopped = False, forced = self.forced
        cdef int ceiling = self.n_threads
        cdef int64_t epochs = n_epochs, done = 0, run
        cdef double[::1] out = losses
        cdef const double[::1] rates = np.atleast_1d(np.asarray(learning_rate, dtype=np.float64))
        cdef Stream stream
        with self.lock:
            self.check_usable()
            bind(self, X, targets, sample_weight, order)
            self.check_run(batch_size, rates.shape[0], n_epochs, out.shape[0], order, shuffle)
            f.batch_size = batch_size
            f.alpha = alpha
            f.rates = &rates[0]
            f.n_rates = rates.shape[0]
            f.step = 0
            f.update = True
            f.dropping = f.dropout
            f.backward = True
            f.gradient_factor = 1.0
            self.start_looking(time_limit)
            rule.active = stopping is not None
            if stopping is not None:
                rule.tol, rule.best_loss = stopping.tol, stopping.best_loss
                rule.patience = stopping.n_iter_no_change
                rule.no_improvement_count = stopping.no_improvement_count
            stream.bits = NULL
            if shuffle is not None:
                self.borrow_stream(shuffle, &stream)
            fb_running_fits(1)
            try:
                while done < epochs and not (stopped or f.interrupted or f.out_of_time):
                    run = epochs - done
                    if shuffle is not None and stream.bits == NULL:   # not MT19937: NumPy draws
                        shuffle.shuffle(order)
                        run = 1
                    with nogil:
                        done += run_epochs(f, &stream, run, &out[done], &rule, ceiling, forced,
                                           &stopped)
            finally:
                fb_running_fits(-1)
                self.epochs_done = done
                self.finite = done == 0 or (isfinite(out[done - 1]) and all_parameters_finite(f))
                if stream.bits != NULL and isinstance(shuffle, np.random.RandomState):
                    self.give_stream_back(shuffle)
                unbind(f)
            if stopping is not None:
                stopping.best_loss = rule.best_loss
                stopping.no_improvement_count = rule.no_improvement_count
            if self.stop_signal is not None:
                self.raise_signal()
        return done

    def predict_into(self, X, out):
        """Raw scores of X under the current parameters, or their average where one is kept.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features) or CSR array
        out : ndarray of shape (n_samples, n_outputs), C-contiguous, of the session's dtype
            OUT.
        """
        check_matrix(out, self.dtype, self.layer_sizes[-1])
        check_rows(X, out)
        with self.lock:
            self.check_usable()
            bind_rows(self, X)
            self.plan.dropping = self.plan.backward = False
            point_weights(&self.plan, self.plan.average)
            try:
                run_prediction(&self.plan, out, self.n_threads, self.forced)
            finally:
                point_weights(&self.plan, self.plan.w)
                unbind(&self.plan)

    def loss_and_gradient(self, params, X, targets, sample_weight, *, alpha, gradient,
                          mean_gradient=False):
        """Loss of all samples and its gradient at `params`.

        Parameters
        ----------
        params : ndarray of shape (n_params,)
        X, targets, sample_weight : as for `train`
        alpha : float
        gradient : ndarray of shape (n_params,)
            OUT, in the layout of `params`.
        mean_gradient : bool, default=False
            Divide the data term's gradient by the number of outputs: the gradient of the loss that
            is returned where that is a mean over outputs (squared error).

        Returns
        -------
        float
        """
        cdef Plan *f = &self.plan
        cdef double no_rate = 0, loss = 0, total = 0
        cdef Stream stream
        cdef Stopping rule
        cdef bint stopped = False, forced = self.forced
        cdef int ceiling = self.n_threads
        with self.lock:
            self.check_usable()
            pack(f, f.w, flat_bytes(self, params))
            refresh_transposes(f)
            bind(self, X, targets, sample_weight, None)
            total = sum_of_weights(f, 0, f.n_samples)
            if not total > 0:
                raise ValueError(f"the weights of {f.n_samples} samples sum to {total}")
            f.batch_size = f.n_samples
            f.alpha = 0
            f.rates = &no_rate
            f.n_rates = 1
            f.update = f.dropping = False
            f.backward = True
            f.gradient_factor = 1.0 / f.n_outputs if mean_gradient else 1.0
            self.start_looking(None)
            rule.active = False
            stream.bits = NULL
            if f.layers[0].sparse:
                memset(f.g, 0, f.n_packed * f.itemsize)
            fb_running_fits(1)
            try:
                with nogil:
                    run_epochs(f, &stream, 1, &loss, &rule, ceiling, forced, &stopped)
            finally:
                fb_running_fits(-1)
                unbind(f)
            if self.stop_signal is not None:
                self.raise_signal()
            unpack(f, f.g, flat_bytes(self, gradient, True))
        return loss + add_penalty(self.layer_sizes, params, gradient, alpha / total)

    def mean_loss(self, scores, targets, sample_weight):
        """Mean loss of raw scores, without penalty: what `predict_into` gave, under the session's
        loss.

        Parameters
        ----------
        scores : ndarray of shape (n_samples, n_outputs)
        targets, sample_weight : as for `train`

        Returns
        -------
        float
        """
        cdef Plan *f = &self.plan
        cdef double total = 0, weight = 0
        cdef uint64_t float_state
        cdef const char *raw
        check_matrix(scores, self.dtype, self.layer_sizes[-1])
        raw = <const char *>cnp.PyArray_DATA(scores)
        with self.lock:
            self.check_usable()
            bind_targets(self, len(scores), targets, sample_weight)
            f.order = NULL
            with nogil:
                float_state = fb_flush_subnormals()
                total = sum_losses(f, raw)
                weight = sum_of_weights(f, 0, f.n_samples)
                fb_restore_float_state(float_state)
            unbind(f)
        return total / weight

    @property
    def out_of_time(self):
        return self.plan.out_of_time

    @property
    def n_seen(self):
        return self.plan.n_counted

    def params_into(self, params):
        """Write the parameters into `params`, shape (n_params,), in the flat layout."""
        with self.lock:
            unpack(&self.plan, self.plan.w, flat_bytes(self, params, True))

    def average_into(self, params):
        """Write what predictions use, the average where one is kept, else the parameters."""
        cdef Plan *f = &self.plan
        with self.lock:
            unpack(f, f.w if f.average == NULL else f.average, flat_bytes(self, params, True))

    def slots_into(self, slots):
        """Write the optimiser's slots into `slots`, shape (n_slots, n_params)."""
        self.check_optimizer()
        with self.lock:
            for i in range(self.plan.optimizer.n_slots):
                unpack(&self.plan, self.plan.slots[i], flat_bytes(self, slots[i], True))

    cdef check_usable(self):
        if self.closed:
            raise RuntimeError("this session was closed")
        if self.process != os.getpid():      # forked: the workers stayed behind
            if self.plan.team != NULL:
                fb_team_forget(self.plan.team)
                self.plan.team = NULL
            self.process = os.getpid()

    cdef check_optimizer(self):
        if self.plan.optimizer == NULL:
            raise RuntimeError("this session has no optimizer yet: call set_optimizer")

    cdef check_run(self, int64_t batch_size, int64_t n_rates, int64_t n_epochs, int64_t n_losses,
                   order, shuffle):
        """What would read or write beyond an array, or never end."""
        self.check_optimizer()
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        n_steps = n_epochs * ((self.plan.n_samples + batch_size - 1) // batch_size)
        if n_rates not in (1, n_steps):
            raise ValueError("learning_rate must be a number or one for each step of this call")
        if n_losses < n_epochs:
            raise ValueError(f"losses has {n_losses} places for {n_epochs} epochs")
        if shuffle is not None and (order is None or not order.flags.writeable):
            raise ValueError("shuffling needs an order that may be written to")

    cdef start_looking(self, time_limit):
        """Signals are delivered to the main thread only; another one need not take the GIL."""
        cdef Plan *f = &self.plan
        cdef double step_ns = f.cost * min(f.batch_size, f.block_rows) / 10.0
        f.watch_signals = threading.get_ident() == threading.main_thread().ident
        f.interrupted = f.out_of_time = False
        f.deadline_ns = 0
        if time_limit is not None:
            f.deadline_ns = fb_clock_ns() + max(1, <int64_t>min(time_limit * 1e9, 4e18))
        f.session = <void *>self
        f.steps_between_looks = max(1, <int64_t>(200_000 / step_ns))
        f.steps_since_look = 0
        self.stop_signal = None

    cdef raise_signal(self):
        stop, self.stop_signal = self.stop_signal, None
        memset(self.plan.g, 0, self.plan.n_packed * self.plan.itemsize)
        raise stop

    cdef borrow_stream(self, shuffle, Stream *stream):
        """The stream to shuffle with: a bit generator itself, or a copy of a RandomState's; none
        if that is not MT19937."""
        bits = shuffle
        if isinstance(shuffle, np.random.RandomState):
            state = shuffle.get_state(legacy=False)
            if state["bit_generator"] != "MT19937":
                return
            if self.shuffler is None:
                self.shuffler = np.random.MT19937(0)
            self.shuffler.state = state
            bits = self.shuffler
        stream.bits = <bitgen_t *>PyCapsule_GetPointer(bits.capsule, "BitGenerator")
        stream.mersenne = NULL
        if type(bits) is np.random.MT19937 and mersenne_is_known():
            stream.mersenne = <fb_mt19937 *>stream.bits.state

    cdef give_stream_back(self, random_state):
        state = random_state.get_state(legacy=False)
        state["state"] = self.shuffler.state["state"]
        random_state.set_state(state)


def forget_running_fits():
    """In a forked child: the fits of the parent do not run there."""
    fb_reset_running_fits()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget_running_fits)
