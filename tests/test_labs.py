"""Every lab, run from top to bottom as a reader would, and what lab 06 must measure on the way."""

import json

import pytest

from autograder import run
from autograder.labs import POINTS, ROOT, discover

LABS = [lab.name for lab in discover(ROOT / "solutions")]


@pytest.fixture(scope="module")
def results():
    """run.json of one run over all labs: about 5 minutes on 2 idle cores, most of it lab 06's training."""
    status = run.main([])
    report = json.loads((ROOT / "build" / "run.json").read_text(encoding="utf-8"))["labs"]
    print(json.dumps(report, indent=1))
    return status, report


def test_every_lab_runs_and_gives_its_points(results):
    status, report = results
    assert sorted(report) == LABS
    assert {name: entry["error"] for name, entry in report.items()} == dict.fromkeys(LABS)
    assert {name: entry["points_possible"] for name, entry in report.items()} == {
        name: POINTS[name[:2]] for name in LABS
    }
    assert status == 0


def test_the_real_run_turns_rambling_into_grounded_answers(results):
    figures = results[1]["06_qlora"]["figures"]
    assert figures["grounded_before"] < 0.15
    assert figures["grounded_after"] >= 0.98
    assert figures["stop_after"] >= 0.98
