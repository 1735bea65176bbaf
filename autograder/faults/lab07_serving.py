"""Lab 07: mistakes of deployments and of the people who judge them, and right answers in other styles."""

import math
from bisect import bisect_left
from itertools import groupby, pairwise, zip_longest
from typing import Any

from autograder.faults.registry import alternative, fault, reference

Messages = list[dict[str, str]]


# manifest_mismatches


def _leaves(manifest: dict[str, Any], above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in manifest.items():
        found |= _leaves(value, f"{above}{name}.") if isinstance(value, dict) else {above + name: value}
    return found


@fault(
    "manifest.missing_is_equal",
    exercise="manifest_mismatches",
    title="A field that the deployment does not state passes",
    symptom="The manifest check is green and the server renders with a template of its own.",
    first_check="Open the served folder: is there a chat template, and does its hash stand in the manifest?",
    consequence="The model is served without the template it was trained with, and nobody is told.",
    citation="https://github.com/hiyouga/LlamaFactory/issues/5836 , https://github.com/modelscope/ms-swift/issues/2831",
)
def _(trained: dict[str, Any], served: dict[str, Any]) -> list[str]:
    stated = _leaves(served)
    return [name for name in reference("manifest_mismatches")(trained, served) if name in stated]


@fault(
    "manifest.falsy_is_missing",
    exercise="manifest_mismatches",
    title="false, 0 and null count as not stated",
    symptom="A beginning token with the id 0, or an option that was switched off, is never compared.",
    first_check="Change an id from 0 to 1 in a manifest and run the check.",
    consequence="An id of 0 or a switched-off option drifts unseen, and special tokens are doubled or lost.",
    citation="truth value of an id that is 0: https://github.com/hiyouga/LlamaFactory/commit/08dfac835",
)
def _(trained: dict[str, Any], served: dict[str, Any]) -> list[str]:
    ours = _leaves(trained)
    return [name for name in reference("manifest_mismatches")(trained, served) if ours.get(name, True)]


@fault(
    "manifest.additions_ignored",
    exercise="manifest_mismatches",
    title="What only the deployment has is ignored",
    symptom="Every prompt is some twenty tokens longer than in training.",
    first_check="Render a chat without a system message at both ends and compare.",
    consequence="A default system prompt of the server stands before every chat; no training row had it.",
    citation="https://github.com/QwenLM/Qwen3/issues/1141 , https://github.com/InternLM/lmdeploy/pull/3475",
)
def _(trained: dict[str, Any], served: dict[str, Any]) -> list[str]:
    ours = _leaves(trained)
    return [name for name in reference("manifest_mismatches")(trained, served) if name in ours]


@fault(
    "manifest.revision_ignored",
    exercise="manifest_mismatches",
    title="Names are compared without their revision",
    symptom="The same model name answers differently after an update of its repository.",
    first_check="Compare the SHA-256 of the template at both ends, not its name.",
    consequence="A template that changed under its name passes, and every prompt changes with it.",
    citation="https://github.com/axolotl-ai-cloud/axolotl/pull/2710 ; TRL keeps five revisions of one family's template",
)
def _(trained: dict[str, Any], served: dict[str, Any]) -> list[str]:
    ours, theirs = _leaves(trained), _leaves(served)

    def same_family(name: str) -> bool:
        both = (ours.get(name), theirs.get(name))
        return all(isinstance(v, str) for v in both) and len({str(v).rpartition("-")[0] for v in both}) == 1

    return [name for name in reference("manifest_mismatches")(trained, served) if not same_family(name)]


@fault(
    "manifest.top_level_only",
    exercise="manifest_mismatches",
    title="Groups are compared as a whole",
    symptom="The check says 'tokenizer' and not what of it.",
    first_check="Count the names in the report: a changed id must be named by itself.",
    consequence="Nobody can tell a changed padding token from a lost template, and the alarm is waved through.",
    citation="where a template is stored changed between releases, so a hash must say what it covers: https://github.com/ggml-org/llama.cpp/pull/12460",
)
def _(trained: dict[str, Any], served: dict[str, Any]) -> list[str]:
    found = [name.partition(".")[0] for name in reference("manifest_mismatches")(trained, served)]
    return list(dict.fromkeys(found))


@alternative("manifest_mismatches", style="one loop with a marker for absent values")
def _(trained: dict[str, Any], served: dict[str, Any]) -> list[str]:
    absent = object()
    ours, theirs = _leaves(trained), _leaves(served)
    if not ours:
        raise ValueError("the run's manifest is empty")
    return [n for n in {**ours, **theirs} if ours.get(n, absent) != theirs.get(n, absent)]


@alternative("manifest_mismatches", style="recursion without a helper")
def _(trained: dict[str, Any], served: dict[str, Any]) -> list[str]:
    def walk(value: Any, above: tuple[str, ...]) -> list[tuple[tuple[str, ...], Any]]:
        if not isinstance(value, dict):
            return [(above, value)]
        return [leaf for name, inner in value.items() for leaf in walk(inner, (*above, name))]

    left, right = walk(trained, ()), walk(served, ())
    if not left:
        raise ValueError("Manifest without values.")
    changed = [path for path, value in left if (path, value) not in right]
    known = [path for path, _ in left]
    return [".".join(path) for path in changed + [p for p, _ in right if p not in known]]


@alternative("manifest_mismatches", style="symmetric difference, then sorted into order")
def _(trained: dict[str, Any], served: dict[str, Any]) -> list[str]:
    ours, theirs = _leaves(trained), _leaves(served)
    if ours == {}:
        raise ValueError("There is no manifest of the run.")
    differing = (set(ours) ^ set(theirs)) | {n for n in set(ours) & set(theirs) if ours[n] != theirs[n]}
    order = [*ours, *theirs]
    return sorted(differing, key=order.index)


# first_difference


@fault(
    "ids.stops_at_the_shorter",
    exercise="first_difference",
    title="The comparison stops at the shorter prompt",
    symptom="The parity test is green although the generation prompt is missing.",
    first_check="Compare the two lengths before the tokens.",
    consequence="A missing cue is never seen: the model has to guess whose turn it is.",
    citation="seen here: without the cue nano still answers 100 % grounded, so only this comparison finds it",
    experiment="no_cue",
)
def _(train_ids: list[int], serve_ids: list[int], special_ids: list[int]) -> dict[str, Any]:
    right = reference("first_difference")(train_ids, serve_ids, special_ids)
    if right["index"] is not None and right["index"] >= min(len(train_ids), len(serve_ids)):
        return {**right, "index": None, "train": None, "serve": None}
    return right


@fault(
    "ids.special_tokens_skipped",
    exercise="first_difference",
    title="Special tokens are left out of the comparison",
    symptom="Decoded prompts look equal, and the served one has two beginnings.",
    first_check="Print ids, or decode with the special tokens shown.",
    consequence="A doubled beginning or a lost end of turn passes the test, and quality drops without a reason.",
    citation="https://github.com/LiveCodeBench/LiveCodeBench/pull/146 , https://github.com/vllm-project/vllm/pull/27515",
    experiment="doubled_bos",
)
def _(train_ids: list[int], serve_ids: list[int], special_ids: list[int]) -> dict[str, Any]:
    reference("first_difference")(train_ids, serve_ids, special_ids)
    ours = [one for one in train_ids if one not in special_ids]
    theirs = [one for one in serve_ids if one not in special_ids]
    for index, (a, b) in enumerate(zip_longest(ours, theirs)):
        if a != b:
            return {"index": index, "train": a, "serve": b, "doubled": []}
    return {"index": None, "train": None, "serve": None, "doubled": []}


@fault(
    "ids.only_the_beginning_counts",
    exercise="first_difference",
    title="Only a doubled first token is found",
    symptom="Answers end with two end tokens, or a line break and an end.",
    first_check="Look for neighbouring equal special tokens in the whole prompt.",
    consequence="A doubled end of turn closes a turn that nobody opened, and the model answers past it.",
    citation="https://github.com/axolotl-ai-cloud/axolotl/pull/1054 , https://github.com/axolotl-ai-cloud/axolotl/pull/1635",
)
def _(train_ids: list[int], serve_ids: list[int], special_ids: list[int]) -> dict[str, Any]:
    right = reference("first_difference")(train_ids, serve_ids, special_ids)
    return {**right, "doubled": [one for one in right["doubled"] if serve_ids[:2] == [one, one]]}


@fault(
    "ids.every_repetition_is_doubled",
    exercise="first_difference",
    title="Repeated words count as doubled tokens",
    symptom="The alarm rings at every number with two equal digits.",
    first_check="Ask whether the doubled id is a special token.",
    consequence="People learn to ignore the alarm, and the next doubled beginning goes out.",
    citation="the warning belongs to the beginning token alone: https://github.com/ggml-org/llama.cpp/pull/7107",
)
def _(train_ids: list[int], serve_ids: list[int], special_ids: list[int]) -> dict[str, Any]:
    return reference("first_difference")(train_ids, serve_ids, [*train_ids, *serve_ids])


@fault(
    "ids.doubled_in_training_reported",
    exercise="first_difference",
    title="What training doubled too is reported",
    symptom="A deployment that repeats its training exactly is called drifted.",
    first_check="Look for the same pair in the training prompt.",
    consequence="Someone removes the second token at serving only, and now the two really differ.",
    citation="a tokenizer's and a template's beginning token in training: https://github.com/huggingface/alignment-handbook/issues/127",
)
def _(train_ids: list[int], serve_ids: list[int], special_ids: list[int]) -> dict[str, Any]:
    right = reference("first_difference")(train_ids, serve_ids, special_ids)
    pairs = [a for a, b in pairwise(serve_ids) if a == b and a in special_ids]
    return {**right, "doubled": list(dict.fromkeys(pairs))}


@alternative("first_difference", style="zip_longest")
def _(train_ids: list[int], serve_ids: list[int], special_ids: list[int]) -> dict[str, Any]:
    if not train_ids:
        raise ValueError("train_ids is empty")
    index, train, serve = None, None, None
    for i, (a, b) in enumerate(zip_longest(train_ids, serve_ids)):
        if a != b:
            index, train, serve = i, a, b
            break

    def repeats(ids: list[int], one: int) -> int:
        return sum(a == b == one for a, b in pairwise(ids))

    seen: list[int] = []
    for a, b in pairwise(serve_ids):
        if a == b and a in special_ids and a not in seen and repeats(serve_ids, a) > repeats(train_ids, a):
            seen.append(a)
    return {"index": index, "train": train, "serve": serve, "doubled": seen}


@alternative("first_difference", style="while loop")
def _(train_ids: list[int], serve_ids: list[int], special_ids: list[int]) -> dict[str, Any]:
    if len(train_ids) == 0:
        raise ValueError("The trained prompt, train_ids, holds no token.")
    i = 0
    while i < len(train_ids) and i < len(serve_ids) and train_ids[i] == serve_ids[i]:
        i += 1
    same = i == len(train_ids) == len(serve_ids)
    excess: dict[int, int] = {}
    for a, b in pairwise(serve_ids):
        if a == b:
            excess[a] = excess.get(a, 0) + 1
    for a, b in pairwise(train_ids):
        if a == b and a in excess:
            excess[a] -= 1
    return {
        "index": None if same else i,
        "train": None if same or i >= len(train_ids) else train_ids[i],
        "serve": None if same or i >= len(serve_ids) else serve_ids[i],
        "doubled": [one for one, extra in excess.items() if extra > 0 and one in special_ids],
    }


@alternative("first_difference", style="bisection on prefixes, groupby for runs")
def _(train_ids: list[int], serve_ids: list[int], special_ids: list[int]) -> dict[str, Any]:
    if not train_ids:
        raise ValueError("no train_ids")
    longest = max(len(train_ids), len(serve_ids))
    lengths = range(longest + 1)
    equal = bisect_left(lengths, 1, key=lambda n: train_ids[:n] != serve_ids[:n]) - 1
    differs = train_ids != serve_ids

    def runs(ids: list[int]) -> dict[int, int]:
        found: dict[int, int] = {}
        for one, group in groupby(ids):
            extra = len(list(group)) - 1
            if extra:
                found[one] = found.get(one, 0) + extra
        return found

    before, after = runs(train_ids), runs(serve_ids)
    return {
        "index": equal if differs else None,
        "train": next(iter(train_ids[equal:]), None) if differs else None,
        "serve": next(iter(serve_ids[equal:]), None) if differs else None,
        "doubled": [one for one in after if one in special_ids and after[one] > before.get(one, 0)],
    }


# truncate


def _cut(messages: Messages, tokens: list[int], kept: set[int]) -> dict[str, Any]:
    return {
        "messages": [m for i, m in enumerate(messages) if i in kept],
        "dropped": [i for i in range(len(messages)) if i not in kept],
        "tokens": sum(tokens[i] for i in kept),
    }


def _exchanges(messages: Messages) -> list[list[int]]:
    groups: list[list[int]] = [[]]
    for i, message in enumerate(messages[:-1]):
        if message["role"] == "user":
            groups.append([])
        if message["role"] != "system":
            groups[-1].append(i)
    return [group for group in groups if group]


def _fixed(messages: Messages) -> set[int]:
    return {i for i, m in enumerate(messages) if m["role"] == "system"} | {len(messages) - 1}


@fault(
    "truncate.evidence_dropped",
    exercise="truncate",
    title="The newest messages are kept, whatever they are",
    symptom="Good answers on short threads, invented deadlines on long ones.",
    first_check="Log kept messages and tokens, and look for the evidence in what was sent.",
    consequence="The policy stands at the beginning and is cut first: the model answers without evidence.",
    citation="seen here: with only the last 40 tokens of the prompt nano falls from 100 % to 48 % grounded",
    experiment="serving_truncated",
)
def _(messages: Messages, tokens: list[int], budget: int) -> dict[str, Any]:
    reference("truncate")(messages, tokens, budget)
    kept: set[int] = set()
    for i in reversed(range(len(messages))):
        if sum(tokens[j] for j in kept) + tokens[i] > budget:
            break
        kept.add(i)
    return _cut(messages, tokens, kept)


@fault(
    "truncate.first_system_only",
    exercise="truncate",
    title="Only the first system message is kept",
    symptom="Follow-up questions are answered from the first policy of the thread.",
    first_check="Count the system messages before and after the cut.",
    consequence="The evidence that was added for the last question is dropped, and the old one is used.",
    citation="where a family puts its system text differs, and turns move it: https://github.com/mistralai/cookbook/blob/main/concept-deep-dive/tokenization/chat_templates.md",
)
def _(messages: Messages, tokens: list[int], budget: int) -> dict[str, Any]:
    reference("truncate")(messages, tokens, budget)
    systems = [i for i, m in enumerate(messages) if m["role"] == "system"]
    kept = {*systems[:1], len(messages) - 1}
    cost = sum(tokens[i] for i in kept)
    for i in reversed(range(len(messages) - 1)):
        if i not in kept:
            if cost + tokens[i] > budget:
                break
            kept.add(i)
            cost += tokens[i]
    return _cut(messages, tokens, kept)


@fault(
    "truncate.exact_fit_cut",
    exercise="truncate",
    title="A thread that just fits is cut",
    symptom="Threads of exactly the limit lose a message that had room.",
    first_check="Send a thread whose cost equals the budget.",
    consequence="History is lost for nothing, and rows of exactly the limit count as truncated.",
    citation="https://github.com/huggingface/trl/pull/6003",
)
def _(messages: Messages, tokens: list[int], budget: int) -> dict[str, Any]:
    right = reference("truncate")(messages, tokens, budget)
    return right if right["tokens"] < budget else reference("truncate")(messages, tokens, budget - 1)


@fault(
    "truncate.no_refusal",
    exercise="truncate",
    title="What cannot fit is sent all the same",
    symptom="The server cuts the prompt a second time, silently, or answers with an error of its own.",
    first_check="Ask with a budget that is smaller than the evidence.",
    consequence="Somebody else's truncation decides what the model reads, and evidence is the first to go.",
    citation="a bound below zero becomes a cut from the other end: https://github.com/huggingface/trl/issues/6548 ; a prompt that fills the window alone: https://github.com/huggingface/trl/issues/3927",
)
def _(messages: Messages, tokens: list[int], budget: int) -> dict[str, Any]:
    fixed = _fixed(messages) if messages else set()
    if len(tokens) == len(messages) and fixed and messages[-1]["role"] == "user":
        budget = max(budget, sum(tokens[i] for i in fixed))
    return reference("truncate")(messages, tokens, budget)


@fault(
    "truncate.gaps",
    exercise="truncate",
    title="Older exchanges are kept behind a gap",
    symptom="The model refers to something that the customer said before an answer which is gone.",
    first_check="Read the dropped positions: they must be the oldest ones of the history.",
    consequence="The model reads a conversation that nobody had.",
    citation="turn boundaries and truncation out of step: https://github.com/axolotl-ai-cloud/axolotl/pull/2123",
)
def _(messages: Messages, tokens: list[int], budget: int) -> dict[str, Any]:
    reference("truncate")(messages, tokens, budget)
    kept = _fixed(messages)
    for group in reversed(_exchanges(messages)):
        if sum(tokens[i] for i in [*kept, *group]) <= budget:
            kept.update(group)
    return _cut(messages, tokens, kept)


@fault(
    "truncate.half_an_exchange",
    exercise="truncate",
    title="An answer is kept without its question",
    symptom="Templates that check the order of roles refuse long threads, others render two turns that do not fit.",
    first_check="Look at the first message after the instruction: it must be the customer's.",
    consequence="The kept history begins with an answer to nothing, an order of roles that no training row had.",
    citation="https://github.com/axolotl-ai-cloud/axolotl/pull/1867",
)
def _(messages: Messages, tokens: list[int], budget: int) -> dict[str, Any]:
    reference("truncate")(messages, tokens, budget)
    kept = _fixed(messages)
    for i in reversed(range(len(messages) - 1)):
        if i not in kept:
            if sum(tokens[j] for j in kept) + tokens[i] > budget:
                break
            kept.add(i)
    return _cut(messages, tokens, kept)


def _refuse(messages: Messages, tokens: list[int], fixed: set[int], budget: int) -> None:
    if len(messages) != len(tokens):
        raise ValueError("messages and tokens differ in length")
    if not messages or messages[-1]["role"] != "user":
        raise ValueError("no question at the end")
    if sum(tokens[i] for i in fixed) > budget:
        raise ValueError("over budget")


@alternative("truncate", style="groups and a running sum")
def _(messages: Messages, tokens: list[int], budget: int) -> dict[str, Any]:
    kept = _fixed(messages) if messages else set()
    _refuse(messages, tokens, kept if len(tokens) == len(messages) else set(), budget)
    for group in _exchanges(messages)[::-1]:
        if sum(tokens[i] for i in kept | set(group)) > budget:
            break
        kept |= set(group)
    return _cut(messages, tokens, kept)


@alternative("truncate", style="drop the oldest exchange until it fits")
def _(messages: Messages, tokens: list[int], budget: int) -> dict[str, Any]:
    everything = set(range(len(messages)))
    if len(messages) != len(tokens):
        raise ValueError("tokens: one number per message, please")
    if not messages or messages[-1]["role"] != "user":
        raise ValueError("the last message must be a question")
    exchanges = _exchanges(messages)
    while sum(tokens[i] for i in everything) > budget:
        if not exchanges:
            raise ValueError("the fixed messages exceed the budget")
        everything -= set(exchanges.pop(0))
    return _cut(messages, tokens, everything)


@alternative("truncate", style="recursion over cuts")
def _(messages: Messages, tokens: list[int], budget: int) -> dict[str, Any]:
    if len(tokens) != len(messages):
        raise ValueError(f"{len(tokens)} tokens counts for {len(messages)} messages")
    if not messages or messages[-1]["role"] != "user":
        raise ValueError("without a question there is no answer")

    def best(groups: list[list[int]]) -> set[int]:
        kept = _fixed(messages) | {i for group in groups for i in group}
        if sum(tokens[i] for i in kept) <= budget:
            return kept
        if not groups:
            raise ValueError(f"a budget of {budget} is too small")
        return best(groups[1:])

    return _cut(messages, tokens, best(_exchanges(messages)))


# diagnose


@fault(
    "diagnose.answers_first",
    exercise="diagnose",
    title="A good answer ends the search",
    symptom="Everything is reported healthy until the next checkpoint, and then nothing is.",
    first_check="Compare the logged prompt with the trained one, however good the answer is.",
    consequence="A missing cue or a doubled beginning stays in production, because this model forgave it.",
    citation="seen here: nano answers 100 % grounded without the cue and with two beginning tokens",
    experiment="no_cue",
)
def _(record: dict[str, Any]) -> list[str]:
    found = reference("diagnose")(record)
    return [] if record["grounded"] and record["stopped"] else found


@fault(
    "diagnose.model_blamed",
    exercise="diagnose",
    title="A bad answer is blamed on the training",
    symptom="The model is trained again and again, and answers as badly as before.",
    first_check="Read the prompt that the server logged before reading the rows.",
    consequence="Labels and rows are rebuilt while the server goes on sending another family's frame.",
    citation="https://github.com/ollama/ollama/issues/8363 , https://github.com/unslothai/unsloth/issues/1135",
    experiment="wrong_wrapper",
)
def _(record: dict[str, Any]) -> list[str]:
    found = reference("diagnose")(record)
    return found if record["grounded"] and record["stopped"] else ["labels_or_rows"]


@fault(
    "diagnose.first_sign_only",
    exercise="diagnose",
    title="The search ends at the first sign",
    symptom="One fault is repaired and the answers stay wrong.",
    first_check="Ask whether the findings explain every difference between the two prompts.",
    consequence="The cue comes back, the evidence stays cut off, and the deadline is still invented.",
    citation="several faults in one export: https://github.com/ollama/ollama/issues/6823",
)
def _(record: dict[str, Any]) -> list[str]:
    return reference("diagnose")(record)[:1]


@fault(
    "diagnose.unknown_is_healthy",
    exercise="diagnose",
    title="A difference without a name counts as none",
    symptom="The prompts differ by one line break, and the report is empty.",
    first_check="Compare the two prompts as text, byte by byte.",
    consequence="Trimmed contents or an injected greeting pass, and every figure belongs to another prompt.",
    citation="templates that trim, silently: https://github.com/huggingface/transformers/issues/35433",
)
def _(record: dict[str, Any]) -> list[str]:
    return [name for name in reference("diagnose")(record) if name != "other_drift"]


@fault(
    "diagnose.stop_not_asked",
    exercise="diagnose",
    title="An answer that never stops counts as healthy",
    symptom="Answers are right and run into the token limit.",
    first_check="Look at the finish reason of the replies: 'length' or 'stop'.",
    consequence="A model that never learned its end of turn is served, slowly and at full length.",
    citation="the trained end is not where generation stops: https://github.com/huggingface/trl/issues/2059",
    experiment="eot_masked",
)
def _(record: dict[str, Any]) -> list[str]:
    return reference("diagnose")({**record, "stopped": True})


@fault(
    "diagnose.evidence_not_asked",
    exercise="diagnose",
    title="Nobody looks for the evidence",
    symptom="Good on short threads, bad on long ones, and the prompt 'looks complete'.",
    first_check="Search the logged prompt for the whole clause.",
    consequence="The truncation that removed the policy is never found.",
    citation="seen here: cut to 40 tokens, nano's answers stop as always, and 48 % are grounded",
    experiment="serving_truncated",
)
def _(record: dict[str, Any]) -> list[str]:
    return reference("diagnose")({**record, "evidence": ""})


@alternative("diagnose", style="early returns")
def _(record: dict[str, Any]) -> list[str]:
    sent, expected = record["sent"], record["expected"]
    if sent == "":
        raise ValueError("The log has no prompt.")
    if sent == expected:
        found = [] if record["evidence"] in sent else ["evidence_truncated"]
        return found if record["grounded"] and record["stopped"] else [*found, "labels_or_rows"]
    found = []
    foreign = all(token not in sent for token in record["special"])
    if foreign:
        found.append("foreign_template")
    elif expected.endswith(record["cue"]) and not sent.endswith(record["cue"]):
        found.append("missing_cue")
    if len(sent.split(record["cue"])) > len(expected.split(record["cue"])):
        found.append("second_cue")
    for token in record["special"]:
        if token + token in sent and token + token not in expected:
            found.append("doubled_special_tokens")
            break
    if sent.find(record["evidence"]) < 0:
        found.append("evidence_truncated")
    return found if found else ["other_drift"]


@alternative("diagnose", style="table of rules")
def _(record: dict[str, Any]) -> list[str]:
    if not record["sent"]:
        raise ValueError("log the prompt")
    known = {
        "foreign_template": lambda r: not any(t in r["sent"] for t in r["special"]),
        "missing_cue": lambda r: (
            any(t in r["sent"] for t in r["special"])
            and r["expected"].endswith(r["cue"])
            and r["sent"][-len(r["cue"]) :] != r["cue"]
        ),
        "second_cue": lambda r: r["sent"].count(r["cue"]) > r["expected"].count(r["cue"]),
        "doubled_special_tokens": lambda r: any(
            t + t in r["sent"] and t + t not in r["expected"] for t in r["special"]
        ),
        "evidence_truncated": lambda r: r["evidence"] not in r["sent"],
    }
    found = [name for name, rule in known.items() if rule(record)]
    if record["sent"] != record["expected"]:
        return found or ["other_drift"]
    return found + ["labels_or_rows"] * (not (record["grounded"] and record["stopped"]))


@alternative("diagnose", style="set of names, sorted at the end")
def _(record: dict[str, Any]) -> list[str]:
    order = "foreign_template missing_cue second_cue doubled_special_tokens evidence_truncated other_drift labels_or_rows"
    sent, expected, cue = (record[key] for key in ("sent", "expected", "cue"))
    if not sent.strip():
        raise ValueError("nothing in the log")
    found = set()
    if not [t for t in record["special"] if t in sent]:
        found.add("foreign_template")
    elif sent.removesuffix(cue) == sent and expected.removesuffix(cue) != expected:
        found.add("missing_cue")
    if sent.count(cue) > expected.count(cue):
        found.add("second_cue")
    if {t for t in record["special"] if 2 * t in sent} - {t for t in record["special"] if 2 * t in expected}:
        found.add("doubled_special_tokens")
    if record["evidence"] not in sent:
        found.add("evidence_truncated")
    if sent != expected and not found:
        found.add("other_drift")
    if sent == expected and not all((record["grounded"], record["stopped"])):
        found.add("labels_or_rows")
    return sorted(found, key=order.split().index)


# blockers


def _with_quality(candidate: dict[str, Any], blocked: bool) -> list[str]:
    """The reference's decision with another opinion on quality."""
    found = set(reference("blockers")(candidate)) - {"grounded_quality"}
    order = ["template_drift", "grounded_quality", "critical_policy_error", "latency"]
    return [name for name in order if name in found or (name == "grounded_quality" and blocked)]


@fault(
    "gate.point_estimate",
    exercise="blockers",
    title="The rate alone decides",
    symptom="A release that was perfect on twenty questions fails on the first busy day.",
    first_check="Ask for the number of cases beside every rate.",
    consequence="20 of 20 pass for 2,000, and a model that is wrong once in twenty is released every third time.",
    citation="Miller (2024), Adding Error Bars to Evals, https://arxiv.org/abs/2411.00640",
)
def _(candidate: dict[str, Any]) -> list[str]:
    n = candidate["cases"]
    return _with_quality(candidate, not n or candidate["grounded"] / n < 0.98)


@fault(
    "gate.textbook_interval",
    exercise="blockers",
    title="The textbook interval is used near a rate of 1",
    symptom="The smaller the test, the surer its result: at 20 of 20 the interval has width zero.",
    first_check="Compute the interval of 20 of 20; its lower end is about 0.84, not 1.",
    consequence="A test without an error always passes, however short it was.",
    citation="Brown, Cai and DasGupta (2001), https://doi.org/10.1214/ss/1009213286",
)
def _(candidate: dict[str, Any]) -> list[str]:
    n, rate = candidate["cases"], 0.0
    if n > 0:
        rate = candidate["grounded"] / n
        rate -= 1.96 * math.sqrt(max(0.0, rate * (1 - rate)) / n)
    return _with_quality(candidate, rate < 0.98)


@fault(
    "gate.mean_latency",
    exercise="blockers",
    title="The mean time is compared with the limit",
    symptom="The dashboard is green, and customers complain about waiting.",
    first_check="Sort the times and read the one at 95 %.",
    consequence="One customer in ten waits for seconds while the average looks fine.",
    citation="Dean and Barroso (2013), The Tail at Scale, https://doi.org/10.1145/2408776.2408794",
)
def _(candidate: dict[str, Any]) -> list[str]:
    times = candidate["latencies_ms"]
    mean = [sum(times) / len(times)] if times else []
    return reference("blockers")({**candidate, "latencies_ms": mean})


@fault(
    "gate.slowest_request",
    exercise="blockers",
    title="The slowest request decides",
    symptom="Every second release is blocked because of one request, often the first.",
    first_check="Look at where the slowest request stands: is it the first, which loads the model?",
    consequence="A single outlier blocks honest candidates, until somebody removes the gate.",
    citation="seen here: the first request to a fresh server took 2,475 ms, the second 108 ms",
)
def _(candidate: dict[str, Any]) -> list[str]:
    times = candidate["latencies_ms"]
    return reference("blockers")({**candidate, "latencies_ms": [max(times)] if times else []})


@fault(
    "gate.critical_in_the_average",
    exercise="blockers",
    title="Critical errors count as part of the average",
    symptom="The rate is 0.99, and one of the wrong answers promised a refund.",
    first_check="Read every answer that promises something, apart from the rate.",
    consequence="An invented refund is released, because it was only one of two thousand.",
    citation="averages hide the slices that matter: Ribeiro et al. (2020), https://aclanthology.org/2020.acl-main.442/",
)
def _(candidate: dict[str, Any]) -> list[str]:
    errors = candidate["critical_errors"]
    tolerated = errors and errors / max(1, candidate["critical_cases"]) < 0.005
    return reference("blockers")({**candidate, "critical_errors": 0 if tolerated else errors})


@fault(
    "gate.nothing_measured_passes",
    exercise="blockers",
    title="What was not measured passes",
    symptom="A candidate without a single timed request or critical case is released.",
    first_check="Count the measurements behind each figure before comparing it.",
    consequence="A broken measurement is the easiest way to be released.",
    citation="an adapter full of NaN was reported as a success: https://github.com/getainode/ainode/issues/186",
)
def _(candidate: dict[str, Any]) -> list[str]:
    filled = dict(candidate)
    filled["critical_cases"] = candidate["critical_cases"] or 1
    filled["latencies_ms"] = candidate["latencies_ms"] or [0.0]
    found = reference("blockers")(filled)
    return found if candidate["cases"] else [name for name in found if name != "grounded_quality"]


@fault(
    "gate.first_blocker_only",
    exercise="blockers",
    title="Only the first blocker is reported",
    symptom="A candidate is repaired, sent again and blocked again, for something that was wrong all along.",
    first_check="Count the findings of a candidate that is wrong in everything: there must be four.",
    consequence="Each repair costs a training run, and the critical error is found last.",
    citation="one failing stage hides the next: https://github.com/ollama/ollama/issues/11019",
)
def _(candidate: dict[str, Any]) -> list[str]:
    return reference("blockers")(candidate)[:1]


_NAMES = ("template_drift", "grounded_quality", "critical_policy_error", "latency")


def _impossible(candidate: dict[str, Any]) -> None:
    if candidate["cases"] < 0 or not 0 <= candidate["grounded"] <= candidate["cases"]:
        raise ValueError("grounded and cases do not fit")


@alternative("blockers", style="centre and half width")
def _(candidate: dict[str, Any]) -> list[str]:
    _impossible(candidate)
    n, k, z = candidate["cases"], candidate["grounded"], 1.96
    weak = True
    if n:
        centre = (k + z * z / 2) / (n + z * z)
        half = z / (n + z * z) * math.sqrt(k * (n - k) / n + z * z / 4)
        weak = centre - half < 0.98
    times = sorted(candidate["latencies_ms"])
    slow = not times or times[math.ceil(0.95 * len(times)) - 1] > candidate["latency_limit_ms"]
    critical = candidate["critical_errors"] > 0 or candidate["critical_cases"] == 0
    signs = (not candidate["template_matches"], weak, critical, slow)
    return [name for name, sign in zip(_NAMES, signs, strict=True) if sign]


@alternative("blockers", style="root of the score test, by bisection")
def _(candidate: dict[str, Any]) -> list[str]:
    _impossible(candidate)
    n, k = candidate["cases"], candidate["grounded"]
    low, high = 0.0, k / n if n else 0.0
    for _ in range(80):
        p = (low + high) / 2
        if n and k / n - p > 1.96 * math.sqrt(p * (1 - p) / n):
            low = p
        else:
            high = p
    found = []
    if candidate["template_matches"] is not True:
        found.append("template_drift")
    if low < 0.98:
        found.append("grounded_quality")
    if candidate["critical_errors"] or not candidate["critical_cases"]:
        found.append("critical_policy_error")
    times, limit = candidate["latencies_ms"], candidate["latency_limit_ms"]
    if not times or 100 * sum(t <= limit for t in times) < 95 * len(times):
        found.append("latency")
    return found


@alternative("blockers", style="numpy's percentile")
def _(candidate: dict[str, Any]) -> list[str]:
    import numpy as np

    _impossible(candidate)
    n, z = max(1, candidate["cases"]), 1.96
    p = candidate["grounded"] / n
    lower = (p + z**2 / (2 * n) - z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))) / (1 + z**2 / n)
    found = [] if candidate["template_matches"] else ["template_drift"]
    found += ["grounded_quality"] * bool(lower < 0.98)
    found += ["critical_policy_error"] * (candidate["critical_errors"] > 0 or candidate["critical_cases"] < 1)
    times = candidate["latencies_ms"]
    if len(times) == 0 or np.percentile(times, 95, method="inverted_cdf") > candidate["latency_limit_ms"]:
        found.append("latency")
    return found
