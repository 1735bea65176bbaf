"""Lab 07's reference answers: the worked examples, scipy's interval, numpy's percentile, real prompts."""

import random
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis_profiles import PROFILE
from scipy.stats import binomtest

from autograder.checks.lab07_serving import EXERCISES
from autograder.checks.reference import reference
from autograder.faults.registry import alternatives_of, faults_of
from chatcontract.experiments import saved_results
from chatcontract.experiments import serving as deployments
from chatcontract.families import FAMILIES, family
from chatcontract.models import load_tokenizer

LAB = "07_serving"
MANIFEST = {
    "checkpoint": "shopflow-policy-sft-v3",
    "tokenizer": "tokens-7",
    "template_revision": "chatml-policy-v2",
    "add_special_tokens_after_template": False,
}


def answer(name: str) -> Callable[..., Any]:
    return reference(LAB, name)


def gate(template: bool, rate: float, critical: int, p95: float, cases: int = 2000) -> list[str]:
    return answer("blockers")(
        {
            "template_matches": template,
            "grounded": round(rate * cases),
            "cases": cases,
            "critical_errors": critical,
            "critical_cases": 400,
            "latencies_ms": [p95] * 20,
            "latency_limit_ms": 700,
        }
    )


# The worked examples


def test_a_candidate_equal_in_all_four_is_evaluated_and_the_wrapper_is_blocked():
    compare = answer("manifest_mismatches")
    drifted = {
        **MANIFEST,
        "template_revision": "mistral-wrapper-v1",
        "add_special_tokens_after_template": True,
    }
    assert compare(MANIFEST, dict(MANIFEST)) == []
    assert compare(MANIFEST, drifted) == ["template_revision", "add_special_tokens_after_template"]


def test_the_gate_decides_as_in_the_worked_example():
    assert gate(True, 0.99, 0, 620) == []
    assert gate(True, 0.94, 1, 410) == ["grounded_quality", "critical_policy_error"]
    everything = ["template_drift", "grounded_quality", "critical_policy_error", "latency"]
    assert gate(False, 0.94, 1, 701) == everything


@pytest.mark.parametrize(
    ("change", "blocker"),
    [
        ({"template": False}, "template_drift"),
        ({"rate": 0.94}, "grounded_quality"),
        ({"rate": 1.0, "cases": 20}, "grounded_quality"),
        ({"critical": 1}, "critical_policy_error"),
        ({"p95": 701}, "latency"),
    ],
)
def test_one_thing_wrong_blocks_for_that_reason_alone(change, blocker):
    honest: dict[str, Any] = {"template": True, "rate": 1.0, "critical": 0, "p95": 620, "cases": 200}
    assert gate(**honest) == []
    assert gate(**{**honest, **change}) == [blocker]


def test_nothing_measured_is_no_release():
    empty = {"grounded": 0, "cases": 0, "critical_errors": 0, "critical_cases": 0, "latencies_ms": []}
    candidate = {"template_matches": True, "latency_limit_ms": 700, **empty}
    assert answer("blockers")(candidate) == ["grounded_quality", "critical_policy_error", "latency"]


# The answers against outside truth


@PROFILE
@given(st.integers(1, 4000), st.data())
def test_quality_is_decided_by_scipys_wilson_interval(cases, data):
    right = data.draw(st.integers(max(0, int(cases * 0.95)), cases))
    lower = binomtest(right, cases).proportion_ci(0.95, method="wilson").low
    if abs(lower - 0.98) > 1e-4:  # scipy's z has more digits than 1.96
        assert ("grounded_quality" in gate(True, right / cases, 0, 1, cases)) == (lower < 0.98)


@PROFILE
@given(st.lists(st.floats(1, 1e4), min_size=1, max_size=130), st.floats(1, 1e4))
def test_latency_is_decided_by_numpys_nearest_rank(times, limit):
    candidate = {
        "template_matches": True,
        "grounded": 2000,
        "cases": 2000,
        "critical_errors": 0,
        "critical_cases": 1,
        "latencies_ms": times,
        "latency_limit_ms": limit,
    }
    slow = np.percentile(times, 95, method="inverted_cdf") > limit
    assert answer("blockers")(candidate) == (["latency"] if slow else [])


def request(run: str, rendered: deployments.Serving) -> dict[str, Any]:
    """A logged request of a recorded deployment: prompts rendered here, verdicts as measured."""
    tokenizer, example = load_tokenizer("nano"), saved_results()[run].examples[0]
    system = f"Use only the supplied policy evidence.\n\nEvidence: {example['evidence']}"
    chat = [{"role": "system", "content": system}, {"role": "user", "content": example["question"]}]
    return {
        "expected": deployments.CORRECT.render(tokenizer, chat),
        "sent": rendered.render(tokenizer, chat),
        "special": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        "cue": "<|im_start|>assistant\n",
        "evidence": example["evidence"],
        "grounded": example["grounded"],
        "stopped": example["stopped"],
    }


