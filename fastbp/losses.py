"""Loss functions: what each one is, as plain Python on raw scores (before the output transform).

Here lives one row per loss and the table `LOSSES`, the one place where they are listed.  No arrays
of samples, no averaging, no engine: the engines read these rows, sum them in double precision and
weight them; the tests check the fast C loops against them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Loss:
    """Description of a loss.

    Parameters
    ----------
    name : str
        Name of the row; what the user writes, except for the ``binary_`` rows, which stand in for
        a classifier's loss when the target is binary or multilabel.
    task : {"regression", "multiclass", "binary"}
        The kind of target the row serves.
    value, gradient : callable or None
        Scalar formulas ``value(y_true, raw) -> loss`` and ``gradient(y_true, raw) -> dloss/draw``
        of one output; the outputs' losses are summed (but see `output_mean`).  With `target`
        "class" they take the class code and the row of raw scores: ``value(code, raw) -> loss``,
        ``gradient(code, raw, out)``.
    output : {"identity", "logistic", "softmax", "exp"}
        Transform from raw score to prediction, `out_activation_`.
    target : {"real", "class"}, default="real"
        "real": targets (n_samples, n_outputs); "class": targets (n_samples, 1) hold the class code
        0 .. n_classes - 1.
    output_mean : bool, default=False
        The reported loss is the mean over the outputs, while ``sgd`` and ``adam`` step along the
        gradient of the sum (scikit-learn's squared error).
    target_min : float or None, default=None
        Smallest target allowed.
    kernel : str or None, default=None
        Name of the C loop that computes the same faster; None means the formulas are compiled.
    """

    name: str
    task: str
    value: Callable | None
    gradient: Callable | None
    output: str
    target: str = "real"
    output_mean: bool = False
    target_min: float | None = None
    kernel: str | None = None


def squared_error(y_true, raw):
    """Compute loss = (y - s)^2 / 2."""
    return 0.5 * (y_true - raw) * (y_true - raw)


def squared_error_gradient(y_true, raw):
    """dloss/ds = s - y."""
    return raw - y_true


def poisson(y_true, raw):
    """Half the Poisson deviance with log link: loss = y log y - y s - y + exp(s)."""
    constant = y_true * math.log(y_true) - y_true if y_true > 0.0 else 0.0
    return constant - y_true * raw + math.exp(raw)


def poisson_gradient(y_true, raw):
    """dloss/ds = exp(s) - y."""
    return math.exp(raw) - y_true


def binary_log_loss(y_true, raw):
    """Compute loss = log(1 + exp(s)) - s y, y in {0, 1}, so written that exp never overflows."""
    return max(raw, 0.0) + math.log1p(math.exp(-abs(raw))) - raw * y_true


def binary_log_loss_gradient(y_true, raw):
    """dloss/ds = logistic(s) - y."""
    if raw >= 0.0:
        return 1.0 / (1.0 + math.exp(-raw)) - y_true
    e = math.exp(raw)
    return e / (1.0 + e) - y_true


def log_loss(code, raw):
    """Softmax cross-entropy: loss = log(sum_k exp(s_k)) - s_code."""
    top = max(raw)
    return top + math.log(sum([math.exp(s - top) for s in raw])) - raw[code]


def log_loss_gradient(code, raw, out):
    """dloss/ds_k = exp(s_k) / sum_j exp(s_j) - (k == code), written into `out`."""
    top = max(raw)
    total = sum([math.exp(s - top) for s in raw])
    for k in range(len(raw)):
        out[k] = math.exp(raw[k] - top) / total
    out[code] -= 1.0


LOSSES = {
    row.name: row
    for row in (
        Loss("squared_error", "regression", squared_error, squared_error_gradient, "identity",
             output_mean=True, kernel="squared_error"),
        Loss("poisson", "regression", poisson, poisson_gradient, "exp", target_min=0.0,
             kernel="poisson"),
        Loss("log_loss", "multiclass", log_loss, log_loss_gradient, "softmax", target="class",
             kernel="log_loss"),
        Loss("binary_log_loss", "binary", binary_log_loss, binary_log_loss_gradient, "logistic",
             kernel="binary_log_loss"),
    )
}  # fmt: skip

REGRESSION_LOSSES = tuple(name for name, row in LOSSES.items() if row.task == "regression")
CLASSIFICATION_LOSSES = tuple(name for name, row in LOSSES.items() if row.task == "multiclass")


def loss_for(name, target_kind):
    """Row that serves a loss name for a kind of target.

    Parameters
    ----------
    name : str
        One of `REGRESSION_LOSSES` or `CLASSIFICATION_LOSSES`.
    target_kind : {"real", "multiclass", "binary", "multilabel"}

    Returns
    -------
    Loss
    """
    return LOSSES[f"binary_{name}" if target_kind in ("binary", "multilabel") else name]
