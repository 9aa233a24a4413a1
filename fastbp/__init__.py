"""fastbp: multi-layer perceptrons trained by backpropagation on CPU cores, the scikit-learn way.

This file lists the public names and nothing else.  Importing it loads neither Numba nor matplotlib,
and chooses no engine: that happens at the first fit.
"""

from fastbp import losses, optimizers, schedules
from fastbp.activations import Activation
from fastbp.estimators import BackpropClassifier, BackpropRegressor
from fastbp.learning_rate import LearningRateCurve, find_learning_rate
from fastbp.losses import Loss
from fastbp.persistence import load, save
from fastbp.versions import __version__, show_versions

__all__ = [
    "Activation",
    "BackpropClassifier",
    "BackpropRegressor",
    "LearningRateCurve",
    "Loss",
    "__version__",
    "find_learning_rate",
    "load",
    "losses",
    "optimizers",
    "save",
    "schedules",
    "show_versions",
]
