"""One model over a Dask cluster (extra ``dask``): estimators that take Dask arrays and frames.

Dask is loaded with this module, and by nothing else in fastbp that runs on the user's side.
"""

try:
    import dask.array
    import distributed  # noqa: F401 - said here if it is missing
except ImportError as error:
    raise ImportError("fastbp.dask needs Dask. Install it: pip install 'fastbp[dask]'.") from error

from fastbp.dask.estimators import DaskBackpropClassifier, DaskBackpropRegressor

__all__ = ["DaskBackpropClassifier", "DaskBackpropRegressor"]
