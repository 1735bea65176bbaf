"""Grades one submission: the job that runs on a worker of this machine or of a Dask cluster, unchanged."""

import contextlib
import datetime
import hashlib
import json
import secrets
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from autograder.checks.judging import private_cases
from autograder.checks.registry import exercises
from autograder.checks.seeds import Seed
from autograder.grading.inside import frames
from autograder.grading.inside.provisioner import WarmProcessError
from autograder.grading.model import CellGrade, Prepared, Result, Status
from autograder.grading.questions import CRASHED, MEMORY, KernelGone, StuckKernel, ask
from autograder.grading.safe_outputs import safe_outputs
from autograder.grading.verdicts import hidden_grade, visible_grade
from autograder.grading.workshop import Workshop, WorkshopError
from autograder.labs import ROOT
from chatcontract.check.cases import exercise_named as public_exercise
from chatcontract.check.diagnosis import AnyCase
from chatcontract.check.outcome import Outcome

_FLAGS = {
    "memory": "used too much memory and was stopped",
    "processes": "started too many processes and was stopped",
    "time": "took too long as a whole; the rest was not run",
}
_NO_NETWORK = ("Network is unreachable", "Temporary failure in name resolution", "Name or service not known")
LARGEST_RESULT = 12 * 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """What one submission may use: seconds a cell and in all, bytes of memory and of disk, processes."""

    cell_seconds: float = 60.0
    total_seconds: float = 900.0
    memory: int = 3 << 30
    disk: int = 64 << 20
    processes: int = 64


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class Job:
    """Everything that grading one submission needs; plain data that can travel to another machine.

    Attributes:
        files: further files of the student's folder, by name.
    """

    prepared: Prepared
    seed: Seed
    limits: Limits = DEFAULT_LIMITS
    files: dict[str, bytes] = field(default_factory=dict)
    cause: str = ""
    submitted_at: datetime.datetime | None = None


@dataclass(frozen=True)
class TestCell:
    """A cell whose points the judge gives: where it stands, and which exercise it belongs to."""

    index: int
    grade_id: str
    exercise: str
    hidden: bool
    possible: float


def test_cells(cells: Sequence[dict[str, Any]]) -> tuple[list[TestCell], list[CellGrade]]:
    """The test cells that the judge knows, and verdicts for graded cells that a person reads."""
    tests, by_hand = [], []
    for index, cell in enumerate(cells):
        settings = cell["metadata"].get("nbgrader", {})
        if not settings.get("grade"):
            continue
        grade_id, possible = settings["grade_id"], float(settings["points"])
        name, _, kind = grade_id.rpartition("-")
        exercise = name.replace("-", "_")
        if settings.get("solution") or kind not in ("visible", "hidden") or exercise not in exercises():
            by_hand.append(CellGrade(grade_id=grade_id, possible=possible, verdict="by hand"))
        else:
            tests.append(TestCell(index, grade_id, exercise, kind == "hidden", possible))
    return tests, by_hand


def is_judged(cells: Sequence[dict[str, Any]]) -> bool:
    """Whether the judge gives all points of a notebook that no person has to give."""
    automatic = {
        cell["metadata"]["nbgrader"]["grade_id"]
        for cell in cells
        if cell["metadata"].get("nbgrader", {}).get("grade")
        and not cell["metadata"]["nbgrader"].get("solution")
        and cell["cell_type"] == "code"
    }
    return bool(automatic) and automatic == {test.grade_id for test in test_cells(cells)[0]}


