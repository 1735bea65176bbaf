"""What `nbgrader autograde` and the formgrader's Autograde button run in place of nbgrader's own Execute.

Stock nbgrader executes a submission and the hidden tests in one process and scores a cell by what it did not
print. Here the notebook goes through the same job as in `course.py grade`, and what nbgrader reads off the
cells are authored verdicts.
"""

import atexit
import datetime
import json
from pathlib import Path
from typing import Any

from nbconvert.exporters.exporter import ResourcesDict
from nbformat import NotebookNode
from nbgrader.preprocessors import Execute
from traitlets import Bool, Float

from autograder.checks.seeds import class_seed
from autograder.grading import sandbox
from autograder.grading.gradebook import autograded_notebook
from autograder.grading.graded_lab import load_labs
from autograder.grading.job import Job, Limits, is_judged
from autograder.grading.model import Result, Status, Submission
from autograder.grading.repair import prepare
from autograder.grading.workers import close_workshops, run_job
from autograder.labs import Lab


class NotJudged(RuntimeError):
    """A submission that nbgrader must not store a score for; the message says why."""


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
        course = Path(self._course())
        folder = course / "solutions" / about["assignment"]
        if not is_judged(nb.cells) or not folder.is_dir():
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
        lab = Lab(about["assignment"], folder)
        result = self._judge(nb, about["student"], lab, course)
        if result.status not in (Status.GRADED, Status.GRADED_WITH_REPAIRS):
            raise NotJudged(f"{about['student']}, {lab.name}: {result.status}. {result.reason}")
        graded = autograded_notebook(result, load_labs(course, {lab.name})[lab.name])
        checksums = {
            cell.metadata.nbgrader.grade_id: cell.metadata.nbgrader.get("checksum")
            for cell in nb.cells
            if "nbgrader" in cell.metadata
        }
        for cell in graded.cells:
            if checksums.get(cell.metadata.get("nbgrader", {}).get("grade_id")):
                cell.metadata.nbgrader["checksum"] = checksums[cell.metadata.nbgrader.grade_id]
        nb.cells = graded.cells
        return nb, resources

    def _judge(self, nb: NotebookNode, student: str, lab: Lab, course: Path) -> Result:
        submission = Submission(
            student=student,
            lab=lab.name,
            notebook=json.loads(json.dumps(nb)),
            submitted_at=datetime.datetime.now(datetime.UTC),
        )
        prepared = prepare(submission, lab, course)
        if prepared.status not in (Status.GRADED, Status.GRADED_WITH_REPAIRS):
            raise NotJudged(f"{student}, {lab.name}: {prepared.status}. {prepared.reason}")
        atexit.register(close_workshops)
        limits = Limits(cell_seconds=self.cell_seconds, total_seconds=15 * self.cell_seconds)
        return run_job(Job(prepared, class_seed(course), limits))

    def _course(self) -> str:
        return str(self.config.CourseDirectory.get("root") or ".")
