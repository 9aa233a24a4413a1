"""A table's encoding, whole or made block by block: what the networks train on."""

import numpy as np

from fastbp.data.row_source import RowSource

LARGEST = 2**26  # bytes of an encoding that is kept whole; 16 000 rows of 1000 columns


class EncodedRows(RowSource):
    """Rows of a table's encoding that are made when they are needed.

    Parameters
    ----------
    encoder : TableEncoder
        Fitted.
    read : ReadTable
        The compact form of the table.
    """

    def __init__(self, encoder, read):
        self.encoder, self.read = encoder, read
        self.dtype, self.buffer = np.dtype(np.float32), None
        self.shape = (len(read), encoder._plan.n_outputs)

    def take(self, rows):
        """Encode some rows into a buffer that the next call uses again."""
        read = self.read[rows]
        if self.buffer is None or len(self.buffer) < len(read):
            self.buffer = np.empty((len(read), self.shape[1]), np.float32)
        out = self.buffer[: len(read)]
        self.encoder._encode(read, out)
        return out

    def __getitem__(self, rows):
        """Return the source of some rows, of a copy of their compact form."""
        return EncodedRows(self.encoder, self.read[rows])

    def view(self):
        """Return the same rows with a buffer of their own, for another thread."""
        return EncodedRows(self.encoder, self.read)


def encode_rows(encoder, read):
    """Encode a table, or return the source of its encoding where that is large."""
    if 4 * len(read) * encoder._plan.n_outputs <= LARGEST:
        return encoder._encode(read)
    return EncodedRows(encoder, read)
