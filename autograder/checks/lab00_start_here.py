"""Lab 00: cases for the one exercise that shows how an exercise works."""

import random
from typing import Any

from autograder.checks.chats import ANSWER, QUESTION, SYSTEM, chat
from autograder.checks.exercise import Case, Exercise

CASE = [
    {"role": "system", "content": SYSTEM},
    {"role": "user", "content": QUESTION},
    {"role": "assistant", "content": ANSWER},
]


def _of(messages: Any) -> dict[str, Any]:
    return {"messages": messages}


def _private(rng: random.Random) -> list[Case]:
    cases = [
        Case("empty chat", _of([]), "roles that wrote"),
        Case("one role", _of([CASE[1]] * 3), "roles that wrote"),
    ]
    for turns in (1, 2, 3, 6):
        for system in (True, False):
            messages = chat(rng, turns=turns, system=system, answered=rng.random() < 0.5)
            cases.append(Case("a chat", _of(messages), "counts"))
            mixed = [*messages, {"role": rng.choice(("tool", "developer", "User")), "content": "?"}]
            rng.shuffle(mixed)
            cases.append(Case("another role", _of(mixed), "every role"))
    quoted = [{"role": "assistant", "content": "user: how do I return it? user: thanks"}]
    cases.append(Case("a role's name in a message", _of(quoted), "counts"))
    return cases


EXERCISES = (
    Exercise(
        name="speaker_counts",
        lab="00_start_here",
        hints=(
            "For one message, which dictionary key tells you who wrote it?",
            "A dictionary can count: `counts.get(role, 0)` is the count so far, or 0 if the role is new.",
            "start with an empty dictionary\n"
            "for each message:\n"
            "    add one to the count of its role\n"
            "return the dictionary",
        ),
        properties={"counts": 2, "every role": 1, "roles that wrote": 1},
        public=(
            Case("the case", _of(CASE), "counts", "A wrong count lets unfinished chats into training."),
            Case("an unfinished thread", _of([*CASE, CASE[1]]), "counts"),
            Case("no message", _of([]), "roles that wrote"),
            Case("no system message", _of(CASE[1:]), "roles that wrote"),
            Case("a tool speaks", _of([*CASE, {"role": "tool", "content": "{}"}]), "every role"),
        ),
        private=_private,
    ),
)
