"""`course.py grade` on a small class: what an instructor finds afterwards, and on a second run."""

import copy
import csv
import io
import itertools
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import psutil
import pytest
from distributed import Client, LocalCluster
from nbgrader.api import Gradebook
from peft import LoraConfig, get_peft_model
from rich.console import Console
from sandboxed import needs_sandbox

from autograder.grading import sandbox, workers, workshop
from autograder.grading.grade import ClassOutcome, grade_class, main
from autograder.grading.gradebook import GraderError
from autograder.grading.model import Status
from autograder.grading.options import Options
from autograder.grading.workers import DaskWorkers, NoCluster
from autograder.grading.workshop import Workshop, WorkshopError
from autograder.labs import ROOT
from chatcontract.models import load_model, load_tokenizer
from chatcontract.sft import save_adapter

LAB = "00_start_here"
WRONG = "def speaker_counts(messages):\n    return {'user': len(messages)}"

pytestmark = [pytest.mark.slow, needs_sandbox]


def hand_in(course: Path, student: str, answers: dict[str, str] | None) -> None:
    """A copy of the released lab with some answers filled in by cell id."""
    notebook = copy.deepcopy(nbformat.read(ROOT / "notebooks" / LAB / f"{LAB}.ipynb", as_version=4))
    for cell in notebook.cells:
        cell.source = (answers or {}).get(cell.id, cell.source)
    folder = course / "submitted" / student / LAB
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, folder / f"{LAB}.ipynb")


def reference_answers() -> dict[str, str]:
    source = nbformat.read(ROOT / "solutions" / LAB / f"{LAB}.ipynb", as_version=4)
    return {c.id: c.source for c in source.cells if c.metadata.get("nbgrader", {}).get("solution")}


@pytest.fixture
def course(tmp_path: Path) -> Path:
    """A course of one lab with four hand-ins: right, blank, wrong, and a page instead of a notebook."""
    course = tmp_path / "course"
    shutil.copytree(ROOT / "solutions" / LAB, course / "solutions" / LAB)
    shutil.copy(ROOT / "nbgrader_config.py", course)
    right = reference_answers()
    code = next(key for key, text in right.items() if "def speaker_counts" in text)
    hand_in(course, "right", right)
    hand_in(course, "blank", None)
    hand_in(course, "wrong", right | {code: WRONG})
    page = course / "submitted" / "page" / LAB / f"{LAB}.ipynb"
    page.parent.mkdir(parents=True)
    page.write_text("<!DOCTYPE html><html><body>Sign in</body></html>")
    return course


def _grade(course: Path, **options: object) -> ClassOutcome:
    settings = replace(Options(course=course, labs=(LAB,), workers=1), **options)  # type: ignore[arg-type]
    return grade_class(course / "submitted", settings, Console(file=io.StringIO()))


def _points(outcome: ClassOutcome) -> dict[str, float | None]:
    return {result.student: result.points for result in outcome.results}


def _book(course: Path) -> Gradebook:
    return Gradebook(f"sqlite:///{course / 'gradebook.db'}", "chat-contract")


def test_a_class_gets_marks_pages_tables_and_a_report(course: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "autograder", "grade", "submitted", "--course", ".", "--lab", "00"],
        cwd=course,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 graded, 1 not gradable" in done.stdout
    assert (course / "secrets" / "judge.seed").stat().st_mode & 0o077 == 0
    with (course / "grading" / "statuses.csv").open(encoding="utf-8", newline="") as file:
        statuses = {row["student"]: row["status"] for row in csv.DictReader(file)}
    assert statuses == {"blank": "graded", "page": "not_gradable", "right": "graded", "wrong": "graded"}
    with _book(course) as book:
        assert book.find_grade("speaker-counts-hidden", LAB, LAB, "right").auto_score == pytest.approx(0.6)
        assert book.find_grade("speaker-counts-visible", LAB, LAB, "wrong").auto_score == 0
        assert book.find_grade("base-why", LAB, LAB, "right").needs_manual_grade
        assert not book.find_grade("base-why", LAB, LAB, "blank").needs_manual_grade
        assert "page" not in {s.student.id for s in book.assignment_submissions(LAB)}
    page = (course / "feedback" / "wrong" / LAB / f"{LAB}.html").read_text(encoding="utf-8")
    assert "0 of 0.6 points for the instructor" in page
    report = (course / "grading" / "class_report.html").read_text(encoding="utf-8")
    assert "speaker_counts" in report and "needs a person" in report


