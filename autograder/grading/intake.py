"""Reads what teachers have, a folder or a learning platform's zip, into one Submission per student and lab.

Rules, in the order they are applied:

* A file's student and lab are what its path says (see autograder.grading.attribution). Where the path names
  no lab, or clearly the wrong one, the notebook's content decides.
* Of several notebooks of one student for one lab, those that are recognised count before those that are not,
  readable ones before unreadable ones, and then the newest: by the platform's attempt number, then the
  modification time, then the number in "(1)", then the name. The others are listed in the notes.
* A student of the roster, or one with a folder or file, gets exactly one Submission for every lab.
"""

import contextlib
import datetime
import logging
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from autograder.grading.archives import (
    MAX_FILE,
    ArchiveError,
    Entry,
    Folder,
    Refused,
    open_zip,
    shown,
    walk,
)
from autograder.grading.attribution import Attribution, attribute, lab_named, same_person, without_copy_mark
from autograder.grading.model import Status, Submission
from autograder.grading.reading import AGAIN, Read, Unreadable, read_notebook
from autograder.grading.recognition import recognise
from autograder.labs import Lab, discover

EXTRA_KINDS = frozenset({".json", ".jsonl", ".csv", ".txt", ".md"})
MAX_EXTRA = 1024 * 1024
MAX_EXTRAS = 5 * 1024 * 1024
MAX_LISTED = 10
# Jupyter reads settings from JSON files of the working directory; the others are names Python looks for.
_RESERVED_STEMS = frozenset(
    {"autograder", "chatcontract", "conftest", "ipykernel_launcher", "numpy", "sitecustomize", "torch"}
    | {"transformers", "usercustomize"}
)
_RESERVED_STARTS = ("jupyter", "ipython", "ipykernel", "nbgrader")
_WRAPPERS = frozenset({"submitted", "submissions", "downloaded"})

log = logging.getLogger(__name__)


class IntakeError(Exception):
    """Why there is nothing to grade at a path, in one sentence for the instructor."""


@dataclass
class _Notebook:
    """A candidate: a notebook that was read, or why it could not be.

    `whole` marks a zip or folder that could not be opened: it may have held every lab.
    """

    parts: tuple[str, ...]
    who: Attribution
    modified: float
    read: Read | None = None
    reason: str = ""
    recognised: str = ""
    whole: bool = False

    @property
    def shown(self) -> str:
        return shown("/".join(self.parts), 120)

    @property
    def newest(self) -> tuple[Any, ...]:
        return (*self.who.attempt, self.modified, self.who.copy, self.parts)


@dataclass
class _Extra:
    parts: tuple[str, ...]
    name: str
    data: bytes | None
    why: str = ""


@dataclass
class _HandIn:
    """Everything that came from one student."""

    notebooks: list[_Notebook] = field(default_factory=list)
    extras: list[_Extra] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    submitted: dict[tuple[str, ...], datetime.datetime] = field(default_factory=dict)
    late: bool = False


def intake(path: Path, labs: Sequence[Lab], *, roster: Iterable[str] = ()) -> list[Submission]:
    """Read the hand-ins at `path` without running or unpacking anything.

    Args:
        path: nbgrader's submitted/ (or the course with it in), the zip of a Canvas or Moodle assignment, a
            folder of NAME.ipynb, or one notebook.
        labs: the labs asked for.
        roster: names of students, each of whom gets a Submission for each lab; a name that was handed in and
            differs from one of them in case, spaces or the order of first and last name stands for it.

    Returns:
        One Submission per student and lab, sorted by student, then in the order of `labs`.

    Raises:
        IntakeError: there is nothing at `path`, or it is neither a folder, a zip nor a notebook.
    """
    course = _whole_course(labs)
    names = list(dict.fromkeys(str(name).strip() for name in roster if str(name).strip()))
    handed_in = _collect(tree(path), course)
    by_student: dict[str, _HandIn] = {name: _HandIn() for name in names}
    for student, hand_in in _named(handed_in, names).items():
        by_student[student] = hand_in
    return [
        submission
        for student, hand_in in sorted(by_student.items())
        for submission in _submissions(student, hand_in, labs, course)
    ]


def hand_in_of(student: str, folder: Path, lab: Lab) -> Submission:
    """Read one student's folder for one lab, as `intake` reads it in nbgrader's tree.

    Raises:
        IntakeError: there is no such folder.
    """
    course = _whole_course([lab])
    # The folder says whose it is, so that no name in it, and not the student's, is read for another.
    place = ("student", lab.name)
    found = _collect(folder, course, place).get((place[0], ""), _HandIn())
    (submission,) = _submissions(student, found, [lab], course)
    return submission


