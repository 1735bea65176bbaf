"""Lab 08: cases for the review of a policy project, the audit of a packed window and the search for a fault."""

import copy
import random
from typing import Any

from autograder.checks.exercise import Case, Exercise

LAB = "08_capstone"

# review_project

POLICY: dict[str, Any] = {
    "clause": "Sealed goods can be returned within 14 days with the return label. "
    "A refund is paid after inspection only.",
    "required": [
        {"name": "14 days", "wordings": ["14 days", "fourteen days"]},
        {"name": "return label", "wordings": ["return label"]},
    ],
    "forbidden": [
        {
            "name": "instant refund",
            "wordings": ["instant refund", "refund at once"],
            "unless": ["no instant refund", "not an instant refund"],
        },
    ],
}
ASKED = "I never opened the box. How do I return it?"
RIGHT = "Return it within 14 days with the return label."
INVENTED = "Return it within 14 days with the return label for an instant refund."


def _row(row_id: str, answer: str, verdict: str = "accept", question: str = ASKED) -> dict[str, str]:
    return {"id": row_id, "question": question, "answer": answer, "verdict": verdict}


def _project(policy: dict[str, Any], *rows: dict[str, str]) -> dict[str, Any]:
    return {"policy": policy, "rows": list(rows)}


def _with_clause(clause: str) -> dict[str, Any]:
    return {**POLICY, "clause": clause}


GOOD, BAD = _row("a1", RIGHT), _row("r1", INVENTED, "reject")


def _public_project() -> tuple[Case, ...]:
    two = [*POLICY["forbidden"], {"name": "free shipping", "wordings": ["free shipping"]}]
    return (
        Case("one accepted row, one invented refund", _project(POLICY, GOOD, BAD), "rows"),
        Case(
            "an accepted row lacks a fact",
            _project(POLICY, GOOD, BAD, _row("a2", "Send it back within 14 days.")),
            "verdicts",
            "The model learns that the label may be left out.",
        ),
        Case(
            "a number that nobody gave, and one that the customer gave",
            _project(
                POLICY,
                BAD,
                _row("a2", f"{RIGHT} Order 7731 arrives in 5 days.", question="How do I return order 7731?"),
            ),
            "rows",
            "An invented number is learned like any other word.",
        ),
        Case(
            "14 days inside of 114 days",
            _project(POLICY, GOOD, BAD, _row("r2", "You have 114 days. Use the return label.", "reject")),
            "rows",
            "A deadline a hundred days too long counts as the right one.",
        ),
        Case(
            "a denied claim, and a claim beside a denial",
            _project(
                POLICY,
                BAD,
                _row("a2", f"{RIGHT} There is no instant refund."),
                _row("a3", f"{RIGHT} There is no instant refund, you get a refund at once."),
            ),
            "denials",
            "Rows that deny the claim are the ones that teach the model not to make it.",
        ),
        Case(
            "a rejected row without a reason",
            _project(POLICY, GOOD, BAD, _row("r2", RIGHT, "reject")),
            "verdicts",
            "A right row is lost, or the check is blind to what the author saw.",
        ),
        Case(
            "the clause does not state the label, and promises the refund",
            _project(_with_clause("Sealed goods: 14 days, instant refund."), GOOD, BAD),
            "clause",
            "The rows demand a fact that stands nowhere in the prompt: the model learns to invent.",
        ),
        Case(
            "only an accepted row makes the second claim",
            _project(
                {**POLICY, "forbidden": two},
                GOOD,
                BAD,
                _row("a2", f"{RIGHT} It is free shipping."),
            ),
            "verdicts",
            "Nobody has shown that the check sees this claim in a row that was meant to be rejected.",
        ),
        Case(
            "a number that nobody gave, twice, under two questions",
            _project(
                POLICY,
                BAD,
                _row("a2", RIGHT, question="Order 7731 is sealed. How do I return it?"),
                _row("a3", f"{RIGHT} Orders 7731, 7731."),
            ),
            "rows",
            "A number is known from the row's own prompt only; another customer's order is an invented one.",
        ),
        Case(
            "a denial with a capital",
            _project(POLICY, BAD, _row("a2", f"{RIGHT} No instant refund.")),
            "denials",
            "Sentences begin with a capital: the rows that deny the claim are lost.",
        ),
        Case(
            "the clause writes the deadline as a word",
            _project(_with_clause("Fourteen days, return label."), GOOD, BAD),
            "clause",
            "A fact is stated by any of its wordings; its name is only a name.",
        ),
        Case("rejected rows only", _project(POLICY, BAD), "verdicts"),
        Case(
            "a verdict that is none",
            _project(POLICY, GOOD, _row("x9", RIGHT, "maybe")),
            "refusals",
            says=("x9",),
        ),
    )


