"""
Intervals: quantiles of the progress of diabetes
================================================

A single number says nothing about how sure it is.  Trained with the pinball loss
(:class:`fastbp.losses.Quantile`) a network predicts quantiles: here the 5 %, the 50 % and the 95
% one, from one network with three outputs, built so that the quantiles cannot cross.
"""

# %%
# One measurement
# ---------------
# The progress of the disease against the body mass index.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastbp import BackpropRegressor
from fastbp.losses import Quantile

X, y = load_diabetes(return_X_y=True, as_frame=True, scaled=False)


def make_model():
    """Return a pipeline that predicts three quantiles."""
    network = BackpropRegressor(
        loss=Quantile([0.05, 0.5, 0.95]),
        hidden_layer_sizes=(32,),
        activation="tanh",
        alpha=1.0,
        scale_targets=True,
        learning_rate_init=0.003,
        max_iter=500,
        random_state=0,
    )
    return make_pipeline(StandardScaler(), network)


bmi = X[["bmi"]].to_numpy()
model = make_model().fit(bmi, y)
grid = np.linspace(bmi.min(), bmi.max(), 200).reshape(-1, 1)
low, median, high = model.predict(grid).T

fig, ax = plt.subplots(figsize=(7, 4), layout="constrained")
ax.plot(bmi, y, ".", color="0.4", markersize=4)
ax.fill_between(grid[:, 0], low, high, alpha=0.25, label="5 % to 95 %")
ax.plot(grid, median, label="50 %")
ax.set(xlabel="body mass index", ylabel="progress of the disease")
ax.legend(loc="upper left")

# %%
# All measurements, new patients
# ------------------------------
# Do nine in ten of new patients lie between the two?  With so few to learn from, somewhat fewer
# do: quantiles are learned like anything else, and are surest where there are many samples.

X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.4, random_state=0)
model = make_model().fit(X_train, y_train)
low, median, high = model.predict(X_test).T
inside = (low <= y_test) & (y_test <= high)
print(f"{100 * inside.mean():.0f} % of {len(y_test)} new patients lie inside")
print(f"D2 of the pinball loss: {model.score(X_test, y_test):.3f}")

# %%
# The patients in the order of their predicted median.

order = np.argsort(median)
fig, ax = plt.subplots(figsize=(8, 4), layout="constrained")
ax.fill_between(np.arange(len(order)), low[order], high[order], alpha=0.25, label="5 % to 95 %")
ax.plot(median[order], label="50 %")
ax.scatter(
    np.arange(len(order)),
    y_test.iloc[order],
    s=10,
    c=np.where(inside.iloc[order], "0.4", "tab:red"),
    label="true",
)
ax.set(xlabel="patients", ylabel="progress of the disease")
ax.legend(loc="upper left")
plt.show()
