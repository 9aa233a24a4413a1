"""One pass over y and weights: classes and how often they occur, mean and spread of numbers.

What an array's checks would refuse is refused here, with the row.  The pass reads no features where
the source can leave them out, and counts the rows where nobody knew how many there are.
"""

import hashlib
import re
from bisect import bisect_left
from copy import copy
from dataclasses import dataclass, field, replace

import numpy as np
from sklearn.base import is_classifier

from fastbp.data.scaling import Moments, weighted_mean
from fastbp.data.targets import check_labels, find_classes, find_codes, join_classes
from fastbp.data.weights import as_numbers
from fastbp.messages import keep_warnings, warn_user
from fastbp.streams.rows import SourceError, join_tables
from fastbp.tables import write_labels

SAMPLE = 2**14  # targets that stand for all, where a loss asks for more than their mean
BLOCKS = 16  # at least, of a sample
OF_EACH = 64  # rows of each batch that are kept to be looked at, while there is room


@dataclass
class Summary:
    """What was found in y and weights.

    Attributes
    ----------
    n_rows : int
    labels : LabelCounts or None
        Of a classifier.
    numbers : NumberSums or None
        Of a regressor.
    weighs : bool
        Whether there are weights.
    seen : str
        Fingerprint of all of y and of the weights.
    n_pieces : int
        Runs of rows that come one after the other: parts, or about windows where these are smaller.
    unevenness : float
        The part of the variance of y that lies between pieces, beyond chance; 1 in a sorted file.
    """

    n_rows: int = 0
    labels: "LabelCounts | None" = None
    numbers: "NumberSums | None" = None
    weighs: bool = False
    kept: list = field(default_factory=list)  # batches of few rows
    seen: str = ""
    n_pieces: int = 0
    unevenness: float = 0.0


class LabelCounts:
    """Classes of single labels, or the columns of label indicators, and how often they occur."""

    def __init__(self, estimator):
        self.estimator, self.classes = estimator, None
        self.is_multilabel = None
        self.squares = 0.0  # over the pieces: of the counts, over the rows of the piece

    def add(self, y, weight):
        """Take the labels of some rows."""
        labels, is_multilabel, _ = check_labels(self.estimator, y, len(y))
        if self.is_multilabel is None:
            self.is_multilabel = is_multilabel
        elif self.is_multilabel != is_multilabel:
            raise ValueError("y has label indicators here, and single labels elsewhere.")
        weight = np.ones(len(y)) if weight is None else weight
        if is_multilabel and self.classes is not None and len(self.classes) != labels.shape[1]:
            raise ValueError(
                f"y has {labels.shape[1]} columns here, and {len(self.classes)} before."
            )
        if is_multilabel:
            codes, self.classes = (labels != 0).astype(np.intp), np.arange(labels.shape[1])
            found = [np.array([column == k for k in (0, 1)]) for column in codes.T]
            counts = np.array([its.sum(axis=1) for its in found])
            sums = np.array([its @ weight for its in found])
        else:
            labels = labels.astype(str) if labels.dtype.kind == "O" else labels
            self._meet(find_classes(labels))
            codes, n = find_codes(labels, self.classes), len(self.classes)
            counts = np.bincount(codes, minlength=n)[np.newaxis]
            sums = np.bincount(codes, weight, n)[np.newaxis]
        if not hasattr(self, "counts"):
            self.counts, self.sums = np.zeros_like(counts), np.zeros_like(sums)
            self.before = np.zeros_like(counts)
        self.counts, self.sums = self.counts + counts, self.sums + sums

    def _meet(self, found):
        """Make place for classes that are new."""
        if self.classes is None:
            self.classes = found
            return
        if (found.dtype.kind in "US") != (self.classes.dtype.kind in "US"):
            raise ValueError(
                f"labels must be of one type, text or numbers. Got {write_labels(found)} after "
                f"{write_labels(self.classes)}."
            )
        both = join_classes([self.classes, found])
        if len(both) > len(self.classes):
            places = np.searchsorted(both, self.classes)
            for name in ("counts", "sums", "before"):
                old = getattr(self, name)
                new = np.zeros((1, len(both)), old.dtype)
                new[:, places] = old
                setattr(self, name, new)
        self.classes = both

    def end_piece(self):
        """Note how the labels of a piece, all since the last one, are shared out."""
        counts = (self.counts - self.before).astype(np.float64)
        self.squares += (counts**2).sum() / counts[0].sum()
        self.before = self.counts.copy()

    def unevenness(self):
        """Return the part of the variance of labels that lies between pieces, 0 to 1."""
        n_rows = self.counts[0].sum()
        even = ((self.counts / n_rows) ** 2).sum()
        within = len(self.counts) - even
        return float((self.squares / n_rows - even) / within) if within > 0 else 0.0

    def merge(self, other):
        """Take what was counted elsewhere."""
        if other.is_multilabel != self.is_multilabel or (
            self.is_multilabel and len(other.classes) != len(self.classes)
        ):
            raise ValueError("y has labels of different forms in different parts.")
        if not self.is_multilabel:
            self._meet(other.classes)
            other._meet(self.classes)
        self.counts, self.sums = self.counts + other.counts, self.sums + other.sums

    def typical(self):
        """Return a y that an estimator checks in the place of all."""
        if not self.is_multilabel:
            return self.classes
        return np.array([[0], [1]]) * np.ones(len(self.classes), np.int64)

    def as_targets(self, dtype):
        """Return targets, and weights of these, with the same shares as all rows."""
        if not self.is_multilabel:
            codes = np.arange(len(self.classes), dtype=dtype)[:, np.newaxis]
            return codes, self.sums[0].astype(dtype)
        shares = self.sums[:, 1] / self.sums.sum(axis=1)
        return np.ascontiguousarray(shares[np.newaxis], dtype), None


