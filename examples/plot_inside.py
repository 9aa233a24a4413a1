"""
Inside: a network that learns badly, and why
============================================

Eight layers of logistic units are a classic way to fail.  This example looks at such a network
with the tools of :mod:`fastbp.inspection` and the displays, and repairs it.
"""

# %%
# A network that fails
# --------------------

import warnings

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from fastbp import BackpropClassifier, GradientFlowDisplay, LossCurveDisplay
from fastbp.inspection import check_gradients, diagnose

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, stratify=y, random_state=0)
warnings.simplefilter("ignore", ConvergenceWarning)  # it is about to fail, on purpose
deep = BackpropClassifier((32,) * 8, "logistic", max_iter=40, random_state=0)
deep.fit(X_train, y_train)
print(f"accuracy {deep.score(X_test, y_test):.3f}")

# %%
# The diagnosis
# -------------

print(diagnose(deep, X_train, y_train))

# %%
# The gradient from layer to layer: on its way back it shrinks by orders of magnitude.

GradientFlowDisplay.from_estimator(deep, X_train[:300], y_train[:300])

# %%
# It is small, but it is right: the engine's gradient against differences of the loss.

print(check_gradients(deep, X_train[:100], y_train[:100]))

# %%
# The fix
# -------
# Two layers of rectified units, and the same number of epochs.

fixed = BackpropClassifier((32, 32), "relu", learning_rate_init=0.01, max_iter=40, random_state=0)
fixed.fit(X_train, y_train)
print(f"accuracy {fixed.score(X_test, y_test):.3f}")

fig, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
LossCurveDisplay.from_estimator(fixed, ax=ax, log_scale=True)
plt.show()
