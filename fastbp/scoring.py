"""The validation set of early stopping, and its score.

Drawn and scored as scikit-learn's MLP does it, without its functions for accuracy and R2: an epoch
of a small fit costs less than one of their calls.
"""

from dataclasses import replace

import numpy as np
from sklearn.metrics import d2_pinball_score, d2_tweedie_score
from sklearn.model_selection import train_test_split


def split_off_validation(problem, fraction, random_state):
    """Divide a problem into the rows to train on and a validation set.

    Stratified by class for one output (binary); scikit-learn's MLP does not stratify more outputs.

    Parameters
    ----------
    problem : fastbp.training.Problem
    fraction : float
        Share of the samples to hold out.
    random_state : RandomState

    Returns
    -------
    train : int64 ndarray
        Rows to train on; they are not copied.
    validation : Validation
    """
    binary = problem.loss.task == "binary" and problem.targets.shape[1] == 1
    train, held_out = train_test_split(
        np.arange(problem.X.shape[0]),
        random_state=random_state,
        test_size=fraction,
        stratify=problem.targets[:, 0] if binary else None,
    )
    if len(held_out) < 2:
        raise ValueError(
            "The validation set is too small. Increase 'validation_fraction' or the size of your "
            "dataset."
        )
    return train.astype(np.int64, copy=False), Validation(_select(problem, held_out))


def _select(problem, rows):
    weights = None if problem.sample_weight is None else problem.sample_weight[rows]
    return replace(problem, X=problem.X[rows], targets=problem.targets[rows], sample_weight=weights)


class Validation:
    """Held-out samples and their score: accuracy or R2."""

    def __init__(self, problem):
        self.problem = problem
        n_samples = problem.X.shape[0]
        self.scores = np.empty((n_samples, problem.layer_sizes[-1]), problem.dtype)

    def score(self, session):
        """Score the session's current weights; NaN if a regressor's prediction is not finite."""
        problem, scores = self.problem, self.scores
        session.predict_into(problem.X, scores)
        if problem.loss.task == "multiclass":
            correct = scores.argmax(axis=1) == problem.targets[:, 0]
            return float(np.average(correct, weights=problem.sample_weight))
        if problem.loss.task == "binary":
            correct = ((scores > 0) == (problem.targets > 0)).all(axis=1)
            return float(np.average(correct, weights=problem.sample_weight))
        problem.engine.transform_into(problem.loss.output, scores)
        return default_score(problem.loss, problem.targets, scores, problem.sample_weight)


def default_score(loss, y_true, y_pred, sample_weight):
    """Score of a regressor's predictions by the metric of its loss, mean over the outputs.

    Parameters
    ----------
    loss : fastbp.losses.Loss
    y_true : ndarray of shape (n_samples, n_targets)
    y_pred : ndarray of shape (n_samples, n_outputs)
    sample_weight : ndarray of shape (n_samples,) or None

    Returns
    -------
    float
        NaN if a prediction is not finite.
    """
    metric, *numbers = loss.metric
    if metric == "r2":
        return r2(y_true, y_pred, sample_weight)
    if not np.isfinite(y_pred).all():
        return float("nan")
    y_true = np.broadcast_to(y_true, y_pred.shape).astype(np.float64)
    y_pred = y_pred.astype(np.float64)
    if metric == "d2_tweedie":  # a mean that underflowed to 0 is no mean
        score, y_pred = d2_tweedie_score, np.maximum(y_pred, np.finfo(np.float32).tiny)
        settings = [{"power": numbers[0]}] * y_pred.shape[1]
    else:
        score, n_levels = d2_pinball_score, len(numbers)
        settings = [{"alpha": numbers[k % n_levels]} for k in range(y_pred.shape[1])]
    return float(np.mean([
        score(y_true[:, k], y_pred[:, k], sample_weight=sample_weight, **settings[k])
        for k in range(y_pred.shape[1])
    ]))  # fmt: skip


def r2(y_true, y_pred, sample_weight):
    """Compute the coefficient of determination, mean over outputs: the number of `r2_score`."""
    if not np.isfinite(y_pred).all():
        return float("nan")
    y_true = y_true.astype(np.float64, copy=False)
    weight = 1.0 if sample_weight is None else sample_weight[:, np.newaxis]
    mean = np.average(y_true, axis=0, weights=sample_weight)
    residual = (weight * (y_true - y_pred) ** 2).sum(axis=0)
    total = (weight * (y_true - mean) ** 2).sum(axis=0)
    constant = total == 0
    scores = 1 - residual / np.where(constant, 1, total)
    scores[constant] = residual[constant] == 0
    return float(np.average(scores))
