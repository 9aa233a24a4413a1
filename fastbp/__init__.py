"""fastbp: multi-layer perceptrons trained by backpropagation on CPU cores, the scikit-learn way.

This file lists the public names and nothing else.  Importing it loads neither Numba nor matplotlib,
and chooses no engine: that happens at the first fit.  Pictures, the look inside, saving, and what
is for raw tables, load when asked.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from fastbp import losses, optimizers, schedules, streams
from fastbp.activations import Activation
from fastbp.estimators import BackpropClassifier, BackpropRegressor
from fastbp.losses import Loss
from fastbp.training.snapshots import Snapshot
from fastbp.versions import __version__, show_versions

if TYPE_CHECKING:
    from fastbp.saving import load, save
    from fastbp.tabular import TabularClassifier, TabularRegressor

__all__ = [
    "Activation",
    "BackpropClassifier",
    "BackpropRegressor",
    "BackpropSearchCV",
    "GradientFlowDisplay",
    "LearningRateCurve",
    "Loss",
    "LossCurveDisplay",
    "SearchCurvesDisplay",
    "Snapshot",
    "TableEncoder",
    "TabularClassifier",
    "TabularRegressor",
    "WeightsDisplay",
    "__version__",
    "find_learning_rate",
    "inspection",
    "load",
    "losses",
    "optimizers",
    "save",
    "schedules",
    "show_versions",
    "streams",
]

# Names that load on first use, and the module of each.
_ON_DEMAND = {
    "BackpropSearchCV": "fastbp.search",
    "GradientFlowDisplay": "fastbp.inspection.displays",
    "LearningRateCurve": "fastbp.inspection.learning_rate",
    "LossCurveDisplay": "fastbp.inspection.displays",
    "SearchCurvesDisplay": "fastbp.inspection.displays",
    "TableEncoder": "fastbp.tabular.encoder",
    "TabularClassifier": "fastbp.tabular",
    "TabularRegressor": "fastbp.tabular",
    "WeightsDisplay": "fastbp.inspection.displays",
    "find_learning_rate": "fastbp.inspection.learning_rate",
    "inspection": "fastbp.inspection",
    "load": "fastbp.saving",
    "onnx": "fastbp.onnx",
    "optuna": "fastbp.optuna",
    "save": "fastbp.saving",
}


def __getattr__(name):
    if name not in _ON_DEMAND:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(_ON_DEMAND[name])
    return module if module.__name__ == f"{__name__}.{name}" else getattr(module, name)


def __dir__():
    return sorted({*globals(), *__all__})
