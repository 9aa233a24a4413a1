"""The networks of a tabular estimator: ensembles of members that are trained as one network.

A fastbp estimator whose network has members (see `fastbp.engine.network`): the same data checks,
losses, training and predictions, with members in the place of the output layer.  They see encoded
columns only, live in `networks_`, and are not public on their own.  Also how several of them are
trained side by side.
"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import copy
from functools import partial

import numpy as np

from fastbp.activations import activations_for
from fastbp.data.features import check_features
from fastbp.engine import get_engine, network
from fastbp.engine.parallel import thread_ceiling
from fastbp.estimators import BackpropClassifier, BackpropRegressor
from fastbp.losses.combining import combine


class Members:
    """What an estimator with members has in the place of one with a single output layer.

    Attributes
    ----------
    coefs_, intercepts_ : lists of ndarray of shapes (n_in, n_out) and (n_out,)
        Of the hidden layers, which all members share.
    member_scales_ : ndarray of shape (n_members, n_features)
        What each member multiplies its inputs by.
    member_coefs_ : ndarray of shape (n_members, n_last_hidden, n_outputs)
    member_intercepts_ : ndarray of shape (n_members, n_outputs)
        The output layer of each.
    """

    @property
    def parts(self):
        """All arrays of the network, in the order of the flat vector."""
        return (
            self.coefs_,
            self.intercepts_,
            self.member_scales_,
            self.member_coefs_,
            self.member_intercepts_,
        )

    def reduced(self, n_members):
        """Make a copy with the first members."""
        smaller = copy(self)
        for name in ("member_scales_", "member_coefs_", "member_intercepts_"):
            setattr(smaller, name, np.ascontiguousarray(getattr(self, name)[:n_members]))
        smaller._n_members = n_members
        return smaller

    def scores_into(self, Z, out, n_threads):
        """Write the raw scores (n_members, n_samples, n_outputs) of encoded columns into `out`."""
        engine = get_engine(self.engine)
        activations = activations_for(self.activation, len(self.coefs_))
        finite = engine.predict_members_into(*self.parts, activations, Z, out, n_threads)
        if not finite:
            raise ValueError(
                "The network predicts values that are not finite: an attribute of networks_ was "
                "edited. Fit again."
            )

    def _network_of(self, problem, params):
        params = params.astype(problem.weights_dtype, copy=False)
        parts = network.member_views(params, problem.layer_sizes, problem.n_members)
        names = ("coefs_", "intercepts_", "member_scales_", "member_coefs_", "member_intercepts_")
        return dict(zip(names, parts, strict=True)) | {
            "n_layers_": len(problem.layer_sizes),
            "out_activation_": problem.loss.output,
        }

    def _raw_scores(self, X, *, hidden=False):
        """Raw scores of the mean prediction; for a scorer, which sees encoded columns."""
        engine = get_engine(self.engine)
        X, given = check_features(
            self, X, partial(self._prediction_dtype, self.coefs_[0].dtype), engine, reset=False
        )
        shape = self.member_intercepts_.shape
        scores = np.empty((shape[0], X.shape[0], shape[1]), X.dtype)
        self.scores_into(X, scores, thread_ceiling(self.n_threads))
        return combine(scores, self.out_activation_), engine, given


class MembersClassifier(Members, BackpropClassifier):
    """A classifier with members."""


class MembersRegressor(Members, BackpropRegressor):
    """A regressor with members."""


class Jobs:
    """The fits of all networks, which some threads take one after the other.

    Parameters
    ----------
    networks : list of fastbp estimators
        Fitted in place.
    data : tuple of X, y and sample_weight
    held_out : dict of X_val, y_val and sample_weight_val
    deadline : float or None
        By `time.perf_counter`: the networks that are still to come share the time that is left, and
        once it is over none begins but the first.
    n_workers : int
    tasks : NetworkTasks
    """

    def __init__(self, networks, data, held_out, deadline, n_workers, tasks):
        self.data, self.held_out, self.deadline = data, held_out, deadline
        self.n_workers, self.tasks = n_workers, tasks
        self.waiting, self.first = list(enumerate(networks)), networks[0]
        self.lock, self.stop = threading.Lock(), threading.Event()

    def next(self):
        """Return place and network of the next fit and the seconds it may take, or None."""
        with self.lock:
            if not self.waiting or self.stop.is_set():
                return None
            index, network = self.waiting.pop(0)
            rounds = 1 + len(self.waiting) // self.n_workers
        if self.deadline is None:
            return index, network, None
        seconds = (self.deadline - time.perf_counter()) / rounds
        if seconds <= 0 and network is not self.first:
            return None
        return index, network, max(seconds, 1e-3)

    def work(self):
        """Fit networks until there are none left, or something went wrong."""
        try:
            while (job := self.next()) is not None:
                index, network, network.max_time = job
                network._asked_to_stop = self.stop
                try:
                    with self.tasks.of(index, network):
                        X, *more = self.data
                        X = X.view()  # of an array or of a source of rows: for this thread
                        network.fit(X, *more, **self.held_out)
                finally:
                    del network._asked_to_stop, network._parts
        except BaseException:
            self.stop.set()
            raise


class NetworkTasks:
    """The fits of the networks as subtasks of a fit, for scikit-learn's callbacks.

    An estimator without callbacks pays nothing.
    """

    def __init__(self, estimator, n_networks, data):
        self.estimator, self.context = estimator, None
        if hasattr(estimator, "_skl_callbacks"):
            _, y, sample_weight = data
            metadata = {} if sample_weight is None else {"sample_weight": sample_weight}
            self.told = {"X": data[0], "y": y, "metadata": metadata}
            self.context = estimator._init_callback_context(
                max_subtasks=n_networks, sequential_subtasks=False
            )
            self.context.call_on_fit_task_begin(estimator=estimator, **self.told)
            self.parts = [
                self.context.subcontext(task_name="network", task_id=i) for i in range(n_networks)
            ]

    @contextmanager
    def of(self, index, network):
        """Tell the callbacks that a network begins and ends, and let them follow its epochs."""
        if self.context is None:
            yield
            return
        part = self.parts[index]
        with part.propagate_callback_context(network):
            part.call_on_fit_task_begin(estimator=self.estimator, **self.told)
            yield
            part.call_on_fit_task_end(estimator=self.estimator, **self.told)

    def end(self):
        """Tell the callbacks that the fit has ended."""
        if self.context is not None:
            self.context.call_on_fit_task_end(estimator=self.estimator, **self.told)


def train_all(estimator, networks, data, held_out, deadline, n_threads):
    """Fit networks, several at a time where there are threads for it; return those fitted.

    What a network becomes does not depend on the threads.  After an interrupt (Ctrl-C) the networks
    that had begun are kept as far as they came.
    """
    n_workers = max(1, min(n_threads, len(networks)))
    for one in networks:
        one.n_threads = max(1, n_threads // n_workers)
    tasks = NetworkTasks(estimator, len(networks), data)
    jobs = Jobs(networks, data, held_out, deadline, n_workers, tasks)
    with ThreadPoolExecutor(n_workers) as pool:  # this thread is one of the workers
        others = [pool.submit(jobs.work) for _ in range(n_workers - 1)]
        jobs.work()
        for other in others:
            other.result()
    tasks.end()
    return [one for one in networks if one.__sklearn_is_fitted__()]
