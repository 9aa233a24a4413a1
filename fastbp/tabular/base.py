"""What both tabular estimators share: from a raw table to networks, and from these to scores.

`fit` encodes the columns (`encoder`), deals the rows into parts (`recipe`), and trains one network
of members for each part that is held out (`networks`, by the same training as ever).  No formulas
here, and nothing of classes or of units: those are the networks'.
"""

import inspect
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from fastbp.data.held_out import speaking_of
from fastbp.data.weights import check_sample_weight
from fastbp.engine import get_engine
from fastbp.engine.parallel import thread_ceiling
from fastbp.estimators.annotations import Targets, Weights
from fastbp.estimators.attributes import unchanged_on_error
from fastbp.estimators.parameters import check_parameters
from fastbp.losses.combining import combine
from fastbp.optimizers import AdamW
from fastbp.tabular.encoder import TableEncoder
from fastbp.tabular.recipe import choose_batch_size, choose_ema_decay, deal_rows
from fastbp.versions import __version__, refuse_newer

ROWS_PER_BLOCK = 4096  # of a prediction: what encoded columns and members' scores take
MAX_SEED = 2**31


class BaseTabular(BaseEstimator):
    """What both tabular estimators share."""

    encoder_: TableEncoder
    networks_: list[Any]
    n_features_in_: int
    n_iter_: int

    _doc_link_module = "fastbp"
    _doc_link_template = "https://fastbp.readthedocs.io/en/latest/api/fastbp.{estimator_name}.html"

    @classmethod
    @cache
    def _get_default_params(cls):
        """Return the default of each parameter."""
        parameters = inspect.signature(cls.__init__).parameters
        return {name: parameters[name].default for name in cls._get_param_names()}

    def _store(self, parameters):
        """Keep the arguments of ``__init__`` under their names, untouched."""
        for name, value in parameters.items():
            if name != "self":
                setattr(self, name, value)

    def fit(
        self,
        X: Any,
        y: Targets,
        sample_weight: Weights = None,
        *,
        X_val: Any = None,
        y_val: Targets | None = None,
        sample_weight_val: Weights = None,
    ) -> Self:
        """Encode the columns and train the networks.

        Parameters
        ----------
        X : data frame or array-like of shape (n_samples, n_features)
            The raw table: numbers, text, categories, dates, missing values.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Class labels, or real numbers.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each sample; not negative, not all zero.
        X_val : data frame or array-like of shape (n_val, n_features), default=None
            Validation data, as raw as X, by which every network chooses its best epoch; then all
            rows of X are trained on by every network.
        y_val : array-like of shape (n_val,) or (n_val, n_outputs), default=None
            Their labels or targets.
        sample_weight_val : array-like of shape (n_val,), default=None
            Their weights.

        Returns
        -------
        self : estimator

        Raises
        ------
        ValueError, TypeError
            For bad parameters or data.  The estimator stays as it was.
        """
        with unchanged_on_error(self):
            return self._fit(X, y, sample_weight, (X_val, y_val, sample_weight_val))

    def _fit(self, X, y, sample_weight, validation):
        begun = time.perf_counter()
        settings = check_parameters(self, self._parameter_rules)
        random_state = check_random_state(settings.random_state)
        encoder = TableEncoder(
            settings.categorical_features,
            n_bins=settings.n_bins,
            random_state=random_state.randint(MAX_SEED),
        )
        self._check_rows(X, y)
        Z = encoder.fit_transform(X, y)
        network = self._make_network(settings)
        targets, _ = network._check_y(y, len(Z), np.float32, fresh=True, incremental=False)
        self._refuse_kind(network)
        weights = check_sample_weight(self, sample_weight, len(Z), np.float64)
        held_out = self._encode_validation(encoder, validation)
        parts = [None] * settings.n_networks
        if held_out["X_val"] is None:
            parts = deal_rows(
                targets, weights, settings.n_networks, random_state, classes=self._has_classes
            )
        seeds = random_state.randint(MAX_SEED, size=len(parts))
        jobs = [
            self._make_network(settings, rows, seed, len(Z))
            for rows, seed in zip(parts, seeds.tolist(), strict=True)
        ]
        deadline = None if settings.max_time is None else begun + settings.max_time
        networks = train_all(jobs, (Z, y, sample_weight), held_out, deadline, settings.n_threads)
        self._take(encoder, networks, targets)
        return self

    def _encode_validation(self, encoder, validation):
        """Validation data of the user's as arguments of a network's `fit`."""
        X_val, y_val, weights = validation
        if X_val is not None and y_val is not None:  # else the network says what is missing
            with speaking_of("X_val"):
                X_val = encoder.transform(X_val)
        return {"X_val": X_val, "y_val": y_val, "sample_weight_val": weights}

    def _make_network(self, settings, rows=None, seed=0, n_samples=0):
        """An estimator of encoded columns, with members, not fitted."""
        n_trained = n_samples if rows is None else len(rows[0])
        batch_size = settings.batch_size
        if batch_size == "auto":
            batch_size = choose_batch_size(n_trained)
        batch_size = max(1, min(batch_size, n_trained))
        network = self._network_class(
            hidden_layer_sizes=settings.hidden_layer_sizes,
            activation=settings.activation,
            solver=AdamW(weight_decay=settings.weight_decay, beta_2=0.99),
            alpha=0.0,
            batch_size=batch_size,
            learning_rate_init=settings.learning_rate_init,
            max_iter=settings.max_iter,
            early_stopping=True,
            n_iter_no_change=settings.n_iter_no_change,
            tol=0.0,
            random_state=seed,
            verbose=settings.verbose,
            dropout=settings.dropout,
            ema_decay=choose_ema_decay(n_trained, batch_size),
            init="he",
            scoring=settings.scoring or "loss",
            n_threads=settings.n_threads,
            engine=settings.engine,
            **self._parameters_of_network(settings),
        )
        network._n_members = settings.n_members
        network._parts = rows
        return network

    def _take(self, encoder, networks, targets):
        """Set the fitted attributes."""
        self.encoder_, self.networks_ = encoder, networks
        self.n_features_in_ = encoder.n_features_in_
        vars(self).pop("feature_names_in_", None)
        if hasattr(encoder, "feature_names_in_"):
            self.feature_names_in_ = encoder.feature_names_in_
        self.n_iter_ = max(network.n_iter_ for network in networks)

    def _member_scores(self, Z):
        """Raw scores of all members of all networks, (n_all_members, n_samples, n_outputs)."""
        n_members, n_outputs = self.networks_[0].member_intercepts_.shape
        scores = np.empty((len(self.networks_), n_members, len(Z), n_outputs), np.float32)
        n_threads = 1 if len(Z) == 1 else thread_ceiling(self.n_threads)
        for network, out in zip(self.networks_, scores, strict=True):
            network.scores_into(Z, out, n_threads)
        return scores.reshape(-1, len(Z), n_outputs)

    def _raw_scores(self, X):
        """Raw scores of the mean prediction, their engine, and the dtype of predictions."""
        if "networks_" not in vars(self):
            check_is_fitted(self)
        Z, output = self.encoder_.transform(X), self.networks_[0].out_activation_
        blocks = [
            combine(self._member_scores(Z[first : first + ROWS_PER_BLOCK]), output)
            for first in range(0, len(Z), ROWS_PER_BLOCK)
        ]
        scores = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
        return scores, get_engine(self.engine), self._output_dtype(X)

    @staticmethod
    def _output_dtype(X):
        """Dtype of predictions: float32 for an array of float32, else float64."""
        return np.float32 if getattr(X, "dtype", None) == np.float32 else np.float64

    def __sklearn_is_fitted__(self):
        return "networks_" in vars(self)

    def __getstate__(self):
        return {**super().__getstate__(), "_fastbp_version": __version__}

    def __setstate__(self, state):
        """Take the state of a pickle or copy; one of a newer fastbp would go wrong later."""
        state = self._get_default_params() | dict(state)
        refuse_newer(
            state.pop("_fastbp_version", __version__), f"This pickled {type(self).__name__}"
        )
        super().__setstate__(state)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        tags.target_tags.required = True
        return tags


