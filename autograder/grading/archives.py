"""Lists what lies in a folder or zip of hand-ins, file by file, and refuses what no hand-in needs.

Nothing is unpacked to disk: a file is read into memory when it is wanted, up to a bound. A name is judged
before anything is opened, links are never followed, and only plain files and zips are looked into.
"""

import io
import os
import stat
import unicodedata
import zipfile
from calendar import timegm
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

MAX_FILE = 256 * 1024 * 1024
MAX_NAME = 150
MAX_PATH = 600
MAX_DEPTH = 12
MAX_FILES_OF_A_FOLDER = 200_000
# Of a student's own zip; the zip of a learning platform holds a whole class.
MAX_MEMBERS = 2_000
MAX_UNPACKED = 512 * 1024 * 1024
MAX_MEMBERS_OF_A_CLASS = 50_000
# A notebook full of repeated numbers packs 30:1, deflate's bombs 1000:1.
MAX_RATIO = 200
RATIO_MATTERS_ABOVE = 10 * 1024 * 1024
# The zip of a learning platform in the folder, and in it the zip of a student.
MAX_ZIP_DEPTH = 2
_CHUNK = 1024 * 1024
_LITTER = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini", "__pycache__"})


class ArchiveError(Exception):
    """Why a file or zip cannot be read, as the end of a sentence that begins with its name."""


@dataclass(frozen=True)
class Entry:
    """One plain file of a hand-in.

    Attributes:
        parts: its path below the hand-ins; the name of a zip that holds it is one of them.
        zips: how many of the leading parts belong to zips, by their positions.
        modified: seconds on the clock that the folder or zip was written by; only good for comparing.
        read: gives its bytes, at most as many as asked for; good until the next entry is taken.
            Raises ArchiveError.
    """

    parts: tuple[str, ...]
    zips: frozenset[int]
    modified: float
    read: Callable[[int], bytes]

    @property
    def name(self) -> str:
        """The last part."""
        return self.parts[-1]


@dataclass(frozen=True)
class Folder:
    """A folder, which may be empty."""

    parts: tuple[str, ...]
    zips: frozenset[int]


@dataclass(frozen=True)
class Refused:
    """Something that was not opened, or could not be.

    Attributes:
        parts: its path with everything that leads elsewhere taken out.
        reason: the end of a sentence that begins with its name.
    """

    parts: tuple[str, ...]
    zips: frozenset[int]
    reason: str


Found = Entry | Folder | Refused


def walk(path: Path) -> Iterator[Found]:
    """Everything below a folder, or in a zip, in the order of the names.

    Raises:
        ArchiveError: `path` is not there, or is a file that is no zip.
    """
    if path.is_dir():
        yield from _folder(path, ())
    elif not path.is_file():
        raise ArchiveError("is not there")
    elif path.suffix.lower() == ".ipynb":
        yield Entry((path.name,), frozenset(), path.stat().st_mtime, _reader(path))
    else:
        with open_zip(path) as archive:
            yield from _zip(archive, (), frozenset(), depth=1)


def open_zip(file: Path | io.BytesIO) -> zipfile.ZipFile:
    """A zip, of which only the list of its files was read.

    Raises:
        ArchiveError: it is none, or is damaged.
    """
    try:
        return zipfile.ZipFile(file)
    except Exception as error:  # zipfile passes on whatever its own assumptions end in
        raise ArchiveError("is not a zip that can be opened") from error


def shown(text: str, length: int = 80) -> str:
    """A name as it can stand in a sentence: printable and not too long."""
    plain = "".join(c if c.isprintable() else "?" for c in text)
    return plain if len(plain) <= length else f"{plain[: length - 3]}..."


def _folder(folder: Path, parts: tuple[str, ...]) -> Iterator[Found]:
    try:
        with os.scandir(folder) as listing:
            items = sorted(listing, key=lambda item: item.name)
    except OSError:
        yield Refused(parts, frozenset(), "cannot be opened")
        return
    for item in items[:MAX_FILES_OF_A_FOLDER]:
        if _is_litter(item.name):
            continue
        name, wrong = _judge_name(item.name)
        here = (*parts, name)
        try:
            about = item.stat(follow_symlinks=False)
        except OSError:
            yield Refused(here, frozenset(), "cannot be opened")
            continue
        mode = about.st_mode
        if wrong or len(here) > MAX_DEPTH:
            yield Refused(here, frozenset(), wrong or "lies too many folders deep")
        elif stat.S_ISLNK(mode):
            yield Refused(here, frozenset(), "is a link to another file")
        elif stat.S_ISDIR(mode):
            yield Folder(here, frozenset())
            yield from _folder(Path(item.path), here)
        elif not stat.S_ISREG(mode):
            yield Refused(here, frozenset(), "is a device or pipe and not a file")
        else:
            found = Entry(here, frozenset(), about.st_mtime, _reader(Path(item.path)))
            yield from _opened(found, depth=0)


