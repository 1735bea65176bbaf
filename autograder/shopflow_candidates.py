"""ShopFlow's candidate rows for lab 03, with a third of them defective in known ways.

`python -m autograder.shopflow_candidates` reads assets/shopflow/policies.yaml and writes evidence.json and
candidates.jsonl beside it, what lab 03's reference accepts of them with its manifest, and the labels, which
students do not get, to autograder/shopflow_labels.json.
With `--check` nothing is written: it fails when a file is stale.
"""

import hashlib
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rapidfuzz.distance import Indel

from autograder.atomic_write import write_atomically
from autograder.checks.reference import notebook, reference
from autograder.shopflow import FOLDER, SEED, SYSTEM, Policy, PolicyError, load_policies, numbers, to_jsonl
from autograder.shopflow_defects import (
    CLAIMS,
    CLOSERS,
    DENIALS,
    HABITS,
    LOOKALIKES,
    NUMBERS,
    ONCE_MORE,
    OPENERS,
    PERSONAL,
    PLACEHOLDER,
)
from autograder.shopflow_evidence import Evidence, Superseded, load_superseded, snapshot, to_json

LAB = "03_grounding"
LABELS = Path(__file__).with_name("shopflow_labels.json")
SOURCES = ("reviewed", "synthetic", "transcript")
# What reviewers have written about so far: the common questions, and every high-risk policy.
REVIEWED = (
    "damaged_electronics",
    "late_delivery",
    "wrong_item",
    "order_cancellation",
    "address_change",
    "price_match",
    "refund_timing",
    "double_charge",
    "spoiled_food",
)
# rows of each kind: source -> kind -> number; "clean" rows are right, the other kinds are defects
PLAN: dict[str, dict[str, int]] = {
    "reviewed": {"clean": 126, "stale_evidence": 16, "missing_fact": 8},
    "synthetic": {
        "clean": 208,
        "missing_fact": 24,
        "forbidden_claim": 32,
        "unsupported_number": 16,
        "near_duplicate": 36,
        "conflict": 4,
    },
    "transcript": {
        "clean": 84,
        "partial_answer": 24,
        "personal_data": 24,
        "unwanted_reply": 20,
        "stale_evidence": 12,
        "over_length": 6,
    },
}
REVIEW_KINDS = ("partial_answer", "conflict")
NEAR = 0.7
# Clean rows keep a distance from the threshold, so that no rounding decides.
APART = 0.66
LONG_THREAD = 22

Row = dict[str, Any]
Chat = list[dict[str, str]]


def _say(*turns: str) -> Chat:
    roles = ("user", "assistant")
    return [{"role": roles[n % 2], "content": text} for n, text in enumerate(turns)]


def question_of(row: Row) -> str:
    """What the customer says in a row, all turns together."""
    return "\n".join(m["content"] for m in row["messages"] if m["role"] == "user")


def _words(text: str) -> list[str]:
    return "".join(c if c.isalnum() else " " for c in text.casefold()).split()


def alike(one: str, other: str) -> float:
    """ROUGE-L F of two texts, 0 to 1: twice the longest common subsequence over the sum of the lengths."""
    return Indel.normalized_similarity(_words(one), _words(other))


