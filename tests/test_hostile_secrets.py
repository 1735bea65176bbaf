"""Submissions that look for secrets, carry them out, or leave something for whoever comes next."""

import os
import stat
from pathlib import Path

import psutil
import pytest
from hostile_submissions import SEED, graded, output, points, shown, workshop
from sandboxed import needs_sandbox

from autograder.hostile.attacks import READER, SHADOW_MODULE, recording
from autograder.hostile.private_texts import secret_texts, tells
from autograder.hostile.short_lab import ALL, POSSIBLE, answered, own_cell, right, with_cell
from autograder.labs import ROOT, stub_of

pytestmark = [pytest.mark.slow, needs_sandbox]


def tells_nothing(text: str) -> bool:
    """Whether no private case can be read in a text, in whichever quotes it was written."""
    return not tells(text, SEED)


def test_there_are_secrets_to_tell() -> None:
    assert len(secret_texts(SEED)) >= 5
    assert not tells_nothing(secret_texts(SEED)[0])


def test_what_a_function_is_asked_never_reaches_an_output() -> None:
    result = graded([*recording(), own_cell(READER + "tell()\nimport time; time.sleep(1)\ntell()")])
    assert result.points == ALL
    # The public cases were written down, and the reader found them.
    assert '["user", "assistant", "user", "assistant"]' in output(result)
    assert tells_nothing(shown(result))


def test_what_a_function_is_asked_never_reaches_another_answers_text() -> None:
    cells = recording()
    for cell in cells:
        if cell["metadata"].get("nbgrader", {}).get("grade_id") == stub_of("repair"):
            cell["source"] = READER + (
                "def repair(messages, policy):\n    raise ValueError(str([open(p).read() for p in"
                " ('/home/student/seen', '/tmp/seen', '/dev/shm/seen') if _os.path.exists(p)]))\n"
            )
    result = graded(cells)
    assert points(result) == POSSIBLE | {"repair": 0.0}
    assert tells_nothing(shown(result))


def test_a_second_run_that_a_submission_forces_tells_nothing() -> None:
    cells = recording()
    for cell in cells:
        cell["source"] = cell["source"].replace("    _keep(roles)\n", "    _keep(roles); _os.kill(-1, 9)\n")
    result = graded([*cells, own_cell(READER + "tell()")])
    assert tells_nothing(shown(result))
    assert points(result)["repair"] == POSSIBLE["repair"]


THIEF = """
import os, socket, threading
heard = []
def listen(fd):
    s = socket.socket(fileno=os.dup(fd))
    while True:
        try: part = s.recv(1 << 16, socket.MSG_PEEK)
        except OSError: return
        if part and part not in heard: heard.append(part)
        if not part: return
for fd in range(3, 100):
    try:
        kind = socket.socket(fileno=os.dup(fd))
        if kind.family == socket.AF_UNIX: threading.Thread(target=listen, args=(fd,), daemon=True).start()
    except OSError: pass
"""


def test_a_thread_that_listens_on_every_channel_hears_no_case() -> None:
    result = graded([own_cell(THIEF), *right(), own_cell("import time; time.sleep(1); print(heard)")])
    assert tells_nothing(shown(result))


LOOK = """
import gc, os, sys
found = set()
for place, folders, files in os.walk('/'):
    if place.startswith(('/proc', '/usr', '/lib', '/sbin', '/bin', '/opt/venv', sys.base_prefix)):
        folders.clear(); continue
    found.update(os.path.join(place, name) for name in [*files, *folders])
bad = ('solutions', 'secret', 'gradebook', 'judge.seed', 'faults', 'submitted', '.git', '/tests')
print('FILES', sorted(name for name in found if any(word in name for word in bad)))
mine = [name for name in found if '/opt/course/autograder/' in name]
print('GRADER', sorted(name for name in mine if '__pycache__' not in name))
print('MODULES', sorted(name for name in sys.modules if name.startswith('autograder')))
print('PROCESSES', sorted(name for name in os.listdir('/proc') if name.isdecimal()))
words = ('private_cases', 'judge_answers', 'BEGIN HIDDEN')
print('OBJECTS', [w for w in words if any(getattr(o, '__name__', '') == w for o in gc.get_objects())])
print('HOST KEYS', os.path.lexists('/etc/ssl/private'), os.path.exists('/etc/ssl/certs'))
print('WIRE', os.listdir('/wire'), 'HOME', os.listdir('/home'), os.path.isdir('/work'))
"""


