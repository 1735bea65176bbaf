"""Feedback pages in a browser: the scores and comments show, and nothing of a student's runs or loads."""

import base64
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nbformat
import pytest
from graded_results import blank, course_at, graded, ungraded
from nbgrader.api import Gradebook
from playwright.sync_api import Browser, Dialog, sync_playwright

from autograder.grading.feedback import write_feedback
from autograder.grading.gradebook import write_results
from autograder.grading.model import Result, Status
from autograder.grading.safe_outputs import plain_text, safe_html, safe_outputs, without_html
from autograder.labs import ROOT

ATTACKS = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)><circle/></svg>",
    "<svg><script>alert(1)</script></svg>",
    '<iframe srcdoc="<script>alert(1)</script>"></iframe>',
    "<math><mtext><table><mglyph><style><img src onerror=alert(1)>",
    "<details open ontoggle=alert(1)>x</details>",
    '"><script>alert(1)</script>',
    "</pre></textarea></title><script>alert(1)</script>",
    "<a href=javascript:alert(1)>x</a>",
    "<scr<script></script>ipt>alert(1)</script>",
    "<!--><img src=x onerror=alert(1)>-->",
    "<object data=javascript:alert(1)></object><embed src=javascript:alert(1)>",
    "<meta http-equiv=refresh content='0;url=javascript:alert(1)'><base href=https://evil.invalid/>",
    "<style>@import 'https://evil.invalid/x.css'; body { display: none }</style>",
    "<img src=https://evil.invalid/track.png>",
    "![x](https://evil.invalid/track.png) [x](javascript:alert(1)) ![y][1]\n\n[1]: https://evil.invalid/y.png",
    "<p style='position:fixed;inset:0;background:url(https://evil.invalid/z.png)'>10 of 10 points</p>",
)
EVERYTHING = "\n\n".join(ATTACKS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu", "--disable-quic"]
        )
        yield browser
        browser.close()


def _hostile() -> Result:
    """A notebook with every attack in every place a student can write to."""
    outputs: list[Any] = [
        {"output_type": "display_data", "data": {"text/html": attack, "text/plain": attack}, "metadata": {}}
        for attack in ATTACKS
    ]
    everywhere = dict.fromkeys(
        (
            "text/markdown",
            "text/latex",
            "image/svg+xml",
            "application/javascript",
            "text/vnd.mermaid",
            "image/png",
        ),
        EVERYTHING,
    )
    script = {"application/javascript": "alert(1)", "text/html": "<script>alert(1)</script>"}
    outputs += [
        {
            "output_type": "display_data",
            "data": everywhere,
            "metadata": {"image/png": {"width": '"><script>'}},
        },
        {"output_type": "display_data", "data": script, "metadata": {}},
        {
            "output_type": "stream",
            "name": "stdout",
            "text": f"\x1b]8;;javascript:alert(1)\x07x\x1b[31m{EVERYTHING}",
        },
        {"output_type": "error", "ename": EVERYTHING, "evalue": EVERYTHING, "traceback": [EVERYTHING]},
        {"output_type": "<script>", "data": 5},
        "no output at all",
    ]
    markdown = nbformat.v4.new_markdown_cell(EVERYTHING, attachments={'"><script>alert(1)</script>': script})
    raw = nbformat.v4.new_raw_cell(EVERYTHING, metadata={"raw_mimetype": "text/html"})
    code = nbformat.v4.new_code_cell(EVERYTHING, metadata={"tags": ['"><script>alert(1)</script>']})
    code.id = '"><script>alert(1)</script>'
    result = graded(
        "mallory",
        "04_labels",
        outputs={"assistant-labels-stub": outputs},
        answers={"assistant-only-choice": EVERYTHING},
        extra_cells=[markdown, raw, code],
        repairs=(EVERYTHING,),
    )
    assert result.notebook is not None
    result.notebook["metadata"] |= {"title": EVERYTHING, "widgets": {"x": EVERYTHING}}
    cells = [
        c.model_copy(update={"text": f"{c.text}\nraised ValueError: {EVERYTHING}"}) for c in result.cells
    ]
    cells[1] = cells[1].model_copy(update={"verdict": "failed", "points": 0.0})
    return result.model_copy(update={"cells": tuple(cells)})


