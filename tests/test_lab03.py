"""Lab 03's reference answers against labelled rows, the package's own metric, and laws that filters keep."""

import json
import random
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis_profiles import PROFILE

from autograder.checks.reference import definitions, reference
from autograder.checks.registry import exercises_of
from autograder.faults.matrix import matrix
from autograder.shopflow import FOLDER, load_policies
from autograder.shopflow_candidates import LABELS, SEED, accepted, build, manifest
from autograder.shopflow_evidence import load_superseded
from chatcontract.evaluate import Case, judge_answer
from chatcontract.viewers import funnel_view

LAB = "03_grounding"
Row = dict[str, Any]


def answer(name: str) -> Any:
    return reference(LAB, name)


def read(name: str) -> list[Row]:
    lines = (FOLDER / name).read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines if line]


ROWS = read("candidates.jsonl")
EVIDENCE = json.loads((FOLDER / "evidence.json").read_text(encoding="utf-8"))
LABELLED = json.loads(LABELS.read_text(encoding="utf-8"))


@cache
def outcome() -> dict[str, Any]:
    found: dict[str, Any] = answer("accept")(rows=ROWS, policies=EVIDENCE)
    return found


def ends_of(found: dict[str, Any]) -> dict[str, str]:
    ends = dict.fromkeys(found["accepted"], "accepted")
    return ends | {entry["id"]: name for name in ("rejected", "review") for entry in found[name]}


# ---------------------------------------------------------------- the labelled candidates


def test_every_candidate_ends_where_its_label_says() -> None:
    assert ends_of(outcome()) == {key: label["outcome"] for key, label in LABELLED.items()}


def test_the_reason_names_the_defect() -> None:
    reasons = {e["id"]: e["reasons"] for name in ("rejected", "review") for e in outcome()[name]}
    for key, label in LABELLED.items():
        if label["defect"]:
            kinds = {reason.partition(": ")[0] for reason in reasons[key]}
            assert label["defect"] in kinds, (key, label, reasons[key])
        if "twin" in label:
            assert reasons[key][-1].endswith(f": {label['twin']}")


@pytest.mark.parametrize("seed", [7, 2026, 31])
def test_another_class_variant_is_judged_as_labelled(seed: int) -> None:
    policies = load_policies()
    rows, labels, evidence = build(policies, load_superseded(policies), seed)
    counted = [row | {"tokens": 900 if len(row["messages"]) > 20 else 90} for row in rows]
    ends = ends_of(answer("accept")(rows=counted, policies=evidence))
    assert ends == {key: label["outcome"] for key, label in labels.items()}


def test_the_shipped_accepted_rows_are_the_references() -> None:
    kept = (FOLDER / "accepted.jsonl").read_bytes()
    assert read("accepted.jsonl") == accepted(ROWS, EVIDENCE)
    evidence, rows = ((FOLDER / name).read_bytes() for name in ("evidence.json", "candidates.jsonl"))
    made = manifest(evidence, rows, kept, SEED)
    assert (FOLDER / "accepted.manifest.json").read_bytes() == made, (
        "run 'python -m autograder.shopflow_candidates'"
    )
    changed = json.loads(manifest(evidence + b" ", rows, kept, SEED))["sha256"]
    assert {n for n, h in json.loads(made)["sha256"].items() if changed[n] != h} == {"evidence"}


def test_the_accepted_rows_cover_all_that_may_teach_and_not_sealed_returns() -> None:
    kept = read("accepted.jsonl")
    intents = sorted({policy["intent"] for policy in EVIDENCE.values()})
    gaps = answer("coverage_gaps")(rows=kept, required_intents=[*intents, "sealed_return"], minimum=10)
    assert gaps["missing"] == ["sealed_return"] and gaps["ready"] is False
    assert {r["source"] for r in kept if EVIDENCE[r["policy_id"]]["risk"] == "high"} == {"reviewed"}
    assert funnel_view(ROWS, outcome()).summary.startswith("640 rows: 364 accepted")


# ---------------------------------------------------------------- grounding


def test_grounding_agrees_with_the_metric_that_models_are_measured_by() -> None:
    """`chatcontract.evaluate` was written apart from this lab; it knows neither turns nor `unless`."""
    compared = 0
    for row in ROWS:
        policy = EVIDENCE[row["policy_id"]]
        if len(row["messages"]) != 3 or "asks" in row:
            continue
        text = row["messages"][2]["content"]
        if any(p in text.casefold() for c in policy["forbidden"] for p in c["unless"]):
            continue
        case = Case(
            id=row["id"],
            policy_id=row["policy_id"],
            messages=row["messages"][:2],
            required=tuple(tuple(fact["wordings"]) for fact in policy["required"]),
            forbidden=tuple(w for claim in policy["forbidden"] for w in claim["wordings"]),
        )
        verdict = judge_answer(text, case)
        errors = answer("grounding_errors")(row=row, policies=EVIDENCE)
        assert verdict.grounded == (not errors), (row["id"], errors, verdict)
        assert len(verdict.missing) == sum(e["kind"] == "missing_fact" for e in errors)
        compared += 1
    assert compared > 500


