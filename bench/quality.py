"""How good the tabular estimators are, and what each ingredient of their recipe brings.

``python -m bench.quality --data FOLDER`` needs a folder with sets: ``NAME.npz`` files (X_train,
y_train, X_test, y_test) and ``tables/NAME.csv.gz`` with a column "target", ``NAME_raw``.

``--ingredients``: within the training parts alone (a fifth of the rows is held out, another for
each seed) every variant of `VARIANTS` beside the defaults.  For each its error (misclassified, or
RMSE) and its loss (log loss, or squared error) relative to the defaults: the geometric mean over
the sets of the mean over seeds, with the standard error over the sets; and CPU time.

``--table``: the contenders on the test parts, which nothing was chosen on: error, log loss and CPU
seconds of the fit on one thread, mean over seeds.  Seed 0 is the stored split, others draw rows
anew.  A contender that is not installed is left out with a printed line.
"""

import argparse
import json
import time
import warnings
from importlib import import_module
from pathlib import Path

import numpy as np
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits

VARIANTS = {
    "one network": {"n_networks": 1},
    "ten networks": {"n_networks": 10},
    "one member each": {"n_members": 1},
    "16 members each": {"n_members": 16},
    "no pieces": {"n_bins": 1},
    "8 pieces": {"n_bins": 8},
    "no dropout": {"dropout": 0.0},
    "dropout 0.3": {"dropout": 0.3},
    "no decay": {"weight_decay": 0.0},
    "decay 0.2": {"weight_decay": 0.2},
    "rate 0.001": {"learning_rate_init": 0.001},
    "rate 0.01": {"learning_rate_init": 0.01},
    "64 units": {"hidden_layer_sizes": (64, 64)},
    "256 units": {"hidden_layer_sizes": (256, 256)},
    "three layers": {"hidden_layer_sizes": (128, 128, 128)},
    "relu": {"activation": "relu"},
    "mish": {"activation": "mish"},
    "not calibrated": {"scoring": "loss"},
    "patience 5": {"n_iter_no_change": 5},
    "patience 20": {"n_iter_no_change": 20},
}


# --------------------------------------------------------------------------------- data


def read_set(folder, name, seed=0, most_rows=None):
    """Return X_train, y_train, X_test, y_test of a set, and whether y has classes."""
    if name.endswith("_raw"):
        return read_table(folder, name, seed, most_rows)
    with np.load(folder / f"{name}.npz") as stored:
        parts = [stored[key] for key in ("X_train", "y_train", "X_test", "y_test")]
    X, y, X_test, y_test = parts
    has_classes = y.dtype.kind in "iu"
    if seed:
        X, X_test, y, y_test = train_test_split(
            np.concatenate([X, X_test]), np.concatenate([y, y_test]), test_size=len(y_test),
            random_state=1000 + seed, stratify=np.concatenate([y, y_test]) if has_classes else None,
        )  # fmt: skip
    return X[:most_rows], y[:most_rows], X_test, y_test, has_classes


def read_table(folder, name, seed, most_rows):
    """Read a raw table: text columns become pandas categories."""
    import pandas as pd

    table = pd.read_csv(folder / "tables" / f"{name}.csv.gz")
    y = table.pop("target").to_numpy()
    for column in table:
        if not pd.api.types.is_numeric_dtype(table[column]):
            table[column] = table[column].astype("category")
    has_classes = len(np.unique(y)) < 50
    rows, test = train_test_split(
        np.arange(len(y)), test_size=0.2, random_state=1000 + seed if seed else 0,
        stratify=y if has_classes else None,
    )  # fmt: skip
    rows = rows[:most_rows]
    return table.iloc[rows], y[rows], table.iloc[test], y[test], has_classes


def find_sets(folder):
    """Names of the sets in a folder, images left out; tables last."""
    matrices = []
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as stored:
            if stored["X_train"].dtype != np.uint8:
                matrices.append(path.stem)
    return matrices + [
        path.name.removesuffix(".csv.gz") for path in sorted((folder / "tables").glob("*_raw*"))
    ]


# --------------------------------------------------------------------------------- scores


