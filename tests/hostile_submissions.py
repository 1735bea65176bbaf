"""The grader to try submissions on that attack it, and what it said about them."""

import atexit
import json
from collections.abc import Iterator
from functools import cache

from autograder.checks.seeds import throwaway
from autograder.grading.job import Job, Limits, grade
from autograder.grading.model import Prepared, Result, Status
from autograder.grading.workshop import Workshop
from autograder.hostile.short_lab import EXERCISES, LAB, POISONED, POSSIBLE, Cell, blank

SMALL = Limits(cell_seconds=4, total_seconds=60, fork_seconds=4, memory=1 << 30, disk=16 << 20, processes=48)
SEED = throwaway()


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


def graded(cells: list[Cell], limits: Limits = SMALL, files: dict[str, bytes] | None = None) -> Result:
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


def _unwritten(cells: list[Cell]) -> Iterator[str]:
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
