"""`course.py release`: the student's bundle, without answers, hidden tests or the grader."""

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

from rich.console import Console

from autograder.build import main as build
from autograder.labs import ROOT
from chatcontract import __version__

FOLDERS = ("notebooks", "chatcontract", "assets", "docs/images")
FILES = (
    "course.py",
    "constraints.txt",
    "environment.yml",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "LICENSE-CONTENT",
    "CITATION.cff",
)
MANIFEST = "release.json"
_IGNORED = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "*.pyc", ".*")


class ReleaseError(Exception):
    """Why there is no release, in one sentence."""


def main(out: Path, root: Path = ROOT) -> int:
    """Write the bundle to `out`, which is complete afterwards or as it was before.

    Args:
        out: a new or empty folder, or an earlier release, which is replaced.

    Returns:
        Exit status: 0, or 1 with a sentence that says why.
    """
    console = Console(highlight=False, soft_wrap=True, markup=False)
    if build(check=True, root=root) != 0:
        console.print("course.py: nothing was released, because the notebooks are not up to date.")
        return 1
    try:
        files = write_release(out, root)
    except ReleaseError as error:
        console.print(f"course.py: {error}")
        return 1
    size = sum((out / name).stat().st_size for name in files)
    console.print(
        f"Released {len(files)} files, {size / 1e6:.1f} MB, to {out}. Students start with course.py."
    )
    return 0


def write_release(out: Path, root: Path = ROOT) -> dict[str, str]:
    """Copy the bundle and its manifest; returns the SHA-256 of every file by its path.

    Raises:
        ReleaseError: `out` lies in the course, or holds something that is not a release.
    """
    out = out.resolve()
    if out == root or any(
        (root / name) in (out, *out.parents) for name in (*FOLDERS, "solutions", "autograder")
    ):
        raise ReleaseError(f"{out} is a part of the course itself: name a folder outside of it.")
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / MANIFEST).is_file())):
        raise ReleaseError(f"{out} holds something that is not a release: name a new or an empty folder.")
    out.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        for folder in FOLDERS:
            shutil.copytree(root / folder, staged / folder, ignore=_IGNORED)
        for name in FILES:
            shutil.copy2(root / name, staged / name)
        files = {
            path.relative_to(staged).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(staged.rglob("*"))
            if path.is_file()
        }
        manifest = {"course": "chat-contract", "version": __version__, "files": files}
        (staged / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        staged.chmod(0o755)
        if out.exists():
            shutil.rmtree(out)
        os.replace(staged, out)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return files
