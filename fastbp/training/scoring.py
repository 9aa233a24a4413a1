"""The validation set, and what is measured on it: loss and score.

Drawn and scored as scikit-learn's MLP does it, without its functions for accuracy and R2: an epoch
of a small fit costs less than one of their calls.  Only a scorer of the user's and the D2 of some
losses go through scikit-learn.
"""

import inspect
import warnings
from collections.abc import Callable
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from numbers import Real

import numpy as np
from sklearn.metrics import d2_pinball_score, d2_tweedie_score, get_scorer, get_scorer_names
from sklearn.model_selection import train_test_split

from fastbp.data.row_source import RowSource
from fastbp.data.scaling import unit_of
from fastbp.data.weights import no_weights
from fastbp.descriptions import is_function, name_of, number_of
from fastbp.losses.calibration import find_factor
from fastbp.losses.combining import combine
from fastbp.tables import write_labels

LOSS = "loss"  # the `scoring` that measures the loss itself
# What else scorers are called.
OTHER_WORDS = {
    **{f"{name}_score": name for name in get_scorer_names()},
    **{name.removeprefix("neg_"): name for name in get_scorer_names()},
    "rmse": "neg_root_mean_squared_error", "mse": "neg_mean_squared_error",
    "mae": "neg_mean_absolute_error", "mape": "neg_mean_absolute_percentage_error",
    "msle": "neg_mean_squared_log_error", "rmsle": "neg_root_mean_squared_log_error",
    "medae": "neg_median_absolute_error", "auc": "roc_auc", "acc": "accuracy",
    "log_loss": "neg_log_loss", "cross_entropy": "neg_log_loss", "nll": "neg_log_loss",
    "brier": "neg_brier_score", "brier_score": "neg_brier_score", "val_loss": LOSS,
    "validation_loss": LOSS, "r_squared": "r2", "coefficient_of_determination": "r2",
    "map": "average_precision", "pr_auc": "average_precision", "mcc": "matthews_corrcoef",
    "val_accuracy": "accuracy", "error_rate": "accuracy",
}  # fmt: skip


def split_off_validation(problem, fraction, random_state):
    """Draw the rows to train on and those to hold out.

    Stratified by class for one output (binary); scikit-learn's MLP does not stratify more outputs.

    Parameters
    ----------
    problem : fastbp.data.problem.Problem
    fraction : float
        Share of the samples to hold out.
    random_state : RandomState

    Returns
    -------
    train, held_out : int64 ndarray
        Rows of the problem; they are not copied.
    """
    binary = problem.loss.task == "binary" and problem.targets.shape[1] == 1
    if binary:
        counts = np.bincount(problem.targets[:, 0].astype(np.intp), minlength=2)
        if counts.min() == 1:
            label = write_labels(problem.classes[counts == 1])[1:-1]
            raise ValueError(
                f"The least populated class in y, {label}, has only 1 member, which is too few to "
                "set a part of it aside. Give X_val and y_val, or set early_stopping=False."
            )
    n_samples = problem.X.shape[0]
    try:
        train, held_out = train_test_split(
            np.arange(n_samples),
            random_state=random_state,
            test_size=fraction,
            stratify=problem.targets[:, 0] if binary else None,
        )
    except ValueError as error:  # in words of its own parameters
        raise ValueError(
            f"validation_fraction={fraction:g} of {n_samples} samples cannot be set aside for "
            "early_stopping: both parts need samples, and with two classes some of each. Change "
            "validation_fraction, give X_val and y_val, or set early_stopping=False."
        ) from error
    if len(held_out) < 2:
        raise ValueError(
            "The validation set is too small. Increase 'validation_fraction' or the size of your "
            "dataset."
        )
    if problem.sample_weight is not None:
        for part, name in ((train, "training"), (held_out, "validation")):
            if not problem.sample_weight[part].any():
                raise no_weights(name)
    return train.astype(np.int64, copy=False), held_out.astype(np.int64, copy=False)


