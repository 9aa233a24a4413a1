"""The fits of a search on the workers of a Dask cluster: what is sent there, and what comes back.

Dask itself is imported by workers only; here is a client of the user's, and what it is asked to do.

What a fit is, and what the search makes of it, is the same as in threads: `RemoteFit` stands in the
place of a `CandidateFit`, and each of the threads of `Control` waits for one fit.  A worker gets
the data of the search (`Bench`) once, and keeps beside them, for as long as the search lasts, the
folds that it has preprocessed and the fits that are paused.  A fit goes on where it was paused; if
that worker is lost, or so busy that another one takes the fit over, it is trained from its
beginning: the same bits.
"""

import threading
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from traceback import format_exc
from uuid import uuid4

from sklearn import config_context, get_config

from fastbp.messages import keep_warnings
from fastbp.search.control import Control, StoppedError
from fastbp.search.fits import CandidateFit, Plan, make_fits
from fastbp.search.live import SearchReport
from fastbp.search.parts import Data
from fastbp.versions import __version__

RETRIES = 2  # of a task that could not be run; fits that fail are results, and are not repeated
PER_THREAD = 2  # fits handed over for each thread of the workers: one at work, one at hand
LOOK_S = 0.1  # seconds between two looks at whether the search is to end
ENDED = set()  # in a worker: searches that were stopped, of which a fit may only now begin


class Bench:
    """A search as a worker has it: all data, and a fit for each candidate and fold.

    Parameters
    ----------
    plan : Plan
        Its control, report and snapshot stay in this process.
    candidates : list of dict
    data : Data
    step : str or None
        Name of the network's step in a Pipeline.
    """

    def __init__(self, plan, candidates, data, step):
        self.sent = {
            "version": __version__,
            "search": uuid4().hex,
            "config": get_config(),
            "plan": (plan.estimator, plan.scorer, plan.error_score, plan.return_train_score),
            "whole": plan.whole,
            "data": (data.X, data.y, data.fit_params, data.score_params, data.splits),
            "candidates": candidates,
            "step": step,
        }
        self.__setstate__(self.sent)

    def __getstate__(self):
        return self.sent

    def __setstate__(self, state):
        self.sent, self.lock = state, threading.Lock()
        self.control, self.fits = Control(1, None), None

    def _open(self):
        """Make the fits, once for each worker; nothing is trained or preprocessed."""
        from distributed import get_worker

        worker, sent = get_worker(), self.sent
        if sent["search"] in ENDED:
            self.stop()
        with self.lock:
            if self.fits is None:
                if sent["version"] != __version__:
                    raise RuntimeError(
                        f"The worker {worker.address} has fastbp {__version__}, the search comes "
                        f"from fastbp {sent['version']}: install the same on all."
                    )
                # Each thread of the worker is taken to be busy: a fit has its share of the cores.
                self.control.n_workers = self.control.n_running = worker.state.nthreads
                report = SearchReport(0, 0, 0)
                plan = Plan(*sent["plan"], self.control, report, sent["whole"])
                self.fits = make_fits(plan, sent["candidates"], Data(*sent["data"]), sent["step"])
        return worker.address

    def train(self, candidate, fold, share):
        """Train a fit until this share of its epochs, and score it.

        Returns
        -------
        dict
            Attributes of the "fit", what it "scored", and "warnings"; or what it "raised".
        """
        worker, kept = self._open(), []
        fit = self.fits[candidate][fold]
        try:
            with config_context(**self.sent["config"]), keep_warnings(kept):
                fit.advance(share)
                scored = fit.score()
        except Exception as error:
            error.add_note(f"In a fit on the worker {worker}:\n{format_exc()}")
            return {"raised": error}
        names = ["ended", "error", "result", "n_epochs", "fit_time", "score_time"]
        found = {name: getattr(fit, name) for name in names} | {"curves": fit.read_curves()}
        return {"fit": found | {"worker": worker}, "scored": scored, "warnings": kept}

    def drop(self, places):
        """Give up fits that the search needs no more, and the data that nobody else needs."""
        for candidate, fold in places if self.fits else ():
            self.fits[candidate][fold].give_up()

    def stop(self):
        """End the fits that are being trained, and those that begin."""
        self.control.stop.set()


def train_on_worker(bench, candidate, fold, share):
    """Train a fit: the task that a worker runs."""
    return bench.train(candidate, fold, share)


async def tell_worker(key, search, what, *arguments, dask_worker):
    """Call a method of the bench of a worker that has one (a coroutine: it runs at once)."""
    if what == "stop":  # also for who is still to get the bench, with a fit under way to it
        ENDED.add(search)
    if key in dask_worker.data:
        getattr(dask_worker.data[key], what)(*arguments)


