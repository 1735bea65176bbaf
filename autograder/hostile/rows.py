"""One hand-in for each row of the table in docs/grading.md, and what a fair grader makes of it."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from autograder.hostile import attacks
from autograder.hostile.attacks import WRONG
from autograder.hostile.short_lab import (
    LAB,
    POISONED,
    POSSIBLE,
    Cell,
    answered,
    blank,
    notebook,
    own_cell,
    position,
    right,
    with_cell,
)
from autograder.labs import stub_of

FILE = f"{LAB}.ipynb"
ATTACKER, TWIN, BYSTANDER = "mallory", "mallory2", "zoe"
# What is not given to unprotected graders, and why.
_FORKS = "nothing would bound its processes"
_NETWORK = "its network is closed for this measurement"
_PICTURE = 105_000_000


@dataclass(frozen=True)
class Link:
    """A symbolic link in the place of a file."""

    target: str


class Leak(StrEnum):
    """What a hand-in brings to light where a grader lets it, beside points."""

    PRIVATE_CASES = "hidden test shown to the student"
    SCRIPT = "script in the student's page"
    GRADING = "grading noticed"
    CHANCE = "two runs differ"


Files = dict[str, bytes | Link]


def _points(**changed: float) -> dict[str, float]:
    return POSSIBLE | changed


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        number: as in the table.
        submission: what is handed in, in a few words.
        files: makes the student's folder: content or link by name.
        fair: points that the hand-in deserves, by exercise; None where there is nothing to give points for.
        doubt: by how many points of the attacked exercise two fair graders may differ.
        attacked: the exercise whose verdict tells what became of the attack.
        leak: what else the attack would reach.
        by_hand: points that a person gives to a cell, after which the same hand-in is graded again.
        twice: whether a second student hands in the same.
        unsafe: why stock nbgrader does not get it; empty where it does.
    """

    number: int
    submission: str
    files: Callable[[], Files]
    fair: dict[str, float] | None = field(default_factory=_points)
    doubt: float = 0.0
    attacked: str = POISONED
    leak: Leak | None = None
    by_hand: dict[str, float] = field(default_factory=dict)
    twice: bool = False
    unsafe: str = ""


class UnknownRow(ValueError):
    """A number that no row has; the message names those there are."""


def select(numbers: tuple[int, ...]) -> list[Row]:
    """The rows with these numbers in the table's order; all for none.

    Raises:
        UnknownRow: there is no such row.
    """
    known = {row.number for row in ROWS}
    for number in numbers:
        if number not in known:
            raise UnknownRow(f"There is no row {number}: the table has rows {min(known)} to {max(known)}.")
    return [row for row in ROWS if not numbers or row.number in numbers]


def _lab(make: Callable[[], list[Cell]]) -> Callable[[], Files]:
    """A folder with the notebook of these cells."""
    return lambda: {FILE: notebook(make())}


def _answer(source: str, exercise: str = POISONED) -> Callable[[], Files]:
    return _lab(lambda: answered(source, exercise))


def _cell(source: str) -> Callable[[], Files]:
    return _lab(lambda: with_cell(source))


def _changed(grade_id: str, **values: str) -> Callable[[], Files]:
    """The right lab with other values of one cell's keys."""

    def make() -> list[Cell]:
        cells = right()
        cells[position(cells, grade_id)].update(values)
        return cells

    return _lab(make)


def _edited_test() -> list[Cell]:
    cells = answered(WRONG)
    cells[position(cells, "role-errors-visible")]["source"] = "print('all fine')"
    return cells


def _deleted_test() -> list[Cell]:
    cells = right()
    del cells[position(cells, "role-errors-hidden")]
    return cells


def _duplicated_answer() -> list[Cell]:
    cells, released = right(), blank()
    at = position(cells, stub_of(POISONED))
    cells.insert(at + 1, released[at] | {"id": "a-copy-of-the-stub"})
    return cells


