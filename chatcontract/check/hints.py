"""`hint(fn)`: three steps, one at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from chatcontract.check.cases import exercise_named

_KINDS = ("a question", "a pointer", "pseudo-code")
_given: Counter[str] = Counter()


def hint(function: Callable[..., Any] | str) -> None:
    """Print the next hint of an exercise; after the last one, the last one again.

    Args:
        function: the student's function, or its name.

    Raises:
        UnknownExercise: no exercise has this name; the message suggests one.
    """
    exercise = exercise_named(function if isinstance(function, str) else function.__name__)
    step = min(_given[exercise.name], len(exercise.hints) - 1)
    _given[exercise.name] += 1
    kind = _KINDS[step] if len(exercise.hints) == len(_KINDS) else "a hint"
    print(f"Hint {step + 1} of {len(exercise.hints)} for {exercise.name}, {kind}:\n{exercise.hints[step]}")
    if step + 1 < len(exercise.hints):
        print(f"\nStill stuck? Run hint({exercise.name}) again.")
