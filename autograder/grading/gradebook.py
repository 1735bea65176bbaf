"""Writes what grading gave into nbgrader's gradebook, all or nothing, and then into its autograded folder."""

import hashlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_output
from nbgrader.api import (
    BaseCell,
    Comment,
    Grade,
    Gradebook,
    GradeCell,
    InvalidEntry,
    SolutionCell,
    Student,
    SubmittedAssignment,
    SubmittedNotebook,
    TaskCell,
    new_uuid,
)
from nbgrader.preprocessors import SaveCells
from nbgrader.utils import is_grade, is_solution, is_task, parse_utc
from sqlalchemy import JSON, String
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, scoped_session, sessionmaker

from autograder.faults.registry import all_faults
from autograder.grading.graded_lab import GradedLab, load_labs, nbgrader_config
from autograder.grading.model import CellGrade, Result, Status
from autograder.grading.safe_outputs import make_safe, plain_text, without_html
from autograder.labs import UnknownLab

GRADED = frozenset({Status.GRADED, Status.GRADED_WITH_REPAIRS})
NO_RESPONSE = "No response."  # nbgrader's own words for an untouched answer
AUTOGRADED = "autograded"
_STUDENT_LIMIT = 128  # of nbgrader's column


class GraderError(Exception):
    """Something the instructor has to put right, in a sentence that says whether grades were written."""


@dataclass(frozen=True)
class Change:
    """A mark that the machine gave and that is another now, or one that was kept.

    Attributes:
        student, lab: whose.
        cell: grade_id; empty where the lab as a whole is meant.
        before, after: points; None while a person has to give them.
        note: why there is no new mark; empty for a changed one.
    """

    student: str
    lab: str
    cell: str
    before: float | None
    after: float | None
    note: str = ""

    def __str__(self) -> str:
        if self.note:
            return f"{self.student}, {self.lab}: {self.note}"
        shown = ["by hand" if p is None else f"{p:g}" for p in (self.before, self.after)]
        return f"{self.student}, {self.lab}, {self.cell}: {shown[0]} -> {shown[1]}"


def default_db(course: Path) -> str:
    """The SQLAlchemy URL of the course's own gradebook."""
    return f"sqlite:///{(course / 'gradebook.db').absolute()}"


