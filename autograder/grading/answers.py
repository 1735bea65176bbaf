"""Which text of a hand-in is the answer to an exercise.

For an answer in code, the first of these that there is:

1. the last cell that stands for the answer cell and defines its function in earnest (with another body than
   the stub); if a cell was split so that its parts cannot be read alone, the parts joined;
2. where no cell stands for the answer cell, the last cell of the student's own that defines the function;
3. the last other cell that defines the function in earnest: the definition, with what it needs of its cell,
   is copied to the answer cell, and the other cell stays where it is;
4. the last cell that stands for the answer cell and is not the released stub, whatever it holds;
5. the stub: a blank answer.

A written answer is all text of the cells that stand for it, the released text left out; where there is none,
the text right under it or in its place.
"""

import re
from dataclasses import dataclass, field
from typing import Any

from autograder.grading.alignment import Alignment, HandedCell
from autograder.grading.definitions import (
    bound_names,
    comparable,
    defined,
    extract,
    free_names,
    mentions_definition,
    parses,
)
from autograder.grading.official import Official, OfficialCell

BY_NAME = "Answers were recognised by the function's name"


@dataclass
class Answer:
    """What was found for one answer cell.

    Attributes:
        source: its text, None if nothing was found.
        blank: it is the released stub.
        used: positions of the hand-in's cells whose whole text is in it.
        replaced: positions of other versions that do not count and are left out.
        kept: positions of cells that stand for the answer but hold something else, and run before it.
        repair: what was put right, as a heading for a list of answers; "" for nothing.
        attachments: pictures of a written answer.
    """

    source: str | None = None
    blank: bool = False
    used: set[int] = field(default_factory=set)
    replaced: set[int] = field(default_factory=set)
    kept: set[int] = field(default_factory=set)
    repair: str = ""
    attachments: dict[str, Any] = field(default_factory=dict)


def find_answer(lab: Official, target: OfficialCell, found: Alignment) -> Answer:
    """The answer to one exercise."""
    return _code(target, found) if target.data["cell_type"] == "code" else _written(lab, target, found)


def _code(target: OfficialCell, found: Alignment) -> Answer:
    claimants = found.claims[target.position]
    filled = [c for c in claimants if c.text and not is_stub(c, target)]
    in_earnest = [c for c in filled if _answers(c, target, found)]
    if joined := _joined(target, found, filled):
        answer = Answer(source=joined[0], used={c.position for c in joined[1]})
        return _rest(
            answer, filled, target, found, "Answers were split into several cells, which were joined"
        )
    if in_earnest or (filled and not target.functions):
        best = (in_earnest or filled)[-1]
        return _rest(Answer(source=best.source, used={best.position}), filled, target, found)
    if not claimants and (own := _own(target, found)):
        answer = Answer(source=own[-1].source, used={own[-1].position})
        return _rest(answer, own, target, found, BY_NAME)
    if elsewhere := _elsewhere(target, found):
        source = _with_needs(extract(elsewhere.source, target.functions), elsewhere, target, found)
        repair = "Answers stood in another cell and were put into their own"
        return Answer(source=source, kept={c.position for c in filled}, repair=repair)
    if filled:
        return _rest(Answer(source=filled[-1].source, used={filled[-1].position}), filled, target, found)
    if claimants:
        return Answer(source=str(target.data["source"]), blank=True)
    # Not in earnest, or not Python: unfinished, but it is the answer.
    if begun := [c for c in found.free() if mentions_definition(c.source, target.functions)]:
        last = begun[-1]
        blank = is_stub(last, target)
        source = str(target.data["source"]) if blank else last.source
        return Answer(source, blank, {last.position}, repair=BY_NAME)
    return Answer()


def is_stub(cell: HandedCell, target: OfficialCell) -> bool:
    """Whether a cell holds the released stub, comments, docstrings and layout aside."""
    return cell.text == target.text or bool(target.meaning and comparable(cell.source) == target.meaning)


def _answers(cell: HandedCell, target: OfficialCell, found: Alignment) -> bool:
    return bool(target.functions) and found.defines(cell) >= target.functions.keys()


