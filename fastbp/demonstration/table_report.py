"""What can be learned from a raw table: scores next to trees and a plain network, and its columns.

The peers get the table as the encoder reads it: numbers (parts of dates among them) and codes of
categories, NaN where a value is missing.
"""

import time
from dataclasses import dataclass, field

import numpy as np
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.metrics import accuracy_score, log_loss, r2_score, root_mean_squared_error
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits

from fastbp.demonstration.table_file import N_FOLDS
from fastbp.estimators import BackpropClassifier, BackpropRegressor
from fastbp.saving import save
from fastbp.tables import format_table
from fastbp.tabular import TabularClassifier, TabularRegressor
from fastbp.tabular.levels import MISSING

MOST_ROWS = 10_000  # of the comparison, which then takes a minute or two,
MOST_CELLS, FEWEST_ROWS = 6_000_000, 500  # and fewer where the encoding is wide
MOST_SHUFFLED_ROWS, N_SHUFFLES = 1000, 3
MOST_SHOWN = 10  # columns by importance
MOST_LEVELS = 50  # of a category, one-hot; the others share a column
MOST_BINNED = 255  # levels that the trees take for a category


@dataclass
class Contender:
    """One estimator, and what was seen of it in all folds."""

    label: str
    model: object
    takes_raw: bool = False
    scores: list = field(default_factory=list)
    seconds: float = 0.0


# ---- what is compared


def read_for_peers(table):
    """Return numbers and codes side by side, NaN where missing, and how many are numbers."""
    read = table.encoder._read(table.frame.to_native())
    codes = np.where(read.codes == MISSING, np.nan, read.codes)
    numbers = np.where(np.isfinite(read.numbers), read.numbers, np.nan)
    return np.column_stack([numbers, codes]), numbers.shape[1]


def make_contenders(table, X, n_numbers):
    """Return what is compared: the raw table's estimator, trees, and a plain network."""
    kinds = (
        (TabularClassifier, HistGradientBoostingClassifier, BackpropClassifier)
        if table.is_classification
        else (TabularRegressor, HistGradientBoostingRegressor, BackpropRegressor)
    )
    tabular, trees, plain = kinds
    columns = np.arange(X.shape[1])
    counts = [len(np.unique(column)) for column in X.T]
    categories = [j for j in columns[n_numbers:] if counts[j] <= MOST_BINNED]
    steps = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), columns[:n_numbers]),
            (
                "categories",
                OneHotEncoder(
                    max_categories=MOST_LEVELS,
                    handle_unknown="infrequent_if_exist",
                    sparse_output=False,
                ),
                columns[n_numbers:],
            ),
        ]
    )
    more = {} if table.is_classification else {"scale_targets": True}
    network = plain(
        early_stopping=True,
        scoring="loss",
        validation_fraction=0.2,
        n_iter_no_change=30,
        random_state=0,
        **more,
    )
    return [
        Contender(tabular.__name__, tabular(random_state=0), takes_raw=True),
        Contender(trees.__name__, trees(categorical_features=categories, random_state=0)),
        Contender(f"{plain.__name__}, pipeline", make_pipeline(steps, network)),
    ]


def score(table, model, X, y):
    """Accuracy and log loss, or R2 and RMSE."""
    if table.is_classification:
        probabilities = model.predict_proba(X)
        labels = model.classes_[probabilities.argmax(axis=1)]
        return accuracy_score(y, labels), log_loss(y, probabilities, labels=model.classes_)
    predicted = model.predict(X)
    return r2_score(y, predicted), root_mean_squared_error(y, predicted)


def compare(table):
    """Cross-validate; return the contenders, and the rows that the last fold held out."""
    X, n_numbers = read_for_peers(table)
    contenders = make_contenders(table, X, n_numbers)
    rows = choose_rows(table)
    folds = (StratifiedKFold if table.is_classification else KFold)(
        N_FOLDS, shuffle=True, random_state=0
    )
    print(f"  {N_FOLDS} folds ", end="", flush=True)
    with threadpool_limits(best_threads_of_trees(contenders[1], X[rows], table.y[rows]), "openmp"):
        for train, test in folds.split(rows, table.y[rows]):
            train, test = rows[train], rows[test]
            for one in contenders:
                run_fold(table, one, table.rows if one.takes_raw else X.__getitem__, train, test)
                print(".", end="", flush=True)
    print()
    return contenders, test


def run_fold(table, one, data, train, test):
    """Fit a contender on some rows, and score it on others; `data` gives it rows."""
    one.model = clone(one.model)
    start = time.perf_counter()
    one.model.fit(data(train), table.y[train])
    one.seconds += (time.perf_counter() - start) / N_FOLDS
    one.scores.append(score(table, one.model, data(test), table.y[test]))


def best_threads_of_trees(trees, X, y):
    """Return how many threads of OpenMP serve trees best here: 1, or None, which is all.

    All cores are much slower than one for small tables on a busy machine; fastbp uses no OpenMP.
    """
    seconds = {}
    for n_threads in (1, None):
        model = clone(trees.model).set_params(max_iter=5)
        with threadpool_limits(n_threads, "openmp"):
            start = time.perf_counter()
            model.fit(X, y)
            seconds[n_threads] = time.perf_counter() - start
    return min(seconds, key=seconds.get)


