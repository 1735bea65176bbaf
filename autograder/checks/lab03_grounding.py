"""Lab 03: cases of grounding, coverage, near-duplicates, risks and the verdict that joins them."""

import json
import random
from collections.abc import Sequence
from typing import Any

from autograder.checks.exercise import Case, Exercise
from autograder.shopflow import FOLDER, SYSTEM

LAB = "03_grounding"
Row = dict[str, Any]
Policy = dict[str, Any]

EVIDENCE: dict[str, Policy] = json.loads((FOLDER / "evidence.json").read_text(encoding="utf-8"))
DAMAGED, LATE = "damaged_electronics", "late_delivery"
ASK = "My electronics arrived damaged. What should I do?"
RIGHT = "Report the damage within 48 hours and attach photos."
SCAN = "Share the carrier scan in a support ticket so we can investigate."


def row(
    row_id: str,
    policy_id: str,
    *turns: str,
    asks: list[list[str]] | None = None,
    policies: dict[str, Policy] | None = None,
    **more: Any,
) -> Row:
    """A row with the present clause as its evidence; `turns` are the user's and the assistant's in turn."""
    policy = (policies or EVIDENCE)[policy_id]
    messages = [{"role": "system", "content": SYSTEM.format(evidence=policy["clause"])}]
    messages += [
        {"role": "assistant" if number % 2 else "user", "content": text} for number, text in enumerate(turns)
    ]
    found = {
        "id": row_id,
        "source": "synthetic",
        "intent": policy["intent"],
        "policy_id": policy_id,
        "policy_version": policy["version"],
        "messages": messages,
        "tokens": 60 + 20 * len(turns),
    }
    if asks is not None:
        found["asks"] = asks
    return found | more


def _sampled(rng: random.Random, number: int) -> list[Row]:
    lines = (FOLDER / "candidates.jsonl").read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in rng.sample([line for line in lines if line], number)]


def only(*names: str) -> dict[str, Policy]:
    """The policies with these names."""
    return {name: EVIDENCE[name] for name in names}


def _with_risk(policy_id: str, risk: str) -> dict[str, Policy]:
    return {policy_id: EVIDENCE[policy_id] | {"risk": risk}}


# ---------------------------------------------------------------- grounding_errors


def _answers(answer: str, policy_id: str = DAMAGED, question: str = ASK, **more: Any) -> dict[str, Any]:
    return {"row": row("a", policy_id, question, answer, **more), "policies": only(policy_id)}


def _facts(policy: Policy, rng: random.Random) -> str:
    return " and ".join(rng.choice(fact["wordings"]) for fact in policy["required"])


