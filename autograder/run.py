"""Executes solution notebooks from the first cell to the last, and keeps what they show and measure."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from autograder.atomic_write import write_atomically
from autograder.labs import ROOT, Lab, UnknownLab, automatic_points, discover, select
from chatcontract.reporting import FIGURES_MIME

# A line this often tells a log file, where a progress bar cannot move, that a long cell is still running.
HEARTBEAT_SECONDS = 30


class UnusableInterpreter(Exception):
    """An interpreter that cannot run a notebook, and why."""


@dataclass(frozen=True)
class LabError:
    """The first cell of a lab that failed: its position from 1, its id, and what it said in one sentence."""

    lab: str
    cell: int
    cell_id: str
    sentence: str


@dataclass
class LabRun:
    """What came of executing one lab: wall time, and the points nbgrader gives by itself."""

    seconds: float = 0.0
    passed: bool = False
    points: float = 0.0
    points_possible: float = 0.0
    error: LabError | None = None
    figures: dict[str, Any] = field(default_factory=dict)


def main(labs: list[str], python: str | None = None, *, root: Path = ROOT) -> int:
    """Execute solution notebooks headless, experiments included.

    Each lab runs in a copy of its folder under build/run/. What it shows becomes build/html/LAB.html; what
    came of it stands in build/run.json: for each lab of this call seconds, passed, points, points_possible,
    error (lab, cell, cell_id, sentence) and figures, which a notebook states with chatcontract.report.

    Args:
        labs: names such as '06', 'qlora' or '06_qlora'; none means all.
        python: an interpreter whose environment the notebooks run in, with ipykernel; this one by default.
        root: the course's root folder.

    Returns:
        Exit status: 0 when every lab ran without an error, 1 when one failed, 2 for a bad argument.
    """
    console = Console(highlight=False, soft_wrap=True)
    try:
        chosen = select(labs, discover(root / "solutions"))
        _require_kernel(python or sys.executable)
    except (UnknownLab, UnusableInterpreter) as error:
        console.print(f"[red]FAIL[/] {escape(str(error))}")
        return 2
    if not chosen:
        console.print(f"[red]FAIL[/] There is no lab in {root / 'solutions'}.")
        return 2
    runs: dict[str, LabRun] = {}
    for lab in chosen:
        runs[lab.name] = _run_lab(lab, python or sys.executable, root / "build", console)
        _write_json(root / "build" / "run.json", {name: asdict(run) for name, run in runs.items()})
    failed = [name for name, run in runs.items() if not run.passed]
    console.print(
        f"{len(runs) - len(failed)} of {len(runs)} labs ran without an error in "
        f"{sum(run.seconds for run in runs.values()):.1f} s; figures in build/run.json, pages in build/html/."
    )
    return 1 if failed else 0


def _require_kernel(python: str) -> None:
    if shutil.which(python) is None:
        raise UnusableInterpreter(f"There is no Python interpreter {python}.")
    if subprocess.run([python, "-c", "import ipykernel"], capture_output=True).returncode:
        raise UnusableInterpreter(f"{python} cannot run a notebook: install ipykernel there.")


def _run_lab(lab: Lab, python: str, build: Path, console: Console) -> LabRun:
    folder = build / "run" / lab.name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(lab.folder, folder)
    notebook = nbformat.read(lab.notebook, as_version=4)
    run = LabRun(points_possible=automatic_points(notebook))
    started = time.perf_counter()
    with _progress(lab.name, len(notebook.cells), console) as (progress, task):
        try:
            _execute(notebook, folder, python, progress, task)
        except _KernelDied as death:
            run.error = LabError(lab.name, death.position, notebook.cells[death.position - 1].id, str(death))
    run.seconds = round(time.perf_counter() - started, 2)
    run.error = _first_error(lab.name, notebook) or run.error
    run.passed = run.error is None
    run.points = sum(_points(cell) for cell in notebook.cells)
    run.figures = _figures(notebook)
    _write_html(build / "html" / f"{lab.name}.html", notebook, lab.name)
    state = "[green]OK  [/]" if run.passed else "[red]FAIL[/]"
    console.print(
        f"{state} {lab.name:<24} {run.seconds:7.1f} s  {run.points:g} of {run.points_possible:g} points"
    )
    for name, value in run.figures.items():
        console.print(f"       {name} {value}", markup=False)
    if run.error:
        console.print(
            f"     cell {run.error.cell} (id {run.error.cell_id}): {run.error.sentence}", markup=False
        )
    return run


class _KernelDied(Exception):
    """The kernel process ended while it ran the cell at this position, counted from 1."""

    def __init__(self, position: int) -> None:
        super().__init__("Python itself stopped while this cell ran; out of memory is the usual reason.")
        self.position = position


def _execute(notebook: NotebookNode, folder: Path, python: str, progress: Progress, task: TaskID) -> None:
    """Run every cell, going on after an error so that later cells still earn their points."""
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient
    from nbclient.exceptions import DeadKernelError

    with tempfile.TemporaryDirectory() as specs:
        # A kernel of our own: one called python3 in the user's home may belong to another environment.
        argv = [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        spec = Path(specs) / "lab" / "kernel.json"
        spec.parent.mkdir()
        spec.write_text(json.dumps({"argv": argv, "display_name": "lab", "language": "python"}))
        finder = KernelSpecManager(kernel_dirs=[specs], ensure_native_kernel=False)
        client = NotebookClient(
            notebook,
            km=AsyncKernelManager(kernel_name="lab", kernel_spec_manager=finder),
            resources={"metadata": {"path": str(folder)}},
            timeout=None,
            startup_timeout=180,
            allow_errors=True,
            store_widget_state=False,
        )
        with (
            folder.with_suffix(".log").open("w") as log,
            client.setup_kernel(env=_kernel_environment(), stderr=log, cleanup_kc=True),
        ):
            for position, cell in enumerate(notebook.cells, start=1):
                progress.update(task, completed=position)
                try:
                    client.execute_cell(cell, position - 1)
                except DeadKernelError as error:
                    raise _KernelDied(position) from error


def _kernel_environment() -> dict[str, str]:
    """This process's environment, with the course's packages found by an interpreter that lacks them."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(path for path in paths if path)}


