"""Feedback pages: nbgrader's own page from what was graded, and one sentence where nothing was."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import jinja2
import nbgrader.server_extensions.formgrader
from jinja2 import pass_context as contextfilter
from nbconvert.exporters import HTMLExporter
from nbconvert.exporters.templateexporter import TemplateExporter
from nbconvert.filters import Highlight2HTML
from nbconvert.filters.widgetsdatatypefilter import WidgetsDataTypeFilter
from nbconvert.preprocessors import CSSHTMLHeaderPreprocessor
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell
from nbgrader.api import BaseCell, Comment, Grade, Gradebook, SubmittedAssignment, SubmittedNotebook
from nbgrader.utils import is_grade, is_solution
from traitlets.config import Config

from autograder.atomic_write import write_atomically
from autograder.bootstrap import BADGE_ID, BOOTSTRAP_ID
from autograder.faults.registry import Fault, all_faults
from autograder.grading.gradebook import (
    GraderError,
    autograded_notebook,
    default_db,
    folder_name,
    student_id,
)
from autograder.grading.graded_lab import GradedLab, load_labs
from autograder.grading.model import CellGrade, Result, Status
from autograder.grading.safe_outputs import plain_text, without_html

FEEDBACK = "feedback"
TEMPLATES = Path(__file__).parent / "templates"
# Runs no script and fetches nothing: whatever a student's code printed, the page is only text and pictures.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; form-action 'none'"

_HEADLINES = {
    Status.MISSING: "No notebook was handed in for this lab.",
    Status.NOT_GRADABLE: "This hand-in could not be graded.",
    Status.NEEDS_HUMAN: "A person has to look at this hand-in before it is graded.",
}
_ADVICE = {
    Status.MISSING: "If you did hand one in, tell your instructor where and when; otherwise hand it in now "
    "if the deadline allows it. No points were taken or given.",
    Status.NOT_GRADABLE: "Open the notebook, save it again as an .ipynb file, and hand it in once more. "
    "This is not a grade of 0.",
    Status.NEEDS_HUMAN: "There is nothing you have to do now; your instructor has a note. "
    "This is not a grade of 0.",
}


@dataclass(frozen=True)
class Mark:
    """What the gradebook says of one cell: points with what a person changed, and the comment."""

    score: float = 0.0
    waits: bool = False
    comment: str | None = None


@dataclass(frozen=True)
class Marks:
    """The gradebook's view of one student's lab, by grade_id."""

    cells: Mapping[str, Mark]
    late_penalty: float = 0.0

    @property
    def score(self) -> float:
        """Points, after a late penalty; not below 0, as in nbgrader's export."""
        return max(0.0, sum(mark.score for mark in self.cells.values()) - self.late_penalty)


def read_marks(db: str, lab: str) -> dict[str, Marks]:
    """The marks of a lab by the gradebook's name of the student, for those with a submission in it."""
    with Gradebook(db, "") as gradebook:  # no course: with one, nbgrader would write its name
        found: dict[str, dict[str, Mark]] = {}
        penalties: dict[str, float] = {}
        for submission in gradebook.assignment_submissions(lab):
            found[submission.student_id] = {}
            penalties[submission.student_id] = float(submission.late_submission_penalty or 0.0)
        for kind in (Grade, Comment):
            query = (
                gradebook.db.query(kind, BaseCell.name, SubmittedAssignment.student_id)
                .join(BaseCell, kind.cell_id == BaseCell.id)
                .join(SubmittedNotebook, kind.notebook_id == SubmittedNotebook.id)
                .join(SubmittedAssignment, SubmittedNotebook.assignment_id == SubmittedAssignment.id)
                .join(SubmittedAssignment.assignment)
                .filter_by(name=lab)
            )
            for row, name, student in query:
                old = found[student].get(name, Mark())
                if kind is Grade:
                    new = Mark(float(row.score), bool(row.needs_manual_grade), old.comment)
                else:
                    new = Mark(old.score, old.waits, row.comment)
                found[student][name] = new
        return {student: Marks(cells, penalties[student]) for student, cells in found.items()}


