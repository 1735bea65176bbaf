"""The catalogue proves itself: faults are caught and named, and right answers accepted."""

import json
import os
import random
import subprocess
import sys

import pytest

from autograder.checks import judge
from autograder.checks.hidden_cell import judge as hidden_judge
from autograder.checks.judging import judge_answers, private_cases
from autograder.checks.reference import reference
from autograder.checks.registry import UnknownExercise, exercise_named, exercises
from autograder.checks.seeds import ENVIRONMENT, BadSeed, class_seed, create, throwaway
from autograder.faults import show
from autograder.faults.matrix import matrix
from autograder.faults.registry import all_faults, alternatives_of, faults_of
from autograder.labs import ROOT, discover
from chatcontract.check.compare import agrees
from chatcontract.check.diagnosis import ask_function
from chatcontract.check.outcome import call

NAMES = list(exercises())


@pytest.mark.parametrize("name", NAMES)
def test_every_fault_is_caught_and_named_and_no_right_answer_refused(name):
    (row,) = matrix([name])
    assert row.holes == []
    assert len(row.faults) >= 3 and len(row.alternatives) >= 3


@pytest.mark.parametrize("name", NAMES)
def test_another_class_with_another_seed_catches_the_same_faults(name):
    for number in (1, 2, 3):
        (row,) = matrix([name], throwaway(number))
        assert row.holes == []


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_and_the_alternatives_score_full_marks_under_200_seeds(name):
    exercise = exercise_named(name)
    answer = reference(exercise.lab, name)
    others = alternatives_of(name)
    for number in range(200):
        other = others[number % len(others)]
        cases = exercise.private(throwaway(number).generator(exercise.lab, name))
        assert {case.property for case in cases} == set(exercise.properties)
        for case in cases:
            expected = call(answer, case.arguments)
            assert not expected.trouble, (number, case)
            got = call(other.run, case.arguments, repeat=False)
            assert agrees(expected, got, case.says, exercise.tolerance), (number, other.style, case, got)
            if expected.raised:
                assert agrees(expected, expected, case.says), f"the reference's own words miss {case.says}"


@pytest.mark.parametrize("name", NAMES)
def test_the_cases_of_a_class_are_the_same_every_time_and_others_for_another_class(name):
    exercise = exercise_named(name)
    drawn = [exercise.private(throwaway(n).generator(exercise.lab, name)) for n in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_private_cases_are_not_the_public_ones():
    for exercise in exercises().values():
        public = [json.dumps(case.arguments, sort_keys=True) for case in exercise.public]
        private = exercise.private(random.Random("another"))
        fresh = [c for c in private if json.dumps(c.arguments, sort_keys=True) not in public]
        assert len(fresh) >= len(private) / 2, exercise.name


def test_every_fault_says_where_it_happened_or_that_it_was_measured_here():
    for fault in all_faults():
        assert "https://" in fault.citation or "here" in fault.citation.lower(), fault.id
        for words in (fault.title, fault.symptom, fault.first_check, fault.consequence):
            assert len(words) > 10, fault.id


def test_a_faults_experiment_is_one_that_the_course_can_run():
    from chatcontract.experiments import EXPERIMENTS

    assert {f.experiment for f in all_faults() if f.experiment} <= set(EXPERIMENTS)


@pytest.mark.parametrize("lab", sorted({exercise.lab for exercise in exercises().values()}))
def test_each_lab_has_a_catalogue_worth_the_name(lab):
    faults = [f for e in exercises().values() if e.lab == lab for f in faults_of(e.name)]
    assert len(faults) >= {"00_start_here": 3, "01_rendering": 12, "05_packing": 8}.get(lab, 10)
    assert sum("https://" in f.citation for f in faults) >= len(faults) / 2


# judge


def test_partial_credit_goes_by_property_and_the_words_give_no_case_away(capsys):
    fault = next(f for f in faults_of("render_chatml") if f.id == "chatml.customer_continued")
    exercise = exercise_named("render_chatml")
    private = private_cases(exercise, throwaway())
    verdict = judge_answers(private, ask_function(fault.run, 5))
    assert 0 < verdict.points < verdict.possible == 3
    failed = [p.name for p in verdict.properties if p.passed < p.cases]
    assert failed == ["refusals"]
    text = verdict.text()
    assert fault.title in text
    for case, outcome in zip(private.cases, private.expected, strict=True):
        if outcome.value:
            assert str(outcome.value)[:40] not in text
        assert json.dumps(case.arguments)[:60] not in text


def test_refusing_everything_earns_nothing():
    def refuse(messages, add_generation_prompt=False, continue_final_message=False):
        raise ValueError("choose one assistant")

    private = private_cases(exercise_named("render_chatml"), throwaway())
    assert judge_answers(private, ask_function(refuse, 5)).points == 0


def test_a_hidden_cell_ends_with_a_plain_number_and_says_that_the_seed_is_public(capsys, monkeypatch):
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    answer = reference("01_rendering", "split_frame")
    points = judge(answer)
    assert points == 2 and type(points) is float
    assert "public rehearsal seed" in capsys.readouterr().out
    assert hidden_judge is judge


def test_a_secret_seed_is_used_without_a_word_and_gives_other_cases(tmp_path, capsys, monkeypatch):
    path = tmp_path / "deep" / "judge.seed"
    create(path)
    kept = path.read_bytes()
    create(path)
    assert path.read_bytes() == kept
    assert path.stat().st_mode & 0o077 == 0 or os.name == "nt"
    monkeypatch.setenv(ENVIRONMENT, str(path))
    seed = class_seed()
    assert seed.is_secret
    exercise = exercise_named("split_frame")
    assert private_cases(exercise, seed).cases != private_cases(exercise, throwaway()).cases
    assert judge(reference("01_rendering", "split_frame")) == 2
    assert "seed" not in capsys.readouterr().out


def test_a_seed_file_that_cannot_be_used_is_said_in_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "none"))
    with pytest.raises(BadSeed, match="is not there"):
        class_seed()
    (tmp_path / "none").write_text("short")
    with pytest.raises(BadSeed, match="too few for a secret"):
        class_seed()
    with pytest.raises(UnknownExercise, match="did you mean split_frame"):
        exercise_named("split_frames")


def test_revealed_cases_come_with_their_expected_outcomes():
    done = subprocess.run(
        [sys.executable, "-m", "autograder", "judge", "01", "--reveal-cases"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(lines) > 100 and all({"arguments", "expected", "property"} <= set(line) for line in lines)


# The files and the command


@pytest.mark.parametrize("lab", [lab.name for lab in discover(ROOT / "solutions")])
def test_the_files_of_public_cases_are_what_the_sources_give(lab):
    from autograder.checks.public import checks_file

    content = checks_file(lab)
    path = ROOT / "assets" / "checks" / f"{lab}.json"
    assert (path.read_bytes() if path.exists() else None) == content


def test_the_matrix_command_names_a_hole(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("autograder.faults.show.matrix", lambda names, on_exercise: _with_a_hole(names))
    assert show.main(["01"], tmp_path / "matrix.json") == 1
    assert "HOLE" in capsys.readouterr().out
    assert json.loads((tmp_path / "matrix.json").read_text())[0]["exercise"]


def _with_a_hole(names):
    rows = matrix(list(names)[:1])
    rows[0].holes.append("made up")
    return rows