def private_grounding_errors(rng: random.Random) -> list[Case]:
    """Answers to random policies: right, with facts left out, claims put in, odd characters, many turns."""
    cases = [
        Case(
            "an unknown policy",
            {"row": row("a", DAMAGED, ASK, RIGHT), "policies": only(LATE)},
            "refusal",
            says=(DAMAGED,),
        ),
        Case("an empty answer", _answers(""), "facts"),
        Case("a fact in capitals", _answers(RIGHT.upper()), "typography"),
        Case(
            "a fact in odd characters",
            _answers("Attach photos: a 48\u2010hour limit, 48\u2009hours."),
            "typography",
        ),
        Case("a fact in other words", _answers("Within forty-eight hours, with pictures."), "facts"),
    ]
    names = rng.sample(sorted(EVIDENCE), 8)
    for name in names[:3]:
        policy = EVIDENCE[name]
        cases.append(Case("a right answer", _answers(f"Please: {_facts(policy, rng)}.", name), "facts"))
        alone = rng.choice(policy["required"][0]["wordings"])
        cases.append(Case("one fact of two", _answers(f"Only {alone}.", name), "facts"))
        inner = policy["required"][0]["wordings"][0]
        cases.append(
            Case("a fact inside a longer word", _answers(f"x{inner}y and {alone}z", name), "whole words")
        )
    digits = [n for n in sorted(EVIDENCE) if EVIDENCE[n]["required"][0]["wordings"][0][0].isdigit()]
    for name in rng.sample(digits, 3):
        fact = EVIDENCE[name]["required"][0]["wordings"][0]
        more = f"{rng.randint(1, 9)}{fact}"
        cases.append(Case("a digit too many", _answers(f"It is {more}.", name), "whole words"))
    own = [name for name in EVIDENCE if "." not in name]
    for name in rng.sample(own, 4):
        policy = EVIDENCE[name]
        claim = rng.choice(policy["forbidden"])
        said = rng.choice(claim["wordings"])
        cases.append(
            Case(
                "a claim behind the facts",
                _answers(f"{_facts(policy, rng)}. {said}, {said}!", name),
                "claims",
            )
        )
        odd = said.replace(" ", rng.choice(("\u00a0", "\n", "  ", "\u2009"))).replace("-", "\u2011")
        cases.append(
            Case("a claim in odd characters", _answers(f"We say: {odd.upper()}.", name), "typography")
        )
    excused = [(n, c) for n in own for c in EVIDENCE[n]["forbidden"] if c["unless"]]
    for name, claim in rng.sample(excused, 3):
        phrase, plain = rng.choice(claim["unless"]), claim["wordings"][0]
        facts = _facts(EVIDENCE[name], rng)
        cases.append(
            Case("a claim denied in a listed phrase", _answers(f"{facts}; {phrase}.", name), "unless")
        )
        both = f"{facts}; {phrase}. But {plain}."
        cases.append(Case("denied once and claimed once", _answers(both, name), "unless"))
        guessed = f"{facts}. By no means {plain}."
        cases.append(Case("a denial that no list holds", _answers(guessed, name), "unless"))
    for number in range(4):
        name = names[4 + number]
        policy = EVIDENCE[name]
        odd_number = rng.choice(("1.5", "7,300", "401", "999"))
        text = f"{_facts(policy, rng)}, then {odd_number} more"
        cases.append(Case("a number from nowhere", _answers(f"{text} and {odd_number}.", name), "numbers"))
        asked = f"I waited {odd_number} minutes. What now?"
        cases.append(Case("the customer's own number", _answers(text, name, asked), "numbers"))
    policy = EVIDENCE[LATE]
    every = [fact["name"] for fact in policy["required"]]
    for asks in ([every, every[:1]], [every, every[1:]], [every], [every[1:], []]):
        turns = ("It is late.", SCAN, "Where do I send it?", "In a support ticket.")
        arguments = {"row": row("a", LATE, *turns, asks=asks), "policies": only(LATE)}
        cases.append(Case("a follow-up turn", arguments, "turns"))
    later = ("It is late.", f"{SCAN} In 77 days.", "77 days?", f"{SCAN} Yes, in 77 days or 88.")
    cases.append(
        Case("a number asked about later", {"row": row("a", LATE, *later), "policies": only(LATE)}, "turns")
    )
    odd_number = rng.choice(("77", "1.5", "7,300"))
    again = ("It is late.", f"{SCAN} In {odd_number} days.", "Really?", f"{SCAN} Yes, in {odd_number} days.")
    cases.append(
        Case("a number said twice", {"row": row("a", LATE, *again), "policies": only(LATE)}, "numbers")
    )
    return cases


