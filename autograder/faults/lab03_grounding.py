"""Lab 03: real filtering bugs, and right answers in other styles."""

import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import combinations
from typing import Any

from autograder.faults.registry import alternative, fault, reference

Row = dict[str, Any]
Policies = dict[str, dict[str, Any]]
Place = tuple[int, int]
Finder = Callable[[str, Sequence[str]], list[Place]]

NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
RIGHTLY = {" ": r"\s+", "-": "[-\u2010-\u2014]", "'": "['\u2018\u2019]"}


# ---------------------------------------------------------------- grounding_errors


def _find(text: str, wordings: Sequence[str], *, alike: dict[str, str], whole: bool = True) -> list[Place]:
    before, after = (r"(?<!\w)", r"(?!\w)") if whole else ("", "")
    found = set()
    for wording in wordings:
        body = "".join(alike.get(c, re.escape(c)) for c in wording)
        found |= {m.span() for m in re.finditer(before + body + after, text, re.IGNORECASE)}
    return sorted(found, key=lambda place: (place[0], -place[1]))


_right_places: Finder = partial(_find, alike=RIGHTLY)


def _covered(place: Place, others: Iterable[Place]) -> bool:
    return any(start <= place[0] and place[1] <= end for start, end in others)


def _unless(text: str, claim: dict[str, Any], stated: list[Place], find: Finder) -> list[Place]:
    phrases = find(text, claim.get("unless", []))
    return [place for place in stated if not _covered(place, phrases)]


def _grounding(
    row: Row,
    policies: Policies,
    *,
    find: Finder = _right_places,
    excuse: Callable[[str, dict[str, Any], list[Place], Finder], list[Place]] = _unless,
    accepted: Callable[[dict[str, Any]], list[str]] = lambda fact: list(fact["wordings"]),
    asks: bool = True,
    last_only: bool = False,
    numbers: bool = True,
    given_by: tuple[str, ...] = ("system", "user"),
) -> list[dict[str, Any]]:
    """`grounding_errors` with one decision at a time exchangeable."""
    if row["policy_id"] not in policies:
        raise ValueError(f"unknown policy {row['policy_id']}")
    policy = policies[row["policy_id"]]
    every = [fact["name"] for fact in policy["required"]]
    known = {n for fact in policy["required"] for w in fact["wordings"] for n in NUMBER.findall(w)}
    turn = 0
    errors: list[tuple[int, int, str, str, int | None]] = []
    for index, message in enumerate(row["messages"]):
        text = message["content"]
        if message["role"] != "assistant":
            known |= set(NUMBER.findall(text)) if message["role"] in given_by else set()
            continue
        given = row.get("asks", []) if asks else []
        wanted = given[turn] if turn < len(given) else every
        turn += 1
        before = frozenset(known)
        known |= set(NUMBER.findall(text)) if "assistant" in given_by else set()
        if last_only and index < len(row["messages"]) - 1:
            continue
        for fact in policy["required"]:
            if fact["name"] in wanted and not find(text, accepted(fact)):
                errors.append((index, -1, "missing_fact", fact["name"], None))
        claimed: list[Place] = []
        for claim in policy["forbidden"]:
            stated = find(text, claim["wordings"])
            claimed += stated
            errors += [
                (index, place[0], "forbidden_claim", claim["name"], place[1])
                for place in excuse(text, claim, stated, find)[:1]
            ]
        for found in NUMBER.finditer(text) if numbers else ():
            if found[0] not in before and not _covered(found.span(), claimed):
                errors.append((index, found.start(), "unsupported_number", found[0], found.end()))
    errors.sort(key=lambda error: error[:2])
    return [
        {"message": i, "kind": kind, "name": name, "start": None if end is None else start, "end": end}
        for i, start, kind, name, end in errors
    ]


@fault(
    "grounding.substring",
    exercise="grounding_errors",
    title="Wordings are looked for inside of longer words and numbers",
    symptom="Rows with '148 hours' pass as '48 hours'.",
    first_check="Judge 'within 148 hours'.",
    consequence="Rows with wrong numbers pass as right ones, and the model learns both deadlines.",
    citation="A '5' was found in '2015': https://github.com/monarch-initiative/dismech/pull/9368",
)
def _(row: Row, policies: Policies) -> list[dict[str, Any]]:
    return _grounding(row, policies, find=partial(_find, alike=RIGHTLY, whole=False))


@fault(
    "grounding.too_literal",
    exercise="grounding_errors",
    title="Spaces and hyphens must be typed exactly as in the policy",
    symptom="Rows pasted from web pages or word processors are refused for a missing fact that one can read.",
    first_check="Print the answer with repr and look for \\xa0 and \\u2011.",
    consequence="Honest rows are lost, mostly of one source, and the model sees less of how people write.",
    citation="Quotations failed for curly quotes and line breaks: "
    "https://github.com/NousResearch/hermes-agent/pull/85749",
)
def _(row: Row, policies: Policies) -> list[dict[str, Any]]:
    return _grounding(row, policies, find=partial(_find, alike={}))


@fault(
    "grounding.names_only",
    exercise="grounding_errors",
    title="Only the name of a fact counts, not its accepted wordings",
    symptom="'Forty-eight hours' and 'pictures' are refused.",
    first_check="Judge an answer in another accepted wording.",
    consequence="The model learns one frozen sentence and repeats it whatever the customer asks.",
    citation="Seen here: 8 right candidates that use another accepted wording are refused.",
)
def _(row: Row, policies: Policies) -> list[dict[str, Any]]:
    return _grounding(row, policies, accepted=lambda fact: [fact["name"]])


def _guessed(text: str, claim: dict[str, Any], stated: list[Place], find: Finder) -> list[Place]:
    return [p for p in stated if not re.search(r"\b(not?|never)\b", text[max(0, p[0] - 30) : p[0]], re.I)]


@fault(
    "grounding.guessed_negation",
    exercise="grounding_errors",
    title="A 'not' somewhere before a claim excuses it",
    symptom="'Do not worry: you have 30 days' passes.",
    first_check="Put a 'not' into the sentence before the claim.",
    consequence="Wrong claims pass as denials, and the model learns to make them.",
    citation="A fixed window after a negation word, as in NegEx (Chapman et al., 2001), https://doi.org/10.1006/jbin.2001.1029",
)
def _(row: Row, policies: Policies) -> list[dict[str, Any]]:
    return _grounding(row, policies, excuse=_guessed)


