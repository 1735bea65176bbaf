"""The pieces of a QLoRA run that a notebook does not want to write twice.

The calls a student should learn (BitsAndBytesConfig, LoraConfig, SFTConfig, SFTTrainer) stay in the lab;
here are the choices that depend on the machine, the evaluation during training and the safe save.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
import platform
import random
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from chatcontract.downloads import sha256_of
from chatcontract.evaluate import Case, Evaluation, evaluate
from chatcontract.manifest import library_versions, write_json

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
    from trl import SFTTrainer

    from chatcontract.viewers import RunView

_WHOLE = "whole.json"
_STARTS: WeakKeyDictionary[Any, dict[str, Any]] = WeakKeyDictionary()

LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Device:
    """Where a run happens and in which precision.

    Attributes:
        kind: "cpu" or "cuda", as torch names it.
        compute_dtype: "bfloat16", "float16" or "float32": what 4-bit weights are multiplied in.
        reason: one sentence for the reader.
    """

    kind: str
    compute_dtype: str
    reason: str

    @property
    def torch_dtype(self) -> torch.dtype:
        """`compute_dtype` as torch's own object."""
        import torch

        dtype: torch.dtype = getattr(torch, self.compute_dtype)
        return dtype


def pick_device(prefer: str | None = None) -> Device:
    """The best device for NF4 here: CUDA, else the CPU.

    Apple's MPS is passed over on purpose: bitsandbytes' NF4 path is not trusted there, so the CPU is used
    and the reason says so.

    Args:
        prefer: "cpu" or "cuda" to override.

    Raises:
        ValueError: `prefer` is not one of the two, or there is no CUDA device.
    """
    import torch

    if prefer not in (None, "cpu", "cuda"):
        raise ValueError(f"Unknown device '{prefer}': use 'cpu' or 'cuda', or leave it out.")
    if prefer == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "No CUDA device is here (torch.cuda.is_available() is False): leave prefer out to use CPU, "
            "or run 'python3 course.py doctor --gpu' to see why."
        )
    if torch.cuda.is_available() and prefer != "cpu":
        name = torch.cuda.get_device_name()
        # compute capability, not torch.cuda.is_bf16_supported(): that one also counts slow emulation on a T4
        if torch.cuda.get_device_capability()[0] >= 8:
            return Device("cuda", "bfloat16", f"{name}: CUDA with bfloat16.")
        return Device("cuda", "float16", f"{name}: CUDA without native bfloat16, so float16.")
    note = (
        ""
        if prefer == "cpu" or not torch.backends.mps.is_available()
        else " (MPS is here, but NF4 is not trusted on it)"
    )
    if _cpu_multiplies_bfloat16():
        return Device("cpu", "bfloat16", f"CPU with bfloat16 instructions{note}.")
    return Device("cpu", "float32", f"CPU without bfloat16 instructions, so float32{note}.")


def default_quantization_kwargs(device: Device) -> dict[str, Any]:
    """Arguments of `BitsAndBytesConfig` for NF4 with double quantisation (QLoRA, Dettmers et al. 2023,
    https://arxiv.org/abs/2305.14314, sections 2 and 3)."""
    return {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": device.torch_dtype,
    }


def default_lora_kwargs() -> dict[str, Any]:
    """Arguments of `LoraConfig` for a small adapter on every linear layer of a Llama block."""
    return {
        "task_type": "CAUSAL_LM",
        "r": 8,
        "lora_alpha": 16,
        "lora_dropout": 0.0,
        "target_modules": list(LORA_TARGETS),
    }


def default_sft_kwargs(
    device: Device,
    *,
    rows: int,
    epochs: float = 1.0,
    batch_size: int = 8,
    checkpoint_every: int | None = None,
) -> dict[str, Any]:
    """Arguments of `SFTConfig` for a short run: cosine decay, 3 % warmup, assistant-only loss.

    Args:
        rows: number of training rows, for the length of the warmup.
        checkpoint_every: steps between two checkpoints, for `resumable`; None writes none.
    """
    steps = math.ceil(rows / batch_size * epochs)
    return {
        "num_train_epochs": epochs,
        "per_device_train_batch_size": batch_size,
        "gradient_accumulation_steps": 1,
        "learning_rate": 1e-3,
        "lr_scheduler_type": "cosine",
        "warmup_steps": max(1, round(0.03 * steps)),
        "max_length": 512,
        "packing": False,
        "assistant_only_loss": True,
        "gradient_checkpointing": False,
        "bf16": device.compute_dtype == "bfloat16",
        "fp16": device.compute_dtype == "float16",
        "use_cpu": device.kind == "cpu",
        "logging_steps": 1,
        **_saving(checkpoint_every),
        "report_to": "none",
        "disable_tqdm": True,
        "seed": 0,
        "data_seed": 0,
        "dataloader_pin_memory": device.kind == "cuda",
    }


