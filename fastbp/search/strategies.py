"""Which fits are trained when, and which are given up: all, successive halving, the median rule.

Decisions wait for all scores that they compare, so that they do not depend on the threads.
"""

import math
from functools import partial

import numpy as np

from fastbp.search.control import Job
from fastbp.search.fits import epochs_until, number_of_score

# The rungs of a halving, as shares of max_iter. With epochs that grow by `factor` (Jamieson &
# Talwalkar) 60 candidates are down to 7 before a third of the epochs, where scores mislead. Of
# draws of half of 60 to 200 candidates (five tables, 60 draws each, 20 or 50 epochs, November 2026)
# the best one came through 82 % of these three rungs and 19 % of those; the epochs were 3.7 times
# fewer than the full search's, there 3.4 to 8 times.
RUNGS = (0.1, 0.4, 1.0)
# The median rule: when a candidate is looked at, by share of its max_iter; and how many are trained
# to the end to compare with, as a share of all, and at least.
LOOKS = (0.25, 0.5)
REFERENCES, FEWEST_REFERENCES = 0.25, 3
FINISHED, DISCARDED, UNFINISHED, FAILED = "finished", "discarded", "unfinished", "failed"


class Search:
    """All fits of a search, and how far each candidate is.

    Parameters
    ----------
    candidates : list of dict
    fits : list of list of CandidateFit
        Of each candidate, one for each fold.
    control : Control
    report : SearchReport
    metric : str
        Name of the score that candidates are compared by.

    Attributes
    ----------
    status : list of str
        Of each candidate: "finished", "failed" (a fit of it did), "discarded" or "unfinished".
    rung : list of int
        Last rung that each has completed, from 0; -1 for none.
    rungs : list of tuple of (share of max_iter, number of candidates)
        Those of a halving.
    best_of_rung : int or None
        The best candidate of the last rung of a halving that was completed.
    """

    def __init__(self, candidates, fits, control, report, metric):
        self.candidates, self.fits, self.metric = candidates, fits, metric
        self.control, self.report = control, report
        self.status = [UNFINISHED] * len(fits)
        self.rung, self.rungs = [-1] * len(fits), []
        self.best_of_rung = None

    def score_of(self, candidate):
        """Mean score over the folds, as last looked at."""
        return float(
            np.mean([number_of_score(f.latest, self.metric) for f in self.fits[candidate]])
        )

    def _cost_of(self, candidate):
        return sum(fit.cost for fit in self.fits[candidate])

    # ------------------------------------------------------------------------------- all

    def train_all(self, *, by_candidate):
        """Train all fits to the end.

        Longest first, so that the threads end together; fits on the same preprocessed data one
        after the other, so that few such data exist at a time.  Or `by_candidate`, in the order
        given, so that a search that may be stopped has whole candidates.
        """
        self.report.expect(sum(self._cost_of(c) for c in range(len(self.fits))))
        jobs = [
            Job(partial(self._finish, c, fit), fit.cost, fit.part, fit.is_large)
            for c, fits in enumerate(self.fits)
            for fit in fits
        ]
        self.control.run(jobs if by_candidate else longest_first(jobs))

    def _finish(self, candidate, fit):
        fit.advance()
        fit.score()
        self.report.end_fit(fit.cost)
        self._settle(candidate)

    def _settle(self, candidate):
        """See whether all fits of a candidate have ended."""
        with self.control.lock:
            fits = self.fits[candidate]
            done = self.status[candidate] == UNFINISHED and all(fit.result for fit in fits)
            if done:
                failed = any(fit.error is not None for fit in fits)
                self.status[candidate] = FAILED if failed else FINISHED
        if done:
            self.report.end_candidate(self.candidates[candidate], self.score_of(candidate))

    def _discard(self, candidate):
        """Give up what is not finished of a candidate."""
        self.status[candidate] = DISCARDED
        for fit in self.fits[candidate]:
            if not fit.ended:
                fit.give_up()
                if fit.plan.keeper is not None:
                    fit.keep(state=False)
        self.report.end_candidate(
            self.candidates[candidate], self.score_of(candidate), discarded=True
        )

    def close(self):
        """Give up what never ended."""
        for fits in self.fits:
            for fit in fits:
                if fit.result is None:
                    fit.give_up()

    # --------------------------------------------------------------------------- halving

    def halve(self, factor, max_iter):
        """Train all candidates a little, the best of them on, and the last ones to the end."""
        self.rungs = plan_rungs(len(self.fits), factor, max_iter)
        left, before = list(range(len(self.fits))), 0.0
        for number, (share, size) in enumerate(self.rungs):
            left, given_up = self._best(left, size), set(left)
            given_up -= set(left)
            for candidate in sorted(given_up):
                if self.status[candidate] == UNFINISHED:
                    self._discard(candidate)
            self._expect_rungs(number, left)
            jobs = [
                Job(partial(self._climb, c, fit, share, before), fit.cost, fit.part, fit.is_large)
                for c in left
                for fit in self.fits[c]
            ]
            self.control.run(sorted(jobs, key=lambda job: -job.cost))
            before = share
            if self.control.stop.is_set():
                return
            for candidate in left:
                self.rung[candidate] = number
            self.best_of_rung = self._best(left, 1)[0]

    def _expect_rungs(self, first, left):
        """Say what this rung and those after it will cost, as far as that can be known."""
        mean = sum(map(self._cost_of, left)) / len(left)
        ends = [self.rungs[first - 1][0] if first else 0.0, *(end for end, _ in self.rungs[first:])]
        sizes = [size for _, size in self.rungs[first:]]
        self.report.expect(
            mean * sum(n * step for n, step in zip(sizes, np.diff(ends), strict=True))
        )

    def _climb(self, candidate, fit, share, before):
        fit.advance(share)
        fit.score()
        self.report.end_fit(fit.cost * (share - before))
        if fit.ended:
            self._settle(candidate)

    def _best(self, candidates, size):
        """Return the best so many, in the order given; the first wins a tie.

        The worst are those with a fit that failed, whatever `error_score` says, or the score NaN.
        """
        if len(candidates) <= size:
            return candidates
        scores = np.array([self.score_of(c) for c in candidates])
        failed = [any(fit.error is not None for fit in self.fits[c]) for c in candidates]
        scores[np.isnan(scores) | failed] = -np.inf
        best = np.argsort(-scores, kind="stable")[:size]
        return [candidates[i] for i in sorted(best)]

    # ----------------------------------------------------------------------- median rule

    def train_promising(self):
        """Train all candidates, but end those whose score is below the median of others.

        A quarter of the candidates (at least three, drawn) is trained to the end. Each
        other one is looked at after a quarter and a half of its epochs: with a mean score over the
        folds below the median of theirs at the same share, it is discarded.
        """
        n = len(self.fits)
        n_first = min(n, max(FEWEST_REFERENCES, math.ceil(REFERENCES * n)))
        first = sorted(np.random.RandomState(0).permutation(n)[:n_first].tolist())
        seen = {share: {} for share in LOOKS}
        medians = dict.fromkeys(LOOKS, -np.inf)
        self.report.expect(sum(map(self._cost_of, range(n))))
        for group in (first, [c for c in range(n) if c not in first]):
            fits = [self.fits[c][0] for c in group]
            jobs = [
                Job(partial(self._train_or_discard, c, medians, seen), f.cost, None, f.is_large)
                for c, f in zip(group, fits, strict=True)
            ]
            self.control.run(jobs)
            if self.control.stop.is_set():
                return
            if group is first:
                for share in LOOKS:
                    found = [score for score in seen[share].values() if not np.isnan(score)]
                    medians[share] = np.median(found) if found else -np.inf

    def _train_or_discard(self, candidate, medians, seen):
        fits = self.fits[candidate]
        for share in LOOKS:
            for fit in fits:
                fit.advance(share)
                fit.score()
            seen[share][candidate] = score = self.score_of(candidate)
            if all(fit.ended for fit in fits):
                break
            if score < medians[share]:
                cost = self._cost_of(candidate)
                self.report.end_fit(cost * share, spared=cost * (1 - share))
                self._discard(candidate)
                return
        for fit in fits:
            self._finish(candidate, fit)


