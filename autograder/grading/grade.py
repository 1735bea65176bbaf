"""`course.py grade`: a folder of hand-ins in; gradebook, feedback, tables and a class report out."""

import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as TimeLeft

from autograder.adapters import SENTENCE_START, report_adapter
from autograder.atomic_write import write_atomically
from autograder.checks.judging import BadPrivateCases, private_cases
from autograder.checks.registry import exercises_of
from autograder.checks.seeds import ENVIRONMENT, SEED_FILE, BadSeed, Seed, class_seed, create, read_seed
from autograder.grading import sandbox
from autograder.grading.attribution import lab_named, same_person
from autograder.grading.class_report import write_report
from autograder.grading.exports import write_exports
from autograder.grading.feedback import write_feedback
from autograder.grading.gradebook import Change, GraderError, folder_name, write_results
from autograder.grading.intake import IntakeError, intake, tree
from autograder.grading.job import Job, cause
from autograder.grading.model import Prepared, Result, Status, Submission
from autograder.grading.options import Options
from autograder.grading.repair import prepare
from autograder.grading.roster import BadRoster, read_roster
from autograder.grading.workers import DaskWorkers, LocalWorkers, NoCluster
from autograder.grading.workshop import WorkshopError
from autograder.labs import Lab, UnknownLab, discover, select

OUTPUTS = Path("grading")
# The folder that lab 06 saves, handed in beside the notebook.
ADAPTER = "qlora-adapter"


class Refused(Exception):
    """Why nothing was graded, in one sentence."""


PROBLEMS = (
    Refused,
    IntakeError,
    GraderError,
    NoCluster,
    WorkshopError,
    BadSeed,
    BadRoster,
    BadPrivateCases,
    UnknownLab,
)


@dataclass
class ClassOutcome:
    """What grading a class gave, and how long each phase took."""

    results: list[Result] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    reused: int = 0
    adapters: dict[tuple[str, str], str] = field(default_factory=dict)


def main(path: Path | None, options: Options) -> int:
    """Grade what lies at `path`, or the bundled sample class; the exit status."""
    console = Console(highlight=False, soft_wrap=True, markup=False)
    try:
        if path is None:
            from autograder.grading.sample_class import demonstration

            path, options = demonstration(options, console)
        outcome = grade_class(path, options, console)
    except PROBLEMS as problem:
        console.print(f"course.py: {problem}")
        return 1
    except KeyboardInterrupt:
        console.print("course.py: stopped. What was judged is kept: `--resume` goes on from there.")
        return 130
    except OSError as problem:
        what = f"{problem.filename}: {problem.strerror}" if problem.filename else problem
        console.print(
            f"course.py: Grading stopped ({what}). `--resume` goes on with the verdicts made so far."
        )
        return 1
    except sandbox.NoSandbox as problem:
        console.print(
            f"course.py: {problem}. Nothing was graded. `--unsafe` grades all the same, "
            "with hand-ins that you trust."
        )
        return 1
    _say(outcome, options, console)
    return 0


