"""One chat as aligned rows of tokens and labels, by family and objective."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chatcontract.families import FAMILIES, Family, family
from chatcontract.viewers.chat import TEMPLATE_ROLE, chat_roles
from chatcontract.viewers.mask_lint import IGNORED, Finding, Row, findings
from chatcontract.viewers.pieces import token_pieces

Chat = Sequence[dict[str, str]]

OBJECTIVES = {
    "assistant": "assistant only",
    "full": "full sequence",
    "completion": "completion only",
    "yours": "your labels",
}


@dataclass(frozen=True)
class MaskRow:
    """A tokenized row and its labels, one entry per token.

    Attributes:
        pieces: the bytes of each token.
        labels: aligned with the ids; the model shifts them once.
        roles: role of the message each token belongs to, None where no message is known.
        messages: number of that message, None for the template's own tokens.
        offsets: characters [start, stop) in the rendered text, None where it is not known.
        weights: loss weight of each token as a target; 1 where left out.
        findings: what the checks say.
    """

    ids: tuple[int, ...]
    pieces: tuple[bytes, ...]
    special: tuple[bool, ...]
    labels: tuple[int, ...]
    roles: tuple[str | None, ...] | None = None
    messages: tuple[int | None, ...] | None = None
    offsets: tuple[tuple[int, int], ...] | None = None
    weights: tuple[float, ...] | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def targets(self) -> int:
        """Positions that could be predicted: every one but the first."""
        return max(len(self.ids) - 1, 0)

    @property
    def supervised(self) -> int:
        """Targets with a label."""
        return sum(label != IGNORED for label in self.labels[1:])

    @property
    def share(self) -> float:
        """Supervised targets as a share of all targets."""
        return self.supervised / self.targets if self.targets else 0.0

    @property
    def wrong(self) -> tuple[Finding, ...]:
        """The findings that deserve a look."""
        return tuple(found for found in self.findings if found.wrong)


def spoken(tokenizer: Any, chat: Chat) -> list[str]:
    """The families whose special tokens the tokenizer has and whose template takes the chat."""
    _some(chat)
    names = []
    for name, one in FAMILIES.items():
        if any(len(tokenizer.encode(t, add_special_tokens=False)) != 1 for t in one.special_tokens):
            continue
        try:
            tokenizer.apply_chat_template(list(chat), chat_template=one.serving_template, tokenize=False)
        except Exception:  # each template refuses in a way of its own
            continue
        names.append(name)
    return names


def mask_row(
    chat: Chat,
    tokenizer: Any,
    *,
    name: str | None = None,
    objective: str = "assistant",
    labels: Sequence[int] | None = None,
    weights: Sequence[float] | None = None,
    generation_ends: Collection[int] | None = None,
) -> MaskRow:
    """Render a chat, label it under an objective, and check it.

    Args:
        chat: the messages.
        tokenizer: a fast transformers tokenizer.
        name: a family; None for the tokenizer's own template, which needs generation markers for
            the objective "assistant".
        objective: "assistant" (transformers' assistant mask), "full", "completion" (what follows the longest
            common token prefix of the prompt with its cue, as TRL does), or "yours" with `labels`.
        labels: your labels, one per token.
        weights: loss weight of each token as a target.
        generation_ends: ids that generation stops on.

    Raises:
        ValueError: no messages, an unknown objective, labels or weights of another length than the row, or a
            template that cannot say what the assistant wrote.
    """
    if objective not in OBJECTIVES:
        raise ValueError(f"There is no objective '{objective}': choose one of {', '.join(OBJECTIVES)}.")
    if (objective == "yours") != (labels is not None):
        raise ValueError("Pass labels=... together with objective='yours', and with no other.")
    _some(chat)
    chosen = None if name is None else family(name)
    template = _template(tokenizer, chosen, objective)
    row = tokenizer.apply_chat_template(
        list(chat),
        chat_template=template,
        return_dict=True,
        return_assistant_tokens_mask=objective == "assistant",
        tokenizer_kwargs={"return_offsets_mapping": True},
    )
    ids = [int(one) for one in row["input_ids"]]
    offsets = [(int(start), int(stop)) for start, stop in row["offset_mapping"]]
    if objective == "assistant":
        made = [one if kept else IGNORED for one, kept in zip(ids, row["assistant_masks"], strict=True)]
    elif objective == "full":
        made = ids
    elif objective == "completion":
        made = _completion(chat, tokenizer, template, ids)
    else:
        made = [int(label) for label in labels or ()]
    _same_length("labels", made, ids)
    _same_length("weights", ids if weights is None else weights, ids)
    pieces, special = token_pieces(ids, tokenizer)
    roles, messages, inside = _regions(
        chat, tokenizer, template, offsets, "" if chosen is None else chosen.answer_prefix
    )
    injected = _injected(chat, tokenizer, template)
    for t in injected:
        roles[t], messages[t] = TEMPLATE_ROLE, None
    checked = findings(
        Row(
            ids,
            made,
            special,
            roles,
            inside,
            tokenizer.bos_token_id,
            _ends(tokenizer, chosen),
            generation_ends,
            injected,
        )
    )
    return MaskRow(
        tuple(ids),
        tuple(pieces),
        tuple(special),
        tuple(made),
        tuple(roles),
        tuple(messages),
        tuple(offsets),
        None if weights is None else tuple(map(float, weights)),
        tuple(checked),
    )


def prepared_row(
    row: Mapping[str, Sequence[int]], tokenizer: Any, *, generation_ends: Collection[int] | None = None
) -> MaskRow:
    """A row that a trainer has prepared: ids and labels, and no messages.

    Raises:
        ValueError: a column is missing, or the two differ in length.
    """
    if "input_ids" not in row or "labels" not in row:
        raise ValueError("A prepared row needs 'input_ids' and 'labels': pass the trainer's own rows.")
    ids, labels = ([int(one) for one in row[name]] for name in ("input_ids", "labels"))
    _same_length("labels", labels, ids)
    pieces, special = token_pieces(ids, tokenizer)
    ends = _ends(tokenizer, None)
    checked = findings(
        Row(ids, labels, special, bos=tokenizer.bos_token_id, ends=ends, generation_ends=generation_ends)
    )
    return MaskRow(tuple(ids), tuple(pieces), tuple(special), tuple(labels), findings=tuple(checked))


def _some(chat: Chat) -> None:
    if not chat:
        raise ValueError("The chat has no messages: pass at least one, such as a user's question.")


def _same_length(name: str, values: Sequence[Any], ids: Sequence[int]) -> None:
    if len(values) != len(ids):
        raise ValueError(f"There are {len(values)} {name} for {len(ids)} tokens: give one per token.")


def _template(tokenizer: Any, chosen: Family | None, objective: str) -> str:
    if chosen is not None:
        return chosen.training_template
    own: str | None = tokenizer.chat_template
    if own is None:
        raise ValueError("This tokenizer has no chat template: name a family, for instance name='chatml'.")
    if objective == "assistant" and "generation %}" not in own and "generation -%}" not in own:
        raise ValueError(
            "This tokenizer's template has no {% generation %} markers, so nothing says what the assistant "
            "wrote: name a family, for instance name='chatml'."
        )
    return own


def _ends(tokenizer: Any, chosen: Family | None) -> set[int]:
    known = {tokenizer.eos_token_id} - {None}
    if chosen is not None and chosen.terminator:
        known.add(tokenizer.convert_tokens_to_ids(chosen.terminator))
    return known


def _completion(chat: Chat, tokenizer: Any, template: str, ids: list[int]) -> list[int]:
    if not chat or chat[-1]["role"] != "assistant":
        return [IGNORED] * len(ids)
    prompt = tokenizer.apply_chat_template(
        list(chat[:-1]), chat_template=template, add_generation_prompt=True, return_dict=True
    )["input_ids"]
    pairs = enumerate(zip(prompt, ids, strict=False))
    start = next((t for t, (one, other) in pairs if one != other), min(len(prompt), len(ids)))
    return [IGNORED] * start + ids[start:]


def _regions(
    chat: Chat, tokenizer: Any, template: str, offsets: Sequence[tuple[int, int]], prefix: str
) -> tuple[list[str | None], list[int | None], list[bool]]:
    """Role, message number and whether it is content, for each token, by the characters it holds.

    The prefix of an answer, which the model writes as well, counts as content.
    """

    def rendered(count: int) -> str | None:
        try:
            text: str = tokenizer.apply_chat_template(
                list(chat[:count]), chat_template=template, tokenize=False
            )
        except Exception:  # Mistral wants a user message, for one: the refused part joins the next message
            return None
        return text

    text = rendered(len(chat)) or ""
    ends, contents, position = [], [], 0
    for number, message in enumerate(chat, start=1):
        part = rendered(number) if number < len(chat) else text
        ends.append(len(part) if part is not None and text.startswith(part) else None)
        found = text.find(message["content"], position) if message["content"] else -1
        stop = found + len(message["content"])
        written = len(prefix) if message["role"] == "assistant" and text[:found].endswith(prefix) else 0
        contents.append((found - written, stop) if found >= 0 else (position, position))
        position = max(position, contents[-1][1])
    owners = []
    waiting: list[int] = []
    for number, end in enumerate(ends):
        waiting.append(number)
        if end is not None:
            owners.append((end, waiting[-1], "+".join(dict.fromkeys(chat[k]["role"] for k in waiting))))
            waiting = []
    roles: list[str | None] = []
    messages: list[int | None] = []
    inside: list[bool] = []
    at = content = 0
    for start, stop in offsets:
        while at < len(owners) - 1 and start >= owners[at][0]:
            at += 1
        while content < len(contents) - 1 and start >= contents[content][1]:
            content += 1
        roles.append(owners[at][2] if owners else None)
        messages.append(owners[at][1] if owners else None)
        low, high = contents[content] if contents else (0, 0)
        inside.append(max(start, low) < min(stop, high))
    return roles, messages, inside


def _injected(chat: Chat, tokenizer: Any, template: str) -> list[int]:
    """Tokens of text that the template puts before the first message, special tokens alone left out."""
    if not chat or chat[0]["role"] == "system":
        return []
    first = list(chat[:1])
    try:
        ids = tokenizer.apply_chat_template(first, chat_template=template, return_dict=True)["input_ids"]
        added = chat_roles(first, tokenizer, ids, chat_template=template).count(TEMPLATE_ROLE)
    except Exception:  # a template that refuses a chat of one message says nothing about an injected prompt
        return []
    _, special = token_pieces(ids[:added], tokenizer)
    return [] if all(special) else list(range(added))
