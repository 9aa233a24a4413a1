"""What every engine offers, and what it refuses.

The protocols hold the documentation of every verb; an engine says beside its own only what is
special to it.  The checks are those that both engines make in Python before they touch an array:
users' data were validated above, so they refuse what would be misread, written beside an array, or
never end.  Nothing is computed here and no engine is imported.
"""

from numbers import Integral
from typing import Protocol

import numpy as np

from fastbp.engine.network import count_params
from fastbp.engine.precision import check_matmul_precision as check_matmul_precision

MAX_HYPER = 6  # hyper-parameters of an optimiser: two more numbers go with them in its constants
MAX_SLOTS = 2  # vectors of state of an optimiser
MAX_MEMBERS = 2**16  # of a network

DTYPES = (np.dtype(np.float32), np.dtype(np.float64))
INDEX_DTYPES = (np.dtype(np.int32), np.dtype(np.int64))


class Engine(Protocol):
    """A module that computes.

    Attributes
    ----------
    NAME : str
        As users write it in ``engine=``.
    Session : type
        Of `Session`.
    """

    NAME: str
    Session: type

    def are_layers(self, coefs, intercepts, n_features=-1, n_outputs=-1):
        """Whether these are weights and biases as `predict_into` takes them.

        Parameters
        ----------
        coefs, intercepts : list or tuple
            Of C-contiguous arrays of one dtype, float32 or float64, which lead layer by layer from
            the features to the outputs.
        n_features, n_outputs : int, default=-1
            -1: whatever the arrays say.

        Returns
        -------
        bool
        """

    def predict_into(
        self, coefs, intercepts, activations, X, out, n_threads=1, matmul_precision="highest"
    ):
        """Raw scores of X straight from fitted arrays.

        Parameters
        ----------
        coefs : list or tuple of ndarray of shape (n_in, n_out)
        intercepts : list or tuple of ndarray of shape (n_out,)
            As `are_layers` says.
        activations : sequence of fastbp.activations.Activation
            One per hidden layer; or one per layer, where the last layer of `coefs` is a hidden one.
        X : ndarray of shape (n_samples, n_features) or CSR array
            C-contiguous, of the dtype of `coefs`.  Not copied.
        out : ndarray of shape (n_samples, n_outputs)
            OUT: scores before the output transform (or activations of a last hidden layer),
            C-contiguous, of the same dtype.
        n_threads : int, default=1
            Most threads to use; the scores do not depend on it.
        matmul_precision : {"highest", "high", "medium"}, default="highest"
            As a session takes it.  Whoever calls asks for what the rows of all calls together are
            worth (`fastbp.engine.precision.for_rows`).

        Returns
        -------
        bool
            Whether all of them are finite.
        """

    def predict_members_into(
        self, coefs, intercepts, scales, member_coefs, member_intercepts, activations, X, out,
        n_threads=1, continues=None, matmul_precision="highest",
    ):  # fmt: skip
        """Raw scores of all members straight from fitted arrays, as `predict_into`.

        A sample has the same bits alone and among others in one precision; those of a session's
        `predict_into` are equal up to rounding.

        Parameters
        ----------
        coefs : list or tuple of ndarray of shape (n_in, n_out)
        intercepts : list or tuple of ndarray of shape (n_out,)
            Of the hidden layers.
        scales : ndarray of shape (n_members, n_features)
        member_coefs : ndarray of shape (n_members, n_last_hidden, n_outputs)
        member_intercepts : ndarray of shape (n_members, n_outputs)
            C-contiguous, of the dtype of `coefs`.
        activations : sequence of fastbp.activations.Activation
            One per hidden layer.
        X : ndarray of shape (n_samples, n_features) or CSR array
        out : ndarray of shape (n_members, n_samples, n_outputs)
            OUT, C-contiguous, of the same dtype.
        n_threads : int, default=1
        continues : uint8 ndarray of shape (n_features,) or None, default=None
            As a session takes it; for CSR.
        matmul_precision : {"highest", "high", "medium"}, default="highest"

        Returns
        -------
        bool
            Whether all of them are finite.
        """

    def transform_into(self, name, scores):
        """Apply an output transform to raw scores in place, to each sample's on their own.

        Parameters
        ----------
        name : {"identity", "logistic", "softmax", "exp", "log_logistic", "log_softmax", \
                "cumulative_softplus"}
        scores : ndarray of shape (n_samples, n_outputs), float32 or float64, C-contiguous
            INOUT.
        """

    def activate_into(self, activation, values, slopes):
        """Run the loops behind an activation's entry, for tests: value and slope of each element.

        Parameters
        ----------
        activation : fastbp.activations.Activation
        values : ndarray of shape (n,), float32 or float64
            INOUT: pre-activations z -> f(z).
        slopes : ndarray of shape (n,), of the same dtype
            OUT: f'(z).
        """

    def all_finite(self, X):
        """Whether a C-contiguous float32 or float64 array has neither NaN nor infinity."""

    def join_columns(self, columns, out):
        """Write columns side by side into a matrix.

        Parameters
        ----------
        columns : sequence of ndarray of shape (n_rows,), float32 or float64
            Contiguous, of one dtype.
        out : ndarray of shape (n_rows, n_columns), C-contiguous, of the same dtype
            OUT.

        Returns
        -------
        bool
            Whether all of it is finite.
        """

    def fingerprint(self, array, every=1):
        """Return a number of 64 bits that two C-contiguous arrays share if they hold the same
        bytes, and practically only then; with `every`, if each `every`-th piece of 4096 bytes is
        the same.

        Engines give different numbers: what one has begun, another does not repeat bit for bit.
        """

    def instruction_set(self):
        """Name of the instruction set that new sessions and predictions use."""

    def supported_instruction_sets(self):
        """List the names that `set_instruction_set` takes, best first."""

    def set_instruction_set(self, name):
        """Use one instruction set from now on; sessions keep what they started with.

        Parameters
        ----------
        name : str
            One of `supported_instruction_sets()`.
        """

    def get_matmul_path(self):
        """Name the way in which new sessions and predictions make products less precise.

        Returns
        -------
        {"amx", "avx512_bf16", "emulation", "none"}
            "none": all products are float32, whatever is asked for.  "emulation", the tiles of AMX
            in portable C, is slow and only there to be forced.
        """

    def set_matmul_path(self, name):
        """Use one way from now on; sessions keep what they started with.

        The environment variable ``FASTBP_MATMUL_PATH`` does the same when the compiled engine is
        loaded.

        Parameters
        ----------
        name : str
            As `get_matmul_path` returns it.

        Raises
        ------
        ValueError
            If the engine or the processor does not have it.
        """

    def precision_of_inputs(self, layer_sizes, batch_size, matmul_precision):
        """In which precision the first layer reads dense float32 X: a question of shapes and path.

        Parameters
        ----------
        layer_sizes : sequence of int
            As a session takes them, of a network without members.
        batch_size : int
            Rows of a minibatch; of a prediction `fastbp.engine.precision.PREDICTION_ROWS`.
        matmul_precision : {"highest", "high", "medium"}
            What is asked for.

        Returns
        -------
        {"highest", "high", "medium"}
            "highest": this layer's products have operands in float32, whatever other layers have.
        """


