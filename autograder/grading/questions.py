"""Asks a student's kernel what its functions do; the asking side alone knows what is right."""

import secrets
import socket
from collections.abc import Callable, Sequence
from typing import Any

from autograder.grading.inside import frames
from chatcontract.check.diagnosis import AnyCase
from chatcontract.check.outcome import Outcome

LARGEST_ANSWER = 4 * 1024 * 1024 + 64
# After so many calls without an end the rest of an exercise is not asked.
MOST_STUCK = 2
CRASHED = "crash: the call ended Python itself"
MEMORY = "memory: the call used too much memory"


class KernelGone(ConnectionError):
    """The kernel ended during a question; the outcomes so far count, the rest are crashes."""

    def __init__(self, outcomes: list[Outcome]) -> None:
        super().__init__("the kernel ended during a question")
        self.outcomes = outcomes


def ask(channel: socket.socket, function: str, cases: Sequence[AnyCase], seconds: float) -> list[Outcome]:
    """The outcome of every case, in order.

    Args:
        channel: to the answering thread of the kernel.
        function: name of the student's function.
        cases: whose arguments are sent; nothing else of them leaves this process.
        seconds: that one call may take.

    Raises:
        KernelGone: the channel ended before the last answer.
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
    patience = 2 * seconds + 15
    try:
        channel.settimeout(patience)
        frames.send(channel, question)
        stuck = 0
        while len(outcomes) < len(cases):
            outcomes.append(_outcome(frames.receive(channel, patience, LARGEST_ANSWER), nonce, len(outcomes)))
            stuck += outcomes[-1].trouble.startswith("time")
            if stuck >= MOST_STUCK and len(outcomes) < len(cases):
                raise frames.Silence
    except (frames.Closed, frames.BadFrame, OSError) as error:
        if isinstance(error, frames.Silence):
            left = Outcome(trouble="time: not run, because earlier cases did not end")
            outcomes += [left] * (len(cases) - len(outcomes))
            raise StuckKernel(outcomes) from None
        raise KernelGone(outcomes) from None
    return outcomes


class StuckKernel(KernelGone):
    """The kernel still works on a question that is given up: it has to be replaced."""


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
    return Outcome(value=data.get("value"), raised=tuple(raised), **texts)


def replay(outcomes: Sequence[Outcome]) -> Callable[[AnyCase], Outcome]:
    """A way to ask that gives outcomes gathered earlier, in their order."""
    remaining = iter(outcomes)
    return lambda _: next(remaining)
