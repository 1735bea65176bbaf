"""Fixtures shared by the tests."""

import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LONGEST = "test_labs.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest file first, so that no process waits for it at the end."""
    items.sort(key=lambda item: item.path.name != LONGEST)


@pytest.fixture
def tiny_course(tmp_path: Path) -> Path:
    """A copy of a course with two labs that take a second each, under this repository's nbgrader settings."""
    root = tmp_path / "course"
    shutil.copytree(ROOT / "tests" / "fixtures" / "tiny_course", root)
    shutil.copy(ROOT / "nbgrader_config.py", root)
    return root
