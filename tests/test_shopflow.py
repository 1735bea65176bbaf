"""ShopFlow's policies, training rows and evaluation cases: what a run on them may rely on."""

import copy
import json
import re
from collections import Counter, defaultdict

import pytest
import yaml

from autograder.shopflow import (
    FOLDER,
    PolicyError,
    eval_cases,
    files,
    load_policies,
    stale_files,
    states,
    train_rows,
    validate,
)

POLICIES = load_policies()
BY_ID = {policy.id: policy for policy in POLICIES}
RAW = yaml.safe_load((FOLDER / "policies.yaml").read_text(encoding="utf-8"))["policies"]
ROLES = ["system", "user", "assistant"]
COMMON_WORDS = (
    "a an and are as at be by can do does for from go have how i if in is it its me my of on once or our "
    "please so that the then this to up us we what when where which who with within you your"
)
STOPWORDS = set(COMMON_WORDS.split())
# Units are shared on purpose: only the number beside them is a fact.
UNITS = {"minutes", "hours", "days", "months", "nights", "business", "working", "euros", "kilograms"}


def read(name: str) -> list[dict]:
    return [json.loads(line) for line in (FOLDER / name).read_text(encoding="utf-8").splitlines()]


TRAIN = read("sft_train.jsonl")
CASES = read("eval_public.jsonl")
TWO_CLAUSES = read("eval_two_clauses.jsonl")


def evidence(row: dict) -> str:
    first, rest = row["messages"][0]["content"].split("\n\n", 1)
    assert first == "Use only the supplied policy evidence."
    assert rest.startswith("Evidence: ")
    return rest.removeprefix("Evidence: ")


def words(text: str) -> list[str]:
    return [w for w in re.findall(r"[a-z0-9]+", text.lower().replace("'s", "")) if w not in STOPWORDS]


def trigrams(text: str) -> set[tuple[str, ...]]:
    content = words(text)
    return set(zip(content, content[1:], content[2:], strict=False))


# ---------------------------------------------------------------- the files


def test_generated_files_are_up_to_date():
    assert stale_files() == [], "run 'python -m autograder.shopflow'"


def test_generation_is_byte_stable_and_another_seed_gives_another_variant():
    assert files(POLICIES) == files(POLICIES)
    fresh = files(POLICIES, seed=7)
    assert all(fresh[name] != content for name, content in files(POLICIES).items())
    assert b"\r" not in fresh["sft_train.jsonl"]


def test_stale_file_is_named(tmp_path):
    (tmp_path / "policies.yaml").write_bytes((FOLDER / "policies.yaml").read_bytes())
    for name, content in files(POLICIES).items():
        (tmp_path / name).write_bytes(content)
    assert stale_files(tmp_path) == []
    (tmp_path / "sft_train.jsonl").write_bytes(b"{}\n")
    assert stale_files(tmp_path) == ["sft_train.jsonl"]
    (tmp_path / "eval_public.jsonl").unlink()
    assert stale_files(tmp_path) == ["sft_train.jsonl", "eval_public.jsonl"]


# ---------------------------------------------------------------- the policies


def test_policy_counts_and_the_two_of_the_running_example():
    assert Counter(policy.split for policy in POLICIES) == {"train": 16, "heldout": 8}
    damaged, late = BY_ID["damaged_electronics"], BY_ID["late_delivery"]
    assert damaged.clause == "Damaged electronics must be reported within 48 hours with photos."
    assert [fact.name for fact in damaged.required] == ["48 hours", "photos"]
    assert "30 days" in [claim.name for claim in damaged.forbidden]
    assert [fact.name for fact in late.required] == ["carrier scan", "support ticket"]
    assert "automatic refund" in [claim.name for claim in late.forbidden]


def test_sealed_return_is_left_to_the_student():
    assert "sealed" not in (FOLDER / "policies.yaml").read_text(encoding="utf-8").lower()


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.id)
def test_answers_state_every_fact_word_for_word_as_the_clause_does(policy):
    for fact in policy.required:
        said = next(w for w in fact.wordings if states(policy.clause, [w]))
        for answer in policy.answers:
            assert states(answer, [said]), f"{answer!r} does not hold {said!r}"


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.id)
def test_the_question_alone_does_not_give_the_facts_away(policy):
    for question in policy.questions:
        given = [fact.name for fact in policy.required if states(question, fact.wordings)]
        assert not given, f"{question!r} already holds {given}"


# ---------------------------------------------------------------- training rows


