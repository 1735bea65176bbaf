"""Whether this machine can run the course: one check per line, each with what to do about it."""

from __future__ import annotations

import html
import importlib.metadata
import logging
import os
import platform
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from chatcontract.course_files import course_root

if TYPE_CHECKING:
    from packaging.requirements import Requirement
    from rich.table import Table

Status = Literal["OK", "WARN", "FAIL"]

PACKAGE = "chat-contract"
# Peak memory of the QLoRA run on a CPU, and of the labs with the small model, rounded up.
MEMORY_FOR_QLORA_GB = 4.0
MEMORY_FOR_LABS_GB = 2.0
DISK_FOR_MODELS_GB = 2.0


@dataclass(frozen=True)
class Check:
    """One line of the table: what was looked at, how it stands, what was found, what to do."""

    subject: str
    status: Status
    found: str
    advice: str = ""


class Report:
    """Checks that a notebook shows as a table and anything else as text."""

    def __init__(self, found: list[Check]) -> None:
        self.checks = found

    def __str__(self) -> str:
        """One line per check, then the summary."""
        width = max(len(check.subject) for check in self.checks)
        lines = [
            f"{check.status:<4}  {check.subject:<{width}}  {check.found}"
            + (f" - {check.advice}" if check.advice else "")
            for check in self.checks
        ]
        return "\n".join([*lines, summary(self.checks)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head = "".join(f'<th scope="col" style="text-align:left">{h}</th>' for h in _HEADINGS)
        rows = "".join(
            "<tr>"
            f'<td style="text-align:left"><strong>{check.status}</strong></td>'
            + "".join(
                f'<td style="text-align:left">{html.escape(text)}</td>'
                for text in (check.subject, check.found, check.advice)
            )
            + "</tr>"
            for check in self.checks
        )
        return (
            f"<table><caption>{html.escape(summary(self.checks))}</caption>"
            f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        )


_HEADINGS = ("", "what", "found", "what to do")


def show() -> Report:
    """All checks, as something a notebook cell displays and `print` shows as text."""
    return Report(checks())


def checks() -> list[Check]:
    """Look at this machine; takes some seconds, because PyTorch and bitsandbytes are really used."""
    return [
        _python(),
        _memory(),
        _disk(),
        *_packages(),
        _gpu(),
        _four_bit(),
        *_models(),
        _widgets(),
    ]


def summary(found: list[Check]) -> str:
    """One sentence on how the machine stands."""
    failed = sum(check.status == "FAIL" for check in found)
    warned = sum(check.status == "WARN" for check in found)
    if failed:
        return f"{failed} of {len(found)} checks failed: the course will not run until they are put right."
    if warned:
        return f"The course runs here; {warned} of {len(found)} checks advise something."
    return f"All {len(found)} checks passed."


def table(found: list[Check]) -> Table:
    """The checks for a terminal."""
    from rich.markup import escape
    from rich.table import Table

    colours = {"OK": "green", "WARN": "yellow", "FAIL": "red"}
    lines = Table(box=None, pad_edge=False, show_header=False)
    for check in found:
        status = f"[{colours[check.status]}]{check.status}[/]"
        text = escape(check.found) + (f"\n-> {escape(check.advice)}" if check.advice else "")
        lines.add_row(status, escape(check.subject), text)
    return lines


def _python() -> Check:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        return Check("Python", "OK", found)
    return Check("Python", "FAIL", found, "Use Python 3.11, 3.12 or 3.13.")


def _memory() -> Check:
    import psutil

    memory = psutil.virtual_memory()
    total, free = memory.total / 1e9, memory.available / 1e9
    limit = _container_limit()
    if limit is not None and limit < total:
        total, free = limit, min(free, limit)
    found = f"{free:.1f} GB free of {total:.1f} GB"
    if total < MEMORY_FOR_LABS_GB:
        return Check("memory", "FAIL", found, f"The labs need {MEMORY_FOR_LABS_GB:.0f} GB: use Colab.")
    if free < MEMORY_FOR_QLORA_GB:
        need = f"The QLoRA run of lab 06 needs {MEMORY_FOR_QLORA_GB:.0f} GB"
        return Check("memory", "WARN", found, f"{need}: close other programs before it, or use Colab.")
    return Check("memory", "OK", found)


def _container_limit() -> float | None:
    """The memory limit of this control group in GB, or None."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        path = Path("/sys/fs/cgroup", name)
        if path.is_file() and (text := path.read_text().strip()).isdecimal():
            return int(text) / 1e9
    return None


def _disk() -> Check:
    from chatcontract.models import cache_root

    folder = cache_root()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 1e9
    found = f"{free:.1f} GB free at {folder}"
    if free < DISK_FOR_MODELS_GB / 4:
        return Check("disk", "FAIL", found, "Free some space: the labs write models and adapters.")
    if free < DISK_FOR_MODELS_GB:
        advice = f"Models and runs need {DISK_FOR_MODELS_GB:.0f} GB: free some, or set CHATCONTRACT_CACHE."
        return Check("disk", "WARN", found, advice)
    if not os.access(folder, os.W_OK):
        return Check(
            "disk", "FAIL", f"{folder} cannot be written", "Set CHATCONTRACT_CACHE to a folder of yours."
        )
    return Check("disk", "OK", found)


def _packages() -> list[Check]:
    """Every direct dependency against its pin in a clone, against its range elsewhere."""
    try:
        requirements = direct_requirements()
    except importlib.metadata.PackageNotFoundError:
        return [Check("packages", "WARN", "chat-contract is not installed as a package", "pip install it.")]
    return [_package(requirement, pins().get(_key(requirement.name))) for requirement in requirements]


def direct_requirements() -> list[Requirement]:
    """What the installed course package asks for: all of it in a full clone, else the student's part.

    Raises:
        importlib.metadata.PackageNotFoundError: the course is not installed as a package.
    """
    from packaging.requirements import Requirement

    root = course_root()
    full = root is not None and (root / "autograder").is_dir()
    student = {"", "train"} if on_colab() else {"", "train", "lab", "serving"}
    wanted = []
    for line in importlib.metadata.requires(PACKAGE) or []:
        requirement = Requirement(line)
        extra = re.search(r"extra == ['\"](\w+)['\"]", str(requirement.marker or ""))
        if full or (extra.group(1) if extra else "") in student:
            wanted.append(requirement)
    return sorted(wanted, key=lambda requirement: requirement.name.lower())


def on_colab() -> bool:
    """Whether this is Google Colab, which brings its own JupyterLab and widgets."""
    return "google.colab" in sys.modules or "COLAB_RELEASE_TAG" in os.environ


def pins() -> dict[str, str]:
    """The version constraints.txt gives each package, by normalised name; empty outside a clone."""
    root = course_root()
    if root is None:
        return {}
    text = (root / "constraints.txt").read_text(encoding="utf-8")
    return {_key(name): version for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE)}


def _key(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _package(requirement: Requirement, pin: str | None) -> Check:
    name, version = requirement.name, _version(requirement.name)
    install = "Delete .venv/course.json and run course.py again: it puts the pins back."
    if pin is None:
        install = f"pip install '{name}{requirement.specifier}'"
    if version is None:
        return Check(name, "FAIL", "not installed", install)
    if not requirement.specifier.contains(version, prereleases=True):
        return Check(name, "FAIL", f"{version}, needed {requirement.specifier}", install)
    # A pin names no build: 2.13.0 stands for 2.13.0+cpu as well.
    if pin is not None and version.split("+")[0] != pin:
        return Check(name, "WARN", f"{version}, tested with {pin}", install)
    return Check(name, "OK", version)


def _gpu() -> Check:
    if _version("torch") is None:
        return Check("GPU", "WARN", "not looked for: PyTorch is missing")
    import torch

    from chatcontract.sft import pick_device

    if torch.cuda.is_available():
        return _cuda()
    device = pick_device()
    if shutil.which("nvidia-smi"):
        found = f"an NVIDIA driver that PyTorch {torch.__version__} cannot use. {device.reason}"
        return Check("GPU", "WARN", found, "To use the GPU: python3 course.py doctor --gpu")
    return Check("GPU", "OK", f"none. {device.reason}")


def _cuda() -> Check:
    import torch

    from chatcontract.sft import pick_device

    device = pick_device()
    memory = torch.cuda.get_device_properties(0).total_memory / 1e9
    found = f"{device.reason} {memory:.0f} GB."
    try:
        square = torch.ones(8, 8, device="cuda", dtype=device.torch_dtype)
        square.matmul(square).sum().item()
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        return Check(
            "GPU", "FAIL", f"{found} {reason}", "Set CUDA_VISIBLE_DEVICES to nothing to use the CPU."
        )
    return Check("GPU", "OK", found)


def _four_bit() -> Check:
    """Quantise a matrix to NF4 and back with bitsandbytes, on the device a run would use."""
    subject = "4-bit (NF4)"
    advice = "Lab 06 needs it: reinstall bitsandbytes, or use Colab. The other labs run without it."
    if _version("bitsandbytes") is None or _version("torch") is None:
        return Check(subject, "FAIL", "bitsandbytes or PyTorch is missing", advice)
    try:
        import torch

        # It speaks of kernels that it may fetch from a hub and does without.
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
        from bitsandbytes.functional import dequantize_4bit, quantize_4bit

        from chatcontract.sft import pick_device

        device = pick_device()
        weight = torch.linspace(-1, 1, 4096).reshape(64, 64).to(device.kind)
        packed, state = quantize_4bit(weight, quant_type="nf4")
        error = (dequantize_4bit(packed, state) - weight).abs().max().item()
    except (ImportError, RuntimeError, OSError) as problem:
        return Check(subject, "FAIL", str(problem).splitlines()[0], advice)
    # NF4's widest gap between two levels is 0.30 (Dettmers et al. 2023, appendix E): half of it is the most
    # that rounding may cost.
    if error > 0.16:
        return Check(subject, "FAIL", f"a matrix comes back wrong by {error:.2f}", advice)
    return Check(subject, "OK", f"works on {device.kind}")


def _models() -> list[Check]:
    from chatcontract.models import MODELS, cache_root, is_fetched

    found = []
    for source in MODELS.values():
        subject = f"model {source.name}"
        if source.folder:
            found.append(_course_model(subject, source.name))
        elif is_fetched(source.name):
            found.append(Check(subject, "OK", f"in {cache_root()}"))
        else:
            advice = f"Fetched when first used; to have it before: course.py model fetch {source.name}"
            found.append(Check(subject, "WARN", "not fetched yet", advice))
    return found


def _course_model(subject: str, name: str) -> Check:
    from chatcontract.models import fetch

    try:
        return Check(subject, "OK", f"in {fetch(name)}")
    except FileNotFoundError as missing:
        return Check(subject, "WARN", "missing: experiments cannot run", str(missing))


def _widgets() -> Check:
    version = _version("ipywidgets")
    if version is None:
        return Check("widgets", "FAIL", "ipywidgets is missing", "pip install ipywidgets")
    if on_colab():
        return Check("widgets", "OK", f"ipywidgets {version}, drawn by Colab")
    # ipywidgets 7 is drawn by jupyterlab_widgets 1, ipywidgets 8 by jupyterlab_widgets 3.
    wanted = {"7": "1", "8": "3"}.get(version.split(".")[0])
    drawn_by = _version("jupyterlab-widgets")
    if drawn_by is None or drawn_by.split(".")[0] != wanted:
        found = f"ipywidgets {version} with jupyterlab-widgets {drawn_by or 'missing'}"
        return Check(
            "widgets", "WARN", found, f"pip install 'jupyterlab-widgets=={wanted}.*'; pictures show without."
        )
    return Check("widgets", "OK", f"ipywidgets {version} with jupyterlab-widgets {drawn_by}")
