"""The drift viewer and the blind comparison in a real browser: readable, by keyboard, and in JupyterLab.

Needs Chromium, as the other browser tests do.
"""

from typing import Any

import pytest
from test_viewer_blind import blind, letters_of
from test_viewer_drift import PROBES, served
from test_viewers_browser import CONTRAST, RUN_ALL, browser, in_lab, lab, opened

from chatcontract.families import family
from chatcontract.manifest import prompt_record
from chatcontract.models import load_tokenizer
from chatcontract.viewers import drift_view

__all__ = ["browser", "lab"]


def views() -> list[Any]:
    tokenizer = load_tokenizer("nano")
    broken = {
        "right": served(tokenizer, tokenizer.chat_template),
        "C": served(tokenizer, family("mistral_v01").serving_template),
        "silent": {},
    }
    choice = blind(cases=6)
    trained = prompt_record(tokenizer, PROBES)
    return [drift_view(trained, broken, tokenizer), choice, choice.reveal(letters_of(choice, "Late"))]


@pytest.mark.parametrize("theme", ["true", "false"], ids=["light", "dark"])
def test_every_text_is_readable_and_nothing_is_asked_of_the_network(browser: Any, theme: str) -> None:
    page = opened(browser, *views(), body=f'data-jp-theme-light="{theme}"')
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    assert page.evaluate(CONTRAST) == []
    assert page.asked == []


def test_the_differences_are_opened_by_keyboard_without_scripts(browser: Any) -> None:
    page = opened(browser, views()[0], scripts=False)
    added = page.locator("ins").first
    assert not added.is_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert added.is_visible()


def test_a_small_screen_scrolls_the_table_and_not_the_page(browser: Any) -> None:
    page = opened(browser, *views())
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


VOTING = """\
from chatcontract.viewers import compare_answers
def said(word):
    good = word == "Late"
    return [{"question": f"Q{i}?", "text": f"{word} {i}", "grounded": good} for i in range(3)]
compare_answers(before=said("Early"), after=said("Late")).blind().widget()
"""


def test_in_jupyterlab_a_reader_votes_and_then_sees_the_names(
    browser: Any, lab: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(VOTING)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    home = max(tmp_path_factory.getbasetemp().glob("lab*/work"), key=lambda folder: folder.stat().st_mtime)
    nbformat.write(notebook, home / "blind.ipynb")

    page = in_lab(browser, lab, "blind.ipynb")
    page.wait_for_function("window.jupyterapp && window.jupyterapp.shell.currentWidget.sessionContext")
    assert page.evaluate(RUN_ALL)
    output = page.locator(".jp-OutputArea-output")
    output.locator("button", has_text="A is better").wait_for()
    assert "before" not in output.inner_text() and "after" not in output.inner_text()
    output.locator("button", has_text="A is better").click()
    output.get_by_text("Case 1 of 3, 1 voted").wait_for()
    output.locator("button", has_text="Next").click()
    output.get_by_text("Case 2 of 3, 1 voted").wait_for()
    output.locator("button", has_text="no difference").click()
    output.get_by_text("Case 2 of 3, 2 voted").wait_for()
    output.locator("button", has_text="Reveal names").click()
    output.get_by_text("You voted on 2 of 3 cases").first.wait_for()
    assert output.get_by_text("your choice").count() == 1
