"""Fixtures shared by the tests."""

import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def tiny_course(tmp_path: Path) -> Path:
    """A copy of a course with two labs that take a second each, under this repository's nbgrader settings."""
    root = tmp_path / "course"
    shutil.copytree(ROOT / "tests" / "fixtures" / "tiny_course", root)
    shutil.copy(ROOT / "nbgrader_config.py", root)
    return root