def train_all(networks, data, held_out, deadline, n_threads):
    """Fit the networks, several at a time where there are threads for it; return those fitted.

    The time that is left is shared by those that are still to come; once it is over no other
    begins.  What a network becomes does not depend on the threads.

    Parameters
    ----------
    networks : list of fastbp estimators, changed in place
    data : tuple of X, y and sample_weight
    held_out : dict of X_val, y_val and sample_weight_val
    deadline : float or None
        By `time.perf_counter`.
    n_threads : int or None
        As the estimator has it.
    """
    n_workers = max(1, min(thread_ceiling(n_threads), len(networks)))
    stop, waiting, lock = threading.Event(), list(networks), threading.Lock()
    each = max(1, thread_ceiling(n_threads) // n_workers)

    def work():
        while True:
            with lock:
                if not waiting or stop.is_set():
                    return
                network, left = waiting.pop(0), len(waiting) + n_workers
            network.n_threads = each
            network._asked_to_stop = stop
            if deadline is not None:
                share = (deadline - time.perf_counter()) / -(-left // n_workers)
                if share <= 0 and network is not networks[0]:
                    return
                network.max_time = max(share, 1e-3)
            try:
                network.fit(*data, **held_out)
            except BaseException:
                stop.set()
                raise
            finally:
                network._asked_to_stop = None

    if n_workers == 1:
        work()
    else:
        with ThreadPoolExecutor(n_workers) as pool:
            try:
                for future in [pool.submit(work) for _ in range(n_workers)]:
                    future.result()
            except BaseException:
                stop.set()
                raise
    return [network for network in networks if network.__sklearn_is_fitted__()]
