"""Grades one submission: the job that runs on a worker of this machine or of a Dask cluster, unchanged."""

import contextlib
import datetime
import hashlib
import importlib.metadata
import json
import secrets
import select
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from nbformat.v4 import new_output

from autograder.checks.judging import private_cases
from autograder.checks.registry import exercises
from autograder.checks.seeds import Seed
from autograder.grading.inside import frames
from autograder.grading.inside.provisioner import WarmProcessError
from autograder.grading.model import CellGrade, Prepared, Result, Status
from autograder.grading.questions import CRASHED, MEMORY, NotHeld, ask, hold
from autograder.grading.safe_outputs import Allowance, plain_text, safe_outputs
from autograder.grading.verdicts import hidden_grade, visible_grade
from autograder.grading.workshop import Workshop, WorkshopError
from autograder.labs import ROOT, stub_of
from chatcontract.check.cases import exercise_named as public_exercise
from chatcontract.check.diagnosis import AnyCase
from chatcontract.check.outcome import Outcome

_FLAGS = {
    "memory": "used too much memory and was stopped",
    "processes": "started too many processes and was stopped",
    "time": "took too long as a whole; the rest was not run",
}
_NO_NETWORK = (
    "Network is unreachable",
    "Temporary failure in name resolution",
    "Name or service not known",
    "Could not resolve host",
    "We couldn't connect to 'https://huggingface.co'",
    "OfflineModeIsEnabled",
    "LocalEntryNotFoundError",
)
_NETWORK_NOTE = """
[grader] There is no network while grading. Models: load_model("smollm2-135m") or load_model("nano") of
chatcontract.models. Data: asset("shopflow/...") of chatcontract.course_files. Packages: those of the course.
"""
_FULL = ("No space left on device", "[Errno 27] File too large")
LARGEST_RESULT = 12 * 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """What one submission may use.

    Attributes:
        cell_seconds: for one cell.
        total_seconds: for the notebook.
        fork_seconds: that the kernel may take to fork, before it counts as disturbed.
        memory: bytes, of all its processes together.
        disk: bytes, in each of its folders.
        processes: at a time.
    """

    cell_seconds: float = 60.0
    total_seconds: float = 900.0
    fork_seconds: float = 10.0
    memory: int = 3 << 30
    disk: int = 64 << 20
    processes: int = 64


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class Job:
    """Everything that grading one submission needs; plain data that can travel to another machine.

    Attributes:
        files: further files of the student's folder, by name.
        isolated: False only where the instructor asked for it (`--unsafe`).
    """

    prepared: Prepared
    seed: Seed
    limits: Limits = DEFAULT_LIMITS
    files: dict[str, bytes] = field(default_factory=dict)
    cause: str = ""
    submitted_at: datetime.datetime | None = None
    isolated: bool = True


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


class _ForkLost(Exception):
    """The fork of the kernel that was to answer ended."""


@dataclass
class _Held:
    """A fork of the kernel as the notebook was after `ran` cells, and the channel on which it answers."""

    ran: int
    channel: socket.socket


# What a cell that was stopped does to the answer that it should have defined.
_STOPPED = {
    "time": "time: the cell with this function took too long",
    "memory": "memory: the cell with this function used too much memory",
    "processes": "crash: the cell with this function started too many processes",
    "crash": "crash: the cell with this function ended Python itself",
}


