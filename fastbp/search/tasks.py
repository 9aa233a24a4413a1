"""The fits of a search as tasks, for scikit-learn's callbacks: named and nested as in its searches.

A search without callbacks makes none of this.  The epochs of each fit are `training`'s to tell.
"""

from contextlib import contextmanager


class SearchTasks:
    """The tasks of one search: all fits, then the refit.

    Parameters
    ----------
    search : BackpropSearchCV
    X, y : as given to `fit`
    sample_weight : as given to `fit`, or None
    n_fits : int

    Attributes
    ----------
    fits : list of CallbackContext
        One for each fit; who runs it tells it of begin and end.
    """

    def __init__(self, search, X, y, sample_weight, n_fits):
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self.search, self.told = search, {"X": X, "y": y, "metadata": metadata}
        self.root = search._init_callback_context(
            max_subtasks=1 + (search.refit is not False)
        ).call_on_fit_task_begin(estimator=search, **self.told)
        self.searching = self.root.subcontext(
            task_name="search", max_subtasks=n_fits, sequential_subtasks=False
        ).call_on_fit_task_begin(estimator=search)
        self.fits = [
            self.searching.subcontext(task_name="candidate-split-evaluation", task_id=number)
            for number in range(n_fits)
        ]

    @contextmanager
    def ending(self):
        """Tell that the fits are done; and at the end of the block, that all is done."""
        self.searching.call_on_fit_task_end(estimator=self.search)
        yield
        self.root.call_on_fit_task_end(estimator=self.search, **self.told)

    @contextmanager
    def refit(self, best):
        """Tell of the refit, and let the callbacks follow it."""
        task = self.root.subcontext(task_name="refit-with-best-params")
        with task.propagate_callback_context(best):
            task.call_on_fit_task_begin(estimator=self.search, **self.told)
            yield
        task.call_on_fit_task_end(estimator=self.search, **self.told)


def watch_search(search, candidates, X, y, params, n_fits):
    """Begin the tasks of a search; None for one without callbacks."""
    if not has_callbacks(search, candidates):
        return None
    return SearchTasks(search, X, y, params.get("sample_weight"), n_fits)


def has_callbacks(search, candidates):
    """Whether somebody is to be told of each fit: callbacks of the search, a step, a candidate."""
    tried = [value for params in candidates for value in params.values()]
    return any(map(_is_watched, (search, search.estimator, *tried)))


def _is_watched(estimator):
    if hasattr(estimator, "_skl_callbacks"):
        return True
    steps = getattr(estimator, "steps", None)
    return isinstance(steps, list) and any(_is_watched(step[-1]) for step in steps)