@fault(
    "grounding.unless_ignored",
    exercise="grounding_errors",
    title="Phrases in which a wording is no claim are not looked at",
    symptom="Rows that deny a claim in the policy's own words are refused.",
    first_check="Judge an answer with a phrase of the policy's 'unless'.",
    consequence="The model never sees a claim denied, and has no words for it when a customer asks.",
    citation="Seen here: 4 right candidates such as 'There is no automatic refund' are rejected.",
)
def _(row: Row, policies: Policies) -> list[dict[str, Any]]:
    return _grounding(row, policies, excuse=lambda text, claim, stated, find: stated)


@fault(
    "grounding.unless_excuses_all",
    exercise="grounding_errors",
    title="One denial excuses every later claim of the same answer",
    symptom="'Not within 30 days. Or within 30 days?' passes.",
    first_check="Deny a claim and then make it, in one answer.",
    consequence="Answers that contradict themselves are learned.",
    citation="Seen here: an early version of this lab's reference looked for the phrase anywhere in the answer.",
)
def _(row: Row, policies: Policies) -> list[dict[str, Any]]:
    return _grounding(
        row,
        policies,
        excuse=lambda text, claim, stated, find: [] if find(text, claim.get("unless", [])) else stated,
    )


@fault(
    "grounding.last_answer_only",
    exercise="grounding_errors",
    title="Only the last answer of a conversation is judged",
    symptom="Errors in earlier turns of transcripts never show.",
    first_check="Put the wrong answer into the first of two turns.",
    consequence="All answers are trained on: the wrong first one is learned as well.",
    citation="A tool that keeps the last turn of a long conversation alone, as splitters do: "
    "https://github.com/lm-sys/FastChat/tree/main/fastchat/data",
)
def _(row: Row, policies: Policies) -> list[dict[str, Any]]:
    return _grounding(row, policies, last_only=True)


@fault(
    "grounding.asks_ignored",
    exercise="grounding_errors",
    title="Every follow-up answer must state every fact",
    symptom="All follow-up turns are refused for missing facts.",
    first_check="Judge a row with 'asks'.",
    consequence="Conversations vanish from the data, or the model recites the whole policy in every turn.",
    citation="Seen here: all 24 follow-up conversations among the candidates are rejected instead of reviewed.",
)
def _(row: Row, policies: Policies) -> list[dict[str, Any]]:
    return _grounding(row, policies, asks=False)


@fault(
    "grounding.numbers_ignored",
    exercise="grounding_errors",
    title="Numbers that nobody gave are not reported",
    symptom="'We answer within 45 hours' passes, because no list forbids it.",
    first_check="Add a sentence with a number that stands nowhere else.",
    consequence="The model learns to make promises with numbers of its own.",
    citation="Seen here: 16 candidates with an invented number are accepted.",
)
def _(row: Row, policies: Policies) -> list[dict[str, Any]]:
    return _grounding(row, policies, numbers=False)


@fault(
    "grounding.customers_numbers",
    exercise="grounding_errors",
    title="Numbers that the customer gave count as invented",
    symptom="Answers that repeat an order number are refused.",
    first_check="Let the customer name an order number and the answer repeat it.",
    consequence="The model never sees that it may repeat what a customer said.",
    citation="Seen here: a rule of the evidence alone, as used by citation checkers "
    "(https://github.com/ucbepic/DataAgentBench/pull/82), refuses such rows.",
)
def _(row: Row, policies: Policies) -> list[dict[str, Any]]:
    return _grounding(row, policies, given_by=("system",))


@fault(
    "grounding.answers_prove",
    exercise="grounding_errors",
    title="A number counts as given once an earlier answer has said it",
    symptom="Of two answers with the same invented number only the first is reported.",
    first_check="Let two answers of one conversation repeat a number that nobody gave.",
    consequence="An invented number proves itself: whoever mends the reported answer leaves the other one to be learned.",
    citation="Seen here: a solution that passed every case of an early version of this lab.",
)
def _(row: Row, policies: Policies) -> list[dict[str, Any]]:
    return _grounding(row, policies, given_by=("system", "user", "assistant"))


@fault(
    "grounding.unknown_policy_passes",
    exercise="grounding_errors",
    title="A row whose policy is unknown passes as clean",
    symptom="Rows with a misspelt policy are never refused.",
    first_check="Judge a row with a policy id that is not there.",
    consequence="Rows that nobody could judge are trained on.",
    citation="Fail open: an empty list of checks passes, as all([]) does, https://github.com/dagster-io/dagster/pull/8763",
)
def _(row: Row, policies: Policies) -> list[dict[str, Any]]:
    return _grounding(row, policies) if row["policy_id"] in policies else []


@alternative("grounding_errors", style="one parametrised loop with tuples")
def _(row: Row, policies: Policies) -> list[dict[str, Any]]:
    return _grounding(row, policies)


def _by_alternation(text: str, wordings: Sequence[str]) -> list[Place]:
    if not wordings:
        return []
    bodies = [
        "".join(RIGHTLY.get(c, re.escape(c)) for c in w) for w in sorted(wordings, key=len, reverse=True)
    ]
    pattern = re.compile(rf"(?=(?<!\w)({'|'.join(bodies)})(?!\w))", re.IGNORECASE)
    return [match.span(1) for match in pattern.finditer(text)]


@alternative("grounding_errors", style="one alternation for all wordings, with a lookahead")
def _(row: Row, policies: Policies) -> list[dict[str, Any]]:
    return _grounding(row, policies, find=_by_alternation)


def _by_offset_map(text: str, wordings: Sequence[str]) -> list[Place]:
    """Search a normalised copy, and keep for each of its characters where it came from."""
    plain, origin = "", []
    for at, char in enumerate(text):
        if char.isspace():
            if plain.endswith(" "):
                continue
            char = " "
        elif "\u2010" <= char <= "\u2014":
            char = "-"
        elif char in "\u2018\u2019":
            char = "'"
        lower = char.lower()
        plain += lower if len(lower) == 1 else char
        origin.append(at)
    found = set()
    for wording in wordings:
        at = plain.find(wording.lower())
        while at >= 0:
            end = at + len(wording)
            ends = (plain[at - 1 : at], plain[end : end + 1])
            if not any(c.isalnum() or c == "_" for c in ends):
                found.add((origin[at], origin[end - 1] + 1))
            at = plain.find(wording.lower(), at + 1)
    return sorted(found, key=lambda place: (place[0], -place[1]))


@alternative("grounding_errors", style="a normalised copy with an offset map back to the text")
def _(row: Row, policies: Policies) -> list[dict[str, Any]]:
    return _grounding(row, policies, find=_by_offset_map)