def test_resume_judges_only_what_changed_and_marks_given_by_hand_stay(course: Path) -> None:
    first = _grade(course)
    assert _points(first) == {"right": pytest.approx(1.0), "blank": 0.0, "wrong": 0.0, "page": None}
    with _book(course) as book:
        grade = book.find_grade("base-why", LAB, LAB, "right")
        grade.manual_score, grade.needs_manual_grade = 0.5, False
        book.db.commit()
    again = _grade(course, resume=True)
    assert again.reused == 3 and not again.changes
    hand_in(course, "wrong", reference_answers())
    third = _grade(course, resume=True)
    assert third.reused == 2 and _points(third)["wrong"] == pytest.approx(1.0)
    assert {change.student for change in third.changes} == {"wrong"}
    with _book(course) as book:
        assert book.find_grade("base-why", LAB, LAB, "right").manual_score == 0.5


def test_what_was_judged_before_a_batch_broke_off_is_not_judged_again(course: Path) -> None:
    with pytest.raises(GraderError, match="unable to open database file"):
        _grade(course, db=f"sqlite:///{course}/no/such/folder/gradebook.db")
    assert not (course / "autograded").exists()
    assert _grade(course, resume=True, feedback=False).reused == 3


def test_an_adapter_is_reported_beside_the_marks_and_a_pickled_one_is_refused(course: Path) -> None:
    before = _points(_grade(course, feedback=False))
    right, wrong = (course / "submitted" / name / LAB / "qlora-adapter" for name in ("right", "wrong"))
    model = get_peft_model(load_model("nano"), LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    save_adapter(model, load_tokenizer("nano"), right)
    wrong.mkdir()
    (wrong / "adapter_model.bin").write_bytes(pickle.dumps({"weights": 1}))
    outcome = _grade(course, feedback=False, resume=True)
    assert _points(outcome) == before
    assert "grounded 0.00" in outcome.adapters["right", LAB]
    assert "not measured" in outcome.adapters["wrong", LAB]
    table = (course / "grading" / "statuses.csv").read_text(encoding="utf-8")
    assert table.count("grounded 0.00") == table.count("not measured") == 1


def test_a_dask_cluster_gives_the_same_verdicts(course: Path) -> None:
    here = _grade(course, feedback=False)
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, protocol="tcp://", dashboard_address=None
    ) as cluster:
        there = _grade(course, feedback=False, scheduler=cluster.scheduler_address)
        with Client(cluster, set_as_default=False) as client:
            left = client.run(lambda: [child.name() for child in psutil.Process().children()])
    assert [r.cells for r in there.results] == [r.cells for r in here.results]
    assert not there.changes
    assert list(left.values()) == [[], []]


@contextmanager
def _cluster(workers: int) -> Iterator[str]:
    """The address of a cluster whose workers are threads of this process."""
    with LocalCluster(
        n_workers=workers, processes=False, protocol="tcp://", dashboard_address=None
    ) as cluster:
        yield cluster.scheduler_address