class _Grading:
    """The grader's side of one run: answers the runner's events, asks the kernel, keeps the verdicts."""

    def __init__(self, job: Job, workshop: Workshop) -> None:
        self.job, self.workshop = job, workshop
        self.name = secrets.token_hex(4)
        self.cells = job.prepared.notebook["cells"]
        tests, self.by_hand = test_cells(self.cells)
        self.tests = {test.index: test for test in tests}
        self.grades: dict[str, CellGrade] = {}
        self.passed: set[str] = set()
        self.flags: list[str] = []
        self.kernel: socket.socket | None = None
        self.seconds = {"questions": 0.0}
        self.peak = 0
        self.report: dict[str, Any] = {}

    def run(self) -> None:
        limits = self.job.limits
        deadline = time.monotonic() + 2 * limits.total_seconds + 60
        self.workshop.open_job(self.name, self.job.files)
        try:
            began = time.monotonic()
            with self.workshop.start_runner(self.name) as runner:
                frames.send(runner, self._task())
                self.seconds["start"] = time.monotonic() - began
                while not self.report:
                    event = frames.receive(runner, max(1.0, deadline - time.monotonic()), LARGEST_RESULT)
                    self._on(event)
                    if not self.report:
                        frames.send(runner, {})
        except (
            frames.Silence,
            frames.Closed,
            frames.BadFrame,
            BrokenPipeError,
            KeyError,
            TypeError,
        ) as error:
            self.flags.append(
                f"the runner was lost ({type(error).__name__}); what was judged before it counts"
            )
        finally:
            began = time.monotonic()
            self._end_kernel()
            for kind in ("runner", "kernel"):
                with contextlib.suppress(WarmProcessError):
                    self.workshop.end(kind)
            self.workshop.close_job(self.name)
            self.seconds["finish"] = time.monotonic() - began

    def _task(self) -> dict[str, Any]:
        limits = self.job.limits
        cells = [
            {key: cell[key] for key in ("cell_type", "id", "source")}
            | {"metadata": {}}
            | ({"outputs": [], "execution_count": None} if cell["cell_type"] == "code" else {})
            for cell in self.cells
        ]
        skipped = [index for index, cell in enumerate(self.cells) if _is_skipped(cell)]
        for index in skipped:
            cells[index]["source"] = ""
        return {
            "notebook": {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5},
            "graded": sorted(self.tests),
            "cell_seconds": limits.cell_seconds,
            "total_seconds": limits.total_seconds,
            "limits": {
                "folder": self.job.prepared.lab,
                "memory": limits.memory,
                "disk": limits.disk,
                "processes": limits.processes,
                "cpu": int(limits.total_seconds),
            },
        }

    def _on(self, event: Any) -> None:
        kind = event["event"]
        if kind == "kernel":
            self._end_kernel()
            self.kernel = self.workshop.deposit("kernel")
        elif kind == "ask":
            test = self.tests.get(event["cell"])
            if test is not None and test.grade_id not in self.grades:
                began = time.monotonic()
                self._judge(test)
                self.seconds["questions"] += time.monotonic() - began
        elif kind == "done":
            self.report = event

    def _end_kernel(self) -> None:
        if self.kernel is None:
            return
        self.kernel.close()
        self.kernel = None
        with contextlib.suppress(WarmProcessError):
            self._note_end(self.workshop.end("kernel"))

    def _note_end(self, ended: dict[str, Any]) -> None:
        self.peak = max(self.peak, int(ended["peak"]))
        if ended["left_behind"] and not ended["killed_for"]:
            self.flags.append(f"left {ended['left_behind']} processes behind, which were ended")

    def _judge(self, test: TestCell) -> None:
        public = public_exercise(test.exercise)
        cases: Sequence[AnyCase] = public.cases
        if test.hidden:
            private = private_cases(exercises()[test.exercise], self.job.seed)
            cases = private.cases
        outcomes = self._ask(test.exercise, cases, public.time_limit)
        blank = f"{test.exercise.replace('_', '-')}-stub" in self.job.prepared.blank
        if test.hidden:
            grade = hidden_grade(
                test.grade_id,
                exercises()[test.exercise],
                private,
                outcomes,
                blank=blank,
                examples_passed=test.exercise in self.passed,
            )
        else:
            grade = visible_grade(test.grade_id, public, test.possible, outcomes, blank=blank)
            if grade.verdict == "passed":
                self.passed.add(test.exercise)
        self.grades[test.grade_id] = grade

    def _ask(self, function: str, cases: Sequence[AnyCase], seconds: float) -> list[Outcome]:
        assert self.kernel is not None
        try:
            return ask(self.kernel, function, cases, seconds)
        except StuckKernel as stuck:
            self._end_kernel()
            return stuck.outcomes
        except KernelGone as gone:
            with contextlib.suppress(WarmProcessError):
                state = self.workshop.state("kernel")
                if state["killed_for"]:
                    self.flags.append(_FLAGS[state["killed_for"]])
                    lost = Outcome(trouble=MEMORY if state["killed_for"] == "memory" else CRASHED)
                    return [*gone.outcomes, *[lost] * (len(cases) - len(gone.outcomes))]
            self._end_kernel()
            return [*gone.outcomes, *[Outcome(trouble=CRASHED)] * (len(cases) - len(gone.outcomes))]


def _is_skipped(cell: dict[str, Any]) -> bool:
    from autograder.learning_cells import LEARNING_TAGS

    tags = LEARNING_TAGS.intersection(cell["metadata"].get("tags", []))
    return bool(tags) and "nbgrader" not in cell["metadata"]


