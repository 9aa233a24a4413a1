"""
Halving: many candidates, few epochs
====================================

Most candidates of a search are behind after a few epochs.  Successive halving trains all of them a
little, the best third on, and so on; only the last are trained to the end.
"""

# %%
# The search
# ----------
# 27 random draws of learning rate, penalty and size.  A rung is a pause in a fit of 50 epochs, with
# the cosine schedule of all 50: a candidate that is trained to the end has the score of a grid
# search, and no epoch is trained twice.

import warnings

import matplotlib.pyplot as plt
from scipy.stats import loguniform
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastbp import BackpropClassifier, BackpropSearchCV, SearchCurvesDisplay

warnings.simplefilter("ignore", ConvergenceWarning)  # the last candidates use all their epochs
X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
net = BackpropClassifier(max_iter=50, learning_rate="cosine", random_state=0)
params = {
    "backpropclassifier__learning_rate_init": loguniform(1e-5, 1e-1),
    "backpropclassifier__alpha": loguniform(1e-5, 10),
    "backpropclassifier__hidden_layer_sizes": [(16,), (64,), (64, 32)],
}
search = BackpropSearchCV(
    make_pipeline(StandardScaler(), net), params, strategy="halving", n_candidates=27, cv=3,
    random_state=0,
)  # fmt: skip
search.fit(X_train, y_train)
for share, n_candidates in search.rungs_:
    print(f"{n_candidates:2d} candidates for {share * net.max_iter:2.0f} epochs")
for name, value in search.best_params_.items():
    print(f"{name.partition('__')[2]} = {value}")
print(f"accuracy on the test data: {search.score(X_test, y_test):.3f}")

# %%
# What it cost
# ------------
# The loss of each candidate, mean of three folds, for as long as it was trained.  Dashed lines are
# candidates that were given up.

n_epochs = sum(len(folds[0]["loss"]) for folds in search.candidate_curves_)
print(f"{n_epochs} epochs a fold instead of {27 * net.max_iter}")
fig, ax = plt.subplots(figsize=(7, 4), layout="constrained")
SearchCurvesDisplay.from_estimator(search, ax=ax, log_scale=True)
plt.show()
