"""Lab 02's reference answers: the worked examples, vendors' templates and validators, and the inbox."""

import io
import json
import random
from collections.abc import Callable
from importlib import resources
from itertools import chain, product
from pathlib import Path
from typing import Any

import jinja2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis_profiles import PROFILE, TEXT, chats
from transformers.utils.chat_template_utils import render_jinja_template
from typer.testing import CliRunner

from autograder import shopflow_inbox
from autograder.checks.reference import definitions, reference
from autograder.checks.registry import exercises_of
from autograder.faults.registry import faults_of
from autograder.shopflow import load_policies
from chatcontract.check.compare import agrees
from chatcontract.check.outcome import call

LAB = "02_roles"
ENDS = "conversation ends before assistant answer"
# Each example holds several chats, and no template runs here: a fifth of the usual number takes seconds.
FEW = settings(PROFILE, max_examples=PROFILE.max_examples // 5)
KNOWN = ("system", "user", "assistant")


def answer(name: str) -> Callable[..., Any]:
    return reference(LAB, name)


# The worked examples


@pytest.mark.parametrize(
    ("roles", "reasons"),
    [
        (["system", "user", "assistant"], []),
        (["system", "user"], [ENDS]),
        (["system", "user", "user", "assistant"], ["expected assistant, got user"]),
        ([], [ENDS]),
        (["system"], [ENDS]),
    ],
)
def test_the_running_example_is_judged_as_the_course_says(roles, reasons):
    assert answer("role_errors")(roles) == reasons
    messages = [{"role": role, "content": "Hi"} for role in roles]
    assert [error["reason"] for error in answer("conversation_errors")(messages)] == reasons


# What templates do with a bad order


def render(template: str, roles: list[str]) -> str:
    """A chat of words word0, word1, ... by a vendor's template, as the package trl ships it."""
    source = (resources.files("trl") / "chat_templates" / f"{template}.jinja").read_text(encoding="utf-8")
    chat = [{"role": role, "content": f"word{number}"} for number, role in enumerate(roles)]
    (text,), _ = render_jinja_template([chat], chat_template=source, bos_token="<s>", eos_token="</s>")
    return text


@pytest.mark.parametrize(
    ("roles", "gemma3", "qwen2_5", "gptoss"),
    [
        (["system", "user"], "rendered", "rendered", "rendered"),
        (["system", "user", "user", "assistant"], "refused", "rendered", "rendered"),
        (["assistant", "user", "assistant"], "refused", "rendered", "rendered"),
        (["user", "system", "assistant"], "refused", "rendered", "loses word1"),
        (["human", "gpt"], "refused", "loses word0 word1", "loses word0 word1"),
        (["user", "tool", "assistant"], "refused", "rendered", "refused"),
    ],
)
def test_templates_do_with_a_bad_order_what_the_lab_tells(roles, gemma3, qwen2_5, gptoss):
    for template, expected in (("gemma3", gemma3), ("qwen2_5", qwen2_5), ("gptoss", gptoss)):
        try:
            text = render(template, roles)
        except jinja2.TemplateError:
            fate = "refused"
        else:
            lost = [f"word{number}" for number in range(len(roles)) if f"word{number}" not in text]
            fate = f"loses {' '.join(lost)}" if lost else "rendered"
        assert (template, fate) == (template, expected)


@pytest.mark.parametrize("system", [[], ["system"]])
def test_an_order_is_right_exactly_when_gemma_3_takes_it(system):
    """Gemma 3's template enforces alternation; that a training chat ends with an answer it cannot know."""
    speakers = ("user", "assistant")
    for turns in chain.from_iterable(product(speakers, repeat=length) for length in (1, 2, 3, 4)):
        roles = [*system, *turns]
        reasons = [reason for reason in answer("role_errors")(roles) if reason != ENDS]
        try:
            render("gemma3", roles)
        except jinja2.TemplateError:
            assert reasons, roles
        else:
            assert reasons == [], roles


def test_gemma_3_gives_a_system_message_between_two_users_a_header_of_its_own():
    roles = ["user", "system", "user", "assistant"]
    assert "<start_of_turn>system\nword1<end_of_turn>" in render("gemma3", roles)
    assert answer("role_errors")(roles)[0] == "expected assistant, got system"


# Structure and contents


@FEW
@given(st.lists(st.sampled_from((*KNOWN, "human", "User", "tool", ""))))
def test_both_answers_tell_the_same_reasons_for_sound_contents(roles):
    messages = [{"role": role, "content": "Hi"} for role in roles]
    errors = answer("conversation_errors")(messages)
    assert [error["reason"] for error in errors] == answer("role_errors")(roles)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)
