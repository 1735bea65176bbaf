"""The token viewer: every token a box, in reading order, with nothing hidden."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from html import escape
from itertools import groupby
from typing import Any

from chatcontract.viewers import pieces
from chatcontract.viewers.page import count, folded, page, table, text_table

IGNORE_INDEX = -100
"""The label that ``torch.nn.functional.cross_entropy`` skips by default (its argument ``ignore_index``)."""

TABLE_LIMIT = 300
"""Above this many tokens the static page lists spans instead of single tokens, to stay light."""

TAB_STOPS = 400
"""Above this many tokens only the first token of each span is a tab stop when scripts are off."""


@dataclass(frozen=True, slots=True)
class TokenRow:
    """What the viewer knows about one token. Plain values only, so ``dataclasses.asdict(row)`` is JSON.

    ``label`` and ``supervised`` are ``None`` when the view has no labels; ``note`` says what deserves a
    second look.
    """

    index: int
    id: int | None
    text: str
    code_points: str
    special: bool
    role: str | None
    label: int | str | None
    supervised: bool | None
    position_id: int | None
    document_id: int | None
    note: str
    newline: bool


@dataclass(frozen=True, slots=True)
class Span:
    """A run of tokens with the same document, role and supervision; ``stop`` is exclusive."""

    start: int
    stop: int
    role: str | None
    supervised: bool | None
    document_id: int | None
    text: str


@dataclass(frozen=True, repr=False)
class TokenView:
    """Tokens with what is known of each, shown as HTML, as :meth:`text` or as a :meth:`widget`.

    All sequences have one entry per token. Build it with :func:`token_view`,
    :func:`~chatcontract.viewers.chat_view` or :func:`~chatcontract.viewers.text_view`.
    """

    pieces: tuple[bytes, ...]
    ids: tuple[int, ...] | None = None
    special: tuple[bool, ...] | None = None
    labels: tuple[int | str | None, ...] | None = None
    roles: tuple[str | None, ...] | None = None
    position_ids: tuple[int, ...] | None = None
    document_ids: tuple[int, ...] | None = None
    title: str = ""

    def __post_init__(self) -> None:
        for name in ("ids", "special", "labels", "roles", "position_ids", "document_ids"):
            column = getattr(self, name)
            if column is not None and len(column) != len(self.pieces):
                raise ValueError(
                    f"{name} has {count(len(column), 'entry', 'entries')} but there are "
                    f"{count(len(self.pieces), 'token')}: give exactly one per token."
                )

    def __len__(self) -> int:
        return len(self.pieces)

    def titled(self, title: str) -> TokenView:
        """The same tokens under another title."""
        return replace(self, title=title)

    @cached_property
    def rows(self) -> tuple[TokenRow, ...]:
        """One :class:`TokenRow` per token: picture, table and text are made from them."""
        none: tuple[None, ...] = (None,) * len(self)
        notes = pieces.shared_characters(self.pieces)
        rows = []
        for index, (piece, one, special, label, role, position, document) in enumerate(
            zip(
                self.pieces,
                self.ids or none,
                self.special or (False,) * len(self),
                self.labels or none,
                self.roles or none,
                self.position_ids or none,
                self.document_ids or none,
                strict=True,
            )
        ):
            supervised = None if self.labels is None else label is not None and label != IGNORE_INDEX
            text = pieces.visible(piece)
            note = notes.get(index, "")
            if supervised and self._differs(label, one, piece):
                note = f"{note}, label is not this token".removeprefix(", ")
            plain = piece.isascii() and piece.strip() and piece.decode().isprintable()
            rows.append(
                TokenRow(
                    index,
                    one,
                    text,
                    "" if plain else pieces.code_points(piece),
                    special,
                    role,
                    label,
                    supervised,
                    position,
                    document,
                    note,
                    piece.endswith(b"\n"),
                )
            )
        return tuple(rows)

    @staticmethod
    def _differs(label: int | str | None, one: int | None, piece: bytes) -> bool:
        if isinstance(label, str):
            return label.encode() != piece
        return one is not None and label != one

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        """Runs of tokens that share document, role and supervision, in order."""
        found = []
        for (document, role, supervised), group in groupby(
            self.rows, key=lambda row: (row.document_id, row.role, row.supervised)
        ):
            rows = list(group)
            text = "".join(row.text for row in rows)
            found.append(Span(rows[0].index, rows[-1].index + 1, role, supervised, document, text))
        return tuple(found)

    @property
    def summary(self) -> str:
        """One line of counts, for instance ``18 tokens, 6 supervised, 12 ignored, 5 special``."""
        parts = [count(len(self), "token")]
        if self.labels is not None:
            supervised = sum(bool(row.supervised) for row in self.rows)
            parts += [f"{supervised:,} supervised", f"{len(self) - supervised:,} ignored"]
        if self.special is not None:
            parts.append(f"{sum(self.special):,} special")
        if self.document_ids is not None:
            parts.append(count(len(set(self.document_ids)), "document"))
        return ", ".join(parts)

    def text(self, limit: int | None = None) -> str:
        """The view as an aligned text table, one token a line; ``limit`` keeps the first so many tokens."""
        columns, cells = self._table(self.rows[:limit])
        lines = [line for line in (self.title, self.summary) if line]
        lines.append(text_table(columns, cells))
        if limit is not None and len(self) > limit:
            lines.append(f"... {count(len(self) - limit, 'more token')}; print(view.text()) shows all.")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return self.text(limit=60)

    def _table(self, rows: Iterable[TokenRow]) -> tuple[list[str], list[list[object]]]:
        wanted: list[tuple[str, Any]] = [("token", lambda row: row.index)]
        if self.ids is not None:
            wanted.append(("id", lambda row: row.id))
        wanted.append(("text", lambda row: row.text))
        if self.special is not None:
            wanted.append(("special", lambda row: "special" if row.special else None))
        if self.roles is not None:
            wanted.append(("role", lambda row: row.role))
        if self.labels is not None:
            wanted.append(("label", lambda row: row.label))
            wanted.append(("loss", lambda row: "supervised" if row.supervised else "ignored"))
        if self.position_ids is not None:
            wanted.append(("position", lambda row: row.position_id))
        if self.document_ids is not None:
            wanted.append(("document", lambda row: row.document_id))
        if any(row.note for row in self.rows):
            wanted.append(("note", lambda row: row.note or None))
        return [name for name, _ in wanted], [[value(row) for _, value in wanted] for row in rows]

    def strip_html(self, rows: Sequence[TokenRow] | None = None, *, mark: int | None = None) -> str:
        """The boxes alone, without title, legend or table.

        Args:
            rows: the tokens to draw, all of them when left out.
            mark: index of a token to mark as the first difference; ``len(view)`` marks the end of the strip.
        """
        rows = self.rows if rows is None else rows
        parts: list[str] = []
        every = len(rows) <= TAB_STOPS
        role: str | None = None
        document: int | None = None
        stop = object()
        before: object = stop
        for row in rows:
            if row.document_id != document:
                document, role = row.document_id, None
                parts.append(f"<em>document {document}</em> ")
            if row.role != role:
                role = row.role
                if role is not None:
                    parts.append(f"<em>{escape(role)}</em> ")
            kind = (row.document_id, row.role, row.supervised)
            parts.append(_box(row, tab_stop=every or kind != before, marked=row.index == mark))
            before = kind
        if mark is not None and mark == len(self):
            parts.append('<em class="x">≠ ends here</em>')
        return f'<div class="k"><div class="r"></div><div class="s">{"".join(parts)}</div></div>'

    def table_html(self) -> str:
        """The text alternative: a folded table of tokens, or of spans above :data:`TABLE_LIMIT` tokens."""
        if len(self) <= TABLE_LIMIT:
            columns, cells = self._table(self.rows)
            return folded("The same as a table", table(columns, cells, self.summary))
        cells = [
            [
                f"{run.start} to {run.stop - 1}",
                run.document_id,
                run.role,
                _loss(run.supervised),
                run.text[:200],
            ]
            for run in self.spans
        ]
        note = f"{self.summary}. Runs of equal tokens; print(view.text()) lists every token."
        columns = ["tokens", "document", "role", "loss", "text, first 200"]
        return folded("The same as a table", table(columns, cells, note))

    def body_html(self, *, mark: int | None = None, legend: bool = True) -> str:
        """Title, counts, boxes, legend and table, without the frame."""
        title = f'<p class="t"><b>{escape(self.title)}</b></p>' if self.title else ""
        return (
            f'{title}<p class="n">{escape(self.summary)}</p>{self.strip_html(mark=mark)}'
            f"{legend_html(self) if legend else ''}{self.table_html()}"
        )

    def html(self) -> str:
        """Self-contained static HTML."""
        label = f"Tokens{': ' + self.title if self.title else ''}. {self.summary}."
        return page(self.body_html(), label=label, css=["tokens"], script="tokens")

    def _repr_html_(self) -> str:
        return self.html()

    def widget(self, page_size: int = TAB_STOPS) -> Any:
        """An ipywidget with search and, above ``page_size`` tokens, a page slider.

        Scripts do not run inside a widget, so a page holds no more tokens than are tab stops of their own.
        """
        from chatcontract.viewers.widgets import token_widget

        return token_widget(self, page_size)


def legend_html(*views: TokenView) -> str:
    """What the boxes of one or more views mean; only kinds that occur are listed."""
    supervision = any(view.labels is not None for view in views)
    other = any("label is not" in row.note for view in views for row in view.rows)
    known = [
        ("<b>bold</b>", "special token", any(any(view.special or ()) for view in views)),
        ("<u>underlined</u>", "supervised: its label counts in the loss", supervision),
        ("<span>plain</span>", f"ignored: its label is {IGNORE_INDEX}", supervision),
        ('<u class="m">≠</u>', "supervised, but its label is another token", other),
    ]
    shown = [f'<span class="s">{sample}</span> {meaning}' for sample, meaning, there in known if there]
    return f'<p class="l">{" &nbsp; ".join(shown)}</p>' if shown else ""


def _box(row: TokenRow, *, tab_stop: bool, marked: bool) -> str:
    text = escape(row.text, quote=False)
    details = [f"token {row.index}"]
    if row.id is not None:
        details.append(f"id {row.id}")
    details.append(f"“{row.text}”")
    if row.code_points:
        details.append(row.code_points)
    if row.special:
        details.append("special")
    if row.role is not None:
        details.append(row.role)
    if row.supervised is not None:
        details.append(f"label {row.label} ({_loss(row.supervised)})")
    if row.position_id is not None:
        details.append(f"position {row.position_id}")
    if row.document_id is not None:
        details.append(f"document {row.document_id}")
    if row.note:
        details.append(row.note)
    tag = "u" if row.supervised else "b" if row.special else "span"
    classes = []
    if row.special and row.supervised:
        classes.append("z")
        text = f"<b>{text}</b>"
    if row.supervised and "label is not" in row.note:
        classes.append("m")
    if marked:
        classes.append("x")
    if "m" in classes or marked:
        text = f"≠\u2009{text}"
    kind = f' class="{" ".join(classes)}"' if classes else ""
    focus = " tabindex=0" if tab_stop else ""
    told = _attribute(" · ".join(details))
    return f'<{tag}{kind}{focus} title="{told}">{text}</{tag}>{"<br>" if row.newline else " "}'


def _attribute(text: str) -> str:
    """Escaped for a double-quoted attribute, where angle brackets may stand as they are."""
    return text.replace("&", "&amp;").replace('"', "&quot;")


def _loss(supervised: bool | None) -> str | None:
    return None if supervised is None else "supervised" if supervised else "ignored"


def column(values: Any, name: str) -> tuple[Any, ...] | None:
    """One row of plain Python values from a list, a NumPy array or a tensor.

    Raises:
        ValueError: ``values`` has a batch dimension; the message says how to take one row.
    """
    if values is None:
        return None
    if isinstance(values, str):
        raise ValueError(f"{name} is one string: pass a list with one entry per token.")
    if hasattr(values, "tolist"):
        plain = values.tolist()
    else:
        plain = [value.tolist() if hasattr(value, "tolist") else value for value in values]
    if not isinstance(plain, list):
        raise ValueError(f"{name} is a single value: pass a list with one entry per token.")
    if any(isinstance(value, (list, tuple)) for value in plain):
        raise ValueError(f"{name} has a batch dimension: pass one row, for instance {name}[0].")
    return tuple(plain)


def token_view(
    ids: Any,
    tokenizer: Any = None,
    *,
    labels: Any = None,
    roles: Sequence[str | None] | None = None,
    position_ids: Any = None,
    document_ids: Any = None,
    special: Collection[Any] | None = None,
    title: str = "",
) -> TokenView:
    """Show a sequence of tokens.

    Args:
        ids: ids as a list, NumPy array or tensor of shape (tokens,), or words as ``list[str]`` for a toy
            example.
        tokenizer: what the ids belong to, see :func:`~chatcontract.viewers.pieces.token_pieces`. Words need
            none.
        labels: one label per token, aligned with ``ids`` (the model shifts them once); ``-100`` is ignored.
            For words, a label may be the word itself.
        roles: one role per token, for instance from :func:`~chatcontract.viewers.chat_roles`.
        position_ids: one position per token.
        document_ids: which conversation of a packed window each token belongs to.
        special: ids or words to outline. By default the tokenizer's special tokens, and words in angle
            brackets.
        title: shown above the tokens.

    Raises:
        ValueError: a sequence has the wrong length, a batch dimension or an id outside the vocabulary.
        TypeError: there are ids but no usable tokenizer.
    """
    if isinstance(ids, str):
        raise ValueError("ids is one string: use text_view(text, tokenizer), or split it into words.")
    if hasattr(ids, "keys"):
        raise ValueError("ids is a mapping: pass its row of ids, for instance batch['input_ids'].")
    row = column(ids, "ids") or ()
    words = all(isinstance(one, str) for one in row) and (bool(row) or tokenizer is None)
    if words:
        found = [one.encode() for one in row]
        flags = [one.startswith(("<", "[")) and one.endswith((">", "]")) and len(one) > 2 for one in row]
    elif tokenizer is None:
        raise TypeError("These are ids: pass the tokenizer they belong to, token_view(ids, tokenizer).")
    elif any(isinstance(one, (str, float, bool)) for one in row):
        raise ValueError("ids mixes words and ids: pass either a list of whole numbers or a list of words.")
    else:
        found, flags = pieces.token_pieces(row, tokenizer)
    if special is not None:
        flags = [one in special for one in row]
    return TokenView(
        pieces=tuple(found),
        ids=None if words else row,
        special=tuple(flags),
        labels=column(labels, "labels"),
        roles=None if roles is None else tuple(roles),
        position_ids=column(position_ids, "position_ids"),
        document_ids=column(document_ids, "document_ids"),
        title=title,
    )