# ---------------------------------------------------------------- coverage_gaps


def _needed(required: Sequence[str]) -> None:
    if not required:
        raise ValueError("at least one required intent is needed")


@fault(
    "coverage.counted_from_rows",
    exercise="coverage_gaps",
    title="Only intents that have rows are counted",
    symptom="Gaps are never found: what has no row is not in the table.",
    first_check="Require an intent that no row has.",
    consequence="Training starts without a single row on a topic, and the model invents its answers there.",
    citation="Seen here: the first draft of this lab is a Counter of what is there, and calls it complete.",
)
def _(rows: list[Row], required_intents: list[str], minimum: int = 1) -> dict[str, Any]:
    _needed(required_intents)
    counts = {i: n for i, n in Counter(r["intent"] for r in rows).items() if i in required_intents}
    missing = [i for i in required_intents if i in counts and counts[i] < minimum]
    return {"counts": counts, "missing": missing, "ready": not missing}


@fault(
    "coverage.nothing_required",
    exercise="coverage_gaps",
    title="An empty list of requirements is fulfilled",
    symptom="A data set is called ready although nobody said what it needs.",
    first_check="Call it with no required intent.",
    consequence="A misread configuration file starts a training run on anything.",
    citation="all([]) is True: https://github.com/dagster-io/dagster/pull/8763",
)
def _(rows: list[Row], required_intents: list[str], minimum: int = 1) -> dict[str, Any]:
    there = Counter(r["intent"] for r in rows)
    counts = {i: there[i] for i in required_intents}
    enough = all(count >= minimum for count in counts.values())
    return {"counts": counts, "missing": [i for i, n in counts.items() if n < minimum], "ready": enough}


@fault(
    "coverage.minimum_ignored",
    exercise="coverage_gaps",
    title="One row is enough, whatever the minimum",
    symptom="Intents with a single row count as covered.",
    first_check="Ask for three rows of an intent that has two.",
    consequence="A single row is memorised, not learned.",
    citation="Seen here: with a minimum of 5, reviewed rows alone cover 9 of 16 intents.",
)
def _(rows: list[Row], required_intents: list[str], minimum: int = 1) -> dict[str, Any]:
    found: dict[str, Any] = reference("coverage_gaps")(rows=rows, required_intents=required_intents)
    return found


@fault(
    "coverage.minimum_is_not_enough",
    exercise="coverage_gaps",
    title="An intent with exactly the minimum counts as missing",
    symptom="The list of gaps never gets empty, although everything was written that was asked for.",
    first_check="Ask for one row of an intent that has one.",
    consequence="People write rows that nobody needs, and training waits.",
    citation="The off-by-one of limits, as in https://github.com/huggingface/trl/pull/6003",
)
def _(rows: list[Row], required_intents: list[str], minimum: int = 1) -> dict[str, Any]:
    found = reference("coverage_gaps")(rows=rows, required_intents=required_intents, minimum=minimum + 1)
    return dict(found)


@fault(
    "coverage.total_decides",
    exercise="coverage_gaps",
    title="The number of all rows decides",
    symptom="Plenty of rows about one thing hide that there is none about another.",
    first_check="Require two intents and give many rows of one of them.",
    consequence="A data set that knows one topic is shipped as complete.",
    citation="Seen here: 150 reviewed rows for 16 intents look like nine each; four intents have none.",
)
def _(rows: list[Row], required_intents: list[str], minimum: int = 1) -> dict[str, Any]:
    found = dict(reference("coverage_gaps")(rows=rows, required_intents=required_intents, minimum=minimum))
    return found | {"ready": len(rows) >= len(required_intents) * minimum}


@fault(
    "coverage.sorted_gaps",
    exercise="coverage_gaps",
    title="The gaps are listed by the alphabet",
    symptom="The order in which somebody put the requirements is lost.",
    first_check="Require two missing intents, the second of which comes first in the alphabet.",
    consequence="The most important gap is not the first one that people see.",
    citation="Seen here: a set difference forgets the order, and sorting it hides that it did.",
)
def _(rows: list[Row], required_intents: list[str], minimum: int = 1) -> dict[str, Any]:
    found = dict(reference("coverage_gaps")(rows=rows, required_intents=required_intents, minimum=minimum))
    return found | {"missing": sorted(found["missing"])}


@alternative("coverage_gaps", style="list.count")
def _(rows: list[Row], required_intents: list[str], minimum: int = 1) -> dict[str, Any]:
    _needed(required_intents)
    intents = [row["intent"] for row in rows]
    counts = {intent: intents.count(intent) for intent in required_intents}
    missing = [intent for intent in required_intents if counts[intent] < minimum]
    return {"counts": counts, "missing": missing, "ready": missing == []}


@alternative("coverage_gaps", style="dict.fromkeys and a loop")
def _(rows: list[Row], required_intents: list[str], minimum: int = 1) -> dict[str, Any]:
    _needed(required_intents)
    counts = dict.fromkeys(required_intents, 0)
    for row in rows:
        if row["intent"] in counts:
            counts[row["intent"]] += 1
    return {
        "counts": counts,
        "missing": [i for i, n in counts.items() if n < minimum],
        "ready": min(counts.values()) >= minimum,
    }


@alternative("coverage_gaps", style="groups of ids")
def _(rows: list[Row], required_intents: list[str], minimum: int = 1) -> dict[str, Any]:
    _needed(required_intents)
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["intent"]].append(row)
    counts = {intent: len(groups.get(intent, ())) for intent in required_intents}
    missing = list(filter(lambda intent: counts[intent] < minimum, required_intents))
    return {"counts": counts, "missing": missing, "ready": not missing}


# ---------------------------------------------------------------- near_duplicates


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _lcs(one: Sequence[str], other: Sequence[str]) -> int:
    best = [0] * (len(other) + 1)
    for word in one:
        diagonal = 0
        for column, match in enumerate(other, 1):
            above = best[column]
            best[column] = diagonal + 1 if word == match else max(above, best[column - 1])
            diagonal = above
    return best[-1]


def _rouge(one: str, other: str, cut: Callable[[str], list[str]] = _words) -> float:
    a, b = cut(one), cut(other)
    return 2 * _lcs(a, b) / (len(a) + len(b)) if a and b else 0.0


def _said(row: Row, role: str) -> str:
    return "\n".join(m["content"] for m in row["messages"] if m["role"] == role)


def _numbers(text: str) -> set[str]:
    return set(NUMBER.findall(text))


def _conflict(one: Row, other: Row, threshold: float) -> bool:
    answers = _said(one, "assistant"), _said(other, "assistant")
    return _rouge(*answers) < threshold or _numbers(answers[0]) != _numbers(answers[1])