ODD = st.fixed_dictionaries({}, optional={"role": st.sampled_from(KNOWN) | JSON, "content": TEXT | JSON})


@FEW
@given(st.lists(ODD | JSON, max_size=5))
def test_whatever_json_holds_gets_ordered_errors_and_no_exception(messages):
    before = json.dumps(messages)
    errors = answer("conversation_errors")(messages)
    places = [error["message"] for error in errors]
    assert places == sorted(places) and all(0 <= place <= len(messages) for place in places)
    assert json.dumps(messages) == before
    for error in errors:
        assert places.count(error["message"]) <= 2


@FEW
@given(chats())
def test_only_blank_contents_are_found_in_chats_in_order(messages):
    """`chats` makes conversations in order, with any text as content."""
    blank = [at for at, message in enumerate(messages) if not message["content"].strip()]
    errors = answer("conversation_errors")(messages)
    assert errors == [{"message": at, "reason": "content is empty"} for at in blank]


# Files


@FEW
@given(
    st.lists(st.sampled_from(["", " ", "{", "[]", "é\u2028", "NaN", '{"messages": []}']) | TEXT),
    st.booleans(),
)
@example([], True)
def test_every_line_of_any_text_ends_in_exactly_one_list(lines, ends_with_line_feed):
    text = "\n".join(lines) + ("\n" if ends_with_line_feed else "")
    result = answer("validate_jsonl")(text)
    numbers = sorted(entry["line"] for entries in result.values() for entry in entries)
    # the standard library's own idea of a line, with the line feed alone as its end
    expected = len(list(io.StringIO(text.removeprefix("\ufeff"), newline="\n")))
    assert numbers == list(range(1, expected + 1))


@FEW
@given(st.lists(chats(), max_size=4), st.sampled_from(["\n", "\r\n"]), st.sampled_from(["", "\ufeff"]))
def test_rows_in_order_come_back_as_they_were_written(rows, line_end, mark):
    good = [row for row in rows if not answer("conversation_errors")(row)]
    text = mark + "".join(json.dumps({"messages": row}, ensure_ascii=False) + line_end for row in good)
    result = answer("validate_jsonl")(text)
    assert result["quarantine"] == []
    assert [entry["row"]["messages"] for entry in result["accepted"]] == good


def test_brackets_without_end_do_not_end_the_run():
    good = json.dumps(
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hi"}]}
    )
    result = answer("validate_jsonl")("[" * 100_000 + "\n" + good)
    assert result["quarantine"] == [{"line": 1, "reason": "not JSON"}]
    assert [entry["line"] for entry in result["accepted"]] == [2]


def test_the_inbox_is_sorted_by_the_reasons_that_were_planted():
    policies = load_policies()
    lines, text = shopflow_inbox.inbox(policies), shopflow_inbox.file_text(policies)
    result = answer("validate_jsonl")(text)
    planted = [{"line": n, "reason": why} for n, (_, why) in enumerate(lines, start=1) if why]
    assert result["quarantine"] == planted
    assert len(result["accepted"]) + len(planted) == text.count("\n") == 117
    assert max(len(entry["row"]["messages"]) for entry in result["accepted"]) > 200


def test_another_seed_gives_another_inbox_with_the_same_reasons():
    policies = load_policies()

    def planted(seed: int) -> list[str]:
        return sorted(why for _, why in shopflow_inbox.inbox(policies, seed))

    assert planted(7) == planted(shopflow_inbox.SEED)
    assert shopflow_inbox.file_text(policies, 7) != shopflow_inbox.file_text(policies)


def test_the_committed_inbox_is_up_to_date_and_a_stale_one_is_told(monkeypatch, tmp_path):
    import typer

    app = typer.Typer()
    app.command()(shopflow_inbox.main)
    assert CliRunner().invoke(app, ["--check"]).exit_code == 0
    monkeypatch.setattr(shopflow_inbox, "NAME", "missing.jsonl")
    told = CliRunner().invoke(app, ["--check"])
    assert told.exit_code == 1 and "python -m autograder.shopflow_inbox" in told.output


