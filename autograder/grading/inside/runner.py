"""Executes one submission with nbclient, in a process that is thrown away afterwards.

The side that talks to a student's kernel is the weak one: what the kernel sends is the student's choice. So
this process holds no case, no points, no gradebook and no secret, it lives in a sandbox of its own with no
rights in it, and what it sends on is read as untrusted data.
"""

import asyncio
import contextlib
import json
import math
import os
import queue
import socket
import time
from pathlib import Path
from typing import Any

import nbformat
import zmq
import zmq.asyncio
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError

from autograder.grading.inside import confinement, frames, namespaces, provisioner

LARGEST_MESSAGE = 8 * 1024 * 1024
CELL_OUTPUT, TOTAL_OUTPUT, CELL_MESSAGES = 200_000, 3_000_000, 500
MOST_KERNELS = 12
INTERRUPT_SECONDS = 2.0


class _Client(NotebookClient):  # type: ignore[misc]
    """nbclient with a bound on what a cell may print."""

    cell_bytes = 0
    cell_messages = 0
    total_bytes = 0
    cut_bytes = 0

    def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
        """Drop what goes over the bound, and count it."""
        kind, content = msg["msg_type"], msg["content"]
        if kind.startswith("comm_"):
            return None
        if kind in ("stream", "display_data", "update_display_data", "execute_result", "error"):
            size = len(json.dumps(content, default=str))
            self.cell_bytes += size
            self.cell_messages += 1
            over = self.cell_bytes > CELL_OUTPUT or self.cell_messages > CELL_MESSAGES
            if over or self.total_bytes + self.cell_bytes > TOTAL_OUTPUT:
                if not self.cut_bytes and kind == "stream":
                    room = max(0, CELL_OUTPUT - self.cell_bytes + size)
                    content["text"] = content["text"][: min(room, 20_000)]
                    self.cut_bytes += size - len(content["text"])
                    return super().process_message(msg, cell, cell_index)
                self.cut_bytes += size
                return None
        return super().process_message(msg, cell, cell_index)

    def begin_cell(self) -> None:
        """Count anew."""
        self.total_bytes += min(self.cell_bytes, CELL_OUTPUT)
        self.cell_bytes = self.cell_messages = self.cut_bytes = 0


class _Listening(AsyncKernelClient):  # type: ignore[misc]
    """A client that is ready as soon as the kernel's answers arrive on both channels.

    The stock one then waits until nothing has arrived for 0.2 s, for messages that nbclient passes over.
    """

    async def _async_wait_for_ready(self, timeout: float | None = None) -> None:
        deadline = time.monotonic() + (timeout or 60.0)
        while time.monotonic() < deadline:
            asked = self.kernel_info()
            with contextlib.suppress(queue.Empty):
                reply = await self.get_shell_msg(timeout=1)
                self._handle_kernel_info_reply(reply)
                while True:
                    message = await self.get_iopub_msg(timeout=0.2)
                    status = message["content"].get("execution_state")
                    if message["parent_header"].get("msg_id") == asked and status == "idle":
                        return
            if not await self.is_alive():
                break
        raise RuntimeError("The kernel did not answer.")

    wait_for_ready = _async_wait_for_ready


class _KernelLost(Exception):
    """The kernel is gone or no longer listens; a new one has to repeat what came before."""


