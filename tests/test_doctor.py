"""The doctor sees what is wrong with a machine, says what to do, and shows the same in text and HTML."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from chatcontract import doctor

ROOT = Path(__file__).resolve().parents[1]


def run_doctor(**changes: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "120", **changes}
    command = [sys.executable, "-m", "autograder", "doctor"]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)


def pretend_installed(folder: Path, name: str, version: str) -> None:
    """Metadata that shadows the installed package's, as a second installation in front of it would."""
    metadata = folder / f"{name}-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


@pytest.fixture(scope="module")
def found() -> dict[str, doctor.Check]:
    return {check.subject: check for check in doctor.checks()}


def test_every_direct_package_has_a_line_and_matches_its_pin(found: dict[str, doctor.Check]) -> None:
    packages = [requirement.name for requirement in doctor.direct_requirements()]
    assert {"torch", "trl", "nbgrader", "jupyterlab", "mistral-common", "ruff"} <= set(packages)
    assert {name: found[name].found for name in packages if found[name].status != "OK"} == {}


def test_the_machine_itself_is_looked_at(found: dict[str, doctor.Check]) -> None:
    assert found["Python"].status == "OK"
    assert {"memory", "disk", "GPU", "4-bit (NF4)", "model smollm2-135m", "widgets"} <= set(found)
    assert found["4-bit (NF4)"].status == "OK"
    assert found["widgets"].status == "OK"


def test_whatever_is_not_ok_says_what_to_do(found: dict[str, doctor.Check]) -> None:
    assert [check for check in found.values() if check.status != "OK" and not check.advice] == []


def test_a_package_out_of_its_range_fails_the_doctor(tmp_path: Path) -> None:
    pretend_installed(tmp_path, "trl", "0.9")
    done = run_doctor(PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    line = next(line for line in done.stdout.splitlines() if " trl " in line)
    assert line.startswith("FAIL")
    assert "0.9, needed" in line
    assert "will not run until" in done.stdout


def test_a_package_in_its_range_but_off_its_pin_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_installed(tmp_path, "rich", "14.1.0")
    monkeypatch.syspath_prepend(tmp_path)
    (check,) = [check for check in doctor.checks() if check.subject == "rich"]
    assert check.status == "WARN"
    assert f"tested with {doctor.pins()['rich']}" in check.found
    assert "course.json" in check.advice


def test_a_model_that_is_not_here_yet_is_a_warning_with_the_command(tmp_path: Path) -> None:
    done = run_doctor(CHATCONTRACT_CACHE=str(tmp_path / "none"))
    lines = done.stdout.splitlines()
    at = next(n for n, line in enumerate(lines) if "model smollm2-135m" in line)
    assert lines[at].startswith("WARN")
    assert "course.py model fetch smollm2-135m" in lines[at + 1]


def test_the_courses_own_model_is_found_or_its_restoring_command_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from chatcontract import models

    def row() -> doctor.Check:
        return next(check for check in doctor._models() if check.subject == "model nano")

    assert row().status == "OK"
    monkeypatch.setattr(models, "assets_dir", lambda: tmp_path)
    assert row().status == "WARN"
    assert "experiments cannot run" in row().found
    assert "git checkout assets/nano" in row().advice


def test_a_notebook_and_a_terminal_are_told_the_same() -> None:
    report = doctor.show()
    text, page = str(report), report._repr_html_()
    for check in report.checks:
        assert f"{check.status:<4}  {check.subject}" in text
        assert f"<strong>{check.status}</strong></td>" in page
        assert f">{check.subject}</td>" in page
    assert doctor.summary(report.checks) in text
    assert doctor.summary(report.checks) in page
    assert "<script" not in page


def test_markup_in_what_was_found_is_shown_and_not_obeyed() -> None:
    check = doctor.Check("disk", "FAIL", "<b>[red]/data[/]", "free & clear")
    page = doctor.Report([check])._repr_html_()
    assert "&lt;b&gt;[red]/data[/]" in page and "free &amp; clear" in page
    from rich.console import Console

    console = Console(width=100)
    with console.capture() as captured:
        console.print(doctor.table([check]))
    assert "<b>[red]/data[/]" in captured.get()


def test_without_constraints_the_ranges_of_the_package_count(tmp_path: Path) -> None:
    # As on Colab: the package alone, beside versions the pins do not name.
    shutil.copytree(
        ROOT / "chatcontract", tmp_path / "chatcontract", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copytree(ROOT / "assets", tmp_path / "chatcontract" / "assets")
    pretend_installed(tmp_path, "peft", "0.20.0")
    pretend_installed(tmp_path, "rich", "13.9.4")
    code = (
        "from chatcontract import doctor; assert not doctor.pins(); "
        "print(*[f'{c.subject}|{c.status}|{c.found}' for c in doctor.checks()], sep='\\n')"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "COLAB_RELEASE_TAG": "release"}
    said = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "peft|OK|0.20.0" in said
    assert "rich|OK|13.9.4" in said
    assert "drawn by Colab" in said
    assert "nbgrader" not in said and "jupyterlab|" not in said


def test_a_container_with_little_memory_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_container_limit", lambda: 1.5)
    check = doctor._memory()
    assert check.status == "FAIL"
    assert "of 1.5 GB" in check.found