def longest_first(jobs):
    """Sort jobs by cost; those on one preprocessed fold stay together, by the longest of them."""
    ranks = {}
    for number, job in enumerate(jobs):
        if job.part.preprocesses:
            cost, first = ranks.get(id(job.part), (0.0, number))
            ranks[id(job.part)] = min(cost, -job.cost), first
    return sorted(jobs, key=lambda job: (*ranks.get(id(job.part), (-job.cost, 0)), -job.cost))


def plan_rungs(n_candidates, factor, max_iter):
    """Return (share of max_iter, number of candidates) of each rung of a halving.

    The rungs are `RUNGS`, each with `factor` times fewer candidates than the one before it.  Where
    nobody would be given up between two, or nothing be trained, there are fewer, the later ones.

    Examples
    --------
    >>> plan_rungs(200, 3, 20)
    [(0.1, 200), (0.4, 67), (1.0, 23)]
    >>> plan_rungs(3, 3, 20)
    [(0.4, 3), (1.0, 1)]
    """
    sizes = [n_candidates / factor**number - 1e-9 for number in range(len(RUNGS))]
    sizes = list(dict.fromkeys(max(math.ceil(size), 1) for size in sizes))
    shares = list({epochs_until(share, max_iter): share for share in RUNGS}.values())
    n_rungs = min(len(sizes), len(shares))
    return list(zip(shares[-n_rungs:], sizes[:n_rungs], strict=True))
