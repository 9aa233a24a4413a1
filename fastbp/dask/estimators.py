"""The estimators that train one network over a Dask cluster: parameters, `fit`, lazy predictions.

What they know is what the ordinary estimator knows, made of the same parameters; how it is trained
is the business of `rounds`.
"""

import inspect
import time
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin, clone
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from fastbp.dask.partitions import apply, is_lazy, split, to_memory
from fastbp.dask.rounds import (
    ManyShards,
    count_pieces,
    fit_one,
    look_at_all,
    refuse_for_many,
)
from fastbp.dask.shards import Job
from fastbp.dask.team import Team, find_client
from fastbp.descriptions import BOOLEAN, NONE, is_allowed, number_rule, refusal
from fastbp.estimators.base_parameters import BaseParameters
from fastbp.estimators.classifier import BackpropClassifier
from fastbp.estimators.regressor import BackpropRegressor
from fastbp.messages import explains_its_arguments
from fastbp.optimizers import is_full_batch, optimizer_for
from fastbp.schedules import schedule_for

# The parameters that they have besides those of the ordinary estimator: defaults and rules.
OWN = {"client": None, "n_shards": None, "average_every": 1, "scale_learning_rate": True,
       "outer_momentum": 0.0, "timeout": 600.0}  # fmt: skip
_COUNT = number_rule(Integral, "[", 1, np.inf, ")")
RULES = {
    "n_shards": (_COUNT, NONE),
    "average_every": (_COUNT, number_rule(Real, "(", 0.0, 1.0, "]")),
    "scale_learning_rate": (BOOLEAN,),
    "outer_momentum": (number_rule(Real, "[", 0.0, 1.0, ")"),),
    "timeout": (number_rule(Real, "(", 0.0, np.inf, ")"),),
}


def _takes_parameters_of(ordinary):
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


