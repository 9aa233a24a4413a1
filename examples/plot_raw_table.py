"""
A raw table: text, dates and missing values, as they are
========================================================

:class:`fastbp.TabularClassifier` takes a data frame as it comes from the database.  Here is one of
a shop, made on the spot: who buys depends on the age, the income, the city and the season, and of
one visitor in ten the age is not known.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.calibration import CalibrationDisplay
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.inspection import permutation_importance
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from fastbp import TabularClassifier

draw = np.random.default_rng(0)
n = 2000
table = pd.DataFrame(
    {
        "age": draw.integers(18, 80, n).astype(float),
        "income": np.round(np.exp(draw.normal(7.8, 0.5, n))),
        "city": draw.choice(["Lima", "Oslo", "Rome"], n),
        "first visit": pd.Timestamp("2025-01-01") + pd.to_timedelta(draw.integers(0, 365, n), "D"),
        "visitor": [f"v{i:05}" for i in range(n)],
    }
)
season = np.cos(2 * np.pi * table["first visit"].dt.day_of_year / 365)
wish = np.log(table["income"] / 2400) - np.abs(table["age"] - 45) / 15 + season
wish += (table["city"] == "Oslo") * season + draw.normal(0, 0.7, n)
table.loc[draw.random(n) < 0.1, "age"] = np.nan
y = np.where(wish > -0.5, "bought", "left")
table.head()

# %%
# Two lines
# ---------

X_train, X_test, y_train, y_test = train_test_split(table, y, stratify=y, random_state=0)
clf = TabularClassifier(random_state=0).fit(X_train, y_train)
print(f"accuracy {clf.score(X_test, y_test):.3f}")

# %%
# How the columns are read.  The visitor's number is left out; of the date, the parts that vary are
# used.

clf.encoder_.summary()

# %%
# Next to trees
# -------------
# Gradient boosting takes categories and missing values, too, once text has the dtype of
# categories and dates are numbers.


def prepare(frame):
    """Return what the trees can read."""
    frame = frame.drop(columns="visitor").astype({"city": "category"})
    return frame.assign(**{"first visit": frame["first visit"].dt.day_of_year})


trees = HistGradientBoostingClassifier(random_state=0).fit(prepare(X_train), y_train)
ours, theirs = clf.predict_proba(X_test), trees.predict_proba(prepare(X_test))
print(f"log loss: {log_loss(y_test, ours):.3f}, trees {log_loss(y_test, theirs):.3f}")

# %%
# Are the probabilities right?  They are on the diagonal: of the visitors with a probability of 0.3,
# three in ten bought.

fig, ax = plt.subplots(figsize=(5, 4.5), layout="constrained")
for label, p in (("TabularClassifier", ours), ("trees", theirs)):
    CalibrationDisplay.from_predictions(
        y_test, p[:, 0], pos_label="bought", n_bins=8, strategy="quantile", name=label, ax=ax
    )
ax.set(xlabel="probability that was predicted", ylabel="share that bought")

# %%
# Which columns matter
# --------------------
# One column of new rows is shuffled, and the log loss rises by so much.  The visitor's number was
# left out, so shuffling it changes nothing.

found = permutation_importance(
    clf, X_test, y_test, scoring="neg_log_loss", n_repeats=5, random_state=0
)
order = found.importances_mean.argsort()
fig, ax = plt.subplots(figsize=(6, 3), layout="constrained")
ax.barh(table.columns[order], found.importances_mean[order], xerr=found.importances_std[order])
ax.set(xlabel="rise of the log loss")

# %%
# What the networks learned of a column
# -------------------------------------
# All test rows, with the age replaced by one value after the other: the mean probability.

ages = np.arange(18, 80, 4)
shares = [clf.predict_proba(X_test.assign(age=float(age)))[:, 0].mean() for age in ages]
unknown = clf.predict_proba(X_test.assign(age=np.nan))[:, 0].mean()
fig, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
ax.plot(ages, shares, label="age known")
ax.axhline(unknown, color="0.5", linestyle="--", label="age missing")
ax.set(xlabel="age", ylabel="probability to buy")
ax.legend()
plt.show()
