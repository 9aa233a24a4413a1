"""Validation data of the user's: checked as the training data were, and held against their scale.

Rows of the training data that are set aside are drawn in `scoring`.
"""

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse
from scipy.special import gammaln

from fastbp.data.features import check_features, match_format
from fastbp.data.row_source import RowSource
from fastbp.data.targets import refuse_dates
from fastbp.data.weights import check_sample_weight, weigh_samples
from fastbp.messages import warn_user

# X_val has another scale than X where in half of the columns that vary its mean lies so many
# spreads away, or the spreads differ so many times, and more rows lie outside of the other's range
# than such a chance explains.  Counted on 12 real data sets (November 2026), X scaled and X_val
# raw: noticed on 8 by StandardScaler and MinMaxScaler, 7 by QuantileTransformer, 6 by RobustScaler
# (never on adult, spambase, phoneme and energy, most of whose columns have small units as they
# come).  No warning on 3265 random splits and splits sorted by a column, of raw and scaled parts,
# nor on 3000 random splits of heavy tails; 7 on 3000 splits by time of a table with one column that
# drifts, all where this was the only column, its rows were shuffled or it had not begun to drift.
FAR, TIMES, CHANCE = 5.0, 20.0, 1e-5
FEWEST = 2  # rows that have a spread
NEARLY_ALL, MOST = 0.9, 0.75  # shares of columns that speak for a scaler
SMALL = 3.0  # largest quartile of a column that a scaler, or what follows one, has left
SAMPLE_ROWS, SAMPLE_COLUMNS = 512, 256


NOTHING = (None, None, None)  # no X_val, y_val and sample_weight_val


@dataclass
class HeldOut:
    """Validation data of the user's, and what a scorer is to see of them."""

    problem: Any  # fastbp.data.problem.Problem
    answers: np.ndarray  # y, as scorers take it


@contextmanager
def speaking_of(name):
    """Say which argument the error in this block is about, where the checks call it X or y.

    An error of a class that the checks do not raise is the user's own, and stays as it is.
    """
    try:
        yield
    except Exception as error:
        if type(error) in (TypeError, ValueError):
            error.args = (f"{name} cannot be used: {error}",)
        else:
            error.add_note(f"fastbp: this is about {name}.")
        raise


def prepare_held_out(estimator, held_out, like):
    """Check X_val, y_val and sample_weight_val as X, y and sample_weight were.

    Parameters
    ----------
    estimator : BackpropClassifier or BackpropRegressor
    held_out : tuple of X_val, y_val, sample_weight_val
    like : Problem
        That of the training data.

    Returns
    -------
    HeldOut or None
        In the form of the training data.
    """
    X_val, y_val, weights = held_out
    if X_val is None or y_val is None:
        if any(part is not None for part in held_out):
            raise ValueError(
                "X_val and y_val must be given together, and sample_weight_val with them. Got "
                f"X_val {'missing' if X_val is None else 'given'}, y_val "
                f"{'missing' if y_val is None else 'given'}."
            )
        return None
    dtype = like.dtype
    with speaking_of("X_val"):
        X, given = check_features(estimator, X_val, lambda given: dtype, like.engine, reset=False)
        if not isinstance(X, RowSource):
            X = match_format(X, like.X)
    refuse_other_form(y_val, like)
    with speaking_of("y_val"):
        targets, _ = estimator._check_y(y_val, X.shape[0], dtype, fresh=False, incremental=True)
        answers = estimator._answers(y_val, targets)
        targets = estimator._scale(targets, None, dtype, fresh=False)
    with speaking_of("sample_weight_val"):
        weights = check_sample_weight(estimator, weights, X.shape[0], dtype)
        if like.class_weights is not None:
            weights = weigh_samples(like.class_weights, targets, weights)
    if not isinstance(X, RowSource):  # else both were encoded by the same rules
        warn_of_other_scale(like.X, X)
    part = replace(like, X=X, targets=targets, sample_weight=weights, given=given)
    return HeldOut(part, answers)


def refuse_other_form(y_val, like):
    """Raise if y_val has another number of columns than the y of a problem.

    What has no shape, or one of other dimensions, is left to the checks that follow.
    """
    if like.loss.task == "regression":
        refuse_dates(y_val, "y_val")
    try:
        shape = tuple(y_val.shape if hasattr(y_val, "shape") else np.shape(y_val))
    except (TypeError, ValueError):
        return
    wanted = like.targets.shape[1]
    if len(shape) not in (1, 2) or (shape[1] if len(shape) == 2 else 1) == wanted:
        return
    what = "output" if like.loss.task == "regression" else "label"
    count = f"one {what}" if wanted == 1 else f"{wanted} {what}s"
    raise ValueError(
        f"y_val has shape {shape}, but y has {count} per sample: expected a y_val of shape "
        f"(n_samples,{f' {wanted}' if wanted > 1 else ''})."
    )