def _shuffled() -> list[Cell]:
    cells = right()
    random.Random(0).shuffle(cells)
    return cells


def _with_settings(cells: list[Cell], **settings: object) -> list[Cell]:
    for cell in cells:
        if "nbgrader" in cell["metadata"]:
            cell["metadata"]["nbgrader"].update(settings)
    return cells


def _without_metadata() -> Files:
    cells = [{k: v for k, v in cell.items() if k != "id"} | {"metadata": {}} for cell in right()]
    return {FILE: notebook(cells, nbformat_minor=4)}


def _for_another_language() -> Files:
    metadata = {"kernelspec": {"name": "ir", "language": "R", "display_name": "R"}}
    return {FILE: notebook(right(), metadata=metadata)}


def _half() -> Files:
    whole = notebook(right())
    return {FILE: whole[: len(whole) // 2]}


def _breaks_the_kernel() -> list[Cell]:
    cells = answered("def repair(messages, policy):\n    return {}\n", "repair")
    cells.insert(position(cells, stub_of("repair")), own_cell(attacks.EVERY_CELL_IS_FINE))
    return cells


def _wrong_behind(attack: str) -> list[Cell]:
    return [own_cell(attack), *answered(WRONG)]


def _forging() -> list[Cell]:
    # More than the visible cell is worth would be an error.
    forgery = attacks.FORGED_MESSAGES.replace("1.0", "0.5")
    body = "".join(f"    {line}\n" for line in forgery.splitlines())
    return answered(f"def role_errors(roles):\n{body}    return []\n")


def _later_name() -> list[Cell]:
    return [*answered(attacks.USES_A_LATER_NAME + WRONG), own_cell(attacks.DEFINES_IT)]


_NOTHING = _points(role_errors=0.0)

ROWS = (
    Row(1, "loop in an answer", _answer(attacks.LOOP + WRONG), _NOTHING),
    Row(2, "loop that ignores interrupts", _answer(attacks.LOOP_PAST_INTERRUPTS + WRONG), _NOTHING),
    Row(3, "os._exit in an answer", _answer(f"{attacks.EXIT}\n{WRONG}"), _NOTHING),
    Row(4, "memory bomb in an answer", _answer(f"{attacks.MEMORY_BOMB}\n{WRONG}"), _NOTHING),
    Row(5, "fork bomb in an answer", _answer(f"{attacks.FORK_BOMB}\n{WRONG}"), _NOTHING, unsafe=_FORKS),
    Row(6, "fills the disk", _cell(attacks.fills_the_disk("."))),
    Row(7, "one line of 30 MB", _cell(attacks.LONG_LINE)),
    Row(8, "network call", _cell(attacks.NETWORK_CALL), unsafe=_NETWORK),
    Row(9, "visible test emptied, wrong answer", _lab(_edited_test), _NOTHING),
    Row(10, "hidden test deleted", _lab(_deleted_test)),
    Row(11, "answer cell copied, the stub left behind it", _lab(_duplicated_answer)),
    Row(12, "answer cell turned raw", _changed(stub_of(POISONED), cell_type="raw")),
    Row(13, "cells in another order", _lab(_shuffled)),
    Row(
        14,
        "settings say 100 points a cell, wrong answer",
        _lab(lambda: _with_settings(answered(WRONG), points=100, grade=True, solution=True, locked=False)),
        _NOTHING,
    ),
    Row(15, "metadata and cell ids gone", _without_metadata),
    Row(16, "schema_version 99", _lab(lambda: _with_settings(right(), schema_version=99))),
    Row(17, "kernelspec of R", _for_another_language),
    Row(18, "file called 02_roles (1).ipynb", lambda: {f"{LAB} (1).ipynb": notebook(right())}),
    Row(19, "empty folder", dict, None),
    Row(20, "file cut in half", _half, None),
    Row(21, "UTF-8 with a byte order mark", lambda: {FILE: b"\xef\xbb\xbf" + notebook(right())}),
    Row(22, "link to a neighbour's notebook", lambda: {FILE: Link(f"../../{BYSTANDER}/{LAB}/{FILE}")}, None),
    Row(
        23,
        "numpy.py beside the notebook",
        lambda: {FILE: notebook(right()), "numpy.py": attacks.SHADOW_MODULE},
    ),
    Row(24, "warnings and a progress bar", _lab(attacks.noisy)),
    Row(25, "NaN shown as the score, wrong answer", _answer(attacks.SHOWS_NAN), _NOTHING),
    Row(
        26,
        "do_execute replaced, wrong answer",
        _lab(_breaks_the_kernel),
        _points(repair=0.0),
        attacked="repair",
    ),
    Row(
        27,
        "result that equals everything",
        _answer(f"def role_errors(roles):\n    return {attacks.EQUAL_TO_EVERYTHING}\n"),
        _NOTHING,
    ),
    Row(
        28,
        "builtins.all patched for the grader, wrong answer",
        _lab(lambda: _wrong_behind(attacks.ALL_PASSED)),
        _NOTHING,
    ),
    Row(29, "runs the solution it finds on disk", _answer(WRONG + attacks.READS_THE_SOLUTION), _NOTHING),
    Row(30, "forged kernel messages, wrong answer", _lab(_forging), _NOTHING),
    Row(
        31,
        "writes the gradebook, wrong answer",
        _lab(lambda: _wrong_behind(attacks.WRITES_THE_GRADEBOOK)),
        _NOTHING,
    ),
    # One assertion of the visible test is none of the cases that can be looked up.
    Row(
        32,
        "answers copied from the visible tests",
        _answer(attacks.COPIES_THE_EXAMPLES),
        _points(role_errors=0.5),
        doubt=0.5,
    ),
    Row(33, "looks whether it is being graded", _cell(attacks.LOOKS_FOR_THE_GRADER), leak=Leak.GRADING),
    Row(
        34,
        "prints what it is asked",
        _lab(lambda: [*attacks.recording(), own_cell(f"{attacks.READER}tell()")]),
        leak=Leak.PRIVATE_CASES,
    ),
    Row(35, "script in an output", _cell(attacks.ACTIVE_PAGE), leak=Leak.SCRIPT),
    Row(36, "input()", _cell(attacks.INPUT)),
    Row(37, "random numbers without a seed", _cell(attacks.DICE), leak=Leak.CHANCE, twice=True),
    Row(38, "uses a name that a later cell defines", _lab(_later_name), _NOTHING),
    Row(39, "105 MB of outputs", _lab(lambda: attacks.large_picture(right(), _PICTURE))),
    Row(
        40,
        "wrong answer, a mark by hand, graded again",
        _answer(WRONG),
        _points(role_errors=1.0),
        by_hand={"role-errors-hidden": 1.0},
    ),
    Row(41, "kill -9 -1", _cell(attacks.KILL_ALL)),
    Row(42, "blank", _lab(blank), dict.fromkeys(POSSIBLE, 0.0)),
    Row(43, "downloads a model", _cell(attacks.MODEL_DOWNLOAD), unsafe=_NETWORK),
)


def write_hand_ins(row: Row, folder: Path) -> list[str]:
    """Write a row's hand-ins and a bystander's right one as nbgrader has them: STUDENT/LAB/FILE.

    Returns:
        The students, the attacker first.
    """
    students = [ATTACKER, *([TWIN] if row.twice else []), BYSTANDER]
    for student in students:
        place = folder / student / LAB
        place.mkdir(parents=True)
        files: Files = {FILE: notebook(right())} if student == BYSTANDER else row.files()
        for name, content in files.items():
            if isinstance(content, Link):
                (place / name).symlink_to(content.target)
            else:
                (place / name).write_bytes(content)
    return students
