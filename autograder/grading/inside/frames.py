"""Plain data over a socket: length-prefixed JSON, read by a parser that trusts nothing.

A frame is 4 bytes of length, big-endian, and that many bytes of UTF-8 JSON. Pickle is never read: it would
run the sender's code.
"""

import json
import math
import re
import socket
import time
from typing import Any

LARGEST = 16 * 1024 * 1024
DEEPEST = 64
_TEXTS = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)


class BadFrame(ValueError):
    """What arrived is not a frame; the message says in which way."""


class Silence(TimeoutError):
    """Nothing arrived in time."""


class Closed(EOFError):
    """The other side is gone."""


def encode(data: Any) -> bytes:
    """One frame.

    Raises:
        ValueError: the data holds a number that is not finite.
    """
    body = json.dumps(data, allow_nan=False, separators=(",", ":")).encode()
    return len(body).to_bytes(4, "big") + body


def send(channel: socket.socket, data: Any) -> None:
    """Write one frame."""
    channel.sendall(encode(data))


def receive(channel: socket.socket, seconds: float, largest: int = LARGEST) -> Any:
    """Read one frame.

    Raises:
        Silence: it was not complete after so many seconds.
        Closed: the other side ended.
        BadFrame: too long, not JSON, too deep, a duplicate key, or a number that is not finite.
    """
    return decode(receive_body(channel, seconds, largest))


def receive_body(channel: socket.socket, seconds: float, largest: int = LARGEST) -> bytes:
    """Read one frame, and leave what it holds undecoded.

    Raises:
        Silence: it was not complete after so many seconds.
        Closed: the other side ended.
        BadFrame: too long.
    """
    deadline = time.monotonic() + seconds
    length = int.from_bytes(_exactly(channel, 4, deadline), "big")
    if length > largest:
        raise BadFrame(f"a message of {length} bytes, where {largest} are allowed")
    return _exactly(channel, length, deadline)


def _exactly(channel: socket.socket, count: int, deadline: float) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        left = deadline - time.monotonic()
        if left <= 0:
            raise Silence
        channel.settimeout(left)
        try:
            part = channel.recv(min(count - len(parts), 1 << 20))
        except TimeoutError:
            raise Silence from None
        except ConnectionError:
            raise Closed from None
        if not part:
            raise Closed
        parts += part
    return bytes(parts)


def decode(body: bytes) -> Any:
    """Strict JSON.

    Raises:
        BadFrame: it is not, or it is nested more than 64 deep.
    """
    depth = 0
    for character in _TEXTS.sub(b"", body):
        if character in b"[{":
            depth += 1
            if depth > DEEPEST:
                raise BadFrame(f"data nested more than {DEEPEST} deep")
        elif character in b"]}":
            depth -= 1
    try:
        return json.loads(
            body, parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_no_duplicates
        )
    except (ValueError, RecursionError) as error:
        raise BadFrame(str(error)) from None


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a finite number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number that is not finite")
    return number


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key that stands twice in one object")
    return found
