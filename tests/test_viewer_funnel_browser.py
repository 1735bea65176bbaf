"""The funnel in a real browser: readable in both themes, whole on a small screen.

Needs Chromium, as the other browser tests do.
"""

from typing import Any

import pytest
from test_viewer_funnel import OUTCOME, ROWS
from test_viewer_packing_browser import SVG_CONTRAST
from test_viewers_browser import CONTRAST, browser, opened

from chatcontract.viewers import funnel_view

__all__ = ["browser"]


@pytest.mark.parametrize("theme", ["true", "false"], ids=["light", "dark"])
def test_every_text_in_bars_and_tables_is_readable(browser: Any, theme: str) -> None:
    view = funnel_view(ROWS, OUTCOME, title="What became of the candidates")
    page = opened(browser, view, body=f'data-jp-theme-light="{theme}"')
    assert page.locator(".ccv svg g text").count() == 4
    assert page.evaluate(CONTRAST) == []
    assert page.evaluate(SVG_CONTRAST) == []
    assert page.asked == []


def test_a_small_screen_shows_the_whole_picture(browser: Any) -> None:
    page = opened(browser, funnel_view(ROWS, OUTCOME))
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    box = page.get_by_role("img").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 390
