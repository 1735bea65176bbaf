"""The pretraining corpus as a function of a seed: shards of documents, made independently of each other."""

from __future__ import annotations

import hashlib
import random

from chatcontract.nano.documents import KINDS

DOCUMENTS_PER_SHARD = 2000
HELD_OUT_SHARD = -1


def shard(seed: int, index: int, documents: int = DOCUMENTS_PER_SHARD) -> list[str]:
    """The documents of one shard; shard -1 is never trained on and measures held-out perplexity."""
    rng = random.Random(f"shopflow-{seed}-{index}")
    makers, shares = [maker for maker, _ in KINDS], [share for _, share in KINDS]
    return [rng.choices(makers, shares)[0](rng) for _ in range(documents)]


def held_out_documents(count: int, seed: int = 0) -> list[str]:
    """General text that pretraining has not seen: for perplexity and for replay experiments."""
    return shard(seed, HELD_OUT_SHARD, count)


def fingerprint(seed: int, shards: int = 2) -> str:
    """SHA-256 of the first shards and the held-out shard: changes when any generator changes."""
    digest = hashlib.sha256()
    for index in (HELD_OUT_SHARD, *range(shards)):
        for text in shard(seed, index):
            digest.update(text.encode() + b"\0")
    return digest.hexdigest()
