"""The state of a training: what it has reached, and all that it needs to go on.

The estimators turn `Progress` into fitted attributes and back, `state` into bytes and back; nothing
here trains.
"""

from dataclasses import dataclass, field

import numpy as np

from fastbp.engine.precision import PRECISIONS
from fastbp.training.stopping import Patience


@dataclass
class Progress:
    """The state of a training; most of it is fitted attributes without their underscore.

    With its `place` (see `resuming`) it is whole: who has it and the same data goes on, bit for
    bit.
    """

    params: np.ndarray
    n_iter: int = 0
    t: int = 0
    loss: float | None = None
    loss_curve: list | None = None
    validation_scores: list | None = None
    validation_loss_curve: list | None = None
    best_validation_score: float | None = None
    best_iter: int | None = None
    best_params: np.ndarray | None = None  # those of best_iter, where they are known
    holds_best: bool = False  # whether params are best_params
    optimizer: dict | None = None
    place: dict | None = None  # see `resuming`
    patience: Patience = field(default_factory=Patience)
    by_score: bool = False  # whether scores, not losses, are what patience sees
    ended: str | None = None  # why training has ended, see `stopping`; None: it goes on
    seconds: float = 0.0  # of training in this call, for max_time
    matmul_precision: str = PRECISIONS[0]  # what the engine used
    # Rows of the epoch in hand that were trained on; 0 is between two epochs, where all states are
    # but those of a stream.
    rows_seen: int = 0

    @classmethod
    def resumed(cls, params, past, memory, *, from_last=False):
        """Go on from an estimator's attributes `past`, as far as they hold; lists are copied.

        `params` are the estimator's weights, from which training goes on; or, `from_last`, from the
        last ones where these are not the same.
        """
        place, optimizer, last = past.get("_place"), past.get("_optimizer"), None
        if place is not None:
            last, place = place["params"], place | {"params": None}
            if not memory.progress:
                place["held_out"] = None
        if optimizer is not None and not memory.weights:
            optimizer = optimizer | {"weights": None}
        from_last = from_last and memory.weights and last is not None
        progress = cls(
            last.astype(params.dtype, copy=False) if from_last else params,
            t=past.get("t_", 0),
            loss=past.get("loss_"),
            optimizer=optimizer,
            place=place,
        )
        if memory.losses:
            progress.loss_curve = _copied(past.get("loss_curve_"))
        if memory.progress:
            count = past.get("_no_improvement_count", 0)
            progress.patience = Patience(best=past.get("best_loss_"), count=count)
        if memory.scores:
            progress.validation_scores = _copied(past.get("validation_scores_"))
            progress.validation_loss_curve = _copied(past.get("validation_loss_curve_"))
        if memory.best:
            progress.best_validation_score = past.get("best_validation_score_")
            progress.best_iter = past.get("best_iter_")
            progress.best_params = params if past.get("_holds_best") else None
        return progress

    def begin(self, settings, *, by_score, continues=False):
        """Prepare for the epochs of a call, which end for lack of better losses or scores.

        With `continues` the call is the one that left this state, before it had ended.
        """
        if continues:
            best, count = self.patience.best, self.patience.count
            self.patience = Patience(settings.tol, settings.n_iter_no_change, best, count)
            return
        self.n_iter, self.by_score, self.seconds = 0, by_score, 0.0
        best = self.best_validation_score if by_score else self.patience.best
        if best is None:
            best = np.inf
        count = self.patience.count
        self.patience = Patience(settings.tol, settings.n_iter_no_change, best, count)

    def go_back_to_last(self):
        """Take the last weights of a state up again, where the best ones are shown."""
        last, self.place = self.place["params"], self.place | {"params": None}
        if last is not None:
            self.params, self.holds_best = last, False

    def end(self, last_params, selection):
        """Settle the weights: the best ones where they were selected; return the others, if any."""
        for curve in (self.validation_scores, self.validation_loss_curve):
            if curve is not None:  # an interrupt may come between the two
                del curve[min(len(self.validation_scores), len(self.validation_loss_curve)) :]
        if self.best_iter is None:  # nothing was scored, or by no number that is above -inf
            self.best_validation_score = None
        self.holds_best = selection is not None and self.best_params is not None
        self.params = self.best_params if self.holds_best else last_params
        return last_params if self.holds_best else None

    @property
    def holds_raw_weights(self):
        """Whether the optimizer keeps weights beside their average, which are `params`."""
        return self.optimizer is not None and self.optimizer.get("weights") is not None

    def attributes(self):
        """Return the fitted attributes; None for those that this solver does not set."""
        found = {
            "n_iter_": self.n_iter, "t_": self.t, "matmul_precision_": self.matmul_precision,
        }  # fmt: skip
        if self.loss is not None:
            found["loss_"] = self.loss
        if self.loss_curve is not None:
            found |= {
                "loss_curve_": self.loss_curve,
                "best_loss_": None if self.by_score else self.patience.best,
                "_no_improvement_count": self.patience.count,
                "_optimizer": self.optimizer,
                "_place": self.place,
            }
        if self.loss_curve is not None or self.validation_scores is not None:
            found |= {
                "validation_scores_": self.validation_scores,
                "validation_loss_curve_": self.validation_loss_curve,
                "best_validation_score_": self.best_validation_score,
                "best_iter_": self.best_iter,
                "_holds_best": self.holds_best,
            }
        return found


def _copied(found):
    return None if found is None else list(found)


# Attributes that a solver may leave unset: a new model must not show those of the old one.
HISTORY = tuple(Progress(np.empty(0), loss=0.0, loss_curve=[]).attributes())
