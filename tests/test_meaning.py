"""What a function or an object of the user's means: what it reads counts, wherever that stands."""

import collections
import functools
import logging
import pickle
import re
import sys
import threading
import types
import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score, get_scorer, make_scorer

from fastbp import BackpropClassifier, BackpropRegressor
from fastbp.training.meaning import describe, is_library

rng = np.random.RandomState(0)
X = rng.randn(300, 2)
y = X[:, 0] > 0

SOURCES = {
    "a global": "G = {0}\ndef f(t): return G * t",
    "a global of a lambda": "G = {0}\nf = lambda t: G * t",
    "a global within a function": "G = {0}\ndef f(t):\n    return [G * u for u in t]",
    "an array": "import numpy\nG = numpy.array([{0}, 1.0])\ndef f(t): return G @ t",
    "a list": "G = [{0}]\ndef f(t): return G[0] * t",
    "a dict": "G = dict(a=[{0}])\ndef f(t): return G['a'][0] * t",
    "a helper": "def g(t): return {0} * t\ndef f(t): return g(t)",
    "a helper's helper": "G = {0}\ndef h(t): return G * t\ndef g(t): return h(t)\n"
    "def f(t): return g(t)",
    "helpers that call each other": "G = {0}\ndef g(n): return f(n - 1)\n"
    "def f(n): return G if n == 0 else g(n)",
    "a cached helper": "import functools\n@functools.cache\ndef g(t): return {0} * t\n"
    "def f(t): return g(t)",
    "a wrapped function": "import functools\nG = {0}\ndef deco(h):\n    @functools.wraps(h)\n"
    "    def inner(t): return G * h(t)\n    return inner\n@deco\ndef f(t): return t",
    "an attribute of a function": "def f(t): return f.G * t\nf.G = {0}",
    "a keyword": "def f(t, *, G={0}): return G * t",
    "a class": "class C:\n    def __call__(self, t): return {0} * t\nf = C()",
    "a base class": "class B:\n    G = {0}\nclass C(B):\n    def __call__(self, t):\n"
    "        return self.G * t\nf = C()",
    "a property": "class C:\n    @property\n    def G(self): return {0}\n"
    "    def __call__(self, t): return self.G * t\nf = C()",
    "a static method": "class C:\n    @staticmethod\n    def G(): return {0}\n"
    "    def __call__(self, t): return self.G() * t\nf = C()",
    "a list in an object": "class C:\n    def __call__(self, t): return self.G[0] * t\n"
    "f = C()\nf.G = [{0}]",
    "an object in an object": "class D: pass\nclass C:\n    def __call__(self, t):\n"
    "        return self.d.G * t\nf, d = C(), D()\nf.d, d.G = d, {0}",
    "slots": "class C:\n    __slots__ = ('G',)\n    def __call__(self, t): return self.G * t\n"
    "f = C()\nf.G = {0}",
    "a method": "class C:\n    def m(self, t): return self.G[0] * t\nc = C()\nc.G = [{0}]\nf = c.m",
    "a class method": "class C:\n    G = [{0}]\n    @classmethod\n    def m(cls, t):\n"
    "        return cls.G[0] * t\nf = C.m",
    "a partial": "import functools\nG = {0}\ndef g(a, t): return G * t\n"
    "f = functools.partial(g, 1)",
    "a list in a closure": "def make(G):\n    def f(t): return G[0] * t\n    return f\n"
    "f = make([{0}])",
    "a list of functions": "f = [lambda t: t, lambda t: {0} * t]",
    "a subclass of list": "class L(list): pass\nf = L([{0}])",
    "an attribute of a list": "class L(list): pass\nf = L()\nf.G = {0}",
    "a sparse matrix": "import scipy.sparse\nf = scipy.sparse.csr_array([[{0}, 1.0]])",
    "a table": "import pandas\nG = pandas.DataFrame(dict(a=[{0}, 1.0]))\n"
    "def f(t): return G['a'][0]",
    "a date": "import datetime\nf = datetime.timedelta({0})",
    "a pattern": "import re\nf = re.compile('{0}')",
    "a random stream": "import numpy\nf = numpy.random.RandomState(int({0}))",
    "an enumeration": "import enum\nclass E(enum.Enum):\n    A, B = 1, 2\n"
    "f = E.A if {0} == 1 else E.B",
    "a masked array": "import numpy\nf = numpy.ma.array([1, 2], mask=[{0} == 1, 0])",
    "an array of objects": "import numpy\nf = numpy.array([dict(a={0}), None], dtype=object)",
    "a record": "import numpy\nf = numpy.array([(1, {0})], dtype='i4,f8')",
    "a metric": "import sklearn.metrics\nG = {0}\ndef metric(a, b): return G\n"
    "f = sklearn.metrics.make_scorer(metric)",
    "a compiled helper": "import numba\nG = {0}\n@numba.njit\ndef g(t): return G * t\n"
    "def f(t): return g(t)",
    "a vectorised helper": "import numpy\nf = numpy.vectorize(lambda t: {0} * t)",
}  # fmt: skip


