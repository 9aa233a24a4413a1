"""Fuzz the estimators: random settings on random data of every kind, good and bad.

A call either succeeds, and then weights, losses and predictions are finite; or it raises ValueError
or TypeError with a sentence, and then the estimator is as it was.  Anything else is a defect: a
crash, a hang, a silent NaN, another exception, a warning of NumPy's, data that were written to.
Values of the parameters come from their rules in `fastbp.estimators.parameters`, so a new parameter
or a new name in a table is drawn without a word here.
"""

import ast
import re
import warnings

import numpy as np
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning

from checks.workers import limited_memory, run
from fastbp import BackpropClassifier, BackpropRegressor

try:
    import pandas as pd
except ImportError:  # frames are left out then
    pd = None

EXPECTED = (ValueError, TypeError)  # InvalidParameterError is both
NUMBERS = re.compile(r"an? (int|float) in the range ([\[(])([^,]+), ([^\])]+)([\])])")

# Parameters that decide how long a case takes, or that no rule describes.
OVERRIDES = {
    "max_iter": lambda rng: int(rng.choice([1, 1, 2, 3, 8, 30])),
    "max_fun": lambda rng: int(rng.choice([1, 2, 20, 100])),
    "hidden_layer_sizes": lambda rng: draw_layers(rng),
    "n_threads": lambda rng: [None, 1, 2, 7, -1, 10**9][rng.integers(6)],
    "random_state": lambda rng: [0, 1, 2**32 - 1, np.random.RandomState(3)][rng.integers(4)],
    "verbose": lambda rng: bool(rng.random() < 0.1),
    "max_time": lambda rng: [None, 1e-9, 0.01, 1e9][rng.integers(4)],
    "scoring": lambda rng: [None, "loss", "accuracy", "r2", "neg_log_loss", "nonsense"][
        rng.integers(6)],
    "class_weight": lambda rng: [None, "balanced", {0: 1.0, 1: 2.0}, {0: 0.0}, {"x": 3}][
        rng.integers(5)],
    "dropout": lambda rng: [0.0, 0.5, [0.2], [0.1, 0.2], 0.999999][rng.integers(5)],
    "epsilon": lambda rng: [1e-8, 1e-300, 1e-30, 1.0, 1e30][rng.integers(5)],
}  # fmt: skip
RARE = {"validation_fraction", "early_stopping", "dtype", "engine", "tol"}
BAD = [
    None, -1, 0, 1.5, -0.5, float("nan"), float("inf"), -float("inf"), "bad", "", (), [], [0], {},
    object(), np.array([1.0, 2.0]), True, 1j, 10**400, np.float64("nan"), b"adam", [[1, 2], [3]],
    ("relu", 3), np.timedelta64(1, "s"),
]  # fmt: skip


def draw_layers(rng):
    """Hidden layers: none, small ones, and sizes that memory cannot hold."""
    if rng.random() < 0.02:
        return [(10**9,), (2**62,), (10**5, 10**5), (2**63 - 1, 2)][rng.integers(4)]
    sizes = [int(n) for n in rng.choice([1, 2, 3, 7, 8, 9, 16, 17, 33], rng.integers(0, 4))]
    return sizes[0] if len(sizes) == 1 and rng.random() < 0.3 else tuple(sizes)


def draw_number(rng, kind, low, high, open_low):
    """A number of a range: its ends, the middle, any size."""
    low, high = float(low), float(high)
    if kind == "int":
        top = int(high) if np.isfinite(high) else 10**400
        pool = [int(low), int(low) + 1, int(low) + 2, 10, 200, 2**31, 2**63, 10**400, top]
        return min(int(pool[rng.integers(len(pool))]), top)
    if np.isfinite(high):
        pool = [low, high, (low + high) / 2, low + 0.1 * (high - low), low + 0.9 * (high - low),
                np.nextafter(high, low), np.nextafter(low, high)]  # fmt: skip
    else:
        pool = [low, low + 1e-3, low + 1e-2, low + 1, 1e-300, 1e-30, 1e3, 1e30, 1e300]
    value = float(pool[rng.integers(len(pool))])
    return np.nextafter(low, np.inf) if open_low and value == low else value


