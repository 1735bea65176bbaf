"""The families' templates: what they render, what they refuse, what is supervised with them."""

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any

import jinja2
import pytest
from hypothesis import assume, given
from hypothesis_profiles import PROFILE, TEXT, chats
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from chatcontract import models
from chatcontract.families import (
    DRIFTS,
    FAMILIES,
    QWEN2_5_SYSTEM_PROMPT,
    SMOLLM2_SYSTEM_PROMPT,
    Chat,
    apply_serving_template,
    apply_training_template,
    family,
)
from chatcontract.vendor_tokenizers import load_vendor_tokenizer

SYSTEM = {"role": "system", "content": "Use only the supplied policy evidence."}
USER = {"role": "user", "content": "My electronics arrived damaged. What should I do?"}
ANSWER = {"role": "assistant", "content": "Report the damage within 48 hours and attach photos."}
PREFILL = {"role": "assistant", "content": '{"deadline_hours": '}

# What the model itself writes in one turn, by family: the text that training must supervise.
WRITTEN_BY_MODEL: dict[str, Callable[[str], str]] = {
    "chatml": lambda content: content + "<|im_end|>",
    "llama3": lambda content: content + "<|eot_id|>",
    "mistral_v01": lambda content: " " + content + "</s>",
    "alpaca": lambda content: content,
    "plain": lambda content: " " + content,
}

SPOKEN_BY = [
    ("chatml", "smollm2-135m"),
    ("llama3", "llama3"),
    ("mistral_v01", "mistral_v01"),
]


@cache
def tokenizer_named(name: str) -> PreTrainedTokenizerBase:
    if name in ("llama3", "mistral_v01"):
        pytest.importorskip({"llama3": "llama_models", "mistral_v01": "mistral_common"}[name])
        return load_vendor_tokenizer(name)
    if not models.is_fetched(name):
        pytest.skip(f"the model {name} has not been fetched: run 'python3 course.py model fetch {name}'")
    if not (models.fetch(name) / "tokenizer.json").is_file():
        pytest.skip(f"the model {name} has no tokenizer yet")
    return models.load_tokenizer(name)


def render(template: str, messages: Chat, *, cue: bool = False, prefill: bool = False) -> str:
    texts, _ = render_jinja_template(
        conversations=[messages],
        chat_template=template,
        add_generation_prompt=cue,
        continue_final_message=prefill,
    )
    return texts[0]


# Rendering


