"""Dask arrays and frames: into partitions for a fit, and through a fitted model without computing.

Here is what is known of Dask's collections; nothing of training, and no client.
"""

import dask
import dask.array as da
import numpy as np

from fastbp.messages import warn_user


def is_lazy(X):
    """Whether something is a Dask array or frame, not data in memory."""
    return dask.is_dask_collection(X)


def split(X, y, sample_weight=None):
    """Return the partitions of X, y and weights.

    Parameters
    ----------
    X : Dask array of shape (n_samples, n_features) or Dask DataFrame
    y : Dask array of shape (n_samples,) or (n_samples, n_outputs), Series or DataFrame
    sample_weight : Dask array or Series of shape (n_samples,), or None

    Returns
    -------
    list of tuple of Delayed
        X, y and weight (or None) of each.

    Raises
    ------
    TypeError, ValueError
        If they are no such collections, or of other partitions.
    """
    for name, value in (("X", X), ("y", y), ("sample_weight", sample_weight)):
        if not (name == "sample_weight" and value is None):
            _require_rows(name, value)
    _require_table(X)
    columns = [_one_chunk_of_columns(value) for value in (X, y, sample_weight)]
    parts = [_list(value, _chunks(columns[0])) for value in columns if value is not None]
    counts = [len(part) for part in parts]
    if len(set(counts)) > 1:
        raise ValueError(
            f"X, y and sample_weight must have the same partitions, but there are {counts}. "
            "Repartition them alike."
        )
    weights = parts[2] if len(parts) == 3 else [None] * counts[0]
    return list(zip(parts[0], parts[1], weights, strict=True))


def _require_rows(name, value):
    """Raise for what is no Dask array or frame; a bag or Delayed has neither shape nor dtype."""
    if is_lazy(value) and hasattr(value, "_meta") and hasattr(value, "to_delayed"):
        return
    hint = (
        "dask.array.from_delayed, dask.dataframe.from_delayed or to_dataframe make one of it."
        if is_lazy(value)
        else "Data in memory are for the ordinary estimator, or dask.array.from_array(data, "
        "chunks=...) makes a Dask array of them."
    )
    kind = type(value).__name__
    raise TypeError(f"{name} must be a Dask array or frame. Got {kind}. {hint}")


def _require_table(X):
    n_dimensions = getattr(X, "ndim", 0)
    if n_dimensions != 2:
        raise ValueError(f"X must have two dimensions, rows and features. Got {n_dimensions}.")


def _one_chunk_of_columns(value):
    """Return an array whose rows are whole in a chunk; anything else as it is."""
    if isinstance(value, da.Array) and value.ndim == 2 and value.numblocks[1] > 1:
        return value.rechunk({1: -1})
    return value


def _chunks(X):
    """Return how many rows the chunks of an array have; None where nobody knows."""
    if not isinstance(X, da.Array) or np.isnan(X.shape[0]):
        return None
    return X.chunks[0]


def _list(value, chunks):
    """Return the partitions, cut as X is where both know their rows."""
    if not isinstance(value, da.Array):
        return list(value.to_delayed())
    own = _chunks(value)
    if own is not None and chunks is not None and own != chunks:
        if sum(own) != sum(chunks):
            raise ValueError(f"X has {sum(chunks)} rows, but y or sample_weight has {sum(own)}.")
        value = value.rechunk({0: chunks})
    return value.to_delayed().ravel().tolist()


def apply(model, method, X):
    """Return a Dask array of what a method of a fitted model says of X, partition by partition.

    Parameters
    ----------
    model : fitted estimator
    method : str
    X : Dask array or DataFrame

    Returns
    -------
    dask.array.Array
        Not computed; the number of rows of a frame is unknown.
    """
    _require_rows("X", X)
    _require_table(X)
    example = np.asarray(getattr(model, method)(_example(model, X)))
    nothing = example[:0]
    held = dask.delayed(model)
    columns = (example.shape[1],) if example.ndim == 2 else ()
    if isinstance(X, da.Array):
        X = _one_chunk_of_columns(X)
        how = {"chunks": (X.chunks[0], columns)} if columns else {"drop_axis": 1}
        meta = np.empty((0,) * example.ndim, example.dtype)
        return X.map_blocks(
            _call, model=held, method=method, nothing=nothing, dtype=example.dtype, meta=meta, **how
        )  # fmt: skip
    made = [
        da.from_delayed(
            dask.delayed(_call)(part, model=held, method=method, nothing=nothing),
            (np.nan, *columns), dtype=example.dtype,
        )
        for part in X.to_delayed()
    ]  # fmt: skip
    return da.concatenate(made, allow_unknown_chunksizes=True)


def _call(X, *, model, method, nothing):
    """Return what a method says of some rows; of none, an empty array of the same form."""
    return getattr(model, method)(X) if X.shape[0] else nothing


def _example(model, X):
    """Return some rows such as X has.

    Columns of objects and of text may hold anything (dates, numbers as text), which their dtype
    does not say: a model of tables is shown a missing value there, others a number.
    """
    anything = None if hasattr(model, "encoder_") else 0
    if isinstance(X, da.Array):
        if X.dtype.kind in "OUS":
            return np.full((1, X.shape[1]), anything, object)
        return np.zeros((1, X.shape[1]), X.dtype)
    rows = X._meta_nonempty.copy()
    for column, kind in enumerate(rows.dtypes):
        if getattr(kind, "kind", "O") in "OUS" and kind.name != "category":
            rows.isetitem(column, np.full(len(rows), anything, object))
    return rows


def to_memory(*values):
    """Compute what is lazy: y, predictions and weights, which are small beside X."""
    return [None if value is None else np.asarray(dask.compute(value)[0]) for value in values]


def is_connected(client):
    """Whether a client has a scheduler now."""
    return getattr(client, "status", None) == "running"


def say(messages):
    """Warn of each once."""
    for message, category in dict.fromkeys(messages):
        warn_user(message, category)