GROUNDING = Exercise(
    name="grounding_errors",
    lab=LAB,
    hints=(
        'If "148 hours" must not count as "48 hours" and "48\u00a0hours" must: what has to stand before, inside '
        "and after a wording?",
        "Build a pattern from each wording character by character: a space becomes \\s+, a hyphen a class of "
        "hyphens, all else re.escape; lookarounds (?<!\\w) and (?!\\w) keep words whole. The matches of the "
        "original text are the proof.",
        "known = numbers in required wordings\nfor each message with its position:\n"
        "    not the assistant's: add its numbers to known, go on\n"
        "    facts asked for in this turn (asks, else all) without a place: missing_fact\n"
        "    for each claim: its first place that no unless phrase covers\n"
        "    numbers that are not known and lie in no wording of a claim\n"
        "    add claims and numbers by start",
    ),
    properties={
        "facts": 2,
        "whole words": 1,
        "typography": 1,
        "claims": 2,
        "unless": 2,
        "numbers": 2,
        "turns": 2,
        "refusal": 1,
    },
    public=(
        Case("grounded", _answers(RIGHT), "facts", "honest rows that are refused are missing in training"),
        Case(
            "another deadline",
            _answers("Return any damaged electronics within 30 days."),
            "claims",
            "the model would learn a deadline that ShopFlow does not have",
        ),
        Case(
            "accepted wordings",
            _answers("Within forty-eight hours, and send us pictures of it."),
            "facts",
            "the model would learn one frozen sentence only",
        ),
        Case(
            "148 hours",
            _answers("Report it within 148 hours and attach photos."),
            "whole words",
            "a wrong number would be learned as the right one",
        ),
        Case(
            "no-break space and other hyphen",
            _answers("This is a 48\u2011hour deadline: attach photos, within 48\u00a0hours."),
            "typography",
            "honest rows would be lost for characters that nobody can see",
        ),
        Case(
            "denied in a listed phrase",
            _answers(f"{RIGHT} Not within 30\u00a0days!"),
            "unless",
            "the policy says which phrases are no claim; these rows may teach",
        ),
        Case(
            "denied and claimed",
            _answers(f"{RIGHT} So not within 30 days. Or within 30 days?"),
            "unless",
            "one denial would excuse every later claim",
        ),
        Case(
            "a denial that no list holds",
            _answers(f"{RIGHT} Do not worry: you have 30 days."),
            "unless",
            "code that guesses negation lets the claim pass, and the model learns it",
        ),
        Case(
            "a number from nowhere",
            _answers(f"{RIGHT} We answer within 45 hours."),
            "numbers",
            "the model would learn to make promises with numbers",
        ),
        Case(
            "the customer's number",
            _answers(f"{RIGHT} Order 4711 is noted.", question="Order 4711 is broken."),
            "numbers",
            "repeating what the customer said is no invention",
        ),
        Case(
            "two answers repeat an invented number",
            {
                "row": row(
                    "a",
                    DAMAGED,
                    ASK,
                    f"{RIGHT} We answer within 45 hours.",
                    "And then?",
                    f"{RIGHT} As we said, within 45 hours.",
                ),
                "policies": only(DAMAGED),
            },
            "numbers",
            "an invented number would prove itself, and the model would learn it twice",
        ),
        Case(
            "a follow-up turn",
            {
                "row": row(
                    "a",
                    DAMAGED,
                    ASK,
                    RIGHT,
                    "Where do I upload photos?",
                    "Attach the photos to your report.",
                    asks=[["48 hours", "photos"], ["photos"]],
                ),
                "policies": only(DAMAGED),
            },
            "turns",
            "every follow-up would be refused, and the model would repeat all facts in each turn",
        ),
        Case(
            "the first of two answers is wrong",
            {"row": row("a", DAMAGED, ASK, "Within 30 days.", "Really?", RIGHT), "policies": only(DAMAGED)},
            "turns",
            "all answers of a conversation are learned, not only the last",
        ),
        Case(
            "an unknown policy",
            {"row": row("a", LATE, ASK, SCAN), "policies": only(DAMAGED)},
            "refusal",
            "a row that cannot be judged would pass as clean",
            says=(LATE,),
        ),
    ),
    private=private_grounding_errors,
)


# ---------------------------------------------------------------- coverage_gaps


def _intents(*names: str) -> list[Row]:
    return [{"id": f"r{number}", "intent": name} for number, name in enumerate(names)]


def private_coverage_gaps(rng: random.Random) -> list[Case]:
    """Random rows against random requirements, none, one too few, and intents that nobody asked for."""
    every = sorted({policy["intent"] for policy in EVIDENCE.values()})
    cases = [
        Case("no rows", {"rows": [], "required_intents": rng.sample(every, 3)}, "gaps"),
        Case(
            "nothing required",
            {"rows": _intents(*every[:2]), "required_intents": []},
            "refusal",
            says=("required",),
        ),
        Case("nothing at all", {"rows": [], "required_intents": []}, "refusal", says=("required",)),
    ]
    for number in range(6):
        required = rng.sample(every, rng.randint(2, 6))
        rows = _intents(*rng.choices(every, k=rng.randint(5, 40)))
        least = rng.randint(1, 4)
        arguments = {"rows": rows, "required_intents": required, "minimum": least}
        cases.append(Case(f"random rows {number}", arguments, "minimum" if least > 1 else "gaps"))
    for least in (2, 3):
        names = rng.sample(every, 2)
        rows = _intents(*(names[:1] * least + names[1:] * (least - 1)))
        arguments = {"rows": rows, "required_intents": names, "minimum": least}
        cases.append(Case("one row too few", arguments, "minimum"))
    one, other, last = sorted(rng.sample(every, 3))
    arguments = {"rows": _intents(*[one] * 5), "required_intents": [other, one]}
    cases.append(Case("many rows of one intent", arguments, "gaps"))
    arguments = {"rows": _intents(one), "required_intents": [last, one, other]}
    cases.append(Case("gaps against the alphabet", arguments, "gaps"))
    full = rng.sample(every, 3)
    cases.append(Case("all there", {"rows": _intents(*full, *every), "required_intents": full}, "gaps"))
    return cases