@pytest.mark.parametrize(
    ("run", "rendered", "found"),
    [
        ("correct", deployments.CORRECT, []),
        ("no_cue", deployments.NO_CUE, ["missing_cue"]),
        ("wrong_wrapper", deployments.MISTRAL_WRAPPER, ["foreign_template"]),
        ("doubled_bos", deployments.TWO_BOS, ["doubled_special_tokens"]),
        ("prefill_and_cue", deployments.PREFILL_AND_CUE, ["second_cue"]),
        ("serving_truncated", deployments.LAST_TOKENS, ["evidence_truncated"]),
        ("eot_masked", deployments.CORRECT, ["labels_or_rows"]),
        ("one_late", deployments.CORRECT, ["labels_or_rows"]),
    ],
)
def test_recorded_deployments_are_diagnosed(run, rendered, found):
    assert answer("diagnose")(request(run, rendered)) == found


@pytest.mark.parametrize(
    ("rendered", "doubled"),
    [(deployments.NO_CUE, []), (deployments.TWO_BOS, ["<|endoftext|>"]), (deployments.MISTRAL_WRAPPER, [])],
)
def test_the_first_difference_of_real_prompts(rendered, doubled):
    tokenizer = load_tokenizer("nano")
    chat = [{"role": "user", "content": "My electronics arrived damaged."}]
    ids = [
        tokenizer.encode(one.render(tokenizer, chat), add_special_tokens=False)
        for one in (deployments.CORRECT, rendered)
    ]
    found = answer("first_difference")(*ids, tokenizer.all_special_ids)
    index = found["index"]
    assert ids[0][:index] == ids[1][:index]
    assert ids[0][index : index + 1] != ids[1][index : index + 1]
    assert found["doubled"] == tokenizer.convert_tokens_to_ids(doubled)


_TURNS = st.lists(st.sampled_from(["system", "user", "assistant"]), max_size=9)


@PROFILE
@given(_TURNS, st.data())
def test_a_shortened_thread_keeps_evidence_and_question_within_the_budget(roles, data):
    messages = [{"role": role, "content": str(i)} for i, role in enumerate([*roles, "user"])]
    tokens = data.draw(st.lists(st.integers(0, 20), min_size=len(messages), max_size=len(messages)))
    budget = data.draw(st.integers(0, sum(tokens)))
    fixed = [m for m in messages[:-1] if m["role"] == "system"] + messages[-1:]
    if sum(tokens[int(m["content"])] for m in fixed) > budget:
        with pytest.raises(ValueError, match="budget"):
            answer("truncate")(messages, tokens, budget)
        return
    shorter = answer("truncate")(messages, tokens, budget)
    kept = [int(m["content"]) for m in shorter["messages"]]
    assert all(m in shorter["messages"] for m in fixed)
    assert sorted([*kept, *shorter["dropped"]]) == list(range(len(messages)))
    assert sum(tokens[i] for i in kept) == shorter["tokens"] <= budget
    history = [i for i in kept if messages[i]["role"] != "system"]
    assert not shorter["dropped"] or max(shorter["dropped"]) < min(history), "the oldest go first"
    assert not shorter["dropped"] or messages[min(history)]["role"] == "user", "exchanges stay whole"


# The optional section: a fingerprint, and a second engine


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_fingerprint_changes_with_what_decides_the_prompt_and_with_nothing_else(name):
    shape = family(name)
    same = {
        "template": shape.training_template,
        "special_ids": {"a": 1, "b": 2},
        "stop_ids": [2, 0],
        "adds_special_tokens": False,
    }
    fingerprint = reference(LAB, "template_fingerprint")
    mine = fingerprint(same)
    assert re.fullmatch("[0-9a-f]{64}", mine)
    for change in (
        {"template": shape.serving_template},
        {"template": shape.training_template.replace("\n", "\r\n")},
        {"special_ids": {"b": 2, "a": 1}},
        {"stop_ids": [0, 2]},
        {"port": 8000, "saved": "today"},
    ):
        assert fingerprint({**same, **change}) == mine, change
    for other in (
        {"template": shape.training_template.replace("message", "massage")},
        {"special_ids": {"a": 2, "b": 1}},
        {"stop_ids": [2]},
        {"adds_special_tokens": True},
    ):
        assert fingerprint({**same, **other}) != mine, other


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_second_engine_renders_what_is_served_and_refuses_the_training_markers(name):
    minijinja = pytest.importorskip("minijinja")

    def raise_exception(message):
        raise ValueError(message)

    shape = family(name)
    chat = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes"},
        {"role": "user", "content": "Where?"},
    ]
    if name == "alpaca":  # holds one instruction
        chat = chat[:1]
    engine = minijinja.Environment(trim_blocks=True, lstrip_blocks=True)
    engine.add_function("raise_exception", raise_exception)
    expected = load_tokenizer("nano").apply_chat_template(
        chat, chat_template=shape.serving_template, add_generation_prompt=True, tokenize=False
    )
    given = {"messages": chat, "add_generation_prompt": True}
    assert engine.render_str(shape.serving_template, **given) == expected
    with pytest.raises(minijinja.TemplateError, match="unknown statement generation"):
        engine.render_str(shape.training_template, **given)


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
        assert 10 <= len(cases) <= 44
