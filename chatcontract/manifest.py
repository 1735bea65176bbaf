"""What a run was made of, by hash: enough to tell later whether two runs had the same contract."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatcontract.downloads import sha256_of
from chatcontract.models import fetch, source_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_LIBRARIES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "datasets", "chat-contract")


def run_manifest(
    model: str,
    tokenizer: PreTrainedTokenizerBase,
    rows: Iterable[Mapping[str, Any]],
    *,
    configuration: Mapping[str, Any],
    seed: int,
    figures: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Describe a training run so that a second run with the same manifest must give the same figures.

    Args:
        model: name of the starting checkpoint.
        tokenizer: with the chat template that serving will use.
        rows: the training rows as they went in; they are hashed, not stored.
        configuration: keyword arguments of quantisation, adapter and trainer; values are stored as JSON,
            anything else (a dtype) as its text.
        seed: the seed of the run.
        figures: what was measured, stored beside the inputs.
    """
    rows = list(rows)
    folder = fetch(model)
    source = folder / "ready.json"
    origin = json.loads(source.read_text(encoding="utf-8"))["origin"] if source.is_file() else "course"
    stop = tokenizer.eos_token_id
    return {
        "checkpoint": {
            "name": source_of(model).name,
            "origin": origin,
            "weights_sha256": {path.name: sha256_of(path) for path in sorted(folder.glob("*.safetensors"))},
        },
        "tokenizer": {
            "vocabulary_sha256": _hash(tokenizer.backend_tokenizer.to_str()),
            "template_sha256": _hash(tokenizer.chat_template),
            "end_of_turn": {"token": tokenizer.eos_token, "id": stop},
            "pad": {"token": tokenizer.pad_token, "id": tokenizer.pad_token_id},
            "add_special_tokens_after_template": False,
        },
        "data": {
            "rows": len(rows),
            "sha256": _hash("\n".join(json.dumps(r, sort_keys=True, ensure_ascii=False) for r in rows)),
        },
        "configuration": json.loads(json.dumps(configuration, default=str)),
        "seed": seed,
        "versions": library_versions(),
        "figures": dict(figures or {}),
    }


def prompt_record(
    tokenizer: PreTrainedTokenizerBase, probes: Iterable[list[dict[str, str]]]
) -> dict[str, Any]:
    """What decides the prompts of a deployment, and the prompts of some chats: for `viewers.drift_view`.

    Args:
        tokenizer: of the training run, or loaded from a served folder.
        probes: chats up to the question.

    Returns:
        "template": the chat template, "special": id by special token and by its office ("eos" and so on),
        "ids": one list per probe, with the generation prompt.
    """
    offices = {name: getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    tokens = zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True)
    return {
        "template": tokenizer.chat_template,
        "special": {**{name: one for name, one in offices.items() if one is not None}, **dict(tokens)},
        "ids": [
            list(tokenizer.apply_chat_template(chat, add_generation_prompt=True)["input_ids"])
            for chat in probes
        ],
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def library_versions() -> dict[str, str]:
    """The versions of Python and of every library that decides a run's figures."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def write_json(path: Path, content: Mapping[str, Any]) -> Path:
    """Write JSON beside the target first, then move it there, so that it is never half written."""
    import os

    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.part")
    staged.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(staged, path)
    return path
