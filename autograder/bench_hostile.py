"""`course.py bench hostile`: the hostile submissions of docs/grading.md to stock nbgrader and to this grader.

Every row of the table is one batch: the hostile hand-in, and behind it a right one of a student who did
nothing. Stock nbgrader grades it in a sandbox without a network, with limits for time, memory and disk; this
grader with the same limits for a cell and for memory. Seconds are those of the batch. What is printed follows
from the gradebook, the exported table, the notebooks and the pages that are there then.
"""

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from autograder.checks.judging import private_cases
from autograder.checks.registry import exercises_of
from autograder.checks.seeds import Seed, class_seed, create
from autograder.grading import sandbox
from autograder.grading.gradebook import GraderError
from autograder.grading.workers import LocalWorkers
from autograder.grading.workshop import WorkshopError
from autograder.hostile import ours, stock
from autograder.hostile.outcome import findings, our_phrase, phrase, points, stock_findings
from autograder.hostile.rows import ATTACKER, Row, UnknownRow, select
from autograder.hostile.short_lab import LAB


@dataclass(frozen=True)
class Compared:
    """One row, graded by both.

    Attributes:
        fair: points that the hand-in deserves; None where there is nothing to give points for.
        stock, ours: what became of it, in words.
        stock_findings, our_findings: what differs from what is fair; None where it was not run.
        stock_points, our_points: of the hostile hand-in; None where there is no grade.
        stock_seconds, our_seconds: for the batch.
        flags: what this grader tells the instructor.
    """

    row: int
    submission: str
    fair: float | None
    stock: str
    stock_findings: list[str] | None
    stock_points: float | None
    stock_seconds: float | None
    ours: str
    our_findings: list[str]
    our_points: float | None
    our_seconds: float
    flags: tuple[str, ...]


class _Bench:
    """Both graders, ready for batches."""

    def __init__(self, folder: Path) -> None:
        self.stock_course, self.our_course = folder / "stock", folder / "ours"
        seed_file = folder / "judge.seed"
        create(seed_file)
        stock.write_short_course(self.stock_course, seed_file)
        ours.write_short_course(self.our_course, seed_file)
        self.seed: Seed = class_seed(self.our_course)
        self.workers = LocalWorkers(1)

    def warm_up(self) -> None:
        for exercise in exercises_of(LAB):
            private_cases(exercise, self.seed)
        self.workers.warm_up(isolated=True)

    def with_stock(self, row: Row) -> dict[str, Any]:
        if row.unsafe:
            return {
                "stock": f"not run: {row.unsafe}",
                "stock_findings": None,
                "stock_points": None,
                "stock_seconds": None,
            }
        batch = stock.grade_with_stock(row, self.stock_course)
        found = stock_findings(row, batch, self.seed)
        return {
            "stock": phrase(batch.graded, found),
            "stock_findings": found,
            "stock_points": _sum(points(batch.graded, ATTACKER)),
            "stock_seconds": batch.seconds,
        }

    def with_ours(self, row: Row) -> dict[str, Any]:
        batch = ours.grade_with_ours(row, self.our_course, self.workers)
        found = findings(row, batch.graded, self.seed)
        return {
            "ours": our_phrase(row, batch, found),
            "our_findings": found,
            "our_points": _sum(points(batch.graded, ATTACKER)),
            "our_seconds": batch.seconds,
            "flags": batch.flags,
        }


def _sum(earned: dict[str, float] | None) -> float | None:
    return None if earned is None else sum(earned.values())


def measure(rows: list[Row], progress: Progress) -> list[Compared]:
    """Give the rows' hand-ins to both graders.

    Raises:
        NoSandbox: student code cannot be isolated here, so that nothing was run.
        StockFailed: the sandbox of stock nbgrader gave no report.
        RuntimeError, WorkshopError, GraderError: a grader could not be set up.
    """
    sandbox.require()
    task = progress.add_task("Making both courses", total=2 * len(rows))
    compared = []
    with tempfile.TemporaryDirectory(prefix="bench-hostile-") as folder:
        bench = _Bench(Path(folder))
        try:
            progress.update(task, description="Importing the libraries once")
            bench.warm_up()
            for row in rows:
                name = f"Row {row.number}, {row.submission}"
                progress.update(task, description=f"{name}: stock nbgrader")
                by_stock = bench.with_stock(row)
                progress.update(task, advance=1, description=f"{name}: this grader")
                by_ours = bench.with_ours(row)
                progress.update(task, advance=1)
                fair = _sum(row.fair)
                compared.append(Compared(row.number, row.submission, fair, **by_stock, **by_ours))
                if not progress.console.is_terminal:
                    progress.console.print(f"  {name}: {by_stock['stock']} | {by_ours['ours']}")
        finally:
            bench.workers.close()
    return compared


def show(compared: list[Compared], console: Console) -> None:
    """Print the table and what it counts."""
    console.width = max(console.width, 120)
    table = Table("#", "Submission", "Stock nbgrader", "s", "This grader", "s")
    for row in compared:
        took = "" if row.stock_seconds is None else f"{row.stock_seconds:.0f}"
        table.add_row(
            str(row.row),
            row.submission,
            row.stock,
            took,
            row.ours,
            f"{row.our_seconds:.1f}",
            end_section=True,
        )
    console.print(table)
    run = [row for row in compared if row.stock_findings is not None]
    right = sum(not row.stock_findings for row in run)
    console.print(
        f"Right: stock nbgrader {right} of the {len(run)} that it was given, this grader "
        f"{sum(not row.our_findings for row in compared)} of {len(compared)}."
    )
    console.print(
        "Seconds are for the hostile hand-in and a right one behind it; this grader's libraries were "
        f"imported before. Stock nbgrader had {stock.CELL_SECONDS} s a cell, {stock.MEMORY >> 30} GiB of "
        f"memory, {stock.DISK >> 20} MiB of disk and no network."
    )
    console.print(f"Load of the machine at the end: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores.")


def main(numbers: tuple[int, ...] = (), out: Path | None = None) -> int:
    """Measure, print, and write what was measured to `out`.

    Args:
        numbers: of rows in the table; all for none.

    Returns:
        Exit status: 1 where this grader did anything else than what is fair.
    """
    console = Console(highlight=False, soft_wrap=True, markup=False)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        rows = select(numbers)
        with Progress(*columns, console=console, transient=True) as progress:
            compared = measure(rows, progress)
    except (UnknownRow, sandbox.NoSandbox, WorkshopError, GraderError, RuntimeError) as problem:
        console.print(f"course.py: {problem}")
        return 1
    show(compared, console)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps([asdict(row) for row in compared], indent=1) + "\n", encoding="utf-8")
    return int(any(row.our_findings for row in compared))