def _reader(path: Path) -> Callable[[int], bytes]:
    def read(limit: int) -> bytes:
        # What was a plain file when it was listed may have become a link or a pipe since.
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        try:
            with os.fdopen(os.open(path, flags | getattr(os, "O_BINARY", 0)), "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise ArchiveError("is not a plain file")
                data = file.read(limit + 1)
        except OSError as error:
            raise ArchiveError("cannot be opened") from error
        return _bounded(data, limit)

    return read


def _bounded(data: bytes, limit: int) -> bytes:
    if len(data) > limit:
        raise ArchiveError(f"is larger than {limit / 1024**2:g} MB")
    return data


def _opened(entry: Entry, depth: int) -> Iterator[Found]:
    """The entry, or what is in it if it is a zip."""
    if PurePosixPath(entry.name).suffix.lower() != ".zip":
        yield entry
        return
    zips = entry.zips | {len(entry.parts) - 1}
    if depth >= MAX_ZIP_DEPTH:
        yield Refused(entry.parts, zips, "is a zip inside a zip inside a zip")
        return
    try:
        data = entry.read(MAX_FILE)
    except ArchiveError as error:
        yield Refused(entry.parts, zips, str(error))
        return
    yield Folder(entry.parts, zips)
    try:
        with open_zip(io.BytesIO(data)) as archive:
            yield from _zip(archive, entry.parts, zips, depth + 1)
    except ArchiveError as error:
        yield Refused(entry.parts, zips, str(error))


def _zip(
    archive: zipfile.ZipFile, parts: tuple[str, ...], zips: frozenset[int], depth: int
) -> Iterator[Found]:
    of_a_class = not parts
    members = archive.infolist()
    most = MAX_MEMBERS_OF_A_CLASS if of_a_class else MAX_MEMBERS
    if len(members) > most:
        raise ArchiveError(f"holds more than {most} files")
    budget = _Budget(None if of_a_class else MAX_UNPACKED)
    seen: set[str] = set()
    for member in sorted(members, key=lambda m: m.filename):
        # Some programs of Windows write backslashes.
        raw = member.filename.replace("\\", "/")
        names = [name for name in raw.split("/") if name]
        if any(_is_litter(name) for name in names):
            continue
        judged = [_judge_name(name) for name in names if name not in (".", "..")]
        here = (*parts, *(name for name, _ in judged)) or ("?",)
        wrong = _judge_path(raw) or next((w for _, w in judged if w), "") or _judge_member(member)
        if wrong:
            yield Refused(here, zips, wrong)
        elif raw.endswith("/"):
            yield Folder(here, zips)
        elif raw in seen:
            yield Refused(here, zips, "is in the zip twice")
        else:
            seen.add(raw)
            read = _member_reader(archive, member, budget)
            yield from _opened(Entry(here, zips, _clock(member), read), depth)


def _is_litter(name: str) -> bool:
    return name in _LITTER or (name.startswith(".") and name not in (".", ".."))


def _judge_name(name: str) -> tuple[str, str]:
    """The name in the composed form that all systems agree on, and what is wrong with it or ""."""
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        return name.encode(errors="replace").decode(), "has a name that is not readable text"
    name = unicodedata.normalize("NFC", name)
    if length > MAX_NAME:
        return shown(name), "has too long a name"
    if not name.isprintable() or any(c in '<>:"|?*' for c in name):
        return shown(name), "has a name with odd characters"
    return name, ""


def _judge_path(raw: str) -> str:
    if raw.startswith("/") or (len(raw) > 1 and raw[1] == ":"):
        return "has an absolute path"
    if ".." in raw.split("/"):
        return "has a path that leads out of the zip"
    if len(raw) > MAX_PATH or raw.count("/") > MAX_DEPTH:
        return "has too long a path"
    return ""


def _judge_member(member: zipfile.ZipInfo) -> str:
    mode = member.external_attr >> 16
    if stat.S_ISLNK(mode):
        return "is a link to another file"
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a device or pipe and not a file"
    if member.flag_bits & 0x1:
        return "is protected by a password"
    if member.file_size > MAX_FILE:
        return f"is larger than {MAX_FILE // 1024**2} MB"
    if member.file_size > RATIO_MATTERS_ABOVE and member.file_size > MAX_RATIO * max(member.compress_size, 1):
        return f"would unpack to more than {MAX_RATIO} times its size"
    return ""


def _clock(member: zipfile.ZipInfo) -> float:
    try:
        return float(timegm((*member.date_time, 0, 0, 0)))
    except ValueError:  # some programs leave the date out, which reads as day 0 of month 0
        return 0.0


class _Budget:
    """How many bytes may still be unpacked from one zip."""

    def __init__(self, left: int | None) -> None:
        self.left = left

    def spend(self, count: int) -> None:
        if self.left is not None:
            self.left -= count
            if self.left < 0:
                raise ArchiveError(f"is in a zip that unpacks to more than {MAX_UNPACKED // 1024**2} MB")


def _member_reader(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, budget: _Budget
) -> Callable[[int], bytes]:
    def read(limit: int) -> bytes:
        # The size that the zip declares is not believed: reading stops at the limit.
        pieces: list[bytes] = []
        length = 0
        try:
            with archive.open(member) as file:
                while piece := file.read(_CHUNK):
                    budget.spend(len(piece))
                    length += len(piece)
                    if length > limit:
                        raise ArchiveError(f"is larger than {limit / 1024**2:g} MB")
                    pieces.append(piece)
        except ArchiveError:
            raise
        except Exception as error:  # every way of packing has errors of its own, without a common base
            raise ArchiveError("is damaged inside its zip") from error
        return b"".join(pieces)

    return read
