"""Windows: the rows of a source, checked and converted, a stated number at a time.

In each epoch the parts of a source are read in another order, drawn anew; they fill one window
after the other, whose rows are then trained on in an order that the engine draws.  Two windows take
turns: a thread fills one while the other is trained on.  Neither the threads nor their speed change
the order.  What is in a window is the business of `problem`; nothing here trains.
"""

import hashlib
import math
import queue
import threading
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import scipy.sparse

from fastbp.messages import keep_warnings
from fastbp.streams.rows import SourceError
from fastbp.streams.summary import check_targets_in, check_weights

LOOK_AROUND_S = 0.1
# Standard deviations by which the mean of y may stray from window to window.  Accuracy on letter,
# sorted by class: 88.5 % in memory, 82.3 at 0.35, 85.2 at 0.18, 87.6 at 0.1, 88.1 at 0.045; R2 on
# California, sorted by price: 0.753, 0.725, 0.738, 0.748, 0.750 (November 2026).
STRAY = 0.05
MOST_TURNS = 8
MARGIN = 1.2  # a window of sparse rows may have more values than the average says
INT32 = np.iinfo(np.int32).max
# The place of a training that has not begun; see `StreamedRows.place`.
BEGINNING = {"seed": None, "epoch": 0, "n_rows": 0, "loss": 0.0}


@dataclass
class Rows:
    """Where rows of a window are, in arrays that are filled and read in turns."""

    X: "np.ndarray | SparseRows"
    targets: np.ndarray
    weight: np.ndarray | None
    n: int = 0

    def finished(self):
        """Return X, targets and weights of the rows that are there."""
        X = self.X.finished(self.n) if isinstance(self.X, SparseRows) else self.X[: self.n]
        return X, self.targets[: self.n], None if self.weight is None else self.weight[: self.n]


