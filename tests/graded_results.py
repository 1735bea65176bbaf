"""Results as the grader's judging gives them, made by hand from the cells of the course's own labs."""

import copy
import datetime
import json
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
from nbgrader.api import Gradebook

from autograder.faults.registry import faults_of
from autograder.grading.graded_lab import GradedLab, load_labs, nbgrader_config
from autograder.grading.model import CellGrade, PropertyScore, Result, Status
from autograder.labs import ROOT

FORMULA_NAME = "=cmd|' /C calc'!A0"


@cache
def lab_named(name: str) -> GradedLab:
    return load_labs(ROOT, {name})[name]


@cache
def solutions_of(name: str) -> dict[str, str]:
    """The solution of every answer cell, by grade_id."""
    notebook = nbformat.read(ROOT / "solutions" / name / f"{name}.ipynb", as_version=4)
    settings = [(cell, cell.metadata.get("nbgrader", {})) for cell in notebook.cells]
    return {s["grade_id"]: _without_markers(cell.source) for cell, s in settings if s.get("solution")}


def _without_markers(source: str) -> str:
    return "\n".join(line for line in source.splitlines() if not line.strip().startswith("### "))


@cache
def _empty_gradebook() -> bytes:
    """An empty gradebook: to make one, nbgrader starts a program that takes seconds."""
    nbgrader_config(ROOT)  # puts that program on the PATH
    with tempfile.TemporaryDirectory() as folder:
        Gradebook(f"sqlite:///{folder}/gradebook.db", "chat-contract").close()
        return (Path(folder) / "gradebook.db").read_bytes()


def course_at(folder: Path, labs: Sequence[str]) -> Path:
    """A course with some of the real labs, for nbgrader and the grader, with an empty gradebook."""
    for lab in labs:
        target = folder / "solutions" / lab
        target.mkdir(parents=True)
        (target / f"{lab}.ipynb").write_bytes((ROOT / "solutions" / lab / f"{lab}.ipynb").read_bytes())
    (folder / "nbgrader_config.py").write_bytes((ROOT / "nbgrader_config.py").read_bytes())
    (folder / "gradebook.db").write_bytes(_empty_gradebook())
    return folder


def _verdict(lab: GradedLab, grade_id: str, share: float | None, fault_ids: tuple[str, ...]) -> CellGrade:
    exercise = grade_id.rpartition("-")[0].replace("-", "_")
    possible = lab.points(grade_id)
    points = None if share is None else round(possible * share, 2)
    named = [f for f in faults_of(exercise) if f.id in fault_ids]
    verdict = "by hand" if share is None else "failed" if not share else "passed" if share == 1 else "partial"
    text = (
        "" if share is None else f"{exercise}: {points:g} of {possible:g} points for the instructor's cases."
    )
    text += "".join(f"\n  {f.title}. {f.consequence}\n  First check: {f.first_check}" for f in named)
    hidden = grade_id.endswith("-hidden")
    return CellGrade(
        grade_id=grade_id,
        exercise="" if share is None else exercise,
        points=points,
        possible=possible,
        verdict=verdict,
        text=text,
        faults=tuple(f.id for f in named) if hidden else (),
        properties=(PropertyScore(name="order", passed=3, cases=5, points=0.0, possible=1.0),)
        if hidden and verdict == "partial"
        else (),
    )


def graded(
    student: str,
    lab: str = "02_roles",
    *,
    shares: Mapping[str, float] | None = None,
    answers: Mapping[str, str] | None = None,
    outputs: Mapping[str, list[Any]] | None = None,
    extra_cells: Sequence[Any] = (),
    faults: Sequence[str] = (),
    **fields: Any,
) -> Result:
    """A graded result: right answers and full points, but for what is said.

    Args:
        shares: what part of its points a graded cell earned, by grade_id.
        answers: source of an answer cell, by grade_id; None for the released stub.
        outputs: what an answer cell's code printed, by grade_id.
        extra_cells: cells of the student's own, at the end.
    """
    official = lab_named(lab)
    notebook = copy.deepcopy(official.released)
    given = {**solutions_of(lab), **(answers or {})}
    for cell in notebook.cells:
        name = cell.metadata.get("nbgrader", {}).get("grade_id")
        if name in given and given[name] is not None:
            cell.source = given[name]
        if name in (outputs or {}):
            cell.outputs = (outputs or {})[name]
    notebook.cells.extend(extra_cells)
    by_hand = {name for name, cell in official.graded.items() if cell.metadata.nbgrader.solution}
    cells = []
    for name in official.graded:
        share = (shares or {}).get(name, None if name in by_hand else 1)
        cells.append(_verdict(official, name, share, tuple(faults)))
    defaults: dict[str, Any] = {
        "status": Status.GRADED,
        "seconds": {"start": 0.1, "cells": 2.0, "questions": 0.8, "finish": 0.1},
        "peak_memory": 400_000_000,
        "submitted_at": datetime.datetime(2026, 11, 20, 12, 0, tzinfo=datetime.UTC),
    }
    return Result(
        student=student,
        lab=lab,
        cells=tuple(cells),
        notebook=json.loads(json.dumps(notebook)),
        **(defaults | fields),
    )


def blank(student: str, lab: str = "02_roles") -> Result:
    """Nothing answered."""
    official = lab_named(lab)
    return graded(
        student,
        lab,
        shares=dict.fromkeys(official.graded, 0.0),
        answers=dict.fromkeys(solutions_of(lab)),  # type: ignore[arg-type]
    )


def ungraded(student: str, status: Status, reason: str, lab: str = "02_roles") -> Result:
    """A hand-in that got no grade."""
    return Result(student=student, lab=lab, status=status, reason=reason)
