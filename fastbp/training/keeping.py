"""Keeping the state of a fit in a file, so that who was killed goes on as if never stopped.

A `Keeper` writes the file of one fit (`snapshots` has what a user says of it), and finds in it what
an earlier life of the same call has left.  The file is sealed (`fastbp.safetensors`) and holds
numbers and names only: the state (`fastbp.training.state`), fingerprints of settings and data
(`sameness`), and what the bits depend on: engine, instruction set, processor, version.  A new file
is written beside the old one, waited for until the disk has it, and renamed over it: at any moment
the path names a whole file, or none.

Nothing here trains; a fit is looked at in its pauses, which change no bit.  The file is written
where it is due, and once more at the end: with the state of a finished fit, or, after Ctrl-C or an
error, with the last copy in memory.
"""

import json
import platform
import time
from collections.abc import Mapping
from functools import partial

import numpy as np

from fastbp import safetensors
from fastbp.engine import get_engine
from fastbp.engine.precision import PRECISIONS
from fastbp.messages import warn_user
from fastbp.optimizers import is_full_batch
from fastbp.safetensors import require
from fastbp.streams.source import Source, describe_files
from fastbp.streams.windows import StreamedRows
from fastbp.training.minibatches import PIECE_S, next_piece
from fastbp.training.sameness import identify_data, identify_settings
from fastbp.training.snapshots import Snapshot
from fastbp.training.state import describe, restore, to_bytes
from fastbp.values import Writer
from fastbp.versions import __version__, refuse_newer

FORMAT = 1
MOST_OF_TIME = 0.01  # share of the time that writing may take, with the copy of the state
MOST_OF_COPIES = 0.005  # the same of copies for an end that nobody foresees
BYTES_PER_S = 5e8  # of copying and writing, as long as neither was measured
COPIES = 3  # of the weights in a state: with what Adam keeps of each
PATH = "matmul path"  # of a machine, where a fit asks for less than "highest"
# Parameters that change no bit of a fit.
FREE = ("n_threads", "verbose")


def check_can_be_kept(settings, X, X_val=None):
    """Refuse a fit whose state is not all in its file."""
    sets_aside = isinstance(X, Source) and settings.early_stopping and X_val is None
    if sets_aside and settings.random_state is None:
        raise ValueError(
            "snapshot of a fit on a source with early_stopping needs an int as random_state, "
            "which draws the rows that are set aside, or X_val and y_val."
        )
    if is_full_batch(settings.solver):
        raise ValueError(
            f"snapshot needs a solver that steps by minibatches: solver={settings.solver!r} keeps "
            "its state inside scipy. Use another solver, or fit without snapshot."
        )
    if isinstance(settings.random_state, np.random.RandomState):
        raise ValueError(
            "snapshot needs random_state to be an int or None: a RandomState of yours is shared "
            "with others, and a later process cannot know where it stood."
        )


def check_path(path):
    """Refuse a path at which no file can be made."""
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(
            f"snapshot={str(path)!r} must name a file in a folder that exists; "
            f"{'this is a folder' if path.is_dir() else 'the folder is missing'}."
        )


class OtherCallError(ValueError):
    """A file is of a call with other settings or data."""


