"""The pretraining recipe of nano: corpus, tokenizer, model and weights from nothing, on a CPU or a GPU."""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatcontract.nano.corpus import fingerprint, held_out_documents, shard
from chatcontract.nano.perplexity import perplexity
from chatcontract.nano.tokenizer import END_OF_TEXT, MAX_TOKENS, train_tokenizer
from chatcontract.nano.windows import corpus_windows

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

TOLERANCE = 0.03
PERPLEXITY_DOCUMENTS = 600
_CHECKPOINT, _TOKENS, _TOKENIZER = "checkpoint.pt", "windows.npy", "tokenizer"


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights, apart from the rounding of the machine.

    Attributes:
        tokens: how many tokens are seen, each once.
        window: tokens of a training window.
        batch: windows of one optimiser step.
    """

    tokens: int = 16_000_000
    window: int = 512
    batch: int = 8
    seed: int = 0
    vocabulary: int = 1536
    width: int = 256
    layers: int = 4
    heads: int = 8
    inner: int = 640
    rate: float = 1.5e-3
    final_rate: float = 1e-4
    warmup: int = 200
    decay: float = 0.1
    clip: float = 1.0
    tokenizer_shards: int = 5

    @property
    def steps(self) -> int:
        return self.tokens // (self.window * self.batch)

    def rate_at(self, step: int) -> float:
        """Linear warm-up, then a cosine down to `final_rate`."""
        if step < self.warmup:
            return self.rate * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.final_rate + 0.5 * (self.rate - self.final_rate) * (
            1 + math.cos(math.pi * min(1.0, done))
        )


def pretrain(
    out: Path,
    *,
    recipe: Recipe | None = None,
    device: str = "auto",
    resume: bool = True,
    progress: bool = True,
    checkpoint_seconds: float = 60.0,
) -> dict[str, Any]:
    """Make nano from nothing and write it to `out`, complete or not at all.

    An interrupted run leaves its state in `<out>.partial`; the next call goes on from the last checkpoint.

    Args:
        out: folder for the model; replaced when the run is complete.
        device: "cpu", "cuda" or "auto".
        resume: use what an interrupted run of the same recipe left behind.
        checkpoint_seconds: time between two checkpoints.

    Returns:
        The record that is also written to `pretrain.json`: recipe, corpus hash, losses, perplexity, seconds.

    Raises:
        ValueError: `out` holds something that is not a model, or there is no such device.
    """
    import numpy as np
    import torch

    recipe = recipe or Recipe()
    if out.exists() and any(out.iterdir()) and not (out / "config.json").exists():
        raise ValueError(f"{out} holds other files than a model: name a new or empty folder with --out.")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("There is no CUDA device here: use --device cpu, or leave the option out.")
    work = out.with_name(out.name + ".partial")
    _prepare(work, recipe, resume)

    tokenizer = _tokenizer(work, recipe)
    windows = _windows(work, tokenizer, recipe, progress)
    torch.manual_seed(recipe.seed)
    model = new_model(tokenizer, recipe).to(device)
    order = np.random.default_rng(recipe.seed).permutation(len(windows))
    losses, seconds = _train(model, windows, order, recipe, work, device, progress, checkpoint_seconds)

    record = {
        "recipe": asdict(recipe),
        "corpus_sha256": fingerprint(recipe.seed),
        "parameters": sum(p.numel() for p in model.parameters()),
        "tokens_seen": recipe.steps * recipe.batch * recipe.window,
        "train_seconds": round(seconds, 1),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "torch": torch.__version__,
        "losses": losses,
    }
    # Weights are rounded first, so that the perplexity belongs to the file and not to its unrounded ancestor.
    model.to(torch.bfloat16).to(torch.float32)
    texts = held_out_documents(PERPLEXITY_DOCUMENTS, recipe.seed)
    record["held_out_perplexity"] = round(perplexity(model, tokenizer, texts), 4)
    _publish(model, tokenizer, record, work, out)
    return record


def new_model(tokenizer: PreTrainedTokenizerFast, recipe: Recipe) -> LlamaForCausalLM:
    """A freshly initialised Llama of the recipe's size; set torch's seed before."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=recipe.vocabulary,
        hidden_size=recipe.width,
        intermediate_size=recipe.inner,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=MAX_TOKENS,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.convert_tokens_to_ids(END_OF_TEXT),
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def _prepare(work: Path, recipe: Recipe, resume: bool) -> None:
    """An empty work folder, or the one that a run of the same recipe and corpus left behind."""
    key = hashlib.sha256(f"{asdict(recipe)}{fingerprint(recipe.seed)}".encode()).hexdigest()
    mark = work / "recipe.sha256"
    if work.exists() and not (resume and mark.exists() and mark.read_text() == key):
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    mark.write_text(key)


