"""Predictions for a source, written as they come: to an array or a Parquet file."""

import math
import os
from copy import copy
from importlib.util import find_spec
from typing import Any

import numpy as np
import scipy.sparse
from sklearn.exceptions import NotFittedError

from fastbp.streams.rows import SourceError, is_arrow
from fastbp.streams.source import Source, refuse_other_names

METHODS = ("predict", "predict_proba", "predict_log_proba", "transform")


def predict_stream(model: Any, source: Source, out: Any = None, *, method: str = "predict") -> Any:
    """Predict the rows of a source, block by block.

    Parameters
    ----------
    model : fitted estimator
        Of fastbp's or another with the method.
    source : Source
        y is not read.
    out : array to write to, path of a .parquet or .npy file, or None, default=None
        An array has a shape and takes slices, such as an h5py Dataset or an np.memmap of shape
        (n_rows,) or (n_rows, n_columns).  A Parquet file (needs pyarrow) gets a column
        ``prediction``, or one for each class or output; a file that exists is replaced once all is
        written.  None makes an array in memory.
    method : {"predict", "predict_proba", "predict_log_proba", "transform"}, default="predict"

    Returns
    -------
    ndarray, or `out`
        In the order of the rows.

    Raises
    ------
    SourceError
        For data that cannot be read.
    ValueError
        If `out` is too short, or its shape or dtype does not hold the predictions.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import BackpropRegressor
    >>> from fastbp.streams import from_arrays, predict_stream
    >>> X = np.linspace(0, 1, 100)[:, np.newaxis]
    >>> net = BackpropRegressor(solver="lbfgs", tol=1e-3, random_state=0).fit(X, X[:, 0])
    >>> print(predict_stream(net, from_arrays(X))[::33].round(1))
    [0.  0.3 0.7 1. ]
    """
    if method not in METHODS or not hasattr(model, method):
        raise ValueError(
            f"method must be one of {', '.join(METHODS)} and of {type(model).__name__}. Got "
            f"{method!r}."
        )
    if not isinstance(source, Source):
        raise TypeError(
            f"source must be a source, such as from_arrays(X). Got {type(source).__name__}."
        )
    blocks = _predictions(model, source, method)
    if isinstance(out, str | os.PathLike):
        path = os.fspath(out)
        if path.endswith(".npy"):
            return _write_npy(path, blocks)
        if not path.endswith(".parquet"):
            raise ValueError(f"out must be the path of a .parquet or .npy file. Got {path!r}.")
        return _write_parquet(path, blocks, _names_of(model, method))
    if out is None:
        found = list(blocks)
        if not found:
            raise ValueError("The source has no rows.")
        return np.concatenate(found)
    return _write_into(out, blocks, source)


def _predictions(model, source, method):
    """Yield the predictions of one block after the other."""
    names, is_ensemble = getattr(model, "feature_names_in_", None), hasattr(model, "networks_")
    is_ours = type(model).__module__.startswith("fastbp") and not is_ensemble
    if is_ours and names is not None:  # compared here, so that blocks are arrays of numbers
        model = copy(model)
        vars(model).pop("feature_names_in_")
    for batch in source._batches():
        if is_arrow(batch.X) and names is not None:
            batch.X = _pick_columns(batch.X, list(names))
        else:
            refuse_other_names(source, names)
        X = batch.X
        if is_ours:
            X = source.matrix(batch)
        elif is_arrow(X) and not is_ensemble:
            X = (
                X.to_pandas()
                if names is not None and find_spec("pandas")
                else (source._for_users(batch))
            )
        try:
            made = getattr(model, method)(X)
        except NotFittedError:
            raise
        except ValueError as error:  # of the rows, most likely: say which
            values = X if isinstance(X, np.ndarray) else None
            if values is not None and values.dtype.kind == "f" and not np.isfinite(values).all():
                source.refuse_numbers(batch, values)
            raise SourceError(f"In {batch.place()}: {error}") from error
        yield made.toarray() if scipy.sparse.issparse(made) else np.asarray(made)


