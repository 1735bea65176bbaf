"""A file of chats as it arrives: most rows are good, the rest are broken in the ways real files are.

`python -m autograder.shopflow_inbox` reads assets/shopflow/policies.yaml and writes inbox.jsonl beside it.
With `--check` nothing is written: it fails when the file is stale. The reasons that lab 02's answer has to
give are known line by line: `inbox` returns them.
"""

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from autograder.atomic_write import write_atomically
from autograder.shopflow import FOLDER, SEED, SYSTEM, Policy, PolicyError, Row, load_policies

NAME = "inbox.jsonl"
GOOD_ROWS = 84
SOURCES = ("reviewed", "synthetic", "transcript")
LONG_THREAD = 240  # messages, the system message not counted

Line = tuple[str, str]
"""A line of the file without its line feed, and the reason to refuse it; empty when it is good."""

_OPENERS = ("Hello, I need some help.", "It is about my last order.")

ENDS = "conversation ends before assistant answer"


def inbox(policies: Sequence[Policy], seed: int = SEED) -> list[Line]:
    """The lines of the file in order, each with the reason that lab 02 has to give for refusing it."""
    rng = random.Random(f"{seed}:inbox")
    train = [policy for policy in policies if policy.split == "train"]
    rows = [_row(policy, rank, rng) for rank in range(GOOD_ROWS) for policy in [train[rank % len(train)]]]
    spare = [_row(policy, rank, rng) for rank, policy in enumerate(train * 3, GOOD_ROWS)]
    lines: list[Line] = [(_json(row), "") for row in rows]
    lines += [damage(row) for damage, row in zip(_DAMAGES, spare, strict=False)]
    rng.shuffle(lines)
    first = next(at for at, (_, why) in enumerate(lines) if not why)
    lines.insert(0, lines.pop(first))
    return lines


def _row(policy: Policy, rank: int, rng: random.Random) -> Row:
    messages = [
        {"role": "system", "content": SYSTEM.format(evidence=policy.clause)},
        {"role": "user", "content": rng.choice(policy.questions)},
        {"role": "assistant", "content": rng.choice(policy.answers)},
    ]
    if rank % 3 == 2:
        turn = rng.choice(policy.follow_ups)
        messages += [
            {"role": "user", "content": turn.question},
            {"role": "assistant", "content": turn.answer},
        ]
    return {
        "id": f"inbox-{rank + 1:04d}",
        "source": SOURCES[rank % len(SOURCES)],
        "policy_id": policy.id,
        "messages": messages,
    }


def _json(row: object) -> str:
    return json.dumps(row, ensure_ascii=False)


def _with_roles(*roles: str) -> Callable[[Row], Row]:
    """The row with these roles; a customer who writes several times in a row asks in the last message."""

    def change(row: Row) -> Row:
        said = {m["role"]: m["content"] for m in row["messages"][:3]}
        contents = [
            _OPENERS[at % len(_OPENERS)]
            if role == "user" and roles[at + 1 : at + 2] == ("user",)
            else said.get(role, said["user"])
            for at, role in enumerate(roles)
        ]
        messages = [{"role": r, "content": c} for r, c in zip(roles, contents, strict=True)]
        return row | {"messages": messages}

    return change


def _renamed(**names: str) -> Callable[[Row], Row]:
    def change(row: Row) -> Row:
        messages = [m | {"role": names.get(m["role"], m["role"])} for m in row["messages"][:3]]
        return row | {"messages": messages}

    return change


def _content(at: int, value: Any) -> Callable[[Row], Row]:
    def change(row: Row) -> Row:
        messages = [dict(m) for m in row["messages"][:3]]
        messages[at]["content"] = value
        return row | {"messages": messages}

    return change


def _long_thread(row: Row) -> Row:
    system, *turns = row["messages"][:3]
    return row | {"messages": [system, *(turns[at % 2] for at in range(LONG_THREAD))]}


def _separator_in_text(row: Row) -> Row:
    """U+2028 is a line break for `str.splitlines`, and an ordinary character for JSON."""
    return _content(1, row["messages"][1]["content"] + "\u2028Thank you!")(row)


def _bad(change: Callable[[Row], Row], why: str) -> Callable[[Row], Line]:
    return lambda row: (_json(change(row)), why)


def _typed(change: Callable[[str], str], why: str) -> Callable[[Row], Line]:
    return lambda row: (change(_json(row)), why)


def _twice(text: str) -> str:
    """The first message has its content twice, and Python's parser would keep the second."""
    return text.replace('"content": ', '"content": "Be brief.", "content": ', 1)


