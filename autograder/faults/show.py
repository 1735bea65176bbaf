"""Prints the matrix of faults for `course.py faults`."""

import json
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from autograder.atomic_write import write_atomically
from autograder.checks.registry import exercises
from autograder.faults.matrix import ExerciseMatrix, as_json, matrix
from autograder.labs import ROOT, UnknownLab, discover, select


def main(labs: list[str], output: Path | None = None) -> int:
    """Print the matrix of some labs, by default of all, and its holes.

    Args:
        labs: names such as "01" or "rendering".
        output: also write the matrix to this file, as JSON.

    Returns:
        Exit status: 0, 1 for a hole, 2 for a lab that is not there.
    """
    console = Console(highlight=False)
    try:
        chosen = {lab.name for lab in select(labs, discover(ROOT / "solutions"))}
    except UnknownLab as error:
        console.print(f"course.py: {error}", markup=False, soft_wrap=True)
        return 2
    names = [name for name, exercise in exercises().items() if exercise.lab in chosen]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("exercises", total=len(names))
        rows = matrix(names, on_exercise=lambda name: progress.advance(task)) if names else []
    for row in rows:
        console.print(_table(row))
        accepted = sum(not a.refused_by for a in row.alternatives)
        console.print(f"right answers accepted: {accepted} of {len(row.alternatives)}\n")
    holes = [f"{row.exercise}: {hole}" for row in rows for hole in row.holes]
    for hole in holes:
        console.print(f"HOLE {hole}", markup=False, soft_wrap=True)
    faults = sum(len(row.faults) for row in rows)
    console.print(f"{faults} faults of {len(rows)} exercises, {len(holes)} holes.")
    if output:
        write_atomically(output, (json.dumps(as_json(rows), indent=1) + "\n").encode())
    return 1 if holes else 0


def _table(row: ExerciseMatrix) -> Table:
    table = Table(title=f"{row.lab} · {row.exercise}", title_justify="left")
    table.add_column("fault")
    for column in ("asserts", "check", "judge", "named"):
        table.add_column(column, justify="center")
    for fault in row.faults:
        marks = (fault.asserts, fault.check, fault.judge, fault.named)
        table.add_row(fault.id, *("✓" if mark else "-" for mark in marks))
    return table
