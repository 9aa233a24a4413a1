"""The rounds of a fit on many shards, or on one: what is asked of them when, and when it ends.

A round trains every shard from the last average and adds up what they reached, two and two in the
order of the shards.  The average comes to the client and goes out with the next round, which
therefore depends on nothing that a worker may lose.  The arithmetic is in `averages`, what a task
does in `shards`.
"""

import time
from dataclasses import replace

import numpy as np
from sklearn.base import is_classifier
from sklearn.exceptions import ConvergenceWarning

from fastbp.dask.averages import Given, add, step_outer
from fastbp.dask.partitions import say
from fastbp.dask.shards import draw, finish, look, measure, train, train_alone
from fastbp.messages import warn_user
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


class ManyShards:
    """A fit on more than one shard.

    Parameters
    ----------
    team : Team
    job : Job
    settings : Settings
    every : int
        Epochs between two averages.
    momentum : float
        Outer momentum.
    deadline : float or None
        Of `time.perf_counter`.
    """

    def __init__(self, team, job, settings, every, momentum, deadline):
        self.team, self.settings, self.every = team, settings, every
        self.momentum, self.deadline = momentum, deadline
        self.by_score = settings.early_stopping
        best = -np.inf if self.by_score else np.inf
        self.patience = Patience(settings.tol, settings.n_iter_no_change, best)
        self.given, self.velocity, self.before = Given(), None, None
        self.losses, self.scores, self.validation_losses = [], [], []
        self.best_score, self.best_iter, self.best_params = -np.inf, None, None
        self.validates = job.validation[0] is not None
        bare = replace(job, validation=(None, None, None))
        found = self._look(team.hold(bare))
        self.held = team.hold(replace(bare, found=found))
        self.judge = team.hold(replace(job, found=found)) if self.validates else None

    def _look(self, held):
        """Find what all shards have together."""

        def make(submit, shards):
            return submit(list, [submit(look, held, shard) for shard in shards])

        found = self.team.run(make)
        widths = [n_features for _, n_features in found]
        if len(set(widths)) > 1:
            raise ValueError(f"X has {widths[0]} features at first, but {widths} by shards.")
        whole = found[0][0]
        for other, _ in found[1:]:
            whole.merge(other)
        return whole

    def fit(self):
        """Train; return fitted attributes."""
        end = None
        if self.momentum:
            self.before = self.team.run(lambda submit, shards: submit(draw, self.held, shards[0]))
        try:
            while end is None:
                self._train_round()
                end = self._why_end()
        except KeyboardInterrupt:
            if self.given.average is None:
                raise
            warn_user("Training interrupted by user.")
            end = ASKED
        if end in (LIMIT, TIME):
            limit = f"Maximum iterations ({self.settings.max_iter}) reached"
            if end == TIME:
                limit = f"max_time={self.settings.max_time:g} seconds are over"
            warn_user(
                f"{limit} after epoch {self.given.n_trained} and the optimization hasn't "
                "converged yet.",
                ConvergenceWarning,
            )
        return self._finish(end)

    def _train_round(self):
        n_before = self.given.n_trained
        until = min(n_before + self.every, self.settings.max_iter)
        given = self.team.hold(self.given)

        def make(submit, shards):
            sums = [submit(train, self.held, shard, given, until) for shard in shards]
            while len(sums) > 1:
                pairs = [sums[k : k + 2] for k in range(0, len(sums), 2)]
                sums = [submit(add, *pair) if len(pair) == 2 else pair[0] for pair in pairs]
            return sums[0]

        total = self.team.run(make)
        if not n_before:
            say(message for _, kept in sorted(total.said.items()) for message in kept)
        average = total.average()
        name = "weights" if "weights" in average else "params"  # those that steps change
        average[name], self.velocity = step_outer(
            self.before, average[name], self.velocity, self.momentum
        )
        self.before = average[name] if self.momentum else None
        losses = total.mean_losses(n_before)
        given = Given(average, total.own, until)
        if self.validates:
            self._measure(given)
        self.given, self.losses = given, self.losses + losses
        if not self.by_score:
            for loss in losses:
                self.patience.saw_loss(loss)

    def _measure(self, given):
        held = self.team.hold(given)
        loss, score = self.team.run(
            lambda submit, shards: submit(measure, self.judge, shards[0], held)
        )
        self.validation_losses.append(loss)
        self.scores.append(score)
        if self.by_score:
            self.patience.saw_score(score)
        if score > self.best_score:
            self.best_score, self.best_iter = score, len(self.scores)
            self.best_params = given.average["params"]

    def _why_end(self):
        if self.patience.is_over():
            return PLATEAU
        if self.given.n_trained >= self.settings.max_iter:
            return LIMIT
        return TIME if self.deadline and time.perf_counter() >= self.deadline else None

    def _finish(self, end):
        """Have the fitted attributes made, where rows and classes are known."""
        given, holds_best = self.given, self.best_params is not None
        if holds_best:
            given = replace(given, average=given.average | {"params": self.best_params})
        reached = {
            "ended": end, "loss": self.losses[-1], "loss_curve": self.losses,
            "t": sum(own.t for own in given.own.values()), "patience": self.patience,
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
