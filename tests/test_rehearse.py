"""The rehearsal: from release to report, and failing when a mark, a name or the bundle is wrong."""

import re
import shutil

import pytest
from rich.console import Console

from autograder.grading import rehearse as rehearsals
from autograder.grading import sandbox
from autograder.grading.model import CellGrade, Result, Status
from autograder.grading.sample_class import BLANK, BROKEN, FAULT, RIGHT, HandIn
from autograder.labs import ROOT, discover, select
from autograder.release import write_release


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    out = tmp_path_factory.mktemp("release") / "course"
    write_release(out)
    return out


def test_the_course_leaks_nothing(bundle):
    assert rehearsals.leaks(bundle) == []


def test_a_planted_answer_a_fault_and_the_grader_are_found(bundle, tmp_path):
    spoiled = tmp_path / "spoiled"
    shutil.copytree(bundle, spoiled)
    (spoiled / "autograder").mkdir()
    shutil.copy(ROOT / "solutions/02_roles/02_roles.ipynb", spoiled / "notebooks/02_roles/02_roles.ipynb")
    shutil.copy(ROOT / "autograder/faults/lab05_packing.py", spoiled / "chatcontract/notes.py")
    found = rehearsals.leaks(spoiled)
    assert "autograder is in the bundle." in found
    assert any(line.startswith("02_roles, cell") and "BEGIN SOLUTION" in line for line in found)
    assert any("the answer to repair" in line or "the answer to validate_jsonl" in line for line in found)
    assert any("the fault pack" in line or "the fault " in line for line in found)


def _result(student: str, points: float | None, faults: tuple[str, ...] = ()) -> Result:
    if points is None:
        return Result(student=student, lab="02_roles", status=Status.NOT_GRADABLE, reason="It is cut off.")
    cell = CellGrade(
        grade_id="a-visible", exercise="a", points=points, possible=10, verdict="partial", faults=faults
    )
    return Result(student=student, lab="02_roles", status=Status.GRADED, cells=(cell,))


@pytest.mark.parametrize(
    ("results", "wrong"),
    [
        ([_result("a", 10), _result("b", 0), _result("c", 4, ("x.y",)), _result("d", None)], None),
        ([_result("a", 9), _result("b", 0), _result("c", 4, ("x.y",)), _result("d", None)], "right copies"),
        ([_result("a", 10), _result("b", 1), _result("c", 4, ("x.y",)), _result("d", None)], "blank copies"),
        ([_result("a", 10), _result("b", 0), _result("c", 4, ("x.z",)), _result("d", None)], "each fault"),
        ([_result("a", 10), _result("b", 0), _result("c", 10, ("x.y",)), _result("d", None)], "each fault"),
        ([_result("a", 10), _result("b", 0), _result("c", 4, ("x.y",)), _result("d", 0)], "a broken file"),
        ([_result("a", 10), _result("b", 0), _result("c", 4, ("x.y",))], "every hand-in"),
    ],
)
def test_a_wrong_mark_is_found_and_said(results, wrong):
    kinds = (("a", RIGHT, ""), ("b", BLANK, ""), ("c", FAULT, "x.y"), ("d", BROKEN, ""))
    hand_ins = [HandIn(student, "02_roles", kind, about, b"") for student, kind, about in kinds]
    labs = select(["02"], discover(ROOT / "solutions"))
    found = [what for what, problems in rehearsals._verdicts(labs, hand_ins, results).items() if problems]
    assert (found[0].startswith(wrong) and len(found) == 1) if wrong else found == []


def test_a_folder_with_something_in_it_is_refused(tmp_path, capsys):
    try:
        sandbox.require()
    except sandbox.NoSandbox as why:
        pytest.skip(str(why))
    (tmp_path / "thesis.txt").write_text("keep me")
    assert rehearsals.main(("02",), tmp_path) == 1
    assert "is not empty" in capsys.readouterr().out
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.slow
def test_one_lab_from_release_to_report(tmp_path, monkeypatch):
    try:
        sandbox.require()
    except sandbox.NoSandbox as why:
        pytest.skip(str(why))
    # That notebooks/ is up to date has a test of its own, which takes as long as this one.
    monkeypatch.setattr(rehearsals, "build", lambda check: 0)
    console = Console(record=True, width=200)
    labs = select(["02"], discover(ROOT / "solutions"))
    ok = rehearsals.rehearse(labs, tmp_path, console)
    said = console.export_text()
    assert ok, said
    phases = re.findall(r"(?m)^(OK|FAIL)\s+[\d.]+ s\s+(.+?)\s*$", said)
    assert {verdict for verdict, _ in phases} == {"OK"}
    assert {"search for leaks", "judging", "feedback", "each fault costs points and is named"} <= {
        name for _, name in phases
    }
    assert (tmp_path / "course/grading/class_report.html").is_file()
