"""Targets of unit scale: mean and standard deviation of y, y in these units, and the way back.

Why: a network starts with outputs of about unit size, and its rate, penalty and tolerance are meant
for losses of that size.  A target of 200 000 dollars is out of reach of 200 epochs of Adam's steps
of 0.001; one of 0.001 drowns in the noise of the initial weights and ends training at `tol`.
Whatever y float64 holds can be scaled: sums and squares are those of y over a power of two of its
size, which changes no digit and neither over- nor underflows.
Arrays in, arrays out; nothing of estimators or training.
"""

import numpy as np

from fastbp.messages import may_advise


def unit_of(sizes):
    """Return the power of two at or below each of `sizes` (not negative); one half for 0."""
    return np.ldexp(1.0, np.frexp(np.asarray(sizes, np.float64))[1] - 1)


def _count(values, sample_weight):
    """Return what counts: rows with weight in units of their largest, these units, the weights."""
    if sample_weight is not None:
        counted = sample_weight > 0
        values, sample_weight = values[counted], sample_weight[counted].astype(np.float64)
        sample_weight /= unit_of(sample_weight.max())
    unit = unit_of(np.maximum(values.max(axis=0), -values.min(axis=0)))
    return values / unit, unit, sample_weight


def _mean(values, sample_weight):
    """Mean of each column, where sums are no danger."""
    mean = np.average(values, axis=0, weights=sample_weight)
    return mean + np.average(values - mean, axis=0, weights=sample_weight)  # lost by rounding


def weighted_mean(values, sample_weight):
    """Mean of each column of `values` (n_samples, n_columns) over the rows with weight, float64."""
    values, unit, weight = _count(values, sample_weight)
    return _mean(values, weight) * unit


class Moments:
    """Mean and spread of the columns of y, in one pass and one fixed order of sums.

    Rows that count are taken in pieces of `ROWS`, whatever the blocks in which they come, so that a
    stream and an array have the same bits.  Pieces are put together by the rule of Chan, Golub and
    LeVeque (1979): means move by the difference times the share of the weight, sums of squares
    gain its square times ``w_a w_b / (w_a + w_b)``.
    """

    ROWS = 2**16

    def __init__(self):
        self.waiting, self.n_waiting, self.total = [], 0, None

    def add(self, values, sample_weight):
        """Take rows.

        Parameters
        ----------
        values : float64 ndarray of shape (n_samples, n_outputs)
        sample_weight : ndarray of shape (n_samples,) or None
            All calls have weights, or none has.
        """
        if sample_weight is not None:
            counted = sample_weight > 0
            values, sample_weight = values[counted], sample_weight[counted].astype(np.float64)
        first = 0
        while first < len(values):
            n = min(self.ROWS - self.n_waiting, len(values) - first)
            rows = slice(first, first + n)
            self.waiting.append(
                (values[rows], None if sample_weight is None else sample_weight[rows])
            )
            self.n_waiting, first = self.n_waiting + n, first + n
            if self.n_waiting == self.ROWS:
                self._settle()

    def _settle(self):
        """Put the rows that wait, one piece, to the total."""
        if not self.waiting:
            return
        parts = list(zip(*self.waiting, strict=True))
        values, weight = (
            part[0] if len(part) == 1 else None if part[0] is None else np.concatenate(part)
            for part in parts
        )
        self.waiting, self.n_waiting = [], 0
        piece = _sum_up(values, weight)
        self.total = piece if self.total is None else _merge(self.total, piece)

    def _in_units(self):
        """Return units, and in these mean and standard deviation."""
        self._settle()
        unit, _, weight, mean, squares = self.total
        return unit, mean, np.sqrt(squares / weight)

    def deviation(self):
        """Return the standard deviation of each column, in units of `values`; 0 of none."""
        unit, _, spread = self._in_units()
        return spread * unit

    def merge(self, other):
        """Take the sums of other rows, after the own."""
        self._settle()
        other._settle()
        if other.total is not None:
            self.total = other.total if self.total is None else _merge(self.total, other.total)

    def result(self):
        """Return mean and scale, float64 ndarrays of shape (n_outputs,); see `measure`."""
        unit, mean, spread = self._in_units()
        is_constant = spread <= 10 * np.finfo(np.float64).eps * np.abs(mean)
        scale = np.maximum(spread * unit, np.nextafter(0.0, 1.0))
        return mean * unit, np.where(is_constant, 1.0, scale)