class _Grading:
    """The grader's side of one run: answers the runner's events, asks the kernel, keeps the verdicts.

    Public cases are asked where their cell stands. Private ones are asked of a fork made there, after the
    last cell has run and the outputs are in: what a function learns from them has no way into what students
    see.
    """

    def __init__(self, job: Job, workshop: Workshop) -> None:
        self.job, self.workshop = job, workshop
        self.cells = job.prepared.notebook["cells"]
        tests, self.by_hand = test_cells(self.cells)
        self.tests = {test.index: test for test in tests}
        self.grades: dict[str, CellGrade] = {}
        self.passed: set[str] = set()
        self.flags: list[str] = []
        self.kernel: socket.socket | None = None
        self.held: dict[int, _Held] = {}
        self.lost: set[str] = set()
        self.unasked: list[TestCell] = []
        self.stopped: dict[str, str] = {}
        self.seconds = {"questions": 0.0}
        self.peak = 0
        self.report: dict[str, Any] = {}

    def run(self) -> None:
        self.report = self._pass(at_once=False)
        self.lost -= self.grades.keys()
        if self.lost:
            # Something ended the forks that waited. Now every question is asked where it stands, and
            # nobody is shown what this second run puts out.
            self._pass(at_once=True)

    def _pass(self, *, at_once: bool) -> dict[str, Any]:
        """Run the notebook once and judge what can be judged; what the runner reported."""
        name = secrets.token_hex(4)
        self.workshop.open_job(name, self.job.files)
        try:
            report = self._run(name, at_once)
            # The outputs are in: nothing that a secret question tells the kernel can reach them.
            self.workshop.end("runner")
            self._note_left_behind()
            self._ask_held()
            self._settle_unasked(at_once)
        finally:
            began = time.monotonic()
            self._end_kernel()
            with contextlib.suppress(WarmProcessError):
                self.workshop.end("runner")
            self.workshop.close_job(name)
            self.seconds["finish"] = time.monotonic() - began
        return report

    def _run(self, name: str, at_once: bool) -> dict[str, Any]:
        """Answer the runner's events until it is done; what it reported."""
        began = time.monotonic()
        deadline = began + 2 * self.job.limits.total_seconds + 60
        try:
            with self.workshop.start_runner(name) as runner:
                frames.send(runner, self._task())
                self.seconds.setdefault("start", time.monotonic() - began)
                while True:
                    left = deadline - time.monotonic()
                    event = _event(frames.receive(runner, left, LARGEST_RESULT))
                    if event["event"] == "done":
                        return event
                    self._on(event, at_once)
                    frames.send(runner, {})
        except (frames.Silence, frames.Closed, frames.BadFrame, BrokenPipeError) as error:
            self.flags.append(
                f"the runner was lost ({type(error).__name__}); what was judged before it counts"
            )
            return {}

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

    def _on(self, event: dict[str, Any], at_once: bool) -> None:
        if event["event"] == "kernel":
            self._end_kernel()
            self.kernel = self.workshop.deposit("kernel")
            return
        self.stopped = event["stopped"]
        test = self.tests.get(event["cell"])
        if test is None or test.grade_id in self.grades:
            return
        # In a second run the kernel has met secret cases: no further text may come from it.
        if at_once and test.grade_id not in self.lost:
            return
        held = self._hold(test, event["ran"])
        if held is None:
            # If the kernel is gone, another one is started and this cell is met again.
            self.unasked.append(test)
        elif at_once or not test.hidden:
            self._judge(test, held)
        else:
            self.held[test.index] = held

    def _hold(self, test: TestCell, ran: int) -> _Held | None:
        """A fork of the kernel as it is now; the latest one serves where no cell ran since."""
        latest = next(reversed(self.held.values()), None)
        if latest is not None and latest.ran == ran and latest.channel.fileno() >= 0:
            return latest
        if self.kernel is None or self.kernel.fileno() < 0:
            return None
        try:
            held = _Held(ran, hold(self.kernel, self.job.limits.fork_seconds))
        except NotHeld:
            # It is given up: the next question would wait as long.
            self.kernel.close()
            return None
        self.held[test.index] = held
        return held

    def _ask_held(self) -> None:
        """The questions that had to wait for the end."""
        for index, held in self.held.items():
            test = self.tests[index]
            if test.grade_id in self.grades:
                continue
            if held.channel.fileno() < 0 or not _listens(held.channel):
                self.lost.add(test.grade_id)
                continue
            try:
                self._judge(test, held, last=False)
            except _ForkLost:
                self.lost.add(test.grade_id)

    def _settle_unasked(self, at_once: bool) -> None:
        """The questions for which there was no kernel, nor another one later."""
        for test in self.unasked:
            if test.grade_id in self.grades:
                continue
            if test.hidden and not at_once:
                self.lost.add(test.grade_id)
            else:
                self.flags.append(f"no kernel was there to be asked at {test.grade_id}")
                self._judge(test, None)
        self.unasked.clear()

    def _end_kernel(self) -> None:
        for held in self.held.values():
            held.channel.close()
        self.held.clear()
        if self.kernel is not None:
            self.kernel.close()
            self.kernel = None
            with contextlib.suppress(WarmProcessError):
                self.peak = max(self.peak, int(self.workshop.end("kernel")["peak"]))

    def _note_left_behind(self) -> None:
        channels = {id(held.channel) for held in self.held.values() if held.channel.fileno() >= 0}
        if self._stopped_for_memory():
            self.flags.append(_FLAGS["memory"])
        with contextlib.suppress(WarmProcessError):
            left = self.workshop.lingering(len(channels))
            if left:
                self.flags.append(f"left {left} processes behind, which were ended")

    def _judge(self, test: TestCell, held: _Held | None, *, last: bool = True) -> None:
        """Keep the verdict on a cell.

        Args:
            last: whether what a fork of the kernel that ended did not answer counts as a crash.

        Raises:
            _ForkLost: the fork ended, and this is not the last time that the cell is asked.
        """
        try:
            self.grades[test.grade_id] = self._grade(test, held, last)
        except _ForkLost:
            raise
        except Exception as error:
            # What no one foresaw costs one answer, and nobody's marks are guessed.
            self.flags.append(f"the grader failed at {test.grade_id} ({type(error).__name__})")

    def _grade(self, test: TestCell, held: _Held | None, last: bool) -> CellGrade:
        began = time.monotonic()
        public = public_exercise(test.exercise)
        cases: Sequence[AnyCase] = public.cases
        if test.hidden:
            private = private_cases(exercises()[test.exercise], self.job.seed)
            cases = private.cases
        outcomes = self._ask(test.exercise, cases, public.time_limit, held)
        if not last and CRASHED in outcomes:
            # A call runs in a process of its own: it was the fork that something ended, maybe another answer.
            raise _ForkLost
        blank = stub_of(test.exercise) in self.job.prepared.blank
        if test.hidden:
            grade = hidden_grade(
                test.grade_id,
                private,
                outcomes,
                blank=blank,
                examples_passed=test.exercise in self.passed,
            )
        else:
            grade = visible_grade(test.grade_id, public, test.possible, outcomes, blank=blank)
            if grade.verdict == "passed":
                self.passed.add(test.exercise)
        self.seconds["questions"] += time.monotonic() - began
        return grade

    def _ask(
        self, function: str, cases: Sequence[AnyCase], seconds: float, held: _Held | None
    ) -> list[Outcome]:
        if held is None:
            return [CRASHED] * len(cases)
        before = self._stopped_for_memory()
        outcomes, usable = ask(held.channel, function, cases, seconds)
        if not usable:
            held.channel.close()
        crashed = any(outcome.trouble.startswith("crash") for outcome in outcomes)
        if crashed and self._stopped_for_memory() > before:
            outcomes = [MEMORY if o.trouble.startswith("crash") else o for o in outcomes]
            self.flags.append(_FLAGS["memory"])
        why = self.stopped.get(self._place_of_answer(function), "")
        if why:
            never = Outcome(trouble=_STOPPED[why])
            outcomes = [never if o.trouble.startswith("missing") else o for o in outcomes]
        return outcomes

    def _stopped_for_memory(self) -> int:
        """How many processes of this kernel were ended because of the memory they took."""
        try:
            state = self.workshop.state("kernel")
        except WarmProcessError:
            return 0
        if state["killed_for"] == "processes":
            self.flags.append(_FLAGS["processes"])
        return int(state["stopped"]) + (state["killed_for"] == "memory")

    def _place_of_answer(self, function: str) -> str:
        """Index of the cell that a function is answered in, as the runner names it; "" if there is none."""
        found = (
            index
            for index, cell in enumerate(self.cells)
            if cell["metadata"].get("nbgrader", {}).get("grade_id") == stub_of(function)
        )
        return str(next(found, ""))


