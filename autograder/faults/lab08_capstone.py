"""Lab 08: mistakes of people who review, audit and search, and right answers in other styles."""

import re
from itertools import pairwise
from typing import Any

from autograder.faults.registry import alternative, fault, reference

Found = dict[str, Any]
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_VERDICTS = ("accept", "reject")

# review_project


def _says(text: str, wordings: list[str], pattern: str = r"(?<!\w){}(?!\w)") -> bool:
    return any(re.search(pattern.format(re.escape(one)), text, re.IGNORECASE) for one in wordings)


def _spans(text: str, wordings: list[str]) -> list[tuple[int, int]]:
    return [
        m.span() for w in wordings for m in re.finditer(rf"(?<!\w){re.escape(w)}(?!\w)", text, re.IGNORECASE)
    ]


def _claimed(text: str, claim: Found) -> bool:
    excused = _spans(text, claim.get("unless", []))
    return any(
        not any(start <= a and b <= stop for start, stop in excused)
        for a, b in _spans(text, claim["wordings"])
    )


def _verdict(policy: Found, found: list[Found], rows: list[Found]) -> Found:
    """Everything that follows from the clause and from what was found in the rows."""
    verdict = {row["id"]: row["verdict"] for row in rows}
    result = {
        "unstated": [f["name"] for f in policy["required"] if not _says(policy["clause"], f["wordings"])],
        "claimed": [c["name"] for c in policy["forbidden"] if _claimed(policy["clause"], c)],
        "rows": found,
        "disputed": [
            row["id"]
            for row in found
            if bool(row["missing"] or row["claims"] or row["numbers"]) == (verdict[row["id"]] == "accept")
        ],
        "untested": [
            c["name"]
            for c in policy["forbidden"]
            if not any(c["name"] in row["claims"] and verdict[row["id"]] == "reject" for row in found)
        ],
    }
    return _ready(result, rows)


def _ready(result: Found, rows: list[Found]) -> Found:
    lists = ("unstated", "claimed", "disputed", "untested")
    return {
        **result,
        "ready": not any(result[name] for name in lists) and any(r["verdict"] == "accept" for r in rows),
    }


def _found(policy: Found, row: Found) -> Found:
    known = set(_NUMBER.findall(policy["clause"])) | set(_NUMBER.findall(row["question"]))
    return {
        "id": row["id"],
        "missing": [f["name"] for f in policy["required"] if not _says(row["answer"], f["wordings"])],
        "claims": [c["name"] for c in policy["forbidden"] if _claimed(row["answer"], c)],
        "numbers": list(dict.fromkeys(n for n in _NUMBER.findall(row["answer"]) if n not in known)),
    }


def _check_verdicts(rows: list[Found]) -> None:
    for row in rows:
        if row["verdict"] not in _VERDICTS:
            raise ValueError(f"{row['id']} has no verdict")


@fault(
    "project.found_inside_words",
    exercise="review_project",
    title="A wording counts inside of a longer word or number",
    symptom="Answers with a deadline of 114 days pass a policy of 14 days.",
    first_check="Put a 1 in front of the deadline of an accepted row and review again.",
    consequence="The rows teach a deadline that is a hundred days too long, and the review is green.",
    citation="a '5' was found in '2015': https://github.com/monarch-initiative/dismech/pull/9368",
)
def _(policy: Found, rows: list[Found]) -> Found:
    _check_verdicts(rows)
    found = [_found(policy, row) for row in rows]
    for one, row in zip(found, rows, strict=True):
        one["missing"] = [
            f["name"]
            for f in policy["required"]
            if not any(w.lower() in row["answer"].lower() for w in f["wordings"])
        ]
    return _verdict(policy, found, rows)


