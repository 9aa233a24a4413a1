"""Text and tables for people: how reports look on a terminal and in a notebook.

Only layout lives here: what a report says is the business of the file that writes it.
"""

from html import escape

import numpy as np

MOST_LABELS = 20  # written in a message
_CELL = "padding:0.15em 0.7em;border-bottom:1px solid rgba(128,128,128,0.35)"
_SIDE = {"<": "left", ">": "right"}


class Text(str):
    """A string that an interactive session shows as it prints, without quotes and escapes."""

    __slots__ = ()

    def __repr__(self):
        return str(self)


def as_written(labels):
    """List of an array's labels as users write them: plain numbers and strings, dates as text."""
    if labels.dtype.kind == "M":
        return np.datetime_as_string(labels, unit="auto").tolist()
    return (labels.astype(str) if labels.dtype.kind == "m" else labels).tolist()


def write_labels(labels):
    """Write class labels as a user writes them: plain numbers, quoted text, dates as dates."""
    array = np.asarray(labels)
    write = str if array.dtype.kind in "mM" else repr
    listed = [write(label) for label in as_written(array[:MOST_LABELS])]
    return f"[{', '.join([*listed, *['...'] * (len(array) > MOST_LABELS)])}]"


def format_table(header, rows, alignments):
    r"""Lay rows of strings out in aligned columns, under a header and a rule.

    Parameters
    ----------
    header : sequence of str
    rows : sequence of sequences of str
    alignments : sequence of {"<", ">"}
        Left or right, one for each column.

    Returns
    -------
    str
        Lines without a newline at the end.
    """
    lines = [tuple(header), *map(tuple, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    laid_out = [
        "  ".join(
            f"{cell:{side}{width}}"
            for cell, side, width in zip(line, alignments, widths, strict=True)
        ).rstrip()
        for line in lines
    ]
    laid_out.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(laid_out)


def html_table(header, rows, alignments):
    """Return the same table as HTML, in the colours of the page around it."""

    def line(cells, tag):
        sides = (_SIDE[side] for side in alignments)
        return "".join(
            f'<{tag} style="text-align:{side};{_CELL}">{escape(cell)}</{tag}>'
            for cell, side in zip(cells, sides, strict=True)
        )

    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    return (
        '<table style="border-collapse:collapse;margin:0.4em 0">'
        f"<thead><tr>{line(header, 'th')}</tr></thead><tbody>{body}</tbody></table>"
    )


def format_number(value):
    """Return a number with three significant digits, "-" for None."""
    return "-" if value is None else f"{value:.3g}"


def say_bytes(size):
    """Return a size in the unit that suits it: "312 bytes", "18.2 kB", "1.25 MB"."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size} bytes"
