"""The packing viewer: windows as bars of rows, and one window with mask, positions, labels and a poke."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any

from chatcontract.viewers import attention_matrix as picture
from chatcontract.viewers import pieces
from chatcontract.viewers.page import OWN_KEYS, count, folded, page, table, text_table
from chatcontract.viewers.tokens import IGNORE_INDEX, column

if TYPE_CHECKING:
    import numpy as np

MOVED = 1e-4
"""Logits that moved by less count as unmoved: float32 rounding stays below it, a leak is far above."""

BAR_LIMIT = 40
"""At most so many windows are drawn; the text twin lists all."""

Poke = Callable[[int], Sequence[float]]


@dataclass(frozen=True, repr=False)
class PackingView:
    """Windows of one size as bars of row lengths. Build it with :func:`packing_view`."""

    windows: tuple[tuple[int, ...], ...]
    size: int
    title: str = ""

    @property
    def summary(self) -> str:
        """Windows, rows and utilisation in one line."""
        rows = sum(map(len, self.windows))
        tokens, slots = sum(map(sum, self.windows)), self.size * len(self.windows)
        share = f", utilisation {tokens / slots:.1%}" if slots else ""
        too_long = sum(sum(lengths) > self.size for lengths in self.windows)
        warning = f", ✗ {count(too_long, 'window')} longer than {self.size}" if too_long else ""
        windows = f"{count(len(self.windows), 'window')} of {count(self.size, 'slot')}"
        return f"{windows}, {count(rows, 'row')}{share}{warning}"

    def _table(self) -> tuple[list[str], list[list[object]]]:
        columns = ["window", "rows", "used", "padding"]
        cells: list[list[object]] = [
            [at, " + ".join(map(str, lengths)), sum(lengths), max(0, self.size - sum(lengths))]
            for at, lengths in enumerate(self.windows)
        ]
        return columns, cells

    def text(self, limit: int | None = None) -> str:
        """The view as an aligned table, one window a line; ``limit`` keeps the first so many."""
        columns, cells = self._table()
        lines = [line for line in (self.title, self.summary) if line] + [text_table(columns, cells[:limit])]
        if limit is not None and len(cells) > limit:
            lines.append(f"... {count(len(cells) - limit, 'more window')}; print(view.text()) shows all.")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return self.text(limit=BAR_LIMIT)

    def html(self) -> str:
        """Self-contained static HTML."""
        shown = self.windows[:BAR_LIMIT]
        more = len(self.windows) - len(shown)
        rest = f'<p class="n">{count(more, "more window")} not drawn.</p>' if more > 0 else ""
        bars = f'<div class="pk">{picture.bars_svg(shown, self.size, self.summary)}</div>{rest}'
        legend = '<p class="l">boxes: rows with their tokens; dashed: padding</p>'
        twin = folded("The same as a table", table(*self._table(), self.summary))
        return _framed(self.title, self.summary, bars + legend + twin)

    def _repr_html_(self) -> str:
        return self.html()

    def widget(self) -> Any:
        """The picture as an ipywidget, to be placed in a layout with other widgets."""
        return _ipywidgets().HTML(self.html())


def packing_view(windows: Sequence[Sequence[int]], window: int, title: str = "") -> PackingView:
    """Show how rows fill windows.

    Args:
        windows: for each window the lengths of its rows in tokens, in order.
        window: slots of a window. A window that holds more is drawn beyond its end and crossed.
        title: shown above the bars.

    Raises:
        ValueError: the window has no slots, or a length is below 1 or no whole number.
    """
    if window < 1:
        raise ValueError(f"A window of {window} slots holds nothing: give a size of at least 1.")
    kept = tuple(tuple(lengths) for lengths in windows)
    for at, lengths in enumerate(kept):
        for length in lengths:
            if not isinstance(length, int) or length < 1:
                raise ValueError(
                    f"Window {at} has a row of {length!r} tokens: give whole numbers of at least 1."
                )
    return PackingView(kept, window, title)


@dataclass(frozen=True)
class DocumentRow:
    """What one run of slots shows: its positions, its labels, and how far its logits moved.

    ``first_label`` is None without labels; ``moved`` counts the slots that moved, None without a poke.
    """

    name: str
    start: int
    stop: int
    positions: tuple[int, int] | None
    supervised: int | None
    first_label: int | str | None
    moved: int | None
    most: float | None


@dataclass(frozen=True, repr=False)
class WindowView:
    """One packed window. Build it with :func:`window_view`; ``poked`` and ``widget`` ask a live model."""

    names: tuple[str, ...]
    documents: tuple[int, ...]
    positions: tuple[int, ...] | None = None
    labels: tuple[int | str | None, ...] | None = None
    mask: np.ndarray | None = field(default=None, compare=False)
    poke: Poke | None = field(default=None, compare=False)
    poked_at: int | None = None
    moved: tuple[float, ...] | None = None
    title: str = ""

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def runs(self) -> tuple[picture.Run, ...]:
        """Neighbouring slots of one document."""
        return picture.runs_of(self.documents)

    @cached_property
    def blocks(self) -> list[picture.Block]:
        """The open blocks of the mask, none without a mask."""
        return [] if self.mask is None else picture.blocks_of(self.mask, self.runs)

    @property
    def open_edges(self) -> int:
        """Entries of the mask through which a document sees something that is not its own."""
        return sum(block.open for block in self.blocks if block.foreign)

    def poked(self, at: int) -> WindowView:
        """The same window after the token of slot ``at`` was replaced: which logits move.

        Raises:
            ValueError: there is no function to ask, no such slot, or it returned another number of values.
        """
        if self.poke is None:
            raise ValueError(
                "Nobody to ask: pass poke=, a function from a slot to the movement of every slot."
            )
        if not 0 <= at < len(self):
            raise ValueError(f"There is no slot {at}: the window has {len(self)}, from 0 to {len(self) - 1}.")
        moved = tuple(float(value) for value in self.poke(at))
        if len(moved) != len(self):
            raise ValueError(
                f"poke({at}) returned {count(len(moved), 'value')} for {count(len(self), 'slot')}: "
                "return one for each."
            )
        return replace(self, poked_at=at, moved=moved)

    @cached_property
    def rows(self) -> tuple[DocumentRow, ...]:
        """One row per run of slots, from which picture, table and text are made."""
        made = []
        for run in self.runs:
            part = slice(run.start, run.stop)
            labels = None if self.labels is None else self.labels[part]
            moved = None if self.moved is None else self.moved[part]
            made.append(
                DocumentRow(
                    run.name,
                    run.start,
                    run.stop,
                    None
                    if self.positions is None
                    else (self.positions[run.start], self.positions[run.stop - 1]),
                    None if labels is None else sum(map(_supervised, labels)),
                    None if labels is None else labels[0],
                    None if moved is None else sum(value > MOVED for value in moved),
                    None if moved is None else max(moved),
                )
            )
        return tuple(made)

    @property
    def summary(self) -> str:
        """Slots, documents, padding, and what the mask leaves open, in one line."""
        padding = sum(one == picture.PADDING for one in self.documents)
        documents = len({one for one in self.documents if one != picture.PADDING})
        parts = [count(len(self), "slot"), count(documents, "document"), f"{padding} of padding"]
        if self.mask is not None:
            edges = self.open_edges
            parts.append(f"✗ {edges:,} open between documents" if edges else "✓ none open between documents")
        return ", ".join(parts)

    @property
    def verdict(self) -> str:
        """What the poke showed, one sentence; empty without one."""
        if self.moved is None or self.poked_at is None:
            return ""
        home = self.documents[self.poked_at]
        there = [
            row for run, row in zip(self.runs, self.rows, strict=True) if _other(run, home) and row.moved
        ]
        said = f"The token of slot {self.poked_at} ({self.names[self.poked_at]}) was replaced"
        if not there:
            return f"{said}: ✓ no other document moved."
        slots = sum(row.moved or 0 for row in there)
        most = max(row.most or 0.0 for row in there)
        moved = f"{count(slots, 'slot')} of other documents moved, by up to {most:.3g}"
        return f"{said}: ✗ {moved}. The window leaks."

    def _by_slot(self) -> tuple[list[str], list[list[object]]]:
        columns: list[tuple[str, Sequence[object] | None]] = [
            ("slot", range(len(self))),
            ("document", ["padding" if one == picture.PADDING else one for one in self.documents]),
            ("token", self.names),
            ("position", self.positions),
            ("label", None if self.labels is None else [_label(one) for one in self.labels]),
            ("moved", None if self.moved is None else [f"{value:.3g}" for value in self.moved]),
        ]
        there = [(name, values) for name, values in columns if values is not None]
        return [name for name, _ in there], [
            list(cells) for cells in zip(*(v for _, v in there), strict=True)
        ]

    def _by_document(self) -> tuple[list[str], list[list[object]]]:
        columns = ["run", "slots", "tokens", "positions", "supervised", "first label", "moved", "up to"]
        cells = [
            [
                row.name,
                f"{row.start} to {row.stop - 1}",
                row.stop - row.start,
                row.positions
                and f"{row.positions[0]} to {row.positions[1]}" + ("" if not row.positions[0] else " ✗"),
                row.supervised,
                None if self.labels is None else _boundary(row.first_label),
                row.moved,
                None if row.most is None else f"{row.most:.3g}",
            ]
            for row in self.rows
        ]
        keep = [at for at in range(len(columns)) if any(line[at] is not None for line in cells)]
        return [columns[at] for at in keep], [[line[at] for at in keep] for line in cells]

    def text(self) -> str:
        """The view as text: one line per slot up to 48 slots, one per document above, then what is open."""
        columns, cells = self._by_slot() if len(self) <= picture.CELL_LIMIT else self._by_document()
        lines = [line for line in (self.title, self.summary, self.verdict) if line]
        lines.append(text_table(columns, cells))
        if self.mask is not None:
            lines += ["", "What the mask lets each run see:", *self._sees()]
        return "\n".join(lines)

    def _sees(self) -> list[str]:
        words = {"triangle": "itself, causally", "all": "all of {}", "some": "{n:,} entries of {}"}
        lines = []
        for run in self.runs:
            seen = [
                words[block.shape].format(block.key.name, n=block.open) + (" ✗" if block.foreign else "")
                for block in self.blocks
                if block.query == run
            ]
            lines.append(f"{run.name}: {'; '.join(seen) or 'nothing'}")
        return lines

    def __repr__(self) -> str:
        return self.text()

    def body_html(self) -> str:
        """The pictures, the grid of slots or documents and the text twin, without the frame."""
        parts = []
        if self.moved is not None and self.poked_at is not None:
            drawn = picture.movement_svg(self.moved, self.runs, self.poked_at, self.verdict, MOVED)
            parts.append(f'<p class="n"><b>{escape(self.verdict)}</b></p><div class="pk">{drawn}</div>')
        parts.append(self._grid_html())
        if self.mask is not None:
            drawn = picture.mask_svg(self.mask, self.runs, self.names, self.summary, self.poked_at)
            parts.append(f'<div class="pk">{drawn}</div>{_LEGEND}')
        return "".join(parts) + folded("The same as text", f"<pre>{escape(self.text())}</pre>")

    def _grid_html(self) -> str:
        if len(self) > picture.CELL_LIMIT:
            return table(*self._by_document(), "One line per document; ✗ marks what is out of place.")
        columns, cells = self._by_slot()
        starts = {run.start for run in self.runs}
        lines = []
        for at, name in enumerate(columns[1:], start=1):
            marks = [
                ' class="x"'
                if name == "label" and slot in starts and slot and _supervised_cell(line[at])
                else ""
                for slot, line in enumerate(cells)
            ]
            row = "".join(
                f"<td{mark}>{escape(str(line[at]))}{' ✗' if mark else ''}</td>"
                for mark, line in zip(marks, cells, strict=True)
            )
            lines.append(f'<tr><th scope="row">{name}</th>{row}</tr>')
        head = "".join(f'<th scope="col">{slot}</th>' for slot in range(len(self)))
        inner = f'<thead><tr><th scope="row">slot</th>{head}</tr></thead><tbody>{"".join(lines)}</tbody>'
        return f'<div class="w" tabindex=0 {OWN_KEYS}><table class="d y">{inner}</table></div>'

    def html(self) -> str:
        """Self-contained static HTML."""
        return _framed(self.title, self.summary, self.body_html())

    def _repr_html_(self) -> str:
        return self.html()

    def widget(self) -> Any:
        """An ipywidget with a slider that picks the slot to poke; each move asks the model again."""
        widgets = _ipywidgets()
        pane = widgets.HTML(self.html())
        if self.poke is None:
            return pane
        start = self.poked_at or 0
        which = widgets.IntSlider(
            value=start, min=0, max=max(1, len(self) - 1), description="Poke slot", continuous_update=False
        )
        which.layout.width = "32em"
        said = widgets.HTML()

        def ask(at: int) -> None:
            try:
                poked = self.poked(min(at, len(self) - 1))
            except Exception as error:  # whatever the notebook's function raises is shown where it was asked
                said.value = f"{type(error).__name__}: {escape(str(error))}"
                return
            said.value = ""
            pane.value = poked.html()

        which.observe(lambda change: ask(change["new"]), names="value")
        ask(start)
        return widgets.VBox([widgets.HBox([which, said]), pane])


_LEGEND = (
    '<p class="l">filled: the query may see the key; outlined squares: documents; '
    "crossed: open between documents; dashed: what padding sees</p>"
)


def _other(run: picture.Run, home: int) -> bool:
    return run.document not in (home, picture.PADDING)


def _supervised(label: int | str | None) -> bool:
    return label is not None and label != IGNORE_INDEX


def _supervised_cell(label: object) -> bool:
    return label not in ("-", str(IGNORE_INDEX), IGNORE_INDEX)


def _label(label: int | str | None) -> int | str:
    return IGNORE_INDEX if label is None else label


def _boundary(label: int | str | None) -> str:
    return f"{label} ✗" if _supervised(label) else f"{IGNORE_INDEX}"


def _framed(title: str, summary: str, body: str) -> str:
    head = f'<p class="t"><b>{escape(title)}</b></p>' if title else ""
    label = f"Packing{': ' + title if title else ''}. {summary}."
    return page(f'{head}<p class="n">{escape(summary)}</p>{body}', label=label, css=["packing"])


def _ipywidgets() -> Any:
    try:
        import ipywidgets
    except ImportError as error:
        raise ImportError(
            "view.widget() needs the ipywidgets package: install it, or show the view itself."
        ) from error
    return ipywidgets


def window_view(
    tokens: Any,
    *,
    document_ids: Any,
    tokenizer: Any = None,
    position_ids: Any = None,
    labels: Any = None,
    mask: Any = None,
    poke: Poke | None = None,
    title: str = "",
) -> WindowView:
    """Show one packed window.

    Args:
        tokens: words, or token ids together with their tokenizer: one per slot, as list, array or tensor.
        document_ids: the document of each slot, -1 for padding.
        tokenizer: what the ids belong to, see :func:`~chatcontract.viewers.pieces.token_pieces`.
        position_ids: one position per slot.
        labels: one label per slot, not shifted; -100 and None are ignored ones.
        mask: shape (slots, slots), mask[query][key] true where the query may see the key.
        poke: asked for a slot, it returns for every slot how far the logits move when that slot's token is
            replaced. It is only called by :meth:`WindowView.poked` and the widget.
        title: shown above the picture.

    Raises:
        ValueError: a sequence or the mask has the wrong size, or an id is not in the vocabulary.
        TypeError: there are ids but no tokenizer.
    """
    plain = column(tokens, "tokens") or ()
    if all(isinstance(one, str) for one in plain):
        names = tuple(pieces.visible(one.encode()) for one in plain)
    elif tokenizer is None:
        raise TypeError("These are ids: pass the tokenizer they belong to, window_view(ids, tokenizer=...).")
    else:
        names = tuple(map(pieces.visible, pieces.token_pieces(plain, tokenizer)[0]))
    columns = {
        "document_ids": column(document_ids, "document_ids") or (),
        "position_ids": column(position_ids, "position_ids"),
        "labels": column(labels, "labels"),
    }
    for name, values in columns.items():
        if values is not None and len(values) != len(names):
            raise ValueError(
                f"{name} has {count(len(values), 'entry', 'entries')} but there are "
                f"{count(len(names), 'slot')}: give exactly one per slot."
            )
    return WindowView(
        names=names,
        documents=columns["document_ids"] or (),
        positions=columns["position_ids"],
        labels=columns["labels"],
        mask=None if mask is None else _square(mask, len(names)),
        poke=poke,
        title=title,
    )


def _square(mask: Any, slots: int) -> np.ndarray:
    import numpy as np

    try:
        made = np.asarray(
            mask.tolist() if hasattr(mask, "tolist") and not hasattr(mask, "__array__") else mask
        )
    except ValueError:
        made = np.zeros(0)
    if made.shape != (slots, slots):
        size = " by ".join(map(str, made.shape)) if made.size else "of uneven rows"
        raise ValueError(f"The mask is {size} but there are {count(slots, 'slot')}: give {slots} by {slots}.")
    return made.astype(bool)