def test_line_by_line_gives_the_files_that_the_whole_text_gives(tmp_path: Path) -> None:
    sort_file = definitions(LAB, ("sort_file",))["sort_file"]
    text = shopflow_inbox.file_text(load_policies())
    source, keep, drop = (tmp_path / name for name in ("inbox", "accepted", "quarantine"))
    source.write_bytes(text.encode() + b'{"messages": "\xe9"}\n')
    counts = sort_file(source, keep, drop)
    result = answer("validate_jsonl")(text)
    kept = [json.loads(line) for line in keep.read_text(encoding="utf-8").split("\n")[:-1]]
    assert kept == [entry["row"] for entry in result["accepted"]]
    dropped = [json.loads(line) for line in drop.read_text(encoding="utf-8").splitlines()]
    assert dropped == [*result["quarantine"], {"line": 118, "reason": "not UTF-8"}]
    assert counts == {"accepted": 86, "quarantine": 32}


def test_line_by_line_has_the_rules_of_the_exercise(tmp_path: Path) -> None:
    """Every text of the exercise, with byte order marks where they belong and where they do not."""
    exercise = next(e for e in exercises_of(LAB) if e.name == "validate_jsonl")
    sort_file = definitions(LAB, ("sort_file",))["sort_file"]
    source, keep, drop = (tmp_path / name for name in ("inbox", "accepted", "quarantine"))
    texts = [case.arguments["text"] for case in (*exercise.public, *exercise.private(random.Random(0)))]
    for text in (*texts, "\ufeff\n", "\ufeff\ufeff"):
        source.write_bytes(text.encode())
        sort_file(source, keep, drop)
        result = answer("validate_jsonl")(text)
        kept = keep.read_text(encoding="utf-8").split("\n")
        dropped = drop.read_text(encoding="utf-8").splitlines()
        assert [json.loads(line) for line in kept if line] == [e["row"] for e in result["accepted"]]
        assert [json.loads(line) for line in dropped] == result["quarantine"], text[:40]


# Repair


def test_users_are_joined_as_mistrals_own_encoder_joins_them():
    mistral = pytest.importorskip("mistral_common.protocol.instruct.messages")
    from mistral_common.protocol.instruct.normalize import InstructRequestNormalizer
    from mistral_common.protocol.instruct.request import ChatCompletionRequest

    contents = ["My tablet is broken.", "It is new.", "What should I do?"]
    theirs = InstructRequestNormalizer.normalizer().from_chat_completion_request(
        ChatCompletionRequest(messages=[mistral.UserMessage(content=content) for content in contents])
    )
    ours = answer("repair")(
        [{"role": "user", "content": content} for content in contents],
        {"merge": ["user"], "separator": "\n\n"},
    )
    assert [message.content for message in theirs.messages] == [m["content"] for m in ours["messages"]]
    assert ours["changes"] == [{"message": 1, "into": 0}, {"message": 2, "into": 0}]


TURNS = st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from((*KNOWN, "gpt")),
            "content": st.sampled_from(("a", "b c", "", " ", None)),
        }
    ),
    max_size=8,
)


@FEW
@given(TURNS, st.lists(st.sampled_from(KNOWN), unique=True))
def test_a_repair_loses_no_word_and_its_record_leads_back(messages, merge):
    result = answer("repair")(messages, {"merge": merge, "separator": "|"})
    merged = {change["message"]: change["into"] for change in result["changes"]}
    kept = [at for at in range(len(messages)) if at not in merged]
    rebuilt = []
    for at in kept:
        parts = [messages[n]["content"] for n in range(len(messages)) if n == at or merged.get(n) == at]
        rebuilt.append(messages[at] | {"content": "|".join(parts) if len(parts) > 1 else parts[0]})
    assert result["messages"] == rebuilt
    assert all(messages[n]["role"] in merge for n in merged)
    again = answer("repair")(result["messages"], {"merge": merge, "separator": "|"})
    assert again["changes"] == [], "a second repair finds nothing left to do"


# Grading


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("exercise", exercises_of(LAB), ids=lambda exercise: exercise.name)
def test_every_fault_is_caught_whatever_the_seed_of_the_class(exercise, seed):
    cases = exercise.private(random.Random(seed))
    expected = [call(answer(exercise.name), case.arguments) for case in cases]
    assert not any(outcome.raised or outcome.trouble for outcome in expected)
    for fault in faults_of(exercise.name):
        outcomes = (call(fault.run, case.arguments, repeat=False) for case in cases)
        assert not all(agrees(e, o) for e, o in zip(expected, outcomes, strict=True)), fault.id
