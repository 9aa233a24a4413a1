"""
Image classification: handwritten digits
========================================

The digits of scikit-learn are 1797 pictures of 8 x 8 pixels.  A network with one hidden layer of
100 units reads them.

The same script does Fashion-MNIST (70 000 pictures of 28 x 28 pixels) if the environment
variable ``FASTBP_FASHION_MNIST`` names an ``.npz`` file with the arrays ``X_train``,
``y_train``, ``X_test`` and ``y_test``.
"""

# %%
# The data
# --------
# Pixels become numbers from 0 to 1.  That is all the preparation that they need.

import os

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

path = os.environ.get("FASTBP_FASHION_MNIST")
if path:
    with np.load(path) as file:
        parts = [file[name] for name in ("X_train", "X_test", "y_train", "y_test")]
    X_train, X_test, y_train, y_test = parts
    X_train, X_test = (X.reshape(len(X), -1).astype(np.float32) / 255 for X in (X_train, X_test))
else:
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
side = int(X_train.shape[1] ** 0.5)
print(X_train.shape, X_test.shape)

# %%
# Training
# --------
# A tenth of the training data is set aside.  After each epoch the accuracy on it is measured;
# training stops when it no longer improves, and keeps the weights that were best.

from fastbp import BackpropClassifier

clf = BackpropClassifier(
    hidden_layer_sizes=(100,),
    learning_rate_init=0.01,
    alpha=0.1,
    early_stopping=True,
    n_iter_no_change=20,
    random_state=0,
)
clf.fit(X_train, y_train)
print(f"{clf.n_iter_} epochs, accuracy on the test data {clf.score(X_test, y_test):.3f}")

# %%
# The loss of each epoch, on the training data and on what was set aside; and the accuracy on that.

from fastbp import LossCurveDisplay

LossCurveDisplay.from_estimator(clf, log_scale=True)

# %%
# What it got wrong
# -----------------
# The pictures whose true class got the lowest probability.

probabilities = clf.predict_proba(X_test)
of_truth = probabilities[np.arange(len(y_test)), np.searchsorted(clf.classes_, y_test)]
worst = np.argsort(of_truth)[:10]

fig, axes = plt.subplots(2, 5, figsize=(7, 3.4), layout="constrained")
for ax, i in zip(axes.flat, worst, strict=True):
    ax.imshow(X_test[i].reshape(side, side), cmap="gray_r")
    guess = clf.classes_[probabilities[i].argmax()]
    ax.set_title(f"is {y_test[i]}, read as {guess}", fontsize=9)
    ax.axis("off")

# %%
# What the hidden units look for
# ------------------------------
# Each unit weighs the pixels: red counts for it, blue against it.

order = np.argsort(-np.abs(clf.coefs_[1]).sum(axis=1))[:12]  # the units that matter most
fig, axes = plt.subplots(2, 6, figsize=(7, 2.6), layout="constrained")
for ax, unit in zip(axes.flat, order, strict=True):
    weights = clf.coefs_[0][:, unit].reshape(side, side)
    bound = np.abs(weights).max()
    ax.imshow(weights, cmap="RdBu_r", vmin=-bound, vmax=bound)
    ax.axis("off")
plt.show()
