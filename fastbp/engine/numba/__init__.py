"""The Numba engine: the same verbs as the compiled engine, for installs without a C compiler.

`session` and `prediction` hold the verbs, `data` what they tell the jitted code: `minibatch` with
its steps, `members` with those of a network that has some, `blocks` with what happens between two
of them.  `kernels` compiles `loops` around the formulas of the tables, `derivatives` differentiates
these on `duals`; formulas that users write come in through `formulas` and `checks`, and the
compiled engine calls their kernels, too.  Numba is imported here and nowhere above.
"""

import hashlib

import numpy as np
import scipy.special

from fastbp.engine import contract
from fastbp.engine.numba.checks import evaluate_activation
from fastbp.engine.numba.prediction import are_layers, predict_into, predict_members_into
from fastbp.engine.numba.session import Session
from fastbp.engine.precision import PRECISIONS

NAME = "numba"

__all__ = [
    "NAME",
    "Session",
    "activate_into",
    "all_finite",
    "are_layers",
    "fingerprint",
    "get_matmul_path",
    "instruction_set",
    "join_columns",
    "precision_of_inputs",
    "predict_into",
    "predict_members_into",
    "set_instruction_set",
    "set_matmul_path",
    "supported_instruction_sets",
    "transform_into",
]


def _softmax(scores):
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True, dtype=np.longdouble).astype(e.dtype)


def _exp(scores):
    return np.exp(scores, dtype=np.float64)  # NumPy's float32 loop is off by more than 2 ulp


def _log_logistic(scores):
    return -np.logaddexp(0, -scores)


def _cumulative_softplus(scores):
    levels = scores.copy()
    levels[:, 1:] = np.logaddexp(0, scores[:, 1:])
    return np.cumsum(levels, axis=1)


TRANSFORMS = {
    "identity": lambda scores: scores,
    "logistic": scipy.special.expit,
    "softmax": _softmax,
    "exp": _exp,
    "log_logistic": _log_logistic,
    "cumulative_softplus": _cumulative_softplus,
    "log_softmax": lambda scores: scipy.special.log_softmax(scores, axis=1),
}


def transform_into(name, scores):
    """Apply an output transform to raw scores in place."""
    contract.check_scores(scores)
    with np.errstate(all="ignore"):
        scores[:] = TRANSFORMS[name](scores)


def activate_into(activation, values, slopes):
    """Run the loops behind an activation's entry, for tests: value and slope of each element."""
    contract.check_floats(values)
    values[:], slopes[:] = evaluate_activation(activation, values)


def all_finite(X):
    """Whether a C-contiguous float32 or float64 array has neither NaN nor infinity."""
    contract.check_floats(X)
    with np.errstate(all="ignore"):
        return bool(np.isfinite(X.sum(dtype=np.float64)) or np.isfinite(X).all())


def join_columns(columns, out):
    """Write columns side by side into a matrix; return whether all of it is finite."""
    contract.check_columns(columns, out)
    np.stack(columns, axis=1, out=out)
    return all_finite(out)


def fingerprint(array, every=1):
    """Return a number of 64 bits that stands for the bytes of an array."""
    contract.check_pieces(array, every)
    found, flat = hashlib.blake2b(digest_size=8), array.reshape(-1).view(np.uint8)
    for start in range(0, flat.size, every * 4096):
        found.update(flat[start : start + 4096])
    return int.from_bytes(found.digest())


def instruction_set():
    """Name of what code is compiled for: this processor, by LLVM."""
    return "native"


def supported_instruction_sets():
    """List the names that `set_instruction_set` takes."""
    return ["native"]


def set_instruction_set(name):
    """Do nothing but check the name: LLVM compiles for this processor."""
    if name != "native":
        raise ValueError(f"the Numba engine has one instruction set, 'native', not {name!r}")


def get_matmul_path():
    """Name the way in which products are made less precise: none."""
    return "none"


def set_matmul_path(name):
    """Do nothing but check the name: BLAS multiplies in float32."""
    contract.check_matmul_path(name, ["none"])


def precision_of_inputs(layer_sizes, batch_size, matmul_precision):
    """Return "highest", as no operand is rounded here."""
    contract.check_matmul_precision(matmul_precision)
    return PRECISIONS[0]