def folder_name(student: str) -> str:
    """The folder below autograded/ and feedback/: the student's name, if it can be one folder and no path."""
    plain = re.fullmatch(r"[^/\\\x00-\x1f\ud800-\udfff]{1,120}", student)
    if plain and len(student.encode()) < 250 and student.strip(". ") and student == student.strip():
        return student
    digest = hashlib.sha256(student.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{re.sub(r'[^A-Za-z0-9_-]+', '_', student)[:80]}-{digest}"


def student_id(student: str) -> str:
    """What the gradebook calls a student: the name, or a short one where no database could hold it."""
    fits = re.fullmatch(rf"[^\x00\ud800-\udfff]{{1,{_STUDENT_LIMIT}}}", student, re.DOTALL)
    return student if fits else folder_name(student)


def authored_outputs(grade: CellGrade) -> list[NotebookNode]:
    """The outputs of a test cell that show its verdict, and from which nbgrader reads the same points.

    A stream with the text and a last value with the points. A failed test gets no error output: nbgrader
    scores the value 0.0 the same, and the text reads better than a traceback. A test whose points a person
    has to give is the exception: nbgrader would take a missing value for full points.
    """
    outputs = []
    if grade.text.strip():
        outputs.append(new_output("stream", name="stdout", text=f"{plain_text(grade.text).rstrip()}\n"))
    if grade.points is None:
        why = "A person gives the points of this cell."
        outputs.append(new_output("error", ename="ByHand", evalue=why, traceback=[why]))
    else:
        outputs.append(new_output("execute_result", data={"text/plain": repr(float(grade.points))}))
    return outputs


def write_results(results: Sequence[Result], *, course: Path, db: str | None = None) -> list[Change]:
    """Write grades, comments and autograded notebooks; nothing of it, if anything of it is wrong.

    Labs, their cells and points are brought up to date from solutions/. Marks, extra credit and comments that
    a person gave stay. A cell needs a person as nbgrader has it: it has no automatic points, or it was marked
    by hand before and its answer or its automatic points changed since. A hand-in that was not graded writes
    no grade at all; where an earlier one was graded, its grade stands, and the changes say so.

    Args:
        results: of one class; one for each student and lab.
        course: the course's root, which holds solutions/ and gets autograded/.
        db: SQLAlchemy URL of the gradebook; the course's gradebook.db by default.

    Returns:
        Every automatic mark that differs from the one that was there, and every grade that was kept.

    Raises:
        GraderError: a score is no number between 0 and the cell's points, a graded cell has no verdict or
            two, a lab's cells changed while it has submissions, or the database or the disk refused. Only
            where the disk refuses at the very end grades were written, and the message says so.
    """
    labs = _checked(results, course)
    course_id = nbgrader_config(course).CourseDirectory.get("course_id", "")
    staged: list[tuple[Path, Path]] = []
    try:
        with _batch(db or default_db(course), course_id or "") as gradebook:
            changes = [
                change
                for name, lab in labs.items()
                for change in _write_lab(
                    gradebook, lab, [r for r in results if r.lab == name], course, staged
                )
            ]
            gradebook.db().commit_batch()
        _put_in_place(staged)
    except (SQLAlchemyError, InvalidEntry, ImportError, OSError) as error:
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise GraderError(
            f"The grades were not written: {reason}. Put that right and grade again with --resume."
        ) from error
    finally:
        for part, _ in staged:
            part.unlink(missing_ok=True)
    return changes


def _put_in_place(staged: Sequence[tuple[Path, Path]]) -> None:
    left: list[str] = []
    for part, path in staged:
        try:
            part.replace(path)
        except OSError as error:
            left.append(f"{path} ({error.strerror})")
    if left:
        more = f" and {len(left) - 1} more" if len(left) > 1 else ""
        raise GraderError(
            f"The grades were written, but the notebook that shows them was not: {left[0]}{more}. Put that "
            "right and grade again with --resume."
        )


def _checked(results: Sequence[Result], course: Path) -> dict[str, GradedLab]:
    try:
        labs = load_labs(course, {result.lab for result in results})
    except UnknownLab as error:
        raise GraderError(str(error)) from error
    problems: list[str] = []
    seen: set[tuple[str, str]] = set()
    for result in results:
        if (result.student, result.lab) in seen:
            problems.append(f"{result.student} has two results for {result.lab}")
        seen.add((result.student, result.lab))
        if result.judged:
            problems += [f"{result.student}, {result.lab}, {p}" for p in _problems(result, labs[result.lab])]
    if problems:
        more = f" ({len(problems) - 1} more such)" if len(problems) > 1 else ""
        raise GraderError(f"Nothing was written, because of a mistake in the grader: {problems[0]}{more}.")
    return labs


def _problems(result: Result, lab: GradedLab) -> Iterator[str]:
    names = [grade.grade_id for grade in result.cells]
    for name in lab.graded:
        if names.count(name) != 1:
            yield f"{name}: {names.count(name)} verdicts instead of one"
    for grade in result.cells:
        if grade.grade_id not in lab.graded:
            yield f"{grade.grade_id}: the lab has no such graded cell"
            continue
        most = lab.points(grade.grade_id)
        points = grade.points
        if points is None:
            continue
        if type(points) not in (int, float):
            yield f"{grade.grade_id}: the score is a {type(points).__name__}, not a plain number"
        elif not math.isfinite(points) or not 0 <= points <= most:
            yield f"{grade.grade_id}: the score {points!r} is not between 0 and {most:g}"
        elif grade.possible != most:
            yield f"{grade.grade_id}: graded out of {grade.possible:g}, but the lab gives {most:g}"
    if result.notebook is None:
        yield "there is no autograded notebook"


class _Tables(DeclarativeBase):
    """What is kept in the gradebook beside nbgrader's own tables."""


class _MarkedAnswers(_Tables):
    """Digests of the answers that the marks of a submission were given for, by grade_id.

    The notebooks in autograded/ cannot tell: every gradebook of the course (--db) writes the same ones.
    """

    __tablename__ = "chatcontract_marked_answers"

    submission_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    digests: Mapped[dict[str, str]] = mapped_column(JSON)


class _BatchSession(Session):
    """nbgrader's API commits in every call; here that only flushes, until the whole batch is in."""

    def commit(self) -> None:
        self.flush()

    def commit_batch(self) -> None:
        """Make the batch last."""
        super().commit()


@contextmanager
def _batch(db: str, course_id: str) -> Iterator[Gradebook]:
    gradebook = Gradebook(db, course_id) if course_id else Gradebook(db)
    try:
        gradebook.db.remove()
        _Tables.metadata.create_all(gradebook.engine)
        gradebook.db = scoped_session(
            sessionmaker(class_=_BatchSession, autoflush=False, bind=gradebook.engine, future=True)
        )
        yield gradebook
    except BaseException:
        gradebook.db.rollback()
        raise
    finally:
        gradebook.close()


class _SaveCells(SaveCells):
    """nbgrader's own step, on a gradebook that is open already."""

    def save(self, gradebook: Gradebook, lab: GradedLab) -> None:
        self.gradebook, self.notebook_id, self.assignment_id = gradebook, lab.name, lab.name
        self.new_grade_cells: dict[str, dict] = {}
        self.new_solution_cells: dict[str, dict] = {}
        self.new_task_cells: dict[str, dict] = {}
        self.new_source_cells: dict[str, dict] = {}
        for index, cell in enumerate(lab.kept.cells):
            self.preprocess_cell(cell, {}, index)
        try:
            self._create_notebook(lab.kept)
        except RuntimeError as error:
            raise GraderError(
                f"{lab.name} has other graded cells than the gradebook, which holds submissions to it, and "
                "nbgrader cannot change them then: use the old notebook, or a new gradebook (--db)."
            ) from error


@dataclass
class _Rows:
    """What the gradebook holds of one student's lab, by grade_id."""

    submission: SubmittedAssignment
    grades: dict[str, Grade]
    comments: dict[str, Comment]
    answers: _MarkedAnswers

    @property
    def graded_before(self) -> bool:
        return any(
            grade.auto_score is not None or grade.manual_score is not None for grade in self.grades.values()
        )

    @property
    def auto_total(self) -> float:
        return float(sum(grade.auto_score or 0.0 for grade in self.grades.values()))


def _write_lab(
    gradebook: Gradebook,
    lab: GradedLab,
    results: Sequence[Result],
    course: Path,
    staged: list[tuple[Path, Path]],
) -> Iterator[Change]:
    gradebook.update_or_create_assignment(lab.name)
    gradebook.db.flush()
    _SaveCells().save(gradebook, lab)
    known = {name for (name,) in gradebook.db.query(Student.id)}
    for result in results:
        if student_id(result.student) not in known:
            gradebook.db.add(Student(id=student_id(result.student)))
    gradebook.db.flush()
    rows = _rows(gradebook, lab.name)
    for result in results:
        existing = rows.get(student_id(result.student))
        if not result.judged:
            if existing and existing.graded_before:
                yield _kept(result, existing)
            continue
        row = existing or _new_rows(gradebook, lab, student_id(result.student))
        if result.submitted_at is not None:
            row.submission.timestamp = parse_utc(result.submitted_at)
        path = course / AUTOGRADED / folder_name(result.student) / lab.name / f"{lab.name}.ipynb"
        notebook = autograded_notebook(result, lab)
        yield from _write_marks(result, lab, row, notebook, path, new=existing is None)
        gradebook.db.add(row.answers)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        staged.append((part, path))
        part.write_text(nbformat.writes(notebook), encoding="utf-8")
    gradebook.db.flush()


def _kept(result: Result, row: _Rows) -> Change:
    total = row.auto_total
    words = {
        Status.MISSING: "nothing was handed in this time",
        Status.NOT_GRADABLE: "this hand-in could not be graded",
        Status.NEEDS_HUMAN: "this hand-in needs a person",
    }
    note = f"{words[result.status]}; the earlier grade ({total:g} points by machine) stands"
    return Change(result.student, result.lab, "", total, total, note)


def _rows(gradebook: Gradebook, lab: str) -> dict[str, _Rows]:
    """The gradebook's rows of one lab, by student, in four queries."""
    by_id = {s.id: _Rows(s, {}, {}, _answers_of(s)) for s in gradebook.assignment_submissions(lab)}
    for answers in gradebook.db.query(_MarkedAnswers).filter(_MarkedAnswers.submission_id.in_(by_id)):
        by_id[answers.submission_id].answers = answers
    for kind, place in ((Grade, "grades"), (Comment, "comments")):
        query = (
            gradebook.db.query(kind, BaseCell.name, SubmittedNotebook.assignment_id)
            .join(BaseCell, kind.cell_id == BaseCell.id)
            .join(SubmittedNotebook, kind.notebook_id == SubmittedNotebook.id)
            .filter(SubmittedNotebook.assignment_id.in_(by_id))
        )
        for row, name, submission in query:
            getattr(by_id[submission], place)[name] = row
    return {row.submission.student_id: row for row in by_id.values()}


def _new_rows(gradebook: Gradebook, lab: GradedLab, student: str) -> _Rows:
    """What `Gradebook.add_submission` makes, without reading every other submission of the lab for it."""
    notebook = gradebook.find_notebook(lab.name, lab.name)
    submission = SubmittedAssignment(id=new_uuid(), assignment_id=notebook.assignment_id, student_id=student)
    submitted = SubmittedNotebook(id=new_uuid(), notebook_id=notebook.id, assignment_id=submission.id)
    rows = _Rows(submission, {}, {}, _answers_of(submission))
    for cell in notebook._base_cells:
        if isinstance(cell, GradeCell | TaskCell):
            rows.grades[cell.name] = Grade(cell_id=cell.id, notebook_id=submitted.id)
        if isinstance(cell, SolutionCell | TaskCell):
            rows.comments[cell.name] = Comment(cell_id=cell.id, notebook_id=submitted.id)
    gradebook.db.add(submission)
    gradebook.db.flush()
    gradebook.db.add(submitted)
    gradebook.db.flush()
    gradebook.db.add_all([*rows.grades.values(), *rows.comments.values()])
    return rows


def _write_marks(
    result: Result, lab: GradedLab, row: _Rows, notebook: NotebookNode, path: Path, *, new: bool
) -> Iterator[Change]:
    marked = any(grade.manual_score is not None for grade in row.grades.values())
    before = _answers(path) if marked else {}
    now = _sources(notebook)
    digests = {name: hashlib.sha256(source.encode()).hexdigest() for name, source in now.items()}
    for cell in result.cells:
        grade = row.grades[cell.grade_id]
        after = None if cell.points is None else float(cell.points)
        same_points = grade.auto_score == after
        if not new and not same_points:
            yield Change(result.student, result.lab, cell.grade_id, grade.auto_score, after)
        answer = lab.answers[cell.grade_id]
        # nbgrader's own autograde writes only the notebook, another gradebook's run the same notebook.
        same_answer = (
            answer in before
            and before[answer] == now.get(answer)
            and row.answers.digests.get(answer) == digests.get(answer)
        )
        if grade.manual_score is None or not (same_points and same_answer):
            grade.needs_manual_grade = grade.manual_score is not None or after is None
        grade.auto_score = after
    for name, comment in row.comments.items():
        comment.auto_comment = _comment(name, result, lab, now)
    row.answers.digests = digests


def _answers_of(submission: SubmittedAssignment) -> _MarkedAnswers:
    return _MarkedAnswers(submission_id=submission.id, digests={})


def _answers(path: Path) -> dict[str, str]:
    try:
        return _sources(nbformat.read(path, as_version=4))
    except Exception:  # no earlier notebook, or none that can be read: then every answer counts as changed
        return {}


def _sources(notebook: NotebookNode) -> dict[str, str]:
    return {cell.metadata.nbgrader.grade_id: cell.source for cell in notebook.cells if is_solution(cell)}


def _comment(name: str, result: Result, lab: GradedLab, now: Mapping[str, str]) -> str | None:
    """What the answer's comment says: nothing for a right answer, else the diagnosis in a few lines.

    The first paragraph of each verdict and the first check of the mistakes it names; the verdict in full,
    with its table of cases, is the output of the test cell below the answer.
    """
    if now.get(name) == lab.by_grade_id[name].source:
        return NO_RESPONSE
    verdicts = [grade for grade in result.cells if lab.answers[grade.grade_id] == name]
    failed = [v for v in verdicts if v.text.strip() and v.verdict not in ("passed", "by hand")]
    paragraphs = [plain_text(v.text, 4000).strip().partition("\n\n")[0] for v in failed]
    lines = [line.strip() for paragraph in paragraphs for line in paragraph.splitlines()]
    named = {fault for v in failed for fault in v.faults}
    for fault in (f for f in all_faults() if f.id in named):
        told = "\n".join(lines)
        first = f"First check: {fault.first_check}"
        lines += [line for line in (fault.consequence, first) if line not in told]
    return without_html("  \n".join(dict.fromkeys(lines))).replace("](", "]\u2060(") or None


def autograded_notebook(result: Result, lab: GradedLab) -> NotebookNode:
    """The notebook that nbgrader shows: the student's answers, the course's cells, the authored verdicts.

    Everything that a student's code printed is cleaned, so that the formgrader shows no page of a student's.
    """
    notebook = nbformat.from_dict(result.notebook)
    for cell in notebook.cells:
        if isinstance(cell.source, list):
            cell.source = "".join(cell.source)
    make_safe(notebook, lab.released)
    verdicts = {grade.grade_id: grade for grade in result.cells}
    for cell in notebook.cells:
        if is_task(cell) or not is_grade(cell) or is_solution(cell):
            continue
        name = cell.metadata.nbgrader.grade_id
        cell.source = lab.by_grade_id[name].source
        if cell.cell_type == "code":
            cell.outputs = authored_outputs(verdicts[name])
    return notebook
