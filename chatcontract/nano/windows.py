"""Token windows of one length, cut from a growing corpus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chatcontract.nano.corpus import shard
from chatcontract.nano.tokenizer import END_OF_TEXT

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedTokenizerFast


def pack(documents: list[list[int]], length: int, separator: int) -> list[list[int]]:
    """Fill windows of exactly `length` tokens with documents one after another.

    Every window starts at the start of a document, as a prompt does; the document that crosses a window's end
    is cut there, and an incomplete last window is dropped.
    """
    windows: list[list[int]] = []
    current: list[int] = []
    for ids in documents:
        if current:
            current.append(separator)
        current.extend(ids)
        if len(current) >= length:
            windows.append(current[:length])
            current = []
    return windows


def corpus_windows(
    tokenizer: PreTrainedTokenizerFast, *, tokens: int, length: int, seed: int, progress: bool = True
) -> np.ndarray:
    """Windows of unseen documents, enough for `tokens` tokens: array (windows, length) of uint16."""
    import sys

    import numpy as np
    from tqdm import tqdm

    encode = tokenizer.backend_tokenizer.encode_batch_fast
    separator = tokenizer.convert_tokens_to_ids(END_OF_TEXT)
    wanted = -(-tokens // length)
    parts: list[np.ndarray] = []
    made = index = 0
    with tqdm(
        total=wanted * length,
        desc="corpus",
        unit="tok",
        unit_scale=True,
        file=sys.stdout,
        disable=not progress,
    ) as bar:
        while made < wanted:
            ids = [e.ids for e in encode(shard(seed, index), add_special_tokens=False)]
            part = np.asarray(pack(ids, length, separator), dtype=np.uint16)
            parts.append(part)
            made += len(part)
            index += 1
            bar.update(part.size)
    return np.concatenate(parts)[:wanted]
