"""What `verbose` shows of a search: one live line, or sparse lines in a log.

Text and clock only: it is told what happens, and knows nothing of how fits are run.
"""

import sys
import threading
import time

from fastbp.training.reports import (
    REFRESH_S,
    SILENCE_S,
    LiveLine,
    can_write_over,
    format_duration,
    is_milestone,
)


class SearchReport:
    """The lines of one search; all threads tell it.

    Parameters
    ----------
    verbose : int
        0 shows nothing; from 1 on a terminal or a notebook shows one line that is written over, any
        other output lines after 1, 2, 5, 10, 20, 50 ... candidates, at least one a minute while
        candidates end; from 2 on a line for each candidate.
    n_candidates, n_fits : int
    """

    def __init__(self, verbose, n_candidates, n_fits):
        self.verbose, self.n_candidates, self.n_fits = verbose, n_candidates, n_fits
        self.lock, self.begun = threading.Lock(), time.perf_counter()
        self.n_running = self.n_finished = self.n_discarded = 0
        self.best, self.cost_done, self.cost_left = None, 0.0, 0.0
        self.live = bool(verbose) and can_write_over(sys.stdout)
        self.line, self.shown_at = LiveLine(self.live), self.begun

    def begin_fit(self):
        """Count a fit that is being trained."""
        with self.lock:
            self.n_running += 1
            self._show_if_due()

    def pause_fit(self):
        """Count one that has ended or paused."""
        with self.lock:
            self.n_running -= 1

    def expect(self, cost):
        """Say what is still to be done, by its cost, which tells the time left."""
        with self.lock:
            self.cost_left = cost

    def end_fit(self, cost, spared=0.0):
        """Count what was done of a fit, and what of it need not be done, by their cost."""
        with self.lock:
            self.cost_done += cost
            self.cost_left -= cost + spared
            self._show_if_due()

    def end_candidate(self, params, score, *, discarded=False):
        """Count a candidate whose fits are all finished, or which was discarded."""
        with self.lock:
            if discarded:
                self.n_discarded += 1
            else:
                self.n_finished += 1
                if score == score and (self.best is None or score > self.best):  # NaN: failed
                    self.best = score
            if self.verbose > 1:
                print(f"{'discarded' if discarded else f'{score:.5g}'}: {params}")
            n_done = self.n_finished + self.n_discarded
            self._show_if_due(is_milestone(n_done) and not self.live)

    def close(self):
        """Show how the search has ended, and end the live line."""
        if self.verbose:
            self._show()
            self.line.end()

    def _show_if_due(self, milestone=False):
        silence_s = time.perf_counter() - self.shown_at
        due = silence_s >= (REFRESH_S if self.live else SILENCE_S)
        if self.verbose and (due or milestone):
            self._show()

    def _show(self):
        self.shown_at = time.perf_counter()
        self.line.show(self._describe(self.shown_at - self.begun))

    def _describe(self, elapsed_s):
        parts = [
            f"{self.n_finished} of {self.n_candidates} candidates finished",
            f"{self.n_running} fits running",
        ]
        if self.n_discarded:
            parts.append(f"{self.n_discarded} discarded")
        if self.best is not None:
            parts.append(f"best score {self.best:.5g}")
        if self.cost_done > 0 and self.cost_left > 1e-6 * self.cost_done:  # sums of floats
            left_s = elapsed_s * self.cost_left / self.cost_done
            parts.append(f"about {format_duration(left_s)} left")
        else:
            parts.append(format_duration(elapsed_s))
        return ", ".join(parts)
