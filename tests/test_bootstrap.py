"""The first cell of every lab, executed for real on an imitation of Colab's runtime."""

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from packaging.requirements import Requirement

from autograder.bootstrap import bootstrap_source, repository
from autograder.labs import ROOT, discover
from autograder.run import main as run_labs

# Versions published by googlecolab/backend-info; torch 2.11 is left out, see colab_base.
CONSTRAINTS = ROOT / "tests" / "colab-constraints.txt"
CELL = bootstrap_source(repository(ROOT))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TRAINING = [Requirement(text) for text in PROJECT["optional-dependencies"]["train"]]
KEPT = ["ipython", "ipywidgets", "numpy", "peft", "transformers"]
WATCHED = [*KEPT, *(requirement.name for requirement in TRAINING)]
LOOK = f"""
import importlib.metadata, importlib.util, json
import chatcontract
from chatcontract.course_files import assets_dir

print(json.dumps({{
    "versions": {{name: importlib.metadata.version(name) for name in {WATCHED}}},
    "file": chatcontract.__file__,
    "assets": assets_dir().is_dir(),
    "not_for_students": [n for n in ("autograder", "nbgrader") if importlib.util.find_spec(n)],
}}))
"""
ON_COLAB = "import sys, types\nsys.modules['google.colab'] = types.ModuleType('google.colab')"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="Colab is a Linux machine"),
]


