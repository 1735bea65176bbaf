"""Stock nbgrader on hostile hand-ins: in a bubblewrap sandbox, because it runs them unprotected.

The sandbox has no network, its own processes, nothing of the machine that could be written to, little disk,
all of it in memory, and no capabilities. From outside its memory, processes and time are watched. What is
graded with are nbgrader's own preprocessors in their own order, on a course of the short lab.
"""

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from nbgrader.api import Gradebook

from autograder import stock_nbgrader
from autograder.checks.seeds import SEED_FILE
from autograder.grading.gradebook import default_db
from autograder.hostile import short_lab
from autograder.hostile.graded_course import GradedCourse
from autograder.hostile.rows import ATTACKER, BYSTANDER, TWIN, Row, write_hand_ins
from autograder.hostile.short_lab import LAB
from autograder.labs import ROOT

PREPARED, COURSE, LOG = "/prepared", "/grading/course", "/log/nbgrader.log"
CELL_SECONDS = 20
BATCH_SECONDS = 480
MEMORY = 3 << 30
DISK = 512 << 20
# More than nbgrader needs for two notebooks, and few enough for any machine.
_PROCESSES = 256
_WATCHED_EVERY = 0.05
# What was ended for its memory gives it back before another one has to.
_DYING_SECONDS = 3.0
_WHOLE_SECONDS = 2 * BATCH_SECONDS + 300
_SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin")
_SETTINGS = ("ld.so.cache", "localtime", "fonts", "alternatives", "mime.types")
# What hidden tests import, and the answers that they compare with.
_COURSE_FILES = ("autograder", "chatcontract", "assets", "solutions", "course.py", "pyproject.toml")


@dataclass(frozen=True)
class StockBatch:
    """What stock nbgrader did with one batch.

    Attributes:
        seconds: wall time of `nbgrader autograde`, its start included.
        ended: whether it came to an end within BATCH_SECONDS.
        killed: whether a process was ended because all together took more than MEMORY.
        log: what it said.
        exported: points in the table of `nbgrader export`, by student.
    """

    graded: GradedCourse
    seconds: float
    ended: bool
    log: str
    exported: dict[str, float]
    killed: bool = False


class StockFailed(RuntimeError):
    """The sandbox gave no report; the message holds its last words."""


def write_short_course(folder: Path, seed: Path) -> None:
    """Make a course of the short lab that stock nbgrader has released, with two students on its list.

    Args:
        seed: the class's secret, which is copied into it.
    """
    stock_nbgrader.write_stock_course(
        folder, (LAB,), f"c.Execute.timeout = {CELL_SECONDS}", "c.IgnorePattern.enabled = False"
    )
    notebook = folder / "solutions" / LAB / f"{LAB}.ipynb"
    notebook.write_bytes(short_lab.notebook(short_lab.source()))
    (folder / SEED_FILE).parent.mkdir()
    shutil.copy2(seed, folder / SEED_FILE)
    stock_nbgrader.run(folder, "generate_assignment", LAB)
    with Gradebook(default_db(folder), stock_nbgrader.COURSE_ID) as gradebook:
        for student in (ATTACKER, TWIN, BYSTANDER):
            gradebook.update_or_create_student(student)