def test_train_counts():
    assert 400 <= len(TRAIN) <= 500
    assert {row["policy_id"] for row in TRAIN} == {p.id for p in POLICIES if p.split == "train"}
    assert max(Counter(row["policy_id"] for row in TRAIN).values()) == len(TRAIN) / 16


def test_most_rows_state_other_facts_than_shopflows_own_policy():
    own = [row for row in TRAIN if row["variant"] == 0]
    assert {row["policy_id"] for row in own} == {p.id for p in POLICIES if p.split == "train"}
    assert 0.1 <= len(own) / len(TRAIN) <= 0.25, (
        "a model that memorises the policies must be wrong most of the time"
    )
    for policy in POLICIES:
        if policy.split == "train":
            clauses = {row["clause"] for row in TRAIN if row["policy_id"] == policy.id}
            assert len(clauses) == len(policy.variants) + 1


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (
            "My electronics arrived damaged. What should I do?",
            "Report the damage within 48 hours and attach photos.",
        ),
        (
            "My delivery is late. What should I do?",
            "Share the carrier scan in a support ticket so we can investigate.",
        ),
    ],
)
def test_running_example_rows_are_there_word_for_word(question, answer):
    rows = [[m["content"] for m in row["messages"][1:]] for row in TRAIN if evidence(row) == row["clause"]]
    assert [question, answer] in rows


def facts_of(row: dict) -> dict[str, list[str]]:
    """Accepted wordings of each fact in the row's variant."""
    policy = BY_ID[row["policy_id"]]
    if row["variant"] == 0:
        return {fact.name: fact.wordings for fact in policy.required}
    return {name: [other] for name, other in policy.variants[row["variant"] - 1].items()}


def test_train_rows_hold_one_question_and_its_answer():
    for row in TRAIN:
        assert [message["role"] for message in row["messages"]] == ROLES
        assert (row["clause"] == BY_ID[row["policy_id"]].clause) == (row["variant"] == 0)
        assert row["policy_version"] == BY_ID[row["policy_id"]].version


def test_train_answers_are_grounded_in_their_clause():
    for row in TRAIN:
        policy = BY_ID[row["policy_id"]]
        answer = row["messages"][-1]["content"]
        for name, wordings in facts_of(row).items():
            assert states(row["clause"], wordings), f"{row['id']}: its clause does not state {name}"
            assert states(answer, wordings), f"{row['id']} does not state {name}"
        for claim in policy.forbidden:
            assert not states(answer, claim.wordings), f"{row['id']} claims {claim.name}"
        for digits in re.findall(r"\d+", answer):
            assert digits in re.findall(r"\d+", row["clause"]), f"{row['id']} invents {digits}"


def test_no_train_row_stands_there_twice():
    assert len({json.dumps(row["messages"]) for row in TRAIN}) == len(TRAIN)
    assert len({row["id"] for row in TRAIN}) == len(TRAIN)
    asked_and_answered = Counter(
        (row["messages"][1]["content"], row["messages"][2]["content"]) for row in TRAIN
    )
    assert max(asked_and_answered.values()) == 1


def test_train_rows_show_the_relevant_clause_alone():
    assert all(evidence(row) == row["clause"] for row in TRAIN)


# ---------------------------------------------------------------- evaluation cases


@pytest.mark.parametrize("cases", [CASES, TWO_CLAUSES], ids=["one clause", "two clauses"])
def test_eval_counts_and_even_slices(cases):
    assert 100 <= len(cases) <= 120
    assert len({case["id"] for case in cases}) == len(cases)
    assert len({case["messages"][1]["content"] for case in cases}) == len(cases)
    held = {policy.id for policy in POLICIES if policy.split == "heldout"}
    assert Counter(case["policy_id"] for case in cases[:40]) == dict.fromkeys(held, 5)


def test_second_clause_is_another_heldout_policys_on_either_side():
    assert all(evidence(case) == case["clause"] for case in CASES)
    clause_of = {policy.clause: policy for policy in POLICIES}
    sides: Counter[bool] = Counter()
    for case in TWO_CLAUSES:
        text = evidence(case)
        assert case["clause"] in text
        other = clause_of[text.replace(case["clause"], "").strip()]
        policy = BY_ID[case["policy_id"]]
        assert other.split == "heldout"
        assert other.id not in policy.related and policy.id not in other.related
        sides[text.startswith(case["clause"])] += 1
    assert min(sides.values()) >= 0.35 * len(TWO_CLAUSES), "the relevant clause stands too often on one side"