@fault(
    "project.denial_is_a_claim",
    exercise="review_project",
    title="A denied claim counts as made",
    symptom="Rows that say there is no instant refund are disputed.",
    first_check="Read the disputed rows: do they make the claim, or deny it?",
    consequence="The rows that would teach the model to deny the claim are thrown away.",
    citation="seen here: four right candidates of lab 03 such as 'There is no automatic refund' were rejected",
)
def _(policy: Found, rows: list[Found]) -> Found:
    plain = [{**claim, "unless": []} for claim in policy["forbidden"]]
    return reference("review_project")({**policy, "forbidden": plain}, rows)


@fault(
    "project.denial_excuses_everything",
    exercise="review_project",
    title="One denial excuses the whole answer",
    symptom="'There is no instant refund, you get a refund at once' passes.",
    first_check="Review an answer that denies a claim and makes it in other words.",
    consequence="An invented refund is taught as long as the sentence before it denies one.",
    citation="the reach of a negation is a few words, as in NegEx (Chapman et al., 2001), "
    "https://doi.org/10.1006/jbin.2001.1029",
)
def _(policy: Found, rows: list[Found]) -> Found:
    _check_verdicts(rows)
    found = [_found(policy, row) for row in rows]
    for one, row in zip(found, rows, strict=True):
        one["claims"] = [
            c["name"]
            for c in policy["forbidden"]
            if _says(row["answer"], c["wordings"]) and not _says(row["answer"], c.get("unless", []))
        ]
    return _verdict(policy, found, rows)


@fault(
    "project.denial_only_in_its_own_case",
    exercise="review_project",
    title="A denial counts only in the case it is listed in",
    symptom="'No instant refund' at the beginning of a sentence is disputed, 'no instant refund' is not.",
    first_check="Write the denial in a row's answer with a capital and review again.",
    consequence="Rows whose sentence begins with the denial are thrown away, and it is seldom taught.",
    citation="seen here: a first version that took the phrases out with str.replace passed ten public cases",
)
def _(policy: Found, rows: list[Found]) -> Found:
    def claims(text: str) -> list[str]:
        made = []
        for claim in policy["forbidden"]:
            rest = text
            for phrase in claim.get("unless", []):
                rest = rest.replace(phrase, " ")
            if _says(rest, claim["wordings"]):
                made.append(claim["name"])
        return made

    _check_verdicts(rows)
    found = [{**_found(policy, row), "claims": claims(row["answer"])} for row in rows]
    return _ready({**_verdict(policy, found, rows), "claimed": claims(policy["clause"])}, rows)


@fault(
    "project.any_question_knows_a_number",
    exercise="review_project",
    title="A number of any question counts as known",
    symptom="An answer with another customer's order number is accepted.",
    first_check="Put the number of one row's question into another row's answer.",
    consequence="The row teaches an order number that stands nowhere in its prompt, so the model learns to invent.",
    citation="seen here: a version that collected the numbers of all rows once, before the loop, passed ten "
    "public cases",
)
def _(policy: Found, rows: list[Found]) -> Found:
    asked = " ".join(row["question"] for row in rows)
    return reference("review_project")(policy, [{**row, "question": asked} for row in rows])


@fault(
    "project.rejection_is_believed",
    exercise="review_project",
    title="A rejected row is believed without a reason",
    symptom="The review is green, and it has never seen the claim it was written for.",
    first_check="Put a right answer among the rejected rows and review again.",
    consequence="A check that is blind to the claim is trusted with the next thousand rows.",
    citation="a check that cannot fail proves nothing, as all([]) does: https://github.com/dagster-io/dagster/pull/8763",
)
def _(policy: Found, rows: list[Found]) -> Found:
    result = reference("review_project")(policy, rows)
    rejected = {row["id"] for row in rows if row["verdict"] == "reject"}
    result = {**result, "disputed": [one for one in result["disputed"] if one not in rejected]}
    return _ready(result, rows)


