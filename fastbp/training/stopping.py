"""When training ends: reasons, the rule for lack of progress, `max_time`, the event of others.

Who trains asks all of these in `Watcher.why_end` (`watching`) and `Run.train` (`minibatches`).
"""

import threading
from dataclasses import dataclass

# How training ends.
LIMIT, PLATEAU, ASKED, TIME = "limit of epochs", "no progress", "asked to stop", "max_time"
DIVERGED, FAILED = "diverged", "data could not be read or used"
ENDS = (LIMIT, PLATEAU, ASKED, TIME, DIVERGED)  # of a fit that is finished
# How a part of it ends.
PAUSED = "paused"


@dataclass
class Patience:
    """How long training goes on without improvement, by scikit-learn's rule.

    A loss improves if it is at most ``best - tol``, a score if it is at least ``best + tol``; each
    other one is counted, and an improvement begins the count anew.  The engines ask `saw_loss`
    after each epoch (the compiled one has the rule in `engine/native/epochs.pxd`); `watching` shows
    it validation scores.

    Parameters
    ----------
    tol : float, default=0.0
    n_iter_no_change : float, default=inf
        Most epochs in a row without improvement.
    best : float or None, default=None
        Lowest loss, or highest score, so far; to be set before the first is seen.
    count : int, default=0
        Epochs in a row without improvement.
    """

    tol: float = 0.0
    n_iter_no_change: float = float("inf")
    best: float | None = None
    count: int = 0

    def saw_loss(self, loss):
        """Count the loss of an epoch; return whether it is time to stop."""
        self.count = self.count + 1 if loss > self.best - self.tol else 0
        self.best = min(self.best, loss)
        return self.is_over()

    def saw_score(self, score):
        """Count the score of an epoch; one that is NaN (R2 of what is infinite) is no progress."""
        self.count = 0 if score >= self.best + self.tol else self.count + 1
        self.best = max(self.best, score)  # in this order: the best of -inf and NaN is -inf
        return self.is_over()

    def is_over(self):
        """Whether it is time to stop."""
        return self.count > self.n_iter_no_change


def find_deadline(begun, settings, *, incremental):
    """Return when `max_time` ends by `time.perf_counter`; partial_fit does not look at it."""
    return None if incremental or settings.max_time is None else begun + settings.max_time


class StopEvent(threading.Event):
    """Asks fits in this process to end; in a copy or a pickle of an estimator it becomes None."""

    def __reduce__(self):
        return _no_event, ()


def _no_event():
    return None
