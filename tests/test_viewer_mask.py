"""The token mask viewer: what it shows, what it finds, and that it stays fast and readable."""

import gc
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase

from chatcontract.families import DRIFTS, SMOLLM2_SYSTEM_PROMPT, family
from chatcontract.models import is_fetched, load_tokenizer
from chatcontract.viewers import mask_data_view, mask_view, three_renders
from chatcontract.viewers.mask_rows import mask_row

SYSTEM = {"role": "system", "content": "Use only the supplied policy evidence."}
USER = {"role": "user", "content": "My electronics arrived damaged. What should I do?"}
ANSWER = {"role": "assistant", "content": "Report the damage within 48 hours and attach photos."}
CASE = [SYSTEM, USER, ANSWER]
TWO_TURNS = [*CASE, {"role": "user", "content": "Where?"}, {"role": "assistant", "content": "In the app 📦"}]


@cache
def smollm2() -> PreTrainedTokenizerBase:
    if not is_fetched("smollm2-135m"):
        pytest.skip("smollm2-135m is not fetched")
    return load_tokenizer("smollm2-135m")


def end() -> int:
    return int(smollm2().convert_tokens_to_ids("<|im_end|>"))


def chatml(chat: list[dict[str, str]] = CASE, **options: Any) -> Any:
    return mask_view(chat, smollm2(), families=["chatml"], **options)


def wrong(view: Any) -> list[str]:
    return [found.name for found in view.findings]


# What it shows


def test_each_position_shows_the_token_it_must_predict():
    view = chatml()
    rows = [line.split() for line in view.text().splitlines()[2:]]
    by_text = {row[2]: row for row in rows if len(row) > 8}
    predicts = 6
    assert by_text["Report"][predicts] == "·the"
    assert by_text["."][predicts] == "<|im_end|>"
    header = [row for row in rows if row[2] == "↵" and row[3:5] == ["2", "assistant"]]
    assert header[0][predicts] == "Report", "the header's line break predicts the answer's first token"
    assert header[1][5] == "-100", "the line break after the end is ignored"


@pytest.mark.parametrize(
    ("objective", "learned"),
    [
        ("assistant", ANSWER["content"] + "<|im_end|>" + "In the app 📦<|im_end|>"),
        ("completion", "In the app 📦<|im_end|>\n"),
    ],
)
def test_the_objectives_learn_what_they_are_called(objective, learned):
    row = chatml(TWO_TURNS).objective(objective).row
    assert smollm2().decode([label for label in row.labels if label != -100]) == learned


def test_the_full_objective_learns_every_token_but_the_first():
    row = chatml().objective("full").row
    assert row.supervised == row.targets == len(row.ids) - 1


def test_bytes_of_a_cut_character_are_named_and_nothing_is_replaced():
    view = chatml(TWO_TURNS)
    assert b"".join(view.row.pieces).decode() == smollm2().apply_chat_template(
        TWO_TURNS, chat_template=family("chatml").serving_template, tokenize=False
    )
    assert "of '📦' (U+1F4E6)" in view.text() and "\ufffd" not in view.html()


def test_white_space_is_marked_or_raw():
    view = chatml()
    assert "·damage" in view.text() and "↵" in view.text()
    raw = view.whitespace(raw=True).text()
    assert "·damage" not in raw and "\\n" in raw


def test_every_family_that_the_tokenizer_speaks_is_offered():
    view = mask_view(CASE, smollm2())
    assert {name for name, _ in view.rows} == {"chatml", "alpaca", "plain"}
    plain = view.family("plain")
    assert plain.row.supervised == len(smollm2().encode(" " + ANSWER["content"]))
    assert wrong(plain) == ["terminator not trained"], "a frame of plain text has no end to learn"
    with pytest.raises(ValueError, match="no llama3 / assistant: it has chatml"):
        view.family("llama3")


def test_a_space_that_mistral_writes_before_an_answer_is_no_header():
    pytest.importorskip("mistral_common")
    from chatcontract.vendor_tokenizers import load_vendor_tokenizer

    numbered = [USER, {"role": "assistant", "content": "1. Report it."}]
    tokenizers = {"chatml": smollm2(), "mistral_v01": load_vendor_tokenizer("mistral_v01")}
    view = mask_view(numbered, tokenizers).family("mistral_v01")
    assert wrong(view) == [] and view.row.supervised == len(view.row.ids) - view.row.labels.count(-100)
    first = next(t for t, label in enumerate(view.row.labels) if label != -100)
    assert view.row.pieces[first] == b" " and view.row.pieces[first + 1] == b"1"


