"""The full-batch solver: scipy's L-BFGS-B over the engine's loss and gradient, in float64."""

import copy
import time
from dataclasses import replace

import numpy as np
import scipy.optimize
from sklearn.exceptions import ConvergenceWarning

from fastbp.engine.parallel import one_blas_thread
from fastbp.messages import warn_user
from fastbp.training.causes import explain_divergence, warn_of_end
from fastbp.training.minibatches import (
    DivergenceError,
    has_best,
    open_report,
    refuse_nan_in_validation,
    return_to_best,
)
from fastbp.training.watching import open_selection

ROWS_PER_BLOCK = 1024  # the engine's work memory; it walks through larger batches in blocks


def train_lbfgs(problem, settings, progress, tasks=None, validation=None):
    """Minimise the loss of all samples, changing `progress`.

    With several outputs and squared error the mean over the outputs is minimised with its true
    gradient (scikit-learn's gradient is that of the sum there; its issue 8349).

    Parameters
    ----------
    problem : Problem
        In float64.
    settings : namespace of the estimator's parameters
    progress : Progress
        Its `params` (float64) are replaced, not written to.
    tasks : fastbp.training.callbacks.Tasks or None, default=None
        The callbacks to tell of each iteration.
    validation : Validation or None, default=None
        Data of the user's to look at after each iteration.

    Raises
    ------
    ValueError
        If loss or weights become non-finite.
    """
    session = problem.open_session(progress.params, min(ROWS_PER_BLOCK, problem.X.shape[0]))
    progress.tol, progress.n_iter_no_change = settings.tol, settings.n_iter_no_change
    progress.no_improvement_count = 0
    selection = open_selection(validation, progress, settings)
    descent = Descent(problem, session, settings, progress, tasks, selection)
    unfinished = None
    try:
        with one_blas_thread():
            result = scipy.optimize.minimize(
                descent.loss_and_gradient,
                progress.params,
                method="L-BFGS-B",
                jac=True,
                callback=descent.finish_iteration,
                options={
                    "maxfun": settings.max_fun,
                    "maxiter": settings.max_iter,
                    "gtol": settings.tol,
                },
            )
        if descent.error is not None:
            raise descent.error
        descent.x, descent.loss = result.x, result.fun
        descent.n_iter = min(result.nit, settings.max_iter)
        if descent.out_of_time:
            result.message = f"max_time={settings.max_time:g} seconds are over"
        if result.status != 0 and not descent.chose_to_stop:
            unfinished = result
    except KeyboardInterrupt:
        warn_user("Training interrupted by user.")
    except DivergenceError as error:
        if not has_best(progress, selection):
            raise
        return_to_best(str(error), progress)
    finally:
        if descent.report:
            descent.report.close()
        session.close()
    progress.n_iter = descent.n_iter
    if descent.loss is not None:
        progress.loss = float(descent.loss)
        if not (np.isfinite(progress.loss) and np.isfinite(descent.x).all()):
            divergence = explain_divergence(problem, settings, f"iteration {progress.n_iter}")
            if not has_best(progress, selection):
                raise DivergenceError(divergence)
            return_to_best(divergence, progress)
            unfinished = None
    progress.end(descent.x, selection)
    if unfinished is not None and not problem.one_class:
        message = _not_converged(unfinished, progress.n_iter, settings.max_iter)
        rows = np.arange(problem.X.shape[0])
        if descent.out_of_time:
            warn_user(message, ConvergenceWarning)
        else:
            params = progress.params
            warn_of_end(problem, settings, params, rows, [], stalled=False, unfinished=message)


class Descent:
    """The objective that scipy calls, and the last point that it accepted."""

    def __init__(self, problem, session, settings, progress, tasks, selection):
        self.problem = problem
        self.session = session
        self.settings = settings
        self.progress = progress
        self.tasks, self.report = tasks, open_report(settings)
        self.alpha = float(settings.alpha)
        self.gradient = np.empty_like(progress.params)
        self.x, self.loss, self.n_iter = progress.params, None, 0
        self.last_loss, self.n_evaluations = None, 0
        self.selection, self.chose_to_stop, self.out_of_time = selection, False, False
        self.error = None

    def loss_and_gradient(self, x):
        """Loss at `x`, and a new array of its gradient."""
        if self.tasks and self.tasks.epoch is None:
            self.tasks.begin_epoch(self.reached)
        if self.problem.watch:
            self.problem.watch.forget()
        self.n_evaluations += 1
        self.last_loss = self.session.loss_and_gradient(
            x,
            self.problem.X,
            self.problem.targets,
            self.problem.sample_weight,
            alpha=self.alpha,
            gradient=self.gradient,
            mean_gradient=self.problem.loss.output_mean,
        )
        if self.problem.watch and np.isnan(self.gradient.sum() + self.last_loss):
            self.refuse_failure()  # infinity, far out on a line, is the search's own business
        return self.last_loss, self.gradient.copy()

    def refuse_failure(self):
        """Raise if a user's function failed at the point where the loss was last computed."""
        if self.problem.watch.failure():
            when = f"iteration {self.n_iter + 1}"
            raise DivergenceError(explain_divergence(self.problem, self.settings, when))

    def finish_iteration(self, x):
        """Remember the accepted `x`, which an interrupted fit keeps; look whether to go on."""
        try:
            self.look(x)
        except StopIteration as error:  # of a user's function; to scipy it would be no error
            self.error = error
            raise
        deadline = self.settings.deadline
        self.out_of_time = deadline is not None and time.perf_counter() >= deadline
        if self.chose_to_stop or self.out_of_time:
            raise StopIteration

    def look(self, x):
        """Look at the accepted `x`, and show it to those who watch."""
        if self.problem.watch and self.problem.watch.failure():
            self.loss_and_gradient(x)  # the report may be another fit's
            self.refuse_failure()
        self.x, self.loss, self.n_iter = x.copy(), self.last_loss, self.n_iter + 1
        score = None
        if self.selection:
            self.selection.look(self.session, self.x.copy)  # the last point computed is x
            refuse_nan_in_validation(
                self.progress, self.problem, self.settings, self.x.copy, f"iteration {self.n_iter}"
            )
            self.chose_to_stop = self.selection.is_enough()
            score = self.progress.validation_scores[-1]
        if self.report:
            n_samples = self.n_evaluations * self.problem.X.shape[0]
            self.report.after_epoch(self.n_iter, self.loss, score, n_samples)
        if self.tasks and self.tasks.end_epoch(self.reached):
            self.chose_to_stop = True

    def reached(self):
        """Return what training has reached, as if it ended now; shares nothing with the descent."""
        loss = None if self.loss is None else float(self.loss)
        progress = replace(self.progress, loss=loss, n_iter=self.n_iter)
        progress.end(self.x, self.selection)
        return copy.deepcopy(progress)


def _not_converged(result, n_iter, max_iter):
    """Say that L-BFGS-B ended before it converged, in scikit-learn's words."""
    message = (
        f"lbfgs failed to converge after {n_iter} iteration(s) (status={result.status}):\n"
        f"{result.message}\n"
    )
    if n_iter == max_iter:
        message += (
            f"\nIncrease the number of iterations to improve the convergence (max_iter={max_iter})."
        )
    message += (
        "\nYou might also want to scale the data as shown in:\n"
        "    https://scikit-learn.org/stable/modules/preprocessing.html"
    )
    return message