def _tokenizer(work: Path, recipe: Recipe) -> PreTrainedTokenizerFast:
    from transformers import PreTrainedTokenizerFast

    folder = work / _TOKENIZER
    if not folder.exists():
        texts = (t for i in range(recipe.tokenizer_shards) for t in shard(recipe.seed, i))
        train_tokenizer(texts, recipe.vocabulary).save_pretrained(str(staged := work / "tokenizer.new"))
        os.replace(staged, folder)
    tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(str(folder))
    return tokenizer


def _windows(work: Path, tokenizer: PreTrainedTokenizerFast, recipe: Recipe, progress: bool) -> np.ndarray:
    import numpy as np

    file = work / _TOKENS
    if not file.exists():
        made = corpus_windows(
            tokenizer, tokens=recipe.tokens, length=recipe.window, seed=recipe.seed, progress=progress
        )
        staged = work / "windows.new.npy"
        np.save(staged, made)
        os.replace(staged, file)
    return np.load(file)


def _train(
    model: LlamaForCausalLM,
    windows: np.ndarray,
    order: np.ndarray,
    recipe: Recipe,
    work: Path,
    device: str,
    progress: bool,
    checkpoint_seconds: float,
) -> tuple[list[tuple[int, float]], float]:
    """Run the steps that are still to do; returns (step, mean loss) pairs and the seconds of all sessions."""
    import numpy as np
    import torch
    from tqdm import tqdm

    matrices = [p for p in model.parameters() if p.dim() >= 2]
    rest = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": recipe.decay}, {"params": rest, "weight_decay": 0.0}],
        lr=recipe.rate,
        betas=(0.9, 0.95),
        fused=device == "cuda",
    )
    done, losses, earlier = _restore(work / _CHECKPOINT, model, optimizer, device)
    began = saved = time.perf_counter()
    recent: list[torch.Tensor] = []
    model.train()
    with tqdm(
        total=recipe.steps, initial=done, desc="pretrain", unit="step", file=sys.stdout, disable=not progress
    ) as bar:
        for step in range(done, recipe.steps):
            chosen = np.sort(order[step * recipe.batch : (step + 1) * recipe.batch])
            ids = torch.from_numpy(windows[chosen].astype(np.int64)).to(device)
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate_at(step)
            with torch.autocast(device, dtype=torch.bfloat16, enabled=_bfloat16_helps(device)):
                logits = model(input_ids=ids, use_cache=False).logits
                loss = torch.nn.functional.cross_entropy(
                    logits[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten()
                )
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
            optimizer.step()
            optimizer.zero_grad()
            recent.append(loss.detach())
            bar.update()
            if (step + 1) % 50 == 0 or step + 1 == recipe.steps:
                losses.append((step + 1, round(torch.stack(recent).mean().item(), 4)))
                recent.clear()
                bar.set_postfix(loss=losses[-1][1])
            if time.perf_counter() - saved > checkpoint_seconds:
                saved = time.perf_counter()
                _save(work / _CHECKPOINT, model, optimizer, step + 1, losses, earlier + saved - began)
    seconds = earlier + time.perf_counter() - began
    _save(work / _CHECKPOINT, model, optimizer, recipe.steps, losses, seconds)
    return losses, seconds


def _bfloat16_helps(device: str) -> bool:
    import torch

    return device == "cuda" or bool(torch.cpu._is_avx512_bf16_supported())


def _save(
    file: Path,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    step: int,
    losses: list[tuple[int, float]],
    seconds: float,
) -> None:
    import torch

    staged = file.with_suffix(".new")
    torch.save(
        {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "step": step,
            "losses": losses,
            "seconds": seconds,
        },
        staged,
    )
    os.replace(staged, file)


def _restore(
    file: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, device: str
) -> tuple[int, list[tuple[int, float]], float]:
    import torch

    if not file.exists():
        return 0, [], 0.0
    state = torch.load(file, map_location=device, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"], [tuple(pair) for pair in state["losses"]], state["seconds"]


def _publish(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    record: dict[str, Any],
    work: Path,
    out: Path,
) -> None:
    """Write the model beside its final place, then move the files there one by one, config.json last."""
    import torch

    staged = work / "model"
    model.to(torch.bfloat16).save_pretrained(str(staged))
    # The file holds bfloat16 to stay small; a plain from_pretrained gives float32, which every CPU runs well.
    config = json.loads((staged / "config.json").read_text())
    config["dtype"] = "float32"
    (staged / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    tokenizer.save_pretrained(str(staged))
    (staged / "pretrain.json").write_text(json.dumps(record, indent=1) + "\n")
    out.mkdir(parents=True, exist_ok=True)
    for file in sorted(staged.iterdir(), key=lambda f: f.name == "config.json"):
        os.replace(file, out / file.name)
    shutil.rmtree(work)


def compare(remade: Path, committed: Path) -> tuple[float, float]:
    """Held-out perplexity of two models, each with its own tokenizer, on the same unseen documents."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    texts = held_out_documents(PERPLEXITY_DOCUMENTS)
    values = []
    for folder in (remade, committed):
        model = AutoModelForCausalLM.from_pretrained(str(folder))
        values.append(perplexity(model, AutoTokenizer.from_pretrained(str(folder)), texts))
    return values[0], values[1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: make the model, then hold it against the committed one."""
    from chatcontract.course_files import assets_dir

    defaults = Recipe()
    parser = argparse.ArgumentParser(
        prog="course.py nano pretrain",
        description="Make nano from nothing: about an hour on 2 CPU cores, minutes on a GPU.",
    )
    parser.add_argument("--out", type=Path, default=Path("runs/nano"), help="folder for the model")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--tokens", type=int, default=defaults.tokens, help="tokens to train on")
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--fresh", action="store_true", help="do not go on with an interrupted run")
    options = parser.parse_args(arguments)
    recipe = Recipe(tokens=options.tokens, seed=options.seed)
    try:
        record = pretrain(options.out, recipe=recipe, device=options.device, resume=not options.fresh)
    except ValueError as error:
        print(f"course.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on from the last checkpoint.", file=sys.stderr)
        return 130
    print(
        f"{record['parameters'] / 1e6:.2f} M parameters, {record['tokens_seen'] / 1e6:.1f} M tokens, "
        f"{record['train_seconds'] / 60:.1f} minutes, held-out perplexity {record['held_out_perplexity']:.3f}"
    )
    committed = assets_dir() / "nano"
    if (committed / "config.json").exists() and committed.resolve() != options.out.resolve():
        ours, theirs = compare(options.out, committed)
        verdict = "matches" if abs(ours / theirs - 1) <= TOLERANCE else "does not match"
        print(
            f"Held-out perplexity {ours:.3f}, the committed model's {theirs:.3f}: "
            f"it {verdict} within {TOLERANCE:.0%}."
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
