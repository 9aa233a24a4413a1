"""The average of networks that were trained apart: arithmetic on states, none of it on a cluster.

Local SGD (Stich 2019; McMahan et al. 2017 call it federated averaging): each shard trains for a
while on its own rows, then weights and optimiser state are averaged, each shard with the share of
its rows: ``x = sum_k n_k x_k / sum_k n_k``.  With outer momentum b (SlowMo, Wang et al. 2020, with
a slow rate of 1) the average is a step: ``u <- b u + (x - x_before)``, and the shards go on from
``x_before + u``.  Sums are taken in float64 and in the order of the shards, so that the result does
not depend on who has trained what.

Defaults, measured November 2026 at the same number of epochs (held-out log loss against the local
fit's, mean of 5 seeds; one hidden layer of 100, Adam, batches of 200, 10 epochs; ``python -m
bench.scale_out --loss`` measures it again).  Fashion-MNIST on 2 shards: averages alone +6.3 %, for
an epoch of K shards has K times fewer steps one after the other; the learning rate times K (Goyal
et al. 2017) -0.1 %, batches K times smaller +1.2 %, the rate times the root of K with outer
momentum 0.5 +0.3 %, the rate times K with 0.3 -1.3 %.  Four averages an epoch instead of one:
+0.8 % with the rate times K; fifteen: -0.7 %, within the spread of seeds (1.5 %).  Adult loses
nothing with any of them (-0.2 to -1.3 %, on 2 and on 8 shards): it is over-fitted by then, which
averages lessen.  On Fashion-MNIST with 8 shards one average an epoch costs +11.6 % (the root of the
rate +15.1 %, smaller batches +8.8 %, four averages +6.3 %), and with more shards a larger rate no
longer helps: 16 shards +22 % at 8 times the rate, +24 % at 16 times (2 seeds); 64 shards +51 % at 8
times, +150 % at 64 times: five steps of each shard an epoch are too few for any.
Therefore one average an epoch, the rate times K but at most times 8, and no outer momentum, which
harmed digits with 8 shards (0.50 after 30 epochs, local 0.124, without it 0.132).  Averages every 5
epochs were no better than every epoch.
"""

from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np

from fastbp.training.randomness import own_stream
from fastbp.training.resuming import keep_place

AVERAGED = ("params", "slots", "weights")  # see `steps.new_optimizer`
LARGEST_SCALE = 8.0  # of the learning rate


def scale_of_rate(n_shards):
    """Return how many times the learning rate each of so many shards steps at."""
    return min(float(n_shards), LARGEST_SCALE)


@dataclass
class Given:
    """What a round begins with.

    Attributes
    ----------
    average : dict of str to ndarray, or None
        Of `AVERAGED`; None in the first round, which begins with the weights that the seed draws.
    own : dict of int to Progress, or None
        What each shard keeps for itself, by its number.
    n_trained : int
        Epochs so far, or pieces of epochs where each is a round.
    """

    average: dict | None = None
    own: dict | None = None
    n_trained: int = 0


@dataclass
class Sum:
    """What some shards have reached: sums over their rows, and what each keeps for itself.

    Attributes
    ----------
    n_rows : int
    arrays : dict of str to ndarray
        Of `AVERAGED`, without those that a solver has not.  Of several shards float64, each times
        the rows of its shard; of one alone as they are, half as much to send.
    dtypes : dict of str to dtype
        In which shards have them.
    own : dict of int to Progress
        By number of the shard: the state without these arrays and the order of rows.
    losses : list of float
        Of each epoch, or piece of one, times the rows that were trained on.
    n_seen : int
        These rows.
    said : dict of int to list
        The warnings of each.
    """

    n_rows: int
    arrays: dict
    dtypes: dict
    own: dict
    losses: list
    n_seen: int
    said: dict

    @classmethod
    def of_shard(cls, number, n_rows, state, n_seen, kept):
        """Turn the state of one shard into a sum; the state is a copy, and is used up."""
        optimizer = state.optimizer
        found = {"params": state.params, **{name: optimizer[name] for name in AVERAGED[1:]}}
        own = replace(
            state, params=None, place=None, loss_curve=[],
            optimizer=optimizer | dict.fromkeys(AVERAGED[1:]),
        )  # fmt: skip
        found = {name: array for name, array in found.items() if array is not None}
        return cls(
            n_rows,
            found,
            {name: array.dtype for name, array in found.items()},
            {number: own},
            [n_seen * loss for loss in state.loss_curve],
            n_seen,
            {number: kept},
        )

    def _times_rows(self, name):
        array = self.arrays[name]
        return array if len(self.own) > 1 else self.n_rows * array.astype(np.float64)


def add(first, second):
    """Add two sums: the task of a node of the tree."""
    return Sum(
        first.n_rows + second.n_rows,
        {name: first._times_rows(name) + second._times_rows(name) for name in first.arrays},
        first.dtypes,
        first.own | second.own,
        [a + b for a, b in zip(first.losses, second.losses, strict=True)],
        first.n_seen + second.n_seen,
        first.said | second.said,
    )


def average(first, second):
    """Add the last two sums, and divide by all rows; arrays in the dtype of the shards."""
    total = add(first, second)
    total.arrays = {
        name: (array / total.n_rows).astype(total.dtypes[name])
        for name, array in total.arrays.items()
    }
    return total


def step_outer(before, average, velocity, momentum):
    """Move the weights by outer momentum.

    Parameters
    ----------
    before, average : ndarray of shape (n_params,)
        Where the shards began, and the average of where they arrived.
    velocity : float64 ndarray of shape (n_params,) or None
    momentum : float

    Returns
    -------
    params : ndarray
        As `average`, which it is without momentum.
    velocity : float64 ndarray or None
    """
    if not momentum:
        return average, None
    moved = average.astype(np.float64) - before
    velocity = moved if velocity is None else momentum * velocity + moved
    return (before + velocity).astype(average.dtype), velocity


def join_state(average, own, n_rows, seed):
    """Return the state from which a shard goes on: an average, and what is the shard's own.

    Parameters
    ----------
    average : dict of str to ndarray
    own : Progress
    n_rows : int
        Of the shard.
    seed : int
        Of the stream that orders its rows until the next average.  That the order begins anew with
        it makes a round depend on the average alone.
    """
    with own_stream(seed) as (_, bits):
        place = keep_place(np.arange(n_rows), None, bits, None)
    # A copy: training appends to curves, and Dask may run a task of which a result was lost again,
    # with the same `own` in the memory of the same worker.
    own = deepcopy(own)
    optimizer = own.optimizer | {name: average.get(name) for name in AVERAGED[1:]}
    return replace(own, params=average["params"], optimizer=optimizer, place=place)
