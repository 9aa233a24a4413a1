"""`save` and `load`: a model in a file that holds numbers and names, and no code.

A saved model is a sealed safetensors file (`fastbp.safetensors`, which says why).  Its metadata are

``format``, ``fastbp``
    The number of this format, and the version that saved.  A reader refuses what is newer.
``model``
    JSON: class, parameters and attributes; or of a pipeline its networks, each as if it were alone,
    and what is around them as bytes (`fastbp.saving.pipelines`).  Python's None, bool, int, str and
    finite floats stand for themselves, lists too; all else is an object with one key that says what
    it is (`_READERS`).

Loading makes plain types, arrays, and objects of the classes in `MODULES`, whose constructors only
keep what they are given.  The seal tells damage, not intent; but a forged file meets the same
checks of every name, type and shape, and can do no more than predict badly.
"""

import json
import math
import re
from importlib import import_module
from os import PathLike
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
from sklearn.utils.metadata_routing import MetadataRequest

from fastbp import safetensors
from fastbp.descriptions import Description
from fastbp.estimators import BackpropClassifier, BackpropRegressor
from fastbp.estimators.attributes import check_attributes
from fastbp.safetensors import require
from fastbp.training.randomness import is_mersenne_state
from fastbp.versions import __version__, refuse_newer

FORMAT = 1
DEEPEST = 20  # parameters within parameters

ESTIMATORS = {kind.__name__: kind for kind in (BackpropClassifier, BackpropRegressor)}
PARAMETERS = {name for kind in ESTIMATORS.values() for name in kind._get_param_names()}
# Where the classes and formulas live that a file may name.
MODULES = ("activations", "losses", "optimizers", "schedules")
# What scikit-learn keeps in an estimator besides: callbacks, which watch a training and are no part
# of the model, and the requests for metadata, which go into the file by themselves.
NOT_OF_THE_MODEL = {
    "_skl_callbacks",
    "_skl_callbacks_to_teardown",
    "_callback_fit_ctx",
    "_parent_callback_ctx",
    "_metadata_request",
}
# Dtypes that safetensors lacks, and the plain ones in which their elements are kept: text as code
# points, bytes, dates as integers.
CARRIERS = {"U": "<u4", "S": "u1", "M": "<i8", "m": "<i8"}
DTYPE_TEXT = re.compile(r"<U[1-9]\d{0,8}|\|S[1-9]\d{0,8}|<[Mm]8(\[\d{0,9}[A-Za-z]{1,2}\])?")


def save(estimator: Any, path: str | PathLike[str]) -> None:
    """Save a model without pickle: parameters, weights, and all that training on needs.

    Parameters
    ----------
    estimator : BackpropClassifier, BackpropRegressor or Pipeline
        Fitted or not.  Callbacks are left out.  A :class:`~sklearn.pipeline.Pipeline` with one of
        them as a step needs skops (``pip install 'fastbp[skops]'``); its other steps are
        scikit-learn's own transformers.
    path : str or path-like
        File to write, by custom with the suffix ``.safetensors``.  An existing file is replaced
        when the new one is complete.

    Raises
    ------
    TypeError
        If the estimator is of another class.
    ValueError
        If a parameter, an attribute or a step is something that a file without code cannot hold,
        such as a function of your own: the message names it.  Nothing is written then.
    ImportError
        If a pipeline is to be saved and skops is not installed.

    See Also
    --------
    load : Load what was saved.

    Examples
    --------
    >>> import os, tempfile
    >>> import fastbp
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> clf = fastbp.BackpropClassifier(max_iter=500, tol=0.01, random_state=0).fit(X, y)
    >>> path = os.path.join(tempfile.mkdtemp(), "iris.safetensors")
    >>> fastbp.save(clf, path)
    >>> bool((fastbp.load(path).predict_proba(X) == clf.predict_proba(X)).all())
    True
    """
    writer = _Writer()
    if (type(estimator).__module__, type(estimator).__name__) == ("sklearn.pipeline", "Pipeline"):
        model = {"pipeline": _describe_pipeline(estimator, writer)}
    else:
        model = _describe(estimator, writer)
    metadata = {
        "format": str(FORMAT),
        "fastbp": __version__,
        "model": json.dumps(model, allow_nan=False, separators=(",", ":")),
    }
    safetensors.write(path, metadata, writer.arrays)


