"""Reads the bytes of a handed-in notebook into clean nbformat 4.5, or says in one sentence why it cannot."""

import codecs
import hashlib
import io
import json
import re
from dataclasses import dataclass
from typing import Any

import ijson
import nbformat

# Above this size a notebook is read as a stream that leaves its outputs out, instead of as a whole.
STREAM_ABOVE = 16 * 1024 * 1024
# The parser scans a long text anew for every piece that is read, and holds one piece's events in memory.
STREAMED = 4 * 1024 * 1024
MAX_DECODED = 64 * 1024 * 1024
MAX_CELL = 1024 * 1024
MAX_TEXT = 4 * 1024 * 1024
MAX_CELLS = 1_000
MAX_DEPTH = 200
MAX_ATTACHMENTS = 2 * 1024 * 1024
OUTPUTS_WORTH_A_NOTE = 5 * 1024 * 1024
AGAIN = "Open it in Jupyter or Colab, save it, and hand in the new file."
_CELL_TYPES = ("code", "markdown", "raw")
_IMAGES = frozenset({"image/png", "image/jpeg", "image/gif"})
_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_BULKY = frozenset({"outputs", "attachments", "widgets"})


class Unreadable(Exception):
    """Why a file cannot be graded: sentences that the student can act on."""


@dataclass(frozen=True)
class Read:
    """A notebook as it was read: nbformat 4.5 JSON without outputs, and what was put right."""

    notebook: dict[str, Any]
    repairs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class _Doubled(dict[str, Any]):
    """A JSON object that names a key twice."""


def read_notebook(data: bytes) -> Read:
    """Decode, parse and clean a handed-in notebook.

    Raises:
        Unreadable: it is not a notebook, damaged, or says two things at once.
    """
    repairs: list[str] = []
    notes: list[str] = []
    _refuse_other_kinds(data)
    if len(data) > STREAM_ABOVE:
        document = _stream(_as_utf_8(data, repairs), notes)
    else:
        document = _parse(_decode(data, repairs))
        if len(data) > OUTPUTS_WORTH_A_NOTE:
            notes.append(f"The file is {len(data) / 1e6:.0f} MB large; its outputs were left out.")
    notebook = clean(_upgrade(document, repairs), repairs, notes)
    if not any(cell["source"].strip() for cell in notebook["cells"]):
        raise Unreadable(f"The notebook has no text in any cell. {AGAIN}")
    return Read(notebook, tuple(repairs), tuple(notes))


def clean(document: dict[str, Any], repairs: list[str], notes: list[str]) -> dict[str, Any]:
    """The notebook with nothing in it but what grading uses, every value of the type it should have.

    Kept are the cells' types, ids (made unique), sources, nbgrader settings and pasted pictures, and the name
    and language of the kernel. Sentences on what was changed are added to `repairs` and `notes`.

    Raises:
        Unreadable: the cells are no list of cells, or hold too much.
    """
    cells = document.get("cells")
    if not isinstance(cells, list):
        raise Unreadable(f"The file holds no list of cells, so it is not a notebook. {AGAIN}")
    if len(cells) > MAX_CELLS:
        raise Unreadable(
            f"The notebook has {len(cells)} cells, more than {MAX_CELLS}. Remove those not needed."
        )
    cleaned: list[dict[str, Any]] = []
    taken: set[str] = set()
    seen_twice = unreadable = 0
    budget = MAX_ATTACHMENTS
    for position, cell in enumerate(cells):
        source = _source(cell)
        if source is None:
            unreadable += 1
            continue
        if len(source) > MAX_CELL:
            raise Unreadable(f"Cell {position + 1} holds more than 1 MB of text. Shorten it.")
        kind = cell.get("cell_type")
        metadata = cell.get("metadata")
        if type(cell) is _Doubled or type(metadata) is _Doubled:
            raise Unreadable(f"Cell {position + 1} has two values for one key of the file. {AGAIN}")
        one: dict[str, Any] = {
            "cell_type": kind if kind in _CELL_TYPES else ("markdown" if kind == "heading" else "raw"),
            "id": "",
            "metadata": _settings(metadata),
            "source": source,
        }
        given = cell.get("id")
        valid = isinstance(given, str) and bool(_ID.fullmatch(given))
        seen_twice += valid and given in taken
        one["id"] = given if valid and given not in taken else _new_id(source, taken)
        taken.add(one["id"])
        if one["cell_type"] == "code":
            one |= {"execution_count": None, "outputs": []}
        elif kept := _pictures(cell.get("attachments"), budget):
            one["attachments"] = kept
            budget -= len(json.dumps(kept))
        if cell.get("attachments") and "attachments" not in one:
            notes.append(f"Files attached to cell {position + 1} were left out.")
        cleaned.append(one)
    if sum(len(cell["source"]) for cell in cleaned) > MAX_TEXT:
        raise Unreadable(f"The cells hold more than {MAX_TEXT // 1024**2} MB of text. Shorten them.")
    if unreadable:
        repairs.append(f"{unreadable} cells without readable text were left out.")
    if seen_twice:
        notes.append(f"{seen_twice} cells had the id of another cell and got a new one.")
    return {"cells": cleaned, "metadata": _kernel(document), "nbformat": 4, "nbformat_minor": 5}


