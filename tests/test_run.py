"""What `run` executes, measures, writes and says."""

import json
import sys
from pathlib import Path

import nbformat
import pytest

from autograder import run
from autograder.labs import Lab, UnknownLab, discover, select
from autograder.run import main


def _add_code(root: Path, lab: str, *sources: str, place: int = 3) -> None:
    path = root / "solutions" / lab / f"{lab}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    for offset, source in enumerate(sources):
        notebook.cells.insert(place + offset, nbformat.v4.new_code_cell(source, id=f"added-{offset}"))
    nbformat.write(notebook, path)


def _results(root: Path) -> dict:
    return json.loads((root / "build" / "run.json").read_text())["labs"]


def test_every_lab_runs_with_its_experiments_and_figures(tiny_course, capsys):
    assert main([], root=tiny_course) == 0
    results = _results(tiny_course)
    assert list(results) == ["90_first", "91_second"]
    first = results["90_first"]
    assert first["passed"] and first["error"] is None and first["seconds"] > 0
    assert first["figures"] == {"steps": 3, "loss": 0.5, "device": "cpu"}
    # Five from tests, one of which warns on stderr; the sixth point of the lab is given by hand.
    assert (first["points"], first["points_possible"]) == (5, 5)
    assert results["91_second"]["figures"] == {"clauses": 2}
    said = capsys.readouterr().out
    assert "OK   90_first" in said and "5 of 5 points" in said and "loss 0.5" in said
    assert not list((tiny_course / "solutions").rglob("experiment-ran.txt"))


def test_the_page_shows_outputs_and_needs_no_other_file(tiny_course):
    assert main(["90"], root=tiny_course) == 0
    page = (tiny_course / "build" / "html" / "90_first.html").read_text()
    assert '<th scope="row" style="text-align:left">loss</th>' in page
    assert "deadline_hours" in page and "<style" in page
    assert 'rel="stylesheet" href=' not in page and "require.min.js" not in page


def test_a_failing_lab_does_not_stop_the_others(tiny_course, capsys):
    _add_code(tiny_course, "90_first", "raise ValueError('the policy\\nis missing')")
    assert main([], root=tiny_course) == 1
    results = _results(tiny_course)
    assert results["90_first"]["error"] == {
        "lab": "90_first",
        "cell": 4,
        "cell_id": "added-0",
        "sentence": "ValueError: the policy",
    }
    assert not results["90_first"]["passed"] and results["90_first"]["points"] == 5
    assert results["91_second"]["passed"]
    said = capsys.readouterr().out
    assert "cell 4 (id added-0): ValueError: the policy" in said
    assert "1 of 2 labs ran without an error" in said
    assert "is missing" in (tiny_course / "build" / "html" / "90_first.html").read_text()


def test_a_test_that_fails_or_gives_part_costs_points(tiny_course):
    _add_code(tiny_course, "90_first", "def deadline_hours(clause):\n    return 0", place=5)
    assert main(["90"], root=tiny_course) == 1
    assert _results(tiny_course)["90_first"]["points"] == 3


def test_a_kernel_that_dies_is_said_and_the_next_lab_runs(tiny_course):
    _add_code(tiny_course, "90_first", "import os", "os._exit(9)")
    assert main([], root=tiny_course) == 1
    results = _results(tiny_course)
    assert results["90_first"]["error"]["cell_id"] == "added-1"
    assert results["90_first"]["error"]["sentence"].startswith("Python itself stopped while this cell ran")
    assert results["91_second"]["passed"]


def test_a_long_cell_is_heard_of_in_a_log_file(tiny_course, capsys, monkeypatch):
    monkeypatch.setattr(run, "HEARTBEAT_SECONDS", 0.5)
    _add_code(tiny_course, "91_second", "import time\ntime.sleep(2)")
    assert main(["91"], root=tiny_course) == 0
    assert "91_second: cell 4 of 8, " in capsys.readouterr().out


def test_another_interpreter_runs_the_notebook(tiny_course, tmp_path):
    wrapper = tmp_path / "python"
    wrapper.write_text(f'#!/bin/sh\nMARK=other exec "{sys.executable}" "$@"\n')
    wrapper.chmod(0o755)
    _add_code(tiny_course, "91_second", "import os\nassert os.environ['MARK'] == 'other'")
    assert main(["91"], python=str(wrapper), root=tiny_course) == 0


@pytest.mark.parametrize("python", ["no-such-python", "false"])
def test_an_interpreter_that_cannot_run_is_one_sentence(tiny_course, capsys, python):
    assert main(["91"], python=python, root=tiny_course) == 2
    assert f" {python}" in capsys.readouterr().out
    assert not (tiny_course / "build").exists()


def test_an_unknown_lab_is_answered_with_a_suggestion(tiny_course, capsys):
    assert main(["secnd"], root=tiny_course) == 2
    assert "There is no lab 'secnd': did you mean 91_second?" in capsys.readouterr().out


LABS = [Lab(name, Path(name)) for name in ("00_start_here", "01_rendering", "06_qlora", "07_serving")]


@pytest.mark.parametrize("name", ["06", "6", "qlora", "06_qlora", "qlo", "06_q", "QLoRA"])
def test_names_of_a_lab(name):
    assert [lab.name for lab in select([name], LABS)] == ["06_qlora"]


def test_several_names_come_in_course_order_once():
    assert [lab.name for lab in select(["7", "start", "07"], LABS)] == ["00_start_here", "07_serving"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("s", "'s' fits 00_start_here and 07_serving: give more of the name."),
        ("loraq", "There is no lab 'loraq': did you mean 06_qlora?"),
        ("rendring", "There is no lab 'rendring': did you mean 01_rendering?"),
        ("9", "There is no lab '9': the labs are 00_start_here, 01_rendering, 06_qlora, 07_serving."),
        ("", "There is no lab ''"),
    ],
)
def test_names_of_no_lab(name, sentence):
    with pytest.raises(UnknownLab) as error:
        select([name], LABS)
    assert str(error.value).startswith(sentence)


def test_only_folders_that_hold_their_notebook_are_labs(tmp_path):
    for name in (
        "02_roles/02_roles.ipynb",
        "01_a/01_a.ipynb",
        "01_a/extra.ipynb",
        "drafts/drafts.ipynb",
        "03_x/y.ipynb",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    assert [lab.name for lab in discover(tmp_path)] == ["01_a", "02_roles"]