_SUBJECTS = (
    ("Sealed goods", "return label", "Send them back"),
    ("Unopened games", "seal photo", "Return the game"),
    ("Sealed headphones", "warranty card", "Bring them back"),
    ("Closed cosmetics", "order slip", "Return the set"),
)
_CLAIMS = (
    ("instant refund", "an instant refund"),
    ("free pickup", "a free pickup"),
    ("store credit", "store credit"),
)


def _invented_policy(rng: random.Random) -> tuple[dict[str, Any], str, str, int]:
    goods, document, action = rng.choice(_SUBJECTS)
    days, (claim, said) = rng.randint(5, 60), rng.choice(_CLAIMS)
    policy = {
        "clause": f"{goods} can be returned within {days} days with the {document}.",
        "required": [
            {"name": f"{days} days", "wordings": [f"{days} days", f"{days}-day"]},
            {"name": document, "wordings": [document]},
        ],
        "forbidden": [{"name": claim, "wordings": [claim], "unless": [f"no {claim}"]}],
    }
    return policy, f"{action} within {days} days with the {document}", said, days


def _private_project(rng: random.Random) -> list[Case]:
    plain = {**POLICY, "forbidden": []}
    cases = [
        Case("nothing forbidden", _project(plain, GOOD), "verdicts"),
        Case("no rows", _project(POLICY), "verdicts"),
        Case("no verdict first", _project(POLICY, _row("q7", RIGHT, "Accept"), GOOD), "refusals", says=("q7",)),
        Case("empty verdict", _project(POLICY, GOOD, _row("q8", RIGHT, "")), "refusals", says=("q8",)),
        Case("clause denies the claim", _project(_with_clause(POLICY["clause"] + " No instant refund."), GOOD, BAD), "clause"),
        Case("clause in capitals", _project(_with_clause(POLICY["clause"].upper()), GOOD, BAD), "clause"),
        Case("clause says fourteen", _project(_with_clause("Fourteen days, return label."), GOOD, BAD), "clause"),
        Case("empty clause", _project(_with_clause(""), GOOD, BAD), "clause"),
    ]  # fmt: skip
    for _ in range(2):
        policy, honest, said, days = _invented_policy(rng)
        claim, document = policy["forbidden"][0]["name"], policy["required"][1]["name"]
        good = _row("a", f"{honest}.")
        bad = _row("r", f"{honest} and get {said}.", "reject")
        right_rejected = {**good, "id": "r2", "verdict": "reject"}
        order = str(rng.randint(1000, 9999))
        asked = f"How do I return order {order}?"
        longer = honest.replace(str(days), str(rng.choice((100, 200, 300)) + days), 1)
        lacks = _row("m", f"Bring the {document}.", rng.choice(["accept", "reject"]))
        cases += [
            Case("ready", _project(policy, good, bad), "verdicts"),
            Case("claim accepted", _project(policy, good, {**bad, "verdict": "accept"}), "verdicts"),
            Case("right row rejected", _project(policy, good, bad, right_rejected), "verdicts"),
            Case("fact missing", _project(policy, bad, lacks), "rows"),
            Case("longer number", _project(policy, bad, _row("n", longer)), "rows"),
            Case(
                "customer's", _project(policy, bad, _row("o", f"{honest}. {order}.", question=asked)), "rows"
            ),
            Case("nobody's number", _project(policy, bad, _row("p", f"{honest}. Order {order}.")), "rows"),
            Case(
                "another's number",
                _project(
                    policy,
                    bad,
                    _row("q", f"{honest}.", question=asked),
                    _row("s", f"{honest}. Order {order}."),
                ),
                "rows",
            ),
            Case("twice", _project(policy, bad, _row("t", f"{honest}. {order}, {days}, {order}.")), "rows"),
            Case("denied", _project(policy, bad, _row("d", f"{honest}. There is no {claim}.")), "denials"),
            Case(
                "denied and claimed",
                _project(policy, good, _row("e", f"{honest}: {claim}. No {claim}?", "reject")),
                "denials",
            ),
            Case(
                "denied only, rejected",
                _project(policy, good, _row("f", f"{honest}. No {claim}.", "reject")),
                "denials",
            ),
            Case(
                "clause lacks a fact",
                _project({**policy, "clause": f"Only {days} days."}, good, bad),
                "clause",
            ),
            Case(
                "clause claims",
                _project({**policy, "clause": f"{policy['clause']} We give {said}."}, good, bad),
                "clause",
            ),
        ]
    return cases


