"""Whether an outcome is the expected one, and if not, which property of it is violated."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Any

from chatcontract.check.outcome import Outcome

_SPECIAL = re.compile(r"<\|[^|<>]*\|>|</?s>|\[/?INST\]")
# Texts up to this length are shown whole.
_SHORT = 40


def agrees(expected: Outcome, got: Outcome, says: tuple[str, ...] = (), tolerance: float = 0.0) -> bool:
    """Whether `got` does what is expected: the same value, or a refusal of the same kind with its words.

    Args:
        says: words that a refusal's message must contain, whatever their case.
        tolerance: absolute or relative difference that a float may have.
    """
    if got.trouble or expected.trouble:
        return _code(got) == _code(expected) and equal(expected.value, got.value, tolerance)
    if expected.raised or got.raised:
        if not (expected.raised and got.raised) or expected.raised[0] not in got.raised:
            return False
        return speaks(got, says)
    return equal(expected.value, got.value, tolerance)


def alike(one: Outcome, other: Outcome, says: tuple[str, ...] = (), tolerance: float = 0.0) -> bool:
    """Whether two outcomes are the same mistake, or both right: neither of them is taken as the measure."""
    if bool(one.raised) and bool(other.raised):
        return one.raised[0] == other.raised[0] and speaks(one, says) == speaks(other, says)
    return agrees(one, other, (), tolerance)


def speaks(outcome: Outcome, says: tuple[str, ...]) -> bool:
    """Whether a refusal's message contains all the words."""
    return all(word.casefold() in outcome.message.casefold() for word in says)


def equal(expected: Any, got: Any, tolerance: float = 0.0) -> bool:
    """Equality of plain data; truth values and numbers differ, whole floats and integers do not."""
    if isinstance(expected, bool) or isinstance(got, bool):
        return expected is got
    if isinstance(expected, int | float) and isinstance(got, int | float):
        return expected == got or (tolerance > 0 and _close(expected, got, tolerance))
    if isinstance(expected, list) and isinstance(got, list):
        return len(expected) == len(got) and all(
            equal(e, g, tolerance) for e, g in zip(expected, got, strict=True)
        )
    if isinstance(expected, dict) and isinstance(got, dict):
        return expected.keys() == got.keys() and all(equal(expected[k], got[k], tolerance) for k in expected)
    return bool(type(expected) is type(got) and expected == got)


def _close(expected: float, got: float, tolerance: float) -> bool:
    try:
        return math.isclose(expected, got, rel_tol=tolerance, abs_tol=tolerance)
    except OverflowError:
        return False  # an integer larger than every float


def difference(expected: Outcome, got: Outcome, says: tuple[str, ...] = (), tolerance: float = 0.0) -> str:
    """One sentence on what is wrong with an outcome that does not agree."""
    if got.trouble:
        words = _capital(got.trouble.partition(": ")[2])
        return words if words.endswith("?") else f"{words}."
    if got.raised and not expected.raised:
        return f"It raises {got.raised[0]}: {got.message}"
    if expected.raised and not got.raised:
        return f"It returns {shown(got.value)}; expected is a refusal, {_article(expected.raised[0])}."
    if expected.raised:
        if expected.raised[0] not in got.raised:
            return f"It raises {got.raised[0]}; expected is {_article(expected.raised[0])}."
        missing = [word for word in says if word.casefold() not in got.message.casefold()]
        return f"The message of its {got.raised[0]} does not say {' and '.join(map(repr, missing))}."
    return _of_values(expected.value, got.value, tolerance)


def _of_values(expected: Any, got: Any, tolerance: float, where: str = "") -> str:
    at = f" at {where}" if where else ""
    if got is None:
        return (
            f"It gives None{at}; expected {shown(expected)}."
            if where
            else "It returns None; is a return missing?"
        )
    if _kind(expected) != _kind(got):
        return f"Wrong type{at}: expected {_kind(expected)}, got {_kind(got)} {shown(got)}."
    if isinstance(expected, str):
        return _of_texts(expected, got, at)
    if isinstance(expected, list):
        return _of_lists(expected, got, tolerance, where, at)
    if isinstance(expected, dict):
        missing, extra = [k for k in expected if k not in got], [k for k in got if k not in expected]
        if missing or extra:
            words = [f"the key {missing[0]!r} is missing"] if missing else []
            words += [f"the key {extra[0]!r} is not expected"] if extra else []
            return f"Keys{at}: {' and '.join(words)}."
        key = next(k for k in expected if not equal(expected[k], got[k], tolerance))
        return _of_values(expected[key], got[key], tolerance, f"{where}[{key!r}]")
    within = f" (tolerance {tolerance:g})" if tolerance and isinstance(expected, float) else ""
    return f"Wrong value{at}: expected {shown(expected)}, got {shown(got)}{within}."