def _refuse_twins(rows: Sequence[Row]) -> None:
    for row_id, number in Counter(row["id"] for row in rows).items():
        if number > 1:
            raise ValueError(f"the id {row_id!r} is there {number} times")


def _near(
    rows: Sequence[Row],
    threshold: float = 0.7,
    *,
    key: Callable[[Row], Any] | None = lambda row: row["id"],
    group: Callable[[Row], object] = lambda row: row["policy_id"],
    score: Callable[[str, str], float] = _rouge,
    conflict: Callable[[Row, Row, float], bool] = _conflict,
    strict: bool = False,
    refuse: bool = True,
    first: bool = False,
) -> dict[str, Any]:
    """`near_duplicates` with one decision at a time exchangeable."""
    if refuse:
        _refuse_twins(rows)
    kept: list[Row] = []
    dropped = []
    for row in sorted(rows, key=key) if key else rows:
        best, like = -1.0, None
        for other in kept:
            if group(other) == group(row):
                found = score(_said(row, "user"), _said(other, "user"))
                if found > best and not (first and best >= threshold):
                    best, like = found, other
        if like is None or best < threshold or (strict and best <= threshold):
            kept.append(row)
        else:
            entry = {"id": row["id"], "like": like["id"], "score": best}
            dropped.append(entry | {"conflict": conflict(row, like, threshold)})
    return {"kept": [row["id"] for row in kept], "dropped": dropped}


@fault(
    "near.every_copy_deleted",
    exercise="near_duplicates",
    title="Every copy is deleted, the first one too",
    symptom="Questions that were asked twice are gone from the data.",
    first_check="Three equal rows and another one: two must stay.",
    consequence="What customers ask most is what the model has never seen.",
    citation="Group numbers that never equal a member's: https://github.com/ChenghaoMou/text-dedup/issues/129",
)
def _(rows: list[Row], threshold: float = 0.7) -> dict[str, Any]:
    found = _near(rows, threshold)
    copied = {entry["like"] for entry in found["dropped"]}
    return {"kept": [i for i in found["kept"] if i not in copied], "dropped": found["dropped"]}


@fault(
    "near.file_order",
    exercise="near_duplicates",
    title="The order of the file decides which row stays",
    symptom="Two people with the same rows get different training sets.",
    first_check="Reverse the list and compare.",
    consequence="The training set, and with it the model, cannot be made again.",
    citation="https://github.com/ChenghaoMou/text-dedup/issues/106",
)
def _(rows: list[Row], threshold: float = 0.7) -> dict[str, Any]:
    return _near(rows, threshold, key=None)


@fault(
    "near.chains_joined",
    exercise="near_duplicates",
    title="Chains of similar rows become one group",
    symptom="Rows vanish that are like no row that is left.",
    first_check="A is like B and B like C, but A is not like C: A and C must stay.",
    consequence="A whole topic can shrink to one row.",
    citation="859,092 rows became 2: https://github.com/marin-community/marin/issues/6854",
)
def _(rows: list[Row], threshold: float = 0.7) -> dict[str, Any]:
    _refuse_twins(rows)
    ordered = sorted(rows, key=lambda row: row["id"])
    group = {row["id"]: row["id"] for row in ordered}
    for one, other in combinations(ordered, 2):
        comparable = one["policy_id"] == other["policy_id"]
        if comparable and _rouge(_said(one, "user"), _said(other, "user")) >= threshold:
            first, second = sorted((group[one["id"]], group[other["id"]]))
            group = {name: first if now == second else now for name, now in group.items()}
    by_id = {row["id"]: row for row in ordered}
    dropped = []
    for name, like in group.items():
        if name != like:
            row, kept = by_id[name], by_id[like]
            entry = {"id": name, "like": like, "score": _rouge(_said(row, "user"), _said(kept, "user"))}
            dropped.append(entry | {"conflict": _conflict(row, kept, threshold)})
    return {"kept": [name for name, like in group.items() if name == like], "dropped": dropped}


@fault(
    "near.answers_not_compared",
    exercise="near_duplicates",
    title="Only questions are compared: conflicts are never flagged",
    symptom="Of two contradicting answers one vanishes without a trace.",
    first_check="The same question with 48 hours and with 30 hours.",
    consequence="Which of the two answers the model learns is decided by an id.",
    citation="Seen here: GPTeacher's Toolformer file repeats 20 prompts, 18 of them with different answers "
    "(https://github.com/teknium1/GPTeacher).",
)
def _(rows: list[Row], threshold: float = 0.7) -> dict[str, Any]:
    return _near(rows, threshold, conflict=lambda one, other, least: False)


@fault(
    "near.numbers_look_alike",
    exercise="near_duplicates",
    title="Answers that differ in a number only count as the same",
    symptom="48 hours and 30 hours are no conflict, because eight of nine words agree.",
    first_check="Compare two answers that differ in one number.",
    consequence="The contradiction that matters most is the one that stays hidden.",
    citation="Seen here: ROUGE-L of the two answers is 0.89; of 51 conflicts among the candidates 32 are found.",
)
def _(rows: list[Row], threshold: float = 0.7) -> dict[str, Any]:
    def by_words(one: Row, other: Row, least: float) -> bool:
        return _rouge(_said(one, "assistant"), _said(other, "assistant")) < least

    return _near(rows, threshold, conflict=by_words)


@fault(
    "near.all_differences_conflict",
    exercise="near_duplicates",
    title="Every difference between answers is a conflict",
    symptom="A 'please' sends rows to a person.",
    first_check="Compare an answer with the same answer and 'Please' before it.",
    consequence="If everything is a conflict nobody reads them, and the real ones are trained on.",
    citation="Seen here: 99 of 119 near-duplicates among the candidates would be conflicts, instead of 51.",
)
def _(rows: list[Row], threshold: float = 0.7) -> dict[str, Any]:
    return _near(
        rows,
        threshold,
        conflict=lambda a, b, _: _words(_said(a, "assistant")) != _words(_said(b, "assistant")),
    )


@fault(
    "near.policies_mixed",
    exercise="near_duplicates",
    title="Rows of different policies are compared",
    symptom="One shop's rows remove the other shops' rows.",
    first_check="The same question under two clauses: both rows must stay.",
    consequence="The pairs that teach reading the clause are gone, and the model recites one answer.",
    citation="Seen here: 263 of the 640 candidates would be kept, instead of 521.",
)
def _(rows: list[Row], threshold: float = 0.7) -> dict[str, Any]:
    return _near(rows, threshold, group=lambda row: None)


