"""The instructor's secret, from which the private cases of a class are made."""

import hashlib
import hmac
import os
import random
import secrets
from dataclasses import dataclass
from pathlib import Path

from autograder.labs import ROOT

SEED_FILE = Path("secrets") / "judge.seed"
ENVIRONMENT = "CHATCONTRACT_SEED_FILE"
_THROWAWAY = b"a public seed, for rehearsals only"


class BadSeed(ValueError):
    """The seed file cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class Seed:
    """A class's secret; `is_secret` is False for the public one that anybody can read in this file."""

    key: bytes
    is_secret: bool

    def generator(self, lab: str, exercise: str) -> random.Random:
        """A random generator that gives the same cases for this class and exercise every time."""
        return random.Random(hmac.new(self.key, f"{lab}/{exercise}".encode(), hashlib.sha256).digest())


def throwaway(number: int = 0) -> Seed:
    """A public seed, for tests and for labs that run without an instructor."""
    return Seed(_THROWAWAY + str(number).encode(), is_secret=False)


def class_seed(root: Path = ROOT) -> Seed:
    """The seed in $CHATCONTRACT_SEED_FILE, else in secrets/judge.seed, else the public one.

    Raises:
        BadSeed: the named file is missing, or it is too short to be a secret.
    """
    named = os.environ.get(ENVIRONMENT)
    path = Path(named) if named else root / SEED_FILE
    if not path.is_file():
        if named:
            raise BadSeed(f"${ENVIRONMENT} names {path}, which is not there: correct it or unset it.")
        return throwaway()
    return read_seed(path)


def read_seed(path: Path) -> Seed:
    """The secret in a file.

    Raises:
        BadSeed: the file cannot be read, or is too short to be a secret.
    """
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        raise BadSeed(f"{path} cannot be read ({error.strerror}): name another seed file.") from error
    if len(key) < 16:
        raise BadSeed(f"{path} holds {len(key)} bytes, too few for a secret: delete it to get a new one.")
    return Seed(key, is_secret=True)


def create(path: Path) -> None:
    """Write a new secret that only its owner can read; an existing file is left as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secrets.token_hex(32) + "\n")