def test_every_span_cuts_a_wording_out_of_the_original_text() -> None:
    seen = set()
    for row in ROWS:
        policy = EVIDENCE[row["policy_id"]]
        wordings = {c["name"]: [w.casefold() for w in c["wordings"]] for c in policy["forbidden"]}
        for e in answer("grounding_errors")(row=row, policies=EVIDENCE):
            seen.add(e["kind"])
            message = row["messages"][e["message"]]
            assert message["role"] == "assistant"
            if e["kind"] == "missing_fact":
                assert e["start"] is None and e["end"] is None
                continue
            cut = message["content"][e["start"] : e["end"]]
            expected = [e["name"]] if e["kind"] == "unsupported_number" else wordings[e["name"]]
            assert cut.casefold() in expected
    assert seen == {"missing_fact", "forbidden_claim", "unsupported_number"}


SPACES = st.sampled_from([" ", "\u00a0", "\u2009", "\n", "  ", "\t"])
HYPHENS = st.sampled_from(["-", "\u2010", "\u2011", "\u2012", "\u2013", "\u2014"])


@PROFILE
@given(st.sampled_from(sorted(EVIDENCE)), st.data())
def test_facts_are_found_however_they_are_typed_and_never_inside_of_words(name: str, data: Any) -> None:
    policy = EVIDENCE[name]
    said = [data.draw(st.sampled_from(fact["wordings"])) for fact in policy["required"]]
    typed = [
        "".join(
            data.draw(SPACES) if c == " " else data.draw(HYPHENS) if c == "-" else c
            for c in (text.upper() if data.draw(st.booleans()) else text)
        )
        for text in said
    ]

    def missing(text: str) -> list[str]:
        row = {"policy_id": name, "messages": [{"role": "assistant", "content": text}]}
        errors = answer("grounding_errors")(row=row, policies=EVIDENCE)
        return [e["name"] for e in errors if e["kind"] == "missing_fact"]

    facts = [fact["name"] for fact in policy["required"]]
    assert missing(f"({typed[0]}), {typed[1]}!") == []
    assert missing(f"x{typed[0]} {typed[1]}x") == facts
    assert missing(f"{typed[0]}, 1{typed[1]}") == facts[1:]


# ---------------------------------------------------------------- near-duplicates

BY_HAND = definitions(LAB, ("lcs", "rouge_l"))
WORDS = ["my", "parcel", "is", "late", "and", "the", "box", "was", "wet"]
QUESTIONS = st.lists(st.sampled_from(WORDS), max_size=7).map(" ".join)


@PROFILE
@given(st.lists(st.sampled_from("abcde")), st.lists(st.sampled_from("abcde")))
def test_the_librarys_rouge_is_the_one_counted_by_hand(one: list[str], other: list[str]) -> None:
    common = BY_HAND["lcs"](one, other)
    expected = 2 * common / (len(one) + len(other)) if one and other else 0.0
    assert BY_HAND["rouge_l"](" ".join(one), " ".join(other)) == pytest.approx(expected)


@PROFILE
@given(
    st.lists(st.tuples(QUESTIONS, st.sampled_from(["late_delivery", "lost_parcel"])), max_size=9),
    st.randoms(),
)
def test_the_survivors_do_not_depend_on_the_order_and_speak_for_all(
    asked: list[tuple[str, str]], order: random.Random
) -> None:
    rows: list[Row] = [
        {
            "id": f"r{number}",
            "policy_id": policy,
            "messages": [
                {"role": "user", "content": text},
                {"role": "assistant", "content": f"within {number % 2} days"},
            ],
        }
        for number, (text, policy) in enumerate(asked)
    ]
    found = answer("near_duplicates")(rows=rows)
    shuffled = list(rows)
    order.shuffle(shuffled)
    assert answer("near_duplicates")(rows=shuffled) == found
    dropped = [entry["id"] for entry in found["dropped"]]
    assert sorted([*found["kept"], *dropped]) == sorted(row["id"] for row in rows)
    assert all(entry["like"] in found["kept"] and entry["score"] >= 0.7 for entry in found["dropped"])
    kept = [row for row in rows if row["id"] in found["kept"]]
    assert answer("near_duplicates")(rows=kept)["dropped"] == [], "what is kept is kept again"


# ---------------------------------------------------------------- the verdict


def test_the_verdict_does_not_depend_on_the_order_of_the_file() -> None:
    shuffled = list(ROWS)
    random.Random(3).shuffle(shuffled)
    assert answer("accept")(rows=shuffled, policies=EVIDENCE) == outcome()


def test_the_students_own_policy_is_judged_as_the_lab_says() -> None:
    policies, mine = definitions(LAB, ("sealed_returns",))["sealed_returns"]()
    errors = [answer("grounding_errors")(row=r, policies=policies) for r in mine]
    assert [[(e["kind"], e["name"]) for e in found] for found in errors] == [
        [],
        [("missing_fact", "14 days"), ("missing_fact", "return label"), ("unsupported_number", "30")],
        [("forbidden_claim", "instant refund")],
    ]


def test_coverage_of_the_worked_example() -> None:
    rows = [{"intent": "damaged_electronics"}, {"intent": "late_delivery"}, {"intent": "damaged_electronics"}]
    required = ["damaged_electronics", "late_delivery", "sealed_return"]
    assert answer("coverage_gaps")(rows=rows, required_intents=required) == {
        "counts": {"damaged_electronics": 2, "late_delivery": 1, "sealed_return": 0},
        "missing": ["sealed_return"],
        "ready": False,
    }


def test_every_fault_is_caught_and_named_and_no_right_answer_refused() -> None:
    names = [exercise.name for exercise in exercises_of(LAB)]
    assert names == ["grounding_errors", "coverage_gaps", "near_duplicates", "row_risks", "accept"]
    assert [hole for found in matrix(names) for hole in found.holes] == []
