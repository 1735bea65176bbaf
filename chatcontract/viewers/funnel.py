"""What became of candidate rows: how many of each source may teach, and why the others may not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from chatcontract.viewers.page import count, page, table, text_table

OUTCOMES = ("accepted", "review", "rejected")
_MARKS = {"accepted": "✓", "review": "?", "rejected": "✗"}
_ALL = "all"
_LABEL, _WIDTH, _BAR, _STEP = 96, 640, 26, 38


@dataclass(frozen=True, repr=False)
class FunnelView:
    """Rows by source and outcome, and the reasons by source; shown as HTML or as text.

    Attributes:
        sources: names of the sources in the order in which the rows bring them.
        counts: rows by (source, outcome), outcome one of ``accepted``, ``review`` and ``rejected``.
        reasons: rows by (outcome, reason, source). A row with two reasons counts under both.
    """

    sources: tuple[str, ...]
    counts: Mapping[tuple[str, str], int]
    reasons: Mapping[tuple[str, str, str], int]
    title: str = ""

    @property
    def summary(self) -> str:
        """For instance ``640 rows: 364 accepted, 82 for review, 194 rejected.``"""
        total = {name: sum(self.counts.get((s, name), 0) for s in self.sources) for name in OUTCOMES}
        return (
            f"{count(sum(total.values()), 'row')}: {total['accepted']:,} accepted, "
            f"{total['review']:,} for review, {total['rejected']:,} rejected."
        )

    def source_rows(self) -> list[list[object]]:
        """One line per source and one for all: rows, accepted, review, rejected, share accepted."""
        lines: list[list[object]] = []
        for name in (*self.sources, _ALL):
            chosen = self.sources if name == _ALL else (name,)
            figures = [sum(self.counts.get((s, outcome), 0) for s in chosen) for outcome in OUTCOMES]
            total = sum(figures)
            share = f"{100 * figures[0] / total:.0f} %" if total else None
            lines.append([name, total, *figures, share])
        return lines

    def reason_rows(self) -> list[list[object]]:
        """One line per reason, the most frequent first: mark, reason, rows of each source, rows of all."""
        total: Counter[tuple[str, str]] = Counter()
        for (outcome, reason, _), number in self.reasons.items():
            total[outcome, reason] += number
        ranked = sorted(total, key=lambda key: (OUTCOMES[::-1].index(key[0]), -total[key], key[1]))
        return [
            [
                f"{_MARKS[outcome]} {outcome}",
                reason,
                *(self.reasons.get((outcome, reason, source)) for source in self.sources),
                total[outcome, reason],
            ]
            for outcome, reason in ranked
        ]

    @property
    def _columns(self) -> tuple[list[str], list[str]]:
        return ["source", "rows", *OUTCOMES, "share accepted"], ["outcome", "reason", *self.sources, _ALL]

    def text(self) -> str:
        """Both tables as text."""
        by_source, by_reason = self._columns
        parts = [line for line in (self.title, self.summary) if line]
        parts.append(text_table(by_source, self.source_rows()))
        if self.reasons:
            parts.append(text_table(by_reason, self.reason_rows()))
        return "\n\n".join(parts)

    def __repr__(self) -> str:
        return self.text()

    def svg(self) -> str:
        """One bar per source, cut into accepted, review and rejected; its length is the number of rows."""
        lines = self.source_rows()[:-1]
        longest = max((int(str(line[1])) for line in lines), default=1) or 1
        scale = (_WIDTH - _LABEL - 60) / longest
        height = _STEP * len(lines) + 4
        drawn = []
        for number, (name, total, *figures, _) in enumerate(lines):
            top, left = number * _STEP + 4, float(_LABEL)
            drawn.append(
                f'<text x="{_LABEL - 8}" y="{top + 18}" text-anchor="end">{escape(str(name))}</text>'
            )
            for outcome, figure in zip(OUTCOMES, figures, strict=True):
                size = int(str(figure)) * scale
                drawn.append(_segment(outcome, int(str(figure)), left, top, size))
                left += size
            drawn.append(f'<text x="{left + 8:.1f}" y="{top + 18}">{total}</text>')
        label = " ".join(
            f"{name}: {total} rows, {accepted} accepted, {review} for review, {rejected} rejected."
            for name, total, accepted, review, rejected, _ in lines
        )
        return (
            f'<svg class="fu" viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(label)}">'
            f"{''.join(drawn)}</svg>"
        )

    def html(self) -> str:
        """Self-contained static HTML: the bars and both tables."""
        title = f'<p class="t"><b>{escape(self.title)}</b></p>' if self.title else ""
        legend = " &nbsp; ".join(f'<span class="fu-{name}">{_MARKS[name]} {name}</span>' for name in OUTCOMES)
        by_source, by_reason = self._columns
        tables = table(by_source, self.source_rows(), "Rows by source")
        if self.reasons:
            tables += table(by_reason, self.reason_rows(), "Reasons; a row with two counts under both")
        body = f'{title}<p class="n">{escape(self.summary)}</p><p class="n">{legend}</p>{self.svg()}{tables}'
        return page(body, label=f"Rows by source and outcome. {self.summary}", css=["funnel"])

    def _repr_html_(self) -> str:
        return self.html()


def funnel_view(
    rows: Sequence[Mapping[str, Any]], outcome: Mapping[str, Sequence[Any]], *, title: str = ""
) -> FunnelView:
    """Show what became of candidate rows.

    Args:
        rows: candidates with "id" and "source".
        outcome: ``{"accepted": [id], "rejected": [{"id": str, "reasons": [str]}], "review": [...]}``. Of
            a reason, what stands before ": " is counted.
        title: shown above.

    Raises:
        ValueError: a row is in no list or in two of them, or a list names a row that is not there.
    """
    source = {str(row["id"]): str(row["source"]) for row in rows}
    ended: dict[str, str] = {}
    reasons: Counter[tuple[str, str, str]] = Counter()
    for name in OUTCOMES:
        for entry in outcome.get(name, ()):
            key, said = (entry["id"], entry["reasons"]) if isinstance(entry, Mapping) else (entry, ())
            if key not in source:
                raise ValueError(f"The list '{name}' names the row {key!r}, which is not among the rows.")
            if key in ended:
                raise ValueError(f"Row {key!r} ends twice, in '{ended[key]}' and in '{name}': once is right.")
            ended[key] = name
            for reason in dict.fromkeys(str(text).partition(": ")[0] for text in said):
                reasons[name, reason, source[key]] += 1
    lost = [key for key in source if key not in ended]
    if lost:
        raise ValueError(
            f"{count(len(lost), 'row')} ended nowhere, the first is {lost[0]!r}: each row must end once."
        )
    counts = Counter((source[key], name) for key, name in ended.items())
    return FunnelView(tuple(dict.fromkeys(source.values())), counts, reasons, title)


def _segment(outcome: str, figure: int, left: float, top: int, size: float) -> str:
    if not figure:
        return ""
    box = f'<rect class="fu-{outcome}" x="{left:.1f}" y="{top}" width="{size:.1f}" height="{_BAR}"/>'
    tip = f"<title>{figure} {outcome}</title>"
    # a number that does not fit is still in the label, the hover text and the table
    room = len(str(figure)) * 8 + 16
    said = f"{_MARKS[outcome]} {figure}"
    inside = f'<text class="fu-{outcome}" x="{left + size / 2:.1f}" y="{top + 18}">{said}</text>'
    return f"<g>{tip}{box}{inside if size >= room else ''}</g>"
