"""The same encoding as few numbers: what networks train on, and predict with.

The pieces of a column, 1 1 1 0.3 0 0, say no more than that its value is at 0.3 of the fourth bin.
Networks of members take them as a run of features (`fastbp.engine.contract.Session`: `continues`),
of which two are stored: 0.7 at the third and 0.3 at the fourth.  Weights, steps and predictions are
those of the whole encoding, for a third to a half of the time.  So this is CSR of the outputs of
`TablePlan.encode`, in their order, and nothing else may learn from it as it is.
"""

from types import SimpleNamespace

import numpy as np
import scipy.sparse

FEW_ROWS = 32  # below, comparing with all knots costs less than a search for each column


class RunsPlan:
    """How the rows of a table become CSR.

    Parameters
    ----------
    plan : TablePlan
        Without hat functions.

    Attributes
    ----------
    continues : uint8 ndarray of shape (n_outputs,)
        Which outputs continue the run of the one before: the pieces of a column but for its first.
    """

    def __init__(self, plan):
        numbers, levels = plan.numbers, plan.levels
        self.plan, n = plan, numbers.n_scaled
        self.columns, starts, n_pieces = np.unique(
            numbers.source, return_index=True, return_counts=True
        )
        self.first_piece = starts.astype(np.int32)  # of each column
        self.first = n + self.first_piece  # its place among the outputs
        self.last_bin = (n_pieces - 1).astype(np.int32)
        self.starts = starts + np.arange(len(starts))  # of each column's knots among all
        self.knots = [numbers.fits[i].knots * numbers.fits[i].factor for i in self.columns.tolist()]
        self.all_knots = np.concatenate([np.zeros(0), *self.knots])
        self.of_knot = np.repeat(self.columns, n_pieces + 1)
        self.continues = np.zeros(plan.n_outputs, np.uint8)
        self.continues[n : n + numbers.n_pieces] = 1
        self.continues[self.first] = 0
        missing = n + numbers.n_pieces + np.arange(numbers.n_missing)
        values = n + numbers.n_pieces + numbers.n_missing + numbers.first_values
        indicators = np.full(len(levels.fits), numbers.n_outputs)
        targets = numbers.n_outputs + levels.n_indicators + np.arange(levels.n_targets)
        pieces = np.repeat(self.first, 2)
        parts = [np.arange(n), pieces, missing, values, indicators, targets]
        self.places = np.concatenate(parts).astype(np.int32)  # of what a row stores, at least
        self.ends = np.cumsum([len(part) for part in parts]).tolist()

    def encode(self, read):
        """Encode a `ReadTable`.

        Returns
        -------
        data : float32 ndarray
        indices, indptr : int32 or int64 ndarray
            Of CSR; indices ascend within a row.
        """
        numbers, levels = self.plan.numbers, self.plan.levels
        n_rows, (n, pieces, missing, shown, indicators, _) = len(read), self.ends
        values = np.empty((n_rows, len(self.places)), np.float32)
        places = np.empty(values.shape, np.int32)
        places[:] = self.places
        if numbers.n_outputs:
            block, is_missing = numbers.fill(read.numbers)
            with np.errstate(over="ignore", under="ignore", invalid="ignore"):
                values[:, :n] = numbers.scale(block)
                self._find_pieces(block, values[:, n:pieces], places[:, n:pieces])
            if numbers.n_values:
                self._find_values(block, values[:, missing:shown], places[:, missing:shown])
            if is_missing is not None:
                values[:, :pieces][np.isnan(values[:, :pieces])] = 0
                values[:, pieces:missing] = is_missing.take(numbers.missing_source, axis=1)
            else:
                values[:, pieces:missing] = 0
        if levels.n_outputs:
            found = levels.find_places(read.codes)
            values[:, shown:indicators] = found >= 0
            places[:, shown:indicators] += np.maximum(found, 0).astype(np.int32)
            levels.write_targets(read.codes, read.targets, values[:, indicators:])
        if n_rows < FEW_ROWS:  # storing zeros, too, costs less than leaving them out
            indptr = np.arange(0, values.size + 1, len(self.places), dtype=np.int32)
            return values.ravel(), places.ravel(), indptr
        stored = values != 0
        indptr = np.zeros(n_rows + 1, np.int64)
        np.cumsum(np.count_nonzero(stored, axis=1), out=indptr[1:])
        if indptr[-1] < 2**31:
            indptr = indptr.astype(np.int32)
        return values[stored], places[stored].astype(indptr.dtype, copy=False), indptr

    def _find_pieces(self, block, values, places):
        """Write for each column how far a value is in its bin, and the rest to the bin before."""
        numbers = self.plan.numbers
        if not len(self.columns):
            return
        if len(block) < FEW_ROWS:
            reached = block.take(self.of_knot, axis=1) >= self.all_knots
            bins = np.add.reduceat(reached, self.starts, axis=1, dtype=np.int32)
        else:
            bins = np.empty((len(block), len(self.columns)), np.int32)
            for k, (i, knots) in enumerate(zip(self.columns.tolist(), self.knots, strict=True)):
                bins[:, k] = knots.searchsorted(block[:, i], "right")
        bins -= 1
        np.maximum(bins, 0, out=bins)
        np.minimum(bins, self.last_bin, out=bins)
        places[:, 1::2] += bins
        is_later = bins > 0
        places[:, ::2] += bins - is_later
        bins += self.first_piece
        share = block.take(self.columns, axis=1)
        share -= numbers.low.take(bins)
        share *= numbers.per_width.take(bins)
        np.minimum(np.maximum(share, 0, out=share), 1, out=share)
        values[:, 1::2] = share
        np.subtract(1, share, out=share)
        share *= is_later
        values[:, ::2] = share

    def _find_values(self, block, values, places):
        """Write for each column of amounts the indicator that is 1, or 0 to its first."""
        numbers = self.plan.numbers
        for k, (i, points) in enumerate(zip(numbers.shows_values, numbers.points, strict=True)):
            column = block[:, i]
            found = np.minimum(points.searchsorted(column), len(points) - 1)
            is_found = points.take(found) == column
            values[:, k] = is_found
            places[:, k] += (found * is_found).astype(np.int32)


def as_csr(parts, n_columns):
    """Return what `RunsPlan.encode` made as a CSR array of SciPy."""
    data, indices, indptr = parts
    return scipy.sparse.csr_array((data, indices, indptr), shape=(len(indptr) - 1, n_columns))


def as_rows(parts, n_columns):
    """Return the same as an engine reads it: SciPy's arrays cost as much as a row's prediction."""
    data, indices, indptr = parts
    shape = (len(indptr) - 1, n_columns)
    return SimpleNamespace(data=data, indices=indices, indptr=indptr, format="csr", shape=shape)
