"""A short form of lab 02, from which hostile submissions are made: answers, their tests, what both need."""

import json
from functools import cache
from typing import Any

import nbformat

from autograder.labs import ROOT, stub_of
from autograder.tidy import NOTEBOOK_METADATA

LAB = "02_roles"
EXERCISES = ("role_errors", "conversation_errors", "validate_jsonl", "repair")
POSSIBLE = {"role_errors": 2.0, "conversation_errors": 3.0, "validate_jsonl": 3.0, "repair": 2.0}
# No other answer of the lab calls this one.
POISONED = "role_errors"
ALL = sum(POSSIBLE.values())
# What answers and tests use of the lab's other cells.
_NEEDED = ("imports", "good-row", "conversation-errors-playground", "parse-row")

Cell = dict[str, Any]


@cache
def _cells(folder: str) -> str:
    notebook = nbformat.read(ROOT / folder / LAB / f"{LAB}.ipynb", 4)
    kept = [c for c in notebook.cells if c.id in _NEEDED or c.metadata.get("nbgrader", {}).get("grade_id")]
    return json.dumps(kept)


def source() -> list[Cell]:
    """The cells as the instructor has them, with solutions and hidden tests."""
    cells: list[Cell] = json.loads(_cells("solutions"))
    return cells


def blank() -> list[Cell]:
    """The cells as they are released."""
    cells: list[Cell] = json.loads(_cells("notebooks"))
    return cells


def right() -> list[Cell]:
    """The released cells with every answer right."""
    answers = {cell["id"]: cell["source"] for cell in source() if _settings(cell).get("solution")}
    return [cell | {"source": answers.get(cell["id"], cell["source"])} for cell in blank()]


def _settings(cell: Cell) -> dict[str, Any]:
    settings: dict[str, Any] = cell["metadata"].get("nbgrader", {})
    return settings


def position(cells: list[Cell], grade_id: str) -> int:
    """Where the cell with this grade_id stands."""
    return next(i for i, cell in enumerate(cells) if _settings(cell).get("grade_id") == grade_id)


def answered(answer: str, exercise: str = POISONED) -> list[Cell]:
    """The right lab, but this is one of the answers."""
    cells = right()
    cells[position(cells, stub_of(exercise))]["source"] = answer
    return cells


def with_cell(code: str, *, before: str = "validate_jsonl", at_end: bool = False) -> list[Cell]:
    """The right lab with a cell of the student's own before a late answer, or behind everything."""
    cells = right()
    index = len(cells) if at_end else position(cells, stub_of(before))
    cells.insert(index, own_cell(code))
    return cells


def own_cell(code: str) -> Cell:
    """A cell that is not in the released lab."""
    cell: Cell = json.loads(json.dumps(nbformat.v4.new_code_cell(code)))
    return cell


def notebook(cells: list[Cell], **changed: Any) -> bytes:
    """The file with these cells; `changed` are other values of the notebook's own keys."""
    whole = {"cells": cells, "metadata": NOTEBOOK_METADATA, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole | changed, indent=1, ensure_ascii=False).encode()
