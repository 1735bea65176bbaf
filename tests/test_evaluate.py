"""The rules by which an answer counts as grounded, and what reading cases refuses."""

import json

import pytest

from chatcontract.evaluate import Case, judge_answer, load_cases

DAMAGED = Case(
    id="damaged",
    policy_id="damaged_electronics",
    messages=[
        {
            "role": "system",
            "content": "Use only the supplied policy evidence.\n\n"
            "Evidence: Damaged electronics must be reported within 48 hours with photos.",
        },
        {"role": "user", "content": "My electronics arrived damaged. What should I do?"},
    ],
    required=(("48 hours", "48-hour", "forty-eight hours"), ("photos", "pictures")),
    forbidden=("30 days", "free replacement"),
)


@pytest.mark.parametrize(
    "answer",
    [
        "Report the damage within 48 hours and attach photos.",
        "There is a 48-hour limit; send PICTURES.",
        "Forty-eight hours, with\u00a0photos.",
        "Report it within 48\nhours with photos.",
    ],
)
def test_accepted_wordings_are_grounded(answer):
    assert judge_answer(answer, DAMAGED).grounded


@pytest.mark.parametrize(
    ("answer", "field", "wording"),
    [
        ("Report the damage and attach photos.", "missing", "48 hours"),
        ("Report the damage within 48 hours.", "missing", "photos"),
        ("Report it within 148 hours with photos.", "missing", "48 hours"),
        ("48 hours, photos, and a free replacement.", "forbidden", "free replacement"),
        ("Return it within 30 days.", "forbidden", "30 days"),
        ("48 hours, photos, order 12345.", "unsupported_numbers", "12345"),
        ("48 hours, photos, and 10.50 euros back.", "unsupported_numbers", "10.50"),
        ("", "missing", "photos"),
    ],
)
def test_verdict_names_what_is_wrong(answer, field, wording):
    verdict = judge_answer(answer, DAMAGED)
    assert not verdict.grounded
    assert wording in getattr(verdict, field)


def test_question_and_evidence_are_read_from_the_messages():
    assert DAMAGED.question == "My electronics arrived damaged. What should I do?"
    assert DAMAGED.evidence == "Damaged electronics must be reported within 48 hours with photos."


def test_broken_line_is_named(tmp_path):
    path = tmp_path / "cases.jsonl"
    good = {"id": "a", "policy_id": "p", "messages": [], "required": []}
    path.write_text(json.dumps(good) + "\n\n{broken\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"cases\.jsonl, line 3: .*Correct or delete that line"):
        load_cases(path)
    path.write_text(json.dumps({"id": "a"}) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"line 1: .*policy_id"):
        load_cases(path)


def test_limit_keeps_the_first_cases():
    assert [case.id for case in load_cases(limit=3)] == [case.id for case in load_cases()[:3]]
