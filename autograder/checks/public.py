"""Writes assets/checks/NN_topic.json: public cases, expected outcomes and what each fault gives."""

import json
from dataclasses import asdict
from typing import Any

from autograder.checks.exercise import Exercise
from autograder.checks.points import hidden_points, visible_points
from autograder.checks.reference import reference
from autograder.checks.registry import exercises_of
from autograder.faults.registry import faults_of
from chatcontract.check.compare import alike, speaks
from chatcontract.check.outcome import call


class BadCase(ValueError):
    """A public case on which the reference answer does something that no student should be held to."""


def checks_file(lab: str) -> bytes | None:
    """The content of a lab's file, or None for a lab without exercises of this kind.

    Raises:
        BadCase: the reference answer changes its arguments, gives two results, or returns no plain data.
    """
    exercises = exercises_of(lab)
    if not exercises:
        return None
    data = {
        "lab": lab,
        "exercises": [_exercise(exercise) for exercise in exercises],
        "faults": {
            fault.id: {field: value for field, value in asdict(fault).items() if field not in ("id", "run")}
            for exercise in exercises
            for fault in faults_of(exercise.name)
        },
    }
    return (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode()


def _exercise(exercise: Exercise) -> dict[str, Any]:
    answer = reference(exercise.lab, exercise.name)
    limit = exercise.time_limit
    cases = []
    for case in exercise.public:
        expected = call(answer, case.arguments, time_limit=limit)
        if expected.trouble:
            raise BadCase(f"{exercise.name}, case {case.name!r}: the reference's {expected.trouble}.")
        if expected.raised and not speaks(expected, case.says):
            raise BadCase(f"{exercise.name}, case {case.name!r}: the reference's refusal lacks {case.says}.")
        given = {f.id: call(f.run, case.arguments, time_limit=limit) for f in faults_of(exercise.name)}
        harm = {
            name: outcome.to_json()
            for name, outcome in given.items()
            if not alike(expected, outcome, case.says, exercise.tolerance)
        }
        cases.append({**asdict(case), "expected": expected.to_json(), "faults": harm})
    return {
        "name": exercise.name,
        "visible_points": visible_points(exercise),
        "hidden_points": hidden_points(exercise),
        "hints": list(exercise.hints),
        "tolerance": exercise.tolerance,
        "time_limit": exercise.time_limit,
        "cases": cases,
    }
