"""Grades and statuses as CSV: for people, for Canvas and for Moodle; no cell can be a formula."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from autograder.atomic_write import write_atomically
from autograder.grading.feedback import Marks, read_marks
from autograder.grading.gradebook import default_db, student_id
from autograder.grading.graded_lab import GradedLab, load_labs
from autograder.grading.model import Result
from autograder.grading.safe_outputs import plain_text

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%", "＝", "＋", "－", "＠")

Cell = str | float | None


def formula_safe(text: str) -> str:
    """Text that a spreadsheet shows and never evaluates: an apostrophe goes before what starts a formula.

    White space in front does not hide a formula from every spreadsheet, so it is looked through. After
    OWASP, https://owasp.org/www-community/attacks/CSV_Injection.
    """
    flat = plain_text(text, 2000).replace("\n", " ").replace("\t", " ")
    return f"'{flat}" if flat.lstrip().startswith(_FORMULA) or text.startswith(_FORMULA) else flat


def csv_bytes(rows: Iterable[Sequence[Cell]]) -> bytes:
    """Rows as CSV (RFC 4180, UTF-8 without a byte order mark): text made formula-safe, None as an empty cell.

    No mark, because an importer that expects none takes it for a part of the first column's name.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    for row in rows:
        writer.writerow(
            [formula_safe(c) if isinstance(c, str) else "" if c is None else f"{c:g}" for c in row]
        )
    return text.getvalue().encode("utf-8")


def write_exports(results: Sequence[Result], course: Path, *, out: Path, db: str | None = None) -> list[Path]:
    """Write grades.csv, statuses.csv, canvas.csv and moodle.csv; call it after `write_results`.

    Points are the gradebook's: marks that a person gave count, and a late penalty is taken off. A lab
    without a grade is an empty cell, never a 0; what became of it stands in the column `status`. While a
    person still has to give points for a lab, its cells for Canvas and Moodle are empty too, for half a
    grade would look like a whole one.

    Args:
        results: of one class.
        course: the course's root.
        out: the folder for the files.
        db: SQLAlchemy URL of the gradebook; the course's gradebook.db by default.

    Returns:
        The four files.
    """
    labs = load_labs(course, {result.lab for result in results})
    marks = {name: read_marks(db or default_db(course), name) for name in labs}
    rows = {
        "grades.csv": _grades(results, labs, marks),
        "statuses.csv": _statuses(results),
        "canvas.csv": _canvas(results, labs, marks),
        "moodle.csv": _moodle(results, labs, marks),
    }
    for name, table in rows.items():
        write_atomically(out / name, csv_bytes(table))
    return [out / name for name in rows]


_Class = dict[str, dict[str, Marks]]


def _grades(results: Sequence[Result], labs: dict[str, GradedLab], marks: _Class) -> Iterable[Sequence[Cell]]:
    yield (
        "student",
        "lab",
        "status",
        "points",
        "possible",
        "waits_for_a_person",
        "late_penalty",
        "submitted_at_utc",
        "note",
    )
    for result in results:
        mine = marks[result.lab].get(student_id(result.student))
        note = ""
        if mine is not None and not result.judged:
            note = "the grade of an earlier hand-in"
        waiting = None if mine is None else float(sum(mark.waits for mark in mine.cells.values()))
        yield (
            result.student,
            result.lab,
            result.status.value,
            None if mine is None else mine.score,
            labs[result.lab].possible,
            waiting,
            None if mine is None else mine.late_penalty,
            result.submitted_at.isoformat() if result.submitted_at else None,
            note,
        )


def _statuses(results: Sequence[Result]) -> Iterable[Sequence[Cell]]:
    yield ("student", "lab", "status", "reason", "repairs", "notes", "flags", "seconds", "peak_mib")
    for r in results:
        yield (
            r.student,
            r.lab,
            r.status.value,
            r.reason,
            "; ".join(r.repairs),
            "; ".join(r.notes),
            "; ".join(r.flags),
            round(sum(r.seconds.values()), 2) if r.seconds else None,
            round(r.peak_memory / 2**20, 1) if r.peak_memory else None,
        )


def _final(student: str, lab: str, marks: _Class) -> float | None:
    mine = marks[lab].get(student_id(student))
    if mine is None or any(mark.waits for mark in mine.cells.values()):
        return None
    return mine.score


def _canvas(results: Sequence[Result], labs: dict[str, GradedLab], marks: _Class) -> Iterable[Sequence[Cell]]:
    """Canvas's gradebook import: these five columns, one a lab, and a row with the points possible.

    https://community.canvaslms.com/t5/Instructor-Guide/How-do-I-import-grades-in-the-Gradebook/ta-p/807
    """
    yield ("Student", "ID", "SIS User ID", "SIS Login ID", "Section", *labs)
    yield ("    Points Possible", None, None, None, None, *(lab.possible for lab in labs.values()))
    for student in dict.fromkeys(result.student for result in results):
        yield (student, None, None, student, None, *(_final(student, lab, marks) for lab in labs))


def _moodle(results: Sequence[Result], labs: dict[str, GradedLab], marks: _Class) -> Iterable[Sequence[Cell]]:
    """Moodle's CSV import, where the reader of the file maps `username` and the labs to Moodle's columns.

    https://docs.moodle.org/en/Grade_import
    """
    yield ("username", *labs)
    for student in dict.fromkeys(result.student for result in results):
        yield (student, *(_final(student, lab, marks) for lab in labs))
