"""Where student code runs: a bubblewrap sandbox with an allow-list of paths and no network.

What the sandbox shows, all read-only: the system's libraries, this Python and its packages, `chatcontract`,
the course's assets, and the grader's `inside` package. Not among it: solutions, the rest of the grader, the
gradebook, the secret, other submissions, the real home. bubblewrap: https://github.com/containers/bubblewrap
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from autograder.labs import ROOT
from chatcontract.models import cache_root

COURSE, VENV, MODELS, WIRE = "/opt/course", "/opt/venv", "/opt/models", "/wire"
# What students have themselves, and the empty packages around `inside`.
_COURSE_FILES = (
    "chatcontract",
    "assets",
    "course.py",
    "pyproject.toml",
    "autograder/__init__.py",
    "autograder/grading/__init__.py",
)
_SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin")
_SETTINGS = (
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "fonts",
    "localtime",
    "alternatives",
    "ssl/certs",
    "ssl/openssl.cnf",
    "mime.types",
)

_PROBE_SECONDS = 60
_RISK = "Without isolation a submission can read the gradebook, the seed and other submissions"


class NoSandbox(RuntimeError):
    """This machine cannot isolate student code; the message says what is missing and what is then unsafe."""


def command(wire: Path, program: list[str], *, models: Path | None = None) -> list[str]:
    """The bubblewrap command that runs `program` in a sandbox.

    Args:
        wire: folder of sockets, the one place that can be written to from both sides; seen as /wire.
        program: arguments for Python.
        models: cache of fetched models, shown read-only when it exists.
    """
    words = [
        "bwrap",
        "--unshare-user",
        "--unshare-all",
        "--die-with-parent",
        "--new-session",
        "--cap-add",
        "ALL",
    ]
    words += ["--uid", "0", "--gid", "0", "--hostname", "course", "--clearenv"]
    for name, value in _environment().items():
        words += ["--setenv", name, value]
    words += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/dev/shm"]
    # A shared map of /dev/zero is memory that no limit counts.
    words += ["--dev-bind", "/dev/null", "/dev/zero"]
    for source, target in _shown(models):
        words += ["--ro-bind", source, target]
    for folder in ("/tmp", "/home/student", "/run/kernel"):
        words += ["--perms", "0755", "--tmpfs", folder]
    words += ["--bind", str(wire), WIRE, "--remount-ro", "/", "--chdir", "/home/student"]
    return [*words, "--", _python(), *program]


def command_without(program: list[str], wire: Path) -> tuple[list[str], dict[str, str]]:
    """The same program with no sandbox around it, and its environment; for `--unsafe`."""
    changed = {"HOME": str(wire), "PYTHONPATH": str(ROOT), "CHATCONTRACT_CACHE": str(cache_root())}
    changed["PATH"] = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
    return [sys.executable, *program], _environment() | changed


def _python() -> str:
    if sys.prefix == sys.base_prefix:
        return sys.executable
    return f"{VENV}/bin/{Path(sys.executable).name}"


def _environment() -> dict[str, str]:
    return {
        "PATH": f"{Path(_python()).parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": "/home/student",
        "LANG": "C.UTF-8",
        "PYTHONPATH": COURSE,
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONSAFEPATH": "1",
        "CHATCONTRACT_CACHE": MODELS,
        # One thread: a child forked after a tensor operation with two threads hangs, and figures repeat.
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "MPLBACKEND": "agg",
        "MPLCONFIGDIR": "/tmp",
        "JUPYTER_PLATFORM_DIRS": "1",
    }


def _shown(models: Path | None) -> Iterator[tuple[str, str]]:
    for path in _SYSTEM:
        if Path(path).exists():
            yield path, path
    for name in _SETTINGS:
        if Path("/etc", name).exists():
            yield f"/etc/{name}", f"/etc/{name}"
    base = Path(sys.base_prefix).resolve()
    if not base.is_relative_to("/usr"):
        yield str(base), sys.base_prefix
    if sys.prefix != sys.base_prefix:
        yield sys.prefix, VENV
    for name in _COURSE_FILES:
        yield str(ROOT / name), f"{COURSE}/{name}"
    yield str(ROOT / "autograder/grading/inside"), f"{COURSE}/autograder/grading/inside"
    if models is not None and models.is_dir():
        yield str(models), MODELS


def require() -> None:
    """Probe the sandbox by running it.

    Raises:
        NoSandbox: bubblewrap is missing, or the kernel refuses namespaces, or some inside others.
    """
    if sys.platform != "linux":
        raise NoSandbox(
            "Student code is isolated with Linux namespaces, and this is not Linux: grade in WSL2 or in a "
            f"Linux container (docs/grading.md says how). {_RISK}"
        )
    if shutil.which("bwrap") is None:
        raise NoSandbox(
            f"bubblewrap is not installed (Debian and Ubuntu: apt-get install bubblewrap). {_RISK}"
        )
    words = command(Path("/tmp"), ["-c", _PROBE])
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=_PROBE_SECONDS, env=dict(os.environ)
        )
    except subprocess.TimeoutExpired:
        raise NoSandbox(
            f"The sandbox was tried out and did not end within {_PROBE_SECONDS} seconds: try again when the "
            f"machine has less to do. {_RISK}"
        ) from None
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise NoSandbox(
            f"bubblewrap cannot make namespaces here ({said}). In a container, start it with user namespaces "
            f"allowed (docs/grading.md). {_RISK}"
        )


# Forks the way the warm process forks a kernel.
_PROBE = """
import os
from autograder.grading.inside import confinement as c, namespaces as n
n.unshare(n.CLONE_NEWNS | n.CLONE_NEWPID | n.CLONE_NEWIPC | n.CLONE_NEWNET)
child = os.fork()
if child:
    raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
n.loopback_up()
c.own_file_systems(1 << 20)
assert os.getpid() == 1
c.give_up_rights(memory=1 << 30, file=1 << 20, cpu=60)
"""
