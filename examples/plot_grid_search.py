"""
Grid search: learning rate and penalty
======================================

A network is a scikit-learn estimator: it goes into pipelines and searches as it is.  This example
first asks for a learning rate, then searches around it.
"""

# %%
# A rate to begin with
# --------------------
# :func:`fastbp.find_learning_rate` takes one step with each of a hundred growing rates and looks
# at the loss.  It costs about as much as a few epochs.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastbp import BackpropClassifier, find_learning_rate

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
model = make_pipeline(
    StandardScaler(), BackpropClassifier((64,), max_iter=30, tol=1e-3, random_state=0)
)
curve = find_learning_rate(model, X_train, y_train)
fig, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
curve.plot(ax=ax)

# %%
# The search
# ----------
# 25 candidates on three folds, then the best one again on all training data.  Training releases
# Python's global lock, so the threads of one process can share the work and the data: prefer this
# backend.  A search in processes (``n_jobs=2`` without the ``with`` block) gives
# the same numbers.

import warnings

import joblib
from sklearn.exceptions import ConvergenceWarning

warnings.simplefilter("ignore", ConvergenceWarning)  # thirty epochs are enough to compare
rates = curve.suggestion * np.array([0.1, 0.3, 1.0, 3.0, 10.0])
alphas = [1e-4, 1e-2, 1.0, 10.0, 100.0]
grid = {
    "backpropclassifier__learning_rate_init": rates,
    "backpropclassifier__alpha": alphas,
}
with joblib.parallel_config(backend="threading", n_jobs=2):
    search = GridSearchCV(model, grid, cv=3).fit(X_train, y_train)
print({name.partition("__")[2]: float(value) for name, value in search.best_params_.items()})
print(f"accuracy on the test data: {search.score(X_test, y_test):.3f}")

# %%
# The suggested rate is the middle column.  The score is good in a wide region, so a fine search is
# not needed.

scores = search.cv_results_["mean_test_score"].reshape(len(alphas), len(rates))
fig, ax = plt.subplots(figsize=(6, 4), layout="constrained")
image = ax.imshow(scores, vmin=0.9, cmap="viridis")
for (row, column), score in np.ndenumerate(scores):
    ax.text(column, row, f"{score:.3f}", ha="center", va="center",
            color="w" if score < 0.96 else "k")  # fmt: skip
ax.set(
    xticks=range(len(rates)),
    xticklabels=[f"{rate:.2g}" for rate in rates],
    yticks=range(len(alphas)),
    yticklabels=[f"{alpha:g}" for alpha in alphas],
    xlabel="learning_rate_init",
    ylabel="alpha",
    title="accuracy, mean of three folds",
)
fig.colorbar(image)
plt.show()
