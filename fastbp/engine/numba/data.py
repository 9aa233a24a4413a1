"""What the jitted code is told: a network, its work memory, and where the caller's arrays are.

Arrays were checked before (`contract`).  Nothing is computed here.
"""

import numpy as np

from fastbp.engine.network import list_parts
from fastbp.engine.numba import blocks, kernels


def lay_out_network(layer_sizes, activations, params, n_members=None):
    """Describe a network on the flat vector `params` to the jitted code.

    Where the output layer of members is, `members.turn_to` says.
    """
    n_layers = len(layer_sizes) - 1
    parts = np.array(list_parts(layer_sizes, n_members), np.int64)
    parts[:, 1] -= parts[:, 0]
    loops = [
        None if entry.kernel == "identity" else kernels.activation_kernel(entry, params.dtype)
        for entry in activations
    ]
    return blocks.Network(
        sizes=np.array(layer_sizes, np.int64),
        weight_at=parts[: 2 * n_layers : 2, 0].copy(),
        bias_at=parts[1 : 2 * n_layers : 2, 0].copy(),
        parts=parts,
        params=params,
        forwards=np.array([k.addresses["forward"] if k else 0 for k in loops], np.int64),
        slopes=np.array([k.addresses["slope"] if k else 0 for k in loops], np.int64),
        keeps_slopes=np.array(
            [entry.slope_of == "pre_activation" for entry in activations], np.bool_
        ),
    )


def lay_out_buffers(network, capacity, *, n_targets=0, sparse=False, training=False):
    """Work memory for blocks of up to `capacity` rows."""
    sizes, dtype = network.sizes, network.params.dtype
    units = sizes[1:-1]
    n_hidden, widest = int(units.sum()), int(sizes[1 if sparse else 0 :].max())
    rows = capacity if training else 0
    kept = n_hidden if training and network.keeps_slopes.any() else 0
    a = np.empty(capacity * n_hidden, dtype)
    return blocks.Buffers(
        x=np.empty(0 if sparse else capacity * sizes[0], dtype),
        a=a,
        out=a,
        slopes=np.empty(capacity * kept, dtype),
        unit_at=np.array([0, *np.cumsum(units)], np.int64) * capacity,
        delta=np.empty(max(rows * widest, capacity * sizes[-1]), dtype),
        below=np.empty(rows * widest, dtype),
        scores=np.empty(capacity * sizes[-1], dtype),
        targets=np.empty(rows * n_targets, dtype),
        weights=np.empty(rows, dtype),
        row_loss=np.empty(rows),
    )


def describe_data(X, targets=None, sample_weight=None, order=None):
    """Addresses of the caller's arrays, which were checked and outlive the call."""
    is_sparse = not isinstance(X, np.ndarray)
    return describe_targets(X.shape[0], targets, sample_weight, order)._replace(
        x=_address(X.data if is_sparse else X),
        indices=_address(X.indices) if is_sparse else 0,
        indptr=_address(X.indptr) if is_sparse else 0,
        index_bytes=X.indptr.dtype.itemsize if is_sparse else 0,
    )


def describe_targets(n_samples, targets, sample_weight, order=None):
    """Addresses of targets and weights alone; without an order as they stand."""
    return blocks.Data(
        x=0,
        indices=0,
        indptr=0,
        index_bytes=0,
        y=_address(targets),
        sample_weight=_address(sample_weight),
        order=np.arange(n_samples) if order is None else order,
    )


def _address(array):
    return 0 if array is None else array.__array_interface__["data"][0]