def _refuse_other_kinds(data: bytes) -> None:
    head = data[:1024].lstrip().lower()
    if not data.strip(b"\0 \t\r\n"):
        raise Unreadable(f"The file is empty. {AGAIN}")
    for start, what in (
        (b"%pdf", "a PDF"),
        (b"pk\x03\x04", "a zip or Office document"),
        (b"\x1f\x8b", "a packed file"),
        (b"\x89png", "a picture"),
        (b"\xff\xd8\xff", "a picture"),
        (b"<!doctype", "a web page"),
        (b"<html", "a web page"),
        (b"<?xml", "an XML document"),
    ):
        if head.removeprefix(b"\xef\xbb\xbf").startswith(start):
            raise Unreadable(f"The file is {what}, not a notebook. Hand in the .ipynb file itself.")


def _as_utf_8(data: bytes, repairs: list[str]) -> bytes:
    """A large file's bytes as the parser wants them; as text they could take four times the memory."""
    if data.startswith(codecs.BOM_UTF8):
        repairs.append("The file was read as UTF-8 with a byte order mark.")
        return data[len(codecs.BOM_UTF8) :]
    if b"\0" not in data[:4]:
        return data
    if len(data) > MAX_DECODED:
        raise Unreadable(f"The file is very large and not in UTF-8. Clear all outputs. {AGAIN}")
    return _decode(data, repairs).encode(errors="replace")


def _decode(data: bytes, repairs: list[str]) -> str:
    for mark, encoding in (
        (b"\xef\xbb\xbf", "utf-8-sig"),
        (b"\xff\xfe\0\0", "utf-32"),
        (b"\0\0\xfe\xff", "utf-32"),
        (b"\xff\xfe", "utf-16"),
        (b"\xfe\xff", "utf-16"),
    ):
        if data.startswith(mark):
            return _decoded(data, encoding, repairs)
    if data[1:2] == b"\0" and data[:1] == b"{":
        return _decoded(data, "utf-16-le", repairs)
    if data[:2] == b"\0{":
        return _decoded(data, "utf-16-be", repairs)
    try:
        return data.decode()
    except UnicodeDecodeError:
        pass
    if _is_latin(data):
        return _decoded(data, "latin-1", repairs)
    raise Unreadable(f"The file's text is not in UTF-8, and its encoding cannot be told. {AGAIN}")


def _decoded(data: bytes, encoding: str, repairs: list[str]) -> str:
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise Unreadable(f"The file's text is damaged or cut off. {AGAIN}") from error
    name = {"utf-8-sig": "UTF-8 with a byte order mark", "latin-1": "Latin-1"}.get(encoding, encoding.upper())
    repairs.append(f"The file was read as {name}.")
    return text


def _is_latin(data: bytes) -> bool:
    """Whether single accented letters among ASCII are the only bytes that UTF-8 does not explain.

    Bytes 0x80 to 0x9f are control characters in Latin-1 and letters in its rivals; longer runs of high bytes
    are words in other alphabets; valid UTF-8 beside invalid is damage.
    """
    if re.search(rb"[\x80-\x9f]|[\xa0-\xff]{3}", data):
        return False
    return not re.search(rb"[\xc2-\xdf][\x80-\xbf]", data)


