"""The estimators: what a user constructs, fits and asks for predictions; no arithmetic."""

from fastbp.estimators.classifier import BackpropClassifier
from fastbp.estimators.regressor import BackpropRegressor

__all__ = ["BackpropClassifier", "BackpropRegressor"]
