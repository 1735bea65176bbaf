"""Answers questions about a student's functions: a process forked where a question belongs.

At each graded cell the grader asks the kernel for a fork of itself, which keeps the notebook as it is there.
Such a fork answers questions on a channel of its own, and forks once more for the calls, so that a call can
neither end it nor change it. What a question holds never has to reach the kernel while cells still run.

A question names a function and gives arguments. What comes back is what the call did, as plain data. There is
nothing here worth stealing: the asking side holds the expected outcomes and the points.
"""

import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from autograder.grading.inside.frames import BadFrame, Closed, decode, encode, receive
from chatcontract.check.outcome import Outcome, call

LARGEST_ANSWER = 4 * 1024 * 1024
# A crash costs a new fork, and one for memory seconds; a function that crashes again and again has answered.
MOST_CRASHES = 3
HELD = b"+"


def start(channel: socket.socket, namespace: Callable[[], dict[str, Any]]) -> None:
    """Make forks for the grader from a thread of its own, for as long as this process lives.

    Args:
        channel: where the grader sends one byte and the channel of a new fork, which says `HELD` on it.
        namespace: gives the names that the notebook has defined.
    """
    threading.Thread(target=_hold, args=(channel, namespace), daemon=True).start()


def _hold(channel: socket.socket, namespace: Callable[[], dict[str, Any]]) -> None:
    # Closed however this ends, so that the grader does not wait for a fork that will not be made.
    with channel:
        while True:
            data, descriptors, _, _ = socket.recv_fds(channel, 1, 1)
            if not data or not descriptors:
                return
            with socket.socket(fileno=descriptors[0]) as questions:
                if os.fork() == 0:
                    try:
                        os.setpgid(0, 0)
                        channel.close()
                        questions.sendall(HELD)
                        _serve(questions, namespace)
                    finally:
                        os._exit(0)


def _serve(channel: socket.socket, namespace: Callable[[], dict[str, Any]]) -> None:
    while True:
        try:
            question = receive(channel, 1e6)
            for reply in _replies(question, namespace):
                channel.sendall(reply)
        except (Closed, OSError, BadFrame):
            return


def _replies(question: dict[str, Any], namespace: Callable[[], dict[str, Any]]) -> Iterator[bytes]:
    """One frame a case, in order."""
    cases, nonce, limit = question["cases"], question["nonce"], question["seconds"]
    position, crashes, stuck, began = 0, 0, False, time.monotonic()
    while position < len(cases):
        if stuck:
            # As in a student's own check: ten cases would be ten times the wait.
            yield _trouble(nonce, position, "time: not run, because an earlier case did not end")
            position += 1
            continue
        if crashes >= MOST_CRASHES and time.monotonic() - began > limit:
            yield _trouble(nonce, position, "crash: not run, because earlier cases ended Python itself")
            position += 1
            continue
        pid, pipe = _fork(question, position, namespace)
        try:
            while position < len(cases) and not stuck:
                frame = _read_frame(pipe, limit)
                if isinstance(frame, str):
                    stuck = frame.startswith("time")
                    crashes += not stuck
                    yield _trouble(nonce, position, frame)
                    position += 1
                    break
                stuck = decode(frame[4:])["outcome"].get("trouble", "").startswith("time")
                yield frame
                position += 1
        finally:
            os.close(pipe)
            _end(pid)


def _trouble(nonce: str, index: int, words: str) -> bytes:
    return encode({"nonce": nonce, "index": index, "outcome": {"trouble": words, "value": None}})


def _fork(
    question: dict[str, Any], position: int, namespace: Callable[[], dict[str, Any]]
) -> tuple[int, int]:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    try:
        os.close(reading)
        os.setpgid(0, 0)
        _answer(question, position, namespace(), writing)
    finally:
        os._exit(0)


def _answer(question: dict[str, Any], position: int, names: dict[str, Any], writing: int) -> None:
    """In the child: call the function for the rest of the cases."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    # The kernel's own streams would talk to threads that a forked child does not have.
    sys.stdout = sys.stderr = os.fdopen(1, "w", encoding="utf-8", errors="replace")
    function = names.get(question["function"])
    for index in range(position, len(question["cases"])):
        if callable(function):
            outcome = call(function, question["cases"][index], time_limit=question["seconds"])
        else:
            outcome = Outcome(trouble=f"missing: there is no function {question['function']}")
        data = outcome.to_json() | {"trace": outcome.trace[-2000:]}
        data["message"] = outcome.message[:2000]
        frame = encode({"nonce": question["nonce"], "index": index, "outcome": data})
        if len(frame) > LARGEST_ANSWER:
            frame = _trouble(question["nonce"], index, "type: the result is larger than 4 MB")
        while frame:
            frame = frame[os.write(writing, frame) :]


def _read_frame(pipe: int, limit: float) -> bytes | str:
    """One frame from the child, or the trouble that it got into."""
    # The child stops itself after `limit` seconds, twice; this is for one that does not let itself stop.
    deadline = time.monotonic() + 2 * limit + 1
    frame = bytearray()
    wanted = 4
    while len(frame) < wanted:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([pipe], [], [], left)[0]:
            return f"time: no result after {limit:g} seconds; is there a loop that does not end?"
        part = os.read(pipe, min(wanted - len(frame), 1 << 16))
        if not part:
            return "crash: the call ended Python itself"
        frame += part
        if len(frame) == 4 and wanted == 4:
            length = int.from_bytes(frame, "big")
            if length > LARGEST_ANSWER:
                return "crash: the call disturbed the channel of its answers"
            wanted += length
    try:
        decode(bytes(frame[4:]))["outcome"].get("trouble", "").startswith("time")
    except (BadFrame, LookupError, TypeError, AttributeError):
        return "crash: the call disturbed the channel of its answers"
    return bytes(frame)


def _end(pid: int) -> None:
    for kill in (lambda: os.killpg(pid, signal.SIGKILL), lambda: os.kill(pid, signal.SIGKILL)):
        try:
            kill()
        except ProcessLookupError:
            continue
    os.waitpid(pid, 0)
