"""nbgrader's own commands on the course, and what its parts of JupyterLab ask its server."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import pytest
from graded_results import course_at, ungraded
from nbformat.v4 import new_code_cell
from nbgrader.api import Gradebook
from sandboxed import needs_sandbox
from solved_copies import LABS, solved_copy

from autograder.build import main as build
from autograder.checks.seeds import class_seed
from autograder.grading.gradebook import write_results
from autograder.grading.model import Status
from autograder.grading.preprocessor import NotJudged, judged_lab
from autograder.labs import ROOT, automatic_points, discover

Notebook = dict[str, Any]
pytestmark = pytest.mark.slow
STOCK = "nbgrader.preprocessors.Execute"
REAL_LABS = [lab.name for lab in discover(ROOT / "solutions")]


def _nbgrader_done(course: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run nbgrader as a user does, from the course's root and with no environment activated."""
    return subprocess.run(
        [sys.executable, "-m", "nbgrader", *arguments],
        cwd=course,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


def _nbgrader(course: Path, *arguments: str) -> str:
    done = _nbgrader_done(course, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def _submit(course: Path, lab: str) -> None:
    """Hand in the release as it is, and the release with every answer filled in."""
    released = course / "notebooks" / lab
    for student in ("blank", "solved"):
        shutil.copytree(released, course / "submitted" / student / lab)
    source = nbformat.read(course / "solutions" / lab / f"{lab}.ipynb", as_version=4)
    answers = {cell.id: cell.source for cell in source.cells}
    path = course / "submitted" / "solved" / lab / f"{lab}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.metadata.get("nbgrader", {}).get("solution"):
            cell.source = answers[cell.id]
    nbformat.write(notebook, path)


def _scores(course: Path, lab: str) -> dict[str, float]:
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}", "chat-contract") as gradebook:
        return {
            submission.student.id: sum(
                grade.auto_score or 0 for notebook in submission.notebooks for grade in notebook.grades
            )
            for submission in gradebook.assignment_submissions(lab)
        }


def _grade(course: Path, lab: str) -> None:
    _nbgrader(course, "generate_assignment", lab, "--force")
    _submit(course, lab)
    _nbgrader(course, "autograde", lab)


def _validate(course: Path, student: str, lab: str) -> str:
    return _nbgrader(course, "validate", f"submitted/{student}/{lab}/{lab}.ipynb")


def _possible(course: Path, lab: str) -> float:
    return automatic_points(nbformat.read(course / "solutions" / lab / f"{lab}.ipynb", as_version=4))


def test_a_solved_copy_gets_every_point_and_a_blank_one_none(tiny_course):
    _grade(tiny_course, "90_first")
    assert _scores(tiny_course, "90_first") == {"blank": 0, "solved": 5}
    with Gradebook(f"sqlite:///{tiny_course / 'gradebook.db'}", "chat-contract") as gradebook:
        answer = gradebook.find_grade("reason", "90_first", "90_first", "solved")
        assert answer.needs_manual_grade and answer.auto_score is None and answer.max_score == 1
        assert not gradebook.find_grade("reason", "90_first", "90_first", "blank").needs_manual_grade
    assert not list((tiny_course / "autograded").rglob("experiment-ran.txt"))

    _nbgrader(tiny_course, "generate_feedback", "90_first")
    page = (tiny_course / "feedback" / "blank" / "90_first" / "90_first.html").read_text()
    assert "Replace this line with your answer." in page


def test_generate_assignment_writes_what_build_writes(tiny_course):
    assert build(root=tiny_course) == 0
    built = (tiny_course / "notebooks" / "90_first" / "90_first.ipynb").read_bytes()
    _nbgrader(tiny_course, "generate_assignment", "90_first", "--force")
    assert (tiny_course / "notebooks" / "90_first" / "90_first.ipynb").read_bytes() == built


def test_a_tag_cannot_keep_a_test_from_running(tiny_course):
    _nbgrader(tiny_course, "generate_assignment", "90_first")
    _submit(tiny_course, "90_first")
    path = tiny_course / "submitted" / "blank" / "90_first" / "90_first.ipynb"
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.metadata["tags"] = ["experiment", "skip-execution"]
    nbformat.write(notebook, path)
    _nbgrader(tiny_course, "autograde", "90_first")
    assert _scores(tiny_course, "90_first")["blank"] == 0


def test_validate_judges_a_copy_without_running_its_experiments(tiny_course):
    assert build(root=tiny_course) == 0
    for lab in ("90_first", "91_second"):
        _submit(tiny_course, lab)
    said = _validate(tiny_course, "solved", "91_second")
    assert "Success! Your notebook passes all the tests." in said
    assert "VALIDATION FAILED ON 1 CELL(S)!" in _validate(tiny_course, "blank", "91_second")
    # The cell that warns on stderr counts as failed here, though not in autograde: see nbgrader_config.py.
    assert "VALIDATION FAILED ON 1 CELL(S)!" in _validate(tiny_course, "solved", "90_first")
    assert not list((tiny_course / "submitted").rglob("experiment-ran.txt"))


@needs_sandbox
def test_the_commands_grade_a_lab_of_the_course(tmp_path):
    """One lab, as each command is a process that has to warm up; the formgrader grades them all below."""
    course, lab = course_at(tmp_path / "course", ["01_rendering"]), "01_rendering"
    _grade(course, lab)
    assert _scores(course, lab) == {"blank": 0, "solved": _possible(course, lab)}
    assert "VALIDATION FAILED" in _validate(course, "blank", lab)
    assert "Success! Your notebook passes all the tests." in _validate(course, "solved", lab)


def _with_stock_execute(course: Path) -> None:
    """Let nbgrader repair and execute submissions itself, hidden tests included."""
    settings = course / "nbgrader_config.py"
    text = settings.read_text()
    assert text.count("autograder.grading.preprocessor.JudgedExecute") == 1
    text = text.replace("autograder.grading.preprocessor.JudgedExecute", STOCK)
    settings.write_text(f"{text}\ndel c.Autograde['sanitize_preprocessors']\n")


def test_hidden_tests_give_the_same_points_where_nbgrader_executes_them(tmp_path):
    course, lab = tmp_path / "course", "02_roles"
    shutil.copytree(ROOT / "solutions" / lab, course / "solutions" / lab)
    shutil.copy(ROOT / "nbgrader_config.py", course)
    _with_stock_execute(course)
    _grade(course, lab)
    assert _scores(course, lab) == {"blank": 0, "solved": _possible(course, lab)}


@needs_sandbox
def test_a_line_that_makes_every_test_pass_in_stock_nbgrader_earns_nothing_here(tmp_path):
    """An input transformer that drops every assert and check; stock nbgrader gives it full marks."""
    trick = """
def _nothing_fails(lines):
    text = "".join(lines)
    return [] if "judge(" in text or "check(" in text else lines
get_ipython().input_transformers_post.append(_nothing_fails)
"""
    lab, scores = "02_roles", {}
    for name in ("stock", "ours"):
        course = tmp_path / name
        shutil.copytree(ROOT / "solutions" / lab, course / "solutions" / lab)
        shutil.copy(ROOT / "nbgrader_config.py", course)
        if name == "stock":
            _with_stock_execute(course)
        _nbgrader(course, "generate_assignment", lab, "--force")
        shutil.copytree(course / "notebooks" / lab, course / "submitted" / "trickster" / lab)
        path = course / "submitted" / "trickster" / lab / f"{lab}.ipynb"
        notebook = nbformat.read(path, as_version=4)
        next(c for c in notebook.cells if c.cell_type == "code").source += trick
        nbformat.write(notebook, path)
        _nbgrader(course, "autograde", lab)
        scores[name] = _scores(course, lab)["trickster"]
    assert scores == {"stock": _possible(tmp_path / "ours", lab), "ours": 0}


LAB = LABS["02_roles"]


def _without_settings(notebook: Notebook) -> None:
    """A copy such as Colab can give."""
    for number, cell in enumerate(notebook["cells"]):
        cell["metadata"], cell["id"] = {}, f"c{number}"


def _without_tests_but_with_data(notebook: Notebook) -> None:
    notebook["cells"] = [c for c in notebook["cells"] if not c["metadata"].get("nbgrader", {}).get("grade")]
    for cell in notebook["cells"]:
        if cell["metadata"].get("nbgrader", {}).get("solution"):
            cell["source"] = "open('mine.csv').read()\n" + cell["source"]


def _with_tangled_settings(notebook: Notebook) -> None:
    """A cell twice, or of another version, stops the class in stock nbgrader."""
    tests = [c for c in notebook["cells"] if c["metadata"].get("nbgrader", {}).get("grade")]
    for cell in tests:
        cell["metadata"]["nbgrader"]["grade"] = False
    notebook["cells"].append({**tests[0], "id": "again"})
    tests[1]["metadata"]["nbgrader"]["schema_version"] = 1


def _of_another_course(notebook: Notebook) -> None:
    notebook["cells"].clear()


WHOLE: dict[str, Callable[[Notebook], None]] = {
    "bare": _without_settings,
    "tangled": _with_tangled_settings,
    "testless": _without_tests_but_with_data,
}


@needs_sandbox
def test_no_hand_in_of_a_lab_runs_outside_the_sandbox_or_stops_the_class(tmp_path):
    course, marker = course_at(tmp_path / "course", [LAB.name]), tmp_path / "ran-outside.txt"
    write_results([ungraded("nobody", Status.MISSING, "")], course=course)
    for student, change in {**WHOLE, "afar": _of_another_course}.items():
        notebook = solved_copy(LAB)
        change(notebook)
        source = f"open({str(marker)!r}, 'w').write('')"
        notebook["cells"].append(new_code_cell(source, id="mark"))
        folder = course / "submitted" / student / LAB.name
        folder.mkdir(parents=True)
        (folder / "mine.csv").write_text("a,b")
        (folder / f"{LAB.name}.ipynb").write_text(json.dumps(notebook))
    done = _nbgrader_done(course, "autograde", LAB.name)
    said = done.stdout + done.stderr
    assert not marker.exists()
    assert _scores(course, LAB.name) == {"afar": 0, **dict.fromkeys(WHOLE, _possible(course, LAB.name))}, said
    # One student is refused in a sentence; nothing is stored for that one.
    assert done.returncode == 1 and said.count("There was an error processing assignment '") == 1
    assert "afar, 02_roles: needs_human. None of the cells of 02_roles was found" in said
    assert not (course / "autograded" / "afar" / LAB.name).exists()
    # The private cases came from a secret, as they do from the first `course.py grade` on.
    assert class_seed(course).is_secret and "Wrote the class's secret to" in said


def test_who_gives_the_points_of_a_lab_is_asked_of_the_course(tmp_path, tiny_course):
    assert judged_lab("90_first", tiny_course) is None and judged_lab("95_none", tiny_course) is None
    course = course_at(tmp_path / "mixed", [LAB.name])
    assert judged_lab(LAB.name, course) is not None
    path = course / "solutions" / LAB.name / f"{LAB.name}.ipynb"
    path.write_text(path.read_text().replace('"repair-hidden"', '"repair-of-my-own"'))
    with pytest.raises(NotJudged, match="tests that the judge knows and tests that it does not"):
        judged_lab(LAB.name, course)


def test_class_data_stays_out_of_version_control():
    for name in ("gradebook.db", "submitted/a/b.ipynb", "autograded/a/b.ipynb", "feedback/a/b.html"):
        ignored = subprocess.run(["git", "-C", str(ROOT), "check-ignore", "--quiet", name])
        assert ignored.returncode == 0, f".gitignore lets {name} in"


@contextmanager
def _server(course: Path) -> Iterator[str]:
    """A Jupyter server on the course with the extensions that nbgrader installs; the URL it answers on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port, log = probe.getsockname()[1], course / "server.log"
    options = [f"--port={port}", "--no-browser", "--allow-root", "--IdentityProvider.token="]
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyter_server", *options, "--ServerApp.disable_check_xsrf=True"],
            cwd=course,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=output,
            stderr=output,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{url}/api", timeout=2).read()
                break
            except OSError:
                assert process.poll() is None, log.read_text()
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(20)


def _ask(url: str, **data: str) -> Any:
    body = json.dumps(data).encode() if data else None
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def _assign_and_autograde(url: str, course: Path, lab: str) -> dict[str, float]:
    """Press the formgrader's Generate and Autograde buttons; the scores of a blank and a solved copy."""
    made = _ask(f"{url}/formgrader/api/assignment/{lab}/assign", any="thing")
    assert made["success"], made
    _submit(course, lab)
    for student in ("blank", "solved"):
        graded = _ask(f"{url}/formgrader/api/submission/{lab}/{student}/autograde", any="thing")
        assert graded["success"], graded
    return _scores(course, lab)


def test_the_formgrader_and_the_validate_button_find_the_course(tiny_course):
    with _server(tiny_course) as url:
        listed = _ask(f"{url}/formgrader/api/assignments")
        assert [(lab["name"], lab["source_path"]) for lab in listed] == [
            ("90_first", "solutions/90_first"),
            ("91_second", "solutions/91_second"),
        ]
        assert _assign_and_autograde(url, tiny_course, "91_second") == {"blank": 0, "solved": 4}
        checked = _ask(f"{url}/assignments/validate", path="notebooks/91_second/91_second.ipynb")
        assert checked["success"] and len(checked["value"]["failed"]) == 1


@needs_sandbox
def test_the_formgraders_buttons_grade_every_lab_of_the_course(tmp_path):
    course = course_at(tmp_path / "course", REAL_LABS)
    with _server(course) as url:
        scores = {lab: _assign_and_autograde(url, course, lab) for lab in REAL_LABS}
    assert scores == {lab: {"blank": 0, "solved": _possible(course, lab)} for lab in REAL_LABS}
