"""The shards of one fit on a cluster: handed out, waited for within a limit, made again if lost.

All that is asked of a Dask client for training stands here, and nothing of what is trained.  A task
needs the data of its shard and what it is given, and both can be made again: partitions from the
user's graph, the last average from the client.  Dask therefore runs the tasks of a worker that died
elsewhere; what it gives up (a task with which one worker after the other died, data that were only
on a worker) is asked for again here, a few times.
"""

import threading
import time
from collections import Counter
from concurrent.futures import CancelledError
from contextlib import suppress
from functools import partial

import dask
import numpy as np
from distributed import Client, KilledWorker, get_client
from distributed.protocol import pickle

from fastbp.dask.partitions import is_connected
from fastbp.dask.shards import PartitionError, join

RETRIES = 2
LOOK_S = 0.2  # seconds between two looks at the clock and the tasks
ANSWER_S = 5.0  # seconds in which a scheduler should answer
# A state is sent to the scheduler with the task: that is meant, and no reason to warn.
QUIET = {"distributed.admin.large-graph-warning-threshold": "1TB"}


def find_client(client, timeout):
    """Return the client to work with, once it has a worker.

    Raises
    ------
    TypeError, ValueError, TimeoutError
        If there is none.
    """
    if client is None:
        try:
            client = get_client(timeout=timeout)
        except ValueError as error:
            raise ValueError(
                "There is no Dask cluster: make distributed.Client(...) before the fit, or give "
                "client=..."
            ) from error
    if not isinstance(client, Client) or client.asynchronous:
        raise TypeError(
            "client must be a synchronous distributed.Client or None. Got "
            f"{type(client).__name__}{'' if not isinstance(client, Client) else ' (asynchronous)'}."
        )
    if not is_connected(client):
        raise ValueError(
            f"The Dask client is {client.status}: make a new distributed.Client(...) and give it "
            "as client=... to the fit."
        )
    try:
        client.wait_for_workers(1, timeout=timeout)
    except TimeoutError as error:
        raise TimeoutError(f"In {timeout:g} s the Dask cluster got no worker.") from error
    return client