def _joined(
    target: OfficialCell, found: Alignment, filled: list[HandedCell]
) -> tuple[str, list[HandedCell]] | None:
    """The parts of a split cell as one, if some part cannot be read alone and the whole can."""
    if not filled or not target.functions:
        return None
    last = filled[-1]
    after = found.cells[last.position + 1 : last.position + 2]
    after = [
        c for c in after if c.position not in found.claimed and c.kind == "code" and not parses(c.source)
    ]
    for parts in (filled, [*filled, *after], [last, *after]):
        if len(parts) < 2 or all(parses(part.source) for part in parts):
            continue
        whole = "\n".join(part.source for part in parts)
        if defined(whole, target.functions) == target.functions.keys():
            return whole, parts
    return None


def _rest(
    answer: Answer, filled: list[HandedCell], target: OfficialCell, found: Alignment, repair: str = ""
) -> Answer:
    """Say what becomes of further cells that stand for the same answer."""
    for cell in filled:
        if cell.position not in answer.used:
            names = frozenset() if found.defines(cell) & target.functions.keys() else bound_names(cell.source)
            other_code = target.functions and names and not names & target.functions.keys()
            (answer.kept if other_code else answer.replaced).add(cell.position)
    answer.repair = "Answers were there more than once; the last one counts" if answer.replaced else repair
    return answer


def _own(target: OfficialCell, found: Alignment) -> list[HandedCell]:
    """Cells of the student's own that define this answer's function, no other's, and test nothing."""
    return [
        cell
        for cell in found.free()
        if found.defines(cell) == target.functions.keys() != set()
        and not re.search(r"^(check|judge)\(", cell.text, re.MULTILINE)
    ]


def _elsewhere(target: OfficialCell, found: Alignment) -> HandedCell | None:
    """The last cell that is not the answer's own and defines its function in earnest."""
    for cell in reversed(found.cells):
        if found.claimed.get(cell.position) != target.position and _answers(cell, target, found):
            return cell
    return None


def _with_needs(source: str, home: HandedCell, target: OfficialCell, found: Alignment) -> str:
    """The definition with those of the student's own cells that it calls and that come after its place."""
    missing = set(free_names(source))
    if not missing:
        return source
    before = {
        c.position for c in found.cells if found.claimed.get(c.position, target.position) < target.position
    }
    limit = max(before, default=-1)
    for cell in reversed(found.free()):
        if cell.position <= limit or cell is home or cell.kind != "code":
            continue
        if needed := missing & bound_names(cell.source):
            source = f"{extract(cell.source, needed)}\n\n{source}"
            missing = set(free_names(source))
    return source


def _written(lab: Official, target: OfficialCell, found: Alignment) -> Answer:
    claimants = found.claims[target.position]
    filled = [c for c in claimants if c.text and c.text != target.text]
    in_place = not filled
    if in_place:
        filled = _after(claimants[-1], found) if claimants else _in_its_place(lab, target, found)
    if filled:
        answer = Answer(source="\n\n".join(c.source for c in filled), used={c.position for c in filled})
        for cell in filled:
            answer.attachments |= cell.data.get("attachments", {})
        if in_place:
            answer.repair = "Written answers were recognised by their place"
        elif len(filled) > 1:
            answer.repair = "Written answers stood in several cells, which were joined"
        return answer
    return Answer(source=str(target.data["source"]), blank=True) if claimants else Answer()


def _after(stub: HandedCell, found: Alignment) -> list[HandedCell]:
    """Text of the student's own right under a written answer's cell that was left as it was released."""
    there: list[HandedCell] = []
    for cell in found.cells[stub.position + 1 :]:
        if cell.position in found.claimed or cell.position in found.copies or cell.kind == "code":
            break
        there += [cell] if cell.text else []
    return there


def _in_its_place(lab: Official, target: OfficialCell, found: Alignment) -> list[HandedCell]:
    """Text between the neighbours of a written answer; all own text if no other is missing."""
    free = [c for c in found.free() if c.kind != "code" and c.text]
    around = [found.claims.get(target.position + step, []) for step in (-1, 1)]
    if around[0] and around[1]:
        between = range(around[0][0].position + 1, around[1][0].position)
        if there := [c for c in free if c.position in between]:
            return there
    written = [a for a in lab.answers if a.data["cell_type"] != "code" and not found.claims[a.position]]
    return free if len(written) == 1 else []
