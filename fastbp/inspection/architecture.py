"""The network of an estimator as people see it: its layers as a table and as a drawing (SVG).

Both show what is known: all sizes of a fitted estimator, the hidden layers of another one.
Nothing here computes or trains, and nothing here fails on parameters that `fit` would refuse.
"""

from dataclasses import dataclass
from html import escape

import numpy as np
from sklearn.base import is_classifier

from fastbp.descriptions import name_of
from fastbp.engine import network
from fastbp.estimators.attributes import check_attributes, network_of
from fastbp.estimators.parameters import hidden_sizes
from fastbp.losses import TRANSFORMS, loss_for
from fastbp.tables import Text, format_table


@dataclass(frozen=True)
class Layer:
    """One layer of units, with the weights and biases that lead to it.

    Attributes
    ----------
    name : str
        "input", "hidden 1" ... , "output".
    n_in : int or None
        Units of the layer before; None for the input, or where it is not known yet.
    n_units : int or None
        None where it is not known before `fit`.
    activation : str
        Name of the activation, or of the transform of the output; "" for the input.
    """

    name: str
    n_in: int | None
    n_units: int | None
    activation: str

    @property
    def n_params(self):
        """Number of weights and biases; 0 for the input, None if not known."""
        if self.name == "input":
            return 0
        known = self.n_in is not None and self.n_units is not None
        return (self.n_in + 1) * self.n_units if known else None


def layers_of(estimator):
    """List the layers of an estimator, fitted or not.

    Raises
    ------
    ValueError
        If it is not fitted and `hidden_layer_sizes` is not valid, or if the fitted attributes make
        no network.
    """
    state = vars(estimator)
    if "coefs_" in state:
        sizes = network.layer_sizes_of(check_attributes(state, goes_on=False)[0])
    else:
        sizes = (None, *hidden_sizes(estimator.hidden_layer_sizes), None)
    n_hidden = len(sizes) - 2
    names = ["input", *(f"hidden {l}" for l in range(1, n_hidden + 1)), "output"]
    activations = ["", *_hidden_activations(estimator.activation, n_hidden), _output_of(estimator)]
    return [
        Layer(*layer) for layer in zip(names, (None, *sizes[:-1]), sizes, activations, strict=True)
    ]


def _hidden_activations(activation, n_hidden):
    """Names of the activations; "?" where there are more or fewer than layers."""
    if not isinstance(activation, list | tuple):
        return [_name_of(activation)] * n_hidden
    names = [_name_of(entry) for entry in activation]
    return names if len(names) == n_hidden else ["?"] * n_hidden


def _name_of(entry):
    """Name of an activation or a loss: a string, a description or a function."""
    return entry if isinstance(entry, str) else name_of(entry)


def _output_of(estimator):
    """Name of the output transform."""
    fitted = vars(estimator).get("out_activation_")
    if fitted is not None:
        return fitted
    if is_classifier(estimator):
        return "softmax or logistic"
    try:
        return loss_for(estimator.loss, "real").output
    except Exception:  # whatever a loss that `fit` would refuse makes Python raise
        return TRANSFORMS["identity"]


def _count(number):
    return "?" if number is None else f"{number:,}"


def sizes_text(layers):
    """Sizes of the layers in short: "64-100-10"; "?" for what only `fit` knows."""
    return "-".join("?" if layer.n_units is None else str(layer.n_units) for layer in layers)


def total_params(layers):
    """Return the number of weights and biases; None if not known."""
    counts = [layer.n_params for layer in layers]
    return None if None in counts else sum(counts)


def headline(estimator):
    """Describe the network in a line: kind, sizes, parameters and what they take."""
    layers = layers_of(estimator)
    total, line = total_params(layers), f"{type(estimator).__name__}, {sizes_text(layers)}"
    if total is None:
        return f"{line}, not fitted"
    dtype = network_of(vars(estimator))[0][0].dtype
    size = total * dtype.itemsize
    unit, factor = ("MiB", 2**20) if size >= 2**20 else ("KiB", 2**10)
    return f"{line}: {total:,} parameters, {dtype.name}, {size / factor:.3g} {unit}"


def summarize(estimator):
    """Return the table of layers as `Text`: units, activations, shapes, parameters."""
    header = ("layer", "units", "activation", "weights", "biases", "parameters")
    rows = []
    for layer in layers_of(estimator):
        shapes = ("", "")
        if layer.name != "input":
            n_in, n_units = _plain(layer.n_in), _plain(layer.n_units)
            shapes = f"({n_in}, {n_units})", f"({n_units},)"
        count = "" if layer.name == "input" else _count(layer.n_params)
        rows.append((layer.name, _count(layer.n_units), layer.activation, *shapes, count))
    table = format_table(header, rows, "<><<<>")
    return Text(f"{headline(estimator)}\n{table}\n{_training_line(estimator)}")


