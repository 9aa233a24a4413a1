"""A table's encoding as networks take it, whole or made block by block."""

import numpy as np

from fastbp.data.row_source import RowSource
from fastbp.tabular.runs import as_csr

LARGEST = 2**26  # bytes of an encoding that is kept whole; 140 000 rows of 20 columns
BYTES = 8  # of a value that is stored, and its place


class EncodedRows(RowSource):
    """Rows of a table's encoding that are made when they are needed.

    Parameters
    ----------
    plan : TablePlan
    read : ReadTable
        The compact form of the table.
    """

    is_sparse = True

    def __init__(self, plan, read):
        self.plan, self.read = plan, read
        self.dtype, self.shape = np.dtype(np.float32), (len(read), plan.n_outputs)

    def take(self, rows):
        """Encode some rows."""
        return as_csr(self.plan.runs.encode(self.read[rows]), self.shape[1])

    def __getitem__(self, rows):
        """Return the source of some rows, of a copy of their compact form."""
        return EncodedRows(self.plan, self.read[rows])

    def view(self):
        """Return the same rows, which any thread may take."""
        return self


def encode_rows(plan, read):
    """Encode a table, or return the source of its encoding where that is large."""
    if BYTES * len(read) * len(plan.runs.places) <= LARGEST:
        return as_csr(plan.runs.encode(read), plan.n_outputs)
    return EncodedRows(plan, read)
