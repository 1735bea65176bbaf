"""Lab 01's reference answers against transformers, mistral-common and llama-models.

The answers are taken from the solution notebook, so what is held here is what students are graded against.
"""

import re
from collections.abc import Callable
from functools import cache
from typing import Any

import nbformat
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from hypothesis_profiles import PROFILE, TEXT, chats
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from autograder.labs import ROOT
from chatcontract.families import FAMILIES, Chat, family
from chatcontract.models import is_fetched, load_tokenizer

try:
    import test_vendors as vendors
except pytest.skip.Exception:
    HAS_VENDORS = False
else:
    HAS_VENDORS = True
needs_vendors = pytest.mark.skipif(not HAS_VENDORS, reason="the extra 'oracles' is not installed")

NOTEBOOK = ROOT / "solutions" / "01_rendering" / "01_rendering.ipynb"

SYSTEM = {"role": "system", "content": "Use only the supplied policy evidence."}
USER = {"role": "user", "content": "My electronics arrived damaged. What should I do?"}
ANSWER = {"role": "assistant", "content": "Report the damage within 48 hours and attach photos."}
CONTROL = {
    "mistral_v01": re.compile(r"<s>|</s>|<unk>"),
    "llama3": re.compile(r"<\|\w+\|>"),
}


@cache
def answer(name: str) -> Callable[..., Any]:
    """One reference answer; an answer needs nothing but its own cell."""
    namespace: dict[str, Any] = {}
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        if cell.metadata.get("nbgrader", {}).get("solution"):
            exec(compile(cell.source, cell.id, "exec"), namespace)
    return namespace[name]


def by_transformers(name: str, messages: Chat, *, cue: bool = False, prefill: bool = False) -> str:
    """The family's template, run by the function behind `apply_chat_template`."""
    (text,), _ = render_jinja_template(
        [messages],
        chat_template=family(name).serving_template,
        add_generation_prompt=cue,
        continue_final_message=prefill,
    )
    return text


@pytest.mark.parametrize(("name", "render"), [("chatml", "render_chatml"), ("llama3", "render_llama3")])
@PROFILE
@given(messages=chats())
@example(messages=[USER, {"role": "assistant", "content": '{"deadline_hours": '}])
def test_an_answer_with_a_cue_equals_transformers_in_all_three_modes(name, render, messages):
    mine = answer(render)
    assert mine(messages) == by_transformers(name, messages)
    prompt = messages[:-1]
    assert mine(prompt, add_generation_prompt=True) == by_transformers(name, prompt, cue=True)
    end = family(name).terminator + ("\n" if name == "chatml" else "")
    opened = mine(messages, continue_final_message=True)
    assert opened + end == by_transformers(name, messages)
    assert opened == mine(prompt, add_generation_prompt=True) + messages[-1]["content"]
    # transformers looks the last content up in the rendered text and cannot find an empty or blank one
    if messages[-1]["content"].strip():
        assert opened == by_transformers(name, messages, prefill=True)


@PROFILE
@given(chats(answers=TEXT.filter(bool)))
def test_mistrals_answer_equals_transformers(messages):
    mine = answer("render_mistral")
    assert mine(messages) == by_transformers("mistral_v01", messages)
    assert mine(messages[:-1]) == by_transformers("mistral_v01", messages[:-1], cue=True)
    assert mine(messages, continue_final_message=True) + "</s>" == mine(messages)
    if messages[-1]["content"].strip():
        opened = by_transformers("mistral_v01", messages, prefill=True)
        assert mine(messages, continue_final_message=True) == opened


@PROFILE
@given(chats())
def test_the_split_frames_joined_are_the_families_text(messages):
    """The boundary is where the family's own template puts its cue."""
    for name in ("alpaca", "plain"):
        if name == "alpaca":
            turns = messages[1:] if messages[0]["role"] == "system" else messages
            shown = messages[: len(messages) - len(turns)] + turns[:2]
        else:
            shown = messages
        split = answer("split_frame")(shown, name)
        assert split["prompt"] + split["completion"] == by_transformers(name, shown)
        assert split["prompt"] == by_transformers(name, shown[:-1], cue=True)
        assert (split["prompt_chars"], split["completion_chars"]) == (
            len(split["prompt"]),
            len(split["completion"]),
        )


MARKERS = sorted({m for f in FAMILIES.values() for m in (*f.special_tokens, *f.text_markers)})


