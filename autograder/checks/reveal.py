"""Shows a class's private cases after the deadline, so that a mark can be defended."""

import json

from rich.console import Console

from autograder.checks.judging import private_cases
from autograder.checks.registry import exercises
from autograder.checks.seeds import SEED_FILE, BadSeed, class_seed
from autograder.labs import ROOT, UnknownLab, discover, select


def main(labs: list[str], reveal_cases: bool) -> int:
    """Print how many private cases each exercise has, and with `reveal_cases` the cases as JSON lines.

    Returns:
        Exit status: 0, or 2 for a lab that is not there or a seed that cannot be used.
    """
    console = Console(highlight=False, soft_wrap=True, markup=False)
    try:
        chosen = {lab.name for lab in select(labs, discover(ROOT / "solutions"))}
        seed = class_seed()
    except (UnknownLab, BadSeed) as error:
        console.print(f"course.py: {error}")
        return 2
    if not seed.is_secret:
        console.print(f"No {SEED_FILE.as_posix()} here: these are the cases of the public rehearsal seed.")
    for exercise in exercises().values():
        if exercise.lab not in chosen:
            continue
        private = private_cases(exercise, seed)
        console.print(f"{exercise.lab} {exercise.name}: {len(private.cases)} cases")
        if not reveal_cases:
            continue
        for case, expected in zip(private.cases, private.expected, strict=True):
            line = {
                "case": case.name,
                "property": case.property,
                "arguments": case.arguments,
                "expected": expected.to_json(),
            }
            console.print(json.dumps(line, ensure_ascii=False))
    return 0
