"""Print which lines of the native engine ran, after a build with FASTBP_COVERAGE=1 and a test run.

    python .ci/native_lines.py BUILD_FOLDER

asks gcov about every object file below the folder.  A line of a header is compiled once for each
instruction set and dtype; it counts as run if any of these copies ran.  Lines of the .pyx and .pxi
files are known through the line numbers that Cython writes into its C code.
"""

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

NATIVE = "fastbp/engine/native/"


def count_lines(build):
    """Return {file: {line: times that it ran}} of the native engine's files."""
    counts = defaultdict(lambda: defaultdict(int))
    for notes in sorted(Path(build).rglob("*.gcno")):
        done = subprocess.run(
            ["gcov", "--json-format", "--stdout", str(notes.with_suffix(".o"))],
            capture_output=True,
            check=True,
        )
        for file in json.loads(done.stdout)["files"]:
            name = file["file"]
            if NATIVE in name and not name.endswith("/engine.c"):
                for line in file["lines"]:
                    counts[name[name.index(NATIVE) :]][line["line_number"]] += line["count"]
    return counts


def is_code(text):
    """Whether a line of a .pyx, .pxd or .pxi file is more than what Cython numbers on the way."""
    return bool(text) and not text.startswith(("#", "cimport ", "from ", "include ", '"""'))


def spell(lines):
    """Write line numbers as ranges: 3-5, 9."""
    ranges = []
    for line in lines:
        if ranges and line == ranges[-1][1] + 1:
            ranges[-1][1] = line
        else:
            ranges.append([line, line])
    return ", ".join(f"{a}-{b}" if b > a else f"{a}" for a, b in ranges)


def main(build):
    """Print a table of files, and the lines that never ran."""
    counts = count_lines(build)
    if not counts:
        sys.exit(f"no counters below {build}: build with FASTBP_COVERAGE=1 and run the tests first")
    rows = []
    for name in sorted(counts):
        texts = Path(name).read_text(encoding="utf-8").splitlines()
        lines = {
            line: count
            for line, count in sorted(counts[name].items())
            if line <= len(texts) and is_code(texts[line - 1].strip())
        }
        missing = [line for line, count in lines.items() if not count]
        rows.append((name.removeprefix(NATIVE), len(lines), missing))
    rows.append(("TOTAL", sum(row[1] for row in rows), [i for row in rows for i in row[2]]))
    print(f"{'native lines':<26}{'lines':>7}{'missed':>8}{'run':>7}  which never ran")
    for name, n_lines, missing in rows:
        where = "" if name == "TOTAL" else spell(missing)
        share = 1 - len(missing) / n_lines if n_lines else 1
        print(f"{name:<26}{n_lines:>7}{len(missing):>8}{share:>7.1%}  {where}")


if __name__ == "__main__":
    main(*sys.argv[1:])
