"""A class that nobody taught: synthetic hand-ins made from the released notebook, each of a known kind.

The students do not exist and are called student01, student02 and so on. What a hand-in is worth is known
beforehand, so that the class shows what the grader does, and its rehearsal proves it.
"""

import copy
import dataclasses
import json
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
from nbformat import NotebookNode
from rich.console import Console

from autograder.atomic_write import write_atomically
from autograder.checks.registry import exercises_of
from autograder.faults.as_answer import NotPortable, right_answers, wrong_answer
from autograder.faults.registry import Fault, faults_of
from autograder.labs import ROOT, discover, select

if TYPE_CHECKING:
    from autograder.grading.options import Options

FAULTS = 10
RIGHT, BLANK, FAULT, BROKEN, HOSTILE = "right", "blank", "fault", "broken", "hostile"
_FOLDER = Path("build") / "demonstration"
_LAB = "02_roles"
_CELL_SECONDS = 15.0


@dataclass(frozen=True)
class HandIn:
    """One synthetic student's file.

    Attributes:
        kind: "right", "blank", "fault", "broken" or "hostile".
        about: the fault's id, or what is broken or hostile about it.
        data: the bytes of the notebook file.
    """

    student: str
    lab: str
    kind: str
    about: str
    data: bytes


class ReleasedLab:
    """The released notebook of a lab, and the hand-ins that can be made from it."""

    def __init__(self, lab: str, path: Path | None = None) -> None:
        """Read the release at `path`, by default the course's own.

        Raises:
            FileNotFoundError: there is no such release.
        """
        self.lab = lab
        self.notebook = nbformat.read(path or ROOT / "notebooks" / lab / f"{lab}.ipynb", as_version=4)

    @cached_property
    def answers(self) -> dict[str, str]:
        """The right answers by cell id."""
        return right_answers(self.lab)

    def blank(self) -> bytes:
        """As it was released."""
        return _bytes(self.notebook)

    def right(self) -> bytes:
        """Every answer right."""
        return _bytes(self._filled({}))

    def with_fault(self, fault: Fault) -> bytes:
        """Every answer right but one, which has the catalogued fault.

        Raises:
            NotPortable: the fault's source does not stand alone.
        """
        identifier, source = wrong_answer(fault)
        return _bytes(self._filled({identifier: source}))

    def with_code(self, code: str) -> bytes:
        """Every answer right but the first, whose function has this body."""
        name = exercises_of(self.lab)[0].name
        cell = next(cell for cell in self.notebook.cells if f"def {name}(" in cell.source)
        body = "\n".join(f"    {line}" if line else "" for line in code.strip().splitlines())
        return _bytes(self._filled({cell.id: f"def {name}(*arguments, **named):\n{body}\n"}))

    def without_metadata(self) -> bytes:
        """Every answer right and there twice, without the metadata and cell ids that tell which is which."""
        notebook = self._filled({})
        cells: list[NotebookNode] = []
        for cell in notebook.cells:
            is_answer = cell.metadata.get("nbgrader", {}).get("solution")
            del cell["id"]
            cell.metadata = nbformat.NotebookNode()
            cells += [cell, copy.deepcopy(cell)] if is_answer else [cell]
        plain = json.loads(json.dumps(notebook | {"cells": cells, "nbformat_minor": 4}))
        return json.dumps(plain, indent=1).encode()

    def faults(self, rng: random.Random) -> Iterator[Fault]:
        """The lab's faults that can stand in a cell, by turns from each exercise."""
        groups = [faults_of(exercise.name) for exercise in exercises_of(self.lab)]
        for group in groups:
            rng.shuffle(group)
        for turn in zip_longest(*groups):
            for fault in turn:
                if fault is not None and _portable(fault):
                    yield fault

    def _filled(self, other: dict[str, str]) -> NotebookNode:
        notebook = copy.deepcopy(self.notebook)
        answers = self.answers | other
        for cell in notebook.cells:
            cell.source = answers.get(cell.id, cell.source)
        return notebook


