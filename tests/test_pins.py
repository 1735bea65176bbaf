"""constraints.txt, pyproject.toml, environment.yml and course.py agree, and the package stays light."""

import importlib.metadata
import json
import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from itertools import product
from pathlib import Path

import pytest
import yaml
from packaging.markers import Marker, default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import course

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PLATFORMS = [
    {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"},
    {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix"},
    {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt"},
]
PYTHONS = [{"python_version": f"3.{minor}", "python_full_version": f"3.{minor}.9"} for minor in (11, 12, 13)]
HERE = {name: str(value) for name, value in default_environment().items()}
HEAVY = {"torch", "transformers", "trl", "peft", "bitsandbytes", "datasets", "IPython", "matplotlib"}


def pinned() -> dict[str, tuple[str, Marker | None]]:
    """Every line of constraints.txt: normalised name to version and marker."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found: dict[str, tuple[str, Marker | None]] = {}
    for line in lines:
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            assert re.fullmatch(r"==[\w.]+", str(requirement.specifier)), f"not an exact pin: {line}"
            assert canonicalize_name(requirement.name) not in found, f"pinned twice: {requirement.name}"
            version = str(requirement.specifier).removeprefix("==")
            found[canonicalize_name(requirement.name)] = (version, requirement.marker)
    return found


PINS = pinned()
# Only this environment's own folders: setuptools puts the copies it carries on sys.path once it is imported.
INSTALLED = {
    canonicalize_name(found.name): found
    for found in importlib.metadata.distributions(
        path=[sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    )
}


def declared() -> list[Requirement]:
    extras = PROJECT["project"]["optional-dependencies"].values()
    lines = [*PROJECT["project"]["dependencies"], *(line for extra in extras for line in extra)]
    return [Requirement(line) for line in [*lines, *PROJECT["build-system"]["requires"]]]


@pytest.mark.parametrize("requirement", declared(), ids=str)
def test_a_pin_lies_in_the_declared_range(requirement: Requirement) -> None:
    version, marker = PINS[canonicalize_name(requirement.name)]
    assert marker is None
    assert requirement.specifier.contains(version)


def test_every_package_that_gets_installed_is_pinned() -> None:
    # torch's CUDA packages show only in the CUDA build's metadata, where torch itself pins them.
    unpinned, queue, seen = set(), [(r, "the course") for r in declared()], set()
    while queue:
        requirement, parent = queue.pop()
        name = canonicalize_name(requirement.name)
        for platform, python in product(PLATFORMS, PYTHONS):
            environment = {**HERE, **platform, **python, "extra": ""}
            if requirement.marker and not requirement.marker.evaluate(environment):
                continue
            version, marker = PINS.get(name, ("", None))
            if not version or (marker and not marker.evaluate(environment)):
                unpinned.add(f"{name} for {parent} on {platform['sys_platform']}")
            elif not requirement.specifier.contains(version):
                unpinned.add(f"{name}=={version} does not suit {parent}, which wants {requirement.specifier}")
        if (name, *sorted(requirement.extras)) in seen:
            continue
        seen.add((name, *sorted(requirement.extras)))
        lines = INSTALLED[name].requires if name in INSTALLED else None
        for child in map(Requirement, lines or []):
            extra = re.search(r"extra == ['\"]([\w-]+)['\"]", str(child.marker or ""))
            if extra is None:
                queue.append((child, name))
            elif extra.group(1) in requirement.extras:
                child.marker = None
                queue.append((child, name))
    assert not unpinned


@pytest.mark.parametrize("python", ["3.11.2", "3.12.0", "3.13.0"])
def test_every_pin_supports_every_python_of_the_course(python: str) -> None:
    # Debian 12 ships 3.11.2.
    refusing = {
        found.name: found.metadata["Requires-Python"]
        for found in INSTALLED.values()
        if canonicalize_name(found.name) in PINS
        and "Requires-Python" in found.metadata
        and not SpecifierSet(found.metadata["Requires-Python"]).contains(python)
    }
    assert not refusing


def test_this_environment_is_the_pinned_one() -> None:
    # A pin names no build: torch 2.13.0 stands for 2.13.0+cpu as well.
    differing = {
        name: (version, found.version)
        for found in INSTALLED.values()
        if (name := canonicalize_name(found.name)) in PINS
        and found.version.split("+")[0] != (version := PINS[name][0])
    }
    assert not differing


def test_all_files_name_the_same_pythons_and_extras() -> None:
    oldest, newest = (f"{major}.{minor}" for major, minor in (course.OLDEST, course.NEWEST))
    after = f"{course.NEWEST[0]}.{course.NEWEST[1] + 1}"
    assert PROJECT["project"]["requires-python"] == f">={oldest},<{after}"
    assert f"{oldest} to {newest}" == course.SUPPORTED
    named = [c.rsplit(" ", 1)[1] for c in PROJECT["project"]["classifiers"] if "Python :: 3." in c]
    assert (named[0], named[-1]) == (oldest, newest)
    assert PROJECT["tool"]["mypy"]["python_version"] == oldest
    assert set(course.ALL_EXTRAS) == set(PROJECT["project"]["optional-dependencies"])
    assert set(course.STUDENT_EXTRAS) < set(course.ALL_EXTRAS)


def test_conda_gets_the_same_pins() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    plain = dict(d.split("=") for d in environment["dependencies"] if isinstance(d, str))
    (through_pip,) = (d["pip"] for d in environment["dependencies"] if isinstance(d, dict))
    assert SpecifierSet(PROJECT["project"]["requires-python"]).contains(plain["python"])
    assert plain["pip"] == PINS["pip"][0]
    assert "-c constraints.txt" in through_pip
    assert f"-e .[{','.join(course.ALL_EXTRAS)}]" in through_pip
    assert f"--extra-index-url {course.CPU_INDEX}" in through_pip


def test_importing_the_package_is_quick_and_loads_nothing_heavy() -> None:
    code = (
        "import json, sys, time; start = time.perf_counter(); import chatcontract; "
        "print(json.dumps([time.perf_counter() - start, sorted(sys.modules)]))"
    )
    runs = [json.loads(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT)) for _ in range(3)]
    assert min(seconds for seconds, _ in runs) < 0.3
    assert not HEAVY.intersection(runs[0][1])


def test_every_module_of_the_package_is_lazy_and_free_of_nbgrader() -> None:
    code = (
        "import importlib, json, pkgutil, sys, chatcontract\n"
        "for module in pkgutil.walk_packages(chatcontract.__path__, 'chatcontract.'):\n"
        "    if not module.name.endswith('__main__'):\n"
        "        importlib.import_module(module.name)\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    loaded = set(json.loads(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT)))
    assert "chatcontract.models" in loaded
    assert not loaded.intersection(HEAVY | {"nbgrader", "autograder"})


def test_the_wheel_carries_the_assets_and_not_the_autograder(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "chatcontract/assets/shopflow/policies.yaml" in names
    assert "chatcontract/jupyter/labconfig/default_setting_overrides.json" in names
    assert not [name for name in names if name.startswith(("autograder/", "solutions/", "tests/"))]
    in_clone = [p for p in (ROOT / "assets").rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    assert len([name for name in names if name.startswith("chatcontract/assets/")]) == len(in_clone)
