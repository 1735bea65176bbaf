"""The benchmark of the grader, on a class of three, and its arithmetic."""

import json

import pytest

from autograder import bench_grade
from autograder.grading import sandbox
from autograder.labs import ROOT, discover, select


def test_the_class_goes_round_labs_and_kinds():
    labs = select(["00", "02"], discover(ROOT / "solutions"))
    made = bench_grade.simulated_class(labs, 12)
    assert [h.lab for h in made[:4]] == ["00_start_here", "02_roles"] * 2
    assert [h.kind for h in made if h.lab == "02_roles"] == ["right", "blank", "fault"] * 2
    assert len({h.about for h in made if h.lab == "02_roles" and h.kind == "fault"}) == 2
    assert len({(h.student, h.lab) for h in made}) == 12


def test_own_compute_is_taken_off_once_for_each_worker():
    row = bench_grade.LabFigures(
        lab="x", submissions=10, workers=2, seconds=10.0, judging=9.0, compute=12.0, stock_submissions=5
    )
    row.stock_seconds = 50.0
    assert row.overhead == pytest.approx(0.4)  # 1 s of wall time a submission, 0.6 of them its own compute
    assert row.on_worker == pytest.approx(0.6)
    assert row.stock_overhead == pytest.approx(8.8)
    assert row.share == pytest.approx(0.6)
    bench = bench_grade.Bench([row], {"warm up": 20.0}, 2.0, [], [])
    assert bench.minutes(300) == pytest.approx((20 + 300) / 60)
    assert bench.stock_minutes(300) == pytest.approx((2 + 3000) / 60)


def test_the_wait_for_a_labs_last_submission_is_counted_once_a_class():
    row = bench_grade.LabFigures(
        lab="x", submissions=10, workers=2, seconds=10.0, judging=9.0, idle=2.0, compute=12.0
    )
    assert row.overhead == pytest.approx(0.3) and row.on_worker == pytest.approx(0.4)
    bench = bench_grade.Bench([row], {"warm up": 20.0}, 2.0, [], [])
    assert bench.minutes(300) == pytest.approx((20 + 300 * 0.9 + 1) / 60)
    assert row.per_minute == pytest.approx(60)


@pytest.mark.slow
def test_both_graders_agree_on_a_right_and_a_blank_copy(tmp_path, capsys):
    try:
        sandbox.require()
    except sandbox.NoSandbox as why:
        pytest.skip(str(why))
    out = tmp_path / "bench.json"
    assert bench_grade.main(3, ("02",), out=out) == 0
    said = capsys.readouterr().out
    figures = json.loads(out.read_text(encoding="utf-8"))
    (row,) = figures["labs"]
    assert (row["submissions"], row["stock_submissions"]) == (3, 3)
    assert figures["wrong"] == [] and "the same points from both" in said
    assert row["ratio"] > 1 and 0 < row["own_compute_share"] <= 1
    assert row["stock_overhead_a_submission"] > row["overhead_a_submission"] > 0
    assert 5e7 < row["memory"] < 16e9 and 5e7 < row["stock_memory"] < 16e9
    assert figures["projected"]["students"] == 300
