"""The state of a training as bytes, and back: all that it needs to go on, bit for bit, elsewhere.

The state is one object, `fastbp.training.progress.Progress`, whoever asks for it: what a paused fit
has reached, what ``warm_start="resume"`` turns into attributes, what a snapshot holds, and what is
sent to another process.  `Training.state` gives it, `OpenFit(..., state=...)` takes it; it pickles;
and here it becomes JSON and named arrays, which go into a sealed file alone or among others.  Files
are the business of `fastbp.training.keeping`.
"""

import json
from dataclasses import fields

import numpy as np

from fastbp import safetensors
from fastbp.engine.precision import PRECISIONS
from fastbp.safetensors import require
from fastbp.training.progress import Progress
from fastbp.training.stopping import ENDS, Patience
from fastbp.values import Writer, decode

CURVES = ("loss_curve", "validation_scores", "validation_loss_curve")
FORMAT = "1"


def describe(state, writer, prefix=""):
    """Turn a state into JSON, and put its arrays into `writer`.

    Parameters
    ----------
    state : Progress
    writer : fastbp.values.Writer
    prefix : str, default=""
        Of the names of arrays.

    Returns
    -------
    dict
    """
    values = {field.name: getattr(state, field.name) for field in fields(state)}
    for name in CURVES:
        if values[name] is not None:
            values[name] = np.array(values[name], np.float64)
    if state.holds_best:
        values["best_params"] = None  # they are params
    # The limits of patience are parameters of the estimator.
    values["patience"] = [state.patience.best, state.patience.count]
    return {name: writer.encode(value, prefix + name) for name, value in values.items()}


def restore(description, arrays):
    """Return the state that `describe` described.

    Raises
    ------
    ValueError, TypeError, LookupError
        If it is none.
    """
    values = {name: decode(value, arrays) for name, value in description.items()}
    for name in CURVES:
        if values[name] is not None:
            require(isinstance(values[name], np.ndarray), f"its {name} is no array")
            values[name] = values[name].tolist()
    if values["holds_best"]:
        values["best_params"] = values["params"]
    best, count = values.pop("patience")
    state = Progress(**values, patience=Patience(best=best, count=count))
    require(state.matmul_precision in PRECISIONS, "it was trained in no known precision")
    require(state.ended is None or state.ended in ENDS, "training ended for no known reason")
    return state


def to_bytes(state):
    """Return a sealed file with a state, as bytes.

    Examples
    --------
    >>> from fastbp.training.progress import Progress
    >>> state = Progress(np.arange(3.0), n_iter=2, loss_curve=[0.5, 0.25])
    >>> from_bytes(to_bytes(state)).loss_curve
    [0.5, 0.25]
    """
    writer = Writer(())
    metadata = {"state": FORMAT, "values": json.dumps(describe(state, writer), allow_nan=False)}
    return b"".join(safetensors.seal(metadata, writer.arrays))


def from_bytes(content):
    """Return the state in `content`, from `to_bytes`."""
    metadata, header, data = safetensors.open_sealed(content, "the state of a training does.")
    require(metadata.get("state") == FORMAT, "it holds no state of a training")
    return restore(json.loads(metadata["values"]), safetensors.read_arrays(header, data))
