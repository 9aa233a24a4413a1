"""The networks of a tabular estimator: ensembles of members that are trained as one network.

A fastbp estimator whose network has members (see `fastbp.engine.network`): the same data checks,
losses, training and predictions, with members in the place of the output layer.  They see encoded
columns only, live in `networks_`, and are not public on their own.  How several of them are trained
is in `fits`.
"""

from copy import copy
from functools import partial

import numpy as np

from fastbp.activations import activations_for
from fastbp.data.features import check_features
from fastbp.engine import get_engine, network
from fastbp.engine.parallel import thread_ceiling
from fastbp.engine.precision import for_rows
from fastbp.estimators import BackpropClassifier, BackpropRegressor
from fastbp.estimators.base_parameters import BaseParameters
from fastbp.losses.combining import combine
from fastbp.tabular.attributes import (
    check_members,
    members_of,
    refuse_ensemble,
    refuse_numbers,
    refusing,
)

LARGEST = np.finfo(np.float64).max


class Members:
    """What an estimator with members has in the place of one with a single output layer.

    Attributes
    ----------
    coefs_, intercepts_ : lists of ndarray of shapes (n_in, n_out) and (n_out,)
        Of the hidden layers, which all members share.
    member_scales_ : ndarray of shape (n_members, n_features)
        What each member multiplies its inputs by.
    member_coefs_ : ndarray of shape (n_members, n_last_hidden, n_outputs)
    member_intercepts_ : ndarray of shape (n_members, n_outputs)
        The output layer of each.
    """

    _is_ensemble = True
    _saved_names = ("_n_members", "_continues")  # attributes beside the usual ones, for fastbp.save

    def reduced(self, n_members):
        """Make a copy with the first members."""
        smaller = copy(self)
        for name in ("member_scales_", "member_coefs_", "member_intercepts_"):
            setattr(smaller, name, np.ascontiguousarray(getattr(self, name)[:n_members]))
        smaller._n_members = n_members
        return smaller

    def _check_fitted(self):
        """Check all that a prediction reads; for a saved model, too."""
        check_members(vars(self))

    def scores_of(self, Z, n_threads, precision):
        """Return the raw scores (n_members, n_samples, n_outputs) of CSR of runs.

        `precision` is what all rows together ask for (`for_rows`).
        """
        engine, state = get_engine(self.engine), vars(self)
        parts = members_of(state, engine)
        activations = activations_for(self.activation, len(parts[0]))
        dtype = Z.data.dtype
        if parts[0][0].dtype != dtype:  # edited ones
            with np.errstate(over="ignore"):
                lists = ([array.astype(dtype) for array in part] for part in parts[:2])
                parts = *lists, *(array.astype(dtype) for array in parts[2:])
        n_members, n_outputs = parts[-1].shape
        scores = np.empty((n_members, Z.shape[0], n_outputs), dtype)
        if not engine.predict_members_into(
            *parts, activations, Z, scores, n_threads, self._continues, precision
        ):
            refuse_numbers(state, parts)
            raise ValueError(
                "A network of networks_ predicts values beyond the range of float32. Fit again."
            )
        return scores

    def _refuse(self, predictions):
        """Bring values beyond float64 (in place) to its ends: they are clipped to the range of y.

        Not what edited weights, or an edited scale, make of them.
        """
        refuse_numbers(vars(self), members_of(vars(self)))
        np.clip(predictions, -LARGEST, LARGEST, out=predictions)

    def _network_of(self, problem, params):
        params = params.astype(problem.weights_dtype, copy=False)
        parts = network.member_views(params, problem.layer_sizes, problem.n_members)
        names = ("coefs_", "intercepts_", "member_scales_", "member_coefs_", "member_intercepts_")
        return dict(zip(names, parts, strict=True)) | {
            "n_layers_": len(problem.layer_sizes),
            "out_activation_": problem.loss.output,
        }

    def _raw_scores(self, X, *, hidden=False):
        """Raw scores of the mean prediction; for a scorer, which sees encoded columns."""
        if hidden:
            refuse_ensemble(self, "transform")
        engine = get_engine(self.engine)
        X, given = check_features(
            self, X, partial(self._prediction_dtype, np.dtype(np.float32)), engine, reset=False
        )
        precision = for_rows(self.matmul_precision, X.shape[0])
        scores = self.scores_of(X, thread_ceiling(self.n_threads), precision)
        return combine(scores, self.out_activation_), engine, given

    @property
    def _n_features_out(self):
        raise AttributeError(f"{type(self).__name__} transforms nothing.")

    def _get_params_html(self, *arguments, **keywords):
        """Display for notebooks, without a drawing: that would be of one network."""
        return BaseParameters._get_params_html(self, *arguments, **keywords)


for _name in (
    "partial_fit", "transform", "fit_transform", "get_feature_names_out", "summary", "to_c",
    "to_onnx", "to_sklearn",
):  # fmt: skip
    setattr(Members, _name, refusing(_name))


class MembersClassifier(Members, BackpropClassifier):
    """A classifier with members."""


class MembersRegressor(Members, BackpropRegressor):
    """A regressor with members."""
