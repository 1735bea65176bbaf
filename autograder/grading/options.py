"""How a class is graded: what the command line says, for the coordinator and the sample class alike."""

from dataclasses import dataclass
from pathlib import Path

from autograder.grading.job import DEFAULT_LIMITS, Limits
from autograder.labs import ROOT


@dataclass(frozen=True)
class Options:
    """How a class is graded.

    Attributes:
        course: holds solutions/; gets gradebook.db, autograded/, feedback/ and grading/.
        labs: names of labs; all of the course for none.
        roster: list of the class; who is on it and handed in nothing is reported as missing.
        workers: on this machine; ignored with a scheduler.
        seed_file: the instructor's secret; created on first use.
        resume: reuse the verdicts for which nothing changed: submission, lab, grader, seed and limits.
        scheduler: address of a Dask scheduler.
        db: SQLAlchemy URL of the gradebook.
        unsafe: go on where student code cannot be isolated.
        feedback: write pages for the students.
    """

    course: Path = ROOT
    labs: tuple[str, ...] = ()
    roster: Path | None = None
    workers: int = 2
    seed_file: Path | None = None
    limits: Limits = DEFAULT_LIMITS
    resume: bool = False
    scheduler: str | None = None
    db: str | None = None
    unsafe: bool = False
    feedback: bool = True
