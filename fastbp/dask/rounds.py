"""The rounds of a fit on many shards, or on one: what is asked of them when, and when it ends.

A round trains every shard from the last average, for some epochs or for a piece of one, and adds
up what they reached, two and two in the order of the shards.  The average comes to the client and
goes out with the next round, which therefore depends on nothing that a worker may lose.  The
arithmetic is in `averages`, what a task does in `tasks`.
"""

import time
from dataclasses import replace

import numpy as np
from sklearn.base import is_classifier
from sklearn.exceptions import ConvergenceWarning

from fastbp.dask.averages import Given, add, average, step_outer
from fastbp.dask.partitions import say
from fastbp.dask.shards import look
from fastbp.dask.tasks import draw, finish, measure, train, train_alone
from fastbp.data.held_out import NOTHING
from fastbp.engine.precision import least_precise
from fastbp.messages import warn_user
from fastbp.training.minibatches import INTERRUPTED
from fastbp.training.steps import choose_batch_size
from fastbp.training.stopping import ASKED, LIMIT, PLATEAU, TIME, Patience


def fit_one(team, job, every):
    """Train the only shard, in parts of so many epochs; return fitted attributes."""
    state, n_trained, held = None, 0, team.hold(job)
    while True:
        given, until = (None if state is None else team.hold(state)), n_trained + every
        state, attributes, kept = team.run(
            lambda submit, shards, given=given, until=until: submit(
                train_alone, held, shards[0], given, until
            )
        )
        if attributes is not None:
            say(kept)
            return attributes
        n_trained = state.n_iter


def look_at_all(team, job, *, is_table=False):
    """Find what all shards have together; return a `Look`."""
    held = team.hold(job)

    def make(submit, shards):
        return submit(list, [submit(look, held, shard, is_table=is_table) for shard in shards])

    whole, *others = team.run(make)
    for other in others:
        whole.merge(other)
    if len(set(whole.widths)) > 1:
        raise ValueError(f"X must have the same columns in all shards. Got {whole.widths} columns.")
    return whole


