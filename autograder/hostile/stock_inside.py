"""The first process of the sandbox in which stock nbgrader grades one batch of hand-ins.

It copies the course to where it can be written, runs nbgrader's commands, ends what they left behind, and
writes what the gradebook then says to standard output. As process 1 it cannot be ended from inside.
"""

import contextlib
import csv
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from autograder.hostile.graded_course import GradedCourse, mark_by_hand, read_graded_course
from autograder.hostile.short_lab import LAB
from autograder.hostile.stock import COURSE, LOG, PREPARED
from autograder.labs import ROOT
from autograder.stock_nbgrader import command

_LARGEST_FILE, _LARGEST_PROCESS = 1 << 30, 6 << 30
_AFTER_SECONDS = 120
_LOG_END = 60_000


def main() -> None:
    """Grade what lies at PREPARED; the task is JSON in the first argument."""
    task = json.loads(sys.argv[1])
    _look_at_the_walls()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_LARGEST_FILE, _LARGEST_FILE))
    resource.setrlimit(resource.RLIMIT_DATA, (_LARGEST_PROCESS, _LARGEST_PROCESS))
    shutil.copytree(PREPARED, COURSE, symlinks=True)
    course = Path(COURSE)
    report: dict[str, Any] = {"log": ""}
    began = time.monotonic()
    report["ended"] = _run(report, task["seconds"], "autograde", LAB)
    if task["by_hand"] and report["ended"]:
        mark_by_hand(course, task["students"][0], task["by_hand"])
        report["ended"] = _run(report, task["seconds"], "autograde", LAB, "--force")
    report["seconds"] = time.monotonic() - began
    later: dict[str, Any] = {"log": ""}
    if task["pages"]:
        _run(later, _AFTER_SECONDS, "generate_feedback", LAB)
    _run(later, _AFTER_SECONDS, "export")
    report["exported"] = _exported(course)
    try:
        graded = read_graded_course(course, task["students"])
    except SQLAlchemyError as error:
        graded = GradedCourse({}, {}, {})
        report["log"] += f"\n{type(error).__name__}: {error}"
    print(json.dumps(report | asdict(graded)))


def _look_at_the_walls() -> None:
    """Refuse to go on where a hand-in could reach anything but this sandbox."""
    if os.getpid() != 1:
        raise SystemExit("not in a process namespace of its own")
    if [name for _, name in socket.if_nameindex() if name != "lo"]:
        raise SystemExit("there is a network")
    outside = (
        ROOT,
        sys.prefix,
        "/usr",
        "/",
        PREPARED,
        "/proc/sys/kernel/core_pattern",
        "/proc/sysrq-trigger",
    )
    if writable := [str(path) for path in outside if os.access(path, os.W_OK)]:
        raise SystemExit(f"{writable[0]} can be written to")


def _run(report: dict[str, Any], seconds: float, *arguments: str) -> bool:
    """Run an nbgrader command and end everything it started; whether it came to an end by itself."""
    with Path(LOG).open("wb") as log:
        process = subprocess.Popen(
            command(*arguments), cwd=COURSE, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            process.wait(seconds)
            in_time = True
        except subprocess.TimeoutExpired:
            in_time = False
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    process.wait()
    report["log"] += Path(LOG).read_text(encoding="utf-8", errors="replace")[-_LOG_END:]
    return in_time


def _exported(course: Path) -> dict[str, float]:
    """The points in the table that `nbgrader export` wrote, by student."""
    path = course / "grades.csv"
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {row["student_id"]: float(row["score"]) for row in csv.DictReader(file)}


if __name__ == "__main__":
    main()