@fault(
    "near.ascii_words",
    exercise="near_duplicates",
    title="Letters outside of a to z are thrown away",
    symptom="Copies in other languages all stay.",
    first_check="Compare a Russian question with itself: the score must be 1.",
    consequence="Rows in other languages are learned many times over, and others are called alike by accident.",
    citation="The default tokenizer of rouge_score: https://github.com/google/adk-python/issues/3111",
)
def _(rows: list[Row], threshold: float = 0.7) -> dict[str, Any]:
    ascii_words: Callable[[str], list[str]] = lambda text: re.findall(r"[a-z0-9]+", text.lower())  # noqa: E731
    return _near(rows, threshold, score=lambda one, other: _rouge(one, other, ascii_words))


@fault(
    "near.above_only",
    exercise="near_duplicates",
    title="A row exactly at the threshold stays",
    symptom="Another tool with the same threshold keeps other rows.",
    first_check="Two questions with a ROUGE-L of exactly 0.5 at a threshold of 0.5.",
    consequence="The manifest says one rule and the data follow another.",
    citation="Self-Instruct's paper adds a task below 0.7 (https://arxiv.org/abs/2212.10560); a filter that drops "
    "above 0.7 only is another rule.",
)
def _(rows: list[Row], threshold: float = 0.7) -> dict[str, Any]:
    return _near(rows, threshold, strict=True)


@fault(
    "near.natural_order",
    exercise="near_duplicates",
    title="Ids are sorted as numbers",
    symptom="r9 comes before r10, and other rows stay than the manifest's rule says.",
    first_check="Give the ids r9 and r10 to two copies.",
    consequence="Whoever follows the documented rule gets another data set.",
    citation="Order-dependent survivors: https://github.com/ChenghaoMou/text-dedup/issues/106",
)
def _(rows: list[Row], threshold: float = 0.7) -> dict[str, Any]:
    def natural(row: Row) -> tuple[int, str]:
        digits = re.findall(r"\d+", row["id"])
        return int(digits[-1]) if digits else 0, row["id"]

    return _near(rows, threshold, key=natural)


@fault(
    "near.first_match",
    exercise="near_duplicates",
    title="The first similar row is named, not the most similar one",
    symptom="Reasons name a row that hardly resembles the dropped one, and conflicts appear or vanish.",
    first_check="Drop a row that is like two kept rows, and more like the second.",
    consequence="Answers to different questions are compared: real conflicts are missed, and the wrong one is learned.",
    citation="Seen here: a loop that stops at the first match is the quickest way to write this function.",
)
def _(rows: list[Row], threshold: float = 0.7) -> dict[str, Any]:
    return _near(rows, threshold, first=True)


@fault(
    "near.same_id_twice",
    exercise="near_duplicates",
    title="Two rows may share an id",
    symptom="Reasons and verdicts of one row are shown for another.",
    first_check="Give two rows the same id.",
    consequence="A rejected row is trained on under the id of an accepted one.",
    citation="A sentinel that was taken for a document: https://github.com/huggingface/datatrove/issues/249",
)
def _(rows: list[Row], threshold: float = 0.7) -> dict[str, Any]:
    return _near(rows, threshold, refuse=False)


@alternative("near_duplicates", style="a plain LCS and the best kept row")
def _(rows: list[Row], threshold: float = 0.7) -> dict[str, Any]:
    return _near(rows, threshold)


def _lcs_by_bisection(one: Sequence[str], other: Sequence[str]) -> int:
    """Hunt and Szymanski (1977): the longest increasing run of matching positions."""
    where: dict[str, list[int]] = defaultdict(list)
    for position, word in enumerate(other):
        where[word].insert(0, position)
    ends: list[int] = []
    for word in one:
        for position in where.get(word, ()):
            at = bisect_left(ends, position)
            ends[at : at + 1] = [position]
    return len(ends)


@alternative("near_duplicates", style="Hunt and Szymanski's LCS, one policy at a time")
def _(rows: list[Row], threshold: float = 0.7) -> dict[str, Any]:
    _refuse_twins(rows)

    def score(one: str, other: str) -> float:
        a, b = _words(one), _words(other)
        return 2 * _lcs_by_bisection(a, b) / (len(a) + len(b)) if a and b else 0.0

    parts = [
        _near([row for row in rows if row["policy_id"] == name], threshold, score=score)
        for name in {row["policy_id"] for row in rows}
    ]
    kept = sorted(row_id for part in parts for row_id in part["kept"])
    dropped = sorted((e for part in parts for e in part["dropped"]), key=lambda entry: str(entry["id"]))
    return {"kept": kept, "dropped": dropped}


@alternative("near_duplicates", style="all similarities first, then one pass over the ids")
def _(rows: list[Row], threshold: float = 0.7) -> dict[str, Any]:
    _refuse_twins(rows)
    ordered = sorted(rows, key=lambda row: row["id"])
    near: dict[str, dict[str, float]] = {row["id"]: {} for row in ordered}
    for one, other in combinations(ordered, 2):
        if one["policy_id"] == other["policy_id"]:
            score = _rouge(_said(one, "user"), _said(other, "user"))
            if score >= threshold:
                near[other["id"]][one["id"]] = score
    by_id = {row["id"]: row for row in ordered}
    kept: list[str] = []
    dropped = []
    for row_id, others in near.items():
        rivals = {name: score for name, score in others.items() if name in kept}
        if not rivals:
            kept.append(row_id)
            continue
        like = max(rivals, key=lambda name: rivals[name])
        conflict = _conflict(by_id[row_id], by_id[like], threshold)
        dropped.append({"id": row_id, "like": like, "score": rivals[like], "conflict": conflict})
    return {"kept": kept, "dropped": dropped}


# ---------------------------------------------------------------- row_risks

UNWANTED = (
    "your password",
    "card number",
    "security code",
    "already told you",
    "not my problem",
    "as an ai language model",
    "{{",
)
EMAIL = r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"
PHONE = r"(?<![\w.])(?:\+1 )?(?:\(\d{3}\) |\d{3}[ -])\d{3}[ -]\d{4}(?!\d)"
CARD = r"(?<![\w.])\d(?:[ -]?\d){12,18}(?!\d)"


def _check_digit(text: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed([int(c) for c in text if c.isdigit()])):
        total += sum(divmod(2 * digit, 10)) if place % 2 else digit
    return total % 10 == 0