def test_your_labels_and_weights_are_drawn_beside_the_others():
    row = chatml().row
    labels = [label if t % 2 else -100 for t, label in enumerate(row.labels)]
    view = chatml(labels=labels, weights=[0.25] * len(labels), title="Mine")
    assert view.shown == ("chatml", "yours") and view.row.supervised == sum(x != -100 for x in labels)
    assert "weight 0.25" in view.html() and "assistant only" in view.html()


def test_bad_input_is_one_sentence():
    with pytest.raises(ValueError, match=r"There are 3 labels for \d+ tokens: give one per token"):
        chatml(labels=[1, 2, 3])
    with pytest.raises(ValueError, match="no objective 'half': choose one of assistant, full"):
        mask_row(CASE, smollm2(), name="chatml", objective="half")
    with pytest.raises(ValueError, match="needs 'input_ids' and 'labels'"):
        mask_view({"input_ids": [1]}, smollm2())
    with pytest.raises(ValueError, match="The chat has no messages: pass at least one"):
        mask_view([], smollm2())
    with pytest.raises(ValueError, match="There are no rows"):
        mask_data_view([], smollm2())
    with pytest.raises(ValueError, match="ends with an assistant's answer"):
        three_renders(CASE[:2], smollm2())
    vendor = smollm2().chat_template
    with pytest.raises(ValueError, match=r"no {% generation %} markers"):
        mask_row(CASE, smollm2(), objective="assistant")
    assert smollm2().chat_template == vendor


# What it finds


def test_a_correct_row_has_no_findings():
    view = chatml(TWO_TURNS, generation_ends=[end()])
    assert wrong(view) == [] and len(view.row.findings) == 9
    assert "\n! " not in view.text()


def test_an_end_of_turn_that_is_not_learned_is_found():
    labels = [-100 if label == end() else label for label in chatml(TWO_TURNS).row.labels]
    view = chatml(TWO_TURNS, labels=labels)
    assert wrong(view) == ["terminator not trained"]
    assert len(view.findings[0].at) == 2 and "never learns to stop" in view.html()


def test_headers_and_customers_in_the_mask_are_found():
    assert wrong(chatml().objective("full")) == ["user or system text in the mask", "header in the mask"]
    ids, labels = chatml().row.ids, list(chatml().row.labels)
    first = next(t for t, label in enumerate(labels) if label != -100)
    labels[first - 1] = ids[first - 1]
    assert wrong(chatml(labels=labels)) == ["header in the mask"]


def test_a_row_without_a_label_is_found():
    assert wrong(chatml(CASE[:2])) == ["no supervised token"]
    row = {"input_ids": [4, 5, 6], "labels": [4, -100, -100]}
    assert "no supervised token" in wrong(mask_view(row, smollm2())), "the first label is nobody's target"


def test_doubled_ends_and_beginnings_are_found():
    bos = smollm2().bos_token_id
    row = {"input_ids": [bos, bos, 40, end(), end()], "labels": [-100, -100, 40, end(), end()]}
    assert wrong(mask_view(row, smollm2())) == ["doubled BOS", "doubled EOS"]
    padded = {"input_ids": [bos, 40, end(), end()], "labels": [-100, 40, end(), -100]}
    assert wrong(mask_view(padded, smollm2())) == [], "ignored ends are padding"


def test_a_trained_end_that_generation_does_not_stop_on_is_found():
    document_end = smollm2().convert_tokens_to_ids("<|endoftext|>")
    view = chatml(generation_ends=[document_end])
    assert wrong(view) == ["end not in the generation config"]


def test_a_control_token_that_a_customer_typed_stands_out():
    typed = [{"role": "user", "content": "Hi<|im_end|>\n"}, ANSWER]
    view = chatml(typed)
    assert wrong(view) == ["control token typed in a message"]
    (at,) = view.findings[0].at
    assert view.row.ids[at] == end() and view.row.messages[at] == 0
    assert re.search(r'<b class="y" tabindex=0 title="[^"]*">!&lt;\|im_end', view.html())


def test_a_system_prompt_that_nobody_wrote_is_found():
    tokenizer = smollm2()
    replaced = tokenizer.chat_template
    try:
        tokenizer.chat_template = DRIFTS["smollm2_vendor"].template
        row = mask_row([USER, ANSWER], tokenizer, objective="full")
    finally:
        tokenizer.chat_template = replaced
    (found,) = [one for one in row.wrong if one.name == "default system prompt injected"]
    assert SMOLLM2_SYSTEM_PROMPT in tokenizer.decode([row.ids[t] for t in found.at])
    assert row.roles is not None and row.roles[0] == "template"


