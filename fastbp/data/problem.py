"""From an estimator and a user's data to the problem that training minimises.

One way for `fit` and for all who look at a fitted estimator (`inspection`, the learning-rate
finder): checked arrays of one dtype, targets in the units of the loss, class weights multiplied
into the sample weights, the loss and the activations as entries of the tables.  Nothing here
trains, and nothing but `prepare` and `look_at` puts these parts together.
"""

from copy import copy
from dataclasses import dataclass, field, replace
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import scipy.sparse

from fastbp.activations import activations_for
from fastbp.data.best_constant import constant_scores
from fastbp.data.features import check_features, check_range, open_map
from fastbp.data.held_out import NOTHING, HeldOut, prepare_held_out
from fastbp.data.row_source import blocks_of
from fastbp.data.weights import check_sample_weight, weigh_samples
from fastbp.engine import get_engine, network, watch_formulas
from fastbp.engine.parallel import thread_ceiling
from fastbp.engine.precision import for_dtype, for_rows
from fastbp.losses import Loss, clipped
from fastbp.losses.combining import combine
from fastbp.optimizers import is_full_batch


@dataclass
class Problem:
    """What is trained: a network, a loss, checked data and the engine that works on them."""

    settings: Any  # the estimator's parameters, by name; nobody writes to them
    engine: ModuleType
    layer_sizes: tuple
    activations: list
    loss: Loss
    dtype: np.dtype  # of the arithmetic
    X: Any
    targets: np.ndarray
    sample_weight: np.ndarray | None  # times the weight of the sample's class
    n_threads: int
    class_weights: list | None = None  # for each column of targets, by code
    target_units: tuple = ()  # mean and scale that were taken out of y
    given: Any = None  # dtype in which X came
    weights_dtype: Any = None  # in which fitted weights are kept
    dropout: list = field(default_factory=list)  # rate of each hidden layer
    feature_names: Any = None
    classes: Any = None  # labels that the codes stand for
    one_class: bool = False  # predicted whatever the scores: no warning, no score has news of it
    watch: Any = None  # over the user's functions, if there are any
    deadline: float | None = None  # of time.perf_counter, for training
    held_out: HeldOut | None = None  # the user's validation data
    n_members: int | None = None  # of an ensemble in one network
    continues: np.ndarray | None = None  # its features that go on where the one before ended
    calibrates: bool = False  # whether held-out samples set the scale of the scores, too
    parts: tuple | None = None  # rows to train on and rows to hold out, where these are not drawn
    asked_to_stop: Any = None  # a threading.Event of others, or None

    def open_session(self, params, batch_size):
        """Make a working copy of `params` in the engine; the caller closes it."""
        return self.engine.Session(
            self.layer_sizes,
            self.activations,
            self.loss,
            dtype=self.dtype,
            params=params,
            batch_size=batch_size,
            n_threads=self.n_threads,
            sparse=self.is_sparse,
            n_members=self.n_members,
            continues=self.continues,
            matmul_precision=self.matmul_precision,
        )

    @property
    def matmul_precision(self):
        """What training asks the engine for; see `fastbp.engine.precision`."""
        return for_dtype(self.settings.matmul_precision, self.dtype)

    @property
    def is_sparse(self):
        """Whether X is a sparse matrix."""
        return scipy.sparse.issparse(self.X) or getattr(self.X, "is_sparse", False)

    def best_constant(self):
        """Return the raw scores of the best prediction that is the same for all samples."""
        return constant_scores(self.loss, self.targets, self.sample_weight, self.layer_sizes[-1])

    def all_rows(self):
        """Return all rows in the order of the data, to be shuffled in place."""
        return np.arange(self.X.shape[0])

    def in_memory(self):
        """Return the problem, or that of some of the rows where they are not all in memory."""
        return self

    def as_given(self, y):
        """Return X, y and weights for callbacks, where these came in a source."""
        return self.X, y, None

    def some_rows(self, rows, n_rows):
        """Return the problem of at most so many of some rows, evenly spaced."""
        return self.of_rows(np.sort(rows)[:: -(-len(rows) // n_rows)])

    def scale_scores(self, params, factor):
        """Multiply all raw scores: the output layer, or those of all members, in place."""
        outputs, _ = network.list_parts(self.layer_sizes, self.n_members)[-2:]
        params[outputs[0] :] *= factor

    def scores(self, params):
        """Compute raw scores of all samples under `params`; of members, those of their mean."""
        n_samples, n_outputs = self.X.shape[0], self.layer_sizes[-1]
        scores = np.empty((n_samples, n_outputs), self.dtype)
        precision = for_rows(self.matmul_precision, n_samples)
        for rows, X in blocks_of(self.X):
            scores[rows] = self._scores_of(X, params, precision)
        return scores

    def _scores_of(self, X, params, precision):
        sizes, n_threads, shape = (
            self.layer_sizes,
            self.n_threads,
            (X.shape[0], self.layer_sizes[-1]),
        )
        if self.n_members is None:
            scores = np.empty(shape, self.dtype)
            layers = network.views(params, sizes)
            self.engine.predict_into(*layers, self.activations, X, scores, n_threads, precision)
            return scores
        scores = np.empty((self.n_members, *shape), self.dtype)
        layers = network.member_views(params, sizes, self.n_members)
        self.engine.predict_members_into(
            *layers, self.activations, X, scores, n_threads, self.continues, precision
        )
        return combine(scores, self.loss.output)

    def of_rows(self, rows):
        """Return the problem of some of the samples; weights that are all 0 there are left out."""
        weight = None if self.sample_weight is None else self.sample_weight[rows]
        if weight is not None and not weight.any():
            weight = None
        return replace(self, X=self.X[rows], targets=self.targets[rows], sample_weight=weight)


def prepare(
    estimator, X, y, sample_weight=None, validation=NOTHING, *, settings, fresh=True,
    incremental=False, deadline=None,
):  # fmt: skip
    """Turn what came to `fit` or `partial_fit` into a problem.

    Parameters
    ----------
    estimator : BackpropClassifier or BackpropRegressor
        Gets the attributes that describe data: `n_features_in_`, `classes_`, `target_scale_`, ...
    X, y, sample_weight : as given to `fit`
    validation : tuple of X_val, y_val, sample_weight_val
    settings : Settings
        The estimator's parameters.
    fresh : bool, default=True
        Whether training begins anew, or goes on with a fitted network.
    incremental : bool, default=False
        Whether y may lack classes (partial_fit).
    deadline : float or None, default=None
        When training is to end, by `time.perf_counter`.

    Returns
    -------
    Problem

    Raises
    ------
    ValueError, TypeError
        For bad data, or fitted attributes that are no network.
    """
    old = None
    if not fresh:
        goes_on = incremental or settings.warm_start == "resume"
        old = estimator._settle_weights(goes_on=goes_on, trains=True)
    choose_dtype = partial(estimator._training_dtype, weights=old)
    full_batch = is_full_batch(settings.solver)
    if not full_batch:
        X = open_map(X, choose_dtype)
    problem = _check(
        estimator, settings, X, y, sample_weight, _float64 if full_batch else choose_dtype,
        partial(estimator._find_class_weights, incremental=incremental),
        fresh=fresh, incremental=incremental,
    )  # fmt: skip
    problem.weights_dtype = np.dtype(choose_dtype(problem.given))
    if full_batch:
        check_range(estimator, problem.X, problem.weights_dtype)
    elif estimator.dtype is None:  # L-BFGS needs a loss that fits its gradient
        problem.loss = clipped(problem.loss, np.finfo(problem.dtype).eps)
    problem.dropout = dropout_rates(settings.dropout, len(settings.hidden_layer_sizes))
    problem.watch = watch_formulas(
        problem.activations, problem.loss, problem.targets, problem.dtype
    )
    problem.held_out = prepare_held_out(estimator, validation, problem)
    problem.deadline = deadline
    return problem


def look_at(estimator, X, y, sample_weight=None):
    """Find the problem that `fit` minimised, on these data and in float64.

    Targets are in the units of the fit, classes have the weights that they had there.  The
    estimator stays as it is.

    Parameters
    ----------
    estimator : BackpropClassifier or BackpropRegressor
        Fitted.
    X, y, sample_weight : as given to `fit`

    Returns
    -------
    Problem

    Raises
    ------
    ValueError, TypeError
        As in `fit`, and if y has another number of outputs than the network.
    """
    probe = copy(estimator)  # the checks may set attributes
    probe._settle_weights(goes_on=False)
    sizes = network.layer_sizes_of(probe.coefs_)
    known = vars(probe).get("_class_weights")
    problem = _check(
        probe, probe._check_parameters(), X, y, sample_weight, _float64, lambda targets: known,
        fresh=False, incremental=True,
    )  # fmt: skip
    if probe.n_outputs_ != sizes[-1]:
        raise ValueError(
            f"y has {probe.n_outputs_} outputs, but the network was fitted with {sizes[-1]}."
        )
    problem.layer_sizes, problem.weights_dtype = sizes, problem.dtype
    problem.activations = activations_for(problem.settings.activation, len(sizes) - 2)
    return problem


def _check(
    estimator, settings, X, y, sample_weight, choose_dtype, find_class_weights, *, fresh,
    incremental,
):  # fmt: skip
    """Check X, y and weights, and put them together with the entries that belong to them."""
    engine = get_engine(settings.engine)
    X, given = check_features(estimator, X, choose_dtype, engine, reset=fresh)
    how = dict(fresh=fresh, incremental=incremental)
    targets, loss = estimator._check_y(y, X.shape[0], X.dtype, **how)
    weights = check_sample_weight(estimator, sample_weight, X.shape[0], X.dtype)
    class_weights = find_class_weights(targets)
    if class_weights is not None:
        weights = weigh_samples(class_weights, targets, weights)
    targets = estimator._scale(targets, weights, X.dtype, fresh=fresh)
    hidden, state = settings.hidden_layer_sizes, vars(estimator)
    return Problem(
        settings=settings,
        engine=engine,
        layer_sizes=(estimator.n_features_in_, *hidden, estimator.n_outputs_),
        activations=activations_for(settings.activation, len(hidden)),
        loss=loss,
        dtype=X.dtype,
        X=X,
        targets=targets,
        sample_weight=weights,
        n_threads=thread_ceiling(settings.n_threads),
        class_weights=class_weights,
        target_units=tuple(
            state[name] for name in ("target_mean_", "target_scale_") if name in state
        ),
        given=given,
        feature_names=state.get("feature_names_in_"),
        classes=state.get("classes_"),
        one_class=estimator._has_one_class,
        n_members=estimator._n_members,
        continues=estimator._continues,
        calibrates=estimator._calibrates,
        parts=estimator._parts,
        asked_to_stop=estimator._asked_to_stop,
    )


def dropout_rates(dropout, n_hidden):
    """List of the dropout probability of each hidden layer.

    Raises
    ------
    ValueError
        If a list is not as long as there are hidden layers.
    """
    if not isinstance(dropout, list | tuple):
        return [float(dropout)] * n_hidden
    if len(dropout) != n_hidden:
        raise ValueError(
            f"dropout has {len(dropout)} entries for {n_hidden} hidden layers. Give one for each "
            "layer of hidden_layer_sizes, or a single one for all."
        )
    return [float(rate) for rate in dropout]


def _float64(given):
    return np.float64
