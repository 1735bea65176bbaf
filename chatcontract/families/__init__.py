"""Chat families as data: markers, templates for serving and training, and known departures from the vendors.

from chatcontract.families import family

tokenizer.apply_chat_template(messages, chat_template=family("llama3").serving_template)
"""

from difflib import get_close_matches

from chatcontract.families.apply import apply_serving_template, apply_training_template
from chatcontract.families.chatml import CHATML
from chatcontract.families.contract import Chat, Difference, Drift, Family
from chatcontract.families.drift import DRIFTS, QWEN2_5_SYSTEM_PROMPT, SMOLLM2_SYSTEM_PROMPT
from chatcontract.families.frames import ALPACA, PLAIN
from chatcontract.families.llama3 import LLAMA3
from chatcontract.families.mistral import MISTRAL_V01

__all__ = [
    "DRIFTS",
    "FAMILIES",
    "QWEN2_5_SYSTEM_PROMPT",
    "SMOLLM2_SYSTEM_PROMPT",
    "Chat",
    "Difference",
    "Drift",
    "Family",
    "apply_serving_template",
    "apply_training_template",
    "family",
]

FAMILIES: dict[str, Family] = {f.name: f for f in (CHATML, LLAMA3, MISTRAL_V01, ALPACA, PLAIN)}


def family(name: str) -> Family:
    """The family of that name.

    Raises:
        ValueError: unknown name; the sentence suggests the nearest one.
    """
    if name in FAMILIES:
        return FAMILIES[name]
    near = get_close_matches(name.lower(), FAMILIES, n=1, cutoff=0.4)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise ValueError(f"There is no chat family '{name}'.{hint} Families: {', '.join(FAMILIES)}.")