def _saving(every: int | None) -> dict[str, Any]:
    # two of them: while the newer one is being written, the older one is whole
    return (
        {"save_strategy": "steps", "save_steps": every, "save_total_limit": 2}
        if every
        else {"save_strategy": "no"}
    )


def merged_copy(base: PreTrainedModel, trained: PeftModel) -> PreTrainedModel:
    """A fresh unquantised model with the adapter merged in; neither argument is changed.

    Evaluation happens on this copy for two reasons: generating in 4 bit is slow on a CPU, and merging into
    4-bit weights rounds twice (https://github.com/huggingface/peft/issues/2321).

    Args:
        base: the unquantised starting checkpoint.
        trained: the model in training, quantised or not.
    """
    from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    config = copy.deepcopy(trained.peft_config["default"])
    config.inference_mode = True
    wrapped = get_peft_model(copy.deepcopy(base), config)
    adapter = {k: v.detach().to(base.device) for k, v in get_peft_model_state_dict(trained).items()}
    set_peft_model_state_dict(wrapped, adapter)
    merged: PreTrainedModel = wrapped.merge_and_unload()
    return merged.eval()


def evaluate_adapter(
    base: PreTrainedModel,
    trained: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    cases: Iterable[Case],
    **generation: Any,
) -> Evaluation:
    """Evaluate the adapter on its own merged copy, so that training is not disturbed."""
    return evaluate(merged_copy(base, trained), tokenizer, cases, **generation)


def run_callback(
    view: RunView,
    *,
    measure: Callable[[PeftModel], Evaluation] | None = None,
    measure_at: Sequence[int] = (),
    run: str = "",
) -> TrainerCallback:
    """A Trainer callback that feeds the run viewer: loss each step, grounded and stop rate now and then.

    What it measures goes into the trainer's log as well, so that a run that goes on from a checkpoint shows
    its earlier figures.

    Args:
        view: the live picture.
        measure: evaluates the model in training; None leaves the quality curve empty.
        measure_at: step numbers after which to measure, 0 for before the first step.
        run: written into each checkpoint as its last file, which says that the checkpoint is whole.
    """
    from transformers import TrainerCallback

    class RunCallback(TrainerCallback):
        def __init__(self) -> None:
            self.train_seconds = 0.0
            self._began = 0.0

        def on_train_begin(self, args: Any, state: Any, control: Any, **context: Any) -> None:
            for entry in state.log_history:
                self._show(entry)
            if not state.global_step:
                self._measure(state, context["model"])

        def on_step_begin(self, args: Any, state: Any, control: Any, **context: Any) -> None:
            self._began = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **context: Any) -> None:
            self.train_seconds += time.perf_counter() - self._began

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **context: Any) -> None:
            if not logs or "loss" not in logs:
                return
            state.log_history[-1]["train_seconds"] = self.train_seconds
            self._show(state.log_history[-1])
            self._measure(state, context["model"])

        def on_save(self, args: Any, state: Any, control: Any, **context: Any) -> None:
            if run:
                folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
                write_json(folder / _WHOLE, {"run": run, "step": state.global_step})

        def _measure(self, state: Any, model: PeftModel) -> None:
            if measure is None or state.global_step not in measure_at:
                return
            result = measure(model)
            rates = {"grounded": result.grounded_rate, "stop": result.stop_rate}
            state.log_history.append(
                {"step": state.global_step, "train_seconds": self.train_seconds, **rates}
            )
            self._show(state.log_history[-1])

        def _show(self, entry: Mapping[str, Any]) -> None:
            self.train_seconds = entry.get("train_seconds", self.train_seconds)
            values = {name: float(entry[name]) for name in ("loss", "grounded", "stop") if name in entry}
            if "num_tokens" in entry:
                values["tokens"] = int(float(entry["num_tokens"]))
            if values:
                view.update(entry["step"], seconds=self.train_seconds, **values)

    return RunCallback()


@contextmanager
def resumable(
    trainer: SFTTrainer,
    view: RunView,
    *,
    measure: Callable[[PeftModel], Evaluation] | None = None,
    measure_at: Sequence[int] = (),
) -> Iterator[str | None]:
    """Follow a run in `view`, and let one that was stopped go on where it stopped.

        with view, sft.resumable(trainer, view) as checkpoint:
            trainer.train(resume_from_checkpoint=checkpoint)

    The value is the newest checkpoint in the trainer's output folder that is whole and belongs to this very
    run: the same rows and labels, arguments, adapter, frozen weights, library versions and kind of device.
    Without one it is None, and the adapter is put back to where it was before its first step: an interrupted
    kernel holds one that has moved. Checkpoints of which neither can be said are removed. A run that goes on
    ends with the same figures as one that was never stopped. The arguments are `run_callback`'s.
    """
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)  # the picture shows what it would print at every step
    run, folder = _identity(trainer), Path(trainer.args.output_dir)
    moving = {name: one for name, one in trainer.model.named_parameters() if one.requires_grad}
    start = _STARTS.setdefault(trainer, {name: one.detach().clone() for name, one in moving.items()})
    checkpoint, step = _newest_whole(folder, run)
    if checkpoint is None:
        for name, one in moving.items():
            one.data.copy_(start[name])
        trainer.optimizer = trainer.lr_scheduler = None
        set_seeds(trainer.args.seed)
        trainer._total_train_tokens = 0
    else:
        print(f"Going on after step {step}, from {checkpoint}. To begin anew, delete {folder}.")
        logged = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
        counts = [float(entry["num_tokens"]) for entry in logged if "num_tokens" in entry]
        # TRL counts for as long as the trainer lives, not from the checkpoint on
        trainer._total_train_tokens = int(counts[-1]) if counts else 0
    callback = run_callback(view, measure=measure, measure_at=measure_at, run=run)
    trainer.add_callback(callback)
    try:
        yield None if checkpoint is None else str(checkpoint)
    finally:
        trainer.remove_callback(callback)