@dataclass
class Scorer:
    """A scorer of scikit-learn's or of the user's, and what it is called with.

    Parameters
    ----------
    function : callable
        ``function(estimator, X, y) -> number``, larger is better; with weights it gets a keyword
        `sample_weight`.
    make_estimator : callable
        ``make_estimator(params)``: a fitted copy of the estimator that has these weights.
    dtype : dtype
        In which X was given; that of the X which the scorer sees.
    y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        Labels or targets as the user has them.
    """

    function: Callable
    make_estimator: Callable
    dtype: np.dtype
    y: np.ndarray

    def check_weights(self, scoring):
        """Raise if the function takes no weights; one of scikit-learn's can tell only later."""
        try:
            signature = inspect.signature(self.function)
        except (TypeError, ValueError):  # compiled functions need not have one
            return
        try:
            signature.bind(None, None, None, sample_weight=None)
        except TypeError as error:
            raise ValueError(
                f"scoring={scoring!r} takes no `sample_weight`, but validation samples have "
                "weights (of sample_weight, sample_weight_val or class_weight). Give it that "
                "parameter, or train without weights."
            ) from error


class Validation:
    """Samples that are not trained on, and what is measured on them.

    Parameters
    ----------
    problem : fastbp.data.problem.Problem
        Holds the samples.
    scoring : None, "loss", str or callable, default=None
    scorer : Scorer or None, default=None
        Where `scoring` asks for one.

    Attributes
    ----------
    factor : float
        Of the raw scores measured last, at which their loss is least; 1 but for problems that
        calibrate, whose score is minus the loss there.
    """

    def __init__(self, problem, scoring=None, scorer=None):
        self.problem, self.scoring, self.scorer = problem, scoring, scorer
        self.factor = 1.0
        shape = (problem.X.shape[0], problem.layer_sizes[-1])
        if problem.n_members is not None:
            shape = (problem.n_members, *shape)
        self.scores = np.empty(shape, problem.dtype)
        if scorer is not None:
            X = problem.X
            if isinstance(X, RowSource):  # a scorer wants an array
                X = X.take(slice(None)).copy()
            self.X = X.astype(scorer.dtype, copy=False)
            if problem.sample_weight is not None:
                scorer.check_weights(scoring)

    @classmethod
    def of_rows(cls, problem, rows, scoring=None, scorer=None):
        """Hold out some rows of a problem (and of the scorer's y)."""
        weights = None if problem.sample_weight is None else problem.sample_weight[rows]
        part = replace(
            problem, X=problem.X[rows], targets=problem.targets[rows], sample_weight=weights
        )
        return cls(part, scoring, scorer and replace(scorer, y=scorer.y[rows]))

    def measure(self, session, params=None):
        """Measure the session's current weights.

        Parameters
        ----------
        session : Session
        params : ndarray of shape (n_params,) or None
            The same weights, for a scorer.

        Returns
        -------
        loss : float
            Mean loss, weighted, without penalty; NaN where the network's output is.
        score : float
            Larger is better; NaN where R2 meets predictions that are not finite, and where a metric
            is not defined for y with one class.
        """
        problem, scores = self.problem, self.scores
        session.predict_into(problem.X, scores)
        if problem.n_members is not None:
            scores = combine(scores, problem.loss.output)
        loss = session.mean_loss(scores, problem.targets, problem.sample_weight)
        if np.isnan(loss):  # no score means anything then, and no scorer need be asked
            return loss, loss
        if problem.calibrates and self.scoring == LOSS:
            return loss, -self._calibrate(session, scores)
        if self.scorer is not None:
            return loss, self._ask_scorer(params)
        return loss, -loss if self.scoring == LOSS else score_of(problem, scores)

    def _calibrate(self, session, scores):
        """Set the factor; return the loss that it leaves."""
        targets, weights = self.problem.targets, self.problem.sample_weight
        n_samples = len(scores) if weights is None else np.count_nonzero(weights)

        def mean_loss(factor):
            return session.mean_loss(scores * scores.dtype.type(factor), targets, weights)

        self.factor, loss = find_factor(mean_loss, n_samples)
        return loss

    def _ask_scorer(self, params):
        scorer, weights = self.scorer, self.problem.sample_weight
        keywords = {} if weights is None else {"sample_weight": weights}
        estimator, one_class = scorer.make_estimator(params), self.problem.one_class
        lenient = one_class and _is_of_scikit_learn(scorer.function)
        try:
            with _no_warnings() if lenient else nullcontext():
                score = scorer.function(estimator, self.X, scorer.y, **keywords)
        except Exception as error:
            if lenient:  # it asks for two classes, as log_loss does
                return float("nan")
            error.add_note(
                f"fastbp: scoring={self.scoring!r} raised this on the validation data."
                f"{_of_classes_that_lack(estimator, scorer.y)}"
            )
            raise
        number = number_of(score)
        if np.isnan(number) and not (one_class and isinstance(score, Real)):
            raise ValueError(
                f"scoring={self.scoring!r} must return a number. Got {score!r} for the validation "
                "data."
            )
        return number


