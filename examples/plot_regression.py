"""
Tabular regression: progress of diabetes
========================================

442 patients, ten measurements each, and how far the disease had progressed a year later, a number
from 25 to 346.  With so few samples a network must be held back to be of use.
"""

# %%
# A pipeline
# ----------
# Both X and y have to be scaled.  A ``StandardScaler`` scales the columns of X, and
# ``scale_targets=True`` scales y inside, so that the learning rate, `tol` and `alpha` mean the same
# for a y of thousands as for one of thousandths.  Predictions are in the units of y.

import matplotlib.pyplot as plt
from sklearn.datasets import load_diabetes
from sklearn.inspection import PartialDependenceDisplay
from sklearn.linear_model import RidgeCV
from sklearn.metrics import PredictionErrorDisplay
from sklearn.model_selection import KFold, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastbp import BackpropRegressor

X, y = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
network = make_pipeline(
    StandardScaler(),
    BackpropRegressor(
        hidden_layer_sizes=(32,),
        activation="tanh",
        alpha=10.0,
        scale_targets=True,
        max_iter=1000,
        tol=1e-3,
        random_state=0,
    ),
)

# %%
# Is it better than a straight line?
# ----------------------------------
# Ten parts, each predicted by a network that has not seen it; next to ridge regression.

folds = KFold(10, shuffle=True, random_state=0)
for name, model in (("ridge", make_pipeline(StandardScaler(), RidgeCV())), ("network", network)):
    scores = cross_val_score(model, X, y, cv=folds)
    print(f"{name:8s} R2 {scores.mean():.3f} (from {scores.min():.3f} to {scores.max():.3f})")

# %%
# Hardly: the disease depends on these ten measurements almost in a straight line.  It is worth
# checking, and a good network does no worse.

predicted = cross_val_predict(network, X, y, cv=folds)
fig, axes = plt.subplots(1, 2, figsize=(8, 3.8), layout="constrained")
for ax, kind in zip(axes, ("actual_vs_predicted", "residual_vs_predicted"), strict=True):
    PredictionErrorDisplay(y_true=y, y_pred=predicted).plot(
        kind=kind, ax=ax, scatter_kwargs={"s": 8, "alpha": 0.5}
    )

# %%
# What it learned
# ---------------
# How the prediction changes with one measurement while all others stay the same: nearly straight
# lines here, too.  `bp` is the blood pressure, `s5` the logarithm of the triglycerides.

network.fit(X, y)
fig, ax = plt.subplots(1, 3, figsize=(9, 3.2), layout="constrained", sharey=True)
PartialDependenceDisplay.from_estimator(network, X, ["bmi", "bp", "s5"], ax=ax)
plt.show()
