"""A shard of the data on a worker: put together from partitions, and looked at before training.

Each function is a task of its arguments alone, so that Dask may run it again, on any worker.  No
Dask here, and no training, which is in `tasks`.
"""

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import numpy as np
import scipy.sparse
from sklearn import config_context, get_config
from sklearn.base import clone, is_classifier

from fastbp.data.features import check_features
from fastbp.data.held_out import NOTHING
from fastbp.data.weights import as_numbers, check_sample_weight
from fastbp.engine import get_engine
from fastbp.messages import keep_warnings
from fastbp.streams.summary import LabelCounts, NumberSums
from fastbp.versions import __version__


@dataclass
class Shard:
    """A fixed group of partitions, as arrays or a frame.

    Attributes
    ----------
    number : int
    name : str
        What errors call it.
    X, y, sample_weight : as for `fit`
    n_rows : int
    opened : dict
        What training in this process has made of them, so that a round need not check and convert
        them again: it holds nothing that cannot be made anew, and is never sent.
    """

    number: int
    name: str
    X: Any
    y: Any
    sample_weight: Any
    n_rows: int
    opened: dict = field(default_factory=dict)

    def __getstate__(self):
        return vars(self) | {"opened": {}}


@dataclass
class Job:
    """What stays the same from the first task to the last.

    Attributes
    ----------
    estimator : BackpropClassifier or BackpropRegressor
        Not fitted.
    seed : int
    n_shards : int
    scale : float
        Times `learning_rate_init`.
    n_pieces : int
        Into how many an epoch of each shard is cut, one for a round.
    found : LabelCounts, NumberSums or None
        Classes or mean and spread over all shards; None while it is looked for, and for one shard.
    validation : tuple of X_val, y_val, sample_weight_val
    parts : tuple of int or None
        Into how many parts the rows of each shard are dealt, which one is held out, and the seed of
        the dealing.
    key : str
        Of what shards keep open for this job.
    """

    estimator: Any
    seed: int
    n_shards: int
    scale: float = 1.0
    n_pieces: int = 1
    found: Any = None
    validation: tuple = NOTHING
    parts: tuple | None = None
    key: str = field(default_factory=lambda: uuid4().hex)
    version: str = __version__

    def __post_init__(self):
        self.config = get_config()

    @contextmanager
    def open(self, shard=None):
        """Compute as on the user's side; yield a list that gets the warnings."""
        if self.version != __version__:
            raise RuntimeError(
                f"The worker has fastbp {__version__}, the data come from fastbp {self.version}: "
                "install the same on all."
            )
        kept = []
        try:
            with config_context(**self.config), keep_warnings(kept):
                yield kept
        except Exception as error:
            if shard is not None:
                error.add_note(f"This is about {shard.name}.")
            raise


# ------------------------------------------------------------------------- the data


class PartitionError(ValueError):
    """The partitions of a shard are there, but do not fit together."""


def join(number, name, first, parts):
    """Put partitions together: the task that makes a shard.

    Parameters
    ----------
    number : int
    name : str
    first : int
        Number of the first partition.
    parts : list of tuple of X, y and sample_weight or None
    """
    for k, (X, y, weight) in enumerate(parts):
        lengths = [len(y), *([] if weight is None else [len(weight)])]
        if any(length != X.shape[0] for length in lengths):
            raise PartitionError(
                f"Partition {first + k} has {X.shape[0]} rows of X, but {lengths[0]} of y"
                + (f" and {lengths[1]} of sample_weight" if len(lengths) > 1 else "")
                + ". Give X, y and sample_weight the same partitions."
            )
    parts = [part for part in parts if part[0].shape[0]]
    if not parts:
        raise PartitionError(
            f"There is not a single row in {name}. Repartition the data, or use a smaller n_shards."
        )
    X, y, weight = (
        None if pieces[0] is None else concatenate(pieces) for pieces in zip(*parts, strict=True)
    )
    if y.ndim == 2 and y.shape[1] == 1:
        y = y.iloc[:, 0] if hasattr(y, "iloc") else y[:, 0]
    return Shard(number, name, X, y, weight, X.shape[0])


def concatenate(pieces):
    """Put the rows of arrays, sparse matrices, frames or series one below the other."""
    if len(pieces) == 1:
        return pieces[0]
    if scipy.sparse.issparse(pieces[0]):
        return scipy.sparse.vstack(pieces, format="csr")
    if hasattr(pieces[0], "iloc"):
        import pandas as pd

        return pd.concat(pieces)
    arrays = [np.asarray(piece) for piece in pieces]
    kinds = {array.dtype.kind in "US" for array in arrays}
    if len(kinds) > 1 and all(array.dtype.kind != "O" for array in arrays):
        raise PartitionError(  # NumPy would write the numbers as text
            "Partitions must hold one type, text or numbers. Got "
            f"{' and '.join(sorted({str(array.dtype) for array in arrays}))}."
        )
    return np.concatenate(arrays)


@dataclass
class Look:
    """What is seen of some shards before training.

    Attributes
    ----------
    found : LabelCounts or NumberSums
        Classes and how often they occur, or mean and spread of the targets.
    rows, widths : list of int
        Rows and features of each shard.
    """

    found: Any
    rows: list
    widths: list

    def merge(self, other):
        """Take what was seen of the shards that follow."""
        self.found.merge(other.found)
        self.rows, self.widths = self.rows + other.rows, self.widths + other.widths


def look(job, shard, *, is_table=False):
    """Look at one shard: y, and the form of X where it is to be numbers."""
    with job.open(shard):
        estimator = clone(job.estimator)
        y, weight = shard.y, shard.sample_weight
        y = y.to_numpy() if hasattr(y, "to_numpy") else np.asarray(y)
        weight = None if weight is None else as_numbers(weight)
        if weight is not None and not np.any(weight):
            raise ValueError(
                f"All rows of {shard.name} have weight 0, and a shard trains on rows that count. "
                "Leave such rows out, repartition the data, or use a smaller n_shards."
            )
        weight = check_sample_weight(estimator, weight, shard.n_rows, np.float64)
        if not is_table:
            engine = get_engine(estimator.engine)
            check_features(estimator, shard.X, estimator._training_dtype, engine, reset=True)
        found = LabelCounts(estimator) if is_classifier(estimator) else NumberSums(estimator)
        found.add(y, weight)
        return Look(found, [shard.n_rows], [shard.X.shape[1]])
