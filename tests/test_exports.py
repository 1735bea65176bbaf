"""The CSV files that Canvas, Moodle and spreadsheets take: no formula, no zero where there is no grade."""

import csv
import io
from pathlib import Path

import pytest
from graded_results import FORMULA_NAME, blank, course_at, graded, ungraded
from nbgrader.api import Gradebook

from autograder.grading.exports import csv_bytes, formula_safe, write_exports
from autograder.grading.gradebook import write_results
from autograder.grading.model import Status

RESULTS = [
    graded("anna", shares={"role-errors-hidden": 0.5}, notes=("=1+1", "an extra file")),
    blank("ben"),
    graded(FORMULA_NAME),
    ungraded("dora", Status.NOT_GRADABLE, "@SUM(A1) is not a notebook"),
    ungraded("emil", Status.NEEDS_HUMAN, "Two answers, neither marked"),
    ungraded("finn", Status.MISSING, ""),
    graded("anna", "04_labels"),
    blank("ben", "04_labels"),
    ungraded("finn", Status.MISSING, "", "04_labels"),
]


@pytest.fixture
def course(tmp_path: Path) -> Path:
    course = course_at(tmp_path, ["02_roles", "04_labels"])
    write_results(RESULTS, course=course)
    return course


def _tables(course: Path) -> dict[str, list[dict[str, str]]]:
    files = write_exports(RESULTS, course, out=course / "grading")
    assert [f.name for f in files] == ["grades.csv", "statuses.csv", "canvas.csv", "moodle.csv"]
    return {f.stem: list(csv.DictReader(io.StringIO(f.read_text("utf-8"), newline=""))) for f in files}


def test_a_missing_hand_in_is_an_empty_cell_and_a_blank_one_a_zero(course):
    tables = _tables(course)
    points = {(row["student"], row["lab"]): row["points"] for row in tables["grades"]}
    assert points["anna", "02_roles"] == "9.25" and points["ben", "02_roles"] == "0"
    assert points["finn", "02_roles"] == points["dora", "02_roles"] == points["emil", "02_roles"] == ""
    assert {row["student"]: row["status"] for row in tables["statuses"] if row["lab"] == "02_roles"} == {
        "anna": "graded",
        "ben": "graded",
        "'" + FORMULA_NAME: "graded",
        "dora": "not_gradable",
        "emil": "needs_human",
        "finn": "missing",
    }
    for name in ("canvas", "moodle"):
        student = "Student" if name == "canvas" else "username"
        cells = {row[student]: row["02_roles"] for row in tables[name]}
        assert (cells["anna"], cells["ben"], cells["finn"], cells["dora"]) == ("9.25", "0", "", "")


def test_half_a_grade_is_not_handed_to_canvas_or_moodle(course):
    tables = _tables(course)
    row = next(r for r in tables["grades"] if (r["student"], r["lab"]) == ("anna", "04_labels"))
    assert (row["points"], row["possible"], row["waits_for_a_person"]) == ("16", "18", "1")
    assert next(r for r in tables["moodle"] if r["username"] == "anna")["04_labels"] == ""

    with Gradebook(f"sqlite:///{course / 'gradebook.db'}", "chat-contract") as gradebook:
        grade = gradebook.find_grade("assistant-only-choice", "04_labels", "04_labels", "anna")
        grade.manual_score, grade.needs_manual_grade = 1.5, False
        gradebook.db.commit()
    tables = _tables(course)
    assert next(r for r in tables["moodle"] if r["username"] == "anna")["04_labels"] == "17.5"
    assert next(r for r in tables["canvas"] if r["Student"] == "anna")["04_labels"] == "17.5"


def test_canvas_finds_its_columns_and_the_points_possible(course):
    _tables(course)
    lines = (course / "grading" / "canvas.csv").read_text("utf-8").splitlines()
    assert lines[0] == "Student,ID,SIS User ID,SIS Login ID,Section,02_roles,04_labels"
    assert lines[1] == "    Points Possible,,,,,10,18"
    assert lines[2].startswith("anna,,,anna,,9.25,")


FORMULAS = ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1+1", FORMULA_NAME, "|calc", "＝1+1")
HIDDEN_FORMULAS = ("\x00=1", "\u202e=1", "\x1b[31m=1")


@pytest.mark.parametrize("text", FORMULAS + HIDDEN_FORMULAS)
def test_no_text_starts_a_formula(text):
    written = next(csv.reader(io.StringIO(csv_bytes([[text, 1.5]]).decode("utf-8"))))
    assert written[0].startswith("'") and written[1] == "1.5"
    assert not set(written[0]) & set("\t\r\n\x00\x1b\u202e")


def test_plain_names_stay_as_they_are_and_every_row_is_one_line(course):
    assert formula_safe("Zoë, Ångström-Lee; 3 = 2 + 1") == "Zoë, Ångström-Lee; 3 = 2 + 1"
    for path in write_exports(RESULTS, course, out=course / "grading"):
        data = path.read_bytes()
        assert not data.startswith(b"\xef\xbb\xbf") and data.endswith(b"\r\n")
        for row in csv.reader(io.StringIO(data.decode("utf-8"), newline="")):
            assert not [cell for cell in row if cell.lstrip().startswith(("=", "+", "-", "@"))]
