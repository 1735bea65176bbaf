"""The three renders of one conversation side by side: training, generation prompt, prefill."""

from __future__ import annotations

from typing import Any

from chatcontract.viewers.chat import Chat, chat_view
from chatcontract.viewers.comparison import CompareView, compare


def three_renders(
    messages: Chat, tokenizer: Any, *, prefill: str = "", chat_template: str | None = None
) -> CompareView:
    """Compare a completed chat with its generation prompt and with a prefill of its last answer.

    The first token in which they differ is marked and named with its code points; the training render is
    supervised where its template says so.

    Args:
        messages: a chat that ends with the assistant.
        tokenizer: a transformers tokenizer.
        prefill: the beginning of the answer to serve; by default the answer's first half.
        chat_template: a template instead of the tokenizer's own.

    Raises:
        ValueError: the chat does not end with an assistant's answer.
    """
    if not messages or messages[-1]["role"] != "assistant" or not messages[-1]["content"].strip():
        raise ValueError("The three renders need a chat that ends with an assistant's answer: add one.")
    answer = messages[-1]["content"]
    begun = {"role": "assistant", "content": prefill or answer[: max(1, len(answer) // 2)].rstrip() or answer}
    template = chat_template or tokenizer.chat_template or ""
    marked = "generation %}" in template or "generation -%}" in template
    given: dict[str, Any] = {"chat_template": chat_template}
    return compare(
        chat_view(messages, tokenizer, supervised=marked, title="training", **given),
        chat_view(messages[:-1], tokenizer, add_generation_prompt=True, title="generation prompt", **given),
        chat_view([*messages[:-1], begun], tokenizer, continue_final_message=True, title="prefill", **given),
    )
