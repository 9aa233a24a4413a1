"""Searches for the best parameters, without repeated preprocessing, copies and hopeless fits."""

from fastbp.search.search import BackpropSearchCV

__all__ = ["BackpropSearchCV"]
