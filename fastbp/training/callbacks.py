"""scikit-learn's callbacks over one fit: the fit is a task, each epoch or iteration a subtask.

Here is who is told what, and when, through the public parts of `sklearn.callback`.  What training
has reached comes from `training`, as a function that is called only if a callback asks for it.
Nothing here runs in a fit without callbacks.
"""

from fastbp.optimizers import is_full_batch
from fastbp.training.snapshots import Snapshot


class Tasks:
    """The tasks of one fit, as its callbacks see them.

    Parameters
    ----------
    estimator : estimator with callbacks
    X, y : as given to `fit`
    sample_weight : as given to `fit`, or None
    max_iter : int
        Most epochs.
    name : str
        What one step of the fit is called: "epoch" or "iteration".
    """

    def __init__(self, estimator, X, y, sample_weight, max_iter, name):
        self.estimator, self.name = estimator, name
        metadata = {} if sample_weight is None else {"sample_weight": sample_weight}
        self.data = {"X": X, "y": y, "metadata": metadata}
        self.describe = None
        self.epoch = None
        self.fit = estimator._init_callback_context(max_subtasks=max_iter)
        self.fit.call_on_fit_task_begin(estimator=estimator, **self.data)

    def set_description(self, describe):
        """Take the function that turns what training reached into fitted attributes."""
        self.describe = describe

    def begin_epoch(self, reached):
        """Tell the callbacks that an epoch begins.

        Parameters
        ----------
        reached : callable
            ``reached()`` returns what training has reached, and shares nothing with it.
        """
        self.epoch = self.fit.subcontext(task_name=self.name)
        self.epoch.call_on_fit_task_begin(
            estimator=self.estimator,
            reconstruction_attributes=lambda: self.describe(reached()),
            **self.data,
        )

    def end_epoch(self, reached):
        """Tell the callbacks that the epoch has ended; return whether one asks to stop."""
        epoch, self.epoch = self.epoch, None
        return epoch.call_on_fit_task_end(
            estimator=self.estimator,
            reconstruction_attributes=lambda: self.describe(reached()),
            **self.data,
        )

    def end(self, reached):
        """Tell the callbacks that the fit has ended, and before that an interrupted epoch."""
        if self.epoch is not None:
            self.end_epoch(reached)
        self.fit.call_on_fit_task_end(
            estimator=self.estimator,
            reconstruction_attributes=lambda: self.describe(reached()),
            **self.data,
        )


def watch_tasks(estimator, X, y, sample_weight, settings):
    """Begin the tasks of a fit; None, at no cost, for an estimator without callbacks.

    A Snapshot is none that wants to be told.
    """
    if all(isinstance(one, Snapshot) for one in getattr(estimator, "_skl_callbacks", ())):
        return None
    name = "iteration" if is_full_batch(settings.solver) else "epoch"
    return Tasks(estimator, X, y, sample_weight, settings.max_iter, name)
