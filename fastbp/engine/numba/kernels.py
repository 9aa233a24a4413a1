"""Formulas to kernels: an entry's scalar functions become loops over a block, called by address.

Here is what puts the formulas of a table's entry into the loops of `loops` and compiles each once
per process.  The compiled engine calls them for entries without a C loop, the Numba engine for
every entry.  How a formula is compiled is `formulas`' business, whether it is a good one `checks`'.
"""

import gc
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numba import cfunc, njit, types

from fastbp.engine.numba import loops
from fastbp.engine.numba.caching import INSIDE, OPTIONS, cached, copy_with
from fastbp.engine.numba.duals import Dual
from fastbp.engine.numba.formulas import (
    compile_formula,
    identity_of,
    is_ours,
    jit_formula,
    plain_function,
)

_lock = threading.RLock()
_kernels = {}
_kept_slopes = {}  # by float type: the kernel whose loop all entries share that keep slopes


@dataclass
class Kernel:
    """Compiled loops of one entry and dtype: their addresses, and what keeps them in memory."""

    label: str
    real: types.Float
    is_ours: bool
    addresses: dict = field(default_factory=dict)
    report: np.ndarray = field(default_factory=lambda: np.zeros(2, np.int64))
    at: np.ndarray = field(default_factory=lambda: np.empty(2 * loops.N_NOTED))
    owners: list = field(default_factory=list)

    def formula(self, function, n_duals, *further, returns=True):
        """Jit a function of dual numbers and more; a user's is compiled now, to tell its errors."""
        if self.is_ours:
            return jit_formula(function)
        kinds = (Dual(self.real),) * n_duals + further
        return compile_formula(function, kinds, returns=returns)

    def _put_into(self, loop, names):
        dtype = np.dtype(self.real.name)
        places = (0 if self.is_ours else a.ctypes.data for a in (self.report, self.at))
        # An int would be a type of its own for each number, and what takes it compiled for each.
        report, at = map(np.int64, places)
        names = {
            "REAL": dtype.type, "LANES": 64 // dtype.itemsize, "REPORT": report, "AT": at, **names
        }  # fmt: skip
        return copy_with(loop, f"{loop.__name__}_{self.label}_{self.real}", **names)

    def loop(self, loop, **names):
        """Make a jitted loop around formulas."""
        return njit(forceinline=True, **INSIDE, **OPTIONS)(self._put_into(loop, names))

    def add(self, loop, result, *parameters, **names):
        """Compile a loop to a C function and note its address under the loop's name."""
        decorate = partial(cfunc, result(*parameters))
        options = {name: OPTIONS[name] for name in ("error_model", "fastmath")}
        function = self._put_into(loop, names)
        compiled = (
            cached(decorate, function, **options) if self.is_ours else decorate(**options)(function)
        )
        self.owners.append(compiled)
        self.addresses[loop.__name__] = compiled.address


@contextmanager
def _without_collections():
    """Keep Python from looking for garbage meanwhile.

    Numba makes a million objects for a kernel, and keeps many: each search of all of them took
    0.2 s (November 2026).
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _find(compile_entry, entry, dtype, *functions):
    """Compile an entry once per process and dtype, whatever copies of it come by."""
    key = (compile_entry, np.dtype(dtype), *map(identity_of, functions), *_settings_of(entry))
    with _lock:
        if key not in _kernels:
            real = types.float32 if np.dtype(dtype) == np.float32 else types.float64
            label = "_".join(
                "derived" if f is None else plain_function(f).__name__ for f in functions
            )
            kernel = Kernel(label, real, all(map(is_ours, functions)))
            with _without_collections():
                compile_entry(kernel, entry)
            _kernels[key] = kernel
        return _kernels[key]


def _settings_of(entry):
    """Return what besides its formulas shapes an entry's loops."""
    names = ("slope_of", "target", "n_slots", "hyperparameters")
    return *(getattr(entry, name, None) for name in names), bool(getattr(entry, "hyper", ()))


def activation_kernel(entry, dtype):
    """Loops `forward` and `slope` of an entry of activations."""
    return _find(_compile_activation, entry, dtype, entry.value, entry.slope)


