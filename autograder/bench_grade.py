"""`course.py bench grade`: this grader beside stock `nbgrader autograde`, in one run on one machine.

Both grade the same simulated class: right, blank and single-fault copies of the released labs, with the same
seed. Stock nbgrader starts a kernel a submission and runs the hidden tests in it, one submission at a time.

What is measured: wall time from the first hand-in read to the last mark in the gradebook, a lab at a time,
with what starts once (imports, private cases) shown apart. A lab's own compute is the time of its cells and
of the questions about its functions, as this grader measured them; overhead is what remains. With two workers
two submissions run at once, so half of the compute is taken off the wall time; the time that a submission
spends on its worker beyond its own compute is given as well. At a lab's end one worker waits for the other's
last submission. A class meets that once and seven submissions as well, so that overheads are without it.
"""

import json
import os
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Any

import nbformat
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from autograder import stock_nbgrader
from autograder.checks.judging import private_cases
from autograder.checks.registry import exercises_of
from autograder.checks.seeds import ENVIRONMENT, Seed, class_seed, create
from autograder.grading import sandbox
from autograder.grading.gradebook import write_results
from autograder.grading.intake import intake
from autograder.grading.job import DEFAULT_LIMITS, Job
from autograder.grading.model import Result, Status
from autograder.grading.repair import prepare
from autograder.grading.sample_class import (
    BLANK,
    FAULT,
    RIGHT,
    HandIn,
    ReleasedLab,
    write_course,
    write_hand_ins,
)
from autograder.grading.workers import LocalWorkers
from autograder.labs import ROOT, Lab, UnknownLab, discover, select
from autograder.learning_cells import LEARNING_TAGS
from autograder.peak_memory import sampled
from autograder.stock_nbgrader import cell_scores, write_stock_course

STUDENTS = 300
TARGET_OVERHEAD, TARGET_RATIO = 0.5, 15.0
# Shares of points are rounded to hundredths.
_EQUAL = 0.005

Say = Callable[[str], None]


@dataclass
class LabFigures:
    """One lab, graded by both.

    Attributes:
        seconds, stock_seconds: wall time for all of its submissions.
        judging: the part of `seconds` in which submissions ran.
        idle: seconds that workers waited at the lab's end for the last submission, all workers together.
        imports_trl: its cells import TRL also while it is graded.
        compute: seconds that cells and questions took, over all submissions.
        memory, stock_memory: most bytes of all processes together, shared pages counted once.
        submission_memory: most bytes that one submission added to its warm process.
    """

    lab: str
    submissions: int
    workers: int
    seconds: float = 0.0
    judging: float = 0.0
    idle: float = 0.0
    imports_trl: bool = False
    compute: float = 0.0
    memory: int = 0
    submission_memory: int = 0
    stock_submissions: int = 0
    stock_seconds: float = 0.0
    stock_memory: int = 0
    phases: dict[str, float] = field(default_factory=dict)

    @property
    def per_minute(self) -> float:
        """Submissions per minute, start-up apart."""
        return 60 * self.submissions / self.seconds

    @property
    def stock_per_minute(self) -> float:
        """Submissions per minute of stock nbgrader, start-up apart."""
        return 60 * self.stock_submissions / self.stock_seconds

    @property
    def own(self) -> float:
        """Seconds of own compute of one submission."""
        return self.compute / self.submissions

    @property
    def share(self) -> float:
        """Part of the workers' time that was the lab's own compute."""
        return self.compute / (self.seconds * self.workers)

    @property
    def busy(self) -> float:
        """Wall time for all submissions as if no worker had waited at the end."""
        return self.seconds - self.idle / self.workers

    @property
    def overhead(self) -> float:
        """Seconds of wall time a submission, its own compute and the wait at the end taken off."""
        return self.busy / self.submissions - self.own / self.workers

    @property
    def on_worker(self) -> float:
        """Seconds that a submission keeps its worker busy beyond its own compute."""
        return (self.judging * self.workers - self.idle) / self.submissions - self.own

    @property
    def stock_overhead(self) -> float:
        """The same for stock nbgrader, which has one worker."""
        return self.stock_seconds / self.stock_submissions - self.own

    def as_json(self) -> dict[str, Any]:
        """All figures as plain data."""
        return asdict(self) | {
            "submissions_per_minute": self.per_minute,
            "stock_submissions_per_minute": self.stock_per_minute,
            "ratio": self.per_minute / self.stock_per_minute,
            "own_compute_a_submission": self.own,
            "own_compute_share": self.share,
            "overhead_a_submission": self.overhead,
            "overhead_on_its_worker": self.on_worker,
            "stock_overhead_a_submission": self.stock_overhead,
            "overhead_ratio": self.stock_overhead / self.overhead,
        }


