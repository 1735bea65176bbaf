"""Lab 02: cases of role order, of structure and contents, of files and of repairs."""

import json
import random
from typing import Any

from autograder.checks.exercise import Case, Exercise

CLAUSE = "Damaged electronics must be reported within 48 hours with photos."
SYSTEM = {"role": "system", "content": f"Use only the supplied policy evidence.\n\nEvidence: {CLAUSE}"}
USER = {"role": "user", "content": "My electronics arrived damaged. What should I do?"}
ANSWER = {"role": "assistant", "content": "Report the damage within 48 hours and attach photos."}
GOOD = [SYSTEM, USER, ANSWER]

Message = dict[str, Any]

_WORDS = ("parcel", "late", "broken", "photos", "refund", "carrier", "ticket", "invoice", "order", "return")
_STRANGERS = ("human", "gpt", "User", "Assistant", "SYSTEM", "bot", "tool", "asistant", "user ", "", "model")
_NO_TEXT: tuple[Any, ...] = (None, 7, True, [], [{"type": "text", "text": "Hi"}], {"text": "Hi"})
_BLANK = ("", " ", "\n", "\t \n", "\u00a0", "\u2003\n")


def _say(rng: random.Random) -> str:
    text = " ".join(rng.sample(_WORDS, rng.randint(2, 6))).capitalize()
    return text + rng.choice((".", "?", " \u00e0 bient\u00f4t", "\u2028Thanks", " "))


def _turn(role: Any, rng: random.Random) -> Message:
    return {"role": role, "content": _say(rng)}


def _chat(rng: random.Random, exchanges: int | None = None) -> list[Message]:
    """A chat in order, with or without a system message."""
    turns = [_turn("system", rng)] if rng.random() < 0.6 else []
    for _ in range(exchanges or rng.randint(1, 3)):
        turns += [_turn("user", rng), _turn("assistant", rng)]
    return turns


def _roles(rng: random.Random, exchanges: int | None = None) -> list[str]:
    return [turn["role"] for turn in _chat(rng, exchanges)]


def private_role_errors(rng: random.Random) -> list[Case]:
    """Every way to leave the rule, at random places of random chats, and the shortest chats there are."""
    found: list[tuple[str, list[str], str]] = [
        ("nothing", [], "ending"),
        ("system alone", ["system"], "ending"),
        ("user alone", ["user"], "ending"),
        ("assistant alone", ["assistant"], "order"),
        ("two systems", ["system", "system", "user", "assistant"], "order"),
        ("system at the end", [*_roles(rng), "system"], "ending"),
        ("a long thread", _roles(rng, 800), "order"),
    ]
    for number in range(4):
        found.append((f"in order {number}", _roles(rng), "order"))
        roles = _roles(rng, 2)
        at = rng.randrange(len(roles))
        found.append((f"a turn twice {number}", [*roles[: at + 1], *roles[at:]], "order"))
        found.append((f"a turn missing {number}", [*roles[:at], *roles[at + 1 :]], "order"))
        found.append((f"no answer {number}", roles[:-1], "ending"))
        at = rng.randint(1, len(roles) - 1)
        found.append((f"system later {number}", [*roles[:at], "system", *roles[at:]], "order"))
        roles = _roles(rng, 2)
        roles[rng.randrange(len(roles))] = rng.choice(_STRANGERS)
        found.append((f"unknown role {number}", roles, "names"))
    found.append(("exported", ["human", "gpt"] * rng.randint(1, 3), "names"))
    found.append(("capitals", [role.capitalize() for role in _roles(rng)], "names"))
    for number in range(4):
        pool = ("system", "user", "assistant", rng.choice(_STRANGERS))
        found.append((f"at random {number}", [rng.choice(pool) for _ in range(rng.randint(2, 8))], "order"))
    return [Case(name, {"roles": roles}, kind) for name, roles, kind in found]