def _of_classes_that_lack(estimator, y):
    """Words on classes of which no row is held out, as metrics of probabilities want them all."""
    lacking = np.setdiff1d(getattr(estimator, "classes_", y), y) if np.ndim(y) == 1 else []
    if not len(lacking):
        return ""
    return (
        f" These have no row of {write_labels(lacking)[1:-1]}: classes with few rows are perhaps "
        "all trained on. Give X_val and y_val with all classes, or use scoring='loss'."
    )


def _is_of_scikit_learn(scorer):
    """Whether a scorer measures by a metric of scikit-learn's."""
    metric = getattr(scorer, "_score_func", None)
    return str(getattr(metric, "__module__", None)).startswith("sklearn.")


@contextmanager
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def is_scorer(value):
    """Whether a value can be called as ``scorer(estimator, X, y)``, as far as its signature says.

    A metric of `y_true` and `y_pred` is none, though a third parameter may hide that.
    """
    return is_function(value) and not _parameters_of_metric(value)


def _parameters_of_metric(value):
    """Names of the parameters of a function that is no scorer; empty where it may be one."""
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):  # compiled functions need not have one
        return []
    names = list(signature.parameters)
    if not _takes(signature, 3):
        return names or ["nothing"]
    return names if names[0].startswith(("y_", "labels_", "true")) else []


def _takes(signature, n_arguments):
    """Whether a function can be called with so many arguments."""
    try:
        signature.bind(*[None] * n_arguments)
    except TypeError:
        return False
    return True


def explain_metric(value):
    """Say how a metric becomes a scorer; nothing ("") about what is none."""
    names = _parameters_of_metric(value) if is_function(value) else []
    if not names or not _takes(inspect.signature(value), 2):
        return ""
    metric = value.func if isinstance(value, partial) else value
    settings = dict(value.keywords) if isinstance(value, partial) else {}
    name, known = name_of(metric), ""
    if names[1].startswith(("y_score", "y_prob")):
        settings["response_method"] = "predict_proba"
    if name.endswith(("error", "loss", "deviance")):
        settings["greater_is_better"] = False
    for word in () if isinstance(value, partial) else get_scorer_names():
        scorer = get_scorer(word)  # of scikit-learn's own making, or of the user's
        is_same = getattr(scorer, "_score_func", None) is metric
        if is_same and (word == name.removesuffix("_score") or not scorer._kwargs):
            known = f"scoring={word!r} or "
            break
    written = "".join(f", {key}={setting!r}" for key, setting in settings.items())
    return (
        f"{name} takes {names[0]} and {names[1]}, as metrics do: use {known}"
        f"scoring=sklearn.metrics.make_scorer({name}{written})."
    )


def find_scorer(scoring):
    """Return the function that a `scoring` names, or None where fastbp measures itself."""
    return None if scoring is None or scoring == LOSS else get_scorer(scoring)


