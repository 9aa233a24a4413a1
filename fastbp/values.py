"""Values as JSON, with the arrays among them beside it, and back: no code on either way.

What saved models (`fastbp.saving`) and states of trainings (`fastbp.training.state`) are made of.

Python's None, bool, int, str and finite floats stand for themselves, lists too; all else is an
object with one key that says what it is (`_READERS`).
"""

import math
import re
from importlib import import_module
from types import FunctionType

import numpy as np

from fastbp import safetensors
from fastbp.descriptions import TABLES, Description, is_own
from fastbp.safetensors import require
from fastbp.versions import __version__

DEEPEST = 20  # parameters within parameters
# Dtypes that safetensors lacks, and the plain ones in which their elements are kept: text as code
# points, bytes, dates as integers.
CARRIERS = {"U": "<u4", "S": "u1", "M": "<i8", "m": "<i8"}
DTYPE_TEXT = re.compile(r"<U[1-9]\d{0,8}|\|S[1-9]\d{0,8}|<[Mm]8(\[\d{0,9}[A-Za-z]{1,2}\])?")


class Writer:
    """Turns values into JSON, and collects the arrays among them.

    Parameters
    ----------
    parameters : set of str
        Names of what `set_params` takes, for advice.
    """

    def __init__(self, parameters):
        self.arrays = {}
        self.parameters = parameters

    def encode(self, value, where, depth=0):
        """Turn one value into what `decode` understands; `where` is its name in an error."""
        if depth > DEEPEST:
            raise ValueError(f"{where} is nested more than {DEEPEST} levels deep.")
        if value is None or type(value) in (bool, int, str):
            return value
        if type(value) is bytes:
            return {"bytes": value.hex()}
        if type(value) is float:
            return value if math.isfinite(value) else {"float": repr(value)}
        if type(value) in (np.ndarray, np.memmap):  # others mean more than their numbers: a mask
            return self.encode_array(np.asarray(value), where, depth)
        if isinstance(value, np.longdouble) and _root_of(where) in self.parameters:
            return self.encode(float(value), where, depth)  # which is how `fit` takes it
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
        if isinstance(value, Description) and is_own(type(value)):
            parameters = {
                name: self.encode(v, f"{where}.{name}", depth + 1)
                for name, v in value.get_params(deep=False).items()
            }
            return {"description": [_name_of(type(value)), parameters]}
        if isinstance(value, FunctionType) and is_own(value):
            return {"formula": _name_of(value)}
        return self.refuse(value, where)

    def refuse(self, value, where):
        """Say which part of the model cannot be saved, and what to do."""
        advice = "Use plain values or arrays, or joblib.dump if a pickle will do."
        if isinstance(value, np.ndarray):
            value = f"an array of the class {type(value).__name__}"
            raise ValueError(
                f"{where} is {value}, of which only the numbers can be saved. {advice}"
            )
        if callable(value):
            name = _root_of(where)
            advice = (
                "A function of your own is code, which this file never holds. Keep it in a module "
                "and use joblib.dump (or cloudpickle), or save a model without it"
            )
            if name in self.parameters:
                advice += f": model.set_params({name}=...)"
                advice += "." if name == "activation" else ", which changes no prediction."
            else:
                advice += "." if name.startswith("_") else f": del model.{name}."
        raise ValueError(f"{where} is {value!r}, which cannot be saved without code. {advice}")


def _root_of(where):
    """Name of the parameter or attribute that a value belongs to."""
    return re.split(r"[.[]", where)[0]


def _name_of(thing):
    return f"{str(thing.__module__).removeprefix('fastbp.')}.{thing.__name__}"


def _find(name):
    """Class or function of fastbp's own, by the name of its module and its own."""
    module, _, last = f"fastbp.{name}".rpartition(".")
    found = vars(import_module(module)).get(last) if module in TABLES else None
    require(is_own(found) and found.__name__ == last, f"fastbp {__version__} has no {name!r}")
    return found


def decode(node, arrays):
    """Value of a JSON node: the reverse of `Writer.encode`."""
    if isinstance(node, list):
        return [decode(item, arrays) for item in node]
    if isinstance(node, dict):
        require(len(node) == 1, f"a value is of {len(node)} kinds")
        ((kind, content),) = node.items()
        require(kind in _READERS, f"it holds an unknown kind of value, {kind!r}")
        return _READERS[kind](content, arrays)
    return node


def _read_float(text, arrays):
    require(text in ("nan", "inf", "-inf"), f"{text!r} is not a float")
    return float(text)


def _read_dict(pairs, arrays):
    return {decode(key, arrays): decode(value, arrays) for key, value in pairs}


def _read_array_as(content, arrays):
    """Array of text, bytes or dates, from the numbers that carry it."""
    name, text = content
    require(DTYPE_TEXT.fullmatch(text), f"{text!r} is not a dtype")
    array, dtype = arrays[name], np.dtype(text)
    carrier = np.dtype(CARRIERS[dtype.kind]).newbyteorder("=")
    width = dtype.itemsize // carrier.itemsize
    require(array.dtype == carrier and array.shape[-1:] == (width,), f"{name!r} is not a {text}")
    if dtype.kind == "U" and array.size:
        require(array.max() <= 0x10FFFF, f"{name!r} holds no text")
    return array.reshape(-1).view(dtype.newbyteorder("=")).reshape(array.shape[:-1])


def _read_objects(content, arrays):
    shape, items = content
    items = decode(items, arrays)
    require(
        all(type(n) is int and n >= 0 for n in shape) and math.prod(shape) == len(items),
        f"{len(items)} objects do not have the shape {shape}",
    )
    array = np.empty(len(items), object)
    for i, item in enumerate(items):
        array[i] = item
    return array.reshape(shape)


def is_mersenne_state(state):
    """Whether a dict is a state of MT19937, every number of it: NumPy does not look, and would read
    beyond the key.
    """
    try:
        key, position = state["state"]["key"], state["state"]["pos"]
        return (
            state["bit_generator"] == "MT19937"
            and (key.dtype, key.shape) == (np.uint32, (624,))
            and type(position) is int
            and 0 <= position <= 624
        )
    except (KeyError, TypeError, AttributeError):
        return False


def _read_random_state(content, arrays):
    state = decode(content, arrays)
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
    require(isinstance(kind, type) and issubclass(kind, Description), f"{name!r} is not a class")
    return kind(**{key: decode(value, arrays) for key, value in parameters.items()})


def _read_formula(name, arrays):
    formula = _find(name)
    require(isinstance(formula, FunctionType), f"{name!r} is not a formula")
    return formula


_READERS = {
    "bytes": lambda text, arrays: bytes.fromhex(text),
    "float": _read_float,
    "tuple": lambda items, arrays: tuple(decode(items, arrays)),
    "dict": _read_dict,
    "array": lambda name, arrays: arrays[name],
    "array as": _read_array_as,
    "objects": _read_objects,
    "scalar": lambda node, arrays: decode(node, arrays)[()],
    "RandomState": _read_random_state,
    "description": _read_description,
    "formula": _read_formula,
}
