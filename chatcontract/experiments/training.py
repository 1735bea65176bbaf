"""One supervised fine-tuning run of a small model through TRL, correct or with one thing wrong."""

from __future__ import annotations

import logging
import random
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chatcontract.experiments.transforms import Chat, LabelTransform, Marks, RowTransform

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
    from trl import SFTTrainer

    from chatcontract.sft import Device

# The corpus that the committed model was pretrained on, and one of its shards.
_CORPUS_SEED, _REPLAY_SHARD = 0, 0


@dataclass(frozen=True)
class Training:
    """What a run is made of; the defaults are the correct pipeline.

    Attributes:
        rows: training rows; fewer when a caller asks for a smaller run.
        batch: rows of one optimiser step, or windows of it when packing.
        rank: of the LoRA adapter; None trains every weight of the model.
        row_transform: changes the chats.
        label_transform: changes ids and labels of each row after TRL has prepared it.
        replay: pretraining documents mixed in, as a share of the rows, every token of them supervised.
        pad_is_eos: pad with the end-of-turn token, and let transformers' language modelling collator make the
            labels from the ids.
        quantised: 4-bit (NF4) base weights.
        eval_first: a forward pass in eval mode before the first step, without the course's protection of
            4-bit weights.
        options: further arguments of SFTConfig, as pairs.
    """

    rows: int = 800
    epochs: float = 1.0
    batch: int = 16
    rate: float = 3e-3
    rank: int | None = 16
    row_transform: RowTransform | None = None
    label_transform: LabelTransform | None = None
    replay: float = 0.0
    pad_is_eos: bool = False
    quantised: bool = False
    eval_first: bool = False
    options: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Trained:
    """What a run leaves behind.

    Attributes:
        model: unquantised, with the adapter merged in.
        loss: mean over the last tenth of the steps, over whatever tokens carried a label.
        seconds: time of the optimiser steps; start-up is `prepare_seconds`.
    """

    model: PreTrainedModel
    loss: float
    seconds: float
    prepare_seconds: float
    steps: int


def train(
    base: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: list[Chat],
    training: Training,
    *,
    source: str,
    seed: int,
    progress: bool = True,
) -> Trained:
    """Train a copy of `base`, or its NF4 version, on the CPU.

    Args:
        base: the float32 model; it stays as it is.
        source: where `base` came from, a course name or a folder; a quantised run loads it once more.
    """
    with _quietly(), tempfile.TemporaryDirectory() as scratch:
        return _train(base, tokenizer, rows, training, source, seed, progress, scratch)