def score_of(problem, scores):
    """Accuracy, or the metric of a regressor's loss, of raw scores."""
    if problem.one_class:
        return 1.0
    if problem.loss.task == "multiclass":
        correct = scores.argmax(axis=1) == problem.targets[:, 0]
        return float(np.average(correct, weights=problem.sample_weight))
    if problem.loss.task == "binary":
        correct = ((scores > 0) == (problem.targets > 0)).all(axis=1)
        return float(np.average(correct, weights=problem.sample_weight))
    predictions = scores.astype(np.float64)
    problem.engine.transform_into(problem.loss.output, predictions)
    return default_score(problem.loss, problem.targets, predictions, problem.sample_weight)


def default_score(loss, y_true, y_pred, sample_weight):
    """Score of a regressor's predictions by the metric of its loss, mean over the outputs.

    Parameters
    ----------
    loss : fastbp.losses.Loss
    y_true : ndarray of shape (n_samples, n_targets)
    y_pred : ndarray of shape (n_samples, n_outputs)
    sample_weight : ndarray of shape (n_samples,) or None

    Returns
    -------
    float
        NaN if a prediction is not finite.
    """
    metric, *numbers = loss.metric
    if not np.isfinite(y_pred).all():
        return float("nan")
    y_true, y_pred = in_units(y_true, y_pred)
    if metric == "r2":
        return r2(y_true, y_pred, sample_weight)
    y_true = np.broadcast_to(y_true, y_pred.shape)
    if metric == "d2_tweedie":  # a mean that underflowed to 0 is no mean
        score, y_pred = d2_tweedie_score, np.maximum(y_pred, np.finfo(np.float32).tiny)
        settings = [{"power": numbers[0]}] * y_pred.shape[1]
    else:
        score, n_levels = d2_pinball_score, len(numbers)
        settings = [{"alpha": numbers[k % n_levels]} for k in range(y_pred.shape[1])]
    weight = None if sample_weight is None else sample_weight / unit_of(sample_weight.max())
    return float(np.mean([
        _d2(partial(score, **settings[k]), y_true[:, k], y_pred[:, k], weight)
        for k in range(y_pred.shape[1])
    ]))  # fmt: skip


def _d2(score, y_true, y_pred, sample_weight):
    """Share of the loss that predictions take away; of a constant y as R2 has it, 1 or 0.

    There the loss to be shared out is 0, or is rounded to it, and scikit-learn divides by it.
    """
    counted = slice(None) if sample_weight is None else sample_weight > 0
    if np.ptp(y_true[counted]) > 0:
        with np.errstate(all="ignore"), suppress(ZeroDivisionError):  # of powers of odd sizes
            return score(y_true, y_pred, sample_weight=sample_weight)
    return float((y_pred[counted] == y_true[counted]).all())


def in_units(y_true, y_pred):
    """Divide each column of both by the size of y_true: squares then neither over- nor underflow.

    The scores of regressors are shares of a loss, which do not depend on the unit.
    """
    y_true = y_true.astype(np.float64)
    unit = unit_of(np.abs(y_true).max(axis=0))
    with np.errstate(over="ignore"):
        return y_true / unit, np.clip(y_pred / unit, -1e150, 1e150)


def r2(y_true, y_pred, sample_weight):
    """Coefficient of determination of float64 targets, mean over outputs: that of `r2_score`."""
    weight = 1.0
    if sample_weight is not None:
        sample_weight = sample_weight / unit_of(sample_weight.max())
        weight = sample_weight[:, np.newaxis]
    mean = np.average(y_true, axis=0, weights=sample_weight)
    residual = (weight * (y_true - y_pred) ** 2).sum(axis=0)
    total = (weight * (y_true - mean) ** 2).sum(axis=0)
    return r2_of_sums(residual, total)


def r2_of_sums(residual, total):
    """R2 of the sums of squares of each output, mean over the outputs."""
    if not np.isfinite(residual).all():
        return float("nan")
    constant = total == 0
    with np.errstate(over="ignore"):
        scores = 1 - residual / np.where(constant, 1, total)
    scores[constant] = residual[constant] == 0
    return float(np.average(scores))