# window_audit

START, END, LINE, SYSTEM, USER, BOT, PHOTO = 1, 2, 6, 7, 9, 8, 0
MARKS: dict[str, Any] = {
    "turn_start": START,
    "turn_end": END,
    "chat_start": [START, SYSTEM, LINE],
    "answer_start": [START, BOT, LINE],
}
Prepared = tuple[list[int], list[int]]


def _chat(*turns: list[int]) -> Prepared:
    """Ids and assistant-only labels of a chat: evidence, then questions and answers in turn."""
    ids: list[int] = []
    labels: list[int] = []
    for number, words in enumerate(turns):
        role = SYSTEM if number == 0 else USER if number % 2 else BOT
        ids += [START, role, LINE, *words, END, LINE]
        taught = role == BOT
        labels += [-100] * 3 + ([*words, END] if taught else [-100] * (len(words) + 1)) + [-100]
    return ids, labels


def _window(*documents: Prepared, restart: bool = True) -> dict[str, list[int]]:
    ids = [one for document in documents for one in document[0]]
    labels = [one for document in documents for one in document[1]]
    positions = [at for document in documents for at in range(len(document[0]))]
    return {
        "input_ids": ids,
        "labels": labels,
        "position_ids": positions if restart else list(range(len(ids))),
    }


def _only(document: Prepared, keep: Any) -> Prepared:
    ids, labels = document
    return ids, [label if keep(label) else -100 for label in labels]


def _no_ends(document: Prepared) -> Prepared:
    return _only(document, lambda label: label != END)


def _silent(document: Prepared) -> Prepared:
    return _only(document, lambda label: False)


def _shifted(document: Prepared) -> Prepared:
    return document[0], [*document[1][1:], -100]


def _moved_span(document: Prepared, by: int) -> Prepared:
    ids, labels = document
    chosen = {at + by for at, label in enumerate(labels) if label != -100}
    return ids, [one if at in chosen else -100 for at, one in enumerate(ids)]


def _everything(document: Prepared) -> Prepared:
    return document[0], list(document[0])


def _cut(document: Prepared, start: int = 0, stop: int | None = None) -> Prepared:
    return document[0][start:stop], document[1][start:stop]


FIRST = _chat([40, 41], [50, 51, 52], [60, 61, PHOTO])
SECOND = _chat([42, 43], [53], [62, 63])
THREAD = _chat([42], [53, 54], [62, 63], [55], [64])


def _audit(window: dict[str, list[int]]) -> dict[str, Any]:
    return {"window": window, "marks": MARKS}