def draw_by_rule(rng, text, default):
    """A value that a rule's text describes; the default where it describes none we know."""
    if found := NUMBERS.fullmatch(text):
        kind, left, low, high, _ = found.groups()
        return draw_number(rng, kind, low, high, left == "(")
    if text.startswith("a str among"):
        names = sorted(ast.literal_eval(text.removeprefix("a str among ")))
        return names[rng.integers(len(names))]
    if text in ("None", "-1", "inf"):
        return {"None": None, "-1": -1, "inf": float("inf")}[text]
    if "bool" in text:
        return bool(rng.integers(2))
    return default


def draw_settings(rng, kind, engine_name):
    """Constructor arguments: a few drawn, the others by default."""
    table, defaults = kind._parameter_rules, kind().get_params()
    settings = {"max_iter": OVERRIDES["max_iter"](rng), "engine": engine_name}
    if engine_name == "cython":
        settings["engine"] = "auto"
    names = list(rng.choice(list(table), rng.integers(0, 9), replace=False))
    for name in map(str, names):
        if name == "engine" or (name in RARE and rng.random() < 0.5):
            continue
        if rng.random() < 0.015:
            settings[name] = BAD[rng.integers(len(BAD))]
        elif name in OVERRIDES:
            settings[name] = OVERRIDES[name](rng)
        else:
            rules = [text for _, text in table[name]]
            settings[name] = draw_by_rule(rng, rules[rng.integers(len(rules))], defaults[name])
    settings.setdefault("hidden_layer_sizes", draw_layers(rng))
    return settings


# --- data -----------------------------------------------------------------------------------------


def draw_X(rng):
    """Features of a kind: shapes, sizes of values, containers."""
    n, d = int(rng.choice([1, 2, 5, 20, 20, 40, 60])), int(rng.choice([1, 2, 3, 9, 17]))
    X = rng.standard_normal((n, d))
    kind = rng.choice(["usual"] * 9 + ["constant", "zeros", "huge", "tiny", "1e30", "1e300", "bad"])
    if kind == "constant":
        X[:, 0] = 1e4
    elif kind == "zeros":
        X[...] = 0
    elif kind == "huge":
        X *= 1e18
    elif kind == "tiny":
        X *= 1e-310
    elif kind == "1e30":
        X[:, 0] = 1e30
    elif kind == "1e300":
        X *= 1e300
    elif kind == "bad":
        X[rng.integers(n), rng.integers(d)] = rng.choice([np.nan, np.inf, -np.inf])
    X = X.astype([np.float64, np.float64, np.float32, np.float16, np.int64][rng.integers(5)])
    form = rng.choice(
        ["array"] * 9
        + [
            "columns",
            "strided",
            "list",
            "frame",
            "read only",
            "CSR",
            "CSR",
            "CSC",
            "COO",
            "malformed",
            "object",
            "empty",
        ]
    )
    if form == "columns":
        return np.asfortranarray(X)
    if form == "strided":
        return np.repeat(X, 2, axis=1)[:, ::2]
    if form == "list":
        return X.tolist()
    if form == "frame" and pd is not None:
        return pd.DataFrame(X, columns=[f"x{i}" for i in range(d)])
    if form == "read only":
        X.setflags(write=False)
    elif form in ("CSR", "CSC", "COO") and X.dtype != np.float16:
        return {"CSR": sparse.csr_matrix, "CSC": sparse.csc_array, "COO": sparse.coo_array}[form](X)
    elif form == "malformed" and X.dtype != np.float16:
        return spoil_matrix(rng, X)
    elif form == "object":
        return X.astype(object)
    elif form == "empty":
        return X[:, :0] if rng.random() < 0.5 else X[:0]
    return X