class _Run:
    """One notebook: cells in order, a question to the grader wherever a graded cell stands."""

    def __init__(self, channel: socket.socket, task: dict[str, Any]) -> None:
        self.channel = channel
        self.notebook = nbformat.from_dict(task["notebook"])
        self.graded = set(task["graded"])
        self.cell_seconds = float(task["cell_seconds"])
        self.deadline = time.monotonic() + float(task["total_seconds"])
        self.limits = task["limits"]
        self.left_out: set[int] = set()
        self.stopped: dict[int, str] = {}
        self.ran = 0
        self.done: set[int] = set()
        self.seconds: dict[int, float] = {}
        self.flags: list[str] = []
        self.leaves = False

    async def run(self) -> None:
        for _ in range(MOST_KERNELS):
            try:
                await self._with_kernel()
                break
            except _KernelLost:
                continue
        else:
            self.flags.append(f"{MOST_KERNELS} kernels were lost; the rest was not run")

    async def _with_kernel(self) -> None:
        self._tell({"event": "kernel"})
        manager = AsyncKernelManager(kernel_name=provisioner.NAME)
        manager._kernel_spec = provisioner.KERNEL_SPEC
        manager.client_factory = _Listening
        client = _Client(
            self.notebook,
            km=manager,
            timeout=None,
            allow_errors=True,
            store_widget_state=False,
            coalesce_streams=True,
            record_timing=False,
        )
        client.reset_execution_trackers()
        client.on_cell_executed = self._executed
        provisioner.WarmProvisioner.limits = self.limits
        await client.async_start_new_kernel()
        if not isinstance(manager.provisioner, provisioner.WarmProvisioner):
            raise SystemExit(
                f"the kernel came from {type(manager.provisioner).__name__}, not from the grader"
            )
        try:
            await client.async_start_new_kernel_client()
            for index, cell in enumerate(self.notebook.cells):
                await self._cell(client, manager, index, cell)
        except _KernelLost:
            await manager.provisioner.kill()
            raise
        finally:
            if client.kc is not None:
                client.kc.stop_channels()

    def _executed(self, execute_reply: dict[str, Any], **_: Any) -> None:
        """Note whether the cell asked its kernel to end, which it does a moment after the cell."""
        payload = execute_reply["content"].get("payload") or []
        self.leaves = any(part.get("source") == "ask_exit" for part in payload)

    async def _cell(self, client: _Client, manager: Any, index: int, cell: Any) -> None:
        if cell.cell_type != "code" or not cell.source.strip() or index in self.left_out:
            return
        if time.monotonic() > self.deadline:
            if "time" not in self.flags:
                self.flags.append("time")
            return
        if index in self.graded:
            stopped = {str(i): why for i, why in self.stopped.items()}
            self._tell({"event": "ask", "cell": index, "ran": self.ran, "stopped": stopped})
            if await manager.provisioner.poll() is not None:
                self._flag_death(manager.provisioner.killed_for)
                raise _KernelLost
            return
        self.ran += 1
        repeated = index in self.done
        target = nbformat.from_dict(dict(cell)) if repeated else cell
        client.begin_cell()
        self.leaves = False
        began = time.monotonic()
        client.timeout = math.ceil(min(self.cell_seconds, max(1.0, self.deadline - began)))
        try:
            await client.async_execute_cell(target, index)
        except CellTimeoutError:
            self.stopped[index] = "time"
            self._note(target, f"Stopped: this cell took too long, more than {client.timeout:g} seconds.")
            if not await self._interrupted(client, manager):
                self.left_out.add(index)
                raise _KernelLost from None
        except DeadKernelError:
            await manager.provisioner.poll()
            self.left_out.add(index)
            self.stopped[index] = manager.provisioner.killed_for or "crash"
            self._note(target, _DEATHS.get(manager.provisioner.killed_for, "This cell crashed Python."))
            self._flag_death(manager.provisioner.killed_for)
            raise _KernelLost from None
        except Exception as error:
            self.left_out.add(index)
            self.stopped[index] = "crash"
            self.flags.append(f"cell {index + 1} disturbed its kernel's messages ({type(error).__name__})")
            self._note(target, "This cell disturbed the messages of its kernel.")
            raise _KernelLost from None
        finally:
            if not repeated:
                self.seconds[index] = time.monotonic() - began
                self.done.add(index)
        if self.leaves:
            self.left_out.add(index)
            self.stopped[index] = "crash"
            self._note(target, "This cell ended Python.")
            raise _KernelLost
        for item in target.get("outputs", []):
            if item.output_type == "error" and item.ename == "SystemExit":
                self.stopped[index] = "crash"
            elif item.output_type == "error" and _is_out_of_memory(item):
                # What filled the memory is still there, and would take it from the next answers.
                self.stopped[index] = "memory"
                self.left_out.add(index)
                self._flag_death("memory")
                raise _KernelLost
        if client.cut_bytes:
            self._note(target, f"({client.cut_bytes} further bytes of output were cut.)")
            self.flags.append(f"cell {index + 1}: {client.cut_bytes} bytes of output cut")

    async def _interrupted(self, client: _Client, manager: Any) -> bool:
        """Interrupt the kernel; whether it listens again soon."""
        await manager.interrupt_kernel()
        deadline = time.monotonic() + INTERRUPT_SECONDS
        message = client.kc.kernel_info()
        while time.monotonic() < deadline:
            try:
                reply = await client.kc.get_shell_msg(timeout=deadline - time.monotonic())
            except Exception:  # an empty queue, or a message that cannot be read: both mean no
                return False
            if reply["parent_header"].get("msg_id") == message:
                return True
        return False

    def _flag_death(self, killed_for: str) -> None:
        if killed_for:
            self.flags.append(killed_for)

    def _note(self, cell: Any, text: str) -> None:
        cell.outputs = [
            *cell.get("outputs", []),
            nbformat.v4.new_output("stream", name="stdout", text=f"\n[grader] {text}\n"),
        ]

    def _tell(self, event: dict[str, Any]) -> None:
        """Send an event and wait until the grader says go on."""
        frames.send(self.channel, event)
        frames.receive(self.channel, 3600.0)


def _is_out_of_memory(error: Any) -> bool:
    return error.ename == "MemoryError" or "allocate memory" in str(error.evalue)


_DEATHS = {
    "memory": "This cell used too much memory.",
    "processes": "This cell started too many processes.",
}


def become(
    channel: socket.socket,
    wire: Path,
    request: dict[str, Any],
    bound: socket.socket,
    ready: int,
    *,
    isolated: bool,
) -> None:
    """Run what arrives on the channel, and send back what came out.

    Args:
        channel: where the grader sends the task, and answers at each graded cell.
        wire: folder of the sockets.
        request: "job" (the folder of the kernel's sockets in it), and the limits "memory" and "disk".
        bound: a byte is sent here once nothing is left that could be misused.
        ready: closed before anything arrives; what went wrong before can be written to it.
        isolated: whether there are namespaces.
    """
    namespaces.die_with_parent()
    if isolated:
        confinement.own_file_systems(request["disk"])
        namespaces.make_read_only(str(wire))
    confinement.give_up_rights(memory=request["memory"], file=request["disk"], isolated=isolated)
    with bound:
        bound.sendall(b"+")
    os.close(ready)
    os.environ |= {
        provisioner.WIRE: str(wire),
        provisioner.JOB: request["job"],
        "JUPYTER_RUNTIME_DIR": "/tmp",
    }
    provisioner.register()
    task = frames.receive(channel, 60.0)
    # Sockets of this context refuse a message that is longer, before it is read into memory.
    zmq.asyncio.Context.instance().setsockopt(zmq.MAXMSGSIZE, LARGEST_MESSAGE)
    run = _Run(channel, task)
    asyncio.run(run.run())
    outputs = {
        str(index): cell.outputs for index, cell in enumerate(run.notebook.cells) if cell.get("outputs")
    }
    seconds = {str(index): round(value, 4) for index, value in run.seconds.items()}
    frames.send(channel, {"event": "done", "outputs": outputs, "seconds": seconds, "flags": run.flags[:50]})