class Session(Protocol):
    """Working copy of one fit: parameters, optimiser state, work memory, workers.

    What computes, what reads results and what changes settings hold the session's lock: threads
    that share it take turns.

    Parameters
    ----------
    layer_sizes : sequence of int
        ``(n_features, *hidden, n_outputs)``.
    activations : sequence of fastbp.activations.Activation
        One per hidden layer.
    loss : fastbp.losses.Loss
    dtype : numpy.float32 or numpy.float64
    params : ndarray of shape (n_params,)
        Flat parameters (see `fastbp.network`); copied.
    batch_size : int
        Largest minibatch that will be trained on.
    n_threads : int, default=1
        Most threads an epoch may use; results do not depend on it.
    sparse : bool, default=False
        Whether X will be CSR.
    n_members : int or None, default=None
        Train so many members in one (TabM-mini, arXiv 2410.24210): they share the hidden layers,
        each has multipliers of its own on the features and an output layer of its own.  A
        minibatch's loss is the mean over the members of each one's loss on the same rows, never the
        loss of their mean; the penalty acts on the weights of the hidden layers and of all output
        layers, not on multipliers.  Needs a hidden layer.  None: an ordinary network.
    continues : uint8 ndarray of shape (n_features,) or None, default=None
        Of members over CSR: features that continue the run of the one before.  A value at feature
        k stands for itself at all features of its run up to k, so that a column of pieces, 1 1 1
        0.3 0 0, is stored as two values, 0.7 at the third and 0.3 at the fourth, and trains like
        the dense one.  The first feature continues nothing.
    matmul_precision : {"highest", "high", "medium"}, default="highest"
        Least precise operands of matrix products (`fastbp.engine.precision`) in float32.  Sums,
        parameters, optimiser, activations and losses stay float32.  Always "highest" for float64,
        for a sparse first layer, and where shapes or the processor make nothing faster.

    Attributes
    ----------
    matmul_precision : {"highest", "high", "medium"}
        What is used: the least precise that any layer takes.
    t : int
        Optimiser steps done.
    epochs_done : int
        Epochs completed by the last call of `train`, also when it was interrupted.
    finite : bool
        False once an epoch ended with a loss or parameters that are not finite.
    out_of_time : bool
        Whether the last call of `train` ended because its time was up.
    n_seen : int
        Samples on which the last epoch that counts as done trained.
    """

    t: int
    epochs_done: int
    finite: bool
    out_of_time: bool
    n_seen: int
    matmul_precision: str

    def __init__(
        self, layer_sizes, activations, loss, *, dtype, params, batch_size, n_threads=1,
        sparse=False, n_members=None, continues=None, matmul_precision="highest",
    ):  # fmt: skip
        """Copy the parameters, take the memory of the fit."""

    def close(self):
        """End the session and its workers.  May be called again."""

    def force_threads(self, n_threads):
        """Run every epoch on exactly this many threads (for tests: `n_threads` is a ceiling)."""

    def limit_threads(self, n_threads):
        """Use at most so many threads from now on, and never more than `n_threads` at first."""

    def set_optimizer(
        self, optimizer, hyperparameters, slots=None, t=0, *, max_grad_norm=None, ema_decay=None,
        average=None,
    ):  # fmt: skip
        """Take the optimiser's entry, hyper-parameters and state, and what goes with a step.

        Parameters
        ----------
        optimizer : fastbp.optimizers.Optimizer
            With at most MAX_HYPER hyper-parameters and MAX_SLOTS slots.
        hyperparameters : dict
            A number for each name in ``optimizer.hyperparameters``.
        slots : ndarray of shape (n_slots, n_params) or None
            State to continue from; None starts at zero.
        t : int
            Steps already done.
        max_grad_norm : float or None
            Gradients (penalty included) with a larger norm over all parameters are scaled down to
            this norm before the step.
        ema_decay : float or None
            Keep an average of the parameters over the steps: after step t it moves towards them by
            the share ``1 - min(ema_decay, (1 + t) / (10 + t))`` of the way.  Predictions use it.
        average : ndarray of shape (n_params,) or None
            The average so far; None is the present parameters.
        """

    def set_dropout(self, rates, seed):
        """Leave hidden units out of training steps.

        Parameters
        ----------
        rates : sequence of float
            Probability in [0, 1) to be left out, one per hidden layer.  The others are divided by
            one minus it.
        seed : int
            From 0 to 2^64 - 1.  Which units are left out depends on it, on `t` at the start of an
            epoch, on the layer, the place of the sample in the epoch's order, the unit and the
            member; not on threads, dtype or engine.
        """

    def train(
        self, X, targets, sample_weight, order, *, shuffle, batch_size, alpha, learning_rate,
        n_epochs, losses, stopping=None, time_limit=None,
    ):  # fmt: skip
        """Train for up to n_epochs epochs; the GIL is released while epochs run.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features) or CSR array
            C-contiguous, of the session's dtype.
        targets : ndarray of shape (n_samples, n_targets)
            Numbers, or one column of class codes, of the session's dtype.
        sample_weight : ndarray of shape (n_samples,) or None
            Of the session's dtype, not negative.  A minibatch of weight 0 is skipped.
        order : int64 ndarray of shape (n_trained,) or None
            Samples to train on, in this order (None: all as they stand); permuted in place before
            each epoch when `shuffle` is given.
        shuffle : numpy.random.BitGenerator, numpy.random.RandomState or None
            Its stream is used as ``RandomState.shuffle(order)`` would use it, and left advanced.
            Nobody else may draw from a BitGenerator during the call.
        batch_size : int
        alpha : float
            L2 penalty; as in scikit-learn divided by the weight of the minibatch.
        learning_rate : float or float64 ndarray of shape (n_steps,)
            Constant, or one value for each step of this call.
        n_epochs : int
        losses : float64 ndarray of shape (n_epochs,)
            OUT: mean loss of each epoch, penalty included.
        stopping : fastbp.training.stopping.Patience or None
            Its rule is applied to the loss of each epoch; `best` and `count` are written back.
        time_limit : float or None
            Seconds after which the call ends, with the step in hand completed, and not before the
            first.  The epoch in hand then counts as one, with the loss of the samples it saw.

        Returns
        -------
        int
            Epochs done: fewer than n_epochs when the rule stopped training, time was up or
            something was no longer finite.
        """

    def predict_into(self, X, out):
        """Raw scores of X under the current parameters, or their average where one is kept.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features) or CSR array
        out : ndarray of shape (n_samples, n_outputs), C-contiguous, of the session's dtype
            OUT.  With members (n_members, n_samples, n_outputs): each one's own.
        """

    def mean_loss(self, scores, targets, sample_weight):
        """Mean loss of raw scores, without penalty: of what `predict_into` gave, under the
        session's loss; of one member, or of what the caller made of all.

        Parameters
        ----------
        scores : ndarray of shape (n_samples, n_outputs)
        targets, sample_weight : as for `train`

        Returns
        -------
        float
        """

    def loss_and_gradient(
        self, params, X, targets, sample_weight, *, alpha, gradient, mean_gradient=False
    ):
        """Loss of all samples and its gradient at `params`.

        Parameters
        ----------
        params : ndarray of shape (n_params,)
        X, targets, sample_weight : as for `train`
        alpha : float
        gradient : ndarray of shape (n_params,)
            OUT, in the layout of `params`.
        mean_gradient : bool, default=False
            Divide the data term's gradient by the number of outputs: the gradient of the loss that
            is returned where that is a mean over outputs (squared error).

        Returns
        -------
        float
        """

    def params_into(self, params):
        """Write the parameters into `params`, shape (n_params,), in the flat layout."""

    def average_into(self, params):
        """Write what predictions use, the average where one is kept, else the parameters."""

    def slots_into(self, slots):
        """Write the optimiser's slots into `slots`, shape (n_slots, n_params)."""


