"""`python -m fastbp --table`: what it says of a raw table, and of files it cannot use."""

import sys

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import fastbp
from fastbp.__main__ import main
from fastbp.demonstration import table_file, table_report
from fastbp.demonstration.table_file import load_table

pandas = pytest.importorskip("pandas")


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def one_thread_of_trees():
    """On a busy machine OpenMP's threads wait for each other much longer than they compute."""
    with threadpool_limits(1, user_api="openmp"):
        yield


def make_frame(n=90):
    draw = np.random.default_rng(0)
    X, y = table_report.make_table(n)
    frame = pandas.DataFrame(X, columns=["age", "income", "city"])
    frame = frame.astype({"age": float, "income": float})
    frame["since"] = pandas.to_datetime("2026-01-01") + pandas.to_timedelta(np.arange(n), unit="D")
    frame["sales"] = frame["income"] / 100 + draw.normal(0, 1, n)
    frame["rooms"] = draw.integers(1, 4, n)
    frame["bought"] = y
    frame.loc[:4, "bought"] = None
    return frame


@pytest.fixture
def quick(monkeypatch):
    """Small networks: a test asks whether everything is said, not how well they learn."""
    for name in ("TabularClassifier", "TabularRegressor"):
        kind = getattr(table_report, name)

        def make(kind=kind, **settings):
            return kind(n_networks=1, max_iter=2, hidden_layer_sizes=(8,), **settings)

        make.__name__ = name
        monkeypatch.setattr(table_report, name, make)
    monkeypatch.setattr(table_report, "N_SHUFFLES", 1)


def run_wrong(capsys, *arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    return capsys.readouterr().err


@pytest.mark.usefixtures("quick")
def test_classes_of_a_csv_file(capsys):
    make_frame().to_csv("shop.csv", index=False)
    assert main(["--table", "shop.csv", "--target", "bought", "--save", "model.safetensors"]) == 0
    out = capsys.readouterr().out
    for words in (
        "shop.csv: 85 rows, 6 columns, target 'bought': 2 classes",
        "5 rows without a target are left out",
        "TabularClassifier", "HistGradientBoostingClassifier", "BackpropClassifier, pipeline",
        "accuracy", "log loss", "TabularClassifier of all 85 rows",
    ):  # fmt: skip
        assert words in out
    assert "since   date" in out
    model = fastbp.load("model.safetensors")
    assert set(model.predict(make_frame().drop(columns="bought"))) <= {"bought", "left"}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
@pytest.mark.parametrize("path", ["shop.csv", "shop.parquet"])
def test_numbers_by_every_library(library, path, capsys, monkeypatch):
    pytest.importorskip(library)
    pytest.importorskip("pyarrow")
    if path.endswith("csv"):
        make_frame().to_csv(path, index=False, sep=";")
    else:
        make_frame().to_parquet(path, index=False)
    monkeypatch.setattr(table_file, "READERS", {library: table_file.READERS[library]})
    monkeypatch.setattr(table_report, "MOST_ROWS", 60)
    assert main(["--table", path, "--target", "sales"]) == 0
    out = capsys.readouterr().out
    assert "60 of 90 rows, drawn at random" in out
    assert "since   date" in out
    assert "R2" in out
    assert "rise" in out


def test_the_kind_of_the_target():
    make_frame().to_csv("shop.csv", index=False)
    assert load_table("shop.csv", "rooms").is_classification
    assert load_table("shop.csv", "rooms").y.tolist() == make_frame()["rooms"].tolist()
    assert not load_table("shop.csv", "rooms", "regression").is_classification
    assert not load_table("shop.csv", "sales").is_classification
    frame = make_frame().assign(flag=make_frame()["age"] > 40)
    frame.to_csv("shop.csv", index=False)
    table = load_table("shop.csv", "flag")
    assert table.y.dtype == bool
    assert len(table) == 90


def test_rare_classes_are_left_out():
    frame = make_frame().assign(kind=["a", "b", "b"] + ["c", "d", "e"] * 29)
    frame.to_csv("shop.csv", index=False)
    table = load_table("shop.csv", "kind")
    assert sorted(set(table.y)) == ["c", "d", "e"]
    assert table.notes == ["2 classes with fewer than 3 rows are left out, such as 'a'"]


def test_rows_of_all_classes_are_drawn(monkeypatch):
    make_frame().to_csv("shop.csv", index=False)
    monkeypatch.setattr(table_report, "MOST_ROWS", 40)
    table = load_table("shop.csv", "bought")
    rows = table_report.choose_rows(table)
    assert len(set(rows)) == 40
    assert abs((table.y[rows] == "left").mean() - (table.y == "left").mean()) < 0.05


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--table", "none.csv", "--target", "y"], "there is no file none.csv"),
        (["--table", "shop.csv"], "--table needs --target NAME"),
        (["--target", "y"], "--target goes with --table"),
        (["--data", "a.npz", "--table", "shop.csv", "--target", "y"], "two different things"),
        (["--table", "shop.csv", "--target", "Salse"], "Did you mean 'sales'?"),
        (["--table", "shop.csv", "--target", "profit"], "It has 'age', 'income', 'city', 'since'"),
        (["--table", "shop.csv", "--target", "since"], "values of the kind 'date'"),
        (["--table", "shop.csv", "--target", "city", "--task", "regression"], "text or categories"),
        (["--table", "shop.csv", "--target", "sales", "--task", "classification"], "say --task"),
        (["--table", "shop.csv", "--target", "one"], "one class only"),
        (["--table", "shop.csv", "--target", "half"], "one value only"),
        (["--table", "shop.csv", "--target", "empty"], "no value at all"),
        (["--table", "shop.csv", "--target", "few"], "has 10 rows with a target"),
        (["--table", "shop.csv", "--target", "sales", "--save", "a/b"], "there is no folder a"),
        (["--table", "void.csv", "--target", "y"], "cannot read void.csv"),
        (["--table", "alone.csv", "--target", "sales"], "nothing to learn from"),
    ],
)
def test_what_is_refused(arguments, said, capsys):
    frame = make_frame().assign(one=1, half=0.5, empty=np.nan, few=np.nan)
    frame.loc[:9, "few"] = np.arange(10) % 2
    frame.to_csv("shop.csv", index=False)
    frame[["sales"]].to_csv("alone.csv", index=False)
    open("void.csv", "w").close()
    assert said in run_wrong(capsys, *arguments)


def test_without_a_library_that_reads(capsys, monkeypatch):
    make_frame().to_csv("shop.csv", index=False)
    for name in table_file.READERS:
        monkeypatch.setitem(sys.modules, name, None)
    assert "pip install pandas" in run_wrong(capsys, "--table", "shop.csv", "--target", "sales")


@pytest.mark.usefixtures("quick")
def test_the_made_up_table(capsys):
    table_report.show_made_up_table()
    out = capsys.readouterr().out
    assert "TabularClassifier(random_state=0).fit(X_train, y_train)" in out
    assert "3 levels (Lima, Oslo, Rome)" in out
