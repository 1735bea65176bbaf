#!/usr/bin/env python3
"""Start The Chat Contract: make .venv from the pins once, then run the verb it is given.

Standard library only, and no syntax newer than Python 3.7, so that an unsupported Python gets a sentence
instead of a traceback.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
CONSTRAINTS = ROOT / "constraints.txt"
PROJECT = ROOT / "pyproject.toml"
STAMP = VENV / "course.json"
LOG = VENV / "install.log"
LOCK = ROOT / ".venv.lock"

OLDEST, NEWEST = (3, 11), (3, 13)
SUPPORTED = "3.11 to 3.13"
LINUX = sys.platform == "linux"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
CUDA_INDEX = "https://download.pytorch.org/whl/cu130"
BAR = ("--progress-bar", "raw")
PROBE_SECONDS = 3.0
NEARLY_FULL_GB = 0.7
NEEDED_GB = {"cpu": 4.0, "gpu": 12.0}

STUDENT_EXTRAS = ("train", "lab", "serving")
ALL_EXTRAS = ("train", "lab", "serving", "oracles", "instructor", "dev")

STUDENT_VERBS = {
    "lab": ("[--no-browser] [--port N]", "open JupyterLab on the course"),
    "doctor": ("", "check this machine: Python, memory, disk, packages, GPU, models, widgets"),
    "model": ("fetch NAME | list", "fetch a model, or list the course's models"),
    "nano": ("pretrain | verify", "remake or measure nano, the course's own base model"),
    "experiments": ("[NAME ...]", "switch one fault on at a time, train nano and measure the damage"),
}
INSTRUCTOR_VERBS = {
    "build": ("[--check]", "make notebooks/ from solutions/, or only check that it is up to date"),
    "run": ("[LAB ...]", "execute solution notebooks and measure them"),
    "release": ("--out DIR", "make the student's bundle, without answers"),
    "faults": ("[LAB ...]", "prove that every fault is caught and named, and no right answer refused"),
    "judge": ("[LAB ...]", "say which seed this class is graded with; later show its private cases"),
    "grade": ("[PATH]", "grade a class: gradebook, feedback, tables and a report"),
    "rehearse": ("[--lab LAB]", "release, simulate a class, grade it and check every mark"),
    "bench": ("grade|hostile", "measure the grader beside stock nbgrader"),
    "test": ("[PYTEST OPTIONS]", "run the linters, the type checker and the whole test suite"),
}

_ROOM = (
    f"The environment takes about {NEEDED_GB['cpu']:.0f} GB, and pip unpacks in the folder for temporary "
    "files (TMPDIR): free some space, then run the same command again."
)

# What a log says, and what it means for the user; the first match counts.
_EXPLANATIONS = (
    (r"No space left on device|\[Errno 28\]|not enough space on the disk", f"the disk is full. {_ROOM}"),
    (
        r"ensurepip",
        "this Python cannot make environments. On Debian or Ubuntu: sudo apt install python3-venv; "
        "then run the same command again.",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|SSLError",
        "the package index's certificate is not trusted here. Behind a company proxy, set PIP_CERT to its "
        "certificate file, then run the same command again.",
    ),
    (
        r"name resolution|getaddrinfo failed|nodename nor servname|Network is unreachable|NewConnectionError"
        r"|Failed to establish a new connection|ConnectTimeout|ReadTimeout|Read timed out|Connection refused"
        r"|Connection reset|Cannot connect to proxy|ProxyError|RemoteDisconnected|Could not fetch URL"
        r"|incomplete-download",
        "the package index cannot be reached. Check the network (and PIP_INDEX_URL or the proxy, if you use "
        "one), then run the same command again: it goes on where it stopped.",
    ),
    (
        r"Permission denied|\[Errno 13\]|Access is denied",
        "a file cannot be written. Close programs that use .venv and check who owns the folder, "
        "then run the same command again.",
    ),
    (
        r"No matching distribution found for (?P<what>\S+)",
        "the configured package index has no {what} for this Python and this machine. "
        "Try another Python from 3.11 to 3.13, or the default index pypi.org.",
    ),
)


class LauncherError(Exception):
    """A sentence for the user: what is wrong and what to do."""


def verbs() -> dict[str, tuple[str, str]]:
    """Every verb with its options and one line about it; without autograder/ only the student's."""
    return {**STUDENT_VERBS, **INSTRUCTOR_VERBS} if (ROOT / "autograder").is_dir() else dict(STUDENT_VERBS)