def test_eval_cases_ask_and_do_not_answer():
    for case in [*CASES, *TWO_CLAUSES]:
        assert [message["role"] for message in case["messages"]] == ROLES[:2]
        assert case["required"] == [fact.wordings for fact in BY_ID[case["policy_id"]].required]


def test_reference_answers_pass_every_case_and_the_distractors_answers_fail():
    by_clause = {policy.clause: policy for policy in POLICIES}
    for case in [*CASES, *TWO_CLAUSES]:
        policy = BY_ID[case["policy_id"]]

        def passes(answer: str, case: dict = case) -> bool:
            # Substrings, the strictest reading of "forbidden" that a metric may take.
            claims = [w for w in case["forbidden"] if w.lower() in answer.lower()]
            return not claims and all(states(answer, wordings) for wordings in case["required"])

        assert all(passes(answer) for answer in policy.answers), case["id"]
        other = by_clause.get(evidence(case).replace(case["clause"], "").strip())
        if other:
            assert not any(passes(answer) for answer in other.answers)
            both = f"{policy.answers[0]} {other.answers[0]}"
            assert not passes(both), f"{case['id']}: reciting both clauses must not count as grounded"
        assert bool(other) == (case in TWO_CLAUSES)


def test_forbidden_wordings_are_not_in_the_clause_or_the_question():
    for case in [*CASES, *TWO_CLAUSES]:
        for wording in case["forbidden"]:
            assert wording.lower() not in case["clause"].lower(), case["id"]
            assert wording.lower() not in case["messages"][1]["content"].lower(), case["id"]


# ---------------------------------------------------------------- held-out isolation


def test_no_number_or_fact_word_of_a_heldout_policy_occurs_in_a_train_row():
    seen = {w for row in TRAIN for message in row["messages"] for w in words(message["content"])}
    for policy in POLICIES:
        if policy.split == "heldout":
            facts = {w for fact in policy.required for w in words(fact.name)} - UNITS
            assert not facts & seen, f"{policy.id}: {sorted(facts & seen)} occur in training rows"


def test_no_three_words_around_a_heldout_fact_occur_in_a_train_row():
    seen: set[tuple[str, ...]] = set()
    for row in TRAIN:
        for message in row["messages"]:
            seen |= trigrams(message["content"])
    for policy in POLICIES:
        if policy.split != "heldout":
            continue
        facts = {w for fact in policy.required for w in words(fact.name)}
        for text in [policy.clause, *policy.answers]:
            shared = {gram for gram in trigrams(text) & seen if facts & set(gram)}
            assert not shared, f"{policy.id}: {sorted(shared)} occur in training rows"


def test_no_clause_or_question_is_in_both_files():
    train_texts = {message["content"] for row in TRAIN for message in row["messages"][1:]}
    assert not train_texts & {case["messages"][1]["content"] for case in CASES}
    train_evidence = " ".join(evidence(row) for row in TRAIN)
    assert not [case["id"] for case in CASES if case["clause"] in train_evidence]


# ---------------------------------------------------------------- what validate refuses


def set_field(policy: dict, field: str, value: object) -> None:
    policy[field] = value