# --- single arrays -------------------------------------------------------------------------------


def check_matrix(array, dtype, n_columns):
    """Refuse what is no C-contiguous matrix of this dtype and width."""
    if not (
        isinstance(array, np.ndarray)
        and array.ndim == 2
        and array.dtype == dtype
        and array.flags.c_contiguous
        and array.shape[1] == n_columns
    ):
        raise ValueError(f"expected a C-contiguous {dtype} array with {n_columns} columns")


def check_vector(array, dtype, size, what):
    """Refuse what is no contiguous vector of this dtype and size."""
    if not (
        isinstance(array, np.ndarray)
        and array.shape == (size,)
        and array.dtype == dtype
        and array.flags.c_contiguous
    ):
        raise ValueError(f"expected a contiguous {dtype} vector of {size} {what}")


def check_floats(array):
    """Refuse what is no C-contiguous array of one of the two dtypes."""
    if not (isinstance(array, np.ndarray) and array.dtype in DTYPES and array.flags.c_contiguous):
        raise ValueError("expected a C-contiguous float32 or float64 array")


def check_writeable(array):
    """Refuse an array that cannot be written to."""
    if not array.flags.writeable:
        raise ValueError("an array to write to is read-only")


def check_pieces(array, every):
    """Refuse an array whose bytes do not lie side by side in C order, or to take no piece of it."""
    if not array.flags.c_contiguous:
        raise ValueError("expected a C-contiguous array")
    if every < 1:
        raise ValueError("expected every >= 1")


