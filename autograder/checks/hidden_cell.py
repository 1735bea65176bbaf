"""`judge(fn)`: what a hidden test cell calls under nbgrader's own autograde and validate."""

from collections.abc import Callable
from typing import Any

from autograder.checks.judging import judge_answers, private_cases
from autograder.checks.registry import exercise_named
from autograder.checks.seeds import SEED_FILE, class_seed
from chatcontract.check.diagnosis import ask_function


def judge(function: Callable[..., Any]) -> float:
    """Grade one answer on the private cases of this class; the points are the cell's last value.

    Prints categories and known mistakes, never a case. Without a secret seed the cases come from a public
    one, and the output says so.

    Returns:
        Points, from 0 to what the hidden cell is worth.
    """
    exercise = exercise_named(function.__name__)
    seed = class_seed()
    if not seed.is_secret:
        print(f"(No {SEED_FILE.as_posix()} here: these cases come from the public rehearsal seed.)")
    judgement = judge_answers(private_cases(exercise, seed), ask_function(function, exercise.time_limit))
    print(judgement.text())
    return float(judgement.points)
