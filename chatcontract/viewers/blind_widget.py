"""The ipywidget twin of the blind comparison, for ipywidgets 7.7 and 8."""

from __future__ import annotations

from typing import Any

from chatcontract.viewers.blind import LETTERS, NO_DIFFERENCE, BlindView
from chatcontract.viewers.widgets import _ipywidgets


def blind_widget(view: BlindView) -> Any:
    """One case at a time with a vote; the last button shows all cases with their names."""
    widgets = _ipywidgets()
    total = len(view.view.cases)
    letters = LETTERS[: len(view.view.cases[0].answers)]
    options = [(f"{letter} is better", letter) for letter in letters] + [("no difference", NO_DIFFERENCE)]
    choice = widgets.ToggleButtons(options=options, value=None, description="Vote")
    choice.style.button_width = "auto"
    back = widgets.Button(description="Previous")
    onward = widgets.Button(description="Next")
    reveal = widgets.Button(description="Reveal names")
    said = widgets.HTML()
    pane = widgets.HTML()
    state: dict[str, Any] = {"at": 0, "drawing": False}

    def draw() -> None:
        at = state["at"]
        state["drawing"] = True
        choice.value = view.votes.get(at)
        state["drawing"] = False
        back.disabled, onward.disabled = at <= 0, at >= total - 1
        said.value = f"Case {at + 1} of {total}, {len(view.votes)} voted"
        pane.value = view.case_page(at)

    def voted(change: Any) -> None:
        if not state["drawing"] and change["new"] is not None:
            view.votes[state["at"]] = change["new"]
            draw()

    def step(by: int) -> None:
        state["at"] += by
        draw()

    def show_names(_: Any) -> None:
        # a vote after the names were shown would not be blind
        choice.disabled = back.disabled = onward.disabled = reveal.disabled = True
        said.value = f"{len(view.votes)} of {total} voted"
        pane.value = view.reveal().html()

    choice.observe(voted, names="value")
    back.on_click(lambda _: step(-1))
    onward.on_click(lambda _: step(1))
    reveal.on_click(show_names)
    draw()
    return widgets.VBox([widgets.HBox([back, onward, said]), choice, pane, reveal])