def _parse(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text, object_pairs_hook=_object, parse_int=_integer)
    except RecursionError as error:
        raise Unreadable(f"The file is nested too deeply to be a notebook. {AGAIN}") from error
    except ValueError as error:
        raise Unreadable(_why_not_json(text, str(error))) from error
    return _checked_top(document)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    plain = dict(pairs)
    return plain if len(plain) == len(pairs) else _Doubled(plain)


def _integer(digits: str) -> int:
    return int(digits) if len(digits) < 20 else 0


def _checked_top(document: Any) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise Unreadable(f"The file is JSON but not a notebook. {AGAIN}")
    if type(document) is _Doubled:
        raise Unreadable(f"The file says the same key twice, so it holds two notebooks in one. {AGAIN}")
    return document


def _why_not_json(text: str, error: str) -> str:
    if all(re.search(mark, text, re.M) for mark in (r"^<{7}( |$)", r"^={7}$", r"^>{7}( |$)")):
        return (
            "The file holds the markers of an unfinished merge (<<<<<<< and >>>>>>>). "
            "Choose one version, open it in Jupyter to see that it works, and hand that in."
        )
    if not text.lstrip().startswith("{"):
        return f"The file is not a notebook: it does not begin as one. {AGAIN}"
    if not text.rstrip().endswith("}") or "Unterminated" in error:
        return f"The file breaks off before its end, as after an interrupted upload. {AGAIN}"
    return f"The file is damaged and cannot be opened as a notebook. {AGAIN}"


def _stream(data: bytes, notes: list[str]) -> dict[str, Any]:
    """Parse a large file piece by piece; what lies under outputs, attachments and widgets is never kept."""
    notes.append(f"The file is {len(data) / 1e6:.0f} MB large; its outputs were left out while reading.")
    root = _Building(None)
    stack = [root]
    skip_from: int | None = None
    depth = kept = 0
    try:
        for event, value in ijson.basic_parse(io.BytesIO(data), use_float=True, buf_size=STREAMED):
            top = stack[-1]
            if event in ("start_map", "start_array"):
                depth += 1
                if depth > MAX_DEPTH:
                    raise Unreadable(f"The file is nested too deeply to be a notebook. {AGAIN}")
                if skip_from is None and top.key in _BULKY:
                    skip_from = depth
                if skip_from is None:
                    stack.append(_Building({} if event == "start_map" else []))
                continue
            if event in ("end_map", "end_array"):
                if skip_from is None:
                    finished = stack.pop()
                    stack[-1].put(_Doubled(finished.value) if finished.doubled else finished.value)
                elif depth == skip_from:
                    skip_from = None
                depth -= 1
                continue
            if skip_from is not None:
                continue
            if event == "map_key":
                top.name(value)
            else:
                top.put(value)
            kept += len(value) + 40 if isinstance(value, str) else 40
            if kept > 4 * MAX_TEXT:
                raise Unreadable("The notebook is too large even without its outputs. Shorten it.")
    except ijson.JSONError as error:
        text = (data[:MAX_CELL] + b"\n...\n" + data[-100:]).decode(errors="replace")
        advice = "Clear all outputs, save it, and hand it in again."
        raise Unreadable(f"{_why_not_json(text, str(error)).removesuffix(AGAIN)}{advice}") from error
    return _checked_top(root.value)


