"""Solvers: how one step changes a weight, as plain scalar Python.

Here lives one row per solver and the table `OPTIMIZERS`, the one place where they are listed.  No
arrays, no learning-rate schedule, no engine: the engines run these formulas over the flat vector,
and parameter validation takes the names from the table.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Optimizer:
    """Description of a solver.

    Parameters
    ----------
    name : str
        What the user writes.
    update : callable or None
        ``update(w, g, slots, learning_rate, t, hyper) -> (w, slots)``: new weight and new state of
        one weight `w` with gradient `g`; `slots` and `hyper` are tuples in the order of the row,
        `t` counts steps from 1.  None for a solver that works on the full batch.
    n_slots : int, default=0
        Numbers of state kept per weight, all starting at 0.
    hyperparameters : tuple of str, default=()
        Constructor parameters that the solver reads.
    stochastic : bool, default=True
        Whether it steps minibatch by minibatch (and has a `partial_fit`).
    kernel : str or None, default=None
        Name of the C loop that computes the same faster; None means the formula is compiled.
    """

    name: str
    update: Callable | None = None
    n_slots: int = 0
    hyperparameters: tuple[str, ...] = ()
    stochastic: bool = True
    kernel: str | None = None


def sgd_update(w, g, slots, learning_rate, t, hyper):
    """Gradient descent with momentum (Polyak 1964), or Nesterov's look-ahead form of it.

    ``v = momentum v - rate g``; then ``w + v``, with Nesterov ``w + momentum v - rate g``
    (Sutskever et al. 2013, rewritten for the weights after the look-ahead, as in scikit-learn).
    """
    momentum, nesterovs_momentum = hyper
    v = momentum * slots[0] - learning_rate * g
    step = momentum * v - learning_rate * g if nesterovs_momentum else v
    return w + step, (v,)


def adam_update(w, g, slots, learning_rate, t, hyper):
    """Adam (Kingma & Ba 2014, section 2 end: efficient form), scikit-learn's variant.

    The step size is ``rate sqrt(1 - beta_2^t) / (1 - beta_1^t)`` and epsilon is added outside that
    correction: ``w - size m / (sqrt(v) + epsilon)``.  PyTorch adds epsilon to the corrected root.
    """
    beta_1, beta_2, epsilon = hyper
    m = beta_1 * slots[0] + (1.0 - beta_1) * g
    v = beta_2 * slots[1] + (1.0 - beta_2) * g * g
    size = learning_rate * math.sqrt(1.0 - beta_2**t) / (1.0 - beta_1**t)
    return w - size * m / (math.sqrt(v) + epsilon), (m, v)


OPTIMIZERS = {
    row.name: row
    for row in (
        Optimizer("lbfgs", stochastic=False),
        Optimizer(
            "sgd", sgd_update, 1, hyperparameters=("momentum", "nesterovs_momentum"), kernel="sgd"
        ),
        Optimizer(
            "adam", adam_update, 2, hyperparameters=("beta_1", "beta_2", "epsilon"), kernel="adam"
        ),
    )
}