@fault(
    "project.customers_number_is_invented",
    exercise="review_project",
    title="A number that the customer gave counts as invented",
    symptom="Every answer that repeats an order number is disputed.",
    first_check="Look at the numbers found: do they stand in the question?",
    consequence="No row teaches the model to name the order it speaks of.",
    citation="a rule of the evidence alone, as citation checkers use it: "
    "https://github.com/ucbepic/DataAgentBench/pull/82",
)
def _(policy: Found, rows: list[Found]) -> Found:
    return reference("review_project")(policy, [{**row, "question": ""} for row in rows])


@fault(
    "project.clause_is_believed",
    exercise="review_project",
    title="The clause itself is not reviewed",
    symptom="All rows agree with the list of facts, and the list asks for a document that the clause never names.",
    first_check="Look for every required fact in the clause.",
    consequence="The rows demand a fact that stands nowhere in the prompt, so the model learns to invent.",
    citation="reference answers without support in their source, a known fault of generated rows: "
    "https://github.com/tatsu-lab/stanford_alpaca/issues/114",
)
def _(policy: Found, rows: list[Found]) -> Found:
    return _ready({**reference("review_project")(policy, rows), "unstated": [], "claimed": []}, rows)


@fault(
    "project.any_row_tests_a_claim",
    exercise="review_project",
    title="A claim counts as tested when any row makes it",
    symptom="The accepted row with the refund is at the same time the proof that refunds are found.",
    first_check="For each claim, name the rejected row that makes it.",
    consequence="A claim without a single counterexample goes into the release note as checked.",
    citation="seen here: the first draft of this lab's ready project forbade two claims and rejected one",
)
def _(policy: Found, rows: list[Found]) -> Found:
    result = reference("review_project")(policy, rows)
    made = {name for row in result["rows"] for name in row["claims"]}
    names = [claim["name"] for claim in policy["forbidden"] if claim["name"] not in made]
    return _ready({**result, "untested": names}, rows)


@alternative("review_project", style="places instead of removed phrases")
def _(policy: Found, rows: list[Found]) -> Found:
    _check_verdicts(rows)
    return _verdict(policy, [_found(policy, row) for row in rows], rows)


@alternative("review_project", style="one loop that fills a result")
def _(policy: Found, rows: list[Found]) -> Found:
    result: Found = {"unstated": [], "claimed": [], "rows": [], "disputed": [], "untested": []}
    proven, accepted = set(), False
    for fact in policy["required"]:
        if not _says(policy["clause"], fact["wordings"]):
            result["unstated"].append(fact["name"])
    for claim in policy["forbidden"]:
        if _claimed(policy["clause"], claim):
            result["claimed"].append(claim["name"])
    for row in rows:
        if row["verdict"] not in _VERDICTS:
            raise ValueError(f"row {row['id']}: accept or reject")
        one = _found(policy, row)
        result["rows"].append(one)
        bad = len(one["missing"]) + len(one["claims"]) + len(one["numbers"]) > 0
        if row["verdict"] == "reject":
            proven.update(one["claims"])
        else:
            accepted = True
        if bad is (row["verdict"] == "accept"):
            result["disputed"].append(row["id"])
    result["untested"] = [c["name"] for c in policy["forbidden"] if c["name"] not in proven]
    result["ready"] = accepted and all(not value for name, value in result.items() if name != "rows")
    return result


@alternative("review_project", style="sets of characters")
def _(policy: Found, rows: list[Found]) -> Found:
    def claims(text: str) -> list[str]:
        def places(wordings: list[str]) -> list[set[int]]:
            return [set(range(*span)) for span in _spans(text, wordings)]

        return [
            claim["name"]
            for claim in policy["forbidden"]
            if any(
                not any(one <= phrase for phrase in places(claim.get("unless") or []))
                for one in places(claim["wordings"])
            )
        ]

    _check_verdicts(rows)
    found = [{**_found(policy, row), "claims": claims(row["answer"])} for row in rows]
    return _ready({**_verdict(policy, found, rows), "claimed": claims(policy["clause"])}, rows)


