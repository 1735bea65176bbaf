"""Where faults and accepted alternatives register themselves."""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from autograder.checks import reference as notebooks
from autograder.checks.registry import exercise_named

Implementation = Callable[..., Any]
_F = TypeVar("_F", bound=Implementation)


@dataclass(frozen=True)
class Fault:
    """A real bug, kept as a small wrong implementation of one exercise.

    Attributes:
        id: topic.mistake, such as "labels.eot_masked".
        exercise: name of the exercise it answers wrongly.
        title: the mistake in a few words.
        symptom: what one sees when a model was built with it, one sentence.
        first_check: where to look first.
        consequence: what it does to a model, one sentence that a student reads.
        citation: where the bug happened, with a link, or "seen here" with the measurement.
        experiment: the experiment of `chatcontract.experiments` that measures it, if there is one.
        run: the wrong implementation; takes the exercise's arguments.
    """

    id: str
    exercise: str
    title: str
    symptom: str
    first_check: str
    consequence: str
    citation: str
    experiment: str | None
    run: Implementation


@dataclass(frozen=True)
class Alternative:
    """A right implementation in a style of its own, which no check may refuse."""

    exercise: str
    style: str
    run: Implementation


_faults: dict[str, Fault] = {}
_alternatives: list[Alternative] = []


def fault(
    id: str,
    *,
    exercise: str,
    title: str,
    symptom: str,
    first_check: str,
    consequence: str,
    citation: str,
    experiment: str | None = None,
) -> Callable[[_F], _F]:
    """Register the decorated function as a fault; the arguments are the fields of `Fault`.

    Raises:
        ValueError: the id is taken.
    """

    def register(run: _F) -> _F:
        if id in _faults:
            raise ValueError(f"Two faults are called {id}: rename one of them.")
        _faults[id] = Fault(id, exercise, title, symptom, first_check, consequence, citation, experiment, run)
        return run

    return register


def alternative(exercise: str, *, style: str) -> Callable[[_F], _F]:
    """Register the decorated function as a right answer in another style."""

    def register(run: _F) -> _F:
        _alternatives.append(Alternative(exercise, style, run))
        return run

    return register


def reference(name: str) -> Implementation:
    """The reference answer of an exercise, for faults that are a small step away from it."""
    return _reference(name)


@cache
def _reference(name: str) -> Implementation:
    return notebooks.reference(exercise_named(name).lab, name)


@cache
def _load() -> None:
    import autograder.faults as package

    for module in sorted(m.name for m in pkgutil.iter_modules(package.__path__) if m.name.startswith("lab")):
        importlib.import_module(f"autograder.faults.{module}")


def faults_of(exercise: str) -> list[Fault]:
    """The catalogued faults of one exercise."""
    _load()
    return [f for f in _faults.values() if f.exercise == exercise]


def alternatives_of(exercise: str) -> list[Alternative]:
    """The accepted alternatives of one exercise."""
    _load()
    return [a for a in _alternatives if a.exercise == exercise]


def all_faults() -> list[Fault]:
    """The whole catalogue, in the order of the labs."""
    _load()
    return list(_faults.values())
