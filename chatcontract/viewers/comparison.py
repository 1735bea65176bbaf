"""Token views next to each other: where two renders part, and one example in several formats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from itertools import combinations
from typing import Any

from chatcontract.viewers.page import OWN_KEYS, page, text_table, unique_name
from chatcontract.viewers.pieces import code_points
from chatcontract.viewers.tokens import TokenView, legend_html


def first_difference(left: TokenView, right: TokenView) -> int | None:
    """Index of the first token in which two views differ, in id or in bytes; ``None`` when they are equal.

    When one is the beginning of the other, the index is its length.
    """
    for index in range(min(len(left), len(right))):
        if left.pieces[index] != right.pieces[index]:
            return index
        if left.ids is not None and right.ids is not None and left.ids[index] != right.ids[index]:
            return index
    return None if len(left) == len(right) else min(len(left), len(right))


@dataclass(frozen=True, repr=False)
class CompareView:
    """Two or three token views side by side, with the first difference marked and named."""

    views: tuple[TokenView, ...]

    @property
    def difference(self) -> int | None:
        """Index of the first token that is not the same in all views, or ``None``."""
        found = [first_difference(left, right) for left, right in combinations(self.views, 2)]
        return min((index for index in found if index is not None), default=None)

    @property
    def findings(self) -> list[str]:
        """What the comparison found, in sentences."""
        at = self.difference
        names = [view.title for view in self.views]
        if at is None:
            return [f"{_listed(names)} are the same, token for token ({len(self.views[0])} tokens)."]
        lines = [f"The first difference is at token {at}{_before(at)}."]
        lines += [f"{view.title} {_token_named(view, at)}." for view in self.views]
        for left, right in combinations(self.views, 2):
            pair = first_difference(left, right)
            if len(self.views) > 2 and pair != at:
                where = "are the same throughout" if pair is None else f"part only at token {pair}"
                lines.append(f"{left.title} and {right.title} {where}.")
        return lines

    def text(self) -> str:
        """Findings, then the tokens from three before to five after the first difference."""
        at = self.difference
        lines = list(self.findings)
        if at is not None:
            start, stop = max(0, at - 3), min(max(map(len, self.views)), at + 6)
            rows = [
                [
                    f"{index} ≠" if index == at else index,
                    *(view.rows[index].text if index < len(view) else None for view in self.views),
                ]
                for index in range(start, stop)
            ]
            lines += ["", text_table(["token", *(view.title for view in self.views)], rows)]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return self.text()

    def html(self) -> str:
        """Self-contained static HTML."""
        at = self.difference
        first, *rest = self.findings
        items = "".join(f"<br>{escape(line)}" for line in rest)
        verdict = f'<p class="h{"" if at is not None else " same"}"><b>{escape(first)}</b>{items}</p>'
        panes = "".join(f"<div>{view.body_html(mark=at, legend=False)}</div>" for view in self.views)
        label = f"Comparison of {_listed([view.title for view in self.views])}. {first}"
        body = f'{verdict}<div class="g">{panes}</div>{legend_html(*self.views)}'
        return page(body, label=label, css=["tokens", "compare"], script="tokens")

    def _repr_html_(self) -> str:
        return self.html()

    def widget(self) -> Any:
        """An ipywidget that shows the whole comparison or one pair of it."""
        from chatcontract.viewers.widgets import compare_widget

        return compare_widget(self)


def compare(*views: TokenView) -> CompareView:
    """Put two or three token views side by side and mark the first token in which they differ.

    Views without a title are called A, B and C.

    Raises:
        ValueError: fewer than two or more than three views.
    """
    if not 2 <= len(views) <= 3:
        raise ValueError(f"compare takes two or three token views, not {len(views)}.")
    return CompareView(
        tuple(view if view.title else view.titled(name) for view, name in zip(views, "ABC", strict=False))
    )


def _before(index: int) -> str:
    if index == 0:
        return ""
    return "; token 0 before it is the same" if index == 1 else f"; tokens 0 to {index - 1} are the same"


def _token_named(view: TokenView, index: int) -> str:
    if index >= len(view):
        return "has ended there"
    row = view.rows[index]
    name = f"has “{row.text}”"
    if row.special:
        name += ", a special token"
    if row.id is not None:
        name += f", id {row.id}"
    return f"{name}, {code_points(view.pieces[index])}"


def _listed(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


@dataclass(frozen=True, repr=False)
class FormatsView:
    """One example in several formats: a choice where style sheets work, else one under the other."""

    views: tuple[TokenView, ...]

    def text(self) -> str:
        """All formats, one after the other."""
        return "\n\n".join(view.text() for view in self.views)

    def __repr__(self) -> str:
        return "\n\n".join(view.text(limit=40) for view in self.views)

    def html(self) -> str:
        """Self-contained static HTML. The choice is made of radio buttons and needs no script."""
        name = unique_name("ccv")
        buttons, panes, rules = [], [], []
        for number, view in enumerate(self.views):
            key = f"{name}-{number}"
            checked = " checked" if number == 0 else ""
            # Hidden unless the style sheet is there: without it all panes show and there is nothing to
            # choose.
            buttons.append(
                f'<input type="radio" hidden {OWN_KEYS} name="{name}" id="{key}"{checked}>'
                f'<label for="{key}">{escape(view.title)}</label>'
            )
            panes.append(f'<section class="p{number}">{view.body_html()}</section>')
            rules.append(f'.ccv .f>[id="{key}"]:checked~.p{number}{{display:block}}')
        names = [view.title for view in self.views]
        label = f"The same example in {len(names)} formats: {_listed(names)}."
        return page(
            f'<div class="f">{"".join(buttons)}{"".join(panes)}</div>',
            label=label,
            css=["tokens", "compare"],
            rules="".join(rules),
            script="tokens",
        )

    def _repr_html_(self) -> str:
        return self.html()

    def widget(self) -> Any:
        """An ipywidget with one button per format."""
        from chatcontract.viewers.widgets import formats_widget

        return formats_widget(self)


def formats(views: Mapping[str, TokenView]) -> FormatsView:
    """Show one example in several formats, for instance ``{"raw": ..., "instruction": ..., "chat": ...}``.

    The names become the titles.

    Raises:
        ValueError: fewer than two formats.
    """
    if len(views) < 2:
        raise ValueError(f"formats needs at least two views to choose from, not {len(views)}.")
    return FormatsView(tuple(view.titled(name) for name, view in views.items()))
