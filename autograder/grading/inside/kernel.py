"""What a forked child of the warm process becomes: one Jupyter kernel in namespaces of its own."""

import os
import random
import resource
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

from autograder.grading.inside import answers, namespaces

# Where the kernel sees its own sockets, and where it works. Both exist, empty, in the sandbox's root.
WIRE = "/run/kernel"
HOME = "/home/student"
SEED = 20260101


def become_kernel(
    job: Path,
    wire: Path,
    judge: socket.socket,
    request: dict[str, Any],
    bound: socket.socket,
    ready: int,
    *,
    isolated: bool,
) -> None:
    """Enter the namespaces and run the kernel; returns when it ended.

    Args:
        job: folder with `files/`, what the student's folder holds, and room for the kernel's sockets.
        wire: folder above it, hidden from the kernel.
        judge: where the grader asks for forks that answer questions.
        request: "connection" (ports and key of a connection file), "folder", "memory" and "cpu" limits.
        bound: a byte is sent here once the kernel listens; when the other side has made the folder of its
            sockets read-only, it closes.
        ready: closed before student code runs; what went wrong before can be written to it.
        isolated: whether there are namespaces; without them the kernel works in the job's folder.
    """
    namespaces.die_with_parent()
    home = Path(HOME) if isolated else job / "home"
    folder = home / request["folder"]
    if isolated:
        _own_file_systems(request["disk"])
    shutil.copytree(job / "files", folder)
    if isolated:
        namespaces.bind(str(job), WIRE)
        namespaces.scratch(str(wire), 4096, read_only=True)
        namespaces.bound_processes()
        namespaces.make_read_only("/proc")
        namespaces.make_devices_read_only()
    used = resource.getrusage(resource.RUSAGE_SELF)
    namespaces.limit(
        data=_data_in_use() + request["memory"],
        file=request["disk"],
        cpu=int(used.ru_utime + used.ru_stime) + request["cpu"],
    )
    # Capabilities and filters belong to a thread and to what it starts: before the kernel's threads.
    namespaces.drop_capabilities()
    namespaces.refuse_system_calls()
    # The warm process's standard error is a file, which the next submission could open again.
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.close(nothing)
    os.chdir(folder)
    os.environ |= {"HOME": str(home), "TMPDIR": "/tmp" if isolated else str(home), "PWD": str(folder)}
    app = _application(request["connection"], Path(WIRE) if isolated else job, folder.parent)
    shell = app.kernel.shell
    answers.start(judge, lambda: shell.user_ns)
    _seeds()
    with bound:
        bound.sendall(b"+")
        bound.recv(1)
    os.close(ready)
    app.start()


def _own_file_systems(size: int) -> None:
    namespaces.own_mounts()
    namespaces.own_proc()
    namespaces.loopback_up()
    for path in ("/tmp", "/dev/shm", HOME):
        namespaces.scratch(path, size)


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


def _seeds() -> None:
    random.seed(SEED)
    for name in ("numpy", "torch"):
        module = sys.modules.get(name)
        if module is None:
            continue
        if name == "numpy":
            module.random.seed(SEED)
        else:
            module.manual_seed(SEED)


def _data_in_use() -> int:
    """Bytes that RLIMIT_DATA counts for this process so far: what the warm imports took."""
    return int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