class _Exporter(HTMLExporter):
    """nbconvert's exporter for many pages that share most of their cells.

    It renders a text and a code cell that it has seen before only once, and leaves out the last step of
    HTMLExporter, which parses the finished page to give images an empty description: together that is four
    fifths of the time.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._rendered: dict[str, str] = {}
        self._highlight = lru_cache(maxsize=4096)(Highlight2HTML(pygments_lexer="ipython", parent=self))
        self.register_filter("highlight_code", lambda source, metadata=None: self._highlight(source))

    @contextfilter
    def markdown2html(self, context: Any, source: str) -> str:
        """nbconvert's filter of this name; remembers texts without attachments."""
        if context.get("cell", {}).get("attachments"):
            return super().markdown2html(context, source)
        if source not in self._rendered:
            self._rendered[source] = super().markdown2html(context, source)
        return self._rendered[source]

    def from_notebook_node(
        self, nb: NotebookNode, resources: dict[str, Any] | None = None, **options: Any
    ) -> tuple[str, dict[str, Any]]:
        """The page of a notebook, and nbconvert's resources."""
        resources = self._init_resources(resources)
        types = WidgetsDataTypeFilter(notebook_metadata={}, parent=self, resources=resources)
        self.register_filter("filter_data_type", types)
        return TemplateExporter.from_notebook_node(self, nb, resources, **options)


class _Pages:
    """nbgrader's page, its exporter made once for all."""

    @cached_property
    def exporter(self) -> _Exporter:
        formgrader = Path(nbgrader.server_extensions.formgrader.__file__).parent
        settings = Config()
        settings.HTMLExporter.template_name = "chatcontract_feedback"
        settings.HTMLExporter.extra_template_basedirs = [str(formgrader / "templates"), str(TEMPLATES)]
        styles = formgrader / "static" / "node_modules" / "bootstrap" / "dist" / "css"
        settings.HTMLExporter.extra_template_paths = [str(styles), str(formgrader / "templates")]
        settings.HTMLExporter.exclude_anchor_links = True
        settings.HTMLExporter.mathjax_url = ""
        settings.HTMLExporter.require_js_url = ""
        settings.HTMLExporter.jquery_url = ""
        exporter = _Exporter(config=settings)
        exporter.register_preprocessor(CSSHTMLHeaderPreprocessor, enabled=True)
        return exporter

    @cached_property
    def style(self) -> str:
        return (TEMPLATES / "feedback.css").read_text(encoding="utf-8")

    @cached_property
    def status(self) -> jinja2.Template:
        loader = jinja2.FileSystemLoader(TEMPLATES)
        return jinja2.Environment(loader=loader, autoescape=True).get_template("status.html.j2")

    @cached_property
    def faults(self) -> dict[str, Fault]:
        return {fault.id: fault for fault in all_faults()}

    def graded(self, result: Result, lab: GradedLab, marks: Marks) -> str:
        notebook = autograded_notebook(result, lab)
        notebook.cells = [cell for cell in notebook.cells if cell.id not in (BADGE_ID, BOOTSTRAP_ID)]
        for cell in notebook.cells:
            _set_mark(cell, lab, marks)
        notebook.cells.insert(0, new_markdown_cell(_summary(result, lab, marks, self.faults)))
        resources = {
            "policy": POLICY,
            "page_style": self.style,
            "nbgrader": {
                "notebook": lab.name,
                "assignment": lab.name,
                "student": result.student,
                "score": marks.score,
                "max_score": lab.possible,
                "late_penalty": marks.late_penalty,
            },
        }
        page, _ = self.exporter.from_notebook_node(notebook, resources=resources)
        return page

    def ungraded(self, result: Result, marks: Marks | None, possible: float) -> str:
        standing = (
            f"The grade of your earlier hand-in stands: {marks.score:g} of {possible:g} points."
            if marks
            else ""
        )
        return self.status.render(
            policy=POLICY,
            lab=result.lab,
            headline=_HEADLINES[result.status],
            reason=plain_text(result.reason, 1000),
            advice=_ADVICE[result.status],
            standing=standing,
        )


