"""The ipywidget twins of the token mask viewers, for ipywidgets 7.7 and 8."""

from __future__ import annotations

from typing import Any

from chatcontract.viewers.mask import LEGEND, MaskView
from chatcontract.viewers.mask_data import MaskDataView
from chatcontract.viewers.mask_rows import OBJECTIVES
from chatcontract.viewers.page import page
from chatcontract.viewers.widgets import _ipywidgets

_CSS = ["tokens", "mask"]


def mask_widget(view: MaskView, page_size: int) -> Any:
    """Toggles for objective, family and white space, and a slider over the pages of a long row."""
    widgets = _ipywidgets()
    families = list(dict.fromkeys(name for name, _ in view.rows))
    objectives = list(dict.fromkeys(kind for _, kind in view.rows))

    def toggle(description: str, options: list[tuple[str, Any]], value: Any) -> Any:
        buttons = widgets.ToggleButtons(options=options, description=description, value=value)
        buttons.style.button_width = "auto"
        buttons.layout.display = None if len(options) > 1 else "none"
        return buttons

    kinds = toggle("Objective", [(OBJECTIVES.get(kind, kind), kind) for kind in objectives], view.shown[1])
    names = toggle("Family", [(name, name) for name in families], view.shown[0])
    spaces = toggle("Spaces", [("marked", False), ("raw", True)], view.raw)
    which = widgets.IntSlider(value=1, min=1, max=2, description="Page", continuous_update=False)
    pane = widgets.HTML()

    def current() -> MaskView:
        pair = (names.value, kinds.value)
        return view._with(shown=pair if pair in view.rows else (names.value, "assistant"), raw=spaces.value)

    def draw(_: Any = None) -> None:
        now = current()
        pages = max(1, -(-len(now.row.ids) // page_size))
        which.max = max(pages, 2)
        which.layout.display = None if pages > 1 else "none"
        start = (min(which.value, pages) - 1) * page_size
        body = now._pane(start, min(start + page_size, len(now.row.ids))) + LEGEND
        pane.value = page(body, label=now.summary, css=_CSS)

    for control in (kinds, names, spaces, which):
        control.observe(draw, names="value")
    draw()
    return widgets.VBox([kinds, names, spaces, which, pane])


def mask_data_widget(view: MaskDataView) -> Any:
    """The histogram, and one row at a time, the worst ones first."""
    widgets = _ipywidgets()
    options = [
        (
            f"row {number}: {view.rows[number].share:.1%} supervised"
            + (" !" if view.rows[number].wrong else ""),
            number,
        )
        for number in view.worst
    ]
    rows = widgets.Dropdown(options=options, description="Jump to")
    worse = widgets.Button(description="Worse", disabled=True)
    better = widgets.Button(description="Better", disabled=len(options) < 2)
    head = widgets.HTML(page(view._head(), label=view.summary, css=_CSS))
    pane = widgets.HTML()

    def draw(_: Any = None) -> None:
        chosen = view.row(rows.value)
        at = view.worst.index(rows.value)
        worse.disabled, better.disabled = at == 0, at == len(view.worst) - 1
        pane.value = page(chosen._pane(0, 400) + LEGEND, label=chosen.summary, css=_CSS)

    def step(by: int) -> None:
        rows.value = view.worst[view.worst.index(rows.value) + by]

    rows.observe(draw, names="value")
    worse.on_click(lambda _: step(-1))
    better.on_click(lambda _: step(1))
    draw()
    return widgets.VBox([head, widgets.HBox([rows, worse, better]), pane])
