"""A network that has learned some classes takes in others: what becomes of its last layer.

Nothing is forgotten: the odds of the old classes among each other are, for every sample, what they
were.  The raw scores of the classes are linear in the old outputs, and so are their weights; what
an optimiser keeps of a weight follows its gradient.  Here is the algebra, over flat vectors and
dicts of optimisers; which classes there are is the estimator's business, and nothing here trains.
"""

from dataclasses import dataclass

import numpy as np

from fastbp.engine import network
from fastbp.optimizers import OPTIMIZERS

# The new classes together are below the mean score of the old ones by this much.  By Jensen's
# inequality their odds against k old classes are then at most 1 / (10 k), wherever a sample lies.
BELOW = float(np.log(10.0))


@dataclass(frozen=True)
class Growth:
    """How the outputs of a network become those of more classes.

    Attributes
    ----------
    scores : float64 ndarray of shape (n_old_outputs, n_new_outputs)
        New raw scores are ``old @ scores + shift``.
    shift : float64 ndarray of shape (n_new_outputs,)
    gradients : float64 ndarray of shape (n_old_outputs, n_new_outputs)
        What is known of their gradients: 0 for a new class.
    """

    scores: np.ndarray
    shift: np.ndarray
    gradients: np.ndarray

    def widen(self, params, layer_sizes, n_members=None):
        """Return weights with more outputs.

        Parameters
        ----------
        params : ndarray of shape (n_params,)
            As `engine.network` lays them out.
        layer_sizes : tuple of int
            Of the old network.
        n_members : int or None, default=None

        Returns
        -------
        ndarray of shape (n_new_params,), of the same dtype
        """
        below, weights, biases = _split(params, layer_sizes, n_members)
        return _join(below, weights @ self.scores, biases @ self.scores + self.shift, params.dtype)

    def widen_slots(self, slots, entry, layer_sizes, n_members=None):
        """Return what an optimiser keeps of each weight, (n_slots, n_new_params).

        A slot is a mean of gradients, whose signs the outputs may change, or of their squares.  Of
        a new class there are no gradients yet; its squares begin at the mean of those of the old
        classes, so that its first step is no longer than theirs.
        """
        squares = np.square(self.gradients)
        unknown = ~squares.any(axis=0)
        squares[:, unknown] = 1.0 / len(squares)
        tables = [squares if k in entry.squares else self.gradients for k in range(len(slots))]
        widened = []
        for slot, table in zip(slots, tables, strict=True):
            below, weights, biases = _split(slot, layer_sizes, n_members)
            widened.append(_join(below, weights @ table, biases @ table, slot.dtype))
        return np.stack(widened) if widened else np.empty((0, 0))

    def widen_optimizer(self, optimizer, layer_sizes):
        """Return the state of an optimiser (`steps.new_optimizer`) for the wider network."""
        slots, weights = optimizer["slots"], optimizer["weights"]
        if slots is not None and len(slots):
            entry = OPTIMIZERS[optimizer["solver"]]
            optimizer = optimizer | {"slots": self.widen_slots(slots, entry, layer_sizes)}
        if weights is not None:
            optimizer = optimizer | {"weights": self.widen(weights, layer_sizes)}
        return optimizer


def _split(params, layer_sizes, n_members):
    """Return what lies below the outputs, and the outputs' weights and biases, in float64."""
    n_outputs = layer_sizes[-1]
    (begin, middle, _), (_, end, _) = network.list_parts(layer_sizes, n_members)[-2:]
    weights = params[begin:middle].reshape(-1, n_outputs).astype(np.float64)
    return params[:begin], weights, params[middle:end].reshape(-1, n_outputs).astype(np.float64)


def _join(below, weights, biases, dtype):
    return np.concatenate([below, weights.ravel(), biases.ravel()]).astype(dtype)


def grow(known, classes):
    """Say how the outputs for some classes become those for more.

    Parameters
    ----------
    known : ndarray of shape (n_known,)
        Sorted.  Two have one output, the logit z of the second; so has one, and z speaks for
        whatever is not that class.
    classes : ndarray of shape (n_classes,)
        Sorted; all of `known` and at least one more.

    Returns
    -------
    Growth
        From 2 to more classes z becomes (0, z); from 1 to 2 it stays, or changes its sign where the
        new class is the first one; from 1 to more the new classes share what z speaks for.
    """
    old = np.isin(classes, known)
    n_new = int((~old).sum())
    if len(known) == 1 and n_new == 1:
        sign = 1.0 if old[0] else -1.0
        return Growth(np.array([[sign]]), np.zeros(1), np.array([[sign]]))
    shift = np.where(old, 0.0, -BELOW - np.log(n_new))
    if len(known) == 1:
        scores = np.where(old, 0.0, 1.0)[np.newaxis]
        return Growth(scores, np.where(old, 0.0, -np.log(n_new)), scores - old)
    if len(known) == 2:
        as_scores, as_gradients = np.array([[0.0, 1.0]]), np.array([[-1.0, 1.0]])
    else:
        as_scores = as_gradients = np.eye(len(known))
    scores = np.repeat(as_scores.mean(axis=1, keepdims=True), len(classes), axis=1)
    gradients = np.zeros_like(scores)
    scores[:, old], gradients[:, old] = as_scores, as_gradients
    return Growth(scores, shift, gradients)
