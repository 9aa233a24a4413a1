"""The networks of a tabular estimator: ensembles of members that are trained as one network.

A fastbp estimator whose network has members (see `fastbp.engine.network`): the same data checks,
losses, training and predictions, with members in the place of the output layer.  They see encoded
columns only, live in `networks_`, and are not public on their own.  Also how several of them are
trained side by side.
"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from copy import copy
from functools import partial

import numpy as np

from fastbp.activations import activations_for
from fastbp.data.features import check_features
from fastbp.engine import get_engine, network
from fastbp.engine.parallel import thread_ceiling
from fastbp.estimators import BackpropClassifier, BackpropRegressor
from fastbp.estimators.base_parameters import BaseParameters
from fastbp.losses.combining import combine
from fastbp.messages import keep_warnings
from fastbp.tabular.attributes import check_members, members_of, refuse_ensemble, refuse_numbers
from fastbp.training.minibatches import INTERRUPTED

LARGEST = np.finfo(np.float64).max
LOOK_AROUND_S = 0.1
# What training on would need, some times the weights, in every pickle: a network of an ensemble is
# not trained on.
OF_TRAINING = ("_optimizer", "_place", "_seen")


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

    _is_ensemble = True
    _saved_names = ("_n_members",)  # attributes beside the usual ones, for fastbp.save

    def reduced(self, n_members):
        """Make a copy with the first members."""
        smaller = copy(self)
        for name in ("member_scales_", "member_coefs_", "member_intercepts_"):
            setattr(smaller, name, np.ascontiguousarray(getattr(self, name)[:n_members]))
        smaller._n_members = n_members
        return smaller

    def _check_fitted(self):
        """Check all that a prediction reads; for a saved model, too."""
        check_members(vars(self))

    def scores_of(self, Z, n_threads):
        """Return the raw scores (n_members, n_samples, n_outputs) of encoded columns."""
        engine, state = get_engine(self.engine), vars(self)
        parts = members_of(state, engine)
        activations = activations_for(self.activation, len(parts[0]))
        if parts[0][0].dtype != Z.dtype:  # edited ones
            with np.errstate(over="ignore"):
                lists = ([array.astype(Z.dtype) for array in part] for part in parts[:2])
                parts = *lists, *(array.astype(Z.dtype) for array in parts[2:])
        n_members, n_outputs = parts[-1].shape
        scores = np.empty((n_members, Z.shape[0], n_outputs), Z.dtype)
        if not engine.predict_members_into(*parts, activations, Z, scores, n_threads):
            refuse_numbers(state, parts)
            raise ValueError(
                "A network of networks_ predicts values beyond the range of float32. Fit again."
            )
        return scores

    def _refuse(self, predictions):
        """Bring values beyond float64 (in place) to its ends: they are clipped to the range of y.

        Not what edited weights, or an edited scale, make of them.
        """
        refuse_numbers(vars(self), members_of(vars(self)))
        np.clip(predictions, -LARGEST, LARGEST, out=predictions)

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
        if hidden:
            refuse_ensemble(self, "transform")
        engine = get_engine(self.engine)
        X, given = check_features(
            self, X, partial(self._prediction_dtype, np.dtype(np.float32)), engine, reset=False
        )
        scores = self.scores_of(X, thread_ceiling(self.n_threads))
        return combine(scores, self.out_activation_), engine, given

    @property
    def _n_features_out(self):
        raise AttributeError(f"{type(self).__name__} transforms nothing.")

    def _html_repr(self):
        """Display for notebooks, without a drawing: that would be of one network."""
        return BaseParameters._html_repr(self)


def _refusing(name):
    """Make a method that says that networks with members have none of this name."""

    def method(self, *arguments, **keywords):
        refuse_ensemble(self, name)

    method.__name__ = name
    return method


for _name in (
    "partial_fit", "transform", "fit_transform", "get_feature_names_out", "summary", "to_c",
    "to_sklearn",
):  # fmt: skip
    setattr(Members, _name, _refusing(_name))


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
        By `time.perf_counter`.  A network gets all the time that is left, and once it is over none
        begins but the first: with 2 s for six sets of 4000 to 8000 rows two networks had 3 to 8 %
        more errors than the whole fit, five that shared the time 10 to 14 % (November 2026).
    tasks : NetworkTasks
    said : list
        Gets message and category of warnings.
    """

    def __init__(self, networks, data, held_out, deadline, tasks, said):
        self.data, self.held_out, self.deadline = data, held_out, deadline
        self.tasks = tasks
        self.waiting, self.first = list(networks), networks[0]
        self.lock, self.stop = threading.Lock(), threading.Event()
        self.warnings = said

    def next(self):
        """Return the network of the next fit and the seconds that it may take, or None."""
        with self.lock:
            if not self.waiting or self.stop.is_set():
                return None
            network = self.waiting.pop(0)
        if self.deadline is None:
            return network, None
        seconds = self.deadline - time.perf_counter()
        if seconds <= 0 and network is not self.first:
            return None
        return network, max(seconds, 1e-3)

    def work(self):
        """Fit networks until there are none left, or something went wrong."""
        try:
            while (job := self.next()) is not None:
                network, network.max_time = job
                network._asked_to_stop = self.stop
                try:
                    with self.tasks.of(network, self.stop), keep_warnings(self.warnings):
                        X, *more = self.data
                        X = X.view()  # of an array or of a source of rows: for this thread
                        network.fit(X, *more, **self.held_out)
                finally:
                    del network._asked_to_stop, network._parts
                for name in OF_TRAINING:
                    vars(network).pop(name, None)
        except BaseException:
            self.stop.set()
            raise


