"""The place where a fit left off: what ``warm_start="resume"`` keeps besides weights and optimiser.

Plain arrays and dicts, which every way of storing an estimator takes: the state of the random
stream, the order of the samples (each shuffle starts from the last one), the rows held out, and the
last weights where the best ones are shown.  Nothing here trains.
"""

from numbers import Integral

import numpy as np


def keep_place(order, held_out, bits, params):
    """Describe where training stands.

    Parameters
    ----------
    order : int64 ndarray of shape (n_trained,)
        Rows in the order of the last epoch.
    held_out : int64 ndarray or None
        Rows of the validation set, if it was drawn.
    bits : BitGenerator
    params : ndarray of shape (n_params,) or None
        The last weights; None if they are the estimator's.

    Returns
    -------
    dict
    """
    n_samples = len(order) + (0 if held_out is None else len(held_out))
    small = np.min_scalar_type(n_samples)  # a row takes 1, 2 or 4 bytes
    return {
        "order": order.astype(small),
        "held_out": None if held_out is None else held_out.astype(small),
        "stream": bits.state,
        "params": params,
    }


def restore_stream(place, seed, bits):
    """Put `bits` where the last call left it, if they were made from an integer `seed`.

    A RandomState of the user's is shared and goes on by itself.
    """
    if place is not None and isinstance(seed, Integral):
        bits.state = place["stream"]


def find_rows(place, n_samples, *, splits):
    """Return order and held-out rows to go on with; None if they do not fit the data.

    Parameters
    ----------
    place : dict or None
    n_samples : int
        Rows of the data now.
    splits : bool
        Whether a validation set is to be held out.
    """
    if place is None or splits != (place["held_out"] is not None):
        return None
    order, held_out = place["order"], place["held_out"]
    if len(order) + (0 if held_out is None else len(held_out)) != n_samples:
        return None
    return order.astype(np.int64), None if held_out is None else held_out.astype(np.int64)
