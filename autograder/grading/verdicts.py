"""From outcomes to points: what each test cell earns, and what the student reads."""

from collections.abc import Sequence

from autograder.checks.judging import Judgement, PrivateCases, judge_answers
from autograder.grading.model import CellGrade, PropertyScore
from autograder.grading.questions import replay
from autograder.grading.safe_outputs import plain_text
from chatcontract.check.cases import PublicExercise
from chatcontract.check.outcome import Outcome
from chatcontract.check.report import CheckReport
from chatcontract.check.run import examine_answers

_TROUBLES = {"time": "took too long", "crash": "crashed Python", "memory": "used too much memory"}
_WORDS = {
    "took too long": "A call of your function took too long; is there a loop that does not end?",
    "crashed Python": "A call of your function ended Python itself (os._exit, sys.exit or a crash).",
    "used too much memory": "A call of your function used too much memory.",
}


def visible_grade(
    grade_id: str, exercise: PublicExercise, possible: float, outcomes: Sequence[Outcome], *, blank: bool
) -> CellGrade:
    """The verdict on a visible test cell: all its public cases, replayed from outside, or nothing."""
    report: CheckReport = examine_answers(exercise, replay(outcomes))
    verdict = "passed" if report.passed else _verdict(outcomes, blank, "failed")
    return CellGrade(
        grade_id=grade_id,
        exercise=exercise.name,
        points=possible if report.passed else 0.0,
        possible=possible,
        verdict=verdict,
        text=plain_text(_text(report.text(), verdict, exercise.name)),
        faults=tuple(fault.id for fault in report.named),
    )


def hidden_grade(
    grade_id: str,
    private: PrivateCases,
    outcomes: Sequence[Outcome],
    *,
    blank: bool,
    examples_passed: bool,
) -> CellGrade:
    """The verdict on the instructor's cell: partial credit by property, never a case."""
    judgement: Judgement = judge_answers(private, replay(outcomes))
    if judgement.full:
        verdict = "passed"
    elif judgement.points > 0:
        verdict = "partial"
    else:
        verdict = _verdict(outcomes, blank, "passes examples only" if examples_passed else "failed")
    return CellGrade(
        grade_id=grade_id,
        exercise=private.exercise.name,
        points=judgement.points,
        possible=judgement.possible,
        verdict=verdict,
        text=_text(judgement.text(), verdict, private.exercise.name),
        faults=tuple(fault.id for fault in judgement.named),
        properties=tuple(
            PropertyScore(name=p.name, passed=p.passed, cases=p.cases, points=p.points, possible=p.possible)
            for p in judgement.properties
        ),
    )


def _verdict(outcomes: Sequence[Outcome], blank: bool, otherwise: str) -> str:
    codes = [outcome.trouble.partition(":")[0] for outcome in outcomes]
    for code, words in _TROUBLES.items():
        if code in codes:
            return words
    if any(outcome.raised[:1] == ("MemoryError",) for outcome in outcomes):
        return "used too much memory"
    unwritten = all(
        outcome.raised[:1] == ("NotImplementedError",) or code == "missing"
        for outcome, code in zip(outcomes, codes, strict=True)
    )
    return "no answer" if blank and unwritten else otherwise


def _text(report: str, verdict: str, name: str) -> str:
    if verdict == "no answer":
        return f"{name}: no answer."
    if verdict in _WORDS:
        return f"{report}\n{_WORDS[verdict]}"
    if verdict == "passes examples only":
        return f"{report}\nIt passes the examples of the notebook only, and none of the fresh cases."
    return report