COVERAGE = Exercise(
    name="coverage_gaps",
    lab=LAB,
    hints=(
        "Which intents does a count of the rows never mention?",
        "Start from the required intents: a Counter gives 0 for what it has never seen.",
        "refuse an empty list of requirements\ncount the rows by intent\n"
        "counts = for each required intent its count, 0 included\nmissing = those below the minimum\n"
        "ready = nothing is missing",
    ),
    properties={"gaps": 2, "minimum": 2, "refusal": 1},
    public=(
        Case(
            "two, one and none",
            {"rows": _intents(DAMAGED, DAMAGED, LATE), "required_intents": [DAMAGED, LATE, "sealed_return"]},
            "gaps",
            "an intent without rows is one that the model will invent",
        ),
        Case(
            "order and intents that nobody requires",
            {"rows": _intents("gift_card_expiry", LATE), "required_intents": [LATE, DAMAGED]},
            "gaps",
            "rows about other things do not make up for a gap",
        ),
        Case(
            "two gaps in the order of the requirements",
            {"rows": _intents(LATE), "required_intents": ["sealed_return", LATE, DAMAGED]},
            "gaps",
            "the list says what to write first",
        ),
        Case(
            "all there",
            {"rows": _intents(LATE, DAMAGED), "required_intents": [DAMAGED, LATE]},
            "gaps",
            "training would never start",
        ),
        Case(
            "exactly enough and one too few",
            {
                "rows": _intents(LATE, LATE, LATE, DAMAGED, DAMAGED),
                "required_intents": [LATE, DAMAGED],
                "minimum": 3,
            },
            "minimum",
            "a single row is hardly enough to learn from",
        ),
        Case(
            "nothing required",
            {"rows": _intents(LATE), "required_intents": []},
            "refusal",
            "an empty list of requirements would call any data set ready",
            says=("required",),
        ),
    ),
    private=private_coverage_gaps,
)


# ---------------------------------------------------------------- near_duplicates


def _asks(*pairs: tuple[str, str], policy: str = DAMAGED, answer: str = RIGHT) -> list[Row]:
    return [row(row_id, policy, question, answer) for row_id, question in pairs]


# Ten words each: A is like B and B like C (0.8), A and C are not alike (0.6).
CHAIN = (
    ("r1", "one two three four five six seven eight nine ten"),
    ("r2", "three four five six seven eight nine ten eleven twelve"),
    ("r3", "five six seven eight nine ten eleven twelve thirteen fourteen"),
)


# Not alike (0.6), and both kept; the third text is like the first (0.7) and still more like the second (0.9).
RIVALS = (CHAIN[0][1], CHAIN[2][1], "four five six seven eight nine ten eleven twelve thirteen")


def private_near_duplicates(rng: random.Random) -> list[Case]:
    """Shuffled variants of real questions, chains, conflicts, partner shops and letters of other alphabets."""
    cases = [
        Case("no rows", {"rows": []}, "representative"),
        Case("the same id", {"rows": _asks(("r1", ASK), ("r1", "Where is it?"))}, "refusal", says=("r1",)),
        Case("no words", {"rows": _asks(("r1", "?"), ("r2", "!!"), ("r3", "?"))}, "words"),
    ]
    known = _sampled(rng, 60)
    for number in range(4):
        chosen = [dict(r) for r in rng.sample(known, 6)]
        base = chosen[0]["messages"]
        copies = []
        for extra in (" Thanks!", " Please help.", ""):
            asked = {"role": "user", "content": base[1]["content"].upper() + extra}
            copies.append({**chosen[0], "messages": [base[0], asked, *base[2:]]})
        rows = chosen + copies
        rng.shuffle(rows)
        names = rng.sample(range(100, 999), len(rows))
        rows = [r | {"id": f"q{name}"} for r, name in zip(rows, names, strict=True)]
        cases.append(Case(f"copies among others {number}", {"rows": rows}, "representative"))
    for number in range(3):
        rows = _asks(*rng.sample(CHAIN, 3))
        labels = rng.sample(["a", "b", "c"], 3)
        rows = [r | {"id": label} for r, label in zip(rows, labels, strict=True)]
        cases.append(Case(f"a chain {number}", {"rows": rows}, "order"))
    reversed_chain = _asks(*zip("cba", (text for _, text in CHAIN), strict=True))
    cases.append(Case("a chain, last id first", {"rows": reversed_chain}, "order"))
    rows = _asks(*zip("pqrs", (*RIVALS, RIVALS[2].upper()), strict=True))
    rng.shuffle(rows)
    cases.append(Case("two rivals and a dropped row", {"rows": rows, "threshold": 0.65}, "representative"))
    for number in range(2):
        rows = _asks(("b10", ASK), ("b9", ASK + " Thanks!"), ("b2", ASK.lower()))
        rng.shuffle(rows)
        cases.append(Case(f"ids as text {number}", {"rows": rows}, "order"))
    shops = rng.sample([name for name in EVIDENCE if name.startswith(DAMAGED)], 4)
    rows = [row(f"s{number}", name, ASK, RIGHT) for number, name in enumerate(shops)]
    cases.append(Case("four shops, one question", {"rows": rows}, "policy"))
    rows += [row(f"t{number}", name, ASK, RIGHT) for number, name in enumerate(shops[:2])]
    cases.append(Case("copies within two shops", {"rows": rows}, "policy"))
    other = rng.choice(("17", "96", "3"))
    rows = [
        row("r1", DAMAGED, ASK, RIGHT),
        row("r2", DAMAGED, ASK, RIGHT.replace("48", other)),
        row("r3", DAMAGED, ASK, "Please r" + RIGHT[1:]),
        row("r4", DAMAGED, ASK, "Send it back to us, then we will see."),
        row("r5", DAMAGED, ASK, f"{RIGHT} {RIGHT}"),
    ]
    rng.shuffle(rows)
    cases.append(Case("five answers to one question", {"rows": rows}, "conflict"))
    turns = (ASK, RIGHT, f"Did you say {other}?", RIGHT)
    rows = [row("r1", DAMAGED, *turns), row("r2", DAMAGED, *turns), row("r3", DAMAGED, ASK, RIGHT)]
    cases.append(Case("several turns", {"rows": rows, "threshold": 0.8}, "words"))
    for texts in (
        ("Где моя посылка сегодня?", "Где моя посылка?"),
        ("Größe falsch, bitte", "Groß falsch, bitte"),
    ):
        rows = _asks(*zip(("r1", "r2"), texts, strict=True))
        cases.append(Case("another alphabet", {"rows": rows}, "words"))
    half = _asks(("r1", "alpha beta gamma delta"), ("r2", "alpha beta epsilon zeta"))
    cases.append(Case("exactly at the threshold", {"rows": half, "threshold": 0.5}, "order"))
    return cases