def _public_audit() -> tuple[Case, ...]:
    short = _window(FIRST)
    return (
        Case("one row, made right; its answer holds token 0", _audit(_window(FIRST)), "labels"),
        Case("two rows, packed with isolation", _audit(_window(FIRST, SECOND)), "documents"),
        Case("an answer, a question, a second answer", _audit(_window(THREAD)), "labels"),
        Case(
            "no label on the ends",
            _audit(_window(_no_ends(THREAD))),
            "labels",
            "The model never learns to stop.",
        ),
        Case(
            "labels moved one to the left",
            _audit(_window(_shifted(FIRST))),
            "labels",
            "The model shifts once more, and learns the token after next.",
        ),
        Case("every token has its label", _audit(_window(_everything(SECOND))), "labels"),
        Case(
            "the span one token late",
            _audit(_window(_moved_span(THREAD, 1))),
            "labels",
            "The first word of an answer is never taught.",
        ),
        Case(
            "two rows, positions run on",
            _audit(_window(FIRST, SECOND, restart=False)),
            "documents",
            "The second customer's answer is learned with the first one's evidence in sight.",
        ),
        Case(
            "the beginning was cut off",
            _audit(_window(_cut(FIRST, 4), SECOND)),
            "documents",
            "The answer is learned without its evidence: the model learns to invent.",
        ),
        Case(
            "the whole evidence was cut off, turn end and all",
            _audit(_window(_cut(FIRST, FIRST[0].index(START, 1)), SECOND)),
            "documents",
            "As many turn starts as ends, and no evidence: the model learns to invent.",
        ),
        Case(
            "the end was cut off",
            _audit(_window(SECOND, _cut(FIRST, 0, 19))),
            "documents",
            "The row teaches to break off.",
        ),
        Case(
            "a label is lost",
            _audit({**short, "labels": short["labels"][1:]}),
            "refusals",
            "Every label behind the gap belongs to another token.",
            says=("labels",),
        ),
    )


def _drawn(rng: random.Random, turns: int = 1) -> Prepared:
    """A chat with that many answers; token 0 stands in one of them."""
    some = [[rng.randint(20, 90) for _ in range(rng.randint(2, 5))] for _ in range(2 * turns + 1)]
    some[2 * rng.randint(1, turns)].append(PHOTO)
    return _chat(*some)


def _private_audit(rng: random.Random) -> list[Case]:
    one, two, thread = _drawn(rng), _drawn(rng), _drawn(rng, 3)
    short = _window(one)
    positions = short["position_ids"]
    cases = [
        Case("nothing", _audit(_window()), "documents"),
        Case("no answer in it", _audit(_window(_chat([40], [50]))), "labels"),
        Case("an empty answer", _audit(_window(_chat([40], [50], []))), "labels"),
        Case("more labels", _audit({**short, "labels": [*short["labels"], -100]}), "refusals", says=("labels",)),
        Case("fewer positions", _audit({**short, "position_ids": positions[1:]}), "refusals", says=("position_ids",)),
        Case("more ids", _audit({**short, "input_ids": [*short["input_ids"], 40]}), "refusals", says=("input_ids",)),
    ]  # fmt: skip
    changes = {
        "right": lambda d: d,
        "no ends": _no_ends,
        "silent": _silent,
        "shifted": _shifted,
        "early": lambda d: _moved_span(d, -1),
        "late": lambda d: _moved_span(d, 1),
        "everything": _everything,
        "words only by half": lambda d: _only(d, lambda label: label != -100 and label % 2 == 0),
    }
    for name, change in changes.items():
        cases.append(Case(name, _audit(_window(change(one), change(thread))), "labels"))
        cases.append(Case(f"{name}, first only", _audit(_window(change(thread), two)), "labels"))
    size = len(one[0])
    cases.append(Case("evidence cut", _audit(_window(_cut(one, one[0].index(START, 1)), two)), "documents"))
    for start, stop in ((rng.randint(1, 6), None), (0, size - 2), (0, size - 4), (size - 3, None)):
        cases.append(Case("cut", _audit(_window(two, _cut(one, start, stop), thread)), "documents"))
    mixed = _window(one, two, thread, restart=False)
    half = _window(one, two, thread)
    half["position_ids"][: size + len(two[0])] = range(size + len(two[0]))
    stream = [*one[0][5:], *two[0], *thread[0][:-6]], [*one[1][5:], *two[1], *thread[1][:-6]]
    return [
        *cases,
        Case("three, isolated", _audit(_window(one, two, thread)), "documents"),
        Case("three, positions run on", _audit(mixed), "documents"),
        Case("two of three mixed", _audit(half), "documents"),
        Case("a piece of a stream", _audit(_window(stream)), "documents"),
    ]