def test_there_is_nothing_secret_to_be_found() -> None:
    words = output(graded(with_cell(LOOK)))
    assert "FILES []" in words
    grader = words.split("GRADER ")[1].split("\n")[0]
    names = {Path(name).name for name in eval(grader)}
    assert names == {"__init__.py", "grading", "inside"} | {
        path.name for path in (ROOT / "autograder/grading/inside").glob("*.py")
    }
    assert "judging" not in words.split("MODULES")[1].split("\n")[0]
    assert len(eval(words.split("PROCESSES ")[1].split("\n")[0])) <= 10
    assert "OBJECTS []" in words
    assert "HOST KEYS False True" in words
    assert "WIRE [] HOME ['student'] False" in words


WRITES = """
import os
paths = ['/wire/x', '/run/kernel/x', '/opt/x', '/opt/course/x', '/usr/x', '/x', '/dev/x', '/home/x',
         '/opt/course/chatcontract/__init__.py', '/opt/course/autograder/grading/inside/answers.py',
         '/proc/sysrq-trigger', '/proc/sys/kernel/core_pattern', '/proc/sys/kernel/hostname',
         '/proc/sys/vm/drop_caches', '/proc/self/oom_score_adj', '/etc/ld.so.cache', '/root/x', OF_THE_HOST]
done = []
for path in paths:
    try:
        open(path, 'a').close(); done.append(path)
    except OSError: pass
for path in ('/dev/null', '/dev/zero', '/dev/random', '/usr', '/opt', '/'):
    for act in (lambda p: os.chmod(p, os.stat(p).st_mode & 0o7777), lambda p: os.utime(p),
                lambda p: os.chown(p, 0, 0)):
        try:
            act(path); done.append(path)
        except OSError: pass
print('DONE', done)
for line in open('/proc/self/status'):
    if line.startswith(('CapEff', 'CapPrm', 'CapBnd', 'NoNewPrivs', 'Seccomp:')): print(line.strip())
"""


def test_nothing_can_be_written_outside_the_submissions_own_folders() -> None:
    before = stat.S_IMODE(Path("/dev/null").stat().st_mode)
    words = output(graded(with_cell(f"OF_THE_HOST = {str(ROOT / 'x')!r}\n{WRITES}")))
    assert "DONE []" in words
    assert "CapEff:\t0000000000000000" in words and "CapBnd:\t0000000000000000" in words
    assert "NoNewPrivs:\t1" in words and "Seccomp:\t2" in words
    assert stat.S_IMODE(Path("/dev/null").stat().st_mode) == before


RIGHTS = """
def rights():
    return sorted({line.split()[1] for task in os.listdir('/proc/self/task')
                   for line in open(f'/proc/self/task/{task}/status') if line.startswith('CapEff')})
import os
def role_errors(roles): raise ValueError(str(rights()))
print('THREADS', rights())
"""


def test_no_thread_and_no_call_has_rights_that_the_notebook_gave_up() -> None:
    result = graded(answered(RIGHTS))
    assert "THREADS ['0000000000000000']" in output(result)
    asked = next(cell.text for cell in result.cells if cell.exercise == "role_errors")
    assert "['0000000000000000']" in asked


ESCAPES = """
import ctypes, os, subprocess
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *args):
    ctypes.set_errno(0)
    return getattr(libc, name)(*args), ctypes.get_errno()
print('PTRACE', call('ptrace', 16, os.getppid() or 1, 0, 0)[0])
print('MOUNT', call('mount', b'proc', b'/tmp', b'proc', 0, None)[0], call('umount2', b'/wire', 2)[0])
print('UNSHARE', call('unshare', 0x10000000)[0], call('unshare', 0x00020000)[0])
print('SETNS', call('setns', 3, 0)[0], 'CHROOT', call('chroot', b'/tmp')[0])
print('KEYS', call('syscall', 248, b'user', b'note', b'hello', 5, -5)[0])
print('HOST', call('sethostname', b'x', 1)[0])
for fd in sorted(os.listdir('/proc/self/fd'), key=int):
    try:
        target = os.readlink(f'/proc/self/fd/{fd}')
    except OSError: continue
    if target.startswith('/') and not target.startswith(('/dev/', '/proc/', '/home/student', '/tmp/')):
        print('OPEN', target)
print('END')
"""