# window_audit

_COUNTS = (
    "documents", "cut", "mixed", "learned", "moved", "elsewhere", "words", "words_untaught", "ends",
    "ends_untaught",
)  # fmt: skip


def _same_sizes(window: Found) -> None:
    if len({len(window[name]) for name in ("input_ids", "labels", "position_ids")}) > 1:
        raise ValueError("input_ids, labels and position_ids have several lengths")


def _slices(window: Found) -> list[tuple[list[int], list[int]]]:
    ids, labels, positions = window["input_ids"], window["labels"], window["position_ids"]
    starts = [at for at, position in enumerate(positions) if position == 0 or at == 0]
    return [(ids[a:b], labels[a:b]) for a, b in pairwise([*starts, len(ids)])]


def _answer_places(ids: list[int], marks: Found, skip: int = 0) -> list[int]:
    """Positions of answers, their ends included; `skip` moves where an answer begins."""
    header, found, at = marks["answer_start"], [], 0
    while at < len(ids):
        if ids[at : at + len(header)] == header:
            at += len(header) + skip
            while at < len(ids):
                found.append(at)
                at += 1
                if ids[at - 1] == marks["turn_end"]:
                    break
        else:
            at += 1
    return found


def _counted(
    window: Found, marks: Found, *, skip: int = 0, first: bool = False, falsy: bool = False
) -> Found:
    _same_sizes(window)
    found = dict.fromkeys(_COUNTS, 0)
    for ids, labels in _slices(window):
        places = _answer_places(ids, marks, skip)
        if first:
            stop = next((n for n, at in enumerate(places) if ids[at] == marks["turn_end"]), len(places))
            places = places[: stop + 1]
        taught = [label > 0 if falsy else label != -100 for label in labels]
        chat = marks["chat_start"]
        begins = [at for at in range(len(ids)) if ids[at : at + len(chat)] == chat]
        ends = [at for at in places if ids[at] == marks["turn_end"]]
        words = [at for at in places if ids[at] != marks["turn_end"]]
        one = {
            "documents": 1,
            "cut": 0 not in begins or ids.count(marks["turn_start"]) != ids.count(marks["turn_end"]),
            "mixed": sum(at > 0 for at in begins),
            "learned": sum(taught),
            "moved": sum(t and a != b for t, a, b in zip(taught, ids, labels, strict=True)),
            "elsewhere": sum(taught) - sum(taught[at] for at in places),
            "words": len(words),
            "words_untaught": sum(not taught[at] for at in words),
            "ends": len(ends),
            "ends_untaught": sum(not taught[at] for at in ends),
        }
        found = {name: found[name] + int(one[name]) for name in _COUNTS}
    return found


@fault(
    "window.one_document",
    exercise="window_audit",
    title="A window is taken for one document",
    symptom="Every well packed window is reported as mixed.",
    first_check="Read the position ids: at how many places are they 0?",
    consequence="Sound windows raise an alarm, the alarm is switched off, and the next leak goes through.",
    citation="boundaries are read from position ids or not at all: https://github.com/huggingface/transformers/pull/46634",
)
def _(window: Found, marks: Found) -> Found:
    _same_sizes(window)
    positions = list(range(len(window["input_ids"])))
    return reference("window_audit")({**window, "position_ids": positions}, marks)


@fault(
    "window.end_is_outside",
    exercise="window_audit",
    title="The end of turn is counted outside of the answer",
    symptom="A run whose end of turn has no label passes the audit, and its model talks on.",
    first_check="Audit a window without labels on its ends: is any count different?",
    consequence="The model never learns to stop, and the audit that should say so counts the ends elsewhere.",
    citation="https://github.com/axolotl-ai-cloud/axolotl/pull/3756 , https://github.com/huggingface/trl/pull/5988",
    experiment="eot_masked",
)
def _(window: Found, marks: Found) -> Found:
    found = reference("window_audit")(window, marks)
    taught = found["ends"] - found["ends_untaught"]
    return {**found, "ends": 0, "ends_untaught": 0, "elsewhere": found["elsewhere"] + taught}


