"""ShopFlow's policies: the schema, the rules they must keep, and the rows that are made from them.

`python -m autograder.shopflow` reads assets/shopflow/policies.yaml and writes sft_train.jsonl,
eval_public.jsonl and eval_two_clauses.jsonl beside it. With `--check` nothing is written: it fails when a
file is stale.
"""

import json
import random
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from itertools import cycle
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

FOLDER = Path(__file__).resolve().parent.parent / "assets" / "shopflow"
SYSTEM = "Use only the supplied policy evidence.\n\nEvidence: {evidence}"
SEED = 20250601
TRAIN_ROWS_PER_POLICY = 30

# "one" is left out: it is a pronoun far more often than a number.
_NUMBER_WORDS = (
    "two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen"
    "|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred|thousand|dozen"
)
_NUMBER = re.compile(rf"\d+|(?<![a-z])(?:{_NUMBER_WORDS})(?![a-z])", re.IGNORECASE)

Text = Annotated[str, Field(min_length=1, pattern=r"^\S(?:.*\S)?$")]
Row = dict[str, Any]


class PolicyError(ValueError):
    """A policy breaks a rule: the message is one sentence that names the policy and the field."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Fact(_Strict):
    """Something an answer states, and the wordings that count as stating it (upper or lower case alike)."""

    name: Text
    wordings: list[Text] = Field(min_length=1)


class Claim(Fact):
    """Something an answer must not say; `unless` holds phrases in which one of the wordings is no claim."""

    unless: list[Text] = []


class FollowUp(_Strict):
    """A second question, its reference answer, and the names of the facts which that turn asks for."""

    question: Text
    answer: Text
    required: list[Text] = Field(min_length=1)


class Policy(_Strict):
    """One policy of policies.yaml: the comment at the top of that file explains the fields."""

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(?:_[a-z0-9]+)*$")]
    title: Text
    clause: Text
    version: Annotated[int, Field(ge=1)]
    effective: date
    risk: Literal["low", "medium", "high"]
    split: Literal["train", "heldout"]
    related: list[str] = []
    required: list[Fact] = Field(min_length=2)
    variants: list[dict[Text, Text]] = []
    forbidden: list[Claim] = Field(min_length=1)
    questions: list[Text] = Field(min_length=14, max_length=18)
    answers: list[Text] = Field(min_length=2, max_length=4)
    follow_ups: list[FollowUp] = Field(min_length=2, max_length=2)

    def texts(self) -> Iterator[tuple[str, str]]:
        """(field, text) for everything of this policy that a model may see."""
        yield "clause", self.clause
        for number, question in enumerate(self.questions, 1):
            yield f"questions[{number}]", question
        for number, answer in enumerate(self.answers, 1):
            yield f"answers[{number}]", answer
        for number, turn in enumerate(self.follow_ups, 1):
            yield f"follow_ups[{number}].question", turn.question
            yield f"follow_ups[{number}].answer", turn.answer


def states(text: str, wordings: Sequence[str]) -> bool:
    """Whether one of the wordings stands in the text as whole words, upper or lower case alike."""
    return any(re.search(rf"(?<!\w){re.escape(w)}(?!\w)", text, re.IGNORECASE) for w in wordings)


def numbers(text: str) -> set[str]:
    """The digit groups and number words of a text; "forty-eight" gives "forty" and "eight"."""
    return {match.lower() for match in _NUMBER.findall(text)}


def load_policies(path: Path = FOLDER / "policies.yaml") -> list[Policy]:
    """The validated policies of a YAML file.

    Raises:
        PolicyError: the file is not valid YAML, or a policy breaks a rule of `validate`.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it cannot be parsed"
        raise PolicyError(f"{path.name} is not valid YAML{where}: {problem}.") from None
    if not isinstance(raw, dict) or not isinstance(raw.get("policies"), list):
        raise PolicyError(f"{path.name} must hold one key 'policies' with a list of policies.")
    return validate(raw["policies"])


