"""The sample class: every hand-in is what it is said to be, before anybody grades it."""

import ast
import dataclasses
import json
from typing import Any

import nbformat
import pytest
from rich.console import Console

from autograder.checks.reference import notebook
from autograder.checks.registry import exercises, exercises_of
from autograder.faults.as_answer import right_answers, wrong_answer
from autograder.faults.matrix import public_exercise
from autograder.faults.registry import all_faults, faults_of
from autograder.grading import sample_class as samples
from autograder.labs import ROOT, discover
from chatcontract.check.outcome import call

LAB = "02_roles"


def _sources(data: bytes) -> dict[str, str]:
    return {cell.id: cell.source for cell in nbformat.reads(data.decode(), as_version=4).cells}


def _names(source: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(source, "<hand-in>", "exec"), names)
    return names


def test_it_has_every_kind_of_hand_in_and_the_same_each_time():
    made = samples.sample_class(LAB)
    kinds = [hand_in.kind for hand_in in made]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "right": 1,
        "blank": 1,
        "fault": 10,
        "broken": 3,
        "hostile": 3,
    }
    assert [h.student for h in made] == [f"student{n:02d}" for n in range(1, 19)]
    assert made == samples.sample_class(LAB)
    assert len({h.about for h in made if h.kind == "fault"}) == 10
    other = samples.sample_class(LAB, seed=1)
    assert [h.about for h in made] != [h.about for h in other]


def test_the_right_copy_differs_from_the_blank_one_in_the_answers_alone():
    by_kind = {h.kind: _sources(h.data) for h in samples.sample_class(LAB) if h.kind in ("right", "blank")}
    answers = right_answers(LAB)
    changed = {name for name, text in by_kind["right"].items() if by_kind["blank"][name] != text}
    assert changed == set(answers)
    assert not any("SOLUTION" in text or "judge(" in text for text in by_kind["right"].values())


@pytest.mark.parametrize(
    "hand_in", [h for h in samples.sample_class(LAB) if h.kind == "fault"], ids=lambda h: h.about
)
def test_a_fault_in_a_cell_answers_as_the_catalogue_says_and_stands_alone(hand_in):
    fault = next(f for f in all_faults() if f.id == hand_in.about)
    sources = _sources(hand_in.data)
    changed = [name for name, text in right_answers(LAB).items() if sources[name] != text]
    assert len(changed) == 1
    names = _names("\n\n".join(sources[name] for name in right_answers(LAB) if _is_code(name)))
    exercise = exercises()[fault.exercise]
    for case in exercise.public:
        theirs = call(names[fault.exercise], case.arguments, time_limit=5)
        assert theirs.to_json() == call(fault.run, case.arguments, time_limit=5).to_json(), case.name
    assert public_exercise(exercise).name == fault.exercise


def _is_code(identifier: str) -> bool:
    return any(cell.id == identifier and cell.cell_type == "code" for cell in notebook(LAB).cells)


def test_every_catalogued_fault_can_stand_in_a_cell_without_the_grader():
    for fault in all_faults():
        _, source = wrong_answer(fault)
        tree = ast.parse(source)
        assert fault.exercise in {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}, fault.id
        assert "autograder" not in source, fault.id
    assert all(faults_of(e.name) for lab in discover(ROOT / "solutions") for e in exercises_of(lab.name))


def test_the_broken_ones_are_broken():
    cut, page, bare = (h.data for h in samples.sample_class(LAB) if h.kind == "broken")
    with pytest.raises(json.JSONDecodeError):
        json.loads(cut)
    assert page.startswith(b"<!DOCTYPE html>")
    cells = json.loads(bare)["cells"]
    assert not any(cell["metadata"] or "id" in cell for cell in cells)
    texts = ["".join(cell["source"]) for cell in cells]
    assert texts.count(next(t for t in texts if "def role_errors" in t)) == 2


def test_it_is_written_as_nbgrader_has_it(tmp_path):
    students = samples.write_sample_class(tmp_path, LAB)
    assert len(students) == 18
    assert {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.ipynb")} == {
        f"{student}/{LAB}/{LAB}.ipynb" for student in students
    }


def test_the_demonstration_has_a_course_of_its_own(tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    from autograder.grading.options import Options

    monkeypatch.setattr(samples, "_FOLDER", tmp_path / "demonstration")
    console = Console(record=True, width=300)
    path, options = samples.demonstration(Options(db="sqlite:///elsewhere.db"), console)
    assert path == options.course / "submitted" and options.course == tmp_path / "demonstration"
    assert (options.labs, options.db) == ((LAB,), None)
    assert (options.course / "solutions" / LAB / f"{LAB}.ipynb").is_file()
    assert "--db is left aside" in console.export_text()
    kept = options.course / "gradebook.db"
    kept.write_text("kept")
    _, again = samples.demonstration(dataclasses.replace(options, labs=("03",)), console)
    assert again.labs == ("03_grounding",) and kept.read_text() == "kept"
    assert not (options.course / "solutions" / LAB).exists()
