"""Every feature with every other: a pair trains alike on all engines and threads, or is refused.

What each feature computes is tested in its own file; here only that two do not get into each
other's way.
"""

import warnings

import numpy as np
import pytest
import scipy.sparse
from covering import naming
from engines import ENGINES
from problems import draw_regression
from sklearn.callback import ScoringMonitor
from sklearn.exceptions import ConvergenceWarning

from fastbp import BackpropClassifier, BackpropRegressor
from fastbp.estimators.parameters import CONFLICTS
from fastbp.losses import Focal, Huber
from fastbp.optimizers import RMSprop
from fastbp.schedules import Cosine, Plateau

# Constructor parameters of each feature; what some of them need of data and `fit` is in `run`.
FEATURES = {
    "sample weights": {},
    "sparse X": {},
    "several outputs": {},
    "callbacks": {},
    "partial_fit": {},
    "validation data": {},
    "early stopping": {"early_stopping": True},
    "scoring": {"early_stopping": True, "scoring": "loss"},
    "class weights": {"class_weight": {0: 1.0, 1: 2.5}},
    "scaled targets": {"scale_targets": True},
    "time limit": {"max_time": 600.0},
    "one activation per layer": {"activation": ["gelu", "leaky_relu"]},
    "own activation": {"activation": lambda z: z / (1.0 + abs(z))},
    "init": {"init": "he"},
    "loss object": {"loss": None},
    "link": {"loss": "poisson"},
    "momentum": {"solver": "sgd"},
    "adamw": {"solver": "adamw"},
    "lion": {"solver": "lion"},
    "rmsprop": {"solver": RMSprop(momentum=0.5)},
    "lbfgs": {"solver": "lbfgs"},
    "cosine": {"learning_rate": Cosine(warmup=0.2)},
    "plateau": {"learning_rate": Plateau(patience=1)},
    "own schedule": {"learning_rate": lambda step, n_steps: 0.9**step},
    "dropout": {"dropout": [0.2, 0.0]},
    "clipping": {"max_grad_norm": 0.5},
    "averages": {"ema_decay": 0.9},
    "warm start": {"warm_start": True},
    "resume": {"warm_start": "resume"},
}
ONLY = {
    "class weights": BackpropClassifier,
    "scaled targets": BackpropRegressor,
    "link": BackpropRegressor,
}


def settings_of(kind, pair):
    """Constructor parameters of a pair; None if both set the same one."""
    first, second = (dict(FEATURES[name]) for name in pair)
    if first.keys() & second.keys() - {"early_stopping"}:
        return None
    settings = {**first, **second}
    if settings.get("loss", "") is None:
        settings["loss"] = Focal(gamma=1.5) if kind is BackpropClassifier else Huber(delta=0.8)
    if {*pair} == {"class weights", "several outputs"}:
        settings["class_weight"] = [settings["class_weight"], {0: 0.5, 1: 1.0}]
    return settings


def is_refused(pair, settings):
    """Whether the table of conflicts, or scikit-learn's rules for `partial_fit`, say no."""
    if "partial_fit" in pair and {"lbfgs", "early stopping", "scoring"} & {*pair}:
        return True
    return any(
        name in settings and other in settings
        and matters(settings[name]) and also_matters(settings[other])
        for name, matters, other, also_matters, _ in CONFLICTS
    )  # fmt: skip


def draw(kind, pair):
    """Training and validation data of a pair's kind."""
    n_outputs = 2 if "several outputs" in pair else 1
    X, y = draw_regression(60, 5, n_outputs)
    y = y.reshape(60, -1)
    y = (y > 0).astype(int) if kind is BackpropClassifier else np.exp(y)
    y = y if n_outputs > 1 else y.ravel()
    X = scipy.sparse.csr_array(X) if "sparse X" in pair else X
    return X[:40], y[:40], X[40:], y[40:]


def run(kind, pair, settings, **changes):
    """Train twice where that matters (warm starts, `partial_fit`); returns the model."""
    X, y, X_val, y_val = draw(kind, pair)
    model = kind(
        hidden_layer_sizes=(6, 4), batch_size=16, max_iter=4, tol=0.0, random_state=0,
        dtype="float64", **settings, **changes,
    )  # fmt: skip
    if "callbacks" in pair:
        model.set_callbacks(ScoringMonitor(scoring="neg_mean_squared_error"))
    how = {"sample_weight": np.linspace(0.5, 2.0, 40)} if "sample weights" in pair else {}
    if "validation data" in pair:
        how |= {"X_val": X_val, "y_val": y_val}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for _ in range(2):
            if "partial_fit" in pair:
                known = {"classes": [0, 1]} if kind is BackpropClassifier else {}
                model.partial_fit(X, y, **known, **how)
            else:
                model.fit(X, y, **how)
        return model


ESTIMATORS = (BackpropClassifier, BackpropRegressor)


def list_pairs(kind, first):
    """List what stands after a feature and can be set together with it.

    A pair that both estimators know is for one of them, in turns: each feature meets both, and
    what goes wrong with two features in one estimator only is tested where these are.
    """
    names = list(FEATURES)
    at = names.index(first)
    found = []
    for k, second in enumerate(names[at + 1 :], at + 1):
        only = {ONLY[name] for name in (first, second) if name in ONLY}
        kinds = only or {ESTIMATORS[(at + k) % 2]}
        if kinds == {kind} and settings_of(kind, (first, second)) is not None:
            found.append(second)
    return found


CASES = [(kind, first) for kind in ESTIMATORS for first in FEATURES if list_pairs(kind, first)]


@pytest.mark.parametrize(("kind", "first"), CASES)
def test_pairs(kind, first):
    for second in list_pairs(kind, first):
        with naming(first, second):
            check_pair(kind, (first, second))


def check_pair(kind, pair):
    """Train alike on both engines and on three threads, or refuse."""
    settings = settings_of(kind, pair)
    if is_refused(pair, settings):
        with pytest.raises(
            (ValueError, AttributeError), match=r"solver=|scale_targets=|partial_fit"
        ):
            run(kind, pair, settings)
        return
    models = [run(kind, pair, settings, engine=name) for name in ENGINES]
    models.append(run(kind, pair, settings, engine=ENGINES[0], n_threads=3))
    for weights in zip(*(model.coefs_ + model.intercepts_ for model in models), strict=True):
        assert np.isfinite(weights[0]).all()
        np.testing.assert_array_equal(weights[0], weights[-1])
        for others in weights[1:]:
            np.testing.assert_allclose(others, weights[0], rtol=1e-8, atol=1e-10)
    X, y = draw(kind, pair)[:2]
    assert models[0].predict(X).shape == y.shape
    assert np.isfinite(models[0].loss_)
    assert models[0].loss_ == models[-1].loss_
