"""Asks a student's functions what they do; the asking side alone knows what is right."""

import secrets
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from autograder.grading.inside import frames
from autograder.grading.inside.answers import HELD
from autograder.grading.safe_outputs import plain_text
from chatcontract.check.diagnosis import AnyCase
from chatcontract.check.outcome import Outcome

LARGEST_ANSWER = 4 * 1024 * 1024 + 64
# As Python objects they can take 25 times as much, for every worker.
ALL_ANSWERS = 8 * 1024 * 1024
LONGEST_TEXT = 2500
# All calls of one exercise together; what has not ended by then took too long.
EXERCISE_SECONDS = 120.0
CRASHED = Outcome(trouble="crash: Python ended before it answered")
MEMORY = Outcome(trouble="memory: the call used too much memory")
LATE = Outcome(trouble="time: not run, because earlier cases took too long")
LARGE = Outcome(trouble="type: the results of all cases together are larger than 8 MB")


class NotHeld(ConnectionError):
    """The kernel made no fork of itself: it ended, or its code got in the way."""


def hold(kernel: socket.socket, seconds: float) -> socket.socket:
    """Have the kernel fork, as its notebook is now, within so many seconds; the channel to the fork.

    Raises:
        NotHeld: there was no fork in time.
    """
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            kernel.settimeout(seconds)
            socket.send_fds(kernel, [b"h"], [theirs.fileno()])
        ours.settimeout(seconds)
        if ours.recv(1) != HELD:
            raise NotHeld("the kernel is gone")
    except OSError as error:
        ours.close()
        raise NotHeld(str(error)) from error
    return ours


def ask(
    channel: socket.socket, function: str, cases: Sequence[AnyCase], seconds: float
) -> tuple[list[Outcome], bool]:
    """The outcome of every case, in order, and whether the channel can take another question.

    Args:
        channel: to a fork of the kernel.
        function: name of the student's function.
        cases: whose arguments are sent; nothing else of them leaves this process.
        seconds: that one call may take.
    """
    outcomes: list[Outcome] = []
    nonce = secrets.token_hex(16)
    question = {
        "nonce": nonce,
        "function": function,
        "cases": [case.arguments for case in cases],
        "seconds": seconds,
    }
    # A call is made twice, and the answering side allows itself a second more.
    patience = 2 * seconds + 5
    deadline = time.monotonic() + EXERCISE_SECONDS
    room = ALL_ANSWERS
    try:
        channel.settimeout(patience)
        frames.send(channel, question)
        while len(outcomes) < len(cases):
            left = min(patience, deadline - time.monotonic())
            body = frames.receive_body(channel, left, LARGEST_ANSWER)
            room -= len(body)
            if room < 0:
                return outcomes + [LARGE] * (len(cases) - len(outcomes)), False
            outcomes.append(_outcome(frames.decode(body), nonce, len(outcomes)))
    except (frames.Silence, TimeoutError):
        return outcomes + [LATE] * (len(cases) - len(outcomes)), False
    except (frames.Closed, frames.BadFrame, OSError):
        return outcomes + [CRASHED] * (len(cases) - len(outcomes)), False
    return outcomes, True


def _outcome(reply: Any, nonce: str, index: int) -> Outcome:
    """One reply as an outcome.

    Raises:
        BadFrame: it is not the reply to this question, or not of the agreed form.
    """
    if not isinstance(reply, dict) or reply.get("nonce") != nonce or reply.get("index") != index:
        raise frames.BadFrame("a reply to another question")
    data = reply.get("outcome")
    if not isinstance(data, dict):
        raise frames.BadFrame("a reply without an outcome")
    texts = {name: data.get(name, "") for name in ("message", "trouble", "trace")}
    raised = data.get("raised", [])
    if not all(isinstance(text, str) for text in texts.values()) or not (
        isinstance(raised, list) and all(isinstance(name, str) for name in raised)
    ):
        raise frames.BadFrame("an outcome of another form")
    return Outcome(
        value=data.get("value"),
        raised=tuple(plain_text(name, 100) for name in raised[:20]),
        **{name: plain_text(text, LONGEST_TEXT) for name, text in texts.items()},
    )


def replay(outcomes: Sequence[Outcome]) -> Callable[[AnyCase], Outcome]:
    """A way to ask that gives outcomes gathered earlier, in their order."""
    remaining = iter(outcomes)
    return lambda _: next(remaining)
