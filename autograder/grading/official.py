"""The released notebook of a lab, cell by cell, and what each cell is for."""

import json
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import nbformat

from autograder.bootstrap import BADGE_ID, BOOTSTRAP_ID
from autograder.grading.definitions import bound_names, comparable, function_bodies
from autograder.grading.graded_lab import CONFIG, load_labs
from autograder.labs import Lab
from autograder.tidy import NOTEBOOK_METADATA


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
    def names(self) -> frozenset[str]:
        """What the lab's own code defines, stubs included."""
        code = [cell.data["source"] for cell in self.cells if cell.data["cell_type"] == "code"]
        return frozenset().union(*map(bound_names, code))

    @cached_property
    def answers(self) -> tuple[OfficialCell, ...]:
        """The cells that students fill in, in the order of the lab."""
        return tuple(cell for cell in self.cells if cell.role is Role.ANSWER)


def compact(source: str) -> str:
    """A source without trailing white space and empty lines around it."""
    return "\n".join(line.rstrip() for line in source.strip().splitlines())


def official(lab: Lab, root: Path) -> Official:
    """The lab's released notebook, made from its solution as `nbgrader generate_assignment` makes it.

    Args:
        lab: a lab of the course at `root`.
    """
    sources = (lab.notebook, root / CONFIG)
    return _official(lab.name, root, *(path.stat().st_mtime_ns if path.is_file() else 0 for path in sources))


@lru_cache(maxsize=64)
def _official(name: str, root: Path, *changed: int) -> Official:
    released = load_labs(root, {name})[name].released
    cells = json.loads(nbformat.writes(released, split_lines=False))["cells"]
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
