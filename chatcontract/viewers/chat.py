"""Token views of chats and of plain text, with the role of every token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chatcontract.viewers.tokens import IGNORE_INDEX, TokenView, token_view

Chat = Sequence[dict[str, str]]

TEMPLATE_ROLE = "template"
CUE_ROLE = "generation prompt"


def chat_view(
    messages: Chat,
    tokenizer: Any,
    *,
    supervised: bool = False,
    labels: Any = None,
    add_generation_prompt: bool = False,
    continue_final_message: bool = False,
    chat_template: str | None = None,
    title: str = "",
) -> TokenView:
    """Render a chat with the tokenizer's template and show its tokens by role.

    Args:
        messages: the chat, ``[{"role": ..., "content": ...}, ...]``.
        tokenizer: a transformers tokenizer with a chat template.
        supervised: label the assistant's tokens as the template's ``{% generation %}`` markers say, and
            ignore the rest; the mask comes from transformers (``return_assistant_tokens_mask``).
        labels: your own labels instead, one per token.
        add_generation_prompt: end with the cue for the assistant's turn.
        continue_final_message: leave the last message open, for a prefill.
        chat_template: a Jinja template to use instead of the tokenizer's own.
        title: shown above the tokens.

    Raises:
        ValueError: cue and prefill together, labels given twice, or a template without generation markers.
    """
    if add_generation_prompt and continue_final_message:
        raise ValueError("A generation cue and a prefill exclude each other: choose one of them.")
    if supervised and labels is not None:
        raise ValueError("supervised=True makes labels from the template: leave labels=... out.")
    options: dict[str, Any] = {
        "add_generation_prompt": add_generation_prompt,
        "continue_final_message": continue_final_message,
    }
    if chat_template is not None:
        options["chat_template"] = chat_template
    if supervised:
        template = chat_template or tokenizer.get_chat_template()
        if "generation %}" not in template and "generation -%}" not in template:
            raise ValueError(
                "This chat template has no {% generation %} markers, so nothing in it says which tokens the "
                "assistant wrote: pass a training template as chat_template=..., or your own labels=..."
            )
        options["return_assistant_tokens_mask"] = True
    encoded = tokenizer.apply_chat_template(list(messages), tokenize=True, return_dict=True, **options)
    ids = list(encoded["input_ids"])
    if supervised:
        labels = [
            one if kept else IGNORE_INDEX for one, kept in zip(ids, encoded["assistant_masks"], strict=True)
        ]
    roles = chat_roles(messages, tokenizer, ids, chat_template=chat_template)
    return token_view(ids, tokenizer, labels=labels, roles=roles, title=title)


def chat_roles(
    messages: Chat, tokenizer: Any, ids: Sequence[int], *, chat_template: str | None = None
) -> list[str]:
    """Which message each token of a rendered chat belongs to.

    The chat is rendered once for every prefix of it; where two prefixes part, a message ends. A prefix that
    the template refuses (Mistral wants the user first) joins the next message, as in ``system+user``. What
    comes before the first message's own header, such as a beginning-of-sequence token or a default system
    prompt that nobody wrote, is called ``template``. What follows the last message is called ``generation
    prompt``.

    Args:
        messages: the chat.
        tokenizer: a transformers tokenizer.
        ids: the ids of the rendered chat, shape (tokens,).
        chat_template: the template that rendered ``ids``, when it is not the tokenizer's own.

    Returns:
        One role per token.
    """

    def render(part: Sequence[dict[str, str]]) -> list[int] | None:
        extra = {} if chat_template is None else {"chat_template": chat_template}
        try:
            encoded = tokenizer.apply_chat_template(list(part), tokenize=True, return_dict=True, **extra)
        except Exception:  # each template refuses in a way of its own: jinja2's errors, TypeError, ValueError
            return None
        return list(encoded["input_ids"])

    roles: list[str] = []
    waiting: list[str] = []
    for count, message in enumerate(messages, start=1):
        waiting.append(message["role"])
        rendered = render(messages[:count])
        end = 0 if rendered is None else _common(rendered, ids)
        if end > len(roles):
            roles += ["+".join(waiting)] * (end - len(roles))
            waiting = []
    if waiting and len(roles) < len(ids):
        roles += ["+".join(waiting)] * (len(ids) - len(roles))
    roles += [CUE_ROLE] * (len(ids) - len(roles))
    if messages:
        added = _added_before(messages[0], render)
        roles[:added] = [TEMPLATE_ROLE] * added
    return roles


def _added_before(first: dict[str, str], render: Any) -> int:
    """Tokens a template puts before the first message but not before a later one of the same role.

    The header is what two renders with different contents have in common. It is taken at the start of a chat
    and again after a whole exchange; a longer header at the start that ends like the later one was added by
    the template.
    """
    other = "assistant" if first["role"] == "user" else "user"
    exchange = [{"role": first["role"], "content": "a"}, {"role": other, "content": "a"}]
    if first["role"] not in ("user", "assistant"):
        exchange.append({"role": "assistant", "content": "a"})
    here = [render([first | {"content": content}]) for content in ("7", "Z")]
    later = [render([*exchange, first | {"content": content}]) for content in ("7", "Z")]
    start = render(exchange)
    if None in here or None in later or start is None:
        return 0
    header = here[0][: _common(*here)]
    later_header = later[0][_common(start, later[0]) : _common(*later)]
    added = len(header) - len(later_header)
    return added if added > 0 and header[added:] == later_header else 0


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    """Length of the longest common prefix."""
    for index, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return index
    return min(len(left), len(right))


def text_view(
    text: str | Sequence[tuple[str, str]],
    tokenizer: Any,
    *,
    labels: Any = None,
    add_special_tokens: bool = False,
    title: str = "",
) -> TokenView:
    """Tokenize plain text and show it.

    Args:
        text: the text, or its parts as ``[(role, text), ...]`` in order, for instance ``[("prompt", ...),
            ("response", ...)]``. A token that holds characters of two parts gets both roles, joined by ``+``.
        tokenizer: a fast transformers tokenizer (parts need its character offsets).
        labels: one label per token.
        add_special_tokens: let the tokenizer add its own special tokens. Off, because text that a chat
            template rendered has them already.
        title: shown above the tokens.
    """
    if isinstance(text, str):
        ids = tokenizer(text, add_special_tokens=add_special_tokens)["input_ids"]
        return token_view(ids, tokenizer, labels=labels, title=title)
    whole = "".join(part for _, part in text)
    encoded = tokenizer(whole, add_special_tokens=add_special_tokens, return_offsets_mapping=True)
    ends: list[tuple[int, int, str]] = []
    position = 0
    for role, part in text:
        ends.append((position, position + len(part), role))
        position += len(part)
    roles = []
    for start, stop in encoded["offset_mapping"]:
        inside = [role for low, high, role in ends if low < max(stop, start + 1) and start < high]
        roles.append("+".join(inside) if stop > start else TEMPLATE_ROLE)
    return token_view(encoded["input_ids"], tokenizer, labels=labels, roles=roles, title=title)