# A data set, and three renders


def test_the_worst_rows_of_a_data_set_come_first():
    good = chatml().row
    rows = [{"input_ids": list(good.ids), "labels": list(good.labels)} for _ in range(4)]
    rows[2]["labels"] = [-100] * len(good.ids)
    rows[3]["labels"] = list(good.ids)
    view = mask_data_view(rows, smollm2())
    assert view.worst[0] == 2 and view.verdicts == {"no supervised token": 1}
    share = int(good.share * 10)
    assert view.histogram[share] == 2 and view.histogram[0] == 1 and view.histogram[9] == 1
    assert "4 rows" in view.summary and "1 without a supervised token" in view.summary
    assert "Row 2:" in view.html() and view.row(3).row.share == 1.0
    chats = mask_data_view([CASE, TWO_TURNS], smollm2(), name="chatml")
    assert [row.supervised for row in chats.rows] == [good.supervised, chatml(TWO_TURNS).row.supervised]


def test_three_renders_part_where_the_answer_begins():
    view = three_renders(
        CASE, smollm2(), prefill="Report the", chat_template=family("chatml").training_template
    )
    prompt = smollm2().apply_chat_template(
        CASE[:2],
        chat_template=family("chatml").serving_template,
        add_generation_prompt=True,
        return_dict=True,
    )["input_ids"]
    assert view.difference == len(prompt)
    assert "training has “Report”" in view.findings[1] and "U+0052 U+0065" in view.findings[1]
    assert view.findings[2] == "generation prompt has ended there."


# Twins, speed and the page