def spoil_matrix(rng, X):
    """A sparse matrix with one of its index arrays broken; scipy does not look."""
    make = [sparse.csr_matrix, sparse.csc_matrix, sparse.coo_matrix, sparse.bsr_matrix][
        rng.integers(4)]  # fmt: skip
    matrix = make(X + 1.0)
    names = ("row", "col") if matrix.format == "coo" else ("indices", "indptr")
    name = names[rng.integers(2)]
    array = getattr(matrix, name).copy()
    if rng.random() < 0.2:
        array = array[:-1] if rng.random() < 0.5 else np.append(array, array[-1:] + 1)
    elif len(array):
        array[rng.integers(len(array))] = rng.choice([-1, -(2**31), 2**31 - 1, 10**6, 25])
    if matrix.format == "coo":
        coords = list(matrix.coords)
        coords[names.index(name)] = array
        matrix.coords = tuple(coords)
    else:
        setattr(matrix, name, array)
    return matrix


def draw_y(rng, kind, n):
    """Targets of a kind that fits the estimator, sometimes of one that does not."""
    if kind is BackpropRegressor:
        y = rng.standard_normal((n, int(rng.choice([1, 1, 1, 2, 9]))))
        y = y[:, 0] if y.shape[1] == 1 else y
        scale = rng.choice(
            ["usual"] * 6 + ["counts", "huge", "1e30", "constant", "bad", "integers"]
        )
        if scale == "counts":
            y = np.floor(np.abs(3 * y))
        elif scale == "huge":
            y = y * 1e300
        elif scale == "1e30":
            y = np.abs(y) * 1e30
        elif scale == "constant":
            y = np.full_like(y, 7.0)
        elif scale == "bad":
            y[rng.integers(n)] = np.nan
        elif scale == "integers":
            y = (100 * y).astype(np.int32)
        return y.astype(np.float32) if rng.random() < 0.2 and scale != "huge" else y
    labels = rng.integers(0, int(rng.choice([2, 2, 3, 5])), n)
    form = rng.choice(
        ["integers"] * 8
        + [
            "names",
            "bool",
            "floats",
            "indicators",
            "sparse",
            "malformed",
            "one class",
            "far apart",
            "mixed",
        ]
    )
    if form == "names":
        return np.array(["a", "bb", "ccc", "d", "e"])[labels]
    if form == "bool":
        return labels > 0
    if form == "floats":
        return labels + (0.5 if rng.random() < 0.2 else 0.0)
    if form in ("indicators", "sparse", "malformed"):
        Y = rng.integers(0, 2, (n, int(rng.integers(1, 5))))
        if form == "indicators":
            return Y
        Y = sparse.csr_matrix(Y)
        if form == "malformed" and Y.nnz:
            Y.indices[rng.integers(Y.nnz)] = rng.choice([-1, 10**6, 2**31 - 1])
        return Y
    if form == "one class":
        return np.zeros(n, int)
    if form == "far apart":
        return np.where(labels > 0, 2**62, -(2**62))
    if form == "mixed":
        return np.array([1, "a", None, 2.5, 1], dtype=object)[labels]
    return labels


def draw_weight(rng, n):
    """Sample weights: usually none."""
    kind = rng.choice(["none"] * 12 + ["usual", "usual", "zeros", "tiny", "huge", "bad", "number"])
    weight = rng.uniform(0.1, 2, n)
    if kind == "none":
        return None
    if kind == "zeros":
        return weight * (rng.random(n) < 0.3)
    if kind == "tiny":
        return weight * rng.choice([1e-30, 1e-42, 1e-310, 1e-200])
    if kind == "huge":
        return weight * rng.choice([1e30, 1e38, 1e300])
    if kind == "bad":
        return [weight[:-1], -weight, weight * np.nan, weight[:, None], "heavy", []][
            rng.integers(6)]  # fmt: skip
    return 2.0 if kind == "number" else weight


# --- one case -------------------------------------------------------------------------------------


def freeze(value):
    """What must not change in data that were handed over."""
    if sparse.issparse(value):
        return tuple(part.tobytes() for part in vars(value).values() if hasattr(part, "tobytes"))
    if hasattr(value, "to_numpy"):
        value = value.to_numpy()
    return (
        value.tobytes() if isinstance(value, np.ndarray) and value.dtype != object else repr(value)
    )