def grade_with_stock(row: Row, template: Path) -> StockBatch:
    """Grade one row's hand-ins, in a copy of a course of `write_short_course`.

    Raises:
        ValueError: the row is not for an unprotected grader.
        StockFailed: the sandbox did not come up, or ended before its report.
    """
    if row.unsafe:
        raise ValueError(f"row {row.number} must not be run unprotected: {row.unsafe}")
    with tempfile.TemporaryDirectory(prefix="stock-") as name:
        prepared = Path(name) / "course"
        shutil.copytree(template, prepared)
        students = write_hand_ins(row, prepared / "submitted")
        task = {
            "students": students,
            "by_hand": row.by_hand,
            "seconds": BATCH_SECONDS,
            "pages": bool(row.leak),
        }
        process = subprocess.Popen(
            [*_sandbox(prepared), "-m", "autograder.hostile.stock_inside", json.dumps(task)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        with _watched(process) as reasons:
            try:
                said, errors = process.communicate(timeout=_WHOLE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                said, errors = process.communicate()
    try:
        report: dict[str, Any] = json.loads(said)
    except ValueError as error:
        last = errors.decode(errors="replace").strip().splitlines()[-1:]
        why = " ".join([*reasons, *last]) or "no message"
        raise StockFailed(f"row {row.number}: the sandbox of stock nbgrader ended: {why}") from error
    return StockBatch(
        GradedCourse(report["scores"], report["notebooks"], report["pages"]),
        report["seconds"],
        report["ended"],
        report["log"],
        report["exported"],
        killed=bool(reasons),
    )


def _sandbox(prepared: Path) -> list[str]:
    """bubblewrap around this Python: the words that go before the program's arguments."""
    words = ["bwrap", "--unshare-user", "--unshare-all", "--as-pid-1", "--die-with-parent", "--new-session"]
    words += ["--uid", "1000", "--gid", "1000", "--hostname", "course", "--cap-drop", "ALL", "--clearenv"]
    for name, value in _environment().items():
        words += ["--setenv", name, value]
    words += ["--proc", "/proc", "--dev", "/dev"]
    for folder, size in (("/grading", DISK), ("/tmp", 64 << 20), ("/home/grader", 64 << 20)):
        words += ["--size", str(size), "--tmpfs", folder]
    for folder in ("/dev/shm", str(Path(LOG).parent)):
        words += ["--size", str(64 << 20), "--tmpfs", folder]
    # Behind the empty folders, in one of which the repository may stand.
    for path in _shown():
        words += ["--ro-bind", path, path]
    words += ["--ro-bind", str(prepared), PREPARED]
    words += ["--remount-ro", "/proc", "--remount-ro", "/dev", "--remount-ro", "/"]
    return [*words, "--chdir", "/grading", "--", sys.executable]


def _shown() -> Iterator[str]:
    for path in _SYSTEM:
        if Path(path).exists():
            yield path
    for name in _SETTINGS:
        if Path("/etc", name).exists():
            yield f"/etc/{name}"
    base = Path(sys.base_prefix).resolve()
    if not base.is_relative_to("/usr"):
        yield sys.base_prefix
    if sys.prefix != sys.base_prefix:
        yield sys.prefix
    for name in _COURSE_FILES:
        yield str(ROOT / name)


def _environment() -> dict[str, str]:
    return {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": "/home/grader",
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "CHATCONTRACT_SEED_FILE": f"{COURSE}/{SEED_FILE}",
        "MPLCONFIGDIR": "/tmp",
        "MPLBACKEND": "agg",
    }


@contextmanager
def _watched(process: "subprocess.Popen[bytes]") -> Iterator[list[str]]:
    """End the largest process while all take more than MEMORY, as Linux does where it runs out of memory."""
    reasons, stop = list[str](), threading.Event()

    def watch() -> None:
        while not stop.wait(_WATCHED_EVERY):
            _look(process, reasons)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield reasons
    finally:
        stop.set()
        watcher.join()
        process.kill()
        process.wait()


def _look(process: "subprocess.Popen[bytes]", reasons: list[str]) -> None:
    inside: list[psutil.Process] = []
    sizes: dict[psutil.Process, int] = {}
    with contextlib.suppress(psutil.Error):
        inside = psutil.Process(process.pid).children(recursive=True)
    for child in inside:
        with contextlib.suppress(psutil.Error):
            sizes[child] = child.memory_info().rss
    if len(inside) > _PROCESSES:
        reasons.append("too many processes")
        process.kill()
    elif sum(sizes.values()) > MEMORY:
        reasons.append("too much memory")
        with contextlib.suppress(psutil.Error):
            largest = max(sizes, key=lambda child: sizes[child])
            largest.kill()
            largest.wait(_DYING_SECONDS)
