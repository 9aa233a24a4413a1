"""Write models as this commit stores them: `python tests/stored/make.py FOLDER`.

Each folder beside this file is named after the version and the commit that wrote it; the models in
it must load in every later one (`tests/test_persistence.py`).  Run this before a change of what is
stored or where classes live, and never again for the same folder.
"""

import pickle
import sys
import warnings
from pathlib import Path

import numpy as np

import fastbp
from fastbp import BackpropClassifier, BackpropRegressor, losses, optimizers, schedules

SMALL = dict(hidden_layer_sizes=(4,), max_iter=5, random_state=0)


def draw():
    """Return X and numeric y."""
    rng = np.random.RandomState(0)
    X = rng.randn(60, 3)
    return X, X[:, 0] - 0.5 * X[:, 1] ** 2


def list_models():
    """Return fitted models by name, and what each was fitted with."""
    _, y = draw()
    text = np.where(y > 0, "up", "down")
    three = np.digitize(y, [-0.5, 0.5])
    resumed = dict(warm_start="resume", early_stopping=True, ema_decay=0.9, dropout=0.1)
    classifier, regressor = BackpropClassifier, BackpropRegressor
    return {
        "plain": (classifier(**SMALL), text),
        "resumed": (classifier(**SMALL, **resumed, class_weight="balanced"), three),
        "multilabel": (classifier(**SMALL, activation="elu"), np.c_[y > 0, y > 1].astype(int)),
        "objects": (
            classifier(
                **SMALL,
                loss=losses.Focal(1.5),
                solver=optimizers.AdamW(),
                learning_rate=schedules.OneCycle(),
                activation=["gelu", fastbp.activations.ACTIVATIONS["relu"]],
            ).set_params(hidden_layer_sizes=(4, 3)),
            three,
        ),
        "dates": (classifier(**SMALL), np.array(["2020-01-01", "2021-01-01"], "M8[D]")[three // 2]),
        "lbfgs": (regressor(**SMALL, solver="lbfgs", scale_targets=True), 1e4 * y),
        "quantiles": (regressor(**SMALL, loss=losses.Quantile([0.1, 0.9])), y),
        "gamma": (regressor(**SMALL, loss="gamma", dtype="float64"), np.exp(y)),
        "huber": (regressor(**SMALL, loss=losses.Huber(0.7), solver="sgd"), y),
        "unfitted": (classifier(**SMALL, loss="focal"), None),
    }


def write(folder):
    """Write each model as a pickle and as a sealed file, and what it predicts."""
    folder.mkdir()
    X, _ = draw()
    predictions = {}
    for name, (model, y) in list_models().items():
        if y is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model.fit(X, y)
                if name in ("plain", "gamma"):
                    model.partial_fit(X, y)
            predictions[name] = model.predict(X)
        (folder / f"{name}.pickle").write_bytes(pickle.dumps(model, 4))
        fastbp.save(model, folder / f"{name}.safetensors")
    np.savez_compressed(folder / "predictions.npz", **predictions)


if __name__ == "__main__":
    write(Path(__file__).parent / sys.argv[1])
