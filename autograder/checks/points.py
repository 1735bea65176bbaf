"""What the test cells of an exercise are worth, read from its solution notebook."""

from functools import cache
from pathlib import Path

from autograder.checks.exercise import Exercise
from autograder.checks.reference import notebook
from autograder.labs import ROOT


class MissingCell(LookupError):
    """The notebook lacks a test cell of an exercise."""


@cache
def test_cell(lab: str, exercise: str, kind: str, root: Path = ROOT) -> tuple[str, float]:
    """Source and points of the cell with the grade_id <exercise with dashes>-visible or -hidden.

    Raises:
        MissingCell: there is no such cell.
    """
    wanted = f"{exercise.replace('_', '-')}-{kind}"
    for cell in notebook(lab, root).cells:
        settings = cell.metadata.get("nbgrader", {})
        if settings.get("grade_id") == wanted:
            return cell.source, settings["points"]
    raise MissingCell(f"solutions/{lab} has no test cell with the grade_id {wanted}: add it.")


def hidden_points(exercise: Exercise, root: Path = ROOT) -> float:
    """What the instructor's cases of an exercise are worth."""
    return test_cell(exercise.lab, exercise.name, "hidden", root)[1]


def visible_points(exercise: Exercise, root: Path = ROOT) -> float:
    """What the visible test cell of an exercise is worth."""
    return test_cell(exercise.lab, exercise.name, "visible", root)[1]
