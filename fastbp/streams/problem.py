"""From an estimator and a source to the problem that training minimises.

The counterpart of `data.problem.prepare`, whose parts it uses.  What fits into one window is read
into arrays, and all goes on as with arrays.  Else y and weights are read once; features are looked
at when they are trained on.  Rows that are set aside for validation are kept in memory.
"""

import hashlib
from copy import copy
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import scipy.sparse
from sklearn.utils import check_random_state

from fastbp.activations import activations_for
from fastbp.data.best_constant import constant_scores
from fastbp.data.held_out import NOTHING, HeldOut, prepare_held_out, speaking_of
from fastbp.data.problem import Problem, dropout_rates, prepare
from fastbp.data.weights import no_weights, weigh_samples
from fastbp.engine import get_engine, watch_formulas
from fastbp.engine.parallel import thread_ceiling
from fastbp.losses import clipped
from fastbp.messages import warn_user
from fastbp.optimizers import AUTO_BATCH_SIZE, is_full_batch
from fastbp.streams.source import Source, refuse_other_names
from fastbp.streams.summary import check_targets_in, sum_up
from fastbp.streams.windows import (
    StreamedRows,
    choose_size,
    choose_turns,
    even_size,
    join_rows,
    take_rows,
)

TOO_FAR = 0.1  # standard deviations by which the mean of y strays: a percent of accuracy, about
LOOKED_AT = 512  # rows that are kept for a look at them
PLACES = 8  # from which they are taken
KEPT_SHARE = 8  # rows that are set aside take at most this part of the memory


@dataclass
class StreamedProblem(Problem):
    """A problem whose rows pass by in windows.

    `X` is a `StreamedRows`; `targets` and `sample_weight` are few that stand for all.
    """

    mean: Any = None  # (1, n_targets): of all real targets, in the units of the loss
    looked_at: Any = None  # the Problem of some rows, in memory
    shown: Any = None  # (X, y, sample_weight) of these, as they came

    @property
    def is_sparse(self):
        """Whether the rows are sparse."""
        return self.X.is_sparse

    def best_constant(self):
        """Return the raw scores of the best constant: quantiles by a sample, all else by all."""
        targets, weight = self.targets, self.sample_weight
        if self.mean is not None and self.loss.constant and self.loss.constant[0] == "mean":
            targets, weight = self.mean, None
        n_rows = self.X.source.n_rows
        return constant_scores(self.loss, targets, weight, self.layer_sizes[-1], n_rows)

    def all_rows(self):
        """Return all rows in the order of the data: without a number for each in memory."""
        return range(self.X.shape[0])

    def in_memory(self):
        """Return the problem of the rows that are kept in memory."""
        return self.looked_at

    def as_given(self, y):
        """Return some rows, for callbacks."""
        return self.shown

    def some_rows(self, rows, n_rows):
        """Return the problem of the rows that are kept in memory."""
        return self.looked_at

    def scores(self, params):
        """Compute raw scores of the rows that are kept in memory."""
        return self.looked_at.scores(params)


