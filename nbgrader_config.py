"""nbgrader's settings for this course; nbgrader reads this file when it is started in the repository root."""

import os
import sysconfig
from pathlib import Path

from autograder.learning_cells import skip_while_grading

c = get_config()  # noqa: F821  (nbgrader puts it there)

# nbgrader starts the program `alembic` by its bare name, which only an activated environment has on its PATH.
scripts = sysconfig.get_path("scripts")
if scripts not in os.environ["PATH"].split(os.pathsep):
    os.environ["PATH"] = os.pathsep.join([scripts, os.environ["PATH"]])

# solutions/ is what an instructor writes, notebooks/ what students get; class data is not version-controlled.
c.CourseDirectory.course_id = "chat-contract"
c.CourseDirectory.root = str(Path(__file__).resolve().parent)
c.CourseDirectory.source_directory = "solutions"
c.CourseDirectory.release_directory = "notebooks"
c.CourseDirectory.submitted_directory = "submitted"
c.CourseDirectory.autograded_directory = "autograded"
c.CourseDirectory.feedback_directory = "feedback"
c.CourseDirectory.ignore = [".ipynb_checkpoints", "*.pyc", "__pycache__", ".DS_Store", "runs"]

c.ClearSolutions.code_stub = {
    "python": 'raise NotImplementedError("Replace this line with your answer.")',
}
c.ClearSolutions.text_stub = "Write your answer here."

# Importing torch and transformers takes longer than nbgrader's 30 seconds on a slow machine.
c.Execute.timeout = 300
c.Execute.on_notebook_start = skip_while_grading

# `nbgrader autograde` and the formgrader's button give the verdict of `course.py grade`: Repair sets a
# submission into the official notebook; JudgedExecute stands in for Execute, runs it in the sandbox and asks
# its functions from outside. The rest is as it was.
c.Autograde.sanitize_preprocessors = [
    "autograder.grading.preprocessor.Repair",
    "nbgrader.preprocessors.ClearOutput",
    "nbgrader.preprocessors.DeduplicateIds",
    "nbgrader.preprocessors.OverwriteKernelspec",
    "nbgrader.preprocessors.OverwriteCells",
    "nbgrader.preprocessors.CheckCellMetadata",
]
c.Autograde.autograde_preprocessors = [
    "autograder.grading.preprocessor.JudgedExecute",
    "nbgrader.preprocessors.IgnorePattern",
    "nbconvert.preprocessors.ClearMetadataPreprocessor",
    "nbgrader.preprocessors.LimitOutput",
    "nbgrader.preprocessors.SaveAutoGrades",
    "nbgrader.preprocessors.AssignLatePenalties",
    "nbgrader.preprocessors.CheckCellMetadata",
]

# Stock nbgrader gives 0 points to a test cell that wrote anything to stderr, and a warning or a progress bar
# does. Drop stderr before scoring; a failed test is an error output, not stderr. `nbgrader validate` has no
# such setting and still reports the cell.
c.IgnorePattern.enabled = True
c.IgnorePattern.pattern = r"[\s\S]"
