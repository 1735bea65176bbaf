"""The released notebook of a lab, cell by cell, and what each cell is for."""

import json
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import nbformat
from nbgrader.preprocessors import (
    ClearHiddenTests,
    ClearMarkScheme,
    ClearOutput,
    ClearSolutions,
    ComputeChecksums,
    LockCells,
)
from traitlets.config import Config, PyFileConfigLoader

from autograder.bootstrap import BADGE_ID, BOOTSTRAP_ID
from autograder.grading.definitions import comparable, function_bodies
from autograder.labs import Lab
from autograder.tidy import NOTEBOOK_METADATA

_STEPS = (
    LockCells,
    ClearSolutions,
    ClearOutput,
    ClearHiddenTests,
    ClearMarkScheme,
    ComputeChecksums,
)


class Role(StrEnum):
    """What a cell of the lab is for, which decides whose text counts."""

    ANSWER = "answer"
    TEST = "test"
    LOCKED = "locked"
    OPEN = "open"
    TEXT = "text"


@dataclass(frozen=True)
class OfficialCell:
    """One released cell.

    Attributes:
        position: its place in the lab, from 0.
        data: the cell as plain JSON, without outputs.
        functions: names that an answer has to define, by the stub; empty for a written answer.
        text: its source for comparing, without the white space that editors change.
        meaning: for an answer, its code without comments and docstrings.
    """

    position: int
    data: dict[str, Any]
    role: Role
    functions: dict[str, str]
    text: str
    meaning: str

    @property
    def id(self) -> str:
        """The cell's id."""
        return str(self.data["id"])

    @property
    def grade_id(self) -> str:
        """nbgrader's name of the cell, or ""."""
        return str(self.data["metadata"].get("nbgrader", {}).get("grade_id", ""))

    @property
    def label(self) -> str:
        """What a student knows the cell by."""
        return " and ".join(self.functions) or self.grade_id or self.id


@dataclass(frozen=True)
class Official:
    """The released notebook of one lab."""

    lab: str
    cells: tuple[OfficialCell, ...]

    @property
    def metadata(self) -> dict[str, Any]:
        """The notebook's metadata: the course's kernel."""
        copied: dict[str, Any] = json.loads(json.dumps(NOTEBOOK_METADATA))
        return copied

    @cached_property
    def by_grade_id(self) -> dict[str, OfficialCell]:
        """The cells that nbgrader knows."""
        return {cell.grade_id: cell for cell in self.cells if cell.grade_id}

    @cached_property
    def by_id(self) -> dict[str, OfficialCell]:
        """All cells by their id."""
        return {cell.id: cell for cell in self.cells}

    @cached_property
    def answers(self) -> tuple[OfficialCell, ...]:
        """The cells that students fill in, in the order of the lab."""
        return tuple(cell for cell in self.cells if cell.role is Role.ANSWER)


def compact(source: str) -> str:
    """A source without trailing white space and empty lines around it."""
    return "\n".join(line.rstrip() for line in source.strip().splitlines())


def official(lab: Lab, root: Path) -> Official:
    """The lab's released notebook, made from its solution as `nbgrader generate_assignment` makes it."""
    config = root / "nbgrader_config.py"
    return _official(
        lab.name,
        lab.notebook,
        config,
        *(p.stat().st_mtime_ns if p.is_file() else 0 for p in (lab.notebook, config)),
    )


@lru_cache(maxsize=64)
def _official(name: str, path: Path, config: Path, changed: int, config_changed: int) -> Official:
    settings = (
        PyFileConfigLoader(config.name, str(config.parent)).load_config() if config_changed else Config()
    )
    notebook = nbformat.read(path, as_version=4)
    for step in _STEPS:
        notebook, _ = step(config=settings).preprocess(notebook, {})
    cells = json.loads(nbformat.writes(notebook, split_lines=False))["cells"]
    return Official(name, tuple(_cell(position, cell) for position, cell in enumerate(cells)))


def _cell(position: int, data: dict[str, Any]) -> OfficialCell:
    settings = data["metadata"].get("nbgrader", {})
    role = Role.OPEN if data["cell_type"] == "code" else Role.TEXT
    if settings.get("solution"):
        role = Role.ANSWER
    elif settings.get("grade"):
        role = Role.TEST
    elif settings.get("locked") or settings.get("task") or data["id"] in (BADGE_ID, BOOTSTRAP_ID):
        role = Role.LOCKED
    answers_in_code = role is Role.ANSWER and data["cell_type"] == "code"
    source = data["source"]
    return OfficialCell(
        position,
        data,
        role,
        function_bodies(source) if answers_in_code else {},
        compact(source),
        comparable(source) if answers_in_code else "",
    )
