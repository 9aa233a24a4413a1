"""Formulas as MathML, which browsers draw themselves: no script, no font and no server.

A Sphinx extension with one renderer of formulas, ``html_math_renderer = "mathml"``; latex2mathml
translates.
"""

from docutils.nodes import SkipNode
from latex2mathml.converter import convert


def write_inline(translator, node):
    """Write a formula within a line."""
    translator.body.append(convert(node.astext(), display="inline"))
    raise SkipNode


def write_block(translator, node):
    """Write a formula that stands by itself; rows of several are aligned at their ``&``."""
    text = node.astext().strip()
    if r"\\" in text:
        text = rf"\begin{{align*}}{text}\end{{align*}}"
    translator.body.append(f'<div class="math">{convert(text, display="block")}</div>')
    raise SkipNode


def setup(app):
    """Register the renderer."""
    app.add_html_math_renderer("mathml", (write_inline, None), (write_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