# find_fault


def _said(evidence: str, *turns: str) -> list[dict[str, str]]:
    system = {"role": "system", "content": f"Use only the supplied policy evidence.\n\nEvidence: {evidence}"}
    roles = ("user", "assistant") * len(turns)
    return [system, *({"role": role, "content": text} for role, text in zip(roles, turns, strict=False))]


HONEST = _said("14 days, return label.", "How do I return it?", "You have 14 days. Attach the return label.")
OTHERS = _said("7 days, packing slip.", "Wrong item!", "You have 30 days. Attach the packing slip.")
FOLLOWED = _said(
    "7 days, packing slip.", "Wrong item!", "You have 30 days.", "30 days?", "Yes, you have 30 days."
)
REPEATED = _said("Attach the slip.", "How long?", "You have 21 days.", "Sure?", "You have 21 days.")


def _recorded(windows: list[dict[str, list[int]]], *chats: list[dict[str, str]]) -> dict[str, Any]:
    rows = [{"id": f"row-{number}", "messages": chat} for number, chat in enumerate(chats)]
    return {"recording": {"rows": rows, "windows": windows, "marks": copy.deepcopy(MARKS)}}


def _public_fault() -> tuple[Case, ...]:
    good = _window(FIRST, SECOND)
    return (
        Case("a sound run", _recorded([good, _window(THREAD)], HONEST), "none"),
        Case(
            "full-sequence loss: a choice",
            _recorded([_window(_everything(FIRST), _everything(SECOND))], HONEST),
            "none",
            "Whoever repairs what works compares two runs that differ in more than the error.",
        ),
        Case(
            "an answer with another row's number",
            _recorded([good], HONEST, OTHERS),
            "rows",
            "The model learns to put a number where the evidence has another.",
        ),
        Case(
            "the assistant's own number, repeated",
            _recorded([good], HONEST, REPEATED, HONEST),
            "rows",
            "What the assistant has invented is no evidence, however often it is said.",
        ),
        Case(
            "cut, and therefore nothing learned",
            _recorded([_window(_cut(FIRST, 0, 17)), _window(_cut(SECOND, 0, 14))], HONEST),
            "preparation",
            "New labels cannot bring back an answer that was cut off.",
        ),
        Case("positions run on", _recorded([_window(THREAD), _window(FIRST, SECOND, restart=False)], HONEST), "preparation"),
        Case(
            "one window of two without a label",
            _recorded([good, _window(_silent(FIRST), _silent(THREAD))], HONEST),
            "labels",
            "That step divides by nothing, or is a success with loss 0.",
        ),
        Case(
            "labels moved, and ends therefore without one",
            _recorded([good, _window(_shifted(FIRST))], HONEST),
            "labels",
            "The garbled answers come from the shift; the missing ends are its trace.",
        ),
        Case("no label on the ends of the second window", _recorded([good, _window(_no_ends(THREAD))], HONEST), "labels"),
        Case("the span one token late", _recorded([_window(_moved_span(SECOND, 1), FIRST)], HONEST), "labels"),
        Case("no windows", _recorded([], HONEST), "refusals", says=("windows",)),
    )  # fmt: skip


