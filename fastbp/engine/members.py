"""Predictions of fitted members, for both engines on top of their `predict_into`.

A member is a network whose features are multiplied by its scales and whose output layer is its own.
Rows go through the shared hidden layers as one row per member and sample, so that few rows read the
weights once for all members, and then through each output layer.  An engine's scores of a row do
not depend on the rows beside it; a multiplied feature does not either: hence nor do these.
"""

from types import SimpleNamespace

import numpy as np

from fastbp.engine import contract

BLOCK_BYTES = 1 << 24  # of multiplied features and hidden activations at a time, about


def predict_members_into(predict_into, network, activations, X, out, n_threads):
    """Write raw scores of all members; return whether all are finite.

    Parameters
    ----------
    predict_into : callable
        The engine's own.
    network : tuple
        coefs, intercepts, scales, member_coefs, member_intercepts.
    activations, X, out, n_threads : as for `contract.Engine.predict_members_into`
    """
    coefs, intercepts, scales, member_coefs, member_intercepts = network
    contract.check_prediction(len(coefs) == len(intercepts) == len(activations) > 0)
    contract.check_member_arrays(coefs, scales, member_coefs, member_intercepts)
    n_members, n_hidden, n_outputs = member_coefs.shape
    dtype, sparse = member_coefs.dtype, not isinstance(X, np.ndarray)
    contract.check_samples(X, dtype, scales.shape[1], sparse)
    contract.check_member_output(X, out, dtype, n_members, n_outputs)
    row_bytes = n_members * (n_hidden + (0 if sparse else scales.shape[1])) * dtype.itemsize
    n_rows, finite = max(1, BLOCK_BYTES // row_bytes), True
    for first in range(0, out.shape[1], n_rows):
        scores = out[:, first : first + n_rows]
        hidden = np.empty((n_members, scores.shape[1], n_hidden), dtype)
        multiply = _multiply_sparse if sparse else _multiply_dense
        for rows, place in multiply(X, first, scales, hidden):
            predict_into(coefs, intercepts, activations, rows, place, n_threads)
        for m in range(n_members):
            output = [member_coefs[m]], [member_intercepts[m]]
            finite &= predict_into(*output, (), hidden[m], scores[m], n_threads)
    return finite


def _multiply_dense(X, first, scales, hidden):
    """Yield rows of all members at once, and the place for what the hidden layers make of them."""
    with np.errstate(all="ignore"):  # what overflows is seen in the scores
        rows = X[first : first + hidden.shape[1]] * scales[:, np.newaxis]
    yield rows.reshape(-1, rows.shape[-1]), hidden.reshape(-1, hidden.shape[-1])


def _multiply_sparse(X, first, scales, hidden):
    """Yield each member's rows, which share their indices, and the place for what is made of them.

    What `contract.check_csr` asks of a CSR matrix is all that an engine does.
    """
    shape = (hidden.shape[1], X.shape[1])
    indptr = X.indptr[first : first + shape[0] + 1]
    begin, end = indptr[0], indptr[-1]
    data, indices, indptr = X.data[begin:end], X.indices[begin:end], indptr - begin
    for factors, place in zip(scales, hidden, strict=True):
        with np.errstate(all="ignore"):
            multiplied = data * factors[indices]
        yield (
            SimpleNamespace(
                data=multiplied, indices=indices, indptr=indptr, format="csr", shape=shape
            ),
            place,
        )