@dataclass
class Bench:
    """Both graders on one class."""

    labs: list[LabFigures]
    start: dict[str, float]
    stock_start: float
    differences: list[str]
    wrong: list[str]

    def minutes(self, students: int = STUDENTS) -> float:
        """Projected for a whole class over these labs from the measured rates, start-up included."""
        labs = (students * f.busy / f.submissions + f.idle / f.workers for f in self.labs)
        return (sum(self.start.values()) + sum(labs)) / 60

    def stock_minutes(self, students: int = STUDENTS) -> float:
        """The same for stock nbgrader, which starts once a lab."""
        labs = (self.stock_start + students * f.stock_seconds / f.stock_submissions for f in self.labs)
        return sum(labs) / 60

    def as_json(self) -> dict[str, Any]:
        """All figures as plain data."""
        return {
            "labs": [figures.as_json() for figures in self.labs],
            "start_seconds": self.start,
            "stock_start_seconds_a_lab": self.stock_start,
            "projected": {
                "students": STUDENTS,
                "minutes": self.minutes(),
                "stock_minutes": self.stock_minutes(),
            },
            "partial_credit_differences": self.differences,
            "wrong": self.wrong,
            "cores": os.cpu_count(),
            "load_average": os.getloadavg()[0],
        }


def simulated_class(labs: list[Lab], submissions: int) -> list[HandIn]:
    """Copies of the labs in turn: right, blank and with one fault, each lab's faults in turn too."""
    made: list[HandIn] = []
    released = {lab.name: ReleasedLab(lab.name) for lab in labs}
    faults = {lab.name: cycle(list(released[lab.name].faults(Random(0)))) for lab in labs}
    for number in range(submissions):
        lab = labs[number % len(labs)].name
        turn = number // len(labs)
        student = f"student{turn + 1:03d}"
        if turn % 3 == 0:
            made.append(HandIn(student, lab, RIGHT, "", released[lab].right()))
        elif turn % 3 == 1:
            made.append(HandIn(student, lab, BLANK, "", released[lab].blank()))
        else:
            fault = next(faults[lab])
            made.append(HandIn(student, lab, FAULT, fault.id, released[lab].with_fault(fault)))
    return made


def measure(
    labs: list[Lab], submissions: int, *, workers: int = 2, stock_sample: int | None = None, say: Say = print
) -> Bench:
    """Grade one simulated class with both.

    Args:
        submissions: of all labs together; each lab needs at least one.
        stock_sample: how many of a lab's submissions stock nbgrader grades; all for None.
        say: called with what goes on.

    Raises:
        NoSandbox: student code cannot be isolated here.
    """
    sandbox.require()
    hand_ins = simulated_class(labs, submissions)
    names = tuple(lab.name for lab in labs)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        ours, stock = Path(folder) / "course", Path(folder) / "stock"
        seed_file = Path(folder) / "judge.seed"
        create(seed_file)
        with _named_seed(seed_file):
            write_course(ours, names)
            write_hand_ins(ours / "submitted", hand_ins)
            figures, start, results = _ours(ours, labs, class_seed(ours), workers, say)
            write_stock_course(stock, names)
            marks, stock_start = _stock(stock, hand_ins, figures, stock_sample, say)
    differences, wrong = _compared(hand_ins, results, marks)
    return Bench(figures, start, stock_start, differences, wrong)


@contextmanager
def _named_seed(path: Path) -> Iterator[None]:
    before = os.environ.get(ENVIRONMENT)
    os.environ[ENVIRONMENT] = str(path)
    try:
        yield
    finally:
        os.environ.pop(ENVIRONMENT)
        if before is not None:
            os.environ[ENVIRONMENT] = before


