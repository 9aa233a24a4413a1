"""Numbers become scaled columns and pieces: what is learned of each column, and the encoding.

A column of numbers gives its scaled value z / sqrt(1 + (z / 3)^2), where z is the distance from the
median in quartile ranges (RealMLP: Holzmueller et al. 2024), and beside it pieces between knots,
which stand at quantiles: how far the value has come through each bin (Gorishniy et al. 2022), or
hat functions on the same knots, which are differences of such pieces.  Amounts, most of which are
the same value, also have an indicator of each frequent value.  All columns are encoded at once by
vectors with one entry for each output; rows go in blocks that stay in the cache.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

LARGEST = np.finfo(np.float64).max
TINY = 1e-300  # narrower bins are as narrow as this
FARTHEST = 1e8  # in quartile ranges; beyond, the smooth clip is 3 to seven digits
ELEMENTS = 131_072  # of one block: 1 MiB of float64
# A column of amounts, such as capital gains: half of its rows have the same value, and the others
# one of more than a few.  On adult (20 000 rows) indicators of both its columns of amounts took
# 0.8 % off the log loss; of its ages and hours, too, only 0.3 % (November 2026).
USUAL, MORE_THAN = 0.5, 9  # share of the rows, and values
SAMPLE = 4096  # rows that tell that a column has many values


@dataclass
class NumberFit:
    """What is known of one column of numbers; in units of `factor` but for `knots`."""

    knots: np.ndarray  # in the units of the column; empty if it has one value, besides missing ones
    factor: float  # a power of two, 1 but for columns near the ends of float64's range
    median: float
    scale: float
    is_pair: bool  # two values: one piece says it all
    has_missing: bool
    shows_missing: bool
    shown: np.ndarray | None = None  # which knots have an indicator; None: none


def count_values(values):
    """Count the different values of a column up to 3, infinity among them and NaN left out."""
    present = values[~np.isnan(values)] if values.dtype.kind == "f" else values
    if not present.size:
        return 0
    low, high = present.min(), present.max()
    if low == high:
        return 1
    return 3 if ((present > low) & (present < high)).any() else 2


def count_few(values, most):
    """Count the different values of a column, NaN left out, or return None if more than `most`."""
    for part in (values[:SAMPLE], values):
        n = len(np.unique(part))
        if n > most + 1:
            return None
    if values.dtype.kind == "f":
        n -= bool(np.isnan(values).any())
    return n if n <= most else None


def fit_numbers(values, n_bins, shows_missing, min_frequency=None):
    """Learn median, scale and knots of a column with values.

    Parameters
    ----------
    values : ndarray of shape (n_rows,)
        NaN is missing; infinities are put a whole range beyond the other values.
    n_bins : int
        At most so many bins, which end at quantiles, or at each value if they are few.
    shows_missing : bool
        Whether missing values have an indicator.
    min_frequency : int or None, default=None
        Rows that a value of an amount needs for an indicator; None: there are none.
    """
    missing = np.isnan(values)
    with np.errstate(over="ignore"):  # of longer floats
        present = np.array(values[~missing], np.float64)
    infinite = np.isinf(present)
    if infinite.any():
        _pull_in(present, infinite)
    present.sort()
    exponent = int(np.frexp(max(-present[0], present[-1]))[1])
    factor = 1.0 if abs(exponent) < 500 else float(np.ldexp(1.0, min(-exponent, 1023)))
    present *= factor
    is_new = np.concatenate([[True], present[1:] != present[:-1]])
    distinct = present[is_new]
    lower, median, upper = _quantiles(present, [0.25, 0.5, 0.75])
    scale = upper - lower if upper > lower else present[-1] - present[0]
    counts = np.diff(np.append(np.flatnonzero(is_new), len(present)))
    knots, shown = distinct, None
    if len(distinct) > n_bins + 1:
        knots = _spread_knots(distinct, counts, n_bins)
    elif (
        min_frequency is not None
        and len(distinct) > MORE_THAN
        and counts.max() >= USUAL * len(present)
    ):
        frequent = np.flatnonzero(counts >= min_frequency)
        shown = frequent if len(frequent) else None
    return NumberFit(
        knots=knots / factor if len(knots) > 1 else knots[:0],
        factor=factor,
        median=float(median),
        scale=max(float(scale), TINY),
        is_pair=len(distinct) == 2,
        has_missing=bool(missing.any()),
        shows_missing=shows_missing,
        shown=shown,
    )


def _spread_knots(distinct, counts, n_bins):
    """Values at about equal shares of the rows, where a value counts by the root of its rows.

    Where no value repeats these are the quantiles.  A value that most rows have (0 in a column of
    amounts) would take most of the quantiles and leave few to the others: on adult, which has two
    such columns, the error fell by 3 % of itself and the log loss by 0.008.
    """
    weights = np.sqrt(counts)
    reached = (np.cumsum(weights) - weights / 2) / weights.sum()
    places = np.interp(np.linspace(0, 1, n_bins + 1), reached, np.arange(len(distinct)))
    return distinct[np.unique(np.rint(places).astype(np.intp))]


def _pull_in(present, infinite):
    """Put infinities, in place, a whole range beyond the finite values."""
    finite = present[~infinite] if not infinite.all() else np.zeros(1)
    low, high = finite.min(), finite.max()
    with np.errstate(over="ignore"):
        span = min(high - low, LARGEST) or max(abs(high), 1.0)
        present[present == np.inf] = min(high + span, LARGEST)
        present[present == -np.inf] = max(low - span, -LARGEST)


def _quantiles(ordered, shares):
    """Interpolate between sorted values, none of which is near the ends of float64's range."""
    positions = np.asarray(shares) * (len(ordered) - 1)
    below = np.floor(positions).astype(np.intp)
    above = np.minimum(below + 1, len(ordered) - 1)
    rest = positions - below
    return ordered[below] * (1 - rest) + ordered[above] * rest


