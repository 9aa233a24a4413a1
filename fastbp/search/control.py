"""What holds for all fits of a search: when to stop, how many threads, and who works.

The jobs are taken by a few threads, of which the caller's is one; no processes.  An interrupt
(Ctrl-C) or `max_time` sets one event, which every fit looks at.  What fits warn of is kept, and is
said once for all that say the same, at the user's line.
"""

import threading
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from itertools import chain
from typing import Any

from sklearn import config_context, get_config

from fastbp.engine.parallel import available_threads, thread_ceiling
from fastbp.messages import keep_warnings
from fastbp.training.minibatches import INTERRUPTED
from fastbp.training.stopping import StopEvent

LOOK_AROUND_S = 0.1  # seconds
SEARCH_INTERRUPTED = "The search was interrupted"


class StoppedError(Exception):
    """The search is to end: this fit is not finished."""


@dataclass
class Job:
    """Some work on fits, in one thread.

    Parameters
    ----------
    work : callable
    cost : float
        As far as it is known.
    part : Part or None
        The data that it needs; None where it makes no difference.
    is_large : bool
        Whether all cores pay off for it: it has them where nobody says how many fits run at a time.
    """

    work: Any
    cost: float = 0.0
    part: Any = None
    is_large: bool = False


def count_workers(n_jobs):
    """Return how many fits to run at a time: None is one a core; negative as in joblib."""
    if n_jobs is None:
        return thread_ceiling(None)
    if n_jobs == 0:
        raise ValueError("n_jobs must be None, a positive int, or -1 for all cores. Got 0.")
    cores = available_threads()
    return max(1, cores + 1 + n_jobs) if n_jobs < 0 else n_jobs


class Control:
    """Runs the jobs of a search, and ends it.

    Parameters
    ----------
    n_jobs : int or None
    max_time : float or None
        Seconds from now.
    """

    def __init__(self, n_jobs, max_time):
        self.n_workers, self.cores = count_workers(n_jobs), thread_ceiling(None)
        self.stop, self.lock = StopEvent(), threading.Lock()
        self.max_time, self.time_is_over = max_time, False
        self.waiting, self.n_running, self.warnings = [], 0, []
        self.freed = threading.Condition(self.lock)  # told when a job ends
        self.lets_alone, self.alone, self.n_large = n_jobs is None, False, 0
        self.large = None  # the large fold that was made last, or is being made

    @contextmanager
    def clock(self):
        """Stop the search when `max_time` is over."""
        if self.max_time is None:
            yield
            return
        timer = threading.Timer(self.max_time, self._end_time)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    @contextmanager
    def listening(self):
        """Keep what this block warns of; stop the search if a fit within it was interrupted.

        Such a fit (of a step, or within a `fit` of the user's) takes the interrupt for itself.
        """
        said = []
        try:
            with keep_warnings(said):
                yield
        finally:
            with self.lock:
                self.warnings += said
            if any(message.startswith((INTERRUPTED, SEARCH_INTERRUPTED)) for message, _ in said):
                self.stop.set()

    def _end_time(self):
        self.time_is_over = not self.stop.is_set()
        self.stop.set()

    def share(self):
        """Return how many threads a fit may use now: cores are not oversubscribed, nor idle."""
        with self.lock:
            n_active = min(self.n_workers, self.n_running + len(self.waiting))
            n_active = 1 if self.alone else n_active
        return max(1, self.cores // max(n_active, 1))

    def run(self, jobs):
        """Do the jobs and return when all are done or the search is stopped, by Ctrl-C, too.

        In this order, but that a job waits while another thread makes the data that it needs.

        Raises
        ------
        Exception
            What a job raised; the others are stopped.
        """
        self.waiting = list(jobs)
        n_threads, config = min(self.n_workers, len(self.waiting)), get_config()
        with ThreadPoolExecutor(max(n_threads - 1, 1)) as pool:
            others = []
            try:
                for _ in range(n_threads - 1):
                    others.append(pool.submit(copy_context().run, self._work, config))
                self._work(config)
                # With a look around now and then: a wait without an end may not notice the
                # interrupt (Windows, and where another thread was given the signal).
                while wait(others, LOOK_AROUND_S).not_done:
                    pass
            except BaseException as error:  # while the others begin, or are at work
                self.stop.set()
                if not isinstance(error, KeyboardInterrupt):
                    raise
            for other in others:
                other.result()

    def _work(self, config):
        try:
            with config_context(**config):  # which scikit-learn keeps for each thread
                while (job := self._take()) is not None:
                    try:
                        with self.listening():
                            job.work()
                    except StoppedError:
                        pass
                    finally:
                        with self.lock:
                            self.n_running -= 1
                            self.alone = False
                            self.freed.notify_all()
        except KeyboardInterrupt:  # between two fits, or in what a user has written
            self.stop.set()
        except BaseException:
            self.stop.set()
            raise

    def _take(self):
        """Return the next job: the first whose data no other thread is making just now.

        Of large folds one is made at a time, for then there are its rows as they came, too; who
        finds nothing else to do waits for it.
        """
        with self.lock:
            if self.stop.is_set() or not self.waiting:
                return None
            waits = self.large is not None and self.large.being_made
            free = (
                i for i, job in enumerate(self.waiting)
                if (part := job.part) is None or part.made
                or not (part.being_made or (waits and part.is_large))
            )  # fmt: skip
            made_now = (i for i, job in enumerate(self.waiting) if job.part.being_made)
            job = self.waiting.pop(next(chain(free, made_now), 0))
            if job.part is not None and not job.part.made:
                job.part.being_made = True
                if job.part.is_large:
                    self.large = job.part
            self._wait_for_cores(job.is_large and self.lets_alone)
            if self.stop.is_set():
                return None
            self.n_running += 1
            return job

    def _wait_for_cores(self, alone):
        """Wait until a job may begin: alone, or while nobody wants to be."""
        self.n_large += alone
        try:
            if alone:
                self.freed.wait_for(lambda: self.n_running == 0)
            else:
                self.freed.wait_for(lambda: not (self.alone or self.n_large))
        finally:
            self.n_large -= alone
        self.alone = alone
