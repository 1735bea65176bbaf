"""A whole data set of labels: how much of each row is learned, and the rows that deserve a look."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import Any

from chatcontract.viewers.mask import BARE, LEGEND, MaskView
from chatcontract.viewers.mask_rows import MaskRow, mask_row, prepared_row
from chatcontract.viewers.page import count, folded, page, table, text_table

BINS = 10
WORST = 5


@dataclass(frozen=True, repr=False)
class MaskDataView:
    """The rows of a data set with their labels. Build it with :func:`mask_data_view`."""

    rows: tuple[MaskRow, ...]
    title: str = ""

    @cached_property
    def histogram(self) -> tuple[int, ...]:
        """Rows by supervised share, in ten bins from 0 to 1; a share of exactly 1 is in the last one."""
        counts = Counter(min(int(row.share * BINS), BINS - 1) for row in self.rows)
        return tuple(counts[bin] for bin in range(BINS))

    @cached_property
    def worst(self) -> tuple[int, ...]:
        """Row numbers, the ones with findings first, then by the smallest supervised share."""
        return tuple(
            sorted(range(len(self.rows)), key=lambda n: (not self.rows[n].wrong, self.rows[n].share))
        )

    @cached_property
    def verdicts(self) -> dict[str, int]:
        """How many rows each check found something in."""
        return dict(Counter(found.name for row in self.rows for found in row.wrong).most_common())

    @property
    def summary(self) -> str:
        """One line of counts."""
        targets, supervised = sum(row.targets for row in self.rows), sum(row.supervised for row in self.rows)
        share = supervised / targets if targets else 0.0
        empty = sum(row.supervised == 0 for row in self.rows)
        return (
            f"{count(len(self.rows), 'row')}, {count(targets, 'target')}, {supervised:,} supervised "
            f"({share:.0%}), {empty:,} without a supervised token"
        )

    def row(self, number: int) -> MaskView:
        """One row as a token mask view."""
        view = MaskView({(BARE, "yours"): self.rows[number]}, (BARE, "yours"))
        return view._with(title=f"Row {number}")

    def text(self) -> str:
        """Counts, findings, the histogram as bars of text, and the worst rows."""
        lines = [line for line in (self.title, self.summary) if line]
        lines += [f"! {name}: {count(number, 'row')}" for name, number in self.verdicts.items()]
        most = max(self.histogram) or 1
        for bin, number in enumerate(self.histogram):
            bar = "#" * round(30 * number / most)
            lines.append(f"{bin * 10:3} to {bin * 10 + 10:3} %  {number:6,}  {bar}".rstrip())
        return "\n".join([*lines, "", text_table(*self._worst_table())])

    def __repr__(self) -> str:
        return self.text()

    def _worst_table(self) -> tuple[list[str], list[list[object]]]:
        cells: list[list[object]] = [
            [
                number,
                len(self.rows[number].ids),
                self.rows[number].supervised,
                f"{self.rows[number].share:.1%}",
                ", ".join(found.name for found in self.rows[number].wrong) or None,
            ]
            for number in self.worst[:WORST]
        ]
        return ["worst rows", "tokens", "supervised", "share", "found"], cells

    def _head(self) -> str:
        title = f'<p class="t"><b>{escape(self.title)}</b></p>' if self.title else ""
        wrong = "".join(
            f'<li class="bad"><b>✗ {escape(name)}</b> in {count(number, "row")}</li>'
            for name, number in self.verdicts.items()
        )
        most = max(self.histogram) or 1
        bars = "".join(
            f'<tr><th scope="row">{bin * 10} to {bin * 10 + 10} %</th><td>{number:,}</td>'
            f'<td><i style="width:{max(1, round(220 * number / most)) if number else 0}px"></i></td></tr>'
            for bin, number in enumerate(self.histogram)
        )
        caption = "<caption>Rows by supervised share</caption>"
        return (
            f'{title}<p class="n">{escape(self.summary)}</p><ul class="lint">{wrong}</ul>'
            f'<table class="hist">{caption}<tbody>{bars}</tbody></table>{table(*self._worst_table())}'
        )

    def html(self) -> str:
        """Self-contained static HTML; the worst rows are folded below the table."""
        folds = "".join(
            folded(f"Row {number}: {self.row(number).summary}", self.row(number)._pane(0, 400))
            for number in self.worst[:WORST]
        )
        label = f"Supervised share of a data set. {self.summary}."
        body = f"{self._head()}{folds}{LEGEND}"
        return page(body, label=label, css=["tokens", "mask"], script="tokens")

    def _repr_html_(self) -> str:
        return self.html()

    def widget(self) -> Any:
        """An ipywidget that jumps to any row, the worst ones first."""
        from chatcontract.viewers.mask_widgets import mask_data_widget

        return mask_data_widget(self)


def mask_data_view(
    rows: Sequence[Any],
    tokenizer: Any,
    *,
    name: str | None = None,
    objective: str = "assistant",
    generation_ends: Collection[int] | None = None,
    title: str = "",
) -> MaskDataView:
    """Show how much of each row of a data set is learned.

    Args:
        rows: prepared rows with "input_ids" and "labels", such as a trainer's `train_dataset`; or chats.
        tokenizer: a fast transformers tokenizer.
        name: for chats, the family; None for the tokenizer's own template.
        objective: for chats, the objective.
        generation_ends: ids that generation stops on.
        title: shown above the picture.

    Raises:
        ValueError: there are no rows, or a row has no labels.
    """
    if not len(rows):
        raise ValueError("There are no rows to show: pass the trainer's prepared rows, or chats.")
    made = []
    for row in rows:
        if isinstance(row, Mapping):
            made.append(prepared_row(row, tokenizer, generation_ends=generation_ends))
        else:
            made.append(
                mask_row(row, tokenizer, name=name, objective=objective, generation_ends=generation_ends)
            )
    return MaskDataView(tuple(made), title)
