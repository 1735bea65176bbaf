"""A process in which the heavy imports are done, and which forks a kernel or a runner on request.

It is process 1's child in a bubblewrap sandbox and never runs a tensor operation: a child forked after one
hangs as soon as it uses two threads. One child at a time; while it lives, its memory and its processes are
counted, and when it ends, everything it started is killed and looked for.

Requests come over a Unix socket as frames: start, poll, signal, end. The socket of the judge or grader is
deposited beforehand by the process that started this one: whoever asks for a start never holds it.
"""

import contextlib
import gc
import importlib
import os
import resource
import selectors
import signal
import socket
import sys
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from autograder.grading.inside import frames, namespaces

PAGE = resource.getpagesize()
WATCH_EVERY = 0.05
EXACT_EVERY = 0.25
# Bytes by which a process must be larger than the kernel to be ended in its place.
GROWN = 16 << 20
START_SECONDS = 30.0
# Where the folder of the sockets is seen in a sandbox, and nowhere else.
SANDBOX_WIRE = "/wire"


@dataclass
class _Child:
    """The kernel or runner of the moment: `outer` waits for `inner`, which is process 1 of its namespace."""

    outer: int
    inner: int
    memory: int
    processes: int
    own: int
    peak: int = 0
    exact: int = 0
    measured: float = 0.0
    killed_for: str = ""
    stopped: int = 0
    status: int | None = None


@dataclass
class _Ended:
    """What the latest child used; whoever asks last still learns it."""

    killed_for: str = ""
    peak: int = 0