def prepare_stream(estimator, source, validation=NOTHING, *, settings, fresh=True, deadline=None):
    """Turn a source that came to `fit` into a problem.

    Parameters
    ----------
    estimator : BackpropClassifier or BackpropRegressor
        Gets the attributes that describe data.
    source : Source
    validation : tuple of X_val, y_val, sample_weight_val
        X_val may be a source, with its y.
    settings : Settings
    fresh, deadline : as for `prepare`

    Returns
    -------
    problem : Problem
        In memory where all rows fit into a window, else a StreamedProblem.
    y : ndarray or None
        As it came, where all is in memory.

    Raises
    ------
    ValueError, SourceError
        For settings and data that cannot be used.
    """
    if is_full_batch(settings.solver):
        raise ValueError(
            f"solver={settings.solver!r} works on all rows at once, and a source gives them in "
            "parts: use 'adam' or another solver of minibatches."
        )
    source = copy(source)
    source.parts = list(source.parts)
    old = None if fresh else estimator._settle_weights(
        goes_on=settings.warm_start == "resume", trains=True
    )  # fmt: skip
    dtype = np.dtype(estimator._training_dtype(source.dtype, old))
    summary = None
    if source.n_rows is None:
        summary = sum_up(estimator, source, dtype)
    batch_size = _rows_per_minibatch(settings, source.n_rows)
    n_targets = 1 if summary is None else _count_targets(summary)
    size = choose_size(source, n_targets, dtype, batch_size)
    if source.n_rows <= size:
        return _prepare_in_memory(
            estimator, source, validation, settings=settings, fresh=fresh, deadline=deadline
        )
    summary = summary or sum_up(estimator, source, dtype)
    _take_columns(estimator, source, fresh=fresh)
    stream = _Stream(estimator, source, summary, settings, dtype, fresh=fresh)
    draws = settings.early_stopping and validation[0] is None
    kept = 2 * source.memory_limit // KEPT_SHARE if draws else 0
    problem = stream.problem(choose_size(source, stream.n_targets, dtype, batch_size, kept))
    problem.deadline = deadline
    problem.weights_dtype = np.dtype(estimator._training_dtype(problem.given, old))
    stream.set_aside(problem, validation)
    return problem, None


def _rows_per_minibatch(settings, n_rows):
    wanted = AUTO_BATCH_SIZE if settings.batch_size == "auto" else settings.batch_size
    return min(wanted, n_rows)


def _count_targets(summary):
    if summary.labels is not None:
        return len(summary.labels.classes) if summary.labels.is_multilabel else 1
    return len(summary.numbers.low)


def _prepare_in_memory(estimator, source, validation, *, settings, fresh, deadline):
    """Read all rows, and go on as with arrays."""
    if not source.has_y:
        sum_up(estimator, source, np.float64)  # says so
    if not fresh:
        _take_columns(estimator, source, fresh=False)
    X, y, weight = take_rows(source)
    problem = prepare(
        estimator, X, y, weight, settings=settings, fresh=fresh, deadline=deadline
    )  # fmt: skip
    if source.feature_names is not None:
        names = np.array(source.feature_names, object)
        estimator.feature_names_in_ = problem.feature_names = names
    if isinstance(validation[0], Source):
        with speaking_of("X_val"):
            refuse_other_names(validation[0], source.feature_names)
        held_out = _read_validation(validation)
        problem.held_out = prepare_held_out(_without_names(estimator), held_out, problem)
    else:
        problem.held_out = prepare_held_out(estimator, validation, problem)
    return problem, y


def _without_names(estimator):
    """Return a copy that takes arrays, without a word about names."""
    probe = copy(estimator)
    vars(probe).pop("feature_names_in_", None)
    return probe


def _read_validation(validation):
    """Read a source of validation data into arrays."""
    _refuse_beside_source("X_val", validation[1:], ("y_val", "sample_weight_val"))
    return take_rows(validation[0])


def _refuse_beside_source(name, values, names):
    for value, other in zip(values, names, strict=True):
        if value is not None:
            raise ValueError(f"{name} is a source, which has its own {other}: leave {other} out.")


def refuse_beside_validation_source(validation):
    """Raise for y_val or weights beside a source as X_val, which has its own."""
    if isinstance(validation[0], Source):
        _refuse_beside_source("X_val", validation[1:], ("y_val", "sample_weight_val"))


def refuse_beside_source(y, sample_weight):
    """Raise for a y or weights beside a source, which has its own."""
    _refuse_beside_source("X", (y, sample_weight), ("y", "sample_weight"))


def _take_columns(estimator, source, *, fresh):
    """Set the attributes that describe columns, or compare with them."""
    state, names = vars(estimator), source.feature_names
    if not fresh:
        known = state.get("feature_names_in_")
        if source.n_features != state["n_features_in_"]:
            raise ValueError(
                f"X has {source.n_features} features, but {type(estimator).__name__} is expecting "
                f"{state['n_features_in_']} features as input."
            )
        refuse_other_names(source, known)
        return
    state["n_features_in_"] = source.n_features
    state.pop("feature_names_in_", None)
    if names is not None:
        state["feature_names_in_"] = np.array(names, object)