class SealedFile:
    """A snapshot's file: written whole or not at all, and read with suspicion.

    Parameters
    ----------
    snapshot : Snapshot
    kind : str
        "fit" or "search"; one is not taken for the other.
    """

    def __init__(self, snapshot, kind):
        self.snapshot, self.kind = snapshot, kind
        path = snapshot.path
        check_path(path)
        safetensors.remove_parts(path)
        self.written_at, self.cost_s, self.n_written = time.perf_counter(), 0.0, 0

    def expect(self, n_bytes):
        """Say how much the first file will hold: it waits until its cost is a small share, too."""
        if not self.n_written:
            self.cost_s = n_bytes / BYTES_PER_S

    def is_due(self, n_epochs=None, since=None, n_fits=1):
        """Whether it is time to write: `since` is when that was done last, `n_fits` ask in turn."""
        if self.snapshot.every_epochs is not None:
            return n_epochs is None or n_epochs % self.snapshot.every_epochs == 0
        since = self.written_at if since is None else since
        wait = max(self.snapshot.every, n_fits * self.cost_s / MOST_OF_TIME)
        return time.perf_counter() - since >= wait

    def limit(self, n_epochs, done):
        """Return how many epochs to train, at most so many, until one may be due."""
        each = self.snapshot.every_epochs
        return n_epochs if each is None else min(n_epochs, each - done % each)

    def write(self, call, describe):
        """Replace the file.

        Parameters
        ----------
        call : dict
            "machine", "settings" and "data", each a dict of str to str.
        describe : callable
            ``describe(writer)`` returns JSON, and puts arrays into a `Writer`.
        """
        begun, writer = time.perf_counter(), Writer(())
        metadata = {
            "snapshot": self.kind, "format": str(FORMAT), "fastbp": __version__,
            "call": json.dumps(call), "values": json.dumps(describe(writer), allow_nan=False),
        }  # fmt: skip
        try:
            safetensors.write(self.snapshot.path, metadata, writer.arrays, sync=True)
        except OSError as error:
            warn_user(
                f"The snapshot {str(self.snapshot.path)!r} could not be written ({error}). "
                "Training goes on, and the next one will be tried."
            )
        self.written_at, self.n_written = time.perf_counter(), self.n_written + 1
        self.cost_s = self.written_at - begun

    def read(self, call):
        """Return values and arrays of the same call; None if there is no file to go on from.

        That is so without a file, with `fresh`, and where a file of another call may be replaced.

        Parameters
        ----------
        call : callable
            ``call(engine)`` describes the call as `write` takes it, with fingerprints of this
            engine.

        Raises
        ------
        ValueError
            If the file is damaged, or of another call or machine.
        """
        path = self.snapshot.path
        if self.snapshot.fresh or not path.exists():
            return None
        content = path.read_bytes()
        try:
            metadata, header, data = safetensors.open_sealed(content, "a snapshot of fastbp does.")
            self._check_kind(metadata)
            found = json.loads(metadata["call"])
            values, arrays = json.loads(metadata["values"]), safetensors.read_arrays(header, data)
            for part in ("machine", "settings", "data"):
                require(isinstance(found[part], Mapping), f"it has no {part}")
        except (ValueError, TypeError, LookupError) as error:
            raise self.refusal(error) from error
        try:
            self._compare(found, call)
        except OtherCallError:
            if self.snapshot._replaces_others:
                return None
            raise
        return values, arrays

    def refusal(self, error, kind=ValueError):
        """Return an error about this file."""
        if not isinstance(error, ValueError):
            error = f"it is damaged or forged ({type(error).__name__}: {error})."
        return kind(
            f"The snapshot {str(self.snapshot.path)!r} cannot be used: {error} Give another path, "
            "or start again with fastbp.Snapshot(path, fresh=True)."
        )

    def _check_kind(self, metadata):
        if "model" in metadata:
            raise ValueError("it is a model saved by fastbp.save, which fastbp.load loads.")
        require(metadata.get("snapshot") in ("fit", "search"), "it is no snapshot")
        refuse_newer(metadata["fastbp"], "it")
        if metadata["format"] != str(FORMAT):
            raise ValueError(f"it has format {metadata['format']}, this fastbp reads {FORMAT}.")
        if metadata["snapshot"] != self.kind:
            raise ValueError(f"it is of a {metadata['snapshot']}, and this is a {self.kind}.")

    def _compare(self, found, call):
        """Refuse a file of another call; warn of one of another machine, if that is allowed."""
        now, engine = call(None), found["machine"].get("engine")
        differs = differences(found["machine"], now["machine"])
        if PATH in differs and None in (found["machine"].get(PATH), now["machine"].get(PATH)):
            differs.remove(PATH)  # of one that does not ask for it: the settings differ
        if differs:
            told = ", ".join(
                f"{name} {found['machine'].get(name)!r} there and {now['machine'].get(name)!r} here"
                for name in differs
            )
            if self.snapshot.other_machine == "refuse":
                raise self.refusal(ValueError(
                    f"it was written elsewhere: {told}. Going on may give other bits; "
                    "fastbp.Snapshot(path, other_machine='warn') does it all the same."
                ))  # fmt: skip
            warn_user(
                f"The snapshot {str(self.snapshot.path)!r} goes on though {told}: the result may "
                "differ from that of either alone."
            )
            if "engine" in differs:  # whose fingerprints are its own
                try:
                    now = call(get_engine(engine))
                except (ImportError, ValueError):
                    warn_user(f"Engine {engine!r} is not here, so that the data are not compared.")
                    now["data"] = found["data"]
        for what, names in (
            ("settings", differences(found["settings"], now["settings"])),
            ("data", differences(found["data"], now["data"])),
        ):
            if names:
                error = ValueError(f"it is of a {self.kind} with other {what}: {', '.join(names)}.")
                raise self.refusal(error, OtherCallError)


def differences(one, other):
    """Return the names under which two dicts do not hold the same, sorted."""
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))


def describe_machine(engine, precision):
    """Return what the bits of a fit depend on besides settings and data.

    How products are made less precise is part of it where less than "highest" is asked for.
    """
    processor = platform.machine()
    if engine.NAME == "numba":  # which compiles for this very one
        from llvmlite.binding import get_host_cpu_name

        processor = get_host_cpu_name()
    found = {
        "engine": engine.NAME,
        "instruction set": engine.instruction_set(),
        "processor": processor,
        "fastbp": __version__,
    }
    if precision != PRECISIONS[0]:
        found[PATH] = engine.get_matmul_path()
    return found