def _compile_activation(kernel, entry):
    value = kernel.formula(entry.value, 1)
    given = None if entry.slope is None else kernel.formula(entry.slope, 1)
    values = kernel.loop(loops.values_of, VALUE=value)
    block = types.CPointer(kernel.real)
    signature = types.void, block, block, types.int64
    if entry.slope_of == "activation":
        both = kernel.loop(loops.values_without_slopes, LOOP=values)
        kernel.add(loops.forward, *signature, LOOP=both)
        slope_at = kernel.loop(loops.slope_at_activation, DERIVATIVE=given)
        times = kernel.loop(loops.times_slopes, DERIVATIVE=slope_at)
        kernel.add(loops.slope, *signature, LOOP=times)
        return
    pair = kernel.loop(
        loops.with_derived_slope if given is None else loops.with_given_slope,
        VALUE=value,
        DERIVATIVE=given,
    )
    both = kernel.loop(loops.values_and_slopes_of, LOOP=values, PAIR=pair)
    kernel.add(loops.forward, *signature, LOOP=both)
    if kernel.real not in _kept_slopes:
        _kept_slopes[kernel.real] = Kernel("all", kernel.real, is_ours=True)
        _kept_slopes[kernel.real].add(loops.kept_slope, *signature)
    kernel.addresses["slope"] = _kept_slopes[kernel.real].addresses["kept_slope"]


def hyper_of(entry):
    """Return the numbers of an entry of losses as an array; one 0 where there are none."""
    return np.array(entry.hyper or (0.0,), np.float64)


def loss_kernel(entry, dtype):
    """Loop `loss` of an entry of losses."""
    return _find(_compile_loss, entry, dtype, entry.value, entry.gradient)


def _compile_loss(kernel, entry):
    block, doubles, size = types.CPointer(kernel.real), types.CPointer(types.float64), types.int64
    signature = (
        *(types.void, block, block, block, types.float64, doubles),
        *(size, size, size, doubles),
    )
    if entry.target != "real":
        row_kind, given = types.Array(kernel.real, 1, "C"), (doubles,) if entry.hyper else ()
        given = (size if entry.target == "class" else kernel.real, row_kind, *given)
        value = kernel.formula(entry.value, 0, *given)
        gradient = kernel.formula(entry.gradient, 0, *given, row_kind, returns=False)
        if not entry.hyper:
            value = kernel.loop(loops.row_value_without_hyper, FORMULA=value)
            gradient = kernel.loop(loops.row_gradient_without_hyper, FORMULA=gradient)
        row = kernel.loop(loops.loss_and_gradient_of_row, VALUE=value, DERIVATIVE=gradient)
        as_target = loops.class_code if entry.target == "class" else loops.number
        kernel.add(loops.loss_of_rows, *signature, LOOP=row, AS_TARGET=as_target)
        kernel.addresses["loss"] = kernel.addresses["loss_of_rows"]
        return

    def formula(function):
        if entry.hyper:
            return kernel.formula(function, 2, doubles)
        return kernel.loop(loops.without_hyper, FORMULA=kernel.formula(function, 2))

    value = formula(entry.value)
    if entry.gradient is None:
        gradient = kernel.loop(loops.derived_gradient, VALUE=value)
    else:
        gradient = kernel.loop(loops.given_gradient, DERIVATIVE=formula(entry.gradient))
    column = kernel.loop(loops.loss_column, VALUE=value, DERIVATIVE=gradient)
    column = kernel.loop(loops.column_or_failure, LOOP=column)
    kernel.add(loops.loss, *signature, COLUMN=column)


def optimizer_kernel(entry, dtype):
    """Loops `prepare` and `update` of an entry of optimisers."""
    return _find(_compile_optimizer, entry, dtype, entry.update)


def _compile_optimizer(kernel, entry):
    block, double = types.CPointer(kernel.real), types.CPointer(types.float64)
    kernel.add(loops.prepare, types.void, double, types.float64, types.float64, double)
    kernel.add(
        loops.update,
        types.float64, *[block] * 4, types.int64, types.float64, double,
        UPDATE=njit(**INSIDE, **OPTIONS)(entry.update), N_SLOTS=entry.n_slots,
        N_GIVEN=len(entry.hyperparameters),
    )  # fmt: skip
