"""Going on with a network: what a call may believe of the last one, and the place it left off at.

A fitted estimator remembers scores, counts and weights of its last call.  `recall` says which of
them still hold, by the fingerprints of `sameness`; all else begins anew.  The place is what
``warm_start="resume"`` keeps besides weights and optimiser, as plain arrays and dicts, which every
way of storing an estimator takes: the state of the random stream, the order of the samples (each
shuffle starts from the last one), the rows held out, and the last weights where the best ones are
shown.  Nothing here trains.
"""

from dataclasses import dataclass
from numbers import Integral

import numpy as np

from fastbp.training.sameness import identify_weights


@dataclass(frozen=True)
class Memory:
    """Which kinds of remembered state still hold.

    Parameters
    ----------
    weights : bool
        The network is as the last call left it, so that other weights kept beside it (the last
        ones, those behind an average) belong to it.
    progress : bool
        Best loss, count of epochs without progress and held-out rows.
    losses : bool
        The curve of the training loss goes on.
    best : bool
        Best validation score, its epoch and its weights.
    scores : bool
        The curves of validation loss and score go on.
    """

    weights: bool
    progress: bool
    losses: bool
    best: bool
    scores: bool


def recall(past, seen, engine, *, resumes, incremental):
    """Compare the fingerprints of the last call with those of this one.

    Parameters
    ----------
    past : dict
        Attributes of a fitted estimator.
    seen : dict of str to bytes
        Of this call, by `fastbp.training.sameness.identify`.
    engine : module
    resumes : bool
        Whether everything is to go on where it was left (``warm_start="resume"``).
    incremental : bool
        Whether this is a `partial_fit`: one training over parts of data, whose curve of the loss
        goes on; best loss and count do while the objective is the same, whatever the parts.

    Returns
    -------
    Memory
    """
    before = past.get("_seen") or {}

    def are_same(*names):
        return all(name in seen and before.get(name) == seen[name] for name in names)

    weights = "weights" in before and before["weights"] == identify_weights(
        engine, past["coefs_"], past["intercepts_"]
    )
    if incremental:
        goal = are_same("goal", "steps")
        validation = goal and are_same("validation")
        return Memory(weights, goal, True, validation, validation)
    problem = weights and are_same("goal", "problem")
    return Memory(weights, problem, resumes or problem, problem, resumes or problem)


def keep_place(order, held_out, bits, params, X=None):
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
    X : object, default=None
        Rows that pass by in windows have a `place` of their own, and no order of all of them.

    Returns
    -------
    dict
    """
    if isinstance(order, range):
        place = keep_place(np.empty(0, np.int64), None, bits, params)
        return place | {"parts": dict(X.place)}
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
