"""
How sure is the model: spread, quantiles, and answers that are held back
========================================================================

Three figures about three questions.  Where does the prediction depend on chance?  Between which
values will y lie?  Which answers should a person look at?
"""

# %%
# The spread of the members is not an interval
# --------------------------------------------
# A wave whose noise is weak on the left and strong on the right, with few points between.
# ``return_std=True`` gives the standard deviation of the members of the ensemble.  It is largest
# where there is little to learn from, and does not see the noise: quantiles do.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.model_selection import KFold, cross_val_predict, train_test_split

from fastbp import TabularClassifier, TabularRegressor
from fastbp.losses import Quantile

draw = np.random.default_rng(0)
parts = draw.uniform(0, 3, 300), draw.uniform(3, 5, 8), draw.uniform(5, 8, 300)
x = np.concatenate(parts)
y = np.sin(2 * x) + draw.normal(0, np.where(x > 5, 0.3, 0.05))
X, grid = x[:, None], np.linspace(0, 8, 300)

mean, std = TabularRegressor(random_state=0).fit(X, y).predict(grid[:, None], return_std=True)
nine_in_ten = TabularRegressor(loss=Quantile([0.05, 0.5, 0.95]), random_state=0).fit(X, y)
low, median, high = nine_in_ten.predict(grid[:, None]).T

fig, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
for ax in axes:
    ax.plot(x, y, ".", color="0.6", markersize=3)
    ax.set(xlabel="x")
axes[0].fill_between(grid, mean - 2 * std, mean + 2 * std, alpha=0.4, color="tab:orange")
axes[0].plot(grid, mean, color="tab:orange")
axes[0].set(title="mean, and twice the spread of the members", ylabel="y")
axes[1].fill_between(grid, low, high, alpha=0.3)
axes[1].plot(grid, median)
axes[1].set(title="quantiles of 5, 50 and 95 %")

# %%
# Coverage, measured
# ------------------
# The progress of diabetes.  Every patient is predicted by a model that has not seen the patient,
# and we count how many lie inside.  The spread of the members promises nothing: it covers less
# than half of what a normal distribution of that width would.  The quantiles come near what they
# say.

X, y = load_diabetes(return_X_y=True, scaled=False)
levels = [0.025, 0.05, 0.1, 0.25, 0.75, 0.9, 0.95, 0.975]
folds = KFold(3, shuffle=True, random_state=0)
reg = TabularRegressor(loss=Quantile(levels), random_state=0)
predicted = cross_val_predict(reg, X, y, cv=folds)
promised = [levels[-1 - i] - levels[i] for i in range(4)]
covered = [np.mean((predicted[:, i] <= y) & (y <= predicted[:, -1 - i])) for i in range(4)]

mean, std = np.empty((2, len(y)))
for train, test in folds.split(X):
    model = TabularRegressor(random_state=0).fit(X[train], y[train])
    mean[test], std[test] = model.predict(X[test], return_std=True)
widths = [2.24, 1.645, 1.28, 0.674]  # of a normal distribution, in standard deviations
by_spread = [np.mean(np.abs(y - mean) < width * std) for width in widths]

fig, ax = plt.subplots(figsize=(5, 4.5), layout="constrained")
ax.plot([0, 1], [0, 1], color="0.8")
ax.plot(promised, covered, "o-", label="quantiles")
ax.plot(promised, by_spread, "s-", color="tab:orange", label="spread of the members")
ax.set(xlabel="promised share inside", ylabel="share inside", xlim=(0.4, 1), ylim=(0, 1))
ax.legend()

# %%
# Answers that are held back
# --------------------------
# Benign or malignant?  If the least sure answers go to a person, few errors are left among the
# others.  The probability alone is a good measure of that, and the spread says nearly the same.

X, y = load_breast_cancer(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.5, stratify=y, random_state=0)
clf = TabularClassifier(random_state=0).fit(X_train, y_train)
p, std = clf.predict_proba(X_test, return_std=True)
is_wrong = clf.predict(X_test) != y_test

fig, ax = plt.subplots(figsize=(6, 4), layout="constrained")
shares = np.linspace(0, 0.5, 60)
for label, doubt in (("by the probability", -p.max(axis=1)), ("by the spread", std[:, 1])):
    order = np.argsort(-doubt)
    left = [is_wrong[order[int(share * len(order)) :]].sum() for share in shares]
    ax.step(100 * shares, left, where="post", label=label)
ax.set(xlabel="% of the rows held back", ylabel=f"errors left, of {len(y_test)} rows")
ax.legend()
plt.show()
