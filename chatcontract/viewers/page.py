"""The frame that all viewers share: one self-contained block of HTML, and one plain-text table."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache
from html import escape
from pathlib import Path

from chatcontract.viewers import style

_numbers = itertools.count(1)


OWN_KEYS = "data-lm-suppress-shortcuts"
"""Attribute of what can be focused. JupyterLab looks for it on the focused element itself: without it, an
arrow key in a viewer would move to another cell, and the letter x would cut the cell."""


def page(body: str, *, label: str, css: Sequence[str] = (), rules: str = "", script: str = "") -> str:
    """Wrap ``body`` into a block that needs nothing from the page it lands on.

    Style and script travel with every output, because Colab renders each output in a frame of its own. The
    two ``ignore`` classes keep MathJax from reading dollar signs in customers' messages as formulas.

    Args:
        body: inner HTML, already escaped.
        label: what a screen reader says for the whole block.
        css: names of the style sheets to use on top of the base sheet.
        rules: further rules.
        script: name of a script file; the block must work without it.
    """
    sheet = "".join(style.sheet(name) for name in ("base", *css)) + rules
    tail = f"<script>{_script(script)}</script>" if script else ""
    return (
        f'<div class="ccv mathjax_ignore tex2jax_ignore" role="group" aria-label="{escape(label)}">'
        f"<style>{sheet}</style>{body}{tail}</div>"
    )


@cache
def _script(name: str) -> str:
    lines = Path(__file__).with_name(f"{name}.js").read_text(encoding="utf-8").splitlines()
    return "\n".join(line.strip() for line in lines if not line.startswith("//"))


def unique_name(prefix: str) -> str:
    """A name no other output of this kernel or of an earlier one uses, for radio groups and their labels."""
    import uuid

    return f"{prefix}{next(_numbers)}-{uuid.uuid4().hex[:8]}"


def count(number: int, singular: str, plural: str = "") -> str:
    """``1 token``, ``4,000 tokens``."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "") -> str:
    """An HTML table with header cells; ``None`` becomes an empty cell."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    lines = "".join(
        "<tr>" + "".join(f"<td>{'' if cell is None else escape(str(cell))}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    top = f"<caption>{escape(caption)}</caption>" if caption else ""
    inner = f"{top}<thead><tr>{head}</tr></thead><tbody>{lines}</tbody>"
    return f'<div class="w" tabindex=0 {OWN_KEYS}><table class="d">{inner}</table></div>'


def folded(summary: str, inner: str) -> str:
    """A block that the reader opens, by mouse or keyboard, without any script."""
    return f"<details><summary {OWN_KEYS}>{escape(summary)}</summary>{inner}</details>"


def width(text: str) -> int:
    """Columns that ``text`` takes in a terminal: 2 for East Asian wide characters, 0 for combining marks."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(unicodedata.combining(char) > 0 for char in text)


def text_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """The same table as aligned text; ``None`` becomes ``-`` so that a screen reader says something."""
    grid = [list(columns), *(["-" if cell is None else str(cell) for cell in row] for row in rows)]
    widths = [max(width(row[column]) for row in grid) for column in range(len(columns))]
    return "\n".join(
        "  ".join(cell + " " * (size - width(cell)) for cell, size in zip(row, widths, strict=True)).rstrip()
        for row in grid
    )