def measure(estimator, X, y, X_test, y_test, has_classes):
    """Fit and score: error, loss and CPU seconds of the fit."""
    begun = time.process_time()
    # BLAS and OpenMP threads that wait would be counted, too.
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")
        estimator.fit(X, y)
        cpu = time.process_time() - begun
        if not has_classes:
            errors = np.asarray(estimator.predict(X_test), float).ravel() - y_test
            mean = float(np.mean(errors**2))
            return {"error": mean**0.5, "loss": mean, "cpu": cpu}
        probabilities = np.asarray(estimator.predict_proba(X_test), float)
    codes = np.searchsorted(estimator.classes_, y_test)
    true = np.clip(probabilities[np.arange(len(codes)), codes], 1e-15, 1)
    wrong = probabilities.argmax(axis=1) != codes
    return {"error": float(wrong.mean()), "loss": float(-np.log(true).mean()), "cpu": cpu}


def make_tabular(has_classes, seed, **parameters):
    """Make a tabular estimator on one thread."""
    from fastbp import TabularClassifier, TabularRegressor

    kind = TabularClassifier if has_classes else TabularRegressor
    return kind(random_state=seed, n_threads=1, **parameters)


# --------------------------------------------------------------------------------- ingredients


def compare_ingredients(folder, names, seeds, most_rows, variants, results):
    """Fill `results`: {variant: {set: [scores, one for each seed]}}."""
    for name in names:
        X, y, _, _, has_classes = read_set(folder, name, 0, most_rows)
        for seed in seeds:
            rows, held_out = train_test_split(
                np.arange(len(y)), test_size=0.2, random_state=seed,
                stratify=y if has_classes else None,
            )  # fmt: skip
            take = X.iloc.__getitem__ if hasattr(X, "iloc") else X.__getitem__
            data = take(rows), y[rows], take(held_out), y[held_out], has_classes
            for variant, parameters in {"defaults": {}, **variants}.items():
                scores = measure(make_tabular(has_classes, seed, **parameters), *data)
                results.setdefault(variant, {}).setdefault(name, []).append(scores)
        print(name, "done", flush=True)


def summarise_ingredients(results):
    """Lines of the table of ingredients, in markdown."""
    lines = [
        "| variant | error, relative | better on | loss, relative | CPU time, relative |",
        "|---|---|---|---|---|",
    ]
    base = results["defaults"]
    for variant, found in results.items():
        if variant == "defaults":
            continue
        cells = []
        for key in ("error", "loss", "cpu"):
            logs = np.array([
                np.log(np.mean([s[key] for s in found[name]]) + 1e-12)
                - np.log(np.mean([s[key] for s in base[name]]) + 1e-12)
                for name in found
            ])  # fmt: skip
            spread = logs.std(ddof=1) / len(logs) ** 0.5 if len(logs) > 1 else float("nan")
            cells.append((np.exp(logs.mean()), spread, int((logs < 0).sum()), len(logs)))
        error, loss, cpu = cells
        lines.append(
            f"| {variant} | {error[0]:.3f} ± {error[1]:.3f} | {error[2]} of {error[3]} | "
            f"{loss[0]:.3f} ± {loss[1]:.3f} | {cpu[0]:.2f} |"
        )
    return lines


# --------------------------------------------------------------------------------- contenders


def _encoded(estimator):
    """Put what a raw table needs before an estimator of numbers: imputed, scaled, one-hot."""
    from sklearn.compose import make_column_selector, make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    return make_pipeline(
        make_column_transformer(
            (numbers, make_column_selector(dtype_include="number")),
            (OneHotEncoder(handle_unknown="ignore", sparse_output=False, min_frequency=5),
             make_column_selector(dtype_include="category")),
        ),
        estimator,
    )  # fmt: skip


def _network(module, prefix, has_classes, seed):
    """Make an early-stopped MLP of scikit-learn's or of fastbp's, for scaled columns."""
    kind = getattr(import_module(module), prefix + ("Classifier" if has_classes else "Regressor"))
    network = kind(early_stopping=True, max_iter=200, random_state=seed)
    if module == "fastbp":
        network.set_params(n_threads=1)
    if has_classes:
        return network
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.preprocessing import StandardScaler

    return TransformedTargetRegressor(network, transformer=StandardScaler())


def _lightgbm(has_classes, seed):
    module = import_module("lightgbm")
    kind = module.LGBMClassifier if has_classes else module.LGBMRegressor
    return kind(random_state=seed, n_jobs=1, verbose=-1)


