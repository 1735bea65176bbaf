"""What is wrong with one row of labels: findings computed from the tokens, not from an opinion about them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

IGNORED = -100


@dataclass(frozen=True, slots=True)
class Finding:
    """One check of a row.

    Attributes:
        name: the check in a few words.
        wrong: whether it found something.
        sentence: what was found and what it would do to a model; "" when nothing was.
        at: the tokens concerned.
    """

    name: str
    wrong: bool
    sentence: str = ""
    at: tuple[int, ...] = ()


@dataclass(frozen=True)
class Row:
    """What the checks look at: one entry per token, and what is known of the whole row.

    Attributes:
        roles: "system", "user", "assistant", "template" or None.
        inside: whether the token holds characters of a message's content; None where it is not known.
        special: whether the token is a special one.
        ends: ids that end a turn or a document.
        generation_ends: ids that generation stops on; None to leave that check out.
        injected: tokens of a system turn that nobody wrote.
    """

    ids: Sequence[int]
    labels: Sequence[int]
    special: Sequence[bool]
    roles: Sequence[str | None] | None = None
    inside: Sequence[bool] | None = None
    bos: int | None = None
    ends: Collection[int] = ()
    generation_ends: Collection[int] | None = None
    injected: Sequence[int] = ()


def findings(row: Row) -> list[Finding]:
    """All checks that the row has enough information for, in a fixed order."""
    checks = [_no_target(row), _doubled_bos(row), _doubled_eos(row)]
    if row.roles is not None:
        checks += [_other_text(row), _injected(row)]
    if row.roles is not None and row.inside is not None:
        checks += [_header(row), _typed(row)]
        if row.ends:
            checks.append(_terminator(row))
    if row.generation_ends is not None:
        checks.append(_generation_end(row))
    return checks


def _found(name: str, at: Sequence[int], sentence: str) -> Finding:
    return Finding(name, bool(at), sentence if at else "", tuple(at))


def _learned(row: Row, t: int) -> bool:
    return row.labels[t] != IGNORED


def _no_target(row: Row) -> Finding:
    if any(label != IGNORED for label in row.labels[1:]):
        return Finding("no supervised token", False)
    sentence = "No token is supervised: the row costs a step and teaches nothing."
    return Finding("no supervised token", True, sentence)


def _doubled_bos(row: Row) -> Finding:
    twice = row.bos is not None and list(row.ids[:2]) == [row.bos, row.bos]
    sentence = (
        "The row begins with two BOS tokens: template and tokenizer each added one, and the model is served "
        "a beginning it was not trained on."
    )
    return _found("doubled BOS", (0, 1) if twice else (), sentence)


def _doubled_eos(row: Row) -> Finding:
    at = [t for t in range(1, len(row.ids)) if row.ids[t] == row.ids[t - 1] and row.ids[t] in row.ends]
    # A run at the end that is ignored is padding, and no fault.
    at = [t for t in at if _learned(row, t)]
    sentence = f"An end token follows an end token at token {_listed(at)}: the model learns to end twice."
    return _found("doubled EOS", at, sentence)


def _other_text(row: Row) -> Finding:
    assert row.roles is not None
    at = [t for t, role in enumerate(row.roles) if t and role != "assistant" and _learned(row, t)]
    sentence = (
        f"Supervised tokens of other roles: {len(at):,}, the first at token {at[0] if at else 0}. The model "
        "learns to write what customers and systems write."
    )
    return _found("user or system text in the mask", at, sentence)


def _injected(row: Row) -> Finding:
    sentence = (
        f"The template wrote {len(row.injected)} tokens of a system prompt that the chat does not have: "
        "every server must do the same."
    )
    return _found("default system prompt injected", row.injected, sentence)


def _header(row: Row) -> Finding:
    assert row.roles is not None and row.inside is not None
    at = []
    for start, stop in _turns(row.roles):
        for t in range(start, stop):
            if row.inside[t] or row.ids[t] in row.ends:
                break
            if t and _learned(row, t):
                at.append(t)
    sentence = (
        f"Header tokens supervised: {len(at)}, the first at token {at[0] if at else 0}. The server writes "
        "them, not the model."
    )
    return _found("header in the mask", at, sentence)


def _typed(row: Row) -> Finding:
    assert row.inside is not None
    at = [t for t, special in enumerate(row.special) if special and row.inside[t]]
    sentence = (
        f"Control tokens typed in a message: {len(at)}, the first at token {at[0] if at else 0}. They open "
        "and close turns that nobody took."
    )
    return _found("control token typed in a message", at, sentence)


def _terminator(row: Row) -> Finding:
    assert row.roles is not None and row.inside is not None
    at = []
    for start, stop in _turns(row.roles):
        ends = [t for t in range(start, stop) if row.ids[t] in row.ends and not row.inside[t]]
        answered = any(_learned(row, t) for t in range(start, stop))
        # Without any end, as in a frame of plain text or after a cut, the last token stands for it.
        if answered and not (ends and _learned(row, ends[0])):
            at.append(ends[0] if ends else stop - 1)
    sentence = (
        f"The answer that ends at token {_listed(at)} has no supervised end of turn: the model never learns "
        "to stop."
    )
    return _found("terminator not trained", at, sentence)


def _generation_end(row: Row) -> Finding:
    assert row.generation_ends is not None
    last = next(
        (t for t in reversed(range(len(row.ids))) if _learned(row, t) and row.ids[t] in row.ends), None
    )
    wrong = last is not None and row.ids[last] not in row.generation_ends
    sentence = (
        f"The trained end, id {row.ids[last or 0]}, is not among the ids that generation stops on "
        f"({_listed(sorted(row.generation_ends))}): answers run on."
    )
    return _found("end not in the generation config", (last,) if wrong and last is not None else (), sentence)


def _turns(roles: Sequence[str | None]) -> list[tuple[int, int]]:
    """Start and stop of each run of assistant tokens."""
    runs, start = [], None
    for t, role in enumerate([*roles, None]):
        if role == "assistant" and start is None:
            start = t
        elif role != "assistant" and start is not None:
            runs.append((start, t))
            start = None
    return runs


def _listed(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:5]))
    return f"{shown} and {len(numbers) - 5} more" if len(numbers) > 5 else shown
