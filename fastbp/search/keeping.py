"""The snapshot of a search: what its fits have come to, in one file, so that a killed one goes on.

Of a fit that has ended its scores, times and curves are kept; of one that is trained in parts and
has begun also the state of its training (`fastbp.training.progress`), unless a worker of a cluster
has it; of halving and the median rule the scores at each look, so that all decisions are made
again as they were.  How the file is written, and when it is of another search, is the business of
`fastbp.training.keeping`.
"""

import threading
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from numbers import Integral

import numpy as np
from sklearn.base import clone

from fastbp.engine import get_engine
from fastbp.engine.precision import PRECISIONS, least_precise
from fastbp.optimizers import is_full_batch
from fastbp.search.candidates import draws_candidates, fits_in_parts
from fastbp.tabular.base import BaseTabular
from fastbp.training.keeping import COPIES, SealedFile, describe_machine
from fastbp.training.meaning import describe as describe_meaning
from fastbp.training.meaning import digest
from fastbp.training.progress import Progress
from fastbp.training.sameness import identify_given, identify_settings
from fastbp.training.snapshots import as_snapshot, beside, find_snapshot
from fastbp.training.state import describe, restore
from fastbp.values import decode

# Parameters that change no result, and those whose meaning is among the data.
LEFT_OUT = ("n_jobs", "client", "verbose", "max_time", "snapshot", "params", "cv", "random_state")


@dataclass
class Kept:
    """What is kept of one fit.

    Parameters
    ----------
    scores : dict of float to dict
        By share of `max_iter`, the result that scikit-learn's searches keep.
    ended_at : float or None
        The share up to which it was to train when it ended.
    error : str or None
    n_epochs : int
    fit_time, score_time : float
    curves : dict
    state : Progress or None
        Of one that has not ended.
    """

    scores: dict = field(default_factory=dict)
    ended_at: float | None = None
    error: str | None = None
    n_epochs: int = 0
    fit_time: float = 0.0
    score_time: float = 0.0
    curves: dict = field(default_factory=dict)
    state: Progress | None = None

    def describe(self, writer, name):
        """Turn it into JSON, and put its arrays into `writer`."""
        values = {k: v for k, v in vars(self).items() if k not in ("state", "curves")}
        values["curves"] = {
            k: None if curve is None else np.array(curve, np.float64)
            for k, curve in ({} if self.state else self.curves).items()
        }
        found = {k: writer.encode(value, f"{name} {k}") for k, value in values.items()}
        found["state"] = self.state and describe(self.state, writer, f"{name} ")
        return found

    def has_failed(self):
        """Whether the fit raised, or its score is NaN."""
        found = [result["test_scores"] for result in self.scores.values()]
        found = [
            one for each in found for one in (each.values() if isinstance(each, dict) else [each])
        ]
        return self.error is not None or any(one != one for one in found)

    @classmethod
    def restore(cls, description, arrays):
        """Return what `describe` described."""
        state = description["state"]
        values = {k: decode(v, arrays) for k, v in description.items() if k != "state"}
        curves = {k: c if c is None else c.tolist() for k, c in values.pop("curves").items()}
        return cls(**values, curves=curves, state=state and restore(state, arrays))


