"""What a lab's first cell does on Google Colab once it has fetched this package.

The cell loads this file by its path, before anything of the package can be imported: only the standard
library is used here.
"""

import importlib
import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path


def install(course: str) -> None:
    """Install the course package from its folder, with what training needs, and say what it does.

    pip decides what to install: packages that are missing, or that pyproject.toml finds too old.

    Args:
        course: folder that holds the course's pyproject.toml, chatcontract/ and assets/.

    Raises:
        RuntimeError: pip failed; or it replaced a package that is already loaded, so that the runtime has to
            be restarted. The message says what to do.
    """
    print("Installing what the course needs: one to three minutes.")
    before = _installed_versions()
    _pip_install(f"{course}[train]")
    importlib.invalidate_caches()
    after = _installed_versions()
    changed = sorted(name for name, version in after.items() if before.get(name) != version)
    print("Installed: " + ", ".join(f"{name} {after[name]}" for name in changed) + ".")
    replaced = sorted(_loaded_distributions().intersection(changed).intersection(before))
    if replaced:
        raise RuntimeError(
            f"Restart the runtime (menu Runtime, Restart session) and run this notebook again: "
            f"{', '.join(replaced)} had been loaded before the new version was installed."
        )


def _pip_install(requirement: str) -> None:
    command = [sys.executable, "-m", "pip", "install", "--progress-bar", "off", requirement]
    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pip:
        assert pip.stdout is not None
        for line in pip.stdout:
            lines.append(line.strip())
            if line.startswith(("Collecting ", "Installing collected")):
                print("  " + line.split(" (from")[0].strip()[:100], flush=True)
    if pip.returncode:
        errors = [line for line in lines if line.startswith("ERROR: ")] or lines[-1:]
        reason = " ".join(errors[-1:]).removeprefix("ERROR: ").rstrip(".")
        raise RuntimeError(
            f"The course's packages could not be installed: {reason}. Check the connection and run this cell "
            "again."
        )


def _installed_versions() -> dict[str, str]:
    return {found.metadata["Name"].lower(): found.version for found in importlib.metadata.distributions()}


def _loaded_distributions() -> set[str]:
    """Lower-case names of the installed distributions of which a top-level module is loaded."""
    owners = importlib.metadata.packages_distributions()
    return {name.lower() for module in sys.modules for name in owners.get(module, ())}


def keep_folder(folder: Path) -> Path:
    """Save a result from a Colab machine, which is recycled with everything on it; elsewhere say where it is.

    On Colab the folder goes to Drive under "chat-contract/" when Drive is mounted; otherwise the browser
    downloads it as a zip file.

    Returns:
        Where the result can be found afterwards.
    """
    if "google.colab" not in sys.modules:
        print(f"Saved in {folder.resolve()}.")
        return folder
    drive = Path("/content/drive/MyDrive")
    if drive.is_dir():
        target = drive / "chat-contract" / folder.name
        shutil.copytree(folder, target, dirs_exist_ok=True)
        print(f"Copied to Drive: chat-contract/{folder.name}.")
        return target
    from google.colab import files  # type: ignore[import-untyped,import-not-found]

    archive = Path(shutil.make_archive(str(folder), "zip", folder))
    print(
        f"Downloading {archive.name}. To keep results on Drive instead, mount it first: "
        "from google.colab import drive; drive.mount('/content/drive')"
    )
    files.download(str(archive))
    return archive
