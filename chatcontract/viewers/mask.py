"""The token mask viewer: for every token, whose it is, whether it is learned, and what it must predict."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from typing import Any

from chatcontract.viewers import pieces
from chatcontract.viewers.mask_lint import IGNORED, Finding
from chatcontract.viewers.mask_rows import OBJECTIVES, Chat, MaskRow, mask_row, prepared_row, spoken
from chatcontract.viewers.page import OWN_KEYS, count, folded, page, table, text_table, unique_name

STATIC_LIMIT = 400
"""Above this many tokens the static page shows one objective; the widget and `objective` show others."""

TABLE_LIMIT = 300
"""Above this many tokens the table lists runs of equal tokens."""

BARE = "prepared row"
"""Stands in the place of a family where only ids and labels are known."""

_NOTHING = "·"


@cache
def _shown(piece: bytes, raw: bool) -> str:
    if not raw:
        return pieces.visible(piece)
    text = piece.decode("utf-8", "replace")
    return text.replace("\n", "\\n").replace("\r", "\\r") or "⟨empty⟩"


@dataclass(frozen=True, repr=False)
class MaskView:
    """One row under each objective and family. Build it with :func:`mask_view`.

    Attributes:
        rows: by (family, objective).
        shown: the pair that is drawn.
        raw: white space as it is instead of marked.
    """

    rows: Mapping[tuple[str, str], MaskRow]
    shown: tuple[str, str]
    title: str = ""
    raw: bool = False

    @property
    def row(self) -> MaskRow:
        """The row that is drawn."""
        return self.rows[self.shown]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What the checks found wrong with the row that is drawn."""
        return self.row.wrong

    def _with(self, **changes: Any) -> MaskView:
        values = {"rows": self.rows, "shown": self.shown, "title": self.title, "raw": self.raw}
        return MaskView(**{**values, **changes})

    def objective(self, name: str) -> MaskView:
        """The same chat under another objective: "assistant", "full", "completion" or "yours".

        Raises:
            ValueError: this view does not have it.
        """
        return self._with(shown=self._pair(self.shown[0], name))

    def family(self, name: str) -> MaskView:
        """The same chat in another family.

        Raises:
            ValueError: this view does not have it.
        """
        return self._with(shown=self._pair(name, self.shown[1]))

    def whitespace(self, *, raw: bool) -> MaskView:
        """The same with white space as it is, or with every space and line break marked."""
        return self._with(raw=raw)

    def _pair(self, name: str, objective: str) -> tuple[str, str]:
        if (name, objective) not in self.rows:
            known = ", ".join(f"{a} / {b}" for a, b in self.rows)
            raise ValueError(f"This view has no {name} / {objective}: it has {known}.")
        return name, objective

    @property
    def summary(self) -> str:
        """One line of counts."""
        name, objective = self.shown
        row = self.row
        start = "" if name == BARE else f"{name}, {OBJECTIVES.get(objective, objective)}: "
        parts = [
            start + count(len(row.ids), "token"),
            count(row.targets, "target"),
            f"{row.supervised:,} supervised ({row.share:.0%})",
        ]
        return ", ".join(parts)

    def text(self, limit: int | None = None) -> str:
        """Counts, findings and an aligned table, one token a line."""
        columns, cells = self._table(limit)
        lines = [line for line in (self.title, self.summary) if line]
        lines += [f"! {found.name}: {found.sentence}" for found in self.findings]
        lines.append(text_table(columns, cells))
        if limit is not None and len(self.row.ids) > limit:
            rest = count(len(self.row.ids) - limit, "more token")
            lines.append(f"... {rest}; print(view.text()) shows all.")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return self.text(limit=60)

    def _table(self, limit: int | None = None) -> tuple[list[str], list[list[object]]]:
        row = self.row
        columns = [
            "token",
            "id",
            "text",
            "message",
            "role",
            "label",
            "predicts",
            "weight",
            "characters",
            "note",
        ]
        flagged = _flagged(row)
        cells: list[list[object]] = []
        for t in range(len(row.ids))[:limit]:
            learned = row.labels[t] != IGNORED
            target = _target(row, t)
            cells.append(
                [
                    t,
                    row.ids[t],
                    _shown(row.pieces[t], self.raw),
                    None if row.messages is None else row.messages[t],
                    None if row.roles is None else row.roles[t],
                    row.labels[t]
                    if not learned
                    else "itself"
                    if row.labels[t] == row.ids[t]
                    else row.labels[t],
                    None if target is None else _shown(target, self.raw),
                    _weight(row, t + 1) or None,
                    None if row.offsets is None else "{} to {}".format(*row.offsets[t]),
                    flagged.get(t),
                ]
            )
        return columns, cells

    def strip_html(self, start: int = 0, stop: int | None = None) -> str:
        """The aligned boxes of the tokens from start to stop."""
        return _strip(
            self.row, self.raw, start, min(len(self.row.ids), len(self.row.ids) if stop is None else stop)
        )

    def _pane(self, start: int = 0, stop: int | None = None) -> str:
        return (
            f'<p class="n">{escape(self.summary)}</p>{badges_html(self.row.findings)}'
            f"{self.strip_html(start, stop)}"
        )

    def html(self) -> str:
        """Self-contained static HTML; up to :data:`STATIC_LIMIT` tokens with a choice of objectives."""
        name = self.shown[0]
        chosen = [pair for pair in self.rows if pair[0] == name]
        title = f'<p class="t"><b>{escape(self.title)}</b></p>' if self.title else ""
        if len(self.row.ids) > STATIC_LIMIT or len(chosen) < 2:
            inner, rules = self._pane(), ""
        else:
            chosen.sort(key=lambda pair: pair != self.shown)
            views = {OBJECTIVES[objective]: self.objective(objective)._pane() for _, objective in chosen}
            inner, rules = _choice(views)
        body = f"{title}{inner}{LEGEND}{self._table_html()}"
        label = f"Token mask{': ' + self.title if self.title else ''}. {self.summary}."
        return page(body, label=label, css=["tokens", "compare", "mask"], rules=rules, script="tokens")

    def _repr_html_(self) -> str:
        return self.html()

    def _table_html(self) -> str:
        if len(self.row.ids) <= TABLE_LIMIT:
            columns, cells = self._table()
            return folded("The same as a table", table(columns, cells, self.summary))
        return folded("The same as a table of runs", table(*_runs(self.row), f"{self.summary}."))

    def widget(self, page_size: int = STATIC_LIMIT) -> Any:
        """An ipywidget with toggles for objective, family and white space, and pages for long rows."""
        from chatcontract.viewers.mask_widgets import mask_widget

        return mask_widget(self, page_size)


