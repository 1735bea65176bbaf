"""Submissions that do not end, crash, take too much, or ask for what they cannot have."""

import dataclasses
import os
import platform
import time
from pathlib import Path

import pytest
from hostile_submissions import SMALL, graded, others_stand, output, points, verdicts
from sandboxed import needs_sandbox

from autograder.grading.inside import namespaces
from autograder.grading.model import Status
from autograder.hostile import attacks
from autograder.hostile.attacks import WRONG
from autograder.hostile.short_lab import ALL, POSSIBLE, answered, blank, own_cell, right, with_cell

pytestmark = [pytest.mark.slow, needs_sandbox]


def running(words: str) -> list[str]:
    """Processes of this machine whose command line holds these words."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if words in command:
                found.append(command)
    return found


def test_the_right_lab_earns_everything_and_a_second_run_the_same() -> None:
    first, second = graded(right()), graded(right())
    assert first.points == second.points == ALL
    assert first.cells == second.cells
    assert first.flags == ()


def test_a_blank_submission_is_a_zero_without_alarm() -> None:
    result = graded(blank())
    assert (result.status, result.points, result.flags) == (Status.GRADED, 0.0, ())
    assert {cell.verdict for cell in result.cells} == {"no answer"}
    assert all("no answer" in cell.text for cell in result.cells)


LOOPS = {
    "a loop": attacks.LOOP,
    "a loop that ignores interrupts": attacks.LOOP_PAST_INTERRUPTS,
    "a loop that swallows interrupts": (
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass\n"
    ),
    "a wait without end": "import threading\nthreading.Event().wait()\n",
}


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_a_cell_without_end_costs_its_own_question_only(loop: str) -> None:
    result = graded(answered(loop + WRONG))
    assert verdicts(result) == ["took too long"] * 2
    assert points(result)["role_errors"] == 0
    assert others_stand(result)
    assert "too long" in output(result)


def test_a_function_without_end_costs_its_own_question_only() -> None:
    loop = "while True:\n        try:\n            while True: pass\n        except BaseException: pass"
    began = time.monotonic()
    result = graded(answered(f"def role_errors(roles):\n    {loop}\n"))
    assert verdicts(result) == ["took too long"] * 2
    assert others_stand(result)
    assert time.monotonic() - began < 60


CRASHES = {
    "os._exit": attacks.EXIT,
    "segfault": "import ctypes; ctypes.string_at(0)",
    "abort": "import os; os.abort()",
    "kill": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV); os._exit(1)",
}
CELL_CRASHES = CRASHES | {
    "ask_exit": "get_ipython().ask_exit()",
    "sys.exit": "import sys; sys.exit()",
    "the shell's exit": "get_ipython().kernel.do_shutdown(False)\nimport os; os._exit(3)",
    "its sockets closed": "import os; os.closerange(3, 4096)",
}


@pytest.mark.parametrize("crash", CELL_CRASHES.values(), ids=CELL_CRASHES)
def test_a_cell_that_ends_python_costs_its_own_question_only(crash: str) -> None:
    result = graded(answered(f"{crash}\nraise SystemExit\n{WRONG}"))
    assert others_stand(result)
    assert set(verdicts(result)) <= {"crashed Python", "took too long"}
    assert points(result)["role_errors"] == 0


@pytest.mark.parametrize(
    "crash", [*CRASHES.values(), "import sys; sys.exit(0)", "import os; os.kill(os.getppid(), 9)"]
)
def test_a_function_that_ends_python_costs_its_own_question_only(crash: str) -> None:
    result = graded(answered(f"def role_errors(roles):\n    {crash}\n"))
    assert verdicts(result) == ["crashed Python"] * 2
    assert others_stand(result)


def test_a_crash_behind_the_answers_takes_nothing_away() -> None:
    result = graded(with_cell("import os; os._exit(1)", at_end=True))
    assert result.points == ALL
    assert "crashed Python" in output(result)


def test_many_crashes_are_not_too_many() -> None:
    cells = [own_cell("import os; os._exit(1)") for _ in range(6)]
    assert graded([*cells, *right()]).points == ALL


MEMORY = {
    "one allocation": "x = bytearray(4 << 30)",
    "piece by piece": attacks.MEMORY_BOMB,
    "tensors": "import torch\nx = []\nwhile True: x.append(torch.ones(1 << 22))",
    "many processes": (
        "import os, time\n"
        "for _ in range(8):\n"
        "    if os.fork() == 0:\n"
        "        x = bytearray(300 << 20)\n"
        "        time.sleep(60); os._exit(0)\n"
        "time.sleep(2)"
    ),
}


@pytest.mark.parametrize("bomb", ["one allocation", "piece by piece", "tensors"])
def test_memory_of_a_cell_is_bounded(bomb: str) -> None:
    result = graded(answered(f"{MEMORY[bomb]}\n{WRONG}"))
    assert verdicts(result) == ["used too much memory"] * 2
    assert others_stand(result)
    assert result.peak_memory < 1.6 * SMALL.memory


def test_memory_of_many_processes_is_bounded_together() -> None:
    result = graded(with_cell(MEMORY["many processes"]))
    assert result.points == ALL
    # Memory is looked at every 50 ms, so that it can go over for a moment.
    assert result.peak_memory < 4 * SMALL.memory
    assert any("memory" in flag for flag in result.flags)


def test_memory_of_a_function_is_bounded() -> None:
    body = MEMORY["piece by piece"].replace("\n", "\n    ")
    result = graded(answered(f"def role_errors(roles):\n    {body}\n"))
    assert verdicts(result) == ["used too much memory"] * 2
    assert others_stand(result)


def test_memory_of_a_functions_processes_is_bounded_without_harm_to_other_answers() -> None:
    body = MEMORY["many processes"].replace("\n", "\n    ")
    result = graded(answered(f"def role_errors(roles):\n    {body}\n"))
    assert others_stand(result)
    # Memory is looked at every 50 ms, so that it can go over for a moment.
    assert result.peak_memory < 4 * SMALL.memory


UNCOUNTED = {
    "a shared map": "import mmap\nx = mmap.mmap(-1, 2 << 30)\nfor i in range(0, 2 << 30, 4096): x[i] = 1",
    "a shared map of a device": (
        "import mmap, os\nx = mmap.mmap(os.open('/dev/zero', os.O_RDWR), 1 << 20)\nx[0] = 1"
    ),
    "buffers of sockets": (
        "import socket\nsent, x = 0, []\ntry:\n"
        "    while sent < 200 << 20:\n"
        "        x += socket.socketpair()\n        x[-1].setblocking(False)\n"
        "        try: x[-1].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 24)\n"
        "        except PermissionError: pass\n"
        "        try:\n            while True: sent += x[-1].send(bytes(1 << 15))\n"
        "        except BlockingIOError: pass\n"
        "finally: x.clear(); print(sent >> 20, 'MB')"
    ),
    "a file in memory": (
        "import os\nfor _ in range(200):\n    f = os.memfd_create('x')\n    os.write(f, bytes(15 << 20))"
    ),
    "System V memory": (
        "import ctypes\nc = ctypes.CDLL(None, use_errno=True)\n"
        "n = c.shmget(0, ctypes.c_size_t(2 << 30), 0o1600)\n"
        "if n < 0: raise PermissionError(ctypes.get_errno())"
    ),
    "a file system of its own": (
        "import subprocess\n"
        "subprocess.run(['unshare', '-Urm', 'mount', '-t', 'tmpfs', 'x', '/tmp'], check=True)"
    ),
}


@pytest.mark.parametrize("source", UNCOUNTED.values(), ids=UNCOUNTED)
def test_memory_that_no_limit_counts_is_refused(source: str) -> None:
    result = graded(with_cell(f"{source}\nprint('got', 'it')"))
    assert result.points == ALL
    assert "got it" not in output(result)


BOMBS = {
    "forks": attacks.FORK_BOMB,
    "shells": "import subprocess, time\nsubprocess.run(['bash', '-c', ':(){ :|:& };:'])\ntime.sleep(2)",
    "threads and processes": (
        "import subprocess\nx = [subprocess.Popen(['sleep', '77123']) for _ in range(400)]"
    ),
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_a_fork_bomb_ends_with_its_kernel(bomb: str) -> None:
    result = graded(answered(f"{bomb}\n{WRONG}"))
    assert others_stand(result)
    assert any("processes" in flag for flag in result.flags)
    assert running("sleep 77123") == []


def test_a_kernel_release_need_not_hold_two_plain_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    # Older than the bound, which would be set for the whole machine here.
    monkeypatch.setattr(platform, "release", lambda: "6.12-rc1-amd64")
    namespaces.bound_processes()


def test_a_fork_bomb_in_a_function_costs_its_own_question_only() -> None:
    result = graded(answered("import os\ndef role_errors(roles):\n    while True: os.fork()\n"))
    assert points(result)["role_errors"] == 0
    assert others_stand(result)


def test_a_daemon_is_ended_and_told_of() -> None:
    daemon = (
        "import os\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        os.execvp('sleep', ['sleep', '77124'])\n"
        "    os._exit(0)\n"
        "os.wait()"
    )
    result = graded(with_cell(daemon))
    assert result.points == ALL
    assert "left 1 processes behind, which were ended" in result.flags
    assert running("sleep 77124") == []


@pytest.mark.parametrize("folder", [".", "/tmp", "/dev/shm"])
def test_the_disk_is_bounded(folder: str) -> None:
    result = graded(with_cell(attacks.fills_the_disk(folder)))
    assert result.points == ALL
    assert "No space left on device" in output(result)
    assert "filled the disk space of a submission" in result.flags


def test_many_small_files_are_bounded() -> None:
    filler = "import itertools\nfor n in itertools.count(): open(f'f{n}', 'w').close()"
    result = graded(with_cell(filler))
    assert result.points == ALL
    assert "No space left on device" in output(result)


FLOODS = {
    "a line of 30 MB": attacks.LONG_LINE,
    "300 MB": "print('x' * 300_000_000)",
    "many lines": "for n in range(400_000): print('line', n)",
    "without end": "while True: print('still here')",
    "displays": "from IPython.display import display\nfor n in range(10_000): display(n)",
    "large names": "raise type('E' * 3_000_000, (Exception,), {})('x' * 3_000_000)",
    "metadata": (
        "from IPython.display import display\n"
        "for _ in range(9): display({'text/plain': 'x'}, metadata={'a': 'y' * 5_000_000}, raw=True)"
    ),
    "wide characters": "print('\\U0001F600' * 1_000_000)",
    "standard error, past Python": "import os\nfor _ in range(30): os.write(2, b'x' * 1_000_000)",
    "a progress line": "for n in range(100_000): print(n, end='\\r')",
    "updates": (
        "from IPython.display import display\nh = display('x', display_id=True)\n"
        "for n in range(3000): h.update('y' * 10_000)"
    ),
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
def test_output_is_cut(flood: str) -> None:
    began = time.monotonic()
    result = graded(with_cell(flood))
    assert result.points == ALL
    assert len(output(result)) < 300_000
    assert time.monotonic() - began < 30


def test_floods_of_all_cells_together_are_cut() -> None:
    floods = [own_cell("print('n ' * 90_000)") for _ in range(40)]
    result = graded([*right(), *floods])
    assert result.points == ALL
    assert len(output(result)) < 4_000_000


CALLS = {
    "an address": attacks.NETWORK_CALL,
    "a name": "import socket; socket.create_connection(('pypi.org', 443))",
    "a command": "!curl -sS https://example.org",
    "a model": attacks.MODEL_DOWNLOAD,
    "a data set": "from datasets import load_dataset; load_dataset('org/data')",
}


@pytest.mark.parametrize("source", CALLS.values(), ids=CALLS)
def test_the_network_is_refused_at_once_and_in_words(source: str) -> None:
    began = time.monotonic()
    result = graded(with_cell(source))
    assert result.points == ALL
    assert "There is no network while grading" in output(result)
    assert "asked for the network, which is closed while grading" in result.flags
    assert time.monotonic() - began < 15


def test_input_is_an_error_at_once() -> None:
    result = graded(with_cell(attacks.INPUT))
    assert result.points == ALL
    assert "input" in output(result)
    result = graded(answered("def role_errors(roles):\n    return input('? ')\n"))
    assert verdicts(result) == ["failed"] * 2
    assert others_stand(result)


def test_a_name_that_only_a_later_cell_defines_is_named() -> None:
    cells = answered(attacks.USES_A_LATER_NAME + WRONG)
    result = graded([*cells, own_cell(attacks.DEFINES_IT)])
    assert "name 'later_limit' is not defined" in output(result)
    assert points(result)["role_errors"] == 0
    assert others_stand(result)


COMMANDS = {
    "delete": "!rm -rf ~ / 2>/dev/null",
    "leave": "%cd ..\n%cd /\nimport os; os.chdir('/')",
    "run": "%run /etc/passwd",
    "install": "%pip install numpy==1.0",
    "kill all": attacks.KILL_ALL,
    "kill all from Python": "import os; os.kill(-1, 9)",
    "interrupt all": "import os; os.kill(-1, 2)",
}


@pytest.mark.parametrize("source", COMMANDS.values(), ids=COMMANDS)
def test_commands_reach_nothing_but_the_submission(source: str) -> None:
    result = graded(with_cell(source))
    assert result.points == ALL
    assert graded(right()).points == ALL


@pytest.mark.parametrize("after", ["role_errors", "repair"])
def test_answers_before_and_after_forks_that_were_killed_still_count(after: str) -> None:
    killer = f"import os\ndef {after}(*a, **k):\n    os.kill(-1, 9)\n"
    result = graded(answered(killer, after))
    assert verdicts(result, after) == ["crashed Python"] * 2
    assert points(result)["validate_jsonl"] == POSSIBLE["validate_jsonl"]


def test_a_submission_that_takes_too_long_as_a_whole_is_left_to_a_person() -> None:
    slow = [own_cell("import time; time.sleep(2.5)") for _ in range(4)]
    result = graded([*slow, *right()], limits=dataclasses.replace(SMALL, total_seconds=6))
    assert result.status is Status.NEEDS_HUMAN
    assert {cell.verdict for cell in result.cells} == {"not reached"}
    assert "took too long as a whole" in result.reason