def _describe(estimator, writer):
    """Turn an estimator into JSON, with its arrays in `writer`."""
    kind = type(estimator)
    if kind not in ESTIMATORS.values():
        raise TypeError(
            f"fastbp.save expects a {' or a '.join(ESTIMATORS)}, or a Pipeline with one, got "
            f"{kind.__name__}. What is around one (a search, a class of your own) is code of other "
            "packages: save the fitted network in it, or use joblib.dump for the whole."
        )
    state, parameters = vars(estimator), estimator.get_params(deep=False)
    if "coefs_" in state:
        check_attributes(state)
    attributes = {
        name: value
        for name, value in state.items()
        if name not in parameters and name not in NOT_OF_THE_MODEL
    }
    for name in attributes:
        if not _may_be_attribute(name, kind):
            raise ValueError(
                f"The attribute {name!r} cannot be saved: it is a name of {kind.__name__}'s own, "
                "or none that a saved model can have. Give it another name, such as 'note'."
            )
    return {
        "class": kind.__name__,
        "parameters": {name: writer.encode(v, name) for name, v in parameters.items()},
        "attributes": {name: writer.encode(value, name) for name, value in attributes.items()},
        "requests": writer.encode(_requests_of(state), "_metadata_request"),
    }


def _describe_pipeline(pipeline, writer):
    """Turn a pipeline into JSON: its networks as ever, and what is around them as bytes."""
    from fastbp.saving.pipelines import take_apart  # on demand: it imports much of scikit-learn

    if not any(type(step) in ESTIMATORS.values() for _, step in pipeline.steps):
        raise TypeError(
            f"fastbp.save expects a {' or a '.join(ESTIMATORS)}, or a Pipeline with one among its "
            "steps, got Pipeline without one, which skops.io.dump saves."
        )
    skeleton, networks = take_apart(pipeline, ESTIMATORS.values(), NOT_OF_THE_MODEL)
    return {
        "networks": {name: _describe(network, writer) for name, network in networks.items()},
        "skops": writer.encode(np.frombuffer(skeleton, np.uint8), "skops"),
    }


def _may_be_attribute(name, kind):
    """Whether an attribute of this name can be saved: it hides nothing of the class."""
    return (
        isinstance(name, str)
        and name.isidentifier()
        and not name.startswith("__")
        and not hasattr(kind, name)
    )


