"""Fuzz the engine: shapes, strides, batch sizes, threads, extreme values, bad arguments.

Every array that the engine gets ends (or begins) at a page that may not be touched, so that a read
or write beside it crashes.  A case is done twice, with other threads and other addresses: the bits
must be the same.  What the session calls finite must be finite, inputs stay as they were, and a
bad argument is an error.  Activations, losses and solvers come from the tables.
"""

import ctypes
import mmap
import os
import warnings

import numpy as np
from problems import draw_targets
from scipy import sparse

from checks.workers import run
from fastbp.activations import ACTIVATIONS
from fastbp.engine import get_engine
from fastbp.engine.network import count_params, member_views, views
from fastbp.losses import LOSSES
from fastbp.optimizers import OPTIMIZERS

WIDTHS = [1, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 49, 64, 65, 100, 130]
SOLVERS = [row for row in OPTIMIZERS.values() if row.stochastic]
PAGE = mmap.PAGESIZE
EXPECTED = (ValueError, TypeError, RuntimeError, IndexError, BufferError, AttributeError)


def guarded(array, at_end=True):
    """Copy of an array whose memory ends (or begins) at a page that no one may touch."""
    array = np.ascontiguousarray(array)
    n_pages = -(-max(array.nbytes, 1) // PAGE)
    if not hasattr(os, "fork"):  # no mprotect here
        return array.copy()
    block = mmap.mmap(-1, (n_pages + 2) * PAGE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(block))
    libc = ctypes.CDLL(None, use_errno=True)
    for page in (0, n_pages + 1):
        if libc.mprotect(ctypes.c_void_p(address + page * PAGE), PAGE, 0):
            raise OSError(ctypes.get_errno(), "mprotect")
    start = (n_pages + 1) * PAGE - array.nbytes if at_end else PAGE
    out = np.frombuffer(block, array.dtype, array.size, start).reshape(array.shape)
    out[...] = array
    return out


def draw_values(rng, shape, dtype):
    """Numbers of a kind: usual, tiny, huge, constant, mostly zero."""
    kind = rng.choice(["usual", "usual", "usual", "tiny", "huge", "constant", "zeros", "mixed"])
    values = rng.standard_normal(shape)
    top = float(np.finfo(dtype).max)
    if kind == "tiny":
        values *= np.finfo(dtype).tiny
    elif kind == "huge":
        values *= top ** rng.choice([0.2, 0.5, 0.9])
    elif kind == "constant":
        values[...] = rng.choice([0.0, 1.0, -1e4, 1e4])
    elif kind == "zeros":
        values *= rng.random(shape) < 0.1
    elif kind == "mixed":
        values *= 10.0 ** rng.uniform(-30, 8, shape)
    return np.clip(values, -top, top).astype(dtype)


class Case:
    """The choices of one case."""

    def __init__(self, rng, engine):
        self.rng, self.engine = rng, engine
        n_hidden = int(rng.choice([0, 1, 1, 2, 3, 6]))
        widths = WIDTHS if engine.NAME == "cython" else WIDTHS[:12]
        self.sizes = tuple(int(n) for n in rng.choice(widths, n_hidden + 2))
        if rng.random() < 0.03:  # past a block of k, or of rows of A in L2
            self.sizes = (int(rng.choice([300, 520, 1100])), *self.sizes[1:])
        self.activations = [
            ACTIVATIONS[str(name)] for name in rng.choice(list(ACTIVATIONS), n_hidden)
        ]
        self.loss_name = str(rng.choice(list(LOSSES)))
        self.loss = LOSSES[self.loss_name]
        if self.loss.target == "shared":  # one output for each of its numbers
            self.sizes = (*self.sizes[:-1], len(self.loss.hyper))
        self.solver = SOLVERS[rng.integers(len(SOLVERS))]
        self.dtype = np.dtype(rng.choice(["float32", "float64"]))
        self.n_samples = int(rng.integers(1, 70))
        if rng.random() < 0.03:
            self.n_samples = int(rng.choice([1024, 1025, 2049, 2100]))
        n = self.n_samples
        self.batch_size = int(rng.choice([1, 2, 5, 16, 17, 64, n, n + 3, 10**12]))
        self.capacity = int(rng.choice([1, n, max(1, self.batch_size)]))
        if self.n_samples > 1000:
            self.batch_size = max(self.batch_size, 200)
        self.sparse = rng.random() < 0.25
        self.index_dtype = rng.choice([np.int32, np.int64])
        self.n_epochs = int(rng.integers(1, 4))
        self.alpha = float(rng.choice([0.0, 1e-4, 1.0, 1e6]))
        self.learning_rate = float(rng.choice([1e-3, 1e-3, 1.0, 1e30, 1e-320]))
        self.shuffled = rng.random() < 0.6
        self.weighted = rng.random() < 0.3
        self.spoil = None if rng.random() < 0.85 else str(rng.choice(sorted(SPOILERS)))
        (apart,) = rng.spawn(1)  # the other choices of a number stay what they were
        self.n_members = None
        if n_hidden and apart.random() < 0.25:
            self.n_members = int(apart.choice([1, 2, 5]))
        self.precision, self.path = "highest", "none"
        if engine.NAME == "cython" and apart.random() < 0.4:
            self.precision = str(apart.choice(["high", "medium"]))
            self.path = str(apart.choice(engine.supported_matmul_paths()))
        if self.path not in ("none", "emulation") and apart.random() < 0.5:
            self.enlarge(apart)

    def enlarge(self, rng):
        """Make steps large enough for the products of the processor's own path."""
        if not self.activations:
            return
        widths = rng.choice([64, 65, 96, 97, 113, 130, 200], len(self.activations))
        self.sizes = (int(rng.integers(33, 150)), *map(int, widths), self.sizes[-1])
        self.dtype, self.sparse = np.dtype("float32"), False
        self.n_samples = self.batch_size = self.capacity = int(rng.integers(64, 140))

    def hyperparameters(self):
        """One number for each name; usual ones, and the ends of what is allowed."""
        pools = {"epsilon": [1e-8, 1e-300, 1.0], "momentum": [0.9, 0.0, 1.0]}
        found = {}
        for name in self.solver.hyperparameters:
            pool = pools.get(name, [0.9, 0.0, 0.999, 0.5, 1.0 - 1e-16])
            found[name] = bool(self.rng.integers(2)) if "nesterov" in name else float(
                self.rng.choice(pool)
            )  # fmt: skip
        return found

    def scores_shape(self):
        """Of the scores of all samples."""
        shape = (self.n_samples, self.sizes[-1])
        return shape if self.n_members is None else (self.n_members, *shape)

    def draw_all(self):
        """Arrays and hyper-parameters."""
        return self.draw(), self.hyperparameters()

    def draw(self):
        """Arrays of the case, still unguarded."""
        rng, dtype, n = self.rng, self.dtype, self.n_samples
        n_params = count_params(self.sizes, self.n_members)
        X = draw_values(rng, (n, self.sizes[0]), dtype)
        if self.sparse:
            X = sparse.csr_array(X * (rng.random(X.shape) < rng.choice([0.0, 0.1, 1.0])))
            X.indices, X.indptr = X.indices.astype(self.index_dtype), X.indptr.astype(
                self.index_dtype
            )  # fmt: skip
        targets = draw_targets(self.loss_name, n, self.sizes[-1], rng).astype(dtype)
        if self.loss.task == "regression" and rng.random() < 0.2:
            targets = np.abs(draw_values(rng, targets.shape, dtype))
        weight = None
        if self.weighted:
            weight = np.abs(draw_values(rng, (n,), dtype)) * (rng.random(n) < 0.8)
            weight = np.minimum(weight, np.finfo(dtype).max / (2 * n)).astype(dtype)
            weight[rng.integers(n)] = 1.0  # a sum of 0 is refused before, with a message
        params = (rng.uniform(-1, 1, n_params) * rng.choice([0.1, 1.0, 1e4])).astype(dtype)
        if rng.random() < 0.02:
            params[rng.integers(n_params)] = rng.choice([np.nan, np.inf])
        order = None
        if self.shuffled or rng.random() < 0.3:
            order = rng.integers(0, n, int(rng.integers(1, n + 1)))  # repeated rows, part of them
        return {
            "X": X, "targets": targets, "sample_weight": weight, "params": params, "order": order
        }  # fmt: skip


def guard_all(arrays, at_end):
    """Arrays of a case at guarded addresses."""

    def guard(array):
        if array is None:
            return None
        if sparse.issparse(array):
            copy = sparse.csr_array(array.shape, dtype=array.dtype)
            copy.data, copy.indices, copy.indptr = (
                guarded(part, at_end) for part in (array.data, array.indices, array.indptr)
            )
            return copy
        return guarded(array, at_end)

    return {name: guard(array) for name, array in arrays.items()}


# What may be wrong with a call of `train`: each changes the arguments.  A bad argument is refused.
SPOILERS = {
    "batch_size 0": lambda c, a, k: k.update(batch_size=0),
    "batch_size negative": lambda c, a, k: k.update(batch_size=-5),
    "losses too short": lambda c, a, k: k.update(losses=np.empty(k["n_epochs"] - 1)),
    "losses of float32": lambda c, a, k: k.update(losses=np.empty(9, np.float32)),
    "too few rates": lambda c, a, k: k.update(learning_rate=np.ones(2), n_epochs=4,
                                              losses=np.empty(4), batch_size=1),
    "fewer targets": lambda c, a, k: a.update(targets=a["targets"][:-1]),
    "wider targets": lambda c, a, k: a.update(targets=np.hstack([a["targets"]] * 2)),
    "targets of another dtype": lambda c, a, k: a.update(targets=a["targets"].astype(np.int32)),
    "a weight too few": lambda c, a, k: a.update(sample_weight=np.ones(c.n_samples - 1, c.dtype)),
    "weights not contiguous": lambda c, a, k: a.update(
        sample_weight=np.ones(3 * c.n_samples + 3, c.dtype)[::3]),
    "order beyond X": lambda c, a, k: a.update(order=np.array([0, c.n_samples])),
    "order negative": lambda c, a, k: a.update(order=np.array([0, -1])),
    "order of int32": lambda c, a, k: a.update(order=np.zeros(3, np.int32)),
    "order strided": lambda c, a, k: a.update(order=np.zeros(30, np.int64)[::3]),
    "X of another dtype": lambda c, a, k: a.update(X=a["X"].astype(np.float16)
                                                   if not c.sparse else a["X"].astype(np.int8)),
    "X wider": lambda c, a, k: a.update(X=np.ones((c.n_samples, c.sizes[0] + 1), c.dtype)
                                        if not c.sparse else sparse.csr_array(
                                            np.ones((c.n_samples, c.sizes[0] + 1), c.dtype))),
    "X in columns": lambda c, a, k: a.update(X=np.asfortranarray(
        np.ones((c.n_samples + 1, c.sizes[0] + 1), c.dtype))[:, 1:]),
    "X is a list": lambda c, a, k: a.update(X=[[1.0] * c.sizes[0]] * c.n_samples),
}  # fmt: skip


def train_once(case, arrays, hyper, n_threads, at_end, instruction_set):
    """Everything that comes out of one session, as bytes; checks what one session can show."""
    engine, dtype = case.engine, case.dtype
    if instruction_set is not None:
        engine.set_instruction_set(instruction_set)
    engine.set_matmul_path(case.path)
    given = guard_all(arrays, at_end)
    before = {name: digest(array) for name, array in given.items() if name != "order"}
    session = engine.Session(
        case.sizes, case.activations, case.loss, dtype=dtype, params=given["params"],
        batch_size=case.capacity, n_threads=n_threads, sparse=case.sparse,
        n_members=case.n_members, matmul_precision=case.precision,
    )  # fmt: skip
    out = []
    try:
        session.force_threads(n_threads)
        session.set_optimizer(case.solver, hyper)
        losses = guarded(np.full(case.n_epochs, np.nan), at_end)
        shuffle = np.random.RandomState(1) if case.shuffled else None
        done = session.train(
            given["X"], given["targets"], given["sample_weight"], given["order"], shuffle=shuffle,
            batch_size=case.batch_size, alpha=case.alpha, learning_rate=case.learning_rate,
            n_epochs=case.n_epochs, losses=losses,
        )  # fmt: skip
        if not done == session.epochs_done or not 1 <= done <= case.n_epochs:
            raise AssertionError(f"{done} epochs of {case.n_epochs} done")
        params = guarded(np.full(len(given["params"]), np.nan, dtype), at_end)
        session.params_into(params)
        slots = guarded(np.full((case.solver.n_slots, len(params)), np.nan, dtype), at_end)
        session.slots_into(slots)
        finite = bool(np.isfinite(params).all() and np.isfinite(losses[done - 1]))
        if session.finite != finite:
            raise AssertionError(f"session.finite is {session.finite}, but that is {finite}")
        scores = guarded(np.full(case.scores_shape(), np.nan, dtype), at_end)
        session.predict_into(given["X"], scores)
        gradient = guarded(np.full(len(params), np.nan, dtype), at_end)
        value = session.loss_and_gradient(
            params, given["X"], given["targets"], given["sample_weight"], alpha=case.alpha,
            gradient=gradient,
        )  # fmt: skip
        out = [losses, params, slots, scores, gradient, np.array(value)]
        used = session.matmul_precision if case.n_samples >= 64 else "highest"
        flat = read_predictions(case, params, given["X"], n_threads, at_end, used)
        exact = engine.NAME == "cython" and case.n_members is None
        exact &= used == "highest" or case.path == "emulation"  # others by size: of steps, or of it
        if finite and exact and not same(flat, scores):
            raise AssertionError("predictions of a session and from flat weights differ")
    finally:
        session.close()
    after = {name: digest(array) for name, array in given.items() if name != "order"}
    if after != before:
        raise AssertionError("an input was written to")
    return [normal(array) for array in out]


def read_predictions(case, params, X, n_threads, at_end, precision):
    """Scores from fitted arrays, without a session."""
    scores = guarded(np.full(case.scores_shape(), np.nan, case.dtype), at_end)
    rest, verb = (case.activations, X, scores, n_threads), case.engine.predict_into
    asked = {"matmul_precision": precision}
    if case.n_members is None:
        layers = views(params, case.sizes)
    else:
        *layers, scales, weights, biases = member_views(params, case.sizes, case.n_members)
        rest = tuple(guarded(part, at_end) for part in (scales, weights, biases)) + rest
        verb = case.engine.predict_members_into
    coefs, intercepts = ([guarded(part, at_end) for part in parts] for parts in layers)
    verb(coefs, intercepts, *rest, **asked)
    return scores


def normal(array):
    """Copy with one NaN for all: which one comes out of inf - inf is the processor's choice."""
    array = np.array(array)
    array[np.isnan(array)] = np.nan
    return array


def same(left, right):
    return normal(left).tobytes() == normal(right).tobytes()


def digest(array):
    """Bytes of an array or a sparse matrix."""
    if array is None:
        return b""
    if sparse.issparse(array):
        return array.data.tobytes() + array.indices.tobytes() + array.indptr.tobytes()
    return array.tobytes()


def train_spoiled(case, arrays, hyper):
    """A bad argument is refused, and the session goes on."""
    engine = case.engine
    session = engine.Session(
        case.sizes, case.activations, case.loss, dtype=case.dtype, params=arrays["params"],
        batch_size=case.capacity, n_threads=2, sparse=case.sparse, n_members=case.n_members,
        matmul_precision=case.precision,
    )  # fmt: skip
    call = dict(
        batch_size=case.batch_size, alpha=case.alpha, learning_rate=case.learning_rate,
        n_epochs=case.n_epochs, losses=np.empty(case.n_epochs),
    )  # fmt: skip

    def train(arguments, call, shuffle=None):
        names = ("X", "targets", "sample_weight", "order")
        session.train(*(arguments[name] for name in names), shuffle=shuffle, **call)

    try:
        session.set_optimizer(case.solver, hyper)
        bad, bad_call = dict(arrays), dict(call)
        SPOILERS[case.spoil](case, bad, bad_call)
        try:
            train(bad, bad_call)
        except EXPECTED:
            pass
        else:
            raise AssertionError(f"not refused: {case.spoil}")
        train(arrays, call)
    finally:
        session.close()


def run_case(number, engine_name):
    """One case; returns what kind it was."""
    rng = np.random.default_rng(number)
    engine = get_engine(engine_name)
    case = Case(rng, engine)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return run_drawn(rng, case, *case.draw_all())


def run_drawn(rng, case, arrays, hyper):
    """The case itself; overflow is what some cases are about."""
    engine = case.engine
    if case.spoil:
        too_small = case.n_samples == 1 and case.spoil in ("too few rates",)
        if not too_small:
            train_spoiled(case, arrays, hyper)
            return "bad argument refused"
    names = engine.supported_instruction_sets()
    instruction_set = names[rng.integers(len(names))]
    first = train_once(case, arrays, hyper, int(rng.integers(1, 9)), True, instruction_set)
    second = train_once(case, arrays, hyper, int(rng.integers(1, 9)), False, instruction_set)
    for left, right in zip(first, second, strict=True):
        if left.tobytes() != right.tobytes():
            raise AssertionError("other threads or addresses gave other bits")
    return "finite" if np.isfinite(first[1]).all() else "diverged, and said so"


if __name__ == "__main__":
    run("checks.fuzz_engine", run_case, __doc__, 10_000)
