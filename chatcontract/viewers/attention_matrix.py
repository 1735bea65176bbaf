"""Pictures of a packed window: bars of documents, the attention mask, and how far logits moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

CELL_LIMIT = 48
"""Up to so many slots the mask is drawn cell by cell, above by blocks of documents."""

PADDING = -1
_WIDTH, _LEFT = 720, 96


@dataclass(frozen=True)
class Run:
    """Neighbouring slots of one document; ``stop`` is exclusive, padding has the document -1."""

    document: int
    start: int
    stop: int

    @property
    def name(self) -> str:
        """``document 2`` or ``padding``."""
        return "padding" if self.document == PADDING else f"document {self.document}"


@dataclass(frozen=True)
class Block:
    """What the queries of one run may see of the keys of another.

    ``shape`` is "none", "all", "triangle" (causal, own document) or "some".
    """

    query: Run
    key: Run
    open: int
    shape: str

    @property
    def foreign(self) -> bool:
        """Whether a document sees something that is not its own; what padding sees does not matter."""
        crosses = self.query.document != self.key.document
        return self.open > 0 and crosses and self.query.document != PADDING


def runs_of(documents: Sequence[int]) -> tuple[Run, ...]:
    """The runs of equal document numbers, in order."""
    cuts = [at for at in range(1, len(documents)) if documents[at] != documents[at - 1]]
    edges = [0, *cuts, len(documents)] if documents else [0]
    return tuple(Run(documents[a], a, b) for a, b in pairwise(edges))


def blocks_of(mask: np.ndarray, runs: Sequence[Run]) -> list[Block]:
    """The non-empty blocks of a mask of shape (slots, slots), queries first."""
    import numpy as np

    if not runs:
        return []
    starts = [run.start for run in runs]
    found = []
    for query in runs:
        seen = mask[query.start : query.stop].sum(axis=0, dtype=np.int32)
        counts = np.add.reduceat(seen, starts)
        for other in np.flatnonzero(counts):
            key, number = runs[other], int(counts[other])
            rows, columns = query.stop - query.start, key.stop - key.start
            shape = "all" if number == rows * columns else "some"
            if query is key and number == rows * (rows + 1) // 2:
                part = mask[query.start : query.stop, key.start : key.stop]
                shape = "some" if np.triu(part, 1).any() else "triangle"
            found.append(Block(query, key, number, shape))
    return found


def bars_svg(windows: Sequence[Sequence[int]], size: int, label: str) -> str:
    """One bar per window, one box per row with its length; padding is dashed, an overflow is crossed."""
    scale = (_WIDTH - _LEFT - 90) / max([size, 1, *map(sum, windows)])
    parts = []
    for at, lengths in enumerate(windows):
        top, x = 4 + 26 * at, float(_LEFT)
        parts.append(f'<text class="a" x="{_LEFT - 6}" y="{top + 15}" text-anchor="end">window {at}</text>')
        for number, length in enumerate(lengths):
            wide = length * scale
            parts.append(
                f'<rect class="d{number % 2}" x="{x:.1f}" y="{top}" width="{wide:.1f}" height="20"/>'
            )
            if wide > 8 * len(str(length)):
                middle = x + wide / 2
                parts.append(f'<text x="{middle:.1f}" y="{top + 15}" text-anchor="middle">{length}</text>')
            x += wide
        used, end = sum(lengths), _LEFT + size * scale
        if used < size:
            parts.append(f'<rect class="p" x="{x:.1f}" y="{top + 1}" width="{end - x:.1f}" height="18"/>')
        elif used > size:
            parts.append(f'<path class="x" d="{_cross(end, top, x - end, 20)}"/>')
        said = f"{used} of {size}" if used <= size else f"✗ {used} of {size}"
        parts.append(f'<text class="a" x="{max(x, end) + 6:.1f}" y="{top + 15}">{said}</text>')
    return _svg(label, _WIDTH, 8 + 26 * len(windows), parts)


def mask_svg(
    mask: np.ndarray, runs: Sequence[Run], names: Sequence[str], label: str, poked: int | None
) -> str:
    """The mask with its queries downwards and its keys to the right; ``names`` label the slots."""
    slots = len(mask)
    by_cell = slots <= CELL_LIMIT
    cell = max(9.0, min(26.0, 480 / max(slots, 1))) if by_cell else 480 / slots
    top = 40
    side = slots * cell
    parts = [
        f'<text class="a" x="{_LEFT}" y="12">key: what is looked at →</text>',
        f'<text class="a" x="4" y="{top - 6}">query ↓</text>',
    ]
    if by_cell:
        parts += _cells(mask, runs, cell, top)
        parts += [
            f'<text class="a" x="{_LEFT - 5}" y="{top + (at + 0.5) * cell + 4:.1f}" text-anchor="end">'
            f"{escape(_short(name, 11))}</text>"
            for at, name in enumerate(names)
        ]
        if cell >= 18:
            parts += [
                f'<text class="a" x="{_LEFT + (at + 0.5) * cell:.1f}" y="{top - 5}" text-anchor="middle">'
                f"{escape(_short(name, max(2, int(cell // 8))))}</text>"
                for at, name in enumerate(names)
            ]
    else:
        parts += _blocks(blocks_of(mask, runs), cell, top)
        parts += _run_names(runs, cell, top)
    for run in runs:
        x, y = _LEFT + run.start * cell, top + run.start * cell
        wide = (run.stop - run.start) * cell
        parts.append(f'<rect class="o" x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{wide:.1f}"/>')
    parts.append(f'<rect class="f" x="{_LEFT}" y="{top}" width="{side:.1f}" height="{side:.1f}"/>')
    if poked is not None:
        x = _LEFT + (poked + 0.5) * cell
        parts.append(f'<path class="k" d="M{x:.1f} {top - 3}l-5 -8h10zM{x:.1f} {top}V{top + side:.1f}"/>')
    return _svg(label, max(_WIDTH, int(_LEFT + side + 8)), int(top + side + 8), parts)


def _cells(mask: np.ndarray, runs: Sequence[Run], cell: float, top: int) -> list[str]:
    owner = [run.document for run in runs for _ in range(run.stop - run.start)]
    own, foreign, crosses, idle = [], [], [], []
    inner = cell - 1
    for query, row in enumerate(mask.tolist()):
        for key, allowed in enumerate(row):
            if not allowed:
                continue
            x, y = _LEFT + key * cell + 0.5, top + query * cell + 0.5
            box = f"M{x:.1f} {y:.1f}h{inner:.1f}v{inner:.1f}h-{inner:.1f}z"
            if owner[query] == PADDING:
                idle.append(box)
            elif owner[query] == owner[key]:
                own.append(box)
            else:
                foreign.append(box)
                crosses.append(_cross(x + 2, y + 2, inner - 4, inner - 4))
    drawn = {"own": own, "idle": idle, "no": foreign, "x": crosses}
    return [f'<path class="{name}" d="{"".join(boxes)}"/>' for name, boxes in drawn.items() if boxes]


def _blocks(blocks: Sequence[Block], cell: float, top: int) -> list[str]:
    parts = []
    for block in blocks:
        x, y = _LEFT + block.key.start * cell, top + block.query.start * cell
        wide = (block.key.stop - block.key.start) * cell
        high = (block.query.stop - block.query.start) * cell
        kind = "no" if block.foreign else "idle" if block.query.document == PADDING else "own"
        if block.shape == "triangle":
            parts.append(f'<path class="{kind}" d="M{x:.1f} {y:.1f}v{high:.1f}h{wide:.1f}z"/>')
        else:
            parts.append(
                f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{high:.1f}"/>'
            )
        if block.foreign:
            parts.append(f'<path class="x" d="{_cross(x, y, wide, high)}"/>')
    return parts


def _cross(x: float, y: float, wide: float, high: float) -> str:
    return f"M{x:.1f} {y:.1f}l{wide:.1f} {high:.1f}m0 -{high:.1f}l-{wide:.1f} {high:.1f}"


def _run_names(runs: Sequence[Run], cell: float, top: int) -> list[str]:
    return [
        f'<text class="a" x="{_LEFT - 5}" y="{top + (run.start + run.stop) / 2 * cell + 4:.1f}" '
        f'text-anchor="end">{run.name}</text>'
        for run in runs
        if (run.stop - run.start) * cell >= 13
    ]


def movement_svg(moved: Sequence[float], runs: Sequence[Run], poked: int, label: str, least: float) -> str:
    """A bar per slot, as high as its logits moved; a ✗ names each other document that moved."""
    slots, high, top = len(moved), 90, 30
    wide = (_WIDTH - _LEFT - 20) / slots
    peak = max(max(moved), least)
    home = next(run.document for run in runs if run.start <= poked < run.stop)
    parts = [
        f'<text class="a" x="{_LEFT - 6}" y="{top + 8}" text-anchor="end">{peak:.3g}</text>',
        f'<text class="a" x="{_LEFT - 6}" y="{top + high}" text-anchor="end">0</text>',
    ]
    for run in runs:
        x, end = _LEFT + run.start * wide, _LEFT + run.stop * wide
        kind = "own" if run.document == home else "idle" if run.document == PADDING else "no"
        parts.append(_bars(moved, run, wide, top, high, peak, kind))
        parts.append(f'<path class="f" d="M{x:.1f} {top - 4}V{top + high + 6}"/>')
        if end - x > 60:
            mark = " ✗" if kind == "no" and max(moved[run.start : run.stop]) > least else ""
            parts.append(f'<text class="a" x="{x + 3:.1f}" y="{top + high + 18}">{run.name}{mark}</text>')
    at = _LEFT + (poked + 0.5) * wide
    parts.append(f'<path class="f" d="M{_LEFT} {top + high}H{_LEFT + slots * wide:.1f}"/>')
    parts.append(f'<path class="k" d="M{at:.1f} {top - 2}l-5 -8h10z"/>')
    side, x = ("start", at + 8) if poked < slots / 2 else ("end", at - 8)
    parts.append(
        f'<text class="a" x="{x:.1f}" y="{top - 6}" text-anchor="{side}">slot {poked} replaced</text>'
    )
    return _svg(label, _WIDTH, top + high + 26, parts)


def _bars(moved: Sequence[float], run: Run, wide: float, top: int, high: int, peak: float, kind: str) -> str:
    """The bars of one run as one path; several slots that share a pixel become their highest bar."""
    step = max(1, int(1 / wide))
    path = []
    for at in range(run.start, run.stop, step):
        tall = max(moved[at : min(at + step, run.stop)]) / peak * high
        if tall >= 0.5:
            thick = max(0.8, wide * step - (1 if wide > 4 else 0))
            path.append(f"M{_LEFT + at * wide:.1f} {top + high}v-{tall:.1f}h{thick:.1f}v{tall:.1f}z")
    shown = kind if wide >= 3 else f"{kind} thin"
    return f'<path class="{shown}" d="{"".join(path)}"/>' if path else ""


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _svg(label: str, width: int, height: int, parts: Sequence[str]) -> str:
    size = f'viewBox="0 0 {width} {height}" width="{width}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{escape(label)}" {size}>'
    return f"{head}{''.join(parts)}</svg>"
