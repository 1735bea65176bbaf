"""All exercises of the course, by lab and by name."""

import difflib
import importlib
import pkgutil
from functools import cache

from autograder.checks.exercise import Exercise


class UnknownExercise(LookupError):
    """No exercise has this name."""


@cache
def exercises() -> dict[str, Exercise]:
    """Every exercise by its function's name, in the order of the labs.

    Raises:
        ValueError: two exercises have one name.
    """
    import autograder.checks as package

    found: dict[str, Exercise] = {}
    for module in sorted(m.name for m in pkgutil.iter_modules(package.__path__) if m.name.startswith("lab")):
        for exercise in importlib.import_module(f"autograder.checks.{module}").EXERCISES:
            if exercise.name in found:
                raise ValueError(f"Two exercises are called {exercise.name}: rename one of them.")
            found[exercise.name] = exercise
    return found


def exercises_of(lab: str) -> list[Exercise]:
    """The exercises of one lab, NN_topic, in the order of the notebook."""
    return [exercise for exercise in exercises().values() if exercise.lab == lab]


def exercise_named(name: str) -> Exercise:
    """One exercise.

    Raises:
        UnknownExercise: there is none; the message suggests a name.
    """
    if name in exercises():
        return exercises()[name]
    near = difflib.get_close_matches(name, exercises(), n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(exercises())}."
    raise UnknownExercise(f"There is no exercise {name!r}: {hint}")