@contextmanager
def _progress(name: str, cells: int, console: Console) -> Iterator[tuple[Progress, TaskID]]:
    """A bar that counts cells and time on a terminal; elsewhere a line every HEARTBEAT_SECONDS."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    done = threading.Event()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=cells)

        def tell() -> None:
            while not done.wait(HEARTBEAT_SECONDS):
                state = progress.tasks[0]
                console.print(f"     {name}: cell {state.completed:g} of {cells}, {state.elapsed or 0:.0f} s")

        teller = threading.Thread(target=tell, daemon=True)
        if not console.is_terminal:
            teller.start()
        try:
            yield progress, task
        finally:
            done.set()


def _first_error(lab: str, notebook: NotebookNode) -> LabError | None:
    for position, cell in enumerate(notebook.cells, start=1):
        if "raises-exception" in cell.metadata.get("tags", []):
            continue
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                sentence = f"{output.ename}: {output.evalue}".strip().splitlines()[0]
                return LabError(lab, position, cell.id, sentence)
    return None


def _points(cell: NotebookNode) -> float:
    """What nbgrader gives this cell by itself; text on stderr costs nothing, as in nbgrader_config.py."""
    from nbgrader.utils import determine_grade, is_grade

    if not is_grade(cell) or cell.cell_type != "code" or cell.execution_count is None:
        return 0.0
    outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    score, _ = determine_grade(nbformat.from_dict(cell | {"outputs": outputs}))
    return float(score or 0.0)


def _figures(notebook: NotebookNode) -> dict[str, Any]:
    outputs = (output for cell in notebook.cells for output in cell.get("outputs", []))
    figures: dict[str, Any] = {}
    for output in outputs:
        figures |= output.get("data", {}).get(FIGURES_MIME, {})
    return figures


def _write_html(path: Path, notebook: NotebookNode, title: str) -> None:
    """A page that needs no other file, a widget shown by its static twin; only formulas need the network."""
    from nbconvert import HTMLExporter
    from traitlets.config import Config

    shown = [
        "text/html",
        "text/markdown",
        "image/svg+xml",
        "text/latex",
        "image/png",
        "image/jpeg",
        "text/plain",
    ]
    config = Config({"NbConvertBase": {"display_data_priority": shown}})
    exporter = HTMLExporter(config=config, embed_images=True, require_js_url="", jquery_url="")
    body, _ = exporter.from_notebook_node(notebook, resources={"metadata": {"name": title}})
    write_atomically(path, body.encode())


def _write_json(path: Path, runs: dict[str, Any]) -> None:
    write_atomically(path, (json.dumps({"labs": runs}, indent=1, allow_nan=False) + "\n").encode())
