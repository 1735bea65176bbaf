"""ShopFlow's candidate rows: what lab 03 may rely on, and that nobody's real data is in them."""

import json
import random
import re
from collections import Counter
from typing import Any

import pytest

from autograder.shopflow import FOLDER, PolicyError, load_policies, numbers, states
from autograder.shopflow_candidates import LABELS, alike, build, question_of
from autograder.shopflow_evidence import Superseded, load_superseded, snapshot
from chatcontract.models import is_fetched

POLICIES = load_policies()
OLD = load_superseded(POLICIES)
ROWS: list[dict[str, Any]] = [
    json.loads(line) for line in (FOLDER / "candidates.jsonl").read_text(encoding="utf-8").splitlines()
]
EVIDENCE = json.loads((FOLDER / "evidence.json").read_text(encoding="utf-8"))
LABELLED = json.loads(LABELS.read_text(encoding="utf-8"))
BY_ID = {row["id"]: row for row in ROWS}


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [BY_ID[key] for key, label in LABELLED.items() if label["defect"] == kind]


def clean() -> list[dict[str, Any]]:
    return [BY_ID[key] for key, label in LABELLED.items() if label["defect"] is None]


def said(row: dict[str, Any], role: str) -> str:
    return "\n".join(m["content"] for m in row["messages"] if m["role"] == role)


# ---------------------------------------------------------------- the files


def test_the_files_are_what_the_generator_gives() -> None:
    rows, labels, evidence = build(POLICIES, OLD)
    assert rows == [{k: v for k, v in row.items() if k != "tokens"} for row in ROWS], (
        "run 'python -m autograder.shopflow_candidates'"
    )
    assert labels == LABELLED
    assert evidence == EVIDENCE == snapshot(POLICIES, OLD)


def test_token_counts_are_those_of_the_real_tokenizer() -> None:
    if not is_fetched("smollm2-135m"):
        pytest.skip("smollm2-135m is not fetched")
    from chatcontract.models import load_tokenizer

    tokenizer = load_tokenizer("smollm2-135m")
    for row in random.Random(0).sample(ROWS, 40) + of_kind("over_length"):
        text = tokenizer.apply_chat_template(row["messages"], tokenize=False)
        assert len(tokenizer(text, add_special_tokens=False)["input_ids"]) == row["tokens"], row["id"]


def test_another_seed_gives_another_class_variant_of_the_same_make() -> None:
    rows, labels, _ = build(POLICIES, OLD, seed=7)
    assert {json.dumps(row["messages"]) for row in rows} - {json.dumps(row["messages"]) for row in ROWS}
    assert Counter(label["defect"] for label in labels.values()) == Counter(
        label["defect"] for label in LABELLED.values()
    )


# ---------------------------------------------------------------- what students are promised


def test_three_sources_and_a_third_defective() -> None:
    assert len(ROWS) >= 600 and len(BY_ID) == len(ROWS) == len(LABELLED)
    assert Counter(row["source"] for row in ROWS) == {"reviewed": 150, "synthetic": 320, "transcript": 170}
    defective = sum(label["defect"] is not None for label in LABELLED.values())
    assert 0.30 <= defective / len(ROWS) <= 0.37
    of_source = Counter(BY_ID[key]["source"] for key, label in LABELLED.items() if label["defect"])
    assert of_source["reviewed"] / 150 < 0.2 < of_source["synthetic"] / 320 < of_source["transcript"] / 170


