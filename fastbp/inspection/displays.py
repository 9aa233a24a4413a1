"""Pictures of a fitted network, in scikit-learn's Display convention.

`from_estimator` collects the numbers, `plot` draws them, and ``ax_``, ``figure_`` hold what was
drawn; the numbers stay in attributes.  matplotlib is imported when something is drawn.  Colours
differ in lightness too, and lines in their dashes, so that pictures read in grey.
"""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from fastbp.estimators.annotations import Features, Targets, Weights
from fastbp.estimators.attributes import network_of
from fastbp.inspection.architecture import layers_of
from fastbp.inspection.backpropagation import backpropagate
from fastbp.inspection.batch import Batch, Network, open_wrappers
from fastbp.inspection.symptoms import dead_and_saturated

# Okabe & Ito (2008), Color universal design: told apart by everybody, and here by lightness too.
BLUE, ORANGE, GREY = "#0072b2", "#e69f00", "#8c8c8c"
DECADES = 1e-9  # of the largest gradient: smaller ones are beyond the picture's edge


def _import_pyplot():
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            'fastbp\'s pictures need matplotlib. Install it: `pip install "fastbp[plot]"`.'
        ) from error
    return plt


def _new_axes(ax, **settings):
    """Return `ax`, or the Axes of a new figure."""
    plt = _import_pyplot()
    return plt.subplots(layout="constrained", **settings)[1] if ax is None else ax


def _divide(ax, title, n_rows, n_columns, **settings):
    """Hide `ax` and return the grid that takes its place; a figure of its own gets the title."""
    from matplotlib.gridspec import GridSpecFromSubplotSpec

    place = ax.get_subplotspec()
    if place is None:
        raise ValueError("ax must be a subplot (plt.subplots), so that it can be divided.")
    ax.set_axis_off()
    if title is not None and ax.figure.axes == [ax]:
        ax.figure.suptitle(title)
    return GridSpecFromSubplotSpec(n_rows, n_columns, subplot_spec=place, **settings)


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
        _import_pyplot()
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
        ax = _new_axes(ax)
        self.figure_, self.lines_ = ax.figure, {}
        self.score_ax_ = self.learning_rate_ax_ = None
        if self.learning_rate_curve is not None:
            grid = _divide(ax, None, 2, 1, height_ratios=[4, 1], hspace=0.05)
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
        if self.estimator_name is not None:
            ax.set_title(self.estimator_name)
        shown = [line for name, line in self.lines_.items() if name != "learning rate"]
        if len(shown) > 1:
            top = self.score_ax_ or ax  # a twin lies above: its legend hides no curve's end
            top.legend(handles=shown, loc="center right")
        return self

    def _epochs_before(self, curve):
        """Epochs before a curve began: validation data may come in later than training did."""
        return max(len(self.loss_curve) - len(curve), 0)

    def _draw(self, ax, name, label, curve, color, linestyle, kwargs):
        epochs = np.arange(1, len(curve) + 1) + self._epochs_before(curve)
        marker = "o" if len(curve) == 1 else None
        settings = {"color": color, "linestyle": linestyle, "marker": marker, **kwargs}
        (self.lines_[name],) = ax.plot(epochs, curve, label=label, **settings)


def _best_epoch(state):
    """Return the number, from 1, of the epoch that is best on validation data; None without."""
    if state.get("best_iter_") is not None:
        return int(state["best_iter_"])
    if state.get("validation_scores_"):
        return int(np.argmax(state["validation_scores_"])) + 1
    if state.get("validation_loss_curve_"):
        return int(np.argmin(state["validation_loss_curve_"])) + 1
    return None


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
    fastbp.inspection.diagnose : The same in words and numbers, with what mends it.

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
        _import_pyplot()
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
        ax = _new_axes(ax, figsize=size)
        self.figure_ = figure = ax.figure
        grid = _divide(ax, self.estimator_name, 1, 3, width_ratios=[1.1, 1.5, 0.8], wspace=0.08)
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
        _legend_above(ax)

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
        _legend_above(ax)


def _legend_above(ax):
    ax.legend(
        loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False, fontsize="small"
    )


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


class WeightsDisplay:
    """Weights of a network: maps, images of the first layer, or histograms.

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
        _import_pyplot()
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
            feature_names=vars(estimator).get("feature_names_in_") if chosen[0] == 0 else None,
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
        ax = _new_axes(ax, figsize=size)
        self.figure_ = ax.figure
        grid = _divide(ax, self.estimator_name, n_rows, n_columns)
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
        settings = {"cmap": "gray", "vmin": -largest, "vmax": largest, **kwargs}
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
            settings = {
                "cmap": "cividis",
                "vmin": -largest,
                "vmax": largest,
                "aspect": "auto",
                "interpolation": "nearest",
                **kwargs,
            }
            self.images_.append(panel.imshow(weights, **settings))
            self.figure_.colorbar(self.images_[-1], ax=panel)
            panel.set_title(name, fontsize="medium")
            panel.set_xlabel("unit")
            _integer_ticks(panel.xaxis)
            _integer_ticks(panel.yaxis)
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


def _integer_ticks(axis):
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator("auto", integer=True))
