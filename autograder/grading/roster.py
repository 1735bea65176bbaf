"""The list of a class: who should have handed in."""

import csv
import io
from pathlib import Path

_HEADINGS = frozenset({"student", "student id", "student_id", "id", "name", "username", "full name"})


class BadRoster(ValueError):
    """The file cannot be used as a list of students; the message says why."""


def read_roster(path: Path) -> list[str]:
    """Names of students: the first column of a CSV file, or one name a line.

    Raises:
        BadRoster: the file is missing, is not text, or names nobody.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BadRoster(f"The roster {path} cannot be read ({error.strerror}): name another file.") from error
    except UnicodeDecodeError as error:
        raise BadRoster(f"The roster {path} is not UTF-8 text: save it as CSV in UTF-8.") from error
    names = [row[0].strip() for row in csv.reader(io.StringIO(text)) if row and row[0].strip()]
    if names and names[0].casefold() in _HEADINGS:
        names = names[1:]
    if not names:
        raise BadRoster(f"The roster {path} names nobody: put one student on each line.")
    return list(dict.fromkeys(names))
