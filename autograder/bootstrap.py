"""The two generated cells at the top of every lab: the Colab badge and the Colab bootstrap."""

import re
import tomllib
from pathlib import Path

BADGE_ID = "open-in-colab"
BOOTSTRAP_ID = "bootstrap"

_BADGE = (
    "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
    "(https://colab.research.google.com/github/{repository}/blob/main/notebooks/{lab}/{lab}.ipynb)"
)

# runpy loads the installer without importing the package: an attempt that failed leaves nothing imported.
_BOOTSTRAP = """\
# On Google Colab this cell fetches the course package and installs what it needs. Elsewhere it does nothing.
import importlib.util
import os
import runpy
import subprocess
import sys
import tempfile

if "google.colab" in sys.modules and importlib.util.find_spec("chatcontract") is None:
    published = "https://github.com/OWNER/NAME"
    repository = os.environ.get("CHATCONTRACT_REPOSITORY", published)
    course = tempfile.mkdtemp(prefix="chat-contract-")
    print(f"Fetching the course package from {repository}: a few seconds.")
    status, said = subprocess.getstatusoutput(
        f"GIT_TERMINAL_PROMPT=0 git clone -q --depth 1 --filter=blob:none --sparse '{repository}' {course}"
        f" && git -C {course} sparse-checkout set chatcontract assets"
    )
    if status:
        reason = (said.partition("fatal: ")[2] or said).splitlines()[0]
        raise RuntimeError(f"The course was not fetched ({reason}). Check the connection and run again.")
    runpy.run_path(f"{course}/chatcontract/colab.py")["install"](course)
"""


def repository(root: Path) -> str:
    """The repository as owner/name: `[tool.chatcontract] repository` in pyproject.toml, its only place.

    Raises:
        ValueError: the setting is missing or is not owner/name.
    """
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    name = settings.get("tool", {}).get("chatcontract", {}).get("repository", "")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise ValueError(
            f"pyproject.toml: [tool.chatcontract] repository is {name!r}; write it as owner/name of the "
            "GitHub repository that Colab fetches the course from."
        )
    return name


def badge_source(repository: str, lab: str) -> str:
    """The Markdown of a lab's badge: a link that opens the released notebook in Colab."""
    return _BADGE.format(repository=repository, lab=lab)


def bootstrap_source(repository: str) -> str:
    """The code of the bootstrap cell, the same in every lab."""
    return _BOOTSTRAP.replace("OWNER/NAME", repository).rstrip("\n")
