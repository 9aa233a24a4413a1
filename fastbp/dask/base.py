"""What all estimators over a Dask cluster share: parameters, `fit`, lazy predictions, the way home.

What they know is what the ordinary estimator knows, made of the same parameters; how one is trained
is the business of its file and of `rounds`.
"""

import inspect
import time
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from fastbp.dask.partitions import apply, is_lazy, split, to_memory
from fastbp.dask.team import Team, find_client
from fastbp.descriptions import BOOLEAN, NONE, is_allowed, number_rule, refusal
from fastbp.estimators.base_parameters import BaseParameters
from fastbp.estimators.parameters import check_parameters
from fastbp.messages import explains_its_arguments
from fastbp.training.randomness import own_stream

# The parameters that they have besides those of the ordinary estimator: defaults and rules.
OWN = {"client": None, "n_shards": None, "average_every": 1, "scale_learning_rate": True,
       "outer_momentum": 0.0, "timeout": 600.0}  # fmt: skip
SAME_SHARE = 0.01  # by which 1 / average_every may differ from a whole number, relative


def _read_period(value):
    """Return a period of averages as a number of epochs, or of pieces of one; None for neither."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 1e-300 < value < np.inf:
        return None
    return float(value) if value >= 1 else 1 / float(value)


def is_period(value):
    """Whether epochs between two averages are a whole number, or an epoch can be cut into them."""
    times = _read_period(value)
    if times is None:
        return False
    return abs(times - round(times)) <= (SAME_SHARE * times if value < 1 else 0)


def nearest_periods(value):
    """Say which periods are next to a number that is none, or nothing ("")."""
    times = _read_period(value)
    if times is None:
        return ""
    n = int(times)
    shares = f"1/{n + 1} ({1 / (n + 1):.4g})", "1" if n == 1 else f"1/{n} ({1 / n:.4g})"
    return "The nearest are {} and {}.".format(*((n, n + 1) if value >= 1 else shares))


RULES = {
    "n_shards": (number_rule(Integral, "[", 1, np.inf, ")"), NONE),
    "average_every": ((is_period, "a whole number of epochs, or 1/n of one with a whole n"),),
    "scale_learning_rate": (BOOLEAN,),
    "outer_momentum": (number_rule(Real, "[", 0.0, 1.0, ")"),),
    "timeout": (number_rule(Real, "(", 0.0, np.inf, ")"),),
}


def takes_parameters_of(ordinary):
    """Let a class have the parameters of the ordinary estimator, and those of `OWN`."""
    found = inspect.signature(ordinary.__init__)
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
        for name, default in OWN.items()
    ]
    signature = found.replace(parameters=[*found.parameters.values(), *more])

    def decorate(kind):
        def __init__(self: Any, *arguments: Any, **parameters: Any) -> None:  # noqa: N807
            bound = signature.bind(self, *arguments, **parameters)
            bound.apply_defaults()
            self._store(bound.arguments)

        __init__.__signature__ = signature
        __init__.__qualname__ = f"{kind.__name__}.__init__"
        kind.__init__, kind._ordinary = explains_its_arguments(__init__), ordinary
        return kind

    return decorate


@dataclass
class Fit:
    """One call of `fit`.

    Attributes
    ----------
    local : estimator
        The ordinary one, not fitted, with an int as `random_state`.
    settings : Settings
        Its parameters.
    team : Team
    validation : tuple of X_val, y_val, sample_weight_val
    begun : float
        By `time.perf_counter`.
    """

    local: Any
    settings: Any
    team: Team
    validation: tuple
    begun: float

    @property
    def deadline(self):
        """When `max_time` is over, or None."""
        most = self.settings.max_time
        return None if most is None else self.begun + most


class DaskEstimator(BaseParameters):
    """An estimator that is trained over a cluster, and has the parameters of an ordinary one."""

    _ordinary: Any
    _fitted_mark: str  # an attribute that only a fitted one has
    n_features_in_: int
    n_iter_: int
    n_shards_: int
    client: Any
    random_state: Any
    n_shards: int | None
    average_every: float
    scale_learning_rate: bool
    outer_momentum: float
    timeout: float

    def __sklearn_clone__(self):
        client, bare = self.client, self._ordinary_parameters()
        own = {name: getattr(self, name) for name in OWN}
        return type(self)(
            **clone(self._ordinary(**bare)).get_params(deep=False), **own | {"client": client}
        )

    def __getstate__(self):
        return super().__getstate__() | {"client": None}

    def __sklearn_is_fitted__(self):
        return self._fitted_mark in vars(self)

    def _ordinary_parameters(self):
        return {name: getattr(self, name) for name in self._get_param_names() if name not in OWN}

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, X_val: Any = None, y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> Self:  # fmt: skip
        """Train on all partitions.

        Parameters
        ----------
        X : Dask array of shape (n_samples, n_features) or Dask DataFrame
        y : Dask array, Series or DataFrame
            With the partitions of X.
        sample_weight : Dask array or Series of shape (n_samples,), default=None
        X_val, y_val, sample_weight_val : array-like, default=None
            Validation data in memory, as for the ordinary estimator; measured after each epoch that
            ends with an average.

        Returns
        -------
        self : estimator

        Raises
        ------
        ValueError, TypeError
            For bad parameters or data; notes name the partitions.
        RuntimeError
            If partitions cannot be had, or workers die again and again.
        TimeoutError
            If no task ends for `timeout` seconds.  Whatever is raised, the estimator stays as it
            was.
        """
        begun = time.perf_counter()
        local, settings = self._check()
        validation = X_val, y_val, sample_weight_val
        for name, value in zip(("X_val", "y_val", "sample_weight_val"), validation, strict=True):
            if is_lazy(value):
                raise TypeError(
                    f"{name} must be an array in memory, not a Dask collection: call .compute() on "
                    "a part that fits."
                )
        if (X_val is None) != (y_val is None) or (X_val is None and sample_weight_val is not None):
            raise ValueError(
                "X_val and y_val go together, and sample_weight_val with them: give all, or none."
            )
        partitions = split(X, y, sample_weight)
        client = find_client(self.client, self.timeout)
        team = Team(client, partitions, self.n_shards, self.timeout)
        try:
            with own_stream(self.random_state) as (draws, _):
                if not isinstance(self.random_state, Integral):
                    local.set_params(random_state=int(draws.randint(2**31)))
                found = self._train(Fit(local, settings, team, validation, begun))
        finally:
            team.close()
        parameters = {name: getattr(self, name) for name in self._get_param_names()}
        self.__dict__.clear()
        self.__dict__.update(parameters | found | {"n_shards_": len(team.groups)})
        return self

    def _check(self):
        """Check all parameters; return the ordinary estimator and its settings."""
        for name, rules in RULES.items():
            if not is_allowed(getattr(self, name), rules):
                value, title = getattr(self, name), f"{name!r} parameter of {type(self).__name__}"
                hint = nearest_periods(value) if name == "average_every" else None
                raise refusal(title, value, rules, hint)
        local = clone(self._ordinary(**self._ordinary_parameters()))
        return local, check_parameters(local, local._parameter_rules)

    def _train(self, fit):
        """Train; return fitted attributes."""
        raise NotImplementedError

    def to_local(self) -> Any:
        """Return the ordinary estimator with the same parameters and what was learned.

        Returns
        -------
        estimator
            Of the class without "Dask" in its name.
        """
        check_is_fitted(self)
        local = self._ordinary(**self._ordinary_parameters())
        parameters = set(self._get_param_names())
        vars(local).update({
            name: value for name, value in vars(self).items()
            if name not in parameters and name != "n_shards_"
        })  # fmt: skip
        return local

    def _apply(self, method, X):
        local = self.to_local()
        return apply(local, method, X) if is_lazy(X) else getattr(local, method)(X)

    def predict(self, X: Any) -> Any:
        """Predict; lazily for a Dask array or frame.

        Parameters
        ----------
        X : Dask array, Dask DataFrame, or array-like of shape (n_samples, n_features)

        Returns
        -------
        y : Dask array, or ndarray for data in memory
            As the ordinary estimator predicts them.
        """
        return self._apply("predict", X)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Score the predictions as the ordinary estimator does: accuracy, R2 or the D2 of the loss.

        Predictions, y and weights come into memory, not X.

        Parameters
        ----------
        X, y, sample_weight : as for `fit`, or in memory

        Returns
        -------
        float
        """
        y, predictions, weight = to_memory(y, self.predict(X), sample_weight)
        local = self.to_local()
        local.predict = lambda X: predictions
        return float(local.score(None, y, weight))


class Probabilities(DaskEstimator):
    """What classifiers have besides."""

    classes_: np.ndarray

    def predict_proba(self, X: Any) -> Any:
        """Return the probability of each class; lazily for a Dask array or frame.

        Parameters
        ----------
        X : Dask array, Dask DataFrame, or array-like of shape (n_samples, n_features)

        Returns
        -------
        y_prob : Dask array or ndarray of shape (n_samples, n_classes)
        """
        return self._apply("predict_proba", X)

    def predict_log_proba(self, X: Any) -> Any:
        """Return the logarithm of the probability of each class, as `predict_proba`.

        Parameters
        ----------
        X : Dask array, Dask DataFrame, or array-like of shape (n_samples, n_features)

        Returns
        -------
        log_y_prob : Dask array or ndarray of shape (n_samples, n_classes)
        """
        return self._apply("predict_log_proba", X)