def main(arguments: list[str]) -> int:
    """Run one verb, making or repairing .venv first when it has to."""
    gpu = "--gpu" in arguments
    arguments = [a for a in arguments if a != "--gpu"]
    try:
        check_python(sys.version_info[:2])
        wants_help = not arguments or "--help" in arguments or "-h" in arguments
        if wants_help and not is_ready(gpu):
            print(help_text())
            return 0
        check_verb(arguments)
        if not is_ready(gpu):
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            with only_one_installer() as lock:
                if not is_ready(gpu):
                    install(gpu, lock)
        return hand_over(arguments or ["--help"])
    except LauncherError as error:
        print(f"course.py: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        print("\nStopped. The next call goes on from here.", file=sys.stderr)
        return 130


class UsageError(LauncherError):
    """The command line names something that does not exist."""


def check_python(version: tuple[int, int]) -> None:
    """Raise LauncherError unless this Python is one the pins are made for."""
    if OLDEST <= version <= NEWEST:
        return
    names = [f"python{OLDEST[0]}.{minor}" for minor in range(NEWEST[1], OLDEST[1] - 1, -1)]
    usable = [name for name in names if runs(name)]
    advice = (
        f"Run '{usable[0]} course.py ...' instead; it is installed here."
        if usable
        else "Install one of them (python.org, uv, pyenv or conda) and run it with course.py."
    )
    raise LauncherError(
        f"the course needs Python {SUPPORTED}, and this is Python {version[0]}.{version[1]} "
        f"({sys.executable}). {advice}"
    )


def check_verb(arguments: list[str]) -> None:
    """Raise UsageError with a suggestion for a verb that does not exist."""
    verb = next((a for a in arguments if not a.startswith("-")), None)
    if verb is None or verb in verbs():
        return
    near = difflib.get_close_matches(verb, verbs(), n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise UsageError(f"there is no verb '{verb}'.{hint} Verbs: {', '.join(verbs())}.")


def help_text() -> str:
    """The help that needs no environment."""
    rows = [(f"{verb} {options}".strip(), text) for verb, (options, text) in verbs().items()]
    width = max(len(left) for left, _ in rows)
    lines = [f"  {left:<{width}}  {text}" for left, text in rows]
    return (
        "usage: python3 course.py [--gpu] VERB ...\n\n"
        + "\n".join(lines)
        + "\n\n  --gpu  install PyTorch for CUDA instead of for the CPU: several GB, kept for later calls\n\n"
        "The first use of a verb makes the environment .venv from constraints.txt, which takes some minutes."
    )


def venv_python() -> Path:
    """The interpreter inside .venv."""
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def venv_version() -> str:
    """The "3.x" that .venv was made with, or "" when .venv does not say."""
    try:
        text = (VENV / "pyvenv.cfg").read_text(encoding="utf-8")
    except OSError:
        return ""
    found = re.search(r"^version(?:_info)?\s*=\s*(\d+\.\d+)", text, flags=re.MULTILINE)
    return found.group(1) if found else ""


def extras() -> tuple[str, ...]:
    """What to install: everything in a full copy, the student's part in one without autograder/."""
    return ALL_EXTRAS if (ROOT / "autograder").is_dir() else STUDENT_EXTRAS


def digest() -> str:
    """A hash of all that decides what belongs into .venv."""
    place = "\n".join((str(ROOT), venv_version(), *extras()))
    return hashlib.sha256(CONSTRAINTS.read_bytes() + PROJECT.read_bytes() + place.encode()).hexdigest()


def read_stamp() -> dict[str, object]:
    """What the last installation wrote, or an empty dict."""
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def write_stamp(gpu: bool, complete: bool) -> None:
    """Record a begun or a complete installation; a complete one carries the digest."""
    text = json.dumps({"gpu": gpu, "digest": digest() if complete else None})
    fresh = STAMP.with_suffix(".tmp")
    fresh.write_text(text + "\n", encoding="utf-8")
    os.replace(fresh, STAMP)


def is_ready(gpu: bool) -> bool:
    """Whether .venv is complete, matches the pins and has the PyTorch build asked for."""
    stamp = read_stamp()
    if not venv_python().exists() or stamp.get("digest") is None or (gpu and not stamp.get("gpu")):
        return False
    return stamp["digest"] == digest()


def runs(python: str | Path, code: str = "pass") -> bool:
    """Whether this interpreter starts and runs the code."""
    command = [str(python), "-I", "-c", code]
    try:
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


@contextlib.contextmanager
def only_one_installer() -> Iterator[int]:
    """Hold the installation lock and yield its descriptor; it is free again however its holders end."""
    with LOCK.open("a+") as handle:
        waiting = False
        while not _try_lock(handle.fileno()):
            if not waiting:
                print("Another call is installing the environment; waiting for it.", flush=True)
            waiting = True
            time.sleep(0.5)
        yield handle.fileno()


def _try_lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def pin(package: str) -> str:
    """The version constraints.txt gives a package."""
    found = re.search(rf"^{re.escape(package)}==(\S+)", CONSTRAINTS.read_text(encoding="utf-8"), re.MULTILINE)
    if not found:
        raise LauncherError(
            f"constraints.txt has no pin for {package}. Restore it: git checkout constraints.txt"
        )
    return found.group(1)


def install(gpu: bool, lock: int) -> None:
    """Make .venv, or repair or update the one that is there; the stamp says so last of all."""
    stamp = read_stamp()
    gpu = gpu or bool(stamp.get("gpu"))
    if gpu and sys.platform == "darwin":
        raise LauncherError(
            "--gpu means CUDA, which macOS has not. Leave it out: the ordinary build knows MPS."
        )
    began = time.monotonic()
    fresh = not usable_venv()
    if fresh and VENV.exists() and not stamp:
        raise LauncherError(
            f"the folder {VENV} was not made by course.py and cannot be used: it needs a Python from "
            f"{SUPPORTED} and pip. Rename or delete it, then run the same command again."
        )
    check_disk(gpu, fresh)
    print(f"{'Making' if fresh else 'Updating'} the course's environment in {VENV}", flush=True)
    steps = Steps(5 if fresh else 4, lock)
    if fresh:
        make_venv(steps, gpu)
    write_stamp(gpu, complete=False)
    forget_half_installed()
    pins = ("-c", str(CONSTRAINTS), "--no-input")
    steps.pip("installing pip and the build tools", "install", *pins, "pip", "hatchling", "editables")
    install_torch(steps, gpu)
    # Naming the build that is there keeps a pip in search of a way out from fetching another, far larger one.
    wanted = ("-e", f"{ROOT}[{','.join(extras())}]", f"torch==={installed_torch()}")
    steps.pip("installing the packages", "install", *pins, *BAR, "--no-build-isolation", *wanted)
    steps.pip("checking that they fit together", "check")
    write_stamp(gpu, complete=True)
    print(f"Ready after {clock(time.monotonic() - began)}.", flush=True)


def usable_venv() -> bool:
    """Whether .venv runs, has pip and was made by a Python the pins are made for."""
    supported = [f"3.{minor}" for minor in range(OLDEST[1], NEWEST[1] + 1)]
    return venv_version() in supported and runs(venv_python(), "import pip")


def check_disk(gpu: bool, fresh: bool) -> None:
    """Raise LauncherError before a new environment is begun that the disk cannot hold."""
    needed = NEEDED_GB["gpu" if gpu else "cpu"]
    free = shutil.disk_usage(str(ROOT)).free / 1e9
    if fresh and free < needed:
        raise LauncherError(
            f"the disk has {free:.1f} GB free at {ROOT}, and the environment needs about {needed:.0f} GB. "
            "Free some space, then run the same command again."
        )


def make_venv(steps: Steps, gpu: bool) -> None:
    """Make an empty environment, replacing a broken one; the stamp in it says that it is course.py's own."""
    if VENV.exists():
        print("The .venv that is here does not run; it is made again.", flush=True)
        shutil.rmtree(str(VENV))
    VENV.mkdir()
    write_stamp(gpu, complete=False)
    name = f"making .venv with Python {sys.version_info[0]}.{sys.version_info[1]}"
    steps.run(name, [sys.executable, "-m", "venv", str(VENV)])


def forget_half_installed() -> None:
    """Make pip install again what a killed installation left behind in part.

    pip writes INSTALLER after a package's files and keeps a package it is replacing under a name with "~".
    """
    for site in site_packages():
        for folder in [*site.glob("*.dist-info"), *site.glob("~*")]:
            if folder.name.startswith("~") or not (folder / "INSTALLER").exists():
                shutil.rmtree(str(folder), ignore_errors=True)


def site_packages() -> list[Path]:
    """The folders of .venv that hold packages."""
    return [
        p for p in (VENV / "Lib" / "site-packages", *VENV.glob("lib/python3*/site-packages")) if p.is_dir()
    ]


def installed_torch() -> str:
    """The version of PyTorch in .venv with its build, such as "2.13.0+cpu", or ""."""
    found = [p.name for site in site_packages() for p in site.glob("torch-*.dist-info")]
    return found[0][len("torch-") : -len(".dist-info")] if found else ""


def install_torch(steps: Steps, gpu: bool) -> None:
    """Install the pinned PyTorch: its small CPU build, unless CUDA was asked for.

    Only PyTorch itself comes from PyTorch's own index; what it needs comes with the other packages.
    """
    version = pin("torch")
    present = installed_torch()
    if present.split("+")[0] == version and (not gpu or is_cuda_build(present)):
        steps.skip(f"PyTorch {present} is there")
        return
    plain = ("install", "--no-input", "--no-deps", *BAR)
    if gpu:
        # On Linux PyPI has the CUDA build; "===" keeps a "+cpu" wheel of another source from matching.
        source = (f"torch==={version}",) if LINUX else (f"torch=={version}", "--index-url", CUDA_INDEX)
        steps.pip(f"installing PyTorch {version} for CUDA", *plain, "--force-reinstall", *source)
    elif LINUX and reachable(f"{CPU_INDEX}/torch/"):
        steps.pip(
            f"installing PyTorch {version} for the CPU", *plain, f"torch=={version}", "--index-url", CPU_INDEX
        )
    else:
        steps.pip(f"installing PyTorch {version}", *plain, f"torch=={version}")


def is_cuda_build(version: str) -> bool:
    """Whether a version with its build, such as "2.13.0+cpu", is one for CUDA."""
    return "+cpu" not in version if LINUX else "+cu" in version


def reachable(url: str) -> bool:
    """Whether a URL answers within PROBE_SECONDS; a thread, because name look-ups know no timeout."""
    import ssl
    import urllib.request

    answer: list[int] = []

    def ask() -> None:
        with contextlib.suppress(Exception):
            trust = ssl.create_default_context(cafile=os.environ.get("PIP_CERT"))
            with urllib.request.urlopen(url, timeout=PROBE_SECONDS, context=trust) as reply:
                answer.append(reply.status)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    return answer == [200]


def failure(what: str, text: str) -> str:
    """One sentence for a failed step, then the lines of its output that say so."""
    lines = [line for line in text.splitlines() if line.strip() and "is ignored: it is neither" not in line]
    full = full_folder()
    if full is not None:
        return f"{what} failed: the disk is full at {full}. {_ROOM} The log is {LOG}."
    for pattern, sentence in _EXPLANATIONS:
        telling = [found for found in (re.search(pattern, line) for line in lines) if found]
        if telling:
            reason = sentence.format(**telling[-1].groupdict())
            lines = [telling[-1].string]
            break
    else:
        reason = "the end of its output says why; when that has been put right, run the same command again."
    tail = "\n".join("    " + line for line in lines[-8:])
    return f"{what} failed: {reason}\n  From {LOG}:\n{tail}"


def full_folder() -> str | None:
    """The folder of .venv or of temporary files whose disk is nearly full, even after pip's clean-up."""
    for folder in (str(ROOT), tempfile.gettempdir()):
        if shutil.disk_usage(folder).free < NEARLY_FULL_GB * 1e9:
            return folder
    return None


def clock(seconds: float) -> str:
    """Seconds as m:ss."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class News:
    """Copies a command's output into the log and keeps one short line about what is going on."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.text = ""
        self.total = 0

    def read(self, stream: IO[str]) -> None:
        """Read to the end; lines of pip's raw progress bar stay out of the log."""
        with self.log.open("a", encoding="utf-8") as log:
            for line in stream:
                progress = re.match(r"Progress (\d+) of (\d+)", line)
                if progress:
                    done, size = (int(n) / 1e6 for n in progress.groups())
                    self.text = f"{self.text.split(': ')[0]}: {done:.0f} of {size:.0f} MB"
                    continue
                log.write(line)
                log.flush()
                self._notice(line.strip())

    def _notice(self, line: str) -> None:
        retried = line.startswith("WARNING: Retrying")
        if line.startswith("Installing collected packages:"):
            self.total = line.count(",") + 1 + self.unpacked()
        elif retried or line.startswith(
            ("Collecting", "Downloading", "Using cached", "Building", "Preparing")
        ):
            words = "waiting for the network" if retried else " ".join(line.split()[:2]).replace(":", "")
            self.text = re.sub(r"\S*/", "", words)

    @staticmethod
    def unpacked() -> int:
        """How many packages .venv holds."""
        return sum(1 for site in site_packages() for _ in site.glob("*.dist-info"))

    def line(self) -> str:
        """What to show now."""
        return (
            f"unpacking packages: {min(self.unpacked(), self.total)} of {self.total}"
            if self.total
            else self.text
        )


class Steps:
    """Runs the steps of an installation, one line each: a live one on a terminal, plain ones elsewhere."""

    def __init__(self, total: int, lock: int) -> None:
        self.total = total
        self.lock = lock
        self.number = 0
        self.live = sys.stdout.isatty()

    def skip(self, text: str) -> None:
        """Count a step that has nothing to do."""
        self.number += 1
        print(f"[{self.number}/{self.total}] {text}", flush=True)

    def pip(self, name: str, *arguments: str) -> None:
        """Run pip of .venv as one step.

        Raises:
            LauncherError: pip failed; the sentence says why, as far as its output tells.
        """
        self.run(name, [str(venv_python()), "-m", "pip", "--disable-pip-version-check", *arguments])

    def run(self, name: str, command: list[str]) -> None:
        """Run a command as one step and keep its output in the log.

        Raises:
            LauncherError: it failed.
        """
        self.number += 1
        began = time.monotonic()
        start = LOG.stat().st_size if LOG.exists() else 0
        news = News(LOG)
        # A killed launcher leaves its pip behind: pip holds the lock as well, and the next call waits for it.
        inherited = {} if os.name == "nt" else {"pass_fds": (self.lock,)}
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**clean_environment(), "PIP_USER": "0", "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1"},
            encoding="utf-8",
            errors="replace",
            **inherited,  # type: ignore[call-overload]
        ) as process:
            reader = threading.Thread(target=news.read, args=(process.stdout,), daemon=True)
            reader.start()
            try:
                self._watch(name, process, news, began)
            except BaseException:
                process.terminate()
                # leaving this block closes the stream: a thread that still reads it would print a traceback
                reader.join(timeout=10)
                raise
            reader.join()
        verdict = "done" if process.returncode == 0 else "failed"
        self._show(
            f"[{self.number}/{self.total}] {name}: {verdict} after {clock(time.monotonic() - began)}", "\n"
        )
        if process.returncode != 0:
            with LOG.open("rb") as log:
                log.seek(start)
                raise LauncherError(failure(name, log.read().decode("utf-8", errors="replace")))

    def _watch(self, name: str, process: subprocess.Popen[str], news: News, began: float) -> None:
        head = f"[{self.number}/{self.total}] {name}"
        if not self.live:
            print(f"{head} ...", flush=True)
        spoken = began
        while process.poll() is None:
            time.sleep(0.1)
            now = time.monotonic()
            if self.live:
                mark = "|/-\\"[int(now * 5) % 4]
                self._show(f"{mark} {head} {clock(now - began)}  {news.line()}", "")
            elif now - spoken >= 20:
                spoken = now
                print(f"    {clock(now - began)}  {news.line()}", flush=True)

    def _show(self, line: str, end: str) -> None:
        if self.live:
            width = shutil.get_terminal_size().columns - 1
            line = "\r" + line[:width].ljust(width)
        print(line, end=end, flush=True)


def clean_environment() -> dict[str, str]:
    """This process's environment without what puts other packages in front of .venv's."""
    return {k: v for k, v in os.environ.items() if k not in ("PYTHONHOME", "PYTHONPATH", "PIP_TARGET")}


def hand_over(arguments: list[str]) -> int:
    """Become the command line of the course inside .venv."""
    module = "autograder" if (ROOT / "autograder").is_dir() else "chatcontract"
    command = [str(venv_python()), "-P", "-m", module, *arguments]
    if os.name == "nt":
        return subprocess.call(command, env=clean_environment())
    sys.stdout.flush()
    os.execve(command[0], command, clean_environment())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
