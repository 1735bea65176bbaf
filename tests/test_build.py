"""What `build` writes, what `build --check` says, and what it never touches."""

import json
from pathlib import Path

import nbformat
import pytest

from autograder.build import main
from autograder.notebook_lint import lint


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _edit(path: Path, **changes: str) -> None:
    """Replace the text of cells, found by their ids."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.source = changes.get(cell.id.replace("-", "_"), cell.source)
    nbformat.write(notebook, path)


def test_the_release_has_no_answer_and_no_hidden_test(tiny_course):
    assert main(root=tiny_course) == 0
    path = tiny_course / "notebooks" / "90_first" / "90_first.ipynb"
    text = path.read_text()
    assert 'raise NotImplementedError(\\"Replace this line with your answer.\\")' in text
    assert "no hours are named" not in text and "re.search" not in text
    notebook = nbformat.read(path, as_version=4)
    assert lint(notebook, "90_first", "the-chat-contract/tiny-course") == []
    locked = [cell.id for cell in notebook.cells if cell.metadata.get("editable") is False]
    assert locked == ["deadline-visible", "deadline-hidden"]
    assert (tiny_course / "notebooks" / "91_second" / "clauses.txt").is_file()


def test_two_builds_give_the_same_bytes_and_touch_no_gradebook(tiny_course):
    assert main(root=tiny_course) == 0
    first = _files(tiny_course)
    assert main(root=tiny_course) == 0
    assert _files(tiny_course) == first
    assert not any("gradebook" in name for name in first)


def test_check_names_stale_missing_and_extra_files_and_changes_nothing(tiny_course, capsys):
    assert main(root=tiny_course) == 0
    released = tiny_course / "notebooks"
    _edit(released / "90_first" / "90_first.ipynb", title="# Edited by hand")
    (released / "91_second" / "clauses.txt").unlink()
    (released / "80_gone").mkdir()
    (released / "80_gone" / "80_gone.ipynb").write_text("{}")
    (released / "90_first" / ".ipynb_checkpoints").mkdir()
    (released / "90_first" / ".ipynb_checkpoints" / "90_first.ipynb").write_text("{}")
    before = _files(tiny_course)
    capsys.readouterr()
    assert main(check=True, root=tiny_course) == 1
    said = capsys.readouterr().out
    assert "stale notebooks/90_first/90_first.ipynb" in said
    assert "missing notebooks/91_second/clauses.txt" in said
    assert "extra notebooks/80_gone/80_gone.ipynb" in said
    assert "checkpoints" not in said and "91_second.ipynb" not in said
    assert _files(tiny_course) == before

    assert main(root=tiny_course) == 0
    assert main(check=True, root=tiny_course) == 0
    assert not (released / "80_gone").exists()
    kept = tiny_course / "build" / "replaced" / "90_first" / "90_first.ipynb"
    assert "# Edited by hand" in kept.read_text()


def test_a_run_solution_is_tidied(tiny_course, capsys):
    path = tiny_course / "solutions" / "91_second" / "91_second.ipynb"
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    code[0].source = "an old bootstrap"
    code[1].execution_count = 3
    code[1].outputs = [nbformat.v4.new_output("stream", text="shown")]
    code[1].metadata["execution"] = {"iopub.execute_input": "2026-01-01T00:00:00Z"}
    notebook.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": {}}}
    notebook.cells[0].source = "[badge of another repository](https://example.org)"
    nbformat.write(notebook, path)

    assert main(check=True, root=tiny_course) == 1
    said = capsys.readouterr().out
    for part in ("Colab badge", "bootstrap cell", "notebook metadata", "cell metadata", "outputs"):
        assert f"91_second: '{part}' is not as it is kept" in said
    assert main(root=tiny_course) == 0
    assert main(check=True, root=tiny_course) == 0
    text = path.read_text()
    assert "shown" not in text and "widgets" not in text and "an old bootstrap" not in text
    ids = [cell["id"] for cell in json.loads(text)["cells"]]
    assert ids == ["open-in-colab", "title", "bootstrap", "read", "count", "count-visible", "measured"]


def test_the_repository_setting_reaches_every_badge_and_bootstrap(tiny_course):
    (tiny_course / "pyproject.toml").write_text('[tool.chatcontract]\nrepository = "someone/a-fork"\n')
    assert main(root=tiny_course) == 0
    for path in tiny_course.glob("*/*/*.ipynb"):
        name = path.stem
        text = path.read_text()
        assert f"/github/someone/a-fork/blob/main/notebooks/{name}/{name}.ipynb" in text
        assert "https://github.com/someone/a-fork" in text
        assert "tiny-course" not in text


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        ({"count": "### BEGIN SOLUTION\ncount_clauses = len"}, "No end solution statement found"),
        ({"read": "from pathlib import *"}, "'from pathlib import *' hides where names come from"),
        ({"read": "clauses = ("}, "it is not valid Python"),
    ],
)
def test_a_broken_lab_is_named_and_nothing_is_written(tiny_course, capsys, damage, sentence):
    assert main(root=tiny_course) == 0
    _edit(tiny_course / "solutions" / "91_second" / "91_second.ipynb", **damage)
    _edit(tiny_course / "solutions" / "90_first" / "90_first.ipynb", title="# A better title")
    before = _files(tiny_course)
    capsys.readouterr()
    assert main(root=tiny_course) == 1
    said = capsys.readouterr().out
    assert "91_second" in said and sentence.lower() in said.lower()
    assert _files(tiny_course) == before


def test_an_unreadable_lab_is_one_sentence(tiny_course, capsys):
    (tiny_course / "solutions" / "91_second" / "91_second.ipynb").write_text("<html>")
    assert main(root=tiny_course) == 1
    assert "91_second.ipynb is not a notebook that can be read" in capsys.readouterr().out


def test_a_wrong_repository_setting_is_one_sentence(tiny_course, capsys):
    (tiny_course / "pyproject.toml").write_text("[tool.chatcontract]\n")
    assert main(root=tiny_course) == 1
    assert "[tool.chatcontract] repository is ''; write it as owner/name" in capsys.readouterr().out