def private_conversation_errors(rng: random.Random) -> list[Case]:
    """Chats with one damage or several, at random places; what is no message at all is always among them."""

    def case(name: str, messages: list[Any], kind: str) -> Case:
        return Case(name, {"messages": messages}, kind)

    cases = [
        case("nothing", [], "structure"),
        case("no object", [None, *_chat(rng)], "structure"),
        case("only strings", ["Hi", "Hello"], "structure"),
        case("no keys", [{}, *_chat(rng, 1)], "structure"),
        case("a long thread", _chat(rng, 800), "structure"),
        case("more keys", [turn | {"weight": 0, "name": "x"} for turn in _chat(rng)], "structure"),
    ]
    for number, content in enumerate((*_NO_TEXT, *_BLANK)):
        damaged = _chat(rng, 2)
        at = rng.randrange(len(damaged))
        damaged[at] = damaged[at] | {"content": content}
        cases.append(case(f"not a text {number}", damaged, "content"))
    for number, role in enumerate((*rng.sample(_STRANGERS, 4), None, 3, ["user"])):
        damaged = _chat(rng, 2)
        at = rng.randrange(len(damaged))
        damaged[at] = damaged[at] | {"role": role}
        cases.append(case(f"another role {number}", damaged, "structure"))
    for number in range(3):
        chat = _chat(rng, 2)
        at = rng.randrange(1, len(chat))
        cases.append(case(f"in order {number}", _chat(rng), "structure"))
        cases.append(case(f"a turn twice {number}", [*chat[: at + 1], *chat[at:]], "structure"))
        cases.append(case(f"system later {number}", [*chat[:at], SYSTEM, *chat[at:]], "structure"))
        cases.append(case(f"no answer {number}", chat[:-1], "structure"))
    for number in range(6):
        chat = [*_chat(rng, 2), *_chat(rng, 1)]
        for at in rng.sample(range(len(chat)), 2):
            chat[at] = chat[at] | {"content": rng.choice((*_BLANK, None, []))}
        at = rng.randrange(len(chat))
        chat[at] = chat[at] | {"role": rng.choice(("user", "assistant", "system", "gpt"))}
        cases.append(case(f"several {number}", chat, "all errors"))
    return cases


def _line(messages: Any, **keys: Any) -> str:
    return json.dumps({**keys, "messages": messages}, ensure_ascii=False)


def _broken_lines(rng: random.Random) -> list[str]:
    """One line of each kind that cannot be a row."""
    good = _line(_chat(rng, 1), id=rng.randint(1, 999))
    return [
        good[: rng.randint(1, len(good) - 1)],
        good + "}",
        good.replace('"', "'"),
        good.replace('"id"', '"score": -Infinity, "id"', 1),
        good.replace('"role"', '"role": "user", "role"', 1),
        json.dumps(rng.choice(([], None, 5, "row", [good]))),
        json.dumps({"id": 1, "messages": rng.choice((None, "Hi", {}))}),
        json.dumps({"id": 1, "text": "Hi"}),
    ]


def private_validate_jsonl(rng: random.Random) -> list[Case]:
    """Files in which good, blank, broken and misordered lines alternate at random, and the smallest files."""

    def case(name: str, text: str, kind: str) -> Case:
        return Case(name, {"text": text}, kind)

    good = [_line(_chat(rng)) for _ in range(6)]
    cases = [
        case("an empty file", "", "numbering"),
        case("a file of one line feed", "\n", "numbering"),
        case("blank lines at the end", f"{good[0]}\n\n\n", "numbering"),
        case("no line feed at the end", f"{good[0]}\n{good[1]}", "numbering"),
        case("only a byte order mark", "\ufeff", "numbering"),
        case("two marks at the start", f"\ufeff\ufeff{good[0]}\n{good[1]}\n", "reasons"),
        case("a mark in the middle", f"{good[0]}\n\ufeff{good[1]}\n{good[2]}\n", "reasons"),
        case("brackets without end", f"{good[0]}\n{'[' * 30_000}\n{good[1]}\n", "nothing lost"),
        case(
            "a form feed in a line", good[0] + "\n" + good[1].replace(" ", " \x0c", 1) + "\n", "nothing lost"
        ),
        case("carriage returns", "\r\n".join([*good[:2], "", good[2]]) + "\r\n", "numbering"),
    ]
    for number in range(6):
        lines = [
            rng.choice(
                (
                    _line(_chat(rng), source=rng.choice(("reviewed", "transcript"))),
                    _line(_chat(rng)[:-1]),
                    _line([_turn(rng.choice(("user", "gpt", "system")), rng) for _ in range(3)]),
                    rng.choice(("", "  ", "\t")),
                    rng.choice(_broken_lines(rng)),
                )
            )
            for _ in range(rng.randint(5, 12))
        ]
        mark = "\ufeff" if number % 2 else ""
        cases.append(case(f"a mixed file {number}", mark + "\n".join([*lines, good[number]]), "nothing lost"))
    for number, line in enumerate(_broken_lines(rng)):
        text = "\n".join([good[0], "", line, good[1], ""])
        cases.append(case(f"a broken line {number}", text, "reasons"))
    for number, mark in enumerate("\u2028\u2029\x85"):
        text = _line([_turn("user", rng), {"role": "assistant", "content": f"One{mark}two."}])
        cases.append(case(f"a line break that is none {number}", f"{text}\n{good[number]}\n", "nothing lost"))
    for number in range(3):
        chat = [*_chat(rng, 1)[:-1], *_chat(rng, 1)]
        chat[0] = chat[0] | {"content": rng.choice((None, "", " "))}
        cases.append(case(f"several errors in a chat {number}", _line(chat) + "\n" + good[number], "reasons"))
    return cases