def test_a_dask_worker_that_cannot_isolate_is_named_and_nothing_is_graded(
    course: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    with _cluster(1) as address:
        assert main(course / "submitted", Options(course=course, labs=(LAB,), scheduler=address)) == 1
    said = capsys.readouterr().out
    assert "The Dask worker tcp://" in said and "cannot grade: bubblewrap is not installed" in said
    assert not (course / "gradebook.db").exists()


def test_a_dask_worker_with_another_grader_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = map(str, itertools.count())
    monkeypatch.setattr(workers, "grader_version", lambda: next(versions))
    with _cluster(1) as address:
        pool = DaskWorkers(address)
        with pytest.raises(NoCluster, match=r"worker tcp://\S+ cannot grade: it has another grader"):
            pool.warm_up(isolated=True)
        pool.close()


def test_a_dask_worker_with_another_grader_that_joins_later_ends_the_batch_and_judges_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job: Any = SimpleNamespace(isolated=True)
    monkeypatch.setattr(workers, "run_job", lambda *job_and_batch: pytest.fail("it judged"))
    with _cluster(1) as address:
        pool = DaskWorkers(address)
        monkeypatch.setattr(workers, "grader_version", map(str, itertools.count()).__next__)
        with pytest.raises(NoCluster, match=r"joined meanwhile cannot grade: it has another.*--resume"):
            next(pool.run([job]))
        pool.close()


def test_when_the_last_dask_worker_is_gone_what_was_judged_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def judged(job: Any, batch: str, version: str) -> Any:
        if job == "the last":
            time.sleep(600)
        return f"verdict on {job}"

    monkeypatch.setattr(workers, "run_job_if_fit", judged)
    monkeypatch.setattr(workers, "_LOOK_SECONDS", 0.1)
    monkeypatch.setattr(workers, "_GONE_SECONDS", 0.5)
    with _cluster(0) as address:
        words = ["-m", "distributed.cli.dask_worker", address, "--no-nanny", "--no-dashboard"]
        worker = subprocess.Popen([sys.executable, *words], stderr=subprocess.DEVNULL)
        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(1, timeout=60)
        pool = DaskWorkers(address)
        jobs: Any = ["the first", "the last"]
        verdicts = pool.run(jobs)
        assert next(verdicts) == ("the first", "verdict on the first")
        worker.kill()
        worker.wait()
        with pytest.raises(NoCluster, match=r"no workers any more\. What was judged is kept"):
            next(verdicts)
        pool.close()


def test_the_seed_decides_the_cases_and_another_one_is_noticed(course: Path) -> None:
    _grade(course, feedback=False)
    secret = course / "secrets" / "judge.seed"
    secret.unlink()
    again = _grade(course, feedback=False, resume=True)
    assert again.reused == 0 and secret.is_file()


@pytest.mark.parametrize("name", ["nothing", "empty"])
def test_a_folder_without_hand_ins_is_one_sentence(
    course: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (course / "empty").mkdir()
    assert main(course / name, Options(course=course)) == 1
    said = capsys.readouterr().out.strip()
    assert said.startswith("course.py: ") and len(said.splitlines()) == 1 and name in said
    assert not (course / "gradebook.db").exists()


def test_without_bubblewrap_it_refuses_and_says_what_would_not_hold(
    course: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert main(course / "submitted", Options(course=course)) == 1
    said = capsys.readouterr().out
    assert "bubblewrap is not installed" in said and "gradebook" in said and "--unsafe" in said
    assert not (course / "gradebook.db").exists()


def test_a_sandbox_that_does_not_answer_is_one_sentence(
    course: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "_PROBE_SECONDS", 0)
    assert main(course / "submitted", Options(course=course)) == 1
    assert "did not end within 0 seconds" in capsys.readouterr().out


def test_a_warm_process_that_does_not_start_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workshop, "_scratch", lambda: str(tmp_path))
    monkeypatch.setattr(workshop, "_START_SECONDS", 0.001)
    slow = Workshop()
    with pytest.raises(WorkshopError, match=r"said nothing for 0\.001 seconds"):
        slow.wait()
    slow.close()
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    with pytest.raises(WorkshopError, match=r"could not be started: .*bwrap"):
        Workshop()
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_ends_a_batch_at_once_and_keeps_what_was_judged(course: Path) -> None:
    code = next(key for key, text in reference_answers().items() if "def speaker_counts" in text)
    shutil.rmtree(course / "submitted" / "wrong")
    hand_in(course, "slow", {code: "import time\ntime.sleep(600)"})
    words = [sys.executable, "-m", "autograder", "grade", "submitted", "--course", ".", "--lab", "00"]
    # A test run in the background ignores the signal, and what it starts would as well.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    said = course / "said.txt"
    with said.open("w") as out:
        grader = subprocess.Popen([*words, "--workers", "1"], cwd=course, stdout=out, start_new_session=True)
    signal.signal(signal.SIGINT, before)
    try:
        results = course / "grading" / "results" / LAB
        _until(lambda: {"blank.json", "right.json"} <= {path.name for path in results.glob("*.json")}, 120)
        _until(lambda: len(psutil.Process(grader.pid).children(recursive=True)) > 8, 30)
        started = psutil.Process(grader.pid).children(recursive=True)
        os.killpg(grader.pid, signal.SIGINT)
        assert grader.wait(15) == 130
        assert "`--resume` goes on from there" in said.read_text()
        assert psutil.wait_procs(started, timeout=5)[1] == []
    finally:
        grader.kill()
    assert not (results / "slow.json").exists()


def _until(true: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_unsafe_goes_on_without_a_sandbox_and_gives_the_same_marks(
    course: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert _points(_grade(course, unsafe=True, feedback=False)) == {
        "right": pytest.approx(1.0),
        "blank": 0.0,
        "wrong": 0.0,
        "page": None,
    }


def test_a_scheduler_that_does_not_answer_is_one_sentence(
    course: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(course / "submitted", Options(course=course, scheduler="tcp://127.0.0.1:1")) == 1
    assert "No Dask scheduler answers at tcp://127.0.0.1:1" in capsys.readouterr().out
    assert not (course / "gradebook.db").exists()


def test_the_roster_tells_who_is_missing_and_untouched_answers_keep_their_points(course: Path) -> None:
    lab = "02_roles"
    shutil.copytree(ROOT / "solutions" / lab, course / "solutions" / lab)
    source = nbformat.read(ROOT / "solutions" / lab / f"{lab}.ipynb", as_version=4)
    answers = {c.id: c.source for c in source.cells if c.metadata.get("nbgrader", {}).get("solution")}
    notebook = nbformat.read(ROOT / "notebooks" / lab / f"{lab}.ipynb", as_version=4)
    for cell in notebook.cells:
        cell.source = answers.get(cell.id, cell.source)
    notebook.cells = [c for c in notebook.cells if "def role_errors" not in c.source]
    (course / "submitted" / "gap" / lab).mkdir(parents=True)
    nbformat.write(notebook, course / "submitted" / "gap" / lab / f"{lab}.ipynb")
    (course / "class.csv").write_text("student,section\ngap,1\nabsent,1\n")
    outcome = _grade(course, labs=(lab,), roster=course / "class.csv", feedback=False)
    by_student = {result.student: result for result in outcome.results}
    assert by_student["absent"].status is Status.MISSING and by_student["absent"].points is None
    gap = by_student["gap"]
    assert gap.status is Status.NEEDS_HUMAN and "role_errors" in gap.reason
    points = {cell.grade_id: cell.points for cell in gap.cells}
    assert points["role-errors-hidden"] is None and points["repair-hidden"] == 1.5
    with _book(course) as book:
        assert book.find_grade("role-errors-hidden", lab, lab, "gap").needs_manual_grade
        assert book.find_grade("repair-hidden", lab, lab, "gap").auto_score == 1.5


@pytest.mark.parametrize("text", ["", "student\n"])
def test_a_roster_that_names_nobody_is_one_sentence(
    course: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (course / "class.csv").write_text(text)
    assert main(course / "submitted", Options(course=course, roster=course / "class.csv")) == 1
    assert "names nobody" in capsys.readouterr().out
    assert not (course / "gradebook.db").exists()


def test_every_status_is_one_the_report_knows(course: Path) -> None:
    shutil.rmtree(course / "submitted" / "wrong" / LAB)
    (course / "submitted" / "wrong" / "notes").mkdir()
    (course / "submitted" / "wrong" / "notes" / "todo.txt").write_text("later")
    outcome = _grade(course, feedback=False)
    statuses = {result.student: result.status for result in outcome.results}
    assert statuses["wrong"] is Status.MISSING and statuses["page"] is Status.NOT_GRADABLE
    assert _points(outcome)["wrong"] is None
