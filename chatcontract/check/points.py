"""`progress()`: which exercises of a lab pass their checks in this kernel, and what they are worth."""

from __future__ import annotations

from chatcontract.check.cases import PublicExercise, labs

_passed: dict[str, bool] = {}
_last_lab = ""


def remember(exercise: PublicExercise, passed: bool) -> None:
    """Keep the verdict of the last check of an exercise."""
    global _last_lab
    _passed[exercise.name] = passed
    _last_lab = exercise.lab


def progress(lab: str = "") -> None:
    """Print the points so far.

    Args:
        lab: the lab's name, NN_topic; default: the lab whose exercise was checked last.
    """
    from chatcontract.viewers.page import text_table

    lab = lab or _last_lab
    if not lab:
        print("Nothing has been checked in this kernel yet: run check(...) below an exercise first.")
        return
    if lab not in labs():
        raise LookupError(f"There is no lab {lab!r}: the labs are {', '.join(labs())}.")
    words = {True: "✓ passes", False: "✗ not yet", None: "- not checked"}
    exercises = labs()[lab]
    rows = [
        (e.name, words[_passed.get(e.name)], f"{e.visible_points:g}", f"{e.hidden_points:g}")
        for e in exercises
    ]
    print(text_table(("exercise", "check", "points here", "points of the instructor's cases"), rows))
    earned = sum(e.visible_points for e in exercises if _passed.get(e.name))
    possible = sum(e.visible_points for e in exercises)
    rest = sum(e.hidden_points for e in exercises)
    print(f"\n{earned:g} of {possible:g} visible points so far; {rest:g} more are decided when it is graded.")