class NumberSums:
    """Mean, spread, range and a sample of real targets."""

    def __init__(self, estimator):
        self.probe, self.moments = copy(estimator), Moments()
        self.low = self.high = None
        self.of_pieces, self.piece = Moments(), []  # means of pieces; rows and means of this one
        self.sample, self.every, self.n_seen = [], 1, 0

    def add(self, y, weight):
        """Take the targets of some rows."""
        targets, _ = self.probe._check_y(y, len(y), np.float64, fresh=True, incremental=False)
        if self.low is not None and len(self.low) != targets.shape[1]:
            raise ValueError(f"y has {targets.shape[1]} columns here, and {len(self.low)} before.")
        self.moments.add(targets, weight)
        self.piece.append((len(targets), weighted_mean(targets, None)))
        counted = targets if weight is None else targets[weight > 0]
        if len(counted):
            low, high = counted.min(axis=0), counted.max(axis=0)
            self.low = low if self.low is None else np.minimum(self.low, low)
            self.high = high if self.high is None else np.maximum(self.high, high)
        self._keep(targets, weight)

    def _keep(self, targets, weight):
        """Keep every so many-th row: of all rows the same, however they come."""
        first = -self.n_seen % self.every
        self.n_seen += len(targets)
        weight = np.ones(len(targets)) if weight is None else weight
        rows = slice(first, None, self.every)
        self.sample.append((targets[rows].copy(), weight[rows].copy()))
        if sum(len(part) for part, _ in self.sample) > SAMPLE:
            parts = [np.concatenate(part)[::2] for part in zip(*self.sample, strict=True)]
            self.sample, self.every = [tuple(parts)], 2 * self.every

    def end_piece(self):
        """Note the mean of a piece, all since the last one."""
        n_rows, means = map(np.array, zip(*self.piece, strict=True))
        self.of_pieces.add(
            np.average(means, axis=0, weights=n_rows)[np.newaxis], n_rows.sum()[None]
        )
        self.piece = []

    def unevenness(self):
        """Return the part of the variance of numbers that lies between pieces, 0 to 1."""
        spread, of_pieces = self.moments.deviation(), self.of_pieces.deviation()
        shares = np.divide(of_pieces, spread, out=np.zeros_like(spread), where=spread > 0)
        return float((np.minimum(shares, 1.0) ** 2).max())

    def merge(self, other):
        """Take what was summed up elsewhere."""
        if other.low is not None and self.low is not None and len(other.low) != len(self.low):
            raise ValueError(
                f"y has {len(other.low)} columns in one part, and {len(self.low)} in another."
            )
        self.moments.merge(other.moments)
        if self.low is None:
            self.low, self.high = other.low, other.high
        elif other.low is not None:
            self.low, self.high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        self.sample, self.n_seen = self.sample + other.sample, self.n_seen + other.n_seen

    def typical(self):
        """Return a y that an estimator checks in the place of all."""
        row = self.sample[0][0][:1]
        return row[:, 0] if row.shape[1] == 1 else row

    def as_targets(self, dtype):
        """Return targets, and weights of these, that stand for all rows."""
        targets, weight = (np.concatenate(part) for part in zip(*self.sample, strict=True))
        even = not np.ptp(weight)
        return np.ascontiguousarray(targets), None if even or not weight.any() else (
            weight.astype(dtype)
        )


def check_weights(batch, dtype):
    """Return the weights of a batch in `dtype`, or None; 0 is allowed for all of them."""
    if batch.weight is None:
        return None
    weight = np.asarray(as_numbers(batch.weight))
    if weight.ndim != 1:
        raise SourceError(f"sample_weight must have one dimension in {batch.place()}.")
    bad = ~((weight >= 0) & np.isfinite(weight))
    if bad.any():
        row = int(bad.argmax())
        raise SourceError(
            f"sample_weight must be finite and not negative. Got {weight[row]} in "
            f"{batch.place(row, batch.weight_name)}."
        )
    return np.ascontiguousarray(weight, dtype)


