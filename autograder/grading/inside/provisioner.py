"""A Jupyter kernel provisioner that asks the warm process for a fork instead of starting Python anew.

nbclient and everything else on jupyter_client run on it unchanged. The kernel spec below chooses it, because
jupyter_client ignores the trait default_provisioner_name. It is registered in the process that uses it and
not as an entry point, which an installation without this package could not load.
"""

import asyncio
import os
import socket
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.provisioning import KernelProvisionerBase, KernelProvisionerFactory

from autograder.grading.inside import frames

NAME = "chatcontract-warm"
# The folder of the sockets, and the name of the job in it.
WIRE, JOB = "CHATCONTRACT_WIRE", "CHATCONTRACT_JOB"


# Names no program to run: a kernel on this spec comes from the warm process or not at all.
KERNEL_SPEC = KernelSpec(
    argv=[],
    display_name="Python 3 (course)",
    language="python",
    metadata={"kernel_provisioner": {"provisioner_name": NAME}},
)


def register() -> None:
    """Let this process's jupyter_client find the provisioner by its name."""
    known = KernelProvisionerFactory.instance().provisioners
    place = f"{__name__}:{WarmProvisioner.__name__}"
    known[NAME] = EntryPoint(NAME, place, KernelProvisionerFactory.GROUP_NAME)


class WarmProcessError(RuntimeError):
    """The warm process gave no kernel; the message says why."""


def ask_warm(wire: Path, kind: str, seconds: float = 60.0, **request: Any) -> dict[str, Any]:
    """One request to the warm process of this kind, and its answer.

    Raises:
        WarmProcessError: it is gone, or it says that something went wrong.
    """
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(seconds)
            connection.connect(str(wire / f"{kind}.sock"))
            frames.send(connection, request)
            answer: dict[str, Any] = frames.receive(connection, seconds)
    except (OSError, frames.Closed) as error:
        raise WarmProcessError(
            f"the warm {kind} process does not answer ({error or type(error).__name__})"
        ) from error
    if "error" in answer:
        raise WarmProcessError(answer["error"])
    return answer


class WarmProvisioner(KernelProvisionerBase):  # type: ignore[misc]
    """One kernel forked from the warm process; its sockets are files in the job's folder."""

    limits: ClassVar[dict[str, Any]] = {}
    running = False
    status: int | None = None
    killed_for = ""
    generation: ClassVar[int] = 0

    @property
    def has_process(self) -> bool:
        """Whether a kernel was started and not cleaned up."""
        return self.running

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """Choose the kernel's sockets; there is no command to run."""
        manager: Any = self.parent
        WarmProvisioner.generation += 1
        manager.transport = "ipc"
        manager.ip = str(Path(os.environ[WIRE]) / os.environ[JOB] / "k")
        # A new kernel never meets the sockets of one that crashed.
        first = 10 * WarmProvisioner.generation
        for offset, name in enumerate(("shell", "iopub", "stdin", "hb", "control"), 1):
            setattr(manager, f"{name}_port", first + offset)
        return await super().pre_launch(cmd=["warm"], **kwargs)

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Ask for the fork and wait until the kernel listens."""
        manager: Any = self.parent
        info = manager.get_connection_info()
        connection = {name: info[name] for name in info if name.endswith("_port")}
        connection["key"] = manager.session.key.decode()
        await asyncio.to_thread(
            ask_warm,
            Path(os.environ[WIRE]),
            "kernel",
            do="start",
            job=os.environ[JOB],
            connection=connection,
            **self.limits,
        )
        self.running = True
        self.connection_info = info
        return self.connection_info

    async def _ask(self, **request: Any) -> dict[str, Any]:
        return await asyncio.to_thread(ask_warm, Path(os.environ[WIRE]), "kernel", **request)

    async def poll(self) -> int | None:
        """None while the kernel lives, else how it ended."""
        if not self.running:
            return 0
        answer = await self._ask(do="poll")
        if answer["alive"]:
            return None
        self.status, self.killed_for = answer["status"], answer["killed_for"]
        return self.status if self.status is not None else 0

    async def wait(self) -> int | None:
        """Wait for its end."""
        while await self.poll() is None:
            await asyncio.sleep(0.05)
        return self.status

    async def send_signal(self, signum: int) -> None:
        """Send a signal to the kernel."""
        await self._ask(do="signal", number=int(signum))

    async def kill(self, restart: bool = False) -> None:
        """End the kernel and everything it started."""
        await self._ask(do="end")
        self.running = False

    async def terminate(self, restart: bool = False) -> None:
        """End the kernel; there is nothing in it that would want to be asked."""
        await self.kill(restart)

    async def cleanup(self, restart: bool = False) -> None:
        """Nothing is left to clean: the job's folder goes with the job."""
        self.running = False
