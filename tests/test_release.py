"""The student's bundle: everything to work with, nothing that gives an answer or a case away."""

import inspect
import json
import os
import re
import shutil
import subprocess
import sys

import nbformat
import pytest

from autograder.checks.reference import notebook
from autograder.checks.registry import exercises
from autograder.faults.registry import faults_of
from autograder.labs import ROOT, discover
from autograder.release import MANIFEST, ReleaseError, write_release


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    out = tmp_path_factory.mktemp("release") / "course"
    write_release(out)
    return out


def test_it_holds_every_lab_and_no_instructors_file(bundle):
    labs = {path.parent.name for path in bundle.glob("notebooks/*/*.ipynb")}
    assert labs == {lab.name for lab in discover(ROOT / "solutions")}
    names = {path.name for path in bundle.iterdir()}
    assert not names & {"solutions", "autograder", "tests", "secrets", "gradebook.db", "nbgrader_config.py"}
    assert not [p for p in bundle.rglob("*") if p.name == "__pycache__" or p.suffix in (".seed", ".db")]


def test_no_notebook_holds_an_answer_or_a_hidden_test(bundle):
    for path in bundle.glob("notebooks/*/*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            assert not re.search(r"BEGIN (SOLUTION|HIDDEN TESTS)|autograder|judge\(", cell.source), cell.id


def test_no_file_holds_a_line_of_a_reference_answer_or_of_a_fault(bundle):
    text = "\n".join(
        path.read_text(encoding="utf-8")
        for path in sorted(bundle.rglob("*"))
        if path.suffix in (".py", ".ipynb", ".json", ".md", ".jsonl", ".yaml") and path.is_file()
    )
    flat = "".join(text.replace("\\n", "").replace('\\"', '"').split())
    for exercise in exercises().values():
        bodies = {exercise.name: _solution_of(exercise.lab, exercise.name)}
        bodies |= {fault.id: _body_of(fault.run) for fault in faults_of(exercise.name)}
        assert bodies[exercise.name].strip()
        for name, body in bodies.items():
            for line in _telling_lines(body):
                assert line not in flat, f"{name}: {line}"


def _solution_of(lab, name):
    cell = next(c for c in notebook(lab).cells if f"def {name}(" in c.source and "BEGIN SOLUTION" in c.source)
    return cell.source.partition("### BEGIN SOLUTION")[2].partition("### END SOLUTION")[0]


def _body_of(run):
    return inspect.getsource(run).split("\n)\n", 1)[-1].partition("\n")[2]


def _telling_lines(source):
    """Lines long enough to give an answer away, without white space; the words of a refusal are no answer."""
    lines = ("".join(line.split()) for line in source.splitlines())
    return [line for line in lines if len(line) > 60 and not line.startswith("raise")]


def test_a_student_can_check_an_answer_with_the_bundle_alone(bundle, tmp_path):
    code = (
        "from chatcontract.check import check\n"
        "import chatcontract; print(chatcontract.__file__)\n"
        "def render_chatml(messages, add_generation_prompt=False, continue_final_message=False):\n"
        "    return ''\n"
        "try: check(render_chatml)\n"
        "except AssertionError as failed: print(failed)\n"
        "import importlib.util; print(importlib.util.find_spec('autograder'))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = [{str(bundle)!r}]\n{code}"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if "site-packages" in p)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert str(bundle) in done.stdout.splitlines()[0]
    assert "cases failed" in done.stdout and done.stdout.splitlines()[-1] == "None"


def test_the_manifest_names_every_file_with_its_hash(bundle):
    manifest = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
    there = {p.relative_to(bundle).as_posix() for p in bundle.rglob("*") if p.is_file()} - {MANIFEST}
    assert set(manifest["files"]) == there and manifest["version"]


def test_an_earlier_release_is_replaced_and_anything_else_is_left_alone(bundle, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(bundle, again)
    (again / "course.py").write_text("old")
    write_release(again)
    assert (again / "course.py").read_bytes() == (ROOT / "course.py").read_bytes()
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter.txt").write_text("keep me")
    with pytest.raises(ReleaseError, match="not a release"):
        write_release(other)
    assert (other / "chapter.txt").read_text() == "keep me"
    with pytest.raises(ReleaseError, match="part of the course itself"):
        write_release(ROOT / "notebooks" / "bundle")
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
