"""Searches for the best parameters that waste nothing: preprocessing, copies, hopeless fits."""

from fastbp.search.search import BackpropSearchCV

__all__ = ["BackpropSearchCV"]