def _private_fault(rng: random.Random) -> list[Case]:
    cases = [
        Case("nothing recorded", _recorded([]), "refusals", says=("windows",)),
        Case("rows only", _recorded([], OTHERS, HONEST), "refusals", says=("windows",)),
        Case("follow-up asks for the invented number", _recorded([_window(THREAD)], FOLLOWED), "rows"),
    ]
    for _ in range(2):
        one, two, thread = _drawn(rng), _drawn(rng), _drawn(rng, 2)
        good = [_window(one, thread), _window(two)]
        size, number = len(one[0]), str(rng.randint(2, 40))
        honest = _said(f"{number} days.", "How long?", f"You have {number} days.")
        asked = _said("Attach the slip.", f"Is order {number} late?", f"Order {number} is late.")
        wrong = _said(f"{number} days.", "How long?", f"You have 1{number} days.")
        late = _said("Attach it.", "How long?", f"{number} days.", f"So {number}?", "Yes.")
        chats = rng.sample([honest, asked, honest], 3)
        cases += [
            Case("sound", _recorded(good, *chats), "none"),
            Case("full sequence", _recorded([_window(_everything(one)), *good], *chats), "none"),
            Case("no chats recorded", _recorded(good), "none"),
            Case("wrong number", _recorded(good, *chats, wrong), "rows"),
            Case("asked for later", _recorded(good, *chats, late), "rows"),
            Case(
                "wrong number and no ends", _recorded([_window(_no_ends(one)), *good], wrong, *chats), "rows"
            ),
            Case("own number repeated", _recorded(good, *chats, REPEATED), "rows"),
            Case("start cut", _recorded([_window(_cut(one, 4)), *good], *chats), "preparation"),
            Case("end cut", _recorded([*good, _window(_cut(one, 0, size - 4), two)], *chats), "preparation"),
            Case(
                "mixed", _recorded([*good, _window(one, two, thread, restart=False)], *chats), "preparation"
            ),
            Case("silent", _recorded([*good, _window(_silent(thread))], *chats), "labels"),
            Case("all silent", _recorded([_window(_silent(two)), _window(_silent(one))], *chats), "labels"),
            Case("shifted", _recorded([*good, _window(_shifted(thread), two)], *chats), "labels"),
            Case("no ends", _recorded([*good, _window(_no_ends(thread), one)], *chats), "labels"),
            Case("early", _recorded([*good, _window(_moved_span(thread, -1))], *chats), "labels"),
            Case("late", _recorded([*good, _window(_moved_span(two, 1), thread)], *chats), "labels"),
        ]
    return cases


EXERCISES = (
    Exercise(
        name="review_project",
        lab=LAB,
        hints=(
            "A row is right for two reasons at once: what must it hold, and what must it not hold? And who says "
            "that the author's verdict is true?",
            "In `claims_made`, compare places: where does a wording stand, where an `unless` phrase, and does one lie "
            "inside the other? Known numbers are those of the clause and of this row's question.",
            "for each row: missing, claims, numbers; found = any of the three\n"
            "disputed: the verdict is accept and something was found, or reject and nothing was\n"
            "untested: claims that stand in no rejected row's list\n"
            "the clause: facts it does not state, claims it makes; ready: all lists empty, one row accepted",
        ),
        properties={"rows": 3, "verdicts": 3, "denials": 2, "clause": 2, "refusals": 1},
        public=_public_project(),
        private=_private_project,
    ),
    Exercise(
        name="window_audit",
        lab=LAB,
        hints=(
            "For a single token: which three questions decide where it is counted?",
            "In `answer_places`, walk through the document once and remember one thing: are you inside an answer? The "
            "header opens it, the end of turn closes it, and the end itself still belongs to it.",
            "for ids, labels of each document:\n"
            "    documents, cut (begins with chat_start? as many starts as ends?), mixed (chat_start further in)\n"
            "    for each position: learned? moved? in answer_places: words or ends, untaught or not; else: elsewhere\n"
            "answer_places: at the end of turn leave the answer; behind the last id of answer_start enter it",
        ),
        properties={"labels": 3, "documents": 3, "refusals": 1},
        public=_public_audit(),
        private=_private_audit,
    ),
    Exercise(
        name="find_fault",
        lab=LAB,
        hints=(
            "Cut rows leave windows without labels. Which of the two do you report, and why?",
            "Count everything first: sum the audits of all windows, and walk through the rows. Then go down the table "
            "and stop at the first count above 0.",
            "unsupported: for each row, known = numbers of system and user messages so far\n"
            "totals: sums of window_audit over the windows; silent: windows that learn nothing\n"
            "for (fault, count, of, redo) in the table's order: if count, return them\n"
            "none: count 0 of all learned labels",
        ),
        properties={"rows": 3, "preparation": 3, "labels": 3, "none": 2, "refusals": 1},
        public=_public_fault(),
        private=_private_fault,
    ),
)