def _personal(text: str) -> list[str]:
    found = [(m.start(), m[0]) for pattern in (EMAIL, PHONE) for m in re.finditer(pattern, text)]
    found += [(m.start(), m[0]) for m in re.finditer(CARD, text) if _check_digit(m[0])]
    return [text for _, text in sorted(found)]


def _risks(
    row: Row,
    policies: Policies,
    max_tokens: int = 512,
    *,
    version: bool = True,
    clause: bool = True,
    fold: Callable[[str], str] = str.casefold,
    imitated: tuple[str, ...] = ("assistant",),
    private: tuple[str, ...] = ("system", "user", "assistant"),
    personal: Callable[[str], list[str]] = _personal,
    partial_answers: bool = True,
    trusted: tuple[str, ...] = ("reviewed",),
) -> list[dict[str, Any]]:
    """`row_risks` with one decision at a time exchangeable."""
    policy, messages = policies[row["policy_id"]], row["messages"]
    found: list[tuple[str, int | None, str]] = []
    old = version and row["policy_version"] != policy["version"]
    if old or (clause and policy["clause"] not in _said(row, "system")):
        found.append(("stale_evidence", None, ""))
    for i, message in enumerate(messages):
        if message["role"] in imitated:
            found += [("unwanted_reply", i, entry) for entry in UNWANTED if entry in fold(message["content"])]
    for i, message in enumerate(messages):
        if message["role"] in private:
            found += [("personal_data", i, text) for text in personal(message["content"])]
    if row["tokens"] > max_tokens:
        found.append(("over_length", None, ""))
    answers = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    if partial_answers:
        for i, asked in zip(answers, row.get("asks", []), strict=False):
            if any(fact["name"] not in asked for fact in policy["required"]):
                found.append(("partial_answer", i, ""))
    if policy["risk"] == "high" and row["source"] not in trusted:
        found.append(("high_risk", None, ""))
    return [{"risk": risk, "message": i, "text": text} for risk, i, text in found]


@fault(
    "risks.version_only",
    exercise="row_risks",
    title="The version number is believed, the evidence is not read",
    symptom="Rows that show an old clause, or none, pass with a new version number.",
    first_check="Take the clause out of the system message.",
    consequence="The model learns to answer from memory, without evidence.",
    citation="Seen here: 7 out-of-date candidates carry the new version's number.",
)
def _(row: Row, policies: Policies, max_tokens: int = 512) -> list[dict[str, Any]]:
    return _risks(row, policies, max_tokens, clause=False)


@fault(
    "risks.version_ignored",
    exercise="row_risks",
    title="The version is not compared",
    symptom="Rows of superseded versions pass.",
    first_check="Set policy_version to an earlier one.",
    consequence="The model answers by last year's rules where their words happen to look current.",
    citation="Retired documents leaked into retrieval: https://github.com/PromptOwl/ContextNest/pull/25",
)
def _(row: Row, policies: Policies, max_tokens: int = 512) -> list[dict[str, Any]]:
    return _risks(row, policies, max_tokens, version=False)


@fault(
    "risks.case_matters",
    exercise="row_risks",
    title="'Your Password' is not 'your password'",
    symptom="Unwanted replies pass when a word starts with a capital.",
    first_check="Write the phrase with a capital.",
    consequence="The model learns to ask customers for secrets.",
    citation="Filters ignore case and punctuation for this reason: https://github.com/EleutherAI/lm-evaluation-harness/pull/145",
)
def _(row: Row, policies: Policies, max_tokens: int = 512) -> list[dict[str, Any]]:
    return _risks(row, policies, max_tokens, fold=str)


@fault(
    "risks.customers_are_judged",
    exercise="row_risks",
    title="What the customer says counts as an unwanted reply",
    symptom="Questions about passwords are gone from the data.",
    first_check="Let the customer ask about 'your password page'.",
    consequence="The model has never seen the question that it should answer best.",
    citation="'As an AI' is not always a refusal: seen here, 21 of 999 rows of LLaMA-Factory's alpaca_en_demo.json "
    "hold it, some of them rightly.",
)
def _(row: Row, policies: Policies, max_tokens: int = 512) -> list[dict[str, Any]]:
    return _risks(row, policies, max_tokens, imitated=("user", "assistant"))


@fault(
    "risks.answers_only",
    exercise="row_risks",
    title="Personal data is looked for in answers only",
    symptom="Customers' addresses stay in the training text.",
    first_check="Put an address into the customer's turn.",
    consequence="The model has read the address, and can repeat it to a stranger.",
    citation="One role was never redacted: https://github.com/grafana/agento11y/pull/47",
)
def _(row: Row, policies: Policies, max_tokens: int = 512) -> list[dict[str, Any]]:
    return _risks(row, policies, max_tokens, private=("assistant",))


@fault(
    "risks.any_digits",
    exercise="row_risks",
    title="Every long run of digits is a card",
    symptom="Rows with order and customer numbers are refused.",
    first_check="Judge a row with a 16-digit customer number.",
    consequence="Rows about orders are lost; a filter that cries wolf is turned off.",
    citation="https://github.com/solvvy/redact-pii/issues/39",
)
def _(row: Row, policies: Policies, max_tokens: int = 512) -> list[dict[str, Any]]:
    careless = re.compile(rf"{EMAIL}|{PHONE}|{CARD}")
    return _risks(row, policies, max_tokens, personal=lambda text: [m[0] for m in careless.finditer(text)])


@fault(
    "risks.exact_fit_refused",
    exercise="row_risks",
    title="A row that fits exactly counts as too long",
    symptom="Rows of exactly the limit are missing.",
    first_check="Judge a row of 512 tokens at a limit of 512.",
    consequence="Rows are lost without reason, and two tools disagree about the same limit.",
    citation="https://github.com/huggingface/trl/pull/6003",
)
def _(row: Row, policies: Policies, max_tokens: int = 512) -> list[dict[str, Any]]:
    return _risks(row, policies, max_tokens - 1)


@fault(
    "risks.partial_ignored",
    exercise="row_risks",
    title="Follow-up answers with one fact of two pass",
    symptom="Grounded rows, and a model that stops after the first fact.",
    first_check="Judge a row whose second turn asks for one fact.",
    consequence="A row that states one fact of two teaches the model to stop early.",
    citation="Seen here: SmolLM2-135M on 112 held-out questions, grounded rate 0.57 with such rows, 0.85 without.",
)
def _(row: Row, policies: Policies, max_tokens: int = 512) -> list[dict[str, Any]]:
    return _risks(row, policies, max_tokens, partial_answers=False)


