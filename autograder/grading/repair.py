"""Sets a hand-in into the official notebook: the lab's cells in their order, with the student's answers.

Whose text counts:

* answers: the student's (see autograder.grading.answers for which);
* tests, locked cells and everything that is not code: the lab's;
* other code of the lab (imports, demonstrations, playgrounds): the student's where it was edited, since later
  cells may build on it; the lab's where it was deleted or emptied;
* the student's own cells: kept after the cell of the lab that they followed;
* types, tags, nbgrader's settings and the kernel: the lab's, always.

What had to be put right is said in `repairs`; what changes nothing for the student is said in `notes`.
"""

import builtins
import copy
from pathlib import Path
from typing import Any

from autograder.grading.alignment import Alignment, HandedCell, align
from autograder.grading.answers import Answer, find_answer
from autograder.grading.definitions import bound_names, extract, free_names
from autograder.grading.model import Prepared, Status, Submission
from autograder.grading.official import Official, OfficialCell, Role, official
from autograder.grading.reading import Unreadable, clean
from autograder.labs import ROOT, Lab

_SETTINGS = ("grade", "solution", "locked", "task", "points")
_LISTED = 6
_STUDENTS = (Role.ANSWER, Role.OPEN)
_BUILTINS = frozenset(dir(builtins))


def prepare(submission: Submission, lab: Lab, root: Path = ROOT) -> Prepared:
    """The official notebook of a lab with the answers of one submission in it.

    Nothing is run, and no submission raises: what cannot be repaired with certainty is NEEDS_HUMAN. A
    submission without a notebook keeps its status and gets the released notebook.
    """
    released = official(lab, root)
    notes = list(submission.notes)
    repairs = list(submission.repairs)
    if submission.notebook is None:
        nothing = _notebook(released, {}, Alignment([]), [])
        return _prepared(
            submission, nothing, submission.status, submission.reason, repairs, notes, {}, released
        )
    try:
        notebook = clean(submission.notebook, repairs, notes)
    except Unreadable as error:
        nothing = _notebook(released, {}, Alignment([]), [])
        return _prepared(submission, nothing, Status.NEEDS_HUMAN, str(error), repairs, notes, {}, released)
    found = align(released, notebook)
    answers = {target.position: find_answer(released, target, found) for target in released.answers}
    for target in released.answers:
        for position in answers[target.position].used - found.claimed.keys():
            found.claim(found.cells[position], target)
    repairs += _keep_definitions(released, found, answers)
    for repair in dict.fromkeys(answer.repair for answer in answers.values() if answer.repair):
        labels = [t.label for t in released.answers if answers[t.position].repair == repair]
        repairs.append(f"{repair}: {_listed(labels)}.")
    repairs += _repairs(released, found, answers, notebook)
    notes += _notes(released, found)
    if submission.status is Status.GRADED:
        status, reason = _verdict(released, answers, found, repairs)
    else:
        status, reason = submission.status, submission.reason
    cells = _notebook(released, answers, found, _own_cells(answers, found))
    return _prepared(submission, cells, status, reason, repairs, notes, answers, released)


def _prepared(
    submission: Submission,
    cells: list[dict[str, Any]],
    status: Status,
    reason: str,
    repairs: list[str],
    notes: list[str],
    answers: dict[int, Answer],
    released: Official,
) -> Prepared:
    names = {target.position: target.grade_id for target in released.answers}
    return Prepared(
        student=submission.student,
        lab=submission.lab,
        notebook={"cells": cells, "metadata": released.metadata, "nbformat": 4, "nbformat_minor": 5},
        status=status,
        reason=reason,
        repairs=tuple(dict.fromkeys(repairs)),
        notes=tuple(dict.fromkeys(notes)),
        blank=frozenset(names[p] for p, answer in answers.items() if answer.blank),
        lost=frozenset(name for p, name in names.items() if p not in answers or answers[p].source is None),
    )