class Keeper:
    """Keeps the state of one fit in its file.

    Parameters
    ----------
    snapshot : Snapshot
    estimator : BackpropClassifier or BackpropRegressor
    problem : Problem
    start : Progress or None
        Where a fit begins that goes on from another one (`warm_start`).
    """

    def __init__(self, snapshot, estimator, problem, start=None):
        self.file = SealedFile(snapshot, "fit")
        self.estimator, self.problem, self.start = estimator, problem, start
        self.latest = None  # state that is not in the file as yet
        self.copied_at, self.copy_s = time.perf_counter(), 0.0
        self.call = self._describe_call(None)

    def _describe_call(self, engine):
        problem = self.problem
        settings = identify_settings(self.estimator, leave_out=FREE)
        settings["precision"] = str(problem.dtype)
        settings["members"] = str(problem.n_members)
        if problem.calibrates:
            settings["calibrates"] = "True"
        data = identify_data(problem, engine or problem.engine)
        machine = describe_machine(problem.engine, problem.matmul_precision)
        Xs = {"X": problem.X, "X_val": problem.held_out and problem.held_out.problem.X}
        for name, X in Xs.items():
            if isinstance(X, StreamedRows):
                settings[f"window of {name}"] = str(X.size)
                machine[f"files of {name}"] = describe_files(X.source)
        if self.start is not None:
            settings["weights to begin with"] = to_bytes(self.start)[safetensors.SEAL].decode()
        return {"machine": machine, "settings": settings, "data": data}

    def find(self):
        """Return the state of an earlier life of the same call, or None.

        Raises
        ------
        ValueError
            If the file is damaged, or of another call or machine.
        """
        read = self.file.read(lambda engine: self._describe_call(engine) if engine else self.call)
        if read is None:
            return None
        try:
            state = restore(*read)
        except (ValueError, TypeError, LookupError) as error:
            raise self.file.refusal(error) from error
        if state.ended is None:
            self._name_what_is_not_restored()
        return state

    def _name_what_is_not_restored(self):
        others = getattr(self.estimator, "_skl_callbacks", ())
        names = [type(one).__name__ for one in others if not isinstance(one, Snapshot)]
        names = [f"the callback {name}" for name in names]
        rate = self.problem.settings.learning_rate
        if callable(rate):
            names.append(f"learning_rate={rate!r}")
        if names:
            warn_user(
                f"The fit goes on from the snapshot {str(self.file.snapshot.path)!r}. What "
                f"{' and '.join(names)} may have kept of the epochs before is not in it."
            )

    def advance(self, training, until=None):
        """Train as `Training.advance`, and write snapshots in pauses."""
        snapshot, progress, piece = self.file.snapshot, training.run.progress, 1
        n_bytes = COPIES * progress.params.nbytes
        self.file.expect(n_bytes)
        self.copy_s = n_bytes / BYTES_PER_S
        training.let_look(partial(self._look, training))
        try:
            while True:
                first, begun = progress.n_iter, time.perf_counter()
                piece = self.file.limit(piece, first)
                ended = training.advance(min(first + piece, np.inf if until is None else until))
                if not ended:
                    self._look(training, progress.n_iter)
                if ended or (until is not None and progress.n_iter >= until):
                    return ended
                seconds = time.perf_counter() - begun
                piece = next_piece(piece, seconds, min(PIECE_S, snapshot.every))
        except KeyboardInterrupt:  # while it was copied or written
            training.interrupt()
            return True

    def _look(self, training, n_epochs=None):
        """Write the state where it is due; else copy it where that costs next to nothing.

        Parameters
        ----------
        training : Training
            In a pause.
        n_epochs : int or None, default=None
            None within an epoch, where nothing is due by the epochs.
        """
        by_seconds = self.file.snapshot.every_epochs is None
        due = (by_seconds or n_epochs is not None) and self.file.is_due(n_epochs)
        begun = time.perf_counter()
        if due or begun - self.copied_at >= self.copy_s / MOST_OF_COPIES:
            self.latest = training.state()
            self.copied_at = time.perf_counter()
            self.copy_s = self.copied_at - begun
        if due:
            self.leave()

    def leave(self):
        """Write the newest copy of the state that is not in the file."""
        if self.latest is not None:
            self.write(self.latest)
            self.latest = None

    def end(self, state):
        """Write the state of a finished fit."""
        self.latest = None
        self.write(state)

    def write(self, state):
        """Write a state."""
        self.file.write(self.call, partial(describe, state))
