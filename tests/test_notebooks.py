"""Every notebook of the course keeps to the rules, and each rule finds what it is there for."""

import copy
from typing import Any

import nbformat
import pytest
from nbformat import NotebookNode

from autograder.bootstrap import repository
from autograder.build import main as build
from autograder.labs import POINTS, ROOT, discover
from autograder.notebook_lint import lint, lint_points
from autograder.tidy import tidy

LABS = discover(ROOT / "solutions")
TINY = ROOT / "tests" / "fixtures" / "tiny_course" / "solutions" / "90_first" / "90_first.ipynb"


@pytest.mark.parametrize("lab", LABS, ids=lambda lab: lab.name)
def test_solutions_keep_to_the_rules(lab):
    notebook = nbformat.read(lab.notebook, as_version=4)
    assert lint(notebook, lab.name, repository(ROOT)) + lint_points(notebook, lab.name) == []


@pytest.mark.parametrize("lab", discover(ROOT / "notebooks"), ids=lambda lab: lab.name)
def test_released_notebooks_keep_to_the_rules_and_hold_no_answer(lab):
    notebook = nbformat.read(lab.notebook, as_version=4)
    assert lint(notebook, lab.name, repository(ROOT)) == []
    text = lab.notebook.read_text(encoding="utf-8")
    for marker in ("BEGIN SOLUTION", "END SOLUTION", "BEGIN HIDDEN TESTS", "END HIDDEN TESTS"):
        assert marker not in text


def test_the_release_is_what_the_solutions_give():
    if not LABS:
        pytest.skip("there is no lab yet")
    assert build(check=True) == 0


def test_the_table_of_points_adds_up_to_100():
    assert sum(POINTS.values()) == 100


def _tiny() -> NotebookNode:
    """The tiny lab as `build` keeps it."""
    notebook = nbformat.read(TINY, as_version=4)
    tidy(notebook, "90_first", "the-chat-contract/tiny-course")
    return notebook


def _problems(cell_id: str, source: str | None = None, **metadata: Any) -> list[str]:
    """What the lint says about the tiny lab with one cell changed."""
    notebook = _tiny()
    cell = next(cell for cell in notebook.cells if cell.id == cell_id)
    cell.source = cell.source if source is None else source
    cell.metadata.update(metadata)
    return lint(notebook, "90_first", "the-chat-contract/tiny-course")


def _nbgrader(cell_id: str, **changes: Any) -> dict:
    notebook = _tiny()
    (settings,) = [cell.metadata["nbgrader"] for cell in notebook.cells if cell.id == cell_id]
    return dict(copy.deepcopy(settings), **changes)


def test_the_tiny_lab_is_clean():
    assert _problems("title") == []


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("from re import *", "'from re import *' hides where names come from; import what is used."),
        (
            "open('/home/me/rows.jsonl')",
            "the absolute path in '/home/me/rows.jsonl' exists on one machine only.",
        ),
        (r"open('C:\\Users\\me\\rows.jsonl')", "exists on one machine only."),
        ("f'/content/{name}'", "the absolute path in '/content/' exists on one machine only."),
        (
            "!pip install trl",
            "the shell line '!pip install trl' does not run everywhere; call Python instead.",
        ),
        ("files = !ls", "the shell line '!ls' does not run everywhere"),
        ("%load_ext rich", "the magic '%load_ext' is not one of capture, matplotlib, time, timeit."),
        ("%%bash\nls", "the magic '%bash' is not one of"),
        ("\n".join(["x = 1"] * 41), "it has 41 lines of code, the limit is 40."),
        ("x = (", "it is not valid Python: '(' was never closed in line 1."),
    ],
)
def test_code_that_runs_on_one_machine_only_is_found(source, sentence):
    (problem,) = _problems("imports", source)
    assert problem.startswith("90_first: cell 4 (id imports): ") and sentence in problem


@pytest.mark.parametrize(
    "source",
    [
        "%%time\nx = 1",
        "%matplotlib inline",
        "url = '/v1/chat/completions'",
        "x = 3  # see /etc",
        "text = 'a/b'",
    ],
)
def test_code_that_runs_everywhere_is_not(source):
    assert _problems("imports", source) == []


@pytest.mark.parametrize(
    ("cell_id", "change", "sentence"),
    [
        ("imports", {"tags": ["slow"]}, "the tag 'slow' is not one of experiment, raises-exception, server."),
        ("deadline", {"tags": ["experiment"]}, "a cell that nbgrader scores cannot be tagged"),
        ("deadline", {"source": "def deadline_hours(clause): ..."}, "needs ### BEGIN SOLUTION"),
        ("deadline-visible", {"source": "deadline_hours('48 hours')"}, "reads its last value as the score"),
        ("deadline-hidden", {"nbgrader": _nbgrader("deadline-hidden", points=0)}, "worth more than 0 points"),
        (
            "deadline-hidden",
            {"nbgrader": _nbgrader("deadline-hidden", grade_id="deadline")},
            "nbgrader refuses its cell metadata: Duplicate grade id: deadline",
        ),
        (
            "deadline-hidden",
            {"nbgrader": _nbgrader("deadline-hidden", schema_version=2)},
            "nbgrader refuses its cell metadata: Outdated schema version: 2 (expected 3)",
        ),
        ("title", {"collapsed": True}, "'cell metadata' is not as it is kept in the repository"),
        ("bootstrap", {"source": "import chatcontract"}, "'bootstrap cell' is not as it is kept"),
    ],
)
def test_cells_that_would_grade_wrongly_are_found(cell_id, change, sentence):
    problems = _problems(cell_id, **change)
    assert any(sentence in problem for problem in problems), problems


@pytest.mark.parametrize(
    "verdict", ["check(deadline_hours)", "judge(deadline_hours)", "assert deadline_hours"]
)
def test_a_test_cell_may_end_with_a_verdict(verdict):
    assert _problems("deadline-visible", verdict) == []


def test_two_cells_with_one_id_are_found():
    notebook = _tiny()
    notebook.cells[-1].id = notebook.cells[-2].id
    assert "90_first: 2 cell(s) have the same id experiment." in lint(
        notebook, "90_first", "the-chat-contract/tiny-course"
    )


def test_points_that_are_not_the_tables_are_found():
    notebook = _tiny()
    assert lint_points(notebook, "00_start_here") == [
        "00_start_here: its graded cells add up to 6 points, the table says 2."
    ]
    assert "no points are planned for lab 90" in lint_points(notebook, "90_first")[0]
