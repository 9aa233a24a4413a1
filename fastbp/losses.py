"""Loss functions: what each one is, as plain Python on raw scores (before the output transform).

Here lives one row per loss and the table `LOSSES`, the one place where they are listed.  No arrays
of samples, no averaging, no engine: the engines read these rows, sum them in double precision and
weight them; the tests check the fast C loops against them.  A row is the same kind of object that a
user makes of a function of his own.
"""

import math
from collections.abc import Callable
from typing import Any

from fastbp.descriptions import Description

# Output transform that turns a raw score into a prediction, by link: link(prediction) = raw score.
TRANSFORMS = {"identity": "identity", "log": "exp", "logit": "logistic", "multinomial": "softmax"}


class Loss(Description):
    """A loss function of a target and a raw score.

    Parameters
    ----------
    value : callable
        Scalar function ``value(y_true, raw) -> loss`` of one output; the outputs' losses are summed
        (but see `output_mean`).  A classifier's `y_true` is 0 or 1.  With `target` "class" it takes
        the class code and the row of raw scores.
    gradient : callable or None, default=None
        ``gradient(y_true, raw) -> dloss/draw``; None derives it from `value` (forward-mode
        differentiation).  With `target` "class" it is ``gradient(code, raw, out)``.
    link : {"identity", "log", "logit", "multinomial"} or None, default=None
        Function of the prediction that the raw score is: a regressor with "log" predicts exp(raw).
        None: "identity" for regression, "logit" for classification.
    task : {"regression", "multiclass", "binary"} or None, default=None
        The kind of target the row serves; None serves regression, binary and multilabel targets.
    target : {"real", "class"}, default="real"
        "real": targets (n_samples, n_outputs); "class": targets (n_samples, 1) hold the class code
        0 .. n_classes - 1.
    output_mean : bool, default=False
        The reported loss is the mean over the outputs, while ``sgd`` and ``adam`` step along the
        gradient of the sum (scikit-learn's squared error).
    target_min : float or None, default=None
        Smallest target allowed.
    kernel : str or None, default=None
        Name of a C loop of fastbp that computes the same; None means the formulas are compiled.

    Examples
    --------
    >>> from fastbp import BackpropRegressor, Loss
    >>> def asymmetric(y_true, raw):
    ...     error = y_true - raw
    ...     return error * error if error > 0 else 0.1 * error * error
    >>> reg = BackpropRegressor(loss=asymmetric)
    >>> Loss(asymmetric, link="log").name
    'asymmetric'
    """

    def __init__(
        self,
        value: Callable[..., Any],
        gradient: Callable[..., Any] | None = None,
        link: str | None = None,
        *,
        task: str | None = None,
        target: str = "real",
        output_mean: bool = False,
        target_min: float | None = None,
        kernel: str | None = None,
    ) -> None:
        self.value = value
        self.gradient = gradient
        self.link = link
        self.task = task
        self.target = target
        self.output_mean = output_mean
        self.target_min = target_min
        self.kernel = kernel

    @property
    def output(self):
        """Transform from raw score to prediction, `out_activation_`."""
        return TRANSFORMS[self.link]


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
    top = raw[0]
    for s in raw:
        top = max(top, s)
    total = 0.0
    for s in raw:
        total += math.exp(s - top)
    return top + math.log(total) - raw[code]


def log_loss_gradient(code, raw, out):
    """dloss/ds_k = exp(s_k) / sum_j exp(s_j) - (k == code), written into `out`."""
    top = raw[0]
    for s in raw:
        top = max(top, s)
    total = 0.0
    for k in range(len(raw)):
        out[k] = math.exp(raw[k] - top)
        total += out[k]
    for k in range(len(raw)):
        out[k] /= total
    out[code] -= 1.0


LOSSES = {
    row.name: row
    for row in (
        Loss(squared_error, squared_error_gradient, "identity", task="regression",
             output_mean=True, kernel="squared_error"),
        Loss(poisson, poisson_gradient, "log", task="regression", target_min=0.0,
             kernel="poisson"),
        Loss(log_loss, log_loss_gradient, "multinomial", task="multiclass", target="class",
             kernel="log_loss"),
        Loss(binary_log_loss, binary_log_loss_gradient, "logit", task="binary",
             kernel="binary_log_loss"),
    )
}  # fmt: skip

REGRESSION_LOSSES = tuple(name for name, row in LOSSES.items() if row.task == "regression")
CLASSIFICATION_LOSSES = tuple(name for name, row in LOSSES.items() if row.task == "multiclass")


def loss_for(wanted, target_kind):
    """Row that serves a loss for a kind of target.

    Parameters
    ----------
    wanted : str, callable or Loss
        One of `REGRESSION_LOSSES` or `CLASSIFICATION_LOSSES`, or a loss of the user's own.
    target_kind : {"real", "multiclass", "binary", "multilabel"}

    Returns
    -------
    Loss
        With `link` and `task` set.

    Raises
    ------
    ValueError
        If a user's loss cannot serve that kind of target.
    """
    if isinstance(wanted, str):
        return LOSSES[f"binary_{wanted}" if target_kind in ("binary", "multilabel") else wanted]
    row = wanted if isinstance(wanted, Loss) else Loss(wanted)
    if target_kind == "multiclass" and row.target != "class":
        raise ValueError(
            f"loss={wanted!r} is elementwise: it can train regression, binary and multilabel "
            "targets, but y has more than two classes. Use loss='log_loss', or binary targets, for "
            "example by sklearn.multiclass.OneVsRestClassifier."
        )
    task = "regression" if target_kind == "real" else "binary"
    task = "multiclass" if target_kind == "multiclass" else task
    link = row.link or {"regression": "identity", "binary": "logit"}.get(task, "multinomial")
    links = {"regression": ("identity", "log", "logit"), "binary": ("logit",)}
    if link not in links.get(task, ("multinomial",)) or row.task not in (None, task):
        raise ValueError(
            f"loss={wanted!r} with link {row.link!r} and task {row.task!r} cannot serve "
            f"{target_kind} y: expected link {links.get(task)} or None."
        )
    if row.task and row.link:
        return row
    return Loss(**{**row.get_params(deep=False), "task": task, "link": link})
