"""Faults as transforms of training data: of rows before they are tokenised, of ids and labels afterwards.

A row transform gets chats and a random generator; a label transform gets the ids and labels that TRL prepared
for one row. None of them builds a mask: each damages a correct one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Chat = list[dict[str, str]]
Prepared = tuple[list[int], list[int]]

IGNORED = -100


@dataclass(frozen=True)
class Marks:
    """Ids that a label transform needs to find its way in a row.

    Attributes:
        user_header: ids of the word `user` and the line break after it, which follow `turn_start`.
    """

    document: int
    turn_start: int
    turn_end: int
    user_header: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> Marks:
        """The marks of a ChatML tokenizer."""
        ids = tokenizer.convert_tokens_to_ids
        return cls(
            document=ids("<|endoftext|>"),
            turn_start=ids("<|im_start|>"),
            turn_end=ids("<|im_end|>"),
            user_header=tuple(tokenizer.encode("user\n", add_special_tokens=False)),
        )


LabelTransform = Callable[[Sequence[int], Sequence[int], Marks], Prepared]
RowTransform = Callable[[list[Chat], random.Random], list[Chat]]


def without_turn_end(ids: Sequence[int], labels: Sequence[int], marks: Marks) -> Prepared:
    """No label on any end-of-turn token."""
    return list(ids), [IGNORED if label == marks.turn_end else label for label in labels]


def with_user_turns(ids: Sequence[int], labels: Sequence[int], marks: Marks) -> Prepared:
    """Labels on the customer's words and the end of that turn as well."""
    damaged, inside = list(labels), False
    skip = 1 + len(marks.user_header)
    for at, token in enumerate(ids):
        if token == marks.turn_start:
            inside = tuple(ids[at + 1 : at + skip]) == marks.user_header
            content = at + skip
        if inside and at >= content:
            damaged[at] = token
        if token == marks.turn_end:
            inside = False
    return list(ids), damaged


def shifted_before_the_model_shifts(ids: Sequence[int], labels: Sequence[int], marks: Marks) -> Prepared:
    """Every label moved one to the left: the model shifts again, so it learns the token after next."""
    return list(ids), [*labels[1:], IGNORED]


def mask_one_early(ids: Sequence[int], labels: Sequence[int], marks: Marks) -> Prepared:
    """The supervised span one token to the left: the header's line break instead of the end of turn."""
    return list(ids), _moved(ids, labels, -1)


def mask_one_late(ids: Sequence[int], labels: Sequence[int], marks: Marks) -> Prepared:
    """The supervised span one token to the right: the line break after the turn instead of the first word."""
    return list(ids), _moved(ids, labels, 1)


def _moved(ids: Sequence[int], labels: Sequence[int], by: int) -> list[int]:
    chosen = {at + by for at, label in enumerate(labels) if label != IGNORED}
    return [token if at in chosen else IGNORED for at, token in enumerate(ids)]


def nothing_supervised(ids: Sequence[int], labels: Sequence[int], marks: Marks) -> Prepared:
    """No label at all."""
    return list(ids), [IGNORED] * len(ids)


def with_bos(ids: Sequence[int], labels: Sequence[int], marks: Marks) -> Prepared:
    """A beginning-of-sequence token in front, without a label."""
    return [marks.document, *ids], [IGNORED, *labels]


@dataclass(frozen=True)
class UnsupportedAnswers:
    """A row transform: that share of rows carries the answer of another such row.

    These rows are what unchecked synthetic data brings: fluent, of the right form, and not what the evidence
    of this row says.
    """

    share: float

    def __call__(self, rows: list[Chat], rng: random.Random) -> list[Chat]:
        """Answers passed on in a circle among the chosen rows; questions and evidence stay."""
        chosen = rng.sample(range(len(rows)), round(self.share * len(rows)))
        damaged = list(rows)
        for here, other in zip(chosen, chosen[1:] + chosen[:1], strict=True):
            damaged[here] = [*rows[here][:-1], rows[other][-1]]
        return damaged
