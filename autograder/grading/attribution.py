"""Whose file it is and which lab it belongs to, as far as its path tells."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from autograder.labs import Lab

# doejane_12345_67890_06_qlora-1.ipynb, with LATE after the name where it was
_CANVAS = re.compile(
    r"(?P<name>[^_]+)_(?P<late>LATE_)?(?P<user>\d+)_(?P<attempt>\d+)_(?P<file>.+?)(?:-(?P<resubmission>\d+))?$",
    re.IGNORECASE,
)
# Jane Doe_12345_assignsubmission_file_, as a folder or before the name of the file
_MOODLE = re.compile(r"(?P<name>.+?)_(?P<user>\d+)_assignsubmission_(?:file|onlinetext)_?(?P<file>.*)$")
_COPY = re.compile(
    r"^copy of | \(\d+\)$|\(\d+\)$|-copy\d*$| - copy(?: \(\d+\))?$| copy(?: \d+)?$", re.IGNORECASE
)
_COPY_NUMBER = re.compile(r"(?:\((\d+)\)|copy ?(\d+))$", re.IGNORECASE)


@dataclass(frozen=True)
class Attribution:
    """What a path tells.

    Attributes:
        student: the name as it was handed in, "" if the path tells none.
        user: the learning platform's number of the student, or "".
        lab: NN_topic if the path names one of the labs, or "".
        in_file_name: the lab is named by the file itself and not only by a folder.
        attempt: numbers that are larger for a later attempt; equal where the path does not tell.
        late: the platform marked it as late.
        file: the file's name as the student gave it.
    """

    student: str
    user: str
    lab: str
    in_file_name: bool
    attempt: tuple[int, int]
    copy: int
    late: bool
    file: str


def attribute(
    parts: tuple[str, ...], zips: frozenset[int], labs: Sequence[Lab], *, is_file: bool, outside: str
) -> Attribution:
    """Read a path below the hand-ins: nbgrader's tree, Canvas' or Moodle's names, or NAME.ipynb.

    Args:
        labs: every lab of the course.
        is_file: the last part is a file and no folder.
        outside: the student to assume where the path names none, such as the name of the folder handed over.
    """
    stems = [
        _without_suffix(part) if i in zips or (is_file and i == len(parts) - 1) else part
        for i, part in enumerate(parts)
    ]
    suffix = PurePosixPath(parts[-1]).suffix if is_file else ""
    if found := _from_platform(stems, suffix, labs):
        return found
    if len(stems) > 1 and (folder_of := lab_named(stems[0], labs)):
        inner = attribute(parts[1:], frozenset(i - 1 for i in zips if i), labs, is_file=is_file, outside="")
        # Nobody is named below 05, and a folder there names the lab: it is a student's login.
        in_short, in_a_folder = _plain(stems[0]) != _plain(folder_of), len(stems) > 2 or not is_file
        if inner.student or not (in_short and in_a_folder and lab_named(stems[1], labs)):
            return replace(inner, student=inner.student or outside, lab=inner.lab or folder_of)
    alone = len(stems) == 1 and (is_file or 0 in zips)
    student = _student_of_file(stems[0], labs) if alone else stems[0]
    if not is_file and len(stems) == 1 and lab_named(stems[0], labs):
        student = ""
    below = stems if alone else stems[1:]
    return _with_lab(
        Attribution(student.strip() or outside, "", "", False, (0, 0), _copy(stems[-1]), False, parts[-1]),
        below,
        is_file,
        labs,
    )


def lab_named(text: str, labs: Iterable[Lab]) -> str:
    """The one lab whose name is in a text, or that the text is a short form of; "" if there is none."""
    labs = list(labs)
    plain = _plain(text)
    named = [lab.name for lab in labs if re.search(rf"(?<![a-z0-9]){_plain(lab.name)}(?![a-z0-9])", plain)]
    if len(named) == 1:
        return named[0]
    short = _plain(without_copy_mark(text))
    number = re.fullmatch(r"(?:lab_?|exercise_?|assignment_?)?(\d{1,2})", short)
    for lab in labs:
        if short == _plain(lab.topic) or (number and number.group(1).zfill(2) == lab.number):
            return lab.name
    return ""


def without_copy_mark(stem: str) -> str:
    """A file's stem without "(1)", "-Copy1", "Copy of" and the like."""
    while (shorter := _COPY.sub("", stem.strip()).strip()) != stem:
        stem = shorter
    return stem


def same_person(name: str, roster: Sequence[str]) -> str:
    """The one entry of the roster that a handed-in name stands for, or "".

    Case, spaces and punctuation do not matter; Canvas writes last name and first name as one word.
    """
    if name in roster:
        return name
    key = _letters(name)
    exact = [entry for entry in roster if _letters(entry) == key]
    if not exact and key:
        exact = [entry for entry in roster if key in _last_name_first(entry)]
    return exact[0] if len(exact) == 1 else ""


def _from_platform(stems: list[str], suffix: str, labs: Sequence[Lab]) -> Attribution | None:
    for position, stem in enumerate(stems[:2]):
        is_last = position == len(stems) - 1
        if found := _MOODLE.fullmatch(stem):
            inner = [found["file"]] if is_last else stems[position + 1 :]
            file = (found["file"] if is_last else stems[-1]) + suffix
            start = Attribution(
                found["name"], found["user"], "", False, (0, 0), _copy(inner[-1]), False, file
            )
            return _with_lab(start, inner, bool(suffix), labs)
        if found := _CANVAS.fullmatch(stem):
            inner = [found["file"], *stems[position + 1 :]]
            attempt = (int(found["attempt"]), int(found["resubmission"] or 0))
            start = Attribution(
                found["name"],
                found["user"],
                "",
                False,
                attempt,
                _copy(inner[-1]),
                bool(found["late"]),
                inner[-1] + suffix,
            )
            return _with_lab(start, inner, bool(suffix), labs)
    return None


def _with_lab(start: Attribution, below: list[str], is_file: bool, labs: Sequence[Lab]) -> Attribution:
    """The innermost part that names a lab decides."""
    for steps, part in enumerate(reversed(below)):
        if name := lab_named(part, labs):
            return replace(start, lab=name, in_file_name=is_file and steps == 0)
    return start


def _student_of_file(stem: str, labs: Sequence[Lab]) -> str:
    stem = without_copy_mark(stem)
    name = lab_named(stem, labs)
    if not name:
        return stem
    pattern = re.sub(r"[^a-z0-9]+", r"[\\W_]+", name)
    if not re.search(pattern, stem, re.IGNORECASE):
        return ""
    return re.sub(pattern, " ", stem, count=1, flags=re.IGNORECASE).strip(" _-.")


def _without_suffix(name: str) -> str:
    return PurePosixPath(name).stem or name


def _copy(stem: str) -> int:
    found = _COPY_NUMBER.search(stem)
    return min(int(found[1] or found[2]), 10**6) if found else 0


def _plain(text: str) -> str:
    return re.sub(r"[\W_]+", "_", text.casefold()).strip("_")


def _letters(text: str) -> str:
    return re.sub(r"[\W_]+", "", text.casefold())


def _last_name_first(entry: str) -> set[str]:
    words = entry.casefold().replace(",", " ").split()
    return {_letters("".join([*words[i:], *words[:i]])) for i in range(len(words))}
