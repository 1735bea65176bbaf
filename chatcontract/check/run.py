"""`check(fn)`: the public cases of one exercise, run where the student works."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from chatcontract.check.cases import PublicExercise, exercise_named
from chatcontract.check.diagnosis import AnyCase, ask_function, diagnose, examine
from chatcontract.check.outcome import Outcome
from chatcontract.check.points import remember
from chatcontract.check.report import CheckReport


class CheckFailed(AssertionError):
    """A case failed; the message is the diagnosis. nbgrader counts it as a failed test."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows: the diagnosis alone, because the frames below it are this package's."""
        return [f"{type(self).__name__}: {self}"]


def check(function: Callable[..., Any]) -> None:
    """Run the public cases of the exercise whose name the function bears, and show what came out.

    Args:
        function: the student's answer, under the name that the exercise gave it.

    Raises:
        CheckFailed: a case failed; an AssertionError whose message names the mistake.
        UnknownExercise: no exercise has this name; the message suggests one.
        TypeError: the argument is not a function.
    """
    if not callable(function):
        raise TypeError(f"check needs the function itself, such as check(render_chatml), not {function!r}.")
    exercise = exercise_named(getattr(function, "__name__", repr(function)))
    report = examine_exercise(exercise, function)
    remember(exercise, report.passed)
    _show(report)
    if not report.passed:
        raise CheckFailed(report.headline)


def examine_exercise(exercise: PublicExercise, function: Callable[..., Any]) -> CheckReport:
    """The report of all public cases, without showing or raising anything."""
    _signature_fits(exercise, function)
    return examine_answers(exercise, ask_function(function, exercise.time_limit))


def examine_answers(exercise: PublicExercise, ask: Callable[[AnyCase], Outcome]) -> CheckReport:
    """The report on a function that answers each public case through `ask`, in this process or in another."""
    results = examine(exercise.cases, [c.expected for c in exercise.cases], ask, exercise.tolerance)
    faults = {name: [case.of_fault(name) for case in exercise.cases] for name in exercise.faults}
    named = [] if all(r.passed for r in results) else diagnose(results, faults, exercise.tolerance)
    return CheckReport(exercise, tuple(results), tuple(exercise.faults[name] for name in named))


def _signature_fits(exercise: PublicExercise, function: Callable[..., Any]) -> None:
    """Refuse a function that cannot take the arguments, before every case fails for that one reason."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return
    for case in exercise.cases:
        try:
            signature.bind(**case.arguments)
        except TypeError as error:
            raise CheckFailed(
                f"{exercise.name}{signature} cannot take {', '.join(case.arguments)} ({error}). "
                "Keep the names that the exercise gave them."
            ) from None


def _show(report: CheckReport) -> None:
    try:
        from IPython import get_ipython
    except ImportError:
        get_ipython = None
    if get_ipython is None or get_ipython() is None:
        print(report.text())
        return
    from IPython.display import display

    display({"text/plain": report.text(), "text/html": report.html()}, raw=True)
