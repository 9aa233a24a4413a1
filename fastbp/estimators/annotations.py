"""Types in the public signatures, by the words of the documentation; nothing is computed here.

What users may pass is checked at run time by `fastbp.data` and `parameters`, with better words
than a type checker has; scikit-learn, scipy and data frame libraries ship no complete annotations.
So frames and sparse matrices are Any, and a type says only what it can say truly.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastbp.activations import Activation
from fastbp.losses import Loss

Features: TypeAlias = Any  # array-like, data frame or sparse matrix (n_samples, n_features)
Targets: TypeAlias = Any  # array-like or series (n_samples,), or (n_samples, n_outputs)
Labels: TypeAlias = Any  # ndarray; sparse matrix where multilabel y was sparse in fit
Weights: TypeAlias = ArrayLike | None
Floats: TypeAlias = NDArray[np.floating[Any]]

LayerSizes: TypeAlias = int | Sequence[int] | NDArray[np.integer[Any]]
OneActivation: TypeAlias = str | Activation | Callable[[Any], Any]
Activations: TypeAlias = OneActivation | Sequence[OneActivation]
LossLike: TypeAlias = str | Loss | Callable[[Any, Any], Any] | Any
Solver: TypeAlias = str | Any
LearningRate: TypeAlias = str | Any
RandomState: TypeAlias = int | np.random.RandomState | None
ClassWeight: TypeAlias = str | dict[Any, float] | Sequence[dict[Any, float]] | None
Scoring: TypeAlias = str | Callable[..., float] | None