LEGEND = (
    '<p class="l">Each box, from the top: token, message (s u a: system, user, assistant), what this '
    'position must predict, its weight. <span class="s"><u>underlined</u></span> learned &nbsp; '
    '<span class="s"><span>plain</span></span> ignored &nbsp; <span class="s"><b>bold</b></span> special '
    'token &nbsp; <span class="s"><span class="y">!</span></span> a finding</p>'
)


def _target(row: MaskRow, t: int) -> bytes | None:
    """The bytes that position t must predict, or None."""
    if t + 1 >= len(row.ids) or row.labels[t + 1] == IGNORED:
        return None
    if row.labels[t + 1] == row.ids[t + 1]:
        return row.pieces[t + 1]
    return f"id {row.labels[t + 1]}".encode()


def _weight(row: MaskRow, t: int) -> str:
    """The weight of token t as a target, or nothing."""
    if t >= len(row.ids) or row.labels[t] == IGNORED:
        return ""
    return "1" if row.weights is None else f"{row.weights[t]:.3g}"


def _flagged(row: MaskRow) -> dict[int, str]:
    """What was found at each token."""
    found: dict[int, list[str]] = {}
    for one in row.wrong:
        for t in one.at:
            found.setdefault(t, []).append(one.name)
    notes = pieces.shared_characters(row.pieces)
    for t, note in notes.items():
        found.setdefault(t, []).append(note)
    return {t: ", ".join(names) for t, names in found.items()}


def _strip(row: MaskRow, raw: bool, start: int, stop: int) -> str:
    flagged = _flagged(row)
    marked = {t for one in row.wrong for t in one.at}
    known = dict.fromkeys(row.pieces)
    texts = {piece: _shown(piece, raw) for piece in known}
    inner = {piece: escape(text, quote=False) for piece, text in texts.items()}
    told = {piece: text.replace("&", "&amp;").replace('"', "&quot;") for piece, text in texts.items()}
    every = stop - start <= STATIC_LIMIT
    ids, labels, roles, messages, offsets = row.ids, row.labels, row.roles, row.messages, row.offsets
    last = len(ids) - 1
    parts: list[str] = []
    before: tuple[Any, bool] | None = None
    for t in range(start, stop):
        piece, learned, special = row.pieces[t], labels[t] != IGNORED, row.special[t]
        role = None if roles is None else roles[t]
        number = None if messages is None else messages[t]
        predicts, weight = _NOTHING, "0"
        hint = "predicts nothing"
        if t < last and labels[t + 1] != IGNORED:
            weight = "1" if row.weights is None else f"{row.weights[t + 1]:.3g}"
            if labels[t + 1] == ids[t + 1]:
                predicts, hint = inner[row.pieces[t + 1]], f"predicts “{told[row.pieces[t + 1]]}”"
            else:
                predicts, hint = f"id {labels[t + 1]}", f"predicts id {labels[t + 1]}, not the next token"
        whose = "" if role is None else role[0] if number is None else f"{role[0]}{number}"
        title = f"token {t} · id {ids[t]} · “{told[piece]}”"
        if role is not None:
            title += f" · {role}" if number is None else f" · {role}, message {number}"
        title += f" · label {labels[t]} · {hint} · weight {weight}"
        if offsets is not None:
            title += f" · characters {offsets[t][0]} to {offsets[t][1]}"
        if t in flagged:
            title += f" · {flagged[t]}"
        tag = "u" if learned else "b" if special else "span"
        classes = ("z" if special and learned else "") + (" y" if t in marked else "")
        kind = f' class="{classes.strip()}"' if classes else ""
        state = (number, learned)
        focus = " tabindex=0" if every or state != before else ""
        before = state
        mark = "!" if t in marked else ""
        parts.append(
            f'<{tag}{kind}{focus} title="{title}">{mark}{inner[piece]}\n{whose}\n{predicts}\n{weight}</{tag}>'
        )
        parts.append("<br>" if piece.endswith(b"\n") else " ")
    return f'<div class="k"><div class="r"></div><div class="s mk">{"".join(parts)}</div></div>'