class Words(HTMLParser):
    """The text of a page as a screen reader goes through it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self._skip = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self._skip = tag in ("style", "script")

    def handle_endtag(self, tag: str) -> None:
        self._skip = False

    def handle_data(self, data: str) -> None:
        if not self._skip:
            self.found.append(data)


def test_without_style_and_script_the_page_still_says_everything():
    view = chatml()
    text = " ".join(Words(view.html()).found)
    assert view.summary in text and "not found: no supervised token" in text
    assert text.count("supervised") >= 3 and "predicts" in text


def long_chat() -> list[dict[str, str]]:
    words = "Report the damage within 48 hours and attach photos. " * 15
    return [{"role": role, "content": words} for _ in range(12) for role in ("user", "assistant")]


def test_four_thousand_tokens_are_rendered_in_under_200_ms():
    row = mask_row(long_chat(), smollm2(), name="chatml")
    copies = -(-4000 // len(row.ids))
    ids, labels = (list(values) * copies for values in (row.ids, row.labels))
    view = mask_view({"input_ids": ids[:4000], "labels": labels[:4000]}, smollm2())
    view.html()
    spent = []
    for _ in range(5):
        gc.collect()
        before = time.process_time()
        page = view.html()
        spent.append(time.process_time() - before)
    assert page.count('title="token ') == 4000
    assert min(spent) < 0.2, f"{min(spent) * 1000:.0f} ms of processor time"


def test_the_widget_toggles_objective_family_and_white_space():
    widgets = pytest.importorskip("ipywidgets")
    kinds, names, spaces, which, pane = mask_view(CASE, smollm2()).widget(page_size=20).children
    assert isinstance(pane, widgets.HTML) and "assistant only" in pane.value
    kinds.value = "full"
    assert "full sequence" in pane.value and "header in the mask" in pane.value
    names.value = "plain"
    assert "plain, full sequence" in pane.value
    spaces.value = True
    assert "↵" not in pane.value
    which.value = which.max
    last = mask_view(CASE, smollm2()).family("plain").row
    assert f"token {len(last.ids) - 1} ·" in pane.value


def test_the_data_widget_jumps_from_bad_to_better_rows():
    pytest.importorskip("ipywidgets")
    good = chatml().row
    rows = [{"input_ids": list(good.ids), "labels": list(good.labels)} for _ in range(3)]
    rows[1]["labels"] = [-100] * len(good.ids)
    _, controls, pane = mask_data_view(rows, smollm2()).widget().children
    jump, worse, better = controls.children
    assert jump.value == 1 and worse.disabled and "no supervised token" in pane.value
    better.click()
    assert jump.value != 1 and not worse.disabled


CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")


try:
    import test_viewers_browser as lab_page
    from test_viewers_browser import lab  # noqa: F401  the fixture
except pytest.skip.Exception:
    pass


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    quiet = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=quiet.split())
        yield chromium
        chromium.close()


def opened(browser: Any, html: str, theme: str = "true") -> Any:
    page = browser.new_context(viewport={"width": 1000, "height": 700}).new_page()
    page.set_default_timeout(15_000)
    page.set_content(f'<!doctype html><body data-jp-theme-light="{theme}">{html}</body>', wait_until="load")
    return page


READOUT = "element => getComputedStyle(element, '::after').content"


@needs_chromium
def test_in_a_browser_tokens_answer_to_pointer_and_keyboard_and_objectives_to_a_click(browser: Any) -> None:
    page = opened(browser, chatml(title="Running example")._repr_html_())
    token = page.locator(".k .s > u:visible", has_text="Report").first
    token.hover()
    told = token.evaluate(READOUT)
    assert "assistant, message 2" in told and "predicts “·the”" in told and "characters" in told
    page.keyboard.press("Tab")
    page.locator(".k .s > [tabindex='0']:visible").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.locator(":focus").evaluate(READOUT).startswith('"token 1 ·')
    page.get_by_text("full sequence", exact=True).first.click()
    assert page.locator(".lint .bad:visible", has_text="header in the mask").count() == 1
    heights = page.evaluate(
        "[...new Set([...document.querySelectorAll('section')].filter(s => s.offsetHeight)[0]"
        ".querySelectorAll('.mk > u, .mk > b, .mk > span'))].map(e => e.offsetHeight)"
    )
    assert max(heights) - min(heights) <= 2, "the four rows are aligned in all boxes"
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / "mask_viewer.png")


@needs_chromium
@pytest.mark.parametrize("theme", ["true", "false"], ids=["light", "dark"])
def test_in_a_browser_every_text_is_readable(browser: Any, theme: str) -> None:
    typed = [{"role": "user", "content": "Hi<|im_end|>\n"}, ANSWER]
    rows = [{"input_ids": [4, 5], "labels": [-100, -100]}, {"input_ids": [4, 5], "labels": [-100, 5]}]
    html = chatml(typed)._repr_html_() + mask_data_view(rows, smollm2())._repr_html_()
    page = opened(browser, html, theme)
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    assert page.evaluate(lab_page.CONTRAST) == []


WIDGET_CELL = """\
from chatcontract.models import load_tokenizer
from chatcontract.viewers import mask_view
chat = {chat!r}
mask_view(chat, load_tokenizer("nano"), families=["chatml", "plain"]).widget()
"""
PUT = """async ([name, content]) => {
  const token = document.cookie.match(/_xsrf=([^;]*)/);
  const headers = { "Content-Type": "application/json", "X-XSRFToken": token ? token[1] : "" };
  const body = JSON.stringify({ type: "notebook", format: "json", content });
  return (await fetch("/api/contents/" + name, { method: "PUT", headers, body })).status;
}"""


@needs_chromium
def test_in_jupyterlab_the_toggles_work_by_pointer_and_by_keyboard(browser: Any, request: Any) -> None:
    nbformat = pytest.importorskip("nbformat")
    address = request.getfixturevalue("lab")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(WIDGET_CELL.format(chat=CASE))])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    page = lab_page.in_lab(browser, address, "fresh.ipynb")
    assert page.evaluate(PUT, ["mask.ipynb", notebook]) == 201
    page.goto(f"{address}/tree/mask.ipynb?reset")
    page.wait_for_function("window.jupyterapp?.shell.currentWidget?.context?.path === 'mask.ipynb'")
    page.wait_for_function("window.jupyterapp.shell.currentWidget.sessionContext?.session?.kernel")
    assert page.evaluate(lab_page.RUN_ALL)
    view = page.locator(".jp-OutputArea-output .ccv")
    view.get_by_text("chatml, assistant only").wait_for()
    page.get_by_role("button", name="full sequence").click()
    view.get_by_text("header in the mask").first.wait_for()
    page.get_by_role("button", name="plain").focus()
    page.keyboard.press("Enter")
    view.get_by_text("plain, full sequence").wait_for()
    token = view.locator(".k .s > u", has_text="electronics").first
    token.hover()
    assert "user, message 1" in token.evaluate(READOUT)
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / "mask_jupyterlab.png")


def test_the_benchmark_says_how_the_viewers_compare(capsys: pytest.CaptureFixture[str]) -> None:
    from autograder.bench_viewers import measure

    figures = measure(tokens=800, repeats=2)
    assert set(figures) == {"mask_view", "token_view", "one widget a token"}
    assert all(seconds > 0 for seconds in figures.values())
    assert figures["mask_view"] < figures["one widget a token"]
    assert json.dumps(figures)
