"""The benchmark of labs 02 and 03: its baseline is right, and what it prints is measured or says so."""

import json
import re
from pathlib import Path

import typer
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import Indel
from typer.testing import CliRunner

from autograder import bench_rows

WORDS = st.lists(st.sampled_from(("a", "b", "c", "d", "e")), max_size=8)


@given(WORDS, WORDS)
def test_the_plain_python_baseline_is_rapidfuzz_in_slow(one: list[str], other: list[str]) -> None:
    expected = Indel.normalized_similarity(one, other)
    assert abs(bench_rows.plain_similarity(one, other) - expected) < 1e-12


def test_generated_rows_are_the_same_for_a_seed_and_broken_lines_are_few() -> None:
    policies = {"a": {"clause": "Within 2 days.", "version": 1}}
    questions = {"a": {"questions": ["When?"], "answers": ["Within 2 days."]}}
    rows = bench_rows.generated_rows(200, policies, questions)
    assert rows == bench_rows.generated_rows(200, policies, questions)
    assert rows != bench_rows.generated_rows(200, policies, questions, seed=7)
    lines = [json.dumps(row) for row in rows]
    assert sum(bench_rows.spoiled(line, at) != line for at, line in enumerate(lines)) == 10


def test_a_small_run_measures_every_step_and_calls_the_extrapolation_one(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(bench_rows.main)
    options = ["--rows", "300", "--megabytes", "1", "--sample", "40", "--data", str(tmp_path / "none")]
    out = tmp_path / "figures.json"
    told = CliRunner().invoke(app, [*options, "--json", str(out)], env={"COLUMNS": "120"})
    assert told.exit_code == 0, told.output
    assert "Same survivors as plain Python on the sample: yes." in told.output
    assert re.search(r"Extrapolated, not measured: all pairs of \d+ rows", told.output)
    assert "that part is left out" in told.output
    figures = json.loads(out.read_text(encoding="utf-8"))
    assert figures["same_survivors"] is True
    steps = [step for step in figures.values() if isinstance(step, dict)]
    assert len(steps) == 6 and all(step["rows"] > 0 and step["seconds"] > 0 for step in steps)
