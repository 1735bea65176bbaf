"""The proof: every fault is caught and named, every right answer in another style is accepted."""

import contextlib
import io
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

from autograder.checks.exercise import Exercise
from autograder.checks.judging import judge_answers, private_cases
from autograder.checks.points import test_cell
from autograder.checks.public import checks_file
from autograder.checks.reference import definitions, names_used
from autograder.checks.registry import exercises
from autograder.checks.seeds import Seed, throwaway
from autograder.faults.registry import Fault, Implementation, alternatives_of, faults_of
from chatcontract.check.cases import PublicExercise, read
from chatcontract.check.diagnosis import ask_function
from chatcontract.check.run import examine_exercise

LEAST_FAULTS = 3
LEAST_ALTERNATIVES = 3

# Answers that nobody thought about: each must lose points wherever it is not right by accident.
THOUGHTLESS: dict[str, Implementation] = {
    "returns None": lambda *_, **__: None,
    "returns an empty list": lambda *_, **__: [],
    "returns an empty dict": lambda *_, **__: {},
    "returns an empty text": lambda *_, **__: "",
    "returns its first argument": lambda *a, **k: [*a, *k.values()][0],
    "refuses everything": lambda *_, **__: _refuse(),
}


def _refuse() -> None:
    raise ValueError("choose one assistant, user, 0, 1, 2, 3")


@dataclass(frozen=True)
class FaultRow:
    """Who catches one fault, and what check and judge call it (None where they do not catch it)."""

    id: str
    asserts: bool
    check: bool
    judge: bool
    check_names: tuple[str, ...]
    judge_names: tuple[str, ...]

    @property
    def named(self) -> bool:
        """Whether both name this fault and no other."""
        return self.check_names == (self.id,) and self.judge_names == (self.id,)


@dataclass(frozen=True)
class AlternativeRow:
    """Who refuses one right answer; empty when nobody does."""

    style: str
    refused_by: tuple[str, ...]


@dataclass
class ExerciseMatrix:
    """All rows of one exercise, and the holes in its checks."""

    exercise: str
    lab: str
    faults: list[FaultRow] = field(default_factory=list)
    alternatives: list[AlternativeRow] = field(default_factory=list)
    holes: list[str] = field(default_factory=list)


def matrix(
    names: Iterable[str] | None = None,
    seed: Seed | None = None,
    on_exercise: Callable[[str], None] | None = None,
) -> list[ExerciseMatrix]:
    """The matrix of some exercises, by default of all.

    Args:
        seed: of the private cases; default the public one.
        on_exercise: called with the name of each exercise when it is done.
    """
    done = []
    for name in names or exercises():
        done.append(_exercise_matrix(exercises()[name], seed or throwaway()))
        if on_exercise:
            on_exercise(name)
    return done


def as_json(rows: list[ExerciseMatrix]) -> list[dict[str, Any]]:
    """The matrix as plain data."""
    return [asdict(row) for row in rows]


def _exercise_matrix(exercise: Exercise, seed: Seed) -> ExerciseMatrix:
    public = public_exercise(exercise)
    found = ExerciseMatrix(exercise.name, exercise.lab)
    faults, alternatives = faults_of(exercise.name), alternatives_of(exercise.name)
    if len(faults) < LEAST_FAULTS:
        found.holes.append(f"has {len(faults)} faults, fewer than {LEAST_FAULTS}")
    if len(alternatives) < LEAST_ALTERNATIVES:
        found.holes.append(f"has {len(alternatives)} alternatives, fewer than {LEAST_ALTERNATIVES}")
    for fault in faults:
        row = _fault_row(exercise, public, fault, seed)
        found.faults.append(row)
        found.holes += _holes_of(row)
    for accepted in alternatives:
        refused = _refused_by(exercise, public, accepted.run, seed)
        found.alternatives.append(AlternativeRow(accepted.style, refused))
        if refused:
            found.holes.append(f"the right answer '{accepted.style}' is refused by {' and '.join(refused)}")
    for words, run in THOUGHTLESS.items():
        if examine_exercise(public, run).passed:
            found.holes.append(f"check passes a function that {words}")
        judgement = judge_answers(private_cases(exercise, seed), ask_function(run, exercise.time_limit))
        if judgement.points > judgement.possible / 2:
            found.holes.append(f"judge gives a function that {words} {judgement.points:g} points")
    return found


def _holes_of(row: FaultRow) -> list[str]:
    holes = []
    if not row.check:
        holes.append(f"{row.id} is not caught by check")
    elif row.check_names != (row.id,):
        holes.append(f"{row.id} is named by check as {', '.join(row.check_names) or 'nothing'}")
    if not row.judge:
        holes.append(f"{row.id} is not caught by judge")
    elif row.judge_names != (row.id,):
        holes.append(f"{row.id} is named by judge as {', '.join(row.judge_names) or 'nothing'}")
    return holes


def _fault_row(exercise: Exercise, public: PublicExercise, fault: Fault, seed: Seed) -> FaultRow:
    report = examine_exercise(public, fault.run)
    judgement = judge_answers(private_cases(exercise, seed), ask_function(fault.run, exercise.time_limit))
    return FaultRow(
        id=fault.id,
        asserts=not passes_asserts(exercise, fault.run),
        check=not report.passed,
        judge=judgement.points < judgement.possible,
        check_names=tuple(f.id for f in report.named),
        judge_names=tuple(f.id for f in judgement.named),
    )


def _refused_by(
    exercise: Exercise, public: PublicExercise, run: Implementation, seed: Seed
) -> tuple[str, ...]:
    judgement = judge_answers(private_cases(exercise, seed), ask_function(run, exercise.time_limit))
    verdicts = {
        "asserts": passes_asserts(exercise, run),
        "check": examine_exercise(public, run).passed,
        "judge": judgement.points == judgement.possible,
    }
    return tuple(name for name, fine in verdicts.items() if not fine)


def passes_asserts(exercise: Exercise, run: Implementation) -> bool:
    """Whether an implementation passes the visible asserts; the check that ends their cell is left out."""
    source, _ = test_cell(exercise.lab, exercise.name, "visible")
    source = re.sub(r"(?m)^check\(.*\)\s*$", "", source)
    namespace = definitions(exercise.lab, names_used(source), replace={exercise.name: run})
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(source, f"<{exercise.lab}>", "exec"), namespace)
    except Exception:  # an implementation may fail in any way, and each one is a catch
        return False
    return True


@cache
def _public(lab: str) -> dict[str, PublicExercise]:
    import json

    data = checks_file(lab)
    assert data is not None
    return {e.name: e for e in read(json.loads(data))}


def public_exercise(exercise: Exercise) -> PublicExercise:
    """The exercise as its students will have it, made from the sources and not from the file in assets/."""
    return _public(exercise.lab)[exercise.name]
