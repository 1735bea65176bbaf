"""What nano can do before and after supervised fine-tuning, over several seeds: its card's figures."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatcontract.evaluate import Evaluation, evaluate
from chatcontract.nano.cases import eval_cases, training_rows
from chatcontract.nano.corpus import held_out_documents
from chatcontract.nano.perplexity import perplexity
from chatcontract.nano.pretrain import PERPLEXITY_DOCUMENTS

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MAX_NEW_TOKENS = 48


@dataclass(frozen=True)
class SFTRun:
    """The run that the card's figures belong to: LoRA on every linear layer, assistant-only loss."""

    rows: int = 1200
    epochs: float = 1.0
    batch: int = 16
    rate: float = 3e-3
    rank: int = 16


def continuation_rate(evaluation: Evaluation) -> float:
    """Share of answers that go on as a thread: not ended, not grounded, with a customer's question."""
    return statistics.fmean(
        "?" in a.text and not a.stopped and not v.grounded
        for a, v in zip(evaluation.answers, evaluation.verdicts, strict=True)
    )


def load(folder: Path, device: str, *, nf4: bool) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model in float32 or NF4 with its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    options: dict[str, Any] = {"dtype": torch.float32}
    if nf4:
        from chatcontract.sft import default_quantization_kwargs, pick_device

        options["quantization_config"] = BitsAndBytesConfig(
            **default_quantization_kwargs(pick_device("cuda" if device == "cuda" else "cpu"))
        )
    model = AutoModelForCausalLM.from_pretrained(str(folder), device_map={"": device}, **options)
    if nf4:
        from chatcontract.models import keep_4bit_layout

        keep_4bit_layout(model)
    return model, AutoTokenizer.from_pretrained(str(folder))


def fine_tune(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    run: SFTRun,
    *,
    seed: int,
    device: str,
) -> tuple[PreTrainedModel, dict[str, float]]:
    """One run through TRL; returns the model with its adapter, and the seconds and last losses."""
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    from chatcontract.sft import default_lora_kwargs, default_sft_kwargs, pick_device, set_seeds

    set_seeds(seed)
    began = time.perf_counter()
    settings = default_sft_kwargs(
        pick_device("cuda" if device == "cuda" else "cpu"),
        rows=run.rows,
        epochs=run.epochs,
        batch_size=run.batch,
    )
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir="runs/nano-verify",
            **{**settings, "learning_rate": run.rate, "seed": seed, "data_seed": seed},
        ),
        train_dataset=Dataset.from_list([{"messages": row} for row in training_rows(run.rows, seed)]),
        processing_class=tokenizer,
        peft_config=LoraConfig(**{**default_lora_kwargs(), "r": run.rank, "lora_alpha": 2 * run.rank}),
    )
    prepared = time.perf_counter()
    trainer.train()
    finished = time.perf_counter()
    losses = [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
    return trainer.model, {
        "prepare_seconds": round(prepared - began, 1),
        "train_seconds": round(finished - prepared, 1),
        "first_loss": round(statistics.fmean(losses[:5]), 3),
        "last_loss": round(statistics.fmean(losses[-10:]), 4),
    }


def figures(evaluation: Evaluation) -> dict[str, float]:
    """The rates of one evaluation."""
    return {
        "grounded_rate": round(evaluation.grounded_rate, 4),
        "stop_rate": round(evaluation.stop_rate, 4),
        "continuation_rate": round(continuation_rate(evaluation), 4),
        "mean_tokens": round(evaluation.mean_tokens, 1),
    }


def verify(
    folder: Path,
    *,
    device: str = "cpu",
    cases: int = 1000,
    seeds: Sequence[int] = (0, 1, 2),
    run: SFTRun | None = None,
    nf4: bool = True,
    examples: int = 3,
    progress: bool = True,
) -> dict[str, Any]:
    """Base behaviour, then SFT with each seed on the float32 and the NF4 base.

    Args:
        folder: a model folder as `pretrain` writes it.
        cases: how many held-out cases each evaluation answers.
        examples: how many answers of each stage the result holds.
    """
    run = run or SFTRun()
    held_out = eval_cases(cases, 0)
    generation = {"max_new_tokens": MAX_NEW_TOKENS, "batch_size": 100, "progress": progress}
    model, tokenizer = load(folder, device, nf4=False)
    texts = held_out_documents(PERPLEXITY_DOCUMENTS)
    base = evaluate(model, tokenizer, held_out, **generation)
    result: dict[str, Any] = {
        "perplexity": round(perplexity(model, tokenizer, texts), 3),
        "base": figures(base),
        "base_examples": [a.text for a in base.answers[:examples]],
    }
    for name, quantised in (("float32", False), *((("nf4", True),) if nf4 else ())):
        rows = []
        for seed in seeds:
            model, tokenizer = load(folder, device, nf4=quantised)
            tuned, timing = fine_tune(model, tokenizer, run, seed=seed, device=device)
            evaluation = evaluate(tuned, tokenizer, held_out, **generation)
            rows.append({"seed": seed, **figures(evaluation), **timing})
            rows[-1]["perplexity"] = round(perplexity(tuned, tokenizer, texts), 3)
            if progress:
                print(name, rows[-1], flush=True)
            if seed == seeds[0]:
                result[f"{name}_failures"] = [
                    {"evidence": c.evidence, "answer": a.text}
                    for c, a, v in zip(evaluation.cases, evaluation.answers, evaluation.verdicts, strict=True)
                    if not v.grounded
                ][:examples]
        result[name] = rows
    return result


def spread(rows: Sequence[dict[str, float]], name: str) -> str:
    """`0.994 (0.991 to 0.997)`: mean and range over the seeds."""
    values = [row[name] for row in rows]
    return f"{statistics.fmean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of `course.py nano verify`."""
    import torch

    from chatcontract.course_files import assets_dir

    parser = argparse.ArgumentParser(
        prog="course.py nano verify", description="Measure nano before and after SFT."
    )
    parser.add_argument("--model", type=Path, help="default: the committed model")
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu"
    )
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2], help="none: base only")
    parser.add_argument("--rows", type=int, default=SFTRun.rows)
    parser.add_argument("--rate", type=float, default=SFTRun.rate)
    parser.add_argument("--no-nf4", action="store_true", help="skip the 4-bit base")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(arguments)
    result = verify(
        options.model or assets_dir() / "nano",
        device=options.device,
        cases=options.cases,
        seeds=options.seeds,
        run=SFTRun(rows=options.rows, rate=options.rate),
        nf4=not options.no_nf4,
    )
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({k: v for k, v in result.items() if k not in ("float32", "nf4")}, indent=1))
    for stage in ("float32", "nf4"):
        if rows := result.get(stage):
            print(
                f"{stage:8} grounded {spread(rows, 'grounded_rate')}, stop {spread(rows, 'stop_rate')}, ",
                end="",
            )
            print(f"training seconds {spread(rows, 'train_seconds')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
