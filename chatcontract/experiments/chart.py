"""Results as a picture: grounded and stop rate side by side, and what happened to general text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from html import escape

from chatcontract.experiments.catalogue import EXPERIMENTS
from chatcontract.experiments.results import ExperimentResult

TITLE = "One thing wrong at a time: what it does to a fine-tuned model"

# Okabe and Ito's blue and vermilion (2008, https://jfly.uni-koeln.de/color/); shapes differ as well.
GROUNDED, STOPPED, TEXT, MUTED, LINE = "#0072b2", "#d55e00", "#1f1f1f", "#595959", "#d9d9d9"
_WIDTH, _LABEL, _RATES, _GAP, _PERPLEXITY = 920, 290, 340, 50, 180
_ROW, _GROUP, _TOP, _BOTTOM = 22, 30, 96, 56
_LEFT = _LABEL + 10
_RIGHT = _LEFT + _RATES + _GAP


class Chart:
    """A picture that a notebook shows and `str` gives as lines of text; `svg` is the picture itself."""

    def __init__(self, results: Iterable[ExperimentResult], title: str = TITLE) -> None:
        self.results = list(results)
        if not self.results:
            raise ValueError("A chart needs at least one result: pass what run_experiment returned.")
        self.svg = "\n".join(_picture(self.results, title)) + "\n"

    def _repr_svg_(self) -> str:
        return self.svg

    def __str__(self) -> str:
        return "\n".join(str(result) for result in self.results)

    __repr__ = __str__


def chart(*results: ExperimentResult, title: str = TITLE) -> Chart:
    """The results as a chart, in the order given.

    Raises:
        ValueError: there is no result.
    """
    return Chart(results, title)


def _picture(results: list[ExperimentResult], title: str) -> Iterator[str]:
    rows = list(_rows(results))
    height = _TOP + sum(_GROUP if isinstance(row, str) else _ROW for row in rows) + _BOTTOM
    bottom = height - _BOTTOM
    doublings = math.ceil(math.log2(max(4.0, *(result.perplexity for result in results))))
    cases = sorted({result.cases for result in results})
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" role="img" font-family="DejaVu Sans, Verdana, sans-serif">'
    )
    yield f"<title>{escape(title)}</title>"
    yield f"<desc>{escape('; '.join(_spoken(result) for result in results))}</desc>"
    yield f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>'
    yield _text(16, 28, title, size=17, weight="bold")
    yield from _legend()
    yield from _axes(bottom, doublings, cases)
    down = float(_TOP)
    for row in rows:
        if isinstance(row, str):
            down += _GROUP
            yield _text(16, down - 8, row, size=12, weight="bold", colour=MUTED)
        else:
            down += _ROW
            yield from _marks(row, down - _ROW / 2, doublings)
    yield "</svg>"


def _rows(results: list[ExperimentResult]) -> Iterator[str | ExperimentResult]:
    """The results, with a group's name before its first one."""
    group = None
    for result in results:
        known = EXPERIMENTS.get(result.name)
        if known and known.group != group:
            group = known.group
            yield group
        yield result


def _spoken(result: ExperimentResult) -> str:
    return (
        f"{_title(result)}: grounded {result.grounded_rate:.2f}, stop {result.stop_rate:.2f}, "
        f"perplexity {result.perplexity:.2f}"
    )


def _title(result: ExperimentResult) -> str:
    known = EXPERIMENTS.get(result.name)
    return known.title if known else result.name


def _legend() -> Iterator[str]:
    yield _circle(_LEFT + 6, 52)
    yield _text(_LEFT + 18, 56, "grounded rate", size=12)
    yield _square(_LEFT + 136, 52)
    yield _text(_LEFT + 148, 56, "stop rate", size=12)
    yield _diamond(_RIGHT + 6, 52)
    yield _text(_RIGHT + 18, 56, "perplexity, general text", size=12)


def _axes(bottom: float, doublings: int, cases: list[int]) -> Iterator[str]:
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = _LEFT + _RATES * share
        yield _line(x, _TOP - 8, x, bottom)
        yield _text(x, _TOP - 14, f"{share:g}", size=11, anchor="middle", colour=MUTED)
        yield _text(x, bottom + 16, f"{share:g}", size=11, anchor="middle", colour=MUTED)
    # logarithmic, because one broken run would press all others against the left edge
    for number in range(0, doublings + 1, 1 if doublings <= 4 else 2):
        x = _RIGHT + _PERPLEXITY * number / doublings
        yield _line(x, _TOP - 8, x, bottom)
        yield _text(x, _TOP - 14, f"{2**number}", size=11, anchor="middle", colour=MUTED)
        yield _text(x, bottom + 16, f"{2**number}", size=11, anchor="middle", colour=MUTED)
    amount = " or ".join(str(number) for number in cases)
    yield _text(
        _LEFT + _RATES / 2, bottom + 38, f"share of {amount} held-out cases", size=12, anchor="middle"
    )
    yield _text(
        _RIGHT + _PERPLEXITY / 2,
        bottom + 38,
        "perplexity, log scale (lower is better)",
        size=12,
        anchor="middle",
    )


def _marks(result: ExperimentResult, y: float, doublings: int) -> Iterator[str]:
    grounded = _LEFT + _RATES * result.grounded_rate
    stopped = _LEFT + _RATES * result.stop_rate
    yield f"<g><title>{escape(_spoken(result))}</title>"
    yield _text(_LABEL - 6, y + 4, _title(result), size=12, anchor="end")
    yield _line(grounded, y, stopped, y, MUTED)
    yield _square(stopped, y)
    yield _circle(grounded, y)
    at = _RIGHT + _PERPLEXITY * math.log2(max(1.0, result.perplexity)) / doublings
    yield _diamond(at, y)
    yield "</g>"


def _text(
    x: float,
    y: float,
    words: str,
    *,
    size: int,
    anchor: str = "start",
    weight: str = "normal",
    colour: str = TEXT,
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}" '
        f'fill="{colour}">{escape(words)}</text>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, colour: str = LINE) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def _circle(x: float, y: float) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{GROUNDED}"/>'


def _square(x: float, y: float) -> str:
    """Larger than the circle and open, so that both can be seen in one place."""
    return (
        f'<rect x="{x - 7:.1f}" y="{y - 7:.1f}" width="14" height="14" fill="none" stroke="{STOPPED}" '
        'stroke-width="2"/>'
    )


def _diamond(x: float, y: float) -> str:
    corners = f"{x:.1f},{y - 6:.1f} {x + 6:.1f},{y:.1f} {x:.1f},{y + 6:.1f} {x - 6:.1f},{y:.1f}"
    return f'<polygon points="{corners}" fill="{TEXT}"/>'
