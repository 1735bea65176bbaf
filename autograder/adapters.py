"""An adapter that a student may bring: read without trust, put on nano, measured on private cases.

It earns no points. Only two files are read, both bounded, and neither is executed: weights from safetensors,
and from the configuration the rank, the scale and the names of the layers. Everything else about the model is
the grader's own.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autograder.checks.seeds import Seed
from chatcontract.evaluate import Evaluation, evaluate
from chatcontract.nano.cases import eval_cases
from chatcontract.sft import LORA_TARGETS

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

LAB = "06_qlora"
BASE = "nano"
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
# What lab 06 writes beside them, which nobody opens here.
IGNORED = frozenset(
    {"README.md", "manifest.json", "chat_template.jinja", "tokenizer.json", "tokenizer_config.json"}
)
MAX_BYTES, MAX_CONFIG_BYTES, MAX_HEADER_BYTES = 20_000_000, 64_000, 1_000_000
MAX_RANK, MAX_ALPHA = 128, 10_000
CASES, MAX_NEW_TOKENS = 48, 48
_KINDS = {"float32", "float16", "bfloat16"}
# Settings that would change what the weights mean; peft writes each with its neutral value.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "use_dora": (False, None),
    "use_rslora": (False, None),
    "fan_in_fan_out": (False, None),
    "bias": ("none", None),
    "lora_bias": (False, None),
    "modules_to_save": (None, []),
    "trainable_token_indices": (None, []),
    "target_parameters": (None, []),
    "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None),
    "layers_to_transform": (None,),
    "layer_replication": (None,),
    "exclude_modules": (None, []),
}


SENTENCE_START = "The adapter"


class RefusedAdapter(ValueError):
    """The adapter cannot be measured; the message says in one sentence why."""


@dataclass(frozen=True)
class Adapter:
    """Weights by their names in the file, with the little of the configuration that is believed.

    Attributes:
        rank: of the two thin matrices.
        alpha: the adapter's output is scaled by alpha / rank.
        targets: names of the layers that have one, sorted.
        sha256: of the weights' file.
        size: of the weights' file in bytes.
    """

    weights: dict[str, torch.Tensor]
    rank: int
    alpha: float
    targets: tuple[str, ...]
    sha256: str
    size: int


@dataclass(frozen=True)
class AdapterReport:
    """What is shown beside the marks; the figures are None when the adapter was refused.

    Attributes:
        refused: why it was not measured, empty when it was.
        grounded_rate: share of grounded answers to the private cases, 0 to 1.
        stop_rate: share of answers that ended by themselves, 0 to 1.
        cases: how many cases were asked.
        seconds: time of generating all answers.
    """

    refused: str = ""
    grounded_rate: float | None = None
    stop_rate: float | None = None
    cases: int = 0
    rank: int = 0
    size: int = 0
    sha256: str = ""
    seconds: float = 0.0

    @property
    def sentence(self) -> str:
        """The whole report in one sentence."""
        if self.refused:
            return f"{SENTENCE_START} was not measured: {self.refused}"
        return (
            f"{SENTENCE_START} (rank {self.rank}, {self.size / 1e6:.1f} MB, sha256 {self.sha256[:12]}) "
            f"on {BASE}: grounded {self.grounded_rate:.2f}, stopped {self.stop_rate:.2f} "
            f"on {self.cases} private cases; it earns no points."
        )


def report_adapter(folder: Path, seed: Seed, *, cases: int = CASES) -> AdapterReport:
    """Read and measure an adapter; one that is refused or cannot be measured gives a report that says why.

    Args:
        folder: what the student handed in, as PEFT's `save_pretrained` or lab 06 writes it.
        seed: of the class; the same cases for every student.
        cases: how many private cases to ask.
    """
    try:
        adapter = read_adapter(folder)
        result = measure_adapter(adapter, seed, cases=cases)
    except RefusedAdapter as refusal:
        return AdapterReport(refused=str(refusal))
    except Exception as error:
        # It earns no points: nobody's marks wait for it.
        return AdapterReport(refused=f"measuring it failed ({type(error).__name__}: {str(error)[:200]}).")
    return AdapterReport(
        grounded_rate=result.grounded_rate,
        stop_rate=result.stop_rate,
        cases=len(result.cases),
        rank=adapter.rank,
        size=adapter.size,
        sha256=adapter.sha256,
        seconds=round(result.seconds, 2),
    )


def read_adapter(folder: Path) -> Adapter:
    """The adapter in a folder that nobody vouches for.

    Raises:
        RefusedAdapter: a file that is not expected, too large or no safetensors, a setting that is not
            measured here, or weights that are not finite numbers.
    """
    _look_at_files(folder)
    config = _config(_read(folder / CONFIG, MAX_CONFIG_BYTES))
    raw = _read(folder / WEIGHTS, MAX_BYTES)
    return Adapter(_weights(raw), *config, sha256=hashlib.sha256(raw).hexdigest(), size=len(raw))


def measure_adapter(adapter: Adapter, seed: Seed, *, cases: int = CASES) -> Evaluation:
    """Grounded and stop rate of nano with the adapter, on cases that only the seed's owner can make.

    Raises:
        RefusedAdapter: names or shapes of the weights are not those of this configuration on nano.
    """
    from chatcontract.models import load_tokenizer

    model = _adapted(adapter)
    private = eval_cases(cases, seed.generator(LAB, "adapter").getrandbits(32))
    return evaluate(
        model, load_tokenizer(BASE), private, max_new_tokens=MAX_NEW_TOKENS, batch_size=cases, progress=False
    )


def _look_at_files(folder: Path) -> None:
    if folder.is_symlink() or not folder.is_dir():
        raise RefusedAdapter(f"{folder.name} is not a folder with {WEIGHTS} and {CONFIG}.")
    names = {entry.name: entry for entry in os.scandir(folder)}
    for name, entry in sorted(names.items()):
        if name not in IGNORED | {WEIGHTS, CONFIG}:
            raise RefusedAdapter(
                f"it holds {_shown(name)}: only {WEIGHTS} and {CONFIG} are read, and pickled weights such as "
                ".bin or .pt can run code when they are loaded, so save with safe_serialization=True."
            )
        if not stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode):
            raise RefusedAdapter(f"{name} is not a plain file.")
    for name in (WEIGHTS, CONFIG):
        if name not in names:
            raise RefusedAdapter(f"{name} is missing.")


def _shown(value: object) -> str:
    """A student's value, short and on one line whatever it holds."""
    return ascii(str(value)[:80])


