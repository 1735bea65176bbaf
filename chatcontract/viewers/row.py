"""One row of training data as a person reads it: turns, evidence, what was found and what is missing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from chatcontract.viewers.answers import _pattern
from chatcontract.viewers.page import OWN_KEYS, count, folded, page
from chatcontract.viewers.pieces import visible

EVIDENCE = "Evidence:"
"""What stands before the evidence in the system message of a ShopFlow row."""

_VERDICTS = {
    "accepted": ("ok", "✓ accepted"),
    "rejected": ("no", "✗ rejected"),
    "review": ("rv", "? needs review"),
}
_ABSENT = object()
_NO_MESSAGES, _NO_CONTENT, _NOWHERE = "(no messages)", "(no content)", "(end)"
# Half of a surrogate pair is no character: no page and no file can hold it.
_LONE = re.compile("[\ud800-\udfff]")
_OPEN = 12  # turns that are shown without folding
_FOLDED = 60  # turns that a folded part holds; text() has them all


@dataclass(frozen=True)
class Span:
    """Characters ``start`` to ``end`` of one turn; ``kind`` is ``"found"`` or ``"forbidden"``."""

    start: int
    end: int
    kind: str
    name: str


@dataclass(frozen=True)
class Turn:
    """One message as it is shown. ``quoted`` says that the content is no text and stands there as JSON."""

    role: str
    text: str
    quoted: bool = False
    spans: tuple[Span, ...] = ()
    notes: tuple[str, ...] = ()

    def pieces(self) -> Iterator[tuple[str, str]]:
        """The text cut into (kind, text), kind one of ``""``, ``"found"`` and ``"forbidden"``."""
        kinds = [""] * len(self.text)
        # a forbidden claim inside a found fact must not be painted over
        for span in sorted(self.spans, key=lambda span: span.kind == "forbidden"):
            for at in range(span.start, span.end):
                kinds[at] = span.kind
        start = 0
        for at in range(1, len(kinds) + 1):
            if at == len(kinds) or kinds[at] != kinds[start]:
                yield kinds[start], self.text[start:at]
                start = at


@dataclass(frozen=True, repr=False)
class RowView:
    """One row with its verdict, shown as HTML, as text or as a widget."""

    turns: tuple[Turn, ...]
    title: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    """What the row says of itself: id, source, policy and the like."""
    errors: tuple[str, ...] = ()
    """Errors of the row as a whole; those of one message are notes of its turn."""
    found: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()
    verdict: str = ""

    @property
    def summary(self) -> str:
        """Verdict and counts, for instance ``✗ rejected. 3 turns, 1 error, 1 fact missing.``"""
        errors = len(self.errors) + sum(len(turn.notes) for turn in self.turns)
        parts = [count(sum(turn.role not in (_NOWHERE, _NO_MESSAGES) for turn in self.turns), "turn")]
        parts += [count(errors, "error")] if errors else []
        parts += [f"{count(len(self.found), 'fact')} found"] if self.found else []
        parts += [f"{count(len(self.missing), 'fact')} missing"] if self.missing else []
        parts += [count(len(self.forbidden), "forbidden claim")] if self.forbidden else []
        said = f"{_VERDICTS[self.verdict][1]}. " if self.verdict else ""
        return f"{said}{', '.join(parts)}."

    @property
    def lists(self) -> list[tuple[str, str]]:
        """What was found, what is missing and what is not allowed, as (name, text)."""
        named = [("found", self.found), ("missing", self.missing), ("forbidden", self.forbidden)]
        return [("error", error) for error in self.errors] + [
            (name, "; ".join(dict.fromkeys(values))) for name, values in named if values
        ]

    def text(self, limit: int | None = None) -> str:
        """The row as text.

        A required fact is followed by ✓ and a forbidden claim by ✗, both in brackets; an error of a turn
        stands under it behind ✗.

        Args:
            limit: show at most about this many turns; those with errors are always there.
        """
        lines = [line for line in (self.title, self.summary) if line]
        lines += [f"{name}: {value}" for name, value in self.facts]
        shown = set(self._open(limit)) if limit is not None else set(range(len(self.turns)))
        left_out = 0
        for index, turn in enumerate(self.turns):
            if index not in shown:
                left_out += 1
                continue
            if left_out:
                lines.append(f"     ... {count(left_out, 'more turn')}; print(view.text()) shows all.")
                left_out = 0
            said = f"{turn.role}: {_content_text(turn)}".replace("\n", "\n     ")
            lines.append(f"{index:>3}  {said}")
            lines += [f"     ✗ {note}" for note in turn.notes]
        lines += [f"{name}: {value}" for name, value in self.lists]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return self.text(limit=_OPEN)

    def _open(self, limit: int) -> list[int]:
        """Indices of the turns to show at once: the ends of a long thread and every turn that matters."""
        last = len(self.turns)
        if last <= limit:
            return list(range(last))
        return [
            index
            for index, turn in enumerate(self.turns)
            if index < limit // 2 or index >= last - limit // 2 or turn.notes or turn.spans
        ]

    def html(self) -> str:
        """Self-contained static HTML; the middle of a long thread is folded."""
        title = f'<p class="t"><b>{escape(self.title)}</b></p>' if self.title else ""
        shown = set(self._open(_OPEN))
        body, hidden = [], []
        for index, turn in enumerate(self.turns):
            if index not in shown:
                hidden.append(_turn_html(index, turn))
                continue
            body += [*_fold(hidden), _turn_html(index, turn)]
            hidden = []
        about = " · ".join(f"{escape(name)} {escape(value)}" for name, value in self.facts)
        label = f"One row. {self.summary}"
        badge = '<span class="{}">{}</span> '.format(*_VERDICTS[self.verdict]) if self.verdict else ""
        said = self.summary.split(". ", 1)[-1] if self.verdict else self.summary
        top = f'<p class="n">{badge}{escape(said)}{f" {about}" if about else ""}</p>'
        ends = "".join(f'<p class="v"><b>{name}:</b> {escape(value)}</p>' for name, value in self.lists)
        return page(title + top + self._legend + "".join(body) + ends, label=label, css=["answers", "row"])

    @property
    def _legend(self) -> str:
        kinds = {span.kind for turn in self.turns for span in turn.spans}
        named = [
            ("found", "<mark>underlined</mark> required fact found"),
            ("forbidden", '<mark class="u">wavy, with a cross<sup>✗</sup></mark> forbidden claim'),
        ]
        said = " &nbsp; ".join(words for kind, words in named if kind in kinds)
        return f'<p class="n">{said}</p>' if said else ""

    def _repr_html_(self) -> str:
        return self.html()

    def widget(self) -> Any:
        """The row as an ipywidget, to be placed in a layout with others."""
        from chatcontract.viewers.widgets import _ipywidgets

        return _ipywidgets().HTML(self.html())


Mark = str | Mapping[str, Any]


def row_view(
    row: Any,
    *,
    errors: Sequence[str | Mapping[str, Any]] | None = None,
    found: Sequence[Mark] = (),
    missing: Sequence[str] = (),
    forbidden: Sequence[Mark] = (),
    verdict: str | None = None,
    title: str = "",
) -> RowView:
    """Show one row of training data, however broken it is.

    Args:
        row: ``{"messages": [...], ...}``, or a chat alone, or a line of text that is no row at all. Contents
            that are no text are shown as JSON.
        errors: a sentence about the row, or ``{"message": position, "reason": sentence}`` about one of its
            messages, each. An empty list means that the row was judged and has none.
        found: required facts that the row states. A string is looked up in the assistant's turns;
            ``{"start": int, "end": int}`` names the characters of the last assistant turn, or of the turn
            given as ``"message"``, and may carry a ``"name"``.
        missing: names of required facts that the row does not state.
        forbidden: claims that it must not make, given as `found` is.
        verdict: "accepted", "rejected" or "review". Left out, a row with errors, missing facts or forbidden
            claims is rejected, a judged row without them accepted, and an unjudged row gets no verdict.
        title: shown above the row.

    Raises:
        ValueError: an unknown verdict, or a position outside the row; the message names it.
    """
    if verdict is not None and verdict not in _VERDICTS:
        raise ValueError(f"There is no verdict {verdict!r}: use {', '.join(_VERDICTS)}, or leave it out.")
    if verdict is None:
        against = bool(errors or missing or forbidden)
        judged = errors is not None or bool(found)
        verdict = "rejected" if against else "accepted" if judged else ""
    messages = row.get("messages", _ABSENT) if isinstance(row, Mapping) else row
    if isinstance(messages, Sequence) and not isinstance(messages, str):
        texts = [_content(message) for message in messages]
        roles = [_role(message) for message in messages]
    else:
        texts, roles = [_shown(row)], [_NO_MESSAGES]
    notes: list[list[str]] = [[] for _ in texts]
    whole: list[str] = []
    for error in errors or ():
        if isinstance(error, str) or error.get("message") is None:
            whole.append(error if isinstance(error, str) else str(error["reason"]))
            continue
        at = _inside(error["message"], len(texts) + 1, "errors")
        if at == len(notes):
            notes.append([])
        notes[at].append(str(error["reason"]))
    spans: list[list[Span]] = [[] for _ in texts]
    names = {}
    for kind, marks in (("found", found), ("forbidden", forbidden)):
        names[kind] = tuple(_place(mark, kind, texts, roles, spans) for mark in marks)
    turns = [
        Turn(role, text, quoted, tuple(spans[at]), tuple(notes[at]))
        for at, (role, (text, quoted)) in enumerate(zip(roles, texts, strict=True))
    ]
    if len(notes) > len(turns):
        turns.append(Turn(_NOWHERE, _NO_CONTENT, True, notes=tuple(notes[-1])))
    about = row.items() if isinstance(row, Mapping) else ()
    facts = tuple(
        (str(key), str(value))
        for key, value in about
        if key in ("id", "source", "policy_id", "policy_version", "intent", "clause")
        and not (key == "clause" and any(str(value) in text for text, _ in texts))
    )
    return RowView(
        tuple(turns), title, facts, tuple(whole), names["found"], tuple(missing), names["forbidden"], verdict
    )


def _content(message: Any) -> tuple[str, bool]:
    """What to show of a message, and whether it is no text."""
    if not isinstance(message, Mapping):
        return _shown(message)
    if "content" not in message:
        return _NO_CONTENT, True
    return _shown(message["content"])


def _shown(value: Any) -> tuple[str, bool]:
    if isinstance(value, str):
        return _LONE.sub("\ufffd", value), False
    return _LONE.sub("\ufffd", json.dumps(value, ensure_ascii=False, default=repr)), True


def _role(message: Any) -> str:
    if not isinstance(message, Mapping):
        return "(no message)"
    role = message.get("role", _ABSENT)
    if role is _ABSENT:
        return "(no role)"
    return visible(_shown(role)[0].encode()) if isinstance(role, str) else _shown(role)[0]


def _inside(position: Any, size: int, where: str) -> int:
    if not isinstance(position, int) or not 0 <= position < size:
        raise ValueError(f"{where}: there is no message {position!r}: positions go from 0 to {size - 1}.")
    return position


def _place(
    mark: Mark,
    kind: str,
    texts: Sequence[tuple[str, bool]],
    roles: Sequence[str],
    spans: Sequence[list[Span]],
) -> str:
    """Put a mark where it belongs and return the name under which it is listed."""
    answers = [at for at, role in enumerate(roles) if role == "assistant" and not texts[at][1]]
    if isinstance(mark, str):
        if mark.strip():
            for at in answers:
                for match in _pattern(mark).finditer(texts[at][0]):
                    spans[at].append(Span(match.start(), match.end(), kind, mark))
        return mark
    given = mark.get("message", answers[-1] if answers else None)
    at = _inside(given, len(texts), kind)
    text = texts[at][0]
    start, end = mark.get("start"), mark.get("end")
    if not (isinstance(start, int) and isinstance(end, int) and 0 <= start <= end <= len(text)):
        raise ValueError(
            f"{kind}: characters {start!r} to {end!r} are not in message {at}, which has {len(text)}."
        )
    name = str(mark.get("name") or text[start:end])
    spans[at].append(Span(start, end, kind, name))
    return name


def _fold(hidden: Sequence[str]) -> list[str]:
    if not hidden:
        return []
    more = len(hidden) - _FOLDED
    tail = f'<p class="n">and {more:,} more; print(view.text()) shows all.</p>' if more > 0 else ""
    return [folded(count(len(hidden), "more turn"), "".join(hidden[:_FOLDED]) + tail)]


def _turn_html(index: int, turn: Turn) -> str:
    # A long turn scrolls, and what scrolls must be reachable by keyboard.
    focus = f" tabindex=0 {OWN_KEYS}" if len(turn.text) > 900 else ""
    notes = "".join(f'<p><span class="no">✗ {escape(note)}</span></p>' for note in turn.notes)
    bad = " x" if turn.notes else ""
    return (
        f'<div class="q{bad}"><i>{index}</i><b>{escape(turn.role)}</b>'
        f'<div><div class="o"{focus}>{_content_html(turn)}</div>{notes}</div></div>'
    )


def _content_text(turn: Turn) -> str:
    if turn.quoted:
        return f"{turn.text} (no text)" if turn.text != _NO_CONTENT else turn.text
    if not turn.text.strip():
        return visible(turn.text.encode())
    frames = {"": "{}", "found": "[{} ✓]", "forbidden": "[{} ✗]"}
    return "".join(frames[kind].format(text) for kind, text in turn.pieces())


def _content_html(turn: Turn) -> str:
    if turn.quoted:
        return f"<code>{escape(turn.text)}</code>"
    if not turn.text.strip():
        return f"<code>{escape(visible(turn.text.encode()))}</code>"
    frames = {"": "{}", "found": "<mark>{}</mark>", "forbidden": '<mark class="u">{}<sup>✗</sup></mark>'}
    whole = "".join(frames[kind].format(escape(text)) for kind, text in turn.pieces())
    before, word, evidence = whole.partition(f"\n{EVIDENCE}")
    if turn.role != "system" or not word:
        return whole
    return f'{before.rstrip()}<span class="e"><b>{EVIDENCE}</b>{evidence}</span>'