def run(source, name="somebody"):
    """Return `f` of a program."""
    found = {"__name__": name}
    exec(compile(source, "<a notebook>", "exec"), found)
    return found["f"]


@pytest.mark.parametrize("name", SOURCES)
def test_all_that_is_read_counts(name):
    if "pandas" in SOURCES[name]:
        pytest.importorskip("pandas")
    sources = [SOURCES[name].replace("{0}", number) for number in ("1.0", "2.0")]
    one, same, other = run(sources[0]), run(sources[0]), run(sources[1])
    assert describe(one) == describe(one) == describe(same)
    assert describe(one) != describe(other)


def test_what_is_not_read_does_not_count():
    """Names of attributes are no globals, nor is what other functions read."""
    source = "score = G = {0}\ndef other(): return G\ndef f(model): return model.score"
    assert describe(run(source.format(1))) == describe(run(source.format(2)))


def test_a_module_of_the_users():
    helpers = types.ModuleType("helpers")
    helpers.inner, helpers.G, helpers.other = types.ModuleType("helpers.inner"), 1.0, 1.0
    helpers.inner.helpers, helpers.inner.H = helpers, 1.0
    f = run("def f(t): return helpers.G * helpers.inner.H * t")
    f.__globals__["helpers"] = helpers
    found = {describe(f)}
    helpers.other = 2.0
    found.add(describe(f))
    assert len(found) == 1
    helpers.G = 2.0
    found.add(describe(f))
    helpers.inner.H = 2.0
    found.add(describe(f))
    assert len(found) == 3


def test_libraries_count_by_their_names():
    """What they hold by themselves changes all the time."""
    f = run("import logging, re\nlog = logging.getLogger('x')\ndef f(t): log.info(re.escape(t))")
    before = describe(f)
    logging.getLogger("x").setLevel(logging.CRITICAL)
    re.escape("abc")
    assert describe(f) == before
    assert describe(get_scorer("roc_auc")) == describe(get_scorer("roc_auc"))
    assert describe(get_scorer("roc_auc")) != describe(get_scorer("accuracy"))
    assert describe(np.log) != describe(np.exp)


def test_a_program_is_no_library(monkeypatch):
    """Though its module is called like one of Python's, or an installed program has started it."""
    assert all(map(is_library, ["math", "sys", "logging", "numpy", "sklearn.metrics", "fastbp"]))
    program = types.ModuleType("calendar")
    program.__file__ = "/home/me/calendar.py"
    monkeypatch.setitem(sys.modules, "calendar", program)
    names = ["calendar", "__main__", "somebody", None, __name__]
    assert not any(map(is_library, names))


def test_what_cannot_be_read_counts_by_its_class():
    class Scorer:
        def __init__(self):
            self.lock, self.steps = threading.Lock(), (i for i in range(3))

    one, other = Scorer(), Scorer()
    assert describe(one) == describe(other)
    other.lock = None
    assert describe(one) != describe(other)


