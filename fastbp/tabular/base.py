"""What both tabular estimators share: from a raw table to networks, and from these to scores.

`fit` encodes the columns (`encoder`), deals the rows into parts (`recipe`), and has one network of
members (`networks`) trained for each part that is held out (`fits`).  No formulas here, and nothing
of classes or of units of y: those are the networks' business.
"""

import time
from copy import copy
from dataclasses import dataclass
from functools import partial
from numbers import Integral
from os import PathLike
from typing import Any, Self

import numpy as np
import scipy.sparse
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.utils import check_random_state
from sklearn.utils.validation import _num_samples, check_is_fitted

from fastbp.data.features import refuse_lazy
from fastbp.data.held_out import speaking_of
from fastbp.data.weights import check_sample_weight, weigh_samples
from fastbp.engine import get_engine
from fastbp.engine.parallel import thread_ceiling
from fastbp.engine.precision import for_rows, least_precise
from fastbp.estimators.annotations import Targets, Weights
from fastbp.estimators.attributes import unchanged_on_error
from fastbp.estimators.base_parameters import BaseParameters
from fastbp.estimators.parameters import check_parameters
from fastbp.losses.combining import combine
from fastbp.messages import explains_its_arguments, warn_user
from fastbp.optimizers import AdamW
from fastbp.streams.problem import refuse_beside_source, refuse_beside_validation_source
from fastbp.streams.source import Source
from fastbp.streams.summary import require_targets
from fastbp.tabular import recipe
from fastbp.tabular.attributes import check_ensemble, refusing
from fastbp.tabular.encoder import TableEncoder
from fastbp.tabular.fits import NetworkTasks, Snapshots, held_out_loss, train_all, train_ensemble
from fastbp.tabular.rows import encode_rows
from fastbp.tabular.runs import as_rows
from fastbp.tabular.streamed import (
    EncodedSource,
    count_readers,
    count_rows,
    fits,
    learn_encoder,
    read_whole,
)
from fastbp.training.keeping import check_path
from fastbp.training.snapshots import Snapshot, find_snapshot

ROWS_PER_BLOCK = 4096  # of a prediction: what encoded columns and members' scores take
MAX_SEED = 2**31
FEW_LEVELS, MOST_LEVELS = 20, 256  # with an output of their own: beside target means, and alone


@dataclass
class Prepared:
    """What the networks of a fit are trained with.

    Attributes
    ----------
    encoder : TableEncoder
    data : tuple of encoded X (or its source), y and sample_weight
    held_out : dict of X_val, y_val and sample_weight_val
    parts : list of tuple of ndarray or None
        Rows to train on and rows to hold out, of each network; None: it draws them.
    targets : ndarray of shape (n, n_targets)
        With the range of all.
    n_outputs : int
    shown : tuple of X, y and sample_weight
        What callbacks get.
    n_workers : int or None
        Most networks that are trained at a time, where memory sets a limit.
    """

    encoder: TableEncoder
    data: tuple
    held_out: dict
    parts: list
    targets: np.ndarray
    n_outputs: int
    shown: tuple
    n_workers: int | None = None


