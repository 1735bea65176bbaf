"""The instructor's verbs, on top of the student's: build the release, run the labs, test the course."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from chatcontract.cli import app

ROOT = Path(__file__).resolve().parents[1]

LINTERS = {
    "ruff check": ["ruff", "check", "."],
    "ruff format": ["ruff", "format", "--check", "."],
    "mypy": ["mypy"],
}


@app.command()
def build(
    check: Annotated[bool, typer.Option("--check", help="Change nothing; name what is stale.")] = False,
) -> None:
    """Make notebooks/ from solutions/."""
    from autograder.build import main as run_build

    raise typer.Exit(run_build(check))


@app.command()
def run(
    labs: Annotated[
        list[str] | None, typer.Argument(metavar="LAB", help="Such as 06 or qlora; default: all.")
    ] = None,
    python: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Python of another environment to run them in."),
    ] = None,
) -> None:
    """Execute solution notebooks, and keep their pages and figures under build/."""
    from autograder.run import main as run_labs

    raise typer.Exit(run_labs(labs or [], python))


@app.command()
def release(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the bundle.")],
) -> None:
    """Make the student's bundle: notebooks, package, assets and environment, without answers."""
    from autograder.release import main as make_release

    raise typer.Exit(make_release(out))


@app.command()
def faults(
    labs: Annotated[
        list[str] | None, typer.Argument(metavar="LAB", help="Such as 01 or rendering; default: all.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write the matrix to this file.")
    ] = None,
) -> None:
    """Prove that every catalogued fault is caught and named, and no right answer refused."""
    from autograder.faults.show import main as show_matrix

    raise typer.Exit(show_matrix(labs or [], output))


@app.command()
def judge(
    labs: Annotated[
        list[str] | None, typer.Argument(metavar="LAB", help="Such as 01 or rendering; default: all.")
    ] = None,
    reveal_cases: Annotated[
        bool, typer.Option("--reveal-cases", help="Print this class's cases with expected outputs.")
    ] = False,
) -> None:
    """Say which seed this class is graded with; after the deadline, show its private cases."""
    from autograder.checks.reveal import main as reveal

    raise typer.Exit(reveal(labs or [], reveal_cases))


@app.command()
def grade(
    path: Annotated[
        Path | None,
        typer.Argument(help="Folder or zip of hand-ins; without it, the bundled sample class."),
    ] = None,
    labs: Annotated[
        list[str] | None, typer.Option("--lab", metavar="LAB", help="Such as 06 or qlora; default: all.")
    ] = None,
    roster: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The class, one student a line; tells who is missing.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Submissions at a time on this machine.")] = 2,
    seed_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The class's secret; created on first use.")
    ] = None,
    time_limit: Annotated[float, typer.Option(min=1, help="Seconds that one cell may take.")] = 60.0,
    memory: Annotated[float, typer.Option(min=0.1, help="GiB that one submission may use.")] = 3.0,
    resume: Annotated[bool, typer.Option("--resume", help="Judge only what changed.")] = False,
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Dask scheduler, such as tcp://10.0.0.1:8786.")
    ] = None,
    db: Annotated[str | None, typer.Option(metavar="URL", help="Gradebook; default: gradebook.db.")] = None,
    course: Annotated[
        Path, typer.Option(metavar="DIR", help="Course whose gradebook is written; default: this one.")
    ] = ROOT,
    unsafe: Annotated[
        bool, typer.Option("--unsafe", help="Go on where student code cannot be isolated.")
    ] = False,
    feedback: Annotated[bool, typer.Option(help="Write a page for every student.")] = True,
) -> None:
    """Grade a class: gradebook, feedback, tables and a report; every hand-in gets a status."""
    from autograder.grading.grade import main as run_grade
    from autograder.grading.job import Limits
    from autograder.grading.options import Options

    limits = Limits(cell_seconds=time_limit, total_seconds=15 * time_limit, memory=int(memory * (1 << 30)))
    options = Options(
        course=course.resolve(),
        labs=tuple(labs or ()),
        roster=roster,
        workers=workers,
        seed_file=seed_file,
        limits=limits,
        resume=resume,
        scheduler=scheduler,
        db=db,
        unsafe=unsafe,
        feedback=feedback,
    )
    raise typer.Exit(run_grade(path, options))


@app.command()
def rehearse(
    labs: Annotated[
        list[str] | None, typer.Option("--lab", metavar="LAB", help="Such as 06 or qlora; default: all.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Keep everything in this new folder.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Submissions at a time on this machine.")] = 2,
) -> None:
    """Release, simulate a class from the release, grade it, and check every mark, page and table."""
    from autograder.grading.rehearse import main as run_rehearsal

    raise typer.Exit(run_rehearsal(tuple(labs or ()), out, workers))


bench = typer.Typer(no_args_is_help=True, help="Measure the course's own tools.")
app.add_typer(bench, name="bench")


@bench.command("grade")
def bench_grade(
    submissions: Annotated[int, typer.Option(min=1, help="Of all labs together.")] = 60,
    labs: Annotated[
        list[str] | None, typer.Option("--lab", metavar="LAB", help="Such as 06 or qlora; default: all.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Submissions at a time of this grader.")] = 2,
    stock_sample: Annotated[
        int | None, typer.Option(min=1, metavar="K", help="Give stock nbgrader K of each lab only.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write the figures to this file.")
    ] = None,
) -> None:
    """Grade a simulated class with this grader and with stock nbgrader: rates, overhead, memory."""
    from autograder.bench_grade import main as run_bench

    raise typer.Exit(run_bench(submissions, tuple(labs or ()), workers, stock_sample, out))


@bench.command("hostile")
def bench_hostile(
    rows: Annotated[
        list[int] | None,
        typer.Option("--row", metavar="N", help="Row of the table in docs/grading.md; default: all."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write what was measured to this file.")
    ] = None,
) -> None:
    """Give hostile and broken submissions to stock nbgrader, in a sandbox, and to this grader."""
    from autograder.bench_hostile import main as run_bench

    raise typer.Exit(run_bench(tuple(rows or ()), out))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def test(context: typer.Context) -> None:
    """Run the linters, the type checker and the test suite; further options go to pytest."""
    # Two processes that take a file each: fixtures that take minutes are made once.
    shared = ["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"]
    steps = {**LINTERS, "pytest": ["pytest", *shared, *context.args]}
    # Torch's threads spin while they wait for one another. Where two processes share two cores, a training
    # step then takes three times as long as alone; where the threads sleep, not twice.
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    verdicts = []
    for number, (name, command) in enumerate(steps.items(), 1):
        print(f"[{number}/{len(steps)}] {name}", flush=True)
        began = time.monotonic()
        # Unbuffered: pytest does not flush the dots that two processes share.
        status = subprocess.call([sys.executable, "-u", "-m", *command], cwd=ROOT, env=environment)
        verdicts.append((name, status, time.monotonic() - began))
    print()
    for name, status, seconds in verdicts:
        print(f"{'ok  ' if status == 0 else 'FAIL'} {seconds:6.1f} s  {name}")
    raise typer.Exit(int(any(status for _, status, _ in verdicts)))


def main() -> None:
    """Run the whole command line."""
    app(prog_name="course.py")