def validate(policies: Sequence[object]) -> list[Policy]:
    """Check the schema, each policy by itself, and that nothing leaks from held-out to training policies.

    Args:
        policies: mappings with the fields of `Policy`, or `Policy` objects.

    Returns:
        The policies as `Policy` objects, in the order given.

    Raises:
        PolicyError: the first rule that is broken, in one sentence naming policy and field.
    """
    checked = [_parse(position, policy) for position, policy in enumerate(policies, 1)]
    ids = [policy.id for policy in checked]
    for policy in checked:
        if ids.count(policy.id) > 1:
            raise PolicyError(f"Policy '{policy.id}', field 'id': used more than once; give each its own id.")
        for other in policy.related:
            if other == policy.id or other not in ids:
                _fail(policy, "related", f"'{other}' is not the id of another policy")
        _check_facts(policy)
        _check_variants(policy)
        _check_questions(policy)
        _check_answers(policy)
    _check_isolation(checked)
    return checked


def _fail(policy: Policy, field: str, problem: str) -> None:
    raise PolicyError(f"Policy '{policy.id}', field '{field}': {problem}.")


def _parse(position: int, raw: object) -> Policy:
    if isinstance(raw, Policy):
        return raw
    name = f"'{raw['id']}'" if isinstance(raw, dict) and raw.get("id") else f"number {position}"
    try:
        return Policy.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        # People count list entries from one.
        parts = [f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in first["loc"]]
        field = "".join(parts).lstrip(".") or "(the whole entry)"
        raise PolicyError(f"Policy {name}, field '{field}': {first['msg'].rstrip('.')}.") from None


def _check_facts(policy: Policy) -> None:
    allowed = [policy.clause, *(w for fact in policy.required for w in fact.wordings)]
    for field, facts in (("required", policy.required), ("forbidden", policy.forbidden)):
        names = [fact.name for fact in facts]
        for name in names:
            if names.count(name) > 1:
                _fail(policy, field, f"'{name}' is listed more than once")
    for claim in policy.forbidden:
        for phrase in claim.unless:
            if not any(wording.lower() in phrase.lower() for wording in claim.wordings):
                _fail(policy, "forbidden", f"'{phrase}' holds no wording of '{claim.name}'")
    for fact in policy.required:
        if not states(policy.clause, fact.wordings):
            _fail(policy, "required", f"the clause does not state '{fact.name}' in any accepted wording")
    for claim in policy.forbidden:
        for wording in claim.wordings:
            for text in allowed:
                if wording.lower() in text.lower():
                    _fail(policy, "forbidden", f"'{wording}' is part of '{text}', which is allowed")


def _check_variants(policy: Policy) -> None:
    names = [fact.name for fact in policy.required]
    for n, variant in enumerate(policy.variants, 1):
        if sorted(variant) != sorted(names):
            _fail(policy, f"variants[{n}]", f"it must give another wording for each of {', '.join(names)}")
        for field, text in (
            ("clause", policy.clause),
            *((f"answers[{k}]", a) for k, a in enumerate(policy.answers, 1)),
        ):
            for name in names:
                if name not in text:
                    _fail(policy, field, f"it must hold '{name}' literally, since the policy has variants")


def _in_variant(text: str, variant: Mapping[str, str]) -> str:
    for name, other in variant.items():
        text = text.replace(name, other)
    return text


def _check_questions(policy: Policy) -> None:
    facts = set().union(*(numbers(w) for fact in policy.required for w in fact.wordings))
    asked = [(f"questions[{n}]", q) for n, q in enumerate(policy.questions, 1)]
    asked += [(f"follow_ups[{n}].question", turn.question) for n, turn in enumerate(policy.follow_ups, 1)]
    seen: set[str] = set()
    for field, question in asked:
        if leaked := sorted(numbers(question) & facts):
            _fail(policy, field, f"the question holds '{leaked[0]}', a number of a required fact")
        if re.search(r"\d", question):
            _fail(policy, field, "the question holds a digit, which could pass for a fact")
        if question.lower() in seen:
            _fail(policy, field, f"'{question}' stands there twice")
        seen.add(question.lower())