class BaseTabular(CallbackSupportMixin, BaseParameters):
    """What both tabular estimators share."""

    _is_ensemble = True
    _asked_to_stop = None  # an event of who runs fits, which ends the networks
    _saved_parts = ("encoder_", "networks_")  # estimators within, for fastbp.save
    _fitted_names: tuple[str, ...] = (
        "encoder_", "networks_", "n_features_in_", "feature_names_in_", "n_iter_",
        "matmul_precision_",
    )  # fmt: skip
    encoder_: TableEncoder
    networks_: list[Any]
    n_features_in_: int
    n_iter_: int
    matmul_precision_: str

    @explains_its_arguments
    def fit(
        self,
        X: Any,
        y: Targets = None,
        sample_weight: Weights = None,
        *,
        X_val: Any = None,
        y_val: Targets | None = None,
        sample_weight_val: Weights = None,
        snapshot: Snapshot | str | PathLike[str] | None = None,
    ) -> Self:
        """Encode the columns and train the networks.

        Parameters
        ----------
        X : data frame or array-like of shape (n_samples, n_features)
            The raw table: numbers, text, categories, dates, missing values; or a source of
            :mod:`fastbp.streams`, which has y and weights itself, for tables larger than memory.
            Then the encoding is learned from a random sample of blocks, of 65536 rows or what an
            eighth of the memory holds, and each network draws the rows that it holds out.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Class labels for `TabularClassifier`, numbers for `TabularRegressor`. None for sources
            alone.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each sample; not negative, not all zero.  The encoding counts all rows alike;
            target means of categories are not used if weights differ.
        X_val : data frame or array-like of shape (n_val, n_features), default=None
            Validation data, as raw as X, on which every network chooses its best epoch; all of them
            are then trained on all rows of X.
        y_val : array-like of shape (n_val,) or (n_val, n_outputs), default=None
            Their labels or targets.
        sample_weight_val : array-like of shape (n_val,), default=None
            Their weights.
        snapshot : path or fastbp.Snapshot, default=None
            Keeps the state of each network in a file whose name is this path and a number
            (``path.0``, ``path.1``, ...): after a crash the same call goes on from there, bit for
            bit.  Columns are encoded again.  Not with a `random_state` that is no int, nor with
            `max_time`.

        Returns
        -------
        self : estimator

        Raises
        ------
        ValueError, TypeError
            For bad parameters or data.  The estimator stays as it was.
        SourceError
            For data of a source that cannot be read or used; names file, row and column.  Where
            networks were trained before, these are kept.
        """
        failures: list[Exception] = []
        with unchanged_on_error(self):
            validation = X_val, y_val, sample_weight_val
            self._fit(X, y, sample_weight, validation, snapshot, failures)
        if failures:  # of a source; the networks so far are kept
            raise failures[0]
        return self

    @with_callbacks
    def _fit(self, X, y, sample_weight, validation, snapshot, failures):
        begun = time.perf_counter()
        settings = self._check_settings()
        snapshot = _find_snapshot(self, settings, snapshot)
        random_state = check_random_state(settings.random_state)
        source = X if isinstance(X, Source) else None
        if source is not None:
            refuse_beside_source(y, sample_weight)
            require_targets(source, type(self).__name__)
            source, summary = count_rows(self._make_network(settings), source)
            self._refuse_multilabel(summary.labels is not None and summary.labels.is_multilabel, "")
            refuse_beside_validation_source(validation)
            X_val = validation[0]
            if isinstance(X_val, Source):
                with speaking_of("X_val"):
                    X_val, _ = count_rows(self._make_network(settings), X_val)
                validation = (X_val, None, None)
            if fits(source) and (not isinstance(X_val, Source) or fits(X_val)):
                X, y, sample_weight = read_whole(source)
                validation = read_whole(X_val) if isinstance(X_val, Source) else validation
                source = None
        if source is not None:
            prepared = self._prepare_source(settings, source, summary, validation, random_state)
        else:
            prepared = self._prepare_table(
                settings, X, y, sample_weight, validation, random_state
            )  # fmt: skip
        n_outputs = prepared.n_outputs
        n_samples = prepared.data[0].n_rows if source is not None else prepared.data[0].shape[0]
        seeds = random_state.randint(MAX_SEED, size=len(prepared.parts)).tolist()
        make = partial(
            self._make_network, settings, n_samples=n_samples, n_outputs=n_outputs,
            continues=prepared.encoder._plan.runs.continues,
        )  # fmt: skip
        dropouts = recipe.choose_dropouts(settings, classes=self._has_classes)
        n_networks = len(prepared.parts) + len(dropouts) - 1
        tasks = NetworkTasks(self, n_networks, *prepared.shown)
        said: list[Any] = []
        train = partial(
            train_all,
            data=prepared.data,
            held_out=prepared.held_out,
            deadline=None if settings.max_time is None else begun + settings.max_time,
            n_threads=thread_ceiling(settings.n_threads),
            n_workers=prepared.n_workers,
            tasks=tasks,
            said=said,
            failures=failures,
            snapshots=Snapshots(snapshot),
        )
        networks = train_ensemble(make, train, prepared.parts, seeds, dropouts)
        self._take(prepared.encoder, networks, prepared.targets)
        tasks.end()
        for message, category in dict.fromkeys(said):  # of several networks, once
            warn_user(message, category)
        return self

    def _check_settings(self):
        """Check all parameters; return them by name."""
        settings = check_parameters(self, self._parameter_rules)
        get_engine(settings.engine)  # where there is none, nothing else need be said
        if not settings.hidden_layer_sizes:
            raise ValueError(
                f"{type(self).__name__} needs a hidden layer, which its members share. Got "
                f"hidden_layer_sizes={self.hidden_layer_sizes!r}."
            )
        return settings

    def _prepare_table(self, settings, X, y, sample_weight, validation, random_state):
        """Encode a table, and deal its rows into parts."""
        _refuse_sparse(X)
        refuse_lazy(X)
        targets, answers, class_weights = self._check_targets(settings, X, y)
        weights = check_sample_weight(self, sample_weight, len(targets), np.float64)
        column = targets[:, 0] if targets.shape[1] == 1 else None
        counted = None if weights is None else np.flatnonzero(weights)
        if weights is not None and np.ptp(weights[counted]) > 0:
            column = None  # scikit-learn's TargetEncoder knows no weights
        encoder = self._make_encoder(settings, column is None, targets.max(), random_state)
        read = encoder._fit_read(X, column, counted)
        Z = encode_rows(encoder._plan, read)
        held_out = encode_validation(encoder, validation)
        parts = [None] * settings.n_networks
        if held_out["X_val"] is None:
            effective = weights
            if class_weights is not None:
                effective = weigh_samples(class_weights, targets, weights)
            parts = recipe.deal_rows(
                targets, effective, settings.n_networks, random_state, classes=self._has_classes
            )
        return Prepared(
            encoder=encoder,
            data=(Z, answers, sample_weight),
            held_out=held_out,
            parts=parts,
            targets=targets if counted is None else targets[counted],
            n_outputs=int(targets.max()) + 1 if self._has_classes else targets.shape[1],
            shown=(X, y, sample_weight),
        )

    def _prepare_source(self, settings, source, summary, validation, random_state):
        """Learn the encoding from a sample of blocks; networks draw the rows that they hold out."""
        labels, numbers = summary.labels, summary.numbers
        if labels is not None:
            n_outputs = len(labels.classes)
            targets = np.arange(n_outputs, dtype=np.float64)[:, np.newaxis]
            as_column = partial(np.searchsorted, labels.classes)
        else:
            targets, n_outputs = np.stack([numbers.low, numbers.high]), len(numbers.low)
            as_column = _only_column
        encoder = self._make_encoder(settings, n_outputs > 1 and labels is None, targets.max(),
                                     random_state)  # fmt: skip
        learn_encoder(encoder, source, as_column, random_state)
        n_readers = count_readers(source, encoder, settings.n_networks)
        X_val = validation[0]
        if isinstance(X_val, Source):
            validation = (None, None, None)
        held_out = encode_validation(encoder, validation)
        if isinstance(X_val, Source):
            held_out["X_val"] = EncodedSource(X_val, encoder, n_readers)
        return Prepared(
            encoder=encoder,
            data=(EncodedSource(source, encoder, n_readers), None, None),
            held_out=held_out,
            parts=[None] * settings.n_networks,
            targets=targets,
            n_outputs=n_outputs,
            shown=(source, None, None),
            n_workers=n_readers,
        )

    def _make_encoder(self, settings, no_targets, largest, random_state):
        """Make an encoder that is not fitted."""
        kind = "continuous"
        if self._has_classes:
            kind = "binary" if largest <= 1 else "multiclass"
        return TableEncoder(
            settings.categorical_features,
            n_bins=settings.n_bins,
            max_levels=MOST_LEVELS if no_targets else FEW_LEVELS,
            target_type=kind,
            random_state=random_state.randint(MAX_SEED),
        )

    def _check_targets(self, settings, X, y):
        """Check y as a network does, before any work.

        Returns
        -------
        targets : ndarray of shape (n_samples, n_targets)
            Numbers, or codes of classes.
        answers : ndarray
            The same as networks take it, who find nothing more to say of it.
        class_weights : list of ndarray or None
            Weights of the classes.
        """
        network = self._make_network(settings)
        if y is None:
            raise ValueError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target y "
                "is None."
            )
        n_samples = _num_samples(X)
        if not n_samples:
            raise ValueError(
                "Found table X with 0 sample(s) while a minimum of 1 is required by "
                f"{type(self).__name__}."
            )
        targets, _ = network._check_y(y, n_samples, np.float64, fresh=True, incremental=False)
        self._refuse_multilabel(
            vars(network).get("_target_kind") == "multilabel",
            f" y has {targets.shape[1]} columns;",
        )
        class_weights = network._find_class_weights(targets, incremental=False)
        answers = targets[:, 0] if targets.shape[1] == 1 else targets
        if self._has_classes:
            answers = network.classes_[answers.astype(np.intp)]
        return targets, answers, class_weights

    def _refuse_multilabel(self, is_multilabel, found):
        if is_multilabel:
            raise ValueError(
                f"{type(self).__name__} has one label per row;{found} fit a "
                "sklearn.multioutput.MultiOutputClassifier of it, or BackpropClassifier on numbers."
            )

    def _make_network(
        self, settings, rows=None, seed=0, dropout=0.0, *, n_samples=1, n_outputs=1, continues=None
    ):
        """Make an estimator of encoded columns, with members, that is not fitted."""
        n_trained = n_samples if rows is None else len(rows[0])
        batch_size, max_iter = settings.batch_size, settings.max_iter
        if batch_size == "auto":
            batch_size = recipe.choose_batch_size(n_trained)
        batch_size = max(1, min(batch_size, n_trained))
        hidden = settings.hidden_layer_sizes
        if hidden == "auto":
            hidden = recipe.choose_hidden_layers(n_outputs)
        network = self._network_class(
            hidden_layer_sizes=hidden,
            activation=settings.activation,
            solver=AdamW(weight_decay=settings.weight_decay, beta_2=recipe.BETA_2),
            alpha=0.0,
            batch_size=batch_size,
            learning_rate_init=settings.learning_rate_init,
            max_iter=recipe.choose_max_iter(n_trained) if max_iter == "auto" else max_iter,
            early_stopping=True,
            n_iter_no_change=settings.n_iter_no_change,
            tol=recipe.LEAST_GAIN,
            random_state=seed,
            verbose=settings.verbose,
            dropout=dropout,
            ema_decay=recipe.choose_ema_decay(n_trained, batch_size),
            init="he",
            scoring=settings.scoring or "loss",
            engine=settings.engine,
            matmul_precision=settings.matmul_precision,
            **self._parameters_of_network(settings),
        )
        n_members = settings.n_members
        if n_members == "auto":
            n_members = recipe.choose_n_members(n_trained)
        network._n_members, network._continues, network._parts = n_members, continues, rows
        network._calibrates = self._calibrates(settings)
        return network

    def _calibrates(self, settings):
        """Whether the held-out rows set the scale of a network's scores."""
        return False

    def _take(self, encoder, networks, targets):
        """Set the fitted attributes."""
        self.encoder_, self.networks_ = encoder, networks
        self.n_features_in_ = encoder.n_features_in_
        vars(self).pop("feature_names_in_", None)
        if "feature_names_in_" in vars(encoder):
            self.feature_names_in_ = encoder.feature_names_in_
        self.n_iter_ = max(network.n_iter_ for network in networks)
        self.matmul_precision_ = least_precise(network.matmul_precision_ for network in networks)

    def _fitted_attributes(self):
        """Return what `fit` has set, by name."""
        state = vars(self)
        return {name: state[name] for name in self._fitted_names if name in state}

    def reduced(self, n_networks: int = 1, n_members: int = 1) -> Self:
        """Make a smaller copy of the fitted estimator, for faster predictions.

        It keeps the networks that did best on their held-out rows, and the first members of each
        (they are exchangeable).  The cost of a prediction goes with the number of members that are
        left; what is lost is for you to measure.

        Parameters
        ----------
        n_networks : int, default=1
            How many networks to keep.
        n_members : int, default=1
            How many members of each.

        Returns
        -------
        estimator : TabularClassifier or TabularRegressor
            Fitted; shares the encoder and the hidden layers with this one.

        Raises
        ------
        ValueError
            If there are not so many.
        """
        if "networks_" not in vars(self):
            check_is_fitted(self)
        self._check_fitted()
        known = len(self.networks_), len(self.networks_[0].member_scales_)
        wanted = n_networks, n_members
        for name, n, most in zip(("n_networks", "n_members"), wanted, known, strict=True):
            if isinstance(n, bool) or not (isinstance(n, Integral) and 1 <= n <= most):
                raise ValueError(f"{name} must be an int from 1 to {most}, got {n!r}.")
        order = sorted(self.networks_, key=held_out_loss)
        smaller = copy(self)
        smaller.networks_ = [network.reduced(n_members) for network in order[:n_networks]]
        return smaller.set_params(n_networks=n_networks, n_members=n_members)

    def _raw_scores(self, X):
        """Raw scores of the mean prediction, their engine, and the dtype of predictions."""
        blocks = [
            combine(scores, self.networks_[0].out_activation_) for scores in self._member_scores(X)
        ]
        scores = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
        return scores, get_engine(self.engine), _dtype_of(X)

    def _mean_and_std(self, X):
        """Mean prediction, as without a spread, and standard deviation over all members."""
        means, spreads, engine, dtype = [], [], get_engine(self.engine), _dtype_of(X)
        for scores in self._member_scores(X):
            mean = combine(scores, self.networks_[0].out_activation_).copy()
            means.append(self._values_of_member(mean, engine, dtype))
            values = [self._values_of_member(one, engine, np.float64) for one in scores]
            spreads.append(_spread_of(np.stack(values)))
        return np.concatenate(means), np.concatenate(spreads).astype(dtype)

    def _member_scores(self, X):
        """Yield raw scores of all members, (n_all_members, n_rows, n_outputs), of blocks of X."""
        if "networks_" not in vars(self):
            check_is_fitted(self)
        check_ensemble(vars(self), self._network_class)
        _refuse_sparse(X)
        read, runs = self.encoder_._read(X), self.encoder_._plan.runs
        n_rows, n_columns = len(read), len(runs.continues)
        n_threads = 1 if n_rows == 1 else thread_ceiling(self.n_threads)
        precision = for_rows(self.matmul_precision, n_rows)
        for first in range(0, n_rows, ROWS_PER_BLOCK):
            Z = as_rows(runs.encode(read[first : first + ROWS_PER_BLOCK]), n_columns)
            yield np.concatenate([one.scores_of(Z, n_threads, precision) for one in self.networks_])

    to_c, to_onnx, to_sklearn = map(refusing, ("to_c", "to_onnx", "to_sklearn"))

    def _check_fitted(self):
        """Check all that predictions are made with; for a saved model, too."""
        check_ensemble(vars(self), self._network_class)

    def __sklearn_is_fitted__(self):
        return "networks_" in vars(self)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        return tags


