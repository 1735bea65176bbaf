"""Lab 07: cases for manifests, token comparison, truncation, diagnosis and the release gate."""

import random
from typing import Any

from autograder.checks.exercise import Case, Exercise

LAB = "07_serving"

# manifest_mismatches

RUN = {
    "checkpoint": "shopflow-policy-sft-v3",
    "tokenizer": "tokens-7",
    "template_revision": "chatml-policy-v2",
    "add_special_tokens_after_template": False,
}
NESTED = {
    "checkpoint": {"name": "nano", "weights": "5be1"},
    "tokenizer": {"template": "9c02", "pad": {"token": "<|pad|>", "id": 3}, "bos": {"id": 0}},
    "truncation": None,
    "temperature": 0,
}


def _pair(trained: dict[str, Any], served: dict[str, Any]) -> dict[str, Any]:
    return {"trained": trained, "served": served}


def _without(manifest: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in manifest.items() if name not in names}


def _public_manifest() -> tuple[Case, ...]:
    wrapped = {"template_revision": "mistral-wrapper-v1", "add_special_tokens_after_template": True}
    return (
        Case("equal in all four", _pair(RUN, dict(RUN)), "values", "A false alarm costs an evaluation."),
        Case(
            "another wrapper, special tokens added",
            _pair(RUN, {**RUN, **wrapped}),
            "values",
            "The model reads a frame that it was never taught.",
        ),
        Case(
            "a revision of the same template",
            _pair(RUN, {**RUN, "template_revision": "chatml-policy-v3"}),
            "values",
            "A template that changes under its name changes every prompt.",
        ),
        Case(
            "the deployment states no template",
            _pair(RUN, _without(RUN, "template_revision")),
            "one side only",
            "The server falls back to a template of its own.",
        ),
        Case(
            "a false and a null are not stated",
            _pair(
                {**RUN, "truncation": None}, _without(RUN, "add_special_tokens_after_template", "tokenizer")
            ),
            "one side only",
            "What nobody states, the server's default decides.",
        ),
        Case(
            "the deployment adds a system prompt",
            _pair(RUN, {"default_system": "You are helpful.", **RUN}),
            "one side only",
            "Every prompt begins with words that no training row had.",
        ),
        Case(
            "nested, with an id that is 0",
            _pair(
                NESTED,
                {
                    **NESTED,
                    "tokenizer": {"template": "9c02", "pad": {"token": "<|pad|>", "id": 2}, "bos": {"id": 1}},
                },
            ),
            "nested",
            "Padding with the end token and another beginning change what the model reads.",
        ),
        Case("the run has no manifest", _pair({}, dict(RUN)), "refusals", says=("manifest",)),
    )