class SearchKeeper:
    """Keeps what the fits of a search have come to in its file.

    Parameters
    ----------
    snapshot : Snapshot
    search : BackpropSearchCV
    network : estimator
        The network in the search's estimator.
    candidates : list of dict
    data : fastbp.search.parts.Data
    """

    def __init__(self, snapshot, search, network, candidates, data):
        self.file, self.lock = SealedFile(snapshot, "search"), threading.Lock()
        self.snapshot, self.fits = snapshot, []
        bare = copy(search)
        bare.estimator = _without_callbacks(search.estimator)
        settings = identify_settings(bare, leave_out=LEFT_OUT)
        settings["candidates"] = digest(describe_meaning(candidates)).hex()
        self.settings, self.data, self.engine = settings, data, get_engine(network.engine)
        self.precision = _find_precision(network, candidates)
        self.call = self._describe_call(None)

    def _describe_call(self, engine):
        data = self.data
        given = {"X": data.X, "y": data.y, "splits of cv": data.splits}
        given |= {f"{name} of fit": value for name, value in data.fit_params.items()}
        given |= {f"{name} of the scorer": value for name, value in data.score_params.items()}
        engine = engine or self.engine
        found = {name: identify_given(value, engine) for name, value in given.items()}
        machine = describe_machine(self.engine, self.precision)
        return {"machine": machine, "settings": self.settings, "data": found}

    def follow(self, fits):
        """Keep these fits from now on, and tell them what an earlier life has left of them.

        One that failed, or whose scorer did, is tried again: what it lacked, such as memory, may
        be there now.

        Raises
        ------
        ValueError
            If the file is damaged, or of another search or machine.
        """
        self.fits = fits
        read = self.file.read(lambda engine: self._describe_call(engine) if engine else self.call)
        if read is None:
            return
        values, arrays = read
        try:
            for name, one in values.items():
                candidate, fold = map(int, name.split())
                kept = Kept.restore(one, arrays)
                if not kept.has_failed():
                    fits[candidate][fold].take_up(kept)
        except (ValueError, TypeError, LookupError) as error:
            raise self.file.refusal(error) from error

    def look(self, fit):
        """Keep a fit that is in a pause, if it is time to."""
        n_fits = fit.plan.control.n_running
        self.file.expect(COPIES * fit.open.progress.params.nbytes * n_fits)
        if self.file.is_due(fit.n_epochs, fit.kept_at, n_fits):
            self.write(fit.keep)

    def note(self, fit):
        """Keep a fit that was scored or has ended."""
        fit.keep()
        if self.snapshot.every_epochs is not None or self.file.is_due():
            self.write()

    def write(self, keep=None):
        """Write what is kept of all fits, after `keep` has kept more."""
        with self.lock:
            self.file.write(self.call, partial(self._describe, keep))

    def _describe(self, keep, writer):
        """Turn what is kept of all fits into JSON, by numbers of candidate and fold."""
        if keep is not None:
            keep()
        return {
            f"{c} {f}": fit.kept.describe(writer, f"{c} {f}")
            for c, row in enumerate(self.fits)
            for f, fit in enumerate(row)
            if fit.kept is not None
        }


def _without_callbacks(estimator):
    """Return a copy that tells nobody: what callbacks have come to is no setting."""
    bare = clone(estimator)
    for one in (bare, *dict(getattr(bare, "steps", ())).values()):
        getattr(one, "__dict__", {}).pop("_skl_callbacks", None)
    return bare


def _find_precision(network, candidates):
    """Return the least precise `matmul_precision` of the fits; what is none they will refuse."""
    asked = [network.matmul_precision, *(one for each in candidates for one in _asked_by(each))]
    return least_precise(
        [PRECISIONS[0], *(one for one in asked if isinstance(one, str) and one in PRECISIONS)]
    )


def _asked_by(params):
    """Yield each `matmul_precision` among parameters, and among those of estimators there."""
    for name, value in params.items():
        if name.rpartition("__")[2] == "matmul_precision":
            yield value
        elif hasattr(value, "get_params") and not isinstance(value, type):
            yield from _asked_by(value.get_params())


def check_snapshots(search, params):
    """Refuse what would give the fits of a search one file, or a search other candidates."""
    inner = [search.estimator, *dict(getattr(search.estimator, "steps", ())).values()]
    found = [name for name in params if name.rpartition("__")[2] == "snapshot"]
    found += [one for one in inner if find_snapshot(one) is not None]
    if found:
        raise ValueError(
            f"The fits of a search cannot share one snapshot ({found[0]!r}). Give it to the "
            "search: BackpropSearchCV(..., snapshot=path)."
        )
    seeded = isinstance(search.random_state, Integral)
    if search.snapshot is not None and not seeded and draws_candidates(search):
        raise ValueError(
            f"snapshot needs an int as random_state, got {search.random_state!r}: it draws the "
            "candidates, which a later process must draw again."
        )


def _can_be_kept(network):
    """Whether a fit of a network takes a snapshot; a `fit` of the user's own may be several."""
    if isinstance(network, BaseTabular):
        own = type(network).fit is not BaseTabular.fit
        return not own and isinstance(network.random_state, Integral) and network.max_time is None
    is_shared = isinstance(network.random_state, np.random.RandomState)
    return fits_in_parts(network) and not is_full_batch(network.solver) and not is_shared


@contextmanager
def lend_snapshot(network, given):
    """Give the refit a file beside that of the search, if its state can be kept."""
    snapshot = as_snapshot(given)
    if snapshot is None or not _can_be_kept(network):
        yield
        return
    network._snapshot = beside(snapshot, ".refit")
    network._snapshot._replaces_others = True  # of an earlier life, which had another best
    try:
        yield
    finally:
        del network._snapshot