@fault(
    "window.first_answer_only",
    exercise="window_audit",
    title="Only the first answer of a thread is audited",
    symptom="Follow-up answers are counted as labels in the wrong place.",
    first_check="Audit a thread of two answers: are there two ends?",
    consequence="In threads every answer but the first could lose its labels without a word.",
    citation="https://github.com/huggingface/trl/pull/1185 , https://github.com/huggingface/trl/issues/588",
)
def _(window: Found, marks: Found) -> Found:
    return _counted(window, marks, first=True)


@fault(
    "window.header_in_the_answer",
    exercise="window_audit",
    title="The answer begins one token early, in its header",
    symptom="Every right answer is reported with one word that is not taught.",
    first_check="Decode the first audited token of an answer: is it the line break of the header?",
    consequence="The labels get repaired until the model is trained to write the header's line break itself.",
    citation="TRL's Qwen2.5 training template learns that line break; header handling: "
    "https://github.com/OpenRLHF/OpenRLHF/issues/973",
    experiment="one_early",
)
def _(window: Found, marks: Found) -> Found:
    return _counted(window, marks, skip=-1)


@fault(
    "window.shift_expected",
    exercise="window_audit",
    title="Labels are compared with the next token",
    symptom="Sound labels are reported as moved, and labels that were shifted twice are called sound.",
    first_check="Write ids and labels of five tokens below each other: equal in one column, or across two?",
    consequence="The run that learns the token after next passes, and the sound one gets shifted.",
    citation="https://github.com/allenai/open-instruct/pull/1549 , https://github.com/huggingface/transformers/pull/44642",
    experiment="shifted_twice",
)
def _(window: Found, marks: Found) -> Found:
    found = reference("window_audit")(window, marks)
    moved = 0
    for ids, labels in _slices(window):
        following = [*ids[1:], None]
        moved += sum(a != -100 and a != b for a, b in zip(labels, following, strict=True))
    return {**found, "moved": moved}


@fault(
    "window.token_zero_ignored",
    exercise="window_audit",
    title="Token 0 counts as not learned",
    symptom="A word with the id 0 is reported without a label.",
    first_check="Audit an answer that holds token 0.",
    consequence="Rows are called broken because of one id, and somebody masks the token for good.",
    citation="truth value of an id that is 0: https://github.com/hiyouga/LlamaFactory/commit/08dfac835",
)
def _(window: Found, marks: Found) -> Found:
    return _counted(window, marks, falsy=True)


@fault(
    "window.only_a_lost_start_is_cut",
    exercise="window_audit",
    title="Only a lost beginning counts as cut",
    symptom="Rows whose end was cut off pass, and the model breaks off in the middle of a sentence.",
    first_check="Count turn starts and turn ends of each document.",
    consequence="Long rows lose their end of turn first, so long answers are taught without a stop.",
    citation="https://github.com/huggingface/trl/issues/3927 , https://github.com/huggingface/trl/pull/4698",
)
def _(window: Found, marks: Found) -> Found:
    chat = marks["chat_start"]
    _same_sizes(window)
    lost = sum(ids[: len(chat)] != chat for ids, _ in _slices(window) if ids)
    return {**reference("window_audit")(window, marks), "cut": lost}


@fault(
    "window.only_uneven_turns_are_cut",
    exercise="window_audit",
    title="Only a document with uneven turns counts as cut",
    symptom="Rows that lost their whole evidence, and nothing else, pass the audit.",
    first_check="Cut a row between its system turn and its user turn, and audit it.",
    consequence="Answers are learned without the clause they rest on: the model learns to invent.",
    citation="seen here: a first version without the test for `chat_start` passed eleven public cases",
    experiment="evidence_truncated",
)
def _(window: Found, marks: Found) -> Found:
    _same_sizes(window)
    start, end = marks["turn_start"], marks["turn_end"]
    uneven = sum(ids.count(start) != ids.count(end) for ids, _ in _slices(window) if ids)
    return {**reference("window_audit")(window, marks), "cut": uneven}


