"""What follows each epoch of minibatches and each iteration of L-BFGS-B, and divergence.

Validation data are looked at, their best weights kept; then come the report and the callbacks, and
who trains asks for the time.  Whoever is to be told of each epoch must be known to `must_look`:
else the engine runs many epochs in one call.  How loss and score are measured is in `scoring`, the
rule of stopping in `stopping`.
"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from fastbp.data.problem import Problem
from fastbp.messages import warn_user
from fastbp.streams.windows import StreamedRows
from fastbp.training.callbacks import Tasks
from fastbp.training.causes import explain_divergence, explain_validation
from fastbp.training.progress import Progress
from fastbp.training.reports import Report
from fastbp.training.scoring import Validation
from fastbp.training.stopping import ASKED, TIME


@dataclass
class Watcher:
    """All who look on at a call of `fit` or `partial_fit`, in the order in which they are told.

    Parameters
    ----------
    problem : Problem
    progress : Progress
    session : Session of the engine
    selection : Selection or None
    tasks : Tasks or None
        The callbacks.
    unit : {"epoch", "iteration"}
    max_iter : int
    """

    problem: Problem
    progress: Progress
    session: Any
    selection: "Selection | None"
    tasks: Tasks | None
    unit: str
    max_iter: int

    def __post_init__(self):
        verbose, max_time = self.problem.settings.verbose, self.problem.settings.max_time
        elapsed_s = self.progress.seconds  # of a fit that goes on
        X = self.problem.X
        stream = X if isinstance(X, StreamedRows) else None
        self.report = (
            Report(verbose, self.max_iter, max_time, elapsed_s, stream) if verbose else None
        )

    def must_look(self):
        """Whether somebody must be told of each single epoch."""
        return bool(self.selection or self.report or self.tasks or self.problem.watch)

    def before(self, training):
        """Tell the callbacks that an epoch begins."""
        if self.tasks:
            self.tasks.begin_epoch(training.reached)

    def after(self, training, n_samples):
        """Tell everybody that an epoch has ended.

        Parameters
        ----------
        training : object with `current_params` and `reached`
        n_samples : int
            Number of samples that the call has worked on so far.

        Returns
        -------
        bool
            Whether a callback asks to stop.

        Raises
        ------
        DivergenceError
            If the loss of the validation data is NaN.
        """
        progress, score = self.progress, None
        if self.selection:
            self.selection.look(self.session, training.current_params)
            self._refuse_nan(training)
            score = progress.validation_scores[-1]
        if self.report:
            self.report.after_epoch(progress.n_iter, progress.loss, score, n_samples)
        return bool(self.tasks and self.tasks.end_epoch(training.reached))

    def why_end(self):
        """Say why training is to end now: ASKED by other threads, TIME is over, or None."""
        deadline, event = self.problem.deadline, self.problem.asked_to_stop
        if event is not None and event.is_set():
            return ASKED
        return TIME if deadline is not None and time.perf_counter() >= deadline else None

    def say(self, text):
        """Put a line into the report, if there is one."""
        if self.report:
            self.report.say(text)

    def close(self):
        """End the report."""
        if self.report:
            self.report.close()

    def _refuse_nan(self, training):
        """Raise if the newest validation loss is NaN, due to the weights or to the data."""
        if np.isnan(self.progress.validation_loss_curve[-1]):
            when = f"{self.unit} {self.progress.n_iter}"
            if predicts_finite_scores(self.problem, training.current_params()):
                raise DivergenceError(explain_validation(self.problem, when))
            raise DivergenceError(explain_divergence(self.problem, when))


@dataclass
class Selection:
    """Look at the validation data after each epoch, and keep the weights that did best.

    Parameters
    ----------
    validation : Validation
    progress : Progress
        Gets the curves, the best score, its epoch and its weights.
    stops : bool
        Whether epochs without improvement are counted, to end training (`early_stopping`).
    restores : bool
        Whether the best weights are wanted back; `partial_fit` only records.
    """

    validation: Validation
    progress: Progress
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
            progress.patience.saw_score(score)
        if score > progress.best_validation_score:
            progress.best_validation_score = score
            progress.best_iter = len(progress.validation_scores)
            if self.restores:
                progress.best_params = copy_params() if params is None else params
                if self.validation.factor != 1.0:
                    self.validation.problem.scale_scores(
                        progress.best_params, self.validation.factor
                    )

    def look_away(self):
        """Record an epoch that left nothing to measure: training diverged in it."""
        self.progress.validation_loss_curve.append(float("nan"))
        self.progress.validation_scores.append(float("nan"))


def open_selection(validation, progress, *, stops, restores=True):
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
    return Selection(validation, progress, stops, restores)


class DivergenceError(ValueError):
    """Training has left the finite numbers; the message names epoch and cause."""


def has_best(problem, progress, selection):
    """Whether there are best weights on validation data, and somebody wants them back.

    None are where they score the validation samples, but not all of the training samples.
    """
    wanted = selection is not None and selection.restores and progress.best_params is not None
    return wanted and predicts_finite_scores(problem, progress.best_params)


def return_to_best(divergence, progress):
    """Go back to the best epoch on validation data, and warn with the text of a divergence.

    As scikit-learn's issue 29504 asks. The optimizer is forgotten, for its state is not finite.
    """
    progress.params, progress.holds_best, progress.optimizer = progress.best_params, True, None
    if progress.loss_curve is not None:
        progress.loss = next(filter(np.isfinite, reversed(progress.loss_curve)), None)
    warn_user(
        f"{divergence} Training has ended; the weights of epoch {progress.best_iter}, the best on "
        "the validation data, are kept.",
        ConvergenceWarning,
    )


def predicts_finite_scores(problem, params):
    """Whether the training samples have finite scores under `params`.

    Losses are those before each step, so the last step may leave weights with which scores overflow
    though every number seen was finite; and an interrupt ends training between two looks.  The
    scores are computed only where the size of the weights (NaN included) does not rule it out.
    """
    layers, size = problem.layer_sizes, float(max(params.max(), -params.min()))
    growth = 1.0
    for n_in in layers[:-1]:
        growth *= (n_in + 1) * size
    if problem.n_members is not None:  # and the multipliers of the features
        growth *= max(size, 1.0)
    if growth < float(np.finfo(params.dtype).max) ** 0.5:
        return True
    scores = problem.scores(params.astype(problem.dtype, copy=False))
    return bool(np.isfinite(params).all() and np.isfinite(scores).all())