def _changed(rng: random.Random, value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + rng.randint(1, 9)
    return f"{value}-{rng.randint(2, 99)}"


def _private_manifest(rng: random.Random) -> list[Case]:
    cases = [
        Case("served nothing", _pair(RUN, {}), "one side only"),
        Case("zero and missing", _pair({"a": 0, "b": ""}, {}), "one side only"),
        Case("null here, missing there", _pair({"a": None, "b": 1}, {"b": 1}), "one side only"),
        Case("missing here, null there", _pair({"b": 1}, {"a": None, "b": 1}), "one side only"),
        Case("value became a group", _pair({"a": 1, "b": 2}, {"a": {"x": 1}, "b": 2}), "nested"),
        Case("nothing inside", _pair({"a": {}}, dict(RUN)), "refusals", says=("manifest",)),
        Case("both empty", _pair({}, {}), "refusals", says=("manifest",)),
        Case("equal, other order", _pair(NESTED, dict(reversed(list(NESTED.items())))), "nested"),
    ]
    for _ in range(5):
        names = rng.sample(["decoding", "revision", "weights", "vocabulary", "limit", "seed", "adapter"], 5)
        values = [rng.choice([0, False, "", None, 7, "v1", True]) for _ in names]
        manifest = dict(zip(names, values, strict=True))
        touched = rng.sample(names, 2)
        served = {name: _changed(rng, v) if name in touched else v for name, v in manifest.items()}
        cases.append(Case("changed", _pair(manifest, served), "values"))
        family = rng.choice(["chatml-policy", "mistral-wrapper", "tokens"])
        one, other = rng.sample(range(1, 30), 2)
        revised = _pair(
            {**manifest, "template": f"{family}-v{one}"}, {**manifest, "template": f"{family}-v{other}"}
        )
        cases.append(Case("other revision", revised, "values"))
        shuffled = rng.sample(list(served.items()), len(served))
        cases.append(Case("other order", _pair(manifest, dict(shuffled)), "values"))
        extra = {f"extra_{i}": rng.choice([None, 0, "x"]) for i in rng.sample(range(9), 2)}
        cases.append(Case("two more", _pair(manifest, {**extra, **manifest}), "one side only"))
        cases.append(Case("two fewer", _pair(manifest, _without(manifest, *touched)), "one side only"))
        deep = {"run": manifest, "kept": 1, "server": {"inner": manifest}}
        away = {"run": served, "kept": 1, "server": {"inner": _without(manifest, touched[0])}}
        cases.append(Case("nested", _pair(deep, away), "nested"))
    return cases


# first_difference

BOS, START, END, PAD = 0, 1, 2, 3
SPECIAL = [BOS, START, END, PAD]
TRAINED = [START, 7, 40, 41, END, START, 8]


def _ids(train: list[int], serve: list[int], special: list[int] | None = None) -> dict[str, Any]:
    return {"train_ids": train, "serve_ids": serve, "special_ids": SPECIAL if special is None else special}


def _public_ids() -> tuple[Case, ...]:
    return (
        Case("equal prompts", _ids(TRAINED, list(TRAINED)), "position"),
        Case(
            "another family's header",
            _ids(TRAINED, [50, 51, 40, 41, 52]),
            "position",
            "The model does not know whose turn it is.",
        ),
        Case(
            "the cue is missing",
            _ids(TRAINED, TRAINED[:5]),
            "one prompt ends",
            "The model has to guess who speaks next.",
        ),
        Case(
            "text behind the cue",
            _ids(TRAINED, [*TRAINED, 40]),
            "one prompt ends",
            "The answer is begun for the model.",
        ),
        Case(
            "the beginning twice",
            _ids([BOS, *TRAINED], [BOS, BOS, *TRAINED]),
            "doubled",
            "Template and tokenizer both wrote the token.",
        ),
        Case(
            "the end twice, behind an equal part",
            _ids(TRAINED, [START, 7, 40, 41, END, END, START, 8]),
            "doubled",
            "A second end closes a turn that nobody opened.",
        ),
        Case(
            "a word twice",
            _ids(TRAINED, [START, 7, 40, 40, END, START, 8]),
            "doubled",
            "A customer may say a word twice: no alarm.",
        ),
        Case("doubled in training already", _ids([END, END, 40], [END, END, 41]), "doubled"),
        Case("nothing was rendered", _ids([], TRAINED), "refusals", says=("train_ids",)),
    )


def _private_ids(rng: random.Random) -> list[Case]:
    cases = [
        Case("nothing was sent", _ids([40], []), "one prompt ends"),
        Case("nothing at all", _ids([], []), "refusals", says=("train_ids",)),
        Case("no special tokens", _ids([40, 41], [40, 40, 41], []), "doubled"),
        Case("first token", _ids([40, 41], [42, 41]), "position"),
        Case("token 0 sent for a word", _ids([40, 41], [40, 0]), "position"),
        Case("token 0 behind the end", _ids([40], [40, 0]), "one prompt ends"),
        Case("three in a row", _ids([BOS, 40], [BOS, BOS, BOS, 40]), "doubled"),
        Case("once more than in training", _ids([END, END, 40], [END, END, 40, END, END]), "doubled"),
        Case("doubled in both", _ids([BOS, BOS, 40, END], [BOS, BOS, 41, END]), "doubled"),
        Case("two kinds", _ids([BOS, 40, END], [40, END, END, BOS, BOS]), "doubled"),
        Case("more often, never neighbours", _ids([BOS, 40], [BOS, 40, BOS, 41, BOS]), "doubled"),
    ]
    for _ in range(5):
        words = [rng.randrange(20, 90) for _ in range(rng.randint(4, 9))]
        prompt = [BOS, START, 7, *words, END, START, 8]
        place = rng.randrange(3, 3 + len(words))
        cases += [
            Case("other token", _ids(prompt, [*prompt[:place], 99, *prompt[place + 1 :]]), "position"),
            Case("cut", _ids(prompt, prompt[:-2]), "one prompt ends"),
            Case("longer", _ids(prompt, [*prompt, *words[:2]]), "one prompt ends"),
            Case("lost token", _ids(prompt, prompt[:place] + prompt[place + 1 :]), "position"),
            Case(
                "doubled",
                _ids(prompt, [t for t in prompt for _ in range(2 if t in (BOS, END) else 1)]),
                "doubled",
            ),
            Case("word doubled", _ids(prompt, [*prompt[:place], prompt[place], *prompt[place:]]), "doubled"),
        ]
    return cases


# truncate

SYSTEM = "Use only the supplied policy evidence.\n\nEvidence: Report damage within 48 hours with photos."


def _say(*turns: str) -> list[dict[str, str]]:
    """Messages from 'u: words' lines; s, u and a are system, user and assistant."""
    roles = {"s": "system", "u": "user", "a": "assistant"}
    return [{"role": roles[turn[0]], "content": turn[3:]} for turn in turns]


def _thread(messages: list[dict[str, str]], tokens: list[int], budget: int) -> dict[str, Any]:
    return {"messages": messages, "tokens": tokens, "budget": budget}


THREAD = _say(
    f"s: {SYSTEM}",
    "u: Do you ship to Norway?",
    "a: Yes.",
    "u: My electronics arrived damaged.",
    "a: Report the damage within 48 hours and attach photos.",
    "u: Where do I upload photos?",
)
COSTS = [20, 10, 5, 9, 14, 9]


def _public_truncate() -> tuple[Case, ...]:
    late = [*THREAD[:3], *_say("s: Evidence: 14 days."), *THREAD[3:]]
    return (
        Case("an exact fit", _thread(THREAD, COSTS, 67), "limits", "Nothing needs to be lost."),
        Case(
            "one token over",
            _thread(THREAD, COSTS, 66),
            "what stays",
            "The evidence goes first, and the model invents a deadline.",
        ),
        Case(
            "half an exchange would fit",
            _thread(THREAD, COSTS, 45),
            "whole exchanges",
            "An answer without its question breaks the order of roles.",
        ),
        Case(
            "an older exchange would still fit",
            _thread(THREAD, [20, 2, 2, 30, 14, 9], 40),
            "whole exchanges",
            "The model reads a conversation that nobody had.",
        ),
        Case(
            "evidence in the middle of the thread",
            _thread(late, [20, 10, 5, 8, 9, 14, 9], 40),
            "what stays",
            "The newest evidence is what the last question is about.",
        ),
        Case(
            "a greeting before the first question",
            _thread([THREAD[0], *_say("a: Hello!"), *THREAD[3:]], [20, 3, 9, 14, 9], 54),
            "whole exchanges",
        ),
        Case(
            "the fixed part alone does not fit",
            _thread(THREAD, COSTS, 28),
            "refusals",
            "An answer without evidence is worse than none.",
            says=("budget",),
        ),
        Case("the assistant spoke last", _thread(THREAD[:5], COSTS[:5], 99), "refusals", says=("question",)),
        Case("a count is missing", _thread(THREAD, COSTS[:5], 99), "refusals", says=("tokens",)),
    )


def _private_truncate(rng: random.Random) -> list[Case]:
    alone = _say("u: Where?")
    cases = [
        Case("one question", _thread(alone, [5], 5), "limits"),
        Case("one question, too long", _thread(alone, [5], 4), "refusals", says=("budget",)),
        Case("nothing", _thread([], [], 9), "refusals", says=("question",)),
        Case("a negative budget", _thread(alone, [0], -1), "refusals", says=("budget",)),
        Case("more counts", _thread(alone, [5, 5], 50), "refusals", says=("tokens",)),
        Case("ends with system", _thread(THREAD[:1], [5], 50), "refusals", says=("question",)),
        Case("messages without cost", _thread(THREAD, [20, 0, 0, 9, 30, 9], 29), "whole exchanges"),
        Case("only the fixed part fits", _thread(THREAD, COSTS, 29), "limits"),
    ]
    for _ in range(6):
        messages, tokens = [THREAD[0]], [rng.randint(10, 30)]
        for turn in range(rng.randint(3, 5)):
            spoken = [f"u: question {turn}", f"a: answer {turn}"]
            if rng.random() < 0.3:
                spoken.append(f"a: and more {turn}")
            if rng.random() < 0.3:
                spoken.insert(rng.randint(0, 1), f"s: Evidence: {turn} days.")
            messages += _say(*spoken)
            tokens += [rng.randint(2, 15) for _ in spoken]
        messages += _say("u: And now?")
        tokens.append(rng.randint(3, 9))
        fixed = (
            sum(cost for m, cost in zip(messages, tokens, strict=True) if m["role"] == "system") + tokens[-1]
        )
        whole = sum(tokens)
        middle = rng.randint(fixed, whole - 1)
        cases += [
            Case("exact", _thread(messages, tokens, whole), "limits"),
            Case("one over", _thread(messages, tokens, whole - 1), "what stays"),
            Case("the least", _thread(messages, tokens, fixed), "what stays"),
            Case("in between", _thread(messages, tokens, middle), "whole exchanges"),
            Case("too little", _thread(messages, tokens, fixed - 1), "refusals", says=("budget",)),
        ]
    return cases


# diagnose

S, E = "<|im_start|>", "<|im_end|>"
BEGIN = "<|endoftext|>"
CUE = f"{S}assistant\n"


def _prompt(evidence: str, question: str) -> str:
    return f"{S}system\nUse only the supplied policy evidence.\n\nEvidence: {evidence}{E}\n{S}user\n{question}{E}\n{CUE}"


def _request(
    evidence: str, question: str, sent: str | None = None, *, grounded: bool = True, stopped: bool = True
) -> dict[str, Any]:
    expected = _prompt(evidence, question)
    record = {
        "expected": expected,
        "sent": expected if sent is None else sent,
        "special": [BEGIN, S, E],
        "cue": CUE,
        "evidence": evidence,
        "grounded": grounded,
        "stopped": stopped,
    }
    return {"record": record}


CLAUSE = "Warranty transfer: 83 months from the sale to register the new owner. Attach the test report."
ASKED = "How do I transfer a warranty?"
RIGHT = _prompt(CLAUSE, ASKED)
WRAPPED = f"<s> [INST] Use only the supplied policy evidence.\n\nEvidence: {CLAUSE}\n\n{ASKED} [/INST]"
PREFILL = "You have"


def _public_diagnose() -> tuple[Case, ...]:
    return (
        Case("right prompt, right answer", _request(CLAUSE, ASKED), "the prompt"),
        Case(
            "no cue, and the answer is right",
            _request(CLAUSE, ASKED, RIGHT.removesuffix(CUE)),
            "the prompt",
            "Measured on nano: 100 % grounded without a cue. The next model writes another customer question.",
        ),
        Case(
            "[INST] for a ChatML model",
            _request(CLAUSE, ASKED, WRAPPED, grounded=False),
            "the prompt",
            "Measured on nano: 28 % grounded in Mistral's frame.",
        ),
        Case(
            "two beginnings",
            _request(CLAUSE, ASKED, BEGIN * 2 + RIGHT),
            "the prompt",
            "Template and tokenizer both wrote the token.",
        ),
        Case(
            "prefill, closed, and a second cue",
            _request(CLAUSE, ASKED, f"{RIGHT}{PREFILL}{E}\n{CUE}"),
            "the prompt",
            "The customer reads 'You have You have'.",
        ),
        Case(
            "only the end was sent",
            _request(CLAUSE, ASKED, RIGHT[RIGHT.index("owner.") :], grounded=False),
            "the evidence",
            "The deadline is invented: measured on nano, 48 % grounded.",
        ),
        Case(
            "a trimmed line break",
            _request(CLAUSE, ASKED, RIGHT.replace("evidence.\n\n", "evidence.\n")),
            "other drift",
            "Every figure measured so far belongs to another prompt.",
        ),
        Case(
            "right prompt, no stop",
            _request(CLAUSE, ASKED, stopped=False),
            "the answer",
            "No server repairs an end that was never learned.",
        ),
        Case("right prompt, wrong facts", _request(CLAUSE, ASKED, grounded=False), "the answer"),
        Case(
            "cut, and no cue",
            _request(CLAUSE, ASKED, RIGHT[RIGHT.index("owner.") :].removesuffix(CUE), grounded=False),
            "the evidence",
        ),
        Case("nothing was logged", _request(CLAUSE, ASKED, ""), "refusals", says=("log",)),
    )


POLICIES = (
    (
        "Spoiled groceries: claim a credit within 38 months of delivery and send the payment record.",
        "My groceries arrived warm. What now?",
    ),
    (
        "Noisy freezer policy: customers book a service visit within 80 months after the first failure.",
        "Who looks at a noisy freezer?",
    ),
    ("Report the damage within 48 hours and attach photos.", "My electronics arrived damaged."),
    ("Late parcels: share the carrier scan in a support ticket.", "My parcel is late."),
)


def _private_diagnose(rng: random.Random) -> list[Case]:
    cases = []
    for evidence, question in rng.sample(POLICIES, 2):
        right = _prompt(evidence, question)
        frame = (
            f"<s> [INST] Use only the supplied policy evidence.\n\nEvidence: {evidence}\n\n{question} [/INST]"
        )
        cut = right[right.index(evidence) + rng.randint(3, len(evidence) - 3) :]
        grounded, stopped = rng.random() < 0.5, rng.random() < 0.5

        def made(sent: str | None = None, **verdict: bool) -> dict[str, Any]:
            return _request(evidence, question, sent, **verdict)  # noqa: B023

        cases += [
            Case("right", made(), "the prompt"),
            Case("no cue", made(right.removesuffix(CUE), grounded=grounded, stopped=stopped), "the prompt"),
            Case("foreign", made(frame, grounded=grounded, stopped=stopped), "the prompt"),
            Case("foreign, cut", made(frame[-25:], grounded=False), "the evidence"),
            Case("doubled", made(BEGIN + BEGIN + right, grounded=grounded), "the prompt"),
            Case("doubled end", made(right.replace(E, E + E, 1), grounded=grounded), "the prompt"),
            Case("doubled, no cue", made(BEGIN * 2 + right.removesuffix(CUE)), "the prompt"),
            Case("second cue", made(f"{right}{PREFILL}{E}\n{CUE}"), "the prompt"),
            Case("prefill only", made(right + PREFILL), "the prompt"),
            Case("cut", made(cut, grounded=grounded), "the evidence"),
            Case("one beginning more", made(BEGIN + right, grounded=grounded), "other drift"),
            Case("greeting", made(right.replace("Use only", "You are helpful. Use only")), "other drift"),
            Case("bad answer", made(grounded=False, stopped=rng.random() < 0.5), "the answer"),
            Case("runs on", made(stopped=False), "the answer"),
            Case("no log", made("", grounded=grounded), "refusals", says=("log",)),
        ]
    return cases


# blockers

CANDIDATE: dict[str, Any] = {
    "template_matches": True,
    "grounded": 1980,
    "cases": 2000,
    "critical_errors": 0,
    "critical_cases": 400,
    "latencies_ms": [300.0] * 18 + [620.0, 900.0],
    "latency_limit_ms": 700,
}


def _candidate(**changes: Any) -> dict[str, Any]:
    return {"candidate": {**CANDIDATE, **changes}}


def _public_blockers() -> tuple[Case, ...]:
    return (
        Case("match, 0.99 of 2,000, none critical, 620 ms", _candidate(), "order and decision"),
        Case(
            "match, 0.94, one critical, 410 ms",
            _candidate(grounded=1880, critical_errors=1, latencies_ms=[410.0] * 20),
            "order and decision",
            "A fast wrong answer reaches more customers.",
        ),
        Case(
            "everything is wrong",
            _candidate(template_matches=False, grounded=1500, critical_errors=3, latencies_ms=[900.0] * 5),
            "order and decision",
            "Whoever repairs the first finding only comes back three times.",
        ),
        Case(
            "20 of 20",
            _candidate(grounded=20, cases=20),
            "confidence",
            "A model that is wrong once in twenty passes such a test in one of three tries.",
        ),
        Case(
            "198 of 200",
            _candidate(grounded=198, cases=200),
            "confidence",
            "A rate of 0.99 on 200 cases may be 0.96 on the next.",
        ),
        Case("200 of 200", _candidate(grounded=200, cases=200), "confidence", "An honest run can pass."),
        Case(
            "one critical error in 2,000",
            _candidate(critical_errors=1),
            "critical slice",
            "One invented refund costs more than a hundred good answers earn.",
        ),
        Case(
            "no critical case was read",
            _candidate(critical_cases=0),
            "critical slice",
            "No error among no answers proves nothing.",
        ),
        Case(
            "2 of 20 are slow",
            _candidate(latencies_ms=[100.0] * 18 + [5000.0] * 2),
            "latency",
            "The mean is 590 ms, and every tenth customer waits five seconds.",
        ),
        Case(
            "only the slowest of 20 is above",
            _candidate(latencies_ms=[5000.0, *[100.0] * 18, 700.0]),
            "latency",
        ),
        Case("nothing was timed", _candidate(latencies_ms=[]), "latency"),
        Case("no cases", _candidate(grounded=0, cases=0), "confidence"),
        Case("more right than asked", _candidate(grounded=21, cases=20), "refusals", says=("cases",)),
    )


def _private_blockers(rng: random.Random) -> list[Case]:
    cases = [
        Case("188 of 188", _candidate(grounded=188, cases=188), "confidence"),
        Case("189 of 189", _candidate(grounded=189, cases=189), "confidence"),
        Case("exactly the rate", _candidate(grounded=1960, cases=2000), "confidence"),
        Case("one case", _candidate(grounded=1, cases=1), "confidence"),
        Case("none right", _candidate(grounded=0, cases=50), "confidence"),
        Case("negative", _candidate(grounded=-1, cases=20), "refusals", says=("cases",)),
        Case("negative cases", _candidate(grounded=0, cases=-5), "refusals", says=("cases",)),
        Case("exactly the limit", _candidate(latencies_ms=[700.0] * 20), "latency"),
        Case("one request", _candidate(latencies_ms=[701.0]), "latency"),
        Case(
            "21 requests, the two slowest", _candidate(latencies_ms=[*[100.0] * 19, 800.0, 800.0]), "latency"
        ),
        Case("another device", _candidate(latency_limit_ms=619), "latency"),
    ]
    for _ in range(3):
        n = rng.choice([400, 600, 1000, 3000])
        times = [float(rng.randint(80, 600)) for _ in range(rng.choice([10, 19, 20, 40, 100]))]
        slow = len(times) // 20
        for position in range(slow):
            times[position] = 4000.0
        rng.shuffle(times)
        cases += [
            Case("clearly good", _candidate(grounded=n - 1, cases=n, latencies_ms=times), "confidence"),
            Case("clearly bad", _candidate(grounded=int(n * 0.97), cases=n), "confidence"),
            Case("few", _candidate(grounded=(few := rng.randint(5, 150)), cases=few), "confidence"),
            Case(
                "slow tail", _candidate(latencies_ms=[*times, *[4000.0] * (len(times) // 10 + 1)]), "latency"
            ),
            Case("fast enough", _candidate(latencies_ms=times), "latency"),
            Case("critical", _candidate(critical_errors=rng.randint(1, 5)), "critical slice"),
            Case(
                "one in many",
                _candidate(critical_errors=1, critical_cases=rng.randint(300, 2000)),
                "critical slice",
            ),
            Case("unread", _candidate(critical_cases=0, critical_errors=0), "critical slice"),
            Case(
                "several",
                _candidate(
                    template_matches=rng.random() < 0.5,
                    grounded=rng.choice([1700, 2000]),
                    critical_errors=rng.choice([0, 2]),
                    latencies_ms=rng.choice([[200.0] * 30, [900.0] * 30]),
                ),
                "order and decision",
            ),
        ]
    return cases


EXERCISES = (
    Exercise(
        name="manifest_mismatches",
        lab=LAB,
        hints=(
            "Which names do you have to look at, if a name may be missing on either side?",
            "Use leaves on both manifests. A name that is missing is not the same as a name whose value is None, so ask with `in`, not with `get`.",
            "flatten both; refuse an empty first one; names = those of the first, then those only in the second; keep a name if it is missing on one side, or if the values differ.",
        ),
        properties={"values": 3, "one side only": 3, "nested": 2, "refusals": 1},
        public=_public_manifest(),
        private=_private_manifest,
    ),
    Exercise(
        name="first_difference",
        lab=LAB,
        hints=(
            "What should happen when one prompt is the beginning of the other?",
            "Look at positions up to the length of the longer prompt, and treat 'has ended' as a value of its own. For doubled tokens, compare neighbours in each prompt, and only special ones.",
            "pad the shorter list with None; find the first position with two values; count for each special id how often it follows itself, in both prompts; keep those with more in the served one.",
        ),
        properties={"position": 2, "one prompt ends": 2, "doubled": 3, "refusals": 1},
        public=_public_ids(),
        private=_private_ids,
    ),
    Exercise(
        name="truncate",
        lab=LAB,
        hints=(
            "Which messages must be there, whatever the budget? What do they cost?",
            "Work with positions, not with messages: a set of kept positions, the rest grouped into exchanges. Then walk the exchanges from the newest.",
            "kept = system positions and the last; refuse if they cost too much; group the others, a new group at each user message; from the newest group on: if it fits, keep it, else stop.",
        ),
        properties={"what stays": 3, "whole exchanges": 3, "limits": 1, "refusals": 2},
        public=_public_truncate(),
        private=_private_truncate,
    ),
    Exercise(
        name="diagnose",
        lab=LAB,
        hints=(
            "Which part of the record says what the model really read?",
            "Test each sign on the prompt by itself, in the order of the docstring. Only when the prompt equals the expected one do the verdicts on the answer count.",
            "refuse an empty prompt; one true or false per sign; collect the names that are true; if the prompts differ: those names, or other_drift; else: labels_or_rows if the answer failed.",
        ),
        properties={"the prompt": 4, "the evidence": 2, "other drift": 1, "the answer": 2, "refusals": 1},
        public=_public_diagnose(),
        private=_private_diagnose,
    ),
    Exercise(
        name="blockers",
        lab=LAB,
        hints=(
            "What does each figure prove when there are only a few cases, or none?",
            "Compute the lower end of Wilson's interval with n = 0 treated apart. Sort the times and take position ceil(0.95 n), counted from 1. Collect all findings, in order.",
            "refuse impossible counts; lower = Wilson(grounded, cases); p95 = sorted times at that rank; four true-or-false findings in a fixed order; return the names of the true ones.",
        ),
        properties={
            "order and decision": 2,
            "confidence": 3,
            "critical slice": 2,
            "latency": 2,
            "refusals": 1,
        },
        public=_public_blockers(),
        private=_private_blockers,
    ),
)