@alternative("window_audit", style="sets of places")
def _(window: Found, marks: Found) -> Found:
    return _counted(window, marks)


@alternative("window_audit", style="the ids as text")
def _(window: Found, marks: Found) -> Found:
    _same_sizes(window)
    found = dict.fromkeys(_COUNTS, 0)

    def text(ids: list[int]) -> str:
        return "".join(chr(0x10000 + one) for one in ids)

    end = text([marks["turn_end"]])
    for ids, labels in _slices(window):
        whole, chat = text(ids), text(marks["chat_start"])
        found["documents"] += 1
        whole_turns = whole.count(text([marks["turn_start"]])) == whole.count(end)
        found["cut"] += not (whole.startswith(chat) and whole_turns)
        found["mixed"] += whole[1:].count(chat)
        answer = re.compile(f"{re.escape(text(marks['answer_start']))}([^{end}]*)({end}?)")
        inside: set[int] = set()
        for match in answer.finditer(whole):
            for group, kind in ((1, "words"), (2, "ends")):
                places = range(*match.span(group))
                inside.update(places)
                found[kind] += len(places)
                found[f"{kind}_untaught"] += sum(labels[at] == -100 for at in places)
        learned = [at for at, label in enumerate(labels) if label != -100]
        found["learned"] += len(learned)
        found["moved"] += sum(labels[at] != ids[at] for at in learned)
        found["elsewhere"] += len(set(learned) - inside)
    return {name: int(value) for name, value in found.items()}


@alternative("window_audit", style="one pass over the window with a state")
def _(window: Found, marks: Found) -> Found:
    _same_sizes(window)
    found = dict.fromkeys(_COUNTS, 0)
    rows = zip(window["input_ids"], window["labels"], window["position_ids"], strict=True)
    document: list[int] = []
    inside = False

    def close() -> None:
        if document:
            chat = marks["chat_start"]
            whole = document[: len(chat)] == chat
            even = document.count(marks["turn_start"]) == document.count(marks["turn_end"])
            found["documents"] += 1
            found["cut"] += 0 if whole and even else 1

    for token, label, position in rows:
        if position == 0:
            close()
            document, inside = [], False
        document.append(token)
        kind = "ends" if token == marks["turn_end"] else "words"
        if inside:
            found[kind] += 1
            found[f"{kind}_untaught"] += 1 if label == -100 else 0
        elif label != -100:
            found["elsewhere"] += 1
        found["learned"] += 1 if label != -100 else 0
        found["moved"] += 1 if label not in (-100, token) else 0
        size = len(marks["chat_start"])
        found["mixed"] += 1 if len(document) > size and document[-size:] == marks["chat_start"] else 0
        if kind == "ends":
            inside = False
        elif document[-len(marks["answer_start"]) :] == marks["answer_start"]:
            inside = True
    close()
    return found


# find_fault


def _unsupported(rows: list[Found], roles: tuple[str, ...] = ("system", "user")) -> int:
    count = 0
    for row in rows:
        known: set[str] = set()
        wrong = False
        for message in row["messages"]:
            numbers = set(_NUMBER.findall(message["content"]))
            if message["role"] == "assistant" and numbers - known:
                wrong = True
            if message["role"] in roles:
                known |= numbers
        count += wrong
    return count