def count_pieces(average_every, settings, rows):
    """Return into how many pieces an epoch is cut for averages, never more than a shard has steps.

    Parameters
    ----------
    average_every : float
        Epochs; below 1 a share of one.
    settings : Settings
    rows : list of int
        Of each shard.
    """
    batch_size, fewest = settings.batch_size, min(rows)
    steps = -(-fewest // choose_batch_size(batch_size, fewest, quiet=True))
    return max(1, min(round(1 / average_every), steps))


class ManyShards:
    """A fit on more than one shard.

    Parameters
    ----------
    team : Team
    job : Job
        With what was found of all shards.
    settings : Settings
    every : int
        Epochs between two averages, where epochs are not cut into pieces.
    momentum : float
        Outer momentum.
    deadline : float or None
        Of `time.perf_counter`.
    """

    def __init__(self, team, job, settings, every, momentum, deadline):
        self.team, self.settings, self.job = team, settings, job
        self.every, self.momentum, self.deadline = every, momentum, deadline
        self.by_score = settings.early_stopping
        best = -np.inf if self.by_score else np.inf
        self.patience = Patience(settings.tol, settings.n_iter_no_change, best)
        self.given, self.velocity, self.before = Given(), None, None
        self.losses, self.scores, self.validation_losses = [], [], []
        self.end = None  # why training has ended
        self.pieces = []  # of the epoch in hand: sums of losses, and rows
        self.best_score, self.best_iter, self.best_params = -np.inf, None, None
        self.n_measured = 0  # epochs up to the last measurement
        self.of_user = job.validation[0] is not None
        self.validates = self.of_user or job.parts is not None
        self.held = team.hold(replace(job, validation=NOTHING))
        self.judge = team.hold(job) if self.of_user else self.held

    def fit(self):
        """Train; return fitted attributes."""
        if self.momentum:
            self.before = self.team.run(lambda submit, shards: submit(draw, self.held, shards[0]))
        try:
            while self.end is None:
                self._train_round()
                self.end = self._why_end()
        except KeyboardInterrupt:
            if self.given.average is None:
                raise
            warn_user(INTERRUPTED)
            self.end = ASKED
        if self.pieces:  # an epoch that was cut short counts like the others
            self.losses += put_together(self.pieces)
            self.validation_losses.append(float("nan"))
            self.scores.append(float("nan"))
        is_alone = self.job.estimator._n_members is None  # members never converge
        if self.end in (LIMIT, TIME) and is_alone:
            limit = f"Maximum iterations ({self.settings.max_iter}) reached"
            if self.end == TIME:
                limit = f"max_time={self.settings.max_time:g} seconds are over"
            warn_user(
                f"{limit} after epoch {len(self.losses)} and the optimization hasn't converged "
                "yet.",
                ConvergenceWarning,
            )
        return self._finish()

    def _train_round(self):
        n_before, n_pieces = self.given.n_trained, self.job.n_pieces
        every = self.every if n_pieces == 1 else 1
        until = min(n_before + every, self.settings.max_iter * n_pieces)
        given = self.team.hold(self.given)

        def make(submit, shards):
            sums = [submit(train, self.held, shard, given, until) for shard in shards]
            while len(sums) > 2:
                pairs = [sums[k : k + 2] for k in range(0, len(sums), 2)]
                sums = [submit(add, *pair) if len(pair) == 2 else pair[0] for pair in pairs]
            return submit(average, *sums)

        total = self.team.run(make)
        if not n_before:
            say(message for _, kept in sorted(total.said.items()) for message in kept)
        arrays = total.arrays
        name = "weights" if "weights" in arrays else "params"  # those that steps change
        arrays[name], self.velocity = step_outer(
            self.before, arrays[name], self.velocity, self.momentum
        )
        self.before = arrays[name] if self.momentum else None
        given, losses = Given(arrays, total.own, until), []
        pieces = [*self.pieces, (total.losses, total.n_seen)]
        if until % n_pieces == 0:
            losses, pieces = put_together(pieces), []
            if self.validates:
                self._measure(given)
        self.given, self.pieces, self.losses = given, pieces, self.losses + losses
        if not self.by_score:
            for loss in losses:
                self.patience.saw_loss(loss)

    def _measure(self, given):
        held = self.team.hold(given)

        def make(submit, shards):
            judges = shards[:1] if self.of_user else shards
            return submit(list, [submit(measure, self.judge, shard, held) for shard in judges])

        losses, scores, weights = zip(*self.team.run(make), strict=True)
        loss, score = losses[0], scores[0]
        if len(losses) > 1:
            loss, score = (float(np.average(part, weights=weights)) for part in (losses, scores))
        epoch = given.n_trained // self.job.n_pieces
        between = [float("nan")] * (epoch - self.n_measured - 1)  # epochs that nobody measured
        self.validation_losses += [*between, loss]
        self.scores += [*between, score]
        if self.by_score:
            self.patience.saw_score(score)
            if self.patience.count:  # of epochs, and those between two averages count, too
                self.patience.count += epoch - self.n_measured - 1
        self.n_measured = epoch
        if score > self.best_score:
            self.best_score, self.best_iter = score, epoch
            self.best_params = given.average["params"]

    def _why_end(self):
        if self.patience.is_over():
            return PLATEAU
        if self.given.n_trained >= self.settings.max_iter * self.job.n_pieces:
            return LIMIT
        return TIME if self.deadline and time.perf_counter() >= self.deadline else None

    def _finish(self):
        """Have the fitted attributes made, where rows and classes are known."""
        given, holds_best = self.given, self.best_params is not None
        if holds_best:
            given = replace(given, average=given.average | {"params": self.best_params})
        reached = {
            "ended": self.end, "loss": self.losses[-1], "loss_curve": self.losses,
            "n_iter": len(self.losses),
            "t": sum(own.t for own in given.own.values()), "patience": self.patience,
            "matmul_precision": least_precise(own.matmul_precision for own in given.own.values()),
            "by_score": self.by_score, "holds_best": holds_best,
            "best_params": self.best_params, "best_iter": self.best_iter,
            "best_validation_score": self.best_score if holds_best else None,
            "validation_scores": self.scores if self.validates else None,
            "validation_loss_curve": self.validation_losses if self.validates else None,
        }  # fmt: skip
        held = self.team.hold(given)
        return self.team.run(
            lambda submit, shards: submit(finish, self.held, shards[0], held, reached)
        )


def put_together(pieces):
    """Return the losses of epochs: of one in pieces, or of all in the only piece."""
    losses = np.sum([losses for losses, _ in pieces], axis=0)
    return (losses / sum(n_seen for _, n_seen in pieces)).tolist()


def refuse_for_many(estimator, settings, schedule, validation):
    """Raise for what cannot be had on more than one shard."""
    if settings.early_stopping and validation[0] is None:
        raise ValueError(
            "early_stopping=True on more than one shard needs X_val and y_val: arrays in memory."
        )
    if schedule.on_plateau or "Plateau" in type(schedule).__name__:
        raise ValueError(
            f"learning_rate={schedule.name!r} follows one loss, and each shard has its own: use "
            "'constant' or a schedule over the steps, or n_shards=1."
        )
    weights = getattr(estimator, "class_weight", None)
    if is_classifier(estimator) and isinstance(weights, str) and weights != "balanced":
        raise ValueError(f"class_weight must be a dict, 'balanced' or None. Got {weights!r}.")
