"""A real server on this machine: `transformers serve` as a child process that never outlives the notebook.

with start_server("runs/serving/right") as server:
    print(server.ask(messages).text)
"""

from __future__ import annotations

import atexit
import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Chat = list[dict[str, str]]

HOST = "127.0.0.1"
_NEEDED = ("fastapi", "uvicorn", "openai")
_STOP_SECONDS = 10.0
_TAIL_LINES = 8


class ServerError(RuntimeError):
    """The server did not start, ended, or refused a request; the message says what to do."""


@dataclass(frozen=True)
class Reply:
    """One answer of a server.

    Attributes:
        text: what the model wrote, without the end-of-turn token.
        finish_reason: "stop" when the model ended its turn, "length" when the token limit did.
        prompt_tokens: how many tokens the server made of the messages, as it says itself.
        completion_tokens: how many tokens it wrote.
        milliseconds: wall time from the request to the last byte.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    milliseconds: float


class Server:
    """A running `transformers serve`; a context manager that stops it at the end of the block.

    Attributes:
        folder: the model folder that answers when a request names no other.
        port: its port on the loopback.
        log: the file that holds everything the server prints.
    """

    def __init__(self, process: subprocess.Popen[bytes], folder: Path, port: int, log: Path) -> None:
        self.process, self.folder, self.port, self.log = process, folder, port, log
        atexit.register(self.stop)

    @property
    def url(self) -> str:
        """Base address of the OpenAI-compatible interface."""
        return f"http://{HOST}:{self.port}/v1"

    @property
    def is_running(self) -> bool:
        """Whether the child process is alive."""
        return self.process.poll() is None

    def ask(
        self,
        messages: Chat,
        *,
        model: str | Path | None = None,
        max_tokens: int = 48,
        timeout: float = 60.0,
    ) -> Reply:
        """Send one chat, greedy decoding, and wait for the whole answer.

        Args:
            messages: the conversation up to the question.
            model: folder of another deployment; the server loads it at the first request.
            max_tokens: most tokens of the answer.
            timeout: seconds to wait.

        Raises:
            ServerError: the server has ended, took too long, or answered with an error.
        """
        body = {
            "model": str(Path(model or self.folder).resolve()),
            "messages": messages,
            "max_tokens": max_tokens,
            "temperature": 0.0,
        }
        started = time.perf_counter()
        status, content = self._request("POST", "/v1/chat/completions", body, timeout)
        milliseconds = (time.perf_counter() - started) * 1000
        if status != 200:
            raise ServerError(f"The server answered with status {status}: {content[:200]!r}.{self._said()}")
        answer = json.loads(content)
        choice, usage = answer["choices"][0], answer["usage"]
        return Reply(
            choice["message"]["content"] or "",
            choice["finish_reason"],
            usage["prompt_tokens"],
            usage["completion_tokens"],
            milliseconds,
        )

    def healthy(self) -> bool:
        """Whether the server answers at all."""
        try:
            return self._request("GET", "/health", None, 2.0)[0] == 200
        except ServerError:
            return False

    def stop(self) -> None:
        """End the child process; calling it twice does no harm."""
        atexit.unregister(self.stop)
        if self.process.stdin:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
        if self.is_running:
            self.process.terminate()
            try:
                self.process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _request(self, method: str, path: str, body: Any, timeout: float) -> tuple[int, str]:
        # http.client and not urllib: a proxy setting must not send the loopback's requests elsewhere.
        connection = http.client.HTTPConnection(HOST, self.port, timeout=timeout)
        try:
            sent = None if body is None else json.dumps(body)
            connection.request(method, path, sent, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            raise ServerError(self._why(error, timeout)) from error
        finally:
            connection.close()

    def _why(self, error: Exception, timeout: float) -> str:
        if not self.is_running:
            return f"The server has ended; start it again with start_server.{self._said()}"
        if isinstance(error, TimeoutError):
            return f"The server did not answer within {timeout:g} s: ask for fewer tokens or wait longer."
        return f"The server on port {self.port} cannot be reached ({error}).{self._said()}"

    def _said(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-_TAIL_LINES:]
        return f" The end of its log, {self.log}:\n" + "\n".join(lines) if lines else ""


def free_port() -> int:
    """A port of the loopback that nothing listens on at the moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def missing_packages() -> list[str]:
    """Packages that serving needs and this environment lacks."""
    return [name for name in _NEEDED if find_spec(name) is None]


def start_server(
    folder: str | Path, *, log: str | Path | None = None, timeout: float = 120.0, progress: bool = True
) -> Server:
    """Start `transformers serve` on a free port of the loopback and wait until it answers.

    The child ends with `stop`, with the `with` block, at the end of this process, and also when this process
    is killed: it watches the pipe to its parent.

    Args:
        folder: a folder with config, weights and tokenizer, as `save_deployment` writes it.
        log: where to keep what the server prints; default `serve.log` beside the folder.
        timeout: seconds to wait for the first sign of life.
        progress: draw a line that counts the seconds.

    Raises:
        ServerError: packages are missing, or the server ended or stayed silent.
        FileNotFoundError: the folder holds no model.
    """
    folder = Path(folder)
    if lacking := missing_packages():
        raise ServerError(
            f"Serving needs {', '.join(lacking)}: run 'pip install \"transformers[serving]\"' in this "
            "environment; everything else of the lab works without it."
        )
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"There is no model in {folder}: it has no config.json. Save one there with save_deployment."
        )
    log = Path(log) if log else folder.parent / "serve.log"
    port = free_port()
    command = [sys.executable, "-m", "chatcontract.serving", "serve", "--port", str(port), "--host", HOST]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    root = str(Path(__file__).resolve().parents[1])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            # Interrupting a cell signals the kernel's whole process group, and the server shall outlive that.
            start_new_session=True,
        )
    server = Server(process, folder, port, log)
    try:
        _wait(server, timeout, progress)
    except BaseException:
        server.stop()
        raise
    return server


def _wait(server: Server, timeout: float, progress: bool) -> None:
    began, shown = time.monotonic(), -1
    while not server.healthy():
        waited = time.monotonic() - began
        if not server.is_running:
            raise ServerError(f"The server ended before it answered.{server._said()}")
        if waited > timeout:
            raise ServerError(f"The server gave no sign of life within {timeout:g} s.{server._said()}")
        if progress and int(waited) > shown:
            shown = int(waited)
            print(f"\rStarting the server: {shown:3} s, usually about 10", end="", flush=True)
        time.sleep(0.3)
    if progress:
        print(f"\rThe server answers at {server.url} after {time.monotonic() - began:.0f} s.      ")


def save_deployment(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: str | Path,
    *,
    chat_template: str | None = None,
) -> Path:
    """Write model and tokenizer as a server loads them, with the tokenizer's chat template or another one.

    The folder is complete or absent: it is written beside its place and moved there.
    """
    import copy
    import shutil
    import tempfile

    from chatcontract.models import quiet_loading

    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    tokenizer = copy.deepcopy(tokenizer)
    if chat_template is not None:
        tokenizer.chat_template = chat_template
    staged = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        with quiet_loading():
            model.save_pretrained(str(staged))
        tokenizer.save_pretrained(str(staged))
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(staged, folder)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return folder


def _serve() -> None:
    """Run the command line of transformers in this process, and end with the parent."""
    from transformers.cli.transformers import main

    def watch() -> None:
        sys.stdin.buffer.read()
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
    sys.argv[0] = "transformers"
    main()


if __name__ == "__main__":
    _serve()
