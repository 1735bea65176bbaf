"""The warm processes of one worker: one that forks kernels, one that forks runners."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from autograder.grading import sandbox
from autograder.grading.inside.provisioner import ask_warm
from chatcontract.models import cache_root

# What notebooks of the course import, directly or through chatcontract.
KERNEL_IMPORTS = (
    "IPython.core.completer",
    "ipykernel.kernelapp",
    "ipykernel.ipkernel",
    "matplotlib.pyplot",
    "matplotlib_inline.backend_inline",
    "ipywidgets",
    "numpy",
    "torch",
    "datasets",
    "transformers",
    "transformers.models.llama.modeling_llama",
    "transformers.models.auto.modeling_auto",
    "transformers.generation.utils",
    "tokenizers",
    "safetensors.torch",
    "bitsandbytes",
    "peft",
    "trl",
    "trl.trainer.sft_trainer",
    "rapidfuzz.fuzz",
    "datasketch",
    "jinja2.sandbox",
    "pydantic",
    "rich",
    "chatcontract.check",
    "chatcontract.families",
    "chatcontract.viewers",
    "autograder.grading.inside.kernel",
)
RUNNER_IMPORTS = (
    "nbclient",
    "nbformat.v4",
    "zmq.asyncio",
    "jupyter_client.manager",
    "autograder.grading.inside.runner",
)
_START_SECONDS = 300


class WorkshopError(RuntimeError):
    """A warm process did not start, or ended; the message holds its last words."""


class Workshop:
    """Starts both processes, hands out kernels and runners, and ends everything on `close`.

    Any thread may close it; what another one waits for then raises.

    Raises:
        WorkshopError: a program could not be started.
    """

    def __init__(self, *, isolated: bool = True) -> None:
        self.isolated = isolated
        self.wire = Path(tempfile.mkdtemp(prefix="cc-", dir=_scratch()))
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._deposits: dict[str, socket.socket] = {}
        self._logs: dict[str, Path] = {}
        self._starting = {"kernel", "runner"}
        try:
            self._launch("kernel", KERNEL_IMPORTS)
            self._launch("runner", RUNNER_IMPORTS)
        except OSError as error:
            self.close()
            raise WorkshopError(f"a warm process could not be started: {error}") from error

    def _launch(self, kind: str, imports: tuple[str, ...]) -> None:
        ours, theirs = socket.socketpair()
        self._deposits[kind] = ours
        wire = sandbox.WIRE if self.isolated else str(self.wire)
        program = ["-m", "autograder.grading.inside.warm", kind, wire, str(theirs.fileno()), *imports]
        environment = None
        if self.isolated:
            words = sandbox.command(self.wire, program, models=cache_root())
        else:
            words, environment = sandbox.command_without(program, self.wire)
        self._logs[kind] = self.wire.with_name(f"{self.wire.name}.{kind}.log")
        with theirs, self._logs[kind].open("wb") as log:
            self._processes[kind] = subprocess.Popen(
                words,
                env=environment,
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                # Ctrl-C is for the grader, which ends these processes itself.
                start_new_session=True,
            )

    def wait(self) -> None:
        """Wait until both processes have imported what their children need.

        Raises:
            WorkshopError: one of them ended, or took too long.
        """
        for kind in sorted(self._starting):
            self._wait_for(kind)

    def _wait_for(self, kind: str) -> None:
        deposits = self._deposits[kind]
        while kind in self._starting:
            try:
                deposits.settimeout(_START_SECONDS)
                said = deposits.recv(64)
                last = "" if said else self._last_words(kind)
            except TimeoutError:
                raise WorkshopError(
                    f"the warm {kind} process said nothing for {_START_SECONDS} seconds while it started"
                ) from None
            except OSError as error:
                raise WorkshopError(f"the warm {kind} process was ended while it started") from error
            if not said:
                raise WorkshopError(f"the warm {kind} process ended while it started: {last}")
            if said.endswith(b"+"):
                self._starting.discard(kind)

    def _last_words(self, kind: str) -> str:
        return " ".join(self._logs[kind].read_text(errors="replace").strip().splitlines()[-1:])

    def alive(self) -> bool:
        """Whether both warm processes still run."""
        return all(process.poll() is None for process in self._processes.values())

    def deposit(self, kind: str) -> socket.socket:
        """A channel to the next child of this kind; the other end waits in the warm process.

        Raises:
            WorkshopError: the warm process is gone.
        """
        self._wait_for(kind)
        ours, theirs = socket.socketpair()
        deposits = self._deposits[kind]
        try:
            with theirs:
                socket.send_fds(deposits, [b"d"], [theirs.fileno()])
            deposits.settimeout(30)
            if deposits.recv(1) != b"+":
                raise ConnectionError
        except OSError as error:
            ours.close()
            raise WorkshopError(f"the warm {kind} process is gone") from error
        return ours

    def start_runner(self, job: str) -> socket.socket:
        """A new runner for a job; the channel on which it takes its task."""
        channel = self.deposit("runner")
        ask_warm(self.wire, "runner", do="start", job=job, memory=4 << 30, disk=1 << 20, processes=64)
        return channel

    def end(self, kind: str) -> dict[str, Any]:
        """End the child of this kind with everything it started, and say what it used and left."""
        return ask_warm(self.wire, kind, do="end")

    def state(self, kind: str) -> dict[str, Any]:
        """Whether the child of this kind lives, and what it was killed for."""
        return ask_warm(self.wire, kind, do="poll")

    def lingering(self, held: int) -> int:
        """How many processes of the kernel there are beside it and so many forks for questions."""
        return int(ask_warm(self.wire, "kernel", do="lingering", held=held)["left_behind"])

    def open_job(self, job: str, files: dict[str, bytes]) -> Path:
        """A job's folder, with what the student's folder is to hold."""
        folder = self.wire / job
        (folder / "files").mkdir(parents=True)
        for name, content in files.items():
            target = folder / "files" / Path(name).name
            target.write_bytes(content)
        return folder

    def close_job(self, job: str) -> None:
        """Remove a job's folder."""
        shutil.rmtree(self.wire / job, ignore_errors=True)

    def close(self) -> None:
        """End both processes; everything in their sandboxes ends with them."""
        for deposits in self._deposits.values():
            # Unlike closing, this wakes a thread that waits on it. It may be closed already.
            with contextlib.suppress(OSError):
                deposits.shutdown(socket.SHUT_RDWR)
        for process in self._processes.values():
            if not self.isolated:
                # No namespace ends what the student's code started: the warm process does it itself.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(2)
            process.kill()
            process.wait()
        for deposits in self._deposits.values():
            deposits.close()
        shutil.rmtree(self.wire, ignore_errors=True)
        for log in self._logs.values():
            log.unlink(missing_ok=True)


def _scratch() -> str:
    """A folder with a short path: the name of a Unix socket has 107 bytes at most."""
    chosen = tempfile.gettempdir()
    return chosen if len(chosen) < 60 else "/tmp" if os.access("/tmp", os.W_OK) else chosen
