"""What passes between the grader's rooms (intake, repair, judging, gradebook, report): plain data."""

import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Status(StrEnum):
    """What became of one student's lab; every student of a class gets one."""

    GRADED = "graded"
    GRADED_WITH_REPAIRS = "graded_with_repairs"
    NEEDS_HUMAN = "needs_human"
    NOT_GRADABLE = "not_gradable"
    MISSING = "missing"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64")


class Submission(_Frozen):
    """One student's hand-in for one lab, read but not run.

    Attributes:
        student: the name of the folder, or of the file, that the student handed in.
        lab: NN_topic.
        status: GRADED as long as nothing speaks against it; else NEEDS_HUMAN, NOT_GRADABLE or MISSING.
        reason: one sentence the student can act on; empty while the status is GRADED.
        notebook: the notebook as nbformat 4.5 JSON with outputs removed; None when it cannot be read.
        files: further files that may reach the student's process, by name; small, of allowed kinds.
        repairs: what was put right while reading, one sentence each (encoding, schema, file name).
        notes: what the instructor may want to know and the student need not (extra files ignored).
        submitted_at: when, where the hand-in tells.
    """

    student: str
    lab: str
    status: Status = Status.GRADED
    reason: str = ""
    notebook: dict[str, Any] | None = None
    files: dict[str, bytes] = Field(default_factory=dict)
    repairs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    submitted_at: datetime.datetime | None = None


class Prepared(_Frozen):
    """A submission set into the official notebook: what runs, and what is graded.

    Attributes:
        notebook: the official cells in their order with the student's answers, and the student's own cells
            where they stood; test cells hold the released text; every nbgrader setting is the instructor's.
        status: GRADED, GRADED_WITH_REPAIRS or NEEDS_HUMAN (then `reason` says what a person has to look at).
        repairs: one sentence each, those of the submission included.
        blank: grade_ids of answer cells that still hold the released stub.
        lost: grade_ids of answer cells that could not be found in what was handed in.
    """

    student: str
    lab: str
    notebook: dict[str, Any]
    status: Status
    reason: str = ""
    repairs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    blank: frozenset[str] = frozenset()
    lost: frozenset[str] = frozenset()


class PropertyScore(_Frozen):
    """One named property of an exercise: how many of its private cases passed, and what it earned."""

    name: str
    passed: int
    cases: int
    points: float
    possible: float


class CellGrade(_Frozen):
    """The verdict on one graded cell.

    Attributes:
        grade_id: nbgrader's name of the cell.
        exercise: the function it judges; empty for an answer that a person reads.
        points: earned, or None while a person has to give them.
        verdict: "passed", "partial", "failed", "no answer", "took too long", "crashed Python",
            "used too much memory", "passes examples only", "not reached", "not found" or "by hand".
        text: what the student reads; categories and named mistakes, never a private case.
        faults: ids of the catalogued mistakes that explain it.
        properties: partial credit; empty for a visible cell.
    """

    grade_id: str
    exercise: str = ""
    points: float | None = None
    possible: float
    verdict: str
    text: str = ""
    faults: tuple[str, ...] = ()
    properties: tuple[PropertyScore, ...] = ()


class Result(_Frozen):
    """Everything that grading one student's lab gave.

    Attributes:
        cells: a verdict for every graded cell of the lab, in its order; empty unless it was run.
        notebook: the autograded notebook with bounded outputs and authored verdicts; None if there is none.
        flags: for the instructor, one clause each, such as "used too much memory and was stopped".
        seconds: by phase: "start", "cells" (the lab's own compute), "questions", "finish".
        peak_memory: bytes, the student's processes together.
        cause: hash of all that the verdicts depend on, by which --resume knows that nothing changed; empty
            where something has to be judged again.
    """

    student: str
    lab: str
    status: Status
    reason: str = ""
    repairs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    cells: tuple[CellGrade, ...] = ()
    notebook: dict[str, Any] | None = None
    flags: tuple[str, ...] = ()
    seconds: dict[str, float] = Field(default_factory=dict)
    peak_memory: int = 0
    cause: str = ""
    submitted_at: datetime.datetime | None = None

    @property
    def judged(self) -> bool:
        """Whether there are verdicts; one that needs a person may have some of them."""
        return bool(self.cells)

    @property
    def points(self) -> float | None:
        """Points that need no person; None where nothing was graded, which is not a zero."""
        return sum(c.points or 0.0 for c in self.cells) if self.cells else None

    @property
    def possible(self) -> float:
        """What the graded cells are worth, those that a person reads included."""
        return sum(c.possible for c in self.cells)
