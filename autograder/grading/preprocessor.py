"""What `nbgrader autograde` and the formgrader's Autograde button run in place of nbgrader's own Execute.

Stock nbgrader executes a submission and the hidden tests in one process and scores a cell by what it did not
print. Here the notebook goes through the same job as in `course.py grade`, and what nbgrader reads off the
cells are authored verdicts.

Whether the judge gives the points of an assignment is asked of the course's own notebook. What was handed in
has no say in it: without its tests or nbgrader's settings it would be executed as nbgrader does it.
"""

import atexit
import os
from pathlib import Path
from typing import Any

import nbformat
from nbconvert.exporters.exporter import ResourcesDict
from nbformat import NotebookNode
from nbgrader.coursedir import CourseDirectory
from nbgrader.preprocessors import Execute, NbGraderPreprocessor
from traitlets import Bool, Float

from autograder.checks.seeds import ENVIRONMENT, SEED_FILE, Seed, class_seed, create
from autograder.grading import sandbox
from autograder.grading.gradebook import GRADED, autograded_notebook
from autograder.grading.graded_lab import SOURCE, load_labs
from autograder.grading.intake import hand_in_of
from autograder.grading.job import Job, Limits, is_judged, test_cells
from autograder.grading.model import Prepared, Result, Submission
from autograder.grading.official import official
from autograder.grading.repair import prepare
from autograder.grading.workers import close_workshops, run_job
from autograder.labs import Lab


class NotJudged(RuntimeError):
    """A submission that nbgrader must not store a score for; the message says why."""


def judged_lab(assignment: str, course: Path) -> Lab | None:
    """The lab that an assignment names, if the judge gives its points; None if nbgrader has to.

    Raises:
        NotJudged: the judge knows some of its tests and not the others.
    """
    lab = Lab(assignment, course / SOURCE / assignment)
    if not lab.notebook.is_file():
        return None
    cells = [cell.data for cell in official(lab, course).cells]
    if is_judged(cells):
        return lab
    if test_cells(cells)[0]:
        raise NotJudged(
            f"{assignment} has tests that the judge knows and tests that it does not know: grade it with "
            "`course.py grade` and give the points of the others in the formgrader."
        )
    return None


class Repair(NbGraderPreprocessor):  # type: ignore[misc]
    """Sets a hand-in into the official notebook before nbgrader's own steps read its settings.

    They would stop the whole class where one hand-in has a cell twice or settings of another version.
    """

    def preprocess(self, nb: NotebookNode, resources: ResourcesDict) -> tuple[NotebookNode, ResourcesDict]:
        """Repair one submission, as `course.py grade` does.

        Raises:
            NotJudged: a person has to look at it, or it cannot be read.
        """
        about = resources["nbgrader"]
        folders = CourseDirectory(config=self.config)
        lab = judged_lab(about["assignment"], Path(folders.root))
        if lab is not None:
            _, prepared = _prepared(about["student"], lab, folders)
            for repair in prepared.repairs:
                self.log.warning("%s, %s: %s", about["student"], lab.name, repair)
            nb.cells = nbformat.from_dict(prepared.notebook).cells
        return nb, resources


class JudgedExecute(Execute):  # type: ignore[misc]
    """Runs a submission in the sandbox and writes the verdicts of the judge into its test cells.

    A lab with tests of its own, which the judge does not know, is executed as nbgrader does it, and the log
    says that its tests ran in the student's process.
    """

    unsafe = Bool(False, help="Execute as nbgrader does where student code cannot be isolated.").tag(
        config=True
    )
    cell_seconds = Float(60.0, help="Seconds that one cell may take.").tag(config=True)

    def preprocess(
        self, nb: NotebookNode, resources: ResourcesDict, km: Any = None
    ) -> tuple[NotebookNode, ResourcesDict]:
        """Judge one submission.

        Raises:
            NotJudged: it could not be judged, so that there is no score to store.
            NoSandbox: this machine cannot isolate student code, and `unsafe` is not set.
        """
        about = resources["nbgrader"]
        folders = CourseDirectory(config=self.config)
        course = Path(folders.root)
        lab = judged_lab(about["assignment"], course)
        if lab is None:
            self.log.warning(
                "%s has tests that the judge does not know: they run in the student's process, which can "
                "make them pass",
                about["assignment"],
            )
            return super().preprocess(nb, resources, km)
        try:
            sandbox.require()
        except sandbox.NoSandbox as problem:
            if not self.unsafe:
                raise
            self.log.warning("Not isolated, as JudgedExecute.unsafe asks: %s.", problem)
            return super().preprocess(nb, resources, km)
        result = self._judge(*_prepared(about["student"], lab, folders), self._seed(course))
        if result.status not in GRADED:
            raise NotJudged(f"{about['student']}, {lab.name}: {result.status}. {result.reason}")
        nb.cells = autograded_notebook(result, load_labs(course, {lab.name})[lab.name]).cells
        return nb, resources

    def _judge(self, submission: Submission, prepared: Prepared, seed: Seed) -> Result:
        atexit.register(close_workshops)
        limits = Limits(cell_seconds=self.cell_seconds, total_seconds=15 * self.cell_seconds)
        return run_job(Job(prepared, seed, limits, submission.files))

    def _seed(self, course: Path) -> Seed:
        """The class's secret, made on first use as by `course.py grade`: everybody knows the public one."""
        path = course / SEED_FILE
        if ENVIRONMENT not in os.environ and not path.exists():
            create(path)
            self.log.warning(
                "Wrote the class's secret to %s. If the class has another (--seed-file), name it in $%s and "
                "grade again.",
                path,
                ENVIRONMENT,
            )
        return class_seed(course)


def _prepared(student: str, lab: Lab, folders: CourseDirectory) -> tuple[Submission, Prepared]:
    """What nbgrader has of a student, read and repaired as by `course.py grade`."""
    folder = folders.format_path(folders.submitted_directory, student, lab.name)
    submission = hand_in_of(student, Path(folder), lab)
    prepared = prepare(submission, lab, Path(folders.root))
    if prepared.status not in GRADED:
        raise NotJudged(f"{student}, {lab.name}: {prepared.status}. {prepared.reason}")
    return submission, prepared
