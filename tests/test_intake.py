"""What teachers have becomes one submission per student and lab, whatever is in it."""

import datetime
import io
import json
import os
import re
import stat
import struct
import time
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import nbformat
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from solved_copies import LABS, blank_copy, handed_in, solved_copy

from autograder.grading import archives, reading
from autograder.grading.intake import IntakeError, hand_in_of, intake
from autograder.grading.model import Status, Submission
from autograder.grading.reading import Unreadable, read_notebook
from autograder.grading.repair import prepare

LAB, OTHER, THIRD = LABS["02_roles"], LABS["05_packing"], LABS["00_start_here"]
COURSE = [LABS[name] for name in sorted(LABS)]
SOLVED = json.dumps(solved_copy(LAB), ensure_ascii=False).encode()
BLANK = json.dumps(blank_copy(LAB)).encode()
PACKING = json.dumps(solved_copy(OTHER)).encode()
CLEAN = prepare(handed_in(LAB, solved_copy(LAB)), LAB).notebook
FEW = settings(
    max_examples=300, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


def write(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def zipped(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return packed.getvalue()


def one(path: Path, **more: Any) -> Submission:
    (submission,) = intake(path, [LAB], **more)
    return submission


def status_of(data: bytes, tmp_path: Path) -> Submission:
    return one(write(tmp_path / "in", {"jane/02_roles/02_roles.ipynb": data}))


def is_the_solved_copy(submission: Submission) -> bool:
    return prepare(submission, LAB).notebook == CLEAN


def said(submission: Submission) -> str:
    return " ".join([submission.reason, *submission.repairs, *submission.notes])


# The layouts.


def test_nbgraders_tree_gives_every_student_a_row_for_every_lab(tmp_path):
    tree = {
        "submitted/jane/02_roles/02_roles.ipynb": SOLVED,
        "submitted/jane/02_roles/timestamp.txt": b"2026-02-02 15:58:23.948203 UTC",
        "submitted/joe/05_packing/05_packing.ipynb": PACKING,
    }
    write(tmp_path, tree)
    (tmp_path / "submitted" / "nobody").mkdir()
    (tmp_path / "submitted" / "nolab" / "02_roles").mkdir(parents=True)
    for path in (tmp_path, tmp_path / "submitted"):
        rows = intake(path, [LAB, OTHER], roster=["zoe", "jane"])
        assert [(row.student, row.lab) for row in rows] == [
            (student, lab.name)
            for student in ("jane", "joe", "nobody", "nolab", "zoe")
            for lab in (LAB, OTHER)
        ]
        graded = {(r.student, r.lab) for r in rows if r.status is Status.GRADED}
        assert graded == {("jane", LAB.name), ("joe", OTHER.name)}
        missing = [row for row in rows if row.status is Status.MISSING]
        assert len(missing) == 8 and all(row.notebook is None and LAB.name[:2] for row in missing)
        assert rows[0].submitted_at == datetime.datetime(2026, 2, 2, 15, 58, 23, 948203, datetime.UTC)
        assert not rows[0].repairs and not rows[0].notes and not rows[0].files


def test_times_are_in_utc_and_one_outside_the_calendar_is_left_out(tmp_path):
    folder = write(tmp_path, {"jane/02_roles/02_roles.ipynb": SOLVED})
    for said, meant in {
        "2026-02-02 15:58:23 UTC": datetime.datetime(2026, 2, 2, 15, 58, 23),
        "2026-02-02T15:58:23+14:00": datetime.datetime(2026, 2, 2, 1, 58, 23),
        "0001-01-01T00:00:00+14:00": None,
        "9999-12-31T23:59:59-14:00": None,
        "yesterday": None,
    }.items():
        (folder / "jane" / "02_roles" / "timestamp.txt").write_text(said)
        when = one(folder).submitted_at
        assert when == (meant and meant.replace(tzinfo=datetime.UTC))
        assert when is None or when.tzinfo is datetime.UTC


def test_a_student_cannot_date_a_hand_in(tmp_path):
    stamp = {"timestamp.txt": b"2020-01-01 00:00:00 UTC"}
    mine = zipped({"02_roles.ipynb": SOLVED} | stamp)
    platform = tmp_path / "class.zip"
    platform.write_bytes(
        zipped(
            {
                "jane_1_2_hw.zip": mine,
                "joe_3_4_02_roles.ipynb": SOLVED,
                "joe_3_4_timestamp.txt": stamp["timestamp.txt"],
                "Zoe_5_assignsubmission_file_/02_roles.ipynb": SOLVED,
                "Zoe_5_assignsubmission_file_/timestamp.txt": stamp["timestamp.txt"],
            }
        )
    )
    rows = [*intake(platform, [LAB]), one(write(tmp_path / "in", {"jane/02_roles/hw.zip": mine}))]
    assert [(row.status, row.submitted_at) for row in rows] == [(Status.GRADED, None)] * 4

    tree = {
        "jane/02_roles/timestamp.txt": b"2026-02-02 00:00:00 UTC",
        "jane/02_roles/work/02_roles.ipynb": SOLVED,
        "jane/02_roles/work/timestamp.txt": stamp["timestamp.txt"],
    }
    when = one(write(tmp_path / "tree", tree)).submitted_at
    assert when == datetime.datetime(2026, 2, 2, tzinfo=datetime.UTC)


def test_a_canvas_zip(tmp_path):
    path = tmp_path / "submissions.zip"
    path.write_bytes(
        zipped(
            {
                "doejane_12345_67890_02_roles-1.ipynb": SOLVED,
                "doejane_12345_67880_02_roles.ipynb": BLANK,
                "roejohn_LATE_12346_67891_Untitled12(1).ipynb": SOLVED,
                "smith_777_1_my work.zip": zipped(
                    {"work/02_roles.ipynb": SOLVED, "work/scratch.ipynb": b"{}"}
                ),
                "lee_1_2_02_roles.ipynb": BLANK,
                "lee_3_4_02_roles.ipynb": SOLVED,
            }
        )
    )
    rows = {row.student: row for row in intake(path, [LAB], roster=["Jane Doe", "absent"])}
    assert list(rows) == ["Jane Doe", "absent", "lee_1", "lee_3", "roejohn", "smith"]
    assert is_the_solved_copy(rows["Jane Doe"]) and "2 notebooks" in said(rows["Jane Doe"])
    assert is_the_solved_copy(rows["roejohn"]) and "late" in said(rows["roejohn"])
    assert is_the_solved_copy(rows["smith"]) and "scratch.ipynb" in said(rows["smith"])
    assert is_the_solved_copy(rows["lee_3"]) and prepare(rows["lee_1"], LAB).blank
    assert rows["absent"].status is Status.MISSING


def test_a_moodle_zip(tmp_path):
    path = tmp_path / "course-exercise.zip"
    path.write_bytes(
        zipped(
            {
                "Jane Doe_12345_assignsubmission_file_/02_roles.ipynb": SOLVED,
                "Jane Doe_12345_assignsubmission_file_/rows.jsonl": b"{}",
                "Zoë Élan_12346_assignsubmission_file_/Kopie.ipynb".replace("ë", "e\u0308"): SOLVED,
                "Joe_7_assignsubmission_file_02_roles.ipynb": SOLVED,
            }
        )
    )
    rows = {row.student: row for row in intake(path, [LAB])}
    assert set(rows) == {"Jane Doe", "Zoë Élan", "Joe"}
    assert all(is_the_solved_copy(row) for row in rows.values())
    assert rows["Jane Doe"].files == {"rows.jsonl": b"{}"}


def test_a_folder_of_names(tmp_path):
    files = {
        "jane.ipynb": SOLVED,
        "joe (1).ipynb": SOLVED,
        "05_packing_ann.ipynb": PACKING,
        "readme.txt": b"class of 2026",
    }
    rows = intake(write(tmp_path, files), [LAB, OTHER])
    graded = {(r.student, r.lab) for r in rows if r.status is Status.GRADED}
    assert graded == {("jane", LAB.name), ("joe", LAB.name), ("ann", OTHER.name)} and len(rows) == 6


def test_one_notebook_and_one_students_folder(tmp_path):
    write(tmp_path, {"jane/02_roles/02_roles.ipynb": SOLVED})
    for path in ("jane", "jane/02_roles", "jane/02_roles/02_roles.ipynb"):
        submission = one(tmp_path / path)
        assert submission.student == "jane" and is_the_solved_copy(submission)


@pytest.mark.parametrize("student", ["jane", "05", "02_roles", "doejane_12345_67890_02_roles"])
def test_one_folder_of_nbgraders_tree_reads_as_it_does_in_the_tree(tmp_path, student):
    folder = "submitted/jane/02_roles"
    names = ("02_roles.ipynb", "rows.csv", "numpy.py", "timestamp.txt", "more.zip")
    data = (SOLVED, b"a,b", b"raise", b"2026-02-02 00:00:00 UTC", zipped({"02_roles.ipynb": BLANK}))
    write(tmp_path, {f"{folder}/{name}": content for name, content in zip(names, data, strict=True)})
    in_the_tree = one(tmp_path)
    assert in_the_tree.files and in_the_tree.submitted_at and "2 notebooks" in said(in_the_tree)
    alone = hand_in_of(student, tmp_path / folder, LAB)
    # The notes name the notebooks by their paths, which begin with the student.
    assert "2 notebooks" in said(alone)
    assert alone == in_the_tree.model_copy(update={"student": student, "notes": alone.notes})


def test_folders_of_labs_with_students_in_them(tmp_path):
    files = {
        "02_roles/jane/02_roles.ipynb": SOLVED,
        "05_packing/jane/x.ipynb": PACKING,
        "lab 0/joe.ipynb": b"{",
    }
    rows = {(r.student, r.lab): r.status for r in intake(write(tmp_path, files), [LAB, OTHER, THIRD])}
    assert rows["jane", LAB.name] is rows["jane", OTHER.name] is Status.GRADED
    assert rows["joe", THIRD.name] is Status.NOT_GRADABLE and len(rows) == 6


def test_a_students_login_that_is_the_number_of_a_lab(tmp_path):
    files = {
        "05/02_roles/02_roles.ipynb": SOLVED,
        "05/05_packing/05_packing.ipynb": PACKING,
        "7/02_roles/02_roles.ipynb": BLANK,
    }
    rows = intake(write(tmp_path, files), [LAB, OTHER])
    graded = {(r.student, r.lab) for r in rows if r.status is Status.GRADED}
    assert graded == {("05", LAB.name), ("05", OTHER.name), ("7", LAB.name)}


@pytest.mark.parametrize("wrapper", ["submissions", "download"])
def test_a_zip_that_was_repacked_with_a_folder_around_it(tmp_path, wrapper):
    path = tmp_path / "download.zip"
    path.write_bytes(zipped({f"{wrapper}/doe_1_2_02_roles.ipynb": SOLVED, "__MACOSX/._x": b"\0"}))
    assert one(path).student == "doe"


def test_nothing_to_grade_is_one_sentence(tmp_path):
    for path in (tmp_path / "absent", write(tmp_path, {"broken.zip": b"PK\x03\x04junk"}) / "broken.zip"):
        with pytest.raises(IntakeError, match="name a folder of submissions, a Canvas or Moodle zip"):
            intake(path, [LAB])
    (tmp_path / "empty").mkdir()
    assert intake(tmp_path / "empty", [LAB]) == []


# Row 18: names that are not the lab's; row 40: several hand-ins.


@pytest.mark.parametrize(
    "name", ["02_roles (1).ipynb", "Copy of 02_roles.ipynb", "02_roles-Copy1.ipynb", "hw.ipynb"]
)
def test_a_renamed_notebook_is_matched(tmp_path, name):
    assert is_the_solved_copy(one(write(tmp_path, {f"jane/{name}": SOLVED})))


def test_extra_notebooks_are_ignored_and_listed(tmp_path):
    scratch = json.dumps({"cells": [], "nbformat": 4, "nbformat_minor": 5, "metadata": {}}).encode()
    other = json.dumps({"cells": [{"cell_type": "code", "source": "1"}], "nbformat": 4}).encode()
    files = {"jane/02_roles/02_roles.ipynb": SOLVED, "jane/02_roles/a.ipynb": scratch, "jane/b.ipynb": other}
    submission = one(write(tmp_path, files))
    assert is_the_solved_copy(submission)
    assert "a.ipynb" in said(submission) and "b.ipynb" in said(submission)


def test_only_foreign_notebooks_are_missing_with_their_names(tmp_path):
    foreign = json.dumps({"cells": [{"cell_type": "code", "source": "1"}], "nbformat": 4}).encode()
    submission = one(write(tmp_path, {"jane/homework.ipynb": foreign}))
    assert submission.status is Status.MISSING and "homework.ipynb" in submission.reason


def test_content_beats_a_wrong_name(tmp_path):
    write(tmp_path, {"jane/02_roles/02_roles.ipynb": PACKING})
    roles, packing = intake(tmp_path, [LAB, OTHER])
    assert roles.status is Status.NOT_GRADABLE and "notebook of 05_packing" in roles.reason
    assert packing.status is Status.GRADED and "handed in as 02_roles" in said(packing)
    assert one(tmp_path).status is Status.NOT_GRADABLE


@pytest.mark.parametrize("newest", [0, 1])
def test_of_two_notebooks_the_newest_counts(tmp_path, newest):
    names = ["jane/02_roles/02_roles.ipynb", "jane/02_roles/02_roles (1).ipynb"]
    write(tmp_path, {name: SOLVED if i == newest else BLANK for i, name in enumerate(names)})
    for i, name in enumerate(names):
        os.utime(tmp_path / name, (1000 + 500 * (i == newest),) * 2)
    submission = one(tmp_path)
    assert is_the_solved_copy(submission)
    assert "2 notebooks are there" in said(submission) and Path(names[1 - newest]).name in said(submission)


def test_an_older_notebook_that_can_be_read_counts_more_than_a_broken_newer_one(tmp_path):
    names = ["jane/02_roles.ipynb", "jane/02_roles (1).ipynb"]
    write(tmp_path, dict(zip(names, (SOLVED, SOLVED[:500]), strict=True)))
    os.utime(tmp_path / names[0], (1000, 1000))
    submission = one(tmp_path)
    assert is_the_solved_copy(submission) and "newer but cannot be read" in said(submission)


def test_the_same_hand_in_reads_the_same_twice(tmp_path):
    write(tmp_path, {"jane/02_roles/02_roles.ipynb": SOLVED, "jane/02_roles/rows.csv": b"a,b"})
    assert intake(tmp_path, COURSE) == intake(tmp_path, COURSE)


# Rows 19 and 20: nothing, or no notebook.

NO_NOTEBOOKS = {
    "empty file": (b"", "is empty"),
    "zeros": (b"\0" * 3000, "is empty"),
    "half an upload": (SOLVED[: len(SOLVED) // 2], "breaks off"),
    "web page": (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "web page"),
    "PDF": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj", "a PDF"),
    "Word": (zipped({"word/document.xml": b"x"}), "Office"),
    "text": (b"I could not upload it, sorry", "not a notebook"),
    "a list": (b"[1, 2]", "not a notebook"),
    "a number": (b"7", "not a notebook"),
    "other JSON": (b'{"a": 1}', "no list of cells"),
    "cells that are text": (b'{"cells": "none", "nbformat": 4}', "no list of cells"),
    "bracket missing": (SOLVED.replace(b'"metadata": {', b'"metadata": {{', 1), "damaged"),
    "deep": (b'{"cells": ' + b"[" * 200_000, "nested too deeply"),
    "deep and closed": (b'{"cells": ' + b"[" * 5000 + b"]" * 5000 + b"}", "nested too deeply"),
    "doubled key": (
        b'{"cells": [], "nbformat": 4, "cells": [{"cell_type": "code", "source": "1"}]}',
        "twice",
    ),
    "doubled key in a cell": (b'{"cells": [{"source": "1", "source": "2"}], "nbformat": 4}', "two values"),
    "no cells": (b'{"cells": [], "nbformat": 4, "metadata": {}}', "no text in any cell"),
    "merge": (
        SOLVED.replace(b'"cells": [', b'"cells": [\n<<<<<<< HEAD\n1\n=======\n2\n>>>>>>> main\n', 1),
        "unfinished merge",
    ),
    "random": (bytes(range(256)) * 40, "encoding cannot be told"),
    "Russian in a Windows encoding": (
        '{"cells": ["Привет, мир"]}'.encode("cp1251"),
        "encoding cannot be told",
    ),
    "half of UTF-16": (SOLVED.decode().encode("utf-16")[:-1], "damaged or cut off"),
    "too many cells": (json.dumps({"cells": [{"source": "1"}] * 4000, "nbformat": 4}).encode(), "4000 cells"),
    "endless cell": (
        json.dumps({"cells": [{"source": "1" * 2**21}], "nbformat": 4}).encode(),
        "1 MB of text",
    ),
}


@pytest.mark.parametrize(("data", "reason"), NO_NOTEBOOKS.values(), ids=NO_NOTEBOOKS)
def test_what_is_no_notebook_says_so(tmp_path, data, reason):
    write(tmp_path / "in", {"joe/02_roles/02_roles.ipynb": SOLVED})
    write(tmp_path / "in", {"jane/02_roles/02_roles.ipynb": data})
    jane, joe = intake(tmp_path / "in", [LAB])
    assert jane.status is Status.NOT_GRADABLE and jane.notebook is None
    assert reason in jane.reason and len(jane.reason) < 250 and jane.reason.endswith(".")
    assert is_the_solved_copy(joe)


# Row 21: encodings.


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_encodings_are_read(tmp_path, encoding):
    assert "é" in SOLVED.decode() or "→" in SOLVED.decode() or "·" in SOLVED.decode()
    submission = status_of(SOLVED.decode().encode(encoding), tmp_path)
    assert is_the_solved_copy(submission) and "was read as" in said(submission)


def test_latin_1_is_read_where_it_is_unambiguous():
    notebook = {"cells": [{"cell_type": "markdown", "source": "Réponse: déjà vu"}], "nbformat": 4}
    data = json.dumps(notebook, ensure_ascii=False)
    read = read_notebook(data.encode("latin-1"))
    assert read.notebook["cells"][0]["source"] == "Réponse: déjà vu" and "Latin-1" in read.repairs[0]
    with pytest.raises(Unreadable, match="encoding cannot be told"):
        read_notebook(data.encode("latin-1") + "é".encode())


def test_line_ends_of_windows_are_read(tmp_path):
    notebook = solved_copy(LAB)
    for cell in notebook["cells"]:
        cell["source"] = cell["source"].replace("\n", "\r\n")
    text = json.dumps(notebook, indent=1).replace("\n", "\r\n")
    assert is_the_solved_copy(status_of(text.encode(), tmp_path))


def test_text_that_cannot_be_stored_is_replaced():
    read = read_notebook(
        b'{"cells": [{"cell_type": "code", "source": "a = \'\\ud800 \\u0000\'"}], "nbformat": 4}'
    )
    read.notebook["cells"][0]["source"].encode()
    assert "\0" not in read.notebook["cells"][0]["source"]


# Row 16: formats.


def test_format_3_is_upgraded(tmp_path):
    old = nbformat.convert(nbformat.reads(SOLVED.decode(), as_version=4), 3)
    submission = status_of(json.dumps(old).encode(), tmp_path)
    assert "format 3" in said(submission)
    assert is_the_solved_copy(submission)


@pytest.mark.parametrize("major", [5, 99, None, "four", -1, 10**30, True])
def test_a_future_or_absurd_format_is_read_as_4(tmp_path, major):
    notebook = solved_copy(LAB) | {"nbformat": major, "nbformat_minor": 77}
    submission = status_of(json.dumps(notebook).encode(), tmp_path)
    assert is_the_solved_copy(submission) and "read as 4" in said(submission)


def test_what_is_kept_is_valid_and_bare():
    notebook = solved_copy(LAB)
    for cell in notebook["cells"]:
        cell["id"] = "same"
        cell["metadata"] |= {"colab": {"x": [1]}, "tags": ["skip-execution"]}
        if cell["cell_type"] == "code":
            cell |= {
                "execution_count": 7,
                "outputs": [{"output_type": "stream", "name": "stdout", "text": "9"}],
            }
    picture = {"a.png": {"image/png": "iVBORw0KGgo="}, "b.js": {"text/javascript": "1"}}
    notebook["cells"].append({"cell_type": "markdown", "source": "![](a)", "attachments": picture})
    read = read_notebook(json.dumps(notebook).encode())
    nbformat.validate(nbformat.from_dict(read.notebook))
    assert len({cell["id"] for cell in read.notebook["cells"]}) == len(notebook["cells"])
    assert not [cell for cell in read.notebook["cells"] if cell.get("outputs") or cell.get("execution_count")]
    assert {key for cell in read.notebook["cells"] for key in cell["metadata"]} == {"nbgrader"}
    assert read.notebook["cells"][-1]["attachments"] == {"a.png": picture["a.png"]}


# Row 39: size.


def huge(outputs: list[dict[str, Any]], **more: Any) -> bytes:
    notebook = solved_copy(LAB)
    next(c for c in notebook["cells"] if c["cell_type"] == "code")["outputs"] = outputs
    return json.dumps(notebook | more).encode()


def test_100_mb_of_outputs_are_read_without_them(tmp_path):
    picture = {"output_type": "display_data", "metadata": {}, "data": {"image/png": "A" * 105_000_000}}
    start = time.perf_counter()
    submission = status_of(huge([picture]), tmp_path)
    assert is_the_solved_copy(submission) and "105 MB" in said(submission)
    assert time.perf_counter() - start < 20
    assert len(json.dumps(submission.notebook)) < 1_000_000


def test_many_small_outputs_are_read_without_them():
    stream = [{"output_type": "stream", "name": "stdout", "text": ["x" * 50] * 100}] * 4000
    read = read_notebook(huge(stream))
    assert len(read.notebook["cells"]) == len(solved_copy(LAB)["cells"])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (huge([{"text": "A" * 17_000_000}])[:-50], "breaks off"),
        (b'{"cells": [' + b" " * 17_000_000 + b"{}, {,}]}", "damaged"),
        (b'{"cells": ' + b"[" * 17_000_000, "nested too deeply"),
        (b'{"metadata": {"widgets": ' + b'{"a":' * 4_000_000, "nested too deeply"),
        (json.dumps({"cells": [{"source": "a" * 900_000}] * 40}).encode(), "too large"),
        (b" " * 17_000_000 + b'{"cells": [], "cells": []}', "twice"),
        (b" " * 17_000_000 + b"[]", "not a notebook"),
    ],
    ids=["cut", "damaged", "deep", "deep in a part that is skipped", "text", "doubled", "list"],
)
def test_large_files_that_are_no_notebooks_say_so(data, reason):
    with pytest.raises(Unreadable, match=reason):
        read_notebook(data)


def test_both_readers_read_the_same(monkeypatch):
    whole = read_notebook(SOLVED)
    monkeypatch.setattr(reading, "STREAM_ABOVE", 0)
    assert read_notebook(SOLVED).notebook == whole.notebook


def test_a_file_over_the_limit_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("autograder.grading.intake.MAX_FILE", len(SOLVED) - 1)
    submission = status_of(SOLVED, tmp_path)
    assert submission.status is Status.NOT_GRADABLE and "is larger than" in submission.reason


# Row 22: what is refused unread.


def test_links_and_devices_are_refused_and_the_rest_goes_on(tmp_path):
    secret = write(tmp_path, {"secret.ipynb": SOLVED}) / "secret.ipynb"
    root = write(
        tmp_path / "in", {"joe/02_roles.ipynb": SOLVED, "ann/02_roles.ipynb": SOLVED, "ann/x.txt": b"x"}
    )
    (root / "jane" / "02_roles").mkdir(parents=True)
    (root / "jane" / "02_roles" / "02_roles.ipynb").symlink_to(secret)
    (root / "ann" / "rows.csv").symlink_to("/etc/passwd")
    (root / "eve").symlink_to(root / "joe", target_is_directory=True)
    (root / "kim").mkdir()
    os.mkfifo(root / "kim" / "02_roles.ipynb")
    rows = {row.student: row for row in intake(root, [LAB])}
    assert set(rows) == {"joe", "ann", "jane", "eve", "kim"}
    assert is_the_solved_copy(rows["joe"]) and is_the_solved_copy(rows["ann"])
    assert rows["ann"].files == {"x.txt": b"x"} and "rows.csv is a link" in said(rows["ann"])
    for student, word in (("jane", "a link"), ("eve", "a link"), ("kim", "device or pipe")):
        assert rows[student].status is Status.NOT_GRADABLE and word in rows[student].reason


def member(name: str, mode: int = 0) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def test_evil_members_of_a_zip_are_refused_and_the_rest_goes_on(tmp_path):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for info in (
            member("02_roles.ipynb"),
            member("../../../root/02_roles.ipynb"),
            member("/etc/cron.d/02_roles.ipynb"),
            member("C:\\Windows\\02_roles.ipynb"),
            member("..\\..\\02_roles.ipynb"),
            member("link.ipynb", stat.S_IFLNK | 0o777),
            member("pipe.ipynb", stat.S_IFIFO | 0o666),
            member("d/" * 30 + "deep.ipynb"),
            member("n" * 300 + ".ipynb"),
            member("new\nline.ipynb"),
            member("bell\x07.ipynb"),
        ):
            archive.writestr(info, SOLVED)
        archive.writestr("bomb.csv", b"0" * 300_000_000)
    path = write(tmp_path, {"jane.zip": packed.getvalue(), "joe.ipynb": SOLVED})
    jane, joe = intake(path, [LAB])
    assert is_the_solved_copy(jane) and is_the_solved_copy(joe)
    assert not jane.files
    refused = [note for note in jane.notes if "not opened" in note or "more files" in note]
    assert len(refused) >= 10 and all(note.isprintable() and len(note) < 250 for note in refused)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["jane.zip", "joe.ipynb"]


def test_bombs_in_the_place_of_notebooks_cost_only_their_student(tmp_path, monkeypatch):
    bomb = zipped({"02_roles.ipynb": b" " * 50_000_000})
    lying = bytearray(zipped({"02_roles.ipynb": b" " * 5_000_000}))
    at = lying.index(b"PK\x01\x02") + 24
    lying[at : at + 4] = struct.pack("<I", 100)
    many = zipped({f"{i}.csv": b"" for i in range(3000)})
    nested = zipped({"a.zip": zipped({"b.zip": zipped({"02_roles.ipynb": SOLVED})})})
    locked = bytearray(zipped({"02_roles.ipynb": SOLVED}))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        locked[locked.index(mark) + offset] |= 1
    files = {"bomb": bomb, "lying": bytes(lying), "many": many, "nested": nested, "locked": bytes(locked)}
    path = tmp_path / "class.zip"
    path.write_bytes(
        zipped({f"{name}_1_2_x.zip": data for name, data in files.items()} | {"joe.ipynb": SOLVED})
    )
    rows = {row.student: row for row in intake(path, [LAB])}
    assert is_the_solved_copy(rows.pop("joe")) and set(rows) == set(files)
    assert {row.status for row in rows.values()} == {Status.NOT_GRADABLE}
    assert "times its size" in rows["bomb"].reason and "password" in rows["locked"].reason
    assert "more than 2000 files" in rows["many"].reason and "zip inside a zip" in rows["nested"].reason
    monkeypatch.setattr(archives, "MAX_UNPACKED", 2 * len(SOLVED))
    many = zipped({f"{i}/02_roles.ipynb": SOLVED for i in range(5)}, zipfile.ZIP_STORED)
    row = one(write(tmp_path / "total", {"jane.zip": many}))
    assert is_the_solved_copy(row) and "5 notebooks" in said(row)


def damaged(compression: int, mark: bytes, at: int, new: bytes) -> bytes:
    """A zip with other bytes, `at` bytes after the last mark."""
    packed = bytearray(zipped({"02_roles.ipynb": SOLVED}, compression))
    start = packed.rindex(mark) + at
    packed[start : start + len(new)] = new
    return bytes(packed)


NO_DATE = damaged(zipfile.ZIP_DEFLATED, b"PK\x01\x02", 12, b"\0\0\0\0")
DAMAGED = {
    "lzma": damaged(zipfile.ZIP_LZMA, b"PK\x03\x04", 60, b"\xff" * 400),
    "lzmahead": damaged(zipfile.ZIP_LZMA, b"PK\x03\x04", 44, b"\xff" * 9),
    "bzip": damaged(zipfile.ZIP_BZIP2, b"PK\x03\x04", 60, b"\xff" * 400),
    "deflate": damaged(zipfile.ZIP_DEFLATED, b"PK\x03\x04", 60, b"\xff" * 400),
    "packing": damaged(zipfile.ZIP_DEFLATED, b"PK\x01\x02", 10, b"\x63\0"),
    "future": damaged(zipfile.ZIP_DEFLATED, b"PK\x01\x02", 6, b"\xff"),
    "list": damaged(zipfile.ZIP_DEFLATED, b"PK\x01\x02", 0, b"XX"),
    "end": damaged(zipfile.ZIP_DEFLATED, b"PK\x05\x06", 12, b"\xff" * 8),
}


def test_a_damaged_zip_costs_only_its_student(tmp_path):
    path = tmp_path / "class.zip"
    files = {f"{name}_1_2_x.zip": data for name, data in DAMAGED.items()}
    path.write_bytes(zipped(files | {"joe_1_2_x.ipynb": SOLVED, "undated_1_2_x.zip": NO_DATE}))
    rows = {row.student: row for row in intake(path, [LAB])}
    assert is_the_solved_copy(rows.pop("joe")) and is_the_solved_copy(rows.pop("undated"))
    assert set(rows) == set(DAMAGED)
    for row in rows.values():
        assert row.status is Status.NOT_GRADABLE
        assert re.search("damaged inside its zip|not a zip that can be opened", row.reason)


def test_a_damaged_zip_of_a_class_is_one_sentence(tmp_path):
    path = tmp_path / "class.zip"
    path.write_bytes(NO_DATE)
    assert is_the_solved_copy(one(path))
    for name in ("future", "list", "end"):
        path.write_bytes(DAMAGED[name])
        with pytest.raises(IntakeError, match="is not a zip that can be opened"):
            intake(path, [LAB])


def test_a_zip_in_a_zip_is_looked_into(tmp_path):
    path = tmp_path / "class.zip"
    path.write_bytes(
        zipped({"jane_1_2_hw.zip": zipped({"hw/02_roles.ipynb": SOLVED, "hw/rows.json": b"[]"})})
    )
    submission = one(path)
    assert is_the_solved_copy(submission) and submission.files == {"rows.json": b"[]"}


def test_a_zip_that_cannot_be_opened_is_not_missing(tmp_path):
    rows = intake(write(tmp_path, {"jane.zip": b"PK\x03\x04" + b"x" * 100}), [LAB, OTHER])
    assert {row.status for row in rows} == {Status.NOT_GRADABLE} and "not a zip" in rows[0].reason


# Row 23: further files.


def test_only_small_plain_data_files_come_along(tmp_path):
    kept = {
        "rows.jsonl": b"{}",
        "table.csv": b"a",
        "notes.md": b"#",
        "Report.TXT": b"x",
        "adapter_config.json": b"{}",
    }
    refused = [
        *(
            "numpy.py",
            "torch.py",
            "ipykernel_launcher.py",
            "sitecustomize.py",
            "conftest.py",
            "a.pth",
            "b.so",
        ),
        *(
            "model.safetensors",
            "weights.pkl",
            "noext",
            "setup.cfg",
            "x.ipy",
            "numpy.txt",
            "sitecustomize.json",
        ),
        *("jupyter_config.json", "ipython_kernel_config.json", "ümlaut.txt", "-rf.txt", "huge.csv"),
    ]
    folder = "jane/02_roles"
    write(tmp_path, {f"{folder}/{name}": data for name, data in kept.items()})
    write(tmp_path, {f"{folder}/{name}": b"1" * (2**21 if name == "huge.csv" else 1) for name in refused})
    write(tmp_path, {f"{folder}/02_roles.ipynb": SOLVED, f"{folder}/data/deep.csv": b"1"})
    submission = one(tmp_path)
    assert submission.files == kept
    assert "conftest.py" in said(submission) and f"{len(refused) - 9} more files" in said(submission)


def test_all_files_together_are_bounded(tmp_path):
    files = {f"jane/02_roles/{i}.csv": b"1" * 1_000_000 for i in range(8)}
    submission = one(write(tmp_path, files | {"jane/02_roles/02_roles.ipynb": SOLVED}))
    assert sum(map(len, submission.files.values())) <= 5 * 1024**2 and "5 MB" in said(submission)


# Anything at all.


@FEW
@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                [
                    "jane/02_roles/02_roles.ipynb",
                    "jane/x.ipynb",
                    "doe_1_2_a.ipynb",
                    "joe.zip",
                    "02_roles.ipynb",
                    "a/b/c.csv",
                    "05_packing/kim.ipynb",
                    "kim.ipynb",
                    "..ipynb",
                    ".ipynb",
                    "Z_3_assignsubmission_file_/y",
                ]
            ),
            st.one_of(
                st.binary(max_size=200),
                st.sampled_from([SOLVED, BLANK, PACKING, zipped({"02_roles.ipynb": SOLVED})]),
                st.tuples(
                    st.sampled_from([SOLVED, zipped({"02_roles.ipynb": SOLVED})]), st.integers(0, 10**6)
                ).map(lambda pair: pair[0][: pair[1] % len(pair[0])]),
                st.tuples(st.binary(min_size=1, max_size=8), st.integers(0, 10**6)).map(
                    lambda pair: BLANK[: (at := pair[1] % len(BLANK))] + pair[0] + BLANK[at + len(pair[0]) :]
                ),
            ),
        ),
        max_size=5,
    ),
    st.lists(st.sampled_from(["jane", "Joe", "zoe", "", "=cmd()"]), max_size=3),
    st.booleans(),
)
def test_no_bytes_raise_and_everyone_gets_one_row_for_each_lab(tmp_path_factory, files, roster, packed):
    folder = tmp_path_factory.mktemp("any")
    if packed:
        folder = folder / "in.zip"
        folder.write_bytes(zipped(dict(files)))
    else:
        write(folder, dict(files))
    rows = intake(folder, [LAB, OTHER], roster=roster)
    counts = Counter((row.student, row.lab) for row in rows)
    students = {row.student for row in rows}
    assert set(counts.values()) <= {1} and set(counts) == {
        (s, x.name) for s in students for x in (LAB, OTHER)
    }
    for row in rows:
        assert (row.notebook is None) == (row.status is not Status.GRADED)
        assert bool(row.reason) == (row.status is not Status.GRADED)
        assert Submission.model_validate_json(row.model_dump_json()) == row
        prepare(row, LABS[row.lab])


@FEW
@given(st.binary(max_size=400))
def test_reading_any_bytes_gives_a_notebook_or_a_sentence(data):
    for content in (data, b'{"cells": [' + data + b"]}"):
        try:
            nbformat.validate(nbformat.from_dict(read_notebook(content).notebook))
        except Unreadable as error:
            assert str(error).endswith(".")