def _event(raw: Any) -> dict[str, Any]:
    """What the runner said, if it is of the agreed form.

    Raises:
        BadFrame: it is not.
    """
    forms: dict[Any, dict[str, type]] = {
        "kernel": {},
        "ask": {"cell": int, "ran": int, "stopped": dict},
        "done": {"outputs": dict, "seconds": dict, "flags": list},
    }
    if not isinstance(raw, dict) or not isinstance(raw.get("event"), str) or raw["event"] not in forms:
        raise frames.BadFrame("an event of another form")
    form = forms[raw["event"]]
    if set(raw) != {"event", *form} or not all(isinstance(raw[name], kind) for name, kind in form.items()):
        raise frames.BadFrame("an event of another form")
    if not all(isinstance(why, str) and why in _STOPPED for why in raw.get("stopped", {}).values()):
        raise frames.BadFrame("an event of another form")
    return raw


def _listens(channel: socket.socket) -> bool:
    """Whether somebody is there to be asked: a channel whose other end is closed has an end to be read."""
    return not select.select([channel], [], [], 0)[0]


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
        if stub_of(test.exercise) in prepared.lost:
            cells.append(_for_a_person(test, "not found", "no cell was found that holds this answer."))
        elif test.grade_id in run.grades:
            cells.append(run.grades[test.grade_id])
        else:
            reached = False
            cells.append(_for_a_person(test, "not reached", "this cell was not judged."))
    order = [c["metadata"].get("nbgrader", {}).get("grade_id") for c in prepared.notebook["cells"]]
    cells = sorted([*cells, *_by_hand(run, prepared)], key=lambda c: order.index(c.grade_id))
    notebook, own = _with_outputs(prepared.notebook, run.report)
    flags = tuple(dict.fromkeys([*run.flags, *_told(run.report), *_refused(notebook)]))
    status, reason = prepared.status, prepared.reason
    if not reached:
        status = Status.NEEDS_HUMAN
        reason = "Not all exercises were judged: " + "; ".join(flags)
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
        # What the machine may have failed at is tried again.
        cause=job.cause if reached else "",
        submitted_at=job.submitted_at,
    )