class Cluster:
    """The workers, as one search sees them.

    Parameters
    ----------
    client : distributed.Client
    control : Control
        Of the search.
    bench : Bench
    """

    def __init__(self, client, control, bench):
        self.client, self.control, self.bench = client, control, bench
        self.lock, self.held, self.forgotten = threading.Lock(), None, {}

    def _send(self, lost=None):
        """Return the data on the workers; they are sent once, and again if all who had them died.

        They go to one worker, and from worker to worker with the first fit of each: Dask's own
        broadcast waits for workers that die meanwhile.

        Parameters
        ----------
        lost : Future or None
            The data that were sent before, and are lost.
        """
        with self.lock:
            if self.control.stop.is_set():  # another thread has waited in vain
                raise StoppedError
            if self.held is None or self.held is lost:
                try:
                    self.held = self._scatter()
                except BaseException:
                    self.control.stop.set()
                    raise
            return self.held

    def _scatter(self):
        error = None
        for _ in range(RETRIES + 1):
            try:
                return self.client.scatter(self.bench, hash=False)
            except OSError as missing:  # that worker has just died, or none came for a while
                error = missing
        if isinstance(error, TimeoutError):
            raise RuntimeError(
                "The data of the search could not be sent: the cluster has no worker. "
                f"{RETRIES + 1} times Dask's timeout for connections were waited for one; "
                "client.wait_for_workers(1) waits longer."
            ) from error
        raise error

    def train(self, place, share, worker):
        """Let a worker train a fit; return what `Bench.train` does.

        Parameters
        ----------
        place : tuple of int
            Numbers of candidate and fold.
        share : float
        worker : str or None
            Address of the worker that has begun it: taken if it is there.

        Raises
        ------
        StoppedError
            If the search is to end.
        distributed.KilledWorker
            If worker after worker died of the fit.
        """
        held, there = self._send(), {}
        self._tell_forgotten()
        if worker is not None:
            there = {"workers": [worker], "allow_other_workers": True}
        while True:
            try:
                future = self.client.submit(
                    train_on_worker, held, *place, share, pure=False, retries=RETRIES, **there
                )
                self._wait(future)
                return future.result()
            except CancelledError:  # the data are gone, with the last worker that had them
                held = self._send(lost=held)

    def _wait(self, future):
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        while not done.wait(LOOK_S):
            if self.control.stop.is_set():
                future.cancel()
                raise StoppedError

    def forget(self, worker, place):
        """Let a worker give a fit up: said with the next message, of many fits at once."""
        with self.lock:
            self.forgotten.setdefault(worker, []).append(place)

    def tell(self, what, *arguments, workers=None):
        """Call a method of the benches of these workers, or of all.

        Nobody waits for it: a worker that is dead, and not yet known to be, is called for 30 s.
        """
        if self.held is not None:
            how = {"workers": workers, "on_error": "ignore"}
            threading.Thread(
                target=self._say, args=(self.held, (what, *arguments), how), daemon=True
            ).start()

    def _say(self, held, message, how):
        # `held` keeps the data on the workers until all have heard: else one may have let them go,
        # and not know whose fit it trains.
        with suppress(Exception):  # the search, or the client, may have ended
            self.client.run(tell_worker, held.key, self.bench.sent["search"], *message, **how)

    def _tell_forgotten(self):
        with self.lock:
            forgotten, self.forgotten = self.forgotten, {}
        for worker, places in forgotten.items():
            self.tell("drop", places, workers=[worker])

    def close(self):
        """End what is being trained, and let the workers drop the data."""
        if self.control.stop.is_set():
            self.tell("stop")
        self.held = None


class RemoteFit(CandidateFit):
    """A fit that a worker trains; here are its results."""

    def __init__(self, cluster, place, fit):
        super().__init__(fit.plan, fit.params, fit.part, fit.cost)
        self.cluster, self.place, self.worker = cluster, place, None
        self.part.made = True  # not here: no fit need wait for another one
        self.part.places.append(place)

    def advance(self, share=1.0):
        """Have it trained until this share of `max_iter` epochs, and scored; as `CandidateFit`."""
        self.share = share
        if self.ended or self._knows(share):
            return
        self.plan.report.begin_fit()
        try:
            found = self.cluster.train(self.place, share, self.worker)
        finally:
            self.plan.report.pause_fit()
        if "raised" in found:
            raise found["raised"]
        with self.plan.control.lock:
            self.plan.control.warnings += found["warnings"]
        vars(self).update(found["fit"])
        self.scores[share] = found["scored"]  # which `score` finds there
        if self.ended:
            self.ended_at = share
            self._leave()
        if self.plan.keeper is not None:
            self.plan.keeper.note(self)

    def give_up(self):
        """End the fit as it is: it gets no score, but keeps its curves."""
        if self.worker is not None and not self.left:
            self.cluster.forget(self.worker, self.place)
        self._leave()

    def _leave(self):
        if not self.left:
            super()._leave()
            if self.part.n_fits == 0 and self.part.preprocesses:
                self.cluster.tell("drop", self.part.places)


@contextmanager
def hand_over(client, plan, candidates, data, step):
    """Make the fits of a search, and hand them over to the workers of `client` if there is one."""
    fits = make_fits(plan, candidates, data, step)
    if client is None:
        yield fits
        return
    cluster = Cluster(client, plan.control, Bench(plan, candidates, data, step))
    try:
        yield [
            [RemoteFit(cluster, (c, fold), fit) for fold, fit in enumerate(row)]
            for c, row in enumerate(fits)
        ]
    finally:
        cluster.close()


def check_client(client):
    """Raise for a client that a search cannot use: asynchronous, closing or closed."""
    if getattr(client, "asynchronous", False):
        raise TypeError("client must be a synchronous distributed.Client. Got an asynchronous one.")
    status = getattr(client, "status", "running")
    if status in ("closing", "closed"):
        raise ValueError(
            f"client is {status}: make a new distributed.Client(...), and give it by "
            "set_params(client=...)."
        )


def count_fits_at_a_time(client, n_jobs):
    """Return how many fits to hand over at a time."""
    if n_jobs is not None and n_jobs >= 0:
        return n_jobs
    return max(1, PER_THREAD * sum(client.nthreads().values()))
