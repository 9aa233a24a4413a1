"""What a loss is to the engines, an entry (`Loss`), and how fastbp's own losses make theirs.

Here is the form of the entries and of the classes that declare them, with the links and statistics
that they may name.  No loss stands here: formulas, losses and their table are in `fastbp.losses`,
under whose name users find these classes, too, and pickles and sealed files name them.
"""

import math
from collections.abc import Callable
from numbers import Real
from typing import Any

from fastbp.descriptions import BOOLEAN, NONE, Description, formula_rule, name_rule, number_rule

PUBLIC = "fastbp.losses"  # where users, pickles and sealed files find these classes
# Output transform that turns raw scores into predictions, by link: link(prediction) = raw score.
TRANSFORMS = {
    "identity": "identity", "log": "exp", "logit": "logistic", "multinomial": "softmax",
    "increments": "cumulative_softplus",
}  # fmt: skip


def _is_tuple_of_numbers(value):
    return isinstance(value, tuple) and all(isinstance(number, Real) for number in value)


# Statistics that an entry's `constant` names: how many numbers follow, and with which links.
_CLASS_LINKS = ("logit", "multinomial")
STATISTICS = {
    "mean": (0, tuple(TRANSFORMS)[:-1]),
    "quantile": (None, ("identity", "log", "increments")),
    "huber": (1, ("identity",)),
    "smoothed mean": (1, _CLASS_LINKS),
    "focal": (1, _CLASS_LINKS),
}


def _is_statistic(value):
    """Whether a value can be the `constant` of an entry: a name and its numbers."""
    if not (isinstance(value, tuple) and value and value[0] in STATISTICS):
        return value is None
    name, *numbers = value
    n_wanted = STATISTICS[name][0]
    return _is_tuple_of_numbers(value[1:]) and (n_wanted is None or len(numbers) == n_wanted)


