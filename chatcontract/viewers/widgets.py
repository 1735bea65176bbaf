"""The ipywidget twins. They hold the same HTML as the static views and work with ipywidgets 7.7 and 8."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from chatcontract.viewers.page import page

if TYPE_CHECKING:
    from chatcontract.viewers.answers import AnswersView
    from chatcontract.viewers.comparison import CompareView, FormatsView
    from chatcontract.viewers.run import RunView
    from chatcontract.viewers.tokens import TokenView


def _ipywidgets() -> Any:
    try:
        import ipywidgets
    except ImportError as error:
        raise ImportError(
            "view.widget() needs the ipywidgets package: install it, or show the view itself."
        ) from error
    return ipywidgets


def _choice(names: Sequence[str], label: str, show: Callable[[int], str]) -> Any:
    widgets = _ipywidgets()
    options = [(name, index) for index, name in enumerate(names)]
    buttons = widgets.ToggleButtons(options=options, description=label)
    buttons.style.button_width = "auto"
    pane = widgets.HTML(show(0))

    def changed(change: Any) -> None:
        pane.value = show(change["new"])

    buttons.observe(changed, names="value")
    return widgets.VBox([buttons, pane])


def token_widget(view: TokenView, page_size: int) -> Any:
    """Search by text or id, step through the hits, and page through long sequences."""
    from chatcontract.viewers.tokens import legend_html

    widgets = _ipywidgets()
    pages = max(1, -(-len(view) // page_size))
    search = widgets.Text(description="Find", placeholder="text or id", continuous_update=False)
    back = widgets.Button(description="Previous hit", disabled=True)
    onward = widgets.Button(description="Next hit", disabled=True)
    which = widgets.IntSlider(value=1, min=1, max=max(pages, 2), description="Page", continuous_update=False)
    said = widgets.HTML()
    pane = widgets.HTML()
    state: dict[str, Any] = {"hits": [], "at": -1}

    def draw() -> None:
        start = (which.value - 1) * page_size
        rows = view.rows[start : start + page_size]
        hit = state["hits"][state["at"]] if state["hits"] else None
        body = f'<p class="n">{escape(view.summary)}</p>{view.strip_html(rows, mark=hit)}{legend_html(view)}'
        pane.value = page(body, label=view.summary, css=["tokens"])

    def go(step: int) -> None:
        state["at"] = (state["at"] + step) % len(state["hits"])
        hit = state["hits"][state["at"]]
        said.value = f"Hit {state['at'] + 1} of {len(state['hits'])}: token {hit}."
        if which.value != hit // page_size + 1:
            which.value = hit // page_size + 1
        else:
            draw()

    def find(change: Any) -> None:
        wanted = change["new"]
        shown = wanted.replace(" ", "\u00b7")
        hits = (row.index for row in view.rows if shown in row.text or wanted == str(row.id))
        state["hits"] = list(hits) if wanted else []
        state["at"] = -1
        back.disabled = onward.disabled = not state["hits"]
        if state["hits"]:
            go(1)
        else:
            said.value = "No token holds that." if wanted else ""
            draw()

    search.observe(find, names="value")
    back.on_click(lambda _: go(-1))
    onward.on_click(lambda _: go(1))
    which.observe(lambda _: draw(), names="value")
    which.layout.display = None if pages > 1 else "none"
    which.max = pages if pages > 1 else 2
    draw()
    return widgets.VBox([widgets.HBox([search, back, onward, which]), said, pane])


def compare_widget(view: CompareView) -> Any:
    """All renders, or one pair of them."""
    from itertools import combinations

    from chatcontract.viewers.comparison import CompareView

    choices = [view]
    if len(view.views) > 2:
        choices += [CompareView(pair) for pair in combinations(view.views, 2)]
    names = [" / ".join(part.title for part in choice.views) for choice in choices]
    return _choice(names, "Compare", lambda index: choices[index].html())


def formats_widget(view: FormatsView) -> Any:
    """One button per format."""
    return _choice([part.title for part in view.views], "Format", lambda index: view.views[index].html())


def answers_widget(view: AnswersView) -> Any:
    """One case at a time, with a filter."""
    widgets = _ipywidgets()
    kinds = widgets.Dropdown(options=list(view.FILTERS), description="Show")
    back = widgets.Button(description="Previous")
    onward = widgets.Button(description="Next")
    said = widgets.HTML()
    pane = widgets.HTML()
    state: dict[str, Any] = {"cases": list(range(len(view.cases))), "at": 0}

    def draw() -> None:
        chosen, at = state["cases"], state["at"]
        back.disabled, onward.disabled = at <= 0, at >= len(chosen) - 1
        said.value = f"Case {at + 1} of {len(chosen)}" if chosen else "No case is left under this filter."
        pane.value = view.case_page(chosen[at]) if chosen else ""

    def step(by: int) -> None:
        state["at"] += by
        draw()

    def chosen(change: Any) -> None:
        state.update(cases=view.chosen(change["new"]), at=0)
        draw()

    kinds.observe(chosen, names="value")
    back.on_click(lambda _: step(-1))
    onward.on_click(lambda _: step(1))
    draw()
    return widgets.VBox([widgets.HTML(view.summary), widgets.HBox([kinds, back, onward, said]), pane])


def run_widget(view: RunView) -> Any:
    """The present picture of a run, to be placed in a layout with other widgets."""
    return _ipywidgets().HTML(view.html())