def load(path: str | PathLike[str]) -> Any:
    """Load a model that `save` wrote; no code in the file is run, for there is none.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    estimator : BackpropClassifier, BackpropRegressor or Pipeline
        With the parameters, the predictions and the future (`partial_fit`, `warm_start`) of the
        saved one, bit for bit on the same engine and instruction set.

    Raises
    ------
    ValueError
        If the file is damaged or no saved model, or was saved by a newer fastbp.
    ImportError
        If it holds a pipeline and skops is not installed.
    OSError
        If the file cannot be read.

    See Also
    --------
    save : Save a model.

    Examples
    --------
    >>> import os, tempfile
    >>> import fastbp
    >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
    >>> fastbp.save(fastbp.BackpropRegressor(hidden_layer_sizes=(8, 4)), path)
    >>> fastbp.load(path)
    BackpropRegressor(hidden_layer_sizes=(8, 4))
    """
    content = Path(path).read_bytes()
    try:
        metadata, header, data = safetensors.open_sealed(content)
        _refuse_newer_format(metadata)
        arrays = safetensors.read_arrays(header, data)
        model = json.loads(metadata["model"])
        if "pipeline" not in model:
            return _restore(model, arrays)
        model = model["pipeline"]
        from fastbp.saving.pipelines import put_together

        networks = {name: _restore(one, arrays) for name, one in model["networks"].items()}
        return put_together(_decode(model["skops"], arrays).tobytes(), networks)
    except ValueError as error:
        raise ValueError(f"{str(path)!r} cannot be loaded: {error}") from error
    except (TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ValueError(
            f"{str(path)!r} cannot be loaded: it is no model of format {FORMAT} "
            f"({type(error).__name__}: {error})."
        ) from error


def _refuse_newer_format(metadata):
    number, version = metadata["format"], metadata["fastbp"]
    require(re.fullmatch(r"[1-9]\d{0,8}", number), f"its format number is {number!r}")
    if int(number) > FORMAT:
        raise ValueError(
            f"it was saved by fastbp {version} in format {number}; this is fastbp {__version__}, "
            f"which reads formats up to {FORMAT}. Install fastbp {version} or later."
        )
    refuse_newer(version, "it")


# ----------------------------------------------------- values as JSON, arrays beside it


class _Writer:
    """Turns values into JSON, and collects the arrays among them."""

    def __init__(self):
        self.arrays = {}

    def encode(self, value, where, depth=0):
        """Turn one value into what `_decode` understands; `where` is its name in an error."""
        if depth > DEEPEST:
            raise ValueError(f"{where} is nested more than {DEEPEST} levels deep.")
        if value is None or type(value) in (bool, int, str):
            return value
        if type(value) is bytes:
            return {"bytes": value.hex()}
        if type(value) is float:
            return value if math.isfinite(value) else {"float": repr(value)}
        if isinstance(value, np.ndarray):
            return self.encode_array(np.asarray(value), where, depth)
        if isinstance(value, np.generic):
            return {"scalar": self.encode_array(np.asarray(value), where, depth)}
        if type(value) in (list, tuple):
            items = [self.encode(v, f"{where}[{i}]", depth + 1) for i, v in enumerate(value)]
            return items if type(value) is list else {"tuple": items}
        if type(value) is dict:
            keys = [self.encode(key, f"a key of {where}", depth + 1) for key in value]
            items = [self.encode(v, f"{where}[{k!r}]", depth + 1) for k, v in value.items()]
            return {"dict": list(map(list, zip(keys, items, strict=True)))}
        return self.encode_object(value, where, depth)

    def encode_array(self, array, where, depth):
        """Put an array beside the JSON, and name it there; one of objects goes into the JSON."""
        if array.dtype.kind == "O":
            items = self.encode(array.ravel().tolist(), where, depth)
            return {"objects": [list(array.shape), items]}
        array, text = np.ascontiguousarray(array).reshape(array.shape), None
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        if array.dtype.kind in CARRIERS:
            text, carrier = array.dtype.str, CARRIERS[array.dtype.kind]
            width = array.itemsize // np.dtype(carrier).itemsize
            array = array.reshape(-1).view(carrier).reshape(*array.shape, width)
        if array.dtype not in safetensors.NAMES:
            self.refuse(array.dtype, where)
        name = where
        while name in self.arrays:
            name += "'"
        self.arrays[name] = array
        return {"array": name} if text is None else {"array as": [name, text]}

    def encode_object(self, value, where, depth):
        """Name one of fastbp's own classes or formulas; note the state of a random stream."""
        if type(value) is np.random.RandomState:
            state = value.get_state(legacy=False)
            if state["bit_generator"] == "MT19937":
                return {"RandomState": self.encode(state, where, depth)}
        if isinstance(value, Description) and _is_ours(type(value)):
            parameters = {
                name: self.encode(v, f"{where}.{name}", depth + 1)
                for name, v in value.get_params(deep=False).items()
            }
            return {"description": [_name_of(type(value)), parameters]}
        if isinstance(value, FunctionType) and _is_ours(value):
            return {"formula": _name_of(value)}
        return self.refuse(value, where)

    def refuse(self, value, where):
        """Say which part of the model cannot be saved, and what to do."""
        advice = "Use plain values or arrays, or joblib.dump if a pickle will do."
        if callable(value):
            name = re.split(r"[.[]", where)[0]
            advice = (
                "A function of your own is code, which this file never holds. Keep it in a module "
                "and use joblib.dump (or cloudpickle), or save a model without it"
            )
            if name in PARAMETERS:
                advice += f": model.set_params({name}=...)"
                advice += "." if name == "activation" else ", which changes no prediction."
            else:
                advice += "." if name.startswith("_") else f": del model.{name}."
        raise ValueError(f"{where} is {value!r}, which cannot be saved without code. {advice}")


def _name_of(thing):
    return f"{str(thing.__module__).removeprefix('fastbp.')}.{thing.__name__}"


def _is_ours(thing):
    """Whether a class or function is found under its name in one of our modules."""
    try:
        return _find(_name_of(thing)) is thing
    except ValueError:
        return False


def _find(name):
    """Class or function of one of our modules, by its name there."""
    module, _, last = name.partition(".")
    found = None
    if module in MODULES and last.isidentifier() and not last.startswith("_"):
        module = import_module(f"fastbp.{module}")
        found = vars(module).get(last)
    require(
        getattr(found, "__module__", None) == getattr(module, "__name__", module),
        f"fastbp {__version__} has no {name!r}",
    )
    return found


def _decode(node, arrays):
    """Value of a JSON node: the reverse of `_Writer.encode`."""
    if isinstance(node, list):
        return [_decode(item, arrays) for item in node]
    if isinstance(node, dict):
        require(len(node) == 1, f"a value is of {len(node)} kinds")
        ((kind, content),) = node.items()
        require(kind in _READERS, f"it holds an unknown kind of value, {kind!r}")
        return _READERS[kind](content, arrays)
    return node


def _read_float(text, arrays):
    require(text in ("nan", "inf", "-inf"), f"{text!r} is no float")
    return float(text)


def _read_dict(pairs, arrays):
    return {_decode(key, arrays): _decode(value, arrays) for key, value in pairs}


def _read_array_as(content, arrays):
    """Array of text, bytes or dates, from the numbers that carry it."""
    name, text = content
    require(DTYPE_TEXT.fullmatch(text), f"{text!r} is no dtype")
    array, dtype = arrays[name], np.dtype(text)
    carrier = np.dtype(CARRIERS[dtype.kind]).newbyteorder("=")
    width = dtype.itemsize // carrier.itemsize
    require(array.dtype == carrier and array.shape[-1:] == (width,), f"{name!r} is no {text}")
    if dtype.kind == "U" and array.size:
        require(array.max() <= 0x10FFFF, f"{name!r} holds no text")
    return array.reshape(-1).view(dtype.newbyteorder("=")).reshape(array.shape[:-1])


def _read_objects(content, arrays):
    shape, items = content
    items = _decode(items, arrays)
    require(
        all(type(n) is int and n >= 0 for n in shape) and math.prod(shape) == len(items),
        f"{len(items)} objects do not have the shape {shape}",
    )
    array = np.empty(len(items), object)
    for i, item in enumerate(items):
        array[i] = item
    return array.reshape(shape)


def _read_random_state(content, arrays):
    state = _decode(content, arrays)
    require(
        is_mersenne_state(state) and state["has_gauss"] in (0, 1) and type(state["gauss"]) is float,
        "the state of a RandomState is none",
    )
    random_state = np.random.RandomState(0)
    random_state.set_state(state)
    return random_state


def _read_description(content, arrays):
    name, parameters = content
    kind = _find(name)
    require(isinstance(kind, type) and issubclass(kind, Description), f"{name!r} is no class")
    return kind(**{key: _decode(value, arrays) for key, value in parameters.items()})


def _read_formula(name, arrays):
    formula = _find(name)
    require(isinstance(formula, FunctionType), f"{name!r} is no formula")
    return formula


_READERS = {
    "bytes": lambda text, arrays: bytes.fromhex(text),
    "float": _read_float,
    "tuple": lambda items, arrays: tuple(_decode(items, arrays)),
    "dict": _read_dict,
    "array": lambda name, arrays: arrays[name],
    "array as": _read_array_as,
    "objects": _read_objects,
    "scalar": lambda node, arrays: _decode(node, arrays)[()],
    "RandomState": _read_random_state,
    "description": _read_description,
    "formula": _read_formula,
}


# ------------------------------------------------------------------------- the estimator


def _restore(model, arrays):
    """Estimator of a decoded file, after a check that its parts fit together."""
    kind = ESTIMATORS[model["class"]]
    estimator = kind(**{name: _decode(v, arrays) for name, v in model["parameters"].items()})
    attributes = {name: _decode(v, arrays) for name, v in model["attributes"].items()}
    for name in attributes:
        require(
            _may_be_attribute(name, kind) and name not in vars(estimator),
            f"{name!r} is no fitted attribute",
        )
    if "coefs_" in attributes:
        check_attributes(attributes)
    vars(estimator).update(attributes)
    requests = _decode(model["requests"], arrays)
    if requests is not None:
        estimator._metadata_request = MetadataRequest(owner=estimator)
        for method, wanted in requests.items():
            for name, alias in wanted.items():
                getattr(estimator._metadata_request, method).add_request(param=name, alias=alias)
    return estimator


def _requests_of(state):
    """Return what `set_fit_request` and its like have set, by method, or None."""
    request = state.get("_metadata_request")
    if request is None:
        return None
    return {method: one.requests for method, one in vars(request).items() if method != "owner"}