def _check_answers(policy: Policy) -> None:
    every = [fact.name for fact in policy.required]
    answers = [(f"answers[{n}]", text, every) for n, text in enumerate(policy.answers, 1)]
    for n, turn in enumerate(policy.follow_ups, 1):
        for name in turn.required:
            if name not in every:
                _fail(policy, f"follow_ups[{n}].required", f"'{name}' is not a required fact of this policy")
        answers.append((f"follow_ups[{n}].answer", turn.answer, turn.required))
    evidence = set().union(
        numbers(policy.clause), *(numbers(w) for fact in policy.required for w in fact.wordings)
    )
    for field, text, needed in answers:
        for fact in policy.required:
            if fact.name in needed and not states(text, fact.wordings):
                _fail(policy, field, f"the answer does not state '{fact.name}'")
        for claim in policy.forbidden:
            if states(text, claim.wordings):
                _fail(policy, field, f"the answer makes the forbidden claim '{claim.name}'")
        if invented := sorted(numbers(text) - evidence):
            _fail(policy, field, f"the answer holds the number '{invented[0]}', which the clause does not")
    if len({text.lower() for text in policy.answers}) < len(policy.answers):
        _fail(policy, "answers", "the same answer stands there twice")


def _check_isolation(policies: Sequence[Policy]) -> None:
    train = [policy for policy in policies if policy.split == "train"]
    for heldout in policies:
        if heldout.split != "heldout":
            continue
        for fact in heldout.required:
            fact_numbers = set().union(*(numbers(w) for w in fact.wordings))
            for policy in train:
                for field, text in policy.texts():
                    if states(text, fact.wordings):
                        problem = f"states '{fact.name}', a fact of the held-out policy '{heldout.id}'"
                        _fail(policy, field, problem)
                    if shared := sorted(fact_numbers & numbers(text)):
                        problem = f"holds the number '{shared[0]}' of the held-out policy '{heldout.id}'"
                        _fail(policy, field, problem)


def _distractors(policy: Policy, policies: Sequence[Policy], rng: random.Random) -> Iterator[Policy]:
    """Policies of the same split, each in turn, that no question of `policy` could be meant for."""
    pool = [
        other
        for other in policies
        if other.split == policy.split
        and other.id != policy.id
        and other.id not in policy.related
        and policy.id not in other.related
    ]
    rng.shuffle(pool)
    return cycle(pool)


def _conversation(
    clause: str, question: str, distractor: Policy | None, rng: random.Random
) -> list[dict[str, str]]:
    clauses = [clause] if distractor is None else [clause, distractor.clause]
    rng.shuffle(clauses)
    return [
        {"role": "system", "content": SYSTEM.format(evidence=" ".join(clauses))},
        {"role": "user", "content": question},
    ]


def _asking_order(policy: Policy, rng: random.Random) -> list[str]:
    rest = policy.questions[1:]
    rng.shuffle(rest)
    return [policy.questions[0], *rest]


def _train_rows_of(policy: Policy, seed: int) -> list[Row]:
    rng = random.Random(f"{seed}:train:{policy.id}")
    questions = _asking_order(policy, rng)
    used: dict[str, str] = {}
    rows = []
    for rank in range(TRAIN_ROWS_PER_POLICY):
        question = questions[rank % len(questions)]
        if rank == 0:
            answer = policy.answers[0]
        else:
            answer = rng.choice([a for a in policy.answers if a != used.get(question)])
        used[question] = answer
        # variant 0 is ShopFlow's own policy; the others make a memorised answer wrong
        number = rank % (len(policy.variants) + 1)
        variant = policy.variants[number - 1] if number else {}
        clause = _in_variant(policy.clause, variant)
        messages = _conversation(clause, question, None, rng)
        messages.append({"role": "assistant", "content": _in_variant(answer, variant)})
        rows.append(
            {
                "policy_id": policy.id,
                "clause": clause,
                "policy_version": policy.version,
                "variant": number,
                "messages": messages,
            }
        )
    return rows


