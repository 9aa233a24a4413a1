"""What a fitted transformer makes of a source, block by block."""

import numpy as np
import scipy.sparse
from sklearn.utils.validation import check_is_fitted

from fastbp.streams.source import Source, is_arrow


class TransformedSource(Source):
    """Rows that a transformer has changed.

    Parameters
    ----------
    source : Source
    transformer : fitted estimator with `transform`
    """

    def __init__(self, source, transformer):
        if not hasattr(transformer, "transform"):
            raise TypeError(
                f"through() takes a fitted transformer, got {type(transformer).__name__}."
            )
        check_is_fitted(transformer)
        self.source, self.transformer = source, transformer
        for name in ("has_y", "has_weight", "takes_turns", "memory_limit", "window"):
            setattr(self, name, getattr(source, name))
        self.parts = source.parts
        first = next(source._batches())[:16]
        made = self._transform(first)
        self.is_sparse = scipy.sparse.issparse(made)
        self.n_features, self.dtype = int(made.shape[1]), np.dtype(made.dtype)
        names = getattr(transformer, "get_feature_names_out", lambda: None)
        try:
            found = names()
        except (ValueError, AttributeError):
            found = None
        self.feature_names = None if found is None else list(map(str, found))
        made_row = self.n_features * self.dtype.itemsize
        if self.is_sparse:
            made_row = made.nnz / made.shape[0] * (made.dtype.itemsize + 4)
        self.bytes_per_row = max(source.bytes_per_row, float(made_row))

    def _transform(self, batch):
        """Return an array or CSR of what the transformer makes of some rows."""
        X = batch.X
        if is_arrow(X):
            named = hasattr(self.transformer, "feature_names_in_")
            X = X.to_pandas() if named and _has_pandas() else self.source._for_users(batch)
        made = self.transformer.transform(X)
        return made if scipy.sparse.issparse(made) else np.asarray(made)

    def _read(self, part, n_rows, *, targets_only=False):
        n_rows = min(n_rows, self.rows_per_batch())
        for batch in self.source._read(part, n_rows, targets_only=targets_only):
            if not targets_only and len(batch):
                batch.X = self._transform(batch)
            yield batch

    def _identity(self):
        return [super()._identity(), self.source._identity(), repr(self.transformer)]


def _has_pandas():
    from importlib.util import find_spec

    return find_spec("pandas") is not None
