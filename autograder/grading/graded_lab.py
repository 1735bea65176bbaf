"""The cells of a lab as nbgrader keeps them: points, checksums, released text, what each test judges."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbgrader.preprocessors import (
    ClearHiddenTests,
    ClearMarkScheme,
    ClearOutput,
    ClearSolutions,
    ComputeChecksums,
    LockCells,
)
from traitlets.config import Config, PyFileConfigLoader

from autograder.labs import UnknownLab, discover

SOURCE = "solutions"
CONFIG = "nbgrader_config.py"


@dataclass(frozen=True)
class GradedLab:
    """One lab as it is graded.

    Attributes:
        name: NN_topic.
        kept: the notebook as `nbgrader generate_assignment` records it: answers cleared,
            hidden tests in place.
        released: the same notebook as students get it.
    """

    name: str
    kept: NotebookNode
    released: NotebookNode

    @cached_property
    def by_grade_id(self) -> dict[str, NotebookNode]:
        """The released cells that nbgrader knows, by grade_id."""
        return {
            cell.metadata.nbgrader.grade_id: cell
            for cell in self.released.cells
            if "nbgrader" in cell.metadata
        }

    @cached_property
    def graded(self) -> dict[str, NotebookNode]:
        """The released cells that carry points, by grade_id, in the order of the lab."""
        return {name: cell for name, cell in self.by_grade_id.items() if cell.metadata.nbgrader.get("grade")}

    @cached_property
    def answers(self) -> dict[str, str]:
        """For each graded cell the grade_id of the answer that it judges; a written answer judges itself."""
        found: dict[str, str] = {}
        latest = ""
        for name, cell in self.by_grade_id.items():
            settings = cell.metadata.nbgrader
            if settings.get("solution"):
                latest = name
            if settings.get("grade"):
                stub = f"{name.rpartition('-')[0]}-stub"
                found[name] = (
                    name if settings.get("solution") else stub if stub in self.by_grade_id else latest
                )
        return found

    def points(self, grade_id: str) -> float:
        """What a graded cell is worth."""
        return float(self.graded[grade_id].metadata.nbgrader.points)

    def section(self, grade_id: str) -> str:
        """The heading under which the answer of a graded cell stands; empty where there is none."""
        heading = ""
        for cell in self.released.cells:
            if cell.cell_type == "markdown":
                found = re.findall(r"^#+ +(.+?)\s*$", cell.source, flags=re.MULTILINE)
                heading = found[-1] if found else heading
            if cell.metadata.get("nbgrader", {}).get("grade_id") == self.answers[grade_id]:
                break
        return heading

    @property
    def possible(self) -> float:
        """What the lab is worth."""
        return sum(self.points(name) for name in self.graded)


def nbgrader_config(course: Path) -> Config:
    """The settings of the course's nbgrader_config.py; empty where there is none."""
    path = course / CONFIG
    return PyFileConfigLoader(path.name, str(path.parent)).load_config() if path.is_file() else Config()


def load_labs(course: Path, names: set[str]) -> dict[str, GradedLab]:
    """The named labs of a course, in course order.

    Raises:
        UnknownLab: there is no such lab under solutions/.
    """
    found = {lab.name: lab for lab in discover(course / SOURCE) if lab.name in names}
    if missing := sorted(names - set(found)):
        raise UnknownLab(f"{course / SOURCE} has no lab {missing[0]}: the results belong to another course.")
    settings = nbgrader_config(course)
    return {name: _load(name, lab.notebook, settings) for name, lab in found.items()}


def _load(name: str, path: Path, settings: Config) -> GradedLab:
    """The preprocessors of `nbgrader generate_assignment`, in its order and under the course's settings."""
    kept = nbformat.read(path, as_version=4)
    for step in (LockCells, ClearSolutions, ClearOutput, ComputeChecksums):
        kept, _ = step(config=settings).preprocess(kept, {})
    released = nbformat.reads(nbformat.writes(kept), as_version=4)
    for step in (ClearHiddenTests, ClearMarkScheme, ComputeChecksums):
        released, _ = step(config=settings).preprocess(released, {})
    return GradedLab(name, kept, released)
