"""`DaskTabularClassifier` and `DaskTabularRegressor`: ensembles on raw tables over a Dask cluster.

The ordinary estimator says what the networks are; they are trained one after the other, each over
all shards (`rounds`).  What is done to tables is in `tables`.
"""

import time
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state

from fastbp.dask.averages import scale_of_rate
from fastbp.dask.base import DaskEstimator, Probabilities, takes_parameters_of
from fastbp.dask.partitions import say
from fastbp.dask.rounds import ManyShards, count_pieces, fit_one, look_at_all
from fastbp.dask.shards import Job
from fastbp.dask.tables import (
    Recipe,
    draw_rows,
    encode,
    learn,
    prepare_alone,
    recipe_of,
)
from fastbp.tabular import TabularClassifier, TabularRegressor, recipe
from fastbp.tabular.base import MAX_SEED, encode_validation
from fastbp.tabular.encoder import TableEncoder
from fastbp.tabular.fits import OF_TRAINING, train_ensemble
from fastbp.tabular.streamed import ROWS_OF_SAMPLE
from fastbp.training.stopping import ASKED


class DaskTabular(DaskEstimator):
    """What both estimators share."""

    _fitted_mark = "networks_"
    encoder_: TableEncoder
    networks_: list[Any]

    def _check(self):
        local, _ = super()._check()
        return local, local._check_settings()

    def _train(self, fit):
        if len(fit.team.groups) == 1:
            found, train = self._prepare_alone(fit)
        else:
            found, train = self._prepare_many(fit)
        local, settings = fit.local, fit.settings
        continues = found.encoder._plan.runs.continues

        def make(part, seed, dropout):
            network = local._make_network(
                settings, None, seed, dropout, n_samples=found.n_trained[part],
                n_outputs=found.n_outputs, continues=continues,
            )  # fmt: skip
            network._parts = part
            return network

        dropouts = recipe.choose_dropouts(settings, classes=local._has_classes)
        parts = range(len(found.n_trained))
        networks = train_ensemble(make, train, parts, found.seeds, dropouts)
        say(found.said)
        local._take(found.encoder, networks, found.targets)
        return local._fitted_attributes()

    def _prepare_alone(self, fit):
        """Prepare the only shard as the ordinary estimator does."""
        team, seed = fit.team, fit.local.random_state
        team.change(prepare_alone, fit.local, Job(fit.local, seed, 1), fit.validation)
        found = team.run(lambda submit, shards: submit(recipe_of, shards[0]))
        every = max(1, int(self.average_every))

        def train_one(network):
            if fit.deadline is not None:
                network.max_time = max(fit.deadline - time.perf_counter(), 1e-3)
            job = Job(network, network.random_state, 1, parts=(1, network._parts, seed))
            return fit_one(team, job, every), False

        return found, partial(train_all, train_one, fit.deadline)

    def _prepare_many(self, fit):
        """Learn what all shards have together, and have their columns encoded."""
        team, local, settings, n_shards = fit.team, fit.local, fit.settings, len(fit.team.groups)
        random_state = check_random_state(local.random_state)
        job = Job(local._make_network(settings), local.random_state, n_shards)
        look = look_at_all(team, job, is_table=True)
        job = replace(job, found=look.found)
        found = self._learn(fit, job, look.rows, random_state)
        team.change(encode, job, found.encoder)
        validation = tuple(encode_validation(found.encoder, fit.validation).values())
        scale = scale_of_rate(n_shards) if self.scale_learning_rate else 1.0

        def train_one(network):
            parts = (settings.n_networks, network._parts, local.random_state)
            n_rows = found.n_trained[network._parts] // n_shards  # of each shard, which has the
            network.ema_decay = recipe.choose_ema_decay(n_rows, network.batch_size)  # fewer steps
            seed = network.random_state
            its = Job(
                network, seed, n_shards, scale, found=look.found, validation=validation,
                parts=parts if validation[0] is None else None,
                n_pieces=count_pieces(self.average_every, network, look.rows),
            )  # fmt: skip
            every = max(1, int(self.average_every))
            how = network._check_parameters()
            rounds = ManyShards(team, its, how, every, self.outer_momentum, fit.deadline)
            return rounds.fit(), rounds.end == ASKED

        return found, partial(train_all, train_one, fit.deadline)

    def _learn(self, fit, job, rows, random_state):
        """Have the encoding learned from a sample of all shards; return the recipe."""
        local, settings, look = fit.local, fit.settings, job.found
        if local._has_classes:
            local._refuse_multilabel(look.is_multilabel, "")
            targets = np.arange(len(look.classes), dtype=np.float64)[:, np.newaxis]
            n_outputs = len(look.classes)
        else:
            targets, n_outputs = np.stack([look.low, look.high]), len(look.low)
        encoder = local._make_encoder(
            settings, n_outputs > 1 and not local._has_classes, targets.max(), random_state
        )
        held, share = fit.team.hold(job), min(1.0, ROWS_OF_SAMPLE / sum(rows))

        def make(submit, shards):
            drawn = [
                submit(draw_rows, held, shard, int(np.ceil(n * share)))
                for shard, n in zip(shards, rows, strict=True)
            ]
            return submit(learn, held, encoder, drawn)

        encoder, kept = fit.team.run(make)
        n_networks, n_rows = settings.n_networks, sum(rows)
        if fit.validation[0] is None:  # what is held out, as `recipe.deal_rows` does
            n_rows -= n_rows // (5 if n_networks == 1 else n_networks)
        seeds = random_state.randint(MAX_SEED, size=n_networks).tolist()
        return Recipe(encoder, targets, n_outputs, [n_rows] * n_networks, seeds, kept)


