"""What the grader knows of an exercise: its cases, its hints, and what its hidden points pay for."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Case:
    """One call of the student's function.

    The expected outcome is not written here: it is what the reference answer does.

    Attributes:
        name: what the case is, in a few words; students read it in the table of `check`.
        arguments: keyword arguments as plain JSON data.
        property: which property of the exercise the case belongs to.
        why: what a mistake here would do to a model, one sentence.
        says: words that a refusal's message must contain, whatever their case.
    """

    name: str
    arguments: dict[str, Any]
    property: str
    why: str = ""
    says: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Exercise:
    """One graded function of a lab.

    Attributes:
        name: the function's name in the notebook.
        lab: the lab's name, NN_topic.
        hints: a question, a pointer and pseudo-code, in this order.
        properties: weight of each named property in the hidden points.
        public: cases that ship to students with their expected outcomes.
        private: makes the instructor's cases from a seeded generator; never looks at a submission.
        tolerance: how far a float may be off, absolute or relative to the expected one.
        time_limit: seconds that one call may take.
    """

    name: str
    lab: str
    hints: tuple[str, str, str]
    properties: dict[str, int]
    public: tuple[Case, ...]
    private: Callable[[random.Random], list[Case]]
    tolerance: float = 0.0
    time_limit: float = 5.0

    def __post_init__(self) -> None:
        unknown = {case.property for case in self.public} - set(self.properties)
        if unknown:
            raise ValueError(f"{self.name}: a public case has the unknown property {sorted(unknown)[0]!r}.")