class _Building:
    """A JSON value under construction."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.key: str | None = None
        self.doubled = False

    def name(self, key: str) -> None:
        self.doubled |= key in self.value
        self.key = key

    def put(self, value: Any) -> None:
        if isinstance(self.value, dict):
            self.value[self.key] = value
        elif isinstance(self.value, list):
            self.value.append(value)
        else:
            self.value = value


def _upgrade(document: dict[str, Any], repairs: list[str]) -> dict[str, Any]:
    major = document.get("nbformat")
    if "cells" not in document and "worksheets" in document:
        return _from_version_3(document, repairs)
    if major != 4 or isinstance(major, bool):
        said = (
            f"says that its notebook format is {major}"
            if isinstance(major, int)
            else "names no notebook format"
        )
        repairs.append(f"The file {said[:60]}; it was read as 4.")
    return document


def _from_version_3(document: dict[str, Any], repairs: list[str]) -> dict[str, Any]:
    try:
        sheets = [sheet["cells"] for sheet in document["worksheets"]]
        cells = [_of_version_3(cell) for sheet in sheets for cell in sheet]
        plain = {"metadata": {}, "nbformat": 3, "nbformat_minor": 0, "worksheets": [{"cells": cells}]}
        upgraded: dict[str, Any] = nbformat.convert(nbformat.from_dict(plain), 4)
    except Exception as error:  # nbformat passes on whatever its own assumptions end in
        raise Unreadable(f"The notebook is in an old format that could not be converted. {AGAIN}") from error
    repairs.append("The notebook was in the old format 3 and was converted.")
    return {"cells": [dict(cell) for cell in upgraded["cells"]], "metadata": document.get("metadata")}


def _of_version_3(cell: dict[str, Any]) -> dict[str, Any]:
    kind = cell["cell_type"]
    metadata = cell.get("metadata") if isinstance(cell.get("metadata"), dict) else {}
    if kind == "code":
        text = _source({"source": cell.get("input", cell.get("source", ""))}) or ""
        code = {"input": text, "language": "python", "outputs": [], "collapsed": False, "prompt_number": None}
        return {"cell_type": kind, "metadata": metadata, **code}
    text = _source(cell) or ""
    level = {"level": int(cell.get("level", 1))} if kind == "heading" else {}
    return {"cell_type": kind, "metadata": metadata, "source": text, **level}


def _source(cell: Any) -> str | None:
    """A cell's text with plain line ends; None if it has none that can be read."""
    if not isinstance(cell, dict):
        return None
    source = cell.get("source", "")
    if isinstance(source, list) and all(isinstance(line, str) for line in source):
        source = "".join(source)
    if not isinstance(source, str):
        return None
    source = source.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd")
    # A lone surrogate is legal in JSON and in no text that can be stored.
    return source.encode(errors="replace").decode() if not source.isascii() else source


def _settings(metadata: Any) -> dict[str, Any]:
    """nbgrader's settings of a cell as far as they are short and plain; nothing else of its metadata."""
    settings = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    if not isinstance(settings, dict):
        return {}
    kept: dict[str, Any] = {}
    for key in ("grade_id", "cell_type"):
        if isinstance(settings.get(key), str) and len(settings[key]) <= 200:
            kept[key] = settings[key].encode(errors="replace").decode()
    for key in ("grade", "solution", "locked", "task"):
        if isinstance(settings.get(key), bool):
            kept[key] = settings[key]
    for key in ("points", "schema_version"):
        value = settings.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9:
            kept[key] = value
    return {"nbgrader": kept}


def _kernel(document: dict[str, Any]) -> dict[str, Any]:
    metadata = document.get("metadata")
    kernel = metadata.get("kernelspec") if isinstance(metadata, dict) else None
    if not isinstance(kernel, dict):
        return {}
    keys = ("display_name", "language", "name")
    plain = {k: kernel[k].encode(errors="replace").decode() for k in keys if isinstance(kernel.get(k), str)}
    return {"kernelspec": {key: value for key, value in plain.items() if len(value) <= 100}}


def _pictures(attachments: Any, budget: int) -> dict[str, dict[str, str]]:
    if not isinstance(attachments, dict):
        return {}
    kept = {
        name: {kind: data for kind, data in bundle.items() if kind in _IMAGES and isinstance(data, str)}
        for name, bundle in attachments.items()
        if isinstance(name, str) and len(name) <= 200 and isinstance(bundle, dict) and name.isascii()
    }
    kept = {
        name: bundle for name, bundle in kept.items() if bundle and all(d.isascii() for d in bundle.values())
    }
    return kept if len(json.dumps(kept)) <= budget else {}


def _new_id(source: str, taken: set[str]) -> str:
    digest = hashlib.sha256(source.encode()).hexdigest()
    count = 0
    while (made := f"{digest[:8]}{f'-{count}' if count else ''}") in taken:
        count += 1
    return made