def _only_column(y):
    """Return y where it has one column."""
    return y if y.ndim == 1 else None


def encode_validation(encoder, validation):
    """Turn validation data of the user's into arguments of a network's `fit`."""
    X_val, y_val, weights = validation
    if X_val is not None and y_val is not None:  # else the network says what is missing
        with speaking_of("X_val"):
            X_val = encode_rows(encoder._plan, encoder._read(X_val))
    return {"X_val": X_val, "y_val": y_val, "sample_weight_val": weights}


def _find_snapshot(estimator, settings, given):
    """Return the Snapshot of a fit, or None.

    Refused are those of networks whose seeds, or limits of time, are others in each process.
    """
    snapshot = find_snapshot(estimator, given)
    if snapshot is None:
        return None
    if not isinstance(settings.random_state, Integral):
        raise ValueError(
            f"snapshot needs an int as random_state, got {settings.random_state!r}: it draws the "
            "seeds of the networks and the rows that each holds out."
        )
    if settings.max_time is not None:
        raise ValueError(
            "snapshot of a tabular estimator counts no time over several processes: use it without "
            "max_time."
        )
    check_path(snapshot.path)  # of which the networks' files take their names
    return snapshot


def _refuse_sparse(X):
    if scipy.sparse.issparse(X):
        raise TypeError(
            "Sparse data was passed for X, but raw tables are dense. Use X.toarray(), or "
            "BackpropClassifier and BackpropRegressor, which take sparse X as it is."
        )


def _spread_of(values):
    """Return the standard deviation over members, (n_members, ...), whatever size values have.

    They are brought near 1 by powers of two, which changes no digit: squares would overflow.
    """
    exponents = np.frexp(np.abs(values).max(axis=0))[1]
    return np.ldexp(np.std(np.ldexp(values, -exponents), axis=0), exponents)


def _dtype_of(X):
    """Dtype of predictions: float32 for an array of float32, else float64."""
    return np.float32 if getattr(X, "dtype", None) == np.float32 else np.float64
