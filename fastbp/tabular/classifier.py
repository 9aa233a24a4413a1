"""`TabularClassifier`."""

import numpy as np
from sklearn.base import ClassifierMixin

from fastbp.estimators.parameters import CLASSIFIER_PARAMETERS, TABULAR_PARAMETERS
from fastbp.tabular.base import BaseTabular
from fastbp.tabular.networks import MembersClassifier


class TabularClassifier(ClassifierMixin, BaseTabular):
    __module__ = "fastbp"
    _network_class = MembersClassifier
    _has_classes = True
    _parameter_rules = {
        "loss": CLASSIFIER_PARAMETERS["loss"],
        "class_weight": CLASSIFIER_PARAMETERS["class_weight"],
        **TABULAR_PARAMETERS,
    }

    def __init__(
        self,
        categorical_features="from_dtype",
        *,
        loss="log_loss",
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
        class_weight=None,
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
        return {"loss": settings.loss, "class_weight": settings.class_weight}

    def _take(self, encoder, networks, targets):
        super()._take(encoder, networks, targets)
        self.classes_ = networks[0].classes_

    def predict(self, X):
        scores, _, _ = self._raw_scores(X)
        return self.networks_[0]._labels_of(scores)

    def predict_proba(self, X):
        return self.networks_[0]._probabilities_of(*self._raw_scores(X))