def grade_class(path: Path, options: Options, console: Console) -> ClassOutcome:
    """Grade a class: every student and lab gets a result, and the batch always finishes.

    Raises:
        Refused, IntakeError, GraderError, NoCluster, WorkshopError, BadSeed, BadRoster, BadPrivateCases,
            UnknownLab, NoSandbox: nothing was graded, or the message says how far it got.
        OSError: a file could not be read or written.
    """
    outcome = ClassOutcome()
    labs = select(options.labs, discover(options.course / "solutions"))
    if options.unsafe and sys.platform != "linux":
        raise Refused("Grading needs Linux, with --unsafe too: docs/grading.md names WSL2 and a container.")
    if not options.unsafe and options.scheduler is None:
        with _timed(outcome, "probe"):
            sandbox.require()
    names = read_roster(options.roster) if options.roster else []
    with _timed(outcome, "intake"), console.status("Reading what was handed in"):
        submissions = intake(path, labs, roster=names)
    if not submissions:
        wanted = ", ".join(lab.name for lab in labs)
        raise Refused(f"{path} holds no hand-in of {wanted}: name another folder.")
    seed = _seed(options, console)
    with _timed(outcome, "repair"):
        jobs, settled = _jobs(submissions, labs, options, seed, console)
    outcome.results += settled
    if options.resume:
        jobs, kept = _reuse(jobs, options)
        outcome.results += kept
        outcome.reused = len(kept)
    if jobs:
        _judge(jobs, options, outcome, console)
    _measure_adapters(_adapters(path, labs, names), outcome, seed, console)
    outcome.results.sort(key=lambda result: (result.lab, result.student))
    with _timed(outcome, "gradebook"), console.status("Writing the gradebook"):
        outcome.changes = write_results(outcome.results, course=options.course, db=options.db)
        _keep(outcome.results, options)
    if options.feedback:
        with _timed(outcome, "feedback"), _progress(console) as bar:
            task = bar.add_task("Feedback", total=len(outcome.results))
            outcome.files += write_feedback(
                outcome.results,
                options.course,
                db=options.db,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
    with _timed(outcome, "report"):
        out = options.course / OUTPUTS
        out.mkdir(exist_ok=True)
        outcome.files += write_exports(outcome.results, options.course, out=out, db=options.db)
        outcome.files += write_report(outcome.results, options.course, out=out)
    return outcome


def _seed(options: Options, console: Console) -> Seed:
    if options.seed_file is None and ENVIRONMENT in os.environ:
        return class_seed(options.course)
    path = options.seed_file or options.course / SEED_FILE
    if not path.exists():
        create(path)
        console.print(
            f"Wrote the class's secret to {path}. Private cases come from it: keep it out of version control "
            "and keep it for the whole course (another seed gives other cases, and marks may change); take a "
            "new one for the next class."
        )
    return read_seed(path)


def _jobs(
    submissions: Sequence[Submission], labs: Sequence[Lab], options: Options, seed: Seed, console: Console
) -> tuple[list[Job], list[Result]]:
    """What can be run, and the results of what cannot."""
    by_name = {lab.name: lab for lab in labs}
    jobs, settled = [], []
    with _progress(console) as bar:
        for submission in bar.track(submissions, description="Setting into the official notebooks"):
            if submission.status is not Status.GRADED or submission.notebook is None:
                settled.append(_unread(submission))
                continue
            prepared = prepare(submission, by_name[submission.lab], options.course)
            if prepared.status is Status.NEEDS_HUMAN and not _something_found(prepared):
                settled.append(_unprepared(prepared, submission))
                continue
            job = Job(
                prepared,
                seed,
                options.limits,
                submission.files,
                submitted_at=submission.submitted_at,
                isolated=not options.unsafe,
            )
            jobs.append(replace(job, cause=cause(job, options.course)))
    return jobs, settled


def _something_found(prepared: Prepared) -> bool:
    """Whether there are answers to judge beside those that a person has to look for."""
    answers = {
        settings["grade_id"]
        for cell in prepared.notebook["cells"]
        if (settings := cell["metadata"].get("nbgrader", {})).get("solution")
    }
    return bool(answers - prepared.lost)


def _unread(submission: Submission) -> Result:
    return Result(
        student=submission.student,
        lab=submission.lab,
        status=submission.status,
        reason=submission.reason,
        repairs=submission.repairs,
        notes=submission.notes,
        submitted_at=submission.submitted_at,
    )


def _unprepared(prepared: Prepared, submission: Submission) -> Result:
    return Result(
        student=prepared.student,
        lab=prepared.lab,
        status=prepared.status,
        reason=prepared.reason,
        repairs=prepared.repairs,
        notes=prepared.notes,
        submitted_at=submission.submitted_at,
    )


def _judge(jobs: list[Job], options: Options, outcome: ClassOutcome, console: Console) -> None:
    with _timed(outcome, "private cases"), console.status("Making the private cases"):
        for lab in sorted({job.prepared.lab for job in jobs}):
            for exercise in exercises_of(lab):
                private_cases(exercise, jobs[0].seed)
    workers = (
        DaskWorkers(options.scheduler)
        if options.scheduler
        else LocalWorkers(max(1, min(options.workers, len(jobs))))
    )
    try:
        with _timed(outcome, "warm up"), console.status("Importing the libraries once for all submissions"):
            workers.warm_up(not options.unsafe)
        with _timed(outcome, "judging"), _progress(console) as bar:
            task = bar.add_task("Judging", total=len(jobs))
            waiting = len(jobs)
            bar.update(task, description=_running(waiting, workers.count))
            for _, result in workers.run(jobs):
                outcome.results.append(result)
                # An interrupted batch goes on from here with --resume.
                _keep([result], options)
                waiting -= 1
                bar.update(task, advance=1, description=_running(waiting, workers.count))
                if not console.is_terminal:
                    console.print(
                        f"  {len(jobs) - waiting}/{len(jobs)} {result.student} {result.lab}: {_mark(result)}"
                    )
    finally:
        workers.close()


def _adapters(path: Path, labs: Sequence[Lab], names: Sequence[str]) -> dict[tuple[str, str], Path]:
    """The folders with an adapter in a tree STUDENT/LAB/qlora-adapter, by student and lab."""
    found = {}
    for folder in sorted(tree(path).glob(f"*/*/{ADAPTER}")):
        student, lab = folder.parent.parent.name, lab_named(folder.parent.name, labs)
        found[same_person(student, names) or student, lab] = folder
    return found


def _measure_adapters(
    found: dict[tuple[str, str], Path], outcome: ClassOutcome, seed: Seed, console: Console
) -> None:
    """Measure the adapters that were handed in beside a notebook.

    What comes out stands beside the marks and earns no points.
    """
    owners = [r for r in outcome.results if (r.student, r.lab) in found]
    if not owners:
        return
    with _timed(outcome, "adapters"), _progress(console) as bar:
        for result in bar.track(owners, description="Measuring adapters"):
            report = report_adapter(found[result.student, result.lab], seed)
            at = outcome.results.index(result)
            # A verdict that was reused brings the sentence of the earlier adapter along.
            others = (note for note in result.notes if not note.startswith(SENTENCE_START))
            notes = (*others, report.sentence)
            outcome.results[at] = result.model_copy(update={"notes": notes})
            outcome.adapters[result.student, result.lab] = report.sentence


def _running(left: int, workers: int) -> str:
    running = min(left, workers)
    return f"Judging: {running} running, {left - running} waiting"


def _mark(result: Result) -> str:
    if result.points is None:
        return f"{result.status}: {result.reason}"
    return f"{result.status}, {result.points:g} of {result.possible:g}"


def _stored(result_of: Result | Job, options: Options) -> Path:
    student, lab = (
        (result_of.prepared.student, result_of.prepared.lab)
        if isinstance(result_of, Job)
        else (result_of.student, result_of.lab)
    )
    return options.course / OUTPUTS / "results" / lab / f"{folder_name(student)}.json"


def _keep(results: Sequence[Result], options: Options) -> None:
    """Store every verdict for --resume; a file is whole or as it was."""
    for result in results:
        write_atomically(_stored(result, options), result.model_dump_json().encode("utf-8"))


def _reuse(jobs: list[Job], options: Options) -> tuple[list[Job], list[Result]]:
    open_jobs, kept = [], []
    for job in jobs:
        path = _stored(job, options)
        try:
            earlier = Result.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            earlier = None
        if earlier is not None and earlier.cause and earlier.cause == job.cause:
            kept.append(earlier)
        else:
            open_jobs.append(job)
    return open_jobs, kept


@contextmanager
def _timed(outcome: ClassOutcome, phase: str) -> Iterator[None]:
    began = time.monotonic()
    try:
        yield
    finally:
        outcome.seconds[phase] = round(time.monotonic() - began, 3)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeLeft(),
        console=console,
        transient=True,
    )


def _say(outcome: ClassOutcome, options: Options, console: Console) -> None:
    counts = Counter(result.status for result in outcome.results)
    console.print(
        ", ".join(f"{counts[status]} {status.replace('_', ' ')}" for status in Status if counts[status])
    )
    if outcome.reused:
        console.print(f"{outcome.reused} verdicts were still valid and were not made again.")
    for result in outcome.results:
        if result.status in (Status.NEEDS_HUMAN, Status.NOT_GRADABLE):
            console.print(f"  {result.student}, {result.lab}: {result.status}. {result.reason}")
    for (student, lab), sentence in outcome.adapters.items():
        console.print(f"  {student}, {lab}: {sentence}")
    if outcome.changes:
        console.print("Marks that changed:")
        for change in outcome.changes:
            console.print(f"  {change}")
    console.print(", ".join(f"{phase} {seconds:.1f} s" for phase, seconds in outcome.seconds.items()))
    console.print(f"Gradebook: {options.db or options.course / 'gradebook.db'}")
    console.print(f"Report: {options.course / OUTPUTS / 'class_report.html'}")