def _seen_by(browser: Browser, path: Path, width: int = 1280) -> tuple[list[str], list[str], str, int]:
    """Dialogs, requests to other sites, visible text, and the width the page needs."""
    page = browser.new_page(viewport={"width": width, "height": 900})
    dialogs: list[str] = []
    requests: list[str] = []

    def dismiss(dialog: Dialog) -> None:
        dialogs.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", dismiss)
    page.on("request", lambda request: requests.append(request.url))
    page.route("http*://**", lambda route: route.abort())
    page.goto(path.as_uri())
    page.wait_for_timeout(200)
    text = page.inner_text("body")
    wide = page.evaluate("document.documentElement.scrollWidth")
    page.close()
    return dialogs, [url for url in requests if "evil" in url or "javascript" in url], text, wide


def test_nothing_a_student_wrote_runs_or_loads(tmp_path, browser):
    course = course_at(tmp_path, ["04_labels"])
    result = _hostile()
    write_results([result], course=course)
    (ours,) = write_feedback([result], course)
    dialogs, requests, text, wide = _seen_by(browser, ours, 400)
    assert (dialogs, requests) == ([], []) and wide <= 400
    assert "<script>alert(1)</script>" in text  # shown as text
    html = ours.read_text()
    assert "default-src 'none'" in html and "<script" not in html.lower()

    # The cleaning holds alone, too: without the page's policy, and on the page that stock nbgrader writes.
    bare = tmp_path / "bare.html"
    bare.write_text(html.replace("Content-Security-Policy", "X-Nothing"))
    assert _seen_by(browser, bare)[:2] == ([], [])
    done = subprocess.run(
        [sys.executable, "-m", "nbgrader", "generate_feedback", "04_labels", "--force"],
        cwd=course,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert ours.read_text() != html
    assert _seen_by(browser, ours)[:2] == ([], [])


def test_a_page_shows_scores_comments_and_mistakes_and_fits_a_phone(tmp_path, browser):
    course = course_at(tmp_path, ["02_roles"])
    result = graded(
        "anna",
        shares={"role-errors-hidden": 0.5, "repair-visible": 0.0},
        faults=["roles.ends_with_user"],
        repairs=("The cell role-errors-hidden was put back.",),
    )
    write_results([result], course=course)
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}", "chat-contract") as gradebook:
        comment = gradebook.find_comment("repair-stub", "02_roles", "02_roles", "anna")
        comment.manual_comment = "Talk to me about *this* one."
        gradebook.find_grade("repair-visible", "02_roles", "02_roles", "anna").manual_score = 0.25
        gradebook.db.commit()
    seen: list[tuple[int, int]] = []
    (page,) = write_feedback([result], course, progress=lambda done, of: seen.append((done, of)))
    assert page == course / "feedback" / "anna" / "02_roles" / "02_roles.html" and seen == [(1, 1)]
    _, _, text, wide = _seen_by(browser, page, 400)
    assert wide <= 400
    for words in (
        "02_roles (Score: 9.0 / 10.0)",
        "0.25 of 0.5",
        "A chat that ends with the customer is accepted",
        "Count the rows whose last role is not assistant.",
        "Talk to me about this one.",
        "The cell role-errors-hidden was put back.",
    ):
        assert words in text
    html = page.read_text()
    assert "HIDDEN TESTS" not in html and "autograder" not in html


def test_a_hand_in_without_a_grade_gets_a_sentence_and_what_to_do(tmp_path, browser):
    course = course_at(tmp_path, ["02_roles"])
    results = [
        ungraded("dora", Status.NOT_GRADABLE, "The file ends in the middle: <script>alert(1)</script>."),
        ungraded("emil", Status.NEEDS_HUMAN, "Two answers were found."),
        ungraded("finn", Status.MISSING, ""),
    ]
    write_results(results, course=course)
    texts = []
    for page in write_feedback(results, course):
        dialogs, _, text, wide = _seen_by(browser, page, 400)
        assert not dialogs and wide <= 400
        texts.append(text)
    assert "could not be graded" in texts[0] and "hand it in once more" in texts[0]
    assert "<script>alert(1)</script>" in texts[0] and "not a grade of 0" in texts[0]
    assert "nothing you have to do" in texts[1] and "No notebook was handed in" in texts[2]


def test_an_earlier_grade_is_told_and_its_page_is_not_lost(tmp_path):
    course = course_at(tmp_path, ["02_roles"])
    write_results([graded("anna"), graded("ben")], course=course)
    first = {page.parts[-3]: page for page in write_feedback([graded("anna"), graded("ben")], course)}
    kept = first["anna"].read_bytes()
    again = [ungraded("anna", Status.MISSING, ""), ungraded("ben", Status.NOT_GRADABLE, "Cut off.")]
    write_results(again, course=course)
    assert write_feedback(again, course) == [first["ben"]]
    assert first["anna"].read_bytes() == kept
    assert "your earlier hand-in stands: 10 of 10 points" in first["ben"].read_text()