class _Maker:
    """Draws rows: no question is asked twice of the same policy unless a defect wants it."""

    def __init__(self, policies: Sequence[Policy], superseded: Sequence[Superseded], seed: int) -> None:
        self.rng = random.Random(f"{seed}:candidates")
        self.evidence = snapshot(policies, superseded)
        self.policies = {p.id: p for p in policies if p.split == "train"}
        self.superseded = list(superseded)
        self.used: dict[str, list[str]] = {}
        self.rows: list[Row] = []
        self._turn: Counter[str] = Counter()

    def make(self) -> list[Row]:
        """All rows, with a key "label" that is taken off before they are written."""
        makers: dict[str, Callable[[str], None]] = {
            "clean": self._clean,
            "missing_fact": self._missing_fact,
            "forbidden_claim": self._forbidden_claim,
            "unsupported_number": self._unsupported_number,
            "near_duplicate": self._near_duplicate,
            "conflict": self._conflict,
            "stale_evidence": self._stale_evidence,
            "personal_data": self._personal_data,
            "unwanted_reply": self._unwanted_reply,
            "partial_answer": self._partial_answer,
            "over_length": self._over_length,
        }
        self._running_example()
        # what needs particular questions comes first, and what builds on right rows last
        order = ("partial_answer", "conflict", "clean", *makers)
        for kind in dict.fromkeys(order):
            for source in SOURCES:
                wanted = PLAN[source].get(kind, 0)
                there = sum((r["source"], r["label"]["kind"]) == (source, kind) for r in self.rows)
                for _ in range(wanted - there):
                    makers[kind](source)
        return self._numbered()

    def _running_example(self) -> None:
        for source, kind, name, question, answer in (
            (
                "reviewed",
                "clean",
                "damaged_electronics",
                0,
                "Report the damage within 48 hours and attach photos.",
            ),
            (
                "synthetic",
                "forbidden_claim",
                "damaged_electronics",
                0,
                "Return any damaged electronics within 30 days.",
            ),
            (
                "reviewed",
                "clean",
                "late_delivery",
                0,
                "Share the carrier scan in a support ticket so we can investigate.",
            ),
        ):
            asked = self.policies[name].questions[question]
            self.used.setdefault(name, []).append(asked)
            self._add(source, kind, name, _say(asked, answer))

    # ------------------------------------------------------------ parts of rows

    def _policy_id(self, source: str, *, own: bool = False) -> str:
        """Policies take turns; about one row in four is ShopFlow's own, the others of a partner shop."""
        intents = [i for i in self.policies if source != "reviewed" or i in REVIEWED]
        intent = intents[self._turn[source] % len(intents)]
        self._turn[source] += 1
        if own or self.rng.random() < 0.25:
            return intent
        return f"{intent}.shop{self.rng.randint(1, len(self.policies[intent].variants))}"

    def _in_shop(self, policy_id: str, text: str) -> str:
        intent, _, shop = policy_id.partition(".shop")
        policy = self.policies[intent]
        for name, other in (policy.variants[int(shop) - 1] if shop else {}).items():
            text = text.replace(name, other)
        return text

    def _question(self, policy_id: str, *rest: str) -> str | None:
        """A question unlike all that rows of this policy have asked; None when they are used up."""
        asked = self.used.setdefault(policy_id, [])
        pool = list(self.policies[policy_id.partition(".")[0]].questions)
        self.rng.shuffle(pool)
        for question in pool:
            whole = "\n".join((question, *rest))
            if all(alike(whole, other) < APART for other in asked):
                asked.append(whole)
                return question
        return None

    def _any(self, source: str, *, own: bool = False) -> tuple[str, str]:
        """A policy and any of its questions: what is rejected anyway may ask what a right row asks, too."""
        policy_id = self._policy_id(source, own=own)
        return policy_id, self.rng.choice(self.policies[policy_id.partition(".")[0]].questions)

    def _fresh(self, source: str, *rest: str, own: bool = False) -> tuple[str, str]:
        for _ in range(200):
            policy_id = self._policy_id(source, own=own)
            if question := self._question(policy_id, *rest):
                return policy_id, question
        raise RuntimeError("The questions of policies.yaml are used up: ask for fewer rows.")

    def _answer(self, policy_id: str) -> str:
        answers = self.policies[policy_id.partition(".")[0]].answers
        return self._in_shop(policy_id, self.rng.choice(answers))

    def _add(
        self,
        source: str,
        kind: str,
        policy_id: str,
        turns: Chat,
        *,
        version: int | None = None,
        clause: str = "",
        asks: list[list[str]] | None = None,
        twin: Row | None = None,
    ) -> None:
        entry = self.evidence[policy_id]
        evidence = clause or entry["clause"]
        row: Row = {
            "id": "",
            "source": source,
            "intent": entry["intent"],
            "policy_id": policy_id,
            "policy_version": version or entry["version"],
            "messages": [{"role": "system", "content": SYSTEM.format(evidence=evidence)}, *turns],
            "label": {"kind": kind, "twin": twin},
        }
        if asks:
            row["asks"] = asks
        self.rows.append(row)

    # ------------------------------------------------------------ kinds of rows

    def _clean(self, source: str) -> None:
        draw = self.rng.random()
        if source == "transcript" and draw < 0.35:
            again = self.rng.choice(ONCE_MORE)
            policy_id, question = self._fresh(source, again)
            turns = _say(question, self._answer(policy_id), again, self._answer(policy_id))
        elif source == "transcript" and draw < 0.55:
            extra = self.rng.choice(LOOKALIKES)
            policy_id, question = self._fresh(source, extra)
            turns = _say(f"{question} {extra}", self._answer(policy_id))
        elif source == "synthetic" and draw < 0.03:
            policy_id = self.rng.choice(list(DENIALS))
            denied, again = self._question(policy_id), self._answer(policy_id)
            if denied is None:
                return self._clean(source)
            turns = _say(denied, f"{again} {DENIALS[policy_id]}")
        elif source == "synthetic" and draw < 0.06:
            policy_id, question = self._fresh(source, own=True)
            turns = _say(question, self._reworded(policy_id))
        else:
            policy_id, question = self._fresh(source)
            turns = _say(question, self._answer(policy_id))
        self._add(source, "clean", policy_id, turns)

    def _reworded(self, policy_id: str) -> str:
        """An answer with another accepted wording of a fact, or typed with other dashes and spaces."""
        answer = self._answer(policy_id)
        for fact in self.evidence[policy_id]["required"]:
            others = [w for w in fact["wordings"] if w != fact["name"] and "-" not in w]
            if others and fact["name"] in answer:
                return answer.replace(fact["name"], self.rng.choice(others))
        return answer.replace(" ", "\u00a0", 3)

    def _missing_fact(self, source: str) -> None:
        policy_id, question = self._any(source, own=True)
        turn = self.rng.choice(self.policies[policy_id].follow_ups)
        self._add(source, "missing_fact", policy_id, _say(question, turn.answer))

    def _forbidden_claim(self, source: str) -> None:
        policy_id, question = self._any(source, own=True)
        claim = self.rng.choice(self.evidence[policy_id]["forbidden"])["name"]
        answer = f"{self._answer(policy_id)} {CLAIMS[policy_id, claim]}"
        self._add(source, "forbidden_claim", policy_id, _say(question, answer))

    def _unsupported_number(self, source: str) -> None:
        policy_id, question = self._any(source)
        there = numbers(self.evidence[policy_id]["clause"])
        number = self.rng.choice([n for n in (17, 23, 29, 34, 41, 43, 47, 53, 57) if str(n) not in there])
        extra = self.rng.choice(NUMBERS).format(number=number)
        self._add(
            source, "unsupported_number", policy_id, _say(question, f"{self._answer(policy_id)} {extra}")
        )

    def _near_duplicate(self, source: str) -> None:
        clean = [
            row
            for row in self.rows
            if row["label"]["kind"] == "clean"
            and len(row["messages"]) == 3
            and self.evidence[row["policy_id"]]["risk"] != "high"
            # its answers differ too much from each other: that is the kind "conflict"
            and row["intent"] != "late_delivery"
            and not any(other["label"]["twin"] is row for other in self.rows)
        ]
        while True:
            twin = self.rng.choice(clean)
            question, answer = (m["content"] for m in twin["messages"][1:])
            variant = self.rng.choice(
                (
                    f"{self.rng.choice(OPENERS)} {question}",
                    f"{question} {self.rng.choice(CLOSERS)}",
                    question.lower().rstrip(".?!"),
                    question.replace("?", "??").replace(".", "!"),
                )
            )
            if variant != question and alike(variant, question) >= NEAR + 0.05:
                break
        other = self._answer(twin["policy_id"])
        if alike(other, answer) >= NEAR and re.findall(r"\d+", other) == re.findall(r"\d+", answer):
            answer = other
        self._add(source, "near_duplicate", twin["policy_id"], _say(variant, answer), twin=twin)

    def _conflict(self, source: str) -> None:
        """The same question, answered rightly in words that have little in common."""
        styles = self.policies["late_delivery"].answers
        first, other = styles[0], styles[-1]
        while True:
            policy_id = self.rng.choice([i for i in self.evidence if i.startswith("late_delivery")])
            if question := self._question(policy_id):
                break
        self._add("reviewed", "clean", policy_id, _say(question, self._in_shop(policy_id, first)))
        twin = self.rows[-1]
        asked = f"{question} {self.rng.choice(CLOSERS)}"
        if alike(asked, question) < NEAR + 0.05:
            asked = question.upper()
        self._add(source, "conflict", policy_id, _say(asked, self._in_shop(policy_id, other)), twin=twin)

    def _stale_evidence(self, source: str) -> None:
        old = self.superseded[self._turn["stale"] % len(self.superseded)]
        self._turn["stale"] += 1
        question = self.rng.choice(self.policies[old.policy].questions)
        answer = self._answer(old.policy)
        for name, then in old.facts.items():
            answer = answer.replace(name, then)
        # every fourth row got the new version's number and kept the old text
        version = old.version if self._turn["stale"] % 4 else self.policies[old.policy].version
        self._add(
            source,
            "stale_evidence",
            old.policy,
            _say(question, answer),
            version=version,
            clause=old.clause,
        )

    def _personal_data(self, source: str) -> None:
        policy_id, question = self._any(source)
        personal, answer = PERSONAL[self._turn["personal"] % len(PERSONAL)], self._answer(policy_id)
        self._turn["personal"] += 1
        if self.rng.random() < 0.7:
            turns = _say(f"{question} {personal}", answer)
        else:
            turns = _say(question, answer, f"{personal} Can you confirm?", answer)
        self._add(source, "personal_data", policy_id, turns)

    def _unwanted_reply(self, source: str) -> None:
        policy_id, question = self._any(source)
        answer = self._answer(policy_id)
        if self.rng.random() < 0.2:
            said = PLACEHOLDER + answer[0].lower() + answer[1:]
        else:
            said = f"{answer} {self.rng.choice(HABITS)}"
        self._add(source, "unwanted_reply", policy_id, _say(question, said))

    def _partial_answer(self, source: str) -> None:
        number = self._turn["partial"]
        self._turn["partial"] += 1
        intent = list(self.policies)[number % len(self.policies)]
        policy = self.policies[intent]
        turn = policy.follow_ups[number // len(self.policies) % 2]
        every = [fact.name for fact in policy.required]
        question = self._question(intent, turn.question)
        if question is None:
            raise RuntimeError(f"The questions of '{intent}' are used up: ask for fewer rows.")
        turns = _say(question, self._answer(intent), turn.question, turn.answer)
        self._add(source, "partial_answer", intent, turns, asks=[every, turn.required])

    def _over_length(self, source: str) -> None:
        policy_id, question = self._any(source)
        said = [question, self._answer(policy_id)]
        for n in range(LONG_THREAD):
            said += [ONCE_MORE[n % len(ONCE_MORE)], self._answer(policy_id)]
        self._add(source, "over_length", policy_id, _say(*said))

    def _numbered(self) -> list[Row]:
        self.rng.shuffle(self.rows)
        number: Counter[str] = Counter()
        for row in self.rows:
            number[row["source"]] += 1
            row["id"] = f"{row['source']}-{number[row['source']]:04d}"
        return self.rows


def outcome(row: Row, evidence: Evidence) -> dict[str, Any]:
    """What a correct filter does with a made row: its defect, if it has one, and where it ends."""
    kind, twin = row["label"]["kind"], row["label"]["twin"]
    if kind == "clean":
        high = evidence[row["policy_id"]]["risk"] == "high" and row["source"] != "reviewed"
        return {"defect": None, "outcome": "review" if high else "accepted"}
    found = {"defect": kind, "outcome": "review" if kind in REVIEW_KINDS else "rejected"}
    return found | ({"twin": twin["id"]} if twin else {})


def build(
    policies: Sequence[Policy], superseded: Sequence[Superseded], seed: int = SEED
) -> tuple[list[Row], dict[str, dict[str, Any]], Evidence]:
    """The rows without token counts, their labels by id, and the evidence snapshot they refer to."""
    maker = _Maker(policies, superseded, seed)
    rows = maker.make()
    # of a row and its near-duplicate the one with the smaller id stays, whichever was made first
    labels = {row["id"]: outcome(row, maker.evidence) for row in rows}
    for row in rows:
        twin = row["label"]["twin"]
        if twin is not None and row["id"] < twin["id"]:
            labels[twin["id"]], labels[row["id"]] = (
                {**labels[row["id"]], "twin": row["id"]},
                labels[twin["id"]],
            )
    shown = [{key: value for key, value in row.items() if key != "label"} for row in rows]
    return shown, dict(sorted(labels.items())), maker.evidence


def with_tokens(rows: Sequence[Row]) -> list[Row]:
    """The rows with "tokens": the length of the rendered conversation by SmolLM2's tokenizer and template."""
    from chatcontract.models import load_tokenizer

    tokenizer = load_tokenizer("smollm2-135m")
    counted = []
    for row in rows:
        text = tokenizer.apply_chat_template(row["messages"], tokenize=False)
        count = len(tokenizer(text, add_special_tokens=False)["input_ids"])
        counted.append({**row, "tokens": count})
    return counted


def accepted(rows: Sequence[Row], evidence: Evidence) -> list[Row]:
    """The rows that lab 03's reference accepts, in the order of the candidates."""
    chosen = set(reference(LAB, "accept")(rows=list(rows), policies=evidence)["accepted"])
    return [row for row in rows if row["id"] in chosen]


def manifest(evidence: bytes, candidates: bytes, kept: bytes, seed: int) -> bytes:
    """What the accepted rows were made of: SHA-256 of evidence, candidates, filter code and rows."""
    code = [cell.source for cell in notebook(LAB).cells if cell.metadata.get("nbgrader", {}).get("solution")]
    parts = {
        "evidence": evidence,
        "candidates": candidates,
        "filters": "\n".join(code).encode(),
        "rows": kept,
    }
    content = {
        "generator": {"name": "autograder.shopflow_candidates", "seed": seed},
        "number_of_rows": len(kept.splitlines()),
        "sha256": {name: hashlib.sha256(part).hexdigest() for name, part in parts.items()},
    }
    return (json.dumps(content, indent=2) + "\n").encode()


def files(seed: int = SEED, folder: Path = FOLDER) -> dict[str, bytes]:
    """The content of every generated file by its name."""
    policies = load_policies(folder / "policies.yaml")
    rows, labels, evidence = build(policies, load_superseded(policies, folder / "policies.yaml"), seed)
    lines = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in labels.items()]
    counted = with_tokens(rows)
    shown, kept = to_jsonl(counted), to_jsonl(accepted(counted, evidence))
    return {
        "evidence.json": to_json(evidence),
        "candidates.jsonl": shown,
        "accepted.jsonl": kept,
        "accepted.manifest.json": manifest(to_json(evidence), shown, kept, seed),
        LABELS.name: ("{\n" + ",\n".join(lines) + "\n}\n").encode(),
    }


def main(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail when a file is stale.")] = False,
    seed: Annotated[int, typer.Option(help="Another seed gives a fresh variant for a class.")] = SEED,
    out: Annotated[Path, typer.Option(help="Folder for what students get.")] = FOLDER,
    labels: Annotated[Path, typer.Option(help="File for the labels, which students do not get.")] = LABELS,
) -> None:
    """Write ShopFlow's candidate rows, their evidence, their labels and the accepted rows."""
    try:
        made = files(seed)
    except (OSError, PolicyError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    paths = {name: labels if name == LABELS.name else out / name for name in made}
    if check:
        stale = [n for n, path in paths.items() if not path.is_file() or path.read_bytes() != made[n]]
        if stale:
            said = f"Stale: {', '.join(stale)}. Run 'python -m autograder.shopflow_candidates'."
            typer.echo(said, err=True)
            raise typer.Exit(1)
        typer.echo("The candidates and what is made of them are up to date.")
        return
    out.mkdir(parents=True, exist_ok=True)
    for name, content in made.items():
        write_atomically(paths[name], content)
        typer.echo(f"{paths[name]}: {len(content.splitlines())} lines")


if __name__ == "__main__":
    typer.run(main)
