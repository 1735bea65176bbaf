"""One call of a student's function, turned into plain data that can be compared and stored."""

from __future__ import annotations

import copy
import linecache
import math
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

_PACKAGE = __name__.rpartition(".")[0]


@dataclass(frozen=True)
class Outcome:
    """What a call did.

    Attributes:
        value: the returned value as plain JSON data; tuples have become lists.
        raised: class names of the exception from its own to `Exception`; empty when it returned.
        message: the exception's words.
        trouble: what else is wrong, as a code word and a sentence divided by ": "; empty when nothing is.
        trace: the student's own part of the traceback.
    """

    value: Any = None
    raised: tuple[str, ...] = ()
    message: str = ""
    trouble: str = ""
    trace: str = ""

    def to_json(self) -> dict[str, Any]:
        """The outcome without its traceback, as it is stored beside a case."""
        if self.trouble:
            return {"trouble": self.trouble, "value": self.value}
        if self.raised:
            return {"raised": list(self.raised), "message": self.message}
        return {"value": self.value}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Outcome:
        """Read what `to_json` wrote."""
        return cls(
            value=data.get("value"),
            raised=tuple(data.get("raised", ())),
            message=data.get("message", ""),
            trouble=data.get("trouble", ""),
        )


class NotPlain(Exception):
    """A returned value that is not plain data; the message says which part of it."""


class _OutOfTime(BaseException):
    """Not an Exception, so that `except Exception` in a student's loop does not swallow it."""


def call(
    function: Callable[..., Any], arguments: dict[str, Any], *, time_limit: float = 5.0, repeat: bool = True
) -> Outcome:
    """Call a function with copies of the arguments and describe what happened.

    Args:
        arguments: keyword arguments, plain data.
        time_limit: seconds; the call is stopped where the platform can (not on Windows, not off the main
            thread: there it is left behind).
        repeat: call it a second time and compare, to find results that depend on earlier calls.
    """
    first = _once(function, arguments, time_limit)
    if not repeat or first.trouble or first.raised:
        return first
    second = _once(function, arguments, time_limit)
    if (second.value, second.raised, second.trouble) != (first.value, first.raised, first.trouble):
        return Outcome(
            value=first.value,
            trouble="unstable: two calls with the same arguments gave two results; "
            "something is kept from one call to the next, or chosen at random",
        )
    return first


def plain(value: Any, where: str = "the result") -> Any:
    """The value as plain JSON data.

    Raises:
        NotPlain: it holds something else than None, truth values, numbers, texts, lists and dicts with text
            keys, or a number that is not finite.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise NotPlain(f"{where} is {value}, which is not a finite number")
        return float(value)
    if isinstance(value, list | tuple):
        return [plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise NotPlain(f"{where} has the key {key!r}, and keys are texts")
        return {str(key): plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    kind = type(value).__name__
    raise NotPlain(f"{where} is a {kind}; return plain lists, dicts, numbers and texts")


def _once(function: Callable[..., Any], arguments: dict[str, Any], time_limit: float) -> Outcome:
    given = copy.deepcopy(arguments)
    try:
        with _limited(time_limit) as run:
            returned = run(lambda: function(**given))
    except _OutOfTime:
        return Outcome(
            trouble=f"time: no result after {time_limit:g} seconds; is there a loop that does not end?"
        )
    except Exception as error:
        names = tuple(c.__name__ for c in type(error).__mro__ if issubclass(c, Exception))
        return Outcome(raised=names, message=str(error), trace=_students_part(error))
    changed = [name for name, value in arguments.items() if not _same(value, given[name])]
    try:
        value = plain(returned)
    except NotPlain as problem:
        return Outcome(trouble=f"type: {problem}")
    if changed:
        return Outcome(value, trouble=f"mutation: the function changed its argument {changed[0]!r}; copy it")
    return Outcome(value)


def _same(left: Any, right: Any) -> bool:
    try:
        return bool(left == right)
    except Exception:  # an argument that can no longer be compared has been changed
        return False


@contextmanager
def _limited(seconds: float) -> Iterator[Callable[[Callable[[], Any]], Any]]:
    """Gives a function that runs another one for at most so many seconds."""
    can_signal = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    if not can_signal:
        yield lambda work: _in_thread(work, seconds)
        return

    def stop(*_: Any) -> None:
        raise _OutOfTime

    before = signal.signal(signal.SIGALRM, stop)
    # again every tenth of a second, should a bare `except:` have caught the first one
    signal.setitimer(signal.ITIMER_REAL, seconds, 0.1)
    try:
        yield lambda work: work()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _in_thread(work: Callable[[], Any], seconds: float) -> Any:
    result: list[Any] = []
    errors: list[BaseException] = []

    def target() -> None:
        try:
            result.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise _OutOfTime
    if errors:
        raise errors[0]
    return result[0]


def _students_part(error: Exception) -> str:
    """The traceback from the student's first line on, with source lines."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "chatcontract" not in f.filename.replace("\\", "/").split("/")[-3:-1]]
    linecache.checkcache()
    lines = [
        f"  line {frame.lineno} in {frame.name}" + (f": {frame.line}" if frame.line else "")
        for frame in own
        if not frame.filename.endswith(("check/outcome.py", "check\\outcome.py"))
    ]
    return "\n".join([*lines[-5:], f"{type(error).__name__}: {error}"])