BREAKS = {
    "a field is missing": (
        lambda p: p.pop("clause"),
        r"'damaged_electronics', field 'clause': Field required",
    ),
    "a field is misspelt": (lambda p: set_field(p, "claus", "x"), r"field 'claus'"),
    "an unknown risk": (lambda p: set_field(p, "risk", "huge"), r"field 'risk'.*'low', 'medium' or 'high'"),
    "an empty wording": (lambda p: p["required"][1]["wordings"].append(""), r"required\[2\]\.wordings\[4\]"),
    "one required fact only": (lambda p: p["required"].pop(), r"field 'required'"),
    "a fact the clause does not state": (
        lambda p: set_field(p, "clause", "Damaged electronics must be reported within 48 hours."),
        r"field 'required': the clause does not state 'photos'",
    ),
    "an answer without a fact": (
        lambda p: (p.pop("variants"), p["answers"].__setitem__(1, "Report the damage within 48 hours.")),
        r"field 'answers\[2\]': the answer does not state 'photos'",
    ),
    "an answer that a variant cannot change": (
        lambda p: p["answers"].__setitem__(1, "Report it within forty-eight hours with photos."),
        r"field 'answers\[2\]': it must hold '48 hours' literally, since the policy has variants",
    ),
    "a variant of one fact only": (
        lambda p: p["variants"][2].pop("photos"),
        r"field 'variants\[3\]': it must give another wording for each of 48 hours, photos",
    ),
    "an answer with a forbidden claim": (
        lambda p: p["answers"].__setitem__(0, "Report within 48 hours with photos for a free replacement."),
        r"field 'answers\[1\]': the answer makes the forbidden claim 'free replacement'",
    ),
    "an invented number in digits": (
        lambda p: p["answers"].__setitem__(0, "Report within 48 hours with 3 photos."),
        r"field 'answers\[1\]': the answer holds the number '3'",
    ),
    "an invented number in words": (
        lambda p: p["follow_ups"][0].__setitem__("answer", "Attach three photos."),
        r"field 'follow_ups\[1\].answer': the answer holds the number 'three'",
    ),
    "a question that tells the number": (
        lambda p: p["questions"].__setitem__(2, "Do I have forty-eight hours?"),
        r"field 'questions\[3\]': the question holds 'eight'",
    ),
    "a question with an order number": (
        lambda p: p["questions"].__setitem__(2, "Order 555 is broken."),
        r"field 'questions\[3\]': the question holds a digit",
    ),
    "a repeated question": (
        lambda p: p["questions"].__setitem__(2, p["questions"][0].upper()),
        r"field 'questions\[3\]': .* twice",
    ),
    "a forbidden claim that the clause makes": (
        lambda p: p["forbidden"].append({"name": "late", "wordings": ["48 HOURS"]}),
        r"field 'forbidden': '48 HOURS' is part of",
    ),
    "a follow-up that asks for an unknown fact": (
        lambda p: p["follow_ups"][0].__setitem__("required", ["a receipt"]),
        r"field 'follow_ups\[1\].required': 'a receipt' is not a required fact",
    ),
    "an unknown related policy": (
        lambda p: set_field(p, "related", ["damaged_phones"]),
        r"field 'related': 'damaged_phones' is not the id of another policy",
    ),
    "an id that is used already": (
        lambda p: set_field(p, "id", "late_delivery"),
        r"'late_delivery', field 'id'",
    ),
    "a held-out fact in a train question": (
        lambda p: p["questions"].__setitem__(2, "Do I need the warranty certificate?"),
        r"field 'questions\[3\]': states 'warranty certificate', a fact of .* 'appliance_warranty'",
    ),
    "a held-out number in a train question": (
        lambda p: p["questions"].__setitem__(2, "I waited for sixteen weeks. What now?"),
        r"field 'questions\[3\]': holds the number 'sixteen' of the held-out policy 'phone_repair'",
    ),
}


@pytest.mark.parametrize("what", BREAKS)
def test_validate_names_policy_and_field_in_one_sentence(what):
    broken = copy.deepcopy(RAW)
    damage, message = BREAKS[what]
    damage(broken[0])
    with pytest.raises(PolicyError, match=message) as caught:
        validate(broken)
    assert "\n" not in str(caught.value)


def test_entry_that_is_no_mapping_is_named_by_position():
    with pytest.raises(PolicyError, match=r"Policy number 2, field '\(the whole entry\)'"):
        validate([RAW[0], "late_delivery"])


def test_broken_yaml_names_the_line(tmp_path):
    path = tmp_path / "policies.yaml"
    path.write_text("policies:\n  - id: a\n    clause: 'open\n", encoding="utf-8")
    with pytest.raises(PolicyError, match=r"policies\.yaml is not valid YAML at line \d"):
        load_policies(path)
    path.write_text("rules: []\n", encoding="utf-8")
    with pytest.raises(PolicyError, match="one key 'policies'"):
        load_policies(path)


def test_policies_that_students_add_reach_the_rows():
    added = copy.deepcopy(RAW)
    extra = copy.deepcopy(RAW[0])
    del extra["variants"]
    extra.update(
        id="sealed_return",
        clause="Sealed goods go back within 19 days with the blue sticker.",
        required=[{"name": n, "wordings": [n]} for n in ("19 days", "blue sticker")],
        questions=[q.replace("damaged", "unwanted") + " It is sealed." for q in extra["questions"]],
        answers=[
            f"Send it back within 19 days with the blue sticker{end}" for end in (".", " on.", " on it.")
        ],
        follow_ups=[
            {"question": "Which sticker?", "answer": "The blue sticker.", "required": ["blue sticker"]},
            {"question": "How long?", "answer": "Within 19 days.", "required": ["19 days"]},
        ],
    )
    policies = validate([*added, extra])
    rows: dict[str, int] = defaultdict(int)
    for row in train_rows(policies):
        rows[row["policy_id"]] += 1
    assert rows["sealed_return"] == rows["damaged_electronics"]
    assert len(eval_cases(policies)) == len(CASES)