def check_targets_in(batch, check):
    """Return ``check(batch.y)``; whatever it refuses is told with the place."""
    try:
        return check(batch.y)
    except SourceError:
        raise
    except (ValueError, TypeError) as error:
        row = bisect_left(range(len(batch.y)), True, key=lambda k: _fails(batch.y[: k + 1], check))
        told = _refusal(batch.y[row : row + 1], check) or error
        if isinstance(error, TypeError) and "not supported between" in str(error):
            told = "labels must be of one type, text or numbers, which those before are not."
        told = re.sub(r" in row \d+", "", str(told))
        row = row if row < len(batch.y) else None
        raise SourceError(f"In {batch.place(row, batch.y_name)}: {told}") from error


def _fails(y, check):
    return _refusal(y, check) is not None


def _refusal(y, check):
    """Return what a check raises, or None."""
    try:
        check(y)
    except (ValueError, TypeError) as error:
        return error
    return None


def require_targets(source, name):
    """Raise for a source without y, in the name of an estimator."""
    if not source.has_y:
        raise ValueError(
            f"This {name} estimator requires y to be passed, but the source has none: give it y, "
            "from_arrays(X, y), or target='name of a column'."
        )


def sum_up(estimator, source, dtype):
    """Read y and weights once.

    Parameters
    ----------
    estimator : BackpropClassifier or BackpropRegressor
    source : Source
        Its parts know how many rows they have afterwards.
    dtype : dtype
        Of the arithmetic.

    Returns
    -------
    Summary

    Raises
    ------
    SourceError
        For what a y or weights in an array are refused for.
    """
    require_targets(source, type(estimator).__name__)
    labels, summary, said = is_classifier(estimator), Summary(), []
    found = LabelCounts(estimator) if labels else NumberSums(estimator)
    any_weight, seen = False, hashlib.blake2b(digest_size=16)
    stretch = source.window or source.memory_limit / max(source.bytes_per_row, 1.0) / 2
    with keep_warnings(said):
        for number, part in enumerate(source.parts):
            n_rows = n_of_piece = 0
            for batch in source._batches([number], targets_only=True):
                weight = check_weights(batch, dtype)
                any_weight = any_weight or weight is None or bool(weight.any())
                check_targets_in(batch, lambda y, w=weight: found.add(y, w))
                n_rows, n_of_piece = n_rows + len(batch), n_of_piece + len(batch)
                if n_of_piece >= stretch:
                    found.end_piece()
                    summary.n_pieces, n_of_piece = summary.n_pieces + 1, 0
                _hash_targets(seen, batch)
                if batch.X is not None and not source.takes_turns:
                    _keep(summary.kept, batch)
            if n_of_piece:
                found.end_piece()
                summary.n_pieces += 1
            source.parts[number] = replace(part, n_rows=n_rows)
            summary.n_rows += n_rows
    if not summary.n_rows:
        raise ValueError("The source has no rows.")
    if not any_weight:
        raise ValueError("Sample weights must contain at least one non-zero number.")
    for message, category in dict.fromkeys(said):
        warn_user(message, category)
    summary.weighs, summary.seen = source.has_weight, seen.hexdigest()
    summary.labels, summary.numbers = (found, None) if labels else (None, found)
    by_chance = (summary.n_pieces - 1) / summary.n_rows
    summary.unevenness = max(found.unevenness() - by_chance, 0.0)
    return summary


def _hash_targets(seen, batch):
    """Take y and weights of a batch into a hash."""
    for array in (batch.y, batch.weight):
        if array is not None:
            array = np.asarray(array)
            array = array.astype(str) if array.dtype.kind == "O" else array
            seen.update(array.tobytes())


def _keep(kept, batch):
    """Keep some rows of a batch, and of the others every second where there are many.

    By a mask, which copies them: a slice would keep the whole batch in memory.
    """
    kept.append(batch[np.arange(len(batch)) < OF_EACH])
    if len(kept) > OF_EACH:
        del kept[1::2]


def sample_blocks(source, n_rows, random_state):
    """Read some blocks at random: X as it came, y and weights.

    Parts are taken in random order, of each at most a 16th of the rows (but from its beginning), so
    that many are seen; a source without parts to choose from gives its first rows.

    Parameters
    ----------
    source : Source
    n_rows : int
        About so many; all where there are no more.
    random_state : RandomState

    Returns
    -------
    X : table, array or frame
    y, weight : ndarray or None
    """
    order = random_state.permutation(len(source.parts)).tolist()
    each = -(-n_rows // min(BLOCKS, len(order)))
    kept, n_kept = [], 0
    for number in order:
        n_of_part = 0
        for batch in source._batches([number], n_rows=each):
            wanted = min(each - n_of_part, n_rows - n_kept)
            if wanted < len(batch):  # a mask copies, a slice would keep all of them in memory
                batch = batch[np.arange(len(batch)) < wanted]
            kept.append(batch)
            n_of_part, n_kept = n_of_part + len(batch), n_kept + len(batch)
            if n_of_part >= each or n_kept >= n_rows:
                break
        if n_kept >= n_rows:
            break
    y = None if kept[0].y is None else np.concatenate([batch.y for batch in kept])
    weight = None if kept[0].weight is None else np.concatenate([batch.weight for batch in kept])
    return join_tables([batch.X for batch in kept]), y, weight
