"""Perplexity of a model on general text: how well it still predicts what it was pretrained on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def perplexity(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: list[str], batch_size: int = 16
) -> float:
    """exp of the mean negative log-likelihood per predicted token, each text on its own.

    The first token of a text is not predicted. Texts are cut at the tokenizer's `model_max_length`.

    Raises:
        ValueError: no text has two tokens.
    """
    import torch

    total, count = 0.0, 0
    was_training = model.training
    model.eval()
    try:
        for start in range(0, len(texts), batch_size):
            batch = tokenizer(
                texts[start : start + batch_size],
                return_tensors="pt",
                padding=True,
                padding_side="right",
                truncation=True,
                add_special_tokens=False,
            ).to(model.device)
            with torch.inference_mode():
                logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
            targets = batch["input_ids"][:, 1:].masked_fill(batch["attention_mask"][:, 1:] == 0, -100)
            total += torch.nn.functional.cross_entropy(
                logits[:, :-1].flatten(0, 1).float(), targets.flatten(), reduction="sum"
            ).item()
            count += int((targets != -100).sum())
    finally:
        model.train(was_training)
    if not count:
        raise ValueError("Perplexity needs a text of at least two tokens: every text given is shorter.")
    return math.exp(total / count)