def tree(path: Path) -> Path:
    """Where the students' folders are: `submitted/`, where a whole course is named."""
    path = Path(path)
    inner = path / "submitted"
    return inner if path.is_dir() and inner.is_dir() else path


def _whole_course(labs: Sequence[Lab]) -> list[Lab]:
    """The labs asked for and their neighbours, so that another lab's notebook is known for what it is."""
    known = {lab.name: lab for folder in {x.folder.parent for x in labs} for lab in discover(folder)}
    return list((known | {lab.name: lab for lab in labs}).values())


def _collect(
    path: Path, course: Sequence[Lab], place: tuple[str, ...] = ()
) -> dict[tuple[str, str], _HandIn]:
    """What each student handed in, by the name in the path and the platform's number.

    Args:
        place: where `path` stands in nbgrader's tree, if it is a part of it.
    """
    found: defaultdict[tuple[str, str], _HandIn] = defaultdict(_HandIn)
    outside = _outside(path, course)
    wrapper = _wrapper(path)
    try:
        for item in walk(path):
            parts, zips = item.parts, item.zips
            if wrapper and parts[0] == wrapper:
                parts, zips = parts[1:], frozenset(i - 1 for i in zips)
            if not parts:
                continue
            parts, zips = (*place, *parts), frozenset(i + len(place) for i in zips)
            is_file = not isinstance(item, Folder) and len(parts) - 1 not in zips
            named_by = outside if is_file else ""
            who = attribute(parts, zips, course, is_file=is_file, outside=named_by)
            if not who.student or (not isinstance(item, Folder) and _is_stray(parts, who)):
                if not isinstance(item, Folder):
                    log.warning("%s belongs to no student and was left alone", shown("/".join(parts)))
                continue
            hand_in = found[who.student, who.user]
            hand_in.late |= who.late
            if isinstance(item, Refused):
                _refuse(hand_in, item, parts, who)
            elif isinstance(item, Entry):
                _take(hand_in, item, parts, who, course)
    except ArchiveError as error:
        raise IntakeError(
            f"{path} {error}: name a folder of submissions, a Canvas or Moodle zip, or a notebook."
        ) from error
    return found


def _outside(path: Path, course: Sequence[Lab]) -> str:
    """The student a nameless notebook is from: the first name above it that is no lab's."""
    above = path.resolve()
    for folder in (above, *above.parents) if above.is_dir() else above.parents:
        if folder.name and folder.name not in _WRAPPERS and not lab_named(folder.name, course):
            return folder.name
    return "student"


def _wrapper(path: Path) -> str:
    """The folder that a repacked zip has around everything, "" if there is none."""
    if path.is_dir():
        return ""
    try:
        with open_zip(path) as archive:
            names = archive.namelist()
    except ArchiveError:
        return ""
    first = {name.split("/")[0] for name in names if not name.startswith("__MACOSX/")}
    alone = len(first) == 1 and all("/" in name for name in names)
    only = unicodedata.normalize("NFC", first.pop()) if alone else ""
    return only if only.casefold() in _WRAPPERS | {path.stem.casefold()} else ""


def _is_stray(parts: tuple[str, ...], who: Attribution) -> bool:
    """A file beside the students' folders or notebooks that no name connects with anyone."""
    suffix = PurePosixPath(parts[0]).suffix.lower()
    return len(parts) == 1 and not who.user and suffix not in ("", ".ipynb", ".zip")