NEAR = Exercise(
    name="near_duplicates",
    lab=LAB,
    hints=(
        "Two people read the same file in different orders. What in a row can both of them sort by?",
        "Sort by id first. Then compare each row only with the kept rows of its policy; the most similar of them "
        "decides, and its answer is the one to compare with.",
        "refuse ids that are used twice\nfor each row in the order of ids:\n"
        "    scores = ROUGE-L with the questions of kept rows of the same policy\n"
        "    none at or above the threshold: keep it\n"
        "    else note it with the best one, the score,\n"
        "        and whether the answers differ in words (ROUGE-L) or in numbers",
    ),
    properties={"representative": 2, "order": 2, "policy": 1, "conflict": 2, "words": 1, "refusal": 1},
    public=(
        Case(
            "three copies and another question",
            {
                "rows": _asks(
                    ("r4", ASK), ("r2", "Hello! " + ASK), ("r3", ASK.lower()), ("r1", "Is there a deadline?")
                )
            },
            "representative",
            "without a representative the question is gone from the data",
        ),
        Case(
            "a chain, read backwards",
            {"rows": _asks(*CHAIN[::-1])},
            "order",
            "rows would vanish that are like no row that is left, or the order of the file would decide",
        ),
        Case(
            "like two kept rows, and most like a dropped one",
            {
                "rows": _asks(*zip(("r1", "r2", "r3", "r4"), (*RIVALS, RIVALS[2]), strict=True)),
                "threshold": 0.65,
            },
            "representative",
            "the reason would name another row, and answers would be compared that do not belong together",
        ),
        Case(
            "ids as text",
            {"rows": _asks(("r9", ASK), ("r10", ASK))},
            "order",
            "the survivor must be the same for everybody",
        ),
        Case(
            "two shops",
            {"rows": [row("r1", DAMAGED, ASK, RIGHT), row("r2", f"{DAMAGED}.shop1", ASK, RIGHT)]},
            "policy",
            "the pair that teaches reading the clause would be lost",
        ),
        Case(
            "other numbers",
            {"rows": [row("r1", DAMAGED, ASK, RIGHT), row("r2", DAMAGED, ASK, RIGHT.replace("48", "30"))]},
            "conflict",
            "one of two contradicting answers would vanish silently",
        ),
        Case(
            "other words",
            {
                "rows": [
                    row("r1", LATE, "Late again", SCAN),
                    row(
                        "r2",
                        LATE,
                        "Late again!",
                        "Report the late delivery in a support ticket and attach the carrier scan.",
                    ),
                ]
            },
            "conflict",
            "a person has to choose the better answer",
        ),
        Case(
            "only politeness differs",
            {
                "rows": [
                    row("r1", DAMAGED, ASK, RIGHT),
                    row("r2", DAMAGED, ASK, "Please report the damage within 48 hours and attach photos."),
                ]
            },
            "conflict",
            "if everything is a conflict, nobody reads the conflicts",
        ),
        Case(
            "letters outside of ASCII",
            {"rows": _asks(("r1", "Где моя посылка?"), ("r2", "Где моя посылка?"))},
            "words",
            "copies in other languages would all stay",
        ),
        Case(
            "exactly at the threshold",
            {
                "rows": _asks(("r1", "alpha beta gamma delta"), ("r2", "alpha beta epsilon zeta")),
                "threshold": 0.5,
            },
            "order",
            "the same rule must give the same rows everywhere",
        ),
        Case(
            "the same id",
            {"rows": _asks(("r1", ASK), ("r1", "Where is it?"))},
            "refusal",
            "a row could not be told from its twin, in the reasons or in the data",
            says=("r1",),
        ),
    ),
    private=private_near_duplicates,
    tolerance=1e-9,
)