def _plain(number):
    return "?" if number is None else str(number)


def _training_line(estimator):
    """Say how the network is trained, and how far it came."""
    line = f"loss {_name_of(estimator.loss)}, solver {_name_of(estimator.solver)}"
    state = vars(estimator)
    if state.get("loss_") is not None:
        unit = "epochs" if "loss_curve_" in state else "iterations"
        line += f", loss {state['loss_']:.4g} after {state['n_iter_']} {unit}"
    return line


# ------------------------------------------------------------------------------- drawing

_GAP, _RADIUS, _MARGIN = 120, 7, 60  # in the units of the drawing
_MIDDLE, _BOTTOM, _HEIGHT = 82, 162, 185  # heights: middle of the layers, first label, drawing
_MOST_UNITS = 7  # circles drawn in a layer; of a larger one the middle is left out
_LONGEST_LABEL = 19
_MOST_LAYERS = 12  # drawn; of a deeper network only the table says all


def draw_network(estimator):
    """Return the network as a drawing in HTML; "" where parameters make no network.

    Colours are those of the surrounding text, so that it reads on light and dark pages.
    """
    try:
        layers = layers_of(estimator)
    except ValueError:
        return ""
    if len(layers) > _MOST_LAYERS:
        return f"<div>{escape(headline(estimator))}</div>"
    width = 2 * _MARGIN + _GAP * (len(layers) - 1)
    columns = [_heights(layer.n_units) for layer in layers]
    parts = []
    for l in range(1, len(layers)):
        x = _MARGIN + _GAP * l
        parts += [
            f'<line x1="{x - _GAP + _RADIUS}" y1="{y1:g}" x2="{x - _RADIUS}" y2="{y2:g}"/>'
            for y1 in columns[l - 1]
            for y2 in columns[l]
        ]
    lines = f'<g stroke="currentColor" stroke-opacity="0.22">{"".join(parts)}</g>'
    units = "".join(
        _draw_layer(layer, _MARGIN + _GAP * l, heights)
        for l, (layer, heights) in enumerate(zip(layers, columns, strict=True))
    )
    counts = "".join(
        f'<text x="{_MARGIN + _GAP * l - _GAP / 2:g}" y="12" font-size="10" fill-opacity="0.75">'
        f"{layer.n_params:,} parameters</text>"
        for l, layer in enumerate(layers)
        if layer.n_params
    )
    title = escape(headline(estimator))
    return (
        '<div class="fastbp-network" style="overflow-x:auto;margin-top:0.5em">'
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{width}" '
        f'height="{_HEIGHT}" viewBox="0 0 {width} {_HEIGHT}" fill="currentColor" '
        'font-family="sans-serif" font-size="12" text-anchor="middle">'
        f"<title>{title}</title>{lines}{units}{counts}</svg>"
        f'<div style="font-size:0.9em">{title}</div></div>'
    )


def _heights(n_units):
    """Heights of the circles of a layer; as many as there are units, up to `_MOST_UNITS`."""
    n = _MOST_UNITS if n_units is None else min(n_units, _MOST_UNITS)
    heights = _MIDDLE + 18 * (np.arange(n) - (n - 1) / 2)
    left_out = n_units is None or n_units > _MOST_UNITS
    return [float(y) for i, y in enumerate(heights) if not (left_out and i == _MOST_UNITS // 2)]


def _draw_layer(layer, x, heights):
    """Circles (dashed if nobody knows how many), the gap among them, and what the layer is."""
    unknown = layer.n_units is None
    dashes = ' stroke-dasharray="2 2"' if unknown else ""
    fill = ' fill="currentColor"' if layer.name not in ("input", "output") else ' fill="none"'
    opacity = ' fill-opacity="0.35"' if layer.name not in ("input", "output") else ""
    circles = "".join(
        f'<circle cx="{x}" cy="{y:g}" r="{_RADIUS}" stroke="currentColor"{fill}{opacity}{dashes}/>'
        for y in heights
    )
    if unknown or layer.n_units > _MOST_UNITS:
        circles += "".join(
            f'<circle cx="{x}" cy="{_MIDDLE + step}" r="1.3"/>' for step in (-5, 0, 5)
        )
    label = layer.activation or layer.name
    label = escape(label if len(label) <= _LONGEST_LABEL else f"{label[: _LONGEST_LABEL - 1]}…")
    return (
        f'{circles}<text x="{x}" y="{_BOTTOM}" font-weight="bold">{_count(layer.n_units)}</text>'
        f'<text x="{x}" y="{_BOTTOM + 16}">{label}</text>'
    )
