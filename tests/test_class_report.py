"""The class report: its figures, its tables, and the page in a browser at two widths."""

import csv
import hashlib
import io
import re
from collections.abc import Iterator

import pytest
from graded_results import FORMULA_NAME, blank, graded, lab_named, solutions_of, ungraded
from playwright.sync_api import Browser, sync_playwright

from autograder.faults.registry import all_faults
from autograder.grading.class_report import class_report, write_report
from autograder.grading.model import Result, Status
from autograder.grading.similar import similar_pairs
from autograder.labs import ROOT

HOSTILE_NAME = "<script>alert(1)</script>"


def _own_style(seed: int) -> dict[str, str]:
    """The right answers, written by somebody who comments a lot and in words of their own."""

    def commented(number: int, line: str) -> str:
        return f"{line}  # {hashlib.sha256(f'{seed} {number}'.encode()).hexdigest()}"

    return {
        name: "\n".join(commented(*numbered) for numbered in enumerate(source.splitlines()))
        for name, source in solutions_of("02_roles").items()
    }


@pytest.fixture(scope="module")
def results() -> list[Result]:
    copied = _own_style(99)
    tweaked = {name: source.replace("errors", "errs", 1) for name, source in copied.items()}
    return [
        graded("anna", answers=_own_style(1)),
        graded(
            "ben", answers=_own_style(2), shares={"role-errors-hidden": 0.5}, faults=["roles.ends_with_user"]
        ),
        graded(
            HOSTILE_NAME,
            answers=_own_style(3),
            shares={"role-errors-hidden": 0.0, "repair-hidden": 0.0, "repair-visible": 0.0},
            faults=["roles.ends_with_user", "roles.names_only"],
        ),
        graded(
            "copier", answers=copied, status=Status.GRADED_WITH_REPAIRS, repairs=("A test was put back.",)
        ),
        graded("copied", answers=tweaked, flags=("30 MB of output cut",), peak_memory=2**30),
        blank(FORMULA_NAME),
        blank("blank too"),
        ungraded("dora", Status.NOT_GRADABLE, "The file is cut off."),
        ungraded("emil", Status.NEEDS_HUMAN, "Two answers were found."),
        ungraded("finn", Status.MISSING, ""),
        graded("anna", "04_labels"),
    ]


def test_statuses_scores_and_difficulty_are_those_of_the_class(results):
    report = class_report(results, ROOT)
    roles, labels = report.labs
    assert (roles.students, roles.graded, roles.graded_with_repairs) == (10, 6, 1)
    assert (roles.needs_human, roles.not_gradable, roles.missing) == (1, 1, 1)
    # anna, copier and copied 100 %, ben 92.5 %, one 65 %, two blanks: those without a grade are in no mean.
    assert roles.bins == (2, 0, 0, 0, 0, 0, 1, 0, 0, 4)
    assert roles.mean == pytest.approx((300 + 92.5 + 65) / 7, abs=0.06) and roles.median == 92.5
    assert roles.peak_mib == 1024 and roles.own_compute == pytest.approx(66.7, abs=0.1)
    assert labels.mean == 100  # of the points that need no person
    difficulty = {row.exercise: row for row in report.exercises}
    assert difficulty["conversation_errors"].full == pytest.approx(100 * 5 / 7, abs=0.06)
    assert difficulty["role_errors"].mean == pytest.approx(100 * (3 + 1.25 / 2 + 0.25) / 7, abs=0.06)
    assert difficulty["role_errors"].weakest == "order (1)"


def test_mistakes_are_counted_explained_and_lead_to_a_section_of_the_lab(results):
    first, second = class_report(results, ROOT).faults
    assert (first.id, first.count, second.id, second.count) == (
        "roles.ends_with_user",
        2,
        "roles.names_only",
        1,
    )
    catalogued = next(f for f in all_faults() if f.id == first.id)
    assert (first.consequence, first.first_check) == (catalogued.consequence, catalogued.first_check)
    text = "\n".join(cell.source for cell in lab_named("02_roles").released.cells)
    assert f"## {first.section}\n" in text and "Reasons" in first.section


def test_what_needs_a_person_stands_first_and_is_complete(results):
    tasks = class_report(results, ROOT).tasks
    assert [(t.student, t.kind) for t in tasks] == [
        ("emil", "decide"),
        ("dora", "ask for it again"),
        ("copied", "look at it"),
        ("anna", "mark by hand"),
    ]


def test_near_copies_are_hinted_at_and_blank_or_different_ones_are_not(results):
    lab, solutions = lab_named("02_roles"), solutions_of("02_roles")
    graded_results = [r for r in results if r.lab == "02_roles" and r.notebook]
    pairs, compared = similar_pairs(graded_results, lab, solutions)
    assert [(p.one, p.other) for p in pairs] == [("copier", "copied")] and compared == 5
    assert pairs[0].alike > 98 > pairs[0].to_solution

    same = [graded("x"), graded("y")]  # two right answers in the instructor's own words
    (pair,), _ = similar_pairs(same, lab, solutions)
    assert (pair.alike, pair.to_solution) == (100, 100)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu", "--disable-quic"]
        )
        yield browser
        browser.close()


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_stands_alone_on_a_phone_and_in_the_dark(results, tmp_path, browser, width, scheme):
    page_file, *_ = write_report(results, ROOT, out=tmp_path)
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    page.goto(page_file.as_uri())
    text = page.inner_text("body")
    assert asked == [page_file.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert text.index("For a person") < text.index("emil") < text.index("What became of the hand-ins")
    assert HOSTILE_NAME in page.text_content("body")
    assert "A hint, not a verdict" in text and "at least 90 %" in text
    ink, paper = (
        _brightness(page.evaluate(f"getComputedStyle(document.body).{name}"))
        for name in ("color", "backgroundColor")
    )
    assert (ink < 80 and paper > 230) if scheme == "light" else (ink > 200 and paper < 50)
    page.close()


def _brightness(colour: str) -> float:
    return sum(map(int, re.findall(r"\d+", colour)[:3])) / 3


def test_every_table_is_a_csv_that_no_spreadsheet_runs(results, tmp_path):
    _, *tables = write_report(results, ROOT, out=tmp_path)
    assert [t.name.removeprefix("class_report_") for t in tables] == [
        "to_do.csv",
        "labs.csv",
        "exercises.csv",
        "faults.csv",
        "similar.csv",
        "repairs.csv",
    ]
    rows = {t.name: list(csv.DictReader(io.StringIO(t.read_text("utf-8"), newline=""))) for t in tables}
    assert rows["class_report_labs.csv"][0]["missing"] == "1"
    assert rows["class_report_labs.csv"][0]["bins"] == "2 0 0 0 0 0 1 0 0 4"
    assert rows["class_report_faults.csv"][0]["students"] == f"ben, {HOSTILE_NAME}"
    assert rows["class_report_similar.csv"][0]["other"] == "copied"
    cells = [cell for table in rows.values() for row in table for cell in row.values()]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]


def test_a_class_of_nobody_and_a_class_without_grades_have_a_report(tmp_path):
    for results in ([], [ungraded("finn", Status.MISSING, "")]):
        page, *_ = write_report(results, ROOT, out=tmp_path)
        text = page.read_text("utf-8")
        assert "Nothing waits for a person." in text and "nan" not in text.lower()