class NumberPlan:
    """The encoding of all columns of numbers.

    Parameters
    ----------
    fits : list of NumberFit
        One for each column of the matrix of numbers.
    encoding : {"piecewise", "hat", "none"}

    Outputs are the scaled columns, then the pieces, the indicators of missing values and those of
    single values, each in the order of the columns.
    """

    # Of plans in old pickles.
    n_values, first_values, shows_values = 0, np.zeros(0, np.int64), ()

    def __init__(self, fits, encoding):
        self.fits, self.encoding, self.is_hat = fits, encoding, encoding == "hat"
        self.median = np.array([fit.median for fit in fits])
        factors = np.array([fit.factor for fit in fits])
        self.factors = None if (factors == 1).all() else factors
        self.keeps_missing = np.array([fit.has_missing for fit in fits], bool)
        self.missing_source = np.flatnonzero([fit.shows_missing for fit in fits])
        varies = np.array([bool(len(fit.knots)) for fit in fits], bool)
        pairs = np.array([fit.is_pair for fit in fits], bool)
        self.scaled_source = np.flatnonzero(varies & ~pairs)
        self.centre = self.median[self.scaled_source]
        self.per_scale = 1 / np.array([fits[i].scale for i in self.scaled_source])
        pieces = [i for i in np.flatnonzero(varies) if pairs[i] or encoding != "none"]
        self._lay_pieces(pieces, self.is_hat)
        self.n_scaled, self.n_missing = len(self.scaled_source), len(self.missing_source)
        self._lay_values()
        self.n_outputs = self.n_scaled + self.n_pieces + self.n_missing + self.n_values

    def _lay_values(self):
        """Lay out the indicators of single values: for each its column and the value."""
        self.shows_values = [i for i, fit in enumerate(self.fits) if fit.shown is not None]
        self.points = [
            self.fits[i].knots[self.fits[i].shown] * self.fits[i].factor for i in self.shows_values
        ]
        sizes = np.array([len(points) for points in self.points], np.int64)
        self.first_values = np.cumsum(sizes) - sizes  # of each such column, among all
        self.value_source = np.repeat(np.array(self.shows_values, np.intp), sizes)
        self.n_values = int(sizes.sum())

    def _lay_pieces(self, columns, is_hat):
        """Lay out the vectors of the pieces: for each its column, lower knot and 1 / width.

        A hat is the piece that rises to its knot minus the one that rises from it. So before the
        pieces of a column stands one that is 1 (`ones`), and its last hat is its last piece.
        """
        source, low, per_width, ones, ends = [], [], [], [], []
        for i in columns:
            knots = self.fits[i].knots * self.fits[i].factor
            if is_hat and not self.fits[i].is_pair:
                ones.append(len(source))
                source.append(i)
                low.append(0.0)
                per_width.append(0.0)
            source += [i] * (len(knots) - 1)
            low += knots[:-1].tolist()
            per_width += (1 / np.maximum(np.diff(knots), TINY)).tolist()
            ends.append(len(source) - 1)
        self.source, self.n_pieces = np.array(source, np.intp), len(source)
        self.low, self.per_width = np.array(low), np.array(per_width)
        self.ones = np.array(ones, np.intp)
        self.ends = np.array(ends, np.intp)

    def output_sources(self):
        """Array of the column that each output belongs to."""
        parts = [self.scaled_source, self.source, self.missing_source]
        return np.concatenate([*parts, self.value_source] if self.n_values else parts)

    def encode(self, numbers, out):
        """Encode a matrix of numbers (n_rows, n_columns) of any real dtype into `out`, float32."""
        n_rows = max(1, ELEMENTS // max(1, self.n_pieces))
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            if len(numbers) <= n_rows:
                self._encode_block(numbers, out, None)
                return
            work = np.empty((n_rows, self.n_pieces))
            for start in range(0, len(numbers), n_rows):
                block = numbers[start : start + n_rows]
                self._encode_block(block, out[start : start + n_rows], work[: len(block)])

    def fill(self, numbers):
        """Copy numbers to float64, in the units of the plan; missing ones where they are new.

        Returns
        -------
        block : float64 ndarray of shape (n_rows, n_columns)
            The median where a column had nothing missing when it was learned; otherwise still NaN.
        missing : bool ndarray of that shape, or None if nothing is
        """
        with np.errstate(over="ignore"):  # of longer floats
            block = np.array(numbers, np.float64, order="C")
        missing = np.isnan(block)
        if self.factors is not None:
            block *= self.factors
        if not missing.any():
            return block, None
        np.copyto(block, self.median, where=missing & ~self.keeps_missing)
        return block, missing

    def scale(self, block):
        """Return the scaled columns of what `fill` made."""
        scaled = block.take(self.scaled_source, axis=1)
        scaled -= self.centre
        scaled *= self.per_scale
        np.minimum(np.maximum(scaled, -FARTHEST, out=scaled), FARTHEST, out=scaled)
        return np.divide(scaled, np.sqrt(1 + scaled * scaled / 9), out=scaled)

    def _encode_block(self, numbers, out, work):
        block, missing = self.fill(numbers)
        out[:, : self.n_scaled] = self.scale(block)
        end = self.n_scaled + self.n_pieces
        if self.n_pieces:
            work = np.empty((len(block), self.n_pieces)) if work is None else work
            np.take(block, self.source, axis=1, out=work, mode="clip")
            work -= self.low
            work *= self.per_width
            pieces = out[:, self.n_scaled : end]
            if self.is_hat:
                self._make_hats(work, pieces)
            else:
                np.clip(work, 0, 1, out=pieces)
        last = end + self.n_missing
        if self.n_values:
            its = block.take(self.value_source, axis=1)
            np.equal(its, np.concatenate(self.points), out=out[:, last:])
        if missing is None:
            out[:, end:last] = 0
            return
        encoded = out[:, :end]
        encoded[np.isnan(encoded)] = 0
        out[:, end:last] = missing.take(self.missing_source, axis=1)

    def _make_hats(self, work, out):
        np.clip(work, 0, 1, out=work)
        work[:, self.ones] = 1
        np.subtract(work[:, :-1], work[:, 1:], out=out[:, :-1])
        out[:, self.ends] = work[:, self.ends]

    def name_outputs(self, names, knots, missing):
        """List the names of the outputs.

        Parameters
        ----------
        names, missing : list of str
            Of the columns, and what is missing where they are.
        knots : list of lists of str
        """
        listed = [names[i] for i in self.scaled_source]
        for i in dict.fromkeys(self.source.tolist()):
            if self.fits[i].is_pair:
                listed.append(names[i])
            elif self.is_hat:
                listed += [f"{names[i]} at {knot}" for knot in knots[i]]
            else:
                listed += [f"{names[i]}[{a}, {b})" for a, b in pairwise(knots[i])]
        listed += [f"{missing[i]} missing" for i in self.missing_source]
        return listed + [
            f"{names[i]}={knots[i][k]}" for i in self.shows_values for k in self.fits[i].shown
        ]


def name_knots(knots):
    """Write numbers with as few digits as tell them apart."""
    for digits in (4, 6, 9):
        names = [f"{knot:.{digits}g}" for knot in knots.tolist()]
        if len(set(names)) == len(names):
            return names
    return [repr(knot) for knot in knots.tolist()]
