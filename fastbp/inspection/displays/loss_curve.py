"""Training and validation loss over the epochs, as a picture."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from fastbp.inspection.batch import open_wrappers
from fastbp.inspection.displays.axes import (
    BLUE,
    GREY,
    ORANGE,
    divide,
    import_pyplot,
    integer_ticks,
    legend_above,
    new_axes,
    title_above_legend,
)


class LossCurveDisplay:
    """Training and validation loss over the epochs.

    Use :meth:`from_estimator`; the parameters are stored as attributes.

    Parameters
    ----------
    loss_curve : array-like of shape (n_epochs,)
        Training loss of each epoch.
    validation_loss_curve : array-like of shape (n_epochs,), default=None
        Validation loss of each epoch; drawn on the same axis.
    validation_scores : array-like of shape (n_epochs,), default=None
        Validation score of each epoch; drawn on an axis of its own, on the right.
    learning_rate_curve : array-like of shape (n_epochs,), default=None
        Learning rate of each epoch; drawn in a strip of its own, below.
    best_epoch : int, default=None
        Number, from 1, of the epoch to mark.
    estimator_name : str, default=None
        Title.
    score_name : str, default="validation score"
        Name of what `validation_scores` measure.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the losses: the one that was given, unless a learning rate takes its lower part.
    score_ax_ : matplotlib Axes or None
        Axes of the scores.
    learning_rate_ax_ : matplotlib Axes or None
        Axes of the learning rate.
    figure_ : matplotlib Figure
    lines_ : dict of str to matplotlib Line2D
        The curves: "loss", and as far as they are there "validation loss", "validation score",
        "learning rate" and "best epoch".

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn.datasets import load_digits
    >>> from fastbp import BackpropClassifier, LossCurveDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> clf = BackpropClassifier(early_stopping=True, random_state=0).fit(X / 16, y)
    >>> display = LossCurveDisplay.from_estimator(clf)
    >>> plt.show()
    """

    __module__ = "fastbp"

    def __init__(
        self,
        loss_curve: Sequence[float],
        *,
        validation_loss_curve: Sequence[float] | None = None,
        validation_scores: Sequence[float] | None = None,
        learning_rate_curve: Sequence[float] | None = None,
        best_epoch: int | None = None,
        estimator_name: str | None = None,
        score_name: str = "validation score",
    ) -> None:
        self.loss_curve = loss_curve
        self.validation_loss_curve = validation_loss_curve
        self.validation_scores = validation_scores
        self.learning_rate_curve = learning_rate_curve
        self.best_epoch = best_epoch
        self.estimator_name = estimator_name
        self.score_name = score_name

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, ax: Any = None, log_scale: bool = False, **kwargs: Any
    ) -> Self:
        """Draw what an estimator recorded while it was trained.

        Parameters
        ----------
        estimator : BackpropClassifier or BackpropRegressor
            Fitted by minibatches; or a pipeline, search or TransformedTargetRegressor that ends in
            one.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        log_scale : bool, default=False
            Whether the axis of the losses is logarithmic.
        **kwargs : dict
            Passed to ``Axes.plot`` for every curve.

        Returns
        -------
        display : LossCurveDisplay

        Raises
        ------
        ValueError
            If no curve was recorded ('lbfgs' records none).
        TypeError
            If the estimator holds no network of fastbp.
        """
        import_pyplot()
        estimator, _, _ = open_wrappers(estimator)
        state = vars(estimator)
        if not state.get("loss_curve_"):
            raise ValueError(
                f"solver={estimator.solver!r} recorded no loss curve. Train with a solver that "
                "works in epochs, such as 'adam' or 'sgd'."
            )
        scoring = state.get("scoring")
        names = {None: "R2" if hasattr(estimator, "scale_targets") else "accuracy", "loss": "score"}
        measure = names.get(scoring) if scoring in names else str(scoring)
        display = cls(
            state["loss_curve_"],
            validation_loss_curve=state.get("validation_loss_curve_"),
            validation_scores=state.get("validation_scores_"),
            learning_rate_curve=state.get("learning_rate_curve_"),
            best_epoch=_best_epoch(state),
            estimator_name=type(estimator).__name__,
            score_name=f"validation {measure}",
        )
        return display.plot(ax, log_scale=log_scale, **kwargs)

    def plot(self, ax: Any = None, *, log_scale: bool = False, **kwargs: Any) -> Self:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        log_scale : bool, default=False
            Whether the axis of the losses is logarithmic.
        **kwargs : dict
            Passed to ``Axes.plot`` for every curve.

        Returns
        -------
        display : LossCurveDisplay
            This object.
        """
        ax = new_axes(ax)
        self.figure_, self.lines_ = ax.figure, {}
        self.score_ax_ = self.learning_rate_ax_ = None
        if self.learning_rate_curve is not None:
            grid = divide(ax, None, 2, 1, height_ratios=[4, 1], hspace=0.05)
            ax = self.figure_.add_subplot(grid[0])
            self.learning_rate_ax_ = self.figure_.add_subplot(grid[1], sharex=ax)
        self.ax_ = ax
        self._draw(ax, "loss", "training loss", self.loss_curve, BLUE, "-", kwargs)
        if self.validation_loss_curve is not None:
            curve = self.validation_loss_curve
            self._draw(ax, "validation loss", "validation loss", curve, ORANGE, "--", kwargs)
        if self.validation_scores is not None:
            self.score_ax_ = ax.twinx()
            self.score_ax_.set_ylabel(self.score_name)
            self._draw(
                *(self.score_ax_, "validation score", self.score_name, self.validation_scores),
                *("black", ":", kwargs),
            )
        if self.best_epoch is not None:
            curve = self.validation_scores or self.validation_loss_curve or self.loss_curve
            best = self.best_epoch + self._epochs_before(curve)
            label = f"best epoch ({best})"
            self.lines_["best epoch"] = ax.axvline(
                best, color=GREY, linestyle="-.", linewidth=1, label=label
            )
        strip = self.learning_rate_ax_
        if strip is not None and self.learning_rate_curve is not None:
            curve = self.learning_rate_curve
            self._draw(strip, "learning rate", "learning rate", curve, "black", "-", kwargs)
            strip.set_ylabel("learning\nrate")
            ax.tick_params(labelbottom=False)
        (strip or ax).set_xlabel("epoch")
        ax.set_ylabel("loss")
        if log_scale:
            ax.set_yscale("log")
        integer_ticks(ax.xaxis)
        shown = [line for name, line in self.lines_.items() if name != "learning rate"]
        legend = None
        if len(shown) > 1:
            legend = legend_above(self.score_ax_ or ax, handles=shown)
        if self.estimator_name is not None:
            title_above_legend(ax, self.estimator_name, legend)
        return self

    def _epochs_before(self, curve):
        """Epochs before a curve began: validation data may come in later than training did."""
        return max(len(self.loss_curve) - len(curve), 0)

    def _draw(self, ax, name, label, curve, color, linestyle, kwargs):
        values = np.asarray(curve, float)
        seen = np.flatnonzero(~np.isnan(values))  # on a cluster not each epoch is measured
        epochs = seen + 1 + self._epochs_before(curve)
        marker = "o" if len(seen) == 1 else None
        settings = {"color": color, "linestyle": linestyle, "marker": marker, **kwargs}
        (self.lines_[name],) = ax.plot(epochs, values[seen], label=label, **settings)


def _best_epoch(state):
    """Return the number, from 1, of the epoch that is best on validation data; None without."""
    if state.get("best_iter_") is not None:
        return int(state["best_iter_"])
    for name, sign in (("validation_scores_", 1), ("validation_loss_curve_", -1)):
        curve = sign * np.asarray(state.get(name) or (), float)
        if not np.isnan(curve).all():
            return int(np.nanargmax(curve)) + 1
    return None