class DaskBackprop(BaseParameters):
    """What both estimators share."""

    _ordinary: Any
    coefs_: list
    intercepts_: list
    loss_curve_: list
    n_iter_: int
    n_features_in_: int
    n_shards_: int
    client: Any
    n_shards: int | None
    average_every: int
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

    def _ordinary_parameters(self):
        return {name: getattr(self, name) for name in self._get_param_names() if name not in OWN}

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, X_val: Any = None, y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> Self:  # fmt: skip
        """Train one network on all partitions.

        Parameters
        ----------
        X : Dask array of shape (n_samples, n_features) or Dask DataFrame
        y : Dask array, Series or DataFrame
            With the partitions of X.
        sample_weight : Dask array or Series of shape (n_samples,), default=None
        X_val, y_val, sample_weight_val : array-like, default=None
            Validation data in memory, as for the ordinary estimator; measured after each average.

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
        local, settings, schedule = self._check()
        validation = X_val, y_val, sample_weight_val
        for name, value in zip(("X_val", "y_val", "sample_weight_val"), validation, strict=True):
            if is_lazy(value):
                raise TypeError(
                    f"{name} must be an array in memory, not a Dask collection: call .compute() on "
                    "a part that fits."
                )
        if (X_val is None) != (y_val is None):
            raise ValueError("X_val and y_val go together: give both, or none.")
        partitions = split(X, y, sample_weight)
        client = find_client(self.client, self.timeout)
        team = Team(client, partitions, self.n_shards, self.timeout)
        n_shards = len(team.groups)
        if n_shards > 1:
            refuse_for_many(local, settings, schedule, validation)
        seed = settings.random_state
        if not isinstance(seed, Integral):
            seed = int(check_random_state(seed).randint(2**31))
            local.set_params(random_state=seed)
        scale = float(n_shards) if self.scale_learning_rate else 1.0
        job = Job(local, int(seed), n_shards, scale, validation=validation)
        try:
            if n_shards == 1:
                found = fit_one(team, job, max(1, int(self.average_every)))
            else:
                deadline = None if settings.max_time is None else begun + settings.max_time
                found = self._fit_many(team, job, settings, deadline)
        finally:
            team.close()
        parameters = {name: getattr(self, name) for name in self._get_param_names()}
        self.__dict__.clear()
        self.__dict__.update(parameters | found | {"n_shards_": n_shards})
        return self

    def _fit_many(self, team, job, settings, deadline):
        """Train on several shards; return fitted attributes."""
        look = look_at_all(team, job)
        n_pieces = count_pieces(self.average_every, settings, look.rows)
        job = replace(job, found=look.found, n_pieces=n_pieces)
        every = max(1, int(self.average_every))
        return ManyShards(team, job, settings, every, self.outer_momentum, deadline).fit()

    def _check(self):
        """Check all parameters; return the ordinary estimator, its settings and its schedule."""
        for name, rules in RULES.items():
            if not is_allowed(getattr(self, name), rules):
                title = f"{name!r} parameter of {type(self).__name__}"
                raise refusal(title, getattr(self, name), rules)
        local = clone(self._ordinary(**self._ordinary_parameters()))
        settings = local._check_parameters()
        if is_full_batch(settings.solver):
            raise ValueError(
                f"solver={settings.solver!r} works on all rows at once: use 'adam' or another "
                "solver of minibatches."
            )
        if settings.warm_start:
            raise ValueError(
                f"warm_start={settings.warm_start!r} is not for {type(self).__name__}: each fit "
                "starts again. to_local() gives an estimator that goes on."
            )
        schedule = schedule_for(
            settings.learning_rate, optimizer_for(settings.solver, settings), settings
        )
        return local, settings, schedule

    def to_local(self) -> Any:
        """Return the ordinary estimator with the same parameters and what was learned.

        Returns
        -------
        BackpropClassifier or BackpropRegressor
        """
        check_is_fitted(self, "coefs_")
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

    def _score(self, metric, X, y, sample_weight):
        found = to_memory(y, self.predict(X), sample_weight)
        return float(metric(found[0], found[1], sample_weight=found[2]))


@_takes_parameters_of(BackpropClassifier)
class DaskBackpropClassifier(ClassifierMixin, DaskBackprop):
    """A classifier that is trained over a Dask cluster, on Dask arrays and frames.

    Its rows are divided into `n_shards` fixed groups of neighbouring partitions, and each is
    trained as a fit of its own, with its own order of rows.  After every `average_every` epochs
    weights and optimiser state are averaged (local SGD), and all go on from there.  One shard is
    the ordinary fit, bit for bit.  The result depends on the partitions, `n_shards` and
    `random_state`, not on workers, their number or their fate (on processors of one instruction
    set).

    Parameters
    ----------
    *arguments, **parameters
        Those of :class:`~fastbp.BackpropClassifier`.  Not solver='lbfgs' and `warm_start`; on more
        than one shard `early_stopping` needs `X_val`, the learning rate must not follow a plateau,
        and `verbose` is silent.
    client : distributed.Client, default=None
        None is the one that was made last.  A pickle has none.
    n_shards : int, default=None
        None is the number of workers at the start, or of partitions where these are fewer.
    average_every : int, default=1
        Epochs between two averages.
    scale_learning_rate : bool, default=True
        Whether each shard steps at `n_shards` times the learning rate (Goyal et al. 2017): an epoch
        of all shards has as many times fewer steps, one after the other, than that of one. False
        where the rate is as large as it may be.
    outer_momentum : float, default=0.0
        Momentum of the averages from round to round (SlowMo), in [0, 1); not with one shard.
    timeout : float, default=600.0
        Seconds to wait while no task ends, of which a round has one for each shard.

    Attributes
    ----------
    n_shards_ : int
        Into how many the data were divided.
    classes_, coefs_, loss_curve_, ...
        Those of :class:`~fastbp.BackpropClassifier`. A loss is the mean over all rows; validation
        scores come once an average.

    References
    ----------
    Stich (2019), Local SGD converges fast and communicates little.
    McMahan et al. (2017), Communication-efficient learning of deep networks from decentralized
    data.
    Goyal et al. (2017), Accurate, large minibatch SGD: training ImageNet in 1 hour.
    Wang et al. (2020), SlowMo: Improving communication-efficient distributed SGD with slow
    momentum.

    Examples
    --------
    >>> import dask.array as da
    >>> from distributed import Client
    >>> from fastbp.dask import DaskBackpropClassifier
    >>> with Client(processes=False, dashboard_address=None) as client:  # doctest: +SKIP
    ...     X = da.random.normal(size=(10000, 20), chunks=(1000, 20))
    ...     clf = DaskBackpropClassifier((50,), client=client).fit(X, X[:, 0] > 0)
    ...     clf.predict(X)
    """

    __module__ = "fastbp.dask"

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

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy; predictions, not X, come into memory.

        Parameters
        ----------
        X, y, sample_weight : as for `fit`, or in memory

        Returns
        -------
        float
        """
        return self._score(accuracy_score, X, y, sample_weight)


@_takes_parameters_of(BackpropRegressor)
class DaskBackpropRegressor(RegressorMixin, DaskBackprop):
    """A regressor that is trained over a Dask cluster, on Dask arrays and frames.

    See :class:`~fastbp.dask.DaskBackpropClassifier` for how.

    Parameters
    ----------
    *arguments, **parameters
        Those of :class:`~fastbp.BackpropRegressor`, with the same exceptions.
    client, n_shards, average_every, scale_learning_rate, outer_momentum, timeout
        As for :class:`~fastbp.dask.DaskBackpropClassifier`.

    Attributes
    ----------
    n_shards_ : int
        Into how many the data were divided.
    coefs_, loss_curve_, ...
        Those of :class:`~fastbp.BackpropRegressor`.

    Notes
    -----
    `scale_targets` takes mean and spread of all rows, one shard after the other. The first output
    of 'absolute_error', 'huber' and 'quantile' is that of a sample of the targets.
    """

    __module__ = "fastbp.dask"

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return R2, whatever the loss; predictions, not X, come into memory.

        Parameters
        ----------
        X, y, sample_weight : as for `fit`, or in memory

        Returns
        -------
        float
        """
        return self._score(r2_score, X, y, sample_weight)
