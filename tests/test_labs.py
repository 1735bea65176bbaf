"""Every lab, run from top to bottom as a reader would, and what lab 06 must measure on the way."""

import copy
import json

import nbformat
import pytest

from autograder import run
from autograder.labs import POINTS, ROOT, automatic_points, discover, total_points

NOTEBOOKS = {lab.name: nbformat.read(lab.notebook, as_version=4) for lab in discover(ROOT / "solutions")}
LABS = list(NOTEBOOKS)


@pytest.fixture(scope="module")
def results():
    """run.json of one run over all labs: about 15 minutes on 2 idle cores, half of it lab 06."""
    status = run.main([])
    report = json.loads((ROOT / "build" / "run.json").read_text(encoding="utf-8"))["labs"]
    print(json.dumps(report, indent=1))
    return status, report


def test_every_lab_runs_and_gives_its_points(results):
    status, report = results
    assert sorted(report) == LABS
    assert {name: entry["error"] for name, entry in report.items()} == dict.fromkeys(LABS)
    given = {name: entry["points"] for name, entry in report.items()}
    assert given == pytest.approx({name: automatic_points(lab) for name, lab in NOTEBOOKS.items()})
    assert status == 0


def test_points_given_by_hand_and_by_itself_add_up_to_the_table():
    assert {name: total_points(lab) for name, lab in NOTEBOOKS.items()} == pytest.approx(
        {name: POINTS[name[:2]] for name in LABS}
    )
    assert automatic_points(NOTEBOOKS["00_start_here"]) == pytest.approx(1), "one point is for an answer"


def test_the_real_run_turns_rambling_into_grounded_answers(results):
    figures = results[1]["06_qlora"]["figures"]
    assert figures["grounded_before"] < 0.15
    assert figures["grounded_after"] >= 0.98
    assert figures["stop_after"] >= 0.98


def test_the_real_run_takes_the_small_model_as_well(tmp_path):
    """About a minute on 2 idle cores."""
    notebook = copy.deepcopy(NOTEBOOKS["06_qlora"])
    chosen = [cell for cell in notebook.cells if 'MODEL = "smollm2-135m"' in cell.source]
    assert len(chosen) == 1
    chosen[0].source = chosen[0].source.replace('MODEL = "smollm2-135m"', 'MODEL = "nano"')
    folder = tmp_path / "solutions" / "06_qlora"
    folder.mkdir(parents=True)
    nbformat.write(notebook, folder / "06_qlora.ipynb")
    assert run.main([], root=tmp_path) == 0
    entry = json.loads((tmp_path / "build" / "run.json").read_text(encoding="utf-8"))["labs"]["06_qlora"]
    assert entry["points"] == POINTS["06"]
    assert entry["figures"]["stop_before"] < 0.3 < 0.8 <= entry["figures"]["stop_after"]
    assert entry["figures"]["grounded_before"] < 0.05 < entry["figures"]["grounded_after"]