def train_all(train_one, deadline, networks):
    """Train networks one after the other, while there is time; the first one always.

    Returns
    -------
    fitted : list of estimators
        After an interrupt those so far.
    stopped : bool
    """
    fitted: list[Any] = []
    for network in networks:
        if fitted and deadline is not None and time.perf_counter() >= deadline:
            break
        found, stopped = train_one(network)
        vars(network).update(found)
        for name in ("_parts", "_calibrates", *OF_TRAINING):
            vars(network).pop(name, None)
        fitted.append(network)
        if stopped:
            return fitted, True
    return fitted, False


@takes_parameters_of(TabularClassifier)
class DaskTabularClassifier(ClassifierMixin, Probabilities, DaskTabular):
    """A classifier of raw tables that is trained over a Dask cluster, on Dask frames and arrays.

    It is the ensemble of :class:`~fastbp.TabularClassifier`.  Its networks are trained one after
    the other, each over all shards as :class:`~fastbp.dask.DaskBackpropClassifier` trains its one.
    The encoding is learned from a random sample of 65536 rows, of all shards in proportion (of a
    smaller table from all rows); target means of categories are not cross-fitted there.  Each
    shard deals its own rows into parts, and each network holds one part of every shard out; on
    several shards networks are not calibrated.  One shard is the ordinary fit, bit for bit, and its
    encoding that of all rows.

    Parameters
    ----------
    *arguments, **parameters
        Those of :class:`~fastbp.TabularClassifier`.  `verbose` is silent; "auto" chooses by the
        rows of all shards; between shards a `scoring` is the mean over rows that were held out.
    client, n_shards, average_every, scale_learning_rate, outer_momentum, timeout
        As for :class:`~fastbp.dask.DaskBackpropClassifier`.

    Attributes
    ----------
    n_shards_ : int
        Into how many the data were divided.
    encoder_, networks_, classes_, ...
        Those of :class:`~fastbp.TabularClassifier`.

    See Also
    --------
    DaskTabularRegressor : The same for real numbers.

    Examples
    --------
    >>> import dask.dataframe as dd
    >>> from fastbp.dask import DaskTabularClassifier
    >>> frame = dd.read_parquet("sales/")  # doctest: +SKIP
    >>> clf = DaskTabularClassifier().fit(frame[["price", "city"]], frame["sold"])  # doctest: +SKIP
    >>> clf.to_local()  # doctest: +SKIP
    TabularClassifier()
    """

    __module__ = "fastbp.dask"

    score = DaskEstimator.score


@takes_parameters_of(TabularRegressor)
class DaskTabularRegressor(RegressorMixin, DaskTabular):
    """A regressor on raw tables that is trained over a Dask cluster, on Dask frames and arrays.

    See :class:`~fastbp.dask.DaskTabularClassifier` for how.

    Parameters
    ----------
    *arguments, **parameters
        Those of :class:`~fastbp.TabularRegressor`, with the same exceptions.
    client, n_shards, average_every, scale_learning_rate, outer_momentum, timeout
        As for :class:`~fastbp.dask.DaskBackpropClassifier`.

    Attributes
    ----------
    n_shards_ : int
        Into how many the data were divided.
    encoder_, networks_, n_outputs_, ...
        Those of :class:`~fastbp.TabularRegressor`.

    See Also
    --------
    DaskTabularClassifier : The same for classes.
    """

    __module__ = "fastbp.dask"

    score = DaskEstimator.score
