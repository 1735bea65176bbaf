"""Which cell of a hand-in stands for which cell of the lab.

Evidence, strongest first: nbgrader's grade_id and the cell's id; the same text; for a test, the function that
it checks; similar text. An answer is told by what it defines, see autograder.grading.answers.
"""

import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from rapidfuzz import fuzz

from autograder.grading.definitions import defined
from autograder.grading.official import Official, OfficialCell, Role, compact

# Two different cells of the course's labs are at most 77 alike; an edited word or line leaves 80 and more.
SIMILAR = 80.0
MAX_COMPARED = 20_000


@dataclass(frozen=True)
class HandedCell:
    """One cell of the hand-in; `text` is its source without white space that editors change."""

    position: int
    data: dict[str, Any]
    text: str

    @property
    def source(self) -> str:
        """The cell's text as handed in."""
        return str(self.data["source"])

    @property
    def kind(self) -> str:
        """code, markdown or raw."""
        return str(self.data["cell_type"])

    @property
    def settings(self) -> dict[str, Any] | None:
        """nbgrader's settings of the cell, None if it has none."""
        found: dict[str, Any] | None = self.data["metadata"].get("nbgrader")
        return found


@dataclass
class Alignment:
    """What was found.

    Attributes:
        cells: all cells of the hand-in.
        claims: the hand-in's cells that stand for a cell of the lab, by its position there, in their order.
        claimed: the lab's position that each such cell stands for, by its own.
        copies: cells that repeat one of the lab's and were left out.
        by_text: cells that were recognised by their text and not by a name.
        stubs: the lab's exercises and the bodies of their stubs.
    """

    cells: list[HandedCell]
    claims: dict[int, list[HandedCell]] = field(default_factory=lambda: defaultdict(list))
    claimed: dict[int, int] = field(default_factory=dict)
    copies: set[int] = field(default_factory=set)
    by_text: set[int] = field(default_factory=set)
    stubs: dict[str, str] = field(default_factory=dict)
    _defined: dict[int, frozenset[str]] = field(default_factory=dict)

    def defines(self, cell: HandedCell) -> frozenset[str]:
        """The lab's exercises that a cell answers in earnest."""
        if cell.position not in self._defined:
            self._defined[cell.position] = defined(cell.source, self.stubs)
        return self._defined[cell.position]

    def claim(self, cell: HandedCell, target: OfficialCell) -> None:
        """Let a cell of the hand-in stand for one of the lab."""
        self.claims[target.position].append(cell)
        self.claims[target.position].sort(key=lambda one: one.position)
        self.claimed[cell.position] = target.position

    def free(self) -> list[HandedCell]:
        """Cells that stand for none of the lab's: the student's own."""
        return [c for c in self.cells if c.position not in self.claimed and c.position not in self.copies]


def align(lab: Official, notebook: dict[str, Any]) -> Alignment:
    """Match the cells of a cleaned notebook (see autograder.grading.reading.clean) with the lab's."""
    found = Alignment([HandedCell(i, c, compact(c["source"])) for i, c in enumerate(notebook["cells"])])
    for answer in lab.answers:
        found.stubs |= answer.functions
    for cell in found.cells:
        named = _named(lab, cell)
        if named and not _is_own(cell, named, found):
            found.claim(cell, named)
    _match_texts(lab, found)
    _match_tests(lab, found)
    _match_similar(lab, found)
    return found


def _named(lab: Official, cell: HandedCell) -> OfficialCell | None:
    by_grade_id = lab.by_grade_id.get((cell.settings or {}).get("grade_id", ""))
    by_id = lab.by_id.get(cell.data["id"])
    if by_grade_id and by_id and by_grade_id is not by_id:
        # One of the two was tampered with; mistaking an answer for a test would lose it.
        return by_id if by_id.role is Role.ANSWER and by_grade_id.role is not Role.ANSWER else by_grade_id
    return by_grade_id or by_id


def _is_own(cell: HandedCell, named: OfficialCell, found: Alignment) -> bool:
    """Whether a cell with a name of the lab is the student's own: a second copy, or code for text."""
    if named.role is Role.OPEN:
        return bool(found.claims[named.position])
    return named.role is Role.TEXT and cell.kind == "code" and cell.text != named.text


def _match_texts(lab: Official, found: Alignment) -> None:
    by_text: dict[str, list[OfficialCell]] = defaultdict(list)
    for target in lab.cells:
        if target.text:
            by_text[target.text].append(target)
    for cell in found.free():
        if cell.text not in by_text:
            continue
        unclaimed = next((t for t in by_text[cell.text] if not found.claims[t.position]), None)
        if unclaimed is not None:
            found.claim(cell, unclaimed)
            found.by_text.add(cell.position)
        else:
            found.copies.add(cell.position)


def _match_tests(lab: Official, found: Alignment) -> None:
    """A free cell that checks a function and defines none of the lab's is a changed test."""
    open_tests = {
        called: target
        for target in lab.cells
        if target.role is Role.TEST and not found.claims[target.position]
        for called in re.findall(r"^check\((\w+)\)", target.text, re.MULTILINE)
    }
    for cell in found.free() if open_tests else ():
        called = re.findall(r"^check\((\w+)\)", cell.text, re.MULTILINE)
        if len(called) == 1 and called[0] in open_tests and not found.defines(cell):
            found.claim(cell, open_tests.pop(called[0]))
            found.by_text.add(cell.position)


def _match_similar(lab: Official, found: Alignment) -> None:
    open_cells = [
        t for t in lab.cells if t.role is not Role.ANSWER and t.text and not found.claims[t.position]
    ]
    pairs = []
    for cell in found.free():
        if not cell.text or len(cell.text) > MAX_COMPARED:
            continue
        for target in open_cells:
            alike = fuzz.ratio(cell.text, target.text, score_cutoff=SIMILAR)
            if alike:
                pairs.append((-alike, target.position, cell.position, target, cell))
    for *_, target, cell in sorted(pairs, key=lambda pair: pair[:3]):
        if cell.position not in found.claimed and not found.claims[target.position]:
            found.claim(cell, target)
            found.by_text.add(cell.position)