class Team:
    """The shards of one fit.

    Parameters
    ----------
    client : distributed.Client
    partitions : list of tuple of Delayed
        X, y and weight of each.
    n_shards : int or None
        None is one for each worker now, or for each partition where these are fewer.
    timeout : float
        Seconds to wait while no task ends.
    """

    def __init__(self, client, partitions, n_shards, timeout):
        if n_shards is None:
            n_shards = max(1, min(len(client.nthreads()), len(partitions)))
        if n_shards > len(partitions):
            raise ValueError(
                f"n_shards={n_shards}, but there are {len(partitions)} partitions: repartition the "
                "data, or use fewer shards."
            )
        self.client, self.partitions, self.timeout = client, partitions, timeout
        self.groups = np.array_split(np.arange(len(partitions)), n_shards)
        self.shards, self.was_there, self.changes = None, False, []

    def _name(self, group):
        first, last = int(group[0]), int(group[-1])
        return f"partition {first}" if first == last else f"partitions {first} to {last}"

    def _find_homes(self):
        """Return where each shard is to be: workers get equally many, each those it has most of.

        Dask alone would make a shard where its partitions are, and train there: all on one worker
        if that one has read all of them.  Another worker may take a shard whose own is gone.
        """
        ask = partial(self.client.sync, callback_timeout=ANSWER_S)
        try:
            workers, held = ask(self.client.scheduler.ncores), ask(self.client.scheduler.who_has)
        except Exception:  # whatever a scheduler in trouble does: what follows will tell
            workers, held = {}, {}
        most, taken, homes = -(-len(self.groups) // max(len(workers), 1)), Counter(), []
        for group in self.groups:
            there = Counter(
                worker for k in group for worker in held.get(self.partitions[k][0].key, ())
            )
            free = [worker for worker in workers if taken[worker] < most]
            if free:
                home = max(free, key=lambda worker: (there[worker], -taken[worker]))
                taken[home] += 1
                homes.append({"workers": [home], "allow_other_workers": True})
            else:
                homes.append({})
        return homes

    def _join(self):
        """Have the shards made."""
        homes = self._find_homes()
        flat = [one for part in self.partitions for one in part if one is not None]
        found = iter(self.client.compute(flat, retries=RETRIES))
        parts = [tuple(None if one is None else next(found) for one in part)
                 for part in self.partitions]  # fmt: skip
        self.shards = [
            self.client.submit(
                join, number, self._name(group), int(group[0]), [parts[k] for k in group],
                pure=False, **home,
            )
            for number, (group, home) in enumerate(zip(self.groups, homes, strict=True))
        ]  # fmt: skip
        for change, arguments in self.changes:
            self._change(change, arguments)

    def change(self, change, *arguments):
        """Have every shard replaced by ``change(shard, *arguments)``, whenever it is made."""
        self.changes.append((change, arguments))
        if self.shards is not None:
            self._change(change, arguments)

    def _change(self, change, arguments):
        held = [self.hold(value) for value in arguments]
        self.shards = [self.client.submit(change, one, *held, pure=False) for one in self.shards]

    def hold(self, value):
        """Return a future of a value, which the client sends again if its worker dies."""
        with dask.config.set(QUIET):
            return self.client.submit(_unpack, pickle.dumps(value), pure=False)

    def run(self, make):
        """Return the result of tasks on the shards.

        Parameters
        ----------
        make : callable
            ``make(submit, shards)`` submits tasks and returns the future of the last one.

        Raises
        ------
        RuntimeError
            If the partitions of a shard, or workers that live long enough, cannot be had.
        TimeoutError
            If no task ends for `timeout` seconds.
        """
        for left in range(RETRIES, -1, -1):
            tasks = []
            try:
                with dask.config.set(QUIET):
                    if self.shards is None:
                        self._join()
                    last = make(self._submitter(tasks), self.shards)
                    return self._wait(last, tasks)
            except (CancelledError, KilledWorker) as error:
                self.shards = None
                if left == 0:
                    raise RuntimeError(self._explain_loss(error)) from error
            except BaseException:
                self._cancel(tasks)
                raise
        return None

    def _submitter(self, tasks):
        def submit(function, *arguments, **keywords):
            tasks.append(self.client.submit(function, *arguments, pure=False, **keywords))
            return tasks[-1]

        return submit

    def _wait(self, last, tasks):
        """Return a result; give up if nothing ends for a while."""
        done, watched = threading.Event(), [*self.shards, *tasks]
        last.add_done_callback(lambda _: done.set())
        n_done, begun = 0, time.monotonic()
        while not done.wait(LOOK_S):
            n_now = sum(task.done() for task in watched)
            if n_now != n_done:
                n_done, begun = n_now, time.monotonic()
            if time.monotonic() - begun > self.timeout:
                raise TimeoutError(
                    f"For {self.timeout:g} s none of the {len(watched) - n_done} tasks at work has "
                    f"ended; {self._tell_workers()}. If rounds take that long, set a larger "
                    "timeout."
                )
        if last.status == "error":
            self._refuse_lost_partitions()
        result = last.result(timeout=self.timeout)
        self.was_there = True
        return result

    def _tell_workers(self):
        """Say how many workers there are, as far as anybody answers."""
        if not is_connected(self.client):
            return "the client has lost its scheduler"
        try:
            found = self.client.sync(self.client.scheduler.ncores, callback_timeout=ANSWER_S)
        except Exception:  # whatever a scheduler in trouble does
            return f"the scheduler did not answer in {ANSWER_S:g} s"
        return f"the cluster has {len(found)} workers, of which some may hang or be starting"

    def _refuse_lost_partitions(self):
        """Raise if the reason is a shard that cannot be made."""
        for shard, group in zip(self.shards, self.groups, strict=True):
            if shard.status != "error":
                continue
            error = shard.exception(timeout=self.timeout)
            if isinstance(error, PartitionError | KilledWorker | CancelledError):
                raise error
            again = " again" if self.was_there else ""
            raise RuntimeError(
                f"The data of {self._name(group)} cannot be loaded{again}: {type(error).__name__}: "
                f"{error}"
            ) from error

    def _explain_loss(self, error):
        return (
            f"Data or workers were lost {RETRIES + 1} times ({type(error).__name__}: {error}). "
            "Partitions that are only in the memory of a worker (scattered) cannot be loaded again "
            "when it dies: let Dask read or compute them. Or do workers run out of memory?"
        )

    def _cancel(self, tasks):
        with suppress(Exception):
            self.client.cancel(tasks)

    def close(self):
        """Let the workers drop the data."""
        self.shards = None


def _unpack(packed):
    """Return what was packed, in a task: Dask ends a worker that cannot read what it is sent."""
    try:
        return pickle.loads(packed)
    except ImportError as error:
        raise ModuleNotFoundError(
            f"The workers cannot import what the fit was given ({error}): install it there, or "
            "send it with client.upload_file(...)."
        ) from error
