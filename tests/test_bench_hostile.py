"""The benchmark of hostile submissions: its words follow from what was measured, its rows are the table's."""

import json
import re

import pytest
from sandboxed import needs_sandbox

from autograder import bench_hostile
from autograder.checks.seeds import throwaway
from autograder.hostile.graded_course import GradedCourse
from autograder.hostile.outcome import findings, phrase, stock_findings
from autograder.hostile.private_texts import secret_texts
from autograder.hostile.rows import ATTACKER, BYSTANDER, ROWS, Row, select
from autograder.hostile.short_lab import POSSIBLE
from autograder.hostile.stock import StockBatch, grade_with_stock
from autograder.labs import ROOT, stub_of

SEED = throwaway()


def row(number: int) -> Row:
    (found,) = select((number,))
    return found


def scores(**changed: float | None) -> dict[str, float | None]:
    """One cell an exercise, with these points or all there are."""
    return {stub_of(name): changed.get(name, points) for name, points in POSSIBLE.items()}


def course(attacker: dict[str, float | None], page: str = "") -> GradedCourse:
    return GradedCourse({ATTACKER: attacker, BYSTANDER: scores()}, {}, {ATTACKER: page})


def batch(graded: GradedCourse, log: str = "", *, ended: bool = True, killed: bool = False) -> StockBatch:
    return StockBatch(graded, 1.0, ended, log, {ATTACKER: 0.0}, killed)


NO_GRADE = dict.fromkeys(scores())
DEAD = "    nbclient.exceptions.DeadKernelError: Kernel died\n[AutogradeApp | ERROR] There was an error\n"


def test_the_rows_are_those_of_the_table():
    table = (ROOT / "docs" / "grading.md").read_text(encoding="utf-8")
    assert [r.number for r in ROWS] == [int(n) for n in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)]
    assert len(ROWS) == 43


def test_points_are_held_against_what_is_fair():
    assert findings(row(1), course(scores(role_errors=0.0)), SEED) == []
    assert phrase(course(scores(role_errors=0.0)), []) == "right: 8 of 10"
    assert findings(row(1), course(scores()), SEED) == ["unearned points: 10 of 10, fair are 8"]
    assert findings(row(10), course(scores(repair=0.5)), SEED) == ["too few points: 8.5 of 10, fair are 10"]
    both = course(scores(repair=0.0))
    assert findings(row(1), both, SEED) == ["unearned points and too few points: 8 of 10, fair are 8"]
    for doubtful in (0.0, 0.5):
        assert findings(row(32), course(scores(role_errors=doubtful)), SEED) == []
    assert findings(row(32), course(scores()), SEED) == ["unearned points: 10 of 10, fair are 8.5"]
    assert findings(row(22), course(scores()), SEED) == ["10 of 10 where there is nothing to grade"]


def test_a_missing_grade_is_told_from_a_zero_and_the_table_from_the_gradebook():
    assert findings(row(42), course(dict.fromkeys(scores(), 0.0)), SEED) == []
    assert findings(row(19), course(NO_GRADE), SEED) == []
    assert phrase(course(NO_GRADE), []) == "right: no grade"
    assert stock_findings(row(19), batch(course(NO_GRADE)), SEED) == ["no grade, exported as 0"]
    died = stock_findings(row(3), batch(course(NO_GRADE), DEAD), SEED)
    assert died == ["no grade (DeadKernelError), exported as 0"]
    large = stock_findings(row(4), batch(course(NO_GRADE), DEAD, killed=True), SEED)
    assert large == ["no grade (over 3 GiB, DeadKernelError), exported as 0"]
    endless = stock_findings(row(2), batch(course(NO_GRADE), DEAD, ended=False), SEED)
    assert endless == ["no grade (no end within 480 s), exported as 0"]


def test_what_happens_to_the_student_behind_is_told():
    alone = GradedCourse({ATTACKER: NO_GRADE}, {}, {})
    said = "[AutogradeApp | ERROR] Notebooks use a newer version\n    of the format.\n"
    assert stock_findings(row(16), batch(alone, said), SEED) == [
        "batch aborted, both students without a grade (Notebooks use a newer version), exported as 0"
    ]
    changed = GradedCourse({ATTACKER: scores(), BYSTANDER: scores(repair=0.0)}, {}, {})
    assert findings(row(10), changed, SEED) == ["the student behind got 8 of 10"]


def test_a_private_case_or_a_script_on_the_page_is_found():
    secret = secret_texts(SEED)[0].replace("'", "&#39;")
    assert findings(row(34), course(scores(), f"<p>{secret}</p>"), SEED) == [
        "hidden test shown to the student"
    ]
    assert findings(row(34), course(scores(), "<p>23 of 23 cases</p>"), SEED) == []
    page = "<div><script>alert(1)</script></div>"
    assert findings(row(35), course(scores(), page), SEED) == ["script in the student's page"]


def test_a_row_that_could_do_harm_is_not_given_to_an_unprotected_grader(tmp_path):
    for dangerous in (r for r in ROWS if r.unsafe):
        with pytest.raises(ValueError, match="must not be run unprotected"):
            grade_with_stock(dangerous, tmp_path)
    assert {5, 8, 43} <= {r.number for r in ROWS if r.unsafe}


def test_an_unknown_row_gets_a_sentence(capsys):
    assert bench_hostile.main((1, 99)) == 1
    assert capsys.readouterr().out == "course.py: There is no row 99: the table has rows 1 to 43.\n"


@pytest.mark.slow
@needs_sandbox
def test_both_graders_get_the_rows_and_what_they_did_is_printed(tmp_path, capsys):
    out = tmp_path / "figures" / "hostile.json"
    assert bench_hostile.main((8, 16, 25), out) == 0
    network, version, shown = json.loads(out.read_text(encoding="utf-8"))
    assert (network["row"], network["stock_findings"], network["our_points"]) == (8, None, 10.0)
    assert network["stock"].startswith("not run: ") and network["flags"]
    # One hand-in of a later nbgrader's format ends the batch; here it is put right.
    assert version["stock_points"] is None and "batch aborted" in version["stock"]
    assert version["ours"].startswith("graded_with_repairs; 10 of 10")
    # A wrong answer that shows "nan" where a score is looked for.
    assert (shown["fair"], shown["stock_points"], shown["our_points"]) == (8.0, 10.0, 8.0)
    assert shown["stock"] == "unearned points: 10 of 10, fair are 8"
    assert shown["ours"] == "graded; 8 of 10; role_errors: failed"
    said = capsys.readouterr().out
    assert "unearned points" in said
    assert "Right: stock nbgrader 0 of the 2 that it was given, this grader 3 of 3." in said