def _pick_columns(table, names):
    """Return the columns that a model has learned, in their order."""
    if table.schema.names == names:
        return table
    lacking = [name for name in names if name not in table.schema.names]
    if lacking:
        raise ValueError(
            f"The source lacks columns that the model was fitted with: {', '.join(lacking)}."
        )
    return table.select(names)


def _write_into(out, blocks, source):
    """Write into an array of the user's."""
    if source.n_rows is not None and out.shape[0] < source.n_rows:
        raise ValueError(f"out has {out.shape[0]} rows, the source has {source.n_rows}.")
    first = 0
    for block in blocks:
        block = _in_dtype(np.dtype(out.dtype), block)
        if block.size != block.shape[0] * math.prod(out.shape[1:]):
            shape = ", ".join(map(str, ("n_rows", *block.shape[1:])))
            raise ValueError(f"out has shape {out.shape}, the predictions have ({shape}).")
        if first + len(block) > out.shape[0]:
            raise ValueError(f"out has {out.shape[0]} rows, the source has more.")
        out[first : first + len(block)] = block.reshape(len(block), *out.shape[1:])
        first += len(block)
    return out


def _in_dtype(dtype, block):
    """Return predictions in the dtype of an array; floats may be rounded, nothing is cut off."""
    made, kinds = block, block.dtype.kind + dtype.kind
    if kinds in ("ff", "fc"):
        with np.errstate(over="ignore"):
            made = block.astype(dtype)
        fits = bool((np.isfinite(made) == np.isfinite(block)).all())
    elif kinds[0] in "iub" and kinds[1] in "iubfc":
        made = block.astype(dtype)
        fits = bool((made == block).all())
    else:
        fits = np.can_cast(block.dtype, dtype, "safe")
    if not fits:
        raise ValueError(
            f"out has dtype {dtype}, which cannot hold these predictions of {block.dtype}."
        )
    return made


def _write_npy(path, blocks):
    """Write a .npy file, whose header is known when all was written."""
    part, n_rows, dtype, shape = f"{path}.part", 0, None, ()
    header = 128
    try:
        with open(part, "wb") as file:
            file.write(b"\0" * header)
            for block in blocks:
                dtype, shape = dtype or block.dtype, block.shape[1:]
                file.write(np.ascontiguousarray(block, dtype).tobytes())
                n_rows += len(block)
            file.seek(0)
            described = repr({
                "descr": np.lib.format.dtype_to_descr(np.dtype(dtype)),
                "fortran_order": False,
                "shape": (n_rows, *shape),
            })  # fmt: skip
            file.write(b"\x93NUMPY\x01\x00" + (header - 10).to_bytes(2, "little"))
            file.write(described.encode().ljust(header - 11) + b"\n")
        os.replace(part, path)
    except BaseException:
        if os.path.exists(part):
            os.remove(part)
        raise
    return path


def _names_of(model, method):
    """Return names of the columns of predictions, or None."""
    if method in ("predict_proba", "predict_log_proba"):
        return [f"{method.removeprefix('predict_')}_{label}" for label in model.classes_]
    return None


def _write_parquet(path, blocks, names):
    """Write a Parquet file, row group by row group; it has its name once it is whole."""
    from fastbp.streams.parquet import load_arrow

    pa, _, parquet = load_arrow()
    part, writer = f"{path}.part", None
    try:
        for block in blocks:
            columns = block.reshape(len(block), -1).T
            known = names or ["prediction"]
            if len(columns) != len(known):
                known = [f"prediction_{k}" for k in range(len(columns))]
            table = pa.table(dict(zip(known, map(np.ascontiguousarray, columns), strict=True)))
            writer = writer or parquet.ParquetWriter(part, table.schema)
            writer.write_table(table)
        if writer is None:
            raise ValueError("The source has no rows.")
        writer.close()
        os.replace(part, path)
    except BaseException:
        if writer is not None:
            writer.close()
        if os.path.exists(part):
            os.remove(part)
        raise
    return path
