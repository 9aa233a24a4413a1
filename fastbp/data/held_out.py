"""Validation data of the user's: checked as the training data were, and held against their scale.

Rows of the training data that are set aside are drawn in `scoring`.
"""

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse

from fastbp.data.features import check_features, match_format
from fastbp.data.weights import check_sample_weight, weigh_samples
from fastbp.messages import warn_user

# X_val has another scale than X where half of the columns lie so many spreads away, or differ so
# many times in spread (more with few rows). Of 8000 random splits of columns with heavy tails, rare
# values and outliers, down to 10 rows, none did (November 2026).
FAR, WIDER = 5.0, 20.0
FEWEST = 2  # rows that have a spread
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
        X = match_format(X, like.X)
    with speaking_of("y_val"):
        targets, _ = estimator._check_y(y_val, X.shape[0], dtype, fresh=False, incremental=True)
        if targets.shape[1] != like.targets.shape[1]:
            raise ValueError(
                f"it has {targets.shape[1]} outputs, but y has {like.targets.shape[1]}."
            )
        answers = estimator._answers(y_val, targets)
        targets = estimator._scale(targets, None, dtype, fresh=False)
    with speaking_of("sample_weight_val"):
        weights = check_sample_weight(estimator, weights, X.shape[0], dtype)
        if like.class_weights is not None:
            weights = weigh_samples(like.class_weights, targets, weights)
    warn_of_other_scale(like.X, X)
    part = replace(like, X=X, targets=targets, sample_weight=weights, given=given)
    return HeldOut(part, answers)


def warn_of_other_scale(X, X_val):
    """Warn if the columns of X_val have quite another scale than those of X.

    In a pipeline the steps before the network transform X, and X_val only if they are told to.
    In at least half of the columns that vary, both mean and median lie `FAR` spreads of X away, or
    both the standard deviation and the middle half of the values are `WIDER` than the other's: one
    alone can come of a few outliers.

    Parameters
    ----------
    X, X_val : ndarray or CSR of shape (n_samples, n_features)
        At most `SAMPLE_ROWS` rows and `SAMPLE_COLUMNS` columns of each are looked at, evenly
        spaced.
    """
    ours, theirs = map(_take_dense_part, (X, X_val))
    n_rows = min(len(ours), len(theirs))
    if n_rows < FEWEST:
        return
    caution = 1 + 2 * (10 / n_rows) ** 2  # ten rows of a heavy tail tell little
    far, wider = FAR * caution, WIDER * caution
    with np.errstate(over="ignore", invalid="ignore"):
        spread = ours.std(axis=0)
        varies = spread > 0
        differs = _lie_apart(ours, theirs, far * spread, np.mean)
        differs |= _differ(spread, theirs.std(axis=0), wider)
        if not (varies.any() and differs[varies].mean() >= 0.5):
            return
        differs = _lie_apart(ours, theirs, far * spread, np.median) | (
            differs & _differ(*map(_middle_half, (ours, theirs)), wider)
        )
    if differs[varies].mean() >= 0.5:
        warn_user(
            f"X_val has another scale than X in {differs[varies].mean():.0%} of the columns that "
            "vary: it seems that it did not pass the steps of the pipeline that X has passed. "
            "With these lines it does:\n"
            "    sklearn.set_config(enable_metadata_routing=True)\n"
            "    net = net.set_fit_request(X_val=True, y_val=True)\n"
            "    Pipeline([..., ('net', net)], transform_input=['X_val']).fit(X, y, X_val=X_val, "
            "y_val=y_val)"
        )


def _take_dense_part(X):
    part = X[:: -(-X.shape[0] // SAMPLE_ROWS), :: -(-X.shape[1] // SAMPLE_COLUMNS)]
    return np.asarray(part.toarray() if scipy.sparse.issparse(part) else part, np.float64)


def _middle_half(X):
    low, high = np.quantile(X, [0.25, 0.75], axis=0)
    return high - low


def _lie_apart(ours, theirs, distance, middle):
    return np.abs(middle(theirs, axis=0) - middle(ours, axis=0)) > distance


def _differ(a, b, times):
    """Whether two spreads, neither of them 0, differ so many times."""
    return (a > 0) & (b > 0) & ((a > times * b) | (b > times * a))