def test_no_row_gives_its_label_away() -> None:
    allowed = {"id", "source", "intent", "policy_id", "policy_version", "messages", "tokens", "asks"}
    assert all(set(row) <= allowed for row in ROWS)
    for row in ROWS:
        assert re.fullmatch(rf"{row['source']}-\d{{4}}", row["id"])
    first_half = {row["id"] for row in ROWS[: len(ROWS) // 2]}
    share = sum(LABELLED[i]["defect"] is not None for i in first_half) / len(first_half)
    assert 0.25 < share < 0.42, "defective rows must not stand together"


def test_every_row_is_a_well_formed_chat() -> None:
    for row in ROWS:
        roles = [m["role"] for m in row["messages"]]
        assert roles == ["system"] + ["user", "assistant"] * (len(roles) // 2)
        assert all(m["content"].strip() for m in row["messages"])
        assert row["policy_id"] in EVIDENCE and EVIDENCE[row["policy_id"]]["intent"] == row["intent"]


def test_the_running_example_is_there_with_its_rejected_answer() -> None:
    asked = "My electronics arrived damaged. What should I do?"
    found = {
        said(row, "assistant"): LABELLED[row["id"]]["outcome"]
        for row in ROWS
        if said(row, "user") == asked and row["policy_id"] == "damaged_electronics"
    }
    assert found["Report the damage within 48 hours and attach photos."] == "accepted"
    assert found["Return any damaged electronics within 30 days."] == "rejected"


def test_reviewed_rows_are_sparse_and_cover_every_high_risk_policy() -> None:
    reviewed = {row["intent"] for row in clean() if row["source"] == "reviewed"}
    every = {policy["intent"] for policy in EVIDENCE.values()}
    assert len(reviewed) <= 0.6 * len(every)
    assert {p["intent"] for p in EVIDENCE.values() if p["risk"] == "high"} <= reviewed


# ---------------------------------------------------------------- the labels are true


def test_right_rows_state_their_facts_and_nothing_that_is_forbidden() -> None:
    for row in clean():
        policy = EVIDENCE[row["policy_id"]]
        assert policy["clause"] in said(row, "system")
        assert row["policy_version"] == policy["version"] and row["tokens"] <= 512
        for message in row["messages"]:
            if message["role"] != "assistant":
                continue
            text = message["content"].replace("\u00a0", " ")
            for fact in policy["required"]:
                assert states(text, fact["wordings"]), (row["id"], fact["name"])
            for claim in policy["forbidden"]:
                for phrase in claim["unless"]:
                    text = re.sub(re.escape(phrase), "", text, flags=re.IGNORECASE)
                assert not states(text, claim["wordings"]), (row["id"], claim["name"])


def test_right_rows_are_no_near_duplicates_of_each_other() -> None:
    by_policy: dict[str, list[dict[str, Any]]] = {}
    for row in clean():
        by_policy.setdefault(row["policy_id"], []).append(row)
    for rows in by_policy.values():
        for number, row in enumerate(rows):
            for other in rows[:number]:
                assert alike(question_of(row), question_of(other)) < 0.7, (row["id"], other["id"])


def test_each_kind_of_defect_is_what_it_says() -> None:
    for row in of_kind("missing_fact"):
        facts = EVIDENCE[row["policy_id"]]["required"]
        assert not all(states(said(row, "assistant"), fact["wordings"]) for fact in facts)
    for row in of_kind("forbidden_claim"):
        claims = EVIDENCE[row["policy_id"]]["forbidden"]
        assert any(states(said(row, "assistant"), claim["wordings"]) for claim in claims)
    for row in of_kind("unsupported_number"):
        assert numbers(said(row, "assistant")) - numbers(said(row, "system") + said(row, "user"))
    for row in of_kind("stale_evidence"):
        policy = EVIDENCE[row["policy_id"]]
        assert policy["clause"] not in said(row, "system")
        assert any(old["clause"] in said(row, "system") for old in policy["superseded"])
    for row in of_kind("over_length"):
        assert row["tokens"] > 512
    for key, label in LABELLED.items():
        if "twin" in label:
            row, twin = BY_ID[key], BY_ID[label["twin"]]
            assert twin["id"] < row["id"], "the row with the smaller id stays"
            assert twin["policy_id"] == row["policy_id"]
            assert alike(question_of(row), question_of(twin)) >= 0.7


# ---------------------------------------------------------------- nobody's data, nothing held out


def test_personal_data_is_of_reserved_kinds_only() -> None:
    text = "\n".join(m["content"] for row in ROWS for m in row["messages"])
    addresses = re.findall(r"[\w.+-]+@([\w.-]+\w)", text)
    assert addresses and all(re.search(r"(^|\.)example\.(com|net|org)$", a) for a in addresses)
    phones = re.findall(r"\d{3}\)?[ -]\d{3}[ -]\d{4}(?!\d)", text)
    assert phones and all(re.search(r"555[ -]01\d\d$", phone) for phone in phones)
    tests = {"4242424242424242", "4111111111111111", "5555555555554444"}
    cards = {re.sub(r"\D", "", c) for c in re.findall(r"(?<!\d)(?:\d[ -]?){15}\d(?!\d)", text)}
    look_alikes = {"7730019254418823"}
    assert tests <= cards <= tests | look_alikes


def test_no_fact_of_a_held_out_policy_is_in_a_row_that_may_teach() -> None:
    text = " ".join(m["content"].lower() for row in clean() for m in row["messages"])
    seen = set(re.findall(r"[a-z0-9]+", text))
    for policy in POLICIES:
        if policy.split != "heldout":
            continue
        assert policy.clause.lower() not in text
        for fact in policy.required:
            assert not states(text, fact.wordings), (policy.id, fact.name)
            assert not numbers(fact.name) & seen, (policy.id, fact.name)
        assert policy.id not in EVIDENCE


# ---------------------------------------------------------------- superseded versions


def test_superseded_versions_that_do_not_fit_are_refused(tmp_path: Any) -> None:
    path = tmp_path / "policies.yaml"
    good = {
        "policy": "late_delivery",
        "version": 1,
        "until": "2024-11-14",
        "clause": "Late deliveries must be reported in a support ticket with the tracking number.",
        "facts": {"carrier scan": "tracking number"},
    }
    for change, message in (
        ({"policy": "late_deliveries"}, "there is no such policy"),
        ({"version": 2}, "give an earlier version than 2"),
        ({"until": "2025-11-14"}, "must be before 2024-11-15"),
        ({"clause": "Late deliveries must be reported."}, "does not state 'tracking number'"),
        ({"until": "soon"}, "Entry 1 of 'superseded', field 'until'"),
    ):
        path.write_text(json.dumps({"superseded": [good | change]}), encoding="utf-8")
        with pytest.raises(PolicyError, match=message) as caught:
            load_superseded(POLICIES, path)
        assert "\n" not in str(caught.value)
    path.write_text(json.dumps({"superseded": [good]}), encoding="utf-8")
    assert load_superseded(POLICIES, path) == [Superseded.model_validate(good)]
