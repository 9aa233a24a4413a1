"""Data larger than memory: sources that `fit` reads in parts, and predictions as they come.

A source says how many rows there are, which columns, and where y and weights are; `fit(source)`
trains on it within a stated memory.
"""

from fastbp.streams.arrays import from_arrays, from_csr
from fastbp.streams.batches import from_batches
from fastbp.streams.parquet import from_parquet
from fastbp.streams.predictions import predict_stream
from fastbp.streams.rows import SourceError
from fastbp.streams.source import Source

__all__ = [
    "Source",
    "SourceError",
    "from_arrays",
    "from_batches",
    "from_csr",
    "from_parquet",
    "predict_stream",
]
