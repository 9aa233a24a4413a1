"""The full-batch solver: scipy's L-BFGS-B over the engine's loss and gradient, in float64."""

import copy
from dataclasses import replace

import numpy as np
import scipy.optimize
from sklearn.exceptions import ConvergenceWarning

from fastbp.engine.parallel import one_blas_thread
from fastbp.messages import warn_user
from fastbp.training.causes import explain_divergence, warn_of_end
from fastbp.training.stopping import ASKED, TIME
from fastbp.training.watching import (
    DivergenceError,
    Watcher,
    has_best,
    open_selection,
    return_to_best,
)

ROWS_PER_BLOCK = 1024  # the engine's work memory; it walks through larger batches in blocks


def train_lbfgs(problem, progress, *, tasks=None, validation=None):
    """Minimise the loss of all samples, changing `progress`.

    With several outputs and squared error the mean over the outputs is minimised with its true
    gradient (scikit-learn's gradient is that of the sum there; its issue 8349).

    Parameters
    ----------
    problem : Problem
        In float64.
    progress : Progress
        Its `params` are replaced by float64 ones, not written to.
    tasks : fastbp.training.callbacks.Tasks or None, default=None
        The callbacks to tell of each iteration.
    validation : Validation or None, default=None
        Data of the user's to look at after each iteration.

    Raises
    ------
    ValueError
        If loss or weights become non-finite.
    """
    settings = problem.settings
    stops = settings.early_stopping and validation is not None
    progress.params = progress.params.astype(problem.dtype, copy=False)
    selection = open_selection(validation, progress, stops=stops)
    progress.patience.count = 0
    progress.begin(settings, by_score=stops)
    session = problem.open_session(progress.params, min(ROWS_PER_BLOCK, problem.X.shape[0]))
    progress.matmul_precision = session.matmul_precision
    watcher = Watcher(
        problem, progress, session, selection, tasks, "iteration", settings.max_iter
    )  # fmt: skip
    descent = Descent(problem, session, progress, selection, watcher)
    unfinished = divergence = None
    try:
        with one_blas_thread():
            unfinished = descent.minimize()
    except KeyboardInterrupt:
        if problem.asked_to_stop is not None:
            problem.asked_to_stop.set()
        warn_user("Training interrupted by user.")
    except DivergenceError as error:
        if not has_best(problem, progress, selection):
            raise
        divergence = str(error)
    finally:
        watcher.close()
        session.close()
    progress.n_iter = descent.n_iter
    if descent.loss is not None:
        progress.loss = float(descent.loss)
        finite = np.isfinite(progress.loss) and np.isfinite(descent.x).all()
        if not (divergence or finite):
            divergence = explain_divergence(problem, f"iteration {progress.n_iter}")
            if not has_best(problem, progress, selection):
                raise DivergenceError(divergence)
    if divergence:
        return_to_best(divergence, progress)
    progress.end(descent.x, selection)
    if problem.one_class or divergence:
        return
    message = unfinished and _not_converged(unfinished, progress.n_iter, settings.max_iter)
    if unfinished is not None and descent.out_of_time:
        warn_user(message, ConvergenceWarning)
    elif unfinished is not None or descent.converged:
        rows = np.arange(problem.X.shape[0])  # stalled is about the epochs of a curve
        warn_of_end(problem, progress.params, rows, [], stalled=False, unfinished=message)


class Descent:
    """The objective that scipy calls, and the last point that it accepted."""

    def __init__(self, problem, session, progress, selection, watcher):
        self.problem = problem
        self.session = session
        self.progress = progress
        self.selection, self.watcher = selection, watcher
        self.alpha = float(problem.settings.alpha)
        self.gradient = np.empty_like(progress.params)
        self.x, self.loss, self.n_iter = progress.params, None, 0
        self.last_loss, self.n_evaluations = None, 0
        self.chose_to_stop = self.out_of_time = self.converged = False
        self.error = None

    def minimize(self):
        """Descend; return scipy's result if it ended before it converged, else None."""
        settings = self.problem.settings
        result = scipy.optimize.minimize(
            self.loss_and_gradient,
            self.x,
            method="L-BFGS-B",
            jac=True,
            callback=self.finish_iteration,
            options={
                "maxfun": settings.max_fun,
                "maxiter": settings.max_iter,
                "gtol": settings.tol,
            },
        )
        if self.error is not None:
            raise self.error
        self.x, self.loss = result.x, result.fun
        self.n_iter = min(result.nit, settings.max_iter)
        if self.out_of_time:
            result.message = f"max_time={settings.max_time:g} seconds are over"
        self.converged = result.status == 0
        return result if result.status != 0 and not self.chose_to_stop else None

    def loss_and_gradient(self, x):
        """Loss at `x`, and a new array of its gradient."""
        if self.watcher.tasks and self.watcher.tasks.epoch is None:
            self.watcher.before(self)
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
            raise DivergenceError(explain_divergence(self.problem, f"iteration {self.n_iter + 1}"))

    def finish_iteration(self, x):
        """Remember the accepted `x`, which an interrupted fit keeps; look whether to go on."""
        try:
            self.look(x)
        except StopIteration as error:  # of a user's function; to scipy it would be no error
            self.error = error
            raise
        why = self.watcher.why_end()
        self.out_of_time = why == TIME
        self.chose_to_stop = self.chose_to_stop or why == ASKED
        if self.chose_to_stop or self.out_of_time:
            raise StopIteration

    def look(self, x):
        """Look at the accepted `x`, and show it to those who watch."""
        if self.problem.watch and self.problem.watch.failure():
            self.loss_and_gradient(x)  # the report may be another fit's
            self.refuse_failure()
        progress = self.progress
        self.x, self.loss, self.n_iter = x.copy(), self.last_loss, self.n_iter + 1
        progress.loss, progress.n_iter = float(self.loss), self.n_iter
        asked = self.watcher.after(self, self.n_evaluations * self.problem.X.shape[0])
        self.chose_to_stop = asked or (progress.by_score and progress.patience.is_over())

    def current_params(self):
        """Copy the accepted point, which is the last one that was computed."""
        return self.x.copy()

    def reached(self):
        """Return what training has reached, as if it ended now; shares nothing with the descent."""
        progress = replace(self.progress)
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
