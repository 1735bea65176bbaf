"""The evidence snapshot of lab 03: every policy that may teach, as plain data.

ShopFlow's own policies come under their id. The `variants` of policies.yaml are shown as partner shops:
"damaged_electronics.shop2" is the same policy with other facts, so that an answer has to be read from the
clause. Held-out policies are left out, because they may never teach.
"""

import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from autograder.shopflow import FOLDER, Policy, PolicyError, Text, states

Evidence = dict[str, dict[str, Any]]


class Superseded(BaseModel):
    """An earlier version of a policy: its clause, its last day, old wordings of facts that changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    policy: Text
    version: Annotated[int, Field(ge=1)]
    until: date
    clause: Text
    facts: dict[Text, Text] = {}


def load_superseded(policies: Sequence[Policy], path: Path = FOLDER / "policies.yaml") -> list[Superseded]:
    """The earlier versions that a policies file lists.

    Raises:
        PolicyError: an entry does not fit the schema or its policy, in one sentence that names it.
    """
    raw = yaml.safe_load(path.read_text(encoding="utf-8")).get("superseded", [])
    found = []
    for position, entry in enumerate(raw, 1):
        try:
            found.append(Superseded.model_validate(entry))
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))
            raise PolicyError(f"Entry {position} of 'superseded', field '{field}': {first['msg']}.") from None
    for old in found:
        _check(old, found, {policy.id: policy for policy in policies})
    return found


def _check(old: Superseded, every: Sequence[Superseded], policies: dict[str, Policy]) -> None:
    where = f"Superseded version {old.version} of '{old.policy}'"
    policy = policies.get(old.policy)
    if policy is None:
        raise PolicyError(f"{where}: there is no such policy.")
    if (
        old.version >= policy.version
        or sum((o.policy, o.version) == (old.policy, old.version) for o in every) > 1
    ):
        raise PolicyError(f"{where}: give an earlier version than {policy.version}, and each only once.")
    if old.until >= policy.effective:
        raise PolicyError(
            f"{where}: 'until' must be before {policy.effective}, when the present one took over."
        )
    for fact in policy.required:
        wordings = [old.facts[fact.name]] if fact.name in old.facts else fact.wordings
        if not states(old.clause, wordings):
            raise PolicyError(f"{where}: its clause does not state '{wordings[0]}'.")


def snapshot(policies: Sequence[Policy], superseded: Sequence[Superseded]) -> Evidence:
    """Every training policy and each of its partner shops, by policy id."""
    found: Evidence = {}
    for policy in policies:
        if policy.split != "train":
            continue
        for number, variant in enumerate([{}, *policy.variants]):
            name = f"{policy.id}.shop{number}" if number else policy.id
            found[name] = _entry(policy, variant, [] if number else superseded)
    return found


def _entry(policy: Policy, variant: dict[str, str], superseded: Sequence[Superseded]) -> dict[str, Any]:
    clause = policy.clause
    for name, other in variant.items():
        clause = clause.replace(name, other)
    required = [
        {"name": variant[fact.name], "wordings": [variant[fact.name]]}
        if variant
        else {"name": fact.name, "wordings": fact.wordings}
        for fact in policy.required
    ]
    # another shop may allow what ShopFlow does not
    forbidden = [claim for claim in policy.forbidden if not states(clause, claim.wordings)]
    return {
        "intent": policy.id,
        "clause": clause,
        "version": policy.version,
        "effective": policy.effective.isoformat(),
        "risk": policy.risk,
        "required": required,
        "forbidden": [
            {"name": claim.name, "wordings": claim.wordings, "unless": claim.unless} for claim in forbidden
        ],
        "superseded": [
            {"version": old.version, "until": old.until.isoformat(), "clause": old.clause}
            for old in superseded
            if old.policy == policy.id
        ],
    }


def to_json(evidence: Evidence) -> bytes:
    """The snapshot as a file: one policy a line, so that a change shows as one line."""
    lines = [f"{json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in evidence.items()]
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()