def _checks(recording: Found) -> list[tuple[str, int, int, str]]:
    if not recording["windows"]:
        raise ValueError("There are no windows to audit.")
    audits = [_counted(window, recording["marks"]) for window in recording["windows"]]
    total = {name: sum(audit[name] for audit in audits) for name in _COUNTS}
    silent = sum(not audit["learned"] for audit in audits)
    return [
        ("unsupported_rows", _unsupported(recording["rows"]), len(recording["rows"]), "rows"),
        ("cut_documents", total["cut"], total["documents"], "length"),
        ("mixed_documents", total["mixed"], total["documents"] + total["mixed"], "packing"),
        ("nothing_learned", silent, len(audits), "labels"),
        ("labels_moved", total["moved"], total["learned"], "labels"),
        ("ends_untaught", total["ends_untaught"], total["ends"], "labels"),
        ("words_untaught", total["words_untaught"], total["words"], "labels"),
    ]


def _first(checks: list[tuple[str, int, int, str]], recording: Found) -> Found:
    for fault_name, count, of, redo in checks:
        if count:
            return {"fault": fault_name, "count": count, "of": of, "redo": redo}
    learned = sum(_counted(window, recording["marks"])["learned"] for window in recording["windows"])
    return {"fault": None, "count": 0, "of": learned, "redo": None}


@fault(
    "search.full_sequence_blamed",
    exercise="find_fault",
    title="Labels outside of the answers are called a fault",
    symptom="A full-sequence run is stopped and its labels are made again.",
    first_check="Ask whether the run was meant to learn the whole sequence.",
    consequence="Two runs are compared that differ in the objective as well, so the repair explains nothing.",
    citation="full-sequence loss is a choice: Shi et al. (2024), https://arxiv.org/abs/2405.14394",
    experiment="full_sequence",
)
def _(recording: Found) -> Found:
    checks = _checks(recording)
    outside = sum(_counted(window, recording["marks"])["elsewhere"] for window in recording["windows"])
    return _first([*checks, ("words_untaught", outside, checks[4][2], "labels")], recording)


@fault(
    "search.symptom_first",
    exercise="find_fault",
    title="Labels are searched before what they were made from",
    symptom="Labels are made again, the loss stays where it was, and the rows were cut all along.",
    first_check="Follow one row from its file to the window: where does it change for the first time?",
    consequence="The last stage is repaired over and over, while the rows that it gets are broken.",
    citation="prompts that fill the window leave nothing to learn: https://github.com/huggingface/trl/pull/6025",
    experiment="evidence_truncated",
)
def _(recording: Found) -> Found:
    return _first(_checks(recording)[::-1], recording)


@fault(
    "search.first_window_only",
    exercise="find_fault",
    title="Only the first window is audited",
    symptom="The rendered first batch is perfect, and the loss jumps every few steps.",
    first_check="Sum the audit over all windows.",
    consequence="Faults of some rows, such as long ones or threads, are never seen.",
    citation="a mask that was lost after packing passed every look at single rows: "
    "https://github.com/karpathy/nanochat/issues/570",
)
def _(recording: Found) -> Found:
    _checks(recording)
    return reference("find_fault")({**recording, "windows": recording["windows"][:1]})


@fault(
    "search.silence_only_when_total",
    exercise="find_fault",
    title="A window without labels passes as long as another one has some",
    symptom="Some steps have a loss of exactly 0, and nobody looks at single steps.",
    first_check="Count the learned tokens of each window, not of all.",
    consequence="Half of the steps teach nothing, and the run is called slow.",
    citation="https://github.com/huggingface/trl/issues/6548 , https://github.com/allenai/open-instruct/pull/1685",
    experiment="all_ignored",
)
def _(recording: Found) -> Found:
    checks = _checks(recording)
    if checks[4][2]:
        checks[3] = (checks[3][0], 0, *checks[3][2:])
    return _first(checks, recording)