def call(model, method, *arguments):
    """Call; None, or the error if it is one that may be. State and data stay on an error."""
    state, data = dict(vars(model)), [freeze(value) for value in arguments]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            warnings.filterwarnings("ignore", "y has only one class", RuntimeWarning)
            cast = "invalid value encountered in cast"  # accuracy of huge numbers
            warnings.filterwarnings("ignore", cast, RuntimeWarning, r"sklearn\.")
            warnings.simplefilter("ignore", ConvergenceWarning)
            warnings.simplefilter("ignore", DataConversionWarning)
            warnings.simplefilter("ignore", UserWarning)
            getattr(model, method)(*arguments)
        error = None
    except EXPECTED as refused:
        if not str(refused).strip():
            raise
        error = refused
        if vars(model).keys() != state.keys() or any(
            vars(model)[name] is not value for name, value in state.items()
        ):
            raise AssertionError(f"state changed by a failed {method}: {refused}") from refused
    except MemoryError as refused:
        error = refused
    if [freeze(value) for value in arguments] != data:
        raise AssertionError(f"{method} wrote to its data")
    return error


def check_fitted(model, X):
    """Weights, losses and predictions of a model that says it is trained."""
    for array in (*model.coefs_, *model.intercepts_):
        if not np.isfinite(array).all():
            raise AssertionError("silent NaN in the weights")
    numbers = [getattr(model, "loss_", 0.0), *(getattr(model, "loss_curve_", None) or [])]
    if not np.isfinite(numbers).all():
        raise AssertionError(f"silent NaN in the losses: {numbers[:5]}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            predicted = model.predict(X)
        except ValueError as error:
            if "beyond the range of float64" in str(error):
                return
            raise
    if isinstance(model, BackpropRegressor):
        if not np.isfinite(predicted).all():
            raise AssertionError("predictions that are not finite")
        return
    P, logs = model.predict_proba(X), model.predict_log_proba(X)
    if not ((P >= 0) & (P <= 1)).all() or np.isnan(logs).any():
        raise AssertionError("probabilities are not within [0, 1]")
    if model._target_kind != "multilabel" and np.abs(P.sum(axis=1) - 1).max() > 1e-5:
        raise AssertionError("probabilities do not sum to 1")


def run_case(number, engine_name):
    """One estimator, up to three calls; returns what kind of case it was."""
    rng = np.random.default_rng(number)
    kind = [BackpropClassifier, BackpropRegressor][rng.integers(2)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the data's own making
        settings = draw_settings(rng, kind, engine_name)
        X = draw_X(rng)
        n = X.shape[0] if hasattr(X, "shape") else len(X)
        y, weight = draw_y(rng, kind, max(n, 1)), draw_weight(rng, n)
    model = kind(**settings)
    outcome, fitted = "fitted", False
    for _ in range(int(rng.choice([1, 1, 2, 3]))):
        method = "partial_fit" if rng.random() < 0.25 else "fit"
        try:
            getattr(model, method)
        except AttributeError:  # lbfgs has no partial_fit
            method = "fit"
        arguments = (X, y, weight)
        if method == "partial_fit" and kind is BackpropClassifier and not sparse.issparse(y):
            try:
                arguments = (*arguments, np.unique(y) if np.ndim(y) == 1 else range(y.shape[1]))
            except TypeError:  # labels of several types have no order
                method = "fit"
        error = call(model, method, *arguments)
        if error is None:
            fitted = True
            check_fitted(model, X)
        else:
            outcome = "refused" if "non-finite" not in str(error) else "diverged, and said so"
        if fitted:
            check_fitted_still(model, X, rng)
        if rng.random() < 0.3:
            model.set_params(warm_start=True)
    return outcome


def check_fitted_still(model, X, rng):
    """A model that was trained once still predicts, whatever came after."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of feature names
        error = call(model, "predict", rng.standard_normal((3, model.n_features_in_)))
        if error is not None and "beyond the range of float64" not in str(error):
            raise error
        call(model, "predict", X if rng.random() < 0.5 else draw_X(rng))


if __name__ == "__main__":
    run("checks.fuzz_estimators", run_case, __doc__, 10_000, limited_memory)
