"""The estimators: what a user constructs, fits and asks for predictions; no arithmetic."""

from fastbp.estimators.base import BackpropClassifier, BackpropRegressor

__all__ = ["BackpropClassifier", "BackpropRegressor"]
