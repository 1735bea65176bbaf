"""`course.py rehearse`: a whole term in one command, with a simulated class and a proof for each step.

The student's bundle is released to a folder, searched for leaks, and worked on by students who do not exist:
their hand-ins come from the bundle's own notebooks. Grading has to find what each of them is known to hold.
"""

import inspect
import os
import random
import re
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

import nbformat
from rich.console import Console

from autograder.build import main as build
from autograder.checks.registry import exercises
from autograder.checks.seeds import ENVIRONMENT
from autograder.faults.as_answer import right_answers
from autograder.faults.registry import faults_of
from autograder.grading import sandbox
from autograder.grading.grade import ClassOutcome, Refused, grade_class
from autograder.grading.gradebook import GraderError
from autograder.grading.intake import IntakeError
from autograder.grading.model import Result, Status
from autograder.grading.options import Options
from autograder.grading.sample_class import (
    BLANK,
    BROKEN,
    FAULT,
    RIGHT,
    HandIn,
    ReleasedLab,
    write_course,
    write_hand_ins,
)
from autograder.grading.workshop import WorkshopError
from autograder.labs import ROOT, Lab, UnknownLab, automatic_points, discover, select
from autograder.release import ReleaseError, write_release

FAULTS_A_LAB = 2
_TEXTS = (".py", ".ipynb", ".json", ".md", ".jsonl", ".yaml", ".html", ".svg", ".txt", ".toml")
_NEVER = re.compile(r"BEGIN (SOLUTION|HIDDEN TESTS)|from autograder|\bjudge\(")
# Shorter lines stand in many programs and give nothing away.
_TELLING = 60


class RehearsalFailed(Exception):
    """What a phase found wrong, one sentence each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class _Rehearsal:
    """Runs phases and prints a line for each."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.failed = False

    def phase(self, name: str, work: Callable[[], Any], *, say: Callable[[Any], str] = lambda _: "") -> Any:
        """Do one phase; None where it failed."""
        began = time.monotonic()
        problems: list[str] = []
        found = None
        try:
            found = work()
        except RehearsalFailed as failed:
            problems = failed.problems
        except (ReleaseError, Refused, IntakeError, GraderError, WorkshopError) as error:
            problems = [str(error)]
        self.line(name, time.monotonic() - began, problems, say(found) if not problems else "")
        return found

    def line(self, name: str, seconds: float, problems: list[str], said: str = "") -> None:
        """One line a phase, and one for everything that is wrong with it."""
        verdict = "FAIL" if problems else "OK"
        self.failed = self.failed or bool(problems)
        self.console.print(f"{verdict:<4} {seconds:7.1f} s  {name}{f': {said}' if said else ''}")
        for problem in problems:
            self.console.print(f"     {problem}")


def main(labs: tuple[str, ...] = (), out: Path | None = None, workers: int = 2) -> int:
    """Rehearse the course.

    Args:
        labs: names such as 06 or qlora; all for none.
        out: a new or empty folder that keeps everything; by default a temporary one that goes again.

    Returns:
        Exit status: 0, or 1 when a phase failed.
    """
    console = Console(highlight=False, soft_wrap=True, markup=False)
    try:
        chosen = select(labs, discover(ROOT / "solutions"))
        sandbox.require()
    except (UnknownLab, sandbox.NoSandbox) as problem:
        console.print(f"course.py: {problem}")
        return 1
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        console.print(f"course.py: {out} is not empty: name a new or an empty folder.")
        return 1
    with ExitStack() as stack:
        if out is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rehearsal-")))
        else:
            folder = out.resolve()
            folder.mkdir(parents=True, exist_ok=True)
        ok = rehearse(chosen, folder, console, workers)
        if out is not None:
            console.print(f"Everything is in {folder}.")
    return 0 if ok else 1


def rehearse(labs: list[Lab], folder: Path, console: Console, workers: int = 2) -> bool:
    """All phases in `folder`, which gets release/ and course/; whether every one was as it should be.

    Raises:
        NoSandbox: student code cannot be isolated here.
    """
    run = _Rehearsal(console)
    bundle, course = folder / "release", folder / "course"
    run.phase("notebooks/ is what solutions/ gives", lambda: _built(console))
    files = run.phase("release", lambda: write_release(bundle), say=lambda files: f"{len(files)} files")
    if files is None:
        return False
    run.phase("search for leaks", lambda: _search(bundle))
    hand_ins = run.phase(
        "simulated class",
        lambda: _class(labs, bundle, course),
        say=lambda made: f"{len(made)} hand-ins of {len({h.student for h in made})} students",
    )
    if hand_ins is None:
        return False
    options = Options(
        course=course,
        labs=tuple(lab.name for lab in labs),
        workers=workers,
        seed_file=course / "secrets" / "judge.seed",
    )
    outcome = run.phase("grade, with feedback and report", lambda: _graded(course, options, console))
    if outcome is None:
        return False
    for phase, seconds in outcome.seconds.items():
        run.line(f"  {phase}", seconds, [])
    for what, problems in _verdicts(labs, hand_ins, outcome.results).items():
        run.line(what, 0.0, problems)
    run.line("gradebook, feedback, exports and report are there", 0.0, _missing_files(course, hand_ins))
    return not run.failed


def _built(console: Console) -> None:
    if build(check=True) != 0:
        raise RehearsalFailed(["Run 'python course.py build' and look at what it says."])