def grade(job: Job, workshop: Workshop) -> Result:
    """Run a submission and judge it; never raises for anything that a submission does.

    Raises:
        WorkshopError: the warm processes are gone; the job can be given to another worker.
    """
    prepared = job.prepared
    run = _Grading(job, workshop)
    try:
        run.run()
    except (WarmProcessError, OSError) as error:
        raise WorkshopError(str(error)) from error
    cells, reached = [], True
    for test in run.tests.values():
        if test.grade_id in run.grades:
            cells.append(run.grades[test.grade_id])
        else:
            reached = False
            text = f"{test.exercise}: the notebook was stopped before this cell."
            cells.append(
                CellGrade(
                    grade_id=test.grade_id,
                    exercise=test.exercise,
                    points=0.0,
                    possible=test.possible,
                    verdict="not reached",
                    text=text,
                )
            )
    order = [c["metadata"].get("nbgrader", {}).get("grade_id") for c in prepared.notebook["cells"]]
    cells = sorted([*cells, *_by_hand(run, prepared)], key=lambda c: order.index(c.grade_id))
    notebook, own = _with_outputs(prepared.notebook, run.report)
    flags = tuple(dict.fromkeys([*run.flags, *_told(run.report), *_network(notebook)]))
    status, reason = prepared.status, prepared.reason
    if not reached:
        status = Status.NEEDS_HUMAN
        reason = "The notebook was stopped before all exercises were judged: " + "; ".join(flags)
    seconds = {**run.seconds, "cells": own}
    return Result(
        student=prepared.student,
        lab=prepared.lab,
        status=status,
        reason=reason,
        repairs=prepared.repairs,
        notes=prepared.notes,
        cells=tuple(cells),
        notebook=notebook,
        flags=flags,
        seconds={name: round(value, 4) for name, value in seconds.items()},
        peak_memory=run.peak,
        cause=job.cause,
        submitted_at=job.submitted_at,
    )


def _by_hand(run: _Grading, prepared: Prepared) -> list[CellGrade]:
    """Answers that a person reads; one that was not written earns 0 without a person, as nbgrader has it."""
    return [
        cell.model_copy(update={"points": 0.0, "verdict": "no answer", "text": "No answer."})
        if cell.grade_id in prepared.blank
        else cell
        for cell in run.by_hand
    ]


def _told(report: dict[str, Any]) -> list[str]:
    flags = report.get("flags", [])
    return [_FLAGS.get(flag, flag)[:300] for flag in flags[:50] if isinstance(flag, str)]


def _with_outputs(notebook: dict[str, Any], report: dict[str, Any]) -> tuple[dict[str, Any], float]:
    """The prepared notebook with what its cells printed, made safe; and the seconds that they took."""
    copy: dict[str, Any] = json.loads(json.dumps(notebook))
    outputs, seconds = report.get("outputs", {}), report.get("seconds", {})
    for index, cell in enumerate(copy["cells"]):
        if cell["cell_type"] == "code":
            found = outputs.get(str(index), []) if isinstance(outputs, dict) else []
            cell["outputs"] = safe_outputs(found)
    times = seconds.values() if isinstance(seconds, dict) else ()
    return copy, sum(float(t) for t in times if isinstance(t, int | float))


def _network(notebook: dict[str, Any]) -> list[str]:
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            said = str(output.get("evalue", "")) + str(output.get("text", ""))
            if any(words in said for words in _NO_NETWORK):
                return ["asked for the network, which is closed while grading"]
    return []


@cache
def grader_version(root: Path = ROOT) -> str:
    """A hash of what decides marks: the grader, the checks, the faults and the package they use."""
    digest = hashlib.sha256()
    for folder in ("autograder", "chatcontract", "assets/checks"):
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in (".py", ".json") and path.is_file():
                digest.update(path.relative_to(root).as_posix().encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()


def cause(prepared: Prepared, files: dict[str, bytes], seed: Seed, limits: Limits, root: Path = ROOT) -> str:
    """What a verdict depends on: the hand-in as prepared, the lab, the grader, the seed, the limits."""
    digest = hashlib.sha256(grader_version(root).encode())
    digest.update(hashlib.sha256(seed.key).digest())
    digest.update(repr(limits).encode())
    digest.update((root / "solutions" / prepared.lab / f"{prepared.lab}.ipynb").read_bytes())
    digest.update(prepared.model_dump_json().encode())
    for name in sorted(files):
        digest.update(name.encode() + files[name])
    return digest.hexdigest()