@fault(
    "risks.review_forgotten",
    exercise="row_risks",
    title="Reviewed rows are sent to review again",
    symptom="No row about refunds or spoiled food is ever accepted.",
    first_check="Judge a reviewed row of a high-risk policy.",
    consequence="The topics where errors cost most have no rows, and the model invents.",
    citation="Seen here: three high-risk intents are left without a single accepted row.",
)
def _(row: Row, policies: Policies, max_tokens: int = 512) -> list[dict[str, Any]]:
    return _risks(row, policies, max_tokens, trusted=())


@alternative("row_risks", style="tuples in one pass per risk, own patterns")
def _(row: Row, policies: Policies, max_tokens: int = 512) -> list[dict[str, Any]]:
    return _risks(row, policies, max_tokens)


RANK = ("stale_evidence", "unwanted_reply", "personal_data", "over_length", "partial_answer", "high_risk")


@alternative("row_risks", style="everything in one pass, sorted at the end")
def _(row: Row, policies: Policies, max_tokens: int = 512) -> list[dict[str, Any]]:
    policy = policies[row["policy_id"]]
    found: list[tuple[int, int, int, str]] = []
    shown, turn = False, 0
    for i, message in enumerate(row["messages"]):
        shown = shown or (message["role"] == "system" and policy["clause"] in message["content"])
        found += [(2, i, n, text) for n, text in enumerate(_personal(message["content"]))]
        if message["role"] == "assistant":
            lower = message["content"].lower()
            found += [(1, i, n, entry) for n, entry in enumerate(UNWANTED) if entry in lower]
            asks = row.get("asks", [])
            if turn < len(asks) and not {f["name"] for f in policy["required"]} <= set(asks[turn]):
                found.append((4, i, 0, ""))
            turn += 1
    found += [(0, -1, 0, "")] if not shown or row["policy_version"] != policy["version"] else []
    found += [(3, -1, 0, "")] if row["tokens"] > max_tokens else []
    found += [(5, -1, 0, "")] if (policy["risk"], row["source"] == "reviewed") == ("high", False) else []
    return [
        {"risk": RANK[rank], "message": i if i >= 0 else None, "text": text}
        for rank, i, _, text in sorted(found)
    ]


@alternative("row_risks", style="a table of rules")
def _(row: Row, policies: Policies, max_tokens: int = 512) -> list[dict[str, Any]]:
    policy = policies[row["policy_id"]]
    at = [i for i, message in enumerate(row["messages"]) if message["role"] == "assistant"]
    contents = [message["content"] for message in row["messages"]]
    facts = {fact["name"] for fact in policy["required"]}
    stale = row["policy_version"] != policy["version"] or not any(
        policy["clause"] in m["content"] for m in row["messages"] if m["role"] == "system"
    )
    hits: dict[str, list[tuple[int | None, str]]] = {
        "stale_evidence": [(None, "")] * stale,
        "unwanted_reply": [(i, e) for i in at for e in UNWANTED if e in contents[i].casefold()],
        "personal_data": [(i, found) for i, text in enumerate(contents) for found in _personal(text)],
        "over_length": [(None, "")] * (row["tokens"] > max_tokens),
        "partial_answer": [
            (i, "") for i, asked in zip(at, row.get("asks", []), strict=False) if facts - set(asked)
        ],
        "high_risk": [(None, "")] * (policy["risk"] == "high" and row["source"] != "reviewed"),
    }
    return [{"risk": risk, "message": i, "text": text} for risk in RANK for i, text in hits[risk]]


# ---------------------------------------------------------------- accept

REJECT = {"stale_evidence", "unwanted_reply", "personal_data", "over_length"}


def _verdicts(
    rows: Sequence[Row],
    policies: Policies,
    max_tokens: int = 512,
    threshold: float = 0.7,
    *,
    refuse: bool = True,
    unknown: str = "reject",
    review_wins: bool = False,
    keep_conflicts: bool = True,
    copies_first: bool = False,
) -> dict[str, Any]:
    """`accept` with one decision at a time exchangeable."""
    if refuse:
        _refuse_twins(rows)
    reasons: dict[str, list[str]] = {}
    bad: set[str] = set()
    for row in rows:
        if row["policy_id"] not in policies and unknown != "fail":
            if unknown == "reject":
                reasons[row["id"]] = [f"unknown_policy: {row['policy_id']}"]
                bad.add(row["id"])
            continue
        errors = [f"{e['kind']}: {e['name']}" for e in _grounding(row, policies)]
        risks = [entry["risk"] for entry in _risks(row, policies, max_tokens)]
        reasons[row["id"]] = list(dict.fromkeys(errors + risks))
        for_review = review_wins and "high_risk" in risks
        if (errors or REJECT.intersection(risks)) and not for_review:
            bad.add(row["id"])
    left = [r for r in rows if r["id"] in reasons and (copies_first or r["id"] not in bad)]
    for entry in _near(left, threshold, refuse=False)["dropped"]:
        conflict = entry["conflict"] and keep_conflicts
        reasons[entry["id"]].append(f"{'conflict' if conflict else 'near_duplicate'}: {entry['like']}")
        if not conflict:
            bad.add(entry["id"])
    found: dict[str, Any] = {"accepted": [], "rejected": [], "review": []}
    for row_id in sorted(reasons):
        if not reasons[row_id]:
            found["accepted"].append(row_id)
        else:
            end = "rejected" if row_id in bad else "review"
            found[end].append({"id": row_id, "reasons": reasons[row_id]})
    return found


@fault(
    "accept.copies_first",
    exercise="accept",
    title="Near-duplicates are removed before anything is judged",
    symptom="Right rows are missing whose wrong copy has a smaller id.",
    first_check="Give the wrong copy of a pair the smaller id.",
    consequence="The right answer is removed as a copy of the wrong one, which is then rejected: both are gone.",
    citation="Seen here: 16 right candidates are lost.",
)
def _(rows: list[Row], policies: Policies, max_tokens: int = 512, threshold: float = 0.7) -> dict[str, Any]:
    return _verdicts(rows, policies, max_tokens, threshold, copies_first=True)


@fault(
    "accept.review_wins",
    exercise="accept",
    title="A row that is wrong anyway goes to review if its risk is high",
    symptom="People read rows that no person could save.",
    first_check="Judge a high-risk row without its facts.",
    consequence="Reviewers are worn out by clear cases, and wave the doubtful ones through.",
    citation="Seen here: 25 of the candidates that are rejected are of high risk as well.",
)
def _(rows: list[Row], policies: Policies, max_tokens: int = 512, threshold: float = 0.7) -> dict[str, Any]:
    return _verdicts(rows, policies, max_tokens, threshold, review_wins=True)


