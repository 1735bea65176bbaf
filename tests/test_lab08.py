"""Lab 08's reference answers: the project, TRL's own windows, the recorded pipelines against transformers."""

import json
import random
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis_profiles import PROFILE

from autograder import capstone
from autograder.checks.lab08_capstone import EXERCISES, FIRST, MARKS, SECOND, THREAD, _window
from autograder.checks.reference import reference
from autograder.faults.registry import alternatives_of, faults_of
from chatcontract.course_files import asset
from chatcontract.models import load_tokenizer
from chatcontract.nano.cases import training_rows

LAB = "08_capstone"
NUMBER = re.compile(r"\d+")
PIPELINES = json.loads(asset("capstone/pipelines.json").read_text(encoding="utf-8"))


def answer(name: str) -> Callable[..., Any]:
    return reference(LAB, name)


# The project


def test_the_ready_copy_of_the_project_is_the_notebooks_and_passes_its_own_review():
    assert capstone.PROJECT.read_text(encoding="utf-8") == capstone.project()
    project = json.loads(capstone.project())
    review = answer("review_project")(project["policy"], project["rows"])
    assert review["ready"]
    found = {row["id"]: row for row in review["rows"]}
    verdicts = {row["id"]: row["verdict"] for row in project["rows"]}
    assert [found[name]["claims"] for name in found if verdicts[name] == "reject"] == [[], ["instant refund"]]
    assert found["s4"]["missing"] == ["return label"]


def test_a_review_of_nothing_is_not_ready():
    project = json.loads(capstone.project())
    assert not answer("review_project")(project["policy"], [])["ready"]
    assert not answer("review_project")({"clause": "", "required": [], "forbidden": []}, [])["ready"]


def test_the_clause_names_its_deadline_first_because_the_critical_slice_replaces_that_number():
    policy = json.loads(capstone.project())["policy"]
    assert NUMBER.findall(policy["clause"])[0] == "14"
    assert any("14 days" in fact["wordings"] for fact in policy["required"])


def test_no_row_of_the_course_has_the_new_clause_so_that_a_run_without_the_new_rows_is_a_comparison():
    clause = json.loads(capstone.project())["policy"]["clause"]
    systems = [chat[0]["content"] for chat in training_rows(400, 0)]
    assert not any("can be returned" in system for system in systems)
    assert "can be returned" in clause
    assert sum("sealed" in system.lower() for system in systems) == 13


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("There is no instant refund.", []),
        ("No instant refund.", []),
        ("No instant refund, but a refund at once.", ["refund"]),
        ("No instant refund at once.", ["refund"]),  # lies only in part inside of the denial, as in lab 03
        ("An instant refund.", ["refund"]),
        ("We grant instant refunds.", []),
    ],
)
def test_a_wording_makes_the_claim_unless_it_lies_inside_of_a_denial(text, made):
    claim = {
        "name": "refund",
        "wordings": ["instant refund", "refund at once"],
        "unless": ["no instant refund"],
    }
    assert answer("claims_made")(text, {"forbidden": [claim]}) == made


# The audit, against TRL and transformers