def _is_notebook(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() == ".ipynb"


def _refuse(hand_in: _HandIn, item: Refused, parts: tuple[str, ...], who: Attribution) -> None:
    said = f"{shown(parts[-1])} {item.reason}"
    hand_in.refused.append(f"{said}; it was not opened.")
    is_zip = PurePosixPath(parts[-1]).suffix.lower() == ".zip"
    whole = is_zip or (len(parts) == 1 and not _is_notebook(parts[0]))
    if whole or _is_notebook(parts[-1]):
        reason = f"{said}. Hand in the .ipynb file itself."
        hand_in.notebooks.append(_Notebook(parts, who, 0.0, reason=reason, whole=whole))


def _take(
    hand_in: _HandIn, entry: Entry, parts: tuple[str, ...], who: Attribution, course: Sequence[Lab]
) -> None:
    if _is_notebook(entry.name):
        hand_in.notebooks.append(_read(entry, parts, who, course))
    elif who.file == "timestamp.txt" and not entry.zips and not who.user:
        # nbgrader writes it; what lies in a student's zip or came through a platform, a student wrote.
        with contextlib.suppress(ArchiveError, ValueError, OverflowError):
            stamp = datetime.datetime.fromisoformat(entry.read(100).decode().strip().removesuffix(" UTC"))
            stamp = stamp if stamp.tzinfo else stamp.replace(tzinfo=datetime.UTC)
            hand_in.submitted[parts[:-1]] = stamp.astimezone(datetime.UTC)
    else:
        hand_in.extras.append(_extra(entry, parts, who))


def _read(entry: Entry, parts: tuple[str, ...], who: Attribution, course: Sequence[Lab]) -> _Notebook:
    notebook = _Notebook(parts, who, entry.modified)
    try:
        notebook.read = read_notebook(entry.read(MAX_FILE))
    except ArchiveError as error:
        notebook.reason = f"{shown(entry.name)} {error}. {AGAIN}"
    except Unreadable as error:
        notebook.reason = str(error)
    except (MemoryError, RecursionError):
        notebook.reason = f"The file is too large or too deeply nested to be read. {AGAIN}"
    else:
        notebook.recognised = recognise(notebook.read.notebook, course)
    return notebook


def _extra(entry: Entry, parts: tuple[str, ...], who: Attribution) -> _Extra:
    name = who.file
    if why := refused_extra(name):
        return _Extra(parts, name, None, why)
    try:
        return _Extra(parts, name, entry.read(MAX_EXTRA))
    except ArchiveError as error:
        return _Extra(parts, name, None, str(error))


def refused_extra(name: str) -> str:
    """Why a further file must not reach the student's process; "" if it may."""
    stem, suffix = PurePosixPath(name).stem, PurePosixPath(name).suffix.lower()
    if suffix not in EXTRA_KINDS:
        return f"is none of {', '.join(sorted(EXTRA_KINDS))}"
    if not name.isascii() or name.startswith((".", "-")) or PurePosixPath(name).name != name:
        return "has no plain name"
    first = stem.casefold().split(".")[0]
    if first in _RESERVED_STEMS or first.startswith(_RESERVED_STARTS):
        return "has the name of something that Python or Jupyter loads"
    return ""


def _named(found: dict[tuple[str, str], _HandIn], roster: Sequence[str]) -> dict[str, _HandIn]:
    """Hand-ins by the student's final name: the roster's, or the one handed in with a number if needed."""
    sharing: defaultdict[str, set[str]] = defaultdict(set)
    for name, user in found:
        sharing[name].add(user)
    named: defaultdict[str, _HandIn] = defaultdict(_HandIn)
    for (name, user), hand_in in found.items():
        alone = len(sharing[name]) == 1
        final = (same_person(name, roster) if alone else "") or same_person(f"{name}_{user}", roster)
        final = final or (same_person(user, roster) if user else "") or (name if alone else f"{name}_{user}")
        into = named[final]
        into.notebooks += hand_in.notebooks
        into.extras += hand_in.extras
        into.refused += hand_in.refused
        into.submitted |= hand_in.submitted
        into.late |= hand_in.late
    return named


def _submissions(
    student: str, hand_in: _HandIn, labs: Sequence[Lab], course: Sequence[Lab]
) -> list[Submission]:
    by_lab: defaultdict[str, list[_Notebook]] = defaultdict(list)
    for notebook in hand_in.notebooks:
        by_lab[_lab_of(notebook, labs)].append(notebook)
    homeless = by_lab.pop("", [])
    missing = [lab for lab in labs if lab.name not in by_lab]
    # A file that cannot be read and names no lab must be the only one that is missing.
    lost = [n for n in homeless if n.read is None and (n.whole or len(missing) == 1)]
    for lab in missing if lost else ():
        by_lab[lab.name] = lost
    homeless = [notebook for notebook in homeless if notebook not in lost]
    ignored = [f"{notebook.shown} is not the notebook of a lab and was ignored." for notebook in homeless]
    common = _short([*hand_in.refused, *ignored])
    if hand_in.late:
        common.append("The learning platform marked a file as late.")
    made = []
    for lab in labs:
        candidates = by_lab.get(lab.name, [])
        misplaced = [n for n in hand_in.notebooks if n.who.lab == lab.name != _lab_of(n, labs)]
        if candidates:
            made.append(_chosen(student, lab, candidates, hand_in, common, len(by_lab) == 1))
        elif misplaced:
            other = misplaced[0].recognised
            reason = (
                f"What was handed in for {lab.name} is the notebook of {other}. Hand in {lab.name}.ipynb."
            )
            made.append(_without(student, lab, Status.NOT_GRADABLE, reason, common))
        else:
            reason = f"There is no notebook of {lab.name}."
            if homeless:
                there = ", ".join(shown(n.parts[-1]) for n in homeless[:3])
                reason = f"No notebook of {lab.name} was found; there is only {there}."
            made.append(_without(student, lab, Status.MISSING, reason, common))
    return made


def _lab_of(notebook: _Notebook, labs: Sequence[Lab]) -> str:
    """The lab a candidate is for: what it holds if that is clear, else what its path says, else ""."""
    if notebook.recognised:
        return notebook.recognised
    return notebook.who.lab or (labs[0].name if len(labs) == 1 and notebook.read is None else "")


def _chosen(
    student: str,
    lab: Lab,
    candidates: list[_Notebook],
    hand_in: _HandIn,
    common: list[str],
    only_lab: bool,
) -> Submission:
    def rank(notebook: _Notebook) -> tuple[Any, ...]:
        named = notebook.who.in_file_name or notebook.recognised == lab.name
        right_place = notebook.who.lab in ("", lab.name)
        return (named, notebook.read is not None, right_place, *notebook.newest)

    ranked = sorted(candidates, key=rank, reverse=True)
    best, rest = ranked[0], ranked[1:]
    repairs = list(best.read.repairs) if best.read else []
    notes = [*common, *(best.read.notes if best.read else ())]
    for other in rest:
        named = other.who.in_file_name or other.recognised == lab.name
        if best.read and named and other.read is None and other.newest > best.newest:
            repairs.append(
                f"{shown(other.parts[-1])} is newer but cannot be read; {shown(best.parts[-1])} was graded."
            )
    if rest:
        names = ", ".join(other.shown for other in rest[:MAX_LISTED])
        notes.append(f"{len(candidates)} notebooks are there; {best.shown} was taken. Not taken: {names}.")
    if best.read and best.who.lab and best.who.lab != lab.name:
        repairs.append(f"{shown(best.parts[-1])} was handed in as {best.who.lab} but holds {lab.name}.")
    elif best.read and without_copy_mark(PurePosixPath(best.who.file).stem) != lab.name and not best.who.lab:
        notes.append(f"{shown(best.parts[-1])} was recognised as {lab.name} by its content.")
    files, told = _files(best, lab, hand_in, only_lab)
    return Submission(
        student=student,
        lab=lab.name,
        status=Status.GRADED if best.read else Status.NOT_GRADABLE,
        reason=best.reason,
        notebook=best.read.notebook if best.read else None,
        files=files,
        repairs=tuple(repairs),
        notes=(*notes, *told),
        submitted_at=_submitted_at(best, hand_in),
    )


def _submitted_at(best: _Notebook, hand_in: _HandIn) -> datetime.datetime | None:
    """By the outermost time above the notebook, which is nbgrader's: students fill the folders below."""
    above = (best.parts[:depth] for depth in range(len(best.parts)))
    return next((hand_in.submitted[folder] for folder in above if folder in hand_in.submitted), None)


def _files(best: _Notebook, lab: Lab, hand_in: _HandIn, only_lab: bool) -> tuple[dict[str, bytes], list[str]]:
    """The further files that go with a notebook, and what became of the others."""
    files: dict[str, bytes] = {}
    told: list[str] = []
    size = 0
    own = {path.name for path in lab.folder.iterdir()} if lab.folder.is_dir() else set()
    for extra in sorted(hand_in.extras, key=lambda e: e.parts):
        beside = extra.parts[:-1] == best.parts[:-1]
        if not beside and len(extra.parts) > 1 and not only_lab:
            continue
        name, why = shown(extra.name), extra.why
        if not why and not beside:
            why = "does not lie beside the notebook"
        elif not why and extra.name in own:
            why = "is one of the lab's own files"
        elif not why and any(extra.name.casefold() == other.casefold() for other in files):
            why = "is there twice"
        elif not why and extra.data is not None and size + len(extra.data) > MAX_EXTRAS:
            why = f"is too much: all further files together may have {MAX_EXTRAS // 1024**2} MB"
        if why or extra.data is None:
            told.append(f"{name} {why}; it was ignored.")
        else:
            files[extra.name] = extra.data
            size += len(extra.data)
    return files, _short(told)


def _short(sentences: list[str]) -> list[str]:
    if len(sentences) <= MAX_LISTED:
        return list(sentences)
    return [*sentences[:MAX_LISTED], f"{len(sentences) - MAX_LISTED} more files were ignored."]


def _without(student: str, lab: Lab, status: Status, reason: str, notes: list[str]) -> Submission:
    return Submission(student=student, lab=lab.name, status=status, reason=reason, notes=tuple(notes))
