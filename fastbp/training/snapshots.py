"""What a user says of snapshots: `Snapshot`, where and how often a fit keeps its state in a file.

Writing and reading are in `keeping`; nothing here opens a file or trains.
"""

from copy import copy
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import Any


class Snapshot:
    """A file in which a fit keeps its state, so that after a crash the same call goes on.

    Given as ``fit(..., snapshot=Snapshot(path))``, where a bare path is ``Snapshot(path)``; as the
    `snapshot` of a :class:`BackpropSearchCV`; or set as a callback on a network, so that it works
    within a Pipeline: ``pipeline[-1].set_callbacks(Snapshot(path))``.

    The file is written about once in `every` seconds, after an epoch (on a source of
    :mod:`fastbp.streams` also within one, after a window), and at the end, atomically: a process
    that is killed at any moment leaves a complete file. The same call then goes on from there,
    bit for bit as if it had never stopped. The file of a finished fit says so: the same call
    returns its model, without training. Ctrl-C, or an error, does not finish a fit: the file then
    gets the last copy of the state in memory, from which the same call goes on. One is made about
    each 0.2 s or epoch, or where it is so large that these would cost more than 0.5 % of the time,
    each 200 times as long as it takes.

    Parameters
    ----------
    path : str or path-like
        By custom with the suffix ``.snapshot``. One fit at a time.
    every : float, default=5.0
        Seconds between two snapshots; more where the network is so large that they would cost more
        than 1 % of the time.
    every_epochs : int or None, default=None
        Write one each so many epochs instead, and none within an epoch.
    fresh : bool, default=False
        Start again, whatever the file holds. By default a file of another call is an error.
    other_machine : {"refuse", "warn"}, default="refuse"
        What to do with a file of another engine, instruction set, matmul path (where
        `matmul_precision` is not "highest"; see `show_versions`), processor (of Numba's engine) or
        version of fastbp, or where the files of a source have another size or modification time (as
        copies have): with "warn" the fit goes on, and its bits may differ from those of either
        alone.

    Notes
    -----
    What makes a call the same: all parameters but `n_threads` and `verbose`, which change no bit,
    and the data as the network takes them, recognised by fingerprints of 64 bits. These are taken
    once a fit, of all bytes, at about the speed of the memory by the Cython engine, and at 1 GB a
    second or less by the Numba engine. They guard against accidents, not against somebody who looks
    for collisions.

    A source is recognised without a pass of its own: by all of y and the weights, which are read
    before the first epoch anyway, some 512 rows of X from 8 places, the numbers of rows of its
    parts, and size and modification time of its files, wherever they lie. Of arrays in
    memory and batches of yours there are no files, and a change in X between the rows that are
    looked at goes unseen.

    Files and directories are waited for (fsync). Where the disk fails later, a warning is given,
    and training goes on.

    Not in the file is what other callbacks, and a function or object of yours as `learning_rate`,
    keep for themselves: a fit that goes on warns of these by name.

    Examples
    --------
    >>> import os, tempfile
    >>> import fastbp
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> path = os.path.join(tempfile.mkdtemp(), "iris.snapshot")
    >>> clf = fastbp.BackpropClassifier((10,), max_iter=500, tol=0.01, random_state=0)
    >>> clf = clf.fit(X, y, snapshot=path)
    >>> again = fastbp.BackpropClassifier((10,), max_iter=500, tol=0.01, random_state=0)
    >>> again = again.fit(X, y, snapshot=fastbp.Snapshot(path))  # finished: it is only read
    >>> print("largest difference:", abs(again.coefs_[0] - clf.coefs_[0]).max())
    largest difference: 0.0
    """

    __module__ = "fastbp"
    _replaces_others = False  # whether a file of another call is begun anew

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        every: float = 5.0,
        every_epochs: int | None = None,
        fresh: bool = False,
        other_machine: str = "refuse",
    ) -> None:
        if not isinstance(path, str | PathLike):
            raise TypeError(f"path must be a str or a path-like object, got {path!r}.")
        is_number = isinstance(every, Real) and not isinstance(every, bool)
        if not (is_number and every >= 0):
            raise ValueError(f"every must be a number of seconds, at least 0, got {every!r}.")
        if every_epochs is not None:
            is_int = isinstance(every_epochs, Integral) and not isinstance(every_epochs, bool)
            if not (is_int and every_epochs >= 1):
                raise ValueError(
                    f"every_epochs must be an int of at least 1, or None: {every_epochs!r}."
                )
            every_epochs = int(every_epochs)
        if other_machine not in ("refuse", "warn"):
            raise ValueError(f"other_machine must be 'refuse' or 'warn', got {other_machine!r}.")
        self.path, self.every, self.every_epochs = Path(path), every, every_epochs
        self.fresh, self.other_machine = bool(fresh), other_machine

    def __repr__(self):
        given = {"every": 5.0, "every_epochs": None, "fresh": False, "other_machine": "refuse"}
        more = [f", {k}={getattr(self, k)!r}" for k, v in given.items() if getattr(self, k) != v]
        return f"Snapshot({str(self.path)!r}{''.join(more)})"

    # scikit-learn's protocol of callbacks; the fit itself finds this object and does the work.

    def setup(self, estimator: Any, context: Any) -> None:
        """Refuse an estimator that would not look for it."""
        if not hasattr(estimator, "_parameter_rules"):
            raise TypeError(
                f"A Snapshot is set on a network of fastbp, not on a {type(estimator).__name__}: "
                "pipeline[-1].set_callbacks(fastbp.Snapshot(path)). A search has a parameter, "
                "BackpropSearchCV(..., snapshot=path)."
            )

    def teardown(self, estimator: Any, context: Any) -> None:
        """Do nothing."""

    def on_fit_task_begin(self, estimator: Any, context: Any, **told: Any) -> None:
        """Do nothing."""

    def on_fit_task_end(self, estimator: Any, context: Any, **told: Any) -> bool:
        """Do nothing, and stop nothing."""
        return False


def as_snapshot(given):
    """Return what a user gave as `snapshot`: None, a path or a Snapshot."""
    if given is None or isinstance(given, Snapshot):
        return given
    if isinstance(given, str | PathLike):
        return Snapshot(given)
    raise TypeError(
        f"snapshot must be a path, a fastbp.Snapshot or None, got {type(given).__name__}."
    )


def find_snapshot(estimator, given=None):
    """Return the one Snapshot that a fit was given, as an argument or among its callbacks.

    The fits within an estimator, which get theirs from it, look no further.
    """
    lent = getattr(estimator, "_snapshot", None)
    if lent is not None:
        return lent
    found = [one for one in getattr(estimator, "_skl_callbacks", ()) if isinstance(one, Snapshot)]
    found += [] if given is None else [as_snapshot(given)]
    if len(found) > 1:
        raise ValueError(f"A fit has one snapshot, got {len(found)}: {found}.")
    return found[0] if found else None


def beside(snapshot, suffix):
    """Return the same for a file beside that of a Snapshot, whose name ends in `suffix`, too."""
    other = copy(snapshot)
    other.path = snapshot.path.with_name(snapshot.path.name + suffix)
    return other
