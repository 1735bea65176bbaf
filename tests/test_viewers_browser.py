"""The viewers in a real browser: pointer, keyboard, no scripts, dark theme, and JupyterLab itself.

Needs Chromium (``apt-get install chromium``, or ``CHROMIUM=/path/to/chromium``); without it the tests are
skipped and say why.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chatcontract.viewers import RunLog, RunView, answers_view, compare, formats, token_view

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("no chromium here: apt-get install chromium, or set CHROMIUM", allow_module_level=True)
sync_api = pytest.importorskip("playwright.sync_api")

ROOT = Path(__file__).resolve().parents[1]
QUIET = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
TOY = [
    "<user>",
    "Damaged",
    "on",
    "arrival",
    "<eot>",
    "<assistant>",
    "Report",
    "within",
    "48",
    "hours",
    "<eot>",
]
LABELS = [-100] * 6 + TOY[6:]
READOUT = "element => getComputedStyle(element, '::after').content"
# The readout of a token that is neither pointed at nor focused has no content at all.
NOTHING = "none"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET.split())
        yield chromium
        chromium.close()


def opened(browser: Any, *views: Any, body: str = "", scripts: bool = True) -> Any:
    """A page with the views in it. Whatever it asks the network for is noted in ``page.asked``."""
    page = browser.new_context(java_script_enabled=scripts).new_page()
    page.set_default_timeout(10_000)
    page.asked = []
    page.route("http*://**", lambda route: (page.asked.append(route.request.url), route.abort()))
    content = "".join(view._repr_html_() for view in views)
    page.set_content(f"<!doctype html><body {body}>{content}</body>", wait_until="load")
    return page


def test_pointing_at_a_token_shows_its_details(browser: Any) -> None:
    page = opened(browser, token_view(TOY, labels=LABELS, roles=["user"] * 5 + ["assistant"] * 6))
    token = page.locator(".k .s > u", has_text="hours")
    assert token.evaluate(READOUT) == NOTHING
    token.hover()
    assert token.evaluate(READOUT) == '"token 9 · “hours” · assistant · label hours (supervised)"'
    assert page.asked == []


def test_one_tab_stop_and_arrow_keys_reach_every_token(browser: Any) -> None:
    page = opened(browser, token_view(TOY, labels=LABELS))
    page.keyboard.press("Tab")
    focused = page.locator(":focus")
    assert focused.evaluate(READOUT).startswith('"token 0 ·')
    for _ in range(7):
        page.keyboard.press("ArrowRight")
    assert focused.inner_text() == "within" and focused.evaluate(READOUT).startswith('"token 7 ·')
    page.keyboard.press("ArrowLeft")
    assert focused.inner_text() == "Report"
    page.keyboard.press("End")
    assert focused.evaluate(READOUT).startswith('"token 10 ·')
    page.keyboard.press("Home")
    page.keyboard.press("Tab")
    assert focused.evaluate("element => element.tagName") == "SUMMARY"
    page.keyboard.press("Enter")
    assert page.locator("details table").is_visible()


def test_after_an_arrow_key_the_focused_token_is_shown_not_the_one_under_the_pointer(browser: Any) -> None:
    page = opened(browser, token_view(TOY, labels=LABELS))
    pointed, focused = page.locator(".k .s > span").first, page.locator(":focus")
    pointed.hover()
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    hidden = "element => getComputedStyle(element, '::after').display"
    assert pointed.evaluate(hidden) == "none" and focused.evaluate(READOUT).startswith('"token 2 ·')
    page.mouse.move(0, 0)
    pointed.hover()
    assert pointed.evaluate(hidden) != "none"


def test_without_scripts_every_token_is_a_tab_stop(browser: Any) -> None:
    page = opened(browser, token_view(TOY, labels=LABELS), scripts=False)
    assert page.locator(".k .s > [tabindex='0']").count() == len(TOY)
    page.locator(".k .s > b").first.focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.locator(".k .s > :focus").count() == 1
    assert page.locator(".k .s > :focus").get_attribute("title") == "token 2 · “on” · label -100 (ignored)"


@pytest.mark.parametrize("scripts", [True, False])
def test_formats_are_chosen_by_pointer_and_by_keyboard(browser: Any, scripts: bool) -> None:
    raw, chat = token_view(["Damaged"]), token_view(TOY, labels=LABELS)
    two = formats({"raw": raw, "chat": chat}), formats({"raw": raw, "chat": chat})
    page = opened(browser, *two, scripts=scripts)
    first, second = page.locator(".ccv").all()
    panes = first.locator("section")
    assert [pane.is_visible() for pane in panes.all()] == [True, False]
    first.get_by_text("chat", exact=True).first.click()
    assert [pane.is_visible() for pane in panes.all()] == [False, True]
    assert second.locator("section").first.is_visible(), "two views on a page do not disturb each other"
    page.keyboard.press("ArrowLeft")
    assert [pane.is_visible() for pane in panes.all()] == [True, False]
    page.emulate_media(media="print")
    assert [pane.is_visible() for pane in panes.all()] == [True, True]


def test_three_renders_stand_side_by_side_with_the_difference_in_view(browser: Any) -> None:
    view = compare(token_view(TOY, title="completed"), token_view(TOY[:6], title="generation"))
    page = opened(browser, view)
    left, right = (pane.bounding_box() for pane in page.locator(".g > div").all())
    assert left["y"] == right["y"] and right["x"] > left["x"] + left["width"] - 1
    assert page.locator(".s > .x").all_inner_texts() == ["≠\u2009Report", "≠ ends here"]
    page.set_viewport_size({"width": 420, "height": 900})
    left, right = (pane.bounding_box() for pane in page.locator(".g > div").all())
    assert left["x"] == right["x"], "on a narrow screen they stand one under the other"


CONTRAST = """() => {
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const found = [];
  for (const element of document.querySelectorAll(".ccv *")) {
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    if (!own || element.closest("style, script, svg") || !element.getClientRects().length) continue;
    const behind = from => rgb(getComputedStyle(from).backgroundColor);
    let from = element;
    while (behind(from)[3] === 0) from = from.parentElement;
    const back = behind(from), front = rgb(getComputedStyle(element).color);
    const [high, low] = [light(front), light(back)].sort((a, b) => b - a);
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < 4.5) found.push([element.outerHTML.slice(0, 90), ratio]);
  }
  return found;
}"""


@pytest.mark.parametrize("theme", ["true", "false"], ids=["light", "dark"])
def test_every_text_on_the_page_is_readable(browser: Any, theme: str) -> None:
    log = RunLog(10, "run")
    log.add(1, loss=float("nan"), grounded=0.5, seconds=1)
    bad = {"text": "within 30 days", "grounded": False, "stopped": False, "unsupported": ["30 days"]}
    good = {"text": "within 48 hours", "grounded": True, "stopped": True, "found": ["48 hours"]}
    page = opened(
        browser,
        token_view(TOY, labels=[-100] * 5 + TOY[6:] + ["<eot>"], roles=["a"] * 11, title="tokens"),
        compare(token_view(TOY), token_view(TOY[:6])),
        formats({"raw": token_view(TOY), "chat": token_view(TOY)}),
        RunView(log=log),
        answers_view([{"question": "q", "evidence": "e", "before": bad, "after": good}], title="answers"),
        body=f'data-jp-theme-light="{theme}"',
    )
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    background = page.locator(".ccv").first.evaluate("element => getComputedStyle(element).backgroundColor")
    assert background == ("rgb(255, 255, 255)" if theme == "true" else "rgb(17, 17, 17)")
    assert page.evaluate(CONTRAST) == []


def test_four_thousand_tokens_open_quickly(browser: Any) -> None:
    words = (TOY * 364)[:4000]
    view = token_view(words, labels=[-100] * 4000, position_ids=range(4000))
    page = opened(browser)
    start = time.perf_counter()
    page.set_content(view._repr_html_(), wait_until="load")
    page.locator(".k .s > [title]").last.scroll_into_view_if_needed()
    page.locator(".k .s > [title]").last.hover()
    assert time.perf_counter() - start < 5
    box, readout = page.locator(".k .s").bounding_box(), page.locator(".k .r").bounding_box()
    assert box["height"] < 500 and abs(readout["y"] + readout["height"] - box["y"]) < 10


# --- JupyterLab ---------------------------------------------------------------------------------------------

CELL = """\
from chatcontract.viewers import token_view
words = {words!r}
token_view(words, labels={labels!r}, title="Price: $5 and $6")
"""
LIVE = """\
from chatcontract.viewers import RunView
with RunView(20, "live", refresh_seconds=0) as run:
    for step in range(1, 21):
        run.update(step, loss=1 / step, grounded=step / 20)
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A JupyterLab with a notebook to run and one that somebody else ran, which it does not trust."""
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("jupyterlab")
    home = tmp_path_factory.mktemp("lab")
    work = home / "work"
    work.mkdir()
    source = CELL.format(words=TOY, labels=LABELS)
    cells = [nbformat.v4.new_code_cell(source), nbformat.v4.new_code_cell(LIVE)]
    fresh = nbformat.v4.new_notebook(cells=cells)
    fresh.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(fresh, work / "fresh.ipynb")
    html = token_view(TOY, labels=LABELS)._repr_html_()
    output = nbformat.v4.new_output("execute_result", {"text/html": html}, execution_count=1)
    foreign = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source, outputs=[output])])
    foreign.metadata["kernelspec"] = fresh.metadata["kernelspec"]
    nbformat.write(foreign, work / "foreign.ipynb")

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "HOME": str(home),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "IPYTHONDIR": str(home / "ipython"),
        "PYTHONPATH": str(ROOT),
    }
    settings = home / "config" / "lab" / "user-settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text(json.dumps({"fetchNews": "false"}))
    arguments = [
        *(
            "lab",
            "--no-browser",
            "--allow-root",
            "--ip=127.0.0.1",
            f"--port={port}",
            "--ServerApp.port_retries=0",
        ),
        *("--IdentityProvider.token=", "--LabApp.expose_app_in_browser=True", f"--ServerApp.root_dir={work}"),
    ]
    with (home / "lab.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyter", *arguments],
            cwd=work,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        for _ in range(150):
            if server.poll() is not None:
                pytest.fail(f"JupyterLab ended at once: {(home / 'lab.log').read_text()[-500:]}")
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api", timeout=1)
                break
            except OSError:
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/lab"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)


def in_lab(browser: Any, address: str, name: str) -> Any:
    page = browser.new_context(viewport={"width": 1280, "height": 860}).new_page()
    page.set_default_timeout(40_000)
    page.goto(f"{address}/tree/{name}?reset")
    page.wait_for_selector(".jp-NotebookPanel .jp-Cell")
    return page


RUN_ALL = """async () => {
  const panel = window.jupyterapp.shell.currentWidget;
  await panel.context.ready;
  await panel.sessionContext.ready;
  await panel.sessionContext.session.kernel.info;
  return window.jupyterapp.commands.execute("notebook:run-all-cells");
}"""


def test_jupyterlab_runs_the_viewer_and_leaves_it_the_arrow_keys(browser: Any, lab: str) -> None:
    page = in_lab(browser, lab, "fresh.ipynb")
    page.wait_for_function("window.jupyterapp && window.jupyterapp.shell.currentWidget.sessionContext")
    assert page.evaluate(RUN_ALL)
    run = page.locator(".jp-OutputArea-output .ccv", has_text="live")
    run.get_by_text("finished").wait_for()
    assert run.count() == 1 and "● grounded 1.00" in run.locator("svg").text_content()
    view = page.locator(".jp-OutputArea-output .ccv", has_text="Price")
    token = view.locator(".k .s > u", has_text="hours")
    token.hover()
    assert token.evaluate(READOUT).startswith('"token 9 ·')
    assert view.locator(".t").inner_text() == "Price: $5 and $6", "MathJax must leave dollars alone"
    view.locator(".k .s > b").first.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    # JupyterLab's own keys, which would move to the next cell and cut this one.
    page.keyboard.press("ArrowDown")
    page.keyboard.press("x")
    focused = page.locator(":focus")
    assert page.locator(".jp-CodeCell").count() == 2
    assert focused.inner_text() == "arrival" and focused.evaluate(READOUT).startswith('"token 3 ·')
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / "jupyterlab.png")


def test_jupyterlab_shows_a_foreign_notebook_in_plain_words(browser: Any, lab: str) -> None:
    page = in_lab(browser, lab, "foreign.ipynb")
    output = page.locator(".jp-OutputArea-output")
    output.locator("u").first.wait_for()
    assert output.locator("style, script").count() == 0, "an untrusted output is stripped of these"
    assert output.locator("u[title]").all_inner_texts() == ["Report", "within", "48", "hours", "<eot>"]
    assert output.locator("b").first.inner_text() == "<user>"
    assert "underlined supervised" in output.inner_text()