def check_scores(scores):
    """Refuse raw scores that cannot be transformed in place."""
    check_floats(scores)
    check_matrix(scores, scores.dtype, scores.shape[-1])
    check_writeable(scores)


def check_columns(columns, out):
    """Refuse columns that are not those of a matrix, or one that cannot be written to."""
    check_floats(out)
    check_matrix(out, out.dtype, len(columns))
    check_writeable(out)
    for column in columns:
        check_vector(column, out.dtype, len(out), "a column")


# --- of a network --------------------------------------------------------------------------------


def count_targets(layer_sizes, loss):
    """Return how many columns targets have."""
    return layer_sizes[-1] if loss.target == "real" else 1


def check_network(layer_sizes, activations, loss, dtype, params, n_members=None):
    """Refuse what makes no network, or a loss that has other outputs."""
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be float32 or float64, got {dtype}")
    if len(activations) != len(layer_sizes) - 2 or min(layer_sizes) < 1:
        raise ValueError("one activation per hidden layer and at least one unit per layer")
    if loss.target == "shared" and len(loss.hyper) != layer_sizes[-1]:
        raise ValueError(f"{len(loss.hyper)} outputs expected, got {layer_sizes[-1]}")
    if n_members is not None:
        check_members(n_members, layer_sizes)
    check_params(params, count_params(layer_sizes, n_members), dtype)


