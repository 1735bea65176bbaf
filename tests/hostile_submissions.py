"""Submissions that attack the grader, made from the solution of lab 02, and the grader to try them on."""

import atexit
import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import nbformat

from autograder.checks.seeds import throwaway
from autograder.grading.job import Job, Limits, grade
from autograder.grading.model import Prepared, Result, Status
from autograder.grading.workshop import Workshop
from autograder.labs import ROOT

LAB = "02_roles"
EXERCISES = ("role_errors", "conversation_errors", "validate_jsonl", "repair")
POSSIBLE = {"role_errors": 2.0, "conversation_errors": 3.0, "validate_jsonl": 3.0, "repair": 2.0}
# No other answer of the lab calls this one.
POISONED = "role_errors"
ALL = sum(POSSIBLE.values())
SMALL = Limits(cell_seconds=4, total_seconds=60, memory=1 << 30, disk=16 << 20, processes=48)
SEED = throwaway()
_HELPERS = ("imports", "good-row", "parse-row")

Notebook = dict[str, Any]


@cache
def _workshop() -> Workshop:
    made = Workshop()
    atexit.register(made.close)
    return made


def workshop() -> Workshop:
    """The warm processes of this test run; made anew should a submission have ended them."""
    if not _workshop().alive():
        _workshop().close()
        _workshop.cache_clear()
    return _workshop()


@cache
def _cells(folder: str) -> str:
    notebook = nbformat.read(ROOT / folder / LAB / f"{LAB}.ipynb", 4)
    kept = [c for c in notebook.cells if c.id in _HELPERS or c.metadata.get("nbgrader", {}).get("grade_id")]
    return json.dumps(kept)


def right() -> list[Notebook]:
    """The cells of a short lab, answered right: what the answers need, the answers, and the test cells."""
    cells: list[Notebook] = json.loads(_cells("solutions"))
    return cells


def blank() -> list[Notebook]:
    """The same as it is released."""
    cells: list[Notebook] = json.loads(_cells("notebooks"))
    return cells


def stub_of(exercise: str) -> str:
    """grade_id of the cell with the answer."""
    return f"{exercise.replace('_', '-')}-stub"


def _position(cells: list[Notebook], grade_id: str) -> int:
    return next(
        i for i, cell in enumerate(cells) if cell["metadata"].get("nbgrader", {}).get("grade_id") == grade_id
    )


def answered(source: str, exercise: str = POISONED) -> list[Notebook]:
    """The right lab, but this is one of the answers."""
    cells = right()
    cells[_position(cells, stub_of(exercise))]["source"] = source
    return cells


def with_cell(source: str, *, before: str = "validate_jsonl", at_end: bool = False) -> list[Notebook]:
    """The right lab with a cell of the student's own before a late answer, or behind everything."""
    cells = right()
    index = len(cells) if at_end else _position(cells, stub_of(before))
    cells.insert(index, own_cell(source))
    return cells


def own_cell(source: str) -> Notebook:
    """A cell that is not in the released lab."""
    cell: Notebook = json.loads(json.dumps(nbformat.v4.new_code_cell(source)))
    return cell


def graded(cells: list[Notebook], limits: Limits = SMALL, files: dict[str, bytes] | None = None) -> Result:
    """What the grader makes of it."""
    notebook = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    prepared = Prepared(
        student="mallory",
        lab=LAB,
        notebook=notebook,
        status=Status.GRADED,
        blank=frozenset(_unwritten(cells)),
    )
    return grade(Job(prepared, SEED, limits, files or {}), workshop())


def _unwritten(cells: list[Notebook]) -> Iterator[str]:
    released = {cell["id"]: cell["source"] for cell in blank()}
    for cell in cells:
        about = cell["metadata"].get("nbgrader", {})
        if about.get("solution") and released.get(cell["id"]) == cell["source"]:
            yield about["grade_id"]


def points(result: Result) -> dict[str, float]:
    """Points by exercise."""
    found = dict.fromkeys(EXERCISES, 0.0)
    for cell in result.cells:
        if cell.exercise:
            found[cell.exercise] += cell.points or 0.0
    return found


def verdicts(result: Result, exercise: str = POISONED) -> list[str]:
    """The verdicts on an exercise's visible and hidden cell."""
    return [cell.verdict for cell in result.cells if cell.exercise == exercise]


def shown(result: Result) -> str:
    """Everything that the student gets to read, and the flags, as one text."""
    return json.dumps(
        [result.notebook, [cell.text for cell in result.cells], result.flags, result.reason],
        ensure_ascii=False,
    )


def output(result: Result) -> str:
    """What the cells put out, as plain text."""
    assert result.notebook is not None
    parts = []
    for cell in result.notebook["cells"]:
        for item in cell.get("outputs", []):
            parts += [str(item.get(key, "")) for key in ("text", "ename", "evalue", "traceback", "data")]
    return "\n".join(parts)


def others_stand(result: Result, poisoned: str = POISONED) -> bool:
    """Whether every other exercise has its full points, and the submission its status."""
    expected = POSSIBLE | {poisoned: points(result)[poisoned]}
    return points(result) == expected and result.status is Status.GRADED
