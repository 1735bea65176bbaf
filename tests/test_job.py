"""One submission's verdicts when something goes wrong that is not the student's, and what they depend on."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hostile_submissions import SEED, graded, output, points, verdicts, workshop
from sandboxed import needs_sandbox

from autograder.grading import job, workers
from autograder.grading.job import Job, Limits, cause
from autograder.grading.model import Prepared, Status
from autograder.grading.questions import NotHeld, hold
from autograder.grading.workers import LocalWorkers
from autograder.hostile.short_lab import ALL, answered, right, with_cell

HALF_A_PAIR = "def role_errors(roles):\n    raise ValueError('\\ud800' + 'x' * 100_000)"
PREPARED = Prepared(
    student="ada",
    lab="02_roles",
    notebook={"cells": []},
    status=Status.GRADED,
    blank=frozenset({"role-errors-stub", "repair-stub", "validate-jsonl-stub"}),
)


@needs_sandbox
def test_text_that_no_file_can_hold_is_cleaned_and_cut() -> None:
    result = graded(answered(HALF_A_PAIR))
    assert verdicts(result) == ["failed", "failed"] and sum(points(result).values()) == ALL - 2
    stored = result.model_dump_json()
    assert "ValueError" in stored and "x" * 5_000 not in stored


@needs_sandbox
def test_html_that_takes_long_to_clean_is_left_out() -> None:
    page = "'<p>' + ''.join(f'<b title={i}>' for i in range(400)) + '<p>x' * 400"
    result = graded(with_cell(f"from IPython.display import HTML, display\ndisplay(HTML({page}))"))
    assert result.points == ALL and "HTML not shown" in output(result)


@needs_sandbox
def test_a_kernel_that_is_gone_when_it_is_asked_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[socket.socket] = []

    def gone_once(kernel: socket.socket, seconds: float) -> socket.socket:
        asked.append(kernel)
        if len(asked) == 1:
            workshop().end("kernel")
            raise NotHeld("the kernel is gone")
        return hold(kernel, seconds)

    monkeypatch.setattr(job, "hold", gone_once)
    result = graded(right())
    assert result.points == ALL and len(asked) > 1


def test_a_fault_of_the_grader_itself_goes_to_a_person_with_its_kind_and_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: object) -> None:
        raise IndexError("pop from empty list")

    monkeypatch.setattr(workers, "Workshop", SimpleNamespace)
    monkeypatch.setattr(workers, "grade", fails)
    pool = LocalWorkers(1)
    [(_, result)] = pool.run([Job(PREPARED, SEED)])
    assert result.status is Status.NEEDS_HUMAN and not result.cells
    assert "IndexError: pop from empty list, in workers.py line" in result.reason


@needs_sandbox
def test_an_answer_that_the_grader_fails_on_goes_to_a_person_and_the_others_keep_their_points(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    judged = job.visible_grade

    def fails_once(grade_id: str, *rest: object, **options: object) -> object:
        if grade_id == "repair-visible":
            raise ArithmeticError
        return judged(grade_id, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(job, "visible_grade", fails_once)
    result = graded(right())
    by_id = {cell.grade_id: cell.points for cell in result.cells}
    assert result.status is Status.NEEDS_HUMAN and by_id.pop("repair-visible") is None
    assert sum(p or 0 for p in by_id.values()) == ALL - 0.5
    assert "repair-visible (ArithmeticError)" in result.reason
    assert not result.cause, "--resume tries it again"


@needs_sandbox
def test_results_that_are_too_large_together_are_refused() -> None:
    result = graded(answered("def role_errors(roles):\n    return ['x' * 1_000_000]"))
    assert "larger than 8 MB" in json.dumps(result.notebook) + str([c.text for c in result.cells])
    assert sum(points(result).values()) == ALL - 2


def test_what_a_verdict_depends_on_is_the_same_in_every_process() -> None:
    program = (
        "from test_job import PREPARED, SEED\n"
        "from autograder.grading.job import Job, cause\n"
        "print(cause(Job(PREPARED, SEED)))"
    )
    made = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": str(seed), "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in (1, 2)
    }
    assert made == {cause(Job(PREPARED, SEED))}


@pytest.mark.parametrize(
    "changed",
    [
        {"limits": Limits(cell_seconds=5)},
        {"isolated": False},
        {"files": {"a": b"bc"}},
        {"prepared": PREPARED.model_copy(update={"blank": frozenset()})},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_a_change_of_what_a_verdict_depends_on_is_noticed(changed: dict[str, object]) -> None:
    before = Job(PREPARED, SEED, files={"ab": b"c"})
    assert cause(before) != cause(replace(before, **changed))  # type: ignore[arg-type]


@needs_sandbox
def test_a_fork_that_ends_between_two_looks_at_it_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    killer = "import os\ndef role_errors(roles):\n    os.kill(-1, 9)"
    monkeypatch.setattr(job, "_listens", lambda channel: True)
    result = graded(answered(killer))
    assert verdicts(result) == ["crashed Python", "crashed Python"]
    assert sum(points(result).values()) == ALL - 2
