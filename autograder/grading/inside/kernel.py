"""What a forked child of the warm process becomes: one Jupyter kernel in namespaces of its own."""

import os
import random
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

from autograder.grading.inside import answers, confinement, namespaces

# Where the kernel sees its own sockets; exists, empty, in the sandbox's root.
WIRE = "/run/kernel"
SEED = 20260101
# What waits in a socket is memory of no process: 0.2 MB in each.
OPEN_FILES = 256


def become(
    judge: socket.socket,
    wire: Path,
    request: dict[str, Any],
    bound: socket.socket,
    ready: int,
    *,
    isolated: bool,
) -> None:
    """Enter the namespaces and run the kernel; returns when it ended.

    Args:
        judge: where the grader asks for forks that answer questions.
        wire: folder of the sockets, hidden from the kernel.
        request: "job" (a folder in it with `files/`, what the student's folder holds, and room for the
            kernel's sockets), "connection" (ports and key of a connection file), "folder", and the limits
            "memory", "disk" and "cpu".
        bound: a byte is sent here once the kernel listens; when the other side has made the folder of its
            sockets read-only, it closes.
        ready: closed before student code runs; what went wrong before can be written to it.
        isolated: whether there are namespaces; without them the kernel works in the job's folder.
    """
    namespaces.die_with_parent()
    job = wire / request["job"]
    home = Path(confinement.HOME) if isolated else job / "home"
    folder = home / request["folder"]
    if isolated:
        namespaces.loopback_up()
        confinement.own_file_systems(request["disk"])
    shutil.copytree(job / "files", folder)
    if isolated:
        namespaces.bind(str(job), WIRE)
        namespaces.scratch(str(wire), 4096, read_only=True)
    # Capabilities and filters belong to a thread and to what it starts: before the kernel's threads.
    confinement.give_up_rights(
        memory=request["memory"],
        file=request["disk"],
        files=OPEN_FILES,
        cpu=request["cpu"],
        isolated=isolated,
    )
    os.chdir(folder)
    os.environ |= {"HOME": str(home), "TMPDIR": "/tmp" if isolated else str(home), "PWD": str(folder)}
    app = _application(request["connection"], Path(WIRE) if isolated else job, folder.parent)
    shell = app.kernel.shell
    answers.start(judge, lambda: shell.user_ns)
    shell.events.register("pre_execute", _Seeds(shell))
    with bound:
        bound.sendall(b"+")
        bound.recv(1)
    os.close(ready)
    app.start()


def _application(connection: dict[str, Any], wire: Path, home: Path) -> Any:
    from ipykernel.kernelapp import IPKernelApp

    app = IPKernelApp.instance(
        transport="ipc",
        ip=str(wire / "k"),
        shell_port=connection["shell_port"],
        iopub_port=connection["iopub_port"],
        stdin_port=connection["stdin_port"],
        control_port=connection["control_port"],
        hb_port=connection["hb_port"],
        connection_file=str(home / "kernel.json"),
    )
    app.session.key = connection["key"].encode()
    app.config.HistoryManager.enabled = False
    app.initialize([])
    return app


class _Seeds:
    """Sets the seeds before the first cell, and steps aside.

    Not earlier: each time a client asks IPython 9 who it is, it draws a tip for its banner, and a client that
    waits for a slow machine asks more often.
    """

    def __init__(self, shell: Any) -> None:
        self._shell = shell

    def __call__(self) -> None:
        self._shell.events.unregister("pre_execute", self)
        random.seed(SEED)
        if numpy := sys.modules.get("numpy"):
            numpy.random.seed(SEED)
        if torch := sys.modules.get("torch"):
            torch.manual_seed(SEED)