def test_there_is_no_way_out_through_system_calls_or_open_files() -> None:
    words = output(graded(with_cell(ESCAPES)))
    for line in (
        "PTRACE -1",
        "MOUNT -1 -1",
        "UNSHARE -1 -1",
        "SETNS -1 CHROOT -1",
        "KEYS -1",
        "HOST -1",
        "END",
    ):
        assert line in words
    assert "OPEN" not in words


LEAVE = """
import builtins, ctypes, json, os, random, subprocess, sys
for folder in ('/tmp', '/dev/shm', '/home/student', '.', '/var/tmp', '/run/kernel', '/wire'):
    try: open(os.path.join(folder, 'left-here'), 'w').write('hello')
    except OSError: pass
builtins.left_here = json.left_here = sys.left_here = True
json.dumps = lambda *a, **k: 'left-here'
os.environ['LEFT_HERE'] = 'left-here'
random.seed(1)
libc = ctypes.CDLL(None)
libc.syscall(248, b'user', b'left-here', b'hello', 5, -4)
libc.shmget(7, 4096, 0o1666)
subprocess.Popen(['sleep', '77125'], start_new_session=True)
def stay():
    import time
    time.sleep(600)
import threading; threading.Thread(target=stay).start()
"""
FIND = """
import builtins, ctypes, json, os, sys
found = []
for place, folders, files in os.walk('/'):
    if place == '/':
        folders[:] = set(folders) - {'proc', 'usr', 'lib', 'opt', 'sys'}
    if 'left-here' in files: found.append(place)
print('PLACES', found)
print('NAMES', [hasattr(m, 'left_here') for m in (builtins, json, sys)], 'LEFT_HERE' in os.environ)
print('KEYS', ctypes.CDLL(None).syscall(249, b'user', b'left-here', None, 0))
print('SHARED', ctypes.CDLL(None).shmget(7, 0, 0))
print('FD', [os.readlink(f'/proc/self/fd/{n}') for n in (0, 1, 2)])
"""


def test_nothing_is_left_for_the_next_submission() -> None:
    process = {kind: child.pid for kind, child in workshop()._processes.items()}
    graded(with_cell(LEAVE, before="role_errors"))
    result = graded(with_cell(FIND))
    words = output(result)
    assert result.points == ALL
    assert "PLACES []" in words
    assert "NAMES [False, False, False] False" in words
    assert "FD ['/dev/null'" in words or "pipe" in words.split("FD")[1]
    assert "KEYS -1" in words and "SHARED -1" in words
    # The same warm process served both.
    assert {kind: child.pid for kind, child in workshop()._processes.items()} == process


def test_a_file_that_came_with_the_submission_is_there_and_shadows_nothing() -> None:
    files = {"numpy.py": SHADOW_MODULE, "notes.txt": b"hello"}
    result = graded(
        with_cell("import numpy; print(numpy.__file__); print(open('notes.txt').read())"), files=files
    )
    assert "hello" in output(result) and "mine" not in output(result)
    assert result.points == ALL


def test_the_machine_is_as_it_was() -> None:
    made = workshop()
    graded(right())
    assert [path.name for path in made.wire.iterdir() if path.is_dir()] == []


def test_the_process_that_talks_to_a_kernel_has_no_rights_and_keeps_nothing_for_the_next_one() -> None:
    made = workshop()
    made.open_job("job", {})
    with made.start_runner("job"):
        *_, warm, _, runner = psutil.Process(made._processes["runner"].pid).children(recursive=True)
        status = Path(f"/proc/{runner.pid}/status").read_text()
        for line in (
            "CapEff:\t0000000000000000",
            "CapBnd:\t0000000000000000",
            "NoNewPrivs:\t1",
            "Seccomp:\t2",
        ):
            assert line in status
        for place in ("tmp", "dev/shm", "home/student", "proc"):
            devices = {Path(f"/proc/{child.pid}/root", place).stat().st_dev for child in (warm, runner)}
            assert len(devices) == 2
        assert os.statvfs(f"/proc/{runner.pid}/root/wire").f_flag & os.ST_RDONLY
        assert Path(f"/proc/{runner.pid}/fd/2").readlink() == Path("/dev/null")
    made.end("runner")
    made.close_job("job")
