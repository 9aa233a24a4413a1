"""Pruning for Optuna (extra ``optuna``): a callback that ends the fit of a hopeless trial.

It is built from the public parts of scikit-learn's callbacks and of Optuna; training knows of
neither.  Optuna is loaded with this module, and by nothing else in fastbp.
"""

import os
from typing import Any

try:
    import optuna
except ImportError as error:
    raise ImportError(
        "fastbp.optuna needs Optuna. Install it: pip install 'fastbp[optuna]'."
    ) from error

from fastbp.estimators import BackpropClassifier, BackpropRegressor

__all__ = ["PruningCallback"]


class PruningCallback:
    """Report the validation score of each epoch to a trial of Optuna's, and end what is pruned.

    A callback of scikit-learn's kind: ``network.set_callbacks(PruningCallback(trial))``. Make one
    for each trial. The fits that it sees are the folds of the trial, one after the other, and the
    steps are numbered over them: epoch e of fold k (both from 0) is step ``k * max_iter + e``, so
    that trials are compared at the same epoch of the same fold.

    Parameters
    ----------
    trial : optuna.trial.Trial
        Of a study that maximizes, as greater validation scores are better. A FixedTrial or a
        FrozenTrial (``objective(study.best_trial)``) takes the reports and prunes nothing.

    Attributes
    ----------
    n_fits : int
        Fits that have begun.

    Raises
    ------
    ValueError
        If the study minimizes; in `fit`, if the network keeps no validation score (it does with
        ``early_stopping=True``, or X_val and y_val).
    optuna.TrialPruned
        In `fit`, after the epoch at which Optuna prunes the trial. Let it come through
        ``cross_val_score`` and its relatives with ``error_score="raise"``; the default makes a NaN
        of it, and Optuna a failed trial of that.
    TypeError
        If `trial` is none; in `fit` of an estimator that is no network.
    RuntimeError
        In `fit`, if two fits report to one trial at the same time, or from another process, whose
        reports would be lost.

    Examples
    --------
    >>> import optuna
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import cross_val_score
    >>> from fastbp import BackpropClassifier
    >>> from fastbp.optuna import PruningCallback
    >>> X, y = load_digits(return_X_y=True)
    >>> def objective(trial):
    ...     rate = trial.suggest_float("learning_rate_init", 1e-4, 1e-1, log=True)
    ...     net = BackpropClassifier((20,), learning_rate_init=rate, early_stopping=True)
    ...     net.set_callbacks(PruningCallback(trial))
    ...     return cross_val_score(net, X / 16, y, cv=3, error_score="raise").mean()
    >>> study = optuna.create_study(direction="maximize")
    >>> study.optimize(objective, n_trials=20)  # doctest: +SKIP
    """

    __module__ = "fastbp.optuna"

    def __init__(self, trial: Any) -> None:
        if not isinstance(trial, optuna.trial.BaseTrial):
            raise TypeError(
                f"trial must be a trial of Optuna's, which the objective gets. Got {trial!r}."
            )
        one_greater = [optuna.study.StudyDirection.MAXIMIZE]
        study = getattr(trial, "study", None)  # a FixedTrial and a FrozenTrial have none
        directions = one_greater if study is None else study.directions
        if directions != one_greater:
            found = ", ".join(direction.name.lower() for direction in directions)
            raise ValueError(
                "PruningCallback reports validation scores, of which greater ones are better: "
                "optuna.create_study(direction='maximize') and one value. Got a study with "
                f"direction {found}."
            )
        self.trial, self.n_fits = trial, 0
        self._process = os.getpid()
        self._fit: Any = None  # the context of the fit that runs now

    def setup(self, estimator: Any, context: Any) -> None:
        """Begin a fit: the next fold."""
        if not isinstance(estimator, BackpropClassifier | BackpropRegressor):
            raise TypeError(
                "PruningCallback reports the epochs of BackpropClassifier and BackpropRegressor; "
                f"{type(estimator).__name__} has none to report. Set it on the network of a "
                "pipeline or search, or report scores of your own: trial.report(score, step)."
            )
        if self._fit is not None or self._process != os.getpid():
            what = "Two fits report to one trial at the same time"
            if self._fit is None:
                what = "A fit in another process cannot report to the trial"
            raise RuntimeError(
                f"{what}. Run the folds of a trial one after "
                "the other (n_jobs=None), and trials side by side: study.optimize(..., n_jobs=...)."
            )
        self._fit = context
        self.n_fits += 1

    def teardown(self, estimator: Any, context: Any) -> None:
        """End a fit."""
        if self._fit is context:
            self._fit = None

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Do nothing: scores come at the end of an epoch."""

    def on_fit_task_end(
        self, estimator: Any, context: Any, *, fitted_estimator: Any = None
    ) -> None:
        """Report the score of an epoch."""
        if context is self._fit or fitted_estimator is None:
            return
        scores = getattr(fitted_estimator, "validation_scores_", None)
        if scores is None:
            raise ValueError(
                f"PruningCallback reports validation scores, and this {type(estimator).__name__} "
                "keeps none. Set early_stopping=True, or give fit X_val and y_val."
            )
        step = (self.n_fits - 1) * self._fit.max_subtasks + context.task_id
        self.trial.report(scores[-1], step)
        if self.trial.should_prune():
            raise optuna.TrialPruned(f"Pruned at epoch {context.task_id + 1} of fit {self.n_fits}.")