def choose_rows(table):
    """Return all rows, or as many as the comparison has time for, drawn at random."""
    n_outputs = sum(column.n_outputs for column in table.encoder.columns_)
    most = min(MOST_ROWS, max(MOST_CELLS // n_outputs, FEWEST_ROWS))
    if len(table) <= most:
        return np.arange(len(table))
    print(f"  {most} of {len(table)} rows, drawn at random, so that this ends in minutes")
    if not table.is_classification:
        return np.sort(np.random.default_rng(0).permutation(len(table))[:most])
    rows, _ = train_test_split(
        np.arange(len(table)), train_size=most, stratify=table.y, random_state=0
    )
    return np.sort(rows)


def find_importances(table, model, rows):
    """How much the loss rises on held-out rows when a column is shuffled: (column, mean, std)."""
    generator = np.random.default_rng(0)
    rows = generator.permutation(rows)[:MOST_SHUFFLED_ROWS]
    frame, y = table.frame[rows], table.y[rows]
    _, loss = score(table, model, frame.to_native(), y)
    found = []
    for column in table.encoder.columns_:
        if not column.n_outputs:
            continue
        rises = []
        for _ in range(N_SHUFFLES):
            order = generator.permutation(len(rows))
            shuffled = frame.with_columns(frame.get_column(column.name)[order])
            rises.append(score(table, model, shuffled.to_native(), y)[1] - loss)
        found.append((column.name, np.mean(rises), np.std(rises)))
    return sorted(found, key=lambda entry: -entry[1])


# ---- what is printed


def indent(text):
    """Move every line of a table to the right."""
    return "\n".join(f"  {line}" for line in str(text).splitlines())


def show(table, path):
    """Report on a table; save a model of all its rows if there is a path."""
    goal = f"{len(np.unique(table.y))} classes" if table.is_classification else "regression"
    print(f"\n{table.name}: {len(table)} rows, {len(table.encoder.columns_)} columns", end=", ")
    print(f"target {table.target!r}: {goal}")
    for note in table.notes:
        print(f"  {note}")
    print("\nWhat the columns are taken for\n")
    print(indent(table.encoder.summary()))
    print("\nScores on rows that were held out, mean and standard deviation of the folds\n")
    contenders, held_out = compare(table)
    print_scores(table, contenders)
    loss = "log loss" if table.is_classification else "RMSE"
    n_rows = min(len(held_out), MOST_SHUFFLED_ROWS)
    print(
        "\nThe most important columns: how much the", loss, "of", contenders[0].label, "on", n_rows
    )
    print("held-out rows rises when the column is shuffled\n")
    found = find_importances(table, contenders[0].model, held_out)
    lines = [(name, f"{mean:.4g}", f"+- {std:.2g}") for name, mean, std in found[:MOST_SHOWN]]
    print(indent(format_table(("column", "rise", ""), lines, "<><")))
    if len(found) > MOST_SHOWN:
        print(f"  and {len(found) - MOST_SHOWN} more")
    print()
    if path is not None:
        save_model(table, contenders[0].model, path)


def print_scores(table, contenders):
    """Print one row per contender."""
    heads = ("accuracy", "log loss") if table.is_classification else ("R2", "RMSE")
    rows = []
    for one in contenders:
        scores = np.array(one.scores)
        shown = [
            f"{mean:.4g} +- {std:.2g}"
            for mean, std in zip(scores.mean(axis=0), scores.std(axis=0), strict=True)
        ]
        rows.append((one.label, *shown, f"{one.seconds:.2f}"))
    print()
    print(indent(format_table(("", *heads, "seconds a fit"), rows, "<>>>")))


def save_model(table, model, path):
    """Fit on all rows, and save."""
    start = time.perf_counter()
    model = clone(model).fit(table.frame.to_native(), table.y)
    save(model, path)
    print(f"{path}: {type(model).__name__} of all {len(table)} rows, trained in", end=" ")
    print(f"{time.perf_counter() - start:.1f} s; fastbp.load reads it\n")


# ---- a table that is made on the spot


def make_table(n_rows, seed=0):
    """Return a table of numbers, text and missing values, and who bought."""
    draw = np.random.default_rng(seed)
    age = draw.integers(18, 80, n_rows).astype(float)
    income = np.round(np.exp(draw.normal(7.8, 0.5, n_rows)))
    city = draw.choice(["Lima", "Oslo", "Rome"], n_rows)
    wish = (age > 35) * 1.5 - (city == "Oslo") + np.log(income / 2400) + draw.normal(0, 0.7, n_rows)
    age[draw.random(n_rows) < 0.1] = np.nan
    X = np.array([age, income, city], object).T
    X[np.isnan(age), 0] = None
    return X, np.where(wish > 0.5, "bought", "left")


def show_made_up_table():
    """Train on a raw table in two lines, in view."""
    X, y = make_table(1500)
    X_train, X_test, y_train, y_test = X[:1000], X[1000:], y[:1000], y[1000:]
    print(
        f"\nA raw table: {len(X_train)} + {len(X_test)} rows of age, income and city, as they are"
    )
    for row in X_train[:3].tolist():
        print(f"  {row}")
    print("\n  clf = TabularClassifier(random_state=0).fit(X_train, y_train)")
    print("  clf.score(X_test, y_test)")
    start = time.perf_counter()
    clf = TabularClassifier(random_state=0).fit(X_train, y_train)
    seconds = time.perf_counter() - start
    print(f"  -> {clf.score(X_test, y_test):.3f} in {seconds:.1f} s\n")
    print(indent(clf.encoder_.summary()))