def train_rows(policies: Sequence[Policy], seed: int = SEED) -> list[Row]:
    """Training rows of the train policies, the policies taking turns.

    The evidence of a row is one clause, in the row's variant. Follow-up questions stay out: their answers
    state one fact of two, and a run with 12 percent of such rows learned to stop after the first fact.
    """
    by_policy = [_train_rows_of(policy, seed) for policy in policies if policy.split == "train"]
    return _take_turns("train", by_policy)


def eval_cases(policies: Sequence[Policy], seed: int = SEED, *, second_clause: bool = False) -> list[Row]:
    """Evaluation cases of the held-out policies, taking turns, so that any slice covers them evenly.

    A case's `required` holds one list of accepted wordings per fact, its `forbidden` the wordings that
    fail an answer.

    Args:
        second_clause: put the clause of another held-out policy before or after the relevant one. The facts
            which only that clause states are forbidden too.
    """
    heldout = [policy for policy in policies if policy.split == "heldout"]
    by_policy = []
    for policy in heldout:
        rng = random.Random(f"{seed}:eval:{policy.id}")
        distractors = _distractors(policy, policies, rng)
        cases = []
        for question in _asking_order(policy, rng):
            distractor = next(distractors) if second_clause else None
            forbidden = [w for claim in policy.forbidden for w in claim.wordings]
            if distractor is not None:
                foreign = [fact for fact in distractor.required if not states(policy.clause, fact.wordings)]
                forbidden += [w for fact in foreign for w in fact.wordings]
            cases.append(
                {
                    "policy_id": policy.id,
                    "clause": policy.clause,
                    "messages": _conversation(policy.clause, question, distractor, rng),
                    "required": [fact.wordings for fact in policy.required],
                    "forbidden": forbidden,
                }
            )
        by_policy.append(cases)
    return _take_turns("two-clauses" if second_clause else "eval", by_policy)


def _take_turns(prefix: str, by_policy: Sequence[Sequence[Row]]) -> list[Row]:
    longest = max((len(rows) for rows in by_policy), default=0)
    turns = [rows[rank] for rank in range(longest) for rows in by_policy if rank < len(rows)]
    return [{"id": f"{prefix}-{number:04d}", **row} for number, row in enumerate(turns, 1)]


def to_jsonl(rows: Sequence[Row]) -> bytes:
    """One JSON object a line, UTF-8, with a line feed after each on every operating system."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def files(policies: Sequence[Policy], seed: int = SEED) -> dict[str, bytes]:
    """The content of every file that is generated from the policies, by file name."""
    return {
        "sft_train.jsonl": to_jsonl(train_rows(policies, seed)),
        "eval_public.jsonl": to_jsonl(eval_cases(policies, seed)),
        "eval_two_clauses.jsonl": to_jsonl(eval_cases(policies, seed, second_clause=True)),
    }


def stale_files(folder: Path = FOLDER, seed: int = SEED) -> list[str]:
    """Names of the generated files that are missing or differ from what the folder's policies give."""
    wanted = files(load_policies(folder / "policies.yaml"), seed)
    return [
        name
        for name, content in wanted.items()
        if not (folder / name).is_file() or (folder / name).read_bytes() != content
    ]


def _write(path: Path, content: bytes) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as draft:
        draft.write(content)
    # mkstemp makes private files; these are meant to be read by everyone.
    finished = Path(draft.name)
    finished.chmod(0o644)
    finished.replace(path)


def main(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail when a file is stale.")] = False,
    seed: Annotated[int, typer.Option(help="Another seed gives a fresh variant for a class.")] = SEED,
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = FOLDER,
) -> None:
    """Write ShopFlow's training rows and evaluation cases from its policies."""
    try:
        if check:
            if stale := stale_files():
                typer.echo(f"Stale: {', '.join(stale)}. Run 'python -m autograder.shopflow'.", err=True)
                raise typer.Exit(1)
            typer.echo("ShopFlow's files are up to date.")
            return
        made = files(load_policies(), seed)
    except (OSError, PolicyError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    out.mkdir(parents=True, exist_ok=True)
    for name, content in made.items():
        _write(out / name, content)
        typer.echo(f"{out / name}: {len(content.splitlines())} rows")


if __name__ == "__main__":
    typer.run(main)