def _for_a_person(test: TestCell, verdict: str, why: str) -> CellGrade:
    """A verdict without points: the machine cannot tell, and a 0 would look as if it could."""
    return CellGrade(
        grade_id=test.grade_id,
        exercise=test.exercise,
        points=None,
        possible=test.possible,
        verdict=verdict,
        text=f"{test.exercise}: {why}",
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
    return [plain_text(_FLAGS.get(flag, flag), 300) for flag in flags[:50] if isinstance(flag, str)]


def _with_outputs(notebook: dict[str, Any], report: dict[str, Any]) -> tuple[dict[str, Any], float]:
    """The prepared notebook with what its cells printed, made safe; and the seconds that they took."""
    copy: dict[str, Any] = json.loads(json.dumps(notebook))
    outputs, seconds = report.get("outputs", {}), report.get("seconds", {})
    allowance = Allowance()
    for index, cell in enumerate(copy["cells"]):
        if cell["cell_type"] == "code":
            found = outputs.get(str(index), []) if isinstance(outputs, dict) else []
            cell["outputs"] = safe_outputs(found, allowance)
    times = seconds.values() if isinstance(seconds, dict) else ()
    return copy, sum(float(t) for t in times if isinstance(t, int | float))


def _refused(notebook: dict[str, Any]) -> list[str]:
    """What cells asked for and did not get, by their outputs; a note in the cell says what to use instead."""
    flags = []
    for cell in notebook["cells"]:
        said = json.dumps(cell.get("outputs", []), ensure_ascii=False)
        if any(json.dumps(words)[1:-1] in said for words in _NO_NETWORK):
            cell["outputs"].append(new_output("stream", name="stdout", text=_NETWORK_NOTE))
            flags.append("asked for the network, which is closed while grading")
        if any(words in said for words in _FULL):
            flags.append("filled the disk space of a submission")
    return flags


@cache
def grader_version() -> str:
    """A hash of what decides marks: grader, checks, faults, solutions, data, Python and main packages."""
    digest = hashlib.sha256(sys.version.encode())
    for package in ("ipykernel", "nbclient", "numpy", "torch", "transformers", "trl"):
        digest.update(f"{package} {importlib.metadata.version(package)}".encode())
    for folder in ("autograder", "chatcontract", "assets", "solutions"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(path.relative_to(ROOT).as_posix().encode())
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def cause(job: Job, course: Path = ROOT) -> str:
    """What a verdict depends on: hand-in, official lab, grader, seed, limits, sandbox; as a hash."""
    prepared = job.prepared.model_dump(mode="json")
    # Sets have another order in every process.
    prepared |= {name: sorted(prepared[name]) for name in ("blank", "lost")}
    official = course / "solutions" / job.prepared.lab / f"{job.prepared.lab}.ipynb"
    parts = [
        grader_version(),
        hashlib.sha256(job.seed.key).hexdigest(),
        repr(job.limits),
        hashlib.sha256(official.read_bytes()).hexdigest(),
        prepared,
        {name: hashlib.sha256(content).hexdigest() for name, content in job.files.items()},
        job.isolated,
        str(job.submitted_at),
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