def _set_mark(cell: NotebookNode, lab: GradedLab, marks: Marks) -> None:
    name = cell.metadata.get("nbgrader", {}).get("grade_id", "")
    mark = marks.cells.get(name)
    if mark is None:
        return
    if is_solution(cell):
        cell.metadata.nbgrader["comment"] = without_html(mark.comment) if mark.comment else None
    if is_grade(cell):
        cell.metadata.nbgrader["score"] = mark.score
        cell.metadata.nbgrader["points"] = lab.points(name)


def _summary(result: Result, lab: GradedLab, marks: Marks, faults: Mapping[str, Fault]) -> str:
    """What a reader wants first, as Markdown: points per part, what to look at, what was repaired."""
    lines = ["| part | points | |", "|---|---|---|"]
    for grade in result.cells:
        mark = marks.cells.get(grade.grade_id, Mark())
        points = "a person reads it" if mark.waits else f"{mark.score:g} of {lab.points(grade.grade_id):g}"
        named = "; ".join(faults[f].title for f in grade.faults if f in faults)
        lines.append(f"| [{_part(grade)}](#{grade.grade_id}) | {points} | {named or _word(grade)} |")
    if marks.late_penalty:
        lines += ["", f"Late submission: {marks.late_penalty:g} points off."]
    if result.repairs:
        lines += ["", "Put right before grading:", ""]
        lines += [f"- {without_html(' '.join(plain_text(repair, 500).split()))}" for repair in result.repairs]
    return "\n".join(lines)


def _part(grade: CellGrade) -> str:
    if not grade.exercise:
        return "written answer"
    kind = {"visible": "examples", "hidden": "instructor's cases"}.get(
        grade.grade_id.rpartition("-")[2], "test"
    )
    return f"`{grade.exercise}`, {kind}"


def _word(grade: CellGrade) -> str:
    return "" if grade.verdict in ("passed", "by hand") else grade.verdict


def write_feedback(
    results: Sequence[Result],
    course: Path,
    *,
    db: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Write feedback/STUDENT/LAB/LAB.html for every result; call it after `write_results`.

    A graded lab gets nbgrader's own feedback page with the scores and comments of the gradebook, those that a
    person gave included. A hand-in that was not graded gets a page that says why and what to do. A page shows
    nothing of the instructor's cases, runs no script and fetches nothing.

    Args:
        results: of one class.
        course: the course's root.
        db: SQLAlchemy URL of the gradebook; the course's gradebook.db by default.
        progress: called with the pages written and the pages there are, after each.

    Returns:
        The pages written.

    Raises:
        GraderError: the gradebook lacks a grade that a result has.
    """
    return list(_write(results, course, db or default_db(course), progress or (lambda done, all_: None)))


def _write(
    results: Sequence[Result], course: Path, db: str, progress: Callable[[int, int], None]
) -> Iterator[Path]:
    labs = load_labs(course, {result.lab for result in results})
    marks = {name: read_marks(db, name) for name in labs}
    pages = _Pages()
    for done, result in enumerate(results, 1):
        lab, mine = labs[result.lab], marks[result.lab].get(student_id(result.student))
        path = course / FEEDBACK / folder_name(result.student) / lab.name / f"{lab.name}.html"
        if result.judged:
            if mine is None:
                raise GraderError(
                    f"The gradebook {db} holds no grade of {result.student} for {lab.name}: "
                    "write the results into it first."
                )
            page = pages.graded(result, lab, mine)
        elif result.status is Status.MISSING and mine is not None and path.is_file():
            page = None  # nothing new was handed in: the page of the earlier hand-in stays
        else:
            page = pages.ungraded(result, mine, lab.possible)
        if page is not None:
            write_atomically(path, page.encode("utf-8"))
            yield path
        progress(done, len(results))