def _sum_up(values, weight):
    """Return units of values and weights, and in these weight, mean and sum of squares about it."""
    weight_unit = 1.0
    if weight is not None:
        weight_unit = unit_of(weight.max())
        weight = weight / weight_unit
    unit = unit_of(np.maximum(values.max(axis=0), -values.min(axis=0)))
    values = values / unit
    mean = _mean(values, weight)
    total = float(len(values)) if weight is None else weight.sum()
    return (
        unit,
        weight_unit,
        total,
        mean,
        total * np.average((values - mean) ** 2, axis=0, weights=weight),
    )


def _merge(a, b):
    """Put two such sums together, in the larger units: a power of two changes no digit."""
    unit, weight_unit = np.maximum(a[0], b[0]), max(a[1], b[1])
    (w_a, mean_a, squares_a), (w_b, mean_b, squares_b) = (
        (w * (its_weight / weight_unit), mean * (its / unit),
         squares * (its / unit) ** 2 * (its_weight / weight_unit))
        for its, its_weight, w, mean, squares in (a, b)
    )  # fmt: skip
    total, apart = w_a + w_b, mean_b - mean_a
    mean = mean_a + apart * (w_b / total)
    return unit, weight_unit, total, mean, squares_a + squares_b + apart**2 * (w_a * (w_b / total))


def measure(targets, sample_weight):
    """Mean and standard deviation of each output.

    Parameters
    ----------
    targets : float64 ndarray of shape (n_samples, n_outputs)
    sample_weight : ndarray of shape (n_samples,) or None

    Returns
    -------
    mean, scale : float64 ndarray of shape (n_outputs,)
        The scale is 1 for an output that is constant up to rounding.
    """
    moments = Moments()
    moments.add(targets, sample_weight)
    return moments.result()


def standardize(targets, mean, scale, dtype):
    """Return ``(targets - mean) / scale`` as a C-contiguous array of `dtype`.

    Raises
    ------
    ValueError
        If a target is so far from the mean that the dtype cannot hold it.
    """
    unit = unit_of(np.maximum(np.abs(mean), scale))
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = np.ascontiguousarray((targets / unit - mean / unit) / (scale / unit), dtype)
    if not np.isfinite(scaled).all():
        raise ValueError(
            f"y has values up to {np.abs(targets).max():.3g} in size, too far from the mean "
            f"({mean}) for targets that are divided by {scale}"
            f"{' (scale_targets=True)' if may_advise('scale_targets') else ''} to fit "
            f"{scaled.dtype}. Leave out such rows"
            f"{', or use dtype=' + repr('float64') if may_advise('dtype') else ''}."
        )
    return scaled


def restore(scaled, mean, scale):
    """Return ``scaled * scale + mean`` in float64; not finite only where the result is not."""
    unit = unit_of(np.maximum(np.abs(mean), scale))
    with np.errstate(over="ignore", invalid="ignore"):
        return (scaled * (scale / unit) + mean / unit) * unit


def is_coarse(mean, scale):
    """Say of each output whether float32 is coarse for such targets: a hundredth of the scale."""
    return np.finfo(np.float32).eps * np.abs(mean) >= scale / 100


def narrow(values, dtype):
    """Return finite values in `dtype`; as they are where it is too narrow for the largest."""
    if dtype is np.float64 or values.dtype == dtype or dtype == np.float64:  # quick ones first
        return values.astype(dtype, copy=False)
    with np.errstate(over="ignore", under="ignore"):
        converted = values.astype(dtype)
    largest = np.abs(converted).max()
    fits = np.finfo(dtype).tiny <= largest < np.inf or not values.any()
    return converted if fits else values