def _of_lists(expected: list[Any], got: list[Any], tolerance: float, where: str, at: str) -> str:
    if len(expected) != len(got):
        return f"Wrong length{at}: expected {_items(len(expected))}, got {len(got)}."
    if _bag(expected) == _bag(got):
        return f"Right entries in the wrong order{at}."
    index = next(i for i, (e, g) in enumerate(zip(expected, got, strict=True)) if not equal(e, g, tolerance))
    if isinstance(got[index], bool) and not isinstance(expected[index], bool):
        wanted = f"expected the number {expected[index]!r}, got {got[index]}"
        return f"Position {index}{at}: {wanted}; use 1 and 0."
    if isinstance(expected[index], list | dict | str):
        return _of_values(expected[index], got[index], tolerance, f"{where}[{index}]")
    wrong = sum(not equal(e, g, tolerance) for e, g in zip(expected, got, strict=True))
    return (
        f"Position {index}{at}: expected {shown(expected[index])}, got {shown(got[index])} "
        f"({wrong} of {len(expected)} positions differ)."
    )


def _of_texts(expected: str, got: str, at: str) -> str:
    wanted, found = Counter(_SPECIAL.findall(expected)), Counter(_SPECIAL.findall(got))
    for token in [*wanted, *found]:
        if wanted[token] != found[token]:
            many = "missing" if found[token] < wanted[token] else "too many"
            return (
                f"Special token{at}: {token} occurs {found[token]} times, expected {wanted[token]} ({many})."
            )
    place = first_difference(expected, got)
    if len(got) < len(expected) and place == len(got):
        return f"The text{at} ends too early: {expected[place : place + 24]!r} is missing at its end."
    if len(got) > len(expected) and place == len(expected):
        return f"The text{at} goes on too long: {got[place : place + 24]!r} should not be there."
    if max(len(expected), len(got)) <= _SHORT:
        return f"Wrong text{at}: expected {expected!r}, got {got!r}."
    near = slice(max(0, place - 12), place + 20)
    return f"Character {place}{at}: expected ...{expected[near]!r}..., got ...{got[near]!r}..."


def in_the_terms_of(expected: Any, got: Any, tolerance: float = 0.0) -> Any:
    """The same value, written like the expected one where it can be: keys in its order, equal parts alike."""
    if equal(expected, got, tolerance):
        return expected
    if isinstance(expected, dict) and isinstance(got, dict):
        known = {k: in_the_terms_of(expected[k], got[k], tolerance) for k in expected if k in got}
        return known | {k: value for k, value in got.items() if k not in known}
    if isinstance(expected, list) and isinstance(got, list):
        pairs = zip(expected, got, strict=False)
        return [in_the_terms_of(e, g, tolerance) for e, g in pairs] + got[len(expected) :]
    return got


def first_difference(one: Any, other: Any) -> int:
    """Index of the first place where two sequences differ; the shorter one's length if there is none."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (left, right) in pairs if left != right), min(len(one), len(other)))


def shown(value: Any, limit: int = 60) -> str:
    """A value as Python writes it, shortened in the middle."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 20]} ... {text[-15:]}"


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "True or False"
    if isinstance(value, int | float):
        return "a number"
    return {str: "a text", list: "a list", dict: "a dict", type(None): "None"}.get(type(value), "a value")


def _bag(items: list[Any]) -> Counter[str]:
    return Counter(repr(item) for item in items)


def _items(count: int) -> str:
    return "1 entry" if count == 1 else f"{count} entries"


def _code(outcome: Outcome) -> str:
    return outcome.trouble.partition(":")[0]


def _article(name: str) -> str:
    return f"an {name}" if name[0] in "AEIOU" else f"a {name}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
