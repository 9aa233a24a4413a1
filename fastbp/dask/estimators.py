"""`DaskBackpropClassifier` and `DaskBackpropRegressor`: one network over a Dask cluster."""

from dataclasses import replace

from sklearn.base import ClassifierMixin, RegressorMixin

from fastbp.dask.averages import scale_of_rate
from fastbp.dask.base import DaskEstimator, Probabilities, takes_parameters_of
from fastbp.dask.rounds import (
    ManyShards,
    count_pieces,
    fit_one,
    look_at_all,
    refuse_for_many,
)
from fastbp.dask.shards import Job
from fastbp.estimators.classifier import BackpropClassifier
from fastbp.estimators.regressor import BackpropRegressor
from fastbp.optimizers import is_full_batch, optimizer_for
from fastbp.schedules import schedule_for


class DaskBackprop(DaskEstimator):
    """What both estimators share."""

    _fitted_mark = "coefs_"
    coefs_: list
    intercepts_: list
    loss_curve_: list

    def _check(self):
        local, settings = super()._check()
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
        return local, settings

    def _train(self, fit):
        team, settings, n_shards = fit.team, fit.settings, len(fit.team.groups)
        seed = fit.local.random_state
        if n_shards == 1:
            job = Job(fit.local, seed, 1, validation=fit.validation)
            return fit_one(team, job, max(1, int(self.average_every)))
        schedule = schedule_for(
            settings.learning_rate, optimizer_for(settings.solver, settings), settings
        )
        refuse_for_many(fit.local, settings, schedule, fit.validation)
        scale = scale_of_rate(n_shards) if self.scale_learning_rate else 1.0
        job = Job(fit.local, seed, n_shards, scale, validation=fit.validation)
        look = look_at_all(team, job)
        n_pieces = count_pieces(self.average_every, settings, look.rows)
        job = replace(job, found=look.found, n_pieces=n_pieces)
        every = max(1, int(self.average_every))
        return ManyShards(team, job, settings, every, self.outer_momentum, fit.deadline).fit()


@takes_parameters_of(BackpropClassifier)
class DaskBackpropClassifier(ClassifierMixin, Probabilities, DaskBackprop):
    """A classifier that is trained over a Dask cluster, on Dask arrays and frames.

    Its rows are divided into `n_shards` fixed groups of neighbouring partitions, and each is
    trained as a fit of its own, with its own order of rows.  After every `average_every` epochs, or
    pieces of one, weights and optimiser state are averaged (local SGD), and all go on from there.
    One shard is the ordinary fit, bit for bit.  The result depends on the partitions, `n_shards`
    and `random_state`, not on workers, their number or their fate (on processors of one instruction
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
    average_every : int or float, default=1
        Epochs between two averages, a whole number; or 1/n of an epoch: 0.25 averages four times in
        each, after as many steps (but never more often than every step). Validation data are looked
        at after an average that ends an epoch: `validation_scores_` is NaN for the others.
    scale_learning_rate : bool, default=True
        Whether each shard steps at `n_shards` times the learning rate, at most 8 times (Goyal et
        al. 2017): an epoch of all shards has as many times fewer steps, one after the other, than
        that of one. False where the rate is as large as it may be.
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
        scores come once an average, and `best_iter_` is the epoch after which the best one came.

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

    score = DaskEstimator.score


@takes_parameters_of(BackpropRegressor)
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

    score = DaskEstimator.score
