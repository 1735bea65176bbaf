"""How a fact is worded: as a policy clause (the evidence) and as a restatement of that clause."""

from __future__ import annotations

import random

from chatcontract.nano.facts import Fact, capitalised

CLAUSES = (
    "{Topic}: {action} within {period} of {anchor} and {attach} {document}.",
    "{Topic}. Customers must {action} within {period} of {anchor}. {Attach} {document}.",
    "{Topic}: {attach} {document} and {action} no later than {period} after {anchor}.",
    "For {topic}, {action} within {period} of {anchor}. Please {attach} {document}.",
    "{Topic}: {period} from {anchor} to {action}. {Attach} {document}.",
    "{Topic} policy: customers {action} within {period} after {anchor} and {attach} {document}.",
)

# Wordings that only the corpus has: copying must not depend on six sentence frames.
MORE_CLAUSES = (
    "The limit for {topic} is {period} after {anchor}. To {action}, {attach} {document}.",
    "Anyone with {topic} can {action} for {period} after {anchor} if they {attach} {document}.",
    "{Document} and a note are enough for {topic}: {action} within {period} of {anchor}.",
    "With {topic} you have {period} from {anchor}. {Attach} {document} to {action}.",
    "We accept {topic} up to {period} after {anchor}. {Action} and {attach} {document}.",
    "{Topic}: {document} needed, {period} after {anchor}, then {action}.",
    "Rule for {topic}: no later than {period} after {anchor} {action}; always {attach} {document}.",
)

RESTATEMENTS = (
    "{Action} within {period} and {attach} {document}.",
    "In short: {action} within {period} and {attach} {document}.",
    "{Attach} {document} and {action} within {period}.",
    "Remember: {period}, and {attach} {document}.",
    "Limit: {period}. Needed: {document}.",
    "Needed: {document}. Limit: {period}. Step: {action}.",
    "So {action} before the {period} are over and {attach} {document}.",
    "Without {document} or after {period} we cannot help.",
    "The {period} start with {anchor}. {Attach} {document}.",
    "To {action}, {attach} {document} within {period}.",
    "{Topic}: {period}; {document}.",
    "It is {period} from {anchor}, with {document}.",
)

# Without the action: nano copies periods and documents from a clause, but invents what to do (see its card).
ANSWER = "You have {period}. Please {attach} {document}."


def word(template: str, fact: Fact) -> str:
    """The template with the fact's parts filled in; a capitalised slot name capitalises its value."""
    parts = {
        "topic": fact.topic,
        "action": fact.action,
        "period": fact.period,
        "anchor": fact.anchor,
        "attach": fact.attach,
        "document": fact.document,
    }
    return template.format(
        **parts, **{capitalised(name): capitalised(value) for name, value in parts.items()}
    )


def clause(rng: random.Random, fact: Fact) -> str:
    """The fact as one corpus clause."""
    return word(rng.choice(CLAUSES if rng.random() < 0.5 else MORE_CLAUSES), fact)


def restatement(rng: random.Random, fact: Fact) -> str:
    """The fact once more, in other words; every part is copied from the clause before it."""
    return word(rng.choice(RESTATEMENTS), fact)
