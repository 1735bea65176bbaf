"""Writes notebooks/, the student release, and assets/checks/ from solutions/ and the exercises' cases."""

import fnmatch
import shutil
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from autograder.atomic_write import write_atomically
from autograder.bootstrap import repository
from autograder.checks import files as check_files
from autograder.labs import ROOT, Lab, discover
from autograder.notebook_lint import lint
from autograder.tidy import tidy

SOURCE = "solutions"
RELEASE = "notebooks"


class BuildError(Exception):
    """Why a lab could not be built, in one sentence."""


def main(check: bool = False, root: Path = ROOT) -> int:
    """Regenerate the release, or with `check` only compare it.

    The release is generated in a temporary course with a database of its own, so the gradebook is never
    touched. Solution notebooks get their generated parts (see autograder.tidy). Nothing is written unless
    every lab can be built; a file of the release that is replaced or removed is kept under build/replaced/.

    Args:
        check: change nothing; name each file of the release that is stale, missing or extra.
        root: the course's root folder.

    Returns:
        Exit status: 0, or 1 when something is wrong or `check` found a difference.
    """
    console = Console(highlight=False, soft_wrap=True)
    try:
        problems, solutions, release = _generate(root, check, console)
        checks = check_files.generated(root)
    except (BuildError, ValueError, LookupError) as error:
        console.print(f"[red]FAIL[/] {escape(str(error))}")
        return 1
    if problems:
        console.print("\n".join(f"[red]FAIL[/] {escape(problem)}" for problem in problems))
        console.print(f"{len(problems)} to put right before {RELEASE}/ can be built; nothing was written.")
        return 1
    differences = _compare(root / RELEASE, release)
    stale_checks = check_files.differences(checks, root)
    if check:
        states = {f"{RELEASE}/{name}": state for name, state in differences.items()}
        states |= {f"{check_files.FOLDER.as_posix()}/{name}": s for name, s in stale_checks.items()}
        for name, state in states.items():
            console.print(f"[red]{state}[/] {name}")
        if states:
            console.print(f"This is not what {SOURCE}/ gives: run 'python course.py build' and commit both.")
        return 1 if states else 0
    for path, data in solutions.items():
        write_atomically(path, data)
        console.print(f"tidied {path.relative_to(root).as_posix()}")
    if differences:
        shutil.rmtree(root / "build" / "replaced", ignore_errors=True)
    check_files.write(checks, stale_checks, root)
    for name in stale_checks:
        console.print(f"wrote {check_files.FOLDER.as_posix()}/{name}")
    for name, state in differences.items():
        _replace(root, name, release.get(name))
        console.print(f"{'removed' if state == 'extra' else 'wrote'} {RELEASE}/{name}")
    console.print(f"{RELEASE}/ is up to date: {len(release)} files, {len(differences)} changed.")
    return 0


def _generate(
    root: Path, check: bool, console: Console
) -> tuple[list[str], dict[Path, bytes], dict[str, bytes]]:
    """What is wrong with the solutions, the solution files to rewrite, and the files of the release."""
    name = repository(root)
    labs = discover(root / SOURCE)
    if not labs:
        raise BuildError(f"There is no lab in {root / SOURCE}: a lab is a file NN_topic/NN_topic.ipynb.")
    problems: list[str] = []
    solutions: dict[Path, bytes] = {}
    release: dict[str, bytes] = {}
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with tempfile.TemporaryDirectory() as folder, Progress(*columns, console=console) as progress:
        course = Path(folder).resolve()
        for lab in labs:
            task = progress.add_task(lab.name, total=1)
            notebook = _read(lab)
            if not check and tidy(notebook, lab.name, name):
                solutions[lab.notebook] = _dump(notebook)
            found = lint(notebook, lab.name, name)
            problems += found
            if not found:
                release |= _release_of(lab, notebook, root, course)
            progress.update(
                task,
                completed=1,
                description=f"{lab.name}: {f'{len(found)} to put right' if found else 'ready'}",
            )
    return problems, solutions, release


def _read(lab: Lab) -> NotebookNode:
    try:
        return nbformat.read(lab.notebook, as_version=4)
    except Exception as error:  # nbformat passes on json, unicode and schema errors of many types
        reason = str(error).splitlines()[0]
        raise BuildError(f"{lab.notebook.name} is not a notebook that can be read: {reason}") from error


def _release_of(lab: Lab, notebook: NotebookNode, root: Path, course: Path) -> dict[str, bytes]:
    """The released files of one lab, by their path below the release directory."""
    from nbgrader.apps import NbGraderAPI
    from nbgrader.coursedir import CourseDirectory

    config = _nbgrader_config(root)
    config.CourseDirectory.root = str(course)
    config.CourseDirectory.db_url = f"sqlite:///{course / 'gradebook.db'}"
    config.NbGraderAPI.log_level = "ERROR"
    shutil.copytree(lab.folder, course / SOURCE / lab.name)
    (course / SOURCE / lab.name / lab.notebook.name).write_bytes(_dump(notebook))
    api = NbGraderAPI(coursedir=CourseDirectory(config=config), config=config)
    result = api.generate_assignment(lab.name)
    if not result["success"]:
        said = [line.strip() for line in result.get("log", result["error"]).splitlines() if "Error: " in line]
        reason = said[-1] if said else result["error"].splitlines()[-1]
        raise BuildError(f"{lab.name}: nbgrader could not generate the release: {reason}")
    folder = course / RELEASE
    files = (path for path in (folder / lab.name).rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): _normal(path) for path in files}


def _nbgrader_config(root: Path) -> Any:
    from traitlets.config.loader import PyFileConfigLoader

    return PyFileConfigLoader("nbgrader_config.py", path=str(root)).load_config()


def _dump(notebook: NotebookNode) -> bytes:
    return (nbformat.writes(notebook).rstrip("\n") + "\n").encode()


def _normal(path: Path) -> bytes:
    """A file's content, a notebook's with the line ends and the last newline that git keeps."""
    data = path.read_bytes()
    return data.replace(b"\r\n", b"\n").rstrip(b"\n") + b"\n" if path.suffix == ".ipynb" else data


def _compare(folder: Path, release: dict[str, bytes]) -> dict[str, str]:
    """Each file that differs, by its path below `folder`: "missing", "stale" or "extra"."""
    ignored = _nbgrader_config(folder.parent).CourseDirectory.ignore
    there = {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path.is_file()
        and not any(fnmatch.fnmatch(part, i) for part in path.relative_to(folder).parts for i in ignored)
    }
    states = {name: "missing" for name in release if name not in there}
    states |= {name: "extra" for name in there if name not in release}
    states |= {name: "stale" for name in release if name in there and _normal(there[name]) != release[name]}
    return dict(sorted(states.items()))


def _replace(root: Path, name: str, data: bytes | None) -> None:
    """Write one file of the release, or remove it; what stood there is moved to build/replaced/."""
    path = root / RELEASE / name
    if path.exists():
        kept = root / "build" / "replaced" / name
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, kept)
    if data is not None:
        write_atomically(path, data)
        return
    path.unlink()
    if not any(path.parent.iterdir()):
        path.parent.rmdir()
