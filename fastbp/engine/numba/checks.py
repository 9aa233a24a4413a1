"""Checks of users' functions: on a grid before training, and by their reports while it runs.

A compiled formula is evaluated on a grid: value and derivative must be finite, and the derivative
must agree with central differences of the Python function.  While training runs, kernels note in a
cell of theirs when a formula raised or made NaN or infinity of finite numbers (`kernels`); here
this becomes a sentence that names the function.
"""

import ctypes
from numbers import Real

import numpy as np

from fastbp.engine.numba import kernels, loops
from fastbp.engine.numba.formulas import describe, is_ours, plain_function

GRID = np.concatenate([np.linspace(-7.9, 8.1, 33), [0.0]])
NEAR_Y = np.array([-2.3, -0.7, 0.1, 0.9, 3.1])
MOST_CALLS = 2**20  # of a user's function, to find what it raised in a prediction
STEP = 1e-5  # of central differences in double precision
TOLERANCE = {"float32": 2e-3, "float64": 1e-4}  # of derivatives, relative to 1 + |derivative|

_POINTER, _SIZE = ctypes.c_void_p, ctypes.c_int64
_BLOCK_FUNCTION = ctypes.CFUNCTYPE(None, _POINTER, _POINTER, _SIZE)
_LOSS_FUNCTION = ctypes.CFUNCTYPE(
    None, _POINTER, _POINTER, _POINTER, ctypes.c_double, _POINTER, _SIZE, _SIZE, _SIZE, _POINTER
)
_checked = set()  # addresses of activation kernels that passed


def activate(entry, z):
    """Put f(z) in place of z as predictions compute it."""
    addresses = kernels.activation_kernel(entry, z.dtype).addresses
    _BLOCK_FUNCTION(addresses["forward"])(z.ctypes.data, None, z.size)


def evaluate_activation(entry, z):
    """Return f(z) and f'(z) as training computes them."""
    addresses = kernels.activation_kernel(entry, z.dtype).addresses
    a, kept, slopes = z.copy(), np.zeros_like(z), np.ones_like(z)
    _BLOCK_FUNCTION(addresses["forward"])(a.ctypes.data, kept.ctypes.data, z.size)
    at = a if entry.slope_of == "activation" else kept
    _BLOCK_FUNCTION(addresses["slope"])(slopes.ctypes.data, at.ctypes.data, z.size)
    return a, slopes


def evaluate_loss(entry, y, raw):
    """Return loss(y, raw) and its gradient as the compiled loop computes them."""
    loop = _LOSS_FUNCTION(kernels.loss_kernel(entry, raw.dtype).addresses["loss"])
    gradient, weights, losses = raw.copy(), np.ones_like(raw), np.empty(raw.size)
    arrays, hyper = (array.ctypes.data for array in (y, gradient, weights)), kernels.hyper_of(entry)
    loop(*arrays, 1.0, losses.ctypes.data, raw.size, raw.size, 1, hyper.ctypes.data)
    return losses, gradient


def evaluate_or_raise(kind, entry, *arrays):
    """Evaluate an activation at z, or a loss at targets and raw scores, of any numbers.

    As `evaluate_activation` and `evaluate_loss`; but what a function raises in Python, it raises.
    Reports of earlier fits are forgotten.
    """
    is_activation = kind == "activation"
    find_kernel = kernels.activation_kernel if is_activation else kernels.loss_kernel
    kernel = find_kernel(entry, arrays[-1].dtype)
    kernel.report[0] = 0
    results = (evaluate_activation if is_activation else evaluate_loss)(entry, *arrays)
    raise_again(f"{kind} {describe(entry.value)}", entry, kernel)
    return results


def check_activation(entry, dtype):
    """Raise ValueError if a user's activation cannot be trained with."""
    address = kernels.activation_kernel(entry, dtype).addresses["forward"]
    if address in _checked:
        return
    z = GRID.astype(dtype)
    what = f"activation {describe(entry.value)}"
    values, slopes = evaluate_or_raise("activation", entry, z)
    _check_on_grid(what, entry.value, entry.slope, [(at,) for at in z], values, slopes)
    _checked.add(address)


def check_loss(entry, targets, dtype):
    """Raise ValueError if a user's loss cannot be trained with on such targets."""
    y = np.unique(np.quantile(targets, np.linspace(0, 1, 9), method="nearest")).astype(dtype)
    y, raw = (grid.ravel().astype(dtype) for grid in np.meshgrid(y, GRID, indexing="ij"))
    if entry.link == "identity":
        near = np.add.outer(np.unique(y), NEAR_Y).astype(dtype)
        y = np.concatenate([y, np.repeat(np.unique(y), len(NEAR_Y))])
        raw = np.concatenate([raw, near.ravel()])
    what, points = f"loss {describe(entry.value)}", list(zip(y, raw, strict=True))
    given = (entry.hyper,) if entry.hyper else ()
    losses, gradients = evaluate_or_raise("loss", entry, y, raw)
    _check_on_grid(what, entry.value, entry.gradient, points, losses, gradients, given)