def private_repair(rng: random.Random) -> list[Case]:
    """Chats with runs of one role, under policies that allow much, little or nothing."""
    cases = []
    policies: tuple[list[str], ...] = (["user"], [], ["user", "assistant"], ["assistant"], ["user"])
    for number in range(15):
        merge = policies[number % len(policies)]
        separator = ("\n\n", "\n", " ", "")[number % 4]
        chat = []
        for turn in _chat(rng, 2):
            chat += [turn | {"content": _say(rng)} for _ in range(rng.choice((1, 1, 2, 3)))]
        kind = "merging" if merge else "policy"
        arguments = {"messages": chat, "policy": {"merge": merge, "separator": separator}}
        cases.append(Case(f"runs of turns {number}", arguments, kind))
    for number, content in enumerate((None, "", " \n", [{"type": "text", "text": "Hi"}])):
        chat = [_turn("user", rng), {"role": "user", "content": content}, *_chat(rng, 1)[-2:]]
        arguments = {"messages": chat, "policy": {"merge": ["user"], "separator": "\n\n"}}
        cases.append(Case(f"not to be merged {number}", arguments, "policy"))
    for number in range(3):
        chat = [_turn(role, rng) for role in ("user", "user", "gpt", "gpt", "assistant", "assistant")]
        merge = rng.choice((["gpt"], ["user"], ["assistant"]))
        arguments = {"messages": chat, "policy": {"merge": merge, "separator": " "}}
        cases.append(Case(f"only the roles named {number}", arguments, "policy"))
    for number in range(3):
        chat = _chat(rng, 1)
        at = rng.randrange(len(chat))
        chat = [*chat[: at + 1], *[_turn(chat[at]["role"], rng) for _ in range(2)], *chat[at + 1 :]]
        arguments = {"messages": chat, "policy": {"merge": [chat[at]["role"]], "separator": "\n\n"}}
        cases.append(Case(f"a record of three {number}", arguments, "record"))
    for number in range(2):
        turns = _chat(rng, 1)[-2:]
        chat = [_turn("user", rng), _turn("user", rng), *turns]
        chat = [turn | {"time": at, rng.choice(("name", "draft")): at} for at, turn in enumerate(chat)]
        cases.append(Case(f"other keys {number}", {"messages": chat, "policy": _MERGE_USERS}, "merging"))
    nothing = {"messages": [], "policy": {"merge": ["user"], "separator": "\n"}}
    return [*cases, Case("no messages", nothing, "record")]


def _user(content: Any) -> Message:
    return {"role": "user", "content": content}


def _assistant(content: Any) -> Message:
    return {"role": "assistant", "content": content}


_MERGE_USERS = {"merge": ["user"], "separator": "\n\n"}