def sample_class(lab: str = _LAB, *, seed: int = 0, released: Path | None = None) -> list[HandIn]:
    """A right and a blank hand-in, up to ten with one fault each, three broken and three hostile ones."""
    notebook = ReleasedLab(lab, released)
    faults = [fault for fault, _ in zip(notebook.faults(random.Random(seed)), range(FAULTS), strict=False)]
    right = notebook.right()
    kinds: list[tuple[str, str, bytes]] = [(RIGHT, "", right), (BLANK, "", notebook.blank())]
    kinds += [(FAULT, fault.id, notebook.with_fault(fault)) for fault in faults]
    kinds += [
        (BROKEN, "cut off in the middle", right[: len(right) // 2]),
        (BROKEN, "a web page", _WEB_PAGE),
        (BROKEN, "answers twice, metadata gone", notebook.without_metadata()),
    ]
    kinds += [(HOSTILE, about, notebook.with_code(code)) for about, code in _HOSTILE.items()]
    return [
        HandIn(f"student{number:02d}", lab, kind, about, data)
        for number, (kind, about, data) in enumerate(kinds, 1)
    ]


def write_sample_class(folder: Path, lab: str = _LAB, *, seed: int = 0) -> list[str]:
    """Write the sample class as nbgrader has it, STUDENT/LAB/LAB.ipynb below `folder`.

    Args:
        folder: made if it is not there; other files in it stay.
        seed: chooses the faults.

    Returns:
        The students in the order of `sample_class`.
    """
    return write_hand_ins(folder, sample_class(lab, seed=seed))


def write_hand_ins(folder: Path, hand_ins: list[HandIn]) -> list[str]:
    """Write hand-ins as nbgrader has them; the students, each once."""
    for hand_in in hand_ins:
        path = folder / hand_in.student / hand_in.lab / f"{hand_in.lab}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, hand_in.data)
    return list(dict.fromkeys(hand_in.student for hand_in in hand_ins))


def write_course(folder: Path, labs: tuple[str, ...]) -> None:
    """Make a course of its own: solutions and nbgrader's settings, without a gradebook or hand-ins."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder / "solutions", ignore_errors=True)
    for lab in labs:
        shutil.copytree(ROOT / "solutions" / lab, folder / "solutions" / lab)
    shutil.copy2(ROOT / "nbgrader_config.py", folder)


def demonstration(options: "Options", console: Console) -> tuple[Path, "Options"]:
    """A course with the sample class in build/demonstration/, and the options to grade it there.

    Verdicts and gradebook of an earlier demonstration stay, so that --resume and a regrade can be tried.

    Raises:
        UnknownLab: `options.labs` names no lab.
    """
    course = ROOT / _FOLDER
    labs = tuple(lab.name for lab in select(options.labs or (_LAB,), discover(ROOT / "solutions")))
    write_course(course, labs)
    submitted = course / "submitted"
    shutil.rmtree(submitted, ignore_errors=True)
    students: list[str] = []
    for lab in labs:
        students = max(students, write_sample_class(submitted, lab), key=len)
    console.print(
        f"No PATH was given: grading the sample class of {len(students)} students in {course}. "
        "The course's own gradebook is not touched."
    )
    if options.db:
        console.print("The sample class has a gradebook of its own; --db is left aside.")
    # One of the students waits for a loop to end; the class should not wait as long as a real one.
    limits = dataclasses.replace(options.limits, cell_seconds=min(options.limits.cell_seconds, _CELL_SECONDS))
    return submitted, dataclasses.replace(options, course=course, labs=labs, db=None, limits=limits)


def _portable(fault: Fault) -> bool:
    try:
        wrong_answer(fault)
    except NotPortable:
        return False
    return True


def _bytes(notebook: Any) -> bytes:
    return nbformat.writes(notebook).encode()


_WEB_PAGE = b"""<!DOCTYPE html>
<html><head><title>Sign in</title></head>
<body><p>Your session has ended. Sign in to download the file.</p></body></html>
"""

_HOSTILE = {
    "a loop that never ends": "while True:\n    pass",
    "ends Python": "import os\n\nos._exit(0)",
    # Writes full marks to every open file, socket and pipe that it finds, and to a results file.
    "forges a verdict": """
import json
import os

verdict = json.dumps({"verdict": "passed", "points": 10, "trouble": "", "value": []}).encode()
for descriptor in range(3, 256):
    try:
        os.write(descriptor, len(verdict).to_bytes(4, "big") + verdict)
    except OSError:
        continue
with open("results.json", "wb") as file:
    file.write(verdict)
return []
""",
}