def test_a_blank_hand_in_has_a_page(tmp_path):
    course = course_at(tmp_path, ["02_roles"])
    write_results([blank("ben")], course=course)
    (page,) = write_feedback([blank("ben")], course)
    assert "Score: 0.0 / 10.0" in page.read_text() and "No response." in page.read_text()


def test_outputs_are_bounded_and_keep_what_is_honest():
    picture = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"0" * 100).decode()
    table = "<table style='color: red; position: fixed'><tr><td>1 &lt; 2</td></tr></table>"
    honest = [
        {"output_type": "stream", "name": "stdout", "text": ["loss \x1b[32m0.5\x1b[0m\n", "done\n"]},
        {
            "output_type": "display_data",
            "data": {"image/png": picture, "text/plain": "<Figure>"},
            "metadata": {},
        },
        {"output_type": "execute_result", "data": {"text/html": table}, "metadata": {}, "execution_count": 1},
    ]
    text, figure, cleaned = safe_outputs(honest)
    assert text.text == "loss 0.5\ndone\n" and figure.data["image/png"] == picture
    assert "<td>1 &lt; 2</td>" in cleaned.data["text/html"] and "color:red" in cleaned.data["text/html"]
    assert "position" not in cleaned.data["text/html"]

    flood = [{"output_type": "stream", "name": "stdout", "text": "x" * 30_000_000}] * 1000
    bounded = safe_outputs(flood)
    assert sum(len(output.text) for output in bounded) < 60_000
    assert "30,000,000 characters" in bounded[0].text and "further outputs" in bounded[-1].text
    huge = [{"output_type": "display_data", "data": {"image/png": picture * 20_000}, "metadata": {}}]
    assert "image/png" not in safe_outputs(huge)[0].data
    assert (
        nbformat.validate(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("", outputs=bounded)]))
        is None
    )


def test_cleaning_twice_changes_nothing():
    picture = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"0" * 2_000_000).decode()
    outputs: list[Any] = [
        {"output_type": "stream", "name": "stdout", "text": "x" * 30_000},
        *({"output_type": "display_data", "data": {"text/html": attack}} for attack in ATTACKS),
        {"output_type": "display_data", "data": {"image/png": picture}},
        *({"output_type": "stream", "name": "stderr", "text": "y" * 9_000 * n} for n in range(90)),
        {"output_type": "error", "ename": "E", "evalue": "v" * 9_000, "traceback": ["t" * 99_000, "t"]},
    ]
    once = safe_outputs(outputs)
    assert safe_outputs(once) == once


def test_words_of_the_course_survive_the_cleaning():
    prose = "Between `<|im_start|>` and `<s>` stands a < b, and **bold** [a link](https://a.org)."
    assert without_html(prose).replace("\u2060", "") == prose
    assert without_html("<|im_start|> a < b") == "<|im_start|> a < b"
    assert plain_text("é \u202eright to left\x00\tok") == "é right to left\tok"
    assert safe_html("<p onclick='x()'>5 &gt; 3 <b>yes</b></p>") == "<p>5 &gt; 3 <b>yes</b></p>"


def test_pages_that_two_graders_clean_at_once_do_not_run_into_each_other():
    pages = [f"<table><tr><td>{n}<td><b>{n}</b> &amp; <i>{n}</i></table>" * 20 for n in range(60)]
    alone = [safe_html(page) for page in pages]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(safe_html, pages)) == alone


@pytest.mark.parametrize(
    "page",
    [
        "<b>" * 200,
        "<p>" + "".join(f"<b title={i}>" for i in range(8)) + "<p>x</p>" * 12_000,
        "<!--" * 2_000,
        "<" * 2_000,
        "&" * 200_000,
        "<p " + " ".join(f"a{i}=1" for i in range(200)) + ">",
    ],
    ids=["deep", "opened again", "comments", "brackets", "ampersands", "attributes"],
)
def test_html_that_takes_long_to_clean_gives_a_sentence(page: str) -> None:
    assert safe_html(page).startswith("<p>[HTML not shown")


def test_a_notebooks_html_is_bounded_as_a_whole() -> None:
    table = {"output_type": "display_data", "data": {"text/html": "<i>x</i>" * 9_000}}
    shown = ["not shown" in output.data["text/html"] for output in safe_outputs([table] * 6)]
    assert shown == sorted(shown) and set(shown) == {False, True}