class _Stream:
    """What the parts of a streamed problem are made of.

    Parameters
    ----------
    estimator : estimator
    source : Source
        With parts that know their rows.
    summary : Summary
    settings : Settings
    dtype : dtype
    fresh : bool
    """

    def __init__(self, estimator, source, summary, settings, dtype, *, fresh):
        self.estimator, self.source, self.summary = estimator, source, summary
        self.settings, self.dtype = settings, dtype
        self.engine = get_engine(settings.engine)
        found = summary.labels or summary.numbers
        _, self.loss = estimator._check_y(
            found.typical(), len(found.typical()), dtype, fresh=fresh, incremental=False
        )
        counts = None if summary.labels is None else list(summary.labels.counts)
        self.class_weights = estimator._find_class_weights(None, incremental=False, counts=counts)
        if summary.numbers is not None:
            estimator._learn_scale(summary.numbers.moments.result, fresh=fresh)
        self.targets, self.weight = found.as_targets(dtype)
        self.mean = None
        if summary.numbers is not None:
            self.targets, self.mean = self._scaled(self.targets), self._mean_of(summary)
        if self.class_weights is not None and self.weight is not None:
            self.weight = weigh_samples(self.class_weights, self.targets, self.weight)
        self.n_targets = self.targets.shape[1]

    def _mean_of(self, summary):
        """Return the mean of all targets in a summary, in the units of the loss."""
        return self._scaled(summary.numbers.moments.result()[0][np.newaxis])

    def _scaled(self, targets):
        """Targets in the units of the loss."""
        scaled = self.estimator._scale(targets, None, self.dtype, fresh=False)
        return np.ascontiguousarray(scaled, self.dtype)

    def _encoder(self):
        """Return a function that turns y of some rows into targets."""
        probe, dtype = copy(self.estimator), self.dtype

        def encode(y):
            targets, _ = probe._check_y(y, len(y), dtype, fresh=False, incremental=True)
            return probe._scale(targets, None, dtype, fresh=False)

        return encode

    def rows(self, source, size, found, held=None, turns=1):
        """Return the rows of a source, to be checked and encoded as they come."""
        weigh = None
        if self.class_weights is not None:
            weigh = partial(_weigh, self.class_weights)
        encode = self._encoder()
        return StreamedRows(
            source, self.dtype, self.engine, encode, weigh, self.n_targets, size, held,
            found, turns,
        )  # fmt: skip

    def _turns(self, size):
        """Choose in how many turns the parts are read; warn where even that mixes y too little."""
        turns, stray = choose_turns(self.source, size, self.summary)
        if stray > TOO_FAR and self.settings.shuffle and self.source.takes_turns:
            warn_user(
                f"The source seems to be sorted: {self.summary.unevenness:.0%} of the variance of "
                f"y lies between pieces that come one after the other, and a window has {size} of "
                f"{self.source.n_rows} rows. The network will see y unevenly mixed, and learn "
                "worse. Shuffle the rows once, write smaller parts (row groups), or raise "
                "memory_limit."
            )
        return turns

    def problem(self, size):
        """Put the problem together; nothing is held out as yet."""
        estimator, settings, source = self.estimator, self.settings, self.source
        hidden = settings.hidden_layer_sizes
        shown = _look(source, self.summary)
        turns = self._turns(size)
        stream = self.rows(source, size, _fingerprint(self.summary, shown), turns=turns)
        state = vars(estimator)
        activations = activations_for(settings.activation, len(hidden))
        loss = self.loss
        if estimator.dtype is None:
            loss = clipped(loss, np.finfo(self.dtype).eps)
        problem = StreamedProblem(
            settings=settings,
            engine=self.engine,
            layer_sizes=(source.n_features, *hidden, estimator.n_outputs_),
            activations=activations,
            loss=loss,
            dtype=self.dtype,
            X=stream,
            targets=self.targets,
            sample_weight=self.weight,
            n_threads=thread_ceiling(settings.n_threads),
            class_weights=self.class_weights,
            target_units=tuple(
                state[name] for name in ("target_mean_", "target_scale_") if name in state
            ),
            given=source.dtype,
            dropout=dropout_rates(settings.dropout, len(hidden)),
            feature_names=state.get("feature_names_in_"),
            classes=state.get("classes_"),
            one_class=estimator._has_one_class,
            watch=watch_formulas(activations, loss, self.targets, self.dtype),
            n_members=estimator._n_members,
            continues=estimator._continues,
            calibrates=estimator._calibrates,
            asked_to_stop=estimator._asked_to_stop,
            shown=shown,
            mean=self.mean,
        )
        problem.looked_at = self._in_memory(problem, stream)
        return problem

    def _in_memory(self, problem, stream):
        """Return the problem of the rows that are shown, as arrays."""
        X, y, weight = problem.shown
        if scipy.sparse.issparse(X):
            X = scipy.sparse.csr_array(X).astype(self.dtype)
        else:
            with np.errstate(over="ignore"):  # it is refused with its row, when it is read
                X = np.ascontiguousarray(X, self.dtype)
        targets = stream.encode(y)
        if weight is not None or self.class_weights is not None:
            weight = None if weight is None else weight.astype(self.dtype)
            if stream.weigh is not None:
                weight = stream.weigh(weight, targets)
            weight = weight if weight.any() else None
        parts = {f.name: getattr(problem, f.name) for f in fields(Problem)}
        return Problem(**parts | {"X": X, "targets": targets, "sample_weight": weight})

    def set_aside(self, problem, validation):
        """Prepare the validation data: those of the user's, or rows that are set aside."""
        settings, like = self.settings, problem.looked_at
        if isinstance(validation[0], Source):
            problem.held_out = self._held_out_source(problem, validation)
            return
        if validation[0] is None and validation[1] is None and settings.early_stopping:
            held = draw_rows(
                self.source, settings.validation_fraction, settings.random_state,
                self.dtype.itemsize,
            )  # fmt: skip
            X, n_rows = problem.X, self.source.n_rows
            batch_size = _rows_per_minibatch(settings, n_rows)
            size = even_size(n_rows - len(held), X.size, batch_size)  # of the rows that are left
            problem.X = self.rows(self.source, size, X.found, held, X.turns)
            rows = take_rows(self.source, held)
            if rows[2] is not None and not np.any(rows[2]):
                raise no_weights("validation")
            problem.held_out = prepare_held_out(_without_names(self.estimator), rows, like)
            return
        problem.held_out = prepare_held_out(self.estimator, validation, like)

    def _refuse_new_labels(self, source, summary):
        """Refuse labels of validation data that y lacks, by their row."""
        new = summary.labels is not None and not np.isin(
            summary.labels.classes, self.summary.labels.classes
        ).all()  # fmt: skip
        for batch in source._batches(targets_only=True) if new else ():
            check_targets_in(batch, self._encoder())

    def _held_out_source(self, problem, validation):
        """Prepare validation data that are read in parts: into memory, where they are few."""
        source = copy(validation[0])
        source.parts = list(source.parts)
        _refuse_beside_source("X_val", validation[1:], ("y_val", "sample_weight_val"))
        with speaking_of("X_val"):
            if source.n_features != self.source.n_features:
                raise ValueError(
                    f"it has {source.n_features} features, X has {self.source.n_features}."
                )
            refuse_other_names(source, self.source.feature_names)
            summary = sum_up(self.estimator, source, self.dtype)
            self._refuse_new_labels(source, summary)
        size = choose_size(source, self.n_targets, self.dtype, 1)
        if source.n_rows <= size // 2:
            probe = _without_names(self.estimator)
            return prepare_held_out(probe, take_rows(source), problem.looked_at)
        if settings_ask(self.settings):
            raise ValueError(
                f"scoring={self.settings.scoring!r} needs all validation rows at once, and X_val "
                f"is a source of {source.n_rows} rows: use scoring=None or 'loss', give arrays, or "
                "raise the memory_limit of X_val."
            )
        metric = "r2" if self.loss.task != "regression" else self.loss.metric[0]
        if metric != "r2" and self.settings.scoring is None:
            raise ValueError(
                f"The score of loss={self.loss.name!r} needs all validation rows at once, and "
                "X_val is a source: use scoring='loss', or give arrays."
            )
        found = _fingerprint(summary, _look(source, summary))
        part = replace(problem, X=self.rows(source, size, found), held_out=None)
        if summary.numbers is not None:
            part.targets = self._mean_of(summary)
        return HeldOut(part, None)