_PARTS = [{"type": "text", "text": "My order is late. What should I do?"}]

_DAMAGES: tuple[Callable[[Row], Line], ...] = (
    _typed(lambda text: text[: len(text) // 2], "not JSON"),
    _typed(lambda text: text.removesuffix("}"), "not JSON"),
    _typed(lambda text: text.replace('"', "'"), "not JSON"),
    _typed(lambda text: text.replace('"source"', '"score": NaN, "source"', 1), "not JSON"),
    _typed(lambda text: text + text, "not JSON"),
    _typed(lambda text: "", "blank line"),
    _typed(lambda text: "   ", "blank line"),
    _typed(_twice, "duplicate key 'content'"),
    lambda row: (_json(row["messages"]), "row is not an object"),
    lambda row: (_json(row["id"]), "row is not an object"),
    _bad(lambda row: {"id": row["id"], "text": "User: Hi"}, "messages is not a list"),
    _bad(lambda row: row | {"messages": None}, "messages is not a list"),
    _bad(lambda row: row | {"messages": []}, f"message 0: {ENDS}"),
    _bad(_with_roles("system", "user"), f"message 2: {ENDS}"),
    _bad(_with_roles("system", "user"), f"message 2: {ENDS}"),
    _bad(_with_roles("user", "assistant", "user"), f"message 3: {ENDS}"),
    _bad(_with_roles("system", "user", "user", "assistant"), "message 2: expected assistant, got user"),
    _bad(_with_roles("user", "user", "user", "assistant"), "; ".join(
        f"message {at}: expected assistant, got user" for at in (1, 2)
    )),
    _bad(_with_roles("system", "user", "assistant", "assistant"), "message 3: expected user, got assistant"),
    _bad(_with_roles("assistant", "user", "assistant"), "message 0: expected user, got assistant"),
    _bad(_with_roles("user", "system", "assistant"), "message 1: expected assistant, got system"),
    _bad(_with_roles("system", "system", "user", "assistant"), "message 1: expected user, got system"),
    _bad(_renamed(user="human", assistant="gpt"), "; ".join(
        ["message 1: unknown role 'human'", "message 2: unknown role 'gpt'", f"message 3: {ENDS}"]
    )),
    _bad(_renamed(user="User"), "message 1: unknown role 'User'; message 2: expected user, got assistant"),
    _bad(_renamed(assistant="assistent"), f"message 2: unknown role 'assistent'; message 3: {ENDS}"),
    _bad(_with_roles("user", "tool", "assistant"), "message 1: unknown role 'tool'"),
    _bad(_content(2, None), "message 2: content is not a string"),
    _bad(_content(1, _PARTS), "message 1: content is not a string"),
    _bad(_content(2, ""), "message 2: content is empty"),
    _bad(_content(1, " \n"), "message 1: content is empty"),
    lambda row: (
        _json(_content(1, "")(_with_roles("user", "user", "assistant")(row))),
        "message 1: expected assistant, got user; message 1: content is empty",
    ),
    _bad(_long_thread, ""),
    _bad(_separator_in_text, ""),
)  # fmt: skip


def file_text(policies: Sequence[Policy], seed: int = SEED) -> str:
    """The whole file: a byte order mark, as Windows tools write it, and a line feed after each line."""
    return "\ufeff" + "".join(line + "\n" for line, _ in inbox(policies, seed))


def is_stale(folder: Path = FOLDER, seed: int = SEED) -> bool:
    """Whether the file is missing or differs from what the folder's policies give."""
    path = folder / NAME
    wanted = file_text(load_policies(folder / "policies.yaml"), seed).encode()
    return not path.is_file() or path.read_bytes() != wanted


def main(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail if the file is stale.")] = False,
    seed: Annotated[int, typer.Option(help="Another seed gives a fresh variant for a class.")] = SEED,
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = FOLDER,
) -> None:
    """Write the file of chats that lab 02 sorts into accepted and quarantined."""
    try:
        if check:
            if is_stale():
                typer.echo(f"Stale: {NAME}. Run 'python -m autograder.shopflow_inbox'.", err=True)
                raise typer.Exit(1)
            typer.echo(f"{NAME} is up to date.")
            return
        text = file_text(load_policies(), seed)
    except (OSError, PolicyError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    write_atomically(out / NAME, text.encode())
    typer.echo(f"{out / NAME}: {text.count(chr(10))} lines")


if __name__ == "__main__":
    typer.run(main)
