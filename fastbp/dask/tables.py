"""The tasks of tables: rows to learn an encoding from, and shards whose columns are encoded.

Many shards share an encoding that one worker learns from a random sample of the rows of all; the
only shard of a fit is prepared as the ordinary estimator prepares its table.  No Dask here.
"""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from fastbp.dask.shards import Shard, concatenate
from fastbp.data.held_out import NOTHING
from fastbp.messages import keep_warnings
from fastbp.streams.summary import LabelCounts
from fastbp.tabular.base import MAX_SEED
from fastbp.tabular.rows import encode_rows
from fastbp.tabular.streamed import fit_encoder
from fastbp.training.randomness import derive_seed


@dataclass
class Recipe:
    """What the networks of a fit are made with.

    Attributes
    ----------
    encoder : TableEncoder
        Fitted.
    targets : ndarray of shape (n, n_targets)
        With the range of all.
    n_outputs : int
    n_trained : list of int
        Rows that each network is trained on.
    seeds : list of int
        Of the networks.
    said : list
        Warnings.
    """

    encoder: Any
    targets: np.ndarray
    n_outputs: int
    n_trained: list
    seeds: list
    said: list


# ------------------------------------------------------------------------- one of many shards


def draw_rows(job, shard, n_rows):
    """Return X, y and weights of so many rows of a shard, drawn at random; of all that it has."""
    with job.open(shard):
        if n_rows >= shard.n_rows:
            return shard.X, shard.y, shard.sample_weight
        draws = np.random.RandomState(derive_seed(job.seed, shard.number))
        rows = np.sort(draws.permutation(shard.n_rows)[:n_rows])
        return tuple(
            None if part is None else part.iloc[rows] if hasattr(part, "iloc") else part[rows]
            for part in (shard.X, shard.y, shard.sample_weight)
        )


def learn(job, encoder, samples):
    """Fit an encoder on the rows that were drawn of all shards.

    Parameters
    ----------
    job : Job
    encoder : TableEncoder
    samples : list of tuple of X, y and sample_weight or None

    Returns
    -------
    encoder : TableEncoder
        Fitted.
    kept : list of warnings
    """
    with job.open() as kept:
        X, y, weight = (
            None if parts[0] is None else concatenate(parts) for parts in zip(*samples, strict=True)
        )
        as_column = partial(_as_column, job.found)
        weight = None if weight is None else np.asarray(weight, np.float64)
        fit_encoder(encoder, X, np.asarray(y), weight, as_column)
        return encoder, kept


def _as_column(found, y):
    """Return what the encoding of targets sees of y, or None."""
    if isinstance(found, LabelCounts):
        return np.searchsorted(found.classes, y.astype(found.classes.dtype))
    return y if y.ndim == 1 else None


def encode(shard, job, encoder):
    """Return a shard whose columns are encoded."""
    with job.open(shard):
        return replace(shard, X=encode_rows(encoder._plan, encoder._read(shard.X)), opened={})


# ------------------------------------------------------------------------- the only shard


@dataclass
class PreparedShard(Shard):
    """The only shard of a fit, as the networks of the ordinary estimator are trained on it.

    Attributes
    ----------
    parts : list of tuple of ndarray or None
        Rows to train on and rows to hold out, of each network.
    held_out : tuple of X_val, y_val, sample_weight_val
        Encoded, too.
    recipe : Recipe
    """

    parts: list = field(default_factory=list)
    held_out: tuple = NOTHING
    recipe: Recipe | None = None


def prepare_alone(shard, local, job, validation):
    """Return the only shard of a fit, encoded and with its rows dealt into parts."""
    said: list = []
    with job.open(), keep_warnings(said):
        random_state, settings = check_random_state(job.seed), local._check_settings()
        prepared = local._prepare_table(
            settings, shard.X, shard.y, shard.sample_weight, validation, random_state
        )
        parts, (Z, y, weight) = prepared.parts, prepared.data
        seeds = random_state.randint(MAX_SEED, size=len(parts)).tolist()
        n_trained = [len(y) if rows is None else len(rows[0]) for rows in parts]
    recipe = Recipe(prepared.encoder, prepared.targets, prepared.n_outputs, n_trained, seeds, said)
    return PreparedShard(
        shard.number, shard.name, Z, y, weight, shard.n_rows,
        parts=parts, held_out=tuple(prepared.held_out.values()), recipe=recipe,
    )  # fmt: skip


def recipe_of(shard):
    """Return what the networks of the only shard are made with."""
    return shard.recipe
