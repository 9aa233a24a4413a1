"""
Text classification: which library is this docstring from?
==========================================================

The docstrings of NumPy, SciPy and scikit-learn lie on every disk that holds fastbp: some thousand
texts with a label.  As TF-IDF they are a sparse matrix, which fastbp takes as it is.
"""

# %%
# The texts
# ---------
# Every public function and class, its signature line and examples left out; and without the
# names of the libraries, or the task would be too easy.

import importlib
import inspect
import pkgutil
import re
import warnings

import numpy as np

LIBRARIES = ("numpy", "scipy", "sklearn")
NAMES = re.compile(r"\b(numpy|np|scipy|sp|sklearn|scikit[- ]learn)\b", re.IGNORECASE)


def find_docstrings(library):
    """Yield the documentation of each public function and class of a library."""
    package = importlib.import_module(library)
    names = [library]
    for found in pkgutil.iter_modules(package.__path__, f"{library}."):
        if not found.name.rpartition(".")[2].startswith(("_", "test", "conftest", "core", "f2py")):
            names.append(found.name)
    for name in names:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                module = importlib.import_module(name)
        except ImportError:  # needs an optional package
            continue
        for public, thing in sorted(vars(module).items()):
            if public.startswith("_"):
                continue
            ours = (getattr(thing, "__module__", None) or "").startswith(library)
            if ours and (inspect.isclass(thing) or callable(thing)):
                text = (inspect.getdoc(thing) or "").partition("Examples\n---")[0]
                if len(text) > 200:
                    yield NAMES.sub(" ", text)


texts, labels = [], []
for library in LIBRARIES:
    found = sorted(set(find_docstrings(library)))
    texts += found
    labels += [library] * len(found)
    print(f"{library:8s} {len(found)} texts")

# %%
# Words to numbers to a network
# -----------------------------
# The matrix has a column for each word that occurs in three texts or more, and is almost all
# zeros. Its products in the first layer touch only what is not zero.

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from fastbp import BackpropClassifier

model = make_pipeline(
    TfidfVectorizer(min_df=3, sublinear_tf=True, dtype=np.float32),
    BackpropClassifier((32,), learning_rate_init=0.01, alpha=1e-3, max_iter=30, tol=1e-3),
)
model.set_params(backpropclassifier__random_state=0)
train_texts, test_texts, train_labels, test_labels = train_test_split(
    texts, labels, stratify=labels, random_state=0
)
model.fit(train_texts, train_labels)
vectorizer, clf = model[0], model[-1]
matrix = vectorizer.transform(train_texts)
print(f"{matrix.shape[0]} texts x {matrix.shape[1]} words, {matrix.nnz / matrix.shape[0]:.0f} each")
print(f"accuracy on texts not seen: {model.score(test_texts, test_labels):.3f}")

# %%
# Which library is taken for which, and which words give it away?  For the second question each
# word alone is put to the network, with the weight that it has in a text of a hundred words.

import matplotlib.pyplot as plt
import scipy.sparse
from sklearn.metrics import ConfusionMatrixDisplay

words = vectorizer.get_feature_names_out()
alone = 0.1 * scipy.sparse.eye_array(len(words), dtype=np.float32, format="csr")
of_word = clf.predict_proba(alone)

fig = plt.figure(figsize=(9, 4), layout="constrained")
left, *right = fig.subplots(1, 4, width_ratios=(2.2, 1, 1, 1))
ConfusionMatrixDisplay.from_estimator(
    model, test_texts, test_labels, ax=left, colorbar=False, cmap="Blues"
)
for column, ax in enumerate(right):
    best = np.argsort(of_word[:, column])[-12:]
    ax.barh(words[best], of_word[best, column])
    ax.set(title=clf.classes_[column], xlim=(0, 1), xlabel="probability")
    ax.tick_params(axis="y", labelsize=8)
plt.show()