@fault(
    "accept.conflicts_dropped",
    exercise="accept",
    title="Conflicting answers are dropped like copies",
    symptom="No conflict ever reaches a person.",
    first_check="Two right answers in different words to one question.",
    consequence="Which answer is learned is decided by an id, and nobody knows that there was a choice.",
    citation="Seen here: GPTeacher's Toolformer file, 18 of 20 repeated prompts with different answers "
    "(https://github.com/teknium1/GPTeacher).",
)
def _(rows: list[Row], policies: Policies, max_tokens: int = 512, threshold: float = 0.7) -> dict[str, Any]:
    return _verdicts(rows, policies, max_tokens, threshold, keep_conflicts=False)


@fault(
    "accept.one_row_stops_all",
    exercise="accept",
    title="One row with an unknown policy stops the whole run",
    symptom="An error after hours, and no result for the other rows.",
    first_check="Misspell the policy of one row.",
    consequence="No data set at all, or one that somebody repaired by deleting rows in a hurry.",
    citation="One row with an extra field stops the loading of a file: https://github.com/huggingface/datasets/issues/6162",
)
def _(rows: list[Row], policies: Policies, max_tokens: int = 512, threshold: float = 0.7) -> dict[str, Any]:
    return _verdicts(rows, policies, max_tokens, threshold, unknown="fail")


@fault(
    "accept.rows_lost",
    exercise="accept",
    title="Rows with an unknown policy fall out silently",
    symptom="The three lists together hold fewer rows than went in.",
    first_check="Add up the three lists.",
    consequence="Nobody knows what is missing from the training set.",
    citation="A splitter that drops the odd last turn: https://github.com/lm-sys/FastChat/tree/main/fastchat/data",
)
def _(rows: list[Row], policies: Policies, max_tokens: int = 512, threshold: float = 0.7) -> dict[str, Any]:
    return _verdicts(rows, policies, max_tokens, threshold, unknown="skip")


@fault(
    "accept.limits_ignored",
    exercise="accept",
    title="The limits are not passed on",
    symptom="Another token limit or threshold changes nothing.",
    first_check="Call it with a limit of 100 tokens.",
    consequence="The data set is not what its manifest says.",
    citation="A setting that never reached its step, by way of a cache: https://github.com/allenai/open-instruct/pull/1497",
)
def _(rows: list[Row], policies: Policies, max_tokens: int = 512, threshold: float = 0.7) -> dict[str, Any]:
    return _verdicts(rows, policies)


@fault(
    "accept.same_id_twice",
    exercise="accept",
    title="Of two rows with one id the last one's reasons stand for both",
    symptom="A right row is rejected for errors that it does not have, or the other way round.",
    first_check="Give two rows the same id.",
    consequence="A wrong row is trained on under a right row's id.",
    citation="Ids that meant two documents: https://github.com/huggingface/datatrove/issues/249",
)
def _(rows: list[Row], policies: Policies, max_tokens: int = 512, threshold: float = 0.7) -> dict[str, Any]:
    return _verdicts(rows, policies, max_tokens, threshold, refuse=False)


@alternative("accept", style="reasons by id, all steps of its own")
def _(rows: list[Row], policies: Policies, max_tokens: int = 512, threshold: float = 0.7) -> dict[str, Any]:
    return _verdicts(rows, policies, max_tokens, threshold)


@alternative("accept", style="three passes over a list of records")
def _(rows: list[Row], policies: Policies, max_tokens: int = 512, threshold: float = 0.7) -> dict[str, Any]:
    _refuse_twins(rows)
    records: list[dict[str, Any]] = []
    for row in sorted(rows, key=lambda row: row["id"]):
        if row["policy_id"] in policies:
            why = [
                f"{e['kind']}: {e['name']}" for e in reference("grounding_errors")(row=row, policies=policies)
            ]
            risks = reference("row_risks")(row=row, policies=policies, max_tokens=max_tokens)
            end = "rejected" if why or any(r["risk"] in REJECT for r in risks) else ""
            why += [r["risk"] for r in risks]
        else:
            why, end = [f"unknown_policy: {row['policy_id']}"], "rejected"
        records.append({"row": row, "why": list(dict.fromkeys(why)), "end": end})
    alike = reference("near_duplicates")(
        rows=[r["row"] for r in records if not r["end"]], threshold=threshold
    )
    for entry in alike["dropped"]:
        record = next(r for r in records if r["row"]["id"] == entry["id"])
        name = "conflict" if entry["conflict"] else "near_duplicate"
        record["why"].append(f"{name}: {entry['like']}")
        record["end"] = "" if entry["conflict"] else "rejected"
    ends: dict[str, list[Any]] = {"accepted": [], "rejected": [], "review": []}
    for record in records:
        row_id, why = record["row"]["id"], record["why"]
        ends[record["end"] or ("review" if why else "accepted")].append(
            {"id": row_id, "reasons": why} if why else row_id
        )
    return ends


@alternative("accept", style="verdict of each row first, lists by comprehension")
def _(rows: list[Row], policies: Policies, max_tokens: int = 512, threshold: float = 0.7) -> dict[str, Any]:
    _refuse_twins(rows)

    def judged(row: Row) -> tuple[list[str], bool]:
        if row["policy_id"] not in policies:
            return [f"unknown_policy: {row['policy_id']}"], True
        errors = [f"{e['kind']}: {e['name']}" for e in _grounding(row, policies, find=_by_offset_map)]
        risks = [entry["risk"] for entry in _risks(row, policies, max_tokens)]
        return [*dict.fromkeys([*errors, *risks])], bool(errors) or not REJECT.isdisjoint(risks)

    first = {row["id"]: judged(row) for row in rows}
    pool = [row for row in rows if not first[row["id"]][1]]
    alike = {entry["id"]: entry for entry in _near(pool, threshold)["dropped"]}
    why, end = {}, {}
    for row_id in sorted(first):
        reasons, rejected = first[row_id]
        entry = alike.get(row_id)
        if entry:
            label = "conflict" if entry["conflict"] else "near_duplicate"
            reasons = [*reasons, f"{label}: {entry['like']}"]
            rejected = not entry["conflict"]
        why[row_id], end[row_id] = reasons, "rejected" if rejected else "review" if reasons else "accepted"
    return {
        "accepted": [i for i in why if end[i] == "accepted"],
        "rejected": [{"id": i, "reasons": why[i]} for i in why if end[i] == "rejected"],
        "review": [{"id": i, "reasons": why[i]} for i in why if end[i] == "review"],
    }