@PROFILE
@given(
    st.lists(st.lists(st.one_of(st.sampled_from(MARKERS), TEXT), max_size=5).map("".join), max_size=3),
    st.lists(st.sampled_from(MARKERS), unique=True),
)
def test_found_control_tokens_are_where_a_literal_search_finds_them(contents, markers):
    messages = [{"role": "user", "content": content} for content in contents]
    found = answer("find_control_tokens")(messages, markers)
    expected = [
        {"message": number, "role": "user", "marker": match.group(), "start": match.start()}
        for number, content in enumerate(contents)
        for match in (re.finditer("|".join(map(re.escape, markers)), content) if markers else ())
    ]
    assert found == expected


# Token for token


@cache
def smollm2() -> PreTrainedTokenizerBase:
    if not is_fetched("smollm2-135m"):
        pytest.skip("smollm2-135m is not fetched")
    return load_tokenizer("smollm2-135m")


@PROFILE
@given(chats())
def test_chatml_gives_the_ids_of_smollm2s_own_template(messages):
    assume(messages[0]["role"] == "system")
    mine = smollm2()(answer("render_chatml")(messages[:-1], True), add_special_tokens=False)["input_ids"]
    own = smollm2().apply_chat_template(messages[:-1], add_generation_prompt=True, return_dict=False)
    assert mine == own


@needs_vendors
@PROFILE
@given(chats(answers=TEXT.filter(bool)))
def test_mistrals_answer_gives_mistral_commons_ids(messages):
    assume(not any(CONTROL["mistral_v01"].search(m["content"]) for m in messages))
    modes = vendors.ValidationMode
    render, encode = answer("render_mistral"), vendors.tokenizer_of("mistral_v01").encode
    assert encode(render(messages), add_special_tokens=False) == vendors.mistral(
        messages, mode=modes.finetuning
    )
    assert encode(render(messages[:-1]), add_special_tokens=False) == vendors.mistral(
        messages[:-1], mode=modes.serving
    )
    assert encode(render(messages, True), add_special_tokens=False) == vendors.mistral(
        messages, mode=modes.serving, prefix=True
    )


@needs_vendors
@PROFILE
@given(chats())
def test_llama3s_answer_gives_llama_models_ids(messages):
    """White space that merges with the header is the one written exception: see test_vendors."""
    assume(not any(CONTROL["llama3"].search(m["content"]) for m in messages))
    assume(not any(vendors.STARTS_WITH_A_LINE_BREAK.match(m["content"]) for m in messages))
    render, encode = answer("render_llama3"), vendors.tokenizer_of("llama3").encode
    prompt = vendors.llama_prompt(messages[:-1])
    assert encode(render(messages), add_special_tokens=False) == vendors.llama_completed(messages)
    assert encode(render(messages[:-1], True), add_special_tokens=False) == prompt
    opened = render(messages, continue_final_message=True)
    assert encode(opened, add_special_tokens=False) == prompt + vendors.llama_text(messages[-1]["content"])


# What the lab tells its reader


def test_the_notebooks_worked_example_is_the_courses():
    chatml = answer("render_chatml")([SYSTEM, USER, ANSWER])
    assert chatml == (
        "<|im_start|>system\nUse only the supplied policy evidence.<|im_end|>\n"
        "<|im_start|>user\nMy electronics arrived damaged. What should I do?<|im_end|>\n"
        "<|im_start|>assistant\nReport the damage within 48 hours and attach photos.<|im_end|>\n"
    )


@pytest.mark.parametrize("render", ["render_chatml", "render_llama3"])
def test_a_cue_beside_a_prefill_is_refused(render):
    with pytest.raises(ValueError, match="choose one"):
        answer(render)([USER, ANSWER], add_generation_prompt=True, continue_final_message=True)


@pytest.mark.parametrize("render", ["render_chatml", "render_llama3", "render_mistral"])
@pytest.mark.parametrize("messages", [[], [SYSTEM, USER]])
def test_a_prefill_that_is_not_the_assistants_is_refused(render, messages):
    with pytest.raises(ValueError):
        answer(render)(messages, continue_final_message=True)


def test_smollm2s_own_template_adds_the_21_tokens_that_the_lab_counts():
    chat = [USER, ANSWER]
    own = smollm2().apply_chat_template(chat, return_dict=False)
    course = smollm2()(answer("render_chatml")(chat), add_special_tokens=False)["input_ids"]
    assert len(own) - len(course) == 21
