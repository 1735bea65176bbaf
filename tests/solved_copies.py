"""Hand-ins that a student could have made: the release of a lab with the answers filled in."""

import json
from typing import Any

from autograder.grading.model import Submission
from autograder.grading.reading import read_notebook
from autograder.labs import ROOT, Lab, discover

LABS = {lab.name: lab for lab in discover(ROOT / "solutions") if (ROOT / "notebooks" / lab.name).is_dir()}


def blank_copy(lab: Lab) -> dict[str, Any]:
    """The released notebook as JSON."""
    loaded: dict[str, Any] = json.loads(
        (ROOT / "notebooks" / lab.name / f"{lab.name}.ipynb").read_text("utf-8")
    )
    for cell in loaded["cells"]:
        cell["source"] = "".join(cell["source"])
    return loaded


def solved_copy(lab: Lab) -> dict[str, Any]:
    """The released notebook with the instructor's answer in every answer cell."""
    solution = json.loads(lab.notebook.read_text("utf-8"))
    answers = {cell["id"]: "".join(cell["source"]) for cell in solution["cells"]}
    notebook = blank_copy(lab)
    for cell in notebook["cells"]:
        if cell["metadata"].get("nbgrader", {}).get("solution"):
            cell["source"] = answers[cell["id"]]
    return notebook


def handed_in(lab: Lab, notebook: dict[str, Any], student: str = "jane") -> Submission:
    """The submission that reading this notebook's file gives."""
    read = read_notebook(json.dumps(notebook).encode())
    return Submission(
        student=student, lab=lab.name, notebook=read.notebook, repairs=read.repairs, notes=read.notes
    )


def cell_of(notebook: dict[str, Any], grade_id: str) -> dict[str, Any]:
    """The first cell with this grade_id."""
    found: dict[str, Any] = next(
        c for c in notebook["cells"] if c["metadata"].get("nbgrader", {}).get("grade_id") == grade_id
    )
    return found