def test_a_copy_means_the_same():
    """By way of a pickle, and with or without parts that are the same object."""
    part = [1.0]
    assert describe([part, part]) == describe([[1.0], [1.0]])
    for value in (
        collections.OrderedDict(a=np.arange(3)), collections.deque([1]), np.random.RandomState(3),
        sparse.csr_array(np.eye(2)), make_scorer(accuracy_score), functools.partial(max, 1),
        np.longdouble(1) / 3, np.datetime64("2020-01-01"),
    ):  # fmt: skip
        assert describe(pickle.loads(pickle.dumps(value))) == describe(value)


def test_what_is_too_much_is_like_nothing_else():
    class Broken:
        @property
        def __dict__(self):
            raise OSError("no")

    deep = []
    for _ in range(500):
        deep = [deep]
    for value in (deep, Broken(), [[] for _ in range(30_000)]):
        assert describe(value) != describe(value)


def test_a_web_of_helpers_is_read_once():
    source = "".join(
        f"def f{i}(n): return " + " + ".join(f"f{j}(n)" for j in range(25)) + "\n"
        for i in range(25)
    )
    assert describe(run(source + "f = f0")) == describe(run(source + "f = f0"))


# --- in a fit -------------------------------------------------------------------------------------

G = 1.0
COLLECTED = []


def weighted(t, s):
    """Loss that reads a global."""
    return G * (t - s) * (t - s)


def score_by_global(model, X, y):
    """Score that reads one, and collects in another."""
    COLLECTED.append(model.coefs_)
    return G * model.score(X, y)


class ByList:
    """Scorer with a list as setting, and one that it collects in."""

    def __init__(self, factors):
        self.factors, self.seen = factors, []

    def __call__(self, model, X, y):
        self.seen.append(model)
        return self.factors[0] * model.score(X, y)


def fit(model, *data, **more):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(*data, **more)


def test_a_global_of_a_loss(monkeypatch):
    """The issue's example: the best loss of the old constant would end the fit at once."""
    model = BackpropRegressor(
        weighted, (8,), max_iter=40, learning_rate_init=0.01, warm_start=True, random_state=0
    )
    fit(model, X, X[:, 0])
    monkeypatch.setattr(sys.modules[__name__], "G", 100.0)
    fit(model, X, X[:, 0])
    assert model.n_iter_ > 20
    assert model.best_loss_ == min(model.loss_curve_)
    assert len(model.loss_curve_) == model.n_iter_


SETTINGS = dict(hidden_layer_sizes=(8,), random_state=0, max_iter=3, early_stopping=True)


@pytest.mark.parametrize("warm_start", [True, "resume"])
def test_a_global_of_a_scorer(warm_start, monkeypatch):
    model = BackpropClassifier(**SETTINGS, scoring=score_by_global, warm_start=warm_start)
    fit(fit(model, X, y), X, y)
    assert len(model.validation_scores_) == 6  # for all that it has collected
    monkeypatch.setattr(sys.modules[__name__], "G", -1.0)
    fit(model, X, y)
    assert model.best_validation_score_ == max(model.validation_scores_[-3:]) < 0


def test_a_scorer_that_is_replaced():
    model = BackpropClassifier(**SETTINGS, scoring=ByList([1.0]), warm_start=True)
    fit(fit(model, X, y), X, y)
    assert len(model.validation_scores_) == 6
    fit(model.set_params(scoring=ByList([-1.0])), X, y)
    assert len(model.validation_scores_) == 3
    assert model.best_validation_score_ < 0


def test_a_scorer_that_is_changed_or_emptied():
    """It may have stood for something."""
    model = BackpropClassifier(**SETTINGS, scoring=ByList([1.0]), warm_start=True)
    fit(model, X, y)
    model.scoring.factors[0] = -1.0
    fit(model, X, y)
    assert model.best_validation_score_ < 0
    model.scoring.seen.clear()
    assert len(fit(model, X, y).validation_scores_) == 3


def test_a_scorer_that_collects_in_partial_fit():
    model = BackpropClassifier((8,), scoring=ByList([1.0]), random_state=0)
    for _ in range(3):
        model.partial_fit(X, y, classes=[False, True], X_val=X, y_val=y)
    assert len(model.validation_scores_) == 3
    model.scoring.factors[:] = [2.0]
    model.partial_fit(X, y, X_val=X, y_val=y)
    assert len(model.validation_scores_) == 1
