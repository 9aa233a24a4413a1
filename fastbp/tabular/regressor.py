"""`TabularRegressor`."""

import numpy as np
from sklearn.base import RegressorMixin

from fastbp.estimators.parameters import REGRESSOR_PARAMETERS, TABULAR_PARAMETERS
from fastbp.tabular.base import BaseTabular
from fastbp.tabular.networks import MembersRegressor


class TabularRegressor(RegressorMixin, BaseTabular):
    __module__ = "fastbp"
    _network_class = MembersRegressor
    _has_classes = False
    _parameter_rules = {"loss": REGRESSOR_PARAMETERS["loss"], **TABULAR_PARAMETERS}

    def __init__(
        self,
        categorical_features="from_dtype",
        *,
        loss="squared_error",
        n_networks=5,
        n_members=4,
        hidden_layer_sizes=(128, 128),
        activation="relu",
        n_bins="auto",
        dropout=0.1,
        weight_decay=0.02,
        learning_rate_init=0.002,
        batch_size="auto",
        max_iter=200,
        n_iter_no_change=16,
        max_time=None,
        scoring=None,
        random_state=None,
        n_threads=None,
        engine="auto",
        verbose=False,
    ):
        self._store(locals())

    def _check_rows(self, X, y):
        pass

    def _refuse_kind(self, network):
        pass

    def _parameters_of_network(self, settings):
        return {"loss": settings.loss, "scale_targets": True}

    def _take(self, encoder, networks, targets):
        super()._take(encoder, networks, targets)
        self._lowest, self._highest = targets.min(axis=0), targets.max(axis=0)

    def predict(self, X):
        values = self.networks_[0]._values_of(*self._raw_scores(X))
        return np.clip(values, self._lowest, self._highest)
