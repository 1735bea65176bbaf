"""One policy fact: a period and a document of a topic, and which of them no training stage may see."""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass

UNITS = ("hour", "day", "week", "month", "business day")
HELD_OUT_SHARE = 5


@dataclass(frozen=True)
class Fact:
    """`document` is the noun phrase as written, with its article (`the receipt`, `photos`)."""

    topic: str
    action: str
    number: int
    unit: str
    anchor: str
    attach: str
    document: str

    @property
    def period(self) -> str:
        return period(self.number, self.unit)


def period(number: int, unit: str) -> str:
    """`48 hours`, `1 day`."""
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"


def document_key(document: str) -> str:
    """The phrase without its article: what an answer must contain."""
    return document.removeprefix("the ").removeprefix("an ").removeprefix("a ")


def is_held_out(number: int, unit: str, document: str) -> bool:
    """True for the fifth of all (number, unit, document) triples that only evaluation may use.

    The split is a checksum of the triple, so every stage agrees on it without sharing a list.
    """
    return zlib.crc32(f"{number}|{unit}|{document_key(document)}".encode()) % HELD_OUT_SHARE == 0


def draw_period_and_document(
    rng: random.Random, documents: tuple[str, ...], *, held_out: bool
) -> tuple[int, str, str]:
    """Number 1 to 99, unit and document, drawn independently of each other from one side of the split."""
    while True:
        number, unit, document = rng.randint(1, 99), rng.choice(UNITS), rng.choice(documents)
        if is_held_out(number, unit, document) == held_out:
            return number, unit, document


def capitalised(text: str) -> str:
    """First letter upper case, the rest untouched."""
    return text[:1].upper() + text[1:]