def test_chatml_renders_the_running_example_in_its_three_modes():
    template = family("chatml").serving_template
    prompt = (
        "<|im_start|>system\nUse only the supplied policy evidence.<|im_end|>\n"
        "<|im_start|>user\nMy electronics arrived damaged. What should I do?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert render(template, [SYSTEM, USER], cue=True) == prompt
    assert render(template, [SYSTEM, USER, ANSWER]) == prompt + ANSWER["content"] + "<|im_end|>\n"
    assert render(template, [SYSTEM, USER, PREFILL], prefill=True) == prompt + '{"deadline_hours": '


def test_llama3_renders_the_running_example_in_its_three_modes():
    template = family("llama3").serving_template
    prompt = (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
        "Use only the supplied policy evidence.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
        "My electronics arrived damaged. What should I do?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )
    assert render(template, [SYSTEM, USER], cue=True) == prompt
    assert render(template, [SYSTEM, USER, ANSWER]) == prompt + ANSWER["content"] + "<|eot_id|>"
    assert render(template, [SYSTEM, USER, PREFILL], prefill=True) == prompt + '{"deadline_hours": '


def test_mistral_renders_the_running_example_and_knows_no_cue():
    template = family("mistral_v01").serving_template
    prompt = (
        "<s> [INST] Use only the supplied policy evidence.\n\n"
        "My electronics arrived damaged. What should I do? [/INST]"
    )
    assert render(template, [SYSTEM, USER], cue=True) == render(template, [SYSTEM, USER]) == prompt
    assert render(template, [SYSTEM, USER, ANSWER]) == prompt + " " + ANSWER["content"] + "</s>"
    assert render(template, [SYSTEM, USER, PREFILL], prefill=True) == prompt + ' {"deadline_hours": '
    second_turn = render(template, [USER, ANSWER, {"role": "user", "content": "Where?"}])
    assert second_turn.endswith("photos.</s> [INST] Where? [/INST]")


def test_the_plain_frames_render_the_running_example():
    alpaca, plain = family("alpaca").serving_template, family("plain").serving_template
    assert render(alpaca, [SYSTEM, USER, ANSWER]) == (
        "Use only the supplied policy evidence.\n\n"
        "### Instruction:\nMy electronics arrived damaged. What should I do?\n\n"
        "### Response:\nReport the damage within 48 hours and attach photos."
    )
    assert render(plain, [SYSTEM, USER, ANSWER]) == (
        "System: Use only the supplied policy evidence.\n"
        "User: My electronics arrived damaged. What should I do?\n"
        "Assistant: Report the damage within 48 hours and attach photos."
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_a_prompt_with_its_cue_is_the_beginning_of_the_completed_transcript(name):
    template = family(name).serving_template
    prompt = render(template, [SYSTEM, USER], cue=True)
    answer = WRITTEN_BY_MODEL[name](ANSWER["content"])
    assert render(template, [SYSTEM, USER, ANSWER]).removesuffix("\n") == prompt + answer


@pytest.mark.parametrize("name", FAMILIES)
def test_the_described_cue_terminator_and_bos_are_those_of_the_template(name):
    chosen = family(name)
    without, with_cue = (render(chosen.serving_template, [USER], cue=cue) for cue in (False, True))
    assert with_cue == without + (chosen.generation_cue or "")
    completed = render(chosen.serving_template, [USER, ANSWER])
    assert completed.startswith(chosen.bos)
    written = chosen.answer_prefix + ANSWER["content"] + chosen.terminator
    assert written == WRITTEN_BY_MODEL[name](ANSWER["content"])
    for marker in (*chosen.special_tokens, *chosen.text_markers):
        assert marker in render(chosen.serving_template, [SYSTEM, USER, ANSWER])


@PROFILE
@given(chats(answers=TEXT.filter(bool)))
def test_training_and_serving_templates_render_the_same_text(messages):
    for chosen in FAMILIES.values():
        shown = messages[:2] if chosen.name == "alpaca" and messages[0]["role"] == "user" else messages
        if chosen.name == "alpaca":
            shown = shown[:3]
        for cue in (False, True):
            serving = render(chosen.serving_template, shown, cue=cue)
            assert serving == render(chosen.training_template, shown, cue=cue), chosen.name


@PROFILE
@given(chats(answers=TEXT.filter(bool)))
def test_a_jinja_engine_without_the_hub_settings_renders_the_same_text(messages):
    """Other servers use other white-space settings: https://github.com/utilityai/llama-cpp-rs/issues/1096"""
    for name in ("chatml", "llama3", "mistral_v01", "plain"):
        template = family(name).serving_template
        other_engine = plain_jinja(template).render(messages=messages, add_generation_prompt=True)
        assert other_engine == render(template, messages, cue=True), name


@cache
def plain_jinja(template: str) -> jinja2.Template:
    return jinja2.Environment().from_string(template)


# Refusals


@pytest.mark.parametrize("name", FAMILIES)
def test_an_unknown_role_is_refused_and_not_dropped(name):
    """A ShareGPT row (human, gpt) otherwise trains on nothing: https://github.com/axolotl-ai-cloud/axolotl/issues/752"""
    with pytest.raises(jinja2.TemplateError, match="message 0 has the role 'human'"):
        render(family(name).serving_template, [{"role": "human", "content": "Hi"}, ANSWER])


@pytest.mark.parametrize("name", FAMILIES)
def test_content_that_is_not_text_is_refused(name):
    parts = {"role": "user", "content": [{"type": "text", "text": "Hi"}]}
    bad: Any
    for bad in (parts, {"role": "user", "content": None}, {"role": "user"}):
        with pytest.raises(jinja2.TemplateError, match="the content of message 1 is not text"):
            render(family(name).serving_template, [SYSTEM, bad, ANSWER])


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ([USER, USER, ANSWER], "turn 1 is user"),
        ([ANSWER], "turn 0 is assistant"),
        ([USER, ANSWER, SYSTEM], "turn 2 is system"),
        ([SYSTEM], "add a user message"),
        ([USER, {"role": "assistant", "content": ""}], "turn 1 is an empty answer"),
    ],
)
def test_mistral_refuses_what_its_frame_cannot_say(messages, says):
    with pytest.raises(jinja2.TemplateError, match=says):
        render(family("mistral_v01").serving_template, messages)


@pytest.mark.parametrize("messages", [[], [SYSTEM], [ANSWER], [USER, ANSWER, USER], [USER, USER]])
def test_the_alpaca_frame_holds_one_instruction_only(messages):
    with pytest.raises(jinja2.TemplateError, match="one instruction and one response"):
        render(family("alpaca").serving_template, messages)


def test_an_unknown_family_is_answered_with_the_nearest_name():
    with pytest.raises(ValueError, match=r"no chat family 'Llama-3'\. Did you mean 'llama3'\?"):
        family("Llama-3")


# The templates that TRL ships from the hub


@cache
def hub_template(name: str) -> str:
    spec = find_spec("trl")
    if spec is None or spec.origin is None:
        pytest.skip("TRL is not installed")
    return (Path(spec.origin).parent / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")


@PROFILE
@given(chats())
def test_chatml_equals_qwens_template_once_the_vendor_prompt_is_set_aside(messages):
    ours = render(family("chatml").serving_template, messages, cue=True)
    qwen = render(hub_template("qwen2_5"), messages, cue=True)
    if messages[0]["role"] == "system":
        assert ours == qwen
    else:
        assert f"<|im_start|>system\n{QWEN2_5_SYSTEM_PROMPT}<|im_end|>\n{ours}" == qwen


@PROFILE
@given(chats())
def test_llama3_equals_the_hub_template_except_that_it_keeps_white_space(messages):
    bos = {"bos_token": "<|begin_of_text|>"}
    hub, _ = render_jinja_template(conversations=[messages], chat_template=hub_template("llama3"), **bos)
    trimmed = [{**message, "content": message["content"].strip()} for message in messages]
    assert render(family("llama3").serving_template, trimmed) == hub[0]
    assert render(DRIFTS["llama3_trimming"].template, messages) == hub[0]


def test_smollm2s_own_template_differs_by_its_default_system_prompt():
    vendor = tokenizer_named("smollm2-135m").chat_template
    drift = DRIFTS["smollm2_vendor"].template
    for messages in ([USER, ANSWER], [SYSTEM, USER, ANSWER]):
        assert render(drift, messages, cue=True) == render(vendor, messages, cue=True)
    ours = family("chatml").serving_template
    assert render(ours, [SYSTEM, USER], cue=True) == render(vendor, [SYSTEM, USER], cue=True)
    hidden = f"<|im_start|>system\n{SMOLLM2_SYSTEM_PROMPT}<|im_end|>\n"
    assert hidden + render(ours, [USER], cue=True) == render(vendor, [USER], cue=True)


def test_a_typed_chatml_marker_is_a_real_one_unless_transformers_is_told_to_keep_it_as_text():
    tokenizer = tokenizer_named("smollm2-135m")
    if "sanitize_control_tokens" not in signature(tokenizer.apply_chat_template).parameters:
        pytest.skip("this version of transformers has no sanitize_control_tokens")
    template = family("chatml").serving_template
    (typed,) = (d for d in family("chatml").differences if d.name == "control token typed by a user")
    end_of_turn = tokenizer.convert_tokens_to_ids("<|im_end|>")
    ids = tokenizer.apply_chat_template(typed.messages, chat_template=template, return_dict=False)
    assert ids.count(end_of_turn) == 2
    kept_as_text = tokenizer.apply_chat_template(
        typed.messages, chat_template=template, return_dict=False, sanitize_control_tokens=True
    )
    assert kept_as_text.count(end_of_turn) == 1
    assert tokenizer.decode(kept_as_text) == tokenizer.decode(ids)
    with pytest.raises(ValueError, match="sanitize_control_tokens"):
        tokenizer.apply_chat_template(
            typed.messages,
            chat_template=family("chatml").training_template,
            return_dict=True,
            return_assistant_tokens_mask=True,
            sanitize_control_tokens=True,
        )


@pytest.mark.parametrize("drift", DRIFTS.values(), ids=DRIFTS)
def test_every_drift_shows_on_its_example(drift):
    assert render(drift.template, drift.messages) != render(
        family(drift.family).serving_template, drift.messages
    )


# What is supervised


def supervised_characters(
    tokenizer: PreTrainedTokenizerBase, messages: Chat, template: str
) -> tuple[str, set[int], list[tuple[int, int]]]:
    """The rendered text, the characters under transformers' assistant mask, every token's character span."""
    text = tokenizer.apply_chat_template(messages, tokenize=False, chat_template=template)
    encoded = tokenizer.apply_chat_template(
        messages,
        chat_template=template,
        return_dict=True,
        return_assistant_tokens_mask=True,
        tokenizer_kwargs={"return_offsets_mapping": True},
    )
    spans = encoded["offset_mapping"]
    masked = [span for span, keep in zip(spans, encoded["assistant_masks"], strict=True) if keep]
    return text, {i for start, end in masked for i in range(start, end)}, spans


def answer_spans(chosen: str, template: str, messages: Chat) -> list[tuple[int, int]]:
    """Where the text that the model writes stands, one span for each assistant turn."""
    found = []
    for i, message in enumerate(messages):
        if message["role"] == "assistant":
            start = len(render(template, messages[:i], cue=True))
            found.append((start, start + len(WRITTEN_BY_MODEL[chosen](message["content"]))))
    return found


@pytest.mark.parametrize(("name", "model"), SPOKEN_BY)
@PROFILE
@given(messages=chats(answers=TEXT.filter(bool)))
def test_exactly_the_answers_and_their_terminators_are_supervised(name, model, messages):
    """Where content begins with white space, byte-pair tokenizers may merge it with the header's line break.

    Then no set of whole tokens is exactly the answer, and the prompt that a server sends is no token prefix
    of the training text. transformers takes the shared token in; so does this test, and nothing beyond it.
    """
    tokenizer = tokenizer_named(model)
    chosen = family(name)
    assume(not any(t in m["content"] for t in tokenizer.all_special_tokens for m in messages))
    assume(not any(t in m["content"] for t in tokenizer.get_added_vocab() for m in messages))
    text, supervised, spans = supervised_characters(tokenizer, messages, chosen.training_template)
    has_a_token = {i for start, end in spans for i in range(start, end)}
    assume(all(start in has_a_token for start, _ in answer_spans(name, chosen.serving_template, messages)))
    expected: set[int] = set()
    for (start, end), answer in zip(
        answer_spans(name, chosen.serving_template, messages),
        [m["content"] for m in messages if m["role"] == "assistant"],
        strict=True,
    ):
        assert text[start:end] == WRITTEN_BY_MODEL[name](answer)
        shared = min((a for a, b in spans if a < start < b), default=start)
        if shared < start:
            assert name != "mistral_v01"
            assert answer[0].isspace() and text[shared:start].isspace()
        expected |= set(range(shared, end)) & has_a_token
    assert supervised == expected


def test_an_answer_that_starts_with_a_character_smollm2_lacks_ends_all_supervision():
    """SmolLM2's vocabulary has no token for six control characters and drops them without a word.

    transformers 5.23 looks up the token of an answer's first character, finds none, takes it for truncated
    away and leaves every later answer out as well (`apply_chat_template` in tokenization_utils_base.py).
    """
    tokenizer = tokenizer_named("smollm2-135m")
    assert tokenizer.encode("\x16Report", add_special_tokens=False) == tokenizer.encode("Report")
    damaged = {"role": "assistant", "content": "\x16Report"}
    template = family("chatml").training_template
    assert supervised_characters(tokenizer, [USER, damaged, USER, ANSWER], template)[1] == set()
    text, supervised, _ = supervised_characters(tokenizer, [USER, ANSWER, USER, damaged], template)
    assert "".join(text[i] for i in sorted(supervised)) == ANSWER["content"] + "<|im_end|>"


@pytest.mark.parametrize("name", ["alpaca", "plain"])
def test_in_a_plain_frame_the_answer_is_supervised_and_no_terminator(name):
    tokenizer = tokenizer_named("mistral_v01")
    template = family(name).training_template
    text, supervised, _ = supervised_characters(tokenizer, [SYSTEM, USER, ANSWER], template)
    assert "".join(text[i] for i in sorted(supervised)).strip() == ANSWER["content"]


@pytest.mark.parametrize(("name", "model"), SPOKEN_BY)
def test_trl_labels_exactly_the_answers(name, model, tmp_path):
    pytest.importorskip("trl")
    from datasets import Dataset
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl import SFTConfig, SFTTrainer

    tokenizer = tokenizer_named(model)
    follow_up = [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "In the app.\n"}]
    rows = [{"messages": [SYSTEM, USER, ANSWER]}, {"messages": [SYSTEM, USER, ANSWER, *follow_up]}]
    shape = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    replaced = tokenizer.chat_template
    try:
        with apply_training_template(tokenizer, family(name)):
            trainer = SFTTrainer(
                model=LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **shape)),
                args=SFTConfig(
                    output_dir=str(tmp_path),
                    assistant_only_loss=True,
                    use_cpu=True,
                    bf16=False,
                    report_to="none",
                    disable_tqdm=True,
                ),
                train_dataset=Dataset.from_list(rows),
                processing_class=tokenizer,
            )
        assert trainer.processing_class.chat_template == family(name).serving_template
        for row, prepared in zip(rows, trainer.train_dataset, strict=True):
            labels = [label for label in prepared["labels"] if label != -100]
            answers = [m["content"] for m in row["messages"] if m["role"] == "assistant"]
            expected = "".join(WRITTEN_BY_MODEL[name](answer) for answer in answers)
            # decoding by itself, Mistral's tokenizer drops the space before the first word
            assert tokenizer.decode(labels).lstrip() == expected.lstrip()
            assert labels.count(tokenizer.convert_tokens_to_ids(family(name).terminator)) == len(answers)
    finally:
        tokenizer.chat_template = replaced