def _graded(course: Path, options: Options, console: Console) -> ClassOutcome:
    before = os.environ.get(ENVIRONMENT)
    try:
        return grade_class(course / "submitted", options, console)
    finally:
        # Grading names its seed in the environment; the course's own must not be taken for it afterwards.
        os.environ.pop(ENVIRONMENT, None)
        if before is not None:
            os.environ[ENVIRONMENT] = before


def _class(labs: list[Lab], bundle: Path, course: Path) -> list[HandIn]:
    """A right and a blank copy of every lab, two with a fault each, and one broken file, from the bundle."""
    write_course(course, tuple(lab.name for lab in labs))
    made: list[HandIn] = []
    for lab in labs:
        released = ReleasedLab(lab.name, bundle / "notebooks" / lab.name / f"{lab.name}.ipynb")
        made.append(HandIn("student01", lab.name, RIGHT, "", released.right()))
        made.append(HandIn("student02", lab.name, BLANK, "", released.blank()))
        made.append(HandIn("student03", lab.name, BROKEN, "cut off in the middle", released.right()[:2000]))
        faults = islice(released.faults(random.Random(0)), FAULTS_A_LAB)
        made += [
            HandIn(f"student{number:02d}", lab.name, FAULT, fault.id, released.with_fault(fault))
            for number, fault in enumerate(faults, 4)
        ]
    write_hand_ins(course / "submitted", made)
    return made


def leaks(bundle: Path) -> list[str]:
    """What a bundle gives away: files of the instructor, markers, lines of reference answers or of faults."""
    found = [
        f"{name} is in the bundle."
        for name in ("solutions", "autograder", "tests", "secrets", "gradebook.db", "nbgrader_config.py")
        if (bundle / name).exists()
    ]
    for path in sorted(bundle.glob("notebooks/*/*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            if match := _NEVER.search(cell.source):
                found.append(f"{path.parent.name}, cell {cell.id}: holds {match[0]!r}.")
    text = "\n".join(
        path.read_text(encoding="utf-8", errors="replace")
        for path in sorted(bundle.rglob("*"))
        if path.suffix in _TEXTS and path.is_file()
    )
    flat = "".join(text.replace("\\n", "").replace('\\"', '"').split())
    for exercise in exercises().values():
        bodies = {f"the answer to {exercise.name}": _solution(exercise.lab, exercise.name)}
        bodies |= {f"the fault {fault.id}": _body(fault.run) for fault in faults_of(exercise.name)}
        found += [f"A line of {name} is in the bundle." for name, body in bodies.items() if _told(body, flat)]
    return found


def _solution(lab: str, name: str) -> str:
    """The lines of an answer cell that its stub does not have."""
    from autograder.checks.reference import notebook

    identifier = next(i for i, source in right_answers(lab).items() if f"def {name}(" in source)
    source = next(str(cell.source) for cell in notebook(lab).cells if cell.id == identifier)
    return source.partition("### BEGIN SOLUTION")[2].partition("### END SOLUTION")[0]


def _body(run: Callable[..., Any]) -> str:
    return inspect.getsource(run).split("\n)\n", 1)[-1].partition("\n")[2]


def _told(body: str, flat: str) -> bool:
    lines = ("".join(line.split()) for line in body.splitlines())
    return any(line in flat for line in lines if len(line) > _TELLING and not line.startswith("raise"))


def _search(bundle: Path) -> None:
    if found := leaks(bundle):
        raise RehearsalFailed(found)


def _verdicts(labs: list[Lab], hand_ins: list[HandIn], results: list[Result]) -> dict[str, list[str]]:
    """What has to hold of the marks, with the sentences that speak against it."""
    by_key = {(result.student, result.lab): result for result in results}
    possible = {lab.name: automatic_points(nbformat.read(lab.notebook, as_version=4)) for lab in labs}
    checks: dict[str, list[str]] = {
        "every hand-in has a status": [],
        "right copies have every point": [],
        "blank copies have none": [],
        "each fault costs points and is named": [],
        "a broken file is no zero": [],
    }
    status, right, blank, named, broken = checks.values()
    for hand_in in hand_ins:
        result, where = by_key.get((hand_in.student, hand_in.lab)), f"{hand_in.lab}, {hand_in.student}"
        if result is None:
            status.append(f"{where}: no status.")
            continue
        faults = {fault for cell in result.cells for fault in cell.faults}
        got = f"{result.status}, {result.points} of {possible[hand_in.lab]:g} points {result.reason}".strip()
        # Shares of points are rounded to hundredths.
        full = result.points is not None and abs(result.points - possible[hand_in.lab]) < 0.005
        if hand_in.kind == RIGHT and not full:
            right.append(f"{where}: {got}.")
        elif hand_in.kind == BLANK and result.points != 0:
            blank.append(f"{where}: {got}.")
        elif hand_in.kind == FAULT and (full or hand_in.about not in faults):
            named.append(
                f"{where}: {hand_in.about} gave {got}; named: {', '.join(sorted(faults)) or 'none'}."
            )
        elif hand_in.kind == BROKEN and (
            result.status is not Status.NOT_GRADABLE or result.points is not None
        ):
            broken.append(f"{where}: {got}.")
    return checks


def _missing_files(course: Path, hand_ins: list[HandIn]) -> list[str]:
    wanted = [course / "gradebook.db", course / "grading" / "class_report.html"]
    wanted += [
        course / "feedback" / h.student / h.lab / f"{h.lab}.html" for h in hand_ins if h.kind != BROKEN
    ]
    wanted += [course / "grading" / name for name in ("grades.csv", "statuses.csv")]
    return [f"{path.relative_to(course)} is missing." for path in wanted if not path.is_file()]