class SparseRows:
    """Memory for the rows of a window as CSR, which grows where it must.

    Parameters
    ----------
    n_rows, n_features : int
    n_stored : int
        Values that are expected.
    dtype : dtype
    """

    def __init__(self, n_rows, n_features, n_stored, dtype):
        self.n_features, wide = n_features, max(n_stored, n_features) > INT32
        self.data = np.empty(n_stored, dtype)
        self.indices = np.empty(n_stored, np.int64 if wide else np.int32)
        self.ends = np.zeros(n_rows + 1, self.indices.dtype)

    def put(self, n, X, values):
        """Put the rows of X, whose values are given in `dtype`, behind the n rows there are."""
        begin, n_stored = int(self.ends[n]), int(X.indptr[-1])
        end = begin + n_stored
        if end > len(self.data):
            self._grow(begin, max(end, 5 * len(self.data) // 4))
        self.data[begin:end] = values[:n_stored]
        self.indices[begin:end] = X.indices[:n_stored]
        self.ends[n + 1 : n + 1 + X.shape[0]] = X.indptr[1:].astype(np.int64) + begin

    def _grow(self, n_kept, n_stored):
        index = np.int64 if n_stored > INT32 else self.indices.dtype
        for name, dtype in (("data", self.data.dtype), ("indices", index)):
            grown = np.empty(n_stored, dtype)
            grown[:n_kept] = getattr(self, name)[:n_kept]
            setattr(self, name, grown)
        self.ends = self.ends.astype(index)

    def finished(self, n):
        """Return the first n rows, without a copy."""
        stored = int(self.ends[n])
        X = scipy.sparse.csr_array((n, self.n_features), dtype=self.data.dtype)
        X.data, X.indices, X.indptr = self.data[:stored], self.indices[:stored], self.ends[: n + 1]
        return X


class StreamedRows:
    """The rows of a source in the place of an array X.

    Parameters
    ----------
    source : Source
        Whose parts know how many rows they have.
    dtype : dtype
        Of the arithmetic.
    engine : module
    encode : callable
        ``encode(y)``: targets (n_rows, n_targets) of `dtype`.
    weigh : callable or None
        ``weigh(weight, targets)``: weights, those of the classes multiplied in.
    n_targets : int
    n_rows_of_window : int
    held : int64 ndarray or None
        Rows, by their sorted numbers, that are left out.
    found : dict of str to str, or None
        Fingerprints of what was found in the rows: others have other.
    turns : int, default=1
        How often an epoch reads each part, to train on a share of its rows; see `choose_turns`.

    Attributes
    ----------
    shape : tuple of (n_samples, n_features)
        Without the rows that are held out.
    place : dict
        Where training is: the `seed` of the orders of parts, the `epoch`, and of this one the
        `n_rows` that were trained on and the sum of their `loss`; plain numbers, to be saved.
    """

    def __init__(
        self, source, dtype, engine, encode, weigh, n_targets, n_rows_of_window, held=None,
        found=None, turns=1,
    ):  # fmt: skip
        self.source, self.dtype, self.engine = source, np.dtype(dtype), engine
        self.encode, self.weigh, self.n_targets = encode, weigh, n_targets
        self.size, self.held, self.found, self.turns = n_rows_of_window, held, found, turns
        self.is_sparse = source.is_sparse
        n_held = 0 if held is None else len(held)
        self.shape, self.ndim = (source.n_rows - n_held, source.n_features), 2
        self.bytes_per_row = source.bytes_per_row
        self.place = dict(BEGINNING)
        self.reader, self.tell = None, None

    def identity(self):
        """Return what tells these rows from others, as far as it can be known, as dict of text.

        No pass over the features is made for it: all of y and of the weights were read anyway, and
        of X some rows.  What a file says of itself is in `describe_files`.
        """
        held = None if self.held is None else hashlib.blake2b(self.held.tobytes()).hexdigest()
        found = self.found or {}
        rows = repr((self.shape, self.source._identity(), held, found.get("X")))
        return {"X": rows, "y and sample_weight": found.get("y and sample_weight")}

    # -------------------------------------------------------------------------------- reading

    def order_of_parts(self, epoch, turn=0):
        """Return the numbers of the parts in the order in which a turn of an epoch reads them."""
        n_parts, seed = len(self.source.parts), self.place["seed"]
        if seed is None or not self.source.takes_turns:
            return np.arange(n_parts)
        bits = np.random.MT19937(np.random.SeedSequence([seed, epoch, turn][: 3 if turn else 2]))
        return np.random.RandomState(bits).permutation(n_parts)

    def _batches(self, epoch, done=0):
        """Yield the batches of an epoch, without the rows that are held out, nor those done before.

        Parts that are done are not read; one that is done in part is, from its beginning.
        """
        offsets = self.source.offsets()
        turns = range(1 if self.place["seed"] is None else self.turns)
        for turn, number in ((k, n) for k in turns for n in self.order_of_parts(epoch, k).tolist()):
            row, n_rows = offsets[number], self.source.parts[number].n_rows
            if done:
                n_rows = self._count(row, n_rows, turn, len(turns))
                if 0 < n_rows <= done:
                    done -= n_rows
                    continue
            for batch in self.source._batches([number]):
                first, row = row, row + len(batch)
                mask = self._mask(first, row, first - offsets[number], turn, len(turns))
                batch = batch if mask is None else batch[mask]
                if done:
                    n_rows = min(done, len(batch))
                    batch, done = batch[n_rows:], done - n_rows
                if len(batch):
                    yield batch
                del batch

    def _held_in(self, first, last):
        """Return those of the rows from `first` to before `last` that are held out, from 0 on."""
        if self.held is None:
            return np.empty(0, np.int64)
        begin, end = np.searchsorted(self.held, [first, last])
        return self.held[begin:end] - first

    def _count(self, first, n_rows, turn, n_turns):
        """Count the rows of a part that a turn trains on."""
        held = self._held_in(first, first + n_rows)
        return len(range(turn, n_rows, n_turns)) - int((held % n_turns == turn).sum())

    def _mask(self, first, last, place, turn, n_turns):
        """Return a mask of the rows of a batch, at a place of its part, that a turn trains on.

        None for all of them.
        """
        held = self._held_in(first, last)
        if n_turns == 1 and not len(held):
            return None
        mask = np.arange(place, place + last - first) % n_turns == turn
        mask[held] = False
        return mask

    def make_rows(self):
        """Make the memory of a window."""
        n = min(self.size, self.shape[0])
        if self.is_sparse:
            n_stored = int(n * self.bytes_per_row / (self.dtype.itemsize + 4)) + 1
            X = SparseRows(n, self.shape[1], n_stored, self.dtype)
        else:
            X = np.empty((n, self.shape[1]), self.dtype)
        weighs = self.source.has_weight or self.weigh is not None
        weight = np.empty(n, self.dtype) if weighs else None
        return Rows(X, np.empty((n, self.n_targets), self.dtype), weight)

    def fill(self, epoch, take, done=0):
        """Yield windows of an epoch, after what is done, in memory that ``take()`` gives."""
        rows = None
        for batch in self._batches(epoch, done):
            begin = 0
            while begin < len(batch):
                if rows is None:
                    rows = take()
                    rows.n, size = 0, len(rows.targets)
                end = min(len(batch), begin + size - rows.n)
                self._put(batch[begin:end], rows)
                begin = end
                if rows.n == size:
                    yield rows
                    rows = None
            del batch
        if rows is not None:
            yield rows

    def _put(self, batch, rows):
        """Check rows and put them behind those that are there."""
        place = slice(rows.n, rows.n + len(batch))
        if self.is_sparse:
            rows.X.put(rows.n, *self._sparse(batch))
        else:
            out = rows.X[place]
            if not self.source.write(batch, out, self.engine):
                self.source.refuse_numbers(batch, out)
        rows.targets[place] = check_targets_in(batch, self.encode)
        if rows.weight is not None:
            weight = check_weights(batch, self.dtype)
            if self.weigh is not None:
                weight = self.weigh(weight, rows.targets[place])
            rows.weight[place] = weight
        rows.n += len(batch)

    def _sparse(self, batch):
        """Return the rows of a batch as CSR, and their values, checked, in `dtype`."""
        X = self.source.matrix(batch)
        with np.errstate(over="ignore"):
            values = np.ascontiguousarray(X.data, self.dtype)
        if not self.engine.all_finite(values):
            stored = int(np.flatnonzero(~np.isfinite(values))[0])
            row = int(np.searchsorted(X.indptr, stored, side="right")) - 1
            raise SourceError(
                f"Column {X.indices[stored]} of X has a value that is missing or beyond the range "
                f"of {self.dtype} in {batch.place(row)}."
            )
        return X, values

    # ------------------------------------------------------------------------------- in epochs

    def begin(self, seed, n_epochs, place=None):
        """Begin to read so many epochs: with a seed the parts in other orders; or from a place."""
        self.close()
        self.place = BEGINNING | ({"seed": seed} if place is None else place)
        self.last_epoch = n_epochs + self.place["epoch"]

    def epoch(self):
        """Yield X, targets and weights of the windows of the next epoch, or of the rest of it."""
        if self.reader is None:
            self.reader = ReadAhead(self, self.place, self.last_epoch)
        while (rows := self.reader.next()) is not None:
            yield rows.finished()
            self.reader.give_back(rows)
        self.place |= {"epoch": self.place["epoch"] + 1, "n_rows": 0, "loss": 0.0}

    def reach(self, n_rows, loss):
        """Note that so many rows of the epoch were trained on, and the sum of their losses."""
        self.place |= {"n_rows": int(n_rows), "loss": float(loss)}
        if self.tell:
            self.tell(n_rows)

    def close(self):
        """End the thread that reads."""
        if self.reader is not None:
            self.reader.close()
            self.reader = None


class ReadAhead:
    """A thread that fills windows, epoch after epoch, while others are trained on.

    Parameters
    ----------
    stream : StreamedRows
    place : dict
        Where to begin, as the stream has it.
    last : int
        The epoch before which to end.
    """

    def __init__(self, stream, place, last):
        self.stream, self.epochs = stream, range(place["epoch"], last)
        self.done = place["n_rows"]
        self.free, self.full = queue.Queue(), queue.Queue()
        self.stop = threading.Event()
        for _ in range(2):
            self.free.put(None)  # memory is made when it is needed
        self.thread = threading.Thread(target=self._run, name="fastbp reads ahead", daemon=True)
        self.thread.start()

    def _run(self):
        try:
            with keep_warnings([]):  # said in the first pass
                for epoch in self.epochs:
                    for rows in self.stream.fill(epoch, self._take, self.done):
                        self.full.put(rows)
                    self.full.put(None)
                    self.done = 0
        except _StoppedError:
            pass
        except BaseException as error:
            self.full.put(error)

    def _take(self):
        """Return a window to fill, once one is free."""
        rows = self.free.get()
        if self.stop.is_set():
            raise _StoppedError
        return self.stream.make_rows() if rows is None else rows

    def next(self):
        """Return the next window, or None at the end of an epoch; raise what the thread raised.

        With a look around now and then: a wait without an end may not notice an interrupt.
        """
        while True:
            with suppress(queue.Empty):
                found = self.full.get(timeout=LOOK_AROUND_S)
                break
        if isinstance(found, BaseException):
            self.full.put(found)  # whoever asks again hears it again
            raise found
        return found

    def give_back(self, rows):
        """Let a window be filled again."""
        self.free.put(rows)

    def close(self):
        """End the thread: after the window in hand."""
        self.stop.set()
        self.free.put(None)
        self.free.put(None)
        self.thread.join()


class _StoppedError(Exception):
    """Nobody wants to hear more."""


def choose_size(source, n_targets, dtype, batch_size, kept=0):
    """Return the rows of a window: as stated, or what memory allows, at most; whole minibatches.

    Windows of an epoch are even: a short last one would hold rows of few parts, and the epoch end
    with them. Fashion-MNIST sorted by class, in windows of 14600 rows and a last one of 1600, had
    an accuracy of 0.69 instead of 0.87 (November 2026).

    Parameters
    ----------
    source : Source
    n_targets : int
    dtype : dtype
    batch_size : int
    kept : int, default=0
        Bytes that are taken by something else.

    Raises
    ------
    ValueError
        If not even a minibatch fits.
    """
    if source.window is not None:
        return even_size(
            source.n_rows, math.ceil(source.window / batch_size) * batch_size, batch_size
        )
    itemsize = np.dtype(dtype).itemsize
    width = source.n_features * itemsize
    if source.is_sparse:
        stored = min(source.dtype.itemsize, itemsize)  # bytes of a value, in the source or here
        width = MARGIN * source.bytes_per_row * (itemsize + 4) / (stored + 4)
    row_bytes = width + (n_targets + 1) * itemsize + 8  # weights, and the order
    taken = source.reading_bytes() + source.spare_bytes() + kept
    n_rows = int((source.memory_limit - taken) / 2 / row_bytes)
    if n_rows < batch_size:
        needed = taken + 2 * batch_size * row_bytes
        raise ValueError(
            f"memory_limit ({source.memory_limit} bytes for a network) is too little: reading "
            f"takes about {source.reading_bytes()} bytes, and two minibatches of {batch_size} rows "
            f"of {source.n_features} features {int(2 * batch_size * row_bytes)}. Raise it to "
            f"{int(1.5 * needed)} or more, or lower batch_size."
        )
    return even_size(source.n_rows, n_rows // batch_size * batch_size, batch_size)


def even_size(n_rows, size, batch_size):
    """Return the rows of each of as many windows as those of `size` rows, whole minibatches.

    Parameters
    ----------
    n_rows : int or None
        Of an epoch, if known.
    size : int
        Rows of a window at most, whole minibatches.
    batch_size : int
    """
    if n_rows is None or n_rows <= size:
        return size
    n_windows = math.ceil(n_rows / size)
    return math.ceil(n_rows / n_windows / batch_size) * batch_size


def choose_turns(source, size, summary):
    """Return in how many turns an epoch reads each part, and how uneven windows are then.

    The mean of y in a window of k of n pieces strays by ``sqrt(u (1 / k - 1 / n))`` standard
    deviations, u being the part of the variance that lies between pieces, 1 in a sorted file.
    Where that is too much, each turn takes every so many-th row of all parts, so that a window has
    rows of more of them; what it costs is reading.

    Parameters
    ----------
    source : Source
    size : int
        Rows of a window.
    summary : Summary

    Returns
    -------
    turns : int
    stray : float
        In standard deviations.
    """
    n_pieces, unevenness = summary.n_pieces, summary.unevenness
    at_once = size * n_pieces / source.n_rows
    turns = 1
    if source.takes_turns and unevenness:
        wanted = 1 / (STRAY**2 / unevenness + 1 / n_pieces)
        turns = min(max(math.ceil(wanted / at_once), 1), MOST_TURNS)
    k = max(min(turns * at_once, n_pieces), 1.0)
    return turns, math.sqrt(unevenness * (1 / k - 1 / n_pieces))


def take_rows(source, rows=None):
    """Read all rows, or some by their sorted numbers, into arrays.

    Returns
    -------
    X : ndarray or CSR array
    y, weight : ndarray or None
    """
    kept, first = [], 0
    for batch in source._batches():
        if rows is not None:
            begin, end = np.searchsorted(rows, [first, first + len(batch)])
            first += len(batch)
            if begin == end:
                continue
            mask = np.zeros(len(batch), bool)
            mask[rows[begin:end] - first + len(batch)] = True
            batch = batch[mask]
        X = source.matrix(batch)
        if X.dtype.kind == "f" and not scipy.sparse.issparse(X) and not np.isfinite(X).all():
            source.refuse_numbers(batch, X)
        kept.append((X, batch.y, batch.weight))
    return join_rows(kept)


def join_rows(kept):
    """Put rows of several batches together: X, y and weights."""
    Xs, ys, weights = zip(*kept, strict=True)
    if scipy.sparse.issparse(Xs[0]):
        X = scipy.sparse.vstack(Xs, format="csr")
    else:
        X = np.concatenate(Xs)
    parts = [None if part[0] is None else np.concatenate(part) for part in (ys, weights)]
    return X, *parts