# ---------------------------------------------------------------- row_risks


def _risk(
    changes: dict[str, Any] | None = None, *turns: str, policy: str = DAMAGED, **more: Any
) -> dict[str, Any]:
    made = row("a", policy, *(turns or (ASK, RIGHT)), **(changes or {}))
    return {"row": made, "policies": only(policy), **more}


def _no_clause() -> dict[str, Any]:
    arguments = _risk()
    arguments["row"]["messages"][0]["content"] = "Use only the supplied policy evidence."
    return arguments


def private_row_risks(rng: random.Random) -> list[Case]:
    """Random policies with one risk or several at once, and texts that only look risky."""
    cases = []
    names = rng.sample(sorted(EVIDENCE), 6)
    mails = (f"k.{rng.choice('abc')}@example.org", f"x{rng.randint(1, 9)}@mail.example.net")
    phones = (f"(415) 555-01{rng.randint(10, 99)}", f"212 555 01{rng.randint(10, 99)}")
    for name in names[:3]:
        old = EVIDENCE[name]["version"] + rng.choice((-1, 1))
        cases.append(Case("another version", _risk({"policy_version": old}, policy=name), "evidence"))
    changed = _risk(policy=names[0])
    changed["row"]["messages"][0]["content"] = SYSTEM.format(evidence=EVIDENCE[names[1]]["clause"])
    cases.append(Case("the clause of another policy", changed, "evidence"))
    cases.append(Case("no clause", _no_clause(), "evidence"))
    beside = _risk(policy=names[2])
    beside["row"]["messages"][0]["content"] += " " + EVIDENCE[names[3]]["clause"]
    cases.append(Case("a second clause beside it", beside, "evidence"))
    for found in (*mails, *phones, "4111-1111-1111-1111"):
        turns = (f"{ASK} {found}, thanks.", RIGHT, "And?", f"We wrote to {found}.")
        cases.append(Case("personal data of both sides", _risk(None, *turns), "personal data"))
    harmless = (
        "Order 00481920337",
        "203.0.113.17",
        "7730019254418823",
        "2024 1130 0917",
        "0.250750683890174",
    )
    digits = rng.choice(("5500017342219085", "7730019254418824", "3141592653589794"))
    cases.append(
        Case("a customer number as long as a card's", _risk(None, f"{ASK} {digits}", RIGHT), "personal data")
    )
    for text in rng.sample(harmless, 3):
        cases.append(Case("digits that are nobody's", _risk(None, f"{ASK} {text}", RIGHT), "personal data"))
    for phrase in ("Your Password", "CARD NUMBER", "That is not my problem"):
        said = f"{RIGHT} {phrase}, {phrase}."
        cases.append(Case("an unwanted phrase", _risk(None, f"They asked for {phrase}!", said), "replies"))
    cases.append(
        Case("two unwanted phrases", _risk(None, ASK, "Dear {{name}}, google your password."), "replies")
    )
    cases.append(
        Case("a phrase of the customer", _risk(None, "Is this your password page?", RIGHT), "replies")
    )
    for length in (511, 512, 513):
        cases.append(Case(f"{length} tokens", _risk({"tokens": length}), "length"))
    limit = rng.randint(100, 400)
    cases.append(Case("another limit", _risk({"tokens": limit + 1}, max_tokens=limit), "length"))
    every = ["48 hours", "photos"]
    nothing: list[str] = []
    for asks in ([every, every[:1]], [every[:1]], [every[::-1]], [nothing], [every, every]):
        turns = (ASK, RIGHT, "And?", RIGHT)
        cases.append(Case("asked for some facts", _risk({"asks": asks}, *turns), "partial"))
    for risk in ("high", "medium", "low"):
        for source in ("reviewed", "transcript"):
            arguments = _risk({"source": source})
            arguments["policies"] = _with_risk(DAMAGED, risk)
            cases.append(Case(f"{risk} risk, {source}", arguments, "high risk"))
    worst = _risk(
        {"policy_version": 1, "tokens": 900, "asks": [["photos"]]},
        f"{ASK} {mails[0]}",
        "Send me your password.",
    )
    worst["policies"] = _with_risk(DAMAGED, "high")
    cases.append(Case("everything at once", worst, "high risk"))
    return cases


