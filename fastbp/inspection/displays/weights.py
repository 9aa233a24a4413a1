"""The weights of a layer, as pictures."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from fastbp.estimators.attributes import network_of
from fastbp.inspection.architecture import layers_of
from fastbp.inspection.batch import feature_names, open_wrappers
from fastbp.inspection.displays.axes import (
    BLUE,
    GREY,
    divide,
    import_pyplot,
    integer_ticks,
    new_axes,
)

DIVERGING = "RdBu_r"  # white in the middle, which is put at 0
MOST_ROWS = 200  # of a map: more inputs are drawn in groups, for a screen has few hundred lines


class WeightsDisplay:
    """Weights of a network: maps, images of the first layer, or histograms.

    Colours are white at 0, red for positive and blue for negative weights.  Of a layer with more
    than 200 inputs a map shows groups of neighbouring inputs, each by its weight of largest size.

    Use :meth:`from_estimator`; the parameters are stored as attributes.

    Parameters
    ----------
    coefs : list of ndarray of shape (n_in, n_out)
        Weights of the layers to draw.
    layer_names : list of str
        Title of each.
    feature_names : array-like of str of shape (n_features,), default=None
        Names of the rows of the first layer's weights, where that is drawn.
    image_shape : tuple of int, default=None
        Height and width of an image that the rows of ``coefs[0]`` make up.
    estimator_name : str, default=None
        Title.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the first panel.
    axes_ : ndarray of matplotlib Axes
        Axes of all panels.
    figure_ : matplotlib Figure
    images_ : list of matplotlib AxesImage
        The maps or images; empty for histograms.
    units_ : ndarray of int
        Units whose images were drawn (``kind="image"``), else empty.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn.datasets import load_digits
    >>> from fastbp import BackpropClassifier, WeightsDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> clf = BackpropClassifier((20,), tol=0.01, random_state=0).fit(X / 16, y)
    >>> display = WeightsDisplay.from_estimator(clf, image_shape=(8, 8))
    >>> plt.show()
    """

    __module__ = "fastbp"

    def __init__(
        self,
        coefs: Sequence[ArrayLike],
        *,
        layer_names: Sequence[str],
        feature_names: Sequence[str] | None = None,
        image_shape: tuple[int, int] | None = None,
        estimator_name: str | None = None,
    ) -> None:
        self.coefs = coefs
        self.layer_names = layer_names
        self.feature_names = feature_names
        self.image_shape = image_shape
        self.estimator_name = estimator_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        layer: int | None = None,
        kind: str | None = None,
        image_shape: tuple[int, int] | None = None,
        max_units: int = 25,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the weights of a fitted estimator.

        Parameters
        ----------
        estimator : BackpropClassifier or BackpropRegressor
            Fitted; or a pipeline, search or TransformedTargetRegressor that ends in one.
        layer : int, default=None
            Index into `coefs_` of the only layer to draw; None draws all.
        kind : {"map", "image", "histogram"}, default=None
            "map": one row for each input and one column for each unit of the layer. "image": the
            weights of each unit of the first layer as an image of the features. "histogram":
            how the weights of each layer are distributed. None is "image" with `image_shape`,
            else "map".
        image_shape : tuple of int, default=None
            Height and width of the image that the features make up.
        max_units : int, default=25
            Most images to draw: the units with the largest weights, in their order.
        ax : matplotlib Axes, default=None
            Place to divide into panels; None makes a figure.
        **kwargs : dict
            Passed to ``Axes.imshow``, or ``Axes.hist`` for histograms.

        Returns
        -------
        display : WeightsDisplay

        Raises
        ------
        ValueError
            If there is no such layer, or `image_shape` does not fit the features.
        TypeError
            If the estimator holds no network of fastbp.
        """
        import_pyplot()
        estimator, _, _ = open_wrappers(estimator)
        kind = kind or ("image" if image_shape is not None else "map")
        layer = 0 if kind == "image" and layer is None else layer
        coefs, _ = network_of(vars(estimator))
        n_layers = len(coefs)
        if layer is not None and not 0 <= layer < n_layers:
            raise ValueError(
                f"layer must be from 0 to {n_layers - 1}, as an index into coefs_. Got {layer}."
            )
        chosen = range(n_layers) if layer is None else [layer]
        layers = layers_of(estimator)[1:]
        display = cls(
            [coefs[l] for l in chosen],
            layer_names=[f"{layers[l].name} {coefs[l].shape}" for l in chosen],
            feature_names=feature_names(estimator) if chosen[0] == 0 else None,
            image_shape=image_shape,
            estimator_name=type(estimator).__name__,
        )
        return display.plot(ax, kind=kind, max_units=max_units, **kwargs)

    def plot(
        self, ax: Any = None, *, kind: str | None = None, max_units: int = 25, **kwargs: Any
    ) -> Self:
        """Draw the weights.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Place to divide into panels; None makes a figure.
        kind : {"map", "image", "histogram"}, default=None
            None is "image" with `image_shape`, else "map".
        max_units : int, default=25
            Most images to draw.
        **kwargs : dict
            Passed to ``Axes.imshow``, or ``Axes.hist`` for histograms.

        Returns
        -------
        display : WeightsDisplay
            This object.

        Raises
        ------
        ValueError
            If `kind` is unknown, or `image_shape` does not fit the features.
        """
        kind = kind or ("image" if self.image_shape is not None else "map")
        draw = {"map": self._draw_maps, "image": self._draw_images, "histogram": self._draw_bars}
        if kind not in draw:
            raise ValueError(f"kind must be one of {', '.join(map(repr, draw))}. Got {kind!r}.")
        self.images_, self.units_ = [], np.array([], int)
        if kind == "image":
            self.units_ = self._choose_units(max_units)
            n_columns = int(np.ceil(np.sqrt(len(self.units_))))
            n_rows = -(-len(self.units_) // n_columns)
            size = (1.1 * n_columns + 1.2, 1.2 * n_rows + 0.5)
        else:
            n_rows, n_columns = 1, len(self.coefs)
            size = (1.2 + 3.0 * n_columns, 3.6)
        ax = new_axes(ax, figsize=size)
        self.figure_ = ax.figure
        grid = divide(ax, self.estimator_name, n_rows, n_columns)
        n_panels = len(self.units_) if kind == "image" else n_columns
        panels = [self.figure_.add_subplot(grid[i]) for i in range(n_panels)]
        self.ax_, self.axes_ = panels[0], np.array(panels)
        draw[kind](panels, kwargs)
        return self

    def _choose_units(self, max_units):
        """Units of the first layer drawn with the largest weights, in their order."""
        shape, n_in = self.image_shape, len(self.coefs[0])
        if shape is None or len(shape) != 2 or shape[0] * shape[1] != n_in:
            raise ValueError(
                f"kind='image' needs image_shape=(height, width) with height * width = {n_in}, the "
                f"rows of the layer's weights. Got {shape!r}."
            )
        norms = np.linalg.norm(self.coefs[0], axis=0)
        return np.sort(np.argsort(-norms, kind="stable")[:max_units])

    def _draw_images(self, panels, kwargs):
        weights = self.coefs[0]
        largest = float(np.abs(weights[:, self.units_]).max()) or 1.0
        settings = {"cmap": DIVERGING, "vmin": -largest, "vmax": largest, **kwargs}
        for panel, unit in zip(panels, self.units_, strict=True):
            image = panel.imshow(weights[:, unit].reshape(self.image_shape), **settings)
            self.images_.append(image)
            panel.set_title(f"unit {unit}", fontsize="small", pad=2)
            panel.set_xticks([])
            panel.set_yticks([])
        self.figure_.colorbar(self.images_[0], ax=panels, label="weight", shrink=0.8)

    def _draw_maps(self, panels, kwargs):
        for panel, weights, name in zip(panels, self.coefs, self.layer_names, strict=True):
            largest = float(np.abs(weights).max()) or 1.0
            size = -(-len(weights) // MOST_ROWS)
            rows = strongest_of_groups(weights, size)
            settings = {
                "cmap": DIVERGING,
                "vmin": -largest,
                "vmax": largest,
                "aspect": "auto",
                "interpolation": "nearest",
                # Ticks count inputs, also where a row of the picture is a group of them.
                "extent": (-0.5, weights.shape[1] - 0.5, size * len(rows) - 0.5, -0.5),
                **kwargs,
            }
            self.images_.append(panel.imshow(rows, **settings))
            self.figure_.colorbar(self.images_[-1], ax=panel)
            title = name if size == 1 else f"{name}\nstrongest of each {size} inputs"
            panel.set_title(title, fontsize="medium")
            panel.set_xlabel("unit")
            integer_ticks(panel.xaxis)
            integer_ticks(panel.yaxis)
        panels[0].set_ylabel("input of the layer")
        if self.feature_names is not None and len(self.feature_names) <= 40:
            panels[0].set_yticks(range(len(self.feature_names)), self.feature_names)
            panels[0].tick_params(axis="y", labelsize="small")

    def _draw_bars(self, panels, kwargs):
        for panel, weights, name in zip(panels, self.coefs, self.layer_names, strict=True):
            settings = {"bins": 40, "color": BLUE, **kwargs}
            panel.hist(weights.ravel(), **settings)
            panel.axvline(0, color=GREY, linewidth=1)
            panel.set_title(name, fontsize="medium")
            panel.set_xlabel("weight")
        panels[0].set_ylabel("number of weights")


def strongest_of_groups(weights, size):
    """Return the weight of largest size of each `size` neighbouring rows.

    Parameters
    ----------
    weights : ndarray of shape (n_in, n_out)
    size : int
        Rows of a group; the last one may have fewer.

    Returns
    -------
    rows : ndarray of shape (n_groups, n_out)
    """
    if size == 1:
        return weights
    missing = -len(weights) % size
    groups = np.pad(weights, ((0, missing), (0, 0))).reshape(-1, size, weights.shape[1])
    at = np.abs(groups).argmax(axis=1)[:, np.newaxis]
    return np.take_along_axis(groups, at, axis=1)[:, 0]
