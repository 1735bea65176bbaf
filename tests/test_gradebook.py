"""The gradebook room against nbgrader itself: what it writes, nbgrader reads, marks, exports and shows."""

import csv
import math
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from graded_results import FORMULA_NAME, blank, course_at, graded, lab_named, ungraded
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.preprocessors import SaveAutoGrades
from nbgrader.utils import determine_grade

from autograder.grading.gradebook import (
    Change,
    GraderError,
    authored_outputs,
    folder_name,
    write_results,
)
from autograder.grading.model import CellGrade, Result, Status
from autograder.labs import ROOT

TABLES = ("assignment", "student", "submitted_assignment", "submitted_notebook", "grade", "comment")


@pytest.fixture
def course(tmp_path: Path) -> Path:
    return course_at(tmp_path, ["02_roles", "04_labels"])


def _gradebook(course: Path) -> Gradebook:
    return Gradebook(f"sqlite:///{course / 'gradebook.db'}", "chat-contract")


def _nbgrader(course: Path, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nbgrader", *arguments],
        cwd=course,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _dump(course: Path) -> dict[str, list[tuple[Any, ...]]]:
    with sqlite3.connect(course / "gradebook.db") as db:
        return {table: sorted(db.execute(f"select * from {table}"), key=repr) for table in TABLES}


def _autograded(course: Path) -> dict[str, bytes]:
    return {str(p.relative_to(course)): p.read_bytes() for p in sorted(course.glob("autograded/**/*.*"))}


def test_nbgrader_exports_shows_and_gives_feedback_on_what_was_written(course):
    half = {"role-errors-hidden": 0.5}
    results = [
        graded("anna", shares=half, faults=["roles.ends_with_user"]),
        graded("anna", "04_labels"),
        blank("ben"),
        graded(FORMULA_NAME),
    ]
    assert write_results(results, course=course) == []

    _nbgrader(course, "export")
    with (course / "grades.csv").open(newline="") as file:
        rows = {(row["assignment"], row["student_id"]): row for row in csv.DictReader(file)}
    assert (rows["02_roles", "anna"]["score"], rows["02_roles", "anna"]["max_score"]) == ("9.25", "10.0")
    assert rows["02_roles", "anna"]["timestamp"] == "2026-11-20 12:00:00"
    assert rows["02_roles", "ben"]["score"] == "0.0"

    _nbgrader(course, "generate_feedback", "02_roles", "--student=anna")
    page = (course / "feedback" / "anna" / "02_roles" / "02_roles.html").read_text()
    assert "(Score: 9.25 / 10.0)" in page and "A chat that ends with the customer is accepted" in page

    with _gradebook(course) as gradebook:
        listed = gradebook.notebook_submission_dicts("02_roles", "02_roles")  # by the formgrader
        shown = {submission["student"]: submission for submission in listed}
        assert shown["anna"]["score"] == 9.25 and shown["anna"]["failed_tests"]
        assert not shown[FORMULA_NAME]["failed_tests"]
        assert shown["ben"]["failed_tests"] and not shown["ben"]["needs_manual_grade"]
        choice = gradebook.find_grade("assistant-only-choice", "04_labels", "04_labels", "anna")
        assert choice.needs_manual_grade and choice.auto_score is None and choice.max_score == 2


def test_labs_are_recorded_as_nbgrader_records_them(tmp_path):
    course = course_at(tmp_path / "ours", ["04_labels"])
    write_results([graded("anna", "04_labels")], course=course)
    stock = course_at(tmp_path / "stock", ["04_labels"])
    _nbgrader(stock, "generate_assignment", "04_labels")
    queries = (
        "select name, cell_type, locked, source, checksum from source_cell",
        "select name, type, max_score, cell_type from base_cell join grade_cells using (id)",
        "select name, type from base_cell join solution_cells using (id)",
        "select assignment.name, duedate, course_id, notebook.name, kernelspec from assignment "
        "join notebook on assignment_id = assignment.id",
    )
    for query in queries:
        ours, theirs = (
            sorted(sqlite3.connect(root / "gradebook.db").execute(query)) for root in (course, stock)
        )
        assert ours == theirs and ours


@pytest.mark.parametrize("points", [0, 0.1 + 0.2, 0.75, 1.5])
def test_stock_nbgrader_reads_the_same_points_from_the_cell(points):
    grade = CellGrade(grade_id="a", points=points, possible=1.5, verdict="partial", text="1.5\nnot a number")
    cell = nbformat.v4.new_code_cell("x", outputs=authored_outputs(grade))
    cell.metadata.nbgrader = {"grade": True, "solution": False, "grade_id": "a", "points": 1.5}
    assert determine_grade(cell) == (points, 1.5)


def test_stock_savegrades_on_the_autograded_notebooks_changes_no_score(course):
    shares = {"role-errors-hidden": 0.33, "repair-visible": 0.0, "repair-hidden": 0.0}
    results = [
        graded("anna", shares=shares),
        blank("ben"),
        blank("ben", "04_labels"),
        graded("cleo", "04_labels"),
    ]
    write_results(results, course=course)
    before = _dump(course)["grade"]
    for result in results:
        path = course / "autograded" / result.student / result.lab / f"{result.lab}.ipynb"
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        resources = {
            "nbgrader": {
                "notebook": result.lab,
                "assignment": result.lab,
                "student": result.student,
                "db_url": f"sqlite:///{course / 'gradebook.db'}",
            }
        }
        SaveAutoGrades().preprocess(notebook, resources)
    assert _dump(course)["grade"] == before


def _mark(course: Path, student: str, cell: str, lab: str, points: float, words: str) -> None:
    """What a person does in the formgrader."""
    with _gradebook(course) as gradebook:
        grade = gradebook.find_grade(cell, lab, lab, student)
        grade.manual_score, grade.extra_credit, grade.needs_manual_grade = points, 0.5, False
        answer = lab_named(lab).answers[cell]
        gradebook.find_comment(answer, lab, lab, student).manual_comment = words
        gradebook.db.commit()


def _marks(course: Path, student: str, cell: str, lab: str) -> tuple[Any, ...]:
    with _gradebook(course) as gradebook:
        grade = gradebook.find_grade(cell, lab, lab, student)
        comment = gradebook.find_comment(lab_named(lab).answers[cell], lab, lab, student)
        return (
            grade.auto_score,
            grade.manual_score,
            grade.extra_credit,
            grade.needs_manual_grade,
            comment.comment,
        )


def test_what_a_person_gave_survives_and_is_reviewed_only_after_a_change(course):
    written, cell, lab = "Because the answer is what is learned.", "assistant-only-choice", "04_labels"
    first = graded("anna", lab, answers={cell: written})
    write_results([first], course=course)
    _mark(course, "anna", cell, lab, 1.5, "Say which tokens.")
    _mark(course, "anna", "assistant-labels-hidden", lab, 3, "Right for another reason.")

    write_results([first], course=course)
    assert _marks(course, "anna", cell, lab) == (None, 1.5, 0.5, False, "Say which tokens.")
    assert _marks(course, "anna", "assistant-labels-hidden", lab)[:4] == (3, 3, 0.5, False)

    changed = graded("anna", lab, answers={cell: written + " More."}, shares={"assistant-labels-hidden": 0.0})
    changes = write_results([changed], course=course)
    assert changes == [Change("anna", lab, "assistant-labels-hidden", 3.0, 0.0)]
    assert str(changes[0]) == "anna, 04_labels, assistant-labels-hidden: 3 -> 0"
    assert _marks(course, "anna", cell, lab) == (None, 1.5, 0.5, True, "Say which tokens.")
    assert _marks(course, "anna", "assistant-labels-hidden", lab)[:4] == (0, 3, 0.5, True)


def test_a_mark_is_reviewed_though_another_gradebook_had_the_new_answer_first(course):
    written, cell, lab = "Because the answer is what is learned.", "assistant-only-choice", "04_labels"
    write_results([graded("anna", lab, answers={cell: written})], course=course)
    _mark(course, "anna", cell, lab, 1.5, "Say which tokens.")
    other = f"sqlite:///{course / 'other.db'}"
    (course / "other.db").write_bytes((course / "gradebook.db").read_bytes())
    changed = graded("anna", lab, answers={cell: written + " More."})
    for _ in range(2):
        write_results([changed], course=course, db=other)
    write_results([changed], course=course)
    assert _marks(course, "anna", cell, lab) == (None, 1.5, 0.5, True, "Say which tokens.")


def test_a_blank_written_answer_gets_a_zero_and_another_one_waits_for_a_person(course):
    write_results([blank("ben", "04_labels"), graded("anna", "04_labels")], course=course)
    assert _marks(course, "ben", "assistant-only-choice", "04_labels") == (
        0,
        None,
        None,
        False,
        "No response.",
    )
    assert _marks(course, "anna", "assistant-only-choice", "04_labels") == (None, None, None, True, None)


def test_the_comment_is_the_diagnosis_and_not_the_whole_report(course):
    result = graded("anna", shares={"role-errors-visible": 0.0, "role-errors-hidden": 0.0})
    cells = list(result.cells)
    report = (
        "role_errors: 2 of 9 cases failed. A short reason.\n\ncase   verdict\nno roles  ✗ <b>[x](http://y)"
    )
    cells[0] = cells[0].model_copy(update={"text": report, "faults": ("roles.ends_with_user",)})
    write_results([result.model_copy(update={"cells": tuple(cells)})], course=course)
    comment = _marks(course, "anna", "role-errors-visible", "02_roles")[-1]
    assert comment.splitlines() == [
        "role_errors: 2 of 9 cases failed. A short reason.  ",
        "role_errors: 0 of 1.5 points for the instructor's cases.  ",
        "There is no answer to learn: the row trains on nothing, or on the customer's words.  ",
        "First check: Count the rows whose last role is not assistant.",
    ]
    assert _marks(course, "anna", "repair-hidden", "02_roles")[-1] is None


def test_grading_again_changes_nothing_and_a_new_verdict_is_listed(course):
    results = [graded("anna"), graded("ben"), graded("ben", "04_labels")]
    write_results(results, course=course)
    before, files = _dump(course), _autograded(course)
    assert write_results(results, course=course) == []
    assert (_dump(course), _autograded(course)) == (before, files)

    results[1] = graded("ben", shares={"repair-hidden": 0.0, "repair-visible": 0.0})
    assert write_results(results, course=course) == [
        Change("ben", "02_roles", "repair-visible", 0.5, 0.0),
        Change("ben", "02_roles", "repair-hidden", 1.5, 0.0),
    ]


BAD_POINTS = [
    (math.nan, "is not between 0 and 1.5"),
    (math.inf, "is not between 0 and 1.5"),
    (-0.5, "is not between 0 and 1.5"),
    (1.6, "is not between 0 and 1.5"),
    (np.float64(1.0), "is a float64, not a plain number"),
    (True, "is a bool, not a plain number"),
    ("1.0", "is a str, not a plain number"),
]


def test_one_bad_score_and_nothing_of_the_class_is_written(course):
    write_results([graded("anna", shares={"repair-hidden": 0.0})], course=course)
    before, files = _dump(course), _autograded(course)
    for points, why in BAD_POINTS:
        bad = graded("zoe")
        cells = list(bad.cells)
        assert cells[1].grade_id == "role-errors-hidden"
        cells[1] = cells[1].model_copy(update={"points": points})
        results = [graded("anna"), graded("ben"), bad.model_copy(update={"cells": tuple(cells)})]
        with pytest.raises(GraderError, match=f"zoe, 02_roles, role-errors-hidden: the score .*{why}"):
            write_results(results, course=course)
        assert (_dump(course), _autograded(course)) == (before, files), points


def test_a_missing_or_unknown_verdict_is_the_graders_mistake(course):
    whole = graded("anna")
    for cells in (whole.cells[1:], (*whole.cells, whole.cells[0])):
        with pytest.raises(GraderError, match=r"role-errors-visible: [02] verdicts instead of one"):
            write_results([whole.model_copy(update={"cells": cells})], course=course)
    stray = whole.cells[0].model_copy(update={"grade_id": "no-such-cell"})
    with pytest.raises(GraderError, match="no such graded cell"):
        write_results([whole.model_copy(update={"cells": (*whole.cells, stray)})], course=course)
    with pytest.raises(GraderError, match="two results"):
        write_results([whole, whole], course=course)


def test_when_the_disk_refuses_no_grade_is_written(course):
    (course / "autograded").mkdir()
    (course / "autograded" / "ben").write_text("a file where a folder has to be")
    with pytest.raises(GraderError, match="The grades were not written"):
        write_results([graded("anna"), graded("ben")], course=course)
    assert not _dump(course)["grade"] and not _dump(course)["student"]
    assert [p for p in _autograded(course) if "anna" in p] == []


def test_grades_that_were_written_are_not_denied_where_a_notebook_was_not(course):
    in_the_way = course / "autograded" / "anna" / "02_roles" / "02_roles.ipynb"
    (in_the_way / "folder").mkdir(parents=True)
    with pytest.raises(GraderError, match=r"The grades were written, but .*anna/02_roles/02_roles.ipynb \("):
        write_results([graded("anna"), graded("ben")], course=course)
    assert len(_dump(course)["submitted_assignment"]) == 2
    assert [p.name for p in (course / "autograded").rglob("*.*")] == ["02_roles.ipynb"] * 2
    assert (course / "autograded" / "ben" / "02_roles" / "02_roles.ipynb").is_file()


def test_what_was_not_graded_is_no_zero_and_an_earlier_grade_stands(course):
    write_results([graded("anna"), graded("ben"), graded("cleo")], course=course)
    before, files = _dump(course), _autograded(course)
    changes = write_results(
        [
            ungraded("anna", Status.NOT_GRADABLE, "The file is cut off."),
            ungraded("ben", Status.NEEDS_HUMAN, "Two answers."),
            ungraded("cleo", Status.MISSING, ""),
            *(
                ungraded(f"new-{s}", s, "x")
                for s in (Status.NOT_GRADABLE, Status.NEEDS_HUMAN, Status.MISSING)
            ),
        ],
        course=course,
    )
    assert [str(c) for c in changes] == [
        "anna, 02_roles: this hand-in could not be graded; the earlier grade (10 points by machine) stands",
        "ben, 02_roles: this hand-in needs a person; the earlier grade (10 points by machine) stands",
        "cleo, 02_roles: nothing was handed in this time; the earlier grade (10 points by machine) stands",
    ]
    assert _dump(course)["grade"] == before["grade"] and _autograded(course) == files
    with _gradebook(course) as gradebook:
        assert gradebook.find_student("new-missing").id
        with pytest.raises(MissingEntry):
            gradebook.find_submission("02_roles", "new-missing")


def test_no_name_leaves_its_folder(course):
    names = ["../../evil", "a/b", "a_b", "..", " .hidden", "x" * 200, FORMULA_NAME, "Zoë Ångström", "a\nb"]
    folders = [folder_name(name) for name in names]
    assert len(set(folders)) == len(names) and folder_name("Zoë Ångström") == "Zoë Ångström"
    assert all("/" not in f and f not in ("..", ".") and len(f.encode()) < 250 for f in folders)
    write_results([graded(name) for name in names], course=course)
    assert sorted(p.name for p in (course / "autograded").iterdir()) == sorted(folders)
    assert not (course.parent / "evil").exists()


def test_cells_cannot_change_under_submissions(course):
    write_results([graded("anna")], course=course)
    path = course / "solutions" / "02_roles" / "02_roles.ipynb"
    notebook = nbformat.read(path, as_version=4)
    gone = [c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade_id") != "repair-hidden"]
    notebook.cells = gone
    nbformat.write(notebook, path)
    fewer = graded("anna")
    cells = tuple(c for c in fewer.cells if c.grade_id != "repair-hidden")
    before = _dump(course)
    with pytest.raises(GraderError, match="02_roles has other graded cells than the gradebook"):
        write_results([fewer.model_copy(update={"cells": cells})], course=course)
    assert _dump(course) == before


def test_points_may_change_and_a_lab_may_come_before_its_first_submission(course):
    write_results([ungraded("finn", Status.MISSING, "")], course=course)
    first = graded("finn")
    write_results([first], course=course)
    path = course / "solutions" / "02_roles" / "02_roles.ipynb"
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.metadata.get("nbgrader", {}).get("grade_id") == "repair-hidden":
            cell.metadata.nbgrader.points = 4
    nbformat.write(notebook, path)
    with pytest.raises(GraderError, match=r"repair-hidden: graded out of 1.5, but the lab gives 4"):
        write_results([first], course=course)
    *others, last = first.cells
    new = first.model_copy(update={"cells": (*others, last.model_copy(update={"possible": 4, "points": 4}))})
    assert write_results([new], course=course) == [Change("finn", "02_roles", "repair-hidden", 1.5, 4.0)]
    with _gradebook(course) as gradebook:
        submission = gradebook.find_submission("02_roles", "finn")
        assert (submission.score, submission.max_score) == (12.5, 12.5)


def test_a_database_that_cannot_be_reached_is_said_in_one_sentence(course):
    with pytest.raises(GraderError, match=r"The grades were not written: .* grade again"):
        write_results([graded("anna")], course=course, db=f"sqlite:///{course}/no/such/folder/x.db")
    assert not (course / "autograded" / "anna").exists()


def test_hidden_tests_are_in_no_autograded_notebook(course):
    stolen = graded("anna")
    notebook = stolen.notebook
    assert notebook is not None
    for cell in notebook["cells"]:
        if cell["metadata"].get("nbgrader", {}).get("grade_id") == "repair-hidden":
            cell["source"] += "\nfrom autograder.checks import judge  # the judge left its own source"
            cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "2 of 1.5 points"}]
    write_results([Result(**{**dict(stolen), "notebook": notebook})], course=course)
    (text,) = (data.decode() for data in _autograded(course).values())
    assert "BEGIN HIDDEN TESTS" not in text and "autograder.checks" not in text
    assert "2 of 1.5 points" not in text and "repair: 1.5 of 1.5 points" in text
