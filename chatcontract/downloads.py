"""One file over HTTP: resumable, checked against its SHA-256, and never half written."""

import hashlib
import os
import urllib.error
import urllib.request
from pathlib import Path

_CHUNK = 1 << 20


def reachable(url: str, timeout: float = 3.0) -> bool:
    """Whether a server answers at all within `timeout` seconds (an error page counts as an answer)."""
    request = urllib.request.Request(url, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=timeout):
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False


def sha256_of(path: Path) -> str:
    """The file's SHA-256 as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(url: str, target: Path, *, sha256: str, progress: bool = True) -> Path:
    """Fetch `url` into `target`.

    An interrupted download leaves `target` + ".part" behind and the next call goes on from there.

    Args:
        url: http, https or file address.
        target: where the complete file goes; its folder must exist.
        sha256: expected digest; a file with another one is deleted.
        progress: draw a progress bar on stdout.

    Raises:
        ConnectionError: the server did not answer or broke off; says what to do.
        ValueError: the bytes are not the expected ones.
    """
    part = target.with_name(target.name + ".part")
    try:
        _fetch_into(part, url, progress)
    except (OSError, urllib.error.URLError) as error:
        kept = part.stat().st_size if part.exists() else 0
        raise ConnectionError(
            f"Could not download {target.name} from {url}: {error}. "
            f"{kept / 1e6:.0f} MB are kept; run the same command again to go on from there."
        ) from error
    if (found := sha256_of(part)) != sha256:
        part.unlink()
        raise ValueError(
            f"{target.name} from {url} has SHA-256 {found[:12]}..., expected {sha256[:12]}...; "
            "the file was deleted. Run the command again, or check the package index in use."
        )
    os.replace(part, target)
    return target


def _fetch_into(part: Path, url: str, progress: bool) -> None:
    import sys

    from tqdm import tqdm

    start = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.urlopen(request, timeout=30)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the part is complete already
            return
        raise
    with response:
        resumed = response.status == 206 if hasattr(response, "status") else False
        length = int(response.headers.get("Content-Length") or 0)
        done = start if resumed else 0
        with (
            part.open("ab" if resumed else "wb") as file,
            tqdm(
                total=done + length or None,
                initial=done,
                desc=part.name.removesuffix(".part"),
                unit="B",
                unit_scale=True,
                file=sys.stdout,
                disable=not progress,
            ) as bar,
        ):
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
        expected = done + length
    if length and part.stat().st_size != expected:
        raise ConnectionError(f"the connection broke off at {part.stat().st_size:,} of {expected:,} bytes")
