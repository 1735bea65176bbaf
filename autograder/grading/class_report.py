"""The class report: one HTML file without anything outside it, and its tables as CSV."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path
from typing import Any

import jinja2
import nbformat

from autograder.atomic_write import write_atomically
from autograder.faults.registry import all_faults
from autograder.grading.exports import csv_bytes
from autograder.grading.gradebook import GRADED
from autograder.grading.graded_lab import SOURCE, GradedLab, load_labs
from autograder.grading.model import CellGrade, Result, Status
from autograder.grading.safe_outputs import plain_text
from autograder.grading.similar import SHORTEST, THRESHOLD, Group, Pair, groups_of, similar_pairs

TEMPLATES = Path(__file__).parent / "templates"
BINS = 10
MARK_BY_HAND = "mark by hand"
# What is most urgent stands first.
KINDS = ("decide", "ask for it again", "look at it", MARK_BY_HAND)

STATUS_WORDS = {
    Status.GRADED: "graded",
    Status.GRADED_WITH_REPAIRS: "graded with repairs",
    Status.NEEDS_HUMAN: "needs a person",
    Status.NOT_GRADABLE: "not gradable",
    Status.MISSING: "missing",
}


@dataclass(frozen=True)
class Task:
    """Something a person has to do or to look at."""

    student: str
    lab: str
    kind: str
    what: str


@dataclass(frozen=True)
class LabRow:
    """What became of one lab: hand-ins by status, automatic scores, time and memory.

    Attributes:
        mean, median: percent of the points that the machine gives, over graded hand-ins; None without any.
        bins: graded hand-ins by tenth of the points; the last bin holds full marks too.
        seconds, slowest: median and longest time of a hand-in, all phases.
        own_compute: percent of all seconds that the lab's own cells took.
        peak_mib: most memory of one hand-in.
    """

    lab: str
    students: int
    graded: int
    graded_with_repairs: int
    needs_human: int
    not_gradable: int
    missing: int
    mean: float | None
    median: float | None
    seconds: float | None
    slowest: float | None
    own_compute: float | None
    peak_mib: float | None
    bins: tuple[int, ...] = field(default=())


@dataclass(frozen=True)
class ExerciseRow:
    """How hard an exercise was: percent of its automatic points on average, percent with all of them."""

    lab: str
    exercise: str
    section: str
    answers: int
    mean: float
    full: float
    blank: int
    examples_only: int
    weakest: str


@dataclass(frozen=True)
class FaultRow:
    """A catalogued mistake that the class made."""

    count: int
    title: str
    id: str
    lab: str
    exercise: str
    section: str
    consequence: str
    first_check: str
    citation: str
    students: str


@dataclass(frozen=True)
class RepairRow:
    """A repair and whom it was made for."""

    count: int
    lab: str
    repair: str
    students: str


@dataclass(frozen=True)
class Report:
    """Everything the page shows."""

    tasks: list[Task]
    labs: list[LabRow]
    exercises: list[ExerciseRow]
    faults: list[FaultRow]
    pairs: list[Pair]
    compared: int
    repairs: list[RepairRow]

    @property
    def urgent(self) -> list[Task]:
        """What to do, the plain marking of written answers left out."""
        return [task for task in self.tasks if task.kind != MARK_BY_HAND]

    @property
    def marking(self) -> dict[tuple[str, str], list[str]]:
        """Who waits for points on written answers, by lab and cells."""
        found: dict[tuple[str, str], list[str]] = defaultdict(list)
        for task in self.tasks:
            if task.kind == MARK_BY_HAND:
                found[task.lab, task.what].append(task.student)
        return found

    @property
    def groups(self) -> list[Group]:
        """The pairs joined to groups."""
        return groups_of(self.pairs)


def class_report(results: Sequence[Result], course: Path) -> Report:
    """Put the report together; text of students and from their files is cleaned, not yet escaped."""
    labs = load_labs(course, {result.lab for result in results})
    by_lab = {name: [r for r in results if r.lab == name] for name in labs}
    pairs: list[Pair] = []
    compared = 0
    for name, lab in labs.items():
        found, counted = similar_pairs(by_lab[name], lab, _solutions(course, name))
        pairs += found
        compared += counted
    return Report(
        tasks=sorted(
            (task for result in results for task in _tasks(result)), key=lambda task: KINDS.index(task.kind)
        ),
        labs=[_lab_row(name, by_lab[name]) for name in labs],
        exercises=[row for name, lab in labs.items() for row in _exercises(by_lab[name], lab)],
        faults=_faults(results, labs),
        pairs=pairs,
        compared=compared,
        repairs=_repairs(results),
    )


def _solutions(course: Path, lab: str) -> dict[str, str]:
    notebook = nbformat.read(course / SOURCE / lab / f"{lab}.ipynb", as_version=4)
    settings = [(cell, cell.metadata.get("nbgrader", {})) for cell in notebook.cells]
    return {s["grade_id"]: cell.source for cell, s in settings if s.get("solution")}


def _tasks(result: Result) -> list[Task]:
    def task(kind: str, what: str) -> Task:
        return Task(plain_text(result.student, 200), result.lab, kind, plain_text(what, 500))

    tasks = []
    if result.status is Status.NEEDS_HUMAN:
        tasks.append(task("decide", result.reason or "The hand-in could not be matched with the lab."))
    if result.status is Status.NOT_GRADABLE:
        tasks.append(task("ask for it again", result.reason or "The hand-in could not be read."))
    waiting = [grade.grade_id for grade in result.cells if grade.points is None]
    if waiting:
        tasks.append(task(MARK_BY_HAND, ", ".join(waiting)))
    tasks += [task("look at it", flag) for flag in result.flags]
    return tasks


def _share(result: Result) -> float | None:
    """Percent of the points that needed no person; None where there are none."""
    given = [grade for grade in result.cells if grade.points is not None]
    possible = sum(grade.possible for grade in given)
    return 100 * sum(grade.points or 0.0 for grade in given) / possible if possible else None


def _lab_row(lab: str, results: Sequence[Result]) -> LabRow:
    statuses = Counter(result.status for result in results)
    shares = [s for r in results if r.status in GRADED and (s := _share(r)) is not None]
    bins = Counter(min(int(share * BINS / 100), BINS - 1) for share in shares)
    times = [sum(r.seconds.values()) for r in results if r.seconds]
    own = sum(r.seconds.get("cells", 0.0) for r in results)
    memory = max((r.peak_memory for r in results), default=0)
    return LabRow(
        lab=lab,
        students=len(results),
        **{status.value: statuses[status] for status in Status},
        mean=round(statistics.fmean(shares), 1) if shares else None,
        median=round(statistics.median(shares), 1) if shares else None,
        bins=tuple(bins[i] for i in range(BINS)),
        seconds=round(statistics.median(times), 2) if times else None,
        slowest=round(max(times), 2) if times else None,
        own_compute=round(100 * own / sum(times), 1) if times and sum(times) else None,
        peak_mib=round(memory / 2**20, 1) if memory else None,
    )


def _exercises(results: Sequence[Result], lab: GradedLab) -> list[ExerciseRow]:
    grades: dict[str, list[list[CellGrade]]] = defaultdict(list)
    for result in results:
        mine: dict[str, list[CellGrade]] = defaultdict(list)
        for grade in result.cells:
            if grade.exercise and grade.points is not None:
                mine[grade.exercise].append(grade)
        for exercise, cells in mine.items():
            grades[exercise].append(cells)
    rows = []
    for exercise, answers in grades.items():
        shares = [
            sum(c.points or 0.0 for c in cells) / (sum(c.possible for c in cells) or 1.0) for cells in answers
        ]
        failed = Counter(
            p.name
            for cells in answers
            for cell in cells
            for p in cell.properties
            if p.passed < p.cases and cell.verdict != "no answer"
        )
        weakest = failed.most_common(1)
        rows.append(
            ExerciseRow(
                lab=lab.name,
                exercise=exercise,
                section=lab.section(answers[0][0].grade_id),
                answers=len(answers),
                mean=round(100 * statistics.fmean(shares), 1),
                full=round(100 * statistics.fmean(share >= 1 for share in shares), 1),
                blank=sum(all(c.verdict == "no answer" for c in cells) for cells in answers),
                examples_only=sum(
                    any(c.verdict == "passes examples only" for c in cells) for cells in answers
                ),
                weakest=f"{weakest[0][0]} ({weakest[0][1]})" if weakest else "",
            )
        )
    return rows


def _faults(results: Sequence[Result], labs: dict[str, GradedLab]) -> list[FaultRow]:
    made: dict[str, dict[str, CellGrade]] = defaultdict(dict)
    where: dict[str, str] = {}
    for result in results:
        for grade in result.cells:
            for name in grade.faults:
                made[name][result.student] = grade
                where[name] = result.lab
    known = {fault.id: fault for fault in all_faults()}
    rows = [
        FaultRow(
            count=len(made[name]),
            title=known[name].title,
            id=name,
            lab=lab,
            exercise=known[name].exercise,
            section=labs[lab].section(next(iter(made[name].values())).grade_id),
            consequence=known[name].consequence,
            first_check=known[name].first_check,
            citation=known[name].citation,
            students=", ".join(plain_text(student, 200) for student in made[name]),
        )
        for name, lab in where.items()
        if name in known
    ]
    return sorted(rows, key=lambda row: (-row.count, row.id))


def _repairs(results: Sequence[Result]) -> list[RepairRow]:
    students: dict[tuple[str, str], list[str]] = defaultdict(list)
    for result in results:
        for repair in result.repairs:
            students[result.lab, plain_text(repair, 300)].append(plain_text(result.student, 200))
    rows = [RepairRow(len(names), lab, repair, ", ".join(names)) for (lab, repair), names in students.items()]
    return sorted(rows, key=lambda row: (-row.count, row.lab, row.repair))


def _page(report: Report) -> str:
    loader = jinja2.FileSystemLoader(TEMPLATES)
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["number"] = _number
    return environment.get_template("class_report.html.j2").render(
        report=report,
        style=(TEMPLATES / "class_report.css").read_text(encoding="utf-8"),
        words={status.value: word for status, word in STATUS_WORDS.items()},
        threshold=THRESHOLD,
        shortest=SHORTEST,
    )


def _number(value: float | None, unit: str = "") -> str:
    return "–" if value is None else f"{value:g}{unit}"


def write_report(results: Sequence[Result], course: Path, *, out: Path) -> list[Path]:
    """Write class_report.html and its tables class_report_*.csv.

    The page is for instructors: it names students. It needs no network, runs no script, and adapts to phones,
    dark screens and paper. Scores are those of the machine; marks given by hand are not in it.

    Args:
        results: of one class, over one lab or several.
        course: the course's root.
        out: the folder for the files.

    Returns:
        The page first, then the tables.
    """
    report = class_report(results, course)
    tables: dict[str, tuple[type, Sequence[Any]]] = {
        "to_do": (Task, report.tasks),
        "labs": (LabRow, [_flat(row) for row in report.labs]),
        "exercises": (ExerciseRow, report.exercises),
        "faults": (FaultRow, report.faults),
        "similar": (Pair, report.pairs),
        "repairs": (RepairRow, report.repairs),
    }
    page = out / "class_report.html"
    write_atomically(page, _page(report).encode("utf-8"))
    written = [page]
    for name, (kind, rows) in tables.items():
        path = out / f"class_report_{name}.csv"
        head = tuple(column.name for column in fields(kind))
        write_atomically(
            path, csv_bytes([head, *(row if isinstance(row, tuple) else astuple(row) for row in rows)])
        )
        written.append(path)
    return written


def _flat(row: LabRow) -> tuple[Any, ...]:
    *values, bins = astuple(row)
    return (*values, " ".join(map(str, bins)))
