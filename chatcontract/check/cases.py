"""The public cases of the exercises, as the course ships them."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from chatcontract.check.outcome import Outcome
from chatcontract.course_files import assets_dir


@dataclass(frozen=True)
class PublicFault:
    """The part of a catalogued mistake that students may read: no implementation."""

    id: str
    exercise: str
    title: str
    symptom: str
    first_check: str
    consequence: str
    citation: str
    experiment: str | None


@dataclass(frozen=True)
class PublicCase:
    """A case with the outcome that is expected and what each known mistake gives."""

    name: str
    arguments: dict[str, Any]
    property: str
    why: str
    says: tuple[str, ...]
    expected: Outcome
    faults: dict[str, Outcome]

    def of_fault(self, fault: str) -> Outcome:
        """What this mistake gives here: the expected outcome where it does no harm."""
        return self.faults.get(fault, self.expected)


@dataclass(frozen=True)
class PublicExercise:
    """An exercise as a student's machine knows it."""

    name: str
    lab: str
    visible_points: float
    hidden_points: float
    hints: tuple[str, ...]
    tolerance: float
    time_limit: float
    cases: tuple[PublicCase, ...]
    faults: dict[str, PublicFault]


class UnknownExercise(LookupError):
    """A name that no exercise of the course bears."""


def folder() -> Path:
    """Where the files are: one for each lab, NN_topic.json."""
    return assets_dir() / "checks"


@cache
def labs() -> dict[str, tuple[PublicExercise, ...]]:
    """The exercises of each lab, in the order of the notebook.

    Raises:
        ValueError: a file cannot be read; the message names it.
    """
    found = {}
    for path in sorted(folder().glob("*.json")):
        try:
            found[path.stem] = read(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"assets/checks/{path.name} cannot be read ({type(error).__name__}: {error}): "
                "restore it with 'git checkout assets' or write it again with 'python course.py build'."
            ) from error
    return found


def read(data: dict[str, Any]) -> tuple[PublicExercise, ...]:
    """The exercises in one file's data."""
    faults = {key: PublicFault(id=key, **value) for key, value in data["faults"].items()}
    return tuple(
        PublicExercise(
            name=e["name"],
            lab=data["lab"],
            visible_points=e["visible_points"],
            hidden_points=e["hidden_points"],
            hints=tuple(e["hints"]),
            tolerance=e["tolerance"],
            time_limit=e["time_limit"],
            cases=tuple(
                PublicCase(
                    name=c["name"],
                    arguments=c["arguments"],
                    property=c["property"],
                    why=c["why"],
                    says=tuple(c["says"]),
                    expected=Outcome.from_json(c["expected"]),
                    faults={k: Outcome.from_json(v) for k, v in c["faults"].items()},
                )
                for c in e["cases"]
            ),
            faults={k: f for k, f in faults.items() if f.exercise == e["name"]},
        )
        for e in data["exercises"]
    )


def exercise_named(name: str) -> PublicExercise:
    """The exercise whose function has this name.

    Raises:
        UnknownExercise: there is none; the message suggests what may have been meant.
    """
    known = {e.name: e for exercises in labs().values() for e in exercises}
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"the exercises are {', '.join(known) or 'none'}."
    raise UnknownExercise(f"No exercise is called {name!r}: {hint}")