def _run(*command: str | Path) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _venv(folder: Path) -> Path:
    """A new environment; the path of its interpreter."""
    _run(sys.executable, "-m", "venv", folder)
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def served_repository(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The working tree as a repository that answers partial clones; the URL to clone it from."""
    folder = tmp_path_factory.mktemp("served") / "chat-contract"
    names = _run("git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    git = ("git", "-C", folder, "-c", "user.name=test", "-c", "user.email=test@localhost")
    _run("git", "init", "--quiet", folder)
    _run(*git, "add", "--all")
    _run(*git, "commit", "--quiet", "-m", "The course")
    _run(*git, "config", "uploadpack.allowFilter", "true")
    return f"file://{folder}"


@pytest.fixture(scope="module")
def colab_base(request: pytest.FixtureRequest) -> Path:
    """An environment with Colab's packages, kept between test runs.

    torch is linked from this environment, because Colab's torch 2.11 from PyPI brings gigabytes of CUDA.
    """
    stamp = hashlib.sha256(CONSTRAINTS.read_bytes() + sys.version.encode()).hexdigest()[:12]
    base = request.config.cache.mkdir("colab") / stamp
    if not base.exists():
        part = base.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        python = _venv(part)
        _link_torch(python)
        _run(python, "-m", "pip", "install", "--quiet", "-r", CONSTRAINTS)
        part.rename(base)
    return base


def _link_torch(python: Path) -> None:
    spec = importlib.util.find_spec("torch")
    assert spec is not None and spec.origin is not None
    here = Path(spec.origin).parents[1]
    there = Path(_run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    for pattern in ("torch*", "functorch*", "nvidia*", "triton*", "cuda*"):
        for path in here.glob(pattern):
            (there / path.name).symlink_to(path)


@pytest.fixture(scope="module")
def colab_python(colab_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh copy of that environment, which a test may change."""
    copy = tmp_path_factory.mktemp("colab") / "env"
    try:
        shutil.copytree(colab_base, copy, symlinks=True, copy_function=os.link)
    except (OSError, shutil.Error):  # on another file system, or one without hard links
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(colab_base, copy, symlinks=True)
    return copy / "bin" / "python"


def _execute(python: Path, folder: Path, cells: list[str], **environment: str) -> list[str]:
    """Run cells in one kernel of that interpreter in a folder; what each shows, an error's text included."""
    spec = folder / "kernels" / "colab" / "kernel.json"
    spec.parent.mkdir(parents=True, exist_ok=True)
    argv = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec.write_text(json.dumps({"argv": argv, "display_name": "colab", "language": "python"}))
    finder = KernelSpecManager(kernel_dirs=[str(folder / "kernels")], ensure_native_kernel=False)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = NotebookClient(
        notebook,
        km=AsyncKernelManager(kernel_name="colab", kernel_spec_manager=finder),
        resources={"metadata": {"path": str(folder)}},
        allow_errors=True,
        timeout=600,
    )
    inherited = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    with client.setup_kernel(
        env=inherited | {"TMPDIR": str(folder), **environment}, stderr=subprocess.DEVNULL, cleanup_kc=True
    ):
        for index, cell in enumerate(notebook.cells):
            client.execute_cell(cell, index)
    return [
        "".join(
            f"{out.ename}: {out.evalue}" if out.output_type == "error" else out.get("text", "")
            for out in cell.outputs
        )
        for cell in notebook.cells
    ]


def test_is_short():
    assert len(CELL.splitlines()) <= 25


def test_elsewhere_it_does_nothing(tmp_path):
    shown = _execute(Path(sys.executable), tmp_path, [CELL], CHATCONTRACT_REPOSITORY="file:///nowhere")
    assert shown == [""]
    assert not list(tmp_path.glob("chat-contract-*"))


@pytest.fixture(scope="module")
def bootstrapped(
    colab_python: Path, served_repository: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[str]]:
    """The folder and outputs of a kernel on that environment: stub, bootstrap, a look around, bootstrap."""
    folder = tmp_path_factory.mktemp("content")
    cells = [ON_COLAB, CELL, LOOK, CELL]
    return folder, _execute(colab_python, folder, cells, CHATCONTRACT_REPOSITORY=served_repository)


def test_on_colab_it_installs_what_is_missing_or_too_old(bootstrapped, colab_python):
    _, shown = bootstrapped
    assert "Installed: " in shown[1] and "Error" not in shown[1], shown[1]
    found = json.loads(shown[2])
    assert Path(found["file"]).is_relative_to(colab_python.parents[1])
    assert found["assets"] and not found["not_for_students"]
    for requirement in TRAINING:
        assert requirement.specifier.contains(found["versions"][requirement.name]), requirement
    # What Colab has and the course accepts stays as it was.
    for name in KEPT:
        assert f"{name}=={found['versions'][name]}\n" in CONSTRAINTS.read_text()
    assert shown[3] == "", "a second run has nothing to do"


def test_on_colab_it_fetches_no_solution(bootstrapped):
    folder, _ = bootstrapped
    (fetched,) = folder.glob("chat-contract-*")
    assert {path.name for path in fetched.iterdir() if path.is_dir()} == {".git", "chatcontract", "assets"}
    tree = _run("git", "-C", fetched, "ls-tree", "-r", "HEAD").splitlines()
    private = [
        line.split()[2] for line in tree if line.split("\t")[1].startswith(("solutions/", "autograder/"))
    ]
    absent = _run("git", "-C", fetched, "rev-list", "--objects", "--missing=print", "HEAD")
    assert private and all(f"?{blob}\n" in absent for blob in private)


@pytest.mark.parametrize("name", ["00", "01"])
def test_labs_run_on_colabs_packages(bootstrapped, colab_python, name, tmp_path):
    if not any(lab.number == name for lab in discover(ROOT / "solutions")):
        pytest.skip(f"there is no lab {name}")
    shutil.copytree(ROOT / "solutions", tmp_path / "solutions")
    assert run_labs([name], python=str(colab_python), root=tmp_path) == 0


def test_no_network_is_one_sentence(tmp_path):
    hidden = tmp_path / "work"
    hidden.mkdir()
    cells = [ON_COLAB, "import importlib.util\nimportlib.util.find_spec = lambda name: None", CELL]
    shown = _execute(Path(sys.executable), hidden, cells, CHATCONTRACT_REPOSITORY=f"file://{tmp_path}/absent")
    assert "RuntimeError: The course was not fetched ('" in shown[2]
    assert shown[2].endswith("not appear to be a git repository). Check the connection and run again.")
    assert not list(hidden.glob("chat-contract-*/chatcontract"))


@pytest.fixture
def small_project(tmp_path: Path) -> Path:
    """A folder that pip installs like the course, but with one small requirement."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "small-project"\nversion = "1"\n'
        '[project.optional-dependencies]\ntrain = ["six>=1.17"]\n'
        '[tool.hatch.build.targets.wheel]\npackages = ["small_project"]\n'
    )
    (folder / "small_project").mkdir()
    (folder / "small_project" / "__init__.py").write_text("")
    return folder


def _install(python: Path, project: Path, *before: str) -> subprocess.CompletedProcess:
    installer = ROOT / "chatcontract" / "colab.py"
    code = "\n".join(
        [*before, "import runpy", f"runpy.run_path({str(installer)!r})['install']({str(project)!r})"]
    )
    return subprocess.run([str(python), "-c", code], capture_output=True, text=True)


def test_a_replaced_package_that_is_loaded_asks_for_a_restart(small_project, tmp_path):
    python = _venv(tmp_path / "env")
    _run(python, "-m", "pip", "install", "--quiet", "six==1.16.0")
    loaded = _install(python, small_project, "import six")
    assert loaded.stderr.splitlines()[-1] == (
        "RuntimeError: Restart the runtime (menu Runtime, Restart session) and run this notebook again: "
        "six had been loaded before the new version was installed."
    )
    again = _install(python, small_project, "import six")
    assert again.returncode == 0, again.stderr


def test_a_failed_install_is_one_sentence(small_project, tmp_path):
    project = small_project / "pyproject.toml"
    project.write_text(project.read_text().replace("six>=1.17", "six>=99"))
    said = _install(_venv(tmp_path / "env"), small_project).stderr.splitlines()[-1]
    assert said.startswith("RuntimeError: The course's packages could not be installed: No matching")
    assert said.endswith("Check the connection and run this cell again.")
