"""Put a family's template on a tokenizer, in place of the one the tokenizer came with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from chatcontract.families.contract import Family

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def apply_serving_template(tokenizer: PreTrainedTokenizerBase, family: Family) -> str | None:
    """Give a tokenizer the family's serving template and return the template it replaces.

    The replacement is deliberate: SmolLM2's own template, for one, adds a vendor system prompt to every chat
    that has none. `save_pretrained` keeps what is set here, so a saved model serves the course's contract.

    Raises:
        ValueError: the tokenizer does not hold one of the family's special tokens as a single token.
    """
    _require_special_tokens(tokenizer, family)
    replaced = tokenizer.chat_template
    tokenizer.chat_template = family.serving_template
    return replaced


@contextmanager
def apply_training_template(
    tokenizer: PreTrainedTokenizerBase, family: Family
) -> Iterator[PreTrainedTokenizerBase]:
    """Within the block the tokenizer carries the family's training template, afterwards its serving template.

    TRL's `assistant_only_loss` reads the `{% generation %}` tags while `SFTTrainer` prepares its data, so the
    trainer is built inside the block. What is saved afterwards must not hold the tags: other template
    engines cannot parse them. Both templates render the same text.

        with apply_training_template(tokenizer, family("chatml")):
            trainer = SFTTrainer(..., processing_class=tokenizer)

    Raises:
        ValueError: the tokenizer does not hold one of the family's special tokens as a single token.
    """
    _require_special_tokens(tokenizer, family)
    tokenizer.chat_template = family.training_template
    try:
        yield tokenizer
    finally:
        tokenizer.chat_template = family.serving_template


def _require_special_tokens(tokenizer: PreTrainedTokenizerBase, family: Family) -> None:
    missing = [
        token
        for token in family.special_tokens
        if len(tokenizer.encode(token, add_special_tokens=False)) != 1
    ]
    if missing:
        raise ValueError(
            f"This tokenizer does not know {', '.join(missing)} as single tokens, so it cannot speak "
            f"{family.title}: load a tokenizer of that family, or choose the family it was made for."
        )
