"""Constructor parameters of the tabular estimators: what each may be.

Rules are those of the plain estimators and of `TableEncoder` wherever the meaning is the same.
"""

from numbers import Integral, Real

from fastbp.descriptions import name_rule, number_rule
from fastbp.estimators.parameters import (
    CLASSIFIER_PARAMETERS,
    REGRESSOR_PARAMETERS,
    SHARED_PARAMETERS,
)
from fastbp.tabular.encoder import RULES

_INF = float("inf")
_COUNT = number_rule(Integral, "[", 1, _INF, ")")

TABULAR_PARAMETERS = {
    "categorical_features": RULES["categorical_features"],
    "n_networks": (number_rule(Integral, "[", 1, 1000, "]"),),
    "n_members": (name_rule("auto"), number_rule(Integral, "[", 1, 1000, "]")),
    "n_bins": RULES["n_bins"],
    "weight_decay": (number_rule(Real, "[", 0.0, _INF, ")"),),
    **{
        name: SHARED_PARAMETERS[name]
        for name in (
            "activation", "learning_rate_init", "batch_size",
            "n_iter_no_change", "max_time", "scoring", "random_state", "n_threads", "engine",
            "matmul_precision", "verbose",
        )
    },
    "hidden_layer_sizes": (name_rule("auto"), *SHARED_PARAMETERS["hidden_layer_sizes"]),
    "dropout": (name_rule("auto"), *SHARED_PARAMETERS["dropout"]),
    "max_iter": (name_rule("auto"), _COUNT),
}  # fmt: skip
TABULAR_CLASSIFIER_PARAMETERS = {
    **TABULAR_PARAMETERS,
    "loss": CLASSIFIER_PARAMETERS["loss"],
    "class_weight": CLASSIFIER_PARAMETERS["class_weight"],
}
TABULAR_REGRESSOR_PARAMETERS = {**TABULAR_PARAMETERS, "loss": REGRESSOR_PARAMETERS["loss"]}