def check_members(n_members, layer_sizes):
    """Refuse a number of members that is none, and members without a hidden layer to share."""
    if not isinstance(n_members, Integral) or isinstance(n_members, bool):
        raise ValueError(f"n_members must be an int or None, got {n_members!r}")
    if not 1 <= n_members <= MAX_MEMBERS:
        raise ValueError(f"n_members must be from 1 to {MAX_MEMBERS}, got {n_members}")
    if len(layer_sizes) < 3:
        raise ValueError("n_members needs a hidden layer, which the members share")


def check_continues(continues, n_features, sparse, n_members):
    """Refuse what does not say of each feature whether it continues a run, or may not be said."""
    if continues is None:
        return
    if not sparse or n_members is None:
        raise ValueError("continues is for members over CSR")
    check_vector(continues, np.dtype(np.uint8), n_features, "features")
    if continues[0] or continues.max() > 1:
        raise ValueError("continues must hold 0 and 1, and begin with 0")


def check_matmul_path(name, available):
    """Refuse a way of making products that is none, or that does not run here."""
    if not (isinstance(name, str) and name in available):
        raise ValueError(f"matmul path {name!r} does not run here; choose one of {list(available)}")


def check_params(params, n_params, dtype, *, output=False):
    """Refuse what is no flat vector of a network's parameters; OUT: nor one to write to."""
    check_vector(params, dtype, n_params, "parameters")
    if output:
        check_writeable(params)


def check_prediction(fits):
    """Refuse fitted arrays of which an engine found that they make no network."""
    if not fits:
        raise ValueError(
            "weights, biases and activations make no network: expected C-contiguous arrays of one "
            "dtype that fit together"
        )


def check_member_arrays(coefs, scales, member_coefs, member_intercepts):
    """Refuse multipliers and output layers that do not fit fitted hidden layers, or each other."""
    arrays = (scales, member_coefs, member_intercepts)
    check_prediction(
        all(
            isinstance(array, np.ndarray)
            and array.dtype == coefs[0].dtype
            and array.flags.c_contiguous
            for array in arrays
        )
        and (scales.ndim, member_coefs.ndim, member_intercepts.ndim) == (2, 3, 2)
        and len(scales) == len(member_coefs) == len(member_intercepts) > 0
        and scales.shape[1] == coefs[0].shape[0]
        and member_coefs.shape[1] == coefs[-1].shape[1]
        and member_coefs.shape[2] == member_intercepts.shape[1] > 0
    )


def check_members_prediction(fitted, activations, X, out, continues):
    """Refuse what `Engine.predict_members_into` cannot read, or write into."""
    coefs, _, scales, member_coefs, member_intercepts = fitted
    check_prediction(len(coefs) == len(activations) > 0)
    check_member_arrays(coefs, scales, member_coefs, member_intercepts)
    n_members, n_features = scales.shape
    sparse = not isinstance(X, np.ndarray)
    check_samples(X, scales.dtype, n_features, sparse)
    check_member_output(X, out, scales.dtype, n_members, member_coefs.shape[2])
    check_continues(continues, n_features, sparse, n_members)


# --- of samples ----------------------------------------------------------------------------------


def check_csr(X, dtype, n_columns):
    """Refuse what is no CSR matrix of this dtype and width.

    Where its indices point was checked when it came in.
    """
    parts = [getattr(X, name, None) for name in ("data", "indices", "indptr")]
    if not all(isinstance(part, np.ndarray) and part.flags.c_contiguous for part in parts):
        raise ValueError("expected a CSR matrix of contiguous arrays")
    data, indices, indptr = parts
    if (
        X.format != "csr"
        or data.dtype != dtype
        or indices.dtype != indptr.dtype
        or indptr.dtype not in INDEX_DTYPES
        or X.shape[1] != n_columns
        or len(indptr) != X.shape[0] + 1
        or indptr[-1] > min(len(indices), len(data))
    ):
        raise ValueError(f"expected a CSR matrix of {dtype} with {n_columns} columns")


def check_samples(X, dtype, n_features, sparse):
    """Refuse features of another kind than the session was made for."""
    (check_csr if sparse else check_matrix)(X, dtype, n_features)


