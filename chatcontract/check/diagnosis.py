"""Which known mistake explains a function's outcomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from chatcontract.check.compare import agrees, alike, difference
from chatcontract.check.outcome import Outcome, call


class AnyCase(Protocol):
    """What a case must offer to be examined."""

    @property
    def name(self) -> str: ...
    @property
    def arguments(self) -> dict[str, Any]: ...
    @property
    def says(self) -> tuple[str, ...]: ...
    @property
    def property(self) -> str: ...


@dataclass(frozen=True)
class Result:
    """One case with what was expected, what came, and the sentence on what is wrong (empty if nothing is)."""

    case: AnyCase
    expected: Outcome
    got: Outcome
    wrong: str

    @property
    def passed(self) -> bool:
        """Whether the outcome is the expected one."""
        return not self.wrong


def examine(
    cases: Sequence[AnyCase],
    expected: Sequence[Outcome],
    ask: Callable[[AnyCase], Outcome],
    tolerance: float = 0.0,
) -> list[Result]:
    """Ask for every case and hold the outcome against the expected one."""
    results = []
    for case, wanted in zip(cases, expected, strict=True):
        got = ask(case)
        fine = agrees(wanted, got, case.says, tolerance)
        wrong = "" if fine else difference(wanted, got, case.says, tolerance)
        results.append(Result(case, wanted, got, wrong))
    return results


def ask_function(function: Callable[..., Any], time_limit: float) -> Callable[[AnyCase], Outcome]:
    """A way to ask that calls the function in this process.

    After a call without an end the rest is not run: ten cases would be ten times the wait.
    """
    stuck = False

    def ask(case: AnyCase) -> Outcome:
        nonlocal stuck
        if stuck:
            return Outcome(trouble="time: not run, because an earlier case did not end")
        outcome = call(function, case.arguments, time_limit=time_limit)
        stuck = outcome.trouble.startswith("time")
        return outcome

    return ask


def diagnose(
    results: Sequence[Result], faults: Mapping[str, Sequence[Outcome]], tolerance: float = 0.0
) -> list[str]:
    """Ids of the mistakes that explain the results, the best explanation first.

    A mistake that gives the same outcome in every case, right and wrong, explains everything and is named
    alone. Otherwise the function may make several mistakes: each failing case names those that give its
    outcome, and a mistake that would have failed where the function passes is left out.

    Args:
        results: what the function did, in some order of cases.
        faults: for each mistake its outcomes in the same order.
    """

    def same(result: Result, outcome: Outcome) -> bool:
        return alike(outcome, result.got, result.case.says, tolerance)

    whole = [
        name
        for name, outcomes in faults.items()
        if all(same(r, o) for r, o in zip(results, outcomes, strict=True))
    ]
    if whole:
        return whole
    explained: dict[str, int] = {}
    for name, outcomes in faults.items():
        pairs = list(zip(results, outcomes, strict=True))
        if all(same(r, o) for r, o in pairs if r.passed):
            hits = sum(same(r, o) for r, o in pairs if not r.passed)
            if hits:
                explained[name] = hits
    return sorted(explained, key=lambda name: -explained[name])
