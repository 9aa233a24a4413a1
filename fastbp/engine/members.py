"""Predictions of fitted members over dense rows, for both engines on top of their `predict_into`.

A member is a network whose features are multiplied by its scales and whose output layer is its own.
Rows go through the shared hidden layers as one row per member and sample, so that few rows read the
weights once for all members, and then through each output layer.  An engine's scores of a row do
not depend on the rows beside it; a multiplied feature does not either: hence nor do these.

Over CSR engines multiply the weights instead, which they also sum along runs of features.
"""

import numpy as np

BLOCK_BYTES = 1 << 24  # of multiplied features and hidden activations at a time, about


def predict_members_into(
    predict_into, network, activations, X, out, n_threads, matmul_precision="highest"
):
    """Write raw scores of all members; return whether all are finite.

    Parameters
    ----------
    predict_into : callable
        The engine's own.
    network : tuple
        coefs, intercepts, scales, member_coefs, member_intercepts.
    activations, X, out, n_threads, matmul_precision : as for `contract.Engine.predict_members_into`
        Checked.
    """
    coefs, intercepts, scales, member_coefs, member_intercepts = network
    n_members, n_hidden, _ = member_coefs.shape
    dtype, n_features = scales.dtype, scales.shape[1]
    n_rows = max(1, BLOCK_BYTES // (n_members * (n_hidden + n_features) * dtype.itemsize))
    finite = True
    for first in range(0, out.shape[1], n_rows):
        scores = out[:, first : first + n_rows]
        hidden = np.empty((n_members, scores.shape[1], n_hidden), dtype)
        with np.errstate(all="ignore"):  # what overflows is seen in the scores
            rows = X[first : first + n_rows] * scales[:, np.newaxis]
        rows, place = rows.reshape(-1, n_features), hidden.reshape(-1, n_hidden)
        predict_into(coefs, intercepts, activations, rows, place, n_threads, matmul_precision)
        for m in range(n_members):
            output = [member_coefs[m]], [member_intercepts[m]]
            finite &= predict_into(*output, (), hidden[m], scores[m], n_threads, matmul_precision)
    return finite