RISKS = Exercise(
    name="row_risks",
    lab=LAB,
    hints=(
        "Which of the six risks concern the row as a whole, and which stand in one message?",
        "Collect tuples (risk, message, text) in the order of the list; for replies and personal data go through "
        "the messages with enumerate. All roles may hold personal data, only the assistant's replies are imitated.",
        "version differs, or clause not in what the system says: stale_evidence\n"
        "for each assistant message, for each entry of UNWANTED that its lower-case text holds: unwanted_reply\n"
        "for each message, for each thing find_personal finds: personal_data\n"
        "tokens above the limit: over_length\n"
        "for each assistant message with its asks: a required fact not among them: partial_answer\n"
        "policy risk high and source not reviewed: high_risk",
    ),
    properties={"evidence": 2, "replies": 1, "personal data": 2, "length": 1, "partial": 1, "high risk": 1},
    public=(
        Case("harmless", _risk(), "evidence", "rows would be missing without reason"),
        Case(
            "an older version",
            _risk({"policy_version": 2}),
            "evidence",
            "the model would answer by old rules",
        ),
        Case(
            "the clause is not shown",
            _no_clause(),
            "evidence",
            "the model would learn to answer without evidence",
        ),
        Case(
            "asks for a secret",
            _risk(None, ASK, f"{RIGHT} Please send me Your Password."),
            "replies",
            "the model would ask customers for passwords",
        ),
        Case(
            "the customer says it",
            _risk(None, "Is this your password page?", RIGHT),
            "replies",
            "only replies are imitated; customers may say what they like",
        ),
        Case(
            "an address in the question",
            _risk(None, f"{ASK} I am mara.lind@example.com.", RIGHT),
            "personal data",
            "the model could repeat the address to strangers",
        ),
        Case(
            "digits that are no card",
            _risk(None, f"{ASK} Order 7730019254418823.", RIGHT),
            "personal data",
            "a filter that cries wolf is turned off",
        ),
        Case("exactly as long as allowed", _risk({"tokens": 512}), "length", "a row that fits would be lost"),
        Case(
            "one token too long", _risk({"tokens": 513}), "length", "the end of the answer would be cut off"
        ),
        Case(
            "a follow-up that asks for one fact",
            _risk(
                {"asks": [["48 hours", "photos"], ["photos"]]},
                ASK,
                RIGHT,
                "Where do I upload photos?",
                "Attach the photos to your report.",
            ),
            "partial",
            "rows that state one fact of two teach the model to stop early",
        ),
        Case(
            "high risk, unreviewed",
            _risk(policy="refund_timing"),
            "high risk",
            "an error about money would be learned unseen",
        ),
        Case(
            "high risk, reviewed",
            _risk({"source": "reviewed"}, policy="refund_timing"),
            "high risk",
            "a person has looked at it: it may teach",
        ),
    ),
    private=private_row_risks,
)


# ---------------------------------------------------------------- accept


def _mixed() -> list[Row]:
    partial = row(
        "d",
        DAMAGED,
        "I unpacked a broken tablet.",
        RIGHT,
        "Where do pictures go?",
        "Attach photos.",
        asks=[["48 hours", "photos"], ["photos"]],
    )
    return [
        row("f", DAMAGED, "Something else is broken.", "Return it within 30 days.", policy_version=2),
        row("a", DAMAGED, ASK, RIGHT),
        partial,
        row("c", LATE, "My delivery is late. What should I do?", SCAN),
        row("b", DAMAGED, f"{ASK} Thanks!", RIGHT),
        row(
            "e",
            "refund_timing",
            "Where is my refund?",
            "Expect the refund within 10 business days on the original card.",
        ),
    ]


def _accept(rows: Sequence[Row], **more: Any) -> dict[str, Any]:
    names = dict.fromkeys(r["policy_id"] for r in rows if r["policy_id"] in EVIDENCE)
    return {"rows": list(rows), "policies": only(*names), **more}


