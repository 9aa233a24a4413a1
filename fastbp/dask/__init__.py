"""One model over a Dask cluster (extra ``dask``): estimators that take Dask arrays and frames.

Dask is loaded with this module, and by nothing else in fastbp but on the workers of a search.
"""

try:
    import dask.array  # noqa: F401 - here it is said that it is missing
    import distributed  # noqa: F401
except ImportError as error:
    raise ImportError("fastbp.dask needs Dask. Install it: pip install 'fastbp[dask]'.") from error

from fastbp.dask.estimators import DaskBackpropClassifier, DaskBackpropRegressor
from fastbp.dask.tabular import DaskTabularClassifier, DaskTabularRegressor

__all__ = [
    "DaskBackpropClassifier",
    "DaskBackpropRegressor",
    "DaskTabularClassifier",
    "DaskTabularRegressor",
]
