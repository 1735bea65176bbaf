"""What a grader made of a hostile hand-in, in words that come from what was measured."""

import html
import json
import re
from typing import Any

from autograder.checks.seeds import Seed
from autograder.hostile import attacks
from autograder.hostile.graded_course import GradedCourse
from autograder.hostile.ours import OurBatch
from autograder.hostile.private_texts import tells
from autograder.hostile.rows import ATTACKER, BYSTANDER, TWIN, Leak, Row
from autograder.hostile.short_lab import ALL, EXERCISES
from autograder.hostile.stock import BATCH_SECONDS, MEMORY, StockBatch

# Shares of points are rounded to hundredths.
_EQUAL = 0.006
# The last line of a traceback, and what nbgrader says where it shows none.
_RAISED = re.compile(r"^\s+(?:(?:\w+\.)+|(?=\w+(?:Error|Exception):))(\w+): ", re.MULTILINE)
_SAID = re.compile(r"\| ERROR\] (.+)$", re.MULTILINE)


def points(graded: GradedCourse, student: str) -> dict[str, float] | None:
    """A student's points by exercise; None where the gradebook has none at all."""
    scores = graded.scores.get(student, {})
    if all(score is None for score in scores.values()):
        return None
    found = dict.fromkeys(EXERCISES, 0.0)
    for grade_id, score in scores.items():
        found[grade_id.rpartition("-")[0].replace("-", "_")] += score or 0.0
    return found


def findings(row: Row, graded: GradedCourse, seed: Seed, why: str = "") -> list[str]:
    """Everything that differs from what the hand-in deserves; nothing where all is right.

    Args:
        why: the reason of a missing grade, where one is known.
    """
    found = []
    reason = why and f" ({why})"
    earned, bystander = points(graded, ATTACKER), points(graded, BYSTANDER)
    if bystander is None:
        who = "both students" if earned is None else "the student behind"
        found.append(f"batch aborted, {who} without a grade{reason}")
    elif abs(sum(bystander.values()) - ALL) > _EQUAL:
        found.append(f"the student behind got {_of(bystander)}")
    if earned is not None:
        found += _unfair(row, earned)
    elif bystander is not None and row.fair is not None:
        found.append(f"no grade{reason}")
    if row.leak and _leaked(row.leak, graded, seed):
        found.append(row.leak.value)
    return found


def _unfair(row: Row, earned: dict[str, float]) -> list[str]:
    if row.fair is None:
        return [f"{_of(earned)} where there is nothing to grade"]
    allowed = dict.fromkeys(EXERCISES, _EQUAL) | {row.attacked: _EQUAL + row.doubt}
    over = any(earned[name] > row.fair[name] + allowed[name] for name in EXERCISES)
    under = any(earned[name] < row.fair[name] - allowed[name] for name in EXERCISES)
    words = [name for name, is_so in (("unearned points", over), ("too few points", under)) if is_so]
    return [f"{' and '.join(words)}: {_of(earned)}, fair are {sum(row.fair.values()):g}"] if words else []


def _of(earned: dict[str, float]) -> str:
    return f"{sum(earned.values()):g} of {ALL:g}"


def _leaked(leak: Leak, graded: GradedCourse, seed: Seed) -> bool:
    page = graded.pages.get(ATTACKER, "")
    if leak is Leak.PRIVATE_CASES:
        return tells(html.unescape(page), seed)
    if leak is Leak.SCRIPT:
        return attacks.SCRIPT in page
    if leak is Leak.GRADING:
        return "autograde" in _printed(graded, ATTACKER, attacks.LOOKS_FOR_THE_GRADER)
    return _printed(graded, ATTACKER, attacks.DICE) != _printed(graded, TWIN, attacks.DICE)


def _printed(graded: GradedCourse, student: str, source: str) -> str:
    """What a student's own cell put out."""
    cells: list[dict[str, Any]] = graded.notebooks.get(student, {}).get("cells", [])
    return json.dumps([cell["outputs"] for cell in cells if "".join(cell["source"]) == source])


def stock_findings(row: Row, batch: StockBatch, seed: Seed) -> list[str]:
    """What differs, with the table that nbgrader exports."""
    found = findings(row, batch.graded, seed, _reason(batch))
    if points(batch.graded, ATTACKER) is None and (exported := batch.exported.get(ATTACKER)) is not None:
        found[-1:] = [f"{(found or ['no grade'])[-1]}, exported as {exported:g}"]
    return found


def _reason(batch: StockBatch) -> str:
    """Why there is no grade: a limit of this measurement, or the error that nbgrader told of last."""
    if not batch.ended:
        return f"no end within {BATCH_SECONDS} s"
    told = (_RAISED.findall(batch.log) or _SAID.findall(batch.log))[-1:]
    return ", ".join([f"over {MEMORY >> 30} GiB"] * batch.killed + [words.strip() for words in told])


def phrase(graded: GradedCourse, found: list[str]) -> str:
    """What differs, in one line, or that all is right."""
    if found:
        return "; ".join(found)
    earned = points(graded, ATTACKER)
    return "right: no grade" if earned is None else f"right: {_of(earned)}"


def our_phrase(row: Row, batch: OurBatch, found: list[str]) -> str:
    """Status, points and the verdict on what was attacked; before it what differs, if anything does."""
    earned = points(batch.graded, ATTACKER)
    parts = [*found, str(batch.status)]
    if earned is not None:
        parts.append(_of(earned))
    if batch.verdicts:
        parts.append(f"{row.attacked}: {' / '.join(batch.verdicts)}")
    return "; ".join(parts)