def private_accept(rng: random.Random) -> list[Case]:
    """Samples of the real candidates in random order, and the traps of joining checks."""
    cases = []
    for number in range(5):
        rows = [r for r in _sampled(rng, 12) if r["tokens"] < 600]
        cases.append(Case(f"candidates {number}", _accept(rows), "verdicts"))
    for number in range(2):
        rows = _mixed()
        rng.shuffle(rows)
        cases.append(Case(f"one of each {number}", _accept(rows), "verdicts"))
    wrong = row("a", DAMAGED, ASK, f"Within {rng.randint(50, 70)} days.")
    rows = [wrong, row("b", DAMAGED, ASK, RIGHT), row("c", DAMAGED, ASK, RIGHT)]
    cases.append(Case("the wrong copy has the smaller id", _accept(rows), "order of checks"))
    stale = row("a", DAMAGED, ASK, RIGHT, policy_version=1)
    cases.append(Case("the stale copy has the smaller id", _accept([stale, *rows[1:]]), "order of checks"))
    money = ("Expect the refund within 10 business days on the original card.", "refund_timing")
    rows = [row(name, money[1], "Where is my refund?", money[0]) for name in "ba"]
    cases.append(Case("a copy of a row for review", _accept(rows), "order of checks"))
    lost = row("c", "refund_timing", "My refund?", f"In {rng.randint(61, 90)} days.")
    cases.append(Case("a high-risk row that is wrong as well", _accept([rows[0], lost]), "verdicts"))
    clash = "Put the carrier scan, as soon as you have it, into a new support ticket; we look at it then."
    rows = [row("a", LATE, "Late again", SCAN), row("b", LATE, "Late again!", clash)]
    cases.append(Case("a conflict", _accept(rows), "order of checks"))
    lost = row("z", DAMAGED, ASK, RIGHT) | {"policy_id": "damaged_electronic"}
    cases.append(Case("an unknown policy among others", _accept([*_mixed()[1:3], lost]), "robust"))
    cases.append(Case("no rows", {"rows": [], "policies": only(LATE)}, "robust"))
    rows = [row("b-7", DAMAGED, ASK, RIGHT), row("b-7", LATE, "Late.", "Tomorrow.")]
    cases.append(Case("an id used twice, one of them wrong", _accept(rows), "refusal", says=("b-7",)))
    rows = [row("a", DAMAGED, ASK, RIGHT, tokens=300), row("b", DAMAGED, f"{ASK} Hello!", RIGHT)]
    cases.append(Case("other limits", _accept(rows, max_tokens=200, threshold=0.99), "robust"))
    return cases


ACCEPT = Exercise(
    name="accept",
    lab=LAB,
    hints=(
        "A row has three reasons, one of which only a person can judge. Where does it end?",
        "Collect the reasons of every row in a dict by id, and the ids that are rejected in a set. Only then look for "
        "near-duplicates, among the others.",
        "for each row:\n    unknown policy: that is its reason, rejected\n"
        "    else: reasons of grounding_errors, then of row_risks\n"
        "    a grounding error or a risk of REJECT: rejected\n"
        "near_duplicates of the rows not rejected:\n"
        "    conflict: one more reason; else one more reason and rejected\n"
        "sort by id into the three lists",
    ),
    properties={"verdicts": 3, "order of checks": 2, "robust": 1, "refusal": 1},
    public=(
        Case(
            "one of each",
            _accept(_mixed()),
            "verdicts",
            "a row in two lists, or in none, is a row out of control",
        ),
        Case(
            "the wrong copy has the smaller id",
            _accept([row("a", DAMAGED, ASK, "Return it within 30 days."), row("b", DAMAGED, ASK, RIGHT)]),
            "order of checks",
            "looking for copies first would remove the right row with the wrong one",
        ),
        Case(
            "a conflict",
            _accept(
                [
                    row("a", LATE, "Late again", SCAN),
                    row(
                        "b",
                        LATE,
                        "Late again!",
                        "Report the late delivery in a support ticket and attach the carrier scan.",
                    ),
                ]
            ),
            "order of checks",
            "a person chooses between two right answers",
        ),
        Case(
            "an unknown policy",
            _accept(
                [
                    row("a", DAMAGED, ASK, RIGHT),
                    row("b", LATE, "Late.", SCAN) | {"policy_id": "late_deliveries"},
                ]
            ),
            "robust",
            "one bad row would stop the other 639",
        ),
        Case(
            "a high-risk row that is wrong as well",
            _accept([row("a", "refund_timing", "Where is my refund?", "You get an instant refund.")]),
            "verdicts",
            "a person would waste time on a row that is wrong anyway",
        ),
        Case(
            "the limits are used",
            _accept(_mixed()[1:5], max_tokens=100, threshold=0.99),
            "robust",
            "limits that are ignored give another data set than the manifest says",
        ),
        Case(
            "an id used twice",
            _accept([row("a-1", DAMAGED, ASK, RIGHT), row("a-1", LATE, "Late.", "Tomorrow.")]),
            "refusal",
            "one of the two rows would be judged by the other's reasons",
            says=("a-1",),
        ),
    ),
    private=private_accept,
    time_limit=10.0,
)

EXERCISES = (GROUNDING, COVERAGE, NEAR, RISKS, ACCEPT)
