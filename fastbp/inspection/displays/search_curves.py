"""Learning curves of all candidates of a search, as a picture."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from fastbp.inspection.displays.axes import BLUE, GREY, import_pyplot, legend_above, new_axes

CURVES = {
    "loss": "training loss",
    "validation_loss": "validation loss",
    "validation_score": "validation score",
}


class SearchCurvesDisplay:
    """Learning curves of all candidates of a search, the best one on top.

    Use :meth:`from_estimator`; the parameters are stored as attributes.

    Parameters
    ----------
    curves : list of array-like of shape (n_epochs,)
        One for each candidate.
    names : list of str, default=None
        What to call the candidates.
    best_index : int, default=None
        The candidate to draw on top, in colour.
    status : list of str, default=None
        Those that are not "finished" are dashed.
    curve_name : str, default="training loss"
        What the curves show.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    lines_ : list of matplotlib Line2D
        The curve of each candidate.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn.datasets import load_digits
    >>> from fastbp import BackpropClassifier, BackpropSearchCV, SearchCurvesDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> net = BackpropClassifier((20,), max_iter=9, random_state=0)
    >>> params = {"learning_rate_init": [1e-4, 1e-3, 1e-2]}
    >>> search = BackpropSearchCV(net, params, strategy="halving", cv=2).fit(X / 16, y)
    >>> display = SearchCurvesDisplay.from_estimator(search)
    >>> plt.show()
    """

    __module__ = "fastbp"

    def __init__(
        self,
        curves: Sequence[Any],
        *,
        names: Sequence[str] | None = None,
        best_index: int | None = None,
        status: Sequence[str] | None = None,
        curve_name: str = "training loss",
    ) -> None:
        self.curves = curves
        self.names = names
        self.best_index = best_index
        self.status = status
        self.curve_name = curve_name

    @classmethod
    def from_estimator(
        cls,
        search: Any,
        *,
        curve: str = "loss",
        ax: Any = None,
        log_scale: bool = False,
        **kwargs: Any,
    ) -> Self:
        """Draw the mean over the folds of each candidate's curve.

        Parameters
        ----------
        search : BackpropSearchCV
            Fitted.
        curve : {'loss', 'validation_loss', 'validation_score'}, default='loss'
            Which curve; the last two are there with `early_stopping` or `X_val`.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        log_scale : bool, default=False
            Whether the vertical axis is logarithmic.
        **kwargs : dict
            Passed to ``Axes.plot`` for every curve.

        Returns
        -------
        display : SearchCurvesDisplay

        Raises
        ------
        ValueError
            If no such curve was recorded.
        TypeError
            If it is no fitted BackpropSearchCV.
        """
        import_pyplot()
        found = getattr(search, "candidate_curves_", None)
        if found is None:
            raise TypeError(
                "SearchCurvesDisplay draws candidate_curves_ of a fitted BackpropSearchCV, got "
                f"{search!r}."
            )
        if curve not in CURVES:
            raise ValueError(f"curve must be one of {list(CURVES)}, got {curve!r}.")
        means = [_mean_of([fold[curve] for fold in folds]) for folds in found]
        if not any(map(len, means)):
            raise ValueError(
                f"No candidate recorded a {CURVES[curve]}. The validation curves need "
                "early_stopping=True or X_val, and solver='lbfgs' records none of its training."
            )
        display = cls(
            means,
            names=[_name_of(params) for params in search.cv_results_["params"]],
            best_index=getattr(search, "best_index_", None),
            status=search.cv_results_.get("status"),
            curve_name=CURVES[curve],
        )
        return display.plot(ax, log_scale=log_scale, **kwargs)

    def plot(self, ax: Any = None, *, log_scale: bool = False, **kwargs: Any) -> Self:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        log_scale : bool, default=False
            Whether the vertical axis is logarithmic.
        **kwargs : dict
            Passed to ``Axes.plot`` for every curve.

        Returns
        -------
        display : SearchCurvesDisplay
            This object.
        """
        self.ax_ = ax = new_axes(ax)
        self.figure_, self.lines_ = ax.figure, []
        for number, curve in enumerate(self.curves):
            is_best = number == self.best_index
            finished = self.status is None or self.status[number] == "finished"
            settings = {
                "color": BLUE if is_best else GREY,
                "linewidth": 2.0 if is_best else 1.0,
                "linestyle": "-" if finished else "--",
                "zorder": 3 if is_best else 2,
                "marker": "o" if len(curve) == 1 else None,
                "label": None if self.names is None else self.names[number],
                **kwargs,
            }
            self.lines_ += ax.plot(np.arange(1, len(curve) + 1), curve, **settings)
        ax.set_xlabel("epoch")
        ax.set_ylabel(self.curve_name)
        if log_scale:
            ax.set_yscale("log")
        if self.best_index is not None and self.names is not None:
            legend_above(
                ax, handles=[self.lines_[self.best_index]], title="best candidate", ncols=1
            )
        return self


def _mean_of(curves):
    """Mean over the folds of each epoch that all of them have reached, as far as they begun."""
    curves = [curve for curve in curves if curve is not None and len(curve)]
    n_epochs = min(map(len, curves), default=0)
    return np.mean([curve[:n_epochs] for curve in curves], axis=0) if n_epochs else np.empty(0)


def _name_of(params):
    """Write a candidate's parameters, one a line, without the steps that they belong to."""
    written = {
        name.rpartition("__")[2]: f"{value:.3g}" if isinstance(value, float) else value
        for name, value in params.items()
    }
    return "\n".join(f"{name}={value}" for name, value in written.items())