class Loss(Description):
    """A loss function of a target and a raw score.

    Parameters
    ----------
    value : callable
        Scalar function ``value(y_true, raw) -> loss`` of one output; the outputs' losses are summed
        (but see `output_mean`).  A classifier's `y_true` is 0 or 1.  With `target` "class" or
        "shared" it takes the target of a sample and the row of its raw scores.
    gradient : callable or None, default=None
        ``gradient(y_true, raw) -> dloss/draw``; None derives it from `value` (forward-mode
        differentiation).  With `target` "class" or "shared" it writes the row of derivatives:
        ``gradient(y_true, raw, out)``.
    link : {"identity", "log", "logit", "multinomial", "increments"} or None, default=None
        Function of the prediction that the raw score is: a regressor with "log" predicts exp(raw).
        None: "identity" for regression, "logit" for classification.
    task : {"regression", "multiclass", "binary"} or None, default=None
        The kind of target the entry serves; None serves regression, binary and multilabel targets.
    target : {"real", "class", "shared"}, default="real"
        "real": targets (n_samples, n_outputs); "class": targets (n_samples, 1) hold the class code
        0 .. n_classes - 1; "shared": targets (n_samples, 1), one number for all outputs, of which
        there is one for each number in `hyper`.
    output_mean : bool, default=False
        The reported loss is the mean over the outputs, while ``sgd`` and ``adam`` step along the
        gradient of the sum (scikit-learn's squared error).
    target_min : float or None, default=None
        Smallest target allowed.
    kernel : str or None, default=None
        Name of a C loop of fastbp that computes the same; None means the formulas are compiled.
    hyper : tuple of float, default=()
        Numbers that `value` and `gradient` take as third argument, to be read as ``hyper[0]``,
        ``hyper[1]``, ...  They reach compiled code at run time: other numbers compile nothing anew.
    above_min : bool, default=False
        Whether targets must be larger than `target_min`.
    metric : tuple, default=("r2",)
        What a regressor's `score` is, and its numbers: ``("r2",)``, ``("d2_tweedie", power)`` or
        ``("d2_pinball", *quantiles)``.
    constant : tuple or None, default=None
        Which prediction is best if all samples get the same one, for the bias of a fresh network's
        output to start there: ``("mean",)`` or, of regression losses, ``("quantile", level)``
        (entries of fastbp's own name others). None: nobody knows, and the bias starts at 0.

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

    __module__ = PUBLIC

    _rules = {
        "value": (formula_rule("a function of y_true and raw"),),
        "gradient": (formula_rule("a function of y_true and raw"), NONE),
        "link": (name_rule(*TRANSFORMS), NONE),
        "task": (name_rule("regression", "multiclass", "binary"), NONE),
        "target": (name_rule("real", "class", "shared"),),
        "output_mean": (BOOLEAN,),
        "target_min": (number_rule(Real, "[", -math.inf, math.inf, ")"), NONE),
        "hyper": ((_is_tuple_of_numbers, "a tuple of numbers"),),
        "above_min": (BOOLEAN,),
        "constant": ((_is_statistic, "None, ('mean',) or ('quantile', level)"),),
    }

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
        hyper: tuple[float, ...] = (),
        above_min: bool = False,
        metric: tuple[Any, ...] = ("r2",),
        constant: tuple[Any, ...] | None = None,
    ) -> None:
        self.value = value
        self.gradient = gradient
        self.link = link
        self.task = task
        self.target = target
        self.output_mean = output_mean
        self.target_min = target_min
        self.kernel = kernel
        self.hyper = hyper
        self.above_min = above_min
        self.metric = metric
        self.constant = constant

    @property
    def output(self):
        """Transform from raw score to prediction, `out_activation_`."""
        return TRANSFORMS[self.link]


# What an entry says of each kind of target.
KINDS = {
    "real": {"task": "regression"},
    "multiclass": {"task": "multiclass", "target": "class", "link": "multinomial"},
    "binary": {"task": "binary", "link": "logit"},
}


class NamedLoss(Description):
    """Base of fastbp's own losses: what one declares, as attributes of its class, and its entries.

    Attributes
    ----------
    name : str
        What the user writes.
    formulas : dict
        By the kind of target (of `KINDS`) the functions ``(value, gradient)``; the last entry also
        serves kinds that are not named.
    has_kernel : bool
        Whether C loops of the formulas' names compute the same; else the formulas are compiled.
    link, target, output_mean, target_min, above_min, metric, constant
        As in `Loss`, unless `KINDS` says it.  ``...`` at the end of `metric` and `constant` stands
        for the settings, which are also what the formulas take as `hyper`: all numbers that a
        setting holds, in the order of `_rules`.
    """

    __module__ = PUBLIC

    name: str = ""
    formulas: dict[str, tuple[Callable, Callable]] = {}
    has_kernel: bool = False
    link: str = "identity"
    target: str = "real"
    output_mean: bool = False
    target_min: float | None = None
    above_min: bool = False
    metric: tuple[Any, ...] = ("r2",)
    constant: tuple[Any, ...] | None = None

    def entry(self, target_kind, **instead):
        """Formulas for a kind of target, as the engines read them; `instead` of what is declared.

        Parameters
        ----------
        target_kind : {"real", "multiclass", "binary", "multilabel"}
        **instead
            Values for the attributes of the class, and for `hyper`.

        Returns
        -------
        Loss
        """
        says = {"hyper": self._numbers()} | {name: getattr(self, name) for name in DECLARED}
        says |= instead
        formulas, has_kernel = says.pop("formulas"), says.pop("has_kernel")
        kind = target_kind if target_kind in formulas else list(formulas)[-1]
        value, gradient = formulas[kind]
        for name in ("metric", "constant"):
            if says[name] and says[name][-1] is ...:
                says[name] = (*says[name][:-1], *says["hyper"])
        says |= KINDS[kind]
        return Loss(value, gradient, kernel=value.__name__ if has_kernel else None, **says)

    def _numbers(self):
        """All numbers of the settings."""
        settings = [getattr(self, name) for name in self._rules]
        lists = ([value] if isinstance(value, Real) else value for value in settings)
        return tuple(float(number) for numbers in lists for number in numbers)


DECLARED = tuple(name for name in NamedLoss.__annotations__ if name != "name")


class RegressionLoss(NamedLoss):
    """Base of the losses that `BackpropRegressor` takes beside a user's own."""

    __module__ = PUBLIC


class ClassificationLoss(NamedLoss):
    """Base of the losses that `BackpropClassifier` takes beside a user's own."""

    __module__ = PUBLIC