def warn_of_other_scale(X, X_val):
    """Warn if the columns of X_val have quite another scale than those of X.

    In a pipeline the steps before the network transform X, and X_val only if they are told to.

    Parameters
    ----------
    X, X_val : ndarray or CSR of shape (n_samples, n_features)
        At most `SAMPLE_ROWS` rows and `SAMPLE_COLUMNS` columns of each are looked at, evenly
        spaced.
    """
    share = find_other_scale(*map(_take_dense_part, (X, X_val)))
    if not share:
        return
    warn_user(
        f"X_val has another scale than X in {share:.0%} of the columns that "
        "vary: it seems that it did not pass the steps of the pipeline that X has passed. "
        "With these lines it does:\n"
        "    sklearn.set_config(enable_metadata_routing=True)\n"
        "    net = net.set_fit_request(X_val=True, y_val=True)\n"
        "    Pipeline([..., ('net', net)], transform_input=['X_val']).fit(X, y, X_val=X_val, "
        "y_val=y_val)"
    )


def find_other_scale(X, X_val):
    """Return the share of the varying columns in which X_val missed a scaler; 0 for less than half.

    Such a column lies beyond the range of X, or far outside on both sides; or it is nearly constant
    and near 0, which counts only where X has mean 0 and spread 1, about, in nearly all.  Drifts
    are told apart: a column whose neighbouring rows in X are alike does not count (von Neumann's
    ratio, 1941), nor one column alone among others, nor any where X has no columns of unit size.

    Parameters
    ----------
    X, X_val : float64 ndarray of shape (n_samples, n_features)
    """
    if min(len(X), len(X_val)) < FEWEST:
        return 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        spread = X.std(axis=0)
        varies = spread > 0
        if not varies.any():
            return 0.0
        X, X_val, spread = X[:, varies], X_val[:, varies], spread[varies]
        mean, mean_val, spread_val = X.mean(axis=0), X_val.mean(axis=0), X_val.std(axis=0)
        is_far = (np.abs(mean_val - mean) > FAR * spread) & _lies_outside(X_val, X, share=0.5)
        is_wider = (spread_val > TIMES * spread) & _lies_outside(X_val, X, share=0.0)
        is_narrower = (TIMES * spread_val < spread) & _lies_outside(X, X_val, share=0.5)
        drifts = np.square(np.diff(X, axis=0)).mean(axis=0) < spread**2  # else twice that
    is_beyond = (is_far | is_wider) & ~drifts
    if len(spread) == 1:  # a level that jumps has the spread that it had
        is_beyond &= spread_val > 2 * spread
    is_scaled = (np.abs(mean) < 0.25) & (spread > 0.5) & (spread < 2)
    differs = is_beyond
    if differs.any():
        is_small = np.abs(np.quantile(X, [0.25, 0.75], axis=0)).max(axis=0) <= SMALL
        differs = differs & (is_small.mean() >= MOST)
    if is_scaled.mean() >= NEARLY_ALL and len(spread) > 1:
        differs = differs | (is_narrower & ~drifts & (np.abs(mean_val) < 0.25))
    if differs.mean() < 0.5 or differs.sum() < min(2, len(spread)):
        return 0.0
    return differs.mean()


def _take_dense_part(X):
    part = X[:: -(-X.shape[0] // SAMPLE_ROWS), :: -(-X.shape[1] // SAMPLE_COLUMNS)]
    return np.asarray(part.toarray() if scipy.sparse.issparse(part) else part, np.float64)


def _lies_outside(these, those, *, share):
    """Whether of each column that share of these rows lies beyond all of those, not by chance.

    The chance that the largest so many rows of both all are of one part has no other assumption
    than that rows were dealt at random: it holds for heavy tails, too.
    """
    n_out = ((these < those.min(axis=0)) | (these > those.max(axis=0))).sum(axis=0)
    n_these, n_both = len(these), len(these) + len(those)
    log_chance = (
        gammaln(n_these + 1) - gammaln(n_these - n_out + 1)
        + gammaln(n_both - n_out + 1) - gammaln(n_both + 1)
    )  # fmt: skip
    return (n_out >= share * n_these) & (log_chance < np.log(CHANCE))