def test_trls_qwen_template_supervises_a_newline_on_either_side_of_ours():
    tokenizer = tokenizer_named("smollm2-135m")
    ours = supervised_characters(tokenizer, [SYSTEM, USER, ANSWER], family("chatml").training_template)
    trls = supervised_characters(tokenizer, [SYSTEM, USER, ANSWER], hub_template("qwen2_5_training"))
    assert ours[0] == trls[0]
    extra = sorted(trls[1] - ours[1])
    assert ours[1] < trls[1]
    assert [ours[0][i] for i in extra] == ["\n", "\n"]
    assert extra == [min(ours[1]) - 1, max(ours[1]) + 1]


# Putting a template on a tokenizer


def test_within_the_block_the_training_template_and_afterwards_the_serving_one():
    tokenizer = tokenizer_named("mistral_v01")
    chosen = family("mistral_v01")
    with apply_training_template(tokenizer, chosen) as same:
        assert same is tokenizer
        assert tokenizer.chat_template == chosen.training_template
    assert tokenizer.chat_template == chosen.serving_template
    with pytest.raises(RuntimeError), apply_training_template(tokenizer, chosen):
        raise RuntimeError("a training run that failed")
    assert "generation -%}" not in tokenizer.chat_template


def test_applying_a_template_returns_the_one_it_replaces():
    tokenizer = tokenizer_named("smollm2-135m")
    vendor = tokenizer.chat_template
    try:
        assert apply_serving_template(tokenizer, family("chatml")) == vendor
        assert SMOLLM2_SYSTEM_PROMPT not in tokenizer.apply_chat_template([USER], tokenize=False)
    finally:
        tokenizer.chat_template = vendor


def test_a_tokenizer_of_another_family_is_refused_and_left_alone():
    tokenizer = tokenizer_named("mistral_v01")
    before = tokenizer.chat_template
    with pytest.raises(ValueError, match=r"does not know <\|im_start\|>, <\|im_end\|> as single tokens"):
        apply_serving_template(tokenizer, family("chatml"))
    assert tokenizer.chat_template == before
