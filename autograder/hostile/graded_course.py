"""What a course holds after grading, whoever graded it: nbgrader's gradebook, notebooks and pages."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbgrader.api import Gradebook

from autograder.grading.gradebook import default_db
from autograder.hostile.short_lab import LAB
from autograder.stock_nbgrader import COURSE_ID, cell_scores

# Characters of a page that are looked at.
_LONGEST_PAGE = 8_000_000


@dataclass(frozen=True)
class GradedCourse:
    """Plain data on one graded class.

    Attributes:
        scores: points by student and grade_id, None where there are none; a student without any is absent.
        notebooks: autograded notebooks by student.
        pages: feedback pages by student.
    """

    scores: dict[str, dict[str, float | None]]
    notebooks: dict[str, dict[str, Any]]
    pages: dict[str, str]


def read_graded_course(course: Path, students: list[str]) -> GradedCourse:
    """Read a course that was graded.

    Raises:
        SQLAlchemyError: the gradebook cannot be read.
    """
    notebooks, pages = {}, {}
    for student in students:
        notebook = course / "autograded" / student / LAB / f"{LAB}.ipynb"
        page = course / "feedback" / student / LAB / f"{LAB}.html"
        if notebook.is_file():
            notebooks[student] = json.loads(notebook.read_bytes())
        if page.is_file():
            pages[student] = page.read_text(encoding="utf-8", errors="replace")[:_LONGEST_PAGE]
    return GradedCourse(cell_scores(course, LAB), notebooks, pages)


def mark_by_hand(course: Path, student: str, points: dict[str, float]) -> None:
    """Give a student points for cells, as a person does in the formgrader."""
    with Gradebook(default_db(course), COURSE_ID) as gradebook:
        for grade_id, score in points.items():
            grade = gradebook.find_grade(grade_id, LAB, LAB, student)
            grade.manual_score, grade.needs_manual_grade = score, False
        gradebook.db.commit()
