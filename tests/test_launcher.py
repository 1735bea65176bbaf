"""course.py in a stand-in course: the real launcher, venv and pip, with small local wheels and no network."""

import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
import typer.main

import course

ROOT = Path(__file__).resolve().parents[1]
CLOSED = "http://127.0.0.1:9"

# The stand-in's own build backend: it waits as long as a file named "wait" is there.
BACKEND = """
import pathlib, time, zipfile
HERE = pathlib.Path(__file__).parent

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    while (HERE / "wait").exists():
        (HERE / "waiting").touch()
        time.sleep(0.05)
    name = "chat_contract-0.1-py3-none-any.whl"
    needs = "".join(f"Requires-Dist: {line}\\n" for line in (HERE / "needs.txt").read_text().split())
    metadata = f"Metadata-Version: 2.1\\nName: chat-contract\\nVersion: 0.1\\nProvides-Extra: train\\n{needs}"
    with zipfile.ZipFile(pathlib.Path(wheel_directory, name), "w") as wheel:
        wheel.writestr("chat_contract.pth", str(HERE))
        wheel.writestr("chat_contract-0.1.dist-info/METADATA", metadata)
        tag = "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
        wheel.writestr("chat_contract-0.1.dist-info/WHEEL", tag)
        wheel.writestr("chat_contract-0.1.dist-info/RECORD", "")
    return name

build_wheel = build_editable
"""
MAIN = "import sys, {other}\nprint('{package} got', sys.argv[1:])\nsys.exit(len(sys.argv) - 2)\n"