@fault(
    "search.assistant_is_evidence",
    exercise="find_fault",
    title="What the assistant said before counts as evidence",
    symptom="A thread that repeats its invented deadline loses one error per repetition, at last all.",
    first_check="Look where the number stands for the first time: in the evidence, or in an answer?",
    consequence="Invented numbers pass as soon as they are said twice.",
    citation="a model's own wrong statement feeds the next one: Zhang et al. (2023), https://arxiv.org/abs/2305.13534",
)
def _(recording: Found) -> Found:
    checks = _checks(recording)
    count = 0
    for row in recording["rows"]:
        spoken = [m["content"] for m in row["messages"] if m["role"] == "assistant"]
        said = [number for text in spoken for number in _NUMBER.findall(text)]
        given = {
            n for m in row["messages"] if m["role"] != "assistant" for n in _NUMBER.findall(m["content"])
        }
        count += any(said.count(number) == 1 and number not in given for number in said)
    return _first([("unsupported_rows", count, len(recording["rows"]), "rows"), *checks[1:]], recording)


@fault(
    "search.share_of_all_tokens",
    exercise="find_fault",
    title="Moved labels are counted against all tokens",
    symptom="Every label is wrong, and the figure says seventeen percent.",
    first_check="Ask what the figure would be if everything were wrong: it must be 1.",
    consequence="A total failure is reported as a small share and waits for the next sprint.",
    citation="weighted losses divided by the wrong count: https://github.com/Blaizzy/mlx-vlm/pull/1392",
    experiment="shifted_twice",
)
def _(recording: Found) -> Found:
    found = reference("find_fault")(recording)
    tokens = sum(len(window["input_ids"]) for window in recording["windows"])
    return {**found, "of": tokens} if found["fault"] == "labels_moved" else found


@alternative("find_fault", style="a table of checks")
def _(recording: Found) -> Found:
    return _first(_checks(recording), recording)


@alternative("find_fault", style="rows as sentences, first found wins by next()")
def _(recording: Found) -> Found:
    checks = _checks(recording)

    def invents(messages: list[Found]) -> bool:
        return any(
            number
            not in {
                n for m in messages[:at] if m["role"] != "assistant" for n in _NUMBER.findall(m["content"])
            }
            for at, message in enumerate(messages)
            if message["role"] == "assistant"
            for number in _NUMBER.findall(message["content"])
        )

    rows = recording["rows"]
    bad = [row for row in rows if invents(row["messages"])]
    checks[0] = ("unsupported_rows", len(bad), len(rows), "rows")
    names = ("fault", "count", "of", "redo")
    sound = (None, 0, checks[4][2], None)
    return dict(zip(names, next((check for check in checks if check[1] > 0), sound), strict=True))


@alternative("find_fault", style="returns early, stage by stage")
def _(recording: Found) -> Found:
    windows, marks, rows = recording["windows"], recording["marks"], recording["rows"]
    if len(windows) == 0:
        raise ValueError("no windows")
    bad = _unsupported(rows)
    if bad:
        return {"fault": "unsupported_rows", "count": bad, "of": len(rows), "redo": "rows"}
    total = dict.fromkeys(_COUNTS, 0)
    silent = 0
    for window in windows:
        audit = reference("window_audit")(window, marks)
        silent += audit["learned"] == 0
        for name, value in audit.items():
            total[name] += value
    if total["cut"]:
        return {"fault": "cut_documents", "count": total["cut"], "of": total["documents"], "redo": "length"}
    if total["mixed"]:
        chats = total["documents"] + total["mixed"]
        return {"fault": "mixed_documents", "count": total["mixed"], "of": chats, "redo": "packing"}
    if silent:
        return {"fault": "nothing_learned", "count": silent, "of": len(windows), "redo": "labels"}
    if total["moved"]:
        return {"fault": "labels_moved", "count": total["moved"], "of": total["learned"], "redo": "labels"}
    for kind in ("ends", "words"):
        if total[f"{kind}_untaught"]:
            count = total[f"{kind}_untaught"]
            return {"fault": f"{kind}_untaught", "count": count, "of": total[kind], "redo": "labels"}
    return {"fault": None, "count": 0, "of": total["learned"], "redo": None}
