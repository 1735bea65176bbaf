"""The labs of the course: where they are, what they are called, what they are worth."""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]

# Points of each lab by its number; 100 in all.
POINTS = {"00": 2, "01": 16, "02": 10, "03": 16, "04": 18, "05": 12, "06": 10, "07": 10, "08": 6}
# Labs whose exercises are not all written yet: they may hold fewer points than the table says, never more.
DRAFTS: frozenset[str] = frozenset()


class UnknownLab(ValueError):
    """A name that fits no lab, or more than one."""


def stub_of(exercise: str) -> str:
    """The grade_id of the cell in which a function is answered."""
    return f"{exercise.replace('_', '-')}-stub"


@dataclass(frozen=True)
class Lab:
    """One lab: `name` is NN_topic, `folder` holds NN_topic.ipynb and the files that go with it."""

    name: str
    folder: Path

    @property
    def number(self) -> str:
        """The two digits the name starts with."""
        return self.name[:2]

    @property
    def topic(self) -> str:
        """The name without its number."""
        return self.name[3:]

    @property
    def notebook(self) -> Path:
        """The lab's notebook file."""
        return self.folder / f"{self.name}.ipynb"


def discover(source: Path) -> list[Lab]:
    """The labs under a source directory in order: each folder NN_topic with a notebook of the same name."""
    labs = [Lab(path.parent.name, path.parent) for path in source.glob("*/*.ipynb")]
    return sorted(
        (lab for lab in set(labs) if re.match(r"\d\d_", lab.name) and lab.notebook.is_file()),
        key=lambda lab: lab.name,
    )


def select(names: Iterable[str], labs: list[Lab]) -> list[Lab]:
    """The labs meant by names such as '06', '6', 'qlora' or '06_qlora', in course order; all for no name.

    Raises:
        UnknownLab: a name fits no lab, or more than one; the message suggests what was meant.
    """
    wanted = {_one(name, labs).name for name in names}
    return [lab for lab in labs if lab.name in wanted or not wanted]


def _one(name: str, labs: list[Lab]) -> Lab:
    key = name.zfill(2) if name.isdecimal() else name.lower()
    exact = [lab for lab in labs if key in (lab.name, lab.number, lab.topic)]
    found = exact or [lab for lab in labs if key and (lab.name.startswith(key) or lab.topic.startswith(key))]
    if len(found) == 1:
        return found[0]
    if found:
        raise UnknownLab(f"'{name}' fits {' and '.join(lab.name for lab in found)}: give more of the name.")
    known = [lab.name for lab in labs]
    near = difflib.get_close_matches(key, [*known, *(lab.topic for lab in labs)], n=1, cutoff=0.5)
    hint = (
        f"did you mean {_one(near[0], labs).name}?" if near else f"the labs are {', '.join(known) or 'none'}."
    )
    raise UnknownLab(f"There is no lab '{name}': {hint}")


def total_points(notebook: NotebookNode) -> float:
    """The points a notebook offers, those given by hand included."""
    return sum(_points_of(cell) for cell in notebook.cells)


def automatic_points(notebook: NotebookNode) -> float:
    """The points that test cells give; an answer that is its own graded cell is read by a person."""
    tests = (
        c
        for c in notebook.cells
        if c.cell_type == "code" and not c.metadata.get("nbgrader", {}).get("solution")
    )
    return sum(_points_of(cell) for cell in tests)


def _points_of(cell: NotebookNode) -> float:
    settings = cell.metadata.get("nbgrader", {})
    return float(settings.get("points", 0)) if settings.get("grade") or settings.get("task") else 0.0
