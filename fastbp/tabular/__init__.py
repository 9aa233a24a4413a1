"""Raw tables: columns of numbers, categories and dates become what a network learns from.

`TableEncoder` encodes; `TabularClassifier` and `TabularRegressor` train ensembles on what it makes.
"""

from fastbp.tabular.classifier import TabularClassifier
from fastbp.tabular.encoder import TableEncoder
from fastbp.tabular.regressor import TabularRegressor

__all__ = ["TableEncoder", "TabularClassifier", "TabularRegressor"]