def _train(
    base: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: list[Chat],
    training: Training,
    source: str,
    seed: int,
    progress: bool,
    scratch: str,
) -> Trained:
    import copy

    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    from chatcontract.sft import default_lora_kwargs, default_sft_kwargs, merged_copy, set_seeds

    began = time.perf_counter()
    set_seeds(seed)
    if training.row_transform:
        rows = training.row_transform(rows, random.Random(f"rows-{seed}"))
    device = _device(training)
    model = _quantised(source, device, training) if training.quantised else copy.deepcopy(base)
    tokenizer = copy.deepcopy(tokenizer)
    if training.pad_is_eos:
        tokenizer.pad_token = tokenizer.eos_token
    adapter = None
    if training.rank:
        adapter = LoraConfig(**{**default_lora_kwargs(), "r": training.rank, "lora_alpha": 2 * training.rank})
    defaults = default_sft_kwargs(device, rows=len(rows), epochs=training.epochs, batch_size=training.batch)
    settings = {"learning_rate": training.rate, "seed": seed, "data_seed": seed, "output_dir": scratch}
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(**{**defaults, **settings, **dict(training.options)}),
        train_dataset=Dataset.from_list([{"messages": row} for row in rows]),
        processing_class=tokenizer,
        peft_config=adapter,
        callbacks=[_progress_bar()] if progress else None,
    )
    _drop_printing(trainer)
    _damage(trainer, tokenizer, training)
    if training.eval_first:
        _forward_in_eval_mode(trainer)
    prepared = time.perf_counter()
    trainer.train()
    finished = time.perf_counter()
    tuned = merged_copy(base, trainer.model) if adapter else trainer.model.eval()
    losses = [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
    last = losses[-max(1, len(losses) // 10) :]
    return Trained(
        tuned, statistics.fmean(last), finished - prepared, prepared - began, trainer.state.global_step
    )


def _device(training: Training) -> Device:
    """The CPU in float32, so that figures repeat on any machine; 4-bit layers compute in what suits them."""
    from chatcontract.sft import Device, pick_device

    return pick_device("cpu") if training.quantised else Device("cpu", "float32", "CPU in float32.")


def _quantised(source: str, device: Device, training: Training) -> PreTrainedModel:
    from chatcontract.models import load_model
    from chatcontract.sft import default_quantization_kwargs

    model = load_model(source, quantization=default_quantization_kwargs(device))
    if training.eval_first:
        _undo_protection(model)
    return model


def _undo_protection(model: PreTrainedModel) -> None:
    """Give 4-bit layers back the in-place repacking that `load_model` switches off, where the CPU has it."""
    from bitsandbytes.nn import Linear4bit

    fast = Linear4bit(64, 64).support_avx512bf16_for_cpu
    for layer in model.modules():
        if isinstance(layer, Linear4bit):
            layer.support_avx512bf16_for_cpu = fast


def cpu_repacks_4bit_weights() -> bool:
    """Whether bitsandbytes rearranges 4-bit weights at the first eval-mode forward pass on this CPU."""
    from bitsandbytes.nn import Linear4bit

    return bool(Linear4bit(64, 64).support_avx512bf16_for_cpu)


def _damage(trainer: SFTTrainer, tokenizer: PreTrainedTokenizerBase, training: Training) -> None:
    """Change what TRL prepared: ids and labels of each row, the mix of rows, or the collator."""
    prepared: Dataset = trainer.train_dataset
    if training.label_transform:
        change, marks = training.label_transform, Marks.of(tokenizer)

        def damaged(row: dict[str, list[int]]) -> dict[str, list[int]]:
            ids, labels = change(row["input_ids"], row["labels"], marks)
            return {"input_ids": ids, "labels": labels}

        prepared = prepared.map(damaged)
    if training.replay:
        prepared = _with_replay(prepared, tokenizer, training.replay)
    if training.pad_is_eos:
        from transformers import DataCollatorForLanguageModeling

        prepared = prepared.select_columns(["input_ids"])
        trainer.data_collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)
    trainer.train_dataset = prepared


def _with_replay(prepared: Dataset, tokenizer: PreTrainedTokenizerBase, share: float) -> Dataset:
    from datasets import Dataset, concatenate_datasets

    from chatcontract.nano.corpus import shard

    texts = shard(_CORPUS_SEED, _REPLAY_SHARD, round(share * len(prepared)))
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    documents = Dataset.from_list([{"input_ids": row, "labels": row} for row in ids])
    return concatenate_datasets([prepared.select_columns(["input_ids", "labels"]), documents])


def _forward_in_eval_mode(trainer: SFTTrainer) -> None:
    import torch

    batch = next(iter(trainer.get_train_dataloader()))
    trainer.model.eval()
    with torch.no_grad():
        trainer.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])


def _drop_printing(trainer: SFTTrainer) -> None:
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)


def _progress_bar() -> TrainerCallback:
    from tqdm import tqdm
    from transformers import TrainerCallback

    class Bar(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **context: Any) -> None:
            self.bar = tqdm(total=state.max_steps, desc="training", unit="step", file=sys.stdout, leave=False)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **context: Any) -> None:
            if logs and "loss" in logs:
                self.bar.set_postfix(loss=f"{float(logs['loss']):.2f}", refresh=False)

        def on_step_end(self, args: Any, state: Any, control: Any, **context: Any) -> None:
            self.bar.update()

        def on_train_end(self, args: Any, state: Any, control: Any, **context: Any) -> None:
            self.bar.close()

    return Bar()


@contextmanager
def _quietly() -> Iterator[None]:
    """Hide the bars of data preparation, which take a second, and notices that a reader cannot act on."""
    import datasets

    hidden = datasets.are_progress_bars_disabled()
    logger = logging.getLogger("bitsandbytes")
    level = logger.level
    datasets.disable_progress_bars()
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        if not hidden:
            datasets.enable_progress_bars()