@pytest.fixture(scope="module")
def trl_windows() -> list[dict[str, list[int]]]:
    """40 ShopFlow rows as TRL prepares and packs them for nano."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from chatcontract.models import load_model

    trainer = SFTTrainer(
        model=load_model("nano"),
        args=SFTConfig(
            output_dir="runs/test", packing=True, max_length=512, assistant_only_loss=True,
            use_cpu=True, bf16=False, report_to="none",
        ),
        train_dataset=Dataset.from_list([{"messages": chat} for chat in training_rows(40, 0)]),
        processing_class=load_tokenizer("nano"),
    )  # fmt: skip
    return [
        {
            "input_ids": row["input_ids"],
            "labels": row["labels"],
            "position_ids": [at for size in row["seq_lengths"] for at in range(size)],
        }
        for row in trainer.train_dataset
    ]


def audit_of(windows: list[dict[str, list[int]]]) -> dict[str, int]:
    marks = PIPELINES["control"]["recording"]["marks"]
    audits = [answer("window_audit")(window, marks) for window in windows]
    return {name: sum(one[name] for one in audits) for name in audits[0]}


def test_trls_windows_are_whole_alone_and_taught_in_full(trl_windows):
    audit = audit_of(trl_windows)
    assert audit["documents"] == audit["ends"] == 40
    assert audit["learned"] == audit["words"] + audit["ends"]
    for name in ("cut", "mixed", "moved", "elsewhere", "words_untaught", "ends_untaught"):
        assert audit[name] == 0, name


def test_the_same_windows_without_their_position_ids_are_mixed(trl_windows):
    run_on = [{**one, "position_ids": list(range(len(one["input_ids"])))} for one in trl_windows]
    audit = audit_of(run_on)
    assert audit["documents"] == len(trl_windows)
    assert audit["mixed"] == 40 - len(trl_windows)


@PROFILE
@given(st.data())
def test_every_label_is_counted_once_wherever_labels_stand(data):
    window = _window(*data.draw(st.lists(st.sampled_from([FIRST, SECOND, THREAD]), min_size=1, max_size=3)))
    size = len(window["input_ids"])
    chosen = data.draw(st.lists(st.booleans(), min_size=size, max_size=size))
    labels = [one if on else -100 for one, on in zip(window["input_ids"], chosen, strict=True)]
    audit = answer("window_audit")({**window, "labels": labels}, MARKS)
    inside = audit["words"] + audit["ends"] - audit["words_untaught"] - audit["ends_untaught"]
    assert audit["learned"] == sum(chosen) == inside + audit["elsewhere"]
    assert audit["moved"] == audit["cut"] == audit["mixed"] == 0


# The recorded pipelines


@pytest.mark.parametrize(
    ("name", "fault", "count", "redo"),
    [
        ("control", None, 0, None),
        ("A", "labels_moved", None, "labels"),
        ("B", "cut_documents", 24, "length"),
        ("C", "unsupported_rows", None, "rows"),
    ],
)
def test_the_pipelines_are_told_apart_by_their_data(name, fault, count, redo):
    found = answer("find_fault")(PIPELINES[name]["recording"])
    assert (found["fault"], found["redo"]) == (fault, redo)
    assert found["count"] == count or (count is None and found["count"] > found["of"] / 3)


def test_the_symptoms_of_two_pipelines_are_alike_and_the_control_has_none():
    figures = {name: run["figures"] for name, run in PIPELINES.items()}
    assert figures["control"]["grounded_rate"] == figures["control"]["stop_rate"] == 1.0
    assert figures["A"]["grounded_rate"] == 0.0
    assert abs(figures["B"]["grounded_rate"] - figures["C"]["grounded_rate"]) <= 0.03
    assert {figures[name]["stop_rate"] for name in ("B", "C")} == {1.0}
    assert min(figures[name]["loss"] for name in "ABC") > 10 * figures["control"]["loss"]


@pytest.mark.parametrize("name", list(PIPELINES))
def test_the_windows_are_what_transformers_makes_of_the_rows_but_for_the_fault(name):
    tokenizer = load_tokenizer("nano")
    recording = PIPELINES[name]["recording"]
    for row, window in zip(recording["rows"], recording["windows"], strict=True):
        made = tokenizer.apply_chat_template(
            row["messages"], return_dict=True, return_assistant_tokens_mask=True
        )
        ids, mask = made["input_ids"], made["assistant_masks"]
        labels = [one if on else -100 for one, on in zip(ids, mask, strict=True)]
        expected = {"A": (ids, [*labels[1:], -100]), "B": (ids[-40:], labels[-40:])}.get(name, (ids, labels))
        assert (window["input_ids"], window["labels"]) == expected


# The catalogue


def test_every_exercise_has_faults_with_addresses_or_measurements_and_alternatives():
    for exercise in EXERCISES:
        found = faults_of(exercise.name)
        assert len(found) >= 3 and len(alternatives_of(exercise.name)) >= 3
        for fault in found:
            assert "https://" in fault.citation or "seen here" in fault.citation, fault.id


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.name)
def test_private_cases_cover_every_property_under_any_seed(exercise):
    for seed in range(4):
        cases = exercise.private(random.Random(seed))
        assert {case.property for case in cases} == set(exercise.properties)
        assert 10 <= len(cases) <= 40