def _newest_whole(folder: Path, run: str) -> tuple[Path | None, int]:
    """The checkpoint to go on from and its step; removes those that this run cannot use."""
    found: dict[int, Path] = {}
    for checkpoint in folder.glob("checkpoint-*"):
        try:
            said = json.loads((checkpoint / _WHOLE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            said = {}
        if said.get("run") == run:
            found[int(said["step"])] = checkpoint
        else:
            shutil.rmtree(checkpoint, ignore_errors=True)
    return (found[max(found)], max(found)) if found else (None, 0)


def _identity(trainer: SFTTrainer) -> str:
    """A hash of everything that decides the figures of a run, and of nothing else."""
    import torch

    def plain(value: Any) -> Any:
        return sorted(map(str, value)) if isinstance(value, set) else str(value)

    given = trainer.args.to_dict()
    for name in ("output_dir", "logging_dir", "run_name", "disable_tqdm", "save_steps", "save_total_limit"):
        given.pop(name, None)
    adapters = {name: one.to_dict() for name, one in getattr(trainer.model, "peft_config", {}).items()}
    parts = [given, adapters, library_versions(), trainer.args.device.type]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True, default=plain).encode())
    for row in trainer.train_dataset:
        digest.update(json.dumps(row, sort_keys=True, default=str).encode())
    for name, weight in trainer.model.named_parameters():
        if not weight.requires_grad:
            digest.update(name.encode())
            digest.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def set_seeds(seed: int) -> None:
    """Seed Python, NumPy and torch, so that a run repeats on the same machine."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def supervised_text(trainer: SFTTrainer, row: int = 0) -> str:
    """The text of one prepared row whose labels are not -100: what the model will be asked to say.

    Read it before the first step. Supervised pieces that are not neighbours are joined by a line break.
    """
    prepared = trainer.train_dataset[row]
    tokenizer = trainer.processing_class
    pieces: list[list[int]] = [[]]
    for token, label in zip(prepared["input_ids"], prepared["labels"], strict=True):
        if label != -100:
            pieces[-1].append(token)
        elif pieces[-1]:
            pieces.append([])
    return "\n".join(tokenizer.decode(piece) for piece in pieces if piece)


def save_adapter(
    trained: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    *,
    manifest: Mapping[str, Any] | None = None,
) -> Path:
    """Write adapter, tokenizer and manifest so that `folder` is never half written.

    Everything is written beside its place first. A folder that was there before is moved aside and deleted
    only when the new one stands. The files name the starting checkpoint as everybody knows it, not by its
    place on this machine.

    Args:
        folder: replaced as a whole if it exists.
        manifest: written as manifest.json, when given, with the hash of the adapter's weights.
    """
    import tempfile

    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as work:
        staged, aside = Path(work) / "new", Path(work) / "old"
        trained.save_pretrained(str(staged), safe_serialization=True)
        _name_the_base(staged, trained.base_model.model.name_or_path)
        tokenizer.save_pretrained(str(staged))
        if manifest is not None:
            weights = {"adapter_sha256": sha256_of(staged / "adapter_model.safetensors")}
            write_json(staged / "manifest.json", {**manifest, **weights})
        if folder.exists():
            os.replace(folder, aside)
        try:
            os.replace(staged, folder)
        except BaseException:
            if aside.exists():
                os.replace(aside, folder)
            raise
    return folder


def _name_the_base(adapter: Path, loaded_from: str) -> None:
    """Put a public name where PEFT wrote the folder that the base was loaded from."""
    from chatcontract.models import public_name

    # PEFT writes it into both, and with the public name set beforehand it would look for a hub while saving
    for name in ("adapter_config.json", "README.md"):
        file = adapter / name
        if loaded_from and file.is_file():
            text = file.read_text(encoding="utf-8")
            for written in (json.dumps(loaded_from)[1:-1], loaded_from):
                text = text.replace(written, public_name(loaded_from))
            file.write_text(text, encoding="utf-8")


def _cpu_multiplies_bfloat16() -> bool:
    import torch

    if platform.machine().lower() in {"arm64", "aarch64"}:
        return False
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