def _keep_definitions(released: Official, found: Alignment, answers: dict[int, Answer]) -> list[str]:
    """Bring along what an answer calls and the student defined in a cell whose text the lab's replaces."""
    official_text = {target.position: target for target in released.cells if target.role not in _STUDENTS}
    replaced = [
        cell
        for cell in found.cells
        if cell.kind == "code"
        and (target := official_text.get(found.claimed.get(cell.position, -1)))
        and cell.text != target.text
    ]
    defined = [(cell, bound_names(cell.source) - released.names - _BUILTINS) for cell in replaced]
    defined = [(cell, names) for cell, names in defined if names]
    if not defined:
        return []
    there = {name for cell in found.free() if cell.kind == "code" for name in bound_names(cell.source)}
    brought: list[str] = []
    for target in released.answers:
        answer = answers[target.position]
        for cell, names in reversed(defined):
            missing = free_names(answer.source or "") & names - there
            if answer.source and not answer.blank and target.functions and missing:
                answer.source = f"{extract(cell.source, missing)}\n\n{answer.source}"
                brought.append(target.label)
    said = (
        f"Definitions in the instructor's cells were moved to the answers that use them: {_listed(brought)}."
    )
    return [said] if brought else []


def _verdict(
    released: Official, answers: dict[int, Answer], found: Alignment, repairs: list[str]
) -> tuple[Status, str]:
    lost = [target.label for target in released.answers if answers[target.position].source is None]
    if not found.claimed:
        return Status.NEEDS_HUMAN, f"None of the cells of {released.lab} was found in what was handed in."
    if lost:
        return Status.NEEDS_HUMAN, (
            f"No cell was found that holds the answer to {_listed(lost)}. Put it into the exercise's cell "
            "in a fresh copy of the lab and hand that in, or ask your instructor to look."
        )
    return (Status.GRADED_WITH_REPAIRS if repairs else Status.GRADED), ""


def _repairs(
    released: Official, found: Alignment, answers: dict[int, Answer], notebook: dict[str, Any]
) -> list[str]:
    said: list[str] = []
    tests = [t for t in released.cells if t.role is Role.TEST]
    if missing := [t.grade_id for t in tests if not found.claims[t.position]]:
        said.append(f"Test cells were missing and were put back: {_listed(missing)}.")
    if twice := [t.grade_id for t in tests if len(found.claims[t.position]) > 1]:
        said.append(f"Test cells were there more than once; one counts: {_listed(twice)}.")
    retyped = [
        target.label if target.role is Role.ANSWER else target.grade_id or target.id
        for target, cell in _pairs(released, found, answers)
        if target.role is not Role.TEXT and cell.kind != target.data["cell_type"]
    ]
    if retyped:
        said.append(f"Cells had another type, which was put right: {_listed(retyped)}.")
    known = [(t, c) for t, c in _pairs(released, found, answers) if t.grade_id]
    if any(c.settings and c.settings.get("schema_version") != _schema(t) for t, c in known):
        said.append("nbgrader's settings were of another version of nbgrader and were put right.")
    if any(not c.settings or "grade_id" not in c.settings for _, c in known):
        said.append("nbgrader's settings were missing; the cells were recognised by their names and content.")
    order = [
        target.position for target, _ in sorted(_pairs(released, found, answers), key=lambda p: p[1].position)
    ]
    if order != sorted(order):
        said.append("The cells were in another order and were put back into the lab's.")
    language = notebook["metadata"].get("kernelspec", {}).get("language", "python")
    if "python" not in language.casefold():
        said.append(f"The notebook named a kernel for {language[:20]}; it ran with Python.")
    return said


