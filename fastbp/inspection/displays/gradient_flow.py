"""Activations, gradients and units of each layer for a batch, as a picture."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from fastbp.estimators.annotations import Features, Targets, Weights
from fastbp.inspection.architecture import layers_of
from fastbp.inspection.backpropagation import backpropagate
from fastbp.inspection.batch import Batch, Network, open_wrappers
from fastbp.inspection.displays.axes import (
    BLUE,
    GREY,
    ORANGE,
    divide,
    import_pyplot,
    legend_above,
    new_axes,
)
from fastbp.inspection.symptoms import dead_and_saturated

DECADES = 1e-9  # of the largest gradient: smaller ones are beyond the picture's edge


class GradientFlowDisplay:
    """Activations, gradients and dead units, layer by layer, of a batch.

    Three panels with the layers from top to bottom. Left, the distribution of the activations (of
    the raw scores for the output): a layer that has shrunk to a point or grown huge carries no
    signal. In the middle, on a logarithmic scale, how strongly the loss depends on the units of
    each layer (root mean square of the deltas ``dloss/dz`` over the samples, one value for each
    unit) and on its weights: lines that fall towards the input by orders of magnitude are a
    vanishing gradient, lines that rise an exploding one. Right, the share of units that are dead or
    saturated. Boxes span the middle half, whiskers reach from the 5th to the 95th percentile.

    Use :meth:`from_estimator`; the parameters are stored as attributes.

    Parameters
    ----------
    layer_names : list of str of length n_layers
        Hidden layers and the output.
    activations : list of ndarray of shape (n_samples, n_units)
        Activations of each layer, raw scores of the output.
    unit_gradients : list of ndarray of shape (n_units,)
        Root mean square of each unit's delta over the samples.
    weight_gradients : list of ndarray of shape (n_in, n_units)
        Gradient of the loss by the weights of each layer.
    dead, saturated : ndarray of shape (n_layers,)
        Share of units of each layer; 0 for the output.
    estimator_name : str, default=None
        Title.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the first panel.
    axes_ : ndarray of shape (3,) of matplotlib Axes
        The panels: activations, gradients, units.
    figure_ : matplotlib Figure

    See Also
    --------
    fastbp.inspection.diagnose : The same in words and numbers, with how to fix it.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn.datasets import load_digits
    >>> from fastbp import BackpropClassifier, GradientFlowDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> clf = BackpropClassifier((50, 50, 50), "tanh", early_stopping=True, random_state=0)
    >>> display = GradientFlowDisplay.from_estimator(clf.fit(X / 16, y), X[:200] / 16, y[:200])
    >>> plt.show()
    """

    __module__ = "fastbp"

    def __init__(
        self,
        layer_names: Sequence[str],
        *,
        activations: Sequence[ArrayLike],
        unit_gradients: Sequence[ArrayLike],
        weight_gradients: Sequence[ArrayLike],
        dead: ArrayLike,
        saturated: ArrayLike,
        estimator_name: str | None = None,
    ) -> None:
        self.layer_names = layer_names
        self.activations = activations
        self.unit_gradients = unit_gradients
        self.weight_gradients = weight_gradients
        self.dead = dead
        self.saturated = saturated
        self.estimator_name = estimator_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Features,
        y: Targets,
        sample_weight: Weights = None,
        *,
        max_samples: int = 2000,
        ax: Any = None,
    ) -> Self:
        """Send a batch through the network and back, and draw what happens.

        Parameters
        ----------
        estimator : BackpropClassifier or BackpropRegressor
            Fitted; or a pipeline, search or TransformedTargetRegressor that ends in one.
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features)
            A batch, as `estimator` takes it; some hundred samples show what there is to see.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            As for `fit`.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each sample.
        max_samples : int, default=2000
            Of more samples this many are looked at, evenly spread over the rows.
        ax : matplotlib Axes, default=None
            Place to divide into the three panels; None makes a figure.

        Returns
        -------
        display : GradientFlowDisplay

        Raises
        ------
        ValueError, TypeError
            For bad data, as in `fit`, or an estimator that holds no network of fastbp.
        """
        import_pyplot()
        estimator, X, y = open_wrappers(estimator, X, y)
        network = Network.of(estimator)
        batch = Batch.of(network, X, y, sample_weight, max_samples)
        result = backpropagate(network, batch)
        units = [
            dead_and_saturated(*pair)
            for pair in zip(network.activations, result.slopes, strict=True)
        ]
        n_samples = len(batch.targets)
        display = cls(
            [f"{layer.name}\n{layer.n_units} {layer.activation}" for layer in layers_of(estimator)][
                1:
            ],
            activations=[*result.activations[1:-1], result.pre_activations[-1]],
            unit_gradients=[
                np.sqrt(np.mean((delta * n_samples) ** 2, axis=0)) for delta in result.deltas
            ],
            weight_gradients=result.coef_grads,
            dead=np.array([*(dead.mean() for dead, _ in units), 0.0]),
            saturated=np.array([*(saturated.mean() for _, saturated in units), 0.0]),
            estimator_name=f"{type(estimator).__name__}, {n_samples:,} samples",
        )
        return display.plot(ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw the three panels.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Place to divide into the panels; None makes a figure.

        Returns
        -------
        display : GradientFlowDisplay
            This object.
        """
        n_layers = len(self.layer_names)
        size = (10, 1.6 + 0.75 * n_layers)
        ax = new_axes(ax, figsize=size)
        self.figure_ = figure = ax.figure
        grid = divide(ax, self.estimator_name, 1, 3, width_ratios=[1.1, 1.5, 0.8], wspace=0.08)
        first = figure.add_subplot(grid[0])
        panels = [first, *(figure.add_subplot(grid[i], sharey=first) for i in (1, 2))]
        self.ax_, self.axes_ = first, np.array(panels)
        rows = np.arange(n_layers)
        self._draw_activations(panels[0], rows)
        self._draw_gradients(panels[1], rows)
        self._draw_units(panels[2], rows)
        first.set_yticks(rows, self.layer_names)
        first.set_ylim(n_layers - 0.4, -0.6)
        for panel in panels[1:]:
            panel.tick_params(labelleft=False)
        for panel in panels:
            panel.grid(axis="x", alpha=0.3)
            panel.set_axisbelow(True)
        return self

    def _draw_activations(self, ax, rows):
        _draw_boxes(ax, self.activations, rows, BLUE, 0.45)
        ax.axvline(0, color=GREY, linewidth=1)
        ax.set_xlabel("activation (output: raw score)")

    def _draw_gradients(self, ax, rows):
        from matplotlib.ticker import LogLocator

        weights = [np.abs(gradient) for gradient in self.weight_gradients]
        for arrays, shift, color, marker, label in (
            (self.unit_gradients, -0.16, BLUE, "o", "units: RMS of dloss/dz"),
            (weights, 0.16, ORANGE, "s", "weights: |dloss/dW|"),
        ):
            positive = [array[array > 0].ravel() for array in arrays]
            _draw_boxes(ax, positive, rows + shift, color, 0.26)
            there = [i for i, values in enumerate(positive) if values.size]
            medians = [np.median(positive[i]) for i in there]
            ax.plot(
                *(medians, rows[there] + shift),
                color=color,
                marker=marker,
                markersize=5,
                markeredgecolor="black",
                linewidth=1.2,
                label=label,
                zorder=3,
            )
        ax.set_xscale("log")
        lowest, highest = ax.get_xlim()
        ax.set_xlim(max(lowest, DECADES * highest), highest)
        ax.xaxis.set_major_locator(LogLocator(numticks=7))
        ax.set_xlabel("gradient (dead units left out)")
        legend_above(ax)

    def _draw_units(self, ax, rows):
        ax.barh(rows, 100 * self.dead, 0.45, color="black", label="dead")
        ax.barh(
            rows,
            100 * self.saturated,
            0.45,
            left=100 * self.dead,
            color="white",
            edgecolor="black",
            hatch="///",
            label="saturated",
        )
        for row, share in zip(rows, 100 * (self.dead + self.saturated), strict=True):
            inside = share > 70
            ax.annotate(
                *(f"{share:.0f} %", (share, row)),
                xytext=(-4 if inside else 4, 0),
                textcoords="offset points",
                ha="right" if inside else "left",
                va="center",
                fontsize="small",
            )
        ax.set_xlim(0, 100)
        ax.set_xlabel("% of units")
        legend_above(ax)


def _draw_boxes(ax, arrays, rows, color, width):
    """Draw a box (quartiles) with whiskers (5 to 95 %) for each array that is not empty."""
    from matplotlib.colors import to_rgba

    there = [i for i, array in enumerate(arrays) if array.size]
    if there:
        ax.boxplot(
            [arrays[i].ravel() for i in there],
            positions=rows[there],
            orientation="horizontal",
            widths=width,
            whis=(5, 95),
            showfliers=False,
            patch_artist=True,
            manage_ticks=False,
            boxprops={"facecolor": to_rgba(color, 0.35), "edgecolor": color},
            whiskerprops={"color": color},
            capprops={"color": color},
            medianprops={"color": "black"},
        )
