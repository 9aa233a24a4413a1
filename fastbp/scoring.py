"""The validation set of early stopping, and its score.

Drawn and scored as scikit-learn's MLP does it, without its metric functions: an epoch of a small
fit costs less than one of their calls.
"""

from dataclasses import replace

import numpy as np
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
    if problem.sample_weight is not None:
        for part, name in ((train, "training"), (held_out, "validation")):
            if not problem.sample_weight[part].any():
                raise ValueError(
                    f"All samples in the {name} set have weight 0. Change 'validation_fraction' or "
                    "'random_state', or leave out samples of weight 0."
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
        return r2(problem.targets, scores, problem.sample_weight)


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
