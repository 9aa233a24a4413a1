"""``python -m fastbp``: the main job on real data, next to scikit-learn, shown to a person.

With ``--table``: what fastbp learns from a raw table of the user's.  Here are the command line and
the header; what is shown lives in `fastbp.demonstration`.
"""

import argparse
import sys
import time
import warnings
from pathlib import Path
from zipfile import BadZipFile

from sklearn.exceptions import ConvergenceWarning

from fastbp.demonstration import table_file, table_report
from fastbp.demonstration.side_by_side import builtin_jobs, load_job, run_jobs
from fastbp.versions import collect_versions


def print_header():
    """Say what runs here; return whether there is an engine at all."""
    facts = collect_versions()
    print(f"fastbp {facts['fastbp']}: backpropagation on CPU cores, next to scikit-learn\n")
    if "instruction set" in facts:
        print(f"  engine    {facts['engine']}, {facts['instruction set']}", end="")
        print(f", up to {facts['threads available']} threads")
    print(f"  package   {facts['package path']}")
    names = ("Python", "numpy", "scipy", "scikit-learn", "numba")
    print("  versions  " + ", ".join(f"{name} {facts[name]}" for name in names))
    if "instruction set" not in facts:
        print(f"\nThere is no engine to train with: {facts['engine'].removeprefix('none: ')}")
    return "instruction set" in facts


def make_parser():
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m fastbp", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--data",
        metavar="PATH.npz",
        help="a file with X_train, y_train, X_test, y_test instead of scikit-learn's data",
    )
    table = parser.add_argument_group("a raw table of yours")
    table.add_argument(
        "--table",
        metavar="PATH",
        help="a CSV or Parquet file: what its columns are taken for, how well its target can be "
        "predicted, by trees and a plain network too, and which columns matter",
    )
    table.add_argument("--target", metavar="NAME", help="the column that is to be predicted")
    table.add_argument(
        "--task",
        choices=("classification", "regression"),
        help="by default text, booleans and few whole numbers are classes",
    )
    table.add_argument(
        "--save",
        metavar="PATH",
        help="fit on all rows and save the model there, for fastbp.load",
    )
    return parser


def check_options(parser, options):
    """Refuse options that do not go together, before any work."""
    if options.table is None:
        for name in ("target", "task", "save"):
            if getattr(options, name) is not None:
                parser.error(f"--{name} goes with --table PATH")
        return
    if options.data is not None:
        parser.error("--data and --table are two different things: give one of them")
    if options.target is None:
        parser.error("--table needs --target NAME: the column that is to be predicted")
    if options.save is not None and not Path(options.save).absolute().parent.is_dir():
        parser.error(f"--save {options.save}: there is no folder {Path(options.save).parent}")


def show_table(parser, options):
    """Report on the user's table; return 0."""
    try:
        table = table_file.load_table(options.table, options.target, options.task)
    except (ImportError, OSError, TypeError, ValueError) as error:
        parser.error(str(error))
    table_report.show(table, options.save)
    return 0


def show_side_by_side(parser, options):
    """Run the jobs next to scikit-learn; return 0 if every promise was met, else 1."""
    print("  seconds   a whole fit, scaling included; the median of rounds in which all take turns")
    try:
        jobs = [load_job(options.data)] if options.data else builtin_jobs()
    except (OSError, EOFError, KeyError, ValueError, BadZipFile) as error:
        parser.error(f"cannot read {options.data}: {error}")
    checks = run_jobs(jobs)
    if not options.data:
        table_report.show_made_up_table()
    n_met = sum(checks)
    print(f"\n{n_met} of {len(checks)} checks met", end=", ")
    return 0 if n_met == len(checks) else 1


def main(arguments=None):
    """Show what was asked for; return 0, 1 if a promise was not met, 2 without an engine."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    check_options(parser, options)
    start = time.perf_counter()
    if not print_header():
        return 2
    # Side by side all run the same number of epochs, so none of them says it has converged.
    warnings.simplefilter("ignore", ConvergenceWarning)
    code = (show_side_by_side if options.table is None else show_table)(parser, options)
    print(f"{time.perf_counter() - start:.0f} s in all.")
    return code


if __name__ == "__main__":
    sys.exit(main())
