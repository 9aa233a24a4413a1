"""A Dask cluster for tests: two worker processes of one thread each."""

from contextlib import contextmanager

import pytest


@contextmanager
def open_client():
    """Yield a client of a new cluster, which ends with the block."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0",
            silence_logs=50,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):  # fmt: skip
        yield client