class Warm:
    """The loop of one warm process."""

    def __init__(self, kind: str, wire: Path, deposits: socket.socket) -> None:
        self.kind, self.wire, self.deposits = kind, wire, deposits
        self.isolated = str(wire) == SANDBOX_WIRE
        if not self.isolated:
            namespaces.adopt_orphans()
        self.deposited: socket.socket | None = None
        self.child: _Child | None = None
        self.last = _Ended()
        self.others = set(self._processes())
        self.selector = selectors.DefaultSelector()
        self.door = socket.socket(socket.AF_UNIX)
        self.door.bind(str(wire / f"{kind}.sock"))
        self.door.listen(8)
        self.selector.register(self.door, selectors.EVENT_READ)
        self.selector.register(deposits, selectors.EVENT_READ)

    def serve(self) -> None:
        """Answer until the process that started this one is gone."""
        while True:
            for key, _ in self.selector.select(WATCH_EVERY if self._alive() else None):
                if key.fileobj is self.deposits:
                    if not self._take_deposit():
                        self._finish()
                        return
                elif key.fileobj is self.door:
                    connection, _ = self.door.accept()
                    with connection:
                        self._answer(connection)
            self._watch()

    def _take_deposit(self) -> bool:
        data, descriptors, _, _ = socket.recv_fds(self.deposits, 16, 4)
        if not data:
            return False
        if self.deposited is not None:
            self.deposited.close()
        self.deposited = socket.socket(fileno=descriptors[0])
        self.deposits.sendall(b"+")
        return True

    def _answer(self, connection: socket.socket) -> None:
        try:
            request = frames.receive(connection, 5.0)
            frames.send(connection, getattr(self, f"_do_{request.pop('do')}")(**request))
        except (frames.BadFrame, frames.Silence, frames.Closed, OSError):
            return

    def _do_start(self, **request: Any) -> dict[str, Any]:
        self._finish()
        if self.deposited is None:
            return {"error": "no socket was deposited for this start"}
        self.last = _Ended()
        self.others = set(self._processes())
        reading, writing = os.pipe()
        outer = os.fork()
        if outer == 0:
            os.close(reading)
            self._become(request, writing)
        os.close(writing)
        self.deposited.close()
        self.deposited = None
        first = _read_line(reading, START_SECONDS)
        if not first.startswith("pid "):
            os.kill(outer, signal.SIGKILL)
            os.waitpid(outer, 0)
            return {"error": first or f"the {self.kind} did not start"}
        self.child = _Child(
            outer,
            int(first[4:]),
            request.get("memory", 1 << 60),
            request.get("processes", 64),
            _anonymous(os.getpid()),
        )
        ready = _read_line(reading, START_SECONDS)
        os.close(reading)
        if ready != "+":
            self._finish()
            return {"error": ready or f"the {self.kind} ended while it started"}
        return {"pid": self.child.inner}

    def _become(self, request: dict[str, Any], writing: int) -> None:
        """In the child: never returns."""
        try:
            namespaces.die_with_parent()
            for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
                signal.signal(signum, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self.selector.close()
            self.door.close()
            self.deposits.close()
            assert self.deposited is not None
            if self.isolated:
                namespaces.unshare(
                    namespaces.CLONE_NEWNS
                    | namespaces.CLONE_NEWPID
                    | namespaces.CLONE_NEWIPC
                    | namespaces.CLONE_NEWNET
                )
            child = importlib.import_module(f"autograder.grading.inside.{self.kind}")
            ours, theirs = socket.socketpair()
            inner = os.fork()
            if inner:
                theirs.close()
                os.write(writing, f"pid {inner}\n".encode())
                self.deposited.close()
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                if ours.recv(1):
                    if self.isolated and self.kind == "kernel":
                        # The kernel has given up the right to do this before its first thread started.
                        namespaces.make_read_only(child.WIRE)
                    os.write(writing, b"+")
                os.close(writing)
                ours.close()
                _, status = os.waitpid(inner, 0)
                os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
            ours.close()
            child.become(self.deposited, self.wire, request, theirs, writing, isolated=self.isolated)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            with contextlib.suppress(OSError):
                os.write(writing, (traceback.format_exc().strip().splitlines()[-1] + "\n").encode())
            os._exit(70)

    def _do_poll(self) -> dict[str, Any]:
        self._watch()
        child = self.child
        if child is None:
            return {"alive": False, "status": None, **asdict(self.last), "stopped": 0}
        return {
            "alive": child.status is None,
            "status": child.status,
            "killed_for": child.killed_for,
            "peak": child.peak,
            "stopped": child.stopped,
        }

    def _do_lingering(self, held: int) -> dict[str, Any]:
        """Processes beside the kernel and so many forks of it, after a moment in which honest ones end."""
        count = 0
        for _ in range(10):
            mine = self._mine(self.child) if self.child is not None and self._alive() else []
            count = len([p for p in mine if not _is_zombie(p)]) - 1 - held
            if count <= 0:
                return {"left_behind": 0}
            time.sleep(0.02)
        return {"left_behind": count}

    def _do_signal(self, number: int) -> dict[str, Any]:
        if self._alive():
            assert self.child is not None
            os.kill(self.child.inner, number)
        return {}

    def _do_end(self) -> dict[str, Any]:
        """Kill what runs; says what it used and what it was killed for."""
        self._watch()
        if self.child is not None:
            self.last = _Ended(self.child.killed_for, self.child.peak)
        self._finish()
        return asdict(self.last)

    def _alive(self) -> bool:
        return self.child is not None and self.child.status is None

    def _watch(self) -> None:
        """Count what the child uses, and end it when that is too much."""
        if not self._alive():
            return
        child = self.child
        assert child is not None
        pid, status = os.waitpid(child.outer, os.WNOHANG)
        if pid:
            child.status = os.waitstatus_to_exitcode(status)
            return
        mine = self._mine(child)
        if len(mine) > child.processes:
            child.killed_for = "processes"
            self._kill(child)
            return
        used = self._used(child, mine)
        child.peak = max(child.peak, used)
        if used > child.memory:
            kernel = _anonymous(child.inner)
            grown = [p for p in mine if p != child.inner and _anonymous(p) > kernel + GROWN]
            if not grown:
                child.killed_for = "memory"
                self._kill(child)
                return
            # Calls of a function, or what a cell started: the notebook itself can go on.
            child.stopped += 1
            child.measured = 0.0
            for pid in grown:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _mine(self, child: _Child) -> list[int]:
        return [p for p in self._processes() if p not in self.others and p != child.outer]

    def _used(self, child: _Child, mine: list[int]) -> int:
        """Bytes that the processes take together, without what the warm imports took."""
        sizes = {p: _anonymous(p) for p in mine}
        kernel = max(child.own, sizes.get(child.inner, 0))
        # What the kernel's forks share with it is in the second figure once for each of them, and not in the
        # first, where what they have made their own since is missing.
        at_least = kernel - child.own + sum(max(0, size - kernel) for size in sizes.values())
        at_most = sum(max(0, size - child.own) for size in sizes.values())
        if at_most <= child.memory or at_least > child.memory:
            return at_least
        # The exact figure takes milliseconds for each process.
        now = time.monotonic()
        if now - child.measured > EXACT_EVERY:
            child.exact = max(0, sum(_proportional(p) for p in mine) - child.own)
            child.measured = now
        return child.exact

    def _processes(self) -> list[int]:
        """What can be seen in the sandbox; without one, what descends from this process."""
        if self.isolated:
            return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
        return [process.pid for process in psutil.Process().children(recursive=True)]

    def _kill(self, child: _Child) -> None:
        for pid in (child.inner, child.outer):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if child.status is None:
            _, status = os.waitpid(child.outer, 0)
            child.status = os.waitstatus_to_exitcode(status)

    def _finish(self) -> None:
        """End the child with everything it started, and make sure that nothing of it is left."""
        if self.child is None:
            return
        self._kill(self.child)
        deadline = time.monotonic() + 30
        while rest := [p for p in self._processes() if p not in self.others]:
            if time.monotonic() > deadline:
                # The next submission must not share a sandbox with what could not be killed.
                sys.exit(f"processes {rest} survived their kernel")
            for pid in rest:
                try:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, os.WNOHANG)
                except (ProcessLookupError, ChildProcessError):
                    continue
            time.sleep(0.002)
        self.child = None


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def _anonymous(pid: int) -> int:
    """Bytes of memory that belong to a process and to no file; pages shared since its fork count as well."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_text().split()
    except OSError:
        return 0
    return (int(fields[1]) - int(fields[2])) * PAGE if len(fields) > 2 else 0


def _proportional(pid: int) -> int:
    """Bytes of memory of a process, each shared page divided by the number of those that share it."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return _anonymous(pid)
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss_Anon:"))


def _read_line(descriptor: int, seconds: float) -> str:
    deadline = time.monotonic() + seconds
    line = b""
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while not line.endswith((b"\n", b"+")):
            if not selector.select(max(0.0, deadline - time.monotonic())):
                return ""
            part = os.read(descriptor, 1)
            if not part:
                return line.decode(errors="replace").strip()
            line += part
    return line.decode(errors="replace").strip()


def main(kind: str, wire: str, descriptor: str, *preload: str) -> None:
    """Import what children will need, say so, and serve.

    Args:
        kind: "kernel" or "runner".
        wire: folder of the sockets.
        descriptor: number of the inherited socket on which deposits arrive.
        preload: modules to import; one that is not installed is left out.
    """
    deposits = socket.socket(fileno=int(descriptor))
    for name in preload:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
        deposits.sendall(b".")
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    gc.collect()
    gc.freeze()
    warm = Warm(kind, Path(wire), deposits)
    deposits.sendall(b"+")
    warm.serve()


if __name__ == "__main__":
    # Under its own name, because children import this package again under that one.
    importlib.import_module("autograder.grading.inside.warm").main(*sys.argv[1:])