def _read(path: Path, most: int) -> bytes:
    """The bytes of a plain file, never more than `most` and one."""
    # the file may have been swapped since it was looked at: no link is followed, no pipe waited for
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        with os.fdopen(os.open(path, flags), "rb") as file:
            content = file.read(most + 1) or b""
    except OSError as error:
        raise RefusedAdapter(f"{path.name} cannot be read ({error.strerror}).") from error
    if len(content) > most:
        raise RefusedAdapter(f"{path.name} is larger than {most / 1e6:g} MB.")
    return content


def _config(raw: bytes) -> tuple[int, float, tuple[str, ...]]:
    """Rank, alpha and targets; every other setting must be the one that changes nothing."""
    try:
        given = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise RefusedAdapter(f"{CONFIG} is not JSON.") from error
    if not isinstance(given, dict) or given.get("peft_type") != "LORA":
        raise RefusedAdapter(f"{CONFIG} does not describe a LoRA adapter (its peft_type must be 'LORA').")
    base = given.get("base_model_name_or_path")
    if base != BASE:
        raise RefusedAdapter(
            f"it was trained on {_shown(base)}: only adapters of '{BASE}' are measured, "
            f'which lab 06 trains with MODEL = "{BASE}".'
        )
    for name, neutral in _NEUTRAL.items():
        if given.get(name) not in neutral:
            raise RefusedAdapter(f"{CONFIG} sets {name}, which is not measured here: leave it out.")
    rank, alpha, targets = given.get("r"), given.get("lora_alpha"), given.get("target_modules")
    if type(rank) is not int or not 1 <= rank <= MAX_RANK:
        raise RefusedAdapter(f"its rank is {_shown(rank)}: whole numbers from 1 to {MAX_RANK} are measured.")
    if not isinstance(alpha, (int, float)) or not 0 < alpha <= MAX_ALPHA:  # not a number is refused, too
        raise RefusedAdapter(f"its lora_alpha is {_shown(alpha)}, not a number above 0 up to {MAX_ALPHA:,}.")
    if not isinstance(targets, list) or not targets or not all(one in LORA_TARGETS for one in targets):
        raise RefusedAdapter(f"its target_modules must be a list out of {', '.join(LORA_TARGETS)}.")
    return rank, float(alpha), tuple(sorted(set(targets)))


def _weights(raw: bytes) -> dict[str, torch.Tensor]:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    header = struct.unpack("<Q", raw[:8])[0] if len(raw) >= 8 else 0
    if not 2 <= header <= min(MAX_HEADER_BYTES, len(raw) - 8):
        raise RefusedAdapter(f"{WEIGHTS} is not a safetensors file: no header has {header:,} bytes.")
    try:
        weights = load(raw)
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise RefusedAdapter(f"{WEIGHTS} is not a whole safetensors file.") from error
    for name, weight in sorted(weights.items()):
        kind = str(weight.dtype).removeprefix("torch.")
        if kind not in _KINDS:
            raise RefusedAdapter(f"{_shown(name)} is stored as {kind}: use float32, float16 or bfloat16.")
        if not torch.isfinite(weight).all():
            raise RefusedAdapter(f"{_shown(name)} holds a value that is no finite number: the run diverged.")
    return weights


def _adapted(adapter: Adapter) -> PreTrainedModel:
    """Nano in float32 with the adapter merged in."""
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    from chatcontract.models import load_model

    settings = LoraConfig(
        task_type="CAUSAL_LM",
        r=adapter.rank,
        lora_alpha=adapter.alpha,  # type: ignore[arg-type]
        target_modules=list(adapter.targets),
        inference_mode=True,
    )
    wrapped = get_peft_model(load_model(BASE), settings)
    expected = {name: tuple(one.shape) for name, one in get_peft_model_state_dict(wrapped).items()}
    given = {name: tuple(one.shape) for name, one in adapter.weights.items()}
    for name in sorted(expected.keys() | given.keys()):
        if given.get(name) != expected.get(name):
            shape, needed = given.get(name, "of nothing"), expected.get(name, "nothing of that name")
            raise RefusedAdapter(
                f"{_shown(name)} has the shape {shape}, and rank {adapter.rank} on {BASE} needs {needed}."
            )
    set_peft_model_state_dict(wrapped, {name: one.float() for name, one in adapter.weights.items()})
    merged: PreTrainedModel = wrapped.merge_and_unload()
    return merged.eval()