EXERCISES = (
    Exercise(
        name="role_errors",
        lab="02_roles",
        hints=(
            "Which single fact about the turns so far decides whether the next role is right?",
            "Keep the role that is due in a variable. Start with 'user', skip a system role at position 0, "
            "and change the variable only when a user or an assistant speaks, right or wrong.",
            "due = user\n"
            "for each role with its position:\n"
            "    at position 0, a system role: nothing to do\n"
            "    not one of the three: note 'unknown role'\n"
            "    otherwise, if it is not the one due: note 'expected ..., got ...'\n"
            "    after a user an assistant is due, after an assistant a user\n"
            "no roles, or the last one is not the assistant: note that it ends too early",
        ),
        properties={"order": 2, "ending": 1, "names": 1},
        public=(
            Case(
                "system, user, assistant",
                {"roles": ["system", "user", "assistant"]},
                "order",
                why="A gate that refuses good chats leaves no data.",
            ),
            Case(
                "system, user",
                {"roles": ["system", "user"]},
                "ending",
                why="There is no answer to learn from.",
            ),
            Case(
                "system, user, user, assistant",
                {"roles": ["system", "user", "user", "assistant"]},
                "order",
                why="Serving will not send two user turns, so this situation never comes back.",
            ),
            Case("no roles", {"roles": []}, "ending", why="An empty row trains nothing."),
            Case(
                "assistant, user, assistant",
                {"roles": ["assistant", "user", "assistant"]},
                "order",
                why="An answer to nobody teaches the model to speak first.",
            ),
            Case(
                "user, system, assistant",
                {"roles": ["user", "system", "assistant"]},
                "order",
                why="Some templates drop a late system message: the answer loses its evidence.",
            ),
            Case(
                "system, system, user, assistant",
                {"roles": ["system", "system", "user", "assistant"]},
                "order",
                why="A strict template refuses the second system message when the model is served.",
            ),
            Case(
                "User, assistant",
                {"roles": ["User", "assistant"]},
                "names",
                why="'User' gives another header than 'user', one that no server sends.",
            ),
            Case(
                "two exchanges",
                {"roles": ["user", "assistant", "user", "assistant"]},
                "order",
                why="A system message is optional, and threads may be long.",
            ),
        ),
        private=private_role_errors,
    ),
    Exercise(
        name="conversation_errors",
        lab="02_roles",
        hints=(
            "Which of your tests could fail itself, because the message is not what you take it for?",
            "isinstance first, everything else afterwards. Collect the reasons of one message in a list, "
            "role before content, and attach the position at the end. str.strip() tells what is blank.",
            "due = user\n"
            "for each message with its position:\n"
            "    no dict: 'message is not an object', and on to the next\n"
            "    role: no string? unknown? a system role at 0 is fine; otherwise not the one due?\n"
            "    a user or an assistant spoke: the other one is due\n"
            "    content: no string? nothing left after strip?\n"
            "the last role is not the assistant's: one more error, at position len(messages)",
        ),
        properties={"structure": 2, "content": 2, "all errors": 1},
        public=(
            Case("a chat in order", {"messages": GOOD}, "structure", why="Good chats must pass."),
            Case(
                "null, and a list of parts",
                {"messages": [_user(None), _assistant([{"type": "text", "text": "Hi"}])]},
                "content",
                why="One template fails on these, another leaves null out, a third writes Python.",
            ),
            Case(
                "an answer of white space",
                {"messages": [USER, _assistant(" \n")]},
                "content",
                why="The model learns to end its turn without a word.",
            ),
            Case(
                "an empty turn in the middle",
                {"messages": [USER, _assistant(""), _user("Where?"), ANSWER]},
                "content",
                why="An empty turn is one error; skipped, it moves every role after it.",
            ),
            Case(
                "human and gpt",
                {"messages": [{"role": "human", "content": "Hi"}, {"role": "gpt", "content": "Hello"}]},
                "structure",
                why="Some templates drop unknown roles: the row trains on a default system message alone.",
            ),
            Case(
                "a system message later",
                {"messages": [USER, SYSTEM, ANSWER]},
                "structure",
                why="Dropped by one template, refused by another, rendered by a third.",
            ),
            Case(
                "two errors in one message",
                {"messages": [USER, _user(""), ANSWER, USER]},
                "all errors",
                why="Whoever repairs the row wants to do it once.",
            ),
            Case(
                "what is no message",
                {"messages": [USER, "Hello", {"content": "Hi"}, ANSWER]},
                "structure",
                why="One odd entry must not end the run over a million rows.",
            ),
        ),
        private=private_conversation_errors,
    ),
    Exercise(
        name="validate_jsonl",
        lab="02_roles",
        hints=(
            "How many lines does a file of one line feed have? And the empty file?",
            "text.split('\\n') gives an empty piece behind the last line feed: take it off, once. "
            "enumerate(..., start=1) must see every line, so nothing is filtered before it. One try around "
            "one line, with one way into the quarantine.",
            "take one byte order mark off the start of the text\n"
            "split at line feeds; if the last piece is empty, drop it\n"
            "for each line with its number from 1:\n"
            "    blank? parse_row refuses? conversation_errors finds something?\n"
            "        into the quarantine with number and reason\n"
            "    otherwise: accepted with number and row",
        ),
        properties={"nothing lost": 2, "numbering": 1, "reasons": 1},
        public=(
            Case(
                "two good lines",
                {"text": _line(GOOD, id="a") + "\n" + _line(GOOD, id="b") + "\n"},
                "nothing lost",
                why="The line feed at the end does not start a third line.",
            ),
            Case(
                "a blank line and a broken one",
                {"text": _line(GOOD) + "\n\n{broken\n" + _line(GOOD) + "\n"},
                "numbering",
                why="Wrong numbers send a person to the wrong row; a lost line is data that nobody misses.",
            ),
            Case(
                "a byte order mark",
                {"text": "\ufeff" + _line(GOOD) + "\n"},
                "nothing lost",
                why="One lost row per file, always the first.",
            ),
            Case(
                "two marks at the start, one further down",
                {"text": "\ufeff\ufeff" + _line(GOOD) + "\n\ufeff" + _line(GOOD) + "\n"},
                "reasons",
                why="Such marks say that files were glued together: somebody has to look at the seam.",
            ),
            Case(
                "U+2028 inside a content",
                {"text": _line([_user("Hi\u2028there"), ANSWER]) + "\n" + _line(GOOD) + "\n"},
                "nothing lost",
                why="str.splitlines makes two broken lines of one good one.",
            ),
            Case(
                "a key given twice",
                {"text": _line([USER, ANSWER]).replace('"content"', '"content": "Hi", "content"', 1)},
                "reasons",
                why="Python keeps the last one and nobody learns that there was another.",
            ),
            Case(
                "NaN",
                {"text": _line(GOOD, score=float("nan")) + "\n"},
                "reasons",
                why="It is no JSON, and the next program in the chain will stop on it.",
            ),
            Case(
                "no rows, and no line feed at the end",
                {"text": '[]\r\n{"id": 1}\r\n"row"'},
                "reasons",
                why="A list has no messages; code that expects a dict ends the run there.",
            ),
            Case(
                "two errors in one chat",
                {"text": _line([_user(""), USER, ANSWER]) + "\n"},
                "reasons",
                why="A reason that names half of what is wrong makes a second round of repairs.",
            ),
        ),
        private=private_validate_jsonl,
    ),
    Exercise(
        name="repair",
        lab="02_roles",
        hints=(
            "What do you have to remember about the turn that you are merging into?",
            "Build a new list. Compare each message with the last one of the new list, and keep the position "
            "at which that one began in the chat as given.",
            "for each message with its position:\n"
            "    is there one before it in the new list, of the same role, which the policy names,\n"
            "    and are both contents strings that are not blank?\n"
            "        replace the last one by a merged copy; note message and into\n"
            "    otherwise: append a copy, and remember that a turn began here",
        ),
        properties={"merging": 2, "policy": 2, "record": 1},
        public=(
            Case(
                "two user turns",
                {"messages": [_user("My tablet is broken."), USER, ANSWER], "policy": _MERGE_USERS},
                "merging",
                why="The answer replies to both halves of the question.",
            ),
            Case(
                "a policy that allows nothing",
                {"messages": [_user("Hi."), USER, ANSWER], "policy": {"merge": [], "separator": "\n\n"}},
                "policy",
                why="Silent repair is how training and serving drift apart.",
            ),
            Case(
                "three in a row, and two later",
                {
                    "messages": [
                        SYSTEM,
                        _user("Hi."),
                        _user("A question."),
                        USER,
                        ANSWER,
                        _user("And"),
                        _user("where?"),
                        _assistant("Here."),
                    ],
                    "policy": _MERGE_USERS,
                },
                "record",
                why="The record has to name the places in the chat as it came.",
            ),
            Case(
                "two assistant turns",
                {
                    "messages": [_user("Hi."), USER, ANSWER, _assistant("Anything else?")],
                    "policy": _MERGE_USERS,
                },
                "policy",
                why="Merging answers makes a training target that nobody wrote.",
            ),
            Case(
                "a content that is null",
                {"messages": [USER, _user(None), ANSWER], "policy": _MERGE_USERS},
                "policy",
                why="'None' in a question is text that a customer never typed.",
            ),
            Case(
                "another separator, and other keys",
                {
                    "messages": [
                        _user("Hi.") | {"time": "09:05"},
                        USER | {"time": "09:06", "draft": True},
                        ANSWER,
                    ],
                    "policy": {"merge": ["user"], "separator": " / "},
                },
                "merging",
                why="Training and serving have to join in the same way, and a merged turn is dated from its start.",
            ),
            Case(
                "a blank turn",
                {"messages": [USER, _user(" "), ANSWER], "policy": _MERGE_USERS},
                "policy",
                why="A repair must not hide an error that it was not told to repair.",
            ),
        ),
        private=private_repair,
    ),
)
