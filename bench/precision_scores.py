"""What less precise matrix products do to scores: "highest", "high" and "medium" on real sets.

``python -m bench.precision_scores --data FOLDER --seeds 0 1 2`` needs a folder with sets, as
`bench.quality` reads them.  Plain sets are standardised and fitted by a `BackpropClassifier` or
`BackpropRegressor` of two hidden layers with early stopping, raw tables by a tabular estimator, all
with the same seed in each precision: initial weights, order of rows and rows held out are the same.
Of each precision the table has the score on the test part (accuracy, R2) and its loss (log loss,
RMSE), the mean over seeds; below it the differences to "highest": the mean over all sets and seeds,
of losses relative, each with its standard error.

``--path emulation`` (or avx512_bf16, amx) forces the way in which products are made; without it the
machine's own is used, and where there is none all columns are the same.  Sets whose fits did not
use the precision asked for are marked.
"""

import argparse
import warnings
from pathlib import Path

import numpy as np

from bench.quality import find_sets, make_tabular, read_set
from fastbp import BackpropClassifier, BackpropRegressor
from fastbp.engine import get_engine
from fastbp.engine.precision import PATHS, PRECISIONS
from fastbp.versions import collect_versions

HIDDEN = (128, 128)


def read_any(folder, name, seed, most_rows):
    """Return a set as `read_set` does; images are flattened and between 0 and 1."""
    X, y, X_test, y_test, has_classes = read_set(folder, name, seed, most_rows)
    if getattr(X, "dtype", None) == np.uint8:
        X, X_test = (part.reshape(len(part), -1).astype(np.float32) / 255 for part in (X, X_test))
    return X, y, X_test, y_test, has_classes


def find_images(folder):
    """Names of the sets of images in a folder, which `find_sets` leaves out."""
    names = sorted(path.stem for path in folder.glob("*.npz"))
    return [name for name in names if name not in find_sets(folder)]


def fit_one(X, y, has_classes, precision, seed, max_iter):
    """Fit the usual estimator for such data."""
    if hasattr(X, "iloc"):
        return make_tabular(has_classes, seed, matmul_precision=precision).fit(X, y)
    common = dict(
        hidden_layer_sizes=HIDDEN, matmul_precision=precision, early_stopping=True,
        max_iter=max_iter, random_state=seed, n_threads=1,
    )  # fmt: skip
    if has_classes:
        return BackpropClassifier(**common).fit(X, y)
    return BackpropRegressor(**common, scale_targets=True).fit(X, y)


def standardise(X, X_test):
    """Bring columns of numbers to mean 0 and spread 1; tables stay as they are."""
    if hasattr(X, "iloc"):
        return X, X_test
    mean, spread = X.mean(axis=0, dtype=np.float64), X.std(axis=0, dtype=np.float64)
    spread[spread == 0] = 1
    return tuple(((part - mean) / spread).astype(np.float32) for part in (X, X_test))


def score(estimator, X, y, has_classes):
    """Score and loss on the test part: accuracy and log loss, or R2 and RMSE."""
    if not has_classes:
        error = float(np.mean((estimator.predict(X).astype(float).ravel() - y) ** 2))
        return 1 - error / float(np.var(y)), error**0.5
    codes = np.searchsorted(estimator.classes_, y)
    probabilities = estimator.predict_proba(X).astype(float)
    true = np.clip(probabilities[np.arange(len(codes)), codes], 1e-15, 1)
    return float((probabilities.argmax(axis=1) == codes).mean()), float(-np.log(true).mean())


def measure(folder, name, seeds, most_rows, max_iter):
    """Measure a set.

    Returns
    -------
    scores : ndarray of shape (n_precisions, n_seeds, 2)
    used : list of set of str
        What the fits of each precision used.
    """
    found, used = np.empty((len(PRECISIONS), len(seeds), 2)), [set() for _ in PRECISIONS]
    for s, seed in enumerate(seeds):
        X, y, X_test, y_test, has_classes = read_any(folder, name, seed, most_rows)
        X, X_test = standardise(X, X_test)
        for p, precision in enumerate(PRECISIONS):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                estimator = fit_one(X, y, has_classes, precision, seed, max_iter)
            used[p].add(estimator.matmul_precision_)
            found[p, s] = score(estimator, X_test, y_test, has_classes)
    return found, used


def rows_of(results, used):
    """Lines of the table of sets, in markdown."""
    lines = [
        "| set | " + " | ".join(f"{name}: score, loss" for name in PRECISIONS) + " |",
        "|---" * (len(PRECISIONS) + 1) + "|",
    ]
    for name, found in results.items():
        means = found.mean(axis=1)
        cells = [
            f"{means[p, 0]:.4f}, {means[p, 1]:.4g}" + "*" * (used[name][p] != {precision})
            for p, precision in enumerate(PRECISIONS)
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return [*lines, "", "\\* some or all fits used a more precise one: the sizes, or the machine."]


def differences_of(results):
    """Lines of the differences to "highest", over all sets and seeds."""
    lines = ["| | score, difference | loss, relative, % |", "|---|---|---|"]
    for p, precision in enumerate(PRECISIONS[1:], 1):
        gained = np.concatenate([found[p, :, 0] - found[0, :, 0] for found in results.values()])
        lost = np.concatenate(
            [100 * (found[p, :, 1] / found[0, :, 1] - 1) for found in results.values()]
        )
        lines.append(f"| {precision} | {with_error(gained, 5)} | {with_error(lost, 3)} |")
    return lines


def with_error(values, digits):
    """Mean of some values and its standard error, as text."""
    error = values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.nan
    return f"{values.mean():+.{digits}f} ± {error:.{digits}f}"


def describe(arguments, path):
    """Lines on how and where it was measured."""
    versions = collect_versions()
    told = f"{versions['fastbp']}, {versions['instruction set']}, matmul path {path}"
    return [
        "# Scores with less precise products", "",
        f"At most {arguments.rows} rows to train on, two hidden layers of {HIDDEN[0]} and "
        f"{HIDDEN[1]} units (raw tables: the tabular estimators' defaults); fastbp {told}.",
        "", f"Means over {len(arguments.seeds)} seeds; score: accuracy or R2, loss: log loss or "
        "RMSE.", "",
    ]  # fmt: skip


def main():
    """Read the arguments, measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m bench.precision_scores", description=__doc__)
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder of the sets")
    add("--sets", nargs="+", default=None)
    add("--seeds", nargs="+", type=int, default=[0, 1, 2])
    add("--rows", type=int, default=8000, help="most rows to train on")
    add("--max-iter", type=int, default=200, help="most epochs of plain networks")
    add("--path", choices=PATHS, default=None, help="how products are made")
    add("--output", type=Path, default=Path("bench/results/precision_scores"))
    arguments = parser.parse_args()
    if arguments.path:
        get_engine().set_matmul_path(arguments.path)
    path, results, used = get_engine().get_matmul_path(), {}, {}
    for name in arguments.sets or [*find_images(arguments.data), *find_sets(arguments.data)]:
        results[name], used[name] = measure(
            arguments.data, name, arguments.seeds, arguments.rows, arguments.max_iter
        )
        print(rows_of({name: results[name]}, used)[2], flush=True)
    lines = [*describe(arguments, path), *rows_of(results, used), "", *differences_of(results)]
    print("\n".join(lines))
    arguments.output.with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
