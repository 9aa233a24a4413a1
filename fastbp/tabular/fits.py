"""The fits of a tabular estimator's networks: side by side, within a limit, told to callbacks.

Which networks there are is the estimator's business, and how one is trained that of `training`.
"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import count

import numpy as np

from fastbp.data.row_source import RowSource
from fastbp.messages import keep_warnings, without_advice
from fastbp.streams.rows import SourceError
from fastbp.training.minibatches import INTERRUPTED
from fastbp.training.snapshots import beside
from fastbp.training.stopping import StopEvent

LOOK_AROUND_S = 0.1
# What training on would need, some times the weights, in every pickle: a network of an ensemble is
# not trained on.
OF_TRAINING = ("_optimizer", "_place", "_seen")


def train_ensemble(make, train, parts, seeds, dropouts):
    """Train a network for each part; the first with each dropout, of which the better one stays.

    Parameters
    ----------
    make : callable
        ``make(rows, seed, dropout)``: a network that is not fitted.
    train : callable
        ``train(networks)``: those that were fitted, and whether training was stopped.
    parts : list of tuple of ndarray or None
        Rows to train on and rows to hold out, of each network.
    seeds : list of int
    dropouts : list
        With more than one the other networks get that of the better first one.

    Returns
    -------
    list of fitted estimators
    """
    jobs = [make(parts[0], seeds[0], dropout) for dropout in dropouts]
    if len(dropouts) == 1:
        jobs += [make(*one, dropouts[0]) for one in zip(parts[1:], seeds[1:], strict=True)]
        return train(jobs)[0]
    first, stopped = train(jobs)
    best = min(first, key=held_out_loss)
    if stopped or len(parts) == 1:
        return [best]
    return [
        best,
        *train([make(*one, best.dropout) for one in zip(parts[1:], seeds[1:], strict=True)])[0],
    ]


def held_out_loss(network):
    """Order networks by their best score on held-out rows; without one (NaN) they come last."""
    score = network.best_validation_score_
    return np.inf if score is None else -score


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
    failures : list
        Gets the error of a source that could not be read to the end; the networks that it left
        with a model are kept, and nothing more is trained.
    snapshots : Snapshots
    """

    def __init__(self, networks, data, held_out, deadline, tasks, said, failures, snapshots):
        self.data, self.held_out, self.deadline = data, held_out, deadline
        self.tasks = tasks
        self.waiting, self.first = list(networks), networks[0]
        snapshots.give(networks)
        self.lock, self.stop = threading.Lock(), Stop(tasks.estimator._asked_to_stop)
        self.warnings, self.failures = said, failures

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
                    with (
                        self.tasks.of(network, self.stop),
                        keep_warnings(self.warnings),
                        without_advice("dtype", "scale_targets"),
                    ):
                        X, *more = self.data
                        if isinstance(X, RowSource):
                            X = X.view()  # for this thread
                        network.fit(X, *more, **self.held_out)
                except SourceError as error:
                    self.failures.append(error)
                    self.stop.end()
                finally:
                    del network._asked_to_stop, network._parts, network._snapshot
                    del network._calibrates
                for name in OF_TRAINING:
                    vars(network).pop(name, None)
        except BaseException:
            self.stop.end()
            raise


class Stop(StopEvent):
    """Whether the networks of a fit are to end, asked by one of them or by who runs the fit.

    Parameters
    ----------
    outer : threading.Event or None
        Of who runs this fit and others; an interrupt (`set`) ends all, `end` only this one.
    """

    def __init__(self, outer):
        super().__init__()
        self.outer = outer

    def is_set(self):
        """Whether somebody has asked."""
        return super().is_set() or (self.outer is not None and self.outer.is_set())

    def end(self):
        """End the networks of this fit."""
        super().set()

    def set(self):
        """End the networks of this fit, and the fits beside it."""
        self.end()
        if self.outer is not None:
            self.outer.set()


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

        If one asks to stop after a network, `stop` ends the others.
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
                stop.end()

    def end(self):
        """Tell the callbacks that the fit has ended, and what it came to."""
        if self.context is not None:
            self.context.call_on_fit_task_end(
                estimator=self.estimator,
                reconstruction_attributes=self.estimator._fitted_attributes,
                **self.told,
            )


class Snapshots:
    """Files for the networks of a fit, numbered in the order in which they are made."""

    def __init__(self, snapshot):
        self.snapshot, self.numbers = snapshot, count()

    def give(self, networks):
        """Give each network its own, or None."""
        for network, number in zip(networks, self.numbers, strict=False):
            network._snapshot = self.snapshot and beside(self.snapshot, f".{number}")


def train_all(
    networks, data, held_out, deadline, n_threads, n_workers, tasks, said, failures, snapshots
):  # fmt: skip
    """Fit networks, several at a time where there are threads for it.

    What a network becomes does not depend on the threads.  After an interrupt (Ctrl-C) the networks
    that had begun are kept as far as they came.

    Returns
    -------
    fitted : list of fastbp estimators
    stopped : bool
        Whether an interrupt or a callback asked for an end.
    """
    n_workers = max(1, min(n_threads, len(networks), n_workers or n_threads))
    for one in networks:
        one.n_threads = max(1, n_threads // n_workers)
    jobs = Jobs(networks, data, held_out, deadline, tasks, said, failures, snapshots)
    with ThreadPoolExecutor(n_workers) as pool:  # this thread is one of the workers
        others = [pool.submit(jobs.work) for _ in range(n_workers - 1)]
        jobs.work()
        _wait_for(others, jobs)
    fitted = [one for one in networks if one.__sklearn_is_fitted__()]
    if failures and not fitted:
        raise failures[0]
    return fitted, jobs.stop.is_set()


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
