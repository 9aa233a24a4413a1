"""What a search leaves: `cv_results_` in scikit-learn's form, curves and warnings.

Here, too, is what the user gets of one that was ended early: a warning, or an error (`say_end`).
"""

import warnings
from collections import Counter

import numpy as np
from sklearn.model_selection._validation import (
    _insert_error_scores,
    _warn_or_raise_about_fit_failures,
)

from fastbp.messages import warn_user
from fastbp.search.control import SEARCH_INTERRUPTED
from fastbp.search.strategies import FAILED, FINISHED, UNFINISHED
from fastbp.training.minibatches import INTERRUPTED

NAN = float("nan")


def format_results(searched, estimator, n_splits, *, tells_status):
    """Return `cv_results_` and the scores of a finished fit, which say how they are named.

    Parameters
    ----------
    searched : Search
    estimator : BackpropSearchCV
    n_splits : int
    tells_status : bool
        Whether the columns "status" and "rung" are wanted though all candidates are finished.

    Raises
    ------
    ValueError
        If all fits failed.
    """
    whole = [status in (FINISHED, FAILED) for status in searched.status]
    done = [
        fit.result for fits, is_whole in zip(searched.fits, whole, strict=True)
        if is_whole for fit in fits
    ]  # fmt: skip
    if FINISHED not in searched.status:  # a halving that was ended early: what its rungs have seen
        done += [
            next(iter(fit.scores.values())) for fits, is_whole in zip(
                searched.fits, whole, strict=True
            )
            for fit in fits if not is_whole and fit.scores
        ]  # fmt: skip
    if done:
        _warn_or_raise_about_fit_failures(done, estimator.error_score)
        if callable(estimator.scoring):
            _insert_error_scores(done, estimator.error_score)
    example = done[0]["test_scores"] if done else NAN
    empty = dict.fromkeys(example, NAN) if isinstance(example, dict) else NAN
    out = []
    for fits, is_whole in zip(searched.fits, whole, strict=True):
        for fit in fits:
            if is_whole:
                out.append(fit.result)
                continue
            times = {"fit_time": fit.fit_time, "score_time": fit.score_time}
            scores = {"test_scores": empty, "train_scores": empty}
            out.append({"fit_error": None, **scores, **times})
    if not estimator.return_train_score:
        out = [{k: v for k, v in result.items() if k != "train_scores"} for result in out]
    more = {}
    if tells_status or not all(whole):
        more["status"] = searched.status
        if searched.rungs:
            more["rung"] = searched.rung
    with warnings.catch_warnings():
        if not all(whole):  # those without scores are no news
            warnings.filterwarnings("ignore", "One or more of the (test|train) scores are non-fin")
        results = estimator._format_results(searched.candidates, n_splits, out, more)
    return results, example


def say_end(searched, control):
    """Warn if the search was ended before all candidates were finished.

    Raises
    ------
    KeyboardInterrupt, ValueError
        After Ctrl-C, or after `max_time`, if no candidate is finished, nor a rung of a halving.

    Returns
    -------
    bool
        Whether a candidate was finished, or all have failed.
    """
    if not control.stop.is_set() or UNFINISHED not in searched.status:
        return True
    n_done = searched.status.count(FINISHED)
    why = SEARCH_INTERRUPTED
    if control.time_is_over:
        why = f"The search ended, for max_time={control.max_time:g} seconds are over"
    if n_done == 0 and searched.best_of_rung is None:
        if not control.time_is_over:
            raise KeyboardInterrupt
        raise ValueError(
            f"{why}, before a candidate was finished on all folds. Raise max_time, or "
            "lower max_iter of the network."
        )
    best = "the best of them counts" if n_done else "the best of the last rung counts, unfinished"
    warn_user(
        f"{why}: {n_done} of {len(searched.status)} candidates are finished, {best}. "
        "cv_results_['status'] tells of each."
    )
    return n_done > 0


def warn_of_choice(searched, best):
    """Warn if a `refit` of the user's has chosen a candidate without scores, as NaN misleads."""
    status = searched.status[best]
    if status != FINISHED and FINISHED in searched.status:
        warn_user(
            f"The function `refit` chose candidate {best}, which is {status}: its scores are NaN "
            "or error_score. Leave such candidates out, as np.nanargmax does, or look at "
            "cv_results_['status']."
        )


def say_warnings(kept):
    """Warn of what fits have warned of: once for all that say the same.

    Parameters
    ----------
    kept : list of tuple of (message, category)
    """
    counts = Counter(kept)
    for (message, category), count in sorted(counts.items(), key=lambda item: str(item[0])):
        if message != INTERRUPTED:  # the search says so itself
            warn_user(message if count == 1 else f"{message} (In {count} fits.)", category)


def curves_of(searched):
    """Return loss, validation loss and validation score by epoch, of each candidate and fold."""
    return [
        [
            {name: None if curve is None else np.array(curve) for name, curve in f.curves.items()}
            for f in fits
        ]
        for fits in searched.fits
    ]
