"""This course's grader on hostile hand-ins: the rooms of `course.py grade`, one batch after the other."""

import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from autograder.checks.seeds import SEED_FILE, class_seed
from autograder.grading.feedback import write_feedback
from autograder.grading.gradebook import write_results
from autograder.grading.intake import intake
from autograder.grading.job import Job, Limits
from autograder.grading.model import Result, Status
from autograder.grading.repair import prepare
from autograder.grading.sample_class import write_course
from autograder.grading.workers import LocalWorkers
from autograder.hostile import short_lab
from autograder.hostile.graded_course import GradedCourse, mark_by_hand, read_graded_course
from autograder.hostile.rows import ATTACKER, Row, write_hand_ins
from autograder.hostile.short_lab import LAB
from autograder.hostile.stock import CELL_SECONDS, MEMORY
from autograder.labs import discover

_LIMITS = Limits(cell_seconds=CELL_SECONDS, total_seconds=15 * CELL_SECONDS, memory=MEMORY)


@dataclass(frozen=True)
class OurBatch:
    """What this grader did with one batch.

    Attributes:
        seconds: wall time from the first hand-in read to the last mark in the gradebook.
        status: the attacker's.
        verdicts: on the cells of the exercise that was attacked, each once.
        flags: what the instructor is told of the attacker.
    """

    graded: GradedCourse
    seconds: float
    status: Status
    verdicts: tuple[str, ...]
    flags: tuple[str, ...]


def write_short_course(folder: Path, seed: Path) -> None:
    """Make a course of the short lab with an empty gradebook.

    Args:
        seed: the class's secret, which is copied into it.
    """
    write_course(folder, (LAB,))
    notebook = folder / "solutions" / LAB / f"{LAB}.ipynb"
    notebook.write_bytes(short_lab.notebook(short_lab.source()))
    (folder / SEED_FILE).parent.mkdir()
    shutil.copy2(seed, folder / SEED_FILE)
    write_results([], course=folder)


def grade_with_ours(row: Row, template: Path, workers: LocalWorkers) -> OurBatch:
    """Grade one row's hand-ins, in a copy of a course of `write_short_course`."""
    with tempfile.TemporaryDirectory(prefix="ours-") as name:
        course = Path(name) / "course"
        shutil.copytree(template, course)
        students = write_hand_ins(row, course / "submitted")
        began = time.monotonic()
        statuses, results = _graded(course, workers)
        if row.by_hand:
            mark_by_hand(course, ATTACKER, row.by_hand)
            statuses, results = _graded(course, workers)
        seconds = time.monotonic() - began
        if row.leak:
            write_feedback(results, course)
        attacker = next((result for result in results if result.student == ATTACKER), None)
        cells = attacker.cells if attacker else ()
        verdicts = dict.fromkeys(cell.verdict for cell in cells if cell.exercise == row.attacked)
        return OurBatch(
            read_graded_course(course, students),
            seconds,
            statuses[ATTACKER],
            tuple(verdicts),
            attacker.flags if attacker else (),
        )


def _graded(course: Path, workers: LocalWorkers) -> tuple[dict[str, Status], list[Result]]:
    """Every student's status, and the results of those whose hand-ins can be run."""
    labs = discover(course / "solutions")
    submissions = intake(course / "submitted", labs)
    jobs = [
        Job(prepare(submission, labs[0], course), class_seed(course), _LIMITS, submission.files)
        for submission in submissions
        if submission.status is Status.GRADED
    ]
    results = [result for _, result in workers.run(jobs)]
    write_results(results, course=course)
    statuses = {submission.student: submission.status for submission in submissions}
    return statuses | {result.student: result.status for result in results}, results
