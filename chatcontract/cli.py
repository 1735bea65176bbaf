"""The student's verbs: open the course, check the machine, fetch a model."""

import os
import socket
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from chatcontract.course_files import course_root

PORTS = range(8888, 8938)

app = typer.Typer(
    help="The Chat Contract: a course on instruction tuning.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
model_app = typer.Typer(help="Fetch a model, or list the course's models.", no_args_is_help=True)
app.add_typer(model_app, name="model")
nano_app = typer.Typer(help="Remake or measure nano, the course's own base model.", no_args_is_help=True)
app.add_typer(nano_app, name="nano")
# The options of these verbs are parsed, and explained, by the modules that do the work.
_PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def fail(sentence: object, status: int = 1) -> typer.Exit:
    """Print a sentence on stderr and return the exit to raise."""
    print(sentence, file=sys.stderr)
    return typer.Exit(status)


@app.command()
def lab(
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open a browser window.")] = True,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port to serve on; default: a free one.")
    ] = None,
) -> None:
    """Open JupyterLab on the course."""
    root = course_root() or Path.cwd()
    if port is not None and not _is_free(port):
        raise fail(f"Port {port} is in use. Give another one with --port, or leave it out to get a free one.")
    chosen = port or next((p for p in PORTS if _is_free(p)), 0)
    os.chdir(root)
    # Notebooks that call `!pip` or `!nbgrader` find this environment's programs first.
    _prepend("PATH", Path(sys.executable).parent)
    # Settings that keep JupyterLab from asking about news and looking for updates.
    _prepend("JUPYTER_CONFIG_PATH", Path(__file__).with_name("jupyter"))
    sys.argv = ["jupyter-lab", *_lab_options(root, chosen, browser)]
    try:
        from jupyterlab.labapp import main as jupyterlab
    except ModuleNotFoundError as error:
        raise fail(
            "JupyterLab is not installed here. Install it: pip install jupyterlab ipywidgets"
        ) from error
    print(f"Opening JupyterLab on {root}; stop it with Ctrl-C.", flush=True)
    jupyterlab()


def _prepend(variable: str, folder: Path) -> None:
    present = os.environ.get(variable)
    os.environ[variable] = os.pathsep.join([str(folder), *([present] if present else [])])


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # Without this a port that was in use a moment ago counts as taken; on Windows it means the opposite.
        if os.name != "nt":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _lab_options(root: Path, port: int, browser: bool) -> list[str]:
    options = [f"--ServerApp.root_dir={root}", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"]
    # The WARN level keeps the lines that say where the server is and leaves out the start-up log.
    options += ["--ServerApp.log_level=WARN", "--LabApp.log_level=WARN"]
    # The course works without a network: JupyterLab need not look for extensions.
    options.append("--LabApp.extension_manager=readonly")
    if (root / "notebooks").is_dir():
        options.append("--LabApp.default_url=/lab/tree/notebooks")
    if not browser:
        options.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options.append("--allow-root")
    return options


@app.command()
def doctor() -> None:
    """Check this machine: Python, memory, disk, packages, GPU, models, widgets."""
    from chatcontract import doctor as machine

    console = Console(highlight=False)
    with console.status("Checking this machine"):
        found = machine.checks()
    console.print(machine.table(found))
    console.print(machine.summary(found))
    if any(check.status == "FAIL" for check in found):
        raise typer.Exit(1)


@model_app.command()
def fetch(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A course model, or a hub id such as owner/name.")
    ],
) -> None:
    """Fetch a model into this machine's cache; a broken download goes on where it stopped."""
    from chatcontract import models

    try:
        folder = models.fetch(name)
    except ValueError as error:
        raise fail(error, 2 if name not in models.MODELS else 1) from error
    except OSError as error:
        raise fail(error) from error
    print(f"{name} is in {folder}")


@model_app.command("list")
def list_models() -> None:
    """List the course's models and whether they are on this machine."""
    from rich.table import Table

    from chatcontract import models

    table = Table("name", "what it is", "parameters", "licence", "on this machine")
    for source in models.MODELS.values():
        here = "yes" if models.is_fetched(source.name) else f"no: model fetch {source.name}"
        table.add_row(source.name, source.role, source.parameters, source.licence, here)
    Console().print(table)


@nano_app.command(context_settings=_PASSED_ON)
def pretrain(context: typer.Context) -> None:
    """Remake nano from nothing: about an hour on 2 CPU cores; goes on after an interrupt."""
    from chatcontract.nano.pretrain import main as run_pretraining

    raise typer.Exit(run_pretraining(context.args))


@nano_app.command(context_settings=_PASSED_ON)
def verify(context: typer.Context) -> None:
    """Measure nano before and after fine-tuning, over several seeds."""
    from chatcontract.nano.verify import main as run_verification

    raise typer.Exit(run_verification(context.args))


@app.command()
def experiments(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Such as eot_masked; default: all.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where figures and chart go.")] = None,
    model: Annotated[str, typer.Option(metavar="NAME", help="A course model or a model folder.")] = "nano",
    seed: Annotated[int, typer.Option(help="Of rows, adapter and order.")] = 0,
    cases: Annotated[int, typer.Option(min=1, help="Held-out cases to answer.")] = 200,
    rows: Annotated[int | None, typer.Option(min=1, help="Train on no more rows than this.")] = None,
    listed: Annotated[bool, typer.Option("--list", help="Run nothing; say what there is.")] = False,
) -> None:
    """Switch one fault on at a time, train nano for seconds, and measure the damage."""
    from chatcontract.experiments import EXPERIMENTS, benchmark

    if listed:
        for experiment in EXPERIMENTS.values():
            print(f"{experiment.name:<20} {experiment}")
        return
    usual = (model, seed, cases, rows) == ("nano", 0, 200, None)
    if out is None and usual:
        out = benchmark.results_folder()
    try:
        benchmark.run_all(names or [], out=out, model=model, seed=seed, cases=cases, rows=rows)
    except ValueError as error:
        raise fail(error, 2) from error
    except OSError as error:
        raise fail(error) from error
    except KeyboardInterrupt as stopped:
        raise fail("Stopped; what was measured before is kept.", 130) from stopped
    print(f"Figures and chart are in {out}." if out else "Nothing was written: name a folder with --out.")


def main() -> None:
    """Run the student's command line."""
    app(prog_name="course.py" if course_root() else "chatcontract")
