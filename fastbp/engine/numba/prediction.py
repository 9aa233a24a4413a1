"""Predictions of the Numba engine: raw scores of many rows, by a session or from fitted arrays."""

import numpy as np

from fastbp.engine import contract, members
from fastbp.engine.numba import blocks
from fastbp.engine.numba.checks import activate
from fastbp.engine.numba.data import describe_data, lay_out_buffers, lay_out_network
from fastbp.engine.numba.members import sum_runs

PREDICTION_ROWS = 64


NO_DROPOUT = blocks.Dropout(np.zeros(0, np.uint64), np.zeros(0), np.zeros(1, np.uint64))


def are_layers(coefs, intercepts, n_features=-1, n_outputs=-1):
    """Whether these are weights and biases as `predict_into` takes them."""
    if not len(coefs) == len(intercepts) > 0:
        return False
    dtype, width = getattr(coefs[0], "dtype", None), n_features
    for W, b in zip(coefs, intercepts, strict=True):
        if not (
            isinstance(W, np.ndarray) and isinstance(b, np.ndarray)
            and W.ndim == 2 and W.size and b.shape == W.shape[1:] and width in (-1, W.shape[0])
            and W.dtype == b.dtype == dtype and dtype in (np.float32, np.float64)
            and W.flags.c_contiguous and b.flags.c_contiguous
        ):  # fmt: skip
            return False
        width = W.shape[1]
    return n_outputs in (-1, width)


def predict_blocks(network, buffers, data, out):
    """Raw scores of the first rows of the order, as many as `out` has, block by block."""
    capacity, n_samples = len(buffers.scores) // out.shape[1], len(data.order)
    buffers = buffers._replace(slopes=buffers.slopes[:0])
    for first in range(0, n_samples, capacity):
        rows = min(capacity, n_samples - first)
        blocks.predict_block(network, buffers, data, NO_DROPOUT, first, rows, out)


def predict_into(coefs, intercepts, activations, X, out, n_threads=1, matmul_precision="highest"):
    """Raw scores of X straight from fitted arrays; whether all are finite."""
    contract.check_matmul_precision(matmul_precision)
    contract.check_prediction(
        are_layers(coefs, intercepts) and 0 <= len(coefs) - len(activations) <= 1
    )
    dtype, sparse = coefs[0].dtype, not isinstance(X, np.ndarray)
    contract.check_samples(X, dtype, coefs[0].shape[0], sparse)
    contract.check_output(X, out, dtype, coefs[-1].shape[1])
    layer_sizes = (coefs[0].shape[0], *(weights.shape[1] for weights in coefs))
    parts = [part for pair in zip(coefs, intercepts, strict=True) for part in pair]
    params = np.concatenate([part.ravel() for part in parts])
    n_hidden = len(coefs) - 1
    network = lay_out_network(layer_sizes, activations[:n_hidden], params)
    if len(out):
        # Whole blocks, filled up with the first row: BLAS chooses its loops by the number of rows,
        # and a row's scores must not depend on the rows that come with it.
        order = np.zeros(-(-len(out) // PREDICTION_ROWS) * PREDICTION_ROWS, np.int64)
        order[: len(out)] = np.arange(len(out))
        data = describe_data(X, order=order)
        predict_blocks(network, lay_out_buffers(network, PREDICTION_ROWS, sparse=sparse), data, out)
    for activation in activations[n_hidden:]:
        # Padded likewise: what is left after whole vectors would go through another loop.
        z = np.zeros(-(-out.size // PREDICTION_ROWS) * PREDICTION_ROWS, out.dtype)
        z[: out.size] = out.ravel()
        activate(activation, z)
        out[...] = z[: out.size].reshape(out.shape)
    return bool(np.isfinite(out).all())


def predict_members_into(
    coefs, intercepts, scales, member_coefs, member_intercepts, activations, X, out, n_threads=1,
    continues=None, matmul_precision="highest",
):  # fmt: skip
    """Raw scores of all members straight from fitted arrays; whether all are finite."""
    contract.check_matmul_precision(matmul_precision)
    contract.check_prediction(are_layers(coefs, intercepts))
    fitted = coefs, intercepts, scales, member_coefs, member_intercepts
    contract.check_members_prediction(fitted, activations, X, out, continues)
    if isinstance(X, np.ndarray):
        return members.predict_members_into(
            predict_into, fitted, activations, X, out, n_threads, matmul_precision
        )
    if continues is None:
        continues = np.zeros(scales.shape[1], np.uint8)
    first, finite = np.empty_like(coefs[0]), True
    for r, W, b, scores in zip(scales, member_coefs, member_intercepts, out, strict=True):
        sum_runs(coefs[0].ravel(), r, continues, first.ravel())
        layers = [first, *coefs[1:], W], [*intercepts, b]
        finite &= predict_into(*layers, activations, X, scores, n_threads)
    return finite
