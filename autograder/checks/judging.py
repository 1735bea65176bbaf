"""Private cases and partial credit: the same verdict wherever the student's function runs."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from autograder.checks.exercise import Case, Exercise
from autograder.checks.points import hidden_points
from autograder.checks.reference import reference
from autograder.checks.seeds import Seed
from autograder.faults.registry import Fault, faults_of
from chatcontract.check.diagnosis import AnyCase, diagnose, examine
from chatcontract.check.outcome import Outcome, call


@dataclass(frozen=True)
class PropertyVerdict:
    """One named property of the exercise: how many of its cases passed, and what it earned."""

    name: str
    passed: int
    cases: int
    points: float
    possible: float


@dataclass(frozen=True)
class Judgement:
    """What the private cases say: categories and known mistakes, never inputs or expected outcomes."""

    exercise: str
    points: float
    possible: float
    properties: tuple[PropertyVerdict, ...]
    named: tuple[Fault, ...]

    @property
    def full(self) -> bool:
        """Whether every private case passed."""
        return all(p.passed == p.cases for p in self.properties)

    def text(self) -> str:
        """The categories, one a line, and the mistakes that explain what failed."""
        lines = [f"{self.exercise}: {self.points:g} of {self.possible:g} points for the instructor's cases."]
        for p in self.properties:
            mark = "✓" if p.passed == p.cases else "✗"
            lines.append(
                f"  {mark} {p.name}: {p.passed} of {p.cases} cases, {p.points:g} of {p.possible:g} points"
            )
        for fault in self.named[:2]:
            lines += [f"  {fault.title}. {fault.consequence}", f"  First check: {fault.first_check}"]
        return "\n".join(lines)


@dataclass(frozen=True)
class PrivateCases:
    """The cases of one class for one exercise, with what is expected and what each fault would give."""

    exercise: Exercise
    cases: tuple[Case, ...]
    expected: tuple[Outcome, ...]
    faults: dict[str, tuple[Outcome, ...]]


class BadPrivateCases(ValueError):
    """The generator of an exercise made cases that cannot be graded with."""


# Graders are threads, and neither the references nor the tokenizers under them were made for two at once.
_one_at_a_time = threading.Lock()


def private_cases(exercise: Exercise, seed: Seed) -> PrivateCases:
    """Make the cases and ask the reference and every fault for them, once in a process.

    Raises:
        BadPrivateCases: a property has no case, or the reference gets into trouble.
    """
    with _one_at_a_time:
        return _made(exercise, seed)


@lru_cache(maxsize=256)
def _made(exercise: Exercise, seed: Seed) -> PrivateCases:
    cases = tuple(exercise.private(seed.generator(exercise.lab, exercise.name)))
    if missing := set(exercise.properties) - {case.property for case in cases}:
        raise BadPrivateCases(f"{exercise.name}: no private case for the property {sorted(missing)[0]!r}.")
    if unknown := {case.property for case in cases} - set(exercise.properties):
        raise BadPrivateCases(
            f"{exercise.name}: a private case has the unknown property {sorted(unknown)[0]!r}."
        )
    answer = reference(exercise.lab, exercise.name)
    expected = _ask(answer, cases, exercise)
    for case, outcome in zip(cases, expected, strict=True):
        if outcome.trouble:
            raise BadPrivateCases(f"{exercise.name}, {case.name!r}: the reference's {outcome.trouble}.")
    faults = {f.id: _ask(f.run, cases, exercise) for f in faults_of(exercise.name)}
    return PrivateCases(exercise, cases, expected, faults)


def _ask(function: Callable[..., object], cases: Sequence[Case], exercise: Exercise) -> tuple[Outcome, ...]:
    return tuple(call(function, case.arguments, time_limit=exercise.time_limit) for case in cases)


def judge_answers(private: PrivateCases, ask: Callable[[AnyCase], Outcome]) -> Judgement:
    """The verdict on a function that answers each question through `ask`, in this process or in another.

    A property earns its share of the points when all its cases pass. Properties whose cases all expect a
    refusal earn nothing on their own: a function that refuses everything has understood nothing.
    """
    exercise = private.exercise
    results = examine(private.cases, private.expected, ask, exercise.tolerance)
    groups = {name: [r for r in results if r.case.property == name] for name in exercise.properties}
    answers_something = any(r.passed and not r.expected.raised for r in results)
    possible = float(hidden_points(exercise))
    total = sum(exercise.properties.values())
    verdicts = []
    for name, weight in exercise.properties.items():
        share = possible * weight / total
        passed = sum(r.passed for r in groups[name])
        earned = share if passed == len(groups[name]) and answers_something else 0.0
        verdicts.append(PropertyVerdict(name, passed, len(groups[name]), round(earned, 2), round(share, 2)))
    whole = all(r.passed for r in results)
    named = [] if whole else diagnose(results, private.faults, exercise.tolerance)
    by_id = {f.id: f for f in faults_of(exercise.name)}
    points = possible if whole else round(sum(v.points for v in verdicts), 2)
    return Judgement(exercise.name, points, possible, tuple(verdicts), tuple(by_id[name] for name in named))
