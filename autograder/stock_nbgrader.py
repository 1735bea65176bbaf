"""nbgrader's own commands on a course of this repository, without what the course puts in their place."""

import os
import subprocess
import sys
from pathlib import Path

from nbgrader.api import Gradebook

from autograder.grading.gradebook import default_db
from autograder.grading.sample_class import write_course
from autograder.labs import ROOT
from autograder.peak_memory import sampled

COURSE_ID = "chat-contract"
# The repository's settings without what replaces nbgrader's own way to run notebooks.
_SETTINGS = """
load_subconfig("course_settings.py")
c = get_config()
for section in list(c.values()):
    for name in list(section):
        if "autograder.grading" in repr(section[name]):
            del section[name]
"""


def write_stock_course(folder: Path, labs: tuple[str, ...], *settings: str) -> None:
    """Make a course that stock nbgrader grades: solutions and settings, without a gradebook or hand-ins.

    Args:
        settings: further lines of nbgrader_config.py, such as "c.Execute.timeout = 10".
    """
    write_course(folder, labs)
    (folder / "nbgrader_config.py").replace(folder / "course_settings.py")
    text = _SETTINGS + "".join(f"{line}\n" for line in settings)
    (folder / "nbgrader_config.py").write_text(text, encoding="utf-8")


def command(*arguments: str) -> list[str]:
    """The words that start nbgrader with these arguments."""
    return [sys.executable, "-m", "nbgrader", *arguments]


def run(course: Path, *arguments: str) -> int:
    """Run an nbgrader command in a course.

    Returns:
        The most bytes of memory that it and its kernels had.

    Raises:
        RuntimeError: it failed; the message holds its last words.
    """
    process = subprocess.Popen(
        command(*arguments),
        cwd=course,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with sampled(process.pid) as peak:
        said, _ = process.communicate()
    if process.returncode != 0:
        last = " ".join(said.strip().splitlines()[-1:])
        raise RuntimeError(f"nbgrader {' '.join(arguments)} failed: {last}")
    return peak[0]


def cell_scores(course: Path, lab: str) -> dict[str, dict[str, float | None]]:
    """What the gradebook says of a lab: by student and grade_id, None where nobody has given points."""
    with Gradebook(default_db(course), COURSE_ID) as gradebook:
        return {
            submission.student.id: {
                grade.name: _score(grade.auto_score, grade.manual_score, grade.extra_credit)
                for notebook in submission.notebooks
                for grade in notebook.grades
            }
            for submission in gradebook.assignment_submissions(lab)
        }


def _score(automatic: float | None, by_hand: float | None, extra: float | None) -> float | None:
    """The points of one cell, as nbgrader adds them up."""
    given = automatic if by_hand is None else by_hand
    return given if not extra else (given or 0.0) + extra