def _ours(
    course: Path, labs: list[Lab], seed: Seed, workers: int, say: Say
) -> tuple[list[LabFigures], dict[str, float], list[Result]]:
    start: dict[str, float] = {}
    began = time.monotonic()
    say("making the private cases")
    for lab in labs:
        for exercise in exercises_of(lab.name):
            private_cases(exercise, seed)
    start["private cases"] = time.monotonic() - began
    say("making the gradebook")
    began = time.monotonic()
    write_results([], course=course)
    start["gradebook"] = time.monotonic() - began
    say("importing the libraries once")
    began = time.monotonic()
    pool = LocalWorkers(workers)
    every: list[Result] = []
    figures = []
    try:
        pool.warm_up(isolated=True)
        start["warm up"] = time.monotonic() - began
        for lab in discover(course / "solutions"):
            say(f"{lab.name}, this grader")
            with sampled(os.getpid()) as peak:
                began = time.monotonic()
                jobs = [
                    Job(prepare(submission, lab, course), seed, DEFAULT_LIMITS, submission.files)
                    for submission in intake(course / "submitted", [lab])
                    if submission.status is Status.GRADED
                ]
                judged = time.monotonic()
                results, ends = [], []
                for _, result in pool.run(jobs):
                    results.append(result)
                    ends.append(time.monotonic())
                written = time.monotonic()
                write_results(results, course=course)
                ended = time.monotonic()
            every += results
            row = _figures(lab.name, workers, results, (began, judged, written, ended), peak[0])
            row.idle = sum(ends[-1] - end for end in ends[-workers:])
            row.imports_trl = _imports_trl(lab)
            figures.append(row)
    finally:
        pool.close()
    return figures, start, every


def _imports_trl(lab: Lab) -> bool:
    cells = nbformat.read(lab.notebook, as_version=4).cells
    return any(
        re.search(r"^\s*(?:from|import) trl\b", cell.source, re.MULTILINE)
        for cell in cells
        if cell.cell_type == "code" and not LEARNING_TAGS.intersection(cell.metadata.get("tags", []))
    )


def _figures(
    lab: str, workers: int, results: list[Result], clock: tuple[float, float, float, float], peak: int
) -> LabFigures:
    began, judged, written, ended = clock
    names = sorted({name for result in results for name in result.seconds})
    return LabFigures(
        lab=lab,
        submissions=len(results),
        workers=workers,
        seconds=ended - began,
        judging=written - judged,
        compute=sum(r.seconds.get("cells", 0.0) + r.seconds.get("questions", 0.0) for r in results),
        memory=peak,
        submission_memory=max(r.peak_memory for r in results),
        phases={"read and prepare": judged - began, "gradebook": ended - written}
        | {f"median {name}": statistics.median(r.seconds.get(name, 0.0) for r in results) for name in names},
    )


def _stock(
    course: Path, hand_ins: list[HandIn], figures: list[LabFigures], sample: int | None, say: Say
) -> tuple[dict[tuple[str, str], float], float]:
    """Grade with nbgrader's own command; the marks, and what its start takes."""
    say("stock nbgrader's start")
    began = time.monotonic()
    stock_nbgrader.run(course, "autograde", "--help")
    start = time.monotonic() - began
    marks: dict[tuple[str, str], float] = {}
    for row in figures:
        chosen = [hand_in for hand_in in hand_ins if hand_in.lab == row.lab][:sample]
        write_hand_ins(course / "submitted", chosen)
        say(f"{row.lab}, setting stock nbgrader up")
        stock_nbgrader.run(course, "generate_assignment", row.lab, "--force")
        say(f"{row.lab}, stock nbgrader ({len(chosen)} submissions)")
        began = time.monotonic()
        row.stock_memory = stock_nbgrader.run(course, "autograde", row.lab)
        row.stock_seconds = max(0.001, time.monotonic() - began - start)
        row.stock_submissions = len(chosen)
        for student, scores in cell_scores(course, row.lab).items():
            marks[student, row.lab] = sum(score or 0.0 for score in scores.values())
    return marks, start


def _compared(
    hand_ins: list[HandIn], results: list[Result], marks: dict[tuple[str, str], float]
) -> tuple[list[str], list[str]]:
    """Fault copies with other points than stock's, and right or blank ones, which must not have any."""
    ours = {(result.student, result.lab): result for result in results}
    differences: list[str] = []
    wrong: list[str] = []
    for hand_in in hand_ins:
        key = (hand_in.student, hand_in.lab)
        if key not in ours or ours[key].points is None:
            reason = ours[key].reason if key in ours else "no result"
            what = hand_in.about or hand_in.kind
            wrong.append(f"{hand_in.lab}, {hand_in.student} ({what}): not graded: {reason}")
            continue
        points = ours[key].points or 0.0
        if key in marks and abs(marks[key] - points) > _EQUAL:
            line = (
                f"{hand_in.lab}, {hand_in.student} ({hand_in.about or hand_in.kind}): {points:g} here, "
                f"{marks[key]:g} with stock nbgrader"
            )
            (differences if hand_in.kind == FAULT else wrong).append(line)
    return differences, wrong