def write_wheel(folder: Path, name: str, version: str) -> None:
    """An importable package of one line."""
    stem = f"{name}-{version}"
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}/__init__.py", f"VERSION = '{version}'\n")
        wheel.writestr(
            f"{stem}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        tag = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr(f"{stem}.dist-info/WHEEL", tag)
        wheel.writestr(f"{stem}.dist-info/RECORD", "")


def write_pip(folder: Path) -> str:
    """A wheel of this environment's own pip, which the launcher installs first, and its version."""
    pip = importlib.metadata.distribution("pip")
    with zipfile.ZipFile(folder / f"pip-{pip.version}-py3-none-any.whl", "w") as wheel:
        for file in pip.files or []:
            if file.parts[0].startswith("pip") and file.suffix != ".pyc":
                wheel.write(str(file.locate()), str(file))
    return pip.version


class StandIn:
    """A course as course.py sees one, whose packages are local wheels."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()
        # PIP_FIND_LINKS takes no blanks, which the course's own folder has on purpose.
        self.wheels = root.with_name("wheels")
        self.wheels.mkdir()
        for name, version in [
            ("hatchling", "1.0"),
            ("editables", "1.0"),
            ("torch", "2.13.0"),
            ("leaf", "1.0"),
        ]:
            write_wheel(self.wheels, name, version)
        write_wheel(self.wheels, "leaf", "2.0")
        self.pip = write_pip(self.wheels)
        shutil.copy(ROOT / "course.py", root)
        (root / "backend.py").write_text(BACKEND)
        (root / "needs.txt").write_text("leaf torch")
        (root / "pyproject.toml").write_text(
            '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        )
        self.pin("leaf==1.0")
        for package in ("autograder", "chatcontract"):
            (root / package).mkdir()
            (root / package / "__init__.py").touch()
            (root / package / "__main__.py").write_text(MAIN.format(package=package, other="leaf"))

    def pin(self, line: str) -> None:
        (self.root / "constraints.txt").write_text(f"pip=={self.pip}\ntorch==2.13.0\n{line}\n")

    def environment(self, **changes: str) -> dict[str, str]:
        # The proxy makes PyTorch's index unreachable at once, whether there is a network or not.
        return {
            **{k: v for k, v in os.environ.items() if not k.upper().startswith("PIP_")},
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
            "https_proxy": CLOSED,
            **changes,
        }

    def call(self, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "course.py", *arguments]
        environment = self.environment(**changes)
        return subprocess.run(
            command, cwd=self.root, env=environment, capture_output=True, text=True, timeout=120
        )

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "course.py", *arguments]
        return subprocess.Popen(
            command,
            cwd=self.root,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            # a job in the background of a shell ignores Ctrl-C, and so would all its children
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def site(self) -> Path:
        (folder,) = [
            *self.root.glob(".venv/lib/python3*/site-packages"),
            *self.root.glob(".venv/Lib/site-packages"),
        ]
        return folder


@pytest.fixture
def fresh(tmp_path: Path) -> StandIn:
    return StandIn(tmp_path / "a course")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> StandIn:
    """A stand-in whose environment has been made; each test that uses it leaves it whole."""
    stand_in = StandIn(tmp_path_factory.mktemp("made") / "a course")
    first = stand_in.call("doctor")
    assert first.returncode == 0, first.stderr
    return stand_in


def ran(done: subprocess.CompletedProcess[str], *arguments: str) -> bool:
    return f"autograder got {list(arguments)}" in done.stdout


def test_the_first_call_says_what_it_does_and_later_calls_do_not_install(fresh: StandIn) -> None:
    first = fresh.call("doctor")
    assert first.returncode == 0
    assert ran(first, "doctor")
    assert [f"[{n}/5]" in first.stdout for n in range(1, 6)] == [True] * 5
    assert re.search(r"Ready after \d:\d\d\.", first.stdout)
    assert "\r" not in first.stdout and "\033" not in first.stdout
    second = fresh.call("doctor", "x", "y")
    assert second.stdout == "autograder got ['doctor', 'x', 'y']\n"
    assert second.returncode == 2, "the verb's own exit status comes through"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pseudo-terminals in the standard library")
def test_a_terminal_gets_one_live_line_per_step(fresh: StandIn) -> None:
    import pty

    (fresh.root / "wait").touch()
    ours, theirs = pty.openpty()
    command = [sys.executable, "course.py", "doctor"]
    child = subprocess.Popen(command, cwd=fresh.root, env=fresh.environment(), stdout=theirs, stderr=theirs)
    os.close(theirs)
    written = b""
    while True:
        try:
            written += os.read(ours, 4096)
        except OSError:
            break
        if written.count(b"installing the packages") > 5:
            (fresh.root / "wait").unlink(missing_ok=True)
    os.close(ours)
    assert child.wait() == 0
    text = written.decode()
    assert re.search(r"\r[|/\\-] \[4/5\] installing the packages \d:\d\d", text)
    assert text.count("\n") < 12


def test_help_and_a_wrong_verb_install_nothing(fresh: StandIn) -> None:
    told = fresh.call("--help")
    assert told.returncode == 0
    assert all(verb in told.stdout for verb in course.verbs())
    assert fresh.call().stdout == told.stdout
    wrong = fresh.call("docto")
    assert wrong.returncode == 2
    assert "Did you mean 'doctor'?" in wrong.stderr
    assert not (fresh.root / ".venv").exists()


@pytest.mark.skipif(os.name == "nt", reason="sessions and SIGKILL")
def test_a_killed_installation_is_repaired_by_the_next_call(fresh: StandIn) -> None:
    (fresh.root / "wait").touch()
    child = fresh.start("doctor")
    wait_for(fresh.root / "waiting")
    os.killpg(child.pid, signal.SIGKILL)
    child.communicate()
    (fresh.root / "wait").unlink()
    again = fresh.call("doctor")
    assert again.returncode == 0, again.stderr
    assert "Updating" in again.stdout
    assert ran(again, "doctor")


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_the_next_call_waits_for_the_pip_of_a_killed_launcher(made: StandIn) -> None:
    made.pin("leaf==2.0")
    (made.root / "wait").touch()
    child = made.start("doctor")
    wait_for(made.root / "waiting")
    child.kill()
    second = made.start("doctor")
    assert second.stdout is not None
    assert "waiting for it" in second.stdout.readline()
    (made.root / "wait").unlink()
    (made.root / "waiting").unlink()
    rest, _ = second.communicate(timeout=60)
    assert "autograder got ['doctor']" in rest
    child.communicate()


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_stops_with_a_sentence(made: StandIn) -> None:
    (made.root / ".venv" / "course.json").unlink()
    (made.root / "wait").touch()
    child = made.start("doctor")
    wait_for(made.root / "waiting")
    try:
        os.killpg(child.pid, signal.SIGINT)
        said, _ = child.communicate(timeout=30)
    finally:
        (made.root / "wait").unlink()
        (made.root / "waiting").unlink()
    assert child.returncode == 130
    assert "Stopped. The next call goes on from here." in said
    assert "Traceback" not in said
    assert made.call("doctor").returncode == 0


def test_a_half_installed_package_is_installed_again(made: StandIn) -> None:
    # What pip leaves when it is killed while it copies a package's files.
    (leaf,) = made.site().glob("leaf-*.dist-info")
    (leaf / "INSTALLER").unlink()
    (made.site() / "leaf" / "__init__.py").unlink()
    stamp = made.root / ".venv" / "course.json"
    stamp.write_text(json.dumps({"gpu": False, "digest": None}))
    assert ran(made.call("doctor"), "doctor")
    assert (made.site() / "leaf" / "__init__.py").exists()


def test_changed_pins_are_installed(made: StandIn) -> None:
    made.pin("leaf==1.0")
    made.call("doctor")
    made.pin("leaf==2.0")
    changed = made.call("doctor")
    assert "Updating" in changed.stdout
    assert (made.site() / "leaf-2.0.dist-info").is_dir()


def test_without_a_network_one_sentence_says_so_and_the_next_call_goes_on(made: StandIn) -> None:
    made.pin("leaf==2.0 # changed")
    shutil.rmtree(next(made.site().glob("leaf-*.dist-info")))
    broken = made.call(
        "doctor", PIP_NO_INDEX="0", PIP_INDEX_URL=f"{CLOSED}/simple", PIP_FIND_LINKS="", PIP_RETRIES="1"
    )
    assert broken.returncode == 1
    sentence = broken.stderr.splitlines()[0]
    assert "installing the packages failed: the package index cannot be reached." in sentence
    assert "WARNING" not in broken.stdout
    assert "Retrying" in (made.root / ".venv" / "install.log").read_text()
    assert ran(made.call("doctor"), "doctor")


def test_an_environment_whose_python_is_gone_is_made_again(made: StandIn) -> None:
    python = course.venv_python().relative_to(course.ROOT)
    (made.root / python).unlink()
    again = made.call("doctor")
    assert "it is made again" in again.stdout
    assert ran(again, "doctor")


def test_a_folder_that_is_not_ours_is_left_alone(fresh: StandIn) -> None:
    (fresh.root / ".venv").mkdir()
    (fresh.root / ".venv" / "precious").write_text("mine")
    refused = fresh.call("doctor")
    assert refused.returncode == 1
    assert "was not made by course.py" in refused.stderr
    assert (fresh.root / ".venv" / "precious").read_text() == "mine"


def test_a_copy_without_the_autograder_offers_the_students_verbs(made: StandIn) -> None:
    hidden = made.root / "hidden"
    (made.root / "autograder").rename(hidden)
    try:
        assert "there is no verb 'build'" in made.call("build").stderr
        assert "chatcontract got ['lab']" in made.call("lab").stdout
    finally:
        hidden.rename(made.root / "autograder")
        made.call("doctor")


def test_packages_elsewhere_do_not_get_in_front_of_the_courses(made: StandIn, tmp_path: Path) -> None:
    (tmp_path / "leaf.py").write_text("raise SystemExit('the wrong leaf')")
    assert ran(made.call("doctor", PYTHONPATH=str(tmp_path)), "doctor")


def test_a_moved_course_runs_its_own_files(made: StandIn) -> None:
    moved = made.root.with_name("moved course")
    made.root.rename(moved)
    try:
        done = subprocess.run(
            [sys.executable, str(moved / "course.py"), "doctor"],
            env=made.environment(),
            cwd=moved.parent,
            capture_output=True,
            text=True,
        )
        assert "autograder got ['doctor']" in done.stdout
        (pth,) = (moved / ".venv").rglob("chat_contract.pth")
        assert pth.read_text() == str(moved)
    finally:
        moved.rename(made.root)
        made.call("doctor")


def test_an_unsupported_python_gets_one_sentence() -> None:
    for version in [(3, 10), (3, 14), (4, 0)]:
        with pytest.raises(
            course.LauncherError, match=rf"needs Python 3\.11 to 3\.13, .* Python {version[0]}\.{version[1]} "
        ):
            course.check_python(version)
    for version in [(3, 11), (3, 12), (3, 13)]:
        course.check_python(version)


def test_the_launcher_can_be_read_by_an_old_python() -> None:
    source = (ROOT / "course.py").read_text(encoding="utf-8")
    assert compile_for(source, (3, 7)), "an unsupported Python must get a sentence, not a SyntaxError"


def compile_for(source: str, version: tuple[int, int]) -> bool:
    import ast

    try:
        ast.parse(source, feature_version=version)
    except SyntaxError:
        return False
    return True


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("ERROR: Could not install packages: [Errno 28] No space left on device", "the disk is full"),
        (
            "Error: ... returned non-zero exit status 1: [python, -m, ensurepip]",
            "sudo apt install python3-venv",
        ),
        ("WARNING: Retrying: [Errno -3] Temporary failure in name resolution", "index cannot be reached"),
        ("SSLError(SSLCertVerificationError(1, 'CERTIFICATE_VERIFY_FAILED'))", "PIP_CERT"),
        ("ERROR: No matching distribution found for leaf==9", "has no leaf==9 for this Python"),
        ("ERROR: [Errno 13] Permission denied: 'x'", "cannot be written"),
        ("ERROR: something new", "the end of its output says why"),
    ],
)
def test_a_failed_step_is_explained_in_one_sentence(output: str, sentence: str) -> None:
    said = course.failure("installing the packages", f"Collecting leaf\n{output}\n")
    assert sentence in said.splitlines()[0]
    assert output in said


def test_an_index_that_never_answers_costs_three_seconds() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        began = time.monotonic()
        assert not course.reachable(f"http://127.0.0.1:{silent.getsockname()[1]}/whl/cpu/torch/")
        assert time.monotonic() - began < course.PROBE_SECONDS + 1


@pytest.mark.parametrize(
    ("platform", "version", "cuda"),
    [
        ("linux", "2.13.0+cpu", False),
        ("linux", "2.13.0", True),
        ("linux", "2.13.0+cu130", True),
        ("win32", "2.13.0", False),
        ("win32", "2.13.0+cu130", True),
    ],
)
def test_the_build_of_an_installed_torch_is_known(platform: str, version: str, cuda: bool) -> None:
    assert launcher_on(platform).is_cuda_build(version) is cuda


def launcher_on(platform: str) -> ModuleType:
    """A second copy of the launcher that was loaded on another platform."""
    spec = importlib.util.spec_from_file_location("course_elsewhere", ROOT / "course.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.LINUX = platform == "linux"  # type: ignore[attr-defined]
    return module


def test_the_launcher_and_the_command_line_know_the_same_verbs() -> None:
    import autograder.cli
    import chatcontract.cli

    assert autograder.cli.app is chatcontract.cli.app
    known = typer.main.get_command(autograder.cli.app)
    assert set(known.commands) == {*course.STUDENT_VERBS, *course.INSTRUCTOR_VERBS}  # type: ignore[attr-defined]


def wait_for(path: Path, seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < until, f"{path.name} did not appear"
        time.sleep(0.05)
