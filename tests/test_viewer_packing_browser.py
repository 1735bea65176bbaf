"""The packing viewer in a real browser: readable in both themes, reachable by keyboard, quick when large.

Needs Chromium, as the other browser tests do.
"""

import time
from typing import Any

import numpy as np
import pytest
from test_viewers_browser import CONTRAST, RUN_ALL, browser, in_lab, lab, opened

from chatcontract.viewers.packing import packing_view, window_view

__all__ = ["browser", "lab"]

WORDS = ["A1", "A2", "A3", "B1", "B2", "B3", "<pad>"]
OWNERS = [0, 0, 0, 1, 1, 1, -1]

SVG_CONTRAST = """() => {
  const rgb = text => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const page = rgb(getComputedStyle(document.querySelector(".ccv")).backgroundColor);
  const found = [];
  for (const text of document.querySelectorAll(".ccv svg text")) {
    const box = text.previousElementSibling;
    const filled = !text.classList.contains("a") && box && box.tagName === "rect";
    const back = filled ? rgb(getComputedStyle(box).fill) : page;
    const [high, low] = [light(rgb(getComputedStyle(text).fill)), light(back)].sort((a, b) => b - a);
    if ((high + 0.05) / (low + 0.05) < 4.5) found.push([text.outerHTML, high, low]);
  }
  return found;
}"""


def views() -> list[Any]:
    mask = np.tril(np.ones((7, 7)))
    window = window_view(
        WORDS,
        document_ids=OWNERS,
        position_ids=[0, 1, 2, 0, 1, 2, 0],
        labels=[-100, *WORDS[1:6], -100],
        mask=mask,
        poke=lambda at: [0.0] * at + [1.0] * (7 - at),
        title="A window",
    )
    return [packing_view([[9, 6], [7, 5], [20]], 16, title="Bars"), window.poked(1)]


@pytest.mark.parametrize("theme", ["true", "false"], ids=["light", "dark"])
def test_every_text_in_page_and_pictures_is_readable(browser: Any, theme: str) -> None:
    page = opened(browser, *views(), body=f'data-jp-theme-light="{theme}"')
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    assert page.evaluate(CONTRAST) == []
    assert page.evaluate(SVG_CONTRAST) == []
    assert page.asked == []


def test_grid_and_text_twin_are_reached_by_keyboard_without_scripts(browser: Any) -> None:
    page = opened(browser, views()[1], scripts=False)
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    twin = page.locator("details pre")
    assert twin.is_visible() and "document 1: all of document 0 ✗" in twin.inner_text()
    names = page.get_by_role("img").evaluate_all("all => all.map(one => one.getAttribute('aria-label'))")
    assert "leaks" in names[0] and "open between documents" in names[1]


def test_a_small_screen_scrolls_the_picture_and_not_the_page(browser: Any) -> None:
    page = opened(browser, *views())
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_four_thousand_slots_open_quickly(browser: Any) -> None:
    numbers = np.arange(4096) // 128
    mask = (numbers[:, None] == numbers[None, :]) & np.tril(np.ones((4096, 4096), dtype=bool))
    view = window_view(["x"] * 4096, document_ids=numbers, mask=mask)
    page = opened(browser)
    start = time.perf_counter()
    page.set_content(view._repr_html_(), wait_until="load")
    assert page.locator("svg path.own").count() == 32
    assert time.perf_counter() - start < 5


POKED = """\
from chatcontract.viewers.packing import window_view
words = {words!r}
poke = lambda at: [0.0] * at + [1.0] * (len(words) - at)
window_view(words, document_ids={owners!r}, poke=poke).widget()
"""


def test_in_jupyterlab_the_slider_pokes_by_keyboard(
    browser: Any, lab: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    nbformat = pytest.importorskip("nbformat")
    source = POKED.format(words=WORDS, owners=OWNERS)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    served = max(tmp_path_factory.getbasetemp().glob("lab*/work"), key=lambda folder: folder.stat().st_mtime)
    nbformat.write(notebook, served / "packing.ipynb")

    page = in_lab(browser, lab, "packing.ipynb")
    page.wait_for_function("window.jupyterapp && window.jupyterapp.shell.currentWidget.sessionContext")
    assert page.evaluate(RUN_ALL)
    output = page.locator(".jp-OutputArea-output")
    output.get_by_text("slot 0 (A1) was replaced: ✗ 3 slots").first.wait_for()
    page.locator(".noUi-handle").first.focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    output.get_by_text("slot 4 (B2) was replaced: ✓ no other document moved").first.wait_for()
    assert page.locator(".jp-CodeCell").count() == 1