def show(bench: Bench, console: Console, stock_sample: int | None) -> None:
    """Print the figures."""
    heads = "lab|n|a minute|stock|ratio|own s|share|overhead s|stock s|ratio|MB|stock MB"
    console.width = max(console.width, 120)
    table = Table(*heads.split("|"))
    for row in bench.labs:
        table.add_row(
            row.lab,
            str(row.submissions),
            f"{row.per_minute:.1f}",
            f"{row.stock_per_minute:.1f}",
            f"{row.per_minute / row.stock_per_minute:.1f}",
            f"{row.own:.2f}",
            f"{row.share:.0%}",
            f"{row.overhead:.2f} ({row.on_worker:.2f})",
            f"{row.stock_overhead:.2f}",
            f"{row.stock_overhead / row.overhead:.1f}",
            f"{row.memory / 1e6:,.0f}",
            f"{row.stock_memory / 1e6:,.0f}",
        )
    console.print(table)
    workers = bench.labs[0].workers
    console.print(
        f"{workers} workers here, one process for stock nbgrader. Overhead is wall time a submission without "
        "its own compute and the wait for a lab's last submission; in brackets what it keeps its worker busy "
        "for beyond that. Memory is of all processes together."
    )
    if stock_sample is not None:
        graded = sum(row.stock_submissions for row in bench.labs)
        total = sum(row.submissions for row in bench.labs)
        console.print(f"Stock nbgrader graded {graded} of the {total} submissions; its rates are of these.")
    starts = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in bench.start.items())
    console.print(
        f"Start, once for all labs: {starts}. Stock nbgrader: {bench.stock_start:.1f} s for each lab."
    )
    seconds = sum(row.seconds for row in bench.labs) + sum(bench.start.values())
    stock = sum(row.stock_seconds + bench.stock_start for row in bench.labs)
    console.print(f"In all, start included: {seconds:.1f} s here, {stock:.1f} s for stock nbgrader.")
    console.print(
        f"Projected from these rates, {STUDENTS} students over {len(bench.labs)} labs: "
        f"{bench.minutes():.0f} minutes here, {bench.stock_minutes():.0f} minutes with stock nbgrader."
    )
    for row in bench.labs:
        if row.overhead > TARGET_OVERHEAD:
            console.print(f"{row.lab}: more than {TARGET_OVERHEAD:g} s of overhead a submission.")
        if row.imports_trl:
            ratio = row.stock_overhead / row.overhead
            console.print(
                f"{row.lab} imports TRL while it is graded: {ratio:.1f} times less overhead than stock "
                f"nbgrader, where {TARGET_RATIO:g} are aimed at."
            )
    console.print(f"Load of the machine at the end: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores.")
    if bench.differences:
        console.print("Copies with a fault that got other points:")
    for line in [*bench.differences, *(f"FAIL {wrong}" for wrong in bench.wrong)]:
        console.print(f"  {line}")
    if not bench.wrong:
        console.print("Right and blank copies got the same points from both, as far as both graded them.")


def main(
    submissions: int = 60,
    labs: tuple[str, ...] = (),
    workers: int = 2,
    stock_sample: int | None = None,
    out: Path | None = None,
) -> int:
    """Measure, print, and write the figures to `out`.

    Returns:
        Exit status: 1 where a right or blank copy got other points than from stock nbgrader, or none.
    """
    console = Console(highlight=False, soft_wrap=True, markup=False)
    try:
        chosen = select(labs, discover(ROOT / "solutions"))
        if submissions < len(chosen):
            console.print(f"course.py: {len(chosen)} labs need at least {len(chosen)} submissions.")
            return 1
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task("", total=4 + 3 * len(chosen))

            def say(words: str) -> None:
                progress.update(task, advance=1, description=words)
                if not console.is_terminal:
                    console.print(f"  {words}")

            bench = measure(chosen, submissions, workers=workers, stock_sample=stock_sample, say=say)
    except (UnknownLab, sandbox.NoSandbox, RuntimeError) as problem:
        console.print(f"course.py: {problem}")
        return 1
    show(bench, console, stock_sample)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(bench.as_json(), indent=1) + "\n", encoding="utf-8")
    return 1 if bench.wrong else 0
