"""Where the course's files are: in a clone, or inside an installed package."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def course_root() -> Path | None:
    """The folder of the clone this package is imported from, or None for an installed wheel."""
    root = _PACKAGE.parent
    return root if (root / "course.py").is_file() and (root / "pyproject.toml").is_file() else None


def assets_dir() -> Path:
    """The folder that holds ShopFlow's policies and rows, the embedded model and the diagrams.

    Raises:
        FileNotFoundError: neither a clone's assets/ nor an installed package's copy is there.
    """
    root = course_root()
    folder = root / "assets" if root else _PACKAGE / "assets"
    if not folder.is_dir():
        raise FileNotFoundError(
            f"The course's assets are missing: expected the folder {folder}. "
            "Restore it with 'git checkout assets' in a clone, or reinstall the chat-contract package."
        )
    return folder


def asset(name: str) -> Path:
    """The path of one course file, such as asset("shopflow/policies.yaml").

    Args:
        name: path below assets/, with forward slashes.

    Raises:
        ValueError: the name leads out of assets/.
        FileNotFoundError: there is no such file.
    """
    folder = assets_dir()
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ValueError(f"'{name}' leads out of the course's assets: give a path below {folder}.")
    if not path.exists():
        near = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
        there = f" That folder holds: {', '.join(near)}." if near else ""
        raise FileNotFoundError(f"The course has no file '{name}' under {folder}.{there}")
    return path