def check_targets(targets, sample_weight, n_samples, dtype, n_targets):
    """Refuse targets and weights that are not those of so many samples."""
    check_matrix(targets, dtype, n_targets)
    if len(targets) != n_samples:
        raise ValueError(f"X has {n_samples} rows, targets has {len(targets)}")
    if sample_weight is not None:
        check_vector(sample_weight, dtype, n_samples, "sample weights")


def check_order(order, n_samples):
    """Refuse an order that names anything but samples."""
    if order.ndim != 1 or order.dtype != np.int64 or not order.flags.c_contiguous:
        raise ValueError("order must be a contiguous int64 vector of rows")
    if not len(order):
        raise ValueError("order names no row: expected one at least")
    for row in (order.min(), order.max()):
        if not 0 <= row < n_samples:
            raise ValueError(f"order names row {row} of an X with {n_samples} rows")


def check_output(X, out, dtype, n_columns):
    """Refuse scores to write that are not one row for each sample."""
    check_matrix(out, dtype, n_columns)
    if X.shape[0] != out.shape[0]:
        raise ValueError(f"X has {X.shape[0]} rows, out has {out.shape[0]}")
    check_writeable(out)


def check_member_output(X, out, dtype, n_members, n_columns):
    """Refuse scores to write that are not one row for each member and sample."""
    shape = (n_members, X.shape[0], n_columns)
    if not (
        isinstance(out, np.ndarray)
        and out.shape == shape
        and out.dtype == dtype
        and out.flags.c_contiguous
    ):
        raise ValueError(f"expected a C-contiguous {dtype} array of shape {shape} for scores")
    check_writeable(out)


# --- of a session --------------------------------------------------------------------------------


def check_open(closed):
    """Refuse to compute in a session that has ended."""
    if closed:
        raise RuntimeError("this session was closed")


def check_has_optimizer(optimizer):
    """Refuse what needs an optimiser before there is one."""
    if not optimizer:
        raise RuntimeError("this session has no optimizer yet: call set_optimizer")


def check_optimizer(optimizer, slots, n_params, dtype):
    """Refuse an optimiser with more than there is room for, and slots that are not its own."""
    if len(optimizer.hyperparameters) > MAX_HYPER:
        raise ValueError(f"an optimizer has at most {MAX_HYPER} hyper-parameters")
    if optimizer.n_slots > MAX_SLOTS:
        raise ValueError(f"an optimizer has at most {MAX_SLOTS} slots")
    if slots is not None:
        check_slots(slots, optimizer.n_slots, n_params, dtype)


def check_slots(slots, n_slots, n_params, dtype, *, output=False):
    """Refuse slots that are not one flat vector each."""
    if len(slots) != n_slots:
        raise ValueError(f"expected {n_slots} slots, got {len(slots)}")
    for slot in slots:
        check_params(slot, n_params, dtype, output=output)


def read_hyperparameters(optimizer, hyperparameters, dtype):
    """Return the numbers of an optimiser in its order, as kernels take them."""
    numbers = [float(hyperparameters[name]) for name in optimizer.hyperparameters]
    tiny = float(np.finfo(dtype).tiny)  # an epsilon that vanishes in the dtype would divide 0 by 0
    return [max(number, tiny) if number > 0 else number for number in numbers]


def read_dropout(rates, n_hidden):
    """Return threshold and scale of each hidden layer: which draws of 32 bits leave a unit out."""
    if len(rates) != n_hidden:
        raise ValueError("one dropout rate per hidden layer")
    if not all(0 <= rate < 1 for rate in rates):
        raise ValueError(f"dropout rates are at least 0 and below 1, got {list(rates)}")
    return [(min(round(rate * 2**32), 2**32 - 1), 1 / (1 - rate)) for rate in rates]


def check_run(n_samples, order, shuffle, batch_size, rates, n_epochs, losses):
    """Refuse a run that would read or write beyond an array, or never end."""
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if len(rates) not in (1, n_epochs * -(-n_samples // batch_size)):
        raise ValueError("learning_rate must be a number or one for each step of this call")
    check_vector(losses, np.float64, len(losses), "losses")
    if len(losses) < n_epochs:
        raise ValueError(f"losses has {len(losses)} places for {n_epochs} epochs")
    check_writeable(losses)
    if shuffle is not None and (order is None or not order.flags.writeable):
        raise ValueError("shuffling needs an order that may be written to")


def check_total_weight(total, n_samples):
    """Refuse samples of which nothing can be learnt."""
    if not total > 0:
        raise ValueError(f"the weights of {n_samples} samples sum to {total}")