class NetworkTasks:
    """The fits of the networks as subtasks of a fit, for scikit-learn's callbacks.

    An estimator without callbacks pays nothing.
    """

    def __init__(self, estimator, n_networks, X, y, sample_weight):
        self.estimator, self.context, self.lock = estimator, None, threading.Lock()
        if hasattr(estimator, "_skl_callbacks"):
            metadata = {} if sample_weight is None else {"sample_weight": sample_weight}
            self.told = {"X": X, "y": y, "metadata": metadata}
            self.context = estimator._init_callback_context(
                max_subtasks=n_networks, sequential_subtasks=False
            )
            self.context.call_on_fit_task_begin(estimator=estimator, **self.told)
            self.parts = [
                self.context.subcontext(task_name="network", task_id=i) for i in range(n_networks)
            ]

    @contextmanager
    def of(self, network, stop):
        """Tell the callbacks that a network begins and ends, and let them follow its epochs.

        If one asks to stop after a network, `stop` is set.
        """
        if self.context is None:
            yield
            return
        with self.lock:
            part = self.parts.pop(0)
        with part.propagate_callback_context(network):
            part.call_on_fit_task_begin(estimator=self.estimator, **self.told)
            yield
            if part.call_on_fit_task_end(estimator=self.estimator, **self.told):
                stop.set()

    def end(self):
        """Tell the callbacks that the fit has ended, and what it came to."""
        if self.context is not None:
            self.context.call_on_fit_task_end(
                estimator=self.estimator,
                reconstruction_attributes=self.estimator._fitted_attributes,
                **self.told,
            )


def train_all(networks, data, held_out, deadline, n_threads, tasks, said):
    """Fit networks, several at a time where there are threads for it.

    What a network becomes does not depend on the threads.  After an interrupt (Ctrl-C) the networks
    that had begun are kept as far as they came.

    Returns
    -------
    fitted : list of fastbp estimators
    stopped : bool
        Whether an interrupt or a callback asked for an end.
    """
    n_workers = max(1, min(n_threads, len(networks)))
    for one in networks:
        one.n_threads = max(1, n_threads // n_workers)
    jobs = Jobs(networks, data, held_out, deadline, tasks, said)
    with ThreadPoolExecutor(n_workers) as pool:  # this thread is one of the workers
        others = [pool.submit(jobs.work) for _ in range(n_workers - 1)]
        jobs.work()
        _wait_for(others, jobs)
    return [one for one in networks if one.__sklearn_is_fitted__()], jobs.stop.is_set()


def _wait_for(others, jobs):
    """Wait for the other threads; after an interrupt they end after the epoch in hand.

    With a look around now and then: a wait without an end may not notice the interrupt (Windows,
    and where the system gives the signal to another thread).
    """
    try:
        while wait(others, LOOK_AROUND_S).not_done:
            pass
    except KeyboardInterrupt:
        jobs.stop.set()
        jobs.warnings.append((INTERRUPTED, UserWarning))
    for other in others:
        other.result()
