"""Which lab a notebook is a copy of, told by what is in it."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from autograder.labs import Lab

# Of one point per cell and three per exercise; a notebook of one's own that quotes a cell stays below it.
ENOUGH = 4


@dataclass(frozen=True)
class Traits:
    """What tells a lab's notebook from others: the names of its cells and functions, and its texts."""

    grade_ids: frozenset[str]
    cell_ids: frozenset[str]
    functions: frozenset[str]
    texts: frozenset[str]


def traits(notebook: dict[str, Any]) -> Traits:
    """The traits of a cleaned notebook (see autograder.grading.reading.clean), or of one of the course's."""
    cells = notebook["cells"]
    sources = [_text(cell) for cell in cells]
    grade_ids = (cell["metadata"].get("nbgrader", {}).get("grade_id") for cell in cells)
    return Traits(
        grade_ids=frozenset(i for i in grade_ids if i),
        cell_ids=frozenset(cell.get("id", "") for cell in cells),
        functions=frozenset(name for s in sources for name in re.findall(r"^def (\w+)\(", s, re.M)),
        texts=frozenset(s.strip() for s in sources if len(s.strip()) > 40),
    )


def recognise(notebook: dict[str, Any], labs: Sequence[Lab]) -> str:
    """The lab that a cleaned notebook is clearly a copy of, "" if it is no lab's or could be two.

    Args:
        labs: every lab of the course; a trait that two of them share counts for neither.
    """
    here = traits(notebook)
    scores = Counter({lab.name: _score(here, lab.notebook, tuple(x.notebook for x in labs)) for lab in labs})
    ranked = scores.most_common(2)
    if not ranked or ranked[0][1] < ENOUGH or (len(ranked) > 1 and ranked[0][1] < 2 * ranked[1][1]):
        return ""
    return ranked[0][0]


def _score(here: Traits, path: Path, paths: tuple[Path, ...]) -> int:
    own = _distinct(path, paths)
    return (
        3 * len(here.grade_ids & own.grade_ids)
        + 3 * len(here.functions & own.functions)
        + len(here.cell_ids & own.cell_ids)
        + len(here.texts & own.texts)
    )


@cache
def _distinct(path: Path, paths: tuple[Path, ...]) -> Traits:
    own = _of(path)
    others = [_of(other) for other in paths if other != path]
    return Traits(
        *(
            getattr(own, name).difference(*(getattr(other, name) for other in others))
            for name in ("grade_ids", "cell_ids", "functions", "texts")
        )
    )


@cache
def _of(path: Path) -> Traits:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    found = traits(notebook)
    answers = [c for c in notebook["cells"] if c["metadata"].get("nbgrader", {}).get("solution")]
    functions = traits({"cells": answers}).functions
    return Traits(found.grade_ids, found.cell_ids, functions, found.texts)


def _text(cell: dict[str, Any]) -> str:
    source = cell["source"]
    return source if isinstance(source, str) else "".join(source)