def _check_on_grid(what, function, derivative, points, values, slopes, given=()):
    """Compare values and derivatives at points; the last coordinate is the one to differentiate.

    `given` are further arguments of the function.
    """

    def compute(*point):
        return plain_function(function)(*point, *given)

    tolerance = TOLERANCE[slopes.dtype.name]
    if not (np.isfinite(values).all() and np.isfinite(slopes).all()):
        for point in points:
            let_raise(what, compute, tuple(map(float, point)))
    for point, value, slope in zip(points, values, slopes, strict=True):
        where = ", ".join(f"{float(x):g}" for x in point)
        if not np.isfinite(value):
            raise ValueError(f"{what} is {value} at ({where}).")
        if not np.isfinite(slope):
            raise ValueError(f"{what} has the derivative {slope} at ({where}).")
        if point[-1] == 0:  # where functions have their kinks
            continue
        low, middle, high = differences(compute, point)
        near = tolerance * (1 + abs(middle))
        at_kink = min(low, high) - near <= slope <= max(low, high) + near
        if not (abs(slope - middle) <= near or at_kink or np.isnan(middle)):
            whose = "derived" if derivative is None else f"given by {describe(derivative)}"
            raise ValueError(
                f"{what}: its derivative {whose} is {slope:g} at ({where}), but central "
                f"differences of its values give {middle:g}."
            )


def let_raise(what, function, arguments, when=""):
    """Call a function of the user's where its compiled form failed.

    What it raises in Python reaches the caller as it is, with a note of fastbp's.
    """
    try:
        function(*arguments)
    except Exception as error:
        where = ", ".join(f"{x:g}" if isinstance(x, Real) else str(x) for x in arguments)
        error.add_note(f"fastbp: {what} raised this at ({where}){when}.")
        raise


def raise_again(what, entry, kernel, when=""):
    """Let an entry's functions raise what its kernel reports that they raised."""
    if kernel.report[0] != loops.RAISED:
        return
    given, n = (entry.hyper,) if getattr(entry, "hyper", ()) else (), int(kernel.report[1])
    last, targets = kernel.at[:n], kernel.at[loops.N_NOTED :][:n]
    is_activation = hasattr(entry, "slope_of")
    functions = entry.value, entry.slope if is_activation else entry.gradient
    functions = [plain_function(function) for function in functions if function is not None]
    if is_activation:
        calls = ((function, (z,)) for z in last.tolist() for function in functions)
    elif entry.target == "real":
        pairs = zip(targets.tolist(), last.tolist(), strict=True)
        calls = ((function, (*pair, *given)) for pair in pairs for function in functions)
    else:
        target = int(targets[0]) if entry.target == "class" else float(targets[0])
        arguments = target, last[::-1].copy(), *given
        calls = zip(functions, (arguments, (*arguments, np.empty(n))), strict=True)
    for function, arguments in calls:
        let_raise(what, function, arguments, when)


def let_activations_raise(engine, coefs, intercepts, activations, X):
    """Call users' activations on what the prediction of these rows gave them, one by one."""
    for layer, entry in enumerate(activations):
        if is_ours(entry.value):
            continue
        z = np.empty((X.shape[0], len(intercepts[layer])), coefs[0].dtype)
        below = coefs[: layer + 1], intercepts[: layer + 1], activations[:layer]
        engine.predict_into(*below, X, z, 1)
        what, function = f"activation {describe(entry.value)}", plain_function(entry.value)
        for number in z[np.isfinite(z)][:MOST_CALLS].tolist():
            let_raise(what, function, (number,))


def differences(function, point):
    """Backward, central and forward difference quotient; NaN where Python raises."""
    *fixed, x = map(float, point)
    step = STEP * max(1.0, abs(x))
    try:
        below, here, above = (float(function(*fixed, x + d)) for d in (-step, 0.0, step))
    except Exception:  # compiled code gave a number here, so training can go on
        return np.nan, np.nan, np.nan
    return (here - below) / step, (above - below) / (2 * step), (above - here) / step


class Watch:
    """The reports of the users' functions in one fit.

    Parameters
    ----------
    activations : sequence of Activation
    loss : Loss
    targets : ndarray of shape (n_samples, n_outputs)
        Their values are those on which the loss is checked.
    dtype : dtype
    """

    def __init__(self, activations, loss, targets, dtype):
        self.kernels = []  # name, kernel and entry of each function
        for entry in dict.fromkeys(activations):
            if not is_ours(entry.value) or not is_ours(entry.slope):
                self._add("activation", entry, kernels.activation_kernel(entry, dtype))
                check_activation(entry, dtype)
        if not is_ours(loss.value) or not is_ours(loss.gradient):
            self._add("loss", loss, kernels.loss_kernel(loss, dtype))
            if loss.target == "real":
                check_loss(loss, targets, dtype)
        self.forget()

    def _add(self, kind, entry, kernel):
        self.kernels.append((f"{kind} {describe(entry.value)}", kernel, entry))

    def forget(self):
        """Clear the reports."""
        for _, kernel, _ in self.kernels:
            kernel.report[0] = 0

    def failure(self):
        """Sentence about the first function that failed since `forget`, or None."""
        for name, kernel, _ in self.kernels:
            if kernel.report[0] == loops.RAISED:
                return f"{name} raised an exception"
            if kernel.report[0] == loops.NOT_FINITE:
                return f"{name}, or its derivative, is NaN or infinite for a finite argument"
        return None

    def let_raise(self, when):
        """Let functions raise again what they raised since `forget`, called from Python.

        Returns if they do not: compiled code raised where Python computes on.
        """
        for name, kernel, entry in self.kernels:
            raise_again(name, entry, kernel, f" in {when}")
