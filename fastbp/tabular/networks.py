"""The networks of a tabular estimator: ensembles of members that are trained as one network.

A fastbp estimator whose network has members (see `fastbp.engine.network`): the same data checks,
losses, training and predictions, with members in the place of the output layer.  They see encoded
columns only, live in `networks_`, and are not public on their own.
"""

from functools import partial

import numpy as np

from fastbp.activations import activations_for
from fastbp.data.features import check_features
from fastbp.engine import get_engine, network
from fastbp.engine.parallel import thread_ceiling
from fastbp.estimators import BackpropClassifier, BackpropRegressor
from fastbp.losses.combining import combine


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

    @property
    def parts(self):
        """All arrays of the network, in the order of the flat vector."""
        return (
            self.coefs_,
            self.intercepts_,
            self.member_scales_,
            self.member_coefs_,
            self.member_intercepts_,
        )

    def scores_into(self, Z, out, n_threads):
        """Write the raw scores (n_members, n_samples, n_outputs) of encoded columns into `out`."""
        engine = get_engine(self.engine)
        activations = activations_for(self.activation, len(self.coefs_))
        finite = engine.predict_members_into(*self.parts, activations, Z, out, n_threads)
        if not finite:
            raise ValueError(
                "The network predicts values that are not finite: an attribute of networks_ was "
                "edited. Fit again."
            )

    def _network_of(self, problem, params):
        params = params.astype(problem.weights_dtype, copy=False)
        parts = network.member_views(params, problem.layer_sizes, problem.n_members)
        names = ("coefs_", "intercepts_", "member_scales_", "member_coefs_", "member_intercepts_")
        return dict(zip(names, parts, strict=True)) | {
            "n_layers_": len(problem.layer_sizes),
            "out_activation_": problem.loss.output,
        }

    def _raw_scores(self, X):
        """Raw scores of the mean prediction; for a scorer, which sees encoded columns."""
        engine = get_engine(self.engine)
        X, given = check_features(
            self, X, partial(self._prediction_dtype, self.coefs_[0].dtype), engine, reset=False
        )
        shape = self.member_intercepts_.shape
        scores = np.empty((shape[0], X.shape[0], shape[1]), X.dtype)
        self.scores_into(X, scores, thread_ceiling(self.n_threads))
        return combine(scores, self.out_activation_), engine, given


class MembersClassifier(Members, BackpropClassifier):
    """A classifier with members."""


class MembersRegressor(Members, BackpropRegressor):
    """A regressor with members."""
