"""A real server on the loopback: it answers, its prompt is probed, and nothing of it stays behind."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from chatcontract import serving
from chatcontract.experiments.serving import NO_CUE
from chatcontract.families import family
from chatcontract.models import load_model, load_tokenizer
from chatcontract.serving import ServerError, save_deployment, start_server

needs_server = pytest.mark.skipif(
    bool(serving.missing_packages()), reason="transformers[serving] is not installed"
)
CHAT = [
    {"role": "system", "content": "Use only the supplied policy evidence.\n\nEvidence: 48 hours, photos."},
    {"role": "user", "content": "My electronics arrived damaged. What should I do?"},
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """nano, saved with the right template and with three that drifted."""
    root = tmp_path_factory.mktemp("deployments")
    model, tokenizer = load_model("nano"), load_tokenizer("nano")
    right = tokenizer.chat_template
    templates = {
        "right": None,
        "no cue": right.split("{%- if add_generation_prompt")[0],
        "two BOS": "{{- bos_token + bos_token -}}" + right,
        "wrapper": family("mistral_v01").serving_template,
    }
    return {
        name: save_deployment(model, tokenizer, root / name.replace(" ", "_"), chat_template=template)
        for name, template in templates.items()
    }


@pytest.fixture(scope="module")
def server(folders):
    with start_server(folders["right"], progress=False) as running:
        yield running


@needs_server
def test_the_server_writes_what_the_model_writes_here(server, folders):
    tokenizer, model = load_tokenizer("nano"), load_model("nano").eval()
    prompt = tokenizer.apply_chat_template(
        CHAT, add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    ids = model.generate(**prompt, max_new_tokens=12, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    reply = server.ask(CHAT, max_tokens=12)
    assert reply.text == tokenizer.decode(ids, skip_special_tokens=True)
    assert reply.prompt_tokens == prompt["input_ids"].shape[1]
    assert (reply.completion_tokens, reply.finish_reason) == (12, "length"), "an untrained nano does not stop"
    assert reply.milliseconds > 0


@needs_server
def test_probing_prompt_lengths_finds_every_drifted_deployment(server, folders):
    tokenizer = load_tokenizer("nano")
    trained = len(tokenizer.apply_chat_template(CHAT, add_generation_prompt=True)["input_ids"])
    off = {
        name: server.ask(CHAT, model=folder, max_tokens=1).prompt_tokens - trained
        for name, folder in folders.items()
    }
    cue = trained - len(tokenizer.encode(NO_CUE.render(tokenizer, CHAT), add_special_tokens=False))
    assert (off["right"], off["no cue"], off["two BOS"]) == (0, -cue, 2)
    assert off["wrapper"] != 0


@needs_server
def test_the_official_client_can_talk_to_it(server):
    from openai import OpenAI

    client = OpenAI(base_url=server.url, api_key="none")
    answer = client.chat.completions.create(
        model=str(server.folder.resolve()), messages=CHAT, max_tokens=4, temperature=0.0
    )
    assert answer.choices[0].message.content == server.ask(CHAT, max_tokens=4).text


@needs_server
def test_an_unknown_folder_is_an_error_and_the_server_goes_on(server, tmp_path):
    with pytest.raises(ServerError, match="status"):
        server.ask(CHAT, model=tmp_path / "nothing")
    assert server.ask(CHAT, max_tokens=1).completion_tokens == 1


@needs_server
def test_interrupting_a_cell_does_not_reach_the_server(server):
    """Jupyter interrupts a cell by a signal to the kernel's process group."""
    if sys.platform == "win32":
        pytest.skip("process groups are POSIX")
    assert os.getpgid(server.process.pid) != os.getpgid(0)


@needs_server
def test_stopping_leaves_no_process_and_one_clear_sentence(folders):
    with start_server(folders["right"], progress=False) as running:
        child = psutil.Process(running.process.pid)
        assert child.is_running() and running.healthy()
    assert not running.is_running and not child.is_running()
    with pytest.raises(ServerError, match="has ended; start it again"):
        running.ask(CHAT)
    running.stop()


@needs_server
def test_a_killed_notebook_takes_its_server_with_it(folders):
    code = (
        "import json, sys, time; from chatcontract.serving import start_server; "
        f"s = start_server({str(folders['right'])!r}, progress=False); "
        "print(json.dumps(s.process.pid), flush=True); time.sleep(60)"
    )
    notebook = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert notebook.stdout
    child = psutil.Process(json.loads(notebook.stdout.readline()))
    notebook.kill()
    notebook.wait()
    deadline = time.monotonic() + 10
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_without_the_packages_one_sentence_says_what_to_install(monkeypatch, folders):
    monkeypatch.setattr(serving, "_NEEDED", ("fastapi", "a_package_nobody_has"))
    with pytest.raises(ServerError, match=r"a_package_nobody_has.*transformers\[serving\]"):
        start_server(folders["right"])


@needs_server
def test_a_folder_without_a_model_is_refused_before_anything_starts(tmp_path):
    with pytest.raises(FileNotFoundError, match="no model in"):
        start_server(tmp_path)


@needs_server
def test_a_server_that_cannot_start_shows_its_log(folders, tmp_path, monkeypatch):
    monkeypatch.setattr(serving, "free_port", lambda: -1)
    with pytest.raises(ServerError, match="The end of its log"):
        start_server(folders["right"], log=tmp_path / "serve.log", progress=False)


def test_a_deployment_is_complete_or_absent(folders, tmp_path):
    tokenizer = load_tokenizer("nano")

    class Refusing:
        def save_pretrained(self, folder: str) -> None:
            Path(folder, "config.json").write_text("{}")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        save_deployment(Refusing(), tokenizer, tmp_path / "half")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
    assert load_tokenizer(str(folders["right"])).chat_template == tokenizer.chat_template
