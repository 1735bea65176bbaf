"""assets/checks/: which files the exercises give, and which of them are stale."""

from pathlib import Path

from autograder.atomic_write import write_atomically
from autograder.checks.public import checks_file
from autograder.labs import ROOT, discover

FOLDER = Path("assets") / "checks"


def generated(root: Path = ROOT) -> dict[str, bytes]:
    """The files of all labs that have exercises with cases, by name.

    Another course's root gives none: the cases belong to the labs of this one.

    Raises:
        BadCase: a public case that no student should be held to.
        LookupError: a notebook lacks a function or a test cell that its cases need.
    """
    if root.resolve() != ROOT:
        return {}
    contents = {f"{lab.name}.json": checks_file(lab.name) for lab in discover(root / "solutions")}
    return {name: content for name, content in contents.items() if content is not None}


def differences(files: dict[str, bytes], root: Path = ROOT) -> dict[str, str]:
    """Each file that is "missing", "stale" or "extra" in assets/checks/."""
    there = {path.name: path.read_bytes() for path in (root / FOLDER).glob("*.json")}
    states = {name: "missing" for name in files if name not in there}
    states |= {name: "extra" for name in there if name not in files}
    states |= {name: "stale" for name in files if name in there and there[name] != files[name]}
    return dict(sorted(states.items()))


def write(files: dict[str, bytes], states: dict[str, str], root: Path = ROOT) -> None:
    """Bring assets/checks/ up to date, each file whole or not at all."""
    for name in states:
        path = root / FOLDER / name
        if name in files:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, files[name])
        else:
            path.unlink()
