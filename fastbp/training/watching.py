"""Validation in the course of training: the curves, the best weights, and when it is enough.

What `early_stopping`, X_val and y_val mean after each epoch (or iteration of L-BFGS-B).  How loss
and score are measured is in `scoring`; the rule on the training loss is the engine's.
"""

from dataclasses import dataclass
from typing import Any

from fastbp.training.scoring import Validation


@dataclass
class Selection:
    """Look at the validation data after each epoch, and keep the weights that did best.

    Parameters
    ----------
    validation : Validation
    progress : fastbp.training.minibatches.Progress
        Gets the curves, the best score, its epoch and its weights.
    stops : bool
        Whether epochs without improvement are counted, to end training (`early_stopping`).
    restores : bool
        Whether the best weights are wanted back; `partial_fit` only records.
    """

    validation: Validation
    progress: Any
    stops: bool
    restores: bool

    def look(self, session, copy_params):
        """Measure the weights in `session`; ``copy_params()`` is asked for them where needed."""
        progress = self.progress
        params = None if self.validation.scorer is None else copy_params()
        loss, score = self.validation.measure(session, params)
        progress.validation_loss_curve.append(loss)
        progress.validation_scores.append(score)
        if self.stops:
            if score >= progress.best_validation_score + progress.tol:
                progress.no_improvement_count = 0
            else:  # or NaN: R2 of predictions that are infinite
                progress.no_improvement_count += 1
        if score > progress.best_validation_score:
            progress.best_validation_score = score
            progress.best_iter = len(progress.validation_scores)
            if self.restores:
                progress.best_params = copy_params() if params is None else params

    def look_away(self):
        """Record an epoch that left nothing to measure: training diverged in it."""
        self.progress.validation_loss_curve.append(float("nan"))
        self.progress.validation_scores.append(float("nan"))

    def is_enough(self):
        """Whether it is time to stop, for lack of improvement."""
        return self.stops and self.progress.no_improvement_count > self.progress.n_iter_no_change


def open_selection(validation, progress, settings, *, restores=True):
    """Begin to select among the epochs of a call; None without validation data."""
    if validation is None:
        progress.validation_scores = progress.validation_loss_curve = progress.best_params = None
        progress.best_validation_score = progress.best_iter = None
        return None
    if progress.validation_scores is None or progress.validation_loss_curve is None:
        progress.validation_scores, progress.validation_loss_curve = [], []
        progress.best_validation_score = None
    if progress.best_validation_score is None or (restores and progress.best_params is None):
        # There is no best of earlier calls, or its weights cannot be brought back.
        progress.best_params = progress.best_iter = None
        progress.best_validation_score = float("-inf")
    return Selection(validation, progress, settings.early_stopping, restores)
