"""Ways to turn a chat into the text that a server sends to the model: the right one and wrong ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Chat = list[dict[str, str]]

PREFILL = "You have"
KEPT_TOKENS = 40


def cue(tokenizer: PreTrainedTokenizerBase, chat: Chat) -> str:
    """The template with its generation prompt: what the training rows look like up to the answer."""
    text: str = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    return text


def _no_cue(tokenizer: PreTrainedTokenizerBase, chat: Chat) -> str:
    text: str = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=False)
    return text


def _one_bos(tokenizer: PreTrainedTokenizerBase, chat: Chat) -> str:
    return tokenizer.bos_token + cue(tokenizer, chat)


def _two_bos(tokenizer: PreTrainedTokenizerBase, chat: Chat) -> str:
    return tokenizer.bos_token + _one_bos(tokenizer, chat)


def _mistral(tokenizer: PreTrainedTokenizerBase, chat: Chat) -> str:
    from chatcontract.families import family

    template = family("mistral_v01").serving_template
    text: str = tokenizer.apply_chat_template(chat, chat_template=template, tokenize=False)
    return text


def _prefill(tokenizer: PreTrainedTokenizerBase, chat: Chat) -> str:
    return cue(tokenizer, chat) + PREFILL


def _prefill_and_cue(tokenizer: PreTrainedTokenizerBase, chat: Chat) -> str:
    # transformers closes the prefill as if it were a finished answer, and opens a second one.
    return cue(tokenizer, [*chat, {"role": "assistant", "content": PREFILL}])


def _last_tokens(tokenizer: PreTrainedTokenizerBase, chat: Chat) -> str:
    ids = tokenizer.encode(cue(tokenizer, chat), add_special_tokens=False)
    text: str = tokenizer.decode(ids[-KEPT_TOKENS:])
    return text


@dataclass(frozen=True)
class Serving:
    """How prompts are made when the model answers.

    Attributes:
        shown: words of the prompt that the customer sees as the beginning of the answer.
    """

    render: Callable[[PreTrainedTokenizerBase, Chat], str]
    shown: str = ""


CORRECT = Serving(cue)
NO_CUE = Serving(_no_cue)
ONE_BOS = Serving(_one_bos)
TWO_BOS = Serving(_two_bos)
MISTRAL_WRAPPER = Serving(_mistral)
PREFILLED = Serving(_prefill, shown=PREFILL)
PREFILL_AND_CUE = Serving(_prefill_and_cue, shown=PREFILL)
LAST_TOKENS = Serving(_last_tokens)