def badges_html(found: Sequence[Finding]) -> str:
    """What is wrong, one badge each, and what was checked without a finding."""
    wrong = "".join(
        f'<li class="bad"><b>✗ {escape(one.name)}</b> {escape(one.sentence)}</li>'
        for one in found
        if one.wrong
    )
    passed = ", ".join(one.name for one in found if not one.wrong)
    fine = f'<li class="ok">✓ not found: {escape(passed)}</li>' if passed else ""
    return f'<ul class="lint">{wrong}{fine}</ul>'


def _choice(panes: Mapping[str, str]) -> tuple[str, str]:
    """Panes to choose from with radio buttons, without any script, and the rules they need."""
    name = unique_name("ccm")
    buttons, sections, rules = [], [], []
    for number, (title, pane) in enumerate(panes.items()):
        key = f"{name}-{number}"
        checked = " checked" if number == 0 else ""
        buttons.append(
            f'<input type="radio" hidden {OWN_KEYS} name="{name}" id="{key}"{checked}>'
            f'<label for="{key}">{escape(title)}</label>'
        )
        sections.append(f'<section class="p{number}">{pane}</section>')
        rules.append(f'.ccv .f>[id="{key}"]:checked~.p{number}{{display:block}}')
    return f'<div class="f">{"".join(buttons)}{"".join(sections)}</div>', "".join(rules)


def _runs(row: MaskRow) -> tuple[list[str], list[list[object]]]:
    cells: list[list[object]] = []
    start = 0
    for t in range(1, len(row.ids) + 1):
        if t < len(row.ids) and _kind(row, t) == _kind(row, start):
            continue
        text = "".join(_shown(piece, False) for piece in row.pieces[start:t])
        number, role, learned = _kind(row, start)
        loss = "supervised" if learned else "ignored"
        cells.append([f"{start} to {t - 1}", number, role, loss, text[:200]])
        start = t
    return ["tokens", "message", "role", "loss", "text, first 200"], cells


def _kind(row: MaskRow, t: int) -> tuple[int | None, str | None, bool]:
    return (
        None if row.messages is None else row.messages[t],
        None if row.roles is None else row.roles[t],
        row.labels[t] != IGNORED,
    )


def mask_view(
    chat: Chat | Mapping[str, Sequence[int]],
    tokenizer: Any,
    *,
    objective: str = "",
    families: Sequence[str] | None = None,
    labels: Sequence[int] | None = None,
    weights: Sequence[float] | None = None,
    generation_ends: Collection[int] | None = None,
    title: str = "",
) -> MaskView:
    """Show which tokens of a chat are learned, under each objective and in each family the tokenizer speaks.

    Args:
        chat: the messages; or a prepared row with "input_ids" and "labels", of which only the tokens and
            labels are known.
        tokenizer: a fast transformers tokenizer; or one by family, as ``{"chatml": ..., "llama3": ...}``.
        objective: drawn first: "assistant", "full", "completion" or "yours"; your labels if there are any.
        families: which families to offer, the first one drawn; by default those the tokenizer can speak.
        labels: your own labels for the first family, offered as a further objective.
        weights: loss weight of each token as a target, for your labels.
        generation_ends: ids that generation stops on, for the check of the trained end; for instance
            ``[model.generation_config.eos_token_id]``.
        title: shown above the tokens.

    Raises:
        ValueError: no family fits, or labels of the wrong length.
    """
    if isinstance(chat, Mapping):
        row = prepared_row(chat, tokenizer, generation_ends=generation_ends)
        return MaskView({(BARE, "yours"): row}, (BARE, "yours"), title)
    by_family: dict[str, Any]
    if isinstance(tokenizer, Mapping):
        by_family = dict(tokenizer)
    else:
        names = list(families or spoken(tokenizer, chat))
        by_family = dict.fromkeys(names, tokenizer)
    if not by_family:
        raise ValueError("No family of the course fits this tokenizer and chat: name one in families=[...].")
    rows: dict[tuple[str, str], MaskRow] = {}
    for number, (name, one) in enumerate(by_family.items()):
        wanted = ["assistant", "full", "completion"]
        if number == 0 and labels is not None:
            wanted.append("yours")
        for kind in wanted:
            own: dict[str, Any] = {"labels": labels, "weights": weights} if kind == "yours" else {}
            rows[name, kind] = mask_row(
                chat, one, name=name, objective=kind, generation_ends=generation_ends, **own
            )
    first = next(iter(by_family))
    view = MaskView(rows, (first, "assistant"), title)
    return view.objective(objective or ("assistant" if labels is None else "yours"))