def settings_ask(settings):
    """Whether a scorer is to be asked, who wants arrays."""
    return settings.scoring not in (None, "loss")


def _weigh(class_weights, weight, targets):
    """Weights of rows times those of their classes; all of them may be 0."""
    weights = np.ones(len(targets)) if weight is None else weight.astype(np.float64)
    for table, column in zip(class_weights, targets.T, strict=True):
        weights *= table[column.astype(np.intp)]
    return weights.astype(targets.dtype)


def _look(source, summary):
    """Return X, y and weights of up to `LOOKED_AT` rows from several places."""
    batches = summary.kept
    if not batches:
        numbers = np.linspace(0, len(source.parts) - 1, PLACES).round().astype(int)
        numbers = np.unique(numbers)
        each = -(-LOOKED_AT // len(numbers))
        batches = [b for number in numbers.tolist() for b in _first_rows(source, number, each)]
    kept = [(source.matrix(batch), batch.y, batch.weight) for batch in batches]
    X, y, weight = join_rows(kept)
    rows = slice(None, None, -(-X.shape[0] // LOOKED_AT))
    return X[rows], y[rows], None if weight is None else weight[rows]


def _first_rows(source, number, n_rows):
    """Yield the first rows of a part that has some, without others that came with them."""
    for batch in islice(source._batches([number], n_rows=n_rows), 1):
        yield batch[np.arange(len(batch)) < n_rows]


def _fingerprint(summary, shown):
    """Return texts that tell rows from others: by the X looked at, and all of y and weights."""
    X = shown[0]
    parts = (X.data, X.indices, X.indptr) if scipy.sparse.issparse(X) else (X,)
    hashed = hashlib.blake2b(digest_size=16)
    for part in parts:
        hashed.update(np.ascontiguousarray(part).tobytes())
    return {"X": hashed.hexdigest(), "y and sample_weight": summary.seen}


def draw_rows(source, fraction, random_state, itemsize):
    """Draw the rows to set aside: a fraction, but no more than a part of the memory holds.

    An integer `random_state` gives the same rows in every call.

    Returns
    -------
    int64 ndarray, sorted
    """
    n_rows = source.n_rows
    width = max(source.bytes_per_row, source.n_features * itemsize * (not source.is_sparse))
    most = int(source.memory_limit / KEPT_SHARE / max(width, 1.0))
    n_held = min(int(np.ceil(fraction * n_rows)), most, n_rows - 1)
    if n_held < 2:
        raise ValueError(
            "The validation set is too small. Increase 'validation_fraction', the memory_limit of "
            "the source or the size of your dataset."
        )
    state = copy_of(random_state)
    if 2 * n_held > n_rows:
        return np.sort(state.permutation(n_rows)[:n_held]).astype(np.int64)
    found = np.empty(0, np.int64)
    while len(found) < n_held:  # those drawn twice are drawn again
        more = state.randint(0, n_rows, n_held - len(found), dtype=np.int64)
        both = np.sort(np.concatenate([found, more]))
        found = both[np.append(True, both[1:] != both[:-1])]
    return found


def copy_of(random_state):
    """Return a stream of a seed, or a copy of the user's stream, which stays where it is."""
    state = check_random_state(random_state)
    own = np.random.RandomState()
    own.set_state(state.get_state())
    return own
