"""Pairs of students whose answers are nearly the same text: a hint for a person, never a verdict."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rapidfuzz import fuzz, process

from autograder.grading.graded_lab import GradedLab
from autograder.grading.model import Result

THRESHOLD = 90.0  # percent
SHORTEST = 300  # characters of the student's own


@dataclass(frozen=True)
class Pair:
    """Two students of one lab.

    Attributes:
        alike: percent of the two texts that is the same, in the same order.
        to_solution: the same figure between the nearer of the two and the instructor's solution.
        characters: of the shorter text.
    """

    lab: str
    one: str
    other: str
    alike: float
    to_solution: float
    characters: int


@dataclass(frozen=True)
class Group:
    """Students of one lab of whom each is in a pair with another.

    Attributes:
        least, most: percent alike, over the group's pairs.
        to_solution: of the member nearest to the instructor's solution, percent.
    """

    lab: str
    students: tuple[str, ...]
    least: float
    most: float
    to_solution: float


def groups_of(pairs: Sequence[Pair]) -> list[Group]:
    """Join pairs that share a student; the most alike groups first."""
    parent: dict[tuple[str, str], tuple[str, str]] = {}

    def root(key: tuple[str, str]) -> tuple[str, str]:
        while parent.setdefault(key, key) != key:
            key = parent[key]
        return key

    for pair in pairs:
        parent[root((pair.lab, pair.one))] = root((pair.lab, pair.other))
    members: dict[tuple[str, str], list[Pair]] = defaultdict(list)
    for pair in pairs:
        members[root((pair.lab, pair.one))].append(pair)
    groups = [
        Group(
            lab,
            tuple(sorted({name for p in joined for name in (p.one, p.other)})),
            min(p.alike for p in joined),
            max(p.alike for p in joined),
            max(p.to_solution for p in joined),
        )
        for (lab, _), joined in members.items()
    ]
    return sorted(groups, key=lambda g: (-g.most, -g.least, g.lab, g.students))


def own_text(cells: dict[str, str], lab: GradedLab) -> str:
    """The answers of a lab without the lines of the released stubs and without white space at line ends."""
    kept = []
    for name, source in cells.items():
        stub = {line.strip() for line in lab.by_grade_id[name].source.splitlines()}
        kept += [line.strip() for line in source.splitlines() if line.strip() and line.strip() not in stub]
    return "\n".join(kept)


def _answers(result: Result, lab: GradedLab) -> dict[str, str]:
    found = {}
    for cell in (result.notebook or {}).get("cells", ()):
        settings = cell.get("metadata", {}).get("nbgrader", {})
        name = settings.get("grade_id")
        if settings.get("solution") and name in lab.by_grade_id:
            source = cell.get("source", "")
            found[name] = source if isinstance(source, str) else "".join(source)
    return found


def similar_pairs(
    results: Sequence[Result], lab: GradedLab, solutions: dict[str, str]
) -> tuple[list[Pair], int]:
    """The pairs at or above THRESHOLD, most alike first, and how many students were compared.

    The measure is the normalised insertion-deletion similarity of the students' own lines
    (https://rapidfuzz.github.io/RapidFuzz/Usage/fuzz.html#ratio). Blank and short hand-ins are left out.

    Args:
        results: of one lab.
        lab: that lab.
        solutions: source of the instructor's answers by grade_id.
    """
    texts = {r.student: own_text(_answers(r, lab), lab) for r in results}
    texts = {student: text for student, text in texts.items() if len(text) >= SHORTEST}
    students, written = list(texts), list(texts.values())
    if len(students) < 2:
        return [], len(students)
    solution = own_text({n: s for n, s in solutions.items() if n in lab.by_grade_id}, lab)
    near = [fuzz.ratio(text, solution) for text in written]
    table = process.cdist(written, written, scorer=fuzz.ratio, score_cutoff=THRESHOLD, dtype=np.float32)
    pairs = [
        Pair(
            lab.name,
            students[i],
            students[j],
            round(float(table[i, j]), 1),
            round(max(near[i], near[j]), 1),
            min(len(written[i]), len(written[j])),
        )
        for i, j in zip(*np.nonzero(np.triu(table, 1)), strict=True)
    ]
    return sorted(pairs, key=lambda p: (-p.alike, p.one, p.other)), len(students)