def _catboost(has_classes, seed, categories):
    module = import_module("catboost")
    kind = module.CatBoostClassifier if has_classes else module.CatBoostRegressor
    return kind(
        random_seed=seed, thread_count=1, verbose=False, allow_writing_files=False,
        cat_features=categories,
    )  # fmt: skip


def make_contender(name, X, has_classes, seed):
    """Make a contender, with X as it wants it."""
    frame = hasattr(X, "columns")
    categories = [c for c in X if str(X[c].dtype) == "category"] if frame else []
    if name == "TabularX":
        return make_tabular(has_classes, seed), X
    if name in ("scikit-learn's MLP", "fastbp's MLP"):
        parts = ("fastbp", "Backprop") if name[0] == "f" else ("sklearn.neural_network", "MLP")
        network = _network(*parts, has_classes, seed)
        if frame:
            return _encoded(network), X
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        return make_pipeline(StandardScaler(), network), X
    if name == "HistGradientBoosting":
        ensemble = import_module("sklearn.ensemble")
        kind = getattr(ensemble, name + ("Classifier" if has_classes else "Regressor"))
        return kind(random_state=seed), X
    if name == "LightGBM":
        return _lightgbm(has_classes, seed), X
    if categories:  # CatBoost wants text, not NaN, in categories
        X = X.copy()
        for column in categories:
            X[column] = X[column].astype(object).where(X[column].notna(), "missing").astype(str)
    return _catboost(has_classes, seed, categories), X


CONTENDERS = (
    "scikit-learn's MLP", "fastbp's MLP", "TabularX", "HistGradientBoosting", "LightGBM",
    "CatBoost",
)  # fmt: skip


def compare_contenders(folder, names, seeds, most_rows, contenders, results):
    """Fill `results`: {contender: {set: [scores, one for each seed]}}."""
    for name in names:
        for seed in seeds:
            data = read_set(folder, name, seed, most_rows)
            for contender in contenders:
                try:
                    estimator, X = make_contender(contender, data[0], data[4], seed)
                    _, X_test = make_contender(contender, data[2], data[4], seed)
                except ImportError as error:
                    print(f"{contender} is left out: {error}", flush=True)
                    continue
                scores = measure(estimator, X, data[1], X_test, data[3], data[4])
                results.setdefault(contender, {}).setdefault(name, []).append(scores)
        print(name, "done", flush=True)


def summarise_contenders(results):
    """Lines of the table of contenders, in markdown; the best of a row in bold."""
    any_of_them = next(iter(results.values()))
    names, lines = list(any_of_them), []
    for key, title in (("error", "error or RMSE"), ("loss", "log loss"), ("cpu", "CPU s")):
        lines += [
            "",
            f"| {title} | " + " | ".join(results) + " |",
            "|---" * (len(results) + 1) + "|",
        ]
        for name in names:
            values = [np.mean([s[key] for s in found[name]]) for found in results.values()]
            if key == "loss" and np.allclose(
                [s["loss"] for s in any_of_them[name]],
                [s["error"] ** 2 for s in any_of_them[name]],
            ):
                continue  # of a regression: the error says it
            best = min(values)
            cells = [f"**{v:.4g}**" if v == best and key != "cpu" else f"{v:.4g}" for v in values]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


# --------------------------------------------------------------------------------- the command


def main():
    """Read the arguments, measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m bench.quality", description=__doc__)
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder of the sets")
    add("--ingredients", action="store_true", help="variants of the recipe")
    add("--table", action="store_true", help="contenders on the test parts")
    add("--sets", nargs="+", default=None)
    add("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    add("--contenders", nargs="+", default=list(CONTENDERS), choices=list(CONTENDERS))
    add("--seeds", nargs="+", type=int, default=[0, 1, 2])
    add("--rows", type=int, default=8000, help="most rows to train on")
    add("--output", type=Path, default=None, help="file name without ending")
    arguments = parser.parse_args()
    names = arguments.sets or find_sets(arguments.data)
    results, where = {}, (arguments.data, names, arguments.seeds, arguments.rows)
    if arguments.ingredients:
        variants = {name: VARIANTS[name] for name in arguments.variants}
        compare_ingredients(*where, variants, results)
        lines = summarise_ingredients(results)
    else:
        compare_contenders(*where, arguments.contenders, results)
        lines = summarise_contenders(results)
    print("\n".join(lines))
    if arguments.output:
        arguments.output.with_suffix(".md").write_text("\n".join(lines) + "\n")
        arguments.output.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
