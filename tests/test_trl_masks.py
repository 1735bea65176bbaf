"""What TRL's training templates call the assistant's text, family by family, with where each parts from ours.

Ours is the answer and its terminator, nothing else (`test_families.py` holds our templates to that). The list
below is the written one: a template that is new, gone or changed in another version of TRL fails here.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis_profiles import PROFILE, TEXT, chats
from transformers.utils.chat_template_utils import render_jinja_template

from chatcontract.families import Chat, family

SPEC = find_spec("trl")
if SPEC is None or SPEC.origin is None:
    pytest.skip("TRL is not installed", allow_module_level=True)
FOLDER = Path(SPEC.origin).parent / "chat_templates"


@dataclass(frozen=True)
class Learned:
    """The learned text of one turn is `before`, the answer and `after`.

    `last` stands in the place of `after` in the last turn, `tail` is learned once at the end of the row.
    """

    before: str = ""
    after: str = ""
    last: str | None = None
    tail: str = ""

    def of(self, answers: list[str]) -> str:
        text = "".join(self.before + answer + self.after for answer in answers)
        if self.last is not None:
            text = text.removesuffix(self.after) + self.last
        return text + self.tail


# Equal to ours: the answer and its terminator.
AS_OURS = {
    "cohere2": Learned(after="<|END_RESPONSE|><|END_OF_TURN_TOKEN|>"),
    "cohere": Learned(after="<|END_OF_TURN_TOKEN|>"),
    "llama3": Learned(after="<|eot_id|>"),
}

# The line break that the template writes after the terminator is learned as well.
LINE_BREAK_AFTER = {
    "diffusion_gemma": Learned(after="<turn|>\n"),
    "gemma3": Learned(after="<end_of_turn>\n"),
    "gemma": Learned(after="<end_of_turn>\n"),
    "lfm2": Learned(after="<|im_end|>\n"),
    "lfm2_v2": Learned(after="<|im_end|>\n"),
    "phi3_5": Learned(after="<|end|>\n", tail="<EOS>"),
    "phi3": Learned(after="<|end|>\n", tail="<EOS>"),
    "qwen2_5_vl": Learned(after="<|im_end|>\n"),
    "qwen3_instruct_2507": Learned(after="<|im_end|>\n"),
    "qwen3_vl": Learned(after="<|im_end|>\n"),
}

# The header, or a part of it, is learned.
HEADER = {
    "deepseek_r1_distill": Learned("<｜Assistant｜>", "<｜end▁of▁sentence｜>"),
    "deepseekv3": Learned("<｜Assistant｜>", "<｜end▁of▁sentence｜>"),
    "gptoss": Learned("<|start|>assistant<|channel|>final<|message|>", "<|end|>", last="<|return|>"),
    "muse_glimmer": Learned("<|start|>assistant to=user<|message|>", "<|eot|>"),
    "qwen2_5": Learned("\n", "<|im_end|>\n"),
}

# An empty block of thoughts, which the template writes, is learned in every turn.
EMPTY_THOUGHTS = {
    "glm4moe": Learned("\n<think></think>\n", "<|user|>"),
    "nemotron_3_5_lightning": Learned("<think></think>", "<|im_end|>\n"),
    "nemotron_3_nano": Learned("<think></think>", "<|im_end|>\n"),
    "nemotron_3_super": Learned("<think></think>", "<|im_end|>\n"),
    "nemotron_3_ultra": Learned("<think></think>", "<|im_end|>\n"),
    "qwen3_5_nothink": Learned("<think>\n\n</think>\n\n", "<|im_end|>\n"),
    "qwen3_5_think": Learned("<think>\n\n</think>\n\n", "<|im_end|>\n"),
    "qwen3_6": Learned("<think>\n\n</think>\n\n", "<|im_end|>\n"),
    "qwen3_8": Learned("<think>\n\n</think>\n\n", "<|im_end|>\n"),
    "qwen3": Learned("<think>\n\n</think>\n\n", "<|im_end|>\n"),
}

# Made for pictures: an answer that is a plain string is left out without a word, and only its end is learned.
DROPS_PLAIN_STRINGS = {"idefics3": " <end_of_utterance>\n", "smolvlm": " <end_of_utterance>\n"}
# Takes no plain strings at all.
REFUSES_PLAIN_STRINGS = {"llava_next"}

FAMILIES = AS_OURS | LINE_BREAK_AFTER | HEADER | EMPTY_THOUGHTS


def learned(name: str, messages: Chat) -> str:
    template = (FOLDER / f"{name}_training.jinja").read_text(encoding="utf-8")
    texts, spans = render_jinja_template(
        [messages],
        chat_template=template,
        return_assistant_tokens_mask=True,
        bos_token="<BOS>",
        eos_token="<EOS>",
    )
    return "".join(texts[0][start:stop] for start, stop in spans[0])


def test_every_training_template_of_trl_is_on_the_list():
    shipped = {path.name.removesuffix("_training.jinja") for path in FOLDER.glob("*_training.jinja")}
    assert shipped == set(FAMILIES) | set(DROPS_PLAIN_STRINGS) | REFUSES_PLAIN_STRINGS


# Several templates strip the answer and read <think> in it; neither is the subject here.
ANSWERS = TEXT.map(str.strip).filter(bool)


@PROFILE
@given(chats(answers=ANSWERS))
def test_the_learned_text_is_the_answers_and_what_the_list_says(messages):
    # several templates look at the first character of a question
    turns = [m | {"content": m["content"] or "Hi"} for m in messages if m["role"] != "system"]
    answers = [message["content"] for message in turns if message["role"] == "assistant"]
    for name, expected in FAMILIES.items():
        assert learned(name, turns) == expected.of(answers), name
    for name, end in DROPS_PLAIN_STRINGS.items():
        assert learned(name, turns) == end * len(answers), name


def test_our_chatml_learns_neither_of_qwens_line_breaks():
    answer = {"role": "assistant", "content": "Report it."}
    texts, spans = render_jinja_template(
        [[answer]],
        chat_template=family("chatml").training_template,
        return_assistant_tokens_mask=True,
    )
    assert [texts[0][start:stop] for start, stop in spans[0]] == ["Report it.<|im_end|>"]