def _notes(released: Official, found: Alignment) -> list[str]:
    said: list[str] = []
    pairs = [(t, c) for t in released.cells for c in found.claims[t.position]]
    frozen = [(t, c) for t, c in pairs if t.role in (Role.TEST, Role.LOCKED)]
    if edited := [t.grade_id or t.id for t, c in frozen if c.text != t.text]:
        said.append(f"Cells of the instructor were edited; the originals were used: {_listed(edited)}.")
    changed = [
        t.grade_id
        for t, c in pairs
        if c.settings and t.grade_id and any(_differs(c.settings, t, key) for key in _SETTINGS)
    ]
    if changed:
        said.append(f"Settings of nbgrader were changed; the instructor's were used: {_listed(changed)}.")
    texts = [t.id for t, c in pairs if t.role is Role.TEXT and c.text != t.text]
    if texts:
        said.append(f"Texts of the lab were edited; the lab's were used: {_listed(texts)}.")
    gone = [t for t in released.cells if t.role in (Role.OPEN, Role.LOCKED) and not found.claims[t.position]]
    if gone:
        said.append(f"Code cells of the lab were missing and were put back: {_listed([t.id for t in gone])}.")
    if found.copies:
        said.append(f"{len(found.copies)} copies of the lab's cells were left out.")
    return said


def _pairs(
    released: Official, found: Alignment, answers: dict[int, Answer]
) -> list[tuple[OfficialCell, HandedCell]]:
    """Each cell of the lab with the one of the hand-in that counts for it."""
    pairs = []
    for target in released.cells:
        claimants = found.claims[target.position]
        if target.position in answers:
            used = answers[target.position].used
            claimants = [c for c in claimants if c.position in used] or claimants
        if claimants:
            pairs.append((target, claimants[0]))
    return pairs


def _schema(target: OfficialCell) -> Any:
    return target.data["metadata"]["nbgrader"]["schema_version"]


def _differs(settings: dict[str, Any], target: OfficialCell, key: str) -> bool:
    own = target.data["metadata"]["nbgrader"]
    return key in own and key in settings and settings[key] != own[key]


def _own_cells(answers: dict[int, Answer], found: Alignment) -> list[tuple[int, HandedCell]]:
    """The student's own cells, each with the position of the lab's cell before it."""
    replaced = {position for answer in answers.values() for position in answer.replaced}
    before_answer = {p: target for target, answer in answers.items() for p in answer.kept}
    own: list[tuple[int, HandedCell]] = []
    anchor = -1
    for cell in found.cells:
        if cell.position in before_answer:
            own.append((before_answer[cell.position] - 1, cell))
        elif cell.position in found.claimed:
            anchor = found.claimed[cell.position]
        elif cell.position not in found.copies | replaced and cell.text:
            own.append((anchor, cell))
    return own


def _notebook(
    released: Official,
    answers: dict[int, Answer],
    found: Alignment,
    own: list[tuple[int, HandedCell]],
) -> list[dict[str, Any]]:
    ids = set(released.by_id)
    cells = [_own(cell, ids) for anchor, cell in own if anchor < 0]
    for target in released.cells:
        cells.append(_official_cell(target, answers, found))
        cells += [_own(cell, ids) for anchor, cell in own if anchor == target.position]
    return cells


def _official_cell(target: OfficialCell, answers: dict[int, Answer], found: Alignment) -> dict[str, Any]:
    cell = copy.deepcopy(target.data)
    answer = answers.get(target.position)
    if answer and answer.source is not None:
        cell["source"] = answer.source
        if answer.attachments:
            cell["attachments"] = answer.attachments
    elif target.role is Role.OPEN:
        theirs = [c for c in found.claims[target.position] if c.text and c.kind == "code"]
        cell["source"] = theirs[0].source if theirs else cell["source"]
    return cell


def _own(cell: HandedCell, ids: set[str]) -> dict[str, Any]:
    name = str(cell.data["id"])
    count = 0
    while name in ids:
        count += 1
        name = f"{cell.data['id'][:55]}-{count}"
    ids.add(name)
    made: dict[str, Any] = {"cell_type": cell.kind, "id": name, "metadata": {}, "source": cell.source}
    if cell.kind == "code":
        return made | {"execution_count": None, "outputs": []}
    return made | ({"attachments": cell.data["attachments"]} if "attachments" in cell.data else {})


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
